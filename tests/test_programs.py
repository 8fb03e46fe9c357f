"""The programs in programs/, which say `import torch`: run unchanged on torch and on tapegrad, their numbers agree."""

from __future__ import annotations

import builtins
import importlib.util
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tapegrad
from test_training_torch import draws_as_torch

FOLDER = Path(__file__).parent / "programs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
STEPS = 20


def import_tapegrad(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    """`__import__` for which torch is tapegrad: torch.x.y is tapegrad.x.y, found by attributes where it is no file."""
    if name.partition(".")[0] != "torch":
        return builtins.__import__(name, globals, locals, fromlist, level)
    found: Any = tapegrad
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    return found if fromlist else tapegrad


def load(name: str, importer: Any) -> dict[str, Any]:
    """The program's names, its own imports made by `importer`."""
    path = FOLDER / f"{name}.py"
    scope = {"__name__": f"programs.{name}", "__builtins__": {**vars(builtins), "__import__": importer}}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), scope)
    return scope


def run(name: str, importer: Any) -> tuple[list[float], set[str]]:
    """(the program's numbers, beginnings of its warnings)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        numbers = load(name, importer)["main"](STEPS)
    return numbers, {str(w.message)[:40] for w in caught if w.category is not RuntimeWarning}


@pytest.mark.parametrize("name", NAMES)
def test_curves_agree_with_torch(name: str) -> None:
    """Every number of 20 steps, and of what a program does after training, within 1e-3 relative."""
    torch = pytest.importorskip("torch")
    if not draws_as_torch():
        pytest.skip("torch draws dropout masks from MKL on Intel processors")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected, known = run(name, builtins.__import__)
    finally:
        torch.set_num_threads(threads)
    found, warned = run(name, import_tapegrad)
    assert warned <= known, f"warnings that torch does not give: {warned - known}"
    assert len(found) == len(expected) >= STEPS
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_program_runs(name: str) -> None:
    """Without torch too: every program runs and its losses are numbers."""
    if importlib.util.find_spec("torch") and "torch" in sys.modules:
        pytest.skip("compared with torch above")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which of them torch gives too is seen above
        losses = load(name, import_tapegrad)["main"](4)
    assert losses and np.isfinite(losses).all()
