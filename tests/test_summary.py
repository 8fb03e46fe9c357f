"""FLOP counts against PyTorch's, what `summary` tells of a model, and that neither leaves anything behind."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
import tapegrad
from tapegrad.autograd import watch
from tapegrad.autograd.op import OPS, Raw, _raw
from tapegrad.utils.flop_counter import FlopCounterMode, register_flop_formula
from tapegrad.utils.module_tracker import ModuleTracker


def mlp(torch):
    return torch.nn.Sequential(torch.nn.Linear(7, 11), torch.nn.ReLU(), torch.nn.Linear(11, 3, bias=False))


def lenet(torch):
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def block(torch):
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(4, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
            self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, 1, 1, bias=False, groups=2), nn.BatchNorm2d(8)
            self.down = nn.Sequential(nn.Conv2d(4, 8, 1, 2, bias=False), nn.BatchNorm2d(8))

        def forward(self, x):
            out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(out + self.down(x))

    return Block()


def transposed(torch):
    return torch.nn.Sequential(torch.nn.ConvTranspose2d(3, 6, 3, 2, 1, 1), torch.nn.Conv2d(6, 2, 3))


def transformer(torch):
    return torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)


MODELS = [(mlp, (5, 7)), (lenet, (2, 1, 28, 28)), (block, (2, 4, 8, 8)), (transposed, (2, 3, 5, 5))]


def counts(torch, mode, make, shape, input_grad):
    """{module: {op: FLOPs}} of forward, and of forward and backward."""
    model = make(torch)
    x = torch.ones(*shape, requires_grad=input_grad)
    with mode(display=False) as forward:
        y = model(x)
    with mode(display=False) as backward:
        model(x).sum().backward()
    del y
    return [{m: {str(op): n for op, n in c.items()} for m, c in found.get_flop_counts().items()}
            for found in (forward, backward)]  # fmt: skip


@pytest.mark.parametrize("input_grad", [False, True])
@pytest.mark.parametrize(("make", "shape"), MODELS)
def test_flops_are_pytorchs(make, shape, input_grad):
    torch = pytest.importorskip("torch")
    theirs_mode = pytest.importorskip("torch.utils.flop_counter").FlopCounterMode
    ours = counts(tapegrad, FlopCounterMode, make, shape, input_grad)
    theirs = counts(torch, theirs_mode, make, shape, input_grad)
    assert ours[0] == theirs[0]
    # PyTorch's conv backward is one op; and it takes a block's side branch for running until its backward ends
    assert sum(ours[1]["Global"].values()) == sum(theirs[1]["Global"].values())
    parts = [sum(c.values()) for module, c in ours[1].items() if module.count(".") == 1]
    assert sum(parts) == sum(ours[1]["Global"].values())


def test_flops_of_a_transformer_layer():
    torch = pytest.importorskip("torch")
    theirs_mode = pytest.importorskip("torch.utils.flop_counter").FlopCounterMode
    ours = counts(tapegrad, FlopCounterMode, transformer, (3, 5, 16), True)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        theirs = counts(torch, theirs_mode, transformer, (3, 5, 16), True)
    sums = [[sum(c["Global"].values()) for c in found] for found in (ours, theirs)]
    # flash attention, as we count it, computes the scores once more in backward
    assert sums[0] == [sums[1][0], sums[1][1] + 2 * 3 * 4 * 5 * 5 * 4]


@pytest.mark.parametrize("value_size", [8, 6])
def test_flops_of_attention(value_size):
    formulas = pytest.importorskip("torch.utils.flop_counter")
    shapes = (2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, value_size)
    q, k, v = (tapegrad.ones(*s, requires_grad=True) for s in shapes)
    with FlopCounterMode(display=False) as counter:
        out = tapegrad.nn.functional.scaled_dot_product_attention(q, k, v)
    name = "aten._scaled_dot_product_flash_attention"
    assert counter.get_flop_counts() == {"Global": {name: formulas.sdpa_flop_count(*shapes)}}
    with FlopCounterMode(display=False) as counter:
        out.sum().backward()
    expected = formulas.sdpa_backward_flop_count(tuple(out.shape), *shapes)
    assert counter.get_flop_counts() == {"Global": {name + "_backward": expected}}


PRODUCTS = {
    "mm": lambda t, a, b: t.mm(a[0], b[0]),
    "addmm": lambda t, a, b: t.addmm(t.ones(4), a[0], b[0]),
    "bmm": lambda t, a, b: t.bmm(a, b),
    "baddbmm": lambda t, a, b: t.baddbmm(t.ones(3, 2, 4), a, b),
    "matmul": lambda t, a, b: a @ b[0],
    "broadcast": lambda t, a, b: a[:, None] @ b[None],
    "einsum": lambda t, a, b: t.einsum("bij,bjk->bik", a, b),
    "conv1d": lambda t, a, b: t.nn.functional.conv1d(a, t.ones(6, 2, 3, requires_grad=True), padding=1),
    "conv3d": lambda t, a, b: t.nn.functional.conv3d(a[None, None], t.ones(2, 1, 2, 2, 2)),
    "conv_transpose1d": lambda t, a, b: t.nn.functional.conv_transpose1d(a, t.ones(2, 3, 3, requires_grad=True)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_flops_of_products(name):
    torch = pytest.importorskip("torch")
    theirs_mode = pytest.importorskip("torch.utils.flop_counter").FlopCounterMode
    found = []
    for library, mode in ((tapegrad, FlopCounterMode), (torch, theirs_mode)):
        a, b = (library.ones(*s, requires_grad=True) for s in ((3, 2, 5), (3, 5, 4)))
        with mode(display=False) as forward:
            out = PRODUCTS[name](library, a, b)
        with mode(display=False) as backward:
            out.sum().backward()
        found.append((forward.get_total_flops(), backward.get_total_flops()))
    assert found[0] == found[1]
    assert found[0][0] > 0


def test_flops_of_the_next_order():
    x = tapegrad.ones(2, 3, requires_grad=True)
    w = tapegrad.ones(3, 4, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        (g,) = tapegrad.autograd.grad(((x @ w) ** 2).sum(), x, create_graph=True)
        g.sum().backward()
    # x w; g w^T; of that g's gradients: to 2 (x w) and to w; of x w: to x and to w
    assert counter.get_total_flops() == 2 * 2 * 3 * 4 * 6


@pytest.mark.parametrize(("kind", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_flops_of_recurrent_layers(kind, gates):
    layer = getattr(tapegrad.nn, kind)(5, 7)
    with FlopCounterMode(display=False) as counter:
        out = layer(tapegrad.ones(4, 3, 5))[0]
    steps = 4 * 3 * 2 * gates * 7
    assert counter.get_total_flops() == steps * 5 + steps * 7
    with FlopCounterMode(display=False) as counter:
        out.sum().backward()
    assert counter.get_total_flops() == steps * 5 + 2 * steps * 7


def test_flops_by_formulas_of_ones_own(monkeypatch):
    monkeypatch.setattr("tapegrad.utils.flop_counter.flop_registry", {})
    with pytest.raises(RuntimeError, match="duplicate registrations for mm"):
        register_flop_formula("mm")(lambda *shapes, **_: 1)
    with pytest.raises(ValueError, match="no_such_op"):
        register_flop_formula("no_such_op")
    register_flop_formula([tapegrad.sinh, "cosh"])(lambda x, out_shape=None, **_: 3 * x[0] + out_shape[0])
    own = {tapegrad.exp: lambda x, **_: x[0]}
    with FlopCounterMode(display=False, custom_mapping=own) as counter:
        tapegrad.exp(tapegrad.ones(5)).sinh().cosh()
    assert counter.get_flop_counts() == {"Global": {"exp": 5, "sinh": 20, "cosh": 20}}


def test_table(capsys):
    with FlopCounterMode(depth=1) as counter:
        mlp(tapegrad)(tapegrad.ones(50, 7))
    assert capsys.readouterr().out == counter.get_table(1) + "\n"
    assert counter.get_table(1).splitlines() == [
        "Module            FLOP    % Total",
        "-------------  -------  ---------",
        "Sequential     11.000K    100.00%",
        " - aten.addmm   7.700K     70.00%",
        " - aten.mm      3.300K     30.00%",
    ]
    assert "Sequential.2" in counter.get_table(2)
    with FlopCounterMode(display=False) as counter:
        pass
    assert counter.get_table().splitlines()[-1].split() == ["Global", "0", "0%"]
    with pytest.warns(UserWarning, match="mods argument is not needed"):
        FlopCounterMode(mlp(tapegrad))


def test_only_the_own_thread_is_counted():
    with FlopCounterMode(display=False) as counter:
        thread = threading.Thread(target=lambda: tapegrad.ones(2, 2) @ tapegrad.ones(2, 2))
        thread.start()
        thread.join()
        assert counter.get_total_flops() == 0
        with FlopCounterMode(display=False) as inner:
            tapegrad.ones(2, 2) @ tapegrad.ones(2, 2)
    assert counter.get_total_flops() == inner.get_total_flops() == 16


def test_nothing_is_left_behind():
    x = tapegrad.ones(2, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="cannot be multiplied"), FlopCounterMode(display=False):
        y = mlp(tapegrad)(tapegrad.ones(1, 7))
        x @ x
        x @ tapegrad.ones(3, 3)
    kernels = [k for op in OPS.values() for k in op.kernels.values()]
    kernels += [k for raw in _raw.values() for k in vars(raw).values()]
    assert not [k for k in kernels if k.__class__ is watch._Watched]
    assert Raw.__getattr__ is watch._link_raw
    y.sum().backward()  # the nodes of the block go on
    assert watch._open == []


def test_module_tracker_in_backward():
    tracker = ModuleTracker()
    seen = []
    net = mlp(tapegrad)

    class Spy(tapegrad.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            seen.append((tracker.is_bw, tracker.parents))
            return g

    net[1].forward = Spy.apply
    with tracker:
        net(tapegrad.ones(2, 7)).sum().backward()
        assert tracker.parents == {"Global"}
    assert seen == [(True, {"Global", "Sequential", "Sequential.1"})]


# ---- summary


def test_rows_and_totals():
    found = tapegrad.utils.summary(lenet(tapegrad), tapegrad.ones(2, 1, 28, 28))
    assert [r.name for r in found.rows] == ["", *map(str, range(12))]
    first = found["0"]
    assert (first.class_name, first.depth, first.calls) == ("Conv2d", 1, 1)
    assert (first.input_shapes, first.output_shapes) == (((2, 1, 28, 28),), ((2, 6, 28, 28),))
    assert (first.parameters, first.parameter_bytes) == (156, 624)
    assert first.flops == 2 * 2 * 28 * 28 * 150
    assert first.activation_bytes == 4 * 2 * 6 * 28 * 28
    assert found["6"].activation_bytes == 0  # Flatten gives a view
    assert found.parameters == found.trainable == 61706
    assert found.flops == sum(r.flops for r in found.rows[1:])
    assert found.activation_bytes == sum(r.activation_bytes for r in found.rows[1:])
    assert found.saved_bytes == sum(r.saved_bytes for r in found.rows[1:])
    assert found.input_bytes == 4 * 2 * 28 * 28
    with pytest.raises(KeyError):
        found["99"]


def test_saved_is_what_the_nodes_hold():
    net = tapegrad.nn.Sequential(tapegrad.nn.Linear(3, 4), tapegrad.nn.Tanh(), tapegrad.nn.Linear(4, 2))
    found = tapegrad.utils.summary(net, tapegrad.ones(5, 3))
    assert [r.saved_bytes for r in found.rows] == [80, 0, 80, 0]  # tanh keeps its output; the last layer's input is it
    for p in net.parameters():
        p.requires_grad_(False)
    frozen = tapegrad.utils.summary(net, tapegrad.ones(5, 3))
    assert (frozen.saved_bytes, frozen.trainable, frozen.non_trainable) == (0, 0, 26)
    assert frozen.activation_bytes == found.activation_bytes > 0


def test_what_happens_outside_layers_is_the_parents():
    found = tapegrad.utils.summary(block(tapegrad), tapegrad.ones(2, 4, 8, 8))
    inside = sum(r.activation_bytes for r in found.rows if r.depth == 1)
    assert found.activation_bytes - inside == 4 * 2 * 8 * 4 * 4  # the sum's relu, the block's output
    assert found["down"].flops == found["down.0"].flops > 0


class Shared(tapegrad.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = tapegrad.nn.Embedding(10, 4)
        self.a = self.b = tapegrad.nn.Linear(4, 4)
        self.out = tapegrad.nn.Linear(4, 10, bias=False)
        self.out.weight = self.embed.weight
        self.unused = tapegrad.nn.Linear(2, 2)
        self.unused.weight.requires_grad_(False)

    def forward(self, tokens, *, scale=1.0):
        return {"logits": self.out(self.b(self.a(self.embed(tokens)))) * scale}


def test_shared_parameters_and_modules():
    net = Shared()
    tokens = tapegrad.zeros(3, 5, dtype=tapegrad.int64)
    found = tapegrad.utils.summary(net, {"tokens": tokens, "scale": 2.0})
    assert found.parameters == sum(p.numel() for p in net.parameters()) == 40 + 20 + 6
    assert found.trainable == 62
    assert (found["out"].parameters, found["out"].shared) == (40, 40)
    assert found["embed"].shared == 0
    assert (found["a"].calls, found["a"].flops) == (2, 2 * 2 * 15 * 16)
    assert found["b"].same_as == "a"
    assert found["unused"].calls == 0
    assert (found[""].input_shapes, found[""].output_shapes) == (((3, 5),), ((3, 5, 10),))
    lines = str(found).splitlines()
    assert {len(line) for line in lines if "(" in line and ":" not in line} == {120}
    assert "40*" in str(found) and "6!" in str(found) and "same as a" in str(found) and "not called" in str(found)
    assert "a (Linear) x2" in str(found)


def test_model_and_generator_are_as_before():
    net = tapegrad.nn.Sequential(tapegrad.nn.BatchNorm1d(3), tapegrad.nn.Dropout(), tapegrad.nn.Linear(3, 2))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = tapegrad.get_rng_state()
    with tapegrad.no_grad():
        found = tapegrad.utils.summary(net, tapegrad.randn(4, 3, generator=tapegrad.Generator().manual_seed(0)))
    assert found.saved_bytes > 0
    assert net.training and all(p.grad is None for p in net.parameters())
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name].numpy())
    assert tapegrad.equal(tapegrad.get_rng_state(), state)
    assert not net[0]._forward_hooks
    with pytest.raises(RuntimeError):
        tapegrad.utils.summary(net, tapegrad.ones(4, 5))
    assert watch._open == []


def test_as_data_and_as_text():
    found = tapegrad.utils.summary.summary(lenet(tapegrad), [tapegrad.ones(1, 1, 28, 28)], width=110, depth=0)
    data = json.loads(json.dumps(found.to_dict()))
    assert data["rows"][1]["name"] == "0" and data["rows"][1]["output_shapes"] == [[1, 6, 28, 28]]
    assert data["parameters"] == 61706 and data["non_trainable"] == 0
    lines = str(found).splitlines()
    assert max(map(len, lines)) == 110 and len([line for line in lines if "Conv2d" in line]) == 0
    with pytest.raises(TypeError, match="expects an nn.Module, but got int"):
        tapegrad.utils.summary(3, tapegrad.ones(1))


def test_a_shape_or_a_lazy_model_is_refused():
    with pytest.raises(TypeError, match=r"not a shape: summary\(model, torch.zeros\(1, 3\)\)"):
        tapegrad.utils.summary(tapegrad.nn.Linear(3, 2), (1, 3))
    lazy = tapegrad.nn.LazyLinear(2)
    with pytest.raises(ValueError, match="not made yet"):
        tapegrad.utils.summary(lazy, tapegrad.zeros(1, 3))
    lazy(tapegrad.zeros(1, 3))
    assert tapegrad.utils.summary(lazy, tapegrad.zeros(1, 3)).parameters == 8
