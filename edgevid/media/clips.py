"""Labelled clips on disk: folders per class, splits by file, decoded shards that are kept.

    ROOT/CLASS/clip.mp4            split here, by file, the same for the same seed
    ROOT/train/CLASS/clip.mp4      splits as the folders say; a missing val is cut from train

Decoding is done once for each file and geometry. What cannot be decoded is named and left out.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgevid.children import leave_interrupts_to_parent
from edgevid.contract import FrameInput
from edgevid.errors import BadInput, BadVideo
from edgevid.files import canonical_json, sha256_of, write_json, writing
from edgevid.media.video import VIDEO_ENDINGS, FileSource, read_clip
from edgevid.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPLITS = ("train", "val", "test")
SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
CACHE_FOLDER = ".edgevid-cache"
CACHE_FORMAT = 1  # raise it when decoded pixels or the layout of a shard change
CLIPS_PER_SHARD = 64

Task = TypeVar("Task")
Result = TypeVar("Result")
Split = dict[str, list[str]]
"""Split -> sorted paths, relative to the root, with forward slashes."""


@dataclass(frozen=True)
class ClipFile:
    """One file: its path relative to the root, its class, and the split that its folder names."""

    path: str
    label: str
    split: str | None = None


@dataclass(frozen=True)
class Tree:
    """The labelled files under a root, sorted; classes are sorted too."""

    root: Path
    classes: tuple[str, ...]
    files: tuple[ClipFile, ...]

    @property
    def labels(self) -> dict[str, str]:
        """Relative path -> class."""
        return {file.path: file.label for file in self.files}


def find(root: Path) -> Tree:
    """Find the classes and files under ``root``.

    Raises `BadInput` where there is no folder, nothing in it, one class only, or no video.
    """
    root = Path(root)
    if not root.exists():
        raise BadInput(f"{root}: no such folder; give a folder with one folder of clips per class")
    if not root.is_dir():
        raise BadInput(f"{root}: is a file; give a folder with one folder of clips per class")
    tops = _folders(root)
    if not tops:
        raise BadInput(
            f"{root}: has no folders in it; put the clips of each class in one of its own"
        )
    split_tree = all(top.name in SPLIT_FOLDERS for top in tops)
    files: list[ClipFile] = []
    for top in tops:
        split = SPLIT_FOLDERS[top.name] if split_tree else None
        for folder in _folders(top) if split_tree else [top]:
            files += [
                ClipFile(_relative(path, root), folder.name, split) for path in _videos(folder)
            ]
    classes = tuple(sorted({file.label for file in files}))
    if not files:
        raise BadInput(f"{root}: has no video in its folders; known endings: {_endings()}")
    if len(classes) < 2:
        raise BadInput(f"{root}: has one class only, {classes[0]!r}; add a folder for another one")
    return Tree(root, classes, tuple(sorted(files, key=lambda file: file.path)))


def split_files(tree: Tree, seed: int = 0) -> Split:
    """Which file is for what: as the folders say, else 70/15/15 of each class, by ``seed``.

    A class of three files or more has one in every split. A tree with split folders but no val
    gives a part of train to it; one with no train raises `BadInput`.
    """
    if all(file.split is None for file in tree.files):
        return _cut(tree.files, SHARES, seed)
    named: Split = {name: [f.path for f in tree.files if f.split == name] for name in SPLITS}
    if not named["train"]:
        raise BadInput(f"{tree.root}: has split folders but no clip in train; add some")
    if not named["val"]:
        train = [file for file in tree.files if file.split == "train"]
        named |= _cut(train, {"train": 0.85, "val": 0.15}, seed)
    return named


def common_rate_fps(tree: Tree, sample: int = 32) -> float:
    """The middle rate that a sample of the files declares, in frames per second.

    Raises `BadInput` where none of them can be opened.
    """
    step = max(1, len(tree.files) // sample)
    probes = [_probe(file.path, root=tree.root) for file in tree.files[::step]]
    rates = sorted(probe["rate_fps"] for probe in probes if probe.get("rate_fps"))
    if not rates:
        raise BadInput(f"{tree.root}: no video could be opened; run edgevid dataset check on it")
    return float(round(rates[len(rates) // 2], 3))


def check(root: Path, *, workers: int | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Decode every file and report on it; raises `BadInput` as `find` does.

    The report has ``folder``, ``clips``, ``classes``, ``splits`` (split -> class -> readable
    clips; ``all`` where there are no split folders), ``frames`` and ``seconds`` (lowest, median,
    highest), ``sizes``, ``rates_fps`` (value -> clips), and ``unreadable`` (path and reason).
    """
    tree = find(root)
    probe = partial(_probe_batch, root=tree.root)
    batches = _batches([file.path for file in tree.files])
    probes: dict[str, dict[str, Any]] = {}
    for found in parallel(probe, batches, workers):
        probes |= found
        progress("checking clips", len(probes), len(tree.files))
    good = [(file, probes[file.path]) for file in tree.files if "reason" not in probes[file.path]]
    splits: dict[str, Counter[str]] = defaultdict(Counter)
    for file, _ in good:
        splits[file.split or "all"][file.label] += 1
    return {
        "folder": str(tree.root),
        "clips": len(good),
        "classes": list(tree.classes),
        "splits": {split: dict(sorted(counts.items())) for split, counts in splits.items()},
        "frames": _spread([probe["frames"] for _, probe in good]),
        "seconds": _spread([probe["seconds"] for _, probe in good]),
        "sizes": dict(Counter(probe["size"] for _, probe in good)),
        "rates_fps": dict(Counter(f"{probe['rate_fps']:g}" for _, probe in good)),
        "unreadable": [
            {"path": path, "reason": probe["reason"]}
            for path, probe in sorted(probes.items())
            if "reason" in probe
        ],
    }


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
    for batch, key in parallel(decode, _batches(sorted(paths)), workers):
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


def parallel(
    work: Callable[[Task], Result], tasks: Sequence[Task], workers: int | None = None
) -> Iterator[Result]:
    """Do ``work`` on each of ``tasks`` in processes; results in order, as soon as they are there.

    Processes are spawned, not forked: a parent that has loaded a native runtime is not safe to
    fork. With one worker or one task nothing is spawned. ``work`` must be picklable.
    """
    workers = min(workers or len(os.sched_getaffinity(0)), len(tasks))
    if workers <= 1:
        yield from map(work, tasks)
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=leave_interrupts_to_parent
    )
    try:
        futures: list[Future[Result]] = [pool.submit(work, task) for task in tasks]
        for future in futures:
            yield future.result()
    except BaseException:
        for worker in active_children():  # what they are at is written aside, so nothing is spoilt
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


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
            index[path] = {"reason": _without(root, error)}
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


def _cut(files: Sequence[ClipFile], shares: Mapping[str, float], seed: int) -> Split:
    """Cut each class into ``shares`` by chance, with at least one file each where there are any."""
    cut: Split = {name: [] for name in shares}
    by_class: dict[str, list[str]] = defaultdict(list)
    for file in files:
        by_class[file.label].append(file.path)
    for label, paths in sorted(by_class.items()):
        order = sorted(paths)
        random.Random(f"{seed} {label}").shuffle(order)
        first, *others = shares
        for name in others:
            count = max(1, round(shares[name] * len(paths))) if len(paths) >= len(shares) else 0
            cut[name] += order[:count]
            order = order[count:]
        cut[first] += order
    return {name: sorted(paths) for name, paths in cut.items()}


def _probe_batch(batch: list[str], *, root: Path) -> dict[str, dict[str, Any]]:
    return {path: _probe(path, root=root, whole=True) for path in batch}


def _probe(path: str, *, root: Path, whole: bool = False) -> dict[str, Any]:
    """Size and rate of a file, and with ``whole`` its frames; or why it is unreadable."""
    try:
        with FileSource(root / path) as source:
            height, width = source.size
            found: dict[str, Any] = {"size": f"{width}x{height}", "rate_fps": source.rate_fps}
            if whole:
                frames = sum(1 for _ in source)
                if source.truncated:
                    return {"reason": f"truncated after {frames} frames"}
                found |= {"frames": frames, "seconds": round(frames / (source.rate_fps or 25), 3)}
            return found
    except BadVideo as error:
        return {"reason": _without(root, error)}


def _without(root: Path, error: BadVideo) -> str:
    """The error's reason without the path, which stands beside it."""
    return str(error).removeprefix(f"{root}/").partition(": ")[2] or str(error)


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    ordered = sorted(values)
    if not ordered:
        return None
    return {"min": ordered[0], "median": ordered[len(ordered) // 2], "max": ordered[-1]}


def _batches(paths: Sequence[str]) -> list[list[str]]:
    return [list(paths[n : n + CLIPS_PER_SHARD]) for n in range(0, len(paths), CLIPS_PER_SHARD)]


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _videos(folder: Path) -> list[Path]:
    found = (p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_ENDINGS and p.is_file())
    return sorted(p for p in found if not p.name.startswith("."))


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _endings() -> str:
    return ", ".join(VIDEO_ENDINGS)
