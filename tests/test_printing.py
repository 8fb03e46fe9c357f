"""Tensors print as PyTorch prints them: golden strings without torch, and a table of arrays compared with torch."""

import math
from contextlib import contextmanager

import numpy as np
import pytest
from tapegrad.autograd.printing import (
    get_printoptions,
    printoptions,
    set_printoptions,
    shows_dtype,
    tensor_format,
    tensor_repr,
)

FLOAT32 = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def default_options():
    """Options are global: every test begins with the defaults and must not pass its own on."""
    set_printoptions(profile="default")
    yield
    set_printoptions(profile="default")


def show(array, default=FLOAT32, **facts):
    """`tensor_repr` as a Tensor's `__repr__` calls it."""
    show_dtype = shows_dtype(array.dtype, array.size, default)
    return tensor_repr(array, dtype_name=f"torch.{array.dtype.name}", show_dtype=show_dtype, **facts)


def f32(values):
    return np.array(values, np.float32)


# (array, facts about the tensor, print options, text); every text was printed by torch 2.13.
GOLDEN = {
    "scalar": (f32(3), {}, {}, "tensor(3.)"),
    "scalar fraction": (f32(3.14159), {}, {}, "tensor(3.1416)"),
    "scalar int": (np.array(-7), {}, {}, "tensor(-7)"),
    "scalar bool": (np.array(True), {}, {}, "tensor(True)"),
    "scalar complex": (np.array(1 - 2j, np.complex64), {}, {}, "tensor(1.-2.j)"),
    "whole floats": (f32([1, 2, -3]), {}, {}, "tensor([ 1.,  2., -3.])"),
    "fixed point": (f32([[1.5, 2], [3, 4]]), {}, {}, "tensor([[1.5000, 2.0000],\n        [3.0000, 4.0000]])"),
    "scientific by range": (f32([0.01, 1000]), {}, {}, "tensor([1.0000e-02, 1.0000e+03])"),
    "scientific by smallness": (f32([1e-5]), {}, {}, "tensor([1.0000e-05])"),
    "negative zero": (f32([-0.0, 0.0, 1.5]), {}, {}, "tensor([-0.0000, 0.0000, 1.5000])"),
    "negative zero, whole": (f32([-0.0, 0.0]), {}, {}, "tensor([-0., 0.])"),
    "nan and inf": (f32([np.nan, np.inf, -np.inf, 1]), {}, {}, "tensor([nan, inf, -inf, 1.])"),
    "nan among fractions": (f32([np.nan, 0.5]), {}, {}, "tensor([   nan, 0.5000])"),
    "bool": (np.array([True, False]), {}, {}, "tensor([ True, False])"),
    "int32": (np.array([1, -20], np.int32), {}, {}, "tensor([  1, -20], dtype=torch.int32)"),
    "float64": (np.array([0.1]), {}, {}, "tensor([0.1000], dtype=torch.float64)"),
    "empty": (f32([]), {}, {}, "tensor([])"),
    "empty with size": (np.zeros((0, 3), np.float32), {}, {}, "tensor([], size=(0, 3))"),
    "empty int64": (np.zeros((2, 0), np.int64), {}, {}, "tensor([], size=(2, 0), dtype=torch.int64)"),
    "complex": (
        np.array([1.5 + 2j, -3 - 0.25j], np.complex64),
        {},
        {},
        "tensor([ 1.5000+2.0000j, -3.0000-0.2500j])",
    ),
    "summary": (np.arange(1001), {}, {}, "tensor([   0,    1,    2,  ...,  998,  999, 1000])"),
    "summary of rows": (
        np.arange(2002).reshape(1001, 2),
        {},
        {},
        "tensor([[   0,    1],\n        [   2,    3],\n        [   4,    5],\n        ...,\n"
        "        [1996, 1997],\n        [1998, 1999],\n        [2000, 2001]])",
    ),
    "no edge items": (np.arange(9), {}, {"threshold": 4, "edgeitems": 0}, "tensor([...], size=(9,))"),
    "wrapped lines": (
        np.arange(6) * 1000,
        {},
        {"linewidth": 24},
        "tensor([   0, 1000,\n        2000, 3000,\n        4000, 5000])",
    ),
    "three axes": (
        np.arange(8).reshape(2, 2, 2),
        {},
        {},
        "tensor([[[0, 1],\n         [2, 3]],\n\n        [[4, 5],\n         [6, 7]]])",
    ),
    "precision": (f32([1.23456]), {}, {"precision": 2}, "tensor([1.23])"),
    "forced scientific": (f32([1, 20]), {}, {"sci_mode": True}, "tensor([1.0000e+00, 2.0000e+01])"),
    "forced fixed point": (f32([1e-6, 1.5]), {}, {"sci_mode": False}, "tensor([0.0000, 1.5000])"),
    "requires_grad": (f32([1]), {"requires_grad": True}, {}, "tensor([1.], requires_grad=True)"),
    "grad_fn": (
        f32([1]),
        {"requires_grad": True, "grad_fn_name": "MulBackward0"},
        {},
        "tensor([1.], grad_fn=<MulBackward0>)",
    ),
    "device": (f32([1]), {"device": "cuda:0"}, {}, "tensor([1.], device='cuda:0')"),
    "suffix on a new line": (
        np.arange(20, dtype=np.int16),
        {},
        {"linewidth": 86},
        "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17, 18,\n"
        "        19], dtype=torch.int16)",
    ),
    "suffix without room": (
        f32([1.5, 2.5, 3.5]),
        {"requires_grad": True},
        {"linewidth": 40},
        "tensor([1.5000, 2.5000, 3.5000],\n       requires_grad=True)",
    ),
    "parameter": (
        f32([1]),
        {"requires_grad": True, "is_parameter": True},
        {},
        "Parameter containing:\ntensor([1.], requires_grad=True)",
    ),
    "subclass": (f32([[1], [2]]), {"class_name": "Mask"}, {}, "Mask([[1.],\n      [2.]])"),
    "subclass of Parameter": (
        f32([1]),
        {"requires_grad": True, "is_parameter": True, "class_name": "Weight"},
        {},
        "Parameter containing:\nParameter(Weight([1.], requires_grad=True))",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
    array, facts, options, text = GOLDEN[name]
    with printoptions(**options):
        assert show(array, **facts) == text


def test_golden_small_floats():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    assert show(np.array([1.5, 3], np.float16)) == "tensor([1.5000, 3.0000], dtype=torch.float16)"
    assert show(np.array([0.1, 3], bfloat16)) == "tensor([0.1001, 3.0000], dtype=torch.bfloat16)"


def test_dtype_is_said_relative_to_the_default():
    double = np.dtype(np.float64)
    assert show(np.array([1.0]), default=double) == "tensor([1.])"
    assert show(np.array([1j]), default=double) == "tensor([0.+1.j])"
    assert show(f32([1.0]), default=double) == "tensor([1.], dtype=torch.float32)"
    assert show(f32([]), default=double) == "tensor([], dtype=torch.float32)"


def test_options_keep_what_is_left_out_but_reset_sci_mode():
    set_printoptions(precision=2, linewidth=60, sci_mode=True)
    set_printoptions(threshold=5)
    expected = {"precision": 2, "threshold": 5, "edgeitems": 3, "linewidth": 60, "sci_mode": None}
    assert get_printoptions() == expected
    set_printoptions(profile="no such profile")
    assert get_printoptions() == expected
    set_printoptions(profile="short", edgeitems=1)
    assert get_printoptions() == {"precision": 2, "threshold": 1000, "edgeitems": 1, "linewidth": 80, "sci_mode": None}
    set_printoptions(profile="full")
    assert get_printoptions()["threshold"] == math.inf and get_printoptions()["precision"] == 4


def test_printoptions_restores_after_an_error():
    set_printoptions(precision=3, sci_mode=False)
    before = get_printoptions()
    with pytest.raises(ZeroDivisionError), printoptions(precision=1, profile="short"):
        assert get_printoptions()["precision"] == 1
        raise ZeroDivisionError
    assert get_printoptions() == before


class Tensor:
    """Stands in for the owner of an array: only its class name and its str matter here."""

    def __str__(self):
        return "as str"


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (f32(2.5), ".3f", "2.500"),
        (f32(2.5), "", "2.5"),
        (np.array(3), "4d", "   3"),
        (np.array(True), "", "True"),
        (np.array(1 + 2j), "", "(1+2j)"),
        (np.array(0.1, np.float16), ".6f", "0.099976"),
    ],
)
def test_format_of_a_number(value, spec, text):
    assert tensor_format(Tensor(), value, spec, plain=True) == text


def test_format_of_several_numbers():
    for array, plain in ((f32([1, 2]), True), (f32(1), False)):
        assert tensor_format(Tensor(), array, "", plain=plain) == "as str"
        with pytest.raises(TypeError, match=r"unsupported format string passed to Tensor\.__format__"):
            tensor_format(Tensor(), array, ".3f", plain=plain)


# --- against torch -------------------------------------------------------------------------------------------------

FLOATS = ("float32", "float64", "float16", "bfloat16")
DTYPES = (*FLOATS, "complex64", "complex128", "int64", "int32", "int16", "int8", "uint8", "bool")
SHAPES = ((), (1,), (2,), (7,), (40,), (1200,), (0,), (2, 0, 3), (3, 4), (1, 30), (40, 30), (2, 3, 4), (13, 2, 50))
SHAPES += ((2, 1, 2, 3), (2, 2, 2, 2, 2), (9, 8, 7, 6))
OPTIONS = (
    {},
    {},
    {"precision": 2},
    {"precision": 0},
    {"precision": 9},
    {"threshold": 6, "edgeitems": 2},
    {"threshold": 20, "edgeitems": 1, "linewidth": 40},
    {"threshold": 3, "edgeitems": 0},
    {"edgeitems": 0},
    {"threshold": -1},
    {"linewidth": 30},
    {"linewidth": 5},
    {"linewidth": 200},
    {"profile": "short"},
    {"profile": "full", "linewidth": 120},
    {"sci_mode": True},
    {"sci_mode": True, "precision": 1},
    {"sci_mode": False},
)
CASES = 900


def draw_floats(rng, shape):
    """Floats of one of many magnitudes, some whole, some spiked with zeros of both signs, nan and infinities."""
    kind = rng.integers(8)
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 10)
    if kind == 0:
        values = np.round(rng.standard_normal(shape) * 10.0 ** rng.integers(0, 10))
    elif kind == 1:
        values = rng.standard_normal(shape) * 10.0 ** rng.integers(-8, 9, shape)
    elif kind == 2:
        # the very values at which the notation switches
        values = rng.choice([1e-4, 9.9e-5, 1.0, 0.1, 100.0, 1e8, 100000001.0, 1000.0, 1001.0], shape)
    elif kind == 3:
        values = rng.standard_normal(shape)
    values = np.asarray(values)
    if rng.random() < 0.4:
        special = rng.choice([0.0, -0.0, np.nan, np.inf, -np.inf], shape)
        values = np.where(rng.random(shape) < rng.choice([0.2, 1.0]), special, values)
    return values


def draw_array(rng, dtype, shape):
    if dtype == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype in ("int64", "int32", "int16", "int8", "uint8"):
        bounds = np.iinfo(dtype)
        spread = int(rng.choice([2, 100, 10**4, 2**62]))
        return np.asarray(rng.integers(max(-spread, bounds.min), min(spread, bounds.max), shape, dtype=dtype))
    values = draw_floats(rng, shape)
    if dtype.startswith("complex"):
        # not values + 1j * other: inf times 1j is nan
        values = np.stack([values, draw_floats(rng, shape)], axis=-1).view(np.complex128)[..., 0]
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values).astype(dtype)


def draw_case(seed):
    """(array, options, requires_grad) of one numbered case; the first cases walk every dtype and shape in turn."""
    rng = np.random.default_rng(seed)
    dtype, shape = DTYPES[seed % len(DTYPES)], SHAPES[(seed // len(DTYPES)) % len(SHAPES)]
    array = draw_array(rng, dtype, shape)
    if array.ndim > 1 and rng.random() < 0.3:
        array = np.swapaxes(array, 0, -1)
    options = OPTIONS[int(rng.integers(len(OPTIONS)))]
    return array, options, bool(rng.random() < 0.3 and array.dtype.kind in "fcV")


def to_torch(torch, array):
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


@contextmanager
def torch_options(torch, options):
    with torch._tensor_str.printoptions(**options), printoptions(**options):
        assert get_printoptions() == torch._tensor_str.get_printoptions()
        yield


@pytest.mark.parametrize("block", range(0, CASES, 100))
def test_as_torch(block):
    torch = pytest.importorskip("torch")
    for seed in range(block, block + 100):
        array, options, requires_grad = draw_case(seed)
        tensor = to_torch(torch, array).requires_grad_(requires_grad)
        with torch_options(torch, options):
            ours = show(array, requires_grad=requires_grad)
            assert ours == repr(tensor), f"case {seed}: {array.dtype} {array.shape} {options}"


@pytest.mark.parametrize("name", [name for name, case in GOLDEN.items() if set(case[1]) <= {"requires_grad"}])
def test_golden_strings_are_torchs(name):
    torch = pytest.importorskip("torch")
    array, facts, options, text = GOLDEN[name]
    with torch_options(torch, options):
        assert repr(to_torch(torch, array).requires_grad_(bool(facts))) == text


def test_grad_fn_and_parameter_as_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for width in range(1, 100):
        array = rng.standard_normal(int(rng.integers(1, 14))).astype(np.float32)
        leaf = torch.from_numpy(array).requires_grad_()
        with torch_options(torch, {"linewidth": width}):
            text = show(array, requires_grad=True, grad_fn_name="MulBackward0")
            assert text == repr(leaf * 1.0)
            assert show(array, requires_grad=True, is_parameter=True) == repr(torch.nn.Parameter(leaf.detach()))
            text = show(array[::2].astype(np.float64), requires_grad=True, grad_fn_name="ToCopyBackward0")
            assert text == repr(leaf[::2].double())


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_values_as_torch(dtype):
    torch = pytest.importorskip("torch")
    if dtype == "bool" or "int" in dtype:
        info = None if dtype == "bool" else np.iinfo(dtype)
        arrays = [np.array([False, True]) if info is None else np.array([info.min, 0, info.max], dtype)]
    else:
        kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
        info = pytest.importorskip("ml_dtypes").finfo(kind)
        ends = [float(info.max), float(info.smallest_subnormal), float(info.tiny), -float(info.max)]
        arrays = [np.array(ends[:count]).astype(kind) for count in (1, 2, 4)] + [np.array([end], kind) for end in ends]
    for array in arrays:
        for options in ({}, {"sci_mode": False}, {"sci_mode": True}, {"precision": 12}):
            with torch_options(torch, options):
                assert show(array) == repr(to_torch(torch, array))


def test_profiles_as_torch():
    torch = pytest.importorskip("torch")
    for options in ({"profile": "odd"}, {"profile": "short", "precision": 7}, {"profile": "full", "threshold": 3}):
        with torch_options(torch, options):
            array = np.linspace(0, 1, 1200, dtype=np.float32)
            assert show(array) == repr(torch.from_numpy(array))
