"""From a result document's raw samples to the drawings of a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from edgevid.bench.figures import STAGES
from edgevid.bench.samples import unpack
from edgevid.bench.summary_table import device
from edgevid.bench.tables import interval, label
from edgevid.report import svg
from edgevid.runtimes import CPU

Raw = Mapping[str, Any]

POINTS = 150
"""Of a time line, however long it is."""
KINDS = 8
"""So many kinds of operators are shown."""
LATENCIES = ("single", "step")
"""The scenarios whose latency stands against the accuracy, the first that was measured."""


def series(result: Raw) -> str:
    """What was measured above all: ``latency``, or the ``step`` alone."""
    return "latency" if "latency" in result["rounds"][0]["samples"] else "step"


def figures(result: Raw) -> Raw:
    """Its percentiles, in ms."""
    found: Raw = result[f"{series(result)}_ms"]
    return found


def steady(result: Raw) -> list[float]:
    """Milliseconds of all rounds, the warm-up left out."""
    left, kept = int((result.get("warm_up") or {}).get("samples", 0)), []
    for one in result["rounds"]:
        packed = one["samples"][series(result)]
        samples, every = unpack(packed), packed.get("every", 1)
        skip = min(len(samples), -(-left // every))
        left = max(0, left - skip * every)
        kept += [1000 * sample for sample in samples[skip:]]
    return kept


def distribution(result: Raw) -> tuple[str, str, Sequence[str]]:
    """Its histogram and percentiles, what it shows, and why it is worth nothing."""
    marks: list[tuple[str, Sequence[float], str]] = []
    for name, found in figures(result).items():
        if name.startswith("p"):
            ends = [found[end] for end in ("value", "low", "high") if end in found]
            marks.append((name, ends, interval(found)))
    drawing = svg.distribution(steady(result), marks, f"{series(result)} of {label(result)}")
    return drawing, label(result), _alarms(result)


def _alarms(result: Raw) -> list[str]:
    return [f"INVALID: {reason}" for reason in result["reasons"]]


def stages(results: Sequence[Raw], title: str) -> str:
    """One bar a result, of the mean milliseconds of its stages."""
    rows = []
    for one in results:
        parts = [(name, one["stages_ms"][name]) for name in STAGES if name in one["stages_ms"]]
        mean = figures(one)["mean"].get("value")
        rows.append((label(one), parts, "" if mean is None else f"{mean:.4g} ms"))
    return svg.stacked(rows, STAGES, title)


def operators(result: Raw) -> str:
    """What took longest; what stayed on the CPU beside an accelerator stands out."""
    beside = result["job"]["accelerator"] != CPU
    rows = []
    for kind in top(result):
        left = beside and kind["place"] == CPU
        words = f"{kind['ms'] or 0:.4g} ms on {kind['place']}"
        name = f"{kind['count']} × {kind['kind']}"
        rows.append((name, kind["ms"] or 0.0, words, "alarm" if left else "c0"))
    return svg.bars(rows, f"operators of {label(result)}")


def top(result: Raw) -> Sequence[Raw]:
    """The kinds of operators that took longest."""
    kinds: Sequence[Raw] = result["operators"]["kinds"][:KINDS]
    return kinds


def accuracies(documents: Iterable[Raw]) -> list[tuple[Raw, Raw, float, float]]:
    """Document, result, p50 in ms and accuracy of all artifacts of which both are known."""
    found = []
    for document in documents:
        for result in _one_scenario(document["results"]):
            accuracy = _accuracy(document, result["job"]["artifact"])
            middle = figures(result)["p50"].get("value")
            if accuracy is not None and middle is not None:
                found.append((document, result, middle, accuracy))
    return found


def _one_scenario(results: Sequence[Raw]) -> list[Raw]:
    for name in LATENCIES:
        if chosen := [one for one in results if one["job"]["scenario"] == name]:
            return chosen
    return []


def _accuracy(document: Raw, artifact: str) -> float | None:
    for one in document["bundle"].get("artifacts", ()):
        if one["name"] == artifact:
            found: float | None = one["metric"].get("artifact")
            return found
    return None


def against_accuracy(found: Sequence[tuple[Raw, Raw, float, float]]) -> str:
    """Accuracy over latency; each device, or each runtime of the only one, has a colour."""
    several = len({device(document) for document, *_ in found}) > 1
    groups = [device(document) if several else one["job"]["runtime"] for document, one, *_ in found]
    legend = list(dict.fromkeys(groups))
    points = [
        (ms, accuracy, one["job"]["artifact"], legend.index(group))
        for (_, one, ms, accuracy), group in zip(found, groups, strict=True)
    ]
    return svg.scatter(points, legend, ("p50 in ms", "accuracy"), "accuracy against latency")


def timeline(result: Raw, began: float) -> tuple[str, str, Sequence[str]]:
    """What was measured and what the machine did, over the seconds of its own rounds.

    ``began`` is when the run began, as ``created_unix_s`` of the document.
    """
    rounds = result["rounds"]
    starts = [0.0]
    for one in rounds:
        starts.append(starts[-1] + one["elapsed_s"])
    looks = [*_looks(result, rounds, starts, began)]
    tracks = [_latency(result, rounds, starts), *_machine(looks)]
    shades = [(0.0, _warm(result), "warm"), *_hot(looks)]
    drawing = svg.timeline(tracks, shades, starts[1:-1], starts[-1], f"time line: {label(result)}")
    return drawing, f"{label(result)}, {result['job']['scenario']}", _alarms(result)


def _warm(result: Raw) -> float:
    return float((result.get("warm_up") or {}).get("seconds", 0.0))


def _looks(
    result: Raw, rounds: Sequence[Raw], starts: Sequence[float], began: float
) -> Iterator[tuple[float, Raw]]:
    """Looks at the machine, at the seconds of the job's own rounds."""
    for look in result["timeline"]:
        turn = look["label"].partition(":")[2]
        if turn.isdigit() and int(turn) < len(rounds):
            one = rounds[int(turn)]
            within = look["t_s"] + began - one["started_unix_s"]
            yield starts[int(turn)] + min(max(within, 0.0), one["elapsed_s"]), look


def _latency(result: Raw, rounds: Sequence[Raw], starts: Sequence[float]) -> svg.Track:
    """The middle, and the slowest, of as many neighbours as make one point."""
    name = series(result)
    each = max(1, sum(one["samples"][name]["count"] for one in rounds) // POINTS)
    middles, slowest = [], []
    for one, start in zip(rounds, starts, strict=False):
        samples = unpack(one["samples"][name])
        for first in range(0, len(samples), each):
            group = samples[first : first + each]
            at = start + one["elapsed_s"] * (first + len(group) / 2) / len(samples)
            middles.append((at, 1000 * median(group)))
            slowest.append((at, 1000 * max(group)))
    return f"{name} ms: middle and slowest of neighbours", [middles, slowest], ""


def _machine(looks: Sequence[tuple[float, Raw]]) -> Iterator[svg.Track]:
    for name, keys in (
        ("clock rate MHz, and the highest allowed", ("frequency_mhz", "limit_mhz")),
        ("°C, and where it slows down", ("temperature_c", "slows_at_c")),
        ("power W", ("power_w",)),
    ):
        lines = [[(at, float(v)) for at, look in looks if (v := look.get(key))] for key in keys]
        if lines[0]:
            yield name, [line for line in lines if line], ""


def _hot(looks: Sequence[tuple[float, Raw]]) -> Iterator[tuple[float, float, str]]:
    """When it was too hot, or was not allowed its whole clock rate."""
    limits = [look["limit_mhz"] for _, look in looks if look.get("limit_mhz")]
    highest = max(limits, default=0)
    for (at, look), (then, _) in zip(looks, [*looks[1:], *looks[-1:]], strict=False):
        degrees, slows = look.get("temperature_c"), look.get("slows_at_c")
        hot = degrees is not None and slows is not None and degrees >= slows
        if hot or (look.get("limit_mhz") or highest) < highest:
            yield at, max(then, at + 0.2), "alarm"
