"""Runs one expression with tapegrad and with torch on the same arrays, and compares all that can be seen of it.

An expression is a string in which `T` is the library and the names of `INPUTS` are tensors. Compared: values, dtypes,
shapes, the fields of named results, warnings, exceptions (type, and the text of RuntimeError and IndexError), and
gradients.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import tapegrad

_RNG = np.random.default_rng(0)
NAN, INF = math.nan, math.inf
INPUTS = {
    "x": np.arange(6.0, dtype="f4").reshape(2, 3),
    "d": np.array([[1.5, -2.0, 0.25, 4.0], [-0.5, 3.0, 1.25, -1.0], [2.0, 0.75, -3.5, 0.5]]),
    "v": np.array([3.0, 1.0, 2.0, 5.0, 4.0]),
    "ties": np.array([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]]),
    "nans": np.array([[1.0, NAN, 3.0, NAN], [5.0, 4.0, 6.0, 7.0]]),
    "allnan": np.array([NAN, NAN]),
    "infs": np.array([[INF, 1.0, 2.0], [-INF, 1.0, 2.0], [-INF, -INF, -INF]]),
    "zeros": np.array([[2.0, 0.0, 3.0, 5.0], [0.0, 4.0, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0]]),
    "z": np.array(3.0),
    "e": np.empty(0, "f4"),
    "e3": np.empty((3, 0), "f4"),
    "i": np.arange(6).reshape(2, 3),
    "u": np.arange(6, dtype="u1").reshape(2, 3),
    "b": np.arange(6).reshape(2, 3) > 2,
    "h": np.arange(6.0, dtype="f2").reshape(2, 3),
    "c": (np.arange(6.0) * 1j + np.array([1, 2, 0, 1, 2, 1])).reshape(2, 3).astype("c16"),
    "big": _RNG.normal(size=(40, 50)),
    "cube": _RNG.normal(size=(3, 4, 5)),
    "one": np.array([[1.0, 2.0]]),
    "n": np.array([3, 1, 3, 2, 1, 1]),
    "pairs": np.array([[3, 1], [3, 1], [1, 2], [3, 1]]),
}
FLOATING = [name for name, a in INPUTS.items() if a.dtype in ("f8", "c16")]


class Names(dict):  # type: ignore[type-arg]
    """The names of an expression for one library; tensors are made when they are first used."""

    def __init__(self, library: Any, requires_grad: bool):
        super().__init__(T=library, nan=NAN, inf=INF)
        self.library, self.requires_grad = library, requires_grad

    def __missing__(self, name: str) -> Any:
        if name not in INPUTS:
            raise KeyError(name)
        self[name] = t = self.library.tensor(INPUTS[name])
        if self.requires_grad and name in FLOATING:
            t.requires_grad_()
        return t


def outcome(library: Any, text: str, requires_grad: bool = False) -> tuple[Any, list[str], Names]:
    """(value or exception, texts of warnings, names)."""
    names = Names(library, requires_grad)
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            value = eval(text, names)  # noqa: S307
        except Exception as error:
            value = error
    return value, [str(w.message).split(" (Triggered")[0] for w in caught], names


def flat(value: Any) -> list[Any]:
    """The leaves of nested tuples and lists."""
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in flat(item)]
    return [value]


def same_value(mine: Any, theirs: Any, rtol: float) -> None:
    """Asserts one equal leaf: tensor or plain value."""
    if not hasattr(theirs, "dtype"):
        assert mine == theirs
        return
    assert str(mine.dtype) == str(theirs.dtype), f"dtype {mine.dtype}, torch {theirs.dtype}"
    assert tuple(mine.shape) == tuple(theirs.shape), f"shape {tuple(mine.shape)}, torch {tuple(theirs.shape)}"
    name = str(theirs.dtype)
    a, b = mine.detach().cpu(), theirs.detach()
    if name == "torch.bfloat16":
        a, b = a.float(), b.float()
    loose = {"torch.float16": 2e-3, "torch.bfloat16": 2e-2, "torch.float32": 2e-6, "torch.complex64": 2e-6}
    atol = 1e-12 if name in ("torch.float64", "torch.complex128") else 1e-7
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=max(rtol, loose.get(name, 0)), atol=atol)


def same_call(torch: Any, text: str, rtol: float = 1e-12) -> None:
    """Asserts that an expression does in tapegrad what it does in torch."""
    mine, warned, _ = outcome(tapegrad, text)
    theirs, warned_there, _ = outcome(torch, text)
    if isinstance(theirs, Exception):
        assert isinstance(mine, type(theirs)), f"{mine!r}, torch: {theirs!r}"
        if type(theirs) in (RuntimeError, IndexError):
            assert str(mine).startswith(str(theirs).strip("\n")[:60]), f"{mine!r}, torch: {theirs!r}"
        return
    if isinstance(mine, Exception):
        raise mine
    assert warned == warned_there, (warned, warned_there)
    if type(theirs).__module__ == "torch.return_types":
        assert type(mine).__name__ == type(theirs).__name__
        assert type(mine).__match_args__ == type(theirs).__match_args__
    assert len(flat(mine)) == len(flat(theirs))
    for a, b in zip(flat(mine), flat(theirs), strict=True):
        same_value(a, b, rtol)


def same_gradient(torch: Any, text: str, rtol: float = 1e-10) -> None:
    """Asserts equal gradients of the sum of the results, each element weighted by its place."""
    grads = []
    for library in (tapegrad, torch):
        value, _, names = outcome(library, text, requires_grad=True)
        if isinstance(value, Exception):
            raise value
        total: Any = 0
        outputs = [t for t in flat(value) if getattr(t, "requires_grad", False)]
        assert outputs, f"{library.__name__}: no result requires a gradient"
        with np.errstate(all="ignore"):
            for t in outputs:
                weight = library.arange(1, t.numel() + 1, dtype=library.float64).reshape(t.shape) * 0.37 - 1.1
                term = t * weight
                total = total + (term.real.sum() + (term.imag * 0.7).sum() if t.is_complex() else term.sum())
            total.backward()
        grads.append({n: t.grad for n, t in names.items() if n in FLOATING and t.grad is not None})
    assert grads[0].keys() == grads[1].keys(), (grads[0].keys(), grads[1].keys())
    for name, theirs in grads[1].items():
        same_value(grads[0][name], theirs, rtol)
