"""Compiled attention where sizes are no multiples of what its products work on together."""

from __future__ import annotations

import numpy as np
import pytest
from tapegrad.backends import fast

if not fast.has("numba"):
    pytest.skip("the extra tapegrad[fast] is not installed, or switched off", allow_module_level=True)

from tapegrad.backends.fast.attention_kernels import attention, attention_backward

TOLERANCE = {"float32": 2e-5, "float64": 1e-12}  # relative to the largest number of an array, at least 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("depth, width", [(8, 16), (33, 7), (1, 1)])
@pytest.mark.parametrize("length, columns", [(48, 48), (130, 100), (97, 257), (257, 131)])
def test_odd_sizes(length: int, columns: int, depth: int, width: int, causal: bool, dtype: str) -> None:
    rng = np.random.default_rng(0)
    shapes = [(3, 5, length, depth), (3, 5, columns, depth), (3, 5, columns, width), (3, 5, length, width)]
    q, k, v, g = [rng.standard_normal(shape) for shape in shapes]
    s = 2 * q @ k.swapaxes(-1, -2) * 0.5
    if causal:
        s = np.where(np.tri(length, columns) == 0, -np.inf, s)
    lse = np.logaddexp.reduce(s, axis=-1)
    p = np.exp(s - lse[..., None])
    want = p @ v
    d = 0.5 * p * (g @ v.swapaxes(-1, -2) - (g * want).sum(-1, keepdims=True))
    wants = [want, lse, d @ k, d.swapaxes(-1, -2) @ (2 * q), p.swapaxes(-1, -2) @ g]
    q2, k2, v2, g2 = [x.astype(dtype) for x in (2 * q, k, v, g)]
    kw = {"causal": causal, "scale": 0.5}
    out, level = attention(q2, k2, v2, **kw)
    full = attention_backward(g2, q2, k2, v2, None, None, out, level, needs=(True, True, True, False), **kw)
    for got, right in zip([out, level, *full[:3]], wants, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, right, rtol=0, atol=TOLERANCE[dtype] * max(1, abs(right).max()))
    for missing in range(3):
        needs = (*(i != missing for i in range(3)), False)
        some = attention_backward(g2, q2, k2, v2, None, None, out, level, needs=needs, **kw)
        assert some[missing] is None
        for got, right in zip(some[:3], full[:3], strict=True):
            assert got is None or np.array_equal(got, right)
