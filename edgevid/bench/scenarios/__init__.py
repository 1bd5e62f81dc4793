"""Scenarios: ways to load an engine. One file each, registry kind ``scenario``.

A scenario lives in the measuring process through all rounds of its job. A round yields raw samples,
each a duration in seconds; `edgevid.bench.figures` computes statistics from them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from edgevid.bench.result import RoundResult
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
    """What a scenario measures: a verified engine, on a video file.

    Attributes:
        rate_fps: Frame rate of the paced scenarios.
        latency_s: Latency bound of the paced scenarios.
        options: How to decode; frames are not decoded in parallel, as a camera's cannot be either.
    """

    bundle: Bundle
    artifact: str
    engine: Engine
    video: Path
    rate_fps: float
    latency_s: float
    options: SourceOptions


@dataclass(frozen=True)
class RoundOptions:
    """The least duration and the least number of samples of a round."""

    seconds: float
    samples: int


@dataclass
class Round:
    """The raw samples of one round; ``figures`` are fields that one scenario adds."""

    elapsed_s: float
    frames: dict[str, int]
    samples: dict[str, Series]
    figures: dict[str, Any] = field(default_factory=dict)

    def result(self, started_unix_s: float) -> RoundResult:
        """Return the round as a part of the bench result, with packed samples."""
        return RoundResult(
            started_unix_s=round(started_unix_s, 3),
            elapsed_s=round(self.elapsed_s, 6),
            frames=self.frames,
            samples={name: pack(series) for name, series in self.samples.items()},
            **self.figures,
        )


KEPT = 1 << 15
"""The most samples of a round of the serving pipeline; the last ones are kept."""


def series_of(meters: Meters) -> dict[str, Series]:
    """Return the durations that the serving pipeline measured."""
    kept = {"latency": meters.latency, **meters.stages}
    return {name: Series.of(samples.seconds()) for name, samples in kept.items()}


def nowhere() -> DirectOutput:
    """An output that encodes results as the sink ``jsonl`` does and writes them to nowhere."""
    null = Path(os.devnull).open("w")  # noqa: SIM115 - closed with the process
    return DirectOutput(lambda result: null.write(encode(result.to_json())))


class Scenario(Protocol):
    """One way to load an engine."""

    paced: bool
    """Whether frames arrive at a camera's rate, so that a rate and a latency bound apply."""
    on_video: bool
    """Whether it includes everything from encoded video to the prediction."""

    def __init__(self, setup: ScenarioSetup) -> None:
        """Prepare the scenario; nothing is timed here."""

    def round(self, options: RoundOptions) -> Round:
        """Measure one round.

        Raises:
            EngineFailed: If a step fails.
            BadVideo: If the video cannot be decoded.
        """


class BoundedClip(FileSource):
    """A file that ends early, once enough frames were read; frames in the decoder are in flight."""

    def __init__(self, video: Path, options: SourceOptions, until_s: float, least: int) -> None:
        super().__init__(video, options=options)
        self._until_s, self._least = until_s, least

    def __iter__(self) -> Iterator[Frame]:
        for shown, captured in enumerate(super().__iter__(), 1):
            yield captured
            if shown >= self._least and perf_counter() >= self._until_s:
                return
