"""Keeps notices of native libraries off stderr, such as TFLite's about its own delegate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_NOTICE = b"INFO: "


@contextmanager
def without_notices() -> Iterator[None]:
    """Leave out lines that begin with ``INFO:`` and are written to stderr meanwhile.

    All other lines, of any thread and of native code, appear at the end. What a process writes
    before it crashes would be lost, so this is for code that has been proven in a child process.
    """
    try:
        kept, held = os.dup(2), os.memfd_create("notices")
    except OSError:  # stderr is closed, or there are no descriptors left
        yield
        return
    os.dup2(held, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        size = os.fstat(held).st_size
        lines = os.pread(held, size, 0).splitlines(keepends=True)
        if rest := b"".join(line for line in lines if not line.startswith(_NOTICE)):
            with suppress(OSError):
                os.write(kept, rest)
        os.close(kept)
        os.close(held)
