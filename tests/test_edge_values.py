"""Edge values: ties, signed zeros, NaN and infinities, subnormals, overflow, empty and zero-dim tensors, odd strides.

The tables of `edge_cases.py` run on tapegrad and on torch; what comes out and every gradient must be the same: dtype,
shape, values, the sign of each zero of a result, and the type of what is raised.
"""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import edge_cases as cases
import numpy as np
import pytest
import tapegrad
from both import cells, said, same

DTYPES = ("float32", "float64")
TABLES = "TIES SIGNS EXTREMES SUBNORMAL LOSSES INTEGERS CASTS EMPTY SCALARS MORE LAYERS".split()
_NAMED = {
    "i8": "int8", "u8": "uint8", "i16": "int16", "i32": "int32", "i64": "int64", "b": "bool", "f16": "float16",
    "bf": "bfloat16",
}  # fmt: skip


class Scope:
    """The names an expression may use, for one library and dtype; remembers the tensors that want a gradient."""

    def __init__(self, T: Any, dtype: str):
        self.leaves: list[Any] = []
        info = np.finfo(dtype)
        self.names = {
            "T": T, "F": T.nn.functional, "np": np, "nan": math.nan, "inf": math.inf, "t": self.leaf,
            "c": lambda values: T.tensor(values, dtype=getattr(T, dtype)),
            "tiny": float(info.tiny), "least": float(info.smallest_subnormal), "huge": float(info.max),
            "log_huge": math.log(float(info.max)) * (1 - float(info.eps)),
        }  # fmt: skip
        self.names["e"] = lambda *shape: self.leaf(np.zeros(shape))
        self.names["many"], self.names["table"] = many(dtype), table()
        self.names["labels"] = T.tensor(np.arange(64) % 5)
        for short, name in _NAMED.items():
            self.names[short] = lambda values, name=name: T.tensor(values, dtype=getattr(T, name))

    def leaf(self, values: Any) -> Any:
        """A tensor that requires a gradient."""
        leaf = self.names["c"](values).requires_grad_()
        self.leaves.append(leaf)
        return leaf


def many(dtype: str) -> Any:
    """9024 numbers, the special ones again and again: enough for fused kernels, at every place of a vector unit.

    64 ordinary ones at the end, which vector units do not reach: PyTorch's scalar code differs from its vector code.
    """
    tiny = np.finfo(dtype).tiny
    special = [0.0, -0.0, math.nan, math.inf, -math.inf, tiny / 2, -tiny / 2, 1.0, -1.0, 64.0, -64.0]
    return np.append(np.resize(special, 8960), np.ones(64))


def table() -> Any:
    """(64, 200): ties in all rows; of every eight rows one has nan, inf, -inf, both, only -inf, only zeros."""
    x = np.random.default_rng(1).integers(-6, 7, (64, 200)) / 2
    x[0::8, 7], x[1::8, 20], x[2::8, 150] = math.nan, math.inf, -math.inf
    x[3::8, 3:5], x[4::8], x[5::8] = [math.inf, -math.inf], -math.inf, 0.0
    return x


def outcome(T: Any, text: str, dtype: str, x: str = "") -> tuple[Any, Any]:
    """(what the expression gives, the gradients of its tensors); an exception stands for itself."""
    scope = Scope(T, dtype)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        T.manual_seed(0)
        if x:
            scope.names["x"] = eval(x, scope.names)
        value = said(lambda: eval(text, scope.names), length=0)
        grads = said(lambda: gradients(T, value, scope.leaves), length=0)
    return value, grads


def gradients(T: Any, value: Any, leaves: list[Any]) -> list[Any]:
    """The gradients for weights that differ from element to element, so that a wrong place shows."""
    outputs = [y for y in tensors(value) if y.requires_grad]
    if outputs:
        weights = [T.arange(y.numel(), dtype=T.float64) % 97 * 0.5 - 1.25 for y in outputs]
        T.autograd.backward(outputs, [w.reshape(y.shape).to(y.dtype) for w, y in zip(weights, outputs, strict=True)])
    return [leaf.grad for leaf in leaves]


def tensors(value: Any) -> list[Any]:
    """The tensors in nested tuples and lists."""
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in tensors(item)]
    return [value] if hasattr(value, "requires_grad") else []


def check(text: str, dtype: str, x: str = "", normwise: bool = False) -> None:
    """Asserts that an expression does the same on both libraries."""
    torch = pytest.importorskip("torch")
    mine, theirs = outcome(tapegrad, text, dtype, x), outcome(torch, text, dtype, x)
    rtol = 4e-6 if dtype == "float32" else 1e-12
    same(mine[0], theirs[0], rtol, f"{text}, {dtype} {x}")
    same_zeros(mine[0], theirs[0], f"{text}, {dtype} {x}")
    if normwise:
        near(mine[1], theirs[1], rtol, text)
    else:
        same(mine[1], theirs[1], rtol, f"gradients of {text}, {dtype} {x}")


def near(mine: list[Any], theirs: list[Any], rtol: float, text: str) -> None:
    """Asserts that gradients are the same, up to rtol of the largest finite element."""
    for a, b in zip(mine, theirs, strict=True):
        assert (a is None) == (b is None), f"gradients of {text}: {a}, torch: {b}"
        if b is None:
            continue
        a, b = a.cpu().numpy(), b.numpy()
        size = np.abs(np.where(np.isfinite(b), b, 0)).max()
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * size, err_msg=f"gradients of {text}, {b.dtype}")


def same_zeros(mine: Any, theirs: Any, text: str) -> None:
    """Asserts that the zeros of two results have the same sign."""
    for a, b in zip(tensors(mine), tensors(theirs), strict=True):
        if b.is_floating_point():
            a, b = a.detach().cpu().double().numpy(), b.detach().double().numpy()
            zero = b == 0
            assert (np.signbit(a) == np.signbit(b))[zero].all(), f"{text}: signs of zeros: {a}, torch: {b}"


def groups() -> dict[str, list[tuple[str, str, bool, tuple[str, ...]]]]:
    """The cases of each table: (expression, what x is, whether gradients are compared by their norm, dtypes)."""
    found: dict[str, list[tuple[str, str, bool, tuple[str, ...]]]] = {}
    for name in TABLES:
        dtypes = DTYPES[:1] if name == "LAYERS" else DTYPES  # layers are of float32
        found[name] = [(text, "", False, dtypes) for text in cells(getattr(cases, name))]
    strides = cells(cases.STRIDES)
    found["STRIDES"] = [(text, "", False, DTYPES[1:]) for text in strides if not re.search(r"\bx\b", text)]
    for key, x in cases.LAYOUTS.items():
        found[key] = [(text, x, False, DTYPES[1:]) for text in strides if re.search(r"\bx\b", text)]
    for key, x in cases.SPECIAL.items():
        found[key] = [(text, x, False, DTYPES) for text in cells(cases.REDUCTIONS) if (text, key) not in cases.NOT]
    for x, dim in (("t([])", "0"), ("t([]).reshape(0, 3)", "0"), ("t([]).reshape(0, 3)", "1")):
        texts = [text.replace("{0}", dim) for text in cells(cases.EMPTY_REDUCTIONS)]
        found[f"{x}, dim {dim}"] = [(text, x, False, DTYPES) for text in texts]
    found["POINTWISE"] = [(text, "t(many)", True, DTYPES) for text in cells(cases.POINTWISE)]
    found["ROWS"] = [(text, "t(table)", True, DTYPES) for text in cells(cases.ROWS)]
    return found


GROUPS = groups()
assert sum(map(len, GROUPS.values())) > 2000


@pytest.mark.parametrize("name", GROUPS)
def test_as_torch(name: str) -> None:
    wrong = []
    for text, x, normwise, dtypes in GROUPS[name]:
        for dtype in dtypes:
            try:
                check(text, dtype, x, normwise)
            except AssertionError as error:
                wrong.append(str(error))
    assert not wrong, f"{len(wrong)} cases:\n" + "\n".join(wrong)


# ---- without torch: expression, the value and gradient that the mathematics or IEEE 754 (2019) gives

THEORY = """
t([1, 3, 3]).max()                                  ; 3                         ; [0, 1 / 2, 1 / 2]
t([2, 2, 2, 2]).amin()                              ; 2                         ; [1 / 4] * 4
t([1, 3, 3]).max(0)[0]                              ; 3                         ; [0, 1, 0]
T.maximum(t([1, 2]), c([1, 3]))                     ; [1, 3]                    ; [1 / 2, 0]
T.clamp(t([1, 2, 3]), 1, 2)                         ; [1, 2, 2]                 ; [1, 1, 0]
t([2, 1, 4, 3]).median()                            ; 2                         ; [1, 0, 0, 0]
t([2, 0, 3]).prod()                                 ; 0                         ; [0, 2 * 3, 0]
t([2, inf, 3]).prod()                               ; inf                       ; [inf, 2 * 3, inf]
t([2, inf, 3]).cumprod(0)                           ; [2, inf, inf]             ; [inf, 2 + 2 * 3, inf]
t([0.0, 0]).norm()                                  ; 0                         ; [0, 0]
t([3, 0.0]).norm(0)                                 ; 1                         ; [0, 0]
t([3, -4]).norm()                                   ; 5                         ; [3 / 5, -4 / 5]
T.sqrt(t([0.0, inf]))                               ; [0, inf]                  ; [inf, 0]
T.pow(t([0.0, 2]), 0)                               ; [1, 1]                    ; [0, 0]
T.pow(t([0.0]), 0.5)                                ; [0]                       ; [inf]
T.pow(t([-8]), 1 / 3)                               ; [nan]                     ; [nan]
T.abs(t([-0.0, 0.0]))                               ; [0.0, 0.0]                ; [0, 0]
-t([0.0, -0.0])                                     ; [-0.0, 0.0]               ; [-1, -1]
T.sqrt(c([-0.0]))                                   ; [-0.0]                    ; None
T.relu(t([-0.0, nan, -inf]))                        ; [-0.0, nan, 0]            ; [0, 1, 0]
T.remainder(t([-4, 4, -1]), 2.0)                    ; [-0.0, 0.0, 1]            ; [1, 1, 1]
t([inf]) * 0                                        ; [nan]                     ; [0]
T.where(c([0.0, 1]) > 0, T.log(t([0.0, 1])), 0.0)   ; [0, 0]                    ; [nan, 1]
T.log1p(t([1e-30])) / 1e-30                         ; [1]                       ; [1e30]
T.expm1(t([-inf]))                                  ; [-1]                      ; [0]
T.sigmoid(t([-1e3, 0, 1e3]))                        ; [0, 1 / 2, 1]             ; [0, 1 / 4, 0]
F.softplus(t([-1e3, 0, 1e3]))                       ; [0, math.log(2), 1e3]     ; [0, 1 / 2, 1]
F.gelu(t([0.0, inf]))                               ; [0, inf]                  ; None
T.i0(t([inf]))                                      ; [inf]                     ; None
T.polygamma(1, t([1.0, inf]))                       ; [math.pi**2 / 6, 0]       ; None
F.soft_margin_loss(t([-1e3]), c([1]))               ; 1e3                       ; [-1]
T.hypot(t([least]), c([0.0]))                       ; [least]                   ; [1]
T.atan2(t([least]), c([huge]))                      ; [0]                       ; [0]
T.var_mean(t([1, inf]))[1]                          ; inf                       ; [1 / 2, 1 / 2]
T.trapezoid(t([-inf, -inf, 1]))                     ; -inf                      ; [1 / 2, 1, 1 / 2]
T.logsumexp(t([-inf, -inf]), 0)                     ; -inf                      ; [nan, nan]
T.softmax(t([huge, -huge]), 0)                      ; [1, 0]                    ; [0, 0]
F.cross_entropy(t([[0.0, 0.0]]), i64([0]))          ; math.log(2)               ; [[-1 / 2, 1 / 2]]
F.cross_entropy(t([[1, 2]]), i64([-100]))           ; nan                       ; [[0, 0]]
F.kl_div(t([-1, -2]), c([0.0, 1]), reduction='sum') ; 2                         ; [0, -1]
F.binary_cross_entropy(t([0.0]), c([1]))            ; 100                       ; [-1e12]
F.huber_loss(t([0.0, 3]), c([1, 1]), reduction='sum') ; 1 / 2 + 3 / 2           ; [-1, 1]
F.cosine_similarity(t([[0.0, 0]]), c([[1, 0]]))     ; [0]                       ; None
t([]).sum()                                         ; 0                         ; []
t([]).prod()                                        ; 1                         ; []
t([]).mean()                                        ; nan                       ; []
T.logsumexp(t([]), 0)                               ; -inf                      ; []
(t([]).reshape(2, 0) @ c([]).reshape(0, 2)).sum()   ; 0                         ; []
T.cat([t([]), c([[1, 2]])]).sum()                   ; 3                         ; []
T.addmm(t([[nan]]), c([[1]]), c([[2]]), beta=0)     ; [[2]]                     ; [[0]]
F.relu6(t([nan] * 3000)).isnan().all()              ; True                      ; None
"""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("line", THEORY.strip().splitlines())
def test_theory(line: str, dtype: str) -> None:
    text, value, grad = (part.strip() for part in line.split(";"))
    scope = Scope(tapegrad, dtype)
    names = {**scope.names, "math": math}
    with np.errstate(all="ignore"):
        out = eval(text, names)
        have = out.detach().cpu().numpy()
        want = np.array(eval(value, names), have.dtype)
        np.testing.assert_allclose(have, want, rtol=1e-6)
        assert "-0.0" not in value or (np.signbit(have) == np.signbit(want))[want == 0].all()
        if grad != "None":
            out.sum().backward()
            np.testing.assert_allclose(scope.leaves[0].grad.tolist(), eval(grad, names), rtol=1e-6)


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "int32", "int64"])
def test_integers_wrap(kind: str) -> None:
    """Sums, products and powers are those modulo 2**bits; a sum of small integers is taken in int64."""
    T, dtype = tapegrad, getattr(tapegrad, kind)
    info = T.iinfo(dtype)
    top = T.tensor([info.max], dtype=dtype)

    def wrapped(n: int) -> list[int]:
        return [(n - info.min) % 2**info.bits + info.min]

    assert (top + 1).tolist() == wrapped(info.max + 1)
    assert (top * top).tolist() == wrapped(info.max**2)
    assert (top**3).tolist() == wrapped(info.max**3)
    assert (-T.tensor([info.min], dtype=dtype)).tolist() == wrapped(-info.min)
    assert T.cat([top, top]).sum(dtype=dtype).tolist() == wrapped(2 * info.max)[0]
    assert T.cat([top, top]).cumprod(0, dtype=dtype).tolist() == [info.max, *wrapped(info.max**2)]
    if kind != "int64":
        assert T.cat([top, top]).sum().item() == 2 * info.max
    for divide in (T.floor_divide, T.remainder, T.fmod):
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            divide(top, T.zeros_like(top))


def test_refused() -> None:
    T = tapegrad
    with pytest.raises(ValueError, match="negative"):
        T.from_numpy(np.arange(4.0)[::-1])
    with pytest.raises(ValueError, match="step must be greater than zero"):
        T.arange(4)[::-1]
    with pytest.raises(RuntimeError, match="In-place abs is not supported for complex tensors"):
        (T.ones(2) + 1j).abs_()
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        T.ones(2, device="fake:2")
    with pytest.raises(NotImplementedError, match="the derivative for '_unique2' is not implemented"):
        T.ones(2, requires_grad=True).unique().sum().backward()
    with pytest.raises(RuntimeError, match="log_probs tensor must not be empty"):
        T.nn.functional.ctc_loss(T.ones(3, 0, 2), T.ones(0, 1), T.ones(0), T.ones(0))
