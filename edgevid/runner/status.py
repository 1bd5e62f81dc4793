"""The status of a service as a file and on a socket, in a folder of its own.

``status.json`` is for people and scripts, ``status.sock`` for programs: a client gets the same
document and then the end of the stream. Both have what the service published last, so any number of
readers costs it nothing.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgevid.content import parse_nested
from edgevid.errors import BadInput
from edgevid.files import canonical_json, failure

FILES = FILE, SOCKET, LOCK = "status.json", "status.sock", "status.lock"
SEND_S = 0.5  # for a client, if the document is larger than the kernel's buffer
BACKLOG = 8
RETRY_S = 0.1
LIMIT = 4 << 20
"""The longest document that `ask` reads, bytes."""


class StatusBoard:
    """One JSON document, published as a file and on a socket."""

    def __init__(self, folder: Path, read: Callable[[], dict[str, Any]]) -> None:
        """Publish a first document.

        Args:
            folder: The folder, created if it does not exist.
            read: Returns the document; called here, by `write` and by `close`.

        Raises:
            BadInput: The folder cannot be one, or another service uses it.
            OutputFailed: The folder may not be written.
        """
        self._folder, self._read = Path(folder), read
        self._lock = _take(self._folder)
        try:
            self._listening = _listen(self._folder / SOCKET)
        except BadInput:
            os.close(self._lock)
            raise
        self.trouble: str | None = None
        """Why the last `write` reached only the socket; None if it reached the file too."""
        self._document = b""
        self._closing = threading.Event()
        self.write()
        self._thread = threading.Thread(target=self._serve, name="status", daemon=True)
        self._thread.start()

    def write(self) -> None:
        """Update file and socket; the file is replaced atomically.

        It is not synced to the disk: it is useless after a power cut, and once per second would
        wear out an SD card. A full disk is `trouble` and not an error, so the cameras continue.
        """
        self._publish(self._read())

    def close(self) -> None:
        """Close the socket and leave a last ``status.json`` whose ``state`` is ``stopped``."""
        if self._lock < 0:
            return
        self._closing.set()
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._thread.join()
        self._listening.close()
        (self._folder / SOCKET).unlink(missing_ok=True)
        self._publish({**self._read(), "state": "stopped"})
        os.close(self._lock)
        self._lock = -1

    def _publish(self, document: dict[str, Any]) -> None:
        self._document = canonical_json(document)
        path = self._folder / FILE
        part = path.with_name(f".{FILE}.part")  # the lock makes it ours alone
        try:
            part.write_bytes(self._document)
            part.replace(path)
            self.trouble = None
        except OSError as error:
            self.trouble = f"{path} cannot be written: {error.strerror}"

    def _serve(self) -> None:
        while True:
            try:
                reader, _ = self._listening.accept()
            except OSError:  # closed; or out of file descriptors, for a while
                if self._closing.wait(RETRY_S):
                    return
                continue
            with reader, suppress(OSError):  # a client that has left or does not read
                reader.settimeout(SEND_S)
                reader.sendall(self._document)


def ask(folder: Path, timeout_s: float = 2.0) -> dict[str, Any]:
    """Get the document of a running service.

    Args:
        folder: Its status folder.
        timeout_s: How long to wait.

    Raises:
        BadInput: No service answers in time.
    """
    path = Path(folder) / SOCKET
    parts, size, deadline = [], 0, time.monotonic() + timeout_s
    try:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(timeout_s)
            _connect(channel, path, deadline)
            while part := channel.recv(1 << 16):
                parts.append(part)
                size += len(part)
                if size > LIMIT or time.monotonic() > deadline:
                    raise ValueError("it sends too much, or too slowly")
        document: dict[str, Any] = parse_nested(b"".join(parts))
    except (OSError, ValueError) as error:
        raise BadInput(f"no service answers at {path}: {error}; is it running?") from error
    return document


def _connect(channel: socket.socket, path: Path, deadline: float) -> None:
    while True:
        try:
            return channel.connect(str(path))
        except BlockingIOError:  # a Unix socket with a timeout does not wait for the backlog
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _take(folder: Path) -> int:
    """Lock ``folder`` for this process; the kernel releases it however the process ends."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        _check_owner(folder)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        os.fchmod(lock, 0o600)  # of an older version: whoever can open it can lock it
    except OSError as error:
        raise failure(folder, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise BadInput(
            f"the status folder {folder} belongs to the running process {holder}; "
            "stop it, or name another folder"
        ) from error
    with suppress(OSError):  # a full disk: the lock works without the number
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    return lock


def _check_owner(folder: Path) -> None:
    """Check that no other user can change the folder; raises `BadInput` if one can."""
    found = folder.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise BadInput(
            f"the status folder {folder} belongs to another user; name a folder of your own"
        )
    shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if shared & stat.S_IWOTH or (shared and found.st_gid != os.getegid()):
        raise BadInput(
            f"other users can write the status folder {folder}; chmod go-w {folder}, or name "
            "another folder"
        )


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)  # left by a service that was killed: we have the lock
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(str(path))
        listening.listen(BACKLOG)
    except OSError as error:  # usually longer than the 107 bytes that the kernel allows
        listening.close()
        raise BadInput(
            f"cannot create a socket at {path}: {error}; name another status folder"
        ) from error
    return listening
