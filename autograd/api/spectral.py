"""Short-time Fourier transforms: spectra of overlapping windows of a signal, and the signal of such spectra."""

from __future__ import annotations

import math
import warnings
from typing import Any

from ...backends.registry import backend_of
from ..dtypes import FLOAT, INT, from_numpy_dtype, get_default_dtype
from ..op import GRAPH
from ..ops import fft as op
from ..tensor import Tensor
from .args import int_of, tensor_beside, to_dtype
from .table import public


def floating(input: Tensor) -> Tensor:
    """`input` in a dtype that is transformed: integers in the default one. RuntimeError for half precision."""
    d = from_numpy_dtype(input.array.dtype)
    if d.category <= INT:
        return to_dtype(input, get_default_dtype())
    if d.itemsize == 2:
        raise RuntimeError(f"Unsupported dtype {d.legacy}")
    return input


class Frames:
    """The arguments that both transforms share, checked, and the text in which PyTorch's errors name them."""

    def __init__(
        self, name: str, input: Tensor, n_fft: int, hop_length: Any, win_length: Any, window: Any, normalized: bool
    ):
        if window is not None and not isinstance(window, Tensor):
            raise TypeError(f"{name}(): argument 'window' (position 5) must be Tensor, not {type(window).__name__}")
        self.name, self.input, self.window = name, input, window
        self.size = int_of(n_fft, name, "n_fft")
        self.hop = self.size // 4 if hop_length is None else int_of(hop_length, name, "hop_length")
        self.length = self.size if win_length is None else int_of(win_length, name, "win_length")
        self.norm = "ortho" if normalized else "backward"

    def refuse(self, cause: str) -> RuntimeError:
        """The error that names the call and its cause."""
        window = "None" if self.window is None else f"{self.window.type()}{{{list(self.window.shape)}}}"
        return RuntimeError(
            f"{self.name}({self.input.type()}{list(self.input.shape)}, n_fft={self.size}, hop_length={self.hop}, "
            f"win_length={self.length}, window={window}) : {cause}"
        )

    def window_of(self, like: Tensor) -> Any:
        """The window, in the middle of n_fft zeros where it is shorter; None where it is all ones."""
        window = self.window
        if window is None:
            if self.length == self.size:
                return None
            window = tensor_beside(like, backend_of(like.array).xp.ones(self.length, like.array.real.dtype))
        before = (self.size - self.length) // 2
        if self.length == self.size:
            return window
        return GRAPH.pad_constant(window, widths=((before, self.size - self.length - before),), value=0)


def _continued(input: Tensor, n_fft: int, mode: str) -> Tensor:
    """input with n_fft // 2 more elements at both ends. (L) or (B, L)."""
    width = n_fft // 2
    shape = input.array.shape
    if mode == "constant":
        return GRAPH.pad_constant(input, widths=(*((0, 0),) * (len(shape) - 1), (width, width)), value=0)
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError("Unrecognised padding mode " + mode)
    if width >= shape[-1] + (mode == "circular") and mode != "replicate":
        raise RuntimeError(
            "Argument #4: Padding size should be less than the corresponding input dimension, but got: padding "
            f"({width}, {width}) at dimension {len(shape) - 1} of input {list(shape)}"
        )
    return GRAPH.pad_edge(input, widths=(*((0, 0),) * (len(shape) - 1), (width, width)), how=mode)


@public
def stft(
    input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None, window: Any = None,
    center: bool = True, pad_mode: str = "reflect", normalized: bool = False, onesided: bool | None = None,
    return_complex: bool | None = None, align_to_window: bool | None = None,
) -> Tensor:  # fmt: skip
    """The spectra of windows of n_fft elements, hop_length (n_fft // 4) apart. input: (L) or (B, L) -> (B, N, T).

    N = n_fft // 2 + 1 (n_fft where not onesided) frequencies, T = 1 + L // hop_length times; without center, which
    continues the input by n_fft // 2 at both ends, 1 + (L - n_fft) // hop_length. window: (win_length), in the middle
    of the n_fft. return_complex=False gives (B, N, T, 2), real and imaginary parts.

    >>> import tapegrad as torch
    >>> torch.stft(torch.ones(8), 4, return_complex=True).shape
    torch.Size([3, 9])
    """
    if center and align_to_window is not None:
        raise RuntimeError("stft align_to_window should only be set when center = false")
    if from_numpy_dtype(input.array.dtype).category < FLOAT or input.array.ndim not in (1, 2):
        kind = "a 1D or 2D tensor" if input.array.ndim not in (1, 2) else "a tensor of floating point or complex values"
        raise Frames("stft", input, n_fft, hop_length, win_length, window, normalized).refuse(f"expected {kind}")
    x = _continued(floating(input), int_of(n_fft, "stft", "n_fft"), pad_mode) if center else floating(input)
    frames = Frames("stft", x, n_fft, hop_length, win_length, window, normalized)
    size, hop, length = frames.size, frames.hop, frames.length
    if not 0 < size <= x.array.shape[-1]:
        raise frames.refuse(f"expected 0 < n_fft < {x.shape[-1]}, but got n_fft={size}")
    if hop <= 0:
        raise frames.refuse(f"expected hop_length > 0, but got hop_length={hop}")
    if not 0 < length <= size:
        raise frames.refuse(f"expected 0 < win_length <= n_fft, but got win_length={length}")
    if window is not None and window.array.shape != (length,):
        raise frames.refuse(
            f"expected a 1D window tensor of size equal to win_length={length}, but got window with size "
            f"{list(window.shape)}"
        )
    is_complex = x.array.dtype.kind == "c" or (window is not None and window.array.dtype.kind == "c")
    if return_complex is None and not is_complex:
        raise RuntimeError(
            "stft requires the return_complex parameter be given for real inputs, and will further require that "
            "return_complex=True in a future PyTorch release."
        )
    if onesided and is_complex:
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    half = not is_complex if onesided is None else onesided
    spectra = _spectra(_framed(frames, x, align_to_window), frames, half)
    return GRAPH.view_as_real(spectra) if return_complex is False else spectra


def _framed(frames: Frames, x: Tensor, align_to_window: bool | None) -> Tensor:
    """The windows, weighted. x: (L) or (B, L) -> (B, T, n_fft)."""
    axis, size = x.array.ndim - 1, frames.size
    if align_to_window:  # as many windows as fit win_length, each in the middle of n_fft elements
        before = (size - frames.length) // 2
        ends = (before, size - frames.length - before)
        x = GRAPH.pad_constant(x, widths=(*((0, 0),) * axis, ends), value=0)
    parts = GRAPH.unfold(x, axis=axis, size=size, step=frames.hop)
    window = frames.window_of(x)
    return parts if window is None else parts * window


def _spectra(parts: Tensor, frames: Frames, half: bool) -> Tensor:
    """(B, T, n_fft) -> (B, N, T)."""
    last = parts.array.ndim - 1
    if half:
        out = op.fft_r2c(parts, axes=(last,), norm=frames.norm)
    else:
        out = op.fft_c2c(parts, axes=(last,), inverse=False, norm=frames.norm)
    return GRAPH.transpose(out, axis0=last - 1, axis1=last)


@public
def istft(
    input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None, window: Any = None,
    center: bool = True, normalized: bool = False, onesided: bool | None = None, length: int | None = None,
    return_complex: bool = False,
) -> Tensor:  # fmt: skip
    """The signal whose `stft` is input, the least squares one where there is none. (N, T) or (B, N, T) -> (B, length).

    By default all elements that windows cover, without the n_fft // 2 at both ends where center. RuntimeError where
    the windows leave an element uncovered. D. Griffin and J. Lim, Signal estimation from modified short-time Fourier
    transform, 1984.

    >>> import tapegrad as torch
    >>> torch.istft(torch.stft(torch.ones(8), 4, return_complex=True), 4)
    tensor([1., 1., 1., 1., 1., 1., 1., 1.])
    """
    frames = Frames("istft", input, n_fft, hop_length, win_length, window, normalized)
    half = _check_inverse(frames, onesided, return_complex)
    x = input if input.array.ndim == 3 else GRAPH.unsqueeze(input, axis=0)
    parts = GRAPH.transpose(x, axis0=1, axis1=2)
    if return_complex:
        parts = op.fft_c2c(parts, axes=(2,), inverse=True, norm=frames.norm)
    else:
        if not half:  # a real signal is asked for: the other half is taken as the conjugate of this one
            parts = GRAPH.slice_view(parts, index=(slice(None), slice(None), slice(0, frames.size // 2 + 1)))
        parts = op.fft_c2r(parts, axes=(2,), size=frames.size, norm=frames.norm)
    out = _overlapped(frames, parts, center, length)
    return out if input.array.ndim == 3 else GRAPH.squeeze_dim(out, axis=(0,))


def _check_inverse(frames: Frames, onesided: bool | None, return_complex: bool) -> bool:
    """The checks of `istft`'s arguments; whether input holds half of each spectrum."""
    x, window, size = frames.input, frames.window, frames.size
    if x.array.dtype.kind != "c":
        raise RuntimeError(
            "istft requires a complex-valued input tensor matching the output from stft with return_complex=True."
        )
    if not x.array.size:
        raise frames.refuse("input tensor cannot be empty.")
    if x.array.ndim not in (2, 3):
        raise frames.refuse(f"expected a tensor with 3 or 4 dimensions, but got {x.array.ndim + 1}")
    is_complex = window is not None and window.array.dtype.kind == "c"
    half = x.array.shape[-2] != size if onesided is None else onesided
    if x.array.shape[-2] != (size // 2 + 1 if half else size):
        expected = "n_fft / 2 + 1 when onesided=True" if half else "n_fft when onesided=False"
        raise frames.refuse(
            f"expected the frequency dimension (3rd to the last) of the input tensor to match {expected}, but got "
            f"{x.shape[-2]}"
        )
    if not 0 < frames.hop <= frames.length:
        raise frames.refuse("expected 0 < hop_length <= win_length")
    if not 0 < frames.length <= size:
        raise frames.refuse("expected 0 < win_length <= n_fft")
    if window is not None and window.array.shape != (frames.length,):
        raise frames.refuse("Invalid window shape. window has to be 1D and length of `win_length`")
    if return_complex and half:
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    if is_complex and not return_complex:
        raise RuntimeError("Complex windows are incompatible with return_complex=False")
    return half


def _overlapped(frames: Frames, parts: Tensor, center: bool, length: int | None) -> Tensor:
    """The weighted windows added at their places, over the sum of the squared weights. (B, T, n_fft) -> (B, length)."""
    batch, count, size = parts.array.shape
    covered = size + frames.hop * (count - 1)
    window = frames.window_of(parts)
    if window is None:
        window = GRAPH.ones_like(GRAPH.select(GRAPH.select(parts, axis=0, index=0), axis=0, index=0))
    fold = {"axis": 1, "size": size, "step": frames.hop}
    signal = GRAPH.fold(parts * window, shape=(batch, covered), **fold)
    weight = GRAPH.expand(GRAPH.square(window), shape=(1, count, size))
    weight = GRAPH.fold(weight, shape=(1, covered), **fold)
    start = size // 2 if center else 0
    stop = covered - start if length is None else min(start + length, covered)
    index = (slice(None), slice(start, max(start, stop)))
    signal, weight = GRAPH.slice_view(signal, index=index), GRAPH.slice_view(weight, index=index)
    least = abs(weight.array).min() if weight.array.size else math.nan
    if not least > 1e-11:
        raise frames.refuse("window overlap add min: 1")
    signal = signal / weight
    if length is not None and start + length > covered:
        warnings.warn(
            "The length of signal is shorter than the length parameter. Result is being padded with zeros in the "
            "tail. Please check your center and hop_length settings.",
            stacklevel=3,
        )
        more = start + length - covered
        signal = GRAPH.pad_constant(signal, widths=((0, 0), (0, more)), value=0)
    return signal
