"""The table: op name -> the function that emits ONNX nodes for it. Each family of ops has a module of its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from .graph import Graph, Step

Emit = Callable[[Graph, Step], Any]

TABLE: dict[str, Emit] = {}

FAMILIES = (
    "elementwise", "activations", "shapes", "indexing", "reductions", "layers", "spatial", "recurrent", "losses",
)  # fmt: skip


def emits(*names: str) -> Callable[[Emit], Emit]:
    """Puts a function into the table under the names of ops.

    function(g, step) gives the name of the output, or a tuple of names (None where nobody needs one).
    """

    def put(function: Emit) -> Emit:
        for name in names:
            if name in TABLE:
                raise ValueError(f"two functions for op {name}")
            TABLE[name] = function
        return function

    return put


def load() -> dict[str, Emit]:
    """The whole table."""
    for family in FAMILIES:
        importlib.import_module(f".{family}", __package__)
    return TABLE
