"""Cameras on a network: ``rtsp://``, ``rtsps://``, ``http://``, ``https://``.

A stream over HTTP with a duration or a length is a file and ends; every other stream is live. A URL
that gives a single picture belongs to a camera's snapshots, which are fetched again and again.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from edgevid.errors import BadInput
from edgevid.media import ffmpeg
from edgevid.media.connection import OpenStream
from edgevid.media.decode import hardware, video_stream
from edgevid.media.live import ReconnectingSource
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
        self._address = (host, port or PORTS[parts.scheme])
        self._answers = AnswerTimes()
        self._accelerated, self._decoder = hardware(options.decoder)
        # FFmpeg's messages contain whole URLs.
        if av.logging.get_level() is not None:
            av.logging.set_level(av.logging.PANIC)

    def connection(self) -> NetworkEndpoint:
        """The endpoint itself: it only learns how fast the peer answers."""
        return self

    def open(self, open_s: float, read_s: Any) -> OpenStream:
        """Probe the port, then open the stream; see `edgevid.media.connection.Connection`."""
        self._probe(open_s)
        options = {"timeout": str(STUCK_S * 1_000_000)}
        if self._scheme.startswith("rtsp"):
            options |= {**RTSP, "rtsp_transport": self._options.transport}
        else:
            options |= {**QUICK, **RESUMED}

        def request() -> Any:
            return ffmpeg.open_input(
                with_secrets(self._url, self._options.user, self._options.password),
                ACCESS[self._scheme],
                options,
                timeout=(open_s, read_s),
                **self._accelerated,
            )

        container: Any = request()
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
            return OpenStream(container, decoder, clockless)
        if container.format.name.endswith("_pipe"):
            picture, read = only_picture(container)
            if picture is not None:
                return self._snapshots(container, picture, request, decoder)
            container = ReadAhead(container, read)
        return OpenStream(container, decoder, clockless, finite=_is_finite(container))

    def _snapshots(
        self, container: Any, picture: Any, request: Callable[[], Any], decoder: str
    ) -> OpenStream:
        """A camera's snapshots, as a live stream."""
        rate_fps = self._options.source_fps or min(self._options.rate_fps or 1.0, 1.0)
        interval_s = min(INTERVAL_S / rate_fps, MAX_INTERVAL_S)
        note = (
            f"the URL returns single images, fetched every {interval_s:.3g} s (--source-fps sets "
            "the rate); use the camera's stream, if it has one"
        )
        stream = Snapshots(container, picture, request, interval_s)
        return OpenStream(stream, decoder, clockless=True, note=note)

    def end(self) -> None:
        """Nothing runs beside the container."""

    def _probe(self, open_s: float) -> None:
        """Raise `Unavailable` if nobody listens, or an RTSP camera does not answer in time."""
        host, port = self._address
        peer_name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        limit_s, began_s = self._answers.limit_s(open_s), time.monotonic()
        try:
            with socket.create_connection(self._address, limit_s) as peer:
                if self._scheme == "rtsp":
                    peer.settimeout(limit_s)
                    peer.sendall(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: edgevid\r\n\r\n")
                    if not peer.recv(64):
                        raise Unavailable(Reason.ENDED, f"{peer_name} closes the connection")
        except socket.gaierror as error:
            raise Unavailable(
                Reason.UNREACHABLE, f"unknown host {host} ({error.strerror})"
            ) from None
        except TimeoutError:
            self._answers.missed()
            why = f"{peer_name} does not answer within {limit_s:.2g} s"
            raise Unavailable(Reason.TIME_OUT, why) from None
        except OSError as error:
            reason = REASONS.get(error.errno or errno.EIO, Reason.ENDED)
            raise Unavailable(reason, f"{peer_name}: {error.strerror}") from None
        self._answers.came(time.monotonic() - began_s)


def _is_finite(container: Any) -> bool:
    """Whether a stream over HTTP has an end: a duration, or a length in bytes."""
    if (container.duration or 0) > 0:
        return True
    return container.format.name not in PLAYLISTS and (container.size or 0) > 0
