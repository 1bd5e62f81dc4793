"""An activation, watched from the host.

The device decides by itself whether a release is kept; this module only asks and watches. A link
that is lost meanwhile changes nothing there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgevid.documents import to_json
from edgevid.errors import CheckFailed, DeviceFailed
from edgevid.flash.agent_client import AgentClient
from edgevid.flash.replies import WATCH, ActivateReply, HealthVerdict, Verb, WatchReply

ACTIVATION_S = 60.0
"""How much longer than its health window a device may be out of sight: its service starts."""
RETRY_S = 2.0
_REPORT_BYTES_S = 1000.0
"""So much more may be reported during a longer health window."""
LINK_LOST = frozenset({"lost", "ended", "unreachable", "refused"})
"""The kinds of `DeviceFailed` after which a retry is worthwhile."""

Log = Callable[[str], None]


def quiet(text: str) -> None:
    """Drop a message."""


@dataclass(frozen=True)
class Health:
    """What a release must show on the device before it is kept.

    Attributes:
        seconds: The length of the health window.
        p95_ms: The largest latency, 95th percentile; None: no bound.
        allow_degraded: Whether a fallback engine counts as healthy.
    """

    seconds: float = 20.0
    p95_ms: float | None = None
    allow_degraded: bool = False


class RolledBack(CheckFailed):
    """The release is not healthy, and the device is as it was before.

    Attributes:
        result: The reason, and how far the deployment went.
    """

    def __init__(self, message: str, result: dict[str, Any]) -> None:
        super().__init__(message)
        self.result = result


def activate(
    device: AgentClient,
    verb: Verb[ActivateReply],
    fields: Mapping[str, Any],
    health: Health,
    log: Log,
) -> dict[str, Any]:
    """Request another release, and watch until the device has decided.

    Args:
        device: The device, whose session has the lock.
        verb: `replies.ACTIVATE` or `replies.ROLLBACK`.
        fields: The request's fields: the release's ``id``, or none.
        health: What the release must show.
        log: Receives messages.

    Returns:
        ``release``, ``outcome`` (``serving``, ``unchanged``, ``rolled-back`` or ``sick``),
        ``restarted``, ``health`` and ``reason``.

    Raises:
        DeviceFailed: The device could not be reached again.
    """
    asked = {**fields, "health": asdict(health)}
    reply = device.call(verb, asked, notice=reporter(device, log))
    if not reply.started:
        return {"release": reply.release, "outcome": "unchanged", "restarted": False}
    log(f"{device.name}: {reply.release} is starting; health check for {health.seconds:g} s")
    end = _watch(device, reply.activation, health, log)
    for note in health_notes(end.health):
        log(f"{device.name}: {note}")
    outcome = "rolled-back" if end.state == "rolled-back" else "serving"
    if outcome == "serving" and end.healthy is False:
        outcome = "sick"
    return {
        "release": reply.release,
        "outcome": outcome,
        "restarted": True,
        "health": to_json(end.health),
        "reason": to_json(end.reason),
    }


def health_notes(health: HealthVerdict | None) -> list[str]:
    """Notes on the release that serves, one line each.

    Args:
        health: What the device found: its own ``notes``, and whether the engine is ``degraded``.

    Returns:
        The lines.
    """
    if health is None:
        return []
    degraded = ["it serves on a fallback engine; see: edgevid fleet status"]
    return [*health.notes, *(degraded if health.degraded else ())]


def _watch(device: AgentClient, activation: str | None, health: Health, log: Log) -> WatchReply:
    """Watch until the device has decided, across lost links."""
    seconds = WATCH.seconds + health.seconds
    watch = replace(WATCH, most_bytes=WATCH.most_bytes + round(_REPORT_BYTES_S * health.seconds))
    deadline = time.monotonic() + health.seconds + ACTIVATION_S
    lost: DeviceFailed | None = None
    while True:
        try:
            with _interruptible(device, log):
                fields = {"activation": activation}
                return device.call(watch, fields, notice=reporter(device, log), seconds=seconds)
        except DeviceFailed as error:
            if error.kind not in LINK_LOST:
                raise
            if lost is None:
                log(f"{error}; the device continues the health check by itself; reconnecting")
                deadline = time.monotonic() + health.seconds + ACTIVATION_S
            lost = error
        if time.monotonic() > deadline:
            raise DeviceFailed(
                f"{device.name}: could not be reached again, so the outcome is unknown: the "
                "device serves the new release if it was healthy, otherwise the previous one; "
                "flash again to find out",
                "unknown",
            ) from lost
        time.sleep(RETRY_S)


@contextmanager
def _interruptible(device: AgentClient, log: Log) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        log(
            f"{device.name}: continues the health check by itself, and rolls back an unhealthy "
            "release"
        )
        raise


def reporter(device: AgentClient, log: Log) -> Callable[[str], None]:
    """Return a function that logs the agent's lines of progress, each once."""
    last = ""

    def report(at: str) -> None:
        nonlocal last
        if at != last:
            last = at
            log(f"{device.name}: {at}")

    return report


def checked(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result unchanged, if the release is healthy.

    Raises:
        RolledBack: It is not.
    """
    text = reason_text(result.get("reason"))
    what = f"{result['device']}: {result.get('release')}"
    if result["outcome"] == "rolled-back":
        raise RolledBack(f"{what} was rolled back: {text}; fix that, then flash again", result)
    if result["outcome"] == "sick":
        raise RolledBack(f"{what} was already serving, but is not healthy now: {text}", result)
    return result


def reason_text(reason: Any) -> str:
    """Return the reason of a rollback in one line, without the last lines of the log."""
    if not isinstance(reason, Mapping):
        return str(reason or "no reason was recorded")
    stage, message, code = (reason.get(key) for key in ("stage", "message", "exit_code"))
    text = f"{stage}: {message}" if stage and message else str(message or stage or "unknown")
    return text if code is None else f"{text} (exit code {code})"
