"""Activation functions. Each is one op whose rule is one call of a composite, which a backend may serve by one kernel.

They take floating dtypes (relu, hardtanh and threshold integers too); halves are computed in float32.
"""

from __future__ import annotations

import math

from ..op import composite, op
from .elementwise import relu as relu
from .elementwise import relu_backward as relu_backward
from .kinds import only
from .reduce import narrow, wide
from .special import erf


def floating(name, x):
    """x as the dtype to compute in. NotImplementedError for other than floats."""
    only("fV", name, x)
    return wide(x)


# ---- rectifiers ------------------------------------------------------------------------------------------------------


@op()
def threshold(xp, x, *, threshold, value):
    """x where it is larger than threshold, else value. x: (*S) -> (*S)."""
    only("iufV", "threshold", x)
    return xp.where(x <= threshold, xp.asarray(value).astype(x.dtype), x)


threshold.vjp(x=lambda F, g, *, x, threshold: F.zero_where(g, F.le(x, threshold)))


@op()
def leaky_relu(xp, x, *, negative_slope=0.01):
    """x where x > 0, else negative_slope * x. x: (*S) -> (*S)."""
    z = floating("leaky_relu", x)
    choose = xp.maximum if negative_slope <= 1 else xp.minimum
    return narrow(choose(z, z * negative_slope), x)


@composite
def leaky_relu_backward(F, g, x, *, negative_slope):
    """g times 1 where x > 0, else times negative_slope. g, x: (*S) -> (*S)."""
    positive = F.gt(x, 0)
    return F.keep_where(g, positive) + F.zero_where(g, positive) * negative_slope


leaky_relu.vjp(
    x=lambda F, g, *, x, negative_slope: F.leaky_relu_backward(g, x, negative_slope=negative_slope)
)


@op(broadcasts=True, promote="equal", grad_name="PreluKernel")
def prelu(xp, x, w):
    """x where x > 0, else w * x. x: (*S), w: (*T), already shaped to broadcast -> (*broadcast(S, T))."""
    only("fV", "prelu", x)
    return xp.where(x > 0, x, x * w)


prelu.vjp(
    x=lambda F, g, *, x, w: F.keep_where(g, F.gt(x, 0)) + F.zero_where(g, F.gt(x, 0)) * w,
    w=lambda F, g, *, x: F.zero_where(g * x, F.gt(x, 0)),
)


@op(promote="equal", grad_name="RreluWithNoise")
def rrelu(xp, x, noise):
    """x where x > 0, else noise * x: rrelu with its slopes drawn before. x, noise: (*S) -> (*S)."""
    only("fV", "rrelu", x)
    return xp.where(x > 0, x, x * noise)


rrelu.vjp(x=lambda F, g, *, x, noise: F.keep_where(g, F.gt(x, 0)) + F.zero_where(g, F.gt(x, 0)) * noise)


@op()
def elu(xp, x, *, alpha=1.0, scale=1.0, input_scale=1.0):
    """scale * (x where x > 0, else alpha * (exp(x * input_scale) - 1)). x: (*S) -> (*S).

    selu: alpha 1.6732632423543772, scale 1.0507009873554805; celu: input_scale 1 / alpha.
    """
    z = floating("elu", x)
    low = xp.expm1(xp.minimum(0, z) * input_scale)
    low *= alpha * scale
    return narrow(xp.where(z > 0, z * scale, low), x)


@composite
def elu_backward(F, g, x, *, alpha, scale, input_scale):
    """g times the derivative of elu at x, the left one at 0. g, x: (*S) -> (*S)."""
    high = F.gt(x, 0)  # False for NaN, whose gradient is NaN
    slope = F.exp(F.clamp(x, max=0) * input_scale) * (alpha * scale * input_scale)
    return F.keep_where(g, high) * scale + F.zero_where(g * slope, high)


elu.vjp(
    x=lambda F, g, *, x, alpha, scale, input_scale: F.elu_backward(
        g, x, alpha=alpha, scale=scale, input_scale=input_scale
    )
)

# ---- smooth ----------------------------------------------------------------------------------------------------------

_GELU_SCALE, _GELU_CUBE = math.sqrt(2 / math.pi), 0.044715


@op()
def gelu(xp, x, *, approximate="none"):
    """x times the normal distribution function at x, exactly or by tanh. x: (*S) -> (*S).

    D. Hendrycks and K. Gimpel, "Gaussian error linear units" (2016), arXiv:1606.08415.
    """
    z = floating("gelu", x)
    if approximate == "tanh":
        return narrow(z * 0.5 * (1 + xp.tanh(z * (1 + z * z * _GELU_CUBE) * _GELU_SCALE)), x)
    return narrow(z * 0.5 * (1 + erf.op.generic(xp, z * math.sqrt(0.5))), x)


@composite
def gelu_backward(F, g, x, *, approximate):
    """g times the derivative of gelu at x. g, x: (*S) -> (*S)."""
    if approximate == "tanh":
        square = x * x
        t = F.tanh(x * (1 + square * _GELU_CUBE) * _GELU_SCALE)
        inner = (1 + square * (3 * _GELU_CUBE)) * _GELU_SCALE
        return g * ((1 + t) * 0.5 + x * (1 - t * t) * inner * 0.5)
    distribution = (1 + F.erf(x * math.sqrt(0.5))) * 0.5
    density = F.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    return g * (distribution + x * density)


gelu.vjp(x=lambda F, g, *, x, approximate: F.gelu_backward(g, x, approximate=approximate))


@op()
def silu(xp, x):
    """x * sigmoid(x). x: (*S) -> (*S)."""
    z = floating("silu", x)
    return narrow(z / (1 + xp.exp(-z)), x)


@composite
def silu_backward(F, g, x):
    """g times the derivative of silu at x. g, x: (*S) -> (*S)."""
    s = F.sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


silu.vjp(x=lambda F, g, *, x: F.silu_backward(g, x))


@op()
def mish(xp, x):
    """x * tanh(log(1 + exp(x))). x: (*S) -> (*S). D. Misra (2019), arXiv:1908.08681."""
    z = floating("mish", x)
    return narrow(z * xp.tanh(xp.log1p(xp.exp(z))), x)


@composite
def mish_backward(F, g, x):
    """g times the derivative of mish at x. g, x: (*S) -> (*S)."""
    t = F.tanh(F.softplus(x, beta=1.0, threshold=20.0))
    return g * (t + x * F.sigmoid(x) * (1 - t * t))


mish.vjp(x=lambda F, g, *, x: F.mish_backward(g, x))


@op()
def softplus(xp, x, *, beta=1.0, threshold=20.0):
    """log(1 + exp(beta * x)) / beta, and x where beta * x > threshold. x: (*S) -> (*S)."""
    z = floating("softplus", x)
    scaled = z * beta
    return narrow(xp.where(scaled > threshold, z, xp.log1p(xp.exp(scaled)) / beta), x)


@composite
def softplus_backward(F, g, x, *, beta, threshold):
    """g times the derivative of softplus at x. g, x: (*S) -> (*S)."""
    scaled = x * beta
    linear = F.gt(scaled, threshold)
    return F.keep_where(g, linear) + F.zero_where(g * F.sigmoid(scaled), linear)


softplus.vjp(x=lambda F, g, *, x, beta, threshold: F.softplus_backward(g, x, beta=beta, threshold=threshold))


@op(grad_name="LogSigmoid")
def logsigmoid(xp, x):
    """log(sigmoid(x)). x: (*S) -> (*S)."""
    z = floating("logsigmoid", x)
    return narrow(xp.minimum(z, 0) - xp.log1p(xp.exp(-xp.absolute(z))), x)


@composite
def logsigmoid_backward(F, g, x):
    """g * sigmoid(-x). g, x: (*S) -> (*S)."""
    return g * F.sigmoid(-x)


logsigmoid.vjp(x=lambda F, g, *, x: F.logsigmoid_backward(g, x))


@op(grad_name="DivBackward0")
def softsign(xp, x):
    """x / (1 + |x|). x: (*S) -> (*S)."""
    z = floating("softsign", x)
    return narrow(z / (1 + xp.absolute(z)), x)


@composite
def softsign_backward(F, g, x):
    """g / (1 + |x|)**2. g, x: (*S) -> (*S)."""
    d = 1 + F.abs(x)
    return g / (d * d)


softsign.vjp(x=lambda F, g, *, x: F.softsign_backward(g, x))


@op(grad_name="SubBackward0")
def tanhshrink(xp, x):
    """x - tanh(x). x: (*S) -> (*S)."""
    z = floating("tanhshrink", x)
    return narrow(z - xp.tanh(z), x)


@composite
def tanhshrink_backward(F, g, x):
    """g * tanh(x)**2. g, x: (*S) -> (*S)."""
    t = F.tanh(x)
    return g * (t * t)


tanhshrink.vjp(x=lambda F, g, *, x: F.tanhshrink_backward(g, x))

# ---- in pieces -------------------------------------------------------------------------------------------------------


@op()
def hardtanh(xp, x, *, min_val=-1.0, max_val=1.0):
    """x brought into [min_val, max_val]; relu6 is that of 0 and 6. x: (*S) -> (*S). The gradient at a bound is 0."""
    only("iufV", "hardtanh", x)
    return narrow(xp.minimum(max_val, xp.maximum(min_val, x)), x)


@composite
def hardtanh_backward(F, g, x, *, min_val, max_val):
    """g where min_val < x < max_val, else 0. g, x: (*S) -> (*S)."""
    return F.keep_where(g, F.logical_and(F.gt(x, min_val), F.lt(x, max_val)))


hardtanh.vjp(x=lambda F, g, *, x, min_val, max_val: F.hardtanh_backward(g, x, min_val=min_val, max_val=max_val))


@op()
def hardsigmoid(xp, x):
    """(x + 3) / 6 brought into [0, 1]. x: (*S) -> (*S)."""
    z = floating("hardsigmoid", x)
    return narrow(xp.minimum(xp.maximum(z + 3, 0), 6) / 6, x)


@composite
def hardsigmoid_backward(F, g, x):
    """g / 6 where -3 < x < 3, else 0. g, x: (*S) -> (*S)."""
    return F.keep_where(g, F.logical_and(F.gt(x, -3), F.lt(x, 3))) / 6


hardsigmoid.vjp(x=lambda F, g, *, x: F.hardsigmoid_backward(g, x))


@op()
def hardswish(xp, x):
    """x * (x + 3) / 6, with (x + 3) / 6 brought into [0, 1]. x: (*S) -> (*S)."""
    z = floating("hardswish", x)
    return narrow(z * xp.minimum(xp.maximum(z + 3, 0), 6) / 6, x)


@composite
def hardswish_backward(F, g, x):
    """g times 0 for x <= -3, x / 3 + 1/2 between, 1 for x >= 3. g, x: (*S) -> (*S)."""
    high = F.ge(x, 3)
    return F.keep_where(g, high) + F.zero_where(g * (x / 3 + 0.5), F.logical_or(F.le(x, -3), high))


hardswish.vjp(x=lambda F, g, *, x: F.hardswish_backward(g, x))


@composite
def shrink_backward(F, g, x, *, lambd):
    """g where |x| > lambd, else 0. g, x: (*S) -> (*S)."""
    return F.keep_where(g, F.gt(F.abs(x), lambd))


@op()
def softshrink(xp, x, *, lambd=0.5):
    """x moved by lambd towards 0, and 0 where |x| <= lambd. x: (*S) -> (*S). RuntimeError for a negative lambd."""
    only("fV", "softshrink", x)
    if not lambd >= 0:
        raise RuntimeError(f"lambda must be in range [0, {xp.finfo(x.dtype).max:.6g}], but found {lambd}")
    return x - narrow(xp.minimum(xp.maximum(x, -lambd), lambd), x)


@op()
def hardshrink(xp, x, *, lambd=0.5):
    """x, and 0 where |x| <= lambd. x: (*S) -> (*S)."""
    only("fV", "hardshrink", x)
    return xp.where(xp.absolute(x) <= lambd, 0, x)


for _op in (softshrink, hardshrink):
    _op.vjp(x=lambda F, g, *, x, lambd: F.shrink_backward(g, x, lambd=lambd))


@composite
def glu(F, x, *, axis):
    """The first half along an axis times the sigmoid of the second. x: (*S), S[axis] even -> (S, axis halved)."""
    n = x.shape[axis] // 2
    lead = (slice(None),) * axis
    return F.slice_view(x, index=(*lead, slice(None, n))) * F.sigmoid(F.slice_view(x, index=(*lead, slice(n, None))))
