"""Going over to a release and judging it, alone; and going back.

Between the journal's "activating" and its "idle" a release never counts as installed: whoever finds
that with no living guard goes back to what served before.
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
from .wire import Refused, from_os


def watch_over(
    place: Store, release: str, token: str, wish: health.Wish, what: str, seen: str
) -> int:
    """Be the guard of one activation; gives the exit code of this process.

    ``seen`` is the time of the journal for which it was asked: after another it is asked no more.
    """
    if not place.guard.take():
        return 0
    journal = place.journal()
    if journal.get("activation") == token:  # this guard was killed, and started again
        if journal["state"] == "activating":
            roll_back(place, _reason("guard", "the guard was killed while it judged"))
        return 0
    if journal["state"] == "activating":
        roll_back(place, _reason("power", "the activation before was never judged"))
    elif str(journal.get("since_unix_s")) != seen:
        return 0
    over = False
    try:
        _go(place, release, token, wish, what)
        over = True
    finally:
        if not over and place.journal()["state"] == "activating":
            roll_back(place, _reason("guard", "the guard failed"))
    place.guard.let_go()
    if place.lock.take():
        place.collect()
    return 0


def _go(place: Store, release: str, token: str, wish: health.Wish, what: str) -> None:
    began, keeper = time.time(), service.of(place)
    one = place.manifest(release)
    old = place.current()
    if one is None or not place.is_whole(one):
        return
    before = dict(place.journal())
    place.write_journal(
        "activating", new=release, old=old, activation=token, previous=before.get("previous")
    )
    place.note(what, release=release, old=old)
    try:
        notes = keeper.install(one)
        place.point(release)
        _progress(place, token, "starting the service")
        keeper.restart()
        judge = health.Judge(keeper, one, wish, lambda text: _progress(place, token, text))
        found = judge.judge()
    except health.Sick as sick:
        reason = _reason(sick.stage, sick.message, sick.exit_code, keeper.log(began))
        _no(place, release, old, token, reason)
        return
    except (Refused, OSError) as error:
        fault = error if isinstance(error, Refused) else from_os(error)
        _no(place, release, old, token, _reason("start", fault.message))
        return
    previous = before.get("previous") if old in (None, release) else old
    place.write_journal(
        "idle",
        new=release,
        old=old,
        previous=previous,
        activation=token,
        health=dict(found, healthy=True, notes=notes),
    )
    place.note("serves", release=release, p95_ms=found["p95_ms"], degraded=found["degraded"])


def _no(place: Store, release: str, old: str | None, token: str, reason: dict[str, Any]) -> None:
    if old != release:
        roll_back(place, reason)
        return
    # It served already, and was only started again: there is nothing to go back to.
    place.write_journal(
        "idle", new=release, old=old, activation=token, reason=reason, health={"healthy": False}
    )
    place.note("sick", release=release, reason=reason)


def roll_back(place: Store, reason: dict[str, Any], *, inside: bool = False) -> None:
    """Let the old release serve again; ``inside``: the service is about to start anyway."""
    journal = place.journal()
    new, old = journal["new"], journal["old"]
    keeper, one = service.of(place), place.manifest(old)
    place.point(old if one else None)
    if one is None:
        keeper.remove(inside=inside)
    else:
        keeper.install(one)
        if not inside:
            keeper.restart()
    place.write_journal(
        "rolled-back", new=new, old=old, activation=journal.get("activation"), reason=reason
    )
    place.note("rolled-back", release=new, old=old, reason=reason)


def recover(place: Store, *, inside: bool = False) -> bool:
    """Go back if an activation was broken off; gives whether it was."""
    if place.journal()["state"] != "activating" or not place.guard.is_free():
        return False
    if not place.guard.take():
        return False
    try:
        if place.journal()["state"] != "activating":
            return False
        message = "it was broken off between activation and judgement: power or process was gone"
        roll_back(place, _reason("power", message), inside=inside)
    finally:
        place.guard.let_go()
    return True


def try_to_recover(place: Store) -> bool:
    """As `recover`, for what is about to serve: a full disk keeps it from nothing."""
    try:
        return recover(place, inside=True)
    except (Refused, OSError) as error:
        print(f"edgevid: what was broken off is not put in order yet: {error}", file=sys.stderr)
        return False


def start(place: Store, release: str, wish: health.Wish, what: str) -> str:
    """Start a guard for ``release``; gives the activation's token, once it has begun."""
    token = os.urandom(8).hex()
    words = service.agent_words(place, release, "guard")
    words += ["--release", release, "--token", token, "--what", what]
    words += ["--seen", str(place.journal().get("since_unix_s"))]
    words += ["--health", json.dumps(wish._asdict())]
    service.of(place).spawn_guard(words, token)
    until = time.monotonic() + 60.0
    while place.journal().get("activation") != token:
        if time.monotonic() > until:
            raise Refused("service", "the guard did not start", "look at the device's log")
        time.sleep(0.05)
    return token


def _reason(
    stage: str, message: str, exit_code: int | None = None, log: list[str] | None = None
) -> dict[str, Any]:
    return {"stage": stage, "message": message, "exit_code": exit_code, "log": log or []}


def _progress(place: Store, token: str, text: str) -> None:
    """Say how far it is, to whoever watches; not forced to the disk."""
    part = disk.aside(place.state / "progress.json")
    part.write_text(json.dumps({"activation": token, "at": text}))
    os.replace(str(part), str(place.state / "progress.json"))


def progress(place: Store, token: str) -> str | None:
    """What the guard said last."""
    try:
        said = json.loads(Path(place.state / "progress.json").read_text())
    except (OSError, ValueError):
        return None
    return str(said["at"]) if said.get("activation") == token else None
