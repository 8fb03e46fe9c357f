"""Every scheduler of torch.optim.lr_scheduler, and SWALR, beside torch's own.

`replay(name)` gives, for one scheduler, configuration -> None where it passes, else the first failure. Each set of
arguments drives SGD with momentum and Adam with two groups each, and SGD with tensor rates; all must agree with torch
to the last bit:

    sequence      60 steps: rates, momenta and betas of the groups, get_last_lr, last_epoch, warnings, and the
                  state_dict after 25
    state_dict    torch's after 25 steps, loaded by ours, which goes on; and ours loaded by torch's
    last_epoch    a new scheduler on an optimizer that was loaded, begun at epoch 24
    epochs        the deprecated step(epoch), forwards and back
    alone         steps without the optimizer's, and get_lr from outside: values and warnings

Further names: `error: ...`, arguments that must raise the same; `signature`.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import types
import warnings
from collections.abc import Callable
from typing import Any

import tapegrad
import torch

from . import compare
from .optimizers import array, attempt, is_tensor, same_outcome
from .translate import to_tapegrad, to_torch

STEPS, HALF = 60, 25
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda L: L.optim.SGD(groups(L, (0.5, 0.03)), momentum=0.9),
    "Adam": lambda L: L.optim.Adam(groups(L, (0.5, 0.03))),
    "tensor lr": lambda L: L.optim.SGD(groups(L, (L.tensor(0.5), L.tensor(0.03))), momentum=0.9),
}
METRICS = [2.0 + math.cos(1.7 * i) + 0.01 * (i % 7) - min(i, 20) * 0.1 for i in range(2 * STEPS)]


def groups(library: Any, rates: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"params": [library.ones(2, requires_grad=True)], "lr": rate} for rate in rates]


class Halve:
    """A callable object, whose attributes a state_dict keeps."""

    def __init__(self, base: float):
        self.base = base

    def __call__(self, epoch: float) -> float:
        return self.base**epoch


# S holds the schedulers of one library, o is an optimizer, kw is empty or last_epoch.
Make = Callable[..., Any]
CONFIGURATIONS: dict[str, dict[str, Make]] = {
    "LRScheduler": {"subclass": lambda S, o, **kw: S.Countdown(o, **kw)},
    "LambdaLR": {
        "function": lambda S, o, **kw: S.LambdaLR(o, lambda e: 1 / (1 + e), **kw),
        "list": lambda S, o, **kw: S.LambdaLR(o, [lambda e: 0.95**e, Halve(0.9)], **kw),
    },
    "MultiplicativeLR": {
        "function": lambda S, o, **kw: S.MultiplicativeLR(o, lambda e: 0.95 + 0.01 * (e % 3), **kw),
        "list": lambda S, o, **kw: S.MultiplicativeLR(o, [lambda e: 0.9, Halve(0.99)], **kw),
    },
    "StepLR": {
        "default gamma": lambda S, o, **kw: S.StepLR(o, 7, **kw),
        "gamma": lambda S, o, **kw: S.StepLR(o, step_size=3, gamma=0.7, **kw),
    },
    "MultiStepLR": {
        "milestones": lambda S, o, **kw: S.MultiStepLR(o, [10, 30], **kw),
        "repeated": lambda S, o, **kw: S.MultiStepLR(o, milestones=[2, 5, 5, 11, 40], gamma=0.7, **kw),
    },
    "ConstantLR": {
        "default": lambda S, o, **kw: S.ConstantLR(o, **kw),
        "factor": lambda S, o, **kw: S.ConstantLR(o, factor=0.4, total_iters=30, **kw),
        "none": lambda S, o, **kw: S.ConstantLR(o, factor=0.4, total_iters=0, **kw),
    },
    "LinearLR": {
        "default": lambda S, o, **kw: S.LinearLR(o, **kw),
        "factors": lambda S, o, **kw: S.LinearLR(o, start_factor=0.2, end_factor=0.9, total_iters=37, **kw),
        "down": lambda S, o, **kw: S.LinearLR(o, start_factor=1.0, end_factor=0.0, total_iters=50, **kw),
    },
    "ExponentialLR": {"gamma": lambda S, o, **kw: S.ExponentialLR(o, 0.93, **kw)},
    "SequentialLR": {
        "three": lambda S, o: S.SequentialLR(
            o, [S.LinearLR(o, 0.1, total_iters=4), S.ExponentialLR(o, 0.9), S.CosineAnnealingLR(o, 6)], [4, 29]),
        "cosine restarts": lambda S, o: S.SequentialLR(
            o, schedulers=[S.ConstantLR(o, 0.1, 20), S.CosineAnnealingWarmRestarts(o, 9)], milestones=[20]),
        "nested": lambda S, o: S.SequentialLR(
            o,
            [S.ChainedScheduler([S.ConstantLR(o, 0.5, 3), S.ExponentialLR(o, 0.9)]), S.PolynomialLR(o, 20, 2.0)],
            [15]),
    },
    "CosineAnnealingLR": {
        "half period": lambda S, o, **kw: S.CosineAnnealingLR(o, 60, **kw),
        "periods": lambda S, o, **kw: S.CosineAnnealingLR(o, T_max=7, eta_min=0.001, **kw),
    },
    "ChainedScheduler": {
        "two": lambda S, o: S.ChainedScheduler([S.ConstantLR(o, 0.1, 3), S.ExponentialLR(o, 0.9)]),
        "three": lambda S, o: S.ChainedScheduler(
            [S.LinearLR(o, 0.2, total_iters=9), S.StepLR(o, 5, 0.8), S.MultiplicativeLR(o, lambda e: 0.99)],
            optimizer=o),
    },
    "ReduceLROnPlateau": {
        "default": lambda S, o: S.ReduceLROnPlateau(o),
        "min rel": lambda S, o: S.ReduceLROnPlateau(o, "min", factor=0.5, patience=2, threshold=0.05, cooldown=3),
        "min abs": lambda S, o: S.ReduceLROnPlateau(o, patience=1, threshold=0.2, threshold_mode="abs", min_lr=0.01),
        "max rel": lambda S, o: S.ReduceLROnPlateau(o, mode="max", patience=0, min_lr=[0.1, 0.001], factor=0.9),
        "max abs": lambda S, o: S.ReduceLROnPlateau(o, mode="max", patience=4, threshold_mode="abs", eps=0.02),
    },
    "CyclicLR": {
        "triangular": lambda S, o, **kw: S.CyclicLR(o, 0.01, [0.1, 0.2], step_size_up=3, step_size_down=5, **kw),
        "triangular2": lambda S, o, **kw: S.CyclicLR(o, 0.01, 0.1, step_size_up=4, mode="triangular2", **kw),
        "exp_range": lambda S, o, **kw: S.CyclicLR(
            o, [0.01, 0.02], 0.1, step_size_up=3, mode="exp_range", gamma=0.95, base_momentum=0.6,
            max_momentum=[0.8, 0.95], **kw),
        "scale_fn": lambda S, o, **kw: S.CyclicLR(o, 0.01, 0.1, 3, scale_fn=Halve(0.8), scale_mode="iterations", **kw),
        "function": lambda S, o, **kw: S.CyclicLR(o, 0.01, 0.1, 3, scale_fn=lambda x: 1 / (5 + x), **kw),
        "rates alone": lambda S, o, **kw: S.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=False, **kw),
        "default": lambda S, o, **kw: S.CyclicLR(o, base_lr=0.001, max_lr=1.0, **kw),
    },
    "CosineAnnealingWarmRestarts": {
        "equal": lambda S, o, **kw: S.CosineAnnealingWarmRestarts(o, 7, **kw),
        "growing": lambda S, o, **kw: S.CosineAnnealingWarmRestarts(o, T_0=4, T_mult=2, eta_min=0.002, **kw),
    },
    "OneCycleLR": {
        "total_steps": lambda S, o, **kw: S.OneCycleLR(o, [1.0, 0.3], total_steps=62, **kw),
        "three phases": lambda S, o, **kw: S.OneCycleLR(
            o, 1.0, epochs=13, steps_per_epoch=5, anneal_strategy="linear", three_phase=True, pct_start=0.4,
            div_factor=10.0, final_div_factor=50, base_momentum=0.7, max_momentum=[0.9, 0.8], **kw),
        "rates alone": lambda S, o, **kw: S.OneCycleLR(o, 0.7, total_steps=80, cycle_momentum=False, **kw),
        "ends": lambda S, o, **kw: S.OneCycleLR(o, 0.7, total_steps=40, pct_start=0.25, **kw),
    },
    "PolynomialLR": {
        "default": lambda S, o, **kw: S.PolynomialLR(o, **kw),
        "power": lambda S, o, **kw: S.PolynomialLR(o, total_iters=45, power=1.7, **kw),
    },
    "SWALR": {
        "cos": lambda S, o, **kw: S.SWALR(o, 0.05, **kw),
        "linear": lambda S, o, **kw: S.SWALR(o, [0.05, 0.2], anneal_epochs=33, anneal_strategy="linear", **kw),
        "at once": lambda S, o, **kw: S.SWALR(o, swa_lr=0.05, anneal_epochs=0, **kw),
    },
}  # fmt: skip

# Arguments that must raise; every scheduler is also given something that is no optimizer.
ERRORS: dict[str, dict[str, Make]] = {
    "LRScheduler": {"no get_lr": lambda S, o: S.LRScheduler(o)},
    "LambdaLR": {"count": lambda S, o: S.LambdaLR(o, [abs]), "no function": lambda S, o: S.LambdaLR(o, 3)},
    "MultiplicativeLR": {
        "count": lambda S, o: S.MultiplicativeLR(o, [abs] * 3),
        "no function": lambda S, o: S.MultiplicativeLR(o, 3),
        "no functions": lambda S, o: S.MultiplicativeLR(o, [abs, 3]),
    },
    "ConstantLR": {
        "large": lambda S, o: S.ConstantLR(o, 1.5),
        "negative": lambda S, o: S.ConstantLR(o, factor=-0.1),
    },
    "LinearLR": {
        "start": lambda S, o: S.LinearLR(o, 0.0),
        "large start": lambda S, o: S.LinearLR(o, 1.1),
        "end": lambda S, o: S.LinearLR(o, 0.5, 1.5),
    },
    "SequentialLR": {
        "none": lambda S, o: S.SequentialLR(o, [], []),
        "milestones": lambda S, o: S.SequentialLR(o, [S.StepLR(o, 2)], [3]),
        "plateau": lambda S, o: S.SequentialLR(o, [S.ReduceLROnPlateau(o)], []),
        "no scheduler": lambda S, o: S.SequentialLR(o, [3], []),
        "two optimizers": lambda S, o: S.SequentialLR(copy.deepcopy(o), [S.StepLR(o, 2)], []),
    },
    "ChainedScheduler": {
        "none": lambda S, o: S.ChainedScheduler([]),
        "no scheduler": lambda S, o: S.ChainedScheduler([3]),
        "two optimizers": lambda S, o: S.ChainedScheduler([S.StepLR(o, 2)], copy.deepcopy(o)),
    },
    "ReduceLROnPlateau": {
        "factor": lambda S, o: S.ReduceLROnPlateau(o, factor=1.0),
        "mode": lambda S, o: S.ReduceLROnPlateau(o, "up"),
        "threshold_mode": lambda S, o: S.ReduceLROnPlateau(o, threshold_mode="x"),
        "min_lr": lambda S, o: S.ReduceLROnPlateau(o, min_lr=[0.1]),
        "verbose": lambda S, o: S.ReduceLROnPlateau(o, verbose=True),
        "no metric": lambda S, o: S.ReduceLROnPlateau(o).step(),
    },
    "CyclicLR": {
        "mode": lambda S, o: S.CyclicLR(o, 1, 2, mode="x"),
        "max_lr": lambda S, o: S.CyclicLR(o, 0.1, [0.2]),
        "base_lr": lambda S, o: S.CyclicLR(o, [0.1] * 3, 0.2),
        "no momentum": lambda S, o: S.CyclicLR(S.optim.Adagrad(o.param_groups[0]["params"]), 0.1, 0.2),
    },
    "CosineAnnealingWarmRestarts": {
        "T_0": lambda S, o: S.CosineAnnealingWarmRestarts(o, 0),
        "fractional T_0": lambda S, o: S.CosineAnnealingWarmRestarts(o, 1.5),
        "T_mult": lambda S, o: S.CosineAnnealingWarmRestarts(o, 2, 1.5),
        "eta_min": lambda S, o: S.CosineAnnealingWarmRestarts(o, 2, eta_min="x"),
        "epoch": lambda S, o: S.CosineAnnealingWarmRestarts(o, 2).step(-1),
    },
    "OneCycleLR": {
        "nothing": lambda S, o: S.OneCycleLR(o, 0.1),
        "total_steps": lambda S, o: S.OneCycleLR(o, 0.1, total_steps=0),
        "epochs": lambda S, o: S.OneCycleLR(o, 0.1, epochs=-1, steps_per_epoch=2),
        "steps_per_epoch": lambda S, o: S.OneCycleLR(o, 0.1, epochs=1, steps_per_epoch=2.5),
        "pct_start": lambda S, o: S.OneCycleLR(o, 0.1, total_steps=9, pct_start=2),
        "strategy": lambda S, o: S.OneCycleLR(o, 0.1, total_steps=9, anneal_strategy="x"),
        "max_lr": lambda S, o: S.OneCycleLR(o, [0.1], total_steps=9),
        "no momentum": lambda S, o: S.OneCycleLR(S.optim.Adagrad(o.param_groups[0]["params"]), 0.1, total_steps=9),
        "over": lambda S, o: [(o.step(), s.step()) for s in [S.OneCycleLR(o, 0.1, total_steps=2)] for _ in range(3)],
    },
    "SWALR": {
        "strategy": lambda S, o: S.SWALR(o, 0.1, anneal_strategy="x"),
        "epochs": lambda S, o: S.SWALR(o, 0.1, anneal_epochs=-1),
        "fractional epochs": lambda S, o: S.SWALR(o, 0.1, anneal_epochs=1.5),
        "rates": lambda S, o: S.SWALR(o, [0.1]),
    },
}
NO_OPTIMIZER: dict[str, tuple[Any, ...]] = {  # further arguments that construction needs
    "LambdaLR": (abs,), "MultiplicativeLR": (abs,), "StepLR": (2,), "MultiStepLR": ([2],), "ExponentialLR": (0.9,),
    "CosineAnnealingLR": (5,), "CyclicLR": (0.1, 0.2), "CosineAnnealingWarmRestarts": (3,), "OneCycleLR": (0.1,),
    "SequentialLR": ([], []), "SWALR": (0.1,),
}  # fmt: skip


def entries() -> list[str]:
    return [*torch.optim.lr_scheduler.__all__, "SWALR"]


def replay(name: str) -> dict[str, str | None]:
    result: dict[str, str | None] = {"signature": signature(name)}
    for description, make in CONFIGURATIONS[name].items():
        result[description] = first_failure(make)
    errors = dict(ERRORS.get(name, {}))
    errors["no optimizer"] = lambda S, o: getattr(S, name)(3, *NO_OPTIMIZER.get(name, ()))
    errors["wrong argument"] = lambda S, o: getattr(S, name)(o, wrong=1)
    for description, make in errors.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcomes = [attempt(make, schedulers(L), OPTIMIZERS["SGD"](L)) for L in (tapegrad, torch)]
        result[f"error: {description}"] = same_outcome(*outcomes)
    return result


def schedulers(library: Any) -> types.SimpleNamespace:
    """All schedulers of a library by name, its `optim`, and one that a user would write."""

    class Countdown(library.optim.lr_scheduler.LRScheduler):  # type: ignore[name-defined, misc]
        def get_lr(self) -> list[Any]:
            return [base / (1 + self.last_epoch) for base in self.base_lrs]

    found = vars(library.optim.lr_scheduler) | {"SWALR": library.optim.swa_utils.SWALR}
    return types.SimpleNamespace(**found | {"optim": library.optim, "Countdown": Countdown})


def signature(name: str) -> str | None:
    """The parameters' names, kinds and defaults."""
    mine, theirs = (
        [(p.name, p.kind, p.default) for p in inspect.signature(getattr(schedulers(L), name)).parameters.values()]
        for L in (tapegrad, torch)
    )
    return None if mine == theirs else f"{mine}, torch {theirs}"


# ---- one scheduler on one library -----------------------------------------------------------------------------------


class Run:
    """A scheduler of one library on an optimizer, and what is seen of both."""

    def __init__(self, library: Any, make: Make, kind: str, state: Any = None):
        self.library, self.make, self.kind = library, make, kind
        self.optimizer = OPTIMIZERS[kind](library)
        if state is not None:
            self.optimizer.load_state_dict(state)
        self.count = 0
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.scheduler = make(schedulers(library), self.optimizer)
        self.warned = [str(w.message) for w in caught]

    def step(self, *args: Any) -> Any:
        """One step of the optimizer, one of the scheduler."""
        self.optimizer.step()
        return self.alone(*args)

    def alone(self, *args: Any) -> Any:
        """One step of the scheduler; with a metric if it wants one. Gives what is then seen."""
        metric = [METRICS[self.count]] if type(self.scheduler).__name__ == "ReduceLROnPlateau" else []
        self.count += 1
        return self.seen(lambda: self.scheduler.step(*metric, *args))

    def seen(self, call: Callable[[], Any]) -> Any:
        """The exception of a call, or its value and all that it can change; and its warnings."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            value = attempt(call)
        texts = [(w.category.__name__, str(w.message)) for w in caught]
        if isinstance(value, Exception):
            return {"raises": compare.error(value), "warnings": texts}
        options = [{k: plain(g[k]) for k in sorted(g) if k != "params"} for g in self.optimizer.param_groups]
        names = ("last_epoch", "_step_count", "_last_lr", "num_bad_epochs", "best")
        own = {name: plain(getattr(self.scheduler, name, None)) for name in names}
        return {"value": plain(value), "warnings": texts, "groups": options, "scheduler": own,
                "get_last_lr": plain(self.scheduler.get_last_lr())}  # fmt: skip

    def fresh(self, **kw: Any) -> Run:
        """Another run, whose optimizer has this one's state, and whose scheduler is newly made on it."""
        state = leaves_to(self.library)(self.optimizer.state_dict())
        return Run(self.library, functools.partial(self.make, **kw), self.kind, state)

    def take(self, other: Run) -> None:
        """The state of a run of either library."""
        convert = leaves_to(self.library)
        self.scheduler.load_state_dict(convert(other.scheduler.state_dict()))
        self.optimizer.load_state_dict(convert(other.optimizer.state_dict()))
        self.count = other.count


def plain(value: Any) -> Any:
    """A value as one that compares by `==`: tensors become their dtype and numbers, objects their type's name."""
    if is_tensor(value):
        return [str(value.dtype), array(value).tolist()]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return type(value).__name__


def leaves_to(library: Any) -> Callable[[Any], Any]:
    """A function that copies a state dict, tensors becoming the library's."""

    def convert(value: Any) -> Any:
        if is_tensor(value):
            theirs = to_torch(value).clone()
            return to_tapegrad(theirs) if library is tapegrad else theirs
        if isinstance(value, dict):
            return type(value)({key: convert(item) for key, item in value.items()})
        return type(value)(map(convert, value)) if type(value) in (list, tuple) else value

    return convert


# ---- the checks of a configuration ----------------------------------------------------------------------------------


def first_failure(make: Make) -> str | None:
    """The name of the first check that fails, and how."""
    for kind in OPTIMIZERS:
        for check in CHECKS:
            try:
                failure = check(make, kind)
            except Exception as error:
                failure = compare.error(error)
            if failure:
                return f"{kind}: {check.__name__}: {failure}"
    return None


def difference(mine: Any, theirs: Any, what: str) -> str | None:
    """The first difference of two plain values. NaN is NaN."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        if list(mine) != list(theirs):
            return f"{what}: {list(mine)}, torch {list(theirs)}"
        return next(filter(None, (difference(mine[k], theirs[k], f"{what}[{k!r}]") for k in theirs)), None)
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        found = (difference(a, b, f"{what}[{i}]") for i, (a, b) in enumerate(zip(mine, theirs, strict=True)))
        return next(filter(None, found), None)
    same = mine == theirs or (mine != mine and theirs != theirs)
    return None if same else f"{what}: {mine!r}, torch {theirs!r}"


def both(make: Make, kind: str) -> tuple[Run, Run]:
    return Run(tapegrad, make, kind), Run(torch, make, kind)


def sequence(make: Make, kind: str) -> str | None:
    mine, theirs = both(make, kind)
    if failure := difference(mine.warned, theirs.warned, "warnings at construction"):
        return failure
    for i in range(STEPS):
        if i == HALF and (failure := difference(*(plain(r.scheduler.state_dict()) for r in (mine, theirs)), "state")):
            return failure
        if failure := difference(mine.step(), theirs.step(), f"step {i}"):
            return failure
    return None


def state_dict(make: Make, kind: str) -> str | None:
    """Ours from torch's state, and torch's from ours, go on as torch's from its own."""
    for first, second in ((torch, tapegrad), (tapegrad, torch)):
        mine, theirs = Run(second, make, kind), Run(torch, make, kind)
        for run, source in ((mine, Run(first, make, kind)), (theirs, Run(torch, make, kind))):
            for _ in range(HALF):
                source.step()
            run.take(source)
        for i in range(HALF, STEPS):
            if failure := difference(mine.step(), theirs.step(), f"{second.__name__}, step {i}"):
                return failure
    return None


def last_epoch(make: Make, kind: str) -> str | None:
    """Where the scheduler has this argument: made anew on an optimizer that has been through 25 epochs, it goes on."""
    if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(make).parameters.values()):
        return None
    runs = list(both(make, kind))
    for run in runs:
        for _ in range(HALF):
            run.step()
    again = [attempt(run.fresh, last_epoch=HALF - 1) for run in runs]
    if isinstance(again[0], Exception) or isinstance(again[1], Exception):
        return same_outcome(*again)
    for i in range(HALF):
        if failure := difference(again[0].step(), again[1].step(), f"step {i}"):
            return failure
    return None


def epochs(make: Make, kind: str) -> str | None:
    mine, theirs = both(make, kind)
    for epoch in (3, 4, 17, 2, 0, 35):
        if failure := difference(mine.step(epoch), theirs.step(epoch), f"epoch {epoch}"):
            return failure
    return None


def alone(make: Make, kind: str) -> str | None:
    mine, theirs = both(make, kind)
    for i in range(3):
        if failure := difference(mine.alone(), theirs.alone(), f"step {i}"):
            return failure
    outside = [run.seen(getattr(run.scheduler, "get_lr", lambda: None)) for run in (mine, theirs)]
    return difference(*outside, "get_lr")


CHECKS = (sequence, state_dict, last_epoch, epochs, alone)
