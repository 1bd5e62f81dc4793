"""Real models that others made and ship, against their own runtimes, on real pictures and sound.

Each is converted by its contract file alone; see `rigs.others`.
"""

from __future__ import annotations

import numpy as np
import pytest

from edgevid.bundle import Bundle
from edgevid_converters import convert
from rigs import others

CLOSE = 1e-3


@pytest.mark.parametrize(
    ("name", "formats", "told"),
    [
        ("face.tflite", ["tflite", "openvino"], ("regressors", 1)),
        ("text.onnx", ["openvino"], ("text", 0.5)),
        ("voice.onnx", ["openvino"], ("speech", 0.01)),
        pytest.param("text.onnx", ["tflite"], ("text", 0.5), marks=pytest.mark.soak),
        pytest.param("voice.onnx", ["tflite"], ("speech", 0.01), marks=pytest.mark.soak),
    ],
)
def test_a_model_of_others_does_what_it_did(name, formats, told, tmp_path):
    for module in ("cv2", "onnxruntime", "skvideo"):
        pytest.importorskip(module)
    file, out = tmp_path / "x.contract.toml", tmp_path / "x.edgevid"
    file.write_text(others.CONTRACTS[name])
    convert(
        others.model(name),
        formats,
        ["float32"],
        calibrate=others.calibration(name, tmp_path),
        contract=file,
        out=out,
    )
    found = others.differences(name, Bundle.open(out))
    assert set(found) == {f"{one}-float32" for one in formats}
    assert max(found.values()) < CLOSE, found
    output, spread = told
    answers = [one[output] for one in others.own_answers(name)]
    assert len(answers) >= 10
    assert np.ptp(answers) > spread  # there was something to find
