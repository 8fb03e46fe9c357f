"""The names that 82 public PyTorch programs use: each is called here as they call it, beside PyTorch.

Every cell is an expression of `T`, the library, and of the tensors below; its value must be PyTorch's. The tables
follow the kinds of names: methods, attributes, forms of index, functions, layers, and the rest of the library.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import tapegrad
from both import Raised, run, same

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")

SETUP = """
nn, F = T.nn, T.nn.functional
T.manual_seed(0)
x = T.arange(1.0, 7.0).reshape(2, 3)                      # what most expressions are about
y = (T.arange(6.0).reshape(2, 3) - 2.5)
r = T.arange(1.0, 7.0).reshape(2, 3).requires_grad_()
c = T.arange(24.0).reshape(2, 3, 4) * 0.1 + 0.1           # (batch, length, features)
im = T.arange(96.0).reshape(1, 2, 8, 6) * 0.1             # an image
i = T.tensor([[0, 2, 1], [1, 0, 2]])
k = T.tensor([1, 0])
b = T.tensor([[True, False, True], [False, True, True]])
v = T.tensor([3.0, 1.0, 2.0])
sq = T.tensor([[4.0, 1.0], [2.0, 3.0]])
q = T.arange(16.0).reshape(4, 4)
w = T.arange(256.0).reshape(4, 4, 4, 4)
"""

METHODS = """
r.sum().backward() | x.view(3, 2) | x.sum().item() | x.size() | x.size(0) | x.to(T.float64) | x.to(dtype=T.int64)
x.to(device="cpu") | x.to(T.device("cpu"), T.float64) | im.to(memory_format=T.channels_last).sum() | x.mean()
x.mean(dim=1, keepdim=True) | x.mean((0, 1)) | x.transpose(0, 1) | x.unsqueeze(1) | x.unsqueeze(dim=0) | x.sum()
x.sum(dim=0, keepdim=True) | x.sum(1, keepdims=True) | x.reshape(3, -1) | r.detach() | i.float() | x.t().contiguous()
x[None].squeeze() | x[None].squeeze(0) | x.dim() | x.numel() | x.pow(2) | x.masked_fill(b, -1.0)
x.masked_fill(b == 0, float("-inf")) | x.argmax() | x.argmax(dim=1, keepdim=True) | x.argmax(axis=1)
c.permute(2, 0, 1) | x.max() | x.max(1) | x.max(dim=1, keepdim=True)[0] | x.type(T.int64) | x.type()
x.type("torch.LongTensor") | x.clone() | x.fill_(2) | x.exp() | x.clamp(2, 4) | x.clamp(min=2) | x.split(2, dim=1)
x.split(split_size=2, dim=1) | c.split([1, 2], dim=1) | x.numpy() | x.tolist() | x.var()
x.var(dim=1, keepdim=True, unbiased=False) | x.var(-1, keepdim=True) | v.expand(2, 3) | v.repeat(2, 1) | x.eq(x)
y.abs() | x.view_as(y) | i.type_as(x) | x.sqrt() | x.add_(y, alpha=2) | x.add_(1) | x.std() | x.std(dim=1, keepdim=True)
x.chunk(3, dim=1) | x.chunk(2) | x.gather(1, i) | x.sigmoid() | b.any() | b.any(dim=1) | c.flatten(1) | x.flatten()
x.copy_(y) | b.all() | x.softmax(dim=-1) | x.softmax(1) | x.add(y, alpha=2) | x.t() | x.sin() | x.cos() | x.mul_(y)
x.log10() | x.mm(x.t()) | x.norm() | x.norm(dim=1, keepdim=True) | x.norm(2, dim=-1)
x.clone().requires_grad_().requires_grad | x.new_zeros(2, 2) | x.new_zeros(4, dtype=T.long) | x.log()
T.zeros(2, 2).uniform_(-1, 1) | x.reciprocal() | i.bool() | x.tanh() | (r * 2).retain_grad() | x.zero_() | y.relu()
x.repeat_interleave(2, dim=1) | v.repeat_interleave(2) | b.nonzero() | b.nonzero(as_tuple=True) | x.int() | x.double()
x.gt(2) | k.unique() | T.tensor([1, 1, 2]).unique(return_counts=True) | x.new_ones(3) | x.flip(dims=[1]) | x.flip(0)
x.cpu() | x.new_tensor([1, 2]) | x.masked_fill_(b, 0) | x.addcmul_(y, y, value=2) | x.addcdiv_(y, x + 1, value=2)
x.unbind(1) | x.index_select(1, k) | T.zeros(3).index_add_(0, k, T.ones(2)) | c.bmm(c.transpose(1, 2)) | y.sign_()
x.topk(2) | x.topk(2, dim=-1) | x.swapaxes(0, 1) | x.div(2) | x.ne(2) | x.masked_select(b)
T.zeros(2, 3).scatter_(1, i, x) | x.index_fill_(1, k, 9) | x.min() | x.min(dim=1) | T.zeros(2, 3).normal_()
T.zeros(2, 3).normal_(0, 0.02) | T.zeros(2, 3).scatter(1, i, x) | x.long() | v.multinomial(2) | x.argsort(dim=1)
x.argsort(dim=1, descending=True) | x.narrow(1, 0, 2) | x.mul(y) | v.expand_as(x) | sq.lu()[0] | v.diag()
x.to_sparse().to_dense() | x.cumsum(dim=1) | x.ge(2) | x.le(3) | x.lt(3) | x.neg() | x.dot if False else v.dot(v)
x.lerp_(y, 0.5) | x.sqrt_() | x.div_(2) | sq.t_() | x.remainder(2) | x.sub(y) | x.random_(0, 5).shape | x.stride()
x[1].storage_offset() | x.is_contiguous() | x.is_complex() | x.is_floating_point() | x.new_empty(2).shape
x.unfold(1, 2, 1) | x.ndimension() | x.nelement() | x.element_size() | x.apply_(lambda t: t + 1) | x.where(b, y)
x.sign() | x.sum().float().item() | x.half().dtype
"""

ATTRIBUTES = """
x.shape | x.shape[-1] | r.data | x.device | r.grad | x.dtype | r.requires_grad | x.T | x.ndim | x.is_cuda | x.is_sparse
x.is_xpu | x.mT | x.is_leaf | r.is_leaf | x.device.type | str(x.device) | x.layout | x.is_quantized | x.is_nested
x.is_meta | (r * 2).grad_fn.name() | x.H | x.real | x.itemsize | x.nbytes | x.names if False else None
"""

ASSIGNED = """
r.data = y | r.data[0] = 5 | x.requires_grad = True | r.grad = y | r.grad = None | r.data.copy_(y) | x.data.fill_(3)
"""

OPERATORS = """
x + y | x * y | x / y | x - y | x == y | x**2 | 2**x | -x | x @ x.t() | bool(v[0] > 1) | len(x) | x > 2 | x < y
b & (x > 2) | x <= 2 | x >= 2 | x % 2 | f"{x.sum():.2f}" | f"{v[0]:>8.3f}" | ~b | x != 2 | int(v[0]) | x // 2 | 1 - x
1 / x | 2 * x | float(v[0]) | b | (x > 2) | list(v) == list(v) | x == 1 | 1 + x | b ^ (x > 2) | [t.item() for t in v]
v[0].__index__ is not None | np.asarray(x) | np.sum(x.numpy()) | "%.2f" % v[0] | 3 in v | x @ v | sum(v)
"""
INPLACE = "x += y | x *= 2 | x -= y | x /= 2 | x **= 2 | x //= 2 | x %= 2 | b &= (x > 2) | b |= (x > 2)"

GET = """
x[0:1] | x[1] | x[:, 0:2] | c[:, 1, :] | x[k] | x[:, 1] | x[:, None] | x[..., 0:2] | x[0:1, :] | x[..., 1] | x[None, :]
x[i[:, :2] % 2] | q[0:2, 1:3] | x[1, :] | x[:, [0, 2]] | im[:, :, 1:3, 2:5] | c[:, :, 1:3] | x[k, k] | c[:, :, 2]
x[:, :, None, None] | x[..., None] | c[:, [0, 2], :] | c[None, :, :] | c[:, 0:2, :] | v[k, None, None, None]
im[:, :, :, 2] | im[:, :, 1:3, :] | im[:, :, :, 1:3] | w[:, :, 1, 2] | c[:, 1, 2] | x[:, 0:3:2] | x[b]
x[T.tensor([True, False]), :] | c[:, None, :, None, None] | w[None, :, :, :, :] | c[None, :, None, None] | x[k, :]
c[:, 0:2, 1:3] | x[range(2), k] | x[0, 1] | x[T.tensor(1)] | x[[1, 0]] | im[:, :, :, None, :] | q[k, 0:2] | c[1, :, :]
x[-1] | x[:, -1] | x[::2] | c[..., 0] | c[0, ..., 1] | x[x > 2] | x[:, k] | c[T.arange(2), k] | x[None] | c[:, -1]
"""
SET = """
x[1] = 5 | x[b] = 0 | x[:, 0::2] = y[:, 0::2] | x[:, 1] = 7 | x[..., 1] = v[:2] | x[:, 0:2] = 1 | x[range(2), k] = 9
x[0:1] = y[0:1] | x[range(2), 1] = 4 | x[T.tensor(1)] = 3 | c[0, 1, 2] = 5 | x[0, 1] = 5 | c[:, :, 1] = 2
w[..., 1, 2, :] = 3 | q[i[:, :2], i[:, :2]] = 1 | x[x > 2] = -1 | x[k] = y[k] | x[:] = 0 | x[..., 0:2] = 3
c[:, 1, :] = c[:, 0, :] * 2 | x[0] = x[1] | x[1:, :2] += 5 | x[b] += 1
"""

FUNCTIONS = """
T.cat([x, y]) | T.cat((x, y), dim=1) | T.ones(2, 3) | T.ones(size=(2,), dtype=T.int64, device="cpu") | T.zeros(2)
T.zeros((2, 3), dtype=T.long, device="cpu") | T.arange(5) | T.arange(0, 1, step=0.25, dtype=T.float32, device="cpu")
T.arange(3, device=x.device) | T.tensor([1, 2], dtype=T.float64, device="cpu") | T.tensor(3.5) | T.randn(2, 3)
T.randn(2, requires_grad=True, device="cpu") | T.randn((2,), generator=T.Generator().manual_seed(1)) | T.device("cpu")
T.sqrt(x) | T.exp(x) | T.stack([x, y]) | T.stack([x, y], dim=1) | T.tanh(x) | T.sum(x) | T.sum(x, dim=1, keepdim=True)
T.randint(0, 5, (3,)) | T.randint(5, size=(2,), dtype=T.int32, device="cpu")
T.randint(0, 9, (2,), generator=T.Generator().manual_seed(2)) | T.log(x) | T.max(x) | T.max(x, dim=1, keepdim=True)
T.max(x, 1) | T.max(x, y) | T.multinomial(v, num_samples=2)
T.multinomial(v, 2, generator=T.Generator().manual_seed(0)) | T.sin(x) | T.cos(x) | T.zeros_like(x)
T.zeros_like(x, memory_format=T.preserve_format) | T.min(x) | T.min(x, dim=0, keepdim=True) | T.min(x, y)
T.matmul(x, x.t()) | T.tril(q) | T.tril(q, diagonal=-1) | T.topk(x, k=2, dim=1) | T.topk(x, 2, dim=-1)
T.linspace(0, 1, 5) | T.linspace(0, 1, steps=5, dtype=T.float64, device="cpu") | T.mm(x, x.t()) | T.empty(2, 3).shape
T.empty(size=(2,), dtype=T.int64, device="cpu").dtype | T.einsum("ij,kj->ik", x, y) | T.einsum("bij,bkj->bik", [c, c])
T.bmm(c, c.transpose(1, 2)) | T.ones_like(x) | T.rand(2, 3)
T.rand(2, dtype=T.float64, requires_grad=True, device="cpu") | T.triu(q) | T.triu(q, diagonal=1) | T.mean(x)
T.mean(x, dim=1) | T.where(b, x, y) | T.where(x > 2, x, 0.0) | T.randn_like(x) | T.softmax(x, dim=1) | T.sigmoid(x)
T.pow(x, 2) | T.pow(2, x) | T.rsqrt(x) | T.isnan(x) | T.cumsum(x, dim=1) | T.abs(y) | T.norm(x)
T.norm(x, p=2, dim=1, keepdim=True) | T.cumprod(x, dim=1) | T.full((2,), 3.0)
T.full((2, 2), 7, dtype=T.long, device="cpu") | T.randperm(5) | T.randperm(4, generator=T.Generator().manual_seed(3))
T.is_complex(x) | T.isfinite(x) | T.nextafter(x, y) | T.reshape(x, (3, 2))
T.as_tensor([1.0], dtype=T.float64, device="cpu") | T.flatten(c, 1) | T.split(x, 2, dim=1) | T.split(x, [1, 2], dim=1)
T.gather(x, dim=1, index=i) | T.sort(x, dim=1) | T.sort(v, descending=True) | T.is_floating_point(x) | T.clamp(x, 2, 4)
T.sparse_coo_tensor(T.tensor([[0, 1], [1, 0]]), v[:2], (2, 2), dtype=T.float64).to_dense() | T.diag(v) | T.diag(sq)
T.promote_types(T.int32, T.float32) | T.eye(3) | T.dot(v, v) | T.roll(x, 1) | T.roll(x, shifts=(1, 1), dims=(0, 1))
T.argmax(x, dim=1, keepdim=True) | T.isinf(x) | T.maximum(x, y, out=T.empty(2, 3)) | T.eq(x, y)
T.concatenate([x, y], dim=1) | T.unbind(x) | T.repeat_interleave(x, repeats=2, dim=0) | T.chunk(x, 3, dim=1) | T.all(b)
T.allclose(x, x) | T.histogram(v, 3, density=True) | T.bernoulli(x / 10) | T.addmm(sq, x, x.t(), beta=0.5, alpha=2)
T.index_select(x, dim=1, index=k) | T.nonzero(b) | T.log1p(x) | T.searchsorted(T.sort(v)[0], y, right=True)
T.std(x, dim=1, unbiased=False) | T.ceil(y) | T.unsqueeze(x, 0) | T.any(b) | T.clip(x, 2, 3)
T.embedding(x, k, padding_idx=0, scale_grad_by_freq=False, sparse=False) | T.lu_unpack(*sq.lu()) | T.inverse(sq)
T.outer(v, v) | T.spmm(sq.to_sparse(), sq) | T.transpose(x, 0, 1) | T.meshgrid(v, v, indexing="ij")
T.from_numpy(np.ones(2)) | T.sinh(x) | T.cosh(x) | T.argsort(v) | T.sign(y) | T.as_strided(x, (2, 2), (1, 2))
T.normal(0.0, 1.0, size=(2,)) | T.normal(v, v) | T.unique(k) | T.is_tensor(x) | T.LongTensor([1, 2])
T.FloatTensor([1, 2]) | T.ByteTensor([1]) | T.Tensor([1, 2]) | T.Tensor(2, 3).shape | T.inf | T.pi | T.Size([1, 2])
T.float is T.float32 | T.relu(y) | T.erf(x) | T.squeeze(x[None]) | T.prod(x) | T.var(x, dim=1)
T.cross(v, v * 2, dim=0) | T.logsumexp(x, dim=1) | T.log_softmax(x, dim=1) | T.numel(x) | T.square(x) | T.floor(y)
T.round(y) | T.var_mean(x, dim=1) | T.atan2(x, y) | T.bincount(k) | T.cdist(x, y) | T.kron(sq, sq) | T.median(x)
T.movedim(c, 0, 1) | T.scatter(x, 1, i, y) | T.swapaxes(x, 0, 1) | T.tile(v, (2,)) | T.vstack([v, v])
"""

FUNCTIONAL = """
F.relu(y) | F.relu(y, inplace=True) | F.softmax(x, dim=1) | F.softmax(x, dim=-1) | F.cross_entropy(x, k)
F.cross_entropy(x, k, ignore_index=0, reduction="sum") | F.log_softmax(x, dim=1) | F.linear(x, x)
F.linear(x, y, bias=v[:2]) | F.smooth_l1_loss(x, y) | F.mse_loss(x, y) | F.mse_loss(x, y, reduction="sum")
F.avg_pool2d(im, 2) | F.softplus(y)
F.scaled_dot_product_attention(c, c, c, attn_mask=None, dropout_p=0.0, is_causal=True) | F.pad(x, (1, 1))
F.pad(x, pad=(1, 0), mode="constant", value=3) | F.silu(y) | F.glu(im) | F.dropout(x, p=0.5, training=False)
F.dropout(x, 0.5) | F.nll_loss(F.log_softmax(x, 1), k) | F.nll_loss(F.log_softmax(x, 1), k, reduction="sum")
F.one_hot(k) | F.one_hot(k, num_classes=3) | F.layer_norm(x, (3,)) | F.layer_norm(x, (3,), v, v, 1e-5)
F.conv2d(im, T.ones(3, 2, 3, 3), padding=1, stride=2, bias=v) | F.conv2d(im, T.ones(2, 1, 3, 3), groups=2)
F.normalize(x, dim=1) | F.normalize(x) | F.interpolate(im, scale_factor=2)
F.interpolate(im, scale_factor=2, mode="bilinear", align_corners=True) | F.gelu(y)
F.binary_cross_entropy(x / 10, b.float()) | F.binary_cross_entropy(x / 10, b.float(), reduction="sum")
F.binary_cross_entropy(x / 10, b.float(), size_average=False) | F.leaky_relu(y, negative_slope=0.2, inplace=True)
F.elu(y) | F.batch_norm(x, T.zeros(3), T.ones(3), weight=v, bias=v + 1, training=True)
nn.utils.rnn.pad_sequence([v, v[:2]], padding_value=9) | nn.utils.rnn.pad_sequence([v, v[:2]], batch_first=True)
F.adaptive_avg_pool2d(im, 2) | F.sigmoid(x) | F.tanh(x) | F.max_pool2d(im, 2) | F.max_pool2d(im, 2, stride=1)
F.conv_transpose2d(im, T.ones(2, 3, 2, 2)) | F.upsample_nearest(im, scale_factor=2) | F.kl_div(x.log(), x)
F.l1_loss(x, y) | F.conv1d(c, T.ones(2, 3, 2)) | F.instance_norm(im)
F.pixel_shuffle(T.arange(16.0).reshape(1, 4, 2, 2), 2) | F.dropout2d(im) | F.embedding(k, x) | F.silu(x)
F.binary_cross_entropy_with_logits(y, b.float()) | F.cosine_similarity(x, y) | F.group_norm(im, 2) | F.hardtanh(y)
F.huber_loss(x, y) | F.logsigmoid(y) | F.mish(y) | F.relu6(x) | F.unfold(im, 2)
"""

OTHERS = """
nn.init.normal_(x) | nn.init.normal_(x, mean=0.0, std=0.02) | nn.init.constant_(x, 0.5) | nn.init.constant_(x, val=0)
nn.init.uniform_(x, -0.1, 0.1) | nn.init.kaiming_uniform_(x, a=5**0.5) | nn.init.zeros_(x) | nn.init.xavier_uniform_(x)
nn.init.xavier_normal_(x) | nn.init.orthogonal_(x) | nn.init.calculate_gain("relu")
nn.init.kaiming_normal_(x, mode="fan_out") | nn.init.ones_(x) | T.autograd.grad(r.sum(), r)
T.autograd.grad(outputs=(r**2).sum(), inputs=r, grad_outputs=T.ones(()), create_graph=True, only_inputs=True)
T.linalg.lstsq(sq.double(), x[:, :1].double()).solution | T.autograd.functional.vjp(lambda t: t * 2, x, y)
T.autograd.Variable(x) | T.autograd.Variable(x, requires_grad=True).requires_grad | T.linalg.norm(x)
T.linalg.norm(x, dim=1) | T.linalg.solve(sq, sq) | T.linalg.vecdot(x, y) | nn.utils.clip_grad_norm_([r], 1.0)
T.optim.Optimizer.__name__ | T.no_grad() is not None | T.is_grad_enabled() | T.initial_seed() | T.get_default_dtype()
T.distributions.Categorical(probs=v).log_prob(T.tensor(1)) | T.distributions.Categorical(logits=x).sample()
T.distributions.Normal(v, v).sample() | T.distributions.normal.Normal(0.0, 1.0).log_prob(v)
T.distributions.kl_divergence(T.distributions.Normal(v, v), T.distributions.Normal(0.0, 1.0))
T.sparse.FloatTensor(T.tensor([[0, 1], [1, 0]]), v[:2], T.Size([2, 2])).to_dense() | T.finfo(T.float32).eps
T.cuda.is_available() | T.cuda.device_count() | T.accelerator.is_available() | T.accelerator.current_accelerator()
T.cuda.is_bf16_supported() | T.cuda.empty_cache() | T.cuda.manual_seed(1) | T.cuda.manual_seed_all(1)
T.backends.cudnn.benchmark | T.backends.cudnn.deterministic | T.backends.cudnn.allow_tf32
T.backends.cuda.matmul.allow_tf32 | issubclass(T.cuda.OutOfMemoryError, RuntimeError) | T.cuda.FloatTensor.__name__
T.cuda.LongTensor.__name__ | T.cuda.memory_allocated() | T.distributed.is_available() | T.distributed.is_initialized()
T.backends.mps.is_available() | T.version.cuda | T.utils.data.RandomSampler([1, 2]).num_samples
len(T.utils.data.TensorDataset(x, y)) | [len(d) for d in T.utils.data.random_split(range(5), [2, 3])]
[len(d) for d in T.utils.data.random_split(range(10), [0.5, 0.5])]
[d for d in T.utils.data.DataLoader(T.utils.data.TensorDataset(x), batch_size=1, shuffle=True)]
T.utils.checkpoint.checkpoint(lambda t: t * 2, r, use_reentrant=False) | T.bfloat16 | T.float16 | T.preserve_format
list(nn.utils.weight_norm(nn.Linear(2, 2)).state_dict()) | T.get_rng_state().shape | T.jit.is_scripting()
T.compiler.is_compiling() | T.amp.autocast("cpu", enabled=False) is not None | T.typename(x)
"""

# layer -> the shape of its input: "c" floats, "k" class numbers, "e" indices
LAYERS = {
    "Linear(4, 2)": "c", "Linear(in_features=4, out_features=2, bias=False)": "c", "Dropout(0.5).eval()": "c",
    "Tanh()": "c", "Sequential(nn.Linear(4, 2), nn.ReLU(inplace=True))": "c", "Embedding(5, 3)": "k",
    "Embedding(5, 3, padding_idx=0)": "k", "Conv2d(2, 3, 3, padding=1)": "im",
    "Conv2d(2, 4, kernel_size=(3, 3), stride=2, padding=1, bias=False, groups=2)": "im", "ReLU()": "c",
    "BatchNorm2d(2)": "im", "LayerNorm(4)": "c", "LeakyReLU(0.2, inplace=True)": "c", "Identity()": "c",
    "Sigmoid()": "c", "GELU()": "c", "Conv1d(3, 2, 2)": "c", "Softmax(dim=1)": "c", "Upsample(scale_factor=2)": "im",
    "BatchNorm1d(3)": "c", "Upsample(scale_factor=2, mode='bilinear', align_corners=True)": "im",
    "ConvTranspose2d(2, 3, 4, 2, 1)": "im", "MaxPool2d(2)": "im", "AvgPool2d(2)": "im", "SiLU()": "c",
    "RNN(4, 3, batch_first=True)": "c", "GRU(4, 3, num_layers=2, batch_first=True)": "c",
    "LSTM(4, 3, batch_first=True, bidirectional=True)": "c", "LSTM(4, 3)": "c", "InstanceNorm2d(2)": "im",
    "Flatten()": "im", "ReflectionPad2d(1)": "im", "Dropout2d(0.5)": "im", "AdaptiveAvgPool2d((1, 1))": "im",
    "RMSNorm(4)": "c", "GroupNorm(2, 2)": "im", "LSTMCell(4, 3)": "x4", "GRUCell(4, 3)": "x4", "LogSoftmax(dim=1)": "c",
    "PixelShuffle(1)": "im", "ZeroPad2d(1)": "im", "ReplicationPad2d(1)": "im", "LazyLinear(2)": "c",
    "LazyConv2d(3, 3)": "im", "LazyBatchNorm2d()": "im", "Dropout(p=0.1)": "c",
    "TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()": "c", "DataParallel(nn.Linear(4, 2))": "c",
    "TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2).eval()": "c", "ELU()": "c",
    "Softplus()": "c",
}  # fmt: skip
LOSSES = {
    "CrossEntropyLoss()": "x, k", "CrossEntropyLoss(ignore_index=0)": "x, k", "MSELoss()": "x, y", "NLLLoss()": "x, k",
    "BCELoss()": "x / 10, b.float()", "BCEWithLogitsLoss()": "x, b.float()", "KLDivLoss(reduction='batchmean')": "x, x",
    "L1Loss()": "x, y", "SmoothL1Loss()": "x, y", "KLDivLoss(size_average=False)": "x, x",
    "MSELoss(reduction='sum')": "x, y",
}  # fmt: skip
OPTIMIZERS = """
Adam(p, lr=1e-3) | Adam(p, lr=1e-3, betas=(0.5, 0.999), weight_decay=1e-4) | AdamW(p, lr=1e-3)
SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-4) | Adadelta(p, lr=1.0) | RMSprop(p, lr=0.01)
"""


def scope_of(T):
    scope = {"T": T, "np": np}
    exec(SETUP, scope)
    return scope


def cells(table):
    return [cell.strip() for line in table.strip().splitlines() for cell in line.split(" | ")]


def beside(program, text, rtol=2e-5):
    """The program does the same on both libraries, draws included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine, theirs = run(tapegrad, program), run(torch, program)
    assert not isinstance(theirs, Raised), f"{text}: torch raises {theirs}"
    same(mine, theirs, rtol, text)


@pytest.mark.parametrize("text", [c for table in (METHODS, ATTRIBUTES, OPERATORS, GET) for c in cells(table)])
def test_methods_and_operators(text):
    beside(lambda T: eval(text, scope_of(T)), text)


@pytest.mark.parametrize("text", [c for table in (FUNCTIONS, FUNCTIONAL, OTHERS) for c in cells(table)])
def test_functions(text):
    beside(lambda T: eval(text, scope_of(T)), text)


@pytest.mark.parametrize("text", [c for table in (ASSIGNED, INPLACE, SET) for c in cells(table)])
def test_statements(text):
    def program(T):
        scope = scope_of(T)
        exec(text, scope)
        return [scope[name] for name in ("x", "c", "q", "w", "b")] + [scope["r"].detach(), scope["r"].grad]

    beside(program, text)


@pytest.mark.parametrize("text", LAYERS)
def test_layers(text):
    """The same weights, output, gradient and state dict for one seed."""

    def program(T):
        scope = scope_of(T)
        scope["x4"] = scope["c"][:, 0]
        scope["k"] = T.tensor([[1, 0, 4], [2, 2, 3]])
        layer = eval("nn." + text, scope)
        given = scope[LAYERS[text]]
        given = given.requires_grad_() if given.is_floating_point() and "inplace" not in text else given
        out = layer(given)
        out = out[0] if isinstance(out, tuple) else out
        if out.requires_grad:
            (out * (T.arange(out.numel()).reshape(out.shape) ** 2 % 7)).sum().backward()
        # in training mode dropout draws; the transformer's fast path has no gradient to compare
        return out.detach(), given.grad, list(layer.state_dict()), [p.grad for p in layer.parameters()]

    beside(program, text, rtol=2e-3 if "Norm" in text or "Transformer" in text else 1e-4)


@pytest.mark.parametrize("text", LOSSES)
def test_losses(text):
    def program(T):
        scope = scope_of(T)
        loss = eval(f"nn.{text}(*({LOSSES[text].replace('x', 'r', 1)},))", scope)
        loss.backward()
        return loss.detach(), scope["r"].grad

    beside(program, text)


@pytest.mark.parametrize("text", [c for line in OPTIMIZERS.strip().splitlines() for c in line.split(" | ")])
def test_optimizers(text):
    def program(T):
        p = [T.nn.Parameter(T.tensor([1.0, -2.0, 3.0]))]
        optimizer = eval("T.optim." + text, {"T": T, "p": p})
        scheduler = T.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            (p[0] ** 2).sum().backward()
            optimizer.step()
            scheduler.step()
        return p[0].detach(), scheduler.get_last_lr()

    beside(program, text)


def lbfgs(T):
    p = T.nn.Parameter(T.tensor([1.0, -2.0]))
    optimizer = T.optim.LBFGS([p], lr=0.5, max_iter=5)

    def closure():
        optimizer.zero_grad()
        loss = ((p - 3) ** 2).sum()
        loss.backward()
        return loss

    return [optimizer.step(closure).item() for _ in range(3)], p.detach()


def schedulers(T):
    p = [T.nn.Parameter(T.ones(1))]
    optimizer = T.optim.SGD(p, lr=1.0)
    S = T.optim.lr_scheduler
    found = []
    for make in (lambda: S.LambdaLR(optimizer, lr_lambda=lambda e: 0.9**e), lambda: S.StepLR(optimizer, 2, gamma=0.1)):
        scheduler = make()
        for _ in range(3):
            optimizer.step()
            scheduler.step()
            found.append(optimizer.param_groups[0]["lr"])
    plateau = S.ReduceLROnPlateau(optimizer, "min", factor=0.5, patience=0)
    for loss in (1.0, 1.0, 1.0):
        plateau.step(loss)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def containers(T):
    nn = T.nn
    T.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(2)])
            self.table = nn.ModuleDict({"a": nn.Linear(3, 1)})
            self.scale = nn.Parameter(T.ones(1))
            self.more = nn.ParameterList([nn.Parameter(T.ones(2))])
            self.register_buffer("mask", T.tril(T.ones(3, 3)))

        def forward(self, x):
            for layer in self.layers:
                x = T.tanh(layer(x))
            return self.table["a"](x) * self.scale

    net = Net()
    out = net(T.ones(2, 3))
    out.sum().backward()
    return out.detach(), list(net.state_dict()), str(net), sum(p.numel() for p in net.parameters()), net.training


def attention(T):
    T.manual_seed(0)
    layer = T.nn.MultiheadAttention(4, 2, batch_first=True)
    out, weights = layer(*[T.ones(2, 3, 4)] * 3, attn_mask=T.triu(T.ones(3, 3), diagonal=1).bool())
    return out.detach(), weights.detach()


def transformer(T):
    T.manual_seed(0)
    model = T.nn.Transformer(4, 2, 1, 1, 8, batch_first=True).eval()
    mask = T.nn.Transformer.generate_square_subsequent_mask(3)
    return model(T.ones(2, 3, 4), T.ones(2, 3, 4), tgt_mask=mask).detach()


def modes(T):
    x = T.ones(2, requires_grad=True)
    found = []
    for mode in (T.no_grad, T.enable_grad, T.inference_mode):
        with mode():
            found.append((x * 2).requires_grad)

    @T.no_grad()
    def f():
        return (x * 2).requires_grad

    return [*found, f()]


def custom_function(T):
    class Double(T.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2 * ctx.saved_tensors[0]

    x = T.tensor([3.0], requires_grad=True)
    Double.apply(x).backward()
    return x.grad


def default_tensor_type(T):
    before = T.get_default_dtype()
    try:
        T.set_default_tensor_type(T.DoubleTensor)
        return T.ones(1).dtype
    finally:
        T.set_default_dtype(before)


def one_process(T):
    import os

    D = T.distributed
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT="29512")
    D.init_process_group(backend="gloo", rank=0, world_size=1)
    try:
        t = T.tensor([1.0, 2.0])
        D.all_reduce(t)
        D.broadcast(t, src=0)
        gathered = [T.zeros(2)]
        D.all_gather(gathered, t)
        D.barrier()
        T.manual_seed(0)
        net = T.nn.parallel.DistributedDataParallel(T.nn.Linear(2, 1))
        net(t).sum().backward()
        sampler = T.utils.data.distributed.DistributedSampler(range(4), shuffle=False)
        found = [t, gathered, D.get_rank(), D.get_world_size(), D.is_initialized(), list(net.state_dict())]
        return [*found, list(sampler), [p.grad for p in net.parameters()]]
    finally:
        D.destroy_process_group()


@pytest.mark.parametrize(
    "program",
    [lbfgs, schedulers, containers, attention, transformer, modes, custom_function, default_tensor_type, one_process],
)
def test_programs(program):
    beside(program, program.__name__, rtol=1e-4)


IMPORTS = """
import torch | import torch.nn as nn | import torch.nn.functional as F | import torch.optim as optim
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split | import torch.utils.data as data
from torch.autograd import Variable, Function, grad | from torch.optim import Adam
from torch.utils.data.dataloader import DataLoader | from torch import Tensor, einsum
from torch.nn import Module, ModuleList | from torch.optim.lr_scheduler import StepLR, LambdaLR
import torch.nn.parallel | import torch.nn.init as init | from torch.distributions import Categorical, Normal
from torch.nn.parallel import DistributedDataParallel | from torch.autograd.functional import vjp
from torch.optim.optimizer import Optimizer | from torch.nn.utils import clip_grad_norm_, weight_norm
import torch.backends.cudnn as cudnn | import torch.autograd | from torch.amp import autocast
from torch.distributions.normal import Normal | from torch.distributions import kl_divergence
from torch.nn.parameter import Parameter | from torch.nn.modules.module import Module
from torch.distributed import init_process_group, destroy_process_group | import torch.distributed as dist
from torch.nn.functional import log_softmax, pad | from torch.utils.data.distributed import DistributedSampler
import torch.multiprocessing as mp | from torch.utils.checkpoint import checkpoint
from torch.cuda.amp import autocast, GradScaler | from torch.nn import functional as F | from torch.utils import data
from torch.nn.utils.rnn import pack_padded_sequence | import torch.cuda | import torch.jit
"""


def test_imports(tmp_path):
    """Every form of import, in a fresh process where `import torch` means tapegrad."""
    import subprocess
    import sys

    lines = ["import tapegrad.compat", "tapegrad.compat.install()"]
    lines += [f"{text}\nassert 'tapegrad' in __import__('torch').__name__" for text in cells(IMPORTS)]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
