"""docs/parity.md from the table."""

from __future__ import annotations

from typing import Any


def write(score: dict[str, Any]) -> None:
    """Writes docs/parity.md."""
