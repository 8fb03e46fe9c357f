"""Devices, moves, streams, memory and other libraries' arrays on the CuPy backend, without a GPU.

Most of it is said in cupy_checks.py, which runs CuPy itself over pretended devices in a process of its own; here are
its results, one test each, and what needs no CuPy: the arithmetic of the check of indices, the names of CuPy that ops
use, and the examples on another device.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cuda_on_cpu as emulation
import numpy as np
import pytest
import tapegrad as torch
from library import ROOT
from tapegrad.backends import registry
from tapegrad.backends.cupy import bounds, compile, launch

HERE = Path(__file__).parent
SOURCE = ast.parse((HERE / "cupy_checks.py").read_text("utf-8"))
CHECKS = [f.name for f in SOURCE.body if isinstance(f, ast.FunctionDef) and
          any(ast.unparse(d) == "check" for d in f.decorator_list)]  # fmt: skip


@functools.cache
def results() -> dict[str, str]:
    """What each check found: "" or a traceback."""
    environment = {n: v for n, v in os.environ.items() if n != "TAPEGRAD_BACKEND"}
    done = subprocess.run(
        [sys.executable, str(HERE / "cupy_checks.py")], capture_output=True, text=True, cwd=HERE, env=environment,
        timeout=800,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(900)  # 40 s of work, all in the first of these tests
@pytest.mark.parametrize("name", CHECKS)
def test_cupy_itself(name: str) -> None:
    for package in ("cupy", "ml_dtypes"):
        try:
            found = importlib.util.find_spec(package)
        except ImportError:
            found = None
        if found is None:
            pytest.skip(f"{package} is not installed")
    if sys.platform != "linux":
        pytest.skip("the pretended devices are written for Linux")
    failure = results()[name]
    assert not failure, failure


# ---- the check of indices, executed --------------------------------------------------------------------------------


@pytest.fixture
def machine() -> Iterator[emulation.CpuMachine]:
    if emulation.COMPILER is None:
        pytest.skip("no C++ compiler (g++, or CXX) is installed")
    before = getattr(launch._current, "machine", None)
    made = emulation.CpuMachine()
    launch.use(made)
    bounds._pending.launched = False
    yield made
    bounds._pending.launched = False
    if before is not None:
        launch.use(before)


@pytest.mark.parametrize("dtype", ["i8", "i4", "i2", "i1", "u1", "u4"])
def test_the_first_wrong_index_is_told(dtype: str, machine: emulation.CpuMachine) -> None:
    good = machine.xp.array(np.arange(100, dtype=dtype).reshape(4, 25) % 100)
    bounds.named("gather")
    bounds.check(good, 0, 100, 100, "index {index} of {size}")
    bounds.raise_pending()
    for low, high in ((0, 99), (1, 100)):
        bounds.check(good.T, low, high, 100, "index {index} of {size}", RuntimeError)
        wrong = 99 if low == 0 else 0
        with pytest.raises(RuntimeError, match=rf"index {wrong} of 100 \(op gather: index {wrong}, size 100; found on"):
            bounds.raise_pending()
        bounds.raise_pending()
    if dtype[0] == "i":
        bounds.check(machine.xp.array(np.array([-4, 3], dtype)), -4, 4, 4, "{index}")
        bounds.raise_pending()
        bounds.check(machine.xp.array(np.array([0, -5], dtype)), -4, 4, 4, "{index} of {size}")
        with pytest.raises(IndexError, match=r"-5 of 4"):
            bounds.raise_pending()


def test_masks_and_empty_indices(machine: emulation.CpuMachine) -> None:
    text = "all elements should be between 0 and 1"
    bounds.check(machine.xp.array(np.ones(5, bool)), 1, 2, 2, text)
    bounds.check(machine.xp.array(np.ones(0, "i8")), 0, 0, 0, text)
    bounds.raise_pending()
    bounds.check(machine.xp.array(np.array([True, False])), 1, 2, 2, text, RuntimeError)
    with pytest.raises(RuntimeError, match=text):
        bounds.raise_pending()


def test_what_a_replayed_graph_finds_is_looked_for(machine: emulation.CpuMachine) -> None:
    found = bounds.flag()
    bounds.raise_pending()
    found[:] = [bounds.code("take", "index {index}"), 3, 2]
    bounds.raise_pending()
    bounds.expect()
    with pytest.raises(IndexError, match=r"index 3 \(op take"):
        bounds.raise_pending()


# ---- what ops ask of the array module ------------------------------------------------------------------------------

NAMES = json.loads((HERE / "cupy_names.json").read_text("utf-8"))
ROOMS = ("autograd", "nn", "optim", "amp")


def asked() -> dict[str, set[str]]:
    """name of the array module that the library's sources use -> keywords that they pass."""
    found: dict[str, set[str]] = {}
    for path in sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = _name(node.func) if isinstance(node, ast.Call) else _name(node)
            if name:
                keywords = {k.arg for k in node.keywords if k.arg} if isinstance(node, ast.Call) else set()
                found.setdefault(name, set()).update(keywords)
    return found


def _name(node: Any) -> str:
    if not isinstance(node, ast.Attribute):
        return ""
    text = ast.unparse(node)
    for start in ("xp.", "self.xp.", "raw.xp.", "backend.xp."):
        if text.startswith(start) and text[len(start) :].replace(".", "").isidentifier():
            return text[len(start) :]
    return ""


# what the CuPy backend adds to CuPy
OWN = {"check_index"}
# words of arrays and attributes behind a function's name, not names of the module
PARTS = ("at", "reduce", "accumulate", "dtype", "eps", "max", "min", "tiny", "__dict__", "get")


def unknown(lookup: Any) -> list[str]:
    """Uses that `lookup(name) -> keywords, or None for "any", KeyError for no such name` does not know."""
    wrong = []
    for name, keywords in asked().items():
        words = name.split(".")
        while words and (words[-1] in PARTS and len(words) > 1):
            words.pop()
        base = ".".join(words)
        if base in OWN or base.startswith(("cuda.", "lib")) or base == "__dict__":
            continue
        try:
            known = lookup(base)
        except KeyError:
            wrong.append(f"xp.{name}")
            continue
        if known is not None and name == base and (extra := keywords - set(known)):
            wrong.append(f"xp.{name}({', '.join(sorted(extra))}=)")
    return wrong


def test_cupy_has_every_function_and_keyword_that_ops_ask_for() -> None:
    """By the committed list; tests/make_cupy_names.py writes it where CuPy is installed."""
    assert not unknown(NAMES["functions"].__getitem__)


def test_the_list_is_that_of_cupy() -> None:
    try:
        cupy = compile.outside("cupy")
    except Exception as error:
        pytest.skip(f"CuPy cannot be imported: {error}")
    from make_cupy_names import functions

    if cupy.__version__ != NAMES["version"]:
        pytest.skip(f"the list is of CuPy {NAMES['version']}, installed is {cupy.__version__}")
    found = functions(cupy)
    assert {n: found.get(n) for n in NAMES["functions"]} == NAMES["functions"]


def test_methods_of_arrays_are_called_with_keywords_that_cupy_has() -> None:
    """A call `a.method(word=...)` in the ops: a method of that name of CuPy's arrays takes the word."""
    wrong = []
    for path in sorted((ROOT / "autograd" / "ops").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            known = NAMES["methods"].get(node.func.attr)
            if known is None or ast.unparse(node.func.value) in ("F", "xp", "op", "special", "math", "xp.linalg"):
                continue
            if extra := {k.arg for k in node.keywords if k.arg} - set(known):
                wrong.append(f"{path.name}:{node.lineno} .{node.func.attr}({', '.join(sorted(extra))}=)")
    assert not wrong


# ---- examples on another device ------------------------------------------------------------------------------------

EXAMPLES = {
    "linear_regression": [], "logistic_regression": [], "mlp_by_hand": [], "text_classifier": [],
    "char_gpt": ["--steps", "3", "--context", "8", "--sample", "5"],
    "cnn_classifier": [], "lstm_classifier": [],
}  # fmt: skip
DIGITS = {"cnn_classifier", "lstm_classifier"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_on_another_device(name: str, tmp_path: Path) -> None:
    """As it stands, by TAPEGRAD_BACKEND alone: on the GPU where there is one, else on the pretended device."""
    if name in DIGITS and importlib.util.find_spec("sklearn") is None:
        pytest.skip("this example needs sklearn, which is not installed")
    path = ROOT / "examples" / f"{name}.py"
    story = tmp_path / "story.txt"
    story.write_text("the cat sat on the mat and looked at the moon. " * 20, "utf-8")
    arguments = [str(story)] * (name == "char_gpt") + EXAMPLES[name]
    environment = {
        **os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(path.parent),
        "TAPEGRAD_BACKEND": "cupy" if torch.cuda.is_available() else "fake",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(path), *arguments], env=environment, capture_output=True, text=True, cwd=tmp_path,
        timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


# ---- without a device -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_checkpoint_of_a_device_that_is_not_here(tmp_path: Path) -> None:
    file = tmp_path / "made.pt"
    torch.save({"w": torch.ones(2)}, file)
    with pytest.raises(RuntimeError, match="Attempting to deserialize object on a CUDA device but torch.cuda.is_avail"):
        torch.load(file, map_location="cuda")
    with pytest.raises(RuntimeError, match=r"don't know how to restore data location of \w+ \(tagged with nowhere\)"):
        torch.load(file, map_location="nowhere")
    with pytest.raises(registry.BackendError):
        torch.ones(1).cuda()
    assert not hasattr(torch.ones(1), "__cuda_array_interface__")
    with pytest.raises(AttributeError, match="on non-CUDA tensor type: torch.FloatTensor"):
        torch.ones(1).__cuda_array_interface__  # noqa: B018
