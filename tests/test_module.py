"""Module, its containers and hooks: PyTorch's contract.

Tests that take `torch` run twice with the same assertions: with tapegrad, and with PyTorch where it is installed. So
what they demand of tapegrad is what PyTorch does. The others are about what only tapegrad has.
"""

import copy
import gc
import importlib
import pickle
import warnings
import weakref
from collections import OrderedDict
from pathlib import Path

import pytest
import tapegrad
from tapegrad.nn.modules.registry import REGISTRIES, Registry

nn = tapegrad.nn


@pytest.fixture(params=["tapegrad", "torch"])
def torch(request):
    return pytest.importorskip(request.param)


def affine(torch):
    """A class with a parameter, a None parameter, two buffers (one not saved) and a repr."""

    class Affine(torch.nn.Module):
        def __init__(self, size=2):
            super().__init__()
            self.size = size
            self.weight = torch.nn.Parameter(torch.full((size,), 2.0))
            self.register_parameter("bias", None)
            self.register_buffer("steps", torch.tensor(0))
            self.register_buffer("cache", torch.zeros(1), persistent=False)

        def forward(self, x):
            return x * self.weight

        def extra_repr(self):
            return f"size={self.size}"

    return Affine


def net(torch):
    """A module of modules: two children, one of them a container, and one parameter used in two places."""
    Affine = affine(torch)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = Affine()
            self.rest = torch.nn.Sequential(Affine(3), Affine(3))
            self.tied = self.first
            self.none = None
            self.register_module("absent", None)

        def forward(self, x):
            return self.first(x)

    return Net()


class Pickled(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(tapegrad.ones(2))
        self.register_buffer("count", tapegrad.tensor(3))
        self.layers = nn.ModuleList([nn.Sequential(), nn.Sequential()])
        self.parent = [self]  # a cycle


def raises(kind, call, *args, **kwargs):
    """The text of the error of exactly this kind that the call raises."""
    with pytest.raises(Exception) as caught:
        call(*args, **kwargs)
    assert type(caught.value) is kind
    return caught.value.args[0]


# --- registration


def test_what_is_registered(torch):
    m = affine(torch)()
    assert list(m._parameters) == ["weight", "bias"] and list(m._buffers) == ["steps", "cache"]
    assert m._non_persistent_buffers_set == {"cache"} and m.bias is None and m.training is True
    m.bias = torch.nn.Parameter(torch.zeros(2))
    assert list(m._parameters) == ["weight", "bias"]
    m.child = torch.nn.Sequential()
    m.kept = torch.nn.Buffer(torch.ones(1))
    m.dropped = torch.nn.Buffer(torch.ones(1), persistent=False)
    assert list(m.state_dict()) == ["weight", "bias", "steps", "kept"] and list(m._modules) == ["child"]
    m.dropped = torch.ones(3)
    assert m._buffers["dropped"] is m.dropped and "dropped" in m._non_persistent_buffers_set


def test_a_name_moves_between_kinds(torch):
    m = affine(torch)()
    m.x = 3
    for value in [torch.nn.Parameter(torch.ones(1)), None]:
        m.x = value
        assert m.x is value and m._parameters["x"] is value
    del m.x
    m.x = torch.nn.Sequential()
    assert "x" in m._modules
    m.x = torch.nn.Parameter(torch.ones(1))
    assert "x" in m._parameters and "x" not in m._modules
    m.cache = torch.nn.Parameter(torch.ones(1))
    assert "cache" not in m._buffers and not m._non_persistent_buffers_set
    m.steps = torch.nn.Sequential()
    assert "steps" in m._modules and "steps" not in m._buffers


def test_refused_assignments(torch):
    m = net(torch)
    first = m.first
    assert raises(TypeError, setattr, first, "weight", torch.ones(2)) == (
        "cannot assign 'torch.FloatTensor' as parameter 'weight' (torch.nn.Parameter or None expected)"
    )
    assert raises(TypeError, setattr, first, "weight", 3).startswith("cannot assign 'int' as parameter 'weight'")
    assert raises(TypeError, setattr, m, "first", "a") == (
        "cannot assign 'str' as child module 'first' (torch.nn.Module or None expected)"
    )
    assert raises(TypeError, setattr, first, "steps", 3) == (
        "cannot assign 'int' as buffer 'steps' (torch.nn.Buffer, torch.Tensor or None expected)"
    )
    assert raises(TypeError, first.register_parameter, "p", 3) == (
        "cannot assign 'int' object to parameter 'p' (torch.nn.Parameter or None required)"
    )
    assert raises(TypeError, first.register_buffer, "b", 3) == (
        "cannot assign 'int' object to buffer 'b' (torch Tensor or None required)"
    )
    assert raises(TypeError, first.add_module, "m", 3) == "int is not a Module subclass"
    m.first = None
    assert m._modules["first"] is None
    computed = torch.nn.Parameter(torch.ones(2))
    with torch.no_grad():
        computed.mul_(2)
    first.weight = computed


@pytest.mark.parametrize("kind", ["parameter", "buffer", "module"])
def test_refused_names(torch, kind):
    m = affine(torch)()
    register = getattr(m, f"register_{kind}")
    assert raises(TypeError, register, 3, None) == f"{kind} name should be a string. Got int"
    dot = ", got: a.b" if kind == "module" else ""
    assert raises(KeyError, register, "a.b", None) == f'{kind} name can\'t contain "."{dot}'
    assert raises(KeyError, register, "", None) == f'{kind} name can\'t be empty string ""'
    assert raises(KeyError, register, "size", None) == "attribute 'size' already exists"
    assert raises(KeyError, register, "forward", None) == "attribute 'forward' already exists"


def test_before_init(torch):
    class Early(torch.nn.Module):
        def __init__(self, what):
            self.plain = 3  # allowed
            what(self)

    def message(what):
        return raises(AttributeError, Early, what)

    parameter, module = torch.nn.Parameter(torch.ones(1)), torch.nn.Sequential()
    assert message(lambda m: setattr(m, "p", parameter)) == "cannot assign parameters before Module.__init__() call"
    assert message(lambda m: setattr(m, "m", module)) == "cannot assign module before Module.__init__() call"
    assert message(lambda m: m.register_parameter("p", None)) == "cannot assign parameter before Module.__init__() call"
    assert message(lambda m: m.register_buffer("b", None)) == "cannot assign buffer before Module.__init__() call"
    assert message(lambda m: m.absent) == "'Early' object has no attribute 'absent'"


def test_arguments_of_init(torch):
    class Plain(torch.nn.Module):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)

    assert raises(TypeError, Plain, 1) == "Plain.__init__() takes 1 positional argument but 2 were given"
    assert raises(TypeError, Plain, a=1) == "Plain.__init__() got an unexpected keyword argument 'a'"

    class Other:
        def __init__(self, number):
            self.number = number

    class Both(torch.nn.Module, Other):
        call_super_init = True

        def __init__(self):
            super().__init__(number=7)

    assert Both().number == 7


def test_a_second_init_forgets_the_first():
    m = Pickled()
    nn.Module.__init__(m)
    assert not m._parameters and not hasattr(m, "weight") and not hasattr(m, "layers")


def test_missing_attribute(torch):
    m = affine(torch)()
    assert raises(AttributeError, getattr, m, "wieght") == "'Affine' object has no attribute 'wieght'"
    assert raises(AttributeError, delattr, m, "absent").endswith("has no attribute 'absent'")
    del m.weight, m.cache
    assert not hasattr(m, "weight") and "weight" not in m._parameters and not m._non_persistent_buffers_set


def test_forward_is_required(torch):
    assert raises(NotImplementedError, torch.nn.Module(), 1) == (
        'Module [Module] is missing the required "forward" function'
    )


def test_registration_hooks(torch):
    hooks = importlib.import_module(f"{torch.__name__}.nn.modules.module")
    seen = []

    def note(kind):
        return lambda module, name, value: seen.append((kind, name))

    swapped = torch.nn.Parameter(torch.zeros(1))
    handles = [
        hooks.register_module_parameter_registration_hook(note("parameter")),
        hooks.register_module_parameter_registration_hook(lambda m, name, p: swapped if name == "swap" else None),
        hooks.register_module_buffer_registration_hook(note("buffer")),
        hooks.register_module_module_registration_hook(note("module")),
    ]
    try:
        m = affine(torch)()
        m.swap = torch.nn.Parameter(torch.ones(1))
        m.child = torch.nn.Sequential(torch.nn.Sequential())
    finally:
        for handle in handles:
            handle.remove()
    m.quiet = torch.nn.Parameter(torch.ones(1))
    assert m.swap is swapped
    assert seen == [
        ("parameter", "weight"), ("buffer", "steps"), ("buffer", "cache"), ("parameter", "swap"),
        ("module", "0"), ("module", "child"),
    ]  # fmt: skip


def test_register_buffer_of_before_persistent(torch):
    class Old(torch.nn.Module):
        def register_buffer(self, name, tensor):
            super().register_buffer(name, tensor)

    m = Old()
    m.b = torch.nn.Buffer(torch.ones(1))
    assert "b" in m.state_dict()
    assert raises(RuntimeError, setattr, m, "c", torch.nn.Buffer(torch.ones(1), persistent=False)).startswith(
        "Registering a non-persistent buffer on a Module subclass that implements register_buffer() without"
    )


# --- members


def test_names_of_members(torch):
    m = net(torch)
    assert [name for name, _ in m.named_modules()] == ["", "first", "rest", "rest.0", "rest.1"]
    assert [name for name, _ in m.named_modules(prefix="p", remove_duplicate=False)] == [
        "p", "p.first", "p.rest", "p.rest.0", "p.rest.1", "p.tied",
    ]  # fmt: skip
    assert [name for name, _ in m.named_children()] == ["first", "rest"]
    assert len(list(m.modules())) == 5 and len(list(m.children())) == 2
    assert [name for name, _ in m.named_parameters()] == ["first.weight", "rest.0.weight", "rest.1.weight"]
    assert [name for name, _ in m.named_parameters("p", remove_duplicate=False)][-1] == "p.tied.weight"
    assert list(m.named_parameters(recurse=False)) == [] and len(list(m.parameters())) == 3
    assert [name for name, _ in m.named_buffers()][:2] == ["first.steps", "first.cache"]
    assert len(list(m.buffers())) == 6 and len(list(m.buffers(recurse=False))) == 0
    m.one = m.two = torch.nn.Parameter(torch.ones(1))
    own = [name for name, _ in m.named_parameters(recurse=False)]
    assert own == ["one"]
    assert [n for n, _ in m.named_parameters(recurse=False, remove_duplicate=False)] == ["one", "two"]


def test_members_by_path(torch):
    m = net(torch)
    assert m.get_submodule("") is m and m.get_submodule("rest.1") is m.rest[1]
    assert m.get_parameter("rest.0.weight") is m.rest[0].weight and m.get_buffer("first.steps") is m.first.steps
    assert raises(AttributeError, m.get_submodule, "rest.7") == "Sequential has no attribute `7`"
    assert raises(AttributeError, m.get_submodule, "first.size") == "`size` is not an nn.Module"
    assert raises(AttributeError, m.get_parameter, "first.w") == "Affine has no attribute `w`"
    assert raises(AttributeError, m.get_parameter, "first.steps") == "`steps` is not an nn.Parameter"
    assert raises(AttributeError, m.get_buffer, "first.weight") == "`weight` is not a buffer"
    new = torch.nn.Sequential()
    m.set_submodule("rest.0", new)
    assert m.rest[0] is new
    m.set_submodule("rest.more", new)
    assert list(m.rest._modules) == ["0", "1", "more"]
    assert raises(AttributeError, m.set_submodule, "rest.no", new, strict=True) == "Sequential has no attribute `no`"
    assert raises(AttributeError, m.set_submodule, "first.size", new) == "`size` is not an nn.Module"
    assert raises(ValueError, m.set_submodule, "", new) == "Cannot set the submodule without a target name!"
    assert raises(ValueError, m.set_submodule, "rest.0", 3) == "`module` is not an nn.Module, found <class 'int'>"


def test_dir(torch):
    m = net(torch)
    names = dir(m)
    assert names == sorted(names) and {"first", "rest", "training", "forward"} <= set(names)
    assert not [name for name in dir(m.rest) if name[0].isdigit()] and {"weight", "steps"} <= set(dir(m.first))


def test_modes_and_gradients(torch):
    m = net(torch)
    assert m.eval() is m and not any(module.training for module in m.modules())
    m.train()
    m.rest.train(False)
    assert m.first.training and not m.rest[0].training
    assert raises(ValueError, m.train, 1) == "training mode is expected to be boolean"
    assert m.requires_grad_(False) is m and not any(p.requires_grad for p in m.parameters())
    m.requires_grad_()
    m(torch.ones(2)).sum().backward()
    grad = m.first.weight.grad
    m.zero_grad(set_to_none=False)
    assert m.first.weight.grad is not None and m.first.weight.grad.tolist() == [0, 0] == grad.tolist()
    m.zero_grad()
    assert m.first.weight.grad is None


# --- conversion


def test_apply_visits_children_first(torch):
    m = net(torch)
    seen = []
    assert m.apply(lambda module: seen.append(type(module).__name__)) is m
    assert seen == ["Affine", "Affine", "Affine", "Sequential", "Net"]


def test_to_converts_in_place(torch):
    m = affine(torch)()
    weight = m.weight
    m(torch.ones(2)).sum().backward()
    assert m.to(torch.float64) is m
    assert m.weight is weight and weight.dtype == torch.float64 == weight.grad.dtype and weight.requires_grad
    assert m.steps.dtype == torch.int64 and m.cache.dtype == torch.float64 and m._buffers["cache"] is m.cache
    assert m.to(torch.ones(1, dtype=torch.float16)).weight.dtype == torch.float16
    assert m.to("cpu", torch.float32).weight.dtype == torch.float32
    assert m.to(device="cpu", dtype=torch.float64).weight.dtype == torch.float64
    assert m.to("cpu").weight.dtype == torch.float64 and m.cpu() is m
    assert m.float().weight.dtype == torch.float32 and m.double().cache.dtype == torch.float64
    assert m.half().weight.dtype == torch.float16 and m.steps.dtype == torch.int64
    assert m.type(torch.float32).steps.dtype == torch.float32
    assert raises(TypeError, m.to, torch.int64) == (
        "nn.Module.to only accepts floating point or complex dtypes, but got desired dtype=torch.int64"
    )


def test_an_optimizer_keeps_hold_of_converted_parameters(torch):
    m = affine(torch)()
    held = list(m.parameters())
    m.double()
    assert all(a is b for a, b in zip(held, m.parameters(), strict=True))


# --- saving and loading


def test_state_dict(torch):
    m = net(torch)
    state = m.state_dict()
    assert type(state) is OrderedDict
    assert list(state) == [
        "first.weight", "first.steps", "rest.0.weight", "rest.0.steps", "rest.1.weight", "rest.1.steps",
        "tied.weight", "tied.steps",
    ]  # fmt: skip
    assert list(state._metadata) == ["", "first", "rest", "rest.0", "rest.1", "tied"]
    assert state._metadata["rest.0"] == {"version": 1}
    assert not state["first.weight"].requires_grad
    with torch.no_grad():
        m.first.weight.fill_(5)
    assert state["first.weight"].tolist() == [5, 5]
    assert m.state_dict(keep_vars=True)["first.weight"] is m.first.weight
    assert list(m.first.state_dict(prefix="p.")) == ["p.weight", "p.steps"]
    filled = OrderedDict(before=1)
    assert m.first.state_dict(destination=filled) is filled and list(filled) == ["before", "weight", "steps"]
    with pytest.warns(FutureWarning, match="Positional args are being deprecated"):
        assert list(m.first.state_dict(OrderedDict(), "p.")) == ["p.weight", "p.steps"]


def test_load_state_dict(torch):
    m, other = net(torch), net(torch)
    with torch.no_grad():
        other.rest[1].weight.fill_(7)
        other.first.steps.fill_(4)
    result = m.load_state_dict(other.state_dict())
    assert repr(result) == str(result) == "<All keys matched successfully>"
    assert m.rest[1].weight.tolist() == [7] * 3 and m.first.steps.item() == 4
    assert m.rest[1].weight is not other.rest[1].weight
    result = m.load_state_dict({"first.weight": torch.ones(2), "x": torch.ones(1), "rest.9.w": 1}, strict=False)
    assert result.unexpected_keys == ["x", "rest.9.w"] and result.missing_keys[0] == "first.steps"
    assert repr(affine(torch)().load_state_dict({"y": 1}, strict=False)) == (
        "_IncompatibleKeys(missing_keys=['weight', 'steps'], unexpected_keys=['y'])"
    )


def test_load_state_dict_errors(torch):
    m = net(torch)
    state = m.state_dict()
    del state["first.steps"], state["rest.0.steps"]
    state["rest.1.weight"] = torch.ones(4)
    state["tied.weight"] = "a"
    state["rest.1.more"] = state["first.x.y"] = torch.ones(1)
    assert raises(RuntimeError, m.load_state_dict, state) == (
        "Error(s) in loading state_dict for Net:\n\t"
        'Missing key(s) in state_dict: "first.steps", "rest.0.steps". \n\t'
        'Unexpected key(s) in state_dict: "first.x.y", "rest.1.more". \n\t'
        "size mismatch for rest.1.weight: copying a param with shape torch.Size([4]) from checkpoint, "
        "the shape in current model is torch.Size([3]).\n\t"
        'While copying the parameter named "tied.weight", expected torch.Tensor or Tensor-like object from checkpoint '
        "but received <class 'str'>"
    )
    assert raises(TypeError, m.load_state_dict, 3) == "Expected state_dict to be dict-like, got <class 'int'>."


def test_load_with_assign(torch):
    m = affine(torch)()
    m.requires_grad_(False)
    weight, steps = torch.ones(2, dtype=torch.float64), torch.tensor(8)
    m.load_state_dict({"weight": weight, "steps": steps}, assign=True)
    assert isinstance(m.weight, torch.nn.Parameter) and not m.weight.requires_grad
    assert m.weight.dtype == torch.float64 and m.steps is steps and m._parameters["weight"] is m.weight
    given = torch.nn.Parameter(torch.zeros(2))
    m.load_state_dict({"weight": given, "steps": steps}, assign=True)
    assert m.weight is given and not given.requires_grad


def test_a_scalar_loads_from_shape_one(torch):
    m = affine(torch)()
    m.load_state_dict({"weight": torch.ones(2), "steps": torch.tensor([6])})
    assert m.steps.item() == 6 and m.steps.shape == ()


def test_extra_state(torch):
    class Extra(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = None

        def get_extra_state(self):
            return {"seen": 3}

        def set_extra_state(self, state):
            self.seen = state

    m = torch.nn.Sequential(Extra())
    state = m.state_dict()
    assert list(state) == ["0._extra_state"]
    m.load_state_dict(state)
    assert m[0].seen == {"seen": 3}
    assert '"0._extra_state"' in raises(RuntimeError, m.load_state_dict, {})
    plain = torch.nn.Sequential(torch.nn.Sequential())
    assert "Unexpected key" in raises(RuntimeError, plain.load_state_dict, state)
    assert raises(RuntimeError, plain.get_extra_state) and raises(RuntimeError, plain.set_extra_state, 1)


def test_state_dict_hooks(torch):
    m = affine(torch)()
    seen = []
    handles = [
        m.register_state_dict_pre_hook(lambda module, prefix, keep_vars: seen.append(("pre", prefix, keep_vars))),
        m.register_state_dict_post_hook(lambda module, state, prefix, metadata: state.clear()),
        m._register_state_dict_hook(lambda module, state, prefix, metadata: OrderedDict(only=len(state))),
    ]
    assert m.state_dict(prefix="p.") == {"only": 0} and seen == [("pre", "p.", False)]
    for handle in handles:
        handle.remove()
    assert list(m.state_dict()) == ["weight", "steps"] and len(seen) == 1

    def post(module, state, prefix, metadata):
        return state

    m.register_state_dict_post_hook(post)
    assert raises(RuntimeError, m.state_dict) == "state_dict post-hook must return None"
    assert raises(RuntimeError, m._register_state_dict_hook, post).startswith("Cannot register the same function")


def test_load_state_dict_hooks(torch):
    m = net(torch)

    def rename(module, state, prefix, metadata, strict, missing, unexpected, errors):
        assert module is m.first and metadata == {"version": 1} and prefix in ("first.", "tied.")
        if prefix + "w" in state:
            state[prefix + "weight"] = state.pop(prefix + "w")

    m.first.register_load_state_dict_pre_hook(rename)
    m.register_load_state_dict_post_hook(lambda module, keys: keys.missing_keys.clear())
    state = m.state_dict()
    state["first.w"] = state.pop("first.weight")
    del state["rest.0.steps"]
    assert m.load_state_dict(state).missing_keys == []
    m.rest.register_load_state_dict_post_hook(lambda module, keys: keys)
    assert raises(AssertionError, m.load_state_dict, state).startswith("Hooks registered with ``register_load")


def test_load_from_state_dict_is_overridable(torch):
    """Layers translate old names here; they see the version that was saved."""
    Affine = affine(torch)

    class New(Affine):
        _version = 2

        def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
            assert local_metadata.get("version", 1) < 2
            state_dict[prefix + "weight"] = state_dict.pop(prefix + "old")
            super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    m = torch.nn.Sequential(New())
    state = torch.nn.Sequential(Affine()).state_dict()
    state["0.old"] = state.pop("0.weight")
    m.load_state_dict(state)
    assert list(state) == ["0.steps", "0.old"] and m.state_dict()._metadata["0"] == {"version": 2}


# --- hooks


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


# --- copying, pickling


def test_deepcopy(torch):
    m = net(torch)
    m.first.register_forward_hook(lambda *_: "hooked")
    twin = copy.deepcopy(m)
    assert twin.tied is twin.first is not m.first and twin.rest[0].weight is not m.rest[0].weight
    assert twin.first(torch.ones(2)) == "hooked"
    with torch.no_grad():
        twin.rest[0].weight.fill_(9)
    assert m.rest[0].weight.tolist() == [2] * 3 and list(twin.state_dict()) == list(m.state_dict())
    assert twin.rest[0].weight.requires_grad and twin.rest[0].weight is twin.rest[0]._parameters["weight"]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol):
    m = Pickled()
    twin = pickle.loads(pickle.dumps(m, protocol))
    assert twin.parent[0] is twin and twin.weight.tolist() == [1, 1] and twin.count.item() == 3
    assert_mirrored(twin)
    assert repr(twin) == repr(m) and twin.layers[1] is twin.layers._modules["1"]


def test_the_pickled_state_is_plain():
    state = Pickled().__getstate__()
    assert "weight" not in state and "layers" not in state
    assert [name for name, p in dict(state["_parameters"]).items()] == ["weight"]
    assert b"Registry" not in pickle.dumps(Pickled())


def test_getstate_of_a_subclass(torch):
    class Careful(affine(torch)):
        def __getstate__(self):
            state = self.__dict__.copy()
            state["size"] = 77
            return state

        def __setstate__(self, state):
            super().__setstate__(state)
            self.restored = True

    twin = copy.deepcopy(Careful())
    assert twin.restored and twin.size == 77 and twin.weight is twin._parameters["weight"]
    twin.weight = torch.nn.Parameter(torch.zeros(2))
    assert twin._parameters["weight"] is twin.weight


def test_old_setstate_without_super():
    class Simple(Pickled):
        def __setstate__(self, state):
            self.__dict__.update(state)

    twin = copy.deepcopy(Simple())
    assert twin.weight is twin._parameters["weight"] and twin.layers is twin._modules["layers"]


def test_load_assign_and_copy_keep_the_mirror():
    m = Pickled()
    m.load_state_dict({"weight": tapegrad.zeros(2), "count": tapegrad.tensor(1)}, assign=True)
    assert_mirrored(m)
    shallow = copy.copy(m)
    assert shallow.weight is m.weight
    shallow.weight = nn.Parameter(tapegrad.ones(3))
    assert_mirrored(m)
    assert_mirrored(shallow)
    assert m.weight is not shallow.weight


# --- the mirror of the registries in __dict__ (see registry.py)


def assert_mirrored(root):
    for m in root.modules():
        mirrored = {}
        for registry in REGISTRIES:
            assert type(m.__dict__[registry]) is Registry
            mirrored.update(m.__dict__[registry])
        for name, value in mirrored.items():
            assert m.__dict__[name] is value
        values = [v for v in m.__dict__.values() if isinstance(v, (nn.Module, nn.Parameter))]
        assert all(any(v is w for w in mirrored.values()) for v in values)


WRITES = {
    "assign": lambda m, p: setattr(m, "weight", p),
    "register": lambda m, p: m.register_parameter("weight", p),
    "write": lambda m, p: m._parameters.__setitem__("weight", p),
    "update": lambda m, p: m._parameters.update(weight=p),
    "update with pairs": lambda m, p: m._parameters.update([("weight", p)]),
    "ior": lambda m, p: m._parameters.__ior__({"weight": p}),
    "setdefault": lambda m, p: (m._parameters.pop("weight"), m._parameters.setdefault("weight", p)),
    "replace the registry": lambda m, p: setattr(m, "_parameters", OrderedDict(weight=p)),
    "replace by itself": lambda m, p: (setattr(m, "weight", p), setattr(m, "_parameters", m._parameters)),
    "delete and assign": lambda m, p: (delattr(m, "weight"), setattr(m, "weight", p)),
    "replace __dict__": lambda m, p: (setattr(m, "weight", p), setattr(m, "__dict__", m.__dict__.copy())),
}


@pytest.mark.parametrize("way", WRITES)
def test_every_write_is_mirrored(way):
    m, p = Pickled(), nn.Parameter(tapegrad.zeros(1))
    WRITES[way](m, p)
    assert m.weight is p is m._parameters["weight"] and list(m._parameters) == ["weight"]
    assert_mirrored(m)


REMOVALS = {
    "del attribute": lambda m: delattr(m, "weight"),
    "del entry": lambda m: m._parameters.__delitem__("weight"),
    "pop": lambda m: m._parameters.pop("weight"),
    "popitem": lambda m: m._parameters.popitem(),
    "clear": lambda m: m._parameters.clear(),
    "replace the registry": lambda m: setattr(m, "_parameters", {}),
}


@pytest.mark.parametrize("way", REMOVALS)
def test_every_removal_is_mirrored(way):
    m = Pickled()
    REMOVALS[way](m)
    assert not hasattr(m, "weight") and not m._parameters and "weight" not in m.__dict__
    assert_mirrored(m)


def test_registry_is_a_dict():
    m = Pickled()
    entries = m._parameters
    assert isinstance(entries, dict) and type(entries.copy()) is dict
    assert entries.pop("absent", 3) == 3 and entries.setdefault("weight", 1) is m.weight
    assert raises(KeyError, entries.pop, "absent") == "absent"


def test_a_registry_taken_from_another_module_is_not_shared():
    one, two = Pickled(), Pickled()
    two._parameters = one._parameters
    two.weight = nn.Parameter(tapegrad.zeros(1))
    assert one.weight is not two.weight
    assert_mirrored(one)
    assert_mirrored(two)


def test_what_is_written_into_dict_shadows(torch):
    """As in PyTorch: attributes of that name win, the registered parameter stays registered."""
    m = affine(torch)()
    weight, other = m.weight, torch.ones(2)
    object.__setattr__(m, "weight", other)
    assert m.weight is other and m._parameters["weight"] is weight
    del m._parameters["weight"]
    assert m.weight is other


def test_getattr_of_a_subclass(torch):
    class Wrapper(torch.nn.Module):
        def __init__(self, wrapped):
            super().__init__()
            self.wrapped = wrapped

        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(self.wrapped, name)

    m = affine(torch)()
    assert Wrapper(m).weight is m.weight and Wrapper(m).size == 2 and Wrapper(m).wrapped is m


def test_properties_win(torch):
    """What parametrizations rely on: a property of the class stands before the registered parameter."""

    class Doubled(affine(torch)):
        pass

    m = Doubled()
    weight = m.weight
    del m._parameters["weight"]
    Doubled.weight = property(lambda self: 5)
    m._parameters["weight"] = weight
    assert m.weight == 5 and dict(m.named_parameters())["weight"] is weight


def test_a_dropped_model_is_freed_at_once():
    gc.collect()
    gc.disable()
    try:
        m = nn.Sequential(nn.Sequential(nn.ParameterList([tapegrad.ones(1)])))
        m.register_forward_hook(lambda *_: None)
        m.state_dict()
        m.register_load_state_dict_pre_hook(lambda *_: None)
        watched = [weakref.ref(module) for module in m.modules()] + [weakref.ref(p) for p in m.parameters()]
        del m
        assert [ref() for ref in watched] == [None] * 4
    finally:
        gc.enable()


def test_a_call_without_hooks_keeps_no_tables():
    """What makes the call cheap: no hook table exists until somebody asks for one."""
    m = nn.Sequential()
    m(1)
    assert not m._hooked and not [name for name in m.__dict__ if name.endswith("hooks")]
    m.register_forward_hook(lambda *_: 5)
    assert m._hooked and m(1) == 5


# --- containers


def test_sequential(torch):
    Affine, Sequential = affine(torch), torch.nn.Sequential
    a, b, c = Affine(), Affine(), Affine()
    m = Sequential(a, b)
    assert m(torch.ones(2)).tolist() == [4, 4] and Sequential()(3) == 3
    assert len(m) == 2 and m[0] is a and m[-1] is b and list(m) == [a, b]
    assert m.append(c) is m and list(m._modules) == ["0", "1", "2"]
    named = Sequential(OrderedDict(x=a, y=b))
    assert named.x is a and named[1] is b and list(named[1:]._modules) == ["y"] and type(named[:1]) is Sequential
    named[0] = c
    assert named.x is c
    assert list(m + named) == [a, b, c, c, b] and list(Sequential(a) * 2) == [a, a] == list(2 * Sequential(a))
    m += Sequential(a)
    m *= 2
    assert list(m) == [a, b, c, a] * 2 and list(m._modules) == [str(i) for i in range(8)]
    assert m.pop(-1) is a and list(m.pop(slice(0, 2))) == [a, b] and len(m) == 5
    assert list(m) == [c, a, a, b, c]
    del m[0], m[1::2]
    assert list(m) == [a, b] and list(m._modules) == ["0", "1"]
    m.insert(0, b)
    m.insert(-1, c)
    assert list(m) == [b, a, c, b] and m.extend([a, b]) is m and list(m) == [b, a, c, b, a, b]


def test_sequential_errors(torch):
    m = torch.nn.Sequential(torch.nn.Sequential())
    assert raises(IndexError, m.__getitem__, 1) == "index 1 is out of range"
    assert raises(IndexError, m.__delitem__, -2) == "index -2 is out of range"
    assert raises(TypeError, torch.nn.Sequential, 3) == "int is not a Module subclass"
    assert raises(ValueError, m.__add__, 3) == (
        "add operator supports only objects of Sequential class, but <class 'int'> is given."
    )
    assert raises(TypeError, m.__mul__, "a").startswith("unsupported operand type(s) for *: ")
    assert raises(ValueError, m.__imul__, 0).startswith("Non-positive multiplication factor 0 for ")
    assert raises(IndexError, m.insert, 5, m[0]) == "Index out of range: 5"
    assert raises(AssertionError, m.insert, 0, 3).startswith("module should be of type: ")


def test_module_list(torch):
    ModuleList, a, b, c = torch.nn.ModuleList, *(torch.nn.Sequential() for _ in range(3))
    m = ModuleList([a, b])
    assert len(m) == 2 and m[0] is a and m[-1] is b and list(m[::-1]) == [b, a] and type(m[:1]) is ModuleList
    assert m.append(c) is m and m.extend([a]) is m and list(m) == [a, b, c, a]
    m[1] = c
    m.insert(0, b)
    assert list(m) == [b, a, c, c, a] and list(m._modules) == ["0", "1", "2", "3", "4"]
    assert m.pop(1) is a and list(m) == [b, c, c, a]
    del m[1:3]
    assert list(m) == [b, a] and list(m + [c]) == [b, a, c] and type(m + [c]) is ModuleList
    m += [c]
    assert list(m.children()) == [b, a, c]
    assert raises(IndexError, m.__getitem__, 3) == "index 3 is out of range"
    assert raises(TypeError, m.extend, 3) == "ModuleList.extend should be called with an iterable, but got int"
    assert raises(TypeError, m.append, 3) == "int is not a Module subclass"
    assert raises(NotImplementedError, m, 1).startswith("Module [ModuleList] is missing")


def test_module_dict(torch):
    ModuleDict, a, b = torch.nn.ModuleDict, torch.nn.Sequential(), torch.nn.Sequential()
    m = ModuleDict({"z": a, "y": b})
    assert list(m) == ["z", "y"] == list(m.keys()) and m["z"] is a and "y" in m and len(m) == 2
    assert list(m.items()) == [("z", a), ("y", b)] and list(m.values()) == [a, b]
    m.update([("x", a)])
    m.update(ModuleDict({"w": b}))
    m["v"] = a
    assert list(m) == ["z", "y", "x", "w", "v"] and m.pop("z") is a and m.v is a
    del m["y"]
    m.clear()
    assert len(m) == 0 and not hasattr(m, "v")
    assert raises(TypeError, m.update, 3).startswith("ModuleDict.update should be called with an iterable of key/value")
    assert raises(TypeError, m.update, [3]) == "ModuleDict update sequence element #0 should be Iterable; isint"
    assert raises(ValueError, m.update, [(1, 2, 3)]) == (
        "ModuleDict update sequence element #0 has length 3; 2 is required"
    )
    assert raises(KeyError, m.__setitem__, "a.b", a) == 'module name can\'t contain ".", got: a.b'
    assert raises(KeyError, m.__setitem__, "pop", a) == "attribute 'pop' already exists"


def test_parameter_list(torch):
    m = torch.nn.ParameterList([torch.ones(2), torch.nn.Parameter(torch.zeros(1)), 3])
    assert len(m) == 3 and isinstance(m[0], torch.nn.Parameter) and m[-1] == 3
    assert [name for name, _ in m.named_parameters()] == ["0", "1"] and m.append("a") is m and m[3] == "a"
    m[0] = torch.zeros(2)
    assert m[0].tolist() == [0, 0] and isinstance(m[:2], torch.nn.ParameterList) and len(m[:2]) == 2
    m += [torch.ones(1)]
    assert len(m) == 5 and len(list(m)) == 5 and list(m.state_dict()) == ["0", "1", "4"]
    assert raises(TypeError, m.extend, torch.ones(2)) == (
        "ParameterList.extend should be called with an iterable, but got Tensor"
    )
    assert raises(IndexError, m.__getitem__, 5) == "index 5 is out of range"
    assert raises(RuntimeError, m) == "ParameterList should not be called."


def test_parameter_dict(torch):
    ParameterDict = torch.nn.ParameterDict
    m = ParameterDict({"z": torch.ones(2), "a": torch.nn.Parameter(torch.zeros(1))})
    assert list(m) == ["a", "z"] and isinstance(m["z"], torch.nn.Parameter) and list(reversed(m)) == ["z", "a"]
    m["n"] = 3
    assert m.n == 3 and list(m.state_dict()) == ["a", "z"] and m.get("q", 5) == 5 and "n" in m
    assert m.setdefault("q", torch.ones(1)) is m["q"] and m.setdefault("q", 1) is m.q
    assert m.popitem()[0] == "q" and m.pop("n") == 3 and len(m) == 2
    assert (m | ParameterDict({"b": 1})).b == 1 and dict((ParameterDict({"b": 1}) | m).items())["a"] is m.a
    m |= ParameterDict({"c": 2})
    m.update([("d", 4)])
    m.update(OrderedDict(y=1, x=2))
    assert list(m.keys()) == ["a", "z", "c", "d", "y", "x"] and list(m.values())[2:] == [2, 4, 1, 2]
    assert list(m.fromkeys(["k"], 7).items()) == [("k", 7)] and list(m.copy()) == list(m)
    del m["a"]
    assert "a" not in m and not hasattr(m, "a")
    m.clear()
    assert len(m) == 0 and list(m.parameters()) == []
    assert raises(TypeError, m.__getitem__, 3).startswith("Index given to ParameterDict cannot be used as a key")
    assert raises(TypeError, m.update, 3).startswith("ParametersDict.update should be called with an iterable")
    assert raises(ValueError, m.update, [(1, 2, 3)]).startswith("ParameterDict update sequence element #0 has length 3")
    assert raises(RuntimeError, m, 1) == "ParameterDict should not be called."


# --- display


def test_repr(torch):
    Affine = affine(torch)
    assert repr(Affine()) == "Affine(size=2)" and repr(torch.nn.Sequential()) == "Sequential()"
    assert repr(net(torch)) == (
        "Net(\n  (first): Affine(size=2)\n  (rest): Sequential(\n    (0): Affine(size=3)\n    (1): Affine(size=3)\n"
        "  )\n  (tied): Affine(size=2)\n  (absent): None\n)"
    )
    assert repr(torch.nn.ModuleList([Affine(), Affine(), Affine(3), torch.nn.ModuleList([Affine()])])) == (
        "ModuleList(\n  (0-1): 2 x Affine(size=2)\n  (2): Affine(size=3)\n  (3): ModuleList(\n    (0): Affine(size=2)\n"
        "  )\n)"
    )
    blocks = torch.nn.ModuleList([torch.nn.Sequential(Affine()) for _ in range(3)])
    assert repr(blocks) == "ModuleList(\n  (0-2): 3 x Sequential(\n    (0): Affine(size=2)\n  )\n)"
    assert repr(torch.nn.ModuleList()) == "ModuleList()"
    assert repr(torch.nn.ModuleDict({"a": Affine()})) == "ModuleDict(\n  (a): Affine(size=2)\n)"

    class Lines(torch.nn.Module):
        def extra_repr(self):
            return "one\ntwo"

    m = Lines()
    assert repr(m) == "Lines(\n  one\n  two\n)"
    m.child = Affine()
    assert repr(m) == "Lines(\n  one\n  two\n  (child): Affine(size=2)\n)"


def test_repr_of_parameter_containers(torch):
    assert repr(torch.nn.ParameterList([torch.ones(2), torch.ones(1, 3, dtype=torch.float64), 3])) == (
        "ParameterList(\n"
        "    (0): Parameter containing: [torch.float32 of size 2]\n"
        "    (1): Parameter containing: [torch.float64 of size 1x3]\n"
        "    (2): Object of type: int\n)"
    )
    assert repr(torch.nn.ParameterDict({"a": torch.ones(2)})) == (
        "ParameterDict(  (a): Parameter containing: [torch.FloatTensor of size 2])"
    )


# --- the room


def test_every_file_of_layers_is_exported():
    """A file in nn/modules declares `__all__`, and nn/modules/__init__.py imports all of its classes."""
    for path in Path(nn.modules.__file__).parent.glob("[a-z]*.py"):
        module = importlib.import_module(f"tapegrad.nn.modules.{path.stem}")
        assert isinstance(module.__all__, list), path
        for name in module.__all__:
            if name[0].isupper():
                assert getattr(nn, name) is getattr(module, name), f"{path.name}: {name} is not in nn"


def test_no_warning_on_ordinary_use():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        m = net(tapegrad)
        m(tapegrad.ones(2)).sum().backward()
        m.load_state_dict(m.state_dict())
