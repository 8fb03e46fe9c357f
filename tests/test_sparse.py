"""Sparse tensors in coordinate form beside PyTorch's: values, gradients, printing, errors."""

from __future__ import annotations

import numpy as np
import pytest
import tapegrad

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(beta state|create_graph|deprecated|Sparse invariant|Sparse CSR).*:UserWarning"
)

# s: (2, 3), of values that require grad; u: 3 elements, 2 of them at one place; c: u coalesced; d: (3, 2) dense
SETUP = """
i = T.tensor([[0, 1, 1], [2, 0, 2]])
v = T.tensor([3.0, 4.0, 5.0], dtype=T.float64, requires_grad=True)
s = T.sparse_coo_tensor(i, v, (2, 3))
k = T.sparse_coo_tensor([[0, 1], [1, 2]], [7.0, 8.0], (2, 3)).double()
u = T.sparse_coo_tensor(T.tensor([[0, 1, 0], [1, 0, 1]]), T.tensor([1.0, 2.0, 3.0]).double(), (2, 2))
d = (T.arange(6.0, dtype=T.float64).reshape(3, 2) + 0.5).requires_grad_()
e = (T.arange(6.0, dtype=T.float64).reshape(2, 3) + 0.5).requires_grad_()
h = T.sparse_coo_tensor([[1, 0]], [[1.0, 2.0], [3.0, 4.0]], (2, 2))
"""


def names(T):
    scope = {"T": T}
    exec(SETUP, scope)
    return scope


def dense(x):
    return x.to_dense() if x.is_sparse else x


RESULTS = """
s.to_dense() | T.sparse.mm(s, d) | T.spmm(s, d) | s @ d | T.mm(s, d) | s.mm(d) | T.matmul(s, d) | s @ d[:, 0]
T.mv(s, d[:, 0]) | d.t() @ s.t() | s * 2 | s + s | s * s | s - s | s / 2 | -s | s.sum() | T.sparse.sum(s) | 2 * s
T.sparse.sum(s, dim=1) | T.sparse.sum(s, 0) | s.t() | s.transpose(0, 1) | s.T | s.coalesce() | s.coalesce().values()
s + k | s * k | k * s | s - k | s * e | e + s | e - s | s.relu() | s.abs() | s.pow(2) | s**2
T.sparse.softmax(s, dim=1) | T.sparse.log_softmax(s, dim=1) | T.sparse.addmm(T.ones(2, 2).double(), s, d)
T.addmm(T.ones(2, 2).double(), s, d) | T.addmm(T.ones(2, 2).double(), s, d, beta=2, alpha=3) | s @ s.t()
T.sparse.mm(s, s.t()) | s.float() | s.to(T.float32) | s.clone() | e.to_sparse() | e.sparse_mask(k.coalesce())
e.to_sparse(1) | s.to_dense().to_sparse()
"""


@pytest.mark.parametrize("text", [t.strip() for line in RESULTS.strip().splitlines() for t in line.split(" | ")])
def test_values_and_gradients(text):
    found = []
    for T in (tapegrad, torch):
        scope = names(T)
        out = eval(text, scope)
        full = dense(out)
        weights = T.arange(1.0, full.numel() + 1, dtype=T.float64).reshape(full.shape)
        (full * weights).sum().backward()
        found.append((out, full, [scope[n].grad for n in "vde"]))
    (mine, a, grads), (theirs, b, their_grads) = found
    assert mine.is_sparse == theirs.is_sparse and str(mine.dtype) == str(theirs.dtype)
    assert tuple(mine.shape) == tuple(theirs.shape) and mine.requires_grad == theirs.requires_grad
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12)
    for g, their_g in zip(grads, their_grads, strict=True):
        assert (g is None) == (their_g is None)
        if g is not None:
            np.testing.assert_allclose(dense(g).numpy(), dense(their_g).numpy(), rtol=1e-6)


FACTS = """
s.shape | s.size(1) | s.dim() | s.numel() | s.sparse_dim() | s.dense_dim() | s._nnz() | s.is_coalesced() | len(s)
u.coalesce().is_coalesced() | u.coalesce().indices().tolist() | u.coalesce().values().tolist() | s.layout | s.is_sparse
s.dtype | s.device | s.requires_grad | T.is_tensor(s) | isinstance(s, T.Tensor) | s.type() | u.type() | u.is_leaf
isinstance(k.float(), T.sparse.FloatTensor) | s.detach().requires_grad | h.dense_dim() | h._nnz() | u.any().item()
T.sparse.FloatTensor(i, T.ones(3), T.Size([2, 3])).to_dense().tolist() | T.sparse.FloatTensor(2, 3).to_dense().tolist()
T.sparse.spdiags(T.ones(2, 3), T.tensor([0, 1]), (3, 3)).to_dense().tolist() | T.sparse_coo_tensor((2, 3)).shape
T.sparse_coo_tensor(i, [1, 2, 3]).dtype | T.sparse_coo_tensor(i, [1.0, 2.0, 3.0], dtype=T.float64).dtype
T.sparse_coo_tensor(i, v).shape | e.is_sparse | e.to_sparse().is_coalesced() | T.eye(3).to_sparse().indices().tolist()
T.sparse_coo_tensor(i, T.ones(3), (2, 3), requires_grad=True).requires_grad | s.is_floating_point()
T.cat([s, k], 1).to_dense().tolist() | T.cat((s, s)).shape | T.zeros_like(s).to_dense().tolist()
repr(u) | repr(u.coalesce()) | repr(k.float()) | repr(h) | repr(T.sparse_coo_tensor((2, 3))) | repr(u.long())
"""


@pytest.mark.parametrize("text", [t.strip() for line in FACTS.strip().splitlines() for t in line.split(" | ")])
def test_facts(text):
    mine, theirs = eval(text, names(tapegrad)), eval(text, names(torch))
    assert str(mine) == str(theirs)


ERRORS = """
s.indices() | s.values() | s.numpy() | s + e | s.exp() | T.sparse_coo_tensor(i, v[:2], (2, 3)) | s == s
T.sparse_coo_tensor(i, v, (2, 3, 4)) | s @ T.ones(2, 2) | T.ones(2).to_sparse(2) | s + T.eye(2).to_sparse() | s.view(6)
"""


@pytest.mark.parametrize("text", [t.strip() for line in ERRORS.strip().splitlines() for t in line.split(" | ")])
def test_errors(text):
    with pytest.raises(Exception) as theirs:
        eval(text, names(torch))
    with pytest.raises(theirs.type) as mine:
        eval(text, names(tapegrad))
    if theirs.type is RuntimeError and "addmm" not in str(theirs.value):
        assert str(mine.value)[:25] == str(theirs.value)[:25]


def test_places_are_checked():
    with pytest.raises(RuntimeError, match="found index 3"):
        tapegrad.sparse_coo_tensor([[0, 3]], [1.0, 2.0], (2,))
    with pytest.raises(RuntimeError, match="negative index"):
        tapegrad.sparse_coo_tensor([[0, -1]], [1.0, 2.0], (2,))


def test_functions_without_a_sparse_form_name_the_remedy():
    s = tapegrad.eye(2).to_sparse()
    for call in (lambda: tapegrad.exp(s), lambda: tapegrad.softmax(s, 0), s.cumsum):
        with pytest.raises((NotImplementedError, TypeError), match="to_dense|cumsum"):
            call()


@pytest.mark.parametrize("reduce", ["sum", "mean", "amax", "amin"])
def test_products_reduced_otherwise(reduce):
    """PyTorch has these for its row-compressed form."""
    found = []
    for T in (tapegrad, torch):
        s = T.sparse_coo_tensor([[0, 0, 2], [1, 2, 0]], [3.0, -4.0, 5.0], (3, 3)).coalesce()
        d = T.arange(6.0).reshape(3, 2) - 2.5
        found.append(T.sparse.mm(s if T is tapegrad else s.to_sparse_csr(), d, reduce).tolist())
    assert found[0] == found[1]
    with pytest.raises(RuntimeError, match="reduce argument"):
        tapegrad.sparse.mm(tapegrad.eye(2).to_sparse(), tapegrad.eye(2), "median")


def test_sampled_addmm():
    found = []
    for T in (tapegrad, torch):
        s = T.sparse_coo_tensor([[0, 1, 1], [2, 0, 2]], [3.0, 4.0, 5.0], (2, 3)).coalesce()
        a, b = T.arange(4.0).reshape(2, 2), T.arange(6.0).reshape(2, 3)
        s = s if T is tapegrad else s.to_sparse_csr()
        found.append(T.sparse.sampled_addmm(s, a, b, beta=0.5, alpha=2.0).to_dense().tolist())
    assert found[0] == found[1]


def test_second_order():
    v = tapegrad.tensor([1.0, 2.0], dtype=tapegrad.float64, requires_grad=True)
    d = tapegrad.ones(2, 2, dtype=tapegrad.float64, requires_grad=True)

    def f(v, d):
        return (tapegrad.sparse_coo_tensor([[0, 1], [1, 0]], v, (2, 2)) @ d).pow(3)

    assert tapegrad.autograd.gradcheck(f, (v, d)) and tapegrad.autograd.gradgradcheck(f, (v, d))


def test_graph_convolution_trains():
    """Kipf and Welling's layer: A (X W) with a sparse A; the same steps as with a dense one."""
    losses = []
    for form in (lambda a: a, lambda a: a.to_sparse()):
        tapegrad.manual_seed(0)
        adjacency = tapegrad.rand(5, 5).gt(0.5).float() / 3
        x, w = tapegrad.randn(5, 4), tapegrad.randn(4, 2, requires_grad=True)
        for _ in range(3):
            loss = tapegrad.spmm(form(adjacency), x @ w).pow(2).sum()
            (g,) = tapegrad.autograd.grad(loss, w)
            w = (w - 0.01 * g).detach().requires_grad_()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_saved_and_loaded():
    import io

    s = tapegrad.sparse_coo_tensor([[0, 1], [1, 0]], [1.0, 2.0], (2, 2)).coalesce()
    file = io.BytesIO()
    tapegrad.save({"s": s}, file)
    file.seek(0)
    back = tapegrad.load(file)["s"]
    assert back.is_coalesced() and back.to_dense().tolist() == [[0, 1], [2, 0]]
    file.seek(0)
    assert torch.load(file)["s"].to_dense().tolist() == [[0, 1], [2, 0]]


# ---- gradients of look-ups ------------------------------------------------------------------------------------------

# p: (4, 2), a leaf; y: its rows 1, 2, 2, 0; each program ends with p.grad
LOOK_UPS = """
y.sum().backward()
y.sum().backward(); read(i).sum().backward()
y.sum().backward(); p.sum().backward()
p.sum().backward(); y.sum().backward()
(y.sum() + p.pow(2).sum()).backward()
(y.sum() + p[0].sum()).backward()
(y.sum() + 2 * read(i[0]).sum()).backward()
y.pow(2).sum().backward(retain_graph=True); y.sum().backward()
p.register_hook(lambda g: g * 2); y.sum().backward()
p.register_hook(lambda g: g.to_dense()); y.sum().backward(); read(i).sum().backward()
y.sum().backward(); p.register_hook(lambda g: g.to_dense()); read(i).sum().backward()
p.grad = p.detach().pow(2).requires_grad_(); y.sum().backward()
y.sum().backward(); p.pow(2).sum().backward(create_graph=True)
p.grad, = T.autograd.grad(y.sum(), p)
read(i[:0]).sum().backward()
read(i[0, :1]).sum().backward()
read(i.int(), padding_idx=2).sum().backward()
read(i, max_norm=1.0).sum().backward()
y.backward(y.detach())
read(i).double().sum().backward()
F.embedding_bag(i, p, sparse=True).pow(2).sum().backward()
F.embedding_bag(i, p, sparse=True, mode="sum", per_sample_weights=i + 0.5).sum().backward()
F.embedding_bag(i.reshape(-1), p, i[0] - 1, sparse=True, mode="sum", padding_idx=2).sum().backward()
F.embedding_bag(i, p, sparse=True, mode="max").sum().backward()
read(i, scale_grad_by_freq=True).sum().backward()
y.sum().backward(); y.sum().backward()
w = T.ones(4, 2); w.requires_grad_(); T.embedding(w, i, 0, False, True).sum().backward(); p.grad = w.grad
m = T.nn.Embedding(4, 2, 0, sparse=True, _weight=p); m(i).sum().backward(); p.grad = m.weight.grad
m = T.nn.EmbeddingBag(4, 2, sparse=True, _weight=p); m(i).sum().backward(); p.grad = m.weight.grad
with T.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t): read(i).sum().backward()
y.sum().backward(); T.optim.SGD([p]).zero_grad(set_to_none=False)
"""


def looked_up(T, program):
    """(the gradient as lists: values or places and values, whether it is coalesced), or the exception."""
    p = (T.arange(8.0).reshape(4, 2) + 1).requires_grad_()
    i, F = T.tensor([[1, 2], [2, 0]]), T.nn.functional

    def read(index, **options):
        return F.embedding(index, p, sparse=True, **options)

    try:
        exec(program, {"T": T, "F": F, "p": p, "i": i, "read": read, "y": read(i)})
    except (RuntimeError, ValueError) as error:
        return type(error).__name__, str(error)[:40]
    g = p.grad
    if not g.is_sparse:
        return g.tolist()
    return g._indices().tolist(), g._values().tolist(), tuple(g.shape), str(g.dtype), g.is_coalesced()


@pytest.mark.parametrize("program", LOOK_UPS.strip().splitlines())
def test_sparse_gradients_of_look_ups(program):
    assert looked_up(tapegrad, program) == looked_up(torch, program)


def test_sums_in_place_keep_the_gradient_tensor():
    for T in (tapegrad, torch):
        p, i = T.ones(4, 2, requires_grad=True), T.tensor([1, 3])
        for dense in (True, False):
            p.grad = T.ones(4, 2) if dense else None
            T.nn.functional.embedding(i, p, sparse=True).sum().backward()
            before = p.grad
            T.nn.functional.embedding(i, p, sparse=True).sum().backward()
            assert p.grad is before and before.is_sparse is not dense


def test_the_dense_gradient_where_the_weight_is_computed_or_the_next_order_wanted():
    i, F = tapegrad.tensor([[1, 2], [2, 0]]), tapegrad.nn.functional
    w = tapegrad.rand(4, 2, dtype=tapegrad.float64, requires_grad=True)
    second = []
    for sparse in (True, False):
        (g,) = tapegrad.autograd.grad(F.embedding(i, w, sparse=sparse).pow(3).sum(), w, create_graph=True)
        second.append(tapegrad.autograd.grad(g.pow(2).sum(), w)[0].to_dense().tolist())
    assert second[0] == second[1]
    F.embedding(i, w * 2, sparse=True).sum().backward()
    assert not w.grad.is_sparse and w.grad.tolist() == [[2, 2], [2, 2], [4, 4], [0, 0]]


OPTIMIZERS = [
    ("SparseAdam", {"lr": 0.1}), ("SGD", {"lr": 0.5}), ("SGD", {"lr": 0.5, "momentum": 0.9}), ("Adagrad", {"lr": 0.5}),
]  # fmt: skip


@pytest.mark.parametrize("layer", ["Embedding", "EmbeddingBag"])
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
def test_optimizers_train_what_is_looked_up(layer, name, options):
    """Word vectors beside PyTorch's; rows that were never read stay as they were."""
    tables = []
    for T in (tapegrad, torch):
        start = T.arange(12.0, dtype=T.float64).reshape(6, 2) / 10
        m = getattr(T.nn, layer)(6, 2, sparse=True, _weight=start.clone())
        optimizer = getattr(T.optim, name)(m.parameters(), **options)
        for step in range(5):
            optimizer.zero_grad()
            for words in ([[0, 1, 1]], [[step % 3, 3, 0]]):  # two backwards, one step
                m(T.tensor(words)).pow(2).sum().backward()
            assert m.weight.grad.is_sparse
            optimizer.step()
        assert m.weight[4:].tolist() == start[4:].tolist()
        tables.append(m.weight.tolist())
    np.testing.assert_allclose(*tables, rtol=1e-12)
