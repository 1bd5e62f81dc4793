"""A result document, or several, as one page: it needs nothing but a browser, and no script.

What it says stands in the documents; nothing is measured or judged here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgevid import __version__
from edgevid.bench import summary_table
from edgevid.bench.figures import STAGES
from edgevid.bench.report import charts
from edgevid.bench.tables import engine, facts, interval, label, origin
from edgevid.report.page import Page

Raw = Mapping[str, Any]

SCENARIOS = {
    "step": "The engine alone.",
    "single": "One stream, closed loop: the next frame is read when the answer is written.",
    "offline": "Throughput: frames wait in queues, so a frame's latency has their length in it.",
    "paced": "A camera's pace, open loop: latency counts from the time a frame was due.",
    "multi": "As many cameras as hold their rate within the bound; latency of their frames.",
}
PERCENTILES = ("p50", "p90", "p95", "p99", "p99.9")
INSUFFICIENT = (
    "Every percentile has its interval (95 %). Insufficient: too few samples to say it surely, and "
    "how many it needs."
)


def page(documents: Sequence[Raw]) -> str:
    """The page of these documents, as HTML."""
    names = ", ".join(dict.fromkeys(one["bundle"]["name"] for one in documents))
    devices = ", ".join(dict.fromkeys(summary_table.device(one) for one in documents))
    made = Page(f"Bench of {names}", f"Measured on {devices}.")
    for document in documents:
        _verdict(made, document, several=len(documents) > 1)
    _all(made, documents)
    _accuracy(made, documents)
    for document in documents:
        _document(made, document, several=len(documents) > 1)
    versions = ", ".join(dict.fromkeys(one["edgevid"] for one in documents))
    return made.html(f"Measured by edgevid {versions}; page made by edgevid {__version__}.")


def _all(made: Page, documents: Sequence[Raw]) -> None:
    several = len(documents) > 1
    made.heading("All devices" if several else "All figures")
    first = 0 if several else 1  # the device's name, where there is but one
    rows = [row[first:] for row in summary_table.rows(documents)]
    made.table(summary_table.HEAD[first:], rows, tight=True)


def _verdict(made: Page, document: Raw, *, several: bool) -> None:
    where = f"{summary_table.device(document)}: " if several else ""
    word = "VALID" if document["valid"] else "INVALID"
    made.verdict(document["valid"], f"{where}{word}", document["reasons"])
    if not document["valid"]:
        made.words("Something disturbed what was measured: these figures are worth little.")
    comparison = document.get("comparison")
    if comparison:
        outcome = comparison["outcome"]
        made.verdict(
            outcome in ("better", "no worse"), f"{where}against the baseline: {outcome.upper()}"
        )


def _accuracy(made: Page, documents: Sequence[Raw]) -> None:
    found = charts.accuracies(documents)
    if not found:
        return
    made.heading("Accuracy against latency")
    made.words(
        "Accuracy is that of the bundle's evidence, on held-out data. Up and left is better."
    )
    made.drawings([(charts.against_accuracy(found), "Every artifact once.", ())])
    made.table(
        ("device", "artifact", "engine", "scenario", "p50 ms", "accuracy"),
        [
            (summary_table.device(document), *engine(one), one["job"]["scenario"], ms, accuracy)
            for document, one, ms, accuracy in found
        ],
        tight=True,
    )


def _document(made: Page, document: Raw, *, several: bool) -> None:
    if several:
        made.heading(summary_table.device(document))
    parts = (_latency, _stages, _more, _timelines, _operators, _comparison, _conditions, _origin)
    for part in parts:
        part(made, document, made.subheading if several else made.heading)


def _latency(made: Page, document: Raw, title: Any) -> None:
    title("Latency")
    made.words(INSUFFICIENT)
    for scenario, results in _by_scenario(document["results"]):
        made.words(f"{scenario}: {SCENARIOS.get(scenario, '')}")
        made.drawings(charts.distribution(one) for one in results)
        rows = [
            (
                *engine(one),
                *(interval(charts.figures(one).get(p)) for p in (*PERCENTILES, "mean")),
            )
            for one in results
        ]
        made.table(
            ("artifact", "engine", *(f"{p} ms" for p in PERCENTILES), "mean ms"), rows, tight=True
        )


def _by_scenario(results: Iterable[Raw]) -> Iterator[tuple[str, list[Raw]]]:
    found: dict[str, list[Raw]] = {}
    for one in results:
        found.setdefault(one["job"]["scenario"], []).append(one)
    yield from found.items()


def _stages(made: Page, document: Raw, title: Any) -> None:
    staged = [one for one in document["results"] if one.get("stages_ms")]
    whole = [one for one in staged if one["job"]["scenario"] == "single"]
    if not staged:
        return
    title("Where the time of a frame goes")
    if whole:
        made.words("Scenario single: one stage after another, and their sum is the wall time.")
        made.drawings([(charts.stages(whole, "stages"), "Mean of a frame.", ())])
    made.table(
        ("mean ms a frame", "artifact", "engine", *STAGES),
        [
            (one["job"]["scenario"], *engine(one), *(one["stages_ms"].get(s) for s in STAGES))
            for one in staged
        ],
        tight=True,
    )
    runner = [
        (*engine(one), *(interval(one["runner_ms"].get(p)) for p in PERCENTILES))
        for one in whole
        if one.get("runner_ms")
    ]
    if runner:
        made.words("What the runner adds to a frame: all but decoding, geometry and step.")
        head = ("artifact", "engine", *(f"{p} ms" for p in PERCENTILES))
        made.table(head, runner, tight=True)
    if len(whole) < len(staged):
        made.words("In the other scenarios stages run beside each other, and frames wait between.")


def _more(made: Page, document: Raw, title: Any) -> None:
    """Throughput, deadlines, streams, long runs, starts."""
    results = document["results"]
    title("Throughput, deadlines, starts")
    rows = [
        (
            one["job"]["scenario"],
            *engine(one),
            interval(one.get("fps")),
            " / ".join(f"{s:.4g}" for s in one.get("ready_s", ())),
            " / ".join(f"{s:.4g}" for s in one["first_answer_s"]),
            one["peak_rss_mb"],
        )
        for one in results
    ]
    head = ("scenario", "artifact", "engine", "a second", "ready s", "first answer s", "peak MB")
    made.table(head, rows, tight=True)
    _part(made, "paced", results, "deadlines", ("bound_ms", "of", "missed", "late", "unanswered"))
    _part(made, "multi", results, "streams", ("bound_ms", "value", "low", "high"))
    _part(made, "sustained", results, "sustained", ("first_ms", "last_ms", "ratio"))


def _part(made: Page, name: str, results: Iterable[Raw], key: str, columns: Sequence[str]) -> None:
    rows = [
        (*engine(one), one["job"].get("rate_fps"), *(one[key][column] for column in columns))
        for one in results
        if one.get(key)
    ]
    if rows:
        spoken = [column.replace("_", " ") for column in columns]
        made.table((name, "engine", "frames a second", *spoken), rows, tight=True)


def _timelines(made: Page, document: Raw, title: Any) -> None:
    title("Over time")
    made.words(
        "The seconds of each job's own rounds, which were interleaved with those of the others. "
        "Grey: warm-up, which no figure has in it. Red: too hot, or not allowed its clock rate. "
        "What this machine does not tell is left out."
    )
    began = document["created_unix_s"]
    made.drawings(charts.timeline(one, began) for one in document["results"])


def _operators(made: Page, document: Raw, title: Any) -> None:
    engines = {engine(one): one for one in document["results"] if one.get("operators")}
    if not engines:
        return
    title("Where the operators ran")
    known = [one for one in engines.values() if "kinds" in one["operators"]]
    made.drawings((charts.operators(one), _places(one), ()) for one in known)
    for one in engines.values():
        if "unknown" in one["operators"]:
            made.words(f"{label(one)}: not known: {one['operators']['unknown']}")


def _places(result: Raw) -> str:
    seen = result["operators"]
    return (
        f"{label(result)}: {seen['accelerated']} on an accelerator, {seen['on_cpu']} on the "
        "CPU; mean of a step, the longest first."
    )


def _comparison(made: Page, document: Raw, title: Any) -> None:
    comparison = document.get("comparison")
    if not comparison:
        return
    from edgevid.bench.comparison.compare_table import HEAD, rows

    title("Against the baseline")
    made.table(HEAD, rows(comparison))


def _conditions(made: Page, document: Raw, title: Any) -> None:
    title("Conditions")
    made.facts(facts(document))


def _origin(made: Page, document: Raw, title: Any) -> None:
    title("What was measured")
    made.facts(origin(document))
