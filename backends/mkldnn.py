"""torch.backends.mkldnn: whether oneDNN (the extra `fast`) serves convolutions; the settings choose nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager

from . import set_inside
from .fast import has

enabled = False
deterministic = False
allow_tf32 = True
fp32_precision = "none"


def is_available() -> bool:
    """Whether oneDNN's library is installed, and not switched off by TAPEGRAD_FAST=0."""
    return has("onednn")


def flags(
    enabled: bool = False, deterministic: bool = False, allow_tf32: bool = True, fp32_precision: str = "none"
) -> AbstractContextManager[None]:
    """Inside, the settings are those given; after it, what they were."""
    return set_inside(globals(), locals())
