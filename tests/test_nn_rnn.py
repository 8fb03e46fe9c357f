"""Recurrent layers beside PyTorch: values, gradients, dropout's masks, packed batches; closed forms without it."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tapegrad
from test_training_torch import draws_as_torch


@pytest.fixture
def torch() -> Iterator[Any]:
    module = pytest.importorskip("torch")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


def leaves(value: Any) -> list[Any]:
    if isinstance(value, tuple):
        found = []
        for item in value:
            found += leaves(item)
        return found
    return [] if value is None else [value]


LAYERS = [
    "RNN(3, 4)",
    "RNN(3, 4, 2, 'relu', False)",
    "RNN(3, 4, 2, batch_first=True, bidirectional=True, dropout=0.5)",
    "LSTM(3, 4)",
    "LSTM(3, 4, 2, bias=False, batch_first=True)",
    "LSTM(3, 4, num_layers=3, bidirectional=True, dropout=0.3)",
    "LSTM(3, 5, 2, proj_size=2)",
    "LSTM(3, 5, 2, proj_size=2, bidirectional=True, bias=False)",
    "GRU(3, 4)",
    "GRU(3, 4, 2, bias=False)",
    "GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True, dropout=0.4)",
]


def states_of(library: Any, layer: Any, batch: int) -> Any:
    """First states, drawn from a fixed stream."""
    rng = np.random.default_rng(1)
    count = layer.num_layers * (2 if layer.bidirectional else 1)

    def draw(width: int) -> Any:
        return library.tensor(rng.normal(size=(count, batch, width)), requires_grad=True)

    if layer.mode == "LSTM":
        return draw(layer.proj_size or layer.hidden_size), draw(layer.hidden_size)
    return draw(layer.hidden_size)


def results(library: Any, text: str, kind: str, train: bool) -> list[Any]:
    """Outputs, and gradients of inputs, states and parameters, of one call in float64."""
    library.manual_seed(4)
    layer = eval(f"nn.{text}", {"nn": library.nn}).double().train(train)
    rng = np.random.default_rng(0)
    rnn = library.nn.utils.rnn
    x = library.tensor(rng.normal(size=(3, 6, 3) if layer.batch_first else (6, 3, 3)), requires_grad=True)
    given: Any = states_of(library, layer, 3)
    if kind == "packed":
        call = rnn.pack_padded_sequence(x, library.tensor([4, 6, 2]), layer.batch_first, enforce_sorted=False)
        out, final = layer(call, given)
        out = out.data
    elif kind == "single":
        y = (x[0] if layer.batch_first else x[:, 0]) * 1
        first = tuple(s[:, 0] for s in given) if isinstance(given, tuple) else given[:, 0]
        out, final = layer(y, first)
    elif kind == "no state":
        out, final = layer(x)
        given = ()
    else:
        out, final = layer(x, given)
    outputs = leaves((out, final))
    total: Any = 0
    for k, o in enumerate(outputs):
        weight = library.arange(1, o.numel() + 1, dtype=library.float64).reshape(o.shape) * 0.1 - k - 0.5
        total = total + (o * weight).sum()
    total.backward()
    inputs = [x, *leaves(given), *layer.parameters()]
    return [*(o.detach().numpy() for o in outputs), *(t.grad.numpy() for t in inputs)]


@pytest.mark.parametrize("text", LAYERS)
@pytest.mark.parametrize("kind", ["batch", "packed", "single", "no state"])
def test_layers_equal_torch(torch: Any, text: str, kind: str) -> None:
    for found, expected in zip(results(tapegrad, text, kind, False), results(torch, text, kind, False), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("text", [t for t in LAYERS if "dropout" in t])
@pytest.mark.parametrize("kind", ["batch", "packed"])
def test_dropout_draws_the_masks_of_torch(torch: Any, text: str, kind: str) -> None:
    if not draws_as_torch():
        pytest.skip("torch draws dropout masks from MKL on Intel processors")
    for found, expected in zip(results(tapegrad, text, kind, True), results(torch, text, kind, True), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("text", LAYERS + ["RNNCell(3, 4, nonlinearity='relu')", "LSTMCell(3, 4, False)"])
def test_first_weights_names_and_repr(torch: Any, text: str) -> None:
    made = []
    for library in (tapegrad, torch):
        library.manual_seed(7)
        made.append(eval(f"nn.{text}", {"nn": library.nn}))
    assert repr(made[0]) == repr(made[1])
    assert list(made[0].state_dict()) == list(made[1].state_dict())
    for name, value in made[1].state_dict().items():
        np.testing.assert_array_equal(made[0].state_dict()[name].numpy(), value.numpy())
    if "Cell" not in text:
        assert made[0]._all_weights == made[1]._all_weights
        assert [len(w) for w in made[0].all_weights] == [len(w) for w in made[1].all_weights]
        assert made[0]._flat_weights[0] is made[0].weight_ih_l0


CELLS = ["RNNCell(3, 4)", "RNNCell(3, 4, False, 'relu')", "LSTMCell(3, 4)", "LSTMCell(3, 4, False)", "GRUCell(3, 4)"]


@pytest.mark.parametrize("text", CELLS)
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("with_state", [True, False])
def test_cells_equal_torch(torch: Any, text: str, batched: bool, with_state: bool) -> None:
    found = []
    for library in (tapegrad, torch):
        library.manual_seed(4)
        rng = np.random.default_rng(2)
        cell = eval(f"nn.{text}", {"nn": library.nn}).double()
        lead = (2,) if batched else ()
        x = library.tensor(rng.normal(size=(*lead, 3)), requires_grad=True)
        state: Any = library.tensor(rng.normal(size=(*lead, 4)), requires_grad=True)
        state = (state, state * 0.5) if "LSTM" in text else state
        out = cell(x, state) if with_state else cell(x)
        outs = leaves(out) if isinstance(out, tuple) else [out]
        sum((o * o * (k + 1)).sum() for k, o in enumerate(outs)).backward()
        grads = [x.grad, *[p.grad for p in cell.parameters() if p.grad is not None]]
        found.append([t.detach().numpy() for t in outs + grads])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("text", ["LSTM(2, 3, 2, bidirectional=True, proj_size=2)", "GRU(2, 3, 2)", "RNN(2, 3)"])
def test_second_gradients(torch: Any, text: str) -> None:
    """A gradient penalty through the sequence."""
    found = []
    for library in (tapegrad, torch):
        library.manual_seed(4)
        layer = eval(f"nn.{text}", {"nn": library.nn}).double()
        x = library.tensor(np.random.default_rng(0).normal(size=(4, 2, 2)), requires_grad=True)
        out, _ = layer(x)
        (slope,) = library.autograd.grad((out * out).sum(), x, create_graph=True)
        (slope * slope).sum().backward()
        found.append([x.grad.numpy(), *[p.grad.numpy() for p in layer.parameters()]])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


WRONG = [
    "nn.LSTM(3, 4, dropout=1.5)", "nn.LSTM(3, 4, dropout=True)", "nn.LSTM(3, 0)", "nn.LSTM(0, 4)", "nn.LSTM(3, 4.0)",
    "nn.LSTM(3.0, 4)", "nn.LSTM(3, 4, 0)", "nn.LSTM(3, 4, bias=1)", "nn.LSTM(3, 4, batch_first=1)",
    "nn.LSTM(3, 4, proj_size=4)", "nn.LSTM(3, 4, proj_size=-1)", "nn.GRU(3, 4, proj_size=2)",
    "nn.RNN(3, 4, proj_size=2)",
    "nn.RNN(3, 4, nonlinearity='sigmoid')", "nn.RNNBase('other', 3, 4)",
    *[f"nn.{name}(3, 4)(t.zeros(3))" for name in ("RNN", "LSTM", "GRU")],
    *[f"nn.{name}(3, 4)(t.zeros(2, 2, 2, 3))" for name in ("RNN", "LSTM", "GRU")],
    *[f"nn.{name}(3, 4)(t.zeros(2, 2, 5))" for name in ("RNN", "LSTM", "GRU")],
    *[f"nn.{name}(3, 4)(t.zeros(2, 2, 3).double())" for name in ("RNN", "LSTM", "GRU")],
    "nn.GRU(3, 4)(t.zeros(2, 2, 3), t.zeros(2, 4))", "nn.GRU(3, 4)(t.zeros(2, 3), t.zeros(1, 2, 4))",
    "nn.GRU(3, 4)(t.zeros(2, 2, 3), t.zeros(1, 2, 5))", "nn.RNN(3, 4)(t.zeros(2, 2, 3), t.zeros(2, 2, 4))",
    "nn.LSTM(3, 4)(t.zeros(2, 2, 3), (t.zeros(1, 4), t.zeros(1, 4)))",
    "nn.LSTM(3, 4)(t.zeros(2, 3), (t.zeros(1, 1, 4), t.zeros(1, 1, 4)))",
    "nn.LSTM(3, 4)(t.zeros(2, 2, 3), (t.zeros(1, 2, 5), t.zeros(1, 2, 4)))",
    "nn.LSTM(3, 4)(t.zeros(2, 2, 3), (t.zeros(1, 2, 4), t.zeros(1, 2, 5)))", "nn.GRU(3, 4)(t.zeros(0, 2, 3))",
    "nn.RNNCell(3, 4)(t.zeros(1, 1, 3))", "nn.RNNCell(3, 4)(t.zeros(2, 3), t.zeros(1, 1, 4))",
    "nn.LSTMCell(3, 4)(t.zeros(2, 3), (t.zeros(2, 4), t.zeros(1, 1, 4)))", "nn.GRUCell(3, 4)(t.zeros(2, 5))",
    "nn.GRUCell(3, 4)(t.zeros(2, 3), t.zeros(3, 4))", "nn.GRUCell(3, 4)(t.zeros(2, 3), t.zeros(2, 5))",
    "nn.RNNCell(3, 4, nonlinearity='other')(t.zeros(2, 3))",
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_errors_are_those_of_torch(torch: Any, text: str) -> None:
    errors = []
    for library in (tapegrad, torch):
        with pytest.raises(Exception) as caught, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            eval(text, {"nn": library.nn, "t": library})
        errors.append(caught.value)
    assert type(errors[0]) is type(errors[1]), errors
    assert str(errors[0]).startswith(str(errors[1])[:200]), errors


def test_dropout_of_a_single_layer_warns() -> None:
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last recurrent layer"):
        tapegrad.nn.GRU(3, 4, dropout=0.5)


def test_an_integrator_and_a_memory() -> None:
    """Closed forms: a recurrence that sums its input, and a cell whose gates are open."""
    rnn = tapegrad.nn.RNN(1, 1, nonlinearity="relu", bias=False)
    with tapegrad.no_grad():
        for p in rnn.parameters():
            p.fill_(1.0)
    out, last = rnn(tapegrad.ones(5, 2, 1))
    np.testing.assert_array_equal(out[:, 0, 0].detach().numpy(), [1, 2, 3, 4, 5])
    assert last.tolist() == [[[5.0], [5.0]]]
    cell = tapegrad.nn.LSTMCell(1, 1)
    with tapegrad.no_grad():
        for p in cell.parameters():
            p.zero_()
        cell.bias_ih.copy_(tapegrad.tensor([50.0, 50.0, 50.0, 50.0]))
    h, c = cell(tapegrad.zeros(1, 1), (tapegrad.zeros(1, 1), tapegrad.full((1, 1), 2.0)))
    assert c.item() == pytest.approx(3.0) and h.item() == pytest.approx(math.tanh(3.0))


def test_copies_and_flatten_parameters() -> None:
    layer = tapegrad.nn.LSTM(2, 3, 2)
    layer.flatten_parameters()
    twin = copy.deepcopy(layer)
    x = tapegrad.ones(4, 1, 2)
    np.testing.assert_array_equal(twin(x)[0].detach().numpy(), layer(x)[0].detach().numpy())
    twin.load_state_dict(tapegrad.nn.LSTM(2, 3, 2).state_dict())
    assert not np.array_equal(twin(x)[0].detach().numpy(), layer(x)[0].detach().numpy())
