"""A camera made of arithmetic: ``synthetic:640x480@15``, a white square on its way round.

Live and paced like a camera, and frame ``n`` always has the same pixels. ``?frames=100`` ends it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgevid.errors import BadInput
from edgevid.media.decode import Arrivals
from edgevid.media.sources import Say, SourceOptions
from edgevid.media.video import Captured
from edgevid.registry import need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = re.compile(
    r"synthetic:(?P<width>\d{2,4})x(?P<height>\d{2,4})@(?P<fps>\d+(\.\d+)?)"
    r"(\?frames=(?P<frames>\d+))?"
)
BACKGROUND, SQUARE = 64, 235


def open_synthetic(name: str, options: SourceOptions, say: Say) -> Synthetic:
    """Open the synthetic camera ``name``; raises `BadInput` where it is not one."""
    found = NAME.fullmatch(name)
    if found is None or not 0 < float(found["fps"]) <= 1000:
        raise BadInput(f"{name}: not a synthetic camera; give one such as synthetic:640x480@15")
    need("av", "runner")
    size = int(found["height"]), int(found["width"])
    return Synthetic(name, size, float(found["fps"]), int(found["frames"] or 0))


def pixels(index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Frame ``index``: uint8 ``(height, width, 3)``."""
    import numpy as np

    height, width = size
    picture = np.full((height, width, 3), BACKGROUND, np.uint8)
    side = max(2, min(size) // 4)
    left, top = 3 * index % (width - side), 2 * index % (height - side)
    picture[top : top + side, left : left + side] = SQUARE
    return picture


class Synthetic:
    """Frames at their times; ``frames`` 0 goes on for ever."""

    live = True
    truncated = False

    def __init__(self, name: str, size: tuple[int, int], rate_fps: float, frames: int) -> None:
        self.name = name
        self.arrivals = Arrivals()
        self.due_s = time.monotonic() + 1.0
        self._size, self._rate_fps, self._frames = size, rate_fps, frames
        self._stopped = threading.Event()
        self._state = "open"

    def __iter__(self) -> Iterator[Captured]:
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
            picture = VideoFrame.from_ndarray(pixels(index, self._size), format="rgb24")
            made_s = time.perf_counter() - arrived
            since_s = 1 / self._rate_fps if index else None
            yield Captured(index, index / self._rate_fps, arrived, made_s, picture, since_s)
            index += 1
        self._state = "ended"

    def stop(self) -> None:
        """End the iteration."""
        self._stopped.set()

    def close(self) -> None:
        """Nothing is held."""

    def status(self) -> dict[str, Any]:
        """Say how it is, as plain data."""
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
