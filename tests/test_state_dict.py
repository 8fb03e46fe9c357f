"""state_dict and load_state_dict: names, error texts, hooks.

Tests that take `torch` run twice with the same assertions: with tapegrad, and with PyTorch where it is installed.
"""

import importlib
from collections import OrderedDict

import pytest
from module_samples import affine, net, raises


@pytest.fixture(params=["tapegrad", "torch"])
def torch(request):
    return pytest.importorskip(request.param)


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


def test_a_prefix_is_consumed(torch):
    utils = importlib.import_module(f"{torch.__name__}.nn.modules.utils")
    state = torch.nn.ModuleDict({"module": torch.nn.Sequential(affine(torch)())}).state_dict()
    state["other"] = 1
    utils.consume_prefix_in_state_dict_if_present(state, "module.")
    assert list(state) == ["other", "0.weight", "0.steps"] and list(state._metadata) == ["", "0"]
    assert utils._pair(3) == (3, 3) and utils._triple([1, 2, 3]) == (1, 2, 3) and utils._single.__name__ == "_single"
    assert utils._reverse_repeat_tuple((1, 2), 2) == (2, 2, 1, 1)
