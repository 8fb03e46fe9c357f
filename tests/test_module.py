"""Module: registration, members, conversion, copies, display, and the mirror of what is registered.

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
from module_samples import affine, net, raises
from tapegrad.nn.modules.registry import REGISTRIES, Registry

nn = tapegrad.nn


@pytest.fixture(params=["tapegrad", "torch"])
def torch(request):
    return pytest.importorskip(request.param)


class Pickled(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(tapegrad.ones(2))
        self.register_buffer("count", tapegrad.tensor(3))
        self.layers = nn.ModuleList([nn.Sequential(), nn.Sequential()])
        self.parent = [self]  # a cycle


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
    assert raises(TypeError, setattr, first, "weight", torch.ones(2, device="cpu")) == (
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
    ones, doubles = torch.ones(2, device="cpu"), torch.ones(1, 3, dtype=torch.float64, device="cpu")
    assert repr(torch.nn.ParameterList([ones, doubles, 3])) == (
        "ParameterList(\n"
        "    (0): Parameter containing: [torch.float32 of size 2]\n"
        "    (1): Parameter containing: [torch.float64 of size 1x3]\n"
        "    (2): Object of type: int\n)"
    )
    assert repr(torch.nn.ParameterDict({"a": ones})) == (
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
