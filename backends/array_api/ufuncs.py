"""NumPy's ufuncs over a library: which function computes each, and in which dtypes (NumPy's own tables say that)."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import place

# NumPy's name -> the standard's, where they differ
NAMES = {
    "absolute": "abs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan",
    "arctan2": "atan2", "arctanh": "atanh", "bitwise_not": "bitwise_invert", "conjugate": "conj",
    "invert": "bitwise_invert", "left_shift": "bitwise_left_shift", "mod": "remainder", "power": "pow",
    "right_shift": "bitwise_right_shift", "rint": "round", "true_divide": "divide",
}  # fmt: skip

# What the standard does not have, of what it has. F: the NumPy-like module
COMPOSED: dict[str, Any] = {
    "exp2": lambda F, x: F.exp(F.multiply(x, np.log(2.0).astype(x.dtype))) if x.dtype.kind == "c" else F.power(2, x),
    "fmod": lambda F, x, y: _fmod(F, x, y),
    "fmax": lambda F, x, y: F.where(F.isnan(x), y, F.where(F.isnan(y), x, F.maximum(x, y))),
    "fmin": lambda F, x, y: F.where(F.isnan(x), y, F.where(F.isnan(y), x, F.minimum(x, y))),
    "float_power": lambda F, x, y: F.power(x.astype("f8"), y),
    "logaddexp2": lambda F, x, y: F.logaddexp(x * np.log(2.0), y * np.log(2.0)) / np.log(2.0),
    "deg2rad": lambda F, x: x * (np.pi / 180),
    "rad2deg": lambda F, x: x * (180 / np.pi),
}


def _fmod(F: Any, x: Any, y: Any) -> Any:
    """The remainder with the sign of x: that of the absolute values, which is exact."""
    rest = F.remainder(F.absolute(x), F.absolute(y))
    return F.copysign(rest, x) if x.dtype.kind == "f" else F.where(x < 0, -rest, rest)


# ufunc.reduce -> the standard's reduction
REDUCTIONS = {
    "add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min", "logical_and": "all", "logical_or": "any",
}  # fmt: skip
_ORDER = {"less", "less_equal", "greater", "greater_equal"}
_ON_BOOL = {"equal", "not_equal", "bitwise_and", "bitwise_or", "bitwise_xor",
            "bitwise_invert", "logical_and", "logical_or", "logical_xor", "logical_not"}  # fmt: skip


@functools.cache
def loop(name: str, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    """The dtypes in which NumPy's ufunc computes, inputs and then outputs, for inputs of these dtypes or types."""
    ufunc = getattr(np, name)
    return ufunc.resolve_dtypes((*kinds, *(None,) * ufunc.nout))


class Ufunc:
    """One function of NumPy's, elementwise on broadcast inputs, with its methods `reduce`, `accumulate`, `at`."""

    def __init__(self, module: Any, name: str):
        self.module, self.name, self.library = module, name, module.library
        self.nin = getattr(np, name).nin
        self.own = NAMES.get(name, name)
        self.composed = COMPOSED.get(name) if not self.library.has(self.own) else None
        if self.composed is None:
            getattr(self.library, self.own)  # says at once what is missing

    def __call__(self, *args: Any, out: Any = None, where: Any = True, dtype: Any = None, **_: Any) -> Any:
        if len(args) > self.nin:
            args, out = args[: self.nin], args[self.nin]
        result = self._compute(args, dtype)
        out = out[0] if isinstance(out, tuple) else out
        if where is not True:
            result = self.module.where(where, result, result if out is None else out)
        if out is None:
            return result
        out.put_all(result)
        return out

    def _compute(self, args: Any, dtype: Any) -> Any:
        module, xp = self.module, self.library
        args = [a if hasattr(a, "shadow") or type(a) in (int, float, complex) else module.asarray(a) for a in args]
        dtypes = loop(self.name, tuple([a.dtype if hasattr(a, "shadow") else type(a) for a in args]))
        if dtype is not None:
            dtypes = (np.dtype(dtype),) * len(dtypes)
        logical = self.name.startswith("logical_")
        if self.composed is not None:
            arrays = [module.asarray(a, dt).astype(dt, copy=False) for a, dt in zip(args, dtypes, strict=False)]
            return self.composed(module, *arrays).astype(dtypes[-1], copy=False)
        inner = [np.dtype(bool) if logical else dt for dt in dtypes[: self.nin]]
        if self.own not in _ON_BOOL and inner[0].kind == "b":
            inner = [np.dtype(np.uint8)] * self.nin
        values = [
            a.astype(dt, copy=False).value if hasattr(a, "shadow") else xp.asarray(a, dtype=xp.dtype(dt))
            for a, dt in zip(args, inner, strict=True)
        ]
        if inner[0].kind == "c" and self.own in _ORDER | {"maximum", "minimum"}:
            raise xp.lacks("no order of complex numbers")
        if inner[0] == np.uint64 and self.own in _ORDER:
            values = [module.signed(v) for v in values]
        if self.nin > 1:
            np.broadcast_shapes(*[tuple(v.shape) for v in values])  # for NumPy's error
        if inner[0].kind == "c" and self.own in ("round", "trunc", "floor", "ceil"):
            raise TypeError(f"ufunc '{self.name}' not supported for the input types")
        found = getattr(xp, self.own)(*values)
        if len(dtypes) == self.nin + 1:
            return module.wrap(found).astype(dtypes[-1], copy=False)
        return tuple(module.wrap(f).astype(dt, copy=False) for f, dt in zip(found, dtypes[self.nin :], strict=True))

    # ---- methods

    def reduce(
        self, x: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False, initial: Any = None,
        where: Any = True,
    ) -> Any:  # fmt: skip
        """All elements along axis, an int, a tuple or None, folded into one."""
        x = self.module.asarray(x)
        if where is not True:
            x = self.module.where(where, x, getattr(np, self.name).identity if initial is None else initial)
        known = REDUCTIONS.get(self.name)
        if known is not None:
            result = self.module.reduction(known, x, axis=axis, dtype=dtype, keepdims=keepdims)
            if initial is not None:
                result = self(result, initial).astype(result.dtype, copy=False)
        else:
            result = self._folded(x, axis, keepdims, initial)
        if out is not None:
            out.put_all(result)
        return result if out is None else out

    def _folded(self, x: Any, axis: Any, keepdims: bool, initial: Any) -> Any:
        """A reduction that the standard does not name: halves are folded onto each other."""
        axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        for d in axes:
            d %= x.ndim
            lead = (slice(None),) * d
            if not x.shape[d]:
                start = getattr(np, self.name).identity if initial is None else initial
                x = self.module.full((*x.shape[:d], 1, *x.shape[d + 1 :]), start, x.dtype)
            while (n := x.shape[d]) > 1:
                half = n // 2
                folded = self(x[(*lead, slice(0, half))], x[(*lead, slice(half, 2 * half))])
                x = self.module.concatenate([folded, x[(*lead, slice(2 * half, n))]], d) if n % 2 else folded
        return x if keepdims else x.squeeze(axes)

    def accumulate(self, x: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        """The folds of all beginnings along axis, in log2(n) rounds (Hillis and Steele, 1986)."""
        x = x.astype(dtype or x.dtype)
        lead, step = (slice(None),) * (axis % x.ndim), 1
        while step < x.shape[axis]:
            x[(*lead, slice(step, None))] = self(x[(*lead, slice(None, -step))].copy(), x[(*lead, slice(step, None))])
            step *= 2
        if out is not None:
            out.put_all(x)
        return x if out is None else out

    def at(self, x: Any, key: Any, value: Any) -> None:
        """x[key] = ufunc(x[key], value), for elements that the key names more than once, too."""
        own = getattr(self.library, self.own)
        if x.dtype.kind == "b":
            # one line, like the function of the library whose place it takes
            own = lambda a, b: self(self.module.wrap(a), self.module.wrap(b)).value  # noqa: E731
        place.add_at(x, key, value, own)

    def outer(self, x: Any, y: Any) -> Any:
        """The function of each pair. x: (*S), y: (*T) -> (*S, *T)."""
        return self(x.reshape(*x.shape, *(1,) * y.ndim), y)
