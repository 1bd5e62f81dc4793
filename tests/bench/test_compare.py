import copy

import numpy as np
import pytest

from edgevid.bench import samples
from edgevid.bench.host import compare as comparing
from edgevid.bench.host.compare import judge, overall
from edgevid.bench.host.compare_table import compare_table
from edgevid.bench.host.pairing import pairs
from edgevid.bench.result import (
    BenchComparison,
    ComparisonVerdict,
    FigureComparison,
    read_result,
)
from edgevid.bench.statistics import Estimate
from edgevid.documents import to_json
from edgevid.errors import BadInput
from rigs import traces

ROUNDS, LENGTH, MACHINES = 10, 70, 200
UNPAIRED = {"like the one before", "spikes", "rounds of their own", "drift", "two speeds, short"}


@pytest.fixture(scope="module")
def machines():
    rng = np.random.default_rng(0)
    return traces.machines(rng, MACHINES, 2 * ROUNDS * LENGTH, LENGTH)


def pack(seconds):
    return to_json(samples.pack(seconds))


def compare(old, new, **how):
    return comparing.compare(
        read_result(old, "the old result"), read_result(new, "the new result"), **how
    )


def outcomes(factors, slower=1.0, percentile=50, paired=False):
    a, b = traces.interleaved(factors, LENGTH, percentile)
    return [judge(x, slower * y, paired=paired).outcome for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("paired", [False, True], ids=["unpaired", "paired"])
@pytest.mark.parametrize("percentile", [50, 95])
def test_the_same_against_the_same_is_no_alarm(machines, percentile, paired):
    for name, factors in machines.items():
        found = outcomes(factors, percentile=percentile, paired=paired)
        alarms = found.count("worse") + found.count("better")
        assert alarms <= 0.05 * MACHINES, name


@pytest.mark.parametrize("paired", [False, True], ids=["unpaired", "paired"])
def test_a_tenth_slower_is_caught(machines, paired):
    for name, factors in machines.items():
        if paired or name in UNPAIRED:
            assert outcomes(factors, 1.1, paired=paired).count("worse") >= 0.95 * MACHINES, name
            assert outcomes(factors, 1 / 1.1, paired=paired).count("better") >= 0.93 * MACHINES


def test_rounds_next_to_each_other_are_compared_with_each_other(machines):
    """A machine that changes its speed in the middle hides from a test that ignores the time."""
    factors = machines["two speeds, long"]
    unpaired = outcomes(factors, 1.1).count("worse")
    assert outcomes(factors, 1.1, paired=True).count("worse") > unpaired + 0.1 * MACHINES


def spread(value, by=0.004):
    return [value * (1 + by * one) for one in (-1, 1, -0.5, 0.5, 0, 0.2, -0.2, 0.8, -0.8, 0.1)]


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(
    ("b", "outcome"),
    [
        (1.0, "no worse"),
        (1.02, "no worse"),  # sure, and too small to matter
        (1.05, "worse"),
        (0.98, "no worse"),
        (0.9, "better"),
    ],
)
def test_a_difference_has_to_be_sure_and_to_matter(b, outcome, paired):
    found = judge(spread(1), spread(b), paired=paired)
    assert found.outcome == outcome
    assert found.ratio.low <= found.ratio.value <= found.ratio.high
    assert found.ratio.value == pytest.approx(b, rel=0.005)


def test_noise_that_could_hide_a_difference_is_inconclusive():
    found = judge(spread(1, 0.2), spread(1.01, 0.2))
    assert found.outcome == "inconclusive"
    assert "measure more rounds" in found.why


def test_a_least_effect_can_be_asked_for():
    assert judge(spread(1), spread(1.05), least_effect=0.1).outcome == "no worse"
    assert judge(spread(1), spread(1.02), least_effect=0.01).outcome == "worse"


def test_too_few_rounds_are_never_enough():
    found = judge([1.0, 1.0], [2.0, 2.0])
    assert found.outcome == "inconclusive"
    assert found.ratio.value == 2
    assert "2 and 2 rounds are too few" in found.why
    assert judge([1, 1.01, 1.02], [2, 2.01, 2.02]).outcome == "inconclusive"  # p = 0.1


@pytest.mark.parametrize("rounds", [[], [0.0, 1.0], [-1.0]])
def test_a_value_that_is_not_positive_is_rejected(rounds):
    with pytest.raises(ValueError, match="above 0"):
        judge(rounds, [1.0])


# Documents.

JOB = {
    "artifact": "tflite-int8",
    "runtime": "tflite",
    "accelerator": "cpu",
    "scenario": "single",
    "threads": 1,
    "decoder": "software",
    "skip_loop_filter": False,
}


def result(seconds=0.004, seed=0, **job):
    """A result as a bench writes it, with ten rounds of a hundred samples."""
    rng, job = np.random.default_rng(seed), {**JOB, **job}
    name = "step" if job["scenario"] == "step" else "latency"
    rounds = [
        {
            "started_unix_s": float(at),
            "elapsed_s": 1.0,
            "frames": {"captured": 100, "answered": 100, "dropped": 0, "failed": 0, "in_flight": 0},
            "streams": 4,
            "samples": {name: pack(seconds * rng.lognormal(0, 0.02, 100))},
        }
        for at in range(ROUNDS)
    ]
    warm_up = {"samples": 0, "seconds": 0.0, "found": True}
    common = {"precision": "int8", "first_answer_s": [], "peak_rss_mb": 1.0}
    verdict = {"valid": True, "reasons": []}
    return {"job": job, "rounds": rounds, "warm_up": warm_up, **common, **verdict}


def document(*results, **differences):
    machine = {
        "board": "Raspberry Pi 4 Model B Rev 1.4",
        "cpu": {"model": "Cortex-A72", "cores": 4},
        "clock": [{"cores": "0-3", "governor": "performance", "most_mhz": 1800}],
        "versions": {"edgevid": "0.1.0"},
    }
    source = {"name": "video.mp4", "rate_fps": 25.0, "codec": "h264", "sha256": "00"}
    source["size"] = [720, 1280]
    whole = {
        "format": 1,
        "edgevid": "0.1.0",
        "created_unix_s": 0.0,
        "machine": machine,
        "harness": {"overhead_us": {"p50": 1.0}},
        "valid": True,
        "reasons": [],
        "bundle": {"path": "a.edgevid", "name": "a", "key": "00"},
        "source": source,
        "results": list(results),
    }
    return {**copy.deepcopy(whole), **differences}


def verdicts(old, new, **how):
    return {(one.metric, one.verdict.outcome) for one in compare(old, new, **how)}


@pytest.mark.parametrize("paired", [False, True])
def test_documents_are_judged_by_median_and_tail(paired):
    old = document(result())
    same, slower = document(result(seed=1)), document(result(0.0044, seed=1))
    assert verdicts(old, same, paired=paired) == {
        ("latency p50", "no worse"),
        ("latency p95", "no worse"),
    }
    assert verdicts(old, slower, paired=paired) == {
        ("latency p50", "worse"),
        ("latency p95", "worse"),
    }
    found = compare(old, slower)[0]
    assert found.job == "tflite-int8 in tflite on cpu, single"
    assert found.verdict.ratio.value == pytest.approx(1.1, rel=0.01)
    assert overall(compare(old, same)) == "no worse"
    assert overall(compare(old, slower)) == "worse"


def test_a_tail_that_grew_is_worse_though_the_median_is_not():
    stopped = result(seed=1)
    for one in stopped["rounds"]:
        samples = np.full(100, 0.004)
        samples[::15] = 0.076  # a quota that runs out
        one["samples"]["latency"] = pack(samples)
    found = compare(document(result()), document(stopped))
    assert {one.metric: one.verdict.outcome for one in found}["latency p95"] == "worse"
    assert overall(found) == "worse"


def test_what_may_differ_may():
    old, new = document(result()), document(result(seed=1, artifact="ov-int8", runtime="openvino"))
    new["machine"]["versions"]["edgevid"] = "0.2.0"
    new["bundle"]["key"] = "other"
    new["source"]["name"] = "elsewhere.mp4"
    assert overall(compare(old, new)) == "no worse"


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("machine.board", lambda d: d["machine"].update(board="Raspberry Pi 5")),
        ("machine.cpu.cores", lambda d: d["machine"]["cpu"].update(cores=2)),
        (
            "machine.clock[0].governor",
            lambda d: d["machine"]["clock"][0].update(governor="powersave"),
        ),
        ("machine.cgroup_cpu_limit", lambda d: d["machine"].update(cgroup_cpu_limit=0.5)),
        ("source.sha256", lambda d: d["source"].update(sha256="01")),
        ("job.threads", lambda d: d["results"][0]["job"].update(threads=2)),
        ("job.accelerator", lambda d: d["results"][0]["job"].update(accelerator="gpu")),
        ("job.skip_loop_filter", lambda d: d["results"][0]["job"].update(skip_loop_filter=True)),
        ("scenario", lambda d: d["results"][0]["job"].update(scenario="paced")),
        ("scenario or artifact", lambda d: d["results"].append(result(scenario="step"))),
    ],
)
def test_what_must_be_alike_is_named(field, change):
    new = document(result())
    change(new)
    with pytest.raises(BadInput) as refused:
        compare(document(result()), new)
    assert f"differ in {field}" in str(refused.value)
    assert "measure both under the same conditions" in str(refused.value)


def test_jobs_find_each_other_in_any_order():
    kinds = [(0.001, "step", "a"), (0.004, "single", "a"), (0.008, "single", "b")]
    jobs = [result(seconds, scenario=name, artifact=one) for seconds, name, one in kinds]
    found = compare(document(*jobs), document(*reversed(jobs)))
    assert len(found) == 6
    assert {one.verdict.ratio.value for one in found} == {1.0}
    assert {one.metric for one in found if "step" in one.job} == {"step p50", "step p95"}


def test_many_jobs_make_a_chance_find_unsure_and_a_real_one_not():
    """Of twenty figures one may differ by chance; a paired test has to stay able to tell."""
    levels = [1, 1.1, 1.02, 1.12, 1.04, 1.14, 1.06, 1.16, 1.08, 1.18]
    later = [one + 0.085 for one in levels]

    def made(of, **job):
        one = result(**job)
        for level, done in zip(of, one["rounds"], strict=True):
            done["samples"]["latency"] = pack([0.004 * level] * 100)
        return one

    others = [made(levels, artifact=f"other-{at}") for at in range(9)]
    old, new = document(made(levels)), document(made(later))
    assert 0.001 < compare(old, new)[0].verdict.p_value < 0.01
    assert ("latency p50", "worse") in verdicts(old, new)
    many_old, many_new = document(made(levels), *others), document(made(later), *others)
    assert ("latency p50", "worse") not in verdicts(many_old, many_new)
    assert ("latency p50", "worse") in verdicts(many_old, many_new, paired=True)


def test_throughput_and_dropped_frames_count():
    offline, paced = result(scenario="offline"), result(scenario="paced")
    slow, dropping = copy.deepcopy(offline), copy.deepcopy(paced)
    for at, one in enumerate(slow["rounds"]):
        one["elapsed_s"] = 1.2 + 0.001 * at
    for at, one in enumerate(dropping["rounds"]):
        one["frames"] |= {"answered": 80 - at % 3, "dropped": 15, "failed": 5 + at % 3}
    found = verdicts(document(offline, paced), document(slow, dropping))
    assert ("time a frame", "worse") in found
    assert ("frames an answer", "worse") in found
    assert ("latency p50", "no worse") in found
    assert ("frames an answer", "no worse") in verdicts(document(paced), document(paced))
    for one in dropping["rounds"]:
        one["frames"] |= {"captured": 104, "answered": 100, "dropped": 0, "failed": 0}
        one["frames"] |= {"in_flight": 4}  # on its way when the round ended
    assert ("frames an answer", "no worse") in verdicts(document(paced), document(dropping))
    offline["rounds"][0]["frames"]["answered"] = 0
    assert compare(document(offline), document(offline))


def test_fewer_streams_are_worse():
    old, new = result(scenario="multi"), result(scenario="multi")
    for one in new["rounds"]:
        one["streams"] = 3
    assert verdicts(document(old), document(new)) == {("engines a stream", "worse")}
    assert verdicts(document(old), document(old)) == {("engines a stream", "no worse")}
    new["rounds"][0]["streams"] = 0
    assert verdicts(document(old), document(new)) == {("engines a stream", "worse")}


def test_the_warm_up_is_left_out_frame_by_frame():
    old, new = result(), result(seed=1)
    slow = np.full(100, 0.04)
    slow[60:] = 0.004
    new["rounds"][0]["samples"]["latency"] = pack(np.full(100, 0.04))
    new["rounds"][1]["samples"]["latency"] = pack(slow)
    new["warm_up"]["samples"] = 160
    for paired in (False, True):
        found = compare(document(old), document(new), paired=paired)[0].verdict
        assert found.ratio.high < 1.01
    # Of a round so long that only every other sample was kept: half as many are left out.
    new["rounds"][0]["samples"]["latency"] = {**pack(slow), "every": 2}
    new["rounds"][1]["samples"]["latency"] = pack(np.full(100, 0.004))
    new["warm_up"]["samples"] = 60
    both = (read_result(document(one), "it") for one in (old, new))
    ((_, after),) = pairs(*both)
    assert len(after.figures["latency p50"]) == ROUNDS
    new["warm_up"]["samples"] = 10**6
    with pytest.raises(BadInput, match="no steady round"):
        compare(document(old), document(new))


def test_what_is_not_valid_decides_nothing():
    invalid = {**result(0.008, seed=1), "valid": False, "reasons": ["it was too hot"]}
    found = compare(document(result()), document(invalid))
    assert overall(found) == "inconclusive"
    assert found[0].verdict.why == "the new result is not valid: it was too hot"


def test_one_round_of_each_has_a_ratio_and_no_interval():
    def ratio(old: list[float], new: list[float]) -> str:
        comparison = FigureComparison("job", "latency p50", judge(old, new, paired=True))
        return compare_table(BenchComparison("no worse", True, (comparison,))).rows[0][2]

    assert ratio([2.0], [2.5]) == "1.250"
    assert ratio([2.0, 2.0], [2.5, 3.0]) == "1.375 (1.250-1.500)"


def test_the_worst_decides_for_all():
    def one(outcome, tail=False):
        return FigureComparison(
            "j", "m", ComparisonVerdict(outcome, Estimate(1, 1, 1), 1.0, ""), tail
        )

    assert overall([]) == "inconclusive"
    assert overall([one("better"), one("worse"), one("inconclusive")]) == "worse"
    assert overall([one("better"), one("inconclusive")]) == "inconclusive"
    assert overall([one("better"), one("inconclusive", tail=True)]) == "better"
    assert overall([one("no worse"), one("worse", tail=True)]) == "worse"


@pytest.mark.parametrize(
    ("change", "output"),
    [
        (lambda d: d.update(format=2), "format 2"),
        (lambda d: d.pop("results"), "damaged"),
        (lambda d: d["results"][0].pop("rounds"), "damaged"),
        (lambda d: d["results"][0]["job"].pop("scenario"), "damaged"),
        (lambda d: d["results"][0]["rounds"].clear(), "damaged"),
    ],
)
def test_a_damaged_result_is_rejected(change, output):
    damaged = document(result())
    change(damaged)
    with pytest.raises(BadInput, match=f"the old result.*{output}.*measure again"):
        compare(damaged, document(result()))
