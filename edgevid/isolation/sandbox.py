"""The sandbox of every child process that loads a model or a bundle.

The code that starts a child chooses its `Sandbox`. The child enters it before it imports its own
module (`edgevid.isolation.confined`), or right after it is forked. A sandbox consists of resource
limits, Landlock rules for files and a seccomp filter for system calls. They are set through the
kernel's own interfaces, without a library or a helper program, and cannot be undone.

Every child can read the interpreter, the packages it imports, shared libraries and a few kernel
files. It cannot read the rest of ``/etc``, or any home directory.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from edgevid.errors import EnvironmentFailed
from edgevid.isolation import landlock, seccomp
from edgevid.system import kernel, readable

FREE_SHARE = 0.9
"""The largest share of the free memory that a child gets."""
OPEN_FILES = 1024
FILE_MB = 4096
"""The largest file that a child may write."""
SPARE_CPU_S = 60
SCRATCH = ".scratch"
PACKAGES, METADATA = (
    ("site-packages", "dist-packages"),
    (".dist-info", ".egg-info", ".egg-link", ".libs"),
)
NOWHERE = "/nonexistent"
HOMES = ("HOME", "TMPDIR", "TMP", "TEMP", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")

SYSTEM = (
    *("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec"),
    *("/usr/local/lib", "/usr/share", "/usr/local/share"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload"),
    *("/etc/localtime", "/etc/timezone", "/etc/locale.alias", "/etc/ssl/openssl.cnf"),
    *("/dev/zero", "/dev/random", "/dev/urandom"),
)


@dataclass(frozen=True)
class Sandbox:
    """What a child process may do; by default it can only compute and reply.

    Attributes:
        read: Files and whole folders that it may read.
        write: Folders in which it may write.
        programs: Programs that it may start; with none it cannot start a process.
        memory_mb: Private memory in MB, and as much for a file; None: not limited.
        cpu_s: Processor time in seconds over all its threads; None: not limited.
        own_home: Whether home, cache and temporary folder are moved into the first writable folder;
            otherwise they stay where they are, accessible only as far as ``read`` and ``write``
            allow.
        confined: Whether files and system calls are restricted. If not, only the resource limits
            apply: for children that load nothing untrusted, and for drivers whose files are not
            known.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    memory_mb: int | None = None
    cpu_s: int | None = None
    own_home: bool = True
    confined: bool = True

    @property
    def scratch(self) -> str:
        """Its home, cache and temporary folder; ``/nonexistent`` without a writable folder."""
        return f"{self.write[0]}/{SCRATCH}" if self.write else NOWHERE

    def for_seconds(self, timeout_s: float) -> Sandbox:
        """Return it with the processor time that a child can use within a time limit in seconds."""
        cores = os.cpu_count() or 1
        return replace(self, cpu_s=self.cpu_s or (int(timeout_s) + SPARE_CPU_S) * cores)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the child."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sandbox:
        """Read what `to_json` returned."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**plain)

    def enter(self) -> None:
        """Restrict this process irrevocably.

        Raises:
            EnvironmentFailed: The kernel refuses a restriction that it supports, or threads are
                running already, which Landlock would not restrict.
        """
        if sys.platform != "linux":
            return
        self._limit()
        if not self.confined:
            return
        if landlock.version() and kernel.own_threads() > 1:
            raise EnvironmentFailed("a child process started threads before its sandbox")
        rules = list(self._rules())  # while HOME still names the real home
        self._move_home()
        try:
            _drop_capabilities()
            seccomp.no_new_privileges()
            if landlock.version():
                _pin()
                landlock.restrict(rules)
            if seccomp.available():
                seccomp.restrict(programs=bool(self.programs))
        except OSError as error:
            raise EnvironmentFailed(f"the sandbox cannot be entered: {error}") from None

    def _limit(self) -> None:
        """Set the resource limits; lower limits that the process already has are kept."""
        import resource

        megabytes = min(FILE_MB, self.memory_mb or FILE_MB)
        wanted = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NOFILE: OPEN_FILES,
            resource.RLIMIT_FSIZE: megabytes << 20,
        }
        if self.memory_mb is not None:
            # Mapped files and address space that is only reserved do not count: TensorFlow and
            # OpenVINO reserve a lot of it.
            wanted[resource.RLIMIT_DATA] = self.memory_mb << 20
        if self.cpu_s is not None:
            wanted[resource.RLIMIT_CPU] = self.cpu_s + 1
        for kind, value in wanted.items():
            _, most = resource.getrlimit(kind)
            value = value if most == resource.RLIM_INFINITY else min(value, most)
            # The soft limit sends SIGXCPU, which names the cause; the hard one sends SIGKILL.
            first = value - 1 if kind == resource.RLIMIT_CPU else value
            resource.setrlimit(kind, (first, value))

    def _move_home(self) -> None:
        """Point home, cache and temporary folder into the first writable folder."""
        if not self.own_home:
            return
        if self.write:
            Path(self.scratch).mkdir(0o700, parents=True, exist_ok=True)
        os.environ.update(dict.fromkeys(HOMES, self.scratch))
        if "tempfile" in sys.modules:
            sys.modules["tempfile"].__dict__["tempdir"] = None

    def _rules(self) -> Iterator[tuple[str, int]]:
        """Yield every accessible path with its access rights."""
        yield from _python()
        for path in (*SYSTEM, *_loader_paths(), *self.read):
            yield path, landlock.READ
        for path in (*readable.MACHINE, readable.PROCESSES if self.programs else readable.SELF):
            yield path, landlock.READ
        yield "/dev/null", landlock.READ | landlock.WRITE_FILE
        for path in self.write:
            yield path, landlock.WRITE
        if self.programs:
            for path in (*self.programs, *_loaders()):
                yield path, landlock.RUN


LIMITS_ONLY = Sandbox(confined=False)
"""For children that load nothing untrusted."""


@dataclass(frozen=True)
class SandboxSupport:
    """What the kernel supports.

    Attributes:
        landlock: Version of Landlock's ABI; 0 if there is none.
        seccomp: Whether there are seccomp filters.
    """

    landlock: int
    seccomp: bool

    @property
    def files(self) -> bool:
        """Whether the files that a child may read and write can be restricted."""
        return self.landlock > 0


@cache
def supported() -> SandboxSupport:
    """Return what the kernel supports; it is asked once."""
    if sys.platform != "linux":
        return SandboxSupport(0, seccomp=False)
    return SandboxSupport(landlock.version(), seccomp.available())


def free_mb(least_mb: int = 0) -> int | None:
    """Most of the free memory, in MB, but no less than ``least_mb``; None if unknown."""
    free = kernel.memory_mb(Path("/")).get("MemAvailable")
    return None if free is None else max(least_mb, int(free * FREE_SHARE))


def memory_limit_mb() -> int | None:
    """Return the limit of this process's private memory in MB; None if there is none."""
    if sys.platform != "linux":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return None if limit == resource.RLIM_INFINITY else limit >> 20


_pinned: list[int] = []


def _pin() -> None:
    """Keep the process's own folder in /proc open, so that the kernel keeps the rule for it."""
    with suppress(OSError):
        _pinned.append(os.open(readable.SELF, os.O_PATH | os.O_CLOEXEC))


def _drop_capabilities() -> None:
    """As root, keep only the capabilities to open any file; Landlock still restricts them."""
    if os.geteuid() != 0:
        return
    version_3, kept = 0x20080522, (1 << 1) | (1 << 2)  # DAC_OVERRIDE, DAC_READ_SEARCH
    header = (ctypes.c_uint32 * 2)(version_3, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    held = (ctypes.c_uint32 * 6)()
    if libc.capget(header, held):
        raise OSError(ctypes.get_errno(), "capget")
    effective, permitted = held[0] & kept, held[1] & kept
    left = (ctypes.c_uint32 * 6)(effective, permitted, 0, 0, 0, 0)
    if libc.capset(header, left):
        raise OSError(ctypes.get_errno(), "capset")


def _python() -> Iterator[tuple[str, int]]:
    """The interpreter's own files, and what can be imported from ``sys.path``."""
    own = (Path(os.__file__).parent, Path(sys.base_prefix, "lib"), Path(sys.prefix, "pyvenv.cfg"))
    for path in own:
        yield str(path), landlock.READ
    home = Path(os.path.expanduser("~")).resolve()  # noqa: PTH111 - a service may have none
    for place in (Path(entry).resolve() for entry in sys.path if entry):
        if place.name in PACKAGES or place.is_file():
            yield str(place), landlock.READ
        elif place not in own:
            for path in _importable(place):
                yield str(path), landlock.READ
            if not home.is_relative_to(place):  # listing it reveals nothing of the home
                yield str(place), landlock.READ_DIR


def _importable(folder: Path) -> Iterator[Path]:
    """The modules and packages in a folder, which may hold other things too."""
    for path in _entries(folder):
        package = not path.name.startswith(".") and any(map(_is_module, _entries(path)))
        if path.suffix in METADATA or _is_module(path) or package:
            yield path


def _is_module(path: Path) -> bool:
    return path.suffix in (".py", ".so")


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _loader_paths() -> list[str]:
    return [one for one in os.environ.get("LD_LIBRARY_PATH", "").split(":") if one]


def _loaders() -> Iterator[str]:
    """The dynamic loaders, which the kernel executes along with a program."""
    for folder in (Path("/lib"), Path("/lib64"), *Path("/lib").glob("*-linux-*")):
        for path in _entries(folder):
            if path.name.startswith(("ld-", "ld.so")):
                yield str(path)
