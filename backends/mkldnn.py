"""torch.backends.mkldnn: whether oneDNN (the extra `fast`) serves convolutions; the settings choose nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from . import precision, set_inside
from .fast import has

enabled = False
deterministic = False
allow_tf32 = True
matmul, conv, rnn = (precision.Precision("mkldnn", op) for op in ("matmul", "conv", "rnn"))


class _Room(ModuleType):
    """This module: the attribute whose value is in precision.py. As in PyTorch, what is set holds for all devices."""

    fp32_precision = property(
        lambda room: precision.get("mkldnn", "all"), lambda room, word: precision.put("generic", "all", word)
    )


sys.modules[__name__].__class__ = _Room


def is_available() -> bool:
    """Whether oneDNN's library is installed, and not switched off by TAPEGRAD_FAST=0."""
    return has("onednn")


@contextmanager
def flags(
    enabled: bool = False, deterministic: bool = False, allow_tf32: bool = True, fp32_precision: str = "none"
) -> Iterator[None]:
    """Inside, the settings are those given; after it, what they were."""
    before = precision.kept()
    new = {"enabled": enabled, "deterministic": deterministic, "allow_tf32": allow_tf32}
    with set_inside(globals(), new):
        try:
            precision.put("mkldnn", "all", fp32_precision)
            yield
        finally:
            precision.restore(before)
