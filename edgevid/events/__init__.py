"""Event stages turn predictions into events, and may change the predictions themselves.

A stage is a step of its own: ``(prediction, frame, state) -> prediction', events, state'``. Its
state lives with the stream, so it is saved, restored and rerun together with the model's. A stage
is a plug-in of kind ``event`` that subclasses `EventStage`::

    class Presence(EventStage):
        def step(self, prediction, frame, state):
            here = prediction.label == "person"
            if here and not state.get("since_s"):
                event = Event("person", "new", "person", since_s=frame.pts_s)
                return prediction, (event,), {"since_s": frame.pts_s}
            ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from edgevid import registry
from edgevid.events.chain import ChainState, EventChain, EventLedger, NamedStage
from edgevid.settings import NoOptions

if TYPE_CHECKING:
    from edgevid.contract import Contract
    from edgevid.predictions import Prediction
    from edgevid.results import Event, Frame

__all__ = [
    "ChainState",
    "EventChain",
    "EventLedger",
    "EventStage",
    "NamedStage",
    "open_stage",
    "stage_class",
]


class EventStage(ABC):
    """One stage for one stream.

    Everything it remembers is in its state. A state is never changed, only replaced, so that an
    earlier one can be restored. To be durable it is plain data for JSON.

    Attributes:
        Options: Frozen dataclass of the stage's options: the keys of its ``[[event]]`` table.
            ``kind``, ``name``, ``durable``, ``cameras`` and ``bundles`` are taken.
        state_version: Increase it when the state changes its meaning; a durable state of another
            version is discarded with a message.
    """

    Options: ClassVar[type] = NoOptions
    state_version: ClassVar[int] = 1

    def __init__(self, options: Any, contract: Contract) -> None:
        """Prepare the stage.

        Args:
            options: An instance of ``Options``.
            contract: The contract of the model whose predictions it receives.

        Raises:
            BadInput: The stage cannot read this model's predictions.
        """
        self.options, self.contract = options, contract

    def initial_state(self) -> Any:
        """Return the state before the first frame; an empty dict by default."""
        return {}

    @abstractmethod
    def step(
        self, prediction: Any, frame: Frame, state: Any
    ) -> tuple[Prediction, Sequence[Event], Any]:
        """Process one prediction.

        Args:
            prediction: The task's prediction, after the stages before this one.
            frame: The frame; its ``image`` is None when a step is rerun.
            state: The state after the stream's frame before; must not be changed.

        Returns:
            The prediction for the stages that follow, the events of this frame, and the next state.
            The ``id`` of an event is the stage's own key: different for events that are open at the
            same time.
        """


def stage_class(kind: str) -> type[EventStage]:
    """Load the class of the event plug-in ``kind``; raises as `edgevid.registry.load`."""
    found: type[EventStage] = registry.load_class("event", kind, EventStage)
    return found


def open_stage(kind: str, options: Any, contract: Contract) -> EventStage:
    """Open the stage ``kind`` with an instance of its ``Options``.

    Raises:
        BadInput: There is no such stage, or it cannot read this model's predictions.
        MissingExtra: Its library is not installed.
        PluginFailed: The stage of another package cannot be imported, opened or used.
    """
    return registry.instance("event", kind, stage_class(kind), options, contract)
