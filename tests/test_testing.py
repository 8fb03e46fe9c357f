"""torch.testing beside PyTorch's: what is close, the texts of failures, and the numbers of make_tensor."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import tapegrad

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*(Sparse invariant|ComplexHalf).*:UserWarning")
nan, inf = float("nan"), float("inf")

CLASSES = [  # where the two libraries keep their classes
    ("tapegrad.autograd.tensor.Tensor", "torch.Tensor"),
    ("tapegrad.autograd.parameter.Parameter", "torch.nn.parameter.Parameter"),
]


def outcome(T: Any, text: str) -> tuple[str, str]:
    """(name of the exception or "", its text) of assert_close(TEXT)."""
    scope = {"T": T, "np": np, "nan": nan, "inf": inf, "OrderedDict": OrderedDict, "close": T.testing.assert_close}
    scope |= {"v": T.tensor([1.0, 2.0, 3.0]), "m": T.arange(6.0).reshape(2, 3), "d": T.tensor([1.0, 2.0]).double()}
    scope["s"] = T.sparse_coo_tensor([[0, 1], [1, 0]], [3.0, 4.0], (2, 2)).coalesce()
    try:
        eval(f"close({text})", scope)
    except Exception as error:
        return type(error).__name__, str(error).replace(*CLASSES[0]).replace(*CLASSES[1])
    return "", ""


CLOSE = """
v, v + 1e-6 | m, m.clone() | 1.0, 1.0 + 1e-9 | 3, 3 | True, True | None, None | [], [] | [v, (1, 2.0)], (v, [1, 2.0])
{"a": v, "b": [1]}, OrderedDict(b=[1], a=v) | {1: v, "b": 2}, {"b": 2, 1: v} | v, v.double(), check_dtype=False
v, v.long(), check_dtype=False | v.half(), v.half() * 1.0001 | s, s + s - s | v.bfloat16(), v.bfloat16() * 1.01
v * (1 + 1j), v * (1 + 1j) | v, v + 0.5, rtol=0, atol=0.6 | 3, 3.0, check_dtype=False
T.tensor(nan), T.tensor(nan), equal_nan=True | nan, nan, equal_nan=True | T.tensor([inf, -inf]), T.tensor([inf, -inf])
T.zeros(0), T.zeros(0) | np.ones(2), np.ones(2) | np.float64(2), np.float64(2) | T.tensor([True]), T.tensor([True])
m.t(), m.t().contiguous() | s, s.to_dense(), check_layout=False | v.requires_grad_(), v | np.True_, True
np.int32(3), 3 | T.nn.Parameter(v), v | v.to(T.uint16), v.to(T.int32), check_dtype=False
"""
APART = """
v, v + T.tensor([0, 0, 1.0]) | m, m * 2 | m, m + 1 | v, v[:2] | v, v.double() | v.long(), v.int() | 1.0, 2.0 | 1, 2
1, 1.0 | 1.0, 0.0 | 1j, 1 + 1j | nan, nan | T.tensor(nan), T.tensor(nan) | T.tensor(1.0), T.tensor(2.0) | True, False
None, v | v, None | 1, None | [v, v], [v] | [v, v], [v, v + 1] | {"a": v}, {"a": v + 1} | {"a": v}, {"b": v}
{"a": 1, "c": 2}, {} | {"a": [v, {"k": (1, 2)}]}, {"a": [v, {"k": (1, 3)}]} | v, [1.0, 2.0, 3.0] | v, 1.0 | "a", "a"
v, np.ones(3) | m.t(), m.t().contiguous(), check_stride=True | v, v + 1, msg="mine"
v, v + 1, msg=lambda t: "<" + t + ">" | [v], [v + 1], msg=lambda t: "<" + t + ">" | [v], [v, v], msg="mine"
v, v + 1, rtol=0, atol=0 | v, v + 1, rtol=0.1, atol=0 | v, v, rtol=1e-3 | [1], [1], atol=1e-3
v, v.double() + 1, check_dtype=False | v.half(), v.half() + 1 | v.bfloat16(), v.bfloat16() + 1 | v * 1j, v * 2j
T.tensor([True, False]), T.tensor([True, True]) | v.byte(), v.byte() - 2 | T.tensor([inf, 1.0]), T.tensor([-inf, 1.0])
T.tensor([nan, 1.0]), T.tensor([1.0, nan]) | T.zeros(3), T.ones(3) | T.ones(2, 2, 2), T.zeros(2, 2, 2)
3, 3.5, check_dtype=False | np.float32(1), np.float32(2) | np.ones(2), np.zeros(2) | np.ones(2), np.ones(2, dtype="f4")
s, s.to_dense() | s, s * 2 | s, (s.to_dense() + T.eye(2)).to_sparse() | s, s.t().coalesce()
s, s.to_dense().to_sparse(1) | T.nn.Parameter(v), v, allow_subclasses=False | 1.0, 2.0, rtol=0, atol=0.5 | (1,), (nan,)
d, d + 1e-6 | v, v + 1e-4 | v.long(), v.long() + 1 | 10**20, 1 | T.tensor(3), T.tensor(5)
T.tensor(1j), T.tensor(2.0 + 0j) | T.ones(1), T.ones(1, requires_grad=True) + 1
v.to(T.uint16), v.to(T.int32) + 1, check_dtype=False
"""


def items(table: str) -> list[str]:
    return [text.strip() for line in table.strip().splitlines() for text in line.split(" | ")]


@pytest.mark.parametrize("text", items(CLOSE))
def test_close(text: str) -> None:
    assert outcome(torch, text) == ("", "")
    assert outcome(tapegrad, text) == ("", "")


@pytest.mark.parametrize("text", items(APART))
def test_not_close_with_the_same_text(text: str) -> None:
    expected = outcome(torch, text)
    assert expected[0]
    assert outcome(tapegrad, text) == expected


def test_what_the_text_says() -> None:
    with pytest.raises(AssertionError) as caught:
        tapegrad.testing.assert_close(tapegrad.tensor([1.0, 2.0, 3.0]), tapegrad.tensor([1.0, 2.0, 4.0]))
    assert str(caught.value) == (
        "Tensor-likes are not close!\n\nMismatched elements: 1 / 3 (33.3%)\n"
        "Greatest absolute difference: 1.0 at index (2,) (up to 1e-05 allowed)\n"
        "Greatest relative difference: 0.25 at index (2,) (up to 1.3e-06 allowed)"
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex64", "complex128", "int32"])
def test_default_tolerances(dtype: str) -> None:
    """The largest differences that pass and the smallest that do not are PyTorch's."""
    verdicts = []
    for T in (tapegrad, torch):
        ones = T.ones(2).to(getattr(T, dtype))
        steps = [(ones * (1 + x)).to(ones.dtype) for x in (5e-8, 1.5e-7, 2.5e-7, 9e-6, 1.2e-5, 1e-3, 2e-3, 1e-2, 3e-2)]
        verdicts.append([_passes(T, ones, s) for s in steps] + [_passes(T, s, T.ones(2)) for s in steps])
    assert verdicts[0] == verdicts[1] and True in verdicts[0]


def _passes(T: Any, a: Any, b: Any) -> bool:
    try:
        T.testing.assert_close(a, b, check_dtype=False)
    except AssertionError:
        return False
    return True


OLD = """
v, v + 1e-5 | v, v + 1e-3 | [1.0, 2.0], v[:2] | v.double(), v.double() + 1e-6 | v, v.double(), 0.1, 0.1
v, v + 1, msg="x" | T.tensor(nan), T.tensor(nan) | v.half(), v.half() * 1.001 | v, v + 1, 0.5, 0.5 | 1.0, 2.0 | v, v[:2]
v, v, 0.1
"""


@pytest.mark.parametrize("text", items(OLD))
def test_assert_allclose(text: str) -> None:
    found = []
    for T in (tapegrad, torch):
        with pytest.warns(FutureWarning, match="assert_allclose"):
            try:
                eval(f"T.testing.assert_allclose({text})", {"T": T, "nan": nan, "v": T.tensor([1.0, 2.0, 3.0])})
                found.append("")
            except (AssertionError, ValueError) as error:
                found.append(f"{type(error).__name__}: {error}")
    assert found[0] == found[1]


DTYPES = (
    "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128"
).split()
OPTIONS: list[dict[str, Any]] = [
    {}, {"low": -1, "high": 3}, {"low": 0.5}, {"exclude_zero": True, "low": 0, "high": 2}, {"noncontiguous": True},
    {"low": -inf, "high": inf}, {"requires_grad": True}, {"high": 1e300}, {"low": 5, "high": 4}, {"low": nan},
    {"low": 300, "high": 400}, {"low": 2, "high": 2}, {"memory_format": "channels_last"},
    {"memory_format": "channels_last", "noncontiguous": True},
]  # fmt: skip


MAKES = [
    (dtype, options)
    for options in OPTIONS
    for dtype in DTYPES
    # PyTorch cannot write through a mask of these, nor draw all of uint64
    if not (dtype in ("uint16", "uint32", "uint64") and "exclude_zero" in options)
    and not (dtype == "uint64" and options.get("high", 0) > 1e200)
]


@pytest.mark.parametrize(("dtype", "options"), MAKES, ids=str)
def test_make_tensor(dtype: str, options: dict[str, Any]) -> None:
    found: list[Any] = []
    for T in (tapegrad, torch):
        T.manual_seed(3)
        given = {k: getattr(T, x) if k == "memory_format" else x for k, x in options.items()}
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                t = T.testing.make_tensor(2, 3, 1, 2, dtype=getattr(T, dtype), device="cpu", **given)
            except (ValueError, OverflowError, RuntimeError) as error:
                found.append((type(error).__name__, str(error)))
                continue
        facts = (str(t.dtype), tuple(t.shape), t.stride(), t.requires_grad, t.is_leaf)
        values = t.flatten().tolist()
        if options.get("high") == inf and t.dtype.itemsize >= 8 and not str(t.dtype).endswith("int64"):
            values = [f"{x:.14g}" for x in values]  # PyTorch's step from [0, 1) to the range rounds once
        found.append((facts, [str(w.message) for w in warned], values))
    assert repr(found[0]) == repr(found[1])


def test_shapes_of_make_tensor() -> None:
    found = []
    for T in (tapegrad, torch):
        T.manual_seed(0)
        make = T.testing.make_tensor
        options = {"dtype": T.float32, "device": "cpu"}
        made = [make((2, 3), **options), make([2], **options), make(T.Size([1, 2]), **options), make(**options)]
        made += [
            make(0, 3, **options),
            make((1,), noncontiguous=True, **options),
            make(4, noncontiguous=True, **options),
        ]
        found.append([(t.tolist(), t.stride()) for t in made])
    assert found[0] == found[1]


def test_signatures() -> None:
    import inspect

    for name in ("assert_close", "assert_allclose", "make_tensor"):
        mine, theirs = (inspect.signature(getattr(T.testing, name)).parameters for T in (tapegrad, torch))
        assert list(mine) == list(theirs)
        assert [(p.kind, p.default) for p in mine.values()] == [(p.kind, p.default) for p in theirs.values()]
