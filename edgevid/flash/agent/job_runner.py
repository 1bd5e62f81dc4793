"""Runs one job on the device, in a process of its own.

It ends the job at its deadline. If this process is killed, the job ends with it, and a service that
it paused serves again: systemd starts it after this process's unit; elsewhere the supervisor does,
as soon as the lock is free.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import accounts, disk, processes, services, untrusted
from .job_protocol import DOCUMENT, FILES
from .jobs import MARK, STOP_S, locks
from .store import Store
from .transport import Refused

DOCUMENT_BYTES = 64 << 20
"""The largest document of a job, in bytes."""


class JobRunner:
    """Runs one job to its end."""

    def __init__(self, store: Store, release: str, name: str) -> None:
        self.store, self.name = store, name
        self.folder = store.jobs / name
        self.job = json.loads((self.folder / "job.json").read_text())
        self._release = store.manifest(release)
        self._asked_to_end = False

    def run(self) -> int:
        """Take the locks, pause the service if asked, run the job, and record how it ended."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        # Our own lock last: it shows that the job runs.
        own = disk.FileLock(self.store.jobs / "lock")
        others = [lock for lock in locks(self.store) if lock.path != own.path]
        for lock in [*others, own]:
            if not lock.take():
                return self._end(None, "another job started first")
            lock.write(f"{os.getpid()} {self.name}" if lock is own else str(os.getpid()))
        pause = self.job["pause"]
        if pause is None:
            return self._run()
        control = services.of(Store(Path(pause)))
        try:
            if not control.pause():
                return self._end(None, "the service could not be paused; flash it again")
            return self._run()
        finally:
            control.resume()

    def _stop(self, *_: Any) -> None:
        self._asked_to_end = True

    def _run(self) -> int:
        try:
            ready = self._ready()
        except Refused as error:
            return self._end(None, f"{error.message}; {error.fix}")
        began = time.monotonic()
        deadline = began + self.job["deadline_s"]
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("wb") as err:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "edgevid", *self.job["args"]],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self._environment(),
                cwd=str(self.folder / "out"),
                preexec_fn=ready,
                start_new_session=True,
            )
            why, kill_at = "ended", 0.0
            while child.poll() is None:
                now = time.monotonic()
                if kill_at == 0.0 and (self._asked_to_end or now > deadline):
                    why = "asked" if self._asked_to_end else "deadline"
                    child.terminate()  # it ends its own children
                    kill_at = now + STOP_S / 2
                elif kill_at and now > kill_at:
                    child.kill()
                time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        processes.end_marked(MARK, str(self.store.root), now=True)
        return self._end(child.returncode, why, time.monotonic() - began)

    def _environment(self) -> dict[str, str]:
        left_out = ("PYTHONHOME", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "EDGEVID_ROOT")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        lib = self.store.lib(self.job["runner"])
        if not (lib / "edgevid" / "__pycache__").is_dir():  # nothing was compiled beforehand
            kept["PYTHONPYCACHEPREFIX"] = str(self.store.state / "cache" / "compiled")
        return {
            **kept,
            "PYTHONPATH": str(lib),
            "PYTHONNOUSERSITE": "1",
            "PYTHONUNBUFFERED": "1",
            "XDG_CACHE_HOME": str(self.store.state / "cache"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),  # without anybody's own targets
            "HOME": str(self.folder / "out"),
            MARK: str(self.store.root),
        }

    def _ready(self) -> Callable[[], None]:
        """What the child does first: drop root's rights, and die with this process."""
        account = self._account()
        for folder in (self.store.state / "cache", self.folder / "out"):
            untrusted.make_folder(folder, 0o755 if account is None else 0o700, account)
        lower = accounts.lowering(account, self._release.groups if self._release else ())
        die = _with_parent(os.getpid())

        def ready() -> None:
            lower()
            die()  # last: a change of the user resets it

        return ready

    def _account(self) -> tuple[int, int] | None:
        """The user and group of the job: the service's, or nobody's; None: the current user.

        Raises:
            Refused: It would run as root, which the release does not permit.
        """
        if self._release is None:
            raise Refused("use", "the release is not on this device", "flash it again")
        try:
            return accounts.account_of(self._release)
        except Refused:
            open_to_all = (one.stat().st_mode & 1 for one in [self.folder, *self.folder.parents])
            if not all(open_to_all):
                raise
            found = pwd.getpwnam("nobody")
            return found.pw_uid, found.pw_gid

    def _end(self, code: int | None, why: str, seconds: float = 0.0) -> int:
        for name in ("stdout", "stderr"):
            if (self.folder / name).exists():
                disk.sync_file(self.folder / name)
        result = {
            "exit_code": code if code is None or code >= 0 else 128 - code,
            "why": why,
            "seconds": round(seconds, 3),
            "document": None if code is None else self._document(),
        }
        disk.write_whole(self.folder / "exit.json", json.dumps(result).encode())
        if self.job["throw_away"]:
            self._throw_away()
        return 0

    def _document(self) -> dict[str, Any] | None:
        """The hash and size of what the job wrote; None if it is not a plain file, or too long."""
        descriptor = untrusted.open_file(self.folder / "out", DOCUMENT)
        if descriptor is None:
            return None
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            if size > DOCUMENT_BYTES:
                return None
            os.fsync(descriptor)
            return {"sha256": disk.sha256_of_file(file), "size": size}

    def _throw_away(self) -> None:
        """Keep only the job's results, even if nobody ever fetches them."""
        if self.store.lock.take():
            for folder in (self.store.releases, self.store.runners, self.store.blobs):
                disk.remove(folder)
            disk.remove(self.folder / FILES)
            self.store.lock.release()


def _with_parent(parent: int) -> Callable[[], None]:
    """Return a function that lets the kernel kill this process when its parent ends."""
    try:
        import ctypes

        control = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return lambda: None

    def die() -> None:
        control(1, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return die
