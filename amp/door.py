"""How autocast sees calls: while a region is open, the listed functions have a casting one in their place.

Nothing is asked on the record path of any op when no region is open. Opening the first one in the process changes the
code of the listed ops, and the inner function of the listed public functions, so that whoever holds them, under
whatever name, meets the cast; closing the last one puts everything back. Other threads meanwhile pay one look-up in
the listed functions, and nothing is cast for them.
"""

from __future__ import annotations

import importlib
import threading
from types import FunctionType
from typing import Any

from ..autograd import api
from ..autograd.codegen import ENVIRONMENT, materialise
from ..autograd.dtypes import FLOAT, by_name, dtype, float32, float64, promote_types
from ..autograd.modes import mode
from ..autograd.op import OPS, load_late
from ..autograd.tensor import Tensor
from .lists import OTHER, POLICIES

_PACKAGE = __name__.rpartition(".")[0].rpartition(".")[0]
DEFAULT_DTYPES = {"cpu": "bfloat16", "cuda": "float16", "mps": "float16"}


class _State(threading.local):
    """What this thread casts: device type -> whether, and to what."""

    def __init__(self) -> None:
        self.enabled: dict[str, bool] = {}
        self.dtypes: dict[str, dtype] = {}
        self.cache_enabled = True
        self.depth = 0
        self.cache: dict[int, tuple[Tensor, Tensor]] = {}


state = _State()
_lock = threading.Lock()
_open = 0
_originals: dict[str, Any] = {}  # op name -> a function of its own code, while the op's function has the casting one
_cells: list[tuple[Any, Any]] = []  # (closure cell of a public function, the function that it wraps)


def dtype_for(device_type: str) -> dtype:
    """The dtype that regions of this device type cast to."""
    return state.dtypes.get(device_type) or by_name(DEFAULT_DTYPES.get(device_type, "bfloat16"))


# ---- the cast


def autocast_call(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One call of a listed function, its arguments cast as this thread's regions ask."""
    device_type = next((k for k, on in state.enabled.items() if on), None)
    if device_type is None:
        return function(*args, **kwargs)
    kind = _device_type(args) or _device_type(tuple(kwargs.values()))
    policy = POLICIES.get(kind or "", OTHER).get(name) if kind and state.enabled.get(kind) else None
    if kind is None or policy is None:
        return function(*args, **kwargs)
    if policy == "banned":
        raise RuntimeError(
            "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast.\nMany models use a "
            "sigmoid layer right before the binary cross entropy layer.\nIn this case, combine the two layers using "
            "torch.nn.functional.binary_cross_entropy_with_logits\nor torch.nn.BCEWithLogitsLoss. "
            "binary_cross_entropy_with_logits and BCEWithLogits are\nsafe to autocast."
        )
    target = {"lower": dtype_for(kind), "float32": float32}.get(policy)
    if policy == "widest":
        target = _widest([*args, *kwargs.values()])
    if target is not None:
        args = tuple([_cast(a, target, kind) for a in args])
        kwargs = {k: _cast(v, target, kind) for k, v in kwargs.items()}
    before = state.enabled
    state.enabled = {**before, kind: False}  # what the function is made of is not looked at again
    try:
        return function(*args, **kwargs)
    finally:
        state.enabled = before


def _device_type(values: tuple[Any, ...]) -> str | None:
    for value in values:
        if isinstance(value, Tensor):
            return value.device.type
        if isinstance(value, (list, tuple)) and (found := _device_type(tuple(value))):
            return found
    return None


def _eligible(t: Any, device_type: str) -> bool:
    return isinstance(t, Tensor) and t.dtype.category == FLOAT and t.dtype is not float64 and (
        t.device.type == device_type
    )  # fmt: skip


def _widest(values: list[Any]) -> dtype | None:
    found: dtype | None = None
    for t in values:
        if isinstance(t, Tensor) and t.dtype.category == FLOAT:
            found = t.dtype if found is None else promote_types(found, t.dtype)
    return found


def _cast(value: Any, target: dtype, device_type: str) -> Any:
    """A tensor, or each of a list, in another precision. A leaf that is trained is cast once per region."""
    if isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
        return type(value)([_cast(v, target, device_type) for v in value])
    if not _eligible(value, device_type) or value.dtype is target:
        return value
    if not (state.cache_enabled and value._rg and value._node is None and mode.grad and target is not float32):
        return value.to(target)
    held = state.cache.get(id(value))
    if held is None or held[1].dtype is not target:
        held = state.cache[id(value)] = value, value.to(target)
    return held[1]


# ---- the swap


def _autocast_code(*args: Any, op_name: str = "", **kwargs: Any) -> Any:
    return autocast_call(op_name, AUTOCAST_ORIGINALS[op_name], args, kwargs)  # type: ignore[name-defined]  # noqa: F821


ENVIRONMENT.update(autocast_call=autocast_call, AUTOCAST_ORIGINALS=_originals)


def _swap_op(name: str) -> None:
    """Gives an op's function object the casting code; its own goes into a function beside it."""
    op = OPS[name]
    if op.run is None:
        materialise(name)
    function = op.fn
    original = FunctionType(function.__code__, ENVIRONMENT, name, function.__defaults__)
    original.__kwdefaults__ = function.__kwdefaults__
    _originals[name] = original
    # The code last: a call between the two lines still fits, since its own defaults are all there.
    function.__kwdefaults__ = {**(function.__kwdefaults__ or {}), "op_name": name}
    function.__code__ = _autocast_code.__code__


def _inner_name(function: Any) -> str | None:
    """What a public function calls the one that it wraps; None for one that wraps none."""
    free = getattr(getattr(function, "__code__", None), "co_freevars", ())
    return next((word for word in ("function", "call") if word in free), None)


def _swap_inner(name: str, function: Any) -> None:
    """Puts a casting function in the place of the one that a public function wraps."""
    cell = function.__closure__[function.__code__.co_freevars.index(_inner_name(function))]
    inner = cell.cell_contents

    def casting(*args: Any, **kwargs: Any) -> Any:
        return autocast_call(name, inner, args, kwargs)

    _cells.append((cell, inner))
    cell.cell_contents = casting


def _resolve(name: str) -> Any:
    room, _, last = name.rpartition(".")
    if not room:
        return api.FUNCTIONS.get(last)
    return getattr(importlib.import_module(f".{room}", _PACKAGE), last, None)


def _swap_all() -> None:
    load_late()
    for name in {name for table in POLICIES.values() for name in table}:
        function = _resolve(name)
        if _inner_name(function):
            _swap_inner(name, function)
        if name in OPS and not OPS[name].composite:
            _swap_op(name)


def _restore_all() -> None:
    for cell, inner in _cells:
        cell.cell_contents = inner
    _cells.clear()
    for name, original in _originals.items():  # they stay: another thread may be on its way through the casting code
        function = OPS[name].fn
        function.__code__ = original.__code__
        function.__kwdefaults__ = original.__kwdefaults__


def enter() -> None:
    """One more region is open in the process."""
    global _open
    with _lock:
        _open += 1
        if _open == 1:
            _swap_all()
    state.depth += 1


def leave() -> None:
    """One region less; the last one of a thread forgets its casts, that of the process undoes the swap."""
    global _open
    state.depth -= 1
    if state.depth == 0:
        state.cache.clear()
    with _lock:
        _open -= 1
        if _open == 0:
            _restore_all()
