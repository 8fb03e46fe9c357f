"""Files that are always whole: written under another name, forced to the disk, and only then given their own.

    replacing           gives the file to write to
    replacing_name      gives a name, for a library that opens its files itself
    remove_litter       what killed programs left
    room                memory to read a file into
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

try:
    import fcntl
except ImportError:  # Windows, which lets nobody remove a file that is open
    fcntl: Any = None  # type: ignore[no-redef]  # asked before use

_MOMENT = 0.03  # seconds between two calls of fdatasync


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Gives a file to write to, which takes the place of `path` when the block ends without an error.

    The bytes go to `.NAME.PID-RANDOM.tmp` in the same folder, are flushed and fsynced, and renamed: a program stopped
    at any moment, or a machine that loses power, leaves the old file or the new one, whole. A link is written through,
    and an old file's permissions stay. On an error the temporary file is removed; what a killed program left is
    removed by the next one that writes to the same path (a file still being written is locked, and stays).

    Raises OSError where the folder cannot be written to.
    """
    target, folder, name = _target(path)
    file, temporary = _temporary(folder, name)
    try:
        with file:
            with _early(file.fileno()):
                yield file
                file.flush()
            os.fsync(file.fileno())
            _keep_mode(target, temporary)
            if fcntl:  # renamed while still locked, or another writer could take it for litter
                os.replace(temporary, target)
        if not fcntl:
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    _sync(folder)


@contextlib.contextmanager
def replacing_name(path: str | os.PathLike[str]) -> Iterator[str]:
    """Gives a name under which a file is to be written, by whatever means; it then takes the place of `path`.

    As `replacing`, for libraries that open, and even rename, files themselves: the name lies in a folder
    `.NAME.PID-RANDOM.tmp`, and whatever else the library leaves in it goes with it. Permissions are those of the old
    file, or of a new one made by `open`.
    """
    target, folder, name = _target(path)
    temporary, lock = _temporary_folder(folder, name)
    written = os.path.join(temporary, name)
    try:
        with open(written, "xb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        yield written
        os.chmod(written, mode)
        _keep_mode(target, written)
        _sync(written, os.O_RDWR)
        os.replace(written, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)
    _sync(folder)


@contextlib.contextmanager
def _early(descriptor: int) -> Iterator[None]:
    """Inside, what is written goes to the disk beside the writing, for files that take more than a moment.

    The disk's errors are told once only: those met here are raised at the end.
    """
    if not hasattr(os, "fdatasync"):
        yield
        return
    done, errors = threading.Event(), []

    def work() -> None:
        try:
            while not done.wait(_MOMENT):
                os.fdatasync(descriptor)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="tapegrad-save", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if errors:
        raise errors[0]


def _target(path: str | os.PathLike[str]) -> tuple[str, str, str]:
    """The file that is replaced, its folder and its name; what killed writers left of it is removed."""
    target = os.path.realpath(os.fspath(path))
    folder, name = os.path.split(target)
    remove_litter(folder, re.escape(name))
    return target, folder, name


def _keep_mode(target: str, fresh: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.chmod(fresh, stat.S_IMODE(os.stat(target).st_mode))


def _place(folder: str, name: str) -> str:
    return os.path.join(folder, f".{name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _temporary(folder: str, name: str) -> tuple[BinaryIO, str]:
    """A new file, open and locked, and its path."""
    while True:
        temporary = _place(folder, name)
        file = open(temporary, "xb")  # noqa: SIM115 (the caller closes it)
        _lock(file)
        if not fcntl or os.path.exists(temporary):
            return file, temporary
        file.close()  # another writer took it for litter before it was locked


def _temporary_folder(folder: str, name: str) -> tuple[str, int | None]:
    """A new folder, and the descriptor that holds its lock (None where there are no such locks)."""
    while True:
        temporary = _place(folder, name)
        os.mkdir(temporary)
        if not fcntl:
            return temporary, None
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(temporary, os.O_RDONLY)
            _lock(lock)
            if os.path.exists(temporary):
                return temporary, lock
            os.close(lock)


def _lock(file: Any) -> bool:
    """Whether nobody else writes to the file (or folder): a lock that ends with the process, however it ends."""
    if fcntl:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # in use, or a file system without locks: what is there stays
            return False
    return True


def remove_litter(folder: str, names: str) -> None:
    """Removes the temporary files and folders, whose writers are gone, of files whose name matches `names`."""
    pattern = re.compile(rf"\.(?:{names})\.\d+-[0-9a-f]{{8}}\.tmp")
    for found in filter(pattern.fullmatch, os.listdir(folder or ".")):
        path = os.path.join(folder, found)
        with contextlib.suppress(OSError):
            if not fcntl:  # a file that is open cannot be removed there; a folder may still be in use, and stays
                os.remove(path)
                continue
            descriptor = os.open(path, os.O_RDONLY)
            try:
                if _lock(descriptor):
                    shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
            finally:
                os.close(descriptor)


def _sync(path: str, flags: int = os.O_RDONLY) -> None:
    """A file's bytes, or the names in a folder, on the disk; folders cannot be opened everywhere."""
    try:
        descriptor = os.open(path or ".", flags)
    except OSError:
        if flags != os.O_RDONLY:
            raise
        return
    try:
        os.fsync(descriptor)
    except OSError:
        if flags != os.O_RDONLY:
            raise
    finally:
        os.close(descriptor)


def room(count: int) -> Any:
    """Memory for `count` bytes that are to be read into it: an array of uint8.

    Not from np.empty, which asks for huge pages from 4 MB on: where memory is in use, the system has to make room for
    them first, and the first load of a checkpoint took twice its time.
    """
    if count < 1 << 22 or not hasattr(ctypes, "pythonapi"):
        return np.empty(count, np.uint8)
    new = ctypes.pythonapi.PyByteArray_FromStringAndSize
    new.restype, new.argtypes = ctypes.py_object, (ctypes.c_char_p, ctypes.c_ssize_t)
    return np.frombuffer(new(None, count), np.uint8)  # from no string: the bytes are not set
