"""Cached verdicts: proven once per bundle, runtime version and machine."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from edgevid import runtimes
from edgevid.bundle import Bundle
from edgevid.files import cache_folder
from edgevid.proof import prove_in_child, verdict

NAME = "null-float32"


def test_a_verdict_is_remembered_good_or_bad(opened, counted, fault):
    assert prove_in_child(opened, NAME, "null") == prove_in_child(opened, NAME, "null")
    assert len(counted) == 1
    fault("error")
    assert not prove_in_child(opened, NAME, "null").ok
    assert not prove_in_child(opened, NAME, "null").ok
    assert len(counted) == 2
    assert not prove_in_child(opened, NAME, "null", refresh=True).ok
    assert len(counted) == 3


def test_recalling_reads_only_the_manifest(opened, monkeypatch):
    assert prove_in_child(opened, NAME, "null").ok

    def forbidden(*a):
        raise AssertionError

    monkeypatch.setattr(Bundle, "member", forbidden)
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    assert prove_in_child(opened.path, NAME, "null").ok


def test_another_bundle_version_or_machine_is_proven_again(
    make_null_bundle, opened, counted, monkeypatch
):
    prove_in_child(opened, NAME, "null")
    prove_in_child(make_null_bundle("other.edgevid", latency_ms=1), NAME, "null")
    assert len(counted) == 2
    with monkeypatch.context() as patch:
        patch.setattr(runtimes.Runtime, "version", lambda self: "null 99")
        prove_in_child(opened, NAME, "null")
        assert len(counted) == 3
    with monkeypatch.context() as patch:
        patch.setattr(verdict, "_processor_key", lambda: "another")
        prove_in_child(opened, NAME, "null")
        assert len(counted) == 4
    prove_in_child(opened, NAME, "null")
    assert len(counted) == 4


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"verdict": {"ok": true}}', b"\xff"])
def test_a_spoilt_memory_is_no_verdict(opened, counted, content):
    prove_in_child(opened, NAME, "null")
    (kept,) = (cache_folder() / "verdicts").iterdir()
    kept.write_bytes(content)
    assert prove_in_child(opened, NAME, "null").ok
    assert len(counted) == 2


def test_a_verdict_of_something_else_does_not_count(opened, counted):
    prove_in_child(opened, NAME, "null")
    (kept,) = (cache_folder() / "verdicts").iterdir()
    data = json.loads(kept.read_text())
    data["identity"]["bundle"] = "another"
    kept.write_text(json.dumps(data))
    prove_in_child(opened, NAME, "null")
    assert len(counted) == 2


def test_a_home_that_cannot_be_written_costs_a_proof_and_nothing_else(
    opened, counted, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert prove_in_child(opened, NAME, "null").ok
    assert prove_in_child(opened, NAME, "null").ok
    assert len(counted) == 2


def test_the_cache_is_the_users(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/.cache/edgevid")
    assert os.environ["XDG_CACHE_HOME"] == ""
