"""``paced``: one camera, open loop: packets arrive on time, whether the runner keeps up or not.

Latency counts from the time at which a packet was due, not from when it was taken: a stall shows in
every frame that it delays (no coordinated omission). The pipeline is live and drops the oldest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

from edgevid.bench.playback import play
from edgevid.bench.samples import Series
from edgevid.bench.scenarios import KEPT, Round, RoundOptions, ScenarioSetup, nowhere, series_of
from edgevid.media import ffmpeg
from edgevid.media.decode import Arrivals, Decoder, is_flush, video_stream
from edgevid.media.sources import SourceOptions
from edgevid.results import Frame
from edgevid.runner.meters import Meters

HELD_BYTES = 64 << 20
"""So much of a file is kept in memory and repeated from its start."""
LEAD_S = 0.02
LATE_S = 1.0
"""A round ends this long after the last packet was due."""


class PacedScenario:
    """The scenario ``paced``."""

    paced = on_video = True

    def __init__(self, setup: ScenarioSetup) -> None:
        self._setup = setup
        self._output = nowhere()

    def round(self, options: RoundOptions) -> Round:
        """Send packets for one round and step the frames that the engine keeps up with."""
        setup, meters = self._setup, Meters(KEPT)
        frames = max(options.samples, round(options.seconds * setup.rate_fps))
        camera = PacedSource(setup.video, setup.options, setup.rate_fps, frames)
        contract, engine = setup.bundle.contract, setup.engine
        play(camera, contract, engine, self._output, rate_fps=None, meters=meters)
        samples = series_of(meters) | {"release": camera.lags}
        return Round(meters.elapsed_s, meters.frames.to_json(), samples, {"sent": frames})


class PacedSource:
    """A file's packets at a camera's rate; to its reader it is a live source.

    A frame was captured when the packet was due with which it leaves the decoder.

    Args:
        video: The file.
        options: How to decode.
        rate_fps: Packets a second.
        frames: How many packets are sent.
        offset_s: The delay of the first packet, in addition to ``LEAD_S``.
    """

    live = True
    truncated = False

    def __init__(
        self,
        video: Path,
        options: SourceOptions,
        rate_fps: float,
        frames: int,
        offset_s: float = 0.0,
    ) -> None:
        self.name = str(video)
        self.arrivals = Arrivals()
        self.due_s = time.monotonic() + LATE_S
        self.lags = Series()
        """How late each packet was sent, in seconds."""
        self._options, self._rate_fps, self._frames = options, rate_fps, frames
        self._offset_s = LEAD_S + offset_s
        self._stopped = threading.Event()
        self._shown = 0
        self._container = ffmpeg.open_input(str(video), ffmpeg.FILE)
        self._stream: Any = video_stream(self._container)
        self._stream.thread_type = "SLICE"
        self._packets = self._read()

    def _read(self) -> list[Any]:
        packets, held = [], 0
        for packet in self._container.demux(self._stream):
            if is_flush(packet):
                break
            packets.append(packet)
            held += packet.size
            if held > HELD_BYTES or len(packets) >= self._frames:
                break
        return [packet for packet in packets if packet.size]

    def __iter__(self) -> Iterator[Frame]:
        first = perf_counter() + self._offset_s
        last = first + (self._frames - 1) / self._rate_fps
        for number in range(self._frames):
            place = number % len(self._packets)
            due = first + number / self._rate_fps
            if not self._wait(due) or perf_counter() > last + LATE_S:
                return
            self.lags.add(max(0.0, perf_counter() - due))
            if place == 0:
                yield from self._rewind(due)
            yield from self._decode(self._packets[place], due)
        end = last + 1 / self._rate_fps
        if self._wait(end):
            yield from self._drain(end)

    def _decode(self, packet: Any, due: float) -> Iterator[Frame]:
        """The frames that leave the decoder with a packet that was due then."""
        import av

        mark = perf_counter()
        try:
            stamp = self._decoder.admit(packet, due)
            for image, *_ in self._decoder.take(packet, stamp):
                decoded_s = perf_counter() - mark
                pts_s = self._shown / self._rate_fps
                yield Frame(
                    image=image,
                    width=int(image.width),
                    height=int(image.height),
                    source=self.name,
                    index=self._shown,
                    pts_s=pts_s,
                    captured_s=due,
                    decode_s=decoded_s,
                )
                self._shown += 1
                mark = perf_counter()
        except av.FFmpegError:
            self.truncated = True

    def _drain(self, due: float) -> Iterator[Frame]:
        """The frames that the decoder still holds; they count as due with the next packet."""
        import av

        end = av.Packet()
        end.stream = self._stream
        yield from self._decode(end, due)
        self._decoder.end()

    def _rewind(self, due: float) -> Iterator[Frame]:
        if self._shown:
            yield from self._drain(due)
        self._stream.codec_context.flush_buffers()
        self._decoder = Decoder(
            self._stream, self.arrivals, skip_loop_filter=self._options.skip_loop_filter
        )

    def _wait(self, due: float) -> bool:
        """Wait until a time of `perf_counter`; False once stopped."""
        self.due_s = time.monotonic() + LATE_S + due - perf_counter()
        while (left_s := due - perf_counter()) > 0:
            # The event's clock may end a moment early.
            if self._stopped.wait(left_s):
                return False
        return not self._stopped.is_set()

    def stop(self) -> None:
        """End the iteration; from any thread."""
        self._stopped.set()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def status(self) -> dict[str, Any]:
        """Return the state of the source; it is always open."""
        return {"state": "open", "reason": None, "detail": "", "reconnects": 0}
