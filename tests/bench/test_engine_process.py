"""The process that measures one engine."""

import subprocess
import sys

import pytest

from edgevid.bench.job import Job
from edgevid.bench.samples import unpack
from edgevid.errors import BadInput, EngineFailed
from edgevid.isolation.json_rpc import JsonRpcProcess
from edgevid.isolation.sandbox import LIMITS_ONLY
from rigs.processes import alive, wait_for

MODULE = "edgevid.bench.engine_process"
STEP = Job("null-float32", "null", "cpu", "step")


@pytest.fixture
def measuring(null_bundle, video):
    with JsonRpcProcess(MODULE, "measuring", LIMITS_ONLY) as opened:
        request = {"do": "open", "bundle": str(null_bundle), "video": str(video)}
        opened.told = opened.call({**request, "job": STEP.to_json()}, 60)
        yield opened


def test_it_says_what_serves(measuring):
    assert measuring.told["serving"] == {
        "artifact": "null-float32",
        "runtime": "null",
        "accelerator": "cpu",
    }
    assert measuring.told["precision"] == "float32"
    assert measuring.told["pids"] == [measuring.pid]
    first = measuring.call({"do": "first", "job": STEP.to_json()}, 60)["first_answer_s"]
    assert 0 < measuring.told["ready_s"] < first < 60


def test_its_rounds_are_its_scenarios(measuring):
    wish = {"do": "round", "job": STEP.to_json(), "seconds": 0.0, "samples": 30}
    found = measuring.call(wish, 60)
    assert len(unpack(found["samples"]["step"])) == 30
    assert found["frames"]["answered"] == 30
    again = {**wish, "job": {**STEP.to_json(), "scenario": "single"}}
    assert set(measuring.call(again, 60)["samples"]) >= {"latency", "decode", "rest"}
    assert 10 < measuring.call({"do": "end"}, 60)["peak_rss_mb"] < 1000


def test_an_accelerators_worker_is_measured_too(null_bundle, video):
    with JsonRpcProcess(MODULE, "measuring", LIMITS_ONLY) as opened:
        job = Job("null-float32", "null", "null", "step")
        request = {"do": "open", "bundle": str(null_bundle), "video": str(video)}
        told = opened.call({**request, "job": job.to_json()}, 60)
        assert told["serving"]["accelerator"] == "null"
        mine, worker = told["pids"]
        assert alive(worker)
        assert mine == opened.pid != worker
    wait_for(lambda: not alive(worker))


def test_wrong_jobs_are_said(measuring):
    wish = {"do": "round", "seconds": 0.0, "samples": 30}
    with pytest.raises(BadInput, match="did you mean step"):
        measuring.call({**wish, "job": {**STEP.to_json(), "scenario": "stepp"}}, 60)
    with pytest.raises(BadInput, match="thread"):
        measuring.call({**wish, "job": {**STEP.to_json(), "thread": 1}}, 60)


def test_an_engine_that_fails_is_said(make_null_bundle, video):
    path = make_null_bundle(faults=[{"at": 15, "kind": "error"}])
    with JsonRpcProcess(MODULE, "measuring", LIMITS_ONLY) as opened:
        request = {"do": "open", "bundle": str(path), "video": str(video)}
        opened.call({**request, "job": STEP.to_json()}, 60)
        with pytest.raises(EngineFailed, match="failed on schedule"):
            wish = {"do": "round", "job": STEP.to_json(), "seconds": 0.0, "samples": 30}
            opened.call(wish, 60)


def test_the_harness_measures_itself(null_bundle):
    with JsonRpcProcess(MODULE, "measuring", LIMITS_ONLY) as opened:
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
