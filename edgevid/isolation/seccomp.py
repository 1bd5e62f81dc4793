"""seccomp through ctypes: a small BPF program restricts this process's system calls.

A denied call fails with EPERM, so that a library reports it. A system call of another architecture
(i386 and x32 on x86-64) would bypass the numbers below, so it kills the process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass

NO = -1
"""A system call that an architecture does not have."""


@dataclass(frozen=True)
class Architecture:
    """An architecture: its number in ``linux/audit.h``, and its column in `CALLS`."""

    audit: int
    column: int
    x32: bool = False


X86_64 = Architecture(0xC000003E, 0, x32=True)
ARM64 = Architecture(0xC00000B7, 1)
ARM = Architecture(0x40000028, 2)

PROCESSES = "processes"
LIMITS = "limits"
SIGNALS = "signals"
CALLS: dict[str, dict[str, tuple[int, int, int]]] = {
    "network": {"socket": (41, 198, 281)},
    PROCESSES: {
        "execve": (59, 221, 11),
        "execveat": (322, 281, 387),
        "fork": (57, NO, 2),
        "vfork": (58, NO, 190),
    },
    SIGNALS: {
        "tkill": (200, 130, 238),
        "rt_sigqueueinfo": (129, 138, 178),
        "rt_tgsigqueueinfo": (297, 240, 363),
        "pidfd_send_signal": (424, 424, 424),
    },
    LIMITS: {"setrlimit": (160, 164, 75)},
    "other processes": {
        "ptrace": (101, 117, 26),
        "process_vm_readv": (310, 270, 376),
        "process_vm_writev": (311, 271, 377),
        "process_madvise": (440, 440, 440),
        "process_mrelease": (448, 448, 448),
        "kcmp": (312, 272, 378),
        "pidfd_getfd": (438, 438, 438),
        "move_pages": (279, 239, 344),
        "migrate_pages": (256, 238, 400),
        "perf_event_open": (298, 241, 364),
    },
    "attributes of files": {  # not covered by Landlock: a key could be made readable
        "chmod": (90, NO, 15),
        "fchmod": (91, 52, 94),  # also of a file that is only open for reading
        "fchmodat": (268, 53, 333),
        "fchmodat2": (452, 452, 452),
        "chown": (92, NO, 182),
        "chown32": (NO, NO, 212),
        "fchown": (93, 55, 95),
        "fchown32": (NO, NO, 207),
        "lchown": (94, NO, 16),
        "lchown32": (NO, NO, 198),
        "fchownat": (260, 54, 325),
        "utime": (132, NO, NO),
        "utimes": (235, NO, 269),
        "futimesat": (261, NO, 326),
        "utimensat": (280, 88, 348),
        "utimensat_time64": (NO, NO, 412),
        "setxattr": (188, 5, 226),
        "lsetxattr": (189, 6, 227),
        "fsetxattr": (190, 7, 228),
        "setxattrat": (463, 463, 463),
        "removexattr": (197, 14, 235),
        "lremovexattr": (198, 15, 236),
        "fremovexattr": (199, 16, 237),
        "removexattrat": (466, 466, 466),
        "file_setattr": (469, 469, 469),
        "truncate": (76, 45, 92),  # by path, which the first two ABIs of Landlock do not see
        "truncate64": (NO, NO, 193),
    },
    "notifications about other files": {
        "inotify_init": (253, NO, 316),
        "inotify_init1": (294, 26, 360),
    },
    "memory and messages of other programs": {
        "shmget": (29, 194, 307),
        "shmat": (30, 196, 305),
        "msgget": (68, 186, 303),
        "semget": (64, 190, 299),
        "mq_open": (240, 180, 274),
    },
    "links and nodes": {
        "link": (86, NO, 9),
        "linkat": (265, 37, 330),
        "symlink": (88, NO, 83),
        "symlinkat": (266, 36, 331),
        "mknod": (133, NO, 14),
        "mknodat": (259, 33, 324),
    },
    "io_uring": {
        "io_uring_setup": (425, 425, 425),
        "io_uring_enter": (426, 426, 426),
        "io_uring_register": (427, 427, 427),
    },
    "mounts and namespaces": {
        "mount": (165, 40, 21),
        "umount2": (166, 39, 52),
        "pivot_root": (155, 41, 218),
        "chroot": (161, 51, 61),
        "open_tree": (428, 428, 428),
        "open_tree_attr": (467, 467, 467),
        "move_mount": (429, 429, 429),
        "fsopen": (430, 430, 430),
        "fsconfig": (431, 431, 431),
        "fsmount": (432, 432, 432),
        "fspick": (433, 433, 433),
        "mount_setattr": (442, 442, 442),
        "unshare": (272, 97, 337),
        "setns": (308, 268, 375),
        "name_to_handle_at": (303, 264, 370),
        "open_by_handle_at": (304, 265, 371),
        "fanotify_init": (300, 262, 367),
    },
    "keys": {
        "add_key": (248, 217, 309),
        "request_key": (249, 218, 310),
        "keyctl": (250, 219, 311),
    },
    "the kernel": {
        "bpf": (321, 280, 386),
        "userfaultfd": (323, 282, 388),
        "kexec_load": (246, 104, 347),
        "kexec_file_load": (320, 294, 401),
        "init_module": (175, 105, 128),
        "finit_module": (313, 273, 379),
        "delete_module": (176, 106, 129),
        "reboot": (169, 142, 88),
        "swapon": (167, 224, 87),
        "swapoff": (168, 225, 115),
        "acct": (163, 89, 51),
        "quotactl": (179, 60, 131),
        "quotactl_fd": (443, 443, 443),
        "syslog": (103, 116, 103),
        "sethostname": (170, 161, 74),
        "setdomainname": (171, 162, 121),
        "settimeofday": (164, 170, 79),
        "clock_settime": (227, 112, 262),
        "clock_settime64": (NO, NO, 404),
        "clock_adjtime": (305, 266, 372),
        "clock_adjtime64": (NO, NO, 405),
        "adjtimex": (159, 171, 124),
        "iopl": (172, NO, NO),
        "ioperm": (173, NO, NO),
        "modify_ldt": (154, NO, NO),
        "uselib": (134, NO, 86),
        "vhangup": (153, 58, 111),
        "lookup_dcookie": (212, 18, 249),
    },
}
"""What is denied, by purpose: name -> number on x86-64, ARM64 and 32-bit ARM."""
CLONE, CLONE3 = (56, 220, 120), (435, 435, 435)
KILL, TGKILL, PRLIMIT64 = (62, 129, 37), (234, 131, 268), (302, 261, 369)
IOCTL, PRCTL = (16, 29, 54), (157, 167, 172)
FCNTLS, SOCKETPAIR = ((72, 25, 55), (NO, NO, 221)), (53, 199, 288)

CLONE_THREAD, CLONE_NEW = 0x00010000, 0x7E020000
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
"""ioctl requests that inject input into a terminal."""
FIOSETOWN, SIOCSPGRP = 0x8901, 0x8902
F_SETOWN, F_SETSIG, F_SETOWN_EX = 8, 10, 15
"""Requests that have the kernel send signals to another process."""
SET_FLAGS = (0x40046602, 0x40086602, 0x401C5820)
"""Requests that change attributes of a file that is only open for reading."""
AF_UNIX, DATAGRAM_BIT = 1, 2
"""A stream pair stays connected; a datagram socket of a pair can send to any socket."""
SET_NO_NEW_PRIVS, SET_PDEATHSIG = 38, 1
SET_FILTER, ACTION_AVAILABLE = 1, 2
TSYNC, SPEC_ALLOW = 1, 4
"""Apply to all threads; without the speculation mitigations that kernels before 5.16 add."""
X32_BIT = 0x40000000
ALLOW, KILL_PROCESS = 0x7FFF0000, 0x80000000
DENY, ABSENT = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16

Program = list[tuple[int, int, int, int]]
"""BPF instructions: code, how many to skip if true, how many if false, operand."""

_libc = ctypes.CDLL(None, use_errno=True)
_CALL = {X86_64: 317, ARM64: 277, ARM: 383}


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def architecture() -> Architecture | None:
    """This process's architecture; None if its system calls are not known here.

    A 32-bit process may run on a 64-bit kernel, as on older Raspberry Pi systems.
    """
    machine, wide = platform.machine().lower(), struct.calcsize("P") == 8
    if machine in ("x86_64", "amd64"):
        return X86_64 if wide else None
    if machine in ("aarch64", "arm64"):
        return ARM64 if wide else ARM
    return ARM if machine.startswith("arm") and not wide else None


def available() -> bool:
    """Whether the kernel accepts filters for this process's architecture."""
    here = architecture()
    if here is None:
        return False
    action = ctypes.c_uint32(KILL_PROCESS)
    return bool(_libc.syscall(_CALL[here], ACTION_AVAILABLE, 0, ctypes.byref(action)) == 0)


def no_new_privileges() -> None:
    """Set PR_SET_NO_NEW_PRIVS: no program gains privileges. Landlock and seccomp require it.

    Raises:
        OSError: The kernel refuses.
    """
    one, nothing = ctypes.c_ulong(1), ctypes.c_ulong(0)
    if _libc.prctl(SET_NO_NEW_PRIVS, one, nothing, nothing, nothing):
        raise OSError(ctypes.get_errno(), "the kernel has no PR_SET_NO_NEW_PRIVS")


def restrict(*, programs: bool = False) -> None:
    """Deny this process the system calls of `CALLS`; it cannot be undone.

    ``PR_SET_NO_NEW_PRIVS`` must be set.

    Args:
        programs: Whether it may start other processes.

    Raises:
        OSError: The kernel refuses.
    """
    here = architecture()
    if here is None:
        raise OSError(errno.ENOSYS, "seccomp: the system calls of this machine are not known")
    listed = program(here, os.getpid(), programs=programs)
    packed = b"".join(struct.pack("=HBBI", *one) for one in listed)
    described = _Filter(len(listed), packed)
    if _libc.syscall(_CALL[here], SET_FILTER, TSYNC | SPEC_ALLOW, ctypes.byref(described)):
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")


def program(here: Architecture, pid: int, *, programs: bool) -> Program:
    """Build the filter.

    Args:
        here: The architecture.
        pid: This process, which may send signals only to itself.
        programs: See `restrict`.

    Returns:
        The instructions.
    """
    at = here.column
    left_out = {PROCESSES, SIGNALS, LIMITS} if programs else set()
    denied = [
        numbers[at]
        for purpose, calls in CALLS.items()
        if purpose not in left_out
        for numbers in calls.values()
        if numbers[at] != NO
    ]
    found: Program = [(LOAD, 0, 0, ARCHITECTURE_AT), (EQUAL, 1, 0, here.audit)]
    found += [(RETURN, 0, 0, KILL_PROCESS), (LOAD, 0, 0, NUMBER_AT)]
    if here.x32:
        found += [(AT_LEAST, 0, 1, X32_BIT), (RETURN, 0, 0, KILL_PROCESS)]
    for number in denied:
        found += [(EQUAL, 0, 1, number), (RETURN, 0, 0, DENY)]
    # Its arguments are in memory, which a filter cannot see; libraries fall back to clone.
    found += [(EQUAL, 0, 1, CLONE3[at]), (RETURN, 0, 0, ABSENT)]
    clone: Program = [(LOAD, 0, 0, ARGUMENTS_AT), (ANY_BIT, 0, 1, CLONE_NEW), (RETURN, 0, 0, DENY)]
    if not programs:
        clone += [(ANY_BIT, 1, 0, CLONE_THREAD), (RETURN, 0, 0, DENY)]
        found += _if(KILL[at], _unless_equal(0, pid))
        found += _if(TGKILL[at], _unless_equal(0, pid))
        found += _if(PRLIMIT64[at], _unless_equal(2, 0, high=True))
        found += _if(PRCTL[at], _if_equal(0, SET_PDEATHSIG))
    found += _if(CLONE[at], [*clone, (RETURN, 0, 0, ALLOW)])
    found += _if(IOCTL[at], _if_equal(1, TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP, *SET_FLAGS))
    for numbers in FCNTLS:
        if numbers[at] != NO:
            found += _if(numbers[at], _if_equal(1, F_SETOWN, F_SETSIG, F_SETOWN_EX))
    pair: Program = [(LOAD, 0, 0, ARGUMENTS_AT), (EQUAL, 1, 0, AF_UNIX), (RETURN, 0, 0, DENY)]
    pair += [(LOAD, 0, 0, ARGUMENTS_AT + 8), (ANY_BIT, 0, 1, DATAGRAM_BIT), (RETURN, 0, 0, DENY)]
    found += _if(SOCKETPAIR[at], [*pair, (RETURN, 0, 0, ALLOW)])
    return [*found, (RETURN, 0, 0, ALLOW)]


def _if(number: int, block: Program) -> Program:
    """Run a block, which returns, for one system call."""
    return [(EQUAL, 0, len(block), number), *block]


def _unless_equal(argument: int, value: int, *, high: bool = False) -> Program:
    """Deny the call unless an argument, or with ``high`` both of its halves, has a value."""
    found: Program = []
    for word in range(1 + high):
        found += [(LOAD, 0, 0, ARGUMENTS_AT + 8 * argument + 4 * word)]
        found += [(EQUAL, 1, 0, value), (RETURN, 0, 0, DENY)]
    return [*found, (RETURN, 0, 0, ALLOW)]


def _if_equal(argument: int, *values: int) -> Program:
    """Deny the call if an argument has one of these values."""
    found: Program = [(LOAD, 0, 0, ARGUMENTS_AT + 8 * argument)]
    for value in values:
        found += [(EQUAL, 0, 1, value), (RETURN, 0, 0, DENY)]
    return [*found, (RETURN, 0, 0, ALLOW)]
