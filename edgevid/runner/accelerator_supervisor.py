"""Accelerators that do not serve now, retried in the background with exponential backoff."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgevid import runtimes
from edgevid.errors import CheckFailed, EdgevidError, EngineFailed
from edgevid.runner.canary import Canaries
from edgevid.runner.engines import Choice
from edgevid.runner.worker import WorkerEngine

if TYPE_CHECKING:
    from edgevid.bundle import Bundle


@dataclass(frozen=True)
class BackoffPolicy:
    """How long a failed accelerator is left alone, and when it is given up.

    It is tried again after ``first_s`` seconds, then after twice as long each time, at most
    ``longest_s``; trouble that is longer ago than ``within_s`` is forgotten. One that failed in
    service, or answered its proof wrongly, ``flaps`` times ``within_s`` is given up. A proof may
    take ``proof_s``.
    """

    first_s: float = 5.0
    longest_s: float = 300.0
    flaps: int = 3
    within_s: float = 600.0
    proof_s: float = 60.0


@dataclass
class AcceleratorState:
    """One accelerator with one artifact, and how it has done so far."""

    choice: Choice
    state: str = "standby"
    reason: str | None = None
    failures: int = 0
    in_a_row: int = 0
    """Failures since it last served for a long time."""
    tries: int = 0
    """Proofs that ended, well or badly."""
    next_s: float = 0.0
    """`time.monotonic` from which on it may be tried again."""
    since_s: float = float("inf")
    """`time.monotonic` at which it began to serve."""
    flaps: deque[float] = field(default_factory=deque)

    def serve(self) -> None:
        """Note that it serves."""
        self.state, self.reason, self.since_s = "serving", None, time.monotonic()

    def fail(self, reason: str, backoff: BackoffPolicy, *, flap: bool) -> str:
        """Note a failure; says when it is tried again. Only a ``flap`` counts for giving it up."""
        now = time.monotonic()
        if now - self.since_s > backoff.within_s:
            self.in_a_row = 0
        self.since_s = float("inf")
        self.failures += 1
        self.in_a_row += 1
        self.reason = reason
        if flap:
            self.flaps.append(now)
        while self.flaps and self.flaps[0] < now - backoff.within_s:
            self.flaps.popleft()
        if len(self.flaps) >= backoff.flaps:
            self.state, self.next_s = "given up", float("inf")
            return f"it is given up after {len(self.flaps)} failures; restart to try it again"
        delay_s = min(backoff.first_s * 2.0 ** min(self.in_a_row - 1, 32), backoff.longest_s)
        self.state, self.next_s = "failed", now + delay_s
        return f"next try in {delay_s:g} s"

    def to_json(self) -> dict[str, Any]:
        """Give plain data for the status."""
        return {
            **vars(self.choice),
            "state": self.state,
            "reason": self.reason,
            "failures": self.failures,
        }


@dataclass(frozen=True)
class Candidate:
    """A proven accelerator that waits to be taken."""

    rank: int
    engine: WorkerEngine
    canaries: Canaries


class AcceleratorSupervisor(threading.Thread):
    """Starts, proves and ends the processes of one bundle's accelerators.

    A worker dies with the thread that started it, so this thread lives as long as the
    `EngineFailover`. It tries only accelerators that are better than the serving one, best first.
    """

    def __init__(
        self,
        bundle: Bundle,
        wanted: list[Choice],
        backoff: BackoffPolicy,
        *,
        threads: int | None,
        say: Callable[[str, str], None],
    ) -> None:
        super().__init__(name=f"supervisor of {bundle.path.name}", daemon=True)
        self.places = [AcceleratorState(choice) for choice in wanted]
        self._bundle, self._backoff = bundle, backoff
        self._threads, self._say = threads, say
        self._changed = threading.Condition()
        self._rank = len(wanted)
        self._candidate: Candidate | None = None
        self._proving: WorkerEngine | None = None
        self._dead: list[WorkerEngine] = []
        self._stopping = False

    def run(self) -> None:
        """Try what is due, until `close`; ``say`` is told what failed, and what then."""
        while (rank := self._next_due()) is not None:
            candidate = self._try(rank)
            with self._changed:
                if candidate is not None:
                    self.places[rank].state = "standby"
                    if self._candidate is not None:
                        self._dead.append(self._candidate.engine)
                    self._candidate = candidate
                self._proving = None
                self.places[rank].tries += 1
                self._changed.notify_all()
        self._bury()

    def _next_due(self) -> int | None:
        """Wait for the best place that is worth a try now; None when the failover is closed."""
        while True:
            self._bury()
            with self._changed:
                if self._stopping:
                    return None
                best = self._candidate.rank if self._candidate else self._rank
                now = time.monotonic()
                waits = [place.next_s for place in self.places[:best]]
                due = [rank for rank, next_s in enumerate(waits) if next_s <= now]
                if due:
                    self.places[due[0]].state = "proving"
                    return due[0]
                if not self._dead:
                    wait_s = min(waits, default=float("inf")) - now
                    self._changed.wait(min(wait_s, threading.TIMEOUT_MAX))

    def _try(self, rank: int) -> Candidate | None:
        place = self.places[rank]
        try:
            return self._prove(rank)
        except EdgevidError as error:
            with self._changed:
                known = place.reason
                then = place.fail(str(error), self._backoff, flap=isinstance(error, CheckFailed))
                is_news = place.reason != known or place.state == "given up"
                is_news = is_news and not self._stopping
            if is_news:
                self._say(str(error), then)
        return None

    def _prove(self, rank: int) -> Candidate:
        choice = self.places[rank].choice
        if reason := runtimes.get(choice.runtime).why_not(choice.accelerator):
            raise EngineFailed(f"{choice}: {reason}")
        with self._changed:
            if self._stopping:
                raise EngineFailed(f"{choice}: closing")
            engine = self._proving = WorkerEngine(
                self._bundle,
                choice.artifact,
                choice.runtime,
                choice.accelerator,
                threads=self._threads,
            )
        try:
            engine.prove(self._backoff.proof_s)
            canaries = Canaries(engine, self._bundle, choice.artifact)
        except BaseException:
            engine.close()
            raise
        return Candidate(rank, engine, canaries)

    def _bury(self) -> None:
        """Wait for the ends of processes that were killed."""
        with self._changed:
            dead, self._dead = self._dead, []
        for engine in dead:
            engine.close()

    def wait_for_first(self) -> None:
        """Wait until an accelerator is ready, or each has been tried once."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._candidate is not None or all(place.tries for place in self.places)
            )

    @property
    def is_waiting(self) -> bool:
        """Whether a proven accelerator waits to be taken."""
        return self._candidate is not None

    def take(self) -> Candidate | None:
        """The proven accelerator that waits, which serves from now on."""
        with self._changed:
            candidate, self._candidate = self._candidate, None
            if candidate is not None:
                if self._rank < len(self.places):
                    self.places[self._rank].state = "standby"
                self._rank = candidate.rank
                self.places[candidate.rank].serve()
            self._changed.notify_all()
            return candidate

    def failed(self, reason: str) -> str:
        """The one that serves has failed; says what becomes of it."""
        with self._changed:
            place = self.places[self._rank]
            self._rank = len(self.places)
            then = place.fail(reason, self._backoff, flap=True)
            self._changed.notify_all()
            return then

    def bury(self, engine: WorkerEngine) -> None:
        """Kill a process now, and leave the waiting to the thread."""
        engine.kill()
        with self._changed:
            self._dead.append(engine)
            self._changed.notify_all()

    def status(self) -> list[dict[str, Any]]:
        """Every place, in the order of preference."""
        with self._changed:
            return [place.to_json() for place in self.places]

    def close(self) -> None:
        """End every process and the thread; returns when they are gone."""
        with self._changed:
            self._stopping = True
            if self._proving is not None:
                self._proving.kill()
            if self._candidate is not None:
                self._dead.append(self._candidate.engine)
                self._candidate = None
            self._changed.notify_all()
        self.join()
