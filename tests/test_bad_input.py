"""Wrong calls raise PyTorch's exceptions, say what was wrong with which call, and change nothing.

The table is in bad_input_cases.py. A message is the exception's text with its notes, since that is what Python prints.
"""

from __future__ import annotations

import copy
import importlib
import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest
import tapegrad
from bad_input_cases import CASES, Case
from tapegrad.autograd.anomaly import is_anomaly_enabled

NAMED = [
    (f"{area}-{i:02}-{case.call.splitlines()[-1][:60]}", case) for area in CASES for i, case in enumerate(CASES[area])
]


def names_of(T: Any) -> dict[str, Any]:
    """What the programs of the table may name: the library as `T`, its parts, and a few tensors and datasets."""
    data = importlib.import_module(T.__name__ + ".utils.data")

    class Stream(data.IterableDataset):
        def __iter__(self) -> Any:
            return iter([1, 2])

    class Broken(data.Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            raise ValueError("boom")

    return {
        "T": T, "nn": T.nn, "F": T.nn.functional, "np": np, "copy": copy, "DL": data.DataLoader, "It": Stream,
        "Bad": Broken, "ds": data.TensorDataset(T.arange(8.0)), "D": other_device(T), "img": T.ones(1, 3, 8, 8),
        "x": T.ones(2, 3), "w": T.ones(2, 3, requires_grad=True), "v": T.arange(4.0), "q": T.ones(3, 3),
        "d": T.ones(2, 3, dtype=T.float64), "i": T.tensor([0, 1, 2]), "b": T.tensor([True, False]),
    }  # fmt: skip


def other_device(T: Any) -> str:
    """A device that new tensors do not go to."""
    return "fake" if str(T.get_default_device()) == "cpu" else "cpu"


def raised(T: Any, case: Case) -> tuple[Exception | None, dict[str, Any], dict[str, Any]]:
    """(the exception, the state of all that the program names before the call, and after it)."""
    names = names_of(T)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        with T.autograd.set_detect_anomaly(case.anomaly):
            exec(case.given, names)  # noqa: S102
            before = state_of(T, names)
            try:
                exec(case.call, names)  # noqa: S102
            except Exception as error:
                return error, before, state_of(T, names)
    return None, before, before


def state_of(T: Any, names: dict[str, Any]) -> dict[str, Any]:
    """Values, versions and gradients of the tensors, the state of modules, optimizers, generators and modes."""
    state: dict[str, Any] = {"grad mode": T.is_grad_enabled(), "default dtype": T.get_default_dtype()}
    state |= {"default device": str(T.get_default_device()), "random numbers": bytes(T.get_rng_state().tolist())}
    for name, value in names.items():
        if isinstance(value, T.Tensor):
            state[name] = _tensor(value)
        elif isinstance(value, T.nn.Module):
            state[name] = [_plain(T, value.state_dict()), repr(value), value.training]
            state[name] += [(n, _tensor(p)) for n, p in value.named_parameters()]
        elif isinstance(value, T.optim.Optimizer):
            state[name] = _plain(T, value.state_dict())
    return state


def _tensor(t: Any) -> tuple[Any, ...]:
    grad = t.grad if t.is_leaf else None
    values = t.detach().tolist(), t.shape, t.dtype, t.requires_grad, t.is_leaf, str(t.grad_fn)
    return (*values, -1 if t.is_inference() else t._version, None if grad is None else _tensor(grad))


def _plain(T: Any, value: Any) -> Any:
    if isinstance(value, T.Tensor):
        return _tensor(value)
    if isinstance(value, dict):
        return {key: _plain(T, item) for key, item in value.items()}
    return [_plain(T, item) for item in value] if isinstance(value, (list, tuple)) else repr(value)


def kinds_of(error: Exception) -> list[str]:
    """The names of the exception's types, without the underscore that PyTorch gives to some."""
    return [kind.__name__.lstrip("_") for kind in type(error).__mro__]


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in NAMED])
def test_wrong_call(case: Case) -> None:
    error, state, after = raised(tapegrad, case)
    assert error is not None, "nothing was raised"
    assert case.error in kinds_of(error), f"{type(error).__name__}: {error}"
    message = "\n".join([str(error), *getattr(error, "__notes__", [])])
    missing = [word for word in case.words.split() if word.lower() not in message.lower()]
    assert not missing, f"{missing} not in: {message}"
    if case.changes:
        return
    if "nn." in case.call or "DL(" in case.call:  # layers and loaders draw before they fail, as in torch
        after["random numbers"] = state["random numbers"]
    for name, value in state.items():
        assert repr(after[name]) == repr(value), f"'{name}' was changed"


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in NAMED if not case.alone])
def test_the_type_is_pytorchs(case: Case) -> None:
    torch = pytest.importorskip("torch")
    rng = torch.get_rng_state()
    try:
        error, before, after = raised(torch, case)
    finally:
        torch.set_rng_state(rng)
    assert error is not None, "torch raises nothing"
    assert kinds_of(error)[0] == case.error, f"torch raises {type(error).__name__}: {error}"
    if case.changes:
        assert repr(before) != repr(after), "torch changes nothing"


def test_there_are_enough_wrong_calls(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter({area: len({(case.given, case.call) for case in cases}) for area, cases in CASES.items()})
    with capsys.disabled():
        print("\nwrong calls: " + ", ".join(f"{area} {n}" for area, n in counts.items()) + f"; {counts.total()} in all")
    assert counts.total() == len(NAMED), "a call is in the table twice"
    assert counts.total() >= 180
    assert all(case.words for _, case in NAMED)
    assert not is_anomaly_enabled()
