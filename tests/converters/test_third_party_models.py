"""Real models that others made and ship, against their own runtimes, on real pictures and sound.

Each is converted by its contract file alone; see `rigs.third_party_models`.
"""

from __future__ import annotations

import numpy as np
import pytest

from edgevid.bundle import Bundle
from edgevid_converters import convert
from rigs import third_party_models

CLOSE = 1e-3


@pytest.mark.parametrize(
    ("name", "formats", "result"),
    [
        ("face.tflite", ["tflite", "openvino"], ("regressors", 1)),
        ("text.onnx", ["openvino"], ("text", 0.5)),
        ("voice.onnx", ["openvino"], ("speech", 0.01)),
        pytest.param("text.onnx", ["tflite"], ("text", 0.5), marks=pytest.mark.soak),
        pytest.param("voice.onnx", ["tflite"], ("speech", 0.01), marks=pytest.mark.soak),
    ],
)
def test_an_imported_model_computes_what_its_runtime_does(name, formats, result, tmp_path):
    for module in ("cv2", "onnxruntime", "skvideo"):
        pytest.importorskip(module)
    file, out = tmp_path / "x.contract.toml", tmp_path / "x.edgevid"
    file.write_text(third_party_models.CONTRACTS[name])
    convert(
        third_party_models.model(name),
        formats=formats,
        quantize=["float32"],
        calibrate=third_party_models.calibration(name, tmp_path),
        contract=file,
        out=out,
    )
    found = third_party_models.differences(name, Bundle.open(out))
    assert set(found) == {f"{one}-float32" for one in formats}
    assert max(found.values()) < CLOSE, found
    output, spread = result
    answers = [one[output] for one in third_party_models.own_answers(name)]
    assert len(answers) >= 10
    assert np.ptp(answers) > spread  # there was something to find
