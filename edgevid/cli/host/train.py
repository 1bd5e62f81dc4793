"""``edgevid train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevid.cli.console import FLOAT, OUTPUT, PATH, Bar, common, emit, say
from edgevid.data.video_files import count_left_out
from edgevid.tasks import DEFAULT

if TYPE_CHECKING:
    from edgevid.training.records import TrainSummary


@click.command(name="train")
@click.argument("data", type=PATH, required=False)
@click.option("--out", type=OUTPUT, required=True, help="Run folder to write.")
@click.option("--task", default=DEFAULT, show_default=True, help="What the model predicts.")
@click.option("--model", default="cnn-lstm", show_default=True, help="cnn or cnn-lstm.")
@click.option("--size", default="compact", show_default=True, help="compact or article.")
@click.option("--temporal", help="window or carry. Default: window for a model with state.")
@click.option("--frames", type=click.IntRange(1), help="Length of the window. Default: 8.")
@click.option("--image-size", type=click.IntRange(16), default=64, show_default=True)
@click.option("--fit", default="stretch", show_default=True, help="stretch, crop or letterbox.")
@click.option("--rate", type=FLOAT, help="Steps per second. Default: the clips' rate.")
@click.option("--epochs", type=click.IntRange(1), default=20, show_default=True)
@click.option("--batch", type=click.IntRange(1), help="Default: 8 to 32, by number of clips.")
@click.option("--learning-rate", type=FLOAT, default=3e-3, show_default=True)
@click.option("--patience", type=click.IntRange(1), help="Default: 6 or 10, by number of clips.")
@click.option(
    "--group",
    metavar="PATTERN",
    help="Regular expression; its match in a clip's path names the recording, and a recording is "
    "in one split only. none: every file is a recording. Default: names of known datasets.",
)
@click.option(
    "--min-metric",
    type=FLOAT,
    help="Exit code 1 if the figure on val is worse, or no better than chance.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--augment/--no-augment", default=True, show_default=True)
@click.option(
    "--quantize-aware",
    "origin",
    metavar="RUN",
    type=PATH,
    help="Fine-tune the model of RUN with simulated int8 rounding. Default: 10 epochs.",
)
@common
@click.pass_context
def command(
    context: click.Context,
    data: Path | None,
    out: Path,
    task: str,
    model: str,
    size: str,
    temporal: str | None,
    frames: int | None,
    image_size: int,
    fit: Any,
    rate: float | None,
    epochs: int,
    batch: int | None,
    learning_rate: float,
    patience: int | None,
    group: str | None,
    min_metric: float | None,
    seed: int,
    augment: bool,
    origin: Path | None,
    as_json: bool,
) -> int:
    """Train a model on a folder of labelled clips.

    DATA holds one folder per class, or DATA/train, DATA/val and DATA/test do. Any file that FFmpeg
    plays is a clip; what is left out is listed.

    Without split folders the split is random, with all clips of one recording in one split:
    --group '_g(\\d+)_' takes g07 in walk_g07_c2.mp4 for the recording.

    Interrupted training resumes when the command is repeated with the same options.

    --quantize-aware fine-tunes a model for int8, for when convert cannot repair its artifact. DATA
    defaults to the data of the run.

    Example:  edgevid train data --model cnn-lstm --out run
    """
    from edgevid.output import try_folder
    from edgevid.training.api import TrainOptions, train

    try_folder(out)
    if origin is not None:
        return _fine_tune(context, origin, data, out, min_metric, as_json)
    if data is None:
        raise click.UsageError("Missing argument 'DATA'.")
    options = TrainOptions(
        model=model,
        size=size,
        temporal=temporal,
        frames=frames,
        image_size=image_size,
        fit=fit,
        rate_fps=rate,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        patience=patience,
        seed=seed,
        augment=augment,
        task=task,
        group=group,
    )
    summary = train(data, out, options, progress=Bar())
    val = summary.val
    text = (
        f"kept epoch {summary.best_epoch} of {summary.epochs}: val {val.figure} {val.value:.3f} on "
        f"{val.n} clips; {out}"
    )
    return _report(summary, text, min_metric, as_json)


def _report(summary: TrainSummary, text: str, min_metric: float | None, as_json: bool) -> int:
    """Print a summary with its notes; return the exit code."""
    for line in (*summary.notes, *map(str, count_left_out(summary.left_out))):
        say(line)
    emit(summary.to_json(), as_json, text)
    val, failed = summary.val, min_metric is not None
    if summary.weakness:
        failed = failed and summary.chance is not None and summary.chance.decidable
        say(summary.weakness if failed else f"warning: {summary.weakness}")
        if failed:
            return 1
    if min_metric is None:
        return 0
    sign = 1 if summary.higher_is_better else -1
    if sign * val.value >= sign * min_metric:
        return 0
    side = "less" if sign > 0 else "more"
    say(f"val {val.figure} {val.value:.3f} is {side} than --min-metric {min_metric:g}")
    return 1


def _fine_tune(
    context: click.Context,
    origin: Path,
    data: Path | None,
    out: Path,
    min_metric: float | None,
    as_json: bool,
) -> int:
    """Run ``--quantize-aware``; the run determines the model and its data."""
    given = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    free = {"data", "out", "origin", "epochs", "learning_rate", "min_metric", "as_json"}
    fixed = set(given) - free
    if fixed:
        name = sorted(fixed)[0].replace("_", "-")
        raise click.UsageError(f"--{name} is fixed by the run; leave it out")
    from edgevid.tasks.evidence import metric_drop
    from edgevid.tasks.host.training import open_training
    from edgevid.training.api import FINE_TUNE_EPOCHS, fine_tune

    epochs, rate = given.get("epochs", FINE_TUNE_EPOCHS), given.get("learning_rate")
    summary = fine_tune(origin, out, data, epochs=epochs, learning_rate=rate, progress=Bar())
    assert summary.rounded is not None
    before, after = summary.rounded.before, summary.rounded.after
    text = (
        f"val {after.figure} with int8's rounding {before.value:.3f} before, "
        f"{after.value:.3f} after; {out}"
    )
    task = open_training(summary.task)
    drop = metric_drop(before.value, after.value, higher_is_better=task.higher_is_better)
    if drop > 0 or after.loss > before.loss:
        text += "\nno better than before: use a lower --learning-rate, or more --epochs"
    return _report(summary, text, min_metric, as_json)
