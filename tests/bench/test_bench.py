"""The whole of it, with real processes; no test asserts that anything is fast."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jsonschema
import pytest

from edgevid import bench, documents, runtimes
from edgevid import bundle as bundles
from edgevid.bench import BenchPlan, jobs_of, measurement
from edgevid.bench import plan as plans
from edgevid.bench import synthetic_video as scenes
from edgevid.bench.samples import unpack
from edgevid.bench.warmup import WarmUp
from edgevid.bundle import Bundle
from edgevid.cli.bench import command, text
from edgevid.documents import to_json
from edgevid.errors import BadInput, CheckFailed, EnvironmentFailed, MissingExtra
from edgevid.media.video import open_file
from edgevid.runner.engines import Choice
from rigs.benches import read
from rigs.bundles import write_null
from rigs.processes import alive, children, wait_for

NULL = Choice("null-float32", "null", "cpu")
SHORT = BenchPlan(rounds=2, samples=100, seconds=0.0, starts=0)


@pytest.fixture
def quiet(monkeypatch):
    """A machine on which nothing disturbs, and nothing has to warm up."""
    monkeypatch.setattr("edgevid.bench.interference.disturbances", lambda record: [])
    monkeypatch.setattr("edgevid.bench.figures.warm_up", lambda samples: WarmUp(0, True))
    monkeypatch.setattr(bench, "BenchPlan", partial(BenchPlan, starts=1))


def measured(path, video, *scenarios, plan=SHORT, choice=NULL, **options):
    bundle = Bundle.open(path)
    jobs = jobs_of(bundle, [choice], scenarios, **options)
    return to_json(bench.bench(bundle, jobs, video, plan=plan))


@pytest.fixture(scope="module")
def slow(tmp_path_factory, video):
    """What an engine of 20 ms a step gives in all closed scenarios."""
    path = write_null(tmp_path_factory.mktemp("slow") / "slow.edgevid", latency_ms=20)
    plan = BenchPlan(rounds=2, samples=100, seconds=0.0, starts=1)
    with pytest.MonkeyPatch.context() as patch:  # a busy machine may never seem warm
        patch.setattr("edgevid.bench.figures.warm_up", lambda samples: WarmUp(0, True))
        document = measured(path, video, "step", "single", "offline", plan=plan)
    return {one["job"]["scenario"]: one for one in document["results"]}, document


@pytest.fixture
def without_openvino(monkeypatch):
    """A machine on which only other runtimes are installed."""
    spec = runtimes.find_spec
    monkeypatch.setattr(runtimes, "find_spec", lambda n: None if n == "openvino" else spec(n))


def test_what_is_not_installed_is_left_out_and_told(
    quiet, without_openvino, null_bundle, video, tmp_path, capsys
):
    held = Bundle.open(null_bundle)
    (artifact,) = held.artifacts
    other = replace(artifact, name="openvino-float32", format="openvino", members={})
    files = {"xml": b"<net/>", "bin": b""}
    path = tmp_path / "two.edgevid"
    pairs = [(artifact, held.files(artifact)), (other, files)]
    golden = {
        name.removeprefix("golden/"): held.member(name)
        for name in held.names
        if name.startswith("golden/")
    }
    bundles.write(path, held.contract, pairs, golden, {})
    words = [str(path), "--source", str(video), "--scenario", "step", "--rounds", "2", "--json"]
    command.main(words, standalone_mode=False)
    output = capsys.readouterr()
    artifacts = {one["job"]["artifact"] for one in json.loads(output.out)["results"]}
    assert artifacts == {"null-float32"}
    assert "openvino-float32 in openvino on cpu is left out: runtime openvino is not" in output.err
    with pytest.raises(MissingExtra, match=r"edgevid\[openvino\]"):
        command.main([*words, "--artifact", "openvino-float32"], standalone_mode=False)


def test_a_slow_engine_is_measured_as_slow(slow):
    results, _ = slow
    assert results["step"]["step_ms"]["p50"]["value"] >= 20
    assert results["single"]["latency_ms"]["p50"]["value"] >= 20
    for name in ("single", "offline"):
        assert results[name]["stages_ms"]["step"] >= 20
        assert results[name]["fps"]["value"] <= 50
    assert results["single"]["stages_ms"]["task"] < 20


def test_the_document_says_what_was_measured_where(slow, video):
    _, document = slow
    assert document["format"] == 1
    assert document["machine"]["cpu"]
    assert document["source"]["name"] == video.name
    assert document["source"]["size"] == [64, 96]
    assert document["source"]["rate_fps"] == 16
    assert len(document["source"]["sha256"]) == len(document["bundle"]["key"]) == 64
    assert document["harness"]["overhead_us"]["p50"] > 0
    for one in document["results"]:
        assert one["precision"] == "float32"
        assert one["peak_rss_mb"] > 10
        assert len(one["first_answer_s"]) == 1
        assert one["first_answer_s"][0] >= one["ready_s"][0] > 0
        assert one["timeline"]
        assert one["operators"]["on_cpu"] == 1
    assert json.loads(json.dumps(document)) == document
    jsonschema.validate(document, documents.published("bench"))


def test_its_figures_can_be_had_again_from_its_samples(slow):
    results, _ = slow
    one = results["single"]
    assert len(one["rounds"]) == 2
    latencies = [s for r in one["rounds"] for s in unpack(r["samples"]["latency"])]
    assert len(latencies) >= 100
    steady = sorted(latencies[one["warm_up"]["samples"] :])
    median = steady[(len(steady) + 1) // 2 - 1]
    assert one["latency_ms"]["p50"]["value"] == pytest.approx(1000 * median, rel=1e-3)
    assert one["latency_ms"]["p99"] == {"insufficient": 662}


def test_the_stages_sum_is_the_wall_time(slow):
    results, _ = slow
    one = results["single"]
    assert sum(one["stages_ms"].values()) == pytest.approx(one["latency_ms"]["mean"]["value"], 0.01)
    added = sum(one["stages_ms"][name] for name in ("task", "sink", "rest"))
    assert one["runner_ms"]["mean"]["value"] == pytest.approx(added, rel=0.01)
    for played in one["rounds"]:
        wall_s = sum(unpack(played["samples"]["latency"]))
        assert 0.9 * played["elapsed_s"] <= wall_s <= 1.001 * played["elapsed_s"]


def test_rounds_are_interleaved(slow):
    results, _ = slow
    began = {
        (name, turn): one["started_unix_s"]
        for name in results
        for turn, one in enumerate(results[name]["rounds"])
    }
    order = [("step", 0), ("single", 0), ("offline", 0), ("step", 1), ("single", 1), ("offline", 1)]
    assert sorted(began, key=began.__getitem__) == order


def test_a_sustained_job_is_measured_in_one_go(monkeypatch, null_bundle, video):
    monkeypatch.setattr(plans, "SUSTAINED_ROUND_S", 0.3)
    plan = BenchPlan(starts=0, sustained_s=0.9)
    found = measured(null_bundle, video, "step", "single", plan=plan)["results"]
    began = [[one["started_unix_s"] for one in result["rounds"]] for result in found]
    assert [len(one) for one in began] == [3, 3]
    assert max(began[0]) < min(began[1])
    for one in found:
        assert sum(r["elapsed_s"] for r in one["rounds"]) >= 0.5  # files are opened in between
        assert one["sustained"]["ratio"] > 0
        assert len(one["sustained"]["rounds_ms"]) == 3


def test_deadlines_are_counted_from_the_schedule(make_null_bundle, video):
    late = make_null_bundle("late.edgevid", latency_ms=30)
    plan = BenchPlan(rounds=2, samples=60, seconds=0.0, starts=0)
    document = measured(late, video, "paced", plan=plan, rate_fps=25, latency_ms=25)
    (found,) = document["results"]
    reported = found["deadlines"]
    assert reported["bound_ms"] == 25
    assert reported["missed"] == reported["of"] > 0  # a step alone takes longer
    assert found["job"]["rate_fps"] == 25
    assert found["fps"]["value"] <= 26
    assert "within ms" in _text(document)


def test_how_many_streams_are_held(make_null_bundle, video):
    path = make_null_bundle(latency_ms=25)
    plan = BenchPlan(rounds=2, samples=30, seconds=0.5, starts=0)
    document = measured(path, video, "multi", plan=plan, rate_fps=10, latency_ms=200)
    (found,) = document["results"]
    assert len(found["streams"]["rounds"]) == 2
    assert 0 <= found["streams"]["high"] <= 4  # 40 steps a second are four cameras of 10
    assert "streams" in _text(document)


def _text(document):
    (result,) = read(document)
    return text(result)


def test_a_measuring_process_that_fails_is_reported(make_null_bundle, video):
    path = make_null_bundle(faults=[{"at": 30, "kind": "error"}])
    with pytest.raises(EnvironmentFailed, match="failed on schedule"):
        measured(path, video, "single")
    assert not children()


def test_a_measuring_process_that_crashes_is_reported(make_null_bundle, video):
    path = make_null_bundle(faults=[{"at": 30, "kind": "abort"}])
    with pytest.raises(EnvironmentFailed, match=r"measuring null-float32 .* SIGABRT"):
        measured(path, video, "step")
    assert not children()


def test_a_measuring_process_that_hangs_is_reported(monkeypatch, make_null_bundle, video):
    monkeypatch.setattr(measurement, "SLOW_S", 3.0)
    path = make_null_bundle(faults=[{"at": 30, "kind": "hang"}])
    with pytest.raises(EnvironmentFailed, match="did not respond within 3 s"):
        measured(path, video, "step")
    assert not children()


def test_an_engine_that_does_not_open_leaves_no_process(make_null_bundle, video):
    path = make_null_bundle(on="null", faults=[{"at": -1, "kind": "abort"}])
    with pytest.raises(EnvironmentFailed, match="SIGABRT"):
        measured(path, video, "step", choice=Choice("null-float32", "null", "null"))
    assert not children()


def test_a_lying_engine_is_not_measured(make_null_bundle, video):
    path = make_null_bundle(faults=[{"at": 1, "kind": "wrong"}])
    with pytest.raises(CheckFailed, match="did not pass its proof"):
        measured(path, video, "step")


def test_nothing_is_valid_on_a_disturbed_machine(monkeypatch, quiet, null_bundle, video):
    document = measured(null_bundle, video, "step")
    assert document["valid"]
    assert document["reasons"] == []

    def judge(record):
        assert {span.label for span in record.spans} == {"0:0", "0:1"}
        return ["it was hot"]

    monkeypatch.setattr("edgevid.bench.interference.disturbances", judge)
    document = measured(null_bundle, video, "step")
    assert not document["valid"]
    assert document["reasons"] == ["null-float32 in null on cpu, step: it was hot"]
    assert _text(document).endswith("INVALID:\n  null-float32 in null on cpu, step: it was hot")


def test_what_never_became_steady_is_invalid(monkeypatch, quiet, null_bundle, video):
    monkeypatch.setattr("edgevid.bench.figures.warm_up", lambda samples: WarmUp(9, False))
    document = measured(null_bundle, video, "step")
    assert "never became steady" in document["reasons"][0]
    assert document["results"][0]["warm_up"]["found"] is False


def test_another_engine_than_the_one_asked_for_is_invalid(monkeypatch, quiet, null_bundle, video):
    asked = measurement.JsonRpcProcess.call

    def call(self, request, timeout_s):
        answer = asked(self, request, timeout_s)
        if request["do"] == "open":
            answer["serving"]["accelerator"] = "other"
        return answer

    monkeypatch.setattr(measurement.JsonRpcProcess, "call", call)
    (reason,) = measured(null_bundle, video, "step")["reasons"]
    assert reason.endswith("null-float32 null cpu was requested, but null-float32 null other ran")


def run_command(capsys, *words):
    code = command.main([*map(str, words)], standalone_mode=False)
    return code, capsys.readouterr()


def test_the_exit_code_is_that_of_the_verdict(monkeypatch, quiet, capsys, null_bundle, video):
    words = (null_bundle, "--source", video, "--scenario", "step", "--samples", 100, "--rounds", 2)
    code, output = run_command(capsys, *words)
    assert code == 0
    assert output.out.endswith("VALID\n")
    assert "null-float32" in output.out
    monkeypatch.setattr("edgevid.bench.interference.disturbances", lambda record: ["it was hot"])
    code, output = run_command(capsys, *words, "--json")
    assert code == 3
    assert json.loads(output.out)["valid"] is False


def test_the_whole_result_is_kept(quiet, capsys, tmp_path, null_bundle, video):
    out = tmp_path / "result.json"
    words = ("--scenario", "step", "--samples", 100, "--rounds", 2, "--out", out)
    code, output = run_command(capsys, null_bundle, "--source", video, *words)
    assert code == 0
    (found,) = json.loads(out.read_bytes())["results"]
    assert sum(one["samples"]["step"]["count"] for one in found["rounds"]) >= 100
    assert f"written: {out}" in output.err


def test_a_slower_artifact_is_worse_than_its_baseline(quiet, capsys, tmp_path, video):
    short = ("--scenario", "step", "--samples", 160, "--rounds", 8)

    def measure(latency_ms, out, *more):
        path = write_null(tmp_path / "one.edgevid", latency_ms=latency_ms)
        words = (path, "--source", video, *short, "--out", tmp_path / out, *more)
        return run_command(capsys, *words)

    measure(4, "old.json")
    code, output = measure(8, "new.json", "--baseline", tmp_path / "old.json", "--json")
    assert code == 1
    assert json.loads(output.out)["comparison"]["outcome"] == "worse"
    code, output = run_command(capsys, "compare", tmp_path / "old.json", tmp_path / "new.json")
    assert code == 1
    assert output.out.endswith("WORSE\n")
    code, output = run_command(capsys, "compare", tmp_path / "new.json", tmp_path / "old.json")
    assert code == 0
    assert output.out.endswith("BETTER\n")
    # What was not valid decides nothing.
    document = json.loads((tmp_path / "new.json").read_bytes())
    document["results"][0] |= {"valid": False, "reasons": ["it was hot"]}
    (tmp_path / "hot.json").write_text(json.dumps(document))
    code, output = run_command(capsys, "compare", tmp_path / "old.json", tmp_path / "hot.json")
    assert code == 3
    assert "it was hot" in output.out


def test_only_results_are_compared(edgevid, tmp_path):
    (tmp_path / "list.json").write_text("[]")
    for file in (tmp_path / "list.json", tmp_path / "none.json"):
        done = edgevid("bench", "compare", file, file)
        assert done.returncode == 2
        assert "give a file that --out wrote" in done.stderr


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--scenario", "singel"), "did you mean single"),
        (("--sustained", "fast"), "is not a duration"),
        (("--accelerator", "tpu"), "unknown accelerator"),
    ],
)
def test_wrong_use_is_reported(edgevid, null_bundle, video, words, error):
    done = edgevid("bench", null_bundle, "--source", video, *words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert re.search(error, done.stderr)


def test_nothing_to_measure_is_wrong_use(null_bundle, video):
    with pytest.raises(BadInput, match="nothing to measure"):
        bench.bench(Bundle.open(null_bundle), [], video)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_bench_leaves_no_process(make_null_bundle, video, number):
    path = make_null_bundle(latency_ms=20)
    words = ("bench", path, "--source", video, "--scenario", "single", "--samples", "100000")
    parent = subprocess.Popen(
        [sys.executable, "-m", "edgevid", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    found: set[int] = set()
    while parent.stderr is not None and "single" not in parent.stderr.readline():
        pass  # until it measures
    listed = wait_for(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text)
    found |= {int(word) for word in listed.split()}
    assert found
    os.kill(parent.pid, number)
    parent.communicate(timeout=20)
    assert parent.returncode == (-9 if number == signal.SIGKILL else 130)
    wait_for(lambda: not any(map(alive, found)))


def test_the_synthetic_video_is_made_once(monkeypatch):
    monkeypatch.setattr(scenes, "FRAMES", 5)
    path = scenes.synthetic_video()
    with open_file(str(path)) as source:
        assert source.size == (720, 1280)
        assert sum(1 for _ in source) == 5
    before = path.stat().st_mtime_ns
    assert scenes.synthetic_video().stat().st_mtime_ns == before
