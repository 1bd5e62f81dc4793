"""A Debian of its own with systemd as PID 1, in namespaces of this machine.

No container engine: a root file system from mmdebstrap, made once and kept, and `unshare`. The
machine has its own processes, mounts, /dev/shm and network (only a loopback, unless a network
namespace is given); what it writes is kept in memory. It sees this project and the Python that runs
the tests at their own paths, read-only, so that the very same edgevid runs inside. It ends with the
process that started it, however that ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgevid.isolation.process import die_with_parent
from rigs.need import missing, need_program, need_root

PROJECT = Path(__file__).parents[2]
BOOT = Path(__file__).with_name("boot.sh")
# Not the user's cache: what tests see as that is a folder of their own.
CACHE = Path(os.environ.get("EDGEVID_RIGS", "/var/tmp/edgevid-rigs"))
BASE = ("systemd", "systemd-sysv", "procps", "python3")
TIMERS = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer")
MOUNTS = ("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "dev-hugepages.mount")
# Where this machine itself gets packages from, in Debian's newer and older way.
MIRRORS = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
BOOT_S = 60.0
SYSTEMD = "/lib/systemd/systemd --log-target=journal --show-status=no"


class Machine:
    """A machine that is up."""

    def __init__(self, pid: int, binds: list[Path]) -> None:
        self.binds = binds
        """The folders of this machine that it sees."""
        self.pid = pid
        """PID 1's number out here."""
        self.root = Path(f"/proc/{pid}/root")
        """Its files, seen from out here; not for ways over absolute links, such as /var/run."""

    def run(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as its root."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid"]
        command = [*enter, "--cgroup", "--wd=/", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        done = subprocess.run(
            [*command, *map(str, words)], capture_output=True, text=True, timeout=120
        )
        if check and done.returncode:
            raise AssertionError(f"{shlex.join(map(str, words))}: {done.stdout}{done.stderr}")
        return done

    def write(self, path: str, content: str | bytes) -> None:
        """Write a file inside, its folders too."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)

    def show(self, unit: str, name: str) -> str:
        """Give a property of a unit."""
        return self.run("systemctl", "show", unit, f"--property={name}", "--value").stdout.strip()

    def journal(self, unit: str) -> str:
        """Give what a unit wrote."""
        return self.run("journalctl", "--unit", unit, "--output=short-monotonic", "--quiet").stdout

    def processes(self, word: str) -> dict[int, str]:
        """Give its processes whose command line holds ``word``: their numbers inside."""
        found = {}
        for folder in (self.root / "proc").iterdir():
            if folder.name.isdecimal():
                with suppress(OSError):  # it ended meanwhile
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if word in line:
                        found[int(folder.name)] = line
        return found

    def signal_all(self, number: int) -> None:
        """Send a signal to all its processes but PID 1."""
        own = (Path("/proc") / str(self.pid) / "ns/pid").readlink()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile
                if (folder / "ns/pid").readlink() == own and folder.name != str(self.pid):
                    os.kill(int(folder.name), number)


@contextmanager
def machine(
    include: Iterable[str] = (),
    binds: Iterable[Path] = (),
    network: Path | None = None,
    *,
    bare: bool = False,
    init: str = SYSTEMD,
) -> Iterator[Machine]:
    """Start a machine with the packages ``include``; ready when systemd says so, ended afterwards.

    It sees ``binds`` besides the project and Python, and without these two where it is ``bare``;
    ``network`` is the file of a namespace, as ``ip netns`` makes it. Another ``init`` (a line for
    the shell) takes the place of systemd: then it is ready as soon as that runs.
    """
    need_root()
    for program, package in (("unshare", "util-linux"), ("nsenter", "util-linux")):
        need_program(program, package)
    root = root_files(include)
    work = CACHE / "work"
    work.mkdir(exist_ok=True)
    own = [] if bare else [*_python(root), PROJECT]
    folders = _outermost([*own, *binds])
    arguments = ["root", root, work, network or "none", *folders]
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", BOOT, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "RIG_INIT": init},
        preexec_fn=die_with_parent,
    )
    try:
        started = _ready(process, folders, init)
        yield started
    finally:
        for pid in _children(process):  # PID 1, and with it all others
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()
        subprocess.run(["unshare", "--mount", "sh", BOOT, "sweep", "", work, ""], check=True)


def _ready(process: subprocess.Popen[bytes], binds: list[Path], init: str) -> Machine:
    deadline = time.monotonic() + BOOT_S
    said = "it has no PID 1"
    while time.monotonic() < deadline and process.poll() is None:
        if pids := _children(process):
            started = Machine(pids[0], binds)
            if init != SYSTEMD:
                said = "its init does not run"
                if _runs(pids[0], init.split()[0]):
                    return started
                continue
            done = started.run("systemctl", "is-system-running", check=False)
            said = (done.stdout + done.stderr).strip()
            if said in ("running", "degraded"):
                return started
        time.sleep(0.1)
    process.kill()  # takes PID 1 along
    raise AssertionError(f"the machine did not start: {said} {process.communicate()[1].decode()}")


def _runs(pid: int, program: str) -> bool:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return words[0].decode() == program
    return False


def _children(process: subprocess.Popen[bytes]) -> list[int]:
    if process.poll() is not None:
        return []
    tree = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in tree.read_text().split()]


def root_files(include: Iterable[str] = ()) -> Path:
    """Give the folder of a Debian with systemd and ``include``; made once, then kept."""
    tool = need_program("mmdebstrap", "mmdebstrap")
    suite = _suite()
    packages = ",".join([*BASE, *include])
    key = hashlib.sha256(f"{suite} {packages}".encode()).hexdigest()[:12]
    CACHE.mkdir(parents=True, exist_ok=True)
    made = CACHE / f"{suite}-{key}"
    with (CACHE / f"{made.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _make(tool, suite, packages, made)
    return made


def _make(tool: str, suite: str, packages: str, made: Path) -> None:
    part = made.with_name(f"{made.name}.part")
    subprocess.run(["rm", "-rf", "--one-file-system", part], check=True)
    kept = [f"/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")]
    left_out = [f"--dpkgopt=path-exclude={path}" for path in kept]
    mirrors = [file for file in MIRRORS if file.exists() and file.stat().st_size][:1]
    command = [tool, "--quiet", "--variant=minbase", f"--include={packages}", *left_out]
    done = subprocess.run([*command, suite, part, *mirrors], capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        missing(f"a Debian with {packages}", f"mmdebstrap said: {last[0]}")
    (part / "etc/machine-id").write_text("0" * 31 + "1\n")
    system = part / "etc/systemd/system"
    (system / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    for unit in (*TIMERS, *MOUNTS):
        (system / unit).symlink_to("/dev/null")
    part.rename(made)


def _suite() -> str:
    release = Path("/etc/os-release").read_text()
    facts = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    name = facts.get("VERSION_CODENAME", "").strip('"')
    return name if facts.get("ID") == "debian" else "bookworm"


def _python(root: Path) -> list[Path]:
    """Give the folders of the Python that runs this; Debian's own is in the machine already."""
    real = Path(sys.executable).resolve()
    if real.parent == Path("/usr/bin"):
        if not (root / "usr/bin" / real.name).exists():
            missing(f"{real.name} in the machine", "run the tests with its Debian's own Python")
        return [Path(sys.prefix)]
    return [Path(sys.prefix), Path(sys.base_prefix), real.parents[1]]


def _outermost(folders: Iterable[Path]) -> list[Path]:
    """Leave out what is inside of another, or there twice."""
    kept: list[Path] = []
    for folder in sorted(set(folders)):
        if not any(folder.is_relative_to(outer) for outer in kept):
            kept.append(folder)
    return kept
