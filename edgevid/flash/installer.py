"""Installs a release on the device that runs this program; see `edgevid.flash.archive`.

It sends the same requests to the same agent as a deployment over SSH. It imports only the standard
library of Python 3.7 or newer, and nothing of edgevid.
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


class InstallFailed(Exception):
    """The agent refused, or failed; with the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class LocalAgent:
    """The agent as a child process; requests and replies are as over SSH."""

    def __init__(self, archive: zipfile.ZipFile, about: Any, root: str | None) -> None:
        self.archive, self.about, self.root = archive, about, root
        # A group of its own: Ctrl-C is for this process, which then ends the agent in order.
        self.process: Any = subprocess.Popen(
            [sys.executable, "-I", "-c", about["boot"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        source = zlib.compress(archive.read("agent.py"))
        self.write(b"%d\n%s" % (len(source), source))
        while self.line().strip() != about["mark"].encode():
            pass

    def write(self, data: bytes) -> None:
        """Send bytes; if the agent has ended, its last reply has the reason."""
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except OSError:
            while True:
                self.reply()

    def line(self) -> bytes:
        """Wait for a line.

        Returns:
            The line.

        Raises:
            InstallFailed: The agent ended without a reply.
        """
        line: bytes = self.process.stdout.readline()
        if not line:
            raise InstallFailed("the agent ended without a reply; try again", 4)
        return line

    def call(self, do: str, **fields: Any) -> Any:
        """Send a request, and give the reply."""
        request = dict(fields, do=do)
        if self.root:
            request["root"] = self.root
        self.write(json.dumps(request).encode() + b"\n")
        return self.reply()

    def reply(self) -> Any:
        """Wait for a reply, reporting each line of progress once.

        Returns:
            The result.

        Raises:
            InstallFailed: The agent refused or failed.
        """
        last = None
        while True:
            frame = json.loads(self.line().decode())
            if "error" in frame:
                raise self.fault(frame["error"])
            if "ok" in frame:
                return frame
            if isinstance(frame.get("at"), str) and frame["at"] != last:
                last = frame["at"]
                report(last)

    def fault(self, error: Any) -> InstallFailed:
        """The agent's error, with the exit code that ``edgevid flash`` would have."""
        parts = [error.get("message"), error.get("fix")]
        text = "; ".join(part for part in parts if part)
        return InstallFailed(text, self.about["codes"].get(error.get("kind"), 4))

    def send(self, sha256: str, offset: int) -> None:
        """Send the rest of a blob."""
        member = "blobs/" + sha256
        size = self.archive.getinfo(member).file_size
        request = {"do": "blob", "sha256": sha256, "size": size, "offset": offset}
        with self.archive.open(member) as file:
            file.read(offset)
            self.write(json.dumps(dict(request, bytes=size - offset)).encode() + b"\n")
            for chunk in iter(lambda: file.read(CHUNK), b""):
                self.write(chunk)
        self.reply()

    def close(self) -> None:
        """End the agent, which releases its lock."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait()


def report(text: object) -> None:
    """Write a message to stderr."""
    line = " ".join(str(text).split())
    sys.stderr.write(f"edgevid: {line}\n")


def arguments(about: Any) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="sh FILE",
        description="Install release {release} ({title}) on this device. It is checked first, and "
        "kept only if it is healthy here; otherwise the device stays as it was.".format(**about),
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; report what the device lacks"
    )
    parser.add_argument("--stage", action="store_true", help="do not activate it")
    parser.add_argument("--root", help="edgevid's folder; /opt/edgevid for root, else in your home")
    parser.add_argument(
        "--allow-degraded",
        action="store_true",
        help="count a release on a fallback engine as healthy",
    )
    parser.add_argument("--health-s", type=float, default=20.0, help="health window in seconds")
    parser.add_argument("--p95-ms", type=float, help="the highest latency that counts as healthy")
    return parser.parse_args()


def install(agent: LocalAgent, options: argparse.Namespace) -> int:
    """Check, send, stage and activate the release; returns the exit code."""
    signed = agent.about["signed"]
    checked = agent.call("check", **signed)
    for note in checked.get("notes", ()):
        report(note)
    if options.check:
        report("release {} can be installed here".format(checked["release"]))
        return 0
    agent.call("session")
    names = [name for name in agent.archive.namelist() if name.startswith("blobs/")]
    sizes = {name.partition("/")[2]: agent.archive.getinfo(name).file_size for name in names}
    missing = agent.call("missing", blobs=sizes)["missing"]
    for sha256, offset in sorted(missing.items()):
        agent.send(sha256, offset)
    release = agent.call("stage", **signed)["release"]
    if options.stage:
        report(f"release {release} is staged; run this again without --stage to activate it")
        return 0
    return activate(agent, options, release)


def activate(agent: LocalAgent, options: argparse.Namespace, release: str) -> int:
    """Activate the release, and report whether it is healthy; returns the exit code."""
    health = {
        "seconds": options.health_s,
        "p95_ms": options.p95_ms,
        "allow_degraded": options.allow_degraded,
    }
    answer = agent.call("activate", id=release, health=health)
    if not answer.get("started", True):
        report(f"release {release} is already serving; nothing was restarted")
        return 0
    report(f"release {release} is starting; health check for {options.health_s:g} s")
    end = agent.call("watch", activation=answer.get("activation"))
    found = end.get("health") or {}
    for note in found.get("notes") or ():
        report(note)
    if found.get("degraded"):
        report("it serves on a fallback engine")
    if end.get("state") != "rolled-back" and end.get("healthy", True):
        report(f"release {release} serves")
        return 0
    reason = end.get("reason") or {}
    report("release {} was rolled back: {stage}: {message}".format(release, **reason))
    for line in reason.get("log") or ():
        sys.stderr.write(f"    {line}\n")
    return 1


def main() -> int:
    """Install the release in this archive.

    Returns:
        The exit code.

    Raises:
        InstallFailed: ``--root`` is relative.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    agent = None
    try:
        archive = zipfile.ZipFile(sys.argv[0])
        about = json.loads(archive.read("release.json").decode())
        options = arguments(about)
        if options.root and not Path(options.root).is_absolute():
            raise InstallFailed("--root must be an absolute path", 2)
        agent = LocalAgent(archive, about, options.root)
        return install(agent, options)
    except InstallFailed as error:
        report(error)
        return error.code
    except (zipfile.BadZipFile, zlib.error, EOFError):
        report("this file is damaged; copy it again")
        return 2
    except KeyboardInterrupt:
        report("interrupted; nothing was left half-written")
        return 130
    finally:
        if agent is not None:
            agent.close()


if __name__ == "__main__":
    sys.exit(main())
