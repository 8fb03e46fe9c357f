"""Fused kernels of the NumPy backend, by op name. Raw arrays in, raw arrays out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

KERNELS: dict[str, Callable[..., Any]] = {}
