"""PyTorch's databases, replayed on tapegrad and held against the committed score, tests/parity/table.json.

`make test` replays two samples of every check that the table says passes, and every entry that it says fails, since one
that passes must be put down. `pytest --parity` (`make parity` before it writes the page) replays everything.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("torch")

from parity import report, table  # noqa: E402

SCORE = table.load()
FEW = 2


def names(kind: str, passing: bool) -> list[str]:
    return [name for name, record in SCORE.get(kind, {}).items() if table.passes(record) is passing]


def lines(kind: str, found: dict[str, Any]) -> str:
    return "\n".join(table.against(kind, found))


def replayed(kind: str, name: str, limit: int | None) -> dict[str, Any]:
    """The entry's record, made in a thread: torch's samples look at the whole stack, and pytest's is deep."""
    with ThreadPoolExecutor(1) as thread:
        return {name: thread.submit(table.replay, kind, name, limit).result()[1]}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_table_is_of_this_torch() -> None:
    """The score is of the version that runs here; another one has other entries."""
    import torch

    if torch.__version__.partition("+")[0] != SCORE["torch"]:
        pytest.skip(f"the score is for torch {SCORE['torch']}")
    for kind in table.KINDS:
        assert list(SCORE[kind]) == sorted(table.entries(kind)), f"{kind}: run `make parity` and commit what it writes"


@pytest.mark.parametrize("group", range(16))
def test_what_passes_still_passes(group: int) -> None:
    """Two samples of every check of the operators; a sixteenth of them each time."""
    wrong = []
    for name in list(SCORE["ops"])[group::16]:
        found = replayed("ops", name, FEW)
        found[name]["checks"] = {check: text for check, text in found[name]["checks"].items() if text}
        wrong += table.against("ops", found)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", table.KINDS[1:])
def test_modules_and_optimizers(kind: str, request: pytest.FixtureRequest) -> None:
    """An eighth of the modules, optimizers and schedulers (all of them with --parity)."""
    chosen = table.entries(kind)
    if not request.config.getoption("--parity"):
        chosen = chosen[::8]
    assert not (wrong := [line for name in chosen for line in table.against(kind, replayed(kind, name, None))]), wrong


@pytest.mark.parametrize("name", names("ops", passing=False))
def test_the_table_says_no_less_than_is_true(name: str) -> None:
    """A check that the table calls failing fails."""
    text = lines("ops", replayed("ops", name, None))
    assert not text, f"{text}\nrun `make parity` and commit what it writes"


def test_whole_replay(request: pytest.FixtureRequest) -> None:
    """Every sample of every check, as in the table."""
    if not request.config.getoption("--parity"):
        pytest.skip("takes minutes: pytest --parity")
    for kind in table.KINDS:
        found = {name: record for name, record, _ in table.replay_all(kind, table.entries(kind), None, 2)}
        assert not (text := lines(kind, found)), text


def test_the_page_is_of_this_table() -> None:
    """docs/parity.md says what the table says."""
    written = (report.DOCS / "parity.md").read_text("utf-8")
    assert written == report.page(SCORE), "run `python -m parity --page` in tests/ and commit what it writes"
