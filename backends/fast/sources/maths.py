"""exp, tanh and their relatives in additions, products and shifts of bits, which LLVM makes vectors of.

Numba as it comes from the package registry has no vector mathematics library; calls of the C library stay one by one.
Errors are at most 2 units in the last place; NaN, infinities and subnormal results are the exact functions'.
"""

# mypy: ignore-errors
from __future__ import annotations

from .language import Int, T, bits, either, inline

# ---- exponential: x = n ln 2 + r with |r| <= ln 2 / 2, exp(x) = 2**n exp(r)

LOG2E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4  # for float32 (Cody, Waite)
LN2_HIGH64, LN2_LOW64 = 6.93147180369123816490e-01, 1.90821492927058770002e-10
ROUND, ROUND64 = 12582912.0, 6755399441055744.0  # 1.5 * 2**23, 1.5 * 2**52: added and taken away, they round


@inline
def power_of_two(n):
    """2.0**n for an int32 n from -126 to 127."""
    return bits(Int(Int(n + 127) << 23))  # Numba's integer arithmetic gives int64


@inline
def power_of_two64(n):
    """2.0**n for an int64 n from -1022 to 1023."""
    return bits((n + 1023) << 52)


@inline
def small_expm1(r):
    """exp(r) - 1 for |r| <= 0.35 (coefficients: Cephes' expf)."""
    p = T(1.9875691500e-4)
    p = p * r + T(1.3981999507e-3)
    p = p * r + T(8.3334519073e-3)
    p = p * r + T(4.1665795894e-2)
    p = p * r + T(1.6666665459e-1)
    p = p * r + T(5.0000001201e-1)
    return p * (r * r) + r


@inline
def small_expm1_64(r):
    """exp(r) - 1 for |r| <= 0.35: Taylor's series, the rest below 1e-17."""
    p = T(1 / 6227020800)
    p = p * r + T(1 / 479001600)
    p = p * r + T(1 / 39916800)
    p = p * r + T(1 / 3628800)
    p = p * r + T(1 / 362880)
    p = p * r + T(1 / 40320)
    p = p * r + T(1 / 5040)
    p = p * r + T(1 / 720)
    p = p * r + T(1 / 120)
    p = p * r + T(1 / 24)
    p = p * r + T(1 / 6)
    p = p * r + T(0.5)
    return p * (r * r) + r


@inline
def exp32(x):
    low = x if x > T(-104.0) else T(-104.0)  # NaN becomes a number here, so that its integer is defined
    y = low if low < T(89.0) else T(89.0)
    shifted = y * T(LOG2E) + T(ROUND)
    n = shifted - T(ROUND)
    r = (y - n * T(LN2_HIGH)) - n * T(LN2_LOW)
    k = Int(bits(shifted) - bits(T(ROUND)))
    half = Int(k >> 1)  # in two steps, so that 2**k may be subnormal, or overflow
    e = (small_expm1(r) + T(1)) * power_of_two(half) * power_of_two(Int(k - half))
    return e if x == x else x


@inline
def exp64(x):
    low = x if x > T(-746.0) else T(-746.0)
    y = low if low < T(710.0) else T(710.0)
    shifted = y * T(LOG2E) + T(ROUND64)
    n = shifted - T(ROUND64)
    r = (y - n * T(LN2_HIGH64)) - n * T(LN2_LOW64)
    k = bits(shifted) - bits(T(ROUND64))
    half = k >> 1
    e = (small_expm1_64(r) + T(1)) * power_of_two64(half) * power_of_two64(k - half)
    return e if x == x else x


exp = either(exp32, exp64)


@inline
def exp_down32(x):
    """exp(x) for x <= 87 without subnormal results: 0 below -87 and for NaN, which the caller sees to."""
    inside = x > T(-87.0)
    y = x if inside else T(-87.0)
    shifted = y * T(LOG2E) + T(ROUND)
    n = shifted - T(ROUND)
    r = (y - n * T(LN2_HIGH)) - n * T(LN2_LOW)
    e = (small_expm1(r) + T(1)) * power_of_two(Int(bits(shifted) - bits(T(ROUND))))
    return e if inside else T(0)


@inline
def exp_down64(x):
    """exp(x) for x <= 708 without subnormal results: 0 below -708 and for NaN."""
    inside = x > T(-708.0)
    y = x if inside else T(-708.0)
    shifted = y * T(LOG2E) + T(ROUND64)
    n = shifted - T(ROUND64)
    r = (y - n * T(LN2_HIGH64)) - n * T(LN2_LOW64)
    e = (small_expm1_64(r) + T(1)) * power_of_two64(bits(shifted) - bits(T(ROUND64)))
    return e if inside else T(0)


exp_down = either(exp_down32, exp_down64)


# ---- hyperbolic tangent: E / (E + 2) with E = exp(2 x) - 1 = 2**n (exp(r) - 1) + (2**n - 1)


@inline
def tanh32(x):
    low = x if x > T(-10.0) else T(-10.0)
    y = (low if low < T(10.0) else T(10.0)) * T(2)
    shifted = y * T(LOG2E) + T(ROUND)
    n = shifted - T(ROUND)
    r = (y - n * T(LN2_HIGH)) - n * T(LN2_LOW)
    scale = power_of_two(Int(bits(shifted) - bits(T(ROUND))))
    e = small_expm1(r) * scale + (scale - T(1))
    t = e / (e + T(2))
    signed = bits(Int(bits(t) | (bits(x) & Int(-0x80000000))))  # -0.0
    return signed if x == x else x


@inline
def tanh64(x):
    low = x if x > T(-20.0) else T(-20.0)
    y = (low if low < T(20.0) else T(20.0)) * T(2)
    shifted = y * T(LOG2E) + T(ROUND64)
    n = shifted - T(ROUND64)
    r = (y - n * T(LN2_HIGH64)) - n * T(LN2_LOW64)
    scale = power_of_two64(bits(shifted) - bits(T(ROUND64)))
    e = small_expm1_64(r) * scale + (scale - T(1))
    t = e / (e + T(2))
    signed = bits(bits(t) | (bits(x) & Int(-0x8000000000000000)))
    return signed if x == x else x


tanh = either(tanh32, tanh64)


@inline
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return T(1) / (T(1) + exp(-x))


# ---- logarithm of 1 + e for 0 <= e <= 1: 2 artanh(e / (2 + e))


@inline
def log1p_of_unit32(e):
    """log(1 + e) for 0 <= e <= 1."""
    s = e / (e + T(2))
    q = s * s
    p = T(1 / 17)
    p = p * q + T(1 / 15)
    p = p * q + T(1 / 13)
    p = p * q + T(1 / 11)
    p = p * q + T(1 / 9)
    p = p * q + T(1 / 7)
    p = p * q + T(1 / 5)
    p = p * q + T(1 / 3)
    return T(2) * (s + s * (q * p))


@inline
def log1p_of_unit64(e):
    """log(1 + e) for 0 <= e <= 1."""
    s = e / (e + T(2))
    q = s * s
    p = T(1 / 37)
    p = p * q + T(1 / 35)
    p = p * q + T(1 / 33)
    p = p * q + T(1 / 31)
    p = p * q + T(1 / 29)
    p = p * q + T(1 / 27)
    p = p * q + T(1 / 25)
    p = p * q + T(1 / 23)
    p = p * q + T(1 / 21)
    p = p * q + T(1 / 19)
    p = p * q + T(1 / 17)
    p = p * q + T(1 / 15)
    p = p * q + T(1 / 13)
    p = p * q + T(1 / 11)
    p = p * q + T(1 / 9)
    p = p * q + T(1 / 7)
    p = p * q + T(1 / 5)
    p = p * q + T(1 / 3)
    return T(2) * (s + s * (q * p))


log1p_of_unit = either(log1p_of_unit32, log1p_of_unit64)  # the rests of the series are below 1e-10 and 1e-18


@inline
def softplus(x):
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))."""
    return (T(0) if x < T(0) else x) + log1p_of_unit(exp(-abs(x)))


# ---- normal distribution: 1 - Phi(a) = M(a) exp(-a**2 / 2) for a >= 0, M smooth and bounded
# (the rational function of ../numpy/activation_kernels.py, for float32)


@inline
def mills(a):
    """M(a) for 0 <= a <= 12, to 1e-9."""
    p = a * T(0.398516489) + T(3.27556282)
    p = p * a + T(10.9361558)
    p = p * a + T(17.3083334)
    q = a + T(8.18179104)
    q = q * a + T(28.7321366)
    q = q * a + T(49.4924079)
    q = q * a + T(34.6166668)
    return p / q
