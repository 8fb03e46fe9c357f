"""Callbacks of `Trainer.fit`: what happens beside the training."""

from __future__ import annotations

from .base import Callback as Callback
