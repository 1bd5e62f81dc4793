"""The event stage ``toy-threshold``: an event while a frame is brighter than a threshold."""

from dataclasses import dataclass

from edgevid.events import EventStage
from edgevid.results import Event


@dataclass(frozen=True)
class ThresholdOptions:
    """Options of the stage: the brightness at which an event begins, 0 to 1."""

    above: float = 0.5


class Threshold(EventStage):
    """Keeps since when it has been bright."""

    Options = ThresholdOptions

    def __init__(self, options, contract):
        self._above = options.above

    def step(self, prediction, frame, state):
        """Begin and end the event."""
        bright, since_s = prediction.value > self._above, state.get("since_s")
        if bright and since_s is None:
            event = Event("bright", "new", "bright", since_s=frame.pts_s)
            return prediction, (event,), {"since_s": frame.pts_s}
        if not bright and since_s is not None:
            return prediction, (Event("bright", "end", "bright", since_s=since_s),), {}
        return prediction, (), state
