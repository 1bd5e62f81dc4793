"""What goes over the wire, and what becomes of it when the wire or either end is gone."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from edgevid import targets
from edgevid.errors import BadInput, DeviceFailed, EnvironmentFailed
from edgevid.flash import commands, keys
from edgevid.flash.agent_client import AgentClient, agent_source
from edgevid.flash.blob_transfer import RateLimit, missing_blobs, send
from edgevid.flash.installed import look
from edgevid.flash.replies import SESSION
from edgevid.flash.request import DeployOptions
from edgevid.flash.signed_request import hand_over
from rigs.need import need_program
from rigs.packages import package, wheel
from rigs.processes import wait_for
from rigs.proxy import Proxy
from rigs.sshd import make_key, sshd

pytestmark = [pytest.mark.one_process("crontab"), pytest.mark.starts(1)]

MEBI = 1 << 20


def flash(device, package, installed=None, activate=True, **options):
    return commands.flash(device, package, DeployOptions(stage=not activate, **options), installed)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def key(tmp_path):
    return keys.load(make_key(tmp_path / "signing"))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "device"


def blob(size: int, seed: int = 0) -> tuple[str, bytes]:
    content = random.Random(seed).randbytes(size)
    return hashlib.sha256(content).hexdigest(), content


def part_size(root, sha256) -> int:
    try:
        return (root / "blobs" / f"{sha256}.part").stat().st_size
    except FileNotFoundError:
        return 0


def test_looking_at_a_device_writes_nothing_there(server, root):
    with server.remote() as remote, AgentClient(remote, str(root)) as device:
        facts, installed = look(device)
    assert facts.root == str(root)
    assert facts.python == sys.version_info[:3]
    assert installed.current is None and installed.manifest is None
    assert not root.exists()


def test_a_users_own_target_adds_libraries_to_the_probe(server, root, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "edgevid/targets").mkdir(parents=True)
    wanted = '[[engine]]\nlibraries = ["libc.so.6", "libmissing.so.1"]'
    text = targets.find("generic-arm64").read_text().replace("[[engine]]", wanted, 1)
    (tmp_path / "edgevid/targets/mine.toml").write_text(text)
    with server.remote() as remote, AgentClient(remote, str(root)) as device:
        found = {path.rpartition("/")[2] for path in look(device)[0].libraries}
    assert "libc.so.6" in found
    assert "libmissing.so.1" not in found


def test_output_of_login_scripts_is_skipped(server, root):
    with server.remote() as remote, AgentClient(remote, str(root)) as device:
        command = remote.command
        remote.command = lambda text: command(f"echo welcome; echo back; {text}")
        assert look(device)[0].root == str(root)


@pytest.mark.parametrize(
    ("shell", "debian"),
    [
        ("csh", "csh"),
        ("tcsh", "tcsh"),
        ("fish", "fish"),
        ("dash", "dash"),
        ("bash --restricted", "bash"),
    ],
)
def test_any_login_shell_starts_the_agent_however_noisy_it_is(tmp_path, shell, debian):
    need_program(shell.split()[0], debian)
    home = tmp_path / "home"
    (home / ".config" / "fish").mkdir(parents=True)
    for name in (".cshrc", ".tcshrc", ".config/fish/config.fish", ".bashrc"):
        (home / name).write_text("echo 'Welcome! You have mail.'; printf 'no line end'\n")
    with sshd(tmp_path) as server:
        config = (tmp_path / "server").read_text()
        # As sshd runs it for a user with this login shell.
        command = f'HOME={home} exec {shell} -c "$SSH_ORIGINAL_COMMAND"'
        (tmp_path / "server").write_text(f"{config}ForceCommand {command}\n")
        server.stop()
        server.start()
        root = tmp_path / "it's a root"
        with server.remote() as remote, AgentClient(remote, str(root)) as device:
            assert look(device)[0].root == str(root)


def test_the_next_release_sends_only_what_is_new(server, root, key):
    runner = wheel(filler=MEBI)
    told = []
    with server.remote() as remote, AgentClient(remote, str(root)) as device:
        options = {"key": key, "activate": False}
        first = flash(device, package(runner), progress=lambda *of: told.append(of), **options)
        again = flash(device, package(runner, serial=2), **options)
        other = flash(device, package(runner, bundle=b"other" * 100, serial=3), **options)
    assert first["outcome"] == "staged" and first["restarted"] is False
    assert first["sent_bytes"] > MEBI
    assert told[-1][1] == told[-1][2] == first["sent_bytes"]
    assert (root / "releases" / first["release"] / "bundles" / "motion.edgevid").exists()
    assert again["sent_bytes"] == 0
    assert other["sent_bytes"] == 500
    assert not (root / "current").exists()


def test_another_key_and_an_older_release_are_refused(server, root, key, tmp_path):
    stranger = keys.load(make_key(tmp_path / "stranger"))
    with server.remote() as remote, AgentClient(remote, str(root)) as device:
        flash(device, package(serial=5), key=key, activate=False)
        with pytest.raises(BadInput, match="signed by another key"):
            flash(device, package(serial=6), key=stranger, activate=False)
        spoilt = package(serial=6, architecture="riscv64")
        with pytest.raises(BadInput, match="for riscv64, this device is"):
            flash(device, spoilt, key=key, activate=False)


def test_a_pinned_key_can_vouch_for_the_next_one(server, root, key, tmp_path):
    new = keys.load(make_key(tmp_path / "new"))
    with server.remote() as remote, AgentClient(remote, str(root)) as device:
        flash(device, package(serial=1), key=key, activate=False)
        with pytest.raises(BadInput):
            flash(device, package(serial=2), key=new, activate=False, pin=hand_over(new, new))
        flash(device, package(serial=2), key=new, activate=False, pin=hand_over(key, new))
        flash(device, package(serial=3), key=new, activate=False)
        with pytest.raises(BadInput, match="signed by another key"):
            flash(device, package(serial=4), key=key, activate=False)


def test_a_refused_package_leaves_nothing_there(server, root, key):
    with (
        server.remote() as remote,
        AgentClient(remote, str(root)) as device,
        pytest.raises(BadInput),
    ):
        flash(device, package(python="2.7"), key=key, activate=False)
    assert not root.exists()


def test_a_second_client_is_refused(server, root, key):
    with server.remote() as one, AgentClient(one, str(root)) as first:
        first.call(SESSION, {"root": str(root)})
        with server.remote() as two, AgentClient(two, str(root)) as second:
            with pytest.raises(DeviceFailed, match="someone else is flashing") as caught:
                flash(second, package(), key=key, activate=False)
            assert caught.value.kind == "busy"
            first.close()
            flash(second, package(), key=key, activate=False)


def test_a_blob_with_another_content_is_refused_while_others_travel(server, root):
    sha256, content = blob(2 * MEBI)
    other, much = blob(3 * MEBI, seed=1)
    spoilt = content[:-1] + bytes([content[-1] ^ 1])
    with server.remote() as remote, AgentClient(remote, str(root)) as device:
        device.call(SESSION, {"root": str(root)})
        with pytest.raises((BadInput, EnvironmentFailed), match="arrived damaged"):
            send(device, {sha256: spoilt, other: much}, {sha256: 0, other: 0})
        device.close()
        device.call(SESSION, {"root": str(root)})
        missing = missing_blobs(device, {sha256: len(content)})
        assert missing == {sha256: 0}
        assert send(device, {sha256: content}, missing) == len(content)
    assert (root / "blobs" / sha256).read_bytes() == content


def test_a_client_that_vanished_does_not_keep_the_lock(server, root, key):
    impatient = agent_source().replace(b"SILENCE_S = 120", b"SILENCE_S = 2")
    assert impatient != agent_source()
    proxy = Proxy(server.port)
    try:
        server.know(proxy.port)
        gone = AgentClient(server.remote(port=proxy.port), str(root), source=impatient)
        gone.call(SESSION)
        proxy.freeze()
        with server.remote() as remote, AgentClient(remote, str(root)) as device:
            wait_for(lambda: _session(device, root), 30)
            assert flash(device, package(), key=key, activate=False)["outcome"] == "staged"
    finally:
        proxy.close()
        gone.remote.close()


def test_a_file_that_shrinks_is_reported(server, root, tmp_path):
    sha256, content = blob(MEBI)
    file = tmp_path / "file"
    file.write_bytes(content)

    def cut(what, done, total, note=""):
        os.truncate(file, len(content) // 2)

    with server.remote() as remote, AgentClient(remote, str(root)) as device:
        device.call(SESSION, {"root": str(root)})
        with pytest.raises(EnvironmentFailed, match="become shorter"):
            send(device, {sha256: file}, {sha256: 0}, progress=cut)


def test_a_server_killed_in_mid_transfer_loses_nothing_that_arrived(server, root):
    sha256, content = blob(4 * MEBI)

    def kill_later():
        wait_for(lambda: part_size(root, sha256) > MEBI, 30)
        server.kill_connections()

    killer = threading.Thread(target=kill_later)
    killer.start()
    with server.remote() as remote, AgentClient(remote, str(root)) as device:
        device.call(SESSION, {"root": str(root)})
        with pytest.raises(DeviceFailed) as caught:
            send(device, {sha256: content}, {sha256: 0}, limit_kbit=8000)
        assert caught.value.kind == "lost"
        killer.join()
        wait_for(lambda: _session(device, root), 30)
        missing = missing_blobs(device, {sha256: len(content)})
        assert MEBI < missing[sha256] < len(content)
        assert send(device, {sha256: content}, missing) == len(content) - missing[sha256]
    assert (root / "blobs" / sha256).read_bytes() == content


def _session(device, root) -> bool:
    """The killed session's agent may live on for a moment, with its lock."""
    try:
        device.call(SESSION, {"root": str(root)})
    except DeviceFailed as error:
        assert error.kind == "busy"
        return False
    return True


CLIENT = """
import sys
from pathlib import Path
from edgevid.flash.agent_client import AgentClient
from edgevid.flash.commands import flash
from edgevid.flash.request import DeployOptions
from edgevid.flash import keys
from edgevid.remote import Address, Remote
from rigs.packages import package, wheel
config, root, key, limit = sys.argv[1:]
device = AgentClient(Remote(Address("device"), options=("-F", config)), root)
with device.remote, device:
    runner = wheel(filler=4 << 20)
    done = flash(device, package(runner), DeployOptions(key=keys.load(Path(key)), stage=True,
                 limit_kbit=float(limit) or None))
print(done["sent_bytes"])
"""


def test_a_client_killed_in_mid_transfer_resumes(server, root, key):
    words = [server.folder / "client", root, key.path]
    command = [sys.executable, "-c", textwrap.dedent(CLIENT), *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    sha256 = hashlib.sha256(wheel(filler=4 * MEBI)).hexdigest()
    with subprocess.Popen([*command, "8000"], env=environment) as client:
        wait_for(lambda: part_size(root, sha256) > MEBI, 30)
        client.send_signal(signal.SIGKILL)
    came = part_size(root, sha256)
    done = subprocess.run([*command, "0"], env=environment, capture_output=True, text=True)
    if "someone else" in done.stderr:  # the agent of the killed one has not noticed yet
        time.sleep(2)
        done = subprocess.run([*command, "0"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 4 * MEBI - came + MEBI
    assert (root / "blobs" / sha256).stat().st_size > 4 * MEBI


def test_repeating_a_deployment_stays_under_64_kib_on_the_wire(server, root, key):
    proxy = Proxy(server.port)
    try:
        server.know(proxy.port)
        with server.remote() as remote, AgentClient(remote, str(root)) as device:
            first = flash(device, package(wheel(filler=MEBI)), key=key, activate=False)
        with server.remote(port=proxy.port) as remote, AgentClient(remote, str(root)) as device:
            again = flash(device, package(wheel(filler=MEBI), serial=2), key=key, activate=False)
        assert first["sent_bytes"] > MEBI
        assert again["sent_bytes"] == 0
        assert 10_000 < proxy.forwarded < 64 << 10
    finally:
        proxy.close()


def test_the_rate_limit_holds_for_a_real_transfer(server, root):
    sha256, content = blob(MEBI)
    with server.remote() as remote, AgentClient(remote, str(root)) as device:
        device.call(SESSION, {"root": str(root)})
        began = time.monotonic()
        send(device, {sha256: content}, {sha256: 0}, limit_kbit=4000)
        elapsed_s = time.monotonic() - began
    assert elapsed_s > 0.9 * 8 * MEBI / 4e6


def test_the_rate_limit_flows_evenly_and_does_not_make_up_for_a_pause():
    now, slept = [0.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    cap = RateLimit(800, clock=lambda: now[0], sleep=sleep)
    assert cap.chunk == 10_000
    for _ in range(11):
        cap.wait(10_000)
    assert now[0] == pytest.approx(1.0)
    assert max(slept) == pytest.approx(0.1)
    now[0] += 60  # the link hung
    slept.clear()
    for _ in range(3):
        cap.wait(10_000)
    assert sum(slept) == pytest.approx(0.2)
