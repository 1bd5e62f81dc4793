"""Cameras on a network: ``rtsp://``, ``rtsps://``, ``http://``, ``https://``.

A stream over HTTP with a duration is a file and ends; every other stream is live.
"""

from __future__ import annotations

import errno
import socket
from typing import Any
from urllib.parse import urlsplit

from edgevid.errors import BadInput
from edgevid.media.connection import OpenStream
from edgevid.media.decode import hardware
from edgevid.media.live import ReconnectingSource
from edgevid.media.secrets import with_secrets, without_secrets
from edgevid.media.sources import Report, SourceAddress, SourceOptions, SourcePlugin
from edgevid.media.unavailable import REASONS, Reason, Unavailable
from edgevid.registry import need

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
PROBE_S = 1.5
"""A camera that is there accepts a connection sooner."""
STUCK_S = 120
"""FFmpeg's own limit, longer than all others: it applies where they do not, at closing."""
CLOCKLESS = {"mpjpeg", "mjpeg", "h264", "hevc"}
"""Formats whose time stamps FFmpeg makes up."""

QUICK = {"fpsprobesize": "0"}  # the rate is measured anyway
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
    return ReconnectingSource(endpoint, options, report, live=None)


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
        self._accelerated, self._decoder = hardware(options.decoder)
        # FFmpeg's messages contain whole URLs.
        if av.logging.get_level() is not None:
            av.logging.set_level(av.logging.PANIC)

    def connection(self) -> NetworkEndpoint:
        """The endpoint itself: it keeps nothing per connection."""
        return self

    def open(self, open_s: float, read_s: Any) -> OpenStream:
        """Probe the port, then open the stream; see `edgevid.media.connection.Connection`."""
        import av

        self._probe()
        options = {"timeout": str(STUCK_S * 1_000_000)}
        if self._scheme.startswith("rtsp"):
            options |= {**RTSP, "rtsp_transport": self._options.transport}
        else:
            options |= QUICK
        container: Any = av.open(
            with_secrets(self._url, self._options.user, self._options.password),
            options=options,
            timeout=(open_s, read_s),
            metadata_errors="replace",
            **self._accelerated,
        )
        video = container.streams.video
        if not video or video[0].codec_context is None:
            container.close()
            what = "a codec that FFmpeg cannot decode" if video else "no video"
            raise Unavailable(Reason.CODEC, f"{what} in the stream")
        decoder = self._decoder
        if self._accelerated and not video[0].codec_context.is_hwaccel:
            decoder = f"software ({decoder}: not for {video[0].codec_context.name})"
        finite = self._scheme.startswith("http") and (container.duration or 0) > 0
        return OpenStream(container, decoder, container.format.name in CLOCKLESS, finite)

    def end(self) -> None:
        """Nothing runs beside the container."""

    def _probe(self) -> None:
        """Raise `Unavailable` if nobody listens."""
        host, port = self._address
        peer_name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            with socket.create_connection(self._address, PROBE_S) as peer:
                if self._scheme == "rtsp":
                    peer.settimeout(PROBE_S)
                    peer.sendall(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: edgevid\r\n\r\n")
                    if not peer.recv(64):
                        raise Unavailable(Reason.ENDED, f"{peer_name} closes the connection")
        except socket.gaierror as error:
            raise Unavailable(
                Reason.UNREACHABLE, f"unknown host {host} ({error.strerror})"
            ) from None
        except TimeoutError:
            raise Unavailable(Reason.TIME_OUT, f"{peer_name} does not answer") from None
        except OSError as error:
            reason = REASONS.get(error.errno or errno.EIO, Reason.ENDED)
            raise Unavailable(reason, f"{peer_name}: {error.strerror}") from None
