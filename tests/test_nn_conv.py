"""Convolution, its transposes, padding, unfold and fold: beside torch, and small cases worked out by hand."""

from __future__ import annotations

import copy
import pickle

import pytest
import tapegrad as torch
from spatial import same, same_error, same_layer

F = torch.nn.functional

VALUES = """
F.conv1d(x(2, 3, 8), x(4, 3, 3))
F.conv1d(x(2, 4, 9), x(6, 2, 3), x(6), 2, 1, 2, 2)
F.conv1d(x(3, 8), x(4, 3, 3), x(4), padding='same')
F.conv1d(x(2, 3, 8), x(4, 3, 4), padding='same', dilation=3)
F.conv2d(x(2, 3, 8, 8), x(4, 3, 3, 3), x(4))
F.conv2d(x(2, 3, 8, 7), x(4, 3, 3, 2), x(4), stride=2, padding=(1, 0))
F.conv2d(x(2, 3, 8, 7), x(4, 3, 3, 2), None, (2,), [1], (1, 2))
F.conv2d(x(3, 6, 7), x(4, 3, 2, 3), x(4), padding='same')
F.conv2d(x(2, 3, 6, 7), x(4, 3, 2, 3), x(4), padding='valid', stride=3)
F.conv2d(x(2, 6, 5, 5), x(6, 1, 3, 3), x(6), padding=1, groups=6)
F.conv2d(x(2, 3, 5, 5), x(6, 1, 3, 3), x(6), padding=1, stride=2, groups=3)
F.conv2d(x(2, 6, 5, 5), x(4, 3, 3, 3), x(4), padding=3, groups=2)
F.conv2d(x(2, 8, 5, 6), x(3, 8, 1, 1), x(3))
F.conv2d(x(2, 8, 5, 6), x(3, 8, 1, 1), x(3), stride=2)
F.conv2d(x(2, 2, 12, 12), x(20, 2, 5, 5), x(20))
F.conv2d(x(2, 3, 8, 8).transpose(2, 3), x(4, 3, 3, 3).flip(3), x(4))
F.conv2d(x(0, 3, 8, 8), x(4, 3, 3, 3), x(4))
F.conv2d(x(2, 3, 8, 8).float(), x(4, 3, 3, 3).float(), x(4).float(), padding=1)
F.conv2d(ints(2, 3, 5, 5), ints(4, 3, 3, 3))
F.conv3d(x(2, 2, 4, 5, 6), x(4, 2, 2, 3, 3), x(4), (1, 2, 1), 1)
F.conv3d(x(2, 4, 5, 6), x(4, 1, 2, 2, 2), None, 1, (1, 0, 1), (1, 2, 1), 2)
F.conv_transpose1d(x(2, 4, 6), x(4, 3, 3), x(3), 2, 1, 1)
F.conv_transpose1d(x(4, 6), x(4, 3, 3), x(6), 3, groups=2, dilation=2, output_padding=2)
F.conv_transpose2d(x(2, 4, 5, 6), x(4, 3, 3, 3), x(3))
F.conv_transpose2d(x(2, 4, 5, 6), x(4, 3, 3, 2), x(3), 2, 1, 1)
F.conv_transpose2d(x(2, 4, 5, 6), x(4, 3, 3, 3), x(3), (2, 3), (1, 2), (1, 0), 1, (1, 2))
F.conv_transpose2d(x(2, 4, 5, 6), x(4, 3, 3, 3), x(6), 2, 1, 0, 2)
F.conv_transpose2d(x(2, 4, 5, 5), x(4, 1, 3, 3), x(4), 2, 1, groups=4)
F.conv_transpose2d(x(2, 4, 5, 6), x(4, 3, 3, 3), x(3), 1, 0, 1, 1, 2)
F.conv_transpose2d(x(4, 5, 6), x(4, 3, 2, 2), None, 3)
F.conv_transpose2d(x(2, 4, 5, 6), x(4, 3, 1, 1), x(3), 2)
F.conv_transpose2d(x(0, 4, 5, 6), x(4, 3, 2, 2), x(3))
F.conv_transpose2d(x(2, 16, 5, 5), x(16, 2, 5, 5), x(2))
F.conv_transpose3d(x(2, 2, 3, 4, 3), x(2, 3, 2, 2, 3), x(3), (1, 2, 2), (0, 1, 1), (0, 1, 0))
F.unfold(x(2, 3, 6, 7), (2, 3), 2, 1, 2)
F.unfold(x(3, 6, 7), 2)
F.fold(x(2, 12, 9), (5, 6), (2, 3), 1, 1, 2)
F.fold(x(12, 25), 6, 2)
F.pad(x(2, 3), (1, 2))
F.pad(x(2, 3, 4), (1, -2, 0, 3, 2, 2), value=1.5)
F.pad(x(2, 3, 4), ())
F.pad(x(2, 3, 4), (0, 0))
F.pad(ints(2, 3), (1, 2), value=2.5)
F.pad(ints(2, 3) > 0, (1, 2), value=True)
F.pad(x(2, 3), (2, 1), 'reflect')
F.pad(x(2, 3, 4, 5), (4, 2, 1, 3), 'reflect')
F.pad(x(3, 4, 5), (1, 2, -1, 3), 'reflect')
F.pad(x(1, 2, 3, 4, 5), (1, 2, 0, 1, 2, 2), 'reflect')
F.pad(x(2, 3, 4, 5), (6, 2, -1, -2), 'replicate')
F.pad(x(2, 3, 4, 5), (2, 1, 3, 0, 0, 2), 'replicate')
F.pad(ints(2, 3, 4), (2, 1), 'replicate')
F.pad(x(2, 3, 4, 5), (5, 2, 1, 3), 'circular')
F.pad(x(2, 3, 4, 5), (-2, 3, 2, -1), 'circular')
F.pad(x(0, 3, 4), (2, 1), 'reflect')
nn.Conv2d(3, 4, 3, padding=1, padding_mode='reflect').double()(x(2, 3, 5, 6))
nn.Conv2d(3, 4, (3, 4), padding='same', padding_mode='circular').double()(x(2, 3, 5, 6))
nn.Conv2d(3, 4, 3, padding='valid', padding_mode='replicate').double()(x(2, 3, 5, 6))
nn.Conv1d(3, 4, 3, padding=2, padding_mode='replicate').double()(x(3, 5))
nn.Conv3d(2, 4, 3, padding=1, padding_mode='circular').double()(x(2, 2, 3, 4, 5))
nn.ConvTranspose2d(3, 4, 3, stride=2).double()(x(2, 3, 5, 6), output_size=(12, 14))
nn.ConvTranspose1d(3, 4, 3, stride=2).double()(x(2, 3, 5), output_size=(2, 4, 11))
nn.ConvTranspose3d(2, 4, 2, stride=2).double()(x(2, 3, 2, 2), (7, 4, 5))
nn.ReflectionPad2d((1, 2, 0, 1))(x(2, 3, 4))
nn.ZeroPad2d((1, -1, 0, 1))(x(3, 4))
nn.CircularPad3d(1)(x(2, 3, 2, 2))
nn.ConstantPad1d(2, 3.5)(x(3, 4))
nn.ReplicationPad3d(1)(x(1, 2, 3, 2, 2))
""".strip().splitlines()


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")  # torch's, about a copy
@pytest.mark.parametrize("text", VALUES)
def test_equals_torch(text: str) -> None:
    same(text)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex128"])
def test_other_dtypes_equal_torch(dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    same(f"F.conv2d(x(2, 3, 6, 6).to(T.{dtype}), x(4, 3, 3, 3).to(T.{dtype}), x(4).to(T.{dtype}), 2, 1).abs().detach()")


LAYERS = """
nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2)
nn.Conv2d(3, 8, 3)
nn.Conv2d(3, 8, (3, 5), stride=(2, 1), padding='valid', bias=False)
nn.Conv2d(3, 8, 3, padding='same', padding_mode='reflect')
nn.Conv2d(3, 8, 4, 1, 'same', 3, padding_mode='circular')
nn.Conv2d(3, 8, (3,))
nn.Conv2d(4, 8, 3, padding=1, groups=4, dtype=T.float64)
nn.Conv3d(2, 4, (1, 2, 3), padding=(0, 1, 2))
nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1, groups=2)
nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, bias=False, dilation=2)
nn.ConvTranspose3d(2, 4, 2, stride=(1, 2, 2))
nn.Fold(4, 2)
nn.Unfold((2, 3), 1, 0, 2)
nn.ConstantPad1d(2, 3.5)
nn.ConstantPad2d((1, 2, 3, 4), 0)
nn.ConstantPad3d(1, 2)
nn.ZeroPad1d(1)
nn.ZeroPad2d((1, 2, 3, 4))
nn.ZeroPad3d(2)
nn.ReflectionPad1d(1)
nn.ReflectionPad2d([1, 2, 3, 4])
nn.ReflectionPad3d(1)
nn.ReplicationPad1d(1)
nn.ReplicationPad2d((1, 2, 3, 4))
nn.ReplicationPad3d(1)
nn.CircularPad1d(1)
nn.CircularPad2d(1)
nn.CircularPad3d(1)
""".strip().splitlines()


@pytest.mark.parametrize("text", LAYERS)
def test_layer_equals_torch(text: str) -> None:
    same_layer(text)


# (expression, what both texts have in common)
ERRORS = [
    (
        "F.conv2d(x(2, 5, 8, 8), x(4, 3, 3, 3))",
        "expected input[2, 5, 8, 8] to have 3 channels, but got 5 channels instead",
    ),
    ("F.conv2d(x(8, 8), x(4, 3, 3, 3))", "Expected 3D (unbatched) or 4D (batched) input to conv2d"),
    ("F.conv2d(x(1, 2, 3, 8, 8), x(4, 3, 3, 3))", "got input of size: [1, 2, 3, 8, 8]"),
    ("F.conv1d(x(8), x(4, 3, 3))", "Expected 2D (unbatched) or 3D (batched) input to conv1d"),
    ("F.conv3d(x(2, 8, 8), x(4, 3, 3, 3, 3))", "Expected 4D (unbatched) or 5D (batched) input to conv3d"),
    ("F.conv1d(x(2, 3, 8), x(4, 3, 3, 3))", "Expected 4-dimensional input for 4-dimensional weight [4, 3, 3, 3]"),
    ("F.conv2d(x(2, 3, 8, 8), x(4, 3, 3, 3), x(3))", "expected bias to be 1-dimensional with 4 elements"),
    (
        "F.conv2d(x(2, 3, 2, 2), x(4, 3, 3, 3))",
        "Calculated padded input size per channel: (2 x 2). Kernel size: (3 x 3).",
    ),
    ("F.conv2d(x(2, 3, 8, 8), x(4, 3, 3, 3).float())", "expected scalar type Double but found Float"),
    (
        "F.conv2d(x(2, 3, 8, 8), x(4, 3, 3, 3), x(4).float())",
        "Input type (double) and bias type (float) should be the same",
    ),
    ("F.conv2d(x(2, 3, 8, 8) > 0, x(4, 3, 3, 3) > 0)", "not implemented for 'Bool'"),
    ("F.conv2d(x(2, 3, 8, 8), x(4, 3, 3, 3), padding=-1)", "negative padding is not supported"),
    ("F.conv2d(x(2, 3, 8, 8), x(4, 3, 3, 3), stride=0)", "non-positive stride is not supported"),
    ("F.conv2d(x(2, 3, 8, 8).float(), x(4, 3, 3, 3).float(), dilation=0)", "non-positive dilation is not supported"),
    ("F.conv2d(x(2, 3, 8, 8), x(4, 3, 3, 3), groups=0)", "non-positive groups is not supported"),
    ("F.conv2d(x(2, 3, 8, 8), x(4, 3, 3, 3), groups=3)", "expected weight to be divisible by 3 at dimension 0"),
    (
        "F.conv2d(x(2, 3, 8, 8), x(4, 3, 3, 3), stride=(1, 1, 1))",
        "a list of 2 values to match the convolution dimensions",
    ),
    ("F.conv2d(x(2, 3, 8, 8), x(4, 3, 3, 3), padding='same', stride=2)", "not supported for strided convolutions"),
    ("F.conv2d(x(2, 3, 8, 8), x(4, 3, 3, 3), padding='full')", "Invalid padding string: 'full'"),
    ("F.conv2d([1.0], x(4, 3, 3, 3))", "conv2d()"),
    ("F.conv2d(x(2, 3, 8, 8), None)", "conv2d()"),
    ("F.conv2d(x(2, 3, 8, 8), x(4, 3, 3, 3), stride=1.5)", "float"),
    ("F.conv_transpose2d(x(2, 3, 5, 5), x(4, 3, 3, 3))", "to have 4 channels, but got 3 channels instead"),
    ("F.conv_transpose2d(x(2, 4, 5, 5), x(4, 3, 3, 3), x(4))", "expected bias to be 1-dimensional with 3 elements"),
    (
        "F.conv_transpose2d(x(2, 4, 5, 5), x(4, 3, 3, 3), None, 2, 0, 2)",
        "output padding must be smaller than either stride",
    ),
    ("F.conv_transpose2d(x(2, 4, 5, 5), x(4, 3, 3, 3), None, 2, 0, -1)", "negative output_padding is not supported"),
    ("F.conv_transpose2d(x(2, 4, 5, 5), x(4, 3, 3, 3), padding='same')", "must be tuple of ints, not str"),
    ("F.conv_transpose2d(x(2, 4, 5, 5), x(4, 3, 3, 3), groups=3)", "expected weight to be divisible by 3"),
    ("nn.Conv2d(3, 4, 3, groups=2)", "in_channels must be divisible by groups"),
    ("nn.Conv2d(4, 3, 3, groups=2)", "out_channels must be divisible by groups"),
    ("nn.Conv2d(4, 4, 3, groups=0)", "groups must be a positive integer"),
    ("nn.Conv2d(4, 4, 3, padding='full')", "Invalid padding string 'full', should be one of"),
    ("nn.Conv2d(4, 4, 3, padding='same', stride=2)", "padding='same' is not supported for strided convolutions"),
    ("nn.Conv2d(4, 4, 3, padding_mode='zero')", "but got padding_mode='zero'"),
    (
        "nn.ConvTranspose2d(4, 4, 3, padding_mode='reflect')",
        'Only "zeros" padding mode is supported for ConvTranspose2d',
    ),
    (
        "nn.ConvTranspose2d(4, 3, 3, 2).double()(x(2, 4, 5, 5), [14, 12])",
        "requested an output size of [14, 12], but valid",
    ),
    ("nn.ConvTranspose2d(4, 3, 3, 2).double()(x(2, 4, 5, 5), [14])", "output_size must have 2 or 4 elements (got 1)"),
    ("nn.Conv2d(3, 4, 3)(x(2, 3, 8, 8))", "Input type (double) and bias type (float) should be the same"),
    ("F.conv2d(x(2, 3, 8, 8).float(), x(4, 3, 3, 3))", "type (torch.FloatTensor) and weight type (torch.DoubleTensor)"),
    ("F.pad(x(2, 3), (1,))", "Padding length must be divisible by 2"),
    (
        "F.pad(x(2, 3), (1, 1, 1, 1, 1, 1))",
        "Padding length should be less than or equal to two times the input dimension",
    ),
    ("F.pad(x(2, 3), (-2, -2))", "narrow(): length must be non-negative."),
    ("F.pad(x(2, 3), (1, 1), 'mirror')", "Unrecognised padding mode mirror"),
    ("F.pad(x(2, 3), (1, 1), 'reflect', 1.0)", "doesn't take in value argument"),
    ("F.pad(x(2, 3), (3, 0), 'reflect')", "Padding size should be less than the corresponding input dimension"),
    ("F.pad(x(2, 3), (4, 0), 'circular')", "Padding value causes wrapping around more than once."),
    ("F.pad(x(1, 2, 3), (-2, -2), 'circular')", "Negative padding value is resulting in an empty dimension"),
    ("F.pad(x(1, 2, 3), (-2, -2), 'replicate')", "input (W: 3) is too small. Calculated output W: -1"),
    ("F.pad(x(1, 2, 3, 4), (1, 1), 'reflect')", "Padding size 2 is not supported for 4D input tensor."),
    ("F.pad(x(1, 0, 3), (1, 1), 'reflect')", "other non-zero dimensions for input, but got: [1, 0, 3]"),
    ("F.pad(x(1, 2, 3) > 0, (1, 1), 'replicate')", "\"replication_pad1d\" not implemented for 'Bool'"),
    ("F.pad(x(2, 3), 1)", "must be tuple of ints, not int"),
    ("F.pad(x(2, 3), (1.0, 1.0))", "found element of type float at pos 0"),
    ("nn.CircularPad2d(1)(x(4, 4))", "expected 3D or 4D input (got 2D input)"),
    ("nn.ReflectionPad2d(1)(x(4, 4))", "Padding size 4 is not supported for 2D input tensor."),
    ("F.unfold(x(2, 3, 8, 8), 9)", "calculated shape of the array of sliding blocks as (0, 0)"),
    ("F.unfold(x(2, 3, 8, 8), (2, 2, 2))", "It is expected kernel_size equals to 2, but got size 3"),
    ("F.unfold(x(2, 3, 8, 8), 2, stride=0)", "stride should be greater than zero"),
    ("F.unfold(x(2, 3, 8, 8), 2, dilation=0)", "dilation should be greater than zero"),
    ("F.unfold(x(2, 3, 8, 8), 2, padding=-1)", "padding should be non-negative"),
    ("F.unfold(ints(2, 3, 8, 8), 2)", "not implemented for 'Long'"),
    (
        "F.fold(x(2, 12, 48), 8, 2)",
        "to match the calculated number of sliding blocks 7 * 7 = 49, but got input.size(2)=48.",
    ),
    ("F.fold(x(2, 5, 49), 8, 2)", "to be divisible by the product of kernel_size, but got input.size(1)=5"),
    ("F.fold(x(49), 8, 2)", "Expected 2D or 3D (batch mode) tensor"),
    ("F.fold(x(2, 12, 49), (8, 8, 8), 2)", "It is expected output_size equals to 2, but got size 3"),
]


@pytest.mark.parametrize(("text", "words"), ERRORS, ids=[t for t, _ in ERRORS])
def test_wrong_calls_raise_as_torch(text: str, words: str) -> None:
    same_error(text, words)


def test_node_names_equal_torch() -> None:
    x, w, b = torch.ones(1, 2, 4, 4), torch.ones(3, 2, 2, 2, requires_grad=True), torch.ones(3, requires_grad=True)
    out = F.conv2d(x, w, b)
    assert out.grad_fn.name() == "ConvolutionBackward0"
    first, *rest = out.grad_fn.next_functions
    assert first[0] is None and [f.name() for f, _ in rest] == ["torch::autograd::AccumulateGrad"] * 2
    assert F.conv_transpose2d(x, w.transpose(0, 1)).grad_fn.name() == "ConvolutionBackward0"
    assert F.pad(w, (1, 1)).grad_fn.name() == "ConstantPadNdBackward0"
    assert F.unfold(w, 2).grad_fn.name() == "Im2ColBackward0"


# ---- without torch ---------------------------------------------------------------------------------------------------


def test_worked_out_by_hand() -> None:
    x = torch.arange(1.0, 10).reshape(1, 1, 3, 3).requires_grad_()
    w = torch.tensor([[[[1.0, 0.0], [0.0, -1.0]]]], requires_grad=True)
    b = torch.tensor([10.0], requires_grad=True)
    out = F.conv2d(x, w, b)
    assert out.tolist() == [[[[6.0, 6.0], [6.0, 6.0]]]]
    out.sum().backward()
    assert x.grad.tolist() == [[[[1.0, 1.0, 0.0], [1.0, 0.0, -1.0], [0.0, -1.0, -1.0]]]]
    assert w.grad.tolist() == [[[[12.0, 16.0], [24.0, 28.0]]]]
    assert b.grad.tolist() == [4.0]
    assert F.conv_transpose2d(torch.ones(1, 1, 1, 2), w, stride=2).tolist() == [
        [[[1.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, -1.0]]]
    ]
    assert F.conv1d(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[[1.0, 1.0]]]), padding="same").tolist() == [
        [3, 5, 3]
    ]


def test_padding_worked_out_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert F.pad(x, (2, 1)).tolist() == [[0, 0, 1, 2, 3, 0]]
    assert F.pad(x, (-1, 1), value=9.0).tolist() == [[2, 3, 9]]
    assert F.pad(x, (2, 2), "reflect").tolist() == [[3, 2, 1, 2, 3, 2, 1]]
    assert F.pad(x, (2, 1), "replicate").tolist() == [[1, 1, 1, 2, 3, 3]]
    assert F.pad(x, (2, 1), "circular").tolist() == [[2, 3, 1, 2, 3, 1]]


def test_fold_undoes_unfold_but_for_the_counts() -> None:
    x = torch.arange(25.0, dtype=torch.float64).reshape(1, 1, 5, 5)
    columns = F.unfold(x, 3, padding=1)
    assert columns.shape == (1, 9, 25)
    counts = F.fold(F.unfold(torch.ones_like(x), 3, padding=1), 5, 3, padding=1)
    assert (F.fold(columns, 5, 3, padding=1) / counts).tolist() == x.tolist()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_convolution_is_the_adjoint(rank: int, groups: int) -> None:
    """<conv(x), y> = <x, conv_transpose(y)>."""
    conv = getattr(F, f"conv{rank}d")
    adjoint = getattr(F, f"conv_transpose{rank}d")
    x, w = (
        torch.randn(2, 4, *[7] * rank, dtype=torch.float64),
        torch.randn(6, 4 // groups, *[3] * rank, dtype=torch.float64),
    )
    out = conv(x, w, stride=2, padding=1, groups=groups)
    y = torch.randn(*out.shape, dtype=torch.float64)
    back = adjoint(y, w, stride=2, padding=1, groups=groups)
    assert back.shape == x.shape
    assert (out * y).sum().item() == pytest.approx((x * back).sum().item(), rel=1e-12)


def test_layers_are_trained_copied_and_pickled() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.ConvTranspose2d(2, 1, 2, stride=2))
    x = torch.randn(2, 1, 4, 4)
    assert model(x).shape == (2, 1, 8, 8)
    model(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other(x).tolist() == model(x).tolist()
    assert isinstance(model[0], torch.nn.modules.conv._ConvNd)
