"""The command line of this process, as other users see it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path


def overwrite(shown: Callable[[str], str]) -> None:
    """Replace arguments in the process list; Python's own copy, ``sys.argv``, is unchanged.

    The kernel shows the memory in which the arguments are, so they are replaced there.

    Args:
        shown: Returns the replacement for an argument, which must not be longer.

    Raises:
        OSError: /proc cannot be read.
        ValueError: The arguments cannot be located in memory.
    """
    line = Path("/proc/self/cmdline").read_bytes()
    # The name of the program, in brackets, may contain blanks; see proc_pid_stat(5).
    numbers = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    if len(numbers) < 47:
        raise ValueError("an old kernel")
    start, end = int(numbers[45]), int(numbers[46])
    if end - start != len(line):
        raise ValueError("the arguments are elsewhere")
    parts = [
        shown(part.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        for part in line.split(b"\0")
    ]
    ctypes.memmove(start, b"\0".join(parts)[: len(line)].ljust(len(line), b"\0"), len(line))
