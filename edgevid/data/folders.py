"""Labelled clips on disk: one folder per class.

ROOT/CLASS/clip.mp4            without splits; see `edgevid.data.splits`
ROOT/train/CLASS/clip.mp4      splits given by folders
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevid.errors import BadInput, BadVideo
from edgevid.media.video import VIDEO_ENDINGS

SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass(frozen=True)
class ClipFile:
    """One file.

    Attributes:
        path: Path relative to the root, with forward slashes.
        annotation: What is known about it, in the form of a task; for `find`, the name of its
            folder.
        split: ``train``, ``val`` or ``test`` if its folder names one.
    """

    path: str
    annotation: Any
    split: str | None = None

    @property
    def group(self) -> str:
        """What random splits are balanced by: the class, if that is the annotation."""
        return self.annotation if isinstance(self.annotation, str) else ""


@dataclass(frozen=True)
class Tree:
    """The labelled files under a root.

    Attributes:
        root: The folder.
        classes: Names of the classes, sorted.
        files: The files, sorted by path.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[ClipFile, ...]

    @property
    def annotations(self) -> dict[str, Any]:
        """Annotation of each file, by relative path."""
        return {file.path: file.annotation for file in self.files}


def find(root: Path) -> Tree:
    """Find the classes and files of a dataset. No file is opened.

    Args:
        root: The folder of the dataset.

    Returns:
        The files with their classes and splits.

    Raises:
        BadInput: There is no such folder, it has no videos, or only one class.
    """
    root = Path(root)
    if not root.exists():
        raise BadInput(f"{root}: no such folder; use a folder with one folder of clips per class")
    if not root.is_dir():
        raise BadInput(f"{root}: is a file; use a folder with one folder of clips per class")
    tops = _folders(root)
    if not tops:
        raise BadInput(
            f"{root}: has no folders in it; put the clips of each class in a folder of its own"
        )
    split_tree = all(top.name in SPLIT_FOLDERS for top in tops)
    files: list[ClipFile] = []
    for top in tops:
        split = SPLIT_FOLDERS[top.name] if split_tree else None
        for folder in _folders(top) if split_tree else [top]:
            files += [
                ClipFile(_relative(path, root), folder.name, split) for path in _videos(folder)
            ]
    classes = tuple(sorted({file.annotation for file in files}))
    if not files:
        raise BadInput(f"{root}: has no video in its folders; known endings: {_endings()}")
    if len(classes) < 2:
        raise BadInput(f"{root}: has one class only, {classes[0]!r}; add a folder for another")
    return Tree(root, classes, tuple(sorted(files, key=lambda file: file.path)))


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _videos(folder: Path) -> list[Path]:
    found = (p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_ENDINGS and p.is_file())
    return sorted(p for p in found if not p.name.startswith("."))


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _endings() -> str:
    return ", ".join(VIDEO_ENDINGS)


def without_root(root: Path, error: BadVideo) -> str:
    """The reason of an error without the path, which is reported next to it.

    Args:
        root: The folder of the dataset.
        error: What decoding a file of it raised.

    Returns:
        The reason, on one line.
    """
    return str(error).removeprefix(f"{root}/").partition(": ")[2] or str(error)
