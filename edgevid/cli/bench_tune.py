"""``edgevid bench --tune``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from edgevid.cli.console import Bar, say
from edgevid.errors import BadInput

Command = TypeVar("Command", bound=Callable[..., Any])


def tuning(function: Command) -> Command:
    """Add the options of a search."""
    for add in (
        click.option("--forget", is_flag=True, help="With --tune: let run choose by itself again."),
        click.option(
            "--max-drop",
            type=click.FloatRange(0, 1),
            default=0.01,
            show_default=True,
            help="With --tune: what of the task's metric may be lost.",
        ),
        click.option(
            "--tune",
            is_flag=True,
            help="Find the best engine and number of threads, which run then uses here.",
        ),
    ):
        function = add(function)
    return function


def refuse_without_tune(wishes: Mapping[str, Any]) -> None:
    """What only a search heeds is not given in vain."""
    if wishes["forget"]:
        raise BadInput("--forget belongs to --tune; give both")


def tuned(path: Path, source: Path | None, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Search, or forget what was found; gives the document."""
    from edgevid import bench
    from edgevid.bench import tune
    from edgevid.bench.synthetic_video import synthetic_video
    from edgevid.bundle import Bundle

    opened = Bundle.open(path)
    tune.check_wishes(wishes)
    if wishes["forget"]:
        return tune.forget(opened)
    return tune.tune(
        opened,
        source or synthetic_video(Bar()),
        whole_way=source is not None and wishes["scenarios"] != ("step",),
        max_drop=wishes["max_drop"],
        final=bench.BenchPlan(rounds=wishes["rounds"], samples=wishes["samples"], starts=1),
        progress=Bar(),
        say=say,
    )


def text(document: Mapping[str, Any], said: Callable[[Mapping[str, Any]], str]) -> str:
    """Say what was chosen, after the tables of the last ones."""
    found = document["tuned"]
    if found["choice"] is None:
        return "No choice is kept; run chooses by itself."
    kept = "" if found.get("kept", True) else ", but not kept: nothing serves there"
    chosen = f"Chosen of {found['tried']}: {found['choice']}{kept}"
    return f"{said(document)}\n\n{chosen}"
