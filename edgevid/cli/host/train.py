"""``edgevid train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevid.cli.console import Bar, common, emit, say
from edgevid.tasks import DEFAULT


@click.command(name="train")
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to write.")
@click.option("--task", default=DEFAULT, show_default=True, help="What the model predicts.")
@click.option("--model", default="cnn-lstm", show_default=True, help="cnn or cnn-lstm.")
@click.option("--size", default="compact", show_default=True, help="compact or article.")
@click.option("--temporal", help="window or carry. Default: window for a model with memory.")
@click.option("--frames", type=click.IntRange(1), help="Frames that the memory spans. Default: 8.")
@click.option("--image-size", type=click.IntRange(16), default=64, show_default=True)
@click.option("--fit", default="stretch", show_default=True, help="stretch, crop or letterbox.")
@click.option("--rate", type=float, help="Frames a second that the model sees. Default: as filmed.")
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
    type=click.Path(path_type=Path),
    help="Go on with the model of RUN, with int8's rounding, gently. Default: 10 epochs.",
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

    An interrupted training goes on where it stopped when it is called again alike.

    With --quantize-aware the model of a run learns to live with int8, for when convert cannot
    repair it; DATA is the run's own.

    Example:  edgevid train data --model cnn-lstm --out run
    """
    from edgevid.tasks.host import open_host
    from edgevid.tasks.host.training import open_training
    from edgevid.training import backend

    if origin is not None:
        _fine_tune(context, origin, data, out, as_json)
        return
    if data is None:
        raise click.UsageError("Missing argument 'DATA'.")
    open_host(task).find(data)  # a misspelt folder need not wait for the backend
    backend.start()
    from edgevid.training.augment import Augment
    from edgevid.training.fit import TrainConfig, train
    from edgevid.training.models import configure

    shape = configure(
        model, size, temporal, frames=frames, height=image_size, width=image_size, task=task
    )
    config = TrainConfig(
        shape,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        patience=patience,
        seed=seed,
        rate_fps=rate,
        fit=fit,
        augment=Augment() if augment else None,
    )
    result = train(config, data, out, Bar())
    for one in result["left_out"]:
        say(f"left out {one['path']}: {one['reason']}")
    figure = open_training(task).figure
    value = result["metrics"]["val"][figure]
    emit(result, as_json, f"val {figure} {value:.3f} after {result['epochs']} epochs; {out}")


def _fine_tune(
    context: click.Context, origin: Path, data: Path | None, out: Path, as_json: bool
) -> None:
    """What ``--quantize-aware`` asks for; the model and its data are settled by the run."""
    from edgevid.training import backend

    given = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    settled = set(given) - {"data", "out", "origin", "epochs", "learning_rate", "as_json"}
    if settled:
        name = sorted(settled)[0].replace("_", "-")
        raise click.UsageError(f"--{name} is settled by the run; leave it out")
    backend.start()
    from edgevid.tasks.evidence import metric_drop
    from edgevid.tasks.host.training import open_training
    from edgevid.training.quantized import EPOCHS, fine_tune

    epochs, rate = given.get("epochs", EPOCHS), given.get("learning_rate")
    result = fine_tune(origin, out, data, epochs=epochs, learning_rate=rate, progress=Bar())
    before, after = (result["rounded"][when] for when in ("before", "after"))
    training = open_training(result["task"])
    was, became = before[training.figure], after[training.figure]
    told = f"val {training.figure} with int8's rounding {was:.3f} before, {became:.3f} after; {out}"
    drop = metric_drop(was, became, higher_is_better=training.higher_is_better)
    if drop > 0 or after["loss"] > before["loss"]:
        told += "\nit is no better than before: give a lower --learning-rate, or more --epochs"
    emit(result, as_json, told)
