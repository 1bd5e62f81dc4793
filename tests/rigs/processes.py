"""Processes that tests start, and what they leave behind."""

import os
import subprocess
import sys
import time
from pathlib import Path


def wait_for(condition, timeout_s: float = 30.0):
    """Give what ``condition`` gives, once that is true."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children() -> list[int]:
    """This process's children, of all its threads, zombies included."""
    listed = [file.read_text().split() for file in Path("/proc/self/task").glob("*/children")]
    return [int(word) for words in listed for word in words]


def descriptors() -> int:
    """How many descriptors this process holds."""
    return len(list(Path("/proc/self/fd").iterdir())) - 1


def shared_memory() -> set[str]:
    """Every block that has a name in shared memory; other tests keep whole folders there."""
    return {file.name for file in Path("/dev/shm").iterdir() if file.is_file()}


def resident_mb(pid: int | str = "self") -> float:
    """A process's share of memory, pages that it shares counted by their part."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def write_in_child(module: str, folder: Path) -> None:
    """Run ``python -m MODULE FOLDER``, which writes files there, as children of converters run."""
    from edgevid_converters.child_process import ENVIRONMENT

    done = subprocess.run(
        [sys.executable, "-m", module, str(folder)],
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
