"""Arithmetic of torch's CPU random streams, rounding for rounding, on raw NumPy arrays.

torch compiles its samplers with fused multiply-adds, which NumPy does not have, and takes the float32 logarithm, sine
and cosine of the normal distribution from vector polynomials. Both are rebuilt here from `+ - * sqrt` and conversions
alone, which IEEE 754 fixes to the bit: the float32 values do not depend on the processor or on NumPy's vector
mathematics.
"""

from __future__ import annotations

from typing import Any

import numpy as np

TWO_PI = 2.0 * np.pi
_SPLIT = 2.0**27 + 1.0  # Veltkamp's constant: halves of 26 bits for a float64


def _f32(*values: float) -> tuple[float, ...]:
    """The constants as float32 holds them, as Python floats."""
    return tuple(float(np.float32(v)) for v in values)


# Cephes (S. Moshier), logf.c and sinf.c: minimax polynomials, highest power first.
_LOG = _f32(
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
_SIN = _f32(-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = _f32(2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
_LN2_LOW, _LN2_HIGH = np.float32(-2.12194440e-4), np.float32(0.693359375)
_MINUS_PI_4 = _f32(-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)  # pi/4 in three parts
_4_OVER_PI, _TWO_PI32 = np.float32(4.0 / np.pi), np.float32(TWO_PI)
_SQRT_HALF_BITS, _MANTISSA, _SIGN = np.int32(0x3F3504F3), np.int32(0x7FFFFF), np.int32(-(2**31))
_HALF_BLOCK = {4: np.dtype("V32"), 8: np.dtype("V64")}  # eight values, moved as one item


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """(s, e): s = a + b rounded, e its exact error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _halves(x: Any) -> tuple[Any, Any]:
    """x as the sum of two float64 of 26 bits each (Veltkamp)."""
    t = _SPLIT * x
    high = t - (t - x)
    return high, x - high


def _two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """(p, e): p = a * b rounded, e its exact error (Dekker)."""
    p = a * b
    a1, a0 = _halves(a)
    b1, b0 = _halves(b)
    return p, ((a1 * b1 - p) + a1 * b0 + a0 * b1) + a0 * b0


def fma(x: np.ndarray, scale: float, shift: float) -> np.ndarray:
    """x * scale + shift with one rounding. x: (n,) float64 -> (n,) float64, a new array.

    Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE
    Transactions on Computers 57 (2008). Where its intermediate values overflow, the plain two roundings are returned.
    """
    if shift == 0.0:
        return x * scale + shift
    with np.errstate(over="ignore", invalid="ignore"):
        product, low = _two_product(x, np.float64(scale))
        carry, carry_error = _two_sum(np.float64(shift), low)
        total, total_error = _two_sum(product, carry)
        tail, error = _two_sum(carry_error, total_error)
        odd = (error != 0.0) & ((tail.view(np.int64) & 1) == 0)
        if odd.any():
            tail[odd] = np.nextafter(tail[odd], np.copysign(np.inf, error[odd]))
        out = total + tail
        broken = ~np.isfinite(out)
        if broken.any():
            out[broken] = x[broken] * scale + shift
    return out


def _rounded_polynomial(x: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    """Horner's scheme of float32 fused multiply-adds. x: (n,) float64 holding float32 values -> (n,) float32.

    The product of two float32 is exact in float64, so the sum is rounded once to 53 bits and once to 24: that is the
    fused result except where the first rounding hits a tie of the second, once in 2**29 times.
    """
    wide = x * coefficients[0]
    wide += coefficients[1]
    y = wide.astype(np.float32)
    for c in coefficients[2:]:
        np.copyto(wide, y)
        wide *= x
        wide += c
        np.copyto(y, wide, casting="same_kind")
    return y


def _log(u: np.ndarray) -> np.ndarray:
    """Natural logarithm of normal positive float32, in place. u: (n,) float32, overwritten by the result."""
    bits = u.view(np.int32)
    bits -= _SQRT_HALF_BITS  # splits u into 2**e * x with x in [sqrt(1/2), sqrt(2))
    e = (bits >> 23).astype(np.float32)
    bits &= _MANTISSA
    bits += _SQRT_HALF_BITS
    x = u
    x -= np.float32(1)
    wide = x.astype(np.float64)
    y = _rounded_polynomial(wide, _LOG)
    y *= x
    z = x * x
    np.copyto(wide, y)
    wide *= z.astype(np.float64)
    wide += e * _LN2_LOW
    np.copyto(y, wide, casting="same_kind")
    z *= np.float32(0.5)
    y -= z
    x += y
    e *= _LN2_HIGH
    x += e
    return x


def _sin_cos(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sine and cosine of float32 angles in [0, 2 pi]. x: (n,) float32, overwritten -> two (n,) float32."""
    octant = (x * _4_OVER_PI).astype(np.int32)
    octant += 1
    octant &= -2
    y = octant.astype(np.float32)
    x += y * np.float32(_MINUS_PI_4[0])  # these two products are exact in float32
    x += y * np.float32(_MINUS_PI_4[1])
    wide = y.astype(np.float64)
    wide *= _MINUS_PI_4[2]
    wide += x
    np.copyto(x, wide, casting="same_kind")
    z = x * x
    z64 = z.astype(np.float64)

    cos = _rounded_polynomial(z64, _COS)
    cos *= z
    np.copyto(wide, cos)
    wide *= z64
    wide -= np.multiply(z64, 0.5)
    np.copyto(cos, wide, casting="same_kind")
    cos += np.float32(1)

    sin = _rounded_polynomial(z64, _SIN)
    sin *= z
    np.copyto(wide, sin)
    x64 = x.astype(np.float64)
    wide *= x64
    wide += x64
    np.copyto(sin, wide, casting="same_kind")
    return _to_octant(sin, cos, octant)


def _to_octant(sin: np.ndarray, cos: np.ndarray, octant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Swap and negate two float32 arrays, in place and bit by bit, as the even octant numbers (0 .. 8) ask."""
    s, c = sin.view(np.int32), cos.view(np.int32)
    swap = octant << 30
    swap >>= 31  # all ones where octant % 4 == 2
    swap &= s ^ c
    s ^= swap
    c ^= swap
    octant <<= 29
    s ^= octant & _SIGN  # negative from pi on
    octant += np.int32(1 << 30)
    c ^= octant & _SIGN  # negative from pi/2 to 3 pi/2
    return sin, cos


def box_muller(u: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Normal values from uniform ones in blocks of 16. u: (16 k,) float32 or float64 in [0, 1), overwritten and
    returned.

    Within a block, `r = sqrt(-2 log(1 - u[j]))` and `theta = 2 pi u[j + 8]` give `r cos(theta)` at j and
    `r sin(theta)` at j + 8 for j < 8, then times `std` plus `mean` with one rounding. float32 follows torch's vector
    polynomials exactly; float64 takes NumPy's log, sin and cos.
    """
    blocks = u.view(_HALF_BLOCK[u.dtype.itemsize])
    first, angle = blocks[::2].copy().view(u.dtype), blocks[1::2].copy().view(u.dtype)
    np.subtract(1, first, out=first)
    if u.dtype == np.float32:
        radius = _log(first)
        angle *= _TWO_PI32
        sin, cos = _sin_cos(angle)
    else:
        radius = np.log(first)
        angle *= TWO_PI
        sin, cos = np.sin(angle), np.cos(angle)
    radius *= -2
    np.sqrt(radius, out=radius)
    cos *= radius
    sin *= radius
    blocks[::2] = scale_shift(cos, std, mean).view(blocks.dtype)
    blocks[1::2] = scale_shift(sin, std, mean).view(blocks.dtype)
    return u


def scale_shift(z: np.ndarray, scale: float, shift: float) -> np.ndarray:
    """z * scale + shift with one rounding, in z's precision. z: (n,) float32 or float64 -> (n,), possibly z itself."""
    if z.dtype == np.float64:
        return fma(z, scale, shift)
    scale, shift = _f32(scale, shift)  # the arguments as torch's kernel holds them
    if shift != 0.0:
        wide = z.astype(np.float64)
        wide *= scale
        wide += shift  # exact while |shift| is below 32 * |scale|, else a tie once in 2**29 times
        return wide.astype(np.float32)
    if scale != 1.0:
        z *= np.float32(scale)
    z += np.float32(0)  # -0 becomes +0, as in a fused multiply-add
    return z


def swap_in_turn(n: int, target: np.ndarray) -> np.ndarray:
    """0 .. n - 1 after swapping the elements i and target[i], for each i in turn. target: (n - 1,) -> (n,) int64."""
    p = list(range(n))
    for i, j in enumerate(target.tolist()):
        p[i], p[j] = p[j], p[i]
    return np.array(p, np.int64)


def swap_all(n: int, target: np.ndarray) -> np.ndarray:
    """As `swap_in_turn`, without a loop over elements, for target[i] >= i.

    Let x[i] be the element at place i just before step i. Step i leaves at place i what stood at target[i], and x[i]
    there. So the result at i is x[h] for the last earlier step h with the same target, or target[i] itself where
    there is none; and x[i] is x[h] for the last earlier step h whose target is i, or i. That makes x the roots of a
    forest.
    """
    step = np.arange(n - 1)
    key = target.astype(np.int64) << 32 | step
    key.sort()
    by_target, target_sorted = key & 0xFFFFFFFF, key >> 32
    again = target_sorted[1:] == target_sorted[:-1]
    earlier = np.full(n - 1, -1)  # the last earlier step with the same target
    earlier[by_target[1:][again]] = by_target[:-1][again]
    final = np.append(~again, True)
    x = np.arange(n)
    x[target_sorted[final]] = by_target[final]
    own = np.flatnonzero(target == step)  # a step whose target is its own place does not come before itself
    x[own] = np.where(earlier[own] < 0, own, earlier[own])
    while not np.array_equal(root := x[x], x):
        x = root
    return np.append(np.where(earlier < 0, target, x[earlier]), x[-1])
