"""Padding."""

from __future__ import annotations

from typing import Any

from ...autograd.dtypes import from_numpy_dtype
from ...autograd.op import GRAPH
from ...autograd.tensor import Tensor
from .sizes import check_tensor

__all__ = ["pad"]


def pad(input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """The input continued at its ends; negative numbers cut off.

    pad: (before, after) of the last dimension, then of the one before it, ... mode: "constant" (value, 0 by default),
    "reflect" (mirrored at the last element), "replicate" (the last element) or "circular" (the other end). The last
    three pad the last 1, 2 or 3 dimensions of (N, C, *S) or (C, *S), and need a pair for each dimension of S.

    >>> import tapegrad as torch
    >>> torch.nn.functional.pad(torch.tensor([[1, 2, 3]]), (2, 1), mode="reflect")
    tensor([[3, 2, 1, 2, 3, 2]])
    """
    check_tensor(input, "pad")
    widths = _widths(input, pad, mode)
    if mode == "constant":
        return GRAPH.pad_constant(input, widths=widths, value=0 if value is None else _in_kind(input, value))
    if value is not None and value != 0:
        raise RuntimeError(f'Padding mode "{mode}" doesn\'t take in value argument')
    _check_continued(input, len(pad) // 2, widths, mode)
    more = tuple([(max(a, 0), max(b, 0)) for a, b in widths])
    less = tuple([(min(a, 0), min(b, 0)) for a, b in widths])
    cut = any(a or b for a, b in less)
    if cut and mode == "circular":  # what is cut off does not come back at the other end
        input = GRAPH.pad_constant(input, widths=less, value=0)
    if input.array.size:
        out = GRAPH.pad_edge(input, widths=more, how=mode)
    else:
        out = GRAPH.pad_constant(input, widths=more, value=0)
    return GRAPH.pad_constant(out, widths=less, value=0) if cut and mode != "circular" else out


def _widths(input: Tensor, pad: Any, mode: str) -> tuple[tuple[int, int], ...]:
    """(before, after) for each dimension of the input, first to last."""
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if not isinstance(pad, (tuple, list)):
        raise TypeError(f"pad(): argument 'pad' (position 2) must be tuple of ints, not {type(pad).__name__}")
    for i, width in enumerate(pad):
        if not hasattr(width, "__index__"):
            raise TypeError(
                "pad(): argument 'pad' (position 2) must be tuple of ints, but found element of type "
                f"{type(width).__name__} at pos {i}"
            )
    shape = input.array.shape
    if len(pad) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(pad) > 2 * len(shape):
        raise RuntimeError(
            "Padding length should be less than or equal to two times the input dimension but got padding length "
            f"{len(pad)} and input of dimension {len(shape)}"
        )
    pairs = [(int(a), int(b)) for a, b in zip(pad[::2], pad[1::2], strict=True)][::-1]
    widths = ((0, 0),) * (len(shape) - len(pairs)) + tuple(pairs)
    for n, (a, b) in zip(shape, widths, strict=True):
        if mode == "constant" and (n + min(a, 0) < 0 or n + min(a, 0) + min(b, 0) < 0):
            raise RuntimeError(f"narrow(): length must be non-negative. (pad(): padding {(a, b)} of a size {n})")
    return widths


def _in_kind(input: Tensor, value: float) -> Any:
    """The value as the input's dtype holds it."""
    kind = input.array.dtype.kind
    return int(value) if kind in "iu" else bool(value) if kind == "b" else value


def _check_continued(input: Tensor, rank: int, widths: tuple[tuple[int, int], ...], mode: str) -> None:
    """What the modes other than "constant" ask of dimensions, dtype and widths."""
    shape = input.array.shape
    if rank not in (1, 2, 3) or len(shape) not in (rank + 1, rank + 2):
        raise NotImplementedError(
            f"Padding size {2 * rank} is not supported for {len(shape)}D input tensor.\n"
            "Supported combinations for non-constant padding:\n"
            "  - 2D or 3D input: padding size = 2 (pads last dimension)\n"
            "  - 3D or 4D input: padding size = 4 (pads last 2 dimensions)\n"
            "  - 4D or 5D input: padding size = 6 (pads last 3 dimensions)"
        )
    if mode == "circular":
        for n, (a, b) in zip(shape, widths, strict=True):
            if a > n or b > n:
                raise RuntimeError("Padding value causes wrapping around more than once.")
            if n + a + b < 0:
                raise RuntimeError("Negative padding value is resulting in an empty dimension")
        return
    name = {"reflect": "reflection", "replicate": "replication"}[mode]
    if input.array.dtype.kind == "b":
        kind = from_numpy_dtype(input.array.dtype)
        raise NotImplementedError(f"\"{name}_pad{rank}d\" not implemented for '{kind.legacy}'")
    if not all(shape[len(shape) - rank - 1 :]):
        raise RuntimeError(
            f"Expected {rank + 1}D or {rank + 2}D (batch mode) tensor with possibly 0 batch size and other non-zero "
            f"dimensions for input, but got: {list(shape)}"
        )
    for d in range(len(shape) - 1, len(shape) - rank - 1, -1):
        n, (a, b) = shape[d], widths[d]
        if mode == "reflect" and (a >= n or b >= n):
            raise RuntimeError(
                f"Argument #{2 + 2 * (len(shape) - d)}: Padding size should be less than the corresponding input "
                f"dimension, but got: padding ({a}, {b}) at dimension {d} of input {list(shape)}"
            )
    sizes = [n + a + b for n, (a, b) in zip(shape[-rank:], widths[-rank:], strict=True)]
    if max(sizes) < 1 or min(sizes) < 0:
        words = "DHW"[-rank:]
        before = " ".join(f"{w}: {n}" for w, n in zip(words, shape[-rank:], strict=True))
        after = " ".join(f"{w}: {n}" for w, n in zip(words, sizes, strict=True))
        raise RuntimeError(f"input ({before}) is too small. Calculated output {after}")
