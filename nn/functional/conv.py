"""Convolution, transposed convolution, and windows as columns (unfold, fold)."""

from __future__ import annotations

import math
from typing import Any

from ...autograd.dtypes import from_numpy_dtype
from ...autograd.op import GRAPH
from ...autograd.ops import conv as op
from ...autograd.tensor import Tensor
from .sizes import check_tensor, ints, spatial

__all__ = [
    "conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "fold",
    "unfold",
]  # fmt: skip

_WORDS = ("depth", "height", "width")


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """1-d cross-correlation. input: (N, C, L) or (C, L), weight: (O, C / groups, K), bias: (O,) -> (N, O, L').

    See conv2d.
    """
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """2-d cross-correlation. input: (N, C, H, W) or (C, H, W), weight: (O, C / groups, *K), bias: (O,).

    Gives (N, O, H', W') or (O, H', W'). padding: zeros on both sides, "valid" (none) or "same" (the output is as large
    as the input; stride 1 only).

    >>> import tapegrad as torch
    >>> image, kernel = torch.arange(16.0).view(1, 1, 4, 4), torch.ones(1, 1, 2, 2)
    >>> torch.nn.functional.conv2d(image, kernel, stride=2)
    tensor([[[[10., 18.],
              [42., 50.]]]])
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """3-d cross-correlation. input: (N, C, D, H, W) or (C, D, H, W), weight: (O, C / groups, *K), bias: (O,).

    Gives (N, O, D', H', W') or (O, D', H', W'). See conv2d.
    """
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def _conv(
    name: str,
    rank: int,
    input: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    batched = _check_inputs(name, rank, input, weight, bias)
    stride = _spatial(stride, rank, name, "stride")
    dilation = _spatial(dilation, rank, name, "dilation")
    kernel = weight.array.shape[2:]
    if isinstance(padding, str):
        input, padding = _named_padding(input, padding, kernel, stride, dilation)
    else:
        padding = _spatial(padding, rank, name, "padding")
    _check_geometry(weight, stride, padding, dilation, groups)
    x = input if batched else GRAPH.unsqueeze(input, axis=0)
    _check_channels(x, weight, bias, groups)
    for n, k, p, d in zip(x.array.shape[2:], kernel, padding, dilation, strict=True):
        if n + 2 * p < d * (k - 1) + 1:
            padded = " x ".join(str(n + 2 * p) for n, p in zip(x.array.shape[2:], padding, strict=True))
            reach = " x ".join(str(d * (k - 1) + 1) for k, d in zip(kernel, dilation, strict=True))
            raise RuntimeError(
                f"Calculated padded input size per channel: ({padded}). Kernel size: ({reach}). Kernel size can't be "
                "greater than actual input size"
            )
    out = op.conv(x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return out if batched else GRAPH.squeeze_dim(out, axis=(0,))


def _check_inputs(name: str, rank: int, input: Any, weight: Any, bias: Any) -> bool:
    """Whether the input has a batch dimension; errors for wrong types, dimensions and dtypes."""
    check_tensor(input, name)
    check_tensor(weight, name, "weight", 2)
    x, w = input.array, weight.array
    if x.ndim != rank + 2 and x.ndim != rank + 1:
        raise RuntimeError(
            f"Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to {name}, but got input of size: "
            f"{list(x.shape)}"
        )
    if w.ndim < 3:
        raise RuntimeError(f"weight should have at least three dimensions, but got {list(w.shape)} ({name})")
    if w.ndim != rank + 2:
        raise RuntimeError(
            f"Expected {w.ndim}-dimensional input for {w.ndim}-dimensional weight {list(w.shape)}, but got "
            f"{x.ndim}-dimensional input of size {list(x.shape)} instead"
        )
    if bias is not None:
        check_tensor(bias, name, "bias", 3)
    if x.dtype is not w.dtype or (bias is not None and x.dtype is not bias.array.dtype):
        _check_dtypes(name, x, w, x if bias is None else bias.array)
    if x.dtype.kind == "b":
        raise NotImplementedError(f"\"{name}\" not implemented for 'Bool'")
    return x.ndim == rank + 2


# C++'s words for the dtypes, as they stand in PyTorch's text
_WORDS_OF_DTYPES = {"float64": "double", "float32": "float", "float16": "c10::Half", "bfloat16": "c10::BFloat16",
                    "int64": "long int", "int32": "int"}  # fmt: skip


def _check_dtypes(name: str, x: Any, w: Any, b: Any) -> None:
    kinds = [from_numpy_dtype(a.dtype) for a in (x, w, b)]
    if kinds[0] is not kinds[2]:
        words = [_WORDS_OF_DTYPES.get(k.name, k.name) for k in kinds]
        raise RuntimeError(f"Input type ({words[0]}) and bias type ({words[2]}) should be the same ({name})")
    if kinds[0] is not kinds[1]:
        a, b = kinds[0].legacy, kinds[1].legacy
        if a == "Float":
            raise RuntimeError(
                f"Input type (torch.{a}Tensor) and weight type (torch.{b}Tensor) should be the same ({name})"
            )
        raise RuntimeError(f"expected scalar type {a} but found {b} ({name}: input and weight)")


def _spatial(value: Any, rank: int, name: str, argument: str) -> tuple[int, ...]:
    found = spatial(value, rank, name, argument)
    if found is None:
        raise RuntimeError(
            f"expected {argument} to be a single integer value or a list of {rank} values to match the convolution "
            f"dimensions, but got {argument}={list(value)}"
        )
    return found


def _check_geometry(weight: Tensor, stride: Any, padding: Any, dilation: Any, groups: int) -> None:
    if min(padding, default=0) < 0:
        raise RuntimeError("negative padding is not supported")
    if min(stride, default=1) <= 0:
        raise RuntimeError("non-positive stride is not supported")
    if min(dilation, default=1) < 0:
        raise RuntimeError("dilation should be greater than zero")
    if min(dilation, default=1) == 0:
        raise RuntimeError("non-positive dilation is not supported")
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    count, size = weight.array.shape[0], str(list(weight.shape))
    if count % groups:
        wanted = f"be at least {groups}" if count < groups else f"be divisible by {groups}"
        size = size if count < groups else f"[{size}]"  # as PyTorch shows it
        raise RuntimeError(
            f"Given groups={groups}, expected weight to {wanted} at dimension 0, but got weight of size {size} instead"
        )


def _check_channels(x: Tensor, weight: Tensor, bias: Any, groups: int) -> None:
    shape, found = weight.array.shape, x.array.shape[1]
    if found != shape[1] * groups:
        raise RuntimeError(
            f"Given groups={groups}, weight of size {list(shape)}, expected input{list(x.shape)} to have "
            f"{shape[1] * groups} channels, but got {found} channels instead"
        )
    _check_bias(f"weight of size {list(shape)}", bias, shape[0])


def _check_bias(given: str, bias: Any, count: int) -> None:
    if bias is None:
        return
    if bias.array.ndim != 1 or bias.array.shape[0] != count:
        raise RuntimeError(
            f"Given {given}, expected bias to be 1-dimensional with {count} elements, but got bias of size "
            f"{list(bias.shape)} instead"
        )


def _named_padding(
    input: Tensor, padding: str, kernel: Any, stride: Any, dilation: Any
) -> tuple[Tensor, tuple[int, ...]]:
    """(input, symmetric padding) for "same" and "valid"; where "same" is uneven, the input is padded at its ends."""
    if padding == "valid":
        return input, (0,) * len(kernel)
    if padding != "same":
        raise RuntimeError(f"Invalid padding string: '{padding}'")
    if any(s != 1 for s in stride):
        raise RuntimeError("padding='same' is not supported for strided convolutions")
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if any(t % 2 for t in total):
        lead = input.array.ndim - len(kernel)
        widths = ((0, 0),) * lead + tuple([(0, t % 2) for t in total])
        input = GRAPH.pad_constant(input, widths=widths, value=0)
    return input, tuple([t // 2 for t in total])


def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """1-d cross-correlation, time first. input: (T, N, C), weight: (K, C, O), bias: (O,) -> (T', N, O)."""
    x, w, b = input.array, weight.array, bias.array
    for t, text in (
        (x, "Input must have 3 dims: time, batch, in_channel"),
        (w, "Weight tensor must have 3 dims: kernel_width, in_channels, out_channels."),
    ):
        if t.ndim != 3:
            raise RuntimeError(f"{text} Got {list(t.shape)}")
    if b.ndim != 1:
        raise RuntimeError("Bias must be 1-D")
    if x.shape[2] != w.shape[1]:
        raise RuntimeError(
            "Input dim 2 (input channels) is not == dim 1 in the weight tensor: got "
            f"{list(x.shape)} and {list(w.shape)}"
        )
    if b.shape[0] != w.shape[2]:
        raise RuntimeError("Bias size must equal dim 2 in the weight tensor (output channels).")
    out = conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad)
    return out.permute(2, 0, 1).contiguous()


# ---- transposed ------------------------------------------------------------------------------------------------------


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """conv1d's adjoint. input: (N, C, L) or (C, L), weight: (C, O / groups, K), bias: (O,) -> (N, O, L') or (O, L')."""
    return _conv_transpose(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """conv2d's adjoint. input: (N, C, H, W) or (C, H, W), weight: (C, O / groups, *K), bias: (O,) -> (N, O, H', W').

    H' = (H - 1) * stride - 2 * padding + dilation * (K - 1) + output_padding + 1.
    """
    return _conv_transpose(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """conv3d's adjoint. input: (N, C, D, H, W) or (C, D, H, W), weight: (C, O / groups, *K) -> (N, O, D', H', W')."""
    return _conv_transpose(
        "conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def _conv_transpose(
    name: str,
    rank: int,
    input: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    batched = _check_inputs(name, rank, input, weight, bias)
    stride = _spatial(stride, rank, name, "stride")
    dilation = _spatial(dilation, rank, name, "dilation")
    if isinstance(padding, str):
        raise TypeError(f"{name}(): argument 'padding' must be tuple of ints, not str")
    padding = _spatial(padding, rank, name, "padding")
    extra = _spatial(output_padding, rank, name, "output_padding")
    _check_geometry(weight, stride, padding, dilation, groups)
    _check_output_padding(extra, stride, dilation)
    x = input if batched else GRAPH.unsqueeze(input, axis=0)
    w = weight.array.shape
    if x.array.shape[1] != w[0]:
        raise RuntimeError(
            f"Given transposed=1, weight of size {list(w)}, expected input{list(x.shape)} to have {w[0]} channels, but "
            f"got {x.array.shape[1]} channels instead"
        )
    channels = w[1] * groups
    _check_bias(f"transposed=1, weight of size {list(w)}", bias, channels)
    extents = zip(x.array.shape[2:], stride, dilation, w[2:], strict=True)
    full = [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in extents]
    size = [n - 2 * p + e for n, p, e in zip(full, padding, extra, strict=True)]
    if min(size) < 1:
        raise RuntimeError(
            f"Given input size per channel: ({' x '.join(map(str, x.array.shape[2:]))}). Calculated output size per "
            f"channel: ({' x '.join(map(str, size))}). Output size is too small"
        )
    lead = (x.array.shape[0], channels)
    keywords = {"stride": stride, "dilation": dilation, "groups": groups}
    if all(e < s for e, s in zip(extra, stride, strict=True)):
        out = op.conv_input(x, weight, bias, shape=(*lead, *size), padding=padding, **keywords)
    else:  # so much more that conv would give more places than x has: cut out of all that x reaches, with zeros behind
        out = op.conv_input(x, weight, None, shape=(*lead, *full), padding=(0,) * rank, **keywords)
        out = GRAPH.pad_constant(out, widths=((0, 0), (0, 0), *[(0, e) for e in extra]), value=0)
        out = out[(..., *[slice(p, p + n) for p, n in zip(padding, size, strict=True)])].contiguous()
        out = out if bias is None else out + GRAPH.reshape(bias, shape=(channels, *[1] * rank))
    return out if batched else GRAPH.squeeze_dim(out, axis=(0,))


def _check_output_padding(extra: Any, stride: Any, dilation: Any) -> None:
    if min(extra) < 0:
        raise RuntimeError("negative output_padding is not supported")
    if any(e >= s and e >= d for e, s, d in zip(extra, stride, dilation, strict=True)):
        words = _WORDS[-len(extra) :]
        shown = " ".join(
            f"{what}_{word}: {value}"
            for what, values in (("output_padding", extra), ("stride", stride), ("dilation", dilation))
            for word, value in zip(words, values, strict=True)
        )
        raise RuntimeError(f"output padding must be smaller than either stride or dilation, but got {shown}")


# ---- windows as columns ----------------------------------------------------------------------------------------------


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """Each window of an image as a column. input: (N, C, H, W) or (C, H, W) -> (N, C * K, L) or (C * K, L)."""
    check_tensor(input, "unfold")
    geometry = _windows("unfold", kernel_size, dilation, padding, stride)
    shape = input.array.shape
    if len(shape) not in (3, 4) or not all(shape[-3:]):
        raise RuntimeError(
            "Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions for input, "
            f"but got: {list(shape)}"
        )
    _only_floats(input, "im2col_out_cpu")
    size = op.conv_size(shape[-2:], geometry["kernel"], geometry["stride"], geometry["padding"], geometry["dilation"])
    if min(size) < 1:
        raise RuntimeError(
            f"Given input with spatial size {shape[-2:]}, {_shown(geometry)}, calculated shape of the array of sliding "
            f"blocks as {size}, but its components must be at least one."
        )
    if len(shape) == 4:
        return op.im2col(input, **geometry)
    return GRAPH.squeeze_dim(op.im2col(GRAPH.unsqueeze(input, axis=0), **geometry), axis=(0,))


def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Columns summed into an image, unfold's adjoint. input: (N, C * K, L) or (C * K, L) -> (N, C, *output_size)."""
    check_tensor(input, "fold")
    target = _pair(output_size, "fold", "output_size")
    geometry = _windows("fold", kernel_size, dilation, padding, stride)
    shape = input.array.shape
    if len(shape) not in (2, 3) or not all(shape[-2:]):
        raise RuntimeError(
            "Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and non-zero dimensions for "
            f"input, but got: {list(shape)}"
        )
    _only_floats(input, "col2im_out_cpu")
    kernel, first = geometry["kernel"], len(shape) - 2
    if shape[-2] % math.prod(kernel):
        raise RuntimeError(
            f"Expected size of input's dimension {first} to be divisible by the product of kernel_size, but got "
            f"input.size({first})={shape[-2]} and kernel_size={kernel}."
        )
    size = op.conv_size(target, kernel, geometry["stride"], geometry["padding"], geometry["dilation"])
    if min(size) < 1 or math.prod(size) != shape[-1]:
        raise RuntimeError(
            f"Given output_size={target}, {_shown(geometry)}, stride={geometry['stride']}, expected size of input's "
            f"dimension {first + 1} to match the calculated number of sliding blocks {size[0]} * {size[1]} = "
            f"{math.prod(size)}, but got input.size({first + 1})={shape[-1]}."
        )
    x = input if first else GRAPH.unsqueeze(input, axis=0)
    result = (x.array.shape[0], shape[-2] // math.prod(kernel), *target)
    out = op.col2im(x, shape=result, **geometry)
    return out if first else GRAPH.squeeze_dim(out, axis=(0,))


def _windows(name: str, kernel: Any, dilation: Any, padding: Any, stride: Any) -> dict[str, tuple[int, ...]]:
    found = {
        "kernel": _pair(kernel, name, "kernel_size"),
        "dilation": _pair(dilation, name, "dilation"),
        "padding": _pair(padding, name, "padding"),
        "stride": _pair(stride, name, "stride"),
    }
    words = {"kernel": "kernel size", "dilation": "dilation", "stride": "stride"}
    for key, word in words.items():
        if min(found[key]) <= 0:
            h, w = found[key]
            raise RuntimeError(f"{word} should be greater than zero, but got {key}_height: {h} {key}_width: {w}")
    if min(found["padding"]) < 0:
        h, w = found["padding"]
        raise RuntimeError(f"padding should be non-negative, but got pad_height: {h} pad_width: {w}")
    return found


def _pair(value: Any, name: str, argument: str) -> tuple[int, ...]:
    if value.__class__ is int:
        return (value, value)
    found = ints(value, name, argument)
    if len(found) != 2:
        raise RuntimeError(f"It is expected {argument} equals to 2, but got size {len(found)}")
    return found


def _shown(geometry: dict[str, tuple[int, ...]]) -> str:
    return f"kernel_size={geometry['kernel']}, dilation={geometry['dilation']}, padding={geometry['padding']}"


def _only_floats(input: Tensor, name: str) -> None:
    if input.array.dtype.kind in "iu":
        kind = from_numpy_dtype(input.array.dtype)
        raise NotImplementedError(f"\"{name}\" not implemented for '{kind.legacy}'")
