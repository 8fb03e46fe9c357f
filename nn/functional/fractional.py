"""Fractional max pooling (Graham, 2014, https://arxiv.org/abs/1412.6071): windows at pseudo-random steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...autograd.api.random import rand
from ...autograd.ops import pool as op
from ...autograd.tensor import Tensor
from .sizes import check_tensor, repeated, spatial

__all__ = [
    "fractional_max_pool2d", "fractional_max_pool2d_with_indices", "fractional_max_pool3d",
    "fractional_max_pool3d_with_indices",
]  # fmt: skip

_DIMENSIONS = ("time", "height", "width")


def _sizes(name: str, rank: int, input: Tensor, kernel: Any, size: Any, ratio: Any) -> tuple[Any, Any]:
    """(kernel, output size), read and checked."""
    if size is None and ratio is None:
        raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
    extents = input.array.shape[input.array.ndim - rank :]
    if size is None:
        if isinstance(ratio, (tuple, list)) and len(ratio) > rank:
            raise ValueError(f"{name} requires output_ratio to either be a single Int or tuple of Ints.")
        size = tuple(int(n * r) for n, r in zip(extents, repeated(ratio, rank), strict=True))
    kernel, size = spatial(kernel, rank, name, "kernel_size"), spatial(size, rank, name, "output_size")
    for value, word in ((kernel, "kernel_size"), (size, "output_size")):
        if value is None:
            raise RuntimeError(f"{name}: {word} must either be a single Int or tuple of Ints")
    shape = input.array.shape
    if len(shape) not in (rank + 1, rank + 2) or not all(shape[1:]):
        raise RuntimeError(
            f"{name}: Expected {rank + 1}D or {rank + 2}D (batch mode) tensor with non-zero dimensions for input, but "
            f"got: {list(shape)}"
        )
    for n, k, m, word in zip(extents, kernel, size, _DIMENSIONS[-rank:], strict=True):
        if m + k - 1 > n:
            raise RuntimeError(f"{name}: pool {word} {k} too large relative to input {word} {n} for output {m}")
    return kernel, size


def _checked_samples(samples: Tensor, batch: int, channels: int, rank: int) -> Tensor:
    """The samples of the batch, (batch, channels, rank): there may be more than it needs."""
    given = samples.array.shape
    if len(given) != 3:
        raise RuntimeError(f"Expect _random_samples to have 3 dimensions, got {len(given)}")
    if given[0] < batch:
        raise RuntimeError(
            f"Expect _random_samples.size(0) no less then input batch size. (got {given[0]} and {batch})"
        )
    if given[1] != channels:
        raise RuntimeError(
            f"Expect _random_samples.size(1) equals to input channel size. (got {given[1]} and {channels})"
        )
    if given[2] != rank:
        raise RuntimeError(f"Expect _random_samples.size(2) equals to {rank}; got {given[2]}.")
    return samples if given[0] == batch else samples[:batch]


def _pooled(
    rank: int, input: Tensor, kernel_size: Any, output_size: Any, output_ratio: Any, samples: Tensor | None
) -> tuple[Tensor, Tensor]:
    name = f"fractional_max_pool{rank}d"
    check_tensor(input, name)
    kernel, size = _sizes(name, rank, input, kernel_size, output_size, output_ratio)
    x = input.unsqueeze(0) if input.array.ndim == rank + 1 else input
    if samples is None:
        samples = rand(*x.array.shape[:2], rank, dtype=x.dtype, device=x.device)
    else:
        batch, channels = x.array.shape[:2]
        samples = _checked_samples(samples, batch, channels, rank)
    out, indices = op.fractional_max_pool(x, samples, kernel=kernel, size=size)
    return (out, indices) if x is input else (out.squeeze(0), indices.squeeze(0))


def _function(rank: int, both: bool, doc: str) -> Callable[..., Any]:
    """The function of a rank that gives both, maxima and indices, or the maxima where the indices are not asked for."""

    def pool(
        input: Tensor,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> Any:
        found = _pooled(rank, input, kernel_size, output_size, output_ratio, _random_samples)
        return found if both or return_indices else found[0]

    pool.__name__ = pool.__qualname__ = f"fractional_max_pool{rank}d{'_with_indices' if both else ''}"
    pool.__doc__ = doc
    return pool


fractional_max_pool2d = _function(2, False, """\
The maxima of windows at pseudo-random steps. input: (N, C, H, W) or (C, H, W) -> with H', W'.

output_size: H' and W', or output_ratio: their ratios to H and W. return_indices: a pair with the maxima's numbers in
their planes. _random_samples: (N, C, 2) numbers of [0, 1), for width and height.
""")  # fmt: skip
fractional_max_pool3d = _function(3, False, """\
The maxima of windows at pseudo-random steps. input: (N, C, T, H, W) or (C, T, H, W) -> with T', H', W'.

See fractional_max_pool2d. _random_samples: (N, C, 3) numbers of [0, 1), for time, height and width.
""")  # fmt: skip
_BOTH = "fractional_max_pool{}d with return_indices=True. (N, C, {}) -> (N, C, *output_size) twice."
fractional_max_pool2d_with_indices = _function(2, True, _BOTH.format(2, "H, W"))
fractional_max_pool3d_with_indices = _function(3, True, _BOTH.format(3, "D, H, W"))
