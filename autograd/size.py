"""Size: the shape of a tensor, a tuple of ints with PyTorch's name and `numel`."""

from __future__ import annotations

import math
from operator import index
from typing import Any


class Size(tuple[int, ...]):
    """A tensor's shape.

    >>> import tapegrad as torch
    >>> torch.zeros(2, 3).shape
    torch.Size([2, 3])
    """

    __slots__ = ()

    def __new__(cls, iterable: Any = ()) -> Size:
        sizes = []
        for i, n in enumerate(iterable):
            if isinstance(n, float) or not hasattr(n, "__index__"):
                raise TypeError(f"torch.Size() takes an iterable of 'int' (item {i} is '{type(n).__name__}')")
            sizes.append(index(n))
        return tuple.__new__(cls, sizes)

    def numel(self) -> int:
        """The number of elements of a tensor of this shape."""
        return math.prod(self)

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(repr, self))}])"

    def __getitem__(self, place: Any) -> Any:
        found = tuple.__getitem__(self, place)
        return shape_of(found) if isinstance(place, slice) else found

    def __add__(self, other: Any) -> Any:
        return Size(tuple.__add__(self, tuple(other)))

    def __radd__(self, other: Any) -> Any:
        return Size((*other, *self)) if isinstance(other, tuple) else NotImplemented

    def __mul__(self, times: Any) -> Any:
        return Size(tuple.__mul__(self, times))

    __rmul__ = __mul__

    def __reduce__(self) -> tuple[Any, ...]:
        return (Size, (tuple(self),))


def shape_of(sizes: tuple[int, ...]) -> Size:
    """The Size of an array's shape, unchecked."""
    return tuple.__new__(Size, sizes)
