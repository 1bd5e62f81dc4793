"""Everything that a package can be refused for, before anything of the device is touched."""

from __future__ import annotations

import glob
import grp
import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from . import disk, fields, manifest, probe, services, trust
from .manifest import Manifest
from .store import Store
from .transport import Refused

MARGIN = 16 << 20
MARGIN_FILES = 200


class CheckedPackage(NamedTuple):
    """A package that may be staged."""

    manifest: Manifest
    signature: str
    key: str
    notes: list[str]


def package(store: Store, request: dict[str, Any]) -> CheckedPackage:
    """Check what a request brings; raises `Refused` with the first fault."""
    store.fits()
    text, signature = fields.text(request, "manifest"), fields.text(request, "signature")
    if not text or not signature:
        raise Refused("protocol", "a manifest and its signature are needed", "send them along")
    key = trust.accepted_key(text.encode(), signature, trust.pinned(store.signers), request)
    one = manifest.read(text.encode())
    _machine(one)
    _serial(store, one, bool(request.get("allow_downgrade")))
    notes = _nodes(one)
    _writable(store.root)
    services.of(store).fits(one)
    return CheckedPackage(one, signature, key, notes)


def _machine(one: Manifest) -> None:
    here = probe.architecture()
    if one.architecture not in (here, "any"):
        raise Refused(
            "architecture",
            f"the package is for {one.architecture}, this device is {here}",
            "flash with the target of this device; edgevid targets probe tells it",
        )
    if one.python != probe.python_version():
        raise Refused(
            "python",
            f"the package is for Python {one.python}, this device has {probe.python_version()}",
            "make the package for it again",
        )
    has = probe.glibc()
    if one.glibc and has and _version(has) < _version(one.glibc):
        raise Refused(
            "glibc",
            f"the package needs glibc {one.glibc}, this device has {has}",
            "make the package for it again, or update the device's system",
        )
    lacking = [name for name in one.packages if name not in probe.modules(one.packages)]
    if lacking:
        raise Refused(
            "modules",
            "its python3 lacks {}".format(", ".join(lacking)),
            "on the device: apt-get install {}".format(
                " ".join("python3-{}".format(name.replace("_", "-")) for name in lacking)
            ),
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(".") if word.isdigit())


def _serial(store: Store, one: Manifest, allowed: bool) -> None:
    now = store.manifest(store.current())
    if now is not None and one.serial < now.serial and not allowed:
        raise Refused(
            "downgrade",
            f"the package (serial {one.serial}) is older than what serves ({now.serial})",
            "add --allow-downgrade if that is meant",
        )


def _nodes(one: Manifest) -> list[str]:
    """Whether the service may use its devices; those that are not there are only told."""
    notes = []
    for pattern in one.devices:
        if not pattern.startswith("/dev/"):
            continue
        nodes = sorted(glob.glob(pattern))
        if not nodes:
            notes.append(f"{pattern} is not there")
        elif not any(_may_use(Path(node), one) for node in nodes):
            group = probe.group_names([Path(nodes[0]).stat().st_gid])[0]
            raise Refused(
                "permission",
                f"the service may not use {nodes[0]}, which belongs to the group {group}",
                "add the group to the target's service, or set a udev rule on the device",
            )
    return notes


def _may_use(node: Path, one: Manifest) -> bool:
    found = node.stat()
    if found.st_mode & (stat.S_IROTH | stat.S_IWOTH) == stat.S_IROTH | stat.S_IWOTH:
        return True
    if probe.systemd() == "system" or os.geteuid() == 0:
        try:
            account = pwd.getpwnam(one.user)
        except KeyError:
            return _by_group(found, group_numbers(one.groups))
        groups = set(os.getgrouplist(one.user, account.pw_gid)) | group_numbers(one.groups)
        return found.st_uid == account.pw_uid or _by_group(found, groups)
    return os.access(str(node), os.R_OK | os.W_OK)


def _by_group(found: os.stat_result, groups: set[int]) -> bool:
    both = stat.S_IRGRP | stat.S_IWGRP
    return found.st_gid in groups and found.st_mode & both == both


def group_numbers(names: Iterable[str]) -> set[int]:
    """The numbers of those groups that this device has."""
    return {group.gr_gid for group in grp.getgrall() if group.gr_name in set(names)}


def _writable(root: Path) -> None:
    """Raises `Refused` where nothing can be written, without trying to."""
    folder = disk.existing(root)
    if os.statvfs(str(folder)).f_flag & os.ST_RDONLY:
        raise Refused(
            "readonly", f"{folder} is on a read-only disk", "mount it writable, or give --root"
        )
    if not os.access(str(folder), os.W_OK | os.X_OK):
        raise Refused(
            "permission",
            f"{probe.user_name()} may not write to {folder}",
            "use sudo without password, or give another --root",
        )


def room(store: Store, one: Manifest) -> int:
    """How many bytes it will take; raises `Refused` where twice as much is not free."""
    lacking = {s: size for s, size in one.blobs().items() if not store.verified(s)}
    come = sum(store.have(sha256, size) for sha256, size in lacking.items())
    unpacked = 0 if store.has_runner(one.runner) else one.unpacked_bytes
    need = sum(lacking.values()) - come + unpacked
    free = probe.free_bytes(store.root)
    if free < 2 * need + MARGIN:
        raise Refused(
            "disk",
            f"{disk.existing(store.root)} has {free >> 20} MB free, "
            f"{((2 * need + MARGIN) >> 20) + 1} are needed",
            "make room there, or give --root on a larger disk",
        )
    if probe.free_files(store.root) < MARGIN_FILES:
        raise Refused(
            "disk", f"{disk.existing(store.root)} can hold no more files", "remove some there"
        )
    return need
