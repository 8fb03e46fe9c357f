"""Values of torch -> the same of tapegrad: tensors with their strides, dtypes, functions, and whatever holds them.

A function of torch becomes the one of the same path. A function written in Python in torch's test databases (most are
lambdas) becomes a copy of itself whose globals and closure are translated: where it says `torch`, it finds tapegrad.
"""

from __future__ import annotations

import functools
import importlib
import types
from typing import Any

import numpy as np
import tapegrad
import torch
from tapegrad.autograd.tensor import wrap

# Modules in which a function of torch is looked for, to learn its path; earlier ones win.
_HOMES = """linalg special fft nn.functional masked signal.windows Tensor nested sparse nn.utils nn.init""".split()


class Missing(Exception):
    """A name of torch that tapegrad lacks."""


def lookup(root: Any, path: str) -> Any:
    """root.a.b.c for the path "a.b.c"; Missing where a part is absent."""
    found = root
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Missing(path) from None
    return found


class _Aten:
    """torch.ops.aten: the native ops that tapegrad names too, without overloads."""

    def __getattr__(self, name: str) -> Any:
        try:
            native = importlib.import_module("tapegrad.autograd.api.native")
        except ImportError:
            native = tapegrad
        return aten(getattr(native, name, None) or getattr(tapegrad, name, None), name)


def aten(function: Any, name: str) -> Any:
    """`function`, which may be asked for its overloads as torch's packets are."""
    if function is None:
        raise Missing(f"torch.ops.aten.{name}")

    def call(*args: Any, **kw: Any) -> Any:
        return function(*args, **kw)

    call.default = call.Tensor = call.int = call  # type: ignore[attr-defined]
    return call


class Face:
    """What a function of torch's test databases finds under the name `torch`."""

    ops = types.SimpleNamespace(aten=_Aten())

    def __getattr__(self, name: str) -> Any:
        return lookup(tapegrad, name)


FACE = Face()


@functools.cache
def _paths() -> dict[int, str]:
    """id of a public function or method of torch -> its path."""
    paths: dict[int, str] = {}
    for home in ["", *_HOMES]:
        module = lookup(torch, home) if home else torch
        for name in sorted(dir(module), key=lambda name: name.startswith("_")):  # public names win
            try:
                value = getattr(module, name)
            except Exception:
                continue
            if callable(value) and not isinstance(value, type):
                paths.setdefault(id(value), f"{home}.{name}" if home else name)
    return paths


def set_seed(op: Any, *args: Any, **kw: Any) -> Any:
    """torch.testing's wrapper_set_seed: the op with the default generator at 42, which is afterwards as before."""
    state = tapegrad.get_rng_state()
    try:
        tapegrad.manual_seed(42)
        return op(*args, **kw)
    finally:
        tapegrad.set_rng_state(state)


def masked_operation(op: Any, input: Any, *args: Any, **kw: Any) -> Any:
    """torch.testing's gradcheck_wrapper_masked_operation: zeros where the mask leaves nothing to reduce."""
    output = op(input, *args, **kw)
    mask = kw.get("mask")
    if mask is None:
        return output
    from torch.masked import _output_mask

    theirs = torch.empty(tuple(input.shape), dtype=getattr(torch, str(input.dtype).split(".")[1]))
    other = [to_torch(a) for a in args]
    place = _output_mask(_MASKED[id(op)], theirs, *other, **{k: to_torch(v) for k, v in kw.items()})
    return tapegrad.where(to_tapegrad(place), output, output.new_zeros([]))


_MASKED: dict[int, Any] = {}  # our masked reduction -> torch's, for the mask of its output
_OWN = {"wrapper_set_seed": set_seed, "gradcheck_wrapper_masked_operation": masked_operation}


_CALLABLES = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    functools.partial,
    torch._ops.OpOverloadPacket,
    torch._ops.OpOverload,
)


def to_torch(value: Any) -> Any:
    """The few values that go the other way: tensors, dtypes."""
    if isinstance(value, tapegrad.Tensor):
        return torch.from_numpy(np.array(value.detach().cpu().numpy()))
    if isinstance(value, tapegrad.dtype):
        return getattr(torch, str(value).split(".")[1])
    return value


def function(f: Any) -> Any:
    """tapegrad's counterpart of a callable of torch or of its test databases."""
    name = getattr(f, "__name__", "")
    if name in _OWN and getattr(f, "__module__", "").startswith("torch.testing"):
        return _OWN[name]
    if isinstance(f, functools.partial):
        return functools.partial(function(f.func), *to_tapegrad(f.args), **to_tapegrad(f.keywords))
    if isinstance(f, torch._ops.OpOverloadPacket):
        return getattr(FACE.ops.aten, name)
    if isinstance(f, torch._ops.OpOverload):
        return getattr(FACE.ops.aten, name.partition(".")[0])
    path = _paths().get(id(f))
    if path:
        ours = lookup(tapegrad, path)
        if path.startswith("masked."):
            _MASKED[id(ours)] = f
        return ours
    if isinstance(f, types.FunctionType):
        return _rebound(f)
    if isinstance(f, type):
        return f
    raise Missing(f"{getattr(f, '__module__', '')}.{name}")


def _rebound(f: types.FunctionType) -> types.FunctionType:
    """A copy of a Python function whose globals, defaults and closure are tapegrad's."""
    scope = {name: _global(f.__globals__[name]) for name in _names(f.__code__) if name in f.__globals__}
    scope["__builtins__"] = f.__globals__.get("__builtins__")
    cells = tuple(types.CellType(_global(cell.cell_contents)) for cell in f.__closure__ or ())
    copy = types.FunctionType(f.__code__, scope, f.__name__, to_tapegrad(f.__defaults__), cells)
    copy.__kwdefaults__ = to_tapegrad(f.__kwdefaults__)
    return copy


def _names(code: types.CodeType) -> set[str]:
    """Names that a function and the functions inside it may take from their globals."""
    inner = [_names(const) for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*inner)


def _global(value: Any) -> Any:
    if value is torch:
        return FACE
    if isinstance(value, types.ModuleType):
        name = value.__name__
        return lookup(tapegrad, name.partition(".")[2]) if name.startswith("torch.") else value
    return to_tapegrad(value)


def to_tapegrad(value: Any) -> Any:
    """The same value for tapegrad: tensors (copied, with strides and requires_grad), dtypes, devices, functions,
    containers; anything else is itself."""
    if isinstance(value, torch.Tensor):
        return tensor(value)
    if isinstance(value, torch.Size):
        return tapegrad.Size(value)
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(to_tapegrad(item) for item in value) if type(value) in (list, tuple) else value
    if isinstance(value, dict):
        return {key: to_tapegrad(item) for key, item in value.items()}
    if isinstance(value, (torch.dtype, torch.layout, torch.memory_format)):
        return lookup(tapegrad, str(value).removeprefix("torch."))
    if isinstance(value, torch.device):
        return tapegrad.get_default_device() if value.type == "cpu" else tapegrad.device(str(value))
    if isinstance(value, torch.Generator):
        return tapegrad.Generator().manual_seed(value.initial_seed())
    if isinstance(value, torch.nn.Module):
        return getattr(tapegrad.nn, type(value).__name__)()
    if isinstance(value, slice):
        return slice(to_tapegrad(value.start), to_tapegrad(value.stop), to_tapegrad(value.step))
    if isinstance(value, _CALLABLES):
        return function(value)
    return value


class Sharing:
    """What was translated of one call: a tensor given twice is one tensor, memory shared in torch is shared."""

    def __init__(self) -> None:
        self.tensors: dict[int, Any] = {}
        self.storages: dict[int, Any] = {}
        self.alive: list[Any] = []  # a storage is known by its address, which another may take once it is gone


_sharing: list[Sharing] = []


def call(args: Any, kw: Any) -> tuple[Any, Any]:
    """The arguments of one call for tapegrad."""
    _sharing.append(Sharing())
    try:
        return to_tapegrad(args), to_tapegrad(kw)
    finally:
        _sharing.pop()


def tensor(t: torch.Tensor) -> Any:
    """A copy of a dense tensor with its strides and requires_grad, on tapegrad's default device."""
    if not _sharing:
        return _tensor(t, Sharing())
    known = _sharing[-1]
    if id(t) not in known.tensors:
        known.tensors[id(t)] = _tensor(t, known)
    return known.tensors[id(t)]


def _tensor(t: torch.Tensor, known: Sharing) -> Any:
    if t.layout is not torch.strided:
        dense = tensor(t.detach().to_dense())
        return dense.to_sparse().requires_grad_(t.requires_grad)
    plain = t.detach().resolve_conj().resolve_neg()
    storage = plain.untyped_storage()
    known.alive.append(plain)
    length = storage.nbytes() // plain.element_size()
    if storage._cdata not in known.storages:
        whole = array(torch.as_strided(plain, (length,), (1,), 0))
        known.storages[storage._cdata] = wrap(whole).to(tapegrad.get_default_device())
    flat = known.storages[storage._cdata]
    if plain.is_contiguous() and length == plain.numel():
        ours = flat.view(plain.shape).detach()
    else:
        ours = flat.as_strided(plain.shape, plain.stride(), plain.storage_offset())
    if isinstance(t, torch.nn.Parameter):
        return tapegrad.nn.Parameter(ours, t.requires_grad)
    return ours.detach().requires_grad_(t.requires_grad) if t.requires_grad else ours


def array(t: torch.Tensor) -> np.ndarray[Any, Any]:
    """A NumPy copy of a dense tensor; bfloat16 through ml_dtypes."""
    t = t.detach().resolve_conj().resolve_neg()
    if t.dtype == torch.bfloat16:
        import ml_dtypes

        return t.view(torch.int16).numpy().copy().view(ml_dtypes.bfloat16)
    return t.numpy(force=True).copy()  # force: torch's tensors that are zero without memory
