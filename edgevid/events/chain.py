"""The event stages of one stream, one after another, with their state and the ids of events.

`EventChain` computes what is true; its state is saved, restored and rerun with the model's.
`EventLedger` knows which events were emitted, and after a correction computes what to emit now, so
that the events in the output always form valid sequences: ``new``, ``update``..., ``end``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgevid.results import CORRECTED, Event

if TYPE_CHECKING:
    from edgevid.events import EventStage
    from edgevid.predictions import Prediction
    from edgevid.results import Frame


@dataclass(frozen=True)
class NamedStage:
    """One stage of a chain.

    Attributes:
        name: Unique in the chain; the first part of the ids of its events.
        kind: The plug-in's name.
        stage: The stage.
        durable: Whether its state survives a restart.
    """

    name: str
    kind: str
    stage: EventStage
    durable: bool = False


@dataclass(frozen=True, slots=True)
class ChainState:
    """The state of all stages of one stream; never changed, only replaced.

    Attributes:
        stages: The state of each stage, in the order of the chain.
        open: Events that have begun and not ended, by the stage's name and key.
        run: How often the stream was continued from a durable state.
    """

    stages: tuple[Any, ...]
    open: Mapping[str, Event] = field(default_factory=dict)
    run: int = 0


class EventChain:
    """Runs the stages of one stream. Without stages it costs next to nothing."""

    def __init__(self, stages: Sequence[NamedStage] = ()) -> None:
        self.stages = tuple(stages)
        self.state = ChainState(tuple(one.stage.initial_state() for one in self.stages))
        self.failures = dict.fromkeys((one.name for one in self.stages), 0)
        """How often each stage raised an exception."""
        self.errors: dict[str, str] = {}
        """The last exception of each stage that raised one."""

    def step(
        self, prediction: Prediction, frame: Frame, ids: EventLedger
    ) -> tuple[Prediction, tuple[Event, ...]]:
        """Send one prediction through all stages.

        A stage that raises is skipped for this frame: the prediction and its state stay as they
        are, and the error is counted.

        Args:
            prediction: What the task decoded.
            frame: The frame it is about.
            ids: What was emitted before; a rerun step gets the ids of its first time from it.

        Returns:
            The prediction after all stages, and the events of all stages with unique ids.
        """
        if not self.stages:
            return prediction, ()
        states, found = list(self.state.stages), []
        open_events: Mapping[str, Event] = self.state.open
        for position, one in enumerate(self.stages):
            try:
                changed, events, state = one.stage.step(prediction, frame, states[position])
                if events:
                    named, open_events = self._named(one.name, events, frame, open_events, ids)
                    found += named
            except Exception as error:  # noqa: BLE001 - of a plug-in: counted and shown
                self.failures[one.name] += 1
                self.errors[one.name] = f"{type(error).__name__}: {error}"
                continue
            prediction, states[position] = changed, state
        self.state = ChainState(tuple(states), open_events, self.state.run)
        return prediction, tuple(found)

    def _named(
        self,
        stage: str,
        events: Iterable[Event],
        frame: Frame,
        before: Mapping[str, Event],
        ids: EventLedger,
    ) -> tuple[list[Event], Mapping[str, Event]]:
        """Give events their ids, and drop what does not fit: an ``end`` of what is not open."""
        open_events, named = dict(before), []
        for event in events:
            key = f"{stage}:{event.id}"
            earlier = open_events.get(key)
            if earlier is None and event.type == "end":
                continue
            if earlier is None:
                run = f"{self.state.run}." if self.state.run else ""
                event = replace(event, id=ids.claim(key, f"{key}@{run}{frame.index}"), type="new")
            else:
                kind = "update" if event.type == "new" else event.type
                event = replace(event, id=earlier.id, type=kind)
            if event.type == "end":
                del open_events[key]
            else:
                open_events[key] = event
            named.append(event)
        return named, open_events


class EventLedger:
    """The events of one stream that were emitted since the last confirmed step."""

    def __init__(self) -> None:
        self._announced: dict[str, Event] = {}
        self._issued: dict[str, list[str]] = {}
        self._known: set[str] = set()
        self._claimed: set[str] | None = None
        """Ids that rerun steps have issued again; None while no step is rerun."""

    def announce(self, events: Iterable[Event]) -> None:
        """Note events that go to the sinks."""
        for event in events:
            if event.type == "new":
                self._issued.setdefault(_key(event.id), []).append(event.id)
            self._known.add(event.id)
            if event.type == "end":
                self._announced.pop(event.id, None)
            else:
                self._announced[event.id] = event

    def confirm(self) -> None:
        """All announced events are right: no step before now is rerun."""
        if self._issued or len(self._known) != len(self._announced):
            self._issued, self._known = {}, set(self._announced)

    def retake(self) -> None:
        """Steps since the last confirmed one are rerun from now on, until `reconcile`."""
        if self._claimed is None:
            self._claimed = set()

    def claim(self, key: str, fresh: str) -> str:
        """The id for a new event of ``key``: that of the step's first time, or else ``fresh``."""
        if self._claimed is None:
            return fresh
        issued = [one for one in self._issued.get(key, ()) if one not in self._claimed]
        chosen = fresh if fresh in issued or not issued else issued[0]
        self._claimed.add(chosen)
        return chosen

    def correct(self, right: Sequence[Event], before: Sequence[Event]) -> tuple[Event, ...]:
        """What to emit for a rerun frame.

        Args:
            right: The events of the rerun step.
            before: The events that were emitted for this frame before.
        """
        emitted = []
        for event in right:
            if event in before:
                continue
            is_open = event.id in self._announced
            if event.type == "end" and not is_open:
                continue
            if event.type != "end":
                event = replace(event, type="update" if event.id in self._known else "new")
            self.announce((event,))
            emitted.append(event)
        return tuple(emitted)

    def reconcile(self, open_events: Mapping[str, Event]) -> tuple[Event, ...]:
        """What to emit after the last rerun frame, so that exactly ``open_events`` are open."""
        right = {event.id: event for event in open_events.values()}
        withdrawn = [
            replace(event, type="end", reason=CORRECTED)
            for event_id, event in self._announced.items()
            if event_id not in right
        ]
        again = [
            replace(event, type="update", reason=CORRECTED)
            for event_id, event in right.items()
            if event_id not in self._announced
        ]
        emitted = (*withdrawn, *again)
        self.announce(emitted)
        self._claimed = None
        self.confirm()
        return emitted


def _key(event_id: str) -> str:
    return event_id.rpartition("@")[0]
