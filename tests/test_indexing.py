"""x[...] and x[...] = value beside PyTorch: forms of index, gradients, in-place graphs, errors; random mixtures."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import tapegrad

real_torch = pytest.importorskip("torch")
LIBRARIES = (real_torch, tapegrad)

# An index is the text of what stands between the brackets; T is the library, np NumPy. The tensor is (3, 4, 5).
READS = """
0|-1|2, 3|0, 1, 2|:|...|()|None|1:|:2|::2|-2:|5:|2:1|:, 0|:, -1|..., 0|..., 1:3|0, ...|None, 0|0, None|:, None
None, None, 0|1:, None, 2|:, 1:3, ::2|0, ..., 0|..., None|None, ..., None|1:3, 0, ::3|:, :, 0|:, ...|True|False
None, True|0, True|:, False|T.tensor(1)|T.tensor(-1), 2|T.tensor(True)|T.tensor([0, 2])|T.tensor([0, -1, 0])
T.tensor([[0, 1], [2, 0]])|T.tensor([], dtype=T.int64)|[0, 2]|[]|[True, False, True]|range(2)|np.array([0, 2])
np.int64(1)|np.array([True, False, True])|np.array(1)|:, [0, 3]|[0, 2], 1|[0, 2], :, 1|0, :, [0, 1]|[0, 1], :, [1, 2]
[0, 1], [1, 2]|[0, 1], [1, 2], [0, 4]|[0, 1], 1:|:, [0, 1], [1, 2]|[[0, 1], [2, 0]], [1]|:, None, [0, 1]|None, [0, 1]
[0, 1], None|0, [1, 2]|1:, [0, 3], ::2|..., [0, 1]|[0, 1], ...|T.tensor([0, 1], dtype=T.int32)|T.tensor(0), [1, 2]
[0, 1], T.tensor(1)|(range(3), [1, 2, 3])|T.arange(60).reshape(3, 4, 5) % 3 == 0|T.arange(12).reshape(3, 4) % 2 == 0
:, T.tensor([True, False, True, True])|T.tensor([True, False, True]), :, [0, 1]|T.tensor([True, False, True]), 1
0, T.tensor([True, False, True, True])|[0, 2], T.tensor([True, False, False, True])|T.zeros(3, 4, 5, dtype=T.bool)
..., T.tensor([True, False, True, False, True])|[slice(0, 2), 1]|[[0, 1], [1, 0]]|[T.tensor([0, 1]), T.tensor([1, 1])]
slice(T.tensor(0), T.tensor(2))|[0, 1], [1, 2], None|[0, 1], None, [1, 2]|:, [[0], [1]], [0, 1]|True, [0, 1]
[0, 1], True
"""
ERRORS = """
3|-4|0, 4|0, 0, 5|0, 0, 0, 0|..., 0, 0, 0, 0|"a"|1.5|T.tensor(1.5)|T.tensor([1.0])|::-1|::0|T.tensor([3])
T.tensor([-4])|[0, 7]|:, [4]|T.tensor([True, False])|T.zeros(3, 5, dtype=T.bool)|:, T.tensor([True, False])
[0, 1], [0, 1, 2]|T.tensor([0], dtype=T.int16)|1.0:2|T.zeros(3, 4, 5, 1, dtype=T.bool)|object()|{}|T.tensor([0, 1]), 9
"""
# Writes: index = value; x is the tensor, w a tensor of (4, 5) that requires grad, n an int64 matrix, u a uint8 vector.
WRITES = """
x[0] = 1|x[0] = w|x[:, 1] = 2.5|x[0, 1, 2] = w[0, 0]|x[...] = w|x[:] = 3|x[()] = 4|x[1:] = w * 2|x[:, 1:3, 0] = w[0, 0]
x[None] = w|x[0, None] = w|x[::2, 1] = w[0]|x[True] = 5|x[False] = 5|x[[0, 2]] = w|x[[0, 2]] = 1
x[T.tensor([0, 2]), 1] = w[:2]|x[0, [1, 2]] = w[:2]|x[:, [0, 3]] = w[:2]|x[x > 0] = 0|x[x > 0] = w[0, 0]
x[T.tensor([True, False, True])] = w|x[0, T.tensor([True, False, True, False])] = w[:2]|x[[0, 1], [1, 2]] = w[:2]
x[[0, 1], :, [1, 2]] = w[:2, :4]|x[T.tensor(1)] = w|x[0] = w.reshape(1, 1, 4, 5)|x[[0, 1]] = w.reshape(1, 1, 4, 5)
x[0] = T.tensor(2)|x[0] = T.ones(4, 5)|x[0] = True|x[0] = x[1]|x[0] = x[0] * 2|x[:, 0] += 1|x[0] *= w|x[[0, 1]] += w
x[1, 2, 3] -= 1|x[0][1] = 7|x[0, 1:][0] = w[0]|x[range(2), [0, 1]] = 6|x[T.tensor([], dtype=T.int64)] = w
x[T.zeros(3, 4, 5, dtype=T.bool)] = 1|x.t_ = 1; x.view(12, 5)[3] = w[0]|x[..., 0] = w[:, 0]|x[-1, -1] = w[-1]
x[0, 0] = w[0]; x[0, 1] = x[0, 0] * 2; x[0] = x[0] + w|x[[0, 0]] = 2|x[:, 1:3] = x[:, 2:4] * 1|n[0] = 1.5
n[0] = T.tensor(2.7)|n[[0]] = 1.5|n[:, 0] = -n[:, 1]|u[0] = -1|u[0] = 200|u[:2] = u[1:3] * 2|n[n > 2] = 0
n[0] = w[0, :4]|x[0] = 1e300|n[1:] = T.tensor(True)
"""
WRONG_WRITES = """
x[0] = [1, 2]|x[0] = "a"|x[0] = None|x[0] = np.zeros(4)|x[0] = 1j|x[0] = w[:3]|x[0] = T.zeros(2, 4, 5)
x[[0, 1]] = T.zeros(2, 4, 5).float()|x[[0, 1]] = w[:3]|x[[0, 1]] = T.zeros(3, 2, 4, 5).double()|x[x > 100] = w[0]
x[x > -100] = w[0]|x[5] = 1|x[[5]] = 1|x[0, 0, 0, 0] = 1|n[0] = float("nan")|u[0] = 300|n[0] = 1j|x[::-1] = 1
x[1.5] = 1|x[T.tensor([True])] = 1|x[object()] = 1|leaf[0] = 1|leaf[[0]] = 1|leaf[:] = w
"""


def cells(table: str) -> list[str]:
    return [cell.strip() for line in table.strip().splitlines() for cell in line.split("|")]


def tensor(library: Any) -> Any:
    return library.tensor(np.random.default_rng(0).normal(size=(3, 4, 5))).requires_grad_()


def attempt(function: Any) -> Any:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return function()
        except Exception as error:
            return error


def weights(library: Any, y: Any) -> Any:
    return library.arange(1.0, y.numel() + 1, dtype=library.float64).reshape(y.shape)


@pytest.mark.parametrize("index", cells(READS))
def test_read(index: str) -> None:
    """Values, shapes, sharing of memory, and gradients of two orders."""
    found = []
    for library in LIBRARIES:
        x = tensor(library)
        y = attempt(lambda x=x, library=library: eval(f"x[{index}]", {"x": x, "T": library, "np": np}))
        (g,) = library.autograd.grad((y * y * weights(library, y)).sum(), x, create_graph=True)
        (gg,) = library.autograd.grad((g * weights(library, g)).sum(), x)
        found.append((y.detach().numpy(), g.detach().numpy(), gg.numpy(), y._base is x, y.is_contiguous()))
    for theirs, mine in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, strict=True)


@pytest.mark.parametrize("index", cells(ERRORS))
def test_wrong_read(index: str) -> None:
    """The exception's type and the beginning of its text."""
    theirs, mine = [
        attempt(lambda library=library: eval(f"x[{index}]", {"x": tensor(library), "T": library, "np": np}))
        for library in LIBRARIES
    ]
    assert isinstance(theirs, Exception) and isinstance(mine, type(theirs)), (theirs, mine)
    if isinstance(theirs, (IndexError, ValueError)):
        # torch counts the dimension among those that are indexed by arrays
        assert str(mine).partition(" for dimension")[0][:70] == str(theirs).partition(" for dimension")[0][:70]


def write(library: Any, statement: str, requires_grad: bool) -> Any:
    """(x after the statement, gradients of the leaf, of w, and of what x was; n; u)."""
    leaf = tensor(library)
    w = library.tensor(np.random.default_rng(1).normal(size=(4, 5)))
    names: dict[str, Any] = {"T": library, "np": np, "leaf": leaf, "w": w}
    names["n"], names["u"] = library.arange(12).reshape(3, 4), library.arange(4, dtype=library.uint8)
    if requires_grad:
        w.requires_grad_()
        x = leaf * 1
    else:
        x = leaf.detach().clone()
    names["x"] = x
    exec(statement, names)
    x = names["x"]
    if not requires_grad:
        return [x, names["n"], names["u"], x._version if "False" not in statement else 0]
    (x * x * weights(library, x)).sum().backward()
    return [x, leaf.grad, w.grad if w.grad is not None else leaf.grad * 0, names["n"], names["u"]]


@pytest.mark.parametrize("requires_grad", [True, False], ids=["recorded", "plain"])
@pytest.mark.parametrize("statement", cells(WRITES))
def test_write(statement: str, requires_grad: bool) -> None:
    """The tensor after the write, and gradients through it."""
    if "n[0] = w" in statement and requires_grad:
        pytest.skip("an integer tensor cannot take part in a graph")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = [write(library, statement, requires_grad) for library in LIBRARIES]
    for theirs, mine in zip(*found, strict=True):
        if isinstance(theirs, int):
            assert mine == theirs
        else:
            assert str(mine.dtype) == str(theirs.dtype)
            np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=1e-12, strict=True)


@pytest.mark.parametrize("statement", cells(WRONG_WRITES))
def test_wrong_write(statement: str) -> None:
    """The exception's type, and the beginning of the text of index and shape errors; nothing was written."""
    found = []
    for library in LIBRARIES:
        leaf = tensor(library)
        x = leaf.detach().clone()
        before = x.clone()
        names = {
            "T": library, "np": np, "x": x, "leaf": leaf, "w": leaf.detach()[0].clone(),
            "n": library.arange(12).reshape(3, 4), "u": library.arange(4, dtype=library.uint8),
        }  # fmt: skip
        found.append(attempt(lambda names=names: exec(statement, names)))
        assert x.tolist() == before.tolist()
    theirs, mine = found
    assert isinstance(theirs, Exception) and isinstance(mine, type(theirs)), (theirs, mine)
    if isinstance(theirs, (IndexError, RuntimeError)) and "leaf" not in statement:
        assert str(mine)[:60] == str(theirs)[:60]


def some_index(rng: np.random.Generator, shape: tuple[int, ...], library: Any, draw: list[Any]) -> tuple[Any, ...]:
    """A random tuple of index items for a tensor of that shape, replayed from `draw` for the second library."""
    items: list[Any] = []
    for kind, value in draw:
        if kind == "array":
            items.append(library.tensor(value))
        elif kind == "slice":
            items.append(slice(*value))
        else:
            items.append(value)
    return tuple(items)


def draw_index(rng: np.random.Generator, shape: tuple[int, ...]) -> list[Any]:
    found: list[Any] = []
    lead = [(), (2,), (2, 1), (3,), (1, 3)][int(rng.integers(5))]
    dim = 0
    while dim < len(shape):
        n = shape[dim]
        kind = rng.choice(
            ["int", "slice", "array", "none", "mask", "bool", "stop", "ellipsis"],
            p=[0.2, 0.25, 0.2, 0.1, 0.1, 0.03, 0.07, 0.05],
        )
        if kind == "none":
            found.append(("plain", None))
            continue
        if kind == "bool":
            found.append(("plain", True))
            continue
        if kind == "stop" or (kind == "ellipsis" and any(v is Ellipsis for _, v in found)):
            break
        if kind == "ellipsis":
            found.append(("plain", Ellipsis))
            dim += int(rng.integers(1, 3))
            continue
        if kind == "int":
            found.append(("plain", int(rng.integers(-n, n))))
        elif kind == "slice":
            a, b = sorted(int(v) for v in rng.integers(-n, n + 2, 2))
            found.append(("slice", (a, b, int(rng.integers(1, 3)))))
        elif kind == "mask":
            mask = np.zeros(n, bool)
            size = int(np.prod(lead)) if len(lead) == 1 else 1
            mask[rng.choice(n, min(size, n), replace=False)] = True
            found.append(("array", mask))
        else:
            found.append(("array", rng.integers(-n, n, lead)))
        dim += 1
    return found


@pytest.mark.parametrize("seed", range(150))
def test_random_indices(seed: int) -> None:
    """Random mixtures of items: what torch gives, with gradients; where torch raises, the same exception."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(2, 5, int(rng.integers(1, 5))))
    draw, values = draw_index(rng, shape), rng.normal(size=shape)
    found = []
    for library in LIBRARIES:
        x = library.tensor(values).requires_grad_()
        index = some_index(rng, shape, library, draw)
        y = attempt(lambda x=x, index=index: x[index])
        if isinstance(y, Exception):
            found.append([type(y)])
            continue
        (y * weights(library, y)).sum().backward(retain_graph=True)
        z = library.zeros(shape, dtype=library.float64)
        z[index] = y.detach() * 2
        z[index] = 3.0
        w = x * 1
        w[index] = y * 2
        (w * w).sum().backward()
        found.append([y.detach().numpy(), x.grad.numpy(), z.numpy(), w.detach().numpy()])
    for theirs, mine in zip(*found, strict=True):
        if isinstance(theirs, np.ndarray):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, strict=True)
        else:
            assert mine is theirs, (draw, shape)


def test_uint8_index_warns() -> None:
    """A byte tensor is a mask, as PyTorch still takes it, with its warning."""
    torch = tapegrad
    with pytest.warns(UserWarning, match="indexing with dtype torch.uint8 is now deprecated"):
        assert torch.arange(3.0)[torch.tensor([1, 0, 1], dtype=torch.uint8)].tolist() == [0.0, 2.0]


def test_rows_of_a_table_are_summed() -> None:
    """Gradients of a lookup with many repetitions, in long and short rows, equal one-hot matrix products."""
    rng = np.random.default_rng(0)
    for width in (1, 5, 40):
        for rows in (np.zeros(50, np.int64), rng.integers(0, 7, 200), rng.integers(-7, 7, (10, 3)), rng.permutation(7)):
            table = tapegrad.tensor(rng.normal(size=(7, width)), requires_grad=True)
            g = rng.normal(size=(*rows.shape, width))
            table[tapegrad.tensor(rows)].backward(tapegrad.tensor(g))
            expected = np.eye(7)[rows.reshape(-1)].T @ g.reshape(-1, width)
            np.testing.assert_allclose(table.grad.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_other_device() -> None:
    """Index tensors on the CPU may index tensors elsewhere; results stay there."""
    registry = pytest.importorskip("tapegrad.backends.registry")
    backend = registry.load("fake")
    from tapegrad.autograd.tensor import wrap

    x = wrap(backend.asarray(np.arange(12.0).reshape(3, 4)))
    for index in (tapegrad.tensor([0, 2]), [0, 2], tapegrad.tensor([True, False, True])):
        y = x[index]
        assert y.device.type == "fake" and y.shape == (2, 4)
    x[tapegrad.tensor([0])] = 5.0
    x[1, 1:] = 6.0
    assert backend.to_numpy(x.array)[0].tolist() == [5.0] * 4 and backend.to_numpy(x.array)[1, 1] == 6.0
