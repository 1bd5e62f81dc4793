"""Files that are complete or absent: write a temporary file, fsync, rename, fsync the folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def user_folder(variable: str, below_home: str) -> Path:
    """One of the user's folders.

    Args:
        variable: The environment variable that may name it, such as ``XDG_CACHE_HOME``.
        below_home: Where it is otherwise, relative to the home folder.

    Returns:
        The folder, which need not exist. Service users without a home get one below an existing
        file, which nothing can create.
    """
    named = os.environ.get(variable)
    if named:
        return Path(named)
    try:
        return Path.home() / below_home
    except RuntimeError:
        return Path(os.devnull) / below_home


def cache_folder() -> Path:
    """Return edgevid's cache: ``$XDG_CACHE_HOME/edgevid`` or ``~/.cache/edgevid``."""
    return user_folder("XDG_CACHE_HOME", ".cache") / "edgevid"


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; otherwise a power cut may undo a rename."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Replace a file atomically and durably.

    On an error or an interrupt the temporary file is removed and the old file stays.

    Args:
        path: The file to replace or create.

    Yields:
        The path of the temporary file to write.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _temporary(path)
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically and durably."""
    with writing(path) as part:
        part.write_bytes(content)


def sha256_of(what: Path | bytes) -> str:
    """SHA-256 of bytes or of a file's content, in hexadecimal."""
    import hashlib

    if isinstance(what, bytes):
        return hashlib.sha256(what).hexdigest()
    with what.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> bytes:
    """Encode plain data so that equal values give equal bytes: sorted keys, no NaN."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def write_json(path: Path, value: Any) -> None:
    """Write plain data as canonical JSON, atomically and durably."""
    write_bytes(path, canonical_json(value))


@contextmanager
def writing_folder(path: Path, *, keep: bool = False) -> Iterator[Path]:
    """Replace a folder atomically and durably.

    Args:
        path: The folder to replace or create.
        keep: Whether an unfinished temporary folder survives an error or an interrupt, for the
            next call to resume the work.

    Yields:
        The temporary folder to fill, ``.NAME.part``.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    if not keep:
        shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, exist_ok=True)
    try:
        yield part
    except BaseException:
        if not keep:
            shutil.rmtree(part, ignore_errors=True)
        raise
    for folder, _, names in os.walk(part):
        for name in names:
            descriptor = os.open(Path(folder) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(folder))
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    part.rename(path)
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)
