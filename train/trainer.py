"""`Trainer`: fit, evaluate and predict, for those who come from Keras or Lightning."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .. import distributed
from ..amp import GradScaler, autocast
from ..autograd.api.join import cat
from ..autograd.device import device as _device
from ..autograd.dtypes import by_name, dtype, get_default_dtype
from ..autograd.modes import no_grad
from ..autograd.tensor import Tensor
from ..nn.modules.module import Module
from ..optim.lbfgs import LBFGS
from ..optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from ..optim.optimizer import Optimizer
from . import randomness, state
from .batches import Source, call, cut, leaves, loader_of, mapped, moved, source, split
from .callbacks.base import Callback
from .feed import Feed
from .fit import Fit, Plan
from .history import History
from .losses import ClassWeights, LossRule, Penalty
from .metrics import Metric
from .metrics.names import as_metric
from .progress import display
from .step import Scores, evaluate, evaluating

RESERVED = ("loss", "penalty")


class Trainer:
    """Trains a model; measures it; asks it. See docs/train.md.

    Args:
        model: a Module; batches go to it as `batches.py` says.
        loss: a module or function (output, target) -> (), or per sample, or a name (losses.LOSSES).
        optimizer: an Optimizer over the model's parameters.
        metrics: Metrics, names (metrics.NAMES) or functions (pred, target); weighted_metrics: those that take the
            sample and class weights into account.
        scheduler: an LRScheduler, stepped after each "epoch" or "step" (scheduler_interval); a ReduceLROnPlateau is
            given `monitor`, by default "val_loss", without validation "loss".
        accumulate: batches whose gradients make one step, that of one big batch.
        clip_norm, clip_value: limits of all gradients' norm, and of each of their elements, before the step.
        amp: True, or a half precision: autocast, and for float16 a GradScaler, which `scaler` replaces.
        l1, l2: penalties l1 sum |w| + l2 sum w^2, added to the gradient and shown as "penalty", not within "loss";
            penalize(name, parameter) -> bool chooses parameters, by default those of two dimensions and more.
        weighted_mean: weighted losses divide by the sum of weights, not by the number of samples (losses.py).
        device: where the model is moved to, and batches; None: the model stays, and batches follow it.
        target_key, weight_key: the entries of dict batches which are the target and the weights.
        generators: further random generators whose states a checkpoint keeps, those of transforms for one.

    `epoch`, `batch`, `step` count what is done, `history` has the results, `stop` ends the training when set.

    >>> torch.manual_seed(0) and None
    >>> model = torch.nn.Linear(2, 1)
    >>> trainer = torch.train.Trainer(model, "mse", torch.optim.SGD(model.parameters(), lr=0.1), metrics=["mae"])
    >>> x = torch.rand(64, 2)
    >>> history = trainer.fit(x, x.sum(1, keepdim=True), epochs=99, batch_size=8, verbose=False)
    >>> history["loss"][-1] < 1e-3, trainer.predict(torch.ones(1, 2)).shape
    (True, torch.Size([1, 1]))
    """

    def __init__(
        self, model: Module, loss: Any, optimizer: Optimizer, metrics: Iterable[Any] = (),
        scheduler: LRScheduler | None = None, *, weighted_metrics: Iterable[Any] = (),
        scheduler_interval: str = "epoch", monitor: str | None = None, accumulate: int = 1,
        clip_norm: float | None = None, clip_value: float | None = None, amp: Any = False,
        scaler: GradScaler | None = None, l1: float = 0.0, l2: float = 0.0,
        penalize: Callable[[str, Tensor], bool] | None = None, weighted_mean: bool = False, device: Any = None,
        target_key: str = "target", weight_key: str = "weight", generators: Iterable[Any] = (),
    ):  # fmt: skip
        _check_parts(model, optimizer, scheduler, scheduler_interval)
        _positive("accumulate", accumulate, int)
        for name, value in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if value is not None:
                _positive(name, value, (int, float))
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.scheduler_interval, self.monitor, self.accumulate = scheduler_interval, monitor, accumulate
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.rule = LossRule(loss, weighted_mean)
        self.penalty = Penalty(l1, l2, penalize)
        self.scores = _scores(metrics, weighted_metrics)
        self.validation_scores: Scores | None = None
        self.target_key, self.weight_key = target_key, weight_key
        self.generators = list(generators)
        randomness.check(self.generators)
        first = next(iter(model.parameters()), None)
        self.device = _device(device) if device is not None else first.device if first is not None else None
        self._half = _half(amp, self.device)
        self.closes = isinstance(optimizer, LBFGS)  # its step takes a closure
        self.scaler = scaler
        if scaler is None and self._half is not None and self._half.name == "float16":
            self.scaler = GradScaler(str(self.device or "cpu").partition(":")[0])
        if self.closes and self.scaler is not None:
            raise ValueError("LBFGS evaluates the loss again and again, which a GradScaler cannot: use amp='bfloat16'")
        self.history = History()
        self.epoch = self.batch = self.step = 0
        self.stop = False
        self.last_loss: Tensor | None = None
        self._fit: Fit | None = None
        self._running = False
        self._loaded: dict[str, Any] | None = None
        if self.device is not None:
            model.to(self.device)
            if isinstance(self.rule.loss, Module):
                self.rule.loss.to(self.device)

    # ---- training

    def fit(
        self, x: Any, y: Any = None, *, epochs: int = 1, batch_size: int | None = None,
        validation_data: Any = None, validation_split: float = 0.0, validation_freq: int = 1,
        sample_weight: Any = None, class_weight: Any = None, shuffle: bool = True, num_workers: int = 0,
        initial_epoch: int = 0, callbacks: Iterable[Callback] | None = (), progress: str | None = None,
        verbose: bool = True,
        checkpoint: str | os.PathLike[str] | None = None, checkpoint_every: int | None = None,
        resume: str | os.PathLike[str] | bool | None = None,
    ) -> History:  # fmt: skip
        """Trains until `epochs` epochs are done; gives the History.

        Args:
            x: a DataLoader or another iterable of batches; a Dataset; arrays, tensors or tables (N, ...), several in a
                tuple or dict; or (x, y) or (x, y, weight) of these. Arrays are made tensors of the model's precision.
            y: targets (N, ...), with arrays. batch_size: 32 by default. shuffle: a new order in each epoch.
            validation_data: as x, (x, y) or (x, y, weight); validation_split: the share at the data's end that is
                kept for it; validation_freq: every so many epochs.
            sample_weight: (N,). class_weight: {class: weight} or one for each class, multiplied with sample_weight;
                the validation has neither, as in Keras. The arithmetic: losses.py.
            initial_epoch: the first epoch's number. callbacks: see `Callback`.
            progress: "tqdm", "rich" or None: then a line per epoch where `verbose`.
            checkpoint: a folder where `last.pt` is kept: written after each epoch, every `checkpoint_every` steps, and
                when Ctrl-C or SIGTERM ends the training, after which KeyboardInterrupt (SystemExit) is raised.
            resume: a checkpoint's file or folder: the training goes on as if it had never stopped, bit for bit, given
                the same data and arguments. True: that in `checkpoint`, if there is one yet.

        Raises ValueError and TypeError for data and arguments without meaning, before anything is changed.
        """
        _check_counts(epochs, initial_epoch, validation_freq, checkpoint_every)
        if checkpoint_every and checkpoint is None:
            raise ValueError("checkpoint_every needs a folder: checkpoint=")
        if isinstance(callbacks, Callback):
            raise TypeError("callbacks is a list: callbacks=[...]")
        found, held = source(x, y, sample_weight, self._floating(), "fit"), None
        if validation_split and validation_data is not None:
            raise ValueError("validation_data and validation_split exclude each other")
        if validation_split:
            found, held = cut(found, validation_split)
        elif validation_data is not None:
            held = source(validation_data, None, None, self._floating(), "validation_data")
        plan = Plan(
            feed=Feed(loader_of(found, "fit", batch_size, shuffle, num_workers=num_workers)),
            validation=None if held is None else _validation_feed(held, batch_size),
            validation_freq=validation_freq, epochs=epochs, initial_epoch=initial_epoch,
            class_weights=None if class_weight is None else ClassWeights(class_weight),
            callbacks=list(callbacks or ()), display=display(progress, verbose and _leads(), epochs),
            checkpoint=None if checkpoint is None else os.fspath(checkpoint), every=checkpoint_every,
        )  # fmt: skip
        self._complete(plan, resume)
        return self._start(plan)

    def _complete(self, plan: Plan, resume: Any) -> None:
        """The rest of a plan, and the checks that need all of it."""
        for each in plan.callbacks:
            if not isinstance(each, Callback):
                raise TypeError(f"callbacks: {each!r} is no Callback")
        keys = self._keys(plan)
        watching: list[Any] = [*plan.callbacks, self]
        for who in watching:
            if who.monitor is not None and who.monitor not in keys:
                raise ValueError(
                    f"{type(who).__name__} monitors {who.monitor!r}, but an epoch has {', '.join(sorted(keys))}"
                    + ("" if plan.validation else "; val_... needs validation_data or validation_split")
                )
        length = plan.feed.length
        if length == 0:
            raise ValueError("fit: the loader has no batches; is drop_last set with fewer samples than batch_size?")
        loader = plan.feed.loader
        plan.shape = {name: getattr(loader, name, None) for name in ("batch_size", "num_workers")}
        plan.shape |= {"batches": length, "accumulate": self.accumulate}
        if resume is True:
            if plan.checkpoint is None:
                raise ValueError("resume=True continues from checkpoint=, which is not given; or give a file or folder")
            there = os.path.isfile(os.path.join(plan.checkpoint, state.LAST))
            resume = plan.checkpoint if there else None
        plan.resume = self._loaded if resume in (None, False) else state.read(self, resume)

    def _keys(self, plan: Plan) -> set[str]:
        """What an epoch's logs will have."""
        own = {"loss", *(metric.name for metric in self.scores.all)}
        keys = own | ({f"val_{name}" for name in own} if plan.validation else set())
        keys |= {"penalty"} if self.penalty.l1 or self.penalty.l2 else set()
        return keys.union(*(each.adds for each in plan.callbacks))

    def _start(self, plan: Plan) -> History:
        fit = Fit(self, plan)
        if plan.resume is not None:
            fit.check(plan.resume)
        self._fit, self._loaded = fit, None
        self.history = History()
        self.epoch, self.batch, self.step, self.stop = plan.initial_epoch, 0, 0, False
        self._running = True
        try:
            fit.run()
        finally:
            self._running = False
        return self.history

    # ---- measuring and asking

    def evaluate(
        self, x: Any, y: Any = None, *, batch_size: int | None = None, sample_weight: Any = None
    ) -> dict[str, Any]:
        """{"loss": ..., and each metric}, over data as for `fit`, in evaluation mode; metrics keep their sums."""
        found = source(x, y, sample_weight, self._floating(), "evaluate")
        loader = loader_of(found, "evaluate", batch_size)
        scores = self.scores
        if self._running:  # a callback asks: the running epoch's sums are not to be lost
            scores = copy.deepcopy(scores)
        return evaluate(self, Feed(loader).batches(), scores)

    def predict(self, x: Any, *, batch_size: int | None = None) -> Any:
        """The model's outputs, on the CPU, in the data's order: a tensor (N, ...), or tuples and dicts of such.

        x: as for `fit`; targets and weights are ignored. A loader that shuffles gives them in its own order.
        """
        if isinstance(x, tuple):
            x = list(x)  # several inputs: (x, y) has no meaning here
        found = source(x, None, None, self._floating(), "predict")
        parts = []
        with evaluating(self.model), no_grad():
            for batch in Feed(loader_of(found, "predict", batch_size)).batches():
                inputs = moved(split(batch, self.target_key, self.weight_key).x, self.device)
                with self.precision():
                    parts.append(mapped(lambda t: t.cpu(), call(self.model, inputs)))
        if not parts:
            raise ValueError("predict: the data has no batches")
        return _joined(parts)

    # ---- checkpoints

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Writes all that `fit(resume=path)` needs, whole or not at all.

        From a callback's on_epoch_end it is written when the epoch is closed, since other callbacks come after it.
        """
        if self._running and self._fit is not None and self._fit.trained:
            self._fit.saves.append(os.fspath(path))
        else:
            state.write(self, self._fit, os.fspath(path))

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Model, optimizer, scheduler, scaler, metrics and history from a checkpoint; the next `fit` continues there.

        path: a file, or a folder with `last.pt`. FileNotFoundError without one, ValueError for another trainer's.
        """
        loaded = state.read(self, path)
        state.apply(self, loaded)
        self._loaded = loaded

    # ---- what the parts ask

    @property
    def metrics(self) -> list[Metric]:
        """The metrics, plain ones first; after `evaluate` they hold its sums."""
        return self.scores.all

    def direction(self, name: str) -> str:
        """Whether more ("max") or less ("min") of a logged quantity is better. ValueError where nobody knows."""
        own = name.removeprefix("val_")
        if own in RESERVED:
            return "min"
        for metric in self.scores.all:
            if metric.name == own and metric.higher_is_better is not None:
                return "max" if metric.higher_is_better else "min"
        raise ValueError(f"whether more or less of {name!r} is better is not known: say mode='min' or mode='max'")

    def precision(self) -> Any:
        """The autocast region of a forward pass."""
        if self._half is None:
            return contextlib.nullcontext()
        return autocast(str(self.device or "cpu").partition(":")[0], dtype=self._half)

    def unsynchronized(self) -> Any:
        """For all batches of a window but the last: gradients are not yet sent to other processes."""
        return self.model.no_sync() if hasattr(self.model, "no_sync") else contextlib.nullcontext()

    def _floating(self) -> dtype:
        found = (p.dtype for p in self.model.parameters() if p.is_floating_point())
        return next(found, get_default_dtype())


def _check_parts(model: Any, optimizer: Any, scheduler: Any, interval: str) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"model must be a Module, not {type(model).__name__}")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be an Optimizer over model.parameters(), not {optimizer!r}")
    if scheduler is not None and not isinstance(scheduler, (LRScheduler, ReduceLROnPlateau)):
        raise TypeError(f"scheduler must be an LRScheduler, not {type(scheduler).__name__}")
    if interval not in ("epoch", "step"):
        raise ValueError(f"scheduler_interval must be epoch or step, not {interval!r}")
    if interval == "step" and isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError("ReduceLROnPlateau looks at an epoch's results: scheduler_interval must be 'epoch'")
    own = {id(p) for p in model.parameters()}
    given = [p for group in optimizer.param_groups for p in group["params"]]
    if own and not any(id(p) in own for p in given):
        raise ValueError("the optimizer has none of the model's parameters; was it made for another model?")


def _positive(name: str, value: Any, kind: Any) -> None:
    if not isinstance(value, kind) or isinstance(value, bool) or not value > 0:
        raise ValueError(f"{name} must be positive, not {value!r}")


def _check_counts(epochs: Any, initial_epoch: Any, validation_freq: Any, checkpoint_every: Any) -> None:
    for name, value in (("epochs", epochs), ("initial_epoch", initial_epoch)):
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} must be an integer of 0 or more, not {value!r}")
    for name, value in (("validation_freq", validation_freq), ("checkpoint_every", checkpoint_every)):
        if value is not None:
            _positive(name, value, int)


def _half(amp: Any, where: Any) -> dtype | None:
    """What autocast casts to; None: it is off."""
    if amp is False or amp is None:
        return None
    if amp is True:
        from ..amp import get_autocast_dtype

        return get_autocast_dtype(str(where or "cpu").partition(":")[0])
    found = by_name(amp) if amp in ("float16", "bfloat16") else amp
    if not isinstance(found, dtype) or found.name not in ("float16", "bfloat16"):
        raise ValueError(f"amp must be True, False, 'float16' or 'bfloat16', not {amp!r}")
    return found


def _scores(metrics: Any, weighted: Any) -> Scores:
    if isinstance(metrics, str) or isinstance(weighted, str):
        raise TypeError("metrics is a list: metrics=['accuracy']")
    scores = Scores([as_metric(each) for each in metrics], [as_metric(each) for each in weighted])
    names = [metric.name for metric in scores.all]
    twice = sorted({name for name in names if names.count(name) > 1 or name in RESERVED})
    if twice:
        raise ValueError(f"metrics: the name {twice[0]!r} is there twice; Metric(name=...) gives another")
    return scores


def _leads() -> bool:
    """Whether this process is the one of several that prints."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def _validation_feed(held: Source, batch_size: int | None) -> Feed:
    return Feed(loader_of(held, "validation_data", None if held.loader is not None else batch_size))


def _joined(parts: Sequence[Any]) -> Any:
    """One tree from those of batches: their tensors one after another."""
    columns = zip(*(list(leaves(part)) for part in parts), strict=True)
    made = iter([cat(list(column)) for column in columns])
    return mapped(lambda _: next(made), parts[0])
