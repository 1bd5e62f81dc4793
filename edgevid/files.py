"""Files that are either whole or not there: write aside, fsync, rename, fsync the folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def user_folder(variable: str, below_home: str) -> Path:
    """Give the user's folder that ``variable`` names (``XDG_CACHE_HOME``), or the usual one.

    Service users may have no home: for them it is a folder that does not exist.
    """
    named = os.environ.get(variable)
    if named:
        return Path(named)
    try:
        return Path.home() / below_home
    except RuntimeError:
        return Path("/nonexistent") / below_home


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable; without it a rename may be lost in a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; on success it takes ``path``'s place, durably.

    On an error or an interrupt the part is removed and ``path`` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _aside(path)
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` with ``content``, whole or not at all."""
    with writing(path) as part:
        part.write_bytes(content)


def sha256_of(what: Path | bytes) -> str:
    """Give the sha256 of bytes, or of a file's, in hexadecimal."""
    import hashlib

    if isinstance(what, bytes):
        return hashlib.sha256(what).hexdigest()
    with what.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> bytes:
    """Give one byte string for equal values: sorted keys, two spaces, final newline, no NaN."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` with the canonical JSON of ``value``, whole or not at all."""
    write_bytes(path, canonical_json(value))


@contextmanager
def writing_folder(path: Path, *, keep: bool = False) -> Iterator[Path]:
    """Yield ``.NAME.part`` to fill; on success it takes the place of the folder ``path``.

    With ``keep`` an unfinished part survives an error or an interrupt and is yielded again by the
    next call, so that long work can go on where it stopped; otherwise it starts and ends empty.
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
