"""One source through one engine; this thread steps while another decodes.

The reader, the pipeline and the scheduler are those of ``edgevid run``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edgevid.runner.reader_thread import ReaderThread, Reading
from edgevid.runner.scheduler import Scheduler, SingleEngine
from edgevid.runner.stream_pipeline import ResultOutput, StreamOptions, StreamPipeline

if TYPE_CHECKING:
    from edgevid.contract import Contract
    from edgevid.media.sources import Source
    from edgevid.runner.meters import Meters
    from edgevid.runner.stream import Steps


def play(
    source: Source,
    contract: Contract,
    engine: Steps,
    output: ResultOutput,
    *,
    rate_fps: float | None,
    meters: Meters,
) -> None:
    """Step every selected frame of a source, in order; the source is closed at the end.

    Args:
        source: Where frames come from.
        contract: The model's contract.
        engine: What takes the steps.
        output: Where results go.
        rate_fps: Steps per second; None steps every frame.
        meters: What is measured is added to these.

    Raises:
        BadVideo: The source has no frames.
        EngineFailed: A step failed.
    """
    pipeline = StreamPipeline(source.name, contract, output, StreamOptions(rate_fps), meters=meters)
    scheduler = Scheduler(SingleEngine(engine))
    reader = ReaderThread([Reading(source, [(pipeline, scheduler)])], source.name)
    scheduler.finish()
    began = time.perf_counter()
    reader.start()
    try:
        scheduler.serve()
    finally:
        meters.elapsed_s += time.perf_counter() - began
        reader.stop()
        reader.join()
    for error in reader.errors:
        raise error
