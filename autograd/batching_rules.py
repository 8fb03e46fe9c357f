"""How each op runs on batches: one kind of rule for whole families, a few rules of their own, else example by example.

A rule is a function of raw arrays whose first k axes are batch axes (see batching.py), of the size of the batch or 1:

    rule(raw, k, arrays, **keywords) -> raw array(s) with the same k axes first

`raw` is the namespace of kernels for these arrays. What no table names runs once per example, which is right for every
op; tests compare every rule with that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .batching import Batched, Scope, _of, aligned, each, joined, whole
from .op import OPS, Op, raw_by_type

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


class Decline(Exception):
    """A rule that does not serve this call: it runs example by example."""


def rule_of(op: Op) -> Any:
    """The kernel of an op on Batched (and plain) arrays."""
    from . import batching_programs  # noqa: F401  (fills RULES)

    name, program = op.name, batching_programs.PROGRAMS.get(op.name)
    rule = RULES.get(name) or (pointwise(name) if _is_pointwise(op) else None)
    full = name in FULL

    def loop(*arrays: Any, **kw: Any) -> Any:
        found = next((a for a in arrays if isinstance(a, Batched)), None)
        if found is None:  # what a gradient's rule computes from arrays saved outside
            return _on_plain(name, arrays, kw)
        own = getattr(raw_by_type[found.value.__class__], name)
        out = each(own, arrays, kw)
        if kw.get("inplace"):
            return arrays[0]
        return out

    def kernel(*arrays: Any, **kw: Any) -> Any:
        batched = [a for a in arrays if isinstance(a, Batched)]
        if not batched:
            return _on_plain(name, arrays, kw)
        scope = joined([a.scope for a in batched])
        raw = raw_by_type[batched[0].value.__class__]
        values = [aligned(a, scope, a.ndim) if hasattr(a, "shape") else a for a in arrays]
        if full:
            values = [whole(v, scope) if hasattr(v, "shape") else v for v in values]
        try:
            out = rule(raw, len(scope), values, **kw)  # type: ignore[misc]
        except Decline:
            return loop(*arrays, **kw)
        return as_batched(raw, out, scope)

    if program is not None:
        return lambda *arrays, **kw: (
            program(loop, *arrays, **kw)
            if any(isinstance(a, Batched) for a in arrays)
            else _on_plain(name, arrays, kw)
        )
    return loop if rule is None else kernel


def _on_plain(name: str, arrays: Any, kw: Any) -> Any:
    """The op where nothing is batched."""
    first = next(a for a in arrays if hasattr(a, "shape"))
    return getattr(raw_by_type[first.__class__], name)(*arrays, **kw)


def as_batched(raw: Any, out: Any, scope: Scope) -> Any:
    """Raw results with the batch axes of `scope` as Batched arrays; None and numbers as they are."""
    if out.__class__ is tuple or out.__class__ is list:
        return out.__class__([as_batched(raw, o, scope) for o in out])
    if not hasattr(out, "shape"):
        return out
    return _of(scope)(raw.backend.tidy(out), scope)


def scope_sizes(scope: Scope) -> tuple[int, ...]:
    return tuple([level.size for level in scope])


# ---- kinds of rules --------------------------------------------------------------------------------------------------

_POINTWISE_FAMILIES = ("activation", "transcendental", "special", "rounding", "comparison", "elementwise", "complexes")
_NOT_POINTWISE = {"bmm", "solve", "solve_triangular", "cross", "mse_loss", "smooth_l1_loss", "huber_loss"}


def _is_pointwise(op: Op) -> bool:
    """Elementwise ops: those that broadcast, and those of the families in which all are."""
    family = op.generic.__module__.rpartition(".")[2]
    if op.name in _NOT_POINTWISE or "axis" in op.params or op.variadic:
        return False
    return op.broadcasts or family.startswith(_POINTWISE_FAMILIES)


def spread(k: int, arrays: Any) -> list[Any]:
    """The arrays with as many axes as the largest has, the new ones after the batch axes."""
    n = max(a.ndim for a in arrays if hasattr(a, "ndim"))
    return [
        a if not hasattr(a, "ndim") or a.ndim == n else a[(*(slice(None),) * k, *(None,) * (n - a.ndim), ...)]
        for a in arrays
    ]


def pointwise(name: str) -> Rule:
    """The op itself, on arrays whose examples have been given equally many axes."""

    def rule(raw: Any, k: int, arrays: Any, /, **kw: Any) -> Any:
        return getattr(raw, name)(*(spread(k, arrays) if len(arrays) > 1 else arrays), **kw)

    return rule


def native(name: str) -> Rule:
    """The op itself: it works on the last axes, whatever stands before them."""

    def rule(raw: Any, k: int, arrays: Any, /, **kw: Any) -> Any:
        return getattr(raw, name)(*arrays, **kw)

    return rule


def moved(value: Any, k: int) -> Any:
    """Axes of an example as those of the batch."""
    if isinstance(value, (tuple, list)):
        return tuple([moved(a, k) for a in value])
    return value + k if value >= 0 else value


def along(*keywords: str, full: bool = False) -> Any:
    """For ops that name axes in these keywords: the op with the axes moved behind the batch's."""

    def make(name: str) -> Rule:
        def rule(raw: Any, k: int, arrays: Any, /, **kw: Any) -> Any:
            for word in keywords:
                if kw.get(word) is None or arrays[0].ndim == k:
                    raise Decline
                kw[word] = moved(kw[word], k)
            return getattr(raw, name)(*arrays, **kw)

        return rule

    return make


def reduction(name: str) -> Rule:
    """As `along`, where an axis () reduces nothing and None all."""

    def rule(raw: Any, k: int, arrays: Any, /, *, axis: Any, **kw: Any) -> Any:
        if axis is None or arrays[0].ndim == k:
            raise Decline
        return getattr(raw, name)(*(widened(k, arrays) if len(arrays) > 1 else arrays), axis=moved(axis, k), **kw)

    return rule


def whole_reduction(name: str) -> Any:
    """For reductions of everything: the op `name` along one axis of all elements of an example."""

    def make(_: str) -> Rule:
        def rule(raw: Any, k: int, arrays: Any, /, **kw: Any) -> Any:
            (x,) = arrays
            flat = x.reshape(*x.shape[:k], math.prod(x.shape[k:]))
            tuples = "sum" in name or "mean" in name or name == "prod"
            out = getattr(raw, name)(flat, axis=(k,) if tuples or name in ("amax", "amin") else k, keepdims=False)
            return out[0] if isinstance(out, tuple) else out

        return rule

    return make


def lead_of(k: int, *arrays: Any) -> tuple[int, ...]:
    """The sizes of the batch axes of a result of these arrays."""
    return tuple([max((a.shape[d] for a in arrays), key=lambda n: n != 1) for d in range(k)])


def widened(k: int, arrays: Any) -> list[Any]:
    """The arrays with equal batch axes, as views."""
    lead = lead_of(k, *[a for a in arrays if hasattr(a, "shape")])

    def wide(a: Any) -> Any:
        if not hasattr(a, "shape") or a.shape[:k] == lead:
            return a
        return raw_by_type[a.__class__].xp.broadcast_to(a, (*lead, *a.shape[k:]))

    return [wide(a) for a in arrays]


def together_along(name: str) -> Rule:
    """For gather, scatter and their like: all arrays batched, axis and shape moved behind the batch axes."""

    def rule(raw: Any, k: int, arrays: Any, /, **kw: Any) -> Any:
        if arrays[0].ndim == k or kw.get("axis") is None:
            raise Decline
        first = arrays[0]
        arrays = widened(k, arrays)
        if kw.get("inplace") and arrays[0] is not first:
            raise Decline
        kw["axis"] += k
        if "shape" in kw:
            kw["shape"] = (*arrays[0].shape[:k], *kw["shape"])
        return getattr(raw, name)(*arrays, **kw)

    return rule


def folded(*shapes: str) -> Any:
    """For ops whose first axis N is a batch already: the batch axes are merged into it.

    `shapes`: keywords that give the shape (N, ...) of a result.
    """

    def make(name: str) -> Rule:
        def rule(raw: Any, k: int, arrays: Any, /, **kw: Any) -> Any:
            arrays = widened(k, arrays)
            lead = lead_of(k, *arrays)
            n = math.prod(lead)
            for word in shapes:
                kw[word] = (n * kw[word][0], *kw[word][1:])
            return unfolded(getattr(raw, name)(*[fold(a, k) for a in arrays], **kw), lead)

        return rule

    return make


def fold(a: Any, k: int) -> Any:
    """(*B, N, ...) -> (prod(B) * N, ...)."""
    return a.reshape(math.prod(a.shape[: k + 1]), *a.shape[k + 1 :])


def unfolded(out: Any, lead: tuple[int, ...]) -> Any:
    """(prod(B) * N, ...) -> (*B, N, ...), for an array or several."""
    if isinstance(out, tuple):
        return tuple([unfolded(o, lead) for o in out])
    return out.reshape(*lead, out.shape[0] // math.prod(lead), *out.shape[1:])


def reduced_loss(name: str) -> Rule:
    """For losses with a `reduction`: that of the elements, then reduced over each example."""

    def rule(raw: Any, k: int, arrays: Any, /, *, reduction: str, **kw: Any) -> Any:
        out = getattr(raw, name)(*spread(k, widened(k, arrays)), reduction="none", **kw)
        return reduce_examples(raw, k, out, reduction)

    return rule


def reduce_examples(raw: Any, k: int, loss: Any, reduction: str) -> Any:
    """Elements' losses reduced over each example."""
    if reduction == "none":
        return loss
    flat = loss.reshape(*loss.shape[:k], math.prod(loss.shape[k:]))
    return getattr(raw, reduction)(flat, axis=(k,), keepdims=False)


# ---- shapes ----------------------------------------------------------------------------------------------------------


def _reshape(name: str) -> Rule:
    def rule(raw: Any, k: int, arrays: Any, /, *, shape: Any) -> Any:
        (x,) = arrays
        return getattr(raw, name)(x, shape=(*x.shape[:k], *shape))

    return rule


def _expand(name: str) -> Rule:
    def rule(raw: Any, k: int, arrays: Any, /, *, shape: Any) -> Any:
        (x,) = arrays
        x = x[(*(slice(None),) * k, *(None,) * (len(shape) + k - x.ndim), ...)]
        return raw.expand(x, shape=(*x.shape[:k], *shape))

    return rule


def _sum_to(name: str) -> Rule:
    def rule(raw: Any, k: int, arrays: Any, /, *, shape: Any) -> Any:
        (x,) = arrays
        more = x.ndim - k - len(shape)
        if more:
            x = raw.sum(x, axis=tuple(range(k, k + more)), keepdims=False)
        return raw.sum_to(x, shape=(*x.shape[:k], *shape))

    return rule


def _permute(name: str) -> Rule:
    def rule(raw: Any, k: int, arrays: Any, /, *, axes: Any) -> Any:
        n = arrays[0].ndim - k
        return raw.permute(arrays[0], axes=(*range(k), *[a % n + k for a in axes]))

    return rule


def _indexed(name: str) -> Rule:
    """Basic indexing, and slice_backward into zeros of every example's own."""

    def rule(raw: Any, k: int, arrays: Any, /, *, index: Any, **kw: Any) -> Any:
        index = (*(slice(None),) * k, *(index if isinstance(index, tuple) else (index,)))
        if "shape" in kw:
            kw["shape"] = (*arrays[0].shape[:k], *kw["shape"])
        return getattr(raw, name)(*arrays, index=index, **kw)

    return rule


def _shaped_along(*keywords: str) -> Any:
    def make(name: str) -> Rule:
        def rule(raw: Any, k: int, arrays: Any, /, *, shape: Any, **kw: Any) -> Any:
            kw |= {word: moved(kw[word], k) for word in keywords}
            return getattr(raw, name)(*arrays, shape=(*arrays[0].shape[:k], *shape), **kw)

        return rule

    return make


def _joining(name: str) -> Rule:
    def rule(raw: Any, k: int, arrays: Any, /, *, axis: int, **kw: Any) -> Any:
        if name == "cat" and len({a.ndim for a in arrays}) > 1:
            raise Decline
        return getattr(raw, name)(*widened(k, arrays), axis=axis + k, **kw)

    return rule


def _repeat(name: str) -> Rule:
    def rule(raw: Any, k: int, arrays: Any, /, *, reps: Any) -> Any:
        return raw.repeat(arrays[0], reps=((1,) * k + tuple(reps)))

    return rule


def _widths(name: str) -> Rule:
    def rule(raw: Any, k: int, arrays: Any, /, *, widths: Any, **kw: Any) -> Any:
        return getattr(raw, name)(*arrays, widths=((0, 0),) * k + tuple(widths), **kw)

    return rule


def _as_strided(name: str) -> Rule:
    def rule(raw: Any, k: int, arrays: Any, /, *, layout: Any, size: Any, stride: Any, offset: int) -> Any:
        (x,) = arrays
        lead = tuple([s // x.itemsize for s in x.strides[:k]])
        if x.strides[k:] != tuple([s * x.itemsize for s in layout]) or (k and 0 in lead):
            raise Decline
        return raw.as_strided(
            x, layout=(*lead, *layout), size=(*x.shape[:k], *size), stride=(*lead, *stride), offset=offset
        )

    return rule


def _roll(name: str) -> Rule:
    def rule(raw: Any, k: int, arrays: Any, /, *, shifts: Any, axes: Any) -> Any:
        if axes is None or arrays[0].ndim == k:
            raise Decline
        return raw.roll(arrays[0], shifts=shifts, axes=moved(axes, k))

    return rule


def _masked(name: str) -> Rule:
    def rule(raw: Any, k: int, arrays: Any, /, *, inplace: bool = False, **kw: Any) -> Any:
        x = arrays[0]
        arrays = spread(k, arrays)
        lead = lead_of(k, *arrays)
        if inplace and (x.shape[:k] != lead or arrays[0] is not x):
            raise Decline
        arrays[0] = arrays[0] if inplace else widened(k, arrays)[0]
        return getattr(raw, name)(*arrays, inplace=inplace, **kw)

    return rule


def _zeros_of(name: str) -> Rule:
    def rule(raw: Any, k: int, arrays: Any, /, *, shape: Any) -> Any:
        return raw.zeros_of(arrays[0], shape=(*arrays[0].shape[:k], *shape))

    return rule


# ---- the table -------------------------------------------------------------------------------------------------------

KINDS: list[tuple[Any, str]] = [
    (pointwise, "alias clone cast zeros_like ones_like cut not_nan is_zero"),
    (native, """
        view_as_real view_as_complex tril triu svd svdvals eigh eigvalsh eig eigvals qr lu cholesky inv det cofactor
        nudged slogdet matrix_exp pixel_shuffle pixel_unshuffle safe_softmax one_hot view_dtype
        """),
    (reduction, """
        sum nansum mean prod var std var_mean std_mean amax amin aminmax max_dim min_dim any all argmax argmin
        count_nonzero vector_norm logsumexp tie_shares
        """),
    (whole_reduction("sum"), "sum_all"),
    (whole_reduction("mean"), "mean_all"),
    (whole_reduction("prod"), "prod_all"),
    (whole_reduction("amax"), "max_all"),
    (whole_reduction("amin"), "min_all"),
    (whole_reduction("median_dim"), "median_all"),
    (whole_reduction("nanmedian_dim"), "nanmedian_all"),
    (along("axis"), """
        squeeze squeeze_dim squeeze_dims unsqueeze select unfold split split_with_sizes unbind shift cumsum cumprod
        logcumsumexp cummax cummin softmax log_softmax sort topk scale_interior kthvalue median_dim nanmedian_dim mode
        """),
    (along("axis0", "axis1"), "transpose"),
    (along("axis1", "axis2"), "diagonal"),
    (along("axes"), "flip rot90 fft_c2c fft_r2c fft_c2r"),
    (together_along, """
        gather gather_backward scatter scatter_fill scatter_add scatter_reduce scatter_count scatter_shares recurrence
        """),
    (folded(), """
        max_pool max_pool_with_indices adaptive_max_pool pool_gather max_unpool avg_pool upsample_nearest
        upsample_nearest_exact upsample_linear upsample_cubic adaptive_avg_pool channel_shuffle im2col
        """),
    (folded(), "grid_sample fractional_max_pool"),
    (folded("shape"), "grid_scatter avg_pool_input resample_adjoint col2im pool_scatter"),
    (reduced_loss, """
        mse_loss smooth_l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits
        """),
    (_reshape, "view reshape"), (_expand, "expand"), (_sum_to, "sum_to"), (_permute, "permute"),
    (_indexed, "slice_view select_view unsqueeze_view alias_view slice_backward"),
    (_shaped_along("axis1", "axis2"), "diag_embed"), (_shaped_along("axis"), "fold"), (_joining, "cat stack"),
    (_repeat, "repeat"), (_widths, "pad_constant pad_edge pad_edge_backward"), (_as_strided, "as_strided"),
    (_roll, "roll"), (_masked, "masked_fill masked_fill_tensor"), (_zeros_of, "zeros_of"),
]  # fmt: skip
for _kind, _names in KINDS:
    for _name in _names.split():
        RULES[_name] = _kind(_name)

# Ops whose result is written into later (sums of gradients, in-place operations): every example has its own place.
FULL = {"zeros_like", "ones_like", "clone", "clone_kept", "zeros_of", "slice_backward", "diag_embed", "fold"}


def known(name: str) -> bool:
    """Whether the op has a rule, so that it does not run example by example."""
    from .batching_programs import PROGRAMS

    return name in RULES or name in PROGRAMS or _is_pointwise(OPS[name])
