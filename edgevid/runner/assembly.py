"""The running parts of a service: what a configuration names, opened and connected.

    ReaderThread      one per camera; decodes each frame once
        |  short queue
    StreamPipeline    one per camera and model
        |  frames in turn
    Scheduler         one thread per model: preprocess, gate, step, task, event stages
        |  Result
    SinkFanOut
        |  bounded queue
    SinkThread        one per sink

Reading, stepping and writing overlap: decoders, interpreters and files release Python's lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevid.bundle import Bundle
from edgevid.errors import BadInput
from edgevid.events.chain import EventChain, NamedStage
from edgevid.runner.config import CameraUse, RunConfig
from edgevid.runner.credentials import filled, login
from edgevid.runner.meters import Meters
from edgevid.runner.reader_thread import ReaderThread, Reading
from edgevid.runner.scheduler import Scheduler
from edgevid.runner.served_model import FINISH_S, ServedModel, may_skip_loop_filter, rate_fps
from edgevid.runner.sink_threads import SinkFanOut, SinkThread
from edgevid.runner.stream_pipeline import StreamOptions, StreamPipeline
from edgevid.sinks import open_sink

if TYPE_CHECKING:
    from edgevid.events.durable import DurableState
    from edgevid.media.sources import Source
    from edgevid.runner.config import BundleUse
    from edgevid.sinks import Sink

DRAIN_STALL_S = 30.0
"""A sink that writes nothing for so long at the end of a run is given up."""


@dataclass(frozen=True)
class GivenSink:
    """A sink that the caller opened; the run ends with its first error."""

    name: str
    kind: str
    sink: Sink


class Assembly:
    """Opens, connects and closes the parts of a service; decides nothing about frames."""

    def __init__(
        self, *, in_turn: bool, report: Callable[[str], None], wake: Callable[[], None]
    ) -> None:
        """Start with no parts.

        Args:
            in_turn: Read files one after another, as a list on the command line is meant.
            report: Gets one line for each change of state.
            wake: Called when a reader has ended or an essential sink has failed.
        """
        self.served: dict[str, ServedModel] = {}
        self.readers: list[ReaderThread] = []
        self.sinks = SinkFanOut()
        self.durable: list[tuple[StreamPipeline, DurableState]] = []
        self.ended: list[Meters] = []
        """Of streams that a new configuration ended; their frames stay in the counters."""
        self.in_turn, self.report, self._wake = in_turn, report, wake

    # -------------------------------------------------------------- opening

    def open_source(self, config: RunConfig, use: CameraUse) -> Source:
        """Open a camera's source; raises what `edgevid.media.sources.open_source` raises."""
        from edgevid.media.sources import SourceOptions, open_source

        rates = {
            rate_fps(bundle.rate, Bundle.open(bundle.path).contract)
            for bundle in config.bundles_of(use)
        }
        source, password = login(use)
        options = SourceOptions(
            rate_fps=rates.pop() if len(rates) == 1 else None,
            transport=use.transport,
            stall_s=use.stall_s,
            source_fps=use.source_fps,
            decoder=use.decoder,
            skip_loop_filter=use.skip_loop_filter or may_skip_loop_filter(config.bundles_of(use)),
            user=use.user,
            password=password,
            tls_ca=use.tls_ca,
            tls_insecure=use.tls == "insecure",
        )
        prefix = f"{use.name}: " if use.name else ""
        return open_source(source, options, lambda text: self.report(f"{prefix}{text}"))

    def open_sinks(self, config: RunConfig, given: Sequence[GivenSink] = ()) -> list[SinkThread]:
        """Open all sinks; none is opened if one raises. Their threads are not started."""
        threads = [
            SinkThread(one.name, one.kind, one.sink, is_essential=True, failed=self._wake)
            for one in given
        ]
        try:
            for use in config.all_sinks():
                sink = open_sink(use.kind, filled(use.options))
                threads.append(SinkThread(use.name, use.kind, sink, capacity=use.queue))
        except BaseException:
            for thread in threads[len(given) :]:
                thread.sink.close()
            raise
        return threads

    def readers_of(
        self, config: RunConfig, opened: Sequence[tuple[CameraUse, Source]]
    ) -> list[ReaderThread]:
        """A reader for each source; with ``in_turn`` one for all files. They are not started."""
        readings = [
            (use, Reading(source, self._pipelines(config, use, source))) for use, source in opened
        ]
        files = [one for _, one in readings if self.in_turn and one.source.live is False]
        readers = [
            ReaderThread([one], use.name or one.source.name, self._wake)
            for use, one in readings
            if one not in files
        ]
        return [*readers, ReaderThread(files, "files", self._wake)] if files else readers

    def _pipelines(
        self, config: RunConfig, use: CameraUse, source: Source
    ) -> list[tuple[StreamPipeline, Scheduler]]:
        pipelines = []
        name = use.name or source.name
        for bundle in config.bundles_of(use):
            served = self.served[bundle.name]
            chain = self._chain(config, use, bundle, self.served)
            pipeline = StreamPipeline(
                name,
                served.bundle.contract,
                self.sinks,
                StreamOptions(
                    rate_fps(bundle.rate, served.bundle.contract),
                    use.gate,
                    None if use.latency_ms is None else use.latency_ms / 1000,
                ),
                bundle=bundle.name if len(config.bundles) > 1 else None,
                events=chain,
            )
            if any(stage.durable for stage in chain.stages):
                self._make_durable(config, pipeline, f"{name} {bundle.name}")
            pipelines.append((pipeline, served.scheduler))
        return pipelines

    def check_events(self, config: RunConfig, served: Mapping[str, ServedModel]) -> None:
        """Open every event stage once.

        Args:
            config: The configuration that names them.
            served: Its models.

        Raises:
            BadInput: A stage cannot be opened, or is durable and there is no folder for its state.
        """
        for use in config.cameras:
            for bundle in config.bundles_of(use):
                self._chain(config, use, bundle, served)

    def _chain(
        self,
        config: RunConfig,
        use: CameraUse,
        bundle: BundleUse,
        served: Mapping[str, ServedModel],
    ) -> EventChain:
        events = config.events_of(use, bundle)
        if not events:
            return EventChain()
        from edgevid.events import open_stage

        contract = served[bundle.name].bundle.contract
        if config.state is None and any(one.durable for one in events):
            raise BadInput(
                "an event stage is durable, but there is no folder for its state; "
                'add to the configuration: state = "FOLDER"'
            )
        return EventChain(
            [
                NamedStage(
                    one.name, one.kind, open_stage(one.kind, one.options, contract), one.durable
                )
                for one in events
            ]
        )

    def _make_durable(self, config: RunConfig, pipeline: StreamPipeline, stream: str) -> None:
        from edgevid.events.durable import DurableState

        assert config.state is not None  # checked when the chain was opened
        durable = DurableState(config.state, stream, pipeline.chain, self.report)
        durable.load()
        pipeline.confirmed = pipeline.chain.state
        self.durable.append((pipeline, durable))

    # -------------------------------------------------------------- what runs

    def streams(self) -> Iterator[tuple[Source, StreamPipeline, Scheduler]]:
        """Every stream, with its source and its scheduler."""
        for reader in self.readers:
            for reading in reader.readings:
                for pipeline, scheduler in reading.pipelines:
                    yield reading.source, pipeline, scheduler

    def meters(self) -> list[Meters]:
        """The meters of all streams, ended ones included."""
        return [*self.ended, *(pipeline.meters for _, pipeline, _ in self.streams())]

    def error(self) -> BaseException | None:
        """What must end the run at once: the failure of an engine or of an essential sink."""
        for served in self.served.values():
            if served.scheduler.error is not None:
                return served.scheduler.error
        for thread in self.sinks.threads:
            if thread.fatal is not None:
                return thread.fatal
        return None

    def stuck(self, now: float) -> str | None:
        """The name of the first thread that promised progress before ``now`` and made none."""
        for served in self.served.values():
            if served.thread.is_alive() and now > served.scheduler.due_s:
                return served.thread.name
        return next((reader.name for reader in self.readers if now > reader.due_s), None)

    def save_events(self) -> None:
        """Write the durable state of event stages, as of the last confirmed steps."""
        for pipeline, durable in self.durable:
            durable.save(pipeline.confirmed)

    # -------------------------------------------------------------- closing

    def close_readers(self, readers: Sequence[ReaderThread]) -> None:
        """Stop reading, and wait for that, but not forever."""
        for reader in readers:
            reader.stop()
        until = time.monotonic() + FINISH_S
        for reader in readers:
            if reader.ident is not None:
                reader.join(max(0.0, until - time.monotonic()))

    def forget(self, readers: Sequence[ReaderThread]) -> None:
        """Keep the counters of closed readers, and save their event stages."""
        gone = [p for r in readers for one in r.readings for p, _ in one.pipelines]
        self.save_events()
        self.durable = [one for one in self.durable if one[0] not in gone]
        self.ended += [pipeline.meters for pipeline in gone]
        self.readers = [reader for reader in self.readers if reader not in readers]

    def close_sinks(self, threads: Sequence[SinkThread], *, hurry: bool) -> None:
        """Write what is queued and close the sinks.

        Args:
            threads: The sinks.
            hurry: Give up after a few seconds instead of waiting for as long as they make progress.
        """
        for thread in threads:
            thread.finish()
        for thread in threads:
            if thread.ident is not None and not thread.wait(
                FINISH_S if hurry else DRAIN_STALL_S, at_most_s=FINISH_S if hurry else None
            ):
                self.report(f"sink {thread.sink_name}: {thread.error}; results are lost")
