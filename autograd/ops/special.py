"""Special functions, from rational approximations and asymptotic series in double precision.

Each kernel works in float64 (float32 and halves are widened, so they are right to the last bit but one), element by
element in the branch it needs. NumPy and CuPy have none of these; SciPy would be a dependency.
"""

from __future__ import annotations

import math

from ..op import composite, op
from .kinds import only
from .reduce import narrow, wide


def polynomial(x, coefficients):
    """Horner's scheme, lowest power first. x: (*S) -> (*S)."""
    out = x * coefficients[-1] + coefficients[-2]
    for c in coefficients[-3::-1]:
        out *= x
        out += c
    return out


def by_parts(xp, x, parts):
    """One function of the elements under each mask; NaN elsewhere. x: (*S), parts: (mask (*S), function) -> (*S)."""
    out = xp.full(x.shape, math.nan)
    for mask, function in parts:
        if mask.any():
            out[mask] = function(x[mask])
    return out


def in_double(name, kernel, xp, x):
    """The kernel on float64, its result in x's dtype. Integers never come here: promotion makes them float."""
    only("fV", name, x)
    return kernel(xp, xp.asarray(x).astype("f8", copy=False)).astype(x.dtype, copy=False)


def single_or_double(name, x):
    """x; NotImplementedError for the 2-byte floats, which PyTorch's kernel of that name does not take."""
    only("f" if x.dtype.itemsize > 2 else "", name, x)
    return x


# ---- the error function ----------------------------------------------------------------------------------------------

# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969): numerators and
# denominators for |x| < 0.47, up to 4, and beyond, lowest power first.
_ERF_SMALL = (
    (3209.37758913846947, 377.485237685302021, 113.864154151050156, 3.16112374387056560, 0.185777706184603153),
    (2844.23683343917062, 1282.61652607737228, 244.024637934444173, 23.6012909523441209, 1.0),
)
_ERFC_MIDDLE = (
    (
        1230.33935479799725, 2051.07837782607147, 1712.04761263407058, 881.952221241769090, 298.635138197400131,
        66.1191906371416295, 8.88314979438837594, 0.564188496988670089, 2.15311535474403846e-8,
    ),
    (
        1230.33935480374942, 3439.36767414372164, 4362.61909014324716, 3290.79923573345963, 1621.38957456669019,
        537.181101862009858, 117.693950891312499, 15.7449261107098347, 1.0,
    ),
)  # fmt: skip
_ERFC_LARGE = (
    (
        6.58749161529837803e-4, 1.60837851487422766e-2, 0.125781726111229246, 0.360344899949804439,
        0.305326634961232344, 1.63153871373020978e-2,
    ),
    (
        2.33520497626869185e-3, 6.05183413124413191e-2, 0.527905102951428412, 1.87295284992346725, 2.56852019228982242,
        1.0,
    ),
)  # fmt: skip

# atanh(erf(x)) / x as a rational function of x**2 for |x| < 4, fitted to 1e-7 (relative, least maximum).
_ERF_SINGLE = (
    (1.12837923, 0.314765137, 0.0523245703, 0.00322934867, 1.78359051e-05),
    (1.0, 0.187872898, 0.0294491619, 0.000731571733),
)


def _quotient(x, numerator_denominator):
    numerator, denominator = numerator_denominator
    return polynomial(x, numerator) / polynomial(x, denominator)


def _exp_minus_square(xp, x):
    """exp(-x*x) without the rounding error of the square: x = a + d with a of few bits."""
    a = xp.trunc(x * 16) / 16
    return xp.exp(-a * a) * xp.exp(-(x - a) * (x + a))


def _erfcx_positive(xp, x):
    """exp(x*x) erfc(x) for x > 0.46. x: (n,) -> (n,)."""
    large = x > 4

    def tail(x):
        z = 1 / (x * x)
        return (1 / math.sqrt(math.pi) - z * _quotient(z, _ERFC_LARGE)) / x

    return by_parts(xp, x, [(~large, lambda x: _quotient(x, _ERFC_MIDDLE)), (large, tail)])


def _erfc_positive(xp, x):
    """erfc for x > 0.46. x: (n,) -> (n,)."""
    x = xp.minimum(x, 30)
    return _exp_minus_square(xp, x) * _erfcx_positive(xp, x)


def _erf_small(x):
    return x * _quotient(x * x, _ERF_SMALL)


def _erf(xp, x):
    small = xp.absolute(x) <= 0.46875
    return by_parts(
        xp,
        x,
        [
            (small, _erf_small),
            (~small & (x == x), lambda x: xp.copysign(1 - _erfc_positive(xp, xp.absolute(x)), x)),
        ],
    )


def _erf_single(xp, x):
    """erf in float32, to 5 units in the last place: one formula without branches, and never beyond 1."""
    x = xp.minimum(xp.maximum(x, -4), 4)
    return xp.tanh(x * _quotient(x * x, _ERF_SINGLE))


@op(promote="float", public="inplace")
def erf(xp, x):
    """2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x. x: (*S) -> (*S)."""
    if x.dtype.itemsize == 8:
        return in_double("erf", _erf, xp, x)
    only("fV", "erf", x)
    return narrow(_erf_single(xp, wide(x)), x)


def _erfc(xp, x):
    small = xp.absolute(x) <= 0.46875
    return by_parts(
        xp,
        x,
        [
            (small, lambda x: 1 - _erf_small(x)),
            (x > 0.46875, lambda x: _erfc_positive(xp, x)),
            (x < -0.46875, lambda x: 2 - _erfc_positive(xp, -x)),
        ],
    )


@op(promote="float", public="inplace")
def erfc(xp, x):
    """1 - erf(x), accurate for large x. x: (*S) -> (*S)."""
    return in_double("erfc", _erfc, xp, x)


def _erfcx(xp, x):
    return by_parts(
        xp,
        x,
        [
            (xp.absolute(x) <= 0.46875, lambda x: xp.exp(x * x) * (1 - _erf_small(x))),
            (x > 0.46875, lambda x: _erfcx_positive(xp, x)),
            (x < -0.46875, lambda x: 2 / _exp_minus_square(xp, xp.maximum(x, -30)) - _erfcx_positive(xp, -x)),
        ],
    )


@op(promote="float", public="special", grad_name="SpecialErfcx")
def erfcx(xp, x):
    """exp(x**2) erfc(x), without overflow for large x. x: (*S) -> (*S), float32 or float64."""
    return in_double("erfcx", _erfcx, xp, single_or_double("erfcx", x))


erfcx.vjp(x=lambda F, g, *, x, out: g * (2 * x * out - 2 / math.sqrt(math.pi)))
erf.vjp(x=lambda F, g, *, x: g * (F.exp(-x * x) * (2 / math.sqrt(math.pi))))
erfc.vjp(x=lambda F, g, *, x: g * (F.exp(-x * x) * (-2 / math.sqrt(math.pi))))

# M. J. Wichura, "Algorithm AS 241: The percentage points of the normal distribution", Applied Statistics 37 (1988).
_QUANTILE_MIDDLE = (
    (
        3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
        45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727,
    ),
    (
        1.0, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077, 21213.794301586595867,
        39307.895800092710610, 28729.085735721942674, 5226.4952788528545610,
    ),
)  # fmt: skip
_QUANTILE_NEAR = (
    (
        1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
        1.27045825245236838258, 0.241780725177450611770, 0.0227238449892691845833, 7.74545014278341407640e-4,
    ),
    (
        1.0, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550, 0.148103976427480074590,
        0.0151986665636164571966, 5.47593808499534494600e-4, 1.05075007164441684324e-9,
    ),
)  # fmt: skip
_QUANTILE_FAR = (
    (
        6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 0.296560571828504891230,
        0.0265321895265761230930, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7,
    ),
    (
        1.0, 0.599832206555887937690, 0.136929880922735805310, 0.0148753612908506148525, 7.86869131145613259100e-4,
        1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15,
    ),
)  # fmt: skip


def normal_tail(xp, p):
    """-z of the standard normal quantile z of p, for 0 < p < 0.075. p: (n,) -> (n,)."""
    r = xp.sqrt(-xp.log(p))
    near, far = (lambda r: _quotient(r - 1.6, _QUANTILE_NEAR)), (lambda r: _quotient(r - 5, _QUANTILE_FAR))
    return by_parts(xp, r, [(r <= 5, near), (r > 5, far)])


def normal_middle(q):
    """The standard normal quantile of 0.5 + q, for |q| <= 0.425. q: (n,) -> (n,)."""
    return q * _quotient(0.180625 - q * q, _QUANTILE_MIDDLE)


def _erfinv(xp, x):
    """The normal quantile of (1 + x) / 2, over sqrt(2)."""
    size = xp.absolute(x)
    return by_parts(
        xp,
        x,
        [
            (size <= 0.85, lambda x: normal_middle(x / 2) / math.sqrt(2)),
            (
                (size > 0.85) & (size < 1),
                lambda x: xp.copysign(normal_tail(xp, (1 - xp.absolute(x)) / 2), x) / math.sqrt(2),
            ),
            (size == 1, lambda x: x * math.inf),
        ],
    )


@op(promote="float", public="inplace")
def erfinv(xp, x):
    """The inverse of erf on (-1, 1); infinite at the ends. x: (*S) -> (*S)."""
    return in_double("erfinv", _erfinv, xp, x)


erfinv.vjp(x=lambda F, g, *, out: g * (F.exp(out * out) * (math.sqrt(math.pi) / 2)))

# ---- the gamma function ----------------------------------------------------------------------------------------------

# lgamma(2 + p) / p for |p| <= 1/2, fitted to 2.4e-17 (relative, least maximum).
_LGAMMA_NEAR_2 = (
    (
        0.422784335098467136, 0.894208476260796414, 0.651268563305429432, 0.206758121466732123, 0.0281991875459108741,
        0.00129041045057619193, 4.92237465629828442e-6,
    ),
    (
        1.0, 1.35232409380428899, 0.668286173696103493, 0.146077296363896185, 0.0133834538070018899,
        3.70421487612046392e-4,
    ),
)  # fmt: skip
# Bernoulli numbers B(2k), k = 1 ... 12, and from them the asymptotic series of M. Abramowitz and I. A. Stegun,
# "Handbook of Mathematical Functions", 6.1.41 (lgamma), 6.3.18 (digamma) and 23.2.7 (zeta, by Euler and Maclaurin).
_BERNOULLI = (
    1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330,
    854513 / 138, -236364091 / 2730,
)  # fmt: skip
_LGAMMA_SERIES = tuple(b / ((2 * k + 2) * (2 * k + 1)) for k, b in enumerate(_BERNOULLI[:8]))
_DIGAMMA_SERIES = tuple(b / (2 * k + 2) for k, b in enumerate(_BERNOULLI[:8]))


def _lgamma_positive(xp, x):
    """lgamma for x > 0. Below 13 from its values near 2, by the recurrence, so that the zeros at 1 and 2 are sharp."""

    def near(x):
        k = xp.rint(x)
        p = x - k
        product = xp.ones_like(x)
        for j in range(2, 13):
            product *= xp.where(j < k, p + j, 1)
        out = p * _quotient(p, _LGAMMA_NEAR_2) + xp.log(product)
        out -= xp.where(k <= 1, xp.log1p(p), 0)
        return out - xp.where(k == 0, xp.log(x), 0)

    def far(x):
        return (x - 0.5) * xp.log(x) - x + (polynomial(1 / (x * x), _LGAMMA_SERIES) / x + math.log(2 * math.pi) / 2)

    return by_parts(xp, x, [(x < 13, near), ((x >= 13) & (x < math.inf), far), (x == math.inf, lambda x: x)])


def _lgamma(xp, x):
    def reflected(x):
        log_sine = xp.log(xp.absolute(xp.sin(math.pi * (x - xp.rint(x)))))
        return math.log(math.pi) - log_sine - _lgamma_positive(xp, 1 - x)

    return by_parts(
        xp,
        x,
        [
            (x > 0, lambda x: _lgamma_positive(xp, x)),
            ((x <= 0) & (x > -math.inf), reflected),
            (x == -math.inf, lambda x: -x),
        ],
    )


@op(promote="float", public="inplace")
def lgamma(xp, x):
    """log |Gamma(x)|; infinite at 0, -1, -2, ... x: (*S) -> (*S)."""
    return in_double("lgamma", _lgamma, xp, x)


lgamma.vjp(x=lambda F, g, *, x: g * F.digamma(x))


def _digamma_positive(xp, x):
    out = xp.zeros_like(x)
    x = xp.array(x)
    while (low := x < 10).any():
        out[low] -= 1 / x[low]
        x[low] += 1
    z = 1 / (x * x)
    return out + (xp.log(x) - 0.5 / x - z * polynomial(z, _DIGAMMA_SERIES))


def _digamma(xp, x):
    def reflected(x):
        p = x - xp.rint(x)
        return xp.where(p == 0, math.nan, _digamma_positive(xp, 1 - x) - math.pi / xp.tan(math.pi * p))

    return by_parts(
        xp,
        x,
        [
            (x > 0, lambda x: _digamma_positive(xp, x)),
            (x < 0, reflected),
            (x == 0, lambda x: xp.copysign(xp.full_like(x, math.inf), -x)),
        ],
    )


@op(promote="float", public="inplace")
def digamma(xp, x):
    """The derivative of lgamma; NaN at -1, -2, ... x: (*S) -> (*S)."""
    return in_double("digamma", _digamma, xp, x)


digamma.vjp(x=lambda F, g, *, x: g * F.polygamma(x, order=1))


def _zeta(xp, s, x):
    """Hurwitz's zeta(s, x) = sum of (x + k)**-s over k >= 0, for s > 1 and x > 0, by the Euler-Maclaurin formula."""
    out = xp.zeros_like(x)
    for k in range(10):
        out += (x + k) ** -s
    x = x + 10
    power = x**-s
    rest = power * x / (s - 1) + power / 2
    vanished = power == 0
    factor = s
    for k, b in enumerate(_BERNOULLI):
        power = power / x
        rest += b / math.factorial(2 * k + 2) * factor * power
        power = power / x
        factor = factor * ((s + 2 * k + 1) * (s + 2 * k + 2))
    return out + xp.where(vanished, 0, rest)


def hurwitz(xp, s, x):
    """zeta(s, x) for any x: infinite at s = 1 and at the poles 0, -1, ..., NaN for s < 1. s, x: (*S) -> (*S).

    At negative x, for whole s alone, the terms below 0 are those of two series above 0.
    """
    out = xp.full(x.shape, math.nan)
    pole = (s == 1) | (~(s < 1) & (x <= 0) & (x == xp.floor(x)))
    out[pole] = math.inf
    above = (s > 1) & (x > 0)
    out[above] = _zeta(xp, s[above], x[above])
    below = (s > 1) & (x < 0) & (s == xp.floor(s)) & ~pole
    if below.any():
        s, x = s[below], x[below]
        part = x - xp.floor(x)
        out[below] = _zeta(xp, s, part) + (1 - 2 * (s % 2)) * (_zeta(xp, s, 1 - part) - _zeta(xp, s, 1 - x))
    return out


def _trigamma(xp, x):
    """The derivative of digamma. x: (*S) -> (*S).

    Below 1/2 by reflection, with the sine of pi x in x's own precision: so, as in PyTorch, the poles are large numbers.
    """
    sine = xp.sin(x * math.pi).astype("f8")
    x = x.astype("f8")
    low = x < 0.5
    out = _zeta(xp, 2, xp.where(low, 1 - x, x))
    return xp.where(low, (math.pi / sine) ** 2 - out, out)


def _polygamma(xp, x, n):
    """Abramowitz and Stegun 6.4.10. x: (*S) -> (*S)."""
    scale = (1 if n % 2 else -1) * (float(math.factorial(n)) if n <= 170 else math.inf)
    return scale * hurwitz(xp, xp.full_like(x, n + 1), x)


@op(promote="float")
def polygamma(xp, x, *, order):
    """The derivative of digamma of that order, at least 1. x: (*S) -> (*S)."""
    if order == 1:
        only("fV", "polygamma", x)
        return _trigamma(xp, wide(x)).astype(x.dtype)
    return in_double("polygamma", lambda xp, x: _polygamma(xp, x, order), xp, x)


polygamma.vjp(x=lambda F, g, *, x, order: g * F.polygamma(x, order=order + 1))

# ---- the logistic function -------------------------------------------------------------------------------------------


@op(promote="float", holomorphic=True, public="inplace")
def sigmoid(xp, x):
    """1 / (1 + exp(-x)). x: (*S) -> (*S)."""
    if x.dtype.itemsize == 2:
        return sigmoid.op.generic(xp, wide(x)).astype(x.dtype)
    return 1 / (1 + xp.exp(-x))


@composite
def sigmoid_backward(F, g, out):
    """g * out * (1 - out). g, out: (*S) -> (*S)."""
    return g * ((1 - out) * out)


sigmoid.vjp(x=lambda F, g, *, out: F.sigmoid_backward(g, out))


@op(promote="float")
def logit(xp, x, *, eps=None):
    """log(x / (1 - x)); x is brought into [eps, 1 - eps] first, where eps is given. x: (*S) -> (*S)."""
    only("fV", "logit", x)
    z = wide(x)
    if eps is not None:
        z = xp.minimum(xp.maximum(z, eps), 1 - eps)
    return narrow(xp.log(z / (1 - z)), x)


def _logit_rule(F, g, *, x, eps):
    slope = g / (x * (1 - x))
    if eps is None:
        return F.where(F.outside(x, min=0, max=1), math.nan, slope)
    return F.zero_where(slope, F.outside(x, min=eps, max=1 - eps))


logit.vjp(x=_logit_rule)
