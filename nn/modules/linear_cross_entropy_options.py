"""How PyTorch is to work in chunks of the batch in linear_cross_entropy."""

from __future__ import annotations

from dataclasses import dataclass

from ...autograd.dtypes import dtype

__all__ = ["LinearCrossEntropyOptions"]


@dataclass(slots=True, frozen=True)
class LinearCrossEntropyOptions:
    """Options of the chunked form of `linear_cross_entropy`: checked as in PyTorch.

    They trade memory against time there and change no result; here they choose nothing, the loss is computed at once.

    Args:
        allow_retain_graph: whether a second backward is to be possible.
        batch_chunk_size: rows of a chunk, at least 1.
        chunking_method: "auto", "aspect_ratio", "aspect_ratio:N", or None for batch_chunk_size.
        acc_policy: "auto", "accurate", "balanced" or "compact".
        acc_dtype: a floating dtype to accumulate in.
    """

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: dtype | None = None

    def __post_init__(self) -> None:
        if self.acc_policy not in ("auto", "accurate", "balanced", "compact"):
            raise ValueError(f"invalid acc_policy: {self.acc_policy!r}")
        if self.chunking_method not in (None, "auto"):
            name, colon, factor = self.chunking_method.partition(":")
            if name != "aspect_ratio" or (colon and not (factor.isdigit() and int(factor))):
                raise ValueError(f"invalid chunking_method: {self.chunking_method!r}")
        rows = self.batch_chunk_size
        if rows is not None and not (isinstance(rows, int) and rows > 0):
            raise ValueError(f"batch_chunk_size must be positive int or None, got {rows!r}")
        if self.acc_dtype is not None and not self.acc_dtype.is_floating_point:
            raise ValueError(
                "acc_dtype must be one of {None, torch.float16, torch.bfloat16, torch.float32, torch.float64}, got "
                f"{self.acc_dtype!r}. Pass acc_dtype=None to let the op pick automatically."
            )
