"""Cameras of this machine through Linux' V4L2: ``/dev/video0``, ``v4l2:/dev/video0?size=640x480``.

``size``, ``fps`` and ``format`` (such as ``mjpeg``) are asked of the driver; without them it gives
what it likes. Built to the documented interface; not yet proven on hardware.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from edgevid.errors import BadInput
from edgevid.media.connection import Opened
from edgevid.media.live import LiveSource
from edgevid.media.sources import Reason, Say, SourceOptions, Unavailable
from edgevid.registry import need

NAME = re.compile(r"(?:v4l2:)?(?P<device>/dev/[\w./-]+)(?:\?(?P<wishes>.*))?")
WISHES = {
    "size": ("video_size", r"\d+x\d+"),
    "fps": ("framerate", r"\d+(\.\d+)?"),
    "format": ("input_format", r"\w+"),
}


def open_v4l2(name: str, options: SourceOptions, say: Say) -> LiveSource:
    """Read the device ``name``; raises `BadInput` where the name is not one."""
    return LiveSource(Device(name), options, say)


class Device:
    """One device; see `connection.Camera`."""

    def __init__(self, name: str) -> None:
        need("av", "runner")
        found = NAME.fullmatch(name)
        if found is None:
            raise BadInput(f"{name}: not a camera's device; give one such as /dev/video0")
        self.name = name
        self._device = found["device"]
        self._options = {
            WISHES[key][0]: value for key, value in read_wishes(name, found["wishes"], WISHES)
        }

    def connection(self) -> Device:
        """Nothing belongs to a single opening."""
        return self

    def open(self, open_s: float, read_s: Any) -> Opened:
        """Open the device; see `connection.Connection`."""
        import av

        try:
            container: Any = av.open(
                self._device, format="v4l2", options=self._options, timeout=(open_s, read_s)
            )
        except PermissionError:
            user = "add the user to the group video: sudo usermod -aG video $USER"
            raise Unavailable(Reason.AUTH, f"not allowed to open it; {user}") from None
        except FileNotFoundError:
            why = "no such device; is the camera plugged in?"
            raise Unavailable(Reason.NOT_FOUND, why) from None
        if not container.streams.video:
            container.close()
            raise Unavailable(Reason.CODEC, "gives no pictures; it may be the device of a codec")
        return Opened(container)

    def end(self) -> None:
        """Nothing is left beside the device."""


def read_wishes(
    name: str, text: str | None, known: dict[str, tuple[str, str]]
) -> list[tuple[str, str]]:
    """Read ``key=value&...``; raises `BadInput` for a key or a value that is not ``known``."""
    wishes = parse_qsl(text or "", keep_blank_values=True)
    for key, value in wishes:
        if key not in known:
            raise BadInput(f"{name}: {key} is not known; known: {', '.join(sorted(known))}")
        if not re.fullmatch(known[key][1], value):
            raise BadInput(f"{name}: {key}={value} is not understood")
    return wishes
