"""Other users of this machine: what they do happens in a process that really is theirs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rigs.need import need_root

NOBODY = 65534
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder of root's that every user can enter."""
    need_root()
    with TemporaryDirectory(prefix="ev-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def start(code: str, *args: object, user: int = NOBODY) -> subprocess.Popen[str]:
    """Start a Python program as another user."""
    need_root()
    return subprocess.Popen(
        [PYTHON, "-I", "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        user=user,
        group=user,
        extra_groups=[],
        cwd="/",
    )


def act(code: str, *args: object, user: int = NOBODY) -> str:
    """Run a Python program as another user to its end; give what it printed."""
    with start(code, *args, user=user) as process:
        return process.communicate(timeout=60)[0].strip()
