"""The server of one bundle: takes frames from its lanes in turn, and steps them on its seat.

One lane, one turn: a camera ten times busier than the others waits, they do not. Where an
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
    from edgevid.contract import Tensors
    from edgevid.media.video import Captured
    from edgevid.runner.lane import Lane, Todo
    from edgevid.runner.stream import Steps

IDLE_S = 0.1
"""How long to wait for a frame before looking after the seat."""
STALL_S = 5.0
"""A step, or a change of engines, that takes longer is no progress any more."""
TREND = 0.1


class SeatLike(Protocol):
    """Who serves one bundle now; see `edgevid.runner.seat.Seat`."""

    @property
    def guarded(self) -> bool:
        """Whether its steps may yet turn out wrong."""

    @property
    def degraded(self) -> bool:
        """Whether something better should serve."""

    def step(self, frame: Any, state: Tensors) -> tuple[Tensors, Tensors]:
        """Take a step; raises `EngineFailed`."""

    def lost(self, error: EngineFailed) -> None:
        """Move to the next engine; raises ``error`` where there is none."""

    def check(self, *, idle: bool = False) -> bool | None:
        """Confirm what was stepped (True), or say that it was wrong (False), where that is due."""


class Fixed:
    """A seat with one engine that is trusted, and nothing to fall back to."""

    guarded = degraded = False

    def __init__(self, engine: Steps) -> None:
        self.step = engine.step

    def lost(self, error: EngineFailed) -> None:
        """Raise ``error``."""
        raise error

    def check(self, *, idle: bool = False) -> None:
        """Nothing is ever due."""


class Server:
    """Steps the frames of many lanes on one seat; `offer` and `end` are for reading threads."""

    def __init__(self, seat: SeatLike, tolerance: float = 0.0) -> None:
        self.seat = seat
        self.error: BaseException | None = None
        self.due_s = time.monotonic() + STALL_S
        self._tolerance = tolerance
        self._lock = threading.Lock()
        self._work, self._room = threading.Condition(self._lock), threading.Condition(self._lock)
        self._lanes: set[Lane] = set()
        self._ready: deque[Lane] = deque()
        self._finishing = False
        self.step_s = 0.0
        """Seconds that a step takes, a running mean."""

    def admit(self, lane: Lane) -> None:
        """Expect frames of one more lane."""
        with self._lock:
            self._lanes.add(lane)

    def finish(self) -> None:
        """Return from `serve` once every lane has ended and nothing waits."""
        with self._lock:
            self._finishing = True
            self._work.notify()

    def offer(self, lane: Lane, captured: Captured) -> None:
        """Hand over a frame: a live lane's oldest goes when its queue is full, a file's waits."""
        if not lane.wants(captured):
            return
        with self._lock:
            if lane.live and len(lane.waiting) >= lane.capacity:
                lane.waiting.popleft()
                lane.meters.frames.dropped += 1
            while len(lane.waiting) >= lane.capacity and not lane.ended:
                self._room.wait()
            if lane.ended:  # nobody answers any more
                lane.meters.frames.dropped += 1
                return
            lane.waiting.append(captured)
            if len(lane.waiting) == 1:
                self._ready.append(lane)
                self._work.notify()

    def end(self, lane: Lane) -> None:
        """No more frames will come; what waits is still answered."""
        with self._lock:
            lane.ended = True
            self._room.notify_all()
            self._work.notify()

    def serve(self) -> None:
        """Answer until everything is finished; raises what no engine could help."""
        try:
            while (turn := self._next()) is not None:
                lane, captured = turn
                if captured is not None:
                    self._answer(lane, captured)
                self._settle(self.seat.check(idle=captured is None))
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

    def _next(self) -> tuple[Any, Captured | None] | None:
        """The next frame of the next lane; no frame after a while without any; None at the end."""
        with self._lock:
            self.due_s = time.monotonic() + STALL_S
            self._let_go()
            if not self._ready and not self._is_over():
                self._work.wait(IDLE_S)
                self.due_s = time.monotonic() + STALL_S
                self._let_go()
            if not self._ready:
                return None if self._is_over() else (None, None)
            lane = self._ready.popleft()
            captured = lane.waiting.popleft()
            if lane.waiting:
                self._ready.append(lane)
            if not lane.live:
                self._room.notify_all()
            return lane, captured

    def _let_go(self) -> None:
        """Forget the lanes that have ended and of which every step is told."""
        for lane in [one for one in self._lanes if one.ended and not one.is_pending]:
            lane.close()
            self._lanes.remove(lane)

    def _is_over(self) -> bool:
        return self._finishing and not self._lanes

    def _answer(self, lane: Lane, captured: Captured) -> None:
        if lane.is_late(captured, self.step_s):
            with self._lock:
                lane.meters.frames.dropped += 1
            return
        todo = lane.prepare(captured)
        if todo is None:
            return
        began = time.perf_counter()
        while not self._stepped(lane, todo):
            began = time.perf_counter()
        took_s = time.perf_counter() - began
        self.step_s += TREND * (took_s - self.step_s) if self.step_s else took_s

    def _stepped(self, lane: Lane, todo: Todo) -> bool:
        """Step a frame; False where the engine failed and another one has taken its place."""
        seat = self.seat
        try:
            lane.step(todo, seat, guarded=seat.guarded, degraded=seat.degraded)
        except EngineFailed as error:
            try:
                self._replace(error)
            except EngineFailed:
                lane.meters.frames.failed += 1
                raise
            return False
        return True

    def _replace(self, error: EngineFailed) -> None:
        self.seat.lost(error)
        self._settle(confirmed=False)

    def _settle(self, confirmed: bool | None) -> None:
        """Do what a check of the seat asks for; taking steps again may cost the next engine."""
        while confirmed is not None:
            try:
                for lane in tuple(self._lanes):
                    if confirmed:
                        lane.confirm()
                    else:
                        lane.redo(self.seat, self._differs)
                return
            except EngineFailed as error:
                self.seat.lost(error)

    def _differs(self, told: Tensors, true: Tensors) -> bool:
        """Whether an answer was off by more than the artifact's tolerance, NaN included."""
        import numpy as np

        return any(
            not float(np.abs(told[name] - true[name]).max(initial=0)) <= self._tolerance
            for name in true
        )

    def _give_up(self) -> None:
        """Let nobody wait for a server that is gone."""
        with self._lock:
            for lane in self._lanes:
                lane.ended = True
                lane.meters.frames.failed += len(lane.waiting)
                lane.waiting.clear()
                lane.close()
            self._lanes.clear()
            self._ready.clear()
            self._room.notify_all()
