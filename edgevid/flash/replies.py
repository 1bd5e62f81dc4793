"""Replies of a device: each request's record and limits, and the function that reads them.

A device may be broken or compromised, so nothing in a reply is used before `read` has made a record
of it: a field has its type, a number is finite, a text is one printable line of
bounded length, and nothing is nested deeply. Only the texts in `RAW` keep their line ends; they are
checked by whoever uses them. The limits of a `Verb` bound how long an answer takes and how large it
is, so a device can neither hang nor fill the host.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Literal, NoReturn, TypeVar

from edgevid.content import parse_nested
from edgevid.documents import from_json
from edgevid.errors import BadInput, DeviceFailed, shorten
from edgevid.flash.device_facts import DeviceFacts
from edgevid.text import printable

MOST_CHARACTERS = 1000
"""Longest text of an answer; a longer one loses its middle."""
RAW = frozenset({"manifest", "statement", "signature", "content", "stderr"})
PART_BYTES = 1 << 20
"""How much of a file the agent sends in one answer, unless it is the last part."""
MOST_DOCUMENT_BYTES = 16 << 20
_DEPTH = 16
_LARGEST = 1 << 63
_SAME = "use the same version of edgevid on both sides"

Reply = TypeVar("Reply")


# ---------------------------------------------------------------- records


@dataclass(frozen=True)
class AgentFault:
    """Why the agent refuses a request; the texts are the device's."""

    kind: str = ""
    message: str = ""
    fix: str = ""


@dataclass(frozen=True)
class RollbackReason:
    """Why a release was rolled back."""

    stage: str | None = None
    message: str | None = None
    exit_code: int | None = None
    log: tuple[str, ...] = ()


@dataclass(frozen=True)
class HealthVerdict:
    """What the device's health check found."""

    healthy: bool | None = None
    degraded: bool = False
    p95_ms: float | None = None
    frames: Any = None
    engines: Mapping[str, Any] = field(default_factory=dict)
    alarms: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Journal:
    """The state of a deployment; see `edgevid.flash.agent.deployment`."""

    state: str = "idle"
    reason: RollbackReason | None = None
    previous: str | None = None


@dataclass(frozen=True)
class InstalledReply:
    """What is installed, as the device says; `edgevid.flash.installed` checks the signature."""

    current: str | None = None
    manifest: str | None = None
    signature: str | None = None
    journal: Journal = field(default_factory=Journal)
    fingerprint: str | None = None
    device: str = ""
    statement: str | None = None
    changed: str | None = None


@dataclass(frozen=True)
class LockedGreeting:
    """What an agent in the locked mode begins with; see `edgevid.flash.agent.locked`."""

    protocol: int
    device: str
    nonce: str


@dataclass(frozen=True)
class ProbeReply(DeviceFacts):
    """The answer to ``probe``: facts, and what is installed."""

    installed: InstalledReply = field(default_factory=InstalledReply)
    second: AgentFault | None = None
    nonce: str = ""

    def facts(self) -> DeviceFacts:
        """The facts alone."""
        return DeviceFacts(**{one.name: getattr(self, one.name) for one in fields(DeviceFacts)})


@dataclass(frozen=True)
class ServiceReply:
    """The service as the device's own init system reports it."""

    pid: int | None = None
    boot: bool | None = None


@dataclass(frozen=True)
class ServingEngineReply:
    """The engine that serves."""

    runtime: str
    accelerator: str
    precision: str


@dataclass(frozen=True)
class EngineReply:
    """The engines of one bundle."""

    serving: ServingEngineReply


@dataclass(frozen=True)
class BundleReply:
    """One bundle that is served."""

    engine: EngineReply


@dataclass(frozen=True)
class FramesReply:
    """The frame counters of the runner."""

    answered: int = 0


@dataclass(frozen=True)
class RunnerReply:
    """What is used of the runner's status document."""

    state: str | None = None
    degraded: bool = False
    pid: int | None = None
    now_unix_s: float = 0.0
    frames: FramesReply = field(default_factory=FramesReply)
    bundles: tuple[BundleReply, ...] = ()


@dataclass(frozen=True)
class StatusReply:
    """The answer to ``status``."""

    installed: InstalledReply = field(default_factory=InstalledReply)
    service: ServiceReply = field(default_factory=ServiceReply)
    status: RunnerReply | None = None
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckReply:
    """The answer to ``check``."""

    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SessionReply:
    """The answer to ``session``."""

    root: str
    release: str | None = None


@dataclass(frozen=True)
class MissingReply:
    """The answer to ``missing``: how many bytes of each incomplete blob were received."""

    missing: Mapping[str, int]


@dataclass(frozen=True)
class BlobReply:
    """The answer to ``blob``."""

    have: int


@dataclass(frozen=True)
class ContentReply:
    """The answer to ``read`` and ``job-read``: a part of a file in base64."""

    content: str


@dataclass(frozen=True)
class CredentialReply:
    """The answer to ``credential``."""

    changed: bool


@dataclass(frozen=True)
class StageReply:
    """The answer to ``stage``."""

    release: str


@dataclass(frozen=True)
class ActivateReply:
    """The answer to ``activate`` and ``rollback``."""

    release: str | None = None
    started: bool = True
    activation: str | None = None


@dataclass(frozen=True)
class WatchReply:
    """The answer to ``watch``: what the device has decided."""

    state: str
    healthy: bool | None = None
    reason: RollbackReason | None = None
    health: HealthVerdict | None = None


@dataclass(frozen=True)
class RevokeReply:
    """The answer to ``revoke``: everything that is revoked there."""

    revoked: tuple[str, ...] = ()


@dataclass(frozen=True)
class UninstallReply:
    """The answer to ``uninstall``."""

    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobReply:
    """The answer to ``job``."""

    already: bool


@dataclass(frozen=True)
class JobDocument:
    """The result of a job that has ended."""

    sha256: str
    size: int


@dataclass(frozen=True)
class JobStateReply:
    """The answer to ``job-state``."""

    state: Literal["absent", "running", "ended", "lost"]
    busy: bool = False
    stderr: str = ""
    said: int = 0
    exit_code: int | None = None
    why: str = ""
    document: JobDocument | None = None


@dataclass(frozen=True)
class JobEndReply:
    """The answer to ``job-end``."""

    ended: bool


@dataclass(frozen=True)
class TunedReply:
    """The answer to ``tuned``."""

    kept: bool


# ---------------------------------------------------------------- requests


@dataclass(frozen=True)
class Verb(Generic[Reply]):
    """A request to the agent, and the limits of its answer.

    Attributes:
        name: Its name; `edgevid.flash.agent` lists them.
        record: What the answer becomes.
        seconds: How long the whole answer may take.
        most_bytes: How large it may be, including the lines of progress before it.
    """

    name: str
    record: type[Reply]
    seconds: float = 180.0
    most_bytes: int = 256 << 10


PROBE = Verb("probe", ProbeReply, most_bytes=2 << 20)
STATUS = Verb("status", StatusReply, most_bytes=4 << 20)
CHECK = Verb("check", CheckReply)
SESSION = Verb("session", SessionReply, seconds=900.0)
MISSING = Verb("missing", MissingReply, seconds=1800.0)  # it hashes what it has
BLOB = Verb("blob", BlobReply, seconds=1800.0, most_bytes=8 << 10)
READ = Verb("read", ContentReply, most_bytes=2 * PART_BYTES)
CREDENTIAL = Verb("credential", CredentialReply, most_bytes=8 << 10)
STAGE = Verb("stage", StageReply, seconds=3600.0)  # it unpacks and compiles
ACTIVATE = Verb("activate", ActivateReply, seconds=3600.0)  # after an earlier health check
ROLLBACK = Verb("rollback", ActivateReply, seconds=3600.0)
WATCH = Verb("watch", WatchReply, seconds=1200.0, most_bytes=4 << 20)
REVOKE = Verb("revoke", RevokeReply)
UNINSTALL = Verb("uninstall", UninstallReply, seconds=3600.0)
JOB = Verb("job", JobReply, seconds=3600.0)
JOB_STATE = Verb("job-state", JobStateReply, most_bytes=8 * PART_BYTES)
JOB_READ = Verb("job-read", ContentReply, most_bytes=2 * PART_BYTES)
JOB_END = Verb("job-end", JobEndReply)
TUNED = Verb("tuned", TunedReply)


# ---------------------------------------------------------------- reading


def frame(line: bytes, device: str) -> dict[str, Any]:
    """Read one line of an answer: a JSON object with printable texts and finite numbers.

    Args:
        line: The line.
        device: The device's name, for messages.

    Raises:
        DeviceFailed: The line is something else.
    """
    try:
        found = parse_nested(line)
        if not isinstance(found, dict):
            raise ValueError("no object")
    except ValueError:
        text = shorten(one_line(line[:80].decode(errors="replace")))
        raise DeviceFailed(f"{device}: {text!r} is not a reply; try again", "protocol") from None
    try:
        return {one_line(key): _clean(value, key in RAW, 1) for key, value in found.items()}
    except ValueError as error:
        unreadable(device, str(error))


def _clean(value: Any, raw: bool, depth: int) -> Any:
    """A value of an answer with bounded parts.

    Raises:
        ValueError: It cannot be used.
    """
    if isinstance(value, str):
        if raw:
            value.encode()  # half of a surrogate pair is no text
            return value
        return shorten(one_line(value), MOST_CHARACTERS)
    if isinstance(value, int | float):
        if not abs(value) < _LARGEST:  # nor is it NaN
            raise ValueError("a number is too large")
        return value
    if depth > _DEPTH:
        raise ValueError("it is nested too deeply")
    if isinstance(value, list):
        return [_clean(one, False, depth + 1) for one in value]
    if isinstance(value, dict):
        return {
            shorten(one_line(key), MOST_CHARACTERS): _clean(one, key in RAW, depth + 1)
            for key, one in value.items()
        }
    return value


def one_line(text: str) -> str:
    """Escape a device's text to one printable line; half of a surrogate pair becomes a ``?``."""
    return printable(text.encode(errors="replace").decode())


def read(kind: type[Reply], data: Any, device: str) -> Reply:
    """Make a record of an answer, or of a part of it.

    Args:
        kind: The record.
        data: Plain data of `frame`; unknown fields are ignored.
        device: The device's name, for messages.

    Raises:
        DeviceFailed: A field is missing or of another type.
    """
    try:
        return from_json(kind, data, "", remedy="")
    except BadInput as error:
        unreadable(device, str(error).removeprefix(" is damaged: ").removesuffix("; "))


def unreadable(device: str, why: str) -> NoReturn:
    """Raise the error for an answer that cannot be used.

    Raises:
        DeviceFailed: Always.
    """
    text = f"{device}: the device's answer cannot be read: {shorten(why)}; {_SAME}"
    raise DeviceFailed(text, "protocol")


def part(reply: ContentReply, rest: int, device: str) -> bytes:
    """Decode a part of a file; its length is fixed, so a device cannot send tiny parts forever.

    Args:
        reply: The answer.
        rest: How many bytes of the file are still to come.
        device: The device's name, for messages.

    Raises:
        DeviceFailed: It is not base64, or of another length.
    """
    try:
        content = base64.b64decode(reply.content, validate=True)
    except (binascii.Error, ValueError):
        unreadable(device, "content must be base64")
    if len(content) != min(rest, PART_BYTES):
        unreadable(device, f"content has {len(content)} bytes, not {min(rest, PART_BYTES)}")
    return content


def offsets(reply: MissingReply, sizes: Mapping[str, int], device: str) -> dict[str, int]:
    """The blobs to send: those that were asked for, from an offset inside them on.

    Args:
        reply: The answer.
        sizes: The size of each blob in bytes, by its sha256.
        device: The device's name, for messages.

    Raises:
        DeviceFailed: The device names another blob, or an offset outside it.
    """
    for sha256, offset in reply.missing.items():
        if not 0 <= offset <= sizes.get(sha256, -1):
            unreadable(device, f"missing[{sha256[:16]}] is {offset}")
    return dict(reply.missing)
