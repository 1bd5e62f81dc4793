"""A service without systemd: edgevid's own supervisor, which cron starts with the device."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import accounts, disk, probe
from .manifest import Manifest
from .processes import detach, end_stragglers, kill
from .service import STOP_S, TAIL, ServiceControl, ServiceState, agent_args
from .transport import Refused


class SupervisedService(ServiceControl):
    """edgevid's own supervisor process; cron starts it with the device."""

    @property
    def folder(self) -> Path:
        """A folder in edgevid's own."""
        return self.store.state / "run"

    def fits(self, manifest: Manifest) -> None:
        """Check that the runner has a user, who can read the folder.

        Args:
            manifest: The release.

        Raises:
            Refused: It would run as root, or its user cannot read the folder.
        """
        accounts.fits(manifest)
        if os.geteuid() or manifest.user == "root":
            return
        above = disk.existing(self.store.root)
        for folder in (above, *above.parents):
            if not folder.stat().st_mode & 1:
                raise Refused(
                    "root",
                    f"the service, which is not root, cannot read files in {folder}",
                    "give another --root, such as /opt/edgevid",
                )

    @property
    def lock(self) -> disk.FileLock:
        """Held by the supervisor while it lives."""
        return disk.FileLock(self.store.state / "supervisor.lock")

    @property
    def _line(self) -> str:
        command = " ".join(agent_args(self.store, None, "supervise"))
        return f"@reboot {command} >/dev/null 2>&1 {self._mark}"

    @property
    def _mark(self) -> str:
        return f"# edgevid {self.store.root}"

    def is_installed(self, manifest: Manifest) -> bool:
        """Whether cron starts it; True if there is no cron."""
        table = _crontab()
        return table is None or self._line in table

    def install(self, manifest: Manifest) -> list[str]:
        """Let cron start it with the device."""
        notes = accounts.make(manifest)
        table = _crontab()
        if table is None:
            return [
                *notes,
                "it does not start with the device, which has neither systemd nor crontab",
            ]
        if self._line not in table:
            _set_crontab([*self._others(table), self._line])
        return notes

    def _others(self, table: list[str]) -> list[str]:
        return [line for line in table if not line.endswith(self._mark)]

    def restart(self) -> None:
        """Start a new supervisor, of the release that ``current`` points to."""
        self.stop()
        detach(agent_args(self.store, None, "supervise"))

    def stop(self) -> None:
        """End the supervisor, and processes that it left."""
        lock, until = self.lock, time.monotonic() + STOP_S
        while not lock.is_free():
            number = signal.SIGTERM if time.monotonic() < until else signal.SIGKILL
            kill(_holder(lock), number)
            time.sleep(0.05)
        end_stragglers(self.store.root)

    def remove(self, *, inside: bool = False) -> list[str]:
        """Remove its line from the crontab, then end it."""
        gone = []
        table = _crontab() or []
        if self._others(table) != table:
            _set_crontab(self._others(table))
            gone.append("crontab: @reboot")
        if not inside:
            self.stop()
        return gone

    def state(self) -> ServiceState:
        """As the supervisor recorded it."""
        boot = self._line in (_crontab() or [])
        alive = not self.lock.is_free()
        try:
            recorded = json.loads((self.store.state / "supervisor.json").read_text())
        except (OSError, ValueError):
            recorded = {}
        if not alive or recorded.get("supervisor") != _holder(self.lock):
            # One that has just started has recorded nothing yet.
            return ServiceState(self.kind, "running" if alive else "absent", None, 0, None, boot)
        phase = "running" if recorded["pid"] else "ended"
        restarts, code = recorded["restarts"], recorded["exit_code"]
        return ServiceState(self.kind, phase, recorded["pid"], restarts, code, boot)

    def log(self, since_unix_s: float) -> list[str]:
        """From the supervisor's log file."""
        try:
            with (self.store.state / "service.log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - (16 << 10)))
                return file.read().decode(errors="replace").splitlines()[-TAIL:]
        except OSError:
            return []

    def pause(self) -> bool:
        """The supervisor sees the lock, and serves again when it is free."""
        return self._pause.take() and self._is_down()

    def resume(self) -> None:
        """Release the lock."""
        self._pause.release()

    def spawn_watchdog(self, args: list[str], token: str) -> None:
        """As a process of its own, whose parent restarts it if it is killed."""
        detach([sys.executable, "-I", "-c", _RESTART, *args])

    def spawn_job(self, args: list[str], name: str, deadline_s: float, pauses: bool) -> None:
        """As a process of its own."""
        detach(args)


# Killed by a signal, a watchdog begins again, and goes back.
_RESTART = "import subprocess,sys\nwhile subprocess.call(sys.argv[1:])<0:pass"


def _holder(lock: disk.FileLock) -> int:
    try:
        return int(lock.path.read_text().strip() or 0)
    except (OSError, ValueError):
        return 0


def _crontab() -> list[str] | None:
    """This user's crontab; None if it cannot be read, and so must not be written."""
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
