"""What a library costs before it computes anything, and what it keeps: import time, installed size, growth."""

from __future__ import annotations

import importlib.metadata
import os
import re
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .libraries import LIBRARIES
from .process import Process, WorkerError
from .runner import Settings

ROOT = Path(__file__).resolve().parents[1]
STEPS, AFTER = 1000, 100  # growth is what is held after all steps less what is held after the first ones
IMPORT = """
import sys, time
sys.path[:] = sys.path[1:]
began = time.perf_counter()
import {}
print(time.perf_counter() - began)
"""


def import_times(modules: Sequence[str], rounds: int) -> dict[str, float]:
    """{module: median seconds of its import in a fresh process}, bytecode at hand; rounds go through all modules.

    A module that fails to be imported is told on the error stream and left out.
    """
    times: dict[str, list[float]] = {name: [] for name in modules}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(folder) / "cache")}
        for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH"):
            environment.pop(name, None)
        for turn in range(rounds + 1):
            for name in list(times):
                run = subprocess.run(
                    [sys.executable, "-c", IMPORT.format(name)], cwd=folder, env=environment, capture_output=True,
                    text=True, check=False,
                )  # fmt: skip
                if run.returncode:
                    print(f"import {name} failed:\n{run.stderr}", file=sys.stderr)
                    del times[name]
                elif turn:  # the first round compiles
                    times[name].append(float(run.stdout.split()[-1]))
    return {name: statistics.median(found) for name, found in times.items()}


def files_size(package: str) -> int:
    """Bytes of a distribution's files, without compiled bytecode; 0 where it is not installed."""
    try:
        files = importlib.metadata.distribution(package).files or []
    except importlib.metadata.PackageNotFoundError:
        return 0
    paths = [Path(str(file.locate())) for file in files if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.is_file())


def name_of(requirement: str) -> str:
    """The distribution that a requirement names, as the index writes it: "NumPy>=2" -> "numpy"."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", found.group()).lower() if found else ""


def requirements_of(package: str) -> list[str]:
    """What an installed distribution asks for, its extras left out; nothing where it is not installed."""
    try:
        every = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [name_of(requirement) for requirement in every if not re.search(r"extra\s*==", requirement)]


def with_needs(packages: Sequence[str]) -> set[str]:
    """The distributions, what they need and what those need; installed ones only."""
    out: set[str] = set()
    left = list(packages)
    while left:
        name = left.pop()
        if name not in out and files_size(name):
            out.add(name)
            left += requirements_of(name)
    return out


def own_project() -> dict[str, Any]:
    """pyproject.toml: what is installed in this environment may be an older state of it."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def own_size() -> int:
    """Bytes of what tapegrad's wheel holds: the files of the packages that pyproject.toml lists."""
    settings = own_project()["tool"]["setuptools"]
    total = 0
    for package in settings["packages"]:
        folder = ROOT.joinpath(*package.split(".")[1:])
        patterns = ["*.py", *settings.get("package-data", {}).get(package, [])]
        total += sum(path.stat().st_size for pattern in patterns for path in folder.glob(pattern))
    return total


def installed_size(library: str) -> dict[str, int]:
    """{"own": bytes of the library, "all": with everything it needs}."""
    package = LIBRARIES[library].package
    if package == "tapegrad":
        project = own_project()["project"]
        extra = project["optional-dependencies"]["fast"] if library == "tapegrad+fast" else []
        own, needs = own_size(), [name_of(text) for text in [*project["dependencies"], *extra]]
    else:
        own, needs = files_size(package), requirements_of(package)
    return {"own": own, "all": own + sum(files_size(other) for other in with_needs(needs) - {package})}


def growth(workload: str, libraries: Sequence[str], settings: Settings, tell: Callable[[str], None]) -> dict[str, Any]:
    """{library: bytes held early and late in a thousand steps}."""
    out: dict[str, Any] = {}
    for library in libraries:
        tell(f"growth {library}")
        python = settings.python_of.get(library, sys.executable)
        worker = Process(workload, library, settings.threads, backend=settings.backend, python=python)
        try:
            for order in ("load", "prepare"):
                worker.ask(order)
            out[library] = worker.ask("grow", steps=STEPS, after=AFTER)
        except WorkerError as error:
            out[library] = {"error": str(error)}
        finally:
            worker.close()
    return out


def footprint(libraries: Sequence[str], settings: Settings, rounds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Import times, installed sizes and growth of the libraries that this Python has (sizes are its installations')."""
    here = [name for name in libraries if name not in settings.python_of]
    tell("import times")
    modules = list(dict.fromkeys(["numpy", *(LIBRARIES[name].module for name in here)]))
    sizes = {name: installed_size(name) for name in here if name != "torch.compile"}
    return {
        "import": import_times(modules, rounds),
        "installed": {"numpy": {"own": files_size("numpy"), "all": files_size("numpy")}, **sizes},
        "growth": growth("mlp-64", [name for name in here if name != "torch.compile"], settings, tell),
        "growth_steps": [AFTER, STEPS],
    }
