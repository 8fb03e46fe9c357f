"""Sorting, order statistics, unique values and histograms beside PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import tapegrad
from beside_torch import same_call, same_gradient
from test_api_reduce import listed

real_torch = pytest.importorskip("torch")

CALLS = """
x.sort() | x.sort(0, True) | x.sort(stable=True) | x.sort(dim=0, descending=True, stable=True) | T.sort(x, 0)
x.sort(3) | z.sort() | T.sort(x, stable=True, descending=True) | T.sort(x, 0, True) | e.sort() | e3.sort(0)
b.sort() | u.sort(0, True) | c.sort() | h.sort(1, True) | nans.sort(1) | nans.sort(1, True) | infs.sort(1)
n.sort() | n.sort(descending=True, stable=True) | ties.sort(1, True) | big.sort(1) | big.sort(0, descending=True)
cube.sort(1) | i.sort(1, True) | T.argsort(x, descending=True) | T.argsort(x, stable=True) | x.argsort(1, True)
n.argsort(stable=True) | z.argsort() | d.argsort(0) | T.msort(x) | T.msort(z) | d.msort() | T.msort(n) | x.topk(2)
x.topk(2, 0) | x.topk(2, 0, False) | x.topk(2, largest=False, sorted=False) | x.topk(k=1, dim=-1) | x.topk(1, 5)
x.topk(0) | x.topk(4) | x.topk(-1) | z.topk(1) | z.topk(2) | e.topk(1) | b.topk(1) | c.topk(1) | nans.topk(2)
nans.topk(2, largest=False) | big.topk(5) | big.topk(3, 0, largest=False) | T.topk(h, 2) | u.topk(2) | x.kthvalue(2)
x.kthvalue(2, 0) | x.kthvalue(2, 0, True) | x.kthvalue(4, 1) | x.kthvalue(0, 1) | z.kthvalue(1) | z.kthvalue(2)
e.kthvalue(1) | e3.kthvalue(1, 1) | b.kthvalue(1) | c.kthvalue(1) | nans.kthvalue(2, 1) | nans.kthvalue(3, 1)
big.kthvalue(7) | x.median() | x.median(0) | x.median(1, True) | z.median() | z.median(0) | e.median()
e3.median(1) | e3.median(0) | i.median() | u.median(1) | c.median() | b.median() | nans.median() | nans.median(1)
allnan.median(0) | big.median(1) | v.median() | h.median(1) | x.median(2) | x.nanmedian() | nans.nanmedian()
nans.nanmedian(1) | nans.nanmedian(1, True) | allnan.nanmedian() | i.nanmedian(1) | e.nanmedian()
allnan.nanmedian(0).values | e3.nanmedian(1) | x.mode() | x.mode(0) | n.mode() | ties.mode(1, True) | nans.mode(1)
b.mode() | c.mode() | z.mode() | e.mode() | e3.mode(1) | pairs.mode(0) | T.mode(n, 0) | x.quantile(0.5)
d.quantile(0.3, 0) | d.quantile(0.3, 1, True) | d.quantile(d[0, 2])
d.quantile(T.tensor([0.125, 0.5, 1.0], dtype=T.float64), 1)
d.quantile(T.tensor([0.125, 0.5], dtype=T.float64), 0, True)
x.quantile(T.tensor([0.3, 0.6]), keepdim=True, interpolation="lower")
x.quantile(0.3, 0, True, interpolation="nearest")
x.quantile(T.tensor([0.3, 0.6]), 0, True, interpolation="midpoint") | d.quantile(0.3, interpolation="higher")
x.quantile(1.5) | x.quantile(T.tensor([0.3, 1.6])) | i.quantile(0.5) | x.quantile([0.5])
x.quantile(T.tensor(0.5).double()) | x.quantile(T.tensor([[0.5]])) | x.quantile(0.5, interpolation="abc")
e.quantile(0.5) | e3.quantile(0.5, 1) | x.quantile(T.tensor([])) | h.quantile(0.5) | z.quantile(0.5)
z.quantile(0.5, 0) | nans.quantile(0.5) | nans.quantile(0.5, 1) | cube.quantile(0.7, 1)
cube.quantile(T.tensor([0.25, 0.75], dtype=T.float64), 1, True) | x.quantile(q=0.25, dim=-1) | x.quantile(0, 0)
x.quantile(1) | nans.nanquantile(0.5) | nans.nanquantile(0.3, 1)
nans.nanquantile(T.tensor([0.5, 1.0], dtype=T.float64), 1) | allnan.nanquantile(0.5) | x.nanquantile(0.5, 0)
i.nanquantile(0.5) | nans.nanquantile(0.5, 1, True, interpolation="nearest") | x.unique() | n.unique()
n.unique(sorted=False) | n.unique(return_inverse=True) | n.unique(return_counts=True) | T.unique(x, True, True)
T.unique(pairs, return_inverse=True, return_counts=True) | pairs.unique(dim=0) | pairs.unique(dim=1) | z.unique()
e.unique() | T.unique(pairs, return_inverse=True, return_counts=True, dim=0)
T.unique(pairs, return_counts=True, dim=1) | nans.unique() | T.unique(T.empty(0, 3), dim=0)
T.unique(T.empty(3, 0), dim=0) | b.unique() | c.unique() | cube.unique(dim=1) | x.unique(dim=2) | h.unique()
u.unique(return_inverse=True) | n.unique(True, True, True) | T.unique_consecutive(n)
T.unique_consecutive(n, return_inverse=True, return_counts=True) | T.unique_consecutive(pairs, dim=0)
T.unique_consecutive(pairs, return_inverse=True, return_counts=True)
T.unique_consecutive(pairs, return_inverse=True, dim=0) | T.unique_consecutive(e, return_counts=True)
pairs.unique_consecutive(return_counts=True, dim=0) | T.unique_consecutive(pairs, dim=1) | z.unique_consecutive()
ties.unique_consecutive() | n.bincount() | n.bincount(minlength=6) | n.bincount(d[0, [0, 1, 2, 3, 0, 1]])
n.bincount(x.reshape(-1)) | n.bincount(n) | u.reshape(-1).bincount() | (-n).bincount() | i.bincount() | v.bincount()
n.bincount(v) | n.bincount(minlength=-1) | T.bincount(n[:0], minlength=3) | T.bincount(n[:0])
n.bincount(h.reshape(-1)) | T.bincount(input=n, weights=n * 0.5, minlength=2) | T.histc(x) | x.histc(4)
x.histc(4, 1, 3) | T.histc(x, bins=4, min=0, max=5) | T.histc(x, 0) | T.histc(x, 4, 3, 1) | T.histc(i, 4)
T.histc(v[:1], 4) | T.histc(e, 4) | big.histc(20) | big.histc(7, -1, 1) | v.histc(5) | T.histc(v / 10, 30, 0, 1)
T.histogram(x, 4) | T.histogram(x, 4, range=(0.0, 3.0)) | T.histogram(x, T.tensor([0.0, 1.0, 2.5, 3.0]))
T.histogram(x, 4, weight=x) | T.histogram(x, 4, weight=x, density=True)
T.histogram(x, T.tensor([0.0, 1.0, 2.5, 3.0]), density=True) | T.histogram(i, 4)
T.histogram(x, 4, range=(1.0, 1.0)) | T.histogram(x, 4, range=(3.0, 1.0)) | T.histogram(x, 0) | T.histogram(e, 2)
big.histogram(13) | v.histogram(4) | d.histogram(T.tensor([-1.0, 0.0, 0.5, 4.0], dtype=T.float64))
"""

GRADIENTS = """
d.sort(1) | d.sort(0, True) | nans.sort(1) | ties.sort(1, True) | z.sort() | d.msort() | d.topk(2)
d.topk(2, 0, False) | v.topk(3) | nans.topk(2) | d.kthvalue(2, 1) | d.kthvalue(1, 0, True) | d.median()
d.median(1) | d.median(0, True) | nans.median() | nans.median(1) | nans.nanmedian(1) | nans.nanmedian()
allnan.median() | allnan.nanmedian() | zeros.median() | z.median() | z.median(0) | ties.mode(1) | d.mode(0)
nans.mode(1) | d.quantile(0.3) | d.quantile(0.3, 0) | d.quantile(d.detach()[0, 2])
d.quantile(T.tensor([0.125, 0.5, 1.0], dtype=T.float64), 1) | d.quantile(0.5, 1, True)
d.quantile(0.4, 1, interpolation="midpoint") | d.quantile(0.4, 1, interpolation="nearest") | nans.quantile(0.3, 1)
v.quantile(0.3) | d.quantile(v / 8) | nans.nanquantile(v / 8, 1) | d.quantile(z / 4, 1) | nans.nanquantile(0.3, 1)
nans.nanquantile(0.3) | cube.quantile(0.7, 1)
"""


@pytest.mark.parametrize("text", listed(CALLS))
def test_call(text: str) -> None:
    same_call(real_torch, text)


@pytest.mark.parametrize("text", listed(GRADIENTS))
def test_gradient(text: str) -> None:
    same_gradient(real_torch, text)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "i8", "u1", "b1"])
@pytest.mark.parametrize("descending", [False, True])
def test_sort_is_stable(dtype: str, descending: bool) -> None:
    """Long rows with many ties, nan, infinities and signed zeros come out as PyTorch's stable sort orders them."""
    rng = np.random.default_rng(0)
    a = (rng.integers(-40, 40, (7, 3000)) if dtype not in ("u1", "b1") else rng.integers(0, 2, (7, 3000))).astype(dtype)
    if dtype[0] == "f":
        a[:, ::50], a[:, 1::70], a[:, 2::70], a[:, 3::40] = np.nan, np.inf, -np.inf, -0.0
    for dim in (1, 0):
        mine = tapegrad.sort(tapegrad.tensor(a), dim, descending)
        theirs = real_torch.sort(real_torch.tensor(a), dim=dim, descending=descending, stable=True)
        np.testing.assert_array_equal(mine.indices.cpu().numpy(), theirs.indices.numpy())
        np.testing.assert_array_equal(mine.values.cpu().numpy(), theirs.values.numpy())
