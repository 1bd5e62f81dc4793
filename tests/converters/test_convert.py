"""A whole conversion: one bundle that is proven and measured, or nothing at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from edgevid import registry
from edgevid.bundle import Bundle
from edgevid.documents import published
from edgevid.errors import BadInput, CheckFailed, ConverterFailed, MissingExtra
from edgevid.evidence import Evidence
from edgevid.isolation.child_task import ChildOutcome
from edgevid.proof import Golden, Verdict
from edgevid_converters import child_process, convert, importers
from edgevid_converters.acceptance import artifact_acceptance, parity
from edgevid_converters.lowering import artifact_builder
from edgevid_converters.pipeline import lower, plan
from rigs.videos import moving_images, write_video

FORMATS = registry.names("converter")


# --- the whole, really ----------------------------------------------------------------------------


def test_equal_inputs_give_equal_bytes(quick, lowered, real_bundle, tmp_path):
    """Every child ran twice: for the bundle, and for what `quick` answers from."""
    result = quick()
    assert (tmp_path / "x.edgevid").read_bytes() == real_bundle.read_bytes()
    assert result["bundle"] == str(tmp_path / "x.edgevid")
    assert result["sha256"] == Bundle.open(real_bundle).sha256
    assert {a["name"] for a in result["artifacts"]} == {
        f"{name}-{quantize}" for name in FORMATS for quantize in ("float32", "int8")
    }
    for artifact in result["artifacts"]:
        assert artifact["name"] == f"{artifact['format']}-{artifact['quantize']}"
        assert artifact["parity"]["max_abs"] <= (0.35 if artifact["quantize"] == "int8" else 1e-4)
        assert 0 <= artifact["parity"]["agreement"] <= 1
        assert artifact["metric"]["name"] == "accuracy"
        assert artifact["metric"]["n"] == len(lowered.source.split["test"])
        assert 0 <= artifact["metric"]["artifact"] <= 1
        assert artifact["bytes"] > 0
        assert artifact["float_ops"]


def test_the_bundle_holds_evidence_but_no_paths_or_times(real_run, real_bundle):
    bundle = Bundle.open(real_bundle)
    bundle.check()
    evidence = bundle.evidence
    jsonschema.validate(evidence, published("evidence"))
    assert Evidence.from_json(evidence).to_json() == evidence
    record = json.loads((real_run / "run.json").read_text())
    assert evidence["source"]["model"] == record["model"]
    assert {name: [*paths] for name, paths in bundle.split.items()} == record["split"]
    assert set(evidence["calibration"]["clips"]) <= set(record["split"]["train"])
    assert evidence["held_out"]["clips"] == len(record["split"]["test"])
    assert {"tensorflow", "openvino", "nncf", "python"} <= evidence["versions"].keys()
    text = json.dumps({"evidence": dict(evidence), "a": [vars(a) for a in bundle.artifacts]})
    assert str(real_run.parent) not in text
    assert "seconds" not in text
    for artifact in bundle.artifacts:
        golden = Golden.read(bundle, artifact.name)
        assert len(golden.trajectories) == len(golden.references[artifact.name]) == 2
        assert golden.pixels is not None
        kept = {"int8"} if artifact.quantize == "int8" else {"float32", "float16", "bf16"}
        assert artifact.tolerance.keys() == kept


def test_an_interrupt_leaves_nothing_behind(real_run, tmp_path):
    places = {name: tmp_path / name for name in ("out", "tmp", "cache")}
    for place in places.values():
        place.mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(places["tmp"]),
        "XDG_CACHE_HOME": str(places["cache"]),
    }
    out = places["out"] / "x.edgevid"
    out.write_bytes(b"the old one")
    parent = subprocess.Popen(
        [sys.executable, "-m", "edgevid", "convert", str(real_run), "-o", str(out)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        end = time.monotonic() + 60
        while not (children := _children(parent.pid, b"edgevid_converters.fork_server")):
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(1.5)  # into TensorFlow's import, or into a task
        children += _children(children[0], b"edgevid_converters")
        parent.send_signal(signal.SIGINT)
        _, message = parent.communicate(timeout=30)
    finally:
        parent.kill()
        parent.wait()
    assert parent.returncode == 130, message
    assert out.read_bytes() == b"the old one"
    assert list(places["out"].iterdir()) == [out]
    assert list(places["tmp"].iterdir()) == []
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < end, "a child outlived the conversion"
        time.sleep(0.05)


def _children(pid: int, command: bytes) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(p) for p in listed if command in Path(f"/proc/{p}/cmdline").read_bytes()]


def test_a_damaged_run_is_bad_input_also_from_the_child(real_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(real_run, run)
    weights = run / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BadInput, match=r"model\.weights\.h5 cannot be read"):
        convert(run, out=tmp_path / "x.edgevid")
    assert not (tmp_path / "x.edgevid").exists()


# --- the gates, with what the children made kept from before --------------------------------------


def refused(quick, tmp_path, message: str, error=CheckFailed, **options) -> None:
    with pytest.raises(error, match=message) as caught:
        quick(**options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.edgevid").exists() and not (tmp_path / "x.html").exists()


def test_the_requested_artifacts_are_built(quick, tmp_path):
    result = quick(formats=["tflite"], quantize=["int8", "int8"])
    assert [a["name"] for a in result["artifacts"]] == ["tflite-int8"]
    seen = []
    assert all(a["latency_ms"] > 0 for a in result["artifacts"])
    assert result["page"] == str(tmp_path / "x.html") and (tmp_path / "x.html").exists()
    quick(progress=lambda what, done, total, note="": seen.append((what, done, total)))
    steps = list(dict.fromkeys((done, total) for what, done, total in seen if what == "converting"))
    total = steps[0][1]
    assert steps == sorted(steps) and len(steps) >= 9
    assert steps[0] == (0, total) and steps[-1] == (total, total)


def test_a_float_product_in_int8_is_rejected_by_name(quick, tmp_path):
    operator = {"kind": "CONV_2D", "name": "block_7/conv", "product": True, "stray": True}
    quick.answers["tflite-int8"]["float_ops"].append(operator | {"share": 0.6})
    message = r"tflite-int8 would compute 60% of its .* \(CONV_2D: block_7/conv\); TensorFlow's"
    refused(quick, tmp_path, message, formats=["tflite"], quantize=["int8"])
    result = quick(allow_float=True)
    assert any("CONV_2D" in a["float_ops"] for a in result["artifacts"] if a["quantize"] == "int8")


def test_a_small_float_remainder_is_listed_with_its_share(quick, tmp_path):
    operator = {"kind": "Convolution", "name": "squeeze", "product": True, "stray": True}
    for number, share in enumerate((0.004, 0.00234)):
        one = operator | {"name": f"squeeze_{number}", "share": share}
        quick.answers["openvino-int8"]["float_ops"].append(one)
    seen: list[str] = []
    result = quick(progress=lambda what, done, total, note="": seen.append(note))
    (note,) = [note for note in result["notes"] if "stay in float32" in note]
    assert seen.index(note) < next(k for k, one in enumerate(seen) if one.startswith("proving"))
    assert note.startswith(
        "openvino-int8: Convolution x2 stay in float32, 0.0063 of its arithmetic"
    )
    assert "NNCF leaves squeeze-and-excite blocks" in note
    bundle = Bundle.open(tmp_path / "x.edgevid")
    assert bundle.evidence["float_remainder"] == {
        "openvino-int8": {
            "operators": ["Convolution x2"],
            "names": ["squeeze_0", "squeeze_1"],
            "share": 0.00634,
        }
    }
    jsonschema.validate(bundle.evidence, published("evidence"))
    html = (tmp_path / "x.html").read_text()
    assert "squeeze_0, squeeze_1" in html and "0.00634" in html


def test_a_target_gets_artifacts_for_its_engines_and_notes_on_unsupported_operators(
    quick, monkeypatch
):
    result = quick(target="generic-armv7")
    assert [a["name"] for a in result["artifacts"]] == ["tflite-int8"]
    monkeypatch.setenv("PATH", "/nowhere")
    seen = []
    result = quick(
        target="raspberry-pi-5-coral",
        formats=["tflite"],
        progress=lambda what, done, total, note="": seen.append(note),
    )
    assert [a["name"] for a in result["artifacts"]] == ["tflite-int8"]
    message = [
        note for note in result["notes"] if note.startswith("tflite/edgetpu: will not execute GATH")
    ]
    assert seen.index(message[0]) < seen.index("converting to tflite int8")
    assert any("apt-get install edgetpu-compiler" in note for note in result["notes"])


def test_an_artifact_is_rejected_if_the_targets_runtime_is_too_old(quick, tmp_path):
    file = Path(os.environ["XDG_CONFIG_HOME"]) / "edgevid" / "targets" / "old-board.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    shipped = (Path(__file__).parents[2] / "targets" / "generic-armv7.toml").read_text()
    file.write_text(shipped.replace('quantize = ["int8"', 'quantize = ["dynamic", "int8"'))
    try:
        refused(quick, tmp_path, r"tflite-dynamic needs tflite 2\.17\.0", target="old-board")
    finally:
        file.unlink()


def test_the_edge_tpu_compiler_adds_an_artifact(quick, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "edgetpu_compiler"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\ncp "$4" "$3/model_edgetpu.tflite"\n'
        'echo "CONV_2D  3  Mapped to Edge TPU"\n'
        'echo "GATHER  1  Operation not supported"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    result = quick(formats=["edgetpu"], quantize=["int8"])
    assert [a["name"] for a in result["artifacts"]] == ["edgetpu-int8", "tflite-int8"]
    assert any("executes 3 of 4 operators" in note for note in result["notes"])
    assert any("not yet proven on hardware" in note for note in result["notes"])
    assert "edgetpu-int8: 1 GATHER stay on the CPU: Operation not supported" in result["notes"]
    bundle = Bundle.open(tmp_path / "x.edgevid")
    artifact = bundle.artifact("edgetpu-int8")
    assert (artifact.format, artifact.members) == ("edgetpu", ("artifacts/edgetpu-int8.tflite",))
    golden = Golden.read(bundle, "edgetpu-int8")
    assert len(golden.references["edgetpu-int8"]) == 2
    monkeypatch.setenv("PATH", "/nowhere")
    refused(
        quick, tmp_path / "none", "no edgetpu_compiler on PATH", MissingExtra, formats=["edgetpu"]
    )


def test_an_artifact_with_wrong_outputs_is_rejected(quick, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEVID_NULL", json.dumps({"faults": [{"at": 2, "kind": "wrong"}]}))
    monkeypatch.setattr(parity, "runtimes_for", lambda name: ("null",))
    message = "tflite-float32 does not reproduce the model in null: next_window of .* is off by"
    refused(quick, tmp_path, message, formats=["tflite"], quantize=["float32"])


def test_an_artifact_that_crashes_on_load_is_rejected(quick, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEVID_NULL", json.dumps({"faults": [{"at": -1, "kind": "abort"}]}))
    monkeypatch.setattr(parity, "runtimes_for", lambda name: ("null",))
    refused(quick, tmp_path, "tflite-float32: .* crashed with SIGABRT", formats=["tflite"])


def test_an_artifact_with_nan_outputs_is_rejected(quick, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEVID_NULL", json.dumps({"faults": [{"at": 3, "kind": "nan"}]}))
    monkeypatch.setattr(parity, "runtimes_for", lambda name: ("null",))
    refused(quick, tmp_path, "not numbers", formats=["openvino"])


def test_a_crashed_converter_is_quoted_and_its_log_is_kept(quick, tmp_path, monkeypatch):
    outcome = ChildOutcome(-11, b"", b"first\nthe last words\n")
    monkeypatch.setattr(child_process, "needs_tensorflow", lambda task: False)
    monkeypatch.setattr(child_process, "run_child", lambda *a: outcome)
    monkeypatch.setattr(lower, "ask", child_process.ask)
    message = r"lowering the model crashed with SIGSEGV \(the last words\); leave .*; its log is "
    refused(quick, tmp_path, message, ConverterFailed)
    log = next((Path(os.environ["XDG_CACHE_HOME"]) / "edgevid" / "logs").iterdir())
    assert log.read_bytes() == outcome.stderr


def test_evidence_records_missing_held_out_clips(quick, lowered, tmp_path, monkeypatch):
    record = importers.describe(lowered.source.path)
    clip = tmp_path / "elsewhere" / "clip.mp4"
    write_video(clip, moving_images(6, 32, 32))
    moved = replace(record, data=tmp_path / "gone")
    monkeypatch.setattr(importers, "describe", lambda *a, **k: moved)
    result = quick(calibrate=clip.parent)
    assert result["artifacts"][0]["metric"] == {
        "name": None,
        "source": None,
        "artifact": None,
        "n": 0,
    }
    bundle = Bundle.open(tmp_path / "x.edgevid")
    assert "missing" in bundle.evidence["held_out"]["reason"]
    assert bundle.evidence["calibration"]["clips"] == ["clip.mp4"]


def test_a_failed_verdict_reaches_the_user_with_its_reason(quick, tmp_path, monkeypatch):
    verdict = Verdict("tflite-int8", "tflite", "cpu", ok=False, reason="it says so")
    monkeypatch.setattr(artifact_acceptance, "record_in_child", lambda *a: verdict)
    message = "nothing is written: .*openvino-float32: .*it says so; leave this artifact out"
    refused(quick, tmp_path, message)


# --- wrong use, before anything heavy is started --------------------------------------------------


@pytest.fixture
def no_children(monkeypatch):
    def forbidden(*a, **access):
        raise AssertionError("a child was started")

    for asking in (lower, artifact_builder):
        monkeypatch.setattr(asking, "ask", forbidden)


def wrong(tmp_path: Path, message: str, model: Path, error=BadInput, **options) -> None:
    with pytest.raises(error, match=message) as caught:
        convert(model, out=tmp_path / "x.edgevid", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.edgevid").exists()


@pytest.mark.usefixtures("no_children")
def test_unknown_names_are_rejected(real_run, tmp_path):
    wrong(tmp_path, "did you mean tflite", real_run, formats=["tflight"])
    message = "quantisation of tflite and openvino 'int4'.*did you mean int8"
    wrong(tmp_path, message, real_run, quantize=["int4"])
    wrong(tmp_path, "name at least one of each", real_run, formats=[])


@pytest.mark.usefixtures("no_children")
def test_folders_that_are_not_runs_are_rejected(tmp_path):
    wrong(tmp_path, "does not exist", tmp_path / "none")
    empty = tmp_path / "empty"
    empty.mkdir()
    wrong(tmp_path, "no run.json; make one with edgevid train", empty)
    (empty / "run.json").write_text("{")
    wrong(tmp_path, "run.json cannot be read", empty)
    (empty / "run.json").write_text("[]")
    wrong(tmp_path, "not a table", empty)
    (empty / "run.json").write_text("{}")
    wrong(tmp_path, "contract.json cannot be read", empty)


@pytest.mark.usefixtures("no_children")
def test_unusable_calibration_folders_are_rejected(real_run, tmp_path):
    wrong(
        tmp_path, "does not exist; give another --calibrate", real_run, calibrate=tmp_path / "none"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    wrong(tmp_path, "no clips to calibrate on", real_run, calibrate=empty)
    (empty / "text.mp4").write_text("no video")
    wrong(tmp_path, "none of 1 clips can be decoded", real_run, calibrate=empty)


@pytest.mark.usefixtures("no_children")
def test_a_missing_package_gets_its_install_line(real_run, tmp_path, monkeypatch):
    inner = plan.find_spec
    monkeypatch.setattr(plan, "find_spec", lambda name: None if name == "nncf" else inner(name))
    message = r"package nncf is not installed; run: pip install 'edgevid\[convert\]'"
    wrong(tmp_path, message, real_run, MissingExtra)
