"""The loop of one stream: a thread decodes while this one scales, steps, reads and writes.

    source -> sampler -> [queue] -> geometry -> step -> task -> sink

swscale and the interpreters let go of Python's lock, so decoding and inference really overlap. The
queue is short: what waits in it is latency.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from edgevid import registry
from edgevid.errors import EdgevidError
from edgevid.media.geometry import Geometry
from edgevid.media.video import Captured, FileSource, Sampler
from edgevid.runner.meters import STAGES, Meters
from edgevid.runner.stream import Stream

if TYPE_CHECKING:
    from edgevid.contract import Contract
    from edgevid.runtimes import Engine

QUEUE_FRAMES = 3
POLL_S = 0.2  # how soon the reader notices that nobody wants its frames any more


class Sink(Protocol):
    """Where answers go."""

    def write(self, line: dict[str, Any]) -> None:
        """Take one answer."""


class Reader(threading.Thread):
    """Decodes a source into a short queue; the end, or the error that ended it, comes last."""

    def __init__(self, source: FileSource, rate_fps: float | None, meters: Meters) -> None:
        super().__init__(name=f"reader of {source.name}", daemon=True)
        self._source = source
        self._sampler = Sampler(rate_fps)
        self._meters = meters
        self._unwanted = threading.Event()
        self.queue: queue.Queue[Captured | BaseException | None] = queue.Queue(QUEUE_FRAMES)

    def run(self) -> None:
        """Read to the end; whatever ends it is handed over, never lost with the thread."""
        end: BaseException | None = None
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            end = error
        self._put(end)

    def _read(self) -> None:
        frames, decode = self._meters.frames, self._meters.stages["decode"]
        for captured in self._source:
            frames.captured += 1
            decode.add(captured.decode_s)
            if not self._sampler.take(captured.pts_s):
                frames.sampled_out += 1
            elif not self._put(captured):
                frames.dropped += 1
                return

    def _put(self, item: Captured | BaseException | None) -> bool:
        while not self._unwanted.is_set():
            try:
                self.queue.put(item, timeout=POLL_S)
            except queue.Full:
                continue
            return True
        return False

    def stop(self) -> None:
        """End the thread and wait for it, so that the source can be closed."""
        self._unwanted.set()
        self.join()


def run(
    source: FileSource,
    contract: Contract,
    engine: Engine,
    sinks: list[Sink],
    *,
    rate_fps: float | None,
    meters: Meters,
) -> None:
    """Answer every selected frame of ``source``, in order, and account for each.

    ``rate_fps`` ``None`` takes every frame. What is measured is added to ``meters``. Raises
    `BadVideo` where the source has no frames and `EngineFailed` where the engine fails.
    """
    task = registry.load("task", contract.task)(contract)
    loop = _Loop(contract, engine, task, source.name, sinks, meters)
    reader = Reader(source, rate_fps, meters)
    began = time.perf_counter()
    reader.start()
    try:
        while (item := reader.queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            loop.answer(item)
    finally:
        reader.stop()
        meters.elapsed_s += time.perf_counter() - began
        meters.truncated |= source.truncated


class _Loop:
    """What happens to one frame after it was decoded."""

    def __init__(
        self,
        contract: Contract,
        engine: Engine,
        task: Any,
        source_name: str,
        sinks: list[Sink],
        meters: Meters,
    ) -> None:
        self._geometry = Geometry(contract.frame)
        self._stream = Stream(contract)
        self._engine, self._task, self._sinks = engine, task, sinks
        self._source_name, self._meters = source_name, meters
        self._adds = [meters.stages[stage].add for stage in STAGES[1:]]

    def answer(self, captured: Captured) -> None:
        """Scale, step, read, write; a frame whose step fails is counted, then the error goes on."""
        clock, meters = time.perf_counter, self._meters
        began = clock()
        pixels = self._geometry.apply(captured.picture)
        scaled = clock()
        try:
            raw = self._stream.step(self._engine, pixels)
        except EdgevidError:
            meters.frames.failed += 1
            raise
        stepped = clock()
        line = {
            "source": self._source_name,
            "index": captured.index,
            "pts_s": round(captured.pts_s, 6),
            "warm": self._stream.warm,
            **self._task.read(raw),
        }
        read = clock()
        for sink in self._sinks:
            sink.write(line)
        ended = clock()
        meters.frames.answered += 1
        meters.latency.add(ended - captured.captured_s)
        if meters.first_answer_s is None:
            meters.first_answer_s = ended
        spent = (scaled - began, stepped - scaled, read - stepped, ended - read)
        for add, seconds in zip(self._adds, spent, strict=True):
            add(seconds)
