"""Pictures to the numbers that a model reads."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from ..autograd.api.creation import from_numpy
from ..autograd.tensor import Tensor
from .configuration import read_json

__all__ = ["ImageProcessor"]

_NAME = "preprocessor_config.json"
_DEFAULTS: dict[str, Any] = {
    "do_convert_rgb": True, "do_resize": True, "size": {"height": 224, "width": 224}, "resample": 2,
    "do_center_crop": False, "crop_size": None, "crop_pct": None, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
}  # fmt: skip
# what ConvNext's processor, which ResNet checkpoints name, has where its file says nothing
_CROPPING = {"size": {"shortest_edge": 384}, "crop_pct": 224 / 256, "resample": 3}
_WARPED = 384  # pixels from which on that processor does not crop


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise ImportError(
            "tapegrad.models.ImageProcessor needs Pillow to resize pictures: pip install pillow "
            "(arrays of the right size need none)"
        ) from error


class ImageProcessor:
    """Resizes, crops, rescales and normalises, as a folder's preprocessor_config.json says.

    Args:
        config: the file's keys: do_resize, size ({"height", "width"} or {"shortest_edge"}), resample (Pillow's
            number), do_center_crop, crop_size, crop_pct, do_rescale, rescale_factor, do_normalize, image_mean,
            image_std, do_convert_rgb. Others have no effect.
    """

    def __init__(self, config: dict[str, Any] | None = None):
        given = {key: value for key, value in (config or {}).items() if value is not None}
        kind = given.get("image_processor_type", given.get("feature_extractor_type", ""))
        self.config = {**_DEFAULTS, **(_CROPPING if kind.startswith("ConvNext") else {}), **given}
        for key in ("image_mean", "image_std"):
            if not isinstance(self.config[key], (list, tuple)):
                raise ValueError(f"{key} must be a list of numbers, one a channel, not {self.config[key]!r}")
        self.config["size"] = _size("size", self.config["size"])
        if self.config["do_center_crop"]:
            self.config["crop_size"] = _size("crop_size", self.config["crop_size"] or self.config["size"])

    @classmethod
    def from_pretrained(cls, folder: Any) -> Self:
        """Reads preprocessor_config.json. FileNotFoundError; ValueError naming a damaged file."""
        path = os.path.join(os.fspath(folder), _NAME)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{os.fspath(folder)}: no {_NAME} in this folder")
        values = read_json(path)
        try:
            return cls(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def __call__(self, images: Any) -> dict[str, Tensor]:
        """The numbers of pictures: what a model is called with, `model(**processor(images))`.

        Args:
            images: a picture, or N of them: of Pillow, or arrays or tensors of (height, width, 3) or (height, width),
                uint8, 0 to 255.

        Returns pixel_values: (N, 3, height, width) float32.

        Raises TypeError for what is no picture, ValueError for pictures that end up with different sizes, ImportError
        where one must be resized and Pillow is not installed.
        """
        several = isinstance(images, Sequence) or (hasattr(images, "ndim") and images.ndim == 4)
        arrays = [self._one(image) for image in (images if several else [images])]
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            raise ValueError(f"pictures of different sizes make no tensor: {sorted(shapes)}")
        if not arrays:
            raise ValueError("no picture was given")
        return {"pixel_values": from_numpy(np.stack(arrays))}

    def _one(self, image: Any) -> np.ndarray[Any, Any]:
        """A picture -> (3, height, width) float32."""
        config = self.config
        pixels = _pixels(image)
        if config["do_resize"]:
            pixels = self._resized(pixels)
        if config["do_center_crop"]:
            pixels = _cropped(pixels, config["crop_size"])
        values = pixels.astype(np.float32)
        if config["do_rescale"]:
            values = (values * config["rescale_factor"]).astype(np.float32)
        if config["do_normalize"]:
            values = (values - np.float32(config["image_mean"])) / np.float32(config["image_std"])
        return np.ascontiguousarray(values.transpose(2, 0, 1))

    def _resized(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """(height, width, 3) uint8 -> (height', width', 3) uint8."""
        size, part = self.config["size"], self.config["crop_pct"]
        if "shortest_edge" not in size:
            return self._scaled(pixels, size["height"], size["width"])
        edge = size["shortest_edge"]
        if part is not None and edge >= _WARPED:
            return self._scaled(pixels, edge, edge)
        shortest = edge if part is None else int(edge / part)
        height, width = pixels.shape[:2]
        if height <= width:
            pixels = self._scaled(pixels, shortest, int(shortest * width / height))
        else:
            pixels = self._scaled(pixels, int(shortest * height / width), shortest)
        return pixels if part is None else _cropped(pixels, {"height": edge, "width": edge})

    def _scaled(self, pixels: np.ndarray[Any, Any], height: int, width: int) -> np.ndarray[Any, Any]:
        if pixels.shape[:2] == (height, width):
            return pixels
        pillow = _pillow()
        return np.asarray(pillow.fromarray(pixels).resize((width, height), resample=self.config["resample"]))


def _size(name: str, size: Any) -> dict[str, int]:
    """{"height", "width"} or {"shortest_edge"}; files have a number or a pair, too."""
    if isinstance(size, int):
        size = {"height": size, "width": size}
    elif isinstance(size, (list, tuple)) and len(size) == 2:
        size = {"height": size[0], "width": size[1]}
    good = isinstance(size, dict) and ("shortest_edge" in size or {"height", "width"} <= set(size))
    if not good or not all(isinstance(side, int) and side > 0 for side in size.values() if side is not None):
        raise ValueError(f'{name} must be {{"height", "width"}} or {{"shortest_edge"}} in pixels, not {size!r}')
    return {key: side for key, side in size.items() if side is not None}


def _cropped(pixels: np.ndarray[Any, Any], size: dict[str, int]) -> np.ndarray[Any, Any]:
    """The middle of a picture; around one that is too small there is black."""
    height, width = (size.get(side, size.get("shortest_edge", 0)) for side in ("height", "width"))
    lacking = [max(0, side - have) for side, have in zip((height, width), pixels.shape, strict=False)]
    if any(lacking):
        around = [(math.ceil(n / 2), n - math.ceil(n / 2)) for n in lacking]
        pixels = np.pad(pixels, [*around, (0, 0)])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def _pixels(image: Any) -> np.ndarray[Any, Any]:
    """(height, width, 3) uint8."""
    if hasattr(image, "convert") and hasattr(image, "getbands"):  # Pillow's
        image = image.convert("RGB")
    array = image.numpy() if isinstance(image, Tensor) else np.asarray(image)
    if array.dtype != np.uint8:
        raise TypeError(f"a picture must be of Pillow or an array of uint8, 0 to 255, not {type(image).__name__} of "
                        f"{array.dtype}")  # fmt: skip
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, 2)
    if array.ndim != 3 or array.shape[2] != 3:
        raise TypeError(f"a picture must be of shape (height, width, 3) or (height, width), not {array.shape}")
    return array
