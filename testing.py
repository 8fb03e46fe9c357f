"""torch.testing: comparisons that say what differs and where, and tensors of random numbers for tests.

>>> import tapegrad as torch
>>> torch.testing.assert_close({"w": [torch.ones(2), 1.0]}, {"w": [torch.ones(2), 1.0 + 1e-9]})
>>> torch.testing.make_tensor(2, 3, dtype=torch.uint8, device="cpu", high=4).shape
torch.Size([2, 3])
"""

from __future__ import annotations

import cmath
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .autograd import api as T
from .autograd.dtypes import by_name, dtype, promote_types
from .autograd.info import finfo, iinfo
from .autograd.tensor import Tensor

__all__ = ["assert_allclose", "assert_close", "make_tensor"]

_Message = str | Callable[[str], str] | None
_Compare = Callable[[], None]

# dtype: (rtol, atol) of assert_close; all others are compared exactly
_TOLERANCES = {
    "float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7),
    "complex64": (1.3e-6, 1e-5), "complex128": (1e-7, 1e-7),
}  # fmt: skip
_OLD_TOLERANCES = {"float16": (1e-3, 1e-3), "float32": (1e-4, 1e-5), "float64": (1e-5, 1e-8)}
_NUMBERS = {int: "int64", float: "float64", complex: "complex128"}
_UNSIGNED = ("uint16", "uint32", "uint64")


class _Mismatch(Exception):
    """What was found: the exception to raise, its text, and the keys that lead to the item."""

    def __init__(self, kind: type[Exception], text: str, path: tuple[Any, ...] = ()):
        self.kind, self.path = kind, path
        super().__init__(text)

    def public(self, msg: _Message = None) -> Exception:
        """The exception that the caller sees; msg replaces the text, or is called with it."""
        if isinstance(msg, str):
            return self.kind(msg)
        text = str(self) + (f"\n\nThe failure occurred for item {_keys(self.path)}" if self.path else "")
        return self.kind(text if msg is None else msg(text))


def _keys(path: tuple[Any, ...]) -> str:
    return "".join(f"[{key!r}]" for key in path)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: _Message = None,
) -> None:
    """Raises AssertionError unless |actual - expected| <= atol + rtol * |expected| in every element.

    Args:
        actual, expected: tensors of equal shape, what `as_tensor` takes, Python or NumPy numbers, None, or sequences
            and mappings of these with equal lengths or keys. Sparse tensors are equal in indices, close in values.
        allow_subclasses: whether the type of one may be a subclass of the other's; False asks for the same type.
        rtol, atol: both or neither (else ValueError); by default those of the dtypes, the looser of the two:
            float16 1e-3 and 1e-5, bfloat16 1.6e-2 and 1e-5, float32 and complex64 1.3e-6 and 1e-5, float64 and
            complex128 1e-7 and 1e-7, others 0.
        equal_nan: whether NaN equals NaN.
        check_device, check_dtype, check_layout, check_stride: whether these attributes must be equal; where one may
            differ, both are brought to the host, the promoted dtype, the strided layout.
        msg: the text of the failure, or a function of the text that would be.

    TypeError where inputs cannot be compared.
    """
    __tracebackhide__ = True
    options = {
        "rtol": rtol, "atol": atol, "equal_nan": equal_nan, "allow_subclasses": allow_subclasses,
        "device": check_device, "dtype": check_dtype, "layout": check_layout, "stride()": check_stride,
    }  # fmt: skip
    try:
        comparisons = list(_pairs(actual, expected, (), options))
    except _Mismatch as found:
        raise found.public() from None
    failure = None
    for path, compare in comparisons:  # all of them: an unexpected exception of a later one is not to be hidden
        try:
            compare()
        except _Mismatch as found:
            failure = failure or _Mismatch(found.kind, str(found), path).public(msg)
    if failure is not None:
        raise failure


def _pairs(actual: Any, expected: Any, path: tuple[Any, ...], options: Any) -> Iterator[tuple[Any, _Compare]]:
    """The path and comparison of every item of two structures. _Mismatch where the structures differ."""
    if all(isinstance(x, Sequence) and not isinstance(x, str) for x in (actual, expected)):
        if len(actual) != len(expected):
            text = f"The length of the sequences mismatch: {len(actual)} != {len(expected)}"
            raise _Mismatch(AssertionError, text, path)
        keys: Any = range(len(actual))
    elif isinstance(actual, Mapping) and isinstance(expected, Mapping):
        mine, theirs = set(actual.keys()), set(expected.keys())
        if mine != theirs:
            text = (
                f"The keys of the mappings do not match:\nMissing keys in the actual mapping: {sorted(theirs - mine)}\n"
                f"Additional keys in the actual mapping: {sorted(mine - theirs)}"
            )
            raise _Mismatch(AssertionError, text, path)
        try:
            keys = sorted(mine)
        except TypeError:  # keys of several types have no order
            keys = list(actual)
    else:
        try:
            yield path, _pair(actual, expected, options)
        except _Mismatch as found:
            raise _Mismatch(found.kind, str(found), path) from None
        return
    for key in keys:
        yield from _pairs(actual[key], expected[key], (*path, key), options)


def _pair(actual: Any, expected: Any, options: Any) -> _Compare:
    """The comparison that fits two items. _Mismatch with TypeError where none does."""
    if actual is None or expected is None:
        return lambda: _require(actual is expected, f"None mismatch: {actual} is not {expected}")
    both = (actual, expected)
    if all(isinstance(x, (bool, np.bool_)) for x in both):
        a, b = map(bool, both)
        return lambda: _require(a is b, f"Booleans mismatch: {a} is not {b}")
    x, y = (n.item() if isinstance(n, np.number) else n for n in both)
    if type(x) in _NUMBERS and type(y) in _NUMBERS:
        rtol, atol = _tolerances([_NUMBERS[type(x)], _NUMBERS[type(y)]], options)
        return lambda: _compare_numbers(x, y, rtol, atol, options)
    t, u = _tensors(actual, expected, options)
    rtol, atol = _tolerances([t.dtype.name, u.dtype.name], options)
    return lambda: _compare_tensors(t, u, rtol, atol, options)


def _tensors(actual: Any, expected: Any, options: Any) -> list[Tensor]:
    """Both as tensors."""
    same = type(actual) is type(expected)
    related = same or isinstance(actual, type(expected)) or isinstance(expected, type(actual))
    if same or (related and options["allow_subclasses"]):
        try:
            return [x if isinstance(x, Tensor) else T.as_tensor(x) for x in (actual, expected)]
        except Exception:  # whatever it is that as_tensor says: there is no way to compare them
            pass
    text = f"No comparison pair was able to handle inputs of type {type(actual)} and {type(expected)}."
    raise _Mismatch(TypeError, text)


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise _Mismatch(AssertionError, text)


def _looser(names: Sequence[str], table: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """(rtol, atol), each the largest of the dtypes'."""
    rtols, atols = zip(*(table.get(name, (0.0, 0.0)) for name in names), strict=True)
    return max(rtols), max(atols)


def _tolerances(names: Sequence[str], options: Any) -> tuple[float, float]:
    rtol, atol = options["rtol"], options["atol"]
    if (rtol is None) != (atol is None):
        absent = "rtol" if rtol is None else "atol"
        text = f"Both 'rtol' and 'atol' must be either specified or omitted, but got no {absent}."
        raise _Mismatch(ValueError, text)
    return _looser(names, _TOLERANCES) if rtol is None else (rtol, atol)


# ---- numbers


def _compare_numbers(a: Any, b: Any, rtol: float, atol: float, options: Any) -> None:
    if options["dtype"]:
        _require(type(a) is type(b), f"The (d)types do not match: {type(a)} != {type(b)}.")
    if a == b or (options["equal_nan"] and cmath.isnan(a) and cmath.isnan(b)):
        return
    difference = abs(a - b)
    if not (math.isfinite(difference) and difference <= atol + rtol * abs(b)):
        raise _Mismatch(AssertionError, _of_numbers(a, b, rtol, atol, "Scalars"))


def _of_numbers(a: Any, b: Any, rtol: float, atol: float, what: str) -> str:
    """The text for two numbers that are not close."""
    difference = abs(a - b)
    relative = math.inf if b == 0 else difference / abs(b)
    found = (("Absolute", difference, atol), ("Relative", relative, rtol))
    lines = [f"{kind} difference: {value}{_allowed(tol, rtol, atol)}" for kind, value, tol in found]
    return "\n".join([_heading(what, rtol, atol), "", f"Expected {b} but got {a}.", *lines])


def _heading(what: str, rtol: float, atol: float) -> str:
    return f"{what} are not {'equal' if rtol == 0 and atol == 0 else 'close'}!"


def _allowed(tolerance: float, rtol: float, atol: float) -> str:
    return "" if rtol == 0 and atol == 0 else f" (up to {tolerance} allowed)"


# ---- tensors


def _compare_tensors(a: Any, b: Any, rtol: float, atol: float, options: Any) -> None:
    """Attributes, then values. a, b: (*S)."""
    _compare_attributes(a, b, options)
    if a.device.type == "meta" or b.device.type == "meta":
        return
    if a.device != b.device:
        a, b = a.cpu(), b.cpu()
    if a.dtype != b.dtype:
        kind = promote_types(*(by_name("int64") if t.dtype.name in _UNSIGNED else t.dtype for t in (a, b)))
        a, b = a.to(kind), b.to(kind)
    if a.is_sparse and b.is_sparse:
        _compare_sparse(a, b, rtol, atol, options["equal_nan"])
    else:
        a, b = (t.to_dense() if t.is_sparse else t for t in (a, b))
        _compare_values(a, b, rtol, atol, options["equal_nan"])


def _compare_attributes(a: Any, b: Any, options: Any) -> None:
    def equal(name: str, mine: Any, theirs: Any) -> None:
        if options.get(name, True):
            _require(mine == theirs, f"The values for attribute '{name}' do not match: {mine} != {theirs}.")

    equal("shape", a.shape, b.shape)
    equal("layout", a.layout, b.layout)
    if options["stride()"] and not (a.is_sparse or b.is_sparse):
        equal("stride()", a.stride(), b.stride())
    equal("device", a.device, b.device)
    equal("dtype", a.dtype, b.dtype)


def _compare_sparse(a: Any, b: Any, rtol: float, atol: float, equal_nan: bool) -> None:
    counts = (("sparse dimensions", a.sparse_dim(), b.sparse_dim()), ("specified values", a._nnz(), b._nnz()))
    for what, mine, theirs in counts:
        text = f"The number of {what} in sparse COO tensors does not match: {mine} != {theirs}"
        _require(mine == theirs, text)
    _compare_values(a._indices(), b._indices(), 0, 0, False, "Sparse COO indices")
    _compare_values(a._values(), b._values(), rtol, atol, equal_nan, "Sparse COO values")


def _compare_values(a: Any, b: Any, rtol: float, atol: float, equal_nan: bool, what: str = "") -> None:
    a, b = a.detach(), b.detach()
    matches = T.isclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)
    if matches.all():
        return
    if a.dim() == 0:
        text = _of_numbers(a.item(), b.item(), rtol, atol, what or "Scalars")
    else:
        text = _of_tensors(a, b, matches, rtol, atol, what or "Tensor-likes")
    raise _Mismatch(AssertionError, text)


def _of_tensors(a: Any, b: Any, matches: Any, rtol: float, atol: float, what: str) -> str:
    """The text for two tensors that are not close. a, b, matches: (*S)."""
    total = matches.numel()
    wrong = total - int(matches.sum())
    lines = [_heading(what, rtol, atol), "", f"Mismatched elements: {wrong} / {total} ({wrong / total:.1%})"]
    if not (a.is_floating_point() or a.is_complex()):
        a, b = a.long(), b.long()  # differences of bytes would wrap
    difference = T.abs(a - b).masked_fill(matches, 0)
    relative = (difference / T.abs(b)).masked_fill(matches, 0)  # 0 / 0 where both are zero
    for kind, values, tolerance in (("absolute", difference, atol), ("relative", relative, rtol)):
        greatest, place = values.flatten().max(0)
        index = tuple(int(i) for i in np.unravel_index(int(place), tuple(values.shape)))
        allowed = _allowed(tolerance, rtol, atol)
        lines.append(f"Greatest {kind} difference: {greatest.item()} at index {index}{allowed}")
    return "\n".join(lines)


def assert_allclose(
    actual: Any,
    expected: Any,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = True,
    msg: str = "",
) -> None:
    """Deprecated: assert_close without check_dtype, with the looser tolerances of old. actual, expected: (*S).

    rtol and atol: float16 1e-3 and 1e-3, float32 1e-4 and 1e-5, float64 1e-5 and 1e-8, others 0.
    """
    warnings.warn(
        "`torch.testing.assert_allclose()` is deprecated since 1.12 and will be removed in a future release. "
        "Please use `torch.testing.assert_close()` instead. "
        "You can find detailed upgrade instructions in https://github.com/pytorch/pytorch/issues/61844.",
        FutureWarning,
        stacklevel=2,
    )
    actual = actual if isinstance(actual, Tensor) else T.tensor(actual)
    expected = expected if isinstance(expected, Tensor) else T.tensor(expected, dtype=actual.dtype)
    if rtol is None and atol is None:
        rtol, atol = _looser([actual.dtype.name, expected.dtype.name], _OLD_TOLERANCES)
    assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=equal_nan, check_dtype=False, msg=msg or None)


# ---- random tensors


def make_tensor(
    *shape: Any,
    dtype: dtype,
    device: Any,
    low: float | None = None,
    high: float | None = None,
    requires_grad: bool = False,
    noncontiguous: bool = False,
    exclude_zero: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Uniform random numbers out of [low, high), the numbers of PyTorch for the same seed. -> (*shape) of dtype.

    Args:
        shape: integers, or one sequence of integers.
        low, high: default [0, 2) for bool, [-9, 10) for integers (unsigned ones from 0), [-9, 9) otherwise; what the
            dtype cannot represent is clamped.
        requires_grad: for floating and complex dtypes only.
        noncontiguous: every second element of a tensor twice as large, where there is more than one.
        exclude_zero: zeros become 1, or the dtype's smallest normal number.
        memory_format: as of `clone`; not together with noncontiguous.

    ValueError for an empty interval, NaN, or options that exclude each other.
    """
    size = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    if noncontiguous and memory_format is not None:
        raise ValueError(
            "The parameters `noncontiguous` and `memory_format` are mutually exclusive, "
            f"but got {noncontiguous=} and {memory_format=}"
        )
    counted = not (dtype.is_floating_point or dtype.is_complex)
    if requires_grad and counted:
        raise ValueError(f"`requires_grad=True` is not supported for boolean and integral dtypes, but got {dtype=}")
    apart = noncontiguous and math.prod(size) > 1
    drawn = (*size[:-1], 2 * size[-1]) if apart else size
    low, high = _interval(low, high, dtype, counted)
    if counted:
        result = T.randint(math.ceil(low), math.ceil(high), drawn, device=device, dtype=dtype)
    else:
        result = _uniform(T.empty(drawn, device=device, dtype=dtype), low, high)
    if apart:
        result = result[..., 1::2]
    elif memory_format is not None:
        result = result.clone(memory_format=memory_format)
    if exclude_zero:
        result[result == 0] = 1 if counted else finfo(dtype).tiny
    return result.requires_grad_(requires_grad) if requires_grad else result


def _interval(low: float | None, high: float | None, kind: dtype, counted: bool) -> tuple[float, float]:
    """low and high within what the dtype holds. ValueError where that leaves nothing."""
    least: float
    beyond: float
    if kind.name == "bool":
        least, beyond, defaults = 0, 2, (0, 2)
    elif counted:
        info = iinfo(kind)  # randint cannot draw the largest int64, since its own bounds are int64
        least, beyond, defaults = info.min, info.max + (kind.name != "int64"), (-9, 10)
    else:
        least, beyond, defaults = finfo(kind).min, finfo(kind).max, (-9, 9)
    low = defaults[0] if low is None else low
    high = defaults[1] if high is None else high
    if low != low or high != high:
        raise ValueError(f"`low` and `high` cannot be NaN, but got {low=} and {high=}")
    if low == high and not counted:
        warnings.warn(
            "Passing `low==high` to `torch.testing.make_tensor` for floating or complex types "
            "is deprecated since 2.1 and will be removed in 2.3. "
            "Use `torch.full(...)` instead.",
            FutureWarning,
            stacklevel=3,
        )
    elif low >= high:
        raise ValueError(f"`low` must be less than `high`, but got {low} >= {high}")
    elif high < least or low >= beyond:
        raise ValueError(
            f"The value interval specified by `low` and `high` is [{low}, {high}), "
            f"but {kind} only supports [{least}, {beyond})"
        )
    return min(max(low, least), beyond), min(max(high, least), beyond)


def _uniform(t: Any, low: float, high: float) -> Any:
    """Fills t; half the range where all of it is more than the dtype's largest number."""
    parts = T.view_as_real(t) if t.is_complex() else t
    if high - low >= finfo(t.dtype).max:
        parts.uniform_(low / 2, high / 2).mul_(2)
    else:
        parts.uniform_(low, high)
    return t
