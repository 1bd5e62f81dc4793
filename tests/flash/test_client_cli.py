"""``edgevid flash`` as a person calls it, against this machine behind a real OpenSSH."""

import json
import os
import signal
import subprocess
import sys

import pytest

from edgevid.flash.agent_client import AgentClient
from edgevid.flash.commands import uninstall
from rigs.bare_target import bare_target
from rigs.bundles import write_null
from rigs.processes import wait_for
from rigs.sshd import sshd

pytestmark = [pytest.mark.one_process("crontab"), pytest.mark.starts(1)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def own_target():
    return "bare", bare_target()


@pytest.fixture
def root(server, tmp_path):
    root = tmp_path / "device"
    yield root
    with server.remote() as remote, AgentClient(remote, str(root)) as device:
        uninstall(device)
    assert not root.exists()


@pytest.fixture
def bundle(tmp_path):
    return write_null(tmp_path / "motion.edgevid")


@pytest.fixture
def flash(server, home, root):
    """Give a function that calls the command line."""

    def call(*words, options=("--kind", "bare", "--source", "synthetic:96x64@5")):
        address = f"{server.user}@127.0.0.1:{server.port}"
        place = ("--target", address, "--root", root) if "--archive" not in words else ()
        command = [sys.executable, "-m", "edgevid", "flash", *words, *place, *options]
        command += [] if "--uninstall" in words else ["--allow-root"]
        environment = {**server.environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(
            [*map(str, command)], capture_output=True, text=True, env=environment, timeout=120
        )

    return call


def test_a_dry_run_shows_what_would_change_and_writes_nothing(flash, bundle, root):
    done = flash(bundle, "--dry-run")
    assert done.returncode == 0, done.stderr
    for text in (
        "as bare",
        "serves now   nothing",
        "adds         motion.edgevid",
        "restart      yes",
    ):
        assert text in done.stdout, done.stdout
    told = json.loads(flash(bundle, "--dry-run", "--json").stdout)
    assert told["bundles"]["added"] == ["motion.edgevid"]
    assert told["send_bytes"] > bundle.stat().st_size
    assert told["fits"] is True
    assert not root.exists()


def test_a_staged_release_does_not_serve(flash, bundle, root):
    staged = json.loads(flash(bundle, "--stage", "--json").stdout)
    assert staged["outcome"] == "staged"
    assert (root / "releases" / staged["release"] / "bundles" / "motion.edgevid").exists()
    site = (root / "releases" / staged["release"] / "site.toml").read_text()
    assert 'path = "bundles/motion.edgevid"' in site
    assert not (root / "current").exists()


def test_an_unhealthy_release_gives_one_document_and_exit_code_1(flash, bundle, root):
    done = flash(bundle, "--json", "--health-s", "1", "--p95-ms", "0.0001")
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert told["outcome"] == "rolled-back"
    assert told["reason"]["log"]
    assert f"was rolled back: {told['reason']['stage']}: " in done.stderr
    assert told["reason"]["log"][-1] in done.stderr
    assert not (root / "current").exists()


@pytest.mark.parametrize(
    ("words", "options", "says"),
    [
        ((), (), "name a bundle"),
        (("gone.edgevid",), (), "gone.edgevid: no such bundle"),
        (("--rollback", "--uninstall"), (), "cannot be combined"),
        (("--rollback", "--source", "picamera:"), (), "nothing to serve"),
        (("--archive", "x.sh", "--source", "picamera:"), (), "with --kind"),
        (("--archive", "x.sh", "--source", "picamera:", "--device", "x"), (), "fleet status"),
        (("--source", "picamera:", "--device", "0" * 32), ("--target", "x"), "is for --archive"),
        (("--revoke", "0" * 16, "--source", "picamera:"), (), "nothing to serve"),
    ],
)
def test_wrong_arguments_give_one_line(flash, root, words, options, says):
    done = flash(*words, options=options)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert len(done.stderr.splitlines()) <= 2  # the first may say that a key was made


def test_a_bundle_needs_a_camera(flash, bundle, root):
    done = flash(bundle, options=("--kind", "bare"))
    assert done.returncode == 2
    assert "add --source" in done.stderr


def test_an_unknown_and_a_changed_host_key_have_messages_of_their_own(flash, bundle, server, root):
    known = server.known_hosts.read_bytes()
    try:
        server.known_hosts.unlink()
        done = flash(bundle, "--stage")
        assert (done.returncode, "--trust-new" in done.stderr) == (4, True), done.stderr
        assert flash(bundle, "--stage", "--trust-new").returncode == 0
        kind, key = (server.folder / "user_key.pub").read_text().split()[:2]
        server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {kind} {key}\n")
        done = flash(bundle, "--stage", "--trust-new", "--json")
        assert done.returncode == 4
        assert "another machine answers" in json.loads(done.stdout)["error"]
    finally:
        server.known_hosts.write_bytes(known)


def test_an_interrupt_leaves_nothing_half_written(flash, bundle, server, root):
    environment = {**server.environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
    words = ["--target", f"{server.user}@127.0.0.1:{server.port}", "--root", root, "--stage"]
    words += ["--kind", "bare", "--source", "synthetic:96x64@5", "--limit-kbit", "400"]
    words += ["--allow-root"]
    command = [sys.executable, "-m", "edgevid", "flash", bundle, *words]
    with subprocess.Popen(
        [*map(str, command)], env=environment, stderr=subprocess.PIPE, text=True
    ) as running:
        wait_for(lambda: any(root.glob("blobs/*.part")), 60)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=30)[1]
    assert running.returncode == 130, said
    assert "Traceback" not in said
    assert not any((root / "releases").iterdir())
    done = flash(bundle, "--stage", "--json")
    assert json.loads(done.stdout)["outcome"] == "staged"


def test_everything_that_blocks_is_listed_with_its_remedy(flash, bundle, root, home):
    impossible = bare_target().replace('python = ["3.11", "3.12", "3.13"]', 'python = ["3.99"]')
    impossible = f'glibc = "9.99"\n{impossible}'
    (home / "targets" / "impossible.toml").write_text(impossible)
    done = flash(bundle, options=("--kind", "impossible", "--source", "picamera:"))
    assert done.returncode == 4, done.stderr
    assert "9.99 or newer is needed" in done.stderr
    assert "one of 3.99 is needed" in done.stderr
    assert "(and 1 more, above)" in done.stderr.splitlines()[-1]
    assert not root.exists()


def test_an_archive_is_made_without_a_device(flash, bundle, tmp_path, home):
    target = (home / "targets" / "bare.toml").read_text()
    machine = os.uname().machine
    (home / "targets" / "board.toml").write_text(target.replace('"any"', f'"{machine}"'))
    file = tmp_path / "motion.sh"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    words = ("--archive", file, "--python", version, "--json")
    done = flash(bundle, *words, options=("--kind", "board", "--source", "synthetic:96x64@5"))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["bytes"] == file.stat().st_size
    assert json.loads(done.stdout)["signature"] == f"{file}.sig"
    assert told["release"] in file.read_bytes()[:300].decode(errors="replace")
    shown = subprocess.run(["sh", file, "--help"], capture_output=True, text=True, check=True)
    assert "--stage" in shown.stdout
