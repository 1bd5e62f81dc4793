"""A result document, or several, as Markdown: for a release's notes, an issue, a README."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgevid.bench import summary_table
from edgevid.bench.figures import STAGES
from edgevid.bench.tables import engine, facts, interval, origin
from edgevid.progress import in_digits

Raw = Mapping[str, Any]


def markdown(documents: Sequence[Raw]) -> str:
    """The tables of these documents, each with its verdict and reasons, as Markdown."""
    names = ", ".join(dict.fromkeys(one["bundle"]["name"] for one in documents))
    parts = [f"# Bench of {_text(names)}", *map(_verdict, documents)]
    parts.append(_table(summary_table.HEAD, summary_table.rows(documents)))
    for document in documents:
        if len(documents) > 1:
            parts.append(f"## {_text(summary_table.device(document))}")
        parts += _document(document)
    return "\n\n".join(parts) + "\n"


def _verdict(document: Raw) -> str:
    word = "VALID" if document["valid"] else "INVALID"
    told = [f"**{_text(summary_table.device(document))}: {word}**"]
    return "\n".join([*told, *(f"- {_text(reason)}" for reason in document["reasons"])])


def _document(document: Raw) -> Iterator[str]:
    results = document["results"]
    head = ("p50", "p90", "p95", "p99", "p99.9")
    yield _table(
        ("scenario", "artifact", "engine", *(f"{p} ms (95 %)" for p in head), "a second"),
        [
            (
                one["job"]["scenario"],
                *engine(one),
                *(interval((one.get("latency_ms") or one["step_ms"]).get(p)) for p in head),
                interval(one.get("fps")),
            )
            for one in results
        ],
    )
    staged = [one for one in results if one.get("stages_ms")]
    if staged:
        yield _table(
            ("mean ms a frame", "artifact", "engine", *STAGES),
            [
                (one["job"]["scenario"], *engine(one), *(one["stages_ms"].get(s) for s in STAGES))
                for one in staged
            ],
        )
    for name, key, columns in (
        ("paced", "deadlines", ("bound_ms", "of", "missed", "late", "unanswered")),
        ("multi", "streams", ("bound_ms", "value", "low", "high")),
        ("sustained", "sustained", ("first_ms", "last_ms", "ratio")),
    ):
        rows = [(*engine(one), *(one[key][c] for c in columns)) for one in results if one.get(key)]
        if rows:
            yield _table((name, "engine", *(c.replace("_", " ") for c in columns)), rows)
    if document.get("comparison"):
        yield comparison(document["comparison"])
    yield _table(("what", "where and how"), [*origin(document), *facts(document)])


def comparison(found: Raw) -> str:
    """What `edgevid bench compare --json` prints, as Markdown."""
    from edgevid.bench.comparison.compare_table import HEAD, rows

    return f"{_table(HEAD, rows(found))}\n\n**{found['outcome'].upper()}**"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return _text(in_digits(value))


def _text(text: str) -> str:
    """So that no character of a name means anything to Markdown, or to a browser."""
    for one in "\\`*_[]<>|#":
        text = text.replace(one, f"\\{one}")
    return " ".join(text.split())
