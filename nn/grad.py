"""The gradients of a convolution's input and weight as functions of their own, as torch.nn.grad has them.

>>> import tapegrad as torch
>>> w, g = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 1)
>>> torch.nn.grad.conv2d_input((1, 1, 2, 2), w, g)
tensor([[[[1., 1.],
          [1., 1.]]]])
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, cast

from ..autograd.ops import conv as op
from ..autograd.tensor import Tensor
from .functional.sizes import repeated

__all__ = ["conv1d_input", "conv1d_weight", "conv2d_input", "conv2d_weight", "conv3d_input", "conv3d_weight"]

_F = TypeVar("_F", bound=Callable[..., Any])


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


def _input(
    input_size: Any,
    weight: Tensor,
    grad_output: Tensor,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    how = _geometry(input_size, weight.shape, grad_output, stride, padding, dilation, groups)
    return op.conv_input(grad_output, weight, shape=tuple(input_size), **how)


def _weight(
    input: Tensor,
    weight_size: Any,
    grad_output: Tensor,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    how = _geometry(input.shape, weight_size, grad_output, stride, padding, dilation, groups)
    return op.conv_weight(input, grad_output, shape=tuple(weight_size), **how)


def _named(function: _F, name: str, doc: str) -> _F:
    """A copy of a function of any rank, under the name that PyTorch gives it for one rank."""
    made = FunctionType(function.__code__, globals(), name, function.__defaults__)
    made.__qualname__, made.__doc__, made.__annotations__ = name, doc, function.__annotations__
    return cast(_F, made)


_OF_INPUT = "The gradient of {} for its input. weight: (O, C / groups, *K), grad_output: (N, O, {}) -> input_size."
_OF_WEIGHT = "The gradient of {} for its weight. input: (N, C, {}), grad_output: (N, O, {}) -> weight_size."

conv1d_input = _named(_input, "conv1d_input", _OF_INPUT.format("conv1d", "L'"))
conv2d_input = _named(_input, "conv2d_input", _OF_INPUT.format("conv2d", "H', W'"))
conv3d_input = _named(_input, "conv3d_input", _OF_INPUT.format("conv3d", "*T"))
conv1d_weight = _named(_weight, "conv1d_weight", _OF_WEIGHT.format("conv1d", "L", "L'"))
conv2d_weight = _named(_weight, "conv2d_weight", _OF_WEIGHT.format("conv2d", "H, W", "H', W'"))
conv3d_weight = _named(_weight, "conv3d_weight", _OF_WEIGHT.format("conv3d", "D, H, W", "D', H', W'"))
