"""Records of resizing, and of rearrangements between channels and space."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import Record, S, Sample

FLOATS = ("float16", "bfloat16", "float32", "float64")


def _n(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


def keys(x: Any, a: float = -0.75) -> Any:
    """Keys' cubic kernel."""
    x = np.abs(x)
    inner = (a + 2) * x**3 - (a + 3) * x**2 + 1
    outer = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, inner, np.where(x < 2, outer, 0))


def _row(i: int, n: int, size: int, method: str, align: bool, scale: Any) -> Any:
    """The weights of the n old places for new place i."""
    step = 1 / scale if scale else n / size
    place = (i + 0.5) * step - 0.5
    if align and not method.startswith("nearest"):
        step = (n - 1) / (size - 1) if size > 1 else 0.0
        place = i * step
    old = np.arange(n)
    if method == "nearest":
        return old == min(int(i * step), n - 1)
    if method == "nearest-exact":
        return old == min(int((i + 0.5) * step), n - 1)
    if method == "area":
        inside = (old >= i * n // size) & (old < -(-(i + 1) * n // size))
        return inside / inside.sum()
    if method == "linear":
        return np.maximum(1 - np.abs(np.clip(place, 0, n - 1) - old), 0)
    if method == "cubic":  # what lies outside takes the value of the edge
        wide = keys(place - np.arange(-4, n + 4))
        return np.concatenate([[wide[:5].sum()], wide[5 : n + 3], [wide[n + 3 :].sum()]])
    width = max(step, 1.0)
    distance = (old + 0.5 - (i + 0.5) * step) / width
    if method.startswith("lanczos"):
        weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    else:
        weights = np.maximum(1 - np.abs(distance), 0) if method.startswith("linear") else keys(distance, -0.5)
    return weights / weights.sum()


def matrix(n: int, size: int, method: str, align: bool, scale: Any) -> Any:
    return np.array([_row(i, n, size, method, align, scale) for i in range(size)], float)


def _applied(x: Any, axis: int, m: Any) -> Any:
    return np.moveaxis(np.moveaxis(x, axis, -1) @ m.T, -1, axis)


def resized(x: Any, *, size: Any, method: str, align_corners: bool, scales: Any) -> Any:
    for axis in range(-len(size), 0):
        m = matrix(x.shape[axis], size[axis], method, align_corners, scales and scales[axis])
        x = _applied(x, axis, m)
    return x


def resample_adjoint(g: Any, *, shape: Any, rank: int, method: str, align_corners: bool, scales: Any) -> Any:
    for axis in range(-rank, 0):
        m = matrix(shape[axis], g.shape[axis], method, align_corners, scales and scales[axis])
        g = _applied(g, axis, m.T)
    return g


def how(size: Any, method: str, align_corners: bool = False, scales: Any = None) -> dict[str, Any]:
    return {"size": size, "method": method, "align_corners": align_corners, "scales": scales}


# (x, size, align_corners, scales): larger by whole numbers and by others, smaller, unchanged; one to three dimensions
CASES = [
    ((2, 2, 3, 4), (6, 4), False, None),
    ((2, 2, 5, 4), (7, 3), False, None),
    ((1, 2, 4, 3), (27, 1), False, None),
    ((2, 2, 4), (7,), False, (1.9,)),
    ((1, 1, 2, 3, 3), (4, 2, 5), False, None),
]
ALIGNED = [((2, 2, 3, 4), (5, 7), True, None), ((1, 2, 4, 4), (1, 2), True, None)]


def record(op: str, method: str, cases: Any, **options: Any) -> Record:
    def samples(rng: np.random.Generator) -> list[Sample]:
        made = [S(_n(rng, *x), **how(size, method, align, scales)) for x, size, align, scales in cases]
        if method in ("linear", "cubic"):
            made.append(S(_n(rng, 1, 1, 7, 3), **how((3, 5), method + "-antialias")))
        return made

    return Record(op, samples, resized, linear=True, dtypes=(*FLOATS, *options.pop("more", ())), **options)


def adjoint_samples(rng: np.random.Generator) -> list[Sample]:
    made = []
    for method in ("nearest", "nearest-exact", "linear", "cubic", "area"):
        for x, size, align, scales in CASES:
            if scales is None or method != "area":
                g = _n(rng, *x[: len(x) - len(size)], *size)
                kw = how(size, method, align, scales)
                del kw["size"]
                made.append(S(g, shape=x, rank=len(size), **kw))
    return made


def pixel_shuffle(x: Any, *, factor: int) -> Any:
    *lead, c, h, w = x.shape
    out = np.zeros((*lead, c // factor**2, h * factor, w * factor), x.dtype)
    for i in range(factor):
        for j in range(factor):
            out[..., i::factor, j::factor] = x[..., i * factor + j :: factor**2, :, :]
    return out


def pixel_unshuffle(x: Any, *, factor: int) -> Any:
    *lead, c, h, w = x.shape
    out = np.zeros((*lead, c * factor**2, h // factor, w // factor), x.dtype)
    for i in range(factor):
        for j in range(factor):
            out[..., i * factor + j :: factor**2, :, :] = x[..., i::factor, j::factor]
    return out


def channel_shuffle(x: Any, *, groups: int) -> Any:
    count = x.shape[1] // groups
    return np.stack([x[:, (i % groups) * count + i // groups] for i in range(x.shape[1])], 1)


RECORDS = [
    record("upsample_nearest", "nearest", CASES, more=("uint8",)),
    record("upsample_nearest_exact", "nearest-exact", CASES, more=("uint8",)),
    record("upsample_linear", "linear", CASES + ALIGNED),
    record("upsample_cubic", "cubic", CASES + ALIGNED),
    record("upsample_lanczos", "lanczos-antialias", [((2, 2, 9, 7), (4, 11), False, None)]),
    record("adaptive_avg_pool", "area", [c for c in CASES if c[3] is None]),
    Record("resample_adjoint", adjoint_samples, resample_adjoint, linear=True, dtypes=FLOATS),
    Record("pixel_shuffle", lambda rng: [S(_n(rng, 2, 8, 3, 2), factor=2)], pixel_shuffle, linear=True, complex=True),
    Record("pixel_unshuffle", lambda rng: [S(_n(rng, 2, 6, 9), factor=3)], pixel_unshuffle, linear=True, complex=True),
    Record("channel_shuffle", lambda rng: [S(_n(rng, 2, 6, 3), groups=2)], channel_shuffle, linear=True, complex=True),
]
