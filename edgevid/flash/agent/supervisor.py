"""Starts the runner: for the unit, and as the supervisor of devices without systemd."""

from __future__ import annotations

import json
import os
import re
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import accounts, credentials, disk, processes, service, untrusted, watchdog
from .service_supervised import SupervisedService
from .store import Store
from .transport import Refused

BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
CALM_S = 60.0
"""After this time without a failure, back-off starts anew."""
WATCHDOG_S = 10.0
STOP_S = 15.0
LOG_BYTES = 1 << 20
RESULTS = "results"
"""The folder in the state folder for results of a runner that has a user of its own."""
_HIDDEN = re.compile(
    rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8b-\x8f\xa8-\xae]"
    rb"|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf"
)
"""What is not printable, in UTF-8."""
RESERVED = 2
"""How much more private memory a process may map than it may use: the kernel's limit also counts
what is only reserved, such as the stacks of threads (262 MB mapped, 132 MB used by one camera)."""


def serve(store: Store) -> int:
    """Become the runner of the release that serves; returns an exit code if there is none."""
    release = store.current()
    manifest = store.manifest(release)
    if manifest is None:
        print("edgevid: nothing is deployed here", file=sys.stderr)
        return service.NOTHING_TO_SERVE
    if accounts.account_of(manifest) is not None:
        print("edgevid: the service must not run as root", file=sys.stderr)
        return service.NOTHING_TO_SERVE
    folder = store.release(manifest.id)
    limit_memory(manifest.memory_mb)
    environment = {
        **os.environ,
        "PYTHONPATH": str(store.lib(manifest.runner)),
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "EDGEVID_ROOT": str(store.root),
        "EDGEVID_RELEASE": manifest.id,
        "EDGEVID_TUNED": str(store.tuned),
    }
    environment.setdefault("STATE_DIRECTORY", str(store.state))  # for results
    environment.update(credentials.environment(store))
    os.chdir(str(folder))  # Python imports from there first, and the service cannot write there
    args = [sys.executable, "-m", "edgevid", "run", "--config", str(folder / "site.toml")]
    return os.execve(sys.executable, args, environment)


def limit_memory(memory_mb: int) -> None:
    """Limit the private memory of this process and of what it starts or becomes.

    The kernel enforces it without the memory cgroup, which Raspberry Pi OS leaves off, so that a
    unit's MemoryMax alone would do nothing there.

    Args:
        memory_mb: What the signed release says that the device can spare; 0 for no limit.
    """
    if memory_mb > 0:
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        size = RESERVED * memory_mb << 20
        size = size if most == resource.RLIM_INFINITY else min(size, most)
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def printable(output: bytes) -> bytes:
    """Show control characters and bidirectional marks as escapes.

    The runner does so itself; native libraries, which share its standard error, do not.
    """
    return _HIDDEN.sub(lambda found: found[0].decode().encode("unicode_escape"), output)


class Supervisor:
    """Keeps the service running, with exponential back-off, until SIGTERM."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._stopping = False
        self._restarts = -1
        self._exit_code: int | None = None
        self._log = store.state / "service.log"
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def run(self) -> int:
        """Run until SIGTERM, or until there is nothing to serve; returns the exit code."""
        lock = SupervisedService(self.store).lock
        if not lock.take():
            return 0
        lock.write(str(os.getpid()))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        processes.end_stragglers(self.store.root)
        failures = 0
        while not self._stopping:
            watchdog.try_to_recover(self.store)
            if self.store.current() is None:
                break
            if self._is_paused():
                self._record(None)
                time.sleep(0.1)
                continue
            if watchdog.verify(self.store):
                continue
            began = time.monotonic()
            self._serve_once()
            if self._is_paused():  # so it did not end by itself
                failures, self._restarts = 0, self._restarts - 1
                continue
            failures = 0 if time.monotonic() - began > CALM_S else failures + 1
            pause_s = BACKOFF_S[min(max(failures - 1, 0), len(BACKOFF_S) - 1)]
            until = time.monotonic() + pause_s
            while not self._stopping and time.monotonic() < until:
                time.sleep(0.05)
        self._record(None)
        return 0

    def _stop(self, *_: Any) -> None:
        self._stopping = True

    def _is_paused(self) -> bool:
        return not service.paused(self.store).is_free()

    def _record(self, pid: int | None) -> None:
        """Record the state; void after a power cut, so not forced to the disk."""
        record = {
            "supervisor": os.getpid(),
            "pid": pid,
            "restarts": max(self._restarts, 0),
            "exit_code": self._exit_code,
        }
        part = self.store.state / ".supervisor.json.part"
        try:
            part.write_text(json.dumps(record))
            os.replace(str(part), str(self.store.state / "supervisor.json"))
        except OSError:  # a full disk: serving matters more
            pass

    def _serve_once(self) -> None:
        self._restarts += 1
        try:
            account = self._account()
        except Refused as error:
            self._refuse(error)
            return
        environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(self.store.state / "cache"),
            "RUNTIME_DIRECTORY": str(self.store.state / "run"),
            "NOTIFY_SOCKET": str(self._listen(account)),
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
            "EDGEVID_ROOT": str(self.store.root),
        }
        environment.pop("WATCHDOG_PID", None)
        if account is not None:  # it cannot read what the home of root has
            own = str(self.store.state / RESULTS)
            environment.update(STATE_DIRECTORY=own, HOME=own, XDG_CONFIG_HOME=own + "/.config")
        child = subprocess.Popen(
            service.agent_args(self.store, None, "serve"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd="/",
            preexec_fn=self._lowered(account),
        )
        self._record(child.pid)
        self._follow(child)
        self._exit_code = child.returncode if child.returncode >= 0 else 128 - child.returncode
        processes.end_stragglers(self.store.root)  # its workers
        self._record(None)

    def _account(self) -> tuple[int, int] | None:
        """The runner's user and group; None: as this process."""
        manifest = self.store.manifest(self.store.current())
        return accounts.account_of(manifest) if manifest is not None else None

    def _refuse(self, error: Refused) -> None:
        """Record that nothing was started."""
        self._exit_code = service.NOTHING_TO_SERVE
        with self._log.open("ab") as log:
            log.write(f"edgevid: {error}\n".encode())
        self._record(None)

    def _listen(self, account: tuple[int, int] | None) -> Path:
        """Make the socket for the runner's messages, to which only its user can write.

        It is in a folder of ours, so nobody else can take its name or send to it.
        """
        path = self.store.state / "notify.sock"
        self._notices.close()
        disk.remove(path)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        before = os.umask(0o177)
        try:
            self._notices.bind(str(path))
        finally:
            os.umask(before)
        if account is not None:
            os.chown(str(path), account[0], account[1], follow_symlinks=False)
        return path

    def _lowered(self, account: tuple[int, int] | None) -> Callable[[], None]:
        """Create the runner's folders; returns a function that drops root's privileges."""
        own = (("run", 0o755), ("cache", 0o755 if account is None else 0o700), (RESULTS, 0o755))
        for name, mode in own if account is not None else own[:2]:
            untrusted.make_folder(self.store.state / name, mode, account)
        if account is not None:
            credentials.give(self.store, *account)
        manifest = self.store.manifest(self.store.current())
        return accounts.lowering(account, manifest.groups if manifest else ())

    def _follow(self, child: subprocess.Popen[bytes]) -> None:
        """Keep its output, and end it when its watchdog expires or the supervisor stops."""
        assert child.stdout is not None
        due: float | None = None
        kill_at: float | None = None
        with selectors.DefaultSelector() as selector, self._log.open("ab") as log:
            selector.register(child.stdout, selectors.EVENT_READ)
            selector.register(self._notices, selectors.EVENT_READ)
            while child.poll() is None:
                for key, _ in selector.select(0.2):
                    if key.fileobj is self._notices:
                        notice = self._notices.recv(1 << 12)
                        if b"READY=1" in notice or b"WATCHDOG=1" in notice:
                            due = time.monotonic() + WATCHDOG_S
                    elif not self._keep(child.stdout.fileno(), log):
                        selector.unregister(child.stdout)
                now = time.monotonic()
                if (self._stopping or self._is_paused()) and kill_at is None:
                    child.terminate()
                    kill_at = now + STOP_S
                elif due is not None and now > due and kill_at is None:
                    child.send_signal(signal.SIGABRT)
                    kill_at = now + 2.0
                if kill_at is not None and now > kill_at:
                    child.kill()
                if not self._stopping and watchdog.try_to_recover(self.store):
                    child.terminate()
                    kill_at = now + STOP_S
            os.set_blocking(child.stdout.fileno(), False)
            while self._keep(child.stdout.fileno(), log):
                pass
        child.stdout.close()

    def _keep(self, descriptor: int, log: Any) -> bool:
        """Append output to the log, of which two parts are kept; False at the end."""
        try:
            output = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return False
        try:
            if log.tell() > LOG_BYTES:
                self._log.with_suffix(".old.log").write_bytes(self._log.read_bytes())
                log.truncate(0)
            log.write(printable(output))
            log.flush()
        except OSError:  # a full disk
            pass
        return bool(output)
