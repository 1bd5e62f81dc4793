"""Cameras on a network: ``rtsp://``, ``rtsps://``, ``http://``, ``https://``.

A stream over HTTP with a duration or a length is a file and ends; every other stream is live. A URL
that gives a single picture belongs to a camera's snapshots, which are fetched again and again.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from edgevid.errors import BadInput
from edgevid.media import ffmpeg
from edgevid.media.connection import OpenStream
from edgevid.media.decode import hardware, video_stream
from edgevid.media.hls import LIST_BYTES, MARK, HlsStream, Part
from edgevid.media.live import ReconnectingSource
from edgevid.media.logins import (
    ANSWER_S,
    BASIC,
    MAX_HOPS,
    RtspClient,
    ServerReply,
    answering,
    ask_http,
    ask_rtsp,
    deadline,
    get,
    login_of,
    moved,
    same_host,
)
from edgevid.media.secrets import with_secrets, without_secrets
from edgevid.media.snapshots import (
    INTERVAL_S,
    MAX_INTERVAL_S,
    ReadAhead,
    Snapshots,
    only_picture,
)
from edgevid.media.sources import Report, SourceAddress, SourceOptions, SourcePlugin
from edgevid.media.timeline import has_stamps
from edgevid.media.timing import AnswerTimes
from edgevid.media.unavailable import REASONS, Reason, Unavailable
from edgevid.registry import need

ACCESS = {
    "rtsp": ffmpeg.RTSP,
    "rtsps": ffmpeg.RTSPS,
    "http": ffmpeg.HTTP,
    "https": ffmpeg.HTTPS,
}
PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
SECURE = ("rtsps", "https")
VERIFYING = (62,)
"""The oldest libavformat whose RTSP is known to check certificates; FFmpeg 5.1 ignores them."""
INSECURE = "its certificate is not checked, so a man in the middle can read and change its stream"
STUCK_S = 120
"""FFmpeg's own limit, longer than all others: it applies where they do not, at closing."""
PLAYLISTS = {"hls", "dash"}
"""Formats whose file is not the stream: its length says nothing."""
FILE_ENDINGS = (
    *(".3g2", ".3gp", ".avi", ".divx", ".f4v", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".vob", ".wmv"),
)
"""URLs with these endings are files until they are open: cameras have none of their own, or those
of formats that are also streamed (``.flv``, ``.m3u8``, ``.mjpg``, ``.ts``, ``.webm``)."""

QUICK = {"fpsprobesize": "0"}  # the rate is measured anyway
RESUMED = {"reconnect": "1", "reconnect_delay_max": "5"}
"""A file whose download breaks is continued where it broke."""
RTSP = {**QUICK, "max_ts_probe": "0", "allowed_media_types": "video"}


def open_rtsp(address: SourceAddress, options: SourceOptions, report: Report) -> ReconnectingSource:
    """Open an RTSP camera.

    Args:
        address: Its URL.
        options: How to read it.
        report: Gets one line whenever the state of the stream changes.

    Returns:
        The source.

    Raises:
        BadInput: The URL is wrong.
    """
    return ReconnectingSource(NetworkEndpoint(address.name, options), options, report)


def open_http(address: SourceAddress, options: SourceOptions, report: Report) -> ReconnectingSource:
    """Open a camera or a file over HTTP; see `open_rtsp`."""
    endpoint = NetworkEndpoint(address.name, options)
    is_file = urlsplit(address.name).path.lower().endswith(FILE_ENDINGS)
    return ReconnectingSource(endpoint, options, report, live=None, is_file=is_file)


RTSP_SOURCE = SourcePlugin(open_rtsp, "rtsp://192.168.1.20/stream1")
HTTP_SOURCE = SourcePlugin(open_http, "http://192.168.1.20/video.mjpg", finite=None)


class NetworkEndpoint:
    """One address.

    `open` probes the port first, because FFmpeg takes long to notice that nobody listens.
    """

    def __init__(self, url: str, options: SourceOptions) -> None:
        """Parse the URL.

        Args:
            url: The URL; it may contain user and password.
            options: How to read it.

        Raises:
            BadInput: The URL is ambiguous, or it has no host.
        """
        av = need("av", "runner")
        self.name = without_secrets(url)
        try:
            parts, shown = urlsplit(url), urlsplit(self.name)
            host, port = parts.hostname, parts.port
            clear = (host, port) == (shown.hostname, shown.port)
        except ValueError:  # its text may contain a part of the password
            host, clear = None, False
        if not clear:
            raise BadInput(
                f"{self.name}: the URL is ambiguous; percent-encode special characters in user, "
                "password and path (@ is %40), or give the password separately"
            )
        if not host:
            raise BadInput(f"{self.name}: the URL has no host; use {parts.scheme}://HOST/PATH")
        self._url, self._scheme, self._options = url, parts.scheme, options
        self._answers = AnswerTimes()
        self._early = b""
        self._digest = False
        self._note = INSECURE if options.tls_insecure and parts.scheme in SECURE else ""
        self._check_verifies(av)
        self._accelerated, self._decoder = hardware(options.decoder)
        # FFmpeg's messages contain whole URLs.
        if av.logging.get_level() is not None:
            av.logging.set_level(av.logging.PANIC)

    def _check_verifies(self, av: Any) -> None:
        """Refuse cameras whose certificate this FFmpeg would not check."""
        if self._scheme != "rtsps" or self._options.tls_insecure:
            return
        if av.library_versions["libavformat"] < VERIFYING:
            raise BadInput(
                f"{self.name}: this FFmpeg does not check certificates of rtsps://; install PyAV "
                'from its wheel (pip install av), or accept any with tls = "insecure"'
            )

    def connection(self) -> NetworkEndpoint:
        """The endpoint itself: it only learns how fast the peer answers."""
        return self

    def open(self, open_s: float, read_s: Any) -> OpenStream:
        """Probe the port, then open the stream; see `edgevid.media.connection.Connection`."""
        import av

        url = with_secrets(self._url, self._options.user, self._options.password)
        container: Any = None
        for _ in range(MAX_HOPS):
            url, checks = self._probe(url, open_s)
            request = partial(self._request, url, checks, (open_s, read_s))
            try:
                container = request()
                break
            except av.FFmpegError as error:
                if not self._scheme.startswith("http"):
                    raise
                if error.errno == errno.EINVAL:  # a format that FFmpeg may not open: a playlist?
                    return self._playlist(url, open_s, error)
                if error.errno != errno.EIO:  # a redirect that FFmpeg may not follow?
                    raise
                url = self._redirected(url, open_s, error)
        if container is None:
            raise Unavailable(Reason.REFUSED, "redirects in a loop")
        video = video_stream(container)
        if video is None or video.codec_context is None:
            container.close()
            what = "no video" if video is None else "a codec that FFmpeg cannot decode"
            raise Unavailable(Reason.CODEC, f"{what} in the stream")
        decoder = self._decoder
        if self._accelerated and not video.codec_context.is_hwaccel:
            decoder = f"software ({decoder}: not for {video.codec_context.name})"
        clockless = not has_stamps(container)
        if not self._scheme.startswith("http"):
            return OpenStream(container, decoder, clockless, note=self._note)
        if container.format.name.endswith("_pipe"):
            picture, read = only_picture(container)
            if picture is not None:
                return self._snapshots(container, picture, request, decoder)
            container = ReadAhead(container, read)
        finite = _is_finite(container)
        return OpenStream(container, decoder, clockless, finite=finite, note=self._note)

    def _request(self, url: str, checks: dict[str, str], timeout: tuple[float, Any]) -> Any:
        """Open a URL with FFmpeg, which checks its certificate, too."""
        scheme = urlsplit(url).scheme
        options = {"timeout": str(STUCK_S * 1_000_000), **checks}
        if scheme.startswith("rtsp"):
            options |= {**RTSP, "rtsp_transport": self._options.transport}
        else:
            options |= {**QUICK, **RESUMED, "max_redirects": "0"}
        return ffmpeg.open_input(url, ACCESS[scheme], options, timeout=timeout, **self._accelerated)

    def _snapshots(
        self, container: Any, picture: Any, request: Callable[[], Any], decoder: str
    ) -> OpenStream:
        """A camera's snapshots, as a live stream."""
        rate_fps = self._options.source_fps or min(self._options.rate_fps or 1.0, 1.0)
        interval_s = min(INTERVAL_S / rate_fps, MAX_INTERVAL_S)
        note = self._note or (
            f"the URL returns single images, fetched every {interval_s:.3g} s (--source-fps sets "
            "the rate); use the camera's stream, if it has one"
        )
        stream = Snapshots(container, picture, request, interval_s)
        return OpenStream(stream, decoder, clockless=True, note=note)

    def end(self) -> None:
        """Nothing runs beside the container."""

    def _probe(self, url: str, open_s: float) -> tuple[str, dict[str, str]]:
        """Check that the peer listens, its certificate, and how it asks for the password.

        Args:
            url: The URL; it may contain user and password.
            open_s: Seconds that FFmpeg itself may take.

        Returns:
            The URL to open, after redirects of RTSP, and FFmpeg's options for its certificate.

        Raises:
            Unavailable: Nobody listens, or the peer cannot be trusted.
        """
        for _ in range(MAX_HOPS):
            peer, checks = self._reach(url, open_s)
            with peer, deadline(peer, ANSWER_S):
                location = self._asked(peer, url)
            if not location:
                return url, checks
            url = moved(url, location)
        raise Unavailable(Reason.REFUSED, "redirects in a loop")

    def _asked(self, peer: socket.socket, url: str) -> str:
        """Find out how a server authenticates; returns where it redirects to, or an empty text."""
        scheme, login = urlsplit(url).scheme, login_of(url)
        with answering():
            if scheme.startswith("rtsp"):
                if scheme == "rtsp":
                    talk = RtspClient(peer, self._early)
                else:
                    talk = RtspClient(peer)
                    talk.request("OPTIONS", "*")
                if login is None and scheme == "rtsp":
                    return ""
                asked = ask_rtsp(talk, url, partial(self._permit, scheme))
            elif login is not None and scheme == "http":
                permit = partial(self._permit, scheme)
                asked = ask_http(lambda: peer, url, permit, authorized=False)
            else:
                return ""
        return asked.location if 300 <= asked.status < 400 else ""

    def _permit(self, scheme: str, asked: ServerReply) -> None:
        """Check that the password may be sent to a server; raises `Unavailable` if not."""
        if "digest" in asked.schemes:
            self._digest = True
        elif "basic" in asked.schemes and scheme not in SECURE:
            if self._digest:
                why = "offered Digest before, and now wants the password in plain text; not sent"
                raise Unavailable(Reason.AUTH, why)
            self._note = BASIC

    def _playlist(self, url: str, open_s: float, error: Exception) -> OpenStream:
        """Open an HLS playlist; re-raises the error if it is not one."""
        fetch = partial(self._fetch, open_s)
        if not fetch((url, ""), LIST_BYTES).startswith(MARK):
            raise error
        stream = HlsStream(fetch, url, open_s)
        container = ffmpeg.open_input(stream, ffmpeg.SEGMENTS, {**QUICK}, **self._accelerated)
        clockless = not has_stamps(container)
        return OpenStream(
            container, self._decoder, clockless, finite=stream.finite, note=self._note
        )

    def _fetch(self, open_s: float, part: Part, most_bytes: int) -> bytes:
        """The content of a URL; redirects are followed on its own host."""
        url, byte_range = part
        for _ in range(MAX_HOPS):
            permit = partial(self._permit, urlsplit(url).scheme)
            connect = partial(self._connect, url, open_s)
            with answering():
                asked, content = get(connect, url, permit, byte_range, most_bytes)
            if not (300 <= asked.status < 400 and asked.location):
                break
            after = moved(url, asked.location)
            if not same_host(url, after):
                raise Unavailable(Reason.REFUSED, "its playlist leads to another host")
            url = after
        if asked.status not in (200, 206):
            reason = Reason.AUTH if asked.status in (401, 403) else Reason.NOT_FOUND
            raise Unavailable(reason, f"the server answers {asked.status}")
        return content

    def _redirected(self, url: str, open_s: float, error: Exception) -> str:
        """Where a web server redirects to; re-raises the error if it does not."""
        permit = partial(self._permit, urlsplit(url).scheme)
        with answering():
            asked = ask_http(partial(self._connect, url, open_s), url, permit, authorized=True)
        if not (300 <= asked.status < 400 and asked.location):
            raise error
        return moved(url, asked.location)

    def _connect(self, url: str, open_s: float) -> socket.socket:
        return self._reach(url, open_s)[0]

    def _reach(self, url: str, open_s: float) -> tuple[socket.socket, dict[str, str]]:
        """Connect, and begin TLS where it is used; raises `Unavailable` if nobody listens.

        An RTSP camera is also sent a request, because some still accept connections long after they
        have hung.
        """
        parts = urlsplit(url)
        host, scheme = str(parts.hostname), parts.scheme
        address = (host, parts.port or PORTS[scheme])
        peer_name = f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
        limit_s, began_s = self._answers.limit_s(open_s), time.monotonic()
        checks: dict[str, str] = {}
        try:
            if scheme in SECURE:
                from edgevid.media.tls import shake_hands

                own, insecure = self._options.tls_ca, self._options.tls_insecure
                connect = partial(socket.create_connection, address, limit_s)
                peer, checks = shake_hands(connect, host, own, insecure=insecure)
            else:
                peer = socket.create_connection(address, limit_s)
            try:
                peer.settimeout(limit_s)
                if scheme == "rtsp":
                    peer.sendall(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: edgevid\r\n\r\n")
                    self._early = peer.recv(4096)
                    if not self._early:
                        raise Unavailable(Reason.ENDED, f"{peer_name} closes the connection")
            except BaseException:
                peer.close()
                raise
        except socket.gaierror as error:
            raise Unavailable(
                Reason.UNREACHABLE, f"unknown host {host} ({error.strerror})"
            ) from None
        except UnicodeError:
            raise Unavailable(Reason.UNREACHABLE, "the host name is invalid") from None
        except TimeoutError:
            self._answers.missed()
            why = f"{peer_name} does not answer within {limit_s:.2g} s"
            raise Unavailable(Reason.TIME_OUT, why) from None
        except OSError as error:
            reason = REASONS.get(error.errno or errno.EIO, Reason.ENDED)
            raise Unavailable(reason, f"{peer_name}: {error.strerror}") from None
        self._answers.came(time.monotonic() - began_s)
        return peer, checks


def _is_finite(container: Any) -> bool:
    """Whether a stream over HTTP has an end: a duration, or a length in bytes."""
    if (container.duration or 0) > 0:
        return True
    return container.format.name not in PLAYLISTS and (container.size or 0) > 0
