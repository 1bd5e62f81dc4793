"""The reading thread of a camera: decodes once, and hands each picture to every pipeline."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgevid.errors import EdgevidError

if TYPE_CHECKING:
    from edgevid.media.sources import Source
    from edgevid.runner.scheduler import Scheduler
    from edgevid.runner.stream_pipeline import StreamPipeline

    Feed = tuple[Source, Sequence[tuple[StreamPipeline, Scheduler]]]


class ReaderThread(threading.Thread):
    """Reads sources to their ends, one after another, each into pipelines of its own.

    A live camera is one source that never ends; the files of a run are read in turn. An error of a
    source is kept in ``errors`` and the next one is read; ``ended`` is called at the end.
    """

    def __init__(self, feeds: Sequence[Feed], name: str, ended: Callable[[], object]) -> None:
        super().__init__(name=name, daemon=True)
        self.feeds, self._ended = feeds, ended
        self.errors: list[BaseException] = []
        self._now: Source | None = None
        self._offering = False
        self._stopped = threading.Event()
        for source, pipelines in feeds:
            for pipeline, scheduler in pipelines:
                pipeline.meters.frames.arrivals.append(source.arrivals)
                scheduler.admit(pipeline)

    @property
    def due_s(self) -> float:
        """`time.monotonic` until which a sign of life is promised; endless while others work."""
        if self._offering or not self.is_alive() or self._now is None:
            return math.inf
        return self._now.due_s

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time that the thread has used; 0 once it has ended."""
        if self.ident is None or not self.is_alive():
            return 0.0
        try:
            return time.clock_gettime(time.pthread_getcpuclockid(self.ident))
        except OSError:  # it ended just now
            return 0.0

    def run(self) -> None:
        """Read everything; whatever ends a source is kept, never lost with the thread."""
        for source, pipelines in self.feeds:
            self._now = source
            try:
                if not self._stopped.is_set():
                    self._read(source, pipelines)
            except (EdgevidError, OSError) as error:
                self.errors.append(error)
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
                self.errors.append(error)
                self._stopped.set()
            finally:
                for pipeline, scheduler in pipelines:
                    pipeline.meters.truncated |= source.truncated
                    scheduler.end(pipeline)
                source.close()
        self._ended()

    def _read(self, source: Source, pipelines: Sequence[tuple[StreamPipeline, Scheduler]]) -> None:
        for captured in source:
            self._offering = True
            for pipeline, scheduler in pipelines:
                scheduler.offer(pipeline, captured)
            self._offering = False

    def stop(self) -> None:
        """End the source that is read now, and read no other."""
        self._stopped.set()
        for source, _ in self.feeds:
            source.stop()
