"""The states of a deployment: what may happen in each, and what may not."""

import itertools

import pytest

from edgevid.flash.agent import deployment
from edgevid.flash.agent.deployment import ACTIVATING, IDLE, ROLLED_BACK, STAGED, TRANSITIONS
from edgevid.flash.agent.store import Store
from edgevid.flash.agent.transport import Refused

STATES = (IDLE, STAGED, ACTIVATING, ROLLED_BACK)
EVENTS = sorted({event for _, event in TRANSITIONS})


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(STATES, EVENTS)))
def test_only_what_the_table_has_can_happen(store, state, event):
    store.write_journal(state, new="b" * 16, old=None)
    before = store.journal()
    transition = TRANSITIONS.get((state, event))
    if transition is None:
        with pytest.raises(Refused, match=f"a deployment that is {state} cannot be {event}"):
            deployment.advance(store, event, {"new": "c" * 16})
        assert store.journal() == before
    elif not transition.restore:
        assert deployment.advance(store, event, {"new": "c" * 16}) == transition.state
        assert (store.journal()["state"], store.journal()["new"]) == (transition.state, "c" * 16)


def test_every_state_can_be_left_and_reached():
    assert {state for state, _ in TRANSITIONS} == set(STATES)
    assert {transition.state for transition in TRANSITIONS.values()} == set(STATES)


class Service:
    """Remembers what is done to it."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *args, **options: self.calls.append((name, options))


@pytest.mark.parametrize("inside", [False, True])
def test_an_interrupted_first_activation_leaves_nothing_that_serves(store, monkeypatch, inside):
    service = Service()
    monkeypatch.setattr(deployment.services, "of", lambda _: service)
    store.write_journal(ACTIVATING, new="b" * 16, old=None, activation="token")
    store.point("b" * 16)
    reason = {"stage": "power"}
    deployment.advance(store, "interrupted", {"reason": reason}, inside=inside)
    assert store.current() is None
    assert service.calls == [("remove", {"inside": inside})]
    journal = store.journal()
    assert (journal["state"], journal["activation"], journal["reason"]) == (
        ROLLED_BACK,
        "token",
        reason,
    )
    assert store.history()[-1]["what"] == ROLLED_BACK
