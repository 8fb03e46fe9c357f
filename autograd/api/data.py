"""Reading data: what dtype PyTorch infers for numbers, nested sequences and arrays, and which values a dtype takes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import dtype, from_numpy_dtype, get_default_dtype, promote_types, scalar_dtype
from ..tensor import Tensor

_SCALARS = (bool, int, float, complex)
_NEGATIVE = (
    "At least one stride in the given numpy array is negative, and tensors with negative strides are not currently "
    "supported. (You can probably work around this by making a copy of your array with array.copy().)"
)


def checked_array(array: Any) -> Any:
    """A NumPy array whose memory a tensor can share. TypeError or ValueError for others."""
    if not array.dtype.isnative:
        raise ValueError(
            "given numpy array has byte order different from the native byte order. Conversion between byte orders is "
            "currently not supported."
        )
    from_numpy_dtype(array.dtype)
    if any(s < 0 for s in array.strides):
        raise ValueError(_NEGATIVE)
    return array


def host_of(data: Any, target: dtype | None = None) -> Any:
    """`data` as a NumPy array, of the dtype that PyTorch infers, or of `target`. May share memory with an array.

    Raises TypeError, ValueError or RuntimeError, as PyTorch does, for what is no data, for ragged sequences, and for
    numbers that the dtype cannot hold.
    """
    if isinstance(data, (Tensor, np.ndarray)):
        host = data.detach().cpu().array if isinstance(data, Tensor) else checked_array(data)
        return host if target is None else _converted(host, target)
    types, dtypes = _kinds_in(data)
    if Tensor in types:
        data = _plain(data)
    try:
        host = np.array(data)
    except ValueError as error:
        raise _ragged(data) from error
    except OverflowError as error:
        raise ValueError(f"Overflow when unpacking long long: {error}") from error
    if host.dtype == object or (host.dtype.kind == "u" and types <= {int, bool}):
        if host.dtype == object and host.size and isinstance(host.reshape(-1)[0], (list, tuple)):
            raise _ragged(data)
        if target is None or (target.np.kind in "iu" and (host.dtype == object or target.np != np.uint64)):
            raise ValueError(f"Overflow when unpacking long long: {data!r:.50}")
    if target is None:
        target = functools.reduce(promote_types, dtypes) if dtypes and host.size else get_default_dtype()
    if target.np.kind in "iu" and host.dtype != target.np:
        _check_range(host, target)
    return _converted(host, target)


def _converted(host: Any, target: dtype) -> Any:
    if host.dtype.kind == "c" and target.np.kind not in "cb":
        raise TypeError(f"must be real number, not complex (dtype is {target})")
    return host.astype(target.np, copy=False)


def _check_range(host: Any, target: dtype) -> None:
    """RuntimeError where an integer dtype does not hold a number; unsigned ones take negative numbers, as C does."""
    if host.dtype.kind not in "iuf" or not host.size:
        return
    info = np.iinfo(target.np)
    low = -int(info.max) if info.min == 0 and host.dtype.kind == "i" else int(info.min)
    smallest, largest = host.min(), host.max()
    if not (smallest >= low and largest <= int(info.max)):  # NaN is neither
        raise RuntimeError(f"value cannot be converted to type {target.name} without overflow")


def _kinds_in(data: Any) -> tuple[set[type], set[dtype]]:
    """The types of the numbers, arrays and tensors in nested sequences, and the dtypes they have by themselves."""
    level, found, dtypes = [data], set(), set()
    while level:
        types = set(map(type, level))
        deeper = {t for t in types if issubclass(t, Sequence) and not issubclass(t, (str, bytes))}
        for t in types - deeper:
            dtypes |= _dtypes_of(t, level, data)
        found |= types - deeper
        level = [item for part in level if type(part) in deeper for item in part] if deeper else []
    return found, dtypes


def _dtypes_of(t: type, level: list[Any], data: Any) -> set[dtype]:
    """The dtypes of the items of one type in a level of nested sequences."""
    if t in _SCALARS:
        return {scalar_dtype(t(0))}
    if issubclass(t, (np.ndarray, Tensor)):
        items: list[Any] = [item for item in level if type(item) is t]
        if issubclass(t, Tensor) and (items[0].array.size != 1 and not any(isinstance(i, np.ndarray) for i in level)):
            raise ValueError("only one element tensors can be converted to Python scalars")
        return {from_numpy_dtype(getattr(item, "array", item).dtype) for item in items}
    if issubclass(t, (str, bytes)):
        if level == [data]:
            raise TypeError(f"new(): invalid data type '{t.__name__}'")
        raise ValueError(f"too many dimensions '{t.__name__}'")
    if issubclass(t, np.generic):
        return {from_numpy_dtype(np.dtype(t))}
    for scalar in _SCALARS:
        if issubclass(t, scalar):
            return {scalar_dtype(scalar(0))}
    name = t.__name__ if t.__module__ == "builtins" else f"{t.__module__}.{t.__name__}"
    raise RuntimeError(f"Could not infer dtype of {name}")


def _plain(data: Any) -> Any:
    """Nested sequences with the tensors in them as numbers (arrays where they have more than one element)."""
    if isinstance(data, Tensor):
        host = data.detach().cpu().array
        return host.reshape(())[()] if host.size == 1 else host
    if isinstance(data, (list, tuple)):
        return [_plain(item) for item in data]
    return data


def _ragged(data: Any) -> Exception:
    """What PyTorch raises for sequences of unequal length or depth."""
    level, dim = [data], 0
    while all(isinstance(d, (list, tuple)) for d in level):
        lengths = [len(d) for d in level]
        wrong = next((n for n in lengths if n != lengths[0]), None)
        if wrong is not None:
            return ValueError(f"expected sequence of length {lengths[0]} at dim {dim} (got {wrong})")
        level, dim = [item for d in level for item in d], dim + 1
    if isinstance(level[0], (list, tuple)):
        return TypeError(f"not a sequence: an element at dim {dim} is a number where others are sequences")
    kind = "list" if any(isinstance(d, list) for d in level) else "tuple"
    if isinstance(level[0], float):
        return TypeError(f"must be real number, not {kind} (at dim {dim})")
    return TypeError(f"'{kind}' object cannot be interpreted as an integer (at dim {dim})")
