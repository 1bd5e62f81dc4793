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

if TYPE_CHECKING:
    from edgevid.bundle import Bundle
    from edgevid.runner.worker import WorkerEngine


@dataclass(frozen=True)
class BackoffPolicy:
    """When a failed accelerator is retried, and when edgevid stops retrying.

    Attributes:
        first_s: Delay before the first retry; it doubles each time.
        longest_s: The longest delay.
        flaps: After so many failures in service, or of the proof, within ``within_s``, the
            accelerator is not retried any more.
        within_s: Failures that are longer ago do not count.
        proof_s: How long a proof may take.
    """

    first_s: float = 5.0
    longest_s: float = 300.0
    flaps: int = 3
    within_s: float = 600.0
    proof_s: float = 60.0


@dataclass
class AcceleratorState:
    """One accelerator with one artifact, and its failures so far."""

    choice: Choice
    state: str = "standby"
    reason: str | None = None
    failures: int = 0
    in_a_row: int = 0
    """Failures since it last served for a long time."""
    tries: int = 0
    """Proofs that ended, successful or not."""
    next_s: float = 0.0
    """`time.monotonic` at which it may be tried again."""
    since_s: float = float("inf")
    """`time.monotonic` at which it began to serve."""
    flaps: deque[float] = field(default_factory=deque)

    def serve(self) -> None:
        """Note that it serves."""
        self.state, self.reason, self.since_s = "serving", None, time.monotonic()

    def fail(self, reason: str, backoff: BackoffPolicy, *, flap: bool) -> str:
        """Note a failure.

        Args:
            reason: What failed.
            backoff: When it is retried.
            flap: It failed in service or in its proof, which may end the retries.

        Returns:
            What happens next, as text for people.
        """
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
            return f"not retried after {len(self.flaps)} failures; restart to try it again"
        delay_s = min(backoff.first_s * 2.0 ** min(self.in_a_row - 1, 32), backoff.longest_s)
        self.state, self.next_s = "failed", now + delay_s
        return f"next retry in {delay_s:g} s"

    def to_json(self) -> dict[str, Any]:
        """Plain data for the status."""
        return {
            **vars(self.choice),
            "state": self.state,
            "reason": self.reason,
            "failures": self.failures,
        }


@dataclass(frozen=True)
class Candidate:
    """A proven accelerator that is not in use yet."""

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
        report: Callable[[str, str], None],
    ) -> None:
        super().__init__(name=f"supervisor of {bundle.path.name}", daemon=True)
        self.places = [AcceleratorState(choice) for choice in wanted]
        self._bundle, self._backoff = bundle, backoff
        self._threads, self._report = threads, report
        self._changed = threading.Condition()
        self._rank = len(wanted)
        self._candidate: Candidate | None = None
        self._proving: WorkerEngine | None = None
        self._retired: list[WorkerEngine] = []
        self._stopping = False

    def run(self) -> None:
        """Prove what is due, until `close`; ``report`` gets what failed and what happens next."""
        while (rank := self._next_due()) is not None:
            candidate = self._try(rank)
            with self._changed:
                if candidate is not None:
                    self.places[rank].state = "standby"
                    if self._candidate is not None:
                        self._retired.append(self._candidate.engine)
                    self._candidate = candidate
                self._proving = None
                self.places[rank].tries += 1
                self._changed.notify_all()
        self._end_retired()

    def _next_due(self) -> int | None:
        """Wait until an accelerator is due, and return the best one; None when it is closed."""
        while True:
            self._end_retired()
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
                if not self._retired:
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
                self._report(str(error), then)
        return None

    def _prove(self, rank: int) -> Candidate:
        from edgevid.runner.worker import WorkerEngine

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

    def _end_retired(self) -> None:
        """Wait for the ends of killed processes."""
        with self._changed:
            dead, self._retired = self._retired, []
        for engine in dead:
            engine.close()

    def wait_for_first(self) -> None:
        """Wait until an accelerator is proven, or each has been tried once."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._candidate is not None or all(place.tries for place in self.places)
            )

    @property
    def is_waiting(self) -> bool:
        """Whether there is a proven accelerator for `take`."""
        return self._candidate is not None

    def take(self) -> Candidate | None:
        """Return the proven accelerator, which serves from now on; None if there is none."""
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
        """The serving accelerator has failed; returns what happens next, for people."""
        with self._changed:
            place = self.places[self._rank]
            self._rank = len(self.places)
            then = place.fail(reason, self._backoff, flap=True)
            self._changed.notify_all()
            return then

    def retire(self, engine: WorkerEngine) -> None:
        """Kill a process now, and wait for its end in this thread."""
        engine.kill()
        with self._changed:
            self._retired.append(engine)
            self._changed.notify_all()

    def status(self) -> list[dict[str, Any]]:
        """Every accelerator, in the order of preference."""
        with self._changed:
            return [place.to_json() for place in self.places]

    def close(self) -> None:
        """End every process and the thread; returns when they are gone."""
        with self._changed:
            self._stopping = True
            if self._proving is not None:
                self._proving.kill()
            if self._candidate is not None:
                self._retired.append(self._candidate.engine)
                self._candidate = None
            self._changed.notify_all()
        self.join()
