"""``edgevid dataset``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevid.cli.console import FLOAT, OUTPUT, OUTPUT_FILE, PATH, Bar, common, emit, outputs, table


@click.group(name="dataset")
def command() -> None:
    """Create and check datasets."""


@command.group()
def synth() -> None:
    """Write a synthetic labelled dataset of video files."""


@synth.command()
@click.option("--out", type=OUTPUT, required=True, help="Folder to write.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--size", type=int, default=64, show_default=True, help="Width and height in pixels.")
@click.option("--frames", type=int, default=12, show_default=True, help="Frames per clip.")
@click.option("--fps", type=int, default=15, show_default=True)
@click.option("--train", type=int, default=500, show_default=True, help="Clips per class.")
@click.option("--val", type=int, default=60, show_default=True, help="Clips per class.")
@click.option("--test", type=int, default=100, show_default=True, help="Clips per class.")
@common
def motion(
    out: Path,
    seed: int,
    size: int,
    frames: int,
    fps: int,
    train: int,
    val: int,
    test: int,
    as_json: bool,
) -> None:
    """Write clips of eight motions and a background class that no single frame reveals.

    Example:  edgevid dataset synth motion --out data
    """
    from edgevid.data.motion import MOTIONS
    from edgevid.data.synthesis import synth_motion
    from edgevid.output import try_folder

    try_folder(out)
    settings = synth_motion(
        out,
        seed=seed,
        size=size,
        frames=frames,
        fps=fps,
        train=train,
        val=val,
        test=test,
        progress=Bar(),
    )
    clips = (train + val + test) * len(MOTIONS)
    result = {"folder": str(out), "clips": clips, "classes": list(MOTIONS), **settings}
    emit(result, as_json, f"{clips} clips of {len(MOTIONS)} classes in {out}")


@synth.command()
@click.option("--out", type=OUTPUT_FILE, required=True, help="File to write.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--size", type=int, default=256, show_default=True, help="Width and height in pixels."
)
@click.option("--fps", type=int, default=15, show_default=True)
@click.option(
    "--seconds", type=FLOAT, default=2.0, show_default=True, help="Duration of each motion."
)
@common
def video(out: Path, seed: int, size: int, fps: int, seconds: float, as_json: bool) -> None:
    """Write one video of all motions, one after another, and print the times of each.

    Example:  edgevid dataset synth video --out video.mp4
    """
    from edgevid.data.synthesis import synth_video

    output = outputs(as_json, out=out)["out"]
    with output.file() as file:
        segments = synth_video(file, seconds_each=seconds, size=size, fps=fps, seed=seed)
    rows = [(s["label"], s["start_s"], s["end_s"]) for s in segments]
    result = {"video": str(out), "stretches": segments}
    emit(result, as_json, table(rows, ("motion", "from s", "to s")))


@command.command()
@click.argument("data", type=PATH)
@click.option(
    "--group",
    metavar="PATTERN",
    help="Pattern that names the recording of a clip; see edgevid train.",
)
@common
def check(data: Path, group: str | None, as_json: bool) -> None:
    """Report clips, classes, lengths, rates and unreadable files of a dataset.

    Also: files that are no videos, clips of one recording, equal files in two classes or splits.

    Example:  edgevid dataset check data
    """
    from edgevid.data.inspection import check

    report = check(data, group=group, progress=Bar())
    emit(report, as_json, _text(report))


PECULIAR = {
    "turned": "are turned upright, because of their orientation metadata",
    "joined": "are several recordings joined; each join resets a model's state",
    "not_square": "declare pixels that are not square, which is ignored",
    "guessed": "have neither time stamps nor a frame rate: 25 frames/s are assumed",
}
"""What `edgevid.data.inspection.check` counts as peculiar -> text."""


def _text(report: dict[str, Any]) -> str:
    """Format the report: one row per class, then lengths, rates and unreadable files."""
    splits = report["splits"]
    rows = [(name, *(splits[s].get(name, 0) for s in splits)) for name in report["classes"]]
    lines = [table(rows, ("class", *splits)), ""]
    for name in ("frames", "seconds"):
        if spread := report[name]:
            lines.append(f"{name:<8} " + ", ".join(f"{k} {v:g}" for k, v in spread.items()))
    for name in ("sizes", "rates_fps"):
        lines.append(f"{name:<8} " + ", ".join(f"{k} ({n})" for k, n in report[name].items()))
    lines += [f"{n} clips {PECULIAR[what]}" for what, n in report["peculiar"].items()]
    unreadable = report["unreadable"]
    lines.append(f"{report['clips']} readable clips, {len(unreadable)} unreadable")
    lines += [f"  {one['path']}: {one['reason']}" for one in unreadable]
    lines += [f"class {name!r} has no readable clip" for name in report["unusable"]]
    lines += report["notes"]
    return "\n".join(lines)
