"""What the data sets share: samples with transforms, and files found and read with errors that name them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from ..dataset import Dataset


def damaged(path: Any, why: Any) -> RuntimeError:
    """The error for a file that is not as it was published."""
    return RuntimeError(f"Dataset not found or corrupted: {os.fspath(path)}: {why}")


def no_download(asked: bool, name: str) -> None:
    """RuntimeError where a program asks for a download."""
    if asked:
        raise RuntimeError(f"{name}(download=True): nothing is downloaded here; put the published files under `root`")


def find(root: Any, folders: Iterable[str], names: Iterable[str]) -> str | None:
    """The first of the files that is there: each name in each folder below `root` ("" for itself)."""
    places = [os.path.join(os.fspath(root), folder) for folder in folders]
    return next((p for folder in places for name in names if os.path.isfile(p := os.path.join(folder, name))), None)


def found(root: Any, folders: Iterable[str], names: Iterable[str]) -> str:
    """As `find`. RuntimeError where there is none."""
    folders, names = list(folders), list(names)
    path = find(root, folders, names)
    if path is None:
        places = ", ".join(repr(os.path.join(os.fspath(root), folder)) for folder in folders)
        raise RuntimeError(f"Dataset not found or corrupted: there is no {' or '.join(names)} in {places}")
    return path


class LabelledDataset(Dataset[tuple[Any, Any]]):
    """Samples (input, target), each through its transform; subclasses write `_sample(index)` and `__len__()`.

    Args:
        root: the folder of the files.
        transform: function of an input.
        target_transform: function of a target.
    """

    classes: list[str] = []

    def __init__(
        self, root: Any, transform: Callable[[Any], Any] | None, target_transform: Callable[[Any], Any] | None
    ):
        self.root = os.fspath(root) if root is not None else None
        self.transform, self.target_transform = transform, target_transform

    def _sample(self, index: int) -> tuple[Any, Any]:
        raise TypeError(f"{type(self).__name__} has no _sample(index)")

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        value, target = self._sample(index)
        if self.transform is not None:
            value = self.transform(value)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return value, target

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The number of each class."""
        return {name: i for i, name in enumerate(self.classes)}

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} has no __len__()")

    def __repr__(self) -> str:
        return f"Dataset {type(self).__name__}\n    Number of datapoints: {len(self)}\n    Root location: {self.root}"
