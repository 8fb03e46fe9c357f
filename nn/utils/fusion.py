"""Batch normalisation in evaluation drawn into the layer before it: one layer computes what both did."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from ...autograd.tensor import Tensor
from ..modules.batchnorm import _BatchNorm
from ..modules.conv import _ConvNd
from ..modules.linear import Linear
from ..parameter import Parameter

__all__ = ["fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights"]

C = TypeVar("C", bound=_ConvNd)
L = TypeVar("L", bound=Linear)


def _check(layer: Any, bn: _BatchNorm) -> None:
    if layer.training or bn.training:
        raise AssertionError("Fusion only for eval!")


def _check_statistics(bn: Any) -> None:
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError("bn.running_mean and bn.running_var must not be None")


def fuse_conv_bn_eval(conv: C, bn: _BatchNorm, transpose: bool = False) -> C:
    """A copy of `conv` that gives what `bn(conv(x))` gives. Both must be in evaluation mode.

    transpose: whether conv is a transposed convolution, whose output channels are dimension 1 of the weight.

    >>> import tapegrad as torch
    >>> conv, bn = torch.nn.Conv2d(3, 4, 3).eval(), torch.nn.BatchNorm2d(4).eval()
    >>> x = torch.randn(1, 3, 5, 5)
    >>> torch.allclose(torch.nn.utils.fuse_conv_bn_eval(conv, bn)(x), bn(conv(x)), atol=1e-6)
    True
    """
    _check(conv, bn)
    fused = copy.deepcopy(conv)
    _check_statistics(bn)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias, transpose
    )
    return fused


def fuse_conv_bn_weights(
    conv_w: Tensor, conv_b: Tensor | None, bn_rm: Tensor, bn_rv: Tensor, bn_eps: float, bn_w: Tensor | None,
    bn_b: Tensor | None, transpose: bool = False,
) -> tuple[Parameter, Parameter]:  # fmt: skip
    """Weight and bias of the fused convolution. conv_w: (C, *) or, with transpose, (*, C, *); all others (C,)."""
    shape = [1] * conv_w.ndim
    shape[1 if transpose else 0] = -1
    scale = (bn_rv + bn_eps).rsqrt()
    weight_scale = (scale if bn_w is None else bn_w * scale).reshape(shape)
    bias_dtype = conv_w.dtype if conv_b is None else conv_b.dtype
    conv_b = bn_rm.new_zeros(bn_rm.shape) if conv_b is None else conv_b
    bias = (conv_b - bn_rm) * scale
    bias = bias if bn_w is None else bias * bn_w
    bias = bias if bn_b is None else bias + bn_b
    return (
        Parameter((conv_w * weight_scale).to(dtype=conv_w.dtype), conv_w.requires_grad),
        Parameter(bias.to(dtype=bias_dtype), conv_b.requires_grad),
    )


def fuse_linear_bn_eval(linear: L, bn: _BatchNorm) -> L:
    """A copy of `linear` that gives what `bn(linear(x))` gives. Both must be in evaluation mode.

    bn has as many features as linear's output, or one.
    """
    _check(linear, bn)
    if linear.out_features != bn.num_features and bn.num_features != 1:
        raise AssertionError(
            "To fuse, linear.out_features == bn.num_features or bn.num_features == 1, got "
            f"linear.out_features={linear.out_features} and bn.num_features={bn.num_features}"
        )
    _check_statistics(bn)
    fused = copy.deepcopy(linear)
    fused.weight, fused.bias = fuse_linear_bn_weights(
        linear.weight, linear.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    return fused


def fuse_linear_bn_weights(
    linear_w: Tensor, linear_b: Tensor | None, bn_rm: Tensor, bn_rv: Tensor, bn_eps: float, bn_w: Tensor, bn_b: Tensor
) -> tuple[Parameter, Parameter]:
    """Weight and bias of the fused linear layer. linear_w: (C, K); the others (C,), those of bn also (1,)."""
    scale = bn_w * (bn_rv + bn_eps).rsqrt()
    bias_dtype = linear_w.dtype if linear_b is None else linear_b.dtype
    linear_b = bn_rm.new_zeros(bn_rm.shape) if linear_b is None else linear_b
    return (
        Parameter(linear_w * scale.unsqueeze(-1).to(dtype=linear_w.dtype), linear_w.requires_grad),
        Parameter(((linear_b - bn_rm) * scale + bn_b).to(dtype=bias_dtype), linear_b.requires_grad),
    )
