"""The CuPy backend's kernels without a GPU: wrappers and CUDA sources run on the CPU (tests/cuda_on_cpu).

Each record of an op that has a kernel, forward or backward, runs through the tape in single and half precision, with
the threads of a block in ascending and in descending order, and is compared with the generic forms in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cuda_on_cpu as emulation
import numpy as np
import pytest
import tapegrad as torch
from records import RECORDS
from records.base import Record, Sample
from tapegrad.autograd.op import OPS, load_late, raw_namespace
from tapegrad.autograd.tensor import wrap
from tapegrad.backends import registry
from tapegrad.backends.cupy import launch
from tapegrad.backends.cupy.kernels import KERNELS

ml_dtypes = pytest.importorskip("ml_dtypes")
load_late()

pytestmark = pytest.mark.skipif(emulation.COMPILER is None, reason="no C++ compiler (g++, or CXX) is installed")

DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
# what rounding each stored number to the dtype may change, a few times over
TOLERANCE = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}
GENERIC = registry.load("fake").asarray  # NumPy without any kernel


@pytest.fixture(scope="module")
def device() -> Iterator[Any]:
    """The emulating backend, registered, and the machine under the kernels' wrappers."""
    before = dict(registry._loaded)
    machine = emulation.CpuMachine()
    launch.use(machine)
    backend = registry.register(emulation.EmulatedBackend(machine))
    yield backend
    registry._loaded.clear()
    registry._loaded.update(before)


@pytest.fixture(params=["ascending", "descending"])
def order(request: pytest.FixtureRequest, device: Any) -> Iterator[str]:
    """The order in which a block's threads run."""
    device.machine.descending = request.param == "descending"
    yield request.param
    device.machine.descending = False


ANYWHERE = {"add", "sub", "mul"}  # which rules and this test itself use too
ELSEWHERE = {"mean"}  # served for images that lie channels-last: test_cuda_layouts.py


def serving(record: Record) -> set[str]:
    """The kernels that may run when the record's op and its backward pass run."""
    names, op = {record.op}, OPS[record.op]
    if record.grad:
        for rule in [*op.rules.values(), *([op.joint] if op.joint else [])]:
            names |= set(rule.__code__.co_names)
    return names & set(KERNELS) - (ANYWHERE - {record.op}) - ELSEWHERE


SERVED = [r for r in RECORDS.values() if serving(r)]


def outputs(out: Any) -> list[Any]:
    return list(out) if isinstance(out, (tuple, list)) else [out]


def host(array: Any) -> Any:
    return np.asarray(registry.backend_of(array).to_numpy(array))


def rounded(array: Any, dtype: np.dtype) -> Any:
    array = np.asarray(array)
    return array.astype(dtype) if array.dtype.kind == "f" else array


def run(record: Record, sample: Sample, arrays: list[Any], place: Any, seed: int) -> tuple[list[Any], list[Any]]:
    """(outputs, gradients) as float64 NumPy arrays; `place` makes each array a raw array of a backend."""
    op = OPS[record.op]
    if op.composite:  # a record of its own: the kernel by itself
        raw = [a if a is None or not hasattr(a, "dtype") else place(a) for a in arrays]
        found = getattr(raw_namespace(type(next(a for a in raw if a is not None))), op.name)(*raw, **sample.kw)
        return [None if o is None else host(o) for o in outputs(found)], []
    tensors = []
    for i, a in enumerate(arrays):
        t = a if a is None else wrap(place(a))
        if t is not None and t.is_floating_point() and i < len(op.inputs):
            name = op.inputs[i]
            t.requires_grad_(record.grad and (name in op.rules or name in op.joint_names))
        tensors.append(t)
    found = outputs(op.fn(*tensors, **sample.kw))
    rng, total = np.random.default_rng(seed), None
    for out in found:
        if out.requires_grad:
            out = torch.real(out) if out.is_complex() else out
            g = np.asarray(rng.standard_normal(out.shape))
            part = (out * wrap(place(rounded(g, out.detach().array.dtype)))).sum()
            total = part if total is None else total + part
    if total is not None:
        total.backward()
    plain = [host(o.detach().array) for o in found]
    grads = [None if t is None or t.grad is None else host(t.grad.array) for t in tensors]
    return plain, grads


def agree(found: Any, expected: Any, tolerance: float, what: str) -> None:
    assert (found is None) == (expected is None), what
    if found is not None and expected.size:
        expected = expected.astype("f8")
        finite = expected[np.isfinite(expected)]
        scale = max(1.0, float(abs(finite).max())) if finite.size else 1.0
        np.testing.assert_allclose(
            found.astype("f8"), expected, rtol=tolerance, atol=tolerance * scale, err_msg=what, equal_nan=True
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("record", SERVED, ids=lambda r: r.op)
def test_a_record_through_the_sources(record: Record, dtype: str, device: Any, order: str) -> None:
    """Outputs and gradients are those of the generic forms in float64, at the rounded inputs."""
    op, kind = OPS[record.op], DTYPES[dtype]
    device.machine.launched.clear()
    for seed, sample in enumerate(record.samples(np.random.default_rng(1))):
        arrays = [a if a is None else rounded(a, kind) for a in sample.arrays]
        exact = [a if a is None or a.dtype.kind in "iub" else a.astype("f8") for a in arrays]
        expected, grads = run(record, sample, exact, GENERIC, seed)
        found, found_grads = run(record, sample, arrays, device.asarray, seed)
        for i, (f, e) in enumerate(zip(found, expected, strict=True)):
            agree(f, e, TOLERANCE[dtype], f"{record.op} output {i}, sample {seed}")
        for i, (f, e) in enumerate(zip(found_grads, grads, strict=True)):
            agree(f, e, TOLERANCE[dtype], f"{record.op} gradient {i}, sample {seed}")
        on_cpu, cpu_grads = run(record, sample, arrays, GENERIC, seed)
        for f, e in zip([*found, *found_grads], [*on_cpu, *cpu_grads], strict=True):
            # NumPy's promotion makes the generic gates of bfloat16 float32; the kernels keep the dtype
            assert f is None or f.dtype in (e.dtype, kind if "sequence" in record.op else e.dtype), (record.op, seed)
    if op.composite and dtype != "float32":
        return  # the record rounds what the forward keeps in float32, and the kernel declines
    own = [name for name, *_ in device.machine.launched if record.op in ANYWHERE or not name.startswith("binary<")]
    assert own, f"no sample of {record.op} was served by a kernel"
