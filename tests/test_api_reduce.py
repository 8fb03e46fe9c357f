"""Reductions, running results and softmax beside PyTorch: values, dtypes, shapes, errors, warnings, gradients."""

from __future__ import annotations

import copy
import os
import pickle

import numpy as np
import pytest
import tapegrad
from beside_torch import same_call, same_gradient

real_torch = pytest.importorskip("torch")

CALLS = """
x.sum() | x.sum(0) | x.sum(1, True) | x.sum(()) | x.sum((0, 1), keepdim=True) | x.sum([0])
x.sum(dim=None, keepdim=True) | x.sum(-1) | T.sum(x, axis=0, keepdims=True) | x.sum(T.tensor(1)) | x.sum((0, 0))
x.sum((1, -1)) | x.sum(2) | x.sum(-3) | z.sum(0) | z.sum(-1) | z.sum(1) | x.sum(dim="a") | x.sum(1.0) | i.sum()
u.sum() | u.sum(0) | b.sum() | b.sum(1) | h.sum() | h.sum(0) | c.sum(1) | e.sum() | e3.sum(1) | e3.sum(0)
i.sum(dtype=T.float16) | x.sum(dtype=T.int64) | x.sum(0, dtype=T.float64) | b.sum(dtype=T.bool) | big.sum()
big.sum(0) | x.bfloat16().sum() | x.bfloat16().mean(0) | cube.sum((0, 2)) | cube.sum((2, 1))
cube.transpose(0, 2).sum(1) | big.t().sum(1) | T.sum(x, 0, out=T.empty(3)) | T.sum([1.0])
T.sum(x, 0, out=T.empty(0)) | x.mean() | x.mean(0) | x.mean((0, 1), True) | x.mean(()) | i.mean() | b.mean()
u.mean(0) | i.mean(dtype=T.float32) | x.mean(dtype=T.int64) | x.mean(dtype=T.complex64) | h.mean() | h.mean(1)
c.mean() | e.mean() | e3.mean(1) | z.mean(-1) | i.mean(1, dtype=T.float64) | big.mean(1) | nans.nansum()
nans.nansum(1) | b.nansum() | i.nansum(0) | c.nansum() | nans.nansum(1, True, dtype=T.float32) | nans.nanmean()
nans.nanmean(1, True) | i.nanmean() | allnan.nanmean() | x.prod() | x.prod(0) | x.prod(1, True) | u.prod()
b.prod(1) | i.prod(0, dtype=T.float32) | u.prod(dtype=T.uint8) | e.prod() | e3.prod(1) | z.prod(0) | c.prod()
h.prod(1) | x.prod(()) | x.prod(2) | zeros.prod(1) | x.var() | x.var(0) | x.var(unbiased=False) | x.var(1, False)
x.var(1, True, True) | x.var(False) | x.var(1, correction=2) | h.var(1) | x.var(1, correction=5)
x.var(1, correction=1.5) | x.var((0, 1), keepdim=True) | i.var() | c.var() | c.var(1) | e.var() | z.var()
e3.var(1) | x.std() | x.std(0, unbiased=True) | one.std(0) | one.var(0) | one.std(0, correction=0) | i.std()
c.std(0) | z.std(0) | h.std() | big.std(0) | T.var_mean(x) | T.var_mean(one, 0) | T.var_mean(i) | T.std_mean(c)
T.std_mean(x, 1, keepdim=True) | T.var_mean(x, (0, 1), False) | T.std_mean(x, dim=1, correction=0) | x.std(())
T.var(x, axis=1) | x.max() | x.max(0) | x.max(1, keepdim=True) | x.max(-1) | T.max(x, T.tensor(2.0))
T.max(x, dim=0) | x.max(axis=0) | z.max(0) | z.max(1) | z.max() | e.max() | e3.max(0) | e3.max(1) | b.max()
b.max(0) | u.max(0) | h.max(1) | c.max() | c.max(0) | nans.max() | nans.max(1) | ties.max(1)
T.max(x, other=T.tensor(1.0)) | x.max((0, 1)) | x.max(1.5) | big.max(1) | big.max(0) | cube.max(1) | x.max(2)
infs.max(1) | x.min() | x.min(0) | e.min() | e3.min(1) | nans.min() | nans.min(1) | ties.min(1, True) | b.min()
T.min(x, T.tensor(2.0)) | big.min(1) | cube.min(1) | x.t().max(0) | x.t().max(1) | x.amax() | x.amax(0)
x.amax((0, 1), True) | x.amax([0, 1]) | e.amax() | e3.amax(0) | e3.amax(1) | c.amax() | b.amax(0) | nans.amax(1)
x.amin(1) | nans.amin() | big.amin(1) | big.amax(1) | x.amax((0, 0)) | x.amin(()) | cube.amax((0, 2)) | z.amax(0)
x.aminmax() | x.aminmax(dim=0) | x.aminmax(dim=0, keepdim=True) | x.aminmax(keepdim=True) | e.aminmax()
e3.aminmax(dim=1) | b.aminmax() | c.aminmax() | nans.aminmax(dim=1) | x.argmax() | x.argmax(1) | x.argmax(1, True)
x.argmax(keepdim=True) | T.argmax(x, dim=None) | e.argmax() | e3.argmax(1) | e3.argmax(0) | c.argmax() | b.argmax()
nans.argmax() | nans.argmin(1) | ties.argmax(1) | ties.argmin(1) | u.argmax(0) | x.argmax("a") | z.argmax(0)
z.argmin() | x.argmin(0, keepdim=True) | x.argmax(5) | x.argmax(axis=1) | x.any() | x.any(1) | x.any(())
x.any((0, 1)) | u.any() | u.any(1) | u.all() | c.any(0) | e.any() | e.all() | e3.all(1) | b.any(0, True)
b.all((0, 1)) | b.all(dim=(0, 1), keepdim=True) | x.all(()) | nans.all() | z.any(0) | b.all() | x.count_nonzero()
x.count_nonzero(0) | x.count_nonzero((0, 1)) | c.count_nonzero() | b.count_nonzero(1) | x.logsumexp(0)
x.logsumexp((0, 1)) | i.logsumexp(0) | b.logsumexp(0) | h.logsumexp(0) | c.logsumexp(0) | e.logsumexp(0)
e3.logsumexp(1) | infs.logsumexp(1) | infs.logsumexp((0, 1)) | nans.logsumexp(1) | x.logsumexp()
big.logsumexp(1, True) | z.logsumexp(0) | x.norm() | x.norm(1) | x.norm(2, 0) | x.norm(dim=0) | x.norm(0, 1)
x.norm(p="abc") | x.norm("fro", dim=(0, 1)) | x.norm("nuc", dim=0) | x.norm("nuc")
T.norm(cube, "nuc", (0, 2), True) | T.norm(x, None) | T.norm(x, 2, (0, 1)) | T.norm(x, 1, 0, True, dtype=T.float64)
T.norm(x, 1, dtype=T.int64) | T.norm(c) | T.norm(c, 1) | T.norm(x, "inf") | T.norm(x, -inf, 1) | T.norm(x, inf)
d.norm(3, 1) | d.norm(0.5) | d.norm(-1) | i.norm() | e.norm() | e.norm(inf) | e3.norm(inf, 1) | T.norm(cube, "fro")
T.norm(cube, "fro", dim=(0, 1, 2)) | T.norm(cube, "nuc") | h.norm() | c.norm(2, 0) | z.norm() | z.norm(1, 0)
T.dist(x, x + 1, 0) | T.dist(x, T.zeros(3)) | T.dist(i, i) | T.dist(d, d * 2, 3) | T.dist(c, c * 2)
x.renorm(2, 0, 1.0) | x.renorm(2, 1, 1.0) | x.renorm(1, -1, 3.0) | x.renorm(2, 0, -1.0) | z.renorm(2, 0, 1.0)
x.renorm(2, 5, 1.0) | i.renorm(2, 0, 1.0) | x.renorm(0, 0, 1.0) | x.clone().renorm_(2, 0, 1.0)
x.renorm(inf, 0, 2.0) | x.cumsum(0) | x.cumsum(1) | u.cumsum(0) | b.cumsum(0) | x.cumsum(0, dtype=T.int32)
c.cumsum(1) | e.cumsum(0) | z.cumsum(0) | z.cumsum(1) | x.cumsum() | x.cumsum("a") | h.cumsum(1)
x.clone().cumsum_(0) | u.clone().cumsum_(0) | x.cumsum(2) | cube.cumsum(-2) | x.cumprod(1) | u.cumprod(0)
b.cumprod(1) | c.cumprod(0) | x.clone().cumprod_(0) | zeros.cumprod(1) | h.cumprod(0) | x.cummax(0) | x.cummin(0)
nans.cummax(1) | nans.cummin(1) | ties.cummax(1) | ties.cummin(1) | b.cummax(0) | u.cummax(0) | c.cummax(0)
z.cummax(0) | v.cummax(0) | v.cummin(-1) | e.cummax(0) | infs.cummax(1) | x.logcumsumexp(0) | i.logcumsumexp(0)
infs.logcumsumexp(1) | c.logcumsumexp(1) | h.logcumsumexp(1) | z.logcumsumexp(0) | v.logcumsumexp(0) | T.diff(x)
T.diff(x, n=2) | T.diff(x, n=0) | T.diff(x, n=0, prepend=T.zeros(2, 1)) | T.diff(x, n=-1) | T.diff(z)
T.diff(x, n=5) | T.diff(b) | T.diff(u) | x.diff(dim=0) | T.diff(x, prepend=T.zeros(2, 1), append=T.ones(2, 2))
T.diff(x, dim=0, prepend=T.zeros(2, 1)) | T.trapezoid(x) | T.trapezoid(x, dx=2)
T.trapezoid(x, T.tensor([1.0, 2.0, 4.0])) | T.trapezoid(x, x, dim=0) | T.trapezoid(e)
T.trapezoid(x, T.tensor([1.0, 2.0])) | T.trapz(x, T.tensor([1.0, 2.0]), dim=0) | T.trapezoid(z) | T.trapezoid(b)
T.trapezoid(i) | T.trapezoid(i, dx=0.5) | T.cumulative_trapezoid(x, T.tensor([1.0, 2.0, 4.0]))
T.cumulative_trapezoid(x, dx=0.5, dim=0) | T.gradient(x) | T.gradient(x, dim=1) | T.gradient(x, spacing=2.0, dim=1)
T.gradient(x, spacing=[2.0, 3.0]) | T.gradient(i)
T.gradient(x, spacing=(T.tensor([0.0, 1.0]), T.tensor([0.0, 1.0, 5.0]))) | T.gradient(cube, edge_order=2)
T.gradient(x, edge_order=2) | T.gradient(x, edge_order=3) | T.gradient(x, spacing=[1.0, 2.0, 3.0])
T.gradient(v[:4], spacing=(d[0] * 2,), edge_order=2) | T.gradient(v[:4], spacing=(d[0],))
T.gradient(x, dim=(1, 0)) | x.softmax(0) | x.softmax(1) | x.softmax(2) | z.softmax(0) | h.softmax(0) | i.softmax(0)
i.softmax(0, dtype=T.float32) | b.softmax(0) | c.softmax(0) | x.softmax() | T.softmax(x, -1, T.float64)
x.bfloat16().softmax(0) | infs.softmax(1) | nans.softmax(1) | cube.softmax(1) | e.softmax(0) | x.log_softmax(0)
i.log_softmax(0) | T.log_softmax(x, 1, dtype=T.float16) | infs.log_softmax(1) | cube.log_softmax(0)
e3.log_softmax(1)
"""

GRADIENTS = """
d.sum() | d.sum(0) | d.sum(1, True) | d.sum((0, 1)) | z.sum() | z.sum(0) | c.sum(1) | cube.sum((0, 2)) | d.mean()
d.mean(0) | d.mean(1, True) | c.mean(0) | nans.nansum(1) | nans.nansum() | nans.nanmean(1) | nans.nanmean()
d.prod() | zeros.prod() | zeros.prod(1) | zeros.prod(0, True) | v.prod() | c.prod() | c.prod(1) | z.prod()
z.prod(0) | d.var() | d.var(0) | d.var(1, keepdim=True) | d.var(correction=3) | c.var(1) | d.std() | d.std(1)
ties.std(1) | c.std() | one.std(0) | T.var_mean(d, 1) | T.std_mean(d, 0) | T.std_mean(d) | T.var_mean(d)[1]
T.std_mean(d)[0] | d.var(1, correction=6) | d.max() | d.max(0) | d.max(1, True) | ties.max() | ties.max(1)
ties.min() | ties.min(1) | nans.max() | nans.max(1) | T.max(d, d.t().reshape(3, 4)) | ties.amax(1) | ties.amax()
ties.amin(1, True) | nans.amax(1) | d.aminmax() | d.aminmax(dim=1) | ties.aminmax(dim=1)[0] | z.max() | z.max(0)
d.logsumexp(1) | d.logsumexp((0, 1)) | infs.logsumexp(1) | c.logsumexp(1) | d.norm() | d.norm(1) | d.norm(3, 1)
d.norm(1.5) | d.norm(0.5, 0) | d.norm(-1) | d.norm(-2, 1) | d.norm(inf) | d.norm(-inf, 1) | ties.norm(inf, 1)
ties.norm(2, 1) | ties.norm(1.5, 1) | ties.norm(3, 1) | ties.norm(0.5, 1) | ties.norm(-1, 1) | ties.norm(1, 1)
c.norm() | c.norm(1) | c.norm(3) | nans.norm(inf) | T.dist(d, d.flip(0)) | T.dist(d, d) | T.dist(d, d.flip(0), 1)
T.dist(d, d.flip(1), inf) | T.dist(d, d.flip(1), 0.5) | T.norm(d, "nuc") | T.norm(cube, "nuc", dim=(2, 0))
T.norm(c, "nuc") | d.renorm(2, 0, 1.0) | d.renorm(1, 1, 2.0) | d.renorm(1.5, 0, 1.0) | d.cumsum(0) | d.cumsum(1)
c.cumsum(1) | d.cumprod(1) | zeros.cumprod(1) | zeros.cumprod(0) | c.cumprod(0) | z.cumsum(0) | z.cumprod(0)
ties.cummax(1) | ties.cummin(1) | nans.cummax(1) | v.cummin(0) | d.cummax(0) | d.logcumsumexp(1)
infs.logcumsumexp(1) | z.logcumsumexp(0) | T.diff(d) | T.diff(d, n=2, dim=0)
T.diff(d, prepend=d[:, :1], append=d[:, 1:3]) | T.trapezoid(d) | T.trapezoid(d, v[:4])
T.cumulative_trapezoid(d, dim=0) | T.gradient(cube, edge_order=2) | T.gradient(d, spacing=2.0) | d.softmax(1)
d.softmax(0) | cube.softmax(1) | infs.softmax(1) | d.log_softmax(1) | cube.log_softmax(0) | infs.log_softmax(1)
z.softmax(0) | big.softmax(1) | big.log_softmax(1)
"""


def listed(text: str) -> list[str]:
    return [item.strip() for line in text.strip().splitlines() for item in line.split(" | ")]


@pytest.mark.parametrize("text", listed(CALLS))
def test_call(text: str) -> None:
    same_call(real_torch, text)


@pytest.mark.parametrize("text", listed(GRADIENTS))
def test_gradient(text: str) -> None:
    same_gradient(real_torch, text)


def test_softmax_dtype_gradient() -> None:
    """The gradient of softmax(dtype=) comes back in the dtype of the input."""
    same_gradient(real_torch, "d.softmax(1, dtype=T.float32)", rtol=1e-5)


def test_named_result_is_a_tuple() -> None:
    """max(dim) unpacks, indexes, compares its type, pickles and copies as PyTorch's; wrong lengths are refused."""
    torch = tapegrad
    pair = torch.tensor([[1.0, 5.0], [7.0, 2.0]]).max(1)
    values, indices = pair
    assert pair.values is values and pair[1] is indices and len(pair) == 2 and isinstance(pair, tuple)
    assert repr(pair) == "torch.return_types.max(\nvalues=tensor([5., 7.]),\nindices=tensor([1, 0]))"
    assert type(pair) is torch.return_types.max and pair + (1,) == (values, indices, 1)
    plain = torch.return_types.sort([1, 2])
    assert pickle.loads(pickle.dumps(plain)) == copy.deepcopy(plain) == (1, 2)
    assert type(pickle.loads(pickle.dumps(plain))) is torch.return_types.sort
    with pytest.raises(TypeError, match=r"takes a 2-sequence \(3-sequence given\)"):
        torch.return_types.max((1, 2, 3))
    with pytest.raises(AttributeError):
        _ = pair.foo
    assert {"max", "sort", "linalg_qr"} <= set(dir(torch.return_types))


def test_out_of_named_results() -> None:
    """out= takes a pair and fills it."""
    torch = tapegrad
    x, out = torch.tensor([[1.0, 5.0], [7.0, 2.0]]), (torch.empty(2), torch.empty(2, dtype=torch.int64))
    result = torch.max(x, 1, out=out)
    assert result.values is out[0] and out[0].tolist() == [5.0, 7.0] and out[1].tolist() == [1, 0]


@pytest.mark.skipif(os.environ.get("TAPEGRAD_GENERIC") == "1", reason="the kernels' accuracy, not np.add.reduce's")
@pytest.mark.parametrize("size", [300, 5000, 70_000, 3_000_000])
def test_accuracy_of_sums(size: int) -> None:
    """Sums of float32 keep PyTorch's accuracy: relative error below 1e-6 for positive numbers, whatever the shape."""
    a = np.random.default_rng(size).random(size, dtype="f4")
    for shape in [(size,), (1, size), (size, 1), (size // 100, 100), (100, size // 100), (10, size // 100, 10)]:
        for values in (a.reshape(shape), a.reshape(shape[::-1]).T):  # in both orders of memory
            x = tapegrad.from_numpy(values)
            for dim in (None, *range(len(shape))):
                exact = values.sum(dim, dtype="f8")
                found = (x.sum() if dim is None else x.sum(dim)).cpu().numpy()
                assert np.max(np.abs(found - exact) / exact) < 1e-6, (shape, dim)
