"""Labelled clips on disk: one folder per class, with or without folders for splits.

`edgevid.data.layout` has the arrangements, `edgevid.data.video_files` says which files are videos.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevid.data.layout import NO_CLASS, ClipFile, arrange
from edgevid.data.video_files import Ignored, count_reasons, find_videos, folders_at
from edgevid.errors import BadInput, BadVideo

__all__ = ["ClipFile", "Tree", "find", "without_root"]


@dataclass(frozen=True)
class Tree:
    """The labelled files under a root.

    Attributes:
        root: The folder.
        classes: Names of the classes, sorted.
        files: The files, sorted by path.
        ignored: Files that are not used, counted by the reason.
        empty: Folders in the place of a class that have no video, relative to the root.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[ClipFile, ...]
    ignored: tuple[Ignored, ...] = ()
    empty: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on what is left out, one line each."""
        folders = [f"{name} has no video, so it is not a class" for name in self.empty]
        return (*map(str, self.ignored), *folders, *_doubtful_layout(self.files))

    @property
    def annotations(self) -> dict[str, Any]:
        """Annotation of each file, by relative path."""
        return {file.path: file.annotation for file in self.files}


def find(root: Path) -> Tree:
    """Find the classes and files of a dataset.

    Files without the ending of a video are opened to see whether they are one. Folders without
    any video are no classes.

    Args:
        root: The folder of the dataset.

    Returns:
        The files with their classes and splits.

    Raises:
        BadInput: There is no such folder, it has no videos, only one class, or some of its folders
            are splits and others are not.
    """
    root = Path(root)
    try:
        root.stat()
    except FileNotFoundError:
        text = f"{root}: no such folder; use a folder with one folder of clips per class"
        raise BadInput(text) from None
    except OSError as error:  # exists() raises some of these: no permission, a name too long
        raise BadInput(f"{root}: {error.strerror}; use a folder that can be read") from None
    if not root.is_dir():
        raise BadInput(f"{root}: is a file; use a folder with one folder of clips per class")
    videos, reasons = find_videos(root)
    try:
        files, outside = arrange(videos)
    except BadInput as error:
        raise BadInput(f"{root}: {error}") from None
    ignored = count_reasons(reasons | dict.fromkeys(outside, NO_CLASS))
    classes = tuple(sorted({file.annotation for file in files}))
    if len(classes) < 2:
        raise BadInput(f"{root}: {_too_few(root, classes, files, ignored)}")
    return Tree(root, classes, tuple(files), ignored, _without_video(root, files))


def _without_video(root: Path, files: list[ClipFile]) -> tuple[str, ...]:
    """The folders in the place of a class that have no video."""
    below_split = files[0].split is not None and files[0].path.split("/")[0] != files[0].annotation
    depth = 2 if below_split else 1
    full = {"/".join(file.path.split("/")[:depth]) for file in files}
    return tuple(folder for folder in folders_at(root, depth) if folder not in full)


def _too_few(
    root: Path, classes: tuple[str, ...], files: list[ClipFile], ignored: tuple[Ignored, ...]
) -> str:
    """Why there are not two classes, and what to do."""
    if not classes:
        outside = next((one for one in ignored if one.reason == NO_CLASS), None)
        if outside:
            return (
                f"{outside.files} clips, such as {outside.first}, are in no class folder; put the "
                "clips of each class in a folder of its own"
            )
        why = f" ({ignored[0]})" if ignored else ""
        return f"has no video in it{why}; put the clips of each class in a folder of its own"
    inner = {file.path.split("/")[1] for file in files if file.path.count("/") > 1}
    if len(inner) > 1 and files[0].path.startswith(f"{classes[0]}/"):
        return (
            f"has only one class, {classes[0]!r}; use {root / classes[0]} if its folders are the "
            "classes"
        )
    empty = next(iter(_without_video(root, files)), None)
    why = f" ({empty} has no video in it)" if empty else ""
    why = f" ({'; '.join(map(str, ignored))})" if ignored else why
    return f"has only one class, {classes[0]!r}{why}; add a folder of videos for another"


def _doubtful_layout(files: tuple[ClipFile, ...]) -> tuple[str, ...]:
    """A note if the folders inside the class folders look more like classes than these do."""
    inside: dict[str, set[str]] = {}
    for file in files:
        top, *folders = file.path.split("/")[:-1]
        if file.split or not folders:
            return ()
        inside.setdefault(top, set()).add(folders[0])
    common = sorted(set.intersection(*inside.values())) if len(inside) > 1 else []
    if len(common) < 2 or any(len(names) > len(common) for names in inside.values()):
        return ()
    classes = " and ".join(map(repr, sorted(inside)[:2])) + (" ..." if len(inside) > 2 else "")
    return (
        f"the classes are {classes}, and each holds the same folders ({common[0]}, {common[1]}); "
        "if those are the classes, name the folders above them train, val or test",
    )


def without_root(root: Path, error: BadVideo) -> str:
    """The reason of an error without the path, which is reported next to it.

    Args:
        root: The folder of the dataset.
        error: What decoding a file of it raised.

    Returns:
        The reason, on one line.
    """
    return str(error).removeprefix(f"{root}/").partition(": ")[2] or str(error)
