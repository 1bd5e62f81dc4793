"""What every source of frames owes those who read it, and how a name leads to one.

A name with a scheme goes to the source of that name in the registry (``rtsp://...``,
``synthetic:640x480@15``), ``/dev/video...`` to ``v4l2``, any other is a file's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from edgevid import registry

if TYPE_CHECKING:
    from edgevid.media.video import Arrivals, Captured

Say = Callable[[str], None]

HIDDEN = "***"
SECRET_KEYS = re.compile(r"pass|pwd|psw|secret|token|key|auth|credential|sig", re.IGNORECASE)

_SECRET_IN_PATH = re.compile(r"((?:pass|pwd|psw|secret|token)\w*=)[^&/]*", re.IGNORECASE)


class Reason(StrEnum):
    """Why a live source has no picture; what is told of it, and what one can count."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    AUTH = "auth"
    NOT_FOUND = "not-found"
    CODEC = "codec"
    TIME_OUT = "time-out"
    ENDED = "ended"


class Unavailable(Exception):
    """An attempt that came to nothing; never leaves a source, `LiveSource` tries again."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class SourceOptions:
    """How a source is read; the same for every kind, which takes what concerns it.

    ``rate_fps`` is the rate of the lanes that read it, where they share one: pictures that no
    tick of it needs may be left undecoded. `None` decodes every picture.
    """

    rate_fps: float | None = None
    transport: Literal["tcp", "udp"] = "tcp"
    stall_s: float | None = None
    """Silence after which a connection counts as frozen; `None` learns it from the stream."""
    decoder: str = "software"
    """``software``, ``auto`` for any hardware that works here, or a device such as ``vaapi``."""
    skip_loop_filter: bool = False
    """Leave H.264's and HEVC's smoothing out: less work, slightly other pixels."""
    frame_threads: bool = True
    """Whether a file's pictures may be decoded side by side, which brings each of them later."""
    user: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        shown = {**vars(self), "password": self.password and HIDDEN}
        return f"SourceOptions({', '.join(f'{k}={v!r}' for k, v in shown.items())})"


class Source(Protocol):
    """Where frames come from; iterate over it once, then close it."""

    name: str
    """What people see; never with a password."""
    arrivals: Arrivals
    due_s: float
    """`time.monotonic` until which a sign of life is promised: a frame, or an attempt's end."""

    @property
    def live(self) -> bool:
        """Live: who reads it drops the oldest. Otherwise it waits to be read."""

    @property
    def truncated(self) -> bool:
        """True once it is known that frames which were promised cannot be had."""

    def __iter__(self) -> Iterator[Captured]:
        """Give frames in order of presentation; a live source ends only after `stop`."""

    def stop(self) -> None:
        """Ask for the end, from any thread; returns at once, and the iteration ends soon."""

    def close(self) -> None:
        """Let go of everything, once the iteration has ended."""

    def status(self) -> dict[str, Any]:
        """Say how it is, as plain data: ``state``, ``reason``, ``detail``, ``reconnects``, ..."""


def open_source(name: str, options: SourceOptions, say: Say) -> Source:
    """Open the source ``name``; ``say`` gets one line when the state of a live one changes.

    Raises `BadInput` for a name that is wrong and for a file that cannot be read. A live source
    raises nothing because of what is at its other end: that is reported and tried again.
    """
    source: Source = registry.load("source", kind(name))(name, options, say)
    return source


def kind(name: str) -> str:
    """The registry's name of the source that reads ``name``."""
    if name.startswith("/dev/video"):
        return "v4l2"
    scheme, colon, _ = name.partition(":")
    if colon and registry.has("source", scheme):
        return scheme
    if "://" in name:
        registry.row("source", scheme)  # raises: a URL of a kind that is not read
    return "file"


def is_live(name: str) -> bool:
    """Whether ``name`` is a camera's, which never waits and never ends by itself."""
    return kind(name) != "file"


def without_secrets(url: str) -> str:
    """``url`` as people may see it: no user, no password, no key in its query."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    if ":" in host:  # maybe a password, which ends at the very last @: it may hold anything
        rest = rest.rpartition("@")[2]
    elif "@" in host:
        rest = rest[host.rindex("@") + 1 :]
    path, asked, query = rest.partition("#")[0].partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    if any(SECRET_KEYS.search(key) for key, _ in pairs):
        shown = [(key, HIDDEN if SECRET_KEYS.search(key) else value) for key, value in pairs]
        query = urlencode(shown, safe="*")
    path = _SECRET_IN_PATH.sub(rf"\1{HIDDEN}", path)
    return f"{scheme}{mark}{path}{asked}{query}"


def with_secrets(url: str, user: str | None, password: str | None) -> str:
    """``url`` with user and password in it, percent-encoded; those that it has are kept."""
    if user is None and password is None:
        return url
    parts = urlsplit(url)
    known, _, host = parts.netloc.rpartition("@")
    known_user, _, known_password = known.partition(":")
    user = unquote(known_user) if user is None else user
    password = unquote(known_password) if password is None else password
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit((parts.scheme, f"{login}@{host}", parts.path, parts.query, parts.fragment))
