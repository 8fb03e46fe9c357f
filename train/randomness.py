"""The states of all random generators that a training may draw from, as plain values that `save` writes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..autograd.api.creation import tensor
from ..autograd.dtypes import int64
from ..autograd.random import Generator, default_generator
from ..autograd.tensor import Tensor

Kind = Generator | np.random.Generator | np.random.RandomState | random.Random


def _packed(value: Any) -> Any:
    """NumPy's states, dicts of arrays and numbers, as tensors (words below 2**63) and plain numbers."""
    if isinstance(value, Mapping):
        return {key: _packed(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return tensor(value.astype(np.int64)) if value.dtype.itemsize < 8 else value.tolist()
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _unpacked(item) for key, item in value.items()}
    return value.numpy().astype(np.uint32) if isinstance(value, Tensor) else value


def _python(words: tuple[Any, ...]) -> dict[str, Any]:
    version, state, gauss = words
    return {"version": version, "state": tensor(state, dtype=int64), "gauss": gauss}


def state_of(generator: Kind) -> Any:
    """The state of a torch.Generator, numpy.random.Generator or RandomState, or random.Random."""
    if isinstance(generator, Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return _packed(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return _packed(generator.get_state(legacy=False))
    return _python(generator.getstate())


def set_state(generator: Kind, state: Any) -> None:
    """Continues from what `state_of` gave for a generator of that kind."""
    if isinstance(generator, Generator):
        generator.set_state(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = _unpacked(state)
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(_unpacked(state))
    else:
        generator.setstate((state["version"], tuple(state["state"].tolist()), state["gauss"]))


def check(generators: Iterable[Any]) -> None:
    """TypeError for what is no random generator."""
    for each in generators:
        if not isinstance(each, Kind):
            raise TypeError(
                f"generators: a torch.Generator, numpy.random.Generator or random.Random, not {type(each).__name__}"
            )


def capture(generators: Iterable[Kind] = ()) -> dict[str, Any]:
    """The default generator's state, those of `random` and `numpy.random`, and those of more generators."""
    return {
        "torch": default_generator.get_state(),
        "python": _python(random.getstate()),
        "numpy": _packed(np.random.get_state(legacy=False)),
        "more": [state_of(each) for each in generators],
    }


def restore(states: Mapping[str, Any], generators: Iterable[Kind] = ()) -> None:
    """Continues from what `capture` gave. ValueError for another number of generators."""
    generators = list(generators)
    if len(generators) != len(states["more"]):
        raise ValueError(
            f"the checkpoint has the states of {len(states['more'])} generators of the loaders and `generators=`, "
            f"here are {len(generators)}"
        )
    default_generator.set_state(states["torch"])
    words = states["python"]
    random.setstate((words["version"], tuple(words["state"].tolist()), words["gauss"]))
    np.random.set_state(_unpacked(states["numpy"]))
    for each, state in zip(generators, states["more"], strict=True):
        set_state(each, state)
