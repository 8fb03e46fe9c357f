"""nn.init: fills tensors in place for a start of training, with PyTorch's random draws."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..autograd.api.random import normal_ as _normal_
from ..autograd.api.random import uniform_ as _uniform_
from ..autograd.coerce import name_calls
from ..autograd.modes import no_grad
from ..autograd.random import default_generator
from ..autograd.tensor import Tensor
from ..autograd.versions import mark_written

_GAINS = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "conv_transpose1d": 1.0, "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4,
}  # fmt: skip


def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """The factor by which a layer before `nonlinearity` is to be scaled. param: leaky_relu's negative slope (0.01).

    Raises ValueError for an unknown name or a slope that is no number.
    """
    if nonlinearity == "leaky_relu":
        if param is None:
            slope = 0.01
        elif not isinstance(param, bool) and isinstance(param, (int, float)):
            slope = param
        else:
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}")
    return _GAINS[nonlinearity]


@no_grad()
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform numbers of [a, b). (*S) -> (*S)."""
    return _uniform_(tensor, a, b, generator=generator)


@no_grad()
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Normal numbers. (*S) -> (*S)."""
    return _normal_(tensor, mean, std, generator=generator)


@no_grad()
def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Any = None
) -> Tensor:
    """Normal numbers of [a, b], by rejection as PyTorch 2.13 draws them. (*S) -> (*S).

    Where more than 0.3 of the distribution lies inside, normal numbers are drawn again until they are inside; else
    uniform candidates of [a, b] are accepted with the density relative to its peak.
    """
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. "
            "The distribution of values may be incorrect.",
            stacklevel=2,
        )

    def below(x: float) -> float:
        return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0

    share = below((b - mean) / std) - below((a - mean) / std)
    draw = (default_generator if generator is None else generator).raw
    dtype = tensor.array.dtype
    out = np.empty(tensor.array.shape, dtype)
    fresh = np.empty_like(out)
    if share > 0.3:
        low, high = dtype.type(a), dtype.type(b)
        draw.normal_(out, mean, std)
        while (outside := (out < low) | (out > high)).any():
            draw.normal_(fresh, mean, std)
            out[outside] = fresh[outside]
        return _write(tensor, out)
    peak = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2
    chance = np.empty_like(out)

    def refused(candidates: Any) -> Any:
        z = (candidates - dtype.type(mean)) / dtype.type(std)
        log_density = z * z * dtype.type(-0.5) - dtype.type(peak)
        return np.log(draw.uniform_(chance)) > log_density

    draw.uniform_(out, a, b)
    pending = refused(out)
    while pending.any():
        draw.uniform_(fresh, a, b)
        out[pending] = fresh[pending]
        pending &= refused(fresh)
    return _write(tensor, out)


@no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """One value everywhere. (*S) -> (*S)."""
    return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Ones. (*S) -> (*S)."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros. (*S) -> (*S)."""
    return constant_(tensor, 0.0)


@no_grad()
def eye_(tensor: Tensor) -> Tensor:
    """Ones on the diagonal. tensor: (N, M). ValueError for other dimensions."""
    if tensor.ndimension() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    return _write(tensor, np.eye(*tensor.shape))


@no_grad()
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Convolution weights that pass their input on. tensor: (out, in, *kernel) with 1 to 3 spatial dimensions."""
    dimensions = tensor.ndimension()
    if dimensions not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    sizes = tuple(tensor.shape)
    if sizes[0] % groups != 0:
        raise ValueError("dim 0 must be divisible by groups")
    per_group = sizes[0] // groups
    host = np.zeros(sizes)
    middle = tuple(n // 2 for n in sizes[2:])
    for g in range(groups):
        for d in range(min(per_group, sizes[1])):
            host[(g * per_group + d, d, *middle)] = 1
    return _write(tensor, host)


def _write(tensor: Tensor, host: Any) -> Tensor:
    """Writes a host array into the tensor."""
    from ..autograd.api.creation import new_like

    tensor.array[...] = new_like(tensor, host.astype(tensor.array.dtype)).array
    mark_written(tensor)
    return tensor


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """(inputs that one output sums over, outputs that one input reaches) of a weight (out, in, *kernel)."""
    if tensor.dim() < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    field = math.prod(tensor.shape[2:])
    return tensor.size(1) * field, tensor.size(0) * field


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return fan_in if mode == "fan_in" else fan_out


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform on [-a, a), a = gain sqrt(6 / (fan_in + fan_out)). Glorot and Bengio, 2010.

    tensor: (out, in, *kernel) -> itself.
    """
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    std = gain * math.sqrt(2.0 / float(fan_in + fan_out))
    a = math.sqrt(3.0) * std
    return uniform_(tensor, -a, a, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Normal of deviation gain sqrt(2 / (fan_in + fan_out)). Glorot and Bengio, 2010.

    tensor: (out, in, *kernel) -> itself.
    """
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / float(fan_in + fan_out)), generator)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """Uniform on [-b, b), b = gain sqrt(3 / fan). He et al., 2015. a: the slope of leaky_relu.

    tensor: (out, in, *kernel) -> itself.
    """
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    fan = _calculate_correct_fan(tensor, mode)
    std = calculate_gain(nonlinearity, a) / math.sqrt(fan)
    bound = math.sqrt(3.0) * std
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """Normal of deviation gain / sqrt(fan). He et al., 2015. a: the slope of leaky_relu.

    tensor: (out, in, *kernel) -> itself.
    """
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    fan = _calculate_correct_fan(tensor, mode)
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(fan), generator)


@no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Any = None) -> Tensor:
    """Rows (or columns, the shorter side) orthonormal, times gain. Saxe et al., 2013.

    tensor: (N, *S) -> itself, as a matrix (N, M).

    The QR decomposition is LAPACK's here and there: values equal PyTorch's to about 1e-5 in float32.
    """
    if tensor.ndimension() < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor.numel() == 0:
        return tensor
    rows = tensor.size(0)
    columns = tensor.numel() // rows
    flat = normal_(tensor.new_empty((rows, columns)), 0, 1, generator).array
    host: Any = np.asarray(flat, np.float64 if flat.dtype == np.float64 else np.float32)
    q, r = np.linalg.qr(host.T if rows < columns else host)
    q = q * np.sign(np.diag(r))
    _write(tensor, (q.T if rows < columns else q).reshape(tensor.shape))
    return tensor.mul_(gain)


@no_grad()
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Any = None) -> Tensor:
    """Normal numbers, with a share `sparsity` of each column set to zero. tensor: (N, M). Martens, 2010."""
    from ..autograd.api.random import randperm

    if tensor.ndimension() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    _normal_(tensor, 0, std, generator=generator)
    for column in range(columns):
        tensor.array[randperm(rows).array[:zeros], column] = 0
    mark_written(tensor)
    return tensor


def _deprecated(name: str, function: Any) -> Any:
    """PyTorch's old name without the underscore, which warns."""

    def old(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(
            f"`nn.init.{name}` is now deprecated in favor of `nn.init.{name}_`.", FutureWarning, stacklevel=2
        )
        return function(*args, **kwargs)

    old.__name__ = name
    old.__doc__ = f"The old name of {name}_. (*S) -> (*S)."
    old.__wrapped__ = function  # type: ignore[attr-defined]  # for inspect.signature
    return old


uniform = _deprecated("uniform", uniform_)
normal = _deprecated("normal", normal_)
constant = _deprecated("constant", constant_)
eye = _deprecated("eye", eye_)
dirac = _deprecated("dirac", dirac_)
xavier_uniform = _deprecated("xavier_uniform", xavier_uniform_)
xavier_normal = _deprecated("xavier_normal", xavier_normal_)
kaiming_uniform = _deprecated("kaiming_uniform", kaiming_uniform_)
kaiming_normal = _deprecated("kaiming_normal", kaiming_normal_)
orthogonal = _deprecated("orthogonal", orthogonal_)
sparse = _deprecated("sparse", sparse_)


name_calls(globals(), __name__)
