"""Going over to a release and judging it, alone; and going back.

Between the journal's "activating" and its "idle" a release never counts as installed: whoever finds
that with no living watchdog goes back to what served before.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from . import disk, health, service
from .store import Store
from .transport import Refused, from_os


def watch_over(
    store: Store, release: str, token: str, options: health.HealthOptions, what: str, seen: str
) -> int:
    """Be the watchdog of one activation; gives the exit code of this process.

    ``seen`` is the time of the journal for which it was asked: after another it is asked no more.
    """
    if not store.watchdog.take():
        return 0
    journal = store.journal()
    if journal.get("activation") == token:  # this watchdog was killed, and started again
        if journal["state"] == "activating":
            roll_back(store, _reason("watchdog", "the watchdog was killed while it judged"))
        return 0
    if journal["state"] == "activating":
        roll_back(store, _reason("power", "the activation before was never judged"))
    elif str(journal.get("since_unix_s")) != seen:
        return 0
    over = False
    try:
        _go(store, release, token, options, what)
        over = True
    finally:
        if not over and store.journal()["state"] == "activating":
            roll_back(store, _reason("watchdog", "the watchdog failed"))
    store.watchdog.let_go()
    if store.lock.take():
        store.collect()
    return 0


def _go(store: Store, release: str, token: str, options: health.HealthOptions, what: str) -> None:
    began, keeper = time.time(), service.of(store)
    one = store.manifest(release)
    old = store.current()
    if one is None or not store.is_whole(one):
        return
    before = dict(store.journal())
    store.write_journal(
        "activating", new=release, old=old, activation=token, previous=before.get("previous")
    )
    store.note(what, release=release, old=old)
    try:
        notes = keeper.install(one)
        store.point(release)
        _progress(store, token, "starting the service")
        keeper.restart()
        judge = health.HealthCheck(keeper, one, options, lambda text: _progress(store, token, text))
        found = judge.judge()
    except health.Unhealthy as unhealthy:
        reason = _reason(unhealthy.stage, unhealthy.message, unhealthy.exit_code, keeper.log(began))
        _no(store, release, old, token, reason)
        return
    except (Refused, OSError) as error:
        fault = error if isinstance(error, Refused) else from_os(error)
        _no(store, release, old, token, _reason("start", fault.message))
        return
    previous = before.get("previous") if old in (None, release) else old
    store.write_journal(
        "idle",
        new=release,
        old=old,
        previous=previous,
        activation=token,
        health=dict(found, healthy=True, notes=notes),
    )
    store.note("serves", release=release, p95_ms=found["p95_ms"], degraded=found["degraded"])


def _no(store: Store, release: str, old: str | None, token: str, reason: dict[str, Any]) -> None:
    if old != release:
        roll_back(store, reason)
        return
    # It served already, and was only started again: there is nothing to go back to.
    store.write_journal(
        "idle", new=release, old=old, activation=token, reason=reason, health={"healthy": False}
    )
    store.note("unhealthy", release=release, reason=reason)


def roll_back(store: Store, reason: dict[str, Any], *, inside: bool = False) -> None:
    """Let the old release serve again; ``inside``: the service is about to start anyway."""
    journal = store.journal()
    new, old = journal["new"], journal["old"]
    keeper, one = service.of(store), store.manifest(old)
    store.point(old if one else None)
    if one is None:
        keeper.remove(inside=inside)
    else:
        keeper.install(one)
        if not inside:
            keeper.restart()
    store.write_journal(
        "rolled-back", new=new, old=old, activation=journal.get("activation"), reason=reason
    )
    store.note("rolled-back", release=new, old=old, reason=reason)


def recover(store: Store, *, inside: bool = False) -> bool:
    """Go back if an activation was broken off; gives whether it was."""
    if store.journal()["state"] != "activating" or not store.watchdog.is_free():
        return False
    if not store.watchdog.take():
        return False
    try:
        if store.journal()["state"] != "activating":
            return False
        message = "it was broken off between activation and judgement: power or process was gone"
        roll_back(store, _reason("power", message), inside=inside)
    finally:
        store.watchdog.let_go()
    return True


def try_to_recover(store: Store) -> bool:
    """As `recover`, for what is about to serve: a full disk keeps it from nothing."""
    try:
        return recover(store, inside=True)
    except (Refused, OSError) as error:
        print(f"edgevid: what was broken off is not put in order yet: {error}", file=sys.stderr)
        return False


def start(store: Store, release: str, options: health.HealthOptions, what: str) -> str:
    """Start a watchdog for ``release``; gives the activation's token, once it has begun."""
    token = os.urandom(8).hex()
    words = service.agent_words(store, release, "guard")
    words += ["--release", release, "--token", token, "--what", what]
    words += ["--seen", str(store.journal().get("since_unix_s"))]
    words += ["--health", json.dumps(options._asdict())]
    service.of(store).spawn_watchdog(words, token)
    until = time.monotonic() + 60.0
    while store.journal().get("activation") != token:
        if time.monotonic() > until:
            raise Refused("service", "the watchdog did not start", "look at the device's log")
        time.sleep(0.05)
    return token


def _reason(
    stage: str, message: str, exit_code: int | None = None, log: list[str] | None = None
) -> dict[str, Any]:
    return {"stage": stage, "message": message, "exit_code": exit_code, "log": log or []}


def _progress(store: Store, token: str, text: str) -> None:
    """Say how far it is, to whoever watches; not forced to the disk."""
    part = disk.aside(store.state / "progress.json")
    part.write_text(json.dumps({"activation": token, "at": text}))
    os.replace(str(part), str(store.state / "progress.json"))


def progress(store: Store, token: str) -> str | None:
    """What the watchdog said last."""
    try:
        said = json.loads(Path(store.state / "progress.json").read_text())
    except (OSError, ValueError):
        return None
    return str(said["at"]) if said.get("activation") == token else None
