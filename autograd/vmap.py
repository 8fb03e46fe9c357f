"""torch.vmap: a function of one example made into one of a batch. See batching.py for how."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from .batching import Batched, Level, Scope, active, aligned, class_of_depth, each, joined, whole
from .batching_steps import entered_at, inside, leave, lifted, scope_of
from .op import GRAPH
from .random import Generator, get_rng_state, set_rng_state
from .tensor import Tensor, wrap
from .trees import flatten, spread_over, structure, unflatten


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function that applies `func` to every example of a batch, all at once.

    func: (*S) -> (*T) gives (B, *S) -> (B, *T).

    Args:
        func: takes and gives nested tuples, lists and dicts of tensors; each tensor is one example.
        in_dims: the dimension of each argument that counts the examples, None for what all examples share; an int for
            all, or a tuple of the structure of the arguments.
        out_dims: where that dimension stands in the outputs; an int, or a structure like that of the outputs.
        randomness: what random functions inside do: "error", "different" for each example, or the "same" for all.
        chunk_size: how many examples to take at once, to save memory; None for all.

    Keyword arguments of the new function are shared by all examples.

    Raises ValueError where dimensions and arguments do not fit; RuntimeError for what cannot be done for a batch, such
    as control flow that depends on values.

    >>> import tapegrad as torch
    >>> x, y = torch.arange(6.0).reshape(3, 2), torch.ones(2)
    >>> torch.func.vmap(torch.dot, in_dims=(0, None))(x, y)
    tensor([1., 5., 9.])
    >>> torch.func.vmap(torch.func.grad(lambda v: (v**2).sum()))(x)
    tensor([[ 0.,  2.],
            [ 4.,  6.],
            [ 8., 10.]])
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(
            f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}"
        )
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

    @functools.wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        name = _name(func)
        _check_out_dims(out_dims, name)
        leaves, spec = flatten(args)
        dims = _input_dims(in_dims, args, leaves, spec, name)
        size = _batch_size(leaves, dims)
        if chunk_size is None or chunk_size >= size:
            return _run(func, leaves, spec, dims, size, out_dims, randomness, kwargs)
        return _in_chunks(func, leaves, spec, dims, size, out_dims, randomness, chunk_size, kwargs)

    return mapped


def chunk_vmap(
    func: Callable[..., Any], in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", chunks: int = 2
) -> Callable[..., Any]:
    """vmap in that many chunks."""

    @functools.wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        leaves, spec = flatten(args)
        size = _batch_size(leaves, _input_dims(in_dims, args, leaves, spec, _name(func)))
        return vmap(func, in_dims, out_dims, randomness, chunk_size=max(-(-size // chunks), 1))(*args, **kwargs)

    return mapped


def _name(func: Any) -> str:
    if isinstance(func, functools.partial):
        return f"functools.partial({_name(func.func)}, ...)"
    return getattr(func, "__name__", None) or repr(func)


# ---- arguments -------------------------------------------------------------------------------------------------------


def _input_dims(in_dims: Any, args: Any, leaves: list[Any], spec: Any, name: str) -> list[Any]:
    """The batch dimension of each leaf, non-negative, or None. ValueError where they do not fit."""
    where = f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): "
    if not isinstance(in_dims, (int, tuple)):
        raise ValueError(
            f"{where}expected `in_dims` to be int or a (potentially nested) tuple matching the structure of inputs, "
            f"got: {type(in_dims)}."
        )
    if not args:
        raise ValueError(
            f"vmap({name})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are trying to vmap over a "
            "function with no inputs. The latter is unsupported."
        )
    dims = spread_over(in_dims, spec)
    if dims is None:
        raise ValueError(
            f"{where}in_dims is not compatible with the structure of `inputs`. in_dims has structure "
            f"{structure(in_dims)} but inputs has structure {structure(args)}."
        )
    return [_input_dim(leaf, dim, where) for leaf, dim in zip(leaves, dims, strict=True)]


def _input_dim(leaf: Any, dim: Any, where: str) -> Any:
    if dim is None:
        return None
    if not isinstance(dim, int):
        raise ValueError(
            f"{where}Got in_dim={dim} for an input but in_dim must be either an integer dimension or None."
        )
    if not isinstance(leaf, Tensor):
        raise ValueError(
            f"{where}Got in_dim={dim} for an input but the input is of type {type(leaf)}. We cannot vmap over "
            "non-Tensor arguments, please use None as the respective in_dim"
        )
    n = leaf.array.ndim
    if not -n <= dim < n:
        raise ValueError(
            f"{where}Got in_dim={dim} for some input, but that input is a Tensor of dimensionality {n} so expected "
            f"in_dim to satisfy -{n} <= in_dim < {n}."
        )
    return dim % n


def _batch_size(leaves: list[Any], dims: list[Any]) -> int:
    sizes = [leaf.array.shape[dim] for leaf, dim in zip(leaves, dims, strict=True) if dim is not None]
    if not sizes:
        raise ValueError("vmap: Expected at least one Tensor to vmap over")
    if any(n != sizes[0] for n in sizes):
        raise ValueError(
            "vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
            f"{sizes} for the mapped dimension"
        )
    return sizes[0]


def _check_out_dims(out_dims: Any, name: str) -> None:
    for dim in flatten(out_dims)[0]:
        if dim is not None and not isinstance(dim, int):
            raise ValueError(
                f"vmap({name}, ..., out_dims={out_dims}): `out_dims` must be an int, None or a python collection of "
                "ints representing where in the outputs the vmapped dimension should appear."
            )


# ---- running ---------------------------------------------------------------------------------------------------------


def _run(
    func: Any, leaves: list[Any], spec: Any, dims: list[Any], size: int, out_dims: Any, randomness: str, kwargs: Any
) -> Any:
    _install()
    level, before = Level(size, randomness), active.scope
    active.scope = (*before, level)
    try:
        entered = [x if d is None else entered_at(x, level, d, before) for x, d in zip(leaves, dims, strict=True)]
        outputs = func(*unflatten(entered, spec), **kwargs)
    finally:
        active.scope = before
    outs, out_spec = flatten(outputs)
    name = _name(func)
    places = _output_dims(outputs, out_spec, out_dims, name)
    return unflatten([_output(o, d, level, name) for o, d in zip(outs, places, strict=True)], out_spec)


def _output_dims(outputs: Any, spec: Any, out_dims: Any, name: str) -> list[Any]:
    dims: Any = None
    if not isinstance(outputs, Tensor):
        dims = spread_over(out_dims, spec)
    elif out_dims is None or isinstance(out_dims, int):
        dims = [out_dims]
    elif isinstance(out_dims, tuple) and len(out_dims) == 1:
        dims = list(out_dims)
    if dims is None:
        raise ValueError(
            f"vmap({name}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with the structure of "
            f"`outputs`. out_dims has structure {structure(out_dims)} but outputs has structure {structure(outputs)}."
        )
    return dims


def _output(out: Any, dim: Any, level: Level, name: str) -> Any:
    """An output with the batch at `dim`, the examples' own copies where it does not depend on them."""
    if dim is None:
        if isinstance(out, Tensor) and level in scope_of(out):
            raise ValueError(f"vmap({name}, ...): `{name}` can not return a BatchedTensor when out_dim is None")
        return out
    if not isinstance(out, Tensor):
        raise ValueError(
            f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(out)}. Did you mean to set "
            "out_dims= to None for output?"
        )
    n = out.array.ndim + 1
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    own = scope_of(out)
    return leave(out if level in own else lifted(out, joined([own, (level,)])), level, dim % n)


def _in_chunks(
    func: Any, leaves: list[Any], spec: Any, dims: list[Any], size: int, out_dims: Any, randomness: str,
    chunk_size: int, kwargs: Any,
) -> Any:  # fmt: skip
    """The results of consecutive parts of the batch, joined."""
    state = get_rng_state() if randomness == "same" else None
    parts = []
    for start in range(0, size, chunk_size):
        n = min(chunk_size, size - start)
        if state is not None:
            set_rng_state(state)
        chosen = [x if d is None else x.narrow(d, start, n) for x, d in zip(leaves, dims, strict=True)]
        parts.append(_run(func, chosen, spec, dims, n, out_dims, randomness, kwargs))
    out_spec = flatten(parts[0])[1]
    places = _output_dims(parts[0], out_spec, out_dims, _name(func))
    columns = zip(*[flatten(part)[0] for part in parts], strict=True)
    joined_parts = []
    for column, dim in zip(columns, places, strict=True):
        if dim is None:
            joined_parts.append(column[0])
        else:
            joined_parts.append(GRAPH.cat(*column, axis=dim % column[0].array.ndim))
    return unflatten(joined_parts, out_spec)


# ---- random numbers --------------------------------------------------------------------------------------------------

FORBIDDEN = (
    "vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' "
    "randomness flags on vmap or perform the randomness operation out of vmap"
)
UNBATCHED = (
    "vmap: random values that differ between examples cannot be written into a tensor that all examples share. Please "
    "use an out-of-place random function, or randomness='same'"
)


class Draws:
    """A raw stream as it is seen inside vmaps: draws differ between the examples of a level, or not, as it says."""

    def __init__(self, raw: Any, scope: Scope):
        self._raw, self._scope = raw, scope

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._raw, name)
        if name in _STATE:
            return method
        if any(level.randomness == "error" for level in self._scope):
            raise RuntimeError(FORBIDDEN)
        scope = tuple([level for level in self._scope if level.randomness == "different"])
        if name.endswith("_"):
            return lambda out, *args, **kw: _fill(method, scope, out, args, kw)
        if name in ("randperm", "multinomial", "bernoulli"):
            return lambda first, *args, **kw: _draw_each(method, scope, first, args, kw)
        return lambda shape, *args, **kw: _draw(method, scope, shape, args, kw)


_STATE = ("manual_seed", "seed", "initial_seed", "get_state", "set_state", "clone_state")


def _batched(value: Any, scope: Scope) -> Any:
    return class_of_depth(len(active.scope))(value, scope)


def _draw(method: Any, scope: Scope, shape: Any, args: Any, kw: Any) -> Any:
    drawn = method((*[level.size for level in scope], *shape), *args, **kw)
    return _batched(drawn, scope) if scope else drawn


def _draw_each(method: Any, scope: Scope, first: Any, args: Any, kw: Any) -> Any:
    """Draws that are not described by a shape: one for each example."""
    if not scope and not isinstance(first, Batched):
        return method(first, *args, **kw)
    one = first.value if isinstance(first, Batched) else first
    own = first.scope if isinstance(first, Batched) else ()
    wide = joined([own, scope])
    if hasattr(one, "shape"):
        value = aligned(first, wide, one.ndim - len(own))
        given = class_of_depth(len(wide))(whole(value, wide), wide)
        return each(method, (given, *args), kw)
    marks = class_of_depth(len(wide))(np.zeros([level.size for level in wide]), wide)
    return each(lambda _: method(first, *args, **kw), (marks,))


def _fill(method: Any, scope: Scope, out: Any, args: Any, kw: Any) -> Any:
    if not isinstance(out, Batched):
        if scope:
            raise RuntimeError(UNBATCHED)
        return method(out, *args, **kw)
    if any(level not in out.scope or out.value.shape[out.scope.index(level)] != level.size for level in scope):
        raise RuntimeError(UNBATCHED)
    args = [a.value if isinstance(a, Batched) else a for a in args]
    region = out.value[tuple([slice(None) if level in scope else slice(0, 1) for level in out.scope])]
    method(region, *args, **kw)
    out.value[...] = region
    return out


def _tensors_of(index: Any) -> list[Any]:
    return [i for i in (index if index.__class__ is tuple else (index,)) if isinstance(i, Tensor)]


def _all_inside(index: Any) -> Any:
    if index.__class__ is tuple:
        return tuple([_all_inside(i) for i in index])
    return inside(index) if isinstance(index, Tensor) and scope_of(index) else index


def _with_axis(index: tuple[Any, ...], ndim: int) -> tuple[Any, int]:
    """An index whose tensors are single numbers, with an axis of size 1 in their place; and where it stands."""
    of_tensor = [isinstance(i, Tensor) for i in index]
    first, last = of_tensor.index(True), len(index) - 1 - of_tensor[::-1].index(True)
    rest = ndim - sum(i is not None and i is not Ellipsis for i in index)  # what an ellipsis stands for
    axis = sum(rest if i is Ellipsis else i is None or isinstance(i, slice) for i in index[:first])
    adjacent = all(of or isinstance(i, int) for i, of in zip(index[first:last], of_tensor[first:last], strict=True))
    return tuple([i.reshape(1) if of else i for i, of in zip(index, of_tensor, strict=True)]), axis if adjacent else 0


def _index_lifts(own: Any) -> Any:
    """Tensor.__getitem__ which, inside a vmap, lifts a shared tensor before one that is not indexes it."""

    @functools.wraps(own)
    def getitem(self: Tensor, index: Any) -> Any:
        if active.scope and any(scope_of(i) for i in _tensors_of(index)):
            self, index = inside(self), _all_inside(index)
            if index.__class__ is not tuple:
                index = (index,)
            if all(i.array.ndim == 0 for i in _tensors_of(index)) and not any(isinstance(i, list) for i in index):
                index, axis = _with_axis(index, self.array.ndim)
                return own(self, index).squeeze(axis)
        return own(self, index)

    return getitem


def _places_of_their_own(own: Any) -> Any:
    """new_zeros and its like, which beside a tensor of a batch give every example memory to write into."""

    @functools.wraps(own)
    def made(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        t, scope = own(self, *args, **kwargs), scope_of(self)
        if scope:
            t.array = class_of_depth(len(scope))(whole(aligned(t.array, scope, t.array.ndim), scope).copy(), scope)
        return t

    return made


def _raw_inside(own: Any) -> Any:
    """Generator.raw, as a property that gives Draws while a vmap is under way."""

    def raw(self: Generator) -> Any:
        engine = own.fget(self)
        return Draws(engine, active.scope) if active.scope else engine

    return property(raw, own.fset)


def _show(own: Any) -> Any:
    @functools.wraps(own)
    def text(self: Tensor) -> str:
        scope = scope_of(self)
        if not scope:
            return own(self)
        shown = own(wrap(self.array.value))
        for number in range(1, len(scope) + 1):
            shown = f"BatchedTensor(lvl={number}, bdim=0, value=\n{textwrap.indent(shown, '    ')}\n)"
        return shown

    return text


@functools.cache
def _install() -> None:
    """At the first vmap: the few methods of Tensor and Generator that must know of batches besides the ops."""
    Tensor.__getitem__ = _index_lifts(Tensor.__getitem__)  # type: ignore[method-assign]
    for word in ("new_zeros", "new_ones", "new_empty", "new_full"):
        setattr(Tensor, word, _places_of_their_own(getattr(Tensor, word)))
    Tensor.__repr__ = _show(Tensor.__repr__)  # type: ignore[method-assign]
    Generator.raw = _raw_inside(Generator.raw)  # type: ignore[method-assign]
