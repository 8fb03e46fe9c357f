"""New tensors: from data, from nothing, and like others."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from ..device import resolve
from ..dtypes import as_dtype, from_numpy_dtype, get_default_dtype, int64, scalar_dtype
from ..tensor import Tensor, wrap
from .args import number_for
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
    if len(data) == 1 and isinstance(data[0], Tensor):
        return data[0].array
    if len(data) == 1 and not isinstance(data[0], (int, np.integer)):
        return finish(_host_of(data[0], infer=False).astype(d.np), device).array
    if any(not hasattr(n, "__index__") for n in data):
        found = [type(n).__name__ for n in data]
        raise TypeError(f"new(): data must be a sequence or sizes must be ints (got {found})")
    return finish(np.zeros(tuple(data) or (0,), d.np), device).array


def _first_number(data: Any) -> Any:
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return data


def _plain(data: Any) -> Any:
    """Nested sequences with the tensors in them as NumPy arrays."""
    if isinstance(data, Tensor):
        return data.detach().cpu().array
    if isinstance(data, (list, tuple)):
        return [_plain(item) for item in data]
    return data


def _host_of(data: Any, infer: bool = True) -> Any:
    """`data` as a NumPy array: of the dtype that PyTorch infers, or (infer=False) as exact as it was given."""
    if isinstance(data, Tensor):
        return data.detach().cpu().array
    if isinstance(data, (np.ndarray, np.generic)):
        host = np.asarray(data)
        from_numpy_dtype(host.dtype)
        return host
    first = _first_number(data)
    if isinstance(first, (Tensor, np.ndarray)):
        data = _plain(data)
    if isinstance(data, (str, bytes)) or (isinstance(first, str)):
        raise TypeError(f"new(): invalid data type '{type(first).__name__}'")
    if first is None:
        raise RuntimeError("Could not infer dtype of NoneType")
    try:
        host = np.array(data)
    except ValueError as error:
        raise ValueError(_ragged_text(data)) from error
    except OverflowError as error:
        raise ValueError(f"Overflow when unpacking long long: {error}") from error
    if host.dtype == object:
        found = re.sub(r"^<class '(.*)'>$", r"\1", str(type(first)))
        if isinstance(first, int):
            raise ValueError(f"Overflow when unpacking long long: {first}")
        raise RuntimeError(f"Could not infer dtype of {found}")
    if host.size == 0 and not isinstance(first, (np.generic, np.ndarray)):
        return host.astype(get_default_dtype().np)
    if infer and host.dtype.kind in "fc" and not isinstance(first, (np.generic, np.ndarray, Tensor)):
        host = host.astype(scalar_dtype(host.reshape(-1)[0].item() if host.dtype.kind == "f" else 1j).np)
    return host


def _ragged_text(data: Any) -> str:
    """PyTorch's sentence for sequences of unequal length."""
    level, dim = [data], 0
    while all(isinstance(d, (list, tuple)) for d in level):
        lengths = [len(d) for d in level]
        wrong = next((n for n in lengths if n != lengths[0]), None)
        if wrong is not None:
            return f"expected sequence of length {lengths[0]} at dim {dim} (got {wrong})"
        level, dim = [item for d in level for item in d], dim + 1
    return f"expected every element at dim {dim} to be of one kind: some are sequences and some are numbers"


@public(method=False)
def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
) -> Tensor:
    """A new leaf tensor with a copy of `data` (numbers, nested sequences, NumPy arrays). -> (*shape of data).

    Python floats become the default dtype, ints int64; NumPy arrays keep their dtype.
    """
    if isinstance(data, Tensor) and device is None:
        device = data.device
    host = np.array(_host_of(data, infer=dtype is None), order="C")
    if dtype is not None:
        host = _converted(host, as_dtype(dtype).np)
    return finish(host, device, requires_grad)


def _converted(host: Any, np_dtype: Any) -> Any:
    if host.dtype.kind == "c" and np_dtype.kind not in "cb":
        raise TypeError(f"can't convert complex to {np_dtype}")
    return host.astype(np_dtype)


@public(method=False)
def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, sharing memory where dtype and device allow."""
    if isinstance(data, Tensor):
        t = data
    elif isinstance(data, np.ndarray):
        t = finish(data, device) if device is not None or resolve(None).type != "cpu" else from_numpy(data)
    else:
        return tensor(data, dtype=dtype, device=device)
    if dtype is not None or device is not None:
        t = t.to(device=device, dtype=dtype)
    return t


@public(method=False)
def asarray(
    obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:
    """`obj` as a tensor; shares memory unless copy=True."""
    t = tensor(obj, dtype=dtype, device=device) if copy else as_tensor(obj, dtype, device)
    return t.detach().requires_grad_() if requires_grad else t


@public(method=False)
def from_numpy(ndarray: Any) -> Tensor:
    """A CPU tensor that shares the memory of a NumPy array. TypeError for other objects and dtypes."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    from_numpy_dtype(ndarray.dtype)
    if any(s < 0 for s in ndarray.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative strides are not "
            "currently supported. (You can probably work around this by making a copy of your array with array.copy().)"
        )
    return wrap(ndarray)


@public(method=False)
def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A 1-D tensor over the memory of a buffer."""
    t = wrap(np.frombuffer(buffer, as_dtype(dtype).np, count, offset))
    return t.requires_grad_() if requires_grad else t


def _filled(name: str, value: Any, doc: str) -> Any:
    """zeros, ones, empty: a constant of the given size."""

    def make(
        *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **kw: Any
    ) -> Tensor:
        d = get_default_dtype() if dtype is None else as_dtype(dtype)
        return _constant(size_of(size, kw, name), value, d.np, device, requires_grad)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = doc
    return public(make, method=False)


def _constant(shape: tuple[int, ...], value: Any, np_dtype: Any, device: Any, requires_grad: bool = False) -> Tensor:
    place = resolve(device)
    backend = place.backend()
    with backend.guard(place.key):
        array = backend.xp.zeros(shape, np_dtype) if value == 0 else backend.xp.full(shape, value, np_dtype)
    t = wrap(backend.tidy(array))
    if requires_grad:
        t.requires_grad = True
    return t


zeros = _filled("zeros", 0, "Zeros. -> (*size).")
ones = _filled("ones", 1, "Ones. -> (*size).")
empty = _filled("empty", 0, "A tensor whose values are not to be relied on (zeros here). -> (*size).")


@public(method=False)
def full(
    size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **kw: Any
) -> Tensor:
    """fill_value everywhere, of its own dtype unless one is given. -> (*size)."""
    value = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    if dtype is not None:
        d = as_dtype(dtype)
    else:
        d = fill_value.dtype if isinstance(fill_value, Tensor) else scalar_dtype(value)
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"full(): argument 'size' (position 1) must be tuple of ints, not {type(size).__name__}")
    if dtype is not None:
        value = number_for(value, wrap(np.empty(0, d.np)))
    return _constant(size_of((size,), kw, "full"), value, d.np, device, requires_grad)


def _like(name: str, value: Any, doc: str) -> Any:
    def make(
        input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, memory_format: Any = None,
        layout: Any = None, pin_memory: bool = False,
    ) -> Tensor:  # fmt: skip
        d = input.array.dtype if dtype is None else as_dtype(dtype).np
        return _constant(input.array.shape, value, d, input.device if device is None else device, requires_grad)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = doc
    return public(make, method=False)


zeros_like = _like("zeros_like", 0, "Zeros of input's shape, dtype and device. input: (*S) -> (*S).")
ones_like = _like("ones_like", 1, "Ones of input's shape, dtype and device. input: (*S) -> (*S).")
empty_like = _like("empty_like", 0, "A tensor of input's shape, dtype and device. input: (*S) -> (*S).")


@public(method=False)
def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **_: Any
) -> Tensor:
    """fill_value everywhere, of input's shape, dtype and device. input: (*S) -> (*S)."""
    value = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    d = input.array.dtype if dtype is None else as_dtype(dtype).np
    return _constant(input.array.shape, value, d, input.device if device is None else device, requires_grad)


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
    """The legacy constructor with this tensor's dtype and device."""
    return wrap(legacy_array(data, self.device if device is None else device, self.dtype))


@public(method=False)
def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **_: Any) -> Tensor:
    """A 0-d tensor of the default dtype. -> ()."""
    if isinstance(s, (list, tuple, str)):
        raise TypeError(f"scalar_tensor(): argument 's' (position 1) must be Number, not {type(s).__name__}")
    return tensor(s, dtype=get_default_dtype() if dtype is None else dtype, device=device, requires_grad=requires_grad)


@public(method=False)
def arange(
    *args: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **kw: Any
) -> Tensor:
    """arange(start=0, end, step=1): start, start + step, ... below end. -> (ceil((end - start) / step),)."""
    values = [v.item() if isinstance(v, Tensor) else v for v in args]
    start, end, step = kw.pop("start", 0), kw.pop("end", None), kw.pop("step", 1)
    if len(values) == 1 and end is None:
        (end,) = values
    elif values:
        start, end, step = [*values, *(() if len(values) > 2 else (end,) if len(values) == 1 else ()), step][:3]
    size_of((), kw, "arange")
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if dtype is None:
        d = int64 if all(isinstance(v, (int, np.integer)) for v in (start, end, step)) else get_default_dtype()
    else:
        d = as_dtype(dtype)
    count = math.ceil((end - start) / step)
    if d.np.kind in "iu":
        host = (int(start) + int(step) * np.arange(count, dtype=np.int64)).astype(d.np)
    else:
        host = (start + step * np.arange(count, dtype=np.float64)).astype(d.np)
    return finish(host, device, requires_grad)


@public(method=False)
def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **_: Any
) -> Tensor:
    """`steps` evenly spaced values from start to end, both included. -> (steps,)."""
    return finish(_linspace(start, end, steps, _real(dtype)), device, requires_grad)


@public(method=False)
def logspace(
    start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, **_: Any,
) -> Tensor:  # fmt: skip
    """base ** linspace(start, end, steps). -> (steps,)."""
    d = _real(dtype)
    return finish(np.power(d.np.type(base), _linspace(start, end, steps, d)), device, requires_grad)


def _real(dtype: Any) -> Any:
    return get_default_dtype() if dtype is None else as_dtype(dtype)


def _linspace(start: Any, end: Any, steps: int, d: Any) -> Any:
    """As PyTorch computes it: from both ends towards the middle, in the dtype itself."""
    if steps < 0:
        raise RuntimeError(f"number of steps must be non-negative (got {steps})")
    start, end = (v.item() if isinstance(v, Tensor) else v for v in (start, end))
    work = np.dtype(np.float64) if d.np.kind in "iu" else d.np
    kind = work.type
    if steps == 1:
        return np.array([start], d.np)
    step = (kind(end) - kind(start)) / kind(max(steps - 1, 1))
    i = np.arange(steps)
    low = kind(start) + step * i.astype(work)
    high = kind(end) - step * (steps - 1 - i).astype(work)
    return np.where(i < steps // 2, low, high).astype(d.np)


@public(method=False)
def eye(
    n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **_: Any
) -> Tensor:
    """Ones on the diagonal, zeros elsewhere. -> (n, m)."""
    m = n if m is None else m
    for word, value in (("n", n), ("m", m)):
        if value < 0:
            raise RuntimeError(f"{word} must be greater or equal to 0, got {value}")
    return finish(np.eye(n, m, dtype=_real(dtype).np), device, requires_grad)
