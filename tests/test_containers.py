"""Sequential, ModuleList, ModuleDict, ParameterList, ParameterDict.

Tests that take `torch` run twice with the same assertions: with tapegrad, and with PyTorch where it is installed.
"""

from collections import OrderedDict

import pytest
from module_samples import affine, raises


@pytest.fixture(params=["tapegrad", "torch"])
def torch(request):
    return pytest.importorskip(request.param)


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
