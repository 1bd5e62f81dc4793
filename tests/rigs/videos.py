"""Small real videos, encoded here."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def moving_images(frames: int, height: int, width: int) -> np.ndarray:
    """Gradients that move: uint8 ``(frames, height, width, 3)``, each frame brighter."""
    rows, columns = np.mgrid[:height, :width]
    out = np.empty((frames, height, width, 3), np.uint8)
    for index in range(frames):
        level = 40 + 160 * index // max(frames - 1, 1)
        out[index, ..., 0] = (columns * 255 // width + 5 * index) % 256
        out[index, ..., 1] = level
        out[index, ..., 2] = rows * 255 // height
    return out


def write_video(
    path: Path,
    frames: np.ndarray,
    fps: int = 16,
    *,
    faststart: bool = False,
    later_s: float = 0.0,
    **options: str,
) -> Path:
    """Encode ``frames`` as H.264; their stamps begin ``later_s`` seconds after 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", options=flags) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.options = {"crf": "12", "preset": "veryfast", "threads": "1", **options}
        for index, frame in enumerate(frames):
            image = av.VideoFrame.from_ndarray(frame, "rgb24")
            if later_s:
                image.pts, image.time_base = round(later_s * fps) + index, Fraction(1, fps)
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return path


def write_camera_video(
    path: Path,
    *,
    seconds: float,
    fps: float,
    size: tuple[int, int] = (64, 96),
    gop_s: float = 1.0,
    codec: str = "libx264",
) -> Path:
    """A video for a camera to show: without B-frames, few bytes, a key frame each ``gop_s``.

    The MP4's index is in front and the rate may be below 1, which `write_video` can't have.
    """
    rate = Fraction(fps).limit_denominator(1000)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.options = {"g": str(max(1, round(gop_s * fps))), "threads": "1"}
        if codec == "libx264":
            stream.options |= {"preset": "ultrafast", "tune": "zerolatency"}
        shown = [
            av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format="yuv420p")
            for frame in moving_images(50, *size)
        ]
        for index in range(max(2, round(seconds * fps))):
            image = shown[index % len(shown)]
            image.pts, image.time_base = index, 1 / rate
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return path
