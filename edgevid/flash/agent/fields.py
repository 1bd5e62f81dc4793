"""Fields of a client's request, checked."""

from __future__ import annotations

import re
from typing import Any

from .transport import SAME_EDGEVID, Refused

_SHA256 = re.compile(r"[0-9a-f]{64}")


def sha256(value: Any) -> str:
    """Check a hash of a request.

    Args:
        value: The value.

    Returns:
        The hash in hexadecimal.

    Raises:
        Refused: It is no SHA-256.
    """
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise Refused("protocol", f"{value!r} is not a sha256", SAME_EDGEVID)
    return value


def size(value: Any) -> int:
    """Check a number of bytes of a request.

    Args:
        value: The value.

    Returns:
        The number.

    Raises:
        Refused: It is no number of bytes.
    """
    if type(value) is not int or value < 0:
        raise Refused("protocol", f"{value!r} is not a number of bytes", SAME_EDGEVID)
    return value


def text(request: dict[str, Any], key: str) -> str | None:
    """Check a text of a request.

    Args:
        request: The request.
        key: The name of the text.

    Returns:
        The text; None if there is none.

    Raises:
        Refused: It is something else.
    """
    value = request.get(key)
    if value is not None and not isinstance(value, str):
        raise Refused("protocol", f"{key} is not a text", SAME_EDGEVID)
    return value


def plain_names(request: dict[str, Any], key: str) -> list[str]:
    """Check the names of modules or libraries, which are looked for and never opened.

    Args:
        request: The request.
        key: The name of the list.

    Returns:
        The names; empty if there is no such list.

    Raises:
        Refused: One of them is a path, or a dotted name, whose package would be imported.
    """
    names = request.get(key) or []
    if not isinstance(names, list) or not all(_is_plain(name, key) for name in names):
        raise Refused("protocol", f"{key} is not a list of plain names", SAME_EDGEVID)
    return names


def _is_plain(name: Any, key: str) -> bool:
    return isinstance(name, str) and bool(_PLAIN[key].fullmatch(name))


_PLAIN = {
    "modules": re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
    "libraries": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"),
}
