"""The scheduler of one model: takes frames from its pipelines in turn and steps them.

One frame per pipeline and turn, so a stream that is ten times busier than the others waits and they
do not. When an accelerator fails or is found faulty, the state of every stream goes back to the
last confirmed step; the steps since then are rerun on the engine that replaces it, and then the
frame that failed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from edgevid.errors import EngineFailed

if TYPE_CHECKING:
    from edgevid.contract import Inputs, Tensors
    from edgevid.results import Frame
    from edgevid.runner.stream import Steps
    from edgevid.runner.stream_pipeline import PendingFrame, StreamPipeline

IDLE_S = 0.1
"""How long to wait for a frame before the engine is checked."""
FULL_S = 0.005
"""How long to wait for a sink with a full queue before it is asked again."""
STALL_S = 5.0
"""A step or a change of engines that takes longer counts as stuck."""
TREND = 0.1


class Failover(Protocol):
    """The engine of one model, with its replacements; see `EngineFailover`."""

    @property
    def guarded(self) -> bool:
        """Whether its steps may turn out wrong later."""

    @property
    def degraded(self) -> bool:
        """Whether a preferred accelerator is out of service."""

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """Take a step; see `edgevid.runtimes.Engine.step`."""

    def lost(self, error: EngineFailed) -> None:
        """Change to the next engine; raises ``error`` if there is none."""

    def check(self, *, idle: bool = False) -> bool | None:
        """Check past steps if a check is due: True if right, False if wrong, None if not due."""


class SingleEngine:
    """One trusted engine without a replacement."""

    guarded = degraded = False

    def __init__(self, engine: Steps) -> None:
        self.step = engine.step

    def lost(self, error: EngineFailed) -> None:
        """Raise ``error``.

        Raises:
            EngineFailed: Always.
        """
        raise error

    def check(self, *, idle: bool = False) -> None:
        """Nothing is ever due."""


class Scheduler:
    """Steps the frames of many pipelines on one engine; reader threads call `offer` and `end`."""

    def __init__(self, failover: Failover, tolerance: float = 0.0) -> None:
        """Prepare a scheduler without pipelines.

        Args:
            failover: What steps.
            tolerance: Largest difference of an output that is not corrected.
        """
        self.failover = failover
        self.error: BaseException | None = None
        self.due_s = time.monotonic() + STALL_S
        self._tolerance = tolerance
        self._lock = threading.Lock()
        self._work, self._room = threading.Condition(self._lock), threading.Condition(self._lock)
        self._pipelines: set[StreamPipeline] = set()
        self._ready: deque[StreamPipeline] = deque()
        self._finishing = False
        self.step_s = 0.0
        """Duration of a step in seconds, a running mean."""

    def admit(self, pipeline: StreamPipeline) -> None:
        """Expect frames of one more pipeline."""
        with self._lock:
            self._pipelines.add(pipeline)

    def finish(self) -> None:
        """Return from `serve` once every pipeline has ended and no frame waits."""
        with self._lock:
            self._finishing = True
            self._work.notify()

    def offer(self, pipeline: StreamPipeline, frame: Frame) -> None:
        """Queue a frame. If the queue is full, a live stream drops its oldest, a finite one waits.

        Args:
            pipeline: The frame's pipeline, which has begun.
            frame: The frame.
        """
        if not pipeline.wants(frame):
            return
        with self._lock:
            if pipeline.live and len(pipeline.waiting) >= pipeline.capacity:
                pipeline.waiting.popleft()
                pipeline.meters.frames.dropped += 1
            while len(pipeline.waiting) >= pipeline.capacity and not pipeline.ended:
                self._room.wait()
            if pipeline.ended:  # the scheduler is gone
                pipeline.meters.frames.dropped += 1
                return
            pipeline.waiting.append(frame)
            if len(pipeline.waiting) == 1:
                self._ready.append(pipeline)
                self._work.notify()

    def end(self, pipeline: StreamPipeline) -> None:
        """No more frames will come; those that wait are still stepped."""
        with self._lock:
            pipeline.ended = True
            self._room.notify_all()
            self._work.notify()

    def serve(self) -> None:
        """Step frames until `finish`.

        Raises:
            EngineFailed: The last engine failed.
        """
        try:
            while (turn := self._next()) is not None:
                pipeline, frame = turn
                if frame is not None:
                    self._answer(pipeline, frame)
                self._settle(self.failover.check(idle=frame is None))
        except BaseException as error:
            self.error = error
            raise
        finally:
            self._abandon()

    def run(self) -> None:
        """Call `serve` in a thread; what ends it is kept in ``error``."""
        try:
            self.serve()
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self.error = error

    def _next(self) -> tuple[Any, Frame | None] | None:
        """Return the next pipeline and its next frame, (None, None) when idle, None at the end."""
        with self._lock:
            self.due_s = time.monotonic() + STALL_S
            self._release_ended()
            if not self._ready and not self._is_over():
                self._work.wait(IDLE_S)
                self.due_s = time.monotonic() + STALL_S
                self._release_ended()
            for _ in range(len(self._ready)):
                pipeline = self._ready.popleft()
                if not pipeline.live and not pipeline.output.has_room():
                    self._ready.append(pipeline)
                    continue
                frame = pipeline.waiting.popleft()
                if pipeline.waiting:
                    self._ready.append(pipeline)
                if not pipeline.live:
                    self._room.notify_all()
                return pipeline, frame
            if self._ready:  # finite streams only, which wait for a sink
                self._work.wait(FULL_S)
            return None if self._is_over() else (None, None)

    def _release_ended(self) -> None:
        """Close the pipelines that have ended and whose steps are all confirmed."""
        for pipeline in [one for one in self._pipelines if one.ended and not one.is_pending]:
            pipeline.close()
            self._pipelines.remove(pipeline)

    def _is_over(self) -> bool:
        return self._finishing and not self._pipelines

    def _answer(self, pipeline: StreamPipeline, frame: Frame) -> None:
        if pipeline.is_late(frame, self.step_s):
            with self._lock:
                pipeline.meters.frames.dropped += 1
            return
        pending = pipeline.prepare(frame)
        if pending is None:
            return
        began = time.perf_counter()
        while not self._stepped(pipeline, pending):
            began = time.perf_counter()
        took_s = time.perf_counter() - began
        self.step_s += TREND * (took_s - self.step_s) if self.step_s else took_s

    def _stepped(self, pipeline: StreamPipeline, pending: PendingFrame) -> bool:
        """Step a frame; False if the engine failed and another one has replaced it."""
        failover = self.failover
        try:
            pipeline.step(pending, failover, guarded=failover.guarded, degraded=failover.degraded)
        except EngineFailed as error:
            try:
                self._replace(error)
            except EngineFailed:
                pipeline.meters.frames.failed += 1
                raise
            return False
        return True

    def _replace(self, error: EngineFailed) -> None:
        self.failover.lost(error)
        self._settle(confirmed=False)

    def _settle(self, confirmed: bool | None) -> None:
        """Confirm or retake the unconfirmed steps; rerunning may cost the next engine too."""
        while confirmed is not None:
            try:
                for pipeline in tuple(self._pipelines):
                    if confirmed:
                        pipeline.confirm()
                    else:
                        pipeline.redo(self.failover, self._differs)
                return
            except EngineFailed as error:
                self.failover.lost(error)

    def _differs(self, emitted: Tensors, right: Tensors) -> bool:
        """Whether an output is off by more than the artifact's tolerance; NaN always is."""
        import numpy as np

        return any(
            not float(np.abs(emitted[name] - right[name]).max(initial=0)) <= self._tolerance
            for name in right
        )

    def _abandon(self) -> None:
        """Release everybody who waits for this scheduler."""
        with self._lock:
            for pipeline in self._pipelines:
                pipeline.ended = True
                pipeline.meters.frames.failed += len(pipeline.waiting)
                pipeline.waiting.clear()
                pipeline.close()
            self._pipelines.clear()
            self._ready.clear()
            self._room.notify_all()
