"""Writes cupy_names.json: the functions of CuPy with their keywords, and the methods of its arrays with theirs.

    python tests/make_cupy_names.py
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

UFUNC = ["casting", "dtype", "out"]
METHODS = (
    "all any argmax argmin argpartition argsort astype choose clip compress conj conjugate copy cumprod cumsum "
    "diagonal dot fill flatten item max mean min nonzero partition prod ptp put ravel repeat reshape round "
    "searchsorted sort squeeze std sum swapaxes take tobytes tolist trace transpose var view"
).split()


def keywords(function: Any) -> list[str] | None:
    """The parameters' names; None where any are taken or nobody tells."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None
    if any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters.values()):
        return None
    return sorted(parameters)


def functions(cupy: Any) -> dict[str, list[str] | None]:
    """name -> its keywords. Functions and constants of cupy, cupy.linalg and cupy.fft."""
    found: dict[str, list[str] | None] = {}
    for prefix, module in (("", cupy), ("linalg.", cupy.linalg), ("fft.", cupy.fft)):
        for name in dir(module):
            if name[0] != "_" and re.fullmatch(r"\w+", name):
                value = getattr(module, name)
                if inspect.ismodule(value) and name not in ("linalg", "fft"):
                    continue
                found[prefix + name] = UFUNC if isinstance(value, cupy.ufunc) else keywords(value)
    return found


def methods(cupy: Any) -> dict[str, list[str]]:
    """method of arrays -> its parameters, by its signature or its documentation's first line."""
    found = {}
    for name in METHODS:
        method = getattr(cupy.ndarray, name, None)
        line = (getattr(method, "__doc__", None) or "").splitlines()
        inside = re.search(r"\((.*?)\)(?: ->|$)", line[0]) if line else None
        words = [w.partition("=")[0].strip(" *").split() for w in inside[1].split(",")] if inside else []
        known = keywords(method) or [w[-1] for w in words if w]
        if method is not None:
            found[name] = sorted({w for w in known if w != "self"})
    return found


if __name__ == "__main__":
    import cupy

    lists = {"version": cupy.__version__, "functions": functions(cupy), "methods": methods(cupy)}
    text = json.dumps(lists, sort_keys=True)
    path = Path(__file__).with_name("cupy_names.json")
    path.write_text(re.sub(r'(\], |null, |\}, )(?=")', lambda m: m[1].rstrip() + "\n", text) + "\n", "utf-8")
