"""``edgevid bench compare`` and ``edgevid bench --baseline``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevid.cli.bench_options import choices_of, jobs_of, measuring
from edgevid.cli.console import OUTPUT_FILE, PATH, Bar, common, emit, outputs, save, say, table
from edgevid.errors import BadInput
from edgevid.files import canonical_json

if TYPE_CHECKING:
    from edgevid.bench.result import BenchComparison, BenchResult
    from edgevid.runner.engines import Choice

CODES = {"better": 0, "no worse": 0, "worse": 1, "inconclusive": 3}


@click.command(name="compare")
@click.argument("old", type=PATH)
@click.argument("new", type=PATH)
@measuring
@click.option(
    "--out",
    type=OUTPUT_FILE,
    help="Write the comparison and both results to this file (JSON).",
)
@common
def command(old: Path, new: Path, out: Path | None, as_json: bool, **options: Any) -> int:
    """Compare two results that --out wrote, or two bundles: is NEW worse than OLD?

    Bundles are measured now, in alternating rounds, and each round is compared with its neighbour:
    the most reliable comparison. The options select what is measured. Results are compared as they
    are; they are rejected if machine, video, threads or other conditions differ.

    Rounds are compared, not frames. Exit code 0: no worse; 1: worse; 2: cannot be compared; 3:
    inconclusive.

    \b
    Example:  edgevid bench compare before.json after.json
              edgevid bench compare before.edgevid after.edgevid --scenario single
    """
    paired = is_bundle(old)
    if paired != is_bundle(new):
        names = (old, new) if paired else (new, old)
        raise BadInput(
            f"{names[0]} is a bundle and {names[1]} is not; give two bundles or two results"
        )
    if not paired:
        _reject_options(click.get_current_context(), options)
    from edgevid.bench.host.compare import compare_results
    from edgevid.documents import to_json

    opened = outputs(as_json, out=out)
    before, after = side_by_side(old, new, options) if paired else (read(old), read(new))
    comparison = compare_results(before, after, paired=paired)
    document = to_json(comparison)
    if "out" in opened:
        both = {**document, "old": to_json(before), "new": to_json(after)}
        save(opened["out"], canonical_json(both))
    emit(document, as_json, text(comparison))
    return CODES[comparison.outcome]


def _reject_options(context: click.Context, options: Mapping[str, Any]) -> None:
    """Options of a measurement mean nothing for results."""
    for parameter in context.command.params:
        typed = context.get_parameter_source(str(parameter.name))
        if parameter.name in options and typed is click.core.ParameterSource.COMMANDLINE:
            raise BadInput(f"{parameter.opts[0]} is for bundles; results were measured already")


def is_bundle(path: Path) -> bool:
    """Return whether a path is meant to be a bundle, not a result."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"PK"
    except OSError:
        return path.suffix == ".edgevid"


def side_by_side(old: Path, new: Path, options: Mapping[str, Any]) -> list[BenchResult]:
    """Measure two bundles in one run.

    Raises:
        BadInput: If they have no jobs in common.
    """
    from edgevid import bench
    from edgevid.bench.host.pairing import check_jobs
    from edgevid.bench.synthetic_video import synthetic_video
    from edgevid.bundle import Bundle

    bundles = [Bundle.open(path) for path in (old, new)]
    choices = _common(*(choices_of(bundle, options) for bundle in bundles))
    jobs = [jobs_of(*both, options) for both in zip(bundles, choices, strict=True)]
    for before, after in zip(*jobs, strict=True):
        check_jobs(before.to_json(), after.to_json())
    plan = bench.BenchPlan(rounds=options["rounds"], samples=options["samples"])
    sides = list(zip(bundles, jobs, strict=True))
    return bench.together(
        sides, options["source"] or synthetic_video(Bar()), plan=plan, progress=Bar()
    )


def _common(old: list[Choice], new: list[Choice]) -> tuple[list[Choice], list[Choice]]:
    """The engines of both; if there are none, the only one of each."""
    both = [choice for choice in old if choice in new]
    if both:
        alone = sorted(map(str, {*old, *new} - {*both}))
        if alone:
            say(f"not in both bundles, and not compared: {', '.join(alone)}")
        return both, both
    if len(old) == len(new) == 1:
        return old, new
    raise BadInput(
        "the bundles have no artifact and engine in common; select one in each with --artifact "
        "or --runtime"
    )


def read(path: Path) -> BenchResult:
    """Read a bench result.

    Raises:
        BadInput: If the file cannot be read or is not a bench result.
    """
    from edgevid.bench.result import read_result

    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; give a file that --out wrote") from None
    except ValueError:
        raise BadInput(f"{path} is not a bench result; give a file that --out wrote") from None
    return read_result(data, str(path))


def text(comparison: BenchComparison) -> str:
    """Render a comparison for a terminal."""
    from edgevid.bench.host.compare_table import compare_table

    found = compare_table(comparison)
    return f"{table(found.rows, found.head)}\n\n{comparison.outcome.upper()}"


def with_baseline(
    before: BenchResult, result: BenchResult, shown: str, code: int, *, paired: bool = False
) -> tuple[BenchResult, str, int]:
    """Add the comparison with a baseline to a result, its text and its exit code."""
    from edgevid.bench.host.compare import compare_results

    comparison = compare_results(before, result, paired=paired)
    worse = CODES[comparison.outcome]
    code = worse if worse == CODES["worse"] else max(code, worse)
    return replace(result, comparison=comparison), f"{shown}\n\n{text(comparison)}", code
