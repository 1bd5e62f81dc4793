"""The status of a service as a typed document; its schema is published as ``status``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from edgevid.documents import optional
from edgevid.runner.meters import FrameCounters, Meters, total
from edgevid.system.process import rss_mb

if TYPE_CHECKING:
    from edgevid.runner.assembly import Assembly
    from edgevid.runner.reader_thread import ReaderThread, Reading
    from edgevid.runner.sink_threads import SinkThread
    from edgevid.runner.stream_pipeline import StreamPipeline


@dataclass(frozen=True)
class FrameCounts:
    """How many frames there were, and what became of them.

    Always: captured = answered + sampled_out + gated + dropped + failed + in_flight.

    Attributes:
        captured: Frames whose packet arrived.
        answered: Frames with a result.
        sampled_out: Frames that the rate of steps leaves out.
        gated: Frames without a step because the scene was still.
        dropped: Frames of live streams that came faster than they could be stepped.
        failed: Frames that could not be decoded or stepped.
        in_flight: Frames that wait or are being processed.
    """

    captured: int
    answered: int
    sampled_out: int
    gated: int
    dropped: int
    failed: int
    in_flight: int

    @classmethod
    def of(cls, counters: Sequence[FrameCounters]) -> FrameCounts:
        """The sum of several counters."""
        return cls(**total(counters))


@dataclass(frozen=True)
class ServingEngine:
    """The engine that steps now.

    Attributes:
        artifact: Name of the artifact.
        runtime: Name of the runtime.
        accelerator: Name of the accelerator.
        precision: The arithmetic that it uses.
    """

    artifact: str
    runtime: str
    accelerator: str
    precision: str


@dataclass(frozen=True)
class CandidateEngine:
    """An engine that could serve.

    Attributes:
        artifact: Name of the artifact.
        runtime: Name of the runtime.
        accelerator: Name of the accelerator.
        state: ``serving``, ``standby``, ``proving``, ``failed`` or ``given up``.
        reason: Why it failed last; null if it never did.
        failures: How often it failed.
    """

    artifact: str
    runtime: str
    accelerator: str
    state: str
    reason: str | None
    failures: int


@dataclass(frozen=True)
class EngineStatus:
    """The engines of one model.

    Attributes:
        serving: The engine that steps now.
        degraded: Whether the CPU serves in place of an accelerator.
        reason: Why it is degraded; null if it is not.
        alarm: What needs attention; null if nothing does.
        places: All engines in the order of preference.
        failovers: How often the engine changed because of a failure.
        bundle: Name of the model; only in the summary of a run.
    """

    serving: ServingEngine
    degraded: bool
    reason: str | None
    alarm: str | None
    places: tuple[CandidateEngine, ...]
    failovers: int
    bundle: str | None = optional()

    @classmethod
    def of(cls, status: Mapping[str, Any], bundle: str | None = None) -> EngineStatus:
        """The status that `edgevid.runner.engine_failover.EngineFailover.status` returns."""
        return cls(
            ServingEngine(**status["serving"]),
            status["degraded"],
            status["reason"],
            status["alarm"],
            tuple(CandidateEngine(**place) for place in status["places"]),
            status["failovers"],
            bundle,
        )


@dataclass(frozen=True)
class BundleStatus:
    """One model.

    Attributes:
        name: Its name in the configuration.
        path: Its file.
        key: The hash of its content.
        engine: Its engines.
    """

    name: str
    path: str
    key: str
    engine: EngineStatus


@dataclass(frozen=True)
class StreamStatus:
    """One source through one model.

    Attributes:
        frames: What became of its frames.
        latency_ms: Percentiles of the time from the arrival of a frame to its result.
        gaps: How often missing frames reset the recurrent state.
        corrected: Results that were emitted again because an accelerator was faulty.
        bundle: Name of the model; absent if only one is served.
    """

    frames: FrameCounts
    latency_ms: Mapping[str, float]
    gaps: int
    corrected: int
    bundle: str | None = optional()


@dataclass(frozen=True)
class SourceStatus:
    """One source.

    Attributes:
        name: Its name, without user and password.
        state: ``connecting``, ``open``, ``waiting`` or ``ended``.
        reason: Why it has no images: a fixed code; null if it has.
        detail: The reason for people.
        reconnects: How often it was opened again.
        lanes: Its streams, one for each model.
        live: Whether it is live; null until it is open.
        size: Height and width of its images in pixels; null until they are known.
        since_s: Seconds since the state changed.
        rate_fps: Frames per second.
        codec: The codec of its video.
        decoder: What decodes it.
        damaged: Packets that could not be decoded.
        more: What else this kind of source reports.
    """

    name: str
    state: str
    reason: str | None
    detail: str
    reconnects: int
    lanes: tuple[StreamStatus, ...]
    live: bool | None = None
    size: tuple[int, ...] | None = None
    since_s: float | None = optional()
    rate_fps: float | None = optional()
    codec: str | None = optional()
    decoder: str | None = optional()
    damaged: int | None = optional()
    more: Mapping[str, Any] | None = optional()


@dataclass(frozen=True)
class CameraStatus:
    """One reader thread: a camera, or all files of a run.

    Attributes:
        name: Its name.
        cpu_s: CPU time of the thread in seconds.
        sources: What it reads.
    """

    name: str
    cpu_s: float
    sources: tuple[SourceStatus, ...]


@dataclass(frozen=True)
class SinkStatus:
    """One sink. Every result is written, failed, dropped or queued.

    Attributes:
        name: Its name.
        kind: The plug-in.
        written: Results that it has written.
        failed: Results that it could not write.
        dropped: Results of live streams that a full queue dropped.
        queued: Results that wait.
        error: Why the last result could not be written; null if it was.
    """

    name: str
    kind: str
    written: int
    failed: int
    dropped: int
    queued: int
    error: str | None

    @classmethod
    def of(cls, thread: SinkThread) -> SinkStatus:
        """The counters of a sink now."""
        return cls(
            thread.sink_name,
            thread.kind,
            thread.written,
            thread.failed,
            thread.dropped,
            thread.queued,
            thread.error,
        )


@dataclass(frozen=True)
class EventStatus:
    """One event stage of one stream.

    Attributes:
        name: Its name.
        kind: The plug-in.
        stream: Name of the source.
        open: Events that have begun and not ended.
        failures: How often it raised an exception.
        error: The last of these; null if there was none.
        bundle: Name of the model; absent if only one is served.
    """

    name: str
    kind: str
    stream: str
    open: int
    failures: int
    error: str | None
    bundle: str | None = optional()


@dataclass(frozen=True)
class ServiceStatus:
    """The state of a running service: ``status.json`` and ``status.sock``.

    Attributes:
        schema_version: The version of this document.
        state: ``starting``, ``serving``, ``stopping`` or ``stopped``.
        pid: Process ID.
        started_unix_s: Unix time of the start.
        now_unix_s: Unix time of this document.
        degraded: Whether a CPU serves in place of an accelerator anywhere.
        alarms: What needs attention, one line each.
        frames: What became of all frames.
        cameras: The reader threads.
        bundles: The models.
        sinks: The sinks.
        events: The event stages.
        reloads: How often a new configuration was applied.
        refused_configuration: Why the last new configuration was rejected; null if it was not.
        rss_mb: Resident memory of the main process in MiB.
        cpu_s: CPU time of the main process in seconds.
    """

    schema_version: Literal[1]
    state: str
    pid: int
    started_unix_s: float
    now_unix_s: float
    degraded: bool
    alarms: tuple[str, ...]
    frames: FrameCounts
    cameras: tuple[CameraStatus, ...]
    bundles: tuple[BundleStatus, ...]
    sinks: tuple[SinkStatus, ...]
    events: tuple[EventStatus, ...]
    reloads: int
    refused_configuration: str | None
    rss_mb: float
    cpu_s: float


# ---------------------------------------------------------------- from what runs


@dataclass(frozen=True)
class RunState:
    """What the service itself knows, in addition to its parts."""

    state: str
    started_unix_s: float
    reloads: int
    refused: str | None
    stuck: str | None
    board_trouble: str | None


def build(parts: Assembly, service: RunState) -> ServiceStatus:
    """The status of a service now."""
    engines = {
        name: EngineStatus.of(served.failover.status()) for name, served in parts.served.items()
    }
    return ServiceStatus(
        schema_version=1,
        state=service.state,
        pid=os.getpid(),
        started_unix_s=round(service.started_unix_s, 3),
        now_unix_s=round(time.time(), 3),
        degraded=any(engine.degraded for engine in engines.values()),
        alarms=tuple(_alarms(parts, engines, service)),
        frames=FrameCounts.of([meters.frames for meters in parts.meters()]),
        cameras=tuple(_camera(reader) for reader in parts.readers),
        bundles=tuple(
            BundleStatus(name, str(served.use.path), served.bundle.key, engines[name])
            for name, served in parts.served.items()
        ),
        sinks=tuple(map(SinkStatus.of, parts.sinks.threads)),
        events=tuple(one for _, pipeline, _ in parts.streams() for one in event_statuses(pipeline)),
        reloads=service.reloads,
        refused_configuration=service.refused,
        rss_mb=round(rss_mb(), 1),
        cpu_s=round(time.process_time(), 2),
    )


def _camera(reader: ReaderThread) -> CameraStatus:
    sources = tuple(map(_source, reader.readings))
    return CameraStatus(reader.name, round(reader.cpu_s, 2), sources)


_OWN = {one.name for one in fields(SourceStatus)} - {"name", "lanes", "live", "more"}


def _source(reading: Reading) -> SourceStatus:
    status = reading.source.status()
    known = {key: value for key, value in status.items() if key in _OWN}
    return SourceStatus(
        name=reading.pipelines[0][0].source,
        lanes=tuple(_stream(pipeline) for pipeline, _ in reading.pipelines),
        live=reading.source.live,
        more={key: value for key, value in status.items() if key not in _OWN} or None,
        **known,
    )


def _stream(pipeline: StreamPipeline) -> StreamStatus:
    meters: Meters = pipeline.meters
    return StreamStatus(
        FrameCounts.of([meters.frames]),
        meters.latency.percentiles_ms((50, 95, 99)),
        meters.resets,
        meters.corrected,
        pipeline.bundle,
    )


def event_statuses(pipeline: StreamPipeline) -> Iterator[EventStatus]:
    """The counters of each event stage of a stream now."""
    chain = pipeline.chain
    for one in chain.stages:
        is_open = sum(key.startswith(f"{one.name}:") for key in chain.state.open)
        failures, error = chain.failures[one.name], chain.errors.get(one.name)
        yield EventStatus(
            one.name, one.kind, pipeline.source, is_open, failures, error, pipeline.bundle
        )


def _alarms(
    parts: Assembly, engines: Mapping[str, EngineStatus], service: RunState
) -> Iterator[str]:
    yield from (f"{name}: {one.alarm}" for name, one in engines.items() if one.alarm)
    yield from (f"{reader.name}: {error}" for reader in parts.readers for error in reader.errors)
    for _, pipeline, scheduler in parts.streams():
        limit_s = pipeline.options.latency_s
        if limit_s is not None and scheduler.step_s >= limit_s:
            step_ms = round(1000 * scheduler.step_s)
            yield f"{pipeline.source}: a step takes {step_ms} ms, over its latency_ms"
        for name, error in pipeline.chain.errors.items():
            yield f"{pipeline.source}: event {name}: {error}"
    for thread in parts.sinks.threads:
        if thread.error:
            yield f"sink {thread.sink_name}: {thread.error}; {thread.failed} results failed"
    yield from (durable.error for _, durable in parts.durable if durable.error)
    if service.board_trouble:
        yield service.board_trouble
    if service.refused:
        yield f"new configuration rejected: {service.refused}"
    if service.stuck:
        yield f"no progress: {service.stuck}"
