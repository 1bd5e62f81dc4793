"""The summary of a finished run."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevid.runner.meters import STAGES, Meters, mean_ms, percentiles_ms
from edgevid.runner.status_document import (
    EngineStatus,
    EventStatus,
    FrameCounts,
    SinkStatus,
    event_statuses,
)
from edgevid.system.process import first_answer_age_s, peak_rss_mb

if TYPE_CHECKING:
    from edgevid.runner.assembly import Assembly


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes:
        frames: What became of all frames.
        fps: Captured frames per second of the run.
        latency_ms: Percentiles of the time from the arrival of a frame to its result.
        stages_ms: Mean duration of each stage of processing.
        first_answer_s: Seconds from the start of the process to its first result.
        peak_rss_mb: Peak resident memory in MiB.
        truncated: Whether a file ended before the frames that it promises.
        engines: The engines of each model.
        sinks: What each sink wrote.
        events: The event stages of each stream.
    """

    frames: FrameCounts
    fps: float
    latency_ms: Mapping[str, float]
    stages_ms: Mapping[str, float]
    first_answer_s: float | None
    peak_rss_mb: float
    truncated: bool
    engines: tuple[EngineStatus, ...]
    sinks: tuple[SinkStatus, ...]
    events: tuple[EventStatus, ...]


def build(parts: Assembly, elapsed_s: float) -> RunSummary:
    """Summarise a run that lasted ``elapsed_s``."""
    meters = parts.meters()
    frames = FrameCounts.of([one.frames for one in meters])
    latencies = [second for one in meters for second in one.latency.seconds()]
    return RunSummary(
        frames=frames,
        fps=round(frames.captured / elapsed_s, 2) if elapsed_s else 0.0,
        latency_ms=percentiles_ms(latencies),
        stages_ms={stage: _mean_ms(meters, stage) for stage in STAGES},
        first_answer_s=first_answer_age_s(one.first_answer_s for one in meters),
        peak_rss_mb=round(peak_rss_mb(), 1),
        truncated=any(one.truncated for one in meters),
        engines=tuple(
            EngineStatus.of(served.failover.status(), name) for name, served in parts.served.items()
        ),
        sinks=tuple(map(SinkStatus.of, parts.sinks.threads)),
        events=tuple(one for _, pipeline, _ in parts.streams() for one in event_statuses(pipeline)),
    )


def _mean_ms(meters: Sequence[Meters], stage: str) -> float:
    seconds = array("d")
    for one in meters:
        seconds.extend(one.stages[stage].seconds())
    return mean_ms(seconds)
