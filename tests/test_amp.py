"""autocast and GradScaler beside PyTorch's on the CPU."""

from __future__ import annotations

import pickle
import threading
import warnings

import numpy as np
import pytest
import tapegrad
from both import Programs, check
from tapegrad.autograd.op import OPS

pytest.importorskip("ml_dtypes")

# What a call gives inside a region of the CPU: x (4, 8) and w (6, 8) are float32, h (4, 8) is bfloat16.
CALLS = """
x @ w.t() | F.linear(x, w, b) | T.addmm(b, x, w.t()) | x[0] @ w.t() | T.dot(x[0], x[1]) | T.mv(x, x[0]) | x.mm(w.t())
T.outer(x[0], x[1]) | T.einsum("ij,kj->ik", x, w) | F.conv1d(x[None], k)
F.conv_transpose1d(x[None], k.transpose(0, 1)) | F.softmax(h, -1) | F.cross_entropy(h, target) | F.mse_loss(h, h)
F.nll_loss(h, target) | F.layer_norm(h, (8,)) | F.gelu(h) | h.exp() | h.sum()
F.binary_cross_entropy(h.sigmoid(), h.sigmoid()) | F.l1_loss(h, h) | F.kl_div(h, h, reduction="batchmean")
F.binary_cross_entropy_with_logits(h, h.sigmoid()) | F.smooth_l1_loss(h, h) | T.cat([h, x]) | T.stack([h, x]) | h + x
F.scaled_dot_product_attention(x[None], x[None], x[None]) | h.prod() | h[:, :4].trace() | h.quantile(0.5)
T.cdist(h, h) | F.prelu(x, T.ones(1)) | T.bmm(x[None], w.t()[None]) | T.baddbmm(x[None], x[None], T.eye(8)[None])
x.double() @ w.t().double() | T.inverse(T.eye(3).bfloat16()) | F.bilinear(x, x, T.ones(2, 8, 8)) | F.huber_loss(h, h)
F.cosine_similarity(h, h) | F.avg_pool2d(h[None], 2) | T.linalg.vecdot(x, x) | T.linalg.multi_dot([x, w.t()])
F.triplet_margin_loss(h, h, h) | T.addmv(x[:, 0], x, x[0]) | T.tensordot(x, w, dims=([1], [1])) | h.norm()
T.index_copy(x, 0, target[:1], h[:1]) | T.nn.GRU(8, 3)(x)[0] | T.nn.LSTMCell(8, 3)(x)[0] | T.nn.BatchNorm1d(8)(x)
T.nn.MultiheadAttention(8, 2)(x, x, x)[0]
"""
NAMES = {
    "x": lambda T: T.linspace(-1, 1, 32).reshape(4, 8),
    "w": lambda T: T.linspace(-2, 1, 48).reshape(6, 8),
    "b": lambda T: T.linspace(-1, 1, 6),
    "k": lambda T: T.linspace(-1, 1, 48).reshape(4, 4, 3),
    "h": lambda T: T.linspace(-1, 1, 32).reshape(4, 8).bfloat16(),
    "target": lambda T: T.tensor([0, 2, 1, 3]),
    "F": lambda T: T.nn.functional,
}


@pytest.mark.parametrize("text", [t.strip() for line in CALLS.strip().splitlines() for t in line.split(" | ")])
def test_dtypes_inside_a_region(text):
    torch = pytest.importorskip("torch")
    found = []
    for T in (tapegrad, torch):
        scope = {"T": T, **{name: make(T) for name, make in NAMES.items()}}
        with T.autocast("cpu"):
            value = eval(text, scope)
        found.append(value.detach())
    assert str(found[0].dtype) == str(found[1].dtype)
    if "nn." not in text:
        np.testing.assert_allclose(found[0].float().numpy(), found[1].float().numpy(), rtol=3e-2, atol=3e-2)


programs = Programs()


@programs
def training_step(T):
    T.manual_seed(0)
    net = T.nn.Sequential(T.nn.Linear(4, 8), T.nn.ReLU(), T.nn.Linear(8, 3))
    x, y = T.randn(5, 4), T.tensor([0, 1, 2, 0, 1])
    with T.autocast("cpu", dtype=T.bfloat16):
        out = net(x)
        loss = T.nn.functional.cross_entropy(out, y)
    loss.backward()
    return out.dtype, loss.dtype, [p.grad.dtype for p in net.parameters()], loss.item() > 0


@programs
def nesting(T):
    x = T.ones(2, 2)
    found = []
    with T.autocast("cpu"):
        found.append((x @ x).dtype)
        with T.autocast("cpu", enabled=False):
            found += [(x @ x).dtype, T.is_autocast_enabled("cpu")]
        with T.autocast("cpu", dtype=T.float16):
            found += [(x @ x).dtype, T.get_autocast_dtype("cpu")]
        found += [(x @ x).dtype, T.is_autocast_enabled("cpu"), T.is_autocast_enabled("cuda")]
    return [*found, (x @ x).dtype, T.is_autocast_enabled("cpu"), T.get_autocast_dtype("cuda")]


@programs
def decorator(T):
    @T.autocast("cpu")
    def f(x):
        return x @ x

    return f(T.ones(2, 2)).dtype, f.__name__


@programs
def function_inside(T):
    class F(T.autograd.Function):
        @staticmethod
        @T.amp.custom_fwd(device_type="cpu", cast_inputs=T.float32)
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x @ x

        @staticmethod
        @T.amp.custom_bwd(device_type="cpu")
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g @ x.t()

    x = T.ones(2, 2, requires_grad=True)
    with T.autocast("cpu"):
        y = F.apply(x @ x)
    y.sum().backward()
    return y.dtype, x.grad.dtype


@programs
def scaler(T):
    p = T.nn.Parameter(T.tensor([1.0, 2.0]))
    opt = T.optim.SGD([p], lr=0.1)
    s = T.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
    found = [s.get_scale(), s.is_enabled()]
    for factor in (1.0, 1.0, float("inf"), 1.0):
        opt.zero_grad()
        s.scale((p * factor).sum()).backward()
        s.step(opt)
        s.update()
        found += [s.get_scale(), p.detach().clone(), s.state_dict()]
    s.load_state_dict({**s.state_dict(), "scale": 2.0})
    return [*found, s.get_scale(), s.scale([T.ones(2), T.ones(1)])]


@programs
def scaler_with_an_optimizer_that_takes_the_scale(T):
    """Its step is asked in any case, and finds what it needs among its attributes."""

    class Own(T.optim.SGD):
        _step_supports_amp_scaling = True

        def step(self):
            seen.append((None if self.grad_scale is None else self.grad_scale.clone(), self.found_inf.clone()))

    seen = []
    p = T.nn.Parameter(T.tensor([1.0, 2.0]))
    opt = Own([p], lr=0.1)
    s = T.amp.GradScaler("cpu", init_scale=4.0)
    for factor, unscale in ((1.0, False), (float("inf"), False), (1.0, True)):
        opt.zero_grad()
        s.scale((p * factor).sum()).backward()
        if unscale:
            s.unscale_(opt)
        seen.append(p.grad.clone())
        s.step(opt)
        s.update()
        seen.append(s.get_scale())
    return [*seen, hasattr(opt, "grad_scale"), hasattr(opt, "found_inf")]


@programs
def scaler_set_and_copied(T):
    w = T.nn.Embedding(4, 2, sparse=True)
    with T.no_grad():
        w.weight.fill_(1.0)
    opt = T.optim.SparseAdam(w.parameters())
    s = T.amp.GradScaler("cpu", init_scale=4.0)
    s.scale(w(T.tensor([1, 1, 3])).sum()).backward()
    s.step(opt)
    s.update(3.0)
    found = [w.weight.detach().clone(), s.get_scale()]
    s.update(T.tensor(7.0))
    again = pickle.loads(pickle.dumps(s))
    return [*found, s.get_scale(), again.state_dict(), again.scale(T.ones(2))]


@pytest.mark.parametrize("name", programs)
def test_programs(name):
    programs.check(name, rtol=1e-6)


SCALER_ERRORS = """
s.unscale_(o) | s.step(o) | s.update() | G("cpu", growth_factor=1.0) | G("cpu", backoff_factor=1.0) | s.scale(3)
s.load_state_dict({}) | G("cpu", enabled=False).scale(3) | G("cpu", enabled=False).state_dict()
(s.scale(T.ones(1)), s.update()) | (s.scale(T.ones(1)), s.update(T.ones(2))) | (s.scale(T.ones(1)), s.update(T.ones(1)))
(s.scale(T.ones(1)), s.step(o)) | (s.scale(T.ones(1)), s.step(o, closure=1))
"""


@pytest.mark.parametrize("text", [t.strip() for line in SCALER_ERRORS.strip().splitlines() for t in line.split(" | ")])
def test_errors_of_the_scaler(text):
    check(
        text, G=lambda T: T.amp.GradScaler, s=lambda T: T.amp.GradScaler("cpu"),
        o=lambda T: T.optim.SGD([T.nn.Parameter(T.ones(1))], lr=0.1),
    )  # fmt: skip


@pytest.mark.parametrize("text", ["T.autocast(1)", "T.amp.custom_fwd(device_type=1)"])
def test_errors(text):
    check(text, length=20)


def test_a_dtype_that_is_no_half_switches_the_region_off():
    with pytest.warns(UserWarning, match="target dtype is not supported"):
        region = tapegrad.autocast("cpu", dtype=tapegrad.float32)
    with region:
        assert (tapegrad.ones(2, 2) @ tapegrad.ones(2, 2)).dtype is tapegrad.float32


def test_without_a_device_cuda_regions_are_off():
    if tapegrad.cuda.is_available():
        pytest.skip("there is a device")
    with pytest.warns(UserWarning, match="CUDA is not available"):
        region = tapegrad.autocast("cuda")
    with region:
        assert not tapegrad.is_autocast_enabled("cuda")
    with pytest.warns(UserWarning, match="CUDA is not available"):
        scaler = tapegrad.amp.GradScaler()
    assert scaler.scale(1.5) == 1.5 and scaler.get_scale() == 1 and scaler.state_dict() == {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tapegrad.cuda.amp import GradScaler, autocast

        assert not GradScaler().is_enabled() and not autocast()._enabled


def test_every_listed_function_is_met():
    """A name that is there and could not be swapped would never be cast."""
    from tapegrad.amp import door, lists

    for name in {name for table in lists.POLICIES.values() for name in table}:
        found = door._resolve(name)
        assert name in OPS or found is None or door._inner_name(found), name


def test_outside_of_regions_nothing_is_left():
    """The record functions are what they were: no region, no cost."""
    x = tapegrad.ones(2, 2)
    x @ x, tapegrad.nn.functional.linear(x, x)
    before = {name: (OPS[name].fn.__code__, OPS[name].fn.__kwdefaults__) for name in ("mm", "linear")}
    inner = tapegrad.matmul.__closure__
    held = [c.cell_contents for c in inner]
    with tapegrad.autocast("cpu"):
        assert OPS["mm"].fn.__code__ is not before["mm"][0]
    for name, (code, defaults) in before.items():
        assert OPS[name].fn.__kwdefaults__ == defaults
        assert OPS[name].fn.__code__ is code
    assert [c.cell_contents for c in inner] == held


def test_a_region_is_its_threads_own():
    x, found = tapegrad.ones(2, 2), []
    with tapegrad.autocast("cpu"):
        thread = threading.Thread(target=lambda: found.append((x @ x).dtype))
        thread.start()
        thread.join()
        assert (x @ x).dtype is tapegrad.bfloat16
    assert found == [tapegrad.float32]


def test_a_trained_leaf_is_cast_once_per_region():
    w = tapegrad.ones(2, 2, requires_grad=True)
    with tapegrad.autocast("cpu"):
        a, b = w @ w, w @ w
        first, second = (t.grad_fn.next_functions[0][0] for t in (a, b))
        assert first is second
    (a + b).sum().backward()
    assert w.grad.dtype is tapegrad.float32
    with tapegrad.autocast("cpu", cache_enabled=False):
        a, b = w @ w, w @ w
    assert a.grad_fn.next_functions[0][0] is not b.grad_fn.next_functions[0][0]


def test_gradients_reach_the_weights_through_the_cast():
    w = tapegrad.tensor([[1.0, 2.0]], requires_grad=True)
    x = tapegrad.tensor([[3.0, 4.0]])
    with tapegrad.autocast("cpu"):
        out = tapegrad.nn.functional.linear(x, w)
    assert out.dtype is tapegrad.bfloat16
    out.backward()
    assert w.grad.dtype is tapegrad.float32 and w.grad.tolist() == [[3.0, 4.0]]
