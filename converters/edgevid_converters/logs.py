"""Logs of what failed in a conversion, in edgevid's cache; errors name their paths.

A child's sandbox lets it write only in its output folder. It writes its logs to its own cache
there, and its parent moves them to the real one, as printable text; messages name the final path
from the start.
"""

from __future__ import annotations

import re
from pathlib import Path

from edgevid.files import cache_folder, write_bytes
from edgevid.text import printable_bytes

LARGEST_BYTES, MOST = 4 << 20, 64
"""Limits for one child: the size of a log, and the number of logs."""
_NAME = re.compile(r"[\w.-]+\.log")
_final: Path | None = None


def folder() -> Path:
    """Where logs are once all children have ended."""
    return _final or _own()


def _own() -> Path:
    return cache_folder() / "logs"


def goes_to(final: Path) -> None:
    """Set, in a child, the folder to which its parent moves its logs."""
    global _final
    _final = final


def write(name: str, content: bytes) -> Path:
    """Write a log.

    Returns:
        Its final path.
    """
    write_bytes(_own() / name, printable_bytes(content))
    return folder() / name


def collect(cache: Path) -> None:
    """Take over the logs that a child has left.

    Args:
        cache: The child's own ``XDG_CACHE_HOME``.
    """
    left = cache / "edgevid" / "logs"
    for file in sorted(left.iterdir())[:MOST] if left.is_dir() else []:
        if _NAME.fullmatch(file.name) and file.is_file() and not file.is_symlink():
            with file.open("rb") as opened:
                content = opened.read(LARGEST_BYTES)
            write_bytes(_own() / file.name, printable_bytes(content))
            file.unlink()
