"""Many devices: a command in waves, several devices at a time, and the state of all of them.

A wave begins when the one before has ended. When too many devices have failed, no further device is
begun, even in the same wave; those under way are completed. Devices are independent: one that fails
or hangs does not affect another.
"""

from __future__ import annotations

import json
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgevid.errors import BadInput, CheckFailed, EdgevidError
from edgevid.files import user_folder, write_json
from edgevid.flash.agent_client import AgentClient
from edgevid.flash.inventory import DeviceEntry
from edgevid.flash.replies import STATUS, RunnerReply, StatusReply
from edgevid.remote.ssh import Remote

PARALLEL = 8
RATE_S = 2.0
"""The time over which a service's frames are counted; it reports them once a second."""


# ---------------------------------------------------------------- waves

_AMOUNT = re.compile(r"([0-9]{1,6})(%?)")


def _amount(text: str, total: int, *, up: bool) -> int | None:
    """The number of devices that ``3`` or ``25%`` of ``total`` means, rounded ``up`` or down."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None or (found[2] and int(found[1]) > 100):
        return None
    number = int(found[1])
    if not found[2]:
        return number
    return -(-number * total // 100) if up else number * total // 100


def read_waves(text: str, total: int) -> list[int]:
    """Read the sizes of waves, such as ``1,25%,100%``.

    Args:
        text: How many devices are done after each wave; the rest is a last wave.
        total: The number of devices.

    Returns:
        The size of each wave; empty waves are left out.

    Raises:
        BadInput: The text is not such a list, or its numbers decrease.
    """
    sizes: list[int] = []
    last = 0
    for step in [*text.split(","), str(total)]:
        reached = _amount(step, total, up=True)
        if not reached:
            raise BadInput(
                f"--wave {text!r}: give numbers of devices or percents, as in 1,25%,100%"
            )
        if min(reached, total) < last:
            raise BadInput(f"--wave {text!r} decreases at {step.strip()}; give growing numbers")
        if min(reached, total) > last:
            sizes.append(min(reached, total) - last)
            last = min(reached, total)
    return sizes


def read_threshold(text: str, total: int) -> int:
    """Read how many of ``total`` devices may fail, such as ``2`` or ``10%`` (rounded down).

    Raises:
        BadInput: The text is neither a number nor a percentage.
    """
    if (found := _amount(text, total, up=False)) is None:
        raise BadInput(f"--max-failures {text!r}: give a number of devices or a percent, as in 10%")
    return found


# ---------------------------------------------------------------- a command on many devices


@dataclass(frozen=True)
class Outcome:
    """What became of one device.

    Attributes:
        device: Its name.
        state: The ``outcome`` of the result, as `edgevid.flash.commands.flash` gives it; without a
            result ``refused`` (a check failed), ``failed``, or ``not begun``.
        wave: The number of its wave, from 1; 0 if it was not begun.
        seconds: How long it took.
        reason: Why it failed.
        exit_code: What a command for this device alone would exit with.
        kind: The kind of the error.
        result: What the command gave; None if it failed.
    """

    device: str
    state: str
    wave: int
    seconds: float = 0.0
    reason: str = ""
    exit_code: int = 0
    kind: str = ""
    result: Mapping[str, Any] | None = None

    @property
    def bad(self) -> bool:
        """Whether it counts as a failure."""
        return self.exit_code != 0


def roll(
    devices: Sequence[DeviceEntry],
    act: Callable[[DeviceEntry], Mapping[str, Any]],
    *,
    waves: Sequence[int],
    may_fail: int = 0,
    parallel: int = PARALLEL,
    log: Callable[[str], None] = print,
) -> list[Outcome]:
    """Call a function for each device, wave after wave.

    An interrupt does not wait for the devices that are under way.

    Args:
        devices: The devices.
        act: Is called in other threads; returns a result with its ``outcome``, or raises
            `EdgevidError`.
        waves: The size of each wave.
        may_fail: How many devices may fail before no further one is begun.
        parallel: How many devices are under way at a time.
        log: Receives a line for each device.

    Returns:
        The outcome of each device, in their order.
    """
    outcomes: list[Outcome] = []
    rest = list(devices)
    for number, size in enumerate(waves, 1):
        wave, rest = rest[:size], rest[size:]
        if len(waves) > 1:
            log(f"wave {number} of {len(waves)}: {', '.join(device.name for device in wave)}")
        for outcome in _wave(wave, act, number, may_fail, sum(o.bad for o in outcomes), parallel):
            log(_line(outcome))
            outcomes.append(outcome)
        if sum(outcome.bad for outcome in outcomes) > may_fail:
            break
    done = {outcome.device: outcome for outcome in outcomes}
    return [done.get(d.name, Outcome(d.name, "not begun", 0)) for d in devices]


def _wave(
    devices: Sequence[DeviceEntry],
    act: Callable[[DeviceEntry], Mapping[str, Any]],
    wave: int,
    may_fail: int,
    failed: int,
    parallel: int,
) -> Iterator[Outcome]:
    """Yield outcomes as they come; the threads are daemons, so that an interrupt ends at once."""
    ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    waiting = list(devices)
    running = 0
    while waiting or running:
        while waiting and running < parallel:
            args = (act, waiting.pop(0), wave, ended)
            threading.Thread(target=_attempt, args=args, daemon=True).start()
            running += 1
        outcome = ended.get()
        running -= 1
        failed += outcome.bad
        if failed > may_fail:
            waiting.clear()
        yield outcome


def _attempt(
    act: Callable[[DeviceEntry], Mapping[str, Any]],
    device: DeviceEntry,
    wave: int,
    ended: queue.SimpleQueue[Outcome],
) -> None:
    began = time.monotonic()
    outcome = Outcome(device.name, "failed", wave, reason="a bug in edgevid", exit_code=4)
    try:
        result = act(device)
        outcome = Outcome(device.name, str(result["outcome"]), wave, result=result)
    except EdgevidError as error:
        held = getattr(error, "result", None)
        state = "refused" if isinstance(error, CheckFailed) else "failed"
        outcome = Outcome(
            device.name,
            str((held or {}).get("outcome", state)),
            wave,
            0.0,
            str(error),
            error.exit_code,
            getattr(error, "kind", type(error).__name__),
            held,
        )
    finally:  # the waiting thread always gets an outcome; a bug's traceback goes to stderr
        ended.put(replace(outcome, seconds=time.monotonic() - began))


def _line(outcome: Outcome) -> str:
    line = f"{outcome.device}: {outcome.state} after {outcome.seconds:.1f} s"
    return f"{line}: {outcome.reason}" if outcome.reason else line


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """One exit code for all: a failed check first, then the environment, then usage errors."""
    codes = {outcome.exit_code for outcome in outcomes}
    return next((code for code in (1, 4, 2, 3) if code in codes), 0)


def rows(outcomes: Sequence[Outcome]) -> list[tuple[Any, ...]]:
    """The rows of the table of outcomes; its head is `HEAD`."""
    return [
        (
            outcome.device,
            outcome.wave or None,
            outcome.state,
            (outcome.result or {}).get("release"),
            (outcome.result or {}).get("sent_bytes"),
            round(outcome.seconds, 1) if outcome.wave else None,
            outcome.reason.removeprefix(f"{outcome.device}: ") or None,
        )
        for outcome in outcomes
    ]


HEAD = ("device", "wave", "", "release", "sent bytes", "seconds", "reason")


# ---------------------------------------------------------------- what was deployed from here


def _record(device: DeviceEntry) -> Path:
    """The record of what this user deployed to a device; by its address, as names change."""
    place = f"{device.address} {device.root or ''}".strip()
    folder = user_folder("XDG_STATE_HOME", ".local/state") / "edgevid" / "flashed"
    return folder / f"{quote(place, safe='@:. ')}.json"


def note(device: DeviceEntry, result: Mapping[str, Any]) -> None:
    """Record what was deployed to ``device``, so that `condition` can report drift."""
    kept = {"release": result.get("release"), "unix_s": round(time.time())}
    write_json(_record(device), kept)


def forget(device: DeviceEntry) -> None:
    """Record that edgevid was removed from ``device``."""
    _record(device).unlink(missing_ok=True)


def flashed(device: DeviceEntry) -> str | None:
    """The release that was last deployed to a device from here; None if none was."""
    try:
        release = json.loads(_record(device).read_text()).get("release")
    except (OSError, ValueError, AttributeError):
        return None
    return release if isinstance(release, str) else None


# ---------------------------------------------------------------- the state of devices


@dataclass(frozen=True)
class Condition:
    """The state of one device; unknown values are None.

    Attributes:
        device: Its name.
        health: serving, degraded, starting, activating, stopped, empty (nothing is deployed) or
            unreachable.
        release: The release that serves.
        engine: The engine that serves, as in ``tflite/cpu int8``.
        fps: Frames answered a second.
        drift: How the device differs from what was deployed from here.
        reason: Why it is not healthy.
        exit_code: What ``edgevid fleet status`` for this device alone exits with.
        others: Other folders of the device in which edgevid is installed.
        id: The device's id, for which releases are signed.
    """

    device: str
    health: str
    release: str | None = None
    engine: str | None = None
    fps: float | None = None
    drift: str | None = None
    reason: str = ""
    exit_code: int = 0
    others: tuple[str, ...] = ()
    id: str | None = None

    def row(self) -> tuple[Any, ...]:
        """A row of the table of conditions; its head is `CONDITION_HEAD`."""
        cells = (self.device, self.release, self.health, self.engine, self.fps)
        return (*cells, self.drift or None, self.reason.removeprefix(f"{self.device}: ") or None)


CONDITION_HEAD = ("device", "release", "health", "engine", "fps", "drift", "reason")


def connect(device: DeviceEntry, *, trust_new: bool = False) -> AgentClient:
    """Return a session with a device of the inventory; it is opened by the first request."""
    return AgentClient(Remote(device.address, trust_new=trust_new), device.root)


def conditions(devices: Sequence[DeviceEntry], parallel: int = PARALLEL) -> list[Condition]:
    """Get the state of all devices, several at a time; some may be ``unreachable``."""

    def ask(device: DeviceEntry) -> dict[str, Any]:
        return {"outcome": "seen", "condition": condition(device)}

    everything = [len(devices)]
    outcomes = roll(
        devices, ask, waves=everything, may_fail=len(devices), parallel=parallel, log=_silent
    )
    return [
        outcome.result["condition"]
        if outcome.result
        else Condition(outcome.device, "unreachable", reason=outcome.reason, exit_code=4)
        for outcome in outcomes
    ]


def _silent(_: str) -> None:
    pass


def condition(device: DeviceEntry) -> Condition:
    """Get the state of one device; raises `EnvironmentFailed` where it does not log."""
    with connect(device) as session:
        first = session.call(STATUS)
        rate = None
        if first.status is not None and first.status.state == "serving":
            time.sleep(RATE_S)
            rate = _fps(first.status, session.call(STATUS).status)
    return read_condition(device, first, rate)


def read_condition(device: DeviceEntry, reply: StatusReply, fps: float | None) -> Condition:
    """Build it from the agent's reply to ``status``."""
    release, journal = reply.installed.current, reply.installed.journal
    health = _health(release, journal.state, reply.status)
    why = (journal.reason.message or "") if journal.reason else ""
    drift = _drift(flashed(device), release)
    manual = release is not None and reply.service.boot is False
    more = [f"also installed in {', '.join(reply.others)}"] if reply.others else []
    more += ["does not start with the device"] if manual else []
    why = "; ".join([why] * bool(why) + more)
    return Condition(
        device.name,
        health,
        release,
        _engine(reply.status),
        fps,
        drift,
        why,
        0 if health == "serving" and drift is None and not reply.others else 1,
        reply.others,
        reply.installed.device or None,
    )


def _health(release: str | None, journal: str, status: RunnerReply | None) -> str:
    if release is None:
        return "empty"
    if journal == "activating":
        return journal
    if status is None:
        return "stopped"
    return (
        "degraded" if status.state == "serving" and status.degraded else status.state or "stopped"
    )


def _engine(status: RunnerReply | None) -> str | None:
    """The engines that serve, as in ``tflite/cpu int8``; several bundles may differ."""
    found: list[str] = []
    for bundle in status.bundles if status is not None else ():
        serving = bundle.engine.serving
        text = f"{serving.runtime}/{serving.accelerator} {serving.precision}"
        if text not in found:
            found.append(text)
    return ", ".join(found) or None


def _fps(before: RunnerReply, after: RunnerReply | None) -> float | None:
    """Frames answered a second, between two status documents of the same process."""
    if after is None or before.pid != after.pid:
        return None
    seconds = after.now_unix_s - before.now_unix_s
    answered = after.frames.answered - before.frames.answered
    return round(answered / seconds, 1) if seconds > 0 else None


def _drift(wanted: str | None, release: str | None) -> str | None:
    if wanted is None or wanted == release:
        return None
    return f"{release or 'nothing'} instead of {wanted}"
