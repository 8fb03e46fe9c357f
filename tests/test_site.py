"""The site: built strictly, every page in its menu, every link and picture leads somewhere, nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from library import ROOT

pytest.importorskip("mkdocs", reason="the site needs the extra docs")
pytest.importorskip("material", reason="the site needs the extra docs")


class Links(HTMLParser):
    """What a page refers to, and its anchors."""

    def __init__(self, path: Path):
        super().__init__()
        self.targets: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            if name in ("href", "src") and value:
                (self.targets if tag == "a" else self.fetched).append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warning (a dead link, a page that no menu has) fails the strict build."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert {p for p in pages if not (site / p).exists()} == set()


def test_links_and_pictures_lead_somewhere_on_the_site(site: Path) -> None:
    found = {path: Links(path) for path in site.rglob("*.html") if path.name != "404.html"}
    wrong = []
    for path, links in found.items():
        for target in links.targets + links.fetched:
            file, _, anchor = target.partition("#")
            if re.match(r"\w+:", file):
                continue
            goal = (path.parent / file).resolve() if file else path
            goal = goal / "index.html" if goal.is_dir() else goal
            if not goal.exists() or (anchor and goal in found and anchor not in found[goal].anchors):
                wrong.append((path.name, target))
    assert not wrong


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """A reader behind a wall sees all of it."""
    fetched = {target for path in site.rglob("*.html") for target in Links(path).fetched}
    assert not [target for target in fetched if re.match(r"(https?:)?//", target)]


def test_charts_of_the_benchmarks(site: Path) -> None:
    charts = [target for target in Links(site / "benchmarks.html").fetched if target.startswith("results/")]
    assert len(charts) == 3 and all((site / chart).stat().st_size > 5000 for chart in charts)
