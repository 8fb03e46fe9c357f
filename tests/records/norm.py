"""Records of normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import Failure, Record, S


def _n(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


def layer_norm(x: Any, w: Any = None, b: Any = None, *, n_axes: int, eps: float) -> Any:
    axes = tuple(range(x.ndim - n_axes, x.ndim))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    y = y if w is None else y * w
    return y if b is None else y + b


def rms_norm(x: Any, w: Any = None, *, n_axes: int, eps: float) -> Any:
    axes = tuple(range(x.ndim - n_axes, x.ndim))
    y = x / np.sqrt((x * x).mean(axes, keepdims=True) + eps)
    return y if w is None else y * w


def batch_norm(x: Any, w: Any = None, b: Any = None, *, eps: float) -> Any:
    axes, spread = (0, *range(2, x.ndim)), (1, x.shape[1], *(1,) * (x.ndim - 2))
    mean, var = x.mean(axes), x.var(axes)
    y = (x - mean.reshape(spread)) / np.sqrt(var.reshape(spread) + eps)
    y = y if w is None else y * w.reshape(spread)
    return (y if b is None else y + b.reshape(spread)), mean, var


def scale_shift(x: Any, scale: Any, shift: Any) -> Any:
    spread = (1, x.shape[1], *(1,) * (x.ndim - 2))
    return x * scale.reshape(spread) + shift.reshape(spread)


HALF = ("float16", "float32", "float64")

RECORDS = [
    Record(
        "layer_norm",
        lambda rng: [
            S(_n(rng, 3, 5), _n(rng, 5), _n(rng, 5), n_axes=1, eps=1e-5),
            S(_n(rng, 2, 3, 4), _n(rng, 3, 4), None, n_axes=2, eps=1e-5),
            S(_n(rng, 2, 3, 4), None, None, n_axes=1, eps=0.1),
        ],
        layer_norm,
        dtypes=HALF,
        errors=[
            Failure(
                S(np.ones((2, 3)), np.ones(3, "f4"), None, n_axes=1, eps=1e-5), RuntimeError, "same dtype"
            )
        ],
    ),
    Record(
        "rms_norm",
        lambda rng: [S(_n(rng, 3, 5), _n(rng, 5), n_axes=1, eps=1e-5), S(_n(rng, 2, 3, 4), None, n_axes=2, eps=1e-5)],
        rms_norm,
        dtypes=HALF,
    ),
    Record(
        "batch_norm",
        lambda rng: [
            S(_n(rng, 4, 3), _n(rng, 3), _n(rng, 3), eps=1e-5),
            S(_n(rng, 2, 3, 4, 8), _n(rng, 3), _n(rng, 3), eps=1e-5),
            S(_n(rng, 2, 3, 40), None, None, eps=1e-3),
        ],
        batch_norm,
        dtypes=HALF,
        # mean and var are for the running statistics: nothing flows back through them
        grad=False,
        reference_note="gradients of the first output: test_nn_layers.py (gradcheck and gradgradcheck of F.batch_norm)",
    ),
    Record(
        "scale_shift",
        lambda rng: [S(_n(rng, 4, 3), _n(rng, 3), _n(rng, 3)), S(_n(rng, 2, 3, 4, 5), _n(rng, 3), _n(rng, 3))],
        scale_shift,
    ),
]
