"""The same training code on tapegrad and on torch with one seed: the loss curves agree step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tapegrad
from training_programs import PROGRAMS

STEPS = 30


def draws_as_torch() -> bool:
    """Whether torch takes its dropout masks from its own generator: not from MKL, as on Intel processors."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return "GenuineIntel" not in file.read()
    except OSError:
        return True


def values(model: Any) -> dict[str, Any]:
    return {name: np.array(p.detach().numpy()) for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", PROGRAMS)
def test_loss_curve_equals_torch(name: str) -> None:
    """Initial weights equal; every loss within 1e-4 relative; final weights within 1e-3."""
    torch = pytest.importorskip("torch")
    if not draws_as_torch():
        pytest.skip("torch draws dropout masks from MKL on Intel processors")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        theirs, their_step = PROGRAMS[name](torch)
        start = values(theirs)
        expected = [their_step(i) for i in range(STEPS)]
        end = values(theirs)
    finally:
        torch.set_num_threads(threads)
    ours, our_step = PROGRAMS[name](tapegrad)
    assert list(start) == [n for n, _ in ours.named_parameters()]
    for key, value in values(ours).items():
        np.testing.assert_array_equal(value, start[key], err_msg=key)
    found = [our_step(i) for i in range(STEPS)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    for key, value in values(ours).items():
        np.testing.assert_allclose(value, end[key], rtol=1e-3, atol=1e-3 * np.abs(end[key]).max(), err_msg=key)


@pytest.mark.parametrize("name", PROGRAMS)
def test_loss_falls(name: str) -> None:
    """Without torch too: the programs learn their data by heart, at least a little."""
    _, step = PROGRAMS[name](tapegrad)
    losses = [step(i) for i in range(STEPS)]
    assert all(np.isfinite(losses))
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
