"""train.Trainer beside loops written by hand, Keras' arithmetic of weights, and scikit-learn's metrics."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import tapegrad as torch
from tapegrad.train import History, Trainer
from tapegrad.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

nn, F = torch.nn, torch.nn.functional


def classifier(seed: int = 0, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3))


def rows(n: int = 46, dtype=None):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(n, 4, generator=generator, dtype=dtype or torch.float32)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def bits(model: nn.Module) -> list[bytes]:
    return [t.detach().numpy().tobytes() for t in model.state_dict().values()]


def sgd(model: nn.Module, lr: float = 0.1, **options):
    return torch.optim.SGD(model.parameters(), lr=lr, **options)


def quiet(trainer: Trainer, *data, **options) -> History:
    return trainer.fit(*data, verbose=False, **options)


# ---- beside loops written by hand


def test_fit_is_the_loop_written_by_hand_bit_for_bit():
    x, y = rows()
    model = classifier(dropout=0.2)
    trainer = Trainer(model, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=0.01), ["accuracy"])
    torch.manual_seed(1)
    history = quiet(trainer, x, y, epochs=3, batch_size=8, validation_split=0.25)

    by_hand = classifier(dropout=0.2)
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=0.01)
    torch.manual_seed(1)
    kept = int(46 * 0.75)
    train = DataLoader(TensorDataset(x[:kept], y[:kept]), 8, shuffle=True)
    held = DataLoader(TensorDataset(x[kept:], y[kept:]), 8)
    expected: dict[str, list[float]] = {name: [] for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
    for _ in range(3):
        for prefix, loader in (("", train), ("val_", held)):
            by_hand.train(prefix == "")
            total = right = count = 0.0
            for a, b in loader:
                output = by_hand(a)
                loss = F.cross_entropy(output, b)
                if prefix == "":
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                total, count = total + loss.item() * len(b), count + len(b)
                right += (output.argmax(1) == b).sum().item()
            expected[f"{prefix}loss"].append(total / count)
            expected[f"{prefix}accuracy"].append(right / count)
    assert bits(model) == bits(by_hand)
    assert history.history == expected and history.epoch == [0, 1, 2]
    assert model.training  # again, after the validation


@pytest.mark.parametrize("loss", ["cross_entropy", "mean of a function", "sum", "ignored", "weighted"])
def test_accumulated_batches_give_the_gradient_of_one_big_batch(loss):
    """46 samples by 4, three batches a step: windows of 12, the last of 10 samples with a batch of 2."""
    losses = {
        "cross_entropy": "cross_entropy",
        "mean of a function": lambda output, target: F.cross_entropy(output, target, reduction="none"),
        "sum": nn.CrossEntropyLoss(reduction="sum"),
        "ignored": nn.CrossEntropyLoss(ignore_index=1),
        "weighted": nn.CrossEntropyLoss(torch.tensor([1.0, 5.0, 0.5], dtype=torch.float64)),
    }
    x, y = rows(dtype=torch.float64)
    weight = torch.linspace(0.5, 2, 46, dtype=torch.float64) if loss == "mean of a function" else None
    results = []
    for size, accumulate in ((4, 3), (12, 1)):
        model = classifier().double()
        trainer = Trainer(model, losses[loss], sgd(model, 0.01), accumulate=accumulate, l2=0.01)
        history = quiet(trainer, x, y, epochs=2, batch_size=size, shuffle=False, sample_weight=weight)
        assert trainer.step == 8
        results.append((model, history))
    (small, a), (big, b) = results
    for p, q in zip(small.parameters(), big.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
    assert a["penalty"] == pytest.approx(b["penalty"], rel=1e-12)
    assert len(a["loss"]) == 2  # the losses differ: each batch's is taken before the step


def test_an_epochs_loss_does_not_depend_on_the_batches():
    x, y = rows(dtype=torch.float64)
    for loss in ("cross_entropy", nn.CrossEntropyLoss(torch.tensor([1.0, 5.0, 0.5]).double(), ignore_index=0),
                 nn.CrossEntropyLoss(reduction="sum"), F.cross_entropy):  # fmt: skip
        model = classifier().double()
        trainer = Trainer(model, loss, sgd(model))
        whole = trainer.rule.loss(model(x), y).item()
        for size in (46, 7, 1):
            assert trainer.evaluate(x, y, batch_size=size)["loss"] == pytest.approx(whole, rel=1e-12)


def test_mixed_precision_is_the_loop_with_autocast_and_scaler_bit_for_bit():
    x, y = rows()
    for amp in ("bfloat16", "float16"):
        model, by_hand = classifier(), classifier()
        trainer = Trainer(model, "cross_entropy", sgd(model), amp=amp, clip_norm=0.5)
        quiet(trainer, x, y, epochs=1, batch_size=16, shuffle=False)
        optimizer = sgd(by_hand)
        scaler = torch.amp.GradScaler("cpu", enabled=amp == "float16")
        for a, b in DataLoader(TensorDataset(x, y), 16):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=getattr(torch, amp)):
                loss = F.cross_entropy(by_hand(a), b)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
        assert bits(model) == bits(by_hand)
        assert (trainer.scaler is not None) == (amp == "float16")


def test_clipping_by_value_penalties_and_lbfgs():
    x, y = rows()
    model, by_hand = classifier(), classifier()
    trainer = Trainer(model, "cross_entropy", sgd(model), clip_value=0.01, l1=0.1, l2=0.2)
    history = quiet(trainer, x, y, batch_size=46, shuffle=False)
    weights = [p for p in by_hand.parameters() if p.ndim == 2]
    penalty = sum(0.1 * w.abs().sum() + 0.2 * (w * w).sum() for w in weights)
    loss = F.cross_entropy(by_hand(x), y)
    (loss + penalty).backward()
    nn.utils.clip_grad_value_(by_hand.parameters(), 0.01)
    sgd(by_hand).step()
    for p, q in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    assert history["loss"] == [pytest.approx(loss.item())] and history["penalty"] == [pytest.approx(penalty.item())]

    model, by_hand = classifier(), classifier()
    chosen = Trainer(model, "mse", sgd(model), l2=1.0, penalize=lambda name, p: name == "0.bias")
    assert chosen.penalty(model).item() == pytest.approx((model[0].bias ** 2).sum().item())
    make = torch.optim.LBFGS
    quiet(Trainer(model, "cross_entropy", make(model.parameters(), max_iter=4)), x, y, batch_size=46, shuffle=False)
    optimizer = make(by_hand.parameters(), max_iter=4)

    def closure():
        optimizer.zero_grad()
        value = F.cross_entropy(by_hand(x), y)
        value.backward()
        return value

    optimizer.step(closure)
    assert bits(model) == bits(by_hand)


def test_schedulers_step_by_epoch_by_step_or_by_what_they_monitor():
    x, y = rows()
    schedule = torch.optim.lr_scheduler
    rates = torch.train.callbacks.LearningRateMonitor

    def lr(make, **options):
        model = classifier()
        optimizer = sgd(model)
        trainer = Trainer(model, "cross_entropy", optimizer, scheduler=make(optimizer), **options)
        return quiet(trainer, x, y, batch_size=23, epochs=4, validation_split=0.5, callbacks=[rates()])

    assert lr(lambda o: schedule.StepLR(o, 2, 0.5))["lr"] == [0.1, 0.1, 0.05, 0.05]
    by_step = lr(lambda o: schedule.ExponentialLR(o, 0.5), scheduler_interval="step")["lr"]
    assert by_step == pytest.approx([0.05, 0.025, 0.0125, 0.00625])
    plateau = lr(lambda o: schedule.ReduceLROnPlateau(o, mode="max", patience=0, factor=0.5), monitor="loss")
    losses = plateau["loss"]
    assert all(b < a for a, b in zip(losses, losses[1:], strict=False))  # which mode="max" calls no progress
    assert plateau["lr"] == [0.1, 0.1, 0.05, 0.025]


# ---- weights, after Keras' documentation


def test_weights_of_samples_and_classes_are_kerass():
    """sum_over_batch_size: sum w l / N; mean_with_sample_weight: sum w l / sum w; sum: sum w l."""
    x, y = rows(10, torch.float64)
    w = torch.linspace(0.1, 3, 10, dtype=torch.float64)
    classes = {0: 2.0, 2: 0.5}  # class 1 has weight 1
    model = classifier().double()
    each = F.cross_entropy(model(x), y, reduction="none").detach().numpy()
    of_class = np.array([classes.get(label, 1.0) for label in y.tolist()])

    def loss(reduction="mean", weighted_mean=False, **data):
        trainer = Trainer(model, nn.CrossEntropyLoss(reduction=reduction), sgd(model, 0.0), weighted_mean=weighted_mean)
        return quiet(trainer, x, y, batch_size=4, **data)["loss"][0]

    ws = w.numpy()
    assert loss(sample_weight=w) == pytest.approx((ws * each).sum() / 10)
    assert loss(sample_weight=w, weighted_mean=True) == pytest.approx((ws * each).sum() / ws.sum())
    assert loss(sample_weight=w, reduction="sum") == pytest.approx((ws * each).sum())
    assert loss(class_weight=classes) == pytest.approx((of_class * each).sum() / 10)
    assert loss(class_weight=[2.0, 1.0, 0.5], sample_weight=w) == pytest.approx((of_class * ws * each).sum() / 10)
    torchs = nn.CrossEntropyLoss(torch.tensor([2.0, 1.0, 0.5]).double())(model(x), y).item()
    assert loss(class_weight=classes, weighted_mean=True) == pytest.approx(torchs)

    squares = nn.MSELoss()  # of several outputs: a sample's loss is their mean
    target = torch.randn(10, 3, dtype=torch.float64)
    per_sample = ((model(x) - target) ** 2).mean(1).detach().numpy()
    trainer = Trainer(model, squares, sgd(model, 0.0))
    assert trainer.evaluate(x, target, sample_weight=w, batch_size=3)["loss"] == pytest.approx((ws * per_sample).mean())
    one_hot = F.one_hot(y, 3).double()
    weights = torch.train.losses.ClassWeights(classes)
    assert weights(one_hot, None).tolist() == weights(y, None).tolist() == of_class.tolist()


def test_validation_and_plain_metrics_are_not_weighted():
    x, y = rows()
    model = classifier()
    trainer = Trainer(model, "cross_entropy", sgd(model, 0.0), ["accuracy"],
                      weighted_metrics=[torch.train.metrics.Accuracy(name="weighted")])  # fmt: skip
    w = torch.linspace(0, 1, 46)
    logs = quiet(trainer, x, y, batch_size=10, sample_weight=w, validation_data=(x, y)).history
    right = (model(x).argmax(1) == y).double()
    assert logs["accuracy"] == logs["val_accuracy"] == logs["val_weighted"] == [pytest.approx(right.mean().item())]
    assert logs["weighted"] == [pytest.approx(((right * w).sum() / w.sum()).item())]
    assert trainer.evaluate((x, y, w))["weighted"] == logs["weighted"][0]


def test_metrics_are_those_of_scikit_learn_on_the_whole_set():
    sklearn = pytest.importorskip("sklearn.metrics")
    x, y = rows()
    model = classifier()
    names = ["accuracy", "precision", "recall", "f1", "confusion_matrix", "roc_auc", "top2_accuracy"]
    own = Trainer(model, "cross_entropy", sgd(model, 0.0), names)
    found = own.evaluate(x, y, batch_size=7)
    p = model(x).detach()
    labels, truth, probabilities = p.argmax(1).numpy(), y.numpy(), p.double().softmax(1).numpy()
    options = {"average": "macro", "zero_division": 0}
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, labels))
    assert found["precision"] == pytest.approx(sklearn.precision_score(truth, labels, **options))
    assert found["recall"] == pytest.approx(sklearn.recall_score(truth, labels, **options))
    assert found["f1"] == pytest.approx(sklearn.f1_score(truth, labels, **options))
    assert found["confusion_matrix"] == sklearn.confusion_matrix(truth, labels, labels=range(3)).tolist()
    assert found["roc_auc"] == pytest.approx(sklearn.roc_auc_score(truth, probabilities, multi_class="ovr"), rel=1e-6)
    assert found["top2_accuracy"] == pytest.approx(sklearn.top_k_accuracy_score(truth, probabilities, k=2))
    assert own.metrics[4].table().count("\n") == 3  # the metric keeps its sums after evaluate


# ---- data in all forms


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = classifier()

    def forward(self, a, b):
        return self.layer(torch.cat([a, b], 1))


class Named(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return {"a": self.x[i, :2], "b": self.x[i, 2:], "label": self.y[i]}


class Stream(IterableDataset):
    def __init__(self, *columns):
        self.columns = columns

    def __iter__(self):
        return iter(zip(*self.columns, strict=True))


def test_all_forms_of_data_train_the_same_model():
    x, y = rows(20)
    a, b = x[:, :2], x[:, 2:]
    plain = classifier()
    quiet(Trainer(plain, "cross_entropy", sgd(plain)), x, y, epochs=2, batch_size=8, shuffle=False)
    forms = {
        "arrays": ((x.double().numpy(), y.numpy().astype("int32")), {"batch_size": 8}),
        "pair": (((x, y),), {"batch_size": 8}),
        "lists": ((x.tolist(), y.tolist()), {"batch_size": 8}),
        "dataset": ((TensorDataset(x, y),), {"batch_size": 8}),
        "stream": ((Stream(x, y),), {"batch_size": 8}),
        "loader": ((DataLoader(TensorDataset(x, y), 8),), {}),
        "another loader": ((Batches(x, y, 8),), {}),
        "list of batches": ((list(Batches(x, y, 8)),), {}),
        "two inputs": (((a, b), y), {"batch_size": 8}),
        "named inputs": (({"b": b, "a": a}, y), {"batch_size": 8}),
        "dict batches": ((Named(x, y),), {"batch_size": 8}),
    }
    for name, (data, options) in forms.items():
        two = name in ("two inputs", "named inputs", "dict batches")
        model = TwoInputs() if two else classifier()
        if two:
            model.layer.load_state_dict(classifier().state_dict())
        trainer = Trainer(model, "cross_entropy", sgd(model), target_key="label")
        quiet(trainer, *data, epochs=2, shuffle=False, **options)
        assert bits(model) == bits(plain), name


class Batches:
    """A loader that is none of ours."""

    def __init__(self, x, y, size):
        self.columns = x.split(size), y.split(size)

    def __iter__(self):
        return iter(zip(*self.columns, strict=True))


def test_tables_train_too():
    pandas = pytest.importorskip("pandas")
    x, y = rows(20)
    frame = pandas.DataFrame(x.numpy(), columns=list("abcd"))
    model = classifier()
    trainer = Trainer(model, "cross_entropy", sgd(model))
    quiet(trainer, frame, pandas.Series(y.numpy()), batch_size=20, shuffle=False)
    assert trainer.predict(frame).shape == (20, 3)
    with pytest.raises(TypeError, match="must be numbers"):
        trainer.predict(pandas.DataFrame({"a": ["x", "y"]}))


def test_predict_gives_what_the_model_gives_and_evaluate_leaves_modes_alone():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = classifier(dropout=0.5)

        def forward(self, x):
            return {"logits": self.layer(x), "twice": (x * 2, x + 1)}

    x, y = rows(11)
    model = Both()
    model.layer[2].eval()
    trainer = Trainer(model, lambda out, t: F.cross_entropy(out["logits"], t), sgd(model))
    found = trainer.predict(DataLoader(TensorDataset(x, y), 4))
    assert (found["twice"][0] == x * 2).all() and found["logits"].shape == (11, 3)
    assert not found["logits"].requires_grad
    trainer.evaluate(x, y)
    assert model.training and model.layer[0].training and not model.layer[2].training
    two = TwoInputs()
    assert Trainer(two, "mse", sgd(two)).predict((x[:, :2], x[:, 2:])).shape == (11, 3)


def test_a_step_reads_nothing_from_the_device(monkeypatch):
    x, y = rows(64)
    counts = []
    reads: list[str] = []

    def counting(name):
        own = getattr(torch.Tensor, name)

        def read(t, *args):
            if t.device.type == "fake":
                reads.append(name)
            return own(t, *args)

        return read

    for name in ("item", "tolist", "__float__", "__bool__", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, counting(name))
    for size in (32, 4):
        model = classifier()
        trainer = Trainer(model, "mse", sgd(model), ["mae"], weighted_mean=True, l2=0.1, accumulate=2, device="fake")
        reads.clear()
        quiet(trainer, x, torch.rand(64, 3), sample_weight=torch.rand(64), batch_size=size, shuffle=False)
        counts.append(len(reads))
    assert counts[0] > 0  # at the epoch's end
    assert counts[0] == counts[1]


def test_model_and_batches_go_to_the_device():
    x, y = rows(10)
    model = classifier()
    trainer = Trainer(model, nn.CrossEntropyLoss(torch.ones(3)), sgd(model), ["accuracy"], device="fake")
    history = quiet(trainer, x, y, batch_size=4, class_weight={np.int64(0): np.float32(2)}, validation_split=0.2)
    assert next(model.parameters()).device.type == "fake" and set(history) >= {"loss", "val_accuracy"}
    assert trainer.predict(x).device.type == "cpu"


# ---- what is refused, before anything changes


def test_bad_input_is_refused_before_anything_changes(tmp_path):
    x, y = rows()
    model = classifier()
    before = bits(model)
    loader = DataLoader(TensorDataset(x, y), 8)
    trainer = Trainer(model, "cross_entropy", sgd(model))
    callbacks = torch.train.callbacks
    fits = [
        ("exclude each other", (x, y), {"validation_split": 0.1, "validation_data": (x, y)}),
        ("as many samples", (x, y[:-1]), {}),
        ("as many samples", (x, y), {"sample_weight": torch.ones(3)}),
        ("between 0 and 1", (x, y), {"validation_split": 1.5}),
        ("leaves none", (x[:1], y[:1]), {"validation_split": 0.5}),
        ("known length to cut, not a DataLoader", (loader,), {"validation_split": 0.1}),
        ("known length to cut, not a Stream", (Stream(x, y),), {"validation_split": 0.1}),
        ("its own batches: leave out batch_size", (loader,), {"batch_size": 4}),
        ("its own batches: leave out num_workers", (loader,), {"num_workers": 4}),
        ("spent after one epoch", (iter(loader),), {}),
        ("epochs must be an integer", (x, y), {"epochs": "5"}),
        ("without y=", (loader, y), {}),
        ("without sample_weight=", (TensorDataset(x, y),), {"sample_weight": y}),
        ("has 4 parts", ((x, y, y, y),), {}),
        ("data is a DataLoader", (3,), {}),
        (
            "EarlyStopping monitors 'val_loss', but an epoch has loss",
            (x, y),
            {"callbacks": [callbacks.EarlyStopping()]},
        ),
        ("is no Callback", (x, y), {"callbacks": [callbacks.EarlyStopping]}),
        ("callbacks is a list", (x, y), {"callbacks": torch.train.Callback()}),
        ("progress must be", (x, y), {"progress": "bar"}),
        ("needs a folder", (x, y), {"checkpoint_every": 3}),
        ("no checkpoint at", (x, y), {"resume": tmp_path}),
        ("resume=True continues from checkpoint=", (x, y), {"resume": True}),
        ("classes are integers", (x, y), {"class_weight": {"a": 1.0}}),
        ("class_weight is", (x, y), {"class_weight": "balanced"}),
        ("no number: {0: nan}", (x, y), {"class_weight": {0: float("nan")}}),
        ("between 0 and 1, not '0.2'", (x, y), {"validation_split": "0.2"}),
        ("fit: a Tensor has no targets", (x,), {}),
        ("validation_data: a Tensor has no targets", (x, y), {"validation_data": x}),
        ("the data has no batches", (Stream(x[:0], y[:0]),), {}),
        ("no batches", (DataLoader(TensorDataset(x, y), 99, drop_last=True),), {}),
        ("must be positive", (x, y), {"validation_freq": 0}),
    ]
    for text, data, options in fits:
        with pytest.raises((ValueError, TypeError, FileNotFoundError), match=text):
            quiet(trainer, *data, **options)
    with pytest.raises(ValueError, match="a batch without a target"):
        quiet(trainer, DataLoader(TensorDataset(x), 8))
    assert bits(model) == before and trainer.step == 0


def test_trainers_that_make_no_sense_are_refused():
    model, other = classifier(), classifier()
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd(model))
    cases = [
        (ValueError, "no metric is named 'acuracy'; known are .*accuracy", {"metrics": ["acuracy"]}),
        (ValueError, "'accuracy' is there twice", {"metrics": ["accuracy", "accuracy"]}),
        (TypeError, "metrics is a list", {"metrics": "accuracy"}),
        (TypeError, "a metric is a Metric", {"metrics": [3]}),
        (ValueError, "no loss is named 'ce'", {"loss": "ce"}),
        (TypeError, "loss must be", {"loss": nn.MSELoss}),
        (TypeError, "optimizer must be", {"optimizer": "adam"}),
        (ValueError, "none of the model's parameters", {"optimizer": sgd(other)}),
        (TypeError, "model must be a Module", {"model": print}),
        (ValueError, "accumulate must be positive", {"accumulate": 0}),
        (ValueError, "clip_norm must be positive", {"clip_norm": -1.0}),
        (ValueError, "l2 must be 0 or more", {"l2": -1.0}),
        (ValueError, "amp must be", {"amp": "float64"}),
        (ValueError, "scheduler_interval must be 'epoch'", {"scheduler": plateau, "scheduler_interval": "step"}),
        (TypeError, "scheduler must be", {"scheduler": 3}),
        (TypeError, "generators: a torch.Generator", {"generators": [3]}),
    ]
    for error, text, options in cases:
        with pytest.raises(error, match=text):
            Trainer(**{"model": model, "loss": "mse", "optimizer": sgd(model), **options})


def test_a_binary_loss_and_its_metrics_share_a_target():
    x, y = rows()
    model = nn.Linear(4, 1)
    names = ["binary_accuracy", "binary_f1", "binary_roc_auc"]
    trainer = Trainer(model, "binary_cross_entropy_with_logits", sgd(model), names)
    target = (y > 0).float().unsqueeze(1)
    history = quiet(trainer, x, target, epochs=2, validation_split=0.25, callbacks=None)
    assert set(history) == {"loss", "val_loss", *names, *(f"val_{name}" for name in names)}
    accuracy = ((trainer.predict(x) > 0) == (target > 0)).double().mean().item()
    assert trainer.evaluate(x, target)["binary_accuracy"] == pytest.approx(accuracy, abs=1e-12)


def test_weights_need_a_loss_of_each_sample():
    x, y = rows(8)
    model = classifier()
    trainer = Trainer(model, lambda output, target: F.cross_entropy(output, target), sgd(model))
    with pytest.raises(ValueError, match="weights need the loss of each sample"):
        quiet(trainer, x, y, sample_weight=torch.ones(8))
    with pytest.raises(ValueError, match="do not fit losses"):
        trainer.rule = Trainer(model, "cross_entropy", sgd(model)).rule
        quiet(trainer, (x, y, torch.ones(8, 2)))


# ---- history


def test_history_as_json_and_picture(tmp_path):
    history = History()
    for epoch in range(3):
        history.append(epoch, {"loss": 1 / (epoch + 1), "f": [1.0, 2.0]} | ({"val_loss": 0.5} if epoch else {}))
    text = history.to_json(tmp_path / "history.json")
    assert History.from_json(text) == History.from_json(tmp_path / "history.json") == history
    assert json.loads(text)["history"]["val_loss"] == [None, 0.5, 0.5]
    assert copy.deepcopy(history) == history and len(history) == 3 and "loss" in history
    with pytest.raises(KeyError, match="not in the history, which has loss"):
        history["accuracy"]
    with pytest.raises(ValueError, match="is needed"):
        History.from_json('{"a": 1}')
    pytest.importorskip("matplotlib")
    figure = history.plot(path=tmp_path / "history.png")
    assert (tmp_path / "history.png").read_bytes()[:4] == b"\x89PNG"
    (axes,) = figure.axes
    assert axes.get_title() == "loss" and [line.get_label() for line in axes.lines] == ["training", "validation"]
    assert list(axes.lines[0].get_ydata()) == history["loss"]
    with pytest.raises(ValueError, match="nothing to plot"):
        History().plot()
