"""``edgevid dataset``."""

from __future__ import annotations

from pathlib import Path

import click

from edgevid.cli.console import Bar, common, emit, table


@click.group(name="dataset")
def command() -> None:
    """Make and check data."""


@command.group()
def synth() -> None:
    """Make a labelled data set of real video files, from nothing."""


@synth.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--train", type=click.IntRange(1), default=300, show_default=True, help="Per class.")
@click.option("--val", type=click.IntRange(1), default=50, show_default=True, help="Per class.")
@click.option("--test", type=click.IntRange(1), default=100, show_default=True, help="Per class.")
@common
def motion(out: Path, seed: int, train: int, val: int, test: int, as_json: bool) -> None:
    """Eight motions and a background class, which one frame alone does not give away.

    Example:  edgevid dataset synth motion --out data
    """
    from edgevid.train.synth import synth_motion

    result = synth_motion(out, seed=seed, train=train, val=val, test=test, progress=Bar())
    emit(result, as_json, f"{result['clips']} clips of {len(result['classes'])} classes in {out}")


@command.command()
@click.argument("data", type=click.Path(path_type=Path))
@common
def check(data: Path, as_json: bool) -> None:
    """Report clips, classes, lengths, rates and unreadable files of a data set.

    Example:  edgevid dataset check data
    """
    from edgevid.media import clips

    report = clips.check(data, progress=Bar())
    emit(report, as_json, _text(report))


def _text(report: dict[str, object]) -> str:
    return table(report.items(), ("what", "value"))
