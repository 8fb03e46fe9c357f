"""Sampling by grids, fractional pooling, bytes resized, grouped products, native functions, nn.grad."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tapegrad as torch
from spatial import Names, same, same_error, same_layer

F = torch.nn.functional

SAMPLED = [
    f"F.grid_sample(x(2, 3, 4, 5), x(2, 3, 2, 2), '{mode}', '{padding}', {align})"
    for mode, padding, align in itertools.product(
        ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection"), (True, False)
    )
] + [
    f"F.grid_sample(x(1, 2, 3, 4, 5), x(1, 2, 1, 2, 3), '{mode}', '{padding}', {align})"
    for mode, padding, align in itertools.product(
        ("bilinear", "nearest"), ("zeros", "border", "reflection"), (True, False)
    )
]

VALUES = """
F.grid_sample(x(2, 3, 4, 5), x(2, 3, 2, 2).detach(), align_corners=False)
F.grid_sample(x(2, 3, 4, 5).detach(), x(2, 3, 2, 2), align_corners=False)
F.grid_sample(x(2, 3, 1, 1), x(2, 3, 2, 2), padding_mode='reflection', align_corners=True)
F.grid_sample(x(2, 3, 4, 5).transpose(2, 3), x(2, 3, 2, 2).transpose(1, 2), align_corners=False)
F.grid_sample(x(2, 3, 4, 5), x(2, 0, 2, 2), align_corners=False)
F.grid_sample(x(1, 1, 4, 5).detach(), T.tensor([[[[nan, inf], [-inf, 1e30], [0, -5]]]]).double(), 'bilinear', 'border')
F.grid_sample(x(1, 1, 4, 5).detach(), T.tensor([[[[nan, 0]]]]).double()).isnan()
F.grid_sample(x(1, 1, 4, 5).detach(), T.tensor([[[[nan, 0]]]]).double(), 'nearest')
T.grid_sampler(x(2, 3, 4, 5), x(2, 3, 2, 2), 2, 1, True)
T.grid_sampler_2d(x(2, 3, 4, 5), x(2, 3, 2, 2), 0, 2, False)
T.grid_sampler_3d(x(1, 2, 3, 4, 5), x(1, 2, 1, 2, 3), 0, 0, False)
F.affine_grid(x(2, 2, 3), (2, 1, 3, 4), False)
F.affine_grid(x(2, 2, 3), T.Size([2, 1, 3, 4]), True)
F.affine_grid(x(1, 2, 3), [1, 1, 1, 4], False)
F.affine_grid(x(2, 3, 4), (2, 1, 3, 4, 2), True)
F.affine_grid(x(1, 3, 4), (1, 1, 3, 1, 2), False)
F.grid_sample(x(2, 1, 5, 6), F.affine_grid(x(2, 2, 3), (2, 1, 3, 4), False), align_corners=False)
F.fractional_max_pool2d(far(2, 3, 9, 8), 2, (4, 5))
F.fractional_max_pool2d(few(3, 9, 8), (3, 2), output_ratio=(0.5, 0.5), return_indices=True)
F.fractional_max_pool2d(far(1, 2, 9, 8), 3, 1, return_indices=True)
F.fractional_max_pool2d_with_indices(far(2, 1, 6, 6).float().detach(), 2, output_ratio=(0.5, 0.7))
F.fractional_max_pool2d(far(1, 2, 6, 6), 2, 3, _random_samples=T.tensor([[[.1, .9], [.5, .99]]], dtype=T.float64))
F.fractional_max_pool3d(far(1, 2, 5, 6, 7), 2, (3, 2, 4))
F.fractional_max_pool3d(few(2, 5, 6, 7), (2, 1, 3), output_ratio=(0.5, 0.6, 0.4), return_indices=True)
nn.FractionalMaxPool2d((2, 3), output_size=4)(far(2, 3, 9, 8))
nn.FractionalMaxPool3d(2, output_ratio=0.5, return_indices=True)(far(1, 2, 5, 6, 7))
F.conv_tbc(x(5, 2, 3), x(2, 3, 4), x(4))
F.conv_tbc(x(5, 2, 3), x(4, 3, 4), x(4), 2)
nn.grad.conv1d_input((2, 3, 7), x(4, 3, 2), x(2, 4, 6)).detach()
nn.grad.conv1d_weight(x(2, 3, 7), (4, 3, 2), x(2, 4, 3), 2).detach()
nn.grad.conv2d_input((2, 4, 6, 5), x(6, 2, 2, 3), x(2, 6, 4, 1), (2, 3), 1, (1, 2), 2).detach()
nn.grad.conv2d_weight(x(2, 4, 6, 5), (6, 2, 2, 3), x(2, 6, 4, 1), (2, 3), 1, (1, 2), 2).detach()
nn.grad.conv3d_input((1, 2, 4, 3, 4), x(3, 2, 2, 2, 2), x(1, 3, 3, 2, 3)).detach()
nn.grad.conv3d_weight(x(1, 2, 4, 3, 4), (3, 2, 2, 2, 2), x(1, 3, 3, 2, 3)).detach()
F.conv_transpose2d(x(2, 3, 4, 5), x(3, 2, 3, 2), x(2), 1, (1, 0), (2, 1), 1, 3)
F.avg_pool2d(x(2, 3, 6, 6).detach(), 2, out=T.zeros(2, 3, 3, 3, dtype=T.float64))
F.linear(x(2, 3).detach(), x(4, 3).detach(), out=T.zeros(0, dtype=T.float64))
F.tanhshrink(ints(3, 4))
F.softsign(ints(3, 4))
F.grouped_mm(x(8, 16).float(), x(3, 16, 8).float(), offs=T.tensor([2, 5, 8], dtype=T.int32))
F.grouped_mm(x(3, 4, 16).float(), x(16, 8).float(), offs=T.tensor([2, 2, 8], dtype=T.int32))
F.grouped_mm(x(16, 8).float(), x(8, 16).float(), offs=T.tensor([2, 5, 8], dtype=T.int32))
F.grouped_mm(x(3, 4, 16).float(), x(3, 16, 8).float())
T.native_layer_norm(x(2, 3, 4), (4,), x(4), None, 1e-5)
T.native_group_norm(x(2, 6, 4), x(6), x(6), 2, 6, 4, 3, 1e-5)
T.native_batch_norm(x(4, 3, 2), x(3), x(3), T.zeros(3, dtype=T.float64), T.ones(3, dtype=T.float64), True, 0.1, 1e-5)
T.native_batch_norm(x(4, 3, 2), x(3), x(3), T.zeros(3, dtype=T.float64), T.ones(3, dtype=T.float64), False, 0.1, 1e-5)
T._softmax_backward_data(x(2, 3), x(2, 3), 1, T.float64)
T._log_softmax_backward_data(x(2, 3), x(2, 3), -1, T.float64)
T._softmax(x(2, 3), 1, False)
T._log_softmax(x(2, 3), 0, False)
T._chunk_cat([x(3, 2).detach(), x(1, 5).detach()], 0, 2)
""".strip().splitlines()

BYTES = [
    f"F.interpolate(ints(2, {c}, 9, 7).abs().mul(28).to(T.uint8), {size}, mode='{mode}', align_corners={align}, "
    f"antialias={antialias})"
    for c, size, mode, align, antialias in itertools.product(
        (3, 5), ("(4, 13)", "20"), ("bilinear", "bicubic"), (False, True), (False, True)
    )
] + [
    "F.interpolate(x(2, 3, 9, 7), (4, 13), mode='lanczos', antialias=True)",
    "F.interpolate(x(2, 3, 9, 7), scale_factor=(0.3, 2.5), mode='lanczos', antialias=True, align_corners=False)",
    "F.interpolate(ints(2, 3, 9, 7).abs().mul(28).to(T.uint8), (4, 13), mode='lanczos', antialias=True)",
]


@pytest.mark.filterwarnings("ignore:Default grid_sample")
@pytest.mark.parametrize("text", SAMPLED + VALUES + BYTES)
def test_equals_torch(text: str) -> None:
    same(text)


LAYERS = """
nn.FractionalMaxPool2d(2, (3, 4))
nn.FractionalMaxPool2d(2, output_ratio=0.5, return_indices=True)
nn.FractionalMaxPool3d((1, 2, 3), output_ratio=(0.5, 0.25, 0.75))
""".strip().splitlines()


@pytest.mark.parametrize("text", LAYERS)
def test_layers_equal_torch(text: str) -> None:
    same_layer(text)


ERRORS = {
    "F.grid_sample(x(1, 1, 2, 2), x(1, 2, 2, 2), 'cubic')": "expected mode to be 'bilinear', 'nearest' or 'bicubic'",
    "F.grid_sample(x(1, 1, 2, 2), x(1, 2, 2, 2), padding_mode='same')": "expected padding_mode to be 'zeros', 'border'",
    "F.grid_sample(x(1, 1, 2, 2).float(), x(1, 2, 2, 2), align_corners=True)": "expected scalar type Float but found",
    "F.grid_sample(x(1, 1, 2, 2), x(2, 2, 2, 2), align_corners=True)": "grid and input to have same batch size",
    "F.grid_sample(x(1, 1, 2, 2), x(1, 2, 2, 3), align_corners=True)": "expected grid to have size 2 in last dimension",
    "F.grid_sample(x(1, 1, 2, 0), x(1, 2, 2, 2), align_corners=True)": "to have non-empty spatial dimensions",
    "F.grid_sample(x(1, 1, 2, 2), x(1, 2, 2), align_corners=True)": "expected 4D input and grid with same number",
    "F.grid_sample(x(1, 1, 2, 2, 2), x(1, 2, 2, 2, 3), 'bicubic', align_corners=True)": "only supports 4D input",
    "F.grid_sample(ints(1, 1, 2, 2), ints(1, 2, 2, 2), align_corners=True)": "not implemented for 'Long'",
    "F.grid_sample([1], x(1, 2, 2, 2), align_corners=True)": "must be Tensor, not list",
    "T.grid_sampler(x(1, 1, 2, 2), x(1, 2, 2, 2), 0, 0, None)": "argument 'align_corners' (position 5) must be bool",
    "F.affine_grid(x(1, 2, 3), (1, 1, 2), True)": "only supports 4D and 5D sizes",
    "F.affine_grid(x(1, 2, 2), (1, 1, 2, 2), True)": "Expected a batch of 2D affine matrices",
    "F.affine_grid(x(1, 2, 3), (1, 1, 0, 2), False)": "Expected non-zero, positive output size",
    "F.affine_grid(ints(1, 2, 3), (1, 1, 2, 2), False)": "Expected theta to have floating point type",
    "T.affine_grid_generator(x(1, 2, 3), (1, 1, 2), False)": "AffineGridGenerator needs 4d",
    "F.fractional_max_pool2d(x(1, 1, 4, 4), 2)": "requires specifying either an output_size or an output_ratio",
    "F.fractional_max_pool2d(x(1, 1, 4, 4), 3, 4)": "too large relative to input",
    "F.fractional_max_pool3d(x(1, 1, 4, 4, 4), 3, 4)": "too large relative to input",
    "nn.FractionalMaxPool2d(2)": "requires specifying either an output size, or a pooling ratio",
    "nn.FractionalMaxPool2d(2, 2, 0.5)": "only one of output_size and output_ratio may be specified",
    "nn.FractionalMaxPool2d(2, output_ratio=2)": "output_ratio must be between 0 and 1",
    "nn.FractionalMaxPool3d(0, 2)": "kernel_size must be greater than 0",
    "F.conv_tbc(x(5, 2), x(2, 3, 4), x(4))": "Input must have 3 dims",
    "F.conv_tbc(x(5, 2, 3), x(2, 4, 4), x(4))": "Input dim 2 (input channels) is not == dim 1 in the weight tensor",
    "F.conv_tbc(x(5, 2, 3), x(2, 3, 4), x(3))": "Bias size must equal dim 2",
    "nn.grad.conv2d_input((2, 3, 7, 7), x(4, 3, 2, 2), x(2, 4, 5, 6))": "tensor.size[2] == 6 but got",
    "nn.grad.conv2d_weight(x(2, 3, 7, 7), (4, 3, 2, 2), x(2, 4, 5, 6))": "tensor.size[2] == 6 but got",
    "F.interpolate(ints(1, 1, 4, 4), 2, mode='bilinear')": "not implemented for 'Long'",
    "F.adaptive_avg_pool2d(x(2, 2), (1, 1))": "Input dimension should be at least 3",
    "F.interpolate(x(1, 1, 4, 4), 2, mode='lanczos')": "Lanczos mode requires antialias=True",
    "F.interpolate(x(1, 1, 4, 4), 2, mode='lanczos', antialias=True, align_corners=True)": "Lanczos mode does not",
    "F.grouped_mm(x(8, 16).float(), x(3, 16, 8).float())": "Have to provide offsets if there is a 2d matrix",
    "F.grouped_mm(x(8, 16), x(3, 16, 8), offs=ints(3))": "Expected mat_a to be Float32, BFloat16 or Float16 matrix",
    "F.grouped_mm(x(8, 16).float(), x(3, 16, 8).float(), offs=ints(3))": "Offsets have to be int32",
    "F.grouped_mm(x(8, 16).float(), x(2, 16, 8).float(), offs=ints(3).int())": "matrix batch sizes have to match",
    "T._chunk_cat([], 0, 1)": "_chunk_cat expects a non-empty input tensor list",
    "T._chunk_cat([x(2)], 0, 0)": "_chunk_cat expects positive num_chunks",
}


@pytest.mark.filterwarnings("ignore:Default grid_sample")
@pytest.mark.parametrize("text", ERRORS)
def test_errors_equal_torch(text: str) -> None:
    same_error(text, ERRORS[text])


def test_dropout_draws_as_torch() -> None:
    results = []
    for library in (torch, pytest.importorskip("torch")):
        names = Names(library)
        out, mask = library.native_dropout(names.x(4, 5), 0.3, True)
        untouched, all_kept = library.native_dropout(names.x(4, 5), 0.3, False)
        results.append([t.detach().numpy() for t in (out, mask, untouched, all_kept)])
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b)


# ---- without torch ---------------------------------------------------------------------------------------------------


def test_a_default_is_warned_about() -> None:
    with pytest.warns(UserWarning, match="align_corners=True if the old behavior is desired"):
        F.grid_sample(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 2))


def test_sampling_worked_out_by_hand() -> None:
    image = torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]], requires_grad=True)
    grid = torch.tensor([[[[0.0, -1.0], [0.5, 0.5], [3.0, 0.0]]]], requires_grad=True)
    out = F.grid_sample(image, grid, align_corners=True)
    assert out.tolist() == [[[[1.0, 4.5, 0.0]]]]
    out.sum().backward()
    assert grid.grad.tolist() == [[[[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]]]]
    assert image.grad.tolist() == [[[[0.5625, 0.6875], [0.1875, 0.5625]]]]


def test_every_order_of_derivative() -> None:
    """The second derivative of cubic interpolation along one axis, against differences of the first."""
    image = torch.tensor([[[[0.0, 1.0, 5.0, -2.0, 3.0, 1.0]]]], dtype=torch.float64)

    def at(u: torch.Tensor) -> torch.Tensor:
        place = torch.stack([u, torch.zeros_like(u)]).reshape(1, 1, 1, 2)
        return F.grid_sample(image, place, "bicubic", align_corners=True).sum()

    def slope(u: float) -> torch.Tensor:
        return torch.func.grad(at)(torch.tensor(u, dtype=torch.float64))

    second = torch.func.grad(torch.func.grad(at))(torch.tensor(0.13, dtype=torch.float64))
    assert second.item() == pytest.approx((slope(0.13 + 1e-6) - slope(0.13 - 1e-6)).item() / 2e-6, rel=1e-6)


def test_the_identity_map_samples_the_image() -> None:
    image = torch.randn(2, 3, 5, 4)
    same_map = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).expand(2, 2, 3)
    for align in (True, False):
        found = F.grid_sample(image, F.affine_grid(same_map, image.shape, align), align_corners=align)
        assert torch.allclose(found, image, atol=1e-6)


def test_fractional_windows_cover_the_image() -> None:
    """Windows of the step's size leave no gap: the largest value of all is the maximum of some window."""
    torch.manual_seed(0)
    image = torch.randn(4, 2, 12, 9)
    out = F.fractional_max_pool2d(image, (3, 3), (5, 4))
    assert (out.amax((2, 3)) == image.amax((2, 3))).all()
