"""The template backend of docs/backends.md as a distribution of its own, found by its entry point; and broken ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from library import ROOT

PAGE = (ROOT / "docs" / "backends.md").read_text("utf-8")


def block(language: str, number: int) -> str:
    """A fenced block of the page."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[number]


def install(folder: Path, source: str, project: dict[str, Any]) -> Path:
    """What an installer leaves in site-packages: the module, and its metadata with the entry points."""
    name, version = project["project"]["name"], project["project"]["version"]
    (module,) = project["tool"]["setuptools"]["py-modules"]
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, points in project["project"]["entry-points"].items():
        lines += [f"[{group}]", *[f"{point} = {value}" for point, value in points.items()]]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def template(tmp_path: Path) -> Path:
    source = next(b for b in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "class ExampleBackend" in b)
    return install(tmp_path, source, tomllib.loads(block("toml", 0)))


def run(folder: Path, *command: str, **variables: str) -> Any:
    """A process in which the distributions of the folder are installed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TAPEGRAD_", "PYTEST_"))}
    environment |= variables
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), environment.get("PYTHONPATH", "")])
    command = (sys.executable, *command)
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=280)


PROGRAM = """
    import sys, tapegrad as torch
    assert "tapegrad_example" not in sys.modules
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    x = torch.randn(16, 2)
    for _ in range(20):
        optimizer.zero_grad()
        loss = (model(x) - x.prod(1, keepdim=True)).pow(2).mean()
        loss.backward()
        optimizer.step()
    print(loss.device.type, loss.item())
"""


def test_the_template_is_found_by_its_entry_point(template: Path) -> None:
    code = textwrap.dedent(PROGRAM)
    there, here = (run(template, "-c", code, **variables) for variables in ({"TAPEGRAD_BACKEND": "example"}, {}))
    assert there.returncode == here.returncode == 0, there.stderr + here.stderr
    (kind, loss), (cpu, expected) = there.stdout.split(), here.stdout.split()
    assert (kind, cpu) == ("example", "cpu")
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


def test_the_kit_runs_on_the_template(template: Path) -> None:
    """As a third party runs it; one op is made wrong, and one missing, and the table says both."""
    chosen = "test_record and (relu or expm1 or tan) or test_program and vae"
    options = ("-m", "pytest", "--backend", "example", "-q", "-p", "no:cacheprovider", "-k", chosen)
    done = run(template, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "conformance of the backend example" in done.stdout
    assert re.search(r"^records +\d+ +0 +0$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^programs +1 +0 +0$", done.stdout, re.MULTILINE), done.stdout
    with open(template / "tapegrad_example.py", "a") as file:
        file.write(
            "\ndef lacking(x):\n    raise NotImplementedError('no expm1 here')\n"
            "ExampleBackend.kernels = {'relu': lambda x: np.maximum(x, 0.5), 'expm1': lacking}\n"
        )
    done = run(template, *options)
    assert done.returncode == 1
    assert re.search(r"^failed  records relu \(forward.*Not equal to tolerance", done.stdout, re.MULTILINE), done.stdout
    missing = r"^missing records expm1 \(forward.*\): no expm1 here \(in op expm1\)$"
    assert re.search(missing, done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import no_such_driver", "ModuleNotFoundError: No module named 'no_such_driver'"),
        ("def other(): pass", "has no attribute 'make'"),
        ("def make(): return 3", "the entry point gives 3, which is no tapegrad.backends.base.Backend"),
        ("def make(): raise OSError('device is asleep')", "OSError: device is asleep"),
        (
            "from tapegrad.backends.base import Backend\nclass Half(Backend):\n    name = 'example'\nmake = Half",
            "Half does not say its device_types, xp, array_type",
        ),
    ],
)
def test_a_broken_plugin_says_what_is_wrong(tmp_path: Path, source: str, text: str) -> None:
    """The import of tapegrad works, the first tensor raises, and the error names the entry point and the cause."""
    install(tmp_path, source + "\n", tomllib.loads(block("toml", 0)))
    code = "import tapegrad as torch\nprint(torch.zeros(1, device='cpu').tolist())\ntorch.zeros(1)"
    done = run(tmp_path, "-c", code, TAPEGRAD_BACKEND="example")
    assert done.stdout == "[0.0]\n" and done.returncode == 1
    said = done.stderr
    assert "BackendError: backend 'example' of tapegrad_example:make cannot be used here: " in said
    assert text in said and "Known backends: numpy, cupy, fake, array_api, example." in said


# ---- programs that mix devices ---------------------------------------------------------------------------------------


def mixed_model() -> Any:
    model = torch.nn.Linear(2, 2, device="fake:1")
    return model(torch.ones(1, 2, device="fake:0"))


def moved_too_late() -> Any:
    model, target = torch.nn.Linear(2, 2).to("fake"), torch.tensor([1])
    return torch.nn.functional.cross_entropy(model(torch.ones(1, 2).to("fake")), target)


def joined() -> Any:
    return torch.cat([torch.ones(1, device="fake:0"), torch.ones(1, device="fake:1")])


def indices_elsewhere() -> Any:
    return torch.nn.Embedding(3, 2, device="fake:1")(torch.tensor([0], device="fake:0"))


def written() -> Any:
    return torch.ones(2, device="fake:0").add_(torch.ones(2, device="fake:1"))


MIXED = {
    mixed_model: ("fake:0", "fake:1"), moved_too_late: ("fake:0", "cpu"), joined: ("fake:0", "fake:1"),
    indices_elsewhere: ("fake:1", "fake:0"), written: ("fake:0", "fake:1"),
}  # fmt: skip


@pytest.mark.parametrize("program", MIXED, ids=lambda p: p.__name__)
def test_a_program_that_mixes_devices(program: Any) -> None:
    """PyTorch's sentence, with both devices."""
    first, second = MIXED[program]
    text = "Expected all tensors to be on the same device, but found at least two devices, "
    with pytest.raises(RuntimeError, match=f"{text}({first} and {second}|{second} and {first})!"):
        program()


def test_two_fake_devices() -> None:
    """Results, gradients, copies and modules stay where they belong; there is no third device."""
    x = torch.arange(4.0, device="fake:1", requires_grad=True)
    y = (x.reshape(2, 2) @ torch.ones(2, 2, device="fake:1")).softmax(0).amax() + torch.zeros((), device="cpu")
    y.backward()
    assert {t.device for t in (y, x.grad, x.new_zeros(1), torch.zeros_like(x), x.argmax())} == {torch.device("fake:1")}
    z = (x.to("fake:0") * 2).sum()
    z.backward()
    assert z.device == torch.device("fake:0") and x.grad.device == torch.device("fake:1")
    assert x.to("fake:0").to("fake:1").tolist() == x.tolist()
    with torch.device("fake:1"):
        model = torch.nn.BatchNorm1d(2)
    assert {t.device.index for t in model.state_dict().values()} == {1}
    assert {p.device.index for p in model.to("fake:0").parameters()} == {0}
    text = r"fake: invalid device ordinal \d; there are 2 devices, fake:0 to fake:1"
    for number in (2, 3, 9):
        for ask in (torch.zeros(1).to, lambda place: torch.zeros(1, device=place), lambda d: torch.tensor(1, device=d)):
            with pytest.raises(RuntimeError, match=text):
                ask(f"fake:{number}")
    assert np.asarray(x.detach().cpu().numpy()).dtype == np.float32
