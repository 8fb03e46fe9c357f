"""A training broken off at any step and resumed is, bit for bit, the one that never stopped."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tapegrad as torch
from tapegrad.train import Trainer
from tapegrad.train.callbacks import BestCheckpoint, Callback, EarlyStopping, ModelCheckpoint
from tapegrad.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

nn = torch.nn


class Broken(Exception):
    """What breaks a training off."""


class Noisy(Dataset):
    """Samples with random parts of all three libraries, and a note of which were loaded."""

    def __init__(self, count: int, own: np.random.Generator | None = None):
        self.count, self.own, self.loaded = count, own, list[int]()

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        self.loaded.append(i)
        info = get_worker_info()
        mine = None if info is None else info.rng  # None in a process too
        numbers = [
            random.random() if mine is None else mine.random_generator.random(),
            np.random.rand() if mine is None else mine.numpy_generator.random(),
            torch.rand(1).item(),
            i / 10 if self.own is None else self.own.random(),
        ]
        return torch.tensor(numbers), i % 3


class Stream(IterableDataset):
    def __iter__(self):
        inner = Noisy(46)
        return (inner[i] for i in range(46))


class BreakOff(Callback):
    def __init__(self, at: int | None):
        self.at = at

    def on_step_end(self, trainer):
        if trainer.step == self.at:
            raise Broken


def loader_for(kind: str, data, own) -> DataLoader:
    options = {
        "plain": {"shuffle": True},
        "generator": {"shuffle": True, "generator": own},
        "threads": {"shuffle": True, "num_workers": 3},
        "processes": {"shuffle": True, "num_workers": 2, "multiprocessing_context": "fork", "persistent_workers": True},
        "stream": {},
    }[kind]
    return DataLoader(Stream() if kind == "stream" else data, 4, **options)


def train(kind: str, folder: Path, stop_at: int | None = None, resume: bool = False, every: int | None = 2):
    """What remains of a run: tensors, results, states, and what the generators give next."""
    for seed, start in ((random.seed, 1), (np.random.seed, 2), (torch.manual_seed, 3)):
        seed(start + 90 * resume)  # a resumed process begins elsewhere
    own, numpys = torch.Generator().manual_seed(4 + resume), np.random.default_rng(5 + resume)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    data = Noisy(46, numpys if kind == "plain" else None)
    trainer = Trainer(
        model, "cross_entropy", optimizer, ["accuracy", "roc_auc"], torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5),
        weighted_metrics=["f1"], accumulate=2, amp="float16" if kind == "plain" else False, generators=[numpys, own],
    )  # fmt: skip
    callbacks = [EarlyStopping(patience=1, restore_best=True), BreakOff(stop_at)]
    error = None
    try:
        trainer.fit(
            loader_for(kind, data, own), epochs=3, validation_data=loader_for(kind, Noisy(9), own), verbose=False,
            callbacks=callbacks, checkpoint=folder, checkpoint_every=every, resume=resume,
        )  # fmt: skip
    except Broken as found:
        error = found
    assert (error is not None) == (stop_at is not None)
    remains = {
        "model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": trainer.history.state_dict(),
        "scheduler": trainer.scheduler.state_dict(), "scaler": trainer.scaler and trainer.scaler.state_dict(),
        "callback": callbacks[0].state_dict(), "place": (trainer.epoch, trainer.batch, trainer.step, trainer.stop),
        "next": [torch.rand(2), random.random(), np.random.rand(), torch.rand(1, generator=own), numpys.random()],
    }  # fmt: skip
    return remains, data.loaded


def flat(tree) -> list:
    """Its leaves, numbers by all their digits and tensors by their bytes."""
    if isinstance(tree, dict):
        return [(key, flat(value)) for key, value in tree.items()]
    if isinstance(tree, (list, tuple)):
        return [flat(value) for value in tree]
    return tree.numpy().tobytes() if isinstance(tree, torch.Tensor) else repr(tree)


KINDS = ["plain", "generator", "threads", "stream"]


@pytest.mark.parametrize("kind", [*KINDS, "processes"])
def test_a_broken_off_training_goes_on_bit_for_bit(kind, tmp_path):
    """6 steps an epoch, a checkpoint every 2; broken off in the first one's middle, in the second's, then finished."""
    if kind == "processes" and not hasattr(os, "fork"):
        pytest.skip("no fork here")
    whole, _ = train(kind, tmp_path / "a")
    folder = tmp_path / "b"
    train(kind, folder, stop_at=random.Random(kind).choice((3, 4, 5, 6)))
    train(kind, folder, stop_at=11, resume=True)
    found, loaded = train(kind, folder, resume=True)
    for name, value in whole.items():
        assert flat(found[name]) == flat(value), name
    if kind in ("plain", "threads"):  # eight batches of the second epoch had been used; only the others were loaded
        assert len(loaded) == 46 - 8 * 4 + (46 if whole["place"][0] == 3 else 0)


def test_between_epochs_and_at_the_end(tmp_path):
    """Checkpoints at the ends of epochs only: broken off within the second, the second is done again."""
    whole, _ = train("plain", tmp_path / "a", every=None)
    train("plain", tmp_path / "b", stop_at=9, every=None)
    found, _ = train("plain", tmp_path / "b", resume=True, every=None)
    assert flat(found) == flat(whole)
    again, loaded = train("plain", tmp_path / "b", resume=True, every=None)  # all is done
    assert flat(again) == flat(whole) and loaded == []


@pytest.fixture(autouse=True)
def usual_interrupt():
    """Ctrl-C raises KeyboardInterrupt: a shell starts what runs in its background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def small(seed: int = 0, lr: float = 0.1) -> Trainer:
    for start in (random.seed, np.random.seed, torch.manual_seed):
        start(seed)
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 3))
    return Trainer(model, "cross_entropy", torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9), ["accuracy"])


def data(n: int = 24):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long()


def test_files_of_callbacks_are_resumed_from_too(tmp_path):
    x, y = data()
    whole = small()
    options = {"batch_size": 8, "verbose": False, "validation_data": (x, y)}
    callbacks = [ModelCheckpoint(tmp_path / "{epoch}.pt", keep=2), BestCheckpoint(tmp_path / "best.pt")]
    whole.fit(x, y, epochs=4, callbacks=callbacks, **options)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["3.pt", "4.pt", "best.pt"]
    assert callbacks[1].best == min(whole.history["val_loss"])
    other = small(1)
    other.load_checkpoint(tmp_path / "3.pt")
    assert other.epoch == 3 and len(other.history) == 3
    callbacks = [ModelCheckpoint(tmp_path / "n.pt"), BestCheckpoint(tmp_path / "m.pt")]
    found = other.fit(x, y, epochs=4, callbacks=callbacks, **options)
    assert found == whole.history and flat(other.model.state_dict()) == flat(whole.model.state_dict())
    other.save_checkpoint(tmp_path / "after")  # of a finished one: more epochs may follow
    more = small(2)
    more.fit(x, y, epochs=5, resume=tmp_path / "after", callbacks=callbacks, **options)
    assert more.epoch == 5 and more.history["loss"][:4] == whole.history["loss"]
    fresh = small()
    fresh.save_checkpoint(tmp_path / "fresh.pt")  # before any training
    expected = fresh.fit(x, y, epochs=2, **options)
    assert small(3).fit(x, y, epochs=2, resume=tmp_path / "fresh.pt", **options) == expected


class Signals(Callback):
    """Sends this process a signal in the middle of a step or of a validation."""

    def __init__(self, number: int, step: int | str | None = None, validation: bool = False):
        self.number, self.step, self.validation = number, step, validation

    def on_step_end(self, trainer):
        if trainer.step == self.step:
            os.kill(os.getpid(), self.number)

    def on_validation_start(self, trainer):
        if self.validation:
            os.kill(os.getpid(), self.number)

    def on_fit_end(self, trainer):
        if self.step == "end":
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("sent", "raised", "options"),
    [
        (signal.SIGINT, KeyboardInterrupt, {"step": 4}),
        (signal.SIGTERM, SystemExit, {"step": 5}),
        (signal.SIGINT, KeyboardInterrupt, {"validation": True}),
        (signal.SIGINT, KeyboardInterrupt, {"step": 6}),
    ],
)
def test_a_signal_waits_for_the_step_and_leaves_a_checkpoint(sent, raised, options, tmp_path, capfd):
    x, y = data()
    common = {"epochs": 3, "batch_size": 8, "verbose": False, "validation_data": DataLoader(Noisy(8), 4, shuffle=True)}
    whole = small()
    whole.fit(x, y, callbacks=[Callback()], **common)
    last = torch.rand(1)
    with pytest.raises(raised) as error:
        small().fit(x, y, callbacks=[Signals(sent, **options)], checkpoint=tmp_path, **common)
    assert "continues" in error.value.__notes__[0] and signal.getsignal(sent) != Signals
    assert "finishing the step" in capfd.readouterr().err
    resumed = small(5)
    with pytest.raises(ValueError, match=r"the callbacks \['Signals'\], this fit \[\]"):
        resumed.fit(x, y, resume=tmp_path, **common)
    found = resumed.fit(x, y, callbacks=[Signals(sent)], resume=tmp_path, **common)
    assert len(found) == 3 and found["loss"] == whole.history["loss"]
    assert flat(resumed.model.state_dict()) == flat(whole.model.state_dict())
    if "step" in options:
        assert flat(found.history) == flat(whole.history.history) and torch.equal(torch.rand(1), last)


def test_without_a_folder_an_interruption_says_what_would_have_helped(capfd):
    x, y = data()
    trainer = small()
    with pytest.raises(KeyboardInterrupt) as error:
        trainer.fit(x, y, verbose=False, callbacks=[Signals(signal.SIGINT, step=1)])
    assert "checkpoint=FOLDER" in error.value.__notes__[0] and trainer.step == 1
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, verbose=False, callbacks=[Signals(signal.SIGINT, step="end")])
    assert trainer.epoch == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    done = []
    thread = threading.Thread(target=lambda: done.append(small().fit(x, y, verbose=False)))
    thread.start()  # where no signal handler can be set
    thread.join(60)
    assert len(done) == 1


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    x, y = data()
    trainer = small()
    trainer.fit(x, y, verbose=False, batch_size=8, checkpoint=tmp_path, checkpoint_every=2, callbacks=[])
    trainer.save_checkpoint(tmp_path / "done.pt")
    with pytest.raises(Broken):
        small().fit(x, y, verbose=False, batch_size=8, checkpoint=tmp_path, checkpoint_every=1, callbacks=[BreakOff(3)])
    before = flat(trainer.model.state_dict())
    wider = nn.Linear(4, 5)
    cases = [
        (small(), {"batch_size": 4, "callbacks": [BreakOff(None)]}, "within an epoch of .*'batch_size': 8"),
        (Trainer(wider, "mse", torch.optim.SGD(wider.parameters())), {}, "the metrics are"),
        (Trainer(wider, "mse", torch.optim.SGD(wider.parameters()), ["accuracy"]), {}, "the model's tensors are"),
        (Trainer(trainer.model, "mse", trainer.optimizer, ["accuracy"],
                 torch.optim.lr_scheduler.StepLR(trainer.optimizer, 1)), {}, "the trainer has a scheduler"),
        (Trainer(trainer.model, "mse", torch.optim.Adagrad(trainer.model.parameters()), ["accuracy"]), {},
         "optimizer, scheduler and scaler are .* there and .'Adagrad'"),
    ]  # fmt: skip
    for other, options, text in cases:
        with pytest.raises(ValueError, match=text):
            other.fit(x, y, verbose=False, resume=tmp_path, **options)
    torch.save({"w": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="no checkpoint of a Trainer"):
        trainer.load_checkpoint(tmp_path / "other.pt")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        trainer.load_checkpoint(tmp_path / "missing.pt")
    assert flat(trainer.model.state_dict()) == before


PROGRAM = """
import os, random, signal, sys
import numpy as np
import tapegrad as torch
folder, number, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for seed in (random.seed, np.random.seed, torch.manual_seed):
    seed(0)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))

    def forward(self, x):
        if trainer.step == step:
            os.kill(os.getpid(), number)
        return self.layers(x)


model = Model()
for p in model.parameters():
    torch.nn.init.constant_(p, 0.1)
trainer = torch.train.Trainer(model, "cross_entropy", torch.optim.AdamW(model.parameters(), lr=0.01), ["accuracy"])
x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
trainer.fit(x, (x[:, 0] > 0).long(), epochs=3, batch_size=4, validation_split=0.1, num_workers=2, verbose=False,
            checkpoint=folder, checkpoint_every=2, resume=True)
"""


def test_killed_and_interrupted_processes(tmp_path):
    """9 steps an epoch: SIGKILL in the 6th step, Ctrl-C in the 13th, then to the end; beside one run."""

    def run(folder: str, number: int, step: int) -> subprocess.CompletedProcess:
        arguments = [sys.executable, "-c", PROGRAM, str(tmp_path / folder), str(number), str(step)]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        return subprocess.run(arguments, capture_output=True, text=True, timeout=120, env=environment, cwd=tmp_path)

    def last(folder: str) -> dict:
        return torch.load(tmp_path / folder / "last.pt")

    assert run("whole", 0, -1).returncode == 0
    assert run("broken", signal.SIGKILL, 5).returncode == -signal.SIGKILL
    assert last("broken")["place"] == {"epoch": 0, "batch": 4, "step": 4, "stop": False}
    interrupted = run("broken", signal.SIGINT, 12)
    assert "KeyboardInterrupt" in interrupted.stderr and "stopped after step 13" in interrupted.stderr
    assert last("broken")["place"] == {"epoch": 1, "batch": 4, "step": 13, "stop": False}
    assert run("broken", 0, -1).returncode == 0
    assert flat(last("broken")) == flat(last("whole"))
    assert [each.name for each in (tmp_path / "broken").iterdir()] == ["last.pt"]
