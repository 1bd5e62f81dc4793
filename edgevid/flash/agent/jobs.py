"""Requests about jobs: commands of the runner that run on the device with nobody connected.

<root>/jobs/lock               held by the process that runs the one job (see `job_runner`)
<root>/jobs/<id>/job.json      the request
                 agent.py      this program, in the version of the client
                 files/        what the job reads: hard links to blobs
                 out/          where it runs and writes, as the service's own user
                 stdout, stderr
                 exit.json     how it ended; written last, and durable
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import disk, fields, processes, services, untrusted
from .job_protocol import DOCUMENT, FILES, TRIAL
from .manifest import Manifest, is_id
from .store import Store
from .transport import SAME_EDGEVID, Refused

START_S = 30.0
STOP_S = 10.0
PART = 1 << 20
TUNED_BYTES = 16 << 10
BUSY = (
    "another benchmark is running on this device",
    "wait until it ends, or stop it with --end-other",
)
MARK = "EDGEVID_JOB"
"""In the environment of everything that a job starts."""
_ID = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")
_TUNED = re.compile(r"[0-9a-f]{32}")


def start(store: Store, request: dict[str, Any], report: Callable[[str], None]) -> dict[str, Any]:
    """Start a job, unless the same one exists already; the caller holds the lock of ``store``.

    Raises:
        Refused: another job runs, the release or a file is missing, or the job did not start.
    """
    name = _id(request)
    if _state(store, name)["state"] in ("running", "ended"):
        return {"already": True}
    manifest = _release(store, request)
    if is_busy(store):
        raise Refused("occupied", *BUSY)
    for old in store.jobs.glob("*/"):
        disk.remove(old)
    pauses = _paused_by(store, request)
    _write(store, name, manifest, request, pauses)
    store.collect()  # its files are linked, and needed nowhere else
    report("starting")
    args = [sys.executable, "-I", str(store.jobs / name / "agent.py"), "job"]
    args += ["--root", str(store.root), "--release", manifest.id, "--token", name]
    services.of(pauses or store).spawn_job(args, name, _deadline_s(request), pauses is not None)
    until = time.monotonic() + START_S
    while _state(store, name)["state"] == "lost":
        if time.monotonic() > until:
            raise Refused("service", "the job did not start", "check the device's log")
        time.sleep(0.05)
    return {"already": False}


def _id(request: dict[str, Any]) -> str:
    name = request.get("id")
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise Refused("protocol", f"{name!r} is not a job", SAME_EDGEVID)
    return name


def _release(store: Store, request: dict[str, Any]) -> Manifest:
    """The release whose runner runs the job; raises `Refused` if it is not whole."""
    name = fields.text(request, "release") or ""
    manifest = store.manifest(name) if is_id(name) else None
    if manifest is None or not store.is_whole(manifest):
        raise Refused("use", f"the release {name} is not on this device", "flash it again")
    return manifest


def _write(
    store: Store,
    name: str,
    manifest: Manifest,
    request: dict[str, Any],
    pauses: Store | None,
) -> None:
    folder = store.jobs / name
    files, args = request.get("files"), request.get("args")
    if not isinstance(files, dict) or not isinstance(args, list):
        raise Refused("protocol", "a job needs args and files", SAME_EDGEVID)
    (folder / FILES).mkdir(parents=True)
    for file, sha256 in files.items():
        if not _NAME.fullmatch(file) or not store.verified(fields.sha256(sha256)):
            raise Refused("missing", f"{file} is missing here", "send it")
        where = folder if file == "agent.py" else folder / FILES
        disk.hard_link(store.blobs / sha256, where / file)
    job = {
        "args": [str(arg) for arg in args],
        "runner": manifest.runner,
        "deadline_s": _deadline_s(request),
        "pause": str(pauses.root) if pauses else None,
        "throw_away": bool(request.get("throw_away")),
        "began_unix_s": time.time(),
    }
    disk.write_whole(folder / "job.json", json.dumps(job).encode())


def _deadline_s(request: dict[str, Any]) -> float:
    return min(max(float(request.get("deadline_s") or 3600.0), 1.0), 7 * 86400.0)


def _paused_by(store: Store, request: dict[str, Any]) -> Store | None:
    """The store whose service is to be paused; None: no service is to be paused, or none serves."""
    root = fields.text(request, "pause")
    if root is None:
        return None
    other = store if root == str(store.root) else Store(Path(root))
    other.guard()
    serves = other.current() is not None and services.of(other).state().phase != "absent"
    return other if serves else None


def locks(store: Store) -> list[disk.FileLock]:
    """The locks of all jobs of this device: in its own folder, and in that of temporary runners."""
    path = str(store.root)
    own = path[: -len(TRIAL)] if path.endswith(TRIAL) else path
    folders = [Path(root) / "jobs" for root in (own, own + TRIAL)]
    return [disk.FileLock(folder / "lock") for folder in folders if folder.is_dir()]


def is_busy(store: Store) -> bool:
    """Whether a job runs on this device."""
    return not all(lock.is_free() for lock in locks(store))


def runs(store: Store) -> bool:
    """Whether a job runs in this folder."""
    return bool(_holder(store)[1])


def state(store: Store, request: dict[str, Any]) -> dict[str, Any]:
    """The state of a job, and its stderr from the offset ``said`` on.

    ``state``: absent, running, ended, or lost (its runner was killed, or the power was cut).
    ``busy``: whether another job runs on this device.
    """
    name, said = _id(request), fields.size(request.get("said", 0))
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
    """The process that runs the job, and the job's name."""
    lock = disk.FileLock(store.jobs / "lock")
    if not store.jobs.is_dir() or lock.is_free():
        return 0, ""
    pid, _, name = lock.path.read_text().partition(" ")
    return (int(pid), name) if pid.isdigit() else (0, "")


def read(store: Store, request: dict[str, Any]) -> dict[str, Any]:
    """Read a part of a job's ``stdout``, ``stderr`` or ``document.json``.

    Args:
        store: The folder of edgevid.
        request: The job's id, the file and the offset.

    Returns:
        The reply with the content.

    Raises:
        Refused: There is no such file.
    """
    name, offset = _id(request), fields.size(request.get("offset", 0))
    folder = store.jobs / name
    file = str(request.get("file"))
    if file not in ("stdout", "stderr", "document"):
        raise Refused("protocol", "a job has no such file", SAME_EDGEVID)
    path = folder / "out" / DOCUMENT if file == "document" else folder / file
    return {"content": base64.b64encode(_part(path, offset)).decode()}


def _part(path: Path, offset: int) -> bytes:
    """At most `PART` bytes; the job's own user may have replaced the file by anything."""
    descriptor = untrusted.open_file(path.parent, path.name)
    if descriptor is None:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(offset)
        return file.read(PART)


def end(store: Store, request: dict[str, Any]) -> dict[str, Any]:
    """End a job and forget it; without a name, whichever runs, here or in a temporary runner."""
    name = _id(request) if request.get("id") is not None else None
    stores = [store] if name else [Store(lock.path.parent.parent) for lock in locks(store)]
    ended = [_end(one, name) for one in stores]
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
        processes.end_marked(MARK, str(store.root))
    for folder in store.jobs.glob(f"{name or '*'}/"):
        found = True
        disk.remove(folder)
    return found


def keep_tuned(store: Store, request: dict[str, Any]) -> dict[str, Any]:
    """Store a tuning where the service looks for it, or forget it.

    The service can read that folder but not write to it, so it cannot plant links there for root to
    follow.

    Args:
        store: The folder of edgevid.
        request: The tuning's name, and its content or None.

    Returns:
        The reply.

    Raises:
        Refused: The name is not that of a tuning, or its content is too long for one.
    """
    name, content = fields.text(request, "name") or "", request.get("content")
    if not _TUNED.fullmatch(name):
        raise Refused("protocol", f"{name!r} is not the name of a tuning", SAME_EDGEVID)
    if store.current() is None:
        return {"kept": False}
    path = store.tuned / f"{name}.json"
    if content is None:
        disk.remove(path)
        return {"kept": False}
    text = json.dumps(content, indent=2, sort_keys=True).encode() + b"\n"
    if len(text) > TUNED_BYTES:
        raise Refused("protocol", "the tuning is too long", SAME_EDGEVID)
    store.tuned.mkdir(mode=0o755, exist_ok=True)
    disk.write_whole(path, text)
    return {"kept": True}
