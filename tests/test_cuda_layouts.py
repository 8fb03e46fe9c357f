"""Images whose channels lie side by side (NHWC) through the CUDA kernels, on the CPU: as they lie, with no copy made.

Beside each result in float64 stand the launches: no kernel that turns images, and no copy by the array library.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import cuda_on_cpu as emulation
import numpy as np
import pytest
import tapegrad as torch
from tapegrad.autograd.op import load_late
from tapegrad.autograd.tensor import wrap
from tapegrad.backends import registry
from tapegrad.backends.cupy import launch, layout, norm_kernels
from tapegrad.backends.cupy.kernels import KERNELS
from test_cuda_shapes import ADAM, BF, F2, F4, generic, put, same

load_late()

pytestmark = pytest.mark.skipif(emulation.COMPILER is None, reason="no C++ compiler (g++, or CXX) is installed")

# (N, C, *S): vectors of all dtypes, of half precision only in parts, odd channels, one channel, volumes
SHAPES = [(2, 16, 5, 3), (3, 24, 4, 4), (2, 7, 3, 5), (2, 1, 4, 3), (5, 300, 2, 2), (2, 8, 3, 2, 4), (1, 40, 9, 9)]


@pytest.fixture(scope="module")
def machine() -> emulation.CpuMachine:
    made = emulation.CpuMachine()
    launch.use(made)
    return made


@pytest.fixture(params=["ascending", "descending"])
def order(request: pytest.FixtureRequest, machine: Any) -> Iterator[str]:
    machine.descending = request.param == "descending"
    yield request.param
    machine.descending = False


@pytest.fixture
def copies(machine: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is copied to another layout, but for the gradient of a mean, which is one number per channel."""
    made: list[Any] = []
    own, laid = machine.xp.ascontiguousarray, layout.laid

    def noted(x: Any) -> None:
        if 0 not in x.strides:
            made.append(x.shape)

    monkeypatch.setattr(machine.xp, "ascontiguousarray", lambda x: noted(x) or own(x), raising=False)
    monkeypatch.setattr(layout, "laid", lambda x, last: noted(x) or laid(x, last))
    return made


def last(machine: Any, x: Any, skew: int = 0) -> Any:
    """(N, C, *S) in guarded memory, the channels side by side."""
    held = put(machine, np.moveaxis(x, 1, -1), skew=skew)
    return held.transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


def lies_last(x: Any) -> bool:
    return bool(x.transpose(0, *range(2, x.ndim), 1).flags.c_contiguous)


def draw(shape: Any, dtype: Any, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [F4, F2, BF], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm(shape: Any, dtype: Any, machine: Any, order: str, copies: list[Any]) -> None:
    x, g = draw(shape, dtype), draw(shape, dtype, 1)
    w, b = draw(shape[1], dtype, 2), draw(shape[1], dtype, 3)
    ws, bs = put(machine, w), put(machine, b)
    kw = {"needs": (True, True, True), "eps": 1e-5}
    expected = generic("batch_norm", x, w, b, eps=1e-5)[:3]
    gradients = generic("batch_norm_backward", g, x, w, None, None, **kw)
    for skew in (0, dtype.itemsize):
        xs, gs = last(machine, x, skew), last(machine, g, skew)
        out, mean, var, centre, rstd = KERNELS["batch_norm"](xs, ws, bs, eps=1e-5)
        same((out, mean, var), expected, dtype)
        found = KERNELS["batch_norm_backward"](gs, xs, ws, centre, rstd, **kw)
        same(found, gradients, dtype, factor=4)
        shifted = KERNELS["scale_shift"](xs, ws, bs)
        same(shifted, generic("scale_shift", x, w, b), dtype)
        assert lies_last(out) and lies_last(found[0]) and lies_last(shifted)
        plain = KERNELS["batch_norm"](xs, None, None, eps=1e-5)[0]
        same(plain, generic("batch_norm", x, None, None, eps=1e-5)[:1], dtype)
    assert not copies
    assert KERNELS["batch_norm_backward"](gs, xs, ws, centre, rstd, needs=(False, True, True), eps=1e-5)[0] is None


def test_batch_norm_of_many_rows(machine: Any, order: str) -> None:
    """Several parts of the rows, each of several passes; a mean far from zero."""
    for shape in ((3, 12, 40, 30), (5000, 12), (700, 3)):
        x, g = 100 + draw(shape, F4), draw(shape, F4, 1)
        xs, gs = (last(machine, a) if len(shape) > 2 else put(machine, a) for a in (x, g))
        machine.launched.clear()
        out, mean, var, centre, rstd = KERNELS["batch_norm"](xs, None, None, eps=1e-5)
        assert machine.launched[0][0].startswith("channel_sums_columns") and machine.launched[0][1][1] > 1
        same((out, mean, var), generic("batch_norm", x, None, None, eps=1e-5)[:3], F4, factor=20)
        kw = {"needs": (True, True, True), "eps": 1e-5}
        found = KERNELS["batch_norm_backward"](gs, xs, None, centre, rstd, **kw)
        same(found, generic("batch_norm_backward", g, x, None, None, None, **kw), F4, factor=20)


def test_a_gradient_that_lies_otherwise_is_turned_once(machine: Any, copies: list[Any]) -> None:
    x, g, w = draw((2, 16, 5, 3), F4), draw((2, 16, 5, 3), F4, 1), draw(16, F4, 2)
    kw = {"needs": (True, True, True), "eps": 1e-5}
    expected = generic("batch_norm_backward", g, x, w, None, None, **kw)
    for first, second in ((last, put), (put, last)):
        xs, gs, ws = first(machine, x), second(machine, g), put(machine, w)
        _, _, _, centre, rstd = KERNELS["batch_norm"](xs, ws, None, eps=1e-5)
        copies.clear()
        found = KERNELS["batch_norm_backward"](gs, xs, ws, centre, rstd, **kw)
        same(found, expected, F4, factor=4)
        assert found[0].strides == xs.strides and copies == [x.shape]
        copies.clear()
        gradient = KERNELS["relu_backward"](gs, xs)
        same(gradient, [np.where(x <= 0, 0, g)], F4)
        assert gradient.strides == xs.strides and len(copies) == (first is last)
    spread = np.broadcast_to(put(machine, g[:, :, :1, :1]), x.shape)  # the gradient of a mean
    xs = last(machine, x)
    same(KERNELS["relu_backward"](spread, xs), [np.where(x <= 0, 0, spread)], F4)


def test_blocks_of_columns() -> None:
    """All columns, 256 threads, few of them idle."""
    for columns in range(1, 600):
        for each in (1, 4, 8):
            across, (beside, rows) = norm_kernels.column_blocks(columns, each)
            assert beside * rows == 256 and across * beside * each >= columns > (across - 1) * beside * each
            assert beside & (beside - 1) == 0 and beside <= 32
    assert norm_kernels.column_blocks(64, 8) == (1, (8, 32)) and norm_kernels.column_blocks(192, 8) == (3, (8, 32))


WINDOWS = [
    {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "dilation": (1, 1)},
    {"kernel": (2, 3), "stride": (1, 2), "padding": (0, 1), "dilation": (2, 1)},
    {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)},
]


@pytest.mark.parametrize("dtype", [F4, BF], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 8, 24])
def test_pooling(channels: int, dtype: Any, machine: Any, copies: list[Any]) -> None:
    """Values, places and gradients, with ties, nan and infinities, are those of the generic forms."""
    x = np.random.default_rng(5).integers(0, 3, (2, channels, 9, 8)).astype(dtype)
    x[0, -1, 2:4, 3:6], x[1, 0, 5] = np.nan, -np.inf
    for window in WINDOWS:
        size = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, (k, s, p, d) in zip(x.shape[2:], zip(*window.values(), strict=True), strict=True)
        )
        kw = {**window, "size": size}
        for skew in (0, dtype.itemsize):
            xs = last(machine, x, skew)
            out, indices = KERNELS["max_pool_with_indices"](xs, **kw)
            expected, places = generic("max_pool_with_indices", x, **kw)
            np.testing.assert_array_equal(np.asarray(out, "f8"), expected)
            np.testing.assert_array_equal(indices, places)
            np.testing.assert_array_equal(np.asarray(KERNELS["max_pool"](xs, **kw), "f8"), expected)
            g = draw(out.shape, dtype)
            found = KERNELS["max_pool_backward"](last(machine, g, skew), xs, out, **kw)
            same(found, generic("pool_scatter", g, places, shape=x.shape, rank=2), dtype)
            assert lies_last(out) and lies_last(indices) and lies_last(found)
    assert not copies


@pytest.mark.parametrize("dtype", [F4, BF], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (2, 16, 9, 8), (1, 8, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("divisor", ["inside", "window", 5])
def test_means_of_windows(divisor: Any, shape: Any, dtype: Any, machine: Any, copies: list[Any]) -> None:
    x, rank = draw(shape, dtype), len(shape) - 2
    kw = {"kernel": (3, 2, 2)[-rank:], "stride": (2,) * rank, "padding": (1, 0, 1)[-rank:], "divisor": divisor}
    sizes = zip(shape[2:], kw["kernel"], kw["padding"], strict=True)
    kw["size"] = tuple((n + 2 * p - k) // 2 + 1 for n, k, p in sizes)
    out = KERNELS["avg_pool"](last(machine, x), **kw)
    same(out, generic("avg_pool", x, **kw), dtype)
    g = draw(out.shape, dtype, 1)
    found = KERNELS["avg_pool_input"](last(machine, g), shape=shape, **kw)
    same(found, generic("avg_pool_input", g, shape=shape, **kw), dtype)
    assert lies_last(out) and lies_last(found) and not copies


@pytest.mark.parametrize("dtype", [F4, F2, BF], ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (2, 8, 40, 30)], ids=str)
def test_global_means(shape: Any, dtype: Any, machine: Any, order: str, copies: list[Any]) -> None:
    x, axes = draw(shape, dtype), tuple(range(2, len(shape)))
    xs = last(machine, x)
    if xs.flags.c_contiguous:  # one channel
        assert KERNELS["mean"](xs, axis=axes, keepdims=True) is NotImplemented
        return
    for keepdims in (True, False):
        found = KERNELS["mean"](xs, axis=axes, keepdims=keepdims)
        same(found, [x.astype("f8").mean(axes, keepdims=keepdims)], dtype)
        assert found.flags.c_contiguous
    assert not copies
    for axis in ((2,), (1, 2, 3), (0, 2, 3), None, ()):
        assert KERNELS["mean"](xs, axis=axis, keepdims=True) is NotImplemented
    assert KERNELS["mean"](put(machine, x), axis=axes, keepdims=True) is NotImplemented


@pytest.mark.parametrize("dtype", [F4, F2, BF], ids=str)
@pytest.mark.parametrize("op", ["add", "sub", "mul"])
def test_sums_and_products(op: str, dtype: Any, machine: Any, copies: list[Any]) -> None:
    """Flat where both lie alike, as the array library has it elsewhere; rounded once."""
    for shape in ((2, 7, 5, 3), (1, 16, 9, 5), (3, 8, 2, 3, 2)):
        x, y = draw(shape, dtype), draw(shape, dtype, 1)
        exact = getattr(np, {"add": "add", "sub": "subtract", "mul": "multiply"}[op])(x.astype("f4"), y.astype("f4"))
        for skew in (0, dtype.itemsize):
            for make in (put, last):
                xs, ys = make(machine, x, skew=skew), make(machine, y)
                found = KERNELS[op](xs, ys)
                np.testing.assert_array_equal(np.asarray(found), exact.astype(dtype))
                assert found.strides == xs.strides
        assert KERNELS[op](put(machine, x), last(machine, y)) is NotImplemented
    assert not copies
    assert KERNELS[op](xs, ys, out=xs) is NotImplemented
    for other in (2.0, x.astype("f8"), put(machine, draw((1,), dtype))):
        assert KERNELS[op](xs, other) is NotImplemented
    assert KERNELS[op](2.0, xs) is NotImplemented
    assert KERNELS[op](xs[:, ::2], ys[:, ::2]) is NotImplemented


def test_flat_optimizers(machine: Any) -> None:
    """Weights, gradients and state that lie alike, in whatever dense order, are one run of memory."""
    from tapegrad.optim.adam import adam_step

    arrays = [abs(draw((4, 6, 3, 3), F4, k)) for k in range(4)]
    wide = [a.astype("f8") for a in arrays] + [None]
    adam_step(np, *wide, **ADAM)
    held = [last(machine, a) for a in arrays]
    assert KERNELS["adam_step"](*held, None, **ADAM) is None
    same(tuple(held), wide[:4], F4)
    before = [a.copy() for a in held]
    other = [held[0], put(machine, arrays[1]), *held[2:], None]
    assert KERNELS["adam_step"](*other, **ADAM) is NotImplemented
    assert all((a == b).all() for a, b in zip(held, before, strict=True))
    norm = KERNELS["total_norm"]([held[0], put(machine, arrays[1])], 2.0)
    assert float(norm) == pytest.approx(math.sqrt(sum((np.asarray(a, "f8") ** 2).sum() for a in (held[0], arrays[1]))))
    KERNELS["clip_all"]([held[0]], norm, 1.0)
    same(held[0], [np.asarray(before[0], "f8") / (float(norm) + 1e-6)], F4)


def test_gradients_lie_as_the_leaf(machine: Any) -> None:
    """Taken over where nobody else can hold them, as PyTorch's layers give them; else a copy."""
    x = draw((4, 6, 3, 2), F4)
    weight, other = last(machine, x), put(machine, x)
    memory = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    own = memory.transpose(0, 3, 1, 2)
    assert layout.gradient_for(weight, own, True) is not own, "`memory` may change it"
    del memory
    assert layout.gradient_for(weight, own, True) is own
    assert layout.gradient_for(weight, own, False) is not own
    for g in (own, other, x[:, :1] + 0 * x):
        made = layout.gradient_for(weight, g, False)
        assert made.strides == weight.strides and (made == g).all() and not np.shares_memory(made, g)
    for leaf in (weight[:, ::2], np.broadcast_to(weight[:1], weight.shape)):
        g = x[: leaf.shape[0], : leaf.shape[1]]
        assert layout.gradient_for(leaf, g, True).flags.c_contiguous


@pytest.fixture
def device(machine: Any) -> Iterator[Any]:
    before = dict(registry._loaded)
    launch.use(machine)
    yield registry.register(emulation.EmulatedBackend(machine))
    registry._loaded.clear()
    registry._loaded.update(before)


class Block(torch.nn.Module):
    """A residual block between pooling and a classifier, as in ResNet; convolutions aside."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.BatchNorm2d(8), torch.nn.BatchNorm2d(8)

    def forward(self, x: Any) -> Any:
        x = torch.nn.functional.max_pool2d(torch.relu(self.first(x)), 3, 2, 1)
        x = torch.relu(self.second(x) + x)
        return torch.nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)


@pytest.mark.parametrize("training", [True, False])
def test_a_network_stays_in_its_layout(training: bool, machine: Any, device: Any, copies: list[Any]) -> None:
    """Results, gradients and running statistics are those of float64; nothing is turned on the way."""
    x, g = draw((3, 8, 9, 7), F4), draw((3, 8), F4, 1)
    found = []
    for place in ("here", "there"):
        net = Block().train(training)
        if place == "here":
            net, images, seed = net.double(), torch.tensor(x.astype("f8")), torch.tensor(g.astype("f8"))
        else:
            net = net.to("cuda_on_cpu")
            images, seed = wrap(last(machine, x).view(emulation.EmulatedArray)), wrap(device.asarray(g))
        images.requires_grad_()
        copies.clear()
        out = net(images)
        out.backward(seed)
        state = [net.first.running_mean, net.first.running_var, net.second.weight.grad, net.first.bias.grad]
        found.append([np.asarray(a.detach().cpu().numpy(), "f8") for a in (out, images.grad, *state)])
    same(tuple(found[1]), found[0], F4, factor=4)
    assert not copies
