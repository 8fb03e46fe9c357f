"""New tensors: from data, from nothing, and like others."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends.registry import backend_of
from ..coerce import into
from ..device import resolve
from ..dtypes import as_dtype, get_default_dtype, int64, scalar_dtype
from ..size import Size
from ..tensor import Tensor, wrap
from .args import number_as, number_of
from .data import checked_array, host_of
from .table import public


def finish(host: Any, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of a new host array, moved to its device."""
    place = resolve(device)
    if place.type != "cpu":
        host = place.backend().asarray(host, device=place.key)
    t = wrap(host)
    if requires_grad:
        t.requires_grad = True
    return t


def new_like(input: Tensor, host: Any) -> Tensor:
    """A tensor of a new host array on input's device."""
    return finish(host, input.device)


def size_of(size: Any, kw: dict[str, Any], name: str) -> tuple[int, ...]:
    """The shape meant by zeros(2, 3), zeros((2, 3)), zeros(size=(2, 3)); checks what else was given by keyword."""
    if "size" in kw:
        size = kw.pop("size")
    elif not size:
        raise TypeError(f'{name}() missing 1 required positional arguments: "size"')
    elif len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = size[0]
    for word in ("layout", "pin_memory", "memory_format", "names", "out"):
        kw.pop(word, None)
    if kw:
        raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(kw))}'")
    shape = []
    for i, n in enumerate(size):
        if isinstance(n, (bool, float, str)) or not hasattr(n, "__index__"):
            raise TypeError(
                f"{name}(): argument 'size' (position {i + 1}) must be tuple of ints, "
                f"but found element of type {type(n).__name__} at pos {i}"
            )
        shape.append(int(n))
    if any(n < 0 for n in shape):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {shape}")
    return tuple(shape)


def legacy_array(data: tuple[Any, ...], device: Any, dtype: Any = None) -> Any:
    """The raw array of the legacy constructors: Tensor(2, 3) of that shape, Tensor([1, 2]) of that data."""
    d = get_default_dtype() if dtype is None else dtype
    first = data[0] if len(data) == 1 else None
    if isinstance(first, Tensor):
        if dtype is not None and first.dtype is not dtype:
            raise TypeError(f"torch.{dtype.legacy}Tensor() expected a tensor of {dtype}, but got one of {first.dtype}")
        return first.array
    if isinstance(first, Size):
        data = tuple(first)
    elif len(data) == 1 and (isinstance(first, bool) or not isinstance(first, (int, np.integer))):
        if not isinstance(first, (Sequence, np.ndarray)):
            raise TypeError(f"new(): data must be a sequence (got {type(first).__name__})")
        return finish(np.array(host_of(first, d)), device).array
    if any(not hasattr(n, "__index__") for n in data):
        found = [type(n).__name__ for n in data]
        raise TypeError(f"new(): data must be a sequence or sizes must be ints (got {found})")
    return finish(np.zeros(size_of(data, {}, "new") if data else (0,), d.np), device).array


@public(method=False)
def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
) -> Tensor:
    """A new leaf tensor with a copy of `data` (numbers, nested sequences, NumPy arrays). -> (*shape of data).

    Python floats become the default dtype, ints int64; NumPy arrays keep their dtype.
    """
    if isinstance(data, Tensor) and device is None:
        device = data.device
    if not isinstance(data, (Tensor, list, np.ndarray)) and hasattr(data, "__cuda_array_interface__"):
        t = as_tensor(data).clone().to(device=device, dtype=dtype)
        return t.requires_grad_() if requires_grad else t
    host = np.array(host_of(data, None if dtype is None else as_dtype(dtype)), order="C")
    return finish(host, device, requires_grad)


@public(method=False)
def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, sharing memory where dtype and device allow. -> (*shape of data)."""
    if isinstance(data, Tensor):
        t = data
    elif isinstance(data, np.ndarray):
        elsewhere = device is not None or resolve(None).type != "cpu"
        t = finish(checked_array(data), device) if elsewhere else from_numpy(data)
    elif hasattr(data, "__cuda_array_interface__"):
        from ..interchange import of_device_memory

        t = of_device_memory(data)
    else:
        return tensor(data, dtype=dtype, device=device)
    if dtype is not None or device is not None:
        t = t.to(device=device, dtype=dtype)
    return t


@public(method=False)
def asarray(
    obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:
    """`obj` as a tensor; shares memory unless copy=True. -> (*shape of obj)."""
    t = tensor(obj, dtype=dtype, device=device) if copy else as_tensor(obj, dtype, device)
    return t.detach().requires_grad_() if requires_grad else t


@public(method=False)
def from_numpy(ndarray: Any) -> Tensor:
    """A CPU tensor that shares the memory of a NumPy array. TypeError for other objects and dtypes. (*S) -> (*S)."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    return wrap(checked_array(ndarray).view())


@public(method=False)
def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A 1-D tensor over the memory of a buffer. ValueError where the buffer does not have so many elements.

    -> (count,).
    """
    length = memoryview(buffer).nbytes
    if not length or not count:
        raise ValueError(f"both buffer length ({length}) and count ({count}) must not be 0")
    t = wrap(np.frombuffer(buffer, as_dtype(dtype).np, count, offset))
    return t.requires_grad_() if requires_grad else t


def creates(function: Any = None, *, name: str | None = None) -> Any:
    """Declares a creation function; what it makes for `out=` has the dtype of that (no other `dtype=` may be given)."""
    if function is None:
        return lambda f: creates(f, name=name)
    name = name or function.__name__

    def call(*args: Any, out: Any = None, **kwargs: Any) -> Tensor:
        if out is None:
            return function(*args, **kwargs)
        given = kwargs.pop("dtype", None)
        if given is not None and as_dtype(given) is not out.dtype:
            raise RuntimeError(
                f"dtype {as_dtype(given).legacy} does not match dtype of out parameter ({out.dtype.legacy})"
            )
        made = function(*args, dtype=out.dtype, **kwargs)
        return out if name == "empty" and out.array.shape == made.array.shape else into(out, name, made)

    call.__name__ = call.__qualname__ = name
    call.__doc__, call.__module__, call.__wrapped__ = function.__doc__, function.__module__, function  # type: ignore[attr-defined]
    return public(call, name=name, method=False)


def _filled(name: str, value: Any, doc: str) -> Any:
    """zeros, ones, empty: a constant of the given size."""

    def make(
        *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **kw: Any
    ) -> Tensor:
        d = get_default_dtype() if dtype is None else as_dtype(dtype)
        layout = kw.get("memory_format")
        return _constant(size_of(size, kw, name), value, d.np, device, requires_grad, layout)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = doc
    return creates(make)


def _constant(
    shape: tuple[int, ...], value: Any, np_dtype: Any, device: Any, requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:  # fmt: skip
    place = resolve(device)
    backend = place.backend()
    last = memory_format is not None and "channels_last" in memory_format.name
    if last:
        rank = 4 if memory_format.name == "channels_last" else 5
        if len(shape) != rank:
            raise RuntimeError(f"required rank {rank} tensor to use {memory_format.name} format")
        shape = (shape[0], *shape[2:], shape[1])
    with backend.guard(place.key):
        array = backend.tidy(
            backend.xp.zeros(shape, np_dtype) if value == 0 else backend.xp.full(shape, value, np_dtype)
        )
    if last:
        array = array.transpose(0, len(shape) - 1, *range(1, len(shape) - 1))
    t = wrap(array)
    if requires_grad:
        t.requires_grad = True
    return t


zeros = _filled("zeros", 0, "Zeros. -> (*size).")
ones = _filled("ones", 1, "Ones. -> (*size).")
empty = _filled("empty", 0, "A tensor whose values are not to be relied on (zeros here). -> (*size).")


@creates
def full(
    size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **kw: Any
) -> Tensor:
    """fill_value everywhere, of its own dtype unless one is given. -> (*size)."""
    value = number_of(fill_value, "full", "fill_value")
    if dtype is not None:
        d = as_dtype(dtype)
    else:
        d = fill_value.dtype if isinstance(fill_value, Tensor) else scalar_dtype(value)
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"full(): argument 'size' (position 1) must be tuple of ints, not {type(size).__name__}")
    return _constant(size_of((size,), kw, "full"), number_as(value, d), d.np, device, requires_grad)


def _like(name: str, value: Any, doc: str) -> Any:
    def make(
        input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, memory_format: Any = None,
        layout: Any = None, pin_memory: bool = False,
    ) -> Tensor:  # fmt: skip
        return _constant_like(input, value, dtype, device, requires_grad, memory_format)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = doc
    return public(make, method=False)


def _constant_like(
    input: Tensor, value: Any, dtype: Any, device: Any, requires_grad: bool, memory_format: Any = None
) -> Tensor:
    """A constant of input's shape and, on its device, its order of memory unless another one is given."""
    d = input.array.dtype if dtype is None else as_dtype(dtype).np
    backend = backend_of(input.array)
    given = memory_format is not None and memory_format.name != "preserve_format"
    if given or device is not None or 0 in input.array.strides:
        place = input.device if device is None else device
        return _constant(input.array.shape, value, d, place, requires_grad, memory_format)
    xp = backend.xp
    t = wrap(backend.tidy(xp.zeros_like(input.array, d) if value == 0 else xp.full_like(input.array, value, d)))
    if requires_grad:
        t.requires_grad = True
    return t


zeros_like = _like("zeros_like", 0, "Zeros of input's shape, dtype and device. input: (*S) -> (*S).")
ones_like = _like("ones_like", 1, "Ones of input's shape, dtype and device. input: (*S) -> (*S).")
empty_like = _like("empty_like", 0, "A tensor of input's shape, dtype and device. input: (*S) -> (*S).")


@public(method=False)
def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **_: Any
) -> Tensor:
    """fill_value everywhere, of input's shape, dtype and device. input: (*S) -> (*S)."""
    d = input.dtype if dtype is None else as_dtype(dtype)
    value = number_as(number_of(fill_value, "full_like", "fill_value"), d)
    return _constant_like(input, value, dtype, device, requires_grad)


def _new(name: str, value: Any) -> Any:
    def make(
        self: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **kw: Any
    ) -> Tensor:
        d = self.array.dtype if dtype is None else as_dtype(dtype).np
        return _constant(size_of(size, kw, name), value, d, self.device if device is None else device, requires_grad)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"{name[4:].capitalize()} of this tensor's dtype and device. -> (*size)."
    return public(make, is_function=False)


new_zeros, new_ones, new_empty = _new("new_zeros", 0), _new("new_ones", 1), _new("new_empty", 0)


@public(is_function=False)
def new_full(
    self: Tensor,
    size: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """fill_value everywhere, of this tensor's dtype and device. -> (*size)."""
    return full(
        size, fill_value, dtype=self.dtype if dtype is None else dtype,
        device=self.device if device is None else device, requires_grad=requires_grad,
    )  # fmt: skip


@public(is_function=False)
def new_tensor(
    self: Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **_: Any
) -> Tensor:
    """A copy of data, of this tensor's dtype and device. -> (*shape of data)."""
    return tensor(
        data, dtype=self.dtype if dtype is None else dtype, device=self.device if device is None else device,
        requires_grad=requires_grad,
    )  # fmt: skip


@public(is_function=False)
def new(self: Tensor, *data: Any, device: Any = None) -> Tensor:
    """The legacy constructor with this tensor's dtype and device. -> (*size)."""
    return wrap(legacy_array(data, self.device if device is None else device, self.dtype))


@public(method=False)
def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **_: Any) -> Tensor:
    """A 0-d tensor of the default dtype. -> ()."""
    if isinstance(s, (list, tuple, str)):
        raise TypeError(f"scalar_tensor(): argument 's' (position 1) must be Number, not {type(s).__name__}")
    return tensor(s, dtype=get_default_dtype() if dtype is None else dtype, device=device, requires_grad=requires_grad)


@creates
def arange(
    *args: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **kw: Any
) -> Tensor:
    """arange(start=0, end, step=1): start, start + step, ... below end. -> (ceil((end - start) / step),)."""
    given: dict[str, Any] = {word: kw.pop(word) for word in ("start", "end", "step") if word in kw}
    names = ("end",) if len(args) == 1 and "end" not in given else ("start", "end", "step")
    if len(args) > 3 or given.keys() & set(names[: len(args)]) or "end" not in {*names[: len(args)], *given}:
        raise TypeError(f"arange() received an invalid combination of arguments - got {args} and {given}")
    size_of((0,), kw, "arange")
    given = {"start": 0, "step": 1, **given, **dict(zip(names, args, strict=False))}
    start, end, step = values = [number_of(given[word], "arange", word) for word in ("start", "end", "step")]
    if dtype is None:
        d = int64 if all(isinstance(v, int) for v in values) else get_default_dtype()
    else:
        d = as_dtype(dtype)
    return finish(_arange(start, end, step, d), device, requires_grad)


@creates(name="range")
def range_(
    start: Any = 0, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, layout: Any = None, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """start, start + step, ... up to end, which is included: deprecated, use arange.

    -> (floor((end - start) / step) + 1,).
    """
    warnings.warn(
        "torch.range is deprecated and will be removed in a future release because its behavior is inconsistent with "
        "Python's range builtin. Instead, use torch.arange, which produces values in [start, end).",
        UserWarning,
        stacklevel=3,
    )
    if end is None:
        raise TypeError('range() missing 1 required positional arguments: "end"')
    first, last, by = (number_of(v, "range", w) for v, w in ((start, "start"), (end, "end"), (step, "step")))
    d = get_default_dtype() if dtype is None else as_dtype(dtype)
    if by == 0:
        raise RuntimeError("step must be nonzero")
    if not (math.isfinite(first) and math.isfinite(last)):
        raise RuntimeError(f"unsupported range: {first} -> {last}")
    if (last - first) * by < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    count = math.floor((last - first) / by) + 1
    return finish((first + by * np.arange(count)).astype(d.np), device, requires_grad)


def _arange(start: Any, end: Any, step: Any, d: Any) -> Any:
    if any(isinstance(v, complex) for v in (start, end, step)):
        raise RuntimeError("value cannot be converted to type double without overflow")
    if d.np.kind in "bc":
        raise NotImplementedError(f"\"arange_cpu\" not implemented for '{d.legacy}'")
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    span = end - start
    if span * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    count = math.ceil(span / step)
    if d.np.kind in "iu":
        if int(step) == 0:
            raise ValueError("step must be nonzero")
        if d is int64:  # of the whole numbers; for the smaller dtypes PyTorch counts before it cuts
            count = -((int(start) - int(end)) // int(step))
        return (int(start) + int(step) * np.arange(count, dtype=np.int64)).astype(d.np)
    return (start + step * np.arange(count, dtype=np.float64)).astype(d.np)


@creates
def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **_: Any
) -> Tensor:
    """`steps` evenly spaced values from start to end, both included. -> (steps,)."""
    d, values = _steps("linspace", start, end, steps, dtype)
    return finish(values.astype(d.np), device, requires_grad)


@creates
def logspace(
    start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, **_: Any,
) -> Tensor:  # fmt: skip
    """base ** linspace(start, end, steps). -> (steps,)."""
    d, exponents = _steps("logspace", start, end, steps, dtype)
    number = number_of(base, "logspace", "base")
    if d.np.kind in "iu":
        values = np.power(float(number), exponents.astype(np.float64)).astype(d.np)
    else:
        values = np.power(d.np.type(number), exponents)
    return finish(values, device, requires_grad)


def _real(dtype: Any) -> Any:
    return get_default_dtype() if dtype is None else as_dtype(dtype)


def _steps(name: str, start: Any, end: Any, steps: Any, dtype: Any) -> tuple[Any, Any]:
    """(dtype, the values before they are rounded to an integer dtype) of linspace, the exponents of logspace.

    As PyTorch computes them: from both ends towards the middle, each value with one rounding (fused multiply-add).
    """
    for word, value in (("start", start), ("end", end)):
        if isinstance(value, Tensor) and value.array.ndim:
            raise RuntimeError(
                f"{name} only supports 0-dimensional start and end tensors, but got {word} with "
                f"{value.array.ndim} dimension(s)."
            )
    start, end = number_of(start, name, "start"), number_of(end, name, "end")
    if isinstance(steps, (bool, float)) or not hasattr(steps, "__index__"):
        given = ", ".join(type(v).__name__ for v in (start, end, steps))
        raise TypeError(f"{name}() received an invalid combination of arguments - got ({given}); steps must be an int")
    steps = int(steps)
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    d = _real(dtype)
    if dtype is None and (isinstance(start, complex) or isinstance(end, complex)):
        d = d.to_complex()
    if d.np.kind == "b":
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for 'Bool'")
    i = np.arange(steps)
    if d.np.kind in "iu":  # between whole numbers, in float64, logspace in float32
        kind = np.float32 if name == "logspace" else np.float64
        exact: Any = kind
        first, last = number_as(start, d), number_as(end, d)
        step = kind(last - first) / kind(max(steps - 1, 1))
        i = i.astype(kind)
    else:
        kind = d.np.type
        exact = {"c": np.clongdouble, "f": np.longdouble}.get(d.np.kind, np.float64)
        first, last = kind(start), kind(end)
        step = exact((last - first) / kind(max(steps - 1, 1)))
    if steps == 1:
        return d, np.array([first], kind)
    low = exact(first) + step * i
    high = exact(last) - step * (steps - 1 - i)
    values = np.where(i < steps // 2, low, high)
    return d, values if d.np.kind in "iu" else values.astype(d.np)


@creates
def eye(
    n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **_: Any
) -> Tensor:
    """Ones on the diagonal, zeros elsewhere. -> (n, m)."""
    m = n if m is None else m
    for word, value in (("n", n), ("m", m)):
        if value < 0:
            raise RuntimeError(f"{word} must be greater or equal to 0, got {value}")
    return finish(np.eye(n, m, dtype=_real(dtype).np), device, requires_grad)
