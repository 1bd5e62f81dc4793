"""Splits of a dataset into train, val and test: by folder, or by file and seed."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence

from edgevid.data.folders import ClipFile, Tree
from edgevid.errors import BadInput

SPLITS = ("train", "val", "test")
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
VAL_OF_TRAIN = {"train": 0.85, "val": 0.15}
Split = dict[str, list[str]]
"""Name of a split -> paths of its files relative to the root, sorted."""


def split_files(tree: Tree, seed: int = 0) -> Split:
    """Split a dataset into train, val and test.

    Folders that name splits are kept; if there is none for val, 15 % of train becomes val. Without
    such folders each class is split 70/15/15 at random. A class with at least three files has one
    in every split.

    Args:
        tree: The dataset.
        seed: Seed of the random split; equal seeds give equal splits.

    Returns:
        The paths of each split.

    Raises:
        BadInput: There are split folders, but train has no clip.
    """
    if all(file.split is None for file in tree.files):
        return _cut(tree.files, SHARES, seed)
    named: Split = {name: [f.path for f in tree.files if f.split == name] for name in SPLITS}
    if not named["train"]:
        raise BadInput(f"{tree.root}: has split folders but no clip in train; add some")
    if not named["val"]:
        train = [file for file in tree.files if file.split == "train"]
        named |= _cut(train, VAL_OF_TRAIN, seed)
    return named


def _cut(files: Sequence[ClipFile], shares: Mapping[str, float], seed: int) -> Split:
    """Split each class at random, with at least one file for each share if there are enough."""
    cut: Split = {name: [] for name in shares}
    by_class: dict[str, list[str]] = defaultdict(list)
    for file in files:
        by_class[file.group].append(file.path)
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
