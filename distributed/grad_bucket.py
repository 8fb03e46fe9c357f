"""GradBucket: the gradients that DistributedDataParallel gives a communication hook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd.tensor import Tensor


def views_of(buffer: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The parts of a flat buffer, one after another, of the shapes of some tensors."""
    views, at = [], 0
    for t in like:
        views.append(buffer[at : at + t.numel()].view(t.shape))
        at += t.numel()
    return views


class GradBucket:
    """What a communication hook is given: one bucket whose gradients are all there."""

    def __init__(self, index: int, bucket: Any, is_last: bool, buffer: Tensor | None = None):
        self._index, self._bucket, self._is_last = index, bucket, is_last
        self._buffer = bucket.buffer if buffer is None else buffer

    def index(self) -> int:
        """The bucket's number, in the order of reduction: 0 first."""
        return self._index

    def buffer(self) -> Tensor:
        """The gradients of this process one after another: 1-D."""
        return self._buffer

    def set_buffer(self, buffer: Tensor) -> None:
        """Puts another 1-D tensor in the buffer's place, for the hooks that follow."""
        self._buffer = buffer

    def gradients(self) -> list[Tensor]:
        """The gradients as views of the buffer, of the parameters' shapes."""
        return views_of(self._buffer, self._bucket.parameters)

    def parameters(self) -> list[Tensor]:
        """The parameters whose gradients these are."""
        return list(self._bucket.parameters)

    def is_last(self) -> bool:
        """Whether this bucket is the last to be reduced in this backward pass."""
        return self._is_last
