"""`tapegrad.return_types`: the classes of named results, such as the pair that `max(dim)` gives."""

from __future__ import annotations

from typing import Any

from .autograd.api import return_types as _types


def __getattr__(name: str) -> Any:
    return getattr(_types, name)


def __dir__() -> list[str]:
    return dir(_types)
