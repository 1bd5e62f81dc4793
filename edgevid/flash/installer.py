"""Runs when a carried file is executed, ``sh FILE``: it hands over to an agent.

If edgevid is installed on the device, the installed agent reads the file, as it does by itself with
``agent.py install FILE``: that is the safe way, because nothing of the file runs before it is
checked. Otherwise the file's own agent makes the first installation. This program imports only the
standard library of Python 3.7 or newer, and nothing of edgevid.
"""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

SYSTEM = "/opt/edgevid"
USER = "~/.local/share/edgevid"
KNOWS = b"agent.py install"
"""Text that every agent that can install archives contains."""


def root(args: list[str]) -> Path:
    """The folder of edgevid that the command line means."""
    for index, arg in enumerate(args):
        if arg == "--root" and index + 1 < len(args):
            return Path(args[index + 1])
        if arg.startswith("--root="):
            return Path(arg.partition("=")[2])
    return Path(SYSTEM if os.geteuid() == 0 else USER).expanduser()


def main() -> None:
    """Hand over; the agent's exit code is this program's."""
    file, args = sys.argv[0], sys.argv[1:]
    agent = root(args) / "current" / "agent.py"
    if agent.is_file() and KNOWS in agent.read_bytes():
        os.execv(sys.executable, [sys.executable, "-I", str(agent), "install", file, *args])
    try:
        source = zipfile.ZipFile(file).read("agent.py")
    except (zipfile.BadZipFile, KeyError, EOFError):
        sys.stderr.write("edgevid: this file is damaged; copy it again\n")
        sys.exit(2)
    sys.argv = ["agent.py", "install", "--first", file, *args]
    exec(compile(source, "agent.py", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
