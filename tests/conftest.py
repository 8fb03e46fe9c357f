"""The command line option --backend, and guards that fail a test which leaves the library in another state."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tapegrad as torch
from tapegrad.autograd.anomaly import is_anomaly_enabled

KIT = Path(__file__).with_name("test_conformance.py")
_found: dict[str, dict[str, Any]] = {}  # kind -> piece -> part -> (state, reason), of the conformance kit


class State(NamedTuple):
    """A piece of state that outlives a test: how to read it, and how to put back what was read."""

    read: Callable[[], Any]
    restore: Callable[[Any], Any]


GUARDED = {
    "grad mode": State(torch.is_grad_enabled, torch.set_grad_enabled),
    "default dtype": State(torch.get_default_dtype, torch.set_default_dtype),
    # None gives the choice back to the environment, where it was before the test
    "default device": State(torch.get_default_device, lambda before: torch.set_default_device(None)),
    "anomaly mode": State(is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "TAPEGRAD_* variables": State(
        lambda: {name: value for name, value in os.environ.items() if name.startswith("TAPEGRAD_")},
        lambda before: os.environ.update(before),
    ),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parity", action="store_true", help="replay all of PyTorch's databases (15 minutes)")
    parser.addoption(
        "--backend",
        metavar="NAME",
        help="run the conformance kit on this backend (numpy, cupy, fake, array_api:LIBRARY, a plug-in's name); "
        "where test files are named, run those with TAPEGRAD_BACKEND set to it",
    )


def pytest_configure(config: pytest.Config) -> None:
    # libraries behind the backend array_api, which are made on NumPy and warn in their own frames
    config.addinivalue_line("filterwarnings", "ignore::RuntimeWarning:array_api_(strict|compat)")
    name = config.getoption("--backend")
    if name:
        os.environ["TAPEGRAD_BACKEND"] = name
        try:
            torch.empty(())
        except RuntimeError as error:  # an unknown or unusable backend: its own text says which there are
            raise pytest.UsageError(str(error)) from None
        if config.args_source is not config.ArgsSource.ARGS:  # no files are named
            config.args[:] = [str(KIT)]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collects what the conformance kit found, in whatever process."""
    for name, value in report.user_properties if report.when == "call" else ():
        if name == "conformance":
            _found.setdefault(value[0], {}).update(value[1])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What the conformance kit found on the backend of --backend."""
    if _found and config.getoption("--backend"):
        from conformance import table

        terminalreporter.section("conformance")
        terminalreporter.write("\n".join(table(config.getoption("--backend"), _found)) + "\n")


def pytest_report_header() -> str:
    generic = ", without fused kernels" if os.environ.get("TAPEGRAD_GENERIC") == "1" else ""
    return f"tapegrad {torch.__version__} on {torch.get_default_device()}{generic}"


@pytest.fixture(autouse=True)
def no_state_leaks() -> Iterator[None]:
    """Fails a test that ends with another grad mode, default dtype, ... than it began with, and puts it right."""
    before = {name: state.read() for name, state in GUARDED.items()}
    yield
    leaks = []
    for name, state in GUARDED.items():
        if (after := state.read()) != before[name]:
            leaks.append(f"{name} was {before[name]} before the test and is {after} after it")
            state.restore(before[name])
    assert not leaks, "; ".join(leaks)


@pytest.fixture(autouse=True)
def same_random_numbers() -> Iterator[None]:
    """Every test begins with the same state of the default generator, whatever ran before it."""
    before = torch.get_rng_state()
    yield
    torch.set_rng_state(before)


@pytest.fixture(autouse=True, scope="session")
def seed() -> None:
    torch.manual_seed(0)
