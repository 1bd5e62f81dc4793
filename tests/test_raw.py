"""Outputs as they are: what is told of them, and when two engines say the same."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from edgevid import registry
from edgevid.bundle import Bundle
from edgevid.contract import Contract, Output, Signal
from edgevid.errors import BadInput
from edgevid.evaluate import score
from edgevid.proof import Taken, compare
from edgevid.runner.engines import choices
from edgevid.targets import load
from rigs.bundles import CONTRACT, write_null

RAW = replace(
    CONTRACT, task="raw", outputs=(Output("boxes", (1, 4, 3)), Output("n", (1, 1))), labels=()
)


@pytest.fixture
def task():
    return registry.load("task", "raw")(RAW)


def answer(shift: float = 0.0) -> dict[str, np.ndarray]:
    boxes = np.arange(12, dtype=np.float32).reshape(1, 4, 3) + np.float32(shift)
    return {"boxes": boxes, "n": np.float32([[2]])}


def test_outputs_are_told_in_short(task):
    told = task.read(answer())["outputs"]
    assert told["boxes"]["shape"] == [1, 4, 3]
    assert told["boxes"]["values"] == list(range(8))
    assert (told["boxes"]["least"], told["boxes"]["most"]) == (0, 11)
    assert json.loads(json.dumps(told))["n"]["values"] == [2]


def test_agreement_is_the_share_of_near_answers(task):
    some = [task.read(answer()) for _ in range(4)]
    others = [task.read(answer(shift)) for shift in (0.0, 0.3, 0.9, float("nan"))]
    assert task.agreement(some, others) == 0.5


def test_two_kinds_of_nothing_are_the_same(task):
    none = {"boxes": np.zeros((1, 4, 3), np.float32), "n": np.float32([[0]])}
    hardly = {name: values + np.float32(1e-7) for name, values in none.items()}
    some = {name: values + np.float32(1e-2) for name, values in none.items()}
    told = [task.read(one) for one in (none, hardly, some)]
    assert task.agreement([told[0]] * 2, told[1:]) == 0.5


def test_there_is_no_metric(task):
    assert task.metric_name is None
    with pytest.raises(BadInput, match="have no metric"):
        task.metric([], [])
    with pytest.raises(BadInput, match="raw has no metric"):
        score(RAW, [], type("Clips", (), {"classes": (), "targets": ()})())


def test_a_proof_counts_near_steps_where_there_are_no_scores():
    values = np.arange(24, dtype=np.float32).reshape(6, 1, 4)
    contract = replace(RAW, outputs=(Output("boxes", (1, 4)),))
    want = Taken({"boxes": values}, {"boxes": values})
    off = values.copy()
    off[2] += 2
    check = compare([want], [Taken({"boxes": values}, {"boxes": off})], contract, "int8", 0.75)
    assert check.ok
    assert check.agreement == pytest.approx(5 / 6)


def test_a_contract_without_a_signal_reads_as_before():
    assert "signal" not in CONTRACT.to_json()
    sound = replace(RAW, signal=Signal("sound", (1, 16)))
    assert Contract.from_json(json.loads(json.dumps(sound.to_json()))) == sound
    with pytest.raises(BadInput, match="unusable shape"):
        Contract.from_json({**sound.to_json(), "signal": {"name": "s", "shape": [0]}})


def test_what_takes_no_pictures_is_not_run_on_video(tmp_path):
    path = write_null(tmp_path / "x.edgevid")
    bundle = Bundle.open(path)
    assert choices(bundle, load("local"), runtime="null")
    bundle.contract = replace(bundle.contract, signal=Signal("sound", (1, 16)))
    with pytest.raises(BadInput, match="takes 'sound', no pictures, and cannot be run on video"):
        choices(bundle, load("local"))
