"""Which files under a folder are videos: their content decides, and the others have a reason."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevid.errors import BadVideo
from edgevid.media import ffmpeg
from edgevid.registry import need

# fmt: off
VIDEO_ENDINGS = frozenset((
    ".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".h264",
    ".h265", ".hevc", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
))
# fmt: on
"""Files with these endings are taken without a look; a damaged one is reported when decoded."""
STILL_ENDINGS = frozenset((".bmp", ".jpe", ".jpeg", ".jpg", ".tif", ".tiff"))
"""Files with these endings that begin like an image hold exactly one."""
STILL_MAGIC = (b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")
CLUTTER = frozenset(
    ("__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found", "ehthumbs.db")
) | {"synth.json"}
"""Names, in lower case, that systems and `edgevid dataset synth` leave in folders.

They and hidden names are passed over."""
HEAD_BYTES = 4096
STILL = "a still image, not a video"
WEBP_ANIMATION = "an animated WebP, which FFmpeg cannot decode"
SOUND = "sound without video"
NO_VIDEO = "not a video"
EMPTY = "an empty file"
BROKEN_LINK = "a broken link"
SPECIAL = "a pipe or a device, not a file"
BAD_NAME = "its path is not UTF-8"
Reasons = Mapping[str, str]
"""Path relative to the root -> why the file is not used."""


@dataclass(frozen=True)
class Ignored:
    """Files that are left out for one reason.

    Attributes:
        reason: Why, such as ``a still image, not a video``.
        files: How many files.
        first: Path of the first one, relative to the root.
    """

    reason: str
    files: int
    first: str

    def __str__(self) -> str:
        """Return one line about them."""
        if self.files == 1:
            return f"left out {self.first}: {self.reason}"
        return f"left out {self.files} files, such as {self.first}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"reason": self.reason, "files": self.files, "first": self.first}


def count_reasons(reasons: Reasons) -> tuple[Ignored, ...]:
    """Count files by the reason why they are left out.

    Args:
        reasons: Path -> reason.

    Returns:
        One entry for each reason, ordered by the first path.
    """
    by_reason: dict[str, list[str]] = {}
    for path in sorted(reasons):
        by_reason.setdefault(reasons[path], []).append(path)
    return tuple(Ignored(reason, len(paths), paths[0]) for reason, paths in by_reason.items())


def count_left_out(left_out: Sequence[Mapping[str, str]]) -> tuple[Ignored, ...]:
    """Count clips by the reason why they are left out.

    Args:
        left_out: ``path`` and ``reason`` of each, as in `edgevid.data.cache.Clips`.

    Returns:
        One entry for each reason.
    """
    return count_reasons({one["path"]: one["reason"] for one in left_out})


def find_videos(root: Path) -> tuple[list[str], dict[str, str]]:
    """Find the videos under a folder, links to other folders included.

    A file with a known ending counts as a video and is not opened. Any other file is opened with
    FFmpeg: it is a video if it has a video track of two or more packets.

    Args:
        root: The folder.

    Returns:
        The videos and what is left out, path -> reason; paths are relative with forward slashes.

    Raises:
        MissingExtra: PyAV is not installed, and a file has to be opened.
    """
    videos: list[str] = []
    reasons: dict[str, str] = {}
    for path in _walk(root, (os.path.realpath(root),)):
        name = path.relative_to(root).as_posix()
        shown = _in_utf_8(name)
        reason = why_no_video(path) if shown == name else BAD_NAME
        if reason is None:
            videos.append(name)
        else:
            reasons[shown] = reason
    return sorted(videos), reasons


def why_no_video(path: Path) -> str | None:
    """Why a file is not taken for a video.

    Args:
        path: The file.

    Returns:
        None if it is one, or has the ending of one.

    Raises:
        MissingExtra: PyAV is not installed, and the file has to be opened.
    """
    if not path.is_file():
        return SPECIAL if path.exists() else BROKEN_LINK
    ending = path.suffix.lower()
    if ending in VIDEO_ENDINGS:
        return None
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        return error.strerror or "unreadable"
    if not head:
        return EMPTY
    if ending in STILL_ENDINGS and head.startswith(STILL_MAGIC):
        return STILL
    if head.startswith(b"RIFF") and head[8:16] == b"WEBPVP8X" and ord(head[20:21] or b"\0") & 2:
        return WEBP_ANIMATION
    # FFmpeg would play text as an animation, and open what a play list names.
    return NO_VIDEO if _is_text(head) else _why_not_played(path)


def folders_at(root: Path, depth: int) -> list[str]:
    """The folders a number of levels below a root.

    Args:
        root: The folder.
        depth: 1 for the folders in it, 2 for those in them.

    Returns:
        Relative paths with forward slashes, sorted; without those that are not UTF-8.
    """
    level = [root]
    for _ in range(depth):
        level = [entry for one in level for entry in _entries(one) if entry.is_dir()]
    names = (path.relative_to(root).as_posix() for path in level)
    return sorted(name for name in names if _in_utf_8(name) == name)


def _in_utf_8(name: str) -> str:
    """A name with ``?`` for each byte that is not UTF-8."""
    return name.encode(errors="replace").decode()


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, without hidden names and clutter."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and entry.name.casefold() not in CLUTTER
    )


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Files below a folder; ``above`` has the real paths of it and its parents, to end loops."""
    for entry in _entries(folder):
        if not entry.is_dir():
            yield entry
        elif (real := os.path.realpath(entry)) not in above:
            yield from _walk(entry, (*above, real))


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # else a character is cut off at the end
            return False
        text = head[: error.start].decode()
    return all(char.isprintable() or char.isspace() for char in text)


def _why_not_played(path: Path) -> str | None:
    av = need("av", "runner")
    try:
        with ffmpeg.open_input(str(path), ffmpeg.FILE) as container:
            tracks = [
                track
                for track in container.streams.video
                if not track.disposition & av.stream.Disposition.attached_pic
            ]
            if not tracks or container.format.name == "tty":
                return SOUND if container.streams.audio else NO_VIDEO
            packets = (packet for packet in container.demux(tracks[0]) if packet.size)
            return None if next(packets, None) and next(packets, None) else STILL
    except (BadVideo, av.FFmpegError, OSError, ValueError):
        return NO_VIDEO
