"""Files that are complete or absent: write a temporary file, fsync, rename, fsync the folder.

What a user names as an output goes through `edgevid.output`, which tries it before the work.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgevid.errors import BadOutput, OutputFailed
from edgevid.text import printable_json


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


def failure(path: Path, error: OSError) -> BadOutput | OutputFailed:
    """Make the one-line error of an output that cannot be written, to be raised.

    Args:
        path: The output, as the user named it.
        error: Why.

    Returns:
        `BadOutput` if the name can never be written, else `OutputFailed`.
    """
    if isinstance(error, BadOutput | OutputFailed):
        return error
    if error.errno == errno.EEXIST:  # of a folder to create, where a file is
        error = system_error(errno.ENOTDIR)
    number = error.errno or 0
    kind = BadOutput if number in _WRONG_NAME else OutputFailed
    why = error.strerror or str(error)
    text = f"{path} cannot be written: {why}; {_REMEDY.get(number, 'name another output')}"
    made = kind(text)
    made.errno = number
    return made


def system_error(number: int) -> OSError:
    """Make the error of the system that has this number."""
    return OSError(number, os.strerror(number))


_WRONG_NAME = {errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_OF_THE_DISK = {*_FULL, errno.EFBIG, errno.EIO, errno.EROFS}
_REMEDY = {
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "part of the path is a file: name another output",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ELOOP: "its symbolic links form a loop: name another output",
    **dict.fromkeys(_FULL, "free some space, or name another output"),
}


def is_special(path: Path) -> bool:
    """Whether a path leads to a device, a pipe or a socket: what is written into, not replaced."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _temporary(path: Path) -> Path:
    name = f".{path.name}.{os.getpid()}.part"
    if len(os.fsencode(name)) > _NAME_BYTES:
        name = f".{sha256_of(os.fsencode(path.name))[:16]}.{os.getpid()}.part"
    return path.with_name(name)


_NAME_BYTES = 255


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Replace a file atomically and durably; a device or a pipe is written into instead.

    A symbolic link is followed, and an existing file keeps its mode and owner. On an error or an
    interrupt the temporary file is removed and the old file stays. Where no other file can be put
    in its place (a folder without permission, a file that is a mount point), the file is
    overwritten when the temporary one is complete.

    Args:
        path: The file to replace or create; missing folders are created.

    Yields:
        The path of the temporary file to write.

    Raises:
        BadOutput: The path can never be written.
        OutputFailed: It may not be written, or the disk is full.
    """
    path = Path(path)
    place = Path(os.path.realpath(path))
    if is_special(path):
        with _aside(path) as part:
            yield part
        return
    try:
        old = _status(path)
        if old is not None and stat.S_ISDIR(old.st_mode):
            raise system_error(errno.EISDIR)
        place.parent.mkdir(parents=True, exist_ok=True)
        part = _temporary(place)
        beside = _can_create(part, or_overwrite=old is not None and os.access(place, os.W_OK))
    except OSError as error:
        raise failure(path, error) from error
    if not beside:
        with _aside(place, path) as part:
            yield part
        return
    try:
        yield part
        _commit(part, place, old)
    except OSError as error:
        if error.filename in (str(part), str(place)) or error.errno in _OF_THE_DISK:
            raise failure(path, error) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _can_create(part: Path, *, or_overwrite: bool) -> bool:
    """Whether the temporary file can be created; False only if there is another way."""
    try:
        part.open("wb").close()
        part.unlink()
    except OSError as error:
        if or_overwrite and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return False
        raise
    return True


def _commit(part: Path, place: Path, old: os.stat_result | None) -> None:
    """Put a complete temporary file in place."""
    with part.open("rb") as written:
        if old is not None:
            with suppress(OSError):  # only root may give a file away
                os.fchown(written.fileno(), old.st_uid, old.st_gid)
            with suppress(OSError):
                os.fchmod(written.fileno(), stat.S_IMODE(old.st_mode))
        os.fsync(written.fileno())
    try:
        part.replace(place)
    except OSError as error:
        if error.errno != errno.EBUSY:  # a mount point, as of a container
            raise
        _pour(part, place)
    sync_folder(place.parent)


@contextmanager
def _aside(place: Path, named: Path | None = None) -> Iterator[Path]:
    """Yield a temporary file elsewhere whose content goes into ``place`` at the end."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="edgevid-") as folder:
        part = Path(folder) / (place.name or "output")
        yield part
        try:
            _pour(part, place)
        except OSError as error:
            raise failure(named or place, error) from error


def _pour(part: Path, place: Path) -> None:
    with part.open("rb") as source, place.open("wb") as target:
        shutil.copyfileobj(source, target)


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
    """Encode plain data so that equal values give equal bytes: sorted keys, no NaN.

    Unprintable characters become escapes, so that the file can be shown on a terminal.

    Bytes of a file name that are not UTF-8 become escapes, which `json.loads` and `os.fsencode`
    turn into the same bytes again.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text_bytes(printable_json(text)) + b"\n"


def text_bytes(text: str) -> bytes:
    """Encode a text as UTF-8; bytes of a file name that are not UTF-8 become escapes.

    In JSON the escapes are JSON's own, so that `json.loads` gives the same text.
    """
    return text.encode("utf-8", "backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write plain data as canonical JSON, atomically and durably."""
    write_bytes(path, canonical_json(value))


@contextmanager
def writing_folder(path: Path, *, keep: bool = False) -> Iterator[Path]:
    """Replace a folder atomically and durably; a symbolic link to a folder is followed.

    Args:
        path: The folder to replace or create.
        keep: Whether an unfinished temporary folder survives an error or an interrupt, for the
            next call to resume the work.

    Yields:
        The temporary folder to fill, ``.NAME.part``.

    Raises:
        BadOutput: The path can never be a folder, or another process is writing it.
        OutputFailed: It may not be written, or the disk is full.
    """
    named = path = Path(path)
    path = Path(os.path.realpath(path))
    part = path.with_name(f".{path.name}.part")
    try:
        if path.exists() and not path.is_dir():
            raise system_error(errno.ENOTDIR)
        lock = _locked_folder(part, named)
    except BadOutput:
        raise
    except OSError as error:
        raise failure(named, error) from error
    try:
        if not keep:
            _empty(part)
        yield part
        _commit_folder(part, path)
    except BaseException as error:
        if not keep:
            shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise failure(named, error) from error
        raise
    finally:
        os.close(lock)


def _locked_folder(part: Path, named: Path) -> int:
    """Create a folder if it is missing, and lock it for this process.

    Returns:
        A descriptor of the folder; closing it releases the lock.

    Raises:
        BadOutput: Another process has locked it.
        OSError: It cannot be created.
    """
    while True:
        part.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise BadOutput(
                f"{named} is being written by another process; wait for it, or name another output"
            ) from None
        except OSError:  # a file system without locks
            return descriptor
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), part.stat()):
                return descriptor
        os.close(descriptor)  # its owner finished and renamed it in the meantime


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _commit_folder(part: Path, path: Path) -> None:
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
    try:
        if path.exists():
            path.rename(old)
        try:
            part.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    except OSError as error:
        if error.errno != errno.EBUSY or any(path.iterdir()):
            raise
        for entry in part.iterdir():  # an empty folder that is a mount point, as of a container
            shutil.move(entry, path / entry.name)
        part.rmdir()
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)
