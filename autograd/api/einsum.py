"""einsum, tensordot and kron: sums of products over named dimensions, by matrix products and nothing else.

An equation is planned once per set of shapes (`_plan`): repeated letters become diagonals, letters that only one
operand has and the result has not are summed, and operands are joined pair by pair, the pair first whose result is
small beside what it replaces. A pair becomes one batched matrix product (*batch, left, sum) @ (*batch, sum, right).
So gradients of all orders are those of permute, reshape, sum and matmul.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from ..op import GRAPH
from ..tensor import Tensor
from .args import dim_of, to_dtype
from .table import public

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# A label is a letter, or an int below 0 for a dimension of the ellipsis: -1 the last one.
Labels = tuple[Any, ...]


@public(method=False)
def einsum(equation: Any, *operands: Any) -> Tensor:
    """The sum of products that an equation names, such as "bij,bjk->bik"; or operand, sublist, ..., [output sublist].

    operands: (*S), (*T), ..., with one letter for each dimension.

    Without "->" the result has the letters that occur once, in alphabetical order, after the ellipsis.

    >>> import tapegrad as torch
    >>> torch.einsum("ij,ij->i", torch.ones(2, 3), torch.ones(2, 3))
    tensor([3., 3.])
    """
    if not operands:
        raise ValueError(
            "einsum(): must specify the equation string and at least one operand, or at least one operand and its "
            "subscripts list"
        )
    if isinstance(equation, Tensor):
        equation, operands = _from_sublists((equation, *operands))
    elif len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = tuple(operands[0])
    for i, t in enumerate(operands):
        if not isinstance(t, Tensor):
            raise TypeError(f"expected Tensor as element {i} in argument 1, but got {type(t).__name__}")
    steps, result = _plan(equation, tuple([t.array.shape for t in operands]))
    return _carry_out(steps, result, list(operands))


def _from_sublists(args: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """The equation and operands of `einsum(x, [0, 1], y, [1, 2], [0, 2])`."""

    def letters(sublist: Any) -> str:
        found = []
        for item in sublist:
            if item is not Ellipsis and not 0 <= item < 52:
                raise ValueError("einsum(): subscript in subscript list is not within the valid range [0, 52)")
            found.append("..." if item is Ellipsis else LETTERS[item])
        return "".join(found)

    operands, sublists = args[0 : len(args) // 2 * 2 : 2], args[1::2]
    equation = ",".join([letters(s) for s in sublists[: len(operands)]])
    return equation + ("->" + letters(args[-1]) if len(args) % 2 else ""), operands


# ---- reading the equation


def _read_operand(text: str, offset: int, equation: str, place: str) -> list[Any]:
    """Letters, and None for the ellipsis. RuntimeError for anything else."""
    found: list[Any] = []
    i = 0
    while i < len(text):
        c = text[i]
        if c == ".":
            if None in found:
                raise RuntimeError(f"einsum(): found '.' for {place} for which an ellipsis was already found")
            if text[i : i + 3] != "...":
                raise RuntimeError(f"einsum(): found '.' for {place} that is not part of any ellipsis")
            found.append(None)
            i += 3
            continue
        if c != " ":
            if not (c.isascii() and c.isalpha()):
                raise RuntimeError(
                    f"einsum(): invalid subscript given at index {offset + i} in the equation string, subscripts must "
                    "be in [a-zA-Z]"
                )
            found.append(c)
        i += 1
    return found


def _parse(equation: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[Labels], Labels]:
    """The labels of each operand and of the result."""
    left, arrow, right = equation.partition("->")
    texts = left.split(",")
    if len(texts) != len(shapes):
        word = "fewer" if len(shapes) < len(texts) else "more"
        raise RuntimeError(f"einsum(): {word} operands were provided than specified in the equation")
    offset, operands, wide = 0, [], 0
    for i, (text, shape) in enumerate(zip(texts, shapes, strict=True)):
        items = _read_operand(text, offset, equation, f"operand {i}")
        offset += len(text) + 1
        covered = len(shape) - len([c for c in items if c])
        if covered < 0 or (covered and None not in items):
            and_more = "" if None in items else " and no ellipsis was given"
            word = "is more than" if None in items else "does not match"
            raise RuntimeError(
                f"einsum(): the number of subscripts in the equation ({len([c for c in items if c])}) {word} the "
                f"number of dimensions ({len(shape)}) for operand {i}{and_more}"
            )
        wide = max(wide, covered)
        operands.append(_with_ellipsis(items, covered))
    if arrow:
        items = _read_operand(right, len(left) + 2, equation, "the output")
    else:
        letters = sorted([c for labels in operands for c in labels if isinstance(c, str)])
        items = [None, *[c for c in letters if letters.count(c) == 1]]
    for c in items:
        if c and items.count(c) > 1:
            raise RuntimeError(f"einsum(): output subscript {c} appears more than once in the output")
        if c and not any(c in labels for labels in operands):
            raise RuntimeError(
                f"einsum(): output subscript {c} does not appear in the equation for any input operand"
            )
    return operands, _with_ellipsis(items, wide)


def _with_ellipsis(items: list[Any], covered: int) -> Labels:
    dims = tuple(range(-covered, 0))
    return tuple([label for c in items for label in (dims if c is None else (c,))])


def _sizes(operands: list[Labels], shapes: Sequence[tuple[int, ...]]) -> dict[Any, int]:
    """The size of each label. RuntimeError where sizes differ and neither is 1."""
    sizes: dict[Any, int] = {}
    for i, (labels, shape) in enumerate(zip(operands, shapes, strict=True)):
        own: dict[Any, int] = {}
        for c, n in zip(labels, shape, strict=True):
            if own.setdefault(c, n) != n:
                raise RuntimeError(
                    f"einsum(): subscript {c} is repeated for operand {i} but the sizes don't match, {n} != {own[c]}"
                )
        for c, n in own.items():
            seen = sizes.setdefault(c, n)
            if seen != n and 1 not in (seen, n):
                word = "dimension of the ellipsis" if isinstance(c, int) else f"subscript {c}"
                raise RuntimeError(
                    f"einsum(): {word} has size {n} for operand {i} which does not broadcast with previously seen size "
                    f"{seen}"
                )
            sizes[c] = n if seen == 1 else seen
    return sizes


# ---- the plan


@functools.lru_cache(maxsize=512)
def _plan(equation: str, shapes: tuple[tuple[int, ...], ...]) -> tuple[list[Any], Any]:
    """(steps, last permutation): first one ("alone", ...) per operand, then the pairs ("join", i, j, ...)."""
    operands, result = _parse(equation, shapes)
    sizes = _sizes(operands, shapes)
    steps: list[Any] = []
    held: list[Labels] = []
    for labels, shape in zip(operands, shapes, strict=True):
        diagonals, kept = _diagonals(labels)
        own = dict(zip(labels, shape, strict=True))
        # a dimension of size 1 which another operand has too is dropped: its values count for each of the other's
        dropped = [c for c in kept if own[c] == 1 and len([1 for other in operands if c in other]) > 1]
        steps.append((diagonals, tuple([k for k, c in enumerate(kept) if c in dropped])))
        held.append(tuple([c for c in kept if c not in dropped]))
    for i, kept in enumerate(held):
        wanted = set(result).union(*[other for j, other in enumerate(held) if j != i])
        steps[i] += (tuple([k for k, c in enumerate(kept) if c not in wanted]),)
    for i, (_, _, summed) in enumerate(steps):
        held[i] = tuple([c for k, c in enumerate(held[i]) if k not in summed])
    joins, labels = _order(held, result, sizes)
    place = {c: k for k, c in enumerate(labels)}
    present = [c for c in result if c in place]
    axes = tuple([place[c] for c in present])
    shape = tuple([sizes[c] if c in place else 1 for c in result])
    identity = axes == tuple(range(len(axes)))
    return [steps, joins], (None if identity else axes, None if len(present) == len(result) else shape)


def _diagonals(labels: Labels) -> tuple[tuple[tuple[int, int], ...], Labels]:
    """The pairs of dimensions to turn into diagonals, one after the other, and the labels then."""
    pairs, kept = [], list(labels)
    for c in labels:
        while kept.count(c) > 1:
            first = kept.index(c)
            second = kept.index(c, first + 1)
            pairs.append((first, second))
            del kept[second], kept[first]
            kept.append(c)
    return tuple(pairs), tuple(kept)


def _order(held: list[Labels], result: Labels, sizes: dict[Any, int]) -> tuple[list[Any], Labels]:
    """Which operands to join, in turn: the pair with the least (size of the result - sizes of the two) each time."""
    held = list(held)
    joins: list[Any] = []

    def size(labels: Any) -> int:
        return math.prod([sizes[c] for c in labels])

    while len(held) > 1:
        best: Any = None
        for j in range(1, len(held)):
            for i in range(j):
                wanted = set(result).union(*[held[k] for k in range(len(held)) if k not in (i, j)])
                joint = set(held[i]) | set(held[j])
                cost = (size(joint & wanted) - size(held[i]) - size(held[j]), size(joint), j, i)
                if best is None or cost < best[0]:
                    best = (cost, i, j, wanted)
        _, i, j, wanted = best
        join, labels = _join(held[i], held[j], wanted, sizes)
        joins.append((i, j, join))
        held = [labels, *[held[k] for k in range(len(held)) if k not in (i, j)]]
    return joins, held[0]


def _join(x: Labels, y: Labels, wanted: set[Any], sizes: dict[Any, int]) -> tuple[Any, Labels]:
    """How two operands become one: permutations, shapes of the three groups, and the labels of the result."""
    batch = tuple([c for c in x if c in y and c in wanted])
    summed = tuple([c for c in x if c in y and c not in wanted])
    left = tuple([c for c in x if c not in y])
    right = tuple([c for c in y if c not in x])

    def axes(labels: Labels, order: Labels) -> Any:
        places = tuple([labels.index(c) for c in order])
        return None if places == tuple(range(len(labels))) else places

    def shape(*groups: Labels) -> tuple[int, ...]:
        return (*[sizes[c] for c in batch], *[math.prod([sizes[c] for c in group]) for group in groups])

    out = (*batch, *left, *right)
    final = tuple([sizes[c] for c in out])
    plain = (shape(left, summed), shape(summed, right), final)
    return (axes(x, (*batch, *left, *summed)), axes(y, (*batch, *summed, *right)), *plain, bool(summed)), out


# ---- carrying it out


def _carry_out(plan: Any, last: Any, held: list[Tensor]) -> Tensor:
    alone, joins = plan
    for k, (diagonals, dropped, summed) in enumerate(alone):
        t = held[k]
        for first, second in diagonals:
            t = GRAPH.diagonal(t, offset=0, axis1=first, axis2=second)
        if dropped:
            t = GRAPH.squeeze_dims(t, axis=dropped)
        if summed:
            t = GRAPH.sum(t, axis=summed, keepdims=False)
        held[k] = t
    for i, j, (x_axes, y_axes, x_shape, y_shape, out_shape, sums) in joins:
        x, y = held[i], held[j]
        if x_axes is not None:
            x = GRAPH.permute(x, axes=x_axes)
        if y_axes is not None:
            y = GRAPH.permute(y, axes=y_axes)
        x = x if x.array.shape == x_shape else GRAPH.reshape(x, shape=x_shape)
        y = y if y.array.shape == y_shape else GRAPH.reshape(y, shape=y_shape)
        out = (GRAPH.mm if len(x_shape) == 2 else GRAPH.bmm)(_dense(x), _dense(y)) if sums else x * y
        out = out if out.array.shape == out_shape else GRAPH.reshape(out, shape=out_shape)
        held = [out, *[held[k] for k in range(len(held)) if k not in (i, j)]]
    t = held[0]
    axes, shape = last
    if axes is not None:
        t = GRAPH.permute(t, axes=axes)
    return t if shape is None else GRAPH.reshape(t, shape=shape)


def _dense(t: Tensor) -> Tensor:
    """t as BLAS takes it: a copy where neither of its last two dimensions is dense in memory."""
    strides, item = t.array.strides[-2:], t.array.itemsize
    return t if item in strides or not t.array.size else GRAPH.clone(t)


@public(method=False)
def tensordot(a: Tensor, b: Tensor, dims: Any = 2, out: Any = None) -> Tensor:
    """Products summed over dims: the last `dims` of a with the first of b, or (dims of a, dims of b).

    a: (*S, *K), b: (*K, *T) -> (*S, *T).

    >>> import tapegrad as torch
    >>> torch.tensordot(torch.ones(2, 3), torch.ones(3, 4), dims=1).shape
    torch.Size([2, 4])
    """
    n, m = a.array.ndim, b.array.ndim
    dims = dims.tolist() if isinstance(dims, Tensor) else dims
    if isinstance(dims, (tuple, list)):
        first, second = [list(d) if isinstance(d, (tuple, list)) else [d] for d in dims]
    else:
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(n, m):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        first, second = list(range(-dims, 0)), list(range(dims))
    if len(first) != len(second):
        raise RuntimeError("both dimension lists should have same length")
    for i, j in zip(first, second, strict=True):
        p, q = a.array.shape[dim_of(i, n)], b.array.shape[dim_of(j, m)]
        if p != q and 1 not in (p, q):
            raise RuntimeError(
                f"contracted dimensions need to match, but first has size {p} in dim {i} and second has size {q} in "
                f"dim {j}"
            )
    x = list(range(n))
    y = list(range(n, n + m))
    for i, j in zip(first, second, strict=True):
        y[dim_of(j, m)] = x[dim_of(i, n)]
    summed = {x[dim_of(i, n)] for i in first}
    result = to_dtype(einsum(a, x, b, y, [c for c in (*x, *y) if c not in summed]), a.dtype)
    if out is not None:
        from ..coerce import into

        return into(out, "tensordot", result)
    return result


@public
def kron(input: Tensor, other: Tensor) -> Tensor:
    """Kronecker's product: each element of input times all of other. (a, b, ...), (c, d, ...) -> (a c, b d, ...)."""
    ndim = max(input.array.ndim, other.array.ndim)
    x = (1,) * (ndim - input.array.ndim) + input.array.shape
    y = (1,) * (ndim - other.array.ndim) + other.array.shape
    product = GRAPH.reshape(input, shape=tuple([n for k in x for n in (k, 1)])) * GRAPH.reshape(
        other, shape=tuple([n for k in y for n in (1, k)])
    )
    return GRAPH.reshape(product, shape=tuple([k * n for k, n in zip(x, y, strict=True)]))
