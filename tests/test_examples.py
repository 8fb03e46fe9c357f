"""The examples run to their end, on tapegrad and (the classic ones) on torch by changing the import alone."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from library import ROOT

EXAMPLES = ROOT / "examples"
CLASSIC = [
    "linear_regression", "logistic_regression", "mlp_by_hand", "cnn_classifier", "lstm_classifier", "text_classifier",
]  # fmt: skip
NEEDS_DIGITS = {"cnn_classifier", "lstm_classifier", "demo"}
DATA = ROOT.parent / "shared" / "data"


def run(path: Path, *arguments: str, cwd: Path | None = None) -> str:
    """The program's output; its failure is the test's."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES)}
    done = subprocess.run(
        [sys.executable, str(path), *arguments], env=environment, capture_output=True, text=True, cwd=cwd, timeout=280
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def need(*packages: str) -> None:
    for name in packages:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"this example needs {name}, which is not installed")


@pytest.mark.parametrize("name", CLASSIC)
def test_classic_program(name: str, tmp_path: Path) -> None:
    """Each ends with an assertion about what it has learnt."""
    if name in NEEDS_DIGITS:
        need("sklearn")
    assert run(EXAMPLES / f"{name}.py", cwd=tmp_path)


@pytest.mark.parametrize("name", CLASSIC)
def test_classic_program_prints_the_same_on_torch(name: str, tmp_path: Path) -> None:
    """One changed import: the same lines, numbers included (to 2 units in the last printed digit).

    The digit classifiers amplify rounding over many steps: PyTorch with and without oneDNN prints accuracies up to
    0.006 apart there. Their numbers agree to 2 %.
    """
    need("torch", *(["sklearn"] if name in NEEDS_DIGITS else []))
    source = (EXAMPLES / f"{name}.py").read_text("utf-8").replace("import tapegrad as torch", "import torch")
    changed = tmp_path / f"{name}.py"
    changed.write_text(source, "utf-8")
    theirs, ours = run(changed, cwd=tmp_path), run(EXAMPLES / f"{name}.py", cwd=tmp_path)
    number = re.compile(r"\d+\.\d+")
    assert number.sub("#", ours) == number.sub("#", theirs)
    for a, b in zip(number.findall(ours), number.findall(theirs), strict=True):
        unit = 10.0 ** -len(b.partition(".")[2])
        allowed = max(2 * unit, 0.02 * float(b)) if name in NEEDS_DIGITS else 2 * unit
        assert abs(float(a) - float(b)) <= allowed + 1e-9, (a, b)


def test_demo(tmp_path: Path) -> None:
    need("sklearn", "matplotlib", "tqdm")
    text = run(EXAMPLES / "demo.py", "--epochs", "6", "--out", "picture.png", cwd=tmp_path)
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    assert float(re.findall(r"test accuracy (0\.\d+);", text)[0]) > 0.95
    assert "picture.png" in text


def test_mnist(tmp_path: Path) -> None:
    if not (DATA / "t10k-images-idx3-ubyte.gz").exists():
        pytest.skip("the MNIST idx files are not on this machine")
    text = run(EXAMPLES / "mnist.py", "--data", str(DATA), "--epochs", "1", cwd=tmp_path)
    assert float(re.findall(r"test accuracy (0\.\d+)", text)[0]) > 0.85
    with pytest.raises(AssertionError, match="no MNIST idx files"):
        run(EXAMPLES / "mnist.py", "--data", str(tmp_path))


def test_char_gpt(tmp_path: Path) -> None:
    story = tmp_path / "story.txt"
    story.write_text("the cat sat on the mat and looked at the moon. " * 60, "utf-8")
    text = run(EXAMPLES / "char_gpt.py", str(story), "--steps", "40", "--context", "24", "--sample", "40", cwd=tmp_path)
    losses = [float(x) for x in re.findall(r"loss (\d+\.\d+)", text)]
    assert losses[-1] < 0.6 * losses[0]
