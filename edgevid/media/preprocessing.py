"""From a decoded image to the pixels of a step, and back from model to source coordinates.

Training, calibration, proof and devices use the same function; `edgevid.media.scaling` has the
filters.

Coordinates are continuous, x before y: pixel ``i`` covers ``i`` to ``i + 1``, so that the edges of
an image lie at 0 and at its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevid.contract import FrameInput
from edgevid.media.scaling import CHANNELS, scaler
from edgevid.predictions import FrameMeta

if TYPE_CHECKING:
    from numpy.typing import NDArray

LETTERBOX_GREY = 114
"""The grey level around letterboxed images, as in YOLO, which detectors are trained with."""


def scaled_size(source: tuple[int, int], frame: FrameInput) -> tuple[int, int]:
    """Return the size that an image is scaled to before it is cropped or padded.

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


@dataclass(frozen=True)
class FrameTransform:
    """The map between the pixels of a source image and those of a model's input, both ways.

    ``model = source * scale + offset`` in each axis, and exactly the inverse of it.

    Attributes:
        source: Height and width of the source image in pixels.
        scaled: Height and width that it is scaled to.
        offset: Top and left of the scaled image in the model's input: padding if positive, cropped
            pixels if negative.
    """

    source: tuple[int, int]
    scaled: tuple[int, int]
    offset: tuple[int, int]

    @classmethod
    def between(cls, source: tuple[int, int], frame: FrameInput) -> FrameTransform:
        """Return the transform from images of a size to a model's input.

        Args:
            source: Height and width of the source images in pixels.
            frame: The model's input.
        """
        height, width = scaled = scaled_size(source, frame)
        top, left = abs(frame.height - height) // 2, abs(frame.width - width) // 2
        return cls(source, scaled, (-top, -left) if frame.fit == "crop" else (top, left))

    def to_model(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map points from source pixels to pixels of the model's input.

        Args:
            points: float32 ``(N, 2)``, x before y.

        Returns:
            float32 ``(N, 2)``; points may lie outside the model's input.
        """
        scale, offset = self._scale_and_offset()
        return (np.asarray(points, np.float64) * scale + offset).astype(np.float32)

    def to_source(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map points from pixels of the model's input to source pixels.

        Args:
            points: float32 ``(N, 2)``, x before y.

        Returns:
            float32 ``(N, 2)``; points in the padding lie outside the source image.
        """
        scale, offset = self._scale_and_offset()
        return ((np.asarray(points, np.float64) - offset) / scale).astype(np.float32)

    def boxes_to_model(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map boxes from source pixels to pixels of the model's input.

        Args:
            xyxy: float32 ``(N, 4)``: left, top, right, bottom.

        Returns:
            float32 ``(N, 4)``, not clipped.
        """
        return self.to_model(np.reshape(xyxy, (-1, 2))).reshape(-1, 4)

    def boxes_to_source(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map boxes from pixels of the model's input to source pixels, and clip them to the image.

        Args:
            xyxy: float32 ``(N, 4)``: left, top, right, bottom.

        Returns:
            float32 ``(N, 4)`` within the source image.
        """
        height, width = self.source
        return FrameMeta(width, height, to_source=self.to_source).boxes_to_source(xyxy)

    def _scale_and_offset(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The map's factors as float64 ``(2,)``, x before y."""
        (height, width), (tall, wide) = self.source, self.scaled
        top, left = self.offset
        return np.array([wide / width, tall / height]), np.array([left, top], np.float64)


class Preprocessor:
    """Converts images to a model's input, uint8 RGB (1, height, width, 3), in a reused buffer.

    Use one instance per stream: it keeps the scaler's tables and its buffer from frame to frame.

    Args:
        frame: The model's input.
    """

    def __init__(self, frame: FrameInput) -> None:
        self.frame = frame
        self._scaler = scaler(frame.resize)
        self._pixels = np.full((1, frame.height, frame.width, 3), LETTERBOX_GREY, np.uint8)
        self.transform = FrameTransform.between((frame.height, frame.width), frame)
        """The map between the last image and the model's input."""

    def apply(self, image: Any) -> NDArray[np.uint8]:
        """Convert one image.

        Args:
            image: An `av.VideoFrame` of any size and pixel format.

        Returns:
            RGB pixels, uint8 (1, height, width, 3), valid until the next call.
        """
        size = (image.height, image.width)
        if size != self.transform.source:
            self.transform = FrameTransform.between(size, self.frame)
            self._pixels[:] = LETTERBOX_GREY
        planes = self._scaler.scale(image, self.transform.scaled)
        for channel, plane in zip(CHANNELS, planes, strict=True):
            self._place(plane, self._pixels[0, :, :, channel])
        return self._pixels

    def _place(self, plane: NDArray[np.uint8], onto: NDArray[np.uint8]) -> None:
        """Copy the centre of ``plane``, uint8 (H, W), or put it into the middle of ``onto``."""
        top, left = self.transform.offset
        if self.frame.fit == "letterbox":
            onto[top : top + plane.shape[0], left : left + plane.shape[1]] = plane
        else:
            onto[:] = plane[-top : self.frame.height - top, -left : self.frame.width - left]
