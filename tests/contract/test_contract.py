import json

import pytest

from edgevid.contract import Contract
from edgevid.errors import BadInput
from edgevid_converters.importers import describe

FRAME = {"kind": "frame", "name": "frame", "height": 8, "width": 8}
AUDIO = {"kind": "audio", "name": "sound", "sample_rate_hz": 16000, "samples": 512}
VECTOR = {"kind": "vector", "name": "speed", "shape": [1, 2]}


def test_json_gives_the_same_contract_back(contract):
    assert Contract.from_json(json.loads(json.dumps(contract.to_json()))) == contract


def test_tensor_names_are_the_grammar(contract):
    assert (contract.states[0].input_name, contract.states[0].output_name) == (
        "state_level",
        "next_level",
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colour": "bgr"}, "unknown key 'colour'"),
        ({"temporal": "always"}, "must be one of none, window, carry"),
        ({"temporal": "none"}, "contract.states must be empty"),
        ({"inputs": [FRAME | {"height": 0}]}, "height and width from 1"),
        ({"inputs": [FRAME | {"fit": "squash"}]}, "letterbox"),
        ({"inputs": [FRAME | {"size": 3}]}, "inputs 'frame' has an unknown key 'size'"),
        ({"inputs": [FRAME | {"width": 1 << 20}]}, "width from 1 to 16384"),
        ({"inputs": None}, "inputs must be a list"),
        ({"inputs": [None]}, r"inputs\[0\] must be a table"),
        ({"inputs": []}, "inputs is empty"),
        ({"inputs": [{"name": "x", "shape": [1]}]}, "inputs 'x' lacks the key 'kind'; add it: one"),
        ({"inputs": [VECTOR | {"kind": "image"}]}, "kind must be one of frame, audio, vector"),
        ({"inputs": [FRAME, VECTOR | {"name": "frame"}]}, "two entries named 'frame'; rename one"),
        ({"inputs": [VECTOR | {"name": "state_level"}]}, "two inputs named 'state_level', one of"),
        ({"inputs": [VECTOR | {"shape": [0]}]}, "inputs: 'speed' has an unusable shape"),
        ({"inputs": [AUDIO | {"samples": 0}]}, "inputs: 'sound' has an unusable shape"),
        ({"inputs": [AUDIO | {"sample_rate_hz": 0}]}, "'sound' needs a positive sample_rate_hz"),
        ({"rate_fps": float("nan")}, "rate_fps must be a number"),
        ({"rate_fps": 0.0}, "positive rate_fps of at most 1000"),
        ({"frames": 0}, "frames must be from 1 to 1048576"),
        ({"labels": "dark"}, "labels must be a list"),
        ({"labels": [1]}, r"labels\[0\] must be text, not 1"),
        ({"outputs": [{"name": "scores"}]}, "outputs 'scores' lacks the key 'shape'"),
        ({"outputs": [{"name": "s", "shape": [1, 0]}]}, "outputs: 's' has an unusable shape"),
        ({"outputs": [{"name": "s", "shape": [1, 1 << 40]}]}, "'s' has an unusable shape"),
        (
            {"outputs": [{"name": "s", "shape": [1]}] * 2},
            "outputs has two entries named 's'; rename one",
        ),
        ({"states": [{"name": "", "shape": [1]}]}, "states: entry 0 has no name"),
    ],
)
def test_what_makes_no_sense_is_named(contract, change, says):
    with pytest.raises(BadInput, match=says):
        Contract.from_json({**contract.to_json(), **change})


@pytest.mark.parametrize("data", [None, [], "contract", 3])
def test_what_is_no_contract_at_all(data):
    with pytest.raises(BadInput, match="contract: must be a table"):
        Contract.from_json(data)


def test_an_answer_is_warm_when_the_window_is_full(contract):
    window = {**contract.to_json(), "temporal": "window"}
    assert Contract.from_json(window).warm_after == 4
    assert contract.warm_after == 1


def test_inputs_of_every_kind_survive_json(contract):
    mixed = Contract.from_json({**contract.to_json(), "inputs": [FRAME, AUDIO, VECTOR]})
    assert Contract.from_json(json.loads(json.dumps(mixed.to_json()))) == mixed
    found = {one.name: (one.kind, one.dtype, one.shape) for one in mixed.inputs}
    assert found == {
        "frame": ("frame", "uint8", (1, 8, 8, 3)),
        "sound": ("audio", "float32", (1, 512)),
        "speed": ("vector", "float32", (1, 2)),
    }
    assert mixed.frame.name == "frame"
    assert not mixed.is_video


def test_the_frame_is_the_only_one(contract):
    two = Contract.from_json(
        {**contract.to_json(), "inputs": [FRAME, FRAME | {"name": "other"}, VECTOR]}
    )
    with pytest.raises(BadInput, match=r"has 2 frame inputs .*frame 'other', vector 'speed'"):
        assert two.frame


def test_the_old_form_is_one_line_with_the_remedy(contract):
    new = contract.to_json()
    old = {key: value for key, value in new.items() if key not in ("inputs", "rate_fps")}
    for more in ({"frame": {"height": 8}}, {"frame": {}, "signal": {"name": "sound"}}):
        with pytest.raises(BadInput, match="old form without named inputs; convert") as caught:
            Contract.from_json({**old, **more})
        assert "\n" not in str(caught.value)


def test_a_run_of_the_old_form_is_one_line_with_its_file(tmp_path, contract):
    old = {key: value for key, value in contract.to_json().items() if key != "inputs"}
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "contract.json").write_text(json.dumps(old | {"frame": {"height": 8}}))
    with pytest.raises(BadInput, match=r"contract\.json: contract has the old form.*edgevid train"):
        describe(tmp_path)
