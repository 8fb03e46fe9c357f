"""Sampling images and volumes at places that a grid names, and all derivatives of that.

A value at a place is a sum over neighbouring pixels, weighted by a product of one polynomial per dimension in the
place's distance to the pixel below it. A derivative by the grid is the same sum with the polynomial of one dimension
differentiated; so `order` (how often, per dimension) makes one op and its adjoint a family that is closed under
differentiation: Jaderberg et al., Spatial transformer networks, 2015, https://arxiv.org/abs/1506.02025.
"""

from __future__ import annotations

import math
from itertools import product

from ..op import op
from .index import add_rows
from .reduce import narrow, wide

A = -0.75  # Keys' constant, as in PyTorch

# By method: distance of each tap from the pixel below the place, and its weight as coefficients of 1, f, f**2, f**3,
# where f in [0, 1) is the place's distance from that pixel. The cubic ones are Keys' kernel (1981).
TAPS = {
    "nearest": ((0, (1,)),),
    "bilinear": ((0, (1, -1)), (1, (0, 1))),
    "bicubic": (
        (-1, (0, A, -2 * A, A)),
        (0, (1, 0, -(A + 3), A + 2)),
        (1, (0, -A, 2 * A + 3, -(A + 2))),
        (2, (0, 0, A, -A)),
    ),
}


def _derivative(polynomial, order):
    """The coefficients of a polynomial's derivative of that order; () where it is 0."""
    for _ in range(order):
        polynomial = tuple(k * c for k, c in enumerate(polynomial))[1:]
    return polynomial if any(polynomial) else ()


def _value(polynomial, f):
    """A polynomial at f, by Horner's rule."""
    total = polynomial[-1]
    for c in polynomial[-2::-1]:
        total = total * f + c
    return total


def _brought_inside(xp, place, n, padding, align_corners):
    """(places in [0, n - 1], d of them / d place) for "border" and "reflection".

    Reflection is about the outermost pixels' centres with align_corners, else about their outer edges.
    """
    slope = None
    if padding == "reflection":
        low, span = (0, n - 1) if align_corners else (-0.5, n)
        if not span:
            return xp.zeros_like(place), xp.zeros_like(place)
        away = abs(place - low)
        flips = xp.floor(away / span)
        rest = away - flips * span
        odd = flips % 2 != 0
        slope = xp.where(odd != (place < low), -1, 1)
        place = xp.where(odd, span - rest, rest) + low
    inner = (place > 0) & (place < n - 1)
    place = xp.where(inner, place, xp.where(place >= n - 1, n - 1, 0)).astype(place.dtype, copy=False)
    return place, inner if slope is None else inner * slope


def _along(xp, c, n, order, *, method, padding, align_corners):
    """[(pixel, weight), ...] of the taps in one dimension of n pixels. c: coordinates in [-1, 1] -> each of c's shape.

    Pixels outside are given as one inside, with weight 0.
    """
    scale = (n - 1) / 2 if align_corners else n / 2
    place = (c + 1) * scale if align_corners else (c + 1) * scale - 0.5
    slope = scale
    if padding != "zeros" and method != "bicubic":
        place, inner = _brought_inside(xp, place, n, padding, align_corners)
        slope = inner * scale
    first = xp.rint(place) if method == "nearest" else xp.floor(place)
    f = place - first
    taps = []
    for offset, polynomial in TAPS[method]:
        polynomial = _derivative(polynomial, order)
        if not polynomial:
            continue
        weight = _value(polynomial, f) * (slope**order if order else 1)
        pixel = first + offset
        if padding != "zeros" and method == "bicubic":
            pixel, _ = _brought_inside(xp, pixel, n, padding, align_corners)
        inside = (pixel >= 0) & (pixel < n)
        # a product, so that a place which is nan gives nan wherever weights depend on it
        taps.append((xp.where(inside, pixel, 0).astype("i8"), (weight * inside).astype(c.dtype, copy=False)))
    return taps


def _corners(xp, grid, sizes, order, how):
    """(row-major pixel numbers, weights), each (N, P), for each combination of taps. grid: (N, *T, R), P = prod(T)."""
    rank = len(sizes)
    flat = wide(grid).reshape(grid.shape[0], math.prod(grid.shape[1:-1]), rank)
    # the grid's last axis counts the image's dimensions from the last
    taps = [_along(xp, flat[..., rank - 1 - d], n, order[d], **how) for d, n in enumerate(sizes)]
    for chosen in product(*taps):
        number, weight = chosen[0]
        for (pixel, w), n in zip(chosen[1:], sizes[1:], strict=True):
            number, weight = number * n + pixel, weight * w
        yield number, weight


def _rows(xp, x):
    """Channels last: (N, C, *S) -> (N prod(S), C) in row-major order."""
    n, c = x.shape[:2]
    count = math.prod(x.shape[2:])
    return xp.ascontiguousarray(wide(x).reshape(n, c, count).swapaxes(1, 2)).reshape(n * count, c)


def _images(xp, rows, shape, like):
    """The inverse of `_rows`."""
    n, c, *rest = shape
    return narrow(xp.ascontiguousarray(rows.reshape(n, math.prod(rest), c).swapaxes(1, 2)).reshape(shape), like)


@op(promote="equal", grad_name="GridSampler2D")
def grid_sample(xp, x, grid, *, method, padding, align_corners, order):
    """x at the places of grid, differentiated `order` times in each dimension.

    x: (N, C, *S), grid: (N, *T, R) -> (N, C, *T).

    R = len(S) coordinates, those of S's last dimension first; -1 and 1 are the outer edges of the outermost pixels, or
    their centres with align_corners. method: a key of TAPS. padding: "zeros", "border" or "reflection".
    """
    how = {"method": method, "padding": padding, "align_corners": align_corners}
    table, sizes = _rows(xp, x), x.shape[2:]
    starts = xp.arange(x.shape[0])[:, None] * math.prod(sizes)
    out = None
    for number, weight in _corners(xp, grid, sizes, order, how):
        part = table.take((number + starts).reshape(-1), 0)
        part *= weight.reshape(-1, 1)
        out = part if out is None else xp.add(out, part, out=out)
    shape = (*x.shape[:2], *grid.shape[1:-1])
    return xp.zeros(shape, x.dtype) if out is None else _images(xp, out, shape, x)


@op(promote="equal", grad_name="GridSampler2DBackward")
def grid_scatter(xp, g, grid, *, shape, method, padding, align_corners, order):
    """The adjoint of grid_sample in its image. g: (N, C, *T), grid: (N, *T, R) -> (*shape) = (N, C, *S)."""
    how = {"method": method, "padding": padding, "align_corners": align_corners}
    values, sizes = _rows(xp, g), shape[2:]
    count = math.prod(sizes)
    starts = xp.arange(shape[0])[:, None] * count
    out = xp.zeros((shape[0] * count, shape[1]), values.dtype)
    for number, weight in _corners(xp, grid, sizes, order, how):
        add_rows(xp, out, (number + starts).reshape(-1), values * weight.reshape(-1, 1))
    return _images(xp, out, shape, g)


def _by_grid(F, g, x, grid, order, how):
    """The gradient for grid of sum(g * grid_sample(x, grid)). g: (N, C, *T), x: (N, C, *S) -> (N, *T, R)."""
    if how["method"] == "nearest":
        return F.zeros_like(grid)
    parts = []
    for d in reversed(range(len(order))):
        raised = tuple(o + (d == i) for i, o in enumerate(order))
        parts.append(F.sum(g * F.grid_sample(x, grid, order=raised, **how), axis=(1,), keepdims=False))
    return F.stack(*parts, axis=len(order) + 1)


def _how(method, padding, align_corners):
    return {"method": method, "padding": padding, "align_corners": align_corners}


grid_sample.vjp(
    x=lambda F, g, *, x_shape, grid, method, padding, align_corners, order: F.grid_scatter(
        g, grid, shape=x_shape, order=order, **_how(method, padding, align_corners)
    ),
    grid=lambda F, g, *, x, grid, method, padding, align_corners, order: _by_grid(
        F, g, x, grid, order, _how(method, padding, align_corners)
    ),
)
grid_scatter.vjp(
    g=lambda F, h, *, grid, method, padding, align_corners, order: F.grid_sample(
        h, grid, order=order, **_how(method, padding, align_corners)
    ),
    grid=lambda F, h, *, g, grid, method, padding, align_corners, order: _by_grid(
        F, g, h, grid, order, _how(method, padding, align_corners)
    ),
)
