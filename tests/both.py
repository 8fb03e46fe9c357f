"""Small programs run on tapegrad and on torch through one function, and whatever they give compared.

A program takes the library as `T` and gives a value: tensors, numbers, texts, dtypes, exceptions, nested as it likes.
Two tensors are the same when dtype, shape, requires_grad and values are; two exceptions when their types are, and the
texts as far as `said` asks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tapegrad

Program = Callable[[Any], Any]


class Raised:
    """What `said` and `kind` give for a call that raised: the type, and so much of the text as is to be compared."""

    def __init__(self, error: BaseException, length: int):
        self.type = type(error).__name__
        self.text = str(error).strip()[:length]
        self.whole = f"{self.type}: {error}"

    def __repr__(self) -> str:
        return self.whole[:300]


def said(function: Callable[..., Any], *args: Any, length: int = 40, **kw: Any) -> Any:
    """The value of a call, or its exception with the beginning of its text."""
    try:
        return function(*args, **kw)
    except Exception as error:
        return Raised(error, length)


def kind(function: Callable[..., Any], *args: Any, **kw: Any) -> Any:
    """The value of a call, or its exception's type."""
    return said(function, *args, length=0, **kw)


def warned(function: Callable[..., Any], *args: Any, length: int = 40, **kw: Any) -> list[Any]:
    """The value of a call, then the category and the beginning of the text of each warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = function(*args, **kw)
    return [value, *[(w.category.__name__, str(w.message)[:length]) for w in caught]]


class Programs(dict[str, Program]):
    """A table of programs; used as the decorator that adds one."""

    def __call__(self, function: Program) -> Program:
        assert function.__name__ not in self, f"two programs are named {function.__name__}"
        self[function.__name__] = function
        return function

    def check(self, name: str, rtol: float = 1e-12) -> None:
        """Asserts that the program does the same on both libraries."""
        real = pytest.importorskip("torch")
        mine, theirs = run(tapegrad, self[name]), run(real, self[name])
        same(mine, theirs, rtol, name)


def cells(table: str) -> list[str]:
    """The expressions of a table: separated by lines and by " | "; a line that begins with # is a comment."""
    lines = [line for line in table.strip().splitlines() if not line.strip().startswith("#")]
    return [cell.strip() for line in lines for cell in line.split(" | ") if cell.strip()]


def check(text: str, rtol: float = 1e-12, length: int = 40, **names: Any) -> None:
    """Asserts that an expression of `T`, `np` and the given names (functions of T) does the same on both libraries."""
    real = pytest.importorskip("torch")

    def value(T: Any) -> Any:
        scope = {"T": T, "np": np, "nan": float("nan"), "inf": float("inf")}
        scope.update({name: make(T) for name, make in names.items()})
        return said(lambda: eval(text, scope), length=length)

    same(run(tapegrad, value), run(real, value), rtol, text)


def run(library: Any, program: Program) -> Any:
    """What the program gives."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return said(program, library)


def same(mine: Any, theirs: Any, rtol: float, path: str) -> None:
    """Asserts that two results are the same; `path` says where in the result they stand."""
    if isinstance(theirs, Raised) or isinstance(mine, Raised):
        assert isinstance(mine, Raised) and isinstance(theirs, Raised), f"{path}: {mine!r}, torch: {theirs!r}"
        assert mine.type == theirs.type, f"{path}: {mine!r}, torch: {theirs!r}"
        assert mine.text == theirs.text, f"{path}: {mine!r}, torch: {theirs!r}"
    elif hasattr(theirs, "requires_grad") and hasattr(theirs, "dtype"):
        _same_tensor(mine, theirs, rtol, path)
    elif isinstance(theirs, np.ndarray):
        assert isinstance(mine, np.ndarray) and mine.dtype == theirs.dtype, f"{path}: {mine!r}, torch: {theirs!r}"
        np.testing.assert_allclose(mine, theirs, rtol=rtol, err_msg=path)
    elif isinstance(theirs, dict):
        assert list(mine) == list(theirs), f"{path}: keys {list(mine)}, torch: {list(theirs)}"
        for key in theirs:
            same(mine[key], theirs[key], rtol, f"{path}[{key!r}]")
    elif isinstance(theirs, (list, tuple)):
        assert type(mine).__name__ == type(theirs).__name__, f"{path}: {type(mine)}, torch: {type(theirs)}"
        assert len(mine) == len(theirs), f"{path}: {mine!r}, torch: {theirs!r}"
        for i, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            same(a, b, rtol, f"{path}[{i}]")
    elif isinstance(theirs, float):
        assert isinstance(mine, float) and mine == pytest.approx(theirs, rel=rtol, nan_ok=True), (
            f"{path}: {mine}, torch: {theirs}"
        )
    elif type(theirs).__module__.partition(".")[0] == "torch":  # dtypes, devices, limits: by what they print
        assert repr(mine) == repr(theirs), f"{path}: {mine!r}, torch: {theirs!r}"
    else:
        assert type(mine) is type(theirs) and mine == theirs, f"{path}: {mine!r}, torch: {theirs!r}"


_LOOSE = {"torch.float16": 2e-3, "torch.bfloat16": 2e-2, "torch.float32": 2e-6, "torch.complex64": 2e-6}


def _same_tensor(mine: Any, theirs: Any, rtol: float, path: str) -> None:
    assert hasattr(mine, "requires_grad"), f"{path}: {mine!r}, torch: {theirs!r}"
    for word in ("dtype", "shape", "requires_grad"):
        a, b = getattr(mine, word), getattr(theirs, word)
        assert repr(a) == repr(b), f"{path}: {word} {a}, torch: {b}"
    a, b = mine.detach().cpu(), theirs.detach().resolve_conj()
    if str(b.dtype) == "torch.bfloat16":
        a, b = a.float(), b.float()
    rtol = max(rtol, _LOOSE.get(str(theirs.dtype), 0))
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=rtol, atol=rtol * 1e-3, err_msg=path)
