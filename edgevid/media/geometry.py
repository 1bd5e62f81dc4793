"""From a decoded image to the pixels of a step: one scaling, with the same filter everywhere.

Training, calibration, proof and devices use the same function. swscale converts directly from the
decoder's YUV to RGB at the model's size with its AREA filter: its default SIMD and C versions
produce the same pixels, unlike those of FAST_BILINEAR.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevid.contract import FrameInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

LETTERBOX_GREY = 114
"""The grey level around letterboxed images, as in YOLO, which detectors are trained with."""


def inner_size(source: tuple[int, int], frame: FrameInput) -> tuple[int, int]:
    """The size that an image is scaled to before it is cropped or padded.

    Args:
        source: Height and width of the image in pixels.
        frame: The model's input.

    Returns:
        Height and width in pixels.
    """
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
    """Converts images to a model's input, uint8 RGB (1, height, width, 3), in a reused buffer.

    Use one instance per stream: it keeps swscale's tables and its buffer from frame to frame.
    """

    def __init__(self, frame: FrameInput) -> None:
        from av.video.reformatter import VideoReformatter

        self.frame = frame
        self._reformatter = VideoReformatter()
        self._pixels = np.full((1, frame.height, frame.width, 3), LETTERBOX_GREY, np.uint8)
        self._size: tuple[int, int] | None = None
        self._inner = (frame.height, frame.width)

    def apply(self, image: Any) -> NDArray[np.uint8]:
        """Convert one image.

        Args:
            image: An `av.VideoFrame` of any size and pixel format.

        Returns:
            RGB pixels, uint8 (1, height, width, 3), valid until the next call.
        """
        size = (image.height, image.width)
        if size != self._size:
            self._size = size
            self._inner = inner_size(size, self.frame)
            self._pixels[:] = LETTERBOX_GREY
        height, width = self._inner
        scaled = self._reformatter.reformat(
            image, width=width, height=height, format="rgb24", interpolation="AREA"
        )
        plane: Any = scaled.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        pixels = rows[:height, : width * 3].reshape(height, width, 3)
        self._place(pixels)
        return self._pixels

    def _place(self, pixels: NDArray[np.uint8]) -> None:
        """Crop the centre of ``pixels``, uint8 (H, W, 3), or pad them with grey on all sides."""
        height, width = pixels.shape[:2]
        top, left = (height - self.frame.height) // 2, (width - self.frame.width) // 2
        if self.frame.fit == "letterbox":
            top, left = -top, -left
            self._pixels[0, top : top + height, left : left + width] = pixels
        else:
            self._pixels[0] = pixels[top : top + self.frame.height, left : left + self.frame.width]
