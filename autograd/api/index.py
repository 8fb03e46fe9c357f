"""x[...] and x[...] = value: PyTorch's reading of indices.

A basic index (ints, slices, None, Ellipsis) is one view. Tensors, lists, ranges, arrays and bools are advanced: the
view of the basic part is taken first, ints included, and then indexed by the arrays (so x[0, :, i] keeps the order of
its dimensions, unlike in NumPy).
"""

from __future__ import annotations

import warnings
from operator import index as as_int
from typing import Any

import numpy as np

from ...backends.registry import backend_of
from ..graph import counter
from ..inplace import assign, check_overlap, check_writable
from ..modes import mode
from ..ops import index as op
from ..ops import shape as shape_op
from ..tensor import Tensor, wrap
from ..versions import mark_written
from .args import number_for
from .convert import copy_
from .shape import expanded

_ALL = slice(None)
_ELLIPSIS: tuple[Any, ...] = (Ellipsis,)
_ONLY = "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices (got {})"


# What an index says about a tensor of a given shape is read into five things:
#   view    the view op of the basic part, called after the last step of PyTorch's chain; None where all is taken
#   basic   the index of that view, without negative numbers
#   places  the dimensions of the view that integer arrays index
#   arrays  those arrays, raw
#   unique  no element is named twice, since the arrays come from one mask


def _items(index: Any) -> tuple[Any, ...]:
    """The index as a tuple. A short list that holds more than numbers stands for one, as in old NumPy."""
    if index.__class__ is tuple:
        return index
    if isinstance(index, list) and len(index) < 32:
        if any(i is None or i is Ellipsis or isinstance(i, (Tensor, slice, list, tuple, range)) for i in index):
            warnings.warn(
                "Using a non-tuple sequence for multidimensional indexing is deprecated and will be changed in pytorch "
                "2.9; use x[tuple(seq)] instead of x[seq]. In pytorch 2.9 this will be interpreted as tensor index, "
                "x[torch.tensor(seq)], which will result either in an error or a different result",
                UserWarning,
                stacklevel=4,
            )
            return tuple(index)
    return (index,)


def _canonical(t: Tensor, item: Any) -> Any:
    """An int, slice, None, Ellipsis, or a raw array of ints or bools on the device of `t`."""
    kind = item.__class__
    if kind is slice or kind is int or item is None or item is Ellipsis:
        return item
    backend = backend_of(t.array)
    if isinstance(item, Tensor):
        raw = item.array
        if raw.__class__ is not t.array.__class__:
            raw = backend.asarray(backend_of(raw).to_numpy(raw), device=backend.device_of(t.array))
    elif isinstance(item, (bool, np.bool_, np.ndarray, list, tuple, range)):
        host = np.asarray(item)
        raw = backend.asarray(host if host.size else host.astype("i8"), device=backend.device_of(t.array))
    elif isinstance(item, str):
        raise TypeError("new(): invalid data type 'str'")
    elif hasattr(item, "__index__"):
        return as_int(item)
    else:
        raise IndexError(_ONLY.format(type(item).__name__))
    if raw.dtype == "u1":
        warnings.warn(
            "indexing with dtype torch.uint8 is now deprecated, please use a dtype torch.bool instead.",
            UserWarning, stacklevel=4,
        )  # fmt: skip
        raw = raw != 0
    elif raw.dtype != "?" and raw.dtype != "i8" and raw.dtype != "i4":
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    return int(raw) if not raw.ndim and raw.dtype != "?" else raw


def _dimensions(item: Any) -> int:
    """How many dimensions of the tensor an index item uses up."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if getattr(item, "dtype", None) == "?" else 1


def _int(item: int, n: int, d: int) -> int:
    if not -n <= item < n:
        raise IndexError(f"index {item} is out of bounds for dimension {d} with size {n}")
    return item + n if item < 0 else item


def _slice(item: slice, n: int) -> slice:
    """The slice with its bounds in [0, n]; _ALL where it takes everything."""
    if item.step is not None and as_int(item.step) <= 0:
        raise ValueError("step must be greater than zero" if as_int(item.step) else "slice step cannot be zero")
    start, stop, step = item.indices(n)
    return _ALL if start == 0 and stop == n and step == 1 else slice(start, max(start, stop), step)


def read_basic(shape: tuple[int, ...], items: tuple[Any, ...]) -> Any:
    """(view, basic) of ints, slices, None and one Ellipsis that fit; None where `read` has to look closer."""
    basic: list[Any] = []
    view, at, end = None, 0, _ELLIPSIS
    for i, item in enumerate(items):
        kind = item.__class__
        if kind is slice or kind is int:
            if at >= len(shape):
                return None
            n = shape[at]
            at += 1
            if kind is slice:
                item = _slice(item, n)
                if item is not _ALL:
                    view = shape_op.slice_view
            elif -n <= item < n:
                view = shape_op.select_view
                if item < 0:
                    item += n
            else:
                return None
        elif item is None:
            view = shape_op.unsqueeze_view
        elif item is Ellipsis and end:
            left = len(shape) - len(items) + i + 1 + items[i:].count(None)
            if left < at:
                return None
            at, end = left, ()
        else:
            return None
        basic.append(item)
    return view, (*basic, *end)


def read(t: Tensor, index: Any) -> tuple[Any, tuple[Any, ...], tuple[int, ...], tuple[Any, ...], bool]:
    """Reads an index. IndexError for numbers and masks that do not fit, and for what is no index."""
    shape = t.array.shape
    items = [_canonical(t, item) for item in _items(index)]
    used = sum([_dimensions(item) for item in items])
    if used > len(shape):
        if not shape:
            raise IndexError(
                "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to "
                "convert a 0-dim tensor to a number"
            )
        raise IndexError(f"too many indices for tensor of dimension {len(shape)}")
    basic: list[Any] = []
    places: list[int] = []
    arrays: list[Any] = []
    view, at, to = None, 0, 0  # at: the dimension of t that comes next; to: that of the view
    masks = advanced = 0
    for item in items:
        if item.__class__ is slice:
            part = _slice(item, shape[at])
            view = view if part is _ALL else shape_op.slice_view
            basic.append(part)
            at, to = at + 1, to + 1
        elif item.__class__ is int:
            view = shape_op.select_view
            basic.append(_int(item, shape[at], at))
            at += 1
        elif item is None or (item is not Ellipsis and not item.ndim):
            view = shape_op.unsqueeze_view
            basic.append(None)
            if item is not None:  # a bool: a new dimension of size 1 or 0
                places.append(to)
                arrays += _nonzero(item.reshape(1))
                masks, advanced = masks + 1, advanced + 1
            to += 1
        elif item is Ellipsis:
            left, used = len(shape) - used, len(shape)  # a second one stands for nothing
            basic += [_ALL] * left
            at, to = at + left, to + left
        else:
            mask = item.dtype == "?"
            if mask and item.shape != shape[at : at + item.ndim]:
                raise _mask_error(item, shape, at, t.array[(*basic, ...)].shape, to)
            found = _nonzero(item) if mask else [item]
            places += range(to, to + len(found))
            arrays += found
            basic += [_ALL] * len(found)
            masks, advanced = masks + mask, advanced + 1
            at, to = at + len(found), to + len(found)
    return view, (*basic, Ellipsis), tuple(places), tuple(arrays), masks == advanced == 1


def _nonzero(mask: Any) -> list[Any]:
    return [backend_of(mask).tidy(places) for places in mask.nonzero()]


def _mask_error(mask: Any, shape: Any, at: int, seen: Any, to: int) -> IndexError:
    bad = next(j for j, n in enumerate(mask.shape) if n != shape[at + j])
    return IndexError(
        f"The shape of the mask {list(mask.shape)} at index {bad} does not match the shape of the indexed tensor "
        f"{list(seen)} at index {to + bad}"
    )


def getitem(self: Tensor, index: Any) -> Tensor:
    """self[index]: a view for ints, slices, None and Ellipsis, else a copy. Gradients flow to self."""
    kind = index.__class__
    if kind is int and self.array.ndim:
        n = self.array.shape[0]
        if not -n <= index < n:
            raise IndexError(f"index {index} is out of bounds for dimension 0 with size {n}")
        return shape_op.select(self, axis=0, index=index + n if index < 0 else index)
    if kind is tuple or kind is slice:
        found = read_basic(self.array.shape, index if kind is tuple else (index,))
        if found is not None:
            view, basic = found
            return (view or (shape_op.slice_view if kind is slice else shape_op.alias_view))(self, index=basic)
    self, index = _flattened(self, index)
    view, basic, places, arrays, unique = read(self, index)
    if not places:
        return (view or shape_op.alias_view)(self, index=basic)
    x = self if view is None else view(self, index=basic)
    return op.index(x, *[wrap(a) for a in arrays], places=places, unique=unique)


def _flattened(t: Tensor, index: Any) -> tuple[Tensor, Any]:
    """The dimensions that a mask covers as one, where memory allows: one search instead of one per dimension."""
    if isinstance(index, Tensor) and index.array.ndim > 1 and index.array.dtype == "?":
        n, shape = index.array.ndim, t.array.shape
        if t.array.flags.c_contiguous and index.array.shape == shape[:n]:
            return shape_op.view(t, shape=(index.array.size, *shape[n:])), wrap(index.array.reshape(-1))
    return t, index


def setitem(self: Tensor, index: Any, value: Any) -> None:
    """self[index] = value: a number, or a tensor that broadcasts to what self[index] is. Recorded where asked."""
    given = value if isinstance(value, Tensor) else None
    if given is None and not isinstance(value, (int, float, complex, np.generic)):
        raise TypeError(f"can't assign a {_type_name(value)} to a torch.{self.dtype.legacy}Tensor")
    recorded = mode.grad is not False and (self._rg or (given is not None and given._rg))
    found, t = read_basic(self.array.shape, index if index.__class__ is tuple else (index,)), self
    if found is None and not recorded:
        t, index = _flattened(self, index)
    view, basic, places, arrays, _ = read(t, index) if found is None else (*found, (), (), False)
    if given is not None and places and given.array.dtype != self.array.dtype:
        raise RuntimeError(
            "Index put requires the source and destination dtypes match, got "
            f"{self.dtype.legacy} for the destination and {given.dtype.legacy} for the source."
        )
    if recorded:
        _record(self, view, basic, places, arrays, _scalar(value, self) if given is None else given)
        return
    check_writable(self, "__setitem__")
    region = t.array[basic]
    check_overlap(region, "__setitem__")
    if given is None:
        raw = number_for(value, self)
    elif not places:
        raw = _fitted(given.to(self.device), region.shape).array
        raw = raw.real if raw.dtype.kind == "c" and region.dtype.kind != "c" else raw
    else:
        raw = unled(given.to(self.device), _indexed_ndim(region, places, arrays)).array
    if places:
        op.index_put.op.kernels[region.__class__](region, raw, *arrays, places=places, inplace=True)
    else:
        region[...] = raw
    mark_written(self)


def _record(self: Tensor, view: Any, basic: Any, places: Any, arrays: Any, value: Tensor) -> None:
    """The recorded write: into the view of the basic part, or into what integer arrays index in it."""
    if not places:
        target = (view or shape_op.alias_view)(self, index=basic)
        check_writable(target, "__setitem__")
        copy_(target, _fitted(value, target.array.shape))
        return
    x = self if view is None else view(self, index=basic)
    check_writable(x, "index_put_")
    check_overlap(x.array, "index_put_")
    value = unled(value.to(self.device), _indexed_ndim(x.array, places, arrays))
    since = counter()
    out = op.index_put(x, value, *[wrap(a) for a in arrays], places=places, inplace=True)
    assign(x, out, "index_put_", since)


def _indexed_ndim(x: Any, places: Any, arrays: Any) -> int:
    """How many dimensions x has after indexing."""
    return x.ndim - len(places) + max([a.ndim for a in arrays])


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _scalar(value: Any, like: Tensor) -> Tensor:
    """A number as a 0-d tensor of the dtype and on the device of `like`."""
    backend = backend_of(like.array)
    host = np.array(number_for(value, like)).astype(like.array.dtype)
    return wrap(backend.asarray(host, device=backend.device_of(like.array)))


def unled(value: Tensor, ndim: int) -> Tensor:
    """A value without leading dimensions of size 1 beyond `ndim`."""
    have, extra = value.array.shape, 0
    while extra < len(have) - ndim and have[extra] == 1:
        extra += 1
    return shape_op.view(value, shape=have[extra:]) if extra else value


def _fitted(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A value stretched to the target's shape, leading dimensions of size 1 that the target has not left out."""
    return value if value.array.shape == shape else expanded(unled(value, len(shape)), shape)


Tensor.__getitem__ = getitem  # type: ignore[method-assign]
Tensor.__setitem__ = setitem  # type: ignore[method-assign]
