"""The engine: depth, memory, freeing, threads, modes, and PyTorch's errors."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import warnings
import weakref
from typing import Any

import numpy as np
import pytest
import tapegrad as torch


def leaf(*values: float) -> Any:
    return torch.tensor(list(values), requires_grad=True)


def test_chain_of_a_million_ops_runs_and_is_freed() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(1_000_000):
        y = y + 1.0
    alive = weakref.ref(y.grad_fn)
    y.backward()
    assert x.grad.tolist() == [1.0]
    del y
    assert alive() is None


def test_deep_graph_without_backward_is_freed() -> None:
    y = leaf(1.0)
    for _ in range(200_000):
        y = y * 1.0
    node = weakref.ref(y.grad_fn)
    del y
    assert node() is None


def test_diamond_and_reuse() -> None:
    x = leaf(3.0)
    a = x * x
    b = a + x
    c = a * b
    c.sum().backward()
    # c = x^2 (x^2 + x): 4 x^3 + 3 x^2
    assert x.grad.tolist() == [4 * 27 + 27.0]


def test_wide_fan_in_adds_in_place_without_touching_what_is_shared() -> None:
    x = leaf(1.0, 2.0)
    seed = torch.ones(2)
    total = x
    for _ in range(50):
        total = total + x
    total.backward(seed)
    assert x.grad.tolist() == [51.0, 51.0]
    assert seed.tolist() == [1.0, 1.0]


def test_two_leaves_do_not_share_their_gradients() -> None:
    a, b = leaf(1.0), leaf(2.0)
    g = torch.ones(1)
    (a + b).backward(g)
    a.grad.add_(5)
    assert b.grad.tolist() == [1.0]
    assert g.tolist() == [1.0]


def test_gradients_accumulate() -> None:
    x = leaf(2.0)
    for _ in range(3):
        (x * x).backward()
    assert x.grad.tolist() == [12.0]


def test_second_backward_is_refused_where_something_was_saved() -> None:
    x = leaf(2.0)
    y = x * x
    y.backward()
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        y.backward()
    z = (x + 1).sum()
    z.backward()
    z.backward()  # nothing saved: PyTorch allows it


def test_retain_graph() -> None:
    x = leaf(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [8.0]


def test_any_order() -> None:
    x = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    g = x**5
    expected = [5 * 16, 20 * 8, 60 * 4, 120 * 2, 120.0]
    for value in expected:
        (g,) = torch.autograd.grad(g, x, create_graph=True)
        assert g.item() == pytest.approx(value)


def test_grad_does_not_fill_grad_and_prunes() -> None:
    x, y = leaf(1.0), leaf(2.0)
    calls: list[str] = []
    h = y * 2
    h.register_hook(lambda g: calls.append("h"))
    (g,) = torch.autograd.grad((x * 3 + h).sum(), x)
    assert g.tolist() == [3.0]
    assert x.grad is None and y.grad is None
    assert not calls


def test_grad_of_intermediate() -> None:
    x = leaf(3.0)
    h = x * x
    y = h * 2
    gh, gx = torch.autograd.grad(y.sum(), (h, x))
    assert gh.tolist() == [2.0] and gx.tolist() == [12.0]


def test_allow_unused_and_materialize() -> None:
    x, y = leaf(1.0), leaf(1.0)
    with pytest.raises(RuntimeError, match="appears to not have been used"):
        torch.autograd.grad((x * 2).sum(), (x, y), retain_graph=True)
    assert torch.autograd.grad((x * 2).sum(), (x, y), allow_unused=True)[1] is None
    assert torch.autograd.grad((x * 2).sum(), (x, y), materialize_grads=True)[1].tolist() == [0.0]


def test_is_grads_batched() -> None:
    x = leaf(1.0, 2.0)
    (jac,) = torch.autograd.grad(x * x, x, torch.eye(2), is_grads_batched=True)
    assert jac.tolist() == [[2.0, 0.0], [0.0, 4.0]]


def test_backward_inputs() -> None:
    x, y = leaf(1.0), leaf(1.0)
    (x * y).sum().backward(inputs=[x])
    assert x.grad.tolist() == [1.0] and y.grad is None


def test_backward_of_several_roots() -> None:
    x = leaf(1.0, 2.0)
    torch.autograd.backward([(x * 2).sum(), (x * 3).sum()])
    assert x.grad.tolist() == [5.0, 5.0]


def test_create_graph_by_backward() -> None:
    x = leaf(3.0)
    (x * x * x).backward(create_graph=True)
    g = x.grad
    assert g.requires_grad
    x.grad = None
    g.backward()
    assert x.grad.tolist() == [18.0]
    x.grad = None


def test_no_reference_cycles() -> None:
    """With the collector off, a dropped graph frees its arrays at once."""
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        y = (x * x).tanh() + x.exp()
        z = y.view(2, 1)
        z.mul_(2.0)
        s = z.sum()
        refs = [weakref.ref(t) for t in (y, z, s)] + [weakref.ref(s.grad_fn)]
        s.backward(retain_graph=True)
        (g,) = torch.autograd.grad(s, x, create_graph=True)
        refs.append(weakref.ref(g))
        del y, z, s, g
        assert [r() for r in refs] == [None] * len(refs)
    finally:
        gc.enable()


def test_saved_arrays_are_freed_as_the_walk_passes() -> None:
    x = torch.ones(1000, requires_grad=True)
    y = x.exp()
    saved = weakref.ref(y.array)
    loss = (y * 1.0).sum()
    del y
    assert saved() is not None
    loss.backward()
    assert saved() is None


def test_training_steps_do_not_grow_memory() -> None:
    w = torch.randn(16, 16, requires_grad=True)
    b = torch.zeros(16, requires_grad=True)
    x = torch.randn(8, 16)

    def step() -> None:
        loss = ((x @ w + b).tanh() ** 2).mean()
        w.grad = b.grad = None
        loss.backward()
        with torch.no_grad():
            w.sub_(w.grad * 0.01)
            b.sub_(b.grad * 0.01)

    for _ in range(100):
        step()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(2000):
        step()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 64 * 1024, f"2000 steps grew memory by {grown} bytes"


def test_views_of_a_long_lived_tensor_do_not_pile_up() -> None:
    w = torch.randn(4, 4, requires_grad=True)
    for _ in range(2000):
        w.t()
    assert len(w._views) < 100


def test_backward_from_several_threads() -> None:
    w = torch.ones(64, requires_grad=True)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                x = torch.ones(64, requires_grad=True)
                (x * x * 2.0).sum().backward()
                assert x.grad.tolist() == [4.0] * 64
                (g,) = torch.autograd.grad((w * 3.0).sum(), w)
                assert g.tolist() == [3.0] * 64
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors


def test_grad_mode_is_per_thread() -> None:
    seen: list[bool] = []
    with torch.no_grad():
        t = threading.Thread(target=lambda: seen.append(torch.is_grad_enabled()))
        t.start()
        t.join()
    assert seen == [True]


def test_backward_inside_backward() -> None:
    class Inner(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            with torch.enable_grad():
                fresh = x.detach().requires_grad_()
                (fresh * fresh).sum().backward()
            return g * fresh.grad

    x = leaf(3.0)
    Inner.apply(x).sum().backward()
    assert x.grad.tolist() == [6.0]


def test_failure_in_the_walk_leaves_the_graph_usable() -> None:
    fail = [True]

    class Sometimes(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            if fail[0]:
                raise ValueError("this time")
            return g * 2

    x = leaf(1.0)
    y = (Sometimes.apply(x * x)).sum()
    with pytest.raises(ValueError, match="this time"):
        y.backward(retain_graph=True)
    fail[0] = False
    y.backward()
    assert x.grad.tolist() == [4.0]


# ---- modes


def test_modes_as_decorators_and_context_managers() -> None:
    x = leaf(1.0)

    @torch.no_grad()
    def quiet() -> Any:
        return x * 2

    @torch.enable_grad()
    def loud() -> Any:
        return x * 2

    @torch.no_grad
    def bare() -> Any:
        return x * 2

    assert not quiet().requires_grad and not bare().requires_grad
    with torch.no_grad():
        assert loud().requires_grad
        with torch.set_grad_enabled(True):
            assert torch.is_grad_enabled()
        assert not torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    assert not torch.is_grad_enabled()
    torch.set_grad_enabled(True)


def test_no_grad_on_a_generator_function() -> None:
    seen = []

    @torch.no_grad()
    def numbers() -> Any:
        for i in range(3):
            seen.append(torch.is_grad_enabled())
            yield i

    for _ in numbers():
        assert torch.is_grad_enabled()
    assert seen == [False] * 3


def test_inference_mode() -> None:
    x = leaf(1.0)
    with torch.inference_mode():
        y = x * 2
        assert y.is_inference() and not y.requires_grad
        assert torch.is_inference_mode_enabled()
    assert not (x * 2).is_inference()
    with pytest.raises(RuntimeError, match="inference tensor"):
        y.add_(1)
    with pytest.raises(RuntimeError, match="[Ii]nference tensor"):
        y.requires_grad_()


# ---- leaves


def test_leaf_rules() -> None:
    x = leaf(1.0)
    y = x * 2
    assert x.is_leaf and not y.is_leaf and y.detach().is_leaf
    with pytest.raises(RuntimeError, match="you can only change requires_grad flags of leaf variables"):
        y.requires_grad = False
    with pytest.raises(RuntimeError, match="floating point"):
        torch.tensor([1]).requires_grad_()
    with pytest.warns(UserWarning, match="not a leaf Tensor"):
        assert y.grad is None
    with pytest.raises(RuntimeError, match="different size"):
        x.grad = torch.ones(2)


def test_detach_shares_memory() -> None:
    x = leaf(1.0)
    d = x.detach()
    d.mul_(3)
    assert x.tolist() == [3.0]
    y = x * x
    d.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_data_is_not_seen_by_autograd() -> None:
    x = leaf(2.0)
    y = x * x
    x.data.mul_(10)
    y.backward()
    assert x.grad.tolist() == [40.0]  # PyTorch's trap, kept


def test_next_functions_and_names() -> None:
    x = leaf(1.0)
    y = x * 2 + x.exp()
    assert y.grad_fn.name() == "AddBackward0"
    names = [fn.name() for fn, _ in y.grad_fn.next_functions]
    assert names == ["MulBackward0", "ExpBackward0"]
    (accumulate, _), *_ = y.grad_fn.next_functions[1][0].next_functions
    assert accumulate.variable is x
    assert type(y.grad_fn).__name__ == "Node" and "AddBackward0" in repr(y.grad_fn)


# ---- hooks


def test_tensor_hooks_and_handles() -> None:
    x = leaf(1.0)
    y = x * 2
    handle = y.register_hook(lambda g: g * 10)
    (y * 1).backward(retain_graph=True)
    assert x.grad.tolist() == [20.0]
    handle.remove()
    x.grad = None
    (y * 1).backward()
    assert x.grad.tolist() == [2.0]


def test_leaf_hook_and_post_accumulate() -> None:
    x = leaf(1.0)
    x.register_hook(lambda g: g + 1)
    seen = []
    x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.tolist()))
    (x * 2).backward()
    assert x.grad.tolist() == [3.0] and seen == [[3.0]]


def test_node_hooks() -> None:
    x = leaf(1.0)
    y = x * 3
    seen = []
    y.grad_fn.register_prehook(lambda outs: (outs[0] * 2,))
    y.grad_fn.register_hook(lambda ins, outs: seen.append((ins[0].item(), outs[0].item())))
    y.backward()
    assert x.grad.tolist() == [6.0] and seen == [(6.0, 2.0)]


def test_retain_grad() -> None:
    x = leaf(2.0)
    y = x * x
    y.retain_grad()
    y.register_hook(lambda g: g * 2)
    (y * 3).backward()
    assert y.retains_grad and y.grad.tolist() == [6.0] and x.grad.tolist() == [24.0]


def test_multi_grad_hook() -> None:
    x, y = leaf(1.0), leaf(2.0)
    seen: list[Any] = []
    torch.autograd.graph.register_multi_grad_hook((x, y), lambda gs: seen.append([g.item() for g in gs]))
    (x * y).backward()
    assert seen == [[2.0, 1.0]]


def test_saved_tensors_hooks() -> None:
    x = leaf(2.0)
    packed = []

    def pack(t: Any) -> Any:
        packed.append(t.shape)
        return t.detach().cpu().numpy().copy()

    with torch.autograd.graph.saved_tensors_hooks(pack, torch.as_tensor):
        y = x * x * x
    y.backward()
    assert x.grad.tolist() == [12.0] and packed
    with torch.autograd.graph.save_on_cpu():
        z = x.exp()
    z.backward()
    with torch.autograd.graph.disable_saved_tensors_hooks("not here"):
        with pytest.raises(RuntimeError, match="not here"):
            with torch.autograd.graph.saved_tensors_hooks(pack, pack):
                pass


# ---- anomaly mode


def test_anomaly_mode_names_the_forward_line() -> None:
    x = leaf(0.0)
    with pytest.warns(UserWarning, match="Anomaly Detection has been enabled"):
        mode = torch.autograd.detect_anomaly()
    with mode:
        y = x.log() * 0.0
        y = y / 0.0  # line of the forward call
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Error detected in")
            with pytest.raises(RuntimeError, match="returned nan values.*test_engine.py.*log"):
                y.backward()
    torch.autograd.set_detect_anomaly(True)
    torch.autograd.set_detect_anomaly(False)
    z = x * 1
    z.backward()


# ---- stale values


def test_stale_saved_value_names_the_write() -> None:
    x = leaf(1.0)
    y = x.exp()
    y.add_(1)
    with pytest.raises(RuntimeError) as caught:
        y.backward()
    text = str(caught.value)
    parts = ("[torch.FloatTensor [1]]", "output 0 of Exp", "is at version 1", "expected version 0", "test_engine.py")
    for part in parts:
        assert part in text


def test_stale_saved_value_names_both_lines_in_anomaly_mode() -> None:
    """The line that saved the value and the first write after it, with their text; nothing of later writes."""
    x = leaf(1.0, 2.0)
    torch.autograd.set_detect_anomaly(True, check_nan=False)
    try:
        y = x.exp()
        y.mul_(2.0)  # before the value is saved: innocent
        z = y * y  # saves y
        y.add_(1)  # spoils it
        y[0] = 3.0
        with pytest.raises(RuntimeError) as caught:
            z.sum().backward()
    finally:
        torch.autograd.set_detect_anomaly(False)
    first = test_stale_saved_value_names_both_lines_in_anomaly_mode.__code__.co_firstlineno
    text = str(caught.value)
    assert text.startswith(
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        "[torch.FloatTensor [2]], which is the saved argument 'y' of Mul, is at version 3; expected version 1 instead. "
    )
    assert f'Mul saved it at "{__file__}", line {first + 7} (z = y * y  # saves y). ' in text
    assert f'2 in-place writes since then was at "{__file__}", line {first + 8} (y.add_(1)  # spoils it). ' in text
    assert "the forward call that made MulBackward0" in caught.value.__notes__[0]


def test_lines_of_many_writes() -> None:
    x = leaf(1.0)
    y = x.exp()
    for _ in range(200):
        y.add_(1)
    with pytest.raises(RuntimeError, match=r"version 200; expected version \d+ instead. The first of \d+ in-place"):
        y.backward()


def test_versions_count_writes() -> None:
    x = torch.zeros(2)
    assert x._version == 0
    x.add_(1)
    x[0] = 3
    assert x._version == 2
    assert x[0:1]._version == 2
    assert torch.zeros(2)._version == 0


def test_leaf_in_place_is_refused_but_not_under_no_grad() -> None:
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        x.mul_(2)
    with torch.no_grad():
        x.mul_(2)
    assert x.tolist() == [2.0]


def test_implicit_seed_needs_one_element() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.ones(1).backward()
    with pytest.raises(RuntimeError, match="Mismatch in shape"):
        (x * 2).backward(torch.ones(3))


def test_gradcheck_finds_a_wrong_backward() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    x = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: t * t, (x,))
    assert torch.autograd.gradcheck(lambda t: t * t, (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda t: t * t * t, (x,))
    for fast in (False, True):
        with pytest.raises(RuntimeError, match="Jacobian mismatch"):
            torch.autograd.gradcheck(Wrong.apply, (x,), fast_mode=fast)
        assert not torch.autograd.gradcheck(Wrong.apply, (x,), fast_mode=fast, raise_exception=False)


def test_numpy_arrays_are_not_tensors() -> None:
    with pytest.raises(TypeError, match="must be Tensor"):
        torch.exp(np.ones(2))
