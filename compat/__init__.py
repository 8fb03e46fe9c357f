"""`import torch` means tapegrad, in this process, once `install()` was called; never by itself.

    import tapegrad.compat
    tapegrad.compat.install()
    import torch.nn.functional as F      # tapegrad.nn.functional: the same module, not a second copy

or, for a program that is to run unchanged: `python -m tapegrad.compat PROGRAM.py [arguments]`.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any

from .tables import ELSEWHERE, WITHIN

__all__ = ["install", "installed", "module_for", "uninstall"]

_ROOT = __name__.rpartition(".")[0]


def module_for(name: str) -> ModuleType:
    """The module that a name such as "torch.nn.functional" means. ModuleNotFoundError where there is none."""
    inner = name.partition(".")[2]
    package, _, last = inner.rpartition(".")
    path = ELSEWHERE.get(inner, package if last in WITHIN.get(package, ()) else inner)
    full = f"{_ROOT}.{path}" if path else _ROOT
    try:
        found = importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name is None or not full.startswith(error.name):
            raise  # the module is there; what it needs is not
    else:
        if found.__file__ is not None:  # else a folder of the checkout: tests, docs
            return found
    raise ModuleNotFoundError(f"No module named '{name}': tapegrad has no {inner}", name=name)


class _Loader(importlib.abc.Loader):
    """Gives the module that exists already, and leaves it as it is."""

    def __init__(self, module: ModuleType):
        self.module = module
        self.kept = {word: getattr(module, word, None) for word in ("__spec__", "__loader__", "__package__")}

    def create_module(self, spec: Any) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        for word, value in self.kept.items():
            setattr(module, word, value)


class _Finder(importlib.abc.MetaPathFinder):
    """Answers for `torch` and everything below it."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname.partition(".")[0] != "torch":
            return None
        module = module_for(fullname)
        spec = importlib.machinery.ModuleSpec(fullname, _Loader(module), is_package=hasattr(module, "__path__"))
        if hasattr(module, "__path__"):
            spec.submodule_search_locations = list(module.__path__)
        return spec


_finder = _Finder()


def installed() -> bool:
    """Whether `import torch` means tapegrad now."""
    return _finder in sys.meta_path


def install() -> None:
    """From now on `import torch`, and any `import torch.x.y`, gives tapegrad's modules in this process.

    RuntimeError where the real torch is imported already: objects of two libraries would meet.
    """
    present = sys.modules.get("torch")
    if present is not None and present is not sys.modules[_ROOT]:
        where = getattr(present, "__file__", None) or "an unknown place"
        raise RuntimeError(
            f"tapegrad.compat.install(): torch is imported already, from {where}. Call install() before anything "
            "imports torch"
        )
    if not installed():
        sys.meta_path.insert(0, _finder)
        sys.modules["torch"] = sys.modules[_ROOT]


def uninstall() -> None:
    """Takes `install` back: `import torch` looks for the real torch again. Names imported before stay as they are."""
    if installed():
        sys.meta_path.remove(_finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
            del sys.modules[name]
