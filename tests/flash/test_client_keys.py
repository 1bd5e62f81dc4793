"""The signing key: made once, shown, and used by OpenSSH's own tools."""

import json
import os
import stat
import subprocess

import pytest

from edgevid.errors import BadInput
from edgevid.flash import keys
from edgevid.flash.agent import trust
from rigs.sshd import make_key

pytestmark = [pytest.mark.one_process("crontab"), pytest.mark.starts(1)]


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path / "config" / "edgevid"


def verifies(key: keys.SigningKey, content: bytes, signature: bytes, folder) -> bool:
    """Ask ssh-keygen, as a device does."""
    (folder / "signers").write_bytes(trust.signers(key.public))
    (folder / "signature").write_bytes(signature)
    names = ["-I", "edgevid", "-n", "edgevid-release"]
    files = ["-f", folder / "signers", "-s", folder / "signature"]
    command = ["ssh-keygen", "-Y", "verify", *names, *files]
    return subprocess.run(command, input=content, capture_output=True).returncode == 0


def test_the_key_is_made_once_and_readable_for_its_owner_only(edgevid, config):
    none = edgevid("keys")
    assert none.returncode == 2
    assert none.stderr.endswith("create it with: edgevid keys --create\n")
    assert not (config / "signing-key").exists()  # showing it makes none
    words = [("--create",), ()]
    shown = [json.loads(edgevid("keys", *word, "--json").stdout) for word in words]
    assert [one.pop("made") for one in shown] == [True, False]
    assert shown[0] == shown[1]
    assert shown[0]["public"].startswith("ssh-ed25519 ")
    assert stat.S_IMODE((config / "signing-key").stat().st_mode) == 0o600
    assert sorted(file.name for file in config.iterdir()) == ["signing-key", "signing-key.pub"]


def test_concurrent_processes_agree_on_one_key(config):
    import sys

    command = [sys.executable, "-m", "edgevid", "keys", "--create", "--json"]
    all_of_them = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    told = {json.loads(one.communicate()[0])["public"] for one in all_of_them}
    assert len(told) == 1
    assert keys.load(config / "signing-key").public in told


def test_a_signature_fits_one_content_and_one_key(config, tmp_path):
    key, _ = keys.own_key()
    other = keys.load(make_key(tmp_path / "other"))
    signature = key.sign(b"manifest", "edgevid-release")
    assert verifies(key, b"manifest", signature, tmp_path)
    assert not verifies(key, b"Manifest", signature, tmp_path)
    assert not verifies(other, b"manifest", signature, tmp_path)


def test_a_users_own_key_works_without_its_public_file(config, tmp_path):
    path = make_key(tmp_path / "mine")
    public = keys.load(path).public
    path.with_suffix(".pub").unlink()
    key = keys.load(path)
    assert key.public == public
    assert verifies(key, b"manifest", key.sign(b"manifest", "edgevid-release"), tmp_path)


def test_a_passphrase_is_never_asked_for_and_the_ssh_agent_is_used(config, tmp_path, monkeypatch):
    path = make_key(tmp_path / "locked", passphrase="open sesame")
    with pytest.raises(BadInput, match=f"put it into your agent: ssh-add {path}"):
        keys.load(path).sign(b"manifest", "edgevid-release")
    ask = tmp_path / "ask"
    ask.write_text("#!/bin/sh\necho open sesame\n")
    ask.chmod(0o700)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    command = ["ssh-agent", "-D", "-a", str(tmp_path / "agent")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as agent:
        try:
            agent.stdout.readline()
            asking = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
            subprocess.run(["ssh-add", "-q", path], env=asking, check=True)
            key = keys.load(path)
            assert verifies(key, b"manifest", key.sign(b"manifest", "edgevid-release"), tmp_path)
        finally:
            agent.terminate()


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no such key"), ("nonsense\n", "make one with: edgevid keys --create")],
)
def test_an_invalid_key_gives_one_line(edgevid, config, tmp_path, content, says):
    path = tmp_path / "mine"
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    done = edgevid("keys", "--key", path)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
