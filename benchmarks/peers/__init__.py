"""Idiomatic code for libraries that are not torch-like; each file has WORKLOADS: name -> setup(**sizes) -> step.

Which workloads a file serves is read from its text (the keys of WORKLOADS), since its library may live in another
environment's Python.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path


@functools.cache
def covers(peer: str) -> frozenset[str]:
    """The names of the workloads that the file has code for."""
    tree = ast.parse(Path(__file__).with_name(f"{peer}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "WORKLOADS":
            assert isinstance(node.value, ast.Dict)
            return frozenset(key.value for key in node.value.keys if isinstance(key, ast.Constant))
    raise ValueError(f"{peer}.py has no table WORKLOADS")
