"""Averages of a model's parameters along its training: torch.optim.swa_utils.

Stochastic weight averaging: Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization,
arXiv:1803.05407. The exponential moving average weights recent steps more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import chain
from typing import Any, Literal

from .. import nn
from ..autograd.api.creation import tensor
from ..autograd.dtypes import int64
from ..autograd.modes import no_grad
from ..autograd.tensor import Tensor
from .lr_scheduler.base import LRScheduler, per_group
from .optimizer import Optimizer

__all__ = [
    "AveragedModel",
    "update_bn",
    "SWALR",
    "get_ema_multi_avg_fn",
    "get_swa_multi_avg_fn",
    "get_ema_avg_fn",
    "get_swa_avg_fn",
]

Module = nn.modules.module.Module
PARAM_LIST = tuple[Tensor, ...] | list[Tensor]


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def _inexact(t: Tensor) -> bool:
    return t.is_floating_point() or t.is_complex()


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[[PARAM_LIST, PARAM_LIST, Any], None]:
    """A function of (averages, current values, count): each average += (1 - decay) * (current - average), in place.

    The first two are lists of tensors (*S). ValueError for a decay outside [0, 1].
    """
    _check_decay(decay)

    @no_grad()
    def ema_update(ema_param_list: PARAM_LIST, current_param_list: PARAM_LIST, _: Any) -> None:
        inexact = _inexact(ema_param_list[0])
        for average, current in zip(ema_param_list, current_param_list, strict=True):
            if inexact:
                average.lerp_(current, 1 - decay)
            else:
                average.copy_(average * decay + current * (1 - decay))

    return ema_update


def get_swa_multi_avg_fn() -> Callable[[PARAM_LIST, PARAM_LIST, Any], None]:
    """A function of (averages, current values, count): each average += (current - average) / (count + 1), in place.

    The first two are lists of tensors (*S).
    """

    @no_grad()
    def swa_update(averaged_param_list: PARAM_LIST, current_param_list: PARAM_LIST, num_averaged: Tensor | int) -> None:
        inexact = _inexact(averaged_param_list[0])
        for average, current in zip(averaged_param_list, current_param_list, strict=True):
            if inexact:
                average.lerp_(current, 1 / (num_averaged + 1))
            elif isinstance(num_averaged, Tensor):
                average.addcdiv_(current - average, num_averaged + 1)
            else:
                average.add_(current - average, alpha=1.0 / (num_averaged + 1))

    return swa_update


def get_ema_avg_fn(decay: float = 0.999) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """A function of (average, current value, count), tensors (*S) -> decay * average + (1 - decay) * current (*S).

    ValueError for a decay outside [0, 1].
    """
    _check_decay(decay)

    @no_grad()
    def ema_update(ema_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return decay * ema_param + (1 - decay) * current_param

    return ema_update


def get_swa_avg_fn() -> Callable[[Tensor, Tensor, Any], Tensor]:
    """A function of (average, current value, count), tensors (*S) -> the mean of count + 1 values (*S)."""

    @no_grad()
    def swa_update(averaged_param: Tensor, current_param: Tensor, num_averaged: Tensor | int) -> Tensor:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)

    return swa_update


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of the model's: the first `update_parameters` copies them.

    avg_fn(average, current, count) -> average works on one parameter, multi_avg_fn(averages, currents, count) in place
    on lists of one device and dtype; with neither all updates weigh alike. use_buffers: buffers are averaged too,
    otherwise copied. State: the model's, under "module.", and `n_averaged` () int64.

    >>> import tapegrad as torch
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> average = torch.optim.swa_utils.AveragedModel(model)
    >>> for value in (1.0, 2.0, 6.0):
    ...     _ = torch.nn.init.constant_(model.weight, value)
    ...     average.update_parameters(model)
    >>> average.module.weight.item()
    3.0
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Callable[[Tensor, Tensor, Tensor | int], Tensor] | None = None,
        multi_avg_fn: Callable[[PARAM_LIST, PARAM_LIST, Tensor | int], None] | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, dtype=int64, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the averaged model gives."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Takes the model's present parameters into the average."""
        averaged: Iterable[Tensor] = self.parameters()
        current: Iterable[Tensor] = model.parameters()
        if self.use_buffers:
            averaged = chain(self.module.parameters(), self.module.buffers())
            current = chain(current, model.buffers())
        pairs = [(p.detach(), q.detach().to(p.device)) for p, q in zip(averaged, current, strict=False)]
        if self.n_averaged == 0:
            for p, q in pairs:
                p.copy_(q)
        elif self.multi_avg_fn is not None:
            self._update_lists(pairs, self.multi_avg_fn)
        else:
            average = self.avg_fn or get_swa_avg_fn()
            for p, q in pairs:
                p.copy_(average(p, q, self.n_averaged.to(p.device)))
        if not self.use_buffers:
            for b, source in zip(self.module.buffers(), model.buffers(), strict=True):
                b.detach().copy_(source.detach().to(b.device))
        self.n_averaged += 1

    def _update_lists(self, pairs: list[tuple[Tensor, Tensor]], average: Callable[..., None]) -> None:
        """One call of `average` for each device and dtype."""
        groups: dict[Any, list[tuple[Tensor, Tensor]]] = {}
        for p, q in pairs:
            groups.setdefault((str(p.device), p.dtype), []).append((p, q))
        for members in groups.values():
            count = self.n_averaged.to(members[0][0].device)
            average([p for p, _ in members], [q for _, q in members], count)


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Sets the running statistics of the model's batch norms to means over the batches of `loader`, in one pass.

    A batch is a tensor, or a list or tuple whose first entry is one; it is moved to `device` if that is given. For an
    averaged model, whose statistics are those of no average.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    was_training = model.training
    model.train()
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
    for batch in loader:
        if isinstance(batch, (list, tuple)):
            batch = batch[0]
        model(batch if device is None else batch.to(device))
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """Goes from each group's rate to `swa_lr` (one for all groups, or a list) within `anneal_epochs`, and stays there.

    anneal_strategy: "cos" or "linear". ValueError for another, for negative or fractional epochs.

    >>> import tapegrad as torch
    >>> x = torch.ones(1, requires_grad=True)
    >>> optimizer = torch.optim.SGD([x], lr=1.0)
    >>> scheduler = torch.optim.swa_utils.SWALR(optimizer, 0.5, anneal_epochs=2, anneal_strategy="linear")
    >>> for _ in range(3):
    ...     optimizer.step()
    ...     scheduler.step()
    ...     print(scheduler.get_last_lr())
    [0.75]
    [0.5]
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float,
        anneal_epochs: int = 10,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        last_epoch: int = -1,
    ) -> None:
        for value, group in zip(per_group("swa_lr", optimizer, swa_lr), optimizer.param_groups, strict=True):
            group["swa_lr"] = value
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        self._set_anneal_func(anneal_strategy)
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _set_anneal_func(self, anneal_strategy: Literal["cos", "linear"]) -> None:
        self._anneal_strategy = anneal_strategy
        self.anneal_func = _cosine if anneal_strategy == "cos" else _linear

    def get_lr(self) -> list[Any]:
        """The rate of each group after `_step_count` steps: its first one is found again from the present one."""
        self._warn_if_outside()
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)

        def part(count: int) -> float:
            return self.anneal_func(max(0, min(1, count / max(1, self.anneal_epochs))))

        before, now = part(step - 1), part(step)
        rates = []
        for group in self.optimizer.param_groups:
            lr, goal = group["lr"], group["swa_lr"]
            first = goal if before == 1 else (lr - before * goal) / (1 - before)
            rates.append(goal * now + first * (1 - now))
        return rates

    def state_dict(self) -> dict[str, Any]:
        """All attributes but the optimizer and the function that follows from `_anneal_strategy`."""
        return {key: value for key, value in super().state_dict().items() if key != "anneal_func"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned."""
        super().load_state_dict(state_dict)
        self._set_anneal_func(self._anneal_strategy)


def _linear(t: float) -> float:
    return t


def _cosine(t: float) -> float:
    return (1 - math.cos(math.pi * t)) / 2
