"""Files with equal content."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edgevid.data.layout import ClipFile
from edgevid.files import sha256_of


def find_duplicates(root: Path, files: Iterable[ClipFile]) -> tuple[tuple[str, ...], ...]:
    """Find files with equal content. Only files of equal size are read.

    Args:
        root: The folder of the dataset.
        files: The files.

    Returns:
        Sets of two or more paths, each sorted, ordered by their first path.
    """
    by_size: dict[int, list[str]] = defaultdict(list)
    for file in files:
        by_size[(root / file.path).stat().st_size].append(file.path)
    by_content: dict[str, list[str]] = defaultdict(list)
    for paths in by_size.values():
        if len(paths) > 1:
            for path in paths:
                by_content[sha256_of(root / path)].append(path)
    return tuple(sorted(tuple(sorted(paths)) for paths in by_content.values() if len(paths) > 1))


def duplicate_notes(
    same: Sequence[Sequence[str]], files: Iterable[ClipFile], split: Mapping[str, Sequence[str]]
) -> list[str]:
    """What people should know of equal files: those in two classes, and those in two splits.

    Args:
        same: What `find_duplicates` returned.
        files: The files.
        split: The paths of each split.

    Returns:
        One line for each of the two kinds that occurs.
    """
    label = {file.path: str(file.annotation) for file in files}
    place = {path: name for name, paths in split.items() for path in paths}
    notes = []
    for kind, where, fix in (
        ("classes", label, "remove the wrong ones"),
        ("splits", place, "remove one of them, or the metric is too good"),
    ):
        found = [paths for paths in same if len({where.get(path) for path in paths} - {None}) > 1]
        if found:
            first = next(path for path in found[0] if where.get(path) != where.get(found[0][0]))
            notes.append(
                f"warning: {len(found)} clips are in two {kind}, such as {found[0][0]} and {first} "
                f"(equal files); {fix}"
            )
    return notes
