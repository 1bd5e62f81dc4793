"""A conversation with the agent on a device: requests and answers over one SSH session.

The agent is sent with the first words of the session and needs nothing but the device's python3.
Requests are one line of JSON, optionally followed by raw bytes; so are answers.
"""

from __future__ import annotations

import json
import shlex
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, NoReturn

from edgevid.errors import BadInput, CheckFailed, DeviceFailed, EdgevidError
from edgevid.remote import Remote, SshSession

MARK = "edgevid-agent"
"""What stands alone on the first line of the answer; what login scripts print is before it."""

BOOT = (
    f'import sys,zlib;print("\\n{MARK}",flush=True);'
    "n=int(sys.stdin.buffer.readline());"
    'exec(compile(zlib.decompress(sys.stdin.buffer.read(n)),"agent","exec"))'
)
# The device's login shell may be any; sh is everywhere. With root's rights where they can be had
# without a password and are needed: to own a folder that the user may not write to.
_START = """
command -v python3 >/dev/null || { echo python3 is not there >&2; exit 127; }
may() { d=$1; while [ ! -e "$d" ]; do d=$(dirname "$d"); done; [ -w "$d" ]; }
if [ "$(id -u)" != 0 ] && ! { [ -n "$2" ] && may "$2"; } && sudo -n true 2>/dev/null
then exec sudo -n python3 -I -c "$1"
fi
exec python3 -I -c "$1"
"""
_SILENCE_S = 120.0
_NOISE_LINES = 1000

Payload = bytes | Iterable[bytes]
Notice = Callable[[Mapping[str, Any]], None]


def agent_source() -> bytes:
    """Give the agent's program, the same text that lies in every release."""
    text: str | bytes = import_module("edgevid.flash.agent").source()
    return text if isinstance(text, bytes) else text.encode()


class AgentClient:
    """A session with the agent; opened at the first call, and again after it was lost.

    ``root`` is edgevid's folder on the device, None the usual one. ``source`` is the agent's
    program. Not for several threads.
    """

    def __init__(
        self, remote: Remote, root: str | None = None, *, source: bytes | None = None
    ) -> None:
        self.remote, self.root = remote, root
        self.name = str(remote.address)
        """How people call it."""
        self._source = source
        self._session: SshSession | None = None
        self._earlier_bytes = 0
        self._early: deque[dict[str, Any]] = deque()  # frames that came while a payload was sent

    @property
    def wire_bytes(self) -> int:
        """What was sent and received so far, in the SSH sessions, without SSH's own overhead."""
        now = self._session
        return self._earlier_bytes + (now.sent_bytes + now.received_bytes if now else 0)

    def call(
        self,
        request: Mapping[str, Any],
        payload: Payload | None = None,
        *,
        notice: Notice | None = None,
        silence_s: float = _SILENCE_S,
    ) -> dict[str, Any]:
        """Ask, and give the answer; ``notice`` hears what the agent reports on the way.

        Raises what `raise_fault` makes of an error, or `DeviceFailed` where the session is lost.
        """
        self.post(request, payload, silence_s=silence_s)
        return self.answer(notice=notice, silence_s=silence_s)

    def post(
        self,
        request: Mapping[str, Any],
        payload: Payload | None = None,
        *,
        silence_s: float = _SILENCE_S,
    ) -> None:
        """Ask without waiting for the answer; every post needs its `answer`, in this order."""
        with self._loss():
            session = self._opened(silence_s)
            place = {} if self.root is None else {"root": self.root}
            session.write(json.dumps({**place, **request}).encode() + b"\n", silence_s)
        for chunk in _chunks(payload):
            with self._loss():
                session.write(chunk, silence_s)
                if session.waiting():
                    self._early.append(self._frame(silence_s))
            if self._early and "error" in self._early[-1]:
                fault = self._early[-1]["error"]
                self.close()  # the rest of the payload will not come
                raise_fault(self.name, fault)

    def answer(
        self, *, notice: Notice | None = None, silence_s: float = _SILENCE_S
    ) -> dict[str, Any]:
        """Wait for the answer to the oldest post."""
        while True:
            with self._loss():
                frame = self._early.popleft() if self._early else self._frame(silence_s)
            if "error" in frame:
                raise_fault(self.name, frame["error"])
            if "ok" in frame:
                return frame
            if notice is not None:
                notice(frame)

    def answered(self) -> bool:
        """Whether something of an answer is there already."""
        return bool(self._early) or (self._session is not None and self._session.waiting())

    def close(self) -> None:
        """End the session; the agent ends with it and lets go of its lock."""
        if self._session is not None:
            self._session.close()
            self._earlier_bytes = self.wire_bytes
            self._session = None
            self._early.clear()

    def __enter__(self) -> AgentClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _loss(self) -> Iterator[None]:
        """Where the session ends: what the agent said last counts for more than how it ended."""
        session = self._session
        try:
            yield
        except DeviceFailed:
            session = session or self._session
            last = session.leftover() if session is not None else []
            self.close()
            for line in last:
                with suppress(ValueError):
                    frame = json.loads(line)
                    if isinstance(frame, dict) and isinstance(frame.get("error"), dict):
                        raise_fault(self.name, frame["error"])
            raise

    def _opened(self, silence_s: float) -> SshSession:
        if self._session is None:
            self._early.clear()
            command = shlex.join(["sh", "-c", _START, "edgevid", BOOT, self.root or ""])
            self._session = self.remote.open(f"exec {command}")
            sent = zlib.compress(self._source or agent_source(), 9)
            self._session.write(b"%d\n%s" % (len(sent), sent), silence_s)
            self._pass_noise(self._session)
        return self._session

    def _pass_noise(self, session: SshSession) -> None:
        """Pass over what the device's login scripts print."""
        patience_s = self.remote.timeout_s * 2 + 10  # to connect, to log in, to start Python
        for _ in range(_NOISE_LINES):
            if session.readline(patience_s).strip() == MARK.encode():
                return
        raise DeviceFailed(f"{self.name}: its login scripts print without end", "protocol")

    def _frame(self, silence_s: float) -> dict[str, Any]:
        assert self._session is not None
        line = self._session.readline(silence_s)
        try:
            frame = json.loads(line)
        except ValueError:
            frame = None
        if not isinstance(frame, dict):
            said = line[:80].decode(errors="replace").strip()
            raise DeviceFailed(f"{self.name}: said {said!r}, which is no answer", "protocol")
        return frame


def _chunks(payload: Payload | None) -> Iterator[bytes]:
    if payload is None:
        return
    if isinstance(payload, bytes):
        yield payload
    else:
        yield from payload


# Kinds of fault for which the person must give something else; all others are the device's.
WRONG_USE = frozenset(
    {
        "architecture",
        "python",
        "glibc",
        "signature",
        "key",
        "downgrade",
        "manifest",
        "hash",
        "use",
        "root",
        "package",
    }
)
GATES = frozenset({"health", "rolled-back"})


def raise_fault(name: str, fault: Mapping[str, Any]) -> NoReturn:
    """Raise the agent's error as this side's: its exit code follows from its kind."""
    kind, message, fix = (str(fault.get(key, "")) for key in ("kind", "message", "fix"))
    text = f"{name}: {message}{f'; {fix}' if fix else ''}"
    error: EdgevidError
    if kind in GATES:
        error = CheckFailed(text)
    elif kind in WRONG_USE:
        error = BadInput(text)
    else:
        error = DeviceFailed(text, kind or "device")
    raise error
