import os
import re

import pytest

from edgevid import bundle, targets
from edgevid.bundle import Artifact, Bundle
from edgevid.errors import BadInput, CheckFailed
from edgevid.runner.engines import Choice, choices, open_engine
from edgevid.runtimes import Runtime, zero_state


def test_the_one_artifact_is_chosen(null_bundle):
    found = choices(Bundle.open(null_bundle), targets.load("local"))
    assert found == [Choice("null-float32", "null", "cpu")]


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"artifact": "null-float23"}, "did you mean null-float32"),
        ({"runtime": "nul"}, "did you mean null"),
        ({"runtime": "tflite"}, "cannot run with --runtime tflite; use --artifact null-float32"),
        ({"accelerator": "npu"}, "cannot run with --accelerator npu; use --artifact null-float32"),
    ],
)
def test_a_wish_that_cannot_be_met_is_named(null_bundle, wish, says):
    with pytest.raises(BadInput, match=says):
        choices(Bundle.open(null_bundle), targets.load("local"), **wish)


def test_names_that_do_not_fit_get_options_that_do(tmp_path, contract):
    artifacts = [
        (Artifact("tflite-int8", "tflite", "int8"), {"tflite": b"x"}),
        (Artifact("openvino-float32", "openvino", "float32"), {"xml": b"x", "bin": b"x"}),
    ]
    made = bundle.write(tmp_path / "two.edgevid", contract, artifacts, {}, {})
    local = targets.load("local")
    with pytest.raises(BadInput) as caught:
        choices(made, local, artifact="openvino-float32", runtime="tflite")
    options = re.findall(r"--artifact (\S+) --runtime (\S+) --accelerator (\w+)", str(caught.value))
    assert ("openvino-float32", "openvino", "cpu") in options
    assert ("tflite-int8", "tflite", "cpu") in options
    for artifact, runtime, accelerator in options:
        wish = {"artifact": artifact, "runtime": runtime, "accelerator": accelerator}
        assert choices(made, local, **wish) == [Choice(artifact, runtime, accelerator)]


def test_a_proven_engine_serves(null_bundle, contract):
    bundle = Bundle.open(null_bundle)
    wanted = choices(bundle, targets.load("local"))
    engine, choice = open_engine(bundle, wanted, report=lambda line: None)
    assert choice == wanted[0]
    assert engine.precision == "float32"
    assert set(zero_state(contract)) == {"level"}


@pytest.mark.parametrize("kind", ["error", "abort", "nan", "wrong"])
def test_an_engine_that_fails_its_proof_does_not_serve(make_null_bundle, kind):
    bundle = Bundle.open(make_null_bundle(faults=[{"at": 2, "kind": kind}]))
    with pytest.raises(CheckFailed, match="did not pass its proof"):
        open_engine(bundle, choices(bundle, targets.load("local")), report=lambda line: None)


def test_the_next_engine_serves_where_the_first_does_not(make_null_bundle, monkeypatch):
    bundle = Bundle.open(make_null_bundle())
    good = choices(bundle, targets.load("local"))[0]
    heard = []
    bad = Choice("null-float32", "tflite", "cpu")
    _, choice = open_engine(bundle, [bad, good], report=heard.append)
    assert choice == good
    assert "does not serve" in heard[0]


def test_notices_of_a_library_stay_off_stderr(null_bundle, monkeypatch, capfd):
    load = Runtime.load

    def noisy(self, *args, **options):
        os.write(2, b"INFO: Created a delegate for CPU.\nWARNING: slow\n")
        return load(self, *args, **options)

    monkeypatch.setattr(Runtime, "load", noisy)
    opened = Bundle.open(null_bundle)
    open_engine(opened, choices(opened, targets.load("local")), report=print)
    assert capfd.readouterr().err == "WARNING: slow\n"
