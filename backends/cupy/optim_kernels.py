"""Optimizer formulas, and the norm and clipping of all gradients, over many tensors in one launch.

`NAME_step(p, g, *state, **options)` has the formula's signature less `xp` (see optim/elementwise.py);
`NAME_step.many(entries, options)` does the same for a list of tensors, 64 to a launch. Tensors are taken as flat
memory; what does not lie row-major is left to the formula.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..base import may_decline
from .launch import NAMES, TYPES, Kernel, current, empty

MOST, CHUNK = 64, 8192  # as in the source
TENSORS = np.dtype(
    [("array", "u8", (5, MOST)), ("size", "i8", MOST), ("first", "i4", MOST + 1), ("count", "i4")], align=True
)
OPTIONS = np.dtype([("v", "f4", 10), ("on", "i4", 4)], align=True)

FORMULAS = ("Sgd", "Adam", "RmsProp", "Adagrad")
NORMS = ("Square", "Power", "Largest")

STEP = Kernel("optim.cuh", "formula_step", "SS", F=FORMULAS, T=TYPES)
NORM_PARTS = Kernel("optim.cuh", "norm_parts", "SPif", F=NORMS, T=TYPES)
NORM_WHOLE = Kernel("optim.cuh", "norm_whole", "PPif", F=NORMS)
CLIP = Kernel("optim.cuh", "clip_all", "SPf", T=TYPES)


def tables(entries: Sequence[Sequence[Any]]) -> Iterator[tuple[Any, int]]:
    """(struct Tensors, blocks) for each launch over entries, lists of arrays of one size (None: the address 0)."""
    pointer = current().pointer
    for start in range(0, len(entries), MOST):
        part = entries[start : start + MOST]
        table = np.zeros(1, TENSORS)
        fields, blocks = table[0], 0
        for t, arrays in enumerate(part):
            for k, array in enumerate(arrays):
                fields["array"][k, t] = 0 if array is None else pointer(array)
            fields["size"][t] = arrays[0].size
            fields["first"][t] = blocks
            blocks += -(-arrays[0].size // CHUNK)
        fields["first"][len(part)] = blocks
        fields["count"] = len(part)
        yield table, blocks


def _name(arrays: Sequence[Any]) -> str | None:
    """The sources' name of the arrays' dtype, None where the kernels do not take them as flat memory."""
    name = NAMES.get(arrays[0].dtype.name)
    fits = all(a is None or (a.dtype == arrays[0].dtype and a.flags.c_contiguous) for a in arrays)
    return name if fits else None


def _options(values: Sequence[float], on: Sequence[bool]) -> Any:
    made = np.zeros(1, OPTIONS)
    made["v"][0, : len(values)], made["on"][0, : len(on)] = values, on
    return made


# ---- formulas: name -> (functor, options -> struct Options)


def _sgd(lr: float, momentum: float, dampening: float, weight_decay: float, nesterov: bool, maximize: bool,
         first: bool) -> Any:  # fmt: skip
    return _options((lr, momentum, 1 - dampening, weight_decay), (nesterov, first, momentum != 0, maximize))


def _adam(lr: float, betas: tuple[float, float], eps: float, weight_decay: float, amsgrad: bool, maximize: bool,
          decoupled_weight_decay: bool, step: float) -> Any:  # fmt: skip
    a, b = betas
    values = (
        lr / (1 - a**step), 1 - a, b, 1 - b, eps, weight_decay, 1 - lr * weight_decay, math.sqrt(1 - b**step)
    )  # fmt: skip
    return _options(values, (decoupled_weight_decay, amsgrad, False, maximize))


def _rmsprop(lr: float, alpha: float, eps: float, weight_decay: float, momentum: float, centered: bool,
             maximize: bool, step: float) -> Any:  # fmt: skip
    values = (lr, alpha, 1 - alpha, eps, weight_decay, momentum)
    return _options(values, (centered, momentum > 0, False, maximize))


def _adagrad(lr: float, lr_decay: float, eps: float, weight_decay: float, maximize: bool, step: float) -> Any:
    return _options((lr / (1 + (step - 1) * lr_decay), eps, weight_decay), (False, False, False, maximize))


STEPS: dict[str, tuple[str, Callable[..., Any]]] = {
    "sgd_step": ("Sgd", _sgd),
    "adam_step": ("Adam", _adam),
    "rmsprop_step": ("RmsProp", _rmsprop),
    "adagrad_step": ("Adagrad", _adagrad),
}


def step_many(formula: str, entries: Sequence[Sequence[Any]], options: dict[str, Any]) -> Any:
    """One update of many tensors, all with the same options. entries: (p, g, *state) each, state None where unused.

    NotImplemented, with nothing changed, where one of them is not of the kernels' dtypes or does not lie row-major.
    """
    functor, pack = STEPS[formula]
    entries = [e for e in entries if e[0].size]
    names = {_name(e) for e in entries}
    if None in names:
        return NotImplemented
    struct = pack(**options)
    for name in sorted(filter(None, names)):
        for table, blocks in tables([e for e in entries if NAMES[e[0].dtype.name] == name]):
            STEP((functor, name), (blocks,), (256,), table, struct)
    return None


def _single(formula: str) -> Callable[..., Any]:
    """The step of one tensor; its attribute `many` is that of a list of them: many(entries, options)."""

    @may_decline
    def step(p: Any, g: Any, *state: Any, **options: Any) -> Any:
        return step_many(formula, [(p, g, *state)], options)

    step.many = functools.partial(step_many, formula)  # type: ignore[attr-defined]  # a function's own attribute
    return step


# ---- norms


@may_decline
def total_norm(arrays: Sequence[Any], order: float) -> Any:
    """The `order`-norm of all arrays together, as of one vector. -> () float32, on the device.

    NotImplemented for other dtypes than the kernels', negative orders, or arrays that do not lie row-major.
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
        for table, blocks in tables([[a] for a in arrays if NAMES[a.dtype.name] == name]):
            NORM_PARTS((functor, name), (blocks,), (256,), table, parts, begin, power)
            begin += blocks
    out = empty((), "float32")
    NORM_WHOLE((functor,), (1,), (1024,), parts, out, begin, power)
    return out


@may_decline
def clip_all(arrays: Sequence[Any], norm: Any, most: float) -> Any:
    """Multiplies all arrays, in place, by most / (norm + 1e-6) where that is below 1. norm: () float32."""
    arrays = [a for a in arrays if a.size]
    names = {_name([a]) for a in arrays}
    if None in names or norm.dtype.name != "float32":
        return NotImplemented
    for name in sorted(filter(None, names)):
        for table, blocks in tables([[a] for a in arrays if NAMES[a.dtype.name] == name]):
            CLIP((name,), (blocks,), (256,), table, norm, most)
    return None


KERNELS: dict[str, Callable[..., Any]] = {"total_norm": total_norm, "clip_all": clip_all}
KERNELS.update({name: _single(name) for name in STEPS})
