"""Convolutions on which the extra's kernels are compared with the generic forms in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from tapegrad.autograd.op import Raw
from tapegrad.backends.numpy import NumpyBackend, blas


class Plain(NumpyBackend):
    """NumPy without kernels: every op in its generic form."""

    kernels: Any = {}


class Case(NamedTuple):
    """x: (batch, channels, *size), w: (results, channels / groups, *kernel)."""

    batch: int
    channels: int
    results: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1


def calls(case: Case, rng: np.random.Generator) -> Iterator[tuple[str, list[Any], dict[str, Any]]]:
    """(op, arrays in float32, keywords) of the three ops of the family, with and without bias."""
    rank = len(case.size)
    numbers = (case.stride, case.padding, case.dilation)
    geometry: dict[str, Any] = dict(zip(("stride", "padding", "dilation"), [(n,) * rank for n in numbers], strict=True))
    geometry["groups"] = case.groups

    def some(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    x = some(case.batch, case.channels, *case.size)
    w = some(case.results, case.channels // case.groups, *case.kernel)
    places = [
        (n + 2 * case.padding - case.dilation * (k - 1) - 1) // case.stride + 1
        for n, k in zip(case.size, case.kernel, strict=True)
    ]
    g = some(case.batch, case.results, *places)
    yield "conv", [x, w], geometry
    yield "conv", [x, w, some(case.results)], geometry
    yield "conv_input", [g, w], geometry | {"shape": x.shape}
    yield "conv_input", [g, w, some(case.channels)], geometry | {"shape": x.shape}
    yield "conv_weight", [x, g], geometry | {"shape": w.shape}


def error(op: str, arrays: list[Any], kw: dict[str, Any], got: Any) -> float:
    """The largest difference from the generic form in float64, relative to its largest number."""
    with blas.alone():  # as many threads of BLAS as the test has for the kernel would fight over one core
        want = getattr(Raw(Plain()), op)(*[a.astype(np.float64) for a in arrays], **kw)
    assert got.shape == want.shape and got.dtype == np.float32 and got.flags.c_contiguous
    return float(np.abs(got - want).max() / np.abs(want).max())
