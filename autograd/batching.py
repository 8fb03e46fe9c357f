"""Arrays that stand for one example of a batch: what `vmap` hands to the function it maps.

`Batched` is an array type of its own with a backend of its own, so the look-up on `type(array)` that every op makes
anyway leads to the batching rules (batching_rules.py). Nothing asks "is vmap on?": where it is not used, it costs
nothing. Tensors of such arrays record as all others do, and the rules of ops run on such gradients, so that vmap and
the functions of gradients nest in any order.

    value   a raw array whose first axes are batch axes, one for each level of `scope`; of size 1 where nothing depends
            on that level
    scope   the levels (one per vmap that is under way), outermost first

Everything else (shape, strides, indexing, methods) speaks of one example.

A tensor made outside a vmap takes part in an op inside it as a lifted one: its gradient is the sum over the batch.
"""

from __future__ import annotations

import itertools
import operator
import sys
import threading
from typing import Any

import numpy as np

from ..backends.base import Backend, DeviceKey
from ..backends.registry import backend_of, register
from . import coerce
from .codegen import ENVIRONMENT
from .op import Op, Raw, _raw, bind_first, find, raw_by_type

_numbers = itertools.count(1).__next__


class Level:
    """One vmap under way: its number (inner ones have larger numbers), batch size, and what random functions do."""

    __slots__ = ("number", "size", "randomness")

    def __init__(self, size: int, randomness: str):
        self.number, self.size, self.randomness = _numbers(), size, randomness

    def __repr__(self) -> str:
        return f"<vmap {self.number} of size {self.size}>"


Scope = tuple[Level, ...]
number_of_level = operator.attrgetter("number")


class _Active(threading.local):
    scope: Scope = ()


active = _Active()  # the vmaps of this thread that are under way

ITEM = (
    "vmap: It looks like you're calling .item() on a Tensor. We don't support vmap over calling .item() on a Tensor, "
    "please try to rewrite what you're doing with other operations. If error is occurring somewhere inside PyTorch "
    "internals, please file a bug report."
)
BRANCH = (
    "vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. We don't support that "
    "yet, please shout over at https://github.com/pytorch/functorch/issues/257 ."
)
INPLACE = (
    "vmap: inplace arithmetic(self, *extra_args) is not possible because there exists a Tensor `other` in extra_args "
    "that has more elements than `self`. This happened due to `other` being vmapped over but `self` not being vmapped "
    "over in a vmap. Please try to use out-of-place operators instead of inplace arithmetic. If said operator is being "
    "called inside the PyTorch framework, please file a bug report instead."
)
VALUES = (
    "vmap: this function needs the values of a Tensor, but inside vmap a Tensor stands for all examples of the batch, "
    "which may differ. Please try to rewrite what you're doing with other operations"
)
MASK = (
    "vmap: We do not support batching operators that can support dynamic shape. Attempting to batch over indexing with "
    "a boolean mask."
)
_WRITERS = (".inplace", ".api.convert", ".api.index", ".api.scatter", ".api.shape")


class Batched:
    """One example of a batch, as an array. See the module's text. Used through its subclasses, one per nesting depth.

    The depth is that of the vmap in which the array is used, so an op whose inputs come from different depths is
    noticed by the guard that notices arrays of two devices, and they are lifted to the deepest.
    """

    __slots__ = ("value", "scope", "__weakref__")

    depth = 0
    base = None
    deferred: Any = None
    total: Any = None

    def __init__(self, value: Any, scope: Scope):
        self.value = value
        self.scope = scope

    shape = property(lambda self: self.value.shape[len(self.scope) :])
    ndim = property(lambda self: self.value.ndim - len(self.scope))
    dtype = property(lambda self: self.value.dtype)
    itemsize = property(lambda self: self.value.dtype.itemsize)
    strides = property(lambda self: self.value.strides[len(self.scope) :])
    flags = property(lambda self: self.example().flags)
    size = property(lambda self: _product(self.shape))
    nbytes = property(lambda self: self.size * self.value.dtype.itemsize)
    T = property(lambda self: self.transpose())

    def example(self, place: tuple[int, ...] | None = None) -> Any:
        """The raw array of one example; of the first one where no place is given."""
        if 0 in self.value.shape[: len(self.scope)]:
            return np.empty(self.shape, self.dtype)
        return self.value[(*(place or (0,) * len(self.scope)), ...)]

    def like(self, value: Any) -> Any:
        """Another one of the same depth and scope."""
        return self.__class__(value, self.scope)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        if _is_basic(key):
            return self.like(self.value[_inside(key, len(self.scope))])
        return each(operator.getitem, (self, key))

    def __setitem__(self, key: Any, new: Any) -> None:
        if not _is_basic(key):
            each(operator.setitem, (self, key, new))
            return
        region, k = self.value[_inside(key, len(self.scope))], len(self.scope)
        if isinstance(new, Batched):
            new = aligned(new, self.scope, region.ndim - k)
            if any(a == 1 and b > 1 for a, b in zip(region.shape[:k], new.shape[:k], strict=True)):
                raise RuntimeError(INPLACE)
        region[...] = new

    def transpose(self, *axes: Any) -> Any:
        k = len(self.scope)
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or range(self.ndim)[::-1]
        return self.like(self.value.transpose(*range(k), *[a % self.ndim + k for a in order]))

    def swapaxes(self, a: int, b: int) -> Any:
        k, n = len(self.scope), self.ndim
        return self.like(self.value.swapaxes(a % n + k, b % n + k))

    def reshape(self, *shape: Any) -> Any:
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return self.like(self.value.reshape(*self.value.shape[: len(self.scope)], *shape))

    def astype(self, *args: Any, **kw: Any) -> Any:
        return self.like(self.value.astype(*args, **kw))

    def copy(self, *args: Any) -> Any:
        return self.like(self.value.copy(*args))

    def view(self, *args: Any) -> Any:
        return self.like(self.value.view(*args))

    def fill(self, number: Any) -> None:
        self.value.fill(number)

    def any(self, *args: Any, **kw: Any) -> Any:
        """Without an axis: whether any element of any example is true, as checks of arguments ask it."""
        return each(_METHODS["any"], (self, *args), kw) if args or kw else bool(self.value.any())

    def all(self, *args: Any, **kw: Any) -> Any:
        """Without an axis: whether all elements of all examples are true."""
        return each(_METHODS["all"], (self, *args), kw) if args or kw else bool(self.value.all())

    def min(self, *args: Any, **kw: Any) -> Any:
        """Without an axis: for integers that of all examples, as checks of arguments ask it; else each example's."""
        whole_batch = self.dtype.kind in "iu" and not args and not kw
        return self.value.min() if whole_batch else each(_METHODS["min"], (self, *args), kw)

    def max(self, *args: Any, **kw: Any) -> Any:
        """As min."""
        whole_batch = self.dtype.kind in "iu" and not args and not kw
        return self.value.max() if whole_batch else each(_METHODS["max"], (self, *args), kw)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Where the first example lies. Not by NumPy's name for it, since NumPy would take that for all there is."""
        example = self.example()
        return getattr(example, "__cuda_array_interface__", None) or example.__array_interface__

    def item(self) -> Any:
        asked_by = sys._getframe(2).f_code.co_name  # Tensor.item's caller
        raise RuntimeError(BRANCH if asked_by == "__bool__" else ITEM)

    tolist = __int__ = __float__ = __complex__ = __index__ = item

    def __bool__(self) -> bool:
        values = self.value.reshape(-1)
        if values.size and (values == values[0]).all():
            return bool(values[0])
        raise RuntimeError(BRANCH)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """Asked for where the array is written into a plain one, and by functions that want the values as they are."""
        writes = sys._getframe(1).f_globals.get("__name__", "").endswith(_WRITERS)
        raise RuntimeError(INPLACE if writes else VALUES)

    def nonzero(self) -> Any:
        """What a bool index asks for: the places, where all examples have the same."""
        if not self.is_shared():
            raise RuntimeError(MASK)
        return each(_METHODS["nonzero"], (self,))

    def is_shared(self) -> bool:
        """Whether all examples are the same one."""
        return all(n == 1 for n in self.value.shape[: len(self.scope)])

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kw: Any) -> Any:
        if method != "__call__":
            return each(getattr(ufunc, method), inputs, kw)
        arrays, scope, n = together(inputs)
        return _of(scope)(ufunc(*[aligned(a, scope, n) if isinstance(a, Batched) else a for a in arrays], **kw), scope)

    def __array_function__(self, function: Any, types: Any, args: Any, kw: Any) -> Any:
        return each(function, args, kw)

    def __getattr__(self, name: str) -> Any:
        method = _METHODS[name]
        if method is None:
            raise AttributeError(f"'Batched' array has no attribute '{name}'")
        if not callable(getattr(np.ndarray, name)):
            return each(method, (self,))
        return lambda *args, **kw: each(method, (self, *args), kw)


class _Methods(dict[str, Any]):
    """Name of an array's method or attribute -> function of the array; None for what an array does not have."""

    def __missing__(self, name: str) -> Any:
        if name[:1] == "_" or not hasattr(np.ndarray, name):
            return None
        is_method = callable(getattr(np.ndarray, name))
        self[name] = (lambda a, *args, **kw: getattr(a, name)(*args, **kw)) if is_method else operator.attrgetter(name)
        return self[name]


_METHODS = _Methods()


def _operator(name: str, function: Any) -> None:
    def forward(self: Any, other: Any) -> Any:
        return combined(function, self, other)

    def reflected(self: Any, other: Any) -> Any:
        return combined(function, other, self)

    setattr(Batched, f"__{name}__", forward)
    setattr(Batched, f"__r{name}__", reflected)


def _unary(name: str, function: Any) -> None:
    setattr(Batched, f"__{name}__", lambda self: self.like(function(self.value)))


def combined(function: Any, x: Any, y: Any) -> Any:
    """A function of two arrays that broadcast, example by example; either may be a number or a plain array."""
    if x.__class__ is y.__class__ and x.scope is y.scope and x.value.ndim == y.value.ndim:
        return x.like(function(x.value, y.value))
    (x, y), scope, n = together((x, y))
    x, y = (aligned(a, scope, n) if hasattr(a, "shape") else a for a in (x, y))
    return _of(scope)(function(x, y), scope)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "lshift", "rshift"):
    _operator(_name.rstrip("_"), getattr(operator, _name))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _operator(_name, getattr(operator, _name))
for _name in ("neg", "pos", "abs", "invert"):
    _unary(_name, getattr(operator, _name))
Batched.__hash__ = object.__hash__  # type: ignore[method-assign]


def _matmul(x: Any, y: Any) -> Any:
    if x.ndim < 2 or y.ndim < 2:
        return each(operator.matmul, (x, y))
    return raw_by_type[x.__class__ if isinstance(x, Batched) else y.__class__].bmm(x, y)


setattr(Batched, "__matmul__", _matmul)  # noqa: B010  (mypy asks for the operator else)
setattr(Batched, "__rmatmul__", lambda x, y: _matmul(y, x))  # noqa: B010


def _iadd(held: Any, more: Any) -> Any:
    """In place where the sum has the place: a gradient of all examples does not fit into one that they share."""
    out = combined(operator.add, held, more)
    if out.value.shape == held.value.shape and out.dtype == held.dtype:
        held.value[...] = out.value
        return held
    return out


Batched.__iadd__ = _iadd  # type: ignore[attr-defined]


def _product(shape: tuple[int, ...]) -> int:
    n = 1
    for m in shape:
        n *= m
    return n


def _is_basic(key: Any) -> bool:
    keys = key if key.__class__ is tuple else (key,)
    return all(k is None or k is Ellipsis or k.__class__ is slice or k.__class__ is int for k in keys)


def _inside(key: Any, k: int) -> tuple[Any, ...]:
    return (*(slice(None),) * k, *(key if key.__class__ is tuple else (key,)))


# ---- several arrays --------------------------------------------------------------------------------------------------


def joined(scopes: Any) -> Scope:
    """The levels of several scopes, outermost first."""
    scopes = list(scopes)
    first = scopes[0]
    if all(s is first or s == first for s in scopes):
        return first
    return tuple(sorted({level for s in scopes for level in s}, key=number_of_level))


def together(arrays: Any) -> tuple[Any, Scope, int]:
    """(the arrays, their common scope, the largest number of an example's dimensions)."""
    scope = joined([a.scope for a in arrays if isinstance(a, Batched)])
    return arrays, scope, max(a.ndim for a in arrays if hasattr(a, "ndim"))


def aligned(array: Any, scope: Scope, ndim: int) -> Any:
    """The raw array with a batch axis for each level of `scope`, of size 1 where it has none, and `ndim` more axes."""
    if isinstance(array, Batched):
        value, own = array.value, array.scope
    else:
        value, own = array, ()
    add = ndim - (value.ndim - len(own))
    if own is scope or own == scope:
        return value if not add else value[(*(slice(None),) * len(own), *(None,) * add, ...)]
    return value[(*[slice(None) if level in own else None for level in scope], *(None,) * add, ...)]


def whole(value: Any, scope: Scope) -> Any:
    """A raw array whose batch axes have their full sizes: a view, in which examples may share memory."""
    sizes = tuple([level.size for level in scope])
    if value.shape[: len(scope)] == sizes:
        return value
    return raw_by_type[value.__class__].xp.broadcast_to(value, (*sizes, *value.shape[len(scope) :]))


def each(function: Any, args: Any, kw: Any = None) -> Any:
    """function(*args, **kw) for every example, the results stacked: right for any function of arrays.

    Batched arrays may lie in tuples, lists and dicts among the arguments.
    """
    found: list[Any] = []
    _seek((args, kw), found)
    scope = joined([b.scope for b in found])
    k = len(scope)
    values = {id(b): aligned(b, scope, b.ndim) for b in found}
    sizes = tuple([max((v.shape[d] for v in values.values()), key=lambda n: n != 1) for d in range(k)])
    results = []
    for place in np.ndindex(sizes) if 0 not in sizes else [(0,) * k]:

        def example(b: Any, place: Any = place) -> Any:
            v = values[id(b)]
            if 0 in sizes:
                return np.zeros(v.shape[k:], v.dtype)
            return v[(*[p if n != 1 else 0 for p, n in zip(place, v.shape, strict=False)], ...)]

        own_args, own_kw = _replaced((args, kw or {}), example)
        results.append(function(*own_args, **own_kw))
    return _stacked(results, sizes, scope, next(iter(values.values())))


def _seek(tree: Any, found: list[Any]) -> None:
    if isinstance(tree, Batched):
        found.append(tree)
    elif isinstance(tree, (tuple, list)):
        for item in tree:
            _seek(item, found)
    elif isinstance(tree, dict):
        _seek(list(tree.values()), found)


def _replaced(tree: Any, example: Any) -> Any:
    if isinstance(tree, Batched):
        return example(tree)
    if tree.__class__ in (tuple, list):
        return tree.__class__([_replaced(item, example) for item in tree])
    if isinstance(tree, dict):
        return {key: _replaced(item, example) for key, item in tree.items()}
    return tree


DYNAMIC = "vmap: We do not support batching operators that can output dynamic shape. Attempted to vmap over {what}."


def _stacked(results: list[Any], sizes: tuple[int, ...], scope: Scope, like: Any) -> Any:
    """The examples' results as one: arrays stacked, tuples one by one, anything else as the first example has it."""
    first = results[0]
    if isinstance(first, (tuple, list)):
        parts = [_stacked(list(part), sizes, scope, like) for part in zip(*results, strict=True)]
        return first.__class__(*parts) if hasattr(first, "_fields") else first.__class__(parts)
    if not (hasattr(first, "dtype") and hasattr(first, "shape")):
        return first
    shapes = {r.shape for r in results}
    if len(shapes) > 1:
        shown = ", ".join(str(list(s)) for s in sorted(shapes))
        raise RuntimeError(DYNAMIC.format(what=f"an operator whose results have different shapes: {shown}"))
    backend = backend_of(like)
    if 0 in sizes:
        return _of(scope)(backend.asarray(np.zeros((*sizes, *first.shape), first.dtype)), scope)
    stacked = backend.xp.stack([backend.tidy(r) for r in results]) if len(results) > 1 else backend.tidy(first)[None]
    return _of(scope)(stacked.reshape(*sizes, *first.shape), scope)


class Deferred:
    """A gradient of each example that is only made if somebody asks for it: mixed into a subclass of Batched.

    A weight that all examples share wants the sum of its gradients alone, and one product over the whole batch gives
    that without the many products before it. `total` computes it; `make` computes what each example has.
    """

    def __init__(self, scope: Scope, shape: tuple[int, ...], dtype: Any, make: Any, total: Any):
        self.scope, self.own_shape, self.own_dtype = scope, shape, dtype
        self.make, self.total, self.made = make, total, None

    @property
    def value(self) -> Any:
        if self.made is None:
            self.made, self.make, self.total = self.make(), None, None
        return self.made

    shape = property(lambda self: self.own_shape)
    ndim = property(lambda self: len(self.own_shape))
    dtype = property(lambda self: self.own_dtype)

    def like(self, value: Any) -> Any:
        return class_of_depth(self.depth)(value, self.scope)  # type: ignore[attr-defined]


def deferred(scope: Scope, shape: tuple[int, ...], dtype: Any, make: Any, total: Any) -> Any:
    """An array of that scope which `make` computes, unless only the sum over all levels is asked for (`total`)."""
    kind = class_of_depth(len(scope))
    return kind.deferred(scope, shape, dtype, make, total)


# ---- the backend -----------------------------------------------------------------------------------------------------


class Mapped:
    """`xp` for Batched arrays: each function of the array module, example by example."""

    def __init__(self, module: Any, path: tuple[str, ...] = ()):
        self._module, self._path = module, path

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if isinstance(found, (type, np.ufunc)) or not (callable(found) or found.__class__ is type(np)):
            return found  # a ufunc comes back to Batched by __array_ufunc__
        if not callable(found):
            return Mapped(found, (*self._path, name))

        def mapped(*args: Any, **kw: Any) -> Any:
            there: list[Any] = []
            _seek((args, kw), there)
            if not there:
                return found(*args, **kw)
            module = backend_of(there[0].value).xp
            for step in self._path:
                module = getattr(module, step)
            if name.endswith("_like"):  # new memory, in which every example has a place of its own
                value = whole(there[0].value, there[0].scope)
                return there[0].like(getattr(module, name)(value, *args[1:], **kw))
            return each(getattr(module, name), args, kw)

        return mapped


class BatchingBackend(Backend):
    """The backend of Batched arrays of one depth: everything is handed on to the backend of their values."""

    device_types = ()
    loses_type = False
    xp = Mapped(np)

    def __init__(self, array_type: type):
        self.name, self.array_type = f"vmap{array_type.depth}", array_type  # type: ignore[attr-defined]

    def asarray(self, obj: Any, dtype: Any = None, device: DeviceKey | None = None, copy: bool | None = None) -> Any:
        if isinstance(obj, Batched):
            return self.array_type(obj.value, obj.scope)
        own = backend_of(obj if hasattr(obj, "dtype") else np.asarray(obj))
        return self.array_type(own.asarray(obj, dtype, device, copy), ())

    def to_numpy(self, array: Any) -> Any:
        raise RuntimeError(
            "Cannot access data pointer of Tensor that doesn't have storage: inside vmap a tensor stands for all "
            "examples of the batch. Return it from the function, or print .array.value, which has them all"
        )

    def tidy(self, out: Any) -> Any:
        return out if isinstance(out, Batched) else self.asarray(out)

    def device_of(self, array: Any) -> DeviceKey:
        return backend_of(array.value).device_of(array.value)

    def storage_of(self, array: Any) -> Any:
        return backend_of(array.value).storage_of(array.value)

    def may_keep(self, array: Any) -> bool:
        return False


class RawBatched(Raw):
    """The raw namespace of Batched arrays: each op's batching rule, made at first use. See batching_rules.py."""

    def __getattr__(self, name: str) -> Any:
        from .batching_rules import rule_of

        op = find(name)
        if op is None:
            raise AttributeError(f"no op named '{name}'")
        kernel = bind_first(op.generic, self) if op.composite else rule_of(op)
        setattr(self, name, kernel)
        return kernel


_classes: list[Any] = [Batched]
_lock = threading.Lock()


def class_of_depth(depth: int) -> Any:
    """The subclass of Batched for vmaps nested `depth` times."""
    if depth >= len(_classes):
        with _lock:
            _make_classes(depth)
    return _classes[depth]


def _make_classes(depth: int) -> None:
    while len(_classes) <= depth:
        made: Any = type(f"Batched{len(_classes)}", (Batched,), {"depth": len(_classes), "__slots__": ()})
        made.deferred = type(f"Deferred{len(_classes)}", (Deferred, made), {})
        backend = register(BatchingBackend(made))
        _raw[backend] = RawBatched(backend)
        _classes.append(made)
        ENVIRONMENT["slow"] = coerce.slow = slow  # the swap at the door: from the first vmap on, guards lead here


def _of(scope: Scope) -> Any:
    return class_of_depth(len(scope) or 1)


_slow = coerce.slow


def slow(op: Op, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """coerce.slow, after tensors from outside of a vmap were lifted to the depth of those inside it."""
    from .batching_steps import lifted

    Tensor = coerce.TENSOR[0]
    kinds = {a.array.__class__ for a in args if isinstance(a, Tensor)}
    if len(kinds) > 1 and any(issubclass(kind, Batched) for kind in kinds):
        inside = [a.array for a in args if isinstance(a, Tensor) and isinstance(a.array, Batched)]
        depth = max(a.depth for a in inside)
        scope = joined([active.scope[:depth], *[a.scope for a in inside]])
        args = tuple([lifted(a, scope) if isinstance(a, Tensor) else a for a in args])
    return _slow(op, args, kw)
