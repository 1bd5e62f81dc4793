"""The budget, what few clips can show, and an owner's answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgevid.bundle import Artifact
from edgevid.contract import Contract, FrameInput, Output, VectorInput
from edgevid.errors import BadInput, CheckFailed
from edgevid.evidence import TensorDifference
from edgevid.proof import Golden, RecordedOutputs, Trajectory
from edgevid.tasks.classification.device import SCORES
from edgevid.tasks.evidence import recorded_drop
from edgevid.tasks.host.metrics import UNBOUNDED, ChanceTest, Comparison, Metric, PairedCounts
from edgevid_converters.acceptance import agreement
from edgevid_converters.acceptance.agreement import FrameAgreement
from edgevid_converters.acceptance.artifact_acceptance import AcceptanceResult, ArtifactAcceptance
from edgevid_converters.acceptance.gates import NOT_MEASURED, Budget
from edgevid_converters.acceptance.parity import differences
from edgevid_converters.acceptance.reference import read_reference
from edgevid_converters.calibration import observed
from edgevid_converters.calibration.trajectories import write_arrays
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


def observed_like(scores) -> FrameAgreement:
    """The agreement of an artifact that computes ``scores`` (N, 3) where the source computes
    `SOURCE`."""
    want, given = (
        [{SCORES: row[None]} for row in rows] for rows in (SOURCE[: len(scores)], scores)
    )
    return agreement.measure(CONTRACT, zip(want, given, strict=True))


SOURCE = np.random.default_rng(0).dirichlet((0.2, 0.2, 0.2), 240).astype(np.float32)


def wrong_on(count: int, n: int = 240) -> np.ndarray:
    """Scores that name another label on so many of n frames."""
    scores = SOURCE[:n].copy()
    scores[:count] = np.roll(scores[:count], 1, axis=1)
    return scores


def test_without_labels_a_disagreeing_classifier_is_rejected_with_the_count():
    judge = ArtifactAcceptance(CONTRACT, Golden(()), Budget(), Path())
    found = observed_like(wrong_on(34))
    message = judge.disagreement(found)
    assert message is not None
    assert "agrees with the model on 0.86 of 240 frames (95 % interval 0.81 to 0.90)" in message
    assert "largest difference 1" in message or "largest difference 0.9" in message
    assert "less than 0.9" in message and "--data" in message and "--quantize float16" in message
    assert judge.disagreement(observed_like(wrong_on(12))) is None
    raw = replace(CONTRACT, task="raw", outputs=(Output("boxes", (1, 4)),))
    assert ArtifactAcceptance(raw, Golden(()), Budget(), Path()).disagreement(found) is None


def test_a_model_that_never_changes_its_mind_is_not_gated_on_agreement():
    judge = ArtifactAcceptance(CONTRACT, Golden(()), Budget(), Path())
    flat = [{SCORES: np.full((1, 3), 1 / 3, np.float32)}] * 20
    tilted = [{SCORES: np.float32([[0.33, 0.34, 0.33]])}] * 20
    found = agreement.measure(CONTRACT, zip(flat, tilted, strict=True))
    assert found.agreement == 0 and not found.varied
    assert judge.disagreement(found) is None
    (note,) = notes_on([accepted_with(found)], Budget())
    assert "the same outputs for all 20 frames, so nothing shows what int8 costs" in note


def test_the_interval_of_an_agreement_is_exact():
    low, high = agreement.interval(10, 10)
    assert (low, high) == (pytest.approx(0.025**0.1), 1.0)
    assert agreement.interval(0, 10) == (0.0, pytest.approx(1 - 0.025**0.1))


def accepted_with(found: FrameAgreement | None, quantize: str = "int8") -> AcceptanceResult:
    parity = {"max_abs": 0.7123, "agreement": None}
    made = BuiltArtifact(Artifact(f"x-{quantize}", "x", quantize, parity=parity), {})
    return replace(AcceptanceResult(made).with_comparison(NOT_MEASURED), frames=found)


def test_thin_evidence_is_called_thin():
    few, many = (observed_like(wrong_on(0, n)) for n in (10, 240))
    (note,) = notes_on([accepted_with(few)], Budget())
    assert "agrees with the model on 1.00 of 10 frames (95 % interval 0.69 to 1.00)" in note
    assert "thin evidence" in note
    (note,) = notes_on([accepted_with(many)], Budget())
    assert "1.00 of 240 frames" in note and "thin" not in note


def test_nan_never_agrees():
    found = observed_like(np.full((20, 3), np.nan, np.float32))
    assert found.agreement == 0 and found.max_abs != found.max_abs


def test_integers_accepted_without_a_metric_get_a_note():
    known = compared(0, 0, 5000)
    judged = [
        accepted_with(None),
        accepted_with(None, "float32"),
        accepted_with(observed_like(wrong_on(0))).with_comparison(known),
    ]
    (note,) = notes_on(judged, Budget())
    assert note.startswith("x-int8: no metric was measured") and note.endswith("0.71")


# --- the frames at hand ---------------------------------------------------------------------------


class Doubling:
    """A model, and an engine, of one vector: scores are twice the vector."""

    runtime, accelerator, precision = "null", "cpu", "int8"

    def __init__(self, error: float = 0.0) -> None:
        self.error = error

    def step(self, inputs, state=None):
        scores = np.float32(2 * inputs["v"] + self.error)
        return {SCORES: scores} if state is None else ({SCORES: scores}, state)


def test_calibration_steps_the_owners_and_the_labelled_ones_count(tmp_path):
    contract = replace(CONTRACT, inputs=(VectorInput("v", (1, 3)),))
    steps = np.random.default_rng(1).random((300, 1, 3)).astype(np.float32)
    write_arrays(tmp_path / "calibration", {"v": steps})
    observed.record(Doubling(), contract, {"v": steps}, tmp_path)
    read = observed.read(tmp_path)
    assert read is not None and len(read) == observed.MOST_STEPS == 240
    places = observed.chosen(300)
    np.testing.assert_array_equal(np.stack(list(read.outputs[SCORES])), 2 * steps[places])
    assert observed.read(tmp_path / "none") is None
    own = (steps[:7, 0], {SCORES: 2 * steps[:7, 0]})
    labelled = [{SCORES: 2 * row} for row in steps[:5]]
    judge = ArtifactAcceptance(
        contract,
        Golden(()),
        Budget(),
        tmp_path,
        source_outputs=labelled,
        observed=read,
        owner=[({"v": own[0]}, own[1])],
    )
    int8, float32 = (Artifact(f"x-{one}", "x", one) for one in ("int8", "float32"))
    found = judge.frames(int8, Doubling(0.25), labelled)
    assert found is not None
    assert (found.n, found.agreement) == (252, 1.0)
    assert found.max_abs == pytest.approx(0.25 / 2, rel=0.02)
    assert judge.frames(float32, Doubling(), labelled) is None


def test_large_outputs_are_compared_a_few_frames_at_a_time(monkeypatch):
    whole = observed_like(wrong_on(34))
    monkeypatch.setattr(agreement, "CHUNK_VALUES", 7 * 6)
    assert observed_like(wrong_on(34)) == whole
    with pytest.raises(ValueError, match="no frames"):
        agreement.measure(CONTRACT, [])


def test_a_difference_that_is_no_number_stays_one():
    scores = SOURCE[:9].copy()
    scores[4, 1] = np.nan
    assert np.isnan(observed_like(scores).max_abs)


def test_raw_outputs_follow_the_model_on_all_frames():
    """Noise of half an output's own variation is refused, of a tenth it is not."""
    rng = np.random.default_rng(3)
    raw = replace(CONTRACT, task="raw", outputs=(Output("boxes", (1, 40)),), labels=())
    want = [{"boxes": rng.normal(100, 50, (1, 40)).astype(np.float32)} for _ in range(30)]
    judge = ArtifactAcceptance(raw, Golden(()), Budget(), Path())

    def found(noise):
        given = [{"boxes": one["boxes"] + rng.normal(0, noise, (1, 40))} for one in want]
        return judge.disagreement(agreement.measure(raw, zip(want, given, strict=True)))

    assert found(5.0) is None
    message = found(30.0)
    assert "differs from the model in boxes by 0." in message and "over 30 frames" in message
    assert "more than 0.3" in message and "--quantize float16" in message


def test_a_source_at_chance_is_a_note_and_with_a_floor_a_refusal():
    at_chance = replace(compared(0, 0, 100, source=0.5), chance=ChanceTest(0.5, "a", 0.54, 100))
    note = Budget().chance_note(at_chance)
    assert note == (
        "the model itself has accuracy 0.500 on 100 held-out clips, which is no better than chance "
        "(always predicting 'a' gives 0.500; p = 0.54); check the labels, or train it on more clips"
    )
    assert Budget().source_violation(at_chance) is None
    assert Budget(min_metric=0.4).source_violation(at_chance) == note
    few = replace(at_chance, chance=ChanceTest(0.5, "a", 0.25, 2))
    assert Budget(min_metric=0.4).source_violation(few) is None
    assert "cannot be distinguished from chance" in Budget().chance_note(few)
    better = replace(at_chance, chance=ChanceTest(0.5, "a", 0.001, 100))
    assert Budget(min_metric=0.4).source_violation(better) is Budget().chance_note(better) is None
