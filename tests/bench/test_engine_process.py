"""The process that measures one engine."""

import subprocess
import sys

import pytest

from edgevid.bench.job import Job
from edgevid.bench.samples import unpack
from edgevid.errors import BadInput, EngineFailed
from edgevid.isolation.json_rpc import JsonRpcProcess
from rigs.processes import alive, wait_for

MODULE = "edgevid.bench.engine_process"
STEP = Job("null-float32", "null", "cpu", "step")

TALKER = """
import os, subprocess, sys, time
from edgevid import errors
from edgevid.isolation.json_rpc import serve_json_rpc

def give(request):
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
    if what == "babble":
        return ["no", "table"]
    return {"got": what, "size": len(request.get("much", ""))}

serve_json_rpc(give)
"""


@pytest.fixture
def talk(tmp_path, monkeypatch):
    (tmp_path / "talker.py").write_text(TALKER)
    monkeypatch.syspath_prepend(str(tmp_path))
    with JsonRpcProcess("talker", "the talker") as opened:
        yield opened


def test_it_is_asked_again_and_again(talk):
    assert [talk.call({"do": name}, 20)["got"] for name in ("a", "print", "b")] == [
        *("a", "print", "b")
    ]
    assert talk.call({"do": "long", "much": "x" * 1_000_000}, 20)["size"] == 1_000_000


def test_what_it_raises_on_purpose_is_raised_and_it_lives_on(talk):
    with pytest.raises(BadVideo, match="not this one"):
        talk.call({"do": "raise"}, 20)
    assert talk.call({"do": "a"}, 20)["got"] == "a"


def test_its_death_is_reported_with_its_last_output(talk):
    with pytest.raises(EnvironmentFailed, match=r"talker failed with exit code 7 \(last words\)"):
        talk.call({"do": "die"}, 20)
    with pytest.raises(EnvironmentFailed):
        talk.call({"do": "a"}, 20)


def test_a_hanging_one_is_killed_in_time_with_all_that_it_started(talk):
    started = talk.call({"do": "start"}, 20)["pid"]
    with pytest.raises(EnvironmentFailed, match=r"gave no answer in 0\.3 s"):
        talk.call({"do": "hang"}, 0.3)
    wait_for(lambda: not alive(started))
    wait_for(lambda: not alive(talk.pid))


def test_no_table_is_no_answer(talk):
    with pytest.raises(EnvironmentFailed, match="without a readable answer"):
        talk.call({"do": "babble"}, 20)


def test_a_killed_one_is_reported(talk):
    talk.call({"do": "a"}, 20)
    os.kill(talk.pid, signal.SIGKILL)
    with pytest.raises(EnvironmentFailed, match="SIGKILL"):
        talk.call({"do": "a"}, 20)


def test_interrupts_are_the_parents(talk):
    talk.call({"do": "a"}, 20)
    os.kill(talk.pid, signal.SIGINT)
    assert talk.call({"do": "b"}, 20)["got"] == "b"


def test_nothing_is_left_of_it(tmp_path, monkeypatch):
    (tmp_path / "talker.py").write_text(TALKER)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = descriptors(), set(children())
    with JsonRpcProcess("talker", "the talker") as opened:
        started = opened.call({"do": "start"}, 20)["pid"]
    assert (descriptors(), set(children())) == before
    wait_for(lambda: not alive(started))


# --- the one that measures ------------------------------------------------------------------------


@pytest.fixture
def measuring(null_bundle, video):
    with JsonRpcProcess(MODULE, "measuring") as opened:
        request = {"do": "open", "bundle": str(null_bundle), "video": str(video)}
        opened.reported = opened.call({**request, "job": STEP.to_json()}, 60)
        yield opened


def test_it_says_what_serves(measuring):
    assert measuring.reported["serving"] == {
        "artifact": "null-float32",
        "runtime": "null",
        "accelerator": "cpu",
    }
    assert measuring.reported["precision"] == "float32"
    assert measuring.reported["pids"] == [measuring.pid]
    first = measuring.call({"do": "first", "job": STEP.to_json()}, 60)["first_answer_s"]
    assert 0 < measuring.reported["ready_s"] < first < 60


def test_its_rounds_are_its_scenarios(measuring):
    request = {"do": "round", "job": STEP.to_json(), "seconds": 0.0, "samples": 30}
    found = measuring.call(request, 60)
    assert len(unpack(found["samples"]["step"])) == 30
    assert found["frames"]["answered"] == 30
    again = {**request, "job": {**STEP.to_json(), "scenario": "single"}}
    assert set(measuring.call(again, 60)["samples"]) >= {"latency", "decode", "rest"}
    assert 10 < measuring.call({"do": "end"}, 60)["peak_rss_mb"] < 1000


def test_an_accelerators_worker_is_measured_too(null_bundle, video):
    with JsonRpcProcess(MODULE, "measuring") as opened:
        job = Job("null-float32", "null", "null", "step")
        request = {"do": "open", "bundle": str(null_bundle), "video": str(video)}
        reported = opened.call({**request, "job": job.to_json()}, 60)
        assert reported["serving"]["accelerator"] == "null"
        mine, worker = reported["pids"]
        assert alive(worker)
        assert mine == opened.pid != worker
    wait_for(lambda: not alive(worker))


def test_wrong_jobs_are_reported(measuring):
    request = {"do": "round", "seconds": 0.0, "samples": 30}
    with pytest.raises(BadInput, match="did you mean step"):
        measuring.call({**request, "job": {**STEP.to_json(), "scenario": "stepp"}}, 60)
    with pytest.raises(BadInput, match="thread"):
        measuring.call({**request, "job": {**STEP.to_json(), "thread": 1}}, 60)


def test_an_engine_that_fails_is_reported(make_null_bundle, video):
    path = make_null_bundle(faults=[{"at": 15, "kind": "error"}])
    with JsonRpcProcess(MODULE, "measuring") as opened:
        request = {"do": "open", "bundle": str(path), "video": str(video)}
        opened.call({**request, "job": STEP.to_json()}, 60)
        with pytest.raises(EngineFailed, match="failed on schedule"):
            request = {"do": "round", "job": STEP.to_json(), "seconds": 0.0, "samples": 30}
            opened.call(request, 60)


def test_the_harness_measures_itself(null_bundle):
    with JsonRpcProcess(MODULE, "measuring") as opened:
        found = opened.call({"do": "overhead", "bundle": str(null_bundle)}, 60)["overhead_us"]
    assert 0 < found["p50"] <= found["p99"]


def test_it_imports_no_more_than_a_server(null_bundle, video):
    code = f"""
import sys
from edgevid.bench.engine_process import EngineProcess
child = EngineProcess()
job = {STEP.to_json()!r}
child.handle({{"do": "open", "bundle": {str(null_bundle)!r}, "video": {str(video)!r}, "job": job}})
child.handle({{"do": "round", "job": {{**job, "scenario": "single"}}, "seconds": 0, "samples": 5}})
heavy = {{"cv2", "openvino", "tensorflow", "matplotlib", "scipy", "ai_edge_litert"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
