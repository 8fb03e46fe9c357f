"""CIFAR-10 and CIFAR-100 in their published batches: pickled for Python, or binary.

Krizhevsky, Learning multiple layers of features from tiny images, 2009.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from .base import LabelledDataset, damaged, find, found, no_download
from .pickles import read_dict

_PIXELS = 3 * 32 * 32


class CIFAR10(LabelledDataset):
    """32 x 32 colour images of ten classes. Samples: (uint8 (32, 32, 3), int), both through their transforms.

    Args:
        root: the folder of the batches (`data_batch_1` ... `test_batch`, or these with `.bin`), or the one that has
            `cifar-10-batches-py` or `cifar-10-batches-bin` in it.
        train: the 50,000 training images, or the 10,000 test images.
        transform, target_transform: functions of the image (a NumPy array, where torchvision gives a PIL image of it)
            and of the label; `transforms.ToTensor()` gives float32 (3, 32, 32) in [0, 1].
        download: only False.

    Attributes:
        data: NumPy array, uint8 (N, 32, 32, 3). targets: list of int. classes, class_to_idx: names of the labels.

    The pickles are read as data, whatever else they hold is refused. RuntimeError naming the file where one is missing,
    cut, too long or damaged, or a label is none.
    """

    folders = ["cifar-10-batches-py", "cifar-10-batches-bin", ""]
    batches = {True: [f"data_batch_{i}" for i in range(1, 6)], False: ["test_batch"]}
    names = {"batches.meta": "label_names", "batches.meta.txt": ""}
    labels, label_bytes = "labels", 1  # the key of the labels, and how many bytes of labels (the last counts)
    count = 10

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
        images, self.targets = [], []
        for name in self.batches[bool(train)]:
            path = found(root, self.folders, [name, name + ".bin"])
            pixels, labels = self._binary(path) if path.endswith(".bin") else self._pickled(path)
            wrong = [i for i, label in enumerate(labels) if not 0 <= label < self.count]
            if wrong:
                raise damaged(path, f"label {labels[wrong[0]]} at {wrong[0]}, of {self.count} classes")
            images.append(pixels)
            self.targets += labels
        self.data = np.ascontiguousarray(np.concatenate(images).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        self.classes = self._names()

    def _pickled(self, path: str) -> tuple[Any, list[int]]:
        entry = read_dict(path)
        missing = {"data", self.labels} - entry.keys()
        if missing:
            raise damaged(path, f"no entry {sorted(missing)[0]!r} among {sorted(entry)}")
        pixels, labels = entry["data"], entry[self.labels]
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (_PIXELS,):
            shape = getattr(pixels, "shape", type(pixels).__name__)
            raise damaged(path, f"entry 'data' is expected to be bytes of shape (N, {_PIXELS}), not {shape}")
        if type(labels) is not list or len(labels) != len(pixels) or any(type(n) is not int for n in labels):
            raise damaged(path, f"entry {self.labels!r} is expected to be a list of {len(pixels)} integers")
        return pixels, labels

    def _binary(self, path: str) -> tuple[Any, list[int]]:
        size, row = os.path.getsize(path), self.label_bytes + _PIXELS
        if not size or size % row:
            raise damaged(path, f"{size} bytes, which is no multiple of {row}, a label and an image")
        rows = np.fromfile(path, np.uint8).reshape(-1, row)
        return rows[:, self.label_bytes :], rows[:, self.label_bytes - 1].tolist()

    def _names(self) -> list[str]:
        """The names of the classes; their numbers where the file of names is not there."""
        path = find(self.root, self.folders, self.names)
        if path is None:
            return [str(i) for i in range(self.count)]
        key = self.names[os.path.basename(path)]
        if key:
            listed = read_dict(path).get(key)
            names = [n.decode() if type(n) is bytes else n for n in listed] if type(listed) is list else []
        else:
            with open(path, encoding="utf-8", errors="replace") as file:
                names = [line for line in file.read().splitlines() if line]
        if len(names) != self.count or any(type(name) is not str for name in names):
            raise damaged(path, f"{self.count} names of classes are expected, not {len(names)}")
        return names

    def _sample(self, index: int) -> tuple[Any, Any]:
        return self.data[index], self.targets[index]

    def __len__(self) -> int:
        return len(self.targets)


class CIFAR100(CIFAR10):
    """32 x 32 colour images of a hundred classes (the fine labels). As `CIFAR10`, in `cifar-100-python` or -binary."""

    folders = ["cifar-100-python", "cifar-100-binary", ""]
    batches = {True: ["train"], False: ["test"]}
    names = {"meta": "fine_label_names", "fine_label_names.txt": ""}
    labels, label_bytes = "fine_labels", 2
    count = 100
