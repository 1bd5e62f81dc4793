"""``single``: one stream, closed loop: the next packet is read after the prediction is written.

All stages run one after another in one thread, so they add up, with ``rest``, to the wall time.
"""

from __future__ import annotations

from contextlib import closing
from time import perf_counter

from edgevid.bench.samples import Series
from edgevid.bench.scenarios import BoundedClip, Round, RoundOptions, ScenarioSetup, nowhere
from edgevid.runner.meters import STAGES, Meters, total
from edgevid.runner.stream_pipeline import StreamOptions, StreamPipeline

REST = "rest"


class SingleScenario:
    """The scenario ``single``."""

    paced = False
    on_video = True

    def __init__(self, setup: ScenarioSetup) -> None:
        self._setup = setup
        self._output = nowhere()

    def round(self, options: RoundOptions) -> Round:
        """Step every frame of the file, repeatedly."""
        samples = {name: Series() for name in ("latency", *STAGES, REST)}
        counters, elapsed_s = [], 0.0
        until_s = perf_counter() + options.seconds
        while (count := samples["latency"].count) < options.samples or perf_counter() < until_s:
            meters = Meters(capacity=1)  # the last frame's
            clip = BoundedClip(
                self._setup.video, self._setup.options, until_s, options.samples - count
            )
            with closing(clip) as source:
                meters.frames.arrivals.append(source.arrivals)
                elapsed_s += self._play(source, meters, samples)
            counters.append(meters.frames)
        return Round(elapsed_s, total(counters), samples)

    def _play(self, source: BoundedClip, meters: Meters, samples: dict[str, Series]) -> float:
        """Play the file once; returns the seconds that it took."""
        contract, engine = self._setup.bundle.contract, self._setup.engine
        pipeline = StreamPipeline(
            source.name, contract, self._output, StreamOptions(), live=False, meters=meters
        )
        stages = [(samples[stage].add, meters.stages[stage].seconds()) for stage in STAGES]
        latency, rest = samples["latency"].add, samples[REST].add
        frames = iter(source)
        began = asked = perf_counter()
        for captured in frames:
            if pipeline.wants(captured) and (pending := pipeline.prepare(captured)) is not None:
                pipeline.step(pending, engine, guarded=False, degraded=False)
            took = perf_counter() - asked
            left = took
            for add, last in stages:
                add(last[0])
                left -= last[0]
            latency(took)
            rest(left)
            asked = perf_counter()
        pipeline.close()
        return asked - began
