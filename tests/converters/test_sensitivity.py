"""Parity is judged against the source's own sensitivity, and a wrong model is still refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgevid.contract import Contract, FrameInput, Output, StateTensor, VectorInput
from edgevid.evidence import TensorDifference
from edgevid.proof import RecordedOutputs, Trajectory
from edgevid.proof.replay import SENSITIVITY_FACTOR, allowed_movement, compare
from edgevid_converters.acceptance.parity import (
    describe_sensitivity,
    systematic_difference,
    wider_tolerances,
)
from edgevid_converters.calibration import sensitivity, trajectories
from edgevid_converters.importers import imported
from edgevid_converters.importers.preprocessing import ImageMapping, Preprocessing, TensorMapping
from edgevid_converters.importers.source_model import SourceModel

CONTRACT = Contract("raw", (VectorInput("v", (1, 4)),), (Output("mask", (1, 4)),), (), 10.0)
RIGHT = {"mask": np.linspace(0, 1, 40, dtype=np.float32).reshape(10, 1, 4)}


class Cancelling:
    """Amplifies its input where it almost cancels, as ill-conditioned layers do."""

    forms = ("saved_model",)

    def __init__(self, gain: float = 1e4, precision: str = "float32") -> None:
        self.gain, self.precision = np.float32(gain), precision

    def step(self, inputs, move=None):
        values = {n: move(v) if move and v.dtype.kind == "f" else v for n, v in inputs.items()}
        mask = (values["v"].astype(np.float32) - 1) * self.gain
        return {"mask": mask, **{f"next_{n[6:]}": v for n, v in values.items() if "state" in n}}

    def last_outputs(self, clips):
        return None

    def lower(self, form, folder):
        raise NotImplementedError


def golden(model, contract=CONTRACT) -> list[Trajectory]:
    chance = np.random.default_rng(2)
    rows = (1 + 1e-4 * chance.random((8, 4))).astype(np.float32)
    return trajectories.golden(model, contract, [{"v": rows}, {"v": rows[::-1]}])


def measured(model, contract=CONTRACT):
    return sensitivity.measure(model, contract, golden(model, contract))


def test_a_sensitive_model_is_allowed_a_few_times_its_own_movement():
    found = measured(Cancelling())["float32"]["mask"]
    unit = float(np.spacing(np.float32(1)))
    assert found.max_abs == pytest.approx(1e4 * unit, rel=0.02)
    assert 0.4 * found.max_abs < found.mean_abs <= found.max_abs
    assert found.allowed == pytest.approx(SENSITIVITY_FACTOR * found.max_abs, rel=0.01)
    steady = measured(Cancelling(gain=1))["float32"]["mask"]
    assert steady.max_abs < 1e-6 and steady.allowed == 1e-4
    assert allowed_movement("float32", 0.5) == 0.01  # a wrong model exceeds it
    assert allowed_movement("float16", 0.5) == 0.5


def test_states_move_too():
    contract = replace(CONTRACT, temporal="carry", states=(StateTensor("h", (1, 2)),))
    found = measured(Cancelling(), contract)["float32"]
    assert set(found) == {"mask", "next_h"}


def test_a_model_in_float16_moves_by_units_of_float16():
    fine, coarse = (measured(Cancelling(10, one)) for one in ("float32", "float16"))
    assert coarse["float32"]["mask"].max_abs > 1000 * fine["float32"]["mask"].max_abs
    assert coarse["float16"] == fine["float16"]
    assert fine["float16"]["mask"].allowed > 0.02


def test_bytes_cannot_move():
    class Bytes(Cancelling):
        def step(self, inputs, move=None):
            return {"mask": inputs["frame"].astype(np.float32).mean((1, 2))[:, [0, 1, 2, 0]]}

    contract = replace(CONTRACT, inputs=(FrameInput("frame", 4, 4),))
    clips = [{"frame": np.full((6, 4, 4, 3), 7, np.uint8)}]
    recorded = trajectories.golden(Bytes(), contract, clips)
    assert sensitivity.measure(Bytes(), contract, recorded) == {}


def test_what_was_measured_survives_json():
    from edgevid.documents import to_json

    found = measured(Cancelling())
    assert sensitivity.read(to_json(found)) == found


def test_an_image_moves_after_its_preprocessing(monkeypatch):
    """The model's own input moves: bytes of the frame could not."""
    seen = []

    class Native:
        precision = "float16"

        def infer(self, inputs):
            seen.append(inputs)
            return {"y": np.zeros((1, 4), np.float32)}

    monkeypatch.setattr(imported, "_open", lambda *_, **options: Native())
    contract = replace(CONTRACT, inputs=(FrameInput("frame", 2, 2),))
    image = ImageMapping("frame", "x", "float32", scale=255.0)
    fed = Preprocessing(images=(image,), outputs=(TensorMapping("mask", "y", (1, 4)),))
    source = SourceModel("x", Path("x"), contract, preprocessing=fed)
    model = imported.ImportedModel(source, ())
    assert model.precision == "float16"
    model.step({"frame": np.full((1, 2, 2, 3), 128, np.uint8)}, lambda values: values + 1)
    assert seen[0]["x"].dtype == np.float32
    np.testing.assert_allclose(seen[0]["x"], 1 + 128 / 255, rtol=1e-6)


# --- the gates ------------------------------------------------------------------------------------


def judged(off, wider=None):
    given = {"mask": RIGHT["mask"] + off}
    right, other = (RecordedOutputs(one, one) for one in (RIGHT, given))
    return compare([right], [other], CONTRACT, "float32", 1e-4, 0.3, wider or {})


def test_one_far_value_of_a_sensitive_tensor_passes_and_of_another_does_not():
    spike = np.zeros_like(RIGHT["mask"])
    spike[3, 0, 1] = 1e-3
    assert not judged(spike).ok
    found = judged(spike, {"mask": 5e-3})
    assert found.ok and found.tensor == "mask"
    assert (found.max_abs, found.tolerance) == (pytest.approx(1e-3, rel=1e-3), 5e-3)
    refused = judged(spike * 6, {"mask": 5e-3})
    assert not refused.ok and "more than 0.005" in (refused.reason or "")
    assert not judged(spike, {"other": 5e-3}).ok


def test_the_tensor_that_exceeds_its_own_tolerance_is_named():
    """Not the one with the largest difference, which is allowed more."""
    contract = replace(CONTRACT, outputs=(Output("mask", (1, 4)), Output("score", (1, 4))))
    right = {"mask": RIGHT["mask"], "score": RIGHT["mask"]}
    wrong = {"mask": RIGHT["mask"] + np.float32(3e-3), "score": RIGHT["mask"] + np.float32(1e-3)}
    given = [RecordedOutputs(one, one) for one in (right, wrong)]
    found = compare(given[:1], given[1:], contract, "float32", 1e-4, 0.3, {"mask": 5e-3})
    assert not found.ok and found.tensor == "score" and found.tolerance == 1e-4


@pytest.mark.parametrize(
    "wrong", [RIGHT["mask"][..., ::-1], RIGHT["mask"] * 1.1, np.roll(RIGHT["mask"], 1, 0)]
)
def test_a_wrong_model_exceeds_what_the_most_sensitive_is_allowed(wrong):
    most = {"mask": allowed_movement("float32", 1.0)}
    assert not judged(wrong - RIGHT["mask"], most).ok


def test_many_far_values_are_no_rounding():
    """A scale of 1/256 for 1/255 stays within the limit of the worst value."""
    known = {"float32": {"mask": sensitivity.TensorSensitivity(1e-3, 1e-6, 8e-3)}}
    assert wider_tolerances("float32", known) == {"mask": 8e-3}
    assert wider_tolerances("int8", known) == {}
    near = {"mask": TensorDifference(max_abs=4e-3, mean_abs=5e-6, range=1.0)}
    far = {"mask": TensorDifference(max_abs=4e-3, mean_abs=2e-3, range=1.0)}
    assert systematic_difference("float32", near, known) is None
    assert "off by 0.002 on average, more than 1e-05" in (
        systematic_difference("float32", far, known) or ""
    )
    assert systematic_difference("int8", far, known) is None
    halves = {"float16": {"mask": sensitivity.TensorSensitivity(0.6, 9e-4, 0.5)}}
    assert systematic_difference("float16", far, halves) is None
    mixed_up = {"mask": TensorDifference(max_abs=0.4, mean_abs=0.02, range=1.0)}
    assert systematic_difference("float16", mixed_up, halves) is not None
    broken = {"mask": TensorDifference(max_abs=None, mean_abs=None, range=1.0)}
    assert systematic_difference("float32", broken, known) == (
        "mask differs from the model's by values that are not finite"
    )
    text = describe_sensitivity("mask", "float32", known)
    assert text.startswith(" (in the model itself it moves by 0.001 when the input moves by one")
    assert describe_sensitivity("other", "float32", known) == ""


def test_a_constant_tensor_has_nothing_to_follow():
    """The scores of a model without weights are 1/1000 each; int8 cannot write that."""
    right = {"mask": np.full((6, 1, 4), 1e-3, np.float32)}
    right["mask"][0, 0, 0] += np.float32(1e-10)
    given = [RecordedOutputs(one, one) for one in (right, {"mask": np.zeros((6, 1, 4))})]
    assert compare(given[:1], given[1:], CONTRACT, "int8", 0.75, 0.3).ok
    wrong = [given[0], RecordedOutputs({"mask": right["mask"] + 0.3}, given[0].carried)]
    assert not compare(wrong[:1], wrong[1:], CONTRACT, "int8", 0.75, 0.3).ok
