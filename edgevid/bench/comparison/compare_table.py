"""A comparison in plain words, as it stands in terminals, pages and Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEAD = ("job", "figure", "new / old", "verdict", "in words")


def rows(comparison: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row a job and figure of what `edgevid bench compare --json` prints."""
    return [
        (
            one["job"],
            one["metric"],
            _ratio(one["verdict"]["ratio"]),
            one["verdict"]["outcome"],
            one["verdict"]["why"],
        )
        for one in comparison["comparisons"]
    ]


def _ratio(ratio: Mapping[str, float]) -> str:
    said = f"{ratio['value']:.3f}"
    if ratio["low"] == ratio["high"]:  # as of one round each: there is nothing to add
        return said
    return f"{said} ({ratio['low']:.3f}-{ratio['high']:.3f})"
