"""``edgevid evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgevid.cli.console import Bar, common, emit, say, table

if TYPE_CHECKING:
    from edgevid.evaluation import Evaluation


@click.command(name="evaluate")
@click.argument("model", type=click.Path(path_type=Path), metavar="RUN|BUNDLE")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--split", default="test", show_default=True, help="train, val, test, or all.")
@click.option("--artifact", help="Only this one of a bundle. Default: all.")
@click.option("--runtime", help="Only in this runtime.")
@common
def command(
    model: Path, data: Path, split: str, artifact: str | None, runtime: str | None, as_json: bool
) -> None:
    """The task's metric of a run's model, or of each artifact of a bundle, on held-out clips.

    The split is the one recorded at training. A bundle's artifacts are streamed, frame by frame,
    through the code that serves.

    Example:  edgevid evaluate motion.edgevid data
    """
    if model.is_dir():
        from edgevid.training.score import evaluate_run

        results = [evaluate_run(model, data, split, Bar())]
    else:
        results = _bundle(model, data, split, artifact, runtime)
    if left_out := results[0].left_out:
        say(f"left out {len(left_out)}: {left_out[0]['path']}: {left_out[0]['reason']}")
    rows = [(r.artifact, r.runtime, r.score.value, r.score.n, r.split) for r in results]
    head = ("artifact", "runtime", results[0].score.name, "clips", "split")
    emit({"results": [one.to_json() for one in results]}, as_json, table(rows, head))


def _bundle(
    path: Path, data: Path, split: str, artifact: str | None, runtime: str | None
) -> list[Evaluation]:
    from edgevid import evaluation, targets
    from edgevid.bundle import Bundle
    from edgevid.runner import engines

    bundle = Bundle.open(path)
    wanted = engines.choices(bundle, targets.load("local"), artifact=artifact, runtime=runtime)
    wanted = engines.installed(wanted, say)
    recorded = bundle.evidence.get("split", {})
    clips = evaluation.choose_clips(bundle.contract, recorded, data, split, Bar())
    return evaluation.evaluate_bundle(bundle, wanted, clips, split, progress=Bar(), say=say)
