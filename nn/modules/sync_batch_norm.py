"""Batch normalisation over the batches of several processes: statistics and their gradients are exchanged.

With n values per channel over all processes, mean m and 1/sqrt(var + eps) = r, y = (x - m) r w + b, and
dx = r w (dy - sum(dy)/n - (x - m) r^2 sum(dy (x - m))/n), where both sums run over all processes (Ioffe and Szegedy,
Batch Normalization, 2015, section 3). Means and squared deviations are combined by Chan's formula, which
does not cancel.
"""

from __future__ import annotations

from typing import Any

from ... import distributed as dist
from ...autograd.api.creation import empty_like, tensor, zeros
from ...autograd.api.join import cat, stack
from ...autograd.dtypes import float32, float64
from ...autograd.function import Function
from ...autograd.tensor import Tensor

__all__ = ["sync_batch_norm"]


def _other_dims(x: Tensor) -> list[int]:
    return [0, *range(2, x.dim())]


def _by_channel(v: Tensor, x: Tensor) -> Tensor:
    """(C,) -> (1, C, 1, ...), to stand beside x."""
    return v.reshape([1, -1] + [1] * (x.dim() - 2))


def _statistics(x: Tensor, group: Any) -> tuple[Tensor, Tensor, float]:
    """Mean and biased variance of each channel over all processes, both (C,), and how many values they are of."""
    channels = x.size(1)
    count = x.numel() // channels
    if count:
        dims = _other_dims(x)
        mean = x.mean(dims)
        deviation = x - _by_channel(mean, x)
        own = cat([mean, (deviation * deviation).sum(dims), tensor([float(count)], dtype=x.dtype, device=x.device)])
    else:  # an empty batch takes part, else the others would wait
        own = zeros(2 * channels + 1, dtype=x.dtype, device=x.device)
    every = [empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(every, own, group=group)
    gathered = stack(every)
    means, squares, counts = gathered[:, :channels], gathered[:, channels:-1], gathered[:, -1:]
    total = float(counts.sum())
    mean = (means * counts).sum(0) / total
    between = means - mean
    return mean, (squares + between * between * counts).sum(0) / total, total


class _SyncBatchNorm(Function):
    """x: (N, C, *), weight, bias: (C,) or None -> (N, C, *), and the statistics (C,) of all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Any, bias: Any, eps: float, group: Any, statistics: list[Any]) -> Tensor:
        wide = x if x.dtype in (float32, float64) else x.to(float32)
        mean, variance, total = _statistics(wide, group)
        rstd = (variance + eps).rsqrt()
        statistics[:] = mean, variance, total
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.group, ctx.total = group, total
        out = (wide - _by_channel(mean, x)) * _by_channel(rstd, x)
        if weight is not None:
            out = out * _by_channel(weight, x)
        if bias is not None:
            out = out + _by_channel(bias, x)
        return out.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        g = grad.to(mean.dtype)
        dims = _other_dims(x)
        centred = x.to(mean.dtype) - _by_channel(mean, x)
        own = cat([g.sum(dims), (g * centred).sum(dims)])
        channels = mean.numel()
        grad_weight = (own[channels:] * rstd).to(weight.dtype) if ctx.needs_input_grad[1] else None
        grad_bias = own[:channels].clone() if ctx.needs_input_grad[2] else None
        grad_x = None
        if ctx.needs_input_grad[0]:
            dist.all_reduce(own, group=ctx.group)
            along = centred * _by_channel(rstd * rstd * own[channels:] / ctx.total, x)
            scale = rstd if weight is None else rstd * weight.to(mean.dtype)
            grad_x = ((g - _by_channel(own[:channels] / ctx.total, x) - along) * _by_channel(scale, x)).to(x.dtype)
        return grad_x, grad_weight, grad_bias, None, None, None


def sync_batch_norm(
    x: Tensor, running_mean: Any, running_var: Any, weight: Any, bias: Any, momentum: float, eps: float, group: Any
) -> Tensor:
    """Normalises over the batches of all processes of a group and updates the running statistics (unbiased variance).

    x: (N, C, *), N may differ and be 0; the others (C,) or None -> (N, C, *). Every process must call it, in both
    passes: their exchanges wait for each other.
    """
    statistics: list[Any] = []
    out = _SyncBatchNorm.apply(x, weight, bias, eps, group, statistics)
    mean, variance, total = statistics
    if running_mean is not None:
        running_mean.data.mul_(1 - momentum).add_(mean.to(running_mean.dtype), alpha=momentum)
        unbiased = variance * (total / max(total - 1, 1))
        running_var.data.mul_(1 - momentum).add_(unbiased.to(running_var.dtype), alpha=momentum)
    return out
