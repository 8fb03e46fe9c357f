"""Pooling: maxima, means and power means of windows, adaptive pooling, and the placing back of maxima."""

from __future__ import annotations

import math
from typing import Any

from ...autograd.coerce import into
from ...autograd.dtypes import from_numpy_dtype
from ...autograd.op import GRAPH
from ...autograd.ops import interpolate as resize
from ...autograd.ops import pool as op
from ...autograd.tensor import Tensor
from .sizes import NUMBERS, check_tensor, ints, spatial

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool1d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d", "adaptive_max_pool3d_with_indices", "avg_pool1d", "avg_pool2d", "avg_pool3d", "lp_pool1d",
    "lp_pool2d", "lp_pool3d", "max_pool1d", "max_pool1d_with_indices", "max_pool2d", "max_pool2d_with_indices",
    "max_pool3d", "max_pool3d_with_indices", "max_unpool1d", "max_unpool2d", "max_unpool3d",
]  # fmt: skip

# ---- windows ---------------------------------------------------------------------------------------------------------


def _sized(value: Any, rank: int, name: str, argument: str, omitted: str = "") -> tuple[int, ...]:
    found = spatial(value, rank, name, argument)
    if found is None:
        if name == "max_pool1d":
            raise RuntimeError(
                f"max_pool1d() {argument} must be an int, list of ints or tuple of ints of size 1 but got size "
                f"{len(ints(value, name, argument))}"
            )
        raise RuntimeError(f"{name}: {argument} must either be {omitted}a single int, or a tuple of {NUMBERS[rank]}")
    return found


def _stride(value: Any, kernel: tuple[int, ...], name: str) -> tuple[int, ...]:
    """The stride, the kernel's size where it is left out (None or empty)."""
    if value is None or (value.__class__ in (list, tuple) and not value):
        return kernel
    return _sized(value, len(kernel), name, "stride", "omitted, ")


def _windows(
    name: str,
    input: Tensor,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    kinds: str,
    simple: bool = False,
) -> dict[str, tuple[int, ...]]:
    """Keywords of a pooling op, checked, with the number of windows. kinds: dtype kinds not taken.

    simple: max_pool1d without indices, for which PyTorch has words of its own.
    """
    rank = len(kernel)
    check_tensor(input, name)
    (_check_simple if simple else _check_geometry)(name, kernel, stride, padding, dilation)
    _check_shape(name, input.array.shape, rank)
    _check_kind(name, input, kinds)
    shape = input.array.shape
    size = []
    for n, k, s, p, d in zip(shape[-rank:], kernel, stride, padding, dilation, strict=True):
        free = n + 2 * p - d * (k - 1) - 1
        count = (free + s - 1) // s + 1 if ceil_mode else free // s + 1
        if ceil_mode and (count - 1) * s >= n + p:  # a window must begin in the input or its left padding
            count -= 1
        size.append(count)
    if min(size) < 1:
        if simple:
            raise RuntimeError(f"max_pool1d() Invalid computed output size: {size[0]}")
        before = "x".join(map(str, shape[-rank - 1 :]))
        after = "x".join(map(str, (shape[-rank - 1], *size)))
        raise RuntimeError(
            f"Given input size: ({before}). Calculated output size: ({after}). Output size is too small ({name})"
        )
    return {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation, "size": tuple(size)}


def _check_shape(name: str, shape: tuple[int, ...], rank: int) -> None:
    """The input is (C, *S) or (N, C, *S), and only N may be 0."""
    fits = len(shape) in (rank + 1, rank + 2)
    if fits and all(shape[-rank - 1 :]):
        return
    expected = f"{rank + 1}D or {rank + 2}D (batch mode) tensor"
    if not fits and (rank == 3 or name == "max_pool2d"):
        raise RuntimeError(f"non-empty {expected} expected for input ({name}: got {list(shape)})")
    if rank < 3:
        raise RuntimeError(
            f"{name}: Expected {expected} with optional 0 dim batch size for input, but got:{list(shape)}"
        )
    where = shape[-rank - 1 :].index(0)
    raise RuntimeError(
        f"{name}: Expected input's non-batch dimensions to have positive length, but input has a shape of "
        f"{list(shape)} and non-batch dimension {where} has length zero!"
    )


def _check_geometry(name: str, kernel: Any, stride: Any, padding: Any, dilation: Any) -> None:
    """Windows of a positive size, at positive steps, of which at least half lies in the input."""
    if 0 in stride:
        raise RuntimeError("stride should not be zero")
    for p, k, d in zip(padding, kernel, dilation, strict=True):
        if p < 0:
            raise RuntimeError(f"pad must be non-negative, but got pad: {p}")
        if p > (d * (k - 1) + 1) // 2:
            raise RuntimeError(
                f"pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k} and "
                f"dilation={d}"
            )
    rank = len(kernel)
    named = ((kernel, "kernel size", "k"), (stride, "stride", "d"), (dilation, "dilation", "dilation"))
    for values, what, letter in named:
        if min(values) <= 0:
            shown = " ".join(f"{letter}{w}: {v}" for w, v in zip("THW"[-rank:], values, strict=True))
            raise RuntimeError(f"{what} should be greater than zero, but got {shown}")


def _check_simple(name: str, kernel: Any, stride: Any, padding: Any, dilation: Any) -> None:
    """_check_geometry in the words that PyTorch has for max_pool1d alone."""
    (k,), (s,), (p,), (d,) = kernel, stride, padding, dilation
    for value, word in ((k, "kernel_size"), (s, "stride"), (d, "dilation")):
        if value <= 0:
            raise RuntimeError(f"max_pool1d() {word} must be greater than zero, but got {value}")
    if p < 0:
        raise RuntimeError(f"max_pool1d() padding must be non-negative, but got {p}")
    if p > k // 2:
        raise RuntimeError(
            f"max_pool1d() padding should be at most half of kernel size, but got padding={p} and kernel_size={k}"
        )


def _check_kind(name: str, input: Tensor, kinds: str) -> None:
    if input.array.dtype.kind in kinds:
        kind = from_numpy_dtype(input.array.dtype)
        raise NotImplementedError(f"\"{name}\" not implemented for '{kind.legacy}'")


# ---- maximum ---------------------------------------------------------------------------------------------------------


def _max_pool(
    rank: int, input: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, indices: bool
) -> Any:
    name = f"max_pool{rank}d"
    kernel = _sized(kernel, rank, name, "kernel_size")
    stride = _stride(stride, kernel, name)
    padding = _sized(padding, rank, name, "padding")
    dilation = _sized(dilation, rank, name, "dilation")
    simple = rank == 1 and not indices
    geometry = _windows(name, input, kernel, stride, padding, dilation, ceil_mode, "bc", simple)
    return (op.max_pool_with_indices if indices else op.max_pool)(input, **geometry)


def max_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window. input: (N, C, L) or (C, L) -> the same with L'; see max_pool2d."""
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window. input: (N, C, H, W) or (C, H, W) -> the same with H', W'.

    stride: that of the windows, by default their size. padding: places outside, which never are the maximum; at most
    half a window. ceil_mode: windows may end beyond the padding. return_indices: a pair with the maxima's numbers in
    their planes (int64), for max_unpool2d.
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window. input: (N, C, D, H, W) or (C, D, H, W) -> with D', H', W'; see max_pool2d."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool1d_with_indices(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Tensor, Tensor]:
    """max_pool1d with return_indices=True. (N, C, L) -> (N, C, L') twice."""
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Tensor, Tensor]:
    """max_pool2d with return_indices=True. (N, C, H, W) -> (N, C, H', W') twice."""
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Tensor, Tensor]:
    """max_pool3d with return_indices=True. (N, C, D, H, W) -> (N, C, D', H', W') twice."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, True)


# ---- maxima put back -------------------------------------------------------------------------------------------------


def _max_unpool(
    rank: int, input: Any, indices: Any, kernel: Any, stride: Any, padding: Any, output_size: Any
) -> Tensor:
    name = f"max_unpool{rank}d"
    check_tensor(input, name)
    check_tensor(indices, name, "indices", 2)
    kernel = _sized(kernel, rank, name, "kernel_size")
    stride = _stride(stride, kernel, name)
    padding = _sized(padding, rank, name, "padding")
    shape = input.array.shape
    usual = [(n - 1) * s + k - 2 * p for n, s, k, p in zip(shape[-rank:], stride, kernel, padding, strict=False)]
    size = tuple(usual if output_size is None else _unpool_size(output_size, usual, stride))
    if indices.array.dtype.kind != "i" or indices.array.dtype.itemsize != 8:
        kind = from_numpy_dtype(indices.array.dtype)
        raise RuntimeError(f"elements in indices should be type int64 but got: {kind.legacy}")
    if len(shape) not in (rank + 1, rank + 2):
        raise RuntimeError(
            f"Input to max_unpooling{rank}d should be a {rank + 1}d or {rank + 2}d Tensor, but got a tensor with "
            f"{len(shape)} dimensions."
        )
    if indices.array.shape != shape:
        raise RuntimeError(
            f"Expected shape of indices to be same as that of the input tensor ({list(shape)}) but got indices tensor "
            f"with shape: {list(indices.shape)}"
        )
    return op.max_unpool(input, indices, size=size)


def _unpool_size(wanted: Any, usual: list[int], stride: tuple[int, ...]) -> Any:
    """The spatial part of `output_size`, which may differ from the usual size by less than a stride."""
    rank = len(usual)
    size = wanted[2:] if len(wanted) == rank + 2 else wanted
    if len(size) != rank:
        raise ValueError(
            f"output_size should be a sequence containing {rank} or {rank + 2} elements, but it has a length of "
            f"'{len(size)}'"
        )
    for d, (n, u, s) in enumerate(zip(size, usual, stride, strict=True)):
        if not u - s < n < u + s:
            raise ValueError(f'invalid output_size "{size}" (dim {d} must be between {u - s} and {u + s})')
    return size


def max_unpool1d(
    input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Tensor:
    """Zeros with the maxima of max_pool1d back in their places. input, indices: (N, C, L) or (C, L)."""
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Tensor:
    """Zeros with the maxima of max_pool2d back in their places. input, indices: (N, C, H, W) or (C, H, W).

    output_size settles the size where several inputs of max_pool2d have this output's size.
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Tensor:
    """Zeros with the maxima of max_pool3d back in their places. input, indices: (N, C, D, H, W) or (C, D, H, W)."""
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)


# ---- average ---------------------------------------------------------------------------------------------------------


def _avg_pool(
    rank: int,
    input: Any,
    kernel: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None = None,
) -> Tensor:
    name = f"avg_pool{rank}d"
    kernel = _sized(kernel, rank, name, "kernel_size")
    stride = _stride(stride, kernel, name)
    padding = _sized(padding, rank, name, "padding")
    if divisor == 0:
        raise RuntimeError("divisor must be not zero")
    geometry = _windows(name, input, kernel, stride, padding, (1,) * rank, ceil_mode, "bc")
    del geometry["dilation"]
    how = divisor if divisor is not None else "all" if count_include_pad else "inside"
    return op.avg_pool(input, **geometry, divisor=how)


def avg_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window. input: (N, C, L) or (C, L) -> the same with L'."""
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """The mean of each window. input: (N, C, H, W) or (C, H, W) -> the same with H', W'.

    count_include_pad: zeros in the padding count; what ceil_mode adds beyond it never does. divisor_override: what the
    sums are divided by instead of the number of places.
    """
    found = _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return found if out is None else into(out, "avg_pool2d", found)


def avg_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """The mean of each window. input: (N, C, D, H, W) or (C, D, H, W) -> the same with D', H', W'; see avg_pool2d."""
    found = _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return found if out is None else into(out, "avg_pool3d", found)


# ---- power means -----------------------------------------------------------------------------------------------------


def _lp_pool(rank: int, input: Any, norm_type: float, kernel: Any, stride: Any, ceil_mode: bool) -> Tensor:
    name = f"lp_pool{rank}d"
    check_tensor(input, name)
    if norm_type == math.inf:
        return _max_pool(rank, GRAPH.abs(input), kernel, stride, 0, 1, ceil_mode, False)
    if norm_type == -math.inf:
        return -_max_pool(rank, -GRAPH.abs(input), kernel, stride, 0, 1, ceil_mode, False)
    size = math.prod(_sized(kernel, rank, name, "kernel_size"))
    mean = _avg_pool(rank, input**norm_type, kernel, stride, 0, ceil_mode, True)
    # the factor in front gives a negative mean of an odd power the value 0, and its root no nan
    return (GRAPH.sign(mean) * GRAPH.relu(GRAPH.abs(mean)) * size) ** (1.0 / norm_type)


def lp_pool1d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """(sum of x**p over each window) ** (1/p), p = norm_type. input: (N, C, L) or (C, L) -> the same with L'."""
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """(sum of x**p over each window) ** (1/p), p = norm_type. input: (N, C, H, W) or (C, H, W) -> with H', W'."""
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """(sum of x**p over each window) ** (1/p), p = norm_type. input: (N, C, D, H, W) or (C, D, H, W)."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


# ---- adaptive --------------------------------------------------------------------------------------------------------


def _adaptive_size(rank: int, name: str, input: Any, wanted: Any) -> tuple[int, ...]:
    """The output size, None meaning the input's, checked along with the input."""
    check_tensor(input, name)
    shape = input.array.shape
    if rank > 1 and wanted.__class__ in (tuple, list) and len(shape) <= len(wanted):
        raise ValueError(f"Input dimension should be at least {len(wanted) + 1} ({name}: got {list(shape)})")
    if len(shape) not in (rank + 1, rank + 2):
        raise RuntimeError(f"{name}(): Expected {rank + 1}D or {rank + 2}D tensor, but got {list(shape)}")
    for d in range(len(shape) - rank - 1, len(shape)):
        if not shape[d]:
            raise RuntimeError(
                f"{name}(): Expected input to have non-zero size for non-batch dimensions, but input has sizes "
                f"{list(shape)} with dimension {d} being empty"
            )
    if wanted.__class__ in (tuple, list) and None in wanted:
        wanted = [n if w is None else w for w, n in zip(wanted, shape[-rank:], strict=False)]
    size = spatial(shape[-1] if wanted is None else wanted, rank, name, "output_size")
    if size is None or (rank > 1 and wanted.__class__ in (tuple, list) and len(wanted) != rank):
        if rank == 1:
            raise RuntimeError(f"{name}() argument 'output_size' should contain one int (got {len(wanted)})")
        if "max" in name:
            raise RuntimeError(f"{name}(): internal error: output_size.size() must be {rank}")
        raise RuntimeError(f"{name}: output_size must be {rank}")
    if min(size) < 0:
        if "max" in name:
            d = next(n for n in size if n < 0)
            raise RuntimeError(
                f"Trying to create tensor with negative dimension {d}: {[*shape[:-rank], *size]} ({name}: output_size)"
            )
        shown = ", ".join(map(str, size))
        raise RuntimeError(
            f"{name}: elements of output_size must be greater than or equal to 0 but received {{{shown}}}"
        )
    _check_kind(name, input, "biuc")
    return size


def _adaptive_avg_pool(rank: int, input: Any, output_size: Any) -> Tensor:
    size = _adaptive_size(rank, f"adaptive_avg_pool{rank}d", input, output_size)
    if size == (1,) * rank:
        ndim = input.array.ndim
        return GRAPH.mean(input, axis=tuple(range(ndim - rank, ndim)), keepdims=True)
    return resize.adaptive_avg_pool(input, size=size, method="area", align_corners=False, scales=None)


def _adaptive_max_pool(rank: int, input: Any, output_size: Any) -> tuple[Tensor, Tensor]:
    size = _adaptive_size(rank, f"adaptive_max_pool{rank}d", input, output_size)
    return op.adaptive_max_pool(input, size=size)


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """Means of output_size parts of a signal. input: (N, C, L) or (C, L) -> the same with output_size."""
    return _adaptive_avg_pool(1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Means of output_size parts of an image. input: (N, C, H, W) or (C, H, W) -> the same with output_size.

    output_size: an int, or a pair of ints or None (the input's own size).
    """
    return _adaptive_avg_pool(2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """Means of output_size parts of a volume. input: (N, C, D, H, W) or (C, D, H, W) -> the same with output_size."""
    return _adaptive_avg_pool(3, input, output_size)


def adaptive_max_pool1d_with_indices(
    input: Tensor, output_size: Any, return_indices: bool = False
) -> tuple[Tensor, Tensor]:
    """adaptive_max_pool1d with return_indices=True. (N, C, L) -> (N, C, *output_size) twice."""
    return _adaptive_max_pool(1, input, output_size)


def adaptive_max_pool2d_with_indices(
    input: Tensor, output_size: Any, return_indices: bool = False
) -> tuple[Tensor, Tensor]:
    """adaptive_max_pool2d with return_indices=True. (N, C, H, W) -> (N, C, *output_size) twice."""
    return _adaptive_max_pool(2, input, output_size)


def adaptive_max_pool3d_with_indices(
    input: Tensor, output_size: Any, return_indices: bool = False
) -> tuple[Tensor, Tensor]:
    """adaptive_max_pool3d with return_indices=True. (N, C, D, H, W) -> (N, C, *output_size) twice."""
    return _adaptive_max_pool(3, input, output_size)


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima of output_size parts of a signal. input: (N, C, L) or (C, L) -> the same with output_size."""
    found = _adaptive_max_pool(1, input, output_size)
    return found if return_indices else found[0]


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima of output_size parts of an image. input: (N, C, H, W) or (C, H, W) -> the same with output_size.

    return_indices: a pair with the maxima's numbers in their planes.
    """
    found = _adaptive_max_pool(2, input, output_size)
    return found if return_indices else found[0]


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima of output_size parts of a volume. input: (N, C, D, H, W) or (C, D, H, W) -> the same with output_size."""
    found = _adaptive_max_pool(3, input, output_size)
    return found if return_indices else found[0]
