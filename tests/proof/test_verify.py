"""The proof of a whole bundle."""

from __future__ import annotations

import json

import pytest

from edgevid import proof
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
    with pytest.raises(BadInput, match="no runtime here executes"):
        proof.verify(opened.path, runtime="tflite")
