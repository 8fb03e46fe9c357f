"""The arguments of `export`: which tensors are inputs, which of their axes are dynamic, and examples of other sizes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...autograd.tensor import Tensor, wrap
from ...autograd.trees import flatten, unflatten


@dataclass
class Inputs:
    """Example arguments, flattened, and the names of the axes that are dynamic."""

    names: list[str]  # of the tensors, in order
    tensors: list[Tensor]
    leaves: list[Any]
    places: list[int]  # of the tensors among the leaves
    spec: Any
    axes: list[dict[int, str]] = field(default_factory=list)  # for each tensor: axis -> name of its size
    points: list[dict[str, int]] = field(default_factory=list)  # sizes that the model has been seen to accept
    moved: int = 1  # 0 where it only accepts values as they are

    def sizes(self) -> dict[str, int]:
        """The name of each dynamic size -> its number in the examples. ValueError where two examples differ."""
        found: dict[str, int] = {}
        for name, tensor, axes in zip(self.names, self.tensors, self.axes, strict=True):
            for axis, word in axes.items():
                size = int(tensor.array.shape[axis])
                if found.setdefault(word, size) != size:
                    raise ValueError(
                        f"the dynamic axis '{word}' is {found[word]} in one example input, and {size} in "
                        f"'{name}' (axis {axis}); give different axes different names"
                    )
        return found

    def resized(self, sizes: Mapping[str, int], turn: int) -> tuple[list[Tensor], tuple[Any, dict[str, Any]]]:
        """Examples with dynamic axes of those sizes, their values moved by `turn` places; (tensors, (args, kwargs))."""
        tensors = []
        for tensor, axes in zip(self.tensors, self.axes, strict=True):
            array = np.asarray(tensor.array)
            for axis, word in axes.items():
                array = array.take(np.arange(sizes[word]) % max(array.shape[axis], 1), axis)
            if turn and array.size:
                array = np.roll(array.reshape(-1), turn).reshape(array.shape)
                if array.dtype.kind == "f":
                    array = array * array.dtype.type(1 - turn / 16)  # towards 0, which few ranges exclude
            made = wrap(np.array(array, dtype=tensor.array.dtype, order="C"))
            tensors.append(made)
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        return tensors, unflatten(leaves, self.spec)


def read_inputs(
    model: Any, args: Any, kwargs: Mapping[str, Any] | None, input_names: Sequence[str] | None, dynamic_axes: Any,
    dynamic_shapes: Any,
) -> Inputs:  # fmt: skip
    """The inputs of a graph. TypeError and ValueError for what does not fit."""
    args = args if isinstance(args, tuple) else tuple(args) if isinstance(args, list) else (args,)
    kwargs = dict(kwargs or {})
    leaves, spec = flatten((args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    if not places:
        raise ValueError("args: no tensor among the example inputs; give a tuple of the model's positional arguments")
    away = next((t for t in leaves if isinstance(t, Tensor) and t.device.type != "cpu"), None)
    if away is not None:
        raise ValueError(f"an example input is on {away.device}: export runs on the CPU; give it .cpu()")
    words = list(_words(model, args, kwargs))
    names = [words[i] for i in places]
    if input_names is not None:
        given = list(input_names)
        if len(given) > len(places):
            raise ValueError(f"input_names has {len(given)} names, but the inputs are {len(places)} tensors")
        if len(set(given)) < len(given):
            raise ValueError(f"input_names has a name twice: {given}")
        names[: len(given)] = given
    found = Inputs(_unique(names), [leaves[i] for i in places], leaves, places, spec)
    found.axes = _axes(found, dynamic_axes, dynamic_shapes, args, kwargs)
    return found


def _words(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[str]:
    """A name for each leaf: that of the parameter it is passed for."""
    try:
        parameters = list(inspect.signature(getattr(model, "forward", model)).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "input")
    for i, value in enumerate(args):
        yield from _leaf_words(names[i] if i < len(names) else f"{rest}_{i - len(names)}", value)
    for word, value in kwargs.items():
        yield from _leaf_words(word, value)


def _leaf_words(word: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key in value:
            yield from _leaf_words(f"{word}_{key}", value[key])
    elif isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            yield from _leaf_words(f"{word}_{i}", item)
    else:
        yield word


def _unique(names: list[str]) -> list[str]:
    seen: set[str] = set()
    out = []
    for name in names:
        wish, count = name, 0
        while name in seen:
            count += 1
            name = f"{wish}_{count}"
        seen.add(name)
        out.append(name)
    return out


# ---- dynamic axes


def _axes(inputs: Inputs, dynamic_axes: Any, dynamic_shapes: Any, args: Any, kwargs: Any) -> list[dict[int, str]]:
    if dynamic_axes is not None and dynamic_shapes is not None:
        raise ValueError("give either dynamic_axes or dynamic_shapes, not both")
    found: list[dict[int, str]] = [{} for _ in inputs.tensors]
    if dynamic_axes is not None:
        if not isinstance(dynamic_axes, Mapping):
            raise TypeError(f"dynamic_axes must be a dict of names, not {type(dynamic_axes).__name__}")
        for i, name in enumerate(inputs.names):
            found[i] = _of_one(dynamic_axes.get(name), inputs.tensors[i], name)
    elif dynamic_shapes is not None:
        given = _by_leaf(dynamic_shapes, inputs, args, kwargs)
        found = [_of_one(own, t, name) for own, t, name in zip(given, inputs.tensors, inputs.names, strict=True)]
    return found


def _of_one(given: Any, tensor: Tensor, name: str) -> dict[int, str]:
    """What one tensor's entry says: axis -> name of the size."""
    if given is None:
        return {}
    ndim = tensor.array.ndim
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, (tuple, list)) and all(isinstance(a, int) and not isinstance(a, bool) for a in given):
        pairs = [(axis, None) for axis in given]
    elif isinstance(given, (tuple, list)) and len(given) == ndim:
        pairs = [(axis, word) for axis, word in enumerate(given) if word is not None]
    else:
        raise TypeError(
            f"the dynamic axes of '{name}' must be a dict (axis -> name) or a list of axes, not {given!r}"
        )
    found = {}
    for axis, word in pairs:
        if not isinstance(axis, int) or not -ndim <= axis < ndim:
            raise ValueError(f"'{name}' has {ndim} dimensions, so axis {axis!r} cannot be dynamic")
        if word is None and isinstance(given, Mapping):
            continue
        axis %= ndim
        own = word if isinstance(word, str) else getattr(word, "__name__", None)
        found[axis] = own or f"{name}_dynamic_axes_{axis}"
    return found


def _by_leaf(shapes: Any, inputs: Inputs, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """dynamic_shapes, which has the structure of the arguments, as one entry per tensor."""
    if isinstance(shapes, Mapping):
        given = {}
        for i, name in enumerate(inputs.names):
            first = name if name in shapes else next((w for w in shapes if name.startswith(f"{w}_")), None)
            given[i] = shapes.get(first) if first is not None else None
        unknown = {w for w in shapes if not any(n == w or n.startswith(f"{w}_") for n in inputs.names)}
        if unknown:
            raise ValueError(f"dynamic_shapes names {sorted(unknown)}, but the inputs are {inputs.names}")
        return [given[i] for i in range(len(inputs.names))]
    entries: list[Any] = []
    for value, own in zip((*args, *kwargs.values()), [*shapes, *[None] * (len(args) + len(kwargs) - len(shapes))],
                          strict=True):  # fmt: skip
        entries += _spread(value, own)
    return entries


def _spread(value: Any, own: Any) -> list[Any]:
    if isinstance(value, Tensor):
        return [own]
    if isinstance(value, Mapping):
        return [e for k in value for e in _spread(value[k], None if own is None else own.get(k))]
    if isinstance(value, (tuple, list)):
        rows = [None] * len(value) if own is None else own
        return [e for v, o in zip(value, rows, strict=True) for e in _spread(v, o)]
    return []
