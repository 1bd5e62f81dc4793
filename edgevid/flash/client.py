"""What a person asks of one device: to take a release, to go back, to forget all of it.

The device decides alone whether a release stays; this side sends, watches and tells. A link that is
lost while the device judges changes nothing there.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgevid.errors import CheckFailed, DeviceFailed, EnvironmentFailed
from edgevid.files import sha256_of, user_folder, write_bytes
from edgevid.flash.agent_client import AgentClient, agent_source, raise_fault
from edgevid.flash.blob_transfer import send
from edgevid.flash.device_facts import DeviceFacts, asked, read_facts
from edgevid.flash.keys import SigningKey, own_key
from edgevid.flash.package import Package, same_release
from edgevid.progress import Progress, silent

__all__ = [
    "AgentClient",
    "Health",
    "Installed",
    "RolledBack",
    "agent_source",
    "flash",
    "look",
    "raise_fault",
    "read_back",
    "rollback",
    "uninstall",
]

_ACTIVATION_S = 60.0
"""How much longer than its health window an activation may be out of sight: its service starts."""
RETRY_S = 2.0
LINK_LOST = frozenset({"lost", "ended", "unreachable", "refused"})
"""The kinds of `DeviceFailed` after which it is worth to try again."""

Log = Callable[[str], None]


def _quiet(text: str) -> None:
    pass


@dataclass(frozen=True)
class Health:
    """What a release must show on the device before it stays; ``p95_ms`` None: no bound."""

    seconds: float = 20.0
    p95_ms: float | None = None
    allow_degraded: bool = False


@dataclass(frozen=True)
class Installed:
    """What is on the device: the release that serves, its manifest, and what goes on there."""

    current: str | None = None
    manifest: bytes | None = None
    journal: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str | None = None

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Installed:
        """Read the agent's answer to ``probe`` or ``status``."""
        held = answer.get("installed") or {}
        text = held.get("manifest")
        return cls(
            held.get("current"),
            None if text is None else text.encode(),
            held.get("journal") or {},
            held.get("fingerprint"),
        )


class RolledBack(CheckFailed):
    """The device did not find the release healthy and is as it was before; ``result`` says why."""

    def __init__(self, message: str, result: dict[str, Any]) -> None:
        super().__init__(message)
        self.result = result


def look(device: AgentClient) -> tuple[DeviceFacts, Installed]:
    """Read what the device is and what it serves; writes nothing there."""
    answer = device.call({"do": "probe", **asked()})
    return read_facts(answer), Installed.read(answer)


def flash(
    device: AgentClient,
    package: Package,
    *,
    key: SigningKey | None = None,
    activate: bool = True,
    health: Health | None = None,
    allow_downgrade: bool = False,
    pin: Mapping[str, str] | None = None,
    installed: Installed | None = None,
    limit_kbit: float | None = None,
    progress: Progress = silent,
    say: Log = _quiet,
) -> dict[str, Any]:
    """Bring ``package`` to the device, and let it serve if it is healthy there.

    ``key`` signs (None: the one of ``edgevid keys``), ``pin`` is the change to another key that the
    pinned one signed, ``installed`` what `look` gave. Gives what happened: ``outcome`` is
    ``serving``, ``unchanged`` or ``staged``. Raises `RolledBack`, or what the device refuses; then
    it serves what it served before.
    """
    began, wire = time.monotonic(), device.wire_bytes
    before = installed if installed is not None else look(device)[1]
    result: dict[str, Any] = {"device": device.name, "replaced": before.current, "sent_bytes": 0}
    if before.manifest is not None and same_release(before.manifest, package.manifest):
        result |= {"release": before.current, "outcome": "unchanged", "restarted": False}
        if activate:
            result |= _activate(device, before.current, health or Health(), say)
    else:
        result |= _bring(device, package, key, allow_downgrade, pin, limit_kbit, progress, say)
        if activate:
            result |= _activate(device, result["release"], health or Health(), say)
    took = {"seconds": round(time.monotonic() - began, 3), "wire_bytes": device.wire_bytes - wire}
    return _judged(result | took)


def _bring(
    device: AgentClient,
    package: Package,
    key: SigningKey | None,
    allow_downgrade: bool,
    pin: Mapping[str, str] | None,
    limit_kbit: float | None,
    progress: Progress,
    say: Log,
) -> dict[str, Any]:
    """Check, send and stage; nothing of what serves is touched."""
    signed = sign(package, key, allow_downgrade=allow_downgrade, pin=pin)
    for note in device.call({"do": "check", **signed}).get("notes", ()):
        say(f"{device.name}: {note}")
    device.call({"do": "session"})
    sizes = package_sizes(package)
    missing = device.call({"do": "missing", "blobs": sizes})["missing"]
    began = time.monotonic()
    sent = send(device, package.blobs, missing, limit_kbit=limit_kbit, progress=progress)
    send_s = round(time.monotonic() - began, 3)
    staged = device.call({"do": "stage", **signed}, notice=_teller(device, say))
    outcome = {"outcome": "staged", "restarted": False, "sent_bytes": sent, "send_s": send_s}
    return {"release": staged["release"], **outcome}


def sign(
    package: Package,
    key: SigningKey | None,
    *,
    allow_downgrade: bool = False,
    pin: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Give the words of a request that carries the package's manifest and its signature."""
    signer = key if key is not None else own_key()[0]
    signed: dict[str, Any] = {
        "manifest": package.manifest.decode(),
        "signature": signer.sign(package.manifest).decode(),
        "key": signer.public,
        "allow_downgrade": allow_downgrade,
    }
    return signed if pin is None else signed | {"pin": dict(pin)}


def package_sizes(package: Package) -> dict[str, int]:
    """The size of each blob by its sha256."""
    from edgevid.flash.blob_transfer import size_of

    return {sha256: size_of(blob) for sha256, blob in package.blobs.items()}


# ---------------------------------------------------------------- activation, and watching it


def activate(
    device: AgentClient, release: str | None = None, health: Health | None = None, say: Log = _quiet
) -> dict[str, Any]:
    """Let the staged release serve; None: the one that was staged last."""
    began = time.monotonic()
    device.call({"do": "session"})
    result = {"device": device.name} | _activate(device, release, health or Health(), say)
    return _judged(result | {"seconds": round(time.monotonic() - began, 3)})


def rollback(
    device: AgentClient, health: Health | None = None, say: Log = _quiet
) -> dict[str, Any]:
    """Let the release before serve again."""
    began = time.monotonic()
    device.call({"do": "session"})
    request = {"do": "rollback", "health": asdict(health or Health())}
    result = {"device": device.name} | _watched(device, request, health or Health(), say)
    return _judged(result | {"seconds": round(time.monotonic() - began, 3)})


def uninstall(device: AgentClient) -> dict[str, Any]:
    """Remove everything that edgevid put on the device."""
    answer = device.call({"do": "uninstall"})
    return {"device": device.name, "removed": answer.get("removed", [])}


def _activate(device: AgentClient, release: str | None, health: Health, say: Log) -> dict[str, Any]:
    request = {"do": "activate", "id": release, "health": asdict(health)}
    return _watched(device, request, health, say)


def _watched(
    device: AgentClient, request: Mapping[str, Any], health: Health, say: Log
) -> dict[str, Any]:
    """Ask for another release to serve, and watch what the device makes of it."""
    answer = device.call(request, notice=_teller(device, say))
    if not answer.get("started", True):
        return {"release": answer.get("release"), "outcome": "unchanged", "restarted": False}
    say(f"{device.name}: {answer.get('release')} starts; judged for {health.seconds:g} s")
    end = _watch(device, answer.get("activation"), health, say)
    outcome = "rolled-back" if end.get("state") == "rolled-back" else "serving"
    if outcome == "serving" and end.get("healthy") is False:
        outcome = "sick"
    return {
        "release": answer.get("release"),
        "outcome": outcome,
        "restarted": True,
        "health": end.get("health"),
        "reason": end.get("reason"),
    }


def _watch(device: AgentClient, activation: Any, health: Health, say: Log) -> dict[str, Any]:
    """Watch until the device has decided, over lost links too."""
    request = {"do": "watch", "activation": activation}
    deadline = time.monotonic() + health.seconds + _ACTIVATION_S
    lost: DeviceFailed | None = None
    while True:
        try:
            with _told(device, say):
                return device.call(request, notice=_teller(device, say))
        except DeviceFailed as error:
            if error.kind not in LINK_LOST:
                raise
            if lost is None:
                say(f"{error}; the device goes on judging by itself; trying to see it again")
                deadline = time.monotonic() + health.seconds + _ACTIVATION_S
            lost = error
        if time.monotonic() > deadline:
            raise DeviceFailed(
                f"{device.name}: not seen again, so what became of the release is not known here: "
                "the device serves it if it was healthy, or else the one before; flash again to "
                "see which",
                "unknown",
            ) from lost
        time.sleep(RETRY_S)


@contextmanager
def _told(device: AgentClient, say: Log) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        say(f"{device.name}: goes on judging by itself, and rolls back if the release is sick")
        raise


def _teller(device: AgentClient, say: Log) -> Callable[[Mapping[str, Any]], None]:
    """Tell what the agent reports, each thing once."""
    last = ""

    def tell(frame: Mapping[str, Any]) -> None:
        nonlocal last
        at = frame.get("at")
        if isinstance(at, str) and at != last:
            last = at
            say(f"{device.name}: {at}")

    return tell


def _judged(result: dict[str, Any]) -> dict[str, Any]:
    """Give what went well; raise what did not."""
    text = reason_text(result.get("reason"))
    said = f"{result['device']}: {result.get('release')}"
    if result["outcome"] == "rolled-back":
        raise RolledBack(f"{said} was rolled back: {text}; mend that, then flash again", result)
    if result["outcome"] == "sick":
        raise RolledBack(f"{said} served already, and is not healthy now: {text}", result)
    return result


def reason_text(reason: Any) -> str:
    """Say in one line why a release was rolled back; the log's last lines are left out."""
    if not isinstance(reason, Mapping):
        return str(reason or "no reason was kept")
    stage, message, code = (reason.get(key) for key in ("stage", "message", "exit_code"))
    text = f"{stage}: {message}" if stage and message else str(message or stage or "unknown")
    return text if code is None else f"{text} (exit code {code})"


# ---------------------------------------------------------------- what is there already


def read_back(
    device: AgentClient, name: str, sha256: str, size: int, progress: Progress = silent
) -> Path:
    """Fetch a bundle that the device serves, so that it can be served on; kept in the cache."""
    folder = user_folder("XDG_CACHE_HOME", ".cache") / "edgevid" / "bundles" / sha256
    path = folder / Path(name).name
    if path.is_file() and sha256_of(path) == sha256:
        return path
    content = fetch(device, sha256, size, lambda n: progress(f"reading {name}", n, size))
    write_bytes(path, content)
    return path


def fetch(device: AgentClient, sha256: str, size: int, told: Callable[[int], None]) -> bytes:
    """Give a file of the release that serves; raises `EnvironmentFailed` where it is another."""
    content = b""
    while len(content) < size:
        request = {"do": "read", "sha256": sha256, "offset": len(content)}
        part = base64.b64decode(device.call(request)["content"])
        if not part:
            break
        content += part
        told(len(content))
    if sha256_of(content) != sha256:
        raise EnvironmentFailed(
            f"{device.name}: {sha256[:16]} is damaged there; flash with --replace"
        )
    return content
