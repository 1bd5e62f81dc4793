"""A computed camera: ``synthetic:640x480@15``, a white square that moves over grey.

It is live and paced like a camera, and frame ``n`` always has the same pixels. ``?frames=100`` ends
it after 100 frames.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevid.errors import BadInput
from edgevid.media.decode import Arrivals
from edgevid.media.sources import Report, SourceAddress, SourceOptions, SourcePlugin
from edgevid.registry import need
from edgevid.results import Frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = re.compile(r"(?P<width>\d{2,4})x(?P<height>\d{2,4})@(?P<fps>\d+(\.\d+)?)")
BACKGROUND, SQUARE = 64, 235
"""Grey values."""


@dataclass(frozen=True)
class SyntheticParameters:
    """The query of a ``synthetic:`` name.

    Attributes:
        frames: Number of frames; 0 never ends.
    """

    frames: int = 0


def open_synthetic(
    address: SourceAddress, options: SourceOptions, report: Report
) -> SyntheticSource:
    """Open a synthetic camera.

    Args:
        address: ``synthetic:WIDTHxHEIGHT@FPS``.
        options: Unused; there is nothing to decode.
        report: Unused; the state never changes.

    Returns:
        The source.

    Raises:
        BadInput: The address is wrong.
    """
    found = FORMAT.fullmatch(address.target)
    if found is None or not 0 < float(found["fps"]) <= 1000:
        raise BadInput(f"{address.name}: not a synthetic camera; use {SYNTHETIC.example}")
    need("av", "runner")
    size = int(found["height"]), int(found["width"])
    return SyntheticSource(address.name, size, float(found["fps"]), address.parameters.frames)


SYNTHETIC = SourcePlugin(open_synthetic, "synthetic:640x480@15", SyntheticParameters)


def pixels(index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The pixels of one frame.

    Args:
        index: Number of the frame.
        size: Height and width in pixels.

    Returns:
        RGB, uint8 (height, width, 3).
    """
    import numpy as np

    height, width = size
    image = np.full((height, width, 3), BACKGROUND, np.uint8)
    side = max(2, min(size) // 4)
    left, top = 3 * index % (width - side), 2 * index % (height - side)
    image[top : top + side, left : left + side] = SQUARE
    return image


class SyntheticSource:
    """Frames at their times; with ``frames`` 0 it never ends."""

    live = True
    truncated = False

    def __init__(self, name: str, size: tuple[int, int], rate_fps: float, frames: int) -> None:
        self.name = name
        self.arrivals = Arrivals()
        self.due_s = time.monotonic() + 1.0
        self._size, self._rate_fps, self._frames = size, rate_fps, frames
        self._stopped = threading.Event()
        self._state = "open"

    def __iter__(self) -> Iterator[Frame]:
        from av import VideoFrame

        began = time.monotonic()
        index = 0
        while not self._frames or index < self._frames:
            due = began + index / self._rate_fps
            self.due_s = due + 1.0
            if self._stopped.wait(max(0.0, due - time.monotonic())):
                break
            arrived = time.perf_counter()
            self.arrivals.captured += 1
            image = VideoFrame.from_ndarray(pixels(index, self._size), format="rgb24")
            height, width = self._size
            yield Frame(
                image=image,
                width=width,
                height=height,
                source=self.name,
                index=index,
                pts_s=index / self._rate_fps,
                captured_s=arrived,
                decode_s=time.perf_counter() - arrived,
                since_s=1 / self._rate_fps if index else None,
            )
            index += 1
        self._state = "ended"

    def stop(self) -> None:
        """End the iteration, from any thread."""
        self._stopped.set()

    def close(self) -> None:
        """There is nothing to release."""

    def status(self) -> dict[str, Any]:
        """The state as plain data; see `edgevid.media.sources.Source.status`."""
        return {
            "state": self._state,
            "reason": None,
            "detail": "",
            "reconnects": 0,
            "size": list(self._size),
            "rate_fps": self._rate_fps,
            "codec": "synthetic",
            "decoder": "none",
        }
