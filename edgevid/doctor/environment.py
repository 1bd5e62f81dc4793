"""Devices and who may use them, disk, clock, systemd, sandbox and libc."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from edgevid.doctor.check import Check, names
from edgevid.files import cache_folder
from edgevid.isolation.sandbox import SandboxSupport, supported
from edgevid.system.devices import video_device_name
from edgevid.system.kernel import text

DISK_NEEDED_MB = 20
DISK_WANTED_MB = 500
OLDEST = datetime(2026, 11, 1, tzinfo=UTC)
"""A correct clock shows a later time: edgevid is younger."""

# Device nodes, what they are, and the group that Debian, Ubuntu and Raspberry Pi OS give them.
DEVICES = (
    ("dev/video*", "video devices", "video"),
    ("dev/dri/renderD*", "GPUs", "render"),
    ("dev/accel/accel*", "NPUs", "render"),
    ("dev/apex_*", "Edge TPUs", "apex"),
)


def checks(root: Path) -> Iterator[Check]:
    """Check the environment of the machine whose file system begins at ``root``."""
    for pattern, name, group in DEVICES:
        yield _devices(root, pattern, name, group)
    yield disk("cache", cache_folder())
    yield _clock(root)
    yield _systemd(root)
    yield sandbox(supported())
    yield _libc()


def _devices(root: Path, pattern: str, name: str, group: str) -> Check:
    nodes = sorted(root.glob(pattern))
    if not nodes:
        return Check(name, "none")
    found = names(list(dict.fromkeys(_title(root, node) for node in nodes)))
    shut = [node for node in nodes if not may(node)]
    if not shut:
        return Check(name, found)
    who = "" if in_group(root, group) else f"run: sudo usermod -aG {group} $USER, then log in again"
    do = who or f"check the mode of /{shut[0].relative_to(root)}; a udev rule sets it"
    return Check(name, f"{found}; no permission for {len(shut)} of {len(nodes)}", "warn", do)


def may(node: Path) -> bool:
    """Whether this user can open a device."""
    return os.access(node, os.R_OK | os.W_OK)


def _title(root: Path, node: Path) -> str:
    """The name a video device reports: a Raspberry Pi has a dozen that are not cameras."""
    title = video_device_name(root, node)
    return title or f"/{node.relative_to(root)}"


def in_group(root: Path, group: str) -> bool:
    """Whether this process belongs to the group, which takes a new log-in."""
    for line in (text(root / "etc/group") or "").splitlines():
        name, _, rest = line.partition(":")
        if name == group:
            number = rest.split(":")[1] if rest.count(":") >= 1 else ""
            return number.isdecimal() and int(number) in {os.getegid(), *os.getgroups()}
    return False


def disk(name: str, folder: Path) -> Check:
    """Check for space and write permission where ``folder`` is, or will be."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    name = f"disk of {name}"
    if not os.access(there, os.W_OK):
        return Check(name, f"{there} is not writable", "warn", "mount it writable, or chown")
    free_mb = shutil.disk_usage(there).free >> 20
    found = f"{free_mb} MB free at {there}"
    if free_mb < DISK_NEEDED_MB:
        return Check(name, found, "fail", "free some space: remove old logs and bundles")
    if free_mb < DISK_WANTED_MB:
        return Check(name, found, "warn", "free some space: remove old logs and bundles")
    return Check(name, found)


def _clock(root: Path) -> Check:
    now = datetime.fromtimestamp(time.time(), UTC)
    shown = now.strftime("%Y-%m-%d %H:%M:%S UTC")
    if now < OLDEST:
        do = "this is in the past; set it: sudo timedatectl set-ntp true"
        return Check("clock", shown, "warn", do)
    if (root / "run/systemd/timesync/synchronized").exists() or synchronised():
        return Check("clock", f"{shown}, synchronised")
    do = "events get the wrong time; run: sudo timedatectl set-ntp true"
    return Check("clock", f"{shown}, not synchronised", "warn", do)


def synchronised() -> bool:
    """Whether the kernel reports its clock as synchronised (chrony, ntpd and systemd set this)."""
    unsynchronised = 5  # TIME_ERROR
    try:
        state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (AttributeError, OSError):
        return False
    return state not in (-1, unsynchronised)


def _systemd(root: Path) -> Check:
    if (root / "run/systemd/system").is_dir():
        return Check("systemd", "manages this machine")
    do = "without it nothing restarts a service or feeds a watchdog; use another supervisor"
    return Check("systemd", "not running", "warn", do)


def sandbox(kernel: SandboxSupport) -> Check:
    """Check what the kernel offers to confine child processes that load untrusted models."""
    parts = [f"Landlock {kernel.landlock}" if kernel.landlock else "no Landlock"]
    parts.append("seccomp" if kernel.seccomp else "no seccomp")
    found = ", ".join(parts)
    if not kernel.files:
        do = (
            "a model could read your files while it is proven; use Linux 5.13 or newer with "
            "landlock in lsm= of its command line"
        )
        return Check("sandbox", found, "warn", do)
    if not kernel.seccomp:
        return Check("sandbox", found, "warn", "use a kernel with CONFIG_SECCOMP_FILTER")
    return Check("sandbox", found)


def _libc() -> Check:
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        version = ""
    bits = "64" if sys.maxsize > 1 << 32 else "32"
    found = f"{version or 'not glibc'}, {bits}-bit"
    if not version:
        return Check("libc", found, "warn", "most wheels need glibc; use Debian or Ubuntu")
    if bits == "32":
        do = "most runtimes have no wheels for 32 bits; install a 64-bit system"
        return Check("libc", found, "warn", do)
    return Check("libc", found)
