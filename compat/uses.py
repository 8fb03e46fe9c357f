"""Which torch names a program uses, read from its text; and which of them are missing here or differ."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from . import module_for
from .tables import COMMON, DIFFERS, TENSOR_ATTRIBUTES

_METHODS = frozenset(TENSOR_ATTRIBUTES) - frozenset(COMMON)


class Use(NamedTuple):
    """One name in a program.

    Attributes:
        name: dotted, such as "torch.nn.Linear"; "Tensor.NAME" for a method of what may be a tensor.
        file, line: where it stands first.
        keywords: the keyword arguments of calls.
    """

    name: str
    file: str
    line: int
    keywords: frozenset[str]


class Verdict(NamedTuple):
    """What tapegrad has under a name: status "same", "differs" or "missing", and why."""

    use: Use
    status: str
    reason: str


class _Reader(ast.NodeVisitor):
    """Collects the uses of one file. Names bound by imports and plain assignments are followed, in textual order."""

    def __init__(self, file: str):
        self.file = file
        self.bound: dict[str, str] = {}  # name in the file -> dotted torch name
        self.uses: list[Use] = []
        self.local_imports: set[str] = set()

    def _add(self, name: str, node: Any, keywords: Any = ()) -> None:
        self.uses.append(Use(name, self.file, node.lineno, frozenset(keywords)))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.partition(".")[0] != "torch":
                self.local_imports.add(alias.name)
                continue
            self._add(alias.name, node)
            self.bound[alias.asname or "torch"] = alias.name if alias.asname else "torch"

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level or module.partition(".")[0] != "torch":
            self.local_imports.update([module, *(f"{module}.{a.name}".strip(".") for a in node.names)])
            return
        for alias in node.names:
            if alias.name == "*":
                self._star(module, node)
                continue
            self._add(f"{module}.{alias.name}", node)
            self.bound[alias.asname or alias.name] = f"{module}.{alias.name}"

    def _star(self, module: str, node: ast.AST) -> None:
        self._add(module, node)
        try:
            found = module_for(module)
        except ModuleNotFoundError:
            return
        for name in getattr(found, "__all__", [n for n in dir(found) if n[0] != "_"]):
            self.bound[name] = f"{module}.{name}"

    def dotted(self, node: ast.AST) -> str | None:
        """The torch name that an expression spells, or None."""
        if isinstance(node, ast.Name):
            return self.bound.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return None if base is None else f"{base}.{node.attr}"
        return None

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        name = self.dotted(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.bound.pop(target.id, None)
                if name is not None:
                    self.bound[target.id] = name

    def visit_Call(self, node: ast.Call) -> None:
        name = self.dotted(node.func)
        keywords = [k.arg for k in node.keywords if k.arg]
        if name is not None:
            self._add(name, node, keywords)
        else:
            self.visit(node.func)
        for part in (*node.args, *node.keywords):
            self.visit(part)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self.dotted(node)
        if name is not None:
            self._add(name, node)
            return
        if node.attr in _METHODS:
            self._add(f"Tensor.{node.attr}", node)
        self.visit(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        name = self.bound.get(node.id)
        if name is not None and isinstance(node.ctx, ast.Load):
            self._add(name, node)


def uses_of(program: str | Path) -> list[Use]:
    """Every torch name in a program's file and in the files beside it that it imports, each once, sorted.

    SyntaxError where a file is no Python.
    """
    merged: dict[str, Use] = {}
    for use in _all_uses(Path(program)):
        seen = merged.get(use.name)
        merged[use.name] = use if seen is None else seen._replace(keywords=seen.keywords | use.keywords)
    return [merged[name] for name in sorted(merged)]


def _all_uses(program: Path) -> Iterator[Use]:
    waiting, done = [program], set()
    while waiting:
        path = waiting.pop()
        if path in done:
            continue
        done.add(path)
        reader = _Reader(str(path))
        reader.visit(ast.parse(path.read_text("utf-8"), str(path)))
        yield from reader.uses
        for name in sorted(reader.local_imports - {""}):
            parts = name.split(".")
            for folder in {program.parent, path.parent}:
                for candidate in (folder.joinpath(*parts).with_suffix(".py"), folder.joinpath(*parts, "__init__.py")):
                    if candidate.is_file():
                        waiting.append(candidate)


def verdict(use: Use, notes: dict[str, str]) -> Verdict:
    """Whether tapegrad has the name, and takes the keywords."""
    try:
        value = _resolve(use.name)
    except (AttributeError, ImportError) as error:
        reason = "a method of torch's Tensor, if this is one" if use.name.startswith("Tensor.") else str(error)
        return Verdict(use, "missing", reason)
    unknown = sorted(use.keywords - _keywords(value, use.keywords))
    if unknown:
        return Verdict(use, "differs", f"takes no argument {', '.join(unknown)}")
    if use.name in notes:
        return Verdict(use, "differs", notes[use.name])
    return Verdict(use, "same", "")


def _resolve(name: str) -> Any:
    first, *rest = name.split(".")
    if first == "Tensor":
        value: Any = module_for("torch").Tensor
        return getattr(value, rest[0])
    value, path = module_for("torch"), "torch"
    for word in rest:
        path = f"{path}.{word}"
        try:
            value = getattr(value, word)
        except AttributeError:
            if not isinstance(value, ModuleType):
                raise
            try:
                value = module_for(path)
            except ModuleNotFoundError:
                raise AttributeError(f"not in tapegrad: {path}") from None
    return value


def _keywords(value: Any, asked: frozenset[str]) -> frozenset[str]:
    """Those of the asked keywords that a call takes; all where it cannot be told."""
    if not asked or not callable(value):
        return asked
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return asked
    if any(p.kind is p.VAR_KEYWORD for p in parameters) or hasattr(value, "op"):
        return asked
    taken = {p.name for p in parameters} | {"out", "axis", "keepdims", "input", "x", "a", "x1", "x2"}
    return frozenset(taken) & asked


def notes() -> dict[str, str]:
    """name -> how it differs: the table of this package, and what the replay of PyTorch's databases found."""
    found = dict(DIFFERS)
    for name, what in json.loads(Path(__file__).with_name("parity.json").read_text("utf-8")).items():
        found.setdefault(f"torch.{name}", what)
    return found


def verdicts_of(program: str | Path) -> list[Verdict]:
    """What tapegrad has of each name that a program uses."""
    known = notes()
    return [verdict(use, known) for use in uses_of(program)]
