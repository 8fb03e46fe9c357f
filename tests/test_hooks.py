"""Hooks on tensors and nodes, saved-tensor hooks, anomaly mode, edges of the graph: beside PyTorch, and without it."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from typing import Any

import numpy as np
import pytest
import tapegrad
from both import Programs, kind, said, warned

program = Programs()


def leaf(T: Any, *values: float) -> Any:
    return T.tensor(list(values or (1.0, 2.0)), dtype=T.float64, requires_grad=True)


def recorder(log: list[Any], word: str) -> Any:
    """A tensor hook that notes its gradient."""

    def hook(g: Any) -> None:
        log.append([word, g.clone()])

    return hook


# ---- order -----------------------------------------------------------------------------------------------------------


@program
def order_at_one_node(T):
    x, log = leaf(T), []
    h = x * 2
    h.grad_fn.register_prehook(lambda outs: (log.append(["pre", *outs]), (outs[0] * 3,))[1])
    h.register_hook(lambda g: (log.append(["first", g]), g * 10)[1])
    h.retain_grad()
    h.grad_fn.register_hook(lambda ins, outs: log.append(["post", *ins, *outs]))
    h.register_hook(lambda g: (log.append(["second", g]), g * 10)[1])
    x.register_hook(recorder(log, "leaf"))
    x.register_post_accumulate_grad_hook(lambda t: log.append(["after", t is x, t.grad.clone()]))
    h.sum().backward()
    return [log, h.grad, x.grad]


@program
def hooks_with_autograd_grad(T):
    x, log = leaf(T), []
    h = x * 2
    h.register_hook(lambda g: (log.append("h"), g * 10)[1])
    h.retain_grad()
    h.grad_fn.register_prehook(lambda outs: log.append("pre"))
    x.register_hook(lambda g: (log.append("x"), g * 5)[1])
    x.register_post_accumulate_grad_hook(lambda t: log.append("after"))
    y = (h * 1).sum()
    found = [T.autograd.grad(y, h, retain_graph=True), h.grad.clone(), list(log)]
    found += [T.autograd.grad(y, [h, x], retain_graph=True), h.grad.clone(), list(log)]
    found += [T.autograd.grad(y, x, create_graph=True), list(log), x.grad]
    return found


@program
def backward_into_chosen_inputs(T):
    x, w = leaf(T), leaf(T)
    h = x * w
    h.register_hook(lambda g: g * 10)
    y = (h * w).sum()
    y.backward(inputs=h, retain_graph=True)
    found = [h.grad.clone(), x.grad, w.grad, h.retains_grad]
    y.backward(inputs=[x], retain_graph=True)
    y.backward(inputs=[h, w], retain_graph=True)
    found += [h.grad.clone(), x.grad.clone(), w.grad.clone()]
    y.backward(inputs={"first": w, "again": w}, retain_graph=True)
    return [
        *found,
        w.grad,
        said(y.backward, inputs=[]),
        said(y.backward, inputs=[T.ones(2)]),
        kind(y.backward, inputs=3),
        said(y.backward, inputs=[leaf(T)]),
        x.grad,
    ]


@program
def what_lies_below_an_input_is_left_alone(T):
    x = leaf(T)
    h = x * x
    h.sum().backward()
    y = (h * 3).sum()
    (g,) = T.autograd.grad(y, h)  # h's own graph is freed, and not needed
    k = x * x
    T.autograd.grad((k * 2).sum(), k)
    k.sum().backward()  # k's own graph was not freed
    return [g, x.grad]


@program
def hooks_in_the_second_order(T):
    x, log = leaf(T), []
    h = x**3
    h.register_hook(lambda g: g * h.detach())
    h.retain_grad()
    x.register_hook(lambda g: g * g)
    (h * h).sum().backward(create_graph=True)
    first, kept = x.grad, h.grad
    x.grad = None
    (g,) = T.autograd.grad(first.sum() + kept.sum(), x)
    return [first, kept, g, log]


@program
def removed_and_removing(T):
    x, log = leaf(T), []
    h = x * 2
    first = h.register_hook(recorder(log, "first"))
    second = h.register_hook(lambda g: (log.append("second"), third.remove())[1])
    third = h.register_hook(recorder(log, "third"))
    h.sum().backward(retain_graph=True)
    first.remove()
    first.remove()
    with h.register_hook(recorder(log, "inside")):
        h.sum().backward(retain_graph=True)
    h.sum().backward()
    second.remove()
    return log


@program
def added_while_running(T):
    x, log = leaf(T), []
    h = x * 2
    h.register_hook(lambda g: h.register_hook(recorder(log, "late")) and None)
    h.sum().backward(retain_graph=True)
    early = len(log)
    h.sum().backward()
    return [early, log]


@program
def leaf_hooks_outlive_a_backward(T):
    x, log = leaf(T), []
    x.register_hook(lambda g: g * 2)
    after = x.register_post_accumulate_grad_hook(lambda t: log.append(t.grad.clone()))
    for _ in range(2):
        (x * x).sum().backward()
    after.remove()
    (x * x).sum().backward()
    return [x.grad, log]


@program
def leaf_hooks_run_as_soon_as_the_gradient_is_there(T):
    a, b, c, log = leaf(T), leaf(T), leaf(T), []
    h = a * 2
    k = h * b
    out = (k * c + b).sum()
    for word, t in (("a", a), ("b", b), ("c", c)):
        t.register_hook(recorder(log, word))
        t.register_post_accumulate_grad_hook(lambda t, word=word: log.append([word + " after", t.grad.clone()]))
    h.register_hook(recorder(log, "h"))
    k.register_hook(recorder(log, "k"))
    out.backward(retain_graph=True)
    out.backward(create_graph=True, inputs=[a, b])
    a.backward(T.ones(2, dtype=T.float64))
    return [log, a.grad.detach(), b.grad.detach(), c.grad]


@program
def steps_inside_the_backward_pass(T):
    T.manual_seed(0)
    net = T.nn.Sequential(T.nn.Linear(3, 4), T.nn.Tanh(), T.nn.Linear(4, 2)).double()
    optimizers = {p: T.optim.SGD([p], lr=0.1, momentum=0.9) for p in net.parameters()}

    def step(p):
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in net.parameters():
        p.register_post_accumulate_grad_hook(step)
    x = T.ones(5, 3, dtype=T.float64)
    losses = []
    for _ in range(3):
        loss = (net(x) ** 2).sum()
        loss.backward()
        losses.append(loss.detach())
    return [losses, [p.detach() for p in net.parameters()], [p.grad for p in net.parameters()]]


@program
def gradient_zeroed_after_accumulation(T):
    x = leaf(T)

    def step(t):
        with T.no_grad():
            t -= 0.1 * t.grad
        t.grad = None

    x.register_post_accumulate_grad_hook(step)
    for _ in range(3):
        (x * x).sum().backward()
    return [x, x.grad]


@program
def reused_tensors(T):
    x, log = leaf(T), []
    h = x * 2
    h.register_hook(recorder(log, "h"))
    x.register_hook(recorder(log, "x"))
    (h * h + h.sin() + x).sum().backward()
    return [log, x.grad]


@program
def post_hooks_see_each_input(T):
    x, w, log = leaf(T), T.ones(2, dtype=T.float64), []
    for y in (x * x, x * w, x * 3, x + x, w - x, x.sum(), (x * 1).exp(), x / x):
        y.grad_fn.register_hook(lambda ins, outs: log.append([len(ins), len(outs), *ins]))
        y.sum().backward(retain_graph=True)
    return [log, x.grad]


@program
def post_hooks_replace(T):
    x, w = leaf(T), leaf(T)
    y = x * w
    y.grad_fn.register_hook(lambda ins, outs: (ins[0] * 2, None))
    y.sum().backward()
    z = x * x
    z.grad_fn.register_hook(lambda ins, outs: tuple(i * 3 for i in ins))
    z.sum().backward()
    return [x.grad, w.grad]


@program
def node_hooks_of_several_outputs(T):
    x, log = leaf(T, 3.0, 1.0, 2.0), []
    parts = (x * 1).split([1, 2])
    parts[0].grad_fn.register_prehook(lambda outs: log.append([len(outs), outs[0], outs[1]]))
    parts[0].grad_fn.register_hook(lambda ins, outs: log.append([len(outs), outs[0], outs[1], *ins]))
    (parts[1] * 5).sum().backward()
    return [log, x.grad]


@program
def accumulate_nodes(T):
    x, log = leaf(T), []
    node = x.view_as(x).grad_fn.next_functions[0][0]
    node.register_prehook(lambda outs: log.append(["pre", *outs]))
    node.register_hook(lambda ins, outs: log.append(["post", list(ins), *outs, x.grad.clone()]))
    (x * 2).sum().backward()
    again = x.exp().grad_fn.next_functions[0][0]
    return [log, node == again, node.variable is x, node.name(), node.next_functions]


# ---- in place --------------------------------------------------------------------------------------------------------


@program
def retain_grad_follows_a_write(T):
    x, log = leaf(T), []
    h = x * 2
    h.register_hook(recorder(log, "before"))
    h.retain_grad()
    h.mul_(3)
    h.register_hook(recorder(log, "after"))
    h.sum().backward()
    return [log, h.grad, x.grad]


@program
def retain_grad_of_a_written_base_and_view(T):
    x, w = leaf(T), leaf(T)
    h = x * 2
    h.retain_grad()
    v = h[0]
    v.retain_grad()
    v.mul_(5)
    (h * h).sum().backward()
    k = w * 2
    u = k[0:1]
    u.retain_grad()
    k.mul_(5)
    (u * 3).sum().backward()
    return [h.grad, v.grad, x.grad, u.grad, w.grad]


@program
def retain_grad_twice_and_of_leaves(T):
    x = leaf(T)
    h = x * 2
    h.retain_grad()
    h.retain_grad()
    x.retain_grad()
    h.sum().backward(retain_graph=True)
    h.sum().backward()
    return [h.grad, x.grad, h.retains_grad, x.retains_grad, said(T.ones(2).retain_grad)]


# ---- errors ----------------------------------------------------------------------------------------------------------


def _answers(T: Any) -> list[Any]:
    one = T.ones(2, dtype=T.float64)
    return [
        3,
        "a",
        T.ones(3, dtype=T.float64),
        one.float(),
        one.long(),
        (one,),
        T.ones(1, dtype=T.float64),
        one * 2,
        None,
    ]


@program
def answers_of_tensor_hooks(T):
    found = []
    for answer in _answers(T):
        x = leaf(T)
        h = x * 2

        def mine(g, answer=answer):
            return answer

        h.register_hook(mine)
        found += [said(h.sum().backward, length=41), x.grad]
        x = leaf(T)
        x.register_hook(mine)
        found += [said((x * 2).sum().backward, length=41), x.grad]
    return found


@program
def answers_of_node_hooks(T):
    one = T.ones(2, dtype=T.float64)
    found = []
    for answer in [*_answers(T), (one * 2,), (one * 2, None), (one, one), (), (None,), (None, None), (one.float(),)]:
        for word in ("register_prehook", "register_hook"):
            x = leaf(T)
            h = x * 2

            def mine(*args, answer=answer):
                return answer

            getattr(h.grad_fn, word)(mine)
            found += [said(h.sum().backward, length=41), x.grad]
    return found


@program
def where_hooks_may_not_be(T):
    x, c = leaf(T), T.ones(2)
    return [
        said(c.register_hook, print),
        said((x * 2).register_post_accumulate_grad_hook, print, length=60),
        said(c.register_post_accumulate_grad_hook, print),
        kind(T.autograd.graph.register_multi_grad_hook, (x,), print, mode="x"),
    ]


@program
def hook_that_raises(T):
    x = leaf(T)

    def bad(g):
        raise KeyError("mine")

    h = x * 2
    handle = h.register_hook(bad)
    found = [said(h.sum().backward, retain_graph=True), x.grad, T.is_grad_enabled()]
    handle.remove()
    h.sum().backward()
    return [*found, x.grad]


@program
def post_accumulate_hook_that_answers(T):
    x = leaf(T)
    x.register_post_accumulate_grad_hook(lambda t: 5)
    return [kind((x * 2).sum().backward), x.grad]


# ---- several tensors -------------------------------------------------------------------------------------------------


@program
def multi_grad_hooks(T):
    found = []
    for mode in ("all", "any"):
        x, w, u = leaf(T), leaf(T), leaf(T)
        h, log = x * 2, []
        handle = T.autograd.graph.register_multi_grad_hook((x, w, u, h), log.append, mode=mode)
        (h * w).sum().backward()
        ((x * 2) * w * u).sum().backward()
        (w * 2).sum().backward()
        handle.remove()
        (x * w).sum().backward()
        found.append(len(log) if mode == "any" else [list(seen) for seen in log])
    return found


@program
def multi_grad_hook_in_the_middle(T):
    x, log = leaf(T), []
    a, b = x * 2, x * 3
    T.autograd.graph.register_multi_grad_hook((a, b), lambda gs: log.append([*gs, x.grad]))
    x.register_hook(lambda g: log.append("leaf"))
    (a * b).sum().backward()
    return log


# ---- edges and nodes -------------------------------------------------------------------------------------------------


@program
def gradient_edges(T):
    x = leaf(T)
    h = x * 3
    y = h * 2
    edge, one = T.autograd.graph.get_gradient_edge, T.ones(2, dtype=T.float64)
    T.autograd.backward(edge(y), one, inputs=[edge(x)], retain_graph=True)
    return [
        T.autograd.grad(y, edge(h), one, retain_graph=True),
        T.autograd.grad(y.sum(), [edge(x), edge(h)], retain_graph=True),
        T.autograd.grad(edge(y), x, one, retain_graph=True),
        said(T.autograd.grad, edge(y), x),
        x.grad,
        edge(y).node.name(),
        edge(y).output_nr,
        edge(x).node.name(),
        said(edge, T.ones(2)),
        T.autograd.grad(T.autograd.graph.GradientEdge(y.grad_fn, 0), x, one),
    ]


@program
def edges_of_several_outputs(T):
    x = leaf(T, 3.0, 1.0, 2.0)
    a, b = (x * 1).split([1, 2])
    edge = T.autograd.graph.get_gradient_edge
    y = (a * b).sum()
    return [
        edge(b).output_nr,
        T.autograd.grad(y, [edge(b), edge(a)], retain_graph=True),
        T.autograd.grad(edge(b), x, T.ones(2, dtype=T.float64)),
    ]


@program
def nodes_called(T):
    x, one = leaf(T), T.ones(2, dtype=T.float64)
    return [
        (x * 2).grad_fn(one),
        (x * x).grad_fn(one),
        x.sum().grad_fn(T.ones((), dtype=T.float64)),
        said((x * x).grad_fn),
        said((x * x).grad_fn, one, one),
    ]


@program
def saved_values_shown(T):
    x = leaf(T)
    y, z = x * x, x.exp()
    found = [y.grad_fn._saved_self, y.grad_fn._saved_other, z.grad_fn._saved_result, kind(lambda: z.grad_fn._saved_foo)]
    y.sum().backward()
    return [*found, said(lambda: y.grad_fn._saved_self), y.grad_fn.metadata, y.grad_fn.name()]


# ---- saved_tensors_hooks ---------------------------------------------------------------------------------------------


@program
def packed_and_unpacked(T):
    x, log = leaf(T), []

    def pack(t):
        log.append(["pack", t.detach().clone(), t is x, T.is_grad_enabled()])
        return t.cpu().numpy()

    def unpack(a):
        log.append("unpack")
        return T.tensor(a) * 2

    with T.autograd.graph.saved_tensors_hooks(pack, unpack):
        y = x.sin()
    shown = y.grad_fn._saved_self
    y.sum().backward()
    return [log[0], shown, x.grad, said(lambda: y.grad_fn._saved_self), said(y.sum().backward)]


@program
def innermost_hooks_win(T):
    x, log = leaf(T), []
    hooks = T.autograd.graph.saved_tensors_hooks
    with hooks(lambda t: log.append("outer") or t, lambda t: t):
        with hooks(lambda t: log.append("inner") or t, lambda t: t):
            a = x.exp()
        b = x.exp()
        with T.no_grad():
            x.exp()
    (a * b).sum().backward()
    return [log, x.grad]


@program
def packed_second_order(T):
    x, count = leaf(T), []

    def pack(t):
        count.append(1)
        return t.detach().clone(), t

    with T.autograd.graph.saved_tensors_hooks(pack, lambda p: p[1]):
        y = (x * x).sin()
    (g,) = T.autograd.grad(y.sum(), x, create_graph=True)
    g.sum().backward()
    return [g, x.grad]


@program
def packed_values_are_not_watched(T):
    x = leaf(T)
    h = x * 1
    with T.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        y = h * h
    h.mul_(2)
    y.sum().backward()
    return x.grad


@program
def packed_before_a_write(T):
    found = []
    for pack in (lambda t: t.detach().clone(), lambda t: t.detach().cpu().numpy().copy()):
        x, w = leaf(T), leaf(T)
        with T.autograd.graph.saved_tensors_hooks(pack, lambda p: p if hasattr(p, "detach") else T.tensor(p)):
            h = x * w
            h.mul_(h).exp_().pow_(2)
            h[0] = w[1] * h[1]
            h.div_(w)
        h.sum().backward()
        found += [h, x.grad, w.grad]
    return found


@program
def wrong_saved_tensors_hooks(T):
    x = leaf(T)

    def attempt(pack, unpack):
        def run():
            with T.autograd.graph.saved_tensors_hooks(pack, unpack):
                y = x.exp()
            y.sum().backward()

        return said(run, length=60)

    def fails(t):
        raise ValueError("no")

    @T.autograd.graph.disable_saved_tensors_hooks("not here")
    def disabled():
        return attempt(lambda t: t, lambda t: t)

    def disabled_inside():
        with T.autograd.graph.saved_tensors_hooks(fails, fails):
            with T.autograd.graph.disable_saved_tensors_hooks("not there"):
                pass

    return [
        attempt(lambda t: t, lambda t: 3),
        attempt(lambda t: t, lambda t: None),
        attempt(lambda t: t, lambda t: [t]),
        attempt(fails, lambda t: t),
        attempt(lambda t: t, fails),
        attempt(lambda t: t.mul_(2), lambda t: t),
        disabled(),
        said(disabled_inside),
        attempt(lambda t: t, lambda t: t),
        T.is_grad_enabled(),
    ]


@program
def saved_on_the_cpu(T):
    x, w = leaf(T), leaf(T)
    with T.autograd.graph.save_on_cpu():
        y = (x * w).exp().sum()
    y.backward()
    return [x.grad, w.grad]


# ---- anomaly mode ----------------------------------------------------------------------------------------------------


def quietly(T: Any, on: bool = True, **kw: Any) -> Any:
    return T.autograd.set_detect_anomaly(on, **kw)


@program
def nan_is_found(T):
    x = leaf(T, 0.0, 1.0)
    with quietly(T):
        y = (x.sqrt() * 0).sum()
        found = [said(y.backward, length=56)]
        z = T.where(x > 0, x.log(), x).sum()
        found.append(said(z.backward, length=61))
    with quietly(T, check_nan=False):
        (x.sqrt() * 0).sum().backward()
    return [*found, x.grad]


@program
def nan_in_one_of_several_outputs(T):
    x = leaf(T, 4.0, 0.0, 1.0)
    with quietly(T):
        v, i = (x.sqrt() * 1).sort()
        a, b = v.split([1, 2])
        return [said((a * 0).sum().backward, retain_graph=True, length=60), said(b.sum().backward, length=60), x.grad]


@program
def nan_in_a_function(T):
    class Bad(T.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, a, b):
            return a * float("nan")

    x = leaf(T)
    with quietly(T):
        a, b = Bad.apply(x)
        return [said(a.sum().backward, length=61), said(b.sum().backward, length=61)]


@program
def nan_in_the_second_order(T):
    x = leaf(T, 0.0, 1.0)
    with quietly(T):
        (g,) = T.autograd.grad((x**1.5).sum(), x, create_graph=True)
        (h,) = T.autograd.grad(g.sum(), x, retain_graph=True)
        return [g, h, said(lambda: T.autograd.grad((g * 0).sum(), x), length=40)]


@program
def errors_in_anomaly_mode(T):
    x = leaf(T)

    def bad(g):
        raise KeyError("mine")

    with quietly(T):
        h = x * 2
        h.register_hook(bad)
        return [said(h.sum().backward)]


@program
def switching(T):
    A = T.autograd
    found = [A.anomaly_mode.set_detect_anomaly is A.set_detect_anomaly, T.is_anomaly_enabled()]
    with quietly(T):
        found += [T.is_anomaly_enabled(), T.is_anomaly_check_nan_enabled()]
        with quietly(T, check_nan=False):
            found += [T.is_anomaly_enabled(), T.is_anomaly_check_nan_enabled()]
        with quietly(T, False):
            found += [T.is_anomaly_enabled()]
        found += [T.is_anomaly_enabled(), T.is_anomaly_check_nan_enabled()]
    quietly(T, True)
    found.append(T.is_anomaly_enabled())
    quietly(T, False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with A.detect_anomaly():
            found.append(T.is_anomaly_enabled())
            with T.no_grad():
                found.append(T.is_anomaly_enabled())
    return [*found, T.is_anomaly_enabled()]


@program
def detect_anomaly_warns(T):
    def run():
        with T.autograd.detect_anomaly():
            return 1

    return warned(run)


@pytest.mark.parametrize("name", program)
def test_program(name: str) -> None:
    """Values, order and exceptions are torch's."""
    program.check(name)


# ---- without torch ---------------------------------------------------------------------------------------------------


def test_anomaly_mode_names_the_line_of_the_forward_call() -> None:
    T = tapegrad
    x = leaf(T, 0.0, 1.0)
    with T.autograd.set_detect_anomaly(True):
        y = x.sqrt()  # the culprit
        z = (y * 0).sum()
        with (
            np.errstate(all="ignore"),
            pytest.warns(UserWarning, match="(?s)Error detected in SqrtBackward0.*the culprit"),
        ):
            with pytest.raises(RuntimeError, match="SqrtBackward0.*test_hooks.py.*the culprit"):
                z.backward()


def test_anomaly_mode_adds_the_forward_call_to_any_error() -> None:
    T = tapegrad

    class Bad(T.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            raise KeyError("mine")

    with T.autograd.set_detect_anomaly(True):
        y = Bad.apply(leaf(T))  # the call
    with pytest.raises(KeyError) as caught:
        y.sum().backward()
    assert any("the call" in note for note in caught.value.__notes__)


def test_hooks_make_no_reference_cycles() -> None:
    T = tapegrad
    gc.disable()
    try:
        x = leaf(T)
        h = x * 2
        h.register_hook(lambda g: g * 2)
        h.retain_grad()
        h.grad_fn.register_hook(lambda i, o: None)
        with T.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
            y = (h.exp() * h).tanh()
        y.sum().backward(retain_graph=True)
        refs = [weakref.ref(t) for t in (h, y, h.grad_fn, y.grad_fn)]
        del h, y
        assert [r() for r in refs] == [None] * 4
    finally:
        gc.enable()


def test_saved_arrays_are_dropped_by_a_pack_hook() -> None:
    T = tapegrad
    with T.autograd.graph.saved_tensors_hooks(lambda t: None, lambda none: T.ones(1000, dtype=T.float64)):
        h = leaf(T, *np.ones(1000)) * 1
        alive = weakref.ref(h.array)
        y = h.exp().sin()
        del h
    assert alive() is None
    y.sum().backward()


def test_a_pack_hook_that_keeps_the_memory_keeps_the_value() -> None:
    """An in-place write does not reach what a hook that hands its tensor back has kept."""
    T = tapegrad
    grads = []
    for hooks in (False, True):
        x = leaf(T)
        h = x * 2
        with T.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t) if hooks else T.enable_grad():
            h.pow_(3)
            h.mul_(h)
        h.sum().backward()
        grads.append(x.grad.tolist())
    assert grads[0] == grads[1]


def test_a_gradient_dropped_by_its_hook_is_freed_while_the_walk_goes_on() -> None:
    T = tapegrad
    alive: list[Any] = []
    most = [0]

    def drop(t: Any) -> None:
        alive.append(weakref.ref(t.grad.array))
        most[0] = max(most[0], sum(r() is not None for r in alive))
        t.grad = None

    x = T.ones(10)
    weights = [T.ones(10, requires_grad=True) for _ in range(20)]
    for w in weights:
        w.register_post_accumulate_grad_hook(drop)
        x = (x * w).sin()
    x.sum().backward()
    assert len(alive) == 20 and most[0] <= 3


def test_multi_grad_hooks_in_several_threads() -> None:
    T = tapegrad
    x, w = leaf(T), leaf(T)
    seen: list[Any] = []
    T.autograd.graph.register_multi_grad_hook((x, w), lambda gs: seen.append([g.sum().item() for g in gs]))

    def work() -> None:
        for _ in range(20):
            T.autograd.grad((x * 2 + w * 3).sum(), [x, w])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert seen == [[4.0, 6.0]] * 80


def test_failed_backward_leaves_multi_grad_hooks_usable() -> None:
    T = tapegrad
    x, w = leaf(T), leaf(T)
    seen: list[Any] = []

    def bad(g: Any) -> None:
        raise KeyError("mine")

    handle = w.register_hook(bad)
    T.autograd.graph.register_multi_grad_hook((x, w), lambda gs: seen.append(len(gs)))
    with pytest.raises(KeyError):
        (x * w).sum().backward()
    handle.remove()
    (x * w).sum().backward()
    assert seen == [2]
