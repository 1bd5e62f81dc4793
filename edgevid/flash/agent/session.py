"""One conversation with a client: what it may ask for, and what it is told."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import build, check, disk, probe, trust
from .store import Store
from .wire import Gone, Refused, Wire, from_os

READ = 1 << 20


def default_root() -> Path:
    """Where edgevid lives on this device, for who asks."""
    if os.geteuid() == 0:
        return Path("/opt/edgevid")
    return Path(os.environ.get("HOME") or "/nonexistent") / ".local" / "share" / "edgevid"


class Session:
    """Answers requests until the client is gone; the lock goes with it."""

    def __init__(self, wire: Wire, root: Path | None = None) -> None:
        self._wire = wire
        self._place: Store | None = Store(root) if root else None
        self._verbs: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "probe": self._probe,
            "check": self._check,
            "session": self._session,
            "missing": self._missing,
            "read": self._read,
            "blob": self._blob,
            "stage": self._stage,
        }

    def run(self) -> None:
        """Serve the whole session."""
        try:
            while True:
                try:
                    request = self._wire.request()
                    if request is None:
                        return
                    self._wire.say(dict(self._answer(request), ok=True))
                except Refused as fault:
                    self._wire.say({"error": fault.to_json()})
                except OSError as error:
                    self._wire.say({"error": from_os(error).to_json()})
        except Gone:
            return

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        verb = self._verbs.get(request["do"])
        if verb is None:
            raise Refused(
                "protocol", "{!r} cannot be asked for".format(request["do"]), "use the same edgevid"
            )
        if self._place is None:
            self._place = Store(Path(request.get("root") or default_root()))
        return verb(request)

    @property
    def place(self) -> Store:
        """The device's folder."""
        assert self._place is not None
        return self._place

    def say(self, text: str) -> None:
        """Tell the client what is being done."""
        self._wire.say({"at": text})

    # ---------------------------------------------------------------- reading

    def _probe(self, request: dict[str, Any]) -> dict[str, Any]:
        key = trust.pinned(self.place.signers)
        now = self.place.manifest(self.place.current())
        installed = {
            "current": self.place.current(),
            "manifest": now.text.decode() if now else None,
            "journal": self.place.journal(),
            "key": key,
            "fingerprint": trust.fingerprint(key) if key else None,
        }
        found = probe.facts(self.place.root, request.get("modules") or ())
        return dict(found, installed=installed)

    def _check(self, request: dict[str, Any]) -> dict[str, Any]:
        checked = check.package(self.place, request)
        need = check.room(self.place, checked.manifest)
        return {
            "release": checked.manifest.id,
            "missing": self._lacking(checked.manifest.blobs()),
            "need_bytes": need,
            "first": self.place.current() is None,
            "notes": checked.notes,
        }

    def _lacking(self, blobs: dict[str, int]) -> dict[str, int]:
        have = {sha256: self.place.have(sha256, size) for sha256, size in blobs.items()}
        return {s: n for s, n in have.items() if n < blobs[s] or not self.place.verified(s)}

    def _read(self, request: dict[str, Any]) -> dict[str, Any]:
        sha256, offset = request["sha256"], request.get("offset", 0)
        now = self.place.manifest(self.place.current())
        if now is None or sha256 not in now.blobs():
            raise Refused("missing", f"{sha256[:16]} does not serve here", "flash it again")
        with (self.place.blobs / sha256).open("rb") as file:
            file.seek(offset)
            return {"content": base64.b64encode(file.read(READ)).decode()}

    # ---------------------------------------------------------------- writing

    def _session(self, request: dict[str, Any]) -> dict[str, Any]:
        self.place.make()
        if not self.place.lock.take():
            raise Refused("busy", "somebody else flashes this device", "wait, then try again")
        self.place.tidy()
        return {"root": str(self.place.root), "release": self.place.current()}

    def _ours(self) -> None:
        if not self.place.lock.take():
            raise Refused("busy", "somebody else flashes this device", "wait, then try again")

    def _missing(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"missing": self._lacking(request["blobs"])}

    def _blob(self, request: dict[str, Any]) -> dict[str, Any]:
        self._ours()
        sha256, size, offset = request["sha256"], request["size"], request.get("offset", 0)
        return {"have": self.place.receive(sha256, size, offset, self._wire.payload())}

    def _stage(self, request: dict[str, Any]) -> dict[str, Any]:
        self._ours()
        checked = check.package(self.place, request)
        one = checked.manifest
        lacking = self._lacking(one.blobs())
        if lacking:
            for sha256 in lacking:
                self.place.drop_damaged(sha256)
            raise Refused(
                "missing", f"{len(lacking)} files of the package are not there", "send them"
            )
        check.room(self.place, one)
        build.runner(self.place, one, self.say)
        build.release(self.place, one, checked.signature, self.say)
        if trust.pinned(self.place.signers) != checked.key:
            disk.write_whole(self.place.signers, trust.signers(checked.key))
        return {"release": one.id, "already": one.id == self.place.current()}
