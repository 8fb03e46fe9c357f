"""`why_no_grad` names the op and the line for each way in which a gradient is lost."""

from __future__ import annotations

import linecache

import numpy as np
import pytest
import tapegrad as torch
from tapegrad.autograd import watch
from tapegrad.utils.why_no_grad import trace_gradients, why_no_grad


@pytest.fixture
def w():
    return torch.tensor([1.0, 2.0], requires_grad=True)


def under_no_grad(w):
    with torch.no_grad():
        y = w * 3  # here
    return y + 1


def under_set_grad_enabled(w):
    with torch.set_grad_enabled(False):
        return torch.cat([w, w])  # here


def under_inference_mode(w):
    with torch.inference_mode():
        return w.exp()  # here


def by_split(w):
    with torch.no_grad():
        y = w * 2  # here
        first, _ = y.split(1)
    return first + 1


def by_numpy_shared(w):
    a = w.detach().numpy()  # here
    return torch.from_numpy(a) * 2


def by_numpy_forced(w):
    a = (w * 2).numpy(force=True)  # here
    return torch.tensor(a).sum()


def by_item(w):
    n = w.sum().item()  # here
    return torch.tensor([n, 1.0]) * 2


WAYS = {
    "detach": (lambda w: (w * 2).detach().sum(), "detach", "detach"),  # here
    "data": (lambda w: w.data.exp(), "data", "data"),  # here
    "no_grad": (under_no_grad, "no_grad", "mul"),
    "set_grad_enabled": (under_set_grad_enabled, "no_grad", "cat"),
    "split": (by_split, "no_grad", "mul"),
    "inference_mode": (under_inference_mode, "inference_mode", "exp"),
    "numpy": (by_numpy_shared, "detach", "detach"),
    "numpy(force=True)": (by_numpy_forced, "numpy", "numpy"),
    "item": (by_item, "number", "item"),
    "torch.tensor": (lambda w: torch.tensor(w) * 2, "copy", "tensor"),  # here
    "argmax": (lambda w: w.argmax() * 2.0, "integer result", "argmax"),  # here
    "comparison": (lambda w: (w > 1).float().mean(), "integer result", "gt"),  # here
    "to integers": (lambda w: w.long().float(), "integer result", "cast"),  # here
    "branch": (lambda w: torch.ones(2) + w.detach(), "detach", "detach"),  # here
}


@pytest.mark.filterwarnings("ignore:To copy construct")
@pytest.mark.parametrize("name", WAYS)
def test_ways_to_lose_a_gradient(w, name):
    make, cause, op = WAYS[name]
    with trace_gradients():
        lost = make(w)
    assert not lost.requires_grad
    found = why_no_grad(lost)
    assert (found.cause, found.op) == (cause, op)
    assert found.filename == __file__
    assert linecache.getline(__file__, found.lineno).rstrip().endswith("# here")
    assert f"line {found.lineno}: " in str(found)


def test_what_kept_its_gradient_is_no_cause(w):
    with trace_gradients():
        y = w * 2
        z = (y.detach() + 1) * w
        constant = torch.ones(2) * 2 + 1
    assert why_no_grad(z).cause == "not lost" and "MulBackward0" in str(why_no_grad(z))
    found = why_no_grad(constant)
    assert (found.cause, found.op) == ("constant", "add")
    z.sum().backward()
    assert w.grad.tolist() == [3.0, 5.0]
    assert "and has one" in str(why_no_grad(w))


def test_without_a_trace(w):
    assert why_no_grad(torch.tensor([1, 2])).cause == "integer"
    assert why_no_grad(torch.tensor([True])).cause == "integer"
    assert why_no_grad(w.data[0]).cause == "data"
    with torch.inference_mode():
        made = torch.ones(2)
    assert why_no_grad(made).cause == "inference_mode"
    with torch.no_grad():
        view = w[0]
    found = why_no_grad(view)
    assert (found.cause, found.op) == ("no_grad", "select")
    assert why_no_grad(w.detach()).cause == "unknown"
    assert "trace_gradients" in str(why_no_grad(torch.ones(3)))
    total = torch.zeros(2)
    with torch.no_grad():
        total.add_(w)  # the write
    found = why_no_grad(total)
    assert found.cause == "written" and linecache.getline(__file__, found.lineno).endswith("# the write\n")


def test_of_a_leaf_and_an_output(w):
    other = torch.ones(2, requires_grad=True)
    loss = (w * 2).sum()
    assert why_no_grad(w).cause == "not lost" and "no backward reached it yet" in str(why_no_grad(w))
    assert why_no_grad(other, loss).cause == "unreached"
    assert why_no_grad(w, loss).cause == "not lost"
    with trace_gradients():
        broken = loss.detach() * 2
    assert why_no_grad(w, broken).cause == "detach"


def test_a_training_step_that_loses_it_in_a_layer():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)
            for p in self.b.parameters():
                p.requires_grad_(False)

        def forward(self, x):
            hidden = torch.relu(self.a(x))
            return self.b(torch.tensor(hidden.tolist()))  # lost

    with trace_gradients():
        loss = Net()(torch.ones(2, 3)).pow(2).mean()
    with pytest.raises(RuntimeError, match="does not require grad"):
        loss.backward()
    found = why_no_grad(loss)
    assert (found.cause, found.op) == ("number", "tolist")
    assert linecache.getline(__file__, found.lineno).endswith("# lost\n")


def test_nothing_is_left_behind(w):
    names = ("detach", "data", "item", "numpy", "tolist")
    before = [torch.Tensor.__dict__[n] for n in names]
    cell = torch.tensor.__closure__[torch.tensor.__code__.co_freevars.index("function")]
    inner = cell.cell_contents
    with pytest.raises(ZeroDivisionError), trace_gradients():
        assert torch.Tensor.__dict__["detach"] is not before[0]
        1 / 0  # noqa: B018
    assert [torch.Tensor.__dict__[n] for n in names] == before
    assert cell.cell_contents is inner and watch._open == []
    np.testing.assert_array_equal(torch.tensor(w.detach()).numpy(), [1, 2])


def test_other_forms_of_calls(w):
    with trace_gradients():
        with torch.no_grad():
            scaled = 2.0 / w  # reflected
            joined = torch.stack([w, w])  # joined
            least = torch.sort(w).values  # sorted
        y = torch.nn.functional.linear(torch.ones(3, 2), torch.ones(4, 2), scaled.new_ones(4)) * scaled.sum()
    for lost, word in ((scaled, "reflected"), (joined, "joined"), (least, "sorted"), (y, "reflected")):
        found = why_no_grad(lost)
        assert found.cause == "no_grad"
        assert linecache.getline(__file__, found.lineno).endswith(f"# {word}\n")


def test_long_chains_need_no_recursion(w):
    with trace_gradients():
        y = w.detach()  # first
        for _ in range(3000):
            y = y + 1
    found = why_no_grad(y)
    assert found.cause == "detach" and linecache.getline(__file__, found.lineno).endswith("# first\n")
