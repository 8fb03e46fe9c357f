"""Convolution, pooling and resizing."""

from __future__ import annotations

from typing import Any

import numpy as np

from .graph import Graph, Item, Step
from .sizes import Dim, Size, each, product
from .table import emits


def _ints(values: Any) -> list[int]:
    return [int(v) for v in values]


@emits("conv")
def conv(g: Graph, step: Step) -> Any:
    """Cross-correlation."""
    padding = _ints(step.kw["padding"])
    return g.node(
        "Conv", *step.inputs, strides=_ints(step.kw["stride"]), dilations=_ints(step.kw["dilation"]),
        pads=padding * 2, group=int(step.kw["groups"]),
        kernel_shape=_ints(step.inputs[1].shape[2:]),
    )  # fmt: skip


@emits("conv_input")
def conv_input(g: Graph, step: Step) -> Any:
    """Transposed convolution; what the output has beyond the last window is its output_padding."""
    x, w = step.inputs[:2]
    kernel = _ints(w.shape[2:])
    stride, padding, dilation = (_ints(step.kw[word]) for word in ("stride", "padding", "dilation"))
    beyond = []
    for i, (k, s, p, d) in enumerate(zip(kernel, stride, padding, dilation, strict=True)):
        extra = each(lambda out, n, k=k, s=s, p=p, d=d: out - ((n - 1) * s - 2 * p + d * (k - 1) + 1),
                     step.out.shape[2 + i], x.shape[2 + i])  # fmt: skip
        beyond.append(step.static(extra, "the output padding"))
    return g.node(
        "ConvTranspose", *step.inputs, strides=stride, dilations=dilation, pads=padding * 2,
        output_padding=beyond, group=int(step.kw["groups"]), kernel_shape=kernel,
    )  # fmt: skip


@emits("im2col")
def im2col(g: Graph, step: Step) -> Any:
    """The values under each place of a window. x: (N, C, *S) -> (N, C * prod(kernel), windows)."""
    x = step.inputs[0]
    kernel, stride, padding, dilation = (_ints(step.kw[w]) for w in ("kernel", "stride", "padding", "dilation"))
    rank = len(kernel)
    made: Any = x
    if any(padding):
        pads = [0, 0, *padding]
        made = g.node("Pad", x, g.ints(*pads, *pads), g.scalar(0, x))
    shape: list[Size] = list(x.shape)
    for axis in range(rank):  # each axis becomes (kernel, windows)
        place = 2 + 2 * axis
        extent = each(lambda n, p=padding[axis]: n + 2 * p, shape[place])
        k, s, d = kernel[axis], stride[axis], dilation[axis]
        windows = each(lambda n, k=k, s=s, d=d: (n - d * (k - 1) - 1) // s + 1, extent)
        starts = g.node("Mul", g.range(windows), g.scalar(s, np.int64))
        at = g.node("Add", g.constant(np.arange(k)[:, None] * d), starts)
        made = g.node("Gather", made, at, axis=place)
        shape[place : place + 1] = [k, windows]
    order = [0, 1, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2)]
    made = g.transpose(made, order)
    return g.reshape(made, step.out.shape, tuple(shape[i] for i in order))


# ---- pooling


def _images(g: Graph, x: Item, rank: int) -> tuple[Any, Any]:
    """(x as (N, C, *S), what brings the result back)."""
    lead = x.ndim - rank
    if lead == 2:
        return x, lambda name, out: name
    spatial = x.shape[lead:]
    shape: tuple[Size, ...] = (1, *x.shape) if lead == 1 else (1, 1, *x.shape) if lead == 0 else (-1, 1, *spatial)
    if lead > 2:
            shape = (product(x.shape[:lead]), 1, *spatial)
    return g.reshape(x, shape), lambda name, out: g.reshape(name, out.shape, ())


def _ceiled(step: Step, x: Item, kernel: list[int], stride: list[int], padding: list[int], dilation: list[int]) -> int:
    """Whether the sizes are rounded up: more windows than fit."""
    rank = len(kernel)
    for i in range(rank):
        fit = each(
            lambda n, i=i: (n + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1,
            x.shape[x.ndim - rank + i],
        )
        if fit != step.kw["size"][i]:
            return 1
    return 0


@emits("max_pool", "max_pool_with_indices")
def max_pool(g: Graph, step: Step) -> Any:
    """The maximum of each window, and its number in its plane."""
    x = step.inputs[0]
    kernel, stride, padding, dilation = (_ints(step.kw[w]) for w in ("kernel", "stride", "padding", "dilation"))
    ceiled = _ceiled(step, x, kernel, stride, padding, dilation)
    given, back = _images(g, x, len(kernel))
    wants = step.op == "max_pool_with_indices"
    made = g.node(
        "MaxPool", given, kernel_shape=kernel, strides=stride, pads=padding * 2, dilations=dilation,
        ceil_mode=ceiled, outputs=1 + wants,
    )  # fmt: skip
    if not wants:
        return back(made, step.out)
    plane = g.number(product(x.shape[x.ndim - len(kernel) :]))
    return back(made[0], step.out), back(g.node("Mod", made[1], plane), step.out)


@emits("avg_pool")
def avg_pool(g: Graph, step: Step) -> Any:
    """The mean of each window."""
    x, divisor = step.inputs[0], step.kw["divisor"]
    kernel, stride, padding = (_ints(step.kw[w]) for w in ("kernel", "stride", "padding"))
    if x.dtype.kind != "f":
        raise step.refuse("means of integers are rounded", "Convert to float before it")
    ceiled = _ceiled(step, x, kernel, stride, padding, [1] * len(kernel))
    given, back = _images(g, x, len(kernel))
    inside = divisor == "inside"
    if ceiled and not inside:
        return back(_ceiled_mean(g, step, given, kernel, stride, padding, divisor), step.out)
    made = g.node(
        "AveragePool", given, kernel_shape=kernel, strides=stride, pads=padding * 2, ceil_mode=ceiled,
        count_include_pad=int(not inside),
    )  # fmt: skip
    if not isinstance(divisor, str):
        made = g.node("Mul", made, g.scalar(float(np.prod(kernel)) / divisor, x))
    return back(made, step.out)


def _ceiled_mean(g: Graph, step: Step, given: Any, kernel: Any, stride: Any, padding: Any, divisor: Any) -> str:
    """Windows that hang over the end: sums over a widened tensor, by how much of each lies in the padded one."""
    x, rank = step.inputs[0], len(kernel)
    sizes = step.all_static(step.kw["size"], "the number of windows, rounded up,")
    extents = step.all_static(x.shape[x.ndim - rank :], "a dimension of such a pooling")
    over = [
        max((m - 1) * s + k - n - p, p) for m, s, k, n, p in zip(sizes, stride, kernel, extents, padding, strict=True)
    ]
    wide = g.node("Pad", given, g.ints(0, 0, *padding, 0, 0, *over), g.scalar(0, x))
    made = g.node("AveragePool", wide, kernel_shape=kernel, strides=stride, pads=[0] * 2 * rank)
    area = float(np.prod(kernel))
    if not isinstance(divisor, str):
        return g.node("Mul", made, g.scalar(area / divisor, x))
    counts: Any = np.ones(())
    for m, s, k, n, p in zip(sizes, stride, kernel, extents, padding, strict=True):
        own = [min(i * s - p + k, n + p) - (i * s - p) for i in range(m)]
        counts = counts[..., None] * np.array(own, float)
    return g.node("Mul", made, g.constant(area / counts, x.dtype))


@emits("adaptive_max_pool")
def adaptive_max_pool(g: Graph, step: Step) -> Any:
    """The maximum of each of `size` equal parts, and its number."""
    x, size = step.inputs[0], _ints(step.kw["size"])
    extents = x.shape[x.ndim - len(size) :]
    if all(m == 1 for m in size):
        lead = x.shape[: x.ndim - len(size)]
        flat = g.reshape(x, (*lead, product(extents)))
        value = g.reduce("ReduceMax", flat, [-1], False)
        place = g.node("ArgMax", flat, axis=-1, keepdims=0)
        return g.reshape(value, step.out.shape, lead), g.reshape(place, step.out.shape, lead)
    whole = step.all_static(extents, "a dimension of adaptive pooling")
    if any(n % m for n, m in zip(whole, size, strict=True)):
        return _uneven_max(g, step, whole, size)
    kernel = [n // m for n, m in zip(whole, size, strict=True)]
    given, back = _images(g, x, len(size))
    made = g.node("MaxPool", given, kernel_shape=kernel, strides=kernel, outputs=2)
    plane = g.number(product(whole))
    return back(made[0], step.out), back(g.node("Mod", made[1], plane), step.out)


def _uneven_max(g: Graph, step: Step, extents: list[int], size: list[int]) -> Any:
    """Windows that differ in size: all made as long as the longest, by repeating their last place."""
    x, rank = step.inputs[0], len(size)
    lead = x.shape[: x.ndim - rank]
    made: Any = x
    k, numbers = len(lead), np.zeros((), np.int64)
    longest = []
    for axis, (n, m) in enumerate(zip(extents, size, strict=True)):
        starts, stops = np.arange(m) * n // m, -(-(np.arange(m) + 1) * n // m)
        longest.append(int((stops - starts).max()))
        table = np.minimum(starts[:, None] + np.arange(longest[-1]), stops[:, None] - 1)
        made = g.node("Gather", made, g.constant(table), axis=k + 2 * axis)
        numbers = numbers[..., None, None] * n + table
    apart = [*range(0, 2 * rank, 2), *range(1, 2 * rank, 2)]
    numbers = numbers.transpose(apart).reshape(*size, -1)
    shape = (*lead, *size, int(np.prod(longest)))
    made = g.reshape(g.transpose(made, [*range(k), *[k + i for i in apart]]), shape, (*lead, *size, *longest))
    index = g.node("ArgMax", made, axis=-1, keepdims=1)
    place = g.node("GatherElements", g.expand(g.constant(numbers), shape, numbers.shape), index, axis=k + rank)
    return g.reduce("ReduceMax", made, [-1], False), g.squeeze(place, -1)


@emits("max_unpool")
def max_unpool(g: Graph, step: Step) -> Any:
    """Zeros with x at its places in each plane."""
    x, indices = step.inputs
    rank = len(step.kw["size"])
    lead = x.shape[: x.ndim - rank]
    flat = (*lead, product(x.shape[x.ndim - rank :]))
    plane = (*lead, product(step.kw["size"]))
    zeros = g.filled(0, x.dtype, plane)
    made = g.node("ScatterElements", zeros, g.reshape(indices, flat), g.reshape(x, flat), axis=-1)
    return g.reshape(made, step.out.shape, plane)


@emits("col2im")
def col2im(g: Graph, step: Step) -> Any:
    """Columns summed back to images."""
    padding = _ints(step.kw["padding"])
    return g.node(
        "Col2Im", step.inputs[0], g.vector(step.kw["shape"][2:]), g.ints(*_ints(step.kw["kernel"])),
        strides=_ints(step.kw["stride"]), dilations=_ints(step.kw["dilation"]), pads=padding * 2,
    )  # fmt: skip


# ---- resizing


@emits("adaptive_avg_pool")
def adaptive_avg_pool(g: Graph, step: Step) -> Any:
    """The mean of each of `size` parts."""
    x, size = step.inputs[0], step.kw["size"]
    first = x.ndim - len(size)
    if all(m == 1 for m in size):
        return g.reduce("ReduceMean", x, range(first, x.ndim), True)
    if any(isinstance(n, Dim) or isinstance(m, Dim) for n, m in zip(x.shape[first:], size, strict=True)):
        if all(isinstance(n, int) or n == m for n, m in zip(x.shape[first:], size, strict=True)):
            return by_tables(g, step)
        raise step.refuse(
            "the windows of adaptive pooling depend on a dynamic axis",
            "Use an output size of 1, or avg_pool with a kernel, or leave that axis out of dynamic_axes",
        )
    if any(n % m for n, m in zip(x.shape[first:], size, strict=True)):
        return by_tables(g, step)
    kernel = [int(n) // int(m) for n, m in zip(x.shape[first:], size, strict=True)]
    given, back = _images(g, x, len(size))
    return back(g.node("AveragePool", given, kernel_shape=kernel, strides=kernel), step.out)


def by_tables(g: Graph, step: Step) -> Any:
    """A linear map of one dimension after the other, each a product with a constant matrix: any method, exactly."""
    x: Any = step.inputs[0]
    size, scales = step.kw["size"], step.kw["scales"]
    shape = list(x.shape)
    made = x
    for axis in range(x.ndim - len(size), x.ndim):
        n, m = shape[axis], size[axis - x.ndim]
        scale = scales and scales[axis - x.ndim]
        how = step.kw["method"]
        if n == m and (scale is None or how == "linear") and not how.endswith("antialias"):
            continue
        n, m = step.all_static([n, m], "a dimension to be resized")
        matrix = _matrix(step, n, m, scale, x.dtype)
        last = x.ndim - 1
        order = list(range(x.ndim))
        order[axis], order[last] = order[last], order[axis]
        made = g.node("MatMul", g.transpose(made, order), g.constant(matrix, x.dtype))
        made = g.transpose(made, order)
    return made


def _matrix(step: Step, n: int, m: int, scale: Any, dtype: Any) -> Any:
    """(n, m): column i has the weights that new place i is made of; those of the op, from its map of the unit rows."""
    from ...autograd.op import raw_namespace

    kernel = getattr(raw_namespace(np.ndarray), step.op)
    unit = np.eye(n, dtype=np.float64 if dtype == np.float64 else np.float32)[:, None]
    kw = {"method": step.kw["method"], "align_corners": step.kw["align_corners"]}
    return kernel(unit, size=(m,), scales=(scale,) if scale else None, **kw)[:, 0]


MODES = {"upsample_nearest": "nearest", "upsample_nearest_exact": "nearest", "upsample_linear": "linear",
         "upsample_cubic": "cubic"}  # fmt: skip


@emits(*MODES, "upsample_lanczos")
def upsample(g: Graph, step: Step) -> Any:
    """Resized: by ONNX's Resize where sizes are dynamic or nearest, else by the op's own tables."""
    x: Any = step.inputs[0]
    size, scales, method = step.kw["size"], step.kw["scales"], step.kw["method"]
    first = x.ndim - len(size)
    dynamic = any(isinstance(s, Dim) for s in (*size, *x.shape[first:]))
    if x.dtype.kind != "f":
        raise step.refuse("integers are resized with rounding of their own", "Convert to float before it")
    pairs = zip(x.shape[first:], size, strict=True)
    if not dynamic and (step.op != "upsample_nearest" or any(m % n for n, m in pairs)):
        return by_tables(g, step)
    if step.op == "upsample_lanczos" or "antialias" in method:
        raise step.refuse("antialiased resizing needs sizes that are known", "Leave that axis out of dynamic_axes")
    whole = [1.0] * first
    if scales is not None and all(s is not None for s in scales):
        factors = g.constant(np.array([*whole, *scales], np.float32))
        sizes = None
    else:
        factors, sizes = None, g.vector([*x.shape[:first], *size])
    where = "align_corners" if step.kw["align_corners"] else "half_pixel"
    if step.op == "upsample_nearest":
        where = "asymmetric"
    rounding = {"nearest_mode": "floor"} if step.op == "upsample_nearest" else {"nearest_mode": "round_prefer_ceil"}
    extra: Any = rounding if MODES[step.op] == "nearest" else {}
    if step.op == "upsample_cubic":
        extra = {"cubic_coeff_a": -0.75}
    return g.node(
        "Resize", x, None, factors, sizes, mode=MODES[step.op], coordinate_transformation_mode=where, **extra
    )


@emits("grid_sample")
def grid_sample(g: Graph, step: Step) -> Any:
    """Values of x at the places of a grid."""
    x, grid = step.inputs
    method, rank = step.kw["method"], x.ndim - 2
    if any(step.kw["order"]):
        raise step.refuse("it is a derivative by the grid")
    if rank != 2:
        raise step.refuse("onnxruntime samples images only, no volumes")
    old = g.opset < 20
    mode = {"bilinear": "bilinear" if old else "linear", "nearest": "nearest", "bicubic": "bicubic" if old else "cubic"}
    if method not in mode:
        raise step.refuse(f"its method is {method!r}")
    return g.node(
        "GridSample", x, grid, mode=mode[method], padding_mode=step.kw["padding"],
        align_corners=int(step.kw["align_corners"]),
    )  # fmt: skip
