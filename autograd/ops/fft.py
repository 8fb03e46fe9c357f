"""Discrete Fourier transforms: complex to complex, real to half a spectrum, and back; each the adjoint of another.

The adjoint of a transform is the one of the other direction under the other norm, so `fft_c2c` differentiates into
itself and `fft_r2c` and `fft_c2r` into each other, up to the factor that half a spectrum stands for: every frequency
but 0 and Nyquist's appears twice in the whole one. norm names where 1/n stands: "backward" (in the inverse),
"forward", or "ortho" (1/sqrt(n) in both).
"""

from __future__ import annotations

from ..op import op

ADJOINT = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


@op(grad_name="FftC2C", row_major=True)
def fft_c2c(xp, x, *, axes, inverse, norm):
    """The transform along axes, exp(-2 pi i j k / n), or its inverse. x: (*S), real or complex -> (*S) complex."""
    return (xp.fft.ifftn if inverse else xp.fft.fftn)(x, axes=axes, norm=norm)


def _c2c_rule(F, g, *, x_dtype, axes, inverse, norm):
    out = F.fft_c2c(g, axes=axes, inverse=not inverse, norm=ADJOINT[norm])
    return out if x_dtype.kind == "c" else F.cast(out, dtype=x_dtype)


fft_c2c.vjp(x=_c2c_rule)


@op(row_major=True)
def scale_interior(xp, x, *, axis, size, by):
    """Half a spectrum with all but frequency 0 and Nyquist's multiplied. x: (*S), S[axis] = size // 2 + 1 -> (*S)."""
    out = xp.array(x, copy=True)
    out[(*(slice(None),) * axis, slice(1, (size + 1) // 2))] *= by
    return out


scale_interior.vjp(x=lambda F, g, *, axis, size, by: F.scale_interior(g, axis=axis, size=size, by=by))


@op(grad_name="FftR2C", row_major=True)
def fft_r2c(xp, x, *, axes, norm):
    """The transform along axes, of the last of which one half. x: (*S) real -> (S, n // 2 + 1 at axes[-1]) complex."""
    return xp.fft.rfftn(x, axes=axes, norm=norm)


def _r2c_rule(F, g, *, x_shape, axes, norm):
    size = x_shape[axes[-1]]
    half = F.scale_interior(g, axis=axes[-1], size=size, by=0.5)
    return F.fft_c2r(half, axes=axes, size=size, norm=ADJOINT[norm])


fft_r2c.vjp(x=_r2c_rule)


@op(grad_name="FftC2R", row_major=True)
def fft_c2r(xp, x, *, axes, size, norm):
    """The inverse transform along axes of a Hermitian spectrum, of which half is given along the last axis.

    x: (*S) complex, S[axes[-1]] = size // 2 + 1 -> (S, size at axes[-1]) real.
    """
    if len(axes) > 1:
        x = xp.fft.ifftn(x, axes=axes[:-1], norm=norm)
    return xp.fft.irfft(x, size, axis=axes[-1], norm=norm)


fft_c2r.vjp(
    x=lambda F, g, *, axes, size, norm: F.scale_interior(
        F.fft_r2c(g, axes=axes, norm=ADJOINT[norm]), axis=axes[-1], size=size, by=2.0
    )
)
