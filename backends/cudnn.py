"""torch.backends.cudnn: settings that programs read and write. They are kept and choose nothing: no cuDNN is used."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from . import set_inside

enabled = True
benchmark = False
deterministic = False
allow_tf32 = True
benchmark_limit: int | None = None
fp32_precision = "none"


def is_available() -> bool:
    """Whether cuDNN is used: no."""
    return False


def version() -> int | None:
    """cuDNN's version: None, since there is none."""
    return None


def is_acceptable(tensor: Any) -> bool:
    """Whether cuDNN would serve this tensor: no."""
    return False


def flags(
    enabled: bool = False,
    benchmark: bool = False,
    benchmark_limit: int | None = 10,
    deterministic: bool = False,
    allow_tf32: bool = True,
    fp32_precision: str = "none",
) -> AbstractContextManager[None]:
    """Inside, the settings are those given; after it, what they were."""
    return set_inside(globals(), locals())
