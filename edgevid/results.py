"""The types that cross from a source to the runner and from the runner to the sinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame of a stream.

    Attributes:
        image: A handle to the image, an `av.VideoFrame`. It may still be in the decoder's YUV;
            `edgevid.media.preprocessing.Preprocessor` converts it to RGB at the model's size. None
            once nothing needs the image any more.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        source: The name of the source, without user and password.
        index: Number of the frame in the stream, from 0. Frames that were deliberately not
            decoded are counted, lost ones are not.
        pts_s: Presentation time in the stream, in seconds. Never decreases within one source.
        captured_s: `time.perf_counter` at the arrival of the packet that completed the frame.
        decode_s: Decoding time since the frame before, in seconds.
        since_s: Seconds since the frame before it in the stream, which may not have been decoded;
            None if unknown.
        cut: Why the frame does not simply continue the one before: ``reconnect``, ``time`` (the
            time stamps jumped) or ``codec``; None if it does.
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
