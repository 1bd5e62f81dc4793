import os
import socket
import threading
import time

import pytest

from edgevid.runner.notify import READY, RELOADING, notify, watchdog_s
from rigs.processes import wait_for


@pytest.fixture(params=["file", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """The socket of a service manager, in either kind of name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        if request.param == "file":
            name = address = str(tmp_path / "notify")
        else:
            name, address = f"@edgevid-{os.getpid()}", f"\0edgevid-{os.getpid()}"
        channel.bind(address)
        channel.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield channel


def test_a_message_is_one_datagram(manager):
    notify(READY)
    notify("STATUS=3 cameras, grün")
    assert manager.recv(4096) == b"READY=1"
    assert manager.recv(4096) == "STATUS=3 cameras, grün".encode()


def test_reloading_carries_its_moment(manager):
    before = time.monotonic_ns() // 1000
    notify(RELOADING)
    word, _, moment = manager.recv(4096).decode().partition("\n")
    assert word == "RELOADING=1"
    name, _, microseconds = moment.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) <= time.monotonic_ns() // 1000


def test_a_manager_that_does_not_read_is_not_waited_for(manager):
    def flood():
        for _ in range(2000):  # more than any queue of the kernel holds
            notify("WATCHDOG=1")

    flooding = threading.Thread(target=flood, daemon=True)
    flooding.start()
    wait_for(lambda: not flooding.is_alive())  # nobody has read anything by then
    assert manager.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize("name", [None, "", "/nowhere/notify", "@nobody-here", "vsock:2:1"])
def test_without_systemd_nothing_happens(name, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if name is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", name)
    notify(READY)


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [
        ("3000000", None, 1.5),
        ("3000000", os.getpid(), 1.5),
        ("3000000", os.getpid() + 1, None),
        ("0", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
    ids=["any", "us", "another", "never", "no number", "unset"],
)
def test_the_watchdog_is_fed_at_half_its_time(microseconds, pid, seconds, monkeypatch):
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, str(value))
    assert watchdog_s() == seconds
