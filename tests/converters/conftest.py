"""What the tests of this room share: a real lowering and its conversions, and tiny models."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgevid import registry
from edgevid.progress import silent
from edgevid_converters import convert, importers, pipeline
from edgevid_converters.calibration import calibration_data
from edgevid_converters.conversion_cache import ConversionCache
from edgevid_converters.importers import SourceModel
from edgevid_converters.lowering import artifact_builder
from edgevid_converters.lowering.artifact_builder import ArtifactBuilder
from edgevid_converters.pipeline import lower
from edgevid_converters.pipeline.data import ConversionData
from edgevid_converters.pipeline.lower import lower_in_child
from edgevid_converters.pipeline.source import ConversionSource, choose_forms
from rigs.processes import write_in_child


@dataclass(frozen=True)
class Lowered:
    """What the children made of a run, and what they answered."""

    source: SourceModel
    folder: Path
    forms: dict[str, str]
    answers: dict[str, dict[str, Any]]

    def files(self, name: str) -> dict[str, bytes]:
        endings = self.answers[name]["endings"]
        return {ending: (self.folder / f"{name}.{ending}").read_bytes() for ending in endings}


@pytest.fixture(autouse=True)
def no_cache(monkeypatch) -> None:
    """Compute everything anew: many tests compare what two conversions made."""
    monkeypatch.setattr(ConversionCache, "open", lambda: None)


@pytest.fixture(scope="session")
def tiny(made_once) -> Path:
    """The tiny models, and what they answer in every form; see `rigs.models`."""

    def make(folder: Path) -> None:
        write_in_child("rigs.models", folder)

    return made_once("tiny-models", make)


@pytest.fixture(scope="session")
def quantised_files(made_once) -> Path:
    """The files of `rigs.quantised_models`."""
    for package in ("nncf", "onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package)

    def make(folder: Path) -> None:
        write_in_child("rigs.quantised_models", folder)

    return made_once("quantised-files", make)


@pytest.fixture(scope="session")
def lowered(real_run, tmp_path_factory) -> Lowered:
    """The run lowered, its streams recorded, and every artifact made, each in its child."""
    made = lower_run(real_run, tmp_path_factory.mktemp("lowered"))
    builder = ArtifactBuilder(made.forms, made.answers["lower"], made.folder)
    for format_name in registry.names("converter"):
        task = {
            **builder.task("convert", format_name),
            "quantize": registry.load("converter", format_name).quantisations,
            "keep": {},
            "measure": True,
            "out": str(made.folder),
        }
        made.answers.update(builder._ask(f"conversion to {format_name}", task))
    return made


@pytest.fixture(scope="session")
def lowered_carry(carry_run, tmp_path_factory) -> Lowered:
    """The run that carries its memory, lowered, and its streams recorded."""
    return lower_run(carry_run, tmp_path_factory.mktemp("lowered"))


def lower_run(run: Path, folder: Path) -> Lowered:
    source = importers.describe(run)
    names, clips, _ = calibration_data.calibration_clips(source, None)
    held_out, _ = calibration_data.held_out(source, None, None, names, silent)
    forms = choose_forms(source, dict.fromkeys(registry.names("converter")))
    data = ConversionData(tuple(names), tuple(clips), held_out, "")
    answers = {"lower": lower_in_child(ConversionSource(source, forms, None), data, folder)}
    return Lowered(source, folder, forms, answers)


@pytest.fixture
def quick(lowered, monkeypatch, tmp_path):
    """Let children answer from what was made before; gives a function that converts."""
    answers = json.loads(json.dumps(lowered.answers))

    asked = []

    def kept(what, task, **access):
        asked.append((task["do"], *task.get("quantize", ())))
        if task["do"] == "lower":
            shutil.copytree(lowered.folder, task["out"], dirs_exist_ok=True)
            moved = json.dumps(answers["lower"]).replace(str(lowered.folder), task["out"])
            return json.loads(moved)
        if task["do"] == "operators":
            return {"operators": {"CONV_2D": 4, "GATHER": 1}}
        for file in lowered.folder.glob(f"{task['format']}-*"):
            shutil.copy(file, task["out"])
        return {name: result for name, result in answers.items() if name.startswith(task["format"])}

    for asking in (lower, artifact_builder):
        monkeypatch.setattr(asking, "ask", kept)
    monkeypatch.setattr(pipeline.tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()

    def run(**options):
        out = tmp_path / "x.edgevid"
        return convert(lowered.source.path, out=out, **options).to_json()

    run.clip = next(Path(lowered.source.data).rglob("*.mp4"))
    run.answers, run.source, run.asked = answers, lowered.source.path, asked
    yield run
    assert list((tmp_path / "tmp").iterdir()) == []


def pytest_collection_modifyitems(items) -> None:
    """Start the tests of this folder early: they are among the longest."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.starts(2))
