"""What keeps the runner running: systemd's unit for all, a user's unit, or our own supervisor."""

from __future__ import annotations

import glob
import grp
import hashlib
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from . import disk, probe
from .manifest import Manifest
from .store import Store
from .transport import Refused

NOTHING_TO_SERVE = 78
STOP_S = 25.0
TAIL = 20
LINGERING = "lingering"
"""In the state folder: that it was us who asked for it."""
UDEV = Path("/etc/udev/rules.d")

_OURS = "# Written by edgevid flash; edgevid flash --uninstall removes it.\n"
_UNIT = (
    _OURS
    + """\
[Unit]
Description=edgevid: answers from live cameras
After=network.target
StartLimitIntervalSec=0
ConditionPathExists={root}/current/agent.py

[ServiceControl]
Type=notify
# After a power cut in the middle of an activation: back to what was judged.
ExecStartPre={plus}{python} -I {root}/current/agent.py recover --root {root}
ExecStart={python} -I {root}/current/agent.py serve --root {root}
ExecReload=/bin/kill -HUP $MAINPID
TimeoutStartSec=5min
WatchdogSec=10
Restart=on-failure
RestartSec=1
RestartPreventExitStatus={nothing}
KillMode=mixed
TimeoutStopSec=15
RuntimeDirectory={name}
RuntimeDirectoryPreserve=restart
"""
)

_HARDENED = """\
DynamicUser=yes
UserService={user}
StateDirectory={name}
WorkingDirectory=%S/{name}
CacheDirectory={name}
Environment=XDG_CACHE_HOME=%C/{name}
{groups}DevicePolicy=closed
{devices}ProtectSystem=strict
ProtectHome={home}
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
CapabilityBoundingSet=
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
"""

_CLASSES = {
    "/dev/video": "char-video4linux",
    "/dev/media": "char-media",
    "/dev/dri/": "char-drm",
    "/dev/accel/": "char-accel",
    "/dev/apex_": "char-apex",
    "/dev/bus/usb/": "char-usb_device",
}


class ServiceState(NamedTuple):
    """How the service is; ``phase``: running, absent (not started), or ended (by itself)."""

    kind: str
    phase: str
    pid: int | None
    restarts: int
    exit_code: int | None
    boot: bool
    """Whether it starts again with the device."""


def linger(store: Store) -> None:
    """Let the user's services run while nobody is logged in, where that may be had.

    Otherwise its systemd ends with the last login, and the supervisor of our own is better.
    """
    if os.geteuid() and probe.user_manager() and not probe.lingers():
        _run("loginctl", "enable-linger")
        if probe.lingers():
            (store.state / LINGERING).write_text("")


def of(store: Store) -> ServiceControl:
    """The service of this folder, of the best kind that this device and user have."""
    kinds = {"system": SystemService, "user": UserService, "none": SupervisedService}
    return kinds[probe.systemd()](store)


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


def agent_words(store: Store, release: str | None, *words: str) -> list[str]:
    """The command that runs a release's agent; None: that of whichever serves."""
    folder = store.root / "current" if release is None else store.release(release)
    return [sys.executable, "-I", str(folder / "agent.py"), *words, "--root", str(store.root)]


# -------------------------------------------------------------------- systemd


class SystemService(ServiceControl):
    """A unit of the system's systemd, run by root."""

    kind = "system"
    scope: tuple[str, ...] = ()
    wanted_by = "multi-user.target"
    units = Path("/etc/systemd/system")

    @property
    def unit(self) -> str:
        """The unit's name."""
        return f"{self.name}.service"

    @property
    def folder(self) -> Path:
        """Below /run."""
        return Path("/run") / self.name

    def fits(self, one: Manifest) -> None:
        """A service without a home of its own cannot read everywhere; a unit may be another's."""
        self._is_ours()
        for hidden in ("/tmp", "/var/tmp", "/root", "/run", "/dev", "/proc", "/sys"):
            if Path(hidden) in (self.store.root, *self.store.root.parents):
                raise Refused(
                    "root",
                    f"the service cannot read what lies in {hidden}",
                    "give another --root, such as /opt/edgevid",
                )

    def _is_ours(self) -> None:
        path = self.units / self.unit
        if path.exists() and not path.read_text(errors="replace").startswith(_OURS):
            raise Refused(
                "service",
                f"{path} was not written by edgevid flash",
                f"take it away: systemctl disable --now {self.unit}; rm {path}",
            )

    def text(self, one: Manifest) -> str:
        """The unit."""
        head = _UNIT.format(
            root=self.store.root,
            plus="+",
            python=sys.executable,
            nothing=NOTHING_TO_SERVE,
            name=self.name,
        )
        known = {group.gr_name for group in grp.getgrall()}
        groups = " ".join(group for group in one.groups if group in known)
        body = _HARDENED.format(
            user=one.user,
            name=self.name,
            groups=f"SupplementaryGroups={groups}\n" if groups else "",
            devices="".join(f"DeviceAllow={node} rw\n" for node in _allowed(one.devices)),
            home="read-only" if str(self.store.root).startswith("/home/") else "yes",
        )
        return f"{head}{body}\n[Install]\nWantedBy={self.wanted_by}\n"

    @property
    def _wanted(self) -> Path:
        return self.units / f"{self.wanted_by}.wants" / self.unit

    def is_installed(self, one: Manifest) -> bool:
        """Whether the very same unit is there, and wanted at boot."""
        try:
            same = (self.units / self.unit).read_text() == self.text(one)
        except OSError:
            return False
        return same and self._wanted.is_symlink()

    def install(self, one: Manifest) -> list[str]:
        """Write the unit, durably, and let it start with the device."""
        notes = self._udev(one)
        if self.is_installed(one):
            return notes
        SupervisedService(self.store).remove()
        for folder in (self.units, self._wanted.parent):
            folder.mkdir(parents=True, exist_ok=True)
        disk.write_whole(self.units / self.unit, self.text(one).encode())
        disk.link_whole(self._wanted, str(self.units / self.unit))
        self._control("daemon-reload")
        return notes

    def _udev(self, one: Manifest) -> list[str]:
        path = UDEV / f"70-{self.name}.rules"
        text = "".join(f"{rule}\n" for rule in one.udev)
        if not text or not UDEV.is_dir():
            if path.exists():
                disk.remove(path)
            return []
        if not path.exists() or path.read_text() != text:
            disk.write_whole(path, text.encode())
            _run("udevadm", "control", "--reload")
            found = set(re.findall(r'SUBSYSTEM=="(\w+)"', text))
            matches = [f"--subsystem-match={one}" for one in sorted(found)]
            _run("udevadm", "trigger", "--action=add", *matches)
        return []

    def restart(self) -> None:
        """Stop, then start without waiting."""
        self._control("stop", self.unit)
        self._control("reset-failed", self.unit)
        self._control("start", "--no-block", self.unit)

    def remove(self, *, inside: bool = False) -> list[str]:
        """Stop it, remove the unit and what systemd kept for it."""
        path = self.units / self.unit
        gone: list[str] = []
        with suppress(Refused):
            self._is_ours()
            gone += self._forget(path, inside)
        rules = UDEV / f"70-{self.name}.rules"
        if self.kind == "system" and rules.exists():
            rules.unlink()
            gone.append(str(rules))
            _run("udevadm", "control", "--reload")
        return gone + (SupervisedService(self.store).remove() if not inside else [])

    def _forget(self, path: Path, inside: bool) -> list[str]:
        gone: list[str] = []
        if path.exists() or self._wanted.is_symlink():
            if inside:
                self._control("stop", "--no-block", self.unit)
            else:
                self._control("stop", self.unit)
            for one in (self._wanted, path):
                if one.is_symlink() or one.exists():
                    one.unlink()
                    disk.sync_folder(one.parent)
                    gone.append(str(one))
            self._control("daemon-reload")
            self._control("reset-failed", self.unit)
            if not inside:
                gone += self._clean()
        return gone

    def _clean(self) -> list[str]:
        """Remove the service's own folders, as ``systemctl clean`` would, which needs a bus."""
        gone = []
        for base in ("/var/lib", "/var/cache", "/run"):
            for path in (Path(base, self.name), Path(base, "private", self.name)):
                if path.is_symlink() or path.exists():
                    disk.remove(path)
                    gone.append(str(path))
        return gone

    def state(self) -> ServiceState:
        """Asked from systemd."""
        names = "MainPID,NRestarts,ActiveState,SubState,ExecMainStatus,ExecMainCode,UnitFileState"
        said = self._control("show", "-p", names, self.unit)
        found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        pid = int(found.get("MainPID") or 0) or None
        active, sub = found.get("ActiveState", "inactive"), found.get("SubState", "")
        phase = "absent" if active == "inactive" else "running"
        if active == "failed" or sub == "auto-restart":
            phase = "ended"
        code = int(found.get("ExecMainStatus") or 0) if phase == "ended" else None
        if code and found.get("ExecMainCode") in ("2", "3"):
            code += 128  # as a shell tells a signal
        restarts = int(found.get("NRestarts") or 0)
        return ServiceState(self.kind, phase, pid, restarts, code, self._wanted.is_symlink())

    def log(self, since_unix_s: float) -> list[str]:
        """From the journal."""
        since = f"@{since_unix_s:.0f}"
        words = ["journalctl", *self.scope, "-u", self.unit, "-o", "cat", "--no-pager"]
        return _run(*words, "-n", str(TAIL), "--since", since).splitlines()[-TAIL:]

    @property
    def cache(self) -> Path:
        """Below /var; private, since the service's user is made up at each start."""
        private = Path("/var/cache/private", self.name)
        return private if private.is_dir() else Path("/var/cache", self.name)

    def pause(self) -> bool:
        """Stop the unit."""
        if not self._pause.take():
            return False
        self._control("stop", self.unit)
        return self._is_down()

    def resume(self) -> None:
        """Start the unit, without waiting."""
        self._pause.let_go()
        self._control("start", "--no-block", self.unit)

    def spawn_watchdog(self, words: list[str], token: str) -> None:
        """As a transient unit, which is started again if it is killed, and then rolls back."""
        self._spawn(f"watchdog-{token}", ["Restart=on-failure", "RestartSec=1"], words)

    def spawn_job(self, words: list[str], name: str, deadline_s: float, pauses: bool) -> None:
        """As a transient unit, after which systemd itself starts what it paused."""
        settings = [f"RuntimeMaxSec={deadline_s + STOP_S:.0f}"]
        if pauses:
            start = [probe.program("systemctl"), *self.scope, "start", "--no-block", self.unit]
            settings.append(f"ExecStopPost={' '.join(start)}")
        self._spawn(f"job-{name}", settings, words)

    def _spawn(self, name: str, settings: list[str], words: list[str]) -> None:
        unit = f"{self.name}-{name}"
        run = ["systemd-run", *self.scope, "--quiet", "--collect", f"--unit={unit}"]
        for setting in settings:
            run += ["-p", setting]
        done = subprocess.run(
            [*run, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=probe.with_bus(),
        )
        if done.returncode:
            said = done.stdout.decode(errors="replace").strip().splitlines()[-1:]
            raise Refused(
                "service", f"systemd-run says no: {' '.join(said)}", "look at: systemctl status"
            )

    def _control(self, *words: str) -> str:
        return _run("systemctl", *self.scope, *words)


class UserService(SystemService):
    """A unit of the user's own systemd."""

    kind = "user"
    scope = ("--user",)
    wanted_by = "default.target"

    @property
    def units(self) -> Path:  # type: ignore[override]
        """Where the user's own units lie."""
        base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        return Path(base) / "systemd" / "user"

    @property
    def cache(self) -> Path:
        """In the state folder."""
        return self.store.state / "cache"

    @property
    def folder(self) -> Path:
        """Below the user's runtime folder."""
        base = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
        return Path(base) / self.name

    def fits(self, one: Manifest) -> None:
        """It reads what its user reads; but a unit may be another's."""
        self._is_ours()

    def text(self, one: Manifest) -> str:
        """The unit; what only root can deny a service is not in it."""
        head = _UNIT.format(
            root=self.store.root,
            plus="",
            python=sys.executable,
            nothing=NOTHING_TO_SERVE,
            name=self.name,
        )
        cache = f"Environment=XDG_CACHE_HOME={self.store.state}/cache\nNoNewPrivileges=yes\n"
        return f"{head}{cache}\n[Install]\nWantedBy={self.wanted_by}\n"

    def _udev(self, one: Manifest) -> list[str]:
        return []

    def _clean(self) -> list[str]:
        if (self.store.state / LINGERING).exists():
            _run("loginctl", "disable-linger")
        return []


def _allowed(devices: tuple[str, ...]) -> list[str]:
    """Each device as ``DeviceAllow=`` takes it: patterns of nodes become their class."""
    found: list[str] = []
    for one in devices:
        kinds = [kind for start, kind in _CLASSES.items() if one.startswith(start)]
        if not any(sign in one for sign in "*?["):
            found.append(one)
        else:
            found += kinds or sorted(glob.glob(one))
    return list(dict.fromkeys(found))


# -------------------------------------------------------------------- without systemd


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
        words = " ".join(agent_words(self.store, None, "supervise"))
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
        detach(agent_words(self.store, None, "supervise"))

    def stop(self) -> None:
        """End the supervisor, and what it left."""
        lock, until = self.lock, time.monotonic() + STOP_S
        while not lock.is_free():
            number = signal.SIGTERM if time.monotonic() < until else signal.SIGKILL
            _kill(_holder(lock), number)
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
        self._pause.let_go()

    def spawn_watchdog(self, words: list[str], token: str) -> None:
        """As a process of its own, below one that starts it again if it is killed."""
        detach([sys.executable, "-I", "-c", _AGAIN, *words])

    def spawn_job(self, words: list[str], name: str, deadline_s: float, pauses: bool) -> None:
        """As a process of its own."""
        detach(words)


# Killed by a signal, a watchdog begins again, and goes back.
_AGAIN = "import subprocess,sys\nwhile subprocess.call(sys.argv[1:])<0:pass"


def detach(words: list[str]) -> None:
    """Start a process that has nothing to do with this one any more."""
    between = "import subprocess,sys;subprocess.Popen(sys.argv[1:],start_new_session=True)"
    subprocess.run(
        [sys.executable, "-I", "-c", between, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )


def _holder(lock: disk.FileLock) -> int:
    try:
        return int(lock.path.read_text().strip() or 0)
    except (OSError, ValueError):
        return 0


def _kill(pid: int, number: int) -> None:
    if pid > 1:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def end_stragglers(root: Path) -> None:
    """End every process that serves from this folder; their supervisor was killed."""
    end_marked("EDGEVID_ROOT", str(root))


def end_marked(mark: str, value: str, *, now: bool = False) -> None:
    """End every process with ``mark`` in its environment; ``now``: without asking first."""
    until = time.monotonic() + (0.0 if now else 5.0)
    while True:
        pids = [pid for pid in _processes() if environment(pid).get(mark) == value]
        if not pids:
            return
        for pid in pids:
            _kill(pid, signal.SIGTERM if time.monotonic() < until else signal.SIGKILL)
        time.sleep(0.05)


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def environment(pid: int) -> dict[str, str]:
    """The environment with which a process was started; empty where it is not ours to see."""
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in content.split("\0") if "=" in line)


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


def _run(*words: str) -> str:
    """What a program writes; nothing where it fails or is not there."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=probe.with_bus(),
        )
    except OSError:
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


# -------------------------------------------------------------------- the runner's own word


def configured_status(store: Store) -> Path | None:
    """The status folder that the configuration names, at its top; None where it names none."""
    current = store.root / "current"
    try:
        lines = (current / "site.toml").read_text(errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        key, sign, value = line.partition("=")
        if line.lstrip().startswith("["):
            return None
        if sign and key.strip() == "status" and value.strip()[:1] in "\"'":
            return current.resolve() / value.strip()[1:].partition(value.strip()[0])[0]
    return None


def ask(folder: Path, timeout_s: float = 2.0) -> dict[str, Any] | None:
    """The document of the runner whose status folder this is, by its socket, else by its file."""
    import socket

    parts = []
    try:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(timeout_s)
            channel.connect(str(folder / "status.sock"))
            for part in iter(lambda: channel.recv(1 << 16), b""):
                parts.append(part)
        content = b"".join(parts)
    except OSError:
        try:
            content = (folder / "status.json").read_bytes()
        except OSError:
            return None
    try:
        document = json.loads(content.decode())
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
