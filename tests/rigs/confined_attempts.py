"""What a stranger's model might try, for a child process: each attempt reports how far it came."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)


def _called(name: str, *args: Any) -> str:
    """Call a function of libc; raises the error that it reports."""
    if getattr(libc, name)(*args) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return "done"


def _connected(family: int, kind: int, address: Any) -> str:
    with socket.socket(family, kind) as opened:
        opened.connect(address)
    return "connected"


def _datagram() -> str:
    """Send from one of a pair to a socket that has a name; here nobody listens there."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.sendto(b"x", "\0edgevid-nobody")
    return "sent"


def _opened(path: str, work: Callable[[int], object]) -> str:
    """Do something to a file that is open to be read, as the child may."""
    with Path(path).open("rb") as file:
        return str(work(file.fileno()))


def _signalled_by_a_pipe(other: int) -> str:
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(reading, fcntl.F_SETOWN, other)
    finally:
        os.close(reading)
        os.close(writing)
    return "owned"


def _in_a_thread(work: Callable[[], str]) -> str:
    found: list[str] = []

    def run() -> None:
        try:
            found.append(work())
        except OSError as error:
            found.append(f"OSError {error.errno}")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if found[0].startswith("OSError"):
        raise PermissionError(found[0])
    return found[0]


def _forked() -> str:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return "forked"


def _raised_limit() -> str:
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = old[1] + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (old[0], most))
    return str(most)


def attempts(
    canary: str, outside: str, out: str, abstract: str, other: int
) -> dict[str, Callable[[], str]]:
    """Every attempt by name.

    Args:
        canary: A file in a home that no model may read.
        outside: A folder that no model may write in.
        out: The output folder.
        abstract: Name of an abstract socket that somebody listens on.
        other: Another process, which leads a group.
    """
    af_unix, stream, datagram = socket.AF_UNIX, socket.SOCK_STREAM, socket.SOCK_DGRAM
    name, own = canary.encode(), __file__
    return {
        "read a file in a home": lambda: Path(canary).read_text(),
        "read /etc/passwd": lambda: Path("/etc/passwd").read_text()[:10],
        "read another process's environment": lambda: Path(f"/proc/{other}/environ").read_text()[
            :10
        ],
        "read another process's arguments": lambda: Path(f"/proc/{other}/cmdline").read_text()[:10],
        "read through its own root": lambda: Path("/proc/self/root", canary[1:]).read_text(),
        "read in a new thread": lambda: _in_a_thread(Path(canary).read_text),
        "list a home": lambda: str(list(Path(canary).parent.iterdir())),
        "write outside": lambda: str(Path(outside, "new").write_text("x")),
        "write in its packages": lambda: str(Path(__file__).open("r+b").close()),
        "overwrite": lambda: str(Path(canary).write_text("changed")),
        "truncate": lambda: _called("truncate", name, ctypes.c_long(3)),
        "make readable for all": lambda: str(Path(canary).chmod(0o666)),
        "make a file that it may read writable": lambda: _opened(
            own, lambda one: os.fchmod(one, os.fstat(one).st_mode & 0o777)
        ),
        "give away a file that it may read": lambda: _opened(
            own, lambda one: os.fchown(one, os.getuid(), os.getgid())
        ),
        "mark a file that it may read": lambda: _opened(
            own, lambda one: os.setxattr(one, "user.edgevid", b"1", 99)
        ),
        "change the time of a file": lambda: str(os.utime(canary)),
        "watch a home": lambda: _called("inotify_init1", os.O_CLOEXEC),
        "link into the output": lambda: str(Path(out, "link").symlink_to(canary)),
        "hard link": lambda: str(Path(out, "hard").hardlink_to(canary)),
        "leave a pipe": lambda: str(os.mkfifo(f"{out}/pipe")),
        "TCP": lambda: str(socket.socket(socket.AF_INET, stream).close()),
        "UDP": lambda: str(socket.socket(socket.AF_INET, datagram).close()),
        "abstract socket": lambda: _connected(af_unix, stream, f"\0{abstract}"),
        "datagram from a pair": _datagram,
        "pair of another family": lambda: str(socket.socketpair(socket.AF_TIPC)),
        "signal by the state of a pipe": lambda: _signalled_by_a_pipe(other),
        "netlink": lambda: str(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()),
        "run a program": lambda: subprocess.run(["true"], check=True) and "ran",
        "become a program": lambda: _called("execve", b"/nonexistent", None, None),
        "fork": _forked,
        "trace another process": lambda: _called("ptrace", 0x4206, other, None, None),
        "signal another process": lambda: str(os.kill(other, 0)),
        "signal another group": lambda: str(os.killpg(other, signal.SIGURG)),
        "new user namespace": lambda: _called("unshare", 0x10000000),
        "unmount": lambda: _called("umount2", b"/nonexistent", 0),
        "io_uring": lambda: _called("syscall", 425, 1, (ctypes.c_char * 120)()),
        "bpf": lambda: _called("syscall", _number("bpf"), 0, None, 0),
        "keys": lambda: _called("syscall", _number("keyctl"), 0, -3, 0),
        "userfaultfd": lambda: _called("syscall", _number("userfaultfd"), 1),
        "raise its limits": _raised_limit,
        "delete": lambda: str(Path(canary).unlink()),
    }


def _number(name: str) -> int:
    from edgevid.isolation import seccomp

    here = seccomp.architecture()
    assert here is not None
    return next(calls[name][here.column] for calls in seccomp.CALLS.values() if name in calls)


def fill(megabytes: int) -> str:
    """Take memory."""
    return str(len(bytearray(megabytes << 20)))


def outcomes(task: dict[str, Any]) -> dict[str, str]:
    """Try everything; what is denied is ``denied``, by the kernel's own error."""
    found = {}
    paths = {key: task[key] for key in ("canary", "outside", "out", "abstract", "other")}
    for name, attempt in attempts(**paths).items():
        try:
            found[name] = f"succeeded: {attempt()}"
        except PermissionError:
            found[name] = "denied"
        except ValueError as error:  # of a limit that is not to be raised
            found[name] = "denied" if "not allowed" in str(error) else f"failed: {error}"
        except OSError as error:
            found[name] = f"failed: {error}"
    return found


def main() -> None:
    """The child's end."""
    from edgevid.isolation.child_task import child_task

    with child_task() as (task, send):
        if task["do"] == "fill":
            send({"filled": fill(task["megabytes"])})
        elif task["do"] == "write":
            Path(task["out"], "large").write_bytes(bytes(task["megabytes"] << 20))
            send({})
        elif task["do"] == "babble":
            for _ in range(task["megabytes"]):
                os.write(2, b"x" * (1 << 20))
            os.write(2, b"\nlast words\n")
            os._exit(3)
        elif task["do"] == "spin":
            while True:
                pass
        elif task["do"] == "look":
            names = ("CORE", "DATA", "FSIZE", "NOFILE", "CPU")
            limits = {n: resource.getrlimit(getattr(resource, f"RLIMIT_{n}"))[1] for n in names}
            home = {n: os.environ.get(n) for n in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
            with tempfile.NamedTemporaryFile() as made:
                send({"limits": limits, **home, "temporary": made.name, "modules": [*sys.modules]})
        else:
            send(outcomes(task))


if __name__ == "__main__":
    main()
