"""Decoded clips, kept in shards on disk.

Each file is decoded once for each geometry and rate. Files that cannot be decoded are reported and
left out.
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
from edgevid.errors import BadInput, BadVideo
from edgevid.files import canonical_json, sha256_of, write_json, writing
from edgevid.media.video import read_clip
from edgevid.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CACHE_FOLDER = ".edgevid-cache"
CACHE_FORMAT = 1  # raise it when decoded pixels or the layout of a shard change


@dataclass(frozen=True)
class Clips:
    """Decoded clips, memory-mapped, in the order of their paths.

    ``pictures[i]`` is uint8 (frames, height, width, 3) of ``paths[i]``, read-only; ``targets[i]``
    is the index of its class in ``classes``. ``left_out`` names what could not be
    used, with the reason.
    """

    paths: tuple[str, ...]
    pictures: tuple[NDArray[np.uint8], ...]
    targets: NDArray[np.int64]
    classes: tuple[str, ...]
    left_out: tuple[dict[str, str], ...]

    def __len__(self) -> int:
        return len(self.paths)


def load_clips(
    tree: Tree,
    paths: Sequence[str],
    frame: FrameInput,
    *,
    min_frames: int = 1,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Clips:
    """Decode ``paths`` of ``tree`` to the geometry and rate of ``frame``, or find them decoded.

    Shards are kept in ``cache`` (default: a hidden folder in the root). Files that cannot be
    decoded, or have fewer than ``min_frames`` frames at that rate, are named and left out. Raises
    `BadInput` for a path that is not in the tree.
    """
    import numpy as np

    labels = tree.labels
    if strange := [path for path in paths if path not in labels]:
        raise BadInput(f"{strange[0]} is not in {tree.root}; was the data changed since?")
    cache = cache or tree.root / CACHE_FOLDER
    decode = partial(_shard, root=tree.root, frame=frame, cache=cache)
    pictures: dict[str, NDArray[np.uint8]] = {}
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
                reason = (
                    f"too short: {found['frames']} of {min_frames} frames at {frame.rate_fps:g} fps"
                )
                left_out.append({"path": path, "reason": reason})
            else:
                pictures[path] = stack[found["start"] : found["start"] + found["frames"]]
        done += len(batch)
        progress("decoding clips", done, len(paths))
    number = {label: n for n, label in enumerate(tree.classes)}
    return Clips(
        tuple(pictures),
        tuple(pictures.values()),
        np.array([number[labels[path]] for path in pictures], np.int64),
        tree.classes,
        tuple(left_out),
    )


def _shard(
    batch: list[str], *, root: Path, frame: FrameInput, cache: Path
) -> tuple[list[str], str]:
    """Make sure that the shard of ``batch`` is there; give the batch and the shard's key."""
    key = _key(batch, root, frame)
    # The index is written last: where it is, the shard is whole.
    if not (cache / f"{key}.json").exists():
        _write_shard(batch, key, root, frame, cache)
    return batch, key


def _write_shard(batch: list[str], key: str, root: Path, frame: FrameInput, cache: Path) -> None:
    import numpy as np

    index: dict[str, dict[str, Any]] = {}
    stack: list[NDArray[np.uint8]] = [np.empty((0, frame.height, frame.width, 3), np.uint8)]
    start = 0
    for path in batch:
        try:
            clip = read_clip(root / path, frame)
        except BadVideo as error:
            index[path] = {"reason": without_root(root, error)}
            continue
        index[path] = {"start": start, "frames": len(clip)}
        start += len(clip)
        stack.append(clip)
    with writing(cache / f"{key}.npy") as part, part.open("wb") as file:
        np.save(file, np.concatenate(stack))
    write_json(cache / f"{key}.json", index)


def _key(batch: list[str], root: Path, frame: FrameInput) -> str:
    """A name for the decoded ``batch``: it changes with any file, the geometry, or the rate."""
    states = [(root / path).stat() for path in batch]
    what = {
        "format": CACHE_FORMAT,
        "frame": asdict(frame),
        "files": [[p, s.st_size, s.st_mtime_ns] for p, s in zip(batch, states, strict=True)],
    }
    return sha256_of(canonical_json(what))[:24]
