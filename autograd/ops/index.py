"""Indexing by arrays: reading (`index`, `gather`, ...), writing into a copy, and the sums that are their adjoints.

Writers copy x and write into the copy; with inplace=True they write into x itself, for in-place methods that nobody
records or whose rules need no old value. Index arrays are checked always: NumPy does it where it accepts negative
numbers, `bounded` does it where PyTorch does not. An array library on a device, whose host should not wait for that,
brings `xp.check_index`, which has the next synchronisation raise the error.
"""

from __future__ import annotations

import math

from ..op import composite, op

FEW = 32  # rows shorter than this are added element by element


OUT_OF_BOUNDS = "index {bad} is out of bounds for dimension {axis} with size {size}"


def on_host(xp):
    """Whether a look at values costs no wait: not so for an array library that brings `check_index`."""
    return "check_index" not in xp.__dict__


def bounded(xp, index, size, axis, error=IndexError, text=OUT_OF_BOUNDS):
    """`index` as int64, if all of it is in [0, size); else the error, naming the first that is not."""
    if index.size:
        if index.dtype.itemsize != 8:
            index = index.astype("i8")
        if not on_host(xp):
            xp.check_index(index, 0, size, size, text.format(bad="{index}", axis=axis, size="{size}"), error)
        elif index.view("u8").max() >= size:  # one pass: as unsigned numbers, negative ones are the largest
            bad = int(index[(index < 0) | (index >= size)].reshape(-1)[0])
            raise error(text.format(bad=bad, axis=axis, size=size))
    return index


def written(xp, x, inplace, write):
    """x, or a copy where not `inplace`, after `write(row-major array)`."""
    if inplace and x.flags.c_contiguous:
        write(x)
        return x
    out = xp.array(x, copy=True, order="C")
    write(out)
    if inplace:
        x[...] = out
        return x
    return out


def add_rows(xp, out, rows, g):
    """out[rows[i]] += g[i] for each i, where rows may repeat. out: (V, D) row-major, rows: (N,) int, g: (N, D).

    Long rows are added in rounds, each with the next occurrence of every row, so that one round has no repetitions;
    after some rounds, and for short rows, element by element, which NumPy does fast on flat arrays.
    """
    width = out.shape[1]
    if width >= FEW and len(rows) > 1 and on_host(xp):
        order = rows.argsort(kind="stable")
        ordered = rows[order]
        starts = xp.concatenate((xp.zeros(1, "i8"), xp.flatnonzero(ordered[1:] != ordered[:-1]) + 1))
        counts = xp.diff(xp.concatenate((starts, xp.asarray([len(rows)]))))
        for k in range(min(int(counts.max()), 8)):
            live = starts[counts > k]
            out[ordered[live]] += g[order[live + k]]
        if int(counts.max()) <= 8:
            return
        rest = order[xp.arange(len(rows)) - xp.repeat(starts, counts) >= 8]
        rows, g = rows[rest], g[rest]
    places = rows if width == 1 else rows[:, None] * width + xp.arange(width)
    xp.add.at(out.reshape(-1), places.reshape(-1), g.reshape(-1))


# ---- index: x[i, :, j] -----------------------------------------------------------------------------------------------


def key_of(indices, places):
    """The index tuple with the arrays at their dimensions and full slices elsewhere."""
    key = [slice(None)] * (places[-1] + 1)
    for place, index in zip(places, indices, strict=True):
        key[place] = index
    return tuple(key)


def torch_text(error, indices):
    """An IndexError of NumPy's in PyTorch's words."""
    text = str(error)
    if text.startswith("shape mismatch"):
        shapes = ", ".join(str(list(i.shape)) for i in indices)
        return IndexError(f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}")
    return IndexError(text.replace("for axis", "for dimension"))


@op(index=("indices",))
def index(xp, x, *indices, places, unique=False):
    """x indexed by integer arrays, broadcast together, at the dimensions `places`; negative numbers count from the end.

    Where the places are neighbours, the broadcast shape B stands there, else it comes first. `unique`: no element is
    taken twice. x: (*S), indices: (*B) int -> (S without places, with B).
    """
    try:
        if len(indices) == 1:
            return x.take(indices[0], places[0])
        return xp.ascontiguousarray(x[key_of(indices, places)])
    except IndexError as error:
        raise torch_text(error, indices) from None


index.vjp(
    x=lambda F, g, *, x_shape, indices, places, unique: F.index_backward(
        g, *indices, shape=x_shape, places=places, unique=unique
    )
)


def row_numbers(xp, indices, sizes):
    """The row-major number in dimensions of these sizes that index arrays name. indices: (*B) each -> (*B) int."""
    rows = None
    for i, n in zip(indices, sizes, strict=True):
        i = xp.where(i < 0, i + n, i).astype("i8", copy=False)
        rows = i if rows is None else rows * n + i
    return rows


def spread(xp, g, indices, shape, places, unique):
    """Zeros of a shape with g added at the indexed elements."""
    sizes = [shape[p] for p in places]
    rest = [d for d in range(len(shape)) if d not in places]
    rows = row_numbers(xp, indices, sizes)
    first = places[0] if places == tuple(range(places[0], places[-1] + 1)) else 0
    if first:
        g = xp.moveaxis(g, range(first, first + rows.ndim), range(rows.ndim))
    count, width = math.prod(sizes), math.prod(shape[d] for d in rest)
    out = xp.zeros((count, width), g.dtype)
    g = g.reshape(rows.size, width)
    if unique:
        out[rows.reshape(-1)] = g
    else:
        add_rows(xp, out, rows.reshape(-1), g)
    order = (*places, *rest)
    out = out.reshape([shape[d] for d in order])
    return out if order == tuple(range(len(shape))) else out.transpose([order.index(d) for d in range(len(shape))])


@op(index=("indices",))
def index_backward(xp, g, *indices, shape, places, unique=False):
    """Zeros with g added at the indexed elements: the adjoint of `index`. g: (S without places, with B) -> (*shape)."""
    return spread(xp, g, indices, shape, places, unique)


index_backward.vjp(g=lambda F, h, *, indices, places, unique: F.index(h, *indices, places=places, unique=unique))


@op(index=("indices",))
def index_put(xp, x, value, *indices, places, accumulate=False, inplace=False):
    """x with x[indices] replaced by value, or value added to it. x: (*S), value: (*V), to be broadcast -> (*S)."""
    key, out = key_of(indices, places), x if inplace else xp.array(x, copy=True, order="C")
    try:
        if not accumulate:
            out[key] = value
        elif 8 * value.size < out.size:
            xp.add.at(out, key, value)
        else:
            out += spread(xp, xp.broadcast_to(value, out[key].shape), indices, out.shape, places, False)
    except IndexError as error:
        raise torch_text(error, indices) from None
    except ValueError:
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(value.shape)} cannot be broadcast to indexing result of "
            f"shape {list(out[key].shape)}"
        ) from None
    return out


index_put.vjp(
    x=lambda F, g, *, indices, places, accumulate: g if accumulate else F.index_zero(g, *indices, places=places),
    value=lambda F, g, *, value_shape, indices, places: F.sum_to(
        F.index(g, *indices, places=places), shape=value_shape
    ),
)


@op(index=("indices",))
def index_zero(xp, x, *indices, places):
    """x with zeros at the indexed elements. x: (*S) -> (*S). Its own adjoint."""
    out = xp.array(x, copy=True, order="C")
    out[key_of(indices, places)] = 0
    return out


index_zero.vjp(x=lambda F, g, *, indices, places: F.index_zero(g, *indices, places=places))

# ---- along one dimension, by a vector --------------------------------------------------------------------------------


@op(index=("index",))
def index_select(xp, x, index, *, axis):
    """The slices of x that index names. x: (*S), index: (N,) int in [0, n) -> (S with N at axis)."""
    return x.take(bounded(xp, index, x.shape[axis], axis, text="index out of range in self"), axis)


index_select.vjp(x=lambda F, g, *, x_shape, index, axis: F.index_backward(g, index, shape=x_shape, places=(axis,)))


def _lead(axis, index):
    return (*(slice(None),) * axis, index)


@op(index=("index",))
def index_add(xp, x, index, src, *, axis, inplace=False):
    """x with slices of src added where index says. x: (*S), index: (N,) int, src: (S with N at axis) -> (*S)."""
    index = bounded(xp, index, x.shape[axis], axis, RuntimeError)
    if not x.size or not index.size:
        return x if inplace else x.copy()

    def write(out):
        if axis == 0:
            add_rows(xp, out.reshape(len(out), -1), index, src.reshape(len(index), -1))
        else:
            out += spread(xp, src, (index,), out.shape, (axis,), False)

    return written(xp, x, inplace, write)


index_add.vjp(
    x=lambda F, g: g,
    src=lambda F, g, *, index, axis: F.index_select(g, index, axis=axis),
)


@op(index=("index",))
def index_copy(xp, x, index, src, *, axis, inplace=False):
    """x with slices replaced by those of src. x: (*S), index: (N,) int, src: (S with N at axis) -> (*S)."""
    text = "index_copy_(): index {bad} is out of bounds for dimension {axis} with size {size}"
    index = bounded(xp, index, x.shape[axis], axis, text=text)
    out = x if inplace else xp.array(x, copy=True, order="C")
    out[_lead(axis, index)] = src
    return out


index_copy.vjp(
    x=lambda F, g, *, index, axis: F.index_fill(g, index, axis=axis, value=0),
    src=lambda F, g, *, index, axis: F.index_select(g, index, axis=axis),
)


def _fill(xp, x, index, value, axis, inplace):
    out = x if inplace else xp.array(x, copy=True, order="C")
    try:
        out[_lead(axis, index)] = value
    except IndexError as error:
        raise torch_text(error, (index,)) from None
    return out


@op(index=("index",))
def index_fill(xp, x, index, *, axis, value, inplace=False):
    """x with one number in the slices that index names. x: (*S), index: (N,) int -> (*S)."""
    return _fill(xp, x, index, value, axis, inplace)


index_fill.vjp(x=lambda F, g, *, index, axis: F.index_fill(g, index, axis=axis, value=0))


@op(index=("index",), grad_name="IndexFillBackward1")
def index_fill_tensor(xp, x, index, value, *, axis, inplace=False):
    """x with a 0-d array's value in the slices that index names. x: (*S), index: (N,) int, value: () -> (*S)."""
    return _fill(xp, x, index, value, axis, inplace)


index_fill_tensor.vjp(
    x=lambda F, g, *, index, axis: F.index_fill(g, index, axis=axis, value=0),
    # each slice counts once, however often index names it
    value=lambda F, g, *, index, axis, x_shape: F.sum(
        g - F.index_fill(g, index, axis=axis, value=0), axis=tuple(range(len(x_shape))), keepdims=False
    ),
)


@op(index=("index",))
def take(xp, x, index):
    """Elements of x by their row-major number; negative ones count from the end. x: (*S), index: (*B) int -> (*B)."""
    try:
        return x.reshape(-1).take(index)
    except IndexError:
        raise _out_of_range(x, index) from None


def _out_of_range(x, index):
    bad = int(index[(index >= x.size) | (index < -x.size)].reshape(-1)[0])
    return IndexError(f"out of range: tried to access index {bad} on a tensor of {x.size} elements.")


take.vjp(x=lambda F, g, *, x_shape, index: F.take_backward(g, index, shape=x_shape))


@composite
def take_backward(F, g, index, *, shape):
    """Zeros with g added at row-major numbers. g: (*B), index: (*B) int -> (*shape)."""
    return F.reshape(F.index_backward(g, index, shape=(math.prod(shape),), places=(0,)), shape=shape)


@op(index=("index",))
def put(xp, x, index, src, *, accumulate=False, inplace=False):
    """x with src at row-major numbers, or added there. x: (*S), index, src: (N,) -> (*S)."""

    def write(out):
        flat = out.reshape(-1)
        try:
            if accumulate:
                xp.add.at(flat, index, src)
            else:
                flat[index] = src
        except IndexError:
            raise _out_of_range(x, index) from None

    return written(xp, x, inplace, write)


@composite
def put_backward(F, g, index):
    """g with zeros at row-major numbers. g: (*S), index: (N,) int -> (*S)."""
    return F.reshape(F.index_zero(F.reshape(g, shape=(math.prod(g.shape),)), index, places=(0,)), shape=g.shape)


put.vjp(
    x=lambda F, g, *, index, accumulate: g if accumulate else F.put_backward(g, index),
    src=lambda F, g, *, index: F.take(g, index),
)

# ---- by a mask -------------------------------------------------------------------------------------------------------


@op(index=("mask",))
def masked_fill(xp, x, mask, *, value, inplace=False):
    """x with one number where mask is True. x: (*S), mask: bool, broadcasts to (*S) -> (*S)."""
    out = x if inplace else xp.array(x, copy=True, order="C")
    xp.copyto(out, value, where=mask)
    return out


masked_fill.vjp(x=lambda F, g, *, mask: F.masked_fill(g, mask, value=0))


@op(index=("mask",), grad_name="MaskedFillBackward1")
def masked_fill_tensor(xp, x, mask, value, *, inplace=False):
    """x with a 0-d array's value where mask is True. x: (*S), mask: (*S) bool, value: () -> (*S)."""
    out = x if inplace else xp.array(x, copy=True, order="C")
    xp.copyto(out, value, where=mask)
    return out


masked_fill_tensor.vjp(
    x=lambda F, g, *, mask: F.masked_fill(g, mask, value=0),
    value=lambda F, g, *, mask: F.sum(F.masked_select(g, mask), axis=(0,), keepdims=False),
)


@op(index=("mask",))
def masked_select(xp, x, mask):
    """The elements of x where mask is True, in row-major order. x, mask: (*S) -> (N,)."""
    return x[mask]


masked_select.vjp(x=lambda F, g, *, mask: F.masked_spread(g, mask))


@op(index=("mask",))
def masked_spread(xp, g, mask):
    """Zeros with the elements of g, in order, where mask is True. g: (N,), mask: (*S) -> (*S)."""
    out = xp.zeros(mask.shape, g.dtype)
    out[mask] = g
    return out


masked_spread.vjp(g=lambda F, h, *, mask: F.masked_select(h, mask))


@op(index=("mask",))
def masked_scatter(xp, x, mask, src, *, inplace=False):
    """x with the first elements of src, in order, where mask is True. x, mask: (*S), src: (*T) -> (*S)."""
    count = int(xp.count_nonzero(mask))
    if count > src.size:
        raise RuntimeError("Number of elements of source < number of ones in mask")
    out = x if inplace else xp.array(x, copy=True, order="C")
    out[mask] = src.reshape(-1)[:count]
    return out


@composite
def masked_scatter_src(F, g, mask, *, shape):
    """The gradient of what masked_scatter takes: g's masked elements first, then zeros. g, mask: (*S) -> (*shape)."""
    taken = F.masked_select(g, mask)
    count, total = taken.shape[0], math.prod(shape)
    if count != total:
        taken = F.slice_backward(taken, shape=(total,), index=(slice(0, count),))
    return F.reshape(taken, shape=shape)


masked_scatter.vjp(
    x=lambda F, g, *, mask: F.masked_fill(g, mask, value=0),
    src=lambda F, g, *, mask, src_shape: F.masked_scatter_src(g, mask, shape=src_shape),
)

# ---- what only depends on the values ---------------------------------------------------------------------------------


@op()
def nonzero(xp, x):
    """The places of the elements that are not 0, one row each, in row-major order. x: (*S) -> (N, len(S)) int64."""
    if not x.ndim:
        return xp.zeros((int(x != 0), 0), "i8")
    return xp.stack(xp.nonzero(x), axis=1).astype("i8", copy=False)


@op(index=("index",))
def one_hot(xp, index, *, classes):
    """1 at each class number, 0 elsewhere. index: (*S) int in [0, classes) -> (*S, classes) int64."""
    if not on_host(xp):
        text = "Class values must be smaller than num_classes."
        xp.check_index(index, 0, classes, classes, text, RuntimeError)
    out = xp.zeros((*index.shape, classes), "i8")
    out.reshape(-1)[xp.arange(index.size) * classes + index.reshape(-1)] = 1
    return out


@op()
def searchsorted(xp, edges, x, *, right):
    """Where each x would be inserted into its sorted row, before (right: after) equal ones. Not differentiable.

    edges: (N,) or (*B, N), x: (*B, M) or, for one row of edges, any shape -> (shape of x) int64.
    """
    side = "right" if right else "left"
    if edges.ndim == 1:
        return xp.searchsorted(edges, x, side).astype("i8", copy=False)
    out = xp.zeros(x.shape, "i8")
    if not out.size or not edges.size:
        return out
    rows, values, found = edges.reshape(-1, edges.shape[-1]), x.reshape(-1, x.shape[-1]), out.reshape(-1, x.shape[-1])
    for i, row in enumerate(rows):
        found[i] = xp.searchsorted(row, values[i], side)
    return out
