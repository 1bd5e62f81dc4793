"""The budget, what few clips can show, and an owner's answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgevid.bundle import Artifact
from edgevid.contract import Contract, FrameInput, Output
from edgevid.errors import BadInput, CheckFailed
from edgevid.evidence import TensorDifference
from edgevid.proof import Golden, RecordedOutputs, Trajectory
from edgevid.tasks.classification.device import SCORES
from edgevid.tasks.evidence import recorded_drop
from edgevid.tasks.host.metrics import UNBOUNDED, Comparison, Metric, PairedCounts
from edgevid_converters.acceptance.artifact_acceptance import AcceptanceResult, ArtifactAcceptance
from edgevid_converters.acceptance.gates import NOT_MEASURED, Budget
from edgevid_converters.acceptance.parity import differences
from edgevid_converters.acceptance.reference import read_reference
from edgevid_converters.lowering.artifact_builder import BuiltArtifact
from edgevid_converters.pipeline.accept import notes_on

CONTRACT = Contract(
    task="classification",
    inputs=(FrameInput("frame", 4, 6),),
    rate_fps=15.0,
    outputs=(Output(SCORES, (1, 3)),),
    labels=("a", "b", "c"),
)


def compared(lost: int, won: int, n: int, source: float = 0.9) -> Comparison:
    artifact = source - (lost - won) / n
    return Comparison("accuracy", source, artifact, n, paired=PairedCounts(lost, won, n))


# --- the budget -----------------------------------------------------------------------------------


def test_the_observed_drop_decides_even_with_few_clips():
    budget = Budget(max_drop=0.01)
    assert budget.violation(compared(0, 0, 5)) is None
    assert budget.violation(compared(3, 5, 30)) is None
    assert budget.violation(compared(10, 0, 1000)) is None
    assert budget.violation(compared(11, 0, 1000)) is not None
    message = budget.violation(compared(1, 0, 30))
    assert message is not None
    assert "accuracy 0.867 on 30 held-out clips where the model has 0.900" in message
    assert "lost 1 clips, won 0; by chance: p = 0.5" in message
    assert Budget(max_drop=0.04).violation(compared(1, 0, 30)) is None


def test_nan_always_breaks_the_budget():
    nan = float("nan")
    assert Budget().violation(Comparison("accuracy", 0.9, nan, 9)) is not None
    assert Budget(min_metric=0.5).violation(Comparison("accuracy", nan, 0.9, 9))


def test_the_floor_applies_to_model_and_artifact():
    budget = Budget(max_drop=0.5, min_metric=0.85)
    assert "less than --min-metric 0.85" in (budget.violation(compared(6, 0, 100)) or "")
    assert budget.violation(compared(5, 0, 100)) is None
    assert budget.source_violation(compared(0, 0, 100)) is None
    message = budget.source_violation(compared(0, 0, 100, source=0.3))
    assert (
        message is not None
        and "the model itself has accuracy 0.300" in message
        and "colour" in message
    )


def test_an_unknown_metric_breaks_nothing():
    assert Budget(min_metric=0.9).violation(NOT_MEASURED) is None
    assert Budget(min_metric=0.9).source_violation(NOT_MEASURED) is None
    assert Budget().resolution_note(NOT_MEASURED) is None


def test_an_error_gets_worse_as_it_rises():
    budget = Budget(max_drop=0.5, min_metric=3.0)
    error = Comparison("mean error", 2.0, 2.4, 10, higher_is_better=False, samples="frames")
    assert budget.violation(error) is None
    assert budget.violation(replace(error, artifact=1.0)) is None
    message = budget.violation(replace(error, artifact=2.6))
    assert (
        message is not None and "2.600 on 10 held-out frames where the model has 2.000" in message
    )
    message = budget.violation(replace(error, source=2.9, artifact=3.2))
    assert message is not None and "more than --min-metric 3" in message
    assert "more than" in (budget.source_violation(replace(error, source=3.5)) or "")
    assert error.to_json()["higher_is_better"] is False
    assert recorded_drop(error.to_json()) == pytest.approx(0.4)


def test_a_note_says_what_few_clips_cannot_resolve():
    note = Budget(max_drop=0.01).resolution_note(compared(0, 0, 30))
    assert note == (
        "30 clips cannot resolve a drop of 0.01 (95% upper bound 0.12); that takes 368 clips"
    )
    assert Budget(max_drop=0.01).resolution_note(compared(0, 0, 368)) is None
    assert Budget(max_drop=0.2).resolution_note(compared(0, 0, 30)) is None


def test_budgets_out_of_range_are_rejected():
    for wrong in (
        Budget(-0.1),
        Budget(1.0),
        Budget(float("nan")),
        Budget(0.1, 0.0),
        Budget(0.1, 7),
    ):
        with pytest.raises(BadInput, match="is out of range"):
            wrong.check()


def test_the_budgets_range_depends_on_the_metric():
    class Error(Metric):
        name = "error"
        higher_is_better = False
        bounds = UNBOUNDED

        def value(self, predictions, truths):
            return 0.0

    Budget(2.5, 100.0).check(Error())
    Budget(2.5, 0.0).check(Error())
    for wrong in (Budget(-1.0), Budget(float("inf")), Budget(1, -1.0), Budget(1, float("inf"))):
        with pytest.raises(BadInput, match="is out of range"):
            wrong.check(Error())


# --- statistics of paired answers -----------------------------------------------------------------


def test_mcnemar_counts_the_clips_that_changed_sides():
    def p_of(lost, won):
        return PairedCounts(lost, won, 100).p

    assert p_of(0, 0) == 1
    assert p_of(1, 0) == pytest.approx(0.5)
    assert p_of(5, 0) == pytest.approx(1 / 32)
    assert p_of(9, 1) == pytest.approx(11 / 1024)
    assert p_of(0, 5) == 1


def test_the_bound_holds_at_its_confidence():
    """Over many made experiments with known shares of lost and won clips."""
    rng = np.random.default_rng(0)
    for lost_share, won_share, n in ((0.02, 0.0, 60), (0.1, 0.05, 40), (0.05, 0.05, 200)):
        drawn = rng.multinomial(n, [lost_share, won_share, 1 - lost_share - won_share], 400)
        known = {}
        for lost, won, _ in drawn.tolist():
            known.setdefault((lost, won), PairedCounts(lost, won, n).drop_at_most())
        held = [known[lost, won] >= lost_share - won_share for lost, won, _ in drawn.tolist()]
        assert np.mean(held) >= 0.95


def test_the_bound_is_wider_for_the_best_of_several_tries():
    assert PairedCounts(0, 0, 100).drop_at_most(tries=10) > PairedCounts(0, 0, 100).drop_at_most()
    # of ten artifacts that lose nothing but by chance, the best one looks the best
    assert PairedCounts(0, 0, 30).drop_at_most() == pytest.approx(1 - 0.025 ** (1 / 30), abs=1e-6)


# --- parity, tensor by tensor ---------------------------------------------------------------------


def test_differences_are_measured_by_tensor_and_nan_is_none():
    answers = {SCORES: np.zeros((2, 1, 3), np.float32), "far": np.full((2, 1), 100, np.float32)}
    golden = Golden((Trajectory({"frame": np.zeros((2, 1, 4, 6, 3), np.uint8)}, answers, {}),))
    off = {SCORES: answers[SCORES] + 0.5, "far": answers["far"] + [[0], [1]]}
    result = differences(golden, [RecordedOutputs(off, answers)])
    assert result[SCORES] == TensorDifference(max_abs=0.5, mean_abs=0.25, range=0.0)
    assert result["far"] == TensorDifference(max_abs=0.01, mean_abs=0.0025, range=100.0)
    bad = {**off, SCORES: np.where(np.arange(3) == 1, np.nan, off[SCORES])}
    result = differences(golden, [RecordedOutputs(answers, bad)])
    assert result[SCORES].max_abs is None and result["far"].max_abs == 0.01


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


def test_owner_outputs_are_compared_with_the_models(owner):
    reference = read_reference(owner(), CONTRACT)
    right = [{SCORES: reference.outputs[0][SCORES] + 5e-4}]
    result = reference.check(right, "x.contract.toml")
    assert result.steps == 3 and result.max_abs == pytest.approx(5e-4, rel=1e-3)
    assert len(result.sha256) == 64
    for off in (2e-3, np.nan):
        wrong = right[0][SCORES].copy()
        wrong[1, 2] += off
        with pytest.raises(CheckFailed, match="scores at step 1 of stream 0 is off by") as caught:
            reference.check([{SCORES: wrong}], "x.contract.toml")
        assert "check colour, scale, mean and std in x.contract.toml" in str(caught.value)


def test_a_folder_has_several_streams_with_or_without_a_batch_axis(owner, tmp_path):
    owner("a.npz")
    owner("b.npz", frame=np.zeros((2, 1, 4, 6, 3), np.uint8), scores=np.ones((2, 1, 3)))
    reference = read_reference(tmp_path, CONTRACT)
    assert [stream["frame"].shape for stream in reference.streams] == [(3, 4, 6, 3), (2, 4, 6, 3)]
    assert reference.outputs[1][SCORES].shape == (2, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"frame": np.zeros((3, 4, 6, 3), np.float32)}, "not uint8; give the pixels before"),
        ({"frame": np.zeros((3, 8, 6), np.uint8)}, r"give finite numbers of .* \['N', 4, 6, 3"),
        ({"frame": None}, "needs an array 'frame'"),
        ({"scores": None}, "and outputs: scores"),
        ({"scores": np.zeros((2, 3))}, "as many rows as there are inputs"),
        ({"scores": np.full((3, 3), np.nan)}, "finite"),
        ({"score": np.zeros((3, 3))}, "unknown array 'score'; did you mean scores"),
    ],
)
def test_invalid_reference_files_are_rejected(owner, changed, message):
    with pytest.raises(BadInput, match=message) as caught:
        read_reference(owner(**changed), CONTRACT)
    assert "\n" not in str(caught.value)


def test_invalid_reference_paths_are_rejected(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        read_reference(tmp_path / "none", CONTRACT)
    with pytest.raises(BadInput, match=r"has no \.npz"):
        read_reference(tmp_path, CONTRACT)
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(BadInput, match=r"not a readable \.npz file"):
        read_reference(tmp_path / "x.npz", CONTRACT)
    sound = replace(CONTRACT, outputs=())
    with pytest.raises(BadInput):
        read_reference(tmp_path / "x.npz", sound)


# --- what decides where nothing is measured -------------------------------------------------------


def test_without_labels_a_disagreeing_classifier_is_rejected():
    judge = ArtifactAcceptance(CONTRACT, Golden(()), Budget(), Path())
    half = Artifact("x-int8", "x", "int8", parity={"agreement": 0.5})
    message = judge.disagreement(half, NOT_MEASURED)
    assert message is not None and "50% of the golden steps only" in message and "--data" in message
    assert judge.disagreement(replace(half, parity={"agreement": 0.9}), NOT_MEASURED) is None
    assert judge.disagreement(half, compared(0, 0, 5)) is None  # labels know better
    raw = replace(CONTRACT, task="raw", outputs=(Output("boxes", (1, 4)),))
    assert (
        ArtifactAcceptance(raw, Golden(()), Budget(), Path()).disagreement(half, NOT_MEASURED)
        is None
    )


def test_integers_accepted_without_a_metric_get_a_note():
    parity, known = {"max_abs": 0.7123, "agreement": None}, compared(0, 0, 5000)
    judged = [
        AcceptanceResult(
            BuiltArtifact(Artifact(f"x-{quantize}", "x", quantize, parity=parity), {})
        ).with_comparison(found)
        for quantize, found in (("int8", NOT_MEASURED), ("float32", NOT_MEASURED), ("int8", known))
    ]
    (note,) = notes_on(judged, Budget())
    assert note.startswith("x-int8: no metric was measured") and note.endswith("0.71")
