"""OpenSSH's own server on a loopback port, with keys of its own: this machine as a device.

The client meets it through a configuration file of its own, so that nothing of the user's is read
or written. Who logs in is the user who runs the tests.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edgevid.isolation.process import die_with_parent
from edgevid.remote import Address, Remote
from rigs.need import need_program

START_S = 20.0

SERVER = """\
Port {port}
ListenAddress {host}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
Subsystem sftp internal-sftp
"""

CLIENT = """\
Host device
  HostName {host}
  Port {port}
  User {user}
  IdentityFile {folder}/user_key
Host *
  IdentityAgent none
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile none
"""


class Sshd:
    """A server that is up, or was; `start` it again on the same port."""

    def __init__(
        self,
        folder: Path,
        host: str = "127.0.0.1",
        inside: Sequence[str] = (),
        path: str | None = None,
        forced: str | None = None,
    ) -> None:
        need_program("ssh", "openssh-client")
        self._program = sshd_program()
        self.folder, self.user, self.port = folder, getpass.getuser(), free_port()
        self.host, self._inside = host, tuple(inside)
        self.key = make_key(folder / "user_key")
        self.host_key = make_key(folder / "host_key")
        self.known_hosts = folder / "known_hosts"
        shutil.copy(self.key.with_suffix(".pub"), folder / "authorized_keys")
        self.know(self.port)
        self._write_config("client", CLIENT, self.port)
        # Not by SetEnv, which the user's own .bashrc may undo.
        more = f'ForceCommand PATH={path}; exec sh -c "$SSH_ORIGINAL_COMMAND"\n' if path else ""
        more = f"ForceCommand {forced}\n" if forced else more
        self._write_config("server", SERVER + more, self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def _write_config(self, name: str, text: str, port: int) -> Path:
        path = self.folder / name
        words = {"port": port, "folder": self.folder, "user": self.user, "host": self.host}
        path.write_text(text.format(**words))
        return path

    def know(self, port: int) -> None:
        """Put the host key into known_hosts, for a port through which the server is reached."""
        kind, key = self.host_key.with_suffix(".pub").read_text().split()[:2]
        with self.known_hosts.open("a") as file:
            file.write(f"[{self.host}]:{port} {kind} {key}\n")

    def start(self) -> None:
        """Start it; ready when it greets."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._inside, self._program, "-D", "-e", "-f", str(self.folder / "server")],
                stdin=subprocess.DEVNULL,
                stderr=log,
                preexec_fn=die_with_parent,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not greets(self.port, self.host):
            log_text = (self.folder / "log").read_text(errors="replace")
            assert self._process.poll() is None, log_text
            assert time.monotonic() < deadline, log_text
            time.sleep(0.02)

    def kill_connections(self) -> None:
        """Kill the server's processes of every connection, as when it crashes; it listens on."""
        assert self._process is not None
        for pid in reversed(_descendants(self._process.pid)):
            if "sshd" in _name(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Kill it all; ports are closed then."""
        if self._process is not None:
            self.kill_connections()
            self._process.kill()
            self._process.wait()
            self._process = None

    def new_host_key(self) -> None:
        """Be another machine than before."""
        running = self._process is not None
        self.stop()
        for path in (self.host_key, self.host_key.with_suffix(".pub")):
            path.unlink()
        make_key(self.host_key)
        if running:
            self.start()

    def remote(self, *, port: int | None = None, **options) -> Remote:
        """Give a client that reads the rig's configuration; ``port`` where a proxy is between."""
        return Remote(
            Address("device", port=port), options=("-F", str(self.folder / "client")), **options
        )

    def environment(self, port: int | None = None) -> dict[str, str]:
        """Give an environment in which ``ssh`` and ``scp`` read the rig's configuration."""
        folder = self.folder / f"bin-{port or self.port}"
        folder.mkdir(exist_ok=True)
        text = CLIENT + "  IdentityFile {folder}/user_key\n"  # by whatever name it is called
        config = self._write_config(f"client-{port or self.port}", text, port or self.port)
        for name in ("ssh", "scp"):
            script = folder / name
            script.write_text(f'#!/bin/sh\nexec {shutil.which(name)} -F {config} "$@"\n')
            script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@contextmanager
def sshd(
    folder: Path,
    host: str = "127.0.0.1",
    inside: Sequence[str] = (),
    path: str | None = None,
    forced: str | None = None,
) -> Iterator[Sshd]:
    """Start a server whose keys and configuration lie in ``folder``.

    It listens on ``host``; ``inside`` is a command that brings it there, such as ``nsenter``, and
    ``path`` the PATH of those who log in. With ``forced`` everybody gets that command.
    """
    server = Sshd(folder, host, inside, path, forced)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def sshd_program() -> str:
    """Give the server's full path, which it insists on; it is seldom in a user's PATH."""
    found = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")
    return found or need_program("sshd", "openssh-server")


def make_key(path: Path, passphrase: str = "") -> Path:
    """Make a key pair."""
    need_program("ssh-keygen", "openssh-client")
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", path.name, "-f", path]
    subprocess.run(command, check=True)
    return path


def free_port() -> int:
    """Give a port on which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def greets(port: int, host: str = "127.0.0.1") -> bool:
    """Whether an SSH server answers on this port."""
    try:
        with socket.create_connection((host, port), timeout=2) as one:
            return one.recv(4) == b"SSH-"
    except OSError:
        return False


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [one for child in map(int, children) for one in (child, *_descendants(child))]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""
