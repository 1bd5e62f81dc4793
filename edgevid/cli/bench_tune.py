"""``edgevid bench --tune``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgevid.cli.console import Bar, FiniteRange, say
from edgevid.errors import BadInput

if TYPE_CHECKING:
    from edgevid.bench.result import BenchResult, ForgottenTuning, TuningResult

Command = TypeVar("Command", bound=Callable[..., Any])


def tuning(function: Command) -> Command:
    """Add the options of a search."""
    for add in (
        click.option("--forget", is_flag=True, help="With --tune: remove the stored choice."),
        click.option(
            "--max-drop",
            type=FiniteRange(0),
            default=0.01,
            show_default=True,
            help="With --tune: largest allowed drop of the task's metric.",
        ),
        click.option(
            "--tune",
            is_flag=True,
            help="Find the best engine and number of threads; run then uses them on this machine.",
        ),
    ):
        function = add(function)
    return function


def check_options(options: Mapping[str, Any]) -> None:
    """Reject an option that needs ``--tune``.

    Raises:
        BadInput: If there is one.
    """
    if options["forget"]:
        raise BadInput("--forget needs --tune; give both")


def tuned(
    path: Path, source: Path | None, options: Mapping[str, Any]
) -> BenchResult | ForgottenTuning:
    """Search for the best engine, or remove the stored choice."""
    from edgevid import bench
    from edgevid.bench import tune
    from edgevid.bench.synthetic_video import synthetic_video
    from edgevid.bundle import Bundle

    opened = Bundle.open(path)
    tune.check_options(options)
    if options["forget"]:
        return tune.forget(opened)
    return tune.tune(
        opened,
        source or synthetic_video(Bar()),
        whole_pipeline=source is not None and options["scenarios"] != ("step",),
        max_drop=options["max_drop"],
        final=bench.BenchPlan(rounds=options["rounds"], samples=options["samples"], starts=1),
        progress=Bar(),
        log=say,
    )


def text(found: TuningResult) -> str:
    """Describe the choice."""
    stored = "" if found.kept in (None, True) else ", but not stored: no service installed there"
    return f"Chosen from {found.tried}: {found.choice}{stored}"
