"""Arbitrary input gives one line of error: no traceback, no memory growth, no other file opened.

Each subject is a reader in a process of its own, whose system calls are recorded. `EDGEVID_FUZZ_S`
seconds (600 unless set) are spent on each in the long trial; a seed that failed once is listed in
`SEEDS` and always read again.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rigs.benches import measured, with_sensors
from rigs.bundles import write_null
from rigs.fuzz_cameras import REDIRECTED
from rigs.fuzz_subjects import BEGINS, BENCH, BUNDLE, SUBJECTS
from rigs.need import need_program

SHORT_S = 2.0
LIMIT_S = 120.0
ROOT = Path(__file__).parent.parent.parent
SEEDS: dict[str, tuple[int, ...]] = {}
"""Seeds that failed once."""
CALLS = (
    "open,openat,openat2,creat,connect,bind,unlink,unlinkat,rename,renameat,renameat2,mkdir,"
    "mkdirat,symlink,symlinkat,link,linkat,execve,execveat"
)
SYSTEM = ("/usr", "/lib", "/lib64", "/proc", "/sys", "/dev/null", "/dev/urandom", "/dev/shm")
SETTINGS = ("/etc/ld.so", "/etc/localtime", "/etc/mime.types", "/etc/ssl")
NAMES = ("/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/resolv.conf", "/etc/gai.conf")
"""What is read to look up the host of a redirect."""
CALL = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"([^"]*)"')
DNS_PORT = "53"
PORT = re.compile(r"sin_port=htons\((\d+)\)")


@pytest.fixture(scope="module")
def sound(tmp_path_factory, real_bundle, video) -> Path:
    """A real bundle and a bench result, to be damaged."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "sound").mkdir()
    shutil.copyfile(real_bundle, folder / BUNDLE)
    document = with_sensors(measured(write_null(folder / "null.edgevid", latency_ms=2), video))
    (folder / BENCH).write_text(json.dumps(document))
    return folder


def fuzz(sound: Path, folder: Path, subject: str, seconds: float, first: int) -> dict[str, int]:
    """Fuzz one subject under strace; returns its counts."""
    strace = need_program("strace", "strace")
    shutil.copytree(sound / "sound", folder / "sound")
    log = folder.parent / f"{folder.name}.strace"
    traced = [strace, "-f", "-qq", "-y", "--seccomp-bpf", "-s", "4096", "-e", "signal=none"]
    seeds = [str(seed) for seed in (*SEEDS.get(subject, ()), first)]
    program = [sys.executable, "-m", "rigs.fuzz_subjects", subject, str(folder), str(seconds)]
    scratch = folder / "home"
    scratch.mkdir()
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT / "converters")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        **dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR"), str(scratch)),
    }
    done = subprocess.run(
        [*traced, "-e", f"trace={CALLS}", "-o", log, *program, *seeds],
        capture_output=True,
        text=True,
        env=env,
        timeout=seconds + LIMIT_S,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    beyond = sorted(set(outside(log, folder, str(counts.pop("port")))))
    assert not beyond, beyond[:20]
    return counts


def outside(log: Path, folder: Path, camera: str):
    """Give each recorded call that touches anything but the folder, libraries and the camera."""
    own = (str(folder), str(ROOT), sys.prefix, sys.base_prefix)
    _, _, recorded = log.read_text(errors="replace").partition(BEGINS)
    for line in recorded.splitlines():
        found = CALL.match(line)
        if not found:
            continue
        call, given, result = found.groups()
        if call in ("bind", "connect"):
            port = PORT.search(given)
            expected = {camera, str(REDIRECTED), DNS_PORT}
            if call == "bind" or not ((port and port[1] in expected) or "/nscd/" in given):
                yield f"{call}({given})"
        else:
            writes = call not in ("open", "openat", "openat2")
            writes |= bool(re.search(r"O_WRONLY|O_RDWR|O_CREAT", given))
            for base, path in PATH.findall(given):
                whole = os.path.normpath(Path(base, path))
                allowed = own[:1] if writes else (*own, *SYSTEM, *SETTINGS, *NAMES)
                if not whole.startswith((*allowed, "/dev/null")) and int(result) >= 0:
                    yield f"{call}({given})"


@pytest.mark.parametrize("subject", SUBJECTS)
def test_whatever_strangers_write(sound, tmp_path, subject):
    counts = fuzz(sound, tmp_path, subject, SHORT_S, first=0)
    print(subject, counts)


@pytest.mark.soak
@pytest.mark.parametrize("subject", SUBJECTS)
def test_whatever_strangers_write_for_long(sound, tmp_path, subject):
    budget_s = float(os.environ.get("EDGEVID_FUZZ_S", "600"))
    counts = fuzz(sound, tmp_path, subject, budget_s, first=random.randrange(1, 1 << 40) * 100)
    print(subject, counts)
    assert counts["refused"] or "page" in subject
