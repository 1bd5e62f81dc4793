"""Outputs that a user names: files, folders, ``-``, devices and pipes, tried before the work.

Every command opens its destinations first, works, and writes them last::

    with Destination(path) as output:      # raises in one line what would fail later
        output.write(measured())      # a regular file is replaced whole or not at all

A regular file is replaced atomically and keeps its mode and owner; a symbolic link is followed;
``-`` is stdout; a device, a pipe, a socket and a name such as ``/dev/stdout`` are written into.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from edgevid.errors import BadOutput, OutputFailed
from edgevid.files import failure, is_special, system_error, writing

STDOUT = Path("-")

_LINKS = 40


class ReaderGone(BrokenPipeError):
    """The reader of an output has closed it: a quiet end, not an error."""


class Destination:
    """One output file, tried when it is made.

    Attributes:
        path: The output, as the user named it.
    """

    def __init__(self, path: Path) -> None:
        """Try the output; a device or a pipe is opened, which may wait for a pipe's reader.

        Args:
            path: A file; ``-`` is stdout.

        Raises:
            BadOutput: It is a folder, or its name can never be written.
            OutputFailed: It may not be written, or stdout is closed.
        """
        self.path = Path(path)
        self._file: BinaryIO | None = None
        self._to_close: BinaryIO | None = None
        try:
            if self.is_stdout:
                self._file = stdout()
            elif (descriptor := _descriptor(self.path)) is not None:
                self._file = self._to_close = os.fdopen(os.dup(descriptor), "wb", buffering=0)
            elif is_special(self.path):
                self._file = self._to_close = _open_special(self.path)
            else:
                _try_file(self.path)
        except OSError as error:
            raise failure(self.path, error) from error

    @property
    def is_stdout(self) -> bool:
        """Whether this is stdout."""
        return is_stdout(self.path)

    @property
    def is_regular(self) -> bool:
        """Whether this is a regular file, to be created or replaced."""
        return self._file is None

    def write(self, content: bytes) -> None:
        """Write the whole output.

        Raises:
            OutputFailed: The disk is full, or the file may not be written.
            ReaderGone: The pipe's reader has closed it.
        """
        with self.stream() as file:
            put(file, content)

    @contextmanager
    def stream(self) -> Iterator[BinaryIO]:
        """Open the output for writing piece by piece.

        Yields:
            A binary file. A regular file appears at the end, and not at all on an error.

        Raises:
            OutputFailed: The disk is full, or the file may not be written.
            ReaderGone: The pipe's reader has closed it.
        """
        if self._file is None:
            with writing(self.path) as part, part.open("wb", buffering=0) as file:
                yield file
            return
        with _quiet(self.path):
            yield self._file
            self._file.flush()

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Yield the path of a regular file to fill, for what can only write to a path.

        The content of that file becomes the output at the end, and nothing does on an error.

        Raises:
            OutputFailed: The disk is full, or the file may not be written.
            ReaderGone: The pipe's reader has closed it.
        """
        if self._file is None:
            with writing(self.path) as part:
                yield part
            return
        import tempfile

        with tempfile.TemporaryDirectory(prefix="edgevid-") as folder:
            part = Path(folder) / "output"
            yield part
            with self.stream() as file, part.open("rb") as source:
                while piece := source.read(1 << 20):
                    put(file, piece)

    def close(self) -> None:
        """Close a device or a pipe."""
        if self._to_close is not None:
            with suppress(OSError):
                self._to_close.close()

    def __enter__(self) -> Destination:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def put(file: BinaryIO, content: bytes) -> None:
    """Write all of ``content`` to an unbuffered file."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def _quiet(path: Path) -> Iterator[None]:
    """Turn errors of writing into those of this module."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone(*error.args) from error
    except OSError as error:
        raise failure(path, error) from error


def stdout() -> BinaryIO:
    """Return stdout as a binary file.

    Raises:
        OutputFailed: It is closed.
    """
    stream: Any = sys.stdout
    if stream is None:
        raise OutputFailed("stdout is closed; redirect it to a file, or to /dev/null")
    stream.flush()
    file: BinaryIO = stream.buffer
    return file


def print_bytes(content: bytes) -> None:
    """Print on stdout.

    Raises:
        OutputFailed: stdout is closed, or what it leads to is full.
        ReaderGone: Its reader has closed it.
    """
    with _quiet(Path("stdout")):
        file = stdout()
        file.write(content)
        file.flush()


def is_stdout(path: Path) -> bool:
    """Whether an output is stdout: ``-``, or a name such as ``/dev/stdout`` or ``/dev/fd/1``."""
    return path == STDOUT or _descriptor(path) == 1


def stdout_reader_is_gone() -> bool:
    """Whether stdout is a pipe whose reader has closed it."""
    import select

    poll = select.poll()
    poll.register(1, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def open_append(path: Path) -> BinaryIO:
    """Open a file to append to, unbuffered; it and its folder are created if missing.

    Raises:
        BadOutput: It is a folder, or its name can never be written.
        OutputFailed: It may not be written.
    """
    try:
        if (descriptor := _descriptor(path)) is not None:
            return os.fdopen(os.dup(descriptor), "wb", buffering=0)
        if is_special(path):
            return _open_special(path)
        Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab", buffering=0)
    except OSError as error:
        raise failure(path, error) from error


def try_file(path: Path) -> None:
    """Try an output file that something else opens later; a device or a pipe is left alone.

    Raises:
        BadOutput: It is a folder, or its name can never be written.
        OutputFailed: It may not be written.
    """
    if path != STDOUT and not is_special(path):
        Destination(path).close()


def try_folder(path: Path) -> None:
    """Try an output folder, without creating it.

    Args:
        path: A folder, which need not exist.

    Raises:
        BadOutput: There is something else, or its name can never be written.
        OutputFailed: It may not be written.
    """
    try:
        if path.exists() and not path.is_dir():
            raise system_error(errno.ENOTDIR)
        if path.is_dir():
            _try_to_create(path)
        else:
            _try_below(Path(os.path.realpath(path)))
    except BadOutput:
        raise
    except NotADirectoryError as error:
        what = "is a file" if path.exists() else "has a file in its path"
        raise BadOutput(f"{path} {what}; name a folder") from error
    except OSError as error:
        raise failure(path, error) from error


def same_file(one: Path, other: Path) -> bool:
    """Whether two names lead to one regular file, or would; devices are never the same."""
    if is_stdout(one) or is_stdout(other):
        return is_stdout(one) and is_stdout(other)
    if is_special(one) or is_special(other):
        return False
    with suppress(OSError):
        return os.path.samefile(one, other)  # noqa: PTH121
    return os.path.realpath(one) == os.path.realpath(other)


OWN_ENDINGS = frozenset((".edgevid", ".html"))
"""Files that commands write, which may lie in a folder that is an input, and are replaced there."""


def reject_input(output: Path, inputs: Iterable[Path]) -> None:
    """Reject an output that would overwrite what the work reads.

    Raises:
        BadOutput: It is one of the inputs, or a file in an input folder.
    """
    if is_stdout(output) or is_special(output):
        return
    for one in inputs:
        if not one.exists():
            continue
        if same_file(output, one):
            raise BadOutput(f"{output} is an input of this command; name another output")
        if output.suffix in OWN_ENDINGS or not (one.is_dir() and output.exists()):
            continue
        if Path(os.path.realpath(output)).is_relative_to(os.path.realpath(one)):
            raise BadOutput(
                f"{output} is a file of {one}, an input of this command; name another output"
            )


# ---------------------------------------------------------------- trying


def _descriptor(path: Path) -> int | None:
    """The open descriptor of this process that a name such as ``/dev/stdout`` stands for."""
    own = re.compile(rf"/proc/{os.getpid()}(?:/task/\d+)?/fd/(\d+)")
    seen = os.fspath(path)
    for _ in range(_LINKS):
        folder, name = os.path.split(seen)
        seen = os.path.join(os.path.realpath(folder), name)  # noqa: PTH118
        if found := own.fullmatch(seen):
            return int(found[1])
        try:
            target = os.readlink(seen)  # noqa: PTH115
        except (OSError, ValueError):
            return None
        seen = os.path.join(os.path.dirname(seen), target)  # noqa: PTH118, PTH120
    return None


def _open_special(path: Path) -> BinaryIO:
    if stat.S_ISSOCK(path.stat().st_mode):
        import socket

        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(str(path))
            return os.fdopen(os.dup(channel.fileno()), "wb", buffering=0)
    return path.open("wb", buffering=0)


def _try_file(path: Path) -> None:
    """Try whether a regular file can be written or created."""
    try:
        status = path.stat()
    except FileNotFoundError:
        if not path.name or str(path).endswith("/"):
            raise BadOutput(f"{str(path)!r} is not the name of a file; name a file") from None
        _try_below(Path(os.path.realpath(path)))
        return
    except ValueError:
        raise BadOutput(f"{str(path)!r} is not a usable name; name another output") from None
    if stat.S_ISDIR(status.st_mode):
        raise BadOutput(f"{path} is a folder; name a file")
    os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))  # neither truncates nor changes it


def _try_below(path: Path) -> None:
    """Try whether a missing path can be created, with its missing folders."""
    present = path.parent
    while not present.exists():
        present = present.parent
    if not present.is_dir():
        raise system_error(errno.ENOTDIR)
    longest = os.pathconf(present, "PC_NAME_MAX")
    if any(len(os.fsencode(part)) > longest for part in path.relative_to(present).parts):
        raise system_error(errno.ENAMETOOLONG)
    _try_to_create(present)


def _try_to_create(folder: Path) -> None:
    """Try whether a file can be created in a folder."""
    import tempfile

    descriptor, name = tempfile.mkstemp(prefix=".edgevid-", dir=folder)
    os.close(descriptor)
    Path(name).unlink()
