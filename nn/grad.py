"""The gradients of a convolution's input and weight as functions of their own, as torch.nn.grad has them."""

from __future__ import annotations

from typing import Any

from ..autograd.ops import conv as op
from ..autograd.tensor import Tensor
from .functional.sizes import repeated

__all__ = ["conv1d_input", "conv1d_weight", "conv2d_input", "conv2d_weight", "conv3d_input", "conv3d_weight"]


def _geometry(
    size: Any, kernel: Any, grad_output: Tensor, stride: Any, padding: Any, dilation: Any, groups: int
) -> dict[str, Any]:
    """The convolution's keywords. RuntimeError where it would not give grad_output's shape."""
    rank = len(kernel) - 2
    words = {"stride": stride, "padding": padding, "dilation": dilation}
    how: dict[str, Any] = {word: repeated(value, rank) for word, value in words.items()}
    wanted = op.conv_size(tuple(size)[2:], tuple(kernel)[2:], **how)
    for d, (n, found) in enumerate(zip(wanted, grad_output.array.shape[2:], strict=True), 2):
        if n != found:
            raise RuntimeError(
                f"Expected a tensor of dimension {rank + 2} and tensor.size[{d}] == {n} but got: dimension "
                f"{grad_output.array.ndim} and tensor.size[{d}] = {found} (grad_output, whose shape the others settle)"
            )
    return {**how, "groups": groups}


def conv1d_input(
    input_size: Any,
    weight: Tensor,
    grad_output: Tensor,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of conv1d for its input. weight: (O, C / groups, K), grad_output: (N, O, L') -> input_size."""
    how = _geometry(input_size, weight.shape, grad_output, stride, padding, dilation, groups)
    return op.conv_input(grad_output, weight, shape=tuple(input_size), **how)


def conv1d_weight(
    input: Tensor,
    weight_size: Any,
    grad_output: Tensor,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of conv1d for its weight. input: (N, C, L), grad_output: (N, O, L') -> weight_size."""
    how = _geometry(input.shape, weight_size, grad_output, stride, padding, dilation, groups)
    return op.conv_weight(input, grad_output, shape=tuple(weight_size), **how)


def conv2d_input(
    input_size: Any,
    weight: Tensor,
    grad_output: Tensor,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of conv2d for its input. weight: (O, C / groups, *K), grad_output: (N, O, H', W') -> input_size.

    >>> import tapegrad as torch
    >>> w, g = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 1)
    >>> torch.nn.grad.conv2d_input((1, 1, 2, 2), w, g)
    tensor([[[[1., 1.],
              [1., 1.]]]])
    """
    how = _geometry(input_size, weight.shape, grad_output, stride, padding, dilation, groups)
    return op.conv_input(grad_output, weight, shape=tuple(input_size), **how)


def conv2d_weight(
    input: Tensor,
    weight_size: Any,
    grad_output: Tensor,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of conv2d for its weight. input: (N, C, H, W), grad_output: (N, O, H', W') -> weight_size."""
    how = _geometry(input.shape, weight_size, grad_output, stride, padding, dilation, groups)
    return op.conv_weight(input, grad_output, shape=tuple(weight_size), **how)


def conv3d_input(
    input_size: Any,
    weight: Tensor,
    grad_output: Tensor,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of conv3d for its input. weight: (O, C / groups, *K), grad_output: (N, O, *T) -> input_size."""
    how = _geometry(input_size, weight.shape, grad_output, stride, padding, dilation, groups)
    return op.conv_input(grad_output, weight, shape=tuple(input_size), **how)


def conv3d_weight(
    input: Tensor,
    weight_size: Any,
    grad_output: Tensor,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of conv3d for its weight. input: (N, C, D, H, W), grad_output: (N, O, D', H', W') -> weight_size."""
    how = _geometry(input.shape, weight_size, grad_output, stride, padding, dilation, groups)
    return op.conv_weight(input, grad_output, shape=tuple(weight_size), **how)
