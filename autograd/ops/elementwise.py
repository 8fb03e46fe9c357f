"""Elementwise arithmetic. Binary ops broadcast; the engine sums each gradient back to its input's shape."""

from __future__ import annotations

from ..op import op


@op(ufunc="add", broadcasts=True, promote="same", scalars=True)
def add(xp, x, y):
    """x + y. x: (*S), y: (*T) -> (*broadcast(S, T))."""


add.vjp(x=lambda F, g: g, y=lambda F, g: g)


@op(ufunc="subtract", broadcasts=True, promote="same", scalars=True)
def sub(xp, x, y):
    """x - y. x: (*S), y: (*T) -> (*broadcast(S, T))."""


sub.vjp(x=lambda F, g: g, y=lambda F, g: -g)


@op(ufunc="multiply", broadcasts=True, promote="same", scalars=True, holomorphic=True, public="inplace")
def mul(xp, x, y):
    """x * y. x: (*S), y: (*T) -> (*broadcast(S, T))."""


mul.vjp(x=lambda F, g, *, y: g * y, y=lambda F, g, *, x: g * x)


@op(ufunc="true_divide", broadcasts=True, promote="float", scalars=True, holomorphic=True)
def div(xp, x, y):
    """x / y, true division. x: (*S), y: (*T) -> (*broadcast(S, T))."""


div.vjp(x=lambda F, g, *, y: g / y, y=lambda F, g, *, y, out: -g * out / y)


@op(ufunc="negative", public="inplace")
def neg(xp, x):
    """-x. x: (*S) -> (*S)."""


neg.vjp(x=lambda F, g: -g)


@op(ufunc="exp", promote="float", holomorphic=True, public="inplace")
def exp(xp, x):
    """e**x. x: (*S) -> (*S)."""


exp.vjp(x=lambda F, g, *, out: g * out)


@op(ufunc="log", promote="float", holomorphic=True, public="inplace")
def log(xp, x):
    """Natural logarithm. x: (*S) -> (*S)."""


log.vjp(x=lambda F, g, *, x: g / x)


@op(ufunc="tanh", promote="float", holomorphic=True, public="inplace")
def tanh(xp, x):
    """Hyperbolic tangent. x: (*S) -> (*S)."""


tanh.vjp(x=lambda F, g, *, out: g * (1 - out * out))


@op(public="inplace")
def relu(xp, x):
    """max(x, 0). x: (*S) -> (*S)."""
    return xp.maximum(x, 0)


relu.vjp(x=lambda F, g, *, out: F.relu_backward(g, out))


@op()
def relu_backward(xp, g, out):
    """g where out > 0, else 0. g, out: (*S) -> (*S)."""
    return g * (out > 0)


relu_backward.vjp(g=lambda F, h, *, out: F.relu_backward(h, out))


@op(public=True)
def conj(xp, x):
    """Complex conjugate; real arrays pass through. x: (*S) -> (*S)."""
    return xp.conjugate(x) if x.dtype.kind == "c" else x


conj.vjp(x=lambda F, g: F.conj(g))
