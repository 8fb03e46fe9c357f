"""Activations: PyTorch's signatures over the ops in autograd/ops/activation.py and softmax.py."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ...autograd.api.args import LARGEST
from ...autograd.api.creation import new_like
from ...autograd.api.reduce import log_softmax as _log_softmax
from ...autograd.api.reduce import softmax as _softmax
from ...autograd.coerce import into
from ...autograd.inplace import inplace as in_place
from ...autograd.op import GRAPH
from ...autograd.ops import activation as op
from ...autograd.random import default_generator
from ...autograd.tensor import Tensor

__all__ = [
    "celu", "celu_", "elu", "elu_", "gelu", "glu", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish",
    "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "log_softmax", "logsigmoid", "mish", "prelu", "relu", "relu6",
    "relu_", "rrelu", "rrelu_", "selu", "selu_", "sigmoid", "silu", "softmax", "softmin", "softplus", "softshrink",
    "softsign", "tanh", "tanhshrink", "threshold", "threshold_",
]  # fmt: skip


def _run(function: Callable[..., Tensor], name: str, input: Tensor, inplace: bool, **kw: Any) -> Tensor:
    """function(input, **kw), written into the input where `inplace`."""
    if inplace:
        return in_place(function, name + "_")(input, **kw)
    return function(input, **kw)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0). (*S) -> (*S)."""
    return _run(op.relu, "relu", input, True) if inplace else op.relu(input)


def relu_(input: Tensor) -> Tensor:
    """relu in place. (*S) -> (*S)."""
    return relu(input, True)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6). (*S) -> (*S)."""
    return _run(op.hardtanh, "relu6", input, inplace, min_val=0.0, max_val=6.0)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value. (*S) -> (*S)."""
    return _run(op.threshold, "threshold", input, inplace, threshold=threshold, value=value)


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """threshold in place. (*S) -> (*S)."""
    return _run(op.threshold, "threshold", input, True, threshold=threshold, value=value)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x kept within [min_val, max_val]. ValueError where min_val is larger. (*S) -> (*S)."""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    return _run(op.hardtanh, "hardtanh", input, inplace, min_val=min_val, max_val=max_val)


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """hardtanh in place. (*S) -> (*S)."""
    return hardtanh(input, min_val, max_val, True)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope * x. (*S) -> (*S)."""
    return _run(op.leaky_relu, "leaky_relu", input, inplace, negative_slope=negative_slope)


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """leaky_relu in place. (*S) -> (*S)."""
    return leaky_relu(input, negative_slope, True)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight * x. input: (N, C, *), weight: (C,) or one value."""
    if weight.array.dtype != input.array.dtype:
        raise RuntimeError(f"prelu: Type promoting not supported. Got {input.dtype} and {weight.dtype}")
    if weight.array.ndim > 1:
        raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.array.ndim}")
    if weight.numel() != 1:
        if input.array.ndim == 0:
            raise RuntimeError("Not allow zero-dim input tensor.")
        channels = input.array.shape[1] if input.array.ndim > 1 else 1
        if channels != weight.numel():
            raise RuntimeError(
                "Mismatch of parameter numbers and input channel size. Found parameter numbers = "
                f"{weight.numel()} and channel size = {channels}."
            )
        weight = GRAPH.reshape(weight, shape=(1, channels, *(1,) * (input.array.ndim - 2)))
    elif weight.array.ndim and not input.array.ndim:
        weight = GRAPH.reshape(weight, shape=())
    return op.prelu(input, weight)


def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """leaky_relu with a slope drawn uniformly per negative element in training, else the mean slope. (*S) -> (*S)."""
    if lower > upper:
        raise RuntimeError("Lower bound should be less than or equal to the upper bound")
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    noise = np.ones(input.array.shape, input.array.dtype)
    negative = input.detach().cpu().array <= 0
    drawn = np.empty(int(negative.sum()), np.float64)
    default_generator.raw.uniform_(drawn, lower, upper)
    noise[negative] = drawn
    if inplace:
        return in_place(lambda x: op.rrelu(x, new_like(input, noise)), "rrelu_")(input)
    return op.rrelu(input, new_like(input, noise))


def rrelu_(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False) -> Tensor:
    """rrelu in place. (*S) -> (*S)."""
    return rrelu(input, lower, upper, training, True)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1). (*S) -> (*S)."""
    return _run(op.elu, "elu", input, inplace, alpha=alpha)


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """elu in place. (*S) -> (*S)."""
    return elu(input, alpha, True)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """scale * elu(x, alpha) with the fixed alpha and scale of Klambauer et al., 2017. (*S) -> (*S)."""
    return _run(op.elu, "selu", input, inplace, alpha=SELU_ALPHA, scale=SELU_SCALE)


def selu_(input: Tensor) -> Tensor:
    """selu in place. (*S) -> (*S)."""
    return selu(input, True)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x / alpha) - 1). (*S) -> (*S)."""
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return _run(op.elu, "celu", input, inplace, alpha=alpha, input_scale=1.0 / alpha)


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """celu in place. (*S) -> (*S)."""
    return celu(input, alpha, True)


def gelu(input: Tensor, approximate: str = "none", *, out: Tensor | None = None) -> Tensor:
    """x * Phi(x), exactly or (approximate='tanh') by Hendrycks and Gimpel's formula, 2016. (*S) -> (*S)."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    found = op.gelu(input, approximate=approximate)
    return found if out is None else into(out, "gelu", found)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a * sigmoid(b), where a and b are the halves along dim. (..., 2 N, ...) -> (..., N, ...)."""
    if input.array.ndim == 0:
        raise RuntimeError("glu does not support scalars because halving size must be even")
    size = input.array.shape[dim]
    if size % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim} is size {size}")
    return GRAPH.glu(input, axis=dim % input.array.ndim)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x). Complex numbers are taken too. (*S) -> (*S)."""
    return _run(op.silu if input.array.dtype.kind != "c" else _complex_silu, "silu", input, inplace)


def _complex_silu(input: Tensor) -> Tensor:
    return input / (1 + (-input).exp())


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * tanh(softplus(x)). Misra, 2019. (*S) -> (*S)."""
    return _run(op.mish, "mish", input, inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * relu6(x + 3) / 6. Howard et al., 2019. (*S) -> (*S)."""
    return _run(op.hardswish, "hardswish", input, inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """relu6(x + 3) / 6. (*S) -> (*S)."""
    return _run(op.hardsigmoid, "hardsigmoid", input, inplace)


def logsigmoid(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """log(1 / (1 + exp(-x))). (*S) -> (*S)."""
    found = op.logsigmoid(input)
    return found if out is None else into(out, "logsigmoid", found)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0, *, out: Tensor | None = None) -> Tensor:
    """log(1 + exp(beta x)) / beta; x itself where beta x > threshold. (*S) -> (*S)."""
    found = op.softplus(input, beta=beta, threshold=threshold)
    return found if out is None else into(out, "softplus", found)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|). Complex numbers and integers are taken too. (*S) -> (*S)."""
    return op.softsign(input) if input.array.dtype.kind in "fV" else input / (1 + input.abs())


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x). Complex numbers and integers are taken too. (*S) -> (*S)."""
    return op.tanhshrink(input) if input.array.dtype.kind in "fV" else input - input.tanh()


def softshrink(input: Tensor, lambd: float = 0.5, *, out: Tensor | None = None) -> Tensor:
    """x moved towards 0 by lambd, 0 where |x| <= lambd. (*S) -> (*S)."""
    largest = LARGEST.get(input.dtype.name, sys.float_info.max)
    if not 0 <= lambd <= largest:
        raise RuntimeError(
            f"lambda must be in range [0, {largest:g}] for input dtype {input.dtype.legacy}, but found {lambd}"
        )
    found = op.softshrink(input, lambd=lambd)
    return found if out is None else into(out, "softshrink", found)


def hardshrink(input: Tensor, lambd: float = 0.5, *, out: Tensor | None = None) -> Tensor:
    """x where |x| > lambd, else 0. (*S) -> (*S)."""
    found = op.hardshrink(input, lambd=lambd)
    return found if out is None else into(out, "hardshrink", found)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x)). (*S) -> (*S)."""
    return input.sigmoid()


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent. (*S) -> (*S)."""
    return input.tanh()


def _implicit_dim(name: str, ndim: int, stacklevel: int) -> int:
    """PyTorch's old choice of a dimension where none is given, with its warning."""
    import warnings

    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
        stacklevel=stacklevel,
    )
    return 0 if ndim in (0, 1, 3) else 1


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """exp(x) / sum(exp(x)) along dim. (*S) -> (*S)."""
    if dim is None:
        dim = _implicit_dim("softmax", input.dim(), _stacklevel)
    return _softmax(input, dim, dtype=dtype)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """softmax(-x) along dim. (*S) -> (*S)."""
    if dim is None:
        dim = _implicit_dim("softmin", input.dim(), _stacklevel)
    return _softmax(-input, dim, dtype=dtype)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """log(softmax(x)) along dim. (*S) -> (*S)."""
    if dim is None:
        dim = _implicit_dim("log_softmax", input.dim(), _stacklevel)
    return _log_softmax(input, dim, dtype=dtype)


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """softmax((logits + Gumbel noise) / tau); hard: one-hot forward, soft gradient. Jang et al., 2017.

    logits: (*S) -> (*S).
    """
    noise = np.empty(logits.array.shape, logits.array.dtype)
    default_generator.raw.exponential_(noise)
    gumbels = -new_like(logits, noise).log()
    soft = _softmax((logits + gumbels) / tau, dim)
    if not hard:
        return soft
    index = soft.max(dim, keepdim=True)[1]
    one_hot = logits.detach().new_zeros(tuple(logits.shape)).scatter_(dim, index, 1.0)
    return one_hot - soft.detach() + soft
