"""The libraries that can be measured: how each is imported, what its process is started with, how it is told to wait.

A library is torch-like (the workloads run in it as they are written) or has idiomatic code of its own in `peers/`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Library:
    """name: the column; module: what is imported; package: its distribution; peer: its file in `peers/`."""

    name: str
    module: str
    package: str
    peer: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    backends: tuple[str, ...] = ("numpy",)
    needs: tuple[str, ...] = ()  # further modules without which it is absent
    programs: tuple[tuple[str, ...], ...] = ()  # of each tuple one program must be there
    without: tuple[str, ...] = ()  # workloads that are not for it, where it runs the torch-like ones


LIBRARIES = {
    library.name: library
    for library in (
        Library("tapegrad", "tapegrad", "tapegrad", None, {"TAPEGRAD_FAST": "0"}, ("numpy", "cupy")),
        Library("tapegrad+fast", "tapegrad", "tapegrad", None, {"TAPEGRAD_FAST": "1"}, needs=("numba",)),
        Library(
            "tapegrad+graph", "tapegrad", "tapegrad", backends=("cupy",),
            without=("tape-8", "tape-64x64", "adam-10m", "hvp", "trees"),
        ),  # fmt: skip
        Library("torch", "torch", "torch", backends=("numpy", "cupy")),
        Library(
            "torch.compile", "torch", "torch", backends=("numpy", "cupy"), programs=(("g++", "clang++"),),
            without=("tape-8", "tape-64x64", "adam-10m", "hvp", "trees"),
        ),  # fmt: skip
        Library("jax", "jax", "jax", "jax_peer", {"JAX_PLATFORMS": "cpu"}),
        Library("tinygrad", "tinygrad", "tinygrad", "tinygrad_peer", {"DEV": "CPU"}, programs=(("clang",),)),
        Library("autograd", "autograd", "autograd", "autograd_peer"),
        Library("mygrad", "mygrad", "mygrad", "mygrad_peer"),
    )
}
DEFAULT = {  # by backend
    "numpy": ("tapegrad", "tapegrad+fast", "torch"),
    "cupy": ("tapegrad", "tapegrad+graph", "torch", "torch.compile"),
}
REFERENCE = "torch"  # ratios are to this one

_PROBE = """
import importlib.util, json, sys
sys.path[:] = sys.path[1:]
print(json.dumps([importlib.util.find_spec(name) is not None for name in sys.argv[1:]]))
"""


def path_with(python: str) -> str:
    """PATH with the folder of an interpreter first: what its environment brings (a compiler) is found."""
    return os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", os.defpath)])


def installed(modules: Sequence[str], python: str) -> list[bool]:
    """Whether each module is there for an interpreter; asked in a process of its own, away from this repository."""
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-c", _PROBE, *modules]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{python} does not run:\n{run.stderr}")
    return json.loads(run.stdout)


def absent(names: Sequence[str], backend: str = "numpy", python_of: Mapping[str, str] | None = None) -> dict[str, str]:
    """{library: why} for those that cannot be measured here."""
    out = {}
    for name in names:
        library = LIBRARIES[name]
        python = (python_of or {}).get(name, sys.executable)
        needed = (library.module, *library.needs)
        missing = [module for module, there in zip(needed, installed(needed, python), strict=True) if not there]
        programs = [p for p in library.programs if not any(shutil.which(one, path=path_with(python)) for one in p)]
        if backend not in library.backends:
            out[name] = f"not measured with the backend {backend}"
        elif missing:
            out[name] = f"{', '.join(missing)} not installed"
        elif programs:
            out[name] = f"needs {' or '.join(programs[0])}"
    return out
