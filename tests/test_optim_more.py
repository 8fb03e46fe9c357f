"""Muon, SparseAdam, state that is swapped in, and hooks, groups and names of optimizers beside PyTorch's."""

from __future__ import annotations

import copy
import importlib
import pickle

import numpy as np
import pytest
import tapegrad
from both import Programs, said, warned
from tapegrad import optim
from tapegrad.optim._muon import orthogonal, to_bfloat16

RNG = np.random.default_rng(5)


def leaf(array):
    return tapegrad.tensor(np.asarray(array, "float64")).requires_grad_()


def given(p, gradient):
    p.grad = tapegrad.tensor(np.asarray(gradient, "float64"))
    return p


# ---- Muon -----------------------------------------------------------------------------------------------------------

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


@pytest.mark.parametrize("shape", [(4, 4), (3, 20), (20, 3), (1, 7), (1, 1)])
def test_orthogonal_keeps_the_singular_vectors(shape):
    """Singular values come near one; what they multiply stays (to the precision of bfloat16)."""
    u, _, v = np.linalg.svd(RNG.standard_normal(shape), full_matrices=False)
    s = np.linspace(1.0, 0.3, len(v))
    found = orthogonal(np, u @ np.diag(s) @ v, COEFFICIENTS, 5, 1e-7)
    middle = u.T @ found @ v.T
    assert found.shape == shape and found.dtype == np.float32
    assert (0.6 < np.diag(middle)).all() and (np.diag(middle) < 1.3).all()
    np.testing.assert_allclose(middle, np.diag(np.diag(middle)), atol=0.05)


def test_orthogonal_of_zero_is_zero():
    assert (orthogonal(np, np.zeros((2, 3)), COEFFICIENTS, 5, 1e-7) == 0).all()


def test_rounding_is_that_of_bfloat16():
    types = pytest.importorskip("ml_dtypes")
    some = RNG.standard_normal(1000) * 10.0 ** RNG.integers(-42, 38, 1000)
    ties = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-8, 1e-40, 3.4e38, np.inf, -np.inf, np.nan, 0.0, -0.0])
    x = np.concatenate([some, ties]).astype("float32")
    found, expected = to_bfloat16(np, x), x.astype(types.bfloat16).astype("float32")
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found[:-3]), np.signbit(expected[:-3]))


@pytest.mark.parametrize(
    ("adjust", "shape", "scale"),
    [
        (None, (8, 2), 2.0),
        ("original", (8, 2), 2.0),
        ("original", (2, 8), 1.0),
        ("match_rms_adamw", (4, 9), 0.6),
        ("match_rms_adamw", (9, 4), 0.6),
    ],
)
def test_muon_step_by_hand(adjust, shape, scale):
    start, gradient = RNG.standard_normal((2, *shape))
    p = given(leaf(start), gradient)
    optim.Muon([p], lr=0.1, weight_decay=0.2, momentum=0.9, adjust_lr_fn=adjust).step()
    buffer = 0.1 * gradient
    direction = orthogonal(np, gradient + 0.9 * (buffer - gradient), COEFFICIENTS, 5, 1e-7)
    np.testing.assert_allclose(p.detach().cpu().numpy(), start * 0.98 - 0.1 * scale * direction, rtol=1e-6, atol=1e-7)


MUON_ERRORS = [
    ({"lr": -1}, ValueError, "Learning rate should be >= 0 but is: -1"),
    ({"momentum": -0.1}, ValueError, "momentum should be >= 0 but is: -0.1"),
    ({"weight_decay": -2}, ValueError, "weight decay should be >= 0 but is: -2"),
    ({"adjust_lr_fn": "x"}, ValueError, "Adjust learning rate function x is not supported"),
    ({"ns_steps": 100}, ValueError, "Number of steps must be less than 100 for computational efficiency"),
    ({"ns_coefficients": (1.0, 2.0)}, ValueError, "Coefficients must be a tuple of exactly 3 values"),
]


@pytest.mark.parametrize(("options", "kind", "text"), MUON_ERRORS)
def test_muon_refuses(options, kind, text):
    p = given(leaf([[1.0, 2.0]]), [[0.5, 0.5]])
    with pytest.raises(kind) as info:
        optim.Muon([p], **options).step()
    assert str(info.value) == text and p.tolist() == [[1.0, 2.0]]


def test_muon_takes_matrices_only():
    with pytest.raises(ValueError, match=r"Muon only supports 2D parameters .* with size: torch.Size\(\[3\]\)"):
        optim.Muon([leaf([1.0, 2.0, 3.0])])
    optimizer = optim.Muon([leaf([[1.0]])])
    optimizer.add_param_group({"params": given(leaf([1.0]), [1.0])})
    with pytest.raises(ValueError, match="Param gradient must be a 2D matrix"):
        optimizer.step()


# ---- sparse gradients -----------------------------------------------------------------------------------------------


def coo(rows, values, shape, T=tapegrad):
    return T.sparse_coo_tensor(T.tensor([rows]), T.tensor(values, dtype=T.float64), shape)


def test_sparse_adam_by_hand():
    """Row 2 is given twice, row 1 never; a first step is lr * sign, apart from eps."""
    p = leaf([[1.0, 2.0]] * 3)
    optimizer = optim.SparseAdam([p], lr=0.1)
    p.grad = coo([2, 0, 2], [[1.0, 1.0], [2.0, -2.0], [1.0, -5.0]], (3, 2))
    optimizer.step()
    np.testing.assert_allclose(p.tolist(), [[0.9, 2.1], [1.0, 2.0], [0.9, 2.1]], rtol=1e-6)
    state = optimizer.state[p]
    assert state["step"] == 1 and state["exp_avg"].tolist()[1] == [0.0, 0.0]
    assert state["exp_avg"].tolist()[2] == pytest.approx([0.2, -0.4])


def test_dense_gradients_are_refused_before_anything_changes():
    p, q = leaf([[1.0]]), given(leaf([[1.0]]), [[1.0]])
    p.grad = coo([0], [[1.0]], (1, 1))
    with pytest.raises(
        RuntimeError, match="^SparseAdam does not support dense gradients, please consider Adam instead$"
    ):
        optim.SparseAdam([p, q]).step()
    assert p.item() == q.item() == 1.0


def test_sparse_adam_state_goes_on():
    runs = []
    for again in (False, True):
        p = leaf([[1.0, 2.0]] * 3)
        optimizer = optim.SparseAdam([p], lr=0.1, maximize=True)
        for i in range(6):
            if again and i == 3:
                state = pickle.loads(pickle.dumps(optimizer.state_dict()))
                optimizer = optim.SparseAdam([p])
                optimizer.load_state_dict(state)
            p.grad = coo([i % 3], [[1.0, -i]], (3, 2))
            optimizer.step()
        runs.append(p.tolist())
    assert runs[0] == runs[1]


# ---- beside PyTorch -------------------------------------------------------------------------------------------------

programs = Programs()


def quadratic(T, *params):
    """Sets the gradient of sum(p^2) / 2 by backward."""
    for p in params:
        p.grad = None
    sum((p * p).sum() / 2 for p in params).backward()


def two(T):
    return [T.tensor([[1.0, -2.0]], dtype=T.float64, requires_grad=True), T.ones(2, 3, requires_grad=True)]


@programs
def swapped_in(T):
    """Inside, steps change the given tensors and state; outside all is as before."""
    p, q = two(T)
    optimizer = T.optim.Adam([{"params": [p], "lr": 0.1}, {"params": [q]}], weight_decay=0.01)
    quadratic(T, p, q)
    optimizer.step()
    new = {"p": p.detach() * 3, "q": q.detach() * 3}
    for name, t in new.items():
        t.requires_grad_()
        t.grad = T.full_like(t, 0.5) if name == "p" else None
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0]["lr"] = 0.5
    groups, own = [g["params"] for g in optimizer.param_groups], optimizer.state
    with T.optim.swap_in_optimizer_params_and_state(optimizer, new, state):
        inside = [g["lr"] for g in optimizer.param_groups], optimizer.param_groups[0]["params"][0] is new["p"]
        optimizer.step()
        optimizer.param_groups[1]["lr"] = 9.0
    kept = optimizer.state is own and all(
        g["params"] is was for g, was in zip(optimizer.param_groups, groups, strict=True)
    )
    return inside, kept, new, state, optimizer.state_dict(), p, q


@programs
def swapped_in_wrongly(T):
    p, q = two(T)
    optimizer = T.optim.Adam([{"params": [p]}, {"params": [q]}])
    new = {"p": p.detach(), "q": q.detach()}
    before = T.optim.Adam([p]).state_dict()

    def enter(parameters, state):
        with T.optim.swap_in_optimizer_params_and_state(optimizer, parameters, state):
            return "entered"

    found = [said(enter, new, before, length=400)]
    quadratic(T, p, q)
    optimizer.step()
    good = optimizer.state_dict()
    first, second = good["param_groups"]
    for parameters, state in [
        (new, good),
        (new, 3),
        (new, {}),
        (new, {"state": 3, "param_groups": []}),
        (new, {"state": {}, "param_groups": 3}),
        (new, {"state": {}}),
        (new, {"state": {p: {}}, "param_groups": [first, second]}),
        (new, {"state": {0: 3}, "param_groups": [first, second]}),
        (new, {"state": {}, "param_groups": [first]}),
        (new, {"state": {}, "param_groups": [first, 3]}),
        (new, {"state": {}, "param_groups": [first, second | {"params": [0, 1]}]}),
        (new, {"state": {}, "param_groups": [first, second | {"params": ["q"]}]}),
        (new, {"state": {}, "param_groups": [first | {"x": 1}, second]}),
        (new, {"state": {}, "param_groups": [{"params": [0]}, second]}),
        (new, {"state": {7: {}}, "param_groups": [first, second]}),
        ({"p": p}, good),
        (new | {"r": q}, good),
    ]:
        found.append(said(enter, parameters, state, length=400))
    return found


@programs
def step_hooks(T):
    p, q = two(T)
    optimizer = T.optim.SGD([p, q], lr=0.1)
    seen = []
    module = importlib.import_module(f"{T.__name__}.optim.optimizer")
    handles = [
        module.register_optimizer_step_pre_hook(lambda o, a, k: seen.append("global before")),
        module.register_optimizer_step_post_hook(lambda o, a, k: seen.append("global after")),
        optimizer.register_step_pre_hook(lambda o, a, k: seen.append(("before", o is optimizer, len(a), k))),
        optimizer.register_step_post_hook(lambda o, a, k: seen.append(("after", len(a), k))),
    ]
    quadratic(T, p, q)
    optimizer.step()
    optimizer.step(closure=None)
    for handle in handles:
        handle.remove()
    optimizer.step()
    changed = optimizer.register_step_pre_hook(lambda o, a, k: ((a[0], lambda: 5.0), {}))
    value = optimizer.step()
    changed.remove()
    optimizer.register_step_pre_hook(lambda o, a, k: 3)
    return seen, value, said(optimizer.step, length=0)


@programs
def state_dict_hooks(T):
    p, q = two(T)
    optimizer = T.optim.AdamW([p, q])
    quadratic(T, p, q)
    optimizer.step()
    seen = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("saving"))
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("saving first"), prepend=True)
    optimizer.register_state_dict_post_hook(lambda o, d: {**d, "extra": 1})
    optimizer.register_state_dict_post_hook(lambda o, d: seen.append(list(d)), prepend=True)
    optimizer.register_load_state_dict_pre_hook(lambda o, d: seen.append(sorted(d)))
    optimizer.register_load_state_dict_pre_hook(lambda o, d: {k: v for k, v in d.items() if k != "extra"}, prepend=True)
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))
    optimizer.load_state_dict(optimizer.state_dict())
    return seen, optimizer.state_dict()


@programs
def names(T):
    """Named parameters: kept in groups and state dicts, and found missing."""
    net = T.nn.Sequential(T.nn.Linear(2, 1), T.nn.Linear(1, 1))
    optimizer = T.optim.SGD(net.named_parameters(), lr=0.1, momentum=0.5)
    unnamed = T.optim.SGD(net.parameters(), lr=0.3)
    state = optimizer.state_dict()
    taken = copy.deepcopy(unnamed.state_dict())
    optimizer.load_state_dict(taken)
    unnamed.load_state_dict(state)
    groups = [{k: v for k, v in o.param_groups[0].items() if k != "params"} for o in (optimizer, unnamed)]
    more = T.ones(1, requires_grad=True)
    adding = [
        said(optimizer.add_param_group, {"params": [more]}, length=200),
        said(optimizer.add_param_group, {"params": [("more", more), more]}, length=200),
        said(optimizer.add_param_group, {"params": [("more", more)], "lr": 2.0}),
        said(T.optim.SGD, [{"params": [more]}, {"params": [("a", T.ones(1, requires_grad=True))]}], length=200),
    ]
    return state["param_groups"], groups, adding, [g["param_names"] for g in optimizer.state_dict()["param_groups"]]


@programs
def groups_added(T):
    p, q = two(T)
    optimizer = T.optim.RMSprop([p], lr=0.1)
    r = T.zeros(2, requires_grad=True)
    found = [
        said(optimizer.add_param_group, 3, length=100),
        said(optimizer.add_param_group, {"params": p}, length=100),
        said(optimizer.add_param_group, {"params": {q}}, length=200),
        said(optimizer.add_param_group, {"params": [q * 2]}, length=100),
        said(optimizer.add_param_group, {"params": [3]}, length=100),
        warned(optimizer.add_param_group, {"params": [r, r]}, length=60),
        said(optimizer.add_param_group, {"params": q, "lr": 0.5, "note": "mine"}),
    ]
    return found, repr(optimizer)


@programs
def loading_wrongly(T):
    p, q = two(T)
    one, both = T.optim.Adagrad([p]), T.optim.Adagrad([p, q])
    split = T.optim.Adagrad([{"params": [p]}, {"params": [q]}])
    return [said(one.load_state_dict, other.state_dict(), length=200) for other in (both, split)]


@programs
def lbfgs_of_several_dtypes(T):
    params = [T.full((2,), 3.0, dtype=d, requires_grad=True) for d in (T.float32, T.float64, T.complex64)]
    optimizer = T.optim.LBFGS(params, lr=0.1, max_iter=4)

    def closure():
        optimizer.zero_grad()
        loss = sum((p * p.conj()).real.sum().double() for p in params)
        loss.backward()
        return loss

    return optimizer.step(closure), params


@programs
def loading_casts(T):
    """State goes to the parameter's dtype, counters stay as they are."""
    p = T.ones(2, dtype=T.float64, requires_grad=True)
    optimizer = T.optim.Adam([p], amsgrad=True)
    quadratic(T, p)
    optimizer.step()
    found = []
    for dtype in (T.float32, T.complex128, T.float16):
        other = T.optim.Adam([T.ones(2, dtype=dtype, requires_grad=True)])
        other.load_state_dict(optimizer.state_dict())
        found.append(other.state_dict())
    return found


@programs
def zeroing(T):
    p, q = two(T)
    optimizer = T.optim.SGD([p, q])
    quadratic(T, p, q)
    kept = p.grad
    optimizer.zero_grad(set_to_none=False)
    same = p.grad is kept
    zeros = p.grad.clone()
    optimizer.zero_grad()
    return same, zeros, p.grad, q.grad


@programs
def closures(T):
    """Each optimizer returns the closure's loss, calculated with gradients enabled."""
    found = []
    for name in ("SGD", "Adam", "Rprop", "ASGD", "Muon", "Adafactor", "LBFGS"):
        p, q = two(T)
        optimizer = getattr(T.optim, name)([p, q])

        def closure(p=p, q=q, optimizer=optimizer, found=found):
            optimizer.zero_grad()
            loss = (p * p).sum() + (q * q).sum()
            loss.backward()
            found.append(T.is_grad_enabled())
            return loss

        with T.no_grad():
            found.append(said(optimizer.step))
        found.append(optimizer.step(closure).item())
    return found


@programs
def own_optimizer(T):
    """An optimizer as programs write them: options that groups must give, state of its own, and a decorated step."""
    module = importlib.import_module(f"{T.__name__}.optim.optimizer")

    class Signs(module.Optimizer):
        def __init__(self, params: module.ParamsT, lr=module.required):
            super().__init__(params, {"lr": lr, "differentiable": False})

        @module._use_grad_for_differentiable
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p]["count"] = self.state[p].get("count", 0) + 1
                    p.sub_(p.grad.sign() * group["lr"])
            return T.is_grad_enabled()

    p, q = two(T)
    quadratic(T, p, q)
    optimizer = Signs([p, q], lr=0.25)
    inside = optimizer.step()
    scheduler = T.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    optimizer.step()
    scheduler.step()
    missing = said(Signs, [p], length=100)
    return inside, p, q, optimizer.state_dict(), missing, repr(optimizer), repr(module.required)


@programs
def copies(T):
    """A deepcopy takes parameters and state along; pickles too."""
    p, q = two(T)
    optimizer = T.optim.NAdam([p, q], lr=0.1)
    quadratic(T, p, q)
    optimizer.step()
    found = []
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        own = other.param_groups[0]["params"]
        quadratic(T, *own)
        other.step()
        found.append((own, other.state_dict(), own[0] is p))
    return found, p


@programs
def switches_that_exclude_each_other(T):
    p, _ = two(T)
    found = []
    for name in ("SGD", "Adam", "AdamW", "Adagrad"):
        for options in ({"fused": True, "foreach": True}, {"fused": True, "differentiable": True}):
            found.append(said(getattr(T.optim, name), [p], **options, length=100))
    z = T.ones(1, dtype=T.complex64, requires_grad=True)
    z.grad = T.ones(1, dtype=T.complex64)
    found += [said(getattr(T.optim, name)([z], fused=True).step, length=170) for name in ("SGD", "Adam", "Adagrad")]
    return found


@programs
def rates_of_any_shape(T):
    """A tensor of one element is a rate, whatever its shape; another is not."""
    found = []
    for name in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "ASGD", "Rprop"):
        for shape in ((), (1,), (1, 1)):
            p, _ = two(T)
            optimizer = getattr(T.optim, name)([p], lr=T.full(shape, 0.125))
            quadratic(T, p)
            optimizer.step()
            found.append((p.detach().float(), optimizer.param_groups[0]["lr"]))
        found.append(said(getattr(T.optim, name), [p], lr=T.ones(2), length=100))
    return found


@programs
def sparse_gradients(T):
    """SGD and Adagrad change the rows that a gradient has; the others say that they cannot."""
    found = []
    cases = [
        ("SGD", {}),
        ("SGD", {"momentum": 0.5}),
        ("Adagrad", {"lr": 0.5}),
        ("SparseAdam", {"lr": 0.5}),
        ("LBFGS", {}),
    ]
    for name, options in cases:
        p = T.ones(4, 2, dtype=T.float64, requires_grad=True)
        optimizer = getattr(T.optim, name)([p], **options)
        for i in range(3):
            p.grad = coo([0, i, i], [[1.0, 2.0], [-1.0, 0.5], [3.0, i]], (4, 2), T)
            optimizer.step(lambda p=p: (p * p).sum())
        found.append(p.detach())
    for name in (
        "Adam",
        "AdamW",
        "RMSprop",
        "Adadelta",
        "Adamax",
        "NAdam",
        "RAdam",
        "ASGD",
        "Rprop",
        "Muon",
        "Adafactor",
    ):
        p = T.ones(4, 2, dtype=T.float64, requires_grad=True)
        p.grad = coo([0], [[1.0, 2.0]], (4, 2), T)
        found.append(said(getattr(T.optim, name)([p]).step, length=200))
    for name, options in [("SGD", {"weight_decay": 0.1}), ("Adagrad", {"weight_decay": 0.1}), ("SGD", {"fused": True}),
                          ("Adagrad", {"fused": True})]:  # fmt: skip
        p.grad = coo([0], [[1.0, 2.0]], (4, 2), T)
        found.append(said(getattr(T.optim, name)([p], **options).step, length=200))
    return found


@pytest.mark.parametrize("name", programs)
def test_as_in_torch(name):
    programs.check(name, rtol=1e-6 if name == "rates_of_any_shape" else 1e-12)
