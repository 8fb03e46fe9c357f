"""Callbacks and progress bars of the Trainer."""

from __future__ import annotations

import csv
import math
import re
import sys

import pytest
import tapegrad as torch
from tapegrad.train import Callback, Trainer, callbacks

nn = torch.nn


def trainer_of(metrics=(), lr: float = 0.1) -> Trainer:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    return Trainer(model, "cross_entropy", torch.optim.SGD(model.parameters(), lr=lr), metrics)


def data(n: int = 16):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long()


class Script(Callback):
    """Epochs' results as written in a list, and weights that say which epoch they are of."""

    adds = ("score",)

    def __init__(self, values):
        self.values = values

    def on_epoch_log(self, trainer, logs):
        logs["score"] = self.values[trainer.epoch]
        with torch.no_grad():
            trainer.model.bias.fill_(float(trainer.epoch))


def test_hooks_come_in_order():
    seen = []

    def noting(name):
        return lambda self, trainer, *rest: seen.append((name, trainer.epoch, trainer.step))

    hooks = [name for name in vars(Callback) if name.startswith("on_")]
    note = type("Note", (Callback,), {name: noting(name) for name in hooks})()
    x, y = data()
    trainer_of().fit(
        x, y, epochs=2, batch_size=8, validation_data=(x, y), validation_freq=2, callbacks=[note], verbose=False
    )
    assert seen == [
        ("on_fit_start", 0, 0),
        ("on_epoch_start", 0, 0), ("on_step_end", 0, 1), ("on_step_end", 0, 2),
        ("on_epoch_log", 0, 2), ("on_epoch_end", 0, 2),
        ("on_epoch_start", 1, 2), ("on_step_end", 1, 3), ("on_step_end", 1, 4),
        ("on_validation_start", 1, 4), ("on_validation_end", 1, 4), ("on_epoch_log", 1, 4), ("on_epoch_end", 1, 4),
        ("on_fit_end", 2, 4),
    ]  # fmt: skip
    assert set(hooks) - {name for name, *_ in seen} == {"on_exception"}

    class Breaks(Callback):
        def on_step_end(self, trainer):
            raise ZeroDivisionError

    seen.clear()
    with pytest.raises(ZeroDivisionError):
        trainer_of().fit(x, y, callbacks=[note, Breaks()], verbose=False)
    assert seen[-1][0] == "on_exception"

    class BreaksTwice(Breaks):
        def on_exception(self, trainer, error):
            raise OSError("no space")

    seen.clear()
    with pytest.raises(ZeroDivisionError) as caught:
        trainer_of().fit(x, y, callbacks=[BreaksTwice(), note], verbose=False)
    assert seen[-1][0] == "on_exception"
    assert caught.value.__notes__ == ["and BreaksTwice.on_exception raised OSError: no space"]


@pytest.mark.parametrize(
    ("values", "options", "epochs", "best"),
    [
        ([3, 2, 2.5, 2.4, 2.3, 1], {"patience": 3}, 5, 1),
        ([3, 2, 2.5, 2.4, 1, 1], {"patience": 3}, 6, 4),
        ([3, 2, 2.5, 0, 0, 0], {"patience": 0}, 3, 1),
        ([3, 2.95, 2.9, 2.85, 0, 0], {"patience": 2, "min_delta": 0.5}, 3, 0),
        ([1, 2, 3, 2, 1, 9], {"patience": 2, "mode": "max"}, 5, 2),
        ([5, 4, 3, 2, 1, 0], {"patience": 2, "baseline": 0.5}, 2, 1),
        ([1, 9, 9, 5, 6, 7], {"patience": 2, "start_from_epoch": 3}, 6, 3),
        ([3, math.nan, 1, 1, 1, 1], {"patience": 9}, 2, 0),
        ([3, math.nan, 1, 1, 1, 1], {"patience": 9, "check_finite": False}, 6, 2),
    ],
)
def test_early_stopping_follows_kerass_rules(values, options, epochs, best):
    x, y = data()
    trainer = trainer_of()
    stop = callbacks.EarlyStopping("score", **{"mode": "min", **options}, restore_best=True)
    history = trainer.fit(x, y, epochs=6, callbacks=[Script(values), stop], verbose=False)
    assert len(history) == epochs and stop.best_epoch == best and stop.best == values[best]
    assert trainer.model.bias.tolist() == [best, best]
    assert (stop.stopped_epoch is None) == (not trainer.stop)
    again = trainer_of().fit(x, y, epochs=6, callbacks=[Script(values), stop], verbose=False)
    assert len(again) == epochs  # a new training forgets the one before


def test_what_is_better_is_known_by_the_metric():
    trainer = trainer_of(["accuracy", "mae", torch.train.metrics.MeanOf(lambda p, t: p.sum(1), name="mine")])
    assert [trainer.direction(f"val_{name}") for name in ("loss", "accuracy", "mae")] == ["min", "max", "min"]
    x, y = data()
    with pytest.raises(ValueError, match="say mode='min' or mode='max'"):
        trainer.fit(x, y, callbacks=[callbacks.EarlyStopping("mine")], verbose=False)
    with pytest.raises(ValueError, match="mode must be auto"):
        callbacks.BestCheckpoint("x.pt", mode="best")
    with pytest.raises(ValueError, match="patience must be 0 or more"):
        callbacks.EarlyStopping(patience=-1)
    with pytest.raises(ValueError, match="keep must be positive"):
        callbacks.ModelCheckpoint("x.pt", keep=0)


def test_files_of_the_best_and_of_some_epochs(tmp_path):
    x, y = data()
    best = callbacks.BestCheckpoint(tmp_path / "best.pt", "score", "max", save_weights_only=True)
    every = callbacks.ModelCheckpoint(tmp_path / "new" / "{epoch:02d}-{score:.1f}.pt", every=2)
    values = [1.0, 3.0, 2.0, 0.5]
    trainer = trainer_of()
    trainer.fit(x, y, epochs=4, callbacks=[Script(values), best, every], verbose=False)
    assert torch.load(tmp_path / "best.pt")["bias"].tolist() == [1.0, 1.0] and best.best == 3.0
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["02-3.0.pt", "04-0.5.pt"]
    other = trainer_of()
    other.load_checkpoint(every.written[0])
    assert other.epoch == 2 and other.model.bias.tolist() == [1.0, 1.0]
    assert best.best_path == str(tmp_path / "best.pt") and every.last_path == every.written[-1]


def test_csv_has_a_row_for_each_epoch(tmp_path):
    x, y = data()
    path = tmp_path / "log.csv"
    logger = callbacks.CSVLogger(path)
    trainer = trainer_of(["accuracy", "confusion_matrix"])
    options = {"batch_size": 8, "validation_data": (x, y), "validation_freq": 2, "verbose": False}
    history = trainer.fit(x, y, epochs=3, callbacks=[callbacks.LearningRateMonitor(), logger], **options)
    with open(path, newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["epoch"] for row in table] == ["0", "1", "2"]
    assert [float(row["loss"]) for row in table] == history["loss"] and table[0]["lr"] == "0.1"
    assert table[0]["val_loss"] == "" and float(table[1]["val_loss"]) == history["val_loss"][1]
    assert table[0]["confusion_matrix"] == str(history["confusion_matrix"][0])
    with pytest.raises(ValueError, match="the optimizer has 1 groups"):
        trainer.fit(x, y, callbacks=[callbacks.LearningRateMonitor(groups=2)], verbose=False)


def test_tensorboard_gets_scalars_and_histograms(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    x, y = data()
    board = callbacks.TensorBoard(tmp_path, every_steps=1, histograms=True)
    history = trainer_of().fit(
        x, y, epochs=2, batch_size=8, validation_split=0.5, callbacks=[board], verbose=False
    )  # fmt: skip
    (file,) = tmp_path.iterdir()
    content, at, values = file.read_bytes(), 0, {}
    while at < len(content):  # records: length, its checksum, an event, its checksum
        length = int.from_bytes(content[at : at + 8], "little")
        event = Event.FromString(content[at + 12 : at + 12 + length])
        at += length + 16
        for value in event.summary.value:
            values[value.tag, event.step] = value.simple_value
    for name, key in (("loss/train", "loss"), ("loss/validation", "val_loss")):
        assert [values[name, epoch] for epoch in (0, 1)] == pytest.approx(history[key])
    assert ("loss/step", 2) in values and ("parameters/weight", 1) in values


def test_live_plot(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    x, y = data()
    trainer_of().fit(x, y, epochs=2, callbacks=[callbacks.LivePlot(tmp_path / "p.png")], verbose=False)
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    from matplotlib import pyplot

    pyplot.switch_backend("Agg")  # a window that nobody sees
    plot = callbacks.LivePlot(path=None, names=["loss"])
    trainer_of().fit(x, y, epochs=2, callbacks=[plot], verbose=False)
    assert plot.figure.number in pyplot.get_fignums() and len(plot.figure.axes[0].lines[0].get_xdata()) == 2
    pyplot.close(plot.figure)


@pytest.mark.parametrize("kind", ["tqdm", "rich", None])
def test_progress_is_shown(kind, capsys):
    if kind:
        pytest.importorskip(kind)
    x, y = data()
    history = trainer_of(["accuracy"]).fit(x, y, epochs=2, batch_size=4, progress=kind)
    shown = "".join(capsys.readouterr())
    assert "epoch 2/2" in shown and f"loss {history['loss'][1]:.4g}" in shown
    assert f"accuracy {history['accuracy'][1]:.4g}" in shown
    if kind:
        assert "4/4" in shown
    else:
        assert re.fullmatch(r"(epoch \d/2: loss [\d.]+, accuracy [\d.]+ \([\d.]+ s\)\n){2}", shown)
    trainer_of().fit(x, y, verbose=False)
    assert "".join(capsys.readouterr()) == ""


@pytest.mark.parametrize(
    ("module", "extra", "use"),
    [
        ("tqdm", "progress", lambda: trainer_of().fit(*data(), progress="tqdm")),
        ("rich.progress", "progress", lambda: trainer_of().fit(*data(), progress="rich")),
        ("tensorboardX", "tensorboard", lambda: callbacks.TensorBoard("x")),
        ("matplotlib.figure", "plot", lambda: callbacks.LivePlot()),
    ],
)
def test_an_extra_that_is_not_there_is_named(module, extra, use, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(vars(torch.utils.tensorboard), "SummaryWriter", raising=False)
    with pytest.raises(ImportError, match=re.escape(f"pip install 'tapegrad[{extra}]'")):
        use()
