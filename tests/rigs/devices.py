"""Devices of their own: Debians with sshd behind a link of their own, and the person who has them.

Each device has its own network namespace, joined to this machine by one veth pair and by nothing
else: there is no default route, so it is also a device without internet. Nothing of this project
and of the tests' Python is in it. Devices and links end with the process that made them.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from edgevid.isolation.process import die_with_parent
from rigs.need import need_program, need_root
from rigs.systemd import CACHE, SYSTEMD, Machine, machine

PACKAGES = ("openssh-server", "strace", "sudo")
USER = "pi"
BOOT_S = 30.0
# Keeps sshd running and buries what lost its parent, as any init does.
PLAIN = """
import os, subprocess
os.makedirs("/run/sshd", exist_ok=True)
while True:
    sshd = subprocess.Popen(["/usr/sbin/sshd", "-D"])
    while os.waitpid(-1, 0)[0] != sshd.pid:
        pass
"""
_numbers = count()


def _do(*words: object) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{shlex.join(map(str, words))}: {done.stdout}{done.stderr}"
    return done.stdout


class Link:
    """A network namespace at the far end of a veth pair; ``far`` is its address."""

    def __init__(self, holder: int) -> None:
        number = os.getpid() * 8 + next(_numbers)
        self.file = Path(f"/proc/{holder}/ns/net")
        self.name = f"ev{number % 10**8}"
        self.near, self.far = self._addresses(number)
        peer = f"{self.name}p"
        _do("ip", "link", "add", self.name, "type", "veth", "peer", "name", peer, "netns", holder)
        _do("ip", "addr", "add", f"{self.near}/30", "dev", self.name)
        _do("ip", "link", "set", self.name, "up")
        inside = ("nsenter", f"--net={self.file}", "ip")
        _do(*inside, "link", "set", "lo", "up")
        _do(*inside, "addr", "add", f"{self.far}/30", "dev", peer)
        _do(*inside, "link", "set", peer, "up")

    @staticmethod
    def _addresses(number: int) -> tuple[str, str]:
        taken = _do("ip", "-4", "-o", "addr")
        while True:
            place = number % (1 << 14)
            start = f"10.213.{place >> 6}.{(place & 63) * 4}"
            base = start.rpartition(".")
            near, far = (f"{base[0]}.{int(base[2]) + n}" for n in (1, 2))
            if f" {near}/" not in taken:
                return near, far
            number += 1

    def limit(self, mbit: float) -> None:
        """Let no more than so much through, to the device."""
        shape = ("rate", f"{mbit}mbit", "burst", "32kb", "latency", "300ms")
        _do("tc", "qdisc", "replace", "dev", self.name, "root", "tbf", *shape)

    def free(self) -> None:
        """Take the limit away."""
        _do("tc", "qdisc", "del", "dev", self.name, "root")

    def cut(self) -> None:
        """Delete it, for good."""
        _do("ip", "link", "delete", self.name)


@contextmanager
def link() -> Iterator[Link]:
    """Make a link; it goes with this process."""
    need_root()
    for program in ("ip", "tc"):
        need_program(program, "iproute2")
    command = ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=die_with_parent) as holder:
        try:
            assert holder.stdout is not None
            holder.stdout.readline()
            made = Link(holder.pid)
            yield made
        finally:
            holder.kill()
    subprocess.run(["ip", "link", "delete", made.name], capture_output=True)  # or it is cut


@dataclass
class Person:
    """Somebody with keys, known hosts, an OpenSSH configuration and edgevid's own folders.

    OpenSSH looks for a configuration in the home that the system's list of users names, whatever
    HOME says; so this one's ``ssh`` is a line that runs the real one with ``-F``.
    """

    folder: Path
    key: Path | None = None
    """The key that opens devices; None: one of their own."""
    environment: dict[str, str] = field(default_factory=dict)
    python: str = sys.executable
    """The Python whose edgevid this person calls."""

    def __post_init__(self) -> None:
        for program in ("ssh", "ssh-keygen", "scp"):
            need_program(program, "openssh-client")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = self.folder / "config"
        self.known = self.folder / "known_hosts"
        if self.key is None:
            self.key = self.folder / "id"
            _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "person", "-f", self.key)
        self.config.write_text("")
        tools = self.folder / "bin"
        tools.mkdir()
        for name in ("ssh", "scp"):
            real = shutil.which(name)
            (tools / name).write_text(f'#!/bin/sh\nexec {real} -F {self.config} "$@"\n')
            (tools / name).chmod(0o755)
        self.environment = {
            **os.environ,
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder / ".config"),
            "XDG_STATE_HOME": str(self.folder / ".state"),
            "XDG_CACHE_HOME": str(CACHE / "person"),  # wheels for devices are kept
            "PATH": f"{tools}:{os.environ['PATH']}",
            **self.environment,
        }
        for name in ("SSH_AUTH_SOCK", "SSH_CONNECTION"):
            self.environment.pop(name, None)

    def knows(self, device: Device, host_key: str | None = None) -> None:
        """Put a device into the OpenSSH configuration, and its host key among the known ones."""
        with self.config.open("a") as config:
            config.write(
                f"Host {device.name}\n  HostName {device.host}\n  Port {device.port}\n"
                f"  User {device.user}\n  IdentityFile {self.key}\n  IdentitiesOnly yes\n"
                f"  UserKnownHostsFile {self.known}\n  GlobalKnownHostsFile /dev/null\n"
            )
        place = device.host if device.port == 22 else f"[{device.host}]:{device.port}"
        kept = self.known.read_text() if self.known.exists() else ""
        self.known.write_text(f"{kept}{place} {host_key or device.host_key}\n")

    def inventory(self, *devices: Device, tags: Mapping[str, list[str]] | None = None) -> None:
        """Write the devices down, by the name that the OpenSSH configuration has for them."""
        file = self.folder / ".config" / "edgevid" / "devices.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        text = ""
        for device in devices:
            text += f'[[device]]\nname = "{device.name}"\nhost = "{device.name}"\n'
            text += 'target = "linux-x86-64"\n'
            text += f"tags = {(tags or {}).get(device.name, ['all'])!r}\n\n"
        file.write_text(text.replace("'", '"'))

    def edgevid(self, *words: object, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Call the command line as this person."""
        with self.start(*words) as process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Start the command line as this person."""
        return subprocess.Popen(
            [self.python, "-m", "edgevid", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            preexec_fn=die_with_parent,
        )

    def ssh(self, device: Device, *words: str) -> subprocess.CompletedProcess[str]:
        """Call OpenSSH as this person."""
        command = ["ssh", "-F", str(self.config), "-o", "BatchMode=yes", device.name, *words]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )


@dataclass
class Device:
    """One device that is up; ``machine`` is its inside, without SSH."""

    name: str
    link: Link
    machine: Machine
    host_key: str
    port: int = 22
    user: str = USER

    @property
    def host(self) -> str:
        return self.link.far

    @property
    def root(self) -> Path:
        """Its files, seen from out here."""
        return self.machine.root


@contextmanager
def device(person: Person, name: str = "door", *, systemd: bool = True) -> Iterator[Device]:
    """Start a device that knows the person's key, and the other way round; ready for SSH.

    Its user ``pi`` may use sudo without a password, as on a Raspberry Pi. Without ``systemd`` it
    runs an sshd under a few lines of init, and nothing else.
    """
    init = SYSTEMD if systemd else f"/usr/bin/python3 -I -c {shlex.quote(PLAIN)}"
    with link() as joined, machine(PACKAGES, network=joined.file, bare=True, init=init) as inside:
        yield _ready(person, Device(name, joined, inside, _settle(person, name, inside)))


def _settle(person: Person, name: str, inside: Machine) -> str:
    """Give it a name, a host key of its own, and a user; give the public host key."""
    inside.run("hostname", name)
    inside.run("useradd", "--create-home", "--shell", "/bin/bash", USER)
    inside.write(f"/home/{USER}/.ssh/authorized_keys", person.key.with_suffix(".pub").read_bytes())
    inside.run("chown", "--recursive", f"{USER}:{USER}", f"/home/{USER}/.ssh")
    inside.write(f"/etc/sudoers.d/{USER}", f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    return new_host_key(inside)


def new_host_key(inside: Machine) -> str:
    """Give the device another host key, as a fresh installation would; give the public one."""
    inside.run("sh", "-c", "rm -f /etc/ssh/ssh_host_*")
    file = "/etc/ssh/ssh_host_ed25519_key"
    inside.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file)
    inside.run("pkill", "-HUP", "-o", "-x", "sshd", check=False)  # not there yet is as well
    return inside.run("cat", f"{file}.pub").stdout.strip()


def _ready(person: Person, made: Device) -> Device:
    person.knows(made)
    deadline = time.monotonic() + BOOT_S
    while (done := person.ssh(made, "true")).returncode:
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.1)
    return made
