"""Collating: from a list of samples to one batch of tensors.

`default_collate_fn_map` says, per element type, what a list of such elements becomes; containers are walked and
rebuilt in their own type. Both walks here share `_rebuilt_mapping` and `_rebuilt_sequence`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from ...autograd.api.creation import as_tensor, tensor
from ...autograd.api.join import stack
from ...autograd.dtypes import float64
from ...autograd.tensor import Tensor

__all__ = ["collate", "default_collate", "default_collate_fn_map", "default_convert"]

CollateMap = dict[type | tuple[type, ...], Callable]

default_collate_err_msg_format = (
    "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"
)

_NOT_NUMERIC = frozenset("SaUO")  # numpy type codes of text and objects, which no tensor can hold


def _is_text_or_object(array: np.ndarray) -> bool:
    return not _NOT_NUMERIC.isdisjoint(array.dtype.str)


def _rebuilt_mapping(like: Mapping, values: dict) -> Mapping:
    """`values` in the type of `like`; a copy of `like` where it is mutable, since it may carry more than its items."""
    try:
        if isinstance(like, MutableMapping):
            clone = copy.copy(like)
            clone.update(values)
            return clone
        return type(like)(values)  # type: ignore[call-arg]
    except TypeError:
        return values  # no copy(), no update(), or no constructor from a dict


def _rebuilt_sequence(like: Sequence, values: list) -> Sequence:
    """`values` in the type of `like`; a tuple becomes a list, as in PyTorch. See `_rebuilt_mapping`."""
    if isinstance(like, tuple):
        return values
    try:
        if isinstance(like, MutableSequence):
            clone = copy.copy(like)
            for i, value in enumerate(values):
                clone[i] = value
            return clone
        return type(like)(values)  # type: ignore[call-arg]
    except TypeError:
        return values  # a `range`, for one


def default_convert(data: Any) -> Any:
    """NumPy arrays and scalars inside `data` as tensors (sharing memory); all else stays. For `batch_size=None`.

    array: (*S) -> tensor: (*S) of the same dtype; mappings, sequences and named tuples are walked, tuples become lists.
    """
    if isinstance(data, Tensor) or isinstance(data, (str, bytes)):
        return data
    if isinstance(data, np.ndarray) and type(data).__module__ == "numpy":
        return data if _is_text_or_object(data) else as_tensor(data)
    if isinstance(data, np.generic):
        return as_tensor(data)
    if isinstance(data, Mapping):
        return _rebuilt_mapping(data, {key: default_convert(data[key]) for key in data})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*[default_convert(item) for item in data])
    if isinstance(data, Sequence):
        return _rebuilt_sequence(data, [default_convert(item) for item in data])
    return data


def collate(batch: Any, *, collate_fn_map: CollateMap | None = None) -> Any:
    """Collate a list of samples by `collate_fn_map`: element type -> function(batch, *, collate_fn_map).

    The exact type is looked up first, then the first key that the element is an instance of; mappings, sequences and
    named tuples are walked. `RuntimeError` for sequences of different lengths, `TypeError` for any other element.
    """
    elem = batch[0]
    elem_type = type(elem)
    if collate_fn_map is not None:
        if elem_type in collate_fn_map:
            return collate_fn_map[elem_type](batch, collate_fn_map=collate_fn_map)
        for collate_type, collate_fn in collate_fn_map.items():
            if isinstance(elem, collate_type):
                return collate_fn(batch, collate_fn_map=collate_fn_map)
    if isinstance(elem, Mapping):
        return _rebuilt_mapping(
            elem, {key: collate([sample[key] for sample in batch], collate_fn_map=collate_fn_map) for key in elem}
        )
    if isinstance(elem, tuple) and hasattr(elem, "_fields"):
        columns = zip(*batch, strict=False)  # PyTorch cuts named tuples of unequal length
        return elem_type(*[collate(column, collate_fn_map=collate_fn_map) for column in columns])
    if isinstance(elem, Sequence):
        if any(len(sample) != len(elem) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        columns = zip(*batch, strict=True)
        return _rebuilt_sequence(elem, [collate(column, collate_fn_map=collate_fn_map) for column in columns])
    raise TypeError(default_collate_err_msg_format.format(elem_type))


def collate_tensor_fn(batch: Sequence[Tensor], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    """B tensors (*S) -> (B, *S)."""
    return stack(tuple(batch), 0)


def collate_numpy_array_fn(batch: Sequence[np.ndarray], *, collate_fn_map: CollateMap | None = None) -> Any:
    """B arrays (*S) -> (B, *S) of the same dtype; `TypeError` for arrays of text or objects."""
    if _is_text_or_object(batch[0]):
        raise TypeError(default_collate_err_msg_format.format(batch[0].dtype))
    return collate([as_tensor(array) for array in batch], collate_fn_map=collate_fn_map)


def collate_numpy_scalar_fn(batch: Sequence[np.generic], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    """B NumPy scalars -> (B) of their dtype."""
    return as_tensor(np.asarray(batch))


def collate_float_fn(batch: Sequence[float], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    """B floats -> (B) float64."""
    return tensor(batch, dtype=float64)


def collate_int_fn(batch: Sequence[int], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    """B ints -> (B) int64; B bools -> (B) bool."""
    return tensor(batch)


def collate_str_fn(batch: Any, *, collate_fn_map: CollateMap | None = None) -> Any:
    """Text stays as it is."""
    return batch


# The order matters: np.float64 is a float, so NumPy's scalars come first.
default_collate_fn_map: CollateMap = {
    Tensor: collate_tensor_fn,
    np.ndarray: collate_numpy_array_fn,
    (np.bool_, np.number, np.object_): collate_numpy_scalar_fn,
    float: collate_float_fn,
    int: collate_int_fn,
    str: collate_str_fn,
    bytes: collate_str_fn,
}


def default_collate(batch: Any) -> Any:
    """A list of samples as one batch; the default `collate_fn` of `DataLoader`.

    tensors, arrays: B x (*S) -> (B, *S); floats -> (B) float64; ints -> (B) int64; str, bytes: the list itself;
    mappings, sequences, named tuples: the same of each item (tuples become lists).

        default_collate([{"x": 1, "y": "a"}, {"x": 2, "y": "b"}])     # {'x': tensor([1, 2]), 'y': ['a', 'b']}
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)
