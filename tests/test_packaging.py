"""What is installed and what an import brings with it: the wheel's content and size, the modules loaded."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import tapegrad
from library import NOT_LIBRARY, ROOT, library_files, module_name, package_names

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MAX_WHEEL_BYTES = 1_000_000
DATA = [ROOT / "py.typed", ROOT / "compat" / "parity.json", *sorted(ROOT.glob("backends/cupy/source/*.cuh"))]
# Packages that only an extra or the user's own program brings.
OPTIONAL = ["scipy", "cupy", "cupyx", "matplotlib", "torch", "ml_dtypes", "tqdm", "sklearn", "PIL", "pandas"]
# Each costs milliseconds, so the library imports it in the function that needs it; NumPy imports none of them.
HEAVY = [
    "asyncio", "multiprocessing", "concurrent", "unittest", "doctest", "pdb", "urllib.request", "http", "email",
    "logging", "importlib.metadata", "tempfile", "shutil", "subprocess", "sqlite3", "xml", "ssl", "socket",
    "typing_extensions", "numpy.random", "numpy.testing", "numpy.f2py", "numpy.ma", "numpy.polynomial",
    "numpy.fft",
]  # fmt: skip


def run_python(code: str, *, cwd: Path, **environment: str) -> str:
    """The output of `python -c code` in a fresh interpreter, warnings being errors."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- the import -----------------------------------------------------------------------------------------------------


def test_importing_loads_numpy_and_nothing_else_heavy(tmp_path):
    code = """
import json, sys, numpy
before = set(sys.modules)
import tapegrad
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    new = json.loads(run_python(code, cwd=tmp_path))
    foreign = {name.split(".")[0] for name in new} - sys.stdlib_module_names - {"tapegrad", "numpy"}
    assert "tapegrad.autograd" in new
    assert not foreign, f"import tapegrad imports {sorted(foreign)}"
    heavy = [name for name in new if any(name == module or name.startswith(module + ".") for module in HEAVY)]
    assert not heavy, f"import tapegrad imports {heavy}"


def test_a_network_trains_with_numpy_alone(tmp_path):
    code = f"""
import sys
for name in {OPTIONAL}:
    sys.modules[name] = None  # importing it raises ImportError
import tapegrad as torch
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Dropout(0.1), torch.nn.Linear(8, 2))
optimizer = torch.optim.Adam(net.parameters())
before = [p.detach().clone() for p in net.parameters()]
torch.nn.functional.cross_entropy(net(torch.randn(3, 4)), torch.tensor([0, 1, 1])).backward()
optimizer.step()
assert all((a != b).any() for a, b in zip(before, net.parameters()))
assert str(net) and str(before)
"""
    run_python(code, cwd=tmp_path)


@pytest.mark.parametrize("folder", ["", "tests", "elsewhere"])
def test_the_package_is_found_from_any_folder(folder, tmp_path):
    """In the checkout too, where the working directory offers `autograd`, `nn` and `optim` as names of their own."""
    code = "import tapegrad.autograd, tapegrad.nn, sys; print(tapegrad.__file__, 'nn' in sys.modules)"
    cwd = tmp_path if folder == "elsewhere" else ROOT / folder
    assert run_python(code, cwd=cwd).split() == [str(Path(tapegrad.__file__)), "False"]


# ---- pyproject.toml -------------------------------------------------------------------------------------------------


def test_the_list_of_packages_is_that_of_the_folders():
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    assert sorted(set(listed)) == listed, "sorted, no name twice"
    assert set(listed) == package_names(), (
        f"missing in pyproject.toml: {sorted(package_names() - set(listed))}; "
        f"listed there without such a folder: {sorted(set(listed) - package_names())}"
    )


def test_numpy_is_the_only_dependency():
    assert PYPROJECT["project"]["dependencies"] == ["numpy>=2"]
    assert PYPROJECT["project"]["requires-python"] == ">=3.11"


def test_the_version_is_written_once():
    assert "version" in PYPROJECT["project"]["dynamic"] and "version" not in PYPROJECT["project"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", tapegrad.__version__)
    assert importlib.metadata.version("tapegrad") == tapegrad.__version__
    assert f"## [{tapegrad.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


# ---- the wheel ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """A folder with the wheel and the sdist, built offline from a copy: a build in place would leave files behind."""
    source, dist = tmp_path_factory.mktemp("build") / "checkout", tmp_path_factory.mktemp("dist")
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "out")
    shutil.copytree(ROOT, source, ignore=left_out)
    code = f"import setuptools.build_meta as build; build.build_wheel({str(dist)!r}); build.build_sdist({str(dist)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dist


@pytest.fixture(scope="module")
def wheel(dist) -> Path:
    return next(dist.glob("tapegrad-*-py3-none-any.whl"))


def test_the_wheel_is_small(wheel):
    """Engine, ops, NumPy backend, nn and optim in under 1 MB; with all that surrounds them under 1.5 MB."""
    core = re.compile(r"tapegrad/((autograd|nn|optim|backends/numpy)/|backends/[^/]+\.py|[^/]+\.py)")
    with zipfile.ZipFile(wheel) as archive:
        sizes = {entry.filename: entry.compress_size for entry in archive.infolist()}
    assert sum(size for name, size in sizes.items() if core.match(name)) < MAX_WHEEL_BYTES
    assert wheel.stat().st_size < 1.5 * MAX_WHEEL_BYTES


def test_the_wheel_holds_the_library_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    content = {name for name in names if ".dist-info/" not in name}
    expected = {f"tapegrad/{path.relative_to(ROOT).as_posix()}" for path in [*library_files(), *DATA]}
    assert content == expected, f"missing: {sorted(expected - content)}; too much: {sorted(content - expected)}"
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    required = re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)
    assert [line for line in required if "extra ==" not in line] == ["numpy>=2"]
    assert "License-Expression: MIT" in metadata


def test_the_sdist_holds_what_the_wheel_is_built_from(dist):
    with tarfile.open(next(dist.glob("tapegrad-*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {path.relative_to(ROOT).as_posix() for path in [*library_files(), *DATA]} | {"pyproject.toml", "LICENSE"}
    assert needed <= names, f"missing: {sorted(needed - names)}"


def test_every_module_of_the_wheel_imports(wheel, tmp_path):
    """From the unpacked wheel, not the checkout. The CuPy backend's modules need CuPy and are left to its own tests.

    `__main__` is a program; the kernels that Numba compiles need Numba.
    """
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    names = [module_name(path) for path in library_files()]
    absent = ["tapegrad.backends.cupy"] + ([] if find_spec("numba") else ["tapegrad.backends.fast"])
    modules = [n for n in names if not n.startswith(tuple(absent)) and not n.endswith("__main__")]
    code = f"""
import importlib, sys
sys.path.insert(0, {str(tmp_path)!r})
for name in {modules}:
    assert importlib.import_module(name).__file__.startswith({str(tmp_path)!r}), name
"""
    run_python(code, cwd=tmp_path)


def test_no_folder_is_left_out_by_mistake():
    """NOT_LIBRARY names what the wheel leaves out; a library folder of such a name would be lost silently."""
    named = {part for name in PYPROJECT["tool"]["setuptools"]["packages"] for part in name.split(".")}
    assert not named & NOT_LIBRARY
