"""Passwords of cameras are in no release, archive, log, status, message or command line."""

from __future__ import annotations

import hashlib
import json
import os
import select
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from edgevid.errors import BadInput
from edgevid.files import canonical_json
from edgevid.flash import archive, commands, keys, service_config
from edgevid.flash.activation import Health
from edgevid.flash.agent_client import AgentClient
from edgevid.flash.package import Package
from edgevid.flash.request import DeployOptions, DeployRequest
from edgevid.runner.config import CameraUse
from edgevid.runner.credentials import filled, login
from edgevid.sinks import Sink
from rigs.agent import HEALTH, RUNNER, Device, Fault, Key, Release, quick_folder, sha, until, wheel
from rigs.bare_target import bare_target
from rigs.devices import PACKAGES
from rigs.inside import Inside
from rigs.packages import package
from rigs.processes import wait_for
from rigs.rtsp import RtspCamera, free_port
from rigs.sshd import make_key, sshd
from rigs.systemd import machine
from rigs.videos import write_camera_video

SECRET = "geheim-4711"
URL = f"rtsp://viewer:{SECRET}@10.0.0.5/stream"
KEYS = {"door.edgevid": sha(b"a model")[:12], "motion": "a key"}
SITE = (
    f"# {json.dumps({'keys': KEYS})}\n"
    '[[camera]]\nsource = "rtsp://10.0.0.5/s"\ncredential = "door"\n'
).encode()
# Like the stand-in of the runner, and says the hash of the credential that it was given.
READER = """
import hashlib, os
path = os.path.join(os.environ["CREDENTIALS_DIRECTORY"], "door")
print("credential", hashlib.sha256(open(path, "rb").read()).hexdigest(), flush=True)
"""
TRYING = f"""{READER}
try:
    open("/opt/edgevid/credentials/door")
except OSError as error:
    print("root's file:", type(error).__name__, flush=True)
"""
READING = wheel({"edgevid/__init__.py": "", "edgevid/__main__.py": READER + RUNNER})


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def files_with(secret: str, folder: Path) -> list[Path]:
    """The files below a folder that contain the secret, or that other users can read."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and secret.encode() in path.read_bytes():
            found.append(path)
    return found


# ---------------------------------------------------------------- on the host


def test_a_url_with_a_password_becomes_a_name_in_the_configuration():
    made = service_config.from_arguments(
        [Path("m.edgevid")], [URL, "http://10.0.0.6/cam.mjpg?token=abc123"], None,
        add=False, replace=False,
    )  # fmt: skip
    data = tomllib.loads(made.text.decode())
    assert [camera["credential"] for camera in data["camera"]] == ["10.0.0.5", "10.0.0.6"]
    assert data["camera"][0]["source"] == "rtsp://10.0.0.5/stream"
    assert made.credentials["10.0.0.5"] == URL
    assert SECRET.encode() not in made.text and b"abc123" not in made.text
    assert SECRET not in repr(made)
    # The same command again gives the same release, whatever the password.
    again = service_config.from_arguments(
        [Path("m.edgevid")],
        [URL.replace(SECRET, "new"), "http://10.0.0.6/cam.mjpg?token=x"],
        None, add=False, replace=False,
    )  # fmt: skip
    assert again.text == made.text and again.credentials != made.credentials


def test_what_an_older_release_on_the_device_has_is_taken_out_too():
    before = f'[[bundle]]\npath = "bundles/m.edgevid"\n[[camera]]\nsource = "{URL}"\n'.encode()
    made = service_config.from_arguments([], [], before, add=False, replace=False)
    assert SECRET.encode() not in made.text and made.credentials == {"10.0.0.5": URL}


def test_password_files_and_sinks_of_a_configuration(tmp_path, plugin_package):
    (tmp_path / "m.edgevid").touch()
    (tmp_path / "door.password").write_text(f"{SECRET}\n")
    config = tmp_path / "site.toml"
    config.write_text(f"""
[[bundle]]
path = "m.edgevid"
[[camera]]
name = "Front door"
source = "rtsp://10.0.0.5/stream"
user = "viewer"
password_file = "door.password"
[[camera]]
name = "Front-door"
source = "{URL}"
user = "other"
""")
    made = service_config.from_config(config)
    data = tomllib.loads(made.text.decode())
    assert made.credentials["Front-door"] == SECRET
    assert made.credentials["Front-door-2"] == f"rtsp://other:{SECRET}@10.0.0.5/stream"
    assert "password_file" not in data["camera"][0] and "user" not in data["camera"][1]
    assert SECRET.encode() not in made.text


# ---------------------------------------------------------------- the runner reads them


def test_the_runner_takes_the_url_or_the_password_from_the_credential(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "url").write_text(f"{URL}\n")
    (tmp_path / "word").write_text(SECRET)
    camera = CameraUse("door", "rtsp://10.0.0.5/stream", credential="url")
    assert login(camera) == (URL, None)
    camera = CameraUse("door", "rtsp://10.0.0.5/stream", user="viewer", credential="word")
    assert login(camera) == ("rtsp://10.0.0.5/stream", SECRET)
    for name in ("gone", "../etc/passwd"):
        with pytest.raises(BadInput, match="camera 'door': credential"):
            login(CameraUse("door", "rtsp://10.0.0.5/stream", credential=name))


def test_a_sinks_option_may_name_a_credential(tmp_path, monkeypatch):
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Options:
        url: str
        attempts: int = 3

    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "hook-url").write_text("https://h/?token=abc\n")
    assert filled(Options("credential:hook-url")).url == "https://h/?token=abc"
    assert filled(Options("https://h/")) == Options("https://h/")
    assert filled(Sink.Options) is Sink.Options


# ---------------------------------------------------------------- on the device


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return Key(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def device(key):
    with quick_folder() as folder:
        device = Device(folder / "r", key)
        yield device
        if device.root.exists():
            device.ask("uninstall")
        assert not device.root.exists()


def send(session, secret: str, name: object = "door") -> dict:
    content = secret.encode()
    return session.ask("credential", content, name=name, sha256=sha(content))


def flash(device, serial: int, secret: str | None) -> dict:
    release = Release(serial, site=SITE, wheels={"edgevid-1-py3-none-any.whl": READING})
    with device.session() as session:
        staged = device.stage(session, release)
        if secret is not None:
            send(session, secret)
        begun = session.ask("activate", id=staged["release"], health=HEALTH)
        if not begun["started"]:
            return begun
        return {**begun, **session.ask("watch", activation=begun["activation"])}


@pytest.mark.one_process("crontab")
def test_a_device_keeps_a_secret_beside_its_releases(device):
    assert flash(device, 1, SECRET)["healthy"]
    folder = device.root / "credentials"
    held = folder / "door"
    until(lambda: digest(SECRET) in (device.root / "state" / "service.log").read_text())
    assert files_with(SECRET, device.root) == [held]
    assert stat.S_IMODE(held.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o711
    for verb in ("status", "history", "probe"):
        assert SECRET not in json.dumps(device.ask(verb))


@pytest.mark.one_process("crontab")
def test_a_new_password_alone_restarts_the_service_and_nothing_else(device):
    first = flash(device, 1, SECRET)
    assert first["started"] and not flash(device, 1, SECRET)["started"]
    second = flash(device, 1, "another-0815")
    assert second["started"] and second["healthy"] and second["release"] == first["release"]
    log = device.root / "state" / "service.log"
    until(lambda: digest("another-0815") in log.read_text())
    assert not flash(device, 1, "another-0815")["started"]
    assert not files_with(SECRET, device.root)


@pytest.mark.one_process("crontab")
def test_a_release_whose_secret_is_missing_does_not_begin_and_leaves_with_it(device):
    with pytest.raises(Fault, match="the credential door is not on this device"):
        flash(device, 1, None)
    assert device.current() is None
    assert flash(device, 1, SECRET)["healthy"]
    # No release names it any more: it goes, with the second release after it.
    assert device.flash(Release(2))["healthy"] and device.flash(Release(3))["healthy"]
    until(lambda: not (device.root / "credentials" / "door").exists())


@pytest.mark.parametrize("name", ["", ".hidden", "../door", "a/b", "x" * 65, 5])
def test_a_credentials_name_cannot_be_a_path(device, name):
    with device.session() as session:
        session.ask("session")
        with pytest.raises(Fault, match="no usable name"):
            send(session, "x", name)


def naming() -> Package:
    """A package whose configuration names a credential, and whose runner reads it."""
    plain = package(READING)
    manifest = json.loads(plain.manifest)
    blobs = {name: blob for name, blob in plain.blobs.items() if name != manifest["site"]["sha256"]}
    manifest["site"] = {"sha256": sha(SITE), "size": len(SITE)}
    return Package(canonical_json(manifest), {**blobs, sha(SITE): SITE})


@pytest.mark.one_process("crontab")
def test_flash_over_ssh_sends_the_secret_beside_the_package(tmp_path):
    """And nothing that either side writes or prints contains it."""
    signing, made = keys.load(make_key(tmp_path / "signing")), naming()
    said: list[str] = []
    options = DeployOptions(key=signing, health=Health(seconds=1.0), log=said.append)
    root = tmp_path / "device"
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    with (
        sshd(tmp_path, path=path) as server,
        server.remote() as remote,
        AgentClient(remote, str(root)) as device,
    ):
        try:
            first = commands.flash(device, made, options, None, {"door": SECRET})
            again = commands.flash(device, made, options, None, {"door": SECRET})
            other = commands.flash(device, made, options, None, {"door": "new-0815"})
            held = files_with("new-0815", root)
        finally:
            commands.uninstall(device)
    assert (first["outcome"], again["restarted"], other["restarted"]) == ("serving", False, True)
    assert held == [root / "credentials" / "door"]
    assert not root.exists()
    assert SECRET not in json.dumps([first, again, other]) + "".join(said)


# ---------------------------------------------------------------- the list of processes


def command_lines() -> str:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(lines)


def test_a_password_on_the_command_line_is_hidden(make_null_bundle, tmp_path):
    """In this process and in all that it starts; with a warning of one line."""
    secret = f"geheim-{os.getpid()}-{time.time_ns()}"
    url = f"rtsp://viewer:{secret}@127.0.0.1:{free_port()}/s"
    errors = tmp_path / "stderr"
    command = [sys.executable, "-m", "edgevid", "run", str(make_null_bundle()), url]
    with errors.open("wb") as file:
        child = subprocess.Popen(command, stderr=file, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: "refused" in errors.read_text(), 30)
        assert secret not in command_lines()
        assert "rtsp://127.0.0.1" in Path(f"/proc/{child.pid}/cmdline").read_text()
    finally:
        child.terminate()
        child.wait()
    said = errors.read_text()
    assert secret not in said
    assert said.count("a secret on the command line is in the shell's history") == 1


# ---------------------------------------------------------------- under systemd


@pytest.mark.one_process("crontab")
@pytest.mark.starts(1)
def test_systemd_hands_the_secret_to_a_service_that_cannot_read_the_file(key):
    with machine(PACKAGES, bare=True) as made:
        device = Inside(made, "/opt/edgevid", key)
        version = "import sys;print('%d.%d' % sys.version_info[:2])"
        python = made.run("python3", "-c", version).stdout.strip()
        runner = wheel({"edgevid/__init__.py": "", "edgevid/__main__.py": TRYING + RUNNER})
        release = Release(1, site=SITE, wheels={"edgevid-1-py3-none-any.whl": runner})
        release.data["python"] = python
        with device.session() as session:
            device.stage(session, release)
            send(session, SECRET)
            begun = session.ask("activate", id=release.id, health={"seconds": 1.5, "start_s": 30.0})
            done = session.ask("watch", activation=begun["activation"])
        assert done["healthy"], done
        said = made.journal("edgevid")
        assert f"credential {digest(SECRET)}" in said and "root's file: PermissionError" in said
        assert SECRET not in said
        held = files_with(SECRET, made.root / "opt/edgevid")
        assert held == [made.root / "opt/edgevid/credentials/door"]
        unit = (made.root / "etc/systemd/system/edgevid.service").read_text()
        assert "LoadCredential=door:/opt/edgevid/credentials/door" in unit
        with device.session() as session:
            session.ask("session")
            assert send(session, "new-0815")["changed"]
            begun = session.ask("activate", id=release.id, health={"seconds": 1.5, "start_s": 30.0})
            assert begun["started"]
            assert session.ask("watch", activation=begun["activation"])["healthy"]
        until(lambda: digest("new-0815") in made.journal("edgevid"))
        device.ask("uninstall")
        assert not (made.root / "opt/edgevid").exists()


# ---------------------------------------------------------------- the whole way


@pytest.fixture
def own_target():
    return "bare", bare_target(memory_mb=16)


@pytest.mark.one_process("crontab")
@pytest.mark.starts(1)
def test_the_command_flash_writes_a_password_nowhere_else(tmp_path, home, make_null_bundle):
    """Its device has no library to serve with, so a deployment fails, and its secret goes."""
    root, bundle = tmp_path / "device", make_null_bundle()
    with sshd(tmp_path) as server:

        def flash(*more: str) -> subprocess.CompletedProcess:
            place = ("--target", f"{server.user}@127.0.0.1:{server.port}", "--root", str(root))
            command = [sys.executable, "-m", "edgevid", "flash", *place, *more]
            path = {"PYTHONPATH": os.pathsep.join(sys.path)}
            return subprocess.run(
                command,
                capture_output=True,
                text=True,
                env={**server.environment(), **path},
                timeout=120,
            )

        try:
            serve = (str(bundle), "--source", URL, "--kind", "bare", "--allow-root")
            told = [flash(*serve, "--dry-run"), flash(*serve, "--stage", "--json")]
            assert told[1].returncode == 0, told[1].stderr
            release = json.loads(told[1].stdout)["release"]
            site = (root / "releases" / release / "site.toml").read_text()
            assert 'credential = "10.0.0.5"' in site
            assert files_with(SECRET, root) == [root / "credentials" / "10.0.0.5"]
            told.append(flash(*serve, "--health-s", "1"))
            assert "was rolled back" in told[2].stderr
            assert not files_with(SECRET, root)
        finally:
            flash("--uninstall")
    assert not files_with(SECRET, tmp_path), "the host kept it"
    assert SECRET not in "".join(done.stdout + done.stderr for done in told)


def test_a_camera_opens_with_a_credential_and_no_trace_of_it(tmp_path, make_null_bundle):
    """A real camera asks for it; configuration, status, results and messages are searched."""
    film = write_camera_video(tmp_path / "film.mp4", seconds=30, fps=10)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    folder = tmp_path / "service"
    folder.mkdir()
    with RtspCamera(user="viewer", password=SECRET, film=film) as camera:
        (secrets / "door").write_text(camera.url("film", login=f"viewer:{SECRET}@"))
        (folder / "site.toml").write_text(f"""
output = "results.jsonl"
status = "status"
[[bundle]]
path = "{make_null_bundle()}"
[[camera]]
source = "{camera.url("film")}"
credential = "door"
""")
        command = [sys.executable, "-m", "edgevid", "run", "--config", str(folder / "site.toml")]
        environment = {**os.environ, "CREDENTIALS_DIRECTORY": str(secrets)}
        with (folder / "log").open("wb") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            results = folder / "results.jsonl"
            wait_for(lambda: results.exists() and results.read_text().count("\n") > 3, 60)
            assert SECRET not in Path(f"/proc/{child.pid}/cmdline").read_text()
        finally:
            child.terminate()
            child.wait()
    assert (folder / "status" / "status.json").exists()
    assert not files_with(SECRET, folder)
    assert "asks for the password in plain text" in (folder / "log").read_text()


def test_a_sinks_url_with_a_token_becomes_a_name():
    data = {"camera": [], "sink": [{"kind": "webhook", "url": "https://h/?token=abc123"}]}
    assert service_config._take_secrets(data) == {"webhook-url": "https://h/?token=abc123"}
    assert data["sink"][0]["url"] == "credential:webhook-url"


@pytest.mark.one_process("crontab")
def test_an_archive_carries_no_password_and_asks_for_it(tmp_path, home, make_null_bundle):
    machine = os.uname().machine
    target = bare_target(architecture=machine, memory_mb=16)
    (home / "targets" / "board.toml").write_text(target)
    signing, said = keys.load(make_key(tmp_path / "signing")), []
    options = DeployOptions(key=signing, log=said.append)
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    request = DeployRequest((make_null_bundle(),), (URL,), None, False, False, "board", ())
    archive.make(tmp_path / "whole.sh", request, options, python)
    assert "the installation asks for: 10.0.0.5" in "".join(said)
    assert not files_with(SECRET, tmp_path)

    file = tmp_path / "x.sh"
    archive.write(file, naming(), signing, "a test")
    with quick_folder() as folder:
        root = folder / "device"
        command = ["sh", str(file), "--root", str(root), "--health-s", "1"]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        path = root / "credentials" / "door"
        assert done.returncode == 2 and f"write it to {path} (mode 0600)" in done.stderr
        ours, theirs = os.openpty()
        said_file = tmp_path / "said"  # not a pipe, which the service would keep open
        with said_file.open("wb") as held:
            asked = subprocess.Popen(command, stdin=theirs, stderr=held, start_new_session=True)
        shown = b""
        while b"whole URL: " not in shown:
            assert select.select([ours], [], [], 30)[0], said_file.read_text()
            shown += os.read(ours, 100)
        os.write(ours, f"{SECRET}\n".encode())
        asked.wait(60)
        errors = said_file.read_text()
        os.close(theirs)
        os.close(ours)
        assert asked.returncode == 0, errors
        assert path.read_text() == SECRET and stat.S_IMODE(path.stat().st_mode) == 0o600
        assert SECRET not in errors
        Device(root, None).ask("uninstall")
