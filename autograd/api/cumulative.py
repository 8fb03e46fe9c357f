"""Running sums, products and extremes; differences and integrals along a dimension. With PyTorch's arguments."""

from __future__ import annotations

from typing import Any

from ..dtypes import get_default_dtype, int64
from ..op import GRAPH
from ..ops import cumulative as op
from ..tensor import Tensor
from . import return_types
from .args import axes_of, dim_of, to_dtype
from .reduce import along, refuse
from .table import PUBLIC, public


def _running(function: Any, input: Tensor, dim: int, dtype: Any) -> Tensor:
    if not hasattr(dim, "__index__"):
        raise TypeError(f"{function.__name__}(): argument 'dim' (position 1) must be int, not {type(dim).__name__}")
    if dtype is not None:
        input = to_dtype(input, dtype)
    elif input.array.dtype.kind in "biu":
        input = GRAPH.cast(input, dtype=int64.np)
    return along(function, input, dim)


@public(inplace=True)
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running sum along dim; integers and bool as int64. (*S) -> (*S)."""
    return _running(op.cumsum, input, dim, dtype)


@public(inplace=True)
def cumprod(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running product along dim; integers and bool as int64. (*S) -> (*S)."""
    return _running(op.cumprod, input, dim, dtype)


@public
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """log of the running sum of exp(input) along dim, without overflow. (*S), floating or complex -> (*S)."""
    refuse(input, "biu", "\"logcumsumexp_out_cpu\" not implemented for '{}'")
    return along(op.logcumsumexp, input, dim)


@public
def cummax(input: Tensor, dim: int) -> Any:
    """Running maximum along dim and where it was seen last. (*S) -> (values, indices), each (*S)."""
    refuse(input, "c", "\"cummax_cpu\" not implemented for '{}'")
    return return_types.cummax(along(op.cummax, input, dim))


@public
def cummin(input: Tensor, dim: int) -> Any:
    """Running minimum along dim and where it was seen last. (*S) -> (values, indices), each (*S)."""
    refuse(input, "c", "\"cummin_cpu\" not implemented for '{}'")
    return return_types.cummin(along(op.cummin, input, dim))


# ---- differences


def _pair(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """All but the first and all but the last along axis: neighbours."""
    n = max(x.array.shape[axis] - 1, 0)
    return x.narrow(axis, x.array.shape[axis] - n, n), x.narrow(axis, 0, n)


@public
def diff(input: Tensor, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Tensor:
    """The n-th difference of neighbours along dim. (*S) -> (S with n fewer along dim)."""
    if not input.array.ndim:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    axis = dim_of(dim, input.array.ndim)
    parts = [t for t in (prepend, input, append) if t is not None]
    for t in parts:
        _check_ends(input, t, axis)
    if n == 0:
        return input.clone()
    if len(parts) > 1:
        input = PUBLIC["cat"].function(parts, axis)
    for _ in range(n):
        late, early = _pair(input, axis)
        input = GRAPH.ne(late, early) if input.array.dtype.kind == "b" else late - early
    return input


def _check_ends(input: Tensor, end: Tensor, axis: int) -> None:
    if end.array.ndim != input.array.ndim:
        raise RuntimeError("diff expects prepend or append to be the same dimension as input")
    for i, (have, want) in enumerate(zip(end.array.shape, input.array.shape, strict=True)):
        if i != axis and have != want:
            raise RuntimeError(
                "diff expects the shape of tensor to prepend or append to match that of input except along the "
                f"differencing dimension; input.size({i}) = {want}, but got tensor.size({i}) = {have}"
            )


# ---- integrals


def _panels(name: str, y: Tensor, x: Any, dx: Any, dim: int) -> tuple[Tensor, int]:
    """The area of each trapezoid between neighbours along dim, and that axis."""
    if not y.array.ndim:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    axis = dim_of(dim, y.array.ndim)
    for t, word in ((y, "y"), (x, "x")):
        if t is not None and t.array.dtype.kind == "b":
            raise RuntimeError(f"{name}: received a bool input for `{word}`, but bool is not supported")
    late, early = _pair(y, axis)
    total = late + early
    if x is None:
        return total * (dx / 2), axis
    if x.array.ndim == 1:
        if x.array.shape[0] != y.array.shape[axis]:
            raise RuntimeError(f"{name}: There must be one `x` value for each sample point")
        step = diff(x).reshape([-1 if i == axis else 1 for i in range(y.array.ndim)])
    else:
        step = diff(x, dim=axis - y.array.ndim)
    return total * step / 2, axis


@public(method=False)
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = 1, dim: int = -1) -> Tensor:
    """The integral of samples y by the trapezoid rule, at places x or dx apart. y: (*S) -> (S without dim)."""
    areas, axis = _panels("trapezoid", y, x, dx, dim)
    return areas.sum(axis)


@public(method=False)
def trapz(y: Tensor, x: Tensor | None = None, *, dx: Any = 1, dim: int = -1) -> Tensor:
    """Another name of trapezoid. y: (*S) -> (S without dim)."""
    return trapezoid(y, x, dx=dx, dim=dim)


@public(method=False)
def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = 1, dim: int = -1) -> Tensor:
    """The running integral of samples y by the trapezoid rule. y: (*S) -> (S with one fewer along dim)."""
    areas, axis = _panels("cumulative_trapezoid", y, x, dx, dim)
    return areas.cumsum(axis)


# ---- numerical derivatives


@public(method=False)
def gradient(input: Tensor, *, spacing: Any = None, dim: Any = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """The derivative of sampled values along each dim by second-order central differences. (*S) -> tuple of (*S).

    spacing: a number, one per dim, or one 1-d tensor of coordinates per dim. edge_order: 1 or 2, the accuracy at the
    ends. Source: Fornberg, Generation of finite difference formulas, Math. Comp. 51 (1988).
    """
    ndim = input.array.ndim
    dims = list(range(ndim)) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    axes = list(axes_of(input, dims))
    given = list(spacing) if isinstance(spacing, (list, tuple)) else [1.0 if spacing is None else spacing] * len(axes)
    if edge_order not in (1, 2):
        raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2.")
    if len(given) != len(axes):
        if dim is None:
            raise RuntimeError(
                "torch.gradient expected spacing to be unspecified, a scalar, or a list of length equal to "
                f"'self.dim() = {ndim}', since dim argument was not given, but got a list of length {len(given)}"
            )
        raise RuntimeError(
            "torch.gradient expected spacing to be unspecified, a scalar or it's spacing and dim arguments to have the "
            f"same length, but got a spacing argument of length {len(given)} and a dim argument of length {len(axes)}."
        )
    for axis in axes:
        if input.array.shape[axis] < edge_order + 1:
            raise RuntimeError("torch.gradient expected each dimension size to be at least edge_order+1")
    return tuple([_derivative(input, axis, step, edge_order) for axis, step in zip(axes, given, strict=True)])


def _derivative(y: Tensor, axis: int, spacing: Any, edge_order: int) -> Tensor:
    n, ndim = y.array.shape[axis], y.array.ndim
    if y.array.dtype.kind in "biu":
        y = to_dtype(y, get_default_dtype())

    def part(t: Tensor, start: int, count: int) -> Tensor:
        return t.narrow(axis if t.array.ndim == ndim else 0, start, count)

    if isinstance(spacing, Tensor):
        if spacing.array.ndim != 1 or spacing.array.shape[0] != n:
            raise RuntimeError(
                "torch.gradient expected each element of spacing to have the same size as the dimension, "
                f"but got {list(spacing.array.shape)} for dimension {axis} of size {n}"
            )
        h = diff(spacing).reshape([-1 if i == axis else 1 for i in range(ndim)])
        slope = diff(y, dim=axis) / h
    else:
        h, slope = None, diff(y, dim=axis) / spacing
    left, right = part(slope, 0, 1), part(slope, n - 2, 1)
    if n == 2:
        return PUBLIC["cat"].function([left, right], axis)
    before, behind = part(slope, 0, n - 2), part(slope, 1, n - 2)
    if h is None:
        inner = (part(y, 2, n - 2) - part(y, 0, n - 2)) / (2 * spacing)
        if edge_order == 2:
            left, right = (3 * left - part(slope, 1, 1)) / 2, (3 * right - part(slope, n - 3, 1)) / 2
    else:
        a, b = part(h, 0, n - 2), part(h, 1, n - 2)
        inner = (before * b + behind * a) / (a + b)
        if edge_order == 2:
            left = left + (left - part(slope, 1, 1)) * part(h, 0, 1) / (part(h, 0, 1) + part(h, 1, 1))
            last, other = part(h, n - 2, 1), part(h, n - 3, 1)
            right = right + (right - part(slope, n - 3, 1)) * last / (last + other)
    return PUBLIC["cat"].function([left, inner, right], axis)
