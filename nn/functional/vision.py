"""Resizing of images, and moving pixels between channels and space."""

from __future__ import annotations

import warnings
from typing import Any

from ...autograd.dtypes import from_numpy_dtype
from ...autograd.ops import interpolate as op
from ...autograd.tensor import Tensor
from .pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from .sizes import check_tensor, ints

__all__ = [
    "channel_shuffle", "interpolate", "native_channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "upsample",
    "upsample_bilinear", "upsample_nearest",
]  # fmt: skip

_RANKS = {"linear": 1, "bilinear": 2, "trilinear": 3}
_METHODS = {
    "nearest": "nearest",
    "nearest-exact": "nearest-exact",
    "linear": "linear",
    "bilinear": "linear",
    "trilinear": "linear",
    "bicubic": "cubic",
    "lanczos": "lanczos",
}
_AREA = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """The input's spatial dimensions in a new size. input: (N, C, *S), one to three spatial dimensions.

    Either `size` or `scale_factor`, a number or one per dimension. mode: "nearest", "nearest-exact", "area" (adaptive
    average pooling), "linear" (one spatial dimension), "bilinear", "bicubic" (two), "trilinear" (three),
    "lanczos" (two, with antialias). align_corners: the corner pixels' centres keep their place. recompute_scale_factor:
    the scale is taken from the new size in whole pixels. antialias: "bilinear", "bicubic" and "lanczos" average over
    all pixels that become one. uint8 is taken where pixels are chosen, and in these three.
    """
    check_tensor(input, "interpolate")
    if mode in ("nearest", "area", "nearest-exact") and align_corners is not None:
        raise ValueError(
            "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear"
        )
    shape = input.array.shape
    sizes, scales = _target(shape, size, scale_factor)
    if recompute_scale_factor and size is not None:
        raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
    if antialias and not (mode in ("bilinear", "bicubic", "lanczos") and len(shape) == 4):
        raise ValueError(
            "Anti-alias option is restricted to bilinear, bicubic, and lanczos modes and requires a 4-D tensor as input"
        )
    _check_mode(len(shape), mode)
    if mode == "lanczos" and (align_corners or not antialias):
        wrong = "does not support align_corners=True" if align_corners else "requires antialias=True"
        raise ValueError(f"Lanczos mode {wrong}")
    if mode == "area":
        return _AREA[len(shape) - 2](input, sizes)
    _check_sizes(shape, sizes)
    _check_kind(input, mode)
    method = _METHODS[mode] + ("-antialias" if antialias else "")
    return getattr(op, op.OP_OF_METHOD[method])(
        input,
        size=sizes,
        method=method,
        align_corners=bool(align_corners),
        scales=None if recompute_scale_factor else scales,
    )


def _target(shape: Any, size: Any, scale_factor: Any) -> tuple[tuple[int, ...], Any]:
    """(new sizes, scale factors or None)."""
    rank = len(shape) - 2
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is None and scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    each = isinstance(size if scale_factor is None else scale_factor, (list, tuple))
    if scale_factor is not None:
        if each and len(scale_factor) != rank:
            raise ValueError(
                "Input and scale_factor must have the same number of spatial dimensions, but got input with spatial "
                f"dimensions of {list(shape[2:])} and scale_factor of shape {scale_factor}. Please provide input "
                "tensor in (N, C, d1, d2, ...,dK) format and scale_factor in (s1, s2, ...,sK) format."
            )
        scales = tuple([float(s) for s in scale_factor]) if each else (float(scale_factor),) * rank
        return tuple([int(n * s) for n, s in zip(shape[2:], scales, strict=True)]), scales
    if each and len(size) != rank:
        raise ValueError(
            "Input and output must have the same number of spatial dimensions, but got input with spatial dimensions "
            f"of {list(shape[2:])} and output size of {size}. Please provide input tensor in (N, C, d1, d2, ...,dK) "
            "format and output size in (o1, o2, ...,oK) format."
        )
    if each and not all(hasattr(n, "__index__") for n in size):
        raise TypeError(
            "expected size to be one of int or Tuple[int] or Tuple[int, int] or Tuple[int, int, int], but got size "
            f"with types {[type(n) for n in size]}"
        )
    found = ints(size, "interpolate", "size")
    return (found if each else found * rank), None


def _check_mode(ndim: int, mode: str) -> None:
    """NotImplementedError where there is no such mode for inputs of so many dimensions."""
    if mode in ("linear", "bilinear", "trilinear") and ndim in (3, 4, 5) and ndim != _RANKS[mode] + 2:
        raise NotImplementedError(f"Got {ndim}D input, but {mode} mode needs {_RANKS[mode] + 2}D input")
    if mode not in (*_METHODS, "area") or ndim not in (3, 4, 5) or (mode in ("bicubic", "lanczos") and ndim != 4):
        raise NotImplementedError(
            f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {ndim}D) for the modes: nearest | linear | "
            f"bilinear | bicubic | trilinear | lanczos | area | nearest-exact (got {mode})"
        )


def _check_sizes(shape: Any, sizes: tuple[int, ...]) -> None:
    if min(*sizes, *shape[2:]) <= 0:
        words = "DHW"[-len(sizes) :]
        before = ", ".join(f"{w}: {n}" for w, n in zip(words, shape[2:], strict=True))
        after = ", ".join(f"{w}: {n}" for w, n in zip(words, sizes, strict=True))
        raise RuntimeError(
            f"Input and output sizes should be greater than 0, but got input ({before}) output ({after})"
        )
    if not shape[1]:
        raise RuntimeError(f"Non-empty {len(shape)}D data tensor expected but got a tensor with sizes {list(shape)}")


def _check_kind(input: Tensor, mode: str) -> None:
    """Floats; bytes too, but for "linear" and "trilinear"."""
    dtype = input.array.dtype
    image = mode not in ("linear", "trilinear") and dtype.kind == "u" and dtype.itemsize == 1
    if dtype.kind in "biuc" and not image:
        word = f"upsample_{mode.replace('-', '_')}{input.array.ndim - 2}d"
        raise NotImplementedError(
            f"\"{word}\" not implemented for '{from_numpy_dtype(dtype).legacy}'; convert with .float() first"
        )


def upsample(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Deprecated name of interpolate. input: (N, C, *S) -> (N, C, *size)."""
    _deprecated("upsample")
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """Deprecated: interpolate(mode="nearest"). input: (N, C, *S) -> (N, C, *size)."""
    _deprecated("upsample_nearest")
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """Deprecated: interpolate(mode="bilinear", align_corners=True). input: (N, C, *S) -> (N, C, *size)."""
    _deprecated("upsample_bilinear")
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


def _deprecated(name: str) -> None:
    warnings.warn(
        f"`nn.functional.{name}` is deprecated. Use `nn.functional.interpolate` instead.", UserWarning, stacklevel=3
    )


# ---- channels and space ----------------------------------------------------------------------------------------------


def _check_images(name: str, input: Tensor, argument: str, factor: int) -> None:
    check_tensor(input, name)
    if input.array.ndim < 3:
        raise RuntimeError(
            f"{name} expects input to have at least 3 dimensions, but got input with {input.array.ndim} dimension(s)"
        )
    if factor <= 0:
        raise RuntimeError(f"{name} expects a positive {argument}, but got {factor}")


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels as pixels (Shi et al., 2016). input: (*, C r r, H, W) -> (*, C, H r, W r), r = upscale_factor."""
    _check_images("pixel_shuffle", input, "upscale_factor", upscale_factor)
    channels = input.array.shape[-3]
    if channels % upscale_factor**2:
        raise RuntimeError(
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, "
            f"but input.size(-3)={channels} is not divisible by {upscale_factor**2}"
        )
    return op.pixel_shuffle(input, factor=upscale_factor)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Pixels laid out as channels. input: (*, C, H r, W r) -> (*, C r r, H, W), r = downscale_factor."""
    _check_images("pixel_unshuffle", input, "downscale_factor", downscale_factor)
    for d, word in ((-2, "height"), (-1, "width")):
        if input.array.shape[d] % downscale_factor:
            raise RuntimeError(
                f"pixel_unshuffle expects {word} to be divisible by downscale_factor, but "
                f"input.size({d})={input.array.shape[d]} is not divisible by {downscale_factor}"
            )
    return op.pixel_unshuffle(input, factor=downscale_factor)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """The channels of `groups` groups dealt out in turn. input: (N, C, *S) -> (N, C, *S) (Zhang et al., 2018)."""
    check_tensor(input, "channel_shuffle")
    shape = input.array.shape
    if len(shape) <= 2:
        raise RuntimeError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(shape)}")
    if groups <= 0:
        raise RuntimeError(f"Number of groups to divide channels in must be positive. Value of groups:{groups}")
    if shape[1] % groups:
        raise RuntimeError(
            f"Number of channels must be divisible by groups. Got {shape[1]} channels and {groups} groups."
        )
    return op.channel_shuffle(input, groups=groups)


native_channel_shuffle = channel_shuffle
