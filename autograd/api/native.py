"""PyTorch's native functions, those under the public ones: `torch.native_*`, `torch._*` and `torch.ops.aten.*`.

Programs that were exported or decomposed call them. Each is a few lines over ops that exist; the module is loaded when
one of its names is first asked for.
"""

from __future__ import annotations

import math
from typing import Any

from ..dtypes import from_numpy_dtype
from ..modes import mode, no_grad
from ..op import GRAPH
from ..ops import grid, interpolate, norm
from ..tensor import Tensor
from .args import dim_of, normalized_shape_of, to_dtype
from .creation import linspace, ones
from .gradients import on_device
from .matrix import addmm
from .table import public

__all__ = [
    "_addmm_activation", "_batch_norm_with_update", "_chunk_cat", "_log_softmax", "_log_softmax_backward_data",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training", "_safe_softmax", "_softmax", "_softmax_backward_data",
    "_unsafe_masked_index", "_unsafe_masked_index_put_accumulate", "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa",
    "_upsample_lanczos2d_aa",
    "affine_grid_generator", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "max_pool2d_with_indices_backward",
    "native_batch_norm", "native_dropout", "native_dropout_backward", "native_group_norm", "native_layer_norm",
]  # fmt: skip

# ---- sampling by a grid ----------------------------------------------------------------------------------------------

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")


def _check_grid(input: Tensor, grid: Tensor, mode: int, padding: int, rank: int) -> None:
    """What PyTorch asks of the input and the grid. RuntimeError, or NotImplementedError for a dtype."""
    x, g = input.array, grid.array
    shown = f"input with sizes {list(x.shape)} and grid with sizes {list(g.shape)}"
    if x.ndim and g.ndim and x.shape[0] != g.shape[0]:
        raise RuntimeError(f"grid_sampler(): expected grid and input to have same batch size, but got {shown}")
    if g.shape[-1] != x.ndim - 2:
        raise RuntimeError(
            f"grid_sampler(): expected grid to have size {x.ndim - 2} in last dimension, but got grid with sizes "
            f"{list(g.shape)}"
        )
    for d in range(2, x.ndim):
        if not x.shape[d]:
            raise RuntimeError(
                "grid_sampler(): expected input to have non-empty spatial dimensions, but input has sizes "
                f"{list(x.shape)} with dimension {d} being empty"
            )
    if x.ndim != rank + 2 or g.ndim != x.ndim:
        raise RuntimeError(
            f"grid_sampler(): expected {rank + 2}D input and grid with same number of dimensions, but got {shown}"
        )
    if rank == 3 and mode == 2:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    a, b = from_numpy_dtype(x.dtype), from_numpy_dtype(g.dtype)
    if a is not b:
        raise RuntimeError(
            f"expected scalar type {a.legacy} but found {b.legacy} (grid_sampler: input is {a}, grid is {b}; convert "
            "one with .to(dtype))"
        )
    if x.dtype.kind not in "fV":
        raise NotImplementedError(f"\"grid_sampler_{rank}d_cpu_kernel_impl\" not implemented for '{a.legacy}'")


def _grid_sampler(rank: int, input: Tensor, at: Tensor, mode: int, padding: int, align_corners: bool) -> Tensor:
    if not isinstance(at, Tensor):
        raise TypeError(f"grid_sampler(): argument 'grid' (position 2) must be Tensor, not {type(at).__name__}")
    if not isinstance(align_corners, (bool, int)):
        raise TypeError(
            f"grid_sampler(): argument 'align_corners' (position 5) must be bool, not {type(align_corners).__name__}"
        )
    _check_grid(input, at, mode, padding, rank)
    if mode not in (0, 1, 2) or padding not in (0, 1, 2):
        raise RuntimeError(
            f"grid_sampler(): interpolation_mode must be 0 to 2 {MODES} and padding_mode 0 to 2 {PADDINGS}, but got "
            f"{mode} and {padding}"
        )
    how = {"method": MODES[mode], "padding": PADDINGS[padding], "align_corners": bool(align_corners)}
    return grid.grid_sample(input, at, order=(0,) * rank, **how)


@public(method=False)
def grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """nn.functional.grid_sample with numbers for its words. input: (N, C, *S), grid: (N, *T, len(S)) -> (N, C, *T).

    interpolation_mode: 0 bilinear, 1 nearest, 2 bicubic. padding_mode: 0 zeros, 1 border, 2 reflection.
    """
    rank = 2 if input.array.ndim == 4 else 3
    return _grid_sampler(rank, input, grid, interpolation_mode, padding_mode, align_corners)


@public(method=False)
def grid_sampler_2d(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """grid_sampler of images. input: (N, C, H, W), grid: (N, H', W', 2) -> (N, C, H', W')."""
    return _grid_sampler(2, input, grid, interpolation_mode, padding_mode, align_corners)


@public(method=False)
def grid_sampler_3d(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """grid_sampler of volumes. input: (N, C, D, H, W), grid: (N, D', H', W', 3) -> (N, C, D', H', W')."""
    return _grid_sampler(3, input, grid, interpolation_mode, padding_mode, align_corners)


def _coordinates(n: int, align_corners: bool, like: Tensor) -> Tensor:
    """The places of n pixels' centres in [-1, 1]. -> (n,)."""
    if n == 1:
        return like.new_zeros(1)
    across = linspace(-1, 1, n, dtype=like.dtype, device=like.device)
    return across if align_corners else across * ((n - 1) / n)


@public(method=False)
def affine_grid_generator(theta: Tensor, size: Any, align_corners: bool) -> Tensor:
    """Where affine maps send the pixels of an output. theta: (N, R, R + 1), size: (N, C, *T) -> (N, *T, R)."""
    rank = len(size) - 2
    if rank not in (2, 3):
        raise RuntimeError("AffineGridGenerator needs 4d (spatial) or 5d (volumetric) inputs.")
    n, spatial = size[0], tuple(size[2:])
    base = ones(*spatial, rank + 1, dtype=theta.dtype, device=theta.device)
    for d, count in enumerate(spatial):
        shape = [-1 if i == d else 1 for i in range(rank)]
        base[..., rank - 1 - d] = _coordinates(count, align_corners, theta).reshape(shape)
    rows = base.reshape(1, math.prod(spatial), rank + 1).expand(n, -1, -1)
    return rows.bmm(theta.transpose(1, 2)).reshape(n, *spatial, rank)


# ---- normalisation ---------------------------------------------------------------------------------------------------


@public(method=False)
def native_layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """layer_norm, and each row's mean and 1 / sqrt(var + eps), which carry no gradient.

    input: (*L, *N), weight, bias: (*N) -> ((*L, *N), (*L, 1, ...), (*L, 1, ...)).
    """
    shape = normalized_shape_of(input, tuple(normalized_shape), weight=weight, bias=bias)
    out = norm.layer_norm(input, weight, bias, n_axes=len(shape), eps=eps)
    mean, rstd = _statistics(input.detach(), tuple(range(-len(shape), 0)), eps)
    return out, mean, rstd


def _statistics(x: Tensor, dim: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor]:
    """(mean, 1 / sqrt(biased variance + eps)) over dimensions, which stay as 1."""
    return x.mean(dim, keepdim=True), (x.var(dim, correction=0, keepdim=True) + eps).rsqrt()


def _per_channel(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    spread = (1, -1, *(1,) * (x.array.ndim - 2))
    x = x if weight is None else x * weight.reshape(spread)
    return x if bias is None else x + bias.reshape(spread)


@public(method=False)
def native_group_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, N: int, C: int, HxW: int, group: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """group_norm, each group's mean, and 1 / sqrt(var + eps). (N, C, *S) -> ((N, C, *S), (N, G), (N, G))."""
    grouped = input.reshape(N, group, C // group * HxW)
    out = norm.layer_norm(grouped, None, None, n_axes=1, eps=eps)
    mean, rstd = _statistics(grouped, (-1,), eps)
    out = _per_channel(out.reshape(input.shape), weight, bias)
    return out, mean.reshape(N, group), rstd.reshape(N, group)


def _batch_norm(
    input: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    if not training:
        scale = GRAPH.rsqrt(var + eps)
        scale = scale if weight is None else scale * weight
        shift = -mean * scale
        out = norm.scale_shift(input, scale, shift if bias is None else shift + bias)
        return out, input.new_empty(0), input.new_empty(0)
    out, batch_mean, batch_var = norm.batch_norm(input, weight, bias, eps=eps)
    count = input.numel() / input.array.shape[1]
    with no_grad():
        if mean is not None:
            mean.mul_(1 - momentum).add_(batch_mean.detach(), alpha=momentum)
        if var is not None:
            var.mul_(1 - momentum).add_(batch_var.detach(), alpha=momentum * count / (count - 1))
    like = (input if weight is None else weight).array.dtype
    mean, rstd = batch_mean.detach(), GRAPH.rsqrt(batch_var.detach() + eps)
    return out, to_dtype(mean, from_numpy_dtype(like)), to_dtype(rstd, from_numpy_dtype(like))


@public(method=False)
def native_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """batch_norm, and in training the batch's mean and 1 / sqrt(var + eps), else empty ones. (N, C, *S), (C,) each."""
    return _batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps)


@public(method=False)
def _native_batch_norm_legit(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Any = None,
    running_var: Any = None,
    training: Any = None,
    momentum: float | None = None,
    eps: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """native_batch_norm; also without the running statistics: training, momentum, eps after bias. (N, C, *S), (C,)."""
    if momentum is None or eps is None:
        running_mean, running_var, training, momentum, eps = None, None, running_mean, running_var, training
    return _batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps)


@public(method=False)
def _native_batch_norm_legit_no_training(
    input: Tensor, weight: Any, bias: Any, running_mean: Tensor, running_var: Tensor, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """native_batch_norm with training=False. (N, C, *S), (C,) each."""
    return _batch_norm(input, weight, bias, running_mean, running_var, False, momentum, eps)


@public(method=False)
def _batch_norm_with_update(
    input: Tensor, weight: Any, bias: Any, running_mean: Tensor, running_var: Tensor, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """native_batch_norm with training=True, and an empty tensor which other devices use. (N, C, *S), (C,) each."""
    found = _batch_norm(input, weight, bias, running_mean, running_var, True, momentum, eps)
    return *found, input.new_empty(0, dtype=from_numpy_dtype("uint8"))


# ---- matrix products -------------------------------------------------------------------------------------------------


@public(method=False)
def _addmm_activation(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1, use_gelu: bool = False
) -> Tensor:
    """relu, or GELU, of addmm. input: broadcast to (N, M), mat1: (N, K), mat2: (K, M) -> (N, M).

    On the CPU the exact GELU, on devices its tanh approximation, as in PyTorch; there, with a bias (M,) and without
    gradients, it is part of the product (kernel `addmm_gelu`).
    """
    tensors, fuses = (input, mat1, mat2), use_gelu and beta == alpha == 1 and input.ndim == 1
    if fuses and not (mode.grad is not False and any(t.requires_grad for t in tensors)):
        out = on_device("addmm_gelu", tensors)
        if out is not None:
            return out
    out = addmm(input, mat1, mat2, beta=beta, alpha=alpha)
    return GRAPH.gelu(out, approximate="none" if out.is_cpu else "tanh") if use_gelu else out.relu()


# ---- softmax and dropout ---------------------------------------------------------------------------------------------


@public(method=False)
def _softmax(input: Tensor, dim: int, half_to_float: bool) -> Tensor:
    """softmax along dim; half_to_float is for other devices. (*S) -> (*S)."""
    return input.softmax(dim)


@public(method=False)
def _log_softmax(input: Tensor, dim: int, half_to_float: bool) -> Tensor:
    """log_softmax along dim; half_to_float is for other devices. (*S) -> (*S)."""
    return input.log_softmax(dim)


@public(method=False)
def _safe_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """softmax along dim, with zeros where all of a row is -inf. (*S), floating -> (*S)."""
    x = input if dtype is None else to_dtype(input, dtype)
    if not x.array.ndim:
        return GRAPH.safe_softmax(x.unsqueeze(0)).squeeze(0)
    return GRAPH.safe_softmax(x.transpose(dim, -1)).transpose(dim, -1)


@public(method=False)
def _softmax_backward_data(grad_output: Tensor, output: Tensor, dim: int, input_dtype: Any) -> Tensor:
    """The gradient of softmax: output * (grad - sum(grad * output)). (*S), (*S) -> (*S) in input_dtype."""
    return to_dtype(GRAPH.softmax_backward(grad_output, output, axis=dim_of(dim, output.array.ndim)), input_dtype)


@public(method=False)
def _log_softmax_backward_data(grad_output: Tensor, output: Tensor, dim: int, input_dtype: Any) -> Tensor:
    """The gradient of log_softmax: grad - exp(output) * sum(grad). (*S), (*S) -> (*S) in input_dtype."""
    return to_dtype(GRAPH.log_softmax_backward(grad_output, output, axis=dim_of(dim, output.array.ndim)), input_dtype)


@public(method=False)
def native_dropout(input: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """Dropout, and which elements it kept. train: None counts as True. (*S) -> ((*S), (*S) bool)."""
    if not input.array.size:
        return input, ones(*input.shape, dtype=from_numpy_dtype("bool"), device=input.device)
    mask = ones(*input.shape, dtype=from_numpy_dtype("bool"), device=input.device)
    if train is not None and not train:
        return input.clone(), mask
    mask.bernoulli_(1 - p)
    return input * mask * (0.0 if p == 1 else 1 / (1 - p)), mask


@public(method=False)
def native_dropout_backward(grad_output: Tensor, mask: Tensor, scale: float) -> Tensor:
    """The gradient of native_dropout: grad_output * mask * scale. (*S), (*S) bool -> (*S)."""
    return grad_output * mask * scale


# ---- pooling, resizing, indexing -------------------------------------------------------------------------------------


@public(method=False)
def max_pool2d_with_indices_backward(
    grad_output: Tensor,
    input: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    indices: Tensor,
) -> Tensor:
    """The gradient of max_pool2d: grad_output summed at the maxima. (N, C, H', W') -> input's shape."""
    out = GRAPH.pool_scatter(grad_output, indices, shape=tuple(input.array.shape), rank=2)
    if not input.requires_grad:
        return out
    # the result does not depend on the input's values, but as in PyTorch it has an edge to it
    return out + input.masked_fill(ones(1, dtype=from_numpy_dtype("bool"), device=input.device), 0)


def _antialiased(mode: str, word: str) -> Any:
    """A mode of interpolate, antialiased; word: what ops.interpolate calls it. (N, C, H, W) -> (N, C, *output_size)."""
    method = f"{word}-antialias"

    def resize(
        input: Tensor,
        output_size: Any,
        align_corners: bool,
        scales_h: Any = None,
        scales_w: float | None = None,
        *,
        scale_factors: Any = None,
    ) -> Tensor:
        scales: Any = scales_h, scales_w
        if scale_factors is not None:
            scales = scale_factors
        elif isinstance(scales_h, (list, tuple)):  # the other overload: one number per dimension
            scales = scales_h
        if output_size is None:
            output_size = [int(n * s) for n, s in zip(input.array.shape[2:], scales, strict=True)]
        scales = None if None in scales else tuple(scales)
        op = getattr(interpolate, interpolate.OP_OF_METHOD[method])
        return op(input, size=tuple(output_size), method=method, align_corners=bool(align_corners), scales=scales)

    resize.__name__ = resize.__qualname__ = f"_upsample_{mode}2d_aa"
    resize.__doc__ = f'interpolate(mode="{mode}", antialias=True). input: (N, C, H, W) -> (N, C, *output_size).'
    return public(method=False)(resize)


_upsample_bilinear2d_aa = _antialiased("bilinear", "linear")
_upsample_bicubic2d_aa = _antialiased("bicubic", "cubic")
_upsample_lanczos2d_aa = _antialiased("lanczos", "lanczos")


def _inside(input: Tensor, indices: Any) -> tuple[Any, ...]:
    """The indices cut to the dimensions' ranges, full slices for None."""
    return tuple(
        slice(None) if i is None else i.clamp(-n, n - 1) for i, n in zip(indices, input.array.shape, strict=False)
    )


@public(method=False)
def _unsafe_masked_index(input: Tensor, mask: Tensor, indices: Any, fill: Any) -> Tensor:
    """input[indices] where mask, else fill; indices outside are allowed where mask is False. mask: (*M) -> (*M)."""
    if not input.array.size:
        return input.new_full(tuple(mask.shape), fill)
    return input[_inside(input, indices)].masked_fill(mask.logical_not(), fill)


@public(method=False)
def _unsafe_masked_index_put_accumulate(input: Tensor, mask: Tensor, indices: Any, values: Tensor) -> Tensor:
    """input with values added at indices where mask. input: (*S), values: mask's shape -> (*S)."""
    if not input.array.size:
        return input.clone()
    kept = values.masked_fill(mask.logical_not(), 0)
    return input.index_put(_inside(input, indices), kept, accumulate=True)


def _check_chunks(tensors: Any, dim: int, num_chunks: int) -> int:
    """`dim` as a non-negative number, where the tensors fit each other. RuntimeError else."""
    if num_chunks < 1:
        raise RuntimeError("_chunk_cat expects positive num_chunks")
    if not tensors:
        raise RuntimeError("_chunk_cat expects a non-empty input tensor list")
    if not all(t.array.size for t in tensors):
        raise RuntimeError("_chunk_cat expects non-empty tensor")
    if len({t.array.dtype for t in tensors}) > 1:
        raise RuntimeError("_chunk_cat expects all input tensors with the same dtype")
    if len({t.array.ndim for t in tensors}) == 1:
        dim = dim_of(dim, tensors[0].array.ndim)
    elif dim < 0:
        raise RuntimeError("_chunk_cat expects non-negative dim when input tensors have different ndims")
    if any(dim >= t.array.ndim for t in tensors):
        raise RuntimeError("_chunk_cat expects dim < ndim for all input tensors")
    if len({t.array.shape[:dim] for t in tensors}) > 1:
        raise RuntimeError("_chunk_cat expects same sizes of 0,...,dim-1 dimensions for all tensors")
    return dim


@public(method=False)
def _chunk_cat(tensors: Any, dim: int, num_chunks: int) -> Tensor:
    """Each tensor cut along dim into num_chunks parts, padded with zeros, and these joined part by part.

    tensors: (*S, n_i, *R_i) each -> (*S, num_chunks, sum of ceil(n_i / num_chunks) prod(R_i)).
    """
    dim = _check_chunks(tensors, dim, num_chunks)
    parts = []
    for t in tensors:
        *_, n = t.array.shape[: dim + 1]
        short = -n % num_chunks
        if short:
            shape = t.array.shape
            t = GRAPH.cat(t, t.new_zeros(*shape[:dim], short, *shape[dim + 1 :]), axis=dim)
        parts.append(t.reshape(*t.array.shape[:dim], num_chunks, -1))
    return GRAPH.cat(*parts, axis=dim + 1)


def __getattr__(name: str) -> Any:
    if name == "slice":  # not a name of this file: its functions use Python's slice
        from .copies import slice_of

        return slice_of
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
