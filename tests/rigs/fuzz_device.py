"""A device that answers anything: an answer of every kind, damaged."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from edgevid.flash import replies
from edgevid.flash.device_facts import propose
from edgevid.flash.fleet import read_condition
from edgevid.flash.installed import Installed
from edgevid.flash.inventory import DeviceEntry
from edgevid.flash.replies import Verb
from rigs.agent import Session
from rigs.fuzz import damage_bytes, damage_json

NAME = "door"
MANIFEST = {
    "format": 1,
    "serial": 7,
    "architecture": "x86_64",
    "python": "3.11",
    "runner": {"id": "0" * 16, "wheels": []},
    "bundles": [{"name": "m", "sha256": "0" * 64, "size": 3, "key": "0" * 64}],
    "site": {"sha256": "0" * 64, "size": 3},
    "agent": {"sha256": "0" * 64, "size": 3},
}
RUNNER = {
    "state": "running",
    "degraded": False,
    "pid": 7,
    "now_unix_s": 1.5,
    "frames": {"answered": 7},
    "bundles": [
        {"engine": {"serving": {"runtime": "null", "accelerator": "cpu", "precision": "float32"}}}
    ],
}
OTHERS: dict[str, dict[str, Any]] = {
    "check": {"notes": ["x"]},
    "session": {"root": "/opt/edgevid", "release": None},
    "missing": {"missing": {"0" * 64: 0}},
    "blob": {"have": 3},
    "read": {"content": "QUJD"},
    "stage": {"release": "0" * 16},
    "activate": {"release": "0" * 16, "started": True, "activation": "x"},
    "watch": {
        "state": "rolled-back",
        "release": "0" * 16,
        "healthy": False,
        "reason": {"stage": "start", "message": "x", "exit_code": 1, "log": ["x"]},
        "health": {"healthy": False, "degraded": True, "p95_ms": 3.5, "alarms": ["x"]},
    },
    "uninstall": {"removed": ["/opt/edgevid"], "others": []},
    "job": {"already": False},
    "job-state": {"state": "ended", "document": {"sha256": "0" * 64, "size": 3}, "stderr": "x"},
    "job-end": {"ended": True},
    "tuned": {"kept": True},
}

Answer = tuple[Verb[Any], bytes]


def verbs() -> dict[str, Verb[Any]]:
    """Every request of the host."""
    found = (one for one in vars(replies).values() if isinstance(one, Verb))
    return {verb.name: verb for verb in found}


def sound(folder: Path) -> dict[str, dict[str, Any]]:
    """A sound answer to every request: of a real agent, or as `edgevid.flash.agent` lists them."""
    agent = Session(folder / "device")
    answers = {name: agent.ask(name) for name in ("probe", "status")}
    agent.close()
    manifest = {"manifest": json.dumps(MANIFEST), "signature": "x", "current": "0" * 16}
    for answer in answers.values():
        answer["installed"] |= manifest
    answers["status"]["status"] = RUNNER
    return answers | {name: {"ok": True, **answer} for name, answer in OTHERS.items()}


def damaged(chance: random.Random, answers: dict[str, dict[str, Any]]) -> Answer:
    """A damaged answer to some request."""
    known = verbs()
    name = chance.choice([one for one in known if one in answers])
    line = json.dumps(answers[name]).encode()
    if chance.random() < 0.3:
        return known[name], damage_bytes(chance, line)
    return known[name], json.dumps(damage_json(chance, answers[name])).encode()


def read(answer: Answer) -> None:
    """Read an answer, and use it as `flash` and `fleet` do."""
    verb, line = answer
    data = replies.frame(line, NAME)
    record = replies.read(verb.record, data, NAME)
    if verb is replies.PROBE:
        propose(record.facts())
        Installed.of(record.installed, record.second, NAME)
    elif verb is replies.STATUS:
        found = read_condition(DeviceEntry(NAME, "10.0.0.1"), record, None)
        assert all(str(cell).isprintable() for cell in found.row()), found.row()
    elif verb in (replies.READ, replies.JOB_READ):
        replies.part(record, 3, NAME)
    elif verb is replies.MISSING:
        replies.offsets(record, {"0" * 64: 3}, NAME)
