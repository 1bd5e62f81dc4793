"""The chain of event stages, and what its sinks are told when steps are retaken."""

import numpy as np
import pytest

from edgevid.errors import BadInput
from edgevid.events import EventChain, EventLedger, EventStage, NamedStage, open_stage
from edgevid.predictions import Classification
from edgevid.results import Event, Frame
from edgevid.testing.event import EventSuite
from rigs.bundles import CONTRACT
from rigs.stand_ins import Label, LabelOptions


def says(label):
    labels = CONTRACT.labels
    return Classification(np.eye(3, dtype=np.float32)[labels.index(label)], labels)


SEEN = [says(one) for one in ("dark", "bright", "bright", "dark", "bright", "middle", "dark")]


class TestLabel(EventSuite):
    name = "label"

    @pytest.fixture(autouse=True)
    def installed(self, stand_ins):
        return stand_ins

    @pytest.fixture
    def options(self):
        return LabelOptions("bright")

    @pytest.fixture
    def contract(self):
        return CONTRACT

    @pytest.fixture
    def predictions(self):
        return SEEN


def frame(index):
    return Frame(None, 64, 48, "door", index, index / 10, 0.0)


def chain_of(*stages):
    return EventChain(
        [NamedStage(f"s{number}", "label", stage) for number, stage in enumerate(stages)]
    )


def bright(**options):
    return Label(LabelOptions("bright", **options), CONTRACT)


def run(chain, predictions, ledger=None):
    ledger = ledger or EventLedger()
    return [chain.step(one, frame(n), ledger)[1] for n, one in enumerate(predictions)]


def test_an_event_has_one_id_from_its_beginning_to_its_end():
    events = [event for found in run(chain_of(bright()), SEEN) for event in found]
    assert [(event.id, event.type) for event in events] == [
        ("s0:it@1", "new"),
        ("s0:it@1", "end"),
        ("s0:it@4", "new"),
        ("s0:it@4", "end"),
    ]


def test_two_stages_do_not_mix():
    events = [e for found in run(chain_of(bright(), bright()), SEEN) for e in found]
    assert len({event.id for event in events}) == 4


def test_a_stage_that_raises_is_skipped_for_that_frame():
    chain = chain_of(bright(fail_at=1), bright())
    found = run(chain, SEEN)
    assert [event.id for event in found[1]] == ["s1:it@1"]
    assert [event.id for event in found[2]] == ["s0:it@2"]
    assert chain.failures == {"s0": 1, "s1": 0}
    assert chain.errors == {"s0": "RuntimeError: as planned"}


class Repeats(EventStage):
    """Says whatever it is asked to."""

    def step(self, prediction, frame, state):
        return prediction, [Event("x", kind, "it") for kind in prediction], state


@pytest.mark.parametrize(
    ("said", "emitted"),
    [
        (["update"], ["new"]),
        (["end"], []),
        (["new", "new", "end", "end"], ["new", "update", "end"]),
        (["new", "end", "new"], ["new", "end", "new"]),
    ],
)
def test_what_a_stage_says_becomes_a_valid_sequence(said, emitted):
    chain = EventChain([NamedStage("s", "repeats", Repeats(None, CONTRACT))])
    found = run(chain, [[one] for one in said])
    assert [event.type for events in found for event in events] == emitted


def retaken(wrong, right):
    """What sinks are told of a stream whose frames were first predicted ``wrong``ly."""
    chain, ledger = chain_of(bright()), EventLedger()
    before, told, journal = chain.state, [], []
    for index, prediction in enumerate(wrong):
        _, events = chain.step(prediction, frame(index), ledger)
        ledger.announce(events)
        journal.append(events)
        told.append(events)
    chain.state = before
    ledger.retake()
    for index, prediction in enumerate(right):
        _, events = chain.step(prediction, frame(index), ledger)
        told.append(ledger.correct(events, journal[index]))
    told.append(ledger.reconcile(chain.state.open))
    return [(e.id, e.type, e.reason) for events in told for e in events], chain, ledger


def test_a_correction_that_changes_nothing_tells_nothing():
    told, _, _ = retaken(SEEN, SEEN)
    assert len(told) == 4


def test_a_withdrawn_event_ends_as_corrected():
    wrong = [says("dark"), says("bright"), says("bright")]
    told, chain, _ = retaken(wrong, [says("dark")] * 3)
    assert told == [("s0:it@1", "new", None), ("s0:it@1", "end", "corrected")]
    assert not chain.state.open


def test_an_event_that_begins_later_than_told_keeps_its_id():
    wrong = [says("bright"), says("bright"), says("bright")]
    told, chain, ledger = retaken(wrong, [says("dark"), says("bright"), says("bright")])
    assert told == [("s0:it@0", "new", None), ("s0:it@0", "update", None)]
    # and it goes on with that id
    _, events = chain.step(says("dark"), frame(3), ledger)
    assert [(event.id, event.type) for event in events] == [("s0:it@0", "end")]


def test_an_event_that_was_overlooked_begins_now():
    told, _, _ = retaken([says("dark")] * 3, [says("dark"), says("bright"), says("bright")])
    assert told == [("s0:it@1", "new", None)]


def test_an_event_that_was_ended_wrongly_goes_on():
    wrong = [says("bright"), says("dark"), says("dark")]
    told, chain, _ = retaken(wrong, [says("bright")] * 3)
    assert told == [
        ("s0:it@0", "new", None),
        ("s0:it@0", "end", "gone"),
        ("s0:it@0", "update", "corrected"),
    ]
    assert len(chain.state.open) == 1


@pytest.mark.parametrize("seed", range(50))
def test_after_any_correction_exactly_the_right_events_are_open(seed):
    rng = np.random.default_rng(seed)
    first, second = ([says(CONTRACT.labels[n]) for n in rng.integers(0, 3, 12)] for _ in range(2))
    told, chain, _ = retaken(first, second)
    is_open, begun = set(), set()
    for event_id, kind, _ in told:
        if kind == "new":
            assert event_id not in begun
            begun.add(event_id)
        assert event_id in begun
        (is_open.discard if kind == "end" else is_open.add)(event_id)
    assert is_open == {event.id for event in chain.state.open.values()}


def test_an_unknown_stage_is_named_with_the_nearest_one(stand_ins):
    with pytest.raises(BadInput, match="unknown event 'labl'; did you mean label"):
        open_stage("labl", None, CONTRACT)
