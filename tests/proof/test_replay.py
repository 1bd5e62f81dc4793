"""Replay: an engine whose outputs are wrong, drift or are not finite is found out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgevid import bundle as bundles
from edgevid.bundle import Artifact
from edgevid.contract import Contract, FrameInput, Output
from edgevid.errors import EngineFailed
from edgevid.proof import RecordedOutputs, prove_in_child, replay
from edgevid.proof.replay import compare, record_outputs

NAME = "null-float32"


class Altered:
    """An engine whose answers and next states go through a function, step by step."""

    runtime, accelerator, precision = "null", "cpu", "float32"

    def __init__(self, inner, alter) -> None:
        self._inner, self._alter = inner, alter

    def step(self, inputs, state):
        return self._alter(*self._inner.step(inputs, state))


def _plain():
    frame = FrameInput("frame", 8, 8)
    return Contract("classification", (frame,), (Output("scores", (1, 3)),), ("a", "b", "c"), 10.0)


def test_the_same_engine_agrees_exactly(opened, golden, engine):
    check, taken = replay(engine, golden, opened.contract)
    assert check.ok
    assert (check.max_abs, check.agreement, check.reason) == (0.0, 1.0, None)
    assert check.precision == "float32"
    assert taken[0].recorded.keys() == {"scores", "next_level"}
    assert taken[0].carried.keys() == {"scores"}


def test_a_wrong_answer_is_named(opened, golden, engine):
    def wrong(answer, after):
        return {"scores": answer["scores"] + np.float32([[0, 0.01, 0]])}, after

    check, _ = replay(Altered(engine, wrong), golden, opened.contract)
    assert not check.ok
    assert check.max_abs == pytest.approx(0.01, rel=1e-3)
    assert "scores of trajectory 0 (recorded state) is off by 0.01" in check.reason


def test_a_wrong_memory_is_named_even_if_the_answers_are_right(opened, golden, engine):
    good = record_outputs(engine, golden.trajectories[0])
    memory = good.recorded["next_level"] + np.float32(0.001)
    bad = RecordedOutputs({**good.recorded, "next_level": memory}, good.carried)
    check = compare([good], [bad], opened.contract, "float32", 1e-4)
    assert "next_level of trajectory 0 (recorded state) is off by 0.001" in check.reason


def test_drift_that_every_single_step_hides_is_found_by_carrying():
    """A little is lost at each step, within tolerance; carried on, it adds up."""
    wanted = {"scores": np.linspace(0, 1, 10, dtype=np.float32)[:, None, None]}
    drift = np.linspace(0, 1e-3, 10, dtype=np.float32)[:, None, None]
    drifted = {"scores": wanted["scores"] + drift}
    check = compare(
        [RecordedOutputs(wanted, wanted)],
        [RecordedOutputs(wanted, drifted)],
        _plain(),
        "float32",
        tolerance=1e-4,
    )
    assert not check.ok
    assert "(carried state)" in check.reason


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["recorded", "carried"])
def test_what_is_no_number_fails_whatever_the_tolerance(poison, where):
    good = {"scores": np.full((4, 1, 3), 0.3, np.float32)}
    bad = {"scores": good["scores"].copy()}
    bad["scores"][2, 0, 1] = poison
    given = RecordedOutputs(bad, good) if where == "recorded" else RecordedOutputs(good, bad)
    check = compare(
        [RecordedOutputs(good, good)], [given], _plain(), "float32", tolerance=float("inf")
    )
    assert not check.ok
    assert np.isnan(check.max_abs)
    assert "not numbers" in check.reason


def test_another_shape_or_a_missing_tensor_fails():
    good = {"scores": np.zeros((4, 1, 3), np.float32)}
    for bad in ({}, {"scores": good["scores"][:, :, :2]}):
        check = compare(
            [RecordedOutputs(good, good)], [RecordedOutputs(bad, bad)], _plain(), "int8", 1.0
        )
        assert not check.ok


def test_a_confused_engine_of_an_unsure_model_is_found():
    """Its scores are all near each other, so no absolute tolerance tells them apart."""
    rng = np.random.default_rng(0)
    good = {"scores": (1 / 3 + rng.normal(0, 0.02, (12, 1, 3))).astype(np.float32)}
    for confused in (np.roll(good["scores"], 1, axis=-1), np.full_like(good["scores"], 1 / 3)):
        given = [RecordedOutputs({"scores": confused}, {"scores": confused})]
        check = compare([RecordedOutputs(good, good)], given, _plain(), "int8", 0.25)
        assert not check.ok
        assert "little to do with" in check.reason
    noisy = {"scores": good["scores"] + rng.normal(0, 0.005, (12, 1, 3)).astype(np.float32)}
    assert compare(
        [RecordedOutputs(good, good)], [RecordedOutputs(noisy, noisy)], _plain(), "int8", 0.25
    ).ok


def test_agreement_leaves_warming_up_out():
    good = np.zeros((6, 1, 3), np.float32)
    good[:, 0, 1] = 1
    other = good.copy()
    other[:3] = np.roll(good[:3], 1, axis=-1)
    taken = [RecordedOutputs({}, {"scores": good})], [RecordedOutputs({}, {"scores": other})]
    window = replace(_plain(), temporal="window", frames=4)
    assert compare(*taken, window, "float32", 9.0).agreement == 1.0
    assert compare(*taken, _plain(), "float32", 9.0).agreement == 0.5


def test_a_precision_that_is_not_listed_gets_the_strictest_tolerance(opened, golden, engine):
    unlisted = Altered(engine, lambda answer, after: (answer, after))
    unlisted.precision = "fp4"
    check, _ = replay(unlisted, golden, opened.contract, tolerances={"int8": 0.2, "bf16": 0.01})
    assert check.tolerance == 0.01


def test_own_answers_are_compared_by_the_bundles_own_tolerance(opened, golden, engine, tmp_path):
    """A reference that is off by more than the artifact's own tolerance is refused."""
    taken = record_outputs(engine, golden.trajectories[0])
    moved = {name: values + np.float32(0.01) for name, values in taken.recorded.items()}
    stored = replace(golden, references={NAME: (RecordedOutputs(moved, taken.carried),)})
    for tolerance, ok in ((0.02, True), (0.005, False)):
        artifact = Artifact(NAME, "null", "float32", tolerance={"float32": tolerance})
        path = tmp_path / f"{tolerance}.edgevid"
        files = opened.files(NAME)
        bundles.write(path, opened.contract, [(artifact, files)], stored.to_members(), {})
        result = prove_in_child(path, NAME, "null")
        assert (result.ok, result.tolerance) == (ok, tolerance)


def test_an_engine_that_raises_mid_replay_is_not_hidden(opened, golden, engine):
    def failing(answer, after):
        raise EngineFailed("broken")

    with pytest.raises(EngineFailed):
        replay(Altered(engine, failing), golden, opened.contract)


def test_single_values_of_a_map_in_int8_are_not_what_decides():
    """One in 4,096 far off passes, one in a hundred does not; of a few scores every one counts."""
    contract = replace(_plain(), task="raw", outputs=(Output("map", (1, 64, 64)),), labels=())
    chance = np.random.default_rng(0)
    want = chance.random((4, 1, 64, 64)).astype(np.float32)
    for spikes, precision, ok in ((1, "int8", True), (41, "int8", False), (1, "float32", False)):
        given = want.copy()
        given.reshape(4, -1)[:, :spikes] += 0.9
        taken = [RecordedOutputs({"map": one}, {"map": one}) for one in (want, given)]
        found = compare(taken[:1], taken[1:], contract, precision, 0.75, 0.3)
        assert found.ok is ok, (spikes, precision)
        assert found.max_abs == pytest.approx(0.9, abs=0.01) or spikes == 41
    few = want[:, :, 0, :3]
    off = few.copy()
    off[0, 0, 0] += 0.9
    taken = [RecordedOutputs({"scores": one}, {"scores": one}) for one in (few, off)]
    assert not compare(taken[:1], taken[1:], _plain(), "int8", 0.75, 0.3).ok


def test_a_map_that_loses_its_few_peaks_is_found():
    """Two peaks among thousands of values hardly count in any mean."""
    rng = np.random.default_rng(0)
    contract = replace(_plain(), task="raw", outputs=(Output("map", (1, 64, 64)),), labels=())
    quiet = rng.normal(0.1, 0.05, (6, 1, 64, 64)).astype(np.float32)
    want, lost = quiet.copy(), quiet.copy()
    want[:, 0, 20, 30:34] = 0.7
    noisy = want + rng.normal(0, 0.01, want.shape).astype(np.float32)

    def found(values):
        recorded = [RecordedOutputs({"map": one}, {"map": one}) for one in (want, values)]
        return compare(recorded[:1], recorded[1:], contract, "int8", 0.75, unexplained=0.3)

    assert found(noisy).ok
    result = found(lost)
    assert not result.ok and "has little to do with what was recorded" in result.reason
