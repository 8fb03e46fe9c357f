"""Arrays with NumPy's views and in-place writes over any library of the array API standard, which promises neither.

    Memory   elements in a row, held as one array of the library; a write puts a new array in its place
    Array    a view of a Memory, as NumPy would make it

Each Array has a *shadow*: a NumPy array of its shape, dtype and strides whose elements nobody reads or writes. All
geometry (slices, transposes, windows, what broadcasts) is NumPy's work on the shadow, with NumPy's errors; all values
are the library's work. So libraries with immutable arrays serve as well as others.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import place


class Memory:
    """Elements in row-major order. `value`: the library's array; `shadow`: whose views are the geometry."""

    __slots__ = ("library", "value", "shadow", "writes", "__weakref__")

    def __init__(self, library: Any, value: Any, shadow: Any):
        self.library, self.value, self.shadow, self.writes = library, value, shadow, 0

    @property
    def nbytes(self) -> int:
        """How much room there is, in bytes."""
        return self.shadow.nbytes

    @property
    def address(self) -> int:
        """Where the shadow begins, beside which the addresses of views are places."""
        return start_of(self.shadow)

    def flat(self, dtype: Any) -> Any:
        """The elements in a row. Complex memory as real numbers (and the reverse) is in pairs of parts."""
        xp, value = self.library, self.library.reshape(self.value, (-1,))
        have = self.shadow.dtype
        if have == dtype:
            return value
        if have.kind == "c" and dtype.kind == "f" and 2 * dtype.itemsize == have.itemsize:
            return xp.reshape(xp.stack([xp.real(value), xp.imag(value)], axis=-1), (-1,))
        if have.kind == "f" and dtype.kind == "c" and 2 * have.itemsize == dtype.itemsize:
            pairs = xp.reshape(value, (-1, 2))
            return joined(xp, pairs[:, 0], pairs[:, 1], dtype)
        if have.kind in "iu" and dtype.kind in "iu" and have.itemsize == dtype.itemsize:
            return xp.astype(value, xp.dtype(dtype))
        raise xp.lacks(f"no way to read {have.name} as {dtype.name} bit by bit")

    def write(self, flat: Any, dtype: Any) -> None:
        """New elements for all of the memory, given as elements of `dtype`."""
        xp = self.library
        if dtype != self.shadow.dtype:
            other = Memory(xp, flat, np.empty(flat.shape, dtype))
            flat = other.flat(self.shadow.dtype)
        self.value = xp.reshape(flat, self.shadow.shape)
        self.writes += 1


def joined(xp: Any, real: Any, imag: Any, dtype: Any) -> Any:
    """A complex array of two real ones. Infinity and NaN times i would be NaN in both parts, so these are constants."""
    low, high, none, unit = (xp.import_(np.asarray(complex(0, v), dtype)) for v in (-math.inf, math.inf, math.nan, 1))
    turned = xp.multiply(xp.astype(xp.where(xp.isfinite(imag), imag, xp.zeros_like(imag)), xp.dtype(dtype)), unit)
    turned = xp.where(xp.isinf(imag), xp.where(xp.less(imag, xp.zeros_like(imag)), low, high), turned)
    return xp.add(xp.astype(real, xp.dtype(dtype)), xp.where(xp.isnan(imag), none, turned))


def start_of(shadow: Any) -> int:
    """The address of a shadow's first element."""
    return shadow.__array_interface__["data"][0]


class Array:
    """A strided view of a Memory, with the attributes and methods of np.ndarray that ops use.

    Each library has a subclass of its own, whose `library` and `module` (the NumPy-like functions) it is bound to.
    """

    __slots__ = ("memory", "shadow", "_value", "_writes", "__weakref__")
    __array_ufunc__ = None  # NumPy's own functions leave these arrays alone
    __hash__ = None  # type: ignore[assignment]  # as arrays: == is elementwise
    library: Any
    module: Any

    def __init__(self, memory: Memory, shadow: Any):
        self.memory, self.shadow, self._writes = memory, shadow, -1

    @classmethod
    def of(cls, value: Any) -> Any:
        """An Array of its own around a library's array."""
        shadow = np.empty(tuple(value.shape), cls.library.numpy_dtype(value))
        return cls(Memory(cls.library, value, shadow), shadow)

    def view_of(self, shadow: Any) -> Any:
        """The Array with another geometry on the same memory."""
        return type(self)(self.memory, shadow)

    # ---- reading and writing

    @property
    def value(self) -> Any:
        """The library's array of what this view shows."""
        memory = self.memory
        if self.shadow is memory.shadow:
            return memory.value
        if self._writes != memory.writes:
            self._value, self._writes = self._read(), memory.writes
        return self._value

    def _read(self) -> Any:
        xp, shadow = self.library, self.shadow
        if not shadow.size:
            return xp.zeros(shadow.shape, dtype=xp.dtype(shadow.dtype))
        flat = self.memory.flat(shadow.dtype)
        stretched = [d for d in range(shadow.ndim) if shadow.strides[d] == 0 and shadow.shape[d] > 1]
        once = shadow[(*[slice(0, 1) if d in stretched else slice(None) for d in range(shadow.ndim)], Ellipsis)]
        order = sorted(range(shadow.ndim), key=lambda d: -once.strides[d])
        rows = once.transpose(order)
        if rows.flags.c_contiguous:
            start = (start_of(rows) - start_of(self.memory.shadow)) // rows.itemsize
            part = flat if rows.size == flat.shape[0] else flat[start : start + rows.size]
            value = xp.permute_dims(xp.reshape(part, rows.shape), tuple([order.index(d) for d in range(shadow.ndim)]))
        else:
            numbers = self.numbers(once)
            value = xp.reshape(xp.take(flat, xp.import_(numbers.reshape(-1)), axis=0), once.shape)
        return xp.broadcast_to(value, shadow.shape) if stretched else value

    def numbers(self, shadow: Any = None) -> Any:
        """For each element its number in the memory, in elements of this dtype: a NumPy array of int64."""
        shadow = self.shadow if shadow is None else shadow
        total = self.memory.shadow.nbytes // shadow.itemsize
        if not shadow.size:
            return np.zeros(shadow.shape, np.int64)
        start = (start_of(shadow) - start_of(self.memory.shadow)) // shadow.itemsize
        strides = [s // shadow.itemsize * 8 for s in shadow.strides]
        return np.lib.stride_tricks.as_strided(np.arange(total)[start:], shadow.shape, strides)

    def assign(self, value: Any) -> None:
        """Writes a library's array of this dtype, to be broadcast, into the memory."""
        xp, shadow = self.library, self.shadow
        value = xp.broadcast_to(value, shadow.shape)
        if shadow is self.memory.shadow:
            self.memory.value, self.memory.writes = value, self.memory.writes + 1
            return
        if not shadow.size:
            return
        flat = self.memory.flat(shadow.dtype)
        source = np.arange(flat.shape[0])
        source[self.numbers()] = len(source) + np.arange(shadow.size).reshape(shadow.shape)
        both = xp.concat([flat, xp.reshape(value, (-1,))])
        self.memory.write(xp.take(both, xp.import_(source), axis=0), shadow.dtype)

    def __getitem__(self, key: Any) -> Any:
        if place.is_basic(key):
            key = key if type(key) is tuple else (key,)
            return self.view_of(self.shadow[key if any(k is Ellipsis for k in key) else (*key, Ellipsis)])
        return place.read(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        if place.is_basic(key):
            self[key].put_all(value)
        else:
            place.write(self, key, value)

    def put_all(self, value: Any) -> None:
        """Writes an Array, NumPy array or number into all of it, broadcast and cast as NumPy does."""
        value = self.module.asarray(value)
        if value.shape != self.shape:
            lead = value.ndim - self.ndim
            if lead > 0 and all(n == 1 for n in value.shape[:lead]):
                value = value.reshape(value.shape[lead:])
            if not fits(value.shape, self.shape):
                raise ValueError(f"could not broadcast input array from shape {value.shape} into shape {self.shape}")
        self.assign(value.astype(self.dtype, copy=False).value)

    def fill(self, value: Any) -> None:
        """Every element becomes `value`."""
        self.put_all(value)

    # ---- what it is

    address = property(lambda self: start_of(self.shadow))  # as far as any: shadows have the elements' distances
    shape = property(lambda self: self.shadow.shape)
    ndim = property(lambda self: self.shadow.ndim)
    size = property(lambda self: self.shadow.size)
    dtype = property(lambda self: self.shadow.dtype)
    strides = property(lambda self: self.shadow.strides)
    itemsize = property(lambda self: self.shadow.itemsize)
    nbytes = property(lambda self: self.shadow.nbytes)
    flags = property(lambda self: self.shadow.flags)
    base = property(lambda self: None if self.shadow is self.memory.shadow else self.memory)
    T = property(lambda self: self.view_of(self.shadow.T))
    mT = property(lambda self: self.view_of(self.shadow.mT))

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            f"implicit conversion of an array of array_api:{self.library.name} to NumPy; use .cpu() or tolist()"
        )

    def __len__(self) -> int:
        return len(self.shadow)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def host(self) -> Any:
        """The values as a NumPy array with memory of its own, its dimensions in the order of these."""
        by_stride = sorted(range(self.ndim), key=lambda d: -self.strides[d])
        values = self.library.export(self.transpose(by_stride).value if self.ndim else self.value)
        return values.reshape([self.shape[d] for d in by_stride]).transpose(np.argsort(by_stride))

    def item(self, *place: Any) -> Any:
        """The one element as a Python number."""
        return self.host().item(*place)

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return self.host().tolist()

    def __bool__(self) -> bool:
        return bool(self.host())

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError("only integer scalar arrays can be converted to a scalar index")
        return int(self.item())

    def __repr__(self) -> str:
        return f"Array({self.tolist()}, dtype={self.dtype})"

    # ---- views

    @property
    def real(self) -> Any:
        return self.view_of(self.shadow.real)

    @real.setter
    def real(self, value: Any) -> None:
        self.real.put_all(value)

    @property
    def imag(self) -> Any:
        return self.view_of(self.shadow.imag) if self.dtype.kind == "c" else self.module.zeros(self.shape, self.dtype)

    @imag.setter
    def imag(self, value: Any) -> None:
        self.imag.put_all(value)

    def view(self, dtype: Any = None) -> Any:
        """The same memory, or that read as another dtype: complex as pairs of real numbers, integers as unsigned."""
        return self.view_of(self.shadow.view() if dtype is None else self.shadow.view(dtype))

    def reshape(self, *shape: Any, order: str = "C", copy: Any = None) -> Any:
        """A view where the memory allows it, else a copy."""
        wanted = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        sizes = [int(n) for n in wanted]
        if self.size and sizes.count(-1) == 1:
            known = math.prod(n for n in sizes if n != -1)
            sizes = [self.size // known if n == -1 and known else n for n in sizes]
        if -1 not in sizes and math.prod(sizes) != self.size:
            raise ValueError(f"cannot reshape array of size {self.size} into shape {tuple(map(int, wanted))}")
        try:
            return self.view_of(np.reshape(self.shadow, tuple(sizes), copy=False))
        except ValueError:
            if copy is False or order != "C":
                raise
        return self.of(self.library.reshape(self.value, tuple(sizes)))

    def transpose(self, *axes: Any) -> Any:
        return self.view_of(self.shadow.transpose(*axes))

    def swapaxes(self, a: int, b: int) -> Any:
        return self.view_of(self.shadow.swapaxes(a, b))

    def squeeze(self, axis: Any = None) -> Any:
        return self.view_of(self.shadow.squeeze(axis))

    def diagonal(self, *args: Any, **kw: Any) -> Any:
        return self.view_of(self.shadow.diagonal(*args, **kw))

    def ravel(self) -> Any:
        return self.reshape(-1)

    # ---- copies

    def copy(self, order: str = "C") -> Any:
        return self.module.array(self, order=order)

    def flatten(self) -> Any:
        return self.copy().reshape(-1)

    def astype(self, dtype: Any, order: str = "K", copy: bool = True, **_: Any) -> Any:
        """The values in another dtype, by the library's conversion."""
        dtype = np.dtype(dtype)
        if dtype == self.dtype:
            return self.copy(order) if copy else self
        xp, value = self.library, self.value
        if dtype.kind == "b":
            return self.of(xp.not_equal(value, xp.zeros_like(value)))
        if self.dtype.kind == "c" and dtype.kind != "c":
            value = xp.real(value)
        return self.of(xp.astype(value, xp.dtype(dtype)))


def fits(shape: tuple[int, ...], into: tuple[int, ...]) -> bool:
    """Whether an array of one shape broadcasts to another."""
    try:
        return np.broadcast_shapes(shape, into) == into
    except ValueError:
        return False
