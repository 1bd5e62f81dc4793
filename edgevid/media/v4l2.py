"""Cameras of this machine through Linux' V4L2: ``/dev/video0``, ``v4l2:/dev/video0?size=640x480``.

``size``, ``fps`` and ``format`` (such as ``mjpeg``) are requested from the driver; without them it
uses its defaults. Written to the documented interface; not tested on hardware.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from edgevid.errors import BadInput
from edgevid.media import ffmpeg
from edgevid.media.connection import OpenStream
from edgevid.media.live import ReconnectingSource
from edgevid.media.sources import Report, SourceAddress, SourceOptions, SourcePlugin, parameter
from edgevid.media.unavailable import Reason, Unavailable
from edgevid.registry import need

DEVICE = re.compile(r"/dev/[\w./-]+")


@dataclass(frozen=True)
class V4L2Parameters:
    """The query of a V4L2 device's name. Empty values leave the choice to the driver.

    Attributes:
        size: ``WIDTHxHEIGHT`` in pixels.
        fps: Frames per second.
        format: FFmpeg's name of a pixel format or codec, such as ``mjpeg``.
    """

    size: str = parameter(r"\d+x\d+")
    fps: str = parameter(r"\d+(\.\d+)?")
    format: str = parameter(r"\w+")


def open_v4l2(address: SourceAddress, options: SourceOptions, report: Report) -> ReconnectingSource:
    """Open a camera of this machine.

    Args:
        address: The device below ``/dev``.
        options: How to read it.
        report: Gets one line whenever the state of the stream changes.

    Returns:
        The source.

    Raises:
        BadInput: The address is wrong.
    """
    return ReconnectingSource(V4L2Device(address), options, report)


V4L2 = SourcePlugin(open_v4l2, "/dev/video0?size=640x480", V4L2Parameters, local="device")


class V4L2Device:
    """One device; see `edgevid.media.connection.Endpoint`."""

    def __init__(self, address: SourceAddress) -> None:
        """Parse the address; raises `BadInput` if it is wrong."""
        need("av", "runner")
        self.name = address.name
        if not DEVICE.fullmatch(address.target):
            raise BadInput(f"{self.name}: not a camera's device; use one such as /dev/video0")
        self._device = address.target
        requested = address.parameters
        options = {
            "video_size": requested.size,
            "framerate": requested.fps,
            "input_format": requested.format,
        }
        self._options = {name: value for name, value in options.items() if value}

    def connection(self) -> V4L2Device:
        """The device itself: it keeps nothing per connection."""
        return self

    def open(self, open_s: float, read_s: Any) -> OpenStream:
        """Open the device; see `edgevid.media.connection.Connection`."""
        try:
            container = ffmpeg.open_input(
                self._device, ffmpeg.V4L2, self._options, format="v4l2", timeout=(open_s, read_s)
            )
        except PermissionError:
            fix = "add the user to the group video: sudo usermod -aG video $USER"
            raise Unavailable(Reason.AUTH, f"no permission to open it; {fix}") from None
        except FileNotFoundError:
            why = "no such device; is the camera plugged in?"
            raise Unavailable(Reason.NOT_FOUND, why) from None
        if not container.streams.video:
            container.close()
            raise Unavailable(Reason.CODEC, "delivers no video; it may be a codec's device")
        return OpenStream(container)

    def end(self) -> None:
        """Nothing runs beside the container."""
