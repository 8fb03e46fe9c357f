"""What a record of an op is: everything the generic tests need to know about it.

One record per op. `samples(rng)` gives sample inputs as NumPy arrays (float64 where a gradient is checked) and
keywords; `reference` computes the same with NumPy or SciPy. The generic tests (test_ops.py) cross records with
backends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Sample:
    """One call of an op: arrays by position (None for an optional one left out), keywords."""

    arrays: tuple[Any, ...]
    kw: dict[str, Any] = field(default_factory=dict)


def S(*arrays: Any, **kw: Any) -> Sample:
    """A sample."""
    return Sample(arrays, kw)


@dataclass
class Failure:
    """A call that must raise: the exception type and a piece of its text."""

    sample: Sample
    error: type[BaseException]
    match: str


@dataclass
class Record:
    """How one op is tested.

    op: its name in the op table.
    samples: rng -> samples, inside the smooth domain (away from kinks, ties and poles) where gradients are checked.
    reference: NumPy/SciPy function of the sample's arrays and keywords; None only for ops whose result is checked by
        another test, named in `reference_note`.
    grad: check gradients (False for ops without rules). second: check second gradients.
    linear: linear in each differentiable input by itself (finite differences with eps 1 are exact).
    dtypes: NumPy dtype names in which the op must run and keep (or map) its dtype; out_dtype: None = same as input,
        else a dtype name, or a function of the input dtype name.
    rtol / grad_rtol: relative tolerances in float64.
    errors: calls that must raise.
    core_dims: how many trailing dimensions of a broadcasting op do not broadcast (2 for a batched matrix product).
    complex: also check gradients with complex128 inputs.
    """

    op: str
    samples: Callable[[np.random.Generator], list[Sample]]
    reference: Callable[..., Any] | None
    grad: bool = True
    second: bool = True
    linear: bool = False
    dtypes: tuple[str, ...] = ("float32", "float64")
    out_dtype: Any = None
    rtol: float = 1e-10
    grad_rtol: float = 1e-6
    errors: list[Failure] = field(default_factory=list)
    complex: bool = False
    reference_note: str = ""
    core_dims: int = 0
