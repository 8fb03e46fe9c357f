"""The module cupy as the generic forms of ops take it: NumPy's behaviour, where a function of CuPy has another or none.

Everything else is CuPy's own function, found once. What is done here: bfloat16 where CuPy promotes it away, `ufunc.at`
for every dtype, solutions of stacks of systems, indices that are checked on the device (see bounds.py), and special
functions that only SciPy has, on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import bounds
from .linking import placed

BFLOAT16 = "E"  # the character of its dtype
# what CuPy adds atomically; the rest is added in the wider type and narrowed once
DIRECT = frozenset(("int32", "int64", "uint32", "uint64", "float32", "float64"))
WIDER = {
    "float16": "float32", "bfloat16": "float32", "bool": "int32", "int8": "int32", "int16": "int32", "uint8": "int32",
    "uint16": "int32",
}  # fmt: skip


class Dialect:
    """The module cupy with the changes of this file; what it has itself is looked up once and kept.

    several: whether there are several devices, so that functions have to be told where their arrays are.
    """

    def __init__(self, cupy: Any, several: bool = False):
        self.cupy, self.several = cupy, several
        self.where = _where(cupy)
        self.tril, self.triu = _by_bits(cupy.tril), _by_bits(cupy.triu)
        for name in ("add", "multiply", "maximum", "minimum"):
            setattr(self, name, Combining(cupy, getattr(cupy, name)))
        self.linalg = Linalg(cupy)
        windows = _sliding_window_view(cupy.lib.stride_tricks.as_strided)
        tricks = SimpleNamespace(as_strided=cupy.lib.stride_tricks.as_strided, sliding_window_view=windows)
        self.lib = SimpleNamespace(stride_tricks=tricks)
        self.check_index = bounds.check
        if several:
            for name in ("where", "tril", "triu"):
                setattr(self, name, placed(cupy, name, getattr(self, name)))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.cupy, name)
        if self.several and callable(found) and not isinstance(found, type):
            found = placed(self.cupy, name, found)
        self.__dict__[name] = found
        return found


def _where(cupy: Any) -> Callable[..., Any]:
    own = cupy.where

    def where(condition: Any, x: Any = None, y: Any = None) -> Any:
        """numpy.where. CuPy has no loop for bfloat16, so its 16 bits are chosen as integers."""
        kinds = [v.dtype for v in (x, y) if hasattr(v, "dtype")]
        if not kinds or any(kind.char != BFLOAT16 for kind in kinds):
            return own(condition, x, y)
        x, y = (cupy.asarray(v, kinds[0]).view("H") for v in (x, y))
        return own(condition, x, y).view(kinds[0])

    return where


def _by_bits(own: Callable[..., Any]) -> Callable[..., Any]:
    def triangle(m: Any, k: int = 0) -> Any:
        """One triangle of matrices, zeros elsewhere; of bfloat16 by its bits, as in `where`."""
        return own(m.view("H"), k).view(m.dtype) if m.dtype.char == BFLOAT16 else own(m, k)

    return triangle


def _sliding_window_view(as_strided: Callable[..., Any]) -> Callable[..., Any]:
    def sliding_window_view(x: Any, window_shape: int, axis: int, *, writeable: bool = False) -> Any:
        """numpy.lib.stride_tricks.sliding_window_view along one axis; CuPy gives none that may be written."""
        places = x.shape[axis] - window_shape + 1
        if places < 1:
            raise ValueError("window shape cannot be larger than input array shape")
        shape = (*x.shape[:axis], places, *x.shape[axis + 1 :], window_shape)
        return as_strided(x, shape, (*x.strides, x.strides[axis]))

    return sliding_window_view


class Combining:
    """A ufunc of CuPy with `at` for every dtype: several values for one place are combined there, in no fixed order."""

    def __init__(self, cupy: Any, ufunc: Any):
        self.cupy, self.ufunc = cupy, ufunc

    def __call__(self, *args: Any, **kw: Any) -> Any:
        return self.ufunc(*args, **kw)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ufunc, name)

    def at(self, out: Any, indices: Any, values: Any) -> None:
        """out[indices] = ufunc(out[indices], values), once for each value. Shapes as NumPy's."""
        name = out.dtype.name
        values = self.cupy.asarray(values)
        if self.ufunc is self.cupy.multiply:
            self._in_rounds(out, indices, values)
        elif out.dtype.kind == "c":  # only sums
            self.ufunc.at(out.real, indices, values.real.astype(out.real.dtype, copy=False))
            self.ufunc.at(out.imag, indices, values.imag.astype(out.real.dtype, copy=False))
        elif name in DIRECT:
            self.ufunc.at(out, indices, values.astype(out.dtype, copy=False))
        else:
            wide = out.astype(WIDER[name])
            self.ufunc.at(wide, indices, values.astype(wide.dtype))
            out[...] = wide

    def _in_rounds(self, out: Any, places: Any, values: Any) -> None:
        """Products: each round takes the next value of every place, so that none repeats. out, places: 1-d."""
        cupy, count = self.cupy, places.size
        if not count:
            return
        places = places % out.size
        order = cupy.argsort(places)
        ordered = places[order]
        rank = cupy.arange(count) - cupy.searchsorted(ordered, ordered)
        values = cupy.broadcast_to(values, places.shape)
        for k in range(int(rank.max()) + 1):
            taken = order[rank == k]
            out[places[taken]] *= values[taken].astype(out.dtype, copy=False)


class Linalg:
    """cupy.linalg, with stacks broadcast by `solve`."""

    def __init__(self, cupy: Any):
        self.cupy = cupy

    def __getattr__(self, name: str) -> Any:
        found = self.__dict__[name] = getattr(self.cupy.linalg, name)
        return found

    def solve(self, a: Any, b: Any) -> Any:
        """x with a x = b, as NumPy: a (*S, n, n), b (n,) or (*T, n, k), stacks broadcast."""
        if b.ndim == 1:
            if a.ndim > 2:
                return self.solve(a, b[:, None])[..., 0]
        elif a.shape[:-2] != b.shape[:-2]:
            stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
            a, b = (self.cupy.broadcast_to(m, (*stack, *m.shape[-2:])) for m in (a, b))
        return self.cupy.linalg.solve(a, b)


class Special:
    """cupyx.scipy.special; what it lacks is computed by SciPy on the host."""

    def __init__(self, cupy: Any, own: Any, scipys: Callable[[], Any]):
        self.cupy, self.own, self.scipys = cupy, own, scipys

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.own, name, None) or self._on_host(getattr(self.scipys(), name))
        self.__dict__[name] = found
        return found

    def _on_host(self, function: Callable[..., Any]) -> Callable[..., Any]:
        cupy = self.cupy

        def through_host(*arrays: Any) -> Any:
            out = function(*(cupy.asnumpy(a) for a in arrays))
            return tuple(map(cupy.asarray, out)) if isinstance(out, tuple) else cupy.asarray(out)

        return through_host
