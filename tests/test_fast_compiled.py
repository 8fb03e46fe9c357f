"""The machinery of compiled kernels: cache, fallbacks, threads, show_config."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from tapegrad.backends import config, fast, threads

if not fast.has("numba"):
    pytest.skip("the extra tapegrad[fast] is not installed, or switched off", allow_module_level=True)

from tapegrad.backends.fast import build, cache, compiled

SOURCE = '''
from .language import T, kernel, maximum


@kernel("T* T* T i8 i8")
def scaled(x, out, factor, start, stop):
    for i in range(start, stop):
        out[i] = x[i] * factor


@kernel("f4* f4* i8 i8")
def running_maximum(x, out, start, stop):
    top = x[start]
    for i in range(start, stop):
        top = maximum(top, x[i])
    out[0] = top


@kernel("f4* i8 i8")
def wrong(x, start, stop):
    x[0] = no_such_name
'''


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> compiled.Group:
    """A group of kernels of its own, one of which cannot be compiled, with a cache of its own."""
    for name in ("__init__", "language", "maths"):
        (tmp_path / "sources").mkdir(exist_ok=True)
        shutil.copy(cache.SOURCES / f"{name}.py", tmp_path / "sources")
    (tmp_path / "sources" / "sample.py").write_text(SOURCE)
    shutil.copy(build.__file__, tmp_path / "build.py")
    monkeypatch.setattr(cache, "SOURCES", tmp_path / "sources")
    monkeypatch.setattr(build, "__file__", str(tmp_path / "build.py"))
    monkeypatch.setenv("TAPEGRAD_CACHE_DIR", str(tmp_path / "cache"))
    cache._environment.cache_clear()
    yield compiled.Group("sample")
    cache._environment.cache_clear()


_kept: dict[str, bytes] = {}


@pytest.fixture
def filled(group: compiled.Group) -> compiled.Group:
    """The same with its file in the cache; compiled for the first test that asks."""
    folder, name = cache.cache_folder(), build.file_name("sample", cache.key("sample"))
    folder.mkdir()
    if name not in _kept:
        cache.compile_missing(folder, quiet=True)
        _kept[name] = (folder / name).read_bytes()
    (folder / name).write_bytes(_kept[name])
    return group


def test_compiles_and_keeps(group: compiled.Group, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The first use says that it compiles; the next process finds the file and says nothing."""
    x, out = np.arange(5, dtype="f4"), np.empty(5, "f4")
    group.get("scaled_f4").over(5, x, out, 2.0)
    assert (out == x * 2).all()
    assert "compiling kernels" in capfd.readouterr().err
    assert [p.name for p in (tmp_path / "cache").glob("*.kernels")] == [build.file_name("sample", cache.key("sample"))]
    again = compiled.Group("sample")
    wide = np.empty(5)
    again.get("scaled_f8")(x.astype("f8"), wide, 3.0, 1, 4)
    assert (wide[1:4] == [3, 6, 9]).all()
    assert capfd.readouterr().err == ""


def test_a_kernel_that_fails(filled: compiled.Group) -> None:
    """One warning names it; the others serve."""
    with pytest.warns(RuntimeWarning, match="(?s)'wrong' could not be compiled.*no_such_name"):
        assert filled.get("wrong") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert filled.get("wrong") is None
        assert filled.get("scaled_f4") is not None
    with pytest.raises(KeyError, match="no kernel 'absent'"):
        filled.get("absent")


def test_a_compiler_that_fails(group: compiled.Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file comes of it: a warning, and no kernels."""
    monkeypatch.setattr(cache, "_compile", lambda folder, missing: None)
    with pytest.warns(RuntimeWarning, match="'sample' cannot be had"):
        assert group.get("scaled_f4") is None
    assert group.get("scaled_f8") is None


def test_a_spoilt_file(group: compiled.Group, tmp_path: Path) -> None:
    """It is not taken for code."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / build.file_name("sample", cache.key("sample"))).write_bytes(b"\x00\x01 no JSON")
    with pytest.warns(RuntimeWarning, match="'sample' cannot be had"):
        assert group.get("scaled_f4") is None


def test_no_place_for_a_cache(
    group: compiled.Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Kernels are compiled for this process, and it is said how to keep them."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAPEGRAD_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert group.get("scaled_f4") is not None
    assert "set TAPEGRAD_CACHE_DIR" in capfd.readouterr().err


def test_a_cache_that_may_only_be_read(filled: compiled.Group, monkeypatch: pytest.MonkeyPatch) -> None:
    assert filled.get("scaled_f4") is not None
    monkeypatch.setattr(cache, "_writable", lambda folder: False)
    monkeypatch.setattr(cache, "compile_missing", lambda *args: pytest.fail("compiled again"))
    assert compiled.Group("sample").get("scaled_f4") is not None


def test_several_at_once(group: compiled.Group, tmp_path: Path) -> None:
    """Of those who find nothing only the first compiles."""
    folder = tmp_path / "cache"
    folder.mkdir()
    made: list[list[str]] = []
    workers = [threading.Thread(target=lambda: made.append(cache.compile_missing(folder, quiet=True))) for _ in "123"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(map(len, made)) == [0, 0, 1]


def test_without_children(group: compiled.Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python runs inside another program, it compiles by itself."""
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setattr(build, "HERE", Path(build.__file__).parent)
    before = {name: module for name, module in sys.modules.items() if name.startswith(build._PACKAGE)}
    try:
        assert group.get("scaled_f8") is not None
    finally:
        for name in [name for name in sys.modules if name.startswith(build._PACKAGE)]:
            del sys.modules[name]
        sys.modules.update(before)


def test_the_key_tells_sources_apart(group: compiled.Group, tmp_path: Path) -> None:
    before = cache.key("sample")
    with (tmp_path / "sources" / "sample.py").open("a") as file:
        file.write("\n# changed\n")
    assert cache.key("sample") != before


def test_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAPEGRAD_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.cache_folder() == Path("/somewhere/tapegrad")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert cache.cache_folder() == Path("~/.cache/tapegrad").expanduser()


def test_nan_in_a_running_maximum(filled: compiled.Group) -> None:
    x, out = np.arange(100, dtype="f4"), np.empty(1, "f4")
    run: Any = filled.get("running_maximum")
    run(x, out, 0, 100)
    assert out[0] == 99
    x[37] = np.nan
    run(x, out, 0, 100)
    assert np.isnan(out[0])


def test_spans(filled: compiled.Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads cover all of it; a small or a lone one is done at once."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        monkeypatch.setattr(threads, "worth", lambda *args: True)
        x, out = np.arange(1001, dtype="f4"), np.zeros(1001, "f4")
        filled.get("scaled_f4").over(1001, x, out, 2.0, align=64)
        assert (out == 2 * x).all()
        out[:] = 0
        filled.get("scaled_f4").over(0, x, out, 2.0)
        assert (out == 0).all()
    finally:
        torch.set_num_threads(before)


def test_address_and_rows() -> None:
    x = np.arange(12.0).reshape(3, 4)
    assert compiled.address(x[1:]) == x[1:].ctypes.data == compiled._slow_address(x[1:])
    assert compiled.rows(x) is x
    assert compiled.rows(x.T).flags.c_contiguous and (compiled.rows(x.T) == x.T).all()
    odd = np.frombuffer(b"\0" + x.tobytes(), "f8", offset=1)
    assert not odd.flags.aligned and compiled.rows(odd).flags.aligned and (compiled.rows(odd) == x.ravel()).all()


def test_ahead_of_time(filled: compiled.Group, tmp_path: Path) -> None:
    """python -m tapegrad.backends.fast compiles whatever is missing; a second call finds nothing to do."""
    assert filled.get("scaled_f4") is not None
    monkey = "from tapegrad.backends.fast import cache; import pathlib, runpy\n"
    monkey += f"cache.SOURCES = pathlib.Path({str(cache.SOURCES)!r})\n"
    monkey += "runpy.run_module('tapegrad.backends.fast', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", monkey], capture_output=True, text=True, timeout=200)
    assert not done.returncode, done.stderr
    assert "1 groups of kernels, 0 of them compiled now" in done.stdout


def test_show_config(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = torch.show_config(mode="dicts")
    assert found is not None
    assert found["kernels"]["gelu"] == ["Numba", "NumPy kernel", "generic"]
    assert found["kernels"]["exp"] == ["Numba"]
    assert found["threads"] == torch.get_num_threads()
    assert "numba" in found["fast"]["Numba"]
    assert set(found["machine code"]["groups"]) == set(cache.groups())
    torch.show_config()
    shown = capsys.readouterr().out
    assert "Numba, else NumPy kernel, else generic:" in shown and "gelu" in shown and np.__version__ in shown
    with pytest.raises(ValueError, match="mode must be"):
        torch.show_config(mode="loud")


def test_show_config_without_the_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEGRAD_FAST", "0")
    fast.has.cache_clear()
    try:
        assert config.show_config(mode="dicts")["kernels"]["gelu"] == ["NumPy kernel", "generic"]
        config.show_config()
        assert "off (TAPEGRAD_FAST=0)" in capsys.readouterr().out
        monkeypatch.setenv("TAPEGRAD_GENERIC", "1")
        assert config.show_config(mode="dicts")["kernels"] == {}
    finally:
        fast.has.cache_clear()
