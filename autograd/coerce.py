"""What an op's guard turns away: Python scalars, dtypes to be promoted, devices to be checked; and error texts.

Nothing here runs in the usual case (tensors of one floating dtype on one device).
"""

from __future__ import annotations

import functools
from types import FunctionType
from typing import Any

import numpy as np

from ..backends.registry import backend_of
from .dtypes import (
    BOOL,
    F32,
    F64,
    INT,
    dtype,
    from_numpy_dtype,
    get_default_dtype,
    result_dtype,
    scalar_dtype,
)
from .op import OPS, Op

TENSOR: list[Any] = []  # [Tensor], set by tensor.py: this module is below it
PLAIN: set[Any] = set()  # Tensor and those of its classes which are nothing but an array and its history


def slow(op: Op, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """Repairs the arguments of one call, or says what is wrong with them, and runs the op."""
    Tensor = TENSOR[0]
    items = list(args)
    if len(args) == 2 and op.promote == "same":
        for place in (0, 1):
            number, t = args[place], args[1 - place]
            c = number.__class__
            if (c is int or c is float) and isinstance(t, Tensor):  # the usual cases of a number that changes no dtype
                dt = t.array.dtype
                if op.scalars and (dt is F32 or dt is F64):
                    return _run_with_scalar(op, items, place)
                if c is int and dt.kind in "iu":
                    items[place] = scalar_tensor(number, t)
                    return op.run(*items, **kw)
    names = [*op.inputs, *[op.variadic or ""] * (len(args) - len(op.inputs))]
    scalars = []
    for i, (name, item) in enumerate(zip(names, items, strict=True)):
        if isinstance(item, Tensor) or (item is None and name in op.optional):
            continue
        if isinstance(item, (bool, int, float, complex, np.number, np.bool_)) and op.promote in ("same", "float"):
            items[i] = item.item() if isinstance(item, np.generic) else item
            scalars.append(i)
            continue
        raise TypeError(
            f"{op.name}(): argument '{_public_name(op, name)}' (position {i + 1}) must be Tensor, "
            f"not {type(item).__name__}"
        )
    if op.promote is not None:
        scalars = _promote(op, names, items, scalars)
    tensors = [item for item in items if isinstance(item, Tensor)]
    _same_device(op, names, items)
    if scalars and op.scalars and len(tensors) == 1:
        return _run_with_scalar(op, items, scalars[0])
    for i in scalars:
        items[i] = scalar_tensor(items[i], tensors[0])
    if op.holomorphic and any(t.array.dtype.kind == "c" for t in tensors):
        return op.run_complex(*items, **kw)
    return op.run(*items, **kw)


class Numbers(dict[Any, Any]):
    """Python number -> 0-d host array of one dtype, for numbers that come again (`x * 2`)."""

    def __init__(self, np_dtype: Any):
        super().__init__()
        self.np_dtype = np_dtype

    def __missing__(self, value: Any) -> Any:
        made = np.array(value, self.np_dtype)
        made.flags.writeable = False
        if value and value == value:  # 0 and -0 are one key, NaN is none
            if len(self) >= 512:
                self.clear()
            self[value] = made
        return made


S32, S64 = Numbers(F32), Numbers(F64)


def _run_with_scalar(op: Op, items: list[Any], place: int) -> Any:
    from .codegen import ENVIRONMENT

    return ENVIRONMENT[("st_" if place == 0 else "ts_") + op.name](*items)


def scalar_tensor(value: Any, like: Any, np_dtype: Any = None) -> Any:
    """A 0-d constant on the device of `like`, in its dtype."""
    backend = backend_of(like.array)
    np_dtype = np_dtype or like.array.dtype
    host = _wrap_int(value, np_dtype) if np_dtype.kind in "iu" else np.array(value).astype(np_dtype)
    return TENSOR[0]._of(backend.asarray(host, device=backend.device_of(like.array)))


def _wrap_int(value: int, np_dtype: Any) -> Any:
    """An integer reduced to the dtype's range as C does: uint8 of 300 is 44."""
    return np.array(int(value) & ((1 << (8 * np_dtype.itemsize)) - 1), dtype=f"u{np_dtype.itemsize}").astype(np_dtype)


# What PyTorch also does on two Python numbers: ops, and true_divide, another name of div.
OF_NUMBERS = {"add", "sub", "mul", "div", "true_divide", "floor_divide", "div_trunc"}


def _promote(op: Op, names: list[str], items: list[Any], scalars: list[int]) -> list[int]:
    """Casts the tensors among `items` to the dtype of the result; gives the places of what stays a Python scalar."""
    Tensor = TENSOR[0]
    taking = [i for i, n in enumerate(names) if n not in op.index and items[i] is not None]
    tensors = [(i, items[i]) for i in taking if isinstance(items[i], Tensor)]
    kinds = [from_numpy_dtype(t.array.dtype) for _, t in tensors]
    if op.promote == "equal":
        if any(k is not kinds[0] for k in kinds):
            shown = ", ".join(f"{_public_name(op, names[i])}: {k}" for (i, _), k in zip(tensors, kinds, strict=True))
            raise RuntimeError(
                f"{op.name}: expected all inputs to have the same dtype, but got: {shown}. "
                "Convert them with .to(dtype) first"
            )
        return []
    if not tensors and op.name in OF_NUMBERS:
        items[0] = Tensor._of(np.array(items[0], scalar_dtype(items[0]).np))
        return _promote(op, names, items, [1])
    if not tensors:
        raise TypeError(f"{op.name}(): argument 'input' (position 1) must be Tensor, not {type(items[0]).__name__}")
    sized = [k for (_, t), k in zip(tensors, kinds, strict=True) if t.array.ndim]
    flat = [k for (_, t), k in zip(tensors, kinds, strict=True) if not t.array.ndim]
    target = result_dtype(sized, flat, [scalar_dtype(items[i]) for i in scalars])
    if op.promote == "float" and target.category <= INT:
        target = get_default_dtype()
    for i, t in tensors:
        if t.array.dtype is not target.np:
            items[i] = cast(t, target)
    if target.np is F32 or target.np is F64 or target.name in ("float16", "bfloat16"):
        if not (op.scalars and len(tensors) == 1 and target.name not in ("bfloat16", "float16")):
            for i in scalars:
                items[i] = scalar_tensor(items[i], tensors[0][1], target.np)
            return []
        return scalars
    for i in scalars:
        value = items[i]
        if target.category == BOOL:
            value = bool(value)
        items[i] = scalar_tensor(value, tensors[0][1], target.np)
    return []


def cast(t: Any, target: dtype) -> Any:
    """`t` in another dtype, recorded."""
    return OPS["cast"].fn(t, dtype=target.np)


def tidy(like: Any, out: Any) -> Any:
    """A kernel's result as an array of the kind of `like`: libraries give scalars for 0-d results."""
    return backend_of(like).tidy(out)


def mixed(first: Any, arrays: tuple[Any, ...], dtypes: bool) -> bool:
    """Whether the arrays of a variadic input differ in type (device), or in dtype where that matters."""
    kind, dt = first.__class__, first.dtype
    for a in arrays:
        if a.__class__ is not kind or (dtypes and a.dtype is not dt):
            return True
    return False


def _same_device(op: Op, names: list[str], items: list[Any]) -> None:
    """All tensors on one device; a 0-d CPU tensor may join any. RuntimeError else, naming the arguments."""
    Tensor = TENSOR[0]
    tensors = [(i, t) for i, t in enumerate(items) if isinstance(t, Tensor)]
    kinds = {type(t.array) for _, t in tensors}
    if len(kinds) <= 1:
        return
    home = next((t for _, t in tensors if t.array.ndim), tensors[0][1])
    for i, t in tensors:
        if t.device != home.device:
            if t.array.ndim == 0 and t.device.type == "cpu":
                items[i] = OPS["transfer"].fn(t, device=home.device)
                continue
            shown = ", ".join(f"{_public_name(op, names[j])} on {u.device}" for j, u in tensors)
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{tensors[0][1].device} and {t.device if t is not tensors[0][1] else home.device}! "
                f"(op {op.name}: {shown}; move them with .to(device))"
            )


def _public_name(op: Op, name: str) -> str:
    return {"x": "input", "y": "other"}.get(name, name) if op.public else name


def into(out: Any, name: str, result: Any) -> Any:
    """Writes `result` into the tensor given as `out=`, resized to fit as PyTorch does; gives `out`."""
    from .inplace import write_out

    return write_out(out, name, result)


def add_call(
    error: Exception, name: str, parameters: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Exception:
    """The exception of a failed call, with a note that names it: in gather(input=(2, 3) float32, dim=0, index=3).

    What is no tensor where one belongs gives PyTorch's TypeError, not the AttributeError of its missing array.
    """
    names = [*parameters[: len(args)], *[""] * max(0, len(args) - len(parameters))]
    given = [*zip(names, args, strict=True), *kwargs.items()]
    if isinstance(error, AttributeError) and error.name in _TENSORS_OWN and not isinstance(error.obj, TENSOR[0]):
        for place, (word, value) in enumerate(given, 1):
            if value is error.obj:
                where = f"'{word}' (position {place})" if word else f"(position {place})"
                error = TypeError(f"{name}(): argument {where} must be Tensor, not {type(value).__name__}")
                break
    shown = ", ".join([(word and word + "=") + shown_argument(value) for word, value in given])
    error.add_note(f"in {name}({shown})")
    return error


_TENSORS_OWN = ("array", "_rg", "dim", "ndim", "dtype", "shape")


def name_calls(namespace: dict[str, Any], package: str, but: tuple[str, ...] = ()) -> None:
    """Wraps the public functions of a namespace that `package` defines, so that their errors name the call.

    `but`: the files whose functions are left as they are, since they do so little that a wrapper would be felt.
    """
    for name, function in list(namespace.items()):
        if name[0] != "_" and isinstance(function, FunctionType) and function.__module__.startswith(package):
            if not function.__module__.endswith(but):
                namespace[name] = _named(name, function)


def _named(name: str, function: Any) -> Any:
    code = function.__code__

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            explained = add_call(error, name, code.co_varnames[: code.co_argcount], args, kwargs)
            if explained is error:
                raise
            raise explained from None

    return functools.update_wrapper(call, function)


def shown_argument(value: Any) -> str:
    """An argument as a note shows it: tensors by shape, dtype and device, all else shortened."""
    if isinstance(value, TENSOR[0]):
        place = "" if value.device.type == "cpu" else f" on {value.device}"
        return f"{tuple(value.array.shape)} {value.dtype.name}{place}"
    if isinstance(value, (list, tuple)) and len(value) <= 8:
        return f"[{', '.join(map(shown_argument, value))}]"
    if value is None or isinstance(value, (bool, int, float, complex, str, slice)) or hasattr(value, "category"):
        text = repr(value)
        return text if len(text) <= 60 else text[:57] + "..."
    return type(value).__name__


_BROADCAST = ("could not be broadcast", "broadcast dimensions", "shape mismatch", "not be broadcast")


def explain(op: Op, error: Exception, arrays: tuple[Any, ...], kw: dict[str, Any]) -> Exception:
    """The exception to raise for a kernel's failure: PyTorch's type and text where shapes clash, with a note."""
    shown = ", ".join(
        f"{_public_name(op, n)} {tuple(a.shape)} {from_numpy_dtype(a.dtype).name}"
        for n, a in zip([*op.inputs, *[op.variadic or ""] * len(arrays)], arrays, strict=False)
        if hasattr(a, "shape")
    )
    note = f"in op {op.name}: {shown}" + "".join(f", {k}={v!r}" for k, v in kw.items())
    if isinstance(error, ValueError) and any(words in str(error) for words in _BROADCAST):
        text = broadcast_text([tuple(a.shape) for a in arrays if hasattr(a, "shape")])
        error = RuntimeError(text or str(error))
    elif isinstance(error, ValueError) and "core dimension" in str(error):
        error = RuntimeError(f"{op.name}: the shapes cannot be multiplied ({shown})")
    elif isinstance(error, np.exceptions.AxisError):
        ndim = error.ndim or 0
        bound = max(ndim, 1)
        error = IndexError(
            f"Dimension out of range (expected to be in range of [{-bound}, {bound - 1}], but got {error.axis})"
        )
    elif type(error).__name__ == "UFuncTypeError" or isinstance(error, np.exceptions.DTypePromotionError):
        error = RuntimeError(f"\"{op.name}\" not implemented for these dtypes ({shown})")
    error.add_note(note)
    return error


def broadcast_text(shapes: list[tuple[int, ...]]) -> str | None:
    """PyTorch's sentence for the first pair of sizes that do not broadcast, or None where all do."""
    for other in shapes[1:]:
        first = shapes[0]
        n = max(len(first), len(other))
        for d in range(n - 1, -1, -1):
            i, j = d - (n - len(first)), d - (n - len(other))
            a, b = (first[i] if i >= 0 else 1), (other[j] if j >= 0 else 1)
            if a != b and a != 1 and b != 1:
                return (
                    f"The size of tensor a ({a}) must match the size of tensor b ({b}) at non-singleton dimension {d}"
                )
    return None
