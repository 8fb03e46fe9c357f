"""Samples for the compiled kernels, of a size that they serve: op name -> functions that draw (arrays, keywords)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Sample = tuple[tuple[Any, ...], dict[str, Any]]


def _normal(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape) * 3


def one(rng: np.random.Generator) -> Sample:
    """One array."""
    return (_normal(rng, 70, 131),), {}


def two(rng: np.random.Generator) -> Sample:
    """A gradient and an array."""
    return (_normal(rng, 70, 131), _normal(rng, 70, 131)), {}


def _with(sample: Callable[[np.random.Generator], Sample], **kw: Any) -> Callable[[np.random.Generator], Sample]:
    return lambda rng: (sample(rng)[0], kw)


def _logits(count: int, classes: int, ignored: bool) -> Callable[[np.random.Generator], Any]:
    def made(rng: np.random.Generator) -> Any:
        target = rng.integers(0, classes, count)
        if ignored:
            target[::3] = -100
        return _normal(rng, count, classes), target

    return made


def _entropy(ignored: bool, **kw: Any) -> Callable[[np.random.Generator], Sample]:
    made = _logits(300, 41, ignored)
    return lambda rng: (made(rng), {"ignore_index": -100, **kw})


def _entropy_backward(rng: np.random.Generator) -> Sample:
    x, target = _logits(300, 41, True)(rng)
    top = x.max(1)
    return (_normal(rng, 300), x, target, top, np.exp(x - top[:, None]).sum(1)), {"ignore_index": -100}


def _norm(affine: bool, n_axes: int, bias: bool = True) -> Callable[[np.random.Generator], Sample]:
    def made(rng: np.random.Generator) -> Sample:
        x = _normal(rng, 40, 9, 31) + 2
        tail = x.shape[3 - n_axes :]
        extra = (_normal(rng, *tail), *([_normal(rng, *tail)] if bias else [])) if affine else ()
        return (x, *extra), {"n_axes": n_axes, "eps": 1e-5}

    return made


def _norm_backward(affine: bool, needs: tuple[bool, ...], rms: bool) -> Callable[[np.random.Generator], Sample]:
    def made(rng: np.random.Generator) -> Sample:
        x, g = _normal(rng, 40, 9, 31) + 2, _normal(rng, 40, 9, 31)
        mean = 0 if rms else x.mean(-1, keepdims=True)
        rstd = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5)
        w = _normal(rng, 31) if affine else None
        return (g, x, w, *([] if rms else [mean]), rstd), {"needs": needs, "n_axes": 1, "eps": 1e-5}

    return made


def _batch(affine: bool) -> Callable[[np.random.Generator], Sample]:
    def made(rng: np.random.Generator) -> Sample:
        x = _normal(rng, 6, 5, 12, 13) + 2
        return (x, *((_normal(rng, 5), _normal(rng, 5)) if affine else ())), {"eps": 1e-5}

    return made


def _batch_backward(affine: bool, needs: tuple[bool, ...]) -> Callable[[np.random.Generator], Sample]:
    def made(rng: np.random.Generator) -> Sample:
        x, g = _normal(rng, 6, 5, 12, 13) + 2, _normal(rng, 6, 5, 12, 13)
        w = _normal(rng, 5) if affine else None
        rstd = 1 / np.sqrt(x.var((0, 2, 3)) + 1e-5)
        return (g, x, w, x.mean((0, 2, 3)), rstd), {"needs": needs, "eps": 1e-5}

    return made


def _pool(
    kernel: Any, stride: Any, padding: Any, dilation: Any, backward: bool, plane: Any = (37, 41)
) -> Callable[..., Sample]:
    def made(rng: np.random.Generator) -> Sample:
        x = rng.integers(-20, 20, (3, 12, *plane)).astype("f8")  # many ties
        size = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
        )
        kw = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation, "size": size}
        if not backward:
            return (x,), kw
        from tapegrad.autograd.ops.pool import max_pool

        out = max_pool.op.generic(np, x, **kw)
        return (_normal(rng, *out.shape), x, out), kw

    return made


def _attention(causal: bool, keep: bool, backward: bool) -> Callable[[np.random.Generator], Sample]:
    def made(rng: np.random.Generator) -> Sample:
        length, keys = (150, 150) if causal else (70, 90)
        q, k, v = (rng.standard_normal((2, n, 3, 16)).swapaxes(1, 2) for n in (length, keys, keys))
        kept = (rng.random((2, 3, length, keys)) < 0.8) / 0.8 if keep else None
        kw = {"causal": causal, "scale": 0.3}
        if not backward:
            return (q, k, v, None, kept), kw
        s = q @ k.swapaxes(-1, -2) * 0.3
        s = np.where(np.tri(length, keys) == 0, -np.inf, s) if causal else s
        top = s.max(-1, keepdims=True)
        e = np.exp(s - top)
        total = e.sum(-1, keepdims=True)
        p = e / total
        out = (p if kept is None else p * kept) @ v
        g = rng.standard_normal(out.shape)
        lse = (np.log(total) + top)[..., 0]
        return (g, q, k, v, None, kept, out, lse), {"needs": (True, True, True, False), **kw}

    return made


def _embedding(padding: int) -> Callable[[np.random.Generator], Sample]:
    return lambda rng: (
        (_normal(rng, 6, 50, 33), rng.integers(0, 40, (6, 50))), {"rows": 41, "padding": padding}
    )  # fmt: skip


CASES: dict[str, list[Callable[[np.random.Generator], Sample]]] = {
    "exp": [one],
    "tanh": [one],
    "tanh_backward": [two],
    "sigmoid": [one],
    "sigmoid_backward": [two],
    "silu": [one],
    "silu_backward": [two],
    "gelu": [_with(one, approximate=a) for a in ("none", "tanh")],
    "gelu_backward": [_with(two, approximate=a) for a in ("none", "tanh")],
    "softplus": [one, _with(one, beta=0.5, threshold=2.0)],
    "softplus_backward": [_with(two, beta=2.0, threshold=3.0)],
    "logsigmoid": [one],
    "logsigmoid_backward": [two],
    "mish": [one],
    "elu_backward": [_with(two, alpha=1.5, scale=2.0, input_scale=0.5)],
    "relu": [one],
    "relu_backward": [two],
    "softmax": [_with(one, axis=1)],
    "softmax_backward": [_with(two, axis=1)],
    "log_softmax": [_with(one, axis=1)],
    "log_softmax_backward": [_with(two, axis=1)],
    "softmax_cross_entropy": [_entropy(False), _entropy(True)],
    "softmax_cross_entropy_backward": [_entropy_backward],
    "cross_entropy": [_entropy(i, reduction=r) for i in (False, True) for r in ("none", "sum", "mean")],
    "layer_norm": [_norm(True, 1), _norm(False, 2), _norm(True, 2, bias=False)],
    "layer_norm_backward": [
        _norm_backward(a, n, False) for a in (True, False)
        for n in ((True,) * 3, (False, True, True), (True, False, False))
    ],
    "rms_norm": [_norm(True, 1, bias=False), _norm(False, 1)],
    "rms_norm_backward": [_norm_backward(True, (True, True), True), _norm_backward(False, (True, False), True)],
    "batch_norm": [_batch(True), _batch(False)],
    "batch_norm_backward": [_batch_backward(True, (True,) * 3), _batch_backward(False, (True, False, True))],
    "embedding_backward": [_embedding(-1), _embedding(3)],
    "vector_norm": [_with(one, p=2, axis=(0, 1), keepdims=False), _with(one, p=2, axis=(0, 1), keepdims=True)],
    "max_pool": [
        _pool((2, 2), (2, 2), (0, 0), (1, 1), False), _pool((3, 3), (1, 1), (1, 1), (1, 1), False),
        _pool((2, 3), (3, 1), (1, 1), (2, 2), False), _pool((3, 2), (1, 2), (0, 1), (1, 1), False),
    ],
    "max_pool_backward": [
        _pool((2, 2), (2, 2), (0, 0), (1, 1), True), _pool((3, 3), (1, 1), (1, 1), (1, 1), True),
        _pool((2, 3), (3, 1), (1, 1), (2, 2), True), _pool((3, 3), (2, 2), (1, 1), (1, 1), True),
        _pool((2, 2), (2, 2), (0, 0), (1, 1), True, (10, 50)),
    ],
    "attention": [_attention(c, k, False) for c in (True, False) for k in (True, False)],
    "attention_backward": [_attention(c, k, True) for c in (True, False) for k in (True, False)],
}  # fmt: skip
