"""utils.checkpoint beside PyTorch, and that memory is really given up."""

from __future__ import annotations

import gc
import weakref
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tapegrad
from both import Programs, said, warned

program = Programs()


def data(T: Any, *shape: int) -> Any:
    return T.tensor(np.random.default_rng(0).normal(size=shape)).requires_grad_()


def net(T: Any, dropout: float = 0.0) -> Any:
    T.manual_seed(0)
    nn = T.nn
    layers = []
    for _ in range(3):
        layers += [nn.Linear(4, 4), nn.Tanh(), nn.Dropout(dropout)]
    return nn.Sequential(*layers).double()


FORMS: list[dict[str, Any]] = [{"use_reentrant": True}, {"use_reentrant": False}]


@program
def gradients_are_those_without(T):
    found = []
    for form in [None, *FORMS]:
        model, x = net(T), data(T, 5, 4)
        h = model[:3](x)
        h = model[3:6](h) if form is None else T.utils.checkpoint.checkpoint(model[3:6], h, **form)
        (model[6:](h) ** 2).sum().backward()
        found.append([x.grad, *[p.grad for p in model.parameters()]])
    for a, b in zip(found[0], found[2], strict=True):
        assert bool((a == b).all())
    return found


@program
def dropout_draws_the_same(T):
    found = []
    for form in FORMS:
        model, x = net(T, 0.5), data(T, 8, 4)
        T.manual_seed(3)
        y = T.utils.checkpoint.checkpoint(model, x, **form)
        after = T.rand(2)
        y.sum().backward()
        found.append([y, x.grad, after, T.rand(2)])
    return found


@program
def another_stream_without_preserving(T):
    found = []
    for form in FORMS:
        x = data(T, 6)
        T.manual_seed(3)
        T.utils.checkpoint.checkpoint(
            lambda x: x * T.rand(6).double(), x, preserve_rng_state=False, **form
        ).sum().backward()
        found.append(x.grad)
    return found


@program
def arguments_of_all_kinds(T):
    def f(x, n, w, flag, extra=None, scale=1.0):
        y = (x**n) * w if flag else x
        return (y * scale).sin() + (0 if extra is None else extra)

    x, w, e = data(T, 3), data(T, 3), data(T, 3)
    call = T.utils.checkpoint.checkpoint
    call(f, x, 2, w, True, use_reentrant=True).sum().backward()
    call(f, x, 3, w, True, use_reentrant=False, extra=e, scale=2.0).sum().backward()
    call(lambda d: d["a"] * d["b"][0], {"a": x, "b": [w]}, use_reentrant=False).sum().backward()
    return [x.grad, w.grad, e.grad]


@program
def several_outputs(T):
    found = []
    for form in FORMS:
        x = data(T, 3)
        a, b, n, nothing = T.utils.checkpoint.checkpoint(lambda x: (x.sin(), x.exp(), 5, None), x, **form)
        (a * b).sum().backward()
        x2 = data(T, 3)
        a, b = T.utils.checkpoint.checkpoint(lambda x: (x.sin(), x.exp()), x2, **form)
        b.sum().backward()
        found.append([n, nothing, x.grad, x2.grad])
    return found


@program
def closed_over_parameters(T):
    found = []
    for form in FORMS:
        w, x = data(T, 3), data(T, 3)
        T.utils.checkpoint.checkpoint(lambda x, w=w: (x * w).sin(), x, **form).sum().backward()
        found.append([w.grad, x.grad])
    w = data(T, 3)
    T.utils.checkpoint.checkpoint(
        lambda x: (x * w).sin(), T.ones(3, dtype=T.float64), use_reentrant=False
    ).sum().backward()
    return [*found, w.grad]


@program
def nested(T):
    call = T.utils.checkpoint.checkpoint
    found = []
    for outer in FORMS:
        for inner in FORMS:
            x, runs = data(T, 3), []

            def deep(x, runs=runs):
                runs.append("deep")
                return x.sin().exp()

            def middle(x, inner=inner, runs=runs, deep=deep):
                runs.append("middle")
                return call(deep, x * 2, **inner).tanh() * x

            y = call(middle, x, **outer)
            (y * y).sum().backward()
            found.append([y, x.grad])
    return found


@program
def three_levels(T):
    call = T.utils.checkpoint.checkpoint

    def level(n, x):
        x = (x * 1.1).sin()
        return (call(level, n - 1, x, use_reentrant=False) if n else x).exp()

    x = data(T, 3)
    y = level(3, x)
    (g,) = T.autograd.grad((y * y).sum(), x)
    return [y, g]


@program
def second_order(T):
    x = data(T, 3)
    y = T.utils.checkpoint.checkpoint(lambda x: (x * x).sin(), x, use_reentrant=False)
    (g,) = T.autograd.grad(y.sum(), x, create_graph=True)
    g.sum().backward()
    return [g, x.grad]


@program
def retained_graph(T):
    x, runs = data(T, 3), []

    def f(x):
        runs.append(1)
        return x.sin().exp()

    y = T.utils.checkpoint.checkpoint(f, x, use_reentrant=False).sum()
    y.backward(retain_graph=True)
    y.backward()
    return [x.grad, len(runs), said(y.backward)]


@program
def early_stop(T):
    seen, module = [], T.utils.checkpoint

    def f(x):
        x = x.sin()
        seen.append(1)
        x = x.exp()
        seen.append(2)
        return x + 1

    x = data(T, 3)
    module.checkpoint(f, x, use_reentrant=False).sum().backward()
    seen.append("never")
    module.checkpoint(f, x, use_reentrant=False, early_stop=False).sum().backward()
    seen.append("switched")
    with module.set_checkpoint_early_stop(False):
        y = module.checkpoint(f, x, use_reentrant=False)
    y.sum().backward()
    return [seen, x.grad]


@program
def in_place_inside(T):
    x = data(T, 3)
    y = T.utils.checkpoint.checkpoint(
        lambda h: ((h * 2).exp_() * h).pow_(2).add_(h).tanh_(), x * 1, use_reentrant=False
    )
    (y * y).sum().backward()
    return x.grad


@program
def batch_norm_inside(T):
    T.manual_seed(0)
    model = T.nn.Sequential(T.nn.Linear(4, 4), T.nn.BatchNorm1d(4), T.nn.Linear(4, 2)).double()
    x = data(T, 6, 4)
    T.utils.checkpoint.checkpoint(model, x, use_reentrant=False, early_stop=False).sum().backward()
    return [x.grad, model[1].running_mean, model[1].num_batches_tracked]


@program
def contexts(T):
    log = []

    @contextmanager
    def noted(word):
        log.append(word)
        yield
        log.append("end " + word)

    x = data(T, 3)
    fn = lambda: (noted("first"), noted("second"))  # noqa: E731
    T.utils.checkpoint.checkpoint(
        lambda x: x.sin(), x, use_reentrant=False, context_fn=fn, early_stop=False
    ).sum().backward()
    return [log, x.grad]


@program
def within_no_grad(T):
    x = data(T, 3)
    with T.no_grad():
        return [T.utils.checkpoint.checkpoint(lambda x: x.sin(), x, use_reentrant=False)]


@program
def partial_backward(T):
    call = T.utils.checkpoint.checkpoint
    x = data(T, 3)
    found = [
        said(lambda: T.autograd.grad(call(lambda x: x.sin().sum(), x, use_reentrant=True), x)),
        said(lambda: call(lambda x: x.sin().sum(), x, use_reentrant=True).backward(inputs=[x])),
        T.autograd.grad(call(lambda x: x.sin().sum(), x, use_reentrant=False), x),
    ]
    call(lambda x: x.sin().sum(), x, use_reentrant=False).backward(inputs=[x])
    return [*found, x.grad]


@program
def what_is_warned_of(T):
    call, x, c = T.utils.checkpoint.checkpoint, data(T, 3), T.ones(3)
    return [
        warned(call, T.sin, x, length=100),
        warned(call, T.sin, c, use_reentrant=True),
        warned(call, T.sin, c, use_reentrant=False),
        warned(T.utils.checkpoint.checkpoint_sequential, [T.sin, T.cos], 2, x, length=100),
    ]


@program
def wrong_calls(T):
    call, x = T.utils.checkpoint.checkpoint, data(T, 3)
    sequential = T.utils.checkpoint.checkpoint_sequential
    return [
        said(call, T.sin, x, use_reentrant=True, k=1),
        said(call, lambda x: x, x, use_reentrant=False, k=1, length=0),
        said(call, T.sin, x, use_reentrant=False, determinism_check="x"),
        said(call, T.sin, x, use_reentrant=True, debug=True),
        said(call, T.sin, x, use_reentrant=True, context_fn=lambda: (1, 2)),
        said(lambda: call(lambda x: x.detach(), x, use_reentrant=True).sum().backward()),
        said(sequential, [T.sin], 1, x, use_reentrant=False, k=1),
        said(sequential, [T.sin], 5, x, use_reentrant=False),
    ]


@program
def other_second_runs(T):
    def attempt(first, second, **kw):
        x, runs = data(T, 3), []

        def f(x):
            runs.append(1)
            return first(x) if len(runs) == 1 else second(x)

        return said(lambda: T.utils.checkpoint.checkpoint(f, x, use_reentrant=False, **kw).sum().backward(), length=90)

    return [
        attempt(lambda x: x.sin().cos().exp(), lambda x: x.sin()),
        attempt(lambda x: x.sin(), lambda x: x[:2].sin()),
        attempt(lambda x: x.sin(), lambda x: x.float().sin()),
        attempt(lambda x: x.sin(), lambda x: x.sin().cos()),
        attempt(lambda x: x.sin(), lambda x: x.cos(), determinism_check="none"),
    ]


@program
def sequential(T):
    found = []
    for form in FORMS:
        for segments in (1, 2, 4, 9):
            model, x = net(T), data(T, 5, 4)
            y = T.utils.checkpoint.checkpoint_sequential(model, segments, x, **form)
            y.sum().backward()
            found.append([y, x.grad, [p.grad for p in model.parameters()]])
    x = data(T, 3)
    T.utils.checkpoint.checkpoint_sequential([T.sin, T.exp, T.tanh], 3, x, use_reentrant=False).sum().backward()
    return [*found, x.grad]


@program
def small_functions(T):
    x, module = data(T, 3), T.utils.checkpoint
    d, n = module.detach_variable((x, 3))
    return [
        d.requires_grad,
        d.is_leaf,
        n,
        warned(module.check_backward_validity, [T.ones(2)]),
        said(module.detach_variable, [x]),
    ]


@pytest.mark.parametrize("name", program)
def test_program(name: str) -> None:
    """Values, gradients, random streams, warnings and errors are torch's."""
    program.check(name)


# ---- without torch ---------------------------------------------------------------------------------------------------


def alive_after_forward(form: dict[str, Any] | None) -> tuple[int, int]:
    """How many intermediate arrays of eight layers live after the forward, and after the backward."""
    T = tapegrad
    refs: list[Any] = []

    def block(x: Any) -> Any:
        for _ in range(8):
            x = x.sin()
            refs.append(weakref.ref(x.array))
        return x

    x = T.ones(100, requires_grad=True)
    y = block(x) if form is None else T.utils.checkpoint.checkpoint(block, x, **form)
    total = y.sum()
    del y
    gc.collect()
    before = sum(r() is not None for r in refs)
    total.backward()
    gc.collect()
    return before, sum(r() is not None for r in refs)


def test_saved_tensors_are_dropped() -> None:
    assert alive_after_forward(None) == (7, 0)
    for form in FORMS:
        assert alive_after_forward(form) == (0, 0), form


def test_nested_checkpoints_keep_only_the_outermost_input() -> None:
    T = tapegrad
    refs: list[Any] = []
    call = T.utils.checkpoint.checkpoint

    def inner(x: Any) -> Any:
        return x.sin().exp()

    def outer(x: Any) -> Any:
        for _ in range(4):
            x = call(inner, x, use_reentrant=False)
            refs.append(weakref.ref(x.array))
        return x

    x = T.ones(100, requires_grad=True)
    y = call(outer, x, use_reentrant=False).sum()
    assert [r() for r in refs] == [None] * 4
    y.backward()
    plain = T.ones(100, requires_grad=True)
    h = plain
    for _ in range(4):
        h = h.sin().exp()
    h.sum().backward()
    assert x.grad.tolist() == plain.grad.tolist()


def test_only_one_part_is_computed_again_at_a_time() -> None:
    """The peak of live arrays of a chain of checkpointed parts is that of one part."""
    T = tapegrad
    live: list[Any] = []
    peak = [0]

    def part(x: Any) -> Any:
        for _ in range(5):
            x = x.sin()
            live.append(weakref.ref(x.array))
            peak[0] = max(peak[0], sum(r() is not None for r in live))
        return x

    x = T.ones(50, requires_grad=True)
    y = x
    for _ in range(6):
        y = T.utils.checkpoint.checkpoint(part, y, use_reentrant=False)
    total = y.sum()
    del y
    peak[0] = 0
    total.backward()
    assert peak[0] <= 6 + 5 + 2  # six boundaries, one part


def test_no_cycles() -> None:
    T = tapegrad
    gc.disable()
    try:
        for form in FORMS:
            x = T.ones(3, requires_grad=True)
            y = T.utils.checkpoint.checkpoint(lambda x: x.sin().exp(), x * 1, **form)
            refs = [weakref.ref(y), weakref.ref(y.grad_fn)]
            y.sum().backward()
            del y
            assert [r() for r in refs] == [None, None]
    finally:
        gc.enable()


def test_the_error_tells_both_runs() -> None:
    T = tapegrad
    runs: list[int] = []

    def f(x: Any) -> Any:
        runs.append(1)
        return x.sin() if len(runs) == 1 else x[:2].sin()

    y = T.utils.checkpoint.checkpoint(f, T.ones(3, requires_grad=True), use_reentrant=False)
    with pytest.raises(T.utils.checkpoint.CheckpointError, match=r"(?s)position 0.*\(3,\).*\(2,\)"):
        y.sum().backward()
