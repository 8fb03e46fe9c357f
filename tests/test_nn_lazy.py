"""Lazy layers and parameters beside torch: before, in and after the first call."""

import copy
import pickle

import pytest
import tapegrad
from both import Programs, kind, said

program = Programs()

# Layer, its arguments, the shape of its first input; every lazy layer of PyTorch.
LAYERS = {
    "LazyLinear": ((5,), (2, 3)),
    "LazyConv1d": ((4, 3), (2, 6, 7)),
    "LazyConv2d": ((4, (2, 3)), (6, 7, 5)),
    "LazyConv3d": ((4, 2), (1, 2, 3, 3, 3)),
    "LazyConvTranspose1d": ((4, 3), (2, 6, 7)),
    "LazyConvTranspose2d": ((4, 2), (1, 3, 4, 4)),
    "LazyConvTranspose3d": ((4, 2), (2, 3, 3, 3)),
    "LazyBatchNorm1d": ((), (3, 4)),
    "LazyBatchNorm2d": ((), (2, 3, 2, 2)),
    "LazyBatchNorm3d": ((), (2, 3, 2, 2, 2)),
    "LazyInstanceNorm1d": ((), (3, 4, 5)),
    "LazyInstanceNorm2d": ((), (2, 3, 2, 2)),
    "LazyInstanceNorm3d": ((), (2, 3, 2, 2, 2)),
}


def numbers(T, *shape):
    count = 1
    for n in shape:
        count *= n
    return T.sin(T.arange(count, dtype=T.float64) * 1.3).reshape(shape)


def life(T, name, arguments, shape, **options):
    """A lazy layer before its first call, cast, called, and called again with another number of channels."""
    T.manual_seed(3)
    layer = getattr(T.nn, name)(*arguments, **options)
    found = [repr(layer), {key: repr(t) for key, t in layer.state_dict().items() if "tracked" not in key}]
    found += [layer.has_uninitialized_params(), [p.requires_grad for p in layer.parameters()]]
    found += [T.rand(1)]  # making it has drawn nothing
    layer.double()
    y = layer(numbers(T, *shape))
    found += [repr(layer), type(layer).__name__, y, dict(layer.state_dict()), T.rand(1)]
    if any(p.requires_grad for p in layer.parameters()):
        (y * y * y).sum().backward()
        found += [p.grad for p in layer.parameters()]
    return [*found, kind(layer, numbers(T, *[n + 1 for n in shape])), hasattr(layer, "_initialize_hook")]


for layer_name, (given, first) in LAYERS.items():
    program[layer_name] = lambda T, name=layer_name, a=given, s=first: life(T, name, a, s)
program["no_bias"] = lambda T: life(T, "LazyLinear", (5,), (2, 3), bias=False)
program["grouped"] = lambda T: life(T, "LazyConv1d", (4, 3), (2, 6, 7), groups=2, padding="same", bias=False)
program["grouped_transposed"] = lambda T: life(T, "LazyConvTranspose1d", (4, 3), (2, 6, 7), groups=2, stride=2)
program["not_affine"] = lambda T: life(T, "LazyBatchNorm1d", (), (3, 4), affine=False)
program["affine_without_bias"] = lambda T: life(T, "LazyBatchNorm1d", (), (3, 4), bias=False)
program["untracked"] = lambda T: life(T, "LazyInstanceNorm1d", (), (3, 4, 5), track_running_stats=False)
program["made_in_half"] = lambda T: life(T, "LazyConv1d", (4, 3), (2, 6, 7), dtype=T.float16)


@program
def cast_before_the_first_call(T):
    T.manual_seed(0)
    layer = T.nn.LazyLinear(3).double().to(T.float16).to(dtype=T.float64).cpu()
    kinds = [str(layer.weight.dtype), str(layer.weight.device), layer.bias.requires_grad, repr(layer.weight)]
    return [*kinds, layer(T.ones(1, 2, dtype=T.float64)), layer.weight.requires_grad]


@program
def what_cannot_be_done(T):
    weight = T.nn.LazyLinear(3).weight
    stats = T.nn.LazyBatchNorm1d().running_mean
    found = [said(lambda: weight.shape, length=60), said(lambda: stats.shape, length=60)]
    found += [kind(f) for f in (lambda: weight + 1, lambda: T.mm(weight, weight), lambda: weight.numel(), weight.sum)]
    found += [kind(lambda: stats.zero_()), kind(lambda: len(weight)), weight.size(), weight.is_floating_point()]
    found += [kind(weight.share_memory_), kind(weight.view, 2), kind(T.no_grad()(weight.copy_), T.zeros(2))]
    return [*found, kind(T.nn.LazyConv2d(4, 3), T.zeros(2, 3)), kind(T.nn.LazyConv1d(4, 3, groups=2), T.zeros(1, 3, 5))]


@program
def parameters_by_hand(T):
    lazy = T.nn.parameter.is_lazy
    p, b = T.nn.UninitializedParameter(requires_grad=False), T.nn.UninitializedBuffer(dtype=T.float64)
    found = [lazy(p), lazy(b), lazy(T.zeros(1)), isinstance(p, T.nn.Parameter), b.persistent]
    p.materialize((2, 3))
    b.materialize((4,), dtype=T.float16)
    found += [p.shape, p.dtype, p.requires_grad, type(p) is T.nn.Parameter, lazy(p)]
    return [*found, b.shape, b.dtype, type(b) is T.Tensor]


@program
def states_of_lazy_layers(T):
    """Lazy from made, made from lazy, lazy from lazy."""
    made = T.nn.Sequential(T.nn.Linear(3, 2), T.nn.BatchNorm1d(2)).double()
    lazy = T.nn.Sequential(T.nn.LazyLinear(2), T.nn.LazyBatchNorm1d()).double()
    other = T.nn.Sequential(T.nn.LazyLinear(2), T.nn.LazyBatchNorm1d()).double()
    with T.no_grad():
        made[0].weight.copy_(numbers(T, 2, 3))
        made[0].bias.zero_()
    found = [str(lazy.load_state_dict(other.state_dict())), said(made.load_state_dict, other.state_dict(), length=60)]
    found += [str(lazy.load_state_dict(made.state_dict())), repr(lazy), lazy[0].has_uninitialized_params()]
    found += [lazy.eval()(numbers(T, 4, 3)), repr(lazy)]
    other.load_state_dict(made.state_dict())
    return [*found, kind(other, numbers(T, 4, 5))]


@program
def a_lazy_module_of_ones_own(T):
    class Scale(T.nn.modules.lazy.LazyModuleMixin, T.nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = T.nn.UninitializedParameter()

        def initialize_parameters(self, x, *, start):
            self.factor.materialize(x.shape[-1:])
            with T.no_grad():
                self.factor.fill_(start)

        def forward(self, x, *, start=None):
            return x * self.factor

    class Unfinished(T.nn.modules.lazy.LazyModuleMixin, T.nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = T.nn.UninitializedParameter()

    class Idle(Unfinished):
        def initialize_parameters(self, x):
            pass

    scale = Scale()
    found = [scale(T.ones(2, 3), start=2.0), scale(T.ones(3)), type(scale) is Scale]
    found += [said(Idle(), T.ones(1)), said(Unfinished(), T.ones(1))]
    return [*found, kind(T.nn.DataParallel(T.nn.LazyLinear(2)).module._replicate_for_data_parallel)]


def test_copies_of_lazy_layers():
    """deepcopy, which PyTorch refuses where there are lazy buffers, and pickle: each copy is initialised by itself."""
    torch = tapegrad
    model = torch.nn.Sequential(torch.nn.LazyConv1d(4, 2), torch.nn.LazyBatchNorm1d(), torch.nn.LazyLinear(3)).double()
    x = torch.ones(2, 3, 5, dtype=torch.float64)
    for made in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert repr(made) == repr(model) and made[0].weight is not model[0].weight
        assert made(x).dtype is torch.float64
        assert type(made[0]) is torch.nn.Conv1d and not made[0]._forward_pre_hooks
        assert type(model[0]) is torch.nn.LazyConv1d and model[0].has_uninitialized_params()


@pytest.mark.parametrize("name", sorted(program))
def test_parity(name):
    program.check(name, rtol=1e-10)
