"""nn.utils.parametrize, parametrizations, spectral_norm, fusion, skip_init; SyncBatchNorm and DataParallel.

Programs run on tapegrad and on torch, and all that they give is compared.
"""

import copy
import pickle

import pytest
import tapegrad
from both import Programs, kind, said

program = Programs()


def layer(T, make, *args, **kw):
    """A layer of float64 numbers that do not depend on the library's generator."""
    module = make(*args, **kw).double()
    with T.no_grad():
        for number, parameter in enumerate(module.parameters()):
            values = T.arange(parameter.numel(), dtype=T.float64).reshape(parameter.shape)
            parameter.copy_(T.sin(values * 1.7 + number))
    return module


def trained(T, module, x):
    """Repr, state, output of two calls, gradients."""
    first, second = module(x), module(x)
    (first.sum() + (second * second).sum()).backward()
    gradients = {name: p.grad for name, p in module.named_parameters()}
    return [repr(module), dict(module.state_dict()), first, second, gradients]


def modules(T):
    """Parametrizations of the tests' own."""

    class Symmetric(T.nn.Module):
        def forward(self, x):
            return x.triu() + x.triu(1).mT

        def right_inverse(self, x):
            return x.triu()

    class Doubled(T.nn.Module):
        def forward(self, x):
            return 2 * x

    class RankOne(T.nn.Module):
        def forward(self, x, y):
            return x.unsqueeze(-1) @ y.unsqueeze(-2)

        def right_inverse(self, z):
            return z[:, 0], z[0] / z[0, 0]

    class Cast(T.nn.Module):
        def forward(self, x):
            return x.float()

    class Cut(T.nn.Module):
        def forward(self, x):
            return x[:1]

    class Number(T.nn.Module):
        def forward(self, x):
            return 3.0

    class WrongInverse(T.nn.Module):
        def forward(self, x):
            return x

        def right_inverse(self, x):
            return x.float()

    return Symmetric, Doubled, RankOne, Cast, Cut, Number, WrongInverse


def parametrize(T):
    import importlib

    return importlib.import_module(f"{T.__name__}.nn.utils.parametrize")


@program
def registered_twice_and_removed(T):
    P, (Symmetric, Doubled, *_) = parametrize(T), modules(T)
    module = layer(T, T.nn.Linear, 3, 3)
    before = module.weight
    P.register_parametrization(module, "weight", Symmetric())
    P.register_parametrization(module, "weight", Doubled())
    x = T.ones(2, 3, dtype=T.float64)
    found = trained(T, module, x)
    found += [module.parametrizations.weight.original is before, P.is_parametrized(module, "bias")]
    found += [P.is_parametrized(module), P.type_before_parametrizations(module) is T.nn.Linear]
    P.remove_parametrizations(module, "weight")
    return [*found, module.weight, module.weight is before, type(module) is T.nn.Linear, repr(module)]


@program
def left_as_the_original(T):
    P, (Symmetric, *_) = parametrize(T), modules(T)
    module = layer(T, T.nn.Linear, 3, 3)
    P.register_parametrization(module, "weight", Symmetric())
    P.remove_parametrizations(module, "weight", leave_parametrized=False)
    return dict(module.state_dict())


@program
def several_originals(T):
    P, (_, _, RankOne, *_) = parametrize(T), modules(T)
    module = layer(T, T.nn.Linear, 3, 4)
    P.register_parametrization(module, "weight", RankOne())
    found = trained(T, module, T.ones(2, 3, dtype=T.float64))
    module.weight = T.outer(T.tensor([1.0, 2, 3, 4]), T.tensor([1.0, -1, 2])).double()
    found.append(dict(module.state_dict()))
    found.append(said(P.remove_parametrizations, module, "weight", leave_parametrized=False, length=60))
    P.remove_parametrizations(module, "weight")
    return [*found, module.weight, list(dict(module.named_parameters()))]


@program
def buffers_are_parametrized_too(T):
    P, (Symmetric, *_) = parametrize(T), modules(T)
    module = T.nn.Module()
    module.register_buffer("table", T.arange(4.0).reshape(2, 2))
    P.register_parametrization(module, "table", Symmetric())
    state, value = list(module.state_dict()), module.table
    P.remove_parametrizations(module, "table")
    return [state, value, dict(module.named_buffers())]


@program
def refused(T):
    P, (Symmetric, Doubled, _, Cast, Cut, Number, WrongInverse) = parametrize(T), modules(T)
    made = layer(T, T.nn.Linear, 3, 3)
    found = [said(P.register_parametrization, made, "weight", kind_(), length=80) for kind_ in (Cast, Cut, Number)]
    found += [said(P.register_parametrization, made, "weight", WrongInverse(), length=80)]
    found += [said(P.register_parametrization, made, "wrong", Symmetric(), length=20)]
    found += [said(P.remove_parametrizations, made, "weight", length=40)]
    found += [said(P.ParametrizationList, [], made.weight)]
    P.register_parametrization(made, "weight", Doubled())
    found += [said(P.register_parametrization, made, "weight", kind_(), length=80) for kind_ in (Cast, Cut, Number)]
    found += [said(P.register_parametrization, made, "weight", WrongInverse(), length=80)]
    found += [said(setattr, made, "weight", T.zeros(3, 3)), kind(pickle.dumps, made)]
    unsafe = P.register_parametrization(layer(T, T.nn.Linear, 3, 3), "weight", Cut(), unsafe=True)
    return [*found, unsafe.weight]


@program
def transferred(T):
    P, (Symmetric, Doubled, RankOne, *_) = parametrize(T), modules(T)
    source, target = layer(T, T.nn.Linear, 3, 3), layer(T, T.nn.Linear, 3, 3)
    P.register_parametrization(source, "weight", Symmetric())
    P.register_parametrization(source, "bias", Doubled())
    with T.no_grad():
        source.parametrizations.weight.original.add_(1)
    P.transfer_parametrizations_and_params(source, target, "weight")
    found = [dict(target.state_dict()), target.weight]
    several = P.register_parametrization(layer(T, T.nn.Linear, 3, 3), "weight", RankOne())
    empty = P.transfer_parametrizations_and_params(several, T.nn.Identity())
    return [*found, dict(empty.state_dict()), P.transfer_parametrizations_and_params(T.nn.Identity(), empty) is empty]


@program
def computed_once_while_cached(T):
    P, (Symmetric, *_) = parametrize(T), modules(T)
    module = P.register_parametrization(layer(T, T.nn.Linear, 3, 3), "weight", Symmetric())
    found = [module.weight is module.weight]
    with P.cached():
        first = module.weight
        with P.cached():
            found.append(first is module.weight)
        found.append(first is module.weight)
    return [*found, first is module.weight, module.weight is module.weight]


@program
def loaded_and_copied(T):
    P, (Symmetric, *_) = parametrize(T), modules(T)
    one, two = (P.register_parametrization(layer(T, T.nn.Linear, 3, 3), "weight", Symmetric()) for _ in range(2))
    one.weight = T.eye(3, dtype=T.float64)
    loaded = two.load_state_dict(one.state_dict())
    copied = copy.deepcopy(two)
    with T.no_grad():
        two.parametrizations.weight.original.zero_()
    return [str(loaded), copied.weight, two.weight, repr(copied)]


def test_a_copy_is_parametrized_by_itself():
    """In PyTorch both are of one class, and what is removed from one is gone from the other."""
    torch = tapegrad
    P, (Symmetric, *_) = parametrize(torch), modules(torch)
    module = P.register_parametrization(torch.nn.Linear(3, 3), "weight", Symmetric())
    copied = copy.deepcopy(module)
    P.remove_parametrizations(module, "weight")
    assert P.is_parametrized(copied) and torch.equal(copied.weight, copied.weight.T)
    with P.cached():
        another = copy.deepcopy(copied)
        assert another.weight is not copied.weight


# --- ready ones


def orthogonal(T, shape, **kw):
    from importlib import import_module

    function = import_module(f"{T.__name__}.nn.utils.parametrizations").orthogonal
    T.manual_seed(0)
    module = function(layer(T, T.nn.Linear, *shape), **kw)
    with T.no_grad():  # away from the starting point, so that there is a gradient to see
        module.parametrizations.weight.original.add_(
            T.cos(T.arange(shape[0] * shape[1], dtype=T.float64)).reshape(shape[1], shape[0]).tril(-1)
        )
    found = trained(T, module, T.linspace(-1, 1, 2 * shape[0], dtype=T.float64).reshape(2, -1))
    module.weight = T.eye(shape[1], shape[0], dtype=T.float64)
    return [*found, module.weight, dict(module.state_dict())]


for place, (size, options) in enumerate(
    [
        ((4, 4), {}),
        ((3, 5), {}),
        ((5, 3), {}),
        ((3, 5), {"orthogonal_map": "matrix_exp"}),
        ((5, 3), {"orthogonal_map": "cayley"}),
        ((4, 4), {"orthogonal_map": "cayley"}),
        ((4, 4), {"orthogonal_map": "householder", "use_trivialization": False}),
        ((3, 5), {"orthogonal_map": "householder", "use_trivialization": False}),
    ]
):
    program[f"orthogonal_{place}"] = lambda T, size=size, options=options: orthogonal(T, size, **options)


@program
def orthogonal_refuses(T):
    from importlib import import_module

    O = import_module(f"{T.__name__}.nn.utils.parametrizations").orthogonal  # noqa: E741
    made = T.nn.Linear(3, 3)
    fixed = O(T.nn.Linear(3, 3), use_trivialization=False)
    complex_ = T.nn.Linear(3, 3, dtype=T.complex64)
    return [
        said(O, made, "wrong", length=9), said(O, made, "bias"), said(O, made, orthogonal_map="other", length=80),
        said(setattr, fixed, "weight", T.eye(3)), said(O, complex_, orthogonal_map="householder"),
        said(setattr, O(made), "weight", T.eye(2)),
    ]  # fmt: skip


@program
def weight_norm(T):
    from importlib import import_module

    W = import_module(f"{T.__name__}.nn.utils.parametrizations").weight_norm
    x = T.linspace(-1, 1, 8, dtype=T.float64).reshape(2, 4)
    found = [trained(T, W(layer(T, T.nn.Linear, 4, 3), dim=dim), x) for dim in (0, 1, None)]
    older = T.nn.utils.weight_norm(layer(T, T.nn.Linear, 4, 3))
    newer = W(T.nn.Linear(4, 3).double())
    return [*found, str(newer.load_state_dict(older.state_dict())), newer(x)]


@program
def spectral_norm(T):
    from importlib import import_module

    S = import_module(f"{T.__name__}.nn.utils.parametrizations").spectral_norm
    found = []
    for make, shape in (
        (lambda: layer(T, T.nn.Linear, 4, 3), (2, 4)),
        (lambda: layer(T, T.nn.Conv1d, 2, 3, 2), (1, 2, 4)),
        (lambda: layer(T, T.nn.ConvTranspose1d, 2, 3, 2), (1, 2, 4)),
    ):
        for function in (S, T.nn.utils.spectral_norm):
            T.manual_seed(0)
            module = function(make(), n_power_iterations=2)
            x = T.linspace(-1, 1, 8, dtype=T.float64).reshape(shape)
            found += [trained(T, module, x), module.eval()(x)]
    vector = S(layer(T, T.nn.Linear, 4, 3), "bias")
    refused = [said(S, vector, "weight", 0), said(S, vector, "weight", dim=2, length=80), kind(S, vector, "none")]
    return [*found, vector.bias, list(vector.state_dict()), *refused]


@program
def spectral_norm_by_hook(T):
    N = T.nn.utils
    T.manual_seed(0)
    module = N.spectral_norm(layer(T, T.nn.Linear, 3, 4))
    x = T.ones(2, 3, dtype=T.float64)
    module(x)
    state = module.state_dict()
    other = N.spectral_norm(T.nn.Linear(3, 4).double())
    found = [str(other.load_state_dict(state)), other.eval()(x), state._metadata[""]["spectral_norm"]]
    old = {name: t for name, t in state.items() if name != "weight_v"} | {"weight": other.weight.detach()}
    found += [str(other.load_state_dict(old)), other.weight_v, other(x), said(other.load_state_dict, {}, length=99)]
    found.append(said(N.spectral_norm, module, length=80))
    N.remove_spectral_norm(module)
    found += [repr(module), module.weight, list(module.state_dict()), said(N.remove_spectral_norm, module, length=30)]
    lazy, plain = T.nn.LazyLinear(3), T.nn.Linear(3, 3, bias=False)
    found += [said(N.spectral_norm, lazy), said(N.spectral_norm, plain, "bias")]
    return [*found, said(N.spectral_norm, plain, "weight", 0)]


# --- beside


@program
def fused(T):
    N, found = T.nn.utils, []
    for conv, bn, shape, transpose in (
        (layer(T, T.nn.Conv2d, 2, 3, 2), layer(T, T.nn.BatchNorm2d, 3), (1, 2, 4, 4), False),
        (layer(T, T.nn.Conv1d, 2, 3, 2, bias=False), T.nn.BatchNorm1d(3, affine=False).double(), (1, 2, 4), False),
        (layer(T, T.nn.ConvTranspose1d, 2, 3, 2), layer(T, T.nn.BatchNorm1d, 3), (1, 2, 4), True),
    ):
        bn.running_mean.copy_(T.tensor([0.5, -1.0, 2.0]))
        bn.running_var.copy_(T.tensor([0.5, 1.0, 2.0]))
        found.append(said(N.fuse_conv_bn_eval, conv, bn, transpose))
        one = N.fuse_conv_bn_eval(conv.eval(), bn.eval(), transpose)
        x = T.linspace(-1, 1, 32 if len(shape) == 4 else 8, dtype=T.float64).reshape(shape)
        found += [one.weight, one.bias, bool(T.allclose(one(x), bn(conv(x)))), conv.bias is None]
    for bias in (True, False):
        linear, bn = layer(T, T.nn.Linear, 4, 3, bias=bias).eval(), layer(T, T.nn.BatchNorm1d, 3).eval()
        one = N.fuse_linear_bn_eval(linear, bn)
        found += [one.weight, one.bias, said(N.fuse_linear_bn_eval, linear, T.nn.BatchNorm1d(2).eval(), length=99)]
    return found


@program
def skip_init_draws_nothing(T):
    T.manual_seed(0)
    module = T.nn.utils.skip_init(T.nn.Linear, 3, 2, bias=False)
    first = T.rand(2)
    return [repr(module), first, kind(T.nn.utils.skip_init, int), said(T.nn.utils.skip_init, T.nn.Sequential)]


@program
def convolutions_in_channels_last(T):
    N, module = T.nn.utils, T.nn.Sequential(layer(T, T.nn.Conv2d, 2, 3, 2), layer(T, T.nn.Conv3d, 2, 3, 2))
    N.convert_conv2d_weight_memory_format(module, T.channels_last)
    N.convert_conv3d_weight_memory_format(module, T.channels_last_3d)
    strides = [p.stride() for p in module.parameters()]
    return [strides, module[0](T.ones(1, 2, 3, 3).double()), dict(module.state_dict())]


@program
def synchronised_batch_norm(T):
    module = T.nn.Sequential(T.nn.BatchNorm1d(2), T.nn.Sequential(T.nn.BatchNorm2d(3, affine=False)), T.nn.Linear(1, 1))
    weight, mean = module[0].weight, module[0].running_mean
    made = T.nn.SyncBatchNorm.convert_sync_batchnorm(module.eval())
    alone = T.nn.SyncBatchNorm.convert_sync_batchnorm(T.nn.BatchNorm1d(2))
    found = [made is module, made[0].weight is weight, made[0].running_mean is mean, repr(made), made[0].training]
    x = T.arange(8.0).reshape(4, 2)
    return [*found, repr(alone), alone.eval()(x), alone.num_batches_tracked, said(alone, T.zeros(2))]


def test_synchronised_batch_norm_trains_as_batch_norm():
    """PyTorch's own needs a GPU to do so in a group of processes; in one process it is BatchNorm."""
    torch = tapegrad
    x = torch.randn(4, 2, 3)
    one, two = torch.nn.SyncBatchNorm(2), torch.nn.BatchNorm1d(2)
    assert torch.equal(one(x), two(x)) and torch.equal(one.running_var, two.running_var)


@program
def data_parallel(T):
    model = T.nn.DataParallel(layer(T, T.nn.Linear, 2, 1), device_ids=[0])
    x = T.ones(3, 2, dtype=T.float64)
    model(input=x).sum().backward()
    found = [list(model.state_dict()), model(x), model.module.weight.grad, model.device_ids, repr(model)]
    return [*found, T.nn.parallel.DataParallel is T.nn.DataParallel, kind(T.nn.parallel.data_parallel, model.module, x)]


@program
def stacked_states(T):
    make = [layer(T, lambda: T.nn.Sequential(T.nn.Linear(2, 3), T.nn.BatchNorm1d(3))) for _ in range(3)]
    params, buffers = T.func.stack_module_state(make)
    frozen = [T.nn.Linear(1, 1), T.nn.Linear(1, 1).requires_grad_(False)]
    refused = [[], [T.nn.Linear(1, 1), T.nn.Linear(1, 1).eval()], [T.nn.Linear(1, 1), T.nn.Identity()], frozen]
    return [params, buffers, params["0.weight"].is_leaf, *[said(T.func.stack_module_state, m) for m in refused]]


@program
def without_running_statistics(T):
    module = T.func.replace_all_batch_norm_modules_(T.nn.Sequential(T.nn.BatchNorm1d(2), T.nn.BatchNorm2d(2)))
    return [repr(module), list(module.state_dict())]


@program
def emptied(T):
    module = T.nn.Sequential(T.nn.Linear(2, 3), T.nn.BatchNorm1d(3)).to_empty(device="cpu")
    return [[t.shape for t in module.state_dict().values()], kind(module.to_empty), module.compile()]


@pytest.mark.parametrize("name", sorted(program))
def test_parity(name):
    program.check(name, rtol=1e-10)
