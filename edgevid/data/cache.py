"""Decoded clips, kept in shards on disk.

Each file is decoded once per geometry and rate. Files that cannot be decoded are reported and
skipped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.contract import FrameInput
from edgevid.data.folders import Tree, without_root
from edgevid.data.pool import batches, parallel
from edgevid.data.video_files import Ignored
from edgevid.errors import BadInput, BadVideo
from edgevid.files import canonical_json, sha256_of, write_json, writing
from edgevid.media.video import read_clip
from edgevid.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CACHE_FOLDER = ".edgevid-cache"
CACHE_FORMAT = 2
"""Increment it whenever decoded pixels or the layout of a shard change."""


@dataclass(frozen=True)
class Clips:
    """Decoded clips, in the order of their paths.

    Attributes:
        paths: Path of each clip relative to the root.
        images: RGB frames of each clip, uint8 (frames, height, width, 3), memory-mapped and
            read-only.
        annotations: What is known about each clip, in the form of the dataset's task.
        classes: Names of the classes.
        left_out: ``path`` and ``reason`` of each clip that could not be used.
        ignored: Files of the dataset that are no clips, counted by the reason.
    """

    paths: tuple[str, ...]
    images: tuple[NDArray[np.uint8], ...]
    annotations: tuple[Any, ...]
    classes: tuple[str, ...]
    left_out: tuple[dict[str, str], ...]
    ignored: tuple[Ignored, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)


def load_clips(
    tree: Tree,
    paths: Sequence[str],
    frame: FrameInput,
    rate_fps: float,
    *,
    min_frames: int = 1,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Clips:
    """Decode clips to the size and rate of a model, or load them from the cache.

    Args:
        tree: The dataset.
        paths: Relative paths of the clips.
        frame: The size and fit that the model expects.
        rate_fps: Frames to keep per second.
        min_frames: Clips with fewer frames at the model's rate are left out.
        cache: Folder of the shards; by default a hidden folder in the dataset.
        workers: Number of processes; by default one per core.
        progress: Called after each batch.

    Returns:
        The clips, and those that were left out with the reason.

    Raises:
        BadInput: A path is not in the dataset.
    """
    import numpy as np

    annotations = tree.annotations
    if unknown := [path for path in paths if path not in annotations]:
        raise BadInput(f"{unknown[0]} is not in {tree.root}; has the dataset changed?")
    cache = cache or tree.root / CACHE_FOLDER
    decode = partial(_shard, root=tree.root, frame=frame, rate_fps=rate_fps, cache=cache)
    images: dict[str, NDArray[np.uint8]] = {}
    left_out: list[dict[str, str]] = []
    done = 0
    for batch, key in parallel(decode, batches(sorted(paths)), workers):
        index = json.loads((cache / f"{key}.json").read_text())
        stack = np.load(cache / f"{key}.npy", mmap_mode="r")
        for path in batch:
            found = index[path]
            if "reason" in found:
                left_out.append({"path": path, "reason": found["reason"]})
            elif found["frames"] < min_frames:
                reason = f"too short: {found['frames']} of {min_frames} frames at {rate_fps:g} fps"
                left_out.append({"path": path, "reason": reason})
            else:
                images[path] = stack[found["start"] : found["start"] + found["frames"]]
        done += len(batch)
        progress("decoding clips", done, len(paths))
    return Clips(
        tuple(images),
        tuple(images.values()),
        tuple(annotations[path] for path in images),
        tree.classes,
        tuple(left_out),
        tree.ignored,
    )


def _shard(
    batch: list[str], *, root: Path, frame: FrameInput, rate_fps: float, cache: Path
) -> tuple[list[str], str]:
    """Write the shard of a batch if it is missing; return the batch and the shard's key."""
    key = _key(batch, root, frame, rate_fps)
    # The index is written last: if it exists, the shard is complete.
    if not (cache / f"{key}.json").exists():
        _write_shard(batch, key, root, frame, rate_fps, cache)
    return batch, key


def _write_shard(
    batch: list[str], key: str, root: Path, frame: FrameInput, rate_fps: float, cache: Path
) -> None:
    import numpy as np

    index: dict[str, dict[str, Any]] = {}
    stack: list[NDArray[np.uint8]] = [np.empty((0, frame.height, frame.width, 3), np.uint8)]
    start = 0
    for path in batch:
        try:
            clip = read_clip(root / path, frame, rate_fps)
        except BadVideo as error:
            index[path] = {"reason": without_root(root, error)}
            continue
        index[path] = {"start": start, "frames": len(clip)}
        start += len(clip)
        stack.append(clip)
    with writing(cache / f"{key}.npy") as part, part.open("wb") as file:
        np.save(file, np.concatenate(stack))
    write_json(cache / f"{key}.json", index)


def _key(batch: list[str], root: Path, frame: FrameInput, rate_fps: float) -> str:
    """A name for the decoded batch: it changes with any file, the geometry, or the rate."""
    states = [(root / path).stat() for path in batch]
    what = {
        "format": CACHE_FORMAT,
        "frame": asdict(frame),
        "rate_fps": rate_fps,
        "files": [[p, s.st_size, s.st_mtime_ns] for p, s in zip(batch, states, strict=True)],
    }
    return sha256_of(canonical_json(what))[:24]
