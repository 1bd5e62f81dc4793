"""The facts of this device, read without changing anything."""

from __future__ import annotations

import glob
import grp
import os
import platform
import pwd
import re
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import disk

MODULES = ("numpy", "av", "click", "ctypes", "ssl")
NODES = (
    "/dev/video*",
    "/dev/media*",
    "/dev/dri/renderD*",
    "/dev/accel/*",
    "/dev/apex_*",
    "/dev/bus/usb/*/*",
    "/dev/nvhost-*",
    "/dev/nvidia*",
    "/dev/hailo*",
)
LIBRARIES = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/lib/*-linux-*",
    "/usr/local/lib",
    "/usr/local/lib/*-linux-*",
)


def architecture() -> str:
    """As ``uname -m``, but of the user space, which may be 32-bit on a 64-bit kernel."""
    machine = platform.machine()
    if struct.calcsize("P") == 4:
        return {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}.get(machine, machine)
    return machine


def python_version() -> str:
    """``3.11`` for 3.11.2."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def glibc() -> str:
    """The version of glibc; empty if the C library is another one."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return ""
    return version if name == "glibc" else ""


def modules(names: Iterable[str]) -> dict[str, str]:
    """The versions of the modules that can be imported; empty if a version is unknown."""
    found = {}
    for name in names:
        try:
            if find_spec(name) is not None:
                found[name] = _version(name)
        except (ImportError, ValueError):
            continue
    return found


def _version(name: str) -> str:
    try:
        from importlib.metadata import PackageNotFoundError, version
    except ImportError:  # Python 3.7
        return ""
    for package in (name, name.replace("_", "-")):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return ""


def libraries(names: Iterable[str]) -> list[str]:
    """The paths of the shared libraries that the linker finds."""
    folders = [Path(folder) for pattern in LIBRARIES for folder in glob.glob(pattern)]
    found = (folder / name for name in names for folder in folders)
    return sorted(str(path) for path in found if path.exists())


def facts(
    root: Path, names: Iterable[str] = (), shared_objects: Iterable[str] = ()
) -> dict[str, Any]:
    """The fields of `edgevid.flash.device_facts.DeviceFacts`."""
    cpu = _cpu()
    return {
        "architecture": architecture(),
        "glibc": glibc(),
        "python": list(sys.version_info[:3]),
        "modules": modules([*MODULES, *names]),
        "cpu": cpu["name"],
        "cpu_flags": cpu["flags"],
        "cpu_count": os.cpu_count() or 0,
        "model": _text("/proc/device-tree/model") or _text("/sys/class/dmi/id/product_name"),
        "system": _system(),
        "memory_mb": _memory_mb(),
        "disk_free_mb": free_bytes(root) >> 20,
        "systemd": systemd(),
        "systemd_version": _systemd_version(),
        "user": user_name(),
        "groups": group_names(os.getgroups()),
        "all_groups": sorted(group.gr_name for group in grp.getgrall()),
        "sudo": os.geteuid() == 0 or _runs("sudo", "-n", "true"),
        "nodes": sorted(node for pattern in NODES for node in glob.glob(pattern)),
        "usb": _usb(),
        "libraries": libraries(shared_objects),
        "ssh_keygen": shutil.which("ssh-keygen") is not None,
        "clock_unix_s": time.time(),
        "root": str(root),
    }


def free_bytes(path: Path) -> int:
    """The free space for ordinary users at ``path``, which need not exist, in bytes."""
    stat = os.statvfs(str(disk.existing(path)))
    return stat.f_bavail * stat.f_frsize


def free_files(path: Path) -> int:
    """The number of files that can still be created there; huge if there is no limit."""
    stat = os.statvfs(str(disk.existing(path)))
    return stat.f_favail if stat.f_files else 1 << 60


def user_name() -> str:
    """The name of this user."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def group_names(numbers: Iterable[int]) -> list[str]:
    """The names of groups; a number without a name stays one."""
    names = []
    for number in sorted(set(numbers)):
        try:
            names.append(grp.getgrgid(number).gr_name)
        except KeyError:
            names.append(str(number))
    return names


def systemd() -> str:
    """``system`` if this user may install system units, ``user`` for own units, or ``none``."""
    if not Path("/run/systemd/system").is_dir() or shutil.which("systemctl") is None:
        return "none"
    if os.geteuid() == 0:
        return "system"
    return "user" if lingers() and user_manager() else "none"


def lingers() -> bool:
    """Whether this user's services run while the user is not logged in."""
    return Path("/var/lib/systemd/linger", user_name()).exists()


def user_manager() -> bool:
    """Whether this user has an own systemd."""
    return _runs("systemctl", "--user", "show", "-p", "Version")


def with_bus() -> dict[str, str]:
    """The environment for ``systemctl --user``, which also works in an ssh session."""
    runtime = f"/run/user/{os.geteuid()}"
    known = {"XDG_RUNTIME_DIR": runtime} if os.path.isdir(runtime) else {}
    return {**known, **os.environ, "LC_ALL": "C"}


def _systemd_version() -> int:
    try:
        done = subprocess.run(
            ["systemctl", "--version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.match(rb"systemd (\d+)", done.stdout)
    return int(found.group(1)) if found else 0


def _runs(*command: str) -> bool:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=10,
            env=with_bus(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def program(name: str) -> str:
    """The absolute path of a program."""
    return shutil.which(name) or f"/usr/bin/{name}"


def _text(path: str) -> str:
    try:
        return Path(path).read_bytes().decode(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _cpu() -> dict[str, Any]:
    name, flags = "", ""
    for line in _text("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware") and not name:
            name = value.strip()
        if key.strip() in ("flags", "Features") and not flags:
            flags = value.strip()
    return {"name": name, "flags": sorted(flags.split())}


def _memory_mb() -> int:
    found = re.search(r"MemTotal:\s+(\d+)", _text("/proc/meminfo"))
    return int(found.group(1)) >> 10 if found else 0


def _system() -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', _text("/etc/os-release"), re.MULTILINE)
    return found.group(1) if found else platform.system()


def _usb() -> list[str]:
    found = set()
    for vendor in glob.glob("/sys/bus/usb/devices/*/idVendor"):
        product = _text(str(Path(vendor).with_name("idProduct")))
        found.add(f"{_text(vendor)}:{product}")
    return sorted(found)
