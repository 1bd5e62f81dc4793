"""A whole run: cameras and bundles together, from the first frame to the last line.

    camera (a thread)  --decodes once-->  pipelines  --in turn-->  scheduler of a bundle (a thread)

The main thread decides nothing about frames: it tells the status, feeds the watchdog while
everything makes progress, applies a new configuration, and ends things in order.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevid import targets
from edgevid.bundle import Bundle
from edgevid.errors import BadInput, EdgevidError
from edgevid.runner import notify, tuned
from edgevid.runner.config import BundleUse, CameraUse, RunConfig, changes, read_password
from edgevid.runner.engine_failover import EngineFailover
from edgevid.runner.engines import choices, preferring
from edgevid.runner.jsonl import Appending, JsonLines
from edgevid.runner.meters import STAGES, Meters, mean_ms, percentiles_ms, total
from edgevid.runner.reader_thread import ReaderThread
from edgevid.runner.scheduler import Scheduler
from edgevid.runner.status import StatusBoard
from edgevid.runner.stream_pipeline import StreamOptions, StreamPipeline
from edgevid.system.process import first_answer_age_s, peak_rss_mb, rss_mb

if TYPE_CHECKING:
    from edgevid.contract import Contract
    from edgevid.media.sources import Source

TICK_S = 1.0
GOODBYE_S = 5.0
"""How long an orderly end may take; what has not ended then hangs, and is left to the kernel."""
SLACK_S = 2.0


def rate_fps(wish: str | None, contract: Contract) -> float | None:
    """Steps a second from what was asked: the model's own rate, a number, or ``all`` (`None`)."""
    if wish is None:
        return contract.rate_fps
    if wish == "all":
        return None
    try:
        rate = float(wish)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        raise BadInput(f"--rate is {wish!r}; give all, or steps a second such as 12.5")
    return rate


@dataclass
class ServedModel:
    """One bundle that serves: who sits there, and the thread that steps."""

    use: BundleUse
    bundle: Bundle
    failover: EngineFailover
    scheduler: Scheduler
    thread: threading.Thread

    @classmethod
    def open(cls, use: BundleUse, *, live: bool, say: Callable[[str], None]) -> ServedModel:
        """Open a bundle and prove its engines; raises what `EngineFailover` raises."""
        bundle = Bundle.open(use.path)
        bundle.contract.require_video(str(use.path))
        rate_fps(use.rate, bundle.contract)
        wanted = choices(
            bundle,
            targets.load("local"),
            artifact=use.artifact,
            runtime=use.runtime,
            accelerator=use.accelerator,
        )
        best = tuned.wished(use, bundle)
        if best is not None:
            wanted = preferring(wanted, best.choice)
            say(f"{bundle.path.name}: as tuned: {best}; to undo: edgevid bench --tune --forget")
        threads = use.threads or (best.threads if best else None)
        failover = EngineFailover(bundle, wanted, threads=threads, say=say, wait=not live)
        tolerance = bundle.artifact(failover.choice.artifact).tolerance
        scheduler = Scheduler(failover, tolerance.get(failover.precision, 0.0))
        name = f"scheduler of {use.name}"
        thread = threading.Thread(target=scheduler.run, name=name, daemon=True)
        return cls(use, bundle, failover, scheduler, thread)

    def finish(self) -> None:
        """Answer what waits, and wait for that, but not for ever."""
        self.scheduler.finish()
        if self.thread.ident is not None:
            self.thread.join(GOODBYE_S)

    def close(self) -> None:
        """Let go of the engines; one that hangs is left alone."""
        if not self.thread.is_alive():
            self.failover.close()


def _may_skip(uses: Sequence[BundleUse]) -> bool:
    """Whether each of those who see a picture was found to answer as well without loop filter."""
    found = [tuned.wished(use, Bundle.open(use.path)) for use in uses]
    return bool(found) and all(one is not None and one.skip_loop_filter for one in found)


class Service:
    """Runs a configuration until its sources end, or until it is told to stop.

    ``sinks`` get every answer, beside the configuration's own output. ``in_turn`` reads files one
    after another, as a list on the command line is meant.
    """

    def __init__(
        self,
        config: RunConfig,
        sinks: Sequence[JsonLines] = (),
        *,
        in_turn: bool = False,
        say: Callable[[str], None],
    ) -> None:
        self._config, self._say, self._in_turn = config, say, in_turn
        self._sinks = list(sinks)
        self._output: Appending | None = None
        self._served: dict[str, ServedModel] = {}
        self._cameras: list[ReaderThread] = []
        self._ended: list[Meters] = []
        """Of cameras that a new configuration ended; their frames stay in the account."""
        self._board: StatusBoard | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._reread: Callable[[], RunConfig] | None = None
        self._state = "starting"
        self._began, self._began_unix_s = time.perf_counter(), time.time()
        self._reloads = 0
        self._refused: str | None = None
        self._elapsed_s = 0.0
        watchdog_s = notify.watchdog_s()
        self._tick_s = min(TICK_S, watchdog_s) if watchdog_s else TICK_S

    # -------------------------------------------------------------- what others may ask for

    @property
    def is_starting(self) -> bool:
        """Whether its engines are not proven yet, so that nothing can be lost."""
        return self._state == "starting"

    def stop(self) -> None:
        """End in order, soon; for signal handlers and other threads."""
        self._stopping = True
        self._wake.set()

    def reload(self, reread: Callable[[], RunConfig]) -> None:
        """Apply what ``reread`` gives, soon; if it raises, all stays as it is."""
        self._reread = reread
        self._wake.set()

    # -------------------------------------------------------------- the run

    def run(self) -> dict[str, Any]:
        """Serve, and give the summary.

        Raises what a file source or the last engine failed with, and at the start what
        `EngineFailover` raises; by then everything is closed.
        """
        try:
            self._start()
            while not self._is_over():
                self._wake.wait(self._tick_s)
                self._wake.clear()
                self._tick()
        finally:
            self._end()
        self._raise()
        return self._summary()

    def _start(self) -> None:
        config = self._config
        if config.output is not None:
            self._output = Appending(config.output)
            self._sinks.append(self._output)
        # Sources first: a misspelt name costs no wait.
        sources = [self._open_source(config, use) for use in config.cameras]
        live = any(source.live is not False for source in sources)
        try:
            if config.status is not None:
                self._board = StatusBoard(config.status, self.status)
            for use in config.bundles:
                self._served[use.name] = ServedModel.open(use, live=live, say=self._say)
            self._cameras = self._gather(list(zip(config.cameras, sources, strict=True)))
        except BaseException:
            for source in sources:
                source.close()
            raise
        self._began = time.perf_counter()
        for served in self._served.values():
            served.thread.start()
        for camera in self._cameras:
            camera.start()
        self._state = "serving"
        self._tick()
        notify.notify(notify.READY)

    def _open_source(self, config: RunConfig, use: CameraUse) -> Source:
        from edgevid.media.sources import SourceOptions, open_source

        rates = {
            rate_fps(bundle.rate, Bundle.open(bundle.path).contract)
            for bundle in config.bundles_of(use)
        }
        options = SourceOptions(
            rate_fps=rates.pop() if len(rates) == 1 else None,
            transport=use.transport,
            stall_s=use.stall_s,
            decoder=use.decoder,
            skip_loop_filter=use.skip_loop_filter or _may_skip(config.bundles_of(use)),
            user=use.user,
            password=read_password(use),
        )
        named = f"{use.name}: " if use.name else ""
        return open_source(use.source, options, lambda text: self._say(f"{named}{text}"))

    def _gather(self, opened: Sequence[tuple[CameraUse, Source]]) -> list[ReaderThread]:
        """A reading thread for each source; with ``in_turn`` one for all files."""
        feeds = [(use, source, self._pipelines(use, source)) for use, source in opened]
        files = [(s, pipelines) for _, s, pipelines in feeds if self._in_turn and s.live is False]
        cameras = [
            ReaderThread([(source, pipelines)], use.name or source.name, self._wake.set)
            for use, source, pipelines in feeds
            if source.live is not False or not self._in_turn
        ]
        return [*cameras, ReaderThread(files, "files", self._wake.set)] if files else cameras

    def _pipelines(self, use: CameraUse, source: Source) -> list[tuple[StreamPipeline, Scheduler]]:
        pipelines = []
        for bundle in self._config.bundles_of(use):
            served = self._served[bundle.name]
            wish = StreamOptions(
                rate_fps(bundle.rate, served.bundle.contract),
                use.gate,
                None if use.latency_ms is None else use.latency_ms / 1000,
            )
            pipeline = StreamPipeline(
                use.name or source.name,
                served.bundle.contract,
                self._sinks,
                wish,
                live=source.live is not False,
                bundle=bundle.name if len(self._config.bundles) > 1 else None,
            )
            pipelines.append((pipeline, served.scheduler))
        return pipelines

    def _is_over(self) -> bool:
        if self._stopping or any(served.scheduler.error for served in self._served.values()):
            return True
        return not any(camera.is_alive() for camera in self._cameras)

    def _tick(self) -> None:
        if self._reread is not None:
            reread, self._reread = self._reread, None
            self._reload(reread)
        self._tell()

    def _tell(self) -> None:
        """Say how it goes: to whoever reads the status, and to systemd."""
        if self._board is not None:
            self._board.write()
        if stuck := self.stuck():
            notify.notify(f"STATUS=no progress: {stuck}")
        else:
            notify.notify(f"{notify.WATCHDOG}\nSTATUS={self._in_a_line()}")

    def stuck(self) -> str | None:
        """Name the first thread that has not kept its own promise of progress."""
        now = time.monotonic() - SLACK_S
        for served in self._served.values():
            if served.thread.is_alive() and now > served.scheduler.due_s:
                return served.thread.name
        for camera in self._cameras:
            if now > camera.due_s:
                return camera.name
        return None

    def _end(self) -> None:
        """Stop reading, answer what waits, close; in this order, each only so long."""
        self._state = "stopping"
        notify.notify(notify.STOPPING)
        self._close_cameras(self._cameras)
        for served in self._served.values():
            served.finish()
        self._elapsed_s = time.perf_counter() - self._began
        for served in self._served.values():
            served.close()
        if self._board is not None:
            self._board.close()
        if self._output is not None:
            self._output.close()

    def _close_cameras(self, cameras: Sequence[ReaderThread]) -> None:
        for camera in cameras:
            camera.stop()
        until = time.monotonic() + GOODBYE_S
        for camera in cameras:
            camera.join(max(0.0, until - time.monotonic()))

    def _raise(self) -> None:
        """Raise what ended the run: an engine's failure before a source's."""
        for served in self._served.values():
            if served.scheduler.error is not None:
                raise served.scheduler.error
        for camera in self._cameras:
            for error in camera.errors:
                raise error

    # -------------------------------------------------------------- a new configuration

    def _reload(self, reread: Callable[[], RunConfig]) -> None:
        notify.notify(notify.RELOADING)
        try:
            self._apply(reread())
            self._reloads += 1
            self._refused = None
        except EdgevidError as error:
            self._refused = str(error)
            self._say(f"the new configuration is not used, the old one serves on: {error}")
        notify.notify(notify.READY)

    def _apply(self, new: RunConfig) -> None:
        """Go over to ``new``: what it needs is opened first, so that a fault changes nothing."""
        old = self._config
        replaced = [n for n, served in self._served.items() if _is_replaced(served, new)]
        diff = changes(old, new, replaced)
        uses = {use.name: use for use in new.bundles}
        cameras = {use.name: use for use in new.cameras}
        fresh_sources = {
            name: self._open_source(new, cameras[name])
            for name in (*diff.cameras.added, *diff.cameras.changed)
        }
        fresh: dict[str, ServedModel] = {}
        try:
            for name in (*diff.bundles.added, *diff.bundles.changed):
                fresh[name] = self._while_ticking(uses[name])
            self._move_output(new)
        except EdgevidError:
            for source in fresh_sources.values():
                source.close()
            for served in fresh.values():
                served.failover.close()
            raise
        gone = {*diff.cameras.removed, *diff.cameras.changed}
        ending = [camera for camera in self._cameras if camera.name in gone]
        self._close_cameras(ending)
        self._ended += [
            pipeline.meters for camera in ending for _, pipeline, _ in self._pipelines_of(camera)
        ]
        self._cameras = [camera for camera in self._cameras if camera not in ending]
        for name in (*diff.bundles.removed, *diff.bundles.changed):
            served = self._served.pop(name)
            served.finish()
            served.close()
        self._config = new
        self._served |= fresh
        for served in fresh.values():
            served.thread.start()
        started = self._gather([(cameras[name], source) for name, source in fresh_sources.items()])
        self._cameras += started
        for camera in started:
            camera.start()
        self._say(
            f"new configuration: {len(fresh)} bundles and {len(started)} cameras started, "
            f"{len(ending)} cameras ended, {len(diff.cameras.kept)} went on"
        )

    def _while_ticking(self, use: BundleUse) -> ServedModel:
        """Open a bundle in a thread, which may take a while, and go on telling of progress."""
        done: list[ServedModel | EdgevidError] = []

        def work() -> None:
            try:
                done.append(ServedModel.open(use, live=True, say=self._say))
            except EdgevidError as error:
                done.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(self._tick_s)
            self._tell()
        if not done:
            raise BadInput(f"{use.path}: could not be opened; see the log")
        if isinstance(done[0], EdgevidError):
            raise done[0]
        return done[0]

    def _move_output(self, new: RunConfig) -> None:
        """Open the output again: it may have another name, or have been moved away."""
        if new.output is None:
            return
        if self._output is None:
            self._output = Appending(new.output)
            self._sinks.append(self._output)
        else:
            self._output.reopen(new.output)

    # -------------------------------------------------------------- what is told

    def _pipelines_of(
        self, camera: ReaderThread
    ) -> Iterator[tuple[Source, StreamPipeline, Scheduler]]:
        for source, pipelines in camera.feeds:
            for pipeline, scheduler in pipelines:
                yield source, pipeline, scheduler

    def _all_meters(self) -> list[Meters]:
        now = [
            pipeline.meters
            for camera in self._cameras
            for _, pipeline, _ in self._pipelines_of(camera)
        ]
        return [*self._ended, *now]

    def status(self) -> dict[str, Any]:
        """Everything that is true now, as plain data for JSON."""
        engines = {name: served.failover.status() for name, served in self._served.items()}
        return {
            "state": self._state,
            "pid": os.getpid(),
            "started_unix_s": round(self._began_unix_s, 3),
            "now_unix_s": round(time.time(), 3),
            "degraded": any(engine["degraded"] for engine in engines.values()),
            "alarms": self._alarms(engines),
            "frames": total(meters.frames for meters in self._all_meters()),
            "cameras": [self._camera_status(camera) for camera in self._cameras],
            "bundles": [
                {
                    "name": name,
                    "path": str(served.use.path),
                    "key": served.bundle.key,
                    "engine": engines[name],
                }
                for name, served in self._served.items()
            ],
            "reloads": self._reloads,
            "refused_configuration": self._refused,
            "rss_mb": round(rss_mb(), 1),
            "cpu_s": round(time.process_time(), 2),
        }

    def _camera_status(self, camera: ReaderThread) -> dict[str, Any]:
        return {
            "name": camera.name,
            "cpu_s": round(camera.cpu_s, 2),
            "sources": [
                {
                    "name": pipelines[0][0].source,
                    **source.status(),
                    "lanes": [_pipeline_status(pipeline) for pipeline, _ in pipelines],
                }
                for source, pipelines in camera.feeds
            ],
        }

    def _alarms(self, engines: dict[str, dict[str, Any]]) -> list[str]:
        alarms = [f"{name}: {e['alarm']}" for name, e in engines.items() if e["alarm"]]
        alarms += [f"{camera.name}: {error}" for camera in self._cameras for error in camera.errors]
        for camera in self._cameras:
            for _, pipeline, scheduler in self._pipelines_of(camera):
                if (
                    pipeline.wish.latency_s is not None
                    and scheduler.step_s >= pipeline.wish.latency_s
                ):
                    step_ms = round(1000 * scheduler.step_s)
                    alarms.append(
                        f"{pipeline.source}: a step takes {step_ms} ms, over its latency_ms"
                    )
        alarms += [sink.trouble for sink in self._sinks if sink.trouble]
        if self._board is not None and self._board.trouble:
            alarms.append(self._board.trouble)
        if self._refused:
            alarms.append(f"the new configuration is not used: {self._refused}")
        if stuck := self.stuck():
            alarms.append(f"no progress: {stuck}")
        return alarms

    def _in_a_line(self) -> str:
        frames = total(meters.frames for meters in self._all_meters())
        degraded = any(served.failover.degraded for served in self._served.values())
        counts = ", ".join(f"{count} {name}" for name, count in frames.items() if count)
        return f"{'degraded, ' if degraded else ''}{counts}"

    def _summary(self) -> dict[str, Any]:
        meters = self._all_meters()
        latencies = [second for one in meters for second in one.latency.seconds()]
        frames = total(one.frames for one in meters)
        return {
            "frames": frames,
            "fps": round(frames["captured"] / self._elapsed_s, 2) if self._elapsed_s else 0.0,
            "latency_ms": percentiles_ms(latencies),
            "stages_ms": {stage: _mean_ms(meters, stage) for stage in STAGES},
            "first_answer_s": first_answer_age_s(one.first_answer_s for one in meters),
            "peak_rss_mb": round(peak_rss_mb(), 1),
            "truncated": any(one.truncated for one in meters),
            "engines": [
                {"bundle": name, **served.failover.status()}
                for name, served in self._served.items()
            ],
        }


def _pipeline_status(pipeline: StreamPipeline) -> dict[str, Any]:
    meters = pipeline.meters
    return {
        **({"bundle": pipeline.bundle} if pipeline.bundle else {}),
        "frames": meters.frames.to_json(),
        "latency_ms": meters.latency.percentiles_ms((50, 95, 99)),
        "gaps": meters.resets,
        "corrected": meters.corrected,
    }


def _mean_ms(meters: Sequence[Meters], stage: str) -> float:
    from array import array

    seconds = array("d")
    for one in meters:
        seconds.extend(one.stages[stage].seconds())
    return mean_ms(seconds)


def _is_replaced(served: ServedModel, new: RunConfig) -> bool:
    """Whether the file of a bundle that is kept has other content than what serves."""
    for use in new.bundles:
        if use == served.use:
            return Bundle.open(use.path).key != served.bundle.key
    return False
