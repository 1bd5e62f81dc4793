"""``edgevid bench compare`` and ``edgevid bench --baseline``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevid.cli import bench_report
from edgevid.cli.bench_options import choices_of, jobs_of, measuring
from edgevid.cli.console import Bar, common, emit, say, table
from edgevid.errors import BadInput
from edgevid.files import write_json

if TYPE_CHECKING:
    from edgevid.runner.engines import Choice

CODES = {"better": 0, "no worse": 0, "worse": 1, "inconclusive": 3}


@click.command(name="compare")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@measuring
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write both results and what was said, JSON."
)
@common
def command(old: Path, new: Path, out: Path | None, as_json: bool, **wishes: Any) -> int:
    """Say whether NEW is worse than OLD: two results that --out wrote, or two bundles.

    Bundles are measured here and now, round by round in turn, and each round is compared with its
    neighbour: the surest comparison there is. The options say what is measured then. Results are
    compared as they are; those that differ in what must be alike, such as machine, video or
    threads, are refused.

    Rounds are compared, not frames. Exit code 0: no worse; 1: worse; 2: not to be compared; 3: it
    cannot be told.

    \b
    Example:  edgevid bench compare before.json after.json
              edgevid bench compare before.edgevid after.edgevid --scenario single
    """
    paired = is_bundle(old)
    if paired != is_bundle(new):
        names = (old, new) if paired else (new, old)
        raise BadInput(f"{names[0]} is a bundle and {names[1]} is none; give two of a kind")
    if not paired:
        _refuse(click.get_current_context(), wishes)
    before, after = side_by_side(old, new, wishes) if paired else (read(old), read(new))
    document, said, code = compared(before, after, paired=paired)
    if out is not None:
        write_json(out, {**document, "old": before, "new": after})
        say(f"written: {out}")
    emit(document, as_json, said)
    return code


def _refuse(context: click.Context, wishes: Mapping[str, Any]) -> None:
    """What says how to measure means nothing to results."""
    for parameter in context.command.params:
        typed = context.get_parameter_source(str(parameter.name))
        if parameter.name in wishes and typed is click.core.ParameterSource.COMMANDLINE:
            raise BadInput(f"{parameter.opts[0]} is for bundles; results are as they were measured")


class WithWords(click.Command):
    """``bench BUNDLE``, ``bench compare``, ``bench report``; ``./compare`` is a bundle."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Give the context of the command that is meant."""
        words = {"compare": command, "report": bench_report.command}
        meant = words.get(args[0]) if args else None
        if meant is None:
            return super().make_context(info_name, args, parent, **extra)
        return meant.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Do what the context is for."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


def is_bundle(path: Path) -> bool:
    """Whether that is meant to be a bundle, and not a result."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"PK"
    except OSError:
        return path.suffix == ".edgevid"


def side_by_side(old: Path, new: Path, wishes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Measure two bundles in one run; raises `BadInput` where they have no jobs that are alike."""
    from edgevid import bench
    from edgevid.bench.comparison.pairing import alike
    from edgevid.bench.synthetic_video import synthetic_video
    from edgevid.bundle import Bundle

    bundles = [Bundle.open(path) for path in (old, new)]
    choices = _common(*(choices_of(bundle, wishes) for bundle in bundles))
    jobs = [jobs_of(*both, wishes) for both in zip(bundles, choices, strict=True)]
    for before, after in zip(*jobs, strict=True):
        alike(before.to_json(), after.to_json())
    plan = bench.BenchPlan(rounds=wishes["rounds"], samples=wishes["samples"])
    sides = list(zip(bundles, jobs, strict=True))
    return bench.together(
        sides, wishes["source"] or synthetic_video(Bar()), plan=plan, progress=Bar()
    )


def _common(old: list[Choice], new: list[Choice]) -> tuple[list[Choice], list[Choice]]:
    """The engines of both; where none is, the only one of each."""
    both = [choice for choice in old if choice in new]
    if both:
        alone = sorted(map(str, {*old, *new} - {*both}))
        if alone:
            say(f"not in both, and not compared: {', '.join(alone)}")
        return both, both
    if len(old) == len(new) == 1:
        return old, new
    raise BadInput(
        "the bundles have no artifact and engine in common; name one of each kind with --artifact "
        "or --runtime"
    )


def read(path: Path) -> dict[str, Any]:
    """Read a result document; raises `BadInput` for what is none."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; give what --out wrote") from None
    except ValueError:
        raise BadInput(f"{path}: not a result; give what --out wrote") from None
    if not isinstance(document, dict):
        raise BadInput(f"{path}: not a result; give what --out wrote")
    return document


def compared(
    old: Mapping[str, Any], new: Mapping[str, Any], *, paired: bool = False
) -> tuple[dict[str, Any], str, int]:
    """The comparison as plain data and as text, and its exit code."""
    from dataclasses import asdict

    from edgevid.bench.comparison.compare import compare, overall
    from edgevid.bench.comparison.compare_table import HEAD, rows

    found = compare(old, new, paired=paired)
    outcome = overall(found)
    told = [asdict(one) for one in found]
    document = {"outcome": outcome, "paired": paired, "comparisons": told}
    return document, f"{table(rows(document), HEAD)}\n\n{outcome.upper()}", CODES[outcome]


def judged(
    before: Mapping[str, Any] | None,
    result: dict[str, Any],
    said: str,
    code: int,
    *,
    paired: bool = False,
) -> tuple[dict[str, Any], str, int]:
    """Add the comparison with a baseline to a result, its text and its exit code."""
    if before is None:
        return result, said, code
    comparison, verdict, worse = compared(before, result, paired=paired)
    code = worse if worse == CODES["worse"] else max(code, worse)
    return {**result, "comparison": comparison}, f"{said}\n\n{verdict}", code
