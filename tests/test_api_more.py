"""Functions of torch.* and Tensor outside the large families, beside PyTorch."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import tapegrad
from both import Programs, cells, check

program = Programs()

# x: (2, 3) float32, v: (8,) float64 with gradient, o: (3,) int64
TABLE = """
T.alias_copy(x) | T.as_strided_copy(x, (2, 2), (1, 2), 1) | T.detach_copy(v) | T.diagonal_copy(x, 1) | T.t_copy(x)
T.diagonal_copy(x, 0, 1, 1) | T.expand_copy(x, (2, 2, 3)) | T.expand_copy(x, (2, 2)) | T.narrow_copy(x, 1, 1, 2)
x.narrow_copy(0, 1, 1) | T.narrow_copy(x, 2, 0, 0) | T.narrow_copy(x, 0, 0, -1) | T.permute_copy(x, (1, 0))
T.select_copy(x, 1, 2) | T.slice_copy(x, 1, 0, -1) | T.slice_copy(x, 1, step=2) | T.slice_copy(x, 1, 0, 1, 0)
T.squeeze_copy(x[:1]) | T.squeeze_copy(x[:1], 0) | T.transpose_copy(x, 0, 1) | T.transpose_copy(x, 0, 5)
T.unfold_copy(x, 1, 2, 1) | T.unsqueeze_copy(x, -1) | T.view_copy(x, (3, 2)) | T.view_copy(x, T.int32)
T.view_copy(x.t(), (6,)) | T.view_copy(x, (5,)) | T.view_as_real_copy(x + 1j) | T.view_as_complex_copy(x[:, :2])
T.split_copy(x, 2, 1) | T.split_with_sizes_copy(x, (1, 2), 1) | T.unbind_copy(x, 1) | T.unbind_copy(x[0, 0])
T.unbind_copy(x, out=[T.empty(3), T.empty(3)]) | T.t_copy(x, out=T.empty(3, 2)) | T.t_copy(1)
x.t_copy(x) | T.slice_scatter(x, T.ones(2, 2), 1, 0, 2)

T.as_strided_scatter(x, T.ones(2, 2), (2, 2), (1, 2)) | T.as_strided_scatter(x, T.ones(2, 2), (2, 2), (1, 2), 2)
T.as_strided_scatter(x, T.ones(2, 2), (2, 2), (100, 2)) | T.as_strided_scatter(x, T.ones(2), (2, 2), (1, 2))
T.constant_pad_nd(x, (1,)) | T.constant_pad_nd(x, (1, 1, 1, 1, 1, 1)) | T.constant_pad_nd(x, (-2, -2))
T.constant_pad_nd(x, (-2, 2, 1, 0), 3) | T.constant_pad_nd(x.int(), (-2, 2, 1, 0), 3.5) | T.constant_pad_nd(x, (-4, 1))
x.sum_to_size(2, 2) | x.sum_to_size(1, 2, 3) | x.sum_to_size() | x.sum_to_size(3) | x.sum_to_size((2, 1))
x.byte().sum_to_size(2, 1) | x.byte().sum_to_size(2, 3) | v.sum_to_size(1)
T.fill(x, T.ones(2)) | T.fill(x, 2j) | T.fill(x, 2) | T.fill(v, 2) | T.fill_(x.clone(), 3) | T.zero_(x.clone())
T.detach_(v * 1)
T.isin(x, 3.0) | T.isin(3.0, x) | T.isin(2, 2) | T.isin(x.bool(), x.bool()) | T.isin(x + 0j, x)
T.isin(x, T.tensor([1, 2, 2]), assume_unique=True, invert=True) | T.isin(x * nan, T.tensor([nan, 2]))
T.isin(x, x[:0]) | T.isin(T.tensor([1, 2]), T.tensor([2.5, 2.0]))
T.range(1, 4) | T.range(1, 4.5, 0.5) | T.range(4, 1) | T.range(1, 4, dtype=T.float64) | T.range(1, 4, 0) | T.range(4)
T.nonzero_static(x, size=3, fill_value=-2) | x.nonzero_static(size=7) | T.nonzero_static(x, size=-1)
T.hash_tensor(x) | T.hash_tensor(x, 1) | T.hash_tensor(x.to(T.int8), 1) | T.hash_tensor(x.half(), 1)
T.hash_tensor(T.zeros(0, 3), 0) | T.hash_tensor(T.zeros(0, 3), 1) | T.hash_tensor(x, mode=1) | T.hash_tensor(x.bool())
T.hash_tensor(x + 0j) | x.hash_tensor(0, keepdim=True)

T.segment_reduce(x, "sum", lengths=T.tensor([1, 1])) | T.segment_reduce(x, "max", lengths=T.tensor([0, 2]))
T.segment_reduce(x, "sum", lengths=T.tensor([[1, 2], [1, 2]]), axis=1) | T.segment_reduce(x, "sum")
T.segment_reduce(x, "sum", lengths=T.tensor([[1, 2], [1, 2]]), axis=1, initial=3)
T.segment_reduce(x, "sum", lengths=T.tensor([1, 2])) | T.segment_reduce(x, "mean", lengths=T.tensor([0, 2]))
T.segment_reduce(x, "mean", lengths=T.tensor([0, 2]), initial=4) | T.segment_reduce(x, "what", lengths=o)
T.segment_reduce(x, "mean", offsets=T.tensor([0, 0, 2])) | T.segment_reduce(x, "sum", lengths=T.tensor([1.0, 1]))
T.segment_reduce(x, "sum", lengths=T.tensor([-1, 3])) | T.segment_reduce(x, "sum", lengths=T.tensor([1, 1]), axis=1)
T.segment_reduce(x, "sum", lengths=T.tensor([1, 1]), axis=-1) | T.segment_reduce(x.long(), "sum", lengths=o[:2])
T.segment_reduce(x, "sum", indices=o)
T.histogramdd(x, 3) | T.histogramdd(x, [3, 2, 2], range=[0, 1, 0, 1.0, 3, 4]) | T.histogramdd(x, [3, 0, 2])
T.histogramdd(x, [3, 2, 2], range=[0, 1, 2.0, 1.0, 0, 1]) | T.histogramdd(x, [3, 2, 1], range=[0, 1])
T.histogramdd(x[0], [3]) | T.histogramdd(x, [3, 2, 2], weight=T.ones(3)) | T.histogramdd(x.long(), 3)
T.histogramdd(x, [3, 2, 2], weight=T.ones(2), density=True) | T.histogramdd(x, [3, 2])
T.histogramdd(x, [T.tensor([0, 1.0, 3]), T.tensor([0, 1.0]), T.tensor([0, 1.0, 7])])
T.histogramdd(x, [T.tensor([0, 1.0]), T.tensor([[0, 1.0]]), T.tensor([0, 1.0])])
T.histogramdd(x, [T.tensor([0, 1.0]), T.tensor([0, 1.0]).double(), T.tensor([0, 1.0])])
T.tensor_split(x, indices=(1, 2), dim=1) | T.tensor_split(x, sections=2, dim=1)
T.hsplit(x, indices=(1,)) | T.hsplit(x, "a")
x.unsafe_chunk(2, 1) | x.unsafe_split(2, 1) | x.unsafe_split_with_sizes((1, 2), 1) | T.unsafe_split(x * 1, 2)[0].mul_(2)

T.zeros(3, out=o) | T.zeros(3, out=o, dtype=T.float32) | T.full((3,), 2.5, out=o) | T.linspace(0, 5, 3, out=o)
T.eye(3, out=o) | T.rand(3, out=T.zeros(3).double()) | T.randperm(3, out=T.zeros(3)) | T.arange(3, out=T.zeros(3))
T.randint(3, (3,), out=T.zeros(3).double()) | T.arange(3, out=T.zeros(3), dtype=T.int64) | T.arange(0, 6, 0.5, out=o)
T.arange(0, -8.000001, -4.0, dtype=T.int32) | T.arange(0, 5.5, 2, dtype=T.int32)
T.arange(0.5, 5.7, 1.3, dtype=T.int64)
T.linspace(4.3, -3, 50, dtype=T.int64) | T.logspace(0, -3, 2, dtype=T.int64) | T.logspace(0, 3.7, 50, dtype=T.int64)
T.logspace(0, 3.7, 5, base=2.5, dtype=T.int64) | T.linspace(300, 3, 8, dtype=T.uint8) | T.linspace(3, 3, 1)
T.gather(x, 1, T.zeros(2, 0, dtype=T.uint8)) | T.gather(x, 1, o[None], out=T.zeros(1, 3).double())
T.take(x, o, out=x[0]) | T.masked_select(x[0], x[0] > 0, out=x[0]) | x.narrow(1, T.tensor([0, 1]), 1)
T.tensor([1, 2]).masked_fill(T.tensor(True), T.tensor(1j)) | x.__rdiv__(2.0) | T.searchsorted(x[:0, :0], x[:0, :0])
"""

MEMORY = """
T.empty_strided((2, 3), (1, 2)).stride() | T.empty_strided((2, 3), (1,)) | T.empty_strided((2, 3), (-1, 2))
T.empty_permuted((1, 3, 5), (2, 0, 1)).stride() | T.empty_permuted((2,), (0, 1)) | T.empty_permuted((2,), (3,))
T.empty_permuted((2, 3), (0, 0)) | T.zeros(5).new_empty_strided((2, 2, 2), (20, 10, 5)).untyped_storage().nbytes()
x.untyped_storage().nbytes() | x[1].untyped_storage().data_ptr() == x.data_ptr() | x[1].storage().size()
x.storage().tolist() | x.untyped_storage().tolist() | x.untyped_storage()[4] | len(x.untyped_storage()) | x.storage()[2]
x.untyped_storage() == x[0].untyped_storage() | T.is_storage(x) | T.is_storage(x.storage()) | len(T.UntypedStorage(3))
repr(x[:1, :1].clone().storage()).partition("device")[0] | x.clone().resize_(3, 2) | x.clone().resize_(2, 2)
x.clone()[1].resize_(2)
x.clone().resize_(8).shape | v.resize_(3) | x.clone().resize_as_(T.zeros(3, 2)) | x.clone().resize_as_(T.zeros(2))
T.zeros(2, 3, 4, 5).resize_(2, 3, 4, 5, memory_format=T.channels_last).stride() | x.dim_order() | x.t().dim_order()
T.zeros(2, 3).expand(4, 2, 3).dim_order() | T.zeros(1, 1).dim_order(ambiguity_check=True) | T.zeros(0).set_(x)
T.zeros(0).set_(x.untyped_storage()) | T.zeros(0).set_(x.storage(), 1, (2, 2), (1, 2)) | x.clone().set_()
T.zeros(0).set_(x.untyped_storage(), 1, (2, 2)) | T.zeros(0, dtype=T.int32).set_(x) | x.is_shared()
x.clone().map_(x + 1, lambda a, b: a * b) | x.clone().map_(x[0], lambda a, b: a - b) | v.map_(v, lambda a, b: a)
x.clone().as_strided_((2, 2), (1, 2), 1) | x[1].as_strided((2, 2), (1, 2), 0) | x[1].detach().as_strided((2,), (2,), 1)
x.as_strided((2, 2), (1, 2), 3).storage_offset() | x.module_load(x + 1) | x.to_dense() is x | x.is_sparse_csr
"""

# Names beside nn.functional's with arguments of their own. a: (4, 6), y: (4, 6), s: signs, w: (5, 6)
TOPLEVEL = """
T.binary_cross_entropy_with_logits(a, y) | T.binary_cross_entropy_with_logits(a, y, None, None, 2)
T.cosine_embedding_loss(a, y, s[:, 0]) | T.cosine_embedding_loss(a, y, s[:, 0], 0.1, 1)
T.hinge_embedding_loss(a, s) | T.hinge_embedding_loss(a, s, 0.5, 2)
T.kl_div(a, y) | T.kl_div(a, y, 1, log_target=True) | T.margin_ranking_loss(a, y, s, 0.2, 2)
T.poisson_nll_loss(a, y, True, False, 1e-8, 1) | T.triplet_margin_loss(a, y, s)
T.triplet_margin_loss(a, y, s, 2.0, 1.0, 1e-6, True, 0)
T.ctc_loss(a.reshape(4, 1, 6).log_softmax(-1), T.tensor([[1, 2]]), T.tensor([4]), T.tensor([2]), 0, 2)
T.dropout(a, 0.5, True) | T.alpha_dropout(a, 0.5, True) | T.feature_dropout(a, 0.5, True) | T.dropout(a, 1.5, True)
T.feature_alpha_dropout(a, 0.5, True) | T.dropout_(a.clone(), 0.5, True) | T.feature_dropout_(a.clone(), 0.5, True)
T.alpha_dropout_(a.clone(), 0.3, True) | T.dropout(a, 0.5, False) | T.feature_dropout(a[0], 0.5, True)
T.embedding(w, T.tensor([1, 2])) | T.embedding_renorm_(w.clone(), T.tensor([1, 2]), 1.0, 2.0)
T.batch_norm(a, None, None, None, None, True, 0.1, 1e-5, False) | T.layer_norm(a, (6,)) | T.adaptive_max_pool1d(a, 2)
T.instance_norm(a.reshape(2, 2, 6), None, None, None, None, True, 0.1, 1e-5, False) | T.max_pool1d_with_indices(a, 2)
T.native_channel_shuffle(a.reshape(1, 4, 6, 1), 2) | T.norm_except_dim(w) | T.norm_except_dim(w, 2, 1)
T.norm_except_dim(w, 1, -1) | T.threshold_(a.clone(), 0.1, 3.0)
T.lstm(b, (h, c), p, True, 1, 0.0, False, False, False)
T.lstm(b.transpose(0, 1), (h, c), p, True, 1, 0.0, False, False, True)
T.gru(b, h, g, True, 1, 0.0, False, False, False)
T.rnn_tanh(b, h, r, True, 1, 0.0, False, False, False) | T.rnn_relu(b, h, r[:2], False, 1, 0.0, False, False, False)
T.lstm(a, T.tensor([2, 1, 1]), (h[:, :2] * 1, c[:, :2] * 1), p, True, 1, 0.0, False, False)
T.lstm_cell(a, (h[0], c[0]), *p) | T.gru_cell(a, h[0], *g) | T.rnn_tanh_cell(a, h[0], *r) | T.rnn_relu_cell(a, h[0], *r)
"""

SETTINGS = """
T.set_float32_matmul_precision("what") | T.set_float32_matmul_precision(1) | T.set_num_threads(0)
T.set_num_threads(1.5) | T.set_num_threads(1), T.get_num_threads() | T.use_deterministic_algorithms(1)
T.set_deterministic_debug_mode("what") | T.set_deterministic_debug_mode(5) | T.set_deterministic_debug_mode(1.5)
T.use_deterministic_algorithms(True, warn_only=True), T.get_deterministic_debug_mode()
T.are_deterministic_algorithms_enabled(), T.is_deterministic_algorithms_warn_only_enabled()
T.set_deterministic_debug_mode("default"), T.get_deterministic_debug_mode() | T.set_warn_always(1)
T.sym_int(2.7) | T.sym_int(-2.7) | T.sym_float(2) | T.sym_max(1, 2.5) | T.sym_min(1, 2.5) | T.sym_not(True)
T.sym_sqrt(4) | T.sym_sum([1, 2]) | T.sym_ite(True, 1, 2) | T.sym_max(2, 2.0) | T.compiled_with_cxx11_abi()
T.is_distributed(x) | T.is_vulkan_available() | T.get_float32_matmul_precision()
T.cond(x.sum() > 2, lambda t: t + 1, lambda t: t - 1, (x,))
"""


def _matrix(T: Any, rows: int, columns: int) -> Any:
    return T.sin(T.arange(float(rows * columns), dtype=T.float64)).reshape(rows, columns)


def _weights(gates: int) -> Any:
    def make(T: Any) -> list[Any]:
        biases = T.arange(6.0 * gates, dtype=T.float64).div(9).chunk(2)
        return [_matrix(T, 3 * gates, 6), _matrix(T, 3 * gates, 3), *biases]

    return make


NAMES: dict[str, Any] = {
    "x": lambda T: T.arange(6.0).reshape(2, 3),
    "v": lambda T: T.tensor([1.0, 3, 3, 2, 2, 0, 2, 5], dtype=T.float64, requires_grad=True),
    "o": lambda T: T.zeros(3, dtype=T.int64),
    "a": lambda T: T.arange(24.0, dtype=T.float64).reshape(4, 6) / 10 - 1,
    "y": lambda T: T.ones(4, 6, dtype=T.float64),
    "s": lambda T: T.sign(T.arange(24.0, dtype=T.float64).reshape(4, 6) / 10 - 0.95),
    "w": lambda T: T.arange(30.0, dtype=T.float64).reshape(5, 6) / 9,
    "b": lambda T: T.arange(24.0, dtype=T.float64).reshape(1, 4, 6) / 10 - 1,
    "h": lambda T: T.zeros(1, 4, 3, dtype=T.float64),
    "c": lambda T: T.ones(1, 4, 3, dtype=T.float64),
    "p": _weights(4),
    "g": _weights(3),
    "r": _weights(1),
}


@pytest.mark.parametrize("text", cells(TABLE) + cells(MEMORY) + cells(SETTINGS))
def test_as_torch(text: str) -> None:
    """One expression on both libraries."""
    tapegrad.manual_seed(3)
    pytest.importorskip("torch").manual_seed(3)
    check(text, length=30, **{n: NAMES[n] for n in "xvo"})


@pytest.mark.parametrize("text", cells(TOPLEVEL))
def test_torch_forms(text: str) -> None:
    """Functions whose arguments differ from nn.functional's."""
    tapegrad.manual_seed(3)
    pytest.importorskip("torch").manual_seed(3)
    check(text, rtol=1e-9, length=20, **{n: NAMES[n] for n in "ayswbhcpgr"})


@program
def segments(T: Any) -> Any:
    """Reductions of segments with their gradients."""
    v, results = NAMES["v"](T), []
    for reduce in ("max", "min", "sum", "mean", "prod"):
        for initial in (None, 3.0):
            y = T.segment_reduce(v, reduce, lengths=T.tensor([3, 0, 1, 4]), initial=initial)
            weights = T.tensor([1.0, 2.0, 3.0, 4.0], dtype=T.float64)
            results += [y, *T.autograd.grad(y, v, weights)]
    return results


@program
def copies(T: Any) -> Any:
    """Gradients of copies of views, and that they are copies."""
    results: list[Any] = []
    for copy in (
        lambda t: T.diagonal_copy(t, 1), lambda t: T.unfold_copy(t, 1, 2, 1), lambda t: T.split_copy(t, 2, 1)[1],
        lambda t: T.as_strided_copy(t, (2, 2), (1, 2), 1), lambda t: T.expand_copy(t, (2, 2, 3)),
    ):  # fmt: skip
        x = T.arange(6.0).reshape(2, 3).requires_grad_()
        y = copy(x)
        results += [y, y.data_ptr() != x.data_ptr(), *T.autograd.grad((y * y).sum(), x)]
    return results


@program
def strided(T: Any) -> Any:
    """Both orders of as_strided's gradient where the view begins before its tensor and reaches beyond it."""
    storage = T.arange(12.0, dtype=T.float64)
    x = storage[4:8].reshape(2, 2).detach().requires_grad_()
    y = x.as_strided((3, 2), (3, 1), 2)
    (g,) = T.autograd.grad((y**3).sum(), x, create_graph=True)
    return y, g, T.autograd.grad(g.sum(), x)


@program
def samples(T: Any) -> Any:
    """Random numbers in PyTorch's order; zeros flow back through them."""
    T.manual_seed(5)
    n, p = T.arange(0.0, 200, 7), T.linspace(0, 1, 29)
    drawn = [T.binomial(n, p), T.binomial(n, T.tensor(0.37)), T.binomial(n.double(), p.double()), T.rand(3)]
    drawn += [T.poisson(T.arange(0.0, 90, 3)), T.poisson(T.arange(0.0, 90, 3).double()), T.rand(2)]
    x = T.tensor([0.2, 0.7], requires_grad=True)
    for y in (T.bernoulli(x), T.poisson(x), T.normal(x, 1.0)):
        drawn += [y.detach(), *T.autograd.grad(y.sum(), x)]
    return drawn


@program
def storages(T: Any) -> Any:
    """Writes through a storage are seen by every tensor over it; a write through as_strided counts as one."""
    x = T.zeros(2, 2)
    x.storage()[3] = 5.0
    x.untyped_storage()[7] = 64
    before = x._version
    x.as_strided((2,), (3,)).fill_(2.0)
    return x, x._version - before


@pytest.mark.parametrize("name", list(program))
def test_program(name: str) -> None:
    program.check(name, rtol=1e-6 if name == "samples" else 1e-12)


def test_signatures() -> None:
    """PyTorch's parameter names."""
    expected = {
        "as_strided_copy": "input size stride storage_offset", "diagonal_copy": "input offset dim1 dim2",
        "segment_reduce": "data reduce lengths indices offsets axis unsafe initial", "fill": "input value",
        "isin": "elements test_elements assume_unique invert", "split_copy": "input split_size dim out",
        "histogramdd": "input bins range weight density", "binomial": "count prob generator",
        "lstm_cell": "input hx w_ih w_hh b_ih b_hh", "dropout_": "input p train", "unsafe_chunk": "input chunks dim",
        "as_strided_scatter": "input src size stride storage_offset", "embedding": "weight indices padding_idx "
        "scale_grad_by_freq sparse", "empty_permuted": "size physical_layout dtype layout device requires_grad "
        "pin_memory", "constant_pad_nd": "input pad value",
    }  # fmt: skip
    for name, parameters in expected.items():
        assert list(inspect.signature(getattr(tapegrad, name)).parameters) == parameters.split(), name


def test_get_device() -> None:
    """-1 on the CPU, else the number of the device."""
    x = tapegrad.zeros(1)
    assert tapegrad.get_device(x) == x.get_device() == (-1 if x.device.type == "cpu" else x.device.index)


def test_refused() -> None:
    """complex32 is told to be unavailable, and its substitute named."""
    with pytest.raises(RuntimeError, match="cfloat"):
        tapegrad.ones(2).chalf()


def test_resized_memory_is_that_of_before() -> None:
    """A tensor that becomes smaller and larger again keeps its memory and its elements."""
    x = tapegrad.arange(6.0)
    start = x.data_ptr()
    assert x.resize_(2).data_ptr() == start and x.resize_(2, 3).data_ptr() == start
    np.testing.assert_array_equal(x.cpu().numpy(), [[0, 1, 2], [3, 4, 5]])
    grown = tapegrad.arange(3.0).resize_(5)
    np.testing.assert_array_equal(grown.cpu().numpy()[:3], [0, 1, 2])
