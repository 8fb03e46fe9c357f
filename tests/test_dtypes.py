"""dtypes, their limits and promotion tables, Size, device and the defaults: beside PyTorch, and without it."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import tapegrad
from both import Programs, cells, check, kind, said

program = Programs()


@pytest.fixture(autouse=True)
def on_the_cpu() -> Iterator[None]:
    """What is compared here is the host's: memory shared with NumPy, names of types, default devices."""
    with tapegrad.device("cpu"):
        yield


NAMES = (
    "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128"
).split()


@program
def attributes(T):
    found = {}
    for name in NAMES:
        d = getattr(T, name)
        found[name] = [repr(d), str(d), d.is_floating_point, d.is_complex, d.is_signed, d.itemsize, d.to_real()]
        found[name].append(0 if name == "float16" else said(d.to_complex))
        found[name] += [
            d == getattr(T, name),
            hash(d) == hash(getattr(T, name)),
            d == name,
            d != T.float32,
            isinstance(d, T.dtype),
        ]
    return found


@program
def aliases(T):
    words = "half float double short int long cfloat cdouble".split()
    return [getattr(T, w) for w in words]


@program
def promoted(T):
    return {f"{a} {b}": said(T.promote_types, getattr(T, a), getattr(T, b)) for a in NAMES for b in NAMES}


@program
def castable(T):
    return {f"{a} {b}": T.can_cast(getattr(T, a), getattr(T, b)) for a in NAMES for b in NAMES}


@program
def wrong_promotions(T):
    return [
        kind(T.promote_types, T.float32, 3),
        kind(T.promote_types, "float32", T.int8),
        kind(T.can_cast, 1, T.int8),
        kind(T.promote_types, T.int8),
    ]


def _values(T: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"True": True, "2": 2, "2.5": 2.5, "1j": 1j}
    for name in NAMES:
        d = getattr(T, name)
        found["sized " + name], found["flat " + name] = T.ones(1, dtype=d), T.ones((), dtype=d)
    return found


@program
def result_types(T):
    values = _values(T)
    pairs = [(a, b) for a in values for b in values]
    # leaves out what PyTorch answers with complex32, and a quirk of its unsigned dtypes
    pairs = [
        (a, b)
        for a, b in pairs
        if not ("complex" in a + b + ("complex" if "1j" in (a, b) else "") and "float16" in a + b)
    ]
    pairs = [(a, b) for a, b in pairs if not ("uint16" in a + b or "uint32" in a + b or "uint64" in a + b)]
    return {f"{a}, {b}": said(T.result_type, values[a], values[b]) for a, b in pairs}


@program
def limits(T):
    found = {}
    words = "bits eps max min tiny smallest_normal resolution dtype".split()
    for name in NAMES:
        d = getattr(T, name)
        f, i = said(T.finfo, d, length=30), said(T.iinfo, d, length=30)
        found[name] = [
            [getattr(f, w) for w in words] if hasattr(f, "eps") else f,
            [getattr(i, w) for w in ("bits", "max", "min", "dtype")] if hasattr(i, "bits") else i,
        ]
        found[name] += [
            repr(f) if hasattr(f, "eps") else 0,
            repr(i) if hasattr(i, "bits") else 0,
            str(f) if hasattr(f, "eps") else 0,
        ]
    return found


@program
def limits_of_the_default(T):
    found = [
        T.finfo().dtype,
        T.finfo(T.float32) == T.finfo(T.float32),
        T.finfo(T.float32) == T.finfo(T.float64),
        T.iinfo(T.int8) == T.iinfo(T.int8),
    ]
    T.set_default_dtype(T.float64)
    try:
        found.append(T.finfo().dtype)
    finally:
        T.set_default_dtype(T.float32)
    return [*found, kind(T.iinfo), kind(T.finfo, 3), kind(T.iinfo, "int8")]


@program
def default_dtype(T):
    found = [T.get_default_dtype()]
    for d in (T.float64, T.float16, T.bfloat16):
        complex_too = d == T.float64
        T.set_default_dtype(d)
        try:
            found += [
                T.tensor(1.5).dtype,
                T.zeros(1).dtype,
                T.tensor(1j if complex_too else 1.5).dtype,
                (T.ones(1, dtype=T.int64) / 2).dtype,
                T.arange(2.0).dtype,
                T.tensor([1]).dtype,
            ]
            found += [
                (T.tensor([1]) * 1.5).dtype,
                T.nn.Linear(1, 1).weight.dtype,
                T.eye(1).dtype,
                T.linspace(0, 1, 2).dtype,
                T.full((1,), 1.0).dtype,
            ]
            found += [T.tensor(1.5), T.sqrt(T.tensor([4])).dtype, T.Tensor(1).dtype]
        finally:
            T.set_default_dtype(T.float32)
    return [*found, kind(T.set_default_dtype, T.int64), kind(T.set_default_dtype, "float32"), T.get_default_dtype()]


@program
def default_tensor_type(T):
    try:
        T.set_default_tensor_type(T.DoubleTensor)
        found = [T.get_default_dtype(), T.tensor(1.5).dtype]
        T.set_default_tensor_type("torch.HalfTensor")
        found.append(T.get_default_dtype())
    finally:
        T.set_default_dtype(T.float32)
    return [*found, kind(T.set_default_tensor_type, T.LongTensor), kind(T.set_default_tensor_type, 3)]


SIZES = """
s | str(s) | s[0] | s[-1] | s[1:] | s[::2] | s + (4,) | s + s | (1,) + s | [1] + s | s * 2 | 2 * s | s == (2, 3)
s == [2, 3] | (2, 3) == s | hash(s) == hash((2, 3)) | s.numel() | len(s) | list(s) | tuple(s)
s.count(2) | s.index(3) | s.index(9) | 2 in s | isinstance(s, tuple) | T.Size() | T.Size([]) | T.Size((1, 2))
T.Size([1.5]) | T.Size(["a"]) | T.Size(3) | T.Size([T.tensor(2), 3]) | T.Size(range(2)) | T.Size([-1])
T.Size([True])
s[5] | s["a"] | s + 3 | s < (2, 4) | sorted(s) | max(s) | {s: 1}[(2, 3)] | s[:0].numel() | type(s[1:]).__name__
type(s + s).__name__ | type(s * 2).__name__ | type((1,) + s).__name__ | repr(T.Size([5])) | T.Size([2, 0]).numel()
T.zeros(s).shape | T.zeros(2, 3).size() == s | T.zeros(2, 3).shape[0] + 1 | [*s, 4] | T.zeros(*s).shape
T.zeros(()).shape | T.zeros(s[:1] + (7,)).shape | s.__class__ is T.Size | a if (a := s[0]) else 0 | bool(T.Size([]))
"""
DEVICES = """
T.device("cpu") | str(T.device("cpu")) | T.device("cpu").type | T.device("cpu").index | T.device("cpu:0")
T.device("cpu", 0) | T.device("cuda:1") | T.device("cuda").index | T.device("cuda", 1) | T.device(type="cpu")
T.device(type="cuda", index=2)
T.device(T.device("cpu")) | T.device("cpu") == T.device("cpu") | T.device("cpu") == T.device("cpu:0")
T.device("cpu") == "cpu" | T.device("cuda:0") != T.device("cuda:1") | hash(T.device("cpu")) == hash(T.device("cpu"))
T.device("cuda:1").index
T.device("nowhere") | T.device("cpu:a") | T.device("cpu:-1") | T.device("") | T.device(None) | T.device(1.5)
T.device("cpu:0", 0) | T.device("cpu", -2) | T.device("meta") | T.device("mps") | T.device() | T.device("cuda:01")
T.device("cpu:") | T.device(":0")
T.zeros(1).device | T.zeros(1, device="cpu").device == T.device("cpu") | T.zeros(1, device=T.device("cpu")).device
isinstance(T.device("cpu"), T.device) | {T.device("cpu"): 1}[T.device("cpu")] | repr(T.device("cuda:1"))
T.get_default_device()
T.zeros(1, device="cpu:0").device | T.zeros(1).to("cpu:0").device | T.tensor([1], device=T.device("cpu", 0))
T.device("xpu").type | T.device("cuda", index=0) | T.device(0) if False else 0 | T.zeros(1, device=3.5)
T.device("cpu").type == "cpu"
"""


@pytest.mark.parametrize("text", cells(SIZES))
def test_size(text: str) -> None:
    check(text, length=0, s=lambda T: T.Size([2, 3]))


@pytest.mark.parametrize("text", cells(DEVICES))
def test_device(text: str) -> None:
    check(text, length=0)


@program
def device_contexts(T):
    found = []
    with T.device("cpu") as d:
        found += [T.zeros(1).device, d]
        with T.device("cpu:0"):
            found.append(T.get_default_device())
        found.append(T.get_default_device())
    T.set_default_device("cpu")
    found.append(T.get_default_device())
    T.set_default_device(T.device("cpu"))
    T.set_default_device(None)
    return [*found, T.get_default_device(), kind(T.set_default_device, "nowhere")]


@program
def copies_are_the_same(T):
    found = []
    for value in (T.float32, T.bfloat16, T.device("cuda:1"), T.Size([1, 2]), T.strided, T.channels_last):
        for other in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            found.append([other == value, type(other).__name__, repr(other)])
    found += [pickle.loads(pickle.dumps(T.float32)) is T.float32, copy.deepcopy(T.int8) is T.int8]
    return found


@pytest.mark.parametrize("name", program)
def test_program(name: str) -> None:
    """Tables and texts are torch's."""
    program.check(name)


# ---- without torch ---------------------------------------------------------------------------------------------------


def test_float16_joins_bfloat16_in_float32() -> None:
    T = tapegrad
    assert T.promote_types(T.float16, T.bfloat16) is T.float32
    assert T.promote_types(T.uint8, T.int8) is T.int16
    assert T.promote_types(T.int64, T.float16) is T.float16
    assert T.promote_types(T.float64, T.complex64) is T.complex128


def test_bfloat16_names_the_package_it_needs() -> None:
    code = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "import tapegrad\n"
        "assert tapegrad.ones(1).dtype is tapegrad.float32\n"
        "try: tapegrad.bfloat16\n"
        "except ImportError as error: print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install" in out and "ml_dtypes" in out


def test_device_context_leaves_no_trace_after_an_error() -> None:
    T = tapegrad
    with pytest.raises(KeyError):
        with T.device("fake"):
            assert T.ones(1).device.type == "fake"
            raise KeyError
    assert T.ones(1).device == T.get_default_device()
    with T.device("fake"):
        with T.device("cpu"):
            assert T.ones(1).device.type == "cpu"
        assert T.ones(1).device.type == "fake"
