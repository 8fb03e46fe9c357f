"""The table of public functions: declared once, where they are written, by `@public`.

The root package takes its names from here, and Tensor its methods; a name ending in `_` is made by `inplace=True`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from ..coerce import into
from ..tensor import Tensor


class Entry(NamedTuple):
    """One public name: the function, and where it is to be found."""

    function: Callable[..., Any]
    is_function: bool
    is_method: bool
    inplace: bool


PUBLIC: dict[str, Entry] = {}

# NumPy's words, which PyTorch takes too, by PyTorch's own.
_ALIASES = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input", "x2": "other"}


def public(
    function: Any = None,
    *,
    name: str | None = None,
    method: bool = True,
    is_function: bool = True,
    inplace: bool = False,
) -> Any:
    """Declares a public function: `tapegrad.NAME` and/or a Tensor method, and `NAME_` where `inplace`.

    The function is written with PyTorch's parameter names and no `out`; what is added here are NumPy's aliases of
    keywords, `out=`, and the TypeError for a first argument that is no Tensor.
    """
    if function is None:
        return lambda f: public(f, name=name, method=method, is_function=is_function, inplace=inplace)
    name = name or function.__name__
    code = function.__code__
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    aliases = {a: p for a, p in _ALIASES.items() if p in parameters and a not in parameters}
    takes_tensor = parameters[:1] in (("input",), ("self",))
    takes_out = "out" in parameters

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if takes_tensor and args and not isinstance(args[0], Tensor):
            raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(args[0]).__name__}")
        if kwargs:
            for alias in kwargs.keys() & aliases.keys():
                kwargs[aliases[alias]] = kwargs.pop(alias)
            if not takes_out and "out" in kwargs:
                out = kwargs.pop("out")
                if out is not None:
                    result = function(*args, **kwargs)
                    if isinstance(out, tuple):
                        return type(result)(*(into(o, name, r) for o, r in zip(out, result, strict=True)))
                    return into(out, name, result)
        return function(*args, **kwargs)

    PUBLIC[name] = Entry(call, is_function, method, inplace)
    return call


def declare(name: str, function: Callable[..., Any], inplace: bool) -> None:
    """Declares a recorded op which is itself the public function (elementwise ops)."""
    PUBLIC[name] = Entry(function, True, True, inplace)
