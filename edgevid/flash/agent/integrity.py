"""Whether a release is still what was signed: checked at each activation and at each start.

The signature, the manifest and the release's own files are always checked. A runner is unpacked
and compiled here, so its files are compared with the list that was made when it was built. At a
start only those files are read again whose time or place on the disk has changed since: reading a
whole runner from an SD card takes longer than everything else.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import disk, record, statement, trust
from .manifest import Manifest
from .store import Store
from .transport import Refused

_ENVIRONMENT = ("tools", "disk", "readonly", "permission")


def note_runner(store: Store, runner: str, lib: Path) -> None:
    """Note the files of a runner that was just built in ``lib``, durably."""
    files = {name: [disk.sha256_of(lib / name), *mark] for name, mark in _found(lib).items()}
    disk.write_whole(store.runner_files(runner), json.dumps(files, sort_keys=True).encode())


def runner_fault(store: Store, runner: str, *, quick: bool = False) -> str | None:
    """What is wrong with the files of a runner; None if nothing is.

    Args:
        store: The folder of edgevid.
        runner: The runner's id.
        quick: Read only files whose inode, size or time has changed since they were noted.
    """
    noted = _noted(store, runner)
    if noted is None:
        return f"the list of the files of the runner {runner} is missing"
    try:
        found = _found(store.lib(runner))
    except OSError as error:
        return f"the files of the runner cannot be read ({error.strerror})"
    for name in sorted(noted.keys() ^ found.keys()):
        return f"{name} of the runner was {'removed' if name in noted else 'added'}"
    for name, mark in found.items():
        if quick and mark == noted[name][1:]:
            continue
        if not _is_still(store.lib(runner) / name, noted[name][0]):
            return f"{name} of the runner was changed"
    return None


def renew_marks(store: Store, runner: str) -> None:
    """Update the marks of a runner's files after they were verified.

    If they were copied to another card, every mark differs; so they are read in full only once.
    """
    noted, found = _noted(store, runner) or {}, _found(store.lib(runner))
    if any(noted[name][1:] != mark for name, mark in found.items()):
        files = {name: [noted[name][0], *mark] for name, mark in found.items()}
        with suppress(OSError):
            text = json.dumps(files, sort_keys=True).encode()
            disk.write_whole(store.runner_files(runner), text)


def fault(store: Store, manifest: Manifest, *, quick: bool = False) -> str | None:
    """What is wrong with a release that was accepted earlier; None if nothing is.

    Args:
        store: The folder of edgevid.
        manifest: The release.
        quick: As for `runner_fault`.

    Raises:
        Refused: It cannot be checked, because a tool or room on the disk is missing.
    """
    known = record.read(store.record)
    key = known.accepted.get(manifest.id) if known else None
    if known is None or key is None:
        return "this device has not accepted it"
    if manifest.id in known.revoked or trust.fingerprint(key) in known.revoked:
        return "it is revoked"
    folder = store.release(manifest.id)
    signed = store.signed(manifest.id)
    try:
        trust.checked(statement.RELEASE, manifest.text, signed, key, known.device)
    except Refused as refused:
        if refused.kind in _ENVIRONMENT:
            raise
        return refused.message
    for file in manifest.files():
        if not _is_still(folder / file.name, file.sha256):
            return f"{file.name} was changed"
    return runner_fault(store, manifest.runner, quick=quick)


def current_fault(store: Store, release: str, *, quick: bool = False) -> str | None:
    """As `fault`, for a release by its name; its manifest may have been changed."""
    manifest = store.manifest(release)
    return fault(store, manifest, quick=quick) if manifest else "its manifest was changed"


def _noted(store: Store, runner: str) -> dict[str, Any] | None:
    try:
        noted = json.loads(store.runner_files(runner).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return noted if isinstance(noted, dict) else None


def _is_still(path: Path, sha256: str) -> bool:
    """Whether a file still has this hash; one that cannot be read counts as changed.

    Otherwise a release on a failing card would be started because it cannot be verified.
    """
    try:
        return stat.S_ISREG(os.lstat(str(path)).st_mode) and disk.sha256_of(path) == sha256
    except OSError:
        return False


def _found(lib: Path) -> dict[str, list[int]]:
    """The mark of each file below a folder, by its path in it."""
    top, found = str(lib), {}
    waiting = [top] if os.path.isdir(top) else []
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    found[entry.path[len(top) + 1 :]] = _mark(entry.stat(follow_symlinks=False))
    return found


def _mark(found: os.stat_result) -> list[int]:
    """Values that change with the content: every write sets the ctime, which nothing sets back."""
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
