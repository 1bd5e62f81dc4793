import json

import pytest

from edgevid.contract import Contract
from edgevid.errors import BadInput


def test_json_gives_the_same_contract_back(contract):
    assert Contract.from_json(json.loads(json.dumps(contract.to_json()))) == contract


def test_tensor_names_are_the_grammar(contract):
    assert (contract.states[0].taken, contract.states[0].given) == ("state_level", "next_level")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colour": "bgr"}, "unknown key 'colour'"),
        ({"temporal": "always"}, "must be one of none, window, carry"),
        ({"temporal": "none"}, "contract.states must be empty"),
        ({"frame": {"height": 0, "width": 8, "rate_fps": 5.0}}, "height and width from 1"),
        ({"frame": {"height": 8, "width": 8, "rate_fps": 5.0, "fit": "squash"}}, "letterbox"),
        (
            {"frame": {"height": 8, "width": 8, "rate_fps": 5.0, "size": 3}},
            "frame has an unknown key 'size'",
        ),
        (
            {"frame": {"height": 8, "width": 8, "rate_fps": float("nan")}},
            "rate_fps must be a number",
        ),
        ({"frame": {"height": 8, "width": 1 << 20, "rate_fps": 5.0}}, "width from 1 to 16384"),
        ({"frame": None}, "frame must be a table"),
        ({"frames": 0}, "frames must be at least 1"),
        ({"labels": "dark"}, "labels must be a list"),
        ({"labels": [1]}, r"labels\[0\] must be text, not 1"),
        ({"outputs": [{"name": "scores"}]}, "outputs 'scores' lacks the key 'shape'"),
        ({"outputs": [{"name": "s", "shape": [1, 0]}]}, "outputs: 's' has an unusable shape"),
        ({"outputs": [{"name": "s", "shape": [1, 1 << 40]}]}, "'s' has an unusable shape"),
        ({"outputs": [{"name": "s", "shape": [1]}] * 2}, "outputs must have names that differ"),
        ({"states": [{"name": "", "shape": [1]}]}, "states must have names that differ"),
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
