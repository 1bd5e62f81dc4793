"""The best engine is found, kept for the runner, and forgotten; what is not accurate never is."""

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest

from edgevid import bundle as bundles
from edgevid import runtimes
from edgevid.bench import tune
from edgevid.bench.job import Job
from edgevid.bench.result import JobResult, RoundResult
from edgevid.bench.samples import pack
from edgevid.bundle import Artifact, Bundle
from edgevid.runner import tuned
from edgevid.runner.tuned import Tuned
from rigs.bundles import CONTRACT, golden_of, inputs_of, write_null

SHORT = ("--tune", "--rounds", 2, "--samples", 100, "--json")
PARAMETERS = {"decay": 0.5, "sharpness": 8.0}


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def several(tmp_path):
    """Give a function that writes a bundle of artifacts that behave so, in their order."""

    def write(**artifacts):
        engine = runtimes.get("null").load({"json": json.dumps(PARAMETERS).encode()}, CONTRACT)
        golden = golden_of(engine, CONTRACT, inputs_of(CONTRACT, 6))
        made = []
        for name, how in artifacts.items():
            how = dict(how)
            metric = how.pop("metric", {})
            quantize = how.pop("quantize", "float32")
            artifact = Artifact(name=name, format="null", quantize=quantize, metric=metric)
            made.append((artifact, {"json": json.dumps({**PARAMETERS, "behaviour": how}).encode()}))
        path = tmp_path / "several.edgevid"
        bundles.write(path, CONTRACT, made, golden.to_members(), {})
        return path

    return write


@pytest.fixture
def one_core():
    """So that there is only one number of threads to try."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def served(edgevid, bundle, video, *words):
    done = edgevid("run", bundle, video, "--json", *words)
    assert done.returncode == 0, done.stderr
    (engine,) = json.loads(done.stdout)["engines"]
    return engine["serving"]["artifact"], done.stderr


def test_the_fastest_is_found_and_run_uses_it_until_it_is_forgotten(
    edgevid, several, video, one_core
):
    path = several(
        at_length={"latency_ms": 6}, wrong={"faults": [{"at": 0, "kind": "wrong"}]}, quick={}
    )
    assert served(edgevid, path, video)[0] == "at_length"
    done = edgevid("bench", path, *SHORT)
    assert done.returncode in (0, 3), done.stderr
    found = json.loads(done.stdout)["tuned"]
    assert found["choice"].startswith("quick in null on cpu, 1 thread")
    assert list(found["left_out"]) == ["wrong in null on cpu"]
    assert "proof fails" in found["left_out"]["wrong in null on cpu"]
    name, said = served(edgevid, path, video)
    assert name == "quick" and said.count("tuned: quick in null on cpu, 1 thread;") == 1
    assert served(edgevid, path, video, "--artifact", "at_length") == ("at_length", "")
    assert json.loads(tuned.file(Bundle.open(path)).read_text()) == found["content"]
    assert found["name"] == tuned.name(Bundle.open(path))

    done = edgevid("bench", path, "--tune", "--forget", "--json")
    assert done.returncode == 0, done.stderr
    assert served(edgevid, path, video) == ("at_length", "")


def lost(amount):
    return {"name": "accuracy", "source": 0.9, "artifact": 0.9 - amount, "n": 100}


def test_accuracy_comes_before_speed(several, video, monkeypatch):
    path = several(
        exact={"metric": lost(0.0), "latency_ms": 3},
        rough={"metric": lost(0.05)},
        unknown={"quantize": "int8"},
    )
    bundle = Bundle.open(path)
    assert tune.inaccurate(bundle, "exact", 0.01) is None
    assert "accuracy drop 0.05 exceeds the allowed 0.01" in tune.inaccurate(bundle, "rough", 0.01)
    assert tune.inaccurate(bundle, "rough", 0.06) is None
    assert "not recorded" in tune.inaccurate(bundle, "unknown", 1.0)


def result(job, seconds):
    """A job of three rounds; its other fields do not matter."""
    samples = {"step": pack([seconds] * 5)}
    rounds = tuple(RoundResult(0.0, 1.0, {"answered": 5}, samples) for _ in range(3))
    return JobResult(
        job=job,
        precision="float32",
        first_answer_s=(),
        peak_rss_mb=1.0,
        valid=True,
        reasons=(),
        rounds=rounds,
    )


def test_of_those_that_are_as_fast_the_most_accurate_with_fewest_threads_is_best(several):
    path = several(exact={"metric": lost(0.0)}, rough={"metric": lost(0.01)})
    bundle = Bundle.open(path)
    exact = Job("exact", "null", "cpu", "step", threads=2)
    one, rough = replace(exact, threads=1), replace(exact, artifact="rough")

    def best(*times):
        jobs = zip((exact, one, rough), times, strict=True)
        return tune.fastest(bundle, SimpleNamespace(results=[result(*pair) for pair in jobs]))

    assert best(0.0100, 0.0101, 0.0099) == one
    assert best(0.0100, 0.0110, 0.0099) == exact
    assert best(0.0100, 0.0102, 0.0090) == rough


def test_half_of_them_goes_on_measured_twice_as_long(monkeypatch):
    jobs = [Job(f"a{n}", "null", "cpu", "step") for n in range(10)]
    plans = []

    def bench(bundle, jobs, video, *, plan, progress):
        plans.append((len(jobs), plan.rounds))
        times = {job: 0.001 * (1 + int(job.artifact[1:])) for job in jobs}
        return SimpleNamespace(results=[result(job, times[job]) for job in jobs])

    monkeypatch.setattr(tune.bench, "bench", bench)
    found = tune.measure_finalists(None, jobs, None, tune.FINAL, lambda *_: None, lambda _: None)
    assert [one.job.artifact for one in found.results] == ["a0", "a1", "a2"]
    assert plans == [(10, 3), (5, 6), (3, 10)]


def test_predictions_agree_by_the_task(video, tmp_path):
    path = write_null(tmp_path / "one.edgevid")
    job = Job("null-float32", "null", "cpu", "single")
    assert tune.agreement(Bundle.open(path), job, video) > 0.9


@pytest.mark.parametrize(("shift", "agreement"), [(0.0, 1.0), (0.5, 0.0)])
def test_raw_outputs_that_differ_do_not_agree(video, tmp_path, monkeypatch, shift, agreement):
    """They have nothing but floating-point values, all of which count."""
    path = write_null(tmp_path / "raw.edgevid", replace(CONTRACT, task="raw", labels=()))
    shifts = iter((0.0, shift))

    class Shifted:
        def __init__(self, engine):
            self.engine, self.shift = engine, next(shifts)

        def step(self, inputs, state):
            outputs, after = self.engine.step(inputs, state)
            return {name: value + self.shift for name, value in outputs.items()}, after

        def close(self):
            self.engine.close()

    opened = tune.engines.open_engine

    def open_engine(*args, **options):
        engine, choice = opened(*args, **options)
        return Shifted(engine), choice

    monkeypatch.setattr(tune.engines, "open_engine", open_engine)
    job = Job("null-float32", "null", "cpu", "single")
    assert tune.agreement(Bundle.open(path), job, video) == agreement


def test_a_choice_of_another_machine_or_a_damaged_one_is_none(several):
    path = several(quick={})
    bundle = Bundle.open(path)
    choice = Tuned("quick", "null", "cpu", 2)
    tuned.keep(bundle, choice)
    assert tuned.recall(bundle) == choice
    kept = tuned.file(bundle).read_text()
    for text in (kept.replace('"threads"', '"strings"'), kept[:40], kept.replace("null", "nill")):
        tuned.file(bundle).write_text(text)
        assert tuned.recall(bundle) is None
    changed = json.loads(kept)
    changed["identity"]["version"] = "0"
    tuned.file(bundle).write_text(json.dumps(changed))
    assert tuned.recall(bundle) is None
    assert tuned.forget(bundle) and not tuned.forget(bundle)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--forget",), "--forget needs --tune"),
        (("--tune", "--artifact", "null-float32"), "cannot be combined"),
        (("--tune", "--scenario", "multi"), "--scenario step"),
    ],
)
def test_wrong_options_are_reported(edgevid, null_bundle, words, says):
    done = edgevid("bench", null_bundle, *words)
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr
