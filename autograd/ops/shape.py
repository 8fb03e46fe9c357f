"""Shapes: views of the same memory, joins, and copies that reorder or repeat.

View ops always share memory; where that is impossible they raise, and `reshape` copies instead. Their gradients put
the part back where it was taken from (`slice_backward`, `diag_embed`, `fold`), and those ops take it out again.
"""

from __future__ import annotations

import math

from ..op import composite, op
from .core import copy_slices

# ---- views -----------------------------------------------------------------------------------------------------------


def can_view(shape, strides, new_shape):
    """Whether memory with these strides can be seen in another shape of as many elements without a copy.

    Dimensions that lie behind one another in memory are merged into runs, from the last one on; each run must be the
    product of whole dimensions of the new shape.
    """
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    new = [n for n in new_shape if n != 1]
    if 0 in shape:
        return True
    while old:
        run, stride = old.pop()
        while old and old[-1][1] == run * stride:
            run *= old.pop()[0]
        while run > 1 and new and run % new[-1] == 0:
            run //= new.pop()
        # a run may only be split where both sides agree; what is left over would span two runs
        if run != 1:
            return False
    return not new


@op(view=True)
def view(xp, x, *, shape):
    """x with another shape, sharing memory. x: (*S) -> (*shape). RuntimeError where its strides do not allow that."""
    if x.flags.c_contiguous or can_view(x.shape, x.strides, shape) or math.prod(shape) != x.size:
        try:
            return x.reshape(shape)
        except ValueError:
            raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {x.size}") from None
    raise RuntimeError(
        "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
        "contiguous subspaces). Use .reshape(...) instead."
    )


view.vjp(x=lambda F, g, *, x_shape: F.reshape(g, shape=x_shape))


@op(grad_name="UnsafeView")
def reshape(xp, x, *, shape):
    """x with another shape, as a fresh array or (raw only) a view. x: (*S) -> (*shape)."""
    return x.reshape(shape)


reshape.vjp(x=lambda F, g, *, x_shape: F.reshape(g, shape=x_shape))


@op(view=True)
def view_dtype(xp, x, *, dtype):
    """x's memory read as another NumPy dtype; the last dimension scales with the sizes. x: (*S, N) -> (*S, M)."""
    return x.view(dtype)


@op(view=True)
def permute(xp, x, *, axes):
    """x with its dimensions reordered. x: (*S) -> (S in the order of axes)."""
    return x.transpose(axes)


permute.vjp(x=lambda F, g, *, axes: F.permute(g, axes=tuple(axes.index(i) for i in range(len(axes)))))


@op(view=True)
def transpose(xp, x, *, axis0, axis1):
    """x with two dimensions exchanged. x: (*S) -> (S with axis0 and axis1 exchanged)."""
    return x.swapaxes(axis0, axis1)


transpose.vjp(x=lambda F, g, *, axis0, axis1: F.transpose(g, axis0=axis0, axis1=axis1))


@op(view=True)
def t(xp, x):
    """The transpose of a matrix. x: (N, M) -> (M, N)."""
    return x.T


t.vjp(x=lambda F, g: F.t(g))


@op(view=True)
def squeeze(xp, x, *, axis):
    """x without those of the dimensions `axis` that have size 1. x: (*S) -> (S without them)."""
    return x.squeeze(tuple(i for i in axis if x.shape[i] == 1)).view()


squeeze.vjp(x=lambda F, g, *, x_shape: F.reshape(g, shape=x_shape))

# PyTorch numbers its overloads: squeeze(), squeeze(dim), squeeze((dim, ...)).
squeeze_dim = op(squeeze.op.generic, name="squeeze_dim", view=True, grad_name="SqueezeBackward1")
squeeze_dims = op(squeeze.op.generic, name="squeeze_dims", view=True, grad_name="SqueezeBackward2")
for _op in (squeeze_dim, squeeze_dims):
    _op.vjp(x=lambda F, g, *, x_shape: F.reshape(g, shape=x_shape))


@op(view=True)
def unsqueeze(xp, x, *, axis):
    """x with a new dimension of size 1. x: (*S) -> (S with 1 at axis)."""
    shape = x.shape
    return x[(slice(None),) * axis + (None,)] if axis < len(shape) else x[..., None]


unsqueeze.vjp(x=lambda F, g, *, x_shape: F.reshape(g, shape=x_shape))


@op(view=True)
def select(xp, x, *, axis, index):
    """The slice of one index along an axis, which is dropped. x: (*S) -> (S without axis)."""
    if not axis:
        return x[index, ...]
    return x[(slice(None),) * axis + (index, Ellipsis)]


select.vjp(
    x=lambda F, g, *, x_shape, axis, index: F.slice_backward(
        g, shape=x_shape, index=(slice(None),) * axis + (index, Ellipsis)
    )
)


def _select_into(held, g, *, axis, index):
    held[(slice(None),) * axis + (index, Ellipsis)] += g


select.vjp_into(x=_select_into)


@op(view=True, grad_name="Slice")
def slice_view(xp, x, *, index):
    """x[index] for a basic index: ints, slices with positive steps, None, and `...` at its end. x: (*S) -> (*T)."""
    return x[index]


def _slice_into(held, g, *, index):
    held[index] += g


# The same under the name that PyTorch gives to the last step of its chain, for x[0, 1], x[0, None], x[...].
select_view = op(slice_view.op.generic, name="select_view", view=True, grad_name="Select")
unsqueeze_view = op(slice_view.op.generic, name="unsqueeze_view", view=True, grad_name="Unsqueeze")
alias_view = op(slice_view.op.generic, name="alias_view", view=True, grad_name="Alias")
for _op in (slice_view, select_view, unsqueeze_view, alias_view):
    _op.vjp(x=lambda F, g, *, x_shape, index: F.slice_backward(g, shape=x_shape, index=index))
    _op.vjp_into(x=_slice_into)


@op()
def slice_backward(xp, g, *, shape, index):
    """Zeros of a shape with g at a basic index. g: (*T) -> (*shape)."""
    out = xp.zeros(shape, g.dtype)
    out[index] = g
    return out


slice_backward.vjp(g=lambda F, h, *, index: F.slice_view(h, index=index))


def _writable(view, x):
    """NumPy's diagonal is read-only; here it may be written wherever x may be."""
    if getattr(x.flags, "writeable", False):
        view.flags.writeable = True
    return view


@op(view=True)
def diagonal(xp, x, *, offset, axis1, axis2):
    """The diagonal of two axes, as the last dimension. x: (*S) -> (S without axis1 and axis2, n)."""
    return _writable(xp.diagonal(x, offset, axis1, axis2), x)


diagonal.vjp(
    x=lambda F, g, *, x_shape, offset, axis1, axis2: F.diag_embed(
        g, shape=x_shape, offset=offset, axis1=axis1, axis2=axis2
    )
)


@op()
def diag_embed(xp, x, *, shape, offset, axis1, axis2):
    """Zeros with x on the diagonal of two axes. x: (S without axis1 and axis2, n) -> (*shape)."""
    out = xp.zeros(shape, x.dtype)
    _writable(xp.diagonal(out, offset, axis1, axis2), out)[...] = x
    return out


diag_embed.vjp(x=lambda F, g, *, offset, axis1, axis2: F.diagonal(g, offset=offset, axis1=axis1, axis2=axis2))


@op(view=True)
def unfold(xp, x, *, axis, size, step):
    """Windows of `size` every `step` along an axis, as a last dimension. x: (*S) -> (S with n at axis, size)."""
    windows = xp.lib.stride_tricks.sliding_window_view(x, size, axis, writeable=True)
    return windows[(slice(None),) * axis + (slice(None, None, step),)]


unfold.vjp(x=lambda F, g, *, x_shape, axis, size, step: F.fold(g, shape=x_shape, axis=axis, size=size, step=step))


@op()
def fold(xp, g, *, shape, axis, size, step):
    """The sum of windows at the places where `unfold` takes them. g: (S with n at axis, size) -> (*shape)."""
    out = xp.zeros(shape, g.dtype)
    lead, span = (slice(None),) * axis, step * (g.shape[axis] - 1) + 1
    for i in range(size):
        out[(*lead, slice(i, i + span, step))] += g[..., i]
    return out


fold.vjp(g=lambda F, h, *, axis, size, step: F.unfold(h, axis=axis, size=size, step=step))


def _strided_places(xp, size, stride, offset):
    """Memory places, in elements, of a strided array. -> (*size) int."""
    places = xp.asarray(offset)
    for n, s in zip(size, stride, strict=True):
        places = places[..., None] + xp.arange(n) * s
    return places


def _last_place(size, stride, offset):
    """The largest of these places, at least 0."""
    last = offset + sum((n - 1) * max(s, 0) for n, s in zip(size, stride, strict=True))
    return max(last, 0) if 0 not in size else 0


def _logical_places(xp, shape, layout, size, stride, offset):
    """For each element of an as_strided view, the row-major number of x's element there, else -1. -> (*size)."""
    places = _strided_places(xp, size, stride, offset)
    own = _strided_places(xp, shape, layout, 0).reshape(-1)
    number = xp.full(max(_last_place(shape, layout, 0), _last_place(size, stride, offset)) + 1, -1)
    number[own] = xp.arange(own.size)
    return xp.where(places < 0, -1, number[xp.maximum(places, 0)])


@op(view=True)
def as_strided(xp, x, *, layout, size, stride, offset):
    """x's memory with other sizes and strides (in elements, from x's first one). x: (*S) -> (*size).

    `layout`: the strides of x for which the places are meant; the caller has seen to it that the memory reaches so far.
    An array that lies otherwise gives a copy of the same elements.
    """
    item = x.itemsize
    if x.strides != tuple(s * item for s in layout):
        return as_strided_gather.op.generic(xp, x, layout=layout, size=size, stride=stride, offset=offset)
    start = x
    if offset:  # it may lie before x
        start = xp.lib.stride_tricks.as_strided(x, (abs(offset) + 1,), (item if offset > 0 else -item,))[abs(offset) :]
    return xp.lib.stride_tricks.as_strided(start, size, tuple(s * item for s in stride))


@op()
def as_strided_gather(xp, x, *, layout, size, stride, offset):
    """The elements that as_strided shows of an array with the strides `layout`; zeros where it shows none of x's.

    x: (*S), in whatever order of memory -> (*size).
    """
    flat = xp.concatenate((x.reshape(-1), xp.zeros(1, x.dtype)))  # place -1 shows the zero
    return flat[_logical_places(xp, x.shape, layout, size, stride, offset)]


@op()
def as_strided_backward(xp, g, *, shape, layout, size, stride, offset):
    """g summed into the elements of x that its own lie on. g: (*size) -> (*shape)."""
    out = xp.zeros(math.prod(shape) + 1, g.dtype)  # the last one takes what falls between x's elements
    xp.add.at(out, _logical_places(xp, shape, layout, size, stride, offset).reshape(-1), g.reshape(-1))
    return out[:-1].reshape(shape)


for _op in (as_strided, as_strided_gather):
    _op.vjp(
        x=lambda F, g, *, x_shape, layout, size, stride, offset: F.as_strided_backward(
            g, shape=x_shape, layout=layout, size=size, stride=stride, offset=offset
        )
    )
as_strided_backward.vjp(
    g=lambda F, h, *, layout, size, stride, offset: F.as_strided_gather(
        h, layout=layout, size=size, stride=stride, offset=offset
    )
)

# ---- several views at once -------------------------------------------------------------------------------------------


@op()
def zeros_of(xp, x, *, shape):
    """Zeros of x's dtype. x: (*S) -> (*shape)."""
    return xp.zeros(shape, x.dtype)


def _all_parts(F, parts, shapes):
    """The gradients of several outputs, zeros for those that nobody asked about."""
    like = next(p for p in parts if p is not None)
    return [F.zeros_of(like, shape=s) if p is None else p for p, s in zip(parts, shapes, strict=True)]


def _split_gradient(F, g, *, x_shape, axis, sizes):
    present = [i for i, p in enumerate(g) if p is not None]
    starts = starts_of(sizes)
    if len(present) == 1:
        (i,) = present
        place = (slice(None),) * axis + (slice(starts[i], starts[i] + sizes[i]), Ellipsis)
        return F.slice_backward(g[i], shape=x_shape, index=place)
    shapes = [(*x_shape[:axis], n, *x_shape[axis + 1 :]) for n in sizes]
    return F.cat(*_all_parts(F, g, shapes), axis=axis, starts=starts)


def _unbind_gradient(F, g, *, x_shape, axis):
    present = [i for i, p in enumerate(g) if p is not None]
    if len(present) == 1:
        (i,) = present
        return F.slice_backward(g[i], shape=x_shape, index=(slice(None),) * axis + (i, Ellipsis))
    shape = x_shape[:axis] + x_shape[axis + 1 :]
    return F.stack(*_all_parts(F, g, [shape] * len(g)), axis=axis)


# These two have as many outputs as x has parts, and are recorded by api/split.py, not by a generated function.
@op(view=True, outputs=("parts",))
def split(xp, x, *, axis, sizes):
    """x cut along axis into parts of the given sizes. x: (*S) -> (S with sizes[i] at axis) for each i."""
    lead = (slice(None),) * axis
    return tuple(x[(*lead, slice(a, a + n))] for a, n in zip(starts_of(sizes), sizes, strict=True))


split_with_sizes = op(split.op.generic, name="split_with_sizes", view=True, outputs=("parts",))
for _op in (split, split_with_sizes):
    _op.vjp(x=_split_gradient)


@op(view=True, outputs=("parts",))
def unbind(xp, x, *, axis):
    """The slices of x along an axis, which is dropped. x: (*S) -> (S without axis) for each index."""
    lead = (slice(None),) * axis
    return tuple(x[(*lead, i, Ellipsis)] for i in range(x.shape[axis]))


unbind.vjp(x=_unbind_gradient)


def starts_of(sizes):
    """Where each of the consecutive parts begins."""
    starts, start = [], 0
    for n in sizes:
        starts.append(start)
        start += n
    return tuple(starts)


# ---- joins -----------------------------------------------------------------------------------------------------------


@op(promote="same", row_major=True)
def cat(xp, *xs, axis, starts=None):
    """Arrays joined along an axis. xs: (*S) but for axis, each -> (S with the sum at axis).

    `starts`: where each begins, which spares the rules the sums. Arrays of shape (0,) go with any others.
    """
    try:
        return xp.concatenate(xs, axis)
    except ValueError as error:
        text = _cat_text(xs, axis)
        if text is None:
            return xp.concatenate([x for x in xs if x.shape != (0,)], axis)
        raise RuntimeError(text) from error


def _cat_text(xs, axis):
    """What does not fit, in PyTorch's words; None where it is only arrays of shape (0,)."""
    first = next((x.shape for x in xs if x.shape != (0,)), (0,))
    for i, x in enumerate(xs):
        if x.shape == (0,):
            continue
        if x.ndim != len(first):
            return f"Tensors must have same number of dimensions: got {len(first)} and {x.ndim}"
        for d, (a, b) in enumerate(zip(first, x.shape, strict=True)):
            if a != b and d != axis:
                return (
                    f"Sizes of tensors must match except in dimension {axis}. Expected size {a} but got size {b} for "
                    f"tensor number {i} in the list."
                )
    return None


def _cat_gradient(F, g, i, *, xs_shapes, axis, starts):
    if len(xs_shapes[i]) < len(g.shape):
        return F.zeros_of(g, shape=xs_shapes[i])
    start = starts[i] if starts is not None else sum(s[axis] for s in xs_shapes[:i] if len(s) > axis)
    return F.slice_view(g, index=(slice(None),) * axis + (slice(start, start + xs_shapes[i][axis]), Ellipsis))


cat.vjp(xs=_cat_gradient)


@op(promote="same", row_major=True)
def stack(xp, *xs, axis):
    """Arrays joined along a new axis. xs: (*S) each -> (S with len(xs) at axis)."""
    shape = xs[0].shape
    for i, x in enumerate(xs):
        if x.shape != shape:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and {list(x.shape)} "
                f"at entry {i}"
            )
    place = (slice(None),) * axis + (None, Ellipsis)
    return xp.concatenate([x[place] for x in xs], axis)


stack.vjp(xs=lambda F, g, i, *, axis: F.select(g, axis=axis, index=i))


@op()
def repeat(xp, x, *, reps):
    """x repeated reps[i] times along dimension i, end to end. x: (*S) -> (reps[i] * S[i] ...); len(reps) = len(S)."""
    return xp.tile(x, reps)


@composite
def repeat_backward(F, g, *, shape, reps):
    """g summed over the repetitions. g: (reps[i] * shape[i] ...) -> (*shape)."""
    parts = F.reshape(g, shape=tuple(n for pair in zip(reps, shape, strict=True) for n in pair))
    return F.sum(parts, axis=tuple(range(0, 2 * len(reps), 2)), keepdims=False)


repeat.vjp(x=lambda F, g, *, x_shape, reps: F.repeat_backward(g, shape=x_shape, reps=reps))

# ---- copies that reorder ---------------------------------------------------------------------------------------------


@op()
def flip(xp, x, *, axes):
    """x with the order reversed along axes. x: (*S) -> (*S)."""
    reverse = tuple(slice(None, None, -1) if i in axes else slice(None) for i in range(x.ndim))
    return xp.array(x[reverse], copy=True, order="C")


flip.vjp(x=lambda F, g, *, axes: F.flip(g, axes=axes))


@op(row_major=True)
def roll(xp, x, *, shifts, axes):
    """x moved by shifts[i] places along axes[i], around the end. x: (*S) -> (*S)."""
    return xp.roll(x, shifts, axes)


roll.vjp(x=lambda F, g, *, shifts, axes: F.roll(g, shifts=tuple(-s for s in shifts), axes=axes))


@op(grad_name="Rot90Backward0")
def rot90(xp, x, *, k, axes):
    """x rotated k quarter turns in the plane of two axes. x: (*S) -> (S, axes exchanged for odd k)."""
    return xp.array(xp.rot90(x, k, axes), copy=True, order="K")


rot90.vjp(x=lambda F, g, *, k, axes: F.rot90(g, k=-k, axes=axes))


@op(row_major=True)
def tril(xp, x, *, k):
    """x with zeros above diagonal k. x: (*B, N, M) -> (*B, N, M)."""
    return xp.tril(x, k)


tril.vjp(x=lambda F, g, *, k: F.tril(g, k=k))


@op(row_major=True)
def triu(xp, x, *, k):
    """x with zeros below diagonal k. x: (*B, N, M) -> (*B, N, M)."""
    return xp.triu(x, k)


triu.vjp(x=lambda F, g, *, k: F.triu(g, k=k))

# ---- padding ---------------------------------------------------------------------------------------------------------


@op(grad_name="ConstantPadNd")
def pad_constant(xp, x, *, widths, value):
    """x with (before, after) = widths[i] elements of one value added along each dimension; negative widths cut off.

    x: (*S) -> (S[i] + before + after ...). With value 0, the adjoint is the padding with the opposite widths.
    """
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, widths, strict=True))
    out = xp.full(shape, value, x.dtype) if value else xp.zeros(shape, x.dtype)
    to = tuple(slice(max(a, 0), n - max(b, 0)) for n, (a, b) in zip(shape, widths, strict=True))
    out[to] = x[tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, widths, strict=True))]
    return out


pad_constant.vjp(x=lambda F, g, *, widths: F.pad_constant(g, widths=tuple((-a, -b) for a, b in widths), value=0))


def _padded_places(xp, n, before, after, how):
    """The index in a dimension of n elements that each place of the padded one shows. -> (before + n + after,) int."""
    places = xp.arange(-before, n + after)
    if how == "circular":
        return places % n
    if how == "reflect":
        return (n - 1) - abs((n - 1) - abs(places))
    return xp.clip(places, 0, n - 1)


@op(grad_name="Pad")
def pad_edge(xp, x, *, widths, how):
    """x continued beyond its edges: "reflect", "replicate" or "circular". x: (*S) -> (S[i] + before + after ...)."""
    out = x
    for axis, (before, after) in enumerate(widths):
        if before or after:
            out = out.take(_padded_places(xp, x.shape[axis], before, after, how), axis)
    return x.copy() if out is x else out


@op()
def pad_edge_backward(xp, g, *, widths, how):
    """g with what lies in the padding added to the elements it was copied from. g: (padded S) -> (*S)."""
    for axis, (before, after) in enumerate(widths):
        if before or after:
            n = g.shape[axis] - before - after
            g = xp.moveaxis(g, axis, 0)
            out = g[before : before + n].copy()
            places = _padded_places(xp, n, before, after, how).tolist()
            for i in (*range(before), *range(before + n, before + n + after)):
                out[places[i]] += g[i]
            g = xp.moveaxis(out, 0, axis)
    return g


pad_edge.vjp(x=lambda F, g, *, widths, how: F.pad_edge_backward(g, widths=widths, how=how))
pad_edge_backward.vjp(g=lambda F, h, *, widths, how: F.pad_edge(h, widths=widths, how=how))

# ---- a part replaced -------------------------------------------------------------------------------------------------

# select_scatter, slice_scatter, diagonal_scatter: a copy of base in which the view `chain` is replaced by value.
select_scatter = op(copy_slices.op.generic, name="select_scatter")
slice_scatter = op(copy_slices.op.generic, name="slice_scatter")
diagonal_scatter = op(copy_slices.op.generic, name="diagonal_scatter")


@op()
def as_strided_scatter(xp, base, value, *, chain):
    """base with the elements that an as_strided view shows replaced by value. base: (*B), value: (*V) -> (*B)."""
    places = _logical_places(xp, base.shape, **chain[0][1])
    out = xp.concatenate((base.reshape(-1), xp.zeros(1, base.dtype)))  # the last one takes what is no element of base
    out[places] = value
    return out[:-1].reshape(base.shape)


for _op in (select_scatter, slice_scatter, diagonal_scatter, as_strided_scatter):
    _op.vjp(
        base=lambda F, g, *, chain: F.zero_region(g, chain=chain),
        value=lambda F, g, *, chain: F.view_region(g, chain=chain),
    )
