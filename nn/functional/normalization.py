"""Normalisation over batches, layers, groups and instances; vectors to unit length."""

from __future__ import annotations

import math
from typing import Any

from ...autograd.api.args import normalized_shape_of
from ...autograd.modes import no_grad
from ...autograd.op import GRAPH
from ...autograd.ops import norm as op
from ...autograd.tensor import Tensor
from .pooling import avg_pool2d

__all__ = [
    "batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "normalize", "rms_norm",
]  # fmt: skip


def _check_per_channel(name: str, channels: int, **tensors: Any) -> None:
    for word, t in tensors.items():
        if t is not None and t.numel() != channels:
            raise RuntimeError(f"{name}: {word} should contain {channels} elements not {t.numel()}")


def _check_values_per_channel(size: Any) -> None:
    count = size[0]
    for n in size[2:]:
        count *= n
    if count == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {size}")


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel normalised: by its own statistics in training (which also move the running ones), else by those.

    input: (N, C, *), the others (C,) -> (N, C, *). The running variance is unbiased, the one divided by is biased.
    Raises ValueError in training with one value per channel or eps <= 0, RuntimeError for sizes that do not fit.
    """
    if training:
        _check_values_per_channel(input.shape)
        if eps <= 0.0:
            raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
    elif eps < 0.0:
        raise ValueError(f"batch_norm eps must be non-negative, but got {eps}")
    if not input.array.size and input.array.ndim < 2:  # nothing to normalise; each parameter takes part in the graph
        out = input.clone() if weight is None else input * weight[0]
        return out if bias is None else out + bias[0]
    if input.array.ndim < 2:
        raise RuntimeError(f"batch_norm: expected at least 2 dimensions (N, C, ...), but got {input.array.ndim}")
    channels = input.array.shape[1]
    _check_per_channel(
        "batch_norm", channels, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    for other in (weight, bias, running_mean, running_var):
        if other is not None and other.array.dtype != input.array.dtype and input.array.itemsize != 2:
            raise RuntimeError(
                "mixed dtype (CPU): all inputs must share same datatype. "
                f"(batch_norm: input is {input.dtype}, its parameters are {other.dtype})"
            )
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError("Expected running_mean and running_var to be defined when training=False")
        return _by_running(input, running_mean, running_var, weight, bias, eps)
    x = input if weight is None or weight.array.dtype == input.array.dtype else input.to(weight.dtype)
    out, mean, var = op.batch_norm(x, weight, bias, eps=eps)
    if input.numel() and (running_mean is not None or running_var is not None):  # an empty batch moves nothing
        count = input.numel() / channels
        with no_grad():
            if running_mean is not None:
                running_mean.mul_(1 - momentum).add_(mean.detach() * momentum)
            if running_var is not None:
                running_var.mul_(1 - momentum).add_(var.detach() * (momentum * count / (count - 1)))
    return out if x is input else out.to(input.dtype)


def _by_running(input: Tensor, mean: Tensor, var: Tensor, weight: Any, bias: Any, eps: float) -> Tensor:
    scale = GRAPH.rsqrt(var + eps)
    scale = scale if weight is None else scale * weight
    shift = -mean * scale
    shift = shift if bias is None else shift + bias
    return op.scale_shift(input, scale.to(input.dtype), shift.to(input.dtype))


def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalised over the last dimensions, which are normalized_shape. input: (*L, *N), weight, bias: (*N) -> same."""
    shape = normalized_shape_of(input, normalized_shape, weight=weight, bias=bias)
    return op.layer_norm(input, weight, bias, n_axes=len(shape), eps=eps)


def rms_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """Divided by the root mean square over the last dimensions. eps: by default that of the dtype. (*L, *N) -> same."""
    shape = normalized_shape_of(input, normalized_shape, weight=weight)
    if eps is None:
        from ...autograd.info import finfo

        eps = finfo(input.dtype).eps if input.dtype.itemsize > 2 else 1.1920928955078125e-07
    return op.rms_norm(input, weight, n_axes=len(shape), eps=eps)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    spread = (1, -1, *(1,) * (x.array.ndim - 2))
    x = x if weight is None else x * GRAPH.reshape(weight, shape=spread)
    return x if bias is None else x + GRAPH.reshape(bias, shape=spread)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Channels normalised in groups. input: (N, C, *), weight, bias: (C,) -> (N, C, *). Wu and He, 2018."""
    if input.array.ndim < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {input.array.ndim}")
    n, c = input.array.shape[:2]
    _check_values_per_channel([n * c // num_groups, num_groups, *input.array.shape[2:]] if num_groups else [2])
    if num_groups <= 0 or c % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{list(input.shape)} and num_groups={num_groups}"
        )
    _check_per_channel("group_norm", c, weight=weight, bias=bias)
    if input.array.itemsize == 2:  # half precisions: the affine part too is computed in float32
        weight, bias = (None if t is None else t.float() for t in (weight, bias))
        return group_norm(input.float(), num_groups, weight, bias, eps).to(input.dtype)
    grouped = GRAPH.reshape(input, shape=(n, num_groups, math.prod(input.array.shape[1:]) // num_groups))
    out = op.layer_norm(grouped, None, None, n_axes=1, eps=eps)
    return _affine(GRAPH.reshape(out, shape=input.array.shape), weight, bias)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each instance's channels normalised. input: (N, C, *), the others (C,) -> (N, C, *). Ulyanov et al., 2016."""
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RuntimeError("Expected running_mean and running_var to be defined when use_input_stats=False")
        return _by_running(input, running_mean, running_var, weight, bias, eps)
    size = input.shape
    if math.prod(size[2:]) == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {size}")
    n, c = input.array.shape[:2]
    length = math.prod(size[2:])
    flat = GRAPH.reshape(input, shape=(1, n * c, length))
    out, mean, var = op.batch_norm(flat, None, None, eps=eps)
    with no_grad():
        for running, new, factor in ((running_mean, mean, 1.0), (running_var, var, length / (length - 1))):
            if running is not None:
                per_channel = new.detach().reshape(n, c).mean(0)
                running.mul_(1 - momentum).add_(per_channel, alpha=momentum * factor)
    return _affine(GRAPH.reshape(out, shape=input.array.shape), weight, bias)


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x / (k + alpha * mean of squares over `size` neighbouring channels) ** beta. (N, C, *) -> (N, C, *).

    Krizhevsky, Sutskever and Hinton, 2012.
    """
    if input.array.ndim < 3:
        raise ValueError(f"Expected 3D or higher dimensionality input (got {input.array.ndim} dimensions)")
    if input.numel() == 0:
        return input
    n, c = input.array.shape[:2]
    squares = GRAPH.reshape(input * input, shape=(n, c, -1))
    padded = GRAPH.pad_constant(squares, widths=((0, 0), (size // 2, (size - 1) // 2), (0, 0)), value=0)
    means = avg_pool2d(padded, (size, 1), 1)
    divisor = GRAPH.reshape(means, shape=input.array.shape) * alpha + k
    return input / divisor**beta


def normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Tensor | None = None) -> Tensor:
    """input / max(its p-norm along dim, eps). (*S) -> (*S)."""
    found = input / input.norm(p, dim, keepdim=True).clamp_min(eps).expand_as(input)
    return found if out is None else out.copy_(found)
