"""The losses that models compute when they are given labels."""

from __future__ import annotations

from typing import Any

from ..autograd.tensor import Tensor
from ..nn import functional as F

__all__ = ["classification_loss", "token_loss"]


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over tokens; those labelled -100 do not count. logits: (N, L, V), labels: (N, L) int -> ()."""
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=-100)


def classification_loss(config: Any, logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of `config.problem_type`, or, where it is None, of the kind that labels look like. -> ().

    regression (one label): mean squared error; single_label_classification (integers): cross-entropy;
    multi_label_classification (floating, as many as classes): binary cross-entropy.
    logits: (N, C), labels: (N,) or (N, C).
    """
    kind = getattr(config, "problem_type", None)
    if kind is None:
        single = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
        kind = "regression" if config.num_labels == 1 else single
    if kind == "regression":
        return F.mse_loss(logits.squeeze(), labels.squeeze()) if config.num_labels == 1 else F.mse_loss(logits, labels)
    if kind == "single_label_classification":
        return F.cross_entropy(logits.reshape(-1, config.num_labels), labels.reshape(-1))
    if kind == "multi_label_classification":
        return F.binary_cross_entropy_with_logits(logits, labels)
    raise ValueError(f"problem_type={kind!r} is unknown")
