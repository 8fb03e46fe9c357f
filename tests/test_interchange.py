"""NumPy, DLPack, copies, pickles, subclasses and what may be assigned to a tensor: beside PyTorch, and without it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tapegrad
from both import Programs, cells, check, kind, said

program = Programs()


@pytest.fixture(autouse=True)
def on_the_cpu() -> Iterator[None]:
    """What is compared here is the host's: memory shared with NumPy, names of types, default devices."""
    with tapegrad.device("cpu"):
        yield


# x: float64 (2, 3), i: int64 (3,), z: 0-d float32, r: float32 (2,) requiring grad; a: ndarray of float64, n: of int64
WITH_NUMPY = """
np.sin(x) | np.add(x, 1) | np.add(x, x) | np.multiply(a, x[0]) | np.exp(z) | np.sqrt(i) | np.maximum(x, 2)
np.abs(-x) | np.dot(x[0], a) | np.matmul(x, a)
np.asarray(x) | np.array(x) | np.asarray(i, dtype=np.float32) | np.asarray(x, dtype="i4") | np.array([z, z])
np.array(z) | np.stack([x[0], x[1]]) | np.concatenate([x[0], a]) | np.asarray(r) | np.asarray(r.detach())
np.array(x, copy=True)
x * a | x + a | x[0] * a | a * x[0] | a + x | a - x[0] | x[0] ** a | a ** x[0] | x @ a | a @ x[0]
x[0] < a | a < x[0] | a == x[0] | x[0] == a | i + n | n + i | i * a | a * i | a // x[0] | a % x[0] | n & i | i & n
x * np.float64(2) | np.float64(2) * x | x + np.int64(1) | np.float32(2) * x | np.float64(2) - x | np.float64(2) / x
np.float64(2) ** x | np.int64(2) * i | i * np.int64(2) | np.float64(2) < x
np.float64(2) * z | z * np.float64(2) | np.float64(1.5) * i
x.__array__().dtype | x.__array__(np.float32).dtype | np.isnan(x) | np.allclose(x, x.numpy())
np.testing.assert_allclose(x, x) | np.linalg.norm(x) | np.zeros_like(x) | np.shape(x) | np.ndim(x)
np.transpose(x) | np.where(x > 1, 1, 0) | np.argmax(x) | np.sort(x) | np.unique(i)
a[i] | a[T.tensor(1)] | a[i > 0] | np.arange(10)[T.tensor([1, 2])] | list(a[:2]) == list(T.tensor(a)[:2])
T.tensor(a)[np.array([0, 2])] | T.tensor(a)[np.int64(1)] | T.tensor(a)[n > 0] | np.add.reduce(x)
np.add(x, 1, out=np.zeros((2, 3))) | np.multiply.outer(a, i)
float(np.asarray(z)) | z.numpy().shape | isinstance(z.numpy(), np.ndarray) | z.numpy()[()] | type(z.item()).__name__
np.float32(z) | np.array(x.tolist()) | x.numpy().flags.writeable | x.numpy().strides | x.t().numpy().strides
x[:, 1:].numpy().base is not None | T.zeros(0).numpy().shape
np.array([T.tensor(1), T.tensor(2)]) | np.asarray([x[0], x[1]]).shape | np.fromiter(i, int)
np.broadcast_to(z, (2,)) | sum(i) | max(i) | min(x[0]) | sorted(x[0]) | [float(v) for v in x[0]] | np.full((2,), z)
np.linspace(T.tensor(0.0), T.tensor(1.0), 3) | np.interp(1.5, i, a)
"""
INPUTS: dict[str, Any] = {
    "x": lambda T: T.tensor(np.arange(6.0).reshape(2, 3)),
    "i": lambda T: T.tensor([1, 2, 0]),
    "z": lambda T: T.tensor(1.5),
    "r": lambda T: T.tensor([1.0, 2.0], requires_grad=True),
    "a": lambda T: np.array([1.0, 2.0, 3.0]),
    "n": lambda T: np.array([3, 2, 1]),
}


@pytest.mark.parametrize("text", cells(WITH_NUMPY))
def test_with_numpy(text: str) -> None:
    check(text, length=0, rtol=1e-7, **INPUTS)


@program
def memory_is_shared_both_ways(T):
    a = np.zeros(3)
    t = T.from_numpy(a)
    t[0] = 1
    a[1] = 2
    t.add_(1)
    b = t.numpy()
    b[2] = 9
    np.asarray(t)[0] = 7
    v = t[1:].numpy()
    v[0] = -1
    w = T.as_tensor(a)
    w[1] = 4
    c = T.tensor(a)
    c[0] = 100
    np.multiply(a, 2, out=a)
    return [a, t, w, c, b is not a, T.from_numpy(a[::2])]


@program
def layouts(T):
    a = np.arange(12.0).reshape(3, 4)
    f = np.asfortranarray(a)
    t, u = T.from_numpy(a[::2, 1:]), T.from_numpy(f)
    t.mul_(2)
    return [
        a,
        t.stride(),
        t.is_contiguous(),
        u.stride(),
        u.t().is_contiguous(),
        u.numpy().flags.f_contiguous,
        t.t().numpy(),
    ]


@program
def read_only_arrays(T):
    a = np.arange(3.0)
    a.flags.writeable = False
    t = T.from_numpy(a)
    return [t + 1, T.tensor(a), T.as_tensor(a) * 2]


@program
def gradients_after_sharing(T):
    a = np.array([1.0, 2.0])
    x = T.from_numpy(a).requires_grad_()
    y = (x * x).sum()
    y.backward()
    a += 1
    return [x, x.grad]


@program
def through_dlpack(T):
    a = np.arange(6.0).reshape(2, 3)
    t = T.from_dlpack(a)
    t[0, 0] = 9
    b = np.from_dlpack(t)
    b[1, 1] = -1
    found = [t, a, t.dtype, T.from_dlpack(a[:, ::2]), T.from_dlpack(np.float32(2) * np.ones(2, "f4"))]
    found += [t.__dlpack_device__()[1], said(np.from_dlpack, T.ones(2, requires_grad=True), length=30)]
    found += [T.from_dlpack(T.arange(3)), np.from_dlpack(T.arange(3)), np.from_dlpack(T.tensor([True, False]))]
    found += [kind(T.from_dlpack, [1, 2]), T.utils.dlpack.from_dlpack(T.utils.dlpack.to_dlpack(T.ones(2)))]
    return found


# ---- copies ----------------------------------------------------------------------------------------------------------


@program
def deepcopies(T):
    x = T.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    y = copy.deepcopy(x)
    y.data.add_(1)
    y.grad.add_(1)
    c = copy.deepcopy({"a": x, "b": [x, x[0].detach()]})
    return [
        x,
        x.grad,
        y,
        y.grad,
        y.is_leaf,
        c["a"] is c["b"][0],
        c["a"] is x,
        said(copy.deepcopy, x * 2),
        copy.deepcopy(T.ones(2) * 2),
        copy.deepcopy(T.tensor(3)),
        copy.deepcopy(T.zeros(0)),
    ]


@program
def deepcopies_share_what_was_shared(T):
    x = T.arange(6.0)
    views = [x, x[1:3], x.view(2, 3), x.view(2, 3).t(), x[::2], x.detach(), x[5]]
    copied = copy.deepcopy(views)
    copied[0].mul_(10)
    return [copied, x, [c.stride() for c in copied], copied[3].is_contiguous(), [c.storage_offset() for c in copied]]


@program
def shallow_copies(T):
    x = T.tensor([1.0, 2.0], requires_grad=True)
    x.note = "kept"
    y = copy.copy(x)
    with T.no_grad():
        y.add_(1)
    h = x * 2
    return [
        y is x,
        x,
        y,
        y.requires_grad,
        getattr(y, "note", None),
        copy.copy(h),
        copy.copy(h).is_leaf,
        copy.copy(T.ones(2)),
    ]


@program
def attributes_survive(T):
    x = T.tensor([1.0, 2.0])
    x.note, x.other = "kept", [1, T.ones(1)]
    found = []
    for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        found += [y, getattr(y, "note", None), getattr(y, "other", None), y.other is x.other]
    p = T.nn.Parameter(T.ones(2))
    p.sharded = True
    q = copy.deepcopy(p)
    return [
        *found,
        hasattr(x.clone(), "note"),
        hasattr(x.detach(), "note"),
        type(q).__name__,
        getattr(q, "sharded", None),
        q,
    ]


@program
def pickles(T):
    found = []
    x = T.tensor([1.0, 2.0], requires_grad=True)
    (x * 2).sum().backward()
    values = [
        x,
        T.arange(6).view(2, 3).t(),
        T.tensor(True),
        T.zeros(0, 3),
        T.tensor([1j]),
        T.ones(2, dtype=T.float16),
        T.ones(2, dtype=T.bfloat16),
    ]
    values += [
        T.nn.Parameter(T.ones(2)),
        T.nn.Parameter(T.ones(2), requires_grad=False),
        T.Size([1, 2]),
        T.float32,
        T.device("cpu"),
        {"a": [T.ones(1)]},
    ]
    for value in values:
        for protocol in (2, pickle.HIGHEST_PROTOCOL):
            back = pickle.loads(pickle.dumps(value, protocol))
            found += [back, type(back).__name__, getattr(back, "grad", None)]
    return [*found, pickle.loads(pickle.dumps(x * 2)), pickle.loads(pickle.dumps((x * 2).detach()))]


@program
def pickles_of_views_are_apart_or_together(T):
    x = T.arange(6.0)
    a, b = pickle.loads(pickle.dumps([x, x[1:3]]))
    return [a, b]


# ---- subclasses ------------------------------------------------------------------------------------------------------


def _subclass(T: Any) -> Any:
    class Mine(T.Tensor):
        def double(self):
            return self * 2

        @property
        def first(self):
            return self[0]

    return Mine


@program
def subclasses(T):
    Mine = _subclass(T)
    m = Mine([1.0, 2.0])
    found = [type(m).__name__, isinstance(m, T.Tensor), m.double().tolist(), m.first.item(), m.shape, m.requires_grad]
    m.requires_grad_()
    (m * m).sum().backward()
    a = T.ones(2).as_subclass(Mine)
    return [
        *found,
        m.grad.tolist(),
        type(a).__name__,
        a.double().tolist(),
        repr(Mine([1.0])).replace(" ", ""),
        Mine(2, 3).shape,
    ]


@program
def subclass_made_of_a_tensor(T):
    class Wrapped(T.Tensor):
        @staticmethod
        def __new__(cls, data, note="", *args, **kwargs):
            return T.Tensor._make_subclass(cls, data)

        def __init__(self, data, note=""):
            self.note = note

    w = Wrapped(T.ones(2), "hello")
    w2 = T.Tensor._make_subclass(Wrapped, T.ones(2), True)
    return [type(w).__name__, w.note, w.tolist(), w.requires_grad, w2.requires_grad, (w + 1).tolist()]


@program
def parameters(T):
    x = T.ones(2)
    p = T.nn.Parameter(x)
    p.data.add_(1)
    q = T.nn.Parameter(T.ones(2, dtype=T.int64), requires_grad=False)

    class Named(T.nn.Parameter):
        pass

    n = Named(T.ones(1))
    return [
        x,
        p,
        type(p).__name__,
        type(p.detach()).__name__,
        type(p + 1).__name__,
        type(p.data).__name__,
        p.is_leaf,
        q,
        repr(p),
        repr(n).split("\n")[0],
        isinstance(n, T.nn.Parameter),
        kind(T.nn.Parameter, T.ones(2, dtype=T.int64)),
        T.nn.Parameter(),
        type(p.clone()).__name__,
        type(copy.deepcopy(n)).__name__,
        isinstance(p, T.nn.Parameter),
        T.nn.Parameter(p) is p,
    ]


# ---- what may be assigned --------------------------------------------------------------------------------------------


@program
def data_assigned(T):
    x = T.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    x.data = T.tensor([3.0, 4.0])
    z = (x * x).sum()
    z.backward()
    found = [x, x.grad, x.is_leaf, x.requires_grad]
    x.grad = None
    x.data = T.ones(3)
    found += [x, x.shape]
    w = T.ones(2)
    other = T.zeros(2)
    w.data = other
    other.add_(5)
    found += [w, y.detach()]
    return [*found, kind(setattr, w, "data", 3), kind(setattr, w, "data", None), kind(setattr, x, "data", np.ones(2))]


@program
def data_of_another_dtype_assigned(T):
    x = T.tensor([1.0, 2.0], requires_grad=True)
    x.data = T.tensor([1.0, 2.0], dtype=T.float64)
    c = T.ones(2)
    c.data = T.ones(2, dtype=T.int64)
    return [x, c, kind(setattr, x, "data", T.ones(2, dtype=T.int64)), x.dtype]


@program
def data_of_a_view_assigned(T):
    base = T.zeros(4)
    v = base[:2]
    v.data = T.ones(2)
    v.add_(1)
    return [base, v]


@program
def grad_assigned(T):
    x = T.tensor([1.0, 2.0], requires_grad=True)
    g = T.ones(2)
    x.grad = g
    (x * 2).sum().backward()
    found = [x.grad, x.grad is g, g]
    for wrong in (T.ones(3), T.ones(2, dtype=T.float64), 3, "a", x, T.ones(1, 2), np.ones(2), T.ones(2, dtype=T.int64)):
        found.append(said(setattr, x, "grad", wrong, length=44))
    x.grad = None
    del x.grad
    c = T.ones(2)
    c.grad = T.ones(2)
    h = x * 2
    h.grad = T.ones(2)
    return [*found, x.grad, c.grad, h.grad]


@program
def grad_is_written_in_place(T):
    x = T.tensor([1.0, 2.0], requires_grad=True)
    (x * 2).sum().backward()
    first = x.grad
    (x * 3).sum().backward()
    x.grad.zero_()
    x.grad += 1
    x.grad[0] = 5
    return [x.grad is first, first, x.grad]


@program
def requires_grad_switched(T):
    x = T.ones(2)
    h = x.requires_grad_() * 2
    x.requires_grad = False
    k = x * 2
    found = [h.requires_grad, k.requires_grad, x.requires_grad]
    h.sum().backward()
    found += [x.grad, h.requires_grad_() is h, said(h.requires_grad_, False), said(setattr, h, "requires_grad", False)]
    with T.no_grad():
        q = T.ones(2, requires_grad=True)
        found += [q.requires_grad, (q * 2).requires_grad, T.ones(1).requires_grad_().requires_grad]
    found += [
        kind(T.ones(2, dtype=T.int64).requires_grad_),
        kind(setattr, T.tensor(True), "requires_grad", True),
        kind(setattr, x, "requires_grad", 3),
    ]
    x.detach_()
    h.detach_()
    return [*found, h.is_leaf, h.requires_grad, T.ones(2).requires_grad_(False).requires_grad]


@program
def what_cannot_be_assigned(T):
    x = T.ones(2)
    words = "shape dtype device is_leaf grad_fn ndim T _version output_nr".split()
    found = {w: kind(setattr, x, w, None) for w in words}
    x.anything = 3
    x.names_of_mine = [1]
    return [found, x.anything, vars(x), "anything" in dir(x), kind(getattr, x, "nothing")]


@pytest.mark.parametrize("name", program)
def test_program(name: str) -> None:
    """Values, sharing, flags and exceptions are torch's."""
    program.check(name)


# ---- with torch beside, in one program -------------------------------------------------------------------------------


def test_dlpack_between_the_libraries_shares_memory() -> None:
    real = pytest.importorskip("torch")
    for dtype in ("float32", "float64", "int64", "uint8", "complex64", "float16", "bool"):
        there = real.ones(2, 3).to(getattr(real, dtype))
        here = tapegrad.from_dlpack(there)
        assert repr(here.dtype) == repr(there.dtype) and here.shape == tuple(there.shape)
        here[0, 0] = 0
        assert there[0, 0].item() == 0
        back = real.from_dlpack(here)
        back[1, 2] = 0
        assert here[1, 2].item() == 0
    t = tapegrad.arange(6.0).view(2, 3).t()
    assert real.from_dlpack(t).stride() == t.stride()


def test_what_has_no_memory_on_a_gpu_says_so() -> None:
    """hasattr is False, and the words are torch's."""
    real = pytest.importorskip("torch")
    said = []
    for T in (real, tapegrad):
        for t in (T.ones(2), T.ones(2, dtype=T.int64), T.ones(2, requires_grad=True), T.eye(2).to_sparse()):
            assert not hasattr(t, "__cuda_array_interface__")
            with pytest.raises(AttributeError) as caught:
                t.__cuda_array_interface__  # noqa: B018
            said.append(str(caught.value))
    assert said[:4] == said[4:]


def test_dlpack_of_the_cpu_knows_no_stream() -> None:
    t = tapegrad.ones(2)
    for stream in (-1, None, 1):
        assert t.__dlpack__(stream=stream) is not None
    with pytest.raises(TypeError, match="stream must be"):
        t.__dlpack__(stream=1.5)
    assert t.__dlpack_device__() == (1, 0) and np.from_dlpack(t).tolist() == [1, 1]


def test_tensors_of_the_other_library_as_data() -> None:
    real = pytest.importorskip("torch")
    there = real.arange(3.0)
    assert tapegrad.from_numpy(there.numpy()).tolist() == [0.0, 1.0, 2.0]
    assert real.tensor(tapegrad.arange(3.0).numpy()).tolist() == [0.0, 1.0, 2.0]


# ---- without torch ---------------------------------------------------------------------------------------------------


def test_pickle_holds_only_the_view() -> None:
    """A small view of a large tensor is a small pickle."""
    T = tapegrad
    assert len(pickle.dumps(T.zeros(100_000)[:2])) < 1000


def test_deepcopy_of_a_large_shared_memory_copies_it_once() -> None:
    T = tapegrad
    x = T.zeros(1000)
    copied = copy.deepcopy([x, *[x[i:] for i in range(10)]])
    copied[0].fill_(3)
    assert all(c[0].item() == 3 for c in copied)
    assert x.sum().item() == 0


def test_numpy_of_another_device_is_refused() -> None:
    T = tapegrad
    t = T.ones(2, device="fake")
    with pytest.raises(TypeError, match="can't convert fake.* device type tensor to numpy. Use Tensor.cpu()"):
        t.numpy()
    assert t.numpy(force=True).tolist() == [1.0, 1.0]


def test_subclass_of_a_subclass_survives_copies() -> None:
    Mine = _subclass(tapegrad)
    m = Mine([1.0, 2.0])
    assert type(copy.deepcopy(m)) is Mine and copy.deepcopy(m).double().tolist() == [2.0, 4.0]
