"""Backends and devices: how a backend is found, chosen and plugged in, and all device logic on the fake device."""

from __future__ import annotations

import copy
import importlib.util
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from tapegrad import nn, optim
from tapegrad.backends import registry
from tapegrad.backends.base import Backend, DeviceKey
from tapegrad.backends.fake import FakeArray
from tapegrad.utils.data import DataLoader, TensorDataset

MISSING_CUPY = importlib.util.find_spec("cupy") is None


def python(code: str, *paths: Path, **variables: str) -> str:
    """What a fresh Python prints, in an environment with these TAPEGRAD_* variables alone."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TAPEGRAD_")}
    environment.update(variables)
    environment["PYTHONPATH"] = os.pathsep.join([*map(str, paths), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- the registry ----------------------------------------------------------------------------------------------------

REFUSED = """
    import tapegrad as torch
    from tapegrad.backends.registry import BackendError
    print("imported")
    for create in (lambda: torch.zeros(2), lambda: torch.tensor([1.0]), lambda: torch.nn.Linear(1, 1)):
        try:
            create()
        except BackendError as error:
            assert isinstance(error, RuntimeError)
            print(error)
    print(torch.zeros(2, device="cpu").device)
"""


def test_an_unknown_backend_is_an_error_at_the_first_tensor() -> None:
    imported, *errors, place = python(REFUSED, TAPEGRAD_BACKEND="nonsense").splitlines()
    assert imported == "imported" and place == "cpu"
    assert len(errors) == 3
    for text in errors:
        assert "unknown backend 'nonsense'" in text and "TAPEGRAD_BACKEND" in text
        assert "Known backends: numpy, cupy, fake" in text


@pytest.mark.skipif(not MISSING_CUPY, reason="CuPy is installed")
def test_a_backend_that_is_not_installed_says_how_to_install_it() -> None:
    imported, *errors, place = python(REFUSED, TAPEGRAD_BACKEND="cupy").splitlines()
    assert imported == "imported" and place == "cpu"
    assert len(errors) == 3
    for text in errors:
        assert "backend 'cupy' cannot be used here" in text and "pip install 'tapegrad[cupy13]'" in text
    with pytest.raises(registry.BackendError, match="pip install"):
        torch.ones(2).to("cuda")


def test_the_environment_is_read_at_first_use() -> None:
    code = """
        import os
        import tapegrad as torch
        from tapegrad.backends import registry
        assert "fake" not in registry._loaded
        os.environ["TAPEGRAD_BACKEND"] = "fake"
        print(torch.zeros(2).device)
    """
    assert python(code) == "fake:0\n"


def test_import_loads_no_backend_but_numpy() -> None:
    code = """
        import sys
        import tapegrad as torch
        torch.ones(2).sum().item()
        print([n for n in sys.modules if n.startswith("tapegrad.backends.") and n.count(".") == 2])
    """
    loaded = python(code)
    assert "backends.numpy" in loaded and "backends.fake" not in loaded and "backends.cupy" not in loaded


def test_an_empty_variable_means_the_default() -> None:
    assert python("import tapegrad; print(tapegrad.ones(1).device)", TAPEGRAD_BACKEND="") == "cpu\n"


def test_look_ups() -> None:
    numpy, fake = registry.load("numpy"), registry.load("fake")
    assert registry.load("numpy") is numpy and numpy.name == "numpy"
    assert registry.backend_of(np.ones(2)) is numpy and registry.backend_of(np.float32(1)) is numpy
    assert registry.backend_of(torch.ones(2, device="fake").array) is fake
    assert registry.backend_of_device("cpu") is numpy and registry.backend_of_device("fake") is fake
    with pytest.raises(TypeError, match="no backend for arrays of type builtins.list"):
        registry.backend_of([1.0])
    with pytest.raises(registry.BackendError, match="no backend serves the device 'mps'"):
        registry.backend_of_device("mps")
    with pytest.raises(registry.BackendError, match="unknown backend 'nonsense'"):
        registry.load("nonsense")
    assert registry.kernels_of(fake) == {}


def test_the_base_class_names_what_a_backend_lacks() -> None:
    class Empty(Backend):
        name = "empty"
        device_types = ("empty",)
        array_type = np.ndarray

    empty = Empty()
    with pytest.raises(TypeError, match="backend empty does not define asarray"):
        empty.asarray([1.0])
    with pytest.raises(TypeError, match="backend empty does not define to_numpy"):
        empty.to_numpy(np.ones(1))
    assert empty.device_of(np.ones(1)) == DeviceKey("empty") and empty.device_count() == 1
    array = np.ones(4)
    assert empty.tidy(array) is array and empty.storage_of(array[1:][1:]) is array
    assert empty.may_keep(array) and not empty.may_keep(array[1:])
    with empty.guard(DeviceKey("empty")):
        empty.synchronize()


# ---- plug-ins --------------------------------------------------------------------------------------------------------

PLUGIN = '''
import numpy as np
from tapegrad.backends.base import Backend, DeviceKey

class MoonArray(np.ndarray):
    pass

class MoonBackend(Backend):
    name = "moon"
    device_types = ("moon",)
    xp = np
    array_type = MoonArray
    loses_type = True

    def asarray(self, obj, dtype=None, device=None, copy=None):
        return np.array(obj, dtype=dtype, copy=True, subok=True).view(MoonArray)

    def tidy(self, out):
        return out if isinstance(out, MoonArray) else np.asarray(out).view(MoonArray)

    def to_numpy(self, array):
        return np.array(array, subok=False)

CALLS = []
def relu(x):
    CALLS.append(x.shape)
    return np.maximum(x, 0)
MoonBackend.kernels = {"relu": relu}

def make():
    return MoonBackend()

backend = MoonBackend()
'''
TRAIN = """
    import tapegrad as torch
    from tapegrad import nn, optim
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 1))
    assert {p.device.type for p in model.parameters()} == {PLACE}, [p.device for p in model.parameters()]
    x = torch.randn(32, 3)
    y = (x.sum(1, keepdim=True) > 0).float()
    optimizer = optim.AdamW(model.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert {p.grad.device.type for p in model.parameters()} == {PLACE}
    print(loss.device.type, losses[0], losses[-1])
"""


def install(folder: Path, name: str, source: str, entry: str) -> Path:
    """A distribution on disk that announces a backend `name`."""
    (folder / f"{name}_backend.py").write_text(source)
    info = folder / f"{name}_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[tapegrad.backends]\n{name} = {name}_backend:{entry}\n")
    return folder


def train(place: str, *paths: Path, **variables: str) -> list[float]:
    kind, *losses = python(f"    PLACE = {place!r}" + TRAIN, *paths, **variables).split()
    assert kind == place
    return [float(v) for v in losses]


@pytest.mark.parametrize("entry", ["make", "backend", "MoonBackend"])
def test_a_plugin_trains(tmp_path: Path, entry: str) -> None:
    folder = install(tmp_path, "moon", PLUGIN, entry)
    code = f"    PLACE = 'moon'{TRAIN}    import moon_backend\n    print(len(moon_backend.CALLS))"
    kind, first, last, calls = python(code, folder, TAPEGRAD_BACKEND="moon").split()
    assert kind == "moon" and int(calls) == 30, "the plug-in's own kernel was called once a step"
    assert float(last) < 0.5 * float(first)
    assert [float(first), float(last)] == pytest.approx(train("cpu"), rel=1e-3)


def test_a_plugin_is_found_by_its_device(tmp_path: Path) -> None:
    code = """
        import tapegrad as torch
        from tapegrad.backends import registry
        registry.load("moon")
        x = torch.ones(2, device="moon", requires_grad=True)
        (x.cpu() * 3).sum().backward()
        print(x.device, x.grad.device, x.grad.tolist(), torch.ones(1).device, repr(x.detach()))
        try: x + torch.ones(2)
        except RuntimeError as error: print(error)
    """
    first, second = python(code, install(tmp_path, "moon", PLUGIN, "make")).splitlines()
    assert first == "moon moon [3.0, 3.0] cpu tensor([1., 1.], device='moon')"
    assert "moon and cpu" in second


def test_a_plugin_that_fails_to_load_is_named_with_the_reason(tmp_path: Path) -> None:
    install(tmp_path, "broken", "raise OSError('libmoon.so: cannot open shared object file')", "make")
    _, *errors, place = python(REFUSED, tmp_path, TAPEGRAD_BACKEND="broken").splitlines()
    assert place == "cpu" and len(errors) == 3
    for text in errors:
        assert "backend 'broken' of broken_backend:make cannot be used here" in text
        assert "OSError: libmoon.so: cannot open shared object file" in text
        assert "Known backends: numpy, cupy, fake, broken" in text


def test_a_plugin_whose_maker_fails_or_is_missing(tmp_path: Path) -> None:
    install(tmp_path, "dark", "def make(): raise ValueError('no device found')", "make")
    install(tmp_path, "lost", "", "make")
    assert "ValueError: no device found" in python(REFUSED, tmp_path, TAPEGRAD_BACKEND="dark")
    assert "AttributeError" in python(REFUSED, tmp_path, TAPEGRAD_BACKEND="lost")


class SunArray(np.ndarray):
    """Arrays of a backend that is registered by hand."""


class SunBackend(Backend):
    name = "sun"
    device_types = ("sun",)
    xp = np
    array_type = SunArray
    loses_type = True

    def asarray(self, obj: Any, dtype: Any = None, device: Any = None, copy: Any = None) -> Any:
        return np.array(obj, dtype=dtype, subok=True).view(SunArray)

    def to_numpy(self, array: Any) -> Any:
        return np.array(array, subok=False)


def test_register_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))
    with pytest.raises(RuntimeError, match="sun"):
        torch.device("sun")
    backend = registry.register(SunBackend())
    assert registry.load("sun") is backend and registry.backend_of_device("sun") is backend
    x = torch.tensor([1.0, -2.0], device="sun", requires_grad=True)
    assert registry.backend_of(x.array) is backend
    y = x.relu() * x.abs().sum()
    y.sum().backward()
    assert y.device == x.grad.device == torch.device("sun")
    assert x.grad.tolist() == [4.0, -1.0]


# ---- without fused kernels -------------------------------------------------------------------------------------------

CNN = """
    import numpy as np
    import tapegrad as torch
    from tapegrad import nn
    from tapegrad.backends import registry
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, stride=2),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(6), nn.Linear(6, 5),
    )
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.standard_normal((4, 1, 12, 12)), dtype=torch.float32)
    loss = nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    print(len(registry.kernels_of(registry.load("numpy"))), repr(loss.item()))
    print(*[p.grad.norm().item() for p in model.parameters()])
"""


def test_the_generic_forms_train_as_the_kernels_do() -> None:
    fused, generic = python(CNN).split(), python(CNN, TAPEGRAD_GENERIC="1").split()
    assert int(fused[0]) > 20 and int(generic[0]) == 0
    assert float(generic[1]) == pytest.approx(float(fused[1]), rel=1e-5)
    for a, b in zip(generic[2:], fused[2:], strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-3, abs=1e-5)
