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
        assert "Known backends: numpy, cupy, fake, array_api, broken" in text


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


# ---- where new tensors go --------------------------------------------------------------------------------------------


def kinds() -> list[str]:
    """The device types that new tensors get from functions of each kind."""
    made = [torch.zeros(1), torch.tensor([1.0]), torch.arange(2), torch.randn(1), torch.as_tensor([1]), torch.eye(2)]
    return sorted({t.device.type for t in [*made, nn.Linear(1, 1).weight, nn.BatchNorm1d(1).running_mean]})


def test_the_order_of_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEGRAD_BACKEND", "numpy")
    assert kinds() == ["cpu"]
    monkeypatch.setenv("TAPEGRAD_BACKEND", "fake")
    assert kinds() == ["fake"]
    torch.set_default_device("cpu")
    try:
        assert kinds() == ["cpu"]
        with torch.device("fake"):
            assert kinds() == ["fake"]
            assert torch.zeros(1, device="cpu").device.type == "cpu"
            with torch.device("cpu"):
                assert kinds() == ["cpu"]
            assert kinds() == ["fake"]
        assert kinds() == ["cpu"]
    finally:
        torch.set_default_device(None)
    assert kinds() == ["fake"]
    monkeypatch.delenv("TAPEGRAD_BACKEND")
    assert kinds() == ["cpu"]


def test_what_has_a_place_keeps_it_under_another_default() -> None:
    on_fake, on_cpu = torch.ones(2, device="fake"), torch.ones(2, device="cpu")
    with torch.device("fake"):
        assert torch.from_numpy(np.ones(2)).device.type == "cpu"
        for t in (on_cpu + 1, torch.zeros_like(on_cpu), on_cpu.new_ones(1), on_cpu.clone(), torch.rand_like(on_cpu)):
            assert t.device.type == "cpu"
    with torch.device("cpu"):
        for t in (on_fake * 2, torch.zeros_like(on_fake), on_fake.new_ones(1), on_fake.clone(), on_fake.argmax()):
            assert t.device.type == "fake" and isinstance(t.array, FakeArray)


def test_unknown_devices() -> None:
    for wrong in ("bogus", "cpu:x", "fake:"):
        with pytest.raises(RuntimeError):
            torch.zeros(1, device=wrong)
    with pytest.raises(RuntimeError, match="no backend serves the device 'mps'"):
        torch.zeros(1, device="mps")


# ---- the fake device -------------------------------------------------------------------------------------------------


def leaf(*values: float, device: str = "fake") -> Any:
    return torch.tensor(values, dtype=torch.float64, device=device, requires_grad=True)


CREATED = """
zeros(2) | ones(2, 3) | empty(2) | full((2,), 3.0) | tensor([1, 2]) | arange(4) | linspace(0, 1, 3) | eye(2) | rand(2)
randn(2) | randint(0, 5, (3,)) | randperm(4) | as_tensor([1.0]) | zeros(()) | empty(0, 3) | tensor(1.5) | tensor([1j])
""".replace("\n", " | ").split(" | ")


@pytest.mark.parametrize("text", [t for t in CREATED if t])
def test_creation(text: str) -> None:
    t = eval(f"torch.{text[:-1]}, device='fake')")
    same = eval(f"torch.{text[:-1]}, device='cpu')")
    assert t.device == torch.device("fake:0") and isinstance(t.array, FakeArray)
    assert t.dtype is same.dtype and t.shape == same.shape and type(same.array) is np.ndarray


def test_moves_carry_gradients_both_ways() -> None:
    x = leaf(1.0, 2.0, device="cpu")
    y = (x * 2).to("fake")
    z = (y * y).cpu()
    assert y.device.type == "fake" and z.device.type == "cpu"
    (z * torch.tensor([1.0, 10.0], dtype=torch.float64, device="cpu")).sum().backward()
    assert x.grad.device.type == "cpu" and x.grad.tolist() == [8.0, 160.0]
    x = leaf(1.0, 2.0)
    (g,) = torch.autograd.grad((x.cpu() ** 3).sum(), x, create_graph=True)
    assert g.device.type == "fake" and g.tolist() == [3.0, 12.0]
    g.sum().backward()
    assert x.grad.device.type == "fake" and x.grad.tolist() == [6.0, 12.0]


def test_moves_copy_and_stay_put() -> None:
    x = torch.ones(2, device="fake")
    assert x.to("fake") is x and x.to("fake:0") is x and x.to(x) is x and x.to(torch.float32) is x
    host = x.cpu()
    assert host.cpu() is host and type(host.array) is np.ndarray
    host.zero_()
    assert x.tolist() == [1.0, 1.0]
    other = x.to("fake", copy=True)
    other.zero_()
    assert x.tolist() == [1.0, 1.0]
    both = torch.ones(2, device="cpu").to("fake", torch.int64)
    assert both.dtype is torch.int64 and both.device.type == "fake"
    assert torch.ones(2, device="cpu").to(both).dtype is torch.int64
    assert x.get_device() == 0 and not x.is_cpu and not x.is_cuda


MIXED = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: b * a,
    "where": lambda a, b: torch.where(a > 0, a, b),
    "cat": lambda a, b: torch.cat([a, b]),
    "stack": lambda a, b: torch.stack([a, b]),
    "dot": lambda a, b: a @ b,
    "matmul": lambda a, b: a.reshape(1, 2) @ b.reshape(2, 1),
    "mse_loss": lambda a, b: nn.functional.mse_loss(a, b),
    "linear": lambda a, b: nn.functional.linear(a, b.reshape(1, 2)),
    "iadd": lambda a, b: a.add_(b),
    "comparison": lambda a, b: a < b,
    "atan2": lambda a, b: torch.atan2(a, b),
}


@pytest.mark.parametrize("name", MIXED)
def test_mixed_devices_are_an_error_that_names_both(name: str) -> None:
    a, b = torch.ones(2, device="fake"), torch.ones(2, device="cpu")
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device") as caught:
        MIXED[name](a, b)
    text = str(caught.value)
    assert "fake:0" in text and "cpu" in text and "(op " in text and "move them with .to(device)" in text


def test_the_error_names_the_op_and_its_arguments() -> None:
    a, b = torch.ones(2, device="fake"), torch.ones(2, device="cpu")
    with pytest.raises(RuntimeError, match=r"\(op mse_loss: \w+ on fake:0, \w+ on cpu; "):
        nn.functional.mse_loss(a, b)
    with pytest.raises(RuntimeError, match=r"\(op mm: \w+ on cpu, \w+ on fake:0; "):
        b.reshape(1, 2) @ a.reshape(2, 1)


def test_numbers_and_0d_cpu_tensors_join() -> None:
    x = leaf(1.0, 2.0)
    scale = leaf(3.0, device="cpu")[0]
    flat = torch.tensor(3.0, dtype=torch.float64, device="cpu", requires_grad=True)
    y = x * flat + flat / 2 - 1
    assert y.device.type == "fake" and y.tolist() == [3.5, 6.5]
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
    assert flat.grad.device.type == "cpu" and flat.grad.item() == 4.0
    assert (scale * x).device.type == "fake"
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(2, device="cpu") + torch.tensor(1.0, device="fake")  # not the other way round


def test_indexing_with_cpu_indices_and_masks() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x[torch.tensor([2, 0], device="cpu")].sum() + x[x > 1.5].sum()
    y.backward()
    assert x.grad.device.type == "fake" and x.grad.tolist() == [1.0, 1.0, 2.0]


def test_values_leave_only_by_cpu() -> None:
    x = torch.tensor([1.0, 2.0], device="fake")
    with pytest.raises(TypeError, match="can't convert fake:0 device type tensor to numpy. Use Tensor.cpu()"):
        x.numpy()
    with pytest.raises(TypeError, match="Tensor.cpu"):
        np.asarray(x)
    for host in (x.cpu().numpy(), x.numpy(force=True)):
        assert type(host) is np.ndarray and host.tolist() == [1.0, 2.0]
    assert x.tolist() == [1.0, 2.0] and x.sum().item() == 3.0 and float(x[1]) == 2.0 and bool(x[0] == 1)


def test_printing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAPEGRAD_BACKEND", raising=False)  # the default device is not shown
    assert repr(torch.tensor([1.0, 2.0], device="fake")) == "tensor([1., 2.], device='fake:0')"
    assert repr(torch.tensor([1, 2], dtype=torch.int8, device="fake")) == (
        "tensor([1, 2], device='fake:0', dtype=torch.int8)"
    )
    assert repr(leaf(1.0)) == "tensor([1.], device='fake:0', dtype=torch.float64, requires_grad=True)"
    assert "device='fake:0'" in repr(leaf(1.0) * 2)
    assert repr(nn.Parameter(torch.ones(1, device="fake"))) == (
        "Parameter containing:\ntensor([1.], device='fake:0', requires_grad=True)"
    )


def test_in_place_and_views() -> None:
    x = leaf(1.0, 2.0, 3.0, 4.0)
    y = x * 1
    view = y.reshape(2, 2)[0]
    view.mul_(10)
    assert y.device.type == "fake" and y.tolist() == [10.0, 20.0, 3.0, 4.0] and y._version == view._version == 1
    y[3] = 7.0
    assert view._base is y and isinstance(view.array, FakeArray)
    (y * y).sum().backward()
    assert x.grad.tolist() == [200.0, 400.0, 6.0, 0.0]
    z = torch.zeros(3, device="fake")
    z.copy_(torch.tensor([1.0, 2.0, 3.0], device="cpu"))
    z[1:].fill_(5)
    z += 1
    assert z.tolist() == [2.0, 6.0, 6.0] and isinstance(z.array, FakeArray)
    saved = leaf(2.0)
    squared = saved * 1
    out = squared * squared
    squared.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_gradients_of_two_leaves_are_apart() -> None:
    a, b = leaf(1.0), leaf(2.0)
    seed = torch.ones(1, dtype=torch.float64, device="fake")
    (a + b).backward(seed)
    a.grad.add_(5)
    assert b.grad.tolist() == [1.0] and seed.tolist() == [1.0]


@pytest.mark.parametrize("place", ["cpu", "fake"])
def test_copies(place: str) -> None:
    x = leaf(1.0, 2.0, device=place)
    (x * 3).sum().backward()
    for made in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert made.device == x.device and made.dtype is x.dtype and made.requires_grad and made.tolist() == [1.0, 2.0]
        with torch.no_grad():
            made.zero_()
    assert x.tolist() == [1.0, 2.0]
    assert copy.deepcopy(x).grad.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("place", ["cpu", "fake"])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_views_of_one_memory_stay_so_in_a_deepcopy(place: str, kind: str, order: str) -> None:
    if kind == "bfloat16":
        pytest.importorskip("ml_dtypes")
    table = torch.arange(6, device=place).to(getattr(torch, kind)).reshape(2, 3)
    if order == "F":
        table = table.T
    first, second, whole, turned = copy.deepcopy([table[0], table[1], table, table.T[1:]])
    assert first.tolist() == table[0].tolist() and second.tolist() == table[1].tolist()
    assert turned.tolist() == table.T[1:].tolist() and whole.stride() == table.stride()
    whole.zero_()
    assert not first.any() and not second.any() and not turned.any() and second._version == whole._version
    assert table.any() and whole.device == table.device


def test_random_streams_are_the_cpus() -> None:
    def draw(place: str) -> list[Any]:
        torch.manual_seed(7)
        made = [
            torch.rand(5, device=place), torch.randn(20, device=place), torch.randint(0, 9, (4,), device=place),
            torch.randperm(6, device=place), torch.empty(3, device=place).uniform_(-1, 1),
            nn.Linear(3, 2, device=place).weight.detach(), nn.functional.dropout(torch.ones(20, device=place)),
            torch.bernoulli(torch.full((9,), 0.5, device=place)),
        ]  # fmt: skip
        assert {t.device.type for t in made} == {place}
        return [t.tolist() for t in made]

    assert draw("fake") == draw("cpu")


# ---- modules, optimizers, data ---------------------------------------------------------------------------------------


def network() -> Any:
    """Without a bias before the batch norm: its gradient is rounding alone, which Adam makes a step of full size."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1)).to("cpu")


def steps(model: Any, place: str, count: int = 3) -> Any:
    """A few steps of Adam on the device; gives the optimizer."""
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    data = DataLoader(TensorDataset(*inputs()), batch_size=4)
    for _ in range(count):
        for x, y in data:
            x, y = x.to(place), y.to(place)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
    return optimizer


def inputs() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.random((8, 3), np.float32)), torch.from_numpy(rng.random((8, 1), np.float32))


def test_a_module_moves_trains_and_comes_back() -> None:
    here, there = network(), network()
    parameters = list(there.parameters())
    assert there.to("fake") is there
    assert list(there.parameters())[0] is parameters[0], "optimizers made before the move keep their parameters"
    assert {t.device.type for t in there.state_dict().values()} == {"fake"}
    ours, theirs = steps(here, "cpu"), steps(there, "fake")
    assert {p.grad.device.type for p in there.parameters()} == {"fake"}
    assert {type(p.array) for p in there.parameters()} == {FakeArray}
    moments = theirs.state_dict()["state"][0]
    assert moments["exp_avg"].device.type == moments["exp_avg_sq"].device.type == "fake"

    fresh = network()
    assert not any(fresh.load_state_dict(there.state_dict()))
    assert {t.device.type for t in fresh.state_dict().values()} == {"cpu"}
    for name, t in here.state_dict().items():
        np.testing.assert_allclose(fresh.state_dict()[name].numpy(), t.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)

    resumed = optim.Adam(fresh.parameters(), lr=0.01)
    resumed.load_state_dict(theirs.state_dict())
    assert {v.device.type for s in resumed.state.values() for v in s.values()} == {"cpu"}
    again = pickle.loads(pickle.dumps(there.state_dict()))
    assert {t.device.type for t in again.values()} == {"fake"}
    assert there.cpu()[0].weight.device.type == "cpu"
    assert len(ours.state) == len(resumed.state) == 5


def test_batches_are_moved_and_the_model_says_where_it_is() -> None:
    model = network().to("fake")
    (x, y), *_ = DataLoader(TensorDataset(*inputs()), batch_size=4)
    assert x.device.type == y.device.type == "cpu"
    with pytest.raises(RuntimeError, match="same device.*linear|linear.*same device"):
        model(x)
    moved = model(x.to("fake", non_blocking=True))
    assert moved.device.type == "fake" and moved.shape == (4, 1)
