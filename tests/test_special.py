"""torch.special beside PyTorch: names, values at ordinary and at extreme places, gradients of two orders, errors."""

from __future__ import annotations

import inspect
import math
import sys
from typing import Any

import numpy as np
import pytest
import tapegrad
from tapegrad.autograd.op import OPS, Raw
from tapegrad.autograd.tensor import wrap
from tapegrad.backends import registry
from test_api_elementwise import compare_gradients, to_torch

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
special = tapegrad.special

OF_ONE = [n for n in special.__all__ if list(inspect.signature(getattr(special, n)).parameters)[:2] == ["input", "out"]]
OF_DEGREE = [n for n in special.__all__ if "polynomial" in n]
# PyTorch's Bessel functions are wrong in the seventh digit right above 5, and so is its Ai below -2 (against mpmath).
TOLERANCE = {**dict.fromkeys(("bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1"), 1e-6), "airy_ai": 2e-6}
inf, nan = math.inf, math.nan
EXTREME = [-inf, -1e300, -50, -26.6, -5, -1, -0.0, 0.0, 1e-300, 1e-10, 0.5, 1, 2, 25, 26, 109, 709, inf, nan]
# Where PyTorch gives NaN for the quotient of two infinities, here is the limit.
LIMITS = {"i0": inf, "i1": inf, "modified_bessel_i0": inf, "modified_bessel_i1": inf, "airy_ai": 0.0}


def test_all_names_and_parameters() -> None:
    assert set(special.__all__) == set(torch.special.__all__)
    for name in special.__all__:
        assert getattr(special, name).__doc__.count("->"), name
    assert len(OF_DEGREE) == 12 and len(OF_ONE) > 25
    for name in OF_DEGREE:
        assert list(inspect.signature(getattr(special, name)).parameters) == ["input", "n", "out"]


def close(ours: Any, theirs: Any, rtol: float) -> None:
    expected = theirs.numpy()
    assert ours.array.dtype == expected.dtype
    np.testing.assert_allclose(ours.array, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", OF_ONE)
def test_of_one(name: str) -> None:
    ours, theirs = getattr(special, name), getattr(torch.special, name)
    spread = np.concatenate([np.linspace(-9, 9, 91), np.linspace(-60, 60, 81), np.linspace(0.01, 0.99, 33)])
    for dtype, rtol in (("f8", 1e-13), ("f4", 1e-5)):
        x = spread.astype(dtype)
        close(ours(wrap(x)), theirs(to_torch(x)), max(rtol, TOLERANCE.get(name, 0) if dtype == "f8" else 0))
    x = np.array(EXTREME)
    found, expected = ours(wrap(x)).array.copy(), theirs(to_torch(x)).numpy()
    if name in LIMITS:
        infinite = np.isinf(x) & np.isnan(expected) & ((x > 0) | (name != "airy_ai"))
        np.testing.assert_array_equal(np.abs(found[infinite]), LIMITS[name])
        found[infinite] = nan
    if name == "exp2":  # far from 0 its rounding differs by more than a unit
        found, expected = found[4:], expected[4:]
    small = 1e-16 if name == "ndtr" else 1e-300  # PyTorch takes ndtr from erf, which loses what is near 0
    np.testing.assert_allclose(found, expected, rtol=1e-12 + TOLERANCE.get(name, 0), atol=small)
    for dtype in ("i8", "u1", "?"):
        x = np.array([0, 1, 2]).astype(dtype)
        close(ours(wrap(x)), theirs(to_torch(x)), 1e-6)
    target = tapegrad.empty(0)
    result = ours(tapegrad.tensor([0.25, 0.5]), out=target)
    assert result is target and target.shape == (2,)
    with pytest.raises(TypeError, match=r"argument 'input' \(position 1\) must be Tensor, not float"):
        ours(1.0)


DIFFERENTIABLE = {
    "i0": (-3, 3), "i0e": (-3, 3), "i1": (-3, 3), "i1e": (-3, 3), "ndtr": (-3, 3), "ndtri": (0.05, 0.95),
    "log_ndtr": (-8, 3), "erfcx": (-2, 4), "entr": (0.1, 3),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name: str) -> None:
    x = np.random.default_rng(2).uniform(*DIFFERENTIABLE[name], (3, 5))
    compare_gradients(lambda m, x: getattr(m.special, name)(x), [x])
    at_zero = [np.array(0.0)]
    if name in ("i0", "i1", "ndtr", "erfcx", "log_ndtr"):
        compare_gradients(lambda m, x: getattr(m.special, name)(x), at_zero)
    elif name == "i1e":
        compare_gradients(lambda m, x: m.special.i1e(x), at_zero, second=False)


@pytest.mark.parametrize("name", [*OF_DEGREE, "bessel_j0", "airy_ai", "modified_bessel_i0", "spherical_bessel_j0"])
def test_no_gradient(name: str) -> None:
    arguments = [tapegrad.ones(2, requires_grad=True)] * (2 if name in OF_DEGREE else 1)
    assert not getattr(special, name)(*arguments).requires_grad


@pytest.mark.parametrize("name", OF_DEGREE)
def test_polynomials(name: str) -> None:
    """Every degree up to 21 and the bounds of the Hermite polynomials, all sides of [-1, 1], and what is no number."""
    ours, theirs = getattr(special, name), getattr(torch.special, name)
    x = np.concatenate([np.linspace(-2, 2, 41), [1e-30, 50, 1e10, inf, -inf]])
    n = np.array([-3, -0.5, *range(22), 5.7, 127, 128, 129, 512, 513])[:, None]
    for dtype, rtol in (("f8", 1e-9), ("f4", 2e-4)):
        a, b = x.astype(dtype), n.astype(dtype)
        found, expected = ours(wrap(a), wrap(b)).array, theirs(to_torch(a), to_torch(b)).numpy()
        assert found.dtype == expected.dtype
        high = np.abs(expected) > 1e6
        np.testing.assert_allclose(found[~high], expected[~high], rtol=rtol, atol=rtol)
        np.testing.assert_allclose(found[high], expected[high], rtol=1e-2 if dtype == "f4" else 1e-6)
    for number in (3, 2.5):
        close(ours(wrap(x[:9]), number), theirs(to_torch(x[:9]), number), 1e-12)
        close(ours(0.3, wrap(n[:9])), theirs(0.3, to_torch(n[:9])), 1e-12)
    assert math.isnan(ours(tapegrad.tensor(nan), 3).item())
    with pytest.raises(TypeError, match="one of the arguments must be a Tensor"):
        ours(1.0, 2)
    with pytest.raises(TypeError, match=r"argument 'n' \(position 2\) must be Tensor or a number, not str"):
        ours(tapegrad.ones(2), "2")


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_zeta(dtype: str) -> None:
    s = np.array([-1, 0, 0.5, 1, 1.5, 2, 2.5, 3, 4, 7, 100, nan], dtype)
    q = np.array([-1e3 - 0.5, -8.3, -2.5, -2, -0.3, 0, 0.5, 1, 2.5, 30, 1e5, nan], dtype)[:, None]
    rtol = 1e-12 if dtype == "f8" else 1e-4
    close(special.zeta(wrap(s), wrap(q)), torch.special.zeta(to_torch(s), to_torch(q)), rtol)
    close(special.zeta(2, wrap(q)), torch.special.zeta(2, to_torch(q)), rtol)


def test_zeta_at_infinity() -> None:
    """The limits; PyTorch gives NaN."""
    assert special.zeta(tapegrad.tensor([2.0, inf, inf]), tapegrad.tensor([inf, 1.0, 2.0])).tolist() == [0, 1, 0]


def test_zeta_gradients() -> None:
    q = np.random.default_rng(3).uniform(0.5, 4, (3, 2))
    compare_gradients(lambda m, q: m.special.zeta(2.5, q), [q])
    x = tapegrad.tensor([2.0], requires_grad=True)
    out = special.zeta(x, 1.0)
    with pytest.raises(NotImplementedError, match="the derivative for 'zeta' is not implemented"):
        out.backward()


@pytest.mark.parametrize("order", range(6))
def test_polygamma(order: int) -> None:
    x = np.concatenate([np.linspace(-9, 9, 91), [20, 1000, nan]])
    # at n = 1 PyTorch itself is exact to nine digits only
    close(special.polygamma(order, wrap(x)), torch.special.polygamma(order, to_torch(x)), 1e-9 if order == 1 else 1e-11)
    x = np.linspace(-4, 4, 33).astype("f4")
    close(tapegrad.polygamma(order, wrap(x)), torch.polygamma(order, to_torch(x)), 1e-5)
    inside = np.random.default_rng(4).uniform(0.5, 4, 5)
    compare_gradients(lambda m, x: m.polygamma(order, x), [inside], rtol=1e-7)
    t = tapegrad.tensor([2.0])
    assert t.polygamma_(order) is t and t.item() == tapegrad.polygamma(order, tapegrad.tensor(2.0)).item()


def test_polygamma_of_high_order() -> None:
    assert special.polygamma(200, tapegrad.tensor([0.5])).item() == -inf


@pytest.mark.parametrize("name", ["gammainc", "gammaincc"])
def test_incomplete_gamma(name: str) -> None:
    a, x = np.meshgrid([0.1, 0.5, 1, 2.5, 10, 50], [0.0, 0.1, 1, 3, 12, 60, inf])
    for dtype, rtol in (("f8", 1e-8), ("f4", 1e-5), ("f2", 2e-3)):  # PyTorch is exact to nine digits
        arrays = a.astype(dtype), x.astype(dtype)
        found = getattr(special, name)(*map(wrap, arrays))
        close(found, getattr(torch.special, name)(*map(to_torch, arrays)), rtol)
    method = {"gammainc": "igamma", "gammaincc": "igammac"}[name]
    t = wrap(a.copy())
    assert getattr(t, method + "_")(wrap(x)) is t
    np.testing.assert_array_equal(t.array, getattr(special, name)(wrap(a), wrap(x)).array)
    inside = np.random.default_rng(5).uniform(0.5, 4, (2, 3))
    compare_gradients(lambda m, x: getattr(m, method)(m.full((3,), 2.5, dtype=m.float64), x), [inside])
    first = tapegrad.tensor([1.5], requires_grad=True)
    out = getattr(tapegrad, method)(first, tapegrad.tensor([1.0]))
    with pytest.raises(NotImplementedError, match=f"the derivative for '{method}: input' is not implemented"):
        out.backward()
    with pytest.raises(NotImplementedError, match="not implemented for 'Long'"):
        getattr(tapegrad, method)(tapegrad.tensor([1]), tapegrad.tensor([1]))


def test_xlog1py() -> None:
    values = np.array([-2, -1, -0.5, 0, 0.5, 3, inf, nan])
    x, y = np.meshgrid(values, values)
    close(special.xlog1py(wrap(x), wrap(y)), torch.special.xlog1py(to_torch(x), to_torch(y)), 1e-14)
    close(special.xlog1py(2, wrap(values)), torch.special.xlog1py(2, to_torch(values)), 1e-14)
    close(special.xlog1py(wrap(values), 0.5), torch.special.xlog1py(to_torch(values), 0.5), 1e-14)
    inside = np.random.default_rng(6).uniform(0.2, 3, (2, 3))
    compare_gradients(lambda m, x, y: m.special.xlog1py(x, y), [inside, inside[0]])
    compare_gradients(lambda m, x, y: m.special.xlog1py(x, y), [np.zeros(2), np.array([-1.0, 2.0])], second=False)


def test_softmax_and_logsumexp() -> None:
    x = np.random.default_rng(7).standard_normal((3, 4))
    for name in ("softmax", "log_softmax", "logsumexp"):
        close(getattr(special, name)(wrap(x), 1), getattr(torch.special, name)(to_torch(x), 1), 1e-13)
    found = special.softmax(wrap(x), 0, dtype=tapegrad.float32)
    close(found, torch.special.softmax(to_torch(x), 0, torch.float32), 1e-6)
    close(special.round(wrap(x), decimals=2), torch.special.round(to_torch(x), decimals=2), 1e-14)
    close(special.multigammaln(wrap(x * x + 2), 3), torch.special.multigammaln(to_torch(x * x + 2), 3), 1e-12)


# ---- SciPy or not ----------------------------------------------------------------------------------------------------

OF_SCIPY = {
    "airy_ai", "bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1", "igamma", "igammac", "modified_bessel_k0",
    "modified_bessel_k1", "scaled_modified_bessel_k0", "scaled_modified_bessel_k1",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(n for n, op in OPS.items() if op.public == "special" or n in OF_SCIPY))
def test_without_scipy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions of SciPy say which extra they need; all others do without."""
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    namespace = Raw(registry.load("numpy"))
    arguments = [np.full(3, 2.0)] * len(OPS[name].inputs)
    if name in OF_SCIPY:
        with pytest.raises(ImportError, match=r"needs the package SciPy: pip install 'tapegrad\[scipy\]'"):
            getattr(namespace, name)
    else:
        assert getattr(namespace, name)(*arguments).shape == (3,)
