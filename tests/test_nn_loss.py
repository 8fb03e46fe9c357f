"""Losses beside PyTorch: values, gradients of two orders, error types and texts; closed forms without it."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import tapegrad

RNG = np.random.default_rng(5)
PROBABILITIES = RNG.uniform(0.1, 0.9, (3, 5))
INPUTS: dict[str, Any] = {
    "x": RNG.normal(size=(3, 5)) * 2,
    "y": RNG.normal(size=(3, 5)) * 2,
    "z": RNG.normal(size=(3, 5)),
    "row": RNG.normal(size=5),
    "col": RNG.normal(size=(3, 1)),
    "cube": RNG.normal(size=(2, 4, 3)),
    "image": RNG.normal(size=(2, 3, 4, 5)),
    "video": RNG.normal(size=(2, 3, 2, 2, 2)),
    "p": PROBABILITIES,
    "q": RNG.uniform(0.1, 0.9, (3, 5)),
    "edge": np.array([0.0, 1.0, 0.25, 1.0]),
    "hard": np.array([0.0, 1.0, 1.0, 0.0]),
    "shares": PROBABILITIES / PROBABILITIES.sum(1, keepdims=True),
    "i": np.array([0, 4, 2]),
    "skipped": np.array([-100, 4, 2]),
    "icube": np.array([[0, 3, 1], [2, 2, -100]]),
    "iimage": RNG.integers(0, 3, (2, 4, 5)),
    "ivideo": RNG.integers(0, 3, (2, 2, 2, 2)),
    "w": np.array([0.5, 1.0, 2.0, 0.3, 1.5]),
    "w4": np.array([0.5, 1.0, 2.0, 0.3]),
    "signs": np.sign(RNG.normal(size=(3, 5))),
    "sign": np.array([1.0, -1.0, 1.0]),
    "counts": np.array([[0.0, 1, 2, 3, 4], [5, 6, 1, 0, 2], [1, 2, 3, 8, 9]]),
    "labels": np.array([[0, 3, -1, 2, 2], [4, 1, 2, 0, -1], [-1, 2, 2, 2, 2]]),
    "speech": RNG.normal(size=(7, 3, 4)),
    "words": np.array([[1, 2, 2], [3, 1, 0], [2, 0, 0]]),
    "flat": np.array([1, 2, 2, 3, 1, 2]),
    "half": RNG.normal(size=(3, 5)).astype("f4"),
}
DIFFERENTIABLE = ("x", "y", "row", "col", "cube", "image", "video", "p", "q", "speech")


class Names(dict):  # type: ignore[type-arg]
    """The names of an expression: `t` the library, `F` its functions, `nn`, and the inputs as tensors."""

    def __init__(self, library: Any):
        super().__init__(t=library, F=library.nn.functional, nn=library.nn, used={})
        self.library = library

    def __missing__(self, name: str) -> Any:
        if name not in INPUTS:
            raise KeyError(name)
        self[name] = made = self.library.tensor(INPUTS[name])
        if name in DIFFERENTIABLE:
            made.requires_grad_()
        return made


def run(library: Any, text: str) -> tuple[Any, Names]:
    names = Names(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eval(text, names), names  # noqa: S307


EACH = ("mean", "sum", "none")
BY_REDUCTION = [
    "F.l1_loss(x, y, reduction=R)",
    "F.mse_loss(x, y, reduction=R)",
    "F.mse_loss(x, row, reduction=R)",
    "F.mse_loss(x, col, weight=p, reduction=R)",
    "F.l1_loss(x, y, weight=p, reduction=R)",
    "F.smooth_l1_loss(x, y, reduction=R)",
    "F.smooth_l1_loss(x, row, beta=0.3, reduction=R)",
    "F.smooth_l1_loss(x, y, beta=0, reduction=R)",
    "F.huber_loss(x, y, reduction=R, delta=0.7)",
    "F.huber_loss(x, y, reduction=R, weight=p)",
    "F.binary_cross_entropy(p, q, reduction=R)",
    "F.binary_cross_entropy(p, q, weight=w, reduction=R)",
    "F.binary_cross_entropy_with_logits(x, q, reduction=R)",
    "F.binary_cross_entropy_with_logits(x * 300, q, reduction=R)",
    "F.binary_cross_entropy_with_logits(x, q, weight=w, pos_weight=w * 2, reduction=R)",
    "F.nll_loss(x, i, reduction=R)",
    "F.nll_loss(x, i, weight=w, reduction=R)",
    "F.nll_loss(x, skipped, weight=w, reduction=R)",
    "F.nll_loss(x, i, ignore_index=4, reduction=R)",
    "F.nll_loss(row, i[1], reduction=R)",
    "F.nll_loss(cube, icube, weight=w4, reduction=R)",
    "F.nll_loss(image, iimage, reduction=R)",
    "F.nll_loss(video, ivideo, reduction=R)",
    "F.cross_entropy(x, i, reduction=R)",
    "F.cross_entropy(x, i, weight=w, reduction=R)",
    "F.cross_entropy(x, skipped, reduction=R)",
    "F.cross_entropy(x, skipped, weight=w, label_smoothing=0.2, reduction=R)",
    "F.cross_entropy(x, i, label_smoothing=0.1, ignore_index=2, reduction=R)",
    "F.cross_entropy(x, shares, reduction=R)",
    "F.cross_entropy(x, shares, weight=w, label_smoothing=0.3, reduction=R)",
    "F.cross_entropy(x, q, reduction=R)",
    "F.cross_entropy(row, i[1], reduction=R)",
    "F.cross_entropy(row, w, reduction=R)",
    "F.cross_entropy(cube, icube, reduction=R)",
    "F.cross_entropy(cube, icube, label_smoothing=0.1, weight=w4, reduction=R)",
    "F.cross_entropy(image, iimage, reduction=R)",
    "F.cross_entropy(video, ivideo, reduction=R)",
    "F.linear_cross_entropy(x, y, i % 3, linear_bias=col.squeeze(1), reduction=R)",
    "F.kl_div(x, shares, reduction=R)",
    "F.kl_div(x, q, reduction=R)",
    "F.kl_div(x, y, reduction=R, log_target=True)",
    "F.poisson_nll_loss(x, counts, reduction=R)",
    "F.poisson_nll_loss(p, counts, log_input=False, full=True, reduction=R)",
    "F.gaussian_nll_loss(x, y, p, reduction=R)",
    "F.gaussian_nll_loss(x, y, p[:, 0], full=True, eps=0.3, reduction=R)",
    "F.gaussian_nll_loss(x, y, 0.5, reduction=R)",
    "F.margin_ranking_loss(x, y, signs, margin=0.3, reduction=R)",
    "F.hinge_embedding_loss(x, signs, reduction=R)",
    "F.hinge_embedding_loss(x, sign[:, None], margin=0.2, reduction=R)",
    "F.soft_margin_loss(x, signs, reduction=R)",
    "F.cosine_embedding_loss(x, y, sign, margin=0.1, reduction=R)",
    "F.cosine_embedding_loss(row, row * 2 + 1, sign[1], margin=-0.9, reduction=R)",
    "F.multi_margin_loss(x, i, reduction=R)",
    "F.multi_margin_loss(x, i, p=2, margin=0.7, weight=w, reduction=R)",
    "F.multi_margin_loss(row, i[1], reduction=R)",
    "F.multilabel_margin_loss(x, labels, reduction=R)",
    "F.multilabel_margin_loss(row, labels[1], reduction=R)",
    "F.multilabel_soft_margin_loss(x, shares, weight=w, reduction=R)",
    "F.triplet_margin_loss(x, y, z, reduction=R)",
    "F.triplet_margin_loss(x, y, z, p=1, swap=True, margin=2.5, reduction=R)",
    "F.triplet_margin_with_distance_loss(x, y, z, distance_function=lambda a, b: (a - b).abs().sum(-1), reduction=R)",
    "F.ctc_loss(F.log_softmax(speech, 2), words, (7, 6, 4), (3, 2, 1), reduction=R)",
    "F.ctc_loss(speech.log_softmax(2), flat, t.tensor([7, 6, 4]), t.tensor([3, 2, 1]), reduction=R)",
    "F.ctc_loss(speech, words, (7, 6, 4), (3, 2, 1), reduction=R)",
    "F.ctc_loss(speech.log_softmax(2), words, (7, 2, 4), (3, 0, 1), blank=3, reduction=R)",
    "F.ctc_loss(speech.log_softmax(2), words, (7, 2, 4), (3, 2, 1), reduction=R)",
    "F.ctc_loss(speech.log_softmax(2), words, (7, 2, 3), (3, 2, 1), zero_infinity=True, reduction=R)",
    "F.ctc_loss(speech.log_softmax(2), words, (2, 6, 4), (3, 2, 1), zero_infinity=True, reduction=R)",
    "F.ctc_loss(speech[:, 0].log_softmax(1), words[0], t.tensor(6), t.tensor(3), reduction=R)",
]
SINGLE = [
    "F.kl_div(x, shares, reduction='batchmean')",
    "F.l1_loss(x, y, size_average=False)",
    "F.mse_loss(x, y, reduce=False)",
    "F.cross_entropy(x, i, None, False)",
    "F.nll_loss(x, i, reduction='elementwise_mean')",
    "F.cross_entropy(x, i * 0 - 100)",
    "F.cross_entropy(x, i * 0 - 100, reduction='sum')",
    "F.cross_entropy(x, i.to(t.uint8))",
    "F.cross_entropy(row.detach(), i[1:2], reduction='none')",
    "F.mse_loss(half, x)",
    "F.binary_cross_entropy(t.tensor([0.0, 1.0, 0.5]), t.tensor([1.0, 0.0, 1.0]), reduction='none')",
    "F.binary_cross_entropy_with_logits(t.tensor([1e3, -1e3]), t.tensor([0.0, 1.0]), reduction='none')",
    "F.mse_loss(half.half(), half.half() + 1)",
    "F.mse_loss(x[:0], y[:0], reduction='sum')",
]
MODULES = [
    "nn.L1Loss()(x, y)", "nn.MSELoss(reduction='sum')(x, y)", "nn.SmoothL1Loss(beta=0.4)(x, y)",
    "nn.HuberLoss('none', 0.3)(x, y)", "nn.BCELoss(w)(p, q)", "nn.BCEWithLogitsLoss(pos_weight=w)(x, q)",
    "nn.NLLLoss(w, ignore_index=2)(x, i)", "nn.CrossEntropyLoss(w, label_smoothing=0.1)(x, i)",
    "nn.KLDivLoss(reduction='batchmean', log_target=True)(x, y)", "nn.PoissonNLLLoss(full=True)(x, counts)",
    "nn.GaussianNLLLoss()(x, y, p)", "nn.MarginRankingLoss(0.2)(x, y, signs)", "nn.CosineEmbeddingLoss()(x, y, sign)",
    "nn.HingeEmbeddingLoss()(x, signs)", "nn.SoftMarginLoss()(x, signs)", "nn.MultiLabelMarginLoss()(x, labels)",
    "nn.MultiLabelSoftMarginLoss(w)(x, shares)", "nn.MultiMarginLoss(p=2, weight=w)(x, i)",
    "nn.TripletMarginLoss(swap=True)(x, y, z)", "nn.TripletMarginWithDistanceLoss()(x, y, z)",
    "nn.CTCLoss(blank=1)(speech.log_softmax(2), words * 0, (7, 6, 4), (2, 2, 1))",
    "nn.CrossEntropyLoss(size_average=False)(input=x, target=i)",
]  # fmt: skip
SMOOTH = [text for text in BY_REDUCTION if "ctc" not in text]


def gradients(library: Any, text: str, order: int) -> dict[str, Any]:
    value, names = run(library, text)
    weight = library.arange(1, value.numel() + 1, dtype=library.float64).reshape(value.shape) * 0.3 - 0.5
    inputs = {n: v for n, v in names.items() if n in DIFFERENTIABLE}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        grads = library.autograd.grad(
            (value * weight).sum(), list(inputs.values()), create_graph=order == 2, allow_unused=True
        )
        if order == 2:
            total = sum((g * (g.detach() + 1)).sum() for g in grads if g is not None and g.requires_grad)
            if not hasattr(total, "backward"):
                return {}
            grads = library.autograd.grad(total, list(inputs.values()), allow_unused=True)
    return {n: None if g is None else (g.detach() + 0).numpy() for n, g in zip(inputs, grads, strict=True)}


@pytest.mark.parametrize("text", BY_REDUCTION + SINGLE + MODULES)
def test_values_and_gradients_are_those_of_torch(text: str) -> None:
    torch = pytest.importorskip("torch")
    for reduction in EACH if "=R" in text else ("",):
        call = text.replace("=R", f"={reduction!r}")
        mine, _ = run(tapegrad, call)
        theirs, _ = run(torch, call)
        assert str(mine.dtype) == str(theirs.dtype) and tuple(mine.shape) == tuple(theirs.shape), call
        tolerance = 1e-10 if mine.dtype == tapegrad.float64 else 2e-3 if mine.dtype == tapegrad.float16 else 1e-6
        np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=tolerance, err_msg=call)
        assert mine.requires_grad == theirs.requires_grad
        if not theirs.requires_grad:
            continue
        a, b = gradients(tapegrad, call, 1), gradients(torch, call, 1)
        for name, g in b.items():
            if g is not None:
                np.testing.assert_allclose(a[name], g, rtol=1e-8, atol=1e-10, err_msg=f"{call}: {name}")


@pytest.mark.parametrize("text", SMOOTH)
def test_second_gradients_are_those_of_torch(text: str) -> None:
    torch = pytest.importorskip("torch")
    call = text.replace("=R", "='mean'")
    try:
        expected = gradients(torch, call, 2)
    except RuntimeError as error:
        assert "not implemented" in str(error)
        pytest.skip("torch has no second gradient here")
    found = gradients(tapegrad, call, 2)
    for name, g in expected.items():
        if g is not None and np.any(g):
            np.testing.assert_allclose(found[name], g, rtol=1e-8, atol=1e-10, err_msg=name)


WRONG = [
    "F.cross_entropy(x, i + 3)", "F.cross_entropy(x, i[:2])", "F.cross_entropy(x, sign)", "F.cross_entropy(x, i.int())",
    "F.cross_entropy(x, i, weight=w4)", "F.cross_entropy(x, t.zeros(3, 4))",
    "F.cross_entropy(x, i, label_smoothing=2.0)",
    "F.cross_entropy(cube, icube[:, :2])", "F.cross_entropy(image, iimage[:, :, :2])",
    "F.cross_entropy(video, ivideo[:1])",
    "F.cross_entropy(x, i, reduction='other')", "F.cross_entropy(x, shares, ignore_index=2)",
    "F.cross_entropy(x.long(), i)",
    "F.cross_entropy(row, i)", "F.nll_loss(x, i + 3)", "F.nll_loss(x, i.float())", "F.nll_loss(x, i[:2])",
    "F.nll_loss(x[0, 0], i)", "F.nll_loss(video, ivideo[:, :1])", "F.nll_loss(x, i, weight=w4)", "F.mse_loss(x, y[:2])",
    "F.mse_loss(i, i)", "F.l1_loss(i, i)", "F.mse_loss(x, y, reduction='other')", "F.mse_loss(x, y, weight=w)",
    "F.smooth_l1_loss(x, y, beta=-1)", "F.huber_loss(x, y, delta=0)", "F.binary_cross_entropy(x, q)",
    "F.binary_cross_entropy(p, q[:2])", "F.binary_cross_entropy(p, q * 3)", "F.binary_cross_entropy(p, q.float())",
    "F.binary_cross_entropy(p, q, weight=row)", "F.binary_cross_entropy_with_logits(x, q[:, :4])",
    "F.binary_cross_entropy_with_logits(x, labels)", "F.binary_cross_entropy_with_logits(x, q, pos_weight=row)",
    "F.multi_margin_loss(x, i + 3)", "F.multi_margin_loss(x, i[:2])", "F.multi_margin_loss(x, i, p=3)",
    "F.multi_margin_loss(x, i, weight=w4)", "F.multi_margin_loss(x, i.int())", "F.multi_margin_loss(cube, i)",
    "F.multilabel_margin_loss(x, labels[:, :4])", "F.multilabel_margin_loss(x, labels + 2)",
    "F.soft_margin_loss(z, x)", "F.soft_margin_loss(x, signs[:2])", "F.margin_ranking_loss(x, y, sign)",
    "F.cosine_embedding_loss(x, y, signs)", "F.cosine_embedding_loss(x, row, sign)",
    "F.cosine_embedding_loss(x, y, sign[0])", "F.triplet_margin_loss(x, y, z, margin=-1)",
    "F.triplet_margin_loss(x, y, row)", "F.poisson_nll_loss(x, y, reduction='other')",
    "F.gaussian_nll_loss(x, y, -1.0)", "F.gaussian_nll_loss(x, y, signs)", "F.gaussian_nll_loss(x, y, w4)",
    "F.linear_cross_entropy(cube, y, i)", "F.linear_cross_entropy(x, row, i)", "F.linear_cross_entropy(x, cube, i)",
    "F.ctc_loss(speech, words, (8, 6, 4), (3, 2, 1))", "F.ctc_loss(speech, words, (7, 6, 4), (4, 2, 1))",
    "F.ctc_loss(speech, flat, (7, 6, 4), (3, 2, 2))", "F.ctc_loss(speech, words, (7,), (3, 2, 1))",
    "F.ctc_loss(speech, words, (7, 6, 4), (3, 2, 1), blank=9)", "nn.HuberLoss(delta='a')", "nn.MultiMarginLoss(p=3)",
    "nn.MultiMarginLoss(weight=y)", "nn.TripletMarginLoss(margin=0)", "nn.TripletMarginWithDistanceLoss(margin=0)",
    "nn.AdaptiveLogSoftmaxWithLoss(8, 10, [])", "nn.AdaptiveLogSoftmaxWithLoss(8, 10, [4, 2])",
    "nn.AdaptiveLogSoftmaxWithLoss(8, 10, [10])", "nn.AdaptiveLogSoftmaxWithLoss(5, 9, [4]).double()(x, i + 7)",
    "nn.AdaptiveLogSoftmaxWithLoss(5, 9, [4]).double()(x, i[:2])",
    "nn.AdaptiveLogSoftmaxWithLoss(5, 9, [4]).double()(row, i)",
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_errors_are_those_of_torch(text: str) -> None:
    torch = pytest.importorskip("torch")
    errors = []
    for library in (tapegrad, torch):
        with pytest.raises(Exception) as caught:
            run(library, text)
        errors.append(caught.value)
    assert type(errors[0]) is type(errors[1]), errors
    assert str(errors[0]).startswith(str(errors[1])), errors


@pytest.mark.parametrize("text", [text.rsplit("(", 1)[0] for text in MODULES if text.count("(") == 2] + [
    "nn.LinearCrossEntropyLoss(4, 3, bias=True)", "nn.AdaptiveLogSoftmaxWithLoss(16, 20, [5, 10], 2.0)",
])  # fmt: skip
def test_modules_look_as_in_torch(text: str) -> None:
    torch = pytest.importorskip("torch")
    mine, _ = run(tapegrad, text)
    theirs, _ = run(torch, text)
    assert repr(mine) == repr(theirs)
    assert list(mine.state_dict()) == list(theirs.state_dict())


def test_adaptive_softmax_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    found = []
    for library in (tapegrad, torch):
        library.manual_seed(3)
        layer = library.nn.AdaptiveLogSoftmaxWithLoss(16, 20, [5, 10], div_value=2.0, head_bias=True)
        x = library.randn(12, 16, requires_grad=True)
        target = library.tensor([0, 4, 5, 9, 10, 19, 3, 12, 7, 1, 2, 15])
        output, loss = layer(x, target)
        loss.backward()
        single = layer(x[0], target[5])
        parts = [output, loss, single.output, layer.log_prob(x), layer.predict(x * 5), x.grad]
        found.append([p.detach().numpy() for p in [*parts, *[q.grad for q in layer.parameters()]]])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_closed_forms() -> None:
    """Without PyTorch: the losses of simple inputs."""
    F, t = tapegrad.nn.functional, tapegrad.tensor
    assert F.cross_entropy(tapegrad.zeros(3, 8), t([0, 1, 7])).item() == pytest.approx(math.log(8))
    assert F.nll_loss(t([[-1.0, -2.0]]), t([1]), t([1.0, 5.0])).item() == 2.0
    assert F.mse_loss(t([1.0, 3.0]), t([1.0, 1.0])).item() == 2.0
    assert F.binary_cross_entropy(t([0.5]), t([1.0])).item() == pytest.approx(math.log(2))
    assert F.binary_cross_entropy_with_logits(t([0.0]), t([0.3])).item() == pytest.approx(math.log(2))
    assert F.kl_div(t([[0.5, 0.5]]).log(), t([[0.5, 0.5]]), reduction="batchmean").item() == pytest.approx(0.0)
    uniform = tapegrad.full((2, 1, 3), -math.log(3))
    # of the nine paths of two steps, "1" is spelt by (1, 1), (0, 1) and (1, 0)
    assert F.ctc_loss(uniform, t([[1]]), (2,), (1,)).item() == pytest.approx(math.log(3))


def test_gradient_of_ctc_behind_log_softmax() -> None:
    """Finite differences, through log_softmax, where PyTorch's form of the gradient is the true one."""
    x = tapegrad.tensor(INPUTS["speech"], requires_grad=True)
    words = tapegrad.tensor(INPUTS["words"])

    def loss(x: Any) -> Any:
        return tapegrad.nn.functional.ctc_loss(x.log_softmax(2), words, (7, 6, 4), (3, 2, 0))

    assert tapegrad.autograd.gradcheck(loss, (x,))
    (grad,) = tapegrad.autograd.grad(loss(x), x, create_graph=True)
    with pytest.raises(RuntimeError, match="derivative for aten::_ctc_loss_backward is not implemented"):
        grad.sum().backward()


def test_names_of_nodes() -> None:
    """What a tutorial prints: tensor(1.6, grad_fn=<NllLossBackward0>)."""
    F = tapegrad.nn.functional
    x, target = tapegrad.zeros(2, 3, requires_grad=True), tapegrad.tensor([0, 2])
    named = {
        "NllLossBackward0": F.cross_entropy(x, target),
        "MseLossBackward0": F.mse_loss(x, x.detach()),
        "BinaryCrossEntropyWithLogitsBackward0": F.binary_cross_entropy_with_logits(x, x.detach()),
        "BinaryCrossEntropyBackward0": F.binary_cross_entropy(x + 0.5, x.detach()),
        "SmoothL1LossBackward0": F.smooth_l1_loss(x, x.detach()),
        "MeanBackward0": F.l1_loss(x, x.detach()),
    }
    for name, loss in named.items():
        assert loss.grad_fn.name() == name
