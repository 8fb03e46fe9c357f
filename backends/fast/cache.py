"""Where machine code is kept, and its making by child processes when there is none.

One file for each group of kernels (see build.py), in TAPEGRAD_CACHE_DIR, else in the user's cache folder; its name
tells the sources, the versions and the processor apart. Where that folder cannot be written, what is in it still
serves, and what is not is made again by each process, in a temporary folder.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import build

SOURCES = Path(__file__).parent / "sources"


def groups() -> list[str]:
    """The names of all groups."""
    shared = {"__init__", "language", "maths"}
    return sorted(path.stem for path in SOURCES.glob("*.py") if path.stem not in shared)


@functools.cache
def _environment() -> bytes:
    """What machine code depends on besides its source: versions, processor, and the files that all groups share."""
    from importlib.metadata import version

    from llvmlite import binding

    words = [sys.version, version("numba"), version("llvmlite"), binding.get_process_triple()]
    words += [os.environ.get("NUMBA_CPU_NAME") or binding.get_host_cpu_name()]
    words += [os.environ.get("NUMBA_CPU_FEATURES") or binding.get_host_cpu_features().flatten()]
    shared = [Path(build.__file__), SOURCES / "language.py", SOURCES / "maths.py"]
    return "\n".join(words).encode() + b"".join(path.read_bytes() for path in shared)


def key(group: str) -> str:
    """Names the version of the group's machine code that fits this process."""
    made = hashlib.sha256(_environment() + (SOURCES / f"{group}.py").read_bytes())
    return made.hexdigest()[:20]


def cache_folder() -> Path:
    """Where machine code is kept: TAPEGRAD_CACHE_DIR, else `tapegrad` in the user's cache folder."""
    own = os.environ.get("TAPEGRAD_CACHE_DIR")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "tapegrad"


@functools.cache
def _temporary() -> Path:
    """A folder of this process, for where the cache cannot be written."""
    folder = Path(tempfile.mkdtemp(prefix="tapegrad-"))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not a fork of it
        shutil.rmtree(folder, ignore_errors=True)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _read(folder: Path, group: str) -> bytes | None:
    try:
        return (folder / build.file_name(group, key(group))).read_bytes()
    except OSError:
        return None


def there(folder: Path, group: str) -> bool:
    """Whether the folder has the group's file for this process."""
    return (folder / build.file_name(group, key(group))).exists()


def contents(group: str) -> bytes:
    """The group's file; if there is none, all groups without one are compiled first."""
    folder = cache_folder()
    found = _read(folder, group)
    if found is None:
        if not _writable(folder):
            print(f"tapegrad: {folder} cannot be written; set TAPEGRAD_CACHE_DIR to keep kernels", file=sys.stderr)
            folder = _temporary()
        compile_missing(folder)
        found = _read(folder, group)
        if found is None:
            raise RuntimeError("compiling failed (see above)")
    return found


PATIENCE = 300.0  # seconds; the process that holds the lock may have been stopped


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time compiles into the folder, where the system has file locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(folder / ".lock", "w") as file:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.1)
        yield  # without the lock too, after PATIENCE: files appear whole, so only work is done twice


def compile_missing(folder: Path, quiet: bool = False) -> list[str]:
    """Compiles the groups that have no file in `folder`, in as many processes as threads are allowed.

    Returns the groups that were compiled. Says so on stderr, unless quiet.
    """
    with _alone(folder):
        missing = [group for group in groups() if not there(folder, group)]
        if not missing:
            return []
        start = time.perf_counter()
        if not quiet:
            print(f"tapegrad: compiling kernels for this processor, once, into {folder} ...", file=sys.stderr)
        missing.sort(key=lambda group: -(SOURCES / f"{group}.py").stat().st_size)  # the longest first
        _compile(folder, missing)
        if not quiet:
            print(f"tapegrad: compiled in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return missing


def _compile(folder: Path, missing: list[str]) -> None:
    if not sys.executable:  # Python inside another program: no child can be started
        for group in missing:
            build.write(folder, key(group), group)
        return
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment.pop("NUMBA_DISABLE_JIT", None)
    waiting, running = list(missing), list[subprocess.Popen[bytes]]()
    while waiting or running:
        while waiting and len(running) < max(1, os.cpu_count() or 1):
            group = waiting.pop(0)
            command = [sys.executable, "-P", build.__file__, str(folder), key(group), group]
            running.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL))
        running = [child for child in running if child.poll() is None]
        time.sleep(0.02)
