"""Runs the examples of the documentation: every ```python block of the README and of docs/, one test per page.

The blocks of a page share their names, as a reader would type them. A block that begins with `>>>` is compared with the
output written under it. A block that shall not run is fenced as ```text or ```py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from library import ROOT
from run_examples import failures
from tapegrad.autograd.op import OPS

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[tuple[int, str]]:
    """(line, source) of each python block, without the indentation that a list gives it."""
    found = []
    for match in BLOCK.finditer(text):
        source = re.sub(f"^{match[1]}", "", match[2], flags=re.MULTILINE)
        found.append((text.count("\n", 0, match.start()) + 2, source))
    return found


def run_page(text: str, name: str) -> None:
    """Runs a page's blocks in one namespace; an error names the page and the line in it."""
    namespace: dict = {"__name__": "__main__"}
    for line, source in blocks(text):
        if source.lstrip().startswith(">>>"):
            report = failures(source, name, namespace, name, line)
            if report:
                pytest.fail(report, pytrace=False)
        else:
            exec(compile("\n" * (line - 1) + source, name, "exec"), namespace)


WITH_BLOCKS = [path for path in PAGES if path.exists() and blocks(path.read_text("utf-8"))]


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_examples_of_the_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    known = set(OPS)
    try:
        run_page(page.read_text("utf-8"), str(page))
    finally:  # ops that a page defines are not the library's, which later tests go through; families loaded late are
        for name in set(OPS) - known:
            if getattr(OPS[name].generic, "__module__", "") == "__main__":
                del OPS[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    """Relative links of a page name files of the repository."""
    targets = re.findall(r"\]\((?!https?://|mailto:|#)([^)#\s]+)", page.read_text("utf-8"))
    missing = [target for target in targets if not Path(page.parent, target).exists()]
    assert not missing, f"{page.name} links to {missing}"


def test_the_readme_has_an_example():
    assert ROOT / "README.md" in WITH_BLOCKS


def test_a_wrong_example_is_seen():
    page = "Text\n\n```python\nx = 1\n```\n\n- item\n\n  ```python\n  >>> x + 1\n  2\n  ```\n"
    assert blocks(page) == [(4, "x = 1\n"), (10, ">>> x + 1\n2\n")]
    run_page(page, "page")
    with pytest.raises(pytest.fail.Exception, match="Expected"):
        run_page(page.replace("  2\n", "  3\n"), "page")
    with pytest.raises(ZeroDivisionError):
        run_page("```python\n1 / 0\n```\n", "page")
