"""torch.utils.dlpack: the DLPack protocol by way of capsules."""

from __future__ import annotations

from typing import Any

from ..autograd import interchange
from ..autograd.tensor import Tensor


class _Holder:
    """Gives a bare capsule, which says nothing of its device, to those who ask by protocol: host memory."""

    def __init__(self, capsule: Any):
        self.capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor over the memory of an object with `__dlpack__`, or of a capsule (once), without a copy."""
    return interchange.from_dlpack(ext_tensor if hasattr(ext_tensor, "__dlpack__") else _Holder(ext_tensor))


def to_dlpack(tensor: Tensor) -> Any:
    """The tensor's memory as a DLPack capsule, to be consumed once."""
    return tensor.__dlpack__()
