"""What fails does not withhold the rest, and what is known is not computed again."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from html import unescape

import jsonschema
import pytest
from click.testing import CliRunner

from edgevid.bundle import Bundle
from edgevid.cli.host import convert as cli_convert
from edgevid.cli.inspect import evidence_facts
from edgevid.documents import published
from edgevid.errors import BadInput, CheckFailed
from edgevid.files import write_json
from edgevid_converters.child_process import LOWERING, ChildFailed
from edgevid_converters.conversion_cache import ConversionCache
from edgevid_converters.lowering import artifact_builder
from edgevid_converters.pipeline import lower, source


def refused(quick, tmp_path, message: str, error=CheckFailed, **options) -> None:
    with pytest.raises(error, match=message) as caught:
        quick(**options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.edgevid").exists() and not (tmp_path / "x.html").exists()


# --- what fails does not withhold the rest --------------------------------------------------------


def command(quick, tmp_path, *more: str) -> tuple[int, dict, str]:
    """Run ``edgevid convert --json``; returns exit code, document and standard error."""
    run = [str(quick.source), "-o", str(tmp_path / "x.edgevid"), "--json"]
    done = CliRunner().invoke(cli_convert.command, [*run, *more], standalone_mode=False)
    return done.return_value, json.loads(done.stdout), done.stderr


def test_an_artifact_that_does_not_pass_is_listed_beside_those_that_do(quick, tmp_path):
    operator = {"kind": "CONV_2D", "name": "block_7/conv", "product": True, "stray": True}
    quick.answers["tflite-int8"]["float_ops"].append(operator)
    code, document, stderr = command(quick, tmp_path)
    assert code == 1
    names = ["openvino-float32", "openvino-int8", "tflite-float32"]
    assert [one["name"] for one in document["artifacts"]] == names
    (reason,) = document["refused"].values()
    assert reason.startswith("would compute an unknown share of its arithmetic in float32")
    assert "CONV_2D: block_7/conv" in reason and reason.endswith("or --allow-float")
    assert f"edgevid: not written: tflite-int8: {reason}" in stderr.splitlines()
    bundle = Bundle.open(tmp_path / "x.edgevid")
    assert [one.name for one in bundle.artifacts] == names
    assert bundle.evidence["refused"] == {"tflite-int8": reason}
    jsonschema.validate(dict(bundle.evidence), published("evidence"))
    assert "tflite-int8" not in bundle.evidence["layers"]
    assert ("refused", f"tflite-int8: {reason}") in evidence_facts(bundle.evidence)
    assert f"not in the bundle: tflite-int8: {reason}" in unescape(
        (tmp_path / "x.html").read_text()
    )
    code, again, _ = command(quick, tmp_path, "--keep-going")
    assert code == 0 and again == document | {
        "artifacts": [
            one | {"latency_ms": other["latency_ms"]}
            for one, other in zip(document["artifacts"], again["artifacts"], strict=True)
        ]
    }


def test_keep_going_needs_an_artifact_of_every_format(quick, tmp_path):
    for name in ("tflite-float32", "tflite-int8"):
        quick.answers[name] = {"error": "BadInput", "message": "no such operator; remove it"}
    code, document, stderr = command(quick, tmp_path, "--keep-going")
    assert code == 1
    assert document["refused"] == dict.fromkeys(
        ("tflite-float32", "tflite-int8"), "no such operator; remove it"
    )
    assert stderr.count("not written: ") == 2
    assert {one.format for one in Bundle.open(tmp_path / "x.edgevid").artifacts} == {"openvino"}


def test_a_form_that_cannot_be_lowered_stops_only_its_format(quick, tmp_path, monkeypatch):
    """As an ONNX model that onnx2tf cannot lower still goes to OpenVINO."""
    forms = {"tflite": "saved_model", "openvino": "onnx"}
    monkeypatch.setattr(source, "choose_forms", lambda model, names: {n: forms[n] for n in names})
    quick.answers["lower"]["lowered"]["onnx"] = quick.answers["lower"]["lowered"]["saved_model"]
    why = {"error": "BadInput", "message": "onnx2tf cannot lower node Concat_9; leave tflite out"}
    quick.answers["lower"]["refused"] = {"saved_model": why}
    result = quick(target="raspberry-pi-5", formats=["tflite", "openvino"], quantize=["float32"])
    assert [one["name"] for one in result["artifacts"]] == ["openvino-float32"]
    assert result["refused"] == {"tflite-float32": why["message"]}
    monkeypatch.setattr(
        source, "choose_forms", lambda model, names: dict.fromkeys(names, "saved_model")
    )
    refused(quick, tmp_path / "none", "onnx2tf cannot lower node", BadInput)


CHILD = {"files": [], "starts": False, "out": "out"}


def test_a_crash_while_lowering_to_one_form_leaves_the_others(monkeypatch):
    asked = []

    def crashing(what, task, **access):
        asked.append(list(task["forms"]))
        if "saved_model" in task["forms"]:
            raise ChildFailed("it crashed", f"{LOWERING}saved_model")
        return {"lowered": {"onnx": "model.onnx"}, "refused": {}}

    monkeypatch.setattr(lower, "ask", crashing)
    answer = lower.ask_for_forms({**CHILD, "forms": ["onnx", "saved_model"]})
    assert asked == [["onnx", "saved_model"], ["onnx"]]
    assert answer["refused"]["saved_model"]["message"] == "it crashed"
    with pytest.raises(ChildFailed):
        lower.ask_for_forms({**CHILD, "forms": ["saved_model"]})


def test_a_crash_at_one_quantisation_leaves_the_others(lowered, tmp_path, monkeypatch):
    """What the child had finished is read from its files; what it had not begun is begun anew."""
    asked = []

    def crashing(what, task, **access):
        asked.append(task["quantize"])
        made = {f"tflite-{one}": lowered.answers[f"tflite-{one}"] for one in task["quantize"]}
        if "int8" not in task["quantize"]:
            return made
        write_json(tmp_path / "tflite-float32.json", made["tflite-float32"])
        raise ChildFailed("it crashed", "tflite-int8")

    monkeypatch.setattr(artifact_builder, "ask", crashing)
    for file in lowered.folder.glob("tflite-*.tflite"):
        shutil.copy(file, tmp_path)
    forms = {"tflite": "saved_model"}
    builder = artifact_builder.ArtifactBuilder(forms, lowered.answers["lower"], tmp_path)
    result = builder.build("tflite", ["float32", "int8", "float16"])
    assert asked == [["float32", "int8", "float16"], ["float16"]]
    assert [one.artifact.quantize for one in result.built] == ["float32", "float16"]
    assert list(map(str, result.refused.values())) == ["it crashed"]


# --- what earlier conversions have computed -------------------------------------------------------


def test_a_second_conversion_costs_only_the_difference(quick, tmp_path, monkeypatch):
    kept = ConversionCache(tmp_path / "cache")
    kept.folder.mkdir()
    monkeypatch.setattr(ConversionCache, "open", lambda: kept)
    out = tmp_path / "x.edgevid"

    def asked(**options) -> list[tuple[str, ...]]:
        quick.asked.clear()
        quick(**options)
        return list(quick.asked)

    everything = [("lower",), *[("convert", "float32", "int8")] * 2]
    assert asked(cache=False) == everything and not list(kept.folder.iterdir())
    plain = out.read_bytes()
    for again in (everything, []):
        assert asked() == again
        assert out.read_bytes() == plain
    assert asked(max_drop=0.5) == []
    assert asked(formats=["tflite"], quantize=["int8", "float16"]) == [("convert", "float16")]
    assert asked(calibrate=quick.clip) == [("lower",)]  # whose child records the same
    for file in kept.folder.rglob("files/**/*"):  # damage is noticed, and made good
        if file.is_file():
            content = file.read_bytes()
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert asked() == everything
    assert out.read_bytes() == plain
    assert asked() == []


def test_the_cache_is_its_owners_alone_and_bounded(tmp_path, monkeypatch):
    monkeypatch.undo()  # of the fixture that does without
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = ConversionCache.open()
    assert kept is not None and kept.folder == tmp_path / "edgevid" / "convert"
    assert kept.folder.stat().st_mode & 0o777 == 0o700
    file = tmp_path / "made"
    file.write_bytes(bytes(1000))
    small = replace(kept, most_bytes=5000)
    for number in range(5):
        small.store({"number": number}, number, tmp_path, [file])
        os.utime(kept.folder / _entry(small, number), (number, number))
    assert small.fetch({"number": 0}, tmp_path / "into") is None
    assert small.fetch({"number": 2}, tmp_path / "into") == 2  # now it is the last one used
    assert (tmp_path / "into" / "made").read_bytes() == bytes(1000)
    small.store({"number": 6}, 6, tmp_path, [file])
    assert small.fetch({"number": 2}, tmp_path / "into") == 2
    assert small.fetch({"number": 1}, tmp_path / "into") is None
    file.write_bytes(bytes(2000))
    small.store({"number": 7}, 7, tmp_path, [file])  # more than a quarter
    assert small.fetch({"number": 7}, tmp_path / "into") is None


def _entry(kept: ConversionCache, number: int) -> str:
    places = {json.loads(e.read_bytes())["value"]: e.parent for e in kept.folder.glob("*/*.json")}
    return places[number].name + "/entry.json"


def test_an_entry_cannot_write_outside_its_folder(tmp_path):
    kept = ConversionCache(tmp_path / "cache")
    kept.folder.mkdir()
    file = tmp_path / "made"
    file.write_bytes(b"1")
    kept.store({"unit": "x"}, 1, tmp_path, [file])
    (entry,) = kept.folder.glob("*/entry.json")
    entry.write_text(entry.read_text().replace('"made"', '"../made"'))
    (tmp_path / "into").mkdir()
    assert kept.fetch({"unit": "x"}, tmp_path / "into") is None
    assert not entry.exists()
