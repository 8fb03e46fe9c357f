"""Convolution in any number of spatial dimensions, as a family that is closed under differentiation.

<g, conv(x, w)> is linear in each of g, x and w. `conv`, `conv_input` and `conv_weight` are its derivatives by g, x and
w, so each of them differentiates into the other two, and three kernels give every order.

Shapes: x (N, C, *S), w (O, C / groups, *K), g = conv(x, w) (N, O, *T). `stride`, `padding` (zeros on both sides) and
`dilation` are tuples with one number per spatial dimension. The sum is a cross-correlation, as in PyTorch:

    conv(x, w)[n, o, t] = sum over c, k of w[o, c, k] * x[n, c, t * stride + k * dilation - padding]
"""

from __future__ import annotations

import math
from itertools import product

from ..op import composite, op
from .reduce import narrow, wide


def conv_size(size, kernel, stride, padding, dilation):
    """Spatial size of conv's output. size: that of x; all tuples of one length."""
    return tuple(
        [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
        ]
    )


def windows(xp, x, kernel, size, stride, dilation):
    """What each output place sees, without a copy. x: (N, C, *S) -> (N, C, *kernel, *size)."""
    step = x.strides[2:]
    within = tuple([s * d for s, d in zip(step, dilation, strict=True)])
    between = tuple([s * d for s, d in zip(step, stride, strict=True)])
    return xp.lib.stride_tricks.as_strided(x, (*x.shape[:2], *kernel, *size), (*x.strides[:2], *within, *between))


def padded(xp, x, padding, value=0):
    """x between `padding` elements of one value at both ends of each spatial dimension. (N, C, *S) -> (N, C, *P)."""
    if not any(padding):
        return x
    shape = (*x.shape[:2], *[n + 2 * p for n, p in zip(x.shape[2:], padding, strict=True)])
    out = xp.full(shape, value, x.dtype) if value else xp.zeros(shape, x.dtype)
    out[inside(x.shape[2:], padding)] = x
    return out


def inside(size, padding):
    """The index of what `padded` put in the middle."""
    return (..., *[slice(p, p + n) for n, p in zip(size, padding, strict=True)])


def places(offset, size, stride):
    """The index, in the spatial dimensions, of `size` places from `offset` on at distances `stride`."""
    return (..., *[slice(o, o + s * (n - 1) + 1, s) for o, n, s in zip(offset, size, stride, strict=True)])


def _columns(xp, x, kernel, size, stride, padding, dilation, groups):
    """One column of C / groups * K values per output place. x: (N, C, *S) -> (groups, C / groups * K, N * T)."""
    view = windows(xp, padded(xp, x, padding), kernel, size, stride, dilation)
    n = len(kernel)
    view = view.transpose(1, *range(2, 2 + n), 0, *range(2 + n, 2 + 2 * n))
    rows = x.shape[1] // groups * math.prod(kernel)
    return view.reshape(groups, rows, x.shape[0] * math.prod(size))


def _channels_first(x, groups):
    """x: (N, C, *S) -> (groups, C / groups, N * S)."""
    return x.swapaxes(0, 1).reshape(groups, x.shape[1] // groups, x.shape[0] * math.prod(x.shape[2:]))


def _batch_first(xp, x, b):
    """x: (C, N, *S), b: (C,) or None -> x + b in row-major memory (N, C, *S)."""
    x = xp.ascontiguousarray(x.swapaxes(0, 1))
    if b is not None:
        x += b.reshape(-1, *[1] * (x.ndim - 2))
    return x


def _widened(*arrays):
    return [None if a is None else wide(a) for a in arrays]


@op(promote="equal", holomorphic=True, grad_name="Convolution")
def conv(xp, x, w, b=None, *, stride, padding, dilation, groups):
    """Cross-correlation plus a bias per channel. x: (N, C, *S), w: (O, C / groups, *K), b: (O,) -> (N, O, *T)."""
    like, (x, w, b) = x, _widened(x, w, b)
    kernel = w.shape[2:]
    size = conv_size(x.shape[2:], kernel, stride, padding, dilation)
    columns = _columns(xp, x, kernel, size, stride, padding, dilation, groups)
    out = xp.matmul(w.reshape(groups, w.shape[0] // groups, columns.shape[1]), columns)
    return narrow(_batch_first(xp, out.reshape(w.shape[0], x.shape[0], *size), b), like)


@op(promote="equal", holomorphic=True, grad_name="Convolution")
def conv_input(xp, g, w, b=None, *, shape, stride, padding, dilation, groups):
    """conv's adjoint in x, for x of a given shape, plus a bias per channel: a transposed convolution.

    g: (N, O, *T), w: (O, C / groups, *K), b: (C,) -> (*shape) = (N, C, *S).
    """
    like, (g, w, b) = g, _widened(g, w, b)
    kernel, size = w.shape[2:], g.shape[2:]
    rows = shape[1] // groups * math.prod(kernel)
    weight = w.reshape(groups, w.shape[0] // groups, rows).swapaxes(1, 2)
    columns = xp.matmul(weight, _channels_first(g, groups)).reshape(shape[1], *kernel, shape[0], *size)
    out = xp.zeros((shape[1], shape[0], *[n + 2 * p for n, p in zip(shape[2:], padding, strict=True)]), g.dtype)
    for tap in product(*map(range, kernel)):
        offset = [k * d for k, d in zip(tap, dilation, strict=True)]
        out[places(offset, size, stride)] += columns[(slice(None), *tap)]
    return narrow(_batch_first(xp, out[inside(shape[2:], padding)], b), like)


@op(promote="equal", holomorphic=True, grad_name="ConvolutionBackward")
def conv_weight(xp, x, g, *, shape, stride, padding, dilation, groups):
    """conv's adjoint in w, for w of a given shape. x: (N, C, *S), g: (N, O, *T) -> (*shape) = (O, C / groups, *K)."""
    like, (x, g) = x, _widened(x, g)
    columns = _columns(xp, x, shape[2:], g.shape[2:], stride, padding, dilation, groups)
    return narrow(xp.matmul(_channels_first(g, groups), columns.swapaxes(1, 2)).reshape(shape), like)


@composite
def channel_sum(F, g):
    """The gradient of a bias per channel: the sum over everything else. g: (N, C, *S) -> (C,)."""
    return F.sum(g, axis=(0, *range(2, len(g.shape))), keepdims=False)


conv.vjp(
    x=lambda F, g, *, w, x_shape, stride, padding, dilation, groups: F.conv_input(
        g, w, shape=x_shape, stride=stride, padding=padding, dilation=dilation, groups=groups
    ),
    w=lambda F, g, *, x, w_shape, stride, padding, dilation, groups: F.conv_weight(
        x, g, shape=w_shape, stride=stride, padding=padding, dilation=dilation, groups=groups
    ),
    b=lambda F, g: F.channel_sum(g),
)
conv_input.vjp(
    g=lambda F, h, *, w, stride, padding, dilation, groups: F.conv(
        h, w, stride=stride, padding=padding, dilation=dilation, groups=groups
    ),
    w=lambda F, h, *, g, w_shape, stride, padding, dilation, groups: F.conv_weight(
        h, g, shape=w_shape, stride=stride, padding=padding, dilation=dilation, groups=groups
    ),
    b=lambda F, h: F.channel_sum(h),
)
conv_weight.vjp(
    x=lambda F, u, *, g, x_shape, stride, padding, dilation, groups: F.conv_input(
        g, u, shape=x_shape, stride=stride, padding=padding, dilation=dilation, groups=groups
    ),
    g=lambda F, u, *, x, stride, padding, dilation, groups: F.conv(
        x, u, stride=stride, padding=padding, dilation=dilation, groups=groups
    ),
)

# ---- columns as tensors ----------------------------------------------------------------------------------------------


@op(grad_name="Im2Col")
def im2col(xp, x, *, kernel, stride, padding, dilation):
    """Each window as a column. x: (N, C, *S) -> (N, C * K, T), T the number of windows."""
    size = conv_size(x.shape[2:], kernel, stride, padding, dilation)
    view = windows(xp, padded(xp, x, padding), kernel, size, stride, dilation)
    out = xp.empty(view.shape, x.dtype)
    out[...] = view
    return out.reshape(x.shape[0], x.shape[1] * math.prod(kernel), math.prod(size))


@op(grad_name="Col2Im")
def col2im(xp, g, *, shape, kernel, stride, padding, dilation):
    """Columns summed back to where `im2col` takes them. g: (N, C * K, T) -> (*shape) = (N, C, *S)."""
    size = conv_size(shape[2:], kernel, stride, padding, dilation)
    columns = g.reshape(*shape[:2], *kernel, *size)
    out = xp.zeros((*shape[:2], *[n + 2 * p for n, p in zip(shape[2:], padding, strict=True)]), g.dtype)
    for tap in product(*map(range, kernel)):
        offset = [k * d for k, d in zip(tap, dilation, strict=True)]
        out[places(offset, size, stride)] += columns[(slice(None), slice(None), *tap)]
    return xp.ascontiguousarray(out[inside(shape[2:], padding)])


im2col.vjp(
    x=lambda F, g, *, x_shape, kernel, stride, padding, dilation: F.col2im(
        g, shape=x_shape, kernel=kernel, stride=stride, padding=padding, dilation=dilation
    )
)
col2im.vjp(
    g=lambda F, h, *, kernel, stride, padding, dilation: F.im2col(
        h, kernel=kernel, stride=stride, padding=padding, dilation=dilation
    )
)
