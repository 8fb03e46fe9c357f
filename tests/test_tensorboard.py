"""TensorBoard's files, written with tensors and read back: by TensorBoard's own reader where it is installed."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest
import tapegrad as torch
from tapegrad import nn

pytest.importorskip("tensorboardX")
SummaryWriter = torch.utils.tensorboard.SummaryWriter


def events(folder):
    """The Event messages of a folder's files, read by their published form: length, checksum, message, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return found


def values(folder):
    return {v.tag: (e.step, v) for e in events(folder) for v in e.summary.value}


def graph(folder):
    from tensorboardX.proto.graph_pb2 import GraphDef

    (message,) = [e.graph_def for e in events(folder) if e.graph_def]
    return {node.name: node for node in GraphDef.FromString(message).node}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.head = nn.Linear(8, 2)
        self.unused = nn.Linear(3, 3)

    def forward(self, image, scale=1.0):
        h = self.body(image)
        low, high = self.head(h).split(1, dim=1)
        return {"logits": torch.cat([high, low], 1) * scale, "again": self.head(h)}


def test_numbers_and_media(tmp_path):
    """Tensors of any kind as scalars, histograms, images, embeddings, hyperparameters, curves, text."""
    p = nn.Parameter(torch.tensor([0.5]))
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("loss", torch.tensor(0.25, requires_grad=True) * 2, 3)
        writer.add_scalar("parameter", p, 4)
        writer.add_scalars("both", {"a": torch.tensor(1.0), "b": 2.0}, 1)
        writer.add_histogram("weights", torch.arange(100.0), 2, bins=10)
        writer.add_histogram("half", torch.arange(4, dtype=torch.bfloat16), 0)
        writer.add_image("image", torch.rand(3, 4, 5), 0)
        writer.add_images("images", torch.zeros(2, 3, 4, 5, dtype=torch.uint8), 0)
        writer.add_text("note", "text", 0)
        writer.add_pr_curve("curve", torch.tensor([0, 1, 1]), torch.tensor([0.2, 0.9, 0.4]), 0)
        vectors = torch.arange(6.0).reshape(3, 2)
        writer.add_embedding(vectors, metadata=["x", "y", "z"], label_img=torch.rand(3, 3, 4, 4), tag="points")
        writer.add_hparams({"lr": torch.tensor(0.5), "name": "sgd"}, {"accuracy": torch.tensor(0.75)}, name="run")
    found = values(tmp_path)
    assert found["loss"][0] == 3 and found["loss"][1].simple_value == 0.5
    assert found["parameter"][1].simple_value == 0.5 and found["accuracy"][1].simple_value == 0.75
    histogram = found["weights"][1].histo
    assert (histogram.num, histogram.min, histogram.max, histogram.sum) == (100, 0, 99, 4950)
    assert found["half"][1].histo.sum == 6
    image = found["image"][1].image
    assert (image.height, image.width) == (4, 5) and image.encoded_image_string[1:4] == b"PNG"
    assert found["images"][1].image.width == 10
    (table,) = tmp_path.rglob("tensors.tsv")
    np.testing.assert_array_equal(np.loadtxt(table), vectors.numpy())
    assert any("_hparams_/session_start_info" in tag for tag in found)


def test_the_graph_of_a_model(tmp_path, capsys):
    """Ops in the scopes of their modules, a module's second call apart, names and shapes; the model is as it was."""
    net = Net()
    before = {name: b.clone() for name, b in net.named_buffers()}
    image, state = torch.rand(3, 4), torch.get_rng_state()
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_graph(net, {"image": image, "scale": 2.0})
    assert all(torch.equal(b, before[name]) for name, b in net.named_buffers())
    assert torch.equal(torch.get_rng_state(), state) and net.training and capsys.readouterr().out == ""
    nodes = graph(tmp_path)
    assert not [name for name in nodes if "unused" in name]
    assert {name for name in nodes if name.startswith("Net/Sequential[body]/Linear[0]/")} == {
        f"Net/Sequential[body]/Linear[0]/{part}" for part in ("weight", "bias", "linear")
    }
    linear = nodes["Net/Sequential[body]/Linear[0]/linear"]
    assert list(linear.input) == [
        "input/image", "Net/Sequential[body]/Linear[0]/weight", "Net/Sequential[body]/Linear[0]/bias"
    ]  # fmt: skip
    assert linear.op == "linear" and linear.attr["dtype"].s == b"float32"
    assert [d.size for d in linear.attr["_output_shapes"].list.shape[0].dim] == [3, 8]
    assert nodes["Net/Linear[head]/weight"].op == "Parameter" and nodes["input/image"].op == "IO Node"
    assert nodes["Net/Linear[head]/weight"].attr["name"].s == b"head.weight"
    assert "Net/Linear[head]_1/linear" in nodes and "Net/Linear[head]_1/weight" not in nodes
    assert list(nodes["output/again"].input) == ["Net/Linear[head]_1/linear"]
    assert list(nodes["Net/cat"].input) == ["Net/split:1", "Net/split"]
    assert list(nodes["Net/Sequential[body]/Dropout[3]/mul"].input)[0] == "Net/Sequential[body]/ReLU[2]/relu"
    known = set(nodes)
    assert all(i.partition(":")[0] in known for node in nodes.values() for i in node.input)


@pytest.mark.parametrize("kind", ["encoder", "lstm"])
def test_graphs_of_other_models(tmp_path, kind):
    """Everything leads from the inputs and parameters to the outputs, also of fused layers."""
    make = {"encoder": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), "lstm": lambda: nn.LSTM(8, 4, 2)}
    model = make[kind]()
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_graph(model, (torch.rand(2, 3, 8),))
    nodes = graph(tmp_path)
    shown = {node.attr["name"].s.decode() for node in nodes.values() if node.op == "Parameter"}
    assert shown == {name for name, _ in model.named_parameters()}
    assert sum(name.startswith("output/") for name in nodes) == (3 if kind == "lstm" else 1)


def test_tensorboard_reads_it(tmp_path):
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with SummaryWriter(log_dir=str(tmp_path)) as writer:
        writer.add_graph(Net(), torch.rand(3, 4))
        for step in range(3):
            writer.add_scalar("loss", torch.tensor(1.0 / (step + 1)), step)
        writer.add_histogram("weights", torch.randn(50), 0)
    reader = module.EventAccumulator(str(tmp_path))
    reader.Reload()
    assert [(e.step, e.value) for e in reader.Scalars("loss")] == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert reader.Tags()["histograms"] == ["weights"] and reader.Tags()["graph"] is True
    assert {node.name for node in reader.Graph().node} == set(graph(tmp_path))


def test_bad_input(tmp_path, monkeypatch):
    with SummaryWriter(str(tmp_path)) as writer:
        with pytest.raises(TypeError, match=r"add_graph expects an nn.Module, but got function"):
            writer.add_graph(torch.relu, torch.ones(2))
        with pytest.raises(TypeError, match="add_graph needs input_to_model"):
            writer.add_graph(Net())
    assert not [e for e in events(tmp_path) if e.graph_def]
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.delitem(vars(torch.utils.tensorboard), "SummaryWriter", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'tapegrad\[tensorboard\]'"):
        _ = torch.utils.tensorboard.SummaryWriter
