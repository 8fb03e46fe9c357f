"""Element types: PyTorch's names over NumPy's dtypes, and PyTorch's rules of type promotion.

The rules stand above the backends, because NumPy 2 and CuPy promote otherwise (int32 + float32 is float64 there).
Source: https://docs.pytorch.org/docs/stable/tensor_attributes.html#type-promotion-doc
"""

from __future__ import annotations

from typing import Any

import numpy as np


class dtype:
    """An element type. `tapegrad.float32` and its like are the only instances; compare them by identity or `==`."""

    __slots__ = ("name", "np", "category", "itemsize", "legacy")

    def __init__(self, name: str, np_dtype: np.dtype[Any], category: int, legacy: str):
        self.name = name
        self.np = np_dtype
        self.category = category
        self.itemsize = np_dtype.itemsize
        self.legacy = legacy  # the word in torch.FloatTensor, used by error texts and `Tensor.type()`

    @property
    def is_floating_point(self) -> bool:
        return self.category == FLOAT

    @property
    def is_complex(self) -> bool:
        return self.category == COMPLEX

    @property
    def is_signed(self) -> bool:
        return self.np.kind not in "ub"

    def to_real(self) -> dtype:
        return {"complex64": float32, "complex128": float64}.get(self.name, self)

    def to_complex(self) -> dtype:
        """The complex dtype of this precision (complex64 for the half precisions). RuntimeError for integers."""
        if self.category <= INT:
            raise RuntimeError(f"Unknown Complex ScalarType for {self.legacy}")
        return complex128 if self.name in ("float64", "complex128") else complex64

    def __repr__(self) -> str:
        return "torch." + self.name  # printed as PyTorch prints it

    def __reduce__(self) -> str | tuple[Any, ...]:
        return (by_name, (self.name,))


BOOL, INT, FLOAT, COMPLEX = range(4)

bool_ = dtype("bool", np.dtype(np.bool_), BOOL, "Bool")
uint8 = dtype("uint8", np.dtype(np.uint8), INT, "Byte")
uint16 = dtype("uint16", np.dtype(np.uint16), INT, "UInt16")
uint32 = dtype("uint32", np.dtype(np.uint32), INT, "UInt32")
uint64 = dtype("uint64", np.dtype(np.uint64), INT, "UInt64")
int8 = dtype("int8", np.dtype(np.int8), INT, "Char")
int16 = dtype("int16", np.dtype(np.int16), INT, "Short")
int32 = dtype("int32", np.dtype(np.int32), INT, "Int")
int64 = dtype("int64", np.dtype(np.int64), INT, "Long")
float16 = dtype("float16", np.dtype(np.float16), FLOAT, "Half")
float32 = dtype("float32", np.dtype(np.float32), FLOAT, "Float")
float64 = dtype("float64", np.dtype(np.float64), FLOAT, "Double")
complex64 = dtype("complex64", np.dtype(np.complex64), COMPLEX, "ComplexFloat")
complex128 = dtype("complex128", np.dtype(np.complex128), COMPLEX, "ComplexDouble")

ALL = [
    bool_, uint8, uint16, uint32, uint64, int8, int16, int32, int64, float16, float32, float64, complex64, complex128,
]  # fmt: skip
_BY_NAME = {d.name: d for d in ALL}
BY_NUMPY: dict[Any, dtype] = {d.np: d for d in ALL}
ALIASES = {
    "half": "float16", "float": "float32", "double": "float64", "short": "int16", "int": "int32", "long": "int64",
    "cfloat": "complex64", "cdouble": "complex128",
}  # fmt: skip

# The two dtypes whose arrays take the fast path of recorded ops; compared by identity.
F32, F64 = float32.np, float64.np


def by_name(name: str) -> dtype:
    """The dtype of that PyTorch name; bfloat16 needs the package ml_dtypes."""
    name = ALIASES.get(name, name)
    if name == "bfloat16" and name not in _BY_NAME:
        try:
            from ml_dtypes import bfloat16 as scalar
        except ImportError as error:
            raise ImportError(
                "bfloat16 needs the package ml_dtypes: pip install 'tapegrad[bfloat16]'"
            ) from error
        made = dtype("bfloat16", np.dtype(scalar), FLOAT, "BFloat16")
        _BY_NAME["bfloat16"] = BY_NUMPY[made.np] = made
        ALL.append(made)
    return _BY_NAME[name]


def from_numpy_dtype(np_dtype: Any) -> dtype:
    """The dtype of a NumPy dtype. TypeError where PyTorch has none (strings, objects, dates, float128)."""
    found = BY_NUMPY.get(np_dtype)
    if found is None:
        np_dtype = np.dtype(np_dtype)
        if np_dtype.name == "bfloat16":
            return by_name("bfloat16")
        found = BY_NUMPY.get(np_dtype.newbyteorder("="))
        if found is None:
            raise TypeError(
                f"can't convert np.ndarray of type {np_dtype}. The only supported types are: float64, float32, "
                "float16, complex64, complex128, int64, int32, int16, int8, uint64, uint32, uint16, uint8, and bool."
            )
    return found


_SCALARS: dict[type, dtype] = {bool: bool_, int: int64}


def as_dtype(value: Any) -> dtype:
    """A dtype from what PyTorch accepts as `dtype=`: a dtype, or Python's bool, int, float, complex."""
    if isinstance(value, dtype):
        return value
    if value is float:
        return float64
    if value is complex:
        return complex128
    if value in _SCALARS:
        return _SCALARS[value]
    raise TypeError(
        f"dtype must be a tapegrad dtype such as tapegrad.float32, but got {type(value).__name__}: {value!r}"
    )


class _Default:
    """The process-wide default floating dtype, as PyTorch keeps one."""

    float: dtype = float32


def get_default_dtype() -> dtype:
    """The dtype that Python floats become. float32 unless set."""
    return _Default.float


def set_default_dtype(d: dtype) -> None:
    """Sets the dtype that Python floats become.

    Raises TypeError when `d` is no floating dtype.
    """
    if not isinstance(d, dtype) or not d.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, but got {d!r}")
    _Default.float = d


_BARE = ("uint16", "uint32", "uint64")  # PyTorch has them as storage; with other integers they do not mix
_INT_ORDER = {"int8": 0, "int16": 1, "int32": 2, "int64": 3}
_INTS = (int8, int16, int32, int64)
_promoted: dict[tuple[dtype, dtype], dtype] = {}


def promote_types(type1: dtype, type2: dtype) -> dtype:
    """The smallest dtype to which both convert by PyTorch's table (float16 + int64 is float16)."""
    if type1 is type2:
        return type1
    key = (type1, type2)
    found = _promoted.get(key)
    if found is None:
        found = _promoted[key] = _promote(type1, type2)
    return found


def _promote(a: dtype, b: dtype) -> dtype:
    for i, d in enumerate((a, b), 1):
        if not isinstance(d, dtype):
            raise TypeError(
                f"promote_types(): argument 'type{i}' (position {i}) must be torch.dtype, not {type(d).__name__}"
            )
    if a.category > b.category:
        a, b = b, a
    for odd, other in ((a, b), (b, a)):
        if odd.name in _BARE and other.category != FLOAT:
            raise RuntimeError(
                "Promotion for uint16, uint32, uint64 types is not supported, attempted to promote "
                f"{odd.legacy} and {other.legacy}"
            )
    if a.category < b.category:
        if b.category == COMPLEX and a is float64:
            return complex128
        return b
    if a.category == COMPLEX:
        return complex128
    if a.category == FLOAT:
        if a.itemsize == b.itemsize:  # float16 with bfloat16
            return float32
        return a if a.itemsize > b.itemsize else b
    if a.name in _INT_ORDER and b.name in _INT_ORDER:
        return _INTS[max(_INT_ORDER[a.name], _INT_ORDER[b.name])]
    if a.is_signed == b.is_signed:
        return a if a.itemsize > b.itemsize else b
    signed, unsigned = (a, b) if a.is_signed else (b, a)
    return signed if signed.itemsize > 1 else int16


def scalar_dtype(value: Any) -> dtype:
    """The dtype a Python scalar has by itself: bool, int64, the default float, or its complex counterpart."""
    if isinstance(value, (bool, np.bool_)):
        return bool_
    if isinstance(value, (int, np.integer)):
        return int64
    if isinstance(value, (float, np.floating)):
        return _Default.float
    return _Default.float.to_complex()


def result_dtype(sized: list[dtype], zero_dim: list[dtype], scalars: list[dtype]) -> dtype:
    """The dtype of an op's result: tensors with dimensions decide; 0-d tensors and scalars only raise the category.

    `sized`, `zero_dim`, `scalars`: the dtypes of the arguments of each kind.
    """
    result: dtype | None = None
    for group in (sized, zero_dim, scalars):
        if not group:
            continue
        joined = group[0]
        for d in group[1:]:
            joined = promote_types(joined, d)
        if result is None:
            result = joined
        elif joined.category > result.category:
            # A float scalar beside an int tensor gives the default float; beside a float tensor it changes nothing.
            result = joined if result.category <= INT else result.to_complex()
    assert result is not None
    return result


def can_cast(from_: dtype, to: dtype) -> bool:
    """Whether PyTorch lets an in-place result of `from_` be written into `to`: the category may not fall."""
    try:
        return from_.category <= to.category
    except AttributeError:
        word, d = ("to", to) if isinstance(from_, dtype) else ("from_", from_)
        raise TypeError(f"can_cast(): argument '{word}' must be torch.dtype, not {type(d).__name__}") from None
