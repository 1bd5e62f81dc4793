"""Cameras on a network: ``rtsp://``, ``rtsps://``, ``http://``, ``https://``.

What has a duration over HTTP is a file and ends; everything else is live.
"""

from __future__ import annotations

import errno
import socket
from typing import Any
from urllib.parse import urlsplit

from edgevid.errors import BadInput
from edgevid.media.connection import REASONS, Opened
from edgevid.media.decode import hardware
from edgevid.media.live import LiveSource
from edgevid.media.sources import (
    Reason,
    Say,
    SourceOptions,
    Unavailable,
    with_secrets,
    without_secrets,
)
from edgevid.registry import need

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
KNOCK_S = 1.5  # a camera that is there answers sooner
STUCK_S = 120  # FFmpeg's own limit, behind all others: it holds where they do not reach, at closing
CLOCKLESS = {"mpjpeg", "mjpeg", "h264", "hevc"}  # FFmpeg makes their stamps up

QUICK = {"fpsprobesize": "0"}  # the rate is measured anyway
RTSP = {**QUICK, "max_ts_probe": "0", "allowed_media_types": "video"}


def open_network(name: str, options: SourceOptions, say: Say) -> LiveSource:
    """Read the camera at the URL ``name``; raises `BadInput` where that is no URL."""
    return LiveSource(NetworkCamera(name, options), options, say)


class NetworkCamera:
    """One address; `open` knocks first, because FFmpeg takes long to find nobody there."""

    def __init__(self, url: str, options: SourceOptions) -> None:
        av = need("av", "runner")
        self.name = without_secrets(url)
        try:
            parts, shown = urlsplit(url), urlsplit(self.name)
            host, port = parts.hostname, parts.port
            clear = (host, port) == (shown.hostname, shown.port)
        except ValueError:  # its text may hold a part of the password
            host, clear = None, False
        if not clear:
            raise BadInput(
                f"{self.name}: not a clear address; percent-encode what is special in user, "
                "password and path (@ is %40), or give the password beside the URL"
            )
        if not host:
            raise BadInput(f"{self.name}: names no host; give {parts.scheme}://HOST/PATH")
        self._url, self._scheme, self._options = url, parts.scheme, options
        self._address = (host, port or PORTS[parts.scheme])
        self._accelerated, self._decoder = hardware(options.decoder)
        # FFmpeg's messages hold whole URLs.
        if av.logging.get_level() is not None:
            av.logging.set_level(av.logging.PANIC)

    def connection(self) -> NetworkCamera:
        """Nothing belongs to a single connection."""
        return self

    def open(self, open_s: float, read_s: Any) -> Opened:
        """Knock, then open; see `connection.Connection`."""
        import av

        self._knock()
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
            what = "a codec that FFmpeg cannot decode" if video else "no picture"
            raise Unavailable(Reason.CODEC, f"{what} in the stream")
        decoder = self._decoder
        if self._accelerated and not video[0].codec_context.is_hwaccel:
            decoder = f"software ({decoder}: not for {video[0].codec_context.name})"
        finite = self._scheme.startswith("http") and (container.duration or 0) > 0
        return Opened(container, decoder, container.format.name in CLOCKLESS, finite)

    def end(self) -> None:
        """Nothing is left beside the connection."""

    def _knock(self) -> None:
        """Raise `Unavailable` where nobody answers."""
        host, port = self._address
        try:
            with socket.create_connection(self._address, KNOCK_S) as peer:
                if self._scheme == "rtsp":
                    peer.settimeout(KNOCK_S)
                    peer.sendall(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: edgevid\r\n\r\n")
                    if not peer.recv(64):
                        raise Unavailable(Reason.ENDED, f"{host}:{port} hangs up")
        except socket.gaierror as error:
            raise Unavailable(
                Reason.UNREACHABLE, f"the name {host} is not known ({error.strerror})"
            ) from None
        except TimeoutError:
            raise Unavailable(Reason.TIME_OUT, f"{host}:{port} does not answer") from None
        except OSError as error:
            reason = REASONS.get(error.errno or errno.EIO, Reason.ENDED)
            raise Unavailable(reason, f"{host}:{port}: {error.strerror}") from None
