"""Runs the examples in the docstrings of the library, one test per module.

Docstrings are read from the source, so that an example counts wherever it stands: under a decorator, in a method, in a
module that re-exports it. `torch`, `nn`, `F`, `optim`, `np` are defined, as in a user's program.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import numpy as np
import pytest
import tapegrad
from library import library_files, module_name
from run_examples import failures

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def examples(path: Path) -> list[tuple[str, str, int]]:
    """(name, docstring, line of the docstring) for each docstring of the file with an example in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, DOCUMENTED):
            text = ast.get_docstring(node, clean=False)
            if text and ">>>" in text:
                found.append((getattr(node, "name", "module"), text, node.body[0].lineno))
    return found


def user_names() -> dict[str, object]:
    nn = tapegrad.nn
    return {"tapegrad": tapegrad, "torch": tapegrad, "nn": nn, "F": nn.functional, "optim": tapegrad.optim, "np": np}


WITH_EXAMPLES = {module_name(path): path for path in library_files() if examples(path)}


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_docstring_examples(module, tmp_path, monkeypatch):
    path = WITH_EXAMPLES[module]
    namespace = vars(importlib.import_module(module)) | user_names()
    monkeypatch.chdir(tmp_path)
    reports = [failures(text, name, namespace.copy(), str(path), line) for name, text, line in examples(path)]
    if any(reports):
        pytest.fail("\n".join(filter(None, reports)), pytrace=False)


def test_a_wrong_example_is_seen():
    assert "Expected" in failures(">>> 1 + 1\n3\n", "wrong", {}, "here.py", 1)
    assert not failures(">>> list(range(30))\n[0, 1,    2, ..., 29]\n", "right", {}, "here.py", 1)


def test_there_are_examples():
    assert len(WITH_EXAMPLES) >= 5
