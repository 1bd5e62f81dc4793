"""Landlock through ctypes: the kernel restricts which files this process can access.

The access rights are those of the kernel's ``include/uapi/linux/landlock.h``; an older kernel is
given only those that it knows.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""System call numbers, the same on every architecture."""
GET_VERSION, PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
KNOWN_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights on files each ABI has; later ones have as many as the last."""
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
"""Only regular files and folders: links, pipes and sockets could redirect whoever reads them."""
RUN = READ_FILE | EXECUTE
TCP = 3
"""The rights to bind and to connect."""
SCOPES = 3
"""Abstract sockets and signals are confined to the processes of the sandbox."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """The kernel's Landlock ABI; 0 where there is none, or it is switched off."""
    found = _libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), GET_VERSION)
    return max(0, int(found))


def restrict(rules: Iterable[tuple[str, int]]) -> None:
    """Deny this thread, and everything it starts, all files but these; it cannot be undone.

    ``PR_SET_NO_NEW_PRIVS`` must be set. Sockets other than inherited ones, and signals to other
    processes, are denied as far as the kernel can.

    Args:
        rules: Paths and the rights on each, and on what is beneath it. Missing paths are left out;
            symbolic links are followed.

    Raises:
        OSError: The kernel refuses.
    """
    abi = version()
    handled = (1 << KNOWN_BITS.get(abi, KNOWN_BITS[5])) - 1
    attributes = _Ruleset(handled, TCP if abi >= 4 else 0, SCOPES if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _check(_libc.syscall(CREATE_RULESET, ctypes.byref(attributes), size, 0))
    try:
        for path, rights in rules:
            _add(ruleset, path, rights & handled)
        _check(_libc.syscall(RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _add(ruleset: int, path: str, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP):
            return
        raise
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= OF_A_FILE
        rule = _PathBeneath(rights, opened)
        _check(_libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(opened)


def _check(returned: int) -> int:
    if returned < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return returned
