"""What a checkpoint of a training holds, and how a training becomes what it says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..serialization import load, save
from . import randomness

if TYPE_CHECKING:
    from .fit import Fit
    from .trainer import Trainer

FORMAT = "tapegrad.train 1"
LAST = "last.pt"
_PARTS = ("model", "optimizer", "scheduler", "scaler")


def gather(trainer: Trainer, fit: Fit | None) -> dict[str, Any]:
    """The whole state, between two steps: {"format", "model", "optimizer", ..., "random", "place", ...}."""
    state: dict[str, Any] = {"format": FORMAT}
    for name in _PARTS:
        part = getattr(trainer, name)
        state[name] = None if part is None else part.state_dict()
    state["kinds"] = _kinds(trainer)
    state["history"] = trainer.history.state_dict()
    state["metrics"] = [metric.state_dict() for metric in trainer.scores.all]
    state["place"] = {name: getattr(trainer, name) for name in ("epoch", "batch", "step", "stop")}
    state["fit"] = None if fit is None else fit.state_dict()
    state["random"] = randomness.capture(fit.generators if fit else trainer.generators)
    return state


def path_of(given: str | os.PathLike[str]) -> str:
    """The checkpoint's file: the path, or `last.pt` in it where it is a folder. FileNotFoundError without one."""
    path = os.fspath(given)
    file = os.path.join(path, LAST) if os.path.isdir(path) else path
    if not os.path.isfile(file):
        raise FileNotFoundError(f"no checkpoint at {file}; fit(checkpoint=FOLDER) writes one as {LAST}")
    return file


def write(trainer: Trainer, fit: Fit | None, path: str) -> None:
    """Writes the state, whole or not at all; missing folders are made."""
    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, exist_ok=True)
    save(gather(trainer, fit), path)


def read(trainer: Trainer, path: str | os.PathLike[str]) -> dict[str, Any]:
    """A checkpoint's state, checked against the trainer. ValueError for another kind of file or of trainer."""
    file = path_of(path)
    state = load(file, map_location="cpu")
    if not isinstance(state, Mapping) or state.get("format") != FORMAT:
        raise ValueError(f"{file} is no checkpoint of a Trainer (of format {FORMAT!r})")
    for name in _PARTS:
        if (state[name] is None) != (getattr(trainer, name) is None):
            has, lacks = ("the trainer", "the checkpoint") if state[name] is None else ("the checkpoint", "the trainer")
            raise ValueError(f"{file}: {has} has a {name}, {lacks} has none")
    pairs = {
        "the metrics": ([each["metric"] for each in state["metrics"]], [type(m).__name__ for m in trainer.scores.all]),
        "optimizer, scheduler and scaler": (state.get("kinds", _kinds(trainer)), _kinds(trainer)),
        "the model's tensors": (_shapes(state["model"]), _shapes(trainer.model.state_dict())),
        "the optimizer's groups": (_groups(state["optimizer"]), _groups(trainer.optimizer.state_dict())),
    }
    for name, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise ValueError(
                f"{file}: {name} are {_short(theirs, ours)} there and {_short(ours, theirs)} in this trainer"
            )
    return dict(state)


def _shapes(tensors: Mapping[str, Any]) -> list[Any]:
    return [(name, tuple(getattr(value, "shape", ()))) for name, value in tensors.items()]


def _kinds(trainer: Trainer) -> list[str]:
    """The classes of the parts, since another class's state may fit and mean nothing."""
    return [type(getattr(trainer, name)).__name__ for name in _PARTS[1:]]


def _groups(optimizer: Mapping[str, Any]) -> list[int]:
    return [len(group["params"]) for group in optimizer["param_groups"]]


def _short(one: list[Any], other: list[Any]) -> str:
    """A list, or of a long one what the other has not."""
    return str(one if len(one) < 8 else [each for each in one if each not in other][:8])


def apply(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Model, optimizer, scheduler, scaler, metrics, history and place as the state says; the model's mismatch first."""
    for name in _PARTS:
        if state[name]:
            getattr(trainer, name).load_state_dict(state[name])
    for metric, own in zip(trainer.scores.all, state["metrics"], strict=True):
        metric.load_state_dict(own)
    trainer.history.load_state_dict(state["history"])
    for name, value in state["place"].items():
        setattr(trainer, name, value)
