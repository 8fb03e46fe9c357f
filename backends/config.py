"""What serves the CPU here: versions, threads, the BLAS, and which kernel each op has. `tapegrad.show_config()`."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

import numpy as np

from . import fast, registry, threads

_ROOT = __name__.partition(".")[0]
_SHOWN = {"numba": "Numba", "onednn": "oneDNN"}
_WITH = {"numba": ("numba", "llvmlite"), "onednn": ("onednn-cpu-gomp",)}  # packages whose versions are shown


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _blas() -> dict[str, Any]:
    """Name and version of the BLAS that NumPy was built with, and whether its threads follow set_num_threads."""
    from .numpy import blas

    try:
        built: Any = np.show_config(mode="dicts")
        found = built["Build Dependencies"]["blas"]
    except (KeyError, TypeError):
        found = {}
    return {
        "name": found.get("name", "unknown"), "version": found.get("version", ""), "threads set": blas.controlled()
    }  # fmt: skip


def _serving() -> dict[str, list[str]]:
    """Op name -> what is asked first, second, ...; ops that are not named have their generic form alone."""
    if os.environ.get("TAPEGRAD_GENERIC") == "1":
        return {}
    from .numpy.kernels import KERNELS

    served: dict[str, list[str]] = {}
    layers = [("NumPy kernel", KERNELS), *[(_SHOWN[needs], table) for _, needs, table in fast.tables()]]
    for label, table in layers:
        for name, kernel in table.items():
            below = served.get(name, ["generic"]) if getattr(kernel, "may_decline", False) else []
            served[name] = [label, *below]
    return served


def _extra() -> dict[str, Any]:
    """Package of the extra -> its versions; "not installed" or "off" where it does not serve."""
    found: dict[str, Any] = {}
    for package, names in _WITH.items():
        versions = {name: _version(name) for name in names}
        if os.environ.get("TAPEGRAD_FAST", "1") == "0":
            found[_SHOWN[package]] = "off (TAPEGRAD_FAST=0)"
        elif not fast.has(package):
            found[_SHOWN[package]] = "not installed"
        else:
            found[_SHOWN[package]] = " ".join(f"{name} {version}" for name, version in versions.items() if version)
    return found


def _machine_code() -> dict[str, Any]:
    if not fast.has("numba"):
        return {}
    from .fast import cache

    folder = cache.cache_folder()
    return {"folder": str(folder), "groups": {group: cache.there(folder, group) for group in cache.groups()}}


def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Prints what serves the CPU: versions, threads, BLAS, the extra `fast`, and the kernels of each op.

    mode: "stdout" to print, "dicts" to return the same as a dictionary: under "kernels" each op's list of what is asked
    in turn ("Numba", "oneDNN", "NumPy kernel", "generic"); ops that are not in it have their generic form in NumPy.
    ValueError for another mode.
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"show_config: mode must be 'stdout' or 'dicts', not {mode!r}")
    own = sys.modules[_ROOT].__version__
    found: dict[str, Any] = {
        "versions": {"tapegrad": own, "python": platform.python_version(), "numpy": np.__version__},
        "processor": platform.processor() or platform.machine(),
        "threads": threads.count(),
        "BLAS": _blas(),
        "fast": _extra(),
        "machine code": _machine_code(),
        "backends": list(registry.KNOWN),
        "kernels": _serving(),
    }
    if mode == "dicts":
        return found
    print(_text(found))
    return None


def _text(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    blas = found["BLAS"]
    lines = [
        f"versions:  {versions}; {found['processor']}",
        f"threads:   {found['threads']}",
        f"BLAS:      {blas['name']} {blas['version']}" + ("" if blas["threads set"] else " (its threads are its own)"),
        *[f"{name + ':':10} {what}" for name, what in found["fast"].items()],
    ]
    if found["machine code"]:
        missing = [group for group, there in found["machine code"]["groups"].items() if not there]
        state = f"not compiled yet: {', '.join(missing)}" if missing else "compiled"
        lines.append(f"kernels:   {found['machine code']['folder']} ({state})")
    groups: dict[str, list[str]] = {}
    for name, chain in sorted(found["kernels"].items()):
        groups.setdefault(", else ".join(chain), []).append(name)
    for chain_text, names in sorted(groups.items()):
        lines += [f"{chain_text}:", *_wrapped(names)]
    lines.append("all other ops: generic (the op's own forward, in NumPy)")
    return "\n".join(lines)


def _wrapped(names: list[str], width: int = 100) -> list[str]:
    lines, line = [], "   "
    for name in names:
        if len(line) + len(name) > width:
            lines.append(line)
            line = "   "
        line += " " + name
    return [*lines, line]
