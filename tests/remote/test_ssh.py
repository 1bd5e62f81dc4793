"""The client against a real OpenSSH server: what works, and what each fault is called."""

import os
import shlex
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from edgevid.errors import BadInput, DeviceFailed
from edgevid.remote import Address, Remote
from edgevid.remote.ssh import explain
from rigs.proxy import Proxy
from rigs.sshd import free_port, make_key, sshd

PATIENCE_S = 30


def fault_of(remote: Remote, command: str = "echo hello") -> DeviceFailed:
    with remote, pytest.raises(DeviceFailed) as caught:
        remote.open(command).readline(PATIENCE_S)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("pi", Address("pi")),
        ("me@pi", Address("pi", "me")),
        ("me@10.0.0.5:2222", Address("10.0.0.5", "me", 2222)),
        ("me@[fe80::1%eth0]:22", Address("fe80::1%eth0", "me", 22)),
    ],
)
def test_an_address_is_read_and_written(text, address):
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["", "-oProxyCommand=x", "me@-x", "-l@pi", "pi:", "pi:0", "pi:99999", "a b", "me@", "fe80::1"],
)
def test_an_invalid_address_is_refused(text):
    with pytest.raises(BadInput, match="is not an address"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("fe80::1", "[fe80::1]"),
        ("pi@2001:db8::7", "pi@[2001:db8::7]"),
        ("me@fe80::1%eth0", "me@[fe80::1%eth0]"),
    ],
)
def test_an_ipv6_address_without_brackets_is_refused_with_the_right_form(text, remedy):
    with pytest.raises(BadInput, match="write the IPv6 address in brackets: ") as caught:
        Address.parse(text)
    assert str(caught.value).endswith(f": {remedy}")
    assert str(Address.parse(remedy)) == remedy


@pytest.mark.parametrize(
    ("address", "said", "says"),
    [
        (Address("pi", "me", 2222), "Permission denied", "run: ssh-copy-id -p 2222 me@pi "),
        (Address("fe80::1", "me"), "Permission denied", "run: ssh-copy-id me@fe80::1 "),
        (Address("pi", port=22), "Too many authentication failures", "as key in the inventory"),
        (Address("::1", port=2222), "REVOKED HOST KEY", "ssh-keygen -R '[::1]:2222'"),
        (Address("pi", "me", 2222), "something else", "try: ssh -p 2222 me@pi"),
        (Address("gate"), "No RSA host key is known for gate and you", "ssh-keyscan gate |"),
    ],
)
def test_a_remedy_names_user_port_and_host_as_the_program_takes_them(address, said, says):
    assert says in str(explain(address, 255, said))


def test_the_remedy_for_an_unknown_host_key_finds_the_key(device):
    device.known_hosts.unlink()
    text = str(fault_of(device.remote()))
    scan = shlex.split(text.partition("with: ")[2].partition(" |")[0])
    done = subprocess.run(scan, capture_output=True, text=True, check=True)
    kind, key = device.host_key.with_suffix(".pub").read_text().split()[:2]
    assert f"{kind} {key}" in done.stdout


def test_bytes_go_there_and_back_unchanged(device):
    content = os.urandom(3 << 20)
    with device.remote() as remote:
        session = remote.open("exec cat")
        reader = threading.Thread(target=session.write, args=(content, PATIENCE_S))
        reader.start()
        assert session.read(len(content), PATIENCE_S) == content
        reader.join()
        assert session.sent_bytes == session.received_bytes == len(content)
        assert session.close() == 0


def test_a_command_that_fails_is_reported_with_its_last_line(device):
    fault = fault_of(device.remote(), "echo first >&2; echo what it was >&2; exit 3")
    assert fault.kind == "ended"
    assert "exit code 3: what it was" in str(fault)


def test_an_unknown_host_key_needs_to_be_trusted_and_is_then_known(device):
    device.known_hosts.unlink()
    fault = fault_of(device.remote())
    assert fault.kind == "host-key-unknown"
    assert "--trust-new" in str(fault)
    assert not device.known_hosts.exists()
    for trust_new in (True, False):
        with device.remote(trust_new=trust_new) as remote:
            assert remote.open("echo hello").readline(PATIENCE_S) == b"hello\n"


@pytest.mark.parametrize("trust_new", [True, False])
def test_a_changed_host_key_is_always_rejected(device, trust_new):
    before = device.known_hosts.read_bytes()
    device.new_host_key()
    fault = fault_of(device.remote(trust_new=trust_new))
    assert fault.kind == "host-key-changed"
    assert "another machine answers" in str(fault)
    remedy = shlex.split(str(fault).partition("with: ")[2])
    assert remedy[:2] == ["ssh-keygen", "-f"]
    assert remedy[2] == str(device.known_hosts)
    assert device.known_hosts.read_bytes() == before


def test_a_wrong_key_is_reported_without_asking_for_a_password(device, tmp_path):
    wrong = make_key(tmp_path / "wrong")
    remote = device.remote()
    remote.address = Address("127.0.0.1", device.user, device.port, key=wrong)
    began = time.monotonic()
    fault = fault_of(remote)
    assert fault.kind == "denied"
    assert "ssh-copy-id" in str(fault)
    assert time.monotonic() - began < PATIENCE_S


def test_a_missing_key_is_reported_before_connecting(device, tmp_path):
    remote = device.remote()
    remote.address = Address("device", key=tmp_path / "gone")
    with pytest.raises(BadInput, match="no such key"):
        remote.open("true")


def test_a_key_that_others_can_read_is_reported(device):
    device.key.chmod(0o644)
    fault = fault_of(device.remote())
    assert fault.kind == "denied"
    assert "chmod 600" in str(fault)


def test_a_closed_port_is_reported(device):
    fault = fault_of(device.remote(port=free_port()))
    assert fault.kind == "refused"


def test_an_unknown_host_name_is_reported(device):
    remote = device.remote()
    remote.address = Address("no-such-host.invalid")
    assert fault_of(remote).kind == "unreachable"


def test_a_silent_port_times_out(device):
    with socket.socket() as dumb:
        dumb.bind(("127.0.0.1", 0))
        dumb.listen()
        port = dumb.getsockname()[1]
        fault = fault_of(device.remote(port=port, timeout_s=1))
    assert fault.kind == "unreachable"


def test_the_users_configuration_applies_but_not_its_unsafe_settings(device):
    config = device.folder / "client"
    harm = "StrictHostKeyChecking no\nLogLevel QUIET\nRemoteCommand false\nBatchMode no\n"
    config.write_text(harm + config.read_text())
    with device.remote() as remote:
        assert remote.open("echo hello").readline(PATIENCE_S) == b"hello\n"
    device.new_host_key()
    assert fault_of(device.remote()).kind == "host-key-changed"


def test_a_jump_host_of_the_users_configuration_is_used(device, tmp_path):
    with sshd(tmp_path) as hop:
        (hop.folder / "authorized_keys").write_text(device.key.with_suffix(".pub").read_text())
        way = f"""
Host device
  ProxyJump hop
Host hop
  HostName 127.0.0.1
  Port {hop.port}
  IdentityFile {device.key}
  UserKnownHostsFile {hop.known_hosts}
"""
        config = device.folder / "client"
        config.write_text(way + config.read_text())
        with device.remote() as remote:
            assert remote.open("echo hello").readline(PATIENCE_S) == b"hello\n"
        hop.stop()
        assert isinstance(fault_of(device.remote()), DeviceFailed)


def test_a_configuration_that_ssh_rejects_is_reported(device):
    (device.folder / "client").write_text("NoSuchOption yes\n")
    fault = fault_of(device.remote())
    assert fault.kind == "configuration"
    assert "bad configuration option" in str(fault).lower()


def test_a_killed_server_is_a_lost_connection(device):
    with device.remote() as remote:
        session = remote.open("echo hello; exec sleep 60")
        assert session.readline(PATIENCE_S) == b"hello\n"
        device.kill_connections()
        with pytest.raises(DeviceFailed) as caught:
            session.readline(PATIENCE_S)
    assert caught.value.kind == "lost"


def test_a_silent_link_times_out(device):
    proxy = Proxy(device.port)
    try:
        device.know(proxy.port)
        with device.remote(port=proxy.port) as remote:
            session = remote.open("echo hello; exec sleep 60")
            assert session.readline(PATIENCE_S) == b"hello\n"
            proxy.freeze()
            with pytest.raises(DeviceFailed, match="was silent for 1 s") as caught:
                session.readline(1)
            assert caught.value.kind == "lost"
    finally:
        proxy.close()


def test_a_session_leaves_no_process_behind(device):
    remote = device.remote()
    session = remote.open("echo $$; exec cat")
    pid = int(session.readline(PATIENCE_S))
    assert Path(f"/proc/{pid}").exists()
    remote.close()
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
