"""How folders are arranged: which name is a split, and which is a class.

CLASS/clip.mp4
SPLIT/CLASS/clip.mp4
CLASS/SPLIT/clip.mp4

A clip may lie deeper; the folders below those of the layout mean nothing. Names of splits are
recognised in any case: ``train``, ``Training``, ``TEST``, ``val``, ``validation``, ``dev``,
``test_set`` and so on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgevid.errors import BadInput

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Names that mean a split, in lower case and without an ending such as ``_set``."""
SET_ENDING = re.compile(r"[ _-]*(set|split|data)$")
NO_CLASS = "not in a class folder"


@dataclass(frozen=True)
class ClipFile:
    """One file.

    Attributes:
        path: Path relative to the root, with forward slashes.
        annotation: What is known about it, in the form of a task; for `edgevid.data.folders.find`,
            the name of its class folder.
        split: ``train``, ``val`` or ``test`` if its folder names one.
    """

    path: str
    annotation: Any
    split: str | None = None

    @property
    def stratum(self) -> str:
        """What random splits are balanced by: the class, if that is the annotation."""
        return self.annotation if isinstance(self.annotation, str) else ""


def split_of(folder: str) -> str | None:
    """Which split the name of a folder means.

    Args:
        folder: The name.

    Returns:
        ``train``, ``val``, ``test``, or None for another name.
    """
    name = folder.casefold().strip()
    return SPLIT_FOLDERS.get(name) or SPLIT_FOLDERS.get(SET_ENDING.sub("", name))


def arrange(paths: Sequence[str]) -> tuple[list[ClipFile], list[str]]:
    """Read classes and splits from the paths of clips.

    Args:
        paths: Relative paths with forward slashes.

    Returns:
        The clips, and the paths of those that lie in no class folder.

    Raises:
        BadInput: Some folders are splits and others are not, or the name of a class cannot be used.
    """
    inside = [path.split("/") for path in paths if "/" in path]
    outside = [path for path in paths if "/" not in path]
    tops = sorted({parts[0] for parts in inside})
    splits = [top for top in tops if split_of(top)]
    if splits and len(splits) < len(tops):
        other = next(top for top in tops if top not in splits)
        raise BadInput(
            f"{splits[0]!r} names a split, but {other!r} does not; move every class folder into "
            f"a split's folder, or rename {splits[0]!r} if it is a class"
        )
    if splits:
        deep = [parts for parts in inside if len(parts) > 2]
        outside += ["/".join(parts) for parts in inside if len(parts) == 2]
        files = [ClipFile("/".join(parts), parts[1], split_of(parts[0])) for parts in deep]
    else:
        files = _by_class(inside)
    _check_names(file.annotation for file in files)
    return sorted(files, key=lambda file: file.path), sorted(outside)


def _by_class(inside: Sequence[Sequence[str]]) -> list[ClipFile]:
    """Clips below class folders, which may hold split folders: all of them, or none."""
    splits = [split_of(parts[1]) if len(parts) > 2 else None for parts in inside]
    bare = next((parts for parts, split in zip(inside, splits, strict=True) if not split), None)
    if bare is not None and any(splits):
        cut = next(parts for parts, split in zip(inside, splits, strict=True) if split)
        raise BadInput(
            f"'{cut[0]}/{cut[1]}' names a split, but '{'/'.join(bare[:-1])}' does not; put every "
            f"clip into a split's folder, or rename '{cut[0]}/{cut[1]}'"
        )
    pairs = zip(inside, splits, strict=True)
    return [ClipFile("/".join(parts), parts[0], split) for parts, split in pairs]


def _check_names(classes: Iterable[str]) -> None:
    """Check that no two classes look the same.

    Raises:
        BadInput: Two names differ only in case, in spaces around them, or in how accents are coded,
            or a name has a control character.
    """
    seen: dict[str, str] = {}
    for name in sorted(set(classes)):
        if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in name):
            raise BadInput(
                f"the name of the class folder {name!r} has a control character; rename the folder"
            )
        plain = unicodedata.normalize("NFC", name).casefold().strip()
        if (other := seen.setdefault(plain, name)) != name:
            raise BadInput(
                f"the class folders {other!r} and {name!r} differ only in case, spaces or the "
                "encoding of accents; give the class one name"
            )
