"""Records of sampling by a grid. The references sum over all pixels, each weighted by a kernel of its distance."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from .base import Record, S, Sample

A = -0.75


def kernel(u: float, method: str, order: int) -> float:
    """The weight of a pixel at distance u, or its derivative by u."""
    a = abs(u)
    if method == "nearest":
        return float(a <= 0.5) if order == 0 else 0.0
    if method == "bilinear":
        return max(1 - a, 0.0) if order == 0 else -np.sign(u) * (a < 1)
    inner, outer = np.poly1d([A + 2, -(A + 3), 0, 1]), np.poly1d([A, -5 * A, 8 * A, -4 * A])
    piece = inner if a <= 1 else outer if a < 2 else np.poly1d([0.0])
    return piece(a) if order == 0 else float(np.sign(u) * piece.deriv()(a))


def mirrored(u: float, n: int, padding: str, align: bool) -> float:
    """A coordinate brought into 0 .. n - 1 by walking there."""
    low, high = (0, n - 1) if align else (-0.5, n - 0.5)
    while padding == "reflection" and not low <= u <= high:
        u = 2 * low - u if u < low else 2 * high - u
    return min(max(u, 0), n - 1)


def weights(c: float, n: int, method: str, padding: str, align: bool, order: int) -> Any:
    """The weight of each of n pixels for a coordinate c of [-1, 1], or its derivative by c."""
    scale = (n - 1) / 2 if align else n / 2

    def place(c: float) -> float:
        return (c + 1) * scale - (0 if align else 0.5)

    found = np.zeros(n)
    if padding == "zeros" or method == "bicubic":
        for pixel in range(-8, n + 8):
            at = pixel if padding == "zeros" else int(mirrored(pixel, n, padding, align))
            if 0 <= at < n:
                found[at] += kernel(place(c) - pixel, method, order) * scale**order
        return found
    inside = mirrored(place(c), n, padding, align)
    slope = (mirrored(place(c + 1e-6), n, padding, align) - mirrored(place(c - 1e-6), n, padding, align)) / 2e-6
    return np.array([kernel(inside - pixel, method, order) * round(slope / scale) ** order for pixel in range(n)]) * (
        scale**order
    )


def tables(grid: Any, sizes: Any, method: str, padding: str, align_corners: bool, order: Any) -> Any:
    """For each point of each image: its place in grid, and one row of weights per dimension."""
    for at in np.ndindex(grid.shape[:-1]):
        point = grid[at][::-1]
        yield at, [
            weights(c, n, method, padding, align_corners, o) for c, n, o in zip(point, sizes, order, strict=True)
        ]


def outer(rows: Any) -> Any:
    out = np.ones(())
    for row in rows:
        out = np.multiply.outer(out, row)
    return out


def grid_sample(x: Any, grid: Any, **how: Any) -> Any:
    out = np.zeros((*x.shape[:2], *grid.shape[1:-1]))
    for (n, *at), rows in tables(grid, x.shape[2:], **how):
        out[(n, slice(None), *at)] = (x[n] * outer(rows)).reshape(x.shape[1], -1).sum(1)
    return out


def grid_scatter(g: Any, grid: Any, *, shape: Any, **how: Any) -> Any:
    out = np.zeros(shape)
    for (n, *at), rows in tables(grid, shape[2:], **how):
        out[n] += np.multiply.outer(g[(n, slice(None), *at)], outer(rows))
    return out


def cases(rng: np.random.Generator) -> Any:
    """(image's shape, grid, keywords): every way of sampling, places inside and outside."""
    for method, padding, align in product(
        ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection"), (False, True)
    ):
        how = {"method": method, "padding": padding, "align_corners": align, "order": (0, 0)}
        yield (2, 2, 3, 4), rng.uniform(-1.9, 1.9, (2, 2, 3, 2)), how
    for method, padding in (("bilinear", "zeros"), ("nearest", "border"), ("bilinear", "reflection")):
        how = {"method": method, "padding": padding, "align_corners": padding == "border", "order": (0, 0, 0)}
        yield (1, 2, 3, 2, 3), rng.uniform(-1.5, 1.5, (1, 2, 1, 2, 3)), how
    for method, padding, order in (("bilinear", "reflection", (1, 0)), ("bicubic", "zeros", (0, 1))):
        how = {"method": method, "padding": padding, "align_corners": False, "order": order}
        yield (1, 2, 3, 4), rng.uniform(-1.4, 1.4, (1, 2, 2, 2)), how


def samples(rng: np.random.Generator) -> list[Sample]:
    return [S(rng.standard_normal(shape), grid, **how) for shape, grid, how in cases(rng)]


def scatter_samples(rng: np.random.Generator) -> list[Sample]:
    made = []
    for shape, grid, how in cases(rng):
        made.append(S(rng.standard_normal((*shape[:2], *grid.shape[1:-1])), grid, shape=shape, **how))
    return made


RECORDS = [
    Record("grid_sample", samples, grid_sample, dtypes=("float32", "float64")),
    Record("grid_scatter", scatter_samples, grid_scatter, dtypes=("float32", "float64")),
]
