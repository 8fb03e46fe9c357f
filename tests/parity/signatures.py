"""Parameter names of public functions beside PyTorch's.

PyTorch's builtins have no signature for `inspect`: their names come from the first lines of the docstring (one per
overload), else from the table by which torch tests `__torch_function__`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

import tapegrad
import torch

from .translate import Missing, lookup

# `out` is added to every function by one mechanism and checked by the replay; these say how a result is stored, and
# are taken by every creation function (test_creation.py).
_EVERYWHERE = {"out", "self", "args", "kwargs", "_stacklevel", "layout", "pin_memory", "size_average", "reduce"}


# Names that the docstrings have and the functions refuse, by what they take (tried on torch 2.13). Here both are taken;
# `inspect` shows one of them.
_MISPRINTED = {
    "broadcast_to": {"shape": "size"},
    "cholesky_inverse": {"L": "input"},
    "cholesky_solve": {"B": "input", "L": "input2"},
    "lu_solve": {"b": "input"},
    "matrix_exp": {"A": "input"},
    "searchsorted": {"values": "input"},
    "tensor_split": {"sections": "indices_or_sections", "indices": "indices_or_sections"},  # by name: both
    "split_with_sizes": {"tensor": "input", "split_size_or_sections": "split_sizes"},
    "triangular_solve": {"b": "input"},
    "true_divide": {"dividend": "input", "divisor": "other"},
    "unsafe_split": {"tensor": "input", "split_size_or_sections": "split_size"},
}


def place(library: Any, name: str) -> Any:
    """The function of that name in a library, or the Tensor method."""
    name = name.removeprefix("torch.").removesuffix(".default")
    if "aten." in name:
        name = name.removeprefix("ops.aten.")
    try:
        found = lookup(library, name)
        if not callable(found) or isinstance(found, (torch.dtype, tapegrad.dtype)):
            raise Missing(name)
        return found
    except Missing:
        pass
    # cauchy, exponential, ... are entries of in-place functions; some are native functions, which torch.ops.aten has
    native = importlib.import_module("tapegrad.autograd.api.native") if library is tapegrad else torch.ops.aten
    for home, word in ((library.Tensor, name), (library.Tensor, name + "_"), (native, name)):
        try:
            return lookup(home, word)
        except Missing:
            pass
    raise Missing(name)


def overloads(name: str) -> list[list[str]]:
    """PyTorch's parameter names, one list per overload; empty where nothing tells them."""
    try:
        function = place(torch, name)
    except Missing:
        return []
    try:
        names = [p.name for p in inspect.signature(function).parameters.values()]
        if names and set(names) - {"args", "kwargs"}:
            return [_plain(names)]
    except (TypeError, ValueError):
        pass
    last = re.escape(name.split(".")[-1])
    head = r"(?:^|\n\s*\n|function:: )[ ]*(?:[\w.]*\.)?" + last + r"\(([^()]*(?:\([^()]*\)[^()]*)*)\)\s*(?:->|\n|$)"
    written = re.findall(head, (function.__doc__ or "").strip())
    found = [_plain(_split(text)) for text in written if "tensor(" not in text] or _override(function)
    return found


@functools.cache
def _overrides() -> dict[Any, Callable[..., Any]]:
    from torch.overrides import get_testing_overrides

    return get_testing_overrides()


def _override(function: Any) -> list[list[str]]:
    standin = _overrides().get(function)
    return [_plain(list(inspect.signature(standin).parameters))] if standin else []


def _split(text: str) -> list[str]:
    """Names of "input, dim=(1, 2), *, bool pivot=True, out=None"; those after the star begin with one."""
    flat = " ".join(text.split())
    for brackets in (r"\([^()]*\)", r"\[[^\[\]]*\]", r"\[[^\[\]]*\]"):
        flat = re.sub(brackets, "", flat)
    names = [re.split(r"[:=]", part.strip())[0].split(" ")[-1].strip() for part in flat.split(",")]
    star = names.index("*") if "*" in names else len(names)
    return [name if i < star else "*" + name for i, name in enumerate(names)]


def _plain(names: list[str]) -> list[str]:
    return [n for n in (name.strip("[]/ ") for name in names) if n.strip("*") and n.strip("*") not in _EVERYWHERE]


def ours(name: str) -> tuple[list[str], bool, bool]:
    """(tapegrad's parameter names, whether it takes further keywords, and any number of arguments)."""
    parameters = inspect.signature(place(tapegrad, name)).parameters.values()
    kinds = {p.kind for p in parameters}
    names = _plain([p.name for p in parameters if p.kind is not p.VAR_KEYWORD])
    return names, inspect.Parameter.VAR_KEYWORD in kinds, inspect.Parameter.VAR_POSITIONAL in kinds


def difference(name: str) -> tuple[str, str]:
    """("identical" | "argument names differ" | "arguments differ" | "missing", the details)."""
    try:
        mine, rest, many = ours(name)
    except Missing:
        return "missing", ""
    except (TypeError, ValueError):
        return "identical", ""  # a property
    theirs = overloads(name)
    for names in theirs:
        if name.startswith("__"):  # an operator: what torch's table calls input is self
            names = names[-1:] if name != "__getitem__" else mine
        right = _MISPRINTED.get(name, {})
        names = [right[n] if right.get(n) in mine else n for n in names]
        absent = [n for n in names if n.strip("*") not in mine and not (n.startswith("*") and many)]
        if absent and not rest and not (many and not mine):
            kind = "argument names differ" if len(names) == len(mine) else "arguments differ"
            return kind, f"torch: ({', '.join(names)}); here: ({', '.join(mine)})"
        if [n for n in mine if n in names] != [n for n in names if n in mine]:
            return "arguments differ", f"order; torch: ({', '.join(names)}); here: ({', '.join(mine)})"
    return "identical", ""
