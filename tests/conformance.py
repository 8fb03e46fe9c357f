"""The conformance kit: what a backend can do, held against the NumPy backend, piece by piece.

A piece is an op's record, an entry of PyTorch's databases, or a program. Each has parts (forward, gradient, ...), and
each part passes, fails, or is missing: the library behind the backend lacks something and said so with
NotImplementedError (`tapegrad.backends.base.Unsupported`). test_conformance.py runs the pieces; `table` shows them.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tapegrad as torch
from records import RECORDS
from records.base import Record, Sample
from tapegrad.autograd.op import OPS
from tapegrad.autograd.tensor import Tensor, wrap
from tapegrad.backends import registry
from tapegrad.backends.base import Unsupported

PASSED, MISSING, FAILED = "passed", "missing", "failed"
# The outputs that an op determines; the others are so but for a factor (of eigenvectors) or an order
UNIQUE = {"svd": (1,), "eigh": (0,), "eig": (), "eigvals": ()}
# kind -> piece -> part -> (state, reason)
results: dict[str, dict[str, dict[str, tuple[str, str]]]] = {}


@contextmanager
def default_backend(name: str) -> Iterator[Any]:
    """Inside, new tensors go to the backend of that name, as TAPEGRAD_BACKEND asks; gives the backend."""
    before = os.environ.get("TAPEGRAD_BACKEND")
    os.environ["TAPEGRAD_BACKEND"] = name
    try:
        assert torch.empty(0).device.type in registry.load(name).device_types
        yield registry.load(name)
    finally:
        if before is None:
            del os.environ["TAPEGRAD_BACKEND"]
        else:
            os.environ["TAPEGRAD_BACKEND"] = before


def judged(kind: str, piece: str, part: str, check: Callable[[], None]) -> None:
    """Runs a check and notes what came of it."""
    state, reason = PASSED, ""
    try:
        check()
    except Exception as error:
        state, reason = MISSING if isinstance(error, NotImplementedError) else FAILED, in_words(error)
    results.setdefault(kind, {}).setdefault(piece, {})[part] = (state, reason)


def in_words(error: BaseException) -> str:
    """An exception in one line, with the op in which it arose."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith("in op ")]
    text = " ".join(str(error).split())[:300]
    return f"{text if isinstance(error, NotImplementedError) else f'{type(error).__name__}: {text}'}" + (
        f" ({notes[0].partition(':')[0]})" if notes else ""
    )


# ---- records ---------------------------------------------------------------------------------------------------------


def samples_of(record: Record) -> list[Sample]:
    return record.samples(np.random.default_rng(zlib.crc32(record.op.encode())))


def tensors_of(sample: Sample, place: Any, dtype: Any = None) -> list[Any]:
    """A sample's arrays as tensors on a backend, those with numbers in `dtype` where one is given."""
    made = []
    for a in sample.arrays:
        if isinstance(a, (np.ndarray, np.generic)):
            a = np.array(a)
            a = a.astype(dtype) if dtype is not None and a.dtype.kind == "f" else a
            a = wrap(place.asarray(a))
        made.append(a)
    return made


def outputs(value: Any) -> list[Tensor]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def host(t: Tensor) -> Any:
    return registry.backend_of(t.array).to_numpy(t.array)


def same(found: Tensor, expected: Tensor, place: Any, rtol: float, values: bool = True) -> None:
    """Device, dtype, shape and, where the op determines them, values."""
    assert registry.backend_of(found.array) is place, f"the result lives on {found.device}"
    assert found.dtype is expected.dtype, f"gives {found.dtype}, NumPy's backend {expected.dtype}"
    assert found.shape == expected.shape, f"shape {tuple(found.shape)}, NumPy's backend {tuple(expected.shape)}"
    if values:
        np.testing.assert_allclose(host(found), host(expected), rtol=rtol, atol=rtol)


def gradients(record: Record, tensors: list[Any], kw: dict[str, Any], order: int) -> list[Any]:
    """The gradients (or the gradients of their sum) of all that the op differentiates, for fixed cotangents."""
    op = OPS[record.op]
    leaves = []
    for i, t in enumerate(tensors):
        name = op.inputs[i] if i < len(op.inputs) else op.variadic
        if t is not None and name in {*op.joint_names, *op.rules} and t.array.dtype.kind in "fc":
            leaves.append(t.requires_grad_())
    outs = [o for o in outputs(op.fn(*tensors, **kw)) if o.requires_grad]
    seeds = [wave(o) for o in outs]
    found = torch.autograd.grad(outs, leaves, seeds, create_graph=order == 2, allow_unused=True)
    if order == 1:
        return [g for g in found if g is not None]
    first = [g for g in found if g is not None and g.requires_grad]
    if not first:
        return []
    again = torch.autograd.grad(first, leaves, [wave(g) for g in first], allow_unused=True)
    return [g for g in again if g is not None]


def wave(t: Tensor) -> Tensor:
    """Fixed numbers of a tensor's shape and dtype, on its device."""
    backend = registry.backend_of(t.array)
    numbers = 1 + 0.5 * np.sin(np.arange(t.array.size)).reshape(t.array.shape)
    return wrap(backend.asarray(numbers.astype(t.array.dtype), device=backend.device_of(t.array)))


def run_record(record: Record, name: str, limit: int | None = None) -> None:
    """All parts of one op: values, gradients of two orders, dtypes, views, errors."""
    place, numpy = registry.load(name), registry.load("numpy")
    fn, rtol = OPS[record.op].fn, max(record.rtol, 1e-7)
    samples = samples_of(record)[:limit]

    def forward() -> None:
        for sample in samples:
            given = tensors_of(sample, place)
            found, expected = outputs(fn(*given, **sample.kw)), outputs(fn(*tensors_of(sample, numpy), **sample.kw))
            for i, (f, e) in enumerate(zip(found, expected, strict=True)):
                same(f, e, place, rtol, i in UNIQUE.get(record.op, (i,)))
            if OPS[record.op].view and given[0].array.size:
                shared = place.storage_of(found[0].array) is place.storage_of(given[0].array)
                assert shared or record.op == "as_strided", "a view op that copies"

    def gradient(order: int) -> None:
        for sample in samples:
            found = gradients(record, tensors_of(sample, place), sample.kw, order)
            expected = gradients(record, tensors_of(sample, numpy), sample.kw, order)
            for f, e in zip(found, expected, strict=True):
                same(f, e, place, 100 * rtol, record.op not in UNIQUE)

    def dtypes() -> None:
        for dtype in record.dtypes:
            if dtype in ("float32", "float64"):
                for sample in samples:
                    kw = {k: np.dtype(dtype) if k == "dtype" and record.op != "cast" else v
                          for k, v in sample.kw.items()}  # fmt: skip
                    found = outputs(fn(*tensors_of(sample, place, dtype), **kw))
                    expected = outputs(fn(*tensors_of(sample, numpy, dtype), **kw))
                    for f, e in zip(found, expected, strict=True):
                        same(f, e, place, 0, False)

    def errors() -> None:
        for failure in record.errors:
            try:
                given = tensors_of(failure.sample, place)
            except Unsupported:  # of a dtype that the library does not have
                continue
            try:
                fn(*given, **failure.sample.kw)
            except Unsupported:
                raise
            except failure.error as error:
                assert re.search(failure.match, str(error)), f"the text is {error}"
            else:
                raise AssertionError(f"no error; NumPy's backend raises {failure.error.__name__}")

    judged("records", record.op, "forward", forward)
    if record.grad and (OPS[record.op].rules or OPS[record.op].joint):
        judged("records", record.op, "gradient", lambda: gradient(1))
        if record.second:
            judged("records", record.op, "second gradient", lambda: gradient(2))
    judged("records", record.op, "dtypes", dtypes)
    if record.errors:
        judged("records", record.op, "errors", errors)


# ---- parity ----------------------------------------------------------------------------------------------------------


def run_parity(kind: str, entry: str, name: str, limit: int | None, only: tuple[str, ...] = ()) -> None:
    """The checks of one entry of PyTorch's databases that pass on NumPy's backend, as tests/parity/table.json says."""
    from parity import table

    with default_backend(name):
        database = table.database(kind)
        if kind == "ops":
            checks = database.record(entry, limit, only)["checks"]
        else:
            checks = database.replay(entry, limit) if kind == "modules" else database.replay(entry)
    known = table.load().get(kind, {}).get(entry, {"checks": {}})["checks"]
    found = results.setdefault(f"parity {kind}", {}).setdefault(entry, {})
    for check, text in checks.items():
        if known.get(check, "not in the table") is None:
            if text and kind == "optimizers" and within_float32(text):
                text = None
            lacking = text and ("Unsupported: " in text or "NotImplementedError: " in text)
            found[check] = (PASSED if text is None else MISSING if lacking else FAILED, text or "")


def within_float32(text: str) -> bool:
    """Whether a difference of parameters is rounding in float32: off the host, rates and counters live in it."""
    found = re.search(r"off by ([\d.e+-]+) of ([\d.e+-]+)$", text)
    return found is not None and float(found[1]) <= 1e-7 * float(found[2])


# ---- programs --------------------------------------------------------------------------------------------------------


def run_program(program: str, name: str, steps: int, run: Callable[[str, int], list[float]]) -> None:
    """`run(program, steps)` gives a program's numbers: on the backend they are those of NumPy's."""

    def losses() -> None:
        with default_backend("numpy"):
            expected = run(program, steps)
        with default_backend(name):
            found = run(program, steps)
        np.testing.assert_allclose(found, expected, rtol=1e-3)

    judged("programs", program, f"{steps} steps", losses)


# ---- the table -------------------------------------------------------------------------------------------------------


def state_of(parts: dict[str, tuple[str, str]]) -> str:
    """failed where one part fails, else missing where one is, else passed."""
    states = {state for state, _ in parts.values()}
    return FAILED if FAILED in states else MISSING if MISSING in states else PASSED


def table(name: str, results: dict[str, dict[str, Any]]) -> list[str]:
    """What is missing and what fails, piece by piece, and the counts. results: as above."""
    lines = [f"conformance of the backend {name}"]
    for kind, pieces in results.items():
        for piece, parts in sorted(pieces.items()):
            reasons: dict[tuple[str, str], list[str]] = {}
            for part, (state, reason) in parts.items():
                if state != PASSED:
                    reasons.setdefault((state, reason), []).append(part)
            for (state, reason), named in reasons.items():
                lines.append(f"{state:8}{kind} {piece} ({', '.join(named)}): {reason}")
    lines.append(f"{'':24}{PASSED:>8}{MISSING:>9}{FAILED:>8}")
    for kind, pieces in results.items():
        states = [state_of(parts) for parts in pieces.values()]
        lines.append(f"{kind:24}{states.count(PASSED):>8}{states.count(MISSING):>9}{states.count(FAILED):>8}")
    return lines


def all_records() -> list[Record]:
    """The records of ops that compute on one device."""
    return [record for record in RECORDS.values() if record.op != "transfer"]
