"""Fields of a client's request, checked."""

from __future__ import annotations

import re
from typing import Any

from .transport import SAME_EDGEVID, Refused

_SHA256 = re.compile(r"[0-9a-f]{64}")


def sha256(value: Any) -> str:
    """Give a hash; raises `Refused` if it is none."""
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise Refused("protocol", f"{value!r} is not a sha256", SAME_EDGEVID)
    return value


def size(value: Any) -> int:
    """Give a number of bytes; raises `Refused` if it is none."""
    if type(value) is not int or value < 0:
        raise Refused("protocol", f"{value!r} is not a number of bytes", SAME_EDGEVID)
    return value


def text(request: dict[str, Any], key: str) -> str | None:
    """Give a text, or None if there is none; raises `Refused` if it is something else."""
    value = request.get(key)
    if value is not None and not isinstance(value, str):
        raise Refused("protocol", f"{key} is not a text", SAME_EDGEVID)
    return value
