"""Flashes of this machine over a real OpenSSH, up to a service that is judged and stays or not."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgevid.errors import BadInput, DeviceFailed
from edgevid.flash import activation, archive, commands, keys
from edgevid.flash.activation import Health, RolledBack
from edgevid.flash.agent_client import AgentClient
from edgevid.flash.installed import look, read_back
from edgevid.flash.replies import STATUS
from edgevid.flash.request import DeployOptions
from rigs.packages import package
from rigs.processes import alive, wait_for
from rigs.proxy import Proxy
from rigs.sshd import make_key, sshd

pytestmark = [pytest.mark.one_process("crontab"), pytest.mark.starts(1)]

HEALTH = Health(seconds=1.0)
PATH = f"{Path(sys.executable).parent}:/usr/bin:/bin"
"""Of the device, however someone comes to it: it has one python3."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with sshd(tmp_path_factory.mktemp("sshd"), path=PATH) as server:
        yield server


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return keys.load(make_key(tmp_path_factory.mktemp("key") / "signing"))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "device"


@pytest.fixture
def device(server, root):
    """A session with a device on which nothing is; nothing is left of it."""
    with server.remote() as remote, AgentClient(remote, str(root)) as device:
        yield device
    with server.remote() as remote, AgentClient(remote, str(root)) as device:
        commands.uninstall(device)
    assert not root.exists()


@pytest.fixture
def proxy(server):
    proxy = Proxy(server.port)
    server.know(proxy.port)
    yield proxy
    proxy.close()


def flash(device, package, installed=None, activate=True, **options):
    return commands.flash(device, package, DeployOptions(stage=not activate, **options), installed)


def pid_of(device) -> int:
    return device.call(STATUS).service.pid


def serving(root) -> str:
    return (root / "current").readlink().name


def test_a_healthy_release_serves_and_the_same_again_changes_nothing(
    server, device, root, key, proxy
):
    told = []
    first = flash(device, package(), key=key, health=HEALTH, log=told.append)
    assert (first["outcome"], first["restarted"], first["reason"]) == ("serving", True, None)
    assert first["release"] == serving(root)
    assert first["health"]["p95_ms"] == 2.0
    assert any("serving for" in line for line in told)
    pid = pid_of(device)
    device.close()
    with server.remote(port=proxy.port) as remote, AgentClient(remote, str(root)) as other:
        again = flash(other, package(serial=2), key=key, health=HEALTH)
    assert (again["outcome"], again["restarted"]) == ("unchanged", False)
    assert again["release"] == first["release"]
    assert pid_of(device) == pid and alive(pid)
    assert 10_000 < proxy.forwarded < 64 << 10


def test_an_unhealthy_release_is_rolled_back_and_the_reason_is_reported(device, root, key):
    good = flash(device, package(), key=key, health=HEALTH)["release"]
    sick = package(serial=2, sick={"dies_s": 0.5, "exit": 7})
    with pytest.raises(RolledBack, match=r"was rolled back: serve: .* exit code 7") as caught:
        flash(device, sick, key=key, health=HEALTH)
    result = caught.value.result
    assert caught.value.exit_code == 1
    assert result["outcome"] == "rolled-back"
    assert result["reason"]["exit_code"] == 7
    assert result["reason"]["log"][-1] == "last words"
    assert serving(root) == good
    assert look(device)[1].journal.reason.stage == "serve"


def test_the_device_enforces_the_latency_bound(device, root, key):
    slow = package(sick={"p95": 80.0})
    with pytest.raises(RolledBack, match=r"latency: p95 is 80\.0 ms"):
        flash(device, slow, key=key, health=Health(seconds=1.0, p95_ms=50.0))
    assert not (root / "current").exists()


def test_a_link_lost_during_the_health_window_is_reconnected(server, device, root, key, proxy):
    told = []

    def listen(text):
        told.append(text)
        if "health check for" in text:
            proxy.cut()
            threading.Timer(2.0, proxy.restore).start()

    with server.remote(port=proxy.port) as remote, AgentClient(remote, str(root)) as other:
        result = flash(other, package(), key=key, health=Health(seconds=3.0), log=listen)
    assert result["outcome"] == "serving"
    assert any("continues the health check by itself" in line for line in told)
    assert serving(root) == result["release"]


def test_an_unhealthy_release_behind_a_lost_link_is_reported_later(
    server, device, root, key, proxy
):
    def listen(text):
        if "health check for" in text:
            proxy.cut()
            threading.Timer(4.0, proxy.restore).start()

    good = flash(device, package(), key=key, health=HEALTH)["release"]
    device.close()
    sick = package(serial=2, sick={"dies_s": 1.0, "exit": 7})
    with server.remote(port=proxy.port) as remote:
        other = AgentClient(remote, str(root))
        with pytest.raises(RolledBack, match="exit code 7"):
            flash(other, sick, key=key, health=Health(seconds=3.0), log=listen)
    assert serving(root) == good


def test_a_link_that_stays_lost_leaves_the_outcome_unknown_here_only(
    server, device, root, key, proxy, monkeypatch
):
    monkeypatch.setattr(activation, "ACTIVATION_S", 3.0)

    def listen(text):
        if "health check for" in text:
            proxy.cut()

    sick = package(sick={"dies_s": 1.0})
    with server.remote(port=proxy.port) as remote:
        other = AgentClient(remote, str(root))
        with pytest.raises(DeviceFailed, match="outcome is unknown") as caught:
            flash(other, sick, key=key, health=Health(seconds=3.0), log=listen)
    assert (caught.value.kind, caught.value.exit_code) == ("unknown", 4)
    wait_for(lambda: look(device)[1].journal.state == "rolled-back", 30)


def test_an_ssh_server_killed_during_the_health_window_changes_nothing(server, device, root, key):
    def listen(text):
        if "health check for" in text:
            server.kill_connections()

    result = flash(device, package(), key=key, health=Health(seconds=2.0), log=listen)
    assert result["outcome"] == "serving"


def test_stage_now_activate_later_and_go_back(device, root, key):
    first = flash(device, package(), key=key, health=HEALTH)["release"]
    staged = flash(device, package(serial=2, bundle=b"another"), key=key, activate=False)
    assert (staged["outcome"], serving(root)) == ("staged", first)
    second = commands.activate(device, DeployOptions(health=HEALTH))
    assert (second["outcome"], second["release"]) == ("serving", staged["release"])
    back = commands.rollback(device, DeployOptions(health=HEALTH))
    assert (back["outcome"], serving(root)) == ("serving", first)


def test_an_older_release_needs_to_be_allowed(device, root, key):
    flash(device, package(serial=9), key=key, health=HEALTH)
    old = package(serial=3, bundle=b"an old one")
    with pytest.raises(BadInput, match="--allow-downgrade"):
        flash(device, old, key=key, health=HEALTH)
    done = flash(device, old, key=key, health=HEALTH, allow_downgrade=True)
    assert serving(root) == done["release"]


def test_a_serving_bundle_can_be_read_back(device, root, key, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    content = os.urandom((2 << 20) + 17)
    flash(device, package(bundle=content), key=key, health=HEALTH)
    (held,) = json.loads(look(device)[1].manifest)["bundles"]
    words = (held["name"], held["sha256"], held["size"])
    path = read_back(device, *words)
    assert (path.name, path.read_bytes()) == ("motion.edgevid", content)
    path.write_bytes(b"spoilt")
    assert read_back(device, *words).read_bytes() == content


# ---------------------------------------------------------------- carried by hand


def carry(file, root, *words) -> subprocess.CompletedProcess[str]:
    """Run the file on the device, whose sessions over SSH are over."""
    command = ["sh", file, "--root", root, "--health-s", "1", *words]
    clean = {"PATH": PATH, "HOME": str(root.parent)}
    return subprocess.run([*map(str, command)], capture_output=True, text=True, env=clean)


def test_an_archive_does_what_a_flash_does(device, root, key, tmp_path):
    file = tmp_path / "good.sh"
    release = archive.write(file, package(), key, "a test")
    checked = carry(file, root, "--check")
    assert (checked.returncode, root.exists()) == (0, False), checked.stderr
    done = carry(file, root)
    assert done.returncode == 0, done.stderr
    assert f"release {release} serves" in done.stderr
    assert serving(root) == release
    again = carry(file, root)
    assert "nothing was restarted" in again.stderr
    assert flash(device, package(serial=2), key=key)["outcome"] == "unchanged"
    assert archive.write(tmp_path / "same.sh", package(), key, "a test") == release
    assert (tmp_path / "same.sh").read_bytes()[:1000] == file.read_bytes()[:1000]


def test_an_archive_with_an_unhealthy_release_leaves_the_device_as_it_was(
    device, root, key, tmp_path
):
    good = flash(device, package(), key=key, health=HEALTH)["release"]
    device.close()
    file = tmp_path / "sick.sh"
    archive.write(file, package(serial=2, sick={"dies_s": 0.5, "exit": 7}), key, "a test")
    done = carry(file, root)
    assert done.returncode == 1, done.stderr
    assert "was rolled back: serve: the service ended with exit code 7" in done.stderr
    assert "last words" in done.stderr
    assert serving(root) == good


def test_an_archive_with_another_signature_or_a_flipped_byte_is_refused(
    device, root, key, tmp_path
):
    good = flash(device, package(), key=key, health=HEALTH)["release"]
    device.close()
    stranger = keys.load(make_key(tmp_path / "stranger"))
    file = tmp_path / "stranger.sh"
    archive.write(file, package(serial=2), stranger, "a test")
    done = carry(file, root)
    assert (done.returncode, "signed by another key" in done.stderr) == (2, True), done.stderr
    archive.write(file, package(serial=2, bundle=b"b" * 5000), key, "a test")
    content = bytearray(file.read_bytes())
    content[content.index(b"b" * 5000) + 99] ^= 1
    file.write_bytes(content)
    done = carry(file, root)
    assert done.returncode == 2, done.stderr
    assert "damaged" in done.stderr
    assert serving(root) == good
