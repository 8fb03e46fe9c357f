"""The guards of conftest.py fail the tests they are there to fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

LEAKS = """
import os
import warnings
import tapegrad as torch

def test_grad_mode(): torch.set_grad_enabled(False)
def test_dtype(): torch.set_default_dtype(torch.float64)
def test_device(): torch.set_default_device("fake" if str(torch.get_default_device()) == "cpu" else "cpu")
def test_anomaly(): torch.autograd.set_detect_anomaly(True)
def test_variable(): os.environ["TAPEGRAD_GENERIC"] = "1"
def test_nothing():
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
    with torch.no_grad():
        pass

FIRST = []
def draw():
    FIRST.append(torch.rand(()).item())
    assert len(set(FIRST)) == 1
def test_first_draw(): draw()
def test_same_draw_again(): draw()
"""


def run_pytest(folder: Path, *options: str) -> str:
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TAPEGRAD_")}
    command = [sys.executable, "-m", "pytest", "-rA", "--confcutdir", str(folder), *options, str(folder)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True).stdout


def test_each_leak_is_an_error(tmp_path):
    (tmp_path / "test_leaks.py").write_text(LEAKS)
    output = run_pytest(tmp_path)
    assert "8 passed, 5 errors" in output, output
    for name in ["grad mode", "default dtype", "default device", "anomaly mode", "TAPEGRAD_* variables"]:
        assert f"{name} was" in output


def test_the_option_chooses_the_backend(tmp_path):
    (tmp_path / "test_device.py").write_text(
        "import tapegrad as torch\ndef test_device(): assert torch.ones(1).device.type == 'fake'"
    )
    assert "1 passed" in run_pytest(tmp_path, "--backend", "fake")
    assert "1 failed" in run_pytest(tmp_path, "--backend", "numpy")
