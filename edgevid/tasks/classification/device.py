"""Classification on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevid.errors import BadInput
from edgevid.predictions import Classification, FrameMeta
from edgevid.registry import need
from edgevid.tasks import Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract, Tensors

SCORES = "scores"
"""The output that is read: float32 ``(1, classes)``, a softmax."""
_TEXT_HEIGHT = 1 / 16  # of the frame's height
_FONT_PIXELS = 22  # height of cv2's Hershey Simplex at scale 1


class ClassificationTask(Task[Classification]):
    """Reads the output ``scores``, float32 ``(1, classes)``, a softmax over the labels."""

    def __init__(self, contract: Contract) -> None:
        """Check that the contract has scores, one for each label.

        Raises:
            BadInput: It does not have them.
        """
        super().__init__(contract)
        self._labels = contract.labels
        shape = next((one.shape for one in contract.outputs if one.name == SCORES), None)
        expected = (1, len(contract.labels))
        if shape != expected:
            found = "is missing" if shape is None else f"has the shape {tuple(shape)}"
            raise BadInput(
                f"task classification: the output {SCORES!r} {found}; it needs the shape "
                f'{expected}, one score for each label, or use task = "raw"'
            )

    def decode(self, outputs: Tensors, frame: FrameMeta) -> Classification:
        """Read one step's scores; see `Task.decode`."""
        del frame
        return Classification(outputs[SCORES][0], self._labels)

    def same(self, reference: Classification, other: Classification) -> bool:
        """Return whether both have the same most probable label; see `Task.same`."""
        import numpy as np

        finite = bool(np.isfinite(reference.scores).all() and np.isfinite(other.scores).all())
        return finite and reference.class_id == other.class_id

    def draw(self, image: NDArray[np.uint8], prediction: Classification) -> NDArray[np.uint8]:
        """Write the label and its score into the top left corner; see `Task.draw`.

        Raises:
            MissingExtra: OpenCV is not installed.
        """
        cv2 = need("cv2", "draw")
        drawn = image.copy()
        scale = max(0.4, image.shape[0] * _TEXT_HEIGHT / _FONT_PIXELS)
        at = (round(8 * scale), round(_FONT_PIXELS * scale) + round(8 * scale))
        text = f"{prediction.label} {prediction.score:.2f}"
        for colour, width in (((0, 0, 0), 4), ((255, 255, 255), 2)):  # an outline, then the text
            thickness = max(1, round(width * scale))
            cv2.putText(drawn, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness)
        return drawn
