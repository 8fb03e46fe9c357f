"""Modules that are exported in the tests: how each is made, the shapes of its inputs, and which axes are dynamic.

The first axis is dynamic everywhere, more where a case says so ({input: {axis: name}}).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tapegrad as torch
from tapegrad import nn

ACTIVATIONS = (
    "ELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish PReLU ReLU ReLU6 RReLU SELU CELU GELU "
    "Sigmoid SiLU Softplus Softshrink Softsign Tanh Tanhshrink Identity Softmin"
).split()

IMAGE, ROW, VOLUME = (2, 4, 9, 8), (2, 4, 11), (2, 4, 6, 5, 7)

# (expression, shapes of the inputs, further dynamic axes)
CASES: list[tuple[Any, ...]] = [
    *[(f"nn.{name}({'dim=1' if name == 'Softmin' else ''})", [(3, 4)]) for name in ACTIVATIONS],
    ("nn.GELU(approximate='tanh')", [(3, 4)]),
    ("nn.Threshold(0.1, 20.0)", [(3, 4)]),
    ("nn.GLU()", [(3, 4)]),
    ("nn.Softmax(1)", [(3, 4)]),
    ("nn.LogSoftmax(0)", [(3, 4)]),
    ("nn.Softmax2d()", [IMAGE]),
    ("nn.PReLU(4)", [IMAGE]),
    ("nn.Linear(5, 3)", [(2, 5)]),
    ("nn.Linear(5, 3, bias=False)", [(2, 4, 5)], {1: "more"}),
    ("nn.Bilinear(3, 4, 5)", [(2, 3), (2, 4)]),
    ("nn.Conv1d(4, 6, 3, stride=2, padding=1)", [ROW], {2: "time"}),
    ("nn.Conv1d(4, 4, 3, groups=4, padding='same', padding_mode='circular')", [ROW]),
    ("nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2)", [IMAGE], {2: "h", 3: "w"}),
    ("nn.Conv2d(4, 6, (3, 2), bias=False, padding=1, padding_mode='reflect')", [IMAGE]),
    ("nn.Conv2d(4, 6, 3, padding=1, padding_mode='replicate')", [IMAGE]),
    ("nn.Conv3d(4, 2, 3, stride=2)", [VOLUME]),
    ("nn.ConvTranspose1d(4, 3, 4, stride=2, padding=1)", [ROW], {2: "time"}),
    ("nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1, groups=2, dilation=2)", [IMAGE], {2: "h"}),
    ("nn.ConvTranspose3d(4, 2, 2)", [VOLUME]),
    ("nn.MaxPool1d(3, 2, padding=1)", [ROW], {2: "time"}),
    ("nn.MaxPool2d(3, 2, ceil_mode=True)", [IMAGE]),
    ("nn.MaxPool2d(2, dilation=2, return_indices=True)", [IMAGE]),
    ("nn.MaxPool3d(2)", [VOLUME]),
    ("nn.AvgPool1d(3, 2)", [ROW]),
    ("nn.AvgPool2d(3, 2, padding=1, count_include_pad=False)", [IMAGE], {2: "h", 3: "w"}),
    ("nn.AvgPool2d(2, ceil_mode=True, padding=1)", [IMAGE]),
    ("nn.AvgPool2d(2, divisor_override=3)", [IMAGE]),
    ("nn.AvgPool3d(2)", [VOLUME]),
    ("nn.LPPool2d(2, 2)", [IMAGE]),
    ("nn.AdaptiveAvgPool1d(1)", [ROW], {2: "time"}),
    ("nn.AdaptiveAvgPool2d((3, 4))", [IMAGE]),
    ("nn.AdaptiveAvgPool2d((4, 5))", [IMAGE]),
    ("nn.AdaptiveAvgPool3d(1)", [VOLUME]),
    ("nn.AdaptiveMaxPool1d(1)", [ROW]),
    ("nn.AdaptiveMaxPool2d((3, 2), return_indices=True)", [IMAGE]),
    ("nn.AdaptiveMaxPool2d((4, 3))", [IMAGE]),
    ("nn.MaxUnpool2d(2)", [(2, 4, 3, 3), "places"]),
    ("nn.ReflectionPad1d(2)", [ROW]),
    ("nn.ReflectionPad2d((1, 2, 0, 1))", [IMAGE]),
    ("nn.ReplicationPad3d(1)", [VOLUME]),
    ("nn.ZeroPad2d((1, -1, 2, 0))", [IMAGE], {2: "h"}),
    ("nn.ConstantPad1d(2, 1.5)", [ROW]),
    ("nn.CircularPad2d(2)", [IMAGE]),
    ("nn.BatchNorm1d(4)", [ROW]),
    ("nn.BatchNorm1d(4, affine=False)", [(3, 4)]),
    ("nn.BatchNorm2d(4)", [IMAGE]),
    ("nn.BatchNorm2d(4, track_running_stats=False)", [IMAGE]),
    ("nn.BatchNorm3d(4)", [VOLUME]),
    ("nn.LayerNorm(8)", [IMAGE]),
    ("nn.LayerNorm((9, 8), elementwise_affine=False)", [IMAGE]),
    ("nn.LayerNorm(8, bias=False)", [IMAGE]),
    ("nn.RMSNorm(8)", [IMAGE], {2: "h"}),
    ("nn.GroupNorm(2, 4)", [IMAGE], {2: "h"}),
    ("nn.InstanceNorm1d(4)", [ROW]),
    ("nn.InstanceNorm2d(4, affine=True)", [IMAGE], {2: "h", 3: "w"}),
    ("nn.InstanceNorm2d(4, track_running_stats=True)", [IMAGE]),
    ("nn.LocalResponseNorm(3)", [IMAGE]),
    ("nn.Embedding(7, 3, padding_idx=0)", ["ids"], {1: "time"}),
    ("nn.EmbeddingBag(7, 3, mode='mean')", ["ids"]),
    ("nn.EmbeddingBag(7, 3, mode='max')", ["ids"]),
    ("nn.Dropout(0.5)", [(3, 4)]),
    ("nn.Dropout2d(0.5)", [IMAGE]),
    ("nn.AlphaDropout(0.5)", [(3, 4)]),
    ("nn.Flatten()", [IMAGE], {2: "h"}),
    ("nn.Flatten(1, 2)", [IMAGE]),
    ("nn.Unflatten(1, (2, 2))", [IMAGE]),
    ("nn.Fold((4, 5), 2)", [(2, 12, 12)]),
    ("nn.Unfold(2, padding=1, stride=2)", [IMAGE], {2: "h"}),
    ("nn.PixelShuffle(2)", [IMAGE], {2: "h"}),
    ("nn.PixelUnshuffle(2)", [(2, 4, 6, 8)]),
    ("nn.ChannelShuffle(2)", [IMAGE]),
    ("nn.Upsample(scale_factor=2)", [IMAGE]),
    ("nn.Upsample(scale_factor=2)", [IMAGE], {2: "h", 3: "w"}),
    ("nn.Upsample(size=(5, 13), mode='bilinear')", [IMAGE]),
    ("nn.Upsample(scale_factor=2, mode='bilinear')", [IMAGE], {2: "h", 3: "w"}),
    ("nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True)", [IMAGE], {2: "h", 3: "w"}),
    ("nn.Upsample(scale_factor=1.5, mode='bicubic')", [IMAGE]),
    ("nn.Upsample(scale_factor=2, mode='trilinear')", [VOLUME]),
    ("nn.Upsample(size=7, mode='linear')", [ROW]),
    ("nn.Upsample(scale_factor=3, mode='nearest-exact')", [IMAGE]),
    ("nn.UpsamplingNearest2d(scale_factor=3)", [IMAGE]),
    ("nn.CosineSimilarity()", [(3, 4), (3, 4)]),
    ("nn.PairwiseDistance()", [(3, 4), (3, 4)]),
    ("nn.MSELoss()", [(3, 4), (3, 4)]),
    ("nn.L1Loss(reduction='sum')", [(3, 4), (3, 4)]),
    ("nn.SmoothL1Loss()", [(3, 4), (3, 4)]),
    ("nn.HuberLoss()", [(3, 4), (3, 4)]),
    ("nn.BCEWithLogitsLoss()", [(3, 4), "share"]),
    ("nn.KLDivLoss(reduction='batchmean')", [(3, 4), "share"]),
    ("nn.CrossEntropyLoss()", [(3, 7), "classes"]),
    ("nn.NLLLoss()", [(3, 7), "classes"]),
    ("nn.SoftMarginLoss()", [(3, 4), (3, 4)]),
    ("nn.TripletMarginLoss()", [(3, 4), (3, 4), (3, 4)]),
    ("nn.CosineEmbeddingLoss()", [(3, 4), (3, 4), "signs"]),
    ("nn.LSTM(5, 4)", [(6, 3, 5)], {1: "batch2"}),
    ("nn.LSTM(5, 4, 2, bidirectional=True, batch_first=True)", [(3, 6, 5)], {1: "time"}),
    ("nn.GRU(5, 4, 2, batch_first=True)", [(3, 6, 5)], {1: "time"}),
    ("nn.GRU(5, 4, bias=False, bidirectional=True)", [(6, 3, 5)]),
    ("nn.RNN(5, 4, nonlinearity='relu')", [(6, 3, 5)]),
    ("nn.RNN(5, 4, bidirectional=True, batch_first=True)", [(3, 6, 5)]),
    ("nn.LSTMCell(5, 4)", [(3, 5)]),
    ("nn.GRUCell(5, 4)", [(3, 5)]),
    ("nn.RNNCell(5, 4)", [(3, 5)]),
    ("nn.MultiheadAttention(8, 2, batch_first=True)", [(3, 5, 8), (3, 5, 8), (3, 5, 8)], {1: "time"}),
    ("nn.MultiheadAttention(8, 2, kdim=6, vdim=4)", [(5, 3, 8), (5, 3, 6), (5, 3, 4)]),
    ("nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)", [(3, 5, 8)], {1: "time"}),
    ("nn.TransformerEncoderLayer(8, 2, 16, activation='gelu', norm_first=True)", [(5, 3, 8)], {1: "batch2"}),
    ("nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)", [(3, 5, 8)], {1: "time"}),
    ("nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 1)", [(3, 5, 8), (3, 4, 8)]),
    ("nn.Transformer(8, 2, 1, 1, 16, batch_first=True)", [(3, 5, 8), (3, 4, 8)]),
]  # fmt: skip


def _input(shape: Any, rng: Any) -> Any:
    if shape == "ids":
        return torch.tensor(rng.integers(0, 7, (3, 5)))
    if shape == "classes":
        return torch.tensor(rng.integers(0, 7, 3))
    if shape == "signs":
        return torch.tensor(np.sign(rng.standard_normal(3)).astype("f4"))
    if shape == "share":
        return torch.tensor(rng.uniform(0.1, 0.9, (3, 4)).astype("f4"))
    if shape == "places":
        corners = np.array([[0, 2, 4], [12, 14, 16], [24, 26, 28]])  # of windows of 2 by 2 in planes of 6 by 6
        return torch.tensor(corners + np.zeros((2, 4, 1, 1), "i8"))
    return torch.tensor(rng.standard_normal(shape).astype("f4"))


def build(case: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], dict[str, dict[int, str]]]:
    """(module, inputs, dynamic_axes) of a case."""
    expression, shapes, more = (*case, {})[:3]
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    module = eval(expression, {"nn": nn})
    for name, buffer in module.named_buffers():
        if name.endswith("running_var"):
            buffer.copy_(torch.tensor(rng.uniform(0.5, 2, tuple(buffer.shape)).astype("f4")))
    inputs = tuple(_input(s, rng) for s in shapes)
    names = [f"x{i}" for i in range(len(inputs))]
    return module, inputs, {n: {0: "batch", **more} for n in names}


def check_module(case: tuple[Any, ...], **options: Any) -> Any:
    """Exports the module of a case, and compares in two sizes; gives the program."""
    module, inputs, axes = build(case)
    return torch.onnx.export(module, inputs, input_names=list(axes), dynamic_axes=axes, verify=True, **options)


if __name__ == "__main__":
    bad = 0
    for case in CASES:
        try:
            check_module(case)
        except Exception as error:
            bad += 1
            print(f"{case[0]}: {type(error).__name__}: {str(error)[:500]}".replace("\n", " "))
    print(len(CASES) - bad, "of", len(CASES))
