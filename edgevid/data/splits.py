"""Splits of a dataset into train, val and test: by folder, or at random by recording."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from edgevid.data.folders import ClipFile, Tree
from edgevid.errors import BadInput

SPLITS = ("train", "val", "test")
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
VAL_OF_TRAIN = {"train": 0.85, "val": 0.15}
Split = dict[str, list[str]]
"""Name of a split -> paths of its files relative to the root, sorted."""


def split_files(tree: Tree, seed: int = 0, recordings: Mapping[str, str] | None = None) -> Split:
    """Split a dataset into train, val and test.

    Folders that name splits are kept; if there is none for val, 15 % of train becomes val. Without
    such folders each class is split 70/15/15 at random. The clips of one recording stay together.
    A class with at least three recordings has one in every split, a class with two has them in
    train and val.

    Args:
        tree: The dataset.
        seed: Seed of the random split; equal seeds give equal splits.
        recordings: Path -> recording; a clip that is not in it is a recording of its own.

    Returns:
        The paths of each split.

    Raises:
        BadInput: There are split folders, but train has no clip.
    """
    known = recordings or {}
    if all(file.split is None for file in tree.files):
        return _cut(tree.files, SHARES, seed, known)
    named: Split = {name: [f.path for f in tree.files if f.split == name] for name in SPLITS}
    if not named["train"]:
        raise BadInput(f"{tree.root}: has split folders but no clip in train; add some")
    if not named["val"]:
        train = [file for file in tree.files if file.split == "train"]
        named |= _cut(train, VAL_OF_TRAIN, seed, known)
    return named


def shared_recordings(split: Split, recordings: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Clips of one recording that are in two splits, which folders can bring about.

    Args:
        split: The paths of each split.
        recordings: Path -> recording.

    Returns:
        The recording, and one of its clips in each of two splits.
    """
    first: dict[str, tuple[str, str]] = {}
    shared: dict[str, tuple[str, str, str]] = {}
    for name, paths in split.items():
        for path in paths:
            if recording := recordings.get(path):
                where, other = first.setdefault(recording, (name, path))
                if where != name:
                    shared.setdefault(recording, (recording, other, path))
    return sorted(shared.values())


def _cut(
    files: Sequence[ClipFile], shares: Mapping[str, float], seed: int, known: Mapping[str, str]
) -> Split:
    """Split each class at random, with at least one recording for each share if there are enough.

    A recording with clips of several classes goes where the first of these classes puts it.
    """
    by_class: dict[str, list[str]] = defaultdict(list)
    for file in files:
        by_class[file.stratum].append(file.path)
    place: dict[str, str] = {}
    for label, paths in sorted(by_class.items()):
        sizes = Counter(known.get(path, path) for path in sorted(paths))
        order = sorted(sizes)
        random.Random(f"{seed} {label}").shuffle(order)
        _place(order, sizes, shares, place)
    cut: Split = {name: [] for name in shares}
    for path in sorted(file.path for file in files):
        cut[place[known.get(path, path)]].append(path)
    return cut


def _place(
    order: Sequence[str],
    sizes: Mapping[str, int],
    shares: Mapping[str, float],
    place: dict[str, str],
) -> None:
    """Place the recordings of one class that have no place yet, and fill the small splits first."""
    train, *others = shares
    free = [name for name in order if name not in place]
    have = _clips_by_split(order, sizes, place)
    enough = others[: len(order) - 1]
    for number, split in enumerate(enough):
        wanted = max(1, round(shares[split] * sum(sizes.values())))
        # One recording is left for each split that has none yet, train among them.
        kept = sum(not have[other] for other in (train, *enough[number + 1 :]))
        while len(free) > kept and (missing := wanted - have[split]) > 0:
            if have[split] and sizes[free[0]] > 2 * missing:
                break  # nearer to the share without it
            name = free.pop(0)
            place[name] = split
            have[split] += sizes[name]
    place |= dict.fromkeys(free, train)


def _clips_by_split(
    names: Iterable[str], sizes: Mapping[str, int], place: Mapping[str, str]
) -> Counter[str]:
    have: Counter[str] = Counter()
    for name in names:
        if name in place:
            have[place[name]] += sizes[name]
    return have
