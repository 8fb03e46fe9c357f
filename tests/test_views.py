"""Views and in-place operations beside PyTorch: small programs run on both libraries through one function.

A program takes the library as T and gives a list of tensors and plain values. What it raises counts as its result.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tapegrad

real_torch = pytest.importorskip("torch")

PROGRAMS: dict[str, Callable[[Any], Any]] = {}
FAILING: dict[str, Callable[[Any], Any]] = {}


def program(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    PROGRAMS[function.__name__] = function
    return function


def failing(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A program that must raise."""
    FAILING[function.__name__] = function
    return function


def leaf(T: Any, *shape: int) -> Any:
    shape = shape or (3, 4)
    return T.tensor(np.random.default_rng(len(shape)).normal(size=shape)).requires_grad_()


def run(T: Any, function: Callable[[Any], Any]) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = function(T)
    return list(found) if isinstance(found, (tuple, list)) else [found]


# ---- what is a view --------------------------------------------------------------------------------------------------


@program
def bases_of_chains(T):
    x = T.arange(24.0).reshape(2, 3, 4).clone()
    views = [
        x[0],
        x[0][1],
        x.view(6, 4).t(),
        x[:, 1:].unsqueeze(0),
        x.expand(2, 2, 3, 4),
        x.transpose(0, 1)[..., 1:],
        x.detach(),
    ]
    copies = [x[[0]], x.clone(), x.permute(2, 1, 0).reshape(-1), x + 0, x.flip(0), x.contiguous()]
    return [v._base is x for v in views] + [c._base is None for c in copies] + [v._is_view() for v in views[:3]]


@program
def memory_is_shared(T):
    x = T.zeros(3, 4)
    x[0][1] = 1
    x.t()[3, 2] = 2
    x.view(-1)[5] = 3
    x.narrow(1, 1, 2)[2].fill_(4)
    x.diagonal().add_(10)
    x.unfold(1, 2, 2)[:, 1, 0] = 7
    x.unbind(0)[1][3] = 8
    x.chunk(2, 1)[1][0, 1] = 9
    x.squeeze().unsqueeze(0)[0, 2, 3] = 6
    x.as_strided((2,), (5,), 1).mul_(-1)
    x.detach()[0, 0] = 11
    x.data[0, 0] += 1
    return x


@program
def views_of_views_of_no_graph(T):
    x = T.arange(12.0).view(3, 4)
    a, b = x[1:], x[:, 1:]
    a[0] = 0
    b[:, 0] += 100
    return [x, a, b, x._version, a._version, b._version]


@program
def requires_grad_of_views(T):
    x = leaf(T)
    v = x[0]
    d = x.detach()
    return [v.requires_grad, v.is_leaf, d.requires_grad, d.is_leaf, x.data.requires_grad, v._base is x]


# ---- versions --------------------------------------------------------------------------------------------------------


@program
def versions_count_writes(T):
    x = T.zeros(2, 3)
    found = [x._version]
    x.add_(1)
    found.append(x._version)
    x[0] = 1
    found.append(x._version)
    v = x[1]
    v.mul_(2)
    found += [x._version, v._version]
    x.fill_(3)
    x.zero_()
    x.copy_(x + 1)
    found.append(x._version)
    y = x.detach()
    y.add_(1)
    found += [x._version, y._version, x.clone()._version, (x + 1)._version]
    return found


@program
def data_has_its_own_version(T):
    x = T.ones(3)
    before = x._version
    x.data.mul_(5)
    return [x._version == before, x]


# ---- in-place on tensors with a history ------------------------------------------------------------------------------


@program
def in_place_on_an_intermediate(T):
    x = leaf(T)
    y = x * 2
    y.mul_(3)
    y.add_(x)
    y.sum().backward()
    return [x.grad, y]


@program
def in_place_after_use_that_saves_nothing(T):
    x = leaf(T)
    y = x * 2
    z = y + 1
    y.mul_(5)
    (z * 2 + y).sum().backward()
    return x.grad


@program
def in_place_result_is_saved(T):
    x = leaf(T)
    y = x * 0.5
    y.mul_(3)
    y.tanh_()
    (y * y).sum().backward()
    return x.grad


@program
def write_through_a_view(T):
    x = leaf(T)
    y = x * 1
    v = y[0]
    v.mul_(3)
    (y * y).sum().backward()
    return [x.grad, v, y]


@program
def view_sees_write_into_base(T):
    x = leaf(T)
    y = x * 1
    v = y[0]
    y.mul_(3)
    (v * v).sum().backward()
    return [x.grad, v, v.requires_grad]


@program
def two_views_one_write(T):
    x = leaf(T)
    y = x * 1
    a, b = y[:2], y[1:]
    a.mul_(2)
    (b * T.arange(8.0, dtype=T.float64).reshape(2, 4)).sum().backward()
    return [x.grad, a, b]


@program
def two_views_two_writes(T):
    x, w = leaf(T), leaf(T, 4)
    y = x * 1
    a, b = y[:2], y.t()
    a.mul_(w)
    b[1:3].add_(w[:1])
    a[0] = w * w
    (y * y + a.sum()).sum().backward()
    return [x.grad, w.grad, y]


@program
def view_of_a_view(T):
    x = leaf(T, 2, 3, 4)
    y = x * 1
    v = y.transpose(0, 2)[1].t()[0]
    v.mul_(x[0, 0, 0])
    (y * y).sum().backward()
    return [x.grad, y, v]


@program
def reshaped_views(T):
    x = leaf(T)
    y = x * 1
    y.view(2, 6)[1].mul_(2)
    y.view(-1)[::3].add_(x[0, 0])
    y.unsqueeze(0).squeeze(0).diagonal().zero_()
    (y * y).sum().backward()
    return [x.grad, y]


@program
def write_into_flattened_nonstandard_layout(T):
    x = leaf(T)
    y = (x * 1).t()
    y[1].mul_(4)
    y.t().view(-1)[0] = x[1, 1]
    (y * y).sum().backward()
    return [x.grad, y]


@program
def base_becomes_recorded_by_a_view(T):
    w = leaf(T, 4)
    base = T.zeros(3, 4, dtype=T.float64)
    v = base[1]
    v.copy_(w)
    base[0] = w * 2
    (base * base).sum().backward()
    return [w.grad, base.requires_grad, base.is_leaf, v.requires_grad, base]


@program
def table_filled_row_by_row(T):
    w = leaf(T, 4)
    table = T.zeros(5, 4, dtype=T.float64)
    table[0] = w
    for t in range(1, 5):
        table[t] = table[t - 1] * 2 + w
    table.sum().backward()
    return [w.grad, table]


@program
def assigned_slices(T):
    x, w = leaf(T), leaf(T, 4)
    y = x * 1
    y[1] = w
    y[:, 2] = w[:3] * 2
    y[0, 1:3] += w[1:3]
    y[2] *= 3
    (y * y).sum().backward()
    return [x.grad, w.grad, y]


@program
def assigned_by_arrays_and_masks(T):
    x, w = leaf(T), leaf(T, 4)
    y = x * 1
    y[[0, 2]] = w
    y[y > 0] = w[0]
    y[1, [0, 3]] += w[:2]
    y.masked_fill_(y < -1, 0.5)
    y.index_add_(0, T.tensor([1]), w[None])
    y.scatter_(1, T.tensor([[1], [2], [3]]), w[:3, None])
    (y * y).sum().backward()
    return [x.grad, w.grad, y]


@program
def overwritten_history(T):
    x = leaf(T)
    y = x * 2
    y.zero_()
    y[0] = x[1]
    y.sum().backward()
    return [x.grad, y]


@program
def copied_over(T):
    x, w = leaf(T), leaf(T)
    y = x * 2
    y.copy_(w)
    z = x * 3
    z[1:].copy_(w[0])
    (y * z).sum().backward()
    return [x.grad if x.grad is not None else 0, w.grad]


@program
def copy_converts_and_broadcasts(T):
    w = leaf(T, 4)
    y = T.zeros(3, 4)
    y.copy_(w)
    y.sum().backward()
    n = T.zeros(2, dtype=T.int64)
    n.copy_(T.tensor([1.7, -2.7]))
    return [w.grad, y.dtype == T.float32, n]


@program
def plus_equals_on_parts_of_a_leaf_in_no_grad(T):
    x = leaf(T)
    with T.no_grad():
        x[0] += 1
        x.mul_(2)
        x[:, 1].zero_()
    y = (x * x).sum()
    y.backward()
    return [x, x.grad, x.is_leaf, x.requires_grad]


@program
def optimizer_step_by_hand(T):
    w = leaf(T, 4)
    for _ in range(3):
        loss = (w * w).sum()
        loss.backward()
        with T.no_grad():
            w -= 0.1 * w.grad
            w.grad.zero_()
    return [w, w.grad, w.is_leaf]


@program
def in_place_before_requires_grad(T):
    x = T.zeros(3, dtype=T.float64)
    v = x[1:]
    v.add_(1)
    x.requires_grad_()
    (x * x).sum().backward()
    return x.grad


@program
def detached_writes_do_not_record(T):
    x = leaf(T)
    y = x * 1
    y.detach().mul_(3)
    y.sum().backward()
    return [x.grad, y]


@program
def data_writes_do_not_record(T):
    x = leaf(T)
    y = x * x
    y.data.zero_()
    x.data.add_(1)
    y.sum().backward()
    return [x.grad, y]


@program
def detach_in_place(T):
    x = leaf(T)
    y = x * 2
    y.detach_()
    return [y.requires_grad, y.is_leaf, (y + x).requires_grad]


@program
def split_parts_are_used(T):
    x = leaf(T)
    a, b = (x * 1).split(2, 1)
    c = (x * 1).unbind(0)
    (a * b + c[1][:2].sum() * c[2][0]).sum().backward()
    return x.grad


@program
def split_parts_written_without_graph(T):
    x = T.zeros(4)
    a, b = x.split(2)
    a.add_(1)
    for row in x.view(2, 2):
        row.mul_(2)
    b[0] = 5
    return [x, x._version]


@program
def views_made_in_no_grad_of_constants(T):
    x, w = T.zeros(3, 4, dtype=T.float64), leaf(T, 4)
    with T.no_grad():
        x[0].add_(1)
    y = x.clone()
    y[1] = w
    y.sum().backward()
    return [w.grad, y]


@program
def in_place_with_several_users(T):
    x = leaf(T)
    y = x.exp()
    z = y.clone()
    z.mul_(y)
    z.sub_(1)
    (z * y).sum().backward()
    return x.grad


@program
def chain_of_in_place_operators(T):
    x, w = leaf(T), leaf(T, 4)
    y = x.clone()
    y += w
    y *= w
    y -= x
    y /= 2
    y.sum().backward()
    return [x.grad, w.grad]


@program
def second_order_through_writes(T):
    x, w = leaf(T), leaf(T, 4)
    y = x * x
    y[0] = w * w
    y[1:].mul_(w)
    (gx, gw) = T.autograd.grad((y * y).sum(), [x, w], create_graph=True)
    (gx * gx).sum().backward()
    return [gx, gw, x.grad, w.grad]


@program
def retained_graph_after_a_write(T):
    x = leaf(T)
    y = x * 2
    y[0] = 0
    z = (y * 3).sum()
    z.backward(retain_graph=True)
    z.backward()
    return x.grad


@program
def hooks_on_a_view_that_is_written(T):
    x = leaf(T)
    y = x * 1
    seen = []
    x.register_hook(lambda g: seen.append(g.clone()))
    y[0].mul_(2)
    y.sum().backward()
    return [x.grad, *seen]


@program
def swapped_rows(T):
    x = leaf(T)
    y = x * 1
    y[[0, 1]] = y[[1, 0]]
    y[:, 0], y[:, 1] = y[:, 1].clone(), y[:, 0].clone()
    (y * T.arange(12.0, dtype=T.float64).view(3, 4)).sum().backward()
    return [x.grad, y]


@program
def unsqueezed_in_place(T):
    x = leaf(T)
    y = x * 2
    y.unsqueeze_(0)
    y.transpose_(1, 2)
    (y * T.arange(12.0, dtype=T.float64).view(1, 4, 3)).sum().backward()
    return [x.grad, y.shape == (1, 4, 3)]


@program
def expanded_then_copied(T):
    x = leaf(T, 4)
    y = x.expand(3, 4).clone()
    y[1] += x
    y.sum().backward()
    return x.grad


@program
def written_while_iterated(T):
    x = leaf(T)
    y = T.zeros(3, 4, dtype=T.float64)
    for i, row in enumerate(x):
        y[i] = row * i
    y.sum().backward()
    return x.grad


@program
def windows_and_strides(T):
    x = leaf(T, 6)
    y = x * 1
    y.unfold(0, 2, 2)[1].mul_(3)
    y.as_strided((3,), (2,)).add_(x[0])
    (y * y).sum().backward()
    return [x.grad, y]


@program
def clone_is_independent(T):
    x = leaf(T)
    y = x.clone()
    y[0] = 0
    y.sum().backward()
    return [x.grad, x]


@program
def inference_tensors(T):
    with T.inference_mode():
        x = T.ones(3)
        x.add_(1)
        v = x[0]
        return [x, v.is_inference(), x.requires_grad]


# ---- what must raise -------------------------------------------------------------------------------------------------


@failing
def in_place_on_a_leaf(T):
    leaf(T).add_(1)


@failing
def in_place_on_a_view_of_a_leaf(T):
    leaf(T)[0].add_(1)


@failing
def assignment_into_a_leaf(T):
    leaf(T)[0] = 1


@failing
def leaf_that_is_itself_a_view(T):
    x = T.arange(4.0).view(2, 2).requires_grad_()
    x[0] = 1


@failing
def zero_of_a_leaf(T):
    leaf(T).zero_()


@failing
def stale_input(T):
    x = leaf(T)
    y = x * 1
    z = y * y
    y.add_(1)
    z.sum().backward()


@failing
def stale_result(T):
    x = leaf(T)
    y = x.exp()
    y.add_(1)
    y.sum().backward()


@failing
def stale_through_a_view(T):
    x = leaf(T)
    y = x * 1
    z = (y * y).sum()
    y[0][1] = 0
    z.backward()


@failing
def stale_through_the_base(T):
    x = leaf(T)
    y = x * 1
    v = y[0]
    z = (v * v).sum()
    y[2] = 0
    z.backward()


@failing
def stale_through_detach(T):
    x = leaf(T)
    y = x * 1
    z = (y * y).sum()
    y.detach().add_(1)
    z.backward()


@failing
def stale_in_no_grad(T):
    x = leaf(T)
    y = (x * x).sum()
    with T.no_grad():
        x.add_(1)
    y.backward()


@failing
def view_made_in_no_grad(T):
    x = leaf(T)
    y = x * 1
    with T.no_grad():
        v = y[0]
    v.add_(1)


@failing
def write_into_a_part_of_split(T):
    y = leaf(T) * 1
    y.split(2)[1].mul_(2)


@failing
def write_into_a_part_of_chunk(T):
    y = leaf(T) * 1
    y.chunk(2, 1)[0].add_(1)


@failing
def write_into_a_row_of_unbind(T):
    y = leaf(T) * 1
    for row in y:
        row.add_(1)


@failing
def write_into_a_view_of_a_part(T):
    y = leaf(T) * 1
    y.split([1, 2])[1].view(-1).mul_(2)


@failing
def write_into_expanded(T):
    y = leaf(T, 1, 4) * 1
    y.expand(3, 4).mul_(2)


@failing
def assignment_into_expanded(T):
    T.zeros(1).expand(3)[:2] = 1


@failing
def detach_in_place_of_a_view(T):
    y = leaf(T) * 1
    y[0].detach_()


@failing
def result_is_larger(T):
    T.zeros(3).add_(T.zeros(2, 3))


@failing
def result_is_of_a_higher_kind(T):
    T.zeros(3, dtype=T.int64).add_(1.5)


@failing
def copy_of_another_shape(T):
    T.zeros(3).copy_(T.zeros(2))


@failing
def requires_grad_switched_off(T):
    (leaf(T) * 1).requires_grad_(False)


@failing
def inference_tensor_written_outside(T):
    with T.inference_mode():
        x = T.ones(3)
    x.add_(1)


@failing
def freed_graph_after_a_write(T):
    x = leaf(T)
    y = x * 2
    y[0] = (x * x)[1]
    y.sum().backward()
    y.sum().backward()


def plain(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str) -> None:
    """Results, gradients and flags are torch's."""
    theirs, mine = run(real_torch, PROGRAMS[name]), run(tapegrad, PROGRAMS[name])
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        if hasattr(b, "detach"):
            np.testing.assert_allclose(plain(a), plain(b), rtol=1e-12, atol=1e-15, strict=True)
            assert a.requires_grad == b.requires_grad
        else:
            assert a == b, inspect.getsource(PROGRAMS[name])


@pytest.mark.parametrize("name", FAILING)
def test_failing_program(name: str) -> None:
    """The exception's type and the beginning of its text are torch's."""
    errors: list[Exception] = []
    for T in (real_torch, tapegrad):
        with pytest.raises((RuntimeError, IndexError, TypeError, ValueError)) as caught:
            run(T, FAILING[name])
        errors.append(caught.value)
    theirs, mine = errors
    assert type(mine) is type(theirs)
    assert str(mine)[:60] == str(theirs)[:60]


def test_a_stale_value_is_named() -> None:
    """The error says which saved value was written, how often, and in which line."""
    x = leaf(tapegrad)
    y = x.exp()
    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    y.add_(1)
    with pytest.raises(RuntimeError) as caught:
        y.sum().backward()
    text = str(caught.value)
    assert "output 0 of Exp" in text and "is at version 1; expected version 0" in text
    assert __file__ in text and f"line {line}" in text


def test_long_loops_of_writes() -> None:
    """A thousand recorded writes into parts of one tensor run backward, without recursion."""
    w = leaf(tapegrad, 4)
    table = tapegrad.zeros(1000, 4, dtype=tapegrad.float64)
    for t in range(1000):
        table[t] = w * t
    table.sum().backward()
    np.testing.assert_allclose(w.grad.cpu().numpy(), np.full(4, 1000 * 999 / 2))


def test_empty_tensors_are_read_as_another_dtype() -> None:
    """NumPy gives arrays without elements strides of 0."""
    assert tapegrad.empty(0, 3).view(tapegrad.uint8).shape == (0, 12)
    assert tapegrad.empty(0, 8, dtype=tapegrad.uint8).view(tapegrad.float32).shape == (0, 2)
