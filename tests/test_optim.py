"""Optimizers: formulas, groups, state, hooks and errors, without another library. Against PyTorch: test_optim_torch."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import tapegrad
from optim_cases import CASES, EACH, IDS, STATE, WITH_COMPLEX, WRONG_CALLS, WRONG_OPTIONS
from tapegrad import optim
from tapegrad.backends.registry import load
from tapegrad.optim import blocks
from tapegrad.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
    required,
)

rng = np.random.default_rng


@pytest.fixture
def formulas(monkeypatch):
    """The formulas themselves, whose results are equal bit by bit, whether or not compiled ones have been loaded."""
    monkeypatch.setenv("TAPEGRAD_GENERIC", "1")


def leaf(array, dtype="float32"):
    """A leaf tensor of a NumPy array."""
    return tapegrad.tensor(np.asarray(array).astype(dtype)).requires_grad_()


def steps(name, options, arrays, count=5, dtype="float64", seed=0):
    """(parameters, optimizer) after `count` steps with gradients drawn from `seed`."""
    params = [leaf(a, dtype) for a in arrays]
    optimizer = getattr(optim, name)(params, **options)
    run(optimizer, params, count, seed, dtype)
    return params, optimizer


def run(optimizer, params, count, seed, dtype="float64"):
    draw = rng(seed)
    for _ in range(count):
        for p in params:
            grad = draw.standard_normal(p.shape)
            if "complex" in dtype:
                grad = grad + 1j * draw.standard_normal(p.shape)
            p.grad = tapegrad.tensor(np.asarray(grad).astype(dtype))
        optimizer.step()


# --- formulas ---


def test_sgd_by_hand():
    p = leaf([1.0, -2.0])
    optimizer = optim.SGD([p], lr=0.1, momentum=0.5, dampening=0.2, weight_decay=0.1)
    p.grad = tapegrad.tensor([1.0, 1.0])
    optimizer.step()  # buffer = g + 0.1 p = (1.1, 0.8)
    np.testing.assert_allclose(p.array, [0.89, -2.08], rtol=1e-6)
    optimizer.step()  # buffer = 0.5 * (1.1, 0.8) + 0.8 * (1.089, 0.792)
    np.testing.assert_allclose(p.array, [0.89 - 0.14212, -2.08 - 0.10336], rtol=1e-6)


def test_first_adam_step_is_lr_whatever_the_gradient():
    p = leaf([1.0, 1.0, 1.0], "float64")
    p.grad = tapegrad.tensor(np.array([1e-3, 5.0, -2e4]))
    optim.Adam([p], lr=0.25).step()
    np.testing.assert_allclose(p.array, [0.75, 0.75, 1.25], rtol=1e-5)


def test_weight_decay_of_adamw_is_decoupled():
    p, q = leaf([3.0], "float64"), leaf([3.0], "float64")
    p.grad, q.grad = tapegrad.tensor(np.zeros(1)), tapegrad.tensor(np.zeros(1))
    optim.AdamW([p], lr=0.1, weight_decay=0.5).step()
    optim.Adam([q], lr=0.1, weight_decay=0.5).step()
    assert p.item() == pytest.approx(3.0 * 0.95) and q.item() == pytest.approx(2.9)


def test_rprop_steps_by_sign():
    p = leaf([0.0, 0.0], "float64")
    optimizer = optim.Rprop([p], lr=0.1)
    for grad in ([1.0, 1.0], [5.0, -5.0], [5.0, -5.0]):
        p.grad = tapegrad.tensor(np.array(grad))
        optimizer.step()
    # the second element turned: no step and half the size, then a step with that size, unchanged
    np.testing.assert_allclose(p.array, [-0.1 - 0.12 - 0.144, -0.1 + 0.05])


RATES = {"SGD": 0.1, "Adagrad": 1.0, "Adadelta": 30.0, "ASGD": 0.1, "Adafactor": 0.3, "RMSprop": 0.02}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("maximize", [False, True])
def test_finds_the_minimum_of_a_quadratic(name, maximize):
    scale, centre = np.array([[1.0, 0.3], [2.0, 0.7]]), np.array([[0.5, -1.0], [2.0, 0.1]])
    p = leaf(np.zeros((2, 2)), "float64")
    optimizer = getattr(optim, name)([p], lr=RATES.get(name, 0.05), maximize=maximize)

    def distance():
        return float((scale * (p.array - centre) ** 2).sum())

    start = distance()
    for _ in range(300):
        p.grad = tapegrad.tensor((-1 if maximize else 1) * scale * (p.array - centre))
        optimizer.step()
    assert distance() < 0.01 * start


# --- how the formula is applied ---


@pytest.mark.parametrize(("name", "options"), EACH, ids=IDS)
def test_pieces_give_what_the_whole_array_gives(name, options, monkeypatch, formulas):
    array = rng(1).standard_normal((37, 11))
    (whole,), first = steps(name, options, [array])
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 8 * 100)
    (pieces,), second = steps(name, options, [array])
    assert np.array_equal(whole.array, pieces.array)
    for key, value in first.state[whole].items():
        assert np.array_equal(value.array, second.state[pieces][key].array), key


@pytest.mark.parametrize(("name", "options"), EACH, ids=IDS)
def test_layout_does_not_matter(name, options, formulas):
    """Transposed and strided parameters, and gradients of another layout than their parameter's."""
    array = rng(1).standard_normal((6, 8))
    (plain,), _ = steps(name, options, [array])
    strided = leaf(np.zeros((6, 16)), "float64")
    strided.array = np.zeros((8, 12)).T[::2]
    strided.array[...] = array
    optimizer = getattr(optim, name)([strided], **options)
    draw = rng(0)
    for _ in range(5):
        strided.grad = tapegrad.tensor(np.asfortranarray(draw.standard_normal((6, 8))))
        optimizer.step()
    np.testing.assert_allclose(strided.array, plain.array, rtol=1e-12)


@pytest.mark.parametrize(("name", "options"), WITH_COMPLEX)
def test_complex_is_two_real_numbers(name, options, formulas):
    z = rng(2).standard_normal((4, 3)) + 1j * rng(3).standard_normal((4, 3))
    grads = [rng(4 + i).standard_normal((4, 3)) + 1j * rng(9 + i).standard_normal((4, 3)) for i in range(5)]
    params = [leaf(z, "complex128"), leaf(z.real, "float64"), leaf(z.imag, "float64")]
    optimizer = getattr(optim, name)(params, **options)
    for g in grads:
        for p, part in zip(params, (g, g.real, g.imag), strict=True):
            p.grad = tapegrad.tensor(np.ascontiguousarray(part))
        optimizer.step()
    np.testing.assert_array_equal(params[0].array, params[1].array + 1j * params[2].array)


@pytest.mark.parametrize(("name", "options"), EACH, ids=IDS)
def test_half_precision_is_computed_in_float32(name, options):
    """Each step is the float32 step of the rounded numbers, rounded once."""
    (half,), optimizer = steps(name, options, [rng(1).standard_normal((4, 3))], count=1, dtype="float16")
    for i in range(4):
        single = leaf(half.array.astype("float32"))
        check = getattr(optim, name)([single], **options)
        check.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        grad = rng(i).standard_normal((4, 3)).astype("float16")
        if name == "Adafactor" and "eps" not in options:  # its default depends on the dtype
            check.param_groups[0]["eps"] = (2.0**-10, 1e-3)
        half.grad, single.grad = tapegrad.tensor(grad), tapegrad.tensor(grad.astype("float32"))
        optimizer.step()
        check.step()
        assert np.array_equal(half.array, single.array.astype("float16"))
    assert half.array.dtype == np.float16


@pytest.mark.parametrize("name", ["SGD", "Adam", "Rprop", "Adafactor"])
def test_empty_and_0d_parameters(name):
    (empty, scalar), optimizer = steps(name, {"lr": 0.1}, [np.zeros((0, 3)), np.array(2.0)])
    assert empty.shape == (0, 3) and scalar.shape == () and scalar.item() != 2.0
    assert isinstance(scalar.array, np.ndarray)


def test_a_kernel_of_the_backend_replaces_the_formula(monkeypatch):
    seen = []

    def kernel(p, g, momentum_buffer, *, lr, **options):
        seen.append((p.shape, momentum_buffer, options))
        p -= 2 * lr * g

    kernels = {**load("numpy").kernels, "sgd_step": kernel}
    monkeypatch.setattr(load("numpy"), "kernels", kernels, raising=False)
    monkeypatch.delenv("TAPEGRAD_GENERIC", raising=False)
    p = leaf(np.zeros((300, 400)))
    p.grad = tapegrad.tensor(np.ones((300, 400), "float32"))
    optim.SGD([p], lr=0.5, weight_decay=0.1).step()
    assert [s[0] for s in seen] == [(300, 400)] and seen[0][1] is None and seen[0][2]["weight_decay"] == 0.1
    assert np.all(p.array == -1.0)
    monkeypatch.setenv("TAPEGRAD_GENERIC", "1")
    optim.SGD([p], lr=0.5).step()
    assert len(seen) == 1 and np.all(p.array == -1.5)


@pytest.mark.parametrize(("name", "options"), EACH, ids=IDS)
def test_on_another_device(name, options, formulas):
    """Parameter and state live on the device, counters on the CPU; the numbers are the CPU's."""
    array = rng(1).standard_normal((5, 4))
    (cpu,), _ = steps(name, options, [array])
    p = tapegrad.tensor(array, device="fake").requires_grad_()
    optimizer = getattr(optim, name)([p], **options)
    draw = rng(0)
    for _ in range(5):
        p.grad = tapegrad.tensor(draw.standard_normal((5, 4)), device="fake")
        optimizer.step()
    assert p.device.type == "fake" and np.array_equal(np.asarray(p.array), cpu.array)
    for value in optimizer.state[p].values():
        assert value.device.type == ("fake" if value.ndim else "cpu")


def test_options_may_be_tensors_and_numpy_scalars():
    (a,), _ = steps("Adam", {"lr": 0.5, "betas": (0.5, 0.75)}, [np.ones(3)], dtype="float32")
    half, betas = tapegrad.tensor([0.5]), (tapegrad.tensor(0.5), tapegrad.tensor(0.75))
    (b,), _ = steps("Adam", {"lr": half, "betas": betas}, [np.ones(3)], dtype="float32")
    (c,), _ = steps("Adam", {"lr": np.float64(0.5), "betas": (0.5, np.float64(0.75))}, [np.ones(3)], dtype="float32")
    assert np.array_equal(a.array, b.array) and np.array_equal(a.array, c.array) and c.array.dtype == np.float32


def test_step_warns_of_nothing_and_keeps_the_array():
    p = leaf([1.0, np.inf])
    array = p.array
    p.grad = tapegrad.tensor(np.array([np.nan, 1e38], "float32"))
    optim.Adam([p], lr=1.0).step()
    assert p.array is array and np.isnan(p.array[0])


def test_a_graph_from_before_the_step_is_stale():
    w = leaf([1.0, 2.0])
    loss = (w * w).sum()
    w.grad = tapegrad.tensor([1.0, 1.0])
    optim.SGD([w], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# --- differentiable steps ---


@pytest.mark.parametrize(("name", "options"), [(n, o) for n, o in WITH_COMPLEX if n != "Rprop"])
def test_gradients_flow_through_the_step(name, options):
    """Through three steps, to the start and to the gradients."""

    def trained(start, grad):
        p = start * 1.0
        optimizer = getattr(optim, name)([p], differentiable=True, **options)
        for i in range(3):
            p.grad = grad * (1.0 + i)
            optimizer.step()
        return p

    start = leaf([0.5, -1.5, 2.0], "float64")
    grad = leaf([0.3, -0.4, 0.7], "float64")
    assert tapegrad.autograd.gradcheck(trained, (start, grad))
    params, _ = steps(name, options, [start.detach().array], count=0)
    optimizer = getattr(optim, name)(params, **options)
    for i in range(3):
        params[0].grad = grad.detach() * (1.0 + i)
        optimizer.step()
    np.testing.assert_allclose(trained(start, grad).detach().array, params[0].array, rtol=1e-12)


def test_gradients_flow_through_a_complex_step():
    def trained(start, grad):
        p = start * 1.0
        p.grad = grad * 1.0
        optim.Adam([p], lr=0.1, differentiable=True).step()
        return p

    draw = rng(5)
    z, g = (leaf(draw.standard_normal(3) + 1j * draw.standard_normal(3), "complex128") for _ in range(2))
    assert tapegrad.autograd.gradcheck(trained, (z, g))


def test_gradient_of_the_learning_rate():
    start, lr = leaf([1.0, -2.0], "float64"), leaf(0.1, "float64")
    p = start * 1.0
    p.grad = tapegrad.tensor(np.array([3.0, 5.0]))
    optim.SGD([p], lr=lr, differentiable=True).step()
    p.sum().backward()
    assert lr.grad.item() == -8.0


def test_differentiable_step_of_a_leaf_is_refused_before_anything_changes():
    p, q = leaf([1.0]) * 1.0, leaf([1.0])
    p.grad, q.grad = tapegrad.tensor([1.0]), tapegrad.tensor([1.0])
    optimizer = optim.Adam([p, q], differentiable=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        optimizer.step()
    assert p.item() == 1.0 and not optimizer.state


# --- groups and options ---


def test_groups_have_their_own_options():
    a, b = leaf([1.0]), leaf([1.0])
    optimizer = optim.SGD([{"params": a, "lr": 0.5}, {"params": [b]}], lr=0.25)
    a.grad, b.grad = tapegrad.tensor([1.0]), tapegrad.tensor([1.0])
    optimizer.step()
    assert a.item() == 0.5 and b.item() == 0.75
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.25] and optimizer.defaults["lr"] == 0.25
    c = leaf([1.0])
    optimizer.add_param_group({"params": c, "lr": 0.125})
    c.grad = tapegrad.tensor([2.0])
    optimizer.step()
    assert c.item() == 0.75


def test_named_parameters():
    a, b = leaf([1.0]), leaf([2.0])
    optimizer = optim.SGD([("layer.weight", a), ("layer.bias", b)], lr=0.1)
    group = optimizer.param_groups[0]
    assert group["param_names"] == ["layer.weight", "layer.bias"] and group["params"][1] is b
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["layer.weight", "layer.bias"]
    optimizer.load_state_dict(optim.SGD([leaf([1.0]), leaf([1.0])]).state_dict())
    assert optimizer.param_groups[0]["param_names"] == ["layer.weight", "layer.bias"]


def test_parameters_without_gradient_are_left_alone():
    a, b = leaf([1.0]), leaf([1.0])
    optimizer = optim.Adam([a, b])
    a.grad = tapegrad.tensor([1.0])
    optimizer.step()
    assert b.item() == 1.0 and list(optimizer.state) == [a]


def test_zero_grad():
    p = leaf([1.0])
    optimizer = optim.SGD([p])
    p.grad = grad = tapegrad.tensor([3.0])
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is grad and grad.item() == 0.0
    optimizer.zero_grad()
    assert p.grad is None


def test_closure_runs_with_gradients_and_its_loss_is_returned():
    p = leaf([2.0])
    optimizer = optim.SGD([p], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with tapegrad.no_grad():
        assert optimizer.step(closure).item() == 4.0
    assert p.item() == 1.0 and optimizer.step() is None


def test_switches_that_choose_nothing_are_recorded():
    optimizer = optim.AdamW([leaf([1.0])], fused=True, capturable=True, maximize=False)
    assert optimizer.defaults["fused"] is True and optimizer.param_groups[0]["capturable"] is True
    assert optim.SGD([leaf([1.0])], foreach=True).param_groups[0]["foreach"] is True


# --- state ---


@pytest.mark.parametrize(("name", "options", "names"), STATE)
def test_state(name, options, names):
    (p,), optimizer = steps(name, options, [np.ones((2, 3))], count=3, dtype="float32")
    state = optimizer.state_dict()["state"].get(0, {})
    assert list(state) == names
    for key, value in state.items():
        assert value.dtype is tapegrad.float32 and not value.requires_grad
        if key in ("step", "eta", "mu", "mu_product"):
            assert value.shape == ()
        elif key == "row_var":
            assert value.shape == (2, 1)
        else:
            assert value.shape == ((1, 3) if key == "col_var" else (2, 3))
    if "step" in state:
        assert state["step"].item() == 3.0


@pytest.mark.parametrize(("name", "options"), EACH, ids=IDS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_state_round_trip(name, options, copied):
    """Saved after 4 of 8 steps, by state_dict and by copying the optimizer: both go on as the original does."""
    arrays = [rng(1).standard_normal((3, 4)), rng(2).standard_normal(5)]
    params, optimizer = steps(name, options, arrays, count=4)
    fresh = [leaf(p.detach().array, "float64") for p in params]
    loaded = getattr(optim, name)(fresh, **options)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    clone = copied(optimizer)
    assert repr(clone) == repr(optimizer) == repr(loaded)
    run(optimizer, params, 4, seed=7)
    run(loaded, fresh, 4, seed=7)
    run(clone, clone.param_groups[0]["params"], 4, seed=7)
    # loading casts NAdam's mu_product and ASGD's eta and mu, float32 before, to the parameters' float64, as in PyTorch
    rtol = 1e-6 if name in ("NAdam", "ASGD") else 0
    for p, q, r in zip(params, fresh, clone.param_groups[0]["params"], strict=True):
        np.testing.assert_allclose(q.array, p.array, rtol=rtol)
        assert np.array_equal(p.array, r.array)


def test_loaded_state_is_cast_to_the_parameter_but_not_the_counter():
    _, single = steps("Adam", {}, [np.ones(3)], dtype="float32")
    p = leaf(np.ones(3), "float64")
    optimizer = optim.Adam([p])
    optimizer.load_state_dict(single.state_dict())
    assert optimizer.state[p]["exp_avg"].dtype is tapegrad.float64
    assert optimizer.state[p]["step"].dtype is tapegrad.float32


def test_state_of_old_checkpoints():
    """Counters were Python numbers once, and newer options are missing."""
    p = leaf(np.ones(3))
    state = {"step": 4, "exp_avg": tapegrad.zeros(3), "exp_avg_sq": tapegrad.zeros(3)}
    group = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "params": [0]}
    optimizer = optim.Adam([p])
    optimizer.load_state_dict({"state": {0: state}, "param_groups": [group]})
    assert optimizer.state[p]["step"].item() == 4.0 and optimizer.param_groups[0]["amsgrad"] is False
    p.grad = tapegrad.tensor(np.ones(3, "float32"))
    optimizer.step()
    assert optimizer.state[p]["step"].item() == 5.0


def test_repr():
    text = repr(optim.Adagrad([{"params": [leaf([1.0])]}, {"params": [leaf([1.0])], "lr": 1}]))
    assert text.startswith("Adagrad (\nParameter Group 0\n    differentiable: False\n    eps: 1e-10\n")
    assert text.endswith("\n\nParameter Group 1\n" + text.split("Group 1\n")[1])
    assert text.endswith("    lr_decay: 0\n    maximize: False\n    weight_decay: 0\n)")


# --- hooks ---


def test_step_hooks_in_order_and_removed():
    calls = []

    def note(word):
        return lambda optimizer, args, kwargs: calls.append(word)

    p = leaf([1.0])
    optimizer = optim.SGD([p])
    handles = [
        optimizer.register_step_pre_hook(note("pre")),
        optimizer.register_step_post_hook(note("post")),
        register_optimizer_step_pre_hook(note("global pre")),
        register_optimizer_step_post_hook(note("global post")),
    ]
    optimizer.step()
    assert calls == ["global pre", "pre", "post", "global post"]
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert len(calls) == 4


def test_pre_hook_may_change_the_arguments():
    optimizer = optim.SGD([leaf([1.0])])
    handle = optimizer.register_step_pre_hook(lambda o, args, kwargs: ((o, lambda: "from the hook"), {}))
    assert optimizer.step(lambda: "given") == "from the hook"
    handle.remove()
    optimizer.register_step_pre_hook(lambda o, args, kwargs: 3)
    with pytest.raises(RuntimeError, match=r"must return None or a tuple of \(new_args, new_kwargs\), but got 3"):
        optimizer.step()


def test_state_dict_hooks():
    optimizer = optim.SGD([leaf([1.0])], lr=0.5)
    calls = []
    optimizer.register_state_dict_pre_hook(lambda o: calls.append("second"))
    optimizer.register_state_dict_pre_hook(lambda o: calls.append("first"), prepend=True)
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "note": 1})
    state = optimizer.state_dict()
    assert calls == ["first", "second"] and state["note"] == 1

    def double(o, state):
        assert state is not original
        state["param_groups"][0]["lr"] *= 2
        return state

    original = state
    optimizer.register_load_state_dict_pre_hook(double)
    optimizer.register_load_state_dict_post_hook(lambda o: calls.append(o.param_groups[0]["lr"]))
    optimizer.load_state_dict(state)
    assert calls[-1] == 1.0


def test_user_subclass():
    class Sign(Optimizer):
        def __init__(self, params, lr=required):
            super().__init__(params, {"lr": lr})

        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    with tapegrad.no_grad():
                        p -= group["lr"] * p.grad.sign()

    p = leaf([1.0, 2.0])
    with pytest.raises(ValueError, match="didn't specify a value of required optimization parameter lr"):
        Sign([p])
    optimizer = Sign([{"params": [p], "lr": 0.5}])
    calls = []
    optimizer.register_step_post_hook(lambda *args: calls.append(1))
    p.grad = tapegrad.tensor([3.0, -3.0])
    optimizer.step()
    assert p.tolist() == [0.5, 2.5] and calls == [1] and repr(required) == "<required parameter>"


# --- errors ---


@pytest.mark.parametrize(("name", "options", "text"), WRONG_OPTIONS)
def test_wrong_options(name, options, text):
    with pytest.raises(ValueError) as info:
        getattr(optim, name)([leaf([1.0])], **options)
    assert text in str(info.value)


@pytest.mark.parametrize("case", WRONG_CALLS, ids=[text[:40] for _, _, text in WRONG_CALLS])
def test_wrong_calls(case):
    call, kind, text = case
    with pytest.raises(kind) as info:
        call(tapegrad, leaf([1.0]))
    assert text in str(info.value)


def test_sparse_and_complex_gradients_are_refused_before_anything_changes():
    class Sparse(tapegrad.Tensor):
        is_sparse = True

    a, b = leaf([1.0]), leaf([1.0])
    a.grad = tapegrad.tensor([1.0])
    b._grad = Sparse([1.0])
    with pytest.raises(
        RuntimeError, match="Adam does not support sparse gradients, please consider SparseAdam instead"
    ):
        optim.Adam([a, b]).step()
    with pytest.raises(RuntimeError, match="^RMSprop does not support sparse gradients$"):
        optim.RMSprop([a, b]).step()
    z = leaf([1j], "complex64")
    z.grad = tapegrad.tensor(np.array([1j], "complex64"))
    with pytest.raises(RuntimeError, match="Adafactor does not support complex parameters"):
        optim.Adafactor([a, z]).step()
    assert a.item() == 1.0
