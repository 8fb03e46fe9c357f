"""Convolution and attention through cuDNN, and without it, on machines that have no GPU.

A stand-in for cuDNN (tests/cudnn_stand_in.py) computes each graph from the sizes, strides and addresses that it is
given; the same calls on CuPy's own arrays, which need no GPU as long as nobody looks into their memory, are recorded.
The real library's word on the graphs is asked by `make cudnn-check`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ml_dtypes")
import cuda_on_cpu as emulation
import ml_dtypes
import tapegrad as torch
from cudnn_stand_in import Frontend
from records import conv as reference
from records.conv import CASES
from tapegrad.autograd.op import load_late, raw_namespace
from tapegrad.backends import cuda, registry
from tapegrad.backends import cudnn as settings
from tapegrad.backends.cupy import attention_kernels, compile, conv_kernels, cudnn, launch, memory
from tapegrad.backends.cupy.kernels import KERNELS
from tapegrad.nn.attention import SDPBackend, sdpa_kernel

load_late()
GENERIC = registry.load("fake")
DTYPES = {"f4": np.dtype("f4"), "f8": np.dtype("f8"), "f2": np.dtype("f2"), "bf": np.dtype(ml_dtypes.bfloat16)}
TOLERANCE = {"f4": 1e-6, "f8": 1e-12, "f2": 1e-3, "bf": 8e-3}
compiles = pytest.mark.skipif(emulation.COMPILER is None, reason="no C++ compiler (g++, or CXX) is installed")


class WithCuda(emulation.Memory):
    cuda: Any


class Machine(emulation.CpuMachine):
    """The emulating machine, and a cuDNN."""

    capture = False
    number = 0

    def __init__(self, frontend: Frontend):
        super().__init__()
        self.xp = WithCuda()
        self.xp.cuda = frontend.cuda()

    def capturing(self) -> bool:
        return self.capture

    def device(self) -> int:
        return self.number

    def link(self, source: str, expression: str) -> Any:
        """Without a compiler, what `turn` does."""
        if emulation.COMPILER or not expression.startswith("turn<"):
            return super().link(source, expression)

        def turn(grid: Any, block: Any, arguments: Any) -> None:
            x, y, rows, columns, *_ = arguments
            target = np.asarray(emulation.Unowned(self.pointer(y), y.nbytes)).view(y.dtype)
            source = np.asarray(emulation.Unowned(self.pointer(x), x.nbytes)).view(x.dtype)
            target.reshape(-1, columns, rows)[...] = source.reshape(-1, rows, columns).swapaxes(1, 2)

        return turn

    def other_launches(self) -> list[str]:
        """Launches but of `turn`."""
        return [name for name, *_ in self.launched if not name.startswith("turn<")]


@pytest.fixture
def frontend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Frontend]:
    yield from installed(Frontend(), monkeypatch)


def installed(made: Frontend, monkeypatch: pytest.MonkeyPatch) -> Iterator[Frontend]:
    monkeypatch.setattr(cudnn, "load", lambda: made)
    before = getattr(launch._current, "machine", None)
    launch.use(Machine(made))
    with settings.flags(enabled=True):
        yield made
    if before is not None:
        launch.use(before)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[emulation.CpuMachine]:
    """The emulating machine without cuDNN."""
    before = getattr(launch._current, "machine", None)
    machine = emulation.CpuMachine()
    launch.use(machine)
    yield machine
    if before is not None:
        launch.use(before)


def machine() -> Any:
    return launch.current()


# ---- how arrays may lie


def row_major(x: Any) -> Any:
    made = machine().xp.empty(x.shape, x.dtype)
    made[...] = x
    return made


def channels_last(x: Any) -> Any:
    return np.moveaxis(row_major(np.moveaxis(x, 1, -1)), -1, 1)


def off_16(x: Any) -> Any:
    """A view that begins an element behind a multiple of 16 bytes."""
    flat = machine().xp.empty((x.size + 1,), x.dtype)[1:]
    flat[...] = x.ravel()
    return flat.reshape(x.shape)


def flipped(x: Any) -> Any:
    return row_major(x[..., ::-1])[..., ::-1]


def off_16_last(x: Any) -> Any:
    return np.moveaxis(off_16(np.moveaxis(x, 1, -1)), -1, 1)


LIES = {f.__name__: f for f in (row_major, channels_last, off_16, flipped, off_16_last)}
KEPT = [c for c in CASES if c[0][0]]  # with images


def near(found: Any, expected: Any, dtype: str, factor: float = 1.0) -> None:
    assert found.dtype == DTYPES[dtype] and found.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max()))
    t = TOLERANCE[dtype] * factor
    np.testing.assert_allclose(np.asarray(found, "f8"), expected, rtol=t, atol=t * scale)


def operands(case: Any, dtype: str) -> tuple[list[Any], dict[str, Any]]:
    """(x, w, b, bias of x, g) of that dtype, and the keywords."""
    x, w, kw = case
    rng, shapes = np.random.default_rng(3), (x, w, w[:1], x[1:2], reference.out_shape(x, w, kw))
    return [rng.standard_normal(s).astype(DTYPES[dtype]) for s in shapes], kw


def results(x: Any, w: Any, b: Any, bx: Any, g: Any, kw: Any, call: Any) -> list[Any]:
    return [
        call("conv", x, w, b, **kw), call("conv", x, w, None, **kw), call("conv_input", g, w, bx, shape=x.shape, **kw),
        call("conv_weight", x, g, shape=w.shape, **kw),
    ]  # fmt: skip


def expectations(arrays: list[Any], kw: Any) -> list[Any]:
    return results(*[a.astype("f8") for a in arrays], kw, lambda op, *a, **k: getattr(reference, op)(*a, **k))


# ---- convolution


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", KEPT, ids=str)
def test_convolutions(case: Any, dtype: str, lie: str, frontend: Frontend) -> None:
    arrays, kw = operands(case, dtype)
    laid = [LIES[lie](a) if a.ndim > 2 else row_major(a) for a in arrays]
    found = results(*laid, kw, lambda op, *a, **k: KERNELS[op](*a, **k))
    assert len(frontend.executed) == 4 and not machine().other_launches()
    x, w, _, _, g = laid
    pairs = (x, w), (x, w), (g, w), (x, g)
    for f, e, pair in zip(found, expectations(arrays, kw), pairs, strict=True):
        near(f, e, dtype, 4)
        last = x.ndim > 3 and any(not a.flags.c_contiguous and np.moveaxis(a, 1, -1).flags.c_contiguous for a in pair)
        assert np.moveaxis(f, 1, -1).flags.c_contiguous if last else f.flags.c_contiguous


@compiles
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_images_are_turned(dtype: str, without: Any) -> None:
    """From either layout to the other, through whole tiles and their rests."""
    rng = np.random.default_rng(4)
    for shape in [(1, 1, 3, 5), (2, 3, 1, 1), (3, 33, 8, 9), (2, 64, 4, 8), (1, 5, 2, 3, 40), (4, 40, 70)]:
        x = rng.standard_normal(shape).astype(DTYPES[dtype])
        for lie, last in [(row_major, True), (channels_last, False)]:
            without.launched.clear()
            without.descending = last  # the order in which a block's threads run
            found = conv_kernels.laid(lie(x), last)
            without.descending = not last
            assert (conv_kernels.laid(lie(x), last) == x).all()
            assert (found == x).all() and conv_kernels.dense(found.shape, found.strides, found.itemsize, last)
            alike = conv_kernels.dense(lie(x).shape, lie(x).strides, x.itemsize, last)
            assert [name.partition("<")[0] for name, *_ in without.launched] == ["turn"] * 2 * (not alike)
        for lie in (off_16, flipped, off_16_last):
            for last in (False, True):
                found = conv_kernels.laid(lie(x), last)
                assert (found == x).all() and conv_kernels.dense(found.shape, found.strides, found.itemsize, last)


def test_the_layout_of_a_result(frontend: Frontend) -> None:
    """PyTorch's rule: one operand with its channels side by side is enough, and (N, C, L) never is."""
    (x, w, _, _, _), kw = operands(((2, 3, 5, 6), (4, 3, 3, 2), reference.geometry((1, 1), (1, 0), (1, 1))), "f2")
    for lx, lw, last in [(0, 0, False), (1, 0, True), (0, 1, True), (1, 1, True)]:
        lies = row_major, channels_last
        out = KERNELS["conv"](lies[lx](x), lies[lw](w), **kw)
        assert out.flags.c_contiguous != last
        image, weight, *_ = frontend.executed[-1][0].tensors
        assert (image.stride[1] == weight.stride[1] == 1) == last
    flat = {"stride": (1,), "padding": (1,), "dilation": (1,), "groups": 1}
    out = KERNELS["conv"](channels_last(x[:, :, 0]), row_major(w[:, :, 0, :]), **flat)
    assert out.flags.c_contiguous and frontend.executed[-1][0].tensors[0].dim == [2, 3, 1, 6]


def test_a_bias_that_cudnn_does_not_fuse(frontend: Frontend) -> None:
    arrays, kw = operands(KEPT[2], "f4")
    frontend.refuses = lambda graph: any(t.uid == 4 for t in graph.tensors)
    found = results(*map(row_major, arrays), kw, lambda op, *a, **k: KERNELS[op](*a, **k))
    assert len(frontend.executed) == 4
    for f, e in zip(found, expectations(arrays, kw), strict=True):
        near(f, e, "f4", 4)
    assert ["told to refuse" in reason for reason in launched_library().refused().values()] == [True]


def launched_library() -> cudnn.Library:
    found = cudnn.library()
    assert found is not None
    return found


@compiles
def test_what_cudnn_refuses_goes_by_columns(frontend: Frontend) -> None:
    frontend.refuses = lambda graph: True
    arrays, kw = operands(KEPT[3], "f2")
    for _ in range(2):
        found = results(*map(row_major, arrays), kw, lambda op, *a, **k: KERNELS[op](*a, **k))
        for f, e in zip(found, expectations(arrays, kw), strict=True):
            near(f, e, "f2", 4)
    assert not frontend.executed and machine().other_launches() and len(launched_library().refused()) == 4
    with settings.flags(enabled=False):
        frontend.refuses = lambda graph: False
        KERNELS["conv"](row_major(arrays[0]), row_major(arrays[1]), **kw)
        assert not frontend.graphs


def test_what_is_not_a_float_is_left_to_the_generic_form(frontend: Frontend) -> None:
    x, w, kw = KEPT[2]
    for dtype in ("i8", "c8"):
        arrays = [np.ones(s, dtype) for s in (x, w, reference.out_shape(x, w, kw))]
        assert KERNELS["conv"](*arrays[:2], **kw) is NotImplemented
        assert KERNELS["conv_input"](arrays[2], arrays[1], shape=x, **kw) is NotImplemented
        assert KERNELS["conv_weight"](arrays[0], arrays[2], shape=w, **kw) is NotImplemented
    assert KERNELS["conv"](np.ones(x, "f4"), np.ones(w), **kw) is NotImplemented
    assert KERNELS["conv"](np.ones((0, *x[1:]), "f4"), np.ones(w, "f4"), **kw) is NotImplemented


@compiles
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", KEPT, ids=str)
def test_by_columns(case: Any, dtype: str, without: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All images at once, one image at a time, and as they lie."""
    arrays, kw = operands(case, dtype)
    for most, lie in [(conv_kernels.COLUMNS, row_major), (1, channels_last)]:
        monkeypatch.setattr(conv_kernels, "COLUMNS", most)
        laid = [lie(a) if a.ndim > 2 else row_major(a) for a in arrays]
        found = results(*laid, kw, lambda op, *a, **k: KERNELS[op](*a, **k))
        for f, e in zip(found, expectations(arrays, kw), strict=True):
            near(f, e, dtype, 4)
            assert f.flags.c_contiguous
    names = {name.partition("<")[0] for name, *_ in without.launched}
    assert names <= {"gemm", "im2col", "col2im"} and {"gemm", "col2im"} <= names


# ---- plans and switches


def some(dtype: str = "f4", images: int = 2) -> list[Any]:
    shapes = [(images, 3, 5, 5), (4, 3, 3, 3)]
    return [row_major(np.ones(s, DTYPES[dtype])) for s in shapes]


GEOMETRY = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}


def test_a_plan_is_made_once(frontend: Frontend, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        KERNELS["conv"](*some(), **GEOMETRY)
    assert len(frontend.graphs) == 1 and len(frontend.executed) == 3
    given = row_major(np.ones((2, 4, 5, 5), "f4"))
    changes: list[Any] = [
        lambda: KERNELS["conv"](*some("f2"), **GEOMETRY),
        lambda: KERNELS["conv"](*some(images=3), **GEOMETRY),
        lambda: KERNELS["conv"](*[channels_last(a) for a in some()], **GEOMETRY),
        lambda: KERNELS["conv"](*some(), row_major(np.ones(4, "f4")), **GEOMETRY),
        lambda: KERNELS["conv"](*some(), **GEOMETRY | {"padding": (0, 0)}),
        lambda: KERNELS["conv_input"](given, some()[1], shape=(2, 3, 5, 5), **GEOMETRY),
    ]
    for count, change in enumerate(changes, 2):
        change()
        change()
        assert len(frontend.graphs) == count
    monkeypatch.setattr(cudnn, "PLANS", 2)
    launched_library().kept.plans.clear()
    for images in (1, 2, 1, 3, 1, 2):  # 2 is the one unused for longest when 3 comes
        KERNELS["conv"](*some(images=images), **GEOMETRY)
    assert len(launched_library().kept.plans) == 2 and len(frontend.graphs) == 7 + 4


def test_the_switches(frontend: Frontend) -> None:
    def chosen(dtype: str = "f4") -> tuple[set[str], int]:
        KERNELS["conv"](*some(dtype), **GEOMETRY)
        graph, index, _ = frontend.executed[-1]
        return graph.barred, index

    assert chosen() == ({"DOWN_CONVERT_INPUTS"}, 1)
    assert chosen("f2") == (set(), 1) and chosen("bf") == (set(), 1)
    assert chosen("f8") == ({"TENSOR_CORE", "DOWN_CONVERT_INPUTS"}, 4)
    with settings.flags(enabled=True, allow_tf32=False):
        assert chosen() == ({"TENSOR_CORE", "DOWN_CONVERT_INPUTS"}, 4) and chosen("f2") == (set(), 1)
    with settings.flags(enabled=True, deterministic=True):
        assert chosen() == ({"NONDETERMINISTIC", "DOWN_CONVERT_INPUTS"}, 2)
        assert chosen("f2") == ({"NONDETERMINISTIC"}, 2)
    for warn_only in (False, True):
        torch.use_deterministic_algorithms(True, warn_only=warn_only)
        try:
            assert chosen("f2") == ({"NONDETERMINISTIC"}, 2) and not settings.deterministic
        finally:
            torch.use_deterministic_algorithms(False)
    assert chosen("f2") == (set(), 1)
    settings.conv.fp32_precision = "ieee"
    try:
        assert chosen()[1] == 4
    finally:
        settings.conv.fp32_precision = "tf32"
    graph = frontend.executed[-1][0].given
    assert (graph["io_data_type"], graph["compute_data_type"]) == ("FLOAT", "FLOAT")


def test_benchmark(frontend: Frontend) -> None:
    """The fastest of the first plans that may be used, measured once for each shape; not while a graph is captured."""
    with settings.flags(enabled=True, benchmark=True):
        KERNELS["conv"](*some(), **GEOMETRY)
        assert [i for _, i, _ in frontend.executed] == [1] * 3 + [2] * 3 + [4] * 3 + [5] * 3 + [5]
        KERNELS["conv"](*some(), **GEOMETRY)
        assert len(frontend.executed) == 14 and frontend.executed[-1][1] == 5
    with settings.flags(enabled=True, benchmark=True, benchmark_limit=3):
        out = KERNELS["conv"](*some("f8"), **GEOMETRY)
        assert {i for _, i, _ in frontend.executed[14:]} == {4, 5}
        KERNELS["conv"](*some("f2"), **GEOMETRY)
        assert {i for _, i, _ in frontend.executed[-10:]} == {1, 2, 3} and frontend.executed[-1][1] == 3
        assert out[0, 0, 2, 2] == 27
        machine().capture, machine().xp.cuda.stream.ptr = True, 7
        count = len(frontend.executed)
        KERNELS["conv"](*some("bf"), **GEOMETRY)
        assert len(frontend.executed) == count + 1
        machine().capture, machine().xp.cuda.stream.ptr = False, 0
        KERNELS["conv"](*some("bf"), **GEOMETRY)
        assert frontend.executed[-1][1] == 3


def test_plans_outlive_the_graphs_that_captured_them(frontend: Frontend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their kernels belong to the plan; a graph that was recorded with them would launch what is gone."""
    monkeypatch.setattr(cudnn, "PLANS", 1)
    machine().xp.cuda.stream.ptr = 7
    for images, capture in [(1, True), (2, False), (3, True), (4, False)]:
        machine().capture = capture
        KERNELS["conv"](*some(images=images), **GEOMETRY)
    kept = launched_library().kept
    assert len(kept.plans) == 1 and [p.graph.tensors[0].dim[0] for p in kept.captured] == [1, 3]


def test_a_workspace_that_does_not_fit(frontend: Frontend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next plan that takes less runs; where none does, the error is the allocator's."""
    empty, most = machine().xp.empty, 40

    def limited(shape: Any, dtype: Any = float, order: str = "C") -> Any:
        if np.dtype(dtype) == np.uint8 and shape[0] > most:
            raise memory.OutOfMemoryError("CUDA out of memory.")
        return empty(shape, dtype, order)

    monkeypatch.setattr(machine().xp, "empty", limited, raising=False)
    for _ in range(2):
        KERNELS["conv"](*some(), **GEOMETRY)
        assert frontend.executed[-1][1] == 2
    most = 20
    with pytest.raises(memory.OutOfMemoryError), settings.flags(enabled=True, allow_tf32=False):
        KERNELS["conv"](*some(), **GEOMETRY)
    assert not machine().launched


def test_the_stream_is_set_when_it_changes(frontend: Frontend) -> None:
    for stream in (0, 0, 7, 7, 0):
        machine().xp.cuda.stream.ptr = stream
        KERNELS["conv"](*some(), **GEOMETRY)
    assert frontend.streams == [(1000, 0), (1000, 7), (1000, 0)]
    machine().number = 1
    KERNELS["conv"](*some(), **GEOMETRY)
    assert frontend.handles == [1000, 1001] and len(frontend.graphs) == 2


def test_threads_share_neither_handle_nor_plan(frontend: Frontend) -> None:
    KERNELS["conv"](*some(), **GEOMETRY)
    thread = threading.Thread(target=lambda: KERNELS["conv"](*some(), **GEOMETRY))
    thread.start()
    thread.join()
    assert len(frontend.handles) == len(frontend.graphs) == 2


def test_without_the_thin_way_the_frontend_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for made in installed(Frontend(thin=False), monkeypatch):
        assert KERNELS["conv"](*some(), **GEOMETRY)[0, 0, 2, 2] == 27 and len(made.executed) == 1


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> Any:
        def raised(*_: Any) -> None:
            raise error

        return raised

    missing = r"frontend does not import \(No module.*pip install 'tapegrad\[cudnn13\]'"
    monkeypatch.setattr(cudnn, "outside", fail(ModuleNotFoundError("No module named 'cudnn'")))
    with pytest.raises(ImportError, match=missing):
        cudnn.load()
    made = Frontend()
    monkeypatch.setattr(cudnn, "outside", lambda name: made)
    assert cudnn.load() is made
    monkeypatch.setattr(made, "backend_version", lambda: 8907)
    with pytest.raises(ImportError, match="cuDNN 8907 is too old"):
        cudnn.load()
    monkeypatch.setattr(made, "backend_version", fail(RuntimeError("libcudnn.so.9 is not there")))
    with pytest.raises(ImportError, match=r"library cannot be loaded \(libcudnn.so.9 is not there\): pip install"):
        cudnn.load()
    monkeypatch.setattr(made, "backend_version", lambda: 91900)
    monkeypatch.setattr(made, "create_handle", fail(RuntimeError("no device")))
    before = getattr(launch._current, "machine", None)
    launch.use(Machine(made))
    assert cudnn.library() is None and cudnn.why_not() == "no device"
    launch.use(emulation.CpuMachine())
    assert cudnn.library() is None and cudnn.why_not() == "no CUDA device is in use"
    if before is not None:
        launch.use(before)


# ---- attention


def heads_in_rows(shape: Any, dtype: str, rng: Any) -> Any:
    """(B, H, L, E) whose memory is (B, L, H, E)."""
    batch, heads, length, width = shape
    return row_major(rng.standard_normal((batch, length, heads, width)).astype(DTYPES[dtype])).swapaxes(1, 2)


def packed(shape: Any, dtype: str, rng: Any) -> Any:
    """(B, H, L, E) that is a part of (B, L, 3, H, E)."""
    batch, heads, length, width = shape
    whole = row_major(rng.standard_normal((batch, length, 3, heads, width)).astype(DTYPES[dtype]))
    return whole[:, :, 1].swapaxes(1, 2)


def dense(shape: Any, dtype: str, rng: Any) -> Any:
    return row_major(rng.standard_normal(shape).astype(DTYPES[dtype]))


def expanded(shape: Any, dtype: str, rng: Any) -> Any:
    return np.broadcast_to(dense((shape[0], 1, *shape[2:]), dtype, rng), shape)


def transposed(shape: Any, dtype: str, rng: Any) -> Any:
    return dense((*shape[:-2], shape[-1], shape[-2]), dtype, rng).swapaxes(-1, -2)


def generic(name: str, *arrays: Any, **kw: Any) -> list[Any]:
    wide = [a if a is None or a.dtype.kind == "b" else a.astype("f8") for a in arrays]
    wide = [a if a is None else GENERIC.asarray(np.array(a)) for a in wide]
    found = getattr(raw_namespace(type(GENERIC.asarray(np.zeros(1)))), name)(*wide, **kw)
    return [None if o is None else np.asarray(o) for o in found]


def attend(q: Any, k: Any, v: Any, g: Any, dtype: str, causal: bool, mask: Any = None, keep: Any = None) -> Any:
    """Runs attention and its gradients, compares them with the generic form in float64, returns what was kept."""
    out, kept = KERNELS["attention"](q, k, v, mask, keep, causal=causal, scale=0.3)
    near(out, generic("attention", q, k, v, mask, keep, causal=causal, scale=0.3)[0], dtype, 6)
    needs = (True, True, True, False)
    kw = {"needs": needs, "causal": causal, "scale": 0.3}
    found = KERNELS["attention_backward"](g, q, k, v, mask, keep, out, kept, **kw)
    exact = generic("attention_backward", g, q, k, v, mask, keep, None, None, **kw)
    for f, e in zip(found[:3], exact[:3], strict=True):
        near(f, e, dtype, 12)
    assert found[3] is None
    return out, kept, found


@pytest.mark.parametrize("dtype", ["f2", "bf"])
@pytest.mark.parametrize("make", [dense, heads_in_rows, packed, expanded, transposed])
@pytest.mark.parametrize("lengths", [(5, 5), (128, 128), (3, 128), (7, 4)], ids=str)
def test_attention_through_cudnn(lengths: tuple[int, int], make: Any, dtype: str, frontend: Frontend) -> None:
    rng = np.random.default_rng(5)
    queries, keys = lengths
    q, k, v = (make(s, dtype, rng) for s in [(2, 3, queries, 8), (2, 3, keys, 8), (2, 3, keys, 16)])
    for causal in (False, True):
        for lie in (dense, heads_in_rows, transposed):
            out, stats, _ = attend(q, k, v, lie((2, 3, queries, 16), dtype, rng), dtype, causal)
            assert stats.shape == out.shape[:3]
            rows = q.swapaxes(1, 2).flags.c_contiguous or make is packed
            assert out.swapaxes(1, 2).flags.c_contiguous if rows else out.flags.c_contiguous
    assert len(frontend.executed) == 12 and len(frontend.graphs) == 4
    padded = {10 in addresses for _, _, addresses in frontend.executed}
    assert padded == {lengths != (128, 128)}


def test_attention_of_fewer_axes_and_of_what_cudnn_does_not_take(frontend: Frontend) -> None:
    rng = np.random.default_rng(6)
    for lead in [(), (4,)]:
        q, k, v, g = (dense((*lead, n, 8), "f2", rng) for n in (5, 6, 6, 5))
        attend(q, k, v, g, "f2", True)
    assert len(frontend.executed) == 4
    q, k, v = (dense((2, 3, 5, 8), "f2", rng) for _ in range(3))
    how = {"causal": False, "scale": 1.0}
    kept = KERNELS["attention"](q, k, v, **how)
    found = KERNELS["attention_backward"](q, q, k, v, None, None, *kept, needs=(False, True, False, False), **how)
    assert [f is None for f in found] == [True, False, True, True] and len(frontend.executed) == 6
    with settings.flags(enabled=True, deterministic=True):
        attend(q, k, v, q, "f2", False)
        assert frontend.executed[-1][0].deterministic and not frontend.executed[-2][0].deterministic
    torch.set_deterministic_debug_mode("warn")
    try:
        attend(q, k, v, q, "f2", False)
        assert frontend.executed[-1][0].deterministic
    finally:
        torch.set_deterministic_debug_mode(0)
    attend(q, k, v, q, "f2", False)
    assert not frontend.executed[-1][0].deterministic


@compiles
def test_a_program_chooses_its_attention(frontend: Frontend) -> None:
    rng, B = np.random.default_rng(8), SDPBackend
    q, k, v = (dense((2, 3, 6, 8), "f2", rng) for _ in range(3))

    def by_cudnn(*given: Any) -> bool:
        before = len(frontend.executed)
        with sdpa_kernel(*given):
            KERNELS["attention"](q, k, v, causal=False, scale=1.0)
        return len(frontend.executed) > before

    assert by_cudnn(B.CUDNN_ATTENTION) and not by_cudnn(B.MATH) and not by_cudnn([B.MATH, B.FLASH_ATTENTION])
    assert by_cudnn([B.MATH, B.CUDNN_ATTENTION]), "which without an order says nothing"
    assert not by_cudnn([B.MATH, B.CUDNN_ATTENTION], True) and by_cudnn([B.CUDNN_ATTENTION, B.MATH], True)
    assert by_cudnn([B.FLASH_ATTENTION, B.CUDNN_ATTENTION], True), "there is no other flash attention here"


@compiles
def test_attention_that_cudnn_does_not_take(frontend: Frontend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks, dropout, float32, odd widths, where it is switched off or refused, or the gradient alone is refused."""
    rng = np.random.default_rng(7)
    q, k, v, g = (dense((2, 3, 6, 8), "f2", rng) for _ in range(4))
    mask = rng.random((2, 1, 6, 6)) < 0.7
    keep = row_major((rng.random((2, 3, 6, 6)) < 0.5).astype("f2"))
    attend(q, k, v, g, "f2", False, mask=mask)
    attend(q, k, v, g, "f2", True, keep=keep)
    wide = [dense((2, 3, 6, 8), "f4", rng) for _ in range(4)]
    attend(*wide, "f4", True)
    odd = [dense((2, 3, 6, 5), "f2", rng) for _ in range(4)]
    attend(*odd, "f2", True)
    cuda.enable_cudnn_sdp(False)
    try:
        assert attend(q, k, v, g, "f2", True)[1].shape == (2, 3, 6, 6)
    finally:
        cuda.enable_cudnn_sdp(True)
    with settings.flags(enabled=False):
        attend(q, k, v, g, "f2", True)
    assert not frontend.graphs
    frontend.refuses = lambda graph: any(t.uid == 9 for t in graph.tensors)
    assert attend(q, k, v, g, "f2", True)[1].shape == (2, 3, 6)
    assert len(frontend.graphs) == len(frontend.executed) == 1


@compiles
@pytest.mark.parametrize("dtype", ["f4", "bf"])
def test_attention_in_blocks(dtype: str, without: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of more than `SCORES` bytes are made for some of the batch at a time, and again in the backward pass."""
    rng = np.random.default_rng(8)
    q, k, v, g = (heads_in_rows((5, 2, n, 8), dtype, rng) for n in (6, 7, 7, 6))
    masks = [None, rng.random((5, 1, 6, 7)) < 0.7, rng.random((1, 2, 6, 7)) < 0.7, rng.random((6, 7)) < 0.9]
    keep = row_major((rng.random((5, 2, 6, 7)) < 0.5).astype(DTYPES[dtype]) * DTYPES[dtype].type(2))
    for most, launches in [(1 << 20, 1), (2 * 4 * 2 * 6 * 7, 3), (1, 5)]:
        monkeypatch.setattr(attention_kernels, "SCORES", most)
        for mask in masks:
            without.launched.clear()
            kept = attend(q, k, v, g, dtype, mask is None, mask=mask, keep=keep)[1]
            made = [name for name, *_ in without.launched if name.startswith("attention_weights")]
            assert len(made) == (launches if launches == 1 else 2 * launches) and (kept is None) == (launches > 1)
    single = [dense((n, 8), dtype, rng) for n in (6, 7, 7, 6)]
    attend(*single, dtype, True)


# ---- on CuPy's own arrays


def test_what_is_passed_for_cupy_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses, sizes and strides are those of CuPy's arrays, whose memory does not exist here."""
    try:
        cupy = compile.outside("cupy")
    except Exception as error:
        pytest.skip(f"CuPy cannot be imported: {error}")
    made = Frontend(computes=False)
    next_address = [0x7F0000000000]

    def bare(shape: Any, dtype: Any = "f4", order: str = "C") -> Any:
        size = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        next_address[0] += -(-size // 512) * 512
        memory = cupy.cuda.UnownedMemory(next_address[0], size, None, 0)
        return cupy.ndarray(shape, dtype, memptr=cupy.cuda.MemoryPointer(memory, 0), order=order)

    class Bare:
        cuda = made.cuda()
        copies = 0

        def empty(self, shape: Any, dtype: Any = "f4", order: str = "C") -> Any:
            return bare(shape, dtype, order)

        def full(self, shape: Any, value: Any, dtype: Any) -> Any:
            return bare(shape, dtype)

        def ascontiguousarray(self, x: Any) -> Any:
            self.copies += 1
            return bare(x.shape, x.dtype)

    class Recording(launch.Machine):
        def device(self) -> int:
            return 0

        def capturing(self) -> bool:
            return False

        def link(self, source: str, expression: str) -> Any:
            return lambda grid, block, arguments: launches.append((expression, grid, block, arguments))

    launches: list[Any] = []
    monkeypatch.setattr(cudnn, "load", lambda: made)
    before = getattr(launch._current, "machine", None)
    launch.use(Recording(Bare()))

    def checked(given: dict[int, Any]) -> None:
        graph, _, addresses = made.executed[-1]
        declared = {t.uid: t for t in graph.tensors if t.uid is not None}
        assert set(addresses) == set(declared)
        for uid, array in given.items():
            assert addresses[uid] == array.data.ptr, uid
            assert [s * array.itemsize for s in declared[uid].stride] == list(array.strides), uid
            assert list(declared[uid].dim) == list(array.shape), uid

    try:
        for dtype in DTYPES.values():
            x, w, b = bare((8, 6, 9, 10), dtype), bare((4, 3, 3, 2), dtype), bare((4,), dtype)
            kw = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
            y = KERNELS["conv"](x, w, b, **kw)
            assert y.shape == (8, 4, 5, 8) and y.flags.c_contiguous
            checked({1: x, 2: w, 3: y})
            gx = KERNELS["conv_input"](y, w, shape=x.shape, **kw)
            checked({1: y, 2: w, 3: gx})
            checked({1: y, 2: w, 3: gx})
            gw = KERNELS["conv_weight"](x, y, shape=w.shape, **kw)
            checked({1: x, 2: y, 3: gw})
            last = bare((8, 9, 10, 6), dtype).transpose(0, 3, 1, 2)
            assert not launch.current().xp.copies
            y = KERNELS["conv"](last, w, b, **kw)  # the weight alone is turned
            (name, grid, block, (given, _, *numbers)), *more = launches
            assert name.startswith("turn<unsigned") and (grid, block, more) == ((4,), (32, 8), []) and given is w
            assert [int(n) for n in numbers] == [3, 6, 1, 1] and y.strides[1] == dtype.itemsize
            checked({1: last, 3: y})
            launches.clear()
        whole = bare((2, 128, 3, 12, 64), "f2")
        q, k, v = (whole[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
        out, stats = KERNELS["attention"](q, k, v, causal=True, scale=0.125)
        checked({1: q, 2: k, 3: v, 4: out})
        assert out.transpose(0, 2, 1, 3).flags.c_contiguous and stats.shape == (2, 12, 128)
        g = bare((2, 128, 12, 64), "f2").transpose(0, 2, 1, 3)
        how = {"needs": (True, True, True, False), "causal": True, "scale": 0.125}
        gq, gk, gv, _ = KERNELS["attention_backward"](g, q, k, v, None, None, out, stats, **how)
        checked({1: q, 2: k, 3: v, 4: out, 6: g, 7: gq, 8: gk, 9: gv})
        assert not launch.current().xp.copies
    finally:
        if before is not None:
            launch.use(before)


def test_the_real_frontend_has_the_names_that_are_used() -> None:
    try:
        real = compile.outside("cudnn")
    except Exception as error:
        pytest.skip(f"nvidia-cudnn-frontend is not installed: {error}")
    for name in ("create_handle", "set_stream", "backend_version", "cudnnGraphNotSupportedError", "pygraph"):
        assert hasattr(real, name)
    for name in cudnn.DATA.values():
        assert hasattr(real.data_type, name)
    for name in ("TENSOR_CORE", "NONDETERMINISTIC", "DOWN_CONVERT_INPUTS"):
        assert hasattr(real.numerical_note, name)
    assert hasattr(real._pybind_module.backend_graph, "_execute_plan_at_index")
