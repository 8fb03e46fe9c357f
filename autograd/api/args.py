"""Reading PyTorch's arguments: dimensions, shapes."""

from __future__ import annotations

import math
from operator import index
from typing import Any

import numpy as np

from ...backends.registry import backend_of
from ..dtypes import as_dtype
from ..op import GRAPH
from ..tensor import wrap


def dim_of(dim: int, ndim: int) -> int:
    """`dim` as a non-negative index. IndexError when it is out of range for `ndim` dimensions."""
    n = ndim if ndim else 1
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return dim + n if dim < 0 else dim


def axes_of(input: Any, dim: Any) -> tuple[int, ...]:
    """The axes that a reduction's `dim` means: all for None or (), else each one, checked and distinct."""
    ndim = input.array.ndim
    if dim is None or (dim.__class__ in (tuple, list) and not dim):
        return tuple(range(ndim))
    if dim.__class__ is int:
        axis = dim_of(dim, ndim)
        return (axis,) if ndim else ()
    dims = (dim,) if hasattr(dim, "__index__") else tuple(dim)
    axes = tuple([dim_of(index(d), ndim) for d in dims])
    if len(set(axes)) != len(axes):
        twice = next(a for i, a in enumerate(axes) if a in axes[:i])
        raise RuntimeError(f"dim {twice} appears multiple times in the list of dims")
    return axes if ndim else ()


def to_dtype(input: Any, dtype: Any) -> Any:
    """`input` in the dtype given as `dtype=`, recorded; itself where it has it."""
    target = as_dtype(dtype).np
    return input if input.array.dtype is target or input.array.dtype == target else GRAPH.cast(input, dtype=target)


def sizes_of(sizes: tuple[Any, ...], name: str, what: str = "size", keyword: Any = None) -> tuple[int, ...]:
    """The ints of `f(2, 3)`, `f((2, 3))` or `f(what=(2, 3))`. TypeError for none at all, and for what is no integer."""
    if keyword is not None:
        sizes = (keyword,)
    elif not sizes:
        raise TypeError(f'{name}() missing 1 required positional arguments: "{what}"')
    if len(sizes) == 1 and not hasattr(sizes[0], "__index__"):
        try:
            sizes = tuple(sizes[0])
        except TypeError:
            raise TypeError(
                f"{name}(): argument '{what}' (position 1) must be tuple of ints, not {type(sizes[0]).__name__}"
            ) from None
    for i, n in enumerate(sizes):
        if n.__class__ is not int:
            if not hasattr(n, "__index__"):
                raise TypeError(
                    f"{name}(): argument '{what}' (position 1) must be tuple of ints, but found element of type "
                    f"{type(n).__name__} at pos {i}"
                )
            sizes = tuple([index(m) for m in sizes])
    return sizes


def int_of(value: Any, name: str, what: str) -> int:
    """One integer argument. TypeError for anything else."""
    if value.__class__ is int:
        return value
    if not hasattr(value, "__index__"):
        raise TypeError(f"{name}(): argument '{what}' must be int, not {type(value).__name__}")
    return index(value)


def tensors_of(tensors: Any, name: str, like: type) -> tuple[Any, ...]:
    """A tuple of Tensors from a tuple or list of them. TypeError for anything else."""
    if tensors.__class__ is not tuple and tensors.__class__ is not list and not isinstance(tensors, (tuple, list)):
        raise TypeError(
            f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not {type(tensors).__name__}"
        )
    for i, t in enumerate(tensors):
        if not isinstance(t, like):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got {type(t).__name__}")
    return tuple(tensors)


LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": 3.4028234663852886e38}
_C_NAMES = {
    "float16": "c10::Half", "bfloat16": "c10::BFloat16", "float32": "float", "float64": "double", "bool": "bool",
    "complex64": "c10::complex<float>", "complex128": "c10::complex<double>",
}  # fmt: skip


def number_for(value: Any, input: Any) -> Any:
    """A Python number as `input`'s dtype takes it: floats cut to ints, -1 as the largest unsigned number.

    RuntimeError where the dtype has no such value.
    """
    return number_as(value.item() if hasattr(value, "item") else value, input.dtype)


def number_as(value: Any, d: Any) -> Any:
    """`number_for` of a dtype."""
    kind = d.np.kind
    if kind == "c":
        return value
    if not isinstance(value, complex):
        if kind == "b":
            return bool(value)
        if kind in "fV":
            if not LARGEST.get(d.name, math.inf) < abs(value) < math.inf:
                return float(value)
        elif math.isfinite(value):
            number, bits = int(value), 8 * d.itemsize
            if kind == "u" and -(2**bits) < number < 2**bits:
                return number % 2**bits
            if kind == "i" and -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
                return number
    raise RuntimeError(f"value cannot be converted to type {_C_NAMES.get(d.name, d.name + '_t')} without overflow")


def number_of(value: Any, name: str, what: str) -> Any:
    """One number argument, given as such or as a 0-d tensor. TypeError for anything else."""
    if hasattr(value, "array") and not value.array.ndim:
        return value.item()
    if isinstance(value, (int, float, complex)):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biufc":
        return value.item()
    raise TypeError(f"{name}(): argument '{what}' must be Number, not {type(value).__name__}")


def tensor_beside(like: Any, array: Any) -> Any:
    """A tensor, on the device of `like`, of what a function of its array module gave."""
    backend = backend_of(like.array)
    array = backend.tidy(array)
    return wrap(backend.asarray(array, device=backend.device_of(like.array)) if backend.several else array)


def normalized_shape_of(input: Any, normalized_shape: Any, **affine: Any) -> tuple[int, ...]:
    """The extents that a normalisation goes over, checked against those of the input and of `affine`: weight, bias."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape:
        raise RuntimeError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, but got "
            "normalized_shape = []"
        )
    for word, t in affine.items():
        if t is not None and t.array.shape != shape:
            raise RuntimeError(
                f"Expected {word} to be of same shape as normalized_shape, but got {word} of shape {list(t.shape)} and "
                f"normalized_shape = {list(shape)}"
            )
    if input.array.shape[-len(shape) :] != shape:
        text = ", ".join(map(str, shape))
        raise RuntimeError(
            f"Given normalized_shape={list(shape)}, expected input with shape [*, {text}], but got input of "
            f"size{list(input.shape)}"
        )
    return shape
