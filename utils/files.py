"""Files that are always whole: written under another name, forced to the disk, and only then given their own."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows, which lets nobody remove a file that is open
    fcntl: Any = None  # type: ignore[no-redef]  # asked before use


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Gives a file to write to, which takes the place of `path` when the block ends without an error.

    The bytes go to `.NAME.PID-RANDOM.tmp` in the same folder, are flushed and fsynced, and renamed: a program stopped
    at any moment, or a machine that loses power, leaves the old file or the new one, whole. A link is written through,
    and an old file's permissions stay. On an error the temporary file is removed; what a killed program left is
    removed by the next one that writes to the same path (a file still being written is locked, and stays).

    Raises OSError where the folder cannot be written to.
    """
    target = os.path.realpath(os.fspath(path))
    folder, name = os.path.split(target)
    remove_litter(folder, name)
    file, temporary = _temporary(folder, name)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if os.path.exists(target):
                os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
            if fcntl:  # renamed while still locked, or another writer could take it for litter
                os.replace(temporary, target)
        if not fcntl:
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    _sync_folder(folder)


def _temporary(folder: str, name: str) -> tuple[BinaryIO, str]:
    """A new file, open and locked, and its path."""
    while True:
        temporary = os.path.join(folder, f".{name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        file = open(temporary, "xb")  # noqa: SIM115 (the caller closes it)
        _lock(file)
        if not fcntl or os.path.exists(temporary):
            return file, temporary
        file.close()  # another writer took it for litter before it was locked


def _lock(file: Any) -> bool:
    """Whether nobody else has the file open to write it: a lock that ends with the process, however it ends."""
    if fcntl:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # in use, or a file system without locks: what is there stays
            return False
    return True


def remove_litter(folder: str, name: str) -> None:
    """Removes the temporary files of `name` whose writers are gone."""
    pattern = re.compile(rf"\.{re.escape(name)}\.\d+-[0-9a-f]{{8}}\.tmp")
    for found in filter(pattern.fullmatch, os.listdir(folder or ".")):
        with contextlib.suppress(OSError):
            path = os.path.join(folder, found)
            with open(path, "rb") as file:
                mine = _lock(file)
                if mine and fcntl:
                    os.remove(path)
            if mine and not fcntl:
                os.remove(path)


def _sync_folder(folder: str) -> None:
    """The rename itself on the disk; folders cannot be opened everywhere."""
    with contextlib.suppress(OSError):
        number = os.open(folder or ".", os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
