"""The stand-in's faults: they strike when they should, and for as long."""

import json

import numpy as np
import pytest

from edgevid import runtimes
from edgevid.errors import BadInput, EngineFailed
from edgevid.runtimes.null.faults import Faults
from rigs.player import noise


@pytest.fixture
def load(contract, monkeypatch):
    def give(accelerator="cpu", **behaviour):
        monkeypatch.setenv("EDGEVID_NULL", json.dumps(behaviour))
        parameters = json.dumps({"decay": 0.5, "sharpness": 8.0}).encode()
        return runtimes.get("null").load({"json": parameters}, contract, accelerator=accelerator)

    return give


def step(engine, contract, level=0.3):
    return engine.step(
        {"frame": noise(contract, 1)[0]}, {"level": np.full((1, 2), level, np.float32)}
    )


def test_a_lie_is_plausible_and_spoils_the_memory_too(load, contract):
    honest, liar = load(), load(faults=[{"kind": "wrong", "at": 1}])
    assert (step(liar, contract)[0]["scores"] == step(honest, contract)[0]["scores"]).all()
    (scores, after), (lied, spoilt) = (step(one, contract) for one in (honest, liar))
    assert sorted(lied["scores"].ravel()) == sorted(scores["scores"].ravel())
    assert (lied["scores"] != scores["scores"]).any()
    assert (spoilt["level"] != after["level"]).all()  # an even memory as well
    broken = step(load(faults=[{"kind": "nan", "at": 0}]), contract)
    assert all(np.isnan(value).all() for part in broken for value in part.values())


def test_a_fault_begins_and_ends(tmp_path, monkeypatch):
    def struck(count=6, **fault):
        faults, seen = Faults([{"kind": "wrong", **fault}]), []
        faults.strike()  # loading
        for _ in range(count):
            seen.append(faults.strike() is not None)
        return seen

    assert struck(at=2) == [False, False, True, True, True, True]
    assert struck(at=2, times=2) == [False, False, True, True, False, False]
    assert struck(after_s=0, times=1) == [True, False, False, False, False, False]
    assert not any(struck(after_s=3600))
    trigger = tmp_path / "broken"
    faults = Faults([{"kind": "wrong", "when": str(trigger)}])
    faults.strike()
    seen = []
    for there in (False, True, True, False):
        trigger.touch() if there else trigger.unlink(missing_ok=True)
        seen.append(faults.strike() is not None)
    assert seen == [False, True, True, False]


def test_an_error_happens_once_where_it_is_set_for_a_step(load, contract):
    engine = load(faults=[{"kind": "error", "at": 1}])
    step(engine, contract)
    with pytest.raises(EngineFailed, match="on schedule"):
        step(engine, contract)
    step(engine, contract)


def test_faults_can_be_confined_to_the_accelerator(load, contract):
    step(load(on="null", faults=[{"kind": "error", "at": 0}]), contract)
    with pytest.raises(EngineFailed):
        step(load("null", on="null", faults=[{"kind": "error", "at": 0}]), contract)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"kind": "hank", "at": 1}, "did you mean hang"),
        ({"kind": "hang", "att": 1}, "did you mean at"),
        ({"kind": "hang"}, "one of: at, after_s, when"),
        ({"kind": "hang", "at": 1, "after_s": 2}, "one of: at, after_s, when"),
    ],
)
def test_a_wrong_schedule_is_rejected_with_its_remedy(load, fault, message):
    with pytest.raises(BadInput, match=message):
        load(faults=[fault])
