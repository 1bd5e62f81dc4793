"""An ARM machine on a PC: a Debian root whose programs run through qemu, by the kernel's binfmt.

The root is unpacked once and kept; configuring it under emulation would take minutes, so what the
packages' scripts would have done is done here. A machine has its own processes and mounts and this
machine's network; what it writes is kept in memory. It ends with the process that started it.
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgevid.isolation.process import die_with_parent
from rigs.need import missing, need_program, need_root

CACHE = Path(os.environ.get("EDGEVID_RIGS", "/var/tmp/edgevid-rigs"))
SUITE = "bookworm"
# Extracting brings nothing by itself, not even what every Debian has.
BASE = (
    *("base-files", "base-passwd", "bash", "coreutils", "dash", "debianutils", "findutils"),
    *(
        "grep",
        "gzip",
        "hostname",
        "libc-bin",
        "libstdc++6",
        "login",
        "ncurses-base",
        "passwd",
        "procps",
        "sed",
    ),
    *("tar", "util-linux", "openssh-client", "openssh-server", "python3"),
)
DISTRIBUTION = ("python3-av", "python3-click", "python3-numpy")
"""What has no wheels for 32 bits."""
QEMU = {"arm64": "qemu-aarch64", "armhf": "qemu-arm"}
BINFMT = Path("/proc/sys/fs/binfmt_misc")
MIRRORS = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
# PID 1: it waits for whoever is left to it, since a dead process that nobody waits for looks alive.
REAPER = """
import os, sys, time
sys.stdout.write("up\\n"); sys.stdout.flush()
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.2)
"""
SSHD = """
Port {port}
ListenAddress {address}
HostKey /etc/ssh/rig_host_key
PasswordAuthentication no
StrictModes no
UseDNS no
UsePAM no
"""
CLIENT = """
Host *
  Port {port}
  IdentityFile {folder}/user_key
  IdentityAgent none
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile none
"""
START = """
set -e
mount -t tmpfs none "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay none -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount -t proc none "$2/root/proc"
mount --rbind /dev "$2/root/dev"
mount -t tmpfs none "$2/root/run"
mount -t tmpfs none "$2/root/tmp"
chmod 1777 "$2/root/tmp"
exec "$3" -I -c "$4"
"""


class ArmMachine:
    """An emulated machine that is up."""

    def __init__(self, pid: int, folder: Path, network: Path | None) -> None:
        self.pid = pid
        """PID 1's number out here."""
        self.root = Path(f"/proc/{pid}/root{folder}/root")
        """Its files, seen from out here."""
        net = [f"--net={network}"] if network else []
        enter = ["nsenter", f"--target={pid}", "--mount", "--pid", *net, "chroot", f"{folder}/root"]
        self._enter = [*enter, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        self._enter += ["HOME=/root", "LANG=C.UTF-8"]

    def command(self, *words: object) -> list[str]:
        """The command out here that runs a command inside, as its root."""
        return [*self._enter, *map(str, words)]

    def run(
        self, *words: object, check: bool = True, timeout_s: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as its root."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=timeout_s
        )
        if check and done.returncode:
            raise AssertionError(f"{shlex.join(map(str, words))}: {done.stdout}{done.stderr}")
        return done

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file inside, its folders too."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        place.chmod(mode)

    @contextmanager
    def sshd(self, public_key: str, address: str = "127.0.0.1") -> Iterator[int]:
        """Let ``root`` log in with a key; yields the port."""
        port = _free_port(address)
        self.run("mkdir", "-p", "-m", "755", "/root/.ssh", "/run/sshd")
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/rig_host_key")
        self.write("/root/.ssh/authorized_keys", public_key, 0o600)
        self.write("/etc/ssh/sshd_config", SSHD.format(port=port, address=address))
        server = subprocess.Popen(
            self.command("/usr/sbin/sshd", "-D", "-e"),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        try:
            if not _has_banner(address, port, server):
                server.kill()
                raise AssertionError(f"sshd did not answer: {server.communicate()[1]}")
            yield port
        finally:
            self.run("pkill", "-x", "sshd", check=False)
            server.wait()


def ssh_environment(folder: Path, port: int) -> dict[str, str]:
    """Give an environment in which ``ssh`` has the key ``user_key`` of a folder, and no other."""
    (folder / "config").write_text(CLIENT.format(folder=folder, port=port))
    (folder / "bin").mkdir(exist_ok=True)
    script = folder / "bin/ssh"
    script.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}/bin{os.pathsep}{os.environ['PATH']}"}


@contextmanager
def arm_machine(
    architecture: str, include: Iterable[str] = (), network: Path | None = None
) -> Iterator[ArmMachine]:
    """Start a machine of Debian's ``architecture``, ``arm64`` or ``armhf``, with more packages.

    ``network`` is the file of a namespace made with ``ip netns``; else it shares this machine's.
    """
    need_root()
    for program, package in (("unshare", "util-linux"), ("nsenter", "util-linux")):
        need_program(program, package)
    need_emulation(architecture)
    made = root_files(architecture, include)
    work = CACHE / "work"
    work.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
            *("sh", "-c", START, "start", str(made), str(work), sys.executable, REAPER),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "up\n":
            raise AssertionError(f"the machine did not start: {process.communicate()[1]}")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        yield ArmMachine(int(children.split()[0]), work, network)
    finally:
        process.kill()  # and with it, by --kill-child, its PID 1 and all others
        process.communicate()


def need_emulation(architecture: str) -> None:
    """Let the kernel run programs of an architecture through qemu."""
    name = QEMU[architecture]
    if (BINFMT / name).exists():
        return
    need_program(f"{name}-static", "qemu-user-static")
    with suppress(OSError, subprocess.CalledProcessError):
        if not (BINFMT / "register").exists():
            mount = ["mount", "-t", "binfmt_misc", "none", str(BINFMT)]
            subprocess.run(mount, check=True, capture_output=True)
        if not (BINFMT / name).exists():
            line = Path(f"/usr/lib/binfmt.d/{name}.conf").read_text().strip()
            (BINFMT / "register").write_text(line)
    if not (BINFMT / name).exists():
        missing(f"{name} in the kernel's binfmt_misc", "run on a machine whose kernel has it")


def root_files(architecture: str, include: Iterable[str] = ()) -> Path:
    """Give the folder of a Debian with ssh, Python and ``include``; made once, then kept."""
    tool = need_program("mmdebstrap", "mmdebstrap")
    packages = ",".join([*BASE, *include])
    how = inspect.getsource(_make) + inspect.getsource(_configure)
    key = hashlib.sha256(f"{SUITE} {packages} {how}".encode()).hexdigest()
    CACHE.mkdir(parents=True, exist_ok=True)
    made = CACHE / f"{SUITE}-{architecture}-{key[:12]}"
    with (CACHE / f"{made.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _make(tool, architecture, packages, made)
    return made


def _make(tool: str, architecture: str, packages: str, made: Path) -> None:
    part = made.with_name(f"{made.name}.part")
    subprocess.run(["rm", "-rf", "--one-file-system", part], check=True)
    left_out = [
        f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")
    ]
    command = [tool, "--quiet", "--variant=extract", f"--architectures={architecture}"]
    # Without the security updates, whose lists for rarer architectures are at times not in step.
    command += [f"--include={packages}", *left_out, SUITE, str(part), _mirror()]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        missing(f"a Debian for {architecture} with {packages}", f"mmdebstrap said: {last[0]}")
    _configure(part)
    part.rename(made)


def _mirror() -> str:
    """Where this machine itself gets Debian's packages from."""
    for file in MIRRORS:
        text = file.read_text() if file.exists() else ""
        if found := re.search(
            r"^(?:URIs:|deb(?: \[.*?\])?)\s+(\S+/debian/?)\s", text, re.MULTILINE
        ):
            return f"deb {found[1]} {SUITE} main"
    return f"deb http://deb.debian.org/debian {SUITE} main"


def _configure(root: Path) -> None:
    """Do what the packages' own scripts would have done, as far as it is needed."""
    etc, share = root / "etc", root / "usr/share"
    sshd = "sshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n"
    (etc / "passwd").write_text((share / "base-passwd/passwd.master").read_text() + sshd)
    (etc / "group").write_text((share / "base-passwd/group.master").read_text())
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
    (etc / "hosts").write_text("127.0.0.1 localhost\n")
    (etc / "machine-id").write_text("0" * 31 + "1\n")
    for name in ("dev", "proc", "root", "run", "sys", "tmp"):
        (root / name).mkdir(exist_ok=True)
    # BLAS and LAPACK are alternatives in folders of their own.
    folders = sorted({file.parent for file in root.glob("usr/lib/*/*/lib*.so.[0-9]")})
    listed = [f"/{folder.relative_to(root)}\n" for folder in folders]
    (etc / "ld.so.conf.d").mkdir(exist_ok=True)
    (etc / "ld.so.conf.d/zz-rig.conf").write_text("".join(listed))
    (etc / "ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n")
    done = subprocess.run(["chroot", root, "ldconfig"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _has_banner(address: str, port: int, server: subprocess.Popen[str]) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError), socket.create_connection((address, port), 5) as talk:
            if talk.recv(4) == b"SSH-":
                return True
        time.sleep(0.1)
    return False
