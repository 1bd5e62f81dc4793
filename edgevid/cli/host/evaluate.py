"""``edgevid evaluate``."""

from __future__ import annotations

from pathlib import Path

import click

from edgevid.cli.console import PATH, Bar, common, emit, say, table


@click.command(name="evaluate")
@click.argument("model", type=PATH, metavar="RUN|BUNDLE")
@click.argument("data", type=PATH)
@click.option("--split", default="test", show_default=True, help="train, val, test, or all.")
@click.option("--artifact", help="Evaluate only this artifact of a bundle. Default: all.")
@click.option("--runtime", help="Evaluate only in this runtime.")
@common
def command(
    model: Path, data: Path, split: str, artifact: str | None, runtime: str | None, as_json: bool
) -> None:
    """Measure the task's metric of a run's model, or of each artifact of a bundle.

    The split is the one that training recorded. A bundle's artifacts are streamed frame by frame
    through the code that runs on devices.

    Example:  edgevid evaluate motion.edgevid data
    """
    from edgevid.api import evaluate

    results = evaluate(
        model, data, split=split, artifact=artifact, runtime=runtime, progress=Bar(), log=say
    )
    if left_out := results[0].left_out:
        say(f"left out {len(left_out)}: {left_out[0]['path']}: {left_out[0]['reason']}")
    rows = [(r.artifact, r.runtime, r.score.value, r.score.n, r.split) for r in results]
    head = ("artifact", "runtime", results[0].score.name, "clips", "split")
    emit({"results": [one.to_json() for one in results]}, as_json, table(rows, head))
