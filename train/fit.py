"""The loop over epochs and windows of batches, from its begin or from a checkpoint's place."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from ..optim.lr_scheduler import ReduceLROnPlateau
from . import randomness, state
from .callbacks.base import Callback, overriding
from .feed import Feed
from .interrupts import Interrupts
from .losses import ClassWeights
from .progress import Silent
from .step import Means, evaluate, read, train_on

if TYPE_CHECKING:
    from .trainer import Trainer


@dataclass
class Plan:
    """What one call of `fit` is to do, checked."""

    feed: Feed
    validation: Feed | None
    validation_freq: int
    epochs: int
    class_weights: ClassWeights | None
    callbacks: list[Callback]
    display: Silent
    checkpoint: str | None
    every: int | None  # steps between checkpoints within an epoch
    initial_epoch: int = 0
    resume: dict[str, Any] | None = None
    shape: dict[str, Any] = field(default_factory=dict)  # of the epoch, which a checkpoint within one must share


class Fit:
    """One training under way. Between two steps `state_dict` is all there is to it beside the trainer's own parts."""

    def __init__(self, trainer: Trainer, plan: Plan):
        self.trainer, self.plan = trainer, plan
        self.means = Means()
        self.trained = False  # whether the running epoch's batches are all done, and its validation is next
        self.epoch_random: Any = None
        self.saves: list[str] = []  # files that callbacks asked for, to be written when the epoch is closed
        self.generators = [*trainer.generators]
        for feed in filter(None, (plan.feed, plan.validation)):
            known = [id(each) for each in self.generators]
            self.generators += [each for each in feed.generators if id(each) not in known]
        self.step_hooks = overriding(plan.callbacks, "on_step_end")
        self.interrupts = Interrupts()
        self.rest: dict[str, Any] | None = None  # what is left to restore when the resumed epoch begins

    # ---- its state

    def state_dict(self) -> dict[str, Any]:
        return {
            "means": self.means.state_dict(),
            "trained": self.trained,
            "epoch_random": self.epoch_random,
            "workers": dict(self.plan.feed.workers),
            "callbacks": [[type(each).__name__, each.state_dict()] for each in self.plan.callbacks],
            "shape": dict(self.plan.shape),
        }

    def check(self, saved: Mapping[str, Any]) -> None:
        """ValueError where a checkpoint's place has no meaning in this plan."""
        own, place = saved["fit"], saved["place"]
        if own is None:
            return
        names, known = [name for name, _ in own["callbacks"]], [type(each).__name__ for each in self.plan.callbacks]
        if names != known:
            raise ValueError(f"resume: the checkpoint has the callbacks {names}, this fit {known}")
        if place["batch"] and own["shape"] != self.plan.shape:
            raise ValueError(
                f"resume: the checkpoint stands within an epoch of {own['shape']}, but this one is {self.plan.shape}"
            )
        if len(saved["random"]["more"]) != len(self.generators):
            raise ValueError(
                f"resume: the checkpoint has {len(saved['random']['more'])} generators beside the global ones, "
                f"this fit {len(self.generators)} (of loaders, samplers and generators=)"
            )

    def continue_from(self, saved: Mapping[str, Any]) -> None:
        """Becomes what a checkpoint says; the generators are set when the loop stands at its place."""
        state.apply(self.trainer, saved)
        if saved["fit"] is None:
            randomness.restore(saved["random"], self.trainer.generators)
            return
        own = saved["fit"]
        self.means.load_state_dict(own["means"], self.trainer.device)
        for callback, (_, theirs) in zip(self.plan.callbacks, own["callbacks"], strict=True):
            callback.load_state_dict(theirs)
        self.trained, self.epoch_random = own["trained"], own["epoch_random"]
        self.rest = {"random": saved["random"], "workers": own["workers"]}

    def _restore_random(self) -> None:
        if self.rest is not None:
            randomness.restore(self.rest["random"], self.generators)
            self.rest = None

    # ---- the loop

    def run(self) -> None:
        trainer, plan = self.trainer, self.plan
        try:
            with self.interrupts:
                if plan.resume is not None:
                    self.continue_from(plan.resume)
                for each in plan.callbacks:
                    each.on_fit_start(trainer)
                if not trainer.batch:
                    self._restore_random()
                while trainer.epoch < plan.epochs and not trainer.stop:
                    self._epoch()
                for each in plan.callbacks:
                    each.on_fit_end(trainer)
                if self.interrupts.asked is not None:  # during the last hooks
                    self._leave(saved=True)
        except BaseException as error:
            self._tell(error)
            raise
        finally:
            plan.display.close()

    def _tell(self, error: BaseException) -> None:
        """Tells all callbacks of an error, also where one of them raises: the others have files to close."""
        for each in self.plan.callbacks:
            try:
                each.on_exception(self.trainer, error)
            except Exception as further:
                error.add_note(f"and {type(each).__name__}.on_exception raised {type(further).__name__}: {further}")

    def _epoch(self) -> None:
        trainer, plan = self.trainer, self.plan
        plan.feed.begin(trainer.epoch)
        if not trainer.batch:
            self.means, self.trained = Means(), False
            trainer.scores.reset()
            for each in plan.callbacks:
                each.on_epoch_start(trainer)
        plan.display.start(trainer.epoch, trainer.batch, plan.feed.length)
        if not self.trained:
            self._train()
        self._restore_random()
        logs = {"loss": self.means.mean("loss", trainer.rule.summed)}
        if "penalty" in self.means.sums:
            logs["penalty"] = self.means.mean("penalty")
        logs |= trainer.scores.logs()
        if plan.validation is not None and (trainer.epoch + 1) % plan.validation_freq == 0:
            logs |= self._validation()
        self._close(logs)

    def _train(self) -> None:
        trainer, plan = self.trainer, self.plan
        trainer.model.train()
        recorded = plan.checkpoint is not None
        if trainer.batch:
            assert self.rest is not None
            randomness.restore(self.epoch_random, self.generators)
            batches = plan.feed.batches(trainer.batch, self.rest["workers"], recorded)
            self._restore_random()
        else:
            self.epoch_random = randomness.capture(self.generators)
            batches = plan.feed.batches(recorded=recorded)
        while window := self._window(batches):
            train_on(trainer, window, self.means, trainer.scores)
            trainer.batch += len(window)
            trainer.step += 1
            if trainer.scheduler is not None and trainer.scheduler_interval == "step":
                trainer.scheduler.step()
            for each in self.step_hooks:
                each.on_step_end(trainer)
            plan.display.update(len(window), self._loss)
            if plan.every and trainer.step % plan.every == 0:
                self._save()
            if self.interrupts.asked is not None:
                self._leave()
        if not trainer.batch:
            raise ValueError("fit: the data has no batches")
        self.trained = True

    def _loss(self) -> float:
        return self.means.mean("loss", self.trainer.rule.summed)

    def _window(self, batches: Iterator[Any]) -> list[Any]:
        """The next `accumulate` batches, or those that are left."""
        before = dict(self.plan.feed.workers)
        try:
            found = list(itertools.islice(batches, self.trainer.accumulate))
        except Exception:  # goes on up unless Ctrl-C is its cause
            if self.interrupts.asked is not None:  # Ctrl-C reaches worker processes too, and ends them
                self.plan.feed.workers = before
                self._leave()
            raise
        return [read(self.trainer, batch, self.plan.class_weights) for batch in found]

    def _validation(self) -> dict[str, Any]:
        trainer, plan = self.trainer, self.plan
        assert plan.validation is not None
        before = randomness.capture(self.generators)

        def look() -> None:
            if self.interrupts.asked is not None:
                randomness.restore(before, self.generators)  # the validation will be done again
                self._leave()

        for each in plan.callbacks:
            each.on_validation_start(trainer)
        if trainer.validation_scores is None:
            trainer.validation_scores = copy.deepcopy(trainer.scores)
        batches = plan.validation.batches(recorded=plan.checkpoint is not None)
        found = evaluate(trainer, batches, trainer.validation_scores, look)
        logs = {f"val_{name}": value for name, value in found.items()}
        for each in plan.callbacks:
            each.on_validation_end(trainer, logs)
        return logs

    def _close(self, logs: dict[str, Any]) -> None:
        """What is due when an epoch's results are there. From here on to the checkpoint nothing waits for a signal."""
        trainer, plan = self.trainer, self.plan
        for each in plan.callbacks:
            each.on_epoch_log(trainer, logs)
        trainer.history.append(trainer.epoch, logs)
        plan.display.finish(trainer.epoch, logs)
        if trainer.scheduler is not None and trainer.scheduler_interval == "epoch":
            self._step_scheduler(logs)
        for each in plan.callbacks:
            each.on_epoch_end(trainer, logs)
        trainer.epoch, trainer.batch, self.trained = trainer.epoch + 1, 0, False
        self.means = Means()
        trainer.scores.reset()
        for path in self.saves:
            state.write(trainer, self, path)
        self.saves = []
        self._save()
        if self.interrupts.asked is not None:
            self._leave(saved=True)

    def _step_scheduler(self, logs: dict[str, Any]) -> None:
        scheduler: Any = self.trainer.scheduler
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()
            return
        monitor = self.trainer.monitor or ("loss" if self.plan.validation is None else "val_loss")
        if monitor in logs:  # not in an epoch without validation
            scheduler.step(logs[monitor])

    # ---- checkpoints

    def _save(self) -> str | None:
        if self.plan.checkpoint is None:
            return None
        path = os.path.join(self.plan.checkpoint, state.LAST)
        state.write(self.trainer, self, path)
        return path

    def _leave(self, saved: bool = False) -> NoReturn:
        if self.plan.checkpoint is None:
            self.interrupts.leave(f"stopped after step {self.trainer.step}; fit(checkpoint=FOLDER) would have saved it")
        if not saved:
            self._save()
        folder = self.plan.checkpoint
        self.interrupts.leave(f"stopped after step {self.trainer.step}; fit(resume={folder!r}) continues")
