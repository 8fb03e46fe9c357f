"""Which arguments torch's samplers accept, by dtype: the tables and the checks, with torch's error types and texts."""

from __future__ import annotations

import warnings
from collections.abc import Container
from functools import cache
from typing import NamedTuple

import numpy as np


class Kind(NamedTuple):
    """torch's names of a dtype, in C++ and as a scalar type; for floating point, significand bits and maximum."""

    c_name: str
    scalar: str
    digits: int = 0
    max: float = 0.0


KINDS = {
    "bool": Kind("bool", "Bool"),
    "uint8": Kind("unsigned char", "Byte"),
    "int8": Kind("signed char", "Char"),
    "int16": Kind("short int", "Short"),
    "int32": Kind("int", "Int"),
    "int64": Kind("long int", "Long"),
    "uint16": Kind("short unsigned int", "UInt16"),
    "uint32": Kind("unsigned int", "UInt32"),
    "uint64": Kind("long unsigned int", "UInt64"),
    "float16": Kind("c10::Half", "Half", 11, 65504.0),
    "bfloat16": Kind("c10::BFloat16", "BFloat16", 8, 3.3895313892515355e38),
    "float32": Kind("float", "Float", 24, 3.4028234663852886e38),
    "float64": Kind("double", "Double", 53, 1.7976931348623157e308),
    "complex64": Kind("c10::complex<float>", "ComplexFloat"),
    "complex128": Kind("c10::complex<double>", "ComplexDouble"),
}
MIN_INT64, MAX_INT64 = -(2**63), 2**63 - 1
FLOATING = {name for name, kind in KINDS.items() if kind.digits}
INTEGRAL = {"uint8", "int8", "int16", "int32", "int64"}
COMPLEX = {"complex64", "complex128"}


@cache
def name_of(dtype: np.dtype) -> str:
    """`dtype.name`, which NumPy composes anew, slowly, each time it is asked."""
    return dtype.name


def kind_of(dtype: np.dtype) -> Kind:
    """torch's view of the dtype."""
    return KINDS[name_of(dtype)]


def require(dtype: np.dtype, allowed: Container[str], kernel: str) -> None:
    """NotImplementedError, as torch's dispatch raises it, unless `dtype` is among the allowed names."""
    if name_of(dtype) not in allowed:
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{kind_of(dtype).scalar}'")


def require_continuous(dtype: np.dtype, distribution: str, name: str) -> None:
    """RuntimeError unless `dtype`, called `name` in the text, is floating point."""
    if name_of(dtype) not in FLOATING:
        raise RuntimeError(
            f"{distribution} distribution is a continuous probability distribution. "
            f"dtype must be a floating point but you specified {name}"
        )


def check_uniform(dtype: np.dtype, low: float, high: float) -> None:
    """RuntimeError unless [low, high) is a range of the real dtype, and its width is finite there."""
    require(dtype, FLOATING, "check_uniform_bounds")
    kind = kind_of(dtype)
    for name, value in (("from", low), ("to", high)):
        if not -kind.max <= value <= kind.max:
            raise RuntimeError(f"{name} is out of bounds for {kind.c_name}")
    if low > high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}")
    if high - low > kind.max:
        raise RuntimeError(
            f"uniform_ expects to-from <= std::numeric_limits<{kind.scalar}>::max(), but found to={high:g} and "
            f"from={low:g} which result in to-from to exceed the limit"
        )


def check_std(text: str, std: float, zero_allowed: bool) -> None:
    """RuntimeError `text` followed by the value, unless std is positive (or zero, where that is allowed)."""
    if not (std >= 0.0 if zero_allowed else std > 0.0):
        raise RuntimeError(f"{text}{std:g}")


def check_probability(p: float) -> None:
    """RuntimeError unless p lies in [0, 1]."""
    if not 0.0 <= p <= 1.0:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")


def check_probabilities(p: np.ndarray) -> None:
    """RuntimeError unless every element lies in [0, 1]; NaN does not."""
    if not ((p >= 0) & (p <= 1)).all():
        raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.")


def integer_range(dtype: np.dtype, low: int, high: int | None) -> tuple[int, int]:
    """(first value, number of values) of `random_(low, high)`; without `high`, up to the largest integer of the dtype.

    Raises RuntimeError where the range is empty or leaves the dtype; warns where a floating dtype cannot hold every
    value.
    """
    if name_of(dtype) in COMPLEX:
        where = "random_from_to_impl" if high is None else "check_random_bounds"
        raise RuntimeError(f"{where} handles only integral, floating-point and boolean types")
    kind = kind_of(dtype)
    if high is None:
        last = _largest(dtype)
        if kind.digits:
            low = _representable_from(low, dtype)
            if low >= last:
                raise RuntimeError(
                    "random_ expects 'from' casted to dtype to be less than or equal to 'to_inc' casted to dtype, "
                    f"but got from={low} > to_inc={last}"
                )
    else:
        if low >= high:
            raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
        last = high - 1
        if kind.digits:
            _check_bounds(dtype, low, last)
            low, last = _representable_from(low, dtype), _representable_to(high, dtype) - 1
            if low > last:
                raise RuntimeError(
                    "random_ expects 'from' casted to dtype to be less than 'to' casted to dtype, "
                    f"but got from={low} >= to={last + 1}"
                )
    _check_bounds(dtype, low, last)
    if kind.digits:
        _warn_imprecise(low, last, kind)
    return low, last - low + 1


def _largest(dtype: np.dtype) -> int:
    """The largest integer that `random_` gives in a dtype."""
    if name_of(dtype) == "bool":
        return 1
    digits = kind_of(dtype).digits
    return 2**digits if digits else int(np.iinfo(dtype).max)


def _check_bounds(dtype: np.dtype, low: int, last: int) -> None:
    """RuntimeError unless both ends lie in the dtype, and within int64, in which torch counts."""
    kind = kind_of(dtype)
    if kind.digits:
        least, most = -kind.max, kind.max
    elif name_of(dtype) == "bool":
        least, most = 0, 1
    else:
        least, most = np.iinfo(dtype).min, min(int(np.iinfo(dtype).max), MAX_INT64)
    for name, value in (("from", low), ("to - 1", last)):
        if not least <= value <= most:
            raise RuntimeError(f"{name} is out of bounds for {kind.c_name}")


def _warn_imprecise(low: int, last: int, kind: Kind) -> None:
    """UserWarning where an end lies beyond the integers that the dtype holds exactly."""
    for name, value in (("from", low), ("to - 1", last)):
        if abs(value) > 2**kind.digits:
            warnings.warn(
                f"{name} is out of bounds [-(2^{kind.digits}), 2^{kind.digits}]. Due to precision limitations "
                f"{kind.c_name} can support discrete uniform distribution only within this range. This warning will "
                "become an error in version 1.7 release, please fix the code in advance",
                UserWarning,
                stacklevel=4,
            )


def _cast(value: int, dtype: np.dtype) -> int:
    """The integer after a round trip through the dtype."""
    return int(np.asarray(value).astype(dtype))


def _representable_from(low: int, dtype: np.dtype) -> int:
    """The least integer of the floating dtype that is not below `low`."""
    after = _cast(low + 1, dtype)
    if after >= low:
        return low
    return after + (1 << (abs(low + 1).bit_length() - 1 - kind_of(dtype).digits + 1))


def _representable_to(high: int, dtype: np.dtype) -> int:
    """The greatest exclusive end that keeps every value of the floating dtype below `high`."""
    before = _cast(high - 1, dtype)
    if before < high:
        return high
    return before - (1 << (abs(high - 1).bit_length() - 1 - kind_of(dtype).digits + 1))


def check_permutation(n: int, dtype: np.dtype) -> None:
    """RuntimeError unless 0 .. n - 1 all exist in the dtype."""
    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    require(dtype, INTEGRAL | FLOATING, "randperm")
    if name_of(dtype) in INTEGRAL:
        if n - 1 > np.iinfo(dtype).max:
            raise RuntimeError(f"value cannot be converted to type {name_of(dtype)}_t without overflow")
    elif name_of(dtype) != "bfloat16" and n > 2 ** kind_of(dtype).digits + 1:
        # torch does not check bfloat16: what it cannot hold is rounded
        limit = {"float16": "2049", "float32": "2^24+1", "float64": "2^53+1"}[name_of(dtype)]
        raise RuntimeError(f"n cannot be greater than {limit} for {kind_of(dtype).scalar} type.")


def check_multinomial(p: np.ndarray, num_samples: int, replacement: bool) -> None:
    """RuntimeError for what torch.multinomial refuses before it draws."""
    if p.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if name_of(p.dtype) not in FLOATING:
        raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {kind_of(p.dtype).scalar}")
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > p.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    if p.shape[-1] > 2**24:
        raise RuntimeError("number of categories cannot exceed 2^24")
    if p.size == 0:
        return
    if replacement and num_samples > 1:
        if not (p >= 0).all():
            raise RuntimeError("invalid multinomial distribution (encountering probability entry < 0)")
        if not np.isfinite(p).all():
            raise RuntimeError("invalid multinomial distribution (encountering probability entry = infinity or NaN)")
    elif not ((p >= 0) & (p < np.inf)).all():
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    if not (p > 0).any(axis=-1).all():
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
