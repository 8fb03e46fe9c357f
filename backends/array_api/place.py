"""Indexing by arrays: every element has a number in its memory, and reading and writing is by number.

The standard has `take`, but no write by an array of numbers; `scatter` makes it of sort, search and take.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def is_basic(key: Any) -> bool:
    """Whether an index has no arrays: it then gives a view."""
    parts = key if type(key) is tuple else (key,)
    return all(
        part is None or part is Ellipsis or type(part) is slice
        or (isinstance(part, (int, np.integer)) and not isinstance(part, (bool, np.bool_)))
        for part in parts
    )  # fmt: skip


def read(x: Any, key: Any) -> Any:
    """x[key] for an index with arrays: a copy."""
    numbers, shape = numbers_of(x, key)
    xp = x.library
    return x.of(xp.reshape(xp.take(_row(x), numbers, axis=0), shape))


def write(x: Any, key: Any, value: Any) -> None:
    """x[key] = value for an index with arrays; of values for one element, the last counts."""
    _put(x, key, value, None)


def add_at(x: Any, key: Any, value: Any, combine: Any) -> None:
    """ufunc.at: x[key] = combine(x[key], value), for elements named more than once, too."""
    _put(x, key, value, combine)


def _row(x: Any) -> Any:
    """All elements of x's memory in a row, in x's dtype."""
    return x.memory.flat(x.dtype)


def _put(x: Any, key: Any, value: Any, combine: Any) -> None:
    numbers, shape = numbers_of(x, key)
    value = x.module.asarray(value)
    if value.shape != shape:
        lead = max(0, value.ndim - len(shape))
        if any(n != 1 for n in value.shape[:lead]) or not _fits(value.shape[lead:], shape):
            raise ValueError(f"shape mismatch: value array of shape {value.shape} could not be broadcast to indexing "
                             f"result of shape {shape}")  # fmt: skip
        value = value.reshape(value.shape[lead:])
    xp = x.library
    new = xp.reshape(xp.broadcast_to(value.astype(x.dtype, copy=False).value, shape), (-1,))
    if new.shape[0]:
        x.memory.write(scatter(xp, _row(x), numbers, new, combine), x.dtype)


def _fits(shape: Any, into: Any) -> bool:
    try:
        return np.broadcast_shapes(shape, into) == tuple(into)
    except ValueError:
        return False


def scatter(xp: Any, row: Any, numbers: Any, values: Any, combine: Any) -> Any:
    """`row` with values at the places `numbers`, combined with what is there or (None) instead of it.

    row: (M,), numbers: (N,) int64 in [0, M), values: (N,) -> (M,). The values are sorted by place, runs of one place
    are folded in log2(N) rounds, each place finds the end of its run by binary search, and takes it.
    """
    order = xp.argsort(numbers, stable=True)
    numbers, values = xp.take(numbers, order, axis=0), xp.take(values, order, axis=0)
    step, count = 1, numbers.shape[0]
    while combine is not None and step < count:
        same = xp.equal(numbers[step:], numbers[:-step])
        if not bool(xp.any(same)):
            break
        folded = combine(values[step:], values[:-step])
        values = xp.concat([values[:step], xp.where(same, folded, values[step:])])
        step *= 2
    places = xp.arange(row.shape[0], dtype=numbers.dtype)
    ends = xp.astype(xp.searchsorted(numbers, places, side="right"), numbers.dtype)
    ends = xp.maximum(xp.subtract(ends, xp.ones_like(ends)), xp.zeros_like(ends))
    hit = xp.equal(xp.take(numbers, ends, axis=0), places)
    found = xp.take(values, ends, axis=0)
    return xp.where(hit, found if combine is None else combine(row, found), row)


def numbers_of(x: Any, key: Any) -> tuple[Any, tuple[int, ...]]:
    """(the numbers in x's memory, as one row of the library's int64; the shape that they have) of x[key].

    Where the arrays stand side by side, their shape takes their place, else it comes first, as in NumPy.
    """
    alone = key[0] if type(key) is tuple and len(key) == 1 else key
    if _is_array(alone) and alone.dtype.kind == "b" and not alone.ndim:  # takes all of x or nothing
        return numbers_of(x[None], alone.reshape(1))
    parts = _expanded(x, key)
    arrays = [i for i, part in enumerate(parts) if _is_array(part)]
    shadow = x.shadow[tuple(slice(None) if i in arrays else part for i, part in enumerate(parts))]
    try:
        np.broadcast_shapes(*[parts[i].shape for i in arrays])
    except ValueError:
        shapes = " ".join(str(parts[i].shape) for i in arrays)
        raise IndexError(
            f"shape mismatch: indexing arrays could not be broadcast together with shapes {shapes}"
        ) from None
    xp = x.library
    total: Any = None  # each part stands for one dimension of `shadow`, since numbers have become arrays
    for i in arrays:
        size, stride = shadow.shape[i], shadow.strides[i] // shadow.itemsize
        index = _checked(xp, parts[i].astype(np.int64, copy=False).value, size, i)
        offset = xp.multiply(index, xp.asarray(stride, dtype=index.dtype))
        total = offset if total is None else xp.add(total, offset)
    reach = tuple(total.shape)
    rest = [d for d in range(shadow.ndim) if d not in arrays]
    ones = shadow[(*[slice(0, 1) if d in arrays else slice(None) for d in range(shadow.ndim)], Ellipsis)]
    others = x.numbers(ones).reshape([shadow.shape[d] for d in rest]) if all(shadow.shape) else None
    if others is None:  # without elements
        others = np.zeros([shadow.shape[d] for d in rest], np.int64)
    side_by_side = arrays == list(range(arrays[0], arrays[-1] + 1))
    lead = len([d for d in rest if d < arrays[0]]) if side_by_side else 0
    shape = (*others.shape[:lead], *reach, *others.shape[lead:])
    numbers = xp.add(
        xp.reshape(total, (*(1,) * lead, *reach, *(1,) * (others.ndim - lead))),
        xp.import_(others.reshape((*others.shape[:lead], *(1,) * len(reach), *others.shape[lead:]))),
    )
    return xp.reshape(xp.broadcast_to(numbers, shape), (-1,)), shape


def _is_array(part: Any) -> bool:
    return hasattr(part, "shadow")


def _expanded(x: Any, key: Any) -> list[Any]:
    """The index with an entry for each dimension: Ellipsis as slices, masks as the numbers they select."""
    parts: list[Any] = []
    for part in key if type(key) is tuple else (key,):
        if isinstance(part, (bool, np.bool_)):
            part = np.asarray(part)
        if isinstance(part, (list, np.ndarray)):
            part = np.asarray(part)
            part = x.module.asarray(part.astype(np.int64) if not part.size else part)
        if _is_array(part) and part.dtype.kind == "b":
            parts += _selected(x, part, sum(p is not None and p is not Ellipsis for p in parts))
        elif _is_array(part) and part.dtype.kind not in "iu":
            raise IndexError("arrays used as indices must be of integer (or boolean) type")
        else:
            parts.append(part)
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    if taken > x.ndim:
        raise IndexError(f"too many indices for array: array is {x.ndim}-dimensional, but {taken} were indexed")
    fill = [slice(None)] * (x.ndim - taken)
    for i, part in enumerate(parts):
        if part is Ellipsis:
            parts[i : i + 1] = fill
            break
    else:
        parts += fill
    # numbers beside arrays are arrays without dimensions
    return [
        x.module.asarray(np.int64(part)) if isinstance(part, (int, np.integer)) and any(map(_is_array, parts)) else part
        for part in parts
    ]


def _selected(x: Any, mask: Any, first: int) -> list[Any]:
    """The numbers, one array per dimension of a mask, of its true elements."""
    for d, n in enumerate(mask.shape):
        if first + d >= x.ndim or n != x.shape[first + d]:
            have = x.shape[first + d] if first + d < x.ndim else 0
            raise IndexError(
                f"boolean index did not match indexed array along axis {first + d}; size of axis is {have} but size of "
                f"corresponding boolean axis is {n}"
            )
    return [x.of(x.library.astype(found, x.library.int64)) for found in x.library.nonzero(mask.value)]


def _checked(xp: Any, index: Any, size: int, axis: int) -> Any:
    """The index with negative numbers counted from the end. IndexError for what is outside."""
    low, high = xp.asarray(-size, dtype=index.dtype), xp.asarray(size, dtype=index.dtype)
    wrong = xp.logical_or(xp.less(index, low), xp.greater_equal(index, high))
    if bool(xp.any(wrong)):
        first = int(xp.argmax(xp.astype(xp.reshape(wrong, (-1,)), xp.int64)))
        bad = int(xp.reshape(index, (-1,))[first])
        raise IndexError(f"index {bad} is out of bounds for axis {axis} with size {size}")
    return xp.where(xp.less(index, xp.zeros_like(index)), xp.add(index, high), index)
