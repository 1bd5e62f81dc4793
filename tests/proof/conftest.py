"""Engines of the built-in step, sound and faulty, and a cache without verdicts."""

from __future__ import annotations

import json

import pytest

from edgevid import runtimes
from edgevid.bundle import Bundle
from edgevid.isolation import child_task
from edgevid.proof import Golden, verdict

NAME = "null-float32"


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path, monkeypatch):
    """Each test starts without verdicts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGEVID_NULL", raising=False)


@pytest.fixture
def opened(null_bundle) -> Bundle:
    return Bundle.open(null_bundle)


@pytest.fixture
def golden(opened) -> Golden:
    return Golden.read(opened, NAME)


@pytest.fixture
def engine(opened):
    return runtimes.get("null").load(opened.files(NAME), opened.contract)


@pytest.fixture
def fault(monkeypatch):
    """Give a function that lets every null engine of a child fail at a step."""

    def plan(kind: str, at: int = 2) -> None:
        monkeypatch.setenv("EDGEVID_NULL", json.dumps({"faults": [{"at": at, "kind": kind}]}))

    return plan


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """The proofs that really ran."""
    ran: list[str] = []
    inner = child_task.run_child

    def counting(module, task, timeout_s, sandbox):
        ran.append(task["artifact"])
        return inner(module, task, timeout_s, sandbox)

    monkeypatch.setattr(verdict, "run_child", counting)
    return ran
