"""What is to be measured, and how: the options that all measuring commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from edgevid.bench.job import Job
    from edgevid.bundle import Bundle
    from edgevid.runner.engines import Choice

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--source",
        type=click.Path(path_type=Path),
        help="Video to measure on. Default: a made one.",
    ),
    click.option("--artifact", help="Only this one. Default: all."),
    click.option("--runtime", help="Only in this runtime."),
    click.option("--accelerator", help="On this, and nothing else; see: edgevid doctor."),
    click.option(
        "--threads", type=click.IntRange(1), default=1, show_default=True, help="Of a step."
    ),
    click.option(
        "--decoder", default="software", help="software, auto, or a device such as vaapi."
    ),
    click.option("--skip-loop-filter", is_flag=True, help="Decode faster, with coarser pictures."),
    click.option(
        "--scenario",
        "scenarios",
        multiple=True,
        help="step, single, offline, paced or multi; may be given again. "
        "Default: step, single and paced.",
    ),
    click.option(
        "--rate-fps",
        type=click.FloatRange(0, min_open=True),
        help="Frames a second of paced and multi. Default: the model's own.",
    ),
    click.option(
        "--latency-ms",
        type=click.FloatRange(0, min_open=True),
        help="Within which paced and multi must answer. Default: the time between two frames.",
    ),
    click.option(
        "--rounds",
        type=click.IntRange(2),
        default=10,
        show_default=True,
        help="Of each job, all jobs in turn.",
    ),
    click.option(
        "--samples",
        type=click.IntRange(100),
        default=800,
        show_default=True,
        help="Least of each job.",
    ),
)


def measuring(function: Command) -> Command:
    """Add these options."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def choices_of(bundle: Bundle, wishes: Mapping[str, Any]) -> list[Choice]:
    """The engines that are wanted of a bundle, and that are installed here."""
    from edgevid import targets
    from edgevid.cli.console import say
    from edgevid.runner import engines

    which = {name: wishes[name] for name in ("artifact", "runtime", "accelerator")}
    return engines.installed(engines.choices(bundle, targets.load("local"), **which), say)


def jobs_of(bundle: Bundle, choices: Sequence[Choice], wishes: Mapping[str, Any]) -> list[Job]:
    """What is wanted of these engines."""
    from edgevid import bench

    names = ("threads", "decoder", "skip_loop_filter", "rate_fps", "latency_ms")
    how = {name: wishes[name] for name in names}
    return bench.jobs_of(bundle, choices, wishes["scenarios"] or bench.SCENARIOS, **how)
