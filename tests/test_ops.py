"""The generic tests of every op, driven by the records: values, gradients of two orders, dtypes, devices, aliasing."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from records import RECORDS
from records.base import Record, Sample
from tapegrad.autograd.op import OPS, Raw, raw_namespace
from tapegrad.autograd.tensor import Tensor, wrap
from tapegrad.backends import fast, registry
from tapegrad.backends.numpy import NumpyBackend
from tapegrad.backends.numpy.kernels import KERNELS

EACH = pytest.mark.parametrize("record", RECORDS.values(), ids=lambda r: r.op)
WITH_GRAD = pytest.mark.parametrize("record", [r for r in RECORDS.values() if r.grad], ids=lambda r: r.op)


def rng_of(record: Record) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(record.op.encode()))


def samples_of(record: Record) -> list[Sample]:
    found = record.samples(rng_of(record))
    assert found, f"the record of {record.op} has no samples"
    return found


def outputs(value: Any) -> list[Tensor]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def call(record: Record, arrays: Any, kw: dict[str, Any]) -> list[Tensor]:
    """The op's outputs for arrays or tensors."""
    tensors = [wrap(np.array(a)) if isinstance(a, (np.ndarray, np.generic)) else a for a in arrays]
    return outputs(OPS[record.op].fn(*tensors, **kw))


def differentiable_places(record: Record, sample: Sample) -> list[int]:
    op = OPS[record.op]
    ruled = set(op.joint_names) | set(op.rules)
    places = []
    for i, a in enumerate(sample.arrays):
        name = op.inputs[i] if i < len(op.inputs) else op.variadic
        if name in ruled and a is not None and np.asarray(a).dtype.kind in "fc":
            places.append(i)
    return places


def is_composite(name: str) -> bool:
    return OPS[name].composite


def test_every_op_has_a_record() -> None:
    missing = [name for name in OPS if name not in RECORDS and not is_composite(name)]
    assert not missing, f"ops without a record in tests/records: {missing}"
    unknown = [name for name in RECORDS if name not in OPS]
    assert not unknown, f"records of ops that do not exist: {unknown}"


def test_every_ruled_op_is_checked() -> None:
    ruled = [n for n in RECORDS if OPS[n].rules or OPS[n].joint]
    unchecked = [n for n in ruled if not RECORDS[n].grad and not RECORDS[n].reference_note]
    assert not unchecked, f"ops with rules whose record says grad=False without a reason in reference_note: {unchecked}"


@EACH
def test_forward(record: Record) -> None:
    """Values equal the reference, for contiguous and non-contiguous inputs, and inputs are left as they were."""
    for sample in samples_of(record):
        before = [None if a is None else np.array(a) for a in sample.arrays]
        found = call(record, sample.arrays, sample.kw)
        if record.reference is not None:
            expected = record.reference(*sample.arrays, **sample.kw)
            expected = expected if isinstance(expected, (tuple, list)) else [expected]
            assert len(found) == len(expected)
            for f, e in zip(found, expected, strict=True):
                assert f.array.shape == np.shape(e), (f.array.shape, np.shape(e), sample)
                np.testing.assert_allclose(f.array, e, rtol=record.rtol, atol=record.rtol)
        else:
            assert record.reference_note, f"{record.op}: no reference, and no word why"
        spread = [_strided(a) if isinstance(a, np.ndarray) and a.ndim else a for a in sample.arrays]
        if record.op not in ("view", "view_as_complex"):  # they need memory without gaps
            tensors = [wrap(a) if isinstance(a, (np.ndarray, np.generic)) else a for a in spread]
            for f, e in zip(outputs(OPS[record.op].fn(*tensors, **sample.kw)), found, strict=True):
                np.testing.assert_allclose(f.array, e.array, rtol=1e-9, atol=1e-9)
        for a, b in zip(sample.arrays, before, strict=True):
            if a is not None:
                np.testing.assert_array_equal(a, b)


def _strided(a: np.ndarray) -> np.ndarray:
    """The same values with gaps in memory."""
    wide = np.zeros((*a.shape[:-1], a.shape[-1] * 2), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


@EACH
def test_dtypes(record: Record) -> None:
    """Each dtype of the record runs, gives the dtype that it promises, and nearly the float64 values."""
    for name in record.dtypes:
        if name == "bfloat16":
            pytest.importorskip("ml_dtypes")
        dtype = np.dtype(name)
        for sample in samples_of(record):
            arrays = [_as_dtype(record, i, a, dtype) for i, a in enumerate(sample.arrays)]
            kw = {k: dtype if k == "dtype" and record.op not in ("cast",) else v for k, v in sample.kw.items()}
            found = call(record, arrays, kw)
            wanted = record.out_dtype(name) if callable(record.out_dtype) else record.out_dtype or name
            if record.op != "cast":
                assert found[0].array.dtype == np.dtype(wanted), (record.op, name, found[0].array.dtype)


def _as_dtype(record: Record, i: int, a: Any, dtype: Any) -> Any:
    op = OPS[record.op]
    name = op.inputs[i] if i < len(op.inputs) else op.variadic
    if a is None or name in op.index or np.asarray(a).dtype.kind not in "fc":
        return a
    return np.asarray(a).astype(dtype)


@EACH
def test_memory(record: Record) -> None:
    """Only view ops share memory with their input."""
    op = OPS[record.op]
    for sample in samples_of(record):
        tensors = [wrap(np.array(a)) if isinstance(a, (np.ndarray, np.generic)) else a for a in sample.arrays]
        for out in outputs(op.fn(*tensors, **sample.kw)):
            for t in tensors:
                if t is None or not isinstance(t, Tensor) or not out.array.size:
                    continue
                shared = np.shares_memory(out.array, t.array)
                if shared and not op.view and record.op not in ("alias", "cut", "reshape", "conj"):
                    raise AssertionError(f"{record.op} is no view op, but its output shares memory with an input")
            if op.view and tensors[0].array.size:
                assert np.shares_memory(out.array, tensors[0].array)
                assert out._base is tensors[0]


def loss_and_inputs(record: Record, sample: Sample, v_rng: np.random.Generator) -> Any:
    """(function of raw inputs -> scalar tensor, the differentiable places)."""
    places = differentiable_places(record, sample)
    assert places, f"{record.op}: the sample has no differentiable input"
    cotangents: list[Any] = []

    def loss(tensors: list[Any]) -> Tensor:
        args = [wrap(np.array(a)) if isinstance(a, (np.ndarray, np.generic)) else a for a in sample.arrays]
        for place, t in zip(places, tensors, strict=True):
            args[place] = t
        outs = [o for o in outputs(OPS[record.op].fn(*args, **sample.kw)) if o.array.dtype.kind in "fc"]
        if not cotangents:
            cotangents.extend(_like(o.array, v_rng) for o in outs)
        total: Any = None
        for o, v in zip(outs, cotangents, strict=True):
            term = o * wrap(v)
            term = torch.real(term) if term.array.dtype.kind == "c" else term
            total = term.sum() if total is None else total + term.sum()
        return total

    return loss, places


def _like(a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    v = rng.uniform(0.5, 1.5, a.shape) * rng.choice([-1, 1], a.shape)
    if a.dtype.kind == "c":
        v = v + 1j * rng.uniform(0.5, 1.5, a.shape)
    return np.asarray(v, a.dtype)


def directional(f: Any, arrays: list[np.ndarray], directions: list[np.ndarray], eps: float) -> float:
    plus = f([wrap(np.asarray(a + eps * u)) for a, u in zip(arrays, directions, strict=True)])
    minus = f([wrap(np.asarray(a - eps * u)) for a, u in zip(arrays, directions, strict=True)])
    return (plus.item() - minus.item()) / (2 * eps)


def inner(grads: Any, directions: list[np.ndarray]) -> float:
    return float(
        sum(np.sum(np.real(np.conj(g.array) * u)) for g, u in zip(grads, directions, strict=True) if g is not None)
    )


def check(record: Record, sample: Sample, order: int) -> None:
    rng = rng_of(record)
    loss, places = loss_and_inputs(record, sample, rng)
    arrays = [np.array(sample.arrays[p]) for p in places]
    directions = [_like(a, rng) for a in arrays]
    eps = 1.0 if record.linear and len(places) == 1 and order == 1 else 1e-6

    def gradients(tensors: list[Tensor], create_graph: bool) -> Any:
        leaves = [t.detach().requires_grad_() for t in tensors]
        return leaves, torch.autograd.grad(loss(leaves), leaves, create_graph=create_graph, allow_unused=True)

    start = [wrap(a) for a in arrays]
    if order == 1:
        _, raw = gradients(start, False)
        _, recorded = gradients(start, True)
        for r, c in zip(raw, recorded, strict=True):
            np.testing.assert_allclose(r.array, c.array, rtol=1e-10, atol=1e-12)
            assert r.array.dtype == c.array.dtype
        numeric = directional(loss, arrays, directions, eps)
        analytic = inner(raw, directions)
    else:
        second = [_like(a, rng) for a in arrays]

        def slope(tensors: list[Tensor]) -> Tensor:
            leaves, grads = gradients(tensors, True)
            total: Any = None
            for g, u in zip(grads, second, strict=True):
                if g is not None:
                    term = g * wrap(np.conj(u))
                    term = torch.real(term) if term.array.dtype.kind == "c" else term
                    total = term.sum() if total is None else total + term.sum()
            slope.leaves = leaves  # type: ignore[attr-defined]
            return total

        value = slope(start)
        if not value.requires_grad:
            analytic, numeric = 0.0, directional(slope, arrays, directions, eps)
        else:
            leaves = slope.leaves  # type: ignore[attr-defined]
            analytic = inner(torch.autograd.grad(value, leaves, allow_unused=True), directions)
            numeric = directional(slope, arrays, directions, eps)
    scale = max(abs(numeric), abs(analytic), 1.0)
    assert abs(numeric - analytic) <= max(record.grad_rtol, 1e-6) * scale, (record.op, sample, numeric, analytic)


@WITH_GRAD
def test_gradient(record: Record) -> None:
    """Gradients along a random direction equal finite differences; raw and recorded backward agree."""
    for sample in samples_of(record):
        check(record, sample, 1)


@pytest.mark.parametrize("record", [r for r in RECORDS.values() if r.grad and r.second], ids=lambda r: r.op)
def test_second_gradient(record: Record) -> None:
    """The derivative of the gradient along a random direction equals finite differences of the gradient."""
    for sample in samples_of(record):
        check(record, sample, 2)


@pytest.mark.parametrize("record", [r for r in RECORDS.values() if r.complex], ids=lambda r: r.op)
def test_complex_gradient(record: Record) -> None:
    """Gradients with complex128 inputs."""
    rng = rng_of(record)
    for sample in samples_of(record):
        places = differentiable_places(record, sample)
        arrays = list(sample.arrays)
        for p in places:
            arrays[p] = np.asarray(arrays[p]) + 1j * rng.uniform(0.2, 0.8, np.shape(arrays[p]))
        check(record, Sample(tuple(arrays), sample.kw), 1)


BROADCASTING = [r for r in RECORDS.values() if OPS[r.op].broadcasts and not r.core_dims]


@pytest.mark.parametrize("record", BROADCASTING, ids=lambda r: r.op)
def test_broadcasting(record: Record) -> None:
    """Shapes that broadcast, 0-d and size 0 give gradients of the inputs' own shapes."""
    op = OPS[record.op]
    base = samples_of(record)[0]
    values = [np.asarray(a).reshape(-1)[:1] for a in base.arrays]
    for shapes in (((2, 3), (3,)), ((3,), (2, 1)), ((), (2,)), ((2,), ()), ((0, 3), (3,)), ((1, 1), (2, 2))):
        tensors = []
        for i, v in enumerate(values):
            t = wrap(np.broadcast_to(v.reshape(()), shapes[min(i, 1)]).copy())
            if v.dtype.kind == "f":
                t.requires_grad_(record.grad and bool(op.rules or op.joint))
            tensors.append(t)
        out = outputs(op.fn(*tensors, **base.kw))[0]
        assert out.shape == np.broadcast_shapes(*(t.array.shape for t in tensors))
        if out.requires_grad:
            (torch.real(out) if out.is_complex() else out).sum().backward()
            for i, t in enumerate(tensors):
                if t.requires_grad and (op.inputs[i] in op.rules or op.inputs[i] in op.joint_names):
                    assert t.grad.shape == t.shape


@EACH
def test_fake_device(record: Record) -> None:
    """The op runs on another device, stays there, and gives the same values."""
    backend = registry.load("fake")
    for sample in samples_of(record)[:2]:
        if record.op == "transfer":
            continue
        tensors = [
            wrap(backend.asarray(np.array(a))) if isinstance(a, (np.ndarray, np.generic)) else a for a in sample.arrays
        ]
        found = outputs(OPS[record.op].fn(*tensors, **sample.kw))
        for f, e in zip(found, call(record, sample.arrays, sample.kw), strict=True):
            assert f.device.type == "fake", (record.op, type(f.array))
            np.testing.assert_allclose(backend.to_numpy(f.array), e.array, rtol=1e-9, atol=1e-9)


class Kernels(NumpyBackend):
    """The NumPy backend with one table of kernels and no other."""

    def __init__(self, table: Mapping[str, Any]):
        self.table = table

    @property
    def kernels(self) -> Any:  # type: ignore[override]
        return self.table


PLAIN = Raw(Kernels({}))
LAYERS = [("numpy", KERNELS), *[(file, table) for file, _, table in fast.tables()]]
LAYERED = [
    pytest.param(record, table, id=f"{record.op}-{layer}")
    for layer, table in LAYERS
    for record in RECORDS.values()
    if record.op in table
]


@pytest.mark.parametrize(("record", "table"), LAYERED)
def test_fused_equals_generic(record: Record, table: Mapping[str, Any]) -> None:
    """Each kernel of NumPy's and of the extra's gives what the generic forward gives, and is what runs."""
    op = OPS[record.op]
    generic, linked = getattr(PLAIN, record.op), getattr(Raw(Kernels(table)), record.op)
    assert getattr(linked, "kernel", linked) is table[record.op]
    for sample in samples_of(record):
        for dtype, tolerance in ((np.float64, 1e-10), (np.float32, 2e-5)):
            arrays = [_as_dtype(record, i, a, np.dtype(dtype)) for i, a in enumerate(sample.arrays)]
            a, b = linked(*arrays, **sample.kw), generic(*arrays, **sample.kw)
            a, b = (a if isinstance(a, tuple) else (a,)), (b if isinstance(b, tuple) else (b,))
            for x, y in zip(a[: max(1, len(op.outputs))], b, strict=False):
                np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)
                assert np.asarray(x).dtype == np.asarray(y).dtype


@EACH
def test_errors(record: Record) -> None:
    """Each wrong call of the record raises its exception with its text."""
    for failure in record.errors:
        with pytest.raises(failure.error, match=failure.match):
            call(record, failure.sample.arrays, failure.sample.kw)


def test_kernel_names_are_ops() -> None:
    """A backend's kernels are named after ops (or optimizer steps)."""
    unknown = [n for n in registry.load("numpy").kernels if n not in OPS and not n.endswith("_step")]
    assert not unknown
    assert raw_namespace(np.ndarray) is raw_namespace(np.ndarray)


BLOCKED = [
    ("gelu", {"approximate": "none"}, 1), ("gelu", {"approximate": "tanh"}, 1),
    ("gelu_backward", {"approximate": "none"}, 2), ("gelu_backward", {"approximate": "tanh"}, 2),
    ("silu", {}, 1), ("silu_backward", {}, 2), ("relu", {}, 1),
    ("relu_backward", {}, 2), ("hardtanh", {"min_val": -1.0, "max_val": 2.0}, 1), ("tanh_backward", {}, 2),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "kw", "count"), BLOCKED, ids=[f"{n}-{'-'.join(map(str, k.values()))}" for n, k, _ in BLOCKED]
)
def test_blocked_kernels_equal_generic(name: str, kw: dict[str, Any], count: int, dtype: Any) -> None:
    """Kernels that work in blocks, on arrays of several blocks (the records' samples are smaller than one)."""
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.uniform(-6, 6, (301, 257)), dtype) for _ in range(count)]
    if name in ("tanh_backward", "relu_backward"):
        arrays[1] = np.tanh(arrays[1]) if name == "tanh_backward" else np.maximum(arrays[1], 0)
    expected = getattr(PLAIN, name)(*arrays, **kw)
    found = getattr(Raw(Kernels(KERNELS)), name)(*arrays, **kw)
    assert name in KERNELS
    tolerance = 5e-6 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * 6)
