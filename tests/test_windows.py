"""Windows beside PyTorch's: torch.signal.windows and those of the top level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tapegrad

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
ours, theirs = tapegrad.signal.windows, torch.signal.windows

LENGTHS = (0, 1, 2, 3, 8, 33)
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in ours.__all__ if name != "general_cosine"),
    ("exponential", {"tau": 3.0}), ("gaussian", {"std": 0.5}), ("kaiser", {"beta": 3.0}), ("kaiser", {"beta": 0.0}),
    ("general_hamming", {"alpha": 0.3}), ("general_cosine", {"a": [0.3, 0.5, 0.2]}), ("general_cosine", {"a": (1.0,)}),
]  # fmt: skip
TOP = ("hann_window", "hamming_window", "blackman_window", "bartlett_window", "kaiser_window")


def close(found: Any, expected: Any, rtol: float) -> None:
    assert repr(found.dtype) == repr(expected.dtype)
    np.testing.assert_allclose(
        found.double().detach().numpy(), expected.double().detach().numpy(), rtol=rtol, atol=rtol
    )


def failure(function: Any, *args: Any, **kw: Any) -> tuple[type, str]:
    with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
        function(*args, **kw)
    return type(caught.value), str(caught.value).partition("\n")[0]


def test_all_names() -> None:
    assert set(ours.__all__) == set(theirs.__all__)
    assert tapegrad.signal.windows is ours


@pytest.mark.parametrize(("name", "kw"), CASES)
@pytest.mark.parametrize("sym", [True, False])
def test_windows(name: str, kw: dict[str, Any], sym: bool) -> None:
    f, g = getattr(ours, name), getattr(theirs, name)
    for M in LENGTHS:
        close(f(M, sym=sym, **kw), g(M, sym=sym, **kw), 5e-7)
        close(f(M, sym=sym, dtype=tapegrad.float64, **kw), g(M, sym=sym, dtype=torch.float64, **kw), 1e-14)
    made = f(5, sym=sym, requires_grad=True, **kw)
    assert made.requires_grad and made.is_leaf is g(5, sym=sym, requires_grad=True, **kw).is_leaf


def test_exponential_with_a_centre() -> None:
    close(ours.exponential(7, center=1.5, sym=False), theirs.exponential(7, center=1.5, sym=False), 1e-6)


WRONG: list[tuple[str, dict[str, Any]]] = [
    *((name, {"M": -1}) for name in ours.__all__ if name != "general_cosine"),
    ("exponential", {"M": 3, "tau": 0}), ("exponential", {"M": 3, "center": 1.0}), ("gaussian", {"M": 3, "std": -1}),
    ("kaiser", {"M": 3, "beta": -1}), ("general_cosine", {"M": 3, "a": []}), ("general_cosine", {"M": 3, "a": None}),
    ("general_cosine", {"M": -3, "a": [1]}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kw"), WRONG)
def test_errors(name: str, kw: dict[str, Any]) -> None:
    assert failure(getattr(ours, name), **kw) == failure(getattr(theirs, name), **kw)


@pytest.mark.parametrize("name", [n for n in ours.__all__ if n != "general_cosine"])
def test_wrong_dtypes(name: str) -> None:
    for dtype in ("int64", "float16"):
        found = failure(getattr(ours, name), 3, dtype=getattr(tapegrad, dtype))
        assert found == failure(getattr(theirs, name), 3, dtype=getattr(torch, dtype))
        assert "expects float32 or float64" in found[1]


@pytest.mark.parametrize("name", TOP)
def test_top_level(name: str) -> None:
    f, g = getattr(tapegrad, name), getattr(torch, name)
    for length in LENGTHS:
        for periodic in (True, False):
            close(f(length, periodic), g(length, periodic), 3e-7)
            close(f(length, periodic=periodic, dtype=tapegrad.float64), g(length, periodic, dtype=torch.float64), 3e-15)
            close(f(length, periodic, dtype=tapegrad.half), g(length, periodic, dtype=torch.half), 3e-3)
    made = f(5, requires_grad=True)
    assert made.requires_grad and made.is_leaf
    for wrong in ((-1,), (2.5,), (True,), ("3",)):
        assert failure(f, *wrong) == failure(g, *wrong)
    assert failure(f, 4, 1)[0] is failure(g, 4, 1)[0] is TypeError
    for dtype in ("int64", "complex64"):
        found = failure(f, 3, dtype=getattr(tapegrad, dtype))
        assert found[0] is failure(g, 3, dtype=getattr(torch, dtype))[0]
    close(f(1, dtype=tapegrad.complex64).real, g(1, dtype=torch.complex64).real, 0)


def test_parameters_of_the_top_level() -> None:
    close(tapegrad.hamming_window(6, True, 0.5, 0.4), torch.hamming_window(6, True, 0.5, 0.4), 1e-7)
    close(tapegrad.kaiser_window(6, False, 4.0), torch.kaiser_window(6, False, 4.0), 1e-6)
    tapegrad.set_default_dtype(tapegrad.float64)
    try:
        assert tapegrad.hann_window(3).dtype is tapegrad.float64
    finally:
        tapegrad.set_default_dtype(tapegrad.float32)
