"""The proof of a whole bundle."""

from __future__ import annotations

import json

import pytest

from edgevid import bundle, proof
from edgevid.bundle import Artifact
from edgevid.errors import BadBundle, BadInput

NAME = "null-float32"


def test_verify_proves_every_artifact_anew(opened, counted):
    for _ in range(2):
        told = proof.verify(opened.path, runtime="null")
        assert told["ok"]
        assert [check["artifact"] for check in told["checks"]] == [NAME]
        assert told["skipped"] == []
    assert len(counted) == 2


def test_verify_says_no_and_why(opened, fault):
    fault("nan")
    told = proof.verify(opened.path, runtime="null")
    assert not told["ok"]
    (check,) = told["checks"]
    assert check["max_abs"] is None
    assert "not numbers" in check["reason"]
    json.dumps(told, allow_nan=False)


def test_verify_checks_every_byte(opened):
    content = bytearray(opened.path.read_bytes())
    content[10] ^= 1  # in the first local header
    opened.path.write_bytes(content)
    with pytest.raises(BadBundle, match="headers"):
        proof.verify(opened.path, runtime="null")


def test_verify_of_nothing_is_bad_input(opened):
    with pytest.raises(BadInput, match="no runtime here executes null-float32"):
        proof.verify(opened.path)
    with pytest.raises(BadInput, match="tflite does not execute null-float32; install the"):
        proof.verify(opened.path, runtime="tflite")
    with pytest.raises(BadInput, match=r"null has no accelerator gpu; use --accelerator cpu$"):
        proof.verify(opened.path, runtime="null", accelerator="gpu")


def test_verify_proves_an_accelerator_that_imitates_one_if_asked(opened):
    (check,) = proof.verify(opened.path, runtime="null", accelerator="null")["checks"]
    assert (check["accelerator"], check["ok"]) == ("null", True)


def test_verify_says_why_an_accelerator_is_not_here(tmp_path, contract):
    files = {"tflite": b"never loaded"}
    artifact = Artifact(name="tflite-int8", format="tflite", quantize="int8")
    path = bundle.write(tmp_path / "a.edgevid", contract, [(artifact, files)], {}, {}).path
    with pytest.raises(BadInput, match="tflite has no edgetpu here: there is no Edge TPU"):
        proof.verify(path, accelerator="edgetpu")
    with pytest.raises(BadInput, match="has no accelerator npu; use --accelerator cpu"):
        proof.verify(path, accelerator="npu", runtime="tflite")
