"""Models whose weights others trained: the base of them all, which reads and writes checkpoints.

The layout is that of the Hugging Face hub. Parameters have the names that they have in the files, so there are no
tables between the two: a class here is the same tree of modules.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from ..autograd.dtypes import by_name
from ..autograd.dtypes import dtype as _dtype
from ..autograd.modes import no_grad
from ..autograd.tensor import Tensor
from ..nn import Module, init
from .configuration import PretrainedConfig, read_json
from .layers import Conv2d, Embedding, Linear, initialising, skip_initialisation

__all__ = ["PretrainedModel"]

_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_LISTED = 20  # keys that an error spells out, of each kind


class PretrainedModel(Module):
    """A model with a configuration and named weights.

    Class attributes of a subclass:
        Config: its configuration, a dataclass below `PretrainedConfig`.
        prefix: the name of the part without a head ("bert"): checkpoints with and without it are read.
        tied: name -> name of the tensor that it is, where the configuration says `tie_word_embeddings`.
        ignored: patterns (searched for) of keys that old files have and that are not parameters.
        renamed: pattern -> replacement, for names that changed over the years.

    The constructor takes the configuration; at its end it calls `post_init`.
    """

    Config: ClassVar[type[PretrainedConfig]] = PretrainedConfig
    prefix: ClassVar[str] = ""
    tied: ClassVar[Mapping[str, str]] = {}
    ignored: ClassVar[tuple[str, ...]] = ()
    renamed: ClassVar[Mapping[str, str]] = {}

    config: Any

    def __init__(self, config: Any, **kwargs: Any) -> None:
        if not isinstance(config, self.Config):
            raise TypeError(f"{type(self).__name__} takes a {self.Config.__name__}, not {type(config).__name__}")
        super().__init__()
        self.config = config

    # --- starting values

    def post_init(self) -> None:
        """Draws the starting values (unless a checkpoint is about to be read), and ties what is one tensor."""
        if initialising():
            self.apply(self._init_weights)
        self.tie_weights()

    def _init_weights(self, module: Module) -> None:
        """Starting values of one layer, as Hugging Face's models have them: normal, biases zero."""
        if isinstance(module, (Linear, Conv2d, Embedding)):
            init.normal_(module.weight, 0.0, getattr(self.config, "initializer_range", 0.02))
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
            if getattr(module, "padding_idx", None) is not None:
                with no_grad():
                    module.weight[module.padding_idx].fill_(0)

    def tied_names(self) -> dict[str, str]:
        """`tied`, or nothing where the configuration keeps them apart."""
        return dict(self.tied) if self.config.tie_word_embeddings else {}

    def tie_weights(self) -> None:
        """Makes one tensor of those that are tied."""
        for name, source in self.tied_names().items():
            path, _, leaf = name.rpartition(".")
            setattr(self.get_submodule(path), leaf, self.get_parameter(source))

    # --- where and what it computes

    @property
    def device(self) -> Any:
        """The device of the first parameter."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> Any:
        """The dtype of the first parameter that is floating."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())

    @property
    def base_model(self) -> Any:
        """The part without a head; the model itself where it has none."""
        return getattr(self, self.prefix, self) if self.prefix else self

    def num_parameters(self) -> int:
        """Elements of all parameters; tied ones count once."""
        return sum(p.numel() for p in self.parameters())

    # --- reading

    @classmethod
    def from_pretrained(
        cls,
        folder: Any,
        *,
        dtype: Any = None,
        device: Any = None,
        strict: bool = True,
        config: PretrainedConfig | None = None,
        **kwargs: Any,
    ) -> Self:
        """The model in a folder, in eval mode.

        Weights on the CPU are the file's own pages (safetensors), which are read as they are touched and copied as they
        are written to; no starting values are drawn.

        Args:
            folder: has config.json, and the first there is of model.safetensors, model.safetensors.index.json with its
                shards, pytorch_model.bin (read without running code), pytorch_model.bin.index.json with its shards.
            dtype: of the floating parameters, or its name; None or "auto": as in the file.
            device: None: the default device.
            strict: whether every parameter must be in the file, and the file have no other. If not, parameters that it
                lacks get starting values, and a warning names them.
            config: instead of config.json.
            kwargs: for the constructor.

        Raises:
            FileNotFoundError: saying what was looked for.
            ValueError: for a configuration that this class cannot follow.
            RuntimeError: naming every missing, unexpected and wrong-shaped key, with shapes.
            SafetensorError, RuntimeError, UnpicklingError: for a damaged file.
        """
        if isinstance(dtype, str):  # as configurations and transformers write it
            with contextlib.suppress(KeyError):
                dtype = None if dtype == "auto" else by_name(dtype)
        if dtype is not None and not (isinstance(dtype, _dtype) and dtype.is_floating_point):
            raise TypeError(f"from_pretrained(): dtype must be a floating dtype or None, not {dtype!r}")
        config = cls.Config.from_pretrained(folder) if config is None else config
        state = read_weights(folder)
        if strict:
            with skip_initialisation():
                model = cls(config, **kwargs)
        else:
            model = cls(config, **kwargs)
        state = model._translated(state)
        missing = model._compare(state, os.fspath(folder), strict)
        place = _place(device)
        state = {key: _moved(value, dtype, place) for key, value in state.items()}
        model.load_state_dict(state, strict=False, assign=True)
        if missing:  # they have starting values, here and in the default dtype
            model.to(device=place, dtype=dtype)
            warnings.warn(
                f"{cls.__name__}: not in the checkpoint {os.fspath(folder)}, and newly initialized: "
                f"{', '.join(missing)}. Train the model before you use it.",
                stacklevel=2,
            )
        model.tie_weights()
        model._move_buffers(place)
        return model.eval()

    def _move_buffers(self, place: Any) -> None:
        """Buffers that no file has follow the weights."""
        for module in self.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(place))

    def _translated(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The entries under this model's names; those that it need not have are left out."""
        own = self.state_dict(keep_vars=True)
        for pattern, replacement in self.renamed.items():
            state = {re.sub(pattern, replacement, key): value for key, value in state.items()}
        if self.prefix:
            dotted = self.prefix + "."
            within = {key.removeprefix(dotted): value for key, value in state.items() if key.startswith(dotted)}
            if within and not any(key.startswith(dotted) for key in own):
                state = within  # a checkpoint with a head, for the part without one
            elif not within and any(key.startswith(dotted) for key in own):
                state = {dotted + key if dotted + key in own else key: value for key, value in state.items()}
        for name, source in self.tied_names().items():
            if name in state:
                value = state.pop(name)
                state.setdefault(source, value)
        patterns = [re.compile(pattern) for pattern in self.ignored]
        return {k: v for k, v in state.items() if k in own or not any(p.search(k) for p in patterns)}

    def _compare(self, state: dict[str, Tensor], where: str, strict: bool) -> list[str]:
        """Raises for what does not fit, before anything is changed; returns the keys that the file lacks."""
        tied = self.tied_names()
        own = {key: value for key, value in self.state_dict(keep_vars=True).items() if key not in tied}
        wrong = [
            f"{key}: {tuple(state[key].shape)} in the file, {tuple(value.shape)} in the model"
            for key, value in own.items()
            if key in state and state[key].shape != value.shape
        ]
        missing = [key for key in own if key not in state]
        unexpected = [key for key in state if key not in own]
        problems = [("of another shape", wrong)]
        if strict:
            problems += [
                ("missing from the file", [f"{key}: {tuple(own[key].shape)}" for key in missing]),
                ("in the file, but not in the model", [f"{key}: {tuple(state[key].shape)}" for key in unexpected]),
            ]
        text = "".join(_list(title, lines) for title, lines in problems if lines)
        if text:
            pooled = bool(missing) and all(key.startswith("pooler.") for key in missing)
            remedy = "\nadd_pooling_layer=False makes the model without its pooler." if pooled else ""
            remedy += "" if wrong else "\nstrict=False initialises what is missing and leaves out what is not wanted."
            raise RuntimeError(f"{where} does not fit {type(self).__name__}:{text}{remedy}")
        return missing

    # --- writing

    def save_pretrained(self, folder: Any, max_shard_size: int | str = "5GB") -> None:
        """Writes config.json and model.safetensors (or shards and an index) in the hub's layout, as transformers does.

        Each file is the old one or the new one at any moment; tied tensors are written once.

        Args:
            folder: is made where it is not there.
            max_shard_size: bytes, or a text such as "5GB" or "200MiB".
        """
        from ..utils.safetensors import save_sharded

        tied = self.tied_names()
        with no_grad():
            state = {key: value.contiguous() for key, value in self.state_dict().items() if key not in tied}
        save_sharded(state, folder, max_shard_size)
        extra = {**self.config.extra, "architectures": [type(self).__name__], "dtype": str(self.dtype).split(".")[-1]}
        config = dict(self.config.to_dict(), **extra)
        from .configuration import CONFIG_NAME, write_json

        write_json(os.path.join(os.fspath(folder), CONFIG_NAME), config)


def _list(title: str, lines: list[str]) -> str:
    more = f"\n    and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
    return f"\n  {title}:\n    " + "\n    ".join(lines[:_LISTED]) + more


def _place(device: Any) -> Any:
    from ..autograd.device import device as as_device
    from ..autograd.device import get_default_device

    return get_default_device() if device is None else as_device(device)


def _moved(value: Tensor, dtype: Any, place: Any) -> Tensor:
    return value.to(place, dtype) if dtype is not None and value.is_floating_point() else value.to(place)


def read_weights(folder: Any) -> dict[str, Tensor]:
    """A folder's tensors by name, on the CPU. FileNotFoundError that says what was looked for."""
    folder = os.fspath(folder)
    found = next((name for name in _FILES if os.path.isfile(os.path.join(folder, name))), None)
    if found is None:
        raise FileNotFoundError(f"{folder}: no weights in this folder; looked for {', '.join(_FILES)}")
    if "safetensors" in found:
        from ..utils.safetensors import load_sharded
        from ..utils.safetensors.format import library

        try:
            library()
        except ImportError as error:
            raise ImportError(
                f"{os.path.join(folder, found)} is read by the package safetensors: pip install 'tapegrad[models]'"
            ) from error
        return load_sharded(folder)
    if found.endswith(".json"):
        return _read_pickled_shards(folder, found)
    return _read_pickle(os.path.join(folder, found))


def _read_pickle(path: str) -> dict[str, Tensor]:
    """The state dict that torch.save wrote; nothing of the file is run."""
    from ..serialization import load

    state = load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: expected a state dict (name -> tensor), found {type(state).__name__}")
    return dict(state)


def _read_pickled_shards(folder: str, index: str) -> dict[str, Tensor]:
    """The shards that pytorch_model.bin.index.json lists."""
    path = os.path.join(folder, index)
    places = read_json(path).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ValueError(f"{path}: no weight_map of names to files")
    state: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        if name != os.path.basename(name) or not os.path.isfile(os.path.join(folder, name)):
            raise FileNotFoundError(f"{path}: places tensors in {name!r}, which is no file of this folder")
        state |= _read_pickle(os.path.join(folder, name))
    absent = [key for key in places if key not in state]
    if absent:
        raise ValueError(f"{path}: lists {', '.join(absent[:_LISTED])}, which no shard has")
    return state
