"""Covariances and correlations."""

from __future__ import annotations

import warnings
from typing import Any

from ..dtypes import FLOAT, INT, from_numpy_dtype
from ..op import GRAPH
from ..tensor import Tensor
from .elementwise import clamp
from .factor import H
from .table import public


def _weights(word: str, weights: Tensor, count: int, integral: bool) -> Tensor:
    if weights.array.ndim > 1:
        raise RuntimeError(
            f"cov(): expected {word} to have one or fewer dimensions but got {word} with {weights.array.ndim} "
            "dimensions"
        )
    category = from_numpy_dtype(weights.array.dtype).category
    if (category > INT) if integral else (category != FLOAT):
        kind = "integral" if integral else "floating point"
        raise RuntimeError(
            f"cov(): expected {word} to have {kind} dtype but got {word} with {weights.dtype.legacy} dtype"
        )
    if weights.array.size != count:
        raise RuntimeError(
            f"cov(): expected {word} to have the same numel as there are observations in the input but got "
            f"{weights.array.size} != {count}"
        )
    if count and weights.array.min() < 0:
        raise RuntimeError(f"cov(): {word} cannot be negative")
    return weights


def _row_sums(x: Tensor) -> Tensor:
    return GRAPH.sum(x, axis=(1,), keepdims=True)


@public
def cov(input: Tensor, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Tensor:
    """The covariances of variables (rows) over observations (columns). input: (V, N), (N,) or () -> (V, V), () for one.

    fweights: (N,) int, how often each observation counts; aweights: (N,) float, how much. Divided by the sum of the
    weights - correction * sum(fweights * aweights^2) / that sum, N - correction without weights.
    """
    if input.array.ndim > 2:
        raise RuntimeError(
            "cov(): expected input to have two or fewer dimensions but got an input with "
            f"{input.array.ndim} dimensions"
        )
    if input.array.dtype.kind == "b":
        raise RuntimeError("cov(): bool dtype is not supported for input")
    x = input if input.array.ndim == 2 else GRAPH.reshape(input, shape=(1, input.array.size))
    count = x.array.shape[1]
    f = None if fweights is None else _weights("fweights", fweights, count, True)
    a = None if aweights is None else _weights("aweights", aweights, count, False)
    w = f if a is None else a if f is None else f * a
    if w is None:
        total: Any = count
        mean = _row_sums(x) / total
    else:
        w = GRAPH.reshape(w, shape=(count,))
        total = GRAPH.sum(w, axis=(0,), keepdims=False)
        if not total.array.any():
            raise RuntimeError("cov(): weights sum to zero, can't be normalized")
        mean = _row_sums(x * w) / total
    norm: Any = total - correction
    if a is not None and correction:
        norm = total - correction * GRAPH.sum(w * GRAPH.reshape(a, shape=(count,)), axis=(0,), keepdims=False) / total
    if (norm.array if isinstance(norm, Tensor) else norm) <= 0:
        warnings.warn(
            "cov(): degrees of freedom is <= 0. Correction should be strictly less than the number of observations.",
            stacklevel=3,
        )
        norm = norm * 0 if isinstance(norm, Tensor) else 0
    x = x - mean
    weighted = x if w is None else x * w
    out = (x @ H(weighted)) / norm
    kept = tuple([n for n in out.array.shape if n != 1])
    return GRAPH.reshape(out, shape=kept)


@public
def corrcoef(input: Tensor) -> Tensor:
    """The correlations of variables (rows) over observations (columns). input: (V, N), (N,), () -> (V, V), () for one.

    >>> import tapegrad as torch
    >>> torch.corrcoef(torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    if input.array.ndim > 2:
        raise RuntimeError(
            "corrcoef(): expected input to have two or fewer dimensions but got an input with "
            f"{input.array.ndim} dimensions"
        )
    out = cov(input)
    if not out.array.ndim:
        return out / out
    n = out.array.shape[0]
    variance = GRAPH.diagonal(out, offset=0, axis1=0, axis2=1)
    deviation = GRAPH.sqrt(GRAPH.real(variance) if out.array.dtype.kind == "c" else variance)
    out = out / GRAPH.reshape(deviation, shape=(n, 1)) / GRAPH.reshape(deviation, shape=(1, n))
    if out.array.dtype.kind != "c":
        return clamp(out, -1, 1)
    return GRAPH.complex(clamp(GRAPH.real(out), -1, 1), clamp(GRAPH.imag(out), -1, 1))
