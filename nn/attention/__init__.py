"""Which implementation of scaled_dot_product_attention is to be used, and masks for it (`bias`).

On CUDA devices there are two: cuDNN's (CUDNN_ATTENTION), and one of matrix products, which serves whatever else is
named and what cuDNN refuses. On the CPU there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from ...backends import cuda

__all__ = ["WARN_FOR_UNFUSED_KERNELS", "SDPBackend", "sdpa_kernel"]

WARN_FOR_UNFUSED_KERNELS = False  # kept for programs that set it


class SDPBackend(Enum):
    """PyTorch's implementations of scaled_dot_product_attention."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4

    def __int__(self) -> int:
        return self.value


_SWITCHES = {"cudnn": 3, "flash": 1, "mem_efficient": 2, "math": 0}  # name in backends.cuda -> SDPBackend


@contextmanager
def sdpa_kernel(
    backends: list[SDPBackend] | SDPBackend, set_priority: bool = False
) -> Iterator[dict[str, object]]:
    """Inside, the switches `backends.cuda.*_sdp_enabled` are on for `backends` and off for the others.

    backends: an SDPBackend or a list of them; AssertionError for anything else. set_priority: whether one of them is
    preferred to those behind it; without, the order stays.
    """
    if not isinstance(backends, (list, SDPBackend)):
        raise AssertionError(
            "Backend must be an instance of SDPBackend or a list of SDPBackend instances, got "
            f"{type(backends).__name__}"
        )
    named = list(dict.fromkeys([backends] if isinstance(backends, SDPBackend) else backends))
    new: dict[str, object] = {name: SDPBackend(number) in named for name, number in _SWITCHES.items()}
    if set_priority:
        first = [int(backend) for backend in named]
        new["order"] = (*first, *[number for number in cuda.sdp_order() if number not in first])
    with cuda.set_inside(cuda._sdp, new):
        yield {}
