"""Which dtypes an op takes: for others, NumPy's and CuPy's functions would compute something that PyTorch refuses.

The kinds are NumPy's letters: b bool, i and u integers, f and V floats (V is bfloat16), c complex.
"""

from __future__ import annotations

WORDS = {
    "bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long",
    "float16": "Half", "bfloat16": "BFloat16", "float32": "Float", "float64": "Double",
    "complex64": "ComplexFloat", "complex128": "ComplexDouble",
}  # fmt: skip


def only(kinds, name, *arrays):
    """NotImplementedError where an array is of none of the kinds; Python numbers beside arrays pass."""
    for a in arrays:
        if hasattr(a, "dtype") and a.dtype.kind not in kinds:
            raise NotImplementedError(f"\"{name}\" not implemented for '{WORDS.get(a.dtype.name, a.dtype)}'")


def kind(x, y):
    """The kind of two arrays of one dtype, of which either may be a Python number instead."""
    return (x if hasattr(x, "dtype") else y).dtype.kind
