"""Files with equal content."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgevid.data.layout import ClipFile
from edgevid.files import sha256_of

BEGINNING_BYTES = 4096


def find_duplicates(root: Path, files: Iterable[ClipFile]) -> tuple[tuple[str, ...], ...]:
    """Find files with equal content. Only files of equal size and beginning are read whole.

    Args:
        root: The folder of the dataset.
        files: The files.

    Returns:
        Sets of two or more paths, each sorted, ordered by their first path.
    """
    sets = [[file.path for file in files]]
    for feature in (_size, _beginning, sha256_of):
        sets = [found for paths in sets for found in _alike(root, paths, feature)]
    return tuple(sorted(tuple(sorted(paths)) for paths in sets))


def _alike(root: Path, paths: Sequence[str], feature: Callable[[Path], Any]) -> list[list[str]]:
    """Sets of two or more files with an equal feature."""
    found: dict[Any, list[str]] = defaultdict(list)
    for path in paths:
        found[feature(root / path)].append(path)
    return [paths for paths in found.values() if len(paths) > 1]


def _size(path: Path) -> int:
    return path.stat().st_size


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(BEGINNING_BYTES)


def duplicate_notes(
    same: Sequence[Sequence[str]], files: Iterable[ClipFile], split: Mapping[str, Sequence[str]]
) -> list[str]:
    """Notes on equal files: those in two classes, and those in two splits.

    Args:
        same: What `find_duplicates` returned.
        files: The files.
        split: The paths of each split.

    Returns:
        One line for each of the two kinds that occurs.
    """
    label = {file.path: file.annotation for file in files if isinstance(file.annotation, str)}
    place = {path: name for name, paths in split.items() for path in paths}
    notes = []
    for kind, where, fix in (
        ("classes", label, "remove the wrong ones"),
        ("splits", place, "remove one of them, or the metric will be too high"),
    ):
        found = [paths for paths in same if len({where.get(path) for path in paths} - {None}) > 1]
        if found:
            first = next(path for path in found[0] if where.get(path) != where.get(found[0][0]))
            clips = "1 clip is" if len(found) == 1 else f"{len(found)} clips are"
            notes.append(
                f"warning: {clips} in two {kind}, such as {found[0][0]} and {first} "
                f"(equal files); {fix}"
            )
    return notes
