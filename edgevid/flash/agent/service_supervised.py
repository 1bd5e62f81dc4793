"""A service without systemd: edgevid's own supervisor, which cron starts with the device."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import disk, probe
from .manifest import Manifest
from .processes import detach, end_stragglers, kill
from .service import STOP_S, TAIL, ServiceControl, ServiceState, agent_args


class SupervisedService(ServiceControl):
    """Our own supervisor, a process of its own; cron starts it with the device."""

    @property
    def folder(self) -> Path:
        """In the state folder."""
        return self.store.state / "run"

    @property
    def lock(self) -> disk.FileLock:
        """Held by the living supervisor."""
        return disk.FileLock(self.store.state / "supervisor.lock")

    @property
    def _line(self) -> str:
        words = " ".join(agent_args(self.store, None, "supervise"))
        return f"@reboot {words} >/dev/null 2>&1 {self._mark}"

    @property
    def _mark(self) -> str:
        return f"# edgevid {self.store.root}"

    def is_installed(self, one: Manifest) -> bool:
        """Whether cron will start it, where there is cron."""
        table = _crontab()
        return table is None or self._line in table

    def install(self, one: Manifest) -> list[str]:
        """Let cron start it with the device."""
        notes = []
        if os.geteuid() == 0 and not _account(one.user):
            notes.append(f"the service runs as root: this device has no user {one.user}")
        table = _crontab()
        if table is None:
            return [*notes, "it does not start with the device: there is no systemd and no crontab"]
        if self._line not in table:
            _set_crontab([*self._others(table), self._line])
        return notes

    def _others(self, table: list[str]) -> list[str]:
        return [line for line in table if not line.endswith(self._mark)]

    def restart(self) -> None:
        """A new supervisor, of the agent that serves now."""
        self.stop()
        detach(agent_args(self.store, None, "supervise"))

    def stop(self) -> None:
        """End the supervisor, and what it left."""
        lock, until = self.lock, time.monotonic() + STOP_S
        while not lock.is_free():
            number = signal.SIGTERM if time.monotonic() < until else signal.SIGKILL
            kill(_holder(lock), number)
            time.sleep(0.05)
        end_stragglers(self.store.root)

    def remove(self, *, inside: bool = False) -> list[str]:
        """Forget the line of crontab, then end it."""
        gone = []
        table = _crontab() or []
        if self._others(table) != table:
            _set_crontab(self._others(table))
            gone.append("crontab: @reboot")
        if not inside:
            self.stop()
        return gone

    def state(self) -> ServiceState:
        """As the supervisor noted it."""
        boot = self._line in (_crontab() or [])
        alive = not self.lock.is_free()
        try:
            noted = json.loads((self.store.state / "supervisor.json").read_text())
        except (OSError, ValueError):
            noted = {}
        if not alive or noted.get("supervisor") != _holder(self.lock):
            # One that is about to begin has noted nothing yet.
            return ServiceState(self.kind, "running" if alive else "absent", None, 0, None, boot)
        phase = "running" if noted["pid"] else "ended"
        restarts, code = noted["restarts"], noted["exit_code"]
        return ServiceState(self.kind, phase, noted["pid"], restarts, code, boot)

    def log(self, since_unix_s: float) -> list[str]:
        """From the file that the supervisor writes."""
        try:
            with (self.store.state / "service.log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - (16 << 10)))
                return file.read().decode(errors="replace").splitlines()[-TAIL:]
        except OSError:
            return []

    def pause(self) -> bool:
        """The supervisor sees the lock, and serves again as soon as nobody holds it."""
        return self._pause.take() and self._is_down()

    def resume(self) -> None:
        """Let go of the lock."""
        self._pause.release()

    def spawn_watchdog(self, words: list[str], token: str) -> None:
        """As a process of its own, below one that starts it again if it is killed."""
        detach([sys.executable, "-I", "-c", _AGAIN, *words])

    def spawn_job(self, words: list[str], name: str, deadline_s: float, pauses: bool) -> None:
        """As a process of its own."""
        detach(words)


# Killed by a signal, a watchdog begins again, and goes back.
_AGAIN = "import subprocess,sys\nwhile subprocess.call(sys.argv[1:])<0:pass"


def _holder(lock: disk.FileLock) -> int:
    try:
        return int(lock.path.read_text().strip() or 0)
    except (OSError, ValueError):
        return 0


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _crontab() -> list[str] | None:
    """This user's table; None where it cannot be read, and must not be written then."""
    try:
        done = subprocess.run(
            ["crontab", "-l"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=probe.with_bus(),
        )
    except OSError:
        return None
    if done.returncode and b"no crontab" not in done.stderr:
        return None
    return done.stdout.decode(errors="surrogateescape").splitlines() if not done.returncode else []


def _set_crontab(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    subprocess.run(
        ["crontab", "-"] if text else ["crontab", "-r"],
        input=text.encode(errors="surrogateescape"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
