"""The scheduler of one bundle: takes frames from its pipelines in turn and steps them.

One pipeline, one turn: a camera ten times busier than the others waits, they do not. Where an
accelerator fails or is found out, every lane's memory goes back to the last confirmed moment, the
steps since then are taken again on the engine that took its place, then the frame that failed.
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
"""How long to wait for a frame before looking after the failover."""
STALL_S = 5.0
"""A step, or a change of engines, that takes longer is no progress any more."""
TREND = 0.1


class Failover(Protocol):
    """Who serves one bundle now; see `edgevid.runner.engine_failover.EngineFailover`."""

    @property
    def guarded(self) -> bool:
        """Whether its steps may yet turn out wrong."""

    @property
    def degraded(self) -> bool:
        """Whether something better should serve."""

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """Take a step; raises `EngineFailed`."""

    def lost(self, error: EngineFailed) -> None:
        """Move to the next engine; raises ``error`` where there is none."""

    def check(self, *, idle: bool = False) -> bool | None:
        """Confirm what was stepped (True), or say that it was wrong (False), where that is due."""


class SingleEngine:
    """A failover with one engine that is trusted, and nothing to fall back to."""

    guarded = degraded = False

    def __init__(self, engine: Steps) -> None:
        self.step = engine.step

    def lost(self, error: EngineFailed) -> None:
        """Raise ``error``."""
        raise error

    def check(self, *, idle: bool = False) -> None:
        """Nothing is ever due."""


class Scheduler:
    """Steps the frames of many pipelines on one engine; reader threads call `offer` and `end`."""

    def __init__(self, failover: Failover, tolerance: float = 0.0) -> None:
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
        """Seconds that a step takes, a running mean."""

    def admit(self, pipeline: StreamPipeline) -> None:
        """Expect frames of one more pipeline."""
        with self._lock:
            self._pipelines.add(pipeline)

    def finish(self) -> None:
        """Return from `serve` once every pipeline has ended and nothing waits."""
        with self._lock:
            self._finishing = True
            self._work.notify()

    def offer(self, pipeline: StreamPipeline, captured: Frame) -> None:
        """Hand over a frame: a live lane's oldest goes when its queue is full, a file's waits."""
        if not pipeline.wants(captured):
            return
        with self._lock:
            if pipeline.live and len(pipeline.waiting) >= pipeline.capacity:
                pipeline.waiting.popleft()
                pipeline.meters.frames.dropped += 1
            while len(pipeline.waiting) >= pipeline.capacity and not pipeline.ended:
                self._room.wait()
            if pipeline.ended:  # nobody answers any more
                pipeline.meters.frames.dropped += 1
                return
            pipeline.waiting.append(captured)
            if len(pipeline.waiting) == 1:
                self._ready.append(pipeline)
                self._work.notify()

    def end(self, pipeline: StreamPipeline) -> None:
        """No more frames will come; what waits is still answered."""
        with self._lock:
            pipeline.ended = True
            self._room.notify_all()
            self._work.notify()

    def serve(self) -> None:
        """Answer until everything is finished; raises what no engine could help."""
        try:
            while (turn := self._next()) is not None:
                pipeline, captured = turn
                if captured is not None:
                    self._answer(pipeline, captured)
                self._settle(self.failover.check(idle=captured is None))
        except BaseException as error:
            self.error = error
            raise
        finally:
            self._give_up()

    def run(self) -> None:
        """`serve`, as a thread does it: what ends it is kept in ``error``."""
        try:
            self.serve()
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self.error = error

    def _next(self) -> tuple[Any, Frame | None] | None:
        """Return the next pipeline and its next frame, (None, None) when idle, None at the end."""
        with self._lock:
            self.due_s = time.monotonic() + STALL_S
            self._let_go()
            if not self._ready and not self._is_over():
                self._work.wait(IDLE_S)
                self.due_s = time.monotonic() + STALL_S
                self._let_go()
            if not self._ready:
                return None if self._is_over() else (None, None)
            pipeline = self._ready.popleft()
            captured = pipeline.waiting.popleft()
            if pipeline.waiting:
                self._ready.append(pipeline)
            if not pipeline.live:
                self._room.notify_all()
            return pipeline, captured

    def _let_go(self) -> None:
        """Forget the pipelines that have ended and of which every step is told."""
        for pipeline in [one for one in self._pipelines if one.ended and not one.is_pending]:
            pipeline.close()
            self._pipelines.remove(pipeline)

    def _is_over(self) -> bool:
        return self._finishing and not self._pipelines

    def _answer(self, pipeline: StreamPipeline, captured: Frame) -> None:
        if pipeline.is_late(captured, self.step_s):
            with self._lock:
                pipeline.meters.frames.dropped += 1
            return
        pending = pipeline.prepare(captured)
        if pending is None:
            return
        began = time.perf_counter()
        while not self._stepped(pipeline, pending):
            began = time.perf_counter()
        took_s = time.perf_counter() - began
        self.step_s += TREND * (took_s - self.step_s) if self.step_s else took_s

    def _stepped(self, pipeline: StreamPipeline, pending: PendingFrame) -> bool:
        """Step a frame; False where the engine failed and another one has taken its place."""
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
        """Do what a check of the failover asks for; taking steps again may cost the next engine."""
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

    def _differs(self, told: Tensors, true: Tensors) -> bool:
        """Whether an answer was off by more than the artifact's tolerance, NaN included."""
        import numpy as np

        return any(
            not float(np.abs(told[name] - true[name]).max(initial=0)) <= self._tolerance
            for name in true
        )

    def _give_up(self) -> None:
        """Let nobody wait for a scheduler that is gone."""
        with self._lock:
            for pipeline in self._pipelines:
                pipeline.ended = True
                pipeline.meters.frames.failed += len(pipeline.waiting)
                pipeline.waiting.clear()
                pipeline.close()
            self._pipelines.clear()
            self._ready.clear()
            self._room.notify_all()
