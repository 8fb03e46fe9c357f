"""What a batch is, and loaders from whatever holds data.

A batch is (x, y), (x, y, weight), or for `predict` also x or (x,); a list is as good as a tuple. It may be a dict: then
the entry named `target` is y, the one named `weight` the weights, and all others go to the model by their names.
x itself: a tensor goes to the model as it is, a tuple or list as several arguments, a dict as named ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..autograd.api.creation import as_tensor
from ..autograd.dtypes import dtype, int64
from ..autograd.tensor import Tensor
from ..utils.data import DataLoader, Dataset, IterableDataset, Subset

BATCH_SIZE = 32  # Keras' default


class Batch(NamedTuple):
    x: Any
    y: Any = None
    weight: Tensor | None = None


def split(batch: Any, target: str = "target", weight: str = "weight") -> Batch:
    """A loader's batch in its parts, by the rule above. ValueError for more than three."""
    if isinstance(batch, Mapping):
        rest = {key: value for key, value in batch.items() if key not in (target, weight)}
        return Batch(rest, batch.get(target), batch.get(weight))
    if isinstance(batch, (tuple, list)):
        if not 1 <= len(batch) <= 3:
            raise ValueError(
                f"a batch is (x, y), (x, y, weight) or a dict, but this one has {len(batch)} parts; several inputs go "
                "into one: ((x1, x2), y)"
            )
        return Batch(*batch)
    return Batch(batch)


def call(model: Callable[..., Any], x: Any) -> Any:
    """model(x), model(*x) or model(**x)."""
    if isinstance(x, Mapping):
        return model(**x)
    return model(*x) if isinstance(x, (tuple, list)) else model(x)


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree of tuples, lists and dicts with function(leaf) for each leaf; None stays."""
    if isinstance(tree, Mapping):
        return {key: mapped(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*[mapped(function, value) for value in tree])
    if isinstance(tree, (tuple, list)):
        return type(tree)([mapped(function, value) for value in tree])
    return None if tree is None else function(tree)


def leaves(tree: Any) -> Iterator[Any]:
    """The leaves of such a tree."""
    if isinstance(tree, (Mapping, tuple, list)):
        for value in tree.values() if isinstance(tree, Mapping) else tree:
            yield from leaves(value)
    elif tree is not None:
        yield tree


def moved(tree: Any, device: Any) -> Any:
    """Tensors, and NumPy arrays as tensors, on the device; None: where they are."""

    def move(leaf: Any) -> Any:
        if isinstance(leaf, (np.ndarray, np.generic)):
            leaf = as_tensor(leaf)
        return leaf.to(device) if device is not None and isinstance(leaf, Tensor) else leaf

    return mapped(move, tree)


# ---- arrays


def _tensor(leaf: Any, floating: dtype, integers: bool) -> Tensor:
    """Arrays, columns of tables, numbers in lists: floating ones in the model's precision. Tensors stay as they are."""
    if isinstance(leaf, Tensor):
        return leaf
    array = leaf.to_numpy() if hasattr(leaf, "to_numpy") else np.asarray(leaf)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"data must be numbers, not {array.dtype} (of {type(leaf).__name__}); encode text and objects")
    made = as_tensor(np.ascontiguousarray(array))
    if made.is_floating_point():
        return made.to(floating)
    return made.to(int64) if integers and array.dtype.kind in "iu" else made


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor) or hasattr(value, "__array__") or hasattr(value, "to_numpy")


def _gives_batches(x: Any) -> bool:
    """Whether it is a loader of another kind: an iterable of batches, also as a list of them."""
    if isinstance(x, list):
        return bool(x) and isinstance(x[0], (tuple, list, Mapping)) and any(map(_is_array, leaves(x[0])))
    return not _is_array(x) and not isinstance(x, (tuple, Mapping, str)) and hasattr(x, "__iter__")


class Rows(Dataset):
    """Samples in trees of tensors (N, *), read by whole batches."""

    def __init__(self, tree: Any):
        self.tree = tree

    def __len__(self) -> int:
        return next(leaves(self.tree)).shape[0]

    def __getitem__(self, index: Any) -> Any:
        return mapped(lambda t: t[index], self.tree)

    def __getitems__(self, indices: list[int]) -> Any:
        return self[indices]


def as_is(batch: Any) -> Any:
    """The collate function of what is a batch already."""
    return batch


def from_arrays(x: Any, y: Any, weight: Any, floating: dtype) -> Rows:
    """(x, y, weight) as rows; y and weight may be None. Raises ValueError for different lengths."""
    if isinstance(x, list) and not (x and _is_array(x[0])):
        x = np.asarray(x)  # numbers
    x = mapped(lambda leaf: _tensor(leaf, floating, integers=False), x)
    tree: tuple[Any, ...] = (x,)
    if y is not None:
        y = mapped(lambda leaf: _tensor(leaf, floating, integers=True), np.asarray(y) if isinstance(y, list) else y)
        tree += (y,)
    if weight is not None:
        tree += (_tensor(weight, floating, integers=False),)
    shapes = {name: [tuple(t.shape) for t in leaves(part)] for name, part in zip(("x", "y", "weight"), tree)}  # noqa: B905
    if any(not shape for part in shapes.values() for shape in part):
        raise ValueError(f"data must have a first dimension, the samples; shapes are {shapes}")
    if len({shape[0] for part in shapes.values() for shape in part}) > 1:
        raise ValueError(f"x, y and weights must have as many samples as each other; shapes are {shapes}")
    if not len(Rows(tree)):
        raise ValueError(f"no samples; shapes are {shapes}")
    return Rows(tree)


# ---- loaders


class Source(NamedTuple):
    """What `fit`, `evaluate` and `predict` were given: a Dataset of rows or samples, or a loader as it is."""

    dataset: Dataset | None
    loader: Any


def source(x: Any, y: Any, weight: Any, floating: dtype, name: str) -> Source:
    """Sorts out data. Raises TypeError and ValueError for what cannot be data, or has y or weights twice."""
    if hasattr(x, "__next__") and name not in ("evaluate", "predict"):
        raise ValueError(f"{name}: a {type(x).__name__} is spent after one epoch; what can be iterated again is needed")
    if isinstance(x, (DataLoader, Dataset)) or _gives_batches(x):
        for what, value in (("y", y), ("sample_weight", weight)):
            if value is not None:
                raise ValueError(f"{name}: a {type(x).__name__} gives (x, y) or (x, y, weight) itself, without {what}=")
        return Source(x, None) if isinstance(x, Dataset) else Source(None, x)
    if y is None and isinstance(x, tuple):
        if len(x) not in (2, 3) or (len(x) == 3 and weight is not None):
            raise ValueError(f"{name}: a tuple is (x, y) or (x, y, weight), but has {len(x)} parts")
        x, y, weight = (*x, weight)[:3]
    if not (_is_array(x) or isinstance(x, (tuple, list, Mapping))):
        raise TypeError(f"{name}: data is a DataLoader, a Dataset, arrays or (x, y), not {type(x).__name__}")
    if y is None and name != "predict":
        raise ValueError(f"{name}: a {type(x).__name__} has no targets: give (x, y) or (x, y, weight)")
    return Source(from_arrays(x, y, weight, floating), None)


def loader_of(found: Source, name: str, batch_size: int | None, shuffle: bool | None = None, **options: Any) -> Any:
    """A loader over the source. ValueError where a loader that is there already is to be changed."""
    if found.loader is not None:
        for option, value in (("batch_size", batch_size), ("num_workers", options.get("num_workers"))):
            if value:
                raise ValueError(f"{name}: the {type(found.loader).__name__} has its own batches: leave out {option}")
        return found.loader
    if isinstance(found.dataset, IterableDataset):
        shuffle = None
    collate = as_is if isinstance(_rows_of(found.dataset), Rows) else None
    size = BATCH_SIZE if batch_size is None else batch_size
    return DataLoader(found.dataset, size, shuffle=shuffle, collate_fn=collate, **options)  # type: ignore[arg-type]


def _rows_of(dataset: Any) -> Any:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def cut(found: Source, fraction: float) -> tuple[Source, Source]:
    """The first samples, and the last `fraction` of them for validation, as in Keras."""
    if not isinstance(fraction, (int, float)) or not 0 < fraction < 1:
        raise ValueError(f"validation_split is a share of the samples, between 0 and 1, not {fraction!r}")
    dataset: Any = found.dataset
    if dataset is None or not hasattr(dataset, "__len__"):
        what = type(found.loader if dataset is None else dataset).__name__
        raise ValueError(
            f"validation_split needs arrays or a Dataset of known length to cut, not a {what}: give validation_data"
        )
    total = len(dataset)
    kept = int(total * (1 - fraction))
    if not 0 < kept < total:
        raise ValueError(f"validation_split={fraction} of {total} samples leaves none to train on, or none to validate")
    if isinstance(dataset, Rows):
        parts: list[Any] = [Rows(dataset[piece]) for piece in (slice(kept), slice(kept, None))]
    else:
        parts = [Subset(dataset, range(kept)), Subset(dataset, range(kept, total))]
    return Source(parts[0], None), Source(parts[1], None)
