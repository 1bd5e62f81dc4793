"""The client of the agent on a device: requests and replies over one SSH session.

The agent is sent when the session begins, and needs nothing but the device's python3. A request is
one line of JSON, optionally followed by raw bytes; a reply is one line of JSON.
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
"""The line after which the agent's replies begin; login scripts may print before it."""

BOOT = (
    f'import sys,zlib;print("\\n{MARK}",flush=True);'
    "n=int(sys.stdin.buffer.readline());"
    'exec(compile(zlib.decompress(sys.stdin.buffer.read(n)),"agent","exec"))'
)
# Every device has sh, whatever its login shell is. It is one line, because csh takes no line end
# within quotes; nor may a "!" in it stand before anything but a space or "=". The agent runs as
# root if that needs no password and the user may not write to the folder.
_START = (
    "command -v python3 >/dev/null || { echo python3 is not installed >&2; exit 127; }; "
    'may() { d=$1; while [ ! -e "$d" ]; do d=$(dirname "$d"); done; [ -w "$d" ]; }; '
    'if [ "$(id -u)" != 0 ] && ! { [ -n "$2" ] && may "$2"; } && sudo -n true 2>/dev/null; '
    'then exec sudo -n python3 -I -c "$1"; fi; exec python3 -I -c "$1"'
)
_SILENCE_S = 120.0
_NOISE_LINES = 1000

Payload = bytes | Iterable[bytes]
Notice = Callable[[Mapping[str, Any]], None]


def agent_source() -> bytes:
    """Return the agent's program, which is also a part of every release."""
    text: str | bytes = import_module("edgevid.flash.agent").source()
    return text if isinstance(text, bytes) else text.encode()


class AgentClient:
    """A session with the agent, opened by the first call, and again after the link was lost.

    Not for several threads.

    Args:
        remote: The device.
        root: edgevid's folder on the device; None: the usual one.
        source: The agent's program; None: this edgevid's.
    """

    def __init__(
        self, remote: Remote, root: str | None = None, *, source: bytes | None = None
    ) -> None:
        self.remote, self.root = remote, root
        self.name = str(remote.address)
        """The device's name in messages."""
        self._source = source
        self._session: SshSession | None = None
        self._earlier_bytes = 0
        self._early: deque[dict[str, Any]] = deque()  # frames that arrived while a payload was sent

    @property
    def wire_bytes(self) -> int:
        """The bytes sent and received so far, without SSH's own overhead."""
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
        """Send a request, and wait for the reply.

        Args:
            request: The request; `edgevid.flash.agent` lists them.
            payload: Raw bytes that follow it.
            notice: Receives the agent's lines of progress.
            silence_s: How long the device may be silent.

        Returns:
            The reply.

        Raises:
            BadInput: The device refuses the request.
            CheckFailed: A release is not healthy.
            DeviceFailed: The link or the device fails.
        """
        self.post(request, payload, silence_s=silence_s)
        return self.reply(notice=notice, silence_s=silence_s)

    def post(
        self,
        request: Mapping[str, Any],
        payload: Payload | None = None,
        *,
        silence_s: float = _SILENCE_S,
    ) -> None:
        """Send a request without waiting; every post needs its `reply`, in the same order.

        Raises:
            DeviceFailed: The link is lost.
        """
        with self._loss():
            session = self._opened(silence_s)
            root = {} if self.root is None else {"root": self.root}
            session.write(json.dumps({**root, **request}).encode() + b"\n", silence_s)
        for chunk in _chunks(payload):
            with self._loss():
                session.write(chunk, silence_s)
                if session.waiting():
                    self._early.append(self._frame(silence_s))
            if self._early and "error" in self._early[-1]:
                fault = self._early[-1]["error"]
                self.close()  # the rest of the payload will not come
                raise_fault(self.name, fault)

    def reply(
        self, *, notice: Notice | None = None, silence_s: float = _SILENCE_S
    ) -> dict[str, Any]:
        """Wait for the reply to the oldest post.

        Raises:
            BadInput: The device refuses the request.
            CheckFailed: A release is not healthy.
            DeviceFailed: The link or the device fails.
        """
        while True:
            with self._loss():
                frame = self._early.popleft() if self._early else self._frame(silence_s)
            if "error" in frame:
                raise_fault(self.name, frame["error"])
            if "ok" in frame:
                return frame
            if notice is not None:
                notice(frame)

    def replied(self) -> bool:
        """Whether a part of a reply has arrived."""
        return bool(self._early) or (self._session is not None and self._session.waiting())

    def close(self) -> None:
        """End the session; the agent ends with it, which releases its lock."""
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
        """If the session ends, raise the agent's last error rather than the lost link."""
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
            self._session = self.remote.open(command)
            sent = zlib.compress(self._source or agent_source(), 9)
            self._session.write(b"%d\n%s" % (len(sent), sent), silence_s)
            self._pass_noise(self._session)
        return self._session

    def _pass_noise(self, session: SshSession) -> None:
        """Skip what the device's login scripts print."""
        limit_s = self.remote.timeout_s * 2 + 10  # to connect, to log in, to start Python
        for _ in range(_NOISE_LINES):
            if session.readline(limit_s).strip() == MARK.encode():
                return
        raise DeviceFailed(
            f"{self.name}: its login scripts do not stop printing; silence them for ssh", "protocol"
        )

    def _frame(self, silence_s: float) -> dict[str, Any]:
        assert self._session is not None
        line = self._session.readline(silence_s)
        try:
            frame = json.loads(line)
        except ValueError:
            frame = None
        if not isinstance(frame, dict):
            text = line[:80].decode(errors="replace").strip()
            raise DeviceFailed(f"{self.name}: {text!r} is not a reply; try again", "protocol")
        return frame


def _chunks(payload: Payload | None) -> Iterator[bytes]:
    if payload is None:
        return
    if isinstance(payload, bytes):
        yield payload
    else:
        yield from payload


# Kinds of error that are the user's to fix; all others are the device's.
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
    """Raise the agent's error here.

    Raises:
        BadInput: The user must change something.
        CheckFailed: A release is not healthy.
        DeviceFailed: Anything else.
    """
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
