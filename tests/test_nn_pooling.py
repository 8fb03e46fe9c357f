"""Pooling, resizing and shuffling: beside torch, and small cases that can be worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tapegrad as torch
from spatial import same, same_error, same_layer
from tapegrad.backends.numpy import pool_kernels

F = torch.nn.functional

VALUES = """
F.max_pool1d(far(2, 3, 9), 2)
F.max_pool1d(far(3, 9), 3, 2, 1, 1, True)
F.max_pool1d(few(2, 3, 9), 3, 1, 1, 2, return_indices=True)
F.max_pool1d_with_indices(few(2, 3, 9), 3, 2)
F.max_pool2d(far(2, 3, 8, 9), 2)
F.max_pool2d(few(2, 3, 8, 8), 2)
F.max_pool2d(few(2, 3, 9, 9), 3, 2, 1)
F.max_pool2d(few(3, 9, 11), (3, 2), (1, 3), (1, 0), (2, 1), True)
F.max_pool2d(few(2, 3, 9, 11), [2, 3], [], 1, 1, True, True)
F.max_pool2d(few(2, 3, 9, 11), 2, 3, 0, 1, True)
F.max_pool2d(few(2, 3, 9, 11), 5, 1, 2)
F.max_pool2d_with_indices(few(2, 3, 9, 9), 3, 2, 1)
F.max_pool2d(few(0, 3, 9, 9), 3)
F.max_pool2d(ints(2, 3, 9, 9), 3, 2, 1)
F.max_pool2d(ints(2, 3, 9, 9).to(T.uint8), 3, 2, 1)
F.max_pool2d(few(2, 3, 9, 9).half().detach(), 3, 2, 1)
F.max_pool2d(x(2, 3, 9, 9).transpose(2, 3), 2)
F.max_pool3d(few(1, 2, 5, 6, 7), 2, 2, 1)
F.max_pool3d(few(2, 5, 6, 7), (1, 2, 3), 1, 0, (1, 2, 1), True, True)
F.max_pool3d_with_indices(few(1, 2, 5, 6, 7), 3)
F.avg_pool1d(x(2, 3, 9), 2)
F.avg_pool1d(x(3, 9), 3, 2, 1, True, False)
F.avg_pool2d(x(2, 3, 8, 9), 2)
F.avg_pool2d(x(2, 3, 8, 9), 3, 2, 1)
F.avg_pool2d(x(2, 3, 8, 9), (3, 2), (2, 3), (1, 0), True)
F.avg_pool2d(x(3, 8, 9), 3, 2, 1, True, False)
F.avg_pool2d(x(2, 3, 8, 9), 3, 3, 1, True, True, 4)
F.avg_pool2d(x(2, 3, 8, 9), 3, divisor_override=-2)
F.avg_pool2d(ints(2, 3, 8, 9), 3, 2, 1)
F.avg_pool2d(x(2, 3, 8, 9).half().detach(), 3, 2)
F.avg_pool3d(x(1, 2, 5, 6, 7), 3, 2, 1, True, False)
F.avg_pool3d(x(2, 5, 6, 7), (1, 2, 3), count_include_pad=False, divisor_override=5)
F.lp_pool1d(x(2, 3, 9), 2, 3)
F.lp_pool2d(x(2, 3, 8, 9).abs(), 1.5, (2, 3), 2, True)
F.lp_pool2d(x(2, 3, 8, 9), 3, 2)
F.lp_pool2d(far(2, 3, 8, 9), inf, 2)
F.lp_pool3d(x(1, 2, 5, 6, 7), 2.0, 2)
F.max_unpool1d(*F.max_pool1d(far(2, 3, 8), 2, return_indices=True), 2)
F.max_unpool2d(*F.max_pool2d(far(2, 3, 8, 8), 2, return_indices=True), 2)
F.max_unpool2d(*F.max_pool2d(far(2, 3, 9, 9), 3, 2, 1, 1, False, True), 3, 2, 1)
F.max_unpool2d(*F.max_pool2d(far(3, 9, 9), 2, return_indices=True), 2, None, 0, (9, 9))
F.max_unpool2d(*F.max_pool2d(far(2, 3, 9, 9), 2, return_indices=True), 2, output_size=(2, 3, 9, 9))
F.max_unpool3d(*F.max_pool3d(far(1, 2, 4, 6, 6), 2, return_indices=True), 2)
F.adaptive_avg_pool1d(x(2, 3, 9), 4)
F.adaptive_avg_pool1d(x(3, 9), 1)
F.adaptive_avg_pool2d(x(2, 3, 8, 9), 1)
F.adaptive_avg_pool2d(x(2, 3, 8, 9), (4, 3))
F.adaptive_avg_pool2d(x(2, 3, 8, 9), (5, 11))
F.adaptive_avg_pool2d(x(3, 8, 9), (None, 4))
F.adaptive_avg_pool2d(x(2, 3, 8, 9), [1, None])
F.adaptive_avg_pool2d(x(2, 3, 8, 9).detach(), 0)
F.adaptive_avg_pool3d(x(1, 2, 5, 6, 7), (2, None, 3))
F.adaptive_avg_pool3d(x(2, 5, 6, 7), 1)
F.adaptive_max_pool1d(few(2, 3, 9), 4)
F.adaptive_max_pool1d(few(3, 9), 4, True)
F.adaptive_max_pool2d(few(2, 3, 8, 9), (4, 5), True)
F.adaptive_max_pool2d(few(3, 8, 9), (None, 3))
F.adaptive_max_pool2d_with_indices(few(2, 3, 8, 9), 3)
F.adaptive_max_pool3d(few(1, 2, 5, 6, 7), (2, 3, 9), True)
F.pixel_shuffle(x(2, 8, 3, 4), 2)
F.pixel_shuffle(x(9, 3, 4), 3)
F.pixel_unshuffle(x(2, 2, 6, 4), 2)
F.channel_shuffle(x(2, 6, 3, 4), 3)
F.channel_shuffle(x(2, 6, 3), 2)
F.native_channel_shuffle(ints(2, 6, 3, 4), 2)
nn.MaxPool2d(3, 2, 1, ceil_mode=True)(few(2, 3, 9, 9))
nn.MaxPool1d(2, return_indices=True)(few(2, 3, 9))
nn.MaxUnpool2d(2, 2)(*F.max_pool2d(far(2, 3, 9, 9), 2, return_indices=True), output_size=T.Size([9, 9]))
nn.AvgPool2d(3, 2, 1, divisor_override=3)(x(2, 3, 9, 9))
nn.AvgPool1d(3, 2, 1, count_include_pad=False)(x(2, 3, 9))
nn.LPPool2d(2, 3)(x(2, 3, 9, 9))
nn.AdaptiveAvgPool2d((None, 3))(x(2, 3, 9, 9))
nn.AdaptiveMaxPool2d(4, return_indices=True)(few(2, 3, 9, 9))
nn.Upsample(scale_factor=2.5)(x(2, 3, 4, 5))
nn.Upsample(size=7, mode='linear', align_corners=True)(x(2, 3, 5))
nn.UpsamplingBilinear2d(scale_factor=2)(x(2, 3, 4, 5))
nn.UpsamplingNearest2d((3, 9))(x(2, 3, 4, 5))
nn.PixelUnshuffle(2)(nn.PixelShuffle(2)(x(2, 8, 3, 4)))
nn.ChannelShuffle(2)(x(2, 6, 3, 4))
""".strip().splitlines()

RESIZED = [
    f"F.interpolate({x}, {size}, mode='{mode}'{corners})"
    for modes, x, sizes in (
        (("nearest", "nearest-exact", "area", "linear"), "x(2, 3, 9)", ("5", "9", "14", "(1,)", "18")),
        (
            ("nearest", "nearest-exact", "area", "bilinear", "bicubic"),
            "x(2, 2, 6, 7)",
            ("4", "(12, 21)", "(13, 2)", "1"),
        ),
        (("nearest", "nearest-exact", "area", "trilinear"), "x(1, 2, 3, 4, 5)", ("4", "(2, 8, 7)")),
    )
    for mode, size in itertools.product(modes, sizes)
    for corners in ("", ", align_corners=True")
    if not corners or mode in ("linear", "bilinear", "bicubic", "trilinear")
]
SCALED = [
    f"F.interpolate(x(2, 2, 6, 7), scale_factor={factor}, mode='{mode}', recompute_scale_factor={again})"
    for mode, factor, again in itertools.product(
        ("nearest", "nearest-exact", "area", "bilinear", "bicubic"), ("2", "0.6", "(1.7, 3.2)", "1.0"), (None, True)
    )
]
OTHERS = [
    *[
        f"F.interpolate(x(2, 2, 9, 7), {size}, mode='{mode}', antialias=True, align_corners={corners})"
        for size, mode, corners in itertools.product(("4", "(5, 16)"), ("bilinear", "bicubic"), (False, True))
    ],
    *[
        f"F.interpolate(x(1, 1, 37), {n}, mode='{m}').float()"
        for n in (1, 97, 100)
        for m in ("nearest", "nearest-exact")
    ],
    *[
        f"F.interpolate(x(1, 1, 2).float(), {n}, mode='{m}').detach()"
        for n in (97, 100)
        for m in ("nearest-exact", "linear")
    ],
    "F.interpolate(ints(2, 3, 5, 6).to(T.uint8), (3, 8))",
    "F.interpolate(x(2, 3, 5, 6).half().detach(), 4, mode='bilinear')",
    "F.interpolate(x(0, 3, 5, 6), 4)",
]


@pytest.mark.parametrize("text", VALUES)
def test_equals_torch(text: str) -> None:
    same(text)


@pytest.mark.parametrize("text", RESIZED + SCALED + OTHERS)
def test_resizing_equals_torch(text: str) -> None:
    same(text)


LAYERS = """
nn.MaxPool1d(3, 2, 1, 1, True, True)
nn.MaxPool2d(2)
nn.MaxPool3d((1, 2, 3))
nn.MaxUnpool1d(2, 1, 1)
nn.MaxUnpool2d(2)
nn.MaxUnpool3d((1, 2, 3))
nn.AvgPool1d(2)
nn.AvgPool2d((2, 3), 1, 1, True, False, 4)
nn.AvgPool3d(2)
nn.LPPool1d(2, 3)
nn.LPPool2d(2, 3, ceil_mode=True)
nn.LPPool3d(2.5, 3, 1)
nn.AdaptiveAvgPool1d(3)
nn.AdaptiveAvgPool2d((None, 3))
nn.AdaptiveAvgPool3d([1, 2, 3])
nn.AdaptiveMaxPool1d(2, True)
nn.AdaptiveMaxPool2d(2)
nn.AdaptiveMaxPool3d((1, 2, 3))
nn.Upsample(scale_factor=2)
nn.Upsample(size=(3, 4), mode='bilinear', align_corners=True)
nn.Upsample(scale_factor=(2, 3.0), mode='bicubic', recompute_scale_factor=True)
nn.UpsamplingNearest2d(3)
nn.UpsamplingBilinear2d(scale_factor=2)
nn.PixelShuffle(2)
nn.PixelUnshuffle(3)
nn.ChannelShuffle(2)
""".strip().splitlines()


@pytest.mark.parametrize("text", LAYERS)
def test_layer_equals_torch(text: str) -> None:
    same_layer(text)


# (expression, what both texts have in common)
ERRORS = [
    ("F.max_pool2d(x(8, 8), 2)", "tensor"),
    ("F.max_pool2d(x(1, 1, 3, 8, 8), 2)", "tensor"),
    ("F.max_pool2d(x(2, 0, 8, 8), 2)", "with optional 0 dim batch size for input, but got:[2, 0, 8, 8]"),
    ("F.max_pool2d(x(2, 3, 0, 8), 2)", "but got:[2, 3, 0, 8]"),
    ("F.max_pool2d(x(2, 3, 8, 8), 2, padding=2)", "pad should be at most half of effective kernel size, but got pad=2"),
    ("F.max_pool2d(x(2, 3, 8, 8), 2, padding=-1)", "pad must be non-negative, but got pad: -1"),
    (
        "F.max_pool2d(x(2, 3, 8, 8), 9)",
        "Given input size: (3x8x8). Calculated output size: (3x0x0). Output size is too small",
    ),
    ("F.max_pool2d(x(2, 3, 8, 8), 2, 0)", "stride should not be zero"),
    ("F.max_pool2d(x(2, 3, 8, 8), 0)", "stride should not be zero"),
    (
        "F.max_pool2d(x(2, 3, 8, 8), 2, dilation=0)",
        "dilation should be greater than zero, but got dilationH: 0 dilationW: 0",
    ),
    ("F.max_pool2d(x(2, 3, 8, 8), (2, 2, 2))", "kernel_size must either be a single int, or a tuple of two ints"),
    (
        "F.max_pool2d(x(2, 3, 8, 8), 2, (2, 2, 2))",
        "stride must either be omitted, a single int, or a tuple of two ints",
    ),
    (
        "F.max_pool2d(x(2, 3, 8, 8), 2, padding=(1, 1, 1))",
        "padding must either be a single int, or a tuple of two ints",
    ),
    ("F.max_pool2d(x(2, 3, 8, 8), 2.0)", "argument 'kernel_size' (position 2) must be tuple of ints, not float"),
    ("F.max_pool2d(x(2, 3, 8, 8) > 0, 2)", "not implemented for 'Bool'"),
    ("F.max_pool2d([1.0], 2)", "argument 'input' (position 1) must be Tensor, not list"),
    ("F.max_pool1d(x(8), 2)", "Expected 2D or 3D (batch mode) tensor with optional 0 dim batch size for input"),
    ("F.max_pool1d(x(3, 8), 2, padding=2)", "max_pool1d() padding should be at most half of kernel size"),
    ("F.max_pool1d(x(3, 8), 9)", "max_pool1d() Invalid computed output size: 0"),
    (
        "F.max_pool1d(x(3, 8), (2, 2))",
        "kernel_size must be an int, list of ints or tuple of ints of size 1 but got size 2",
    ),
    ("F.max_pool3d(x(3, 8), 2)", "tensor"),
    (
        "F.avg_pool2d(x(1, 1, 3, 8, 8), 2)",
        "Expected 3D or 4D (batch mode) tensor with optional 0 dim batch size for input",
    ),
    ("F.avg_pool2d(x(2, 3, 8, 8), 2, padding=2)", "pad should be at most half of effective kernel size"),
    ("F.avg_pool2d(x(2, 3, 8, 8), 9)", "Output size is too small"),
    ("F.avg_pool2d(x(2, 3, 8, 8), 2, divisor_override=0)", "divisor must be not zero"),
    ("F.avg_pool2d(x(2, 3, 8, 8) > 0, 2)", "not implemented for 'Bool'"),
    ("F.avg_pool1d(x(8), 2)", "tensor"),
    ("F.adaptive_avg_pool2d(x(8, 8), 3)", "adaptive_avg_pool2d(): Expected 3D or 4D tensor, but got [8, 8]"),
    ("F.adaptive_avg_pool2d(x(2, 3, 8, 8), (3, 3, 3))", "adaptive_avg_pool2d: output_size must be 2"),
    ("F.adaptive_avg_pool2d(x(2, 3, 8, 8), -1)", "greater than or equal to 0 but received {-1, -1}"),
    ("F.adaptive_avg_pool2d(ints(2, 3, 8, 8), 3)", "\"adaptive_avg_pool2d\" not implemented for 'Long'"),
    ("F.adaptive_avg_pool2d(x(2, 3, 0, 8), 3)", "has sizes [2, 3, 0, 8] with dimension 2 being empty"),
    ("F.adaptive_max_pool2d(x(8, 8), 3)", "adaptive_max_pool2d(): Expected 3D or 4D tensor, but got"),
    ("F.adaptive_max_pool2d(x(2, 3, 0, 8), 3)", "input has sizes [2, 3, 0, 8] with dimension 2 being empty"),
    ("F.adaptive_max_pool3d(x(3, 8), 3)", "adaptive_max_pool3d(): Expected 4D or 5D tensor, but got"),
    ("F.max_unpool2d(x(1, 1, 2, 2), ints(1, 1, 2, 2) * 0 + 54, 2)", "Found an invalid max index: 54"),
    (
        "F.max_unpool2d(x(1, 1, 2, 2), ints(1, 2, 2), 2)",
        "Expected shape of indices to be same as that of the input tensor",
    ),
    ("F.max_unpool2d(x(1, 1, 2, 2), x(1, 1, 2, 2), 2)", "elements in indices should be type int64 but got: Double"),
    ("F.max_unpool2d(x(1, 1, 2, 2), ints(1, 1, 2, 2), 2, output_size=(9, 9))", "(dim 0 must be between 2 and 6)"),
    (
        "F.max_unpool2d(x(1, 1, 2, 2), ints(1, 1, 2, 2), 2, output_size=(4,))",
        "containing 2 or 4 elements, but it has a length",
    ),
    ("F.max_unpool2d(x(2, 2), ints(2, 2), 2)", "should be a 3d or 4d Tensor, but got a tensor with 2 dimensions."),
    ("F.interpolate(x(1, 1, 4, 4))", "either size or scale_factor should be defined"),
    ("F.interpolate(x(1, 1, 4, 4), 2, 2.0)", "only one of size or scale_factor should be defined"),
    ("F.interpolate(x(1, 1, 4, 4), (2, 2, 2))", "Input and output must have the same number of spatial dimensions"),
    (
        "F.interpolate(x(1, 1, 4, 4), scale_factor=(2, 2, 2))",
        "Input and scale_factor must have the same number of spatial",
    ),
    ("F.interpolate(x(1, 1, 4, 4), 2, mode='cubic')", "(got cubic)"),
    ("F.interpolate(x(1, 1, 4), 2, mode='bilinear')", "Got 3D input, but bilinear mode needs 4D input"),
    ("F.interpolate(x(1, 1, 4), 2, mode='bicubic')", "Only 3D, 4D and 5D input Tensors supported (got 3D)"),
    ("F.interpolate(x(4, 4), 2)", "Only 3D, 4D and 5D input Tensors supported (got 2D)"),
    ("F.interpolate(x(1, 1, 4, 4), 2, align_corners=True)", "align_corners option can only be set with"),
    ("F.interpolate(x(1, 1, 4, 4), 2, recompute_scale_factor=True)", "not meaningful with an explicit size."),
    ("F.interpolate(x(1, 1, 4, 4), 2, antialias=True)", "Anti-alias option is restricted to"),
    (
        "F.interpolate(x(1, 1, 4, 4), 0)",
        "Input and output sizes should be greater than 0, but got input (H: 4, W: 4) output",
    ),
    ("F.interpolate(x(1, 1, 4, 4), scale_factor=0.1)", "output (H: 0, W: 0)"),
    ("F.interpolate(x(1, 0, 4, 4), 2)", "Non-empty 4D data tensor expected but got a tensor with sizes [1, 0, 4, 4]"),
    ("F.interpolate(x(1, 1, 4, 4), (2.0, 2.0))", "expected size to be one of int or Tuple[int]"),
    ("F.interpolate(ints(1, 1, 4, 4), 2)", "not implemented for 'Long'"),
    ("nn.Upsample(size=2, scale_factor=2)(x(1, 1, 4, 4))", "only one of size or scale_factor should be defined"),
    ("F.pixel_shuffle(x(1, 6, 2, 2), 2)", "input.size(-3)=6 is not divisible by 4"),
    ("F.pixel_shuffle(x(2, 2), 2)", "at least 3 dimensions, but got input with 2 dimension(s)"),
    ("F.pixel_shuffle(x(1, 8, 2, 2), 0)", "pixel_shuffle expects a positive upscale_factor, but got 0"),
    ("F.pixel_unshuffle(x(1, 2, 5, 4), 2)", "input.size(-2)=5 is not divisible by 2"),
    ("F.pixel_unshuffle(x(1, 2, 4, 5), 2)", "input.size(-1)=5 is not divisible by 2"),
    ("F.channel_shuffle(x(1, 5, 2, 2), 2)", "Got 5 channels and 2 groups."),
    ("F.channel_shuffle(x(1, 4, 2, 2), 0)", "Number of groups to divide channels in must be positive."),
    ("F.channel_shuffle(x(4, 2), 2)", "channel_shuffle expects input with > 2 dims"),
]


@pytest.mark.parametrize(("text", "words"), ERRORS, ids=[t for t, _ in ERRORS])
def test_wrong_calls_raise_as_torch(text: str, words: str) -> None:
    same_error(text, words)


NODES = {
    "max_pool2d(x, 2)": "MaxPool2DWithIndicesBackward0",
    "avg_pool2d(x, 2)": "AvgPool2DBackward0",
    "adaptive_avg_pool2d(x, 3)": "AdaptiveAvgPool2DBackward0",
    "adaptive_avg_pool2d(x, 1)": "MeanBackward1",
    "adaptive_max_pool2d(x, 3)": "AdaptiveMaxPool2DBackward0",
    "interpolate(x, 3)": "UpsampleNearest2DBackward0",
    "interpolate(x, 3, mode='nearest-exact')": "UpsampleNearestExact2DBackward0",
    "interpolate(x, 3, mode='bilinear')": "UpsampleBilinear2DBackward0",
    "interpolate(x, 3, mode='bicubic')": "UpsampleBicubic2DBackward0",
    "pixel_shuffle(x, 2)": "PixelShuffleBackward0",
    "pixel_unshuffle(x, 2)": "PixelUnshuffleBackward0",
    "channel_shuffle(x, 2)": "ChannelShuffleBackward0",
}


@pytest.mark.parametrize("text", NODES)
def test_node_names_equal_torch(text: str) -> None:
    for library in (torch, pytest.importorskip("torch")):
        x = library.ones(1, 4, 4, 4, requires_grad=True)
        out = eval("F." + text, {"F": library.nn.functional, "x": x})
        assert out.grad_fn.name() == NODES[text]


@pytest.mark.parametrize("indices", [False, True])
def test_nans_and_infinities_equal_torch(indices: bool) -> None:
    """A nan is the maximum of its windows and takes their gradients; windows of -inf alone have their first place."""
    array = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    array[0, 0, 1, 1] = array[0, 0, 2, 3] = np.nan
    array[1, 1] = -np.inf
    found = []
    for library in (torch, pytest.importorskip("torch")):
        x = library.tensor(array, requires_grad=True)
        out = library.nn.functional.max_pool2d(x, 3, 2, 1, return_indices=indices)
        (out[0] if indices else out).backward(library.arange(96.0, dtype=library.float64).reshape(2, 3, 4, 4))
        found.append([t.detach().cpu().numpy() for t in (x.grad, *(out if indices else [out]))])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["upsample", "upsample_nearest", "upsample_bilinear"])
def test_old_names_warn(name: str) -> None:
    x = torch.randn(1, 1, 2, 2)
    with pytest.warns(
        UserWarning, match=f"`nn.functional.{name}` is deprecated. Use `nn.functional.interpolate` instead."
    ):
        assert getattr(F, name)(x, scale_factor=2).shape == (1, 1, 4, 4)


# ---- without torch ---------------------------------------------------------------------------------------------------


def test_maxima_worked_out_by_hand() -> None:
    x = torch.tensor([[[1.0, 3.0, 3.0, 2.0, 0.0, -1.0]]], requires_grad=True)
    out, indices = F.max_pool1d(x, 3, return_indices=True)
    assert out.tolist() == [[[3.0, 2.0]]] and indices.tolist() == [[[1, 3]]] and indices.dtype == torch.int64
    F.max_pool1d(x, 3, 1).sum().backward()
    assert x.grad.tolist() == [[[0, 2, 1, 1, 0, 0]]]  # of equal maxima the first
    assert F.max_unpool1d(out, indices, 3).tolist() == [[[0, 3, 0, 2, 0, 0]]]
    assert F.max_pool1d(x, 4, 4, ceil_mode=True).tolist() == [[[3, 0]]]


def test_means_worked_out_by_hand() -> None:
    x = torch.arange(1.0, 6).reshape(1, 1, 5).requires_grad_()
    assert F.avg_pool1d(x, 2).tolist() == [[[1.5, 3.5]]]
    assert F.avg_pool1d(x, 2, ceil_mode=True).tolist() == [[[1.5, 3.5, 5.0]]]
    assert F.avg_pool1d(x, 2, padding=1).tolist() == [[[0.5, 2.5, 4.5]]]
    assert F.avg_pool1d(x, 2, padding=1, count_include_pad=False).tolist() == [[[1.0, 2.5, 4.5]]]
    assert F.adaptive_avg_pool1d(x, 2).tolist() == [[[2.0, 4.0]]]
    F.avg_pool1d(x, 3, 1).sum().backward()
    assert [round(3 * v) for v in x.grad.flatten().tolist()] == [1, 2, 3, 2, 1]
    assert F.lp_pool1d(torch.tensor([[3.0, 4.0]]), 2, 2).item() == pytest.approx(5.0)


def test_resizing_worked_out_by_hand() -> None:
    x = torch.tensor([[[0.0, 4.0]]])
    assert F.interpolate(x, 4).tolist() == [[[0, 0, 4, 4]]]
    assert F.interpolate(x, 4, mode="linear").tolist() == [[[0, 1, 3, 4]]]
    assert F.interpolate(x, 5, mode="linear", align_corners=True).tolist() == [[[0, 1, 2, 3, 4]]]
    assert F.interpolate(x, 1, mode="area").tolist() == [[[2]]]
    y = torch.arange(8.0).reshape(1, 4, 1, 2)
    assert F.pixel_shuffle(y, 2).tolist() == [[[[0, 2, 1, 3], [4, 6, 5, 7]]]]
    assert F.pixel_unshuffle(F.pixel_shuffle(y, 2), 2).tolist() == y.tolist()
    assert F.channel_shuffle(y, 2)[0, :, 0, 0].tolist() == [0, 4, 2, 6]


def test_a_nan_reaches_no_further_than_it_must() -> None:
    x = torch.zeros(1, 1, 8)
    x[0, 0, 0] = torch.nan
    assert F.interpolate(x, 16, mode="linear").isnan().sum() == 3
    leaf = torch.zeros(1, 1, 4, requires_grad=True)
    out = F.interpolate(leaf, 7, mode="linear")
    out.backward(torch.tensor([[[torch.nan, 0, 0, 0, 0, 0, 0]]]))
    assert leaf.grad.isnan().tolist() == [[[True, True, False, False]]]


@pytest.mark.parametrize("block", [1, 100, 1 << 10])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """However the kernel cuts planes into blocks, the numbers are the same."""
    x = torch.randn(3, 4, 7, 6).requires_grad_()

    def run() -> list[np.ndarray]:
        out = F.max_pool2d(x, (2, 3), 2, (1, 1), ceil_mode=True)
        grad = torch.autograd.grad(out, x, torch.ones_like(out))[0]
        return [out.detach().cpu().numpy(), grad.cpu().numpy()]

    whole = run()
    monkeypatch.setattr(pool_kernels, "BLOCK", block)
    for a, b in zip(run(), whole, strict=True):
        np.testing.assert_array_equal(a, b)
