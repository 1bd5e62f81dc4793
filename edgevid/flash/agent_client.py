"""The client of the agent on a device: requests and replies over one SSH session.

The agent is sent when the session begins, and needs nothing but the device's python3. A request is
one line of JSON, optionally followed by raw bytes; a reply is one line of JSON.
"""

from __future__ import annotations

import json
import shlex
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, NoReturn, TypeVar

from edgevid.errors import BadInput, CheckFailed, DeviceFailed, EdgevidError
from edgevid.flash import replies
from edgevid.flash.agent import locked
from edgevid.flash.agent.fault_kinds import GATES, WRONG_USE
from edgevid.flash.keys import SigningKey, own_key
from edgevid.flash.replies import PROBE, AgentFault, LockedGreeting, ProbeReply, Verb
from edgevid.flash.signed_request import sign_request
from edgevid.remote import Remote, SshSession
from edgevid.remote.ssh import KINDS

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
_NOISE_BYTES = 1 << 20

Payload = bytes | Iterable[bytes]
Notice = Callable[[str], None]
Reply = TypeVar("Reply")


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
        key: Gives the key that signs requests, for a device that wants them signed; None: the one
            that edgevid made for this user.
        pin: The change to that key, signed by the one that the device trusts so far.
    """

    def __init__(
        self,
        remote: Remote,
        root: str | None = None,
        *,
        source: bytes | None = None,
        key: Callable[[], SigningKey] | None = None,
        pin: Mapping[str, str] | None = None,
    ) -> None:
        self.remote, self.root = remote, root
        self.name = str(remote.address)
        """The device's name in messages."""
        self._source = source
        self._key, self._pin = key or (lambda: own_key()[0]), pin
        self._session: SshSession | None = None
        self._is_locked = False
        self._challenge: tuple[str, str] | None = None  # the device's id, and the session's nonce
        self._signed = 0
        self._earlier_bytes = 0
        self._early: deque[dict[str, Any]] = deque()  # frames that arrived while a payload was sent
        self._waiting = 0  # number of pending replies
        self._left_bytes = 0  # that they may still contain
        self._silence_s = _SILENCE_S

    @property
    def wire_bytes(self) -> int:
        """The bytes sent and received so far, without SSH's own overhead."""
        now = self._session
        return self._earlier_bytes + (now.sent_bytes + now.received_bytes if now else 0)

    def call(
        self,
        verb: Verb[Reply],
        fields: Mapping[str, Any] | None = None,
        *,
        notice: Notice | None = None,
        seconds: float | None = None,
    ) -> Reply:
        """Send a request, and wait for the reply.

        Args:
            verb: The request.
            fields: Its fields; `edgevid.flash.agent` lists them.
            notice: Receives the agent's lines of progress.
            seconds: How long the whole reply may take; None: as the verb says.

        Returns:
            The reply.

        Raises:
            BadInput: The device refuses the request.
            CheckFailed: A release is not healthy.
            DeviceFailed: The link or the device fails, or its reply cannot be read.
        """
        self.post(verb, fields or {})
        return self.reply(verb, notice=notice, seconds=seconds)

    def post(
        self, verb: Verb[Any], fields: Mapping[str, Any], payload: Payload | None = None
    ) -> None:
        """Send a request without waiting; every post needs its `reply`, in the same order.

        Args:
            verb: The request.
            fields: Its fields.
            payload: Raw bytes that follow it.

        Raises:
            DeviceFailed: The link is lost.
        """
        request = {"root": self.root, "do": verb.name, **fields}
        if self.root is None:
            del request["root"]
        with self._loss():
            session = self._opened()
        line = json.dumps(self._signed_if_due(request)).encode() + b"\n"
        with self._loss():
            session.write(line, self._silence_s)
        self._waiting += 1
        self._left_bytes += verb.most_bytes
        for chunk in _chunks(payload):
            with self._loss():
                session.write(chunk, self._silence_s)
                if session.waiting():
                    self._early.append(self._frame(time.monotonic() + verb.seconds))
            if self._early and "error" in self._early[-1]:
                fault = self._early[-1]["error"]
                self.close()  # the rest of the payload will not come
                raise_fault(self.name, replies.read(AgentFault, fault, self.name))

    def reply(
        self,
        verb: Verb[Reply],
        *,
        notice: Notice | None = None,
        seconds: float | None = None,
    ) -> Reply:
        """Wait for the reply to the oldest post.

        Raises:
            BadInput: The device refuses the request.
            CheckFailed: A release is not healthy.
            DeviceFailed: The link or the device fails, or its reply cannot be read.
        """
        until = time.monotonic() + (verb.seconds if seconds is None else seconds)
        while True:
            with self._loss():
                frame = self._early.popleft() if self._early else self._frame(until)
            if "error" in frame or "ok" in frame:
                self._waiting -= 1
                self._left_bytes = self._left_bytes if self._waiting else 0
            if "error" in frame:
                raise_fault(self.name, replies.read(AgentFault, frame["error"], self.name))
            if "ok" in frame:
                found = replies.read(verb.record, frame, self.name)
                if isinstance(found, ProbeReply) and self._challenge is None:
                    self._challenge = (found.installed.device, found.nonce)
                return found
            if notice is not None and isinstance(frame.get("at"), str):
                notice(frame["at"])

    def replied(self) -> bool:
        """Whether a part of a reply has arrived."""
        return bool(self._early) or (self._session is not None and self._session.waiting())

    def close(self) -> None:
        """End the session; the agent ends with it, which releases its lock."""
        if self._session is not None:
            self._session.close()
            self._earlier_bytes = self.wire_bytes
            self._session = None
            self._forget()

    def _forget(self) -> None:
        """Discard the state of pending replies."""
        self._early.clear()
        self._waiting = self._left_bytes = 0

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
            fault = self._last_fault(last)
            if fault is not None:
                raise_fault(self.name, fault)
            raise

    def _last_fault(self, lines: list[bytes]) -> AgentFault | None:
        for line in lines:
            with suppress(DeviceFailed):
                error = replies.frame(line, self.name).get("error")
                if error is not None:
                    return replies.read(AgentFault, error, self.name)
        return None

    def _signed_if_due(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sign a request that the agent only carries out when it is signed."""
        do = request["do"]
        unsigned = {*locked.UNSIGNED, "blob"} if self._is_locked else set()
        if do in unsigned or not (self._is_locked or do in locked.SIGNED):
            return request
        if self._challenge is None:
            self.call(PROBE)
        device, nonce = self._challenge or ("", "")
        nonce = f"{nonce}-{self._signed}"
        self._signed += 1
        signed = sign_request(request, self._key(), device, nonce, self._pin)
        # The payload's length is outside, for the transport; its hash is signed.
        return {**signed, "bytes": request["bytes"]} if "bytes" in request else signed

    def _opened(self) -> SshSession:
        if self._session is None:
            self._forget()
            command = shlex.join(["sh", "-c", _START, "edgevid", BOOT, self.root or ""])
            self._session = self.remote.open(command)
            self._is_locked, self._challenge, self._signed = False, None, 0
            greeting = self._greeting(self._session)
            if greeting == MARK:
                sent = zlib.compress(self._source or agent_source(), 9)
                self._session.write(b"%d\n%s" % (len(sent), sent), self._silence_s)
            else:
                self._meet_locked(greeting)
        return self._session

    def _greeting(self, session: SshSession) -> str:
        """The line after which an agent answers; what login scripts print before is skipped."""
        limit_s = self.remote.timeout_s * 2 + 10  # to connect, to log in, to start Python
        until, left = time.monotonic() + 3 * limit_s, _NOISE_BYTES
        for _ in range(_NOISE_LINES):
            line = session.readline(limit_s, left, until)
            text = line.strip().decode(errors="replace")
            if text == MARK or text.startswith(f"{locked.MARK} "):
                return text
            left -= len(line)
        raise DeviceFailed(
            f"{self.name}: its login scripts do not stop printing; silence them for ssh", "protocol"
        )

    def _meet_locked(self, greeting: str) -> None:
        """Start a session with the installed agent, the only one that this login can run."""
        try:
            said = replies.frame(greeting.partition(" ")[2].encode(), self.name)
            met = replies.read(LockedGreeting, said, self.name)
        except DeviceFailed:
            self.close()
            raise
        if met.protocol != locked.PROTOCOL:
            self.close()
            raise DeviceFailed(
                f"{self.name}: its login only runs the agent installed there, which speaks "
                f"protocol {met.protocol}, not {locked.PROTOCOL}; use the version of edgevid that "
                "was deployed to it",
                "protocol",
            )
        self._is_locked, self._challenge = True, (met.device, met.nonce)

    def _frame(self, until: float) -> dict[str, Any]:
        assert self._session is not None
        line = self._session.readline(self._silence_s, self._left_bytes, until)
        self._left_bytes -= len(line)
        return replies.frame(line, self.name)


def _chunks(payload: Payload | None) -> Iterator[bytes]:
    if payload is None:
        return
    if isinstance(payload, bytes):
        yield payload
    else:
        yield from payload


def raise_fault(name: str, fault: AgentFault) -> NoReturn:
    """Raise the agent's error here; its remedy is marked as the device's, since it is untrusted.

    Raises:
        BadInput: The user must change something.
        CheckFailed: A release is not healthy.
        DeviceFailed: Anything else.
    """
    text = f"{name}: {fault.message}{f'; the device says: {fault.fix}' if fault.fix else ''}"
    error: EdgevidError
    if fault.kind in GATES:
        error = CheckFailed(text)
    elif fault.kind in WRONG_USE:
        error = BadInput(text)
    else:  # a device cannot claim that the link was lost
        error = DeviceFailed(text, "device" if fault.kind in KINDS else fault.kind or "device")
    raise error
