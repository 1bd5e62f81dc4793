"""One conversation with a client: what it may ask for, and what it is told."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import build, disk, health, jobs, manifest, package_check, probe, service, trust, watchdog
from .store import Store
from .transport import ClientGone, Refused, Transport, from_os

READ = 1 << 20
BEAT_S = 5.0
PATIENCE_S = 120
GUARD_S = 3.0
"""Within this time systemd starts a watchdog again that was killed."""


def default_root() -> Path:
    """Where edgevid lives on this device, for who asks."""
    if os.geteuid() == 0:
        return Path("/opt/edgevid")
    return service.usual_of_user()


class AgentSession:
    """Answers requests until the client is gone; the lock goes with it."""

    def __init__(self, transport: Transport, root: Path | None = None) -> None:
        self._transport = transport
        self._is_ours = False
        self._store: Store | None = Store(root) if root else None
        self._verbs: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "probe": self._probe,
            "check": self._check,
            "session": self._session,
            "missing": self._missing,
            "read": self._read,
            "blob": self._blob,
            "stage": self._stage,
            "activate": self._activate,
            "watch": self._watch,
            "rollback": self._rollback,
            "status": self._status,
            "history": self._history,
            "uninstall": self._uninstall,
            "job": self._job,
            "job-state": lambda request: jobs.state(self.store, request),
            "job-read": lambda request: jobs.read(self.store, request),
            "job-end": lambda request: jobs.end(self.store, request),
            "tuned": lambda request: jobs.keep_tuned(self.store, request),
        }

    def run(self) -> None:
        """Serve the whole session."""
        try:
            while True:
                try:
                    request = self._transport.request()
                    if request is None:
                        return
                    self._transport.say(dict(self._answer(request), ok=True))
                except Refused as fault:
                    self._transport.say({"error": fault.to_json()})
                except OSError as error:
                    self._transport.say({"error": from_os(error).to_json()})
        except ClientGone:
            return

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        verb = self._verbs.get(request["do"])
        if verb is None:
            raise Refused(
                "protocol", "{!r} cannot be asked for".format(request["do"]), "use the same edgevid"
            )
        if self._store is None:
            self._store = Store(Path(request.get("root") or default_root()))
        return verb(request)

    @property
    def store(self) -> Store:
        """The device's folder."""
        assert self._store is not None
        return self._store

    def say(self, text: str) -> None:
        """Tell the client what is being done."""
        self._transport.say({"at": text})

    # ---------------------------------------------------------------- reading

    def _probe(self, request: dict[str, Any]) -> dict[str, Any]:
        asked = (request.get(name) or () for name in ("modules", "libraries"))
        found = probe.facts(self.store.root, *asked)
        return dict(found, installed=self._installed())

    def _installed(self) -> dict[str, Any]:
        key = trust.pinned(self.store.signers)
        now = self.store.manifest(self.store.current())
        journal = self.store.journal()
        return {
            "current": self.store.current(),
            "previous": journal.get("previous"),
            "manifest": now.text.decode() if now else None,
            "journal": journal,
            "key": key,
            "fingerprint": trust.fingerprint(key) if key else None,
        }

    def _check(self, request: dict[str, Any]) -> dict[str, Any]:
        checked = package_check.package(self.store, request)
        need = package_check.room(self.store, checked.manifest)
        return {
            "release": checked.manifest.id,
            "missing": self._lacking(checked.manifest.blobs()),
            "need_bytes": need,
            "first": self.store.current() is None,
            "notes": checked.notes,
        }

    def _lacking(self, blobs: dict[str, int]) -> dict[str, int]:
        have = {sha256: self.store.have(sha256, size) for sha256, size in blobs.items()}
        return {s: n for s, n in have.items() if n < blobs[s] or not self.store.verified(s)}

    def _read(self, request: dict[str, Any]) -> dict[str, Any]:
        sha256 = manifest.sha256(request.get("sha256"))
        offset = manifest.size(request.get("offset", 0))
        now = self.store.manifest(self.store.current())
        if now is None or sha256 not in now.blobs():
            raise Refused("missing", f"{sha256[:16]} does not serve here", "flash it again")
        with (self.store.blobs / sha256).open("rb") as file:
            file.seek(offset)
            return {"content": base64.b64encode(file.read(READ)).decode()}

    # ---------------------------------------------------------------- writing

    def _session(self, request: dict[str, Any]) -> dict[str, Any]:
        self.store.make()
        self._ours()
        if not request.get("trial"):
            service.linger(self.store)
        return {"root": str(self.store.root), "release": self.store.current()}

    def _ours(self) -> None:
        """Nobody else changes anything now; what was broken off is put in order first."""
        if self._is_ours:
            return
        if not self.store.root.is_dir():
            raise Refused("missing", f"{self.store.root} is not there", "flash a bundle first")
        if not self.store.lock.take():
            raise Refused("busy", "somebody else flashes this device", "wait, then try again")
        self._is_ours = True
        self._transport.patience_s = PATIENCE_S
        if not self._is_judging():
            self.store.tidy()
            watchdog.recover(self.store)

    def _is_judging(self) -> bool:
        return not self.store.watchdog.is_free()

    def _calm(self) -> None:
        """Wait while a watchdog judges: what it may go back to must stay."""
        self._ours()
        told_at = -BEAT_S
        while self._is_judging():
            if time.monotonic() - told_at > BEAT_S:
                told_at = time.monotonic()
                self.say("waiting until the release before is judged")
            time.sleep(0.1)
        watchdog.recover(self.store)

    def _missing(self, request: dict[str, Any]) -> dict[str, Any]:
        blobs = request.get("blobs")
        if not isinstance(blobs, dict):
            raise Refused("protocol", "blobs is no table", "use the same edgevid")
        sizes = {manifest.sha256(name): manifest.size(size) for name, size in blobs.items()}
        beside = manifest.asked(request, "beside")
        if beside and self._is_ours:
            self.store.borrow(Store(Path(beside)), sizes)
        return {"missing": self._lacking(sizes)}

    def _blob(self, request: dict[str, Any]) -> dict[str, Any]:
        self._ours()
        sha256 = manifest.sha256(request.get("sha256"))
        size, offset = manifest.size(request.get("size")), manifest.size(request.get("offset", 0))
        return {"have": self.store.receive(sha256, size, offset, self._transport.payload())}

    def _stage(self, request: dict[str, Any]) -> dict[str, Any]:
        self._calm()
        checked = package_check.package(self.store, request)
        one = checked.manifest
        package_check.room(self.store, one)
        lacking = self._lacking(one.blobs())
        if lacking:
            for sha256 in lacking:
                self.store.drop_damaged(sha256)
            raise Refused(
                "missing", f"{len(lacking)} files of the package are not there", "send them"
            )
        build.runner(self.store, one, self.say, compiled=not request.get("trial"))
        build.release(self.store, one, checked.signature, self.say)
        if trust.pinned(self.store.signers) != checked.key:
            disk.write_whole(self.store.signers, trust.signers(checked.key))
            self.store.note("pinned", key=trust.fingerprint(checked.key))
        now = self.store.current()
        if one.id != now:
            self.store.write_journal("staged", new=one.id, old=now)
        return {"release": one.id, "already": one.id == now, "notes": checked.notes}

    def _activate(self, request: dict[str, Any]) -> dict[str, Any]:
        self._calm()
        journal = self.store.journal()
        staged = journal["new"] if journal["state"] == "staged" else None
        release = manifest.asked(request, "id") or staged
        if release is None:
            raise Refused("use", "nothing is staged on this device", "flash a bundle first")
        return self._go(release, request, "activate")

    def _rollback(self, request: dict[str, Any]) -> dict[str, Any]:
        self._calm()
        previous = self.store.journal().get("previous")
        if previous is None:
            raise Refused("use", "there is no release to go back to", "flash one")
        return self._go(previous, request, "rollback")

    def _go(self, release: str, request: dict[str, Any], what: str) -> dict[str, Any]:
        one = self.store.manifest(release) if manifest.is_id(release) else None
        if one is None or not self.store.is_whole(one):
            raise Refused("use", f"the release {release} is not on this device", "flash it again")
        if not service.paused(self.store).is_free():
            raise Refused(
                "busy", "a bench has paused the service", "wait until it has ended, then try again"
            )
        keeper = service.of(self.store)
        keeper.fits(one)
        if release == self.store.current() == keeper.serving() and keeper.is_installed(one):
            journal = self.store.journal()
            if journal["state"] == "staged":  # and another one is wanted no more
                self.store.write_journal("idle", new=release, old=release)
            return {"release": release, "started": False, "activation": None}
        options = health.HealthOptions.read(request.get("health"))
        token = watchdog.start(self.store, release, options, what)
        return {"release": release, "started": True, "activation": token}

    def _watch(self, request: dict[str, Any]) -> dict[str, Any]:
        token = manifest.asked(request, "activation") or self.store.journal().get("activation")
        told, told_at = None, time.monotonic()
        while True:
            judging = self._is_judging()
            journal = self.store.journal()
            if journal.get("activation") != token or journal["state"] != "activating":
                break
            if not judging:
                time.sleep(GUARD_S)  # it may be started again
                if not self._is_judging() and self.store.lock.take():
                    watchdog.recover(self.store)
                continue
            said = watchdog.progress(self.store, str(token))
            if said != told or time.monotonic() - told_at > BEAT_S:
                told, told_at = said, time.monotonic()
                self.say(said or "judging")
            time.sleep(0.2)
        while self._is_judging():  # it still lets go of things
            time.sleep(0.05)
        if self._is_ours and not self._staged():
            self.store.collect()
        return self._outcome(journal, token)

    def _staged(self) -> bool:
        return bool(self.store.journal()["state"] == "staged")

    def _outcome(self, journal: dict[str, Any], token: str | None) -> dict[str, Any]:
        if token is not None and journal.get("activation") != token:
            raise Refused("use", "this activation is over, and another came", "see the history")
        return {
            "state": journal["state"],
            "release": self.store.current(),
            "healthy": journal["state"] == "idle" and journal.get("reason") is None,
            "reason": journal.get("reason"),
            "health": journal.get("health") or {},
        }

    # ---------------------------------------------------------------- jobs

    def _job(self, request: dict[str, Any]) -> dict[str, Any]:
        self._calm()
        return jobs.start(self.store, request, self.say)

    # ---------------------------------------------------------------- telling, and leaving

    def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        keeper = service.of(self.store)
        state = keeper.state()
        return {
            "installed": self._installed(),
            "service": dict(state._asdict(), release=keeper.serving(), folder=str(keeper.folder)),
            "status": keeper.status() if state.pid else None,
        }

    def _history(self, request: dict[str, Any]) -> dict[str, Any]:
        last = request.get("last")
        history = self.store.history()
        return {"history": history[-last:] if isinstance(last, int) and last > 0 else history}

    def _uninstall(self, request: dict[str, Any]) -> dict[str, Any]:
        if not self.store.root.is_dir():
            return {"removed": service.of(self.store).remove()}
        self.store.fits()
        self._calm()
        if request.get("trial") and jobs.runs(self.store):
            raise Refused("occupied", *jobs.BUSY)
        jobs.end_all(self.store)
        gone = service.of(self.store).remove()
        self.store.point(None)
        self.store.erase()
        self._is_ours = False
        return {"removed": [*gone, str(self.store.root)]}
