"""Small real videos, encoded here."""

from pathlib import Path

import av
import numpy as np


def pictures(frames: int, height: int, width: int) -> np.ndarray:
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
    path: Path, frames: np.ndarray, fps: int = 16, *, faststart: bool = False, **options: str
) -> Path:
    """Encode ``frames`` as H.264."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", options=flags) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.options = {"crf": "12", "preset": "veryfast", "threads": "1", **options}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return path
