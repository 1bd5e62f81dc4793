"""The options that all measuring commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgevid.cli.console import OUTPUT_FILE, PATH, FiniteRange

if TYPE_CHECKING:
    from edgevid.bench.job import Job
    from edgevid.bundle import Bundle
    from edgevid.runner.engines import Choice

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--source",
        type=PATH,
        help="Video to measure on. Default: a synthetic one.",
    ),
    click.option("--artifact", help="Measure only this artifact. Default: all."),
    click.option("--runtime", help="Measure only in this runtime."),
    click.option("--accelerator", help="Measure only on this accelerator; see: edgevid doctor."),
    click.option(
        "--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads per step."
    ),
    click.option(
        "--decoder", default="software", help="software, auto, or a device such as vaapi."
    ),
    click.option("--skip-loop-filter", is_flag=True, help="Decode faster, with coarser images."),
    click.option(
        "--scenario",
        "scenarios",
        multiple=True,
        help="step, single, offline, paced or multi. Repeatable. Default: step, single and paced.",
    ),
    click.option(
        "--rate-fps",
        type=FiniteRange(0, min_open=True),
        help="Frame rate of paced and multi. Default: the model's.",
    ),
    click.option(
        "--latency-ms",
        type=FiniteRange(0, min_open=True),
        help="Latency bound of paced and multi. Default: the time between two frames.",
    ),
    click.option(
        "--rounds",
        type=click.IntRange(2),
        default=10,
        show_default=True,
        help="Rounds per job.",
    ),
    click.option(
        "--samples",
        type=click.IntRange(100),
        default=800,
        show_default=True,
        help="Minimum number of samples per job.",
    ),
)


def measuring(function: Command) -> Command:
    """Add the options that say what is measured, and how much of it."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def reporting(function: Command) -> Command:
    """Add ``--page`` and ``--markdown``."""
    function = click.option(
        "--page",
        type=OUTPUT_FILE,
        help="Write a self-contained HTML page to this file.",
    )(function)
    return click.option(
        "--markdown",
        type=OUTPUT_FILE,
        metavar="FILE",
        help="Write tables as Markdown to this file; - prints them, and the text goes to stderr.",
    )(function)


def choices_of(bundle: Bundle, options: Mapping[str, Any]) -> list[Choice]:
    """Return the selected engines of a bundle that are installed here."""
    from edgevid import targets
    from edgevid.cli.console import say
    from edgevid.runner import engines

    which = {name: options[name] for name in ("artifact", "runtime", "accelerator")}
    return engines.installed(engines.choices(bundle, targets.load("local"), **which), say)


def jobs_of(bundle: Bundle, choices: Sequence[Choice], options: Mapping[str, Any]) -> list[Job]:
    """Return the selected jobs of these engines."""
    from edgevid import bench

    names = ("threads", "decoder", "skip_loop_filter", "rate_fps", "latency_ms")
    how = {name: options[name] for name in names}
    return bench.jobs_of(bundle, choices, options["scenarios"] or bench.SCENARIOS, **how)
