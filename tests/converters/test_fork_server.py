"""The server that children are forked from: nothing that a child does reaches the next one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from edgevid.isolation.sandbox import LIMITS_ONLY
from edgevid_converters import child_process
from edgevid_converters.child_process import needs_tensorflow, served
from edgevid_converters.fork_server import ForkServer, ServerLost

PACKAGE = "rigs.fork_tasks"
LIMITS = {"timeout_s": 60, "logs": "/nonexistent"}


@pytest.fixture(scope="module")
def server():
    made = ForkServer([PACKAGE], {})
    yield made
    made.close()
    made.close()


def task(do: str, **more) -> dict:
    return {"do": do, **LIMITS, **more}


def echo(server: ForkServer, value: object) -> dict:
    return server.run(task("echo", value=value), 60, LIMITS_ONLY).result()


def gone(pid: int) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_each_task_gets_a_process_of_its_own(server):
    first, second = echo(server, "ä"), echo(server, [1, None])
    assert (first["value"], second["value"]) == ("ä", [1, None])
    assert len({first["pid"], second["pid"], first["parent"], os.getpid()}) == 4
    assert first["parent"] == second["parent"]
    assert gone(first["pid"]) and gone(second["pid"])


def test_a_crash_is_told_and_the_next_task_works(server):
    outcome = server.run(task("abort"), 60, LIMITS_ONLY)
    assert outcome.returncode == -signal.SIGABRT and outcome.result() is None
    outcome = server.run(task("no such task"), 60, LIMITS_ONLY)
    assert outcome.returncode == 1 and b"KeyError: 'no such task'" in outcome.stderr
    assert echo(server, 1)["value"] == 1


def test_a_task_that_hangs_is_killed_at_its_limit(server, tmp_path):
    file = tmp_path / "pid"
    outcome = server.run(task("sleep", file=str(file)), 3, LIMITS_ONLY)
    assert outcome.returncode is None
    assert gone(int(file.read_text()))
    assert echo(server, 2)["value"] == 2


def test_an_interrupt_kills_the_child_and_the_server(tmp_path):
    def interrupt(*_):
        if file.exists() and file.read_text():
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    file = tmp_path / "pid"
    made = ForkServer([PACKAGE], {})
    old = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            made.run(task("sleep", file=str(file)), 60, LIMITS_ONLY)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert gone(int(file.read_text()))
    with pytest.raises((ServerLost, ValueError)):
        echo(made, 3)


def test_with_a_second_thread_it_refuses_to_fork():
    made = ForkServer([PACKAGE], {"FORK_TASKS_THREAD": "1"})
    try:
        with pytest.raises(ServerLost, match="more than one thread"):
            echo(made, 1)
    finally:
        made.close()


def test_without_a_server_a_task_gets_a_fresh_process(monkeypatch):
    """A server that is lost costs an import, not the conversion."""
    fresh = []

    def run_child(module, asked, timeout_s, sandbox, env):
        fresh.append(asked["do"])

    class Lost:
        def __init__(self, *_):
            pass

        def run(self, *_):
            raise ServerLost("it has ended")

        def close(self):
            pass

    monkeypatch.setattr(child_process, "ForkServer", Lost)
    monkeypatch.setattr(child_process, "run_child", run_child)
    with served():
        for do in ("convert", "layer_errors"):
            child_process._run({"do": do, "format": "tflite"}, 1.0, LIMITS_ONLY)
    assert fresh == ["convert", "layer_errors"]


@pytest.mark.parametrize(
    ("asked", "needed"),
    [
        ({"format": "tflite"}, True),
        ({"format": "openvino"}, False),
        ({"kind": "run"}, True),
        ({"kind": "keras"}, True),
        ({"kind": "onnx"}, False),
        ({"kind": "onnx", "forms": ["onnx", "saved_model"]}, True),
        ({"kind": "tflite", "forms": ["tflite"]}, False),
    ],
)
def test_only_tasks_that_need_tensorflow_come_from_the_server(asked, needed):
    assert needs_tensorflow(asked) is needed
