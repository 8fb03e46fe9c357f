"""The `xp` of the ops: NumPy's functions over one library of the array API standard.

A name is looked up in this order: a function of this file; a ufunc (ufuncs.py); a function of geometry, which NumPy
computes on shadows; a constant or type of NumPy's. Anything else is missing, which is an error when it is asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .functions import FUNCTIONS
from .linear import FFT, LINALG, Extension
from .ufuncs import COMPOSED, NAMES, Ufunc

# Views, which NumPy makes of a shadow, and nothing else
GEOMETRY = {
    "atleast_1d", "broadcast_to", "diagonal", "expand_dims", "flip", "fliplr", "flipud", "moveaxis", "permute_dims",
    "rollaxis", "rot90", "squeeze", "swapaxes", "transpose", "split", "array_split", "matrix_transpose",
}  # fmt: skip
_LOWEST = -(2**63)
_REDUCED_TO = {"b": "i8", "i": "i8", "u": "u8"}  # the dtype of sums and products of narrow integers


class Module:
    """NumPy's functions for the arrays of one library. `array_type`: the class of its Arrays."""

    reinterprets = False  # whether memory may be read as another dtype bit by bit

    def __init__(self, library: Any, array_type: Any):
        self.library, self.array_type = library, array_type
        self.wrap = array_type.of
        self.linalg, self.fft = Extension(self, "linalg", LINALG), Extension(self, "fft", FFT)
        self.lib = self.stride_tricks = self

    def __getattr__(self, name: str) -> Any:
        found: Any = getattr(np, name, None)
        if name in FUNCTIONS:
            found = _bound(FUNCTIONS[name], self)
        elif isinstance(found, np.ufunc) or name in COMPOSED or name in NAMES:
            found = Ufunc(self, name)
        elif name in GEOMETRY:
            found = _on_shadow(found)
        elif found is None or name[0] == "_" or (callable(found) and not isinstance(found, type)
                                                 and name not in _OF_NUMBERS):  # fmt: skip
            raise self.library.lacks(f"no function '{name}'")
        setattr(self, name, found)
        return found

    # ---- reductions: dtypes are NumPy's

    def reduction(self, name: str, x: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
        """sum, prod, max, min, mean, any or all along an axis, axes, or (None) all of them."""
        xp, kind = self.library, x.dtype.kind
        if not x.size:
            shown = getattr(np, name)(np.zeros(x.shape, x.dtype), axis=axis, keepdims=keepdims)  # or NumPy's error
            return self.asarray(np.asarray(shown, dtype or shown.dtype))
        if name in ("sum", "prod"):
            dtype = np.dtype(dtype or _REDUCED_TO.get(kind, x.dtype))
        elif name == "mean":
            dtype = np.dtype(dtype or ("f8" if kind in "biu" else x.dtype))
        elif name in ("any", "all"):
            x, dtype = x.astype(bool, copy=False), np.dtype(bool)
        else:
            dtype = x.dtype
        if name in ("max", "min") and kind == "u" and x.itemsize == 8:
            signed = self.wrap(self.signed(x.value))
            return (self.reduction(name, signed, axis, None, keepdims) ^ _LOWEST).astype("u8")
        inner = x.astype("u1" if kind == "b" and name in ("max", "min") else dtype, copy=False)
        axes = _axes(axis, x.ndim)
        if not axes and axis is not None:
            return inner.astype(dtype)
        keywords = {"dtype": xp.dtype(dtype)} if name in ("sum", "prod") else {}
        value = getattr(xp, name)(inner.value, axis=axes or None, keepdims=keepdims, **keywords)
        return self.wrap(value).astype(dtype, copy=False)

    def signed(self, value: Any) -> Any:
        """A library's uint64 array as int64 of the same order: not every library compares uint64."""
        xp = self.library
        return xp.bitwise_xor(xp.astype(value, xp.int64), xp.asarray(_LOWEST, dtype=xp.int64))

    # ---- views with strides of their own

    def as_strided(self, x: Any, shape: Any = None, strides: Any = None, **_: Any) -> Any:
        """numpy.lib.stride_tricks.as_strided."""
        return x.view_of(np.lib.stride_tricks.as_strided(x.shadow, shape, strides))

    def sliding_window_view(self, x: Any, window_shape: Any, axis: Any = None, **kw: Any) -> Any:
        """numpy.lib.stride_tricks.sliding_window_view."""
        return x.view_of(np.lib.stride_tricks.sliding_window_view(x.shadow, window_shape, axis, **kw))


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    given = tuple(range(ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    for d in given:
        if not -ndim <= d < ndim:
            raise np.exceptions.AxisError(d, ndim)
    return tuple(d % ndim for d in given)


# Functions of NumPy's on dtypes and shapes
_OF_NUMBERS = {"broadcast_shapes", "dtype", "errstate", "finfo", "iinfo", "result_type", "promote_types", "isscalar"}


def _on_shadow(function: Any) -> Any:
    def view(x: Any, *args: Any, **kw: Any) -> Any:
        found = function(x.shadow, *args, **kw)
        return [x.view_of(f) for f in found] if isinstance(found, (list, tuple)) else x.view_of(found)

    return view


def _bound(function: Any, module: Module) -> Any:
    def call(*args: Any, **kw: Any) -> Any:
        return function(module, *args, **kw)

    return call


# ---- the methods and operators of Array that are functions of the module

_METHODS = (
    "sum prod mean max min any all argmax argmin argsort cumsum cumprod nonzero conj conjugate clip take repeat round "
    "searchsorted dot var std"
)
_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or",
    "xor": "bitwise_xor", "lshift": "left_shift", "rshift": "right_shift",
}  # fmt: skip
_COMPARISONS = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal",
                "ne": "not_equal"}  # fmt: skip
_SIGNS = {"neg": "negative", "pos": "positive", "invert": "invert", "abs": "absolute"}


def _method(name: str) -> Any:
    def method(self: Any, *args: Any, **kw: Any) -> Any:
        return getattr(self.module, name)(self, *args, **kw)

    return method


def _binary(name: str, turned: bool, inplace: bool) -> Any:
    def operator(self: Any, other: Any) -> Any:
        if not hasattr(other, "shadow") and not isinstance(other, (bool, int, float, complex, np.generic, np.ndarray)):
            return NotImplemented
        result = getattr(self.module, name)(*((other, self) if turned else (self, other)))
        if inplace:
            self.put_all(result)
        return self if inplace else result

    return operator


def equip(array_type: Any) -> None:
    """Gives the class of Arrays its operators and the methods that the module computes."""
    for name in _METHODS.split():
        setattr(array_type, name, _method(name))
    for word, name in _OPERATORS.items():
        setattr(array_type, f"__{word}__", _binary(name, False, False))
        setattr(array_type, f"__r{word}__", _binary(name, True, False))
        setattr(array_type, f"__i{word}__", _binary(name, False, True))
    for word, name in _COMPARISONS.items():
        setattr(array_type, f"__{word}__", _binary(name, False, False))
    for word, name in _SIGNS.items():
        setattr(array_type, f"__{word}__", _method(name))
