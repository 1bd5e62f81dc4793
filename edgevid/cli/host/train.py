"""``edgevid train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevid.cli.console import PATH, Bar, common, emit, say
from edgevid.tasks import DEFAULT


@click.command(name="train")
@click.argument("data", type=PATH, required=False)
@click.option("--out", type=PATH, required=True, help="Run folder to write.")
@click.option("--task", default=DEFAULT, show_default=True, help="What the model predicts.")
@click.option("--model", default="cnn-lstm", show_default=True, help="cnn or cnn-lstm.")
@click.option("--size", default="compact", show_default=True, help="compact or article.")
@click.option("--temporal", help="window or carry. Default: window for a model with state.")
@click.option("--frames", type=click.IntRange(1), help="Length of the window. Default: 8.")
@click.option("--image-size", type=click.IntRange(16), default=64, show_default=True)
@click.option("--fit", default="stretch", show_default=True, help="stretch, crop or letterbox.")
@click.option("--rate", type=float, help="Steps per second. Default: the clips' rate.")
@click.option("--epochs", type=click.IntRange(1), default=20, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True)
@click.option("--learning-rate", type=float, default=3e-3, show_default=True)
@click.option("--patience", type=click.IntRange(1), default=6, show_default=True)
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
    batch: int,
    learning_rate: float,
    patience: int,
    seed: int,
    augment: bool,
    origin: Path | None,
    as_json: bool,
) -> None:
    """Train a model on a folder of labelled clips.

    DATA holds one folder per class, or DATA/train, DATA/val and DATA/test do.

    Interrupted training resumes when the command is repeated with the same options.

    --quantize-aware fine-tunes a model for int8, for when convert cannot repair its artifact. DATA
    defaults to the data of the run.

    Example:  edgevid train data --model cnn-lstm --out run
    """
    from edgevid.output import try_folder
    from edgevid.training.api import TrainOptions, train

    try_folder(out)
    if origin is not None:
        _fine_tune(context, origin, data, out, as_json)
        return
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
    )
    summary = train(data, out, options, progress=Bar())
    for one in summary.left_out:
        say(f"left out {one['path']}: {one['reason']}")
    val = summary.val
    text = f"val {val.figure} {val.value:.3f} after {summary.epochs} epochs; {out}"
    emit(summary.to_json(), as_json, text)


def _fine_tune(
    context: click.Context, origin: Path, data: Path | None, out: Path, as_json: bool
) -> None:
    """Run ``--quantize-aware``; the run determines the model and its data."""
    given = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    fixed = set(given) - {"data", "out", "origin", "epochs", "learning_rate", "as_json"}
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
    emit(summary.to_json(), as_json, text)
