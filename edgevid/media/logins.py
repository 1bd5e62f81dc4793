"""Camera logins: sent only to the host they were given for, by the safest scheme it offers.

FFmpeg follows RTSP redirects to any host with the password, and uses whatever scheme the server
asks for. So edgevid asks a camera with a password first. This doesn't stop a server that answers
FFmpeg differently a moment later: over plain text it could have asked for the password anyway, and
over TLS it is the host that the password was given for.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

from edgevid.media.unavailable import Reason, Unavailable

MAX_HOPS = 5
ANSWER_S = 10.0
"""Time limit, in seconds, for a whole reply or a TLS handshake, however slowly bytes arrive."""
CONTENT_S = 60.0
Connect = Callable[[], socket.socket]
MOST_BYTES = 64 << 10
_STATUS = re.compile(rb"RTSP/1\.\d (\d{3})")
BASIC = "asks for the password in plain text; use rtsps:// or https://, or set the camera to Digest"


@dataclass
class ServerReply:
    """A server's reply.

    Attributes:
        status: Its code.
        location: Where it redirects to; empty if it doesn't.
        challenges: Its ``WWW-Authenticate`` headers, the schemes in lower case.
    """

    status: int
    location: str = ""
    challenges: tuple[tuple[str, str], ...] = ()

    @property
    def schemes(self) -> set[str]:
        """The names of the schemes that it offers."""
        return {scheme for scheme, _ in self.challenges}


@contextmanager
def deadline(peer: socket.socket, seconds: float) -> Iterator[None]:
    """Shut a connection down after some time; the socket's own timeout only limits silence."""

    def end() -> None:
        with suppress(OSError):
            socket.socket.shutdown(peer, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def answering() -> Iterator[None]:
    """Turn errors of a connection into `Unavailable`.

    Raises:
        Unavailable: The connection fails.
    """
    try:
        yield
    except TimeoutError:
        raise Unavailable(Reason.TIME_OUT, "it stopped answering") from None
    except OSError as error:
        raise Unavailable(Reason.ENDED, f"the connection broke ({error.strerror})") from None


def same_host(one: str, other: str) -> bool:
    """Whether a password for one URL may be used for another: host and port are the same.

    An upgrade from plain text to TLS on the same host counts as the same; the reverse never does.
    """
    a, b = urlsplit(one), urlsplit(other)
    if a.hostname != b.hostname or _secure(a) > _secure(b):
        return False
    return _port(a) == _port(b) or (not _secure(a) and _secure(b))


def moved(url: str, location: str) -> str:
    """Return the URL after a redirect; user and password are dropped for another host.

    Args:
        url: The URL, which may contain user and password.
        location: Where the server redirects to.

    Raises:
        Unavailable: It leads to another kind of server, or out of TLS.
    """
    try:
        before, after = urlsplit(url), urlsplit(urljoin(_bare(urlsplit(url)), location))
        kind = before.scheme.rstrip("s")
        if after.scheme not in (kind, f"{kind}s") or not after.hostname:
            raise Unavailable(Reason.REFUSED, "redirects to another kind of server; give its URL")
        if _secure(before) and not _secure(after):
            raise Unavailable(Reason.REFUSED, "redirects out of TLS; give the URL to use")
        target, _ = _bare(after), after.port  # .port raises if it is invalid
        login = before.netloc.rpartition("@")[0]
        if not login or not same_host(url, target):
            return target
        return urlunsplit(after._replace(netloc=f"{login}@{urlsplit(target).netloc}"))
    except ValueError:
        raise Unavailable(Reason.REFUSED, "redirects to an invalid URL") from None


def _bare(parts: SplitResult) -> str:
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _secure(parts: SplitResult) -> bool:
    return parts.scheme in ("https", "rtsps")


def _port(parts: SplitResult) -> int:
    return parts.port or {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}[parts.scheme]


def login_of(url: str) -> tuple[str, str] | None:
    """User and password of a URL; None if it has none."""
    user, mark, _ = urlsplit(url).netloc.rpartition("@")
    if not mark:
        return None
    name, _, password = user.partition(":")
    return unquote(name), unquote(password)


class RtspClient:
    """Sends RTSP requests on an open connection."""

    def __init__(self, peer: socket.socket, early: bytes = b"") -> None:
        """Take over a connection.

        Args:
            peer: The connection.
            early: What has arrived already of the reply to a first OPTIONS.
        """
        self._peer, self._left, self._number = peer, early, 1
        self._is_owed = bool(early)

    def request(self, method: str, url: str, authorization: str = "") -> ServerReply:
        """Send a request without a body.

        Args:
            method: ``OPTIONS`` or ``DESCRIBE``.
            url: The URL without user and password.
            authorization: The header's value; empty: none.

        Returns:
            What the server answered.

        Raises:
            OSError: The connection fails.
            Unavailable: It answers something else.
        """
        if self._is_owed:
            self._is_owed, self._number = False, self._number + 1
            self._answer()
        lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self._number}", "User-Agent: edgevid"]
        lines += ["Accept: application/sdp"] if method == "DESCRIBE" else []
        lines += [f"Authorization: {authorization}"] if authorization else []
        self._number += 1
        self._peer.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return self._answer()

    def _answer(self) -> ServerReply:
        while b"\r\n\r\n" not in self._left:
            self._more()
        head, _, self._left = self._left.partition(b"\r\n\r\n")
        found = _STATUS.match(head)
        if found is None:
            raise Unavailable(Reason.CODEC, "the peer is not an RTSP server")
        asked, length = ServerReply(int(found[1])), 0
        for line in head.decode(errors="replace").split("\r\n")[1:]:
            name, _, value = line.partition(":")
            name, value = name.strip().lower(), value.strip()
            if name == "location":
                asked.location = value
            elif name == "content-length" and value.isdecimal():
                length = int(value[:9])
            elif name == "www-authenticate":
                scheme, _, rest = value.partition(" ")
                asked.challenges += ((scheme.lower(), rest),)
        while len(self._left) < length:
            self._more()
        self._left = self._left[length:]
        return asked

    def _more(self) -> None:
        chunk = self._peer.recv(4096)
        if not chunk:
            raise Unavailable(Reason.ENDED, "the server closes the connection")
        self._left += chunk
        if len(self._left) > MOST_BYTES:
            raise Unavailable(Reason.CODEC, "the peer is not an RTSP server")


def ask_rtsp(talk: RtspClient, url: str, permit: Callable[[ServerReply], None]) -> ServerReply:
    """Ask an RTSP server for a stream.

    Args:
        talk: The connection.
        url: The URL, which may contain user and password.
        permit: Called with the server's reply before these are sent; raises if they must not be.

    Returns:
        What the server answered in the end.

    Raises:
        OSError: The connection fails.
        Unavailable: It answers something else.
    """
    target, login = _bare(urlsplit(url)), login_of(url)
    asked = talk.request("DESCRIBE", target)
    if asked.status != 401 or login is None:
        return asked
    permit(asked)
    header = authorization(asked, "DESCRIBE", target, login)
    return talk.request("DESCRIBE", target, header) if header else asked


def ask_http(
    connect: Connect, url: str, permit: Callable[[ServerReply], None], *, authorized: bool
) -> ServerReply:
    """Ask a web server for a stream; the answer's body is not read.

    Args:
        connect: Gives a new connection.
        url: The URL, which may contain user and password.
        permit: Called with the server's reply before it gets a password; raises if it must not.
        authorized: Whether to send them if the server asks for them.

    Returns:
        What the server answered.

    Raises:
        OSError: The connection fails.
        Unavailable: It answers something else.
    """
    return _talk(connect, url, permit, "", 0, authorized=authorized)[0]


def get(
    connect: Connect,
    url: str,
    permit: Callable[[ServerReply], None],
    byte_range: str,
    most_bytes: int,
) -> tuple[ServerReply, bytes]:
    """Fetch the content of a URL; as `ask_http`.

    Args:
        connect: Gives a new connection.
        url: The URL, which may contain user and password.
        permit: As for `ask_http`.
        byte_range: The value of the header Range; empty: all of it.
        most_bytes: How large it may be.

    Returns:
        What the server answered, and the content.

    Raises:
        OSError: The connection fails.
        Unavailable: The content is larger, or the server answers something else.
    """
    return _talk(connect, url, permit, byte_range, most_bytes, authorized=True)


def _talk(
    connect: Connect,
    url: str,
    permit: Callable[[ServerReply], None],
    byte_range: str,
    most_bytes: int,
    *,
    authorized: bool,
) -> tuple[ServerReply, bytes]:
    import http.client

    parts, login = urlsplit(url), login_of(url)
    path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    host = parts.netloc.rpartition("@")[2]
    headers = {"Host": host, "User-Agent": "edgevid", "Accept": "*/*"}
    if byte_range:
        headers["Range"] = byte_range
    try:
        asked, content = _get(connect, host, path, headers, most_bytes)
        if asked.status != 401 or login is None:
            return asked, content
        permit(asked)
        header = authorization(asked, "GET", path, login) if authorized else ""
        if not header:
            return asked, b""
        return _get(connect, host, path, {**headers, "Authorization": header}, most_bytes)
    except (http.client.HTTPException, ValueError):
        raise Unavailable(Reason.CODEC, "the peer is not a web server") from None


def _get(
    connect: Connect, host: str, path: str, headers: dict[str, str], most_bytes: int
) -> tuple[ServerReply, bytes]:
    import http.client

    connection = http.client.HTTPConnection(host)
    content = b""
    with connect() as connection.sock, deadline(connection.sock, CONTENT_S):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        if most_bytes and answer.status in (200, 206):
            content = answer.read(most_bytes + 1)
            if len(content) > most_bytes:
                raise Unavailable(Reason.CODEC, f"a reply has more than {most_bytes >> 20} MB")
    found = [value.partition(" ") for value in answer.headers.get_all("WWW-Authenticate") or ()]
    challenges = tuple((scheme.lower(), rest) for scheme, _, rest in found)
    return ServerReply(answer.status, answer.headers.get("Location") or "", challenges), content


def authorization(asked: ServerReply, method: str, target: str, login: tuple[str, str]) -> str:
    """Return the Authorization header that a server asks for.

    Args:
        asked: What the server wants.
        method: The method of the request.
        target: What is requested, without user and password.
        login: User and password.

    Returns:
        The header's value, Digest if that is offered; empty if nothing known is.
    """
    import urllib.request  # costs tens of milliseconds, which cameras without a password save

    by_scheme = dict(asked.challenges)
    if "digest" in by_scheme:
        parts = urllib.request.parse_http_list(by_scheme["digest"])
        try:
            challenge = urllib.request.parse_keqv_list(parts)
            known: Any = _Known(login)
            digest: Any = urllib.request.AbstractDigestAuthHandler(known)
            value = digest.get_authorization(_Request(method, target), challenge)
        except (ValueError, IndexError, KeyError, AttributeError):
            return ""
        return f"Digest {value}" if value else ""
    if "basic" in by_scheme:
        import base64

        return "Basic " + base64.b64encode(":".join(login).encode()).decode()
    return ""


class _Known:
    """A password manager for urllib with one login; the host was checked before."""

    def __init__(self, login: tuple[str, str]) -> None:
        self._login = login

    def add_password(self, *_: Any) -> None:
        """Do nothing: the login is fixed."""

    def find_user_password(self, realm: Any, authuri: Any) -> Any:
        return self._login


class _Request:
    """The parts of urllib's request that computing a Digest needs."""

    data = None

    def __init__(self, method: str, target: str) -> None:
        self._method, self.full_url, self.selector = method, target, target

    def get_method(self) -> str:
        return self._method
