"""One source through one engine, in the calling thread: a thread decodes while this one steps.

    source -> sampler -> [queue] -> geometry -> step -> task -> sink

swscale and the interpreters let go of Python's lock, so decoding and inference really overlap.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edgevid.runner.reader_thread import ReaderThread
from edgevid.runner.scheduler import Scheduler, SingleEngine
from edgevid.runner.stream_pipeline import Sink, StreamOptions, StreamPipeline

if TYPE_CHECKING:
    from edgevid.contract import Contract
    from edgevid.media.sources import Source
    from edgevid.runner.meters import Meters
    from edgevid.runner.stream import Steps


def run(
    source: Source,
    contract: Contract,
    engine: Steps,
    sinks: list[Sink],
    *,
    rate_fps: float | None,
    meters: Meters,
) -> None:
    """Answer every selected frame of ``source``, in order, and account for each; it is closed then.

    ``rate_fps`` ``None`` takes every frame. What is measured is added to ``meters``. Raises
    `BadVideo` where the source has no frames and `EngineFailed` where the engine fails.
    """
    pipeline = StreamPipeline(
        source.name,
        contract,
        sinks,
        StreamOptions(rate_fps),
        live=source.live is not False,
        meters=meters,
    )
    scheduler = Scheduler(SingleEngine(engine))
    camera = ReaderThread([(source, [(pipeline, scheduler)])], source.name, bool)
    scheduler.finish()
    began = time.perf_counter()
    camera.start()
    try:
        scheduler.serve()
    finally:
        meters.elapsed_s += time.perf_counter() - began
        camera.stop()
        camera.join()
    for error in camera.errors:
        raise error
