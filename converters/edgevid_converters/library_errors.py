"""Errors of libraries in one line: the operator or the reason, and where the whole text is."""

from __future__ import annotations

import re
from hashlib import sha256

from edgevid.errors import shorten
from edgevid_converters import logs

MOST_CHARACTERS = 400
"""Longest text that goes into a message as it is."""
_COLOURS = re.compile(r"\x1b?\[\d+(;\d+)*m")
_NOISE = re.compile(
    r"in user code:?$|File \"|Traceback |raise |return |Arguments received|Exception encountered"
    r"|[~^*\s]+$|Check '|at \S+:\d+:?$"
)
"""Lines that say where a library failed, not why."""
_FUSED = re.compile(r"fused\[\"(\w+):\", \"([^\"@]+)(?:@[^\"]*)?\"\]")
_MISSING = re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op")
_REFUSED = re.compile(r"'(?:tf|tfl)\.(\w+)' op (.+)")


def first_line(error: BaseException) -> str:
    """Return the line of a library's error that has the reason.

    A long one loses its middle, and the message then names a file with the whole text.
    """
    text = _COLOURS.sub("", str(error))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    useful = [line for line in lines if line and not _NOISE.match(line)]
    reason = next(iter(useful), type(error).__name__)
    if len(reason) <= MOST_CHARACTERS:
        return reason
    return f"{shorten(reason, MOST_CHARACTERS)} (in full in {_saved(text)})"


def lowering_reason(error: BaseException) -> str:
    """Explain why TensorFlow's converter failed: its operators and layers, as far as it names them.

    Returns:
        A phrase that ends with the file that has the whole text.
    """
    text = str(error)
    where = f"; its log is {_saved(text)}"
    missing = dict.fromkeys(_MISSING.findall(text))
    nodes = list(dict.fromkeys(_FUSED.findall(text)))
    if missing:
        named = []
        for kind in missing:
            places = [name for one, name in nodes if one == kind]
            named.append(f"{kind} (node {places[0]!r})" if places else kind)
        return f"TFLite has no operator {', '.join(named)}{where}"
    if refused := _REFUSED.search(text):
        places = [name for one, name in nodes if one == refused[1]]
        node = f" (node {places[0]!r})" if places else ""
        return f"operator {refused[1]}{node} {refused[2].strip()}{where}"
    return f"{first_line(error)}{where}"


def _saved(text: str) -> str:
    """Write a text into a log of its own; returns the path."""
    name = sha256(text.encode(errors="replace")).hexdigest()[:12]
    return str(logs.write(f"library-{name}.log", text.encode(errors="replace")))
