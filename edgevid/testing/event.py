"""The conformance suite for event stages.

Subclass `EventSuite`, name the stage, and give its options, a contract and predictions::

    class TestPresence(EventSuite):
        name = "presence"

        @pytest.fixture
        def options(self):
            return PresenceOptions(label="person")

        @pytest.fixture
        def contract(self):
            return Contract(task="classification", ...)

        @pytest.fixture
        def predictions(self):
            return [Classification(...), ...]  # with which some event begins and ends
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import pytest

from edgevid.events import EventChain, EventLedger, EventStage, NamedStage, open_stage, stage_class
from edgevid.results import Event, Frame

if TYPE_CHECKING:
    from edgevid.contract import Contract
    from edgevid.predictions import Prediction

TAKEN = {"kind", "name", "durable", "cameras", "bundles"}
"""Keys of every ``[[event]]`` table, which are not options of a plug-in."""
RATE_FPS = 10.0


class EventSuite:
    """What every event stage must do. See the module's docstring.

    Attributes:
        name: The stage's name in the registry, or of its entry point.
        durable: Whether its state can be made durable.
    """

    name: str
    durable: bool = True

    @pytest.fixture
    def options(self) -> Any:
        """The stage's options; subclasses override it unless it has none."""
        return stage_class(self.name).Options()

    @pytest.fixture
    def contract(self) -> Contract:
        """The contract of the model that predicts; subclasses override it."""
        raise NotImplementedError("give a contract of the predictions")

    @pytest.fixture
    def predictions(self) -> Sequence[Prediction]:
        """Predictions in order, with which events begin and end; subclasses override it."""
        raise NotImplementedError("give predictions with which events begin and end")

    @pytest.fixture
    def stage(self, options: Any, contract: Contract) -> EventStage:
        """An open stage."""
        return open_stage(self.name, options, contract)

    def frame(self, index: int) -> Frame:
        """A frame without an image, as a rerun step has it."""
        return Frame(None, 64, 48, "door", index, index / RATE_FPS, 0.0)

    def run(
        self, stage: EventStage, predictions: Sequence[Prediction], state: Any, first: int = 0
    ) -> tuple[list[tuple[Event, ...]], Any]:
        """Send predictions through the stage; returns the events of each, and the last state."""
        found = []
        for index, prediction in enumerate(predictions, first):
            _, events, state = stage.step(prediction, self.frame(index), state)
            found.append(tuple(events))
        return found, state

    def test_the_class_declares_its_options(self) -> None:
        """``[[event]]`` tables need them."""
        options = stage_class(self.name).Options
        assert is_dataclass(options)
        assert options.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert not TAKEN & {one.name for one in fields(options)}

    def test_it_finds_something(self, stage: EventStage, predictions: Sequence[Prediction]) -> None:
        """The predictions of this test lead to events, so that the other tests mean something."""
        found, _ = self.run(stage, predictions, stage.initial_state())
        assert any(found)

    def test_a_state_is_never_changed(
        self, stage: EventStage, predictions: Sequence[Prediction]
    ) -> None:
        """A step returns a new state; an earlier one must still be there to go back to."""
        state = stage.initial_state()
        for index, prediction in enumerate(predictions):
            before = deepcopy(state)
            _, _, following = stage.step(prediction, self.frame(index), state)
            assert state == before
            state = following

    def test_a_retaken_step_gives_the_same(
        self, stage: EventStage, predictions: Sequence[Prediction]
    ) -> None:
        """Everything it remembers is in its state: going back to one repeats what followed."""
        middle = len(predictions) // 2
        _, state = self.run(stage, predictions[:middle], stage.initial_state())
        first = self.run(stage, predictions[middle:], state, middle)
        assert self.run(stage, predictions[middle:], state, middle) == first

    def test_streams_do_not_mix(self, stage: EventStage, predictions: Sequence[Prediction]) -> None:
        """Two states through one stage give what each gives alone."""
        alone, _ = self.run(stage, predictions, stage.initial_state())
        states = [stage.initial_state(), stage.initial_state()]
        found: list[list[tuple[Event, ...]]] = [[], []]
        for index, prediction in enumerate(predictions):
            for number in (0, 1):
                _, events, states[number] = stage.step(
                    prediction, self.frame(index), states[number]
                )
                found[number].append(tuple(events))
        assert found == [alone, alone]

    def test_events_are_valid_sequences(
        self, stage: EventStage, predictions: Sequence[Prediction]
    ) -> None:
        """Each event is new, then updated, then ended; open ones differ in their key."""
        found, _ = self.run(stage, predictions, stage.initial_state())
        is_open: set[str] = set()
        for events in found:
            for event in events:
                assert (event.id in is_open) == (event.type != "new"), event
                (is_open.discard if event.type == "end" else is_open.add)(event.id)

    def test_ids_are_unique_and_the_same_each_time(
        self, stage: EventStage, predictions: Sequence[Prediction]
    ) -> None:
        """The chain makes unique ids of the keys, and the same ones for the same stream."""
        runs = []
        for _ in range(2):
            chain, ledger = EventChain([NamedStage("stage", self.name, stage)]), EventLedger()
            events: list[Event] = []
            for index, prediction in enumerate((*predictions, *predictions)):
                events += chain.step(prediction, self.frame(index), ledger)[1]
            assert not chain.errors
            runs.append([event.id for event in events])
            begun = [event.id for event in events if event.type == "new"]
            assert len(begun) == len(set(begun))
        assert runs[0] == runs[1]

    def test_a_durable_state_is_plain_data(
        self, stage: EventStage, predictions: Sequence[Prediction]
    ) -> None:
        """Written as JSON and read again, it is the same state."""
        if not self.durable:
            pytest.skip("its state cannot be durable")
        _, state = self.run(stage, predictions, stage.initial_state())
        assert json.loads(json.dumps(state)) == state
        assert json.loads(json.dumps(stage.initial_state())) == stage.initial_state()
