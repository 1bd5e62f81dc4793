"""A dataset divided into splits, with notes for the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgevid.data.duplicates import duplicate_notes, find_duplicates
from edgevid.data.folders import Tree
from edgevid.data.groups import find_recordings
from edgevid.data.splits import Split, shared_recordings, split_files
from edgevid.errors import BadInput


@dataclass(frozen=True)
class Division:
    """The splits of a dataset.

    Attributes:
        split: The paths of each split.
        recordings: How clips of one recording were recognised, as plain data for the record: the
            ``rule`` and the numbers of ``recordings`` and ``clips``.
        notes: Notes for the user, one line each.
    """

    split: Split
    recordings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def divide(tree: Tree, seed: int = 0, group: str | None = None) -> Division:
    """Divide a dataset, so that no recording is in two splits.

    Files with equal content count as one recording. Folders that name splits are kept as they are;
    a recording that they divide is reported, and refused if the user named the recordings.

    Args:
        tree: The dataset.
        seed: Seed of the random split.
        group: How recordings are recognised; see `edgevid.data.groups.find_recordings`.

    Returns:
        The splits.

    Raises:
        BadInput: ``group`` cannot be used, train has no clip of a class, or the folders of splits
            divide a recording that ``group`` names.
    """
    recordings = find_recordings(tree.files, group)
    same = find_duplicates(tree.root, tree.files)
    split = split_files(tree, seed, recordings.joined(same))
    shared = shared_recordings(split, recordings.by_path)
    notes = [*tree.notes, *recordings.notes()]
    if shared:
        name, one, other = shared[0]
        recordings_are = "1 recording is" if len(shared) == 1 else f"{len(shared)} recordings are"
        text = f"{recordings_are} in two splits, such as {name}: {one} and {other}"
        if group is not None:
            raise BadInput(f"{tree.root}: {text}; move the clips of a recording into one folder")
        notes.append(f"warning: {text}; the metric will be too high; move each into one split")
    elif recordings.rule:
        notes[-1 if not recordings.unknown else -2] += "; no recording is in two splits"
    notes += _missing_classes(tree, split)
    notes += duplicate_notes(same, tree.files, split)
    return Division(split, recordings.to_json(), tuple(notes))


def _missing_classes(tree: Tree, split: Split) -> list[str]:
    """Notes on classes that have no clip to validate or test on.

    Raises:
        BadInput: A class has no clip in train.
    """
    label = {file.path: file.stratum for file in tree.files}
    classes, notes = {*label.values()} - {""}, []
    for name, paths in split.items():
        missing = sorted(classes - {label[path] for path in paths})
        if not missing or not paths:
            continue
        if name == "train":
            raise BadInput(f"{tree.root}: no clip of class {missing[0]!r} in train; add some")
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        notes.append(
            f"warning: no clip of class {missing[0]!r}{others} in {name}, so the metric on {name} "
            "does not cover it; add some"
        )
    return notes
