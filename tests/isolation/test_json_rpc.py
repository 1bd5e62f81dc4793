"""A child process that answers many requests, and how its failures are reported."""

import os
import signal

import pytest

from edgevid.errors import BadVideo, EnvironmentFailed
from edgevid.isolation.json_rpc import JsonRpcProcess
from edgevid.isolation.sandbox import LIMITS_ONLY
from rigs.processes import alive, children, descriptors, wait_for

SERVER = """
import os, subprocess, sys, time
from edgevid import errors
from edgevid.isolation.json_rpc import serve_json_rpc

def handle(request):
    what = request["do"]
    if what == "print":
        print("noise"); os.write(1, b"more noise")
    if what == "hang":
        time.sleep(100)
    if what == "die":
        print("last words", file=sys.stderr, flush=True); os._exit(7)
    if what == "raise":
        raise errors.BadVideo("not this one")
    if what == "start":
        return {"pid": subprocess.Popen(["sleep", "100"]).pid}
    if what == "nonsense":
        return ["no", "table"]
    return {"got": what, "size": len(request.get("much", ""))}

serve_json_rpc(handle)
"""


@pytest.fixture
def rpc(tmp_path, monkeypatch):
    (tmp_path / "server.py").write_text(SERVER)
    monkeypatch.syspath_prepend(str(tmp_path))
    with JsonRpcProcess("server", "the server", LIMITS_ONLY) as opened:
        yield opened


def test_one_process_answers_many_requests(rpc):
    assert [rpc.call({"do": name}, 20)["got"] for name in ("a", "print", "b")] == [
        *("a", "print", "b")
    ]
    assert rpc.call({"do": "long", "much": "x" * 1_000_000}, 20)["size"] == 1_000_000


def test_an_error_raised_on_purpose_reaches_the_parent_and_the_child_lives_on(rpc):
    with pytest.raises(BadVideo, match="not this one"):
        rpc.call({"do": "raise"}, 20)
    assert rpc.call({"do": "a"}, 20)["got"] == "a"


def test_a_dead_child_is_reported_with_its_last_line(rpc):
    with pytest.raises(EnvironmentFailed, match=r"server failed with exit code 7 \(last words\)"):
        rpc.call({"do": "die"}, 20)
    with pytest.raises(EnvironmentFailed):
        rpc.call({"do": "a"}, 20)


def test_a_hanging_child_is_killed_in_time_with_everything_it_started(rpc):
    started = rpc.call({"do": "start"}, 20)["pid"]
    with pytest.raises(EnvironmentFailed, match=r"did not respond within 0\.3 s"):
        rpc.call({"do": "hang"}, 0.3)
    wait_for(lambda: not alive(started))
    wait_for(lambda: not alive(rpc.pid))


def test_a_response_that_is_no_table_is_an_error(rpc):
    with pytest.raises(EnvironmentFailed, match="without a readable reply"):
        rpc.call({"do": "nonsense"}, 20)


def test_a_killed_child_is_reported(rpc):
    rpc.call({"do": "a"}, 20)
    os.kill(rpc.pid, signal.SIGKILL)
    with pytest.raises(EnvironmentFailed, match="SIGKILL"):
        rpc.call({"do": "a"}, 20)


def test_interrupts_are_left_to_the_parent(rpc):
    rpc.call({"do": "a"}, 20)
    os.kill(rpc.pid, signal.SIGINT)
    assert rpc.call({"do": "b"}, 20)["got"] == "b"


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    (tmp_path / "server.py").write_text(SERVER)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = descriptors(), set(children())
    with JsonRpcProcess("server", "the server", LIMITS_ONLY) as opened:
        started = opened.call({"do": "start"}, 20)["pid"]
    assert (descriptors(), set(children())) == before
    wait_for(lambda: not alive(started))
