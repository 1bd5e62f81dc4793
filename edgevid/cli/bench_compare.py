"""``edgevid bench compare`` and ``edgevid bench --baseline``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgevid.cli.console import common, emit, table

CODES = {"better": 0, "no worse": 0, "worse": 1, "inconclusive": 3}


@click.command(name="compare")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@common
def command(old: Path, new: Path, as_json: bool) -> int:
    """Say whether the result NEW is worse than OLD, both written by --out.

    Rounds are compared, not frames. Exit code 0: no worse; 1: worse; 3: it cannot be told. Results
    that differ in what must be alike, such as machine, video or threads, are refused.

    Example:  edgevid bench compare before.json after.json
    """
    document, said, code = compared(read(old), read(new))
    emit(document, as_json, said)
    return code


class WithCompare(click.Command):
    """``bench BUNDLE``, and ``bench compare OLD NEW``; a bundle of that name is ``./compare``."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Give the context of the command that is meant."""
        if args[:1] == ["compare"]:
            return command.make_context(f"{info_name} compare", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Do what the context is for."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


def read(path: Path) -> dict[str, Any]:
    """Read a result document; raises `BadInput` for what is none."""
    import json

    from edgevid.errors import BadInput

    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; give what --out wrote") from None
    except ValueError:
        raise BadInput(f"{path}: not a result; give what --out wrote") from None
    if not isinstance(document, dict):
        raise BadInput(f"{path}: not a result; give what --out wrote")
    return document


def compared(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[dict[str, Any], str, int]:
    """The comparison as plain data and as text, and its exit code."""
    from dataclasses import asdict

    from edgevid.bench.compare import compare, overall

    found = compare(old, new)
    outcome = overall(found)
    rows = [(one.job, one.metric, one.verdict.outcome, one.verdict.why) for one in found]
    said = f"{table(rows, ('job', 'figure', 'verdict', 'new against old'))}\n\n{outcome.upper()}"
    document = {"outcome": outcome, "comparisons": [asdict(one) for one in found]}
    return document, said, CODES[outcome]


def judged(
    before: Mapping[str, Any] | None, result: dict[str, Any], said: str, code: int
) -> tuple[dict[str, Any], str, int]:
    """Add the comparison with a baseline to a result, its text and its exit code."""
    if before is None:
        return result, said, code
    comparison, verdict, worse = compared(before, result)
    code = worse if worse == CODES["worse"] else max(code, worse)
    return {**result, "comparison": comparison}, f"{said}\n\n{verdict}", code
