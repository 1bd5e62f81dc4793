"""Lines of JSON between the client and the agent, and the exception for a refusal."""

from __future__ import annotations

import errno
import json
import signal
from collections.abc import Iterator
from typing import Any, BinaryIO

CHUNK = 1 << 16
LINE_LIMIT = 16 << 20
SAME_EDGEVID = "use the same version of edgevid on both sides"


class Refused(Exception):
    """What the agent refuses: one line that says what is wrong, and one with the remedy."""

    def __init__(self, kind: str, message: str, fix: str) -> None:
        super().__init__(f"{message}; {fix}")
        self.kind, self.message, self.fix = kind, message, fix

    def to_json(self) -> dict[str, str]:
        """Return the frame's ``error``."""
        return {"kind": self.kind, "message": self.message, "fix": self.fix}


_NUMBERS = {
    errno.ENOSPC: ("disk", "the disk is full", "make room, and flash again"),
    errno.EDQUOT: ("disk", "the quota of the disk is used up", "make room, and flash again"),
    errno.EROFS: ("readonly", "the disk is read-only", "mount it writable, or give another --root"),
    errno.EACCES: ("permission", "no permission", "use sudo without password, or another --root"),
    errno.EPERM: ("permission", "not permitted", "use sudo without password, or another --root"),
    errno.EIO: ("damaged", "the disk is faulty", "replace the card or disk"),
}


def from_os(error: OSError) -> Refused:
    """Turn a system error into one line and a remedy."""
    said = error.strerror or str(error)
    kind, message, fix = _NUMBERS.get(
        error.errno or 0, ("device", f"the device failed: {said}", "check the device")
    )
    where = f" ({error.filename})" if error.filename else ""
    return Refused(kind, message + where, fix)


class ClientGone(Exception):
    """The client has gone."""


class Transport:
    """The two streams of one session."""

    def __init__(self, reading: Any, writing: BinaryIO) -> None:
        self._reading, self._writing = reading, writing
        self._left = 0
        self.silence_s = 0
        """How long the client may be silent when it is its turn; then this process ends. A link may
        be lost without notice, and the lock is held until then. 0: forever."""

    def request(self) -> dict[str, Any] | None:
        """Read the next request.

        Returns:
            The request; None at the end.

        Raises:
            Refused: It cannot be parsed.
        """
        for _ in self.payload():  # the unread rest of the last one
            pass
        signal.alarm(self.silence_s)
        line = self._reading.readline(LINE_LIMIT)
        signal.alarm(0)
        if not line.endswith(b"\n"):
            return None
        try:
            request = json.loads(line.decode())
        except ValueError:
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("do"), str):
            raise Refused("protocol", "a request cannot be read", SAME_EDGEVID)
        count = request.get("bytes", 0)
        self._left = count if isinstance(count, int) and count > 0 else 0
        return request

    def payload(self) -> Iterator[bytes]:
        """Read the bytes that follow the request.

        Yields:
            The next part.

        Raises:
            ClientGone: The bytes break off.
        """
        while self._left:
            signal.alarm(self.silence_s)
            chunk = self._reading.read1(min(CHUNK, self._left))
            signal.alarm(0)
            if not chunk:
                raise ClientGone()
            self._left -= len(chunk)
            yield chunk

    def send(self, frame: dict[str, Any]) -> None:
        """Send one line.

        Args:
            frame: What to send.

        Raises:
            ClientGone: The client has gone.
        """
        try:
            self._writing.write(json.dumps(frame).encode() + b"\n")
            self._writing.flush()
        except (BrokenPipeError, ConnectionError):
            raise ClientGone() from None


def inner(outer: dict[str, Any]) -> dict[str, Any]:
    """The request, unwrapped if it is signed; the signature is not checked here.

    Raises:
        Refused: It cannot be read.
    """
    if outer["do"] != "signed":
        return outer
    try:
        request = json.loads(outer["request"])
        if isinstance(request["do"], str):
            return dict(request)
    except (ValueError, KeyError, TypeError):
        pass
    raise Refused("protocol", "a signed request cannot be read", SAME_EDGEVID)
