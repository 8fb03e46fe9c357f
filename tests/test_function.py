"""autograd.Function: PyTorch's contract, as programs run on both libraries, and what must hold without torch."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import tapegrad
from both import Programs, kind, said, warned

program = Programs()


def leaf(T: Any, *shape: int) -> Any:
    shape = shape or (3,)
    return T.tensor(np.random.default_rng(len(shape)).normal(size=shape)).requires_grad_()


def function(T: Any, forward: Any, backward: Any = None, **more: Any) -> Any:
    """A Function class of the given methods."""
    body = {"forward": staticmethod(forward), **{k: staticmethod(v) if callable(v) else v for k, v in more.items()}}
    if backward is not None:
        body["backward"] = staticmethod(backward)
    return type("Cube", (T.autograd.Function,), body)


def cube(T: Any) -> Any:
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**3

    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * 3 * x**2

    return function(T, forward, backward)


@program
def saved_input(T):
    x = leaf(T)
    y = cube(T).apply(x)
    y.sum().backward()
    return [y, x.grad, y.is_leaf, y.grad_fn.name(), y.grad_fn.next_functions[0][0].variable is x]


@program
def third_order(T):
    x = leaf(T)
    (g,) = T.autograd.grad(cube(T).apply(x).sum(), x, create_graph=True)
    (h,) = T.autograd.grad((g * g).sum(), x, create_graph=True)
    h.sum().backward()
    return [g, h, x.grad]


@program
def saved_output(T):
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y

    x = leaf(T)
    y = function(T, forward, backward).apply(x * 1)
    (g,) = T.autograd.grad(y.sum(), x, create_graph=True)
    g.sum().backward()
    return [y, g, x.grad]


@program
def saved_intermediate(T):
    def forward(ctx, x):
        e = x.exp()
        ctx.save_for_backward(x, e, None)
        return e.sin()

    def backward(ctx, g):
        x, e, nothing = ctx.saved_tensors
        assert nothing is None
        return g * e.cos() * e

    x = leaf(T)
    y = function(T, forward, backward).apply(x)
    (g,) = T.autograd.grad(y.sum(), x, create_graph=True)
    return [y, g]


@program
def what_saved_tensors_are(T):
    seen = []

    def forward(ctx, x, w, c):
        y = x * w
        ctx.save_for_backward(x, w, c, y)
        return y

    def backward(ctx, g):
        a, b, c, y = ctx.saved_tensors
        seen.extend([a is x, b is w, c is const, y.requires_grad, y.is_leaf, a.requires_grad, c.requires_grad])
        seen.append(y.grad_fn.name() if y.grad_fn is not None else None)
        seen.append(T.is_grad_enabled())
        return g * b, g * a, None

    const = T.ones(3)
    x, w = leaf(T), leaf(T) * 2
    F = function(T, forward, backward)
    y = F.apply(x, w, const)
    y.sum().backward(retain_graph=True)
    T.autograd.grad(y.sum(), x, create_graph=True)
    return seen


@program
def saved_leaf_that_needs_no_gradient(T):
    seen = []

    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        seen.append(type(w).__name__)
        return g * w, g * x

    x, w = leaf(T), T.nn.Parameter(T.ones(3, dtype=T.float64))
    w.requires_grad_(False)
    function(T, forward, backward).apply(x, w).sum().backward()
    return [seen, x.grad]


@program
def freed_tensors(T):
    x = leaf(T)
    y = cube(T).apply(x)
    node = y.grad_fn
    y.sum().backward()
    return [said(lambda: node.saved_tensors), said(y.sum().backward), said(lambda: T.autograd.grad(y.sum(), x))]


@program
def the_node_shows_what_the_context_holds(T):
    def forward(ctx, x, n):
        ctx.save_for_backward(x)
        ctx.n, ctx.word = n, "hello"
        return x * n

    x = leaf(T)
    y = function(T, forward, lambda ctx, g: (g * ctx.n, None)).apply(x, 4)
    node = y.grad_fn
    return [node.n, node.word, node.saved_tensors[0], node.needs_input_grad, kind(lambda: node.nothing), node.name()]


@program
def no_saved_tensors_is_freed_never(T):
    x = leaf(T)
    y = function(T, lambda ctx, x: x * 2, lambda ctx, g: g * 2).apply(x)
    y.sum().backward()
    y.sum().backward()
    return x.grad


@program
def stale_saved_tensor(T):
    x = leaf(T) * 1
    y = cube(T).apply(x)
    x.mul_(2)
    return said(y.sum().backward)


@program
def stale_saved_output(T):
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    y = function(T, forward, lambda ctx, g: g * ctx.saved_tensors[0]).apply(leaf(T))
    y.add_(1)
    return said(y.sum().backward)


@program
def which_inputs_need_gradients(T):
    seen = []

    def forward(ctx, x, n, c, w):
        seen.append(ctx.needs_input_grad)
        return x * n + c + w

    def backward(ctx, g):
        seen.append(ctx.needs_input_grad)
        return g * 2, None, g, g

    F = function(T, forward, backward)
    x, c, w = leaf(T), T.ones(3), leaf(T) * 1
    F.apply(x, 2, c, w).sum().backward()
    with T.no_grad():
        F.apply(x, 2, c, w)
    F.apply(c, 2, c, c)
    y = F.apply(x, 2, c, w)
    T.autograd.grad(y.sum(), w)
    return [seen, x.grad]


@program
def two_outputs(T):
    seen = []

    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w, x + w

    def backward(ctx, gp, gs):
        x, w = ctx.saved_tensors
        seen.extend([gp, gs])
        return gp * w + gs, gp * x + gs

    F = function(T, forward, backward)
    x, w = leaf(T), leaf(T)
    p, s = F.apply(x, w)
    (p * s).sum().backward()
    found = [x.grad.clone(), w.grad.clone(), p.grad_fn is s.grad_fn, p.output_nr, s.output_nr]
    F.apply(x, w)[1].sum().backward()
    F.apply(x, w)[0][:1].sum().backward()
    return [*found, x.grad, w.grad, seen]


@program
def absent_gradients_not_materialised(T):
    seen = []

    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        return x * 2, x * 3

    def backward(ctx, a, b):
        seen.append([a is None, b is None])
        return (0 if a is None else a * 2) + (0 if b is None else b * 3)

    F = function(T, forward, backward)
    x = leaf(T)
    F.apply(x)[0].sum().backward()
    F.apply(x)[1].sum().backward()
    a, b = F.apply(x)
    (a * b).sum().backward()
    return [seen, x.grad]


@program
def outputs_that_are_no_tensors(T):
    seen = []

    def forward(ctx, x):
        return x * 2, 5, None, "word", [x]

    def backward(ctx, *gradients):
        seen.extend(gradients)
        return gradients[0] * 2

    x = leaf(T)
    y, n, nothing, word, several = function(T, forward, backward).apply(x)
    y.sum().backward()
    return [y, n, nothing, word, len(several), seen, x.grad]


@program
def integer_outputs(T):
    seen = []

    def forward(ctx, x):
        v, i = x.sort()
        return v, i

    def backward(ctx, g, gi):
        seen.append(gi)
        return g

    x = leaf(T)
    v, i = function(T, forward, backward).apply(x)
    v.sum().backward()
    return [v.requires_grad, i.requires_grad, i.grad_fn is None, i, seen]


@program
def only_an_integer_output(T):
    x = leaf(T)
    y = function(T, lambda ctx, x: x.argmax(), lambda ctx, g: g).apply(x)
    return [y, y.grad_fn is None]


@program
def marked_non_differentiable(T):
    seen = []

    def forward(ctx, x):
        a, b = x * 2, x > 0
        c = x * 3
        ctx.mark_non_differentiable(b, c)
        return a, b, c

    def backward(ctx, ga, gb, gc_):
        seen.extend([ga, gb, gc_])
        return ga * 2

    x = leaf(T)
    a, b, c = function(T, forward, backward).apply(x)
    (a * c).sum().backward()
    return [a, b, c, c.is_leaf, x.grad, seen]


@program
def dirty_input(T):
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    F = function(T, forward, lambda ctx, g: g * 2)
    x = leaf(T)
    h = x * 3
    y = F.apply(h)
    y.sum().backward()
    c = T.ones(3)
    d = F.apply(c)
    return [y is h, y, h.grad_fn.name(), x.grad, h._version, d is c, d, c._version]


@program
def dirty_leaf(T):
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    F = function(T, forward, lambda ctx, g: g * 2)
    x = leaf(T)
    with T.no_grad():
        y = F.apply(x)
    return [said(F.apply, leaf(T)), y, x]


@program
def dirty_but_not_returned(T):
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x + 1

    return said(function(T, forward, lambda ctx, g: g).apply, leaf(T) * 1)


@program
def dirty_of_what_is_no_tensor(T):
    def forward(ctx, x):
        ctx.mark_dirty(3)
        return x

    return kind(function(T, forward, lambda ctx, g: g).apply, leaf(T) * 1)


@program
def dirty_that_is_no_input(T):
    def forward(ctx, x):
        y = x.clone()
        ctx.mark_dirty(y)
        return y

    return kind(lambda: function(T, forward, lambda ctx, g: g).apply(leaf(T) * 1).sum().backward())


@program
def dirty_view(T):
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    F = function(T, forward, lambda ctx, g: g * 2)
    x = leaf(T, 3, 4)
    h = x * 3
    v = h[1]
    y = F.apply(v)
    (h * h).sum().backward()
    return [y is v, h, x.grad, "CopySlices" in h.grad_fn.name()]


@program
def dirty_and_saved(T):
    def forward(ctx, x):
        x.exp_()
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    x = leaf(T)
    y = function(T, forward, lambda ctx, g: g * ctx.saved_tensors[0]).apply(x * 1)
    (g,) = T.autograd.grad(y.sum(), x, create_graph=True)
    g.sum().backward()
    return [y, g, x.grad]


@program
def dirty_beside_another_output(T):
    def forward(ctx, x, w):
        x.add_(w)
        ctx.mark_dirty(x)
        ctx.save_for_backward(w)
        return x, w * w

    def backward(ctx, gx, gw):
        (w,) = ctx.saved_tensors
        return gx, gx + 2 * w * gw

    x, w = leaf(T), leaf(T)
    h = x * 2
    a, b = function(T, forward, backward).apply(h, w)
    (a * b).sum().backward()
    return [a is h, x.grad, w.grad, a.output_nr, b.output_nr]


@program
def input_returned(T):
    x = leaf(T)
    F = function(T, lambda ctx, x: x, lambda ctx, g: g * 5)
    y = F.apply(x)
    y.sum().backward()
    c = T.ones(3)
    z = F.apply(c)
    h = x * 1
    k = F.apply(h)
    return [
        y is x,
        y,
        x.grad,
        x.is_leaf,
        z is c,
        z,
        y.data_ptr() == x.data_ptr(),
        k is h,
        y._is_view(),
        h.grad_fn.name(),
        k.grad_fn.name(),
    ]


@program
def input_returned_twice(T):
    def forward(ctx, x, w):
        return x, w, x * 2

    x, w = leaf(T), T.ones(3)
    a, b, c = function(T, forward, lambda ctx, a, b, c: (a * 2 + c, b)).apply(x, w)
    (a + b + c).sum().backward()
    return [a.requires_grad, b.requires_grad, c.requires_grad, b is w, x.grad]


@program
def view_returned(T):
    F = function(T, lambda ctx, x: x.view(2, 2), lambda ctx, g: g.reshape(4) * 3)
    x = leaf(T, 4)
    h = x * 1
    y = F.apply(h)
    y.sum().backward()
    found = [y.grad_fn.name(), x.grad, y.data_ptr() == h.data_ptr()]
    return [*found, said(y.mul_, 2)]


@program
def view_of_a_constant_returned(T):
    F = function(T, lambda ctx, c, x: c[1:] * 1 + x * 0, lambda ctx, g: (None, g))
    y = F.apply(T.ones(4, dtype=T.float64), leaf(T))
    y.add_(1)
    return y


@program
def output_written_in_place(T):
    x = leaf(T)
    y = cube(T).apply(x)
    y.mul_(2).add_(x)
    y.sum().backward()
    return [y, x.grad]


@program
def with_setup_context(T):
    def forward(x, n=3):
        return x**n

    def setup_context(ctx, inputs, output):
        ctx.inputs = len(inputs)
        x, ctx.n = inputs[:2]
        ctx.save_for_backward(x, output)

    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return (g * ctx.n * y / x, *[None] * (ctx.inputs - 1))

    F = function(T, forward, backward, setup_context=setup_context)
    x = leaf(T)
    y = F.apply(x, 3)
    y.sum().backward()
    (g,) = T.autograd.grad(F.apply(x, 2).sum(), x, create_graph=True)
    (h,) = T.autograd.grad(g.sum(), x)
    return [y, x.grad, y.grad_fn.name(), g, h]


@program
def setup_context_with_defaults(T):
    def forward(x, n=3):
        return x**n

    def setup_context(ctx, inputs, output):
        x, ctx.n = inputs
        ctx.save_for_backward(x)

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * ctx.n * x ** (ctx.n - 1), None

    F = function(T, forward, backward, setup_context=setup_context)
    x = leaf(T)
    F.apply(x).sum().backward()
    F.apply(x, n=2).sum().backward()
    return [x.grad, kind(F.apply), kind(F.apply, x, 2, 3), kind(F.apply, x, other=1)]


@program
def keywords_without_setup_context(T):
    return kind(cube(T).apply, x=leaf(T))


@program
def vjp_is_another_name_of_backward(T):
    x = leaf(T)
    F = function(T, lambda ctx, x: x * 2, vjp=lambda ctx, g: g * 2)
    F.apply(x).sum().backward()
    both = function(T, lambda ctx, x: x * 2, lambda ctx, g: g, vjp=lambda ctx, g: g * 2)
    return [x.grad, kind(lambda: both.apply(x).sum().backward())]


@program
def once_differentiable(T):
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 2 * x

    once = T.autograd.function.once_differentiable(backward)
    x = leaf(T)
    F = function(T, forward, once)
    F.apply(x).sum().backward()
    (g,) = T.autograd.grad(F.apply(x).sum(), x, create_graph=True)
    return [x.grad, g, g.requires_grad, said(g.sum().backward)]


@program
def once_differentiable_with_several_gradients(T):
    def forward(ctx, x, n, w):
        return x * w

    def backward(ctx, g):
        return g, None, g * 2

    x, w = leaf(T), leaf(T)
    y = function(T, forward, T.autograd.function.once_differentiable(backward)).apply(x, 3, w)
    gx, gw = T.autograd.grad((y * y).sum(), [x, w], create_graph=True)
    return [gx.requires_grad, gw.requires_grad, said(gx.sum().backward, length=30)]


@program
def wrong_number_of_gradients(T):
    x, w = leaf(T), leaf(T)

    def attempt(backward):
        return said(lambda: function(T, lambda ctx, *a: a[0] * a[1], backward).apply(x, w).sum().backward(), length=90)

    return [
        attempt(lambda ctx, g: g),
        attempt(lambda ctx, g: ()),
        attempt(lambda ctx, g: (g, g, g)),
        attempt(lambda ctx, g: (g, g, None, None)),
        attempt(lambda ctx, g: [g, g]),
        attempt(lambda ctx, g: None),
        attempt(lambda ctx, g: (None, None)),
    ]


@program
def wrong_kind_of_gradient(T):
    x = leaf(T)

    def attempt(*answer, second=3):
        F = function(T, lambda ctx, a, b: a * 2, lambda ctx, g: answer)
        return said(lambda: F.apply(x, second).sum().backward(), length=30)

    return [
        attempt(5, None),
        attempt("g", None),
        attempt(x.detach(), 1),
        attempt(x.detach(), x.detach()),
        attempt(np.ones(3), None),
    ]


@program
def wrong_shape_of_gradient(T):
    def attempt(shape, answer):
        x = T.ones(shape, dtype=T.float64, requires_grad=True)
        F = function(T, lambda ctx, a: a.sum(), lambda ctx, g: answer)
        return said(lambda: (F.apply(x).backward(), x.grad)[1], length=110)

    return [
        attempt((3,), T.ones(4)),
        attempt((3,), T.ones(2, 3, dtype=T.float64)),
        attempt((1,), T.ones(5, dtype=T.float64)),
        attempt((3,), T.ones(())),
        attempt((3,), T.ones(1)),
        attempt((2, 1), T.ones(2, 4)),
        attempt((), T.ones(2, 2)),
        attempt((3, 1), T.ones(3)),
        attempt((1, 3), T.ones(3)),
        attempt((0,), T.ones(0)),
        attempt((2,), T.ones(0)),
    ]


@program
def gradients_are_converted(T):
    def attempt(dtype, answer):
        x = T.ones(2, dtype=dtype, requires_grad=True)
        F = function(T, lambda ctx, a: a * 1, lambda ctx, g: answer)
        return said(lambda: (F.apply(x).sum().backward(), x.grad)[1])

    return [
        attempt(T.float32, T.ones(2, dtype=T.float64)),
        attempt(T.float64, T.ones(2)),
        attempt(T.float32, T.ones(2, dtype=T.int64)),
        attempt(T.float32, T.ones(2, dtype=T.complex64) * (1 + 2j)),
        attempt(T.complex64, T.ones(2)),
        attempt(T.float16, T.ones(2)),
    ]


@program
def gradients_are_converted_in_second_order(T):
    x = leaf(T)
    F = function(T, lambda ctx, a: a * 1, lambda ctx, g: (g * g).float())
    (g,) = T.autograd.grad(F.apply(x * x).sum(), x, create_graph=True)
    g.sum().backward()
    return [g, x.grad]


@program
def gradient_for_an_argument_that_needs_none(T):
    x, c = leaf(T), T.ones(3)
    F = function(T, lambda ctx, a, b: a * b, lambda ctx, g: (g, g * 2))
    F.apply(x, c).sum().backward()
    return [x.grad, c.grad]


@program
def no_gradient_at_all(T):
    x = leaf(T)
    F = function(T, lambda ctx, a: a * 2, lambda ctx, g: None)
    y = F.apply(x * 1)
    y.sum().backward()
    return [
        x.grad,
        said(lambda: T.autograd.grad(F.apply(x).sum(), x)),
        T.autograd.grad(F.apply(x).sum(), x, allow_unused=True),
    ]


@program
def the_same_tensor_twice(T):
    x = leaf(T)
    F = function(T, lambda ctx, a, b: a * b, lambda ctx, g: (g * 2, g * 3))
    F.apply(x, x).sum().backward()
    return x.grad


@program
def inside_no_grad(T):
    x = leaf(T)
    with T.no_grad():
        y = cube(T).apply(x)
    return [y, y.is_leaf]


@program
def modes_inside_forward(T):
    seen = []

    def forward(ctx, x):
        seen.append(T.is_grad_enabled())
        seen.append((x * 2).requires_grad)
        seen.append(x.requires_grad)
        with T.enable_grad():
            inner = (x * 2).requires_grad
        seen.append(inner)
        return x * 2

    def backward(ctx, g):
        seen.append(T.is_grad_enabled())
        return g * 2

    x = leaf(T)
    F = function(T, forward, backward)
    F.apply(x).sum().backward()
    T.autograd.grad(F.apply(x).sum(), x, create_graph=True)
    seen.append(T.is_grad_enabled())
    return seen


@program
def forward_that_records_inside(T):
    def forward(ctx, x):
        with T.enable_grad():
            ctx.x = x.detach().requires_grad_()
            ctx.y = (ctx.x**2).sum()
        return ctx.y.detach()

    def backward(ctx, g):
        (inner,) = T.autograd.grad(ctx.y, ctx.x, g)
        return inner

    x = leaf(T)
    function(T, forward, backward).apply(x).backward()
    return x.grad


@program
def recorded_result_returned(T):
    def forward(ctx, x):
        with T.enable_grad():
            return x * 2

    x = leaf(T)
    y = function(T, forward, lambda ctx, g: g * 7).apply(x)
    y.sum().backward()
    return [y, y.grad_fn.name(), x.grad]


@program
def functions_in_functions(T):
    F = cube(T)

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.apply(x) * 2

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        with T.enable_grad():
            h = F.apply(x.detach().requires_grad_())
        return g * 6 * x * x + 0 * h.detach()

    x = leaf(T)
    function(T, forward, backward).apply(x).sum().backward()
    return x.grad


@program
def backward_that_raises(T):
    def backward(ctx, g):
        raise KeyError("mine")

    x = leaf(T)
    y = function(T, lambda ctx, x: x * 2, backward).apply(x)
    return [
        said(y.sum().backward),
        T.is_grad_enabled(),
        said(lambda: T.autograd.grad(y.sum(), x, create_graph=True)),
        T.is_grad_enabled(),
    ]


@program
def forward_that_raises(T):
    def forward(ctx, x):
        raise KeyError("mine")

    return [said(function(T, forward).apply, leaf(T)), T.is_grad_enabled()]


@program
def missing_methods(T):
    class Bare(T.autograd.Function):
        pass

    class Half(T.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

    x = leaf(T)
    y = Half.apply(x)
    return [said(Bare.apply, x), y.requires_grad, said(y.sum().backward)]


@program
def called_as_an_object(T):
    F = cube(T)
    f = F()
    return [said(f, leaf(T)), type(f).__name__, type(F(1, 2)).__name__]


@program
def called_as_an_object_warns(T):
    return warned(lambda: type(cube(T)()).__name__)


@program
def saving_what_is_no_tensor(T):
    def forward(ctx, x):
        ctx.save_for_backward(x, 3)
        return x

    return said(function(T, forward, lambda ctx, g: g).apply, leaf(T), length=90)


@program
def saving_twice(T):
    def forward(ctx, x):
        ctx.save_for_backward(x, x)
        ctx.save_for_backward(x * 2)
        return x * 1

    def backward(ctx, g):
        (a,) = ctx.saved_tensors
        return g * a

    x = leaf(T)
    function(T, forward, backward).apply(x).sum().backward()
    return x.grad


@program
def attributes_of_the_class(T):
    seen = []

    class Scaled(T.autograd.Function):
        factor = 4

        @staticmethod
        def forward(ctx, x):
            seen.append([type(ctx).__name__, ctx.needs_input_grad])
            ctx.shape = x.shape
            return x * Scaled.factor

        @staticmethod
        def backward(ctx, g):
            seen.append([tuple(ctx.shape), type(ctx).__name__])
            return g * Scaled.factor

        @classmethod
        def call(cls, x):
            return cls.apply(x)

    x = leaf(T)
    Scaled.call(x).sum().backward()
    return [seen, x.grad]


@program
def generate_vmap_rule_changes_nothing(T):
    F = function(
        T, lambda x: x * 2, lambda ctx, g: g * 2, setup_context=lambda ctx, i, o: None, generate_vmap_rule=True
    )
    x = leaf(T)
    F.apply(x).sum().backward()
    return x.grad


@program
def hooks_on_its_node(T):
    x = leaf(T)
    y = cube(T).apply(x)
    seen = []
    y.grad_fn.register_prehook(lambda outs: (outs[0] * 2,))
    y.grad_fn.register_hook(lambda ins, outs: seen.append([len(ins), len(outs), ins[0], outs[0]]))
    y.register_hook(lambda g: g + 1)
    y.retain_grad()
    y.sum().backward()
    return [x.grad, y.grad, seen]


@program
def hooks_on_one_of_several_outputs(T):
    F = function(T, lambda ctx, x: (x * 2, x * 3), lambda ctx, a, b: a * 2 + b * 3)
    x = leaf(T)
    a, b = F.apply(x)
    seen = []
    a.register_hook(lambda g: g * 10)
    b.register_hook(seen.append)
    a.grad_fn.register_hook(lambda ins, outs: seen.append([*ins, *outs]))
    b.retain_grad()
    (a + 2 * b).sum().backward()
    return [x.grad, b.grad, seen]


@program
def printed(T):
    y = cube(T).apply(T.tensor([1.0, 2.0], requires_grad=True))
    return [repr(y), repr(y[0])]


@program
def saved_tensors_go_through_hooks(T):
    packed = []

    def pack(t):
        packed.append(t.detach().clone())
        return t.detach().clone()

    x = leaf(T)
    with T.autograd.graph.saved_tensors_hooks(pack, lambda t: t * 2):
        y = cube(T).apply(x)
    y.sum().backward()
    return [packed, x.grad]


@program
def many_inputs_without_gradient(T):
    x = leaf(T)
    F = function(T, lambda ctx, n, d, x, t: x * n, lambda ctx, g: (None, None, g * 2, None))
    F.apply(2, {"a": 1}, x, (x, x)).sum().backward()
    return x.grad


@program
def tuple_of_one(T):
    x = leaf(T)
    y = function(T, lambda ctx, x: (x * 2,), lambda ctx, g: (g * 2,)).apply(x)
    y[0].sum().backward()
    return [type(y).__name__, x.grad]


@program
def list_returned(T):
    x = leaf(T)
    return said(lambda: function(T, lambda ctx, x: [x * 2, x], lambda ctx, *g: g[0]).apply(x), length=0)


@program
def nothing_returned(T):
    return said(function(T, lambda ctx, x: None, lambda ctx, g: g).apply, leaf(T))


@program
def the_seed_is_what_backward_gets(T):
    seen = []

    def backward(ctx, g):
        seen.append(g)
        return g

    x = leaf(T)
    y = function(T, lambda ctx, x: x * 1, backward).apply(x)
    y.backward(T.arange(3.0, dtype=T.float64))
    (y * 1).backward(T.ones(3, dtype=T.float64))
    return [seen, x.grad]


@program
def gradient_written_by_backward(T):
    def backward(ctx, g):
        return g.mul_(2)

    x = leaf(T)
    y = function(T, lambda ctx, x: x * 1, backward).apply(x)
    (y * 3).sum().backward()
    return x.grad


@program
def one_gradient_for_both_inputs(T):
    F = function(T, lambda ctx, a, b: a + b, lambda ctx, g: (g, g))
    x, w = leaf(T), leaf(T)
    F.apply(x, w).sum().backward()
    x.grad.mul_(5)
    return [x.grad, w.grad]


@program
def saved_tensor_handed_out_as_gradient(T):
    c = T.ones(3, dtype=T.float64)

    def forward(ctx, x):
        ctx.save_for_backward(c)
        return x.sum()

    x = leaf(T)
    y = function(T, forward, lambda ctx, g: ctx.saved_tensors[0]).apply(x)
    y.backward(retain_graph=True)
    y.backward()
    x.grad.mul_(3)
    return [x.grad, c]


@program
def other_base_classes(T):
    class Inplace(T.autograd.function.InplaceFunction):
        @staticmethod
        def forward(ctx, x, inplace=False):
            ctx.inplace = inplace
            if ctx.inplace:
                ctx.mark_dirty(x)
                return x.mul_(2)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2, None

    x = leaf(T)
    Inplace.apply(x).sum().backward()
    Inplace.apply(x * 1, True).sum().backward()
    return [x.grad, issubclass(Inplace, T.autograd.Function)]


@program
def straight_through_estimator(T):
    F = function(T, lambda ctx, x: (x > 0).to(x.dtype), lambda ctx, g: T.nn.functional.hardtanh(g))
    x = leaf(T)
    (F.apply(x) * 3).sum().backward()
    return x.grad


@program
def gradient_reversal(T):
    def forward(ctx, x, alpha):
        ctx.alpha = alpha
        return x.view_as(x)

    x = leaf(T)
    y = function(T, forward, lambda ctx, g: (g.neg() * ctx.alpha, None)).apply(x, 0.5)
    (y * y).sum().backward()
    return [y, x.grad]


@program
def gradcheck_of_a_function(T):
    x = leaf(T)
    wrong = function(T, lambda ctx, x: x * x, lambda ctx, g: g)
    return [
        T.autograd.gradcheck(cube(T).apply, (x,)),
        T.autograd.gradgradcheck(cube(T).apply, (x,)),
        said(lambda: T.autograd.gradcheck(wrong.apply, (x,)), length=60),
    ]


@pytest.mark.parametrize("name", program)
def test_program(name: str) -> None:
    """Values, gradients, flags, exceptions and their texts are torch's."""
    program.check(name)


# ---- without torch ---------------------------------------------------------------------------------------------------


def test_no_reference_cycles() -> None:
    """With the collector off, a dropped graph of Functions is freed at once, before and after a backward pass."""
    T = tapegrad
    gc.disable()
    try:
        for run in (False, True):
            x = leaf(T)

            def forward(ctx: Any, x: Any) -> Any:
                y = x.exp()
                ctx.save_for_backward(x, y)
                ctx.note = "kept"
                return y, x * 2

            def backward(ctx: Any, a: Any, b: Any) -> Any:
                x, y = ctx.saved_tensors
                return a * y + b * 2 * x / x

            a, b = function(T, forward, backward).apply(x * 1)
            total = (a * b).sum()
            refs = [weakref.ref(v) for v in (a, b, a.grad_fn)]
            if run:
                total.backward(create_graph=True)
                x.grad = None
            del a, b, total
            assert [r() for r in refs] == [None] * 3
    finally:
        gc.enable()


def test_saved_tensors_are_freed_by_the_walk() -> None:
    T = tapegrad
    kept = [T.ones(1000) * 1]
    alive = weakref.ref(kept[0].array)

    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x, kept.pop())
        return x * 2

    x = leaf(T)
    F = function(T, forward, lambda ctx, g: g * 2)
    y = F.apply(x)
    del forward, F
    gc.collect()
    assert alive() is not None
    y.sum().backward()
    gc.collect()
    assert alive() is None


def test_gradients_of_another_device_are_refused() -> None:
    T = tapegrad
    x = T.ones(3, requires_grad=True, device="cpu")
    y = function(T, lambda ctx, x: x * 2, lambda ctx, g: T.ones(3, device="fake")).apply(x)
    with pytest.raises(RuntimeError, match="CubeBackward.*index 0.*fake"):
        y.sum().backward()


def test_errors_name_the_function() -> None:
    T = tapegrad
    x = leaf(T)
    for answer in [(), T.ones(4), "no tensor"]:
        y = function(T, lambda ctx, x: x * 2, lambda ctx, g, answer=answer: answer).apply(x)
        with pytest.raises((RuntimeError, TypeError), match="CubeBackward"):
            y.sum().backward()
