"""Sinks and an event stage of another package, for tests; see `rigs.plugin_package`."""

import time
from dataclasses import dataclass
from pathlib import Path

from edgevid.events import EventStage
from edgevid.results import Event
from edgevid.sinks import Sink


@dataclass(frozen=True)
class LabelOptions:
    label: str
    fail_at: int = -1


class Label(EventStage):
    """An event for as long as the label is there; the state counts the frames."""

    Options = LabelOptions

    def initial_state(self):
        return {"seen": 0, "since_s": None}

    def step(self, prediction, frame, state):
        if frame.index == self.options.fail_at:
            raise RuntimeError("as planned")
        seen, since_s = state["seen"] + 1, state["since_s"]
        here = prediction.label == self.options.label
        where = {"seen": seen}
        if here and since_s is None:
            event = Event("it", "new", prediction.label, where, frame.pts_s)
            return prediction, [event], {"seen": seen, "since_s": frame.pts_s}
        if not here and since_s is not None:
            event = Event("it", "end", self.options.label, where, since_s, "gone")
            return prediction, [event], {"seen": seen, "since_s": None}
        return prediction, [], {"seen": seen, "since_s": since_s}


class LabelOfToday(Label):
    """The same with a newer state."""

    state_version = 2


@dataclass(frozen=True)
class SlowOptions:
    path: Path
    seconds: float = 0.0
    fail: str = ""


class Slow(Sink):
    """Writes the index of each result to a file after a while, or fails."""

    Options = SlowOptions

    def write(self, result):
        time.sleep(self.options.seconds)
        if self.options.fail:
            raise OSError(5, self.options.fail)
        with self.options.path.open("a") as file:
            file.write(f"{result.index}\n")


class Pictures(Sink):
    """Writes the shape of each image."""

    Options = SlowOptions
    needs_frame = True

    def write(self, result):
        with self.options.path.open("a") as file:
            file.write(f"{result.frame.rgb().shape}\n")


class Unopenable(Sink):
    """Raises when it is opened, as a plug-in with a fault does."""

    def __init__(self, options):
        raise RuntimeError("no such board")

    def write(self, result):
        """Never called."""


class NoSink:
    """Not a sink at all."""


class Raising(EventStage):
    """Raises at frame 3."""

    def step(self, prediction, frame, state):
        if frame.index == 3:
            raise ValueError("no such zone")
        return prediction, (), state
