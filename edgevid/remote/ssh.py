"""One machine, reached through the user's own OpenSSH client.

The user's configuration, agent, jump hosts and known_hosts apply. edgevid never asks for a
password, accepts a changed host key, or forwards the user's agent to a device.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from shlex import quote
from typing import IO

from edgevid.errors import BadInput, DeviceFailed, shorten
from edgevid.text import printable

_TAIL_BYTES = 16 << 10
_CHUNK = 1 << 18
_LEFT_BYTES = 1 << 20
_ENDING_S = 5.0
LEAST_BYTES_S = 1000.0
"""The lowest rate, in bytes per second, at which a device may take data, except under the user's
own limit."""
_FAILED = 255  # the exit code of ssh itself; any other one is the command's

_ADDRESS = re.compile(
    r"(?:(?P<user>[^@\s]+)@)?(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:\[\]@]+))(?::(?P<port>\d+))?"
)


@dataclass(frozen=True)
class Address:
    """The address of a device; None leaves a value to the user's OpenSSH configuration.

    Attributes:
        host: An address, a host name, or a ``Host`` of the configuration.
        user: The user to log in as.
        port: The port of the SSH server.
        key: The private key to log in with.
    """

    host: str
    user: str | None = None
    port: int | None = None
    key: Path | None = None

    @classmethod
    def parse(cls, text: str, key: Path | None = None) -> Address:
        """Read ``user@host:port``; user and port may be left out, an IPv6 address is in brackets.

        Raises:
            BadInput: The text is not an address.
        """
        found = _ADDRESS.fullmatch(text)
        host = (found["v6"] or found["host"]) if found else ""
        port = int(found["port"]) if found and found["port"] else None
        starts = (host, (found["user"] or "") if found else "")
        if not host or any(text.startswith("-") for text in starts) or not _is_port(port):
            raise BadInput(f"{text!r} is not an address; write {_written(text)}")
        return cls(host, found["user"] if found else None, port, key)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"{user}{host}{f':{self.port}' if self.port else ''}"


def _written(text: str) -> str:
    """How an address is written, with the brackets of an IPv6 address if the text is one."""
    user, at, host = text.rpartition("@")
    try:
        IPv6Address(host.strip("[]"))
    except ValueError:
        return "user@host or user@host:port"
    return f"the IPv6 address in brackets: {user}{at}[{host.strip('[]')}]"


def _is_port(port: int | None) -> bool:
    return port is None or 0 < port < 1 << 16


@dataclass
class Remote:
    """One device; every `open` is one connection (or one channel of the user's own master).

    Attributes:
        address: Where it is.
        trust_new: Accept and record an unknown host key; a changed one is always rejected.
        timeout_s: How long a connection may take.
        options: More options for ssh.
    """

    address: Address
    trust_new: bool = False
    timeout_s: float = 15.0
    options: Sequence[str] = ()
    _sessions: list[SshSession] = field(default_factory=list, repr=False)

    def command(self, command: str) -> list[str]:
        """Return the command line that runs ``command`` there.

        Raises:
            BadInput: ssh is not installed, or the private key does not exist.
        """
        ssh = shutil.which("ssh")
        if ssh is None:
            raise BadInput("ssh is not installed; run: apt-get install openssh-client")
        address = self.address
        if address.key is not None and not address.key.is_file():
            raise BadInput(f"{address.key}: no such key; give a private key of ssh-keygen")
        settings = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "accept-new" if self.trust_new else "yes",
            "ConnectTimeout": str(max(1, round(self.timeout_s))),
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "LogLevel": "ERROR",  # errors are read from its messages
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no",
            "RemoteCommand": "none",
        }
        args = [ssh, "-T", *self.options]
        args += [arg for name, value in settings.items() for arg in ("-o", f"{name}={value}")]
        args += ["-l", address.user] if address.user else []
        args += ["-p", str(address.port)] if address.port else []
        args += ["-i", str(address.key), "-o", "IdentitiesOnly=yes"] if address.key else []
        return [*args, "--", address.host, command]

    def open(self, command: str) -> SshSession:
        """Start ``command`` there; errors are raised when something is sent or read."""
        session = SshSession(self.address, self.command(command))
        self._sessions.append(session)
        return session

    def close(self) -> None:
        """End all sessions."""
        while self._sessions:
            self._sessions.pop().close()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SshSession:
    """A command that runs there, with binary stdin and stdout; the end of its stderr is kept.

    Not for several threads. Methods raise `DeviceFailed` if the connection fails or the command
    ends.
    """

    def __init__(self, address: Address, args: list[str]) -> None:
        self.address, self._args = address, args
        self.sent_bytes = self.received_bytes = 0
        # ssh's own messages go to a file that the remote command cannot write. Where /proc allows,
        # it is unlinked at once, so a killed process leaves nothing behind.
        handle, name = tempfile.mkstemp(prefix="edgevid-ssh-")
        self._log, self._said = os.fdopen(handle, "rb"), ""
        self._name = Path(name)
        if (nameless := Path(f"/proc/{os.getpid()}/fd/{handle}")).exists():
            self._name.unlink()
            name = str(nameless)
        # A group of its own: Ctrl-C is for the client, which then ends the session in order.
        self._process = subprocess.Popen(
            [args[0], "-E", name, *args[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._in, self._out, self._err = map(_pipe, _pipes(self._process))
        os.set_blocking(self._in.fileno(), False)
        os.set_blocking(self._out.fileno(), False)
        self._arrived = bytearray()
        self._tail = bytearray()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def write(self, data: bytes, timeout_s: float) -> None:
        """Send all of ``data``.

        Raises:
            DeviceFailed: Nothing could be sent for ``timeout_s``, it takes longer than that at
                `LEAST_BYTES_S`, or the command has ended.
        """
        rest, until = memoryview(data), time.monotonic() + timeout_s + len(data) / LEAST_BYTES_S
        while rest:
            rest = rest[self.write_some(rest, timeout_s) :]
            if time.monotonic() > until:
                raise self._slow()

    def write_some(self, data: bytes | memoryview, timeout_s: float) -> int:
        """Send what the connection takes at once; returns the number of bytes, at least one.

        Raises:
            DeviceFailed: Nothing could be sent for ``timeout_s``, or the command has ended.
        """
        poll = select.poll()
        poll.register(self._in, select.POLLOUT)
        if not poll.poll(timeout_s * 1000):
            raise self._silent(timeout_s)
        try:
            count = os.write(self._in.fileno(), data[:_CHUNK])
        except BlockingIOError:
            return self.write_some(data, timeout_s)
        except BrokenPipeError:
            raise self.fault() from None
        self.sent_bytes += count
        return count

    def waiting(self) -> bool:
        """Whether unread data has arrived."""
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        return bool(self._arrived) or bool(poll.poll(0))

    def readline(
        self, timeout_s: float, limit: int = 16 << 20, until: float | None = None
    ) -> bytes:
        """Return the next line, with its line end.

        Args:
            timeout_s: The longest silence, in seconds.
            limit: The largest number of bytes.
            until: The deadline for the whole line, as a `time.monotonic` time; None: no deadline.

        Raises:
            DeviceFailed: Nothing arrived for ``timeout_s``, the line is too long or too late, or
                the command has ended.
        """
        searched = 0
        while (end := self._arrived.find(b"\n", searched)) < 0 and len(self._arrived) <= limit:
            searched = len(self._arrived)
            self._arrive(timeout_s, until)
        if end < 0 or end > limit:
            self.close(limit_s=0)
            raise DeviceFailed(
                f"{self.address}: its reply is too long; check what answers there",
                "protocol",
            )
        line = bytes(self._arrived[: end + 1])
        del self._arrived[: end + 1]
        return line

    def read(self, count: int, timeout_s: float) -> bytes:
        """Return the next ``count`` bytes.

        Raises:
            DeviceFailed: Nothing arrived for ``timeout_s``, or the command has ended.
        """
        while len(self._arrived) < count:
            self._arrive(timeout_s)
        data = bytes(self._arrived[:count])
        del self._arrived[:count]
        return data

    def _arrive(self, timeout_s: float, until: float | None = None) -> None:
        left_s = timeout_s if until is None else min(timeout_s, until - time.monotonic())
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        if not poll.poll(max(0.0, left_s) * 1000):
            raise self._silent(timeout_s) if left_s == timeout_s else self._slow()
        data = os.read(self._out.fileno(), _CHUNK)
        if not data:
            raise self.fault()
        self.received_bytes += len(data)
        self._arrived += data
        if until is not None and time.monotonic() > until:
            raise self._slow()

    def _silent(self, timeout_s: float) -> DeviceFailed:
        self.close(limit_s=0)
        return DeviceFailed(
            f"{self.address}: was silent for {timeout_s:.0f} s; check the device and its link",
            "lost",
        )

    def _slow(self) -> DeviceFailed:
        """The error for a device that keeps sending or taking data, but too slowly."""
        self.close(limit_s=0)
        return DeviceFailed(
            f"{self.address}: took too long to answer; check the device and its link, then try "
            "again",
            "slow",
        )

    def _listen(self) -> None:
        with suppress(OSError, ValueError):
            while data := os.read(self._err.fileno(), 4096):
                self._tail += data
                del self._tail[:-_TAIL_BYTES]

    def fault(self) -> DeviceFailed:
        """End the session, and give the reason why it ended."""
        code = self.close()
        return explain(self.address, code, self._said, self.stderr, self._configuration())

    def _configuration(self) -> dict[str, str]:
        """What the user's configuration makes of the address, by ``ssh -G``; empty if unknown."""
        if "host key" not in self._said.lower() and "HOST IDENTIFICATION" not in self._said:
            return {}
        with suppress(OSError, subprocess.SubprocessError):
            args = [self._args[0], "-G", *self._args[1:-1]]
            done = subprocess.run(args, capture_output=True, timeout=_ENDING_S)
            lines = done.stdout.decode(errors="replace").splitlines()
            return {key: value for key, _, value in (line.partition(" ") for line in lines)}
        return {}

    @property
    def stderr(self) -> str:
        """The end of the stderr of the command there."""
        return self._tail.decode(errors="replace")

    def close(self, limit_s: float = _ENDING_S) -> int:
        """Close the stdin, wait for ``limit_s``, then kill it; returns the exit code."""
        with suppress(OSError):
            self._in.close()
        deadline = time.monotonic() + limit_s
        with suppress(OSError, ValueError):
            while time.monotonic() < deadline and self._drained(deadline):
                pass
        try:
            code = self._process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._listener.join(1.0)  # ssh's master connection may hold stderr open
        with suppress(OSError):
            self._out.close()
        with suppress(OSError, ValueError):  # it is closed already
            self._log.seek(0)
            self._said = self._log.read()[-_TAIL_BYTES:].decode(errors="replace")
            self._log.close()
            self._name.unlink(missing_ok=True)
        return code

    def _drained(self, deadline: float) -> bool:
        """Read on, so that the command can end and `leftover` is complete; False at the end."""
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        left_ms = max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(left_ms):
            return False
        data = os.read(self._out.fileno(), _CHUNK)
        self._arrived += data
        del self._arrived[:-_LEFT_BYTES]
        return bool(data)

    def leftover(self) -> list[bytes]:
        """Return the unread lines, after `close`."""
        return bytes(self._arrived).splitlines()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes] | None, ...]:
    return process.stdin, process.stdout, process.stderr


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


# ---------------------------------------------------------------- errors in one line

_LOST = "the connection was lost; check the device and its link, then try again"
# OpenSSH's message (it has no translations), the kind, and what it means with the remedy.
_FAULTS = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed|REVOKED HOST KEY",
        "host-key-changed",
        "its host key is NOT the one in known_hosts: another machine answers there, or it was "
        "reinstalled; nothing was sent. If you know why it changed, remove the old key with: "
        "{remove}",
    ),
    (
        r"host key is known for|Host key verification failed",
        "host-key-unknown",
        "its host key is not known here; compare it with: ssh-keyscan {scan} | ssh-keygen -lf -, "
        "then add --trust-new",
    ),
    (
        r"UNPROTECTED PRIVATE KEY FILE|bad permissions",
        "denied",
        "ssh rejects a private key that others can read; run: chmod 600 KEY",
    ),
    (
        r"Too many authentication failures",
        "denied",
        "it rejected too many keys of your agent; name the right one as IdentityFile, with "
        "IdentitiesOnly yes, in ~/.ssh/config, or as key in the inventory",
    ),
    (
        r"Permission denied|No supported authentication methods",
        "denied",
        "permission denied: it accepts none of your keys; run: ssh-copy-id {login} "
        "(a key with a passphrase must be in your agent: ssh-add)",
    ),
    (
        r"Connection refused",
        "refused",
        "connection refused: no SSH server listens there; enable it, or give the right port",
    ),
    (
        r"Could not resolve hostname",
        "unreachable",
        "the host name is unknown; check it, or give an address",
    ),
    (
        r"timed out|No route to host|Network is unreachable|Host is down|Connection to .* timed",
        "unreachable",
        "unreachable; check that it is switched on and in this network",
    ),
    (
        r"Bad configuration option|Bad owner or permissions on|terminating, \d+ bad config",
        "configuration",
        "ssh rejects your configuration: {last}",
    ),
    (
        r"python3 is not installed|python3: (?:command )?not found|python3: No such file",
        "no-python",
        "it has no python3; run there: apt-get install python3",
    ),
    (
        r"Connection (?:to .* )?(?:closed|reset)|Broken pipe|not responding|kex_exchange",
        "lost",
        _LOST,
    ),
)


KINDS = frozenset({kind for _, kind, _ in _FAULTS} | {"ended", "slow", "unknown"})
"""Kinds of errors of the link, which only this host assigns; an agent's errors never have them."""


def _as_known(host: str, port: str) -> str:
    """The name of a host in known_hosts, for a shell."""
    return quote(host if port in ("", "22") else f"[{host}]:{port}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return shorten(printable((lines or [""])[-1]))


def explain(
    address: Address,
    code: int,
    said: str,
    stderr: str = "",
    configuration: Mapping[str, str] | None = None,
) -> DeviceFailed:
    """Turn the end of an ssh process into an error with what is wrong, where, and the remedy.

    A remedy contains only the address and the user's own configuration, never received text: both
    the remote command and the server before its host key is checked can send anything.

    Args:
        address: The address.
        code: The exit code of ssh.
        said: ssh's own messages.
        stderr: What the command there wrote to stderr.
        configuration: What ``ssh -G`` shows for the address.

    Returns:
        The error, to be raised.
    """
    config = configuration or {}
    host = config.get("hostname") or address.host
    number = config.get("port") or str(address.port or "")
    known = _as_known(config.get("hostkeyalias") or host, number)
    file = config.get("userknownhostsfile", "").partition(" ")[0]
    port = f"-p {address.port} " if address.port else ""
    user = f"{address.user}@" if address.user else ""
    last = _last_line(said) or _last_line(stderr) or f"exit code {code}"
    fills = {
        "remove": f"ssh-keygen {f'-f {quote(file)} ' if file else ''}-R {known}",
        "scan": f"{f'-p {number} ' if number not in ('', '22') else ''}{quote(host)}",
        "login": f"{port}{user}{address.host}",
        "last": last,
    }
    for pattern, kind, text in _FAULTS:
        own = said if kind != "no-python" else stderr
        if (code == _FAILED or kind == "no-python") and re.search(pattern, own):
            return DeviceFailed(f"{address}: {text.format(**fills)}", kind)
    if code == _FAILED and _last_line(said):
        return DeviceFailed(f"{address}: ssh failed: {last}; try: ssh {fills['login']}", "lost")
    if code == _FAILED:  # a server that goes is reported among the command's own messages
        return DeviceFailed(f"{address}: {_LOST}", "lost")
    last = _last_line(stderr) or "no reason was given"
    return DeviceFailed(
        f"{address}: the command there ended with exit code {code}: {last}; try again", "ended"
    )
