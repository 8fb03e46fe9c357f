"""Where a Module keeps its parameters, buffers and children, so that reading one costs a plain attribute look-up.

PyTorch keeps them in three dictionaries of the module and finds them by `__getattr__`, which Python calls only after
the ordinary look-up has failed: slow, and paid by every `self.weight` of every forward. Here the three dictionaries
stay the truth, and each of their entries also stands in the instance's `__dict__`. The invariant:

    for every name in module._parameters, module._buffers, module._modules:
        module.__dict__[name] is that entry, until someone writes to __dict__ itself

It holds whatever way is taken, because the dictionaries themselves do the mirroring: `module.weight = p`,
`register_parameter`, `del module.weight`, `module._parameters["weight"] = p`, `module._parameters.pop("weight")`,
`module._modules = OrderedDict(...)`, loading, pickling and copying all end in a write to a `Registry`.

A registry holds its module by a weak reference: a strong one would make a cycle, and a dropped model would keep its
arrays until the garbage collector runs.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from ...autograd.tensor import Tensor

__all__: list[str] = []

REGISTRIES = ("_parameters", "_buffers", "_modules")

_MISSING = object()


class Registry(dict[str, Any]):
    """name -> parameter, buffer or child (or None) of one module, mirrored in that module's `__dict__`."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Any, items: Mapping[str, Any] | None = None):
        super().__init__()
        self._owner = weakref.ref(owner)
        if items:
            self.update(items)

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        owner = self._owner()
        if owner is not None:
            owner.__dict__[name] = value

    def __delitem__(self, name: str) -> None:
        value = self[name]
        super().__delitem__(name)
        self._unmirror(name, value)

    def _unmirror(self, name: str, value: Any) -> None:
        owner = self._owner()
        if owner is not None and owner.__dict__.get(name, _MISSING) is value:
            del owner.__dict__[name]

    def pop(self, name: str, default: Any = _MISSING) -> Any:
        if name not in self:
            if default is _MISSING:
                raise KeyError(name)
            return default
        value = self[name]
        del self[name]
        return value

    def popitem(self) -> tuple[str, Any]:
        name, value = super().popitem()
        self._unmirror(name, value)
        return name, value

    def clear(self) -> None:
        for name in list(self):
            del self[name]

    def setdefault(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def update(self, *items: Mapping[str, Any] | Iterable[tuple[str, Any]], **named: Any) -> None:  # type: ignore[override]
        for name, value in dict(*items, **named).items():
            self[name] = value

    def __ior__(self, items: Any) -> Registry:  # type: ignore[override, misc]
        self.update(items)
        return self

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Copied and pickled as the plain dict it is; `Module.__setstate__` makes it a registry of the new module."""
        return (dict, (), None, None, iter(self.items()))


def adopt(owner: Any, name: str, items: Mapping[str, Any]) -> None:
    """Makes `items` the registry `name` of `owner`; what the registry held before leaves `owner.__dict__`."""
    members = owner.__dict__
    held = members.get(name)
    if held is items and isinstance(held, Registry) and held._owner() is owner:
        return
    if isinstance(held, Registry) and held._owner() is owner:
        held.clear()
    members[name] = Registry(owner, items)


def without_mirrors(owner: Any) -> dict[str, Any]:
    """`owner.__dict__` less the mirrored entries: the state that is pickled and copied."""
    members = owner.__dict__
    state = members.copy()
    for name in REGISTRIES:
        held = members.get(name, {})
        for key, value in held.items():
            if state.get(key, _MISSING) is value:
                del state[key]
    return state


class LazyHooks:
    """An OrderedDict of hooks which exists only once somebody asks for it, as `module._forward_hooks` does.

    A table with `calls=True` takes part in calling the module. Its birth sets `module._hooked`, the one flag that
    `Module.__call__` reads, and nothing ever clears it: hooks may come and go by any way (handles, `clear()`,
    assignment), the flag cannot be wrong, and a module that never had a hook never pays for one.
    """

    __slots__ = ("name", "calls")

    def __init__(self, calls: bool = False):
        self.calls = calls

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        if module is None:
            return self
        table = module.__dict__.get(self.name)
        if table is None:
            table = OrderedDict()
            self.__set__(module, table)
        return table

    def __set__(self, module: Any, table: Any) -> None:
        module.__dict__[self.name] = table
        if self.calls:
            module.__dict__["_hooked"] = True


def typename(value: Any) -> str:
    """The name by which PyTorch's messages call a value's type: 'int', 'torch.FloatTensor', 'module.Class'."""
    if isinstance(value, Tensor):
        return str(value.type())
    kind = value if hasattr(value, "__qualname__") else type(value)
    module = getattr(kind, "__module__", "") or ""
    return kind.__qualname__ if module in ("", "builtins") else f"{module}.{kind.__qualname__}"
