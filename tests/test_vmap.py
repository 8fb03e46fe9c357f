"""func.vmap: each op's batching rule beside a loop over the examples, and whole functions beside torch.func.vmap."""

from __future__ import annotations

import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from both import cells, check
from records import RECORDS
from tapegrad.autograd.batching import Batched, Level, class_of_depth, each
from tapegrad.autograd.batching_rules import known
from tapegrad.autograd.op import OPS, raw_by_type
from tapegrad.func import functional_call, grad, vmap

# ---- every op beside the loop ----------------------------------------------------------------------------------------

PRIMITIVES = [name for name in RECORDS if name in OPS and not OPS[name].composite]
ARRAY = type(np.empty(0))


def batches(record: Any) -> Any:
    """(arguments, keywords) of a batch of two samples: all arguments batched, and each one alone."""
    seed = zlib.crc32(record.op.encode())
    pairs = zip(record.samples(np.random.default_rng(seed)), record.samples(np.random.default_rng(5)), strict=True)
    for one, other in pairs:
        places = [i for i, a in enumerate(one.arrays) if isinstance(a, (np.ndarray, np.generic))]
        for chosen in [places] + [[i] for i in places if len(places) > 1]:
            level = Level(2, "error")
            args = []
            for i, (a, b) in enumerate(zip(one.arrays, other.arrays, strict=True)):
                if i in chosen:
                    fits = np.shape(a) == np.shape(b) and np.asarray(a).dtype == np.asarray(b).dtype
                    dynamic = record.op.startswith("masked") and np.asarray(a).dtype == bool
                    pair = np.stack([np.asarray(a), np.asarray(b if fits and not dynamic else a)])
                    args.append(class_of_depth(1)(pair, (level,)))
                else:
                    args.append(np.asarray(a) if isinstance(a, np.generic) else a)
            yield args, one.kw


def fresh(args: Any) -> Any:
    return [a.like(a.value.copy()) if isinstance(a, Batched) else a.copy() if type(a) is ARRAY else a for a in args]


def outcome(function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:
        return error


def assert_same(mine: Any, loop: Any, count: int | None) -> None:
    if isinstance(loop, Exception) or isinstance(mine, Exception):
        assert type(mine) is type(loop), f"{mine!r}, example by example: {loop!r}"
    elif isinstance(loop, tuple):
        for a, b in list(zip(mine, loop, strict=True))[:count]:  # auxiliary results are the kernels' own affair
            assert_same(a, b, None)
    else:
        assert mine.shape == loop.shape and mine.dtype == loop.dtype
        values = [np.broadcast_to(b.value, (2, *b.shape)) for b in (mine, loop)]
        np.testing.assert_allclose(*values, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PRIMITIVES)
def test_rule_is_the_loop(name: str) -> None:
    op = OPS[name]
    count = None if op.outputs == ("parts",) else max(len(op.outputs), 1)
    for args, kw in batches(RECORDS[name]):
        loop = outcome(each, getattr(raw_by_type[ARRAY], name), fresh(args), kw)
        if name in ("nonzero", "masked_select") and isinstance(args[-1], Batched):
            continue  # refused, whatever the examples are: see ERRORS
        mine = outcome(lambda a=args, k=kw: getattr(raw_by_type[class_of_depth(1)], name)(*fresh(a), **k))
        assert_same(mine, loop, count)


def test_every_view_op_has_a_rule() -> None:
    """So that an in-place write into a view inside vmap reaches what it is a view of."""
    missing = [name for name, op in OPS.items() if op.view and not known(name)]
    assert not missing, f"view ops without a batching rule: {missing}"


def test_most_ops_have_a_rule() -> None:
    slow = [name for name in PRIMITIVES if not known(name)]
    assert len(slow) < 0.1 * len(PRIMITIVES), slow


# ---- functions beside torch ------------------------------------------------------------------------------------------


def tensor(*shape: int, seed: int = 0) -> Any:
    return lambda T: T.tensor(np.random.default_rng(seed).normal(size=shape))


def spd(T: Any) -> Any:
    a = np.random.default_rng(9).normal(size=(3, 4, 4))
    return T.tensor(a @ a.swapaxes(-1, -2) + 4 * np.eye(4))


NAMES: dict[str, Any] = {
    "x": tensor(3, 4), "y": tensor(3, 4, seed=1), "m": tensor(3, 4, 5, seed=2), "n": tensor(3, 5, 2, seed=3),
    "v": tensor(4, seed=4), "w": tensor(5, 4, seed=5), "img": tensor(3, 2, 4, 6, 6, seed=6), "spd": spd,
    "k": tensor(3, 5, 4, 3, 3, seed=7), "k0": tensor(5, 4, 3, 3, seed=8), "pos": lambda T: tensor(3, 4)(T).abs() + 0.5,
    "i": lambda T: T.tensor([[0, 2, 1], [3, 3, 0], [1, 0, 2]]), "j": lambda T: T.tensor([0, 2, 1]),
    "b": lambda T: T.tensor([[True, False, True, True]] * 2 + [[False, True, True, False]]),
    "V": lambda T: T.func.vmap, "F": lambda T: T.nn.functional, "Z": tensor(3, 2, 3, 4, seed=11),
}  # fmt: skip

FUNCTIONS = cells(
    """
    V(T.sin)(x) | V(T.add)(x, y) | V(T.mul, (0, None))(x, v) | V(T.sub, (None, 0))(v, x) | V(lambda a: a * 2 + 1)(x)
    V(lambda a: 2 / (1 + a * a))(x) | V(lambda a: 2**a)(x) | V(lambda a: a**3)(x) | V(lambda a, b: a @ b)(m, n)
    V(T.dot)(x, y) | V(T.mv, (None, 0))(w, x) | V(T.mm, (0, None))(m, n[0]) | V(T.outer)(x, y) | V(T.exp)(m)
    V(T.maximum)(x, y) | V(T.where)(b, x, y) | V(lambda a: T.where(a > 0, a, 0.0))(x) | V(T.atan2)(x, y)
    V(lambda a: a.clamp(-0.5, 0.5))(x) | V(lambda a: a > 0)(x) | V(lambda a: (a > 0) & (a < 1))(x)
    V(T.logical_not)(b) | V(lambda a: a.to(T.float32))(x) | V(lambda a: a.int())(x) | V(lambda a: a.float() + 1)(x)
    V(T.isnan)(x) | V(T.lerp)(x, y, pos) | V(T.addcmul)(x, y, pos) | V(T.pow)(pos, y) | V(T.remainder)(x, y)
    V(T.copysign)(x, y)
    # reductions
    V(T.sum)(x) | V(lambda a: a.sum(0))(m) | V(lambda a: a.sum(-1, keepdim=True))(m) | V(lambda a: a.mean((0, 1)))(m)
    V(T.mean)(m) | V(T.prod)(x) | V(lambda a: a.var(1))(m) | V(T.std)(m) | V(T.max)(m) | V(lambda a: a.max(0))(m)
    V(lambda a: a.min(-1).indices)(m) | V(T.argmax)(m) | V(lambda a: a.argmin(0))(m) | V(T.any)(b) | V(T.all)(b)
    V(lambda a: a.amax((0, 1)))(m) | V(T.logsumexp, (0, None))(m, 0) | V(lambda a: T.linalg.norm(a))(m)
    V(T.median)(x) | V(lambda a: a.norm(p=1, dim=0))(m) | V(lambda a: T.std_mean(a, 0))(m) | V(T.count_nonzero)(b)
    V(T.numel, out_dims=None)(x) | V(lambda a: T.aminmax(a, dim=0))(m) | V(lambda a: a.nansum())(x)
    V(lambda a: a.sum(dtype=T.float32))(x)
    # cumulative, sorting
    V(lambda a: a.cumsum(0))(m) | V(lambda a: a.cumprod(1))(m) | V(lambda a: a.cummax(0))(m) | V(T.sort)(x)
    V(lambda a: T.sort(a, 0, True))(m) | V(lambda a: a.topk(2, 0))(m) | V(T.argsort)(x)
    V(lambda a: a.kthvalue(2))(x) | V(lambda a: a.logcumsumexp(0))(m) | V(lambda a: a.msort())(m)
    V(lambda a: a.median(0))(m)
    # shapes
    V(lambda a: a.reshape(-1))(m) | V(lambda a: a.view(2, 10))(m) | V(lambda a: a.t())(m) | V(lambda a: a.T)(m)
    V(lambda a: a.mT)(m) | V(lambda a: a.transpose(0, 1))(m) | V(lambda a: a.permute(1, 0))(m) | V(T.ravel)(m)
    V(lambda a: a.unsqueeze(0))(x) | V(lambda a: a.unsqueeze(-1))(x) | V(lambda a: a[None].squeeze(0))(x)
    V(lambda a: a.flatten())(img) | V(lambda a: a.flatten(1))(img) | V(lambda a: a.expand(2, 4))(x)
    V(lambda a: a.repeat(2, 3))(m) | V(lambda a: a.flip(0))(m) | V(lambda a: a.roll(1, 0))(m) | V(T.diag)(x)
    V(lambda a: a.roll(2))(m) | V(T.diagonal)(m) | V(lambda a: T.diag_embed(a))(x) | V(T.tril)(m) | V(T.triu)(m)
    V(lambda a: a.split(2))(x) | V(lambda a: a.chunk(2, 1))(m) | V(lambda a: a.unbind(0))(m)
    V(lambda a: T.tensor_split(a, 3))(m) | V(lambda a, b: T.cat([a, b]))(x, y)
    V(lambda a, b: T.cat([a, b], -1), (0, None))(x, v) | V(lambda a, b: T.stack([a, b], 1))(x, y)
    V(lambda a, b: T.stack([a, b]), (0, None))(x, v) | V(lambda a: F.pad(a, (1, 2)))(m)
    V(lambda a: a.unfold(0, 2, 1))(x) | V(lambda a: F.pad(a, (1, 1), mode="circular"))(img[:, 0])
    V(lambda a: T.movedim(a, 0, 1))(m) | V(lambda a: a.rot90())(m) | V(lambda a: a.as_strided((2, 2), (1, 2)))(x)
    V(lambda a: T.meshgrid(a, a, indexing="ij"))(x) | V(T.atleast_2d)(x) | V(lambda a: a.narrow(0, 1, 2))(x)
    V(lambda a: a.select(1, 2))(m) | V(lambda a: a.swapaxes(0, 1))(m)
    # indexing
    V(lambda a: a[0])(m) | V(lambda a: a[1:, ::2])(m) | V(lambda a: a[..., -1])(m)
    V(lambda a: a[:, None])(x[:, :, None]) | V(lambda a: a[[0, 2]])(m) | V(lambda a: a[:, [0, 2]])(m)
    V(lambda a: a[[0, 1], [2, 3]])(m) | V(lambda a, c: a[c])(m, i) | V(lambda a, c: a[:, c])(m, i)
    V(lambda a, c: a[c], (None, 0))(v, i) | V(lambda a, c: a[c, c], (0, None))(m, j)
    V(lambda a, c: a[c[:, None], c])(m, i) | V(lambda a, c: a.gather(0, c))(x, i)
    V(lambda a, c: a.index_select(0, c))(m, i) | V(lambda a, c: a.index_select(0, c), (0, None))(m, j)
    V(lambda a, c: a.take(c))(m, i) | V(lambda a, c: T.take_along_dim(a, c, 0))(x, i)
    V(lambda a, c, s: a.scatter_add(0, c, s))(x, i, y[:, :3]) | V(lambda a, c: a.scatter(0, c, 1.0))(x, i)
    V(lambda a, c: a[c, 0], (None, 0))(w, i) | V(lambda a, c, s: a.index_add(0, c, s), (0, None, 0))(x, j, y[:, :3])
    V(lambda a, c: a.masked_fill(c, 7.0))(x, b) | V(lambda c: F.one_hot(c, 4))(i)
    V(lambda c, t: F.embedding(c, t), (0, None))(i, w) | V(lambda c, t: F.embedding(c, t))(i, m)
    V(lambda e, a: T.searchsorted(e, a), (None, 0))(v.sort()[0], x)
    V(lambda a: a[a.argmax()])(x) | V(lambda a, c: a[c[0], c[1]])(m, i) | V(lambda a, c: a[:, c[0]])(m, i)
    V(lambda a, c: a[..., c[0]])(img, i) | V(lambda a, c: a[0, :, c[0], None])(img, i)
    V(lambda a, c: a[c[0], 1:, c[1]])(img, i // 2)
    V(lambda a, c: a[c[0]], (None, 0))(w, i) | V(lambda a: a[a.argsort()])(x) | V(lambda a: a[b[0]])(x)
    V(lambda a: T.bincount(a, minlength=5))(i) | V(lambda a, c: T.isin(a, c), (0, None))(i, j)
    V(lambda a: T.cdist(a, a))(m)
    # linear algebra
    V(T.linalg.inv)(spd) | V(T.linalg.det)(spd) | V(T.linalg.cholesky)(spd) | V(T.linalg.solve)(spd, x)
    V(T.linalg.eigvalsh)(spd) | V(lambda a: T.linalg.svdvals(a))(m) | V(T.linalg.slogdet)(spd) | V(T.trace)(spd)
    V(T.linalg.solve, (0, None))(spd, spd[0]) | V(lambda a, c: T.einsum("ij,jk->ik", a, c))(m, n)
    V(lambda a, c: T.einsum("ij,jk->k", a, c), (0, None))(m, n[0]) | V(T.matmul, (0, None))(x, w.t())
    V(lambda a, c: T.tensordot(a, c, 1))(m, n) | V(T.bmm)(Z, Z.mT) | V(lambda a: T.matrix_exp(a))(spd / 20)
    V(T.kron)(x, y) | V(lambda a, c: T.linalg.cross(a, c))(m[:, :, :3], m[:, :, 2:])
    V(lambda a: T.linalg.qr(a)[1].abs())(m) | V(T.addmm, (None, 0, 0))(w[:4, :2], m, n)
    # nn.functional
    V(F.relu)(x) | V(F.gelu)(x) | V(F.softmax, (0, None))(m, 0) | V(lambda a: F.log_softmax(a, -1))(m) | V(F.silu)(x)
    V(F.linear, (0, None))(x, w) | V(F.linear)(m.mT, w[None].repeat(3, 1, 1))
    V(F.linear, (0, 0, 0))(x, w[None] * y[:, None], y[:, :1].repeat(1, 5)) | V(F.conv2d, (0, None))(img, k0)
    V(F.conv2d)(img, k) | V(F.conv2d, (None, 0))(img[0], k)
    V(lambda a, c: F.conv2d(a, c, stride=2, padding=1, groups=1))(img, k)
    V(F.conv_transpose2d, (0, None))(img, k0.transpose(0, 1)) | V(lambda a: F.max_pool2d(a, 2))(img)
    V(lambda a: F.avg_pool2d(a, 3, 1))(img) | V(lambda a: F.adaptive_avg_pool2d(a, 2))(img)
    V(lambda a: F.max_pool2d(a[0], 2, return_indices=True))(img) | V(lambda a: F.layer_norm(a, (5,)))(m)
    V(lambda a, c, d: F.layer_norm(a, (5,), c, d))(m, m[:, 0], m[:, 1]) | V(lambda a: F.group_norm(a, 2))(img)
    V(lambda a: F.batch_norm(a, None, None, training=True))(img) | V(lambda a: F.instance_norm(a))(img)
    V(F.mse_loss)(x, y) | V(F.l1_loss)(x, y) | V(lambda a, c: F.mse_loss(a, c, reduction="none"))(x, y)
    V(F.smooth_l1_loss)(x, y) | V(lambda a, c: F.cross_entropy(a, c), (0, 0))(m.mT[:, :3], i)
    V(F.cross_entropy, (0, 0))(x, j) | V(lambda a, c: F.cross_entropy(a, c, reduction="sum"), (0, 0))(m.mT[:, :3], i)
    V(lambda a, c: F.cross_entropy(a, c, ignore_index=0))(m.mT[:, :3], i)
    V(lambda a, c: F.nll_loss(F.log_softmax(a, 1), c))(m.mT[:, :3], i)
    V(F.binary_cross_entropy_with_logits)(x, b.double()) | V(F.normalize, (0, None, None))(m, 2, 0)
    V(F.scaled_dot_product_attention)(Z, Z, Z) | V(F.cosine_similarity, (0, 0, None))(m, m + 1, 0)
    V(lambda a: F.interpolate(a, scale_factor=2))(img) | V(F.softplus)(x) | V(lambda a: F.unfold(a, 3))(img)
    V(lambda a: F.glu(a, 0))(x) | V(lambda a, c: F.kl_div(a, c, reduction="batchmean"))(x, pos)
    V(F.huber_loss)(x, y) | V(lambda a: F.dropout(a, 0.5, False))(x)
    V(lambda a, c: F.pairwise_distance(a, c))(m, m + 1) | V(lambda a: T.fft.fft(a).real)(x) | V(T.fft.rfft)(x)
    # in_dims, out_dims, structures
    V(T.sin, 1)(x) | V(T.sin, -1)(x) | V(T.sin, out_dims=1)(x) | V(T.sin, out_dims=-1)(m) | V(T.sin, 2, 1)(m)
    V(T.add, (0, 1))(x[:, :3], y[:, :3]) | V(lambda d: d["a"] * d["b"])({"a": x, "b": y})
    V(lambda d: {"s": d["a"] + d["b"], "p": [d["a"].sum()]}, ({"a": 0, "b": None},))({"a": x, "b": v})
    V(lambda p, c: (p[0] * c, p[1]), ((0, None), 0), (0, None))((x, v), y) | V(lambda p: p[0] @ p[1])([m, n])
    V(lambda a: (a, a.sum()), out_dims=(1, 0))(x) | V(lambda a, s=1.0: a * s)(x, s=3.0)
    V(lambda a, s=None: a * s)(x, s=v) | V(lambda a: T.ones(2, dtype=T.float64))(x)
    V(lambda a: T.zeros_like(a) + 1)(x) | V(lambda a: T.arange(4) + a)(x)
    V(lambda a: T.eye(4, dtype=T.float64) * a)(x) | V(T.sin, chunk_size=2)(m)
    V(T.dot, (0, None), chunk_size=1)(x, v)
    V(lambda a: {"s": a.sum(), "a": a}, out_dims={"s": 0, "a": 1}, chunk_size=2)(x) | V(lambda a: a.shape[0] * a)(x)
    V(lambda a: a * a.ndim * len(a) * a.size(0) * a.numel())(x) | V(lambda a: a.reshape(a.shape[1], -1))(m)
    V(lambda a: list(a)[1])(m)
    # nested
    V(V(T.mul, (None, 0)), (0, None))(x[:, 0], y[:, 0]) | V(V(T.dot, (None, 0)), (0, None))(x, y) | V(V(T.sum))(m)
    V(V(V(T.sin)))(m) | V(V(T.mm, (0, None)), (0, None))(Z, n[0, :4])
    V(V(lambda a, c: a @ c, (None, 0)), (0, None))(m, n)
    V(V(lambda a, c: F.linear(a, c), (0, None)), (0, 0))(m.mT, w[None] * y[:, None]) | V(V(T.sum, 1, 0), 0, 1)(m)
    V(V(lambda a, c: a[c], (0, None)), (0, 0))(m.mT, i[:, :2]) | V(lambda a: V(lambda c: a * c.sum())(m))(x[:, 0])
    V(lambda a: V(lambda c: (a * c).sum(), 1)(a))(m) | V(V(lambda a, c: T.cat([a, c]), (0, None)), (0, 0))(m, x)
    V(V(lambda a: a.max(0)))(Z) | V(V(T.linalg.inv))(spd[None]) | V(V(F.conv2d, (0, None)), (0, 0))(img[:, None], k)
    """
)


@pytest.mark.parametrize("text", FUNCTIONS)
def test_beside_torch(text: str) -> None:
    check(text, rtol=1e-9, **NAMES)


# ---- with gradients --------------------------------------------------------------------------------------------------

NAMES["G"] = lambda T: T.func

GRADIENTS = cells(
    """
    V(G.grad(lambda a: a.sin().sum()))(x) | V(G.grad(lambda a, c: (a * c).sum(), (0, 1)), (0, None))(x, v)
    V(G.grad(G.grad(T.sin)))(v) | V(G.grad(lambda c, a: ((a @ c.t()).tanh() ** 2).sum()), (None, 0))(w, x)
    V(G.grad_and_value(lambda a: (a**3).sum()))(x) | V(G.grad(lambda a: (a.sum(), a * 2), has_aux=True))(x)
    V(lambda a, c: G.vjp(T.sin, a)[1](c)[0])(x, y) | V(lambda a, c: G.jvp(T.sin, (a,), (c,))[1])(x, y)
    V(G.jacrev(lambda a: a.sin() * a.sum()))(x) | V(G.jacfwd(lambda a: a.sin() * a.sum()))(x)
    V(G.hessian(lambda a: (a**3).sum() * a[0]))(x) | G.jacrev(V(lambda a: (a**2).sum()))(x)
    V(G.vjp(lambda a: a.sin() * a.sum(), v)[1])(T.eye(4, dtype=T.float64))
    V(lambda t: G.jvp(T.sin, (v,), (t,))[1])(T.eye(4, dtype=T.float64))
    G.grad(lambda c: V(lambda a: (a @ c.t()).tanh().sum())(x).sum())(w)
    G.grad(lambda c: V(T.dot, (0, None))(x, c).sum())(v)
    G.hessian(lambda c: V(lambda a: (a * c).sin().sum())(x).sum())(v)
    G.grad(lambda c: V(G.grad(lambda a: ((a * c) ** 3).sum()))(x).sum())(v)
    G.jacrev(lambda c: V(G.grad(lambda a: ((a * c) ** 3).sum()))(x))(v)
    V(G.grad(lambda a: V(lambda q: (q * a[0]).sin().sum())(a).sum()))(m) | V(V(G.grad(lambda a: (a**3).sum())))(m)
    V(G.grad(lambda a: V(G.grad(lambda q: q**3 * a.sum()))(a).sum()))(x)
    V(G.grad(lambda c, a: F.conv2d(a, c).tanh().sum()), (None, 0))(k0, img)
    V(G.grad(lambda a, c: F.conv2d(a, c).tanh().sum()), (0, 0))(img, k)
    V(G.grad(lambda a: F.max_pool2d(a, 2).sum()))(img) | V(G.grad(lambda a: F.layer_norm(a, (5,)).sin().sum()))(m)
    V(G.grad(lambda a: F.batch_norm(a, None, None, training=True).sin().sum()))(img)
    V(G.grad(lambda a, c: F.cross_entropy(a, c)), (0, 0))(m.mT[:, :3], i)
    V(G.grad(lambda a, c: F.nll_loss(F.log_softmax(a, 1), c)), (0, 0))(m.mT[:, :3], i)
    V(G.grad(F.cross_entropy), (0, 0))(x, j) | V(G.grad(lambda a, c: F.embedding(c, a).sin().sum()), (None, 0))(w, i)
    V(G.grad(lambda a, c: a[c].sin().sum()), (0, 0))(x, i) | V(G.grad(lambda a, c: (a.gather(0, c) ** 2).sum()))(x, i)
    V(G.grad(lambda a: a.sort(0)[0][1:].sin().sum()))(m) | V(G.grad(lambda a: a.cumsum(0).sin().sum()))(m)
    V(G.grad(lambda a: a.max(0)[0].sum()))(m) | V(G.grad(lambda a: T.linalg.inv(a).sum()))(spd)
    V(G.grad(lambda a: T.linalg.slogdet(a)[1]))(spd) | V(G.grad(lambda a: T.linalg.cholesky(a).sum()))(spd)
    V(G.grad(lambda a: T.cat([a[1:], a[:1] * 2]).prod()))(x) | V(G.grad(lambda a: T.stack([a, a * a]).var()))(x)
    V(G.grad(lambda a: F.softmax(a, 0)[0]))(x)
    V(G.grad(lambda a: a.reshape(2, 2).t().flatten()[1:3].pow(2).sum()))(x)
    V(G.grad(lambda a: a.unfold(0, 2, 1).pow(2).sum()))(x) | V(G.grad(lambda a: a.norm()))(x)
    V(G.grad(lambda a: F.scaled_dot_product_attention(a, a, a).sin().sum()))(Z)
    V(G.grad(lambda a: F.interpolate(a, scale_factor=2).sin().sum()))(img)
    V(G.grad(lambda a: a.masked_fill(a > 0, 0.0).pow(3).sum()))(x) | V(G.jacrev(lambda a: a.outer(a)))(x)
    V(G.grad(lambda a: a.expand(3, 4).pow(2).mean()))(x) | V(G.grad(lambda a: (a.clamp(min=0) + a.abs()).sum()))(x)
    V(G.grad(lambda a: a.logsumexp(0)))(x)
    # in-place operations, views of the examples
    V(lambda a: a.clone().mul_(2))(x) | V(lambda a: a.clone().add_(a.sum()))(x)
    V(G.grad(lambda a: a.clone().mul_(a).sum()))(x) | V(lambda a: a.clone().zero_())(x)
    V(G.grad(lambda a: a.clone().exp_().mul_(a).sum()))(x) | V(lambda a: T.zeros_like(a).copy_(a))(x)
    V(lambda a: a.clone().fill_(2))(x) | V(lambda a: a.clone().clamp_(0, 1))(x) | V(lambda a: a.clone().t_())(m)
    V(lambda a: (c := a.clone(), c.__setitem__(slice(1, None), a[:-1]), c)[2])(x) | V(lambda a: a.exp().add_(1))(x)
    V(lambda a, i: (c := a.clone(), c.__setitem__(i, 5.0), c)[2])(x, i) | V(G.grad(lambda a: a.exp().add_(1).sum()))(x)
    V(lambda a, i: (c := a.clone(), c.__setitem__((i, 0), a[:3, 1]), c)[2])(m, i)
    V(G.grad(lambda a: (c := a.clone(), c.__setitem__(0, a[1] * 2), c.pow(2).sum())[2]))(m)
    V(lambda a, c: a.clone().index_add_(0, c, a[:3]), (0, None))(x, j)
    V(lambda a, c: a.clone().scatter_(0, c, 0.0))(x, i) | V(lambda a, c: a.clone().masked_fill_(c, 0.0))(x, b)
    V(lambda a: T.zeros(4, dtype=T.float64).mul_(a))(x) | V(lambda a: a.new_zeros(4).add_(a))(x)
    V(lambda a: T.full_like(a, 2).mul_(a))(x)
    V(lambda a, c: a.clone().index_put_((c,), a[:3] * 2))(x, T.tensor([[0, 1, 2]] * 3))
    """
)


@pytest.mark.parametrize("text", GRADIENTS)
def test_gradients_beside_torch(text: str) -> None:
    check(text, rtol=1e-8, length=60, **NAMES)


# ---- errors and random numbers ---------------------------------------------------------------------------------------

ERRORS = cells(
    """
    V(T.sin)() | V(T.sin, None)(x) | V(T.sin, (0, 0))(x) | V(T.sin, (1.5,))(x) | V(T.sin, ("a",))(x) | V(T.sin)(2.0)
    V(T.sin, 2)(x) | V(T.sin, -3)(x) | V(T.add)(x, v) | V(T.sin, (None,))(x) | V(lambda a: 2)(x)
    V(lambda a: (a, 2))(x) | V(lambda a: a, out_dims=None)(x) | V(lambda a: a, out_dims=(0, 0))(x)
    V(lambda a: (a, a), out_dims=(0,))(x) | V(lambda a: a, out_dims="x")(x) | V(lambda a: a, 0, 3)(x)
    V(T.sin, randomness="x") | V(T.sin, chunk_size=0) | V(lambda a: a.item())(x[:, 0])
    V(lambda a: float(a))(x[:, 0]) | V(lambda a: a if a else -a)(x[:, 0]) | V(lambda a: a if a > 0 else -a)(x[:, 0])
    V(lambda a: int(a))(x[:, 0]) | V(lambda a: T.rand(2))(x) | V(lambda a: F.dropout(a))(x)
    V(lambda a: T.randn_like(a))(x) | V(lambda a: T.randperm(3))(x) | V(lambda a: a.clone().uniform_())(x)
    V(lambda a: T.bernoulli(a.abs()))(x / 9) | V(lambda a: v.clone().mul_(a))(x) | V(lambda a: a @ a)(m)
    V(lambda a: a.reshape(3, 3))(x) | V(lambda a: a[5])(x) | V(lambda a: a.sum(3))(x) | V(lambda a: T.cat([a, m]))(x)
    V(lambda a: a[a > 0])(x) | V(lambda a: T.nonzero(a))(x > 9) | V(lambda a: T.masked_select(a, a > 9))(x)
    V(lambda a: (a.clone(), a.__setitem__(a > 0, 0.0)))(x) | V(lambda d: d["a"], ({"b": 0},))({"a": x})
    V(lambda a: a, ([0],))(x)
    """
)


@pytest.mark.parametrize("text", ERRORS)
def test_errors_beside_torch(text: str) -> None:
    check(text, length=0 if "a @ a" in text or "reshape" in text else 35, **NAMES)


RANDOM = cells(
    """
    V(lambda a: T.rand(3), randomness="different")(x) | V(lambda a: T.rand(3) + a.sum(), randomness="same")(x)
    V(lambda a: T.randn(20), randomness="different")(x) | V(lambda a: T.rand(3), randomness="same")(x)
    V(lambda a: T.randint(0, 9, (4,)), randomness="different")(x)
    V(lambda a: a.clone().uniform_(), randomness="different")(x)
    V(lambda a: a.clone().normal_(), randomness="different")(x)
    V(V(lambda a: T.rand(2), randomness="same"), randomness="different")(m)[:, 0]
    V(lambda a: T.rand(2), randomness="same", chunk_size=1)(x)
    """
)


ON_CPU = pytest.mark.skipif("torch.get_default_device().type != 'cpu'", reason="draws that differ stay on the CPU")


@ON_CPU
@pytest.mark.parametrize("text", RANDOM)
def test_random_numbers_beside_torch(text: str) -> None:
    check(f"(T.manual_seed(3), {text})[1]", **NAMES)


@ON_CPU
def test_dropout_differs_between_examples() -> None:
    x = torch.ones(50, 40)
    different = vmap(torch.nn.functional.dropout, randomness="different")(x)
    same_mask = vmap(torch.nn.functional.dropout, randomness="same")(x)
    assert (different != different[0]).any() and (same_mask == same_mask[0]).all()
    assert 0.3 < float((different == 0).float().mean()) < 0.7
    assert 0.0 < float((same_mask == 0).float().mean()) < 1.0
    samples = vmap(lambda p: torch.bernoulli(p), randomness="different")(torch.full((50, 8), 0.5))
    assert (samples != samples[0]).any()
    orders = vmap(lambda a: torch.randperm(9), randomness="different")(torch.zeros(20))
    assert (orders.sort(1)[0] == torch.arange(9)).all() and (orders != orders[0]).any()
    assert not isinstance(torch.rand(2).array, Batched)


# ---- around it -------------------------------------------------------------------------------------------------------

SHOWN = cells(
    """
    V(lambda a: (t.append(str(a)), a)[1])(x) | V(V(lambda a: (t.append(repr(a)), a)[1]))(m)
    V(lambda a: (t.append(str(a.sum())), a)[1], 1)(x)
    """
)


@pytest.mark.parametrize("text", SHOWN)
def test_prints_as_torch(text: str) -> None:
    check(f"({text}, t)[1]", t=lambda T: [], **NAMES)


def close(mine: Any, expected: Any) -> None:
    arrays = [t.detach().cpu().numpy() for t in (mine, expected)]
    np.testing.assert_allclose(*arrays, rtol=1e-9, atol=1e-11)


LAYERS = {
    "mlp": (lambda nn: nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 3)), (4,)),
    "lstm": (lambda nn: nn.LSTM(4, 3, batch_first=True), (5, 4)),
    "gru": (lambda nn: nn.GRU(4, 3, 2, bidirectional=True), (5, 4)),
    "transformer": (lambda nn: nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True), (5, 4)),
    "batch_norm": (lambda nn: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval(), (1, 2, 6, 6)),
    "group_norm": (lambda nn: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.GroupNorm(2, 4)), (1, 2, 6, 6)),
    "transposed": (lambda nn: nn.Sequential(nn.Conv1d(2, 4, 3, 2), nn.PReLU(), nn.ConvTranspose1d(4, 2, 3)), (1, 2, 9)),
    "unbatched": (lambda nn: nn.Sequential(nn.Conv1d(2, 4, 3), nn.MaxPool1d(2)), (2, 9)),
    "layer_norm": (lambda nn: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Softmax(-1)), (3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_layers(name: str) -> None:
    """Per example, for an ensemble, and in sum from outside: all as from a loop over examples and models."""
    make, shape = LAYERS[name]
    model = make(torch.nn).double()
    x = torch.tensor(np.random.default_rng(0).normal(size=(3, *shape)))
    weights = {k: v.detach() for k, v in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(weights: Any, x: Any) -> Any:
        out = functional_call(model, (weights, buffers), (x,))
        return (out[0] if isinstance(out, tuple) else out).sin().sum()

    each_one = [grad(loss)(weights, row) for row in x]
    for key, batched in vmap(grad(loss), (None, 0))(weights, x).items():
        for i in range(3):
            close(batched[i], each_one[i][key])
    models = {k: torch.stack([v, 1.1 * v, v - 0.1]) for k, v in weights.items()}
    second = grad(loss)({k: v[1] for k, v in models.items()}, x[0])
    for key, batched in vmap(grad(loss), (0, None))(models, x[0]).items():
        close(batched[1], second[key])
    leaves = {k: v.clone().requires_grad_() for k, v in weights.items()}
    vmap(lambda row: loss(leaves, row))(x).sum().backward()
    for key, leaf in leaves.items():
        close(leaf.grad, sum(g[key] for g in each_one))


def test_own_functions_in_a_batch() -> None:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return 3 * x * x * g

    x = torch.tensor(np.random.default_rng(1).normal(size=(3, 4)))
    close(vmap(Cube.apply)(x), x**3)
    close(vmap(grad(lambda a: Cube.apply(a).sum()))(x), 3 * x**2)
    close(vmap(torch.func.hessian(lambda a: Cube.apply(a).sum()))(x), (6 * x).diag_embed())


def test_a_failed_vmap_leaves_nothing_behind() -> None:
    with pytest.raises(RuntimeError, match="item"):
        vmap(lambda a: a.item())(torch.ones(2))
    assert torch.rand(2).shape == (2,)
    with pytest.raises(ValueError, match="no inputs"):
        vmap(lambda: 1)()
    assert vmap(torch.sin)(torch.ones(0, 3)).shape == (0, 3)
    assert vmap(lambda a: a @ a)(torch.ones(0, 3, 3)).shape == (0, 3, 3)


def test_threads_do_not_see_each_other() -> None:
    """Each thread has batches of its own; a first vmap of some depth may come from several at once."""

    def work(n: int) -> Any:
        x = torch.ones(n, n + 1)
        plain = torch.ones(2) * 3  # no batch of another thread is under way here
        deep = vmap(vmap(grad(lambda a: (a * n).sin())))(x)
        return plain.shape, deep.shape

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(1, 25)))
    assert found == [((2,), (n, n + 1)) for n in range(1, 25)]


def test_writes_into_the_batch() -> None:
    """A write into an example is one into the batch, and seen by versions and gradients."""
    x = torch.zeros(3, 4)
    vmap(lambda a: a[1:].add_(1))(x)
    assert x.tolist() == [[0, 1, 1, 1]] * 3 and x._version == 1
    w = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    (vmap(lambda a: a.clone()[0].mul_(3) + a[1].clone().mul_(a[1]))(w)).sum().backward()
    assert w.grad.tolist() == [[3.0, 2.0]] * 3


@pytest.mark.parametrize("form", ["linear", "matmul", "conv"])
def test_shared_weights_cost_no_gradient_per_example(form: str) -> None:
    """The gradient of what the examples share is one product: 64 MB of single gradients are never made."""
    F = torch.nn.functional
    functions = {
        "linear": (lambda w, x: F.linear(x, w), (256, 256), (256, 256)),
        "matmul": (lambda w, x: x @ w.t(), (256, 256), (256, 1, 256)),
        "conv": (lambda w, x: F.conv2d(x, w), (128, 64, 3, 3), (220, 1, 64, 3, 3)),
    }
    function, weight_shape, shape = functions[form]
    rng = np.random.default_rng(0)
    w = torch.tensor(rng.normal(size=weight_shape).astype("f4"), requires_grad=True)
    x = torch.tensor(rng.normal(size=shape).astype("f4"))
    loss = vmap(lambda row: function(w, row).sin().sum())(x).sum()
    tracemalloc.start()
    try:
        loss.backward()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    rows = x.reshape(shape[0] if form == "conv" else -1, *shape[1 if form == "linear" else 2 :])
    (expected,) = torch.autograd.grad(function(w, rows).sin().sum(), w)
    np.testing.assert_allclose(w.grad.cpu().numpy(), expected.cpu().numpy(), rtol=1e-3, atol=1e-3)
    assert peak < 30e6
