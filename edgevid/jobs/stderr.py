"""The stderr of a job, as it comes: bars become progress, and the rest is passed on."""

from __future__ import annotations

import re
from collections.abc import Callable

from edgevid.progress import Progress

_BAR = re.compile(r"([A-Za-z][\w ]*): (\d+)/(\d+) ?(.*)")


class StderrLines:
    """Takes a job's stderr in parts; ``last`` is its last line that is not progress."""

    def __init__(self, log: Callable[[str], None], progress: Progress) -> None:
        self._log, self._progress, self._rest = log, progress, ""
        self.last = ""

    def feed(self, text: str) -> None:
        """Take the next part."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, lines):
            found = _BAR.fullmatch(line.strip())
            if found:
                self._progress(found[1], int(found[2]), int(found[3]), found[4])
            elif not line.startswith("written: "):
                self.last = line.strip()
                self._log(self.last)
