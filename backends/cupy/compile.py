"""CUDA C++ to machine code: through CuPy on the device at hand, and through NVIDIA's compiler alone for the check.

The sources lie beside this file in source/*.cuh. What is compiled is one text, each `#include "NAME.cuh"` replaced by
that file: CuPy's cache of compiled kernels on disk knows a text and its options, not the files that it includes.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import re
import sys
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent / "source"
_ROOT = Path(__file__).resolve().parents[2]
_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)


def outside(name: str) -> Any:
    """Imports a module of another package, with this package's own root off the path.

    In a checkout the working directory offers the folder `cuda` here as the top-level module of that name, and hides
    NVIDIA's packages, which CuPy needs.
    """
    kept = sys.path[:]
    found = sys.modules.get("cuda")
    if found is not None and Path(getattr(found, "__file__", None) or ".").resolve().parent == _ROOT / "cuda":
        del sys.modules["cuda"]
    sys.path[:] = [entry for entry in kept if Path(entry or ".").resolve() != _ROOT]
    try:
        return importlib.import_module(name)
    finally:
        sys.path[:] = kept


@functools.cache
def text(source: str) -> str:
    """The source NAME.cuh with what it includes in its place, each file once."""
    seen: set[str] = set()

    def spread(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        body = (SOURCES / name).read_text("utf-8").replace("#pragma once\n", "")
        return _INCLUDE.sub(lambda found: spread(found[1]), body)

    return spread(source)


def on_device(cupy: Any, source: str, expression: str) -> Any:
    """The kernel of that name expression, compiled for the current device: called with (grid, block, arguments)."""
    module = cupy.RawModule(code=text(source), options=("--std=c++17",), name_expressions=(expression,))
    return module.get_function(expression)


# ---- without a device

NEEDED = ("cuda.core", "cuda.bindings.nvrtc", "cuda.pathfinder")


def missing() -> str | None:
    """What the check lacks here: None, or why it cannot run."""
    try:
        for name in NEEDED:
            outside(name)
        include = _headers()
    except ImportError as error:
        return f"{error}; the extra tapegrad[cuda-check] installs it"
    return None if include else "no CUDA headers; the extra tapegrad[cuda-check] installs them"


def _headers() -> list[str]:
    find = outside("cuda.pathfinder").find_nvidia_header_directory
    return [str(found) for found in map(find, ("cudart", "cccl")) if found]


def for_architecture(source: str, expressions: list[str], arch: str) -> dict[str, tuple[int, int]]:
    """Compiles kernels to machine code for `arch` ("sm_90"), with no device and no driver.

    Returns each entry's (registers, bytes spilled). Raises the compiler's error, with its text, for a wrong source.
    ftz, as CuPy always sets it.
    """
    core, log = outside("cuda.core"), io.StringIO()
    options = core.ProgramOptions(
        std="c++17", arch=arch, ftz=True, include_path=_headers(), ptxas_options=["-v"]
    )
    program = core.Program(text(source), "c++", options)
    made = program.compile("cubin", name_expressions=tuple(expressions), logs=log)
    if made.code[:4] != b"\x7fELF":
        raise RuntimeError(f"{source}: the compiler gave no machine code for {arch}:\n{log.getvalue()}")
    return report(log.getvalue())


def report(log: str) -> dict[str, tuple[int, int]]:
    """Each entry's (registers, bytes spilled) from the assembler's log."""
    entries = re.findall(r"Compiling entry function '(\S+)'(.*?)(?=Compiling entry|\Z)", log, re.DOTALL)
    found = {}
    for entry, body in entries:
        registers = re.search(r"Used (\d+) registers", body)
        spilled = sum(map(int, re.findall(r"(\d+) bytes spill", body)))
        found[entry] = (int(registers[1]) if registers else 0, spilled)
    return found
