"""The IMDB reviews, positive or negative: a folder for each, a file for each review.

Maas et al., Learning word vectors for sentiment analysis, 2011.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .base import LabelledDataset, damaged

_LONGEST = 1 << 20  # bytes of a review; the longest published one has 14 kB


class IMDB(LabelledDataset):
    """Reviews of films. Samples: (text, 0 for negative or 1 for positive), both through their transforms.

    Args:
        root: the folder that has `train/pos/*.txt`, `train/neg/*.txt`, `test/...`, or the one with `aclImdb` in it.
        train: the 25,000 training reviews, or the 25,000 test reviews.
        transform, target_transform: functions of the text and of the label.

    Attributes:
        paths: the files: negative ones first, by their numbers. targets: list of int. classes: ["neg", "pos"].

    A review is read when its sample is asked for. RuntimeError naming the folder that is missing or empty, or the file
    that is empty, longer than 1 MB or no UTF-8.
    """

    classes = ["neg", "pos"]

    def __init__(
        self,
        root: Any,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ):
        super().__init__(root, transform, target_transform)
        self.train = train
        part = "train" if train else "test"
        places = [os.path.join(os.fspath(root), *more, part) for more in ((), ("aclImdb",))]
        folder = next((place for place in places if os.path.isdir(place)), None)
        if folder is None:
            raise RuntimeError(f"Dataset not found or corrupted: there is neither {' nor '.join(places)}")
        self.paths: list[str] = []
        self.targets: list[int] = []
        for target, name in enumerate(self.classes):
            place = os.path.join(folder, name)
            names = [n for n in os.listdir(place) if n.endswith(".txt")] if os.path.isdir(place) else []
            if not names:
                raise damaged(place, "no folder with files *.txt")
            self.paths += [os.path.join(place, n) for n in sorted(names, key=_number)]
            self.targets += [target] * len(names)

    def _sample(self, index: int) -> tuple[Any, Any]:
        path = self.paths[index]
        with open(path, "rb") as file:
            data = file.read(_LONGEST + 1)
        if not data or len(data) > _LONGEST:
            raise damaged(path, "an empty file" if not data else f"more than {_LONGEST} bytes")
        try:
            return data.decode("utf-8"), self.targets[index]
        except UnicodeDecodeError as error:
            raise damaged(path, error) from error

    def __len__(self) -> int:
        return len(self.paths)


def _number(name: str) -> tuple[int, str]:
    """Files are called NUMBER_RATING.txt."""
    head = name.partition("_")[0].removesuffix(".txt")
    return int(head) if head.isdecimal() else -1, name
