"""The task ``toy-brightness`` on the device."""

from dataclasses import dataclass
from math import isfinite

from edgevid.errors import BadInput
from edgevid.tasks import Task

OUTPUT = "brightness"
TOLERANCE = 0.02


@dataclass(frozen=True)
class Brightness:
    """How bright a frame is, 0 to 1."""

    value: float

    def to_json(self):
        """Return ``brightness``; None if it is not a number."""
        return {"brightness": round(self.value, 6) if isfinite(self.value) else None}


class BrightnessTask(Task[Brightness]):
    """Reads the output ``brightness``, float32 ``(1, 1)``."""

    def __init__(self, contract):
        super().__init__(contract)
        if [(one.name, tuple(one.shape)) for one in contract.outputs] != [(OUTPUT, (1, 1))]:
            raise BadInput(f"task toy-brightness: it needs the one output {OUTPUT!r} of (1, 1)")

    def decode(self, outputs, frame):
        """Read the number."""
        return Brightness(float(outputs[OUTPUT][0, 0]))

    def same(self, reference, other):
        """Tell whether both are within the tolerance."""
        return abs(reference.value - other.value) <= TOLERANCE
