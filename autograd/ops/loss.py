"""Losses as one op each, the reduction included: "none" gives the elements' losses, "sum" and "mean" one number.

`cross_entropy` of class indices rests on softmax_cross_entropy (softmax.py); the other losses of nn.functional are made
of these and of elementwise ops.
"""

from __future__ import annotations

import math

from ..op import composite, op
from .index import on_host
from .kinds import only
from .reduce import narrow, wide
from .softmax import NO_CLASS, softmax_cross_entropy


def reduced(xp, loss, reduction, x):
    """Elements' losses as `reduction` says, in x's dtype; the mean of none is nan."""
    if reduction != "none":
        total = xp.add.reduce(loss, axis=None)
        loss = divided(total, loss.size) if reduction == "mean" else total
    return narrow(xp.asarray(loss), x)


def divided(total, count):
    """total / count, nan where count is 0."""
    if isinstance(count, (int, float)):
        return total / count if count else total * math.nan
    return total / count  # an array: asking whether it is 0 would wait for its device


def share(g, shape, reduction):
    """The gradient of one element's loss, from that of the reduced loss; it broadcasts to `shape`."""
    return g / max(math.prod(shape), 1) if reduction == "mean" else g


# ---- distances -------------------------------------------------------------------------------------------------------


@op(broadcasts=True, promote="same")
def mse_loss(xp, x, y, *, reduction):
    """(x - y)**2. x: (*S), y: (*T) -> (*broadcast(S, T)) or ()."""
    only("fcV", "mse_cpu", x)
    d = wide(x) - wide(y)
    d *= d
    return reduced(xp, d, reduction, x)


@composite
def mse_loss_backward(F, g, x, y, *, reduction):
    """2 g (x - y), over the count for the mean. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    d = x - y
    return d * (share(g, d.shape, reduction) * 2)


@op(broadcasts=True, promote="same")
def smooth_l1_loss(xp, x, y, *, reduction, beta):
    """d**2 / (2 beta) where d = |x - y| < beta, else d - beta / 2. x: (*S), y: (*T) -> (*broadcast(S, T)) or ()."""
    only("fV", "smooth_l1_cpu", x)
    d = abs(wide(x) - wide(y))
    return reduced(xp, xp.where(d < beta, d * d * (0.5 / beta), d - 0.5 * beta), reduction, x)


@composite
def smooth_l1_loss_backward(F, g, x, y, *, reduction, beta):
    """g times (x - y) / beta kept within -1..1. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    d = x - y
    return F.clamp(d / beta, min=-1.0, max=1.0) * share(g, d.shape, reduction)


@op(broadcasts=True, promote="same")
def huber_loss(xp, x, y, *, reduction, delta):
    """d**2 / 2 where d = |x - y| <= delta, else delta (d - delta / 2). x: (*S), y: (*T) -> (*broadcast(S, T)) or ().

    Huber, Robust estimation of a location parameter, 1964.
    """
    only("fV", "huber_cpu", x)
    d = abs(wide(x) - wide(y))
    return reduced(xp, xp.where(d <= delta, d * d * 0.5, (d - 0.5 * delta) * delta), reduction, x)


@composite
def huber_loss_backward(F, g, x, y, *, reduction, delta):
    """g times x - y kept within -delta..delta. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    d = x - y
    return F.clamp(d, min=-delta, max=delta) * share(g, d.shape, reduction)


mse_loss.vjp(
    x=lambda F, g, *, x, y, reduction: F.mse_loss_backward(g, x, y, reduction=reduction),
    y=lambda F, g, *, x, y, reduction: F.mse_loss_backward(g, y, x, reduction=reduction),
)
smooth_l1_loss.vjp(
    x=lambda F, g, *, x, y, reduction, beta: F.smooth_l1_loss_backward(g, x, y, reduction=reduction, beta=beta),
    y=lambda F, g, *, x, y, reduction, beta: F.smooth_l1_loss_backward(g, y, x, reduction=reduction, beta=beta),
)
huber_loss.vjp(
    x=lambda F, g, *, x, y, reduction, delta: F.huber_loss_backward(g, x, y, reduction=reduction, delta=delta),
    y=lambda F, g, *, x, y, reduction, delta: F.huber_loss_backward(g, y, x, reduction=reduction, delta=delta),
)

# ---- two classes -----------------------------------------------------------------------------------------------------


@op(promote="equal")
def binary_cross_entropy(xp, x, target, weight=None, *, reduction):
    """-weight (target log x + (1 - target) log(1 - x)), logarithms at least -100. All (*S) -> (*S) or ().

    RuntimeError for x or target outside 0..1.
    """
    p, t = wide(x), wide(target)
    for what, a in (("input", p), ("target", t)):
        inside, text = (a >= 0) & (a <= 1), f"all elements of {what} should be between 0 and 1"
        if on_host(xp):
            if not xp.all(inside):
                raise RuntimeError(text)
        else:
            xp.check_index(inside, 1, 2, 2, text, RuntimeError)
    yes, no = xp.maximum(xp.log(p), -100), xp.maximum(xp.log1p(-p), -100)
    loss = (t - 1) * no - t * yes
    return reduced(xp, loss if weight is None else loss * wide(weight), reduction, x)


_EPSILON = 9.999999960041972e-13  # the float32 next to 1e-12, which PyTorch takes for float64 too


@composite
def binary_cross_entropy_backward(F, g, x, target, weight, *, reduction):
    """g weight (x - target) / max(x (1 - x), 1e-12 in float32). x, target, weight: (*S) -> (*S)."""
    slope = (x - target) / F.clamp(x * (1 - x), min=_EPSILON) * share(g, x.shape, reduction)
    return slope if weight is None else slope * weight


@composite
def binary_cross_entropy_target_backward(F, g, x, weight, *, reduction):
    """g weight (log(1 - x) - log x), logarithms at least -100. x, weight: (*S) -> (*S)."""
    slope = F.clamp(F.log1p(-x), min=-100.0) - F.clamp(F.log(x), min=-100.0)
    slope = slope * share(g, x.shape, reduction)
    return slope if weight is None else slope * weight


binary_cross_entropy.vjp(
    x=lambda F, g, *, x, target, weight, reduction: F.binary_cross_entropy_backward(
        g, x, target, weight, reduction=reduction
    ),
    target=lambda F, g, *, x, weight, reduction: F.binary_cross_entropy_target_backward(
        g, x, weight, reduction=reduction
    ),
)


@op(promote="equal")
def binary_cross_entropy_with_logits(xp, x, target, weight=None, pos_weight=None, *, reduction):
    """-weight (pos_weight target log s + (1 - target) log(1 - s)), s = sigmoid(x), without overflow.

    x, target: (*S), weight, pos_weight: broadcast to (*S) -> (*S) or ().
    """
    z, t = wide(x), wide(target)
    tail = xp.log1p(xp.exp(-abs(z)))
    tail -= xp.minimum(z, 0)  # log(1 + exp(-z))
    if pos_weight is not None:
        tail *= (wide(pos_weight) - 1) * t + 1
    loss = (1 - t) * z + tail
    return reduced(xp, loss if weight is None else loss * wide(weight), reduction, x)


@composite
def binary_cross_entropy_with_logits_backward(F, g, x, target, weight, pos_weight, *, reduction):
    """g weight (s - target), with pos_weight p: g weight ((1 - target + p target) s - p target). (*S) -> (*S)."""
    s = F.sigmoid(x)
    if pos_weight is None:
        slope = s - target
    else:
        positive = target * pos_weight
        slope = s * (1 - target + positive) - positive
    slope = slope * share(g, x.shape, reduction)
    return slope if weight is None else slope * weight


@composite
def binary_cross_entropy_with_logits_target_backward(F, g, x, weight, pos_weight, *, reduction):
    """-g weight x, with pos_weight p: g weight (log(1 - s) - p log s). x: (*S) -> (*S)."""
    slope = -x if pos_weight is None else F.logsigmoid(-x) - F.logsigmoid(x) * pos_weight
    slope = slope * share(g, x.shape, reduction)
    return slope if weight is None else slope * weight


binary_cross_entropy_with_logits.vjp(
    x=lambda F, g, *, x, target, weight, pos_weight, reduction: F.binary_cross_entropy_with_logits_backward(
        g, x, target, weight, pos_weight, reduction=reduction
    ),
    target=lambda F, g, *, x, weight, pos_weight, reduction: F.binary_cross_entropy_with_logits_target_backward(
        g, x, weight, pos_weight, reduction=reduction
    ),
)

# ---- several classes -------------------------------------------------------------------------------------------------


@op(index=("target",), aux=("top", "total", "count"), grad_name="NllLoss")
def cross_entropy(xp, logits, target, *, ignore_index, reduction):
    """-log softmax(logits)[target] of the rows whose target is not ignore_index. logits: (*N, C), target: (*N) int.

    -> (*N), 0 where ignored, or (). IndexError for a class outside 0..C-1.
    """
    only("fV", "log_softmax_lastdim_kernel_impl", logits)
    loss, top, total = softmax_cross_entropy.op.generic(xp, logits, target, ignore_index=ignore_index)
    count = _count(xp, target, ignore_index)
    count = count if isinstance(count, int) else count.astype(wide(logits[..., :1]).dtype)
    return *_over_kept(xp, loss, target, ignore_index, reduction, top, total), count


def _count(xp, target, ignore_index):
    """How many targets count: an int, or () on a device whose library leaves it there."""
    kept = target.size - xp.count_nonzero(target == ignore_index)
    return kept.item() if hasattr(xp, "integer") and isinstance(kept, xp.integer) else kept  # a scalar of NumPy's


def _over_kept(xp, loss, target, ignore_index, reduction, *aux):
    if reduction != "none":
        total = xp.add.reduce(wide(loss), axis=None)
        total = divided(total, _count(xp, target, ignore_index)) if reduction == "mean" else total
        loss = narrow(xp.asarray(total), loss)
    return loss, *aux


@composite
def cross_entropy_backward(F, g, logits, target, top, total, count, *, ignore_index, reduction):
    """g (softmax(logits) - onehot(target)), over the count for the mean. g: (*N) or (), logits: (*N, C) -> (*N, C).

    count: an int, or () on the device, which the host does not wait for.
    """
    if reduction == "mean":
        if not isinstance(count, int):
            count = F.clamp(count, min=1.0)  # where no target counts, no row does
        elif not count:  # zeros, whose own gradient by g is the mean over nothing: NaN, as PyTorch
            rows, classes = math.prod(target.shape), logits.shape[-1]
            target = F.reshape(target, shape=(rows,))
            none = F.nll_loss_backward(
                g, target, None, shape=(rows, classes), ignore_index=ignore_index, reduction=reduction
            )
            return F.reshape(none, shape=logits.shape)
        g = g / count
    if reduction != "none":
        g = F.expand(g, shape=target.shape)
    return F.softmax_cross_entropy_backward(g, logits, target, top, total, ignore_index=ignore_index)


cross_entropy.vjp(
    logits=lambda F, g, *, logits, target, top, total, count, ignore_index, reduction: F.cross_entropy_backward(
        g, logits, target, top, total, count, ignore_index=ignore_index, reduction=reduction
    )
)


def _class_weights(xp, target, weight, dtype, ignore_index, count):
    """(weight of each target's class, 0 where ignored; the targets with 0 there). IndexError for no such class."""
    kept = target != ignore_index
    if not on_host(xp):
        target = xp.where(kept, target, 0)
        xp.check_index(target, 0, count, count, NO_CLASS)
    else:
        if not kept.all():
            target = xp.where(kept, target, 0)
        wrong = (target < 0) | (target >= count)
        if wrong.any():
            raise IndexError(NO_CLASS.format(index=int(target[wrong].reshape(-1)[0]), size=count))
    return (kept.astype(dtype) if weight is None else weight[target] * kept), target


@op(index=("target",), promote="equal")
def nll_loss(xp, x, target, weight=None, *, ignore_index, reduction):
    """-weight[target] x[target], the mean over the sum of those weights. x: (N, C, *) or (C,), target: (N, *) or ().

    weight: (C,) -> (N, *) or (). 0 where target is ignore_index; IndexError for a class outside 0..C-1.
    """
    axis = 1 if x.ndim > 1 else 0
    weights, classes = _class_weights(xp, target, weight, x.dtype, ignore_index, x.shape[axis])
    chosen = xp.take_along_axis(x, xp.expand_dims(classes, axis), axis=axis)
    loss = -(wide(xp.squeeze(chosen, axis)) * weights)
    loss = xp.where(target == ignore_index, xp.zeros((), loss.dtype), loss)  # even where x is infinite
    if reduction == "mean":
        total = xp.add.reduce(wide(weights), axis=None)
        loss = divided(xp.add.reduce(loss, axis=None), float(total) if on_host(xp) else total)
    elif reduction == "sum":
        loss = xp.add.reduce(loss, axis=None)
    return narrow(xp.asarray(loss), x)


def _mean_over_nothing(xp, target, ignore_index):
    """What weights of 0 give for each target: nan, 0 where it is ignored. -> target's shape."""
    return xp.where(target == ignore_index, 0, math.nan)


@op(index=("target",))
def nll_loss_backward(xp, g, target, weight=None, *, shape, ignore_index, reduction):
    """The adjoint of nll_loss: zeros with -g weight[target] at the targets. g: (N, *) or () -> shape (N, C, *)."""
    axis = 1 if len(shape) > 1 else 0
    weights, classes = _class_weights(xp, target, weight, g.dtype, ignore_index, shape[axis])
    if reduction == "mean":
        total = xp.add.reduce(wide(weights), axis=None)
        if on_host(xp):
            g = g / float(total) if total else _mean_over_nothing(xp, target, ignore_index)
        else:
            g = xp.where(total == 0, _mean_over_nothing(xp, target, ignore_index), g / total)
    out = xp.zeros(shape, weights.dtype)
    values = xp.expand_dims((-g * weights).astype(out.dtype, copy=False), axis)
    xp.put_along_axis(out, xp.expand_dims(classes, axis), values, axis=axis)
    return out


nll_loss.vjp(
    x=lambda F, g, *, x_shape, target, weight, ignore_index, reduction: F.nll_loss_backward(
        g, target, weight, shape=x_shape, ignore_index=ignore_index, reduction=reduction
    )
)
nll_loss_backward.vjp(
    g=lambda F, h, *, target, weight, ignore_index, reduction: F.nll_loss(
        h, target, weight, ignore_index=ignore_index, reduction=reduction
    )
)
nll_loss_2d = op(
    nll_loss.op.generic, name="nll_loss_2d", index=("target",), promote="equal", grad_name="NllLoss2DBackward0"
)
nll_loss_2d.vjp(x=nll_loss.op.rules["x"])
