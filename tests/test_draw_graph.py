"""Pictures of graphs: their structure, read back from the text, and what is drawn of real modules."""

from __future__ import annotations

import importlib.util
import re
import shutil

import pytest
import tapegrad
from library import ROOT
from tapegrad import nn
from tapegrad.autograd import inplace
from tapegrad.utils.graph_tracing import trace
from tapegrad.utils.module_tracker import ModuleTracker

graphviz = pytest.importorskip("graphviz")
draw_graph = tapegrad.utils.draw_graph

NODE = re.compile(r'^\s*(\d+) \[label=(?:"(.*?)"|(\S+)) fillcolor=(\w+) shape=(\w+)\]', re.MULTILINE | re.DOTALL)
EDGE = re.compile(r"^\s*(\d+) -> (\d+)(?: \[(.*?)\])?$", re.MULTILINE)
CLUSTER = re.compile(r'subgraph cluster_\d+ \{\s*color=gray60 label=(?:"(.*?)"|(\S+))')


def read(picture):
    """({(from, to, options)} by labels on one line, {label: colour}, cluster titles) of a picture."""
    labels, colours = {}, {}
    for number, quoted, plain, colour, _ in NODE.findall(picture.source):
        labels[number] = (quoted or plain).replace("\n", " ")
        colours[labels[number]] = colour
    edges = sorted((labels[a], labels[b], options) for a, b, options in EDGE.findall(picture.source))
    return edges, colours, [quoted or plain for quoted, plain in CLUSTER.findall(picture.source)]


class Block(nn.Module):
    def __init__(self, width, out, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.down = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.down(x)
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.layers = nn.Sequential(*[Block(4, 4, 1) for _ in range(4)])
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.pool(self.layers(self.stem(x))).flatten(1))


def test_a_recorded_graph():
    """Every node, leaf and output with its colour; shapes on arrows; what is saved; nothing else."""
    x = tapegrad.ones(4, 3)
    w, b = tapegrad.ones(3, requires_grad=True), tapegrad.zeros(3, requires_grad=True)
    y = (x * w + b).relu().sum()
    plain = draw_graph(y, {"w": w})
    edges, colours, clusters = read(plain)
    assert isinstance(plain, graphviz.Digraph) and clusters == []
    assert edges == sorted([
        ("w (3)", "MulBackward0", ""), ("(3)", "AddBackward0", ""),
        ("MulBackward0", "AddBackward0", 'label="(4, 3)"'), ("AddBackward0", "ReluBackward0", 'label="(4, 3)"'),
        ("ReluBackward0", "SumBackward0", 'label="(4, 3)"'), ("SumBackward0", "output ()", ""),
    ])  # fmt: skip
    assert colours["w (3)"] == colours["(3)"] == "lightblue" and colours["output ()"] == "darkolivegreen2"
    saved = read(draw_graph({"loss": y}, {"w": w}, show_saved=True))
    more = {("x (4, 3)", "MulBackward0", "style=dashed"), ("out (4, 3)", "ReluBackward0", "style=dashed")}
    assert {e for e in saved[0] if e not in edges} == more | {("SumBackward0", "loss ()", "")}
    assert saved[1]["x (4, 3)"] == "orange"
    assert "rankdir=LR" in draw_graph(y, rankdir="LR").source


def test_nodes_with_several_outputs_and_inputs():
    x = tapegrad.ones(4, requires_grad=True)
    low, high = x.split(2)
    values, _ = tapegrad.sort(tapegrad.cat([low * high, high]))
    edges = read(draw_graph([values, low]))[0]
    assert ("SplitBackward0", "output.1 (2)", "") in edges and ("SortBackward0", "output.0 (4)", "") in edges
    assert [e[:2] for e in edges if e[0] == "SplitBackward0" and e[1] == "CatBackward0"] == [
        ("SplitBackward0", "CatBackward0")
    ]


def test_modules_of_a_recorded_graph():
    """With a ModuleTracker open nodes stand in their modules, which can be drawn as one box each."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.GELU(), nn.Linear(4, 2)))
    with ModuleTracker():
        y = net(tapegrad.ones(5, 3)).sum()
    params = dict(net.named_parameters())
    _, _, clusters = read(draw_graph(y, params, collapse=False))
    assert clusters == ["Sequential", "0 (Linear)", "1 (Sequential)", "1.0 (GELU)", "1.1 (Linear)"]
    edges, colours, _ = read(draw_graph(y, params, collapse=1))
    assert ("0 (Linear)", "1 (Sequential)", 'label="(5, 4)"') in edges
    assert ("1 (Sequential)", "SumBackward0", 'label="(5, 2)"') in edges
    assert colours["1 (Sequential)"] == "honeydew" and colours["0.weight (4, 3)"] == "lightblue"


def test_the_forward_of_a_module():
    """Inputs by their names, parameters in the cluster of their module, shapes on every arrow between ops."""
    edges, colours, clusters = read(draw_graph(ResNet(), inputs={"x": tapegrad.ones(1, 3, 8, 8)}, collapse=False))
    assert colours["x (1, 3, 8, 8)"] == "lightgoldenrod1"
    assert clusters[:5] == ["ResNet", "stem (Sequential)", "stem.0 (Conv2d)", "stem.1 (BatchNorm2d)", "stem.2 (ReLU)"]
    assert ("x (1, 3, 8, 8)", "conv", "") in edges and ("stem.0.weight (4, 3, 3, 3)", "conv", "") in edges
    assert ("batch_norm", "relu", 'label="(1, 4, 6, 6)"') in edges
    assert ("relu", "conv", 'label="(1, 4, 6, 6)"') in edges  # the in-place one between them is not passed over
    assert ("view", "linear", 'label="(1, 4)"') in edges and ("linear", "output (1, 2)", 'label="(1, 2)"') in edges


def test_big_graphs_are_drawn_by_modules():
    model, x = ResNet(), tapegrad.ones(1, 3, 8, 8)
    edges, colours, clusters = read(draw_graph(model, inputs=x))
    assert len(colours) <= 60 and "layers.0.conv1 (Conv2d)" in colours and "layers.3 (Block)" in clusters
    assert ("layers.0.relu (ReLU)", "layers.1.conv1 (Conv2d)", 'label="(1, 4, 6, 6)"') in edges
    edges, colours, _ = read(draw_graph(model, inputs=x, collapse=1))
    assert [e[:2] for e in edges] == [
        ("fc (Linear)", "output (1, 2)"), ("layers (Sequential)", "pool (AdaptiveAvgPool2d)"),
        ("pool (AdaptiveAvgPool2d)", "view"), ("stem (Sequential)", "layers (Sequential)"),
        ("view", "fc (Linear)"), ("x (1, 3, 8, 8)", "stem (Sequential)"),
    ]  # fmt: skip
    many = tapegrad.ones(1, requires_grad=True)
    y = many
    for _ in range(2000):
        y = y + 1.0
    with pytest.raises(ValueError, match="2002 boxes are too many for a picture.*collapse=1"):
        draw_graph(y)


@pytest.mark.parametrize("grad", [True, False])
def test_what_is_traced(grad):
    """Of an encoder and an LSTM: every op's inputs are known, recorded or not, fused or not."""
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    lstm = nn.LSTM(8, 4, batch_first=True)
    with tapegrad.set_grad_enabled(grad):
        steps = trace(encoder, (tapegrad.ones(2, 3, 8),)).to_outputs()
        assert not steps.of("constant") and len(steps.of("parameter")) == len(list(encoder.parameters()))
        steps = trace(lstm, (tapegrad.ones(2, 3, 8),)).to_outputs()
        assert len(steps.of("parameter")) == 4
        assert [s.name for s in steps.of("output")] == ["output.0", "output.1.0", "output.1.1"]
        assert steps.of("output")[0].inputs[0][0].name == "transpose"


def test_in_place_writes_are_steps():
    """Direct ones, functions, methods, through a view; who reads afterwards reads what they wrote."""

    def program(x):
        y = x.clone()
        y.add_(1.0)
        tapegrad.relu_(y)
        y[0] = 5.0
        y[1].mul_(x[1])
        return y * 2

    before = dict(vars(tapegrad.Tensor)), inplace.assign
    ops = trace(program, (tapegrad.zeros(3),)).to_outputs().of("op")
    assert (dict(vars(tapegrad.Tensor)), inplace.assign) == before
    assert [s.name for s in ops] == ["clone", "add_", "relu", "index_put_", "select", "select", "mul_", "mul"]
    inputs = {s.name: [source.name for source, _ in s.inputs] for s in ops}
    assert inputs["relu"] == ["add_"] and inputs["index_put_"] == ["relu"] and inputs["mul"] == ["mul_"]


def test_bad_input(monkeypatch):
    with pytest.raises(ValueError, match=r"output has no history \(requires_grad=False\).*why_no_grad"):
        draw_graph(tapegrad.ones(2))
    with pytest.raises(TypeError, match="expects a tensor.*but got Linear; give inputs="):
        draw_graph(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="with inputs, expected a module or a function, but got Tensor"):
        draw_graph(tapegrad.ones(2, requires_grad=True), inputs=tapegrad.ones(2))
    picture = draw_graph(tapegrad.ones(2, requires_grad=True).sum())
    monkeypatch.setenv("PATH", "")
    with pytest.raises(graphviz.ExecutableNotFound, match="dot"):
        picture.pipe(format="svg")
    monkeypatch.setitem(__import__("sys").modules, "graphviz", None)
    with pytest.raises(ImportError, match=r"pip install 'tapegrad\[graph\]'"):
        draw_graph(tapegrad.ones(2, requires_grad=True))


@pytest.mark.skipif(shutil.which("dot") is None, reason="the program dot is not installed")
def test_rendering():
    """The pictures of the documentation are those that its script draws, but for where dot puts things."""
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    texts = lambda svg: re.findall(r"<text[^>]*>(.*?)</text>", svg)  # noqa: E731
    for name, draw in pictures.PICTURES.items():
        kept = (pictures.FOLDER / f"{name}.svg").read_text("utf-8")
        assert texts(pictures.svg(draw())) == texts(kept) and kept.count("<text") > 5, f"run docs/pictures.py: {name}"
    assert draw_graph(tapegrad.ones(2, requires_grad=True).sum()).pipe(format="png")[1:4] == b"PNG"
