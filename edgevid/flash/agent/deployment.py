"""The states of a deployment, as a table: what may happen in each, and what follows.

The journal holds the state. A release counts as installed only in the state ``idle``: whoever finds
``activating`` with no living watchdog restores what served before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from . import services
from .store import Store
from .transport import Refused

IDLE = "idle"
"""A release serves, or none does; nothing is going on."""
STAGED = "staged"
"""A checked release lies beside the one that serves."""
ACTIVATING = "activating"
"""A new release was started, and the watchdog judges it."""
ROLLED_BACK = "rolled-back"
"""The new release was not healthy; the previous one serves again."""


class Transition(NamedTuple):
    """What follows an event: the next state, and what must be done before it is entered."""

    state: str
    restore: bool = False
    """Let the release before the activation serve again."""


TRANSITIONS = {
    # state        event
    (IDLE, "staged"): Transition(STAGED),
    (STAGED, "staged"): Transition(STAGED),
    (ROLLED_BACK, "staged"): Transition(STAGED),
    (STAGED, "unstaged"): Transition(IDLE),
    (IDLE, "activated"): Transition(ACTIVATING),
    (STAGED, "activated"): Transition(ACTIVATING),
    (ROLLED_BACK, "activated"): Transition(ACTIVATING),
    (ACTIVATING, "healthy"): Transition(IDLE),
    (ACTIVATING, "unhealthy"): Transition(ROLLED_BACK, restore=True),
    # It served already and was only started again, so there is nothing to restore.
    (ACTIVATING, "unhealthy-again"): Transition(IDLE),
    # The watchdog was killed, or the power was cut.
    (ACTIVATING, "interrupted"): Transition(ROLLED_BACK, restore=True),
    # At a start, the active release was found to differ from what was signed.
    (IDLE, "changed"): Transition(ROLLED_BACK, restore=True),
    (STAGED, "changed"): Transition(ROLLED_BACK, restore=True),
    (ROLLED_BACK, "changed"): Transition(ROLLED_BACK, restore=True),
}  # fmt: skip


def advance(store: Store, event: str, fields: dict[str, Any], *, inside: bool = False) -> str:
    """Handle an event and write the journal; returns the new state.

    ``fields`` go into the journal. With ``inside`` the service is about to start anyway, so that a
    restored release is not started here.

    Raises:
        Refused: the event cannot happen in the present state.
    """
    state = store.journal()["state"]
    transition = TRANSITIONS.get((state, event))
    if transition is None:
        raise Refused(
            "state",
            f"a deployment that is {state} cannot be {event}",
            "wait until it has ended, then try again",
        )
    if transition.restore:
        fields = dict(_restore(store, inside, fields), **fields)
    store.write_journal(transition.state, **fields)
    if transition.restore:
        history = {"release": fields["new"], "old": fields["old"], "reason": fields.get("reason")}
        store.note(ROLLED_BACK, **history)
    return transition.state


def _restore(store: Store, inside: bool, fields: dict[str, Any]) -> dict[str, Any]:
    """Return to the old release; returns the journal's fields about the activation.

    ``new`` and ``old`` come from ``fields``, or else from the journal.
    """
    journal = dict(store.journal(), **fields)
    new, old = journal["new"], journal["old"]
    service, manifest = services.of(store), store.manifest(old)
    store.point(old if manifest else None)
    if manifest is None:
        service.remove(inside=inside)
    else:
        service.install(manifest)
        if not inside:
            service.restart()
    return {"new": new, "old": old, "activation": journal.get("activation")}
