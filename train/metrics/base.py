"""What every metric is: sums that are joined, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...autograd.api.creation import ones, zeros
from ...autograd.api.join import cat
from ...autograd.dtypes import float64
from ...autograd.modes import no_grad
from ...autograd.tensor import Tensor

State = dict[str, Tensor]


class Metric:
    """The base: `sums` says what a batch adds, `result` what the sums of all batches mean.

    sums(pred, target, weight) -> tensors by name, float64, whose shapes do not depend on the batch; weight is
    `sample_weight` or None. result(sums) gets their totals as CPU tensors. `name` is the key in a history.

    >>> class Bias(Metric):
    ...     def sums(self, pred, target, weight):
    ...         return {"sum": (pred - target).double().sum(), "count": torch.tensor(float(len(pred))).double()}
    ...     def result(self, sums):
    ...         return (sums["sum"] / sums["count"]).item()
    >>> bias = Bias(name="bias")
    >>> bias.update(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
    >>> bias.update(torch.tensor([6.0]), torch.tensor([0.0]))
    >>> bias.name, bias.compute()
    ('bias', 3.0)
    """

    settings: tuple[str, ...] = ()  # attributes in which two metrics must agree to be merged
    higher_is_better: bool | None = None  # None: a callback that looks for the best must be told

    def __init__(self, *, name: str | None = None):
        self.name = name or type(self).__name__.lower()
        self._state: State = {}

    def sums(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> State:
        raise TypeError(f"{type(self).__name__} defines no sums(pred, target, weight)")

    def result(self, sums: State) -> Any:
        raise TypeError(f"{type(self).__name__} defines no result(sums)")

    def reset(self) -> None:
        """Forgets every batch."""
        self._state = {}

    def update(self, pred: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> None:
        """Adds a batch. pred, target: see the class; sample_weight: (N,) or target's shape. Records no gradient.

        Raises TypeError for what is no tensor or of a dtype without meaning here, ValueError for shapes that do not
        fit and labels out of range, RuntimeError for two devices; the metric is then as before.
        """
        given = {"pred": pred, "target": target} | ({} if sample_weight is None else {"sample_weight": sample_weight})
        for name, value in given.items():
            if not isinstance(value, Tensor):
                raise TypeError(f"{self._op}: {name} must be a Tensor, not {type(value).__name__}")
            if value.device != pred.device:
                raise RuntimeError(f"{self._op}: pred is on {pred.device}, {name} on {value.device}")
        before = dict(vars(self))  # the number of classes may be learnt from a batch that is then refused
        try:
            with no_grad():
                self._absorb(self.sums(pred, target, sample_weight))
        except Exception:
            vars(self).update(before)
            raise

    def compute(self) -> Any:
        """The value over all batches since reset; NaN before the first."""
        with no_grad():
            return self.result(on_host(self._gathered())) if self._gathered() else self._nothing()

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` continues from: {"metric": class, "settings": {...}, "state": tensors by name}."""
        settings = {name: getattr(self, name) for name in self.settings}
        return {"metric": type(self).__name__, "settings": settings, "state": dict(self._gathered())}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continues from a state, bit for bit. Raises ValueError for another metric's, or one of other settings."""
        state = self._checked(state_dict, "load_state_dict")
        self.reset()
        if state:
            self._absorb(state)

    def merge(self, other: Metric | Mapping[str, Any]) -> None:
        """Adds another's batches, given as a metric or, from another process, as its state_dict; other stays as it is.

        >>> a, b = torch.train.metrics.MAE(), torch.train.metrics.MAE()
        >>> a.update(torch.tensor([1.0]), torch.tensor([0.0]))
        >>> b.update(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 0.0]))
        >>> a.merge(b.state_dict())
        >>> a.compute()
        2.0
        """
        state = self._checked(other.state_dict() if isinstance(other, Metric) else other, "merge")
        if state:
            device = next(iter(self._gathered().values())).device if self._gathered() else None
            with no_grad():
                self._absorb({name: value.to(device) if device else value for name, value in state.items()})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.settings)})"

    @property
    def _op(self) -> str:
        return f"{type(self).__name__}.update()"

    def _nothing(self) -> Any:
        return math.nan

    def _gathered(self) -> State:
        return self._state

    def _absorb(self, part: State) -> None:
        """Joins a part's sums to ours, on the part's device: a state loaded on the CPU follows the batches."""
        mine = {name: value.to(part[name].device) for name, value in self._state.items()}
        for name, value in mine.items():
            if value.shape != part[name].shape:
                raise ValueError(
                    f"{self._op}: sums '{name}' of shape {tuple(value.shape)} were {tuple(part[name].shape)} in this "
                    "batch; the number of outputs or classes changed"
                )
        self._state = self._joined(mine, part) if mine else part

    def _joined(self, a: State, b: State) -> State:
        return {name: value + b[name] for name, value in a.items()}

    def _checked(self, given: Mapping[str, Any], what: str) -> State:
        """The tensors of a state_dict that may become ours."""
        op = f"{type(self).__name__}.{what}()"
        if not isinstance(given, Mapping) or set(given) != {"metric", "settings", "state"}:
            raise ValueError(f"{op}: not a metric's state_dict")
        if given["metric"] != type(self).__name__:
            raise ValueError(f"{op}: this is the state of {given['metric']}")
        for name in self.settings:
            mine, theirs = getattr(self, name), given["settings"].get(name)
            if mine != theirs and not (name == "num_classes" and None in (mine, theirs)):
                raise ValueError(f"{op}: {name} is {mine!r} here and {theirs!r} there")
        if given["settings"].get("num_classes"):
            self.num_classes = given["settings"]["num_classes"]
        return dict(given["state"])


def on_host(state: State) -> State:
    """The same tensors on the CPU in float64, through one transfer."""
    flat = cat([value.to(float64).reshape(-1) for value in state.values()]).cpu()
    parts = flat.split([value.numel() for value in state.values()])
    return {name: part.reshape(value.shape) for (name, value), part in zip(state.items(), parts, strict=True)}


def ratio(sums: State) -> float:
    """sum / total; NaN where nothing was counted."""
    total = sums["total"].item()
    return sums["sum"].item() / total if total else math.nan


def weights_of(op: str, weight: Tensor | None, like: Tensor) -> Tensor:
    """The weights in float64, broadcast to the shape of `like` (N, *S): ones, or those given, (N,) or (N, *S)."""
    if weight is None:
        return ones(like.shape, dtype=float64, device=like.device)
    if weight.is_complex() or weight.shape not in (like.shape, like.shape[:1]):
        raise ValueError(
            f"{op}: sample_weight is {weight.dtype} of shape {tuple(weight.shape)}; real numbers of shape "
            f"{tuple(like.shape[:1])} or {tuple(like.shape)} are needed"
        )
    return weight.to(float64).reshape(weight.shape + (1,) * (like.ndim - weight.ndim)).expand(like.shape)


def counts(index: Tensor, weight: Tensor, size: int) -> Tensor:
    """Sum of the weights at each index. index, weight: (n,) -> (size,)."""
    return zeros(size, dtype=float64, device=index.device).index_add(0, index, weight)
