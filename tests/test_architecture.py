"""The rooms and the arrows between them: every import in the library is parsed and looked up in the tables below."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from library import ROOT, library_files, module_name, package_names

MAX_LINES = 600

# Module patterns, without "tapegrad."; the first that matches names the module's room.
ROOMS = [
    ("root", ["tapegrad"]),
    ("registry", ["backends.registry", "backends.base", "backends.threads", "backends.precision"]),  # known to the tape
    ("backends", ["backends", "backends.*"]),
    ("op", ["autograd.op"]),
    ("ops", ["autograd.ops", "autograd.ops.*"]),
    ("api", ["autograd.api", "autograd.api.*"]),
    ("autograd", ["autograd"]),
    ("core", ["autograd.*"]),
    ("functional", ["nn.functional", "nn.functional_*", "nn.functional.*"]),
    ("nn", ["nn", "nn.*"]),
    ("optim", ["optim", "optim.*"]),
    ("distributed.optim", ["distributed.optim", "distributed.optim.*"]),
    ("distributed", ["distributed", "distributed.*"]),
    ("utils", ["utils", "utils.*"]),
    ("train", ["train", "train.*"]),
    ("models", ["models", "models.*"]),
    ("front", ["*"]),  # modules beside the root's __init__
]
TAPE = {"op", "core", "autograd"}
ARROWS = {
    "registry": {"registry", "backends"},
    "backends": {"registry", "backends"},
    "op": TAPE | {"registry"},
    "ops": {"op", "ops"},
    "core": TAPE | {"registry"},
    "api": TAPE | {"ops", "api", "registry"},
    "autograd": TAPE | {"ops", "api", "registry"},
    "functional": TAPE | {"ops", "api", "functional"},
    "distributed": TAPE | {"api", "registry", "distributed"},
    "distributed.optim": TAPE | {"api", "registry", "optim", "distributed", "distributed.optim"},
    "nn": TAPE | {"ops", "api", "functional", "nn", "distributed"},
    "optim": TAPE | {"api", "registry", "optim"},
    "utils": TAPE | {"ops", "api", "registry", "functional", "nn", "optim", "distributed", "utils"},
    "train": TAPE | {"api", "registry", "functional", "nn", "optim", "distributed", "utils", "train", "front"},
    "front": TAPE | {"ops", "api", "registry", "backends", "functional", "nn", "optim", "distributed", "utils"}
    | {"front"},
    "models": TAPE | {"api", "registry", "functional", "nn", "utils", "front", "models"},
}
# (importing module, imported module): why. One that is no longer needed fails.
EXCEPTIONS = {
    ("autograd.ops.core", "backends.registry"): "transfer, between two backends, is the one op that must know both",
    ("nn.attention", "backends.cuda"): "sdpa_kernel sets the switches of torch.backends.cuda, as in PyTorch",
    ("autograd.random", "backends.numpy.random"): "every backend's numbers are those of PyTorch's CPU generator",
    ("autograd.tensor", "autograd.api.creation"): "Tensor(data) is a creation function spelled as a class",
    ("optim.swa_utils", "nn"): "AveragedModel is a Module, and PyTorch has it there; optim loads it when it is named",
}

# Packages from outside -> the only modules that may import them; none listed: nobody.
ONLY_IN = {
    "torch": [],
    "cupy": ["backends.cupy", "backends.cupy.*"],
    "cupyx": ["backends.cupy", "backends.cupy.*"],
}
# Packages from outside -> the modules that may not: the engine names no NumPy, an op only knows `xp`.
NOT_IN = {"numpy": ["autograd.engine", "autograd.ops", "autograd.ops.*"]}


def short(module: str) -> str:
    return module.removeprefix("tapegrad.")


def matches(module: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(short(module), pattern) for pattern in patterns)


def room(module: str) -> str:
    return next(name for name, patterns in ROOMS if matches(module, patterns))


def imports(tree: ast.AST, module: str, is_package: bool, known: set[str]) -> Iterator[tuple[int, str]]:
    """(line, absolute name) of every import, lazy ones and `import_module("name")` included.

    `from ..nn import init` gives tapegrad.nn.init where that is a module, else tapegrad.nn.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if is_package else module.split(".")[:-1]
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, *filter(None, [base])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield node.lineno, name if name in known else base
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func)
            if called in ("__import__", "import_module", "importlib.import_module"):
                name = str(node.args[0].value)
                dots = len(name) - len(name.lstrip("."))
                parents = module.split(".") if is_package else module.split(".")[:-1]
                parents = parents[: len(parents) - dots + 1] if dots else []
                yield node.lineno, ".".join([*parents, name[dots:]])


def wrong_imports(source: str, module: str, is_package: bool, known: set[str], used: set[tuple[str, str]]) -> list[str]:
    """One line per import that the tables forbid; the exceptions met are added to `used`."""
    wrong = []
    here = room(module)
    for line, target in imports(ast.parse(source), module, is_package, known):
        where = f"{short(module)}:{line} imports {target}"
        top = target.split(".")[0]
        if top != "tapegrad":
            if top in ONLY_IN and not matches(module, ONLY_IN[top]):
                wrong.append(f"{where}, allowed in {ONLY_IN[top] or 'no module'} only")
            if matches(module, NOT_IN.get(top, [])):
                wrong.append(f"{where}, which it must not know")
        elif target not in known:
            wrong.append(f"{where}: no such module")
        elif here != "root" and target == "tapegrad":
            wrong.append(f"{where}: nothing inside imports the root")
        elif here != "root" and room(target) not in ARROWS[here]:
            if (short(module), short(target)) in EXCEPTIONS:
                used.add((short(module), short(target)))
            else:
                wrong.append(f"{where}: {here} may import {', '.join(sorted(ARROWS[here]))}, not {room(target)}")
    return wrong


def absolute_imports(source: str) -> list[int]:
    """Lines which import tapegrad by its own name."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "tapegrad" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "tapegrad")
    ]


def ops_without_shapes(source: str) -> list[str]:
    """Names of the functions under @op or @composite whose docstring states no `(shape) -> (shape)`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            marks = [mark.func if isinstance(mark, ast.Call) else mark for mark in node.decorator_list]
            if any(ast.unparse(mark).split(".")[-1] in ("op", "composite") for mark in marks):
                if not re.search(r"\(.*\).*->.*\(.*\)", ast.get_docstring(node) or "", re.DOTALL):
                    found.append(node.name)
    return found


FILES = library_files()
KNOWN = {module_name(path) for path in FILES}


def test_the_arrows():
    wrong, used = [], set()
    for path in FILES:
        wrong += wrong_imports(path.read_text("utf-8"), module_name(path), path.name == "__init__.py", KNOWN, used)
    assert not wrong, "\n".join(["imports against the arrows:", *wrong])
    assert used == set(EXCEPTIONS), f"exceptions no longer needed: {set(EXCEPTIONS) - used}"


def test_imports_inside_are_relative():
    wrong = [f"{path.relative_to(ROOT)}:{line}" for path in FILES for line in absolute_imports(path.read_text("utf-8"))]
    assert not wrong, f"import tapegrad by name inside tapegrad: {wrong}"


def test_files_stay_short():
    lines = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in FILES}
    too_long = {name: count for name, count in lines.items() if count > MAX_LINES}
    assert not too_long, f"over {MAX_LINES} lines: {too_long}"


def test_ops_state_their_shapes():
    ops = [path for path in FILES if room(module_name(path)) == "ops"]
    assert ops, "no file in autograd/ops"
    missing = {path.name: names for path in ops if (names := ops_without_shapes(path.read_text("utf-8")))}
    assert not missing, f"no `(shape) -> (shape)` in the docstring of {missing}"


def test_every_folder_is_a_package():
    without = {name for name in package_names() - {"tapegrad"} if name not in KNOWN}
    assert not without, f"folders with library code and no __init__.py: {sorted(without)}"


def test_no_name_at_the_root_hides_the_standard_library():
    """Python puts the working directory first: a random.py here would break every program started in the checkout."""
    names = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not names & sys.stdlib_module_names


# ---- the checks themselves ------------------------------------------------------------------------------------------

EXAMPLE = {
    "tapegrad", "tapegrad.version", "tapegrad.backends", "tapegrad.backends.registry", "tapegrad.backends.numpy",
    "tapegrad.autograd", "tapegrad.autograd.op", "tapegrad.autograd.tensor", "tapegrad.autograd.engine",
    "tapegrad.autograd.ops", "tapegrad.autograd.ops.math", "tapegrad.autograd.api.math",
    "tapegrad.nn", "tapegrad.nn.functional", "tapegrad.nn.modules", "tapegrad.nn.modules.linear",
    "tapegrad.optim", "tapegrad.optim.sgd", "tapegrad.utils.data",
}  # fmt: skip
WRONG = [
    ("backends.numpy", "from ..autograd.tensor import Tensor"),
    ("backends.numpy", "def f():\n    from .. import autograd"),
    ("backends.numpy", "import cupy"),
    ("backends.registry", "from importlib import import_module\nimport_module('..nn', __package__)"),
    ("autograd.tensor", "from ..nn import functional"),
    ("autograd.tensor", "from .ops import math"),
    ("autograd.tensor", "from ..backends import numpy"),
    ("autograd.engine", "import numpy as np"),
    ("autograd.engine", "from numpy.linalg import norm"),
    ("autograd.ops.math", "from ..tensor import Tensor"),
    ("autograd.ops.math", "from ...backends.registry import backend_of"),
    ("autograd.ops.math", "import numpy"),
    ("autograd.api.math", "from ...optim import sgd"),
    ("nn.functional", "from .modules import linear"),
    ("nn.functional", "from .modules.linear import Linear"),
    ("nn.modules.linear", "from ...optim.sgd import SGD"),
    ("nn.modules.linear", "from ...backends.registry import backend_of"),
    ("optim.sgd", "from ..nn import functional"),
    ("optim.sgd", "from .. import no_grad"),
    ("optim.sgd", "import tapegrad"),
    ("optim.sgd", "from tapegrad import Tensor"),
    ("utils.data", "from .. import Tensor"),
    ("utils.data", "import torch.utils.data"),
    ("utils.data", "__import__('cupy')"),
]
RIGHT = [
    ("tapegrad", "from .autograd.tensor import Tensor\nfrom . import nn, optim"),
    ("backends.cupy.kernels", "import cupy\nimport numpy"),
    ("backends.numpy", "import numpy as np\nfrom . import registry"),
    ("autograd.tensor", "from ..backends.registry import backend_of\nfrom . import op"),
    ("autograd.ops.math", "from ..op import op\nimport math"),
    ("autograd.api.math", "from ..tensor import wrap\nfrom ..ops import math"),
    ("nn.functional", "from ..autograd import ops\nfrom ..autograd.api.math import add"),
    ("nn.modules.linear", "from ..functional import linear\nfrom ... import nn"),
    ("optim.sgd", "from ..autograd.tensor import Tensor\nfrom ..backends.registry import backend_of"),
    ("utils.data", "from ..autograd.tensor import Tensor"),
]


def check_snippet(module: str, source: str) -> list[str]:
    return wrong_imports(source, module if module == "tapegrad" else f"tapegrad.{module}", False, EXAMPLE, set())


@pytest.mark.parametrize(("module", "source"), WRONG)
def test_a_wrong_arrow_is_seen(module, source):
    assert check_snippet(module, source) or absolute_imports(source)


@pytest.mark.parametrize(("module", "source"), RIGHT)
def test_a_right_arrow_is_let_through(module, source):
    if module == "tapegrad":
        assert not wrong_imports(source, "tapegrad", True, EXAMPLE, set())
    else:
        assert not check_snippet(module, source) and not absolute_imports(source)


def test_a_missing_shape_is_seen():
    bodies = {
        "plain": '@op\ndef plain(xp, x):\n    """The sine."""',
        "called": '@op(broadcasts=True)\ndef called(xp, x):\n    """x: (*S) to (*S)."""',
        "none": "@composite\ndef none(F, x):\n    return x",
        "good": '@op.op(aux=("m",))\ndef good(xp, x):\n    """Sum.\n\n    x: (*S)\n    -> ()."""',
        "other": "def other(xp, x):\n    return x",
    }
    assert ops_without_shapes("\n".join(bodies.values())) == ["plain", "called", "none"]


def test_the_library_is_found():
    assert Path(ROOT, "__init__.py") in FILES
    assert {"tapegrad", "tapegrad.autograd", "tapegrad.autograd.ops", "tapegrad.nn", "tapegrad.optim"} <= KNOWN
    assert not any(part in ("tests", ".venv") for path in FILES for part in path.relative_to(ROOT).parts)
