"""The service that runs the runner: what all kinds of service have in common."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from . import disk
from .manifest import Manifest
from .processes import environment
from .runner_status import ask, configured_status
from .store import Store

NOTHING_TO_SERVE = 78
STOP_S = 25.0
TAIL = 20


class ServiceState(NamedTuple):
    """How the service is; ``phase``: running, absent (not started), or ended (by itself)."""

    kind: str
    phase: str
    pid: int | None
    restarts: int
    exit_code: int | None
    boot: bool
    """Whether it starts again with the device."""


class ServiceControl:
    """What all kinds have in common."""

    kind = "none"

    def __init__(self, store: Store) -> None:
        self.store = store
        self._pause = paused(store)

    @property
    def name(self) -> str:
        """``edgevid`` in the usual folder; others have names of their own."""
        if self.store.root in (Path("/opt/edgevid"), usual_of_user()):
            return "edgevid"
        digest = hashlib.sha256(str(self.store.root).encode()).hexdigest()
        return f"edgevid-{digest[:8]}"

    @property
    def folder(self) -> Path:
        """Where the runner tells its status, unless its configuration names another folder."""
        raise NotImplementedError

    def fits(self, one: Manifest) -> None:
        """Raises `Refused` where the service could not run from this folder."""

    def install(self, one: Manifest) -> list[str]:
        """Make it start with the device; gives what people should know."""
        raise NotImplementedError

    def is_installed(self, one: Manifest) -> bool:
        """Whether that was done already, for exactly this release."""
        raise NotImplementedError

    def restart(self) -> None:
        """End what runs, and start what ``current`` points to, without waiting until it serves."""
        raise NotImplementedError

    def remove(self, *, inside: bool = False) -> list[str]:
        """End it and forget it; gives what was removed. ``inside``: asked by its own start."""
        raise NotImplementedError

    def state(self) -> ServiceState:
        """How it is now."""
        raise NotImplementedError

    def log(self, since_unix_s: float) -> list[str]:
        """The last lines that it wrote."""
        raise NotImplementedError

    def spawn_watchdog(self, words: list[str], token: str) -> None:
        """Start the agent with ``words``, so that it outlives this session."""
        raise NotImplementedError

    @property
    def cache(self) -> Path:
        """Where the runner keeps what it found out about this machine."""
        return self.store.state / "cache"

    def pause(self) -> bool:
        """Stop serving until `resume`, or until this process ends; gives whether it did."""
        raise NotImplementedError

    def resume(self) -> None:
        """Serve again."""
        raise NotImplementedError

    def spawn_job(self, words: list[str], name: str, deadline_s: float, pauses: bool) -> None:
        """Start the agent with ``words``; if it pauses the service, that serves again after it."""
        raise NotImplementedError

    def _is_down(self) -> bool:
        """Whether the service ends, soon."""
        until = time.monotonic() + STOP_S
        while self.state().pid is not None:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    def status(self) -> dict[str, Any] | None:
        """The runner's own document; None where it does not answer."""
        return ask(configured_status(self.store) or self.folder)

    def serving(self) -> str | None:
        """The release from which the running process was started."""
        pid = self.state().pid
        return environment(pid).get("EDGEVID_RELEASE") if pid else None


def usual_of_user() -> Path:
    """The usual folder of a user without root's rights."""
    return Path(os.environ.get("HOME") or "/nonexistent") / ".local" / "share" / "edgevid"


def paused(store: Store) -> disk.FileLock:
    """Held by who has paused the service."""
    return disk.FileLock(store.state / "pause.lock")


def agent_args(store: Store, release: str | None, *words: str) -> list[str]:
    """The command that runs a release's agent; None: that of whichever serves."""
    folder = store.root / "current" if release is None else store.release(release)
    return [sys.executable, "-I", str(folder / "agent.py"), *words, "--root", str(store.root)]
