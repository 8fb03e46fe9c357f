"""The host side of the CUDA kernels on CuPy's own arrays, which need no GPU as long as nobody looks into their memory.

Launches are recorded. What wrappers decide on CuPy arrays (kernel, grid, block, numbers) is what they decide on the
NumPy arrays with which tests/test_cuda_kernels.py and test_cuda_shapes.py execute the same launches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cuda_on_cpu as emulation
import numpy as np
import pytest
from tapegrad.backends.cupy import bounds, compile, launch
from tapegrad.backends.cupy.kernels import KERNELS

try:
    cupy = compile.outside("cupy")
except Exception as error:
    pytest.skip(f"CuPy cannot be imported: {error}", allow_module_level=True)
ml_dtypes = pytest.importorskip("ml_dtypes")

ADDRESS = 0x7F0000000000


def bare(shape: Any, dtype: Any = "f4", order: str = "C", offset: int = 0) -> Any:
    """A CuPy array whose memory does not exist, `offset` bytes behind a page."""
    dtype = np.dtype(dtype)
    memory = cupy.cuda.UnownedMemory(ADDRESS, max(1, int(np.prod(shape)) * dtype.itemsize + offset), None, 0)
    return cupy.ndarray(shape, dtype, memptr=cupy.cuda.MemoryPointer(memory, offset), order=order)


class Bare:
    """The functions of CuPy that wrappers call, with memory that does not exist."""

    copies = 0

    def empty(self, shape: Any, dtype: Any = "f4", order: str = "C") -> Any:
        return bare(shape, dtype, order)

    def zeros(self, shape: Any, dtype: Any = "f4") -> Any:
        return bare(shape, dtype)

    def ascontiguousarray(self, x: Any) -> Any:
        self.copies += 1
        return bare(x.shape, x.dtype)


class Recorder(launch.Machine):
    """Keeps launches instead of making them."""

    def __init__(self) -> None:
        super().__init__(Bare())
        self.launched: list[tuple[str, Any, Any, tuple[Any, ...]]] = []

    def link(self, source: str, expression: str) -> Any:
        assert (compile.SOURCES / source).exists()
        return lambda grid, block, arguments: self.launched.append((expression, grid, block, arguments))

    def device(self) -> int:
        return 0

    def capturing(self) -> bool:
        return False

    def processors(self) -> int:
        return 2


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    machine = Recorder()
    launch.use(machine)
    yield machine
    bounds._pending.launched = False


KERNEL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 1), "size": (3, 5)}
NEEDS = (True, True, True)
H, B = "f2", ml_dtypes.bfloat16
# op, shapes (or (shape, dtype)) of its arrays, keywords
CALLS: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("gelu", [(4, 100)], {"approximate": "tanh"}),
    ("gelu", [((4, 100), H)], {}),
    ("gelu_backward", [((3, 5), B), ((3, 5), B)], {"approximate": "none"}),
    ("leaky_relu", [(100_000,)], {"negative_slope": 0.1}),
    ("elu_backward", [(7,), (7,)], {"alpha": 1.0, "scale": 2.0, "input_scale": 0.5}),
    ("softmax", [(2, 3, 64)], {"axis": 2}),
    ("softmax", [((4, 2048), B)], {"axis": 1}),
    ("softmax", [(4, 50_257)], {"axis": 1}),
    ("softmax", [(4, 10, 6)], {"axis": 1}),
    ("log_softmax_backward", [(4, 1001), (4, 1001)], {"axis": 1}),
    ("layer_norm", [(8, 16, 768), (768,), (768,)], {"n_axes": 1, "eps": 1e-5}),
    ("layer_norm", [(8, 16, 3, 5), None, None], {"n_axes": 2, "eps": 1e-5}),
    (
        "layer_norm_backward", [(700, 96), (700, 96), (96,), (700, 1), (700, 1)],
        {"needs": NEEDS, "n_axes": 1, "eps": 1e-5},
    ),
    ("rms_norm", [((6, 128), B), ((128,), B)], {"n_axes": 1, "eps": 1e-5}),
    ("batch_norm", [(8, 16, 14, 14), (16,), (16,)], {"eps": 1e-5}),
    ("batch_norm_backward", [(8, 16, 7), (8, 16, 7), (16,), (16,), (16,)], {"needs": NEEDS, "eps": 1e-5}),
    ("scale_shift", [(8, 16, 14, 14), (16,), (16,)], {}),
    ("cross_entropy", [(12, 1000), ((12,), "i8")], {"ignore_index": -100, "reduction": "mean"}),
    ("softmax_cross_entropy", [((12, 50), H), ((12,), "i8")], {"ignore_index": 3}),
    ("softmax_cross_entropy_backward", [(3,), (3, 8), ((3,), "i8"), (3,), (3,)], {"ignore_index": -1}),
    (
        "cross_entropy_backward", [((), H), ((3, 8), H), ((3,), "i8"), (3,), (3,), ((), "f4")],
        {"ignore_index": -1, "reduction": "mean"},
    ),
    ("embedding", [((1000, 64), B), ((4, 9), "i8")], {"padding": -1}),
    ("dropout", [((5, 7), H)], {"p": 0.1, "seed": 1 << 40, "offset": 3}),
    ("max_pool", [(2, 3, 6, 8)], {**KERNEL, "dilation": (1, 1)}),
    ("max_pool_with_indices", [(2, 3, 6, 8)], {**KERNEL, "dilation": (1, 1)}),
    ("max_pool_backward", [(2, 3, 3, 5), (2, 3, 6, 8), (2, 3, 3, 5)], {**KERNEL, "dilation": (2, 1)}),
    ("avg_pool", [(2, 3, 6, 8)], {**KERNEL, "divisor": "inside"}),
    ("avg_pool_input", [(2, 3, 3, 5)], {**KERNEL, "shape": (2, 3, 6, 8), "divisor": 3}),
    ("total_norm", [[(100,), (9000,), ((3,), B)]], {"order": 2.0}),
]  # fmt: skip


def given(make: Any, spec: Any) -> Any:
    if spec is None:
        return None
    if isinstance(spec, list):
        return [given(make, s) for s in spec]
    return make(*spec) if isinstance(spec[-1], (str, type)) else make(spec, "f4")


def numbers(arguments: tuple[Any, ...]) -> list[Any]:
    """The arguments by value, and for pointers whether they are null."""
    found: list[Any] = []
    for a in arguments:
        if hasattr(a, "dtype") and a.dtype.names:
            found.append({n: a[n].tolist() for n in a.dtype.names if n != "array"})
        elif isinstance(a, np.generic):
            found.append((type(a), a.item()))
        else:
            found.append("pointer")
    return found


@pytest.mark.parametrize(("op", "arrays", "kw"), CALLS, ids=lambda v: v if isinstance(v, str) else "")
def test_cupy_arrays_are_launched_as_those_that_are_executed(
    op: str, arrays: list[Any], kw: dict[str, Any], recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KERNELS[op](*[given(bare, a) for a in arrays], **kw) is not NotImplemented
    recorded = [(e, g, b, numbers(a)) for e, g, b, a in recorder.launched]
    assert recorded and not recorder.xp.copies
    for _, _, _, arguments in recorder.launched:
        for a in arguments:
            assert isinstance(a, (cupy.ndarray, np.generic)) or (a.size == 1 and a.dtype.names), type(a)

    executed: list[Any] = []
    machine = emulation.CpuMachine()
    monkeypatch.setattr(
        machine, "link", lambda source, name: lambda g, b, a: executed.append((name, g, b, numbers(a)))
    )
    launch.use(machine)
    KERNELS[op](*[given(machine.xp.empty, a) for a in arrays], **kw)
    assert executed == recorded


def test_memory_that_is_not_at_16_bytes_is_read_by_elements(recorder: Recorder) -> None:
    for offset, vector in ((0, "true"), (16, "true"), (4, "false")):
        KERNELS["softmax"](bare((4, 64), offset=offset), axis=1)
        assert recorder.launched[-1][0] == f"softmax_rows<float, false, {vector}>"
        KERNELS["gelu"](bare((4, 64), offset=offset))
        assert recorder.launched[-1][3][3] == (vector == "true")
    KERNELS["softmax"](bare((4, 63)), axis=1)  # rows of other lengths begin elsewhere
    assert recorder.launched[-1][0] == "softmax_rows<float, false, false>"


def test_layouts(recorder: Recorder) -> None:
    """Dense layouts are flat memory and kept; what has gaps is copied once."""
    images = bare((2, 8, 6, 4)).transpose(0, 3, 1, 2)  # channels last
    out = KERNELS["gelu"](images)
    assert out.strides == images.strides and not recorder.xp.copies
    KERNELS["gelu"](bare((8, 8))[:, ::2])
    assert recorder.xp.copies == 1
    KERNELS["softmax"](images, axis=1)
    assert recorder.xp.copies == 2 and recorder.launched[-1][0] == "softmax_columns<float, false>"


@pytest.mark.parametrize(("dtype", "channels"), [("f4", 16), ("f2", 24), ("f4", 7)])
def test_channels_side_by_side(
    dtype: str, channels: int, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Normalisation, pooling, means and sums of such images: launched as executed, nothing copied, so laid out."""
    at = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "size": (3, 4)}
    dilated = {**at, "dilation": (1, 1)}

    def calls(make: Any) -> list[Any]:
        def last(*sizes: int) -> Any:
            return make((2, *sizes, channels), dtype).transpose(0, 3, 1, 2)

        x, g, pooled = last(6, 8), last(6, 8), last(3, 4)
        w, m = make((channels,), dtype), make((channels,), "f4")
        made = [
            KERNELS["batch_norm"](x, w, w, eps=1e-5)[0], KERNELS["scale_shift"](x, w, w), KERNELS["add"](x, g),
            KERNELS["batch_norm_backward"](g, x, w, m, m, needs=NEEDS, eps=1e-5)[0], KERNELS["relu_backward"](g, x),
            KERNELS["max_pool_with_indices"](x, **dilated)[1],
            KERNELS["max_pool_backward"](pooled, x, pooled, **dilated), KERNELS["avg_pool"](x, **at, divisor="inside"),
            KERNELS["avg_pool_input"](pooled, **at, shape=x.shape, divisor=9),
        ]  # fmt: skip
        assert KERNELS["mean"](x, axis=(2, 3), keepdims=True).shape == (2, channels, 1, 1)
        assert all(a.transpose(0, 2, 3, 1).flags.c_contiguous for a in made)
        return [a.shape for a in made]

    shapes = calls(bare)
    recorded = [(e, g, b, numbers(a)) for e, g, b, a in recorder.launched]
    executed: list[Any] = []
    machine = emulation.CpuMachine()
    monkeypatch.setattr(
        machine, "link", lambda source, name: lambda g, b, a: executed.append((name, g, b, numbers(a)))
    )
    launch.use(machine)
    assert calls(machine.xp.empty) == shapes and executed == recorded
    assert not recorder.xp.copies and not any(e.startswith("turn<") for e, *_ in recorded)
    assert any(e.endswith("true>") for e, *_ in recorded) == (channels != 7), "16 bytes at a time where they divide"


def test_what_kernels_decline(recorder: Recorder) -> None:
    for array in (bare((3, 4), "f8"), bare((3, 4), "i4"), bare((3, 4), "c8"), bare((0, 4)), bare((3, 4), "?")):
        assert KERNELS["gelu"](array) is NotImplemented
        assert KERNELS["softmax"](array, axis=1) is NotImplemented
        assert KERNELS["layer_norm"](array, None, None, n_axes=1, eps=1e-5) is NotImplemented
    assert KERNELS["gelu_backward"](bare((3, 4)), bare((4,)), approximate="none") is NotImplemented
    assert KERNELS["layer_norm"](bare((3, 4)), bare((4,), "f2"), None, n_axes=1, eps=1e-5) is NotImplemented
    assert not recorder.launched


def test_tensors_are_packed_by_value(recorder: Recorder) -> None:
    """Addresses, sizes and first blocks of 70 tensors, in two launches; 4096 bytes are the limit of arguments."""
    entries = [[bare((n,), offset=16 * n) for _ in range(2)] + [None] for n in range(1, 70)] + [
        [bare((20_000,)), bare((20_000,)), None]
    ]
    options = {"lr": 0.5, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.25, "nesterov": False, "maximize": True,
               "first": False}  # fmt: skip
    KERNELS["sgd_step"].many(entries, options)
    assert [(e, g) for e, g, _, _ in recorder.launched] == [("formula_step<Sgd, float>", (n,)) for n in (64, 8)]
    tensors, packed = recorder.launched[1][3]
    assert tensors.nbytes + packed.nbytes <= 4096
    assert tensors["count"][0] == 6 and tensors["size"][0, :6].tolist() == [65, 66, 67, 68, 69, 20_000]
    assert tensors["first"][0, :7].tolist() == [0, 1, 2, 3, 4, 5, 8]
    assert tensors["array"][0, :3, 0].tolist() == [ADDRESS + 16 * 65] * 2 + [0]
    assert packed["v"][0, :4].tolist() == [0.5, 0.0, 1.0, 0.25] and packed["on"][0].tolist() == [0, 0, 0, 1]


def test_a_kernel_is_linked_once(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    linked: list[str] = []
    link = recorder.link
    monkeypatch.setattr(recorder, "link", lambda source, name: linked.append(name) or link(source, name))
    for dtype in ("f4", "f2", "f4"):
        KERNELS["silu"](bare((3, 4), dtype))
    assert linked == ["forward<Silu, float>", "forward<Silu, __half>"]


@pytest.mark.parametrize("source", sorted({k.source for k in launch.Kernel.declared}))
def test_cupys_own_flags_and_headers_compile_a_source(source: str) -> None:
    """As RawModule compiles it on a device; by names of CuPy that are private, since the public ones ask for one."""
    from cupy._core import core
    from cupy.cuda import compiler

    kernel = next(k for k in launch.Kernel.declared if k.source == source)
    name = list(kernel.expressions())[-1]
    flags = (*core.assemble_cupy_compiler_options(("--std=c++17",)), "--device-as-default-execution-space", "-ftz=true")
    try:
        program = compiler._NVRTCProgram(compile.text(source), source, name_expressions=(name,), method="cubin")
        code, mapping = program.compile((*flags, "-arch=sm_90"))
    except (ImportError, OSError, RuntimeError) as error:
        if "nvrtc" in str(error).lower() and "cannot open" in str(error).lower():
            pytest.skip(f"CuPy finds no compiler: {error}")
        raise
    assert code[:4] == b"\x7fELF" and mapping[name].startswith("_Z")
