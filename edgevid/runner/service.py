"""A whole run, from the first frame to the last result.

The main thread decides nothing about frames: it publishes the status, feeds the watchdog while
every thread makes progress, applies a new configuration, and ends everything in order. The threads
that do the work are in `edgevid.runner.assembly`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.errors import EdgevidError, EnvironmentFailed
from edgevid.runner import notify
from edgevid.runner.assembly import Assembly, GivenSink
from edgevid.runner.config import RunConfig
from edgevid.runner.meters import total
from edgevid.runner.served_model import ServedModel

if TYPE_CHECKING:
    from edgevid.media.sources import Source
    from edgevid.runner.status import StatusBoard
    from edgevid.runner.status_document import ServiceStatus
    from edgevid.runner.summary import RunSummary

TICK_S = 1.0
SLACK_S = 2.0


class Service:
    """Runs a configuration until its sources end or `stop` is called."""

    def __init__(
        self,
        config: RunConfig,
        sinks: Sequence[GivenSink] = (),
        *,
        in_turn: bool = False,
        report: Callable[[str], None],
    ) -> None:
        """Prepare a run; nothing is opened yet.

        Args:
            config: What to run.
            sinks: Sinks that get every result, in addition to the configuration's.
            in_turn: Read files one after another, as a list on the command line is meant.
            report: Gets one line for each change of state.
        """
        self._config, self._given, self._report = config, tuple(sinks), report
        self._wake = threading.Event()
        self.parts = Assembly(in_turn=in_turn, report=report, wake=self._wake.set)
        self._sources: list[Source] = []
        self._board: StatusBoard | None = None
        self._stopping = False
        self._reread: Callable[[], RunConfig] | None = None
        self._state = "starting"
        self._began, self._began_unix_s = time.perf_counter(), time.time()
        self._reloads = 0
        self._refused: str | None = None
        self._elapsed_s = 0.0
        watchdog_s = notify.watchdog_s()
        self._tick_s = min(TICK_S, watchdog_s) if watchdog_s else TICK_S

    def open_sources(self) -> bool:
        """Open the sources now; `run` does it otherwise.

        Returns:
            Whether one of them may be live. With ``in_turn`` that is decided for each that can be
            opened.

        Raises:
            BadInput: A source or a model cannot be opened.
        """
        try:
            for use in self._config.cameras:
                source = self.parts.open_source(self._config, use)
                self._sources.append(source)
                if self.parts.in_turn and (decide := getattr(source, "decide", None)):
                    decide()
        except BaseException:
            self.close_sources()
            raise
        return self._may_be_live()

    def _may_be_live(self) -> bool:
        return any(source.live is not False for source in self._sources)

    def close_sources(self) -> None:
        """Close what `open_sources` opened, if it is not read."""
        for source in self._sources:
            source.close()
        self._sources = []

    def write_to(self, output: Path | None, sinks: Sequence[GivenSink]) -> None:
        """Set where results go, before `run`.

        Args:
            output: A file that results are appended to.
            sinks: Sinks that get every result, in addition to the configuration's.
        """
        self._config = replace(self._config, output=output)
        self._given = tuple(sinks)

    @property
    def is_starting(self) -> bool:
        """Whether the engines are not proven yet, so that nothing can be lost."""
        return self._state == "starting"

    def stop(self) -> None:
        """End in order, soon; for signal handlers and other threads."""
        self._stopping = True
        self._wake.set()

    def reload(self, reread: Callable[[], RunConfig]) -> None:
        """Apply a new configuration, soon; if ``reread`` raises, everything stays as it is."""
        self._reread = reread
        self._wake.set()

    # -------------------------------------------------------------- the run

    def run(self) -> RunSummary:
        """Run to the end. By then everything is closed, also if it raises.

        Returns:
            The summary.

        Raises:
            EdgevidError: A file cannot be read, no engine is left, or nothing could be started.
            EnvironmentFailed: A sink that was given as an argument failed.
            BrokenPipeError: Nobody reads what such a sink writes.
        """
        try:
            self._start()
            while not self._is_over():
                self._wake.wait(self._tick_s)
                self._wake.clear()
                self._tick()
        except BaseException:
            self._stopping = True  # nobody waits for a slow sink after Ctrl-C
            raise
        finally:
            self._end()
        self._raise()
        from edgevid.runner import summary

        return summary.build(self.parts, self._elapsed_s)

    def _start(self) -> None:
        config, parts = self._config, self.parts
        parts.sinks.replace(parts.open_sinks(config, self._given))
        # Sources before engines: a misspelt name costs no wait.
        may_be_live = self.open_sources() if not self._sources else self._may_be_live()
        try:
            if config.status is not None:
                from edgevid.runner.status import StatusBoard

                self._board = StatusBoard(config.status, self._status_json)
            for bundle in config.bundles:
                parts.served[bundle.name] = ServedModel.open(
                    bundle, live=may_be_live, report=self._report
                )
            parts.readers = parts.readers_of(
                config, list(zip(config.cameras, self._sources, strict=True))
            )
        except BaseException:
            self.close_sources()
            raise
        self._began = time.perf_counter()
        for thread in parts.sinks.threads:
            thread.start()
        for served in parts.served.values():
            served.thread.start()
        for reader in parts.readers:
            reader.start()
        self._state = "serving"
        self._tick()
        notify.notify(notify.READY)

    def _is_over(self) -> bool:
        if self._stopping or self.parts.error() is not None:
            return True
        return not any(reader.is_alive() for reader in self.parts.readers)

    def _tick(self) -> None:
        if self._reread is not None:
            reread, self._reread = self._reread, None
            self._reload(reread)
        self.parts.save_events()
        self._publish()

    def _publish(self) -> None:
        """Publish the status, and tell systemd that everything makes progress."""
        if self._board is not None:
            self._board.write()
        if stuck := self._stuck():
            notify.notify(f"STATUS=no progress: {stuck}")
        else:
            notify.notify(f"{notify.WATCHDOG}\nSTATUS={self._line()}")

    def _stuck(self) -> str | None:
        return self.parts.stuck(time.monotonic() - SLACK_S)

    def _line(self) -> str:
        frames = total(meters.frames for meters in self.parts.meters())
        degraded = any(served.failover.degraded for served in self.parts.served.values())
        counts = ", ".join(f"{count} {name}" for name, count in frames.items() if count)
        return f"{'degraded, ' if degraded else ''}{counts}"

    def _end(self) -> None:
        """Stop reading, step what waits, write what is queued, close; each only so long."""
        self._state = "stopping"
        notify.notify(notify.STOPPING)
        parts = self.parts
        hurry = self._stopping or parts.error() is not None
        parts.close_readers(parts.readers)
        for served in parts.served.values():
            served.finish()
        parts.save_events()
        parts.close_sinks(parts.sinks.threads, hurry=hurry)
        self._elapsed_s = time.perf_counter() - self._began
        for served in parts.served.values():
            served.close()
        if self._board is not None:
            self._board.close()

    def _raise(self) -> None:
        """Raise what ended the run: an engine's or a sink's failure before a source's."""
        if (error := self.parts.error()) is not None:
            if isinstance(error, OSError) and not isinstance(
                error, (BrokenPipeError, EdgevidError)
            ):
                raise EnvironmentFailed(
                    f"results cannot be written: {error.strerror}; free some space or name "
                    "another output"
                ) from error
            raise error
        for reader in self.parts.readers:
            for error in reader.errors:
                raise error

    def _reload(self, reread: Callable[[], RunConfig]) -> None:
        from edgevid.runner.reload import apply

        notify.notify(notify.RELOADING)
        try:
            new = reread()
            done = apply(self.parts, self._config, new, self._given, self._while_waiting)
            self._config = new
            self._report(done)
            self._reloads += 1
            self._refused = None
        except EdgevidError as error:
            self._refused = str(error)
            self._report(f"new configuration rejected, the old one stays in use: {error}")
        notify.notify(notify.READY)

    def _while_waiting(self, thread: threading.Thread) -> None:
        """Wait for a thread that may take a while, and keep reporting progress."""
        while thread.is_alive():
            thread.join(self._tick_s)
            self._publish()

    def _status_json(self) -> dict[str, Any]:
        from edgevid.documents import to_json

        document: dict[str, Any] = to_json(self.status())
        return document

    def status(self) -> ServiceStatus:
        """The state of the service now."""
        from edgevid.runner import status_document

        return status_document.build(
            self.parts,
            status_document.RunState(
                self._state,
                self._began_unix_s,
                self._reloads,
                self._refused,
                self._stuck(),
                self._board.trouble if self._board else None,
            ),
        )
