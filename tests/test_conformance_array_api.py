"""The backend of the array API standard: NumPy's views, writes and dtypes over arrays that have neither."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import Any

import conformance
import numpy as np
import pytest
import tapegrad as torch
from records import RECORDS
from tapegrad.backends import registry
from tapegrad.backends.base import Unsupported

pytest.importorskip("array_api_strict")
pytest.importorskip("array_api_compat")
NEEDS_TORCH = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch's arrays are in torch")
LIBRARIES = ["array_api", pytest.param("array_api:torch", marks=NEEDS_TORCH), "array_api:numpy"]


@pytest.fixture(params=LIBRARIES)
def place(request: pytest.FixtureRequest) -> Any:
    return registry.load(request.param)


def arrays(place: Any, *shape: int, dtype: str = "f8") -> tuple[Any, Any]:
    """The same numbers as an array of the backend and as NumPy's."""
    host = np.random.default_rng(0).uniform(-2, 2, shape).astype(dtype)
    return place.asarray(host), host


def test_names_and_devices() -> None:
    strict, numpy = registry.load("array_api"), registry.load("array_api:numpy")
    assert registry.load("array_api:strict") is strict and registry.load("array_api:array_api_strict") is strict
    assert (strict.name, strict.device_types) == ("array_api", ("array_api",))
    assert (numpy.name, numpy.device_types) == ("array_api:numpy", ("array_api_numpy",))
    assert strict.array_type is not numpy.array_type
    x, y = torch.ones(2, device="array_api"), torch.ones(2, device="array_api_numpy")
    with pytest.raises(RuntimeError, match="at least two devices, array_api and array_api_numpy"):
        x + y
    assert (x + y.to("array_api")).tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("array_api:no_such_library", "No module named 'no_such_library'.*tapegrad.array-api"),
        ("array_api:json", "the module json is no namespace of the array API standard"),
        ("numpy:strict", "unknown backend 'numpy:strict'"),
    ],
)
def test_what_cannot_be_used(name: str, text: str) -> None:
    with pytest.raises(registry.BackendError, match=text):
        registry.load(name)


def test_a_device_alone_chooses_the_library() -> None:
    code = """if True:
        import pickle, tapegrad as torch
        x = torch.ones(2).to("array_api_numpy")
        print(x.device, pickle.loads(pickle.dumps(x)).device, x.to("array_api").device, x.cpu().device)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "array_api_numpy array_api_numpy array_api cpu\n", done.stderr


def test_the_environment_chooses_the_library() -> None:
    code = """if True:
        import sys, tapegrad as torch
        assert not any(name.startswith("array_api") for name in sys.modules)
        model = torch.nn.Linear(3, 2)
        model(torch.ones(4, 3)).pow(2).sum().backward()
        print(model.weight.grad.device, type(model.weight.array.value).__module__)
    """
    for name, expected in (("array_api", "array_api array_api_strict"), ("array_api:numpy", "array_api_numpy numpy")):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "TAPEGRAD_BACKEND": name}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[0] == expected.split()[0] and done.stdout.split()[1].startswith(expected.split()[1])


VIEWS = {
    "slice": lambda a: a[1:3, ::2],
    "reversed": lambda a: a[::-1],
    "one": lambda a: a[1, 2],
    "transposed": lambda a: a.transpose(2, 0, 1),
    "of a view": lambda a: a[1:].swapaxes(0, 2)[1:, 0],
    "reshaped": lambda a: a.reshape(12, 2)[3:],
    "new axis": lambda a: a[:, None, 1],
    "diagonal": lambda a: a[0].diagonal(),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_show_and_write_the_memory(place: Any, name: str) -> None:
    """A write through a view is seen by its base and by other views, and the reverse."""
    mine, theirs = arrays(place, 4, 3, 2)
    a, b = VIEWS[name](mine), VIEWS[name](theirs)
    np.testing.assert_array_equal(place.to_numpy(a), b)
    assert a.strides == b.strides and a.flags.c_contiguous == b.flags.c_contiguous
    assert place.storage_of(a) is place.storage_of(mine)
    b = b if b.ndim else theirs[1, 2, None].reshape(())
    if name != "diagonal":
        a[...] = 7
        (VIEWS[name](theirs)[...] if np.ndim(VIEWS[name](theirs)) else theirs[1:2, 2:3])[...] = 7
        if name == "one":
            theirs[1, 2] = 7
        np.testing.assert_array_equal(place.to_numpy(mine), theirs)
    mine += 1
    np.testing.assert_array_equal(place.to_numpy(VIEWS[name](mine)), VIEWS[name](theirs + 1))


KEYS = [
    lambda i, m: (i,),
    lambda i, m: (slice(None), i),
    lambda i, m: (i, slice(None), i),
    lambda i, m: (slice(None, None, 2), i, i),
    lambda i, m: (i[:, None], i),
    lambda i, m: (1, i),
    lambda i, m: (None, i, Ellipsis, 0),
    lambda i, m: (m,),
    lambda i, m: (m, 1),
]


@pytest.mark.parametrize("number", range(len(KEYS)))
def test_indexing_by_arrays(place: Any, number: int) -> None:
    mine, theirs = arrays(place, 4, 4, 4)
    index, mask = np.array([2, -1, 0, 2]), np.arange(16).reshape(4, 4) % 3 == 0
    a, b = KEYS[number](place.asarray(index), place.asarray(mask)), KEYS[number](index, mask)
    np.testing.assert_array_equal(place.to_numpy(mine[a]), theirs[b])
    value = np.arange(theirs[b].size, dtype="f8").reshape(theirs[b].shape)
    mine[a], theirs[b] = place.asarray(value), value  # of several values for one element the last counts
    np.testing.assert_array_equal(place.to_numpy(mine), theirs)
    place.xp.add.at(mine, a, place.asarray(value))
    np.add.at(theirs, b, value)
    np.testing.assert_allclose(place.to_numpy(mine), theirs)


def test_an_index_outside_is_an_error(place: Any) -> None:
    mine, _ = arrays(place, 3, 2)
    with pytest.raises(IndexError, match="index 3 is out of bounds for axis 0 with size 3"):
        mine[place.asarray(np.array([0, 3]))]
    with pytest.raises(IndexError, match="index -3 is out of bounds for axis 1 with size 2"):
        mine[:, place.asarray(np.array([-3]))]
    with pytest.raises(ValueError, match="could not broadcast input array"):
        mine[0] = place.asarray(np.ones(3))
    with pytest.raises(ValueError, match=r"cannot reshape array of size 6 into shape \(4, 2\)"):
        mine.reshape(4, 2)


DTYPES = ["?", "u1", "i4", "i8", "f4", "f8", "c8", "c16"]
UFUNCS = ["add", "multiply", "true_divide", "power", "maximum", "equal", "less", "logical_and", "bitwise_and", "sqrt",
          "absolute", "floor", "negative"]  # fmt: skip


@pytest.mark.parametrize("name", UFUNCS)
def test_dtypes_are_those_of_numpy(place: Any, name: str) -> None:
    """For every pair of dtypes NumPy's result dtype and value, or NumPy's TypeError, or Unsupported."""
    ufunc = getattr(np, name)
    for first in DTYPES:
        for second in DTYPES if ufunc.nin == 2 else [None]:
            hosts = [np.array([1, 2, 3]).astype(d) for d in (first, second) if d]
            try:
                expected = ufunc(*hosts)
            except TypeError:
                with pytest.raises(TypeError):
                    getattr(place.xp, name)(*map(place.asarray, hosts))
                continue
            complex_order = name in ("maximum", "less") and "c" in [h.dtype.kind for h in hosts]
            if complex_order or (expected.dtype == "f2" and np.dtype("f2") not in place.library.dtypes):
                with pytest.raises(Unsupported, match="no order of complex numbers|no dtype float16"):
                    getattr(place.xp, name)(*map(place.asarray, hosts))
                continue
            found = getattr(place.xp, name)(*map(place.asarray, hosts))
            assert found.dtype == expected.dtype, (name, first, second)
            np.testing.assert_allclose(place.to_numpy(found), expected, rtol=1e-5)


def test_what_a_library_lacks_is_named_with_the_op() -> None:
    x = torch.tensor([4, 6], device="array_api")
    text = r"backend array_api:strict: the library strict [\d.]+ has no function 'gcd'"
    with pytest.raises(Unsupported, match=text) as seen:
        torch.gcd(x, x)
    assert any(note.startswith("in op gcd") for note in seen.value.__notes__)
    assert isinstance(seen.value, NotImplementedError)  # PyTorch's type for an operator that a device does not have
    with pytest.raises(Unsupported, match="no dtype float16"):
        torch.ones(2, device="array_api").half()


def test_there_is_no_silent_way_to_numpy(place: Any) -> None:
    mine, _ = arrays(place, 2)
    with pytest.raises(TypeError, match="implicit conversion"):
        np.asarray(mine)
    with pytest.raises(TypeError):
        np.exp(mine)


def test_training_gives_the_numbers_of_numpy(place: Any) -> None:
    def run(device: str) -> list[float]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.GELU(), torch.nn.MaxPool2d(2),
            torch.nn.Flatten(), torch.nn.Dropout(0.2), torch.nn.Linear(64, 3),
        ).to(device)  # fmt: skip
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        x, y = torch.randn(6, 1, 8, 8).to(device), torch.tensor([0, 1, 2, 0, 1, 2], device=device)
        losses = []
        for _ in range(4):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        return losses

    np.testing.assert_allclose(run(place.device_types[0]), run("cpu"), rtol=2e-5)


SAMPLED = [name for name in RECORDS if name != "transfer"][::9]
ABSENT = ("no special functions", "no function", "bit by bit", "no dtype")


@pytest.mark.parametrize("name", SAMPLED)
def test_records(name: str) -> None:
    """A ninth of the ops, first sample, on array-api-strict (`pytest --backend array_api` runs all of everything)."""
    conformance.run_record(RECORDS[name], "array_api", 1)
    parts = conformance.results["records"].pop(name)
    for part, (state, reason) in parts.items():
        assert state == conformance.PASSED or any(words in reason for words in ABSENT), f"{part}: {reason}"
    assert parts
