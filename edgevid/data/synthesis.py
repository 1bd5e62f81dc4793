"""Synthetic datasets: H.264 files of a bold shape that moves over a textured background.

Equal seeds give equal files, byte for byte, with any number of processes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.data.motion import MOTIONS, Speeds, poses
from edgevid.errors import BadInput
from edgevid.files import write_json, writing, writing_folder
from edgevid.progress import Progress, silent
from edgevid.registry import need, unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Images = NDArray[np.uint8]

SPLITS = ("train", "val", "test")
SETTINGS_FILE = "synth.json"
TEMPLATE_PX = 64
LASTING = Speeds(shift=(0.026, 0.036), turn_deg=(6.5, 6.9), growth=(0.037, 0.0385))
"""Speeds at which thirty frames stay within the sizes and tilts of the clips of a dataset."""

# Outlines in the square from -1 to 1, without rotational symmetry.
SHAPES: dict[str, list[list[tuple[float, float]]]] = {
    "boot": [[(-0.6, -1), (0.1, -1), (0.1, 0.3), (0.95, 0.3), (0.95, 1), (-0.6, 1)]],
    "flag": [[(-0.8, -1), (0.9, -0.9), (0.8, 0.1), (-0.3, 0.1), (-0.3, 1), (-0.8, 1)]],
    "key": [
        [(-0.3, -1), (0.3, -1), (0.3, 1), (-0.3, 1)],
        [(0.2, -1), (1, -1), (1, -0.5), (0.2, -0.5)],
        [(0.2, -0.2), (0.7, -0.2), (0.7, 0.3), (0.2, 0.3)],
    ],
    "wedge": [[(-0.9, 0.9), (0.3, -1), (0.9, 0.2), (0.2, 0.9)]],
}


@dataclass(frozen=True)
class ClipSpec:
    """One clip to render.

    Attributes:
        path: Path relative to the dataset.
        motion: One of `edgevid.data.motion.MOTIONS`.
        seed: Seed of its random numbers.
    """

    path: str
    motion: str
    seed: tuple[int, ...]


Render = Callable[[ClipSpec], "Images"]


def synth_motion(
    out: Path,
    *,
    seed: int = 0,
    size: int = 64,
    frames: int = 12,
    fps: int = 15,
    train: int = 500,
    val: int = 60,
    test: int = 100,
    workers: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the dataset of motions, ``out/{train,val,test}/{motion}/NNNN.mp4``.

    An interrupted call is resumed when it is repeated with the same arguments.

    Args:
        out: The folder to write.
        seed: Equal seeds give equal files.
        size: Width and height in pixels.
        frames: Frames per clip.
        fps: Frames per second.
        train: Training clips per class.
        val: Validation clips per class.
        test: Test clips per class.
        workers: Number of processes; by default one per core.
        progress: Called as clips are written.

    Returns:
        The settings.

    Raises:
        BadInput: ``out`` holds something else, or a value is out of range.
    """
    _check_sizes(size, frames, fps)
    if min(train, val, test) < 0:
        raise BadInput(f"cannot render {min(train, val, test)} clips; use counts of 0 or more")
    counts = dict(zip(SPLITS, (train, val, test), strict=True))
    settings = {"kind": "motion", "seed": seed, "size": size, "frames": frames, "fps": fps} | counts
    clips = [
        ClipSpec(f"{split}/{motion}/{index:04d}.mp4", motion, (seed, s, m, index))
        for s, split in enumerate(SPLITS)
        for m, motion in enumerate(MOTIONS)
        for index in range(counts[split])
    ]
    render = partial(render_clip, size=size, frames=frames)
    write_tree(out, settings, clips, render, fps=fps, workers=workers, progress=progress)
    return settings


def write_tree(
    out: Path,
    settings: dict[str, Any],
    clips: Sequence[ClipSpec],
    render: Render,
    *,
    fps: int,
    workers: int | None = None,
    progress: Progress = silent,
) -> None:
    """Render clips in parallel to H.264 files in a folder.

    Nothing is done if the folder is complete. An interrupted call is resumed when it is repeated
    with equal settings.

    Args:
        out: The folder to write.
        settings: What determines the clips, as plain data.
        clips: The clips to render.
        render: Renders one clip as uint8 (frames, height, width, 3). It must be picklable.
        fps: Frames per second.
        workers: Number of processes; by default one per core.
        progress: Called as clips are written.

    Raises:
        BadInput: ``out`` holds something else.
        MissingExtra: PyAV or OpenCV is not installed.
    """
    out = Path(out)
    if _holds(out, settings):
        return
    need("av", "runner")
    need("cv2", "train")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} already holds something else; remove it, or use another folder")
    part = out.with_name(f".{out.name}.part")
    if part.exists() and not _holds(part, settings):
        shutil.rmtree(part)
    with writing_folder(out, keep=True) as folder:
        write_json(folder / SETTINGS_FILE, settings)
        for parent in {(folder / clip.path).parent for clip in clips}:
            parent.mkdir(parents=True, exist_ok=True)
        missing = [clip for clip in clips if not (folder / clip.path).exists()]
        _write_missing(folder, missing, render, fps, workers, len(clips), progress)


def _holds(folder: Path, settings: dict[str, Any]) -> bool:
    try:
        return bool(json.loads((folder / SETTINGS_FILE).read_text()) == settings)
    except (OSError, ValueError):
        return False


def _write_missing(
    folder: Path,
    missing: list[ClipSpec],
    render: Render,
    fps: int,
    workers: int | None,
    total: int,
    progress: Progress,
) -> None:
    from edgevid.data.pool import parallel

    batches = [missing[start : start + 16] for start in range(0, len(missing), 16)]
    write = partial(_write_batch, folder=folder, render=render, fps=fps)
    done = total - len(missing)
    progress("rendering clips", done, total)
    for count in parallel(write, batches, workers):
        done += count
        progress("rendering clips", done, total)


def _write_batch(batch: list[ClipSpec], *, folder: Path, render: Render, fps: int) -> int:
    need("cv2", "train").setNumThreads(1)
    for clip in batch:
        # Only the finished folder is made durable; until then a clip is complete or absent.
        part = (folder / clip.path).with_suffix(".part")
        encode(part, render(clip), fps)
        part.replace(folder / clip.path)
    return len(batch)


def render_clip(clip: ClipSpec, *, size: int, frames: int, speeds: Speeds | None = None) -> Images:
    """Render one clip.

    Args:
        clip: The clip.
        size: Width and height in pixels.
        frames: Number of frames.
        speeds: How fast it moves; by default as in the dataset.

    Returns:
        RGB images, uint8 (frames, size, size, 3).
    """
    import numpy as np

    rng = np.random.default_rng(clip.seed)
    path = poses(clip.motion, frames, rng, speeds)
    scene = SyntheticScene(rng, size)
    return np.stack([scene.draw(pose) for pose in path])


class SyntheticScene:
    """A background and a shape that is drawn over it at any pose."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self._rng = rng
        self._size = size
        self._noise = rng.uniform(2, 7)
        self._back = _texture(rng, size)
        self._shape = _shape(rng)

    def draw(self, pose: NDArray[np.float64]) -> Images:
        """Draw one frame.

        Args:
            pose: x, y, angle and radius, float64 (4,), as in `edgevid.data.motion.poses`.

        Returns:
            RGB image, uint8 (size, size, 3).
        """
        import cv2
        import numpy as np

        size = self._size
        x, y, angle_deg, radius = pose
        scale = 2 * radius * size / TEMPLATE_PX
        centre = np.array([x % 1, y % 1]) * size
        whole = np.floor(centre)
        # OpenCV's angles are counter-clockwise. The shape is drawn in the centre and rolled, so
        # that it re-enters on the opposite side.
        matrix = cv2.getRotationMatrix2D((TEMPLATE_PX / 2, TEMPLATE_PX / 2), -angle_deg, scale)
        matrix[:, 2] += size / 2 - TEMPLATE_PX / 2 + centre - whole
        drawn = cv2.warpAffine(self._shape, matrix, (size, size), flags=cv2.INTER_LINEAR)
        drawn = np.roll(drawn, (whole[::-1] - size // 2).astype(int), (0, 1)).astype(np.float32)
        alpha = drawn[..., 3:] / 255
        image = self._back * (1 - alpha) + drawn[..., :3] * alpha
        image += self._noise * self._rng.standard_normal(image.shape, np.float32)
        return np.asarray(np.clip(image, 0, 255), np.uint8)


def _texture(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """A background of soft dark blotches at two scales, float32 (size, size, 3)."""
    import cv2
    import numpy as np

    base = rng.uniform(35, 95)
    image = np.full((size, size, 3), base, np.float32)
    for cells, strength in ((4, 16), (int(rng.integers(8, 20)), 10)):
        blotches = rng.standard_normal((cells, cells, 3)).astype(np.float32) * strength
        image += cv2.resize(blotches, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255)


def _shape(rng: np.random.Generator) -> Images:
    """A long asymmetric shape, its head warm and its foot cool, uint8 RGBA (64, 64, 4)."""
    import cv2
    import numpy as np

    outline = list(SHAPES.values())[rng.integers(len(SHAPES))]
    mirror = rng.choice([-1.0, 1.0])
    stretch = rng.uniform((0.55, 0.9), (0.75, 1.15)) * (mirror, 1)
    image = np.zeros((TEMPLATE_PX, TEMPLATE_PX, 4), np.uint8)
    half = TEMPLATE_PX // 2
    image[:half, :, :3] = rng.uniform((210, 150, 40), (255, 230, 130))
    image[half:, :, :3] = rng.uniform((40, 150, 210), (130, 230, 255))
    alpha = np.zeros((TEMPLATE_PX, TEMPLATE_PX), np.uint8)
    for polygon in outline:
        points = np.round(np.array(polygon) * stretch * half * 0.72 + half).astype(np.int32)
        cv2.fillPoly(alpha, [points], 255.0)
    # The foot fades so that the two ends differ: the tilt is visible, not only the axis.
    image[..., 3] = alpha * np.linspace(1.0, 0.2, TEMPLATE_PX)[:, None]
    return np.asarray(cv2.GaussianBlur(image, (3, 3), 0.8), np.uint8)


def encode(path: Path, images: Images, fps: int) -> None:
    """Write a video file, H.264 in MP4. Equal images give equal bytes.

    Args:
        path: The file to write.
        images: RGB, uint8 (frames, height, width, 3).
        fps: Frames per second.
    """
    av = need("av", "runner")
    with av.open(str(path), "w", format="mp4") as container:
        # One thread and no look-ahead: otherwise x264's bytes vary from call to call.
        stream = container.add_stream(
            "libx264",
            rate=fps,
            width=images.shape[2],
            height=images.shape[1],
            pix_fmt="yuv420p",
            options={"preset": "veryfast", "tune": "zerolatency", "crf": "20", "threads": "1"},
        )
        for image in images:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@dataclass(frozen=True)
class MotionSegment:
    """One motion within a video.

    Attributes:
        label: The motion.
        start_frame: Its first frame.
        end_frame: The first frame after it.
        start_s: Time of its first frame in seconds.
        end_s: Time of the first frame after it in seconds.
    """

    label: str
    start_frame: int
    end_frame: int
    start_s: float
    end_s: float


def _check_sizes(size: int, frames: int, fps: int) -> None:
    """Check what is to be rendered.

    Raises:
        BadInput: It cannot be rendered or encoded.
    """
    if size < 32 or size % 2 or frames < 2 or fps < 1:
        raise BadInput(
            f"cannot render {frames} frames of {size} px at {fps} fps; use an even size of 32 or "
            "more, 2 or more frames, and 1 or more fps"
        )


def synth_video(
    out: Path,
    motions: Sequence[str] = MOTIONS,
    *,
    seconds_each: float = 2.0,
    size: int = 256,
    fps: int = 15,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Write a video of several motions, one after another.

    Each motion has its own scene. For two seconds at 15 fps it stays within the sizes and tilts of
    the dataset's clips.

    Args:
        out: The file to write.
        motions: The motions in their order.
        seconds_each: Duration of each motion.
        size: Width and height in pixels.
        fps: Frames per second.
        seed: Equal seeds give equal files.

    Returns:
        The time line: the fields of `MotionSegment` for each motion.

    Raises:
        BadInput: A motion is unknown, or a value is out of range.
    """
    import numpy as np

    for motion in motions:
        if motion not in MOTIONS:
            raise BadInput(unknown("motion", motion, MOTIONS))
    frames = round(seconds_each * fps)
    _check_sizes(size, frames, fps)
    images = [
        render_clip(
            ClipSpec("", motion, (seed, len(SPLITS), n)), size=size, frames=frames, speeds=LASTING
        )
        for n, motion in enumerate(motions)
    ]
    with writing(Path(out)) as part:
        encode(part, np.concatenate(images), fps)
    edges = pairwise(range(0, frames * (len(motions) + 1), frames))
    return [
        asdict(MotionSegment(motion, start, end, start / fps, end / fps))
        for motion, (start, end) in zip(motions, edges, strict=True)
    ]
