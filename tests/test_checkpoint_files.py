"""Files of torch.save that are old, hostile, damaged, mapped or interrupted in mid-write."""

from __future__ import annotations

import collections
import io
import mmap
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib

import numpy as np
import pytest
import tapegrad
from tapegrad.serialization import ahead, archive
from tapegrad.utils import files

DOCUMENTED = (pickle.UnpicklingError, RuntimeError, EOFError)


def entries(obj):
    """The entries of a saved file: name -> bytes."""
    file = io.BytesIO()
    tapegrad.save(obj, file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(named, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in named.items() if isinstance(named, dict) else named:
            archive.writestr(name, data)
    file.seek(0)
    return file


def changed(old, new, obj=None):
    """A file of four ones with other bytes in its pickle."""
    named = entries(tapegrad.ones(4) if obj is None else obj)
    assert old in named["archive/data.pkl"]
    return packed({**named, "archive/data.pkl": named["archive/data.pkl"].replace(old, new)})


def of_pickle(data):
    return packed({"archive/data.pkl": b"\x80\x02" + data})


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


# ---- files of both libraries, old and new


def contents(T):
    base = T.arange(12.0).reshape(3, 4)
    dense = T.tensor([[0.0, 2.0], [3.0, 0.0]])
    value = {
        "base": base, "row": base[1], "columns": base.t(), "steps": base[:, ::2], "empty": T.zeros(0, 2),
        "parameter": T.nn.Parameter(T.ones(2)), "ordered": collections.OrderedDict(a=[T.tensor(1), (T.tensor(True),)]),
        "sparse": dense.to_sparse(), "complex": T.tensor([1 + 2j, 3 - 1j]), "none": None, "text": "ä",
    }  # fmt: skip
    for name in "uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float64 complex128".split():
        value[name] = T.tensor([1, 0, 3]).to(getattr(T, name))
    return value


def written(writer, legacy, path):
    writer.manual_seed(0)
    net = writer.nn.Linear(3, 2)
    optimizers = {}
    for name in ("SGD", "Adam", "RMSprop", "Adagrad"):
        optimizer = getattr(writer.optim, name)(
            net.parameters(), **({"momentum": 0.9} if name == "SGD" else {}), lr=0.1
        )
        net(writer.ones(1, 3)).sum().backward()
        optimizer.step()
        optimizers[name] = optimizer.state_dict()
    value = {**contents(writer), "net": net.state_dict(), "optimizers": optimizers}
    writer.save(value, path, **({"_use_new_zipfile_serialization": False} if legacy else {}))
    return value


def same(a, b, where=""):
    """Bit for bit, strides too, through containers."""
    if isinstance(a, dict):
        assert list(map(repr, a)) == list(map(repr, b)), where
        for key in a:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b) and type(a).__name__ == type(b).__name__, where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}.{i}")
    elif hasattr(a, "is_sparse"):
        assert str(a.dtype) == str(b.dtype) and tuple(a.shape) == tuple(b.shape), where
        assert a.requires_grad == b.requires_grad, where
        if a.is_sparse:
            same(a._indices(), b._indices(), where)
            same(a._values(), b._values(), where)
            return
        assert type(a).__name__ == type(b).__name__, where
        assert a.numel() == 0 or tuple(a.stride()) == tuple(b.stride()), where
        assert bits(a) == bits(b), where
    else:
        assert a == b, where


def bits(t):
    t = t.detach().contiguous()
    if "bfloat16" in str(t.dtype):
        t = t.double()
    return t.numpy().tobytes()


@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_torch_load_here(tmp_path, legacy):
    torch = pytest.importorskip("torch")
    path = tmp_path / "of_torch.pt"
    value = written(torch, legacy, path)
    for how in ({}, {"weights_only": False}, {"map_location": "cpu"}, *([] if legacy else [{"mmap": True}])):
        back = tapegrad.load(path, **how)
        same(value, back)
        back["base"][1, 2] = 99
        assert back["row"][2].item() == back["columns"][2, 1].item() == back["steps"][1, 1].item() == 99
    moved = tapegrad.load(path, map_location="fake")
    assert moved["base"].device.type == "fake" and moved["row"].tolist() == [4, 5, 6, 7]
    assert moved["sparse"].to_dense().tolist() == [[0, 2], [3, 0]]


def test_files_from_here_load_in_torch(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "of_ours.pt"
    value = written(tapegrad, False, path)
    for how in ({}, {"mmap": True}):
        back = torch.load(path, **how)
        same(value, back)
        back["base"][1, 2] = 99
        assert back["row"][2].item() == back["columns"][2, 1].item() == 99


def legacy_file(keys=("0",), count=3, data=b"\0\0\x80?" * 3, version=1001, magic=0x1950A86A20F9469CFC6C, numel=3):
    """The old format, written by hand: a float32 tensor of three ones."""
    number = struct.pack("<I", numel)
    pid = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"J" + number + b"NtQ"
    obj = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + pid + b"K\x00K\x03\x85K\x01\x85\x89N" + b"tR."
    parts = [pickle.dumps(x, 2) for x in (magic, version, {"little_endian": True})]
    parts += [obj, pickle.dumps(list(keys), 2), struct.pack("<q", count), data]
    return io.BytesIO(b"".join(parts))


def test_the_old_format_without_torch():
    assert tapegrad.load(legacy_file()).tolist() == [1, 1, 1]
    shifted = io.BytesIO(b"before" + legacy_file().getvalue())
    shifted.seek(6)
    assert tapegrad.load(shifted).tolist() == [1, 1, 1]


WRONG_LEGACY = {
    "magic": ({"magic": 5}, "magic number"),
    "version": ({"version": 5}, "protocol version"),
    "keys": ({"keys": ("1",)}, "the storages of .* are not those"),
    "count": ({"count": 4}, "storage '0' of .* wrong size: expected 3 got 4"),
    "cut": ({"data": b"1234"}, "storage '0' of .* is cut off"),
    "size": ({"numel": 2**30}, "more than the file holds"),
    "outside": ({"numel": 2, "count": 2}, "out of bounds.*the object of"),
}


@pytest.mark.parametrize("name", WRONG_LEGACY)
def test_damaged_old_files(name):
    keywords, message = WRONG_LEGACY[name]
    with pytest.raises(RuntimeError, match=message):
        tapegrad.load(legacy_file(**keywords))


def test_the_tar_format_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"\.tar format of PyTorch before 0\.1\.10"):
        tapegrad.load(io.BytesIO(b"x" * 257 + b"ustar" + b"\0" * 250))
    path = tmp_path / "old.pt"
    path.write_bytes(legacy_file().getvalue())
    with pytest.raises(RuntimeError, match="mmap can only be used.*old.pt"):
        tapegrad.load(path, mmap=True)


# ---- mapped


def mapping(t):
    """The map of a file under a tensor."""
    owner = t.array
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = getattr(owner, "base", None) if not isinstance(owner, memoryview) else owner.obj
    return owner


def test_mmap_maps_and_copies_on_write(tmp_path):
    path = tmp_path / "x.pt"
    tapegrad.save({"a": tapegrad.arange(10.0), "b": tapegrad.ones(3)}, path)
    before = path.read_bytes()
    back = tapegrad.load(path, mmap=True)
    assert mapping(back["a"]) is mapping(back["b"]) is not None
    back["a"][0] = 7
    assert path.read_bytes() == before and back["a"].tolist()[:2] == [7, 1]
    tapegrad.save(back, tmp_path / "y.pt")  # each storage by itself, not all of the map
    assert tapegrad.load(tmp_path / "y.pt")["a"][0].item() == 7
    assert (tmp_path / "y.pt").stat().st_size < 2 * len(before)


@pytest.mark.parametrize(("dtype", "word"), [("float32", 4), ("complex64", 4), ("complex128", 8), ("int64", 8)])
def test_the_other_byte_order(tmp_path, dtype, word):
    t = tapegrad.tensor([1, 2]).to(getattr(tapegrad, dtype))
    named = entries(t)
    named["archive/byteorder"] = b"big"
    named["archive/data/0"] = np.frombuffer(named["archive/data/0"], f"u{word}").byteswap().tobytes()
    path = tmp_path / "big.pt"
    path.write_bytes(packed(named).getvalue())
    for mapped in (False, True):
        assert tapegrad.load(path, mmap=mapped).tolist() == t.tolist()
    named["archive/byteorder"] = b"middle"
    with pytest.raises(RuntimeError, match="archive/byteorder.*Unknown endianness"):
        tapegrad.load(packed(named))


# ---- attacks: pickles


def twice(n):
    """A tuple of the same tuple twice, n times: 2 ** n elements to whoever walks it."""
    return b")" + b"".join(b"q%c" % i + b"h%c" % i + b"\x86" for i in range(n))


def call(module, name, *arguments):
    return b"c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


PICKLES = {
    "os.system": call("os", "system", text("exit 1")),
    "posix.system": call("posix", "system", text("exit 1")),
    "subprocess": call("subprocess", "Popen", text("true")),
    "eval": call("builtins", "eval", text("1")),
    "exec": call("__builtin__", "exec", text("1")),
    "getattr": call("builtins", "getattr", text("a"), text("b")),
    "__import__": call("builtins", "__import__", text("os")),
    "runpy": call("runpy", "_run_code", text("1")),
    "torch.load": call("torch", "load", text("x")),
    "torch.hub": call("torch.hub", "load", text("x")),
    "numpy": call("numpy.core.multiarray", "_reconstruct", text("x")),
    "setstate": b"cbuiltins\nset\n)R}" + text("__setstate__") + b"K\x01sb",
    "state of a list": b"]}b",
    "state of a class": b"ctorch\nSize\n}" + text("evil") + b"K\x01sb",
    "inst": b"(" + text("exit 1") + b"ios\nsystem\n",
    "obj": b"(cos\nsystem\n" + text("exit 1") + b"o",
    "newobj": b"cargparse\nNamespace\n)\x81",
    "newobj of a function": b"ctorch._utils\n_rebuild_tensor\n)\x81",
    "newobj_ex": b"ctorch\nSize\n)}\x92",
    "ext1": b"\x82\x01", "ext2": b"\x83\x01\x00", "ext4": b"\x84\x01\x00\x00\x00",
    "dotted name": b"\x8c\x0bcollections\x8c\x13OrderedDict.__init__\x93",
    "pid of text": b"Pevil\n",
    "pid of a number": b"K\x01Q",
    "pid of a module": b"(" + text("module") + b"ctorch\nSize\nNNNtQ",
    "pid of a tuple": b")Q",
    "storage of no type": b"(" + text("storage") + b"cbuiltins\nset\n" + text("0") + text("cpu") + b"K\x01tQ",
    "storage of a path": b"(" + text("storage") + b"ctorch\nFloatStorage\nK\x01" + text("cpu") + b"K\x01tQ",
    "storage of negative size": b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    + b"J\xff\xff\xff\xfftQ",
    "key of tuples": b"}" + twice(60) + b"K\x01s",
    "element of tuples": b"\x8f(" + twice(60) + b"\x90",
    "set of tuples": b"cbuiltins\nset\n(](" + twice(60) + b"etR",
    "deep key": b"}" + b")" + b"\x85" * 100_000 + b"K\x01s",
    "deep marks": b"(" * 100_000 + b"a",
    "long text": b"X\xff\xff\xff\x7fabc",
    "long bytes": b"\x8e" + struct.pack("<Q", 2**62) + b"abc",
    "long bytearray": b"\x96" + struct.pack("<Q", 2**62) + b"abc",
    "long frame": b"\x95" + struct.pack("<Q", 2**62) + b"abc",
    "long number": b"\x8b" + struct.pack("<i", 2**31 - 1) + b"abc",
    "negative number": b"\x8b\xff\xff\xff\xff",
    "many digits": b"I" + b"9" * 100_000 + b"\n",
    "bytearray of a size": call("builtins", "bytearray", b"\x8a\x08" + struct.pack("<q", 2**62)),
    "tensor of a size": call("torch", "Tensor", b"\x8a\x08" + struct.pack("<q", 2**40)),
    "encoding": call("_codecs", "encode", text("a"), text("idna")),
    "layout": call("torch.serialization", "_get_layout", text("__builtins__")),
    "rebuild by another function": call("torch._tensor", "_rebuild_from_type_v2", b"cbuiltins\nset\nN)N"),
    "rebuild of no tensor": call("torch._utils", "_rebuild_parameter", b"K\x01", b"\x88", b"N"),
    "tensor of no storage": call("torch._utils", "_rebuild_tensor_v2", b"NK\x00))\x89N"),
    "append to what is no list": b"cbuiltins\nset\n)RK\x01a",
    "item of what is no dict": b"]K\x01K\x02s",
    "nothing to pop": b"0000",
    "unknown memo": b"h\x05",
    "protocol": b"\x80\x63",
    "no end": b"K\x01",
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_hostile_pickles_are_refused(name):
    begin = time.monotonic()
    data = PICKLES[name] + (b"" if name == "no end" else b".")
    head = b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {}))
    hostile = [of_pickle(data)]
    if name != "pid of a module":  # the old format names classes so; only those of the closed list get there
        hostile.append(io.BytesIO(head + b"\x80\x02" + data))
    for file in hostile:
        with pytest.raises(pickle.UnpicklingError, match="Weights only load failed(.|\n)*(data.pkl' of|the object of)"):
            tapegrad.load(file)
    assert time.monotonic() - begin < 20


def test_memo_bombs_and_deep_nesting_are_only_data():
    """Shared tuples and deep lists take no more memory than their pickle."""
    shared = tapegrad.load(of_pickle(twice(60) + b"."))
    assert shared[0] is shared[1]
    nested = tapegrad.load(of_pickle(b"]" * 50_000 + b"a" * 49_999 + b"."))
    assert len(nested) == 1


OUTSIDE = {
    "size": (b"K\x04\x85", b"K\x05\x85"),
    "stride": (b"K\x01\x85", b"K\x02\x85"),
    "offset": (b"QK\x00", b"QK\x01"),
    "negative size": (b"K\x04\x85", b"J\xff\xff\xff\xff\x85"),
    "negative stride": (b"K\x01\x85", b"J\xff\xff\xff\xff\x85"),
    "negative offset": (b"QK\x00", b"QJ\xff\xff\xff\xff"),
    "large offset": (b"QK\x00", b"Q\x8a\x09" + b"\xff" * 8 + b"\x00"),
    "other count": (b"K\x01\x85", b"K\x01K\x01\x86"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_tensors_outside_of_their_storage(name):
    with pytest.raises(RuntimeError, match=r"(out of bounds|cannot be)(.|\n)*archive/data.pkl"):
        tapegrad.load(changed(*OUTSIDE[name]))


# ---- attacks: archives


def encrypted():
    data = bytearray(packed(entries(tapegrad.ones(4))).getvalue())
    place = data.find(b"PK\x01\x02")
    data[place + 8] |= 1
    return io.BytesIO(bytes(data))


def doubled():
    named = list(entries(tapegrad.ones(4)).items())
    with pytest.warns(UserWarning, match="Duplicate name"):
        return packed([*named, ("archive/data/0", b"\0" * 16)])


def overlapping():
    named = {**entries(tapegrad.ones(4)), **{f"archive/data/{i}": b"\0" * 4096 for i in range(1, 9)}}
    data = bytearray(packed(named).getvalue())
    place = first = -1
    while (place := data.find(b"PK\x01\x02", place + 1)) >= 0:  # every large entry says it has all of the file
        if struct.unpack_from("<I", data, place + 24)[0] == 4096:
            first = struct.unpack_from("<I", data, place + 42)[0] if first < 0 else first
            struct.pack_into("<II", data, place + 20, 30000, 30000)
            struct.pack_into("<I", data, place + 42, first)
    return io.BytesIO(bytes(data))


ARCHIVES = {
    "encrypted": (encrypted, "data.pkl.*is encrypted"),
    "compressed": (lambda: packed(entries(tapegrad.ones(4)), zipfile.ZIP_DEFLATED), "data.pkl.*is compressed"),
    "bomb": (lambda: packed({"archive/data.pkl": b"\0" * 10_000_000}, zipfile.ZIP_DEFLATED), "is compressed"),
    "twice": (doubled, "archive/data/0.*is there twice"),
    "overlap": (overlapping, "overlaps others"),
    "above": (lambda: packed({"../archive/data.pkl": b"N."}), r"\.\./archive/data\.pkl.*leads out"),
    "absolute": (lambda: packed({"/archive/data.pkl": b"N."}), "leads out"),
    "below": (lambda: packed({**entries(1), "archive/data/../../x": b""}), "leads out"),
    "backslash": (lambda: packed({**entries(1), "archive\\..\\x": b""}), "leads out"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_hostile_archives_are_refused(name):
    make, message = ARCHIVES[name]
    for weights_only in (True, False):
        with pytest.raises(pickle.UnpicklingError, match=message):
            tapegrad.load(make(), weights_only=weights_only)


# ---- damage


def small(path, legacy=False):
    if legacy:
        path.write_bytes(legacy_file().getvalue())
    else:
        tapegrad.save({"a": tapegrad.arange(20.0), "b": [tapegrad.ones(2, 2), "text"], "n": 3}, path)
    return path.read_bytes()


@pytest.mark.parametrize("legacy", [False, True])
def test_cut_files(tmp_path, legacy):
    path = tmp_path / "cut.pt"
    whole = small(path, legacy)
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DOCUMENTED, match="cut.pt"):
            tapegrad.load(path)


@pytest.mark.parametrize(("legacy", "mapped"), [(False, False), (False, True), (True, False)])
def test_flipped_bits(tmp_path, legacy, mapped):
    """Never a crash, nor an error that is not documented."""
    path = tmp_path / "flipped.pt"
    whole = small(path, legacy)
    draw = random.Random(7 + mapped)
    seen = 0
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 1, 1, 8))):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        try:
            tapegrad.load(path, mmap=mapped)
        except DOCUMENTED as error:
            assert "flipped.pt" in str(error)
            seen += 1
    assert seen > 100


def test_a_flip_in_a_storage_is_seen(tmp_path):
    path = tmp_path / "x.pt"
    tapegrad.save({"w": tapegrad.ones(1000)}, path)
    data = bytearray(path.read_bytes())
    data[data.find(b"\0\0\x80?" * 100) + 2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(RuntimeError, match=r"x/data/0.*x\.pt.*CRC"):
        tapegrad.load(path)


def test_sizes_beyond_the_file(tmp_path):
    path = tmp_path / "x.pt"
    tapegrad.save({"w": tapegrad.ones(1000)}, path)
    data = bytearray(path.read_bytes())
    place = data.find(b"x/data/0", data.find(b"PK\x01\x02")) - 46
    struct.pack_into("<II", data, place + 20, 2**31, 2**31)
    path.write_bytes(data)
    for mapped in (False, True):
        with pytest.raises(RuntimeError, match=r"x/data/0.*x\.pt.*2147483648 bytes in a file of"):
            tapegrad.load(path, mmap=mapped)


def test_errors_of_map_location_are_the_callers():
    def refuse(storage, location):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        tapegrad.load(packed(entries(tapegrad.ones(1))), map_location=refuse)


# ---- killed in mid-write

WRITER = """
import sys, tapegrad as torch
step = 0
while True:
    step += 1
    torch.save({"step": step, "w": torch.full((200_000,), float(step))}, sys.argv[1])
    if step == 1:
        print("ready", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
def test_killed_while_it_writes(tmp_path):
    path = tmp_path / "model.pt"
    draw = random.Random(3)
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        try:
            assert child.stdout.readline() == b"ready\n"
            time.sleep(draw.uniform(0, 0.05))
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
        back = tapegrad.load(path)
        assert bool((back["w"] == back["step"]).all()) and back["w"].numel() == 200_000
        assert len(os.listdir(tmp_path)) <= 2  # the file, and what the last writer left
    tapegrad.save(1, path)
    assert os.listdir(tmp_path) == ["model.pt"]


def test_litter_goes_and_what_is_being_written_stays(tmp_path):
    path = tmp_path / "model.pt"
    left, other = tmp_path / ".model.pt.12345-0a1b2c3d.tmp", tmp_path / ".other.pt.12345-0a1b2c3d.tmp"
    left.write_bytes(b"half")
    other.write_bytes(b"half")
    with files.replacing(path) as first:
        first.write(b"first")
        assert not left.exists() and other.exists()
        with files.replacing(path) as second:  # another writer to the same path
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first" and sorted(os.listdir(tmp_path)) == [other.name, "model.pt"]


def test_permissions_stay_and_errors_leave_nothing(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"old")
    path.chmod(0o640)
    tapegrad.save(1, path)
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(ZeroDivisionError), files.replacing(path) as file:
        file.write(b"x")
        raise ZeroDivisionError
    assert tapegrad.load(path) == 1 and os.listdir(tmp_path) == ["model.pt"]


def test_forced_to_the_disk(tmp_path, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: (order.append(name), real(*a))[1])
    tapegrad.save(1, tmp_path / "x.pt")
    assert order == ["fsync", "replace", "fsync"]  # the file, its name, the folder


@pytest.mark.skipif(not hasattr(os, "fdatasync"), reason="no fdatasync here")
def test_the_disks_errors_are_told(tmp_path, monkeypatch):
    """Linux tells an error of the disk once: also if it is met while the file is still being written."""
    path = tmp_path / "model.pt"
    tapegrad.save(1, path)
    met = threading.Event()

    def full(descriptor):
        met.set()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(OSError, match="No space left"), files.replacing(path) as file:
        file.write(b"x")
        assert met.wait(20)
    assert tapegrad.load(path) == 1 and os.listdir(tmp_path) == ["model.pt"]
    assert not [thread for thread in threading.enumerate() if thread.name == "tapegrad-save"]


def test_a_name_to_write_to(tmp_path):
    """For libraries that open files themselves; two writers at once, one of which fails, and what a killed one left."""
    path = tmp_path / "model.bin"
    left = tmp_path / ".model.bin.12345-0a1b2c3d.tmp"
    left.mkdir()
    (left / "model.bin").write_bytes(b"half")
    with files.replacing_name(path) as first:
        with open(first, "wb") as file:
            file.write(b"first")
        assert not left.exists() and not path.exists()
        with pytest.raises(ZeroDivisionError), files.replacing_name(path) as second:
            (tmp_path / "other").touch()
            os.replace(tmp_path / "other", second)  # as a library does that has its own temporary file
            raise ZeroDivisionError
    assert path.read_bytes() == b"first" and os.listdir(tmp_path) == ["model.bin"]
    path.chmod(0o640)
    with files.replacing_name(path) as name:
        assert os.path.basename(name) == "model.bin"
    assert path.read_bytes() == b"" and path.stat().st_mode & 0o777 == 0o640


# ---- large files, read by several threads


def test_a_crc_is_put_together():
    data = np.random.default_rng(0).integers(0, 256, 100_003, np.uint8).tobytes()
    for cut in (0, 1, 4096, 99_999, 100_003):
        first, second = zlib.crc32(data[:cut]), zlib.crc32(data[cut:])
        assert ahead.combined(first, second, len(data) - cut) == zlib.crc32(data)


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file whose storages have several parts, and small ones between; by threads, whatever the machine has."""
    monkeypatch.setattr(ahead, "_PART", 1 << 16)
    monkeypatch.setattr(ahead, "_WORTH", 1 << 17)
    monkeypatch.setattr(ahead, "_AHEAD", 1 << 18)
    monkeypatch.setattr(archive, "_SMALL", 1000)
    monkeypatch.setattr(ahead.threads, "count", lambda: 3)
    tensors = {str(i): tapegrad.arange(n) + i for i, n in enumerate((50_000, 3, 8192, 40_001, 0, 20_000))}
    tapegrad.save(tensors, tmp_path / "x.pt")
    return tmp_path / "x.pt", tensors


def test_threads_read_the_same(large, monkeypatch):
    path, tensors = large
    asked = []
    real_ask = ahead.Ahead._ask
    monkeypatch.setattr(ahead.Ahead, "_ask", lambda self, *a: (asked.append(a[1]), real_ask(self, *a)))
    for source in (path, io.BytesIO(path.read_bytes())):
        back = tapegrad.load(source)
        assert list(back) == list(tensors)
        assert all(tapegrad.equal(back[name], t) for name, t in tensors.items())
        assert [name.rpartition("/")[2] for name in asked] == ["0", "2", "3", "5"]  # and none in memory
    back["0"][0] = 7  # memory of its own
    before = [thread.name for thread in threading.enumerate()]
    assert tapegrad.load(path)["0"][0].item() == 0
    assert not [name for name in before if "tapegrad-load" in name]


@pytest.mark.parametrize("place", [100, 70_000, 399_000])
def test_threads_see_a_flip(large, place):
    path, _ = large
    data = bytearray(path.read_bytes())
    data[data.find(struct.pack("<5q", *range(5))) + place] ^= 1
    path.write_bytes(data)
    with pytest.raises(RuntimeError, match=r"x/data/0.*x\.pt.*CRC"):
        tapegrad.load(path)


def test_a_file_cut_while_threads_read(large, monkeypatch):
    path, _ = large

    def cut(descriptor, buffers, offset):
        return real(descriptor, buffers, offset) if offset < 200_000 else 0

    real = os.preadv
    monkeypatch.setattr(os, "preadv", cut)
    with pytest.raises(RuntimeError, match=r"x/data/0.*x\.pt.*ends \d+ bytes too early"):
        tapegrad.load(path)


# ---- safetensors


def test_safetensors_files_are_known_by_their_content(tmp_path):
    pytest.importorskip("safetensors")
    from tapegrad.utils import safetensors

    state = {"w": tapegrad.arange(6.0).reshape(2, 3), "n": tapegrad.tensor(3), "e": tapegrad.zeros(0, 2)}
    path = tmp_path / "model.bin"
    safetensors.save_file({"w": state["w"].reshape(6)}, path, {"text": "x" * 40})
    assert path.read_bytes()[:1] == pickle.PROTO  # a header of 128 bytes
    assert tapegrad.load(path)["w"].tolist() == [0, 1, 2, 3, 4, 5]
    safetensors.save_file(state, path)
    for source, mapped in ((path, False), (path, True), (io.BytesIO(path.read_bytes()), None)):
        back = tapegrad.load(source, mmap=mapped)
        assert back.keys() == state.keys()
        assert all(tapegrad.equal(back[k], t) and back[k].shape == t.shape for k, t in state.items())
    assert tapegrad.load(path, map_location="fake")["w"].device.type == "fake"
    asked = []
    tapegrad.load(path, map_location=lambda storage, location: asked.append((storage.nbytes(), location)))
    assert sorted(asked) == [(0, "cpu"), (8, "cpu"), (24, "cpu")]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(safetensors.SafetensorError, match=r"model\.bin"):
        tapegrad.load(path)
    named = tmp_path / "cut.safetensors"
    named.write_bytes(b"\x10\0\0\0")
    with pytest.raises(safetensors.SafetensorError, match=r"cut\.safetensors"):
        tapegrad.load(named)
    tapegrad.save(7, named)
    assert tapegrad.load(named) == 7


def test_safetensors_files_beside_torch(tmp_path):
    real = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from tapegrad.utils import safetensors

    safetensors.save_file({"w": tapegrad.arange(3.0)}, tmp_path / "x.safetensors")
    theirs, ours = real.load(tmp_path / "x.safetensors"), tapegrad.load(tmp_path / "x.safetensors")
    assert theirs.keys() == ours.keys() and theirs["w"].tolist() == ours["w"].tolist()
