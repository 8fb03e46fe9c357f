"""`tapegrad.fft`: discrete Fourier transforms with PyTorch's arguments.

norm: "backward" (or None: 1/n in the inverse), "forward" (1/n in the forward transform), "ortho" (1/sqrt(n) in both).
Integers are transformed as the default floating dtype; float32 gives complex64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import FLOAT, as_dtype, from_numpy_dtype, get_default_dtype
from ..op import GRAPH
from ..ops import fft as op
from ..tensor import Tensor
from .args import dim_of, int_of, to_dtype
from .creation import finish
from .spectral import floating
from .table import PUBLIC, public


def transform(function: Any) -> Any:
    """Declares a function of `tapegrad.fft`, no tapegrad.NAME and no method. `out=` and aliases as `public`."""
    name = "fft_" + function.__name__
    call = public(function, name=name, method=False)
    PUBLIC[name].is_function = False
    return call


# ---- arguments


def _norm_of(norm: str | None) -> str:
    if norm is None:
        return "backward"
    if norm not in op.ADJOINT:
        raise RuntimeError(f'Invalid normalization mode: "{norm}"')
    return norm


def _real(input: Tensor, text: str) -> Tensor:
    d = from_numpy_dtype(input.array.dtype)
    if d.category > FLOAT:
        raise RuntimeError(text.format(d.legacy))
    return floating(input)


def _spectrum(input: Tensor) -> Tensor:
    """`input` as complex numbers."""
    x = floating(input)
    return x if x.array.dtype.kind == "c" else to_dtype(x, from_numpy_dtype(x.array.dtype).to_complex())


def _axis(input: Tensor, dim: int) -> int:
    if not input.array.ndim:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    return dim_of(dim, input.array.ndim)


def _points(n: int) -> int:
    if n < 1:
        raise RuntimeError(f"Invalid number of data points ({n}) specified")
    return n


def _ints(name: str, what: str, value: Any) -> list[int]:
    return [int_of(v, name, what) for v in (value if isinstance(value, (tuple, list)) else (value,))]


def _axes(name: str, input: Tensor, s: Any, dim: Any) -> tuple[tuple[int, ...], list[int]]:
    """The axes to transform, and the length that each is to have, -1 where it stays."""
    ndim = input.array.ndim
    sizes = None if s is None else _ints(name, "s", s)
    if dim is not None:
        dims = _ints(name, "dim", dim)
        axes = tuple([_axis(input, d) for d in dims])
        if len(set(axes)) != len(axes):
            raise RuntimeError("FFT dims must be unique")
        if sizes is not None and len(sizes) != len(axes):
            raise RuntimeError("When given, dim and shape arguments must have the same length")
    elif sizes is None:
        axes = tuple(range(ndim))
    else:
        if len(sizes) > ndim:
            raise RuntimeError(f"Got shape with {len(sizes)} values but input tensor only has {ndim} dimensions.")
        axes = tuple(range(ndim - len(sizes), ndim))
    return axes, [-1] * len(axes) if sizes is None else sizes


def _fitted(x: Tensor, axes: tuple[int, ...], sizes: list[int]) -> Tensor:
    """x cut off or filled up with zeros at the end of axes, to sizes; -1 leaves an axis as it is."""
    shape = x.array.shape
    widths = [(0, 0)] * len(shape)
    for axis, size in zip(axes, sizes, strict=True):
        if size != -1 or not shape[axis]:
            widths[axis] = (0, _points(shape[axis] if size == -1 else size) - shape[axis])
    return GRAPH.pad_constant(x, widths=tuple(widths), value=0) if any(w[1] for w in widths) else x


def _complex(name: str, input: Tensor, s: Any, dim: Any, norm: Any, inverse: bool) -> Tensor:
    axes, sizes = _axes(name, input, s, dim)
    x = _fitted(floating(input), axes, sizes)
    if not axes:
        return _spectrum(x) if x.array.dtype.kind != "c" else GRAPH.clone(x)
    return op.fft_c2c(x, axes=axes, inverse=inverse, norm=_norm_of(norm))


def _halved(name: str, x: Tensor, s: Any, dim: Any, norm: Any) -> Tensor:
    axes, sizes = _axes(name, x, s, dim)
    if not axes:
        raise RuntimeError(f"{name.removeprefix('fft_')} must transform at least one axis")
    return op.fft_r2c(_fitted(x, axes, sizes), axes=axes, norm=_norm_of(norm))


def _from_half(name: str, input: Tensor, s: Any, dim: Any, norm: Any, conjugate: bool) -> Tensor:
    axes, sizes = _axes(name, input, s, dim)
    if not axes:
        raise RuntimeError(f"{name.removeprefix('fft_')} must transform at least one axis")
    size = _points(2 * (input.array.shape[axes[-1]] - 1) if sizes[-1] == -1 else sizes[-1])
    x = _fitted(_spectrum(input), axes, [*sizes[:-1], size // 2 + 1])
    norm = _norm_of(norm)
    if conjugate:
        return op.fft_c2r(GRAPH.conj(x), axes=axes, size=size, norm=op.ADJOINT[norm])
    return op.fft_c2r(x, axes=axes, size=size, norm=norm)


def _one(name: str, input: Tensor, n: Any, dim: Any) -> tuple[Any, tuple[int]]:
    """n and dim of a transform along one dimension, as those of one along several."""
    axis = _axis(input, int_of(dim, name, "dim"))
    return (None if n is None else (_points(int_of(n, name, "n")),)), (axis,)


# ---- one dimension


@transform
def fft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The discrete Fourier transform along dim, cut off or filled up with zeros to n. (*S) -> (S, n at dim) complex.

    >>> import tapegrad as torch
    >>> torch.fft.fft(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    tensor([1.+0.j, 1.+0.j, 1.+0.j, 1.+0.j])
    """
    s, axes = _one("fft_fft", input, n, dim)
    return _complex("fft_fft", input, s, axes, norm, False)


@transform
def ifft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of `fft`. (*S) -> (S, n at dim) complex."""
    s, axes = _one("fft_ifft", input, n, dim)
    return _complex("fft_ifft", input, s, axes, norm, True)


@transform
def rfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The first half of the spectrum of real numbers; the other half is its conjugate. (*S) -> (S, n // 2 + 1 at dim).

    >>> import tapegrad as torch
    >>> torch.fft.irfft(torch.fft.rfft(torch.tensor([1.0, 2.0, 4.0, 8.0])))
    tensor([1., 2., 4., 8.])
    """
    x = _real(input, "rfft expects a real input tensor, but got {}")
    s, axes = _one("fft_rfft", input, n, dim)
    return _halved("fft_rfft", x, s, axes, norm)


@transform
def irfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of `rfft`; n, the length of the result, is 2 (S[dim] - 1) by default. (*S) -> (S, n at dim) real."""
    s, axes = _one("fft_irfft", input, n, dim)
    return _from_half("fft_irfft", input, s, axes, norm, False)


@transform
def hfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The real spectrum of a Hermitian signal, of which half is given. (*S) -> (S, n at dim), n = 2 (S[dim] - 1)."""
    s, axes = _one("fft_hfft", input, n, dim)
    return _from_half("fft_hfft", input, s, axes, norm, True)


@transform
def ihfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of `hfft`. (*S) real -> (S, n // 2 + 1 at dim) complex."""
    x = _real(input, "ihfft expects a real input tensor, but got {}")
    s, axes = _one("fft_ihfft", input, n, dim)
    return GRAPH.conj(_halved("fft_ihfft", x, s, axes, op.ADJOINT[_norm_of(norm)]))


# ---- several dimensions


@transform
def fftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """The transform along several dims (all; with s, the last len(s)), each cut or filled to s. (*S) -> complex."""
    return _complex("fft_fftn", input, s, dim, norm, False)


@transform
def ifftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """The inverse of `fftn`. (*S) -> (S, s at dim) complex."""
    return _complex("fft_ifftn", input, s, dim, norm, True)


@transform
def rfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """`rfft` along the last of dim, `fft` along the others. (*S) real -> (S, s at dim, half of it at the last)."""
    x = _real(input, "rfftn expects a real-valued input tensor, but got {}")
    return _halved("fft_rfftn", x, s, dim, norm)


@transform
def irfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """The inverse of `rfftn`. (*S) -> (S, s at dim) real; the last of s is 2 (S[dim[-1]] - 1) by default."""
    return _from_half("fft_irfftn", input, s, dim, norm, False)


@transform
def hfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """`fft` along all of dim but the last, `hfft` along that. (*S) -> (S, s at dim) real."""
    return _from_half("fft_hfftn", input, s, dim, norm, True)


@transform
def ihfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """The inverse of `hfftn`. (*S) real -> (S, s at dim, half of it at the last) complex."""
    x = _real(input, "Only supports floating-point dtypes, but found: {}")
    return GRAPH.conj(_halved("fft_ihfftn", x, s, dim, op.ADJOINT[_norm_of(norm)]))


def _planar(function: Any, name: str, of: str) -> Any:
    inner = function.__wrapped__

    def plane(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
        return inner(input, s, dim, norm)

    plane.__name__, plane.__qualname__ = name, name
    plane.__doc__ = f"`{of}` along two dims, the last two by default. (*, H, W) -> the size that `{of}` gives."
    return transform(plane)


fft2 = _planar(fftn, "fft2", "fftn")
ifft2 = _planar(ifftn, "ifft2", "ifftn")
rfft2 = _planar(rfftn, "rfft2", "rfftn")
irfft2 = _planar(irfftn, "irfft2", "irfftn")
hfft2 = _planar(hfftn, "hfft2", "hfftn")
ihfft2 = _planar(ihfftn, "ihfft2", "ihfftn")

# ---- frequencies and their order


def _frequencies(name: str, places: Any, n: int, d: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    out = get_default_dtype() if dtype is None else as_dtype(dtype)
    if out.category < FLOAT:
        raise RuntimeError(f"{name} requires a floating point or complex dtype")
    if out.category > FLOAT:
        raise NotImplementedError(f"\"arange_cpu\" not implemented for '{out.legacy}'")
    steps = np.float64(n) * np.float64(d)
    return finish(places.astype(out.np) * np.asarray(1 / steps if steps else np.inf, out.np), device, requires_grad)


def _count(name: str, n: Any) -> int:
    n = int_of(n, name, "n")
    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    return n


@transform
def fftfreq(
    n: int, d: float = 1.0, *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """The frequencies of `fft`'s n results, in cycles per unit of the spacing d, negative ones last. -> (n,)."""
    n = _count("fft_fftfreq", n)
    places = np.concatenate([np.arange((n + 1) // 2), np.arange(-(n // 2), 0)])
    return _frequencies("fftfreq", places, n, d, dtype, device, requires_grad)


@transform
def rfftfreq(
    n: int, d: float = 1.0, *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """The frequencies of `rfft`'s results of n numbers, in cycles per unit of the spacing d. -> (n // 2 + 1,)."""
    n = _count("fft_rfftfreq", n)
    return _frequencies("rfftfreq", np.arange(n // 2 + 1), n, d, dtype, device, requires_grad)


def _shifted(name: str, input: Tensor, dim: Any, up: int) -> Tensor:
    """Rolled by half of each dimension, rounded down for up 0, up for 1."""
    shape = input.array.shape
    dims = range(len(shape)) if dim is None else _ints(name, "dim", dim)
    axes = tuple([dim_of(d, len(shape)) for d in dims])
    return GRAPH.roll(input, shifts=tuple([(shape[a] + up) // 2 for a in axes]), axes=axes)


@transform
def fftshift(input: Tensor, dim: Any = None) -> Tensor:
    """Spectra with frequency 0 moved to the middle of each of dim (all). (*S) -> (*S)."""
    return _shifted("fft_fftshift", input, dim, 0)


@transform
def ifftshift(input: Tensor, dim: Any = None) -> Tensor:
    """The inverse of `fftshift`. (*S) -> (*S)."""
    return _shifted("fft_ifftshift", input, dim, 1)
