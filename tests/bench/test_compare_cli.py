"""What is worse, what is not, and what cannot be compared: by the command line's own words."""

import json
from dataclasses import replace
from functools import partial

import pytest

from edgevid import bench
from edgevid.bench import BenchPlan, jobs_of
from edgevid.bench.warmup import WarmUp
from edgevid.bundle import Bundle
from edgevid.cli.bench import command
from edgevid.documents import to_json
from edgevid.runner.engines import Choice
from rigs.bundles import write_null

NULL = Choice("null-float32", "null", "cpu")
SHORT = ("--scenario", "step", "--samples", 400, "--rounds", 8)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """A machine on which nothing disturbs, and nothing has to warm up."""
    monkeypatch.setattr("edgevid.bench.interference.disturbances", lambda record: [])
    monkeypatch.setattr("edgevid.bench.figures.warm_up", lambda samples: WarmUp(0, True))
    monkeypatch.setattr(bench, "BenchPlan", partial(BenchPlan, seconds=0.0, starts=1))


@pytest.fixture
def call(capsys):
    def call(*words):
        code = command.main([*map(str, words)], standalone_mode=False)
        return code, capsys.readouterr()

    return call


@pytest.fixture
def bundles(tmp_path):
    """The same model, as it was and twice as slow."""
    return [
        write_null(tmp_path / f"{name}.edgevid", latency_ms=latency_ms)
        for name, latency_ms in (("quick", 4), ("slow", 8))
    ]


def test_two_bundles_are_measured_in_turn_and_compared(call, bundles, video, tmp_path):
    quick, slow = bundles
    out = tmp_path / "output.json"
    code, output = call("compare", quick, slow, "--source", video, *SHORT, "--out", out)
    assert code == 1
    assert output.out.endswith("WORSE\n")
    assert "takes longer: +" in output.out
    kept = json.loads(out.read_bytes())
    assert kept["outcome"] == "worse"
    assert kept["paired"] is True
    assert [kept[name]["bundle"]["name"] for name in ("old", "new")] == ["quick", "slow"]
    code, output = call("compare", slow, quick, "--source", video, *SHORT, "--json")
    assert code == 0
    found = json.loads(output.out)
    assert found["outcome"] == "better"
    middle = next(one for one in found["comparisons"] if one["metric"] == "step p50")
    ratio = middle["verdict"]["ratio"]
    assert ratio["low"] <= ratio["value"] <= ratio["high"] < 1


def test_neighbours_take_turns_in_being_the_first(bundles, video):
    sides = [(one, jobs_of(one, [NULL], ["step"])) for one in map(Bundle.open, bundles)]
    plan = BenchPlan(rounds=3, samples=100, seconds=0.0, starts=1)
    documents = [to_json(one) for one in bench.together(sides, video, plan=plan)]
    began = [
        (played["started_unix_s"], document["bundle"]["name"])
        for document in documents
        for played in document["results"][0]["rounds"]
    ]
    order = [name for _, name in sorted(began)]
    assert order == ["quick", "slow", "slow", "quick", "quick", "slow"]
    for document in documents:
        (found,) = document["results"]
        assert {look["label"].partition(":")[2] for look in found["timeline"]} <= {"0", "1", "2"}
        assert found["timeline"]


def test_a_bundle_beside_itself_is_two(bundles, video):
    one = Bundle.open(bundles[0])
    sides = [(one, jobs_of(one, [NULL], ["step"]))] * 2
    plan = BenchPlan(rounds=2, samples=100, seconds=0.0, starts=1)
    documents = [to_json(one) for one in bench.together(sides, video, plan=plan)]
    assert [len(d["results"][0]["rounds"]) for d in documents] == [2, 2]


def test_a_bundle_may_be_the_baseline(call, bundles, video):
    quick, slow = bundles
    code, output = call(slow, "--baseline", quick, "--source", video, *SHORT, "--json")
    assert code == 1
    document = json.loads(output.out)
    assert document["bundle"]["name"] == "slow"
    assert document["comparison"]["paired"] is True
    assert document["comparison"]["outcome"] == "worse"


def test_jobs_that_differ_are_rejected_before_anything_is_measured(edgevid, tmp_path, contract):
    other = replace(contract, rate_fps=8.0)
    one, two = (
        write_null(tmp_path / name, rate)
        for name, rate in (("a.edgevid", contract), ("b.edgevid", other))
    )
    done = edgevid("bench", "compare", one, two)
    assert done.returncode == 2
    assert "differ in job.latency_ms" in done.stderr or "differ in job.rate_fps" in done.stderr
    assert "bench:" not in done.stderr


def test_only_two_of_a_kind_are_compared(edgevid, null_bundle, tmp_path):
    result = tmp_path / "result.json"
    result.write_text("{}")
    for words in ((null_bundle, result), (result, null_bundle)):
        done = edgevid("bench", "compare", *words)
        assert done.returncode == 2
        assert "is a bundle and" in done.stderr
    done = edgevid("bench", "compare", result, result, "--rounds", "5")
    assert done.returncode == 2
    assert "--rounds is for bundles" in done.stderr
    done = edgevid("bench", "compare", tmp_path / "none.edgevid", null_bundle)
    assert done.returncode == 2
    assert "does not exist" in done.stderr


@pytest.fixture
def result(call, bundles, video, tmp_path):
    out = tmp_path / "result.json"
    call(bundles[0], "--source", video, *SHORT, "--out", out)
    return out


def test_what_differs_is_named_and_rejected(edgevid, result, tmp_path):
    other = json.loads(result.read_bytes())
    other["machine"]["cpu"]["model"] = "another"
    (tmp_path / "other.json").write_text(json.dumps(other))
    done = edgevid("bench", "compare", result, tmp_path / "other.json", "--json")
    assert done.returncode == 2
    assert "the results differ in machine.cpu.model" in json.loads(done.stdout)["error"]
    # With itself it is compared; how surely it is no worse hangs on the machine's noise.
    assert edgevid("bench", "compare", result, result).returncode in (0, 3)


def test_two_rounds_are_inconclusive(call, bundles, video, tmp_path):
    few = ("--source", video, "--scenario", "step", "--samples", 100, "--rounds", 2)
    out = tmp_path / "few.json"
    call(bundles[0], *few, "--out", out)
    code, output = call("compare", out, out)
    assert code == 3
    assert output.out.endswith("INCONCLUSIVE\n")


def test_help_lists_every_option(edgevid):
    whole = edgevid("bench", "--help").stdout
    assert "edgevid bench compare" in whole
    assert "edgevid bench report" in whole
    assert "OLD NEW" in edgevid("bench", "compare", "--help").stdout
    assert "RESULTS" in edgevid("bench", "report", "--help").stdout
