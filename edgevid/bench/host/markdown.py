"""Bench results as Markdown: for release notes, an issue, a README."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from edgevid.bench.host.compare_table import compare_table
from edgevid.bench.result import BenchComparison, BenchResult
from edgevid.bench.summary_table import summary_table
from edgevid.bench.tables import Table, machine_facts, origin_facts, tables
from edgevid.progress import in_digits


def markdown(results: Sequence[BenchResult]) -> str:
    """Render the tables of these results, each with its verdict and reasons."""
    names = ", ".join(dict.fromkeys(one.bundle.name for one in results))
    parts = [f"# Bench of {_text(names)}", *map(_verdict, results)]
    parts.append(_render(summary_table(results)))
    for result in results:
        if len(results) > 1:
            parts.append(f"## {_text(result.device_name)}")
        parts += _result(result)
    return "\n\n".join(parts) + "\n"


def _verdict(result: BenchResult) -> str:
    word = "VALID" if result.valid else "INVALID"
    line = f"**{_text(result.device_name)}: {word}**"
    return "\n".join([line, *(f"- {_text(reason)}" for reason in result.reasons)])


def _result(result: BenchResult) -> Iterator[str]:
    yield from map(_render, tables(result))
    if result.comparison:
        yield comparison(result.comparison)
    facts = [*origin_facts(result), *machine_facts(result)]
    yield _lines(("what", "where and how"), facts)


def comparison(found: BenchComparison) -> str:
    """Render a comparison."""
    return f"{_render(compare_table(found))}\n\n**{found.outcome.upper()}**"


def _render(table: Table) -> str:
    return _lines(table.head, table.formatted(compact=False))


def _lines(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return _text(in_digits(value))


def _text(text: str) -> str:
    """Escape a text, so that no character of a name is markup to Markdown or to a browser."""
    for one in "\\`*_[]<>|#":
        text = text.replace(one, f"\\{one}")
    return " ".join(text.split())
