"""``offline``: throughput of the serving pipeline, one thread decoding while another steps."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

from edgevid.bench.playback import play
from edgevid.bench.scenarios import (
    KEPT,
    BoundedClip,
    Round,
    RoundOptions,
    ScenarioSetup,
    nowhere,
    series_of,
)
from edgevid.runner.meters import Meters


class OfflineScenario:
    """The scenario ``offline``."""

    paced = False
    on_video = True

    def __init__(self, setup: ScenarioSetup) -> None:
        self._setup = setup
        self._options = replace(setup.options, frame_threads=True)
        self._output = nowhere()

    def round(self, options: RoundOptions) -> Round:
        """Step every frame of the file, repeatedly; latency includes the wait in queues."""
        setup, meters = self._setup, Meters(KEPT)
        until_s = perf_counter() + options.seconds
        while (count := meters.latency.count) < options.samples or perf_counter() < until_s:
            clip = BoundedClip(setup.video, self._options, until_s, options.samples - count)
            contract, engine = setup.bundle.contract, setup.engine
            play(clip, contract, engine, self._output, rate_fps=None, meters=meters)
        fps = round(meters.frames.answered / meters.elapsed_s, 3)
        return Round(meters.elapsed_s, meters.frames.to_json(), series_of(meters), {"fps": fps})
