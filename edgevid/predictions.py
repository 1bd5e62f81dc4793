"""Predictions about one frame, as typed values.

A task turns the output tensors of a step into one of these. Each has a JSON form, which is what
``edgevid run`` writes for a frame. Coordinates are pixels of the source frame, never of the model's
input: `FrameMeta` maps from one to the other.

Nothing here imports numpy until an array is used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    PointMap: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]

DECIMALS = 6
"""Decimal places of a probability or a raw value in JSON."""
PIXEL_DECIMALS = 2
"""Decimal places of a pixel coordinate in JSON."""
SHOWN_VALUES = 8
"""How many values of a raw tensor its JSON form lists."""


@dataclass(frozen=True, slots=True)
class FrameMeta:
    """The frame that a prediction is about.

    Attributes:
        width: Width of the source frame in pixels; 0 if the step takes no frame.
        height: Height of the source frame in pixels; 0 if the step takes no frame.
        index: Position in the stream, from 0.
        pts_s: Presentation time in the stream, in seconds.
        source: Name of the stream.
        to_source: Maps points ``(N, 2)`` float32, x before y, from pixels of the model's input to
            pixels of the source frame. None if both are the same.
    """

    width: int
    height: int
    index: int = 0
    pts_s: float = 0.0
    source: str = ""
    to_source: PointMap | None = None

    def boxes_to_source(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map boxes from the model's input to the source frame and clip them to it.

        Args:
            xyxy: float32 ``(N, 4)``, left, top, right and bottom in pixels of the model's input.

        Returns:
            float32 ``(N, 4)`` in pixels of the source frame.
        """
        import numpy as np

        corners = np.asarray(xyxy, np.float32).reshape(-1, 2)
        if self.to_source is not None:
            corners = self.to_source(corners)
        limits = np.array([self.width, self.height], np.float32)
        clipped: NDArray[np.float32] = np.clip(corners, 0, limits).astype(np.float32)
        return clipped.reshape(-1, 4)


@runtime_checkable
class Prediction(Protocol):
    """The result of decoding the outputs of one step."""

    def to_json(self) -> dict[str, Any]:
        """Return the prediction as plain data for JSON."""


@runtime_checkable
class AbridgedPrediction(Prediction, Protocol):
    """A prediction whose JSON form leaves values out."""

    def to_full_json(self) -> dict[str, Any]:
        """Return the prediction as plain data for JSON, with all values."""


def full_json(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as plain data for JSON that leaves nothing out."""
    if isinstance(prediction, AbridgedPrediction):
        return prediction.to_full_json()
    return prediction.to_json()


@dataclass(frozen=True, eq=False)
class Classification:
    """One label for the whole frame, with a probability for every label.

    Attributes:
        scores: float32 ``(classes,)``, probabilities that sum to 1.
        labels: The name of each class, in the order of the scores.
    """

    scores: NDArray[np.float32]
    labels: tuple[str, ...]

    @cached_property
    def class_id(self) -> int:
        """Index of the most probable class; the first of several that tie."""
        return int(self.scores.argmax())

    @property
    def label(self) -> str:
        """Name of the most probable class."""
        return self.labels[self.class_id]

    @property
    def score(self) -> float:
        """Probability of the most probable class, 0 to 1."""
        return float(self.scores[self.class_id])

    def to_json(self) -> dict[str, Any]:
        """Return ``label``, ``score`` and all ``scores`` by label, to six decimals."""
        rounded = [round(score, DECIMALS) for score in self.scores.tolist()]
        return {
            "label": self.label,
            "score": rounded[self.class_id],
            "scores": dict(zip(self.labels, rounded, strict=True)),
        }


@dataclass(frozen=True, eq=False)
class Detections:
    """Any number of labelled boxes in one frame.

    Attributes:
        xyxy: float32 ``(N, 4)``, left, top, right and bottom in pixels of the source frame.
        confidence: float32 ``(N,)``, 0 to 1.
        class_id: int64 ``(N,)``, indices into ``labels``.
        labels: The name of each class.
        track_id: int64 ``(N,)``, the same for one object over the frames of a stream; None without
            a tracker.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]
    labels: tuple[str, ...]
    track_id: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            ValueError: An array does not have the shape that its attribute documents.
        """
        count = len(self.xyxy)
        if self.xyxy.shape != (count, 4):
            raise ValueError(f"xyxy has the shape {self.xyxy.shape}; use (N, 4)")
        for name in ("confidence", "class_id", "track_id"):
            values = getattr(self, name)
            if values is not None and values.shape != (count,):
                raise ValueError(f"{name} has the shape {values.shape}; use ({count},)")

    @classmethod
    def empty(cls, labels: tuple[str, ...] = ()) -> Detections:
        """Return a frame without boxes."""
        import numpy as np

        return cls(
            np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64), labels
        )

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, index: int | slice | NDArray[Any] | list[int]) -> Detections:
        """Select boxes.

        Args:
            index: One index, a slice, indices ``(M,)`` int or a mask ``(N,)`` bool.

        Returns:
            The selected boxes in the order of ``index``; one index gives one box.

        Raises:
            IndexError: An index is out of range, or a mask has another length.
        """
        if isinstance(index, int):
            index = [index]
        elif isinstance(index, list):
            import numpy as np

            index = np.asarray(index, np.int64 if not index else None)
        return Detections(
            self.xyxy[index],
            self.confidence[index],
            self.class_id[index],
            self.labels,
            None if self.track_id is None else self.track_id[index],
        )

    def filter(
        self, *, min_confidence: float = 0.0, labels: Collection[str] | None = None
    ) -> Detections:
        """Keep the boxes of at least ``min_confidence``, and of ``labels`` if given."""
        import numpy as np

        keep = self.confidence >= min_confidence
        if labels is not None:
            wanted = [index for index, name in enumerate(self.labels) if name in labels]
            keep &= np.isin(self.class_id, wanted)
        return self[keep]

    def to_json(self) -> dict[str, Any]:
        """Return ``detections``, a list of ``box``, ``confidence``, ``class_id``, ``class``.

        ``track_id`` is added if there is one. Boxes are rounded to 0.01 pixels.
        """
        rows = []
        for index, box in enumerate(self.xyxy.tolist()):
            class_id = int(self.class_id[index])
            row: dict[str, Any] = {
                "box": [round(value, PIXEL_DECIMALS) for value in box],
                "confidence": round(float(self.confidence[index]), DECIMALS),
                "class_id": class_id,
            }
            if class_id < len(self.labels):
                row["class"] = self.labels[class_id]
            if self.track_id is not None:
                row["track_id"] = int(self.track_id[index])
            rows.append(row)
        return {"detections": rows}


@dataclass(frozen=True, eq=False)
class RawOutputs:
    """The output tensors themselves, for models that no task can read.

    Attributes:
        outputs: Output name to float32 array of the shape that the contract gives it.
    """

    outputs: Mapping[str, NDArray[np.float32]]

    def to_json(self) -> dict[str, Any]:
        """Return ``outputs``: by name ``shape``, ``values`` (the first 8), ``least``, ``most``.

        ``omitted`` counts the values left out, if any; `to_full_json` has them all.
        """
        return {"outputs": {name: _summary(value) for name, value in self.outputs.items()}}

    def to_full_json(self) -> dict[str, Any]:
        """Return what `to_json` returns, with all ``values`` in the order of the tensor's axes."""
        return {
            "outputs": {name: _summary(value, value.size) for name, value in self.outputs.items()}
        }


def _summary(value: NDArray[np.float32], shown: int = SHOWN_VALUES) -> dict[str, Any]:
    flat = value.reshape(-1)
    rest = {"omitted": flat.size - shown} if flat.size > shown else {}
    return rest | {
        "shape": list(value.shape),
        "values": [round(float(one), DECIMALS) for one in flat[:shown]],
        "least": round(float(flat.min()), DECIMALS),
        "most": round(float(flat.max()), DECIMALS),
    }
