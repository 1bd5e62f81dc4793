"""The command line, as a user calls it."""

import subprocess
import sys


def call_edgevid(*words: object, **options) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "edgevid", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **options)
