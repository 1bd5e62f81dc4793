"""Installs a release from an archive: ``agent.py install FILE``.

The installed agent reads the file as data, so nothing in it runs before its signature is checked
against the key that this device trusts; then the same requests as over SSH check, stage and
activate the release. A first installation has no such key: the file's own copy of this program runs
with ``--first``, after its detached signature was checked by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import hashlib
import json
import os
import signal
import stat
import struct
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from . import manifest, trust
from .fault_kinds import GATES, WRONG_USE
from .session import AgentSession, default_root
from .store import Store
from .transport import CHUNK, Refused, Transport

RELEASE_BYTES = 4 << 20
DIRECTORY_BYTES = 1 << 20
MEMBERS = 4096
_END = struct.Struct("<4s4H2LH")
_ZIP64 = b"PK\x06\x07"
_DAMAGED = ("package", "this file is damaged", "copy it again")


class LocalTransport(Transport):
    """Both ends of a session, in one process."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._next: dict[str, Any] | None = None
        self._chunks: Iterator[bytes] = iter(())
        self.silence_s = 0
        self.reply: dict[str, Any] = {}

    def ask(self, request: dict[str, Any], chunks: Iterator[bytes]) -> None:
        """Make a request, with the bytes that follow it."""
        self._next, self._chunks, self.reply = request, chunks, {}

    def request(self) -> dict[str, Any] | None:
        """The request, once."""
        request, self._next = self._next, None
        return request

    def payload(self) -> Iterator[bytes]:
        """The bytes that follow it."""
        return self._chunks

    def send(self, frame: dict[str, Any]) -> None:
        """Take a line of the agent."""
        if "ok" in frame or "error" in frame:
            self.reply = frame
        else:
            self._report(str(frame.get("at")))


class CarriedFile:
    """A release in one file: a script of a few lines that is followed by a zip.

    Raises:
        Refused: It is not such a file.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = _regular(path)
            _check_directory(self._file)
            self._zip = zipfile.ZipFile(self._file)
            self.signed = self._signed()
        except (zipfile.BadZipFile, KeyError, ValueError, RecursionError, struct.error):
            raise Refused(*_DAMAGED) from None

    def _signed(self) -> dict[str, Any]:
        info = self._zip.getinfo("release.json")
        if info.file_size > RELEASE_BYTES or info.compress_type != zipfile.ZIP_STORED:
            raise ValueError("release.json is too large")
        signed = json.loads(self._zip.read(info).decode())["signed"]
        if not isinstance(signed, dict) or not isinstance(signed.get("manifest"), str):
            raise ValueError("release.json has no manifest")
        return signed

    def chunks(self, sha256: str, size: int, offset: int) -> Iterator[bytes]:
        """Read a blob from an offset on.

        Args:
            sha256: Its hash.
            size: Its size in bytes, of the signed manifest.
            offset: How many bytes to leave out.

        Yields:
            The next part.

        Raises:
            Refused: It is not in the file, or has another size.
        """
        try:
            info = self._zip.getinfo("blobs/" + sha256)
            if info.file_size != size or info.compress_type != zipfile.ZIP_STORED:
                raise ValueError("another size")
            with self._zip.open(info) as member:
                for chunk in iter(lambda: member.read(CHUNK), b""):
                    if offset < len(chunk):
                        yield chunk[offset:]
                    offset = max(0, offset - len(chunk))
        except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError, RuntimeError):
            raise Refused(*_DAMAGED) from None


def _regular(path: Path) -> BinaryIO:
    """Open a regular file; never blocks on a pipe or a device."""
    descriptor = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused("use", f"{path} is not a file", "give a file made by edgevid flash --archive")
    return os.fdopen(descriptor, "rb")


def _check_directory(file: BinaryIO) -> None:
    """Check that the zip's directory is small; Python reads all of it into memory."""
    file.seek(-_END.size - 20, os.SEEK_END)
    tail = file.read()
    end = _END.unpack(tail[20:])
    signature, _, _, _, members, size, _, comment = end
    if signature != b"PK\x05\x06" or comment or tail.startswith(_ZIP64):
        raise zipfile.BadZipFile
    if members > MEMBERS or size > DIRECTORY_BYTES:
        raise zipfile.BadZipFile


class Installer:
    """Makes the requests of one installation."""

    def __init__(self, file: CarriedFile, root: Path | None) -> None:
        self._last = ""
        self._file, self._root = file, root
        self._transport = LocalTransport(self._progress)
        self._session = AgentSession(self._transport)

    def _progress(self, text: str) -> None:
        if text != self._last:
            self._last = text
            report(text)

    def call(self, do: str, fields: dict[str, Any], chunks: Iterable[bytes] = ()) -> dict[str, Any]:
        """Make a request.

        Returns:
            The reply.

        Raises:
            Refused: The agent refuses it.
        """
        request = dict(fields, do=do)
        if self._root is not None:
            request["root"] = str(self._root)
        self._transport.ask(request, iter(chunks))
        self._session.run()
        reply = self._transport.reply
        if "error" in reply:
            raise Refused(**reply["error"])
        return reply

    def install(self, options: argparse.Namespace) -> int:
        """Check, copy, stage and activate the release; returns the exit code."""
        given = self._file.signed
        signed = {name: given[name] for name in _SIGNED if name in given}
        checked = self.call("check", signed)
        for note in checked.get("notes", ()):
            report(note)
        if options.check:
            report("release {} can be installed here".format(checked["release"]))
            return 0
        self.call("session", {})
        sizes = manifest.read(signed["manifest"].encode()).blobs()
        missing = self.call("missing", {"blobs": sizes})["missing"]
        for sha256, offset in sorted(missing.items()):
            chunks = self._file.chunks(sha256, sizes[sha256], offset)
            blob = {"sha256": sha256, "size": sizes[sha256], "offset": offset}
            self.call("blob", blob, chunks)
        staged = self.call("stage", signed)
        release = staged["release"]
        for name in staged["credentials"]:
            self._ask_for(name)
        if options.stage:
            report(f"release {release} is staged; run this again without --stage to activate it")
            return 0
        return self._activate(options, release)

    def _ask_for(self, name: str) -> None:
        """Ask for a secret, which no archive contains; without a terminal, activation fails."""
        if not sys.stdin.isatty():
            return
        secret = getpass.getpass(f"edgevid: {name}: the camera's password, or its whole URL: ")
        content = secret.strip().encode()
        if content:
            about = {"name": name, "sha256": hashlib.sha256(content).hexdigest()}
            self.call("credential", about, [content])

    def _activate(self, options: argparse.Namespace, release: str) -> int:
        health = {
            "seconds": options.health_s,
            "p95_ms": options.p95_ms,
            "allow_degraded": options.allow_degraded,
        }
        reply = self.call("activate", {"id": release, "health": health})
        if not reply.get("started", True):
            report(f"release {release} is already serving; nothing was restarted")
            return 0
        report(f"release {release} is starting; health check for {options.health_s:g} s")
        end = self.call("watch", {"activation": reply.get("activation")})
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
            sys.stderr.write(f"    {_plain(line)}\n")
        return 1


_SIGNED = ("manifest", "statement", "signature", "key", "pin")
"""The fields of ``check`` and ``stage`` that a file may give."""


def report(text: object) -> None:
    """Write a message to stderr."""
    sys.stderr.write(f"edgevid: {_plain(text)}\n")


def _plain(text: object) -> str:
    """One line without unprintable characters."""
    line = "".join(sign if sign.isprintable() else " " for sign in str(text))
    return " ".join(line.split())


def arguments(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="agent.py install",
        description="Install a release from an edgevid flash --archive file. It is checked "
        "first, and kept only if it is healthy here; otherwise the device stays as it was.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; report what the device lacks"
    )
    parser.add_argument("--stage", action="store_true", help="do not activate it")
    parser.add_argument(
        "--root", type=Path, help="edgevid's folder; /opt/edgevid for root, else in your home"
    )
    parser.add_argument(
        "--allow-degraded",
        action="store_true",
        help="count a release on a fallback engine as healthy",
    )
    parser.add_argument("--health-s", type=float, default=20.0, help="health window in seconds")
    parser.add_argument("--p95-ms", type=float, help="the highest latency that counts as healthy")
    return parser.parse_args(args)


def main(args: list[str]) -> int:
    """Install the release of a file; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = arguments(args)
    try:
        _check_place(options)
        with contextlib.suppress(BrokenPipeError):
            return Installer(CarriedFile(options.file), options.root).install(options)
    except Refused as fault:
        report(fault)
        return 1 if fault.kind in GATES else 2 if fault.kind in WRONG_USE else 4
    except OSError as error:
        report(f"{options.file}: {error.strerror}; give a file made by edgevid flash --archive")
        return 2
    except KeyboardInterrupt:
        report("interrupted; nothing was left half-written")
        return 130
    return 4


def _check_place(options: argparse.Namespace) -> None:
    """Check that this device has a key to check the file with; a first installation has none."""
    root = options.root or default_root()
    if not root.is_absolute():
        raise Refused("use", f"--root {root} is relative", "give an absolute path")
    if not options.first and trust.pinned(Store(root).signers) is None:
        raise Refused(
            "key",
            f"nothing is installed in {root}, so there is no key to check the file with",
            "check its signature with ssh-keygen -Y verify, then run it: sh FILE",
        )
