"""Complex numbers: their parts, joined parts, conjugates."""

from __future__ import annotations

from typing import Any

from ..coerce import into
from ..op import GRAPH
from ..tensor import Tensor
from .elementwise import only_tensors
from .shape import storage_offset
from .table import public


@public
def conj(input: Tensor) -> Tensor:
    """The complex conjugate; the tensor itself where it is real. (*S) -> (*S).

    Here a tensor of its own: PyTorch's is a view with a flag.
    """
    return GRAPH.conj(input) if input.dtype.is_complex else input


@public(inplace=True)
def conj_physical(input: Tensor) -> Tensor:
    """The complex conjugate; the tensor itself where it is real. (*S) -> (*S)."""
    return conj(input)


@public
def resolve_conj(input: Tensor) -> Tensor:
    """The tensor itself: nothing is conjugated lazily here. (*S) -> (*S)."""
    return input


@public
def resolve_neg(input: Tensor) -> Tensor:
    """The tensor itself: nothing is negated lazily here. (*S) -> (*S)."""
    return input


@public
def is_conj(input: Tensor) -> bool:
    """Whether the tensor is conjugated lazily: never."""
    return False


@public
def is_neg(input: Tensor) -> bool:
    """Whether the tensor is negated lazily: never."""
    return False


@public(method=False)
def real(input: Tensor) -> Tensor:
    """The real part, sharing memory; the tensor itself where it is real. (*S) -> (*S). Also the attribute `.real`."""
    return GRAPH.real(input) if input.dtype.is_complex else input


@public(method=False)
def imag(input: Tensor) -> Tensor:
    """The imaginary part, sharing memory. (*S) complex -> (*S). RuntimeError for real dtypes. Also `.imag`."""
    if not input.dtype.is_complex:
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return GRAPH.imag(input)


def _real_pair(name: str, second: str, x: Tensor, y: Tensor) -> None:
    only_tensors(name, **{second: y})
    for t in (x, y):
        if not t.dtype.is_floating_point:
            raise RuntimeError(
                "Expected both inputs to be Half, Float or Double tensors but got "
                f"{x.dtype.legacy} and {y.dtype.legacy}"
            )
    if x.dtype is not y.dtype:
        raise RuntimeError(
            f"Expected object of scalar type {x.dtype.legacy} but got scalar type {y.dtype.legacy} for second argument"
        )


@public(method=False, name="complex")
def complex_(real: Tensor, imag: Tensor, *, out: Any = None) -> Tensor:
    """real + i imag. real, imag: float32 or float64, (*S), (*T) -> (*broadcast(S, T)) complex."""
    only_tensors("complex", real=real)
    _real_pair("complex", "imag", real, imag)
    if out is None:
        return GRAPH.complex(real, imag)
    want = real.dtype.to_complex()
    if out.dtype != want:
        raise RuntimeError(
            f"Expected object of scalar type {want.legacy} but got scalar type {out.dtype.legacy} for argument 'out'"
        )
    return into(out, "complex", GRAPH.complex(real, imag))


@public(method=False)
def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """abs * exp(i angle). abs, angle (radians): float32 or float64, (*S), (*T) -> (*broadcast(S, T)) complex."""
    only_tensors("polar", abs=abs)
    _real_pair("polar", "angle", abs, angle)
    return GRAPH.polar(abs, angle)


@public(method=False)
def view_as_real(input: Tensor) -> Tensor:
    """Complex numbers as pairs (real, imaginary), sharing memory. (*S) -> (*S, 2)."""
    return GRAPH.view_as_real(input)


@public(method=False)
def view_as_complex(input: Tensor) -> Tensor:
    """Pairs (real, imaginary) as complex numbers, sharing memory. (*S, 2) -> (*S)."""
    a = input.array
    if a.ndim and a.shape[-1] == 2 and a.dtype.kind == "f":
        if any(s // a.itemsize % 2 for s, n in zip(a.strides[:-1], a.shape[:-1], strict=True) if n > 1):
            raise RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension")
        if storage_offset(input) % 2:
            raise RuntimeError("Tensor must have a storage_offset divisible by 2")
    return GRAPH.view_as_complex(input)
