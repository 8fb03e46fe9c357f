"""The table of public functions: declared once, where they are written, by `@public`.

The root package takes its names from here, and Tensor its methods; a name ending in `_` is made by `inplace=True`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..coerce import add_call, into
from ..inplace import check_overlap
from ..tensor import Tensor


class Entry:
    """One public name: the function, and where it is to be found."""

    __slots__ = ("function", "is_function", "is_method", "inplace")

    def __init__(self, function: Callable[..., Any], is_function: bool, is_method: bool, inplace: bool):
        self.function = function
        self.is_function = is_function
        self.is_method = is_method
        self.inplace = inplace


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
    numbers: bool = False,
) -> Any:
    """Declares a public function: `tapegrad.NAME` and/or a Tensor method, and `NAME_` where `inplace`.

    The function is written with PyTorch's parameter names and no `out`; what is added here are NumPy's aliases of
    keywords, `out=`, the TypeError for a first argument that is no Tensor (unless `numbers`), and a note on errors that
    names the call.
    """
    if function is None:
        return lambda f: public(
            f, name=name, method=method, is_function=is_function, inplace=inplace, numbers=numbers
        )
    name = name or function.__name__
    code = function.__code__
    takes_tensor = not numbers and code.co_argcount > 0 and code.co_varnames[0] in ("input", "self")

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            if takes_tensor and args and not isinstance(args[0], Tensor):
                raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(args[0]).__name__}")
            if kwargs:
                parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
                for alias in kwargs.keys() & _ALIASES.keys():
                    if alias not in parameters and _ALIASES[alias] in parameters:
                        kwargs[_ALIASES[alias]] = kwargs.pop(alias)
                if "out" in kwargs and "out" not in parameters:
                    out = kwargs.pop("out")
                    result = function(*args, **kwargs)
                    if name in _OUT:
                        _check_out(out, name, result, (*args, *kwargs.values()))
                    return _into(out, name, result)
                return function(*args, **kwargs)
            return function(*args)
        except Exception as error:
            if hasattr(error, "tensor"):  # NotDense of sparse.py: the tensor may have its own form of the function
                return error.tensor.call(name, args, kwargs)
            explained = add_call(error, name, code.co_varnames[: code.co_argcount], args, kwargs)
            if explained is error:
                raise
            raise explained from None

    if not is_function and not any(p in code.co_varnames[1 : code.co_argcount] for p in ("dim", "keepdim", "other")):
        PUBLIC[name] = Entry(function, is_function, method, inplace)
        return function  # a method without aliases: there is nothing to add
    # what functools.wraps does, without what nobody reads: there are hundreds of these at import (mypy knows no
    # attributes of functions)
    call.__name__ = call.__qualname__ = name
    call.__doc__, call.__module__, call.__wrapped__ = function.__doc__, function.__module__, function  # type: ignore[attr-defined]
    PUBLIC[name] = Entry(call, is_function, method, inplace)
    return call


# Functions whose `out=` may share no memory with an input, with the text for an `out=` of another dtype than the
# result's, where that is refused.
_OUT: dict[str, str | None] = {
    **dict.fromkeys(
        ("cat", "masked_select", "index_select", "take", "kthvalue", "scatter", "scatter_add", "index_add")
    ),
    "gather": "Expected out tensor to have dtype {want}, but got {have} instead",
    "multinomial": "multinomial expects Long tensor out, got: {have}",
}


def _check_out(out: Any, name: str, result: Any, inputs: tuple[Any, ...]) -> None:
    """RuntimeError where `out=` lies in an input's memory, or is of a dtype that the function does not write."""
    text = _OUT[name]
    if text and out.dtype is not result.dtype:
        have, want = (d.legacy if name == "multinomial" else d.legacy.lower() for d in (out.dtype, result.dtype))
        raise RuntimeError(text.format(have=have, want=want))
    given = [t for item in inputs for t in (item if isinstance(item, (tuple, list)) else (item,))]
    for target in out if isinstance(out, (tuple, list)) else (out,):
        check_overlap(target.array, name)
        for t in given:
            if name == "gather" and t is target and t is not given[0]:
                continue  # its index may be written over as a whole
            if t is target or (isinstance(t, Tensor) and _share(target.array, t.array, result)):
                raise RuntimeError(
                    "unsupported operation: some elements of the input tensor and the written-to tensor refer to a "
                    f"single memory location. Please clone() the tensor before performing the operation. ({name})"
                )


def _share(a: Any, b: Any, result: Any) -> bool:
    """Whether two arrays without gaps lie in the same memory, the first one as large as the result needs it."""
    if type(a) is not type(b) or not (a.flags.c_contiguous and b.flags.c_contiguous):
        return False
    from .shape import address

    size = max(a.nbytes, getattr(result, "nbytes", 0))
    return size > 0 < b.nbytes and address(a) < address(b) + b.nbytes and address(b) < address(a) + size


def _into(out: Any, name: str, result: Any) -> Any:
    """Writes the result, or each of several, into what was given as `out=`."""
    if out is None:
        return result
    if isinstance(out, (tuple, list)):
        written = [into(o, name, r) for o, r in zip(out, result, strict=True)]
        return tuple(written) if type(result) is tuple else type(result)(*written)
    return into(out, name, result)


# Binary ops whose `other` may be a number but whose `input` may not, and those that take tensors alone. The ops
# themselves take numbers anywhere, for rules and operators.
_NUMBER_SECOND = {"eq", "ne", "lt", "le", "gt", "ge", "fmod", "copysign"}
_NO_NUMBER = {
    "maximum", "minimum", "fmax", "fmin", "hypot", "atan2", "logical_and", "logical_or", "logical_xor", "ldexp", "gcd",
    "lcm", "logaddexp", "logaddexp2", "nextafter", "igamma", "igammac",
}  # fmt: skip


def strict(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A recorded op as its public function: with PyTorch's TypeError where it takes no numbers."""
    if name not in _NO_NUMBER and name not in _NUMBER_SECOND:
        return function
    second = name in _NUMBER_SECOND

    def call(input: Any, other: Any, *, out: Any = None) -> Any:
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
        if not second and not isinstance(other, Tensor):
            raise TypeError(f"{name}(): argument 'other' (position 2) must be Tensor, not {type(other).__name__}")
        return function(input, other) if out is None else function(input, other, out=out)

    call.__name__ = call.__qualname__ = name
    call.__doc__, call.__module__ = function.__doc__, function.__module__
    return call


def declare(name: str, function: Callable[..., Any], inplace: bool) -> None:
    """Declares a recorded op which is itself the public function (elementwise ops)."""
    PUBLIC[name] = Entry(function, True, True, inplace)
