"""Sampling images and volumes at the places that a grid names."""

from __future__ import annotations

import warnings
from typing import Any

from ...autograd.api.native import MODES, PADDINGS, affine_grid_generator, grid_sampler
from ...autograd.tensor import Tensor
from .sizes import check_tensor

__all__ = ["affine_grid", "grid_sample"]


def _settled(align_corners: bool | None) -> bool:
    if align_corners is None:
        warnings.warn(
            "Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. Please "
            "specify align_corners=True if the old behavior is desired. See the documentation of grid_sample for "
            "details.",
            stacklevel=4,
        )
    return bool(align_corners)


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """The input at the places of grid. input: (N, C, *S), grid: (N, *T, len(S)) -> (N, C, *T), two or three dimensions.

    The last axis of grid holds x, y (and z), the input's last dimension first; -1 and 1 are the outer edges of the
    outermost pixels, or their centres with align_corners. mode: "bilinear" (trilinear for volumes), "nearest" or, for
    images, "bicubic". padding_mode: what lies outside is 0 ("zeros"), the nearest pixel ("border") or mirrored
    ("reflection"). Jaderberg et al., Spatial transformer networks, 2015.

    >>> import tapegrad as torch
    >>> image = torch.arange(4.0).reshape(1, 1, 2, 2)
    >>> torch.nn.functional.grid_sample(image, torch.zeros(1, 1, 1, 2), align_corners=False)
    tensor([[[[1.5000]]]])
    """
    check_tensor(input, "grid_sampler")
    if mode not in MODES:
        raise ValueError(
            f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'"
        )
    if padding_mode not in PADDINGS:
        raise ValueError(
            "nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but got: "
            f"'{padding_mode}'"
        )
    return grid_sampler(input, grid, MODES.index(mode), PADDINGS.index(padding_mode), _settled(align_corners))


def affine_grid(theta: Tensor, size: Any, align_corners: bool | None = None) -> Tensor:
    """A grid for grid_sample from affine maps of places. theta: (N, R, R + 1), size: (N, C, *T) -> (N, *T, R).

    R = 2 for images, 3 for volumes. Raises ValueError for a theta of another shape or an empty size.
    """
    align = _settled(align_corners)
    if not theta.is_floating_point():
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    rank = len(size) - 2
    if rank not in (2, 3):
        raise NotImplementedError(
            "affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. Got size "
            f"{size}."
        )
    if theta.dim() != 3 or theta.shape[-2] != rank or theta.shape[-1] != rank + 1:
        raise ValueError(
            f"Expected a batch of {rank}D affine matrices of shape Nx{rank}x{rank + 1} for size {size}. Got "
            f"{theta.shape}."
        )
    if align and min(size[2:]) == 1:
        warnings.warn(
            "Since version 1.3.0, affine_grid behavior has changed for unit-size grids when align_corners=True. This "
            "is not an intended use case of affine_grid. See the documentation of affine_grid for details.",
            stacklevel=3,
        )
    elif min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {size}")
    return affine_grid_generator(theta, size, align)
