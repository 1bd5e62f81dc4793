"""The sink ``toy-lines``: appends one line of text per result to a file."""

from dataclasses import dataclass
from pathlib import Path

from edgevid.sinks import Sink


@dataclass(frozen=True)
class LinesOptions:
    """Options of the sink: the file to append to."""

    path: Path


class Lines(Sink):
    """Writes the index, the brightness and the events."""

    Options = LinesOptions

    def __init__(self, options):
        self._file = options.path.open("a", encoding="utf-8")

    def write(self, result):
        """Write one result."""
        events = " ".join(f"{event.what}:{event.type}" for event in result.events)
        value = result.prediction.to_json().get("brightness", "-")
        self._file.write(f"{result.index} {value} {events}".rstrip() + "\n")

    def flush(self):
        """Write what is buffered."""
        self._file.flush()

    def close(self):
        """Close the file."""
        self._file.close()
