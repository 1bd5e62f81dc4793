"""An activation, watched from the host.

The device decides by itself whether a release is kept; this module only asks and watches. A link
that is lost meanwhile changes nothing there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from edgevid.errors import CheckFailed, DeviceFailed
from edgevid.flash.agent_client import AgentClient

ACTIVATION_S = 60.0
"""How much longer than its health window a device may be out of sight: its service starts."""
RETRY_S = 2.0
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
    device: AgentClient, request: Mapping[str, Any], health: Health, log: Log
) -> dict[str, Any]:
    """Request another release, and watch until the device has decided.

    Args:
        device: The device, whose session has the lock.
        request: ``{"do": "activate", "id"}`` or ``{"do": "rollback"}``.
        health: What the release must show.
        log: Receives messages.

    Returns:
        ``release``, ``outcome`` (``serving``, ``unchanged``, ``rolled-back`` or ``sick``),
        ``restarted``, ``health`` and ``reason``.

    Raises:
        DeviceFailed: The device could not be reached again.
    """
    reply = device.call({**request, "health": asdict(health)}, notice=reporter(device, log))
    if not reply.get("started", True):
        return {"release": reply.get("release"), "outcome": "unchanged", "restarted": False}
    log(f"{device.name}: {reply.get('release')} is starting; health check for {health.seconds:g} s")
    end = _watch(device, reply.get("activation"), health, log)
    for note in health_notes(end.get("health")):
        log(f"{device.name}: {note}")
    outcome = "rolled-back" if end.get("state") == "rolled-back" else "serving"
    if outcome == "serving" and end.get("healthy") is False:
        outcome = "sick"
    return {
        "release": reply.get("release"),
        "outcome": outcome,
        "restarted": True,
        "health": end.get("health"),
        "reason": end.get("reason"),
    }


def health_notes(health: Mapping[str, Any] | None) -> list[str]:
    """Notes on the release that serves, one line each.

    Args:
        health: What the device found: its own ``notes``, and whether the engine is ``degraded``.

    Returns:
        The lines.
    """
    found = health or {}
    degraded = ["it serves on a fallback engine; see: edgevid fleet status"]
    return [*map(str, found.get("notes") or ()), *(degraded if found.get("degraded") else ())]


def _watch(device: AgentClient, activation: Any, health: Health, log: Log) -> dict[str, Any]:
    """Watch until the device has decided, across lost links."""
    request = {"do": "watch", "activation": activation}
    deadline = time.monotonic() + health.seconds + ACTIVATION_S
    lost: DeviceFailed | None = None
    while True:
        try:
            with _interruptible(device, log):
                return device.call(request, notice=reporter(device, log))
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


def reporter(device: AgentClient, log: Log) -> Callable[[Mapping[str, Any]], None]:
    """Return a function that logs the agent's lines of progress, each once."""
    last = ""

    def report(frame: Mapping[str, Any]) -> None:
        nonlocal last
        at = frame.get("at")
        if isinstance(at, str) and at != last:
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
