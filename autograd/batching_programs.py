"""Batching rules of their own: products, convolutions, normalisation, indexing by arrays, losses of classes.

Most are rules as in batching_rules.py. A program is a function of (loop, *arrays, **keywords) on Batched arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .batching import DYNAMIC, Batched, aligned, deferred, joined, whole
from .batching_rules import (
    RULES,
    Decline,
    Rule,
    as_batched,
    fold,
    moved,
    reduce_examples,
    scope_sizes,
    spread,
    unfolded,
    widened,
)
from .modes import mode
from .op import raw_by_type

PROGRAMS: dict[str, Callable[..., Any]] = {}


def rule(function: Any) -> Any:
    """Enters a rule into the table under its function's name."""
    RULES[function.__name__.strip("_")] = function
    return function


def program(*names: str) -> Any:
    def enter(function: Any) -> Any:
        for name in names:
            PROGRAMS[name] = function if len(names) == 1 else _named(function, name)
        return function

    return enter


def _named(function: Any, name: str) -> Any:
    return lambda loop, *arrays, **kw: function(loop, name, *arrays, **kw)


def shared(a: Any, k: int) -> bool:
    """Whether an array is the same for all examples."""
    return a is None or all(n == 1 for n in a.shape[:k])


def bare(a: Any, k: int) -> Any:
    """An array that all examples share, without its batch axes."""
    return None if a is None else a.reshape(a.shape[k:])


# ---- products --------------------------------------------------------------------------------------------------------


def _product(raw: Any, x: Any, y: Any) -> Any:
    """x @ y over leading axes; an outer product (one row of y) as a multiplication, which is faster for many."""
    if x.shape[-1] == 1 == y.shape[-2] and x.dtype.itemsize > 2:
        return raw.xp.multiply(x, y)
    return raw.bmm(x, y)


def _in_backward(*arrays: Any) -> bool:
    """Whether a gradient is being computed on arrays that all have examples of their own: then it may be deferred."""
    return mode.walk is not None and mode.grad is False and not any(
        isinstance(a, Batched) and a.value.shape[: len(a.scope)] != scope_sizes(a.scope) or not isinstance(a, Batched)
        for a in arrays
    )


@program("mm")
def _mm(loop: Any, x: Any, y: Any) -> Any:
    """Matrix product; where it is the gradient of a matrix that the examples share, one product for their sum."""
    scope = joined([a.scope for a in (x, y) if isinstance(a, Batched)])
    raw = raw_by_type[(x if isinstance(x, Batched) else y).value.__class__]
    k, values = len(scope), [aligned(a, scope, 2) for a in (x, y)]
    if x.shape[1] != y.shape[0]:
        return loop(x, y)  # and its error

    def each_one() -> Any:
        return _mm_of(raw, k, *values)

    if not _in_backward(x, y) or x.scope != y.scope:
        return as_batched(raw, each_one(), scope)

    def total() -> Any:
        a, b = values
        a = a.transpose(k, *range(k), k + 1).reshape(a.shape[k], -1)
        return raw.mm(a, b.reshape(-1, b.shape[-1]))

    return deferred(scope, (x.shape[0], y.shape[1]), x.dtype, each_one, total)


def _mm_of(raw: Any, k: int, x: Any, y: Any) -> Any:
    if shared(y, k) and not shared(x, k):
        return raw.mm(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), bare(y, k)).reshape(*x.shape[:-1], y.shape[-1])
    return _product(raw, x, y)


@rule
def bmm(raw: Any, k: int, arrays: Any) -> Any:
    x, y = spread(k, arrays)
    return raw.bmm(x, y)


@rule
def dot(raw: Any, k: int, arrays: Any) -> Any:
    x, y = arrays
    if x.shape[-1] != y.shape[-1]:
        raise Decline
    return raw.bmm(x[..., None, :], y[..., None])[..., 0, 0]


@rule
def linear(raw: Any, k: int, arrays: Any) -> Any:
    x, w, *rest = arrays
    b = rest[0] if rest else None
    if x.shape[-1] != w.shape[-1]:
        raise Decline
    if shared(w, k) and shared(b, k):
        return raw.linear(x, bare(w, k), bare(b, k))
    rows = x[..., None, :] if x.ndim == k + 1 else x.reshape(*x.shape[:k], -1, x.shape[-1])
    out = raw.bmm(rows, raw.mT(w))
    out = out.reshape(*out.shape[:k], *x.shape[k:-1], w.shape[-2])
    return out if b is None else raw.add(*spread(k, [out, b]))


def _leading(name: str) -> Rule:
    """For ops on the last axes whose leading ones broadcast."""

    def made(raw: Any, k: int, arrays: Any, /, **kw: Any) -> Any:
        return getattr(raw, name)(*widened(k, spread(k, arrays)), **kw)

    return made


for _name in ("solve", "solve_triangular", "euclidean_distances"):
    RULES[_name] = _leading(_name)


@rule
def attention(raw: Any, k: int, arrays: Any, /, **kw: Any) -> Any:
    return raw.attention(*spread(k, widened(k, arrays)), **kw)


@rule
def cross(raw: Any, k: int, arrays: Any, /, *, axis: int) -> Any:
    if len({a.ndim for a in arrays}) > 1:
        raise Decline
    return raw.cross(*widened(k, arrays), axis=moved(axis, k))


@program("trace")
def _trace(loop: Any, x: Any) -> Any:
    F = raw_by_type[x.__class__]
    return F.sum(F.diagonal(x, offset=0, axis1=0, axis2=1), axis=(0,), keepdims=False)


@program("mT", "t")
def _transposed(loop: Any, name: str, x: Any) -> Any:
    if x.ndim < 2:
        return x
    total = x.total
    if total is None:
        return x.swapaxes(-1, -2)
    return deferred(x.scope, x.shape[::-1], x.dtype, lambda: x.value.swapaxes(-1, -2), lambda: total().T)


# ---- convolution -----------------------------------------------------------------------------------------------------


def _to_groups(a: Any, k: int) -> Any:
    """(*B, N, C, *S) -> (N, prod(B) * C, *S): each example becomes a group of channels."""
    a = a.reshape(math.prod(a.shape[:k]), *a.shape[k:])
    a = a.swapaxes(0, 1)
    return a.reshape(a.shape[0], a.shape[1] * a.shape[2], *a.shape[3:])


def _from_groups(a: Any, lead: tuple[int, ...]) -> Any:
    """(N, prod(B) * C, *S) -> (*B, N, C, *S)."""
    n = math.prod(lead)
    a = a.reshape(a.shape[0], n, a.shape[1] // n, *a.shape[2:]).swapaxes(0, 1)
    return a.reshape(*lead, *a.shape[1:])


def _convolution(name: str) -> Rule:
    """conv and conv_input: the examples beside each other, as rows of N or, where the weights differ, as groups."""

    def made(raw: Any, k: int, arrays: Any, /, *, groups: int, **kw: Any) -> Any:
        x, w, *rest = arrays
        b = rest[0] if rest else None
        shape = kw.get("shape")
        if shared(w, k) and shared(b, k):
            n = math.prod(x.shape[:k])
            if shape is not None:
                kw["shape"] = (n * shape[0], *shape[1:])
            out = getattr(raw, name)(fold(x, k), bare(w, k), bare(b, k), groups=groups, **kw)
            return unfolded(out, x.shape[:k])
        x, w, b = widened(k, [x, w, b])
        lead = x.shape[:k]
        n = math.prod(lead)
        if shape is not None:
            kw["shape"] = (shape[0], n * shape[1], *shape[2:])
        weights, bias = fold(w, k), None if b is None else b.reshape(-1)
        return _from_groups(getattr(raw, name)(_to_groups(x, k), weights, bias, groups=n * groups, **kw), lead)

    return made


RULES["conv"], RULES["conv_input"] = _convolution("conv"), _convolution("conv_input")


@program("conv_weight")
def _conv_weight(loop: Any, x: Any, g: Any, **kw: Any) -> Any:
    """The gradient of weights; where the examples share them, one for their sum."""
    scope = joined([a.scope for a in (x, g) if isinstance(a, Batched)])
    raw = raw_by_type[(x if isinstance(x, Batched) else g).value.__class__]
    k, values = len(scope), [aligned(a, scope, a.ndim) for a in (x, g)]

    def each_one() -> Any:
        return _conv_weight_of(raw, k, values, **kw)

    if not _in_backward(x, g) or x.scope != g.scope:
        return as_batched(raw, each_one(), scope)
    return deferred(scope, kw["shape"], x.dtype, each_one, lambda: raw.conv_weight(*[fold(a, k) for a in values], **kw))


def _conv_weight_of(raw: Any, k: int, arrays: Any, *, shape: Any, groups: int, **kw: Any) -> Any:
    x, g = widened(k, arrays)
    lead = x.shape[:k]
    n = math.prod(lead)
    shape = (n * shape[0], *shape[1:])
    out = raw.conv_weight(_to_groups(x, k), _to_groups(g, k), shape=shape, groups=n * groups, **kw)
    return out.reshape(*lead, out.shape[0] // n, *out.shape[1:])


# ---- normalisation ---------------------------------------------------------------------------------------------------


@rule
def layer_norm(raw: Any, k: int, arrays: Any, /, *, n_axes: int, eps: float) -> Any:
    x, w, b = (*arrays, None, None)[:3]
    if shared(w, k) and shared(b, k):
        return raw.layer_norm(x, bare(w, k), bare(b, k), n_axes=n_axes, eps=eps)
    out, mean, rstd = raw.layer_norm(x, None, None, n_axes=n_axes, eps=eps)
    return _scaled(raw, k, out, w, b), mean, rstd


def _scaled(raw: Any, k: int, out: Any, w: Any, b: Any) -> Any:
    if w is not None:
        out = raw.mul(*spread(k, [out, w]))
    return out if b is None else raw.add(*spread(k, [out, b]))


@rule
def rms_norm(raw: Any, k: int, arrays: Any, /, *, n_axes: int, eps: float) -> Any:
    x, w = (*arrays, None)[:2]
    if shared(w, k):
        return raw.rms_norm(x, bare(w, k), n_axes=n_axes, eps=eps)
    out, rstd = raw.rms_norm(x, None, n_axes=n_axes, eps=eps)
    return _scaled(raw, k, out, w, None), rstd


@rule
def batch_norm(raw: Any, k: int, arrays: Any, /, *, eps: float) -> Any:
    x, w, b = widened(k, (*arrays, None, None)[:3])
    lead, channels = x.shape[:k], x.shape[k + 1]
    flat = [None if a is None else a.reshape(-1) for a in (w, b)]
    out, *rest = raw.batch_norm(_to_groups(x, k), *flat, eps=eps)
    mean, var, *_ = rest = [r.reshape(*lead, channels) for r in rest[:2]]
    # what a fused backward would be given; here the composite's body runs, which computes them again
    return _from_groups(out, lead), mean, var, mean, var


@rule
def scale_shift(raw: Any, k: int, arrays: Any) -> Any:
    x, scale, shift = arrays
    tail = (*(slice(None),) * k, None, slice(None), *(None,) * (x.ndim - k - 2))
    return raw.add(raw.mul(x, scale[tail]), shift[tail])


# ---- recurrent layers ------------------------------------------------------------------------------------------------


def _recurrent(name: str, states: int, aux: int) -> Rule:
    """A layer over sequences: where the weights are shared and no sequence ends early, more rows in every step.

    arrays: gates (*B, T * N, G), then `states` initial states (*B, N, H), then the weights.
    """

    def made(raw: Any, k: int, arrays: Any, /, *, batch_sizes: Any, **kw: Any) -> Any:
        given, weights = widened(k, arrays[: 1 + states]), arrays[1 + states :]
        if len(set(batch_sizes)) != 1 or not all(shared(w, k) for w in weights):
            raise Decline
        lead, steps, rows = given[0].shape[:k], len(batch_sizes), batch_sizes[0]
        n = math.prod(lead)
        gates = given[0].reshape(n, steps, rows, -1).swapaxes(0, 1).reshape(steps * n * rows, -1)
        folded_states, own = [fold(a, k) for a in given[1:]], [bare(w, k) for w in weights]
        results = getattr(raw, name)(gates, *folded_states, *own, batch_sizes=(n * rows,) * steps, **kw)
        out, *last = results[: 1 + states]
        out = out.reshape(steps, n, rows, -1).swapaxes(0, 1).reshape(*lead, steps * rows, -1)
        # what a fused backward would be given is left out: here the composite's body runs
        return (out, *[unfolded(a, lead) for a in last], *(None,) * aux)

    return made


RULES["lstm_sequence"] = _recurrent("lstm_sequence", 2, 4)
RULES["gru_sequence"] = _recurrent("gru_sequence", 1, 3)
RULES["rnn_sequence"] = _recurrent("rnn_sequence", 1, 1)

# ---- indexing by arrays ----------------------------------------------------------------------------------------------


def _adjacent(places: Any) -> bool:
    return tuple(places) == tuple(range(places[0], places[0] + len(places)))


def _to_front(a: Any, first: int, count: int, to: int) -> Any:
    """`count` axes from `first` on moved to `to`."""
    order = [d for d in range(a.ndim) if not first <= d < first + count]
    order[to:to] = range(first, first + count)
    return a.transpose(order)


def _numbers(raw: Any, lead: tuple[int, ...], ndim: int) -> list[Any]:
    """For each batch axis, the number of the example, to index with beside arrays of lead and `ndim` more axes."""
    k = len(lead)
    return [raw.xp.arange(n).reshape((1,) * d + (n,) + (1,) * (k - d - 1 + ndim)) for d, n in enumerate(lead)]


@rule
def index(raw: Any, k: int, arrays: Any, /, *, places: Any, unique: bool = False) -> Any:
    x, *indices = arrays
    indices = spread(k, indices)
    n = indices[0].ndim - k
    if all(shared(i, k) for i in indices):
        out = raw.index(x, *[bare(i, k) for i in indices], places=moved(places, k), unique=unique)
        return out if _adjacent(places) else _to_front(out, n, k, 0)
    x, *indices = widened(k, [x, *indices])
    key = _numbers(raw, x.shape[:k], n)
    out = raw.index(x, *key, *indices, places=(*range(k), *moved(places, k)), unique=unique)
    return _to_front(out, k, n, places[0] + k) if _adjacent(places) and places[0] else out


@rule
def index_backward(raw: Any, k: int, arrays: Any, /, *, shape: Any, places: Any, unique: bool = False) -> Any:
    g, *indices = arrays
    indices = spread(k, indices)
    n = indices[0].ndim - k
    if all(shared(i, k) for i in indices):
        g = g if _adjacent(places) else _to_front(g, 0, k, n)
        lead = g.shape[:k] if _adjacent(places) else g.shape[n : n + k]
        own = [bare(i, k) for i in indices]
        return raw.index_backward(g, *own, shape=(*lead, *shape), places=moved(places, k), unique=unique)
    g, *indices = widened(k, [g, *indices])
    lead = g.shape[:k]
    if _adjacent(places) and places[0]:
        g = _to_front(g, places[0] + k, n, k)
    return raw.index_backward(
        g, *_numbers(raw, lead, n), *indices, shape=(*lead, *shape), places=(*range(k), *moved(places, k)),
        unique=unique,
    )  # fmt: skip


@rule
def index_zero(raw: Any, k: int, arrays: Any, /, *, places: Any) -> Any:
    x, *indices = arrays
    indices = spread(k, indices)
    if all(shared(i, k) for i in indices):
        return raw.index_zero(x, *[bare(i, k) for i in indices], places=moved(places, k))
    x, *indices = widened(k, [x, *indices])
    key = _numbers(raw, x.shape[:k], indices[0].ndim - k)
    return raw.index_zero(x, *key, *indices, places=(*range(k), *moved(places, k)))


@program("index_select")
def _index_select(loop: Any, x: Any, index: Any, *, axis: int) -> Any:
    F = raw_by_type[(x if isinstance(x, Batched) else index).__class__]
    size = x.shape[axis] if x.ndim else 1
    if not x.ndim or not index.ndim or bool((index >= size).any() or (index < 0).any()):
        return loop(x, index, axis=axis)
    return F.index(x, index, places=(axis,))


def _vector_writer(name: str) -> Rule:
    """index_add, index_copy, index_fill: where all examples share the index, the op along a moved axis."""

    def made(raw: Any, k: int, arrays: Any, /, *, axis: int, inplace: bool = False, **kw: Any) -> Any:
        x, index, *src = arrays
        if not shared(index, k) or x.ndim == k or inplace or name == "index_fill_tensor":
            raise Decline
        x, *src = widened(k, [x, *src])
        return getattr(raw, name)(x, bare(index, k), *src, axis=axis + k, **kw)

    return made


for _name in ("index_add", "index_copy", "index_fill"):
    RULES[_name] = _vector_writer(_name)


@program("take")
def _take(loop: Any, x: Any, index: Any) -> Any:
    F = raw_by_type[(x if isinstance(x, Batched) else index).__class__]
    n = math.prod(x.shape)
    if not index.ndim or bool((index >= n).any() or (index < -n).any()):
        return loop(x, index)
    return F.index(x.reshape(n), index, places=(0,))


@rule
def embedding(raw: Any, k: int, arrays: Any, /, *, padding: Any) -> Any:
    w, index = arrays
    if shared(w, k):
        return raw.embedding(bare(w, k), index, padding=padding)
    w, index = widened(k, [w, index])
    rows = w.shape[k]
    if index.size and (int(index.max()) >= rows or int(index.min()) < 0):
        raise Decline
    return raw.embedding(fold(w, k), index + _offsets(raw, w.shape[:k], rows, index.ndim - k), padding=-1)


def _offsets(raw: Any, lead: tuple[int, ...], rows: int, ndim: int) -> Any:
    """The number of an example times `rows`. -> (*lead, 1, ...)."""
    return (raw.xp.arange(math.prod(lead)) * rows).reshape(*lead, *(1,) * ndim)


@rule
def embedding_backward(raw: Any, k: int, arrays: Any, /, *, rows: int, padding: Any) -> Any:
    g, index = widened(k, arrays)
    lead = g.shape[:k]
    places = index + _offsets(raw, lead, rows, index.ndim - k)
    out = raw.embedding_backward(g, places, rows=math.prod(lead) * rows, padding=-1)
    out = out.reshape(*lead, rows, *out.shape[1:])
    if padding >= 0:
        out[(*(slice(None),) * k, padding)] = 0
    return out


@program("searchsorted")
def _searchsorted(loop: Any, edges: Any, x: Any, *, right: bool) -> Any:
    if isinstance(edges, Batched) and not shared(edges.value, len(edges.scope)) or edges.ndim != 1:
        return loop(edges, x, right=right)
    own = bare(edges.value, len(edges.scope)) if isinstance(edges, Batched) else edges
    if not isinstance(x, Batched):
        return loop(edges, x, right=right)
    return x.like(raw_by_type[x.value.__class__].searchsorted(own, x.value, right=right))


# ---- losses of classes -----------------------------------------------------------------------------------------------


def _rows_rule(name: str) -> Rule:
    """For ops on rows of class scores and a class number per row."""

    def made(raw: Any, k: int, arrays: Any, /, **kw: Any) -> Any:
        return getattr(raw, name)(*widened(k, arrays), **kw)

    return made


for _name in ("softmax_cross_entropy", "class_mask"):
    RULES[_name] = _rows_rule(_name)


@rule
def cross_entropy(raw: Any, k: int, arrays: Any, /, *, ignore_index: int, reduction: str) -> Any:
    logits, target = widened(k, arrays)
    loss, top, total = raw.softmax_cross_entropy(logits, target, ignore_index=ignore_index)
    kept = raw.count_nonzero(target != ignore_index, axis=tuple(range(k, target.ndim)))
    if target.ndim == k:
        kept = (target != ignore_index).astype("i8")
    count = raw.xp.maximum(kept, 1).astype(logits.dtype)  # what the rule makes of it too
    if reduction == "none":
        return loss, top, total, count
    loss = reduce_examples(raw, k, loss, "sum")
    if reduction == "mean":
        loss = (loss / kept).astype(logits.dtype)
    return loss, top, total, count


def _folded_classes(k: int, x: Any, target: Any) -> tuple[Any, Any]:
    """(*B, N, C, *) and (*B, N, *), or (*B, C) and (*B,), with the batch axes merged into N."""
    if x.ndim == k + 1:
        return x.reshape(-1, x.shape[-1]), target.reshape(-1)
    return fold(x, k), fold(target, k)


def _nll(name: str) -> Rule:
    def made(raw: Any, k: int, arrays: Any, /, *, ignore_index: int, reduction: str) -> Any:
        x, target, weight = (*arrays, None)[:3]
        if not shared(weight, k):
            raise Decline
        x, target = widened(k, [x, target])
        rows, classes = _folded_classes(k, x, target)
        kw = {"ignore_index": ignore_index, "reduction": "none"}
        loss = raw.nll_loss(rows, classes, bare(weight, k), **kw).reshape(target.shape)
        if reduction != "mean":
            return reduce_examples(raw, k, loss, reduction)
        weights = raw.nll_loss(-raw.xp.ones_like(rows), classes, bare(weight, k), **kw).reshape(target.shape)
        return reduce_examples(raw, k, loss, "sum") / reduce_examples(raw, k, weights, "sum")

    return made


RULES["nll_loss"], RULES["nll_loss_2d"] = _nll("nll_loss"), _nll("nll_loss_2d")


@rule
def nll_loss_backward(raw: Any, k: int, arrays: Any, /, *, shape: Any, ignore_index: int, reduction: str) -> Any:
    g, target, weight = (*arrays, None)[:3]
    if not shared(weight, k):
        raise Decline
    g, target = widened(k, [g, target])
    lead = target.shape[:k]
    like = raw.xp.ones((*lead, *shape), g.dtype)
    rows, classes = _folded_classes(k, like, target)
    kw = {"ignore_index": ignore_index, "reduction": "none"}
    if reduction != "none":
        if reduction == "mean":
            weights = raw.nll_loss(-rows, classes, bare(weight, k), **kw).reshape(target.shape)
            total = reduce_examples(raw, k, weights, "sum")
            g = g / raw.xp.where(total == 0, 1, total).astype(g.dtype)
        g = raw.xp.broadcast_to(g[(..., *(None,) * (target.ndim - k))], target.shape)
    out = raw.nll_loss_backward(g.reshape(classes.shape), classes, bare(weight, k), shape=rows.shape, **kw)
    return out.reshape(*lead, *shape)


_SELECT = (
    "vmap: Attempted to vmap over `mask` in torch.masked_select(self, mask) We cannot support this because for each "
    "batch this would return a differently sized Tensor. Please voice your support in "
    "https://github.com/pytorch/functorch/issues/256"
)


@program("nonzero", "masked_select")
def _of_dynamic_shape(loop: Any, name: str, *arrays: Any) -> Any:
    mask = arrays[-1]
    if isinstance(mask, Batched) and not mask.is_shared():
        raise RuntimeError(_SELECT if name == "masked_select" else DYNAMIC.format(what="aten::nonzero"))
    return loop(*arrays)


# ---- parts replaced --------------------------------------------------------------------------------------------------


@program("copy_slices", "select_scatter", "slice_scatter", "diagonal_scatter")
def _replaced(loop: Any, name: str, base: Any, value: Any, *, chain: Any) -> Any:
    F = raw_by_type[(base if isinstance(base, Batched) else value).__class__]
    scope = joined([a.scope for a in (base, value) if isinstance(a, Batched)])
    raw = raw_by_type[(base if isinstance(base, Batched) else value).value.__class__]
    k = len(scope)
    values = [aligned(a, scope, a.ndim) for a in (base, value)]
    out = as_batched(raw, raw.xp.array(whole(values[0], scope), copy=True, order="C"), scope)
    region = out
    for step, kw in chain:
        region = getattr(F, step)(region, **kw)
    region.value[...] = values[1][(*(slice(None),) * k, *(None,) * (region.ndim - value.ndim), ...)]
    return out


@program("zero_region")
def _zero_region(loop: Any, x: Any, *, chain: Any) -> Any:
    F = raw_by_type[x.__class__]
    out = F.clone(x)
    region = out
    try:
        for step, kw in chain:
            region = getattr(F, step)(region, **kw)
    except RuntimeError:  # a step that is only possible in the memory of the original
        return loop(x, chain=chain)
    region.value[...] = 0
    return out


@program("transfer")
def _transfer(loop: Any, x: Any, *, device: Any) -> Any:
    return x.like(raw_by_type[x.value.__class__].transfer(x.value, device=device))
