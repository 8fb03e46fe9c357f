"""Which gradients travel together: parameters in buckets of a flat buffer each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...autograd.api.creation import zeros
from ...autograd.tensor import Tensor
from ...distributed.grad_bucket import views_of

FIRST_BUCKET_BYTES = 1024 * 1024  # small, so that the first reduction begins early
DEFAULT_BUCKET_MB = 25.0


def nbytes(t: Tensor) -> int:
    """The size of a tensor's elements in bytes."""
    return t.numel() * t.element_size()


def assign(parameters: Sequence[Tensor], order: Sequence[int], limits: Sequence[int | None]) -> list[list[int]]:
    """Places of parameters, in `order`, cut into buckets of one dtype and device each.

    limits: the sizes in bytes at which the first, second, ... bucket of a kind is full, the last for all that follow;
    None has no end. A bucket is closed by the parameter that fills it, so one larger than the limit has its own.
    Gives the buckets in the order in which they are closed, the unfilled ones last, as they began.
    """
    open_: dict[Any, list[int]] = {}
    filled: dict[Any, int] = {}
    closed: list[list[int]] = []
    count: dict[Any, int] = {}
    for place in order:
        p = parameters[place]
        kind = (p.dtype, p.device)
        open_.setdefault(kind, []).append(place)
        filled[kind] = filled.get(kind, 0) + nbytes(p)
        limit = limits[min(count.get(kind, 0), len(limits) - 1)]
        if limit is not None and filled[kind] >= limit:
            closed.append(open_.pop(kind))
            filled[kind] = 0
            count[kind] = count.get(kind, 0) + 1
    return closed + list(open_.values())


class Bucket:
    """A flat buffer for the gradients of some parameters, and what is under way for it.

    places: the parameters' places in the model; views: the part of each in `buffer`, of its shape; pending: how many
    gradients are to come; future: the reduction under way.
    """

    def __init__(self, parameters: Sequence[Tensor], places: list[int]):
        self.places = places
        self.parameters = [parameters[i] for i in places]
        first = self.parameters[0]
        self.buffer = zeros(sum(p.numel() for p in self.parameters), dtype=first.dtype, device=first.device)
        self.views: list[Tensor] = views_of(self.buffer, self.parameters)
        self.pending = len(places)
        self.future: Any = None
        self.began = 0.0
