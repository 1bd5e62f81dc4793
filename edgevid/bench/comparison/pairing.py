"""Two result documents beside each other: what must be alike, and what is to be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgevid.bench.samples import FORMAT, unpack
from edgevid.errors import BadInput

MACHINE = (
    "board",
    "architecture",
    "bits",
    "virtual_machine",
    "container",
    "cpu",
    "clock",
    "cgroup_cpu_limit",
)
"""What of a machine must be alike; versions may differ, their effect is what one may ask for."""

SOURCE = ("sha256", "rate_fps", "codec")
MAY_DIFFER = ("artifact", "runtime")
"""What of a job may differ, so that one artifact can be compared with another."""

TAILS = ("latency p95", "step p95")
TAIL_NEEDS = 40
"""Samples in a round, for its p95: of two samples beyond, not only one."""


@dataclass(frozen=True)
class ComparedResult:
    """One job's figures, a value a round (in seconds, or in frames an answer): less is better."""

    label: str
    figures: dict[str, list[float]]
    valid: bool
    reasons: list[str]


def pairs(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[tuple[ComparedResult, ComparedResult]]:
    """The results of the same job in both; raises `BadInput` where they cannot be compared."""
    for document, name in ((old, "old"), (new, "new")):
        check(document, f"the {name} result")
    for part, fields in (("machine", MACHINE), ("source", SOURCE)):
        for field in fields:
            _alike(_at(old, part, field), _at(new, part, field), f"{part}.{field}")
    for before, after in _matched(old["results"], new["results"]):
        alike(before["job"], after["job"])
        yield _read(before), _read(after)


def alike(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise `BadInput` where two jobs cannot be compared; it names the field."""
    for field in sorted({*old, *new} - {*MAY_DIFFER}):
        _alike(old.get(field), new.get(field), f"job.{field}")


def check(document: Mapping[str, Any], name: str) -> None:
    """Raise `BadInput`, which begins with ``name``, for what is no result document."""
    told = document.get("format")
    if told != FORMAT:
        raise BadInput(f"{name} has format {told}, and {FORMAT} is known; measure again")
    try:
        for result in document["results"]:
            _figures(result)
            _key(result)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise BadInput(f"{name} is damaged ({error!r}); measure again") from None


def _at(document: Mapping[str, Any], part: str, field: str) -> Any:
    found = document.get(part)
    return found.get(field) if isinstance(found, Mapping) else None


def _alike(old: Any, new: Any, field: str) -> None:
    """Raise with the innermost field that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            _alike(old.get(name), new.get(name), f"{field}.{name}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for at, (before, after) in enumerate(zip(old, new, strict=True)):
            _alike(before, after, f"{field}[{at}]")
    elif old != new:
        raise BadInput(
            f"the results differ in {field}, old {_short(old)} and new {_short(new)}; "
            "measure both alike"
        )


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


Raw = Mapping[str, Any]


def _matched(old: Sequence[Raw], new: Sequence[Raw]) -> Iterator[tuple[Raw, Raw]]:
    """Pair results of the same job; in a scenario with one left on each side, those two."""
    left = list(old)
    alone = []
    for after in new:
        before = next((one for one in left if _key(one) == _key(after)), None)
        if before is None:
            alone.append(after)
        else:
            left.remove(before)
            yield before, after
    for scenario in sorted({one["job"]["scenario"] for one in [*left, *alone]}):
        mine, theirs = (
            [one for one in side if one["job"]["scenario"] == scenario] for side in (left, alone)
        )
        if len(mine) != 1 or len(theirs) != 1:
            names = ", ".join(_label(one) for one in [*mine, *theirs])
            raise BadInput(
                "the results differ in scenario or artifact: not in both, or not known which of "
                f"them belong together: {names}; measure both alike"
            )
        yield mine[0], theirs[0]


def _key(result: Raw) -> tuple[Any, ...]:
    job = result["job"]
    return job["scenario"], job["artifact"], job["runtime"], job["accelerator"], job.get("threads")


def _label(result: Raw) -> str:
    job = result["job"]
    return f"{job['artifact']} in {job['runtime']} on {job['accelerator']}, {job['scenario']}"


def _read(result: Raw) -> ComparedResult:
    label, valid = _label(result), bool(result.get("valid", False))
    return ComparedResult(label, _figures(result), valid, list(result.get("reasons", [])))


def _figures(result: Raw) -> dict[str, list[float]]:
    """One value a round of each figure that says how good a job's scenario went."""
    scenario, rounds = result["job"]["scenario"], result["rounds"]
    if scenario == "offline":
        return {
            "time a frame": [one["elapsed_s"] / max(one["frames"]["answered"], 1) for one in rounds]
        }
    if scenario == "multi":
        return {"engines a stream": [1 / max(one["streams"], 0.5) for one in rounds]}
    name = "latency" if "latency" in rounds[0]["samples"] else "step"
    steady = _steady([one["samples"][name] for one in rounds], _warm_up(result))
    figures = {f"{name} p50": [_rank(samples, 50) for samples in steady]}
    if min(len(samples) for samples in steady) >= TAIL_NEEDS:
        figures[f"{name} p95"] = [_rank(samples, 95) for samples in steady]
    if scenario == "paced":
        figures["frames an answer"] = [_frames_an_answer(one["frames"]) for one in rounds]
    return figures


def _frames_an_answer(counts: Mapping[str, int]) -> float:
    """1 where nothing is lost; what was on its way when a round ended is not lost."""
    answered = max(counts["answered"], 1)
    return (answered + counts["dropped"] + counts["failed"]) / answered


def _rank(samples: Sequence[float], p: int) -> float:
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * p // 100) - 1)]


def _warm_up(result: Raw) -> int:
    return int((result.get("warm_up") or {}).get("samples", 0))


def _steady(packed: Sequence[Raw], left_out: int) -> list[Sequence[float]]:
    """Each round's samples without the warm-up; a round that lost half of them is left out."""
    rounds: list[Sequence[float]] = []
    for one in packed:
        samples, every = unpack(one), one.get("every", 1)
        skip = min(len(samples), -(-left_out // every))
        left_out = max(0, left_out - skip * every)
        if skip < len(samples) / 2:
            rounds.append(samples[skip:])
    if not rounds:
        raise BadInput("a result has no steady round; measure longer")
    return rounds
