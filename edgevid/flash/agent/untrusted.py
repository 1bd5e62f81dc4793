"""Folders that other users can write: who controls a path, and how to read one safely.

Root never opens, creates, removes or chowns anything by its path below a folder that another user
can write: that user could put a link there. Folders for other users are created in folders of ours;
what is in them is opened relative to the open folder, without following links, and is used only if
it is a regular file or a socket of the expected user.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
import struct
import time
from contextlib import suppress
from pathlib import Path

from . import disk

LINKS = 40
"""The most symbolic links in a path, as in the kernel."""
_SHARED = stat.S_IWGRP | stat.S_IWOTH


def unsafe_reason(path: Path) -> str | None:
    """Why another user than this one and root can change what ``path`` leads to.

    Every folder on the way belongs to this user or to root, and nobody else may write it; a sticky
    folder such as ``/tmp`` will do on the way, but not as the last one.

    Args:
        path: An absolute path, of which the end may be missing.

    Returns:
        One line; None if no other user can.
    """
    for folder in _way(path):
        try:
            found = os.lstat(str(folder))
        except OSError:
            return None
        if found.st_uid not in (0, os.geteuid()):
            return f"{folder} belongs to {_user(found.st_uid)}"
        if stat.S_ISLNK(found.st_mode) or not found.st_mode & _SHARED:
            continue
        on_the_way = found.st_mode & stat.S_ISVTX and folder != path
        if not on_the_way and not _is_private(found):
            return f"{folder} can be written by other users"
    return None


def _way(path: Path) -> list[Path]:
    """All folders and links that are passed on the way to ``path``, which is the last."""
    here, passed, links = Path("/"), [Path("/")], 0
    todo = list(path.parts[1:])
    while todo:
        part = todo.pop(0)
        here = here.parent if part == ".." else here / part
        passed.append(here)
        target = disk.read_link(here)
        if target is not None and links < LINKS:
            links += 1
            here = Path("/") if target.startswith("/") else here.parent
            todo = [one for one in Path(target).parts if one != "/"] + todo
    return passed


def _is_private(found: os.stat_result) -> bool:
    """Whether only the owner's own group may write, with nobody else in it (umask 002)."""
    if found.st_mode & stat.S_IWOTH:
        return False
    try:
        owner, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    alone = set(group.gr_mem) <= {owner.pw_name}
    return alone and owner.pw_gid == found.st_gid and owner.pw_name == group.gr_name


def _user(number: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return f"the user {number}"


def make_folder(path: Path, mode: int, account: tuple[int, int] | None) -> None:
    """Create a folder, in a folder of ours, that a user and group may write.

    Anything that another user has put there is replaced, and nothing inside changes its owner.

    Args:
        path: The folder.
        mode: Its permissions.
        account: The user and the group; None: it stays ours.
    """
    owner = os.geteuid() if account is None else account[0]
    with suppress(FileNotFoundError):
        found = os.lstat(str(path))
        if stat.S_ISDIR(found.st_mode) and found.st_uid == owner:
            return
        disk.remove(path)
    path.mkdir(mode=mode)
    if account is not None:
        os.chown(str(path), account[0], account[1], follow_symlinks=False)


def open_file(folder: Path, name: str, owner: int | None = None) -> int | None:
    """Open a regular file in a folder that another user can write.

    Args:
        folder: The folder; its own path is to be trusted.
        name: The file's name in it.
        owner: The user it must belong to; None: any.

    Returns:
        A descriptor, or None if there is no such file. Opening never blocks.
    """
    try:
        where = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=where)
    except OSError:
        return None
    finally:
        os.close(where)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or owner not in (None, found.st_uid):
        os.close(descriptor)
        return None
    return descriptor


def read_file(folder: Path, name: str, owner: int, limit: int) -> bytes | None:
    """The content of a user's regular file; None if it is not one, or is longer than ``limit``."""
    descriptor = open_file(folder, name, owner)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(limit + 1)
    return content if len(content) <= limit else None


def read_socket(path: Path, owner: int, limit: int, timeout_s: float) -> bytes | None:
    """What a user's process that listens on a socket sends, up to the end of the stream.

    Args:
        path: The socket.
        owner: The user whose process must be listening.
        limit: The most bytes.
        timeout_s: The most seconds for everything.

    Returns:
        The content; None if nobody or another user listens, or it takes too long.
    """
    until, size = time.monotonic() + timeout_s, 0
    parts: list[bytes] = []
    try:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(timeout_s)
            channel.connect(str(path))
            about = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if struct.unpack("3i", about)[1] != owner:
                return None
            while True:
                left_s = until - time.monotonic()
                if left_s <= 0 or size > limit:
                    return None
                channel.settimeout(left_s)
                part = channel.recv(1 << 16)
                if not part:
                    return b"".join(parts)
                parts.append(part)
                size += len(part)
    except OSError:
        return None
