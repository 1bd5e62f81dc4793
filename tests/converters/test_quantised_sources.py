"""Models that are quantised already keep their quantisation."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevid.errors import BadInput
from edgevid_converters import importers
from edgevid_converters.pipeline.options import ConvertOptions
from edgevid_converters.pipeline.plan import make_plan
from edgevid_converters.pipeline.source import fit_plan


def quantised_already(kind: str, forms: tuple[str, ...], own: str) -> importers.SourceModel:
    return importers.SourceModel(kind, Path("m.tflite"), None, forms, quantised=own)


def test_a_model_that_is_quantised_already_stays_what_it_is():
    plan = make_plan(ConvertOptions(Path("m.tflite")))
    fitted = fit_plan(plan, quantised_already("tflite", ("tflite",), "int8"))
    assert fitted.quantisations == {"tflite": ("int8",), "openvino": ("int8",)}
    assert fitted.as_it_is and not fitted.calibrates
    assert fit_plan(plan, quantised_already("tflite", ("tflite",), "float32")) == plan
    fitted = fit_plan(plan, quantised_already("onnx", ("onnx", "saved_model"), "int8"))
    assert fitted.quantisations == {"openvino": ("int8",)}


def test_another_quantisation_of_it_is_refused_with_the_remedy():
    plan = make_plan(ConvertOptions(Path("m.tflite"), quantize=("float32",)))
    with pytest.raises(BadInput, match="is int8 already, and stays so; leave out --quantize, or"):
        fit_plan(plan, quantised_already("tflite", ("tflite",), "int8"))
    plan = make_plan(ConvertOptions(Path("m.onnx"), formats=("tflite",)))
    with pytest.raises(BadInput, match="cannot become tflite as it is; give the float model"):
        fit_plan(plan, quantised_already("onnx", ("onnx", "saved_model"), "int8"))
