"""Softmax over many classes in clusters of falling frequency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...autograd.tensor import Tensor
from .. import functional as F
from .container import ModuleList, Sequential
from .linear import Linear
from .module import Module

__all__ = ["AdaptiveLogSoftmaxWithLoss"]


class _ASMoutput(NamedTuple):
    output: Tensor
    loss: Tensor


_ASMoutput.__name__ = _ASMoutput.__qualname__ = "ASMoutput"


class AdaptiveLogSoftmaxWithLoss(Module):
    """The log-probability of each target, and its negative mean. input: (N, in_features), target: (N,) -> ((N,), ()).

    The head scores the most frequent classes and one entry per cluster; each cluster's tail works at a width smaller
    by div_value. Classes are numbered by falling frequency. Grave et al.,
    Efficient softmax approximation for GPUs, 2017.
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        cuts = list(cutoffs)
        if not cuts:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        rising = all(a < b for a, b in zip(cuts, cuts[1:], strict=False))
        if not rising or cuts[0] <= 0 or cuts[-1] > n_classes - 1 or any(int(c) != c for c in cuts):
            raise ValueError(
                "cutoffs should be a sequence of unique, positive integers sorted in an increasing order, where each "
                "value is between 1 and n_classes-1"
            )
        self.in_features, self.n_classes = in_features, n_classes
        self.cutoffs = [*cuts, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size = cuts[0]
        self.n_clusters = len(cuts)
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, bias=head_bias, device=device, dtype=dtype)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            width = int(in_features // div_value ** (i + 1))
            size = self.cutoffs[i + 1] - self.cutoffs[i]
            down = Linear(in_features, width, bias=False, device=device, dtype=dtype)
            self.tail.append(Sequential(down, Linear(width, size, bias=False, device=device, dtype=dtype)))

    def reset_parameters(self) -> None:
        """Draws the head, then each cluster."""
        self.head.reset_parameters()
        for layer in (layer for cluster in self.tail for layer in cluster.children()):
            layer.reset_parameters()

    def forward(self, input_: Tensor, target_: Tensor) -> _ASMoutput:
        self._check(input_, target_)
        batched = target_.dim() > 0
        x, target = (input_, target_) if batched else (input_.unsqueeze(0), target_.unsqueeze(0))
        bad = (target < 0) | (target >= self.n_classes)
        if bool(bad.any()):
            raise RuntimeError(
                f"Target values should be in [0, {self.n_classes - 1}], but values in range "
                f"[{target.min().item()}, {target.max().item()}] were found. "
            )
        output, entry = x.new_zeros(target.shape[0]), target.clone()
        for i, tail in enumerate(self.tail):
            low, high = self.cutoffs[i], self.cutoffs[i + 1]
            rows = ((target >= low) & (target < high)).nonzero().squeeze(1)
            if not rows.numel():
                continue
            entry[rows] = self.shortlist_size + i
            logs = F.log_softmax(tail(x[rows]), dim=1)
            output = output.index_add(0, rows, logs.gather(1, (target[rows] - low).unsqueeze(1)).squeeze(1))
        output = output + F.log_softmax(self.head(x), dim=1).gather(1, entry.unsqueeze(1)).squeeze(1)
        loss = (-output).mean()
        return _ASMoutput(output if batched else output.squeeze(0), loss)

    def _check(self, input_: Tensor, target_: Tensor) -> None:
        dims = target_.dim()
        if dims > 1:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if dims == 1 and input_.size(0) != target_.size(0):
            raise RuntimeError("Input and target should have the same size in the batch dimension.")
        if input_.dim() != dims + 1:
            raise RuntimeError(
                f"{dims}D target tensor expects {dims + 1}D input tensors, but found inputs with size {input_.size()}"
            )

    def log_prob(self, input: Tensor) -> Tensor:
        """The log-probabilities of all classes. input: (N, in_features) -> (N, n_classes)."""
        head = F.log_softmax(self.head(input), dim=1)
        parts = [head[:, : self.shortlist_size]]
        for i, tail in enumerate(self.tail):
            cluster = head[:, self.shortlist_size + i].unsqueeze(1)
            parts.append(F.log_softmax(tail(input), dim=1) + cluster)
        from ...autograd.api.join import cat

        return cat(parts, 1)

    def predict(self, input: Tensor) -> Tensor:
        """The most probable class of each row. Tails run only for rows whose head prefers one. (N, in) -> (N,)."""
        best = self.head(input).argmax(1)
        rare = (best >= self.shortlist_size).nonzero().squeeze(1)
        if rare.numel():
            best[rare] = self.log_prob(input[rare]).argmax(1)
        return best
