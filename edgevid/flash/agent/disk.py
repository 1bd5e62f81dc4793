"""Files that are whole or absent, even after a power cut."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

MANY = 200
TAKE_S = 0.5
REMOVE_S = 60.0
_MOVED = (errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR, errno.ELOOP)
"""Errors if another process changes a folder while it is removed."""
UNREADABLE = frozenset(
    {errno.EIO, errno.EBADMSG, errno.EISDIR, errno.ELOOP, errno.ENOTDIR, errno.ENXIO}
)
"""Errors from a file on a failing card, or that is no longer a regular file."""


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Make the content of ``path`` durable."""
    _sync(path, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(str(path), flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make everything below ``folder`` durable, and ``folder`` itself, but not its own name."""
    found = list(os.walk(str(folder)))
    if sum(len(files) for _, _, files in found) > MANY:
        os.sync()  # one sync for all; each fsync below then only reports errors
    for where, _, files in found:
        for name in files:
            path = Path(where) / name
            if not path.is_symlink():
                sync_file(path)
        sync_folder(Path(where))


def aside(path: Path) -> Path:
    """The temporary path next to ``path`` that a new version is written to."""
    return path.with_name(f".{path.name}.part")


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` by ``content``, atomically and durably."""
    part = aside(path)
    descriptor = os.open(str(part), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(str(part), str(path))
    sync_folder(path.parent)


def link_whole(path: Path, target: str) -> None:
    """Point the symbolic link ``path`` to ``target``, atomically and durably."""
    part = aside(path)
    if part.is_symlink():
        part.unlink()
    part.symlink_to(target)
    os.replace(str(part), str(path))
    sync_folder(path.parent)


def hard_link(source: Path, path: Path) -> None:
    """Make ``path`` the same file as ``source``, replacing what was there."""
    part = aside(path)
    remove(part)
    os.link(str(source), str(part))
    os.replace(str(part), str(path))


def read_link(path: Path) -> str | None:
    """The target of a symbolic link; None if there is no link."""
    try:
        return os.readlink(str(path))
    except OSError:
        return None


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it exists; ``path`` is in a folder of ours.

    The content may belong to another user, who may change it meanwhile: links are removed and never
    followed, and nesting may be arbitrarily deep.

    Raises:
        OSError: It cannot be removed, or another process keeps filling it.
    """
    try:
        folder = os.open(str(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
        return
    try:
        until = time.monotonic() + REMOVE_S
        for name in _names(folder):
            try:
                _remove_in(folder, name)
            except OSError as error:
                if error.errno not in _MOVED:
                    raise
            if time.monotonic() > until:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
    finally:
        os.close(folder)
    path.rmdir()


def _names(folder: int) -> Iterator[str]:
    """Yield the names in an open folder until it is empty."""
    while True:
        names = os.listdir(folder)
        if not names:
            return
        yield from names


def _remove_in(folder: int, name: str) -> None:
    """Remove an entry of an open folder; a subfolder's entries move up, so depth is no limit."""
    try:
        os.unlink(name, dir_fd=folder)
        return
    except IsADirectoryError:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        inner = os.open(name, flags, dir_fd=folder)
    try:
        for one in os.listdir(inner):
            try:
                os.unlink(one, dir_fd=inner)
            except IsADirectoryError:
                os.rename(one, f".{os.urandom(8).hex()}.old", src_dir_fd=inner, dst_dir_fd=folder)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)


def sha256_of(path: Path) -> str:
    """The hash of a file's content."""
    with path.open("rb") as file:
        return sha256_of_file(file)


def sha256_of_file(file: BinaryIO) -> str:
    """The hash of the rest of an open file."""
    digest = hashlib.sha256()
    for chunk in iter(lambda: file.read(1 << 20), b""):
        digest.update(chunk)
    return digest.hexdigest()


def existing(path: Path) -> Path:
    """The nearest of ``path`` and its parents that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


class FileLock:
    """An flock: it is released when the process ends, so it is never stale."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def take(self) -> bool:
        """Take it, if no other process holds it; waits briefly, since `is_free` takes it, too."""
        if self._descriptor >= 0:
            return True
        descriptor = os.open(str(self.path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + TAKE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > until:
                    os.close(descriptor)
                    return False
                time.sleep(0.02)
            else:
                self._descriptor = descriptor
                return True

    def write(self, text: str) -> None:
        """Write the holder into the file; void once the lock is free."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def is_free(self) -> bool:
        """Whether no process holds it."""
        if self._descriptor >= 0:
            return False
        try:
            descriptor = os.open(str(self.path), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def release(self) -> None:
        """Release it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
