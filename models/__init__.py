"""Models whose weights others trained, in the layout of the Hugging Face hub (a folder of config.json, weights, ...).

    from_pretrained(folder)          the model that its config.json names
    BertModel.from_pretrained(...)   one class of it
    Tokenizer.from_pretrained(...)   text to numbers and back

An extra: `pip install 'tapegrad[models]'` (safetensors and tokenizers). Each module is loaded when it is named.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

# module -> public names; a model's class is named in config.json ("architectures")
_NAMES = {
    "bert": "BertConfig BertForMaskedLM BertForSequenceClassification BertModel",
    "cache": "KVCache",
    "configuration": "PretrainedConfig",
    "generation": "GenerationConfig GenerationMixin TextIteratorStreamer TextStreamer text_pieces",
    "gpt2": "GPT2Config GPT2LMHeadModel GPT2Model",
    "llama": (
        "LlamaConfig LlamaForCausalLM LlamaModel MistralConfig MistralForCausalLM MistralModel Qwen2Config "
        "Qwen2ForCausalLM Qwen2Model"
    ),
    "image": "ImageProcessor",
    "outputs": "ModelOutput",
    "pretrained": "PretrainedModel",
    "resnet": "ResNetConfig ResNetForImageClassification ResNetModel",
    "sentence": "SentenceEncoder",
    "tokenizer": "Tokenizer",
    "vit": "ViTConfig ViTForImageClassification ViTModel",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}
# model_type in config.json -> the class, where "architectures" names none that is known
_BY_TYPE: dict[str, str] = {
    "bert": "BertModel",
    "resnet": "ResNetModel",
    "vit": "ViTModel",
    "gpt2": "GPT2Model",
    "llama": "LlamaModel",
    "mistral": "MistralModel",
    "qwen2": "Qwen2Model",
}

__all__ = ["from_pretrained", *_MODULE_OF]


def from_pretrained(folder: Any, **kwargs: Any) -> Any:
    """The model in a folder: of the class that its config.json names under "architectures", else by "model_type".

    Args:
        folder: config.json and weights.
        kwargs: those of `PretrainedModel.from_pretrained`: dtype, device, strict, ...

    Raises ValueError for a family or a head that is not implemented, and what `PretrainedModel.from_pretrained` raises.
    """
    return _class_of(folder, heads=True).from_pretrained(folder, **kwargs)


def base_class(folder: Any) -> Any:
    """The class of the model in a folder without its head: `BertModel` for every BERT."""
    return _class_of(folder, heads=False)


def _class_of(folder: Any, heads: bool) -> Any:
    from .configuration import read_config

    config = read_config(folder)
    architectures = (config.get("architectures") or ()) if heads else ()
    named = [name for name in architectures if name in _MODULE_OF]
    name = named[0] if named else _BY_TYPE.get(config.get("model_type", ""))
    if architectures and name is not None and not named:  # else its head would be dropped without a word
        family = [each for each in _NAMES[_MODULE_OF[name]].split() if not each.endswith("Config")]
        raise ValueError(
            f"{os.fspath(folder)}: config.json names {', '.join(architectures)}, which is not implemented; of this "
            f"family are {', '.join(family)}. models.{name}.from_pretrained(folder) reads it without its head."
        )
    if name is None:
        raise ValueError(
            f"{os.fspath(folder)}: config.json says architectures={config.get('architectures')} and "
            f"model_type={config.get('model_type')!r}; implemented are {', '.join(sorted(_BY_TYPE))}"
        )
    return __getattr__(name)


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
