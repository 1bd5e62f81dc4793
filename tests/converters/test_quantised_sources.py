"""Models that are quantised already keep their quantisation."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import edgevid as api
from edgevid.errors import BadInput
from edgevid_converters import importers
from edgevid_converters.importers import onnx as onnx_importer
from edgevid_converters.importers import openvino as openvino_importer
from edgevid_converters.pipeline.options import ConvertOptions
from edgevid_converters.pipeline.plan import make_plan
from edgevid_converters.pipeline.source import check_stays, fit_plan
from rigs import models, quantised_models
from rigs.videos import moving_images, write_video

ROUNDING = 0.02
"""What int8 may change in the scores of `rigs.models`."""


@pytest.mark.parametrize("name", quantised_models.KINDS)
def test_files_of_the_usual_quantisers_are_what_they_compute_in(quantised_files, name):
    path = quantised_files / name
    if name == "operators.onnx":
        with pytest.raises(BadInput, match=r"com.microsoft.*; give the float model .*QDQ"):
            onnx_importer.open_model(path)
        return
    opened = (onnx_importer if path.suffix == ".onnx" else openvino_importer).open_model(path)
    assert opened.quantised == quantised_models.KINDS[name]


@pytest.mark.parametrize("name", ["nncf.xml", "qdq.onnx"])
def test_a_quantised_file_is_converted_as_it_is(quantised_files, name, tmp_path, edgevid):
    """It is named int8 and has the file's numbers; the other format is refused with a remedy."""
    for file in quantised_files.glob(f"{name.partition('.')[0]}.*"):
        shutil.copy(file, tmp_path)
    model, out = tmp_path / name, tmp_path / "made.edgevid"
    clip = write_video(tmp_path / "clip.mp4", moving_images(24, 40, 48))
    model.with_suffix(".contract.toml").write_text(models.CONTRACT)
    words = ("convert", model, "--calibrate", clip, "-o", out)
    done = edgevid(*words)
    assert done.returncode == 1
    assert f"note: {name} is quantised already (int8) and is used as it is" in done.stdout
    assert "not written: tflite-int8" in done.stderr
    assert done.stderr.strip().endswith(", or leave tflite out: -f openvino")
    own = importers.load(importers.describe(model))
    with api.load(out) as bundle:
        assert [one.name for one in bundle.bundle.artifacts] == ["openvino-int8"]
        for frame in models.frames():
            scores = bundle(frame[0]).scores
            np.testing.assert_allclose(scores, models.expected(frame)[0], atol=ROUNDING)
            np.testing.assert_allclose(scores, own.step({"frame": frame})["scores"][0], atol=0.01)
    assert edgevid(*words, "-f", "openvino").returncode == 0
    assert edgevid("verify", out).returncode == 0


def quantised_already(kind: str, forms: tuple[str, ...], own: str) -> importers.SourceModel:
    return importers.SourceModel(kind, Path("m.tflite"), None, forms, quantised=own)


def test_a_model_that_is_quantised_already_stays_what_it_is():
    plan = make_plan(ConvertOptions(Path("m.tflite")))
    fitted = fit_plan(plan, quantised_already("tflite", ("tflite",), "int8"))
    assert fitted.quantisations == {"tflite": ("int8",), "openvino": ("int8",)}
    assert fitted.as_it_is and not fitted.calibrates
    assert fit_plan(plan, quantised_already("tflite", ("tflite",), "float32")) == plan


def test_another_quantisation_of_it_is_refused_with_the_remedy():
    plan = make_plan(ConvertOptions(Path("m.tflite"), quantize=("float32",)))
    with pytest.raises(BadInput, match=r"quantised already \(int8\), and stays so; leave out --q"):
        fit_plan(plan, quantised_already("tflite", ("tflite",), "int8"))
    with pytest.raises(BadInput, match="cannot become tflite as it is; give the float model"):
        check_stays(quantised_already("onnx", ("onnx", "saved_model"), "int8"), "tflite")
    with pytest.raises(BadInput, match="cannot become openvino as it is; give the float model"):
        check_stays(quantised_already("tflite", ("tflite",), "int16x8"), "openvino")
