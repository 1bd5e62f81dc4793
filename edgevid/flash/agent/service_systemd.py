"""A service under systemd: the system's, run by root, or the user's own."""

from __future__ import annotations

import glob
import grp
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from . import credentials, disk, probe
from .manifest import Manifest
from .processes import output_of
from .service import NOTHING_TO_SERVE, STOP_S, TAIL, ServiceControl, ServiceState
from .service_supervised import SupervisedService
from .store import Store
from .transport import Refused

UDEV = Path("/etc/udev/rules.d")
LINGERING = "lingering"
"""File in the state folder: edgevid enabled lingering for this user."""

_OURS = "# Written by edgevid flash; edgevid flash --uninstall removes it.\n"
_UNIT = (
    _OURS
    + """\
[Unit]
Description=edgevid: video models on live cameras
After=network.target
StartLimitIntervalSec=0
ConditionPathExists={root}/current/agent.py

[Service]
Type=notify
# After a power cut during an activation: restore the release before; it may write edgevid's folder.
ExecStartPre=+{python} -I {root}/current/agent.py recover --root {root}
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
User={user}
StateDirectory={name}
WorkingDirectory=%S/{name}
CacheDirectory={name}
Environment=XDG_CACHE_HOME=%C/{name}
{credentials}{groups}DevicePolicy=closed
{devices}ProtectHome={home}
"""

# Not MemoryDenyWriteExecute: OpenVINO and drivers of GPUs compile kernels at run time. Not
# ProcSubset=pid: it hides /proc/cpuinfo. Not ~@resources: runtimes pin their threads.
_FOR_ALL = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
# For the sandbox of the processes that prove a model.
SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp
# No access to the memory of other processes.
SystemCallFilter=~@privileged process_vm_readv process_vm_writev
SystemCallErrorNumber=EPERM
"""

# Settings that need a mount namespace; a user's systemd needs a user namespace for it.
_WITH_NAMESPACES = """\
CapabilityBoundingSet=
KeyringMode=private
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
"""

# The home is empty but for edgevid's folder, and so is the folder of the user's sockets, through
# which the user's systemd could be told to start something else.
_USER_NAMESPACES = """\
PrivateUsers=yes
ProtectHome=tmpfs
BindReadOnlyPaths={visible}
BindReadOnlyPaths=-{runtime}/systemd/notify
BindPaths={state} {runtime}/{name}
"""

_CLASSES = {
    "/dev/video": "char-video4linux",
    "/dev/media": "char-media",
    "/dev/dri/": "char-drm",
    "/dev/accel/": "char-accel",
    "/dev/apex_": "char-apex",
    "/dev/bus/usb/": "char-usb_device",
}


def linger(store: Store) -> None:
    """Let this user's services run while the user is not logged in, if that is allowed.

    Otherwise the user's systemd ends with the last login, and edgevid's own supervisor is used.
    """
    if os.geteuid() and probe.user_manager() and not probe.lingers():
        output_of("loginctl", "enable-linger")
        if probe.lingers():
            (store.state / LINGERING).write_text("")


class SystemService(ServiceControl):
    """A unit of the system's systemd."""

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
        """The unit's runtime directory."""
        return Path("/run") / self.name

    def fits(self, manifest: Manifest) -> None:
        """Check that the hardened unit can read the folder and that the unit is edgevid's.

        Args:
            manifest: The release.

        Raises:
            Refused: The unit cannot read the folder, or it belongs to something else.
        """
        self._is_ours()
        for hidden in ("/tmp", "/var/tmp", "/root", "/run", "/dev", "/proc", "/sys"):
            if Path(hidden) in (self.store.root, *self.store.root.parents):
                raise Refused(
                    "root",
                    f"the service cannot read files in {hidden}",
                    "give another --root, such as /opt/edgevid",
                )

    def _is_ours(self) -> None:
        path = self.units / self.unit
        if path.exists() and not path.read_text(errors="replace").startswith(_OURS):
            raise Refused(
                "service",
                f"{path} was not written by edgevid flash",
                f"remove it: systemctl disable --now {self.unit}; rm {path}",
            )

    def text(self, manifest: Manifest) -> str:
        """The unit file."""
        head = _UNIT.format(
            root=self.store.root,
            python=sys.executable,
            nothing=NOTHING_TO_SERVE,
            name=self.name,
        )
        known = {group.gr_name for group in grp.getgrall()}
        groups = " ".join(group for group in manifest.groups if group in known)
        body = _HARDENED.format(
            user="edgevid" if manifest.user == "root" else manifest.user,
            name=self.name,
            credentials=credentials.unit_lines(self.store, manifest),
            groups=f"SupplementaryGroups={groups}\n" if groups else "",
            devices="".join(f"DeviceAllow={node} rw\n" for node in _allowed(manifest.devices)),
            home=f"tmpfs\nBindReadOnlyPaths={self.store.root}"
            if str(self.store.root).startswith("/home/")
            else "yes",
        )
        return f"{head}{body}{_WITH_NAMESPACES}{_FOR_ALL}\n[Install]\nWantedBy={self.wanted_by}\n"

    @property
    def _wanted(self) -> Path:
        return self.units / f"{self.wanted_by}.wants" / self.unit

    def is_installed(self, manifest: Manifest) -> bool:
        """Whether this very unit is installed and enabled."""
        try:
            same = (self.units / self.unit).read_text() == self.text(manifest)
        except OSError:
            return False
        return same and self._wanted.is_symlink()

    def install(self, manifest: Manifest) -> list[str]:
        """Write and enable the unit, durably."""
        notes = self._udev(manifest)
        if self.is_installed(manifest):
            return notes
        SupervisedService(self.store).remove()
        for folder in (self.units, self._wanted.parent):
            folder.mkdir(parents=True, exist_ok=True)
        disk.write_whole(self.units / self.unit, self.text(manifest).encode())
        disk.link_whole(self._wanted, str(self.units / self.unit))
        self._control("daemon-reload")
        return notes

    def _udev(self, manifest: Manifest) -> list[str]:
        path = UDEV / f"70-{self.name}.rules"
        text = "".join(f"{rule}\n" for rule in manifest.udev)
        if not text or not UDEV.is_dir():
            if path.exists():
                disk.remove(path)
            return []
        if not path.exists() or path.read_text() != text:
            disk.write_whole(path, text.encode())
            output_of("udevadm", "control", "--reload")
            found = set(re.findall(r'SUBSYSTEM=="(\w+)"', text))
            matches = [f"--subsystem-match={one}" for one in sorted(found)]
            output_of("udevadm", "trigger", "--action=add", *matches)
        return []

    def restart(self) -> None:
        """Stop, then start without waiting."""
        self._control("stop", self.unit)
        self._control("reset-failed", self.unit)
        self._control("start", "--no-block", self.unit)

    def remove(self, *, inside: bool = False) -> list[str]:
        """Stop it, and remove the unit and its folders."""
        path = self.units / self.unit
        gone: list[str] = []
        with suppress(Refused):
            self._is_ours()
            gone += self._forget(path, inside)
        rules = UDEV / f"70-{self.name}.rules"
        if self.kind == "system" and rules.exists():
            rules.unlink()
            gone.append(str(rules))
            output_of("udevadm", "control", "--reload")
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
        """As systemd reports it."""
        names = "MainPID,NRestarts,ActiveState,SubState,ExecMainStatus,ExecMainCode,UnitFileState"
        shown = self._control("show", "-p", names, self.unit)
        found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        pid = int(found.get("MainPID") or 0) or None
        active, sub = found.get("ActiveState", "inactive"), found.get("SubState", "")
        phase = "absent" if active == "inactive" else "running"
        if active == "failed" or sub == "auto-restart":
            phase = "ended"
        code = int(found.get("ExecMainStatus") or 0) if phase == "ended" else None
        if code and found.get("ExecMainCode") in ("2", "3"):
            code += 128  # as a shell reports a signal
        restarts = int(found.get("NRestarts") or 0)
        return ServiceState(self.kind, phase, pid, restarts, code, self._wanted.is_symlink())

    def log(self, since_unix_s: float) -> list[str]:
        """From systemd's journal."""
        since = f"@{since_unix_s:.0f}"
        command = ["journalctl", *self.scope, "-u", self.unit, "-o", "cat", "--no-pager"]
        return output_of(*command, "-n", str(TAIL), "--since", since).splitlines()[-TAIL:]

    def pause(self) -> bool:
        """Stop the unit."""
        if not self._pause.take():
            return False
        self._control("stop", self.unit)
        return self._is_down()

    def resume(self) -> None:
        """Start the unit, without waiting."""
        self._pause.release()
        self._control("start", "--no-block", self.unit)

    def spawn_watchdog(self, args: list[str], token: str) -> None:
        """As a transient unit, which is restarted if it is killed, and then rolls back."""
        self._spawn(f"watchdog-{token}", ["Restart=on-failure", "RestartSec=1"], args)

    def spawn_job(self, args: list[str], name: str, deadline_s: float, pauses: bool) -> None:
        """As a transient unit, after which systemd starts the paused service."""
        settings = [f"RuntimeMaxSec={deadline_s + STOP_S:.0f}"]
        if pauses:
            start = [probe.program("systemctl"), *self.scope, "start", "--no-block", self.unit]
            settings.append(f"ExecStopPost={' '.join(start)}")
        self._spawn(f"job-{name}", settings, args)

    def _spawn(self, name: str, settings: list[str], args: list[str]) -> None:
        unit = f"{self.name}-{name}"
        run = ["systemd-run", *self.scope, "--quiet", "--collect", f"--unit={unit}"]
        for setting in settings:
            run += ["-p", setting]
        done = subprocess.run(
            [*run, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=probe.with_bus(),
        )
        if done.returncode:
            last = done.stdout.decode(errors="replace").strip().splitlines()[-1:]
            raise Refused(
                "service", f"systemd-run failed: {' '.join(last)}", "look at: systemctl status"
            )

    def _control(self, *args: str) -> str:
        return output_of("systemctl", *self.scope, *args)


class UserService(SystemService):
    """A unit of the user's own systemd."""

    kind = "user"
    _namespaces: bool | None = None
    scope = ("--user",)
    wanted_by = "default.target"

    @property
    def units(self) -> Path:  # type: ignore[override]
        """The folder of the user's own units."""
        base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        return Path(base) / "systemd" / "user"

    @property
    def folder(self) -> Path:
        """The unit's folder below the user's runtime directory."""
        base = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
        return Path(base) / self.name

    def fits(self, manifest: Manifest) -> None:
        """The unit must be edgevid's."""
        self._is_ours()

    def text(self, manifest: Manifest) -> str:
        """The unit file, as restricted as this user's systemd allows."""
        head = _UNIT.format(
            root=self.store.root,
            python=sys.executable,
            nothing=NOTHING_TO_SERVE,
            name=self.name,
        )
        body = f"Environment=XDG_CACHE_HOME={self.store.state}/cache\n{_FOR_ALL}"
        if self._has_namespaces():
            body += _WITH_NAMESPACES + _USER_NAMESPACES.format(
                visible=" ".join([str(self.store.root), *self._python()]),
                runtime=self.folder.parent,
                state=self.store.state,
                name=self.name,
            )
            home = os.path.expanduser("~")
            if not home.startswith(("/home/", "/root")):
                body += f"TemporaryFileSystem={home}\n"
        return f"{head}{body}\n[Install]\nWantedBy={self.wanted_by}\n"

    @staticmethod
    def _python() -> list[str]:
        """Folders of this Python, if it is in the user's home."""
        home = os.path.expanduser("~")
        folders = (sys.prefix, sys.base_prefix, os.path.dirname(sys.executable))
        return sorted({one for one in folders if one.startswith(f"{home}/")})

    def _has_namespaces(self) -> bool:
        """Whether the user's systemd can use user namespaces, which some systems forbid."""
        if self._namespaces is None:
            test = ["systemd-run", *self.scope, "--quiet", "--wait", "--pipe", "--collect"]
            for setting in ("PrivateUsers=yes", "PrivateTmp=yes", "ProtectHome=tmpfs"):
                test += ["-p", setting]
            self._namespaces = output_of(*test, "echo", "yes").strip() == "yes"
        return self._namespaces

    def install(self, manifest: Manifest) -> list[str]:
        """Write and enable the unit; a note says if it cannot be confined."""
        notes = super().install(manifest)
        if not self._has_namespaces():
            notes.append(
                "the service can read this user's files: the system allows no user namespaces; "
                "install as root to confine it"
            )
        return notes

    def _udev(self, manifest: Manifest) -> list[str]:
        return []

    def _clean(self) -> list[str]:
        if (self.store.state / LINGERING).exists():
            output_of("loginctl", "disable-linger")
        return []


def _allowed(devices: tuple[str, ...]) -> list[str]:
    """The devices for ``DeviceAllow=``: patterns of nodes become their class."""
    found: list[str] = []
    for one in devices:
        kinds = [kind for start, kind in _CLASSES.items() if one.startswith(start)]
        if not any(sign in one for sign in "*?["):
            found.append(one)
        else:
            found += kinds or sorted(glob.glob(one))
    return list(dict.fromkeys(found))
