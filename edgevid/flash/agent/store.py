"""The folder of edgevid on the device: blobs, runners, releases, and the journal.

.edgevid                       marks the folder as edgevid's; it was empty before
lock, guard.lock               see `disk.FileLock`
blobs/<sha256>                 whole and verified;  <sha256>.part: received so far
runners/<id>/lib/              unpacked wheels; whole where runners/<id>/.complete is
releases/<id>/                 manifest.json, manifest.sig (the signed statement, and its
                               signature), site.toml, agent.py, bundles/
current -> releases/<id>       decides what serves, and nothing else does
journal.json, history.jsonl    the state of the deployment, and the past
trusted/allowed_signers        the pinned key
trusted/record.json            see `record`
trusted/<runner>.files         the hash of each file of a runner; see `integrity`
state/                         what the service and its supervisor write
tuned/                         the engines that ``bench --tune`` chose; the service only reads it
jobs/                          see `jobs`
credentials/                   secrets that releases name; see `credentials`
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import disk, manifest, untrusted
from .manifest import Blob, Manifest
from .transport import Refused

HISTORY = 200
LONGEST = 80
"""The longest path of the folder: a socket's path has at most 107 bytes."""
KNOWN = {
    "lock", "guard.lock", "blobs", "runners", "releases", "current", "journal.json",
    "history.jsonl", "trusted", "state", "jobs", "tuned", "credentials",
}  # fmt: skip

MARK = ".edgevid"
_MARK_TEXT = b"This folder is edgevid's; edgevid flash --uninstall removes what is in it.\n"


class Store:
    """One such folder; `make` creates it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs, self.runners = root / "blobs", root / "runners"
        self.releases, self.state = root / "releases", root / "state"
        self.jobs, self.tuned = root / "jobs", root / "tuned"
        self.credentials = root / "credentials"
        self.signers = root / "trusted" / "allowed_signers"
        self.record = root / "trusted" / "record.json"
        self.lock, self.watchdog = (
            disk.FileLock(root / "lock"),
            disk.FileLock(root / "guard.lock"),
        )
        self._verified: set[tuple[str, int, int, int]] = set()

    # ---------------------------------------------------------------- the folder

    def guard(self) -> None:
        """Check that only this user and root can change or replace the folder.

        Raises:
            Refused: Somebody else can.
        """
        why = untrusted.unsafe_reason(self.root)
        if why is not None:
            raise Refused(
                "root",
                f"{self.root} is not safe from other users: {why}",
                "correct its owner or mode, or give another --root, such as "
                + ("/opt/edgevid" if os.geteuid() == 0 else "one in your home"),
            )

    def fits(self) -> None:
        """Check that the folder can be edgevid's.

        Raises:
            Refused: It cannot, or it is in use for something else.
        """
        if not self.root.is_absolute() or len(str(self.root)) > LONGEST:
            raise Refused(
                "root",
                f"{self.root} cannot be edgevid's folder",
                f"give an absolute path of at most {LONGEST} characters",
            )
        if any(sign in str(self.root) for sign in " \t\n%\"'\\$"):
            raise Refused(
                "root",
                f"{self.root} has characters that unit files cannot hold",
                "give another --root",
            )
        if self.root.exists() and not self.root.is_dir():
            raise Refused("root", f"{self.root} is not a folder", "give another --root")
        self.guard()
        if self.root.is_dir() and not self.is_marked():
            names = set(os.listdir(str(self.root))) - {"lost+found", disk.aside(self._mark).name}
            if names:
                raise Refused(
                    "root",
                    f"{self.root} has other files ({sorted(names)[0]})",
                    "give an empty folder as --root; if an older edgevid made it, on the device: "
                    f"touch {self._mark}",
                )

    @property
    def _mark(self) -> Path:
        return self.root / MARK

    def is_marked(self) -> bool:
        """Whether edgevid made this folder; older versions left no mark."""
        if self._mark.is_file() and not self._mark.is_symlink():
            return True
        older = (self.root / "journal.json", self.signers, self.root / "current" / "manifest.json")
        return all(path.is_file() for path in older)

    def make(self) -> None:
        """Create the folders that do not exist."""
        self.fits()
        if not self.root.exists():
            above = disk.existing(self.root)
            self.root.mkdir(parents=True, mode=0o755)
            made = self.root
            while made != above:
                made = made.parent
                disk.sync_folder(made)
        if not self._mark.is_file():
            disk.write_whole(self._mark, _MARK_TEXT)
        for folder in (self.blobs, self.runners, self.releases, self.signers.parent, self.state):
            if not folder.is_dir():
                folder.mkdir(mode=0o755)
        disk.sync_folder(self.root)

    def tidy(self) -> None:
        """Remove unfinished files of a process that was killed; the caller holds the lock."""
        for folder in (
            self.root, self.runners, self.releases, self.signers.parent, self.blobs, self.tuned,
        ):  # fmt: skip
            for path in folder.glob(".*.part"):
                disk.remove(path)
            for path in folder.glob(".*.old"):
                disk.remove(path)

    # ---------------------------------------------------------------- the journal

    def journal(self) -> dict[str, Any]:
        """The journal; `deployment` documents its states.

        Raises:
            Refused: It is damaged.
        """
        try:
            journal = json.loads((self.root / "journal.json").read_text())
        except FileNotFoundError:
            journal = None
        except (ValueError, RecursionError):
            raise Refused(
                "damaged", "journal.json is damaged", "check the disk, then uninstall and flash"
            ) from None
        return journal or {"state": "idle", "new": self.current(), "old": None, "previous": None}

    def write_journal(self, state: str, **fields: Any) -> dict[str, Any]:
        """Replace the journal; missing fields are kept, but for reason, health and activation."""
        journal = dict(self.journal(), reason=None, health=None, activation=None)
        journal.update(fields, state=state, since_unix_s=round(time.time(), 3))
        disk.write_whole(self.root / "journal.json", _json(journal))
        return journal

    def history(self) -> list[dict[str, Any]]:
        """The history, oldest first."""
        try:
            lines = (self.root / "history.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]

    def note(self, what: str, **fields: Any) -> None:
        """Add a line to the history."""
        entry = dict(fields, what=what, unix_s=round(time.time(), 3))
        lines = [*self.history(), entry][-HISTORY:]
        text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines)
        disk.write_whole(self.root / "history.jsonl", text.encode())

    # ---------------------------------------------------------------- releases

    def current(self) -> str | None:
        """The release that serves."""
        target = disk.read_link(self.root / "current")
        return Path(target).name if target else None

    def point(self, release: str | None) -> None:
        """Let ``release`` serve from the next start; None: nothing serves."""
        link = self.root / "current"
        if release is not None:
            disk.link_whole(link, f"releases/{release}")
        elif link.is_symlink():
            link.unlink()
            disk.sync_folder(self.root)

    def release(self, name: str) -> Path:
        """The folder of a release."""
        return self.releases / name

    def manifest(self, name: str | None) -> Manifest | None:
        """The manifest of a release; None if it does not exist or was changed."""
        if name is None:
            return None
        try:
            found = manifest.read((self.release(name) / "manifest.json").read_bytes())
        except (FileNotFoundError, Refused):
            return None
        except OSError as error:
            if error.errno not in disk.UNREADABLE:
                raise
            return None
        return found if found.id == name else None

    def signed(self, name: str | None) -> dict[str, Any]:
        """The signed statement about a release, and its signature; empty if unreadable."""
        if name is None:
            return {}
        try:
            signed = json.loads((self.release(name) / "manifest.sig").read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        return signed if isinstance(signed, dict) else {}

    def is_whole(self, one: Manifest) -> bool:
        """Whether every file of a release exists and has the right size."""
        folder = self.release(one.id)
        try:
            same = (folder / "manifest.json").read_bytes() == one.text
            sizes = all((folder / f.name).stat().st_size == f.size for f in one.files())
        except OSError:
            return False
        return same and sizes and self.has_runner(one.runner)

    # ---------------------------------------------------------------- blobs

    def verified(self, sha256: str) -> bool:
        """Whether a blob exists and has the right hash; each version of a file is read once."""
        path = self.blobs / sha256
        try:
            stat = path.stat()
        except FileNotFoundError:
            return False
        mark = (sha256, stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if mark not in self._verified:
            if disk.sha256_of(path) != sha256:
                return False
            self._verified.add(mark)
        return True

    def have(self, sha256: str, size: int) -> int:
        """The number of bytes of a blob received so far."""
        if self.verified(sha256):
            return size
        try:
            return min((self.blobs / (sha256 + ".part")).stat().st_size, size)
        except FileNotFoundError:
            return 0

    def borrow(self, other: Store, sizes: dict[str, int]) -> None:
        """Link the blobs that another such folder has, if it is on the same disk."""
        for sha256 in sizes:
            if not self.verified(sha256) and other.verified(sha256):
                with suppress(OSError):
                    disk.hard_link(other.blobs / sha256, self.blobs / sha256)

    def receive(self, sha256: str, size: int, offset: int, chunks: Iterable[bytes]) -> int:
        """Append chunks to a blob at ``offset``; returns the number of bytes received so far.

        Raises:
            Refused: The whole blob does not have the right hash, and is discarded.
        """
        part = self.blobs / (sha256 + ".part")
        if self.verified(sha256):
            return size
        there = self.have(sha256, size)
        if offset > there:
            raise Refused(
                "offset", f"only {there} bytes of {sha256} were received", "request what is missing"
            )
        with part.open("r+b" if part.exists() else "w+b") as file:
            file.truncate(offset)
            file.seek(offset)
            for chunk in chunks:
                file.write(chunk)
                offset += len(chunk)
                if offset > size:
                    break
            file.flush()
            if offset >= size:
                os.fsync(file.fileno())
        if offset < size:
            return offset
        if offset > size or disk.sha256_of(part) != sha256:
            part.unlink()
            raise Refused("hash", f"{sha256[:16]} arrived damaged", "send it again")
        os.replace(str(part), str(self.blobs / sha256))
        disk.sync_folder(self.blobs)
        return size

    def drop_damaged(self, sha256: str) -> None:
        """Let go of a blob that is not what its name says, so that it is sent again."""
        if not self.verified(sha256):
            disk.remove(self.blobs / sha256)

    # ---------------------------------------------------------------- runners

    def lib(self, runner: str) -> Path:
        """The folder from which a runner's modules are imported."""
        return self.runners / runner / "lib"

    def runner_files(self, runner: str) -> Path:
        """The list of a runner's files; see `integrity`."""
        return self.signers.with_name(f"{runner}.files")

    def has_runner(self, runner: str) -> bool:
        """Whether a runner is there, with as many files and bytes as were unpacked."""
        try:
            noted = json.loads((self.runners / runner / ".complete").read_text())
        except (OSError, ValueError, RecursionError):
            return False
        return bool(noted == _extent(self.lib(runner)))

    # ---------------------------------------------------------------- what is not needed any more

    def collect(self) -> list[str]:
        """Remove releases, runners and blobs that nothing needs; the lock must be ours."""
        journal = self.journal()
        staged = [journal["new"]] if journal["state"] == "staged" else []
        kept = {self.current(), journal.get("previous"), *staged} - {None}
        gone = []
        for folder in sorted(self.releases.glob("[!.]*")):
            if folder.name not in kept:
                self._discard(folder)
                gone.append(folder.name)
        manifests = [one for one in map(self.manifest, kept) if one is not None]
        runners = {one.runner for one in manifests}
        blobs = {sha256 for one in manifests for sha256 in one.blobs()}
        for folder in sorted(self.runners.glob("[!.]*")):
            if folder.name not in runners:
                self._discard(folder)
                disk.remove(self.runner_files(folder.name))
        for path in self.blobs.glob("[!.]*"):
            if path.name.partition(".")[0] not in blobs:
                disk.remove(path)
        return gone

    def erase(self) -> list[str]:
        """Remove everything that edgevid made, lock and mark last, and the folder if it is empty.

        Returns:
            The paths of other files in it, which are kept.
        """
        if not self._mark.exists():  # an older edgevid's: what is interrupted here can go on
            with suppress(OSError):  # a full disk
                disk.write_whole(self._mark, _MARK_TEXT)
        parts = [disk.aside(self.root / name).name for name in sorted({*KNOWN, MARK})]
        last = ["trusted", "history.jsonl", "journal.json", "guard.lock", "lock", MARK]
        for name in [*parts, *sorted(KNOWN - set(last)), *last]:
            disk.remove(self.root / name)
        self.lock.release()
        self._verified.clear()
        left = sorted(set(os.listdir(str(self.root))) - {"lost+found"})
        if not left:
            with suppress(OSError):  # the root of a file system
                self.root.rmdir()
                disk.sync_folder(self.root.parent)
        return [str(self.root / name) for name in left]

    @staticmethod
    def _discard(folder: Path) -> None:
        """Remove a folder; it is renamed first, so that it never looks complete."""
        old = folder.with_name(f".{folder.name}.old")
        disk.remove(old)
        folder.rename(old)
        disk.remove(old)


def extent(lib: Path) -> dict[str, int]:
    """The number of files below a folder, and of their bytes."""
    return _extent(lib)


def _extent(lib: Path) -> dict[str, int]:
    sizes = [os.lstat(os.path.join(where, name)).st_size for where, name in _files(lib)]
    return {"files": len(sizes), "bytes": sum(sizes)}


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for where, _, files in os.walk(str(folder)):
        for name in files:
            yield where, name


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"


def sha256(content: bytes) -> str:
    """The hash of bytes."""
    return hashlib.sha256(content).hexdigest()


def blob_of(path: Path, blob: Blob) -> bool:
    """Whether ``path`` is ``blob``."""
    return path.is_file() and disk.sha256_of(path) == blob.sha256
