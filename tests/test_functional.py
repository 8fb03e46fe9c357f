"""autograd.functional and func beside PyTorch, and what must hold without it."""

from __future__ import annotations

import collections
import json
from typing import Any

import numpy as np
import pytest
import tapegrad
from both import Programs, kind, said
from tapegrad.autograd.op import OPS

program = Programs()
Point = collections.namedtuple("Point", "a b")


def vec(T: Any, *shape: int, seed: int = 0) -> Any:
    return T.tensor(np.random.default_rng(seed).normal(size=shape or (3,)))


def one(x: Any) -> Any:
    return (x**3).sum()


def two(x: Any, y: Any) -> Any:
    return (x.exp() * y.sin()).sum(1)


def pair(x: Any, y: Any) -> Any:
    return (x * y).sum(0), (x * x * y).sum()


def scalar2(x: Any, y: Any) -> Any:
    return (x.exp() * y * y).sum()


FORMS = {  # name: (function, shapes of its arguments, shapes of its outputs; one stands for a bare tensor)
    "one": (one, [(3,)], [()]),
    "vector": (lambda x: x.sin() * x.sum(), [(2, 2)], [(2, 2)]),
    "two": (two, [(2, 3), (2, 3)], [(2,)]),
    "pair": (pair, [(2, 3), (2, 3)], [(3,), ()]),
    "linear": (lambda x: 2 * x + 1, [(3,)], [(3,)]),
    "independent": (lambda x, y: (x * 2).sum(), [(3,), (2,)], [()]),
    "constant": (lambda x: (x * 0).detach() + 1, [(3,)], [(3,)]),
    "partly": (lambda x: (x * 2, (x * 3).detach()), [(3,)], [(3,), (3,)]),
    "quadratic": (lambda x: (x * x).sum(), [(3,)], [()]),
    "scalar2": (scalar2, [(2,), (2,)], [()]),
    "bilinear": (lambda x, y: x @ y, [(3,), (3,)], [()]),
}


def tensors(T: Any, shapes: list[Any], seed: int, as_tuple: bool | None = None) -> Any:
    made = tuple(vec(T, *s, seed=seed + i) if s else vec(T, 1, seed=seed + i)[0] for i, s in enumerate(shapes))
    return made if as_tuple or (as_tuple is None and len(made) > 1) else made[0]


def _table(T: Any, name: str, with_v: str | None, forms: Any = FORMS, **kw: Any) -> Any:
    call, found = getattr(T.autograd.functional, name), {}
    for form in forms:
        function, ins, outs = FORMS[form]
        for strict in (False, True):
            for create in (False, True):
                inputs = tensors(T, ins, 0)
                if create:
                    for t in inputs if isinstance(inputs, tuple) else (inputs,):
                        t.requires_grad_()
                args = [function, inputs]
                if with_v:
                    args.append(tensors(T, ins if with_v == "in" else outs, 7))
                found[f"{form} {strict} {create}"] = said(
                    call, *args, create_graph=create, strict=strict, length=45, **kw
                )
    return found


SCALAR = ("one", "quadratic", "independent", "scalar2", "bilinear")


@program
def vjps(T):
    return _table(T, "vjp", "out")


@program
def jvps(T):
    return _table(T, "jvp", "in")


@program
def jacobians(T):
    return _table(T, "jacobian", None)


@program
def hessians(T):
    return _table(T, "hessian", None, SCALAR)


@program
def vhps(T):
    return _table(T, "vhp", "in", SCALAR)


@program
def hvps(T):
    return _table(T, "hvp", "in", SCALAR)


@program
def vectorised(T):
    F, x, y = T.autograd.functional, vec(T, 2, 3), vec(T, 2, 3, seed=1)
    return [
        F.jacobian(two, (x, y), vectorize=True),
        F.hessian(scalar2, (x, y), vectorize=True),
        F.jacobian(two, (x, y), vectorize=True, strategy="reverse-mode"),
    ]


@program
def without_v(T):
    F, x = T.autograd.functional, vec(T)
    single = vec(T, 1)
    return [
        F.vjp(one, x),
        said(F.vjp, lambda x: x, x),
        F.jvp(lambda x: x * x, single),
        said(F.jvp, one, x),
        F.vhp(one, single),
        said(F.vhp, one, x),
        F.hvp(one, single),
        said(F.hvp, one, x),
    ]


@program
def tuples_stay_tuples(T):
    F, x = T.autograd.functional, vec(T)
    return [
        F.vjp(one, (x,)),
        F.vjp(lambda x: (x.sum(),), x, T.ones((), dtype=T.float64)),
        F.jvp(one, (x,), (x,)),
        F.jacobian(lambda x: (x * 2, x.sum()), x),
        F.jacobian(one, (x,)),
        F.hessian(one, (x,)),
        F.vhp(one, (x,), (x,)),
        F.hvp(one, (x,), x),
        F.vjp(lambda x: (x, x), x, (x, x)),
    ]


@program
def wrong_calls(T):
    F, x = T.autograd.functional, vec(T)
    wrong = [
        (F.vjp, one, [x]),
        (F.vjp, one, (x, 3)),
        (F.vjp, lambda x: 3, x),
        (F.vjp, lambda x: [x], x),
        (F.vjp, one, x, (x, x)),
        (F.vjp, one, x, x),
        (F.jvp, one, x, (x, x)),
        (F.jvp, one, x, vec(T, 4)),
        (F.jvp, one, 3),
        (F.jacobian, one, "x"),
        (F.jacobian, lambda x: (x, 2), x),
        (F.hessian, lambda x: x, x),
        (F.hessian, lambda x: (x.sum(), x), x),
        (F.hessian, lambda x: 3.0, x),
        (F.vhp, lambda x: x, x, x),
        (F.vhp, lambda x: (x.sum(),), x, x),
        (F.hvp, one, x, vec(T, 2)),
        (F.hvp, lambda x: x, x, x),
        (F.vjp, lambda x: x * 2, x, 3),
        (F.vjp, lambda x: (x, x), x, (x, 3)),
        (F.hvp, one, x, (x, x)),
        (F.hessian, lambda x: (x.sum(), x.sum()), x),
        (F.vhp, one, [x], x),
    ]
    return [said(f, *args, length=60) for f, *args in wrong]


@program
def results_are_detached(T):
    F, x = T.autograd.functional, vec(T).requires_grad_()
    w = vec(T, seed=3).requires_grad_()
    found = [
        F.vjp(lambda x: (x * w).sum(), x),
        F.jacobian(lambda x: x * w, x),
        F.hessian(lambda x: (x * x * w).sum(), x),
        F.jvp(lambda x: x * w, x, x),
    ]
    return [*found, x.grad, w.grad]


@program
def create_graph_goes_on(T):
    F, x = T.autograd.functional, vec(T).requires_grad_()
    j = F.jacobian(lambda x: x**3, x, create_graph=True)
    h = F.hessian(lambda x: (x**4).sum(), x, create_graph=True)
    v = F.vjp(lambda x: x**3, x, x.detach(), create_graph=True)[1]
    p = F.jvp(lambda x: x**3, x, x.detach(), create_graph=True)[1]
    q = F.hvp(lambda x: (x**4).sum(), x, x.detach(), create_graph=True)[1]
    (j.sum() + h.sum() + v.sum() + p.sum() + q.sum()).backward()
    return [j, h, v, p, q, x.grad]


@program
def inputs_keep_their_flags(T):
    F, x = T.autograd.functional, vec(T)
    seen = []
    F.vjp(lambda x: (seen.append([x.requires_grad, x.is_leaf]), x.sum())[1], x)
    F.jacobian(lambda x: (seen.append([x.requires_grad, x.is_leaf]), x.sum())[1], x, create_graph=True)
    with T.no_grad():
        found = F.jacobian(lambda x: x * x, x), F.hvp(one, x, x)
    return [seen, x.requires_grad, found, T.is_grad_enabled()]


@program
def empty_jacobians(T):
    F = T.autograd.functional
    return [F.jacobian(lambda x: x.sum(), T.zeros(0)), F.jacobian(lambda x: x.sum(), T.ones(()))]


@program
def complex_jacobian(T):
    x = T.complex(vec(T), vec(T, seed=1))
    return [
        T.autograd.functional.vjp(lambda x: x * x, x, x),
        T.autograd.functional.jacobian(lambda x: (x * x.conj()).real, x),
    ]


# ---- func ------------------------------------------------------------------------------------------------------------


@program
def grads(T):
    F, x, y = T.func, vec(T), vec(T, seed=1)
    return [
        F.grad(one)(x),
        F.grad(scalar2)(x, y),
        F.grad(scalar2, argnums=1)(x, y),
        F.grad(scalar2, argnums=(0, 1))(x, y),
        F.grad(scalar2, argnums=(1,))(x, y),
        F.grad(scalar2, argnums=-1)(x, y),
        F.grad(scalar2, (1, 0))(x, y),
        F.grad(lambda x, k=2: (x**k).sum())(x, k=3),
        F.grad(lambda x: ((x * x).sum(), x + 1), has_aux=True)(x),
        F.grad_and_value(one)(x),
        F.grad_and_value(lambda x: ((x * x).sum(), {"a": x}), has_aux=True)(x),
        F.grad_and_value(scalar2, argnums=(0, 1))(x, y),
    ]


@program
def nested_grads(T):
    F, x = T.func, vec(T, 1)[0]
    g = F.grad(T.sin)
    found = [g(x), F.grad(g)(x), F.grad(F.grad(g))(x), F.grad(F.grad(F.grad(lambda x: x**5)))(x)]
    found.append(F.grad(lambda x: F.grad(lambda y: x * y * y)(x) * x)(x))
    found.append(F.grad(lambda x: (F.jacrev(T.sin)(x) ** 2).sum())(vec(T)))
    found.append(F.jacrev(F.grad(one))(vec(T)))
    found.append(F.grad(lambda x: F.vjp(T.sin, x)[1](x)[0].sum())(vec(T)))
    found.append(F.grad(lambda x: F.jvp(T.sin, (x,), (x,))[1].sum())(vec(T)))
    three = T.tensor(3.0, dtype=T.float64)
    found.append(F.grad(lambda x: F.grad(lambda y: x * y * y)(three))(x))
    found.append(F.grad(lambda x: F.jacrev(lambda y: x * y * y)(three))(x))
    found.append(F.grad(lambda x: F.vjp(lambda y: x * y * y, three)[1](three)[0])(x))
    found.append(F.grad(lambda x: F.jvp(lambda y: x * y * y, (three,), (three,))[1])(x))
    with T.no_grad():
        found.append(F.grad(F.grad(T.sin))(x))
    return found


@program
def grads_of_trees(T):
    x, y = vec(T), vec(T, seed=1)

    def f(p):
        return (p["a"] * p["b"][0] ** 2).sum() + p["b"][1].sum()

    tree = {"a": x, "b": [y, (x * 2)]}
    g = T.func.grad(f)(tree)
    h = T.func.grad(lambda p: (p.a * p.b).sum())(Point(x, y))
    return [
        g,
        list(g),
        type(h).__name__,
        h.a,
        h.b,
        T.func.grad(lambda p: (p[0] * p[1]).sum())((x, y)),
        T.func.grad_and_value(f)(tree),
    ]


@program
def grads_inside_graphs(T):
    x, w = vec(T).requires_grad_(), vec(T, seed=1).requires_grad_()
    g = T.func.grad(lambda x: (x**3 * w).sum())(x)
    (g * g).sum().backward()
    return [g, x.grad, w.grad]


@program
def grads_of_closed_over_leaves(T):
    w = vec(T).requires_grad_()
    g = T.func.grad(lambda x: (x * w).sum())(vec(T, seed=1))
    return [g, w.grad]


@program
def grads_in_no_grad(T):
    with T.no_grad():
        g = T.func.grad(one)(vec(T))
    return [g, g.requires_grad]


@program
def unused_arguments(T):
    x, y = vec(T), vec(T, seed=1)
    return [
        T.func.grad(lambda x, y: y.sum())(x, y),
        T.func.grad(lambda x, y: y.sum(), argnums=(0, 1))(x, y),
        T.func.jacrev(lambda x, y: y * 2)(x, y),
        T.func.vjp(lambda x, y: x * 2, x, y)[1](x),
    ]


@program
def vjp_functions(T):
    F, x, y = T.func, vec(T), vec(T, seed=1)
    out, back = F.vjp(T.sin, x)
    found = [out, back(y), back(x)]
    out, back = F.vjp(lambda x, y: (x * y, {"s": x.sum()}), x, y)
    found += [out, back((y, {"s": T.ones((), dtype=T.float64)}))]
    out, back, aux = F.vjp(lambda x: (x * x, [x, x + 1]), x, has_aux=True)
    found += [out, back(y), aux]
    out, back = F.vjp(lambda p: p["a"] * p["b"], {"a": x, "b": y})
    found += [out, back(x)]
    _, back = F.vjp(lambda x: (x, x * 2), x)
    return [*found, back((x, y)), back((x, y), retain_graph=True), kind(back, x)]


@program
def jvps_of_func(T):
    F, x, y = T.func, vec(T), vec(T, seed=1)
    return [
        F.jvp(T.sin, (x,), (y,)),
        F.jvp(lambda a, b: a * b, (x, y), (y, x)),
        F.jvp(lambda a: (a * a, a.sum()), (x,), (y,)),
        F.jvp(lambda a: (a * a, a.sum()), (x,), (y,), has_aux=True),
        F.jvp(lambda a: a * 2, (x,), (y,)),
        F.jvp(lambda a: {"k": a.exp()}, (x,), (y,)),
    ]


@program
def jacobians_of_func(T):
    F, x, y = T.func, vec(T), vec(T, seed=1)
    found = []
    for jac in (F.jacrev, F.jacfwd):
        found += [
            jac(T.sin)(x),
            jac(lambda a, b: a * b.sum(), argnums=1)(x, y),
            jac(lambda a, b: a * b, argnums=(0, 1))(x, y),
            jac(lambda a: (a * a, a + 1), has_aux=True)(x),
            jac(lambda a: (a.sum(), {"k": a * a}))(x),
            jac(one)(x),
            jac(lambda p: p["a"] * p["b"])({"a": x, "b": y}),
            jac(lambda a: a[None] * a[:, None])(x),
            jac(jac(lambda x: x**3))(x),
        ]
    return [*found, F.hessian(one)(x), F.hessian(scalar2, argnums=1)(x, y), F.hessian(scalar2, argnums=(0, 1))(x, y)]


@program
def wrong_func_calls(T):
    F, x = T.func, vec(T)
    wrong = [
        lambda: F.grad(lambda x: x * 2)(x),
        lambda: F.grad(lambda x: 3.0)(x),
        lambda: F.grad(one, argnums=1)(x),
        lambda: F.grad(one)(3.0),
        lambda: F.grad(one, has_aux=True)(x),
        lambda: F.grad(lambda x: (x.sum(), 1, 2), has_aux=True)(x),
        lambda: F.grad(one)([x, 3]),
        lambda: F.jvp(one, x, x),
        lambda: F.jvp(one, (x,), (x, x)),
        lambda: F.vjp(one, x)[1](x),
        lambda: F.jacrev(lambda x: 3)(x),
        lambda: F.vjp(lambda x: 3, x),
        lambda: F.grad(one, argnums="x")(x),
        lambda: F.jacrev(one, argnums=2)(x),
        lambda: F.grad(lambda x: (x.sum(),))(x),
    ]
    return [kind(f) for f in wrong]


@program
def functional_calls(T):
    T.manual_seed(0)
    net = T.nn.Sequential(T.nn.Linear(3, 4), T.nn.Tanh(), T.nn.Linear(4, 2)).double()
    params = {k: v.detach() * 2 for k, v in net.named_parameters()}
    x = vec(T, 5, 3)

    def loss(params, x):
        return (T.func.functional_call(net, params, (x,)) ** 2).mean()

    g = T.func.grad(loss)(params, x)
    partial = T.func.functional_call(net, {"0.bias": params["0.bias"]}, x)
    return [
        loss(params, x),
        g,
        partial.detach(),
        T.func.grad(loss, argnums=1)(params, x),
        T.func.jacrev(loss)(params, x),
        [p.grad for p in net.parameters()],
    ]


@program
def maml_step(T):
    w, x, y = vec(T), vec(T, 4, 3, seed=1), vec(T, 4, seed=2)

    def loss(w, x, y):
        return ((x @ w - y) ** 2).mean()

    def adapted(w):
        return loss(w - 0.1 * T.func.grad(loss)(w, x, y), x, y)

    return [T.func.grad(adapted)(w), T.func.hessian(loss)(w, x, y), T.func.grad_and_value(adapted)(w)]


@program
def linearized(T):
    x, y = vec(T, 2, 3), vec(T, 2, 3, seed=1)
    out, push = T.func.linearize(two, x, y)
    wrong = said(push, x[0], y, length=0)
    tree, push_tree = T.func.linearize(lambda d: {"s": d["a"] * d["b"]}, {"a": x, "b": y})
    return [out, push(x, y), push(y, x), wrong, tree, push_tree({"a": y, "b": y})]


@program
def jacobian_chunks(T):
    x, f = vec(T, 2, 3), T.func
    return [
        f.jacrev(lambda x: x.sin() * x.sum(), chunk_size=4)(x), f.jacrev(lambda x: x.sin(), chunk_size=1)(x),
        f.jacfwd(lambda x: x.sin() * x.sum())(x), f.jacfwd(lambda x, y: x * y, argnums=(0, 1))(x, x),
        said(lambda: f.jacrev(one, chunk_size=0)), f.hessian(two, (0, 1))(x, x),
        f.jacfwd(lambda x: (x.sin(), x.sum()), has_aux=True)(x), f.functionalize(lambda x: x.clone().mul_(2))(x),
        said(lambda: f.functionalize(one, remove="x")(x), length=90),
        said(f.jvp, lambda x: x.detach() * 2, (x,), (x,), strict=True), f.jvp(one, (x,), (x,), strict=True),
    ]  # fmt: skip


@program
def tangents(T):
    ad = T.autograd.forward_ad
    x, t, w = vec(T, 3), vec(T, 3, seed=1), vec(T, 3, seed=2).requires_grad_()
    found = [said(lambda: ad.make_dual(x, t)), said(ad.exit_dual_level), list(ad.unpack_dual(x))]
    with ad.dual_level() as level:
        d = ad.make_dual(x, t)
        found += [level, said(ad.enter_dual_level), said(lambda: ad.make_dual(x, t[:2]))]
        found += [kind(lambda: ad.make_dual(x.int(), t)), list(ad.unpack_dual(d)), list(ad.unpack_dual((d * d).sin()))]
        found += [list(ad.unpack_dual(x))]
        both = ad.make_dual(vec(T, 3, seed=5), vec(T, 3, seed=6))
        found += [list(ad.unpack_dual(two(d[None], both[None]))), ad.unpack_dual(x * 2).tangent]
        primal, tangent = ad.unpack_dual(d * w)
        found += [T.autograd.grad(primal.sum() + tangent.pow(2).sum(), w)]
    return [*found, ad.unpack_dual(d * 2).tangent, type(ad.unpack_dual(x)).__name__]


@program
def threads_of_backward(T):
    found = [T.autograd.is_multithreading_enabled()]
    with T.autograd.set_multithreading_enabled(False):
        found.append(T.autograd.is_multithreading_enabled())
    switch = T.autograd.grad_mode.set_multithreading_enabled(False)
    found.append(T.autograd.is_multithreading_enabled())
    T.autograd.set_multithreading_enabled(True)
    return [*found, T.autograd.is_multithreading_enabled(), switch.mode]


@pytest.mark.parametrize("name", program)
def test_program(name: str) -> None:
    """Values, structures, flags and exceptions are torch's."""
    program.check(name, rtol=1e-9)


# ---- without torch ---------------------------------------------------------------------------------------------------


def test_value_and_grad() -> None:
    """The value first; otherwise as grad_and_value."""
    T = tapegrad
    x = vec(T)
    value, gradient = T.func.value_and_grad(one)(x)
    assert value.item() == pytest.approx(one(x).item())
    np.testing.assert_allclose(gradient.cpu().numpy(), 3 * x.cpu().numpy() ** 2)
    (value, aux), gradient = T.func.value_and_grad(lambda x: (one(x), "aux"), has_aux=True)(x)
    assert aux == "aux" and not value.requires_grad and not gradient.requires_grad


def test_hessian_is_the_derivative_of_the_gradient() -> None:
    T = tapegrad
    x = vec(T)
    h = T.func.hessian(lambda x: (x.sin() * x.sum()).sum())(x).cpu().numpy()
    eps = 1e-6
    for i in range(3):
        step = T.zeros(3, dtype=T.float64)
        step[i] = eps
        g = T.func.grad(lambda x: (x.sin() * x.sum()).sum())
        np.testing.assert_allclose(h[i], ((g(x + step) - g(x - step)) / (2 * eps)).cpu().numpy(), rtol=1e-6, atol=1e-8)


def test_jacobians_agree() -> None:
    T = tapegrad
    x, y = vec(T, 2, 3), vec(T, 2, 3, seed=1)
    by_functional = T.autograd.functional.jacobian(two, (x, y))
    by_func = T.func.jacrev(two, argnums=(0, 1))(x, y)
    for a, b in zip(by_functional, by_func, strict=True):
        np.testing.assert_array_equal(a.cpu().numpy(), b.cpu().numpy())
    v = vec(T, 2, seed=3)
    np.testing.assert_allclose(
        T.autograd.functional.vjp(two, (x, y), v)[1][0].cpu().numpy(),
        np.einsum("i,ijk->jk", v.cpu().numpy(), by_func[0].cpu().numpy()),
    )


def test_profile() -> None:
    """Ops, nodes and named parts are counted and timed, time inside of one not as its own; then all is as before."""
    T, p = tapegrad, tapegrad.autograd.profiler
    x = vec(T, 4, 4).requires_grad_()
    (x @ x).sum().backward()  # so that the nodes' functions exist
    before = dict(OPS["mm"].kernels), OPS["mm"].vjp
    with p.profile() as prof:
        with p.record_function("step"):
            for _ in range(3):
                (x @ x).sum().backward()
        p.record_function("named")(lambda: x + 1)()
    sums = {e.key: e for e in prof.key_averages()}
    assert sums["mm"].count == 9 and sums["MmBackward0"].count == 3  # two of the nine in each node
    assert sums["step"].count == sums["named"].count == 1
    assert sums["step"].cpu_time_total > sums["MmBackward0"].cpu_time_total
    assert sums["step"].self_cpu_time_total < sums["step"].cpu_time_total
    events = prof.function_events
    assert events[0].name == "step" and sum(e.self_cpu_time_total for e in events) == pytest.approx(
        sum(e.cpu_time_total for e in events if e.name in ("step", "named"))
    )
    assert "MmBackward0" in prof.key_averages().table(sort_by="self_cpu_time_total", row_limit=20)
    assert (dict(OPS["mm"].kernels), OPS["mm"].vjp) == before
    with p.profile(enabled=False) as off, p.record_function("nothing"):
        pass
    with pytest.raises(RuntimeError, match="didn't finish"):
        _ = off.function_events


def test_chrome_trace(tmp_path: Any) -> None:
    with tapegrad.autograd.profiler.profile() as prof:
        vec(tapegrad) * 2
    prof.export_chrome_trace(str(tmp_path / "trace.json"))
    trace = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    (event,) = [e for e in trace if e["ph"] == "X"]
    assert event["name"] == "mul" and event["dur"] >= 0
