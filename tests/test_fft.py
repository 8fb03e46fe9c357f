"""Fourier transforms: beside PyTorch in what its database does not sample, and by properties that need no PyTorch."""

from __future__ import annotations

import warnings
from typing import Any

import both
import numpy as np
import pytest
import tapegrad as tg

NAMES = [name + dims for dims in ("", "n", "2") for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")]
TAKES_REAL = ("rfft", "ihfft", "rfftn", "ihfftn", "rfft2", "ihfft2")

_RNG = np.random.default_rng(5)
X = _RNG.normal(size=(4, 6))
C = X + 1j * _RNG.normal(size=(4, 6))
SIGNAL = _RNG.normal(size=(2, 40))
SPECTRA = _RNG.normal(size=(2, 6, 9)) + 1j * _RNG.normal(size=(2, 6, 9))
WINDOW = np.hanning(12)[1:-1]


def given(array: np.ndarray) -> Any:
    return lambda T: T.tensor(array)


TENSORS = {"x": given(X), "c": given(C), "s": given(SIGNAL), "S": given(SPECTRA), "w": given(WINDOW)}

ARGUMENTS = """
T.fft.fft(x, 9) | T.fft.fft(x, 3, 0) | T.fft.fft(x, norm="forward") | T.fft.ifft(c, 5, norm="ortho")
T.fft.rfft(x, 5) | T.fft.rfft(x, 1) | T.fft.irfft(c, 1) | T.fft.irfft(c, 9, 0) | T.fft.irfft(x) | T.fft.hfft(c, 4)
T.fft.hfft(x, norm="forward") | T.fft.ihfft(x, 5, norm="ortho") | T.fft.fftn(x, (3,)) | T.fft.fftn(c, (-1, 8))
T.fft.fftn(x, dim=0) | T.fft.fftn(x, 4, 0) | T.fft.fftn(x, dim=()) | T.fft.fftn(c, dim=()) | T.fft.rfftn(x, dim=(1, 0))
T.fft.irfftn(c, (3, 7)) | T.fft.irfftn(c, (-1, -1)) | T.fft.hfftn(c, dim=(1, 0), norm="ortho") | T.fft.ihfftn(x, (5, 5))
T.fft.fft2(x, dim=(0,)) | T.fft.fftn(T.tensor(2.0, dtype=T.float64)) | T.fft.fft(x, dim=-2, n=2)
T.fft.fft(x.int()).dtype | T.fft.fft(x.bool()).dtype | T.fft.fft(x.float()).dtype | T.fft.irfft(c.to(T.complex64)).dtype
T.fft.fftshift(x, 0) | T.fft.ifftshift(x) | T.fft.fftshift(x, 5)
T.fft.fftfreq(5, 0.5) | T.fft.fftfreq(4) | T.fft.rfftfreq(7, 2.0, dtype=T.float64) | T.fft.fftfreq(0)
T.fft.fftfreq(3, 0) | T.fft.fftfreq(4, requires_grad=True) | T.fft.rfftfreq(4, out=T.empty(3))
T.fft.fft(c, out=T.empty(4, 6, dtype=T.cdouble))
"""

ERRORS = """
T.fft.fft(x, 0) | T.fft.fft(x, -1) | T.fft.fft(x, dim=3) | T.fft.fft(x, norm="x") | T.fft.fft(x.half())
T.fft.fft(x.bfloat16()) | T.fft.rfft(c) | T.fft.ihfft(c) | T.fft.rfftn(c) | T.fft.ihfftn(c) | T.fft.fft(T.tensor(1.0))
T.fft.fftn(x, (3,), (0, 1)) | T.fft.fftn(x, (3, 4, 5)) | T.fft.fftn(x, dim=(0, 0)) | T.fft.fftn(x, dim=(0, 3))
T.fft.fftn(x, (3, 0)) | T.fft.fftn(x, (3, -2)) | T.fft.rfftn(x, dim=()) | T.fft.irfftn(c, dim=())
T.fft.hfftn(c, dim=()) | T.fft.irfft(T.ones(3, 1)) | T.fft.irfft(x, 0) | T.fft.fft(T.ones(3, 0)) | T.fft.fft2(x[0])
T.fft.fft(x, 2.5) | T.fft.fft([1.0]) | T.fft.fftfreq(-1) | T.fft.fftfreq(5, dtype=T.int32) | T.fft.fftfreq(5.5)
T.istft(S.real, 10) | T.stft(s, 10) | T.istft(S, 10, return_complex=True)
T.stft(s, 10, center=True, align_to_window=False, return_complex=True) | T.istft(S, 10, window=w.to(T.cdouble))
T.stft(s, 10, window=w.to(T.cdouble), onesided=True, return_complex=True)
"""

# Errors of stft and istft repeat the whole call: their types are compared, and the cause that ends the text.
CALLS = """
T.stft(s[None], 10, return_complex=True) | T.stft(s, 0, center=False, return_complex=True)
T.stft(s, 50, center=False, return_complex=True) | T.stft(s, 10, 0, return_complex=True)
T.stft(s, 10, 5, 12, return_complex=True) | T.stft(s, 10, window=w[:9], return_complex=True)
T.stft(s.int(), 10, return_complex=True) | T.istft(S, 9) | T.istft(S, 10, hop_length=11) | T.istft(S, 10, win_length=12)
T.istft(S, 10, window=w[:9]) | T.istft(S, 10, onesided=False) | T.istft(S, 10, window=w * 0) | T.istft(S[:0], 10)
T.istft(S[None], 10)
"""

SHORT_TIME = """
T.stft(s, 10, return_complex=True) | T.stft(s[0], 10, 3, window=w, return_complex=True)
T.stft(s, 12, win_length=10, window=w, return_complex=True) | T.stft(s, 12, win_length=7, return_complex=True)
T.stft(s, 10, normalized=True, return_complex=False) | T.stft(s, 10, onesided=False, return_complex=True)
T.stft(s, 10, center=False, return_complex=True) | T.stft(s, 10, pad_mode="constant", return_complex=True)
T.stft(s, 10, pad_mode="replicate", return_complex=True) | T.stft(s.to(T.cdouble), 10)
T.stft(s, 10, pad_mode="circular", return_complex=True) | T.stft(s, 10, window=w.to(T.cdouble))
T.stft(s, 10, 2, 6, center=False, align_to_window=True, return_complex=True) | s.stft(10, return_complex=True)
T.stft(s, 10, 2, 6, center=False, align_to_window=False, return_complex=True) | T.istft(S, 10)
S.istft(10, 3, window=w) | T.istft(S, 10, window=w) | T.istft(S, 10, normalized=True)
T.istft(S, 10, length=13) | T.istft(S, 10, length=60)
T.istft(S[0], 10, center=False) | T.istft(S, 11, 2, 7) | T.istft(S, 6, onesided=False, return_complex=True)
T.istft(S, 6) | T.istft(S, 6, window=w[:6].to(T.cdouble), return_complex=True)
"""


@pytest.mark.parametrize("text", both.cells(ARGUMENTS + SHORT_TIME))
def test_values(text: str) -> None:
    both.check(text, rtol=1e-9, **TENSORS)


@pytest.mark.parametrize("text", both.cells(ERRORS))
def test_errors(text: str) -> None:
    both.check(text, length=24, **TENSORS)


@pytest.mark.parametrize("text", both.cells(CALLS))
def test_errors_of_short_time_transforms(text: str) -> None:
    torch = pytest.importorskip("torch")
    causes = []
    for library in (tg, torch):
        scope = {"T": library, **{name: make(library) for name, make in TENSORS.items()}}
        with warnings.catch_warnings(), pytest.raises(RuntimeError) as caught:
            warnings.simplefilter("ignore")
            eval(text, scope)
        causes.append(str(caught.value).splitlines()[0].rpartition(") ")[2].lstrip(": "))
    assert causes[0] == causes[1]


# ---- properties


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_inverse_pairs(n: int, norm: str) -> None:
    """Each transform and its inverse give the signal back, for even and odd lengths."""
    x = tg.tensor(_RNG.normal(size=(3, n)))
    c = tg.complex(x, tg.tensor(_RNG.normal(size=(3, n))))
    for there, back, signal in (("fft", "ifft", c), ("rfft", "irfft", x), ("ihfft", "hfft", x)):
        for suffix, size in (("", n), ("n", (3, n)), ("2", (3, n))):
            spectrum = getattr(tg.fft, there + suffix)(signal, norm=norm)
            again = getattr(tg.fft, back + suffix)(spectrum, size, norm=norm)
            np.testing.assert_allclose(again.numpy(), signal.numpy(), atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_three_orders_of_gradient(name: str) -> None:
    """gradcheck of the transform, of its gradient, and of that one's, of a function that is not linear in it."""
    transform = getattr(tg.fft, name)
    start = tg.tensor(X[:3, :3] if name in TAKES_REAL else C[:3, :3], requires_grad=True)

    def size(x: Any) -> Any:
        return transform(x).abs().square().sum() ** 2 * 1e-4

    def slope(x: Any) -> Any:
        return tg.autograd.grad(size(x), x, create_graph=True)[0]

    def curvature(x: Any) -> Any:
        return tg.autograd.grad(slope(x).abs().square().sum(), x, create_graph=True)[0]

    for function in (transform, slope, curvature):
        assert tg.autograd.gradcheck(function, (start,))


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_single_precision_is_kept(dtype: str) -> None:
    """float32 is transformed and differentiated as such: no silent double precision."""
    x = tg.tensor(C).to(getattr(tg, dtype)).requires_grad_()
    y = tg.fft.fftn(x)
    assert y.dtype is tg.complex64
    y.abs().sum().backward()
    assert x.grad.dtype is getattr(tg, dtype)


def test_short_time_round_trip_and_gradients() -> None:
    """istft undoes stft, and the window gets a gradient through both."""
    signal = tg.tensor(SIGNAL, requires_grad=True)
    window = tg.tensor(WINDOW + 0.1, requires_grad=True)
    spectra = tg.stft(signal, 10, 3, window=window, return_complex=True)
    again = tg.istft(spectra, 10, 3, window=window, length=40)
    np.testing.assert_allclose(again.detach().numpy(), SIGNAL, atol=1e-12)

    def both_ways(signal: Any, window: Any) -> Any:
        spectra = tg.stft(signal, 4, 2, window=window, return_complex=True)
        return tg.istft(spectra * spectra, 4, 2, window=window)

    inputs = (tg.tensor(SIGNAL[0, :9], requires_grad=True), tg.tensor([0.5, 1.0, 0.8, 0.4], dtype=tg.float64))
    inputs[1].requires_grad_()
    assert tg.autograd.gradcheck(both_ways, inputs)
    assert tg.autograd.gradgradcheck(both_ways, inputs)


def test_too_long_a_signal_warns() -> None:
    with pytest.warns(UserWarning, match="signal is shorter than the length"):
        assert tg.istft(tg.tensor(SPECTRA), 10, length=99).shape == (2, 99)
