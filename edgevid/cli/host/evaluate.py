"""``edgevid evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgevid.cli.console import FLOAT, PATH, Bar, common, emit, say, table
from edgevid.data.video_files import count_left_out

if TYPE_CHECKING:
    from edgevid.evaluation import Evaluation


@click.command(name="evaluate")
@click.argument("model", type=PATH, metavar="RUN|BUNDLE")
@click.argument("data", type=PATH)
@click.option("--split", default="test", show_default=True, help="train, val, test, or all.")
@click.option("--artifact", help="Evaluate only this artifact of a bundle. Default: all.")
@click.option("--runtime", help="Evaluate only in this runtime.")
@click.option(
    "--min-metric",
    type=FLOAT,
    help="Exit code 1 if the metric is worse, or no better than chance.",
)
@common
def command(
    model: Path,
    data: Path,
    split: str,
    artifact: str | None,
    runtime: str | None,
    min_metric: float | None,
    as_json: bool,
) -> int:
    """Measure the task's metric of a run's model, or of each artifact of a bundle.

    The split is the one that training recorded. A bundle's artifacts are streamed frame by frame
    through the code that runs on devices.

    Example:  edgevid evaluate motion.edgevid data
    """
    from edgevid.api import evaluate

    results = evaluate(
        model, data, split=split, artifact=artifact, runtime=runtime, progress=Bar(), log=say
    )
    for line in (*results[0].ignored, *count_left_out(results[0].left_out)):
        say(str(line))
    rows = [(r.artifact, r.runtime, r.score.value, r.score.n, r.split) for r in results]
    head = ("artifact", "runtime", results[0].score.name, "clips", "split")
    emit({"results": [one.to_json() for one in results]}, as_json, table(rows, head))
    return worst_code(results, min_metric)


def worst_code(results: Sequence[Evaluation], min_metric: float | None) -> int:
    """Say which results are too weak; return 1 if one is and there is a minimum."""
    failed = False
    for one in results:
        below = None if min_metric is None else one.below(min_metric)
        fails = min_metric is not None and bool(below or one.at_chance)
        for text in filter(None, (one.weakness, below)):
            say(text if fails else f"warning: {text}")
        failed = failed or fails
    return int(failed)
