"""Why a stream cannot be read at the moment, as fixed reason codes."""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import Any

from edgevid.media.ffmpeg import why_not_opened


class Reason(StrEnum):
    """Why a source that reconnects has no frames."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    AUTH = "auth"
    CERTIFICATE = "certificate"
    NOT_FOUND = "not-found"
    CODEC = "codec"
    TIME_OUT = "time-out"
    ENDED = "ended"


class Unavailable(Exception):
    """A failed attempt to read a stream. It never leaves the source, which tries again.

    Attributes:
        reason: The reason code.
        detail: One line for people, without secrets.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


REASONS = {
    errno.ECONNREFUSED: Reason.REFUSED,
    errno.EBUSY: Reason.REFUSED,
    errno.EHOSTUNREACH: Reason.UNREACHABLE,
    errno.ENETUNREACH: Reason.UNREACHABLE,
    errno.ENETDOWN: Reason.UNREACHABLE,
    errno.EIO: Reason.UNREACHABLE,
    errno.EACCES: Reason.AUTH,
    errno.EPERM: Reason.AUTH,
    errno.ENOENT: Reason.NOT_FOUND,
    errno.ENODEV: Reason.NOT_FOUND,
    errno.ENXIO: Reason.NOT_FOUND,
    errno.ETIMEDOUT: Reason.TIME_OUT,
    errno.EINVAL: Reason.CODEC,
}
"""Error number -> reason."""

NAMED_REASONS = {
    "HTTPUnauthorizedError": Reason.AUTH,
    "HTTPForbiddenError": Reason.AUTH,
    "HTTPNotFoundError": Reason.NOT_FOUND,
    "HTTPClientError": Reason.NOT_FOUND,
    "HTTPError": Reason.REFUSED,
    "ExitError": Reason.TIME_OUT,
    "InvalidDataError": Reason.CODEC,
    "LookupError": Reason.CODEC,
    "PatchWelcomeError": Reason.CODEC,
}
"""Name of a PyAV error class -> reason."""

CHECK = {
    Reason.AUTH: "they belong in front of the host, as in USER:PASSWORD@HOST",
    Reason.CERTIFICATE: "or accept it with --tls-insecure",
    Reason.NOT_FOUND: "check the address",
    Reason.CODEC: "open the address in a browser to see what it gives",
    Reason.UNREACHABLE: "check the host's name and the network",
    Reason.REFUSED: "check the port, and whether the server runs",
    Reason.TIME_OUT: "check the host, the port and the network",
    Reason.ENDED: "check the server",
}
"""What people can do if the URL of a file gives nothing."""
ADVICE = {Reason.AUTH: "check user and password", Reason.CODEC: "FFmpeg cannot read what it sends"}


def unavailable(error: Any, *, opening: bool) -> Unavailable:
    """Translate an FFmpeg error.

    Args:
        error: An `av.FFmpegError`. Its own text is left out because it contains the whole URL.
        opening: Whether the stream was being opened; otherwise it was open and broke.

    Returns:
        The error to raise in its place.
    """
    named = (NAMED_REASONS.get(kind.__name__) for kind in type(error).__mro__)
    reason = next((found for found in named if found), None) or REASONS.get(error.errno)
    if reason is Reason.TIME_OUT:
        return Unavailable(reason, "it stopped answering")
    if not opening or reason is None:
        return Unavailable(Reason.ENDED, f"the connection broke ({error.strerror})")
    advice = ADVICE.get(reason)
    what = why_not_opened(error).partition(", but not one of")[0]
    return Unavailable(reason, f"{what}; {advice}" if advice else what)
