"""Constraints: which values a parameter or a sample may have. `constraint.check(value)` tells it per event.

A constraint over events of `event_dim` dimensions gives one answer for each: value (*B, *E) -> (*B) bool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import api as T
from ..autograd.info import finfo
from ..autograd.tensor import Tensor


class Constraint:
    """A set of values.

    Attributes:
        is_discrete: whether the set is countable.
        event_dim: how many of the last dimensions make one value.
    """

    is_discrete = False
    event_dim = 0
    _bounds: tuple[str, ...] = ()

    def check(self, value: Tensor) -> Tensor:
        """Whether each event lies in the set. value: (*B, *E) -> (*B) bool."""
        raise NotImplementedError(f"{type(self).__name__} does not define check()")

    def __repr__(self) -> str:
        bounds = ", ".join(f"{name}={getattr(self, name)}" for name in self._bounds)
        return f"{type(self).__name__.lstrip('_')}({bounds})"


class _Dependent(Constraint):
    """A set that depends on other parameters."""

    def __init__(self, *, is_discrete: Any = False, event_dim: Any = 0):
        self.is_discrete, self.event_dim = is_discrete, event_dim

    def __call__(self, *, is_discrete: Any = None, event_dim: Any = None) -> _Dependent:
        """The same with other fields."""
        return _Dependent(
            is_discrete=self.is_discrete if is_discrete is None else is_discrete,
            event_dim=self.event_dim if event_dim is None else event_dim,
        )

    def check(self, value: Tensor) -> Tensor:
        raise ValueError("Cannot determine validity of dependent constraint")


class _DependentProperty(property, _Dependent):
    """A property of a distribution which is its constraint; on the class it is the dependent constraint."""

    def __init__(self, fn: Callable[..., Any] | None = None, *, is_discrete: Any = False, event_dim: Any = 0):
        super().__init__(fn)
        self.is_discrete, self.event_dim = is_discrete, event_dim

    def __call__(self, fn: Any) -> _DependentProperty:  # type: ignore[override]
        """Used as a decorator with fields."""
        return _DependentProperty(fn, is_discrete=self.is_discrete, event_dim=self.event_dim)


def is_dependent(constraint: Any) -> bool:
    """Whether the set depends on other parameters."""
    return isinstance(constraint, _Dependent)


def _above(self: Any, lower_bound: Any) -> None:
    self.lower_bound = lower_bound


def _below(self: Any, upper_bound: Any) -> None:
    self.upper_bound = upper_bound


def _between(self: Any, lower_bound: Any, upper_bound: Any) -> None:
    self.lower_bound, self.upper_bound = lower_bound, upper_bound


_INIT = {"lower_bound": _above, "upper_bound": _below, "lower_bound upper_bound": _between}


def _bounded(name: str, bounds: str, test: Callable[..., Tensor], discrete: bool = False) -> Any:
    """A class of sets with bounds; test(value, *bounds) -> bool per element."""
    names = tuple(bounds.split())

    def check(self: Any, value: Tensor) -> Tensor:
        return test(value, *(getattr(self, n) for n in names))

    fields = {"__init__": _INIT[bounds], "_bounds": names, "check": check, "is_discrete": discrete}
    return type(name, (Constraint,), {**fields, "__module__": __name__})


def _plain(name: str, test: Callable[[Tensor], Tensor], discrete: bool = False, event_dim: int = 0) -> Any:
    """The one instance of a class of sets without bounds; test(value) -> bool per event."""

    def check(self: Any, value: Tensor) -> Tensor:
        return test(value)

    fields = {"check": check, "is_discrete": discrete, "event_dim": event_dim, "__module__": __name__}
    return type(name, (Constraint,), fields)()


_LOWER, _UPPER = "lower_bound", "upper_bound"
integer_interval = _bounded(
    "_IntegerInterval", "lower_bound upper_bound", lambda v, a, b: (v % 1 == 0) & (a <= v) & (v <= b), True
)
_IntegerGreaterThan = _bounded("_IntegerGreaterThan", _LOWER, lambda v, a: (v % 1 == 0) & (v >= a), True)
greater_than = _bounded("_GreaterThan", _LOWER, lambda v, a: a < v)
greater_than_eq = _bounded("_GreaterThanEq", _LOWER, lambda v, a: a <= v)
less_than = _bounded("_LessThan", _UPPER, lambda v, b: v < b)
interval = _bounded("_Interval", "lower_bound upper_bound", lambda v, a, b: (a <= v) & (v <= b))
half_open_interval = _bounded("_HalfOpenInterval", "lower_bound upper_bound", lambda v, a, b: (a <= v) & (v < b))


class _Multinomial(Constraint):
    """Counts that add up to at most `upper_bound`."""

    is_discrete, event_dim = True, 1

    def __init__(self, upper_bound: Any):
        self.upper_bound = upper_bound

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0).all(dim=-1) & (value.sum(dim=-1) <= self.upper_bound)


class _IndependentConstraint(Constraint):
    """A base set whose last batch dimensions belong to the event."""

    def __init__(self, base_constraint: Constraint, reinterpreted_batch_ndims: int):
        self.base_constraint, self.reinterpreted_batch_ndims = base_constraint, reinterpreted_batch_ndims
        self.is_discrete = base_constraint.is_discrete
        self.event_dim = base_constraint.event_dim + reinterpreted_batch_ndims

    def __repr__(self) -> str:
        return f"IndependentConstraint({self.base_constraint!r}, {self.reinterpreted_batch_ndims})"

    def check(self, value: Tensor) -> Tensor:
        result = self.base_constraint.check(value)
        n = self.reinterpreted_batch_ndims
        if result.dim() < n:
            expected = self.base_constraint.event_dim + n
            raise ValueError(f"Expected value.dim() >= {expected} but got {value.dim()}")
        return result.reshape(*result.shape[: result.dim() - n], -1).all(-1)


independent, multinomial = _IndependentConstraint, _Multinomial


def _one_hot(v: Tensor) -> Tensor:
    return ((v == 0) | (v == 1)).all(-1) & v.sum(-1).eq(1)


def _symmetric(v: Tensor) -> Tensor:
    if v.dim() < 2 or v.shape[-1] != v.shape[-2]:
        return T.zeros(v.shape[:-2], dtype=T.tensor(True).dtype)
    return T.isclose(v, v.mT, atol=1e-6).all(-2).all(-1)


def _lower(v: Tensor) -> Tensor:
    return (v.tril() == v).reshape(*v.shape[:-2], -1).min(-1)[0]


def _definite(v: Tensor) -> Tensor:
    from .. import linalg

    symmetric = _symmetric(v)
    return symmetric & linalg.cholesky_ex(v)[1].eq(0) if bool(symmetric.all()) else symmetric


def _semidefinite(v: Tensor) -> Tensor:
    from .. import linalg

    symmetric = _symmetric(v)
    return linalg.eigvalsh(v).ge(0).all(-1) if bool(symmetric.all()) else symmetric


def _corr(v: Tensor) -> Tensor:
    tolerance = finfo(v.dtype).eps * v.shape[-1] * 10
    return _cholesky(v) & ((v.norm(dim=-1) - 1).abs() < tolerance).all(-1)


def _cholesky(v: Tensor) -> Tensor:
    return _lower(v) & (v.diagonal(dim1=-2, dim2=-1) > 0).min(-1)[0]


dependent = _Dependent()
dependent_property = _DependentProperty
boolean = _plain("_Boolean", lambda v: (v == 0) | (v == 1), True)
one_hot = _plain("_OneHot", _one_hot, True, 1)
real = _plain("_Real", lambda v: v == v)
real_vector = independent(real, 1)
nonnegative_integer = _IntegerGreaterThan(0)
positive_integer = _IntegerGreaterThan(1)
positive = greater_than(0.0)
nonnegative = greater_than_eq(0.0)
unit_interval = interval(0.0, 1.0)
simplex = _plain("_Simplex", lambda v: (v >= 0).all(-1) & ((v.sum(-1) - 1).abs() < 1e-6), False, 1)
lower_triangular = _plain("_LowerTriangular", _lower, False, 2)
lower_cholesky = _plain("_LowerCholesky", _cholesky, False, 2)
corr_cholesky = _plain("_CorrCholesky", _corr, False, 2)
square = _plain(
    "_Square", lambda v: T.full(v.shape[:-2], v.shape[-2] == v.shape[-1], dtype=T.tensor(True).dtype), False, 2
)
symmetric = _plain("_Symmetric", _symmetric, False, 2)
positive_semidefinite = _plain("_PositiveSemidefinite", _semidefinite, False, 2)
positive_definite = _plain("_PositiveDefinite", _definite, False, 2)


class cat(Constraint):
    """Constraints of consecutive pieces of one dimension."""

    def __init__(self, cseq: list[Any], dim: int = 0, lengths: Any = None):
        self.cseq, self.dim = list(cseq), dim
        self.lengths = [1] * len(self.cseq) if lengths is None else list(lengths)
        self.is_discrete = any(c.is_discrete for c in self.cseq)
        self.event_dim = max(c.event_dim for c in self.cseq)

    def check(self, value: Tensor) -> Tensor:
        parts = value.split(self.lengths, self.dim)
        return T.cat([c.check(part) for c, part in zip(self.cseq, parts, strict=True)], self.dim)


class stack(Constraint):
    """One constraint for each index of a dimension."""

    def __init__(self, cseq: list[Any], dim: int = 0):
        self.cseq, self.dim = list(cseq), dim
        self.is_discrete = any(c.is_discrete for c in self.cseq)
        dim_events = max(c.event_dim for c in self.cseq)
        self.event_dim = dim_events + 1 if self.dim + dim_events < 0 else dim_events

    def check(self, value: Tensor) -> Tensor:
        parts = value.unbind(self.dim)
        return T.stack([c.check(part) for c, part in zip(self.cseq, parts, strict=True)], self.dim)
