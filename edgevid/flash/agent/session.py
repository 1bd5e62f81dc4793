"""One session with a client: answers its requests; `edgevid.flash.agent` lists them."""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import (
    build,
    credentials,
    deployment,
    disk,
    fields,
    health,
    integrity,
    jobs,
    locked,
    package_check,
    probe,
    record,
    service,
    service_systemd,
    services,
    statement,
    trust,
    watchdog,
)
from .job_protocol import TRIAL
from .manifest import is_id
from .record import TrustRecord
from .store import Store
from .transport import SAME_EDGEVID, ClientGone, Refused, Transport, from_os, inner

READ = 1 << 20
BEAT_S = 5.0
SILENCE_S = 120
RESTART_S = 3.0
"""Within this time systemd restarts a watchdog that was killed."""


def default_root() -> Path:
    """The folder of edgevid on this device, for the user who asks."""
    if os.geteuid() == 0:
        return service.SYSTEM_FOLDER
    return service.usual_of_user()


_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


class AgentSession:
    """Answers requests until the client has gone; then the lock is free again."""

    def __init__(
        self, transport: Transport, root: Path | None = None, *, is_locked: bool = False
    ) -> None:
        self._transport = transport
        self._is_ours = self._is_guarded = False
        self._is_named = root is not None
        self._store: Store | None = Store(root) if root and not is_locked else None
        self._home = Store(root or default_root()) if is_locked else None
        """Of a locked agent: the folder whose key signs every request."""
        self._is_open = not is_locked
        """Whether the client has shown that it has the key."""
        self._nonce, self._signed = os.urandom(16).hex(), 0
        self._new_device = os.urandom(16).hex()
        self._verbs: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "probe": self._probe,
            "check": self._check,
            "session": self._session,
            "missing": self._missing,
            "read": self._read,
            "blob": self._blob,
            "credential": self._credential,
            "stage": self._stage,
            "activate": self._activate,
            "watch": self._watch,
            "rollback": self._rollback,
            "status": self._status,
            "history": self._history,
            "revoke": self._revoke,
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
                    self._transport.send(dict(self._answer(request), ok=True))
                except Refused as fault:
                    self._transport.send({"error": fault.to_json()})
                except OSError as error:
                    self._transport.send({"error": from_os(error).to_json()})
        except ClientGone:
            return

    def greeting(self) -> dict[str, Any]:
        """What a client needs to know of a locked agent before its first request."""
        assert self._home is not None
        known = record.read(self._home.record)
        device = known.device if known else ""
        return {"protocol": locked.PROTOCOL, "device": device, "nonce": self._nonce}

    def _answer(self, outer: dict[str, Any]) -> dict[str, Any]:
        request = inner(outer)
        verb = self._verbs.get(request["do"])
        if verb is None:
            raise Refused(
                "protocol", "the request {!r} is unknown".format(request["do"]), SAME_EDGEVID
            )
        self._choose_store(fields.text(request, "root"))
        if not self._is_guarded:
            self.store.guard()
            self._is_guarded = True
        if outer is not request:
            self._check_signed(outer)
            self._is_open = self._is_open or request["do"] == "session"
        elif request["do"] in locked.SIGNED or (
            self._home is not None
            and request["do"] not in locked.UNSIGNED
            and not (request["do"] == "blob" and self._is_open)
        ):
            raise Refused(
                "locked",
                "the request {!r} is not signed with the key that this device trusts".format(
                    request["do"]
                ),
                "use edgevid on a machine that has that key",
            )
        return verb(request)

    def _choose_store(self, root: str | None) -> None:
        """Choose the folder by the first request; a locked agent's is fixed."""
        if self._store is not None:
            return
        if self._home is None:
            self._is_named = bool(root)
            self._store = Store(Path(root) if root else default_root())
            return
        own = str(self._home.root)
        if root not in (None, own, own + TRIAL):
            raise Refused("locked", f"this login is only for {own}", "leave --root out")
        self._store = Store(Path(root or own))

    def _check_signed(self, outer: dict[str, Any]) -> None:
        """Check a signed request, which is valid once, and only in this session.

        Raises:
            Refused: It is not signed by the trusted key, or not for this device and session.
        """
        nonce = f"{self._nonce}-{self._signed}"
        self._signed += 1
        home = self._home or self.store
        known, pinned = record.known(home.record, home.signers), trust.pinned(home.signers)
        if known is None or pinned is None:
            raise Refused("key", "the device trusts no key yet", "flash it first")
        key = trust.trusted_key(pinned, outer, known.device)
        text = str(outer["request"]).encode()
        said = trust.checked(statement.REQUEST, text, outer, key, known.device)
        if said.device == statement.ANY or said.nonce != nonce:
            raise Refused("replay", "the request was signed for another session", "try again")
        if trust.fingerprint(key) in known.revoked:
            raise Refused("revoked", "the key was revoked on this device", "use another one")

    @property
    def store(self) -> Store:
        """The device's folder."""
        assert self._store is not None
        return self._store

    def report(self, text: str) -> None:
        """Send the client a line of progress."""
        self._transport.send({"at": text})

    # ---------------------------------------------------------------- reading

    def _probe(self, request: dict[str, Any]) -> dict[str, Any]:
        wanted = (fields.plain_names(request, name) for name in ("modules", "libraries"))
        found = probe.facts(self.store.root, *wanted)
        second = self._second()
        return dict(
            found,
            installed=dict(self._installed(), changed=self._changed()),
            second=second.to_json() if second else None,
            nonce=self._nonce,
        )

    def _changed(self) -> str | None:
        """What is wrong with the release that serves; None if nothing is, or nothing serves."""
        release = self.store.current()
        return integrity.current_fault(self.store, release, quick=True) if release else None

    @property
    def _device(self) -> str:
        """This device's id; before the first installation, the one that it will have."""
        known = record.read(self.store.record)
        return known.device if known else self._new_device

    def _installed(self) -> dict[str, Any]:
        key, known = trust.pinned(self.store.signers), record.read(self.store.record)
        signed = self.store.signed(self.store.current())
        current = self.store.manifest(self.store.current())
        journal = self.store.journal()
        return {
            "current": self.store.current(),
            "previous": journal.get("previous"),
            "manifest": current.text.decode() if current else None,
            "statement": signed.get("statement"),
            "signature": signed.get("signature"),
            "journal": journal,
            "key": key,
            "fingerprint": trust.fingerprint(key) if key else None,
            "device": self._device,
            "floor": known.floor if known else None,
            "revoked": list(known.revoked) if known else [],
        }

    def _second(self) -> Refused | None:
        """Why this would be a second installation; None if not, or if its folder was given."""
        others = [] if self._is_named else service.elsewhere(self.store.root)
        if not others:
            return None
        own, other = self.store.root, others[0]
        if os.path.lexists(str(own / "current")):
            what = f"edgevid is installed twice, in {other} and in {own}"
            fix = f"remove one, with --uninstall --root {own}"
        elif other == service.SYSTEM_FOLDER:
            what = f"edgevid is installed in {other}, and sudo asks this user for a password"
            fix = f"allow sudo without password, or log in as root; or add a second: --root {own}"
        else:
            what = f"edgevid is installed for one user, in {other}"
            fix = f"remove it, with --uninstall --root {other}; or add a second: --root {own}"
        return Refused("root", what, fix)

    def _alone(self) -> None:
        """Refuse to make or change a second installation unless its folder was given."""
        second = self._second()
        if second is not None:
            raise second

    def _check(self, request: dict[str, Any]) -> dict[str, Any]:
        self._alone()
        checked = package_check.package(self.store, request, self._device)
        need = package_check.room(self.store, checked.manifest)
        return {
            "release": checked.manifest.id,
            "missing": self._missing_blobs(checked.manifest.blobs()),
            "need_bytes": need,
            "first": self.store.current() is None,
            "notes": checked.notes,
        }

    def _missing_blobs(self, blobs: dict[str, int]) -> dict[str, int]:
        have = {sha256: self.store.have(sha256, size) for sha256, size in blobs.items()}
        return {s: n for s, n in have.items() if n < blobs[s] or not self.store.verified(s)}

    def _read(self, request: dict[str, Any]) -> dict[str, Any]:
        sha256 = fields.sha256(request.get("sha256"))
        offset = fields.size(request.get("offset", 0))
        current = self.store.manifest(self.store.current())
        if current is None or sha256 not in current.blobs():
            raise Refused(
                "missing", f"{sha256[:16]} is not part of the active release", "flash it again"
            )
        with (self.store.blobs / sha256).open("rb") as file:
            file.seek(offset)
            return {"content": base64.b64encode(file.read(READ)).decode()}

    # ---------------------------------------------------------------- writing

    def _session(self, request: dict[str, Any]) -> dict[str, Any]:
        self._alone()
        self.store.make()
        self._take()
        if record.known(self.store.record, self.store.signers) is None:
            TrustRecord(self._device).write(self.store.record)
        if not request.get("trial"):
            service_systemd.linger(self.store)
        return {"root": str(self.store.root), "release": self.store.current()}

    def _take(self) -> None:
        """Take the lock, so that nobody else changes anything; first undo what was interrupted."""
        if self._is_ours:
            return
        if not self.store.root.is_dir():
            raise Refused("missing", f"{self.store.root} does not exist", "flash a bundle first")
        if not self.store.lock.take():
            raise Refused("busy", "someone else is flashing this device", "wait, then try again")
        self._is_ours = True
        self._transport.silence_s = SILENCE_S
        if not self._is_judging():
            self.store.tidy()
            watchdog.recover(self.store)

    def _is_judging(self) -> bool:
        return not self.store.watchdog.is_free()

    def _take_calm(self) -> None:
        """Take the lock, and wait while a watchdog judges: what it may restore must stay."""
        self._take()
        reported_at = -BEAT_S
        while self._is_judging():
            if time.monotonic() - reported_at > BEAT_S:
                reported_at = time.monotonic()
                self.report("waiting for the health check of the previous release")
            time.sleep(0.1)
        watchdog.recover(self.store)

    def _missing(self, request: dict[str, Any]) -> dict[str, Any]:
        blobs = request.get("blobs")
        if not isinstance(blobs, dict):
            raise Refused("protocol", "blobs is not a table", SAME_EDGEVID)
        sizes = {fields.sha256(name): fields.size(size) for name, size in blobs.items()}
        beside = fields.text(request, "beside")
        if beside and self._is_ours:
            other = Store(Path(beside))
            other.guard()
            self.store.borrow(other, sizes)
        return {"missing": self._missing_blobs(sizes)}

    def _blob(self, request: dict[str, Any]) -> dict[str, Any]:
        self._take()
        sha256 = fields.sha256(request.get("sha256"))
        size, offset = fields.size(request.get("size")), fields.size(request.get("offset", 0))
        return {"have": self.store.receive(sha256, size, offset, self._transport.payload())}

    def _credential(self, request: dict[str, Any]) -> dict[str, Any]:
        """Store a secret. It is sent as payload, so no request, error or log contains it."""
        self._take()
        return credentials.receive(self.store, request, self._transport.payload())

    def _stage(self, request: dict[str, Any]) -> dict[str, Any]:
        self._take_calm()
        checked = package_check.package(self.store, request, self._device)
        manifest = checked.manifest
        package_check.room(self.store, manifest)
        missing = self._missing_blobs(manifest.blobs())
        if missing:
            for sha256 in missing:
                self.store.drop_damaged(sha256)
            raise Refused(
                "missing", f"{len(missing)} files of the package are missing here", "send them"
            )
        build.runner(self.store, manifest, self.report, compiled=not request.get("trial"))
        build.release(self.store, manifest, checked.signed, self.report)
        if trust.pinned(self.store.signers) != checked.key:
            disk.write_whole(self.store.signers, trust.signers(checked.key))
            self.store.note("pinned", key=trust.fingerprint(checked.key))
        checked.accepted.write(self.store.record)
        current = self.store.current()
        if manifest.id != current:
            deployment.advance(self.store, "staged", {"new": manifest.id, "old": current})
        found = {"release": manifest.id, "already": manifest.id == current, "notes": checked.notes}
        return dict(found, credentials=credentials.missing(self.store, manifest))

    def _activate(self, request: dict[str, Any]) -> dict[str, Any]:
        self._take_calm()
        staged = self.store.journal()["new"] if self._is_staged() else None
        release = fields.text(request, "id") or staged
        if release is None:
            raise Refused("use", "nothing is staged on this device", "flash a bundle first")
        return self._start(release, request, "activate")

    def _rollback(self, request: dict[str, Any]) -> dict[str, Any]:
        self._take_calm()
        previous = self.store.journal().get("previous")
        if previous is None:
            raise Refused("use", "there is no release to go back to", "flash one")
        return self._start(previous, request, "rollback")

    def _start(self, release: str, request: dict[str, Any], what: str) -> dict[str, Any]:
        manifest = self.store.manifest(release) if is_id(release) else None
        if manifest is None or not self.store.is_whole(manifest):
            raise Refused("use", f"the release {release} is not on this device", "flash it again")
        if not service.paused(self.store).is_free():
            raise Refused(
                "busy",
                "a benchmark has paused the service",
                "wait until it has ended, then try again",
            )
        control = services.of(self.store)
        control.fits(manifest)
        credentials.check(self.store, manifest)
        serves = release == self.store.current() == control.serving()
        same = control.is_installed(manifest) and not credentials.changed(self.store)
        if serves and same:
            if self._is_staged():  # another release, which is no longer wanted
                deployment.advance(self.store, "unstaged", {"new": release, "old": release})
            return {"release": release, "started": False, "activation": None}
        self.report("verifying its files")
        wrong = integrity.current_fault(self.store, release)
        if wrong is not None:
            raise Refused(
                "changed", f"the release {release} is not what was signed: {wrong}", "flash again"
            )
        options = health.HealthOptions.read(request.get("health"))
        credentials.settle(self.store)
        token = watchdog.start(self.store, release, options, what)
        return {"release": release, "started": True, "activation": token}

    def _watch(self, request: dict[str, Any]) -> dict[str, Any]:
        token = fields.text(request, "activation") or self.store.journal().get("activation")
        last, reported_at = None, time.monotonic()
        while True:
            judging = self._is_judging()
            journal = self.store.journal()
            activating = journal["state"] == deployment.ACTIVATING
            if journal.get("activation") != token or not activating:
                break
            if not judging:
                time.sleep(RESTART_S)
                if not self._is_judging() and self.store.lock.take():
                    watchdog.recover(self.store)
                continue
            line = watchdog.progress(self.store, str(token))
            if line != last or time.monotonic() - reported_at > BEAT_S:
                last, reported_at = line, time.monotonic()
                self.report(line or "health check in progress")
            time.sleep(0.2)
        while self._is_judging():  # it has decided, and is about to end
            time.sleep(0.05)
        if self._is_ours and not self._is_staged():
            self.store.collect()
            credentials.collect(self.store)
        return self._outcome(journal, token)

    def _is_staged(self) -> bool:
        return bool(self.store.journal()["state"] == deployment.STAGED)

    def _outcome(self, journal: dict[str, Any], token: str | None) -> dict[str, Any]:
        if token is not None and journal.get("activation") != token:
            raise Refused(
                "use", "this activation is over, and another one has begun", "see the history"
            )
        return {
            "state": journal["state"],
            "release": self.store.current(),
            "healthy": journal["state"] == deployment.IDLE and journal.get("reason") is None,
            "reason": journal.get("reason"),
            "health": journal.get("health") or {},
        }

    def _revoke(self, request: dict[str, Any]) -> dict[str, Any]:
        """Revoke a release, or a key with all its releases."""
        self._take_calm()
        what = fields.text(request, "what") or ""
        if not is_id(what) and not _FINGERPRINT.fullmatch(what):
            raise Refused(
                "use",
                f"{what!r} is neither a release nor a key",
                "give its id, or SHA256:... of the key",
            )
        known, current = record.read(self.store.record), self.store.current()
        assert known is not None  # the request was signed for it
        keys = {trust.pinned(self.store.signers), known.accepted.get(str(current))} - {None}
        if what in {current, *(trust.fingerprint(str(key)) for key in keys)}:
            raise Refused(
                "use", f"{what} is in use here", "flash another release, or with another key, first"
            )
        revoked = tuple(sorted({*known.revoked, what}))
        known._replace(revoked=revoked).write(self.store.record)
        self.store.note("revoked", name=what)
        return {"revoked": list(revoked)}

    # ---------------------------------------------------------------- jobs

    def _job(self, request: dict[str, Any]) -> dict[str, Any]:
        self._take_calm()
        return jobs.start(self.store, request, self.report)

    # ---------------------------------------------------------------- status, and leaving

    def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        control = services.of(self.store)
        state = control.state()
        about = dict(state._asdict(), release=control.serving(), folder=str(control.folder))
        return {
            "installed": self._installed(),
            "service": about,
            "others": self._others(),
            "status": control.status(state.pid),
        }

    def _history(self, request: dict[str, Any]) -> dict[str, Any]:
        last = request.get("last")
        history = self.store.history()
        return {"history": history[-last:] if isinstance(last, int) and last > 0 else history}

    def _others(self) -> list[str]:
        return [] if self._is_named else [str(one) for one in service.elsewhere(self.store.root)]

    def _uninstall(self, request: dict[str, Any]) -> dict[str, Any]:
        if not self.store.root.is_dir():
            self._alone()
            return {"removed": services.of(self.store).remove()}
        self.store.fits()
        self._take_calm()
        if request.get("trial") and jobs.runs(self.store):
            raise Refused("occupied", *jobs.BUSY)
        jobs.end_all(self.store)
        removed = services.of(self.store).remove()
        self.store.point(None)
        left = self.store.erase()
        self._is_ours = False
        if not left:
            removed.append(str(self.store.root))
        return {"removed": removed, "left": left, "others": self._others()}
