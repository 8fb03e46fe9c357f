"""Functions that PyTorch has in torch.* too, there with other arguments than in torch.nn.functional.

reduction is a number: 0 none (what torch does by default), 1 mean, 2 sum. A name with a trailing `_` writes its result
into the input.
"""

from __future__ import annotations

from typing import Any

from ...autograd.inplace import assign, check_writable
from ...autograd.tensor import Tensor
from . import activation, conv, loss, margin_loss, normalization, pooling, sparse, vision
from .dropout import _alpha_dropout, _dropout
from .recurrent import *  # noqa: F403

_WORDS = ("none", "mean", "sum")


def _word(reduction: int) -> str:
    if reduction not in (0, 1, 2):
        raise ValueError(f"{reduction} is not a valid value for reduction: 0 (none), 1 (mean) or 2 (sum)")
    return _WORDS[reduction]


# ---- losses


def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Tensor | None = None, pos_weight: Tensor | None = None, reduction: int = 0
) -> Tensor:
    """nn.functional.binary_cross_entropy_with_logits. input, target: (*S) -> (*S) or ()."""
    how = _word(reduction)
    return loss.binary_cross_entropy_with_logits(input, target, weight, reduction=how, pos_weight=pos_weight)


def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = 0
) -> Tensor:
    """nn.functional.cosine_embedding_loss. (N, D), (N, D), (N,) -> (N,) or (); or (D,) and ()."""
    return margin_loss.cosine_embedding_loss(input1, input2, target, margin, reduction=_word(reduction))


def ctc_loss(
    log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0, reduction: int = 0,
    zero_infinity: bool = False,
) -> Tensor:  # fmt: skip
    """nn.functional.ctc_loss. log_probs: (T, N, C), targets: (N, S) or (sum of the lengths,) -> (N,) or ()."""
    how = _word(reduction)
    return loss.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, how, zero_infinity)


def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, reduction: int = 0) -> Tensor:
    """nn.functional.hinge_embedding_loss. (*S), (*S) -> (*S) or ()."""
    return margin_loss.hinge_embedding_loss(input, target, margin, reduction=_word(reduction))


def kl_div(input: Tensor, target: Tensor, reduction: int = 0, *, log_target: bool = False) -> Tensor:
    """nn.functional.kl_div. (*S), (*S) -> (*S) or ()."""
    pointwise = loss.kl_div(input, target, reduction="none", log_target=log_target)
    return loss.reduced(pointwise, _word(reduction))


def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = 0
) -> Tensor:
    """nn.functional.margin_ranking_loss. (*S) each -> (*S) or ()."""
    return margin_loss.margin_ranking_loss(input1, input2, target, margin, reduction=_word(reduction))


def poisson_nll_loss(
    input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: int
) -> Tensor:
    """nn.functional.poisson_nll_loss. (*S), (*S) -> (*S) or ()."""
    return loss.poisson_nll_loss(input, target, log_input, full, eps=eps, reduction=_word(reduction))


def triplet_margin_loss(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2, eps: float = 1e-6,
    swap: bool = False, reduction: int = 0,
) -> Tensor:  # fmt: skip
    """nn.functional.triplet_margin_loss. (N, D) each -> (N,) or ()."""
    how = _word(reduction)
    return margin_loss.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, reduction=how)


# ---- dropout


def _checked(p: float) -> float:
    if not 0.0 <= p <= 1.0:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {p:g}")
    return p


def _channels(input: Tensor, train: bool) -> tuple[int, ...]:
    """The shape of a mask of whole channels."""
    if train and input.array.ndim < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    return (*input.array.shape[:2], *(1,) * (input.array.ndim - 2))


def dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """Each element zeroed with probability p, the others scaled by 1 / (1 - p). (*S) -> (*S)."""
    return _dropout(input, _checked(p), train, False, None)


def alpha_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """Dropout which keeps mean 0 and variance 1 after selu. (*S) -> (*S)."""
    return _alpha_dropout(input, _checked(p), train, False, None)


def feature_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """Whole channels zeroed with probability p. input: (N, C, *) -> same."""
    return _dropout(input, _checked(p), train, False, _channels(input, train))


def feature_alpha_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """alpha_dropout of whole channels. input: (N, C, *) -> same."""
    return _alpha_dropout(input, _checked(p), train, False, _channels(input, train))


def _written(name: str, function: Any) -> Any:
    """The in-place form of a function of one tensor."""

    def call(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_writable(input, name)
        return assign(input, function(input, *args, **kwargs), name)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"In-place version of `{name[:-1]}`. (*S) -> (*S)."
    call.__wrapped__ = function  # type: ignore[attr-defined]  # for inspect.signature
    return call


dropout_, alpha_dropout_ = _written("dropout_", dropout), _written("alpha_dropout_", alpha_dropout)
feature_dropout_ = _written("feature_dropout_", feature_dropout)
feature_alpha_dropout_ = _written("feature_alpha_dropout_", feature_alpha_dropout)
threshold_, rrelu_ = activation.threshold_, activation.rrelu_

# ---- layers


def convolution(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int,
) -> Tensor:  # fmt: skip
    """nn.functional.conv1d to 3d, or conv_transpose1d to 3d where `transposed`. input: (N, C, *S) -> (N, D, *T)."""
    rank = weight.array.ndim - 2
    if transposed:
        return getattr(conv, f"conv_transpose{rank}d")(
            input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return getattr(conv, f"conv{rank}d")(input, weight, bias, stride, padding, dilation, groups)


def embedding(
    weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Tensor:
    """Rows of weight; here it comes first. weight: (V, D), indices: (*S) int -> (*S, D). padding_idx -1: none."""
    return _embedding(indices, weight, None if padding_idx < 0 else padding_idx, None, 2.0, scale_grad_by_freq, sparse)


_embedding = sparse.embedding


def embedding_renorm_(input: Tensor, indices: Tensor, max_norm: float, norm_type: float) -> Tensor:
    """Scales the rows of input that indices name down to the norm max_norm, in place. input: (V, D), indices: (*S)."""
    sparse.renorm_rows(input, indices, max_norm, norm_type)
    return input


def batch_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
    training: bool, momentum: float, eps: float, cudnn_enabled: bool = True,
) -> Tensor:  # fmt: skip
    """nn.functional.batch_norm. input: (N, C, *), the others (C,) -> (N, C, *)."""
    return normalization.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
    use_input_stats: bool, momentum: float, eps: float, cudnn_enabled: bool = True,
) -> Tensor:  # fmt: skip
    """nn.functional.instance_norm. input: (N, C, *), the others (C,) -> (N, C, *)."""
    return normalization.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:  # fmt: skip
    """nn.functional.layer_norm. input: (*L, *N), weight, bias: (*N) -> same."""
    return normalization.layer_norm(input, normalized_shape, weight, bias, eps)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:  # fmt: skip
    """nn.functional.group_norm. input: (N, C, *), weight, bias: (C,) -> (N, C, *)."""
    return normalization.group_norm(input, num_groups, weight, bias, eps)


def adaptive_max_pool1d(input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    """Maxima of output_size parts, and where they are. input: (N, C, L) or (C, L) -> two of (N, C, output_size)."""
    return pooling.adaptive_max_pool1d_with_indices(input, output_size)


def max_pool1d_with_indices(
    input: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> tuple[Tensor, Tensor]:
    """The maximum of each window, and where it is. input: (N, C, L) or (C, L) -> two of the same with L'."""
    stride = None if isinstance(stride, (tuple, list)) and not stride else stride
    return pooling.max_pool1d_with_indices(input, kernel_size, stride, padding, dilation, ceil_mode)


def native_channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """The channels of `groups` groups dealt out in turn. input: (N, C, *S) -> (N, C, *S)."""
    return vision.channel_shuffle(input, groups)


def norm_except_dim(v: Tensor, pow: int = 2, dim: int = 0) -> Tensor:
    """The pow-norm of v over all dimensions but dim, which keep the extent 1; over all of them for dim -1.

    v: (*S) -> (1, ..., S[dim], ..., 1) or ().
    """
    if dim == -1:
        return v.norm(pow)
    rows = v.transpose(0, dim)
    return rows.reshape(rows.shape[0], -1).norm(pow, 1).view(-1, *(1,) * (v.ndim - 1)).transpose(0, dim)
