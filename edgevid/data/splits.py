"""Splits of a data set into train, val and test: by folder, or by file and seed."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence

from edgevid.data.folders import ClipFile, Tree
from edgevid.errors import BadInput

SPLITS = ("train", "val", "test")
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
Split = dict[str, list[str]]
"""Split -> sorted paths, relative to the root, with forward slashes."""


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
