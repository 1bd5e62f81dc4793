"""Text that people hand in: files in the encodings that editors write, paths with ``~``.

Configurations, contracts, inventories, labels, host lists and passwords are read here and nowhere
else, so that a byte-order mark, Windows line ends or UTF-16 work in all of them. What edgevid
writes for itself (JSON, caches, manifests) is UTF-8 and is not read here.
"""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from edgevid.errors import BadInput

LIMIT_BYTES = 4 << 20

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(content: bytes, name: str) -> str:
    r"""Decode a text in UTF-8, or in the encoding that its byte-order mark names.

    Args:
        content: The bytes.
        name: What to call the text in messages.

    Returns:
        The text without the mark; every line ends with ``\n``.

    Raises:
        BadInput: It is in another encoding, or no text; the message has the line.
    """
    mark, encoding = next((one for one in _MARKS if content.startswith(one[0])), (b"", "utf-8"))
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[len(mark) : error.start].decode(encoding.removesuffix("-sig"), "replace")
        kind = "UTF-8" if encoding.startswith("utf-8") else encoding.upper()
        raise BadInput(f"{name}:{_line(before)}: is not {kind}; save it as UTF-8") from None
    if (at := text.find("\0")) >= 0:
        where = f"{name}:{_line(text[:at])}"
        raise BadInput(f"{where}: contains a NUL byte; save it as plain text in UTF-8")
    return _lines(text)


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line(before: str) -> int:
    return _lines(before).count("\n") + 1


def read_text(file: Path, *, use: str = "a readable text file") -> str:
    r"""Read a text file that a user wrote.

    Args:
        file: The file; a pipe is read to its end.
        use: What to use instead, for messages.

    Returns:
        Its text, decoded by `decode`.

    Raises:
        BadInput: The file cannot be read, is too large, or is not text; the message has the line.
    """
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(LIMIT_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a usable name"
        raise BadInput(f"{file}: {why}; use {use}") from error
    if len(content) > LIMIT_BYTES:
        raise BadInput(f"{file}: is too large for a text file; use {use}")
    return decode(content, str(file))


def read_lines(file: Path, *, use: str = "a readable text file") -> tuple[str, ...]:
    """Read the lines of a text file without blanks around them; empty lines are left out.

    Raises:
        BadInput: As `read_text`.
    """
    lines = (line.strip() for line in read_text(file, use=use).split("\n"))
    return tuple(line for line in lines if line)


def read_secret(file: Path, *, use: str = "a readable file with one line") -> str:
    """Read a file that holds one line, such as a password; blanks inside the line are kept.

    Returns:
        The line; empty if the file is.

    Raises:
        BadInput: As `read_text`, or the file has several lines; the message shows none of them.
    """
    line = read_text(file, use=use).strip("\n")
    if "\n" in line:
        raise BadInput(f"{file}: has several lines; use {use}")
    return line


def expand(path: str) -> str:
    """Expand ``~/``, ``~user/`` and ``$HOME/`` at the start of a path, as a shell does.

    Args:
        path: A path as a user wrote it; ``./~`` stays as it is.

    Returns:
        The path; unchanged if there is no such user.
    """
    for home in ("$HOME", "${HOME}"):
        if path == home or path.startswith(f"{home}/"):
            return os.path.expanduser("~") + path[len(home) :]  # noqa: PTH111 - keeps the rest
    return os.path.expanduser(path) if path.startswith("~") else path  # noqa: PTH111
