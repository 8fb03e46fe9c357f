"""Whole programs on the device whose kernels are the CUDA sources, executed on the CPU: losses as without kernels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import cuda_on_cpu as emulation
import numpy as np
import pytest
import tapegrad as torch
from tapegrad.autograd.op import OPS
from tapegrad.backends import registry
from tapegrad.backends.cupy import launch
from tapegrad.backends.fake import FakeBackend
from test_programs import import_tapegrad, load

pytestmark = pytest.mark.skipif(emulation.COMPILER is None, reason="no C++ compiler (g++, or CXX) is installed")

# program -> kernels that it is to use
PROGRAMS = {
    "densenet": {"channel_sums", "channel_mix", "avg_pool", "avg_pool_input", "formula_step"},
    "gpt": {"embedding_rows", "sum_runs", "cross_entropy_rows", "norm_rows", "norm_columns", "gemm"},
    "llama": {"softmax_rows", "softmax_rows_backward", "sum_runs", "join_runs"},
    "mamba": {"forward", "backward", "norm_rows"},
    "resnet": {"channel_affine", "max_pool_backward", "formula_step"},
    "seq2seq": {"gru_cell", "gru_cell_backward", "embedding_rows", "cross_entropy_rows_backward"},
    "unet": {"max_pool_backward", "channel_sums"},
    "word_language_model": {"lstm_cell", "lstm_cell_backward", "embedding_rows"},
}


@pytest.fixture
def machine() -> Iterator[emulation.CpuMachine]:
    before = dict(registry._loaded)
    made = emulation.CpuMachine()
    launch.use(made)
    registry.register(emulation.EmulatedBackend(made))
    yield made
    registry._loaded.clear()
    registry._loaded.update(before)


def losses(name: str, device: str) -> Any:
    """Two steps of a program. The fake device draws dropout's masks as a GPU does."""
    torch.set_default_device(device)
    dropout = OPS["dropout"].generic
    try:
        with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(FakeBackend, "kernels", {"dropout": lambda x, **kw: dropout(np, x, **kw)})
            warnings.simplefilter("ignore")
            return load(name, import_tapegrad)["main"](2)
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program(name: str, machine: emulation.CpuMachine) -> None:
    expected = losses(name, "fake")
    found = losses(name, "cuda_on_cpu")
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    used = {expression.split("<")[0] for expression, _, _ in machine.launched}
    assert not PROGRAMS[name] - used, f"not used: {PROGRAMS[name] - used}; used: {sorted(used)}"
