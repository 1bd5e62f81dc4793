"""A device in somebody else's hands: a real sshd whose only program answers what a test says."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgevid.flash.agent_client import MARK, AgentClient
from rigs.sshd import sshd

MOST_S = 120
# It takes the agent that it is sent, and throws it away.
PROGRAM = """
import json, os, signal, sys, time
signal.alarm({most_s})  # a silent one would outlive its connection
out, inp = sys.stdout.buffer, sys.stdin.buffer
def say(data):
    out.write(data if isinstance(data, bytes) else json.dumps(data).encode() + b"\\n")
    out.flush()
def answer(request):
{answer}
{before}
say(b"\\n{mark}\\n")
inp.read(int(inp.readline()))
for line in inp:
    request = json.loads(line)
    inp.read(request.get("bytes", 0))
    answer(request)
"""


@contextmanager
def hostile(folder: Path, answer: str, before: str = "") -> Iterator[AgentClient]:
    """Give a session with such a device.

    ``answer`` is the body of a function of the ``request``, in which ``say`` sends bytes as they
    are or anything else as a line of JSON; ``before`` runs when the session begins.
    """
    program = folder / "hostile.py"
    program.write_text(
        PROGRAM.format(
            answer=textwrap.indent(answer, "    "), before=before, mark=MARK, most_s=MOST_S
        )
    )
    forced = f"exec {sys.executable} -I {program}"
    with (
        sshd(folder, forced=forced) as server,
        server.remote(timeout_s=2.0) as remote,
        AgentClient(remote) as device,
    ):
        device.name = "gate"
        yield device
