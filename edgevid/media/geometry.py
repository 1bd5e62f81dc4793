"""From a decoded picture to the step's pixels, in one scaling, with one filter everywhere.

The same function serves training, calibration, proof and the device. swscale goes straight from the
decoder's YUV to RGB at the model's size with its AREA filter: its default SIMD and C versions give
the same pixels, which FAST_BILINEAR's do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevid.contract import FrameInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

LETTERBOX_GREY = 114  # the field's own value since YOLO; detectors were trained with it


def inner_size(source: tuple[int, int], frame: FrameInput) -> tuple[int, int]:
    """The ``(height, width)`` that a picture of size ``source`` is scaled to before cut or pad."""
    if frame.fit == "stretch":
        return frame.height, frame.width
    height, width = source
    pick = max if frame.fit == "crop" else min
    scale = pick(frame.height / height, frame.width / width)
    bound = max if frame.fit == "crop" else min
    return (
        bound(frame.height, max(1, round(height * scale))),
        bound(frame.width, max(1, round(width * scale))),
    )


class Geometry:
    """Brings pictures to ``(1, height, width, 3)`` uint8 RGB, in a buffer of its own.

    One `Geometry` serves one stream: it keeps swscale's tables and its buffer from frame to frame.
    """

    def __init__(self, frame: FrameInput) -> None:
        from av.video.reformatter import VideoReformatter

        self.frame = frame
        self._reformatter = VideoReformatter()
        self._pixels = np.full((1, frame.height, frame.width, 3), LETTERBOX_GREY, np.uint8)
        self._size: tuple[int, int] | None = None
        self._inner = (frame.height, frame.width)

    def apply(self, picture: Any) -> NDArray[np.uint8]:
        """Scale one `av.VideoFrame`; the array is valid until the next call."""
        size = (picture.height, picture.width)
        if size != self._size:
            self._size = size
            self._inner = inner_size(size, self.frame)
            self._pixels[:] = LETTERBOX_GREY
        height, width = self._inner
        scaled = self._reformatter.reformat(
            picture, width=width, height=height, format="rgb24", interpolation="AREA"
        )
        plane: Any = scaled.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        pixels = rows[:height, : width * 3].reshape(height, width, 3)
        self._place(pixels)
        return self._pixels

    def _place(self, pixels: NDArray[np.uint8]) -> None:
        """Cut the middle out of ``pixels``, or put them in the middle of the grey."""
        height, width = pixels.shape[:2]
        top, left = (height - self.frame.height) // 2, (width - self.frame.width) // 2
        if self.frame.fit == "letterbox":
            top, left = -top, -left
            self._pixels[0, top : top + height, left : left + width] = pixels
        else:
            self._pixels[0] = pixels[top : top + self.frame.height, left : left + self.frame.width]
