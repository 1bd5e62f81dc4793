"""Changing over to a new configuration while the old one runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgevid.bundle import Bundle
from edgevid.errors import BadInput, EdgevidError
from edgevid.runner.config import Changes, RunConfig, changes
from edgevid.runner.served_model import ServedModel

if TYPE_CHECKING:
    from edgevid.media.sources import Source
    from edgevid.runner.assembly import Assembly, GivenSink
    from edgevid.runner.config import BundleUse
    from edgevid.runner.sink_threads import SinkThread

Waiting = Callable[[threading.Thread], None]


def apply(
    parts: Assembly, old: RunConfig, new: RunConfig, given: Sequence[GivenSink], waiting: Waiting
) -> str:
    """Change over from ``old`` to ``new``.

    Everything that ``new`` needs is opened first, so an error changes nothing.

    Args:
        parts: What runs.
        old: Its configuration.
        new: The configuration to change over to.
        given: Sinks that belong to no configuration.
        waiting: Waits for a thread, and reports progress meanwhile.

    Returns:
        One line for people: what changed.

    Raises:
        EdgevidError: Something in ``new`` cannot be opened.
    """
    replaced = [name for name, served in parts.served.items() if _is_replaced(served, new)]
    diff = changes(old, new, replaced)
    cameras = {use.name: use for use in new.cameras}
    sources: dict[str, Source] = {}
    models: dict[str, ServedModel] = {}
    sinks: list[SinkThread] = []
    change_sinks = diff.sinks or diff.output
    try:
        for name in (*diff.cameras.added, *diff.cameras.changed):
            sources[name] = parts.open_source(new, cameras[name])
        for use in new.bundles:
            if use.name in (*diff.bundles.added, *diff.bundles.changed):
                models[use.name] = _open_model(use, parts, waiting)
        parts.check_events(new, parts.served | models)
        if change_sinks:
            sinks = parts.open_sinks(new)
    except EdgevidError:
        for source in sources.values():
            source.close()
        for served in models.values():
            served.failover.close()
        raise
    ended = _end_cameras(parts, diff)
    _change_models(parts, diff, models)
    started = parts.readers_of(new, [(cameras[name], one) for name, one in sources.items()])
    _change_sinks(parts, sinks if change_sinks else None, len(given))
    parts.readers += started
    for reader in started:
        reader.start()
    return (
        f"new configuration: {len(models)} bundles and {len(started)} cameras started, "
        f"{ended} cameras ended, {len(diff.cameras.kept)} unchanged"
    )


def _open_model(use: BundleUse, parts: Assembly, waiting: Waiting) -> ServedModel:
    """Open a model in a thread, since its proof may take a while."""
    done: list[ServedModel | EdgevidError] = []

    def work() -> None:
        try:
            done.append(ServedModel.open(use, live=True, report=parts.report))
        except EdgevidError as error:
            done.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    waiting(thread)
    if not done:
        raise BadInput(f"{use.path}: cannot be opened; see the log")
    if isinstance(done[0], EdgevidError):
        raise done[0]
    return done[0]


def _end_cameras(parts: Assembly, diff: Changes) -> int:
    gone = {*diff.cameras.removed, *diff.cameras.changed}
    ending = [reader for reader in parts.readers if reader.name in gone]
    parts.close_readers(ending)
    parts.forget(ending)
    return len(ending)


def _change_models(parts: Assembly, diff: Changes, models: dict[str, ServedModel]) -> None:
    for name in (*diff.bundles.removed, *diff.bundles.changed):
        served = parts.served.pop(name)
        served.finish()
        served.close()
    parts.served |= models
    for served in models.values():
        served.thread.start()


def _change_sinks(parts: Assembly, sinks: Sequence[SinkThread] | None, given: int) -> None:
    """Change over to new sinks, or let the old ones open their files again."""
    before = parts.sinks.threads
    if sinks is None:
        for thread in before[given:]:
            thread.reopen()
        return
    for thread in sinks:
        thread.start()
    parts.sinks.replace([*before[:given], *sinks])
    parts.close_sinks(before[given:], hurry=True)


def _is_replaced(served: ServedModel, new: RunConfig) -> bool:
    """Whether the file of a model that stays has another content than when it was opened."""
    for use in new.bundles:
        if use == served.use:
            return Bundle.open(use.path).key != served.bundle.key
    return False
