"""Two results side by side: None where they are the same, else the first difference in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import tapegrad
import torch

from .translate import array

# Relative and absolute tolerance: torch.testing.assert_close's own. Everything else is compared exactly.
TOLERANCE = {
    "float64": (1e-7, 1e-7),
    "complex128": (1e-7, 1e-7),
    "float32": (1.3e-6, 1e-5),
    "complex64": (1.3e-6, 1e-5),
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
}


def dtype_name(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def values(mine: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any], rtol: float, atol: float) -> str | None:
    """The first difference of two arrays of equal shape."""
    if mine.dtype.kind in "fcV" or theirs.dtype.kind in "fcV":
        wide = np.complex128 if "c" in (mine.dtype.kind, theirs.dtype.kind) else np.float64
        with np.errstate(all="ignore"):
            a, b = mine.astype(wide), theirs.astype(wide)
            same = np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
        if wide is np.complex128:
            with np.errstate(all="ignore"):
                same |= _parts_equal(a, b, rtol, atol)
    else:
        same = np.asarray(mine == theirs)
    if same.all():
        return None
    where = tuple(int(i) for i in np.argwhere(~same)[0])
    count = f"{int((~same).sum())} of {same.size} values differ"
    return f"{count}, first at {where}: {mine[where]!r}, torch {theirs[where]!r}"


def _parts_equal(a: Any, b: Any, rtol: float, atol: float) -> Any:
    """Complex infinities and NaN are compared part by part."""
    special = ~(np.isfinite(a) & np.isfinite(b))
    parts = [np.isclose(x, y, rtol=rtol, atol=atol, equal_nan=True) for x, y in ((a.real, b.real), (a.imag, b.imag))]
    return special & parts[0] & parts[1]


def tensors(mine: Any, theirs: torch.Tensor, loosen: float = 1.0, meta_only: bool = False) -> str | None:
    """The first difference of two tensors: dtype, shape, values."""
    if not isinstance(mine, tapegrad.Tensor):
        return f"gives {type(mine).__name__}, torch a Tensor"
    if str(mine.dtype) != str(theirs.dtype):
        return f"dtype {mine.dtype}, torch {theirs.dtype}"
    if tuple(mine.shape) != tuple(theirs.shape):
        return f"shape {tuple(mine.shape)}, torch {tuple(theirs.shape)}"
    if theirs.layout is not torch.strided:
        if str(mine.layout) != str(theirs.layout):
            return f"layout {mine.layout}, torch {theirs.layout}"
        mine, theirs = mine.to_dense(), theirs.to_dense()
    if meta_only:
        return None
    rtol, atol = TOLERANCE.get(dtype_name(theirs), (0.0, 0.0))
    a = np.asarray(mine.detach().resolve_conj().cpu().numpy()) if dtype_name(mine) != "bfloat16" else raw(mine)
    return values(a, array(theirs), rtol * loosen, atol * loosen)


def raw(t: Any) -> Any:
    return np.asarray(t.detach().cpu().array)


def results(mine: Any, theirs: Any, loosen: float = 1.0, meta_only: bool = False) -> str | None:
    """The first difference of two results: tensors, numbers, and tuples, lists and dicts of them."""
    if isinstance(theirs, torch.Tensor):
        return tensors(mine, theirs, loosen, meta_only)
    if isinstance(theirs, (list, tuple)):
        if not isinstance(mine, (list, tuple)):
            return f"gives {type(mine).__name__}, torch {type(theirs).__name__}"
        if len(mine) != len(theirs):
            return f"gives {len(mine)} values, torch {len(theirs)}"
        names = getattr(theirs, "__match_args__", None)
        if type(theirs).__module__ == "torch.return_types" and getattr(mine, "__match_args__", None) != names:
            return f"names {getattr(mine, '__match_args__', None)}, torch {names}"
        found = (results(a, b, loosen, meta_only) for a, b in zip(mine, theirs, strict=True))
        return next((f"value {i}: {text}" for i, text in enumerate(found) if text), None)
    if isinstance(theirs, dict):
        if list(mine) != list(theirs):
            return f"keys {list(mine)}, torch {list(theirs)}"
        return next((f"{k}: {t}" for k in theirs if (t := results(mine[k], theirs[k], loosen, meta_only))), None)
    if isinstance(theirs, (torch.dtype, torch.device, torch.layout)):
        return None if str(mine) == str(theirs) else f"{mine}, torch {theirs}"
    if isinstance(theirs, (float, complex)):
        return values(np.asarray(mine), np.asarray(theirs), 1e-7, 1e-7)
    same = type(mine).__name__ == type(theirs).__name__ and mine == theirs
    return None if same else f"{mine!r}, torch {theirs!r}"


def views(mine: Any, theirs: Any, my_inputs: list[Any], their_inputs: list[Any]) -> str | None:
    """Where torch's result shares memory with an input: ours must as well, with its strides."""
    for a, b in zip(flat(mine), flat(theirs), strict=False):
        if not isinstance(b, torch.Tensor) or b.layout is not torch.strided or not b.numel():
            continue
        for x, y in zip(my_inputs, their_inputs, strict=True):
            if y.layout is torch.strided and b.untyped_storage().data_ptr() == y.untyped_storage().data_ptr():
                if a.untyped_storage().data_ptr() != x.untyped_storage().data_ptr():
                    return "is a copy, torch's shares the input's memory"
                big = [(s, n) for s, n in zip(b.stride(), b.shape, strict=True) if n > 1]
                mine_big = [(s, n) for s, n in zip(a.stride(), a.shape, strict=True) if n > 1]
                if big != mine_big:
                    return f"strides {a.stride()}, torch {b.stride()}"
    return None


def flat(value: Any) -> list[Any]:
    """The leaves of nested tuples, lists and dicts."""
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in flat(item)]
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in flat(item)]
    return [value]


def error(failure: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(failure).split())
    return f"{type(failure).__name__}: {text[:200]}"
