"""Reductions. `axis`: a tuple of non-negative ints, each once; `keepdims` keeps them with size 1.

NumPy and CuPy accumulate float16 in float16; PyTorch does in float32, and so do these.
"""

from __future__ import annotations

import math

from ..op import composite, op


def wide(x):
    """The array in the dtype in which its sums are to be formed: float32 for the 2-byte floats."""
    return x.astype("f4") if x.dtype.itemsize == 2 and x.dtype.kind in "fV" else x


def narrow(out, x):
    """The result of `wide(x)` in the dtype of x."""
    return out if out.dtype == x.dtype else out.astype(x.dtype)


def reduced_count(x, axis):
    """How many elements are reduced to one."""
    return math.prod([x.shape[i] for i in axis])


@composite
def restore_axes(F, g, *, shape, axis, keepdims):
    """A reduction's gradient spread again over what it reduced. g: (reduced S) -> (*shape)."""
    return F.expand(F.kept_axes(g, shape=shape, axis=axis, keepdims=keepdims), shape=shape)


@composite
def kept_axes(F, g, *, shape, axis, keepdims):
    """A reduction's result with the reduced dimensions as size 1, so that it broadcasts. g: (reduced S) -> (kept S)."""
    if keepdims:
        return g
    return F.reshape(g, shape=tuple([1 if i in axis else n for i, n in enumerate(shape)]))


# ---- sums and means


def _folded(fold, x, axis, keepdims):
    """add or multiply over axis; integers and bool in int64."""
    if x.dtype.kind in "iub":
        return fold.reduce(x, axis=axis, keepdims=keepdims, dtype="i8")
    return narrow(fold.reduce(wide(x), axis=axis, keepdims=keepdims), x)


@op(grad_name="SumBackward0")
def sum_all(xp, x):
    """Sum of all elements, of integers and bool as int64. x: (*S) -> ()."""
    return _folded(xp.add, x, None, False)


sum_all.vjp(x=lambda F, g, *, x_shape: F.expand(g, shape=x_shape))


@op(grad_name="SumBackward1", row_major=True)
def sum(xp, x, *, axis, keepdims):
    """Sum over axis, of integers and bool as int64. x: (*S) -> (S without axis)."""
    return _folded(xp.add, x, axis, keepdims)


sum.vjp(x=lambda F, g, *, x_shape, axis, keepdims: F.restore_axes(g, shape=x_shape, axis=axis, keepdims=keepdims))


@op(grad_name="MeanBackward0")
def mean_all(xp, x):
    """Mean of all elements; nan for none. x: (*S) -> ()."""
    if not x.size:
        return xp.full((), math.nan, x.dtype)
    return narrow(xp.add.reduce(wide(x), axis=None) / x.size, x)


mean_all.vjp(x=lambda F, g, *, x_shape: F.expand(g / math.prod(x_shape), shape=x_shape))


@op(grad_name="MeanBackward1", row_major=True)
def mean(xp, x, *, axis, keepdims):
    """Mean over axis; nan for no elements. x: (*S) -> (S without axis)."""
    n = reduced_count(x, axis)
    total = xp.add.reduce(wide(x), axis=axis, keepdims=keepdims)
    return narrow(total / n if n else xp.full_like(total, math.nan), x)


mean.vjp(
    x=lambda F, g, *, x_shape, axis, keepdims: F.restore_axes(
        g / math.prod([x_shape[i] for i in axis]), shape=x_shape, axis=axis, keepdims=keepdims
    )
)


@op(row_major=True)
def nansum(xp, x, *, axis, keepdims):
    """Sum over axis with nan counted as 0. x: (*S) -> (S without axis)."""
    x = xp.where(x != x, xp.zeros((), x.dtype), x)
    return narrow(xp.add.reduce(wide(x), axis=axis, keepdims=keepdims), x)


nansum.vjp(
    x=lambda F, g, *, x, axis, keepdims: F.restore_axes(g, shape=x.shape, axis=axis, keepdims=keepdims) * F.not_nan(x)
)


@op()
def not_nan(xp, x):
    """1 where x is a number, 0 where it is nan. x: (*S) -> (*S)."""
    return (x == x).astype(x.dtype)


# ---- products


@op(grad_name="ProdBackward0", holomorphic=True)
def prod_all(xp, x):
    """Product of all elements, of integers and bool as int64. x: (*S) -> ()."""
    return _folded(xp.multiply, x, None, False)


prod_all.vjp(
    x=lambda F, g, *, x, out: F.reshape(
        F.prod_backward(g, F.reshape(x, shape=(-1,)), out, axis=0, keepdims=False), shape=x.shape
    )
)


@op(grad_name="ProdBackward1", holomorphic=True, row_major=True)
def prod(xp, x, *, axis, keepdims):
    """Product over one dimension, axis: an int; of integers as int64. x: (*S) -> (S without axis)."""
    return _folded(xp.multiply, x, axis, keepdims)


prod.vjp(x=lambda F, g, *, x, out, axis, keepdims: F.prod_backward(g, x, out, axis=axis, keepdims=keepdims))


@composite
def prod_backward(F, g, x, out, *, axis, keepdims):
    """g times the product of the other elements, right where some are 0. g, out: (S without axis), x: (*S) -> (*S).

    The product of the others is that of those before times that of those behind: no division, at any order.
    """
    before = F.shift(F.cumprod(x, axis=axis), axis=axis, by=1, fill=1)
    behind = F.shift(F.cumprod(x, axis=axis, reverse=True), axis=axis, by=-1, fill=1)
    return F.kept_axes(g, shape=x.shape, axis=(axis,), keepdims=keepdims) * before * behind


# ---- variance


def _moments(xp, x, axis, correction):
    """(variance, mean, divisor) with the reduced dimensions kept; complex: of the distance from the mean."""
    work = wide(x)
    n = reduced_count(x, axis)
    total = xp.add.reduce(work, axis=axis, keepdims=True)
    mean = total / n if n else xp.full_like(total, math.nan)
    centred = work - mean
    squares = centred.real**2 + centred.imag**2 if x.dtype.kind == "c" else centred * centred
    squares = xp.add.reduce(squares, axis=axis, keepdims=True)
    divisor = max(n - correction, 0)
    if divisor > 0:
        return squares / divisor, mean
    return xp.where(squares > 0, xp.full_like(squares, math.inf), xp.full_like(squares, math.nan)), mean


def _finished(xp, x, axis, keepdims, *kept):
    """Results that kept their reduced dimensions, in x's (real) dtype and without those if not keepdims."""
    done = []
    for r in kept:
        if r.dtype.itemsize == 4 and x.dtype.itemsize == 2:
            r = r.astype(x.dtype)
        done.append(r if keepdims else xp.squeeze(r, axis=axis))
    return done[0] if len(done) == 1 else tuple(done)


@op(row_major=True)
def var(xp, x, *, axis, correction, keepdims):
    """Variance over axis with divisor max(n - correction, 0). x: (*S) -> (S without axis), real."""
    return _finished(xp, x, axis, keepdims, _moments(xp, x, axis, correction)[0])


var.vjp(
    x=lambda F, g, *, x, axis, correction, keepdims: F.var_backward(
        g, x, axis=axis, correction=correction, keepdims=keepdims
    )
)


@composite
def var_backward(F, g, x, *, axis, correction, keepdims):
    """2 g (x - mean(x)) / (n - correction). g: (S without axis), x: (*S) -> (*S)."""
    free = math.prod([x.shape[i] for i in axis]) - correction
    scale = 2 / free if free else math.inf
    return F.kept_axes(g * scale, shape=x.shape, axis=axis, keepdims=keepdims) * (
        x - F.mean(x, axis=axis, keepdims=True)
    )


@op(row_major=True)
def std(xp, x, *, axis, correction, keepdims):
    """Standard deviation over axis. x: (*S) -> (S without axis), real."""
    return _finished(xp, x, axis, keepdims, xp.sqrt(_moments(xp, x, axis, correction)[0]))


std.vjp(
    x=lambda F, g, *, x, out, axis, correction, keepdims: F.var_backward(
        F.divide_or_zero(g, 2 * out), x, axis=axis, correction=correction, keepdims=keepdims
    )
)


@composite
def divide_or_zero(F, g, y):
    """g / y, and 0 where y is 0: the gradient PyTorch gives at the kink of a root. g, y: (*S) -> (*S)."""
    zero = y == 0
    return F.zero_where(g / F.where(zero, F.ones_like(y), y), zero)


@op(outputs=("var", "mean"), row_major=True)
def var_mean(xp, x, *, axis, correction, keepdims):
    """Variance and mean over axis. x: (*S) -> two of (S without axis)."""
    return _finished(xp, x, axis, keepdims, *_moments(xp, x, axis, correction))


@op(outputs=("std", "mean"), row_major=True)
def std_mean(xp, x, *, axis, correction, keepdims):
    """Standard deviation and mean over axis. x: (*S) -> two of (S without axis)."""
    variance, mean = _moments(xp, x, axis, correction)
    return _finished(xp, x, axis, keepdims, xp.sqrt(variance), mean)


def _spread_mean(F, g, total, shape, axis, keepdims):
    """`total` plus the gradient of the mean, where there is one."""
    if g is None:
        return total
    g = F.restore_axes(g / math.prod([shape[i] for i in axis]), shape=shape, axis=axis, keepdims=keepdims)
    return g if total is None else total + g


var_mean.vjp(
    x=lambda F, g, *, x, axis, correction, keepdims: _spread_mean(
        F,
        g[1],
        None if g[0] is None else F.var_backward(g[0], x, axis=axis, correction=correction, keepdims=keepdims),
        x.shape,
        axis,
        keepdims,
    )
)
std_mean.vjp(
    x=lambda F, g, *, x, out, axis, correction, keepdims: _spread_mean(
        F,
        g[1],
        None
        if g[0] is None
        else F.var_backward(F.divide_or_zero(g[0], 2 * out[0]), x, axis=axis, correction=correction, keepdims=keepdims),
        x.shape,
        axis,
        keepdims,
    )
)


# ---- extremes


@op()
def tie_shares(xp, x, out, *, axis, keepdims, nan_ties=False):
    """1 / (how many elements equal the result) at those, else 0. x: (*S), out: (S without axis) -> (*S).

    nan_ties: nan equals nan; otherwise a result of nan gives nan everywhere.
    """
    if not keepdims:
        out = out.reshape(tuple([1 if i in axis else n for i, n in enumerate(x.shape)]))
    same = x == out
    if nan_ties:
        same = same | ((x != x) & (out != out))
    count = xp.add.reduce(same, axis=axis, keepdims=True, dtype="i8")
    share = xp.where(count == 0, xp.asarray(math.nan, dtype=x.dtype), 1 / xp.maximum(count, 1))
    return (same * share).astype(x.dtype)


def _shared(F, g, *, x, out, axis, keepdims):
    return F.kept_axes(g, shape=x.shape, axis=axis, keepdims=keepdims) * F.tie_shares(
        x, out, axis=axis, keepdims=keepdims
    )


def shared_by_all(F, g, *, x, out):
    axis = tuple(range(len(x.shape)))
    return F.kept_axes(g, shape=x.shape, axis=axis, keepdims=False) * F.tie_shares(
        x, out, axis=axis, keepdims=False, nan_ties=True
    )


@op(grad_name="MaxBackward1")
def max_all(xp, x):
    """The largest element, nan if there is one; the gradient is split among ties. x: (*S) -> ()."""
    return xp.max(x)


@op(grad_name="MinBackward1")
def min_all(xp, x):
    """The smallest element, nan if there is one; the gradient is split among ties. x: (*S) -> ()."""
    return xp.min(x)


@op(row_major=True)
def amax(xp, x, *, axis, keepdims):
    """Maximum over axis; the gradient is split among ties. x: (*S) -> (S without axis)."""
    return xp.max(x, axis=axis, keepdims=keepdims)


@op(row_major=True)
def amin(xp, x, *, axis, keepdims):
    """Minimum over axis; the gradient is split among ties. x: (*S) -> (S without axis)."""
    return xp.min(x, axis=axis, keepdims=keepdims)


max_all.vjp(x=shared_by_all)
min_all.vjp(x=shared_by_all)
amax.vjp(x=_shared)
amin.vjp(x=_shared)


@op(outputs=("min", "max"), row_major=True)
def aminmax(xp, x, *, axis, keepdims):
    """Minimum and maximum over axis. x: (*S) -> two of (S without axis)."""
    return xp.min(x, axis=axis, keepdims=keepdims), xp.max(x, axis=axis, keepdims=keepdims)


def _shared_pair(F, g, *, x, out, axis, keepdims):
    parts = [
        _shared(F, h, x=x, out=o, axis=axis, keepdims=keepdims) for h, o in zip(g, out, strict=True) if h is not None
    ]
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


aminmax.vjp(x=_shared_pair)


@op(outputs=("values", "indices"), grad_name="MaxBackward0", row_major=True)
def max_dim(xp, x, *, axis, keepdims):
    """Maximum over one dimension (axis: an int) and its first index. x: (*S) -> two of (S without axis)."""
    return _with_index(xp, x, xp.argmax(x, axis=axis), axis, keepdims)


@op(outputs=("values", "indices"), grad_name="MinBackward0", row_major=True)
def min_dim(xp, x, *, axis, keepdims):
    """Minimum over one dimension (axis: an int) and its first index. x: (*S) -> two of (S without axis)."""
    return _with_index(xp, x, xp.argmin(x, axis=axis), axis, keepdims)


def _with_index(xp, x, index, axis, keepdims):
    index = xp.expand_dims(index, axis)
    values = xp.take_along_axis(x, index, axis=axis)
    return (values, index) if keepdims else (xp.squeeze(values, axis), xp.squeeze(index, axis))


@composite
def unpick(F, g, index, *, shape, axis, keepdims):
    """Zeros with g added at the places that index names along axis. g, index: (S without axis) -> (*shape)."""
    g = F.kept_axes(g, shape=shape, axis=(axis,), keepdims=keepdims)
    index = F.kept_axes(index, shape=shape, axis=(axis,), keepdims=keepdims)
    return F.gather_backward(g, index, shape=shape, axis=axis)


def selected(F, g, *, x_shape, out, axis, keepdims):
    """The rule of ops that pick one element per slice: the gradient goes to that element."""
    return F.unpick(g[0], out[1], shape=x_shape, axis=axis, keepdims=keepdims)


max_dim.vjp(x=selected)
min_dim.vjp(x=selected)


@op(row_major=True)
def argmax(xp, x, *, axis, keepdims):
    """The first index of the maximum over axis (an int; None: flattened). x: (*S) -> (S without axis)."""
    return xp.argmax(x, axis=axis, keepdims=keepdims)


@op(row_major=True)
def argmin(xp, x, *, axis, keepdims):
    """The first index of the minimum over axis (an int; None: flattened). x: (*S) -> (S without axis)."""
    return xp.argmin(x, axis=axis, keepdims=keepdims)


# ---- truth and counts


@op(row_major=True)
def any(xp, x, *, axis, keepdims):
    """Whether some element is true (not 0); uint8 stays uint8. x: (*S) -> (S without axis), bool."""
    out = xp.any(x, axis=axis, keepdims=keepdims)
    return out.astype(x.dtype) if x.dtype == "u1" else out


@op(row_major=True)
def all(xp, x, *, axis, keepdims):
    """Whether all elements are true (not 0); uint8 stays uint8. x: (*S) -> (S without axis), bool."""
    out = xp.all(x, axis=axis, keepdims=keepdims)
    return out.astype(x.dtype) if x.dtype == "u1" else out


@op(row_major=True)
def count_nonzero(xp, x, *, axis):
    """How many elements are not 0. x: (*S) -> (S without axis), int64."""
    return xp.add.reduce(x != 0, axis=axis, dtype="i8")


# ---- norms and logarithms of sums


@op(grad_name="LinalgVectorNorm", row_major=True)
def vector_norm(xp, x, *, p, axis, keepdims):
    """(sum |x|**p)**(1/p) over axis; p = 0 counts, p = inf, -inf are extremes. x: (*S) real -> (S without axis)."""
    work = xp.abs(wide(x))
    if p == math.inf or p == -math.inf:
        out = (xp.max if p > 0 else xp.min)(work, axis=axis, keepdims=keepdims)
    elif p == 0:
        out = xp.add.reduce(work != 0, axis=axis, keepdims=keepdims, dtype=work.dtype)
    elif p == 1:
        out = xp.add.reduce(work, axis=axis, keepdims=keepdims)
    elif p == 2:
        out = xp.sqrt(xp.add.reduce(work * work, axis=axis, keepdims=keepdims))
    else:
        out = xp.add.reduce(work**p, axis=axis, keepdims=keepdims) ** (1 / p)
    return narrow(out, x)


vector_norm.vjp(
    x=lambda F, g, *, x, out, p, axis, keepdims: F.vector_norm_backward(g, x, out, p=p, axis=axis, keepdims=keepdims)
)


@composite
def vector_norm_backward(F, g, x, out, *, p, axis, keepdims):
    """g times the derivative of the norm, 0 where the norm is 0. g, out: (S without axis), x: (*S) -> (*S)."""
    g = F.kept_axes(g, shape=x.shape, axis=axis, keepdims=keepdims)
    if p == 0:
        return F.zeros_like(x)
    if p == 1:
        return g * F.sign(x)
    if p == math.inf or p == -math.inf:
        size = F.abs(x)
        return g * F.sign(x) * F.tie_shares(size, out, axis=axis, keepdims=keepdims, nan_ties=True)
    out = F.kept_axes(out, shape=x.shape, axis=axis, keepdims=keepdims)
    if p == 2:
        return x * F.divide_or_zero(g, out)
    # |x / out|**(p-1) rather than a quotient of powers, which overflow
    none = out == 0
    ratio = F.abs(F.where(F.logical_or(x == 0, none), F.ones_like(x), x)) / F.where(none, F.ones_like(out), out)
    return F.zero_where(g * F.sign(x) * ratio ** (p - 1), none)


@op(holomorphic=True, row_major=True)
def logsumexp(xp, x, *, axis, keepdims):
    """log(sum(exp(x))) over axis without overflow; -inf for no elements. x: (*S) -> (S without axis)."""
    work = wide(x)
    if not reduced_count(x, axis):
        return xp.full_like(xp.add.reduce(x, axis=axis, keepdims=keepdims), -math.inf)
    top = xp.max(work.real if x.dtype.kind == "c" else work, axis=axis, keepdims=True)
    # a row of -inf, or one with inf, needs no shift: inf - inf would be nan
    top = xp.where(abs(top) == math.inf, xp.zeros((), top.dtype), top)
    out = xp.log(xp.add.reduce(xp.exp(work - top), axis=axis, keepdims=True)) + top
    return narrow(out if keepdims else xp.squeeze(out, axis), x)


logsumexp.vjp(
    x=lambda F, g, *, x, out, axis, keepdims: (
        F.kept_axes(g, shape=x.shape, axis=axis, keepdims=keepdims)
        * F.exp(x - F.kept_axes(out, shape=x.shape, axis=axis, keepdims=keepdims))
    )
)
