"""Activates a release and judges it, in a process of its own, with nobody connected.

The states and what follows each event are in `deployment`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from . import credentials, deployment, disk, health, integrity, service, services
from .store import Store
from .transport import Refused, from_os

START_S = 60.0
VERB = "guard"
"""The agent's command that is the watchdog; agents of older releases know it by this name."""


def run(
    store: Store, release: str, token: str, options: health.HealthOptions, what: str, seen: str
) -> int:
    """Be the watchdog of one activation; returns the exit code of this process.

    ``what`` is ``activate`` or ``rollback``, for the history. ``seen`` is the time of the journal
    at the request: if the journal has changed since, the request is void.
    """
    if not store.watchdog.take():
        return 0
    journal = store.journal()
    interrupted = journal["state"] == deployment.ACTIVATING
    if journal.get("activation") == token:  # this watchdog was killed, and started again
        if interrupted:
            _interrupted(store, "watchdog", "the watchdog was killed during the health check")
        return 0
    if interrupted:
        _interrupted(store, "power", "the health check of the previous activation never ended")
    elif str(journal.get("since_unix_s")) != seen:
        return 0
    try:
        _activate(store, release, token, options, what)
    finally:
        if store.journal()["state"] == deployment.ACTIVATING:
            _interrupted(store, "watchdog", "the watchdog failed")
    store.watchdog.release()
    if store.lock.take():
        store.collect()
        credentials.collect(store)
    return 0


def _activate(
    store: Store, release: str, token: str, options: health.HealthOptions, what: str
) -> None:
    """Start a release, judge it, and keep it or restore the one before."""
    began, control = time.time(), services.of(store)
    manifest = store.manifest(release)
    old, previous = store.current(), store.journal().get("previous")
    if manifest is None or not store.is_whole(manifest):
        return
    kept = {"new": release, "old": old, "activation": token}
    deployment.advance(store, "activated", dict(kept, previous=previous))
    store.note(what, release=release, old=old)
    try:
        notes = control.install(manifest)
        store.point(release)
        _report(store, token, "starting the service")
        control.restart()
        check = health.HealthCheck(control, manifest, options, lambda at: _report(store, token, at))
        found = check.run()
    except health.Unhealthy as error:
        reason = _reason(error.stage, error.message, error.exit_code, control.log(began))
    except (Refused, OSError) as error:
        fault = error if isinstance(error, Refused) else from_os(error)
        reason = _reason("start", fault.message)
    else:
        if old not in (None, release):
            previous = old
        verdict = dict(found, healthy=True, notes=notes)
        deployment.advance(store, "healthy", dict(kept, previous=previous, health=verdict))
        store.note("serves", release=release, p95_ms=found["p95_ms"], degraded=found["degraded"])
        return
    if old != release:
        deployment.advance(store, "unhealthy", {"reason": reason})
        return
    verdict = {"healthy": False}
    deployment.advance(store, "unhealthy-again", dict(kept, reason=reason, health=verdict))
    store.note("unhealthy", release=release, reason=reason)


def _interrupted(store: Store, stage: str, message: str, *, inside: bool = False) -> None:
    deployment.advance(store, "interrupted", {"reason": _reason(stage, message)}, inside=inside)


def recover(store: Store, *, inside: bool = False) -> bool:
    """Restore what served before an activation that was interrupted; returns whether one was."""
    if store.journal()["state"] != deployment.ACTIVATING or not store.watchdog.is_free():
        return False
    if not store.watchdog.take():
        return False
    try:
        if store.journal()["state"] != deployment.ACTIVATING:
            return False
        message = "a power failure or a killed process interrupted the health check"
        _interrupted(store, "power", message, inside=inside)
    finally:
        store.watchdog.release()
    return True


def try_to_recover(store: Store) -> bool:
    """As `recover`, for a service that is about to start, which a full disk must not prevent."""
    try:
        return recover(store, inside=True)
    except (Refused, OSError) as error:
        print(f"edgevid: an interrupted activation is not undone yet: {error}", file=sys.stderr)
        return False


def verify(store: Store) -> bool:
    """Before the service starts: go back to the previous release if this one was changed.

    Without a previous one that is unchanged, nothing serves. Returns whether it was changed.
    """
    try:
        release, journal = store.current(), store.journal()
        if release is None or journal["state"] == deployment.ACTIVATING:  # verified just now
            return False
        wrong = integrity.current_fault(store, release, quick=True)
        manifest = store.manifest(release) if wrong is None else None
        if manifest is not None:
            integrity.renew_marks(store, manifest.runner)
        if wrong is None or not store.watchdog.take():
            return False
        try:
            old = journal.get("previous")
            if old is not None and integrity.current_fault(store, old, quick=True):
                old = None
            message = f"the release {release} is not what was signed: {wrong}"
            kept = {"new": release, "old": old, "previous": None}
            kept["reason"] = _reason("verify", message)
            deployment.advance(store, "changed", kept, inside=True)
        finally:
            store.watchdog.release()
    except (Refused, OSError) as error:
        print(f"edgevid: the release could not be verified: {error}", file=sys.stderr)
        return False
    print(f"edgevid: {message}", file=sys.stderr)
    return True


def start(store: Store, release: str, options: health.HealthOptions, what: str) -> str:
    """Start a watchdog for ``release``; returns the activation's token, once it has begun.

    Raises:
        Refused: the watchdog did not start.
    """
    token = os.urandom(8).hex()
    args = service.agent_args(store, release, VERB)
    args += ["--release", release, "--token", token, "--what", what]
    args += ["--seen", str(store.journal().get("since_unix_s"))]
    args += ["--health", json.dumps(options._asdict())]
    services.of(store).spawn_watchdog(args, token)
    until = time.monotonic() + START_S
    while store.journal().get("activation") != token:
        if time.monotonic() > until:
            raise Refused("service", "the watchdog did not start", "check the device's log")
        time.sleep(0.05)
    return token


def _reason(
    stage: str, message: str, exit_code: int | None = None, log: list[str] | None = None
) -> dict[str, Any]:
    return {"stage": stage, "message": message, "exit_code": exit_code, "log": log or []}


def _report(store: Store, token: str, text: str) -> None:
    """Leave a line of progress for whoever watches; it is not forced to the disk."""
    part = disk.aside(store.state / "progress.json")
    part.write_text(json.dumps({"activation": token, "at": text}))
    os.replace(str(part), str(store.state / "progress.json"))


def progress(store: Store, token: str) -> str | None:
    """The watchdog's last line of progress."""
    try:
        reported = json.loads(Path(store.state / "progress.json").read_text())
    except (OSError, ValueError):
        return None
    return str(reported["at"]) if reported.get("activation") == token else None
