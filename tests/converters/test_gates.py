"""The budget, what few clips can show, and an owner's answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgevid.bundle import Artifact
from edgevid.contract import SCORES, Contract, FrameInput, Output
from edgevid.errors import BadInput, CheckFailed
from edgevid.proof import Golden, Taken, Trajectory
from edgevid_converters import pipeline
from edgevid_converters.acceptance.gates import (
    NO_METRIC,
    Budget,
    drop_at_most,
    mcnemar_p,
    with_statistics,
)
from edgevid_converters.acceptance.measurement import (
    AcceptanceResult,
    ArtifactAcceptance,
    BuiltArtifact,
    outputs,
)
from edgevid_converters.acceptance.reference import read_reference

CONTRACT = Contract(
    task="classification",
    frame=FrameInput(4, 6, 15.0),
    outputs=(Output(SCORES, (1, 3)),),
    labels=("a", "b", "c"),
)


def metric(lost: int, won: int, n: int, source: float = 0.9) -> dict:
    artifact = source - (lost - won) / n
    told = {"name": "accuracy", "source": source, "artifact": artifact, "n": n}
    return with_statistics({**told, "lost": lost, "won": won})


# --- the budget -----------------------------------------------------------------------------------


def test_the_drop_that_was_seen_decides_however_few_the_clips():
    budget = Budget(max_drop=0.01)
    assert budget.violation(metric(0, 0, 5)) is None
    assert budget.violation(metric(3, 5, 30)) is None
    assert budget.violation(metric(10, 0, 1000)) is None
    assert budget.violation(metric(11, 0, 1000)) is not None
    said = budget.violation(metric(1, 0, 30))
    assert said is not None
    assert "accuracy 0.867 on 30 held-out clips where the model has 0.900" in said
    assert "lost 1 clips, won 0; by chance: p = 0.5" in said
    assert Budget(max_drop=0.04).violation(metric(1, 0, 30)) is None


def test_nan_is_never_within_the_budget():
    nan = {"name": "accuracy", "source": 0.9, "artifact": float("nan"), "n": 9}
    assert Budget().violation(nan) is not None
    assert Budget(min_metric=0.5).violation({**nan, "artifact": 0.9, "source": float("nan")})


def test_a_floor_is_for_the_model_and_for_the_artifact():
    budget = Budget(max_drop=0.5, min_metric=0.85)
    assert "less than --min-metric 0.85" in (budget.violation(metric(6, 0, 100)) or "")
    assert budget.violation(metric(5, 0, 100)) is None
    assert budget.source_violation(metric(0, 0, 100)) is None
    said = budget.source_violation(metric(0, 0, 100, source=0.3))
    assert said is not None and "the model itself has accuracy 0.300" in said and "colour" in said


def test_a_metric_that_is_not_known_objects_to_nothing():
    unknown = {"name": None, "source": None, "artifact": None, "n": 0}
    assert Budget(min_metric=0.9).violation(unknown) is None
    assert Budget().words(unknown) is None


def test_what_few_clips_cannot_show_is_said():
    said = Budget(max_drop=0.01).words(metric(0, 0, 30))
    assert said is not None
    assert "a drop of 0.01 cannot be told on 30 clips, where one clip is 0.033" in said
    assert "more than 0.12 is ruled out (95%); that takes 368 clips" in said
    assert Budget(max_drop=0.01).words(metric(0, 0, 368)) is None
    assert Budget(max_drop=0.2).words(metric(0, 0, 30)) is None


def test_budgets_that_make_no_sense():
    for wrong in (
        Budget(-0.1),
        Budget(1.0),
        Budget(float("nan")),
        Budget(0.1, 0.0),
        Budget(0.1, 7),
    ):
        with pytest.raises(BadInput, match="makes no sense"):
            wrong.check()


# --- statistics of paired answers -----------------------------------------------------------------


def test_mcnemar_counts_the_clips_that_changed_sides():
    assert mcnemar_p(0, 0) == 1
    assert mcnemar_p(1, 0) == pytest.approx(0.5)
    assert mcnemar_p(5, 0) == pytest.approx(1 / 32)
    assert mcnemar_p(9, 1) == pytest.approx(11 / 1024)
    assert mcnemar_p(0, 5) == 1


def test_the_bound_holds_at_least_as_often_as_it_says():
    """Over many made experiments with known shares of lost and won clips."""
    rng = np.random.default_rng(0)
    for lost_share, won_share, n in ((0.02, 0.0, 60), (0.1, 0.05, 40), (0.05, 0.05, 200)):
        drawn = rng.multinomial(n, [lost_share, won_share, 1 - lost_share - won_share], 400)
        known = {}
        for lost, won, _ in drawn.tolist():
            known.setdefault((lost, won), drop_at_most(lost, won, n))
        held = [known[lost, won] >= lost_share - won_share for lost, won, _ in drawn.tolist()]
        assert np.mean(held) >= 0.95


def test_the_best_of_several_tries_is_trusted_less():
    assert drop_at_most(0, 0, 100, tries=10) > drop_at_most(0, 0, 100)
    # of ten artifacts that lose nothing but by chance, the best one looks the best
    assert drop_at_most(0, 0, 30) == pytest.approx(1 - 0.025 ** (1 / 30), abs=1e-6)


# --- parity, tensor by tensor ---------------------------------------------------------------------


def test_differences_are_told_by_tensor_and_nan_is_told():
    answers = {SCORES: np.zeros((2, 1, 3), np.float32), "far": np.full((2, 1), 100, np.float32)}
    golden = Golden((Trajectory(np.zeros((2, 1, 4, 6, 3), np.uint8), answers, {}),))
    off = {SCORES: answers[SCORES] + 0.5, "far": answers["far"] + [[0], [1]]}
    told = outputs(golden, [Taken(off, answers)])
    assert told[SCORES] == {"max_abs": 0.5, "mean_abs": 0.25, "range": 0.0}
    assert told["far"] == {"max_abs": 0.01, "mean_abs": 0.0025, "range": 100.0}
    bad = {**off, SCORES: np.where(np.arange(3) == 1, np.nan, off[SCORES])}
    told = outputs(golden, [Taken(answers, bad)])
    assert told[SCORES]["max_abs"] is None and told["far"]["max_abs"] == 0.01


# --- the owner's answers --------------------------------------------------------------------------


@pytest.fixture
def owner(tmp_path):
    """A file of three steps."""
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), np.uint8)
    scores = np.random.default_rng(1).random((3, 3))

    def write(name="x.npz", **changed):
        arrays = {"frame": frames, "scores": scores} | changed
        np.savez(tmp_path / name, **{k: v for k, v in arrays.items() if v is not None})
        return tmp_path / name

    return write


def test_an_owners_answers_are_held_against_the_models(owner):
    reference = read_reference(owner(), CONTRACT)
    right = [{SCORES: reference.answers[0][SCORES] + 5e-4}]
    told = reference.check(right, "x.contract.toml")
    assert told["steps"] == 3 and told["max_abs"] == pytest.approx(5e-4, rel=1e-3)
    assert len(told["sha256"]) == 64
    for off in (2e-3, np.nan):
        wrong = right[0][SCORES].copy()
        wrong[1, 2] += off
        with pytest.raises(CheckFailed, match="scores at step 1 of stream 0 is off by") as caught:
            reference.check([{SCORES: wrong}], "x.contract.toml")
        assert "check colour, scale, mean and std in x.contract.toml" in str(caught.value)


def test_a_folder_has_several_streams_and_a_batch_axis_may_be_there(owner, tmp_path):
    owner("a.npz")
    owner("b.npz", frame=np.zeros((2, 1, 4, 6, 3), np.uint8), scores=np.ones((2, 1, 3)))
    reference = read_reference(tmp_path, CONTRACT)
    assert [stream.shape for stream in reference.streams] == [(3, 4, 6, 3), (2, 4, 6, 3)]
    assert reference.answers[1][SCORES].shape == (2, 3)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"frame": np.zeros((3, 4, 6, 3), np.float32)}, "not uint8; give the pixels before"),
        ({"frame": np.zeros((3, 8, 6, 3), np.uint8)}, r"needs finite numbers of .* \['N', 4, 6, 3"),
        ({"frame": None}, "needs an array 'frame'"),
        ({"scores": None}, "and answers: scores"),
        ({"scores": np.zeros((2, 3))}, "as many rows as there are inputs"),
        ({"scores": np.full((3, 3), np.nan)}, "finite"),
        ({"score": np.zeros((3, 3))}, "unknown array 'score'; did you mean scores"),
    ],
)
def test_files_that_are_no_reference(owner, changed, said):
    with pytest.raises(BadInput, match=said) as caught:
        read_reference(owner(**changed), CONTRACT)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_reference(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        read_reference(tmp_path / "none", CONTRACT)
    with pytest.raises(BadInput, match=r"has no \.npz"):
        read_reference(tmp_path, CONTRACT)
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(BadInput, match=r"no \.npz file that can be read"):
        read_reference(tmp_path / "x.npz", CONTRACT)
    sound = replace(CONTRACT, outputs=())
    with pytest.raises(BadInput):
        read_reference(tmp_path / "x.npz", sound)


# --- what decides where nothing is measured -------------------------------------------------------


def test_without_labels_a_classifier_that_answers_otherwise_is_refused():
    judge = ArtifactAcceptance(CONTRACT, Golden(()), Budget(), Path())
    unknown = {"name": None, "source": None, "artifact": None, "n": 0}
    half = Artifact("x-int8", "x", "int8", parity={"agreement": 0.5})
    said = judge._disagreement(half, unknown)
    assert said is not None and "50% of the golden steps only" in said and "--data" in said
    assert judge._disagreement(replace(half, parity={"agreement": 0.9}), unknown) is None
    assert judge._disagreement(half, metric(0, 0, 5)) is None  # labels know better
    raw = replace(CONTRACT, task="raw", outputs=(Output("boxes", (1, 4)),))
    assert (
        ArtifactAcceptance(raw, Golden(()), Budget(), Path())._disagreement(half, unknown) is None
    )


def test_integers_that_no_metric_decided_on_are_told():
    parity, known = {"max_abs": 0.7123, "agreement": None}, metric(0, 0, 5000)
    blind, whole, seen = (
        Artifact(f"x-{quantize}", "x", quantize, parity=parity, metric=told)
        for quantize, told in (("int8", NO_METRIC), ("float32", NO_METRIC), ("int8", known))
    )
    judged = [AcceptanceResult(BuiltArtifact(one, {})) for one in (blind, whole, seen)]
    (note,) = pipeline._notes(judged, Budget())
    assert note.startswith("x-int8: no metric was measured") and note.endswith("0.71")
