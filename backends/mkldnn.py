"""torch.backends.mkldnn: settings of oneDNN, which is not used here. They are kept and choose nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager

from . import set_inside

enabled = False
deterministic = False
allow_tf32 = True
fp32_precision = "none"


def is_available() -> bool:
    """Whether oneDNN is used: no."""
    return False


def flags(
    enabled: bool = False, deterministic: bool = False, allow_tf32: bool = True, fp32_precision: str = "none"
) -> AbstractContextManager[None]:
    """Inside, the settings are those given; after it, what they were."""
    return set_inside(globals(), locals())
