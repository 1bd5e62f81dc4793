"""The source ``toy-ramp``: frames that become brighter, ``toy-ramp:64x48?frames=20``."""

import re
import time
from dataclasses import dataclass

import numpy as np

from edgevid.errors import BadInput
from edgevid.media.decode import Arrivals
from edgevid.media.sources import SourcePlugin
from edgevid.results import Frame

RATE_FPS = 10


@dataclass(frozen=True)
class RampParameters:
    """The query: how many frames there are."""

    frames: int = 20


def open_ramp(address, options, report):
    """Open a ramp."""
    size = re.fullmatch(r"(\d+)x(\d+)", address.target)
    if size is None:
        raise BadInput(f"{address.name}: not a ramp; use {RAMP.example}")
    return Ramp(address.name, int(size[1]), int(size[2]), address.parameters.frames)


RAMP = SourcePlugin(open_ramp, "toy-ramp:64x48?frames=20", RampParameters, finite=True)


class Ramp:
    """See `edgevid.media.sources.Source`."""

    live = False
    truncated = False

    def __init__(self, name, width, height, frames):
        self.name, self.arrivals, self.due_s = name, Arrivals(), time.monotonic() + 10
        self._width, self._height, self._frames = width, height, frames
        self._stopped, self._state = False, "open"

    def __iter__(self):
        from av import VideoFrame

        for index in range(self._frames):
            if self._stopped:
                break
            self.due_s = time.monotonic() + 10
            self.arrivals.captured += 1
            level = round(255 * index / max(1, self._frames - 1))
            pixels = np.full((self._height, self._width, 3), level, np.uint8)
            yield Frame(
                image=VideoFrame.from_ndarray(pixels, format="rgb24"),
                width=self._width,
                height=self._height,
                source=self.name,
                index=index,
                pts_s=index / RATE_FPS,
                captured_s=time.perf_counter(),
                since_s=1 / RATE_FPS if index else None,
            )
        self._state = "ended"

    def stop(self):
        """Ask for the end."""
        self._stopped = True

    def close(self):
        """There is nothing to release."""

    def status(self):
        """The state as plain data."""
        return {"state": self._state, "reason": None, "detail": "", "reconnects": 0}
