"""Reader threads: each decodes its sources once and offers every frame to all their pipelines."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevid.errors import EdgevidError

if TYPE_CHECKING:
    from edgevid.media.sources import Source
    from edgevid.runner.scheduler import Scheduler
    from edgevid.runner.stream_pipeline import StreamPipeline


@dataclass(frozen=True)
class Reading:
    """One source, and each pipeline that gets its frames with the pipeline's scheduler."""

    source: Source
    pipelines: Sequence[tuple[StreamPipeline, Scheduler]]


class ReaderThread(threading.Thread):
    """Reads sources to their ends, one after another.

    A live source never ends, so it has a thread of its own; files are read in turn. An error of a
    source is kept in ``errors`` and the next one is read.
    """

    def __init__(
        self, readings: Sequence[Reading], name: str, ended: Callable[[], object] = bool
    ) -> None:
        """Prepare the thread, and announce its pipelines to their schedulers.

        Args:
            readings: The sources in order, each with its pipelines.
            name: Name of the thread, shown in the status.
            ended: Called once everything is read.
        """
        super().__init__(name=name, daemon=True)
        self.readings, self._ended = readings, ended
        self.errors: list[BaseException] = []
        self._now: Source | None = None
        self._offering = False
        self._stopped = threading.Event()
        for reading in readings:
            for pipeline, scheduler in reading.pipelines:
                pipeline.meters.frames.arrivals.append(reading.source.arrivals)
                scheduler.admit(pipeline)

    @property
    def due_s(self) -> float:
        """`time.monotonic` until which progress is promised; infinite while it waits for others."""
        if self._offering or not self.is_alive() or self._now is None:
            return math.inf
        return self._now.due_s

    @property
    def cpu_s(self) -> float:
        """CPU time of the thread in seconds; 0 once it has ended."""
        if self.ident is None or not self.is_alive():
            return 0.0
        try:
            return time.clock_gettime(time.pthread_getcpuclockid(self.ident))
        except OSError:  # it ended just now
            return 0.0

    def run(self) -> None:
        """Read everything; whatever ends a source is kept, never lost with the thread."""
        for reading in self.readings:
            source = self._now = reading.source
            try:
                if not self._stopped.is_set():
                    self._read(reading)
            except (EdgevidError, OSError) as error:
                self.errors.append(error)
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
                self.errors.append(error)
                self._stopped.set()
            finally:
                for pipeline, scheduler in reading.pipelines:
                    pipeline.meters.truncated |= source.truncated
                    scheduler.end(pipeline)
                source.close()
        self._ended()

    def _read(self, reading: Reading) -> None:
        begun = False
        for frame in reading.source:
            if not begun:
                begun = True
                for pipeline, _ in reading.pipelines:
                    pipeline.begin(live=reading.source.live is not False)
            self._offering = True
            for pipeline, scheduler in reading.pipelines:
                scheduler.offer(pipeline, frame)
            self._offering = False

    def stop(self) -> None:
        """End the source that is read now, and read no other."""
        self._stopped.set()
        for reading in self.readings:
            reading.source.stop()
