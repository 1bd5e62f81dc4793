"""What a service says of itself, as a file and on a socket, in a folder of its own.

``status.json`` is for people and scripts, ``status.sock`` for programs: whoever connects gets the
same document and then the end of the stream. Both hold what the service last wrote, so that no
number of readers makes it work more often than it wants to.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgevid.errors import BadInput
from edgevid.files import canonical_json

FILE, SOCKET, LOCK = "status.json", "status.sock", "status.lock"
PATIENCE_S = 0.5  # for a reader of a document that is larger than the kernel's buffer
BACKLOG = 8
RETRY_S = 0.1


class StatusBoard:
    """One JSON document, told as a file and on a socket.

    ``read`` gives the document; it is called at once, by `write` and by `close`, never by another
    thread. Raises `BadInput` where the folder cannot be used, or another service uses it.
    """

    def __init__(self, folder: Path, read: Callable[[], dict[str, Any]]) -> None:
        self._folder, self._read = Path(folder), read
        self._lock = _take(self._folder)
        try:
            self._listening = _listen(self._folder / SOCKET)
        except BadInput:
            os.close(self._lock)
            raise
        self.trouble: str | None = None
        """Why the last `write` reached the socket only; `None` if it reached the file too."""
        self._document = b""
        self._closing = threading.Event()
        self.write()
        self._thread = threading.Thread(target=self._serve, name="status", daemon=True)
        self._thread.start()

    def write(self) -> None:
        """Bring file and socket up to date; the file is the old one or the new one, never a part.

        Not forced to the disk: it is of no use after a power cut, and once a second would wear an
        SD card out. A full disk is `trouble`, not an error: the cameras matter more.
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
            except OSError:  # closed; or out of descriptors, which may pass
                if self._closing.wait(RETRY_S):
                    return
                continue
            with reader, suppress(OSError):  # one that left, or does not read
                reader.settimeout(PATIENCE_S)
                reader.sendall(self._document)


def ask(folder: Path, timeout_s: float = 2.0) -> dict[str, Any]:
    """Give the present document of the service whose status folder is ``folder``.

    Raises `BadInput` where no service answers there within ``timeout_s``.
    """
    path = Path(folder) / SOCKET
    parts = []
    try:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(timeout_s)
            _connect(channel, path, time.monotonic() + timeout_s)
            while part := channel.recv(1 << 16):
                parts.append(part)
        document: dict[str, Any] = json.loads(b"".join(parts))
    except (OSError, ValueError) as error:
        raise BadInput(f"no service answers at {path}: {error}; is it running?") from error
    return document


def _connect(channel: socket.socket, path: Path, deadline: float) -> None:
    while True:
        try:
            return channel.connect(str(path))
        except BlockingIOError:  # a Unix socket with a time limit does not queue for the backlog
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _take(folder: Path) -> int:
    """Lock ``folder`` for this process; the kernel lets go when it dies, however it dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BadInput(
            f"the status folder {folder} cannot be used: {error.strerror}; name another"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise BadInput(
            f"the status folder {folder} belongs to the running process {holder}; "
            "stop it, or name another folder"
        ) from error
    with suppress(OSError):  # a full disk: the lock holds without the number
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    return lock


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)  # of a service that was killed: we hold the lock
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(str(path))
        listening.listen(BACKLOG)
    except OSError as error:  # mostly: longer than the 107 bytes that the kernel allows
        listening.close()
        raise BadInput(
            f"no socket can be made at {path}: {error}; name another status folder"
        ) from error
    return listening
