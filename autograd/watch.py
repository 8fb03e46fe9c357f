"""Seeing every call of chosen ops, of a forward and of a backward pass, without a change to the code that runs.

While a `Watch` is open, the kernels of its ops are swapped for ones that report: in the op table, where record
functions find them, and in the raw namespaces, where the rules of an ordinary backward do. Closing the last one puts
everything back, so that nothing is paid otherwise.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection
from typing import Any

from .op import OPS, Raw, _raw, load_late

# seen(name of the op, arrays, keywords, result), called after each outermost call; what it gives, unless None, takes
# the place of the result
Seen = Callable[[str, tuple[Any, ...], dict[str, Any], Any], Any]


class _Watched:
    """A kernel whose calls pass the watches that are open."""

    def __init__(self, name: str, kernel: Any):
        self.name, self.kernel = name, kernel

    def __call__(self, *arrays: Any, **kw: Any) -> Any:
        call = self.kernel
        for watch in tuple(_open):
            if watch.wants(self.name):
                call = functools.partial(watch.around, self.name, call)
        return call(*arrays, **kw)


class _Inside(threading.local):
    watches: frozenset[Any] = frozenset()  # those which a watched call is under way for: what it calls belongs to it


class Watch:
    """Calls `seen` after each call of the ops `names` (None: all that are no composites) in the thread that opens it.

    What an op's kernel calls itself is not reported. Watches nest; each is to be closed in the thread that opened it.
    """

    def __init__(self, seen: Seen, names: Collection[str] | None = None):
        self.seen, self.names = seen, names
        self.thread = 0

    def __enter__(self) -> Watch:
        self.thread = threading.get_ident()
        with _lock:
            load_late()
            _swap(_wanted(self.names))
            _open.append(self)
        return self

    def is_elsewhere(self) -> bool:
        """Whether this is another thread than the one that opened it."""
        return self.thread != threading.get_ident()

    def wants(self, name: str) -> bool:
        """Whether a call of the op `name`, here and now, is to pass `around`."""
        return self not in _inside.watches and not self.is_elsewhere() and (self.names is None or name in self.names)

    def around(self, name: str, call: Any, /, *arrays: Any, **kw: Any) -> Any:
        """The call of op `name`; gives its result, or what `seen` puts in its place."""
        before = _inside.watches
        _inside.watches = before | {self}
        try:
            out = call(*arrays, **kw)
        finally:
            _inside.watches = before
        changed = self.seen(name, arrays, kw, out)
        return out if changed is None else changed

    def __exit__(self, *_: object) -> None:
        with _lock:
            _open.remove(self)
            if not _open:
                _restore()


# Methods that write in place and whose names do not end with "_" -> the name of what they do
_IN_PLACE = {"__setitem__": "index_put_"} | {
    f"__i{word}__": f"{name}_"
    for word, name in {
        "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide", "mod": "remainder",
        "pow": "pow", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
        "rshift": "bitwise_right_shift",
    }.items()
}  # fmt: skip
_NO_WRITES = {"requires_grad_", "detach_", "share_memory_"}


# around(name of the operation, the call, tensor, *arguments, **keywords) -> its result
Around = Callable[..., Any]
_writers: list[Around] = []
_methods: list[tuple[type, str, Callable[..., Any]]] = []  # as they were, while somebody watches


def watch_in_place(tensor_class: type, around: Around) -> None:
    """Has every call of an in-place method pass `around`, in all threads: some of them call no op that one could watch.

    Until `unwatch_in_place(around)`, in whatever order several of them end.
    """
    with _lock:
        _writers.append(around)
        if _methods:
            return
        for attribute, method in list(vars(tensor_class).items()):
            plain = attribute[-1] == "_" and attribute[-2:] != "__" and attribute not in _NO_WRITES
            if (plain or attribute in _IN_PLACE) and callable(method):
                _methods.append((tensor_class, attribute, method))
                setattr(tensor_class, attribute, _watched_method(_IN_PLACE.get(attribute, attribute), method))


def unwatch_in_place(around: Around) -> None:
    """The end of `watch_in_place`."""
    with _lock:
        _writers.remove(around)
        while _methods and not _writers:
            tensor_class, attribute, method = _methods.pop()
            setattr(tensor_class, attribute, method)


def _watched_method(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def watched(*args: Any, **kwargs: Any) -> Any:
        call = method
        for around in tuple(_writers):
            call = functools.partial(around, name, call)
        return call(*args, **kwargs)

    return watched


_inside = _Inside()
_lock = threading.RLock()
_open: list[Watch] = []
_swapped: set[str] = set()
_link_raw = Raw.__getattr__  # by which both tables are filled


def _wanted(names: Collection[str] | None) -> set[str]:
    return {name for name, op in OPS.items() if not op.composite} if names is None else set(names)


def _watched(name: str, kernel: Any) -> Any:
    return kernel if kernel.__class__ is _Watched or name not in _swapped else _Watched(name, kernel)


def _swap(names: set[str]) -> None:
    _swapped.update(names)
    for raw in list(_raw.values()):
        for name in names & vars(raw).keys():
            setattr(raw, name, _watched(name, vars(raw)[name]))
    for name in names:
        kernels = OPS[name].kernels
        for kind, kernel in list(kernels.items()):
            kernels[kind] = _watched(name, kernel)
    Raw.__getattr__ = _raw_watched  # type: ignore[method-assign]  # the swap at the door, until `_restore`


def _raw_watched(self: Raw, name: str) -> Any:
    kernel = _watched(name, _link_raw(self, name))
    setattr(self, name, kernel)
    return kernel


def _restore() -> None:
    Raw.__getattr__ = _link_raw  # type: ignore[method-assign]  # the method as it was
    for raw in list(_raw.values()):
        for name in _swapped & vars(raw).keys():
            if (kernel := vars(raw)[name]).__class__ is _Watched:
                setattr(raw, name, kernel.kernel)
    for name in _swapped:
        kernels = OPS[name].kernels
        for kind, kernel in list(kernels.items()):
            if kernel.__class__ is _Watched:
                kernels[kind] = kernel.kernel
    _swapped.clear()
