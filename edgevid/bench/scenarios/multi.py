"""``multi``: how many cameras one engine serves at their rate, within a latency bound."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from edgevid.bench.samples import Series
from edgevid.bench.scenarios import Round, RoundOptions, ScenarioSetup, nowhere
from edgevid.bench.scenarios import paced as one
from edgevid.runner.meters import Meters, total
from edgevid.runner.reader_thread import ReaderThread, Reading
from edgevid.runner.scheduler import Scheduler, SingleEngine
from edgevid.runner.stream_pipeline import ResultOutput, StreamOptions, StreamPipeline

MOST = 256
HELD = 0.99
"""The share of frames that must be answered within the bound."""


class MultiScenario:
    """The scenario ``multi``: doubling, then bisection, from the result of the round before."""

    paced = on_video = True

    def __init__(self, setup: ScenarioSetup) -> None:
        self.setup = setup
        self._found = 0
        self.output = nowhere()

    def round(self, options: RoundOptions) -> Round:
        """Find the largest number of streams that keep the bound; 0 if not even one does."""
        self._tried: dict[int, Trial] = {}
        self._options = options
        began = perf_counter()
        self._found = search(self._holds, max(1, self._found), MOST)
        last = self._tried.get(self._found) or self._tried[min(self._tried)]
        samples = {"latency": Series.of(last.latencies)}
        tried = {str(count): round(trial.share, 4) for count, trial in sorted(self._tried.items())}
        figures = {"streams": self._found, "tried": tried}
        return Round(perf_counter() - began, last.frames, samples, figures)

    def _holds(self, count: int) -> bool:
        if count not in self._tried:
            self._tried[count] = Trial(self.setup, self._options, count, self.output)
        return self._tried[count].share >= HELD


def search(holds: Callable[[int], bool], start: int, most: int) -> int:
    """Return the largest count for which ``holds`` is true; 0 if it is false for 1.

    From ``start`` the search moves up or down in steps that double, then bisects.

    Args:
        holds: True up to some count, false beyond it.
        start: Where to begin.
        most: The largest count.
    """
    low, high, at, stride = 0, most + 1, start, 1
    while low < at < high and not (low and high <= most):
        if holds(at):
            low, at = at, min(most, at + stride)
        else:
            high, at = at, max(1, at - stride)
        stride *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


class Trial:
    """A number of cameras at once, each with a decoding thread, on one engine."""

    def __init__(
        self, setup: ScenarioSetup, options: RoundOptions, count: int, output: ResultOutput
    ) -> None:
        frames = max(-(-options.samples // count), round(options.seconds * setup.rate_fps), 1)
        scheduler = Scheduler(SingleEngine(setup.engine))
        meters, cameras = [Meters(frames) for _ in range(count)], []
        for number, meter in enumerate(meters):
            offset_s = number / count / setup.rate_fps
            source = one.PacedSource(setup.video, setup.options, setup.rate_fps, frames, offset_s)
            name = f"camera {number}"
            pipeline = StreamPipeline(
                name, setup.bundle.contract, output, StreamOptions(), live=True, meters=meter
            )
            cameras.append(ReaderThread([Reading(source, [(pipeline, scheduler)])], name))
        scheduler.finish()
        for camera in cameras:
            camera.start()
        try:
            scheduler.serve()
        finally:
            for camera in cameras:
                camera.stop()
            for camera in cameras:
                camera.join()
        for camera in cameras:
            for error in camera.errors:
                raise error
        self.latencies = [one_s for meter in meters for one_s in meter.latency.seconds()]
        self.frames = total(meter.frames for meter in meters)
        in_time = sum(latency <= setup.latency_s for latency in self.latencies)
        self.share = in_time / (count * frames)
