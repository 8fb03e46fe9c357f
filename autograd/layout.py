"""torch.layout and torch.memory_format: constants that programs pass around."""

from __future__ import annotations


class _Constant:
    """A named constant, shown as PyTorch shows it."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return "torch." + self.name

    def __reduce__(self) -> tuple[object, ...]:
        return (_by_name, (self.name,))


class layout(_Constant):
    """How a tensor's elements are kept: `strided`, or `sparse_coo` (see tapegrad.sparse)."""

    __slots__ = ()


class memory_format(_Constant):
    """The order of a tensor's elements in memory."""

    __slots__ = ()


strided, sparse_coo = layout("strided"), layout("sparse_coo")
contiguous_format, preserve_format = memory_format("contiguous_format"), memory_format("preserve_format")
channels_last, channels_last_3d = memory_format("channels_last"), memory_format("channels_last_3d")


def _by_name(name: str) -> object:
    return globals()[name]
