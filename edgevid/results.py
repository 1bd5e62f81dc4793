"""The types that cross from a source to the runner, and from the runner to the sinks.

    source -> Frame -> step -> task.decode -> prediction -> event stages -> Result -> sinks

Event stages receive a `Frame`, sinks a `Result` with its `Event`s. Nothing here imports numpy or a
decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from edgevid.predictions import full_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.predictions import Prediction

EventType: TypeAlias = Literal["new", "update", "end"]

CORRECTED = "corrected"
"""The reason of an event that ended, or changed, because a failed step was rerun."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame of a stream.

    Attributes:
        image: A handle to the upright image, an `av.VideoFrame`. It may still be in the decoder's
            YUV; `edgevid.media.preprocessing.Preprocessor` converts it to RGB at the model's size.
            None once nothing needs the image any more.
        width: Width of the upright image in pixels.
        height: Height of the upright image in pixels.
        source: The name of the source, without user and password.
        index: Number of the frame in the stream, from 0. Frames that were deliberately not
            decoded are counted, lost ones are not.
        pts_s: Presentation time in the stream, in seconds. Always increases within one source.
        captured_s: `time.perf_counter` at the arrival of the packet that completed the frame.
        decode_s: Decoding time since the frame before, in seconds.
        since_s: Seconds since the frame before it in the stream, which may not have been decoded;
            None if unknown.
        cut: Why the frame does not simply continue the one before: ``reconnect``, ``time`` (the
            time stamps jumped; in a file, another recording begins) or ``codec``; None if it does.
            In a finite stream a cut is a gap. In a live one the time across it is measured, so it
            is a gap only if it is long.
    """

    image: Any
    width: int
    height: int
    source: str
    index: int
    pts_s: float
    captured_s: float
    decode_s: float = 0.0
    since_s: float | None = None
    cut: str | None = None

    def rgb(self) -> NDArray[np.uint8]:
        """Convert the image.

        Returns:
            uint8 ``(height, width, 3)``, RGB.

        Raises:
            ValueError: The image is no longer available.
        """
        if self.image is None:
            raise ValueError(f"the image of frame {self.index} is gone; check Frame.image first")
        convert = getattr(self.image, "to_ndarray", None)
        array: NDArray[np.uint8] = convert(format="rgb24") if convert else self.image
        return array


@dataclass(frozen=True, slots=True)
class Event:
    """Something that an event stage found in a stream.

    An event is ``new`` once, then any number of ``update``, then ``end`` once, all with one id.

    Attributes:
        id: Unique in its stream, and the same whenever the same stream is processed again. A stage
            only keeps its open events apart; `edgevid.events.EventChain` makes the id unique.
        type: ``new``, ``update`` or ``end``.
        what: What happened, such as a label.
        where: Where, as plain data: a zone, a box. Empty if it has no place.
        since_s: Presentation time in the stream at which it began, in seconds.
        reason: Why it changed or ended; ``corrected`` if a rerun step withdrew it.
    """

    id: str
    type: EventType
    what: str
    where: Mapping[str, Any] = field(default_factory=dict)
    since_s: float = 0.0
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; an empty ``where`` and an absent ``reason`` are left out."""
        document: dict[str, Any] = {"id": self.id, "type": self.type, "what": self.what}
        if self.where:
            document["where"] = dict(self.where)
        document["since_s"] = round(self.since_s, 6)
        if self.reason is not None:
            document["reason"] = self.reason
        return document


@dataclass(frozen=True, slots=True)
class Result:
    """One prediction of one stream; what a sink receives.

    Attributes:
        stream: Name of the source.
        index: Position of the frame in the stream, from 0.
        pts_s: Presentation time of the frame in the stream, in seconds.
        prediction: What the task decoded, after all event stages.
        events: What the event stages found.
        warm: The model has seen as many frames as it can remember.
        gap: The recurrent state was reset before this step, because frames are missing.
        degraded: The CPU stepped in place of the accelerator.
        corrected: Replaces a result of the same index that a faulty accelerator computed.
        captured_unix_s: Unix time at which the frame arrived; None for files.
        bundle: Name of the model; None if only one is served.
        frame: The frame itself, if a sink declares that it needs it; its image may be None.
    """

    stream: str
    index: int
    pts_s: float
    prediction: Prediction
    events: tuple[Event, ...] = ()
    warm: bool = True
    gap: bool = False
    degraded: bool = False
    corrected: bool = False
    captured_unix_s: float | None = None
    bundle: str | None = None
    frame: Frame | None = None

    def to_json(self, *, full: bool = False) -> dict[str, Any]:
        """Return plain data for JSON: one line of ``edgevid run``.

        Flags that are false, absent fields and empty ``events`` are left out; ``warm`` is always
        there.

        Args:
            full: Include the values that a prediction's own JSON form leaves out, such as all but
                the first 8 of a raw output.
        """
        line: dict[str, Any] = {
            "source": self.stream,
            "index": self.index,
            "pts_s": round(self.pts_s, 6),
        }
        if self.bundle is not None:
            line["bundle"] = self.bundle
        if self.captured_unix_s is not None:
            line["captured_unix_s"] = round(self.captured_unix_s, 3)
        if self.gap:
            line["gap"] = True
        line["warm"] = self.warm
        line.update(full_json(self.prediction) if full else self.prediction.to_json())
        if self.events:
            line["events"] = [event.to_json() for event in self.events]
        if self.degraded:
            line["degraded"] = True
        if self.corrected:
            line["corrected"] = True
        return line
