"""Kills programs of a device at any of their calls to its kernel, and cuts its power.

The device's ``python3`` becomes a line that runs the real one, under strace where a trap is set for
what it was started for: the agent of a session, the guard, or what the service does at its start.
A call at which SIGKILL strikes is not made any more.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rigs.need import need_program
from rigs.systemd import Machine

PYTHON = """#!/bin/bash
real=(/usr/bin/python3.rig "$@")
role=session
for word in "$@"; do
    case $word in guard|recover|supervise|run) role=$word;; esac
done
trap=/run/trap.$role
if [ -e $trap ] && mv $trap $trap.taken 2>/dev/null; then
    exec strace -qq -y -s 0 -o /run/log.$role $(cat $trap.taken) \\
        bash -c 'exec -a /usr/bin/python3 "$@"' "" "${real[@]}"
fi
exec -a /usr/bin/python3 "${real[@]}"
"""
CALLS = (
    "fsync,fdatasync,sync,syncfs,rename,renameat,renameat2,link,linkat,symlink,symlinkat,"
    "unlink,unlinkat,mkdir,mkdirat,rmdir,write,pwrite64,ftruncate,truncate,chmod,fchmod,fchmodat,"
    "vfork,clone,clone3"
)
"""Whatever changes a disk, and what starts other programs."""
_LINE = re.compile(r"(\w+)\((.*)")


@dataclass(frozen=True)
class Point:
    """The ``count``-th ``call`` of a program; ``words`` are what it was called with."""

    role: str
    call: str
    count: int
    words: str

    def __str__(self) -> str:
        return f"{self.role}-{self.call}-{self.count}"


class Traps:
    """Traps on one device."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        machine.run("sh", "-c", "mv $(readlink -f /usr/bin/python3) /usr/bin/python3.rig")
        machine.run("rm", "/usr/bin/python3")
        machine.write("/usr/bin/python3", PYTHON)
        machine.run("chmod", "755", "/usr/bin/python3")

    def trace(self, role: str) -> None:
        """Write down the calls of the next program with that role."""
        self._set(role, f"-e trace={CALLS}")

    def kill(self, point: Point) -> None:
        """Kill the next program with that role there."""
        self._set(
            point.role,
            f"-e trace={point.call} -e inject={point.call}:signal=KILL:when={point.count}",
        )

    def _set(self, role: str, words: str) -> None:
        self._machine.run("rm", "-f", f"/run/trap.{role}.taken", f"/run/log.{role}")
        self._machine.write(f"/run/trap.{role}", words)

    def struck(self, point: Point) -> bool:
        """Whether the program was killed there."""
        return "+++ killed by SIGKILL +++" in self._log(point.role)

    def clear(self) -> None:
        """Take away what was not run into."""
        for file in (self._machine.root / "run").glob("trap.*"):
            file.unlink()

    def points(self, role: str) -> list[Point]:
        """The points of what was traced, but for words to the client, in their order."""
        counts: Counter[str] = Counter()
        points = []
        for line in self._log(role).splitlines():
            if found := _LINE.match(line):
                call, words = found.groups()
                counts[call] += 1
                if not (call == "write" and words.startswith(("1<", "2<"))):
                    points.append(Point(role, call, counts[call], words))
        return points

    def _log(self, role: str) -> str:
        log = self._machine.root / "run" / f"log.{role}"
        return log.read_text(errors="replace") if log.exists() else ""


class Disk:
    """A folder of a device on an ext4 image, whose power can be cut."""

    def __init__(self, machine: Machine, folder: str, image: Path, size_mb: int = 700) -> None:
        need_program("mkfs.ext4", "e2fsprogs")
        self._machine, self._folder, self._image = machine, folder, image
        with image.open("wb") as file:
            file.truncate(size_mb << 20)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        self._loop = ""
        machine.run("mkdir", "-p", folder)
        self._mount()

    def _mount(self) -> None:
        made = subprocess.run(
            ["losetup", "--find", "--show", self._image], capture_output=True, text=True, check=True
        )
        self._loop = made.stdout.strip()
        number = Path(self._loop).name.removeprefix("loop")
        self._machine.run("sh", "-c", f"[ -e {self._loop} ] || mknod {self._loop} b 7 {number}")
        self._machine.run("mount", self._loop, self._folder)

    def snapshot(self) -> Path:
        """Stop all programs, and copy what is on the disk; what was only in memory is not.

        A copy is of one moment if the disk has not changed before it was read again.
        """
        self._machine.signal_all(signal.SIGSTOP)
        copy = self._image.with_suffix(".cut")
        while True:
            subprocess.run(["cp", "--sparse=always", self._image, copy], check=True)
            if not subprocess.run(["cmp", "--silent", self._image, copy]).returncode:
                return copy

    def become(self, copy: Path) -> None:
        """Be mounted again as that copy; nothing may use the folder any more."""
        self.close()
        copy.rename(self._image)
        self._mount()

    def close(self) -> None:
        """Unmount it."""
        self._machine.run("umount", self._folder)
        subprocess.run(["losetup", "--detach", self._loop], check=True)
