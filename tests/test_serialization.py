"""torch.save and torch.load: files go from one library to the other, and nothing in them is run unasked."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import tapegrad
from tapegrad.serialization.unpickling import SafeUnpickler

DTYPES = """
bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64 bfloat16 complex64 complex128
""".split()


def torch():
    return pytest.importorskip("torch")


def through(obj, writer=tapegrad, reader=tapegrad, **keywords):
    file = io.BytesIO()
    writer.save(obj, file)
    file.seek(0)
    return reader.load(file, **keywords)


def both_ways():
    real = pytest.importorskip("torch")
    return [(tapegrad, real), (real, tapegrad), (tapegrad, tapegrad)]


def values(t):
    return t.detach().double().numpy() if t.dtype.is_floating_point else t.detach().numpy()


def same_tensor(a, b):
    assert str(a.dtype) == str(b.dtype) and tuple(a.shape) == tuple(b.shape) and a.requires_grad == b.requires_grad
    np.testing.assert_array_equal(values(a), values(b))


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_in_both_directions(name):
    for writer, reader in both_ways():
        t = writer.tensor([1, 0, 1]).to(getattr(writer, name))
        same_tensor(through(t, writer, reader), t)


MADE = {
    "0-d": lambda T: T.tensor(2.5),
    "empty": lambda T: T.zeros(0, 3),
    "transposed": lambda T: T.arange(6.0).reshape(2, 3).t(),
    "strided": lambda T: T.arange(24.0).reshape(4, 6)[1:, ::2],
    "with a new dimension": lambda T: T.arange(6.0).reshape(2, 3)[:, None],
    "expanded": lambda T: T.arange(3.0).expand(4, 3),
    "parameter": lambda T: T.nn.Parameter(T.ones(2, 2)),
    "frozen": lambda T: T.nn.Parameter(T.ones(2), requires_grad=False),
    "leaf": lambda T: T.ones(2, requires_grad=True),
    "permuted": lambda T: T.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
}


@pytest.mark.parametrize("name", MADE)
def test_every_layout_in_both_directions(name):
    for writer, reader in both_ways():
        t = MADE[name](writer)
        back = through(t, writer, reader)
        same_tensor(back, t)
        assert type(back).__name__ == type(t).__name__
        assert tuple(back.stride()) == tuple(t.stride())


def test_what_torch_only_notes_is_computed(tmp_path):
    """conj() and the .imag of it are flags in torch's files: values without them have another sign."""
    real = torch()
    z = real.tensor([1 + 2j, 3 - 4j])
    made = {"conj": z.conj(), "neg": z.clone().conj().imag, "parameter": real.nn.Parameter(z.conj()), "plain": z}
    real.save(made, tmp_path / "z.pt")
    for keywords in ({}, {"mmap": True}, {"weights_only": False}):
        back = tapegrad.load(tmp_path / "z.pt", **keywords)
        assert {name: t.tolist() for name, t in back.items()} == {name: t.tolist() for name, t in made.items()}
        assert back["parameter"].requires_grad and not back["conj"].requires_grad
    real.save(z.conj()[0].expand(1 << 40), tmp_path / "large.pt")
    with pytest.raises(pickle.UnpicklingError, match="more elements than its storage"):
        tapegrad.load(tmp_path / "large.pt")


def test_views_share_memory_after_loading():
    for writer, reader in both_ways():
        base = writer.arange(12.0).reshape(3, 4)
        back = through({"base": base, "row": base[1], "again": base}, writer, reader)
        back["base"][1, 2] = 99
        assert back["row"][2].item() == 99 and back["again"][1, 2].item() == 99


def test_a_storage_is_written_once():
    base = tapegrad.zeros(100_000)
    file = io.BytesIO()
    tapegrad.save([base[i : i + 10] for i in range(50)], file)
    assert len(file.getvalue()) < 420_000


def test_other_values():
    for writer, reader in both_ways():
        value = {
            "dtype": writer.float32, "size": writer.Size([1, 2]), "device": writer.device("cpu"), "list": [1, 2.5, "x"],
            "none": None, "bytes": b"ab", "set": {1, 2}, "complex": 1j, "tuple": (True, (1,)), "layout": writer.strided,
            "ordered": collections.OrderedDict(a=1), "counter": collections.Counter("aab"), "int": 2**80,
        }  # fmt: skip
        back = through(value, writer, reader)
        assert {k: repr(v) for k, v in back.items()} == {k: repr(v) for k, v in value.items()}
        assert back["dtype"] is reader.float32 and isinstance(back["size"], reader.Size)


def test_models_and_optimizers_in_both_directions():
    for writer, reader in both_ways():
        states = []
        for T in (writer, reader):
            T.manual_seed(0 if T is writer else 1)
            net = T.nn.Sequential(T.nn.Linear(3, 4), T.nn.BatchNorm1d(4), T.nn.Linear(4, 2))
            optimizer = T.optim.Adam(net.parameters(), lr=0.01)
            net(T.ones(5, 3)).sum().backward()
            optimizer.step()
            states.append((net, optimizer))
        (net, optimizer), (other, other_optimizer) = states
        back = through({"net": net.state_dict(), "opt": optimizer.state_dict(), "epoch": 3}, writer, reader)
        assert back["epoch"] == 3 and "version" in back["net"]._metadata[""]
        other.load_state_dict(back["net"])
        other_optimizer.load_state_dict(back["opt"])
        x = np.ones((5, 3), np.float32)
        a, b = net.eval()(writer.from_numpy(x)), other.eval()(reader.from_numpy(x))
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-6)


def test_whole_modules_need_the_unsafe_reader():
    net = tapegrad.nn.Sequential(tapegrad.nn.Linear(2, 3), tapegrad.nn.ReLU())
    with pytest.raises(pickle.UnpicklingError, match="tapegrad.nn.modules.container.Sequential"):
        through(net)
    back = through(net, weights_only=False)
    assert tapegrad.equal(back(tapegrad.ones(1, 2)), net(tapegrad.ones(1, 2)))


def test_attributes_of_tensors():
    t = tapegrad.ones(2)
    t.note = "mine"
    p = tapegrad.nn.Parameter(tapegrad.ones(1))
    p.group = 3
    back = through([t, p])
    assert back[0].note == "mine" and back[1].group == 3 and isinstance(back[1], tapegrad.nn.Parameter)


# ---- files


def test_a_path_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "model.pt"
    tapegrad.save(tapegrad.ones(2), path)
    before = path.read_bytes()
    with pytest.raises(Exception, match="pickle"):
        tapegrad.save([tapegrad.ones(2), lambda: 0], path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["model.pt"]
    assert zipfile.ZipFile(path).namelist()[0] == "model/data.pkl"
    with pytest.raises(RuntimeError, match="Parent directory .* does not exist"):
        tapegrad.save(1, tmp_path / "absent" / "x.pt")
    with pytest.raises(FileNotFoundError):
        tapegrad.load(tmp_path / "absent.pt")


def test_a_link_is_written_through(tmp_path):
    target = tmp_path / "real.pt"
    target.write_bytes(b"")
    (tmp_path / "link.pt").symlink_to(target)
    tapegrad.save(tapegrad.ones(2), tmp_path / "link.pt")
    assert (tmp_path / "link.pt").is_symlink() and tapegrad.load(target).tolist() == [1, 1]


def test_mmap(tmp_path):
    path = tmp_path / "x.pt"
    tapegrad.save({"a": tapegrad.arange(10.0), "b": tapegrad.arange(6).reshape(2, 3)}, path)
    back = tapegrad.load(path, mmap=True)
    assert back["a"].tolist() == list(range(10)) and back["b"].tolist() == [[0, 1, 2], [3, 4, 5]]
    back["a"][0] = 7  # the file stays as it is
    assert tapegrad.load(path)["a"][0].item() == 0
    with pytest.raises(ValueError, match="file path"):
        tapegrad.load(io.BytesIO(path.read_bytes()), mmap=True)
    assert torch().load(path, mmap=True)["b"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_storages_begin_at_multiples_of_64():
    file = io.BytesIO()
    tapegrad.save({"a": tapegrad.ones(3), "b": tapegrad.ones(5)}, file)
    data, archive = file.getvalue(), zipfile.ZipFile(file)
    for info in archive.infolist():
        begin = info.header_offset
        name, extra = (int.from_bytes(data[begin + i : begin + i + 2], "little") for i in (26, 28))
        assert (info.header_offset + 30 + name + extra) % 64 == 0


def test_map_location():
    t = tapegrad.ones(2, device="fake")
    assert through(t).device.type == "fake"
    for place in ("cpu", tapegrad.device("cpu"), {"fake:0": "cpu"}, lambda storage, location: storage.cpu()):
        assert through(t, map_location=place).device.type == "cpu"
    asked = []
    through([t, tapegrad.ones(1)], map_location=lambda storage, location: asked.append(location))
    assert asked == ["fake:0", "cpu"]
    with pytest.raises(TypeError, match="map_location"):
        through(t, map_location=3)
    views = tapegrad.arange(6.0, device="fake").reshape(2, 3)
    assert through([views.t(), views[1]])[0].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_device_that_is_not_there_is_named():
    if tapegrad.cuda.is_available():
        pytest.skip("there is a device")
    file = io.BytesIO()
    tapegrad.save(tapegrad.ones(2), file)
    changed = file.getvalue().replace(b"X\x03\x00\x00\x00cpu", b"X\x03\x00\x00\x00mps")
    with zipfile.ZipFile(file) as archive:
        names = {n: archive.read(n) for n in archive.namelist()}
    assert changed != file.getvalue()
    names["archive/data.pkl"] = names["archive/data.pkl"].replace(b"X\x03\x00\x00\x00cpu", b"X\x03\x00\x00\x00mps")
    with pytest.raises(RuntimeError, match="Attempting to deserialize object on a MPS device"):
        tapegrad.load(_archive(names))
    assert tapegrad.load(_archive(names), map_location="cpu").tolist() == [1, 1]


def _archive(names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    file.seek(0)
    return file


# ---- what a file may do


class Evil:
    def __reduce__(self):
        return (os.system, ("exit 1",))


HOSTILE = {
    "call": b"\x80\x02cposix\nsystem\nX\x06\x00\x00\x00exit 1\x85R.",
    "builtin": b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
    "inst": b"(S'exit 1'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'exit 1'\no.",
    "extension": b"\x80\x02\x82\x01.",
    "state of a class": b"\x80\x02ctorch\nTensor\nN}X\x04\x00\x00\x00evilK\x01s\x86b.",
    "state of a function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x04\x00\x00\x00evilK\x01sb.",
    "call of a dtype": b"\x80\x02ctorch\nfloat32\n)R.",
    "attribute path": b"\x80\x04\x8c\x05torch\x8c\x0fTensor.__dict__\x93.",
    "new of a module": b"\x80\x02ctorch.nn\nLinear\n)\x81.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(name):
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        tapegrad.load(_archive({"archive/data.pkl": HOSTILE[name]}))
    assert not hasattr(tapegrad.Tensor, "evil")


def test_a_function_that_was_not_named_is_refused():
    with pytest.raises(pickle.UnpicklingError, match="Unsupported global: GLOBAL .*system"):
        through(Evil())
    with pytest.raises(pickle.UnpicklingError):
        SafeUnpickler(io.BytesIO(pickle.dumps(Evil()))).load()


def test_tensors_that_reach_outside_of_their_storage_are_refused():
    file = io.BytesIO()
    tapegrad.save(tapegrad.ones(4), file)
    with zipfile.ZipFile(file) as archive:
        names = {n: archive.read(n) for n in archive.namelist()}
    for old, new in ((b"K\x04\x85", b"K\x05\x85"), (b"K\x01\x85", b"K\x02\x85"), (b"QK\x00", b"QK\x01")):
        changed = names["archive/data.pkl"].replace(old, new)
        assert changed != names["archive/data.pkl"]
        with pytest.raises(RuntimeError, match="out of bounds"):
            tapegrad.load(_archive({**names, "archive/data.pkl": changed}))


def test_safe_globals():
    value = {"args": argparse.Namespace(lr=0.1)}
    with pytest.raises(pickle.UnpicklingError, match="argparse.Namespace"):
        through(value)
    with tapegrad.serialization.safe_globals([argparse.Namespace]):
        assert through(value)["args"].lr == 0.1
        assert tapegrad.serialization.get_safe_globals() == [argparse.Namespace]
    assert tapegrad.serialization.get_safe_globals() == []
    tapegrad.serialization.add_safe_globals([(argparse.Namespace, "argparse.Namespace")])
    try:
        assert through(value)["args"].lr == 0.1
    finally:
        tapegrad.serialization.clear_safe_globals()
    assert through(value, weights_only=False)["args"].lr == 0.1


BAD = {
    "no zip": (b"hello world", pickle.UnpicklingError, "zip format"),
    "empty": (b"", EOFError, "Ran out of input"),
    "cut": (b"PK\x03\x04 and then nothing", RuntimeError, "PytorchStreamReader failed"),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_files(name):
    data, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        tapegrad.load(io.BytesIO(data))


def test_wrong_arguments():
    with pytest.raises(AttributeError, match="'write' attribute"):
        tapegrad.save(1, 3)
    with pytest.raises(AttributeError, match="seekable"):
        tapegrad.load(3)
    with pytest.raises(RuntimeError, match="explicit pickle_module"):
        tapegrad.load(io.BytesIO(), pickle_module=pickle, weights_only=True)
    with pytest.raises(ValueError, match="zip format"):
        tapegrad.save(1, io.BytesIO(), _use_new_zipfile_serialization=False)
    with pytest.raises(RuntimeError, match="file data/0"):
        file = io.BytesIO()
        tapegrad.save(tapegrad.ones(1), file)
        with zipfile.ZipFile(file) as archive:
            kept = {n: archive.read(n) for n in archive.namelist() if "/data/" not in n}
        tapegrad.load(_archive(kept))


def test_torchscript_archives_are_named():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:  # their code is compressed
        archive.writestr("m/data.pkl", b"")
        archive.writestr("m/code/m.py", b"pass " * 99)
        archive.writestr("m/constants.pkl", b"")
    file.seek(0)
    with pytest.raises(RuntimeError, match="TorchScript"):
        tapegrad.load(file)


def test_one_memory_with_two_dtypes_is_refused():
    t = tapegrad.ones(4)
    with pytest.raises(RuntimeError, match="view the same data as different types"):
        tapegrad.save([t, t.view(tapegrad.int32)], io.BytesIO())


def test_big_endian_files():
    file = io.BytesIO()
    tapegrad.save(tapegrad.tensor([1.0, 2.0]), file)
    with zipfile.ZipFile(file) as archive:
        names = {n: archive.read(n) for n in archive.namelist()}
    names["archive/byteorder"] = b"big"
    names["archive/data/0"] = np.array([1.0, 2.0], ">f4").tobytes()
    assert tapegrad.load(_archive(names)).tolist() == [1, 2]
