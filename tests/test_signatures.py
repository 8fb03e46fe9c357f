"""Every public function shows its parameters under PyTorch's names, and says in its docstring what shapes it takes.

The functions are found by going through the rooms, so that a new one is held to the same.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import tapegrad
from tapegrad.autograd.api import FUNCTIONS
from tapegrad.autograd.api.table import PUBLIC

ROOMS = "linalg special fft masked signal.windows nn.functional nn.init func".split()

# What rooms import from the inside of the library is not theirs.
_INSIDE = {"tapegrad.autograd.coerce", "tapegrad.autograd.versions", "tapegrad.autograd.dtypes"}

# Shapes: (*S), (N, C), n: (n,), -> (). What else stands in parentheses (exp(x), (*args), see (there)) is none.
_SHAPES = re.compile(
    r"\(\*(?!args|kwargs|primals|tangents)[^)]*\)"  # (*S), (*, N)
    r"|->\s*\("
    r"|: \([\w*. ]*,"  # x: (n,)
    r"|\([A-Z]\w*(?:,[^)]*)?\)"  # (N), (N, C)
)

# Functions that say no shapes, since they have none to say: reason -> names.
EXEMPT = {
    "a fact about a tensor: a number, a flag, a dtype, its memory": """
        size stride data_ptr const_data_ptr storage_offset is_contiguous element_size numel nelement dim
        ndimension dim_order is_same_size is_set_to tolist is_floating_point is_complex is_signed
        is_inference is_nonzero is_conj is_neg get_device is_pinned is_shared is_distributed result_type
        untyped_storage storage""",
    "no tensor goes in or comes out": "is_tensor is_storage broadcast_shapes nn.init.calculate_gain",
    "of modules, or of functions as they are": """
        func.functional_call func.functionalize func.replace_all_batch_norm_modules_""",
    "always refuses": "chalf",
    "holds modules, parameters or options: shapes are theirs": """
        nn.Module nn.ModuleDict nn.ModuleList nn.ParameterDict nn.ParameterList nn.Sequential nn.Container
        nn.DataParallel nn.RNNCellBase""",
}
EXEMPT_NAMES = {name for names in EXEMPT.values() for name in names.split()}

# Parameters that PyTorch's own signatures have under such names.
_UNDERSCORED = {"_random_samples", "_stacklevel", "_preallocate_and_copy"}


def _room(path: str) -> dict[str, Callable[..., Any]]:
    room = importlib.import_module("tapegrad." + path) if path != "signal.windows" else tapegrad.signal.windows
    names = getattr(room, "__all__", None) or [name for name in dir(room) if not name.startswith("_")]
    found = {f"{path}.{name}": getattr(room, name) for name in names}
    return {name: f for name, f in found.items() if inspect.isroutine(f) and f.__module__ not in _INSIDE}


def functions(place: str) -> dict[str, Callable[..., Any]]:
    """The public functions of a place: a room, or the table (top level, methods, and what is made in place of them)."""
    return _room(place) if place != "table" else {name: entry.function for name, entry in PUBLIC.items()} | FUNCTIONS


def layers() -> dict[str, type]:
    found = {f"nn.{name}": getattr(tapegrad.nn, name) for name in dir(tapegrad.nn) if not name.startswith("_")}
    return {name: c for name, c in found.items() if inspect.isclass(c) and issubclass(c, tapegrad.nn.Module)}


def optimizers() -> dict[str, type]:
    found = {name: getattr(tapegrad.optim, name) for name in dir(tapegrad.optim)}
    return {name: c for name, c in found.items() if inspect.isclass(c) and issubclass(c, tapegrad.optim.Optimizer)}


def says_shapes(thing: Any) -> bool:
    """Whether the docstring (a class's own, not that of its base) says shapes."""
    text = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    return _SHAPES.search(text or "") is not None


def fault(function: Callable[..., Any]) -> str:
    """What is wrong with the function's signature, "" for nothing."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        return str(error)
    named = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    inner = [n for n in named if n == "op_name" or (n.startswith("_") and n not in _UNDERSCORED)]
    nothing = bool(parameters) and not set(named) - {"args"}
    return f"shows {inner}" if inner else "says nothing" if nothing else ""


PLACES = ["table", *ROOMS]
AT_LEAST = dict(zip(PLACES, (600, 40, 55, 22, 19, 11, 125, 24, 13), strict=True))


@pytest.mark.parametrize("place", PLACES)
def test_signatures_are_shown(place: str) -> None:
    found = functions(place)
    assert len(found) >= AT_LEAST[place]
    assert {name: fault(f) for name, f in found.items() if fault(f)} == {}


@pytest.mark.parametrize("place", PLACES)
def test_docstrings_say_shapes(place: str) -> None:
    assert [name for name, f in functions(place).items() if not says_shapes(f) and name not in EXEMPT_NAMES] == []


def test_docstrings_of_layers_say_shapes() -> None:
    assert len(layers()) >= 140
    assert [name for name, c in layers().items() if not says_shapes(c) and name not in EXEMPT_NAMES] == []


def test_docstrings_of_optimizers() -> None:
    assert len(optimizers()) >= 15
    assert [name for name, c in optimizers().items() if not vars(c).get("__doc__")] == []


def test_exemptions_are_needed() -> None:
    """Each exempt name is there, has a docstring, and says no shapes."""
    found = layers() | {name: f for place in PLACES for name, f in functions(place).items()}
    assert sorted(EXEMPT_NAMES - found.keys()) == []
    assert [name for name in EXEMPT_NAMES if says_shapes(found[name]) or not (found[name].__doc__ or "").strip()] == []


@pytest.mark.parametrize("text", ["(*S) -> (*S).", "x: (N, C), y: (*, N)", "the window. -> (n,), floating", "x: (n,)."])
def test_shapes_are_seen(text: str) -> None:
    assert _SHAPES.search(text)


@pytest.mark.parametrize("text", ["", "exp(x) / 2", "func(*args)", "1 / (1 + exp(-x)).", "relu in place (fast)."])
def test_no_shapes_are_seen(text: str) -> None:
    assert not _SHAPES.search(text)


def test_faults_are_seen() -> None:
    assert fault(lambda input, op_name="mul": 0) == "shows ['op_name']"
    assert fault(lambda input, *, _inplace=False: 0) == "shows ['_inplace']"
    assert fault(lambda *args, **kwargs: 0) == "says nothing"
    assert not fault(lambda: 0) and not fault(lambda *tensors: 0) and not fault(lambda input, **_: 0)


# ---- beside PyTorch --------------------------------------------------------------------------------------------------


def test_functions_have_the_parameter_names_of_torch() -> None:
    torch = pytest.importorskip("torch")
    from parity.signatures import difference, overloads
    from torch.testing._internal.common_methods_invocations import op_db

    names = {info.name for info in op_db} | {"nn.functional." + name for name in dir(torch.nn.functional)}
    found = {name: difference(name) for name in sorted(names)}
    here = [name for name, (kind, _) in found.items() if kind != "missing"]  # what is missing is in the parity table
    assert len(here) >= 640 and sum(bool(overloads(name)) for name in here) >= 0.95 * len(here)
    assert [(name, *found[name]) for name in here if found[name][0] != "identical"] == []


def test_classes_have_the_parameter_names_of_torch() -> None:
    torch = pytest.importorskip("torch")
    differ, compared = [], 0
    for name, ours in {**layers(), **{"optim." + name: c for name, c in optimizers().items()}}.items():
        room, _, last = name.partition(".")
        theirs = getattr(getattr(torch, room), last)
        expected = list(inspect.signature(theirs.__init__).parameters)
        if expected != ["self", "args", "kwargs"]:  # RNN, LSTM, GRU
            compared += 1
            shown = list(inspect.signature(ours.__init__).parameters)
            differ += [(name, expected, shown)] * (shown != expected)
    assert compared >= 150 and differ == []
