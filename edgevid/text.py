"""Text that people provide, and text that goes to a terminal, a log or JSON Lines.

Configurations, contracts, inventories, labels, host lists and passwords are read here and nowhere
else, so that a byte-order mark, Windows line ends or UTF-16 work in all of them. What edgevid
writes for itself (JSON, caches, manifests) is UTF-8 and is not read here.

Text that edgevid writes may come from an untrusted bundle, device or camera.
`printable` and `printable_json` are applied where text is written, not where it is composed, so
nothing can move the cursor, hide a line or reverse the text direction.
"""

from __future__ import annotations

import codecs
import os
import re
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

_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1 controls, except tab and line feed
    "\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # bidi, zero width, line separators
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2"  # other characters without a shape of their own
    "\udc80-\udc9f"  # a raw byte of a file name that is a C1 control
    "\ue000-\uf8ff\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U0010ffff"  # private use, tags
)
_EMOJI = "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
_NOT_SHOWN = re.compile(f"[{_HIDDEN}]|(?<![{_EMOJI}])\u200d")
"""Unprintable characters; U+200D (zero-width joiner) is allowed between emoji."""
_BREAKS = re.compile("[\t\n]")


def printable(text: str, *, lines: bool = False) -> str:
    r"""Make every character visible: controls, bidi marks and zero-width ones become escapes.

    Args:
        text: Any text.
        lines: Keep tabs and line feeds, for a text of edgevid's own that has several lines.

    Returns:
        The text on one line, with ``\x1b`` and the like for unprintable characters. Letters of any
        script, emoji, and raw bytes of file names that are not controls are kept.
    """
    if text.isascii() and text.isprintable():
        return text
    found = _NOT_SHOWN.sub(_escaped, text)
    return found if lines else _BREAKS.sub(_escaped, found)


def is_printable(text: str) -> bool:
    """Whether `printable` leaves a text as it is."""
    return printable(text) == text


def printable_bytes(content: bytes) -> bytes:
    r"""Escape unprintable characters in another program's log; invalid UTF-8 is replaced."""
    text = content.decode(errors="replace").replace("\r\n", "\n")
    return printable(text, lines=True).encode(errors="backslashreplace")


def printable_json(text: str) -> str:
    r"""Make every character of a JSON document visible; it still means the same.

    Args:
        text: JSON, as `json.dumps` writes it.

    Returns:
        The same with ``\u202e`` and the like in its strings.
    """
    if text.isascii() and "\x7f" not in text:
        return text  # json.dumps has escaped the controls
    return _NOT_SHOWN.sub(_escaped_json, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDC9F:
        return f"\\x{code - 0xDC00:02x}"
    return found[0].encode("unicode_escape").decode()


def _escaped_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


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
