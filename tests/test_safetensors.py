"""utils.safetensors: the functions of safetensors.torch, bit for bit, and what damaged files say."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tapegrad as torch

pytest.importorskip("safetensors")
from tapegrad.utils import safetensors as st  # noqa: E402
from tapegrad.utils.safetensors import format as words  # noqa: E402

DTYPES = sorted(words.DTYPES.values())


def every_dtype() -> dict[str, torch.Tensor]:
    """Tensors of every dtype of the format; random bits, so that NaN payloads are among them."""
    rng = np.random.default_rng(0)
    made = {}
    for name in DTYPES:
        d = getattr(torch, name)
        bits = rng.integers(0, 2 if name == "bool" else 256, (3, 5 * d.itemsize), np.uint8)
        made[name] = torch.from_numpy(bits).view(d)
    return {**made, "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "name with spaces, é": torch.arange(3)}


def bits(t) -> bytes:
    """The bytes of a tensor, here or torch's."""
    flat = t.detach().contiguous().reshape(-1)
    return flat.view(sys.modules[type(t).__module__.split(".")[0]].uint8).numpy().tobytes() if flat.numel() else b""


def equal(ours, theirs) -> None:
    assert list(ours) == list(theirs)
    for name, t in ours.items():
        other = theirs[name]
        assert (str(t.dtype), tuple(t.shape), bits(t)) == (str(other.dtype), tuple(other.shape), bits(other)), name


def header_and_data(entries: dict | str, data: bytes) -> bytes:
    head = (entries if isinstance(entries, str) else json.dumps(entries)).encode()
    return len(head).to_bytes(8, "little") + head + data


def entry(dtype: str, shape: list, begin: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


# ---- beside safetensors.torch ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs():
    pytest.importorskip("torch")
    import safetensors.torch

    return safetensors.torch


def real(t):
    """torch's tensor of the same bits."""
    import torch as real

    if not t.numel():
        return real.zeros(tuple(t.shape), dtype=getattr(real, t.dtype.name))
    made = real.from_numpy(t.contiguous().reshape(-1).view(torch.uint8).numpy().copy())
    return made.view(getattr(real, t.dtype.name)).reshape(tuple(t.shape))


@pytest.mark.parametrize("backend", ["mmap", "pread"])
def test_files_of_torch_load_here(theirs, tmp_path, backend):
    theirs.save_file({name: real(t) for name, t in every_dtype().items()}, tmp_path / "a", {"k": "v"})
    equal(st.load_file(tmp_path / "a", backend=backend), theirs.load_file(tmp_path / "a"))
    data = (tmp_path / "a").read_bytes()
    equal(st.load(data), dict(sorted(theirs.load(data).items())))


def test_our_files_are_torchs(theirs, tmp_path):
    tensors = every_dtype()
    st.save_file(tensors, tmp_path / "a", {"k": "v"})
    theirs.save_file({name: real(t) for name, t in tensors.items()}, tmp_path / "b", {"k": "v"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == st.save(tensors, {"k": "v"})
    equal(st.load_file(tmp_path / "a"), theirs.load_file(tmp_path / "a"))


INDICES = [0, -1, slice(1, 3), slice(None, None, 2), (slice(None), 1), (..., 2), (1, slice(2, 4)), [0, 2], 7]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_slices_are_torchs(theirs, tmp_path, index):
    import safetensors

    w = torch.arange(20.0).reshape(4, 5)
    st.save_file({"w": w}, tmp_path / "a")
    with st.safe_open(tmp_path / "a", "pt") as ours, safetensors.safe_open(tmp_path / "a", "pt") as other:
        part, expected = ours.get_slice("w"), other.get_slice("w")
        assert (part.get_shape(), part.get_dtype()) == (expected.get_shape(), expected.get_dtype())
        if index == 7:
            with pytest.raises(IndexError):
                expected[index]
            with pytest.raises(IndexError):
                part[index]
        else:
            equal({"w": part[index]}, {"w": expected[index]})


def refused(library, kind):
    """(exception type, first words) of what must be refused, by this library and its tensors."""
    x, zeros = library.zeros(4, 4), library.zeros
    tensors = {
        "no dict": [x],
        "no tensor": {"a": x, "b": 3},
        "sparse": {"a": zeros(2, 2).to_sparse()},
        "shared": {"a": x, "b": x},
        "overlapping": {"a": x[:2], "b": x[1:]},
        "not contiguous": {"a": x.t()},
        "metadata": {"a": x},
    }[kind]
    return tensors, {"k": 1} if kind == "metadata" else None


@pytest.mark.parametrize(
    "kind", ["no dict", "no tensor", "sparse", "shared", "overlapping", "not contiguous", "metadata"]
)
def test_refusals_are_torchs(theirs, tmp_path, kind):
    import torch as real

    with pytest.raises(Exception) as expected:  # noqa: B017, PT011
        theirs.save(*refused(real, kind))
    begin = " ".join(str(expected.value).split())[:42].replace("class 'torch", "class 'tapegrad")
    for call in (st.save, lambda tensors, metadata: st.save_file(tensors, tmp_path / "a", metadata)):
        with pytest.raises(type(expected.value)) as found:
            call(*refused(torch, kind))
        assert " ".join(str(found.value).split()).startswith(begin)
    assert not list(tmp_path.iterdir())


def parsed(path) -> tuple[dict, bytes]:
    """A file's header and data; the library writes metadata in any order."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


class Tied:
    """Makes a module with tied weights and a transposed parameter of a library."""

    def __new__(cls, library):
        model = library.nn.Sequential(library.nn.Linear(3, 3), library.nn.Linear(3, 3), library.nn.BatchNorm1d(3))
        model[1].weight = model[0].weight
        model[1].bias = library.nn.Parameter(library.arange(6.0).reshape(2, 3).t()[:, 1].clone())
        return model


def test_modules_are_torchs(theirs, tmp_path):
    import torch as real

    ours, other = Tied(torch), Tied(real)
    ours.load_state_dict({k: torch.from_numpy(v.numpy()) for k, v in other.state_dict().items()})
    st.save_model(ours, tmp_path / "a", {"k": "v"})
    theirs.save_model(other, str(tmp_path / "b"), {"k": "v"})
    assert parsed(tmp_path / "a") == parsed(tmp_path / "b")
    fresh = Tied(torch)
    assert st.load_model(fresh, tmp_path / "b") == theirs.load_model(Tied(real), str(tmp_path / "a"))
    equal(fresh.state_dict(), other.state_dict())
    st.save_file({"0.weight": torch.zeros(3, 3), "more": torch.zeros(1)}, tmp_path / "c")
    with pytest.raises(RuntimeError) as expected:
        theirs.load_model(Tied(real), str(tmp_path / "c"))
    with pytest.raises(RuntimeError) as found:
        st.load_model(fresh, tmp_path / "c")
    assert str(found.value) == str(expected.value)
    loose = st.load_model(fresh, tmp_path / "c", strict=False)
    assert loose == theirs.load_model(Tied(real), str(tmp_path / "c"), strict=False)


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_tensors_are_the_files_pages_until_written_to(tmp_path):
    st.save_file({"a": torch.zeros(1000), "b": torch.ones(3)}, tmp_path / "a")
    with st.safe_open(tmp_path / "a") as f:
        first, again = f.get_tensor("a"), f.get_tensor("a")
        part = f.get_slice("a")[10:20]
        assert first.data_ptr() == again.data_ptr() == part.data_ptr() - 40
    first[0] = 7  # the pages outlive the file's being open, and are the program's own
    assert again[0] == 7 and st.load_file(tmp_path / "a")["a"][0] == 0
    st.save_file(st.load_file(tmp_path / "a"), tmp_path / "a")  # onto the file that is mapped
    assert st.load_file(tmp_path / "a")["b"].tolist() == [1, 1, 1]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's memory figures")
def test_only_what_is_asked_for_is_read(tmp_path):
    """64 MiB in the file, one row of it read: the process grows by far less."""
    code = """
import sys
import tapegrad as torch
from tapegrad.utils import safetensors as st
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
with st.safe_open(sys.argv[1]) as f:
    f.get_slice("small")[:]
    before = resident()
    f.get_tensor("large"), f.get_slice("large")[5].sum().item()
    print(resident() - before)
"""
    st.save_file({"large": torch.ones(1024, 16384), "small": torch.ones(1)}, tmp_path / "a")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a"], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16 << 20


@pytest.mark.parametrize("backend", ["mmap", "pread"])
def test_devices(tmp_path, backend):
    tensors = {"w": torch.arange(6.0).reshape(2, 3), "half": torch.ones(2, dtype=torch.bfloat16)}
    there = {name: t.to("fake:1") for name, t in tensors.items()}
    st.save_file(there, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == st.save(tensors) == st.save(there)
    loaded = st.load_file(tmp_path / "a", device="fake:1", backend=backend)
    assert all(t.device == torch.device("fake:1") for t in loaded.values())
    equal({k: t.cpu() for k, t in loaded.items()}, st.load_file(tmp_path / "a"))
    with st.safe_open(tmp_path / "a", device="fake", backend=backend) as f:
        part = f.get_slice("w")[:, 1]
    assert part.device.type == "fake" and part.tolist() == [1, 4]
    with torch.device("fake"):  # where new tensors go does not matter
        assert st.load_file(tmp_path / "a")["w"].device.type == "cpu"
    with pytest.raises(RuntimeError, match="share memory"):
        st.save({"a": there["w"], "b": there["w"][1:]})
    with pytest.raises(RuntimeError, match="nowhere"):
        st.load_file(tmp_path / "a", device="nowhere")


def test_entries_that_lie_anywhere(tmp_path):
    """Headers of any length: tensors that begin at odd addresses are copied."""
    data = np.arange(3, dtype="<f4").tobytes()
    for filler in range(4):
        (tmp_path / "a").write_bytes(header_and_data(json.dumps({"a": entry("F32", [3], 0, 12)}) + " " * filler, data))
        t = st.load_file(tmp_path / "a")["a"]
        assert t.tolist() == [0, 1, 2] and t.data_ptr() % 4 == 0


def test_the_other_order_of_bytes(monkeypatch):
    monkeypatch.setattr(sys, "byteorder", "big")
    assert words.native(np.array([1, 2], np.int16)).tolist() == [256, 512]
    z = np.array([1 + 2j], np.complex64)
    assert words.native(z).tobytes() == z.real.astype(">f4").tobytes() + z.imag.astype(">f4").tobytes()
    kept = {name: t for name, t in every_dtype().items() if name in ("float64", "complex64", "bfloat16", "int8")}
    data = st.save(kept)
    equal(dict(sorted(st.load(data).items())), dict(sorted(kept.items())))
    monkeypatch.undo()
    assert data != st.save(kept)


FLOAT8 = {"ok": entry("F32", [1], 0, 4), "w": entry("F8_E4M3", [2, 2], 4, 8)}


def test_float8_is_refused_by_name(tmp_path):
    data = header_and_data(FLOAT8, bytes(8))
    (tmp_path / "a").write_bytes(data)
    with st.safe_open(tmp_path / "a") as f:
        assert f.keys() == ["ok", "w"] and f.get_slice("w").get_dtype() == "F8_E4M3"
        assert f.get_tensor("ok").tolist() == [0]
        with pytest.raises(st.SafetensorError, match="a: entry 'w': tapegrad has no dtype for F8_E4M3"):
            f.get_tensor("w")
    for call in (lambda: st.load_file(tmp_path / "a"), lambda: st.load(data)):
        with pytest.raises(st.SafetensorError, match="entry 'w'.* F8_E4M3"):
            call()


@pytest.mark.parametrize(
    "name", ["F4", "F6_E2M3", "F6_E3M2", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"]
)
def test_sizes_of_other_dtypes_are_known(tmp_path, name):
    """What lies behind an entry that cannot be read is still found."""
    size = words.nbytes(name, [8])
    entries = {"a": entry(name, [8], 0, size), "b": entry("U8", [2], size, size + 2)}
    (tmp_path / "a").write_bytes(header_and_data(entries, bytes(size) + b"\1\2"))
    with st.safe_open(tmp_path / "a") as f:
        assert f.get_tensor("b").tolist() == [1, 2]


def test_complex128_is_refused_by_name():
    with pytest.raises(ValueError, match="Key `z` is invalid: the format has no torch.complex128"):
        st.save({"z": torch.zeros(2, dtype=torch.complex128)})


WHOLE = header_and_data({"a": entry("F32", [2], 0, 8), "b": entry("I64", [1], 8, 16)}, bytes(16))
DAMAGED = {
    "empty": (b"", "header too small"),
    "cut in its header": (WHOLE[:40], "invalid header length"),
    "cut in b": (WHOLE[:-3], "entry 'b' ends at byte"),
    "cut in a": (WHOLE[:-12], "entry 'a' ends at byte"),
    "more behind": (WHOLE + b"xyz", "3 bytes follow the last entry, 'b'"),
    "header length": (b"\xff" * 100, "header too large"),
    "no JSON": (WHOLE[:8] + b"x" + WHOLE[9:], "invalid JSON"),
    "no dtype": (WHOLE.replace(b"I64", b"I99"), "I99"),
    "shape": (WHOLE.replace(b"[2]", b"[3]"), "entry 'a' has 8 bytes, but F32 of shape \\[3\\] has 12"),
    "overlap": (WHOLE.replace(b"[8, 16]", b"[4, 12]"), "entry 'b' begins at byte 4 of the data, but 8 was expected"),
    "backwards": (WHOLE.replace(b"[8, 16]", b"[8, 01]"), "invalid JSON"),
    "hole": (header_and_data({"a": entry("U8", [1], 4, 5)}, bytes(5)), "entry 'a' begins at byte 4"),
    "overflow": (header_and_data({"a": entry("F32", [2**62 + 1], 0, 4)}, bytes(4)), "entry 'a' has 4 bytes"),
    "negative": (header_and_data({"a": entry("F32", [-1], 0, 4)}, bytes(4)), "invalid"),
    "nested": (header_and_data('{"a":' + "[" * 5000 + "]" * 5000 + "}", b""), "invalid JSON|recursion"),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGED)
def test_damaged_files_name_file_and_entry(tmp_path, how):
    data, expected = DAMAGED[how]
    (tmp_path / "bad.safetensors").write_bytes(data)
    for backend in ("mmap", "pread"):
        with pytest.raises(st.SafetensorError, match=f"(?s)bad.safetensors: .*{expected}"):
            st.load_file(tmp_path / "bad.safetensors", backend=backend)
    with pytest.raises(st.SafetensorError, match=f"(?s)bytes: .*{expected}"):
        st.load(data)


def test_no_flip_of_a_header_crashes(tmp_path):
    """Every byte of a header in turn, changed: an error of the format, or tensors of other names or shapes."""
    outcomes = set()
    for at in range(len(WHOLE) - 16):
        for flip in (1, 128):
            data = bytearray(WHOLE)
            data[at] ^= flip
            (tmp_path / "a").write_bytes(data)
            try:
                outcomes.add(tuple(st.load_file(tmp_path / "a")))
            except st.SafetensorError as error:
                assert str(tmp_path / "a") in str(error)
                outcomes.add("refused")
    assert "refused" in outcomes and len(outcomes) > 2


def test_a_file_cut_short_while_it_is_open(tmp_path):
    (tmp_path / "a").write_bytes(WHOLE)
    with st.safe_open(tmp_path / "a", backend="pread") as f:
        os.truncate(tmp_path / "a", len(WHOLE) - 3)
        assert f.get_tensor("a").tolist() == [0, 0]
        with pytest.raises(st.SafetensorError, match="entry 'b' has 8 bytes, but the file gave only 5"):
            f.get_tensor("b")


def test_what_is_not_there(tmp_path):
    (tmp_path / "a").write_bytes(WHOLE)
    with pytest.raises(FileNotFoundError, match="none"):
        st.load_file(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        st.load_file(tmp_path)
    with pytest.raises(st.SafetensorError, match="framework tf is invalid"):
        st.safe_open(tmp_path / "a", "tf")
    with pytest.raises(st.SafetensorError, match='backend "x" is invalid'):
        st.safe_open(tmp_path / "a", backend="x")
    with st.safe_open(tmp_path / "a") as f:
        assert f.keys() == f.offset_keys() == ["a", "b"] and f.metadata() is None
        for call in (f.get_tensor, f.get_slice):
            with pytest.raises(st.SafetensorError, match="a: File does not contain tensor no"):
                call("no")
    with pytest.raises(st.SafetensorError, match="File is closed"):
        f.get_tensor("a")


def test_without_the_package_the_extra_is_named():
    code = """
import sys
import tapegrad as torch
assert not [name for name in sys.modules if "safetensors" in name]
sys.modules["safetensors"] = None
for call in (lambda: torch.utils.safetensors.load_file("x"), lambda: torch.utils.safetensors.save({})):
    try:
        call()
    except ImportError as error:
        assert "pip install 'tapegrad[safetensors]'" in str(error)
    else:
        raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bfloat16_without_its_package_is_named(tmp_path):
    st.save_file({"w": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "a")
    code = """
import sys
sys.modules["ml_dtypes"] = None
from tapegrad.utils import safetensors as st
try:
    st.load_file(sys.argv[1])
except ImportError as error:
    assert "pip install 'tapegrad[bfloat16]'" in str(error) and "entry 'w'" in error.__notes__[0]
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "a"], check=True)


# ---- writing ---------------------------------------------------------------------------------------------------------


def test_views_that_do_not_overlap_may_be_saved():
    x = torch.arange(6.0).reshape(2, 3)
    equal(st.load(st.save({"a": x[0], "b": x[1]})), {"a": x[0], "b": x[1]})


def test_memory_that_several_reach_is_shared_with_all_of_them():
    x = torch.zeros(100)
    with pytest.raises(RuntimeError, match="'c'"):
        st.save({"a": x, "b": x[:10], "c": x[20:30]})


def test_a_module_that_is_part_of_a_storage():
    layer = torch.nn.Linear(2, 2)
    layer.weight = torch.nn.Parameter(torch.zeros(4, 2)[:2])
    with pytest.raises(RuntimeError, match="None is covering the entire storage"):
        st.save_model(layer, "unused")


def test_what_is_not_contiguous_is_packed_for_modules(tmp_path):
    layer = torch.nn.Linear(2, 3)
    layer.weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3).t())
    with pytest.raises(ValueError, match="`weight`.* Or use save_model"):
        st.save_model(layer, tmp_path / "a", force_contiguous=False)
    st.save_model(layer, tmp_path / "a")
    assert st.load_file(tmp_path / "a")["weight"].tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.skipif(os.name != "posix", reason="modes, links and devices are POSIX's")
def test_names_modes_links_and_devices(tmp_path):
    plain, linked = tmp_path / "plain", tmp_path / "linked"
    st.save_file({"a": torch.ones(1)}, plain)
    (tmp_path / "other").touch()
    assert stat.S_IMODE(plain.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
    plain.chmod(0o640)
    linked.symlink_to(plain)
    st.save_file({"a": torch.zeros(1)}, linked)
    assert linked.is_symlink() and stat.S_IMODE(plain.stat().st_mode) == 0o640
    assert st.load_file(plain)["a"].tolist() == [0]
    st.save_file({"a": torch.zeros(1)}, os.devnull)
    assert not os.path.isfile(os.devnull)
    with pytest.raises(st.SafetensorError, match="none/x: Error while serializing"):
        st.save_file({"a": torch.zeros(1)}, tmp_path / "none" / "x")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    st.save_file({"a": torch.ones(1)}, tmp_path / "a")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        st.save_file({"a": torch.zeros(1)}, tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert st.load_file(tmp_path / "a")["a"].tolist() == [1]


WRITER = """
import sys
import tapegrad as torch
from tapegrad.utils import safetensors as st
i = int(sys.argv[3])
print("ready", flush=True)
while True:
    i += 1
    tensors = {name: torch.full((3000,), float(i)) for name in "abcdef"}
    if sys.argv[1] == "file":
        st.save_file(tensors, sys.argv[2] + "/model.safetensors")
    else:  # four files, three files, one file, in turn
        st.save_sharded(tensors, sys.argv[2], [24000, 30000, 10**6, 30000][i % 4])
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
@pytest.mark.parametrize("kind", ["file", "shards"])
def test_killed_at_any_moment_the_old_or_the_new_is_there(tmp_path, kind):
    st.save_sharded({name: torch.zeros(3000) for name in "abcdef"}, tmp_path)
    last = 0.0
    for turn in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, kind, str(tmp_path), str(int(last))], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        time.sleep(0.013 + 0.0137 * turn)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        values = {value for t in st.load_sharded(tmp_path).values() for value in t.unique().tolist()}
        assert len(values) == 1 and values.copy().pop() >= last, values
        last = values.pop()
    assert last > 0
    st.save_sharded({"a": torch.zeros(1)}, tmp_path)
    assert os.listdir(tmp_path) == ["model.safetensors"]  # nor what killed writers left


# ---- shards ----------------------------------------------------------------------------------------------------------

PARTS = {"b": (300,), "a": (200,), "large": (2000,), "c": (100,), "d": (400,)}  # elements of four bytes
LIMIT = 2000


def parts() -> dict[str, torch.Tensor]:
    return {name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(PARTS.items())}


def index_of(folder) -> dict:
    return json.loads((folder / "model.safetensors.index.json").read_text("utf-8"))


@pytest.fixture
def folder(tmp_path):
    st.save_sharded(parts(), tmp_path / "model", LIMIT, {"made": "today"})
    return tmp_path / "model"


def test_the_layout(folder):
    index = index_of(folder)
    assert index["metadata"] == {"made": "today", "total_size": 12000}
    name = "model-0000{}-of-00003.safetensors".format
    # a larger tensor has a file of its own, at once; what comes before and after shares the next
    assert index["weight_map"] == {"a": name(2), "b": name(2), "c": name(3), "d": name(3), "large": name(1)}
    assert sorted(path.name for path in folder.iterdir()) == [*map(name, (1, 2, 3)), "model.safetensors.index.json"]
    with st.safe_open(folder / name(2)) as f:
        assert f.metadata() == {"format": "pt", "made": "today"}


@pytest.mark.parametrize("backend", ["mmap", "pread"])
def test_shards_come_back(folder, backend):
    for where in (folder, str(folder), folder / "model.safetensors.index.json"):
        equal(dict(sorted(st.load_sharded(where, backend=backend).items())), dict(sorted(parts().items())))
    assert st.load_sharded(folder, "fake")["a"].device.type == "fake"
    with st.safe_open_sharded(folder, device="fake:1") as f:
        assert f.keys() == sorted(PARTS) and f.metadata() == {"made": "today", "total_size": 12000}
        assert f.get_slice("large")[3:5].tolist() == [2, 2] and f.get_tensor("d").device == torch.device("fake:1")
        with pytest.raises(st.SafetensorError, match="index.json: File does not contain tensor no"):
            f.get_tensor("no")
    with pytest.raises(st.SafetensorError, match="File is closed"):
        f.get_tensor("a")


def test_torch_reads_the_shards(theirs, folder):
    for name in set(index_of(folder)["weight_map"].values()):
        equal(st.load_file(folder / name), theirs.load_file(folder / name))


def test_one_file_where_all_fits(tmp_path):
    st.save_sharded(parts(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    with st.safe_open_sharded(tmp_path) as f:
        assert f.keys() == sorted(PARTS) and f.metadata() == {"format": "pt"}
        with pytest.raises(st.SafetensorError, match="model.safetensors: File does not contain tensor no"):
            f.get_slice("no")
    st.save_sharded({}, tmp_path)
    assert st.load_sharded(tmp_path) == {}


def test_an_older_checkpoint_is_replaced(folder):
    held = st.load_sharded(folder)
    (folder / "config.json").write_text("{}")
    (folder / ".model-00001-of-00003.safetensors.12345-0a1b2c3d.tmp").touch()  # of a program that was killed
    for factor, limit, count in ((2, LIMIT, 3), (3, LIMIT, 3), (4, "4KB", 4), (5, "1 MB", 0), (6, "2 KiB", 3)):
        st.save_sharded({name: t * factor for name, t in parts().items()}, folder, limit)
        assert {t[0].item() for t in st.load_sharded(folder).values()} == {factor * i for i in range(5)}
        names = {path.name for path in folder.iterdir()} - {"config.json"}
        if count:
            expected = {*index_of(folder)["weight_map"].values(), "model.safetensors.index.json"}
            assert len(expected) <= count + 1
        else:
            expected = {"model.safetensors"}
        assert names == expected
    assert held["d"].tolist() == [4.0] * 400  # mapped files live on


def test_modules_in_shards(tmp_path):
    model, fresh = Tied(torch), Tied(torch)
    st.save_sharded(model, tmp_path, 60)
    assert index_of(tmp_path)["metadata"]["1.weight"] == "0.weight"
    assert "1.weight" not in index_of(tmp_path)["weight_map"]
    assert st.load_model(fresh, tmp_path) == (set(), [])
    equal(fresh.state_dict(), model.state_dict())
    with pytest.raises(RuntimeError, match="share memory"):
        st.save_sharded(model.state_dict(), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def change(folder, **changes):
    """Rewrites the index: entry -> file, or None to leave it out."""
    index = index_of(folder)
    index["weight_map"].update(changes)
    index["weight_map"] = {key: name for key, name in index["weight_map"].items() if name}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


SECOND, THIRD = "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("harm", "error", "text"),
    [
        (lambda f: (f / SECOND).unlink(), FileNotFoundError, f"{SECOND}: no such file, but .*{INDEX} places entry 'a'"),
        (lambda f: change(f, more=SECOND), st.SafetensorError, f"{SECOND}: no entry 'more', which .*{INDEX} places"),
        (lambda f: change(f, b=None), st.SafetensorError, f"{SECOND}: has entry 'b', which is not in .*{INDEX}"),
        (
            lambda f: st.save_file({n: torch.ones(1) for n in "abc"}, f / SECOND),
            st.SafetensorError,
            f"{SECOND}: has entry 'c', which is in {THIRD} by .*{INDEX}",
        ),
        (lambda f: (f / SECOND).write_bytes(WHOLE[:-1]), st.SafetensorError, f"{SECOND}: .*entry 'b' ends at byte"),
        (lambda f: (f / INDEX).write_text("{"), st.SafetensorError, f"{INDEX}: no index of shards"),
        (lambda f: (f / INDEX).write_text("[]"), st.SafetensorError, f"{INDEX}: no index of shards"),
        (lambda f: (f / INDEX).write_text("{}"), st.SafetensorError, f"{INDEX}: no index of shards.*weight_map"),
        (lambda f: (f / INDEX).write_bytes(b"\xff\xfe"), st.SafetensorError, f"{INDEX}: no index of shards"),
        (
            lambda f: (f / INDEX).write_text('{"weight_map": {"a": "x", "a": "y"}}'),
            st.SafetensorError,
            f"{INDEX}: no index of shards .*'a' is there twice",
        ),
        (lambda f: change(f, a="../x"), st.SafetensorError, "entry 'a' is placed in '../x', which is no file name"),
        (lambda f: change(f, a=3), st.SafetensorError, "entry 'a' is placed in 3"),
        (lambda f: (f / INDEX).unlink(), FileNotFoundError, "neither model.safetensors nor"),
    ],
)
def test_damaged_checkpoints_name_file_and_entry(folder, harm, error, text):
    harm(folder)
    for call in (st.load_sharded, st.safe_open_sharded):
        with pytest.raises(error, match=text):
            call(folder)


@pytest.mark.parametrize("size", ["", "5", "x", "-1GB", "5XB", "0GB", 0, -3, None, "1e3"])
def test_sizes_that_are_none(tmp_path, size):
    if size == "5":
        st.save_sharded({"a": torch.ones(1), "b": torch.ones(1)}, tmp_path, size)
        assert len(set(index_of(tmp_path)["weight_map"].values())) == 2
    else:
        with pytest.raises(ValueError, match="max_shard_size"):
            st.save_sharded({}, tmp_path, size)
