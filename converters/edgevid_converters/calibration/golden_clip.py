"""The golden clip: a short H.264 video that checks decoding and geometry on a device."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from edgevid.contract import FrameInput
from edgevid.media.video import read_clip
from edgevid.registry import need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FRAMES = 5


def golden_clip(frame: FrameInput, rate_fps: float) -> tuple[bytes, NDArray[np.uint8]]:
    """Encode a clip that is larger than the model's input and has another aspect ratio.

    Args:
        frame: The input.
        rate_fps: The contract's step rate.

    Returns:
        The file, and the uint8 RGB pixels ``(N, H, W, 3)`` that the media layer decodes it to.
        Equal arguments give equal bytes.
    """
    height, width = (frame.height * 7 // 4) & ~1, (frame.width * 5 // 2) & ~1
    content = _encode([_image(height, width, k) for k in range(FRAMES)], rate_fps)
    return content, read_clip(io.BytesIO(content), frame, rate_fps)


def _image(height: int, width: int, number: int) -> NDArray[np.uint8]:
    """A gradient in each colour, and a bright block that moves over it."""
    import numpy as np

    rows, columns = np.mgrid[0:height, 0:width]
    planes = [rows * 255 // height, columns * 255 // width, (rows + columns) * 4 % 256]
    image = np.stack(planes, axis=-1).astype(np.uint8)
    top, left = height // 8 + 2 * number, width // 8 + 4 * number
    image[top : top + height // 3, left : left + width // 4] = (250, 240, 30)
    return image


def _encode(images: list[NDArray[np.uint8]], rate_fps: float) -> bytes:
    """Encode with one thread and no version strings, so that equal images give equal bytes.

    x264's look-ahead reads uninitialised memory, so the clip is encoded without it.
    """
    av = need("av", "runner")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream(
            "libx264",
            rate=Fraction(rate_fps).limit_denominator(1001),
            options={
                "threads": "1",
                "crf": "18",
                "flags": "+bitexact",
                "tune": "zerolatency",
            },
        )
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return buffer.getvalue()
