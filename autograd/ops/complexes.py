"""Complex numbers: their parts, and joining parts.

The gradient of a real loss L with respect to z = a + bi is dL/da + i dL/db, PyTorch's convention (twice the conjugate
Wirtinger derivative): https://docs.pytorch.org/docs/stable/notes/autograd.html#complex-autograd-doc
"""

from __future__ import annotations

import math

from ..op import op


@op()
def conj(xp, x):
    """Complex conjugate; real arrays pass through. x: (*S) -> (*S)."""
    return xp.conjugate(x) if x.dtype.kind == "c" else x


conj.vjp(x=lambda F, g: F.conj(g))


@op(view=True)
def real(xp, x):
    """The real part, in the same memory. x: (*S) -> (*S) real."""
    return x.real


real.vjp(x=lambda F, g, *, x_dtype: F.cast(g, dtype=x_dtype))


@op(view=True)
def imag(xp, x):
    """The imaginary part, in the same memory. x: (*S) complex -> (*S) real."""
    return x.imag


imag.vjp(x=lambda F, g, *, x_dtype: F.cast(g, dtype=x_dtype) * 1j)


@op(broadcasts=True, promote="equal")
def complex(xp, real, imag):
    """real + i imag. real: (*S) float, imag: (*T) float -> (*broadcast(S, T)) complex."""
    out = xp.empty(xp.broadcast(real, imag).shape, "c16" if real.dtype.itemsize == 8 else "c8")
    out.real, out.imag = real, imag
    return out


complex.vjp(real=lambda F, g: F.real(g), imag=lambda F, g: F.imag(g))


@op(broadcasts=True, promote="equal")
def polar(xp, abs, angle):
    """abs * e**(i angle). abs: (*S) float, angle: (*T) float, radians -> (*broadcast(S, T)) complex."""
    return complex.op.generic(xp, abs * xp.cos(angle), abs * xp.sin(angle))


polar.vjp(
    abs=lambda F, g, *, angle: F.real(g) * F.cos(angle) + F.imag(g) * F.sin(angle),
    angle=lambda F, g, *, out: F.imag(g * F.conj(out)),
)


@op(promote="float", public=True)
def angle(xp, x):
    """The angle of a complex number; of a real one 0, pi where it is negative. x: (*S) -> (*S) real, radians."""
    if x.dtype.kind == "c":
        return xp.arctan2(x.imag, x.real)
    return xp.where(x < 0, math.pi, xp.where(x != x, x, 0)).astype(x.dtype)


def _angle_rule(F, g, *, x, x_dtype):
    if x_dtype.kind != "c":
        return F.zeros_like(g)
    return F.zero_where(g * (x * 1j) / F.real(x * F.conj(x)), F.eq(x, 0))


angle.vjp(x=_angle_rule)


@op(view=True)
def view_as_real(xp, x):
    """Complex numbers as pairs (real, imaginary), in the same memory. x: (*S) complex -> (*S, 2) real."""
    if x.dtype.kind != "c":
        raise RuntimeError("view_as_real is only supported for complex tensors")
    part = x.real
    return xp.lib.stride_tricks.as_strided(part, (*x.shape, 2), (*x.strides, part.dtype.itemsize))


view_as_real.vjp(x=lambda F, g: F.view_as_complex(F.clone(g)))


@op(view=True)
def view_as_complex(xp, x):
    """Pairs (real, imaginary) as complex numbers, in the same memory. x: (*S, 2) float, dense pairs -> (*S) complex."""
    if x.dtype.kind != "f":
        raise RuntimeError("view_as_complex is only supported for half, float and double tensors")
    if x.dtype.itemsize == 2:
        raise RuntimeError("view_as_complex of float16 gives complex32, which is not available; use float32")
    if not x.ndim or x.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    if x.size and x.strides[-1] != x.dtype.itemsize:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    return x.view("c16" if x.dtype.itemsize == 8 else "c8")[..., 0]


view_as_complex.vjp(x=lambda F, g: F.view_as_real(g))
