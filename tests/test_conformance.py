"""Every op's record, every entry of PyTorch's databases and every program, on another backend than NumPy's.

`pytest --backend NAME` runs this file alone, on that backend, and shows a table of what is missing; what the backend's
library lacks is skipped with the reason. Without the option the backend is `fake`, which lacks nothing, and what takes
long is cut: one sample of each entry, forward and gradient, and few steps.
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import conformance
import pytest
from conformance import FAILED, MISSING, PASSED
from test_programs import NAMES, import_tapegrad, load

TORCH = importlib.util.find_spec("torch") is not None
KINDS = ("ops", "modules", "optimizers", "schedulers")


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--backend") or "fake"


def conclude(request: pytest.FixtureRequest, kind: str, pieces: list[str]) -> None:
    """Fails the test of these pieces where a part fails, skips it where one is missing and --backend is given."""
    found = {piece: conformance.results.get(kind, {}).get(piece, {}) for piece in pieces}
    request.node.user_properties.append(("conformance", (kind, found)))  # for the table, out of a worker process too
    wrong: dict[str, list[str]] = {FAILED: [], MISSING: [], PASSED: []}
    for piece in pieces:
        for part, (state, reason) in found[piece].items():
            wrong[state].append(f"{piece}, {part}: {reason}")
    if not request.config.getoption("--backend"):
        wrong[FAILED] += wrong.pop(MISSING)
    if wrong[FAILED]:
        pytest.fail("\n".join(wrong[FAILED]), pytrace=False)
    if wrong.get(MISSING):
        pytest.skip("; ".join(wrong[MISSING])[:300])
    assert wrong[PASSED], f"nothing was run of {pieces}"


@pytest.mark.parametrize("record", conformance.all_records(), ids=lambda r: r.op)
def test_record(record: Any, backend: str, request: pytest.FixtureRequest) -> None:
    """Values, gradients of two orders, dtypes, views and errors as on NumPy's backend."""
    conformance.run_record(record, backend, None if request.config.getoption("--backend") else 2)
    conclude(request, "records", [record.op])


def program(name: str, steps: int) -> list[float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # test_programs.py says which of them torch gives too
        return load(name, import_tapegrad)["main"](steps)


@pytest.mark.parametrize("name", NAMES)
def test_program(name: str, backend: str, request: pytest.FixtureRequest) -> None:
    """A program gives the numbers that it gives on NumPy's backend."""
    conformance.run_program(name, backend, 4 if request.config.getoption("--backend") else 2, program)
    conclude(request, "programs", [name])


def parity_entries(kind: str) -> list[str]:
    from parity import table

    return list(table.load()[kind])


GROUPS = 32


@pytest.mark.skipif(not TORCH, reason="PyTorch's databases are in torch")
@pytest.mark.parametrize("group", range(GROUPS))
@pytest.mark.parametrize("kind", KINDS)
def test_parity(kind: str, group: int, backend: str, request: pytest.FixtureRequest) -> None:
    """What PyTorch's databases find right on NumPy's backend; a thirty-second of their entries each time."""
    chosen = parity_entries(kind)[group::GROUPS]
    asked = bool(request.config.getoption("--backend"))
    if not chosen:
        pytest.skip("fewer entries than groups")
    limit = None if request.config.getoption("--parity") else 1
    for entry in chosen:
        conformance.run_parity(kind, entry, backend, limit, () if asked else ("forward", "grad"))
    kind = f"parity {kind}"
    if any(conformance.results[kind][entry] for entry in chosen):
        conclude(request, kind, chosen)
