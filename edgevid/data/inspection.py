"""A report on a dataset: what is in it, and which files cannot be decoded."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edgevid.data.division import Division, divide
from edgevid.data.folders import Tree, find, without_root
from edgevid.data.pool import batches, parallel
from edgevid.errors import BadInput, BadVideo
from edgevid.media.video import FileSource
from edgevid.progress import Progress, silent


def check(
    root: Path,
    *,
    group: str | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Decode every file of a dataset and report on it.

    Args:
        root: The folder of the dataset.
        group: How recordings are recognised; see `edgevid.data.groups.find_recordings`.
        workers: Number of processes; by default one per core.
        progress: Called after each batch.

    Returns:
        ``folder``, ``clips``, ``classes``, ``splits`` (split -> class -> number of readable clips;
        ``all`` if there are no split folders), ``frames`` and ``seconds`` (``min``, ``median``,
        ``max``), ``sizes`` and ``rates_fps`` (value -> number of clips), ``unreadable``
        (``path`` and ``reason`` of each), ``ignored`` (``reason``, ``files`` and ``first`` of files
        that are no clips), ``recordings`` and ``notes``, see `edgevid.data.division.Division`,
        ``unusable``, the classes without a readable clip, and ``peculiar``: numbers of clips that
        were ``turned`` upright by their orientation, are ``joined`` recordings, have pixels that
        are ``not_square``, or a rate that is ``guessed``.

    Raises:
        BadInput: There is no such folder, it has no videos, only one class, or ``group`` cannot be
            used.
    """
    tree = find(root)
    division = _divided(tree, group)
    probe = partial(_probe_batch, root=tree.root)
    listed = batches([file.path for file in tree.files])
    probes: dict[str, dict[str, Any]] = {}
    for found in parallel(probe, listed, workers):
        probes |= found
        progress("checking clips", len(probes), len(tree.files))
    good = [(file, probes[file.path]) for file in tree.files if "reason" not in probes[file.path]]
    splits: dict[str, Counter[str]] = defaultdict(Counter)
    for file, _ in good:
        splits[file.split or "all"][file.stratum] += 1
    return {
        "folder": str(tree.root),
        "clips": len(good),
        "classes": list(tree.classes),
        "splits": {split: dict(sorted(counts.items())) for split, counts in splits.items()},
        "frames": _spread([probe["frames"] for _, probe in good]),
        "seconds": _spread([probe["seconds"] for _, probe in good]),
        "sizes": dict(Counter(probe["size"] for _, probe in good)),
        "rates_fps": dict(Counter(f"{probe['rate_fps']:g}" for _, probe in good)),
        "peculiar": {
            what: count
            for what in ("turned", "joined", "not_square", "guessed")
            if (count := sum(probe[what] for _, probe in good))
        },
        "unreadable": [
            {"path": path, "reason": probe["reason"]}
            for path, probe in sorted(probes.items())
            if "reason" in probe
        ],
        "ignored": [one.to_json() for one in tree.ignored],
        "recordings": dict(division.recordings),
        "notes": list(division.notes),
        "unusable": sorted(set(tree.classes) - {file.annotation for file, _ in good}),
    }


def _divided(tree: Tree, group: str | None) -> Division:
    """The splits; what makes a dataset unfit for training is a note, unless ``group`` is wrong."""
    try:
        return divide(tree, group=group)
    except BadInput as error:
        if group is not None:
            raise
        return Division({}, notes=(*tree.notes, f"not for training: {error}"))


def common_rate_fps(tree: Tree, sample: int = 32) -> float:
    """The median of the rates that a sample of the files declares.

    Args:
        tree: The dataset.
        sample: Number of files to open.

    Returns:
        Frames per second.

    Raises:
        BadInput: None of the files can be opened.
    """
    step = max(1, len(tree.files) // sample)
    probes = [_probe(file.path, root=tree.root) for file in tree.files[::step]]
    rates = sorted(probe["rate_fps"] for probe in probes if probe.get("rate_fps"))
    if not rates:
        raise BadInput(f"{tree.root}: no video could be opened; run edgevid dataset check on it")
    return float(round(rates[len(rates) // 2], 3))


def _probe_batch(batch: list[str], *, root: Path) -> dict[str, dict[str, Any]]:
    return {path: _probe(path, root=root, whole=True) for path in batch}


def _probe(path: str, *, root: Path, whole: bool = False) -> dict[str, Any]:
    """Size and rate of a file, with ``whole`` also its frames; or why it is unreadable."""
    try:
        with FileSource(root / path) as source:
            return _whole(source) if whole else {"rate_fps": source.rate_fps}
    except BadVideo as error:
        return {"reason": without_root(root, error)}


def _whole(source: FileSource) -> dict[str, Any]:
    """What only decoding a whole file tells."""
    height, width = source.size
    frames, cuts, last_s, rate_fps = 0, 0, 0.0, source.rate_fps
    for frame in source:
        frames += 1
        cuts += frame.cut is not None
        last_s = frame.pts_s
    if source.truncated:
        return {"reason": f"truncated after {frames} frames"}
    return {
        "rate_fps": rate_fps,
        "size": f"{width}x{height}",
        "frames": frames,
        "seconds": round(last_s + source.timing.frame_s, 3),
        "turned": source.turned,
        "joined": cuts > 0,
        "not_square": source.pixel_aspect != 1,
        "guessed": source.timing.origin == "guess" and frames > 1,
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    ordered = sorted(values)
    if not ordered:
        return None
    return {"min": ordered[0], "median": ordered[len(ordered) // 2], "max": ordered[-1]}
