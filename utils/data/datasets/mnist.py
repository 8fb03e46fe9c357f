"""MNIST and data sets of its form: idx files, plain or gzipped.

    magic (4 bytes: 0, 0, type of the numbers, number of dimensions), a big-endian int32 per dimension, the numbers

LeCun, Cortes and Burges, The MNIST database of handwritten digits; Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ....autograd.api.creation import tensor
from ....autograd.tensor import Tensor
from .base import LabelledDataset, damaged, found, no_download

_UBYTE = 8  # the type of the numbers in all of these files
_RATIO = 1032  # deflate makes no more of a byte than this


def read_idx(path: Any, ndim: int) -> Any:
    """The array of unsigned bytes in an idx file, plain or gzipped (known by its content). -> uint8, `ndim` dimensions.

    RuntimeError naming the file where it is no such file, is cut, has more than its header says, or (gzipped) is not
    what was packed.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path, "rb") if packed else open(path, "rb") as file:
            head = file.read(4 + 4 * ndim)
            if head[:4] != bytes((0, 0, _UBYTE, ndim)) or len(head) < 4 + 4 * ndim:
                raise damaged(path, f"no idx file of unsigned bytes in {ndim} dimensions, it begins with {head[:4]!r}")
            shape = tuple(int(n) for n in np.frombuffer(head, ">u4", ndim, 4))
            count = math.prod(shape)
            if count > (size * _RATIO if packed else size):  # before memory is asked for
                raise damaged(path, f"its header says {shape}, which a file of {size} bytes cannot hold")
            data = file.read(count + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, error) from error
    if len(data) != count:
        more = "more" if len(data) > count else f"{len(data)}"
        raise damaged(path, f"its header says {shape}, {count} bytes, but {more} follow")
    return np.frombuffer(data, np.uint8).reshape(shape)


class MNIST(LabelledDataset):
    """28 x 28 grey images of digits, and their labels. Samples: (uint8 (28, 28), int), both through their transforms.

    Args:
        root: the folder of the four files (`train-images-idx3-ubyte`, `.gz` or not, and so on), or one which has them
            in `MNIST/raw` or `raw`, as torchvision keeps them; or a file of images, beside which its labels lie.
        train: the 60,000 training images, or the 10,000 test images.
        transform, target_transform: functions of the image (a NumPy array, where torchvision gives a PIL image of it)
            and of the label; `transforms.ToTensor()` gives float32 (1, 28, 28) in [0, 1].
        download: only False.

    Attributes:
        data: uint8 (N, 28, 28). targets: int64 (N,). classes, class_to_idx: names of the labels.

    RuntimeError naming the file where one is missing, cut, too long or damaged, or a label is none.
    """

    classes = [
        "0 - zero", "1 - one", "2 - two", "3 - three", "4 - four", "5 - five", "6 - six", "7 - seven", "8 - eight",
        "9 - nine",
    ]  # fmt: skip

    def __init__(
        self,
        root: Any,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        download: bool = False,
    ):
        super().__init__(root, transform, target_transform)
        no_download(download, type(self).__name__)
        self.train = train
        images, labels = self._paths()
        pixels, numbers = read_idx(images, 3), read_idx(labels, 1)
        if pixels.shape[1:] != (28, 28):
            raise damaged(images, f"images of 28 x 28 are expected, not {pixels.shape[1:]}")
        if len(pixels) != len(numbers):
            raise damaged(labels, f"{len(numbers)} labels for {len(pixels)} images in {images}")
        if numbers.size and numbers.max() >= len(self.classes):
            raise damaged(labels, f"label {numbers.max()} at {numbers.argmax()}, of {len(self.classes)} classes")
        self.data: Tensor = tensor(pixels)
        self.targets: Tensor = tensor(numbers.astype(np.int64))

    def _paths(self) -> tuple[str, str]:
        place = self.root or ""
        if os.path.isfile(place):
            folder, name = os.path.split(place)
            stem = name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
            return place, found(folder, [""], [stem, stem + ".gz"])
        folders = [os.path.join(type(self).__name__, "raw"), "raw", type(self).__name__, ""]
        stem = "train" if self.train else "t10k"
        kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
        images, labels = (found(place, folders, [f"{stem}-{kind}", f"{stem}-{kind}.gz"]) for kind in kinds)
        return images, labels

    def _sample(self, index: int) -> tuple[Any, Any]:
        return self.data[index].numpy(), int(self.targets[index])

    def __len__(self) -> int:
        return len(self.data)


class FashionMNIST(MNIST):
    """28 x 28 grey images of clothes, in files of MNIST's names and form. As `MNIST`."""

    classes = [
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ]  # fmt: skip
