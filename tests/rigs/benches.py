"""Bench results as JSON for what reads them: a measured one, and changed copies of it."""

from __future__ import annotations

import copy
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from edgevid import bench
from edgevid.bench import BenchPlan, jobs_of
from edgevid.bench.result import BenchResult, read_result
from edgevid.bench.warmup import WarmUp
from edgevid.bundle import Bundle
from edgevid.documents import to_json
from edgevid.runner.engines import Choice

NULL = Choice("null-float32", "null", "cpu")


def measured(path: Path, video: Path) -> dict[str, Any]:
    """The JSON of the null engine in most scenarios, measured here; without a warm-up."""
    bundle = Bundle.open(path)
    jobs = jobs_of(bundle, [NULL], ("step", "single", "offline", "paced"))
    plan = BenchPlan(rounds=3, samples=70, seconds=0.0, starts=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgevid.bench.figures.warm_up", lambda samples: WarmUp(0, True))
        found: dict[str, Any] = to_json(bench.bench(bundle, jobs, video, plan=plan))
    return found


def read(*documents: dict[str, Any]) -> list[BenchResult]:
    """Documents as results."""
    return [read_result(one, "the result") for one in documents]


def with_sensors(document: dict[str, Any]) -> dict[str, Any]:
    """The same from a board that reports everything, and overheated at the end."""
    board = copy.deepcopy(document)
    board["device"] = {"name": "gate-1"}
    board["machine"]["power"] = [{"name": "ina3221 VDD_IN", "kind": "measured"}]
    board["bundle"]["artifacts"][0]["metric"] = {
        "name": "accuracy",
        "artifact": 0.875,
        "source": 0.9,
    }
    for result in board["results"]:
        for place, look in enumerate(result["timeline"]):
            hot = place + 1 == len(result["timeline"])
            look |= {"frequency_mhz": 1500 if hot else 2400, "limit_mhz": 2400}
            look |= {"temperature_c": 86.5 if hot else 61.0, "slows_at_c": 85.0, "power_w": 5.25}
        result |= {"valid": False, "reasons": ["the processor reached 86 °C & slowed <down>"]}
    board |= {"valid": False, "reasons": [r for one in board["results"] for r in one["reasons"]]}
    return board


NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]\d+)?")


def numbers(text: str) -> set[str]:
    """All numbers of a text, as they stand in it."""
    return set(NUMBER.findall(unescape(text)))


def numbers_of(value: Any) -> set[str]:
    """All numbers of plain data, as they are written: whole, or with four digits."""
    if isinstance(value, dict):
        return numbers(" ".join(value)) | numbers_of(list(value.values()))
    if isinstance(value, list):
        return set().union(*map(numbers_of, value)) if value else set()
    if isinstance(value, str):
        return numbers(value)
    if isinstance(value, int | float):
        return numbers(f"{value} {value:.4g} {value:.3f} {value:.0f}")
    return set()
