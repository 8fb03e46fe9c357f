"""Normalisation: layer, root-mean-square and batch. Each is one primitive whose rule is one call of its composite.

Auxiliary results (mean, rstd = 1 / sqrt(var + eps)) serve fused kernels; the composites' bodies compute them again from
x, so that the next order of derivative sees how they depend on it.
"""

from __future__ import annotations

import math

from ..op import composite, op


def wide(x):
    """x in float32 where it is a half precision: statistics are accumulated there."""
    return x.astype("f4") if x is not None and x.dtype.itemsize == 2 else x


@op(promote="equal", aux=("mean", "rstd"), grad_name="NativeLayerNorm")
def layer_norm(xp, x, w=None, b=None, *, n_axes, eps):
    """(x - mean) * rstd * w + b over the last n_axes dimensions. x: (*L, *N), w, b: (*N) -> (*L, *N).

    Ba, Kiros and Hinton, Layer normalization, 2016, https://arxiv.org/abs/1607.06450.
    """
    axes = tuple(range(x.ndim - n_axes, x.ndim))
    y = wide(x)
    mean = y.mean(axis=axes, keepdims=True)
    y = y - mean
    rstd = 1 / xp.sqrt((y * y).mean(axis=axes, keepdims=True) + eps)
    y = y * rstd
    if w is not None:
        y *= w
    if b is not None:
        y += b
    return y.astype(x.dtype, copy=False), mean, rstd.astype(mean.dtype, copy=False)


@composite
def layer_norm_backward(F, g, x, w, mean, rstd, *, needs, n_axes, eps):
    """Gradients of layer_norm for x, w and b where needed. g, x: (*L, *N), w: (*N) -> ((*L, *N), (*N), (*N))."""
    axes = tuple(range(x.ndim - n_axes, x.ndim))
    centred = x - F.mean(x, axis=axes, keepdims=True)
    scale = F.rsqrt(F.mean(centred * centred, axis=axes, keepdims=True) + eps)
    unit = centred * scale
    gx = gw = gb = None
    shape = x.shape[x.ndim - n_axes :]
    if needs[0]:
        h = g if w is None else g * w
        slope = F.mean(h * unit, axis=axes, keepdims=True)
        gx = scale * (h - F.mean(h, axis=axes, keepdims=True) - unit * slope)
    if needs[1]:
        gw = F.sum_to(g * unit, shape=shape)
    if needs[2]:
        gb = F.sum_to(g, shape=shape)
    return gx, gw, gb


layer_norm.vjp_joint(
    "x", "w", "b",
    lambda F, g, needs, *, x, w, mean, rstd, n_axes, eps: F.layer_norm_backward(
        g, x, w, mean, rstd, needs=needs, n_axes=n_axes, eps=eps
    ),
)  # fmt: skip


@op(promote="equal", aux=("rstd",), grad_name="FusedRmsNorm", holomorphic=True)
def rms_norm(xp, x, w=None, *, n_axes, eps):
    """x / sqrt(mean(x**2) + eps) * w over the last n_axes dimensions. x: (*L, *N), w: (*N) -> (*L, *N).

    Zhang and Sennrich, Root mean square layer normalization, 2019, https://arxiv.org/abs/1910.07467.
    """
    axes = tuple(range(x.ndim - n_axes, x.ndim))
    y = wide(x)
    rstd = 1 / xp.sqrt((y * y).mean(axis=axes, keepdims=True) + eps)
    y = y * rstd
    if w is not None:
        y *= w
    return y.astype(x.dtype, copy=False), rstd.astype(y.dtype, copy=False)


@composite
def rms_norm_backward(F, g, x, w, rstd, *, needs, n_axes, eps):
    """Gradients of rms_norm for x and w where needed. g, x: (*L, *N), w: (*N) -> ((*L, *N), (*N))."""
    axes = tuple(range(x.ndim - n_axes, x.ndim))
    scale = F.rsqrt(F.mean(x * x, axis=axes, keepdims=True) + eps)
    unit = x * scale
    gx = gw = None
    if needs[0]:
        h = g if w is None else g * w
        gx = scale * (h - unit * F.mean(h * unit, axis=axes, keepdims=True))
    if needs[1]:
        gw = F.sum_to(g * unit, shape=x.shape[x.ndim - n_axes :])
    return gx, gw


rms_norm.vjp_joint(
    "x", "w",
    lambda F, g, needs, *, x, w, rstd, n_axes, eps: F.rms_norm_backward(
        g, x, w, rstd, needs=needs, n_axes=n_axes, eps=eps
    ),
)  # fmt: skip


def channel_axes(x):
    """All axes but the second, and the shape that spreads a value per channel over x."""
    return (0, *range(2, x.ndim)), (1, x.shape[1], *(1,) * (x.ndim - 2))


def in_images(x):
    """x itself where it is row-major, or images or volumes that lie channels-last; else a row-major copy. (N, C, *)."""
    if x.flags.c_contiguous or x.ndim > 3 and x.transpose((0, *range(2, x.ndim), 1)).flags.c_contiguous:
        return x
    return x.copy()


@op(promote="equal", outputs=("out", "mean", "var"), aux=("centre", "rstd"), grad_name="NativeBatchNorm")
def batch_norm(xp, x, w=None, b=None, *, eps):
    """Each channel normalised by its own mean and biased variance. x: (N, C, *), w, b: (C,) -> ((N, C, *), (C,), (C,)).

    Ioffe and Szegedy, Batch normalization, 2015, https://arxiv.org/abs/1502.03167. Only the first output is
    differentiable; mean and variance are for the running statistics.
    """
    axes, spread = channel_axes(x)
    y = wide(x)
    mean = y.mean(axis=axes)
    y = y - mean.reshape(spread)
    var = (y * y).mean(axis=axes)
    rstd = 1 / xp.sqrt(var + eps)
    y = y * rstd.reshape(spread)
    if w is not None:
        y *= w.reshape(spread)
    if b is not None:
        y += b.reshape(spread)
    return in_images(y.astype(x.dtype, copy=False)), mean, var, mean, rstd.astype(mean.dtype, copy=False)


@composite
def batch_norm_backward(F, g, x, w, centre, rstd, *, needs, eps):
    """Gradients of batch_norm for x, w and b where needed. g, x: (N, C, *), w: (C,) -> ((N, C, *), (C,), (C,))."""
    axes, spread = channel_axes(x)
    centred = x - F.mean(x, axis=axes, keepdims=True)
    scale = F.rsqrt(F.mean(centred * centred, axis=axes, keepdims=True) + eps)
    unit = centred * scale
    total = F.sum(g, axis=axes, keepdims=True)
    slope = F.sum(g * unit, axis=axes, keepdims=True)
    gx = gw = gb = None
    if needs[0]:
        count = math.prod(x.shape) / max(x.shape[1], 1)
        if w is not None:
            scale = scale * F.reshape(w, shape=spread)
        gx = scale * (g - (total + unit * slope) / count)
    if needs[1]:
        gw = F.reshape(slope, shape=(x.shape[1],))
    if needs[2]:
        gb = F.reshape(total, shape=(x.shape[1],))
    return gx, gw, gb


batch_norm.vjp_joint(
    "x", "w", "b",
    lambda F, g, needs, *, x, w, centre, rstd, eps: F.batch_norm_backward(
        g[0], x, w, centre, rstd, needs=needs, eps=eps
    ),
)  # fmt: skip


@op(promote="equal", broadcasts=False, grad_name="NativeBatchNorm")
def scale_shift(xp, x, scale, shift):
    """x * scale + shift per channel. x: (N, C, *), scale, shift: (C,) -> (N, C, *)."""
    _, spread = channel_axes(x)
    out = x * scale.reshape(spread)
    out += shift.reshape(spread)
    return out


def _per_channel(F, x):
    return F.sum(x, axis=(0, *range(2, x.ndim)), keepdims=False)


scale_shift.vjp(
    x=lambda F, g, *, scale: g * F.reshape(scale, shape=(1, g.shape[1], *(1,) * (g.ndim - 2))),
    scale=lambda F, g, *, x: _per_channel(F, g * x),
    shift=lambda F, g: _per_channel(F, g),
)
