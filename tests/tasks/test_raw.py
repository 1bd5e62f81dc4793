"""Raw outputs: their JSON form, when two are the same, and what follows from having no metric."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from edgevid.bundle import Bundle
from edgevid.contract import AudioInput, Output
from edgevid.errors import BadInput
from edgevid.evaluation import score
from edgevid.predictions import Classification, FrameMeta, full_json
from edgevid.proof import RecordedOutputs, compare
from edgevid.results import Result
from edgevid.runner.engines import choices
from edgevid.targets import load
from edgevid.tasks import open_task
from edgevid.tasks.host import open_host
from rigs.bundles import CONTRACT, write_null

RAW = replace(
    CONTRACT, task="raw", outputs=(Output("boxes", (1, 4, 3)), Output("n", (1, 1))), labels=()
)
FRAME = FrameMeta(8, 6)


@pytest.fixture
def task():
    return open_task(RAW)


def outputs(shift: float = 0.0) -> dict[str, np.ndarray]:
    boxes = np.arange(12, dtype=np.float32).reshape(1, 4, 3) + np.float32(shift)
    return {"boxes": boxes, "n": np.float32([[2]])}


def test_the_json_form_is_a_summary(task):
    shown = task.decode(outputs(), FRAME).to_json()["outputs"]
    assert shown["boxes"]["shape"] == [1, 4, 3]
    assert shown["boxes"]["values"] == list(range(8))
    assert shown["boxes"]["omitted"] == 4  # a cut list says so
    assert "omitted" not in shown["n"]
    assert (shown["boxes"]["least"], shown["boxes"]["most"]) == (0, 11)
    assert json.loads(json.dumps(shown))["n"]["values"] == [2]


def test_the_full_json_form_has_every_value(task):
    prediction = task.decode(outputs(), FRAME)
    shown = Result("door", 0, 0.0, prediction).to_json(full=True)["outputs"]
    assert shown["boxes"]["values"] == list(range(12))
    assert "omitted" not in shown["boxes"]
    assert Result("door", 0, 0.0, prediction).to_json()["outputs"]["boxes"]["omitted"] == 4
    other = Classification(np.float32([0.2, 0.8]), ("a", "b"))
    assert full_json(other) == other.to_json()


def test_agreement_is_the_share_of_close_outputs(task):
    some = [task.decode(outputs(), FRAME) for _ in range(4)]
    others = [task.decode(outputs(shift), FRAME) for shift in (0.0, 0.3, 0.9, float("nan"))]
    assert task.agreement(some, others) == 0.5


def test_outputs_are_compared_whole(task):
    """A difference in the middle of a tensor, beyond the values that its JSON form shows."""
    changed = outputs()
    changed["boxes"][0, 3, 1] = 5  # was 10: neither among the first values nor an extreme
    first, second = task.decode(outputs(), FRAME), task.decode(changed, FRAME)
    assert first.to_json() == second.to_json()
    assert not task.same(first, second)


def test_two_kinds_of_nothing_are_the_same(task):
    none = {"boxes": np.zeros((1, 4, 3), np.float32), "n": np.float32([[0]])}
    hardly = {name: values + np.float32(1e-7) for name, values in none.items()}
    some = {name: values + np.float32(1e-2) for name, values in none.items()}
    zero, tiny, small = (task.decode(one, FRAME) for one in (none, hardly, some))
    assert task.agreement([zero] * 2, [tiny, small]) == 0.5


def test_there_is_no_metric():
    assert open_host("raw").metric is None
    with pytest.raises(BadInput, match="raw has no metric"):
        score(RAW, [], [])


def test_a_proof_counts_the_steps_that_are_the_same():
    values = np.arange(24, dtype=np.float32).reshape(6, 1, 4)
    contract = replace(RAW, outputs=(Output("boxes", (1, 4)),))
    want = RecordedOutputs({"boxes": values}, {"boxes": values})
    off = values.copy()
    off[2] += 2
    check = compare(
        [want], [RecordedOutputs({"boxes": values}, {"boxes": off})], contract, "int8", 0.75
    )
    assert check.ok
    assert check.agreement == pytest.approx(5 / 6)


def test_a_proof_takes_an_output_of_any_rank_called_scores():
    values = np.random.default_rng(0).random((6, 1, 5, 3), np.float32)
    contract = replace(RAW, outputs=(Output("scores", (1, 5, 3)),))
    taken = RecordedOutputs({"scores": values}, {"scores": values})
    assert compare([taken], [taken], contract, "float32", 1e-4).agreement == 1


def test_what_takes_no_frame_is_not_run_on_video(tmp_path):
    path = write_null(tmp_path / "x.edgevid")
    bundle = Bundle.open(path)
    assert choices(bundle, load("local"), runtime="null")
    bundle.contract.require_video(str(path))
    sound = replace(RAW, inputs=(AudioInput("sound", 16000, 16),))
    said = r"x cannot run on video, because no source feeds its inputs \(audio 'sound'\); use a"
    with pytest.raises(BadInput, match=said):
        sound.require_video("x")
    with pytest.raises(BadInput, match="has 0 frame inputs"):
        assert sound.frame
