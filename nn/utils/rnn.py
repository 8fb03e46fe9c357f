"""Sequences of different lengths in one batch: padded to one length, or packed without padding.

padded   (T, B, *), or (B, T, *) with batch_first: behind its end a sequence has a padding value
packed   (sum of the lengths, *): all sequences' elements of step 0, then those of step 1, ...; the sequences in
         order of falling length, so that step t has its first batch_sizes[t]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self

from ...autograd.api.creation import arange, as_tensor, empty_like, full
from ...autograd.api.join import cat
from ...autograd.dtypes import float16, float32, float64, int8, int16, int32, int64, uint8
from ...autograd.tensor import Tensor

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Fields):
    """The data and batch sizes of a packed batch; made by `pack_sequence` and `pack_padded_sequence`.

    Attributes:
        data: the elements, (sum of the lengths, *).
        batch_sizes: how many sequences each step has, (longest length,) int64, on the CPU.
        sorted_indices: the sequences in their packed order, (B,) int64; None where they came in that order.
        unsorted_indices: the inverse permutation of `sorted_indices`.
    """

    def __new__(
        cls,
        data: Any,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> Self:
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        if batch_sizes is None:
            if not (isinstance(data, (list, tuple)) and len(data) == 2):
                raise AssertionError("Expected data to be a list or tuple of length 2")
            data, batch_sizes = data
        elif batch_sizes.device.type != "cpu":
            raise ValueError(
                "batch_sizes should always be on CPU. Instances of PackedSequence should never be created manually. "
                "They should be instantiated by functions like pack_sequence and pack_padded_sequences in "
                "nn.utils.rnn. https://pytorch.org/docs/stable/nn.html#torch.nn.utils.rnn.pack_sequence"
            )
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def _with(self, data: Tensor, move: Callable[[Tensor], Tensor]) -> Self:
        permutations = [None if p is None else move(p) for p in (self.sorted_indices, self.unsorted_indices)]
        return type(self)(data, self.batch_sizes, *permutations)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """The packed sequence with its data cast or moved, as `Tensor.to` does; itself where nothing changes."""
        data = self.data.to(*args, **kwargs)
        return self if data is self.data else self._with(data, lambda p: p.to(data.device))

    def cpu(self) -> Self:
        """The packed sequence on the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """The packed sequence on an NVIDIA GPU."""
        return self.to("cuda" if device is None else device)

    def pin_memory(self) -> Self:
        """The packed sequence in pinned memory."""
        return self._with(self.data.pin_memory(), lambda p: p.pin_memory())

    def is_pinned(self) -> bool:
        """Whether the data is in pinned memory."""
        return self.data.is_pinned()

    @property
    def is_cuda(self) -> bool:
        """Whether the data is on a GPU."""
        return self.data.is_cuda

    def double(self) -> Self:
        """The data as float64."""
        return self.to(dtype=float64)

    def float(self) -> Self:
        """The data as float32."""
        return self.to(dtype=float32)

    def half(self) -> Self:
        """The data as float16."""
        return self.to(dtype=float16)

    def long(self) -> Self:
        """The data as int64."""
        return self.to(dtype=int64)

    def int(self) -> Self:
        """The data as int32."""
        return self.to(dtype=int32)

    def short(self) -> Self:
        """The data as int16."""
        return self.to(dtype=int16)

    def char(self) -> Self:
        """The data as int8."""
        return self.to(dtype=int8)

    def byte(self) -> Self:
        """The data as uint8."""
        return self.to(dtype=uint8)


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The inverse of a permutation of 0 ... N - 1, (N,) int64; None of None."""
    if permutation is None:
        return None
    inverse = empty_like(permutation)
    inverse[permutation] = arange(permutation.numel(), device=permutation.device)
    return inverse


def _present(lengths: Tensor, steps: int) -> Tensor:
    """Whether sequence b has a step t: lengths: (B,) -> (steps, B) bool."""
    return arange(steps, device=lengths.device).unsqueeze(1) < lengths


def pack_padded_sequence(
    input: Tensor, lengths: Tensor | list[int], batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Packs a padded batch.

    Args:
        input: (T, B, *), or (B, T, *) with `batch_first`.
        lengths: of each sequence, (B,), between 1 and T.
        enforce_sorted: the lengths must fall from sequence to sequence; with False any order is taken, and restored
            by `pad_packed_sequence`.

    >>> import tapegrad as torch
    >>> packed = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor([[1, 2], [3, 0]]), [2, 1])
    >>> packed.data, packed.batch_sizes
    (tensor([1, 2, 3]), tensor([2, 1]))
    """
    counts = as_tensor(lengths, device="cpu").to(dtype=int64)
    if counts.ndim != 1:
        raise RuntimeError(
            f"'lengths' argument should be a 1D CPU int64 tensor, but got {counts.ndim}D "
            f"{counts.device.type} Long tensor"
        )
    padded = input.transpose(0, 1) if batch_first else input
    sorted_indices = None
    if not enforce_sorted:
        counts, sorted_indices = counts.sort(descending=True)
        sorted_indices = sorted_indices.to(input.device)
    _check_lengths(counts.tolist(), padded.size(0), padded.size(1))
    if sorted_indices is not None:
        padded = padded.index_select(1, sorted_indices)
    longest = int(counts[0])
    present = _present(counts, longest)
    return PackedSequence(padded[:longest][present.to(input.device)], present.sum(1), sorted_indices, None)


def _check_lengths(lengths: list[int], steps: int, batch: int) -> None:
    """Raises RuntimeError unless there are `batch` falling lengths between 1 and `steps`."""
    if steps == 0 or batch == 0:
        raise RuntimeError("Cannot pack empty tensors.")
    if len(lengths) != batch:
        raise RuntimeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(lengths)} (batch_size={batch})"
        )
    if min(lengths) <= 0:
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0"
        )
    if any(after > before for before, after in zip(lengths, lengths[1:], strict=False)):
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
            "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement if you "
            "do not need ONNX exportability."
        )
    if lengths[0] > steps:
        raise RuntimeError(f"Expected all lengths to be at most the padded length {steps}, but got {lengths[0]}")


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Undoes `pack_padded_sequence`: a pair of the padded batch, (T, B, *), and the lengths, (B,) int64.

    Args:
        sequence: the packed batch.
        batch_first: return (B, T, *).
        padding_value: what stands behind the end of a sequence.
        total_length: T; default the longest length. ValueError where it is shorter.
    """
    data, batch_sizes, _, unsorted_indices = sequence
    longest = batch_sizes.size(0)
    steps = longest if total_length is None else total_length
    if steps < longest:
        raise ValueError(
            "Expected total_length to be at least the length of the longest sequence in input, but got "
            f"total_length={total_length} and max sequence length being {longest}"
        )
    batch = int(batch_sizes[0])
    present = arange(batch, device=batch_sizes.device) < batch_sizes.unsqueeze(1)  # (longest, batch)
    lengths = present.sum(0)
    padded = full((steps, batch, *data.shape[1:]), padding_value, dtype=data.dtype, device=data.device)
    padded[:longest][present.to(data.device)] = data
    if unsorted_indices is not None:
        padded = padded.index_select(1, unsorted_indices)
        lengths = lengths[unsorted_indices.cpu()]
    return (padded.transpose(0, 1) if batch_first else padded), lengths


def pad_sequence(
    sequences: Tensor | list[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """One padded batch, (T, B, *) or with `batch_first` (B, T, *), of sequences (L, *) of any lengths L <= T.

    >>> import tapegrad as torch
    >>> torch.nn.utils.rnn.pad_sequence([torch.tensor([1, 2, 3]), torch.tensor([4])], batch_first=True)
    tensor([[1, 2, 3],
            [4, 0, 0]])
    """
    if not isinstance(sequences, Iterable):
        raise RuntimeError(
            f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}"
        )
    listed = tuple(sequences)
    if not listed:
        raise RuntimeError("received an empty list of sequences")
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"Expected padding_side to be one of left or right, but got {padding_side}.")
    first = listed[0]
    lengths = as_tensor([len(sequence) for sequence in listed])
    batch, steps = len(listed), int(lengths.max())
    shape = (batch, steps) if batch_first else (steps, batch)
    padded = full((*shape, *first.shape[1:]), padding_value, dtype=first.dtype, device=first.device)
    present = _present(lengths, steps).transpose(0, 1)  # (batch, steps): in the order of the elements of `listed`
    if padding_side == "left":
        present = present.flip(1)
    rows = cat([sequence.to(first.dtype) for sequence in listed])
    (padded if batch_first else padded.transpose(0, 1))[present.to(first.device)] = rows
    return padded


def unpad_sequence(padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False) -> list[Tensor]:
    """The sequences of a padded batch, (T, B, *) or (B, T, *), each without its padding; lengths: (B,)."""
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[: int(length)] for row, length in zip(rows, lengths, strict=True)]


def pack_sequence(sequences: list[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Packs sequences (L, *) of any lengths; these must fall unless `enforce_sorted=False`."""
    lengths = as_tensor([sequence.size(0) for sequence in sequences])
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """Undoes `pack_sequence`."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
