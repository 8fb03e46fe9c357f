"""Metrics accumulated over batches against scikit-learn on the whole set."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np
import pytest
import tapegrad as torch
from tapegrad.train import metrics as M

sk = pytest.importorskip("sklearn.metrics")

N, C, L = 103, 5, 4
RNG = np.random.default_rng(0)
# rounded, so that scores tie; class 3 is never a target, class 4 never predicted
LOGITS = RNG.standard_normal((N, C)).round(1)
LOGITS[:, 4] = -9.0
TARGET = RNG.choice([0, 1, 2, 4], N)
PRED = LOGITS.argmax(1)
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
WEIGHT = RNG.random(N).round(2) * (RNG.random(N) > 0.1)  # some are 0
SCORE, YES = RNG.standard_normal(N).round(1), RNG.integers(0, 2, N)
SCORES, ROWS = RNG.standard_normal((N, L)).round(1), RNG.integers(0, 2, (N, L))
Y, GUESS = RNG.standard_normal((N, 3)) + 1e6, RNG.standard_normal((N, 3)) + 1e6
CUTS = ([N], [1, 5, 5, 6, 40], [64])


def fed(metric, pred, target, weight=None, cuts=(1, 5, 5, 6, 40), device="cpu"):
    """The metric after uneven batches, one of them empty."""
    bounds = [0, *[cut for cut in cuts if cut < len(target)], len(target)]
    for a, b in zip(bounds, bounds[1:], strict=False):
        parts = [None if x is None else torch.tensor(x[a:b], device=device) for x in (pred, target, weight)]
        metric.update(*parts)
    return metric


def values(result):
    if isinstance(result, dict):
        return list(result.values())
    return result.numpy() if isinstance(result, torch.Tensor) else result


def check(metric, data, expected, weight=None, rtol=1e-12):
    """Whole, in batches, and on another device: the number that scikit-learn gives for the whole set."""
    pred, target = data
    for cuts in CUTS:
        metric.reset()
        np.testing.assert_allclose(values(fed(metric, pred, target, weight, cuts).compute()), expected, rtol, 1e-15)
    metric.reset()
    np.testing.assert_allclose(
        values(fed(metric, pred, target, weight, device="fake").compute()), expected, rtol, 1e-15
    )
    assert all(value.device.type == "fake" for value in metric._gathered().values())


BY_CLASS = {"precision": (M.Precision, sk.precision_score), "recall": (M.Recall, sk.recall_score),
            "f1": (M.F1, sk.f1_score)}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*(is not defined|ill-defined|not in y_pred)")
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("zero", ["warn", 0, 1, np.nan])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
@pytest.mark.parametrize("name", BY_CLASS)
def test_by_class(name, average, zero, weight):
    ours, theirs = BY_CLASS[name]
    options = {"average": average, "zero_division": zero}
    every = {"labels": range(C)} if average is None else {}
    expected = theirs(TARGET, PRED, sample_weight=weight, **every, **options)
    check(ours(**options), (LOGITS, TARGET), expected, weight)
    check(ours(C, **options), (PRED, TARGET), expected, weight)
    for labels in ([3, 4], [1, 0], [3], range(C)):
        expected = theirs(TARGET, PRED, sample_weight=weight, labels=labels, **options)
        check(ours(labels=labels, **options), (LOGITS, TARGET), expected, weight)
    expected = theirs(ROWS, SCORES > 0, sample_weight=weight, **options)
    check(ours(task="multilabel", **options), (SCORES, ROWS), expected, weight)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", BY_CLASS)
def test_binary(name, weight):
    ours, theirs = BY_CLASS[name]
    for average in ("binary", "macro", "micro", "weighted", None):
        expected = theirs(YES, SCORE > 0, average=average, sample_weight=weight)
        check(ours(task="binary", average=average), (SCORE, YES), expected, weight)
    assert ours(task="binary").average == "binary"
    high = theirs(YES, SCORE > 0.7, sample_weight=weight)
    check(ours(task="binary", from_logits=False, threshold=0.7), (SCORE, YES), high, weight)
    check(ours(task="binary"), (SCORE > 0.7, YES.astype(bool)), high, weight)
    logit = theirs(YES, 1 / (1 + np.exp(-SCORE)) > 0.74, sample_weight=weight)
    check(ours(task="binary", threshold=0.74), (SCORE, YES), logit, weight)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_accuracy(weight):
    expected = sk.accuracy_score(TARGET, PRED, sample_weight=weight)
    check(M.Accuracy(), (LOGITS, TARGET), expected, weight)
    check(M.Accuracy(), (PRED, TARGET), expected, weight)
    check(M.Accuracy(task="binary"), (SCORE, YES), sk.accuracy_score(YES, SCORE > 0, sample_weight=weight), weight)
    subset = sk.accuracy_score(ROWS, SCORES > 0, sample_weight=weight)
    assert subset > 0
    check(M.Accuracy(task="multilabel"), (SCORES, ROWS), subset, weight)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_top_k(k, weight):
    tied = LOGITS.round(0)
    expected = sk.top_k_accuracy_score(TARGET, tied, k=k, sample_weight=weight, labels=range(C))
    check(M.TopKAccuracy(k=k), (tied, TARGET), expected, weight)


def test_top_k_of_all_and_of_nan():
    assert fed(M.TopKAccuracy(k=7), LOGITS, TARGET).compute() == 1.0
    assert fed(M.TopKAccuracy(k=2), np.full((3, 4), np.nan), np.array([0, 1, 2])).compute() == 0.0


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
def test_confusion(normalize, weight):
    options = {"sample_weight": weight, "normalize": normalize}
    expected = sk.confusion_matrix(TARGET, PRED, labels=range(C), **options)
    check(M.ConfusionMatrix(normalize=normalize), (LOGITS, TARGET), expected, weight)
    expected = sk.confusion_matrix(YES, SCORE > 0, **options)
    check(M.ConfusionMatrix(task="binary", normalize=normalize), (SCORE, YES), expected, weight)
    if normalize is None:
        expected = sk.multilabel_confusion_matrix(ROWS, SCORES > 0, sample_weight=weight)
        check(M.ConfusionMatrix(task="multilabel"), (SCORES, ROWS), expected, weight)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
def test_roc_auc(average, weight):
    three, some = np.where(TARGET == 4, 3, TARGET) % 3, LOGITS[:, :3]
    probs = torch.tensor(some).softmax(-1).numpy()  # the same, to the last bit: what ties must tie for both
    options = {"average": average, "sample_weight": weight}
    one = sk.roc_auc_score(YES, SCORE, sample_weight=weight)
    check(M.ROCAUC(task="binary", average=average), (SCORE, YES), one, weight)
    check(
        M.ROCAUC(task="multilabel", average=average), (SCORES, ROWS), sk.roc_auc_score(ROWS, SCORES, **options), weight
    )
    for data, from_logits in ((some, True), (probs, False)):
        metric = M.ROCAUC(average=average, from_logits=from_logits)
        check(metric, (data, three), sk.roc_auc_score(three, probs, multi_class="ovr", **options), weight)
    if weight is None and average in ("macro", "weighted"):
        expected = sk.roc_auc_score(three, probs, multi_class="ovo", average=average)
        check(M.ROCAUC(average=average, multi_class="ovo", from_logits=False), (probs, three), expected)
        absent = sk.roc_auc_score(TARGET, PROBS, multi_class="ovo", average=average, labels=range(C))
        check(M.ROCAUC(average=average, multi_class="ovo", from_logits=False), (PROBS, TARGET), absent)


def test_roc_auc_where_a_class_is_absent():
    """NaN with a warning, as scikit-learn; weighted by true weight it takes no part."""
    for average in ("macro", None, "weighted"):
        metric = fed(M.ROCAUC(average=average, from_logits=False), PROBS, TARGET)
        with pytest.warns(UserWarning, match="only one class"):
            found = metric.compute()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = sk.roc_auc_score(TARGET, PROBS, multi_class="ovr", average=average, labels=range(C))
        np.testing.assert_allclose(values(found), expected, 1e-12)
    with pytest.warns(UserWarning, match="only one class"):
        assert math.isnan(fed(M.ROCAUC(task="binary"), SCORE, np.ones(N, int)).compute())
    with pytest.raises(ValueError, match=r"ROCAUC.update\(\): pred holds NaN"):
        fed(M.ROCAUC(task="binary"), np.full(N, np.nan), YES).compute()


REGRESSION = {"mae": (M.MAE, sk.mean_absolute_error), "mse": (M.MSE, sk.mean_squared_error),
              "rmse": (M.RMSE, sk.root_mean_squared_error), "r2": (M.R2, sk.r2_score)}  # fmt: skip


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", REGRESSION)
def test_regression(name, weight):
    ours, theirs = REGRESSION[name]
    for multioutput in ours.averages:
        expected = theirs(Y, GUESS, sample_weight=weight, multioutput=multioutput)
        check(ours(multioutput=multioutput), (GUESS, Y), expected, weight, rtol=1e-11)
    check(ours(), (GUESS[:, 0], Y[:, 0]), theirs(Y[:, 0], GUESS[:, 0], sample_weight=weight), weight, rtol=1e-11)
    # the sums are float64 whatever the data
    low = Y.astype("f4"), GUESS.astype("f4")
    check(ours(), low[::-1], theirs(*[x.astype("f8") for x in low], sample_weight=weight), weight, rtol=1e-11)


def test_r2_of_equal_targets_and_of_few():
    same = np.full((7, 2), 0.1)
    near = same + [[0.0, 1.0]]
    check(M.R2(multioutput="raw_values"), (near, same), [1.0, 0.0])
    exact = np.full((7, 2), 0.5)  # of 0.1 scikit-learn's mean is rounded, and its R2 is -1e33
    near = exact + [[0.0, 1.0]]
    for multioutput in M.R2.averages:
        expected = sk.r2_score(exact, near, multioutput=multioutput)
        check(M.R2(multioutput=multioutput), (near, exact), expected)
    with pytest.warns(UserWarning, match="fewer than two"):
        assert math.isnan(fed(M.R2(), Y[:1], GUESS[:1]).compute())


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_perplexity(weight):
    expected = math.exp(sk.log_loss(TARGET, PROBS, labels=range(C), sample_weight=weight))
    check(M.Perplexity(), (LOGITS, TARGET), expected, weight)
    check(M.Perplexity(from_logits=False), (PROBS, TARGET), expected, weight)


def test_perplexity_of_sequences():
    logits, target = RNG.standard_normal((4, 6, 9)), RNG.integers(0, 9, (4, 6))
    expected = math.exp(
        torch.nn.functional.cross_entropy(torch.tensor(logits).reshape(-1, 9), torch.tensor(target).reshape(-1))
    )
    check(M.Perplexity(), (logits, target), expected)
    check(M.Perplexity(class_dim=1), (logits.transpose(0, 2, 1), target), expected)
    padded, wild = target.copy(), logits.copy()
    padded[:, 4:], wild[:, 4:] = -100, -np.inf
    kept = torch.tensor(logits[:, :4]).reshape(-1, 9), torch.tensor(target[:, :4]).reshape(-1)
    check(M.Perplexity(), (wild, padded), math.exp(torch.nn.functional.cross_entropy(*kept)))
    sure = np.array([[0.0, -1e4]])
    assert fed(M.Perplexity(), sure, np.array([1])).compute() == math.inf
    half = fed(M.Perplexity(), logits.astype("f2"), target).compute()
    assert half == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("make", [M.Accuracy, lambda **o: M.TopKAccuracy(k=2, **o), M.Recall, M.ConfusionMatrix,
                                  lambda **o: M.ROCAUC(average="weighted", **o), M.Perplexity])  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*is not defined")
def test_ignored_targets_count_nowhere(make):
    """As if they were not there, whatever their scores and weights."""
    marked = np.where(RNG.random(N) < 0.3, -1, TARGET)
    keep = marked >= 0
    scores = np.where(keep[:, None], LOGITS, 1e30)
    metric = fed(make(), LOGITS[keep], TARGET[keep], WEIGHT[keep])
    check(make(ignore_index=-1), (scores, marked), values(metric.compute()), WEIGHT)


def test_ignored_answers_of_rows():
    """multilabel: an ignored answer is not asked; a row without any counts nowhere."""
    rows = np.array([[1, 0], [1, -1], [-1, -1], [0, 1]])
    said = np.array([[1, 0], [1, 1], [0, 0], [1, 1]])
    check(M.Accuracy(task="multilabel", ignore_index=-1), (said, rows), 2 / 3)
    check(M.Precision(task="multilabel", average=None, ignore_index=-1), (said, rows), [2 / 3, 1.0])
    check(M.ConfusionMatrix(task="multilabel", ignore_index=-1), (said, rows), [[[0, 1], [0, 2]], [[1, 0], [0, 1]]])


def test_images():
    """Scores (N, C, H, W), targets (N, H, W), and weights of either shape, as if flattened."""
    scores, target = RNG.standard_normal((6, C, 2, 3)), RNG.integers(0, C, (6, 2, 3))
    flat = target.reshape(-1), scores.argmax(1).reshape(-1)
    each, per_sample = RNG.random((6, 2, 3)), RNG.random(6)
    for weight, whole in ((each, each.reshape(-1)), (per_sample, per_sample.repeat(6)), (None, None)):
        expected = sk.f1_score(*flat, average="macro", sample_weight=whole)
        check(M.F1(), (scores, target), expected, weight)
        check(M.F1(class_dim=-1), (np.moveaxis(scores, 1, -1), target), expected, weight)
        check(M.Accuracy(), (scores, target), sk.accuracy_score(*flat, sample_weight=whole), weight)


ALL = {
    "accuracy": (M.Accuracy, LOGITS, TARGET), "top-k": (M.TopKAccuracy, LOGITS, TARGET),
    "precision": (M.Precision, LOGITS, TARGET), "recall": (M.Recall, LOGITS, TARGET), "f1": (M.F1, LOGITS, TARGET),
    "confusion": (M.ConfusionMatrix, LOGITS, TARGET), "auc": (lambda: M.ROCAUC(average=None), LOGITS, TARGET),
    "mae": (M.MAE, GUESS, Y), "mse": (M.MSE, GUESS, Y), "rmse": (M.RMSE, GUESS, Y), "r2": (M.R2, GUESS, Y),
    "perplexity": (M.Perplexity, LOGITS, TARGET),
}  # fmt: skip
quiet = pytest.mark.filterwarnings("ignore:.*is not defined")


@quiet
@pytest.mark.parametrize("name", ALL)
def test_an_interrupted_epoch_goes_on_bit_for_bit(name):
    make, pred, target = ALL[name]
    whole, first, second = make(), make(), make()
    fed(whole, pred[:40], target[:40], WEIGHT[:40])
    fed(first, pred[:40], target[:40], WEIGHT[:40])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file))
    before = second.state_dict()["state"]
    kept = {key: value.clone() for key, value in before.items()}
    for metric in (whole, second):
        fed(metric, pred[40:], target[40:], WEIGHT[40:])
    np.testing.assert_array_equal(values(whole.compute()), values(second.compute()))
    assert all((before[key] == kept[key]).all() for key in kept), "a state that was handed out changes no more"
    # loaded on the CPU, it follows the batches
    third = make()
    third.load_state_dict(first.state_dict())
    fed(third, pred[40:], target[40:], WEIGHT[40:], device="fake")
    np.testing.assert_array_equal(values(whole.compute()), values(third.compute()))


@quiet
@pytest.mark.parametrize("name", ALL)
def test_merged_is_whole(name):
    make, pred, target = ALL[name]
    whole = values(fed(make(), pred, target, WEIGHT).compute())
    parts = [
        fed(make(), pred[i::3], target[i::3], WEIGHT[i::3], device=d) for i, d in enumerate(("cpu", "fake", "cpu"))
    ]
    others = [values(part.compute()) for part in parts[1:]]
    merged = make()
    merged.merge(make())
    for part in (parts[0], make(), parts[1], parts[2].state_dict()):
        merged.merge(part)
    np.testing.assert_allclose(values(merged.compute()), whole, 1e-11)
    for part, before in zip(parts[1:], others, strict=True):
        np.testing.assert_array_equal(values(part.compute()), before)


@quiet
@pytest.mark.parametrize("name", ALL)
def test_memory_does_not_grow(name):
    make, pred, target = ALL[name]
    metric = make()
    fed(metric, pred, target)
    size = sum(value.numel() for value in metric._gathered().values())
    fed(metric, pred, target)
    grown = sum(value.numel() for value in metric._gathered().values())
    assert (grown > size) == (name == "auc")


@quiet
@pytest.mark.parametrize("name", ALL)
def test_nothing_seen(name):
    make, pred, target = ALL[name]
    for metric in (make(), fed(make(), pred[:0], target[:0])):
        found = np.asarray(values(metric.compute()))
        assert (found == 0).all() if name == "confusion" else np.isnan(found).all()
    metric = fed(make(), pred, target)
    metric.reset()
    metric.merge(make())
    assert np.size(values(metric.compute())) == (C * C if name == "confusion" else 1)
    fed(metric, pred, target)
    np.testing.assert_array_equal(values(metric.compute()), values(fed(make(), pred, target).compute()))


def test_single_class():
    ones = np.ones(9, int)
    check(M.F1(3, average="macro"), (ones, ones), 1.0)
    check(M.Precision(3, average=None, zero_division=0), (ones, ones), [0, 1, 0])
    check(M.ConfusionMatrix(3), (ones, ones), [[0, 0, 0], [0, 9, 0], [0, 0, 0]])
    with pytest.warns(UserWarning, match="Recall is not defined where its denominator is 0"):
        assert fed(M.Recall(task="binary"), ones, ones * 0).compute() == 0.0


def test_no_gradient_is_recorded_and_names():
    metric = M.MSE()
    metric.update(torch.ones(3, requires_grad=True), torch.zeros(3))
    assert not metric._state["sum"].requires_grad
    assert (metric.name, M.F1(name="val_f1").name) == ("mse", "val_f1")
    assert repr(M.MAE()) == "MAE(multioutput='uniform_average')"


def test_class_names():
    names = ["a", "b", "c", "d", "e"]
    found = fed(M.Precision(average=None, class_names=names, zero_division=0), LOGITS, TARGET).compute()
    assert list(found) == names and found["a"] == sk.precision_score(TARGET, PRED, labels=[0], average="macro")
    assert list(fed(M.Recall(average=None, class_names=names, labels=[2, 0]), LOGITS, TARGET).compute()) == ["c", "a"]
    with pytest.warns(UserWarning):
        assert list(fed(M.ROCAUC(average=None, class_names=names), LOGITS, TARGET).compute()) == names
    assert fed(M.ConfusionMatrix(class_names=names), LOGITS, TARGET).table().splitlines()[0].split()[3:] == names


@pytest.mark.parametrize("make", [M.Accuracy, M.Precision, M.Recall, M.F1, M.ROCAUC, M.ConfusionMatrix])
@pytest.mark.parametrize(("task", "pred", "target"), [("binary", SCORE, YES), ("multilabel", SCORES, ROWS)])
def test_floating_targets_of_the_losses_of_binary_tasks(make, task, pred, target):
    """BCEWithLogitsLoss takes 0.0 and 1.0, and a training has one target for its loss and its metrics."""
    missing = np.where(np.arange(N) % 7 == 0, -1, 1).reshape(N, *[1] * (target.ndim - 1))
    labels = np.where(missing < 0, -1, target)
    exact, found = (
        values(fed(make(task=task, ignore_index=-1), pred, each).compute()) for each in (labels, labels.astype("f4"))
    )
    np.testing.assert_array_equal(found, exact)


IDS, X = torch.tensor([0, 1, 2]), torch.randn(3, 4)
REFUSED = [
    (M.Accuracy, ([1], IDS), TypeError, r"Accuracy.update\(\): pred must be a Tensor, not list"),
    (M.Accuracy, (X, IDS.float()), TypeError, "target holds labels, integer or bool, not torch.float32"),
    (M.Accuracy, (X, IDS[:2]), ValueError, r"scores of shape \(3, 4\).*not \(2,\)"),
    (M.Accuracy, (IDS, IDS[:2]), ValueError, r"\(3,\) and target of shape \(2,\) must be alike"),
    (M.Accuracy, (X, IDS + 3), ValueError, r"target has labels from 4 to 5 outside 0 .. 3; give ignore_index"),
    (M.Accuracy, (X, IDS - 1), ValueError, r"Accuracy.update\(\): target has labels from -1 to -1 outside"),
    (M.Accuracy, (X, IDS, X), ValueError, r"sample_weight is torch.float32 of shape \(3, 4\)"),
    (M.Accuracy, (X, IDS.to("fake")), RuntimeError, "pred is on cpu, target on fake"),
    (lambda: M.Accuracy(3), (X, IDS), ValueError, "4 columns of scores, but num_classes is 3"),
    (lambda: M.Accuracy(task="binary"), (X[:, :1], IDS), ValueError, r"squeeze\(1\)"),
    (lambda: M.Accuracy(task="binary"), (X[:, 0], IDS), ValueError, "labels from 2 to 2 outside 0 .. 1"),
    (lambda: M.Accuracy(task="binary"), (X[:, 0], IDS / 4), ValueError, "from 0.25 to 0.5 outside 0.0 and 1.0"),
    (lambda: M.Accuracy(task="binary"), (X[:, 0], IDS / 0.0), ValueError, "labels from nan to nan outside"),
    (lambda: M.Accuracy(task="multilabel"), (X[0], IDS.new_ones(4)), ValueError, r"multilabel needs \(N, L\)"),
    (M.F1, (IDS, IDS), ValueError, r"F1.update\(\): labels alone do not say how many classes"),
    (lambda: M.F1(3), (IDS + 1, IDS), ValueError, "pred has labels from 3 to 3"),
    (M.TopKAccuracy, (IDS, IDS), TypeError, "scores are needed, floating, not torch.int64"),
    (M.ROCAUC, (IDS, IDS), TypeError, "scores are needed"),
    (lambda: M.ROCAUC(multi_class="ovo"), (X, IDS, X[:, 0]), ValueError, "sample_weight has no meaning"),
    (M.MAE, (X, X[:, :1]), ValueError, r"\(3, 4\) and target of shape \(3, 1\) must be alike"),
    (M.MAE, (X + 0j, X), TypeError, "real numbers"),
    (M.Perplexity, (X, IDS + 3), ValueError, r"Perplexity.update\(\): target has labels from 4 to 5"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "batch", "error", "text"), REFUSED)
def test_refused_batches(make, batch, error, text):
    metric = make()
    before = repr(metric)
    with pytest.raises(error, match=text):
        metric.update(*batch)
    assert repr(metric) == before and not metric._gathered()


@pytest.mark.parametrize("make", [M.Accuracy, M.TopKAccuracy, M.F1, M.ConfusionMatrix, M.ROCAUC, M.Perplexity])
def test_bad_labels_on_a_device_are_told_by_compute(make):
    metric = make()
    metric.update(X.to("fake"), (IDS + 2).to("fake"))
    with pytest.raises(ValueError, match=r"update\(\): 1 labels were outside 0 .. 3"):
        metric.compute()


@pytest.mark.parametrize(("make", "text"), [
    (lambda: M.Accuracy(task="multi"), "task must be one of"),
    (lambda: M.Accuracy(threshold=1.0), "threshold is on probabilities"),
    (lambda: M.Accuracy(3, task="binary"), "2 classes"),
    (lambda: M.Accuracy(0), "must be positive"),
    (lambda: M.F1(2, class_names=["a"]), "1 class_names for 2"),
    (lambda: M.F1(average="samples"), "average must be"),
    (lambda: M.F1(average="binary"), "is for task='binary'"),
    (lambda: M.F1(zero_division=0.5), "zero_division must be"),
    (lambda: M.F1(labels=[]), "labels chooses"),
    (lambda: M.TopKAccuracy(k=0), "k must be positive"),
    (lambda: M.TopKAccuracy(task="binary"), "task must be one of"),
    (lambda: M.ConfusionMatrix(normalize="rows"), "normalize must be"),
    (lambda: M.ConfusionMatrix(task="multilabel").table(), "a matrix for each label"),
    (lambda: M.ROCAUC(average="samples"), "average must be"),
    (lambda: M.ROCAUC(average=None, multi_class="ovo"), "not defined for multi_class='ovo'"),
    (lambda: M.MAE(multioutput="variance_weighted"), "multioutput must be"),
    (lambda: fed(M.F1(labels=[9]), LOGITS, TARGET).compute(), r"labels \[9\] outside 0 .. 4"),
    (lambda: M.MAE().load_state_dict(M.MSE().state_dict()), r"MAE.load_state_dict\(\): this is the state of MSE"),
    (lambda: M.MAE().load_state_dict({"sum": 1}), "not a metric's state_dict"),
    (lambda: M.TopKAccuracy(k=2).merge(M.TopKAccuracy(k=3)), r"merge\(\): k is 2 here and 3 there"),
    (lambda: M.F1(3).merge(fed(M.F1(), LOGITS, TARGET)), "num_classes is 3 here and 5 there"),
])  # fmt: skip
def test_refused_settings(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_one_read_from_the_device(monkeypatch):
    """update reads nothing from the device, compute once."""
    reads = []
    for name in ("cpu", "item", "tolist", "numpy", "__bool__"):
        real = getattr(torch.Tensor, name)

        def counted(self, *args, _real=real, **kw):
            if self.device.type == "fake":
                reads.append(1)
            return _real(self, *args, **kw)

        monkeypatch.setattr(torch.Tensor, name, counted)
    for make, pred, target in ALL.values():
        metric = fed(make(), pred, target, WEIGHT, device="fake")
        assert not reads, metric
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metric.compute()
        assert reads == [1], metric
        reads.clear()
