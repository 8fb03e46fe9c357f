"""One step of the optimizer over a window of batches, and passes without gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..autograd.api.creation import zeros_like
from ..autograd.dtypes import float64
from ..autograd.modes import no_grad
from ..autograd.tensor import Tensor
from ..nn.utils import clip_grad_norm_, clip_grad_value_
from .batches import Batch, call, mapped, moved, split
from .losses import ClassWeights
from .metrics import Metric

if TYPE_CHECKING:
    from .trainer import Trainer


class Means:
    """Means over batches, each times its size, in float64: numbers on the CPU, else tensors where the batches are.

    So nothing waits for a device before `mean` does.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Any] = {}
        self.sizes: dict[str, Any] = {}

    def add(self, name: str, value: Tensor, size: float | Tensor) -> None:
        """Adds a batch's mean, (). One of size 0 (all targets ignored) has none, and adds nothing."""
        part: Any
        if value.is_cpu:
            part = value.item() * size if size else 0.0
        else:
            part = value.detach().to(float64) * size
            if isinstance(size, Tensor):
                part = part.where(size > 0, zeros_like(part))
        self.sums[name] = part if name not in self.sums else self.sums[name] + part
        self.sizes[name] = self.sizes.get(name, 0) + size

    def mean(self, name: str, summed: bool = False) -> float:
        """The mean so far, or the sum; NaN before the first batch. Waits for the device."""
        if name not in self.sums:
            return float("nan")
        total, size = float(self.sums[name]), 1.0 if summed else float(self.sizes[name])
        return total / size if size else float("nan")

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self.sums), "sizes": dict(self.sizes)}

    def load_state_dict(self, state: dict[str, Any], device: Any) -> None:
        """Continues from a state, on the device where its batches will be."""
        self.sums, self.sizes = (moved(dict(state[name]), device) for name in ("sums", "sizes"))


class Scores:
    """The metrics of a pass: those without weights, and those with."""

    def __init__(self, plain: Sequence[Metric], weighted: Sequence[Metric]):
        self.plain, self.weighted = list(plain), list(weighted)
        self.all = [*self.plain, *self.weighted]

    def update(self, output: Any, batch: Batch) -> None:
        """Adds a batch; metrics take its output and target as they are."""
        if self.all:
            output = mapped(lambda t: t.detach(), output)
        for metric in self.plain:
            metric.update(output, batch.y)
        for metric in self.weighted:
            metric.update(output, batch.y, batch.weight)

    def reset(self) -> None:
        for metric in self.all:
            metric.reset()

    def logs(self) -> dict[str, Any]:
        """Values by name, tensors as lists."""
        values = {metric.name: metric.compute() for metric in self.all}
        return {name: v.tolist() if isinstance(v, Tensor) else v for name, v in values.items()}


def read(trainer: Trainer, batch: Any, class_weights: ClassWeights | None = None) -> Batch:
    """A loader's batch on the device, with the weights of its classes."""
    parts = Batch(*moved(tuple(split(batch, trainer.target_key, trainer.weight_key)), trainer.device))
    if parts.y is None:
        raise ValueError(
            "a batch without a target: (x, y), (x, y, weight) or a dict with the entry "
            f"{trainer.target_key!r} is needed (Trainer(target_key=) names another)"
        )
    if class_weights is not None:
        parts = parts._replace(weight=class_weights(parts.y, parts.weight))
    return parts


def train_on(trainer: Trainer, window: list[Batch], means: Means, scores: Scores) -> None:
    """One step of the optimizer, with the gradient of the whole window's loss, and of the penalties.

    LBFGS asks for the gradient several times; what is shown is of the first.
    """
    if not trainer.closes:
        _differentiate(trainer, window, means, scores)
        _update(trainer)
        return
    first = [(means, scores)]

    def closure() -> Tensor:
        return _differentiate(trainer, window, *(first.pop() if first else (Means(), Scores([], []))))

    trainer.optimizer.step(closure)


def _differentiate(trainer: Trainer, window: list[Batch], means: Means, scores: Scores) -> Tensor:
    """The window's gradients -> the loss that they are of."""
    sizes = [trainer.rule.size(batch.y, batch.weight) for batch in window]
    total: Any = 0.0
    trainer.optimizer.zero_grad()
    for index, batch in enumerate(window):
        last = index == len(window) - 1
        share = None if len(window) == 1 or trainer.rule.summed else sizes[index] / sum(sizes)
        with contextlib.nullcontext() if last else trainer.unsynchronized():
            output, loss = _forward(trainer, batch)
            means.add("loss", loss, 1 if trainer.rule.summed else sizes[index])
            loss = loss if share is None else loss * (share.to(loss.dtype) if isinstance(share, Tensor) else share)
            penalty = trainer.penalty(trainer.model) if not index else None
            if penalty is not None:
                means.add("penalty", penalty, 1)
                loss = loss + penalty
            (loss if trainer.scaler is None else trainer.scaler.scale(loss)).backward()
        total = total + loss.detach()
        scores.update(output, batch)
    trainer.last_loss = total
    if trainer.closes:
        _clip(trainer)
    return total


def _forward(trainer: Trainer, batch: Batch) -> tuple[Any, Tensor]:
    with trainer.precision():
        output = call(trainer.model, batch.x)
        return output, trainer.rule(output, batch.y, batch.weight)


def _clip(trainer: Trainer) -> None:
    if trainer.clip_norm is None and trainer.clip_value is None:
        return
    if trainer.scaler is not None:
        trainer.scaler.unscale_(trainer.optimizer)
    parameters = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    if trainer.clip_value is not None:
        clip_grad_value_(parameters, trainer.clip_value)
    if trainer.clip_norm is not None:
        clip_grad_norm_(parameters, trainer.clip_norm)


def _update(trainer: Trainer) -> None:
    scaler, optimizer = trainer.scaler, trainer.optimizer
    _clip(trainer)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()


def evaluate(trainer: Trainer, batches: Iterable[Any], scores: Scores, look: Any = None) -> dict[str, Any]:
    """The loss and the metrics over batches, in evaluation mode and without gradients; look(): called after each."""
    means = Means()
    scores.reset()
    with evaluating(trainer.model), no_grad():
        for each in batches:
            batch = read(trainer, each)
            output, loss = _forward(trainer, batch)
            means.add("loss", loss, 1 if trainer.rule.summed else trainer.rule.size(batch.y, batch.weight))
            scores.update(output, batch)
            if look is not None:
                look()
    return {"loss": means.mean("loss", trainer.rule.summed), **scores.logs()}


@contextlib.contextmanager
def evaluating(model: Any) -> Any:
    """Inside, the model is in evaluation mode; after it, each of its modules is in its own again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
