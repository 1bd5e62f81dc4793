"""Puts a release that was carried by hand onto the device that runs this.

It is the first thing in an archive of `edgevid.flash.archive`, and asks the same agent for the same
things as a flash over SSH. Only the standard library, of Python 3.7 or newer; it imports nothing of
edgevid.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

CHUNK = 1 << 20


class Failed(Exception):
    """What the agent would not or could not do; with the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Agent:
    """The agent as a process of its own; requests and answers as over SSH."""

    def __init__(self, archive: zipfile.ZipFile, signed: Any, root: str | None) -> None:
        self.archive, self.signed, self.root = archive, signed, root
        # A group of its own: Ctrl-C is for this process, which then ends the agent in order.
        self.process: Any = subprocess.Popen(
            [sys.executable, "-I", "-c", signed["boot"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        source = zlib.compress(archive.read("agent.py"))
        self.write(b"%d\n%s" % (len(source), source))
        while self.line().strip() != signed["mark"].encode():
            pass

    def write(self, data: bytes) -> None:
        """Send bytes; where the agent is gone, its last answer says why."""
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except OSError:
            while True:
                self.answer()

    def line(self) -> bytes:
        """Wait for a line."""
        line: bytes = self.process.stdout.readline()
        if not line:
            raise Failed("the agent ended without an answer; try again", 4)
        return line

    def call(self, do: str, **words: Any) -> Any:
        """Ask, and give the answer."""
        request = dict(words, do=do)
        if self.root:
            request["root"] = self.root
        self.write(json.dumps(request).encode() + b"\n")
        return self.answer()

    def answer(self) -> Any:
        """Wait for an answer; tell what is reported on the way, each thing once."""
        last = None
        while True:
            frame = json.loads(self.line().decode())
            if "error" in frame:
                raise self.fault(frame["error"])
            if "ok" in frame:
                return frame
            if isinstance(frame.get("at"), str) and frame["at"] != last:
                last = frame["at"]
                say(last)

    def fault(self, error: Any) -> Failed:
        """The agent's error as this program's, with the exit code that a flash would have."""
        parts = [error.get("message"), error.get("fix")]
        text = "; ".join(part for part in parts if part)
        return Failed(text, self.signed["codes"].get(error.get("kind"), 4))

    def send(self, sha256: str, offset: int) -> None:
        """Bring the rest of a blob."""
        member = "blobs/" + sha256
        size = self.archive.getinfo(member).file_size
        request = {"do": "blob", "sha256": sha256, "size": size, "offset": offset}
        with self.archive.open(member) as file:
            file.read(offset)
            self.write(json.dumps(dict(request, bytes=size - offset)).encode() + b"\n")
            for chunk in iter(lambda: file.read(CHUNK), b""):
                self.write(chunk)
        self.answer()

    def close(self) -> None:
        """End it; its lock goes with it."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait()


def say(text: object) -> None:
    """Tell people something."""
    line = " ".join(str(text).split())
    sys.stderr.write(f"edgevid: {line}\n")


def words(signed: Any) -> argparse.Namespace:
    """What may be said."""
    parser = argparse.ArgumentParser(
        prog="sh FILE",
        description="Put release {release} ({title}) onto this device. It is checked first, and "
        "stays if it is healthy here; else the device is as it was.".format(**signed),
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; say what is in the way"
    )
    parser.add_argument("--stage", action="store_true", help="leave it beside what serves")
    parser.add_argument("--root", help="edgevid's folder; /opt/edgevid for root, else in your home")
    parser.add_argument("--allow-downgrade", action="store_true", help="take an older release")
    parser.add_argument("--allow-degraded", action="store_true", help="a fallback is healthy too")
    parser.add_argument("--health-s", type=float, default=20.0, help="how long it is judged")
    parser.add_argument("--p95-ms", type=float, help="what its latency may be")
    return parser.parse_args()


def install(agent: Agent, said: argparse.Namespace) -> int:
    """Do what a flash does; gives the exit code."""
    signed = dict(agent.signed["signed"], allow_downgrade=said.allow_downgrade)
    checked = agent.call("check", **signed)
    for note in checked.get("notes", ()):
        say(note)
    if said.check:
        say("release {} can be installed here".format(checked["release"]))
        return 0
    agent.call("session")
    names = [name for name in agent.archive.namelist() if name.startswith("blobs/")]
    sizes = {name.partition("/")[2]: agent.archive.getinfo(name).file_size for name in names}
    missing = agent.call("missing", blobs=sizes)["missing"]
    for sha256, offset in sorted(missing.items()):
        agent.send(sha256, offset)
    release = agent.call("stage", **signed)["release"]
    if said.stage:
        say(f"release {release} is staged; the same without --stage lets it serve")
        return 0
    return activate(agent, said, release)


def activate(agent: Agent, said: argparse.Namespace, release: str) -> int:
    """Let the release serve, and tell what the device makes of it; gives the exit code."""
    health = {
        "seconds": said.health_s,
        "p95_ms": said.p95_ms,
        "allow_degraded": said.allow_degraded,
    }
    answer = agent.call("activate", id=release, health=health)
    if not answer.get("started", True):
        say(f"release {release} serves already; nothing was restarted")
        return 0
    say(f"release {release} starts; judged for {said.health_s:g} s")
    end = agent.call("watch", activation=answer.get("activation"))
    if end.get("state") != "rolled-back" and end.get("healthy", True):
        say(f"release {release} serves")
        return 0
    reason = end.get("reason") or {}
    say("release {} was rolled back: {stage}: {message}".format(release, **reason))
    for line in reason.get("log") or ():
        sys.stderr.write(f"    {line}\n")
    return 1


def main() -> int:
    """Install what this archive holds."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    agent = None
    try:
        archive = zipfile.ZipFile(sys.argv[0])
        signed = json.loads(archive.read("signed.json").decode())
        said = words(signed)
        if said.root and not Path(said.root).is_absolute():
            raise Failed("--root must be a whole path", 2)
        agent = Agent(archive, signed, said.root)
        return install(agent, said)
    except Failed as error:
        say(error)
        return error.code
    except (zipfile.BadZipFile, zlib.error, EOFError):
        say("this file is damaged; copy it again")
        return 2
    except KeyboardInterrupt:
        say("interrupted; nothing was left half-written")
        return 130
    finally:
        if agent is not None:
            agent.close()


if __name__ == "__main__":
    sys.exit(main())
