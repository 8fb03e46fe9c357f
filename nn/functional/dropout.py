"""Dropout: masks from the default random stream, the same as PyTorch's for one seed; on GPUs by a counter of their own.

Srivastava et al., Dropout, 2014; Tompson et al., 2015, for whole channels; Klambauer et al., 2017, for alpha dropout.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...autograd import random
from ...autograd.api.creation import new_like
from ...autograd.codegen import HOST
from ...autograd.op import raw_namespace
from ...autograd.ops import dropout as op
from ...autograd.random import default_generator
from ...autograd.tensor import Tensor, wrap

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]


def _check(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _by_counter(input: Tensor) -> bool:
    """Whether the mask is made on the device from a seed, not drawn on the host."""
    kind = input.array.__class__
    return kind is not HOST and input.array.dtype.kind in "fV" and random.draws_by_counter(input.array)


def _kept(like: Tensor, p: float, shape: tuple[int, ...] | None = None) -> Tensor:
    """1 where an element is kept, 0 where it is dropped with probability p, drawn in the memory order of `like`."""
    if _by_counter(like):
        return (op.dropout(_ones(like, shape), p=p, seed=random.draw_seed()) != 0).to(like.dtype)
    order: Any = "K" if shape is None else "C"
    array = like.detach().array
    if like.device.type != "cpu":
        array = raw_namespace(array.__class__).backend.to_numpy(array)
    host = np.empty_like(array, subok=False, shape=shape, order=order)
    default_generator.raw.bernoulli_(host, 1.0 - p)
    return new_like(like, host)


def _ones(like: Tensor, shape: tuple[int, ...] | None) -> Tensor:
    """Ones of the shape, by default that of `like`, made where it is."""
    raw = raw_namespace(like.array.__class__)
    with raw.backend.guard(raw.backend.device_of(like.array)):
        return wrap(raw.backend.tidy(raw.xp.ones(like.array.shape if shape is None else shape, like.array.dtype)))


def _finished(input: Tensor, out: Tensor, inplace: bool) -> Tensor:
    """The result, written into the input where `inplace`."""
    if not inplace:
        return out
    from ...autograd.inplace import assign, check_writable

    check_writable(input, "dropout_")
    return assign(input, out, "dropout_", out._node.seq - 16 if out._node is not None else None)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element zeroed with probability p, the others scaled by 1 / (1 - p). (*S) -> (*S)."""
    _check(p)
    return _dropout(input, p, training, inplace, None)


def _dropout(input: Tensor, p: float, training: bool, inplace: bool, shape: tuple[int, ...] | None) -> Tensor:
    if not training or p == 0.0 or input.array.size == 0:
        return input
    if p == 1.0:
        return _finished(input, input * 0.0, inplace)
    if _by_counter(input):
        seed = random.draw_seed()
        if shape is None:
            return _finished(input, op.dropout(input, p=p, seed=seed), inplace)
        return _finished(input, input * op.dropout(_ones(input, shape), p=p, seed=seed), inplace)
    mask = _kept(input, p, shape)
    mask.array /= 1.0 - p
    return _finished(input, input * mask, inplace)


def _channels(
    name: str, input: Tensor, p: float, training: bool, inplace: bool, spatial: int, unbatched: bool
) -> Tensor:
    _check(p)
    x = input.unsqueeze(0) if unbatched else input
    shape = (*x.array.shape[:2], *(1,) * (x.array.ndim - 2))
    out = _dropout(x, p, training, inplace, shape)
    return input if inplace or out is x else out.squeeze(0) if unbatched else out


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels zeroed with probability p. input: (N, C, L) or (C, L) -> same."""
    if input.dim() not in (2, 3):
        raise RuntimeError(
            f"dropout1d: Expected 2D or 3D input, but received a {input.dim()}D input. Note that dropout1d exists to "
            "provide channel-wise dropout on inputs with 1 spatial dimension, a channel dimension, and an optional "
            "batch dimension (i.e. 2D or 3D inputs)."
        )
    return _channels("dropout1d", input, p, training, inplace, 1, input.dim() == 2)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels zeroed with probability p. input: (N, C, H, W) -> same; 3-D input is (N, C, L), as in PyTorch."""
    _warn_dims("dropout2d", input, (3, 4), 2)
    return _channels("dropout2d", input, p, training, inplace, 2, False)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels zeroed with probability p. input: (N, C, D, H, W) or (C, D, H, W) -> same."""
    _warn_dims("dropout3d", input, (4, 5), 3)
    return _channels("dropout3d", input, p, training, inplace, 3, input.dim() == 4)


def _warn_dims(name: str, input: Tensor, dims: tuple[int, ...], spatial: int) -> None:
    if input.dim() not in dims:
        import warnings

        warnings.warn(
            f"{name}: Received a {input.dim()}-D input to {name}, which is deprecated and will result in an error in a "
            "future release. To retain the behavior and silence this warning, please use dropout instead. Note that "
            f"{name} exists to provide channel-wise dropout on inputs with {spatial} spatial dimensions, a channel "
            f"dimension, and an optional batch dimension (i.e. {dims[0]}D or {dims[1]}D inputs).",
            stacklevel=4,
        )


ALPHA = 1.7580993408473766  # selu's scale * alpha: what a dropped unit becomes is -ALPHA


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout which keeps mean 0 and variance 1 after selu. (*S) -> (*S)."""
    _check(p)
    return _alpha_dropout(input, p, training, inplace, None)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """alpha_dropout of whole channels. input: (N, C, *) -> same."""
    _check(p)
    return _alpha_dropout(input, p, training, inplace, (*input.array.shape[:2], *(1,) * (input.array.ndim - 2)))


def _alpha_dropout(input: Tensor, p: float, training: bool, inplace: bool, shape: Any) -> Tensor:
    if not training or p == 0.0 or input.array.size == 0:
        return input
    if p == 1.0:
        return _finished(input, input * 0.0, inplace)
    kept = _kept(input, p, shape)
    a = 1.0 / ((ALPHA**2 * p + 1) * (1 - p)) ** 0.5
    shift = (kept - 1) * (ALPHA * a) + ALPHA * a * p
    return _finished(input, input * (kept * a) + shift, inplace)
