"""Limits on gradients, by their norm or by their value."""

from __future__ import annotations

import math
import types
import warnings
from collections.abc import Iterable
from typing import Any

from ...autograd.api.creation import tensor
from ...autograd.api.join import stack
from ...autograd.codegen import HOST
from ...autograd.modes import no_grad
from ...autograd.tensor import Tensor

__all__ = ["clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]

# `foreach` chooses between two implementations in PyTorch. Here there is one; the argument is accepted.


def _listed(tensors: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _on_device() -> Any:
    from ...autograd.api import gradients

    return gradients


@no_grad
def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all tensors together, as of one vector. Returns a 0-d tensor.

    Args:
        tensors: the tensors; of no tensors the norm is 0.
        norm_type: the order p of the p-norm; `inf` for the largest absolute value.
        error_if_nonfinite: raise RuntimeError where the norm is nan or infinite.
    """
    listed = _listed(tensors)
    order = float(norm_type)
    if not listed:
        return tensor(0.0)
    found = None if listed[0].array.__class__ is HOST else _on_device().total_norm(listed, order)
    if found is None:
        norms = [t.norm(order) for t in listed]
        if len({type(norm.array) for norm in norms}) > 1 or not norms[0].is_cpu:
            norms = [norm.to(norms[0].device) for norm in norms]
        found = stack(norms).norm(order)
    total = found
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(
            f"The total norm of order {order} for gradients from `parameters` is non-finite, so it cannot be clipped. "
            "To disable this error and scale the gradients by the non-finite norm anyway, set "
            "`error_if_nonfinite=False`"
        )
    return total


@no_grad
def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Multiplies the gradients of `parameters`, in place, by max_norm / total_norm where that is below 1."""
    gradients = _gradients(_listed(parameters))
    if not gradients:
        return
    if gradients[0].array.__class__ is not HOST and _on_device().clip_all(gradients, total_norm, float(max_norm)):
        return
    factor = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
    number = factor.item() if factor.is_cpu else None  # read where that waits for no device
    if number == 1.0:
        return
    for gradient in gradients:
        gradient.mul_(factor.to(gradient.device) if number is None else number)


@no_grad
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scales the gradients of `parameters`, in place, so that their norm together is at most `max_norm`.

    Args:
        parameters: a tensor or an iterable of tensors; those without a gradient do not count.
        max_norm: the limit.
        norm_type: the order p of the p-norm; `inf` for the largest absolute value.
        error_if_nonfinite: raise RuntimeError where the norm is nan or infinite.

    Returns the norm before clipping, a 0-d tensor.

    >>> import tapegrad as torch
    >>> w = torch.nn.Parameter(torch.zeros(2))
    >>> w.grad = torch.tensor([3.0, 4.0])
    >>> torch.nn.utils.clip_grad_norm_([w], max_norm=1.0)
    tensor(5.)
    >>> w.grad
    tensor([0.6000, 0.8000])
    """
    listed = _listed(parameters)
    if not listed and isinstance(parameters, types.GeneratorType):
        warnings.warn("`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=3)
    total = get_total_norm(_gradients(listed), norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(listed, max_norm, total, foreach)
    return total


def clip_grad_norm(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The old name of `clip_grad_norm_`."""
    warnings.warn(
        "`torch.nn.utils.clip_grad_norm` is now deprecated in favor of `torch.nn.utils.clip_grad_norm_`.",
        FutureWarning,
        stacklevel=2,
    )
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


@no_grad
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Limits each element of the gradients of `parameters`, in place, to [-clip_value, clip_value]."""
    limit = float(clip_value)
    for gradient in _gradients(_listed(parameters)):
        gradient.clamp_(min=-limit, max=limit)
