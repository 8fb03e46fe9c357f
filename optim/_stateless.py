"""An optimizer lent to other parameters and another state for a while."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..autograd.tensor import Tensor
from .optimizer import Group, Optimizer

__all__ = ["swap_in_optimizer_params_and_state"]

_NAME = "swap_in_optimizer_params_and_state"


@contextmanager
def swap_in_optimizer_params_and_state(
    optimizer: Optimizer, swapin_parameters: dict[str, Tensor], swapin_optim_state: dict[str, Any]
) -> Iterator[None]:
    """Inside, the optimizer works on the given parameters and state; on leaving, it has its own again.

    swapin_parameters: name -> tensor, in the order of the optimizer's parameters. swapin_optim_state: as `state_dict`
    gives it. Tensors in it are written in place by a step; other changes of the state are forgotten. RuntimeError where
    the optimizer has not stepped yet, or the two do not match its groups.
    """
    state = _checked_state(optimizer, swapin_optim_state)
    new_groups = _matched_groups(optimizer, swapin_parameters, swapin_optim_state.get("param_groups"), state)
    swapped: defaultdict[Any, Any] = defaultdict(dict)
    own_state, own_groups = optimizer.state, [dict(group) for group in optimizer.param_groups]
    try:
        for group, (options, params) in zip(optimizer.param_groups, new_groups, strict=True):
            swapped.update((p, dict(state.get(i, {}))) for p, i in zip(params, options["params"], strict=True))
            group.update(options | {"params": params})
        optimizer.state = swapped
        yield
    finally:
        for group, own in zip(optimizer.param_groups, own_groups, strict=True):
            group.clear()
            group.update(own)
        optimizer.state = own_state


def _require(right: bool, text: str) -> None:
    if not right:
        raise RuntimeError(text)


def _checked_state(optimizer: Optimizer, given: Any) -> dict[Any, Any]:
    """The "state" of a state dict, found to be a dict of dicts by the parameters' numbers."""
    _require(bool(optimizer.state), f"{_NAME} requires initialized optimizer state.")
    _require(isinstance(given, dict), f"{_NAME} requires a DCP-style optimizer state_dict.")
    state = given.get("state")
    _require(
        isinstance(state, dict),
        f"{_NAME} requires swapin_optim_state['state'] to be a dict mapping packed parameter ids to per-param state "
        f"dicts, got {type(state).__name__}.",
    )
    _require(
        not any(isinstance(key, Tensor) for key in state),
        f"{_NAME} requires optimizer.state_dict()-style state keyed by packed parameter ids.",
    )
    _require(
        all(isinstance(value, dict) for key, value in state.items() if isinstance(key, int)),
        f"{_NAME} requires per-parameter optimizer state entries to be dictionaries.",
    )
    return state


def _matched_groups(
    optimizer: Optimizer, parameters: dict[str, Tensor], groups: Any, state: dict[Any, Any]
) -> list[tuple[Group, list[Tensor]]]:
    """(options with the parameters' numbers, parameters) for each group of the optimizer."""
    _require(
        isinstance(groups, list),
        f"{_NAME} requires swapin_optim_state['param_groups'] to be a list of param-group dicts, got "
        f"{type(groups).__name__}.",
    )
    _require(
        len(groups) == len(optimizer.param_groups),
        "swapin_optim_state has a different number of parameter groups than the live optimizer.",
    )
    left, matched = list(parameters.values()), []
    for i, (own, new) in enumerate(zip(optimizer.param_groups, groups, strict=True)):
        _check_group(i, own, new)
        count = len(new["params"])
        _require(
            count <= len(left),
            f"{_NAME} requires the explicit parameter state to match optimizer.param_groups ordering.",
        )
        matched.append((new, left[:count]))
        left = left[count:]
    numbers = {number for new, _ in matched for number in new["params"]}
    extra = [key for key in state if key not in numbers]
    _require(
        not extra,
        f"{_NAME} requires swapin_optim_state['state'] to be keyed only by packed parameter ids from "
        f"param_groups[*]['params']; got extra keys {extra!r}.",
    )
    return matched


def _check_group(i: int, own: Group, new: Any) -> None:
    """RuntimeError unless a given group has the optimizer's options and as many parameters, as numbers."""
    _require(isinstance(new, dict), f"{_NAME} requires each optimizer param group to be a dictionary.")
    numbers = new.get("params")
    _require(
        isinstance(numbers, list) and all(isinstance(number, int) for number in numbers),
        f"{_NAME} requires optimizer.state_dict()-style param_groups[*]['params'] entries keyed by packed parameter "
        "ids.",
    )
    _require(
        len(own["params"]) == len(numbers),
        f"swapin_optim_state param group {i} has a different number of params than the live optimizer param group.",
    )
    only_new, only_own = [key for key in new if key not in own], [key for key in own if key not in new]
    _require(
        not only_new and not only_own,
        f"{_NAME} requires optimizer.state_dict()-style param group keys to exactly match the live optimizer group "
        f"keys for group {i}. Keys only in swap-in: {only_new}. Keys only in live: {only_own}.",
    )
