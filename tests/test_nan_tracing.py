"""trace_nans: the first op, write or node that makes NaN or infinity of finite values, with module and line."""

from __future__ import annotations

import threading

import pytest
import tapegrad as torch
from tapegrad import nn
from tapegrad.autograd import watch
from tapegrad.utils.trace_nans import trace_nans


class Net(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        self.head, self.scale = nn.Linear(4, 2), scale

    def forward(self, x):
        h = self.layers(x) * self.scale
        square = h * h  # the line
        return self.head(square)


LINE = Net.forward.__code__.co_firstlineno + 2


def fill(net, value):
    for p in net.parameters():
        with torch.no_grad():
            p.fill_(value)
    return net


def test_the_forward_op_is_named():
    """Its module, line and inputs; the ops after it, which spread what it made, are not blamed."""
    net = fill(Net(1e30), 0.5)
    with pytest.raises(FloatingPointError) as caught, torch.utils.trace_nans() as nans:
        net(torch.ones(2, 3))
    first = nans.first
    assert (first.where, first.op, first.module, first.filename, first.lineno) == (
        "forward",
        "mul",
        "Net",
        __file__,
        LINE,
    )
    assert str(caught.value) == (
        "mul made the first value that is not finite, in module Net\n"
        f'  at "{__file__}", line {LINE}: square = h * h  # the line\n'
        "  input x: (2, 4) float32, all finite, from 2e+30 to 2e+30\n"
        "  input y: (2, 4) float32, all finite, from 2e+30 to 2e+30\n"
        "  result of it: (2, 4) float32, 0 NaN and 8 infinite of 8"
    )
    assert "test_nan_tracing.py" in caught.value.__notes__[0]
    inner = fill(Net(), 1e38)
    with trace_nans(stop=False) as nans:
        assert not inner(torch.full((2, 3), 100.0)).isfinite().all()
    assert nans.first.module == "Net.layers.0" and nans.first.op in ("linear", "addmm")
    assert [value.name for value in nans.first.inputs] == ["x", "w", "b"] and nans.first.inputs[0].max == 100.0


def test_the_backward_node_is_named():
    """By the line that recorded it and the module it was recorded in, with what it saved; also with create_graph."""

    class Root(nn.Module):
        def forward(self, x):
            return x.sqrt()

    for create_graph in (False, True):
        x = torch.tensor([4.0, 0.0], requires_grad=True)
        with trace_nans(stop=False) as nans:
            y = nn.Sequential(Root())(x * 1.0)
            y.sum().backward(create_graph=create_graph)
        first = nans.first
        assert (first.where, first.op, first.module) == ("backward", "SqrtBackward0", "Sequential.0")
        assert first.lineno == Root.forward.__code__.co_firstlineno + 1 and "return x.sqrt()" in str(first)
        assert [v.name for v in first.inputs] == ["gradient", "saved 'out'"] and first.inputs[1].min == 0.0
        assert first.results[0].infs == 1 and first.results[0].finite == 1
        x.grad = None
    with (
        pytest.raises(FloatingPointError, match="SqrtBackward0 made the first gradient that is not finite"),
        trace_nans(),
    ):
        x.sqrt().sum().backward()


def test_in_place_writes():
    with pytest.raises(
        FloatingPointError, match=r"mul_ made .*\n.*\n  input self: \(3,\) float32, all finite, from 3e"
    ):
        with trace_nans():
            torch.ones(3).mul_(3e38).mul_(10)
    with trace_nans(stop=False) as nans:
        x = torch.zeros(2)
        x.log_()
    assert nans.first.op == "log"  # the op that the write is made of
    with trace_nans() as nans:  # what is put there on purpose
        x = torch.zeros(3)
        x[0], x[1:] = float("nan"), float("inf")
        x.fill_(float("inf"))
        x.masked_fill_(torch.tensor([True, False, True]), float("-inf"))
    assert nans.first is None


def test_masks_are_no_findings():
    """Infinities of infinities; but a NaN made of them is one."""
    q = torch.randn(1, 2, 4, 3)
    with trace_nans() as nans:
        torch.randn(2, 3).masked_fill(torch.tensor([True, False, True]), float("-inf")).softmax(-1)
        (torch.randn(4, 4) + torch.full((4, 4), float("-inf")).triu(1)).softmax(-1)
        nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)
        torch.tensor([1.0, float("inf")]) * 2
    assert nans.first is None
    with pytest.raises(FloatingPointError, match="(?s)softmax made.*0 NaN and 8 infinite of 8.*8 NaN and 0 infinite"):
        with trace_nans():
            torch.full((2, 4), float("-inf")).softmax(-1)
    with trace_nans(inf=False) as nans:
        torch.zeros(2).log()
    assert nans.first is None


def test_what_was_there_before():
    """NaN in the data or in a parameter is told where it is read first, a parameter by its name."""
    net = Net()
    with torch.no_grad():
        net.head.weight[0, 1] = float("nan")
    with pytest.raises(
        FloatingPointError, match="(?s)a value that was NaN before came into linear, in module Net.head"
    ):
        with trace_nans() as nans:
            net(torch.ones(2, 3))
    assert [(v.name, v.nans) for v in nans.first.inputs] == [("x", 0), ("head.weight", 1), ("head.bias", 0)]
    with trace_nans(stop=False) as nans:
        Net()(torch.full((2, 3), float("nan")))
    assert nans.first.where == "before" and nans.first.module == "Net.layers.0"


def test_autocast_and_bfloat16():
    """An overflow in a half precision is the cast's, in its module; bfloat16 is looked at too."""
    with pytest.raises(
        FloatingPointError, match="(?s)cast made.*module Sequential.0.*from 1e[+]06.*float16, 0 NaN and 6"
    ):
        with torch.autocast("cpu", dtype=torch.float16), trace_nans():
            nn.Sequential(nn.Linear(3, 3))(torch.full((2, 3), 1e6))
    with trace_nans(stop=False) as nans:
        torch.zeros(2, dtype=torch.bfloat16).log()
    assert nans.first.results[0].dtype == "bfloat16" and nans.first.results[0].infs == 2


def test_clean_programs_and_what_is_left_behind():
    """Nothing is found in a training step, results are the same, every door is as before, no other thread is seen."""
    model, x = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), torch.randn(2, 3, 8)
    loss = model(x).pow(2).mean()
    loss.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    before = dict(vars(torch.Tensor))
    with trace_nans() as nans:
        model(x).pow(2).mean().backward()
        thread = threading.Thread(target=lambda: torch.zeros(1).log())
        thread.start()
        thread.join()
    assert nans.first is None
    assert all(torch.equal(p.grad, wanted[name]) for name, p in model.named_parameters())
    with pytest.raises(RuntimeError, match="cannot be multiplied"), trace_nans():
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert dict(vars(torch.Tensor)) == before and watch._open == [] and torch.zeros(1).log().item() == float("-inf")
