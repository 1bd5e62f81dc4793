"""A synthetic video to measure on by default: created once, the same on every machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.files import cache_folder, writing
from edgevid.progress import Progress, silent
from edgevid.registry import need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WIDTH, HEIGHT, RATE_FPS, FRAMES = 1280, 720, 25, 250


def synthetic_video(progress: Progress = silent) -> Path:
    """Return a 720p H.264 file of 10 s: soft clouds under a slow pan, with a camera's noise.

    It is kept in the user's cache; its name has the parameters.
    """
    path = cache_folder() / "bench" / f"clouds-live-{WIDTH}x{HEIGHT}-{RATE_FPS}fps-{FRAMES}.mp4"
    if not path.exists():
        with writing(path) as part:
            _encode(part, progress)
    return path


def _encode(path: Path, progress: Progress) -> None:
    import numpy as np

    av = need("av", "runner")
    rng = np.random.default_rng(0)
    world = _clouds(rng, HEIGHT, WIDTH + 2 * FRAMES)
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=RATE_FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        # As cameras do: no frame waits for a later one; without look-ahead bytes repeat.
        stream.options = {
            "preset": "veryfast",
            "tune": "zerolatency",
            "crf": "23",
            "threads": "1",
        }
        for index in range(FRAMES):
            view = world[:, 2 * index : 2 * index + WIDTH]
            noise = rng.integers(-4, 5, (HEIGHT // 2, WIDTH // 2, 1), dtype=np.int16)
            noisy = view + noise.repeat(2, axis=0).repeat(2, axis=1)
            image = av.VideoFrame.from_ndarray(noisy.clip(0, 255).astype(np.uint8), "rgb24")
            container.mux(stream.encode(image))
            progress("bench video", index + 1, FRAMES)
        container.mux(stream.encode())


def _clouds(rng: np.random.Generator, height: int, width: int) -> NDArray[np.int16]:
    """Smooth random colour, int16 ``(height, width, 3)``, 0 to 255: a sum of ever finer noise."""
    import numpy as np

    total = np.zeros((height, width, 3), np.float32)
    for cell in (240, 80, 20, 5):
        grid = rng.random((height // cell + 2, width // cell + 2, 3), dtype=np.float32) - 0.5
        rows, columns = np.arange(height) / cell, np.arange(width) / cell
        top, left = rows.astype(int), columns.astype(int)
        down, right = (rows - top)[:, None, None], (columns - left)[None, :, None]
        upper = grid[top][:, left] * (1 - right) + grid[top][:, left + 1] * right
        lower = grid[top + 1][:, left] * (1 - right) + grid[top + 1][:, left + 1] * right
        total += (upper * (1 - down) + lower * down) * cell**0.5
    low, high = float(total.min()), float(total.max())
    clouds: NDArray[np.int16] = ((total - low) / (high - low) * 255).astype(np.int16)
    return clouds
