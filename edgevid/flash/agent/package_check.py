"""All checks of a package, before anything on the device is changed."""

from __future__ import annotations

import glob
import os
import pwd
import stat
from pathlib import Path
from typing import Any, NamedTuple

from . import disk, fields, probe, record, services, statement, trust
from .accounts import group_numbers
from .manifest import Manifest
from .manifest import read as read_manifest
from .record import TrustRecord
from .statement import Statement
from .store import Store
from .transport import Refused

MARGIN = 16 << 20
MARGIN_FILES = 200


class CheckedPackage(NamedTuple):
    """A package that may be staged, with notes for the user."""

    manifest: Manifest
    signed: dict[str, str]
    key: str
    accepted: TrustRecord
    """What the device remembers once the package is staged."""
    notes: list[str]


def package(store: Store, request: dict[str, Any], device: str) -> CheckedPackage:
    """Check the package of a request.

    Args:
        store: The folder of edgevid.
        request: The manifest, the signed statement about it, and its signature.
        device: The id of this device; on the first installation, the one that it will have.

    Returns:
        The checked package.

    Raises:
        Refused: Something is wrong with it; this is the first fault.
    """
    store.fits()
    text = fields.text(request, "manifest")
    if not text:
        raise Refused("protocol", "a manifest and its signature are required", "send them along")
    known = record.known(store.record, store.signers) or TrustRecord(device)
    key = trust.trusted_key(trust.pinned(store.signers), request, known.device)
    said = trust.checked(statement.RELEASE, text.encode(), request, key, known.device)
    manifest = read_manifest(text.encode())
    _revoked(known, manifest, key)
    _machine(manifest)
    if said.device == statement.ANY and known.target not in ("", manifest.target):
        raise Refused(
            "device",
            f"it is for any {manifest.target}, and a {known.target} is installed here",
            "flash this device itself, so that it is signed for it",
        )
    accepted = _accepted(store, known, manifest, said, key)
    notes = _nodes(manifest)
    _writable(store.root)
    services.of(store).fits(manifest)
    signed = {name: str(request[name]) for name in ("statement", "signature")}
    return CheckedPackage(manifest, signed, key, accepted, notes)


def _revoked(known: TrustRecord, manifest: Manifest, key: str) -> None:
    for name in (manifest.id, trust.fingerprint(key)):
        if name in known.revoked:
            raise Refused("revoked", f"{name} was revoked on this device", "make a new release")


def _accepted(
    store: Store, known: TrustRecord, manifest: Manifest, said: Statement, key: str
) -> TrustRecord:
    """Check the serial against the floor; returns the record with this release."""
    floor, used = known.floor, known.used
    if statement.RESET_FLOOR in said.permits:
        if said.device == statement.ANY or not said.nonce:
            raise Refused(
                "downgrade",
                "a permission to downgrade must be for one device",
                "flash the device",
            )
        if said.nonce in used:
            raise Refused("replay", "this permission to downgrade was used already", "flash again")
        floor, used = manifest.serial, (*used, said.nonce)
    elif floor is not None and manifest.serial < floor:
        raise Refused(
            "downgrade",
            f"the package (serial {manifest.serial}) is older than the newest release that was "
            f"installed here ({floor})",
            "add --allow-downgrade to install it anyway",
        )
    elif floor is not None and manifest.serial > floor + record.STEP:
        raise Refused(
            "downgrade",
            f"the package (serial {manifest.serial}) was made more than a year after the newest "
            f"release that was installed here ({floor})",
            "check the clock of the computer that made it; if it is right, add --allow-downgrade",
        )
    kept = {one: by for one, by in known.accepted.items() if store.release(one).is_dir()}
    return known._replace(
        floor=manifest.serial if floor is None else max(floor, manifest.serial),
        target=manifest.target,
        used=used,
        accepted=dict(kept, **{manifest.id: key}),
    )


def _machine(manifest: Manifest) -> None:
    here = probe.architecture()
    if manifest.architecture not in (here, "any"):
        raise Refused(
            "architecture",
            f"the package is for {manifest.architecture}, this device is {here}",
            "flash with the target of this device; see: edgevid targets probe",
        )
    if manifest.python != probe.python_version():
        raise Refused(
            "python",
            f"the package is for Python {manifest.python}, this device has "
            f"{probe.python_version()}",
            "make the package for it again",
        )
    has = probe.glibc()
    if manifest.glibc and has and _version(has) < _version(manifest.glibc):
        raise Refused(
            "glibc",
            f"the package needs glibc {manifest.glibc}, this device has {has}",
            "make the package for it again, or update the device's system",
        )
    missing = [name for name in manifest.packages if name not in probe.modules(manifest.packages)]
    if missing:
        raise Refused(
            "modules",
            "its python3 lacks {}".format(", ".join(missing)),
            "on the device: apt-get install {}".format(
                " ".join("python3-{}".format(name.replace("_", "-")) for name in missing)
            ),
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(".") if word.isdigit())


def _nodes(manifest: Manifest) -> list[str]:
    """Check that the service may use its device nodes; returns a note for each missing one."""
    notes = []
    for pattern in manifest.devices:
        if not pattern.startswith("/dev/"):
            continue
        nodes = sorted(glob.glob(pattern))
        if not nodes:
            notes.append(f"{pattern} does not exist")
        elif not any(_may_use(Path(node), manifest) for node in nodes):
            group = probe.group_names([Path(nodes[0]).stat().st_gid])[0]
            raise Refused(
                "permission",
                f"the service may not use {nodes[0]}, which belongs to the group {group}",
                "add the group to the target's service, or set a udev rule on the device",
            )
    return notes


def _may_use(node: Path, manifest: Manifest) -> bool:
    found = node.stat()
    if found.st_mode & (stat.S_IROTH | stat.S_IWOTH) == stat.S_IROTH | stat.S_IWOTH:
        return True
    if probe.systemd() == "system" or os.geteuid() == 0:
        try:
            account = pwd.getpwnam(manifest.user)
        except KeyError:
            return _by_group(found, group_numbers(manifest.groups))
        groups = set(os.getgrouplist(manifest.user, account.pw_gid))
        groups |= group_numbers(manifest.groups)
        return found.st_uid == account.pw_uid or _by_group(found, groups)
    return os.access(str(node), os.R_OK | os.W_OK)


def _by_group(found: os.stat_result, groups: set[int]) -> bool:
    both = stat.S_IRGRP | stat.S_IWGRP
    return found.st_gid in groups and found.st_mode & both == both


def _writable(root: Path) -> None:
    """Raises `Refused` if the folder is not writable; writes nothing."""
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


def room(store: Store, manifest: Manifest) -> int:
    """Check that twice the size of a release is free on the disk.

    Args:
        store: The folder of edgevid.
        manifest: The release.

    Returns:
        The size of the release in bytes.

    Raises:
        Refused: There is not enough room.
    """
    missing = {s: size for s, size in manifest.blobs().items() if not store.verified(s)}
    received = sum(store.have(sha256, size) for sha256, size in missing.items())
    unpacked = 0 if store.has_runner(manifest.runner) else manifest.unpacked_bytes
    need = sum(missing.values()) - received + unpacked
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
            "disk", f"{disk.existing(store.root)} has no room for more files", "remove some there"
        )
    return need
