"""Hooks of modules: order, replaced values, errors.

Tests that take `torch` run twice with the same assertions: with tapegrad, and with PyTorch where it is installed.
"""

import importlib
from collections import OrderedDict, namedtuple

import pytest
from module_samples import affine, raises


@pytest.fixture(params=["tapegrad", "torch"])
def torch(request):
    return pytest.importorskip(request.param)


def test_forward_hooks(torch):
    m = affine(torch)()
    seen = []
    handles = [
        m.register_forward_pre_hook(lambda module, args: seen.append(("pre", len(args)))),
        m.register_forward_pre_hook(lambda module, args: args[0] + 1),
        m.register_forward_pre_hook(lambda module, args: seen.append("first"), prepend=True),
        m.register_forward_hook(lambda module, args, out: seen.append(args[0].tolist())),
        m.register_forward_hook(lambda module, args, out: out * 10),
        m.register_forward_hook(lambda module, args, out: seen.append("early"), prepend=True),
    ]
    assert m(torch.ones(2)).tolist() == [40, 40]
    assert seen == ["first", ("pre", 1), "early", [2, 2]]
    for handle in handles:
        handle.remove()
    assert m(torch.ones(2)).tolist() == [2, 2] and len(seen) == 4
    with m.register_forward_hook(lambda *_: "replaced"):
        assert m(torch.ones(2)) == "replaced"
    assert m(torch.ones(2)).tolist() == [2, 2]


def test_forward_hooks_with_kwargs(torch):
    class Sum(torch.nn.Module):
        def forward(self, a, b=0):
            return a + b

    m = Sum()
    m.register_forward_pre_hook(lambda module, args, kwargs: (args, {"b": kwargs["b"] + 1}), with_kwargs=True)
    m.register_forward_hook(lambda module, args, kwargs, out: (out, kwargs), with_kwargs=True)
    assert m(1, b=2) == (4, {"b": 3})
    m.register_forward_pre_hook(lambda module, args, kwargs: 3, with_kwargs=True)
    assert raises(RuntimeError, m, 1, b=2) == (
        "forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got 3."
    )


def test_always_called_hooks(torch):
    class Bad(torch.nn.Module):
        def forward(self, x):
            raise ValueError("bad")

    def broken(*_):
        raise KeyError("broken")

    m = Bad()
    seen = []
    m.register_forward_hook(lambda module, args, out: seen.append(("always", out)), always_call=True)
    m.register_forward_hook(lambda module, args, out: seen.append("never"))
    m.register_forward_hook(lambda module, args, kwargs, out: seen.append(kwargs), always_call=True, with_kwargs=True)
    m.register_forward_hook(broken, always_call=True)
    with pytest.warns(UserWarning, match="raised an exception that was silenced"):
        assert raises(ValueError, m, 1) == "bad"
    assert seen == [("always", None), {}]


def test_global_forward_hooks(torch):
    hooks = importlib.import_module(f"{torch.__name__}.nn.modules.module")
    m = torch.nn.Sequential(affine(torch)())
    seen = []
    own = m.register_forward_hook(lambda module, args, out: seen.append("own"))
    handles = [
        hooks.register_module_forward_pre_hook(lambda module, args: seen.append(type(module).__name__)),
        hooks.register_module_forward_hook(lambda module, args, out: seen.append("done")),
    ]
    try:
        m(torch.ones(2))
        assert seen == ["Sequential", "Affine", "done", "done", "own"]
    finally:
        for handle in handles:
            handle.remove()
    own.remove()
    m(torch.ones(2))
    assert len(seen) == 5


def test_hook_tables_may_be_changed_directly(torch):
    """Debuggers clear and assign `_forward_hooks`; such changes count at once."""
    m = affine(torch)()
    m._forward_hooks = OrderedDict({99: lambda *_: "assigned"})
    assert m(torch.ones(2)) == "assigned"
    m._forward_hooks.clear()
    assert m(torch.ones(2)).tolist() == [2, 2]
    m._forward_hooks[7] = lambda *_: "written"
    assert m(torch.ones(2)) == "written"
    fresh = affine(torch)()
    fresh._forward_pre_hooks[3] = lambda module, args: (args[0] * 0,)
    assert fresh(torch.ones(2)).tolist() == [0, 0]


def test_full_backward_hooks(torch):
    class Two(torch.nn.Module):
        def forward(self, a, b, n):
            return a * n, a * 5

    m = Two()
    seen = []
    m.register_full_backward_pre_hook(lambda module, grads: seen.append(("pre", [g and g.tolist() for g in grads])))
    m.register_full_backward_hook(
        lambda module, inputs, outputs: seen.append(
            ([g is not None and g.tolist() for g in inputs], [g is not None and g.tolist() for g in outputs])
        )
    )
    x = torch.ones(1, requires_grad=True)
    y, _ = m(x, torch.ones(1), 3)
    y.backward()
    assert seen == [("pre", [[1.0], None]), ([[3.0], [0.0], False], [[1.0], False])] and x.grad.tolist() == [3]
    assert y.grad_fn.name() == "BackwardHookFunctionBackward"


def test_backward_hooks_change_gradients(torch):
    m = affine(torch)()
    handles = [
        m.register_full_backward_pre_hook(lambda module, outputs: (outputs[0] * 10,)),
        m.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] + outputs[0],)),
        m.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] * 100,), prepend=True),
    ]
    x = torch.ones(2, requires_grad=True)
    m(x).sum().backward()
    assert x.grad.tolist() == [2010, 2010] and m.weight.grad.tolist() == [10, 10]
    for handle in handles:
        handle.remove()
    x.grad = None
    m(x).sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_backward_hook_of_a_module_whose_input_needs_no_gradient(torch):
    m = affine(torch)()
    seen = []
    m.register_full_backward_hook(lambda module, inputs, outputs: seen.append((inputs, outputs[0].tolist())))
    y = m(torch.ones(2))
    with pytest.warns(UserWarning, match="Full backward hook is firing when gradients are computed with respect to"):
        y.sum().backward()
    assert seen == [((None,), [1, 1])] and m.weight.grad.tolist() == [1, 1]
    with torch.no_grad():
        m(torch.ones(2))
    assert len(seen) == 1


def test_wrong_results_of_backward_hooks(torch):
    x = torch.ones(2, requires_grad=True)
    m = affine(torch)()
    m.register_full_backward_hook(lambda *_: (x, x))
    assert raises(RuntimeError, m(x).sum().backward) == (
        "Backward hook returned an invalid number of grad_input, got 2, but expected 1"
    )
    m = affine(torch)()
    m.register_full_backward_pre_hook(lambda *_: ())
    assert raises(RuntimeError, m(x).sum().backward) == (
        "Backward pre hook returned an invalid number of grad_output, got 0, but expected 1"
    )
    m = affine(torch)()
    m.register_full_backward_hook(lambda *_: (x,))
    with pytest.warns(UserWarning, match="Full backward hook is firing"):
        assert raises(RuntimeError, m(torch.ones(2)).sum().backward).startswith(
            "Backward hook for Modules where no input requires gradient should always return None"
        )


def test_backward_hook_of_an_output_that_holds_no_tensor_directly(torch):
    class Named(torch.nn.Module):
        def forward(self, x):
            return {"y": x * 2}

    m = Named()
    m.register_full_backward_hook(lambda *_: pytest.fail("must not be called"))
    x = torch.ones(1, requires_grad=True)
    with pytest.warns(UserWarning, match="module output should be a Tensor or a tuple of Tensors but received"):
        y = m(x)["y"]
    y.backward()
    assert x.grad.tolist() == [2]


def test_backward_hooks_keep_a_named_tuple(torch):
    Pair = namedtuple("Pair", ["left", "right"])

    class Split(torch.nn.Module):
        def forward(self, x):
            return Pair(x * 2, 3)

    m = Split()
    seen = []
    m.register_full_backward_hook(lambda module, inputs, outputs: seen.append(len(outputs)))
    x = torch.ones(1, requires_grad=True)
    out = m(x)
    assert type(out) is Pair and out.right == 3
    out.left.backward()
    assert seen == [2] and x.grad.tolist() == [2]


def test_two_kinds_of_backward_hooks_do_not_mix(torch):
    m = affine(torch)()
    m.register_full_backward_hook(lambda *_: None)
    assert raises(RuntimeError, m.register_backward_hook, print) == (
        "Cannot use both regular backward hooks and full backward hooks on a single Module. "
        "Please use only one of them."
    )
    m = affine(torch)()
    m.register_backward_hook(lambda *_: None)
    assert raises(RuntimeError, m.register_full_backward_hook, print).endswith("Please use only one of them.")


def test_last_node_backward_hook(torch):
    class Twice(torch.nn.Module):
        def forward(self, x):
            return (x + 1) * 2

    seen = []
    m = Twice()
    m.register_backward_hook(lambda module, inputs, outputs: seen.append((inputs[0].tolist(), outputs[0].tolist())))
    x = torch.ones(1, requires_grad=True)
    with pytest.warns(FutureWarning, match="when the forward contains multiple autograd Nodes"):
        y = m(x)
    y.backward()
    assert seen == [([2.0], [1.0])] and x.grad.tolist() == [2]


def test_global_backward_hooks(torch):
    hooks = importlib.import_module(f"{torch.__name__}.nn.modules.module")
    seen = []
    handles = [
        hooks.register_module_full_backward_pre_hook(lambda module, outputs: seen.append("pre")),
        hooks.register_module_full_backward_hook(lambda module, inputs, outputs: seen.append(type(module).__name__)),
    ]
    try:
        x = torch.ones(2, requires_grad=True)
        torch.nn.Sequential(affine(torch)())(x).sum().backward()
        assert seen == ["pre", "pre", "Affine", "Sequential"]
    finally:
        for handle in handles:
            handle.remove()
