"""tapegrad.compat: `import torch` means tapegrad on request, and what a program uses is listed before it runs."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from tapegrad.compat import tables, uses


def python(code, cwd, *arguments):
    """A fresh process; the tests' own has the real torch."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], cwd=cwd, capture_output=True, text=True
    )


def compat(cwd, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "tapegrad.compat", *arguments], cwd=cwd, capture_output=True, text=True
    )


def test_every_module_is_the_same_object(tmp_path):
    done = python(
        """
        import sys
        import tapegrad, tapegrad.compat
        before = {n: m for n, m in sys.modules.items() if n.startswith("tapegrad")}
        assert not tapegrad.compat.installed()
        tapegrad.compat.install()
        tapegrad.compat.install()
        import torch, torch.nn as nn, torch.nn.functional as F, torch.utils.data.dataloader, torch.random
        import torch.multiprocessing, torch.functional, torch.autograd.grad_mode, torch.distributions.normal
        import torch.nn.modules.instancenorm, torch.backends.cudnn, torch.optim.lr_scheduler, torch.cuda.amp
        assert torch is tapegrad and nn is tapegrad.nn and F is tapegrad.nn.functional
        assert torch.random is tapegrad.autograd.random and torch.functional is tapegrad
        assert torch.utils.data.dataloader is sys.modules["tapegrad.utils.data.dataloader"]
        from torch.nn.modules.instancenorm import InstanceNorm1d
        assert InstanceNorm1d is nn.InstanceNorm1d
        for name, module in before.items():
            assert sys.modules[name] is module and module.__name__ == name and module.__spec__.name == name, name
        files = [m.__file__ for n, m in sys.modules.items() if n.startswith("tapegrad") and m.__file__]
        assert len(files) == len(set(files)), "a module was loaded twice"
        assert isinstance(torch.ones(1), tapegrad.Tensor)
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_what_is_missing_is_an_import_error(tmp_path):
    done = python(
        """
        import tapegrad.compat
        tapegrad.compat.install()
        import importlib
        for name in ("torch.no_such_room", "torch.nn.no_such_room", "torch.tests", "torch.benchmarks"):
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                assert error.name == name and "tapegrad has no" in str(error)
            else:
                raise AssertionError(name)
        try:
            from torch.nn import NoSuchLayer
        except ImportError:
            pass
        import torch
        assert not hasattr(torch, "no_such_function")
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_uninstall_gives_the_name_back(tmp_path):
    done = python(
        """
        import sys
        sys.modules.pop("torch", None)
        import tapegrad.compat as compat
        compat.install()
        import torch.nn
        compat.uninstall()
        assert not compat.installed() and not [n for n in sys.modules if n.split(".")[0] == "torch"]
        assert "tapegrad.nn" in sys.modules
        compat.uninstall()
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_the_real_torch_is_not_replaced(tmp_path):
    (tmp_path / "torch.py").write_text("real = True\n")
    done = python(
        """
        import torch
        import tapegrad.compat
        try:
            tapegrad.compat.install()
        except RuntimeError as error:
            assert "torch is imported already, from" in str(error) and "torch.py" in str(error)
        else:
            raise AssertionError
        assert torch.real and not tapegrad.compat.installed()
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_importing_tapegrad_installs_nothing(tmp_path):
    (tmp_path / "torch.py").write_text("real = True\n")
    code = "import sys, tapegrad, torch; assert torch.real and 'tapegrad.compat' not in sys.modules"
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


PROGRAM = """
import sys
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim import Adam as A, lr_scheduler
from torch.utils.data import DataLoader
from model import Net

t = torch
out = F.relu(torch.ones(1, dtype=torch.float32))
print("runs", sys.argv[1:], __name__, torch.__name__, out.item(), Net()(t.ones(2)).item())
optimizer = A(Net().parameters(), lr=0.1)
if False:
    torch.fx.symbolic_trace(1)
    x.frobnicate().index_reduce_(1)
    nn.Linear(2, 2, colour=3)
    torch.compile(Net())
sys.exit(3)
"""
MODEL = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(nn.init.ones_(__import__("torch").empty(2)))
    def forward(self, x):
        return (x * self.p).sum()
"""


@pytest.fixture
def program(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "model.py").write_text(MODEL)
    return tmp_path


def test_the_names_of_a_program(program):
    found = {v.use.name: v for v in uses.verdicts_of(program / "program.py")}
    assert found["torch.nn.functional.relu"].status == found["torch.optim.Adam"].status == "same"
    assert found["torch.nn.init.ones_"].use.file.endswith("model.py")  # files beside it are read too
    assert found["torch.ones"].use.keywords == {"dtype"}
    assert found["torch.fx.symbolic_trace"].status == "missing" and found["torch.fx.symbolic_trace"].use.line == 15
    assert found["torch.nn.Linear"].status == "differs" and "colour" in found["torch.nn.Linear"].reason
    assert found["torch.compile"].status == "differs" and "as it is" in found["torch.compile"].reason
    assert found["torch.utils.data.DataLoader"].status == "differs"
    assert not any("frobnicate" in name for name in found)  # nothing of torch's


def test_methods_that_only_tensors_have(tmp_path, monkeypatch):
    path = tmp_path / "p.py"
    path.write_text("import torch\ny = torch.ones(2).scatter_reduce_(0)\nz = [].append(1)\n")
    names = [use.name for use in uses.uses_of(path)]
    assert "Tensor.scatter_reduce_" in names and "Tensor.append" not in names
    monkeypatch.setattr(uses, "_METHODS", frozenset({"scatter_reduce_", "no_such_method"}))
    path.write_text("import torch\ntorch.ones(2).no_such_method()\n")
    (verdict,) = [v for v in uses.verdicts_of(path) if v.use.name.startswith("Tensor.")]
    assert verdict.status == "missing"


def test_star_imports_and_aliases(tmp_path):
    path = tmp_path / "p.py"
    path.write_text("from torch.nn import *\nimport torch as th\nL = th.nn\nLinear(1, 2)\nL.ReLU()\n")
    names = {use.name for use in uses.uses_of(path)}
    assert {"torch.nn.Linear", "torch.nn.ReLU"} <= names


def test_run(program):
    done = compat(program, "program.py", "a", "--b")
    assert done.stdout == "runs ['a', '--b'] __main__ tapegrad 1.0 2.0\n"
    assert done.returncode == 3
    assert "missing" in done.stderr and "torch.fx.symbolic_trace" in done.stderr


def test_check_runs_nothing(program):
    done = compat(program, "--check", "program.py")
    assert done.returncode == 1 and "runs [" not in done.stdout
    assert "1 missing, 3 differ" in done.stdout and "the same:" in done.stdout
    (program / "good.py").write_text("import torch\ntorch.ones(1)\n")
    assert compat(program, "--check", "good.py").returncode == 0


def test_wrong_command_lines(tmp_path):
    assert compat(tmp_path).returncode == 2
    assert compat(tmp_path, "absent.py").returncode == 2
    assert compat(tmp_path, "--help").returncode == 0
    (tmp_path / "bad.py").write_text("import torch\ndef f(:\n")
    done = compat(tmp_path, "bad.py")
    assert done.returncode == 2 and "bad.py:2" in done.stderr


def test_a_failing_program_fails(tmp_path):
    (tmp_path / "p.py").write_text("import torch\nraise ValueError('no')\n")
    done = compat(tmp_path, "p.py")
    assert done.returncode == 1 and "ValueError: no" in done.stderr


def test_the_list_of_tensor_attributes_is_torchs():
    torch = pytest.importorskip("torch")
    if not torch.__version__.startswith("2.13"):
        pytest.skip("the list is that of 2.13")
    assert sorted(tables.TENSOR_ATTRIBUTES) == sorted(n for n in dir(torch.Tensor) if not n.startswith("_"))


def test_what_differs_is_there():
    """A name in the table of differences that is missing would say the wrong thing."""
    for name in tables.DIFFERS:
        uses._resolve(name)
