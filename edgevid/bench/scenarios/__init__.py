"""How a job is loaded while it is measured; one file each, rows of kind ``scenario``.

A scenario lives in the process that measures, through all rounds of its job. A round gives raw
samples, each a duration in seconds; statistics are made of them elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from edgevid.bench.samples import Series, pack
from edgevid.media.sources import SourceOptions
from edgevid.media.video import FileSource
from edgevid.results import Frame
from edgevid.runner.stream_pipeline import DirectOutput
from edgevid.sinks.jsonl import encode

if TYPE_CHECKING:
    from edgevid.bundle import Bundle
    from edgevid.runner.meters import Meters
    from edgevid.runtimes import Engine


@dataclass(frozen=True)
class ScenarioSetup:
    """What a scenario measures: an engine that was proven, on a video file.

    ``rate_fps`` and ``latency_s`` are those of the scenarios that are paced like a camera.
    """

    bundle: Bundle
    artifact: str
    engine: Engine
    video: Path
    rate_fps: float
    latency_s: float
    options: SourceOptions
    """They keep the decoder from decoding frames side by side, which a camera's can't either."""


@dataclass(frozen=True)
class RoundOptions:
    """How long a round should be: at least so many seconds and so many samples."""

    seconds: float
    samples: int


@dataclass
class Round:
    """What one round gave; ``figures`` are what one of the scenarios adds."""

    elapsed_s: float
    frames: dict[str, int]
    samples: dict[str, Series]
    figures: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give plain data for JSON, the samples packed."""
        return {
            "elapsed_s": round(self.elapsed_s, 6),
            "frames": self.frames,
            **self.figures,
            "samples": {name: pack(series) for name, series in self.samples.items()},
        }


KEPT = 1 << 15
"""Samples of a round of the serving pipeline; of more than these the last ones are kept."""


def series_of(meters: Meters) -> dict[str, Series]:
    """What the serving pipeline measured of itself."""
    kept = {"latency": meters.latency, **meters.stages}
    return {name: Series.of(samples.seconds()) for name, samples in kept.items()}


def nowhere() -> DirectOutput:
    """An output that encodes results as the sink ``jsonl`` does and writes them to nowhere."""
    null = Path(os.devnull).open("w")  # noqa: SIM115 - closed with the process
    return DirectOutput(lambda result: null.write(encode(result.to_json())))


class Scenario(Protocol):
    """One way to load a job."""

    paced: bool
    """Whether it is paced like a camera, so that a rate and a bound of latency mean something."""
    on_video: bool
    """Whether it goes the whole way from encoded video to the answer."""

    def __init__(self, setup: ScenarioSetup) -> None:
        """Prepare; nothing is timed here."""

    def round(self, options: RoundOptions) -> Round:
        """Measure one round. Raises `EngineFailed` and `BadVideo`."""


class BoundedClip(FileSource):
    """A file that ends early, once its reader has seen enough; what was not shown is in flight."""

    def __init__(self, video: Path, options: SourceOptions, until_s: float, least: int) -> None:
        super().__init__(video, options=options)
        self._until_s, self._least = until_s, least

    def __iter__(self) -> Iterator[Frame]:
        for shown, captured in enumerate(super().__iter__(), 1):
            yield captured
            if shown >= self._least and perf_counter() >= self._until_s:
                return
