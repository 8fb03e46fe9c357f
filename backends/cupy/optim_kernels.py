"""Optimizer formulas, and the norm and clipping of all gradients, over many tensors in one launch.

`NAME_step(p, g, *state, **options)` has the formula's signature less `xp` (see optim/elementwise.py);
`NAME_step.many(entries, options)` does the same for a list of tensors, 64 to a launch. Tensors are taken as flat
memory, where all arrays of a parameter lie in the same dense order; what does not is left to the formula.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..base import may_decline
from .launch import TYPES, Kernel, current, empty, type_of
from .layout import same_flat

MOST, CHUNK, COUNTER = 64, 8192, 5  # as in the source
TENSORS = np.dtype(
    [("array", "u8", (6, MOST)), ("size", "i8", MOST), ("first", "i4", MOST + 1), ("count", "i4")], align=True
)
OPTIONS = np.dtype([("v", "f4", 10), ("on", "i4", 4), ("exact", "f8", 4), ("at", "u8", 3)], align=True)

FORMULAS = ("Sgd", "Adam", "RmsProp", "Adagrad")
NORMS = ("Square", "Power", "Largest")

STEP = Kernel("optim.cuh", "formula_step", "SS", F=FORMULAS, T=TYPES)
COUNT = Kernel("optim.cuh", "count_steps", "SP")
NORM_PARTS = Kernel("optim.cuh", "norm_parts", "SPif", F=NORMS, T=TYPES)
NORM_WHOLE = Kernel("optim.cuh", "norm_whole", "PPif", F=NORMS)
CLIP = Kernel("optim.cuh", "clip_all", "SPf", T=TYPES)
UNSCALE = Kernel("optim.cuh", "unscale_all", "SPP", T=TYPES)
UPDATE_SCALE = Kernel("optim.cuh", "update_scale", "PPPffi", T=("float",))


def tables(entries: Sequence[Sequence[Any]], counters: Sequence[Any] = ()) -> Iterator[tuple[Any, int]]:
    """(struct Tensors, blocks) for each launch over entries, lists of arrays of one size (None: the address 0).

    counters: an array of one float32 for each entry, or none.
    """
    pointer = current().pointer
    for start in range(0, len(entries), MOST):
        part = entries[start : start + MOST]
        table, count = np.zeros(1, TENSORS), len(part)
        for k, column in enumerate(zip(*part, strict=True)):
            table["array"][0, k, :count] = [0 if a is None else pointer(a) for a in column]
        if counters:
            table["array"][0, COUNTER, :count] = [pointer(a) for a in counters[start : start + MOST]]
        sizes = [arrays[0].size for arrays in part]
        firsts = [0, *itertools.accumulate(-(-size // CHUNK) for size in sizes)]
        table["size"][0, :count], table["first"][0, : count + 1], table["count"] = sizes, firsts, count
        yield table, firsts[-1]


def _name(arrays: Sequence[Any]) -> str | None:
    """The sources' name of the arrays' dtype, None where the kernels do not take them as flat memory."""
    first = arrays[0]
    rows = first.flags.c_contiguous
    for a in arrays:
        if a is not None and (a.dtype != first.dtype or not (a.flags.c_contiguous if rows else same_flat(first, a))):
            return None
    return type_of[first.dtype]


# ---- formulas: name -> (functor, options -> (numbers, switches, two numbers for what is worked out on the device))

Packed = tuple[Sequence[float], Sequence[bool], tuple[float, float]]


def _sgd(lr: float, momentum: float, dampening: float, weight_decay: float, nesterov: bool, maximize: bool,
         first: bool, step: float) -> Packed:  # fmt: skip
    return (lr, momentum, 1 - dampening, weight_decay), (nesterov, first, momentum != 0, maximize), (0.0, 0.0)


def _adam(lr: float, betas: tuple[float, float], eps: float, weight_decay: float, amsgrad: bool, maximize: bool,
          decoupled_weight_decay: bool, step: float) -> Packed:  # fmt: skip
    a, b = betas
    values = (
        lr / (1 - a**step), 1 - a, b, 1 - b, eps, weight_decay, 1 - lr * weight_decay, math.sqrt(1 - b**step)
    )  # fmt: skip
    return values, (decoupled_weight_decay, amsgrad, False, maximize), (a, b)


def _rmsprop(lr: float, alpha: float, eps: float, weight_decay: float, momentum: float, centered: bool,
             maximize: bool, step: float) -> Packed:  # fmt: skip
    values = (lr, alpha, 1 - alpha, eps, weight_decay, momentum)
    return values, (centered, momentum > 0, False, maximize), (0.0, 0.0)


def _adagrad(lr: float, lr_decay: float, eps: float, weight_decay: float, maximize: bool, step: float) -> Packed:
    values = (lr / (1 + (step - 1) * lr_decay), eps, weight_decay)
    return values, (False, False, False, maximize), (lr_decay, 0.0)


STEPS: dict[str, tuple[str, Callable[..., Packed]]] = {
    "sgd_step": ("Sgd", _sgd),
    "adam_step": ("Adam", _adam),
    "rmsprop_step": ("RmsProp", _rmsprop),
    "adagrad_step": ("Adagrad", _adagrad),
}


def _options(formula: str, options: dict[str, Any], scale: Any, overflowed: Any) -> tuple[Any, tuple[Any, ...]]:
    """(struct Options, what it points to): a learning rate that is an array is left on the device."""
    rate = options["lr"]
    live = [rate if hasattr(rate, "dtype") else None, scale, overflowed]
    live = [a if a is None else a.astype("float32", copy=False) for a in live]
    numbers = {"step": 1.0, **options, "lr": 0.0 if live[0] is not None else rate}
    values, switches, own = STEPS[formula][1](**numbers)
    made = np.zeros(1, OPTIONS)
    made["v"][0, : len(values)], made["on"][0, : len(switches)] = values, switches
    made["exact"], made["at"] = (numbers["lr"], *own, numbers["step"]), [address(a) for a in live]
    return made, tuple(live)


def address(array: Any) -> int:
    """Where an array begins, 0 for None."""
    return 0 if array is None else current().pointer(array)


def serves(arrays: Sequence[Any], options: dict[str, Any]) -> bool:
    """Whether a kernel takes these arrays of a parameter (p, g, *state) with these options."""
    return _name(arrays) is not None and not any(hasattr(beta, "dtype") for beta in options.get("betas", ()))


def step_many(
    formula: str, entries: Sequence[Sequence[Any]], options: dict[str, Any], counters: Sequence[Any] = (),
    scale: Any = None, overflowed: Any = None,
) -> Any:  # fmt: skip
    """One update of many tensors, all with the same options. entries: (p, g, *state) each, state None where unused.

    Numbers that stay on the device: options["lr"] where it is an array of one element; counters, a float32 per entry in
    place of options["step"], which goes on by one here; scale, by which the gradients are divided; overflowed, not 0
    where nothing is to be changed.

    NotImplemented, with nothing changed, where one is not of the kernels' dtypes, or its arrays do not lie alike.
    """
    kept = [k for k, e in enumerate(entries) if e[0].size]
    if len(kept) < len(entries):
        entries, counters = [entries[k] for k in kept], [counters[k] for k in kept] if counters else ()
    if not all(serves(e, options) for e in entries) or any(c.dtype.name != "float32" for c in counters):
        return NotImplemented
    struct, live = _options(formula, options, scale, overflowed)
    rows: dict[str, list[int]] = {}
    for k, e in enumerate(entries):
        rows.setdefault(type_of[e[0].dtype], []).append(k)
    for name in sorted(rows):
        own = [entries[k] for k in rows[name]]
        for table, blocks in tables(own, [counters[k] for k in rows[name]] if counters else ()):
            if counters:
                COUNT((), (1,), (64,), table, live[2])
            STEP((STEPS[formula][0], name), (blocks,), (256,), table, struct)
    return None


def _single(formula: str) -> Callable[..., Any]:
    """The step of one tensor; its attribute `many` is that of a list of them, and `serves` tells which it takes."""

    @may_decline
    def step(p: Any, g: Any, *state: Any, **options: Any) -> Any:
        return step_many(formula, [(p, g, *state)], options)

    # a kernel's marks: attributes of a function
    step.many, step.serves = functools.partial(step_many, formula), serves  # type: ignore[attr-defined]
    return step


# ---- norms


@may_decline
def total_norm(arrays: Sequence[Any], order: float) -> Any:
    """The `order`-norm of all arrays together, as of one vector. -> () float32, on the device.

    NotImplemented for other dtypes than the kernels', negative orders, or arrays with gaps.
    """
    arrays = [a for a in arrays if a.size]
    names = {_name([a]) for a in arrays}
    if None in names or not arrays or order < 0 or order == 0:
        return NotImplemented
    functor = "Square" if order == 2 else "Largest" if order == math.inf else "Power"
    power = 0.0 if order == math.inf else order
    parts = empty((sum(-(-a.size // CHUNK) for a in arrays),), "float32")
    begin = 0
    for name in sorted(filter(None, names)):
        for table, blocks in tables([[a] for a in arrays if type_of[a.dtype] == name]):
            NORM_PARTS((functor, name), (blocks,), (256,), table, parts, begin, power)
            begin += blocks
    out = empty((), "float32")
    NORM_WHOLE((functor,), (1,), (1024,), parts, out, begin, power)
    return out


def _each(kernel: Kernel, arrays: Sequence[Any], *scalars: Any) -> Any:
    """A kernel over all arrays, dtype by dtype. NotImplemented, with nothing changed, where it does not take one."""
    arrays = [a for a in arrays if a.size]
    names = {_name([a]) for a in arrays}
    if None in names or any(s.dtype.name != "float32" for s in scalars if hasattr(s, "dtype")):
        return NotImplemented
    for name in sorted(filter(None, names)):
        for table, blocks in tables([[a] for a in arrays if type_of[a.dtype] == name]):
            kernel((name,), (blocks,), (256,), table, *scalars)
    return None


@may_decline
def clip_all(arrays: Sequence[Any], norm: Any, most: float) -> Any:
    """Multiplies all arrays, in place, by most / (norm + 1e-6) where that is below 1. norm: () float32."""
    return _each(CLIP, arrays, norm, most)


@may_decline
def unscale_all(arrays: Sequence[Any], found: Any, inverse: Any) -> Any:
    """Multiplies all arrays by `inverse`, in place; found becomes 1 where an element was infinite or NaN.

    found, inverse: () float32.
    """
    return _each(UNSCALE, arrays, found, inverse)


def update_scale(scale: Any, good: Any, found: Any, growth: float, backoff: float, interval: int) -> None:
    """The loss scale and its count of good steps after a step that overflowed (found > 0) or not.

    scale, found: () float32, good: () int32.
    """
    UPDATE_SCALE(("float",), (1,), (1,), scale, good, found, growth, backoff, interval)


KERNELS: dict[str, Callable[..., Any]] = {
    "total_norm": total_norm, "clip_all": clip_all, "unscale_all": unscale_all, "update_scale": update_scale,
}  # fmt: skip
KERNELS.update({name: _single(name) for name in STEPS})
