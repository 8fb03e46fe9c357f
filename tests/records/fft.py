"""Records of the Fourier transforms. Half a spectrum is differentiated where it stands for a whole one only."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import Record, S

NORMS = ("backward", "ortho", "forward")


def _complex(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def _matrix(n: int, inverse: bool, norm: str) -> np.ndarray:
    """The transform by its definition."""
    places = np.arange(n)
    scale = {"backward": n**-1.0 if inverse else 1.0, "forward": 1.0 if inverse else n**-1.0, "ortho": n**-0.5}[norm]
    return scale * np.exp((2j if inverse else -2j) * np.pi * places[:, None] * places / n)


def _c2c(x: np.ndarray, axes: Any, inverse: bool, norm: str) -> np.ndarray:
    for axis in axes:
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ _matrix(x.shape[axis], inverse, norm), -1, axis)
    return x


def _r2c(x: np.ndarray, axes: Any, norm: str) -> np.ndarray:
    return _c2c(x, axes, False, norm).take(np.arange(x.shape[axes[-1]] // 2 + 1), axes[-1])


def _c2r(x: np.ndarray, axes: Any, size: int, norm: str) -> np.ndarray:
    x = np.moveaxis(_c2c(x, axes[:-1], True, norm), axes[-1], -1).copy()
    x[..., 0] = x[..., 0].real
    if size % 2 == 0:
        x[..., -1] = x[..., -1].real
    whole = np.concatenate([x, np.conj(x[..., 1 : (size + 1) // 2][..., ::-1])], -1)
    return np.moveaxis((whole @ _matrix(size, True, norm)).real, -1, axes[-1])


def _scaled(x: np.ndarray, axis: int, size: int, by: float) -> np.ndarray:
    k = np.arange(x.shape[axis])
    factor = np.where((k > 0) & (2 * k != size), by, 1.0)
    return x * factor.reshape(*[-1 if i == axis else 1 for i in range(x.ndim)])


def _to_complex(name: str) -> str:
    return {"float32": "complex64", "float64": "complex128"}.get(name, name)


def _to_real(name: str) -> str:
    return {"complex64": "float32", "complex128": "float64"}[name]


RECORDS = [
    Record(
        "fft_c2c",
        lambda rng: [
            *[S(rng.standard_normal((3, 4)), axes=(1,), inverse=i, norm=n) for n in NORMS for i in (False, True)],
            S(rng.standard_normal((2, 3, 5)), axes=(2, 0), inverse=False, norm="backward"),
        ],
        _c2c,
        linear=True,
        complex=True,
        out_dtype=_to_complex,
    ),
    Record(
        "fft_r2c",
        lambda rng: [
            *[S(rng.standard_normal((3, n)), axes=(1,), norm=norm) for norm in NORMS for n in (1, 4, 5)],
            S(rng.standard_normal((2, 4, 3)), axes=(2, 1), norm="ortho"),
        ],
        _r2c,
        linear=True,
        out_dtype=_to_complex,
    ),
    Record(
        "fft_c2r",
        lambda rng: [
            *[S(_complex(rng, 3, n // 2 + 1), axes=(1,), size=n, norm=norm) for norm in NORMS for n in (1, 2, 6, 7)],
            S(_complex(rng, 2, 4, 3), axes=(0, 1), size=7, norm="forward"),
        ],
        _c2r,
        linear=True,
        dtypes=("complex64", "complex128"),
        out_dtype=_to_real,
    ),
    Record(
        "scale_interior",
        lambda rng: [
            S(rng.standard_normal((2, 4)), axis=1, size=6, by=0.5),
            S(rng.standard_normal((4, 2)), axis=0, size=7, by=2.0),
            S(rng.standard_normal((1,)), axis=0, size=1, by=2.0),
        ],
        _scaled,
        linear=True,
        complex=True,
    ),
]
