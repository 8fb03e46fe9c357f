"""Reading the sizes that convolution and pooling take: a number, or one per spatial dimension."""

from __future__ import annotations

from operator import index
from typing import Any

from ...autograd.tensor import Tensor

NUMBERS = {1: "one int", 2: "two ints", 3: "three ints"}


def ints(value: Any, name: str, argument: str, position: int = 2) -> tuple[int, ...]:
    """`value`, an int or a sequence of ints, as a tuple. TypeError for anything else."""
    try:
        return (index(value),) if hasattr(value, "__index__") else tuple([index(v) for v in value])
    except TypeError:
        raise TypeError(
            f"{name}(): argument '{argument}' (position {position}) must be tuple of ints, not {type(value).__name__}"
        ) from None


def spatial(value: Any, rank: int, name: str, argument: str, position: int = 2) -> tuple[int, ...] | None:
    """`value` as a tuple with one int per spatial dimension; None where it has another length."""
    if value.__class__ is int:
        return (value,) * rank
    if value.__class__ is tuple and len(value) == rank and value[0].__class__ is int:
        return value
    found = ints(value, name, argument, position)
    if len(found) == 1:
        return found * rank
    return found if len(found) == rank else None


def check_tensor(value: Any, name: str, argument: str = "input", position: int = 1) -> None:
    """TypeError where `value` is no Tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name}(): argument '{argument}' (position {position}) must be Tensor, not {type(value).__name__}"
        )


def repeated(value: Any, count: int) -> tuple[Any, ...]:
    """A sequence as a tuple, as it is; anything else `count` times."""
    return tuple(value) if hasattr(value, "__iter__") else (value,) * count
