"""The stderr of a job, as it comes: bars become progress, and the rest is passed on."""

from __future__ import annotations

import re
from collections.abc import Callable

from edgevid.errors import shorten
from edgevid.flash.replies import MOST_CHARACTERS, one_line
from edgevid.progress import Progress

MOST_STDERR = 4 << 20
"""How many characters are passed on; a device may print without end."""
_LONGEST_LINE = 64 << 10
_BAR = re.compile(r"([A-Za-z][\w ]*): (\d{1,15})/(\d{1,15}) ?(.*)")


class StderrLines:
    """Takes a job's stderr in parts; ``last`` is its last line that is not progress."""

    def __init__(self, log: Callable[[str], None], progress: Progress) -> None:
        self._log, self._progress, self._rest = log, progress, ""
        self._left = MOST_STDERR
        self.last = ""

    def feed(self, text: str) -> bool:
        """Take the next part; returns whether more would be passed on."""
        if self._left <= 0:
            return False
        self._left -= len(text)
        *lines, rest = (self._rest + text).split("\n")
        self._rest = rest[-_LONGEST_LINE:]
        for line in (shorten(one_line(one), MOST_CHARACTERS) for one in lines):
            found = _BAR.fullmatch(line)
            if found:
                self._progress(found[1], int(found[2]), int(found[3]), found[4])
            elif line and not line.startswith("written: "):
                self.last = line
                self._log(line)
        if self._left <= 0:
            self._log("the job prints too much; the rest is not shown")
        return self._left > 0
