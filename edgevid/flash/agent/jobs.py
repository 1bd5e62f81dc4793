"""Jobs: a command of the runner that goes on by itself on the device, whoever may be watching.

    <root>/jobs/lock               held by the keeper of the one job that runs
    <root>/jobs/<id>/job.json      what was asked
                     agent.py      this program, as whoever asked had it
                     files/        what it reads: hard links to blobs
                     out/          where it runs and writes, as the service's own user
                     stdout, stderr
                     exit.json     how it ended; there last of all, and durable

The keeper is a process of its own. It ends the job at its deadline, and whatever becomes of the
keeper itself, the job ends with it, and a service that it paused serves again: systemd sees to that
after the keeper's unit, elsewhere the supervisor, which serves as soon as the lock is free.
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import disk, manifest, probe, service
from .job_protocol import DOCUMENT, FILES, TRIAL
from .package_check import group_numbers
from .store import Store
from .supervisor import give, lowering
from .transport import Refused

START_S = 30.0
STOP_S = 10.0
PART = 1 << 20
BUSY = ("another bench runs on this device", "wait for its end, or end it with --end-other")
MARK = "EDGEVID_JOB"
"""In the environment of everything that a job starts."""
_ID = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")
_TUNED = re.compile(r"[0-9a-f]{32}")


# -------------------------------------------------------------------- what a client asks for


def start(store: Store, request: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Begin a job, unless the very same one is there already; the lock of ``store`` is ours."""
    name = _id(request)
    if _state(store, name)["state"] in ("running", "ended"):
        return {"already": True}
    one = _release(store, request)
    if is_busy(store):
        raise Refused("occupied", *BUSY)
    for old in store.jobs.glob("*/"):
        disk.remove(old)
    pauses = _paused_by(store, request)
    _write(store, name, one, request, pauses)
    store.collect()  # what it reads is linked, and needed nowhere else
    say("starting")
    words = [sys.executable, "-I", str(store.jobs / name / "agent.py"), "job"]
    words += ["--root", str(store.root), "--release", one.id, "--token", name]
    service.of(pauses or store).spawn_job(words, name, _deadline_s(request), pauses is not None)
    until = time.monotonic() + START_S
    while _state(store, name)["state"] == "lost":
        if time.monotonic() > until:
            raise Refused("service", "the job did not start", "look at the device's log")
        time.sleep(0.05)
    return {"already": False}


def _id(request: dict[str, Any]) -> str:
    name = request.get("id")
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise Refused("protocol", f"{name!r} is no job", "use the same edgevid")
    return name


def _release(store: Store, request: dict[str, Any]) -> manifest.Manifest:
    """Whose runner it runs in; raises `Refused` where that is not whole."""
    name = manifest.asked(request, "release") or ""
    one = store.manifest(name) if manifest.is_id(name) else None
    if one is None or not store.is_whole(one):
        raise Refused("use", f"the release {name} is not on this device", "flash it again")
    return one


def _write(
    store: Store,
    name: str,
    one: manifest.Manifest,
    request: dict[str, Any],
    pauses: Store | None,
) -> None:
    folder = store.jobs / name
    files, words = request.get("files"), request.get("words")
    if not isinstance(files, dict) or not isinstance(words, list):
        raise Refused("protocol", "a job needs words and files", "use the same edgevid")
    (folder / FILES).mkdir(parents=True)
    (folder / "out").mkdir()
    for file, sha256 in files.items():
        if not _NAME.fullmatch(file) or not store.verified(manifest.sha256(sha256)):
            raise Refused("missing", f"{file} is not there", "send it")
        where = folder if file == "agent.py" else folder / FILES
        disk.hard_link(store.blobs / sha256, where / file)
    job = {
        "words": [str(word) for word in words],
        "runner": one.runner,
        "deadline_s": _deadline_s(request),
        "pause": str(pauses.root) if pauses else None,
        "throw_away": bool(request.get("throw_away")),
        "began_unix_s": time.time(),
    }
    disk.write_whole(folder / "job.json", json.dumps(job).encode())


def _deadline_s(request: dict[str, Any]) -> float:
    return min(max(float(request.get("deadline_s") or 3600.0), 1.0), 7 * 86400.0)


def _paused_by(store: Store, request: dict[str, Any]) -> Store | None:
    """The folder whose service is to be paused, where one is to be and one serves."""
    root = manifest.asked(request, "pause")
    if root is None:
        return None
    other = store if root == str(store.root) else Store(Path(root))
    serves = other.current() is not None and service.of(other).state().phase != "absent"
    return other if serves else None


def _locks(store: Store) -> list[disk.FileLock]:
    """Of all jobs of this device: of its own folder, and of the one beside it for trials."""
    path = str(store.root)
    own = path[: -len(TRIAL)] if path.endswith(TRIAL) else path
    folders = [Path(root) / "jobs" for root in (own, own + TRIAL)]
    return [disk.FileLock(folder / "lock") for folder in folders if folder.is_dir()]


def is_busy(store: Store) -> bool:
    """Whether a job runs on this device."""
    return not all(lock.is_free() for lock in _locks(store))


def runs(store: Store) -> bool:
    """Whether a job runs in this very folder."""
    return bool(_holder(store)[1])


def state(store: Store, request: dict[str, Any]) -> dict[str, Any]:
    """How a job is, and what it said on stderr from ``said`` on.

    ``state``: absent, running, ended, or lost where its keeper was killed or the power was cut.
    ``busy``: whether it is another one that runs on this device.
    """
    name, said = _id(request), manifest.size(request.get("said", 0))
    found = _state(store, name)
    found["busy"] = found["state"] != "running" and is_busy(store)
    if found["state"] != "absent":
        content = _part(store.jobs / name / "stderr", said)
        found.update(stderr=content.decode(errors="replace"), said=said + len(content))
    return found


def _state(store: Store, name: str) -> dict[str, Any]:
    folder = store.jobs / name
    if not (folder / "job.json").is_file():
        return {"state": "absent"}
    running = _holder(store)[1] == name
    try:
        ended = json.loads((folder / "exit.json").read_text())
    except (OSError, ValueError):
        return {"state": "running" if running else "lost"}
    return dict(ended, state="ended")


def _holder(store: Store) -> tuple[int, str]:
    """The process that keeps the running job, and the job's name."""
    lock = disk.FileLock(store.jobs / "lock")
    if not store.jobs.is_dir() or lock.is_free():
        return 0, ""
    pid, _, name = lock.path.read_text().partition(" ")
    return (int(pid), name) if pid.isdigit() else (0, "")


def read(store: Store, request: dict[str, Any]) -> dict[str, Any]:
    """Give a part of what a job left: ``stdout``, ``stderr``, or its ``document.json``."""
    name, offset = _id(request), manifest.size(request.get("offset", 0))
    file = {"stdout": "stdout", "stderr": "stderr", "document": f"out/{DOCUMENT}"}.get(
        str(request.get("file"))
    )
    if file is None:
        raise Refused("protocol", "there is no such file of a job", "use the same edgevid")
    return {"content": base64.b64encode(_part(store.jobs / name / file, offset)).decode()}


def _part(path: Path, offset: int) -> bytes:
    """At most `PART` bytes; the job's own user may have put anything in their place."""
    try:
        descriptor = os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(offset)
        return file.read(PART)


def end(store: Store, request: dict[str, Any]) -> dict[str, Any]:
    """End a job (none named: whichever runs, here or beside), and forget it."""
    name = _id(request) if request.get("id") is not None else None
    places = [store] if name else [Store(lock.path.parent.parent) for lock in _locks(store)]
    ended = [_end(one, name) for one in places]
    return {"ended": any(ended)}


def end_all(store: Store) -> None:
    """End whatever runs here."""
    _end(store, None)


def _end(store: Store, name: str | None) -> bool:
    until, found = time.monotonic() + STOP_S, False
    while True:
        pid, running = _holder(store)
        if not pid or name not in (None, running):
            break
        found = True
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM if time.monotonic() < until else signal.SIGKILL)
        time.sleep(0.05)
    if found:
        service.end_marked(MARK, str(store.root))
    for folder in store.jobs.glob(f"{name or '*'}/"):
        found = True
        disk.remove(folder)
    return found


def keep_tuned(store: Store, request: dict[str, Any]) -> dict[str, Any]:
    """Put a choice where the service looks for it; ``content`` None: forget it."""
    name, content = manifest.asked(request, "name") or "", request.get("content")
    if not _TUNED.fullmatch(name):
        raise Refused("protocol", f"{name!r} is no name of a choice", "use the same edgevid")
    if store.current() is None:
        return {"kept": False}
    cache = service.of(store).cache
    path = cache / "edgevid" / "tuned" / f"{name}.json"
    if content is None:
        disk.remove(path)
        return {"kept": False}
    path.parent.mkdir(parents=True, exist_ok=True)
    disk.write_whole(path, json.dumps(content, indent=2, sort_keys=True).encode() + b"\n")
    if os.geteuid() == 0:  # systemd gives the folder to whom the service runs as
        owner = cache.stat()
        give(cache / "edgevid", owner.st_uid, owner.st_gid)
    return {"kept": True}


# -------------------------------------------------------------------- the keeper of one job


class JobRunner:
    """Runs one job to its end."""

    def __init__(self, store: Store, release: str, name: str) -> None:
        self.store, self.name = store, name
        self.folder = store.jobs / name
        self.job = json.loads((self.folder / "job.json").read_text())
        self._release = store.manifest(release)
        self._asked_to_end = False

    def run(self) -> int:
        """Take the locks, pause what is to be paused, run the job, say how it ended."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        # The own lock last: it says that the job runs.
        own = disk.FileLock(self.store.jobs / "lock")
        locks = [lock for lock in _locks(self.store) if lock.path != own.path]
        for lock in [*locks, own]:
            if not lock.take():
                return self._end(None, "another job was quicker")
            lock.write(f"{os.getpid()} {self.name}" if lock is own else str(os.getpid()))
        pause = self.job["pause"]
        if pause is None:
            return self._run()
        keeper = service.of(Store(Path(pause)))
        try:
            if not keeper.pause():
                return self._end(None, "the service could not be paused; flash it again")
            return self._run()
        finally:
            keeper.resume()

    def _stop(self, *_: Any) -> None:
        self._asked_to_end = True

    def _run(self) -> int:
        began = time.monotonic()
        deadline = began + self.job["deadline_s"]
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("wb") as err:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "edgevid", *self.job["words"]],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self._environment(),
                cwd=str(self.folder / "out"),
                preexec_fn=self._ready(),
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
        service.end_marked(MARK, str(self.store.root), now=True)
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
            "XDG_CONFIG_HOME": str(self.folder / "config"),  # nobody's own targets
            "HOME": str(self.folder / "out"),
            MARK: str(self.store.root),
        }

    def _ready(self) -> Callable[[], None]:
        """What the child does first: give up root's rights, and be killed when the keeper is."""
        account = self._account()
        if account is not None:
            (self.store.state / "cache").mkdir(exist_ok=True)
            for folder in (self.store.state / "cache", self.folder / "out"):
                give(folder, *account)
        groups = self._release.groups if self._release else ()
        lower = lowering(account, group_numbers(groups)) if account else None
        die = _with_parent(os.getpid())

        def ready() -> None:
            if lower is not None:
                lower()
            die()  # last: to change the user takes it away again

        return ready

    def _account(self) -> tuple[int, int] | None:
        """The user and group of the service; None where there is nobody to become."""
        if os.geteuid() or self._release is None:
            return None
        with suppress(KeyError):
            found = pwd.getpwnam(self._release.user)
            return found.pw_uid, found.pw_gid
        if probe.systemd() != "system":
            return None  # there the service runs as root too
        open_to_all = (folder.stat().st_mode & 1 for folder in [self.folder, *self.folder.parents])
        with suppress(KeyError):
            found = pwd.getpwnam("nobody")
            return (found.pw_uid, found.pw_gid) if all(open_to_all) else None
        return None

    def _end(self, code: int | None, why: str, seconds: float = 0.0) -> int:
        document = self.folder / "out" / DOCUMENT
        whole = code is not None and document.is_file() and not document.is_symlink()
        if whole:
            disk.sync_file(document)
            disk.sync_folder(document.parent)
        for name in ("stdout", "stderr"):
            if (self.folder / name).exists():
                disk.sync_file(self.folder / name)
        told = {
            "exit_code": code if code is None or code >= 0 else 128 - code,
            "why": why,
            "seconds": round(seconds, 3),
            "document": {"sha256": disk.sha256_of(document), "size": document.stat().st_size}
            if whole
            else None,
        }
        disk.write_whole(self.folder / "exit.json", json.dumps(told).encode())
        if self.job["throw_away"]:
            self._throw_away()
        return 0

    def _throw_away(self) -> None:
        """Leave only what the job gave, also where nobody ever comes for it."""
        if self.store.lock.take():
            for folder in (self.store.releases, self.store.runners, self.store.blobs):
                disk.remove(folder)
            disk.remove(self.folder / FILES)
            self.store.lock.let_go()


def _with_parent(parent: int) -> Callable[[], None]:
    """What lets the kernel kill this process when its parent ends, however that ends."""
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
