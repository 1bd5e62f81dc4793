"""The service that runs the runner: what all kinds of service have in common."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from . import disk
from .manifest import Manifest
from .processes import environment, user_of
from .runner_status import ask, configured_status
from .store import Store

NOTHING_TO_SERVE = 78
STOP_S = 25.0
TAIL = 20


class ServiceState(NamedTuple):
    """The state of the service; ``phase`` is running, absent (not started) or ended (by itself)."""

    kind: str
    phase: str
    pid: int | None
    restarts: int
    exit_code: int | None
    boot: bool
    """Whether it starts with the device."""


class ServiceControl:
    """A service on this device; one subclass for each kind."""

    kind = "none"

    def __init__(self, store: Store) -> None:
        self.store = store
        self._pause = paused(store)

    @property
    def name(self) -> str:
        """``edgevid`` for the usual folder; other folders have names of their own."""
        if self.store.root in (SYSTEM_FOLDER, usual_of_user()):
            return "edgevid"
        digest = hashlib.sha256(str(self.store.root).encode()).hexdigest()
        return f"edgevid-{digest[:8]}"

    @property
    def folder(self) -> Path:
        """The folder of the runner's status, unless its configuration names another."""
        raise NotImplementedError

    def fits(self, manifest: Manifest) -> None:
        """Check that the service can run from this folder; raises `Refused` if it cannot."""

    def install(self, manifest: Manifest) -> list[str]:
        """Make it start with the device; returns notes for the user."""
        raise NotImplementedError

    def is_installed(self, manifest: Manifest) -> bool:
        """Whether it is installed for exactly this release."""
        raise NotImplementedError

    def restart(self) -> None:
        """Stop it, and start what ``current`` points to, without waiting until it serves."""
        raise NotImplementedError

    def remove(self, *, inside: bool = False) -> list[str]:
        """Stop and remove it; returns what was removed. ``inside``: called from its own start."""
        raise NotImplementedError

    def state(self) -> ServiceState:
        """Its state now."""
        raise NotImplementedError

    def log(self, since_unix_s: float) -> list[str]:
        """The last lines of its log."""
        raise NotImplementedError

    def spawn_watchdog(self, args: list[str], token: str) -> None:
        """Start a watchdog, which outlives this session."""
        raise NotImplementedError

    def pause(self) -> bool:
        """Stop serving until `resume` or the end of this process; False if it does not stop."""
        raise NotImplementedError

    def resume(self) -> None:
        """Serve again."""
        raise NotImplementedError

    def spawn_job(self, args: list[str], name: str, deadline_s: float, pauses: bool) -> None:
        """Start a job's process; a service that it ``pauses`` serves again after it."""
        raise NotImplementedError

    def _is_down(self) -> bool:
        """Wait until the service has stopped; False if it does not in time."""
        until = time.monotonic() + STOP_S
        while self.state().pid is not None:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    def status(self, pid: int | None) -> dict[str, Any] | None:
        """The status document of the runner that is process ``pid``; None if it does not answer."""
        user = user_of(pid) if pid else None
        return None if user is None else ask(configured_status(self.store) or self.folder, user)

    def serving(self) -> str | None:
        """The release from which the running process was started."""
        pid = self.state().pid
        return environment(pid).get("EDGEVID_RELEASE") if pid else None


SYSTEM_FOLDER = Path("/opt/edgevid")
"""The usual folder of root."""


def usual_of_user() -> Path:
    """The usual folder of a user who is not root."""
    return Path(os.environ.get("HOME") or "/nonexistent") / ".local" / "share" / "edgevid"


def elsewhere(root: Path) -> list[Path]:
    """The usual folders other than ``root`` in which edgevid is installed: root's, and the user's.

    Whether the agent runs as root depends on sudo, which can change between two deployments.
    """
    folders = [SYSTEM_FOLDER, usual_of_user()]
    asked = os.environ.get("SUDO_USER")
    if asked:
        with contextlib.suppress(KeyError):
            folders.append(Path(pwd.getpwnam(asked).pw_dir) / ".local" / "share" / "edgevid")
    others = [folder for folder in folders if folder != root]
    return [folder for folder in others if os.path.lexists(str(folder / "current"))]


def paused(store: Store) -> disk.FileLock:
    """The lock of the process that has paused the service."""
    return disk.FileLock(store.state / "pause.lock")


def agent_args(store: Store, release: str | None, *args: str) -> list[str]:
    """The command line of a release's agent; None: of the release that serves."""
    folder = store.root / "current" if release is None else store.release(release)
    return [sys.executable, "-I", str(folder / "agent.py"), *args, "--root", str(store.root)]
