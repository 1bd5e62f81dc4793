"""An archive: nothing in it runs before it is checked with the device's or the owner's key.

The steps are those in docs/how-to/deploy.md and those that the host prints.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgevid.flash import archive, commands, keys
from edgevid.flash.agent import install as install_agent
from edgevid.flash.agent.statement import ARCHIVE
from edgevid.flash.agent_client import AgentClient
from edgevid.flash.package import Package
from rigs.agent import quick_folder
from rigs.bare_target import bare_target
from rigs.bundles import write_null
from rigs.devices import Person, device
from rigs.packages import package
from rigs.sshd import make_key, sshd

pytestmark = [pytest.mark.one_process("crontab"), pytest.mark.starts(1)]

PATH = f"{Path(sys.executable).parent}:/usr/bin:/bin"
TOUCH = "import pathlib; pathlib.Path({!r}).touch()\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with sshd(tmp_path_factory.mktemp("sshd"), path=PATH) as server:
        yield server


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return keys.load(make_key(tmp_path_factory.mktemp("key") / "signing"))


@pytest.fixture
def root(server):
    with quick_folder() as folder:
        yield folder / "device"
        with server.remote() as remote, AgentClient(remote, str(folder / "device")) as device:
            commands.uninstall(device)


def run(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program on the device."""
    clean = {"PATH": PATH, "HOME": "/nonexistent"}
    command = [*map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=clean, cwd=cwd, timeout=120)


def install(root: Path, file: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Install a file with the installed agent, as the host says."""
    agent = root / "current" / "agent.py"
    options = ("--root", root, "--health-s", "1")
    return run(sys.executable, "-I", agent, "install", file, *options, *words)


@pytest.fixture
def served(root, key, tmp_path):
    """Make the first installation; returns the folder."""
    file = tmp_path / "first.sh"
    archive.write(file, package(), key, "a test")
    done = run("sh", file, "--root", root, "--health-s", "1")
    assert done.returncode == 0, done.stderr
    return root


def serving(root: Path) -> str:
    return (root / "current").readlink().name


# ---------------------------------------------------------------- with the installed agent


def test_the_installed_agent_installs_a_carried_file(served, key, tmp_path):
    file = tmp_path / "next.sh"
    release = archive.write(file, package(serial=2, bundle=b"another"), key, "a test")
    checked = install(served, file, "--check")
    assert checked.returncode == 0 and serving(served) != release, checked.stderr
    done = install(served, file)
    assert done.returncode == 0, done.stderr
    assert serving(served) == release
    assert "nothing was restarted" in install(served, file).stderr


def evil(file: Path, marker: Path) -> Path:
    """Put an attacker's code into every part of a file that could run."""
    with zipfile.ZipFile(file) as members:
        content = {info.filename: members.read(info) for info in members.infolist()}
    content["__main__.py"] = content["agent.py"] = TOUCH.format(str(marker)).encode()
    made = file.with_name("evil.sh")
    made.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(marker))}\nexit 0\n")
    with zipfile.ZipFile(made, "a") as members:
        for name, data in content.items():
            members.writestr(zipfile.ZipInfo(name), data)
    return made


def test_nothing_of_the_file_runs_before_it_is_checked(served, key, tmp_path):
    stranger = keys.load(make_key(tmp_path / "stranger"))
    before, marker = serving(served), tmp_path / "ran"
    for signer, code in ((stranger, 2), (key, 0)):
        file = tmp_path / "carried.sh"
        archive.write(file, package(serial=3, bundle=b"other"), signer, "a test")
        done = install(served, evil(file, marker))
        assert done.returncode == code, done.stderr
        assert not marker.exists()
        if code:
            assert "signed by another key" in done.stderr and serving(served) == before
    assert run("sh", tmp_path / "evil.sh").returncode == 0
    assert marker.exists(), "the rig's code does run where somebody runs the file"


@pytest.mark.parametrize("where", ["blob", "release.json", "directory", "short"])
def test_a_damaged_or_hostile_file_is_one_line(served, key, tmp_path, where):
    before = serving(served)
    file = tmp_path / "carried.sh"
    archive.write(file, package(serial=3, bundle=b"b" * 5000), key, "a test")
    content = bytearray(file.read_bytes())
    if where == "blob":
        content[content.index(b"b" * 5000) + 99] ^= 1
    elif where == "release.json":
        content[content.index(b'"statement": "{') + 30] ^= 1
    elif where == "directory":
        content[-12:-8] = b"\xff\xff\xff\x7f"
    else:
        content = content[: len(content) // 2]
    file.write_bytes(content)
    done = install(served, file)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert serving(served) == before


def test_a_file_of_a_huge_directory_or_a_pipe_is_refused_soon(served, tmp_path):
    file = tmp_path / "many.sh"
    with zipfile.ZipFile(file, "w") as members:
        for number in range(70_000):
            members.writestr(f"{number:064x}", b"")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    for one in (file, pipe, tmp_path / "absent", tmp_path):
        done = install(served, one)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before < 64 << 10


@pytest.mark.parametrize("members", [install_agent.MEMBERS + 1, 70_000])
def test_the_directory_of_a_file_is_not_read_if_it_is_large(tmp_path, members):
    file = tmp_path / "many.sh"
    with zipfile.ZipFile(file, "w") as made:
        for number in range(members):
            made.writestr(f"{number:08x}", b"")
    with file.open("rb") as opened, pytest.raises(zipfile.BadZipFile):
        install_agent._check_directory(opened)


def test_a_device_without_a_key_does_not_install_by_its_own(served, key, tmp_path):
    file = tmp_path / "next.sh"
    archive.write(file, package(serial=2), key, "a test")
    agent, other = served / "current" / "agent.py", tmp_path / "other"
    done = run(sys.executable, "-I", agent, "install", file, "--root", other)
    assert done.returncode == 2, done.stderr
    assert "there is no key to check the file with" in done.stderr
    assert not other.exists()


def test_a_file_that_is_run_hands_over_to_the_installed_agent(served, key, tmp_path):
    file = tmp_path / "next.sh"
    archive.write(file, package(serial=2, bundle=b"another"), key, "a test")
    with zipfile.ZipFile(file) as members:
        own = {info.filename: members.read(info) for info in members.infolist()}
    own["agent.py"] = b"raise SystemExit('the file ran its own agent')"
    made = tmp_path / "own.sh"
    made.write_bytes(file.read_bytes()[: file.read_bytes().index(b"PK\x03\x04")])
    with zipfile.ZipFile(made, "a") as members:
        for name, data in own.items():
            members.writestr(zipfile.ZipInfo(name), data)
    done = run("sh", made, "--root", served, "--health-s", "1")
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- a first installation


@pytest.fixture
def own_target():
    return "board", bare_target(architecture=os.uname().machine, memory_mb=16, user="root")


def edgevid(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "edgevid", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_the_steps_that_the_host_prints_work_and_stop_a_changed_file(home, tmp_path, root):
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    stick, safe = tmp_path / "a stick", tmp_path / "safe"
    stick.mkdir()
    safe.mkdir()
    bundle = write_null(tmp_path / "motion.edgevid")
    words = ("--kind", "board", "--python", version, "--source", "synthetic:96x64@5")
    done = edgevid("flash", bundle, *words, "--archive", stick / "f.sh", "--root", root)
    assert done.returncode == 0, done.stderr
    made = edgevid("keys", "--allowed-signers", safe / "signers", "--json")
    assert made.returncode == 0 and json.loads(made.stdout)["public"], made.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    (check,) = (line for line in lines if line.startswith("ssh-keygen -Y verify"))
    check = check.replace("-f signers", f"-f {shlex.quote(str(safe / 'signers'))}")
    check = check.replace("sudo sh f.sh", "sh f.sh --check")
    assert str(root) in check
    good = run("sh", "-c", check, cwd=stick)
    assert good.returncode == 0, good.stderr
    assert "can be installed here" in good.stderr
    (installed,) = (line for line in lines if " install " in line)
    agent = f"{root}/current/agent.py"
    assert installed == f"sudo python3 -I {agent} install f.sh --root {root}"

    marker = tmp_path / "ran"
    content = (stick / "f.sh").read_bytes()
    (stick / "f.sh").write_bytes(content.replace(b"exec python3", f"touch {marker}; ".encode(), 1))
    bad = run("sh", "-c", check, cwd=stick)
    assert bad.returncode != 0 and not marker.exists(), bad.stderr


def test_a_signature_for_another_purpose_or_key_does_not_fit_a_file(key, tmp_path):
    file = tmp_path / "f.sh"
    archive.write(file, package(), key, "a test")
    content = file.read_bytes()
    signed = archive.signature(file, key).decode()
    assert keys.verify(content, signed, key.public, ARCHIVE)
    assert not keys.verify(content + b" ", signed, key.public, ARCHIVE)
    assert not keys.verify(content, signed, key.public, "edgevid-release")
    stranger = keys.load(make_key(tmp_path / "stranger"))
    assert not keys.verify(content, signed, stranger.public, ARCHIVE)


# ---------------------------------------------------------------- on a Debian, step by step


def test_the_steps_of_the_guide_on_a_debian_with_systemd(key, tmp_path):
    person = Person(tmp_path / "person")
    with device(person, "attic") as attic:

        def carry(name: str, made: Package) -> list[str]:
            file = tmp_path / name
            archive.write(file, made, key, "a test")
            attic.machine.write(f"/home/pi/{name}", file.read_bytes())
            attic.machine.write(f"/home/pi/{name}.sig", archive.signature(file, key))
            return [line.strip() for line in archive.instructions(name, None)]

        first = carry("first.sh", package())
        attic.machine.write("/home/pi/signers", key.allowed_signer(ARCHIVE).encode())
        (check,) = (line for line in first if line.startswith("ssh-keygen"))
        done = person.ssh(attic, f"{check} --health-s 1")
        assert done.returncode == 0, done.stderr
        assert 'Good "edgevid-archive" signature' in done.stdout + done.stderr
        serves = attic.root / "opt/edgevid/current"
        before = serves.readlink()

        second = carry("second.sh", package(serial=2, bundle=b"another"))
        (install_line,) = (line for line in second if " install " in line)
        assert install_line == "sudo python3 -I /opt/edgevid/current/agent.py install second.sh"
        done = person.ssh(attic, f"{install_line} --health-s 1")
        assert done.returncode == 0, done.stderr
        assert serves.readlink() != before

        changed = (tmp_path / "second.sh").read_bytes().replace(b"exec python3", b"touch x; ", 1)
        attic.machine.write("/home/pi/first.sh", changed)
        done = person.ssh(attic, check)
        assert done.returncode != 0 and not (attic.root / "home/pi/x").exists()
