"""A pipeline: one camera's way through one bundle, with its memory and its counters.

    reader's thread    offer: sampler -> short queue
    server's thread    geometry -> gate -> step -> task -> sinks

What waits in the queue is latency, so it is short. A live source drops the oldest frame when it is
full; a file waits.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from edgevid.media.sampling import Sampler
from edgevid.predictions import FrameMeta
from edgevid.results import Frame
from edgevid.runner.gate import Gate
from edgevid.runner.meters import STAGES, Meters
from edgevid.runner.stream import Stream
from edgevid.tasks import open_task

if TYPE_CHECKING:
    from edgevid.contract import Contract, Inputs, Tensors
    from edgevid.media.preprocessing import Preprocessor
    from edgevid.runner.stream import Steps

LIVE_FRAMES, FILE_FRAMES = 2, 3


class Sink(Protocol):
    """Where answers go; several schedulers may write at once."""

    def write(self, line: dict[str, Any]) -> None:
        """Take one answer."""


@dataclass(frozen=True)
class StreamOptions:
    """What is wanted of a pipeline beside its model.

    ``rate_fps`` steps a second (`None`: every frame); with ``gate`` still scenes are not stepped;
    frames that could not be answered within ``latency_s`` of their arrival are dropped.
    """

    rate_fps: float | None = None
    gate: bool = False
    latency_s: float | None = None


@dataclass(slots=True)
class PendingFrame:
    """A frame that is to be stepped, or was and is not confirmed yet.

    ``inputs`` are valid until the lane's next frame unless they were copied; with ``gap`` the
    state is reset before the step.
    """

    captured: Frame
    inputs: Inputs
    gap: bool
    meta: FrameMeta
    answer: Tensors | None = None
    warm: bool = False


class StreamPipeline:
    """One camera's stream through one bundle."""

    def __init__(
        self,
        source: str,
        contract: Contract,
        sinks: Sequence[Sink],
        wish: StreamOptions,
        *,
        live: bool,
        bundle: str | None = None,
        meters: Meters | None = None,
    ) -> None:
        self.source, self.bundle, self.live, self.wish = source, bundle, live, wish
        self.meters = meters or Meters()
        self.waiting: deque[Frame] = deque()
        self.capacity = LIVE_FRAMES if live else FILE_FRAMES
        self.ended = False
        self._sampler = Sampler(wish.rate_fps)
        self._stream = Stream(contract, wish.rate_fps)
        self._gate = Gate(contract) if wish.gate else None
        self._task = open_task(contract)
        self._contract, self._sinks = contract, sinks
        self._frame = contract.require_video("this model")
        self._preprocessor: Preprocessor | None = None
        self._saved = self._stream.save()
        self._journal: list[PendingFrame] = []
        self._adds = {stage: self.meters.stages[stage].add for stage in STAGES}

    def wants(self, captured: Frame) -> bool:
        """Whether this frame is one of the sampling rate's; else it is counted as sampled out."""
        self._adds["decode"](captured.decode_s)
        if self._sampler.take(captured.pts_s, captured.since_s):
            return True
        self.meters.frames.sampled_out += 1
        return False

    @property
    def is_pending(self) -> bool:
        """Whether frames wait, or steps were taken that may turn out wrong."""
        return bool(self.waiting or self._journal)

    def is_late(self, captured: Frame, step_s: float) -> bool:
        """Whether an answer after ``step_s`` more would come after the latency that is wished.

        A step that alone takes longer can't be helped by dropping frames, so then none is late; nor
        is a frame of a file.
        """
        limit_s = self.wish.latency_s
        if limit_s is None or step_s >= limit_s or not self.live:
            return False
        return time.perf_counter() - captured.captured_s + step_s > limit_s

    def prepare(self, captured: Frame) -> PendingFrame | None:
        """Scale a frame; None where the gate stays closed."""
        from edgevid.media.preprocessing import Preprocessor

        began = time.perf_counter()
        if self._preprocessor is None:
            self._preprocessor = Preprocessor(self._frame)
        pixels = self._preprocessor.apply(captured.image)
        self._adds["geometry"](time.perf_counter() - began)
        gap = self._stream.is_gap(captured.pts_s)
        if self._gate and not self._gate.opens(pixels, captured.pts_s):
            self.meters.frames.gated += 1
            return None
        self.meters.resets += gap
        return PendingFrame(captured, {self._frame.name: pixels}, gap, self._meta(captured))

    def step(self, pending: PendingFrame, engine: Steps, *, guarded: bool, degraded: bool) -> None:
        """Step a frame, and tell the answer.

        ``guarded``: the engine may turn out to have been wrong, so the frame is kept until the step
        is confirmed; a file's answers are held back until then, a live camera's are told at once.
        Raises `EngineFailed` with the memory as it was.
        """
        if guarded and not self._journal:
            self._saved = self._stream.save()
        self._take(pending, engine)
        if guarded:
            # The picture is let go of: decoders own few of them.
            kept = replace(pending.captured, image=None)
            inputs = {name: values.copy() for name, values in pending.inputs.items()}
            self._journal.append(replace(pending, captured=kept, inputs=inputs))
        if self.live or not guarded:
            self._tell(pending, degraded)

    def confirm(self) -> None:
        """All steps so far were right."""
        if not self.live:
            for pending in self._journal:
                self._tell(pending, degraded=False)
        self._journal.clear()

    def redo(self, engine: Steps, differs: Callable[[Tensors, Tensors], bool]) -> None:
        """Take every unconfirmed step again with an engine that is trusted.

        A file's answers are told now, a live camera's where they were told wrongly.
        """
        if not self._journal:
            return
        self._stream.restore(self._saved)
        while self._journal:
            pending = self._journal[0]
            wrong = pending.answer
            self._take(pending, engine)
            # What is done is not done twice where the next step fails on this engine, too.
            del self._journal[0]
            self._saved = self._stream.save()
            if not self.live:
                self._tell(pending, degraded=True)
            elif wrong is None or pending.answer is None or differs(wrong, pending.answer):
                self.meters.corrected += 1
                self._write({**self._line(pending), "degraded": True, "corrected": True})

    def _take(self, pending: PendingFrame, engine: Steps) -> None:
        began = time.perf_counter()
        if pending.gap:
            self._stream.reset()
        pending.answer = self._stream.step(engine, pending.inputs)
        pending.warm = self._stream.warm
        self._adds["step"](time.perf_counter() - began)

    def _tell(self, pending: PendingFrame, degraded: bool) -> None:
        """Read an answer and write it, and close the frame's account."""
        clock, meters = time.perf_counter, self.meters
        began = clock()
        line = self._line(pending)
        if degraded:
            line["degraded"] = True
        read = clock()
        self._write(line)
        ended = clock()
        meters.frames.answered += 1
        meters.latency.add(ended - pending.captured.captured_s)
        if meters.first_answer_s is None:
            meters.first_answer_s = ended
        self._adds["task"](read - began)
        self._adds["sink"](ended - read)

    def _line(self, pending: PendingFrame) -> dict[str, Any]:
        captured = pending.captured
        line: dict[str, Any] = {
            "source": self.source,
            "index": captured.index,
            "pts_s": round(captured.pts_s, 6),
        }
        if self.bundle is not None:
            line["bundle"] = self.bundle
        if self.live:
            ago_s = time.perf_counter() - captured.captured_s
            line["captured_unix_s"] = round(time.time() - ago_s, 3)
        if pending.gap:
            line["gap"] = True
        assert pending.answer is not None
        prediction = self._task.decode(pending.answer, pending.meta)
        return {**line, "warm": pending.warm, **prediction.to_json()}

    def _meta(self, captured: Frame) -> FrameMeta:
        assert self._preprocessor is not None
        transform = self._preprocessor.transform
        height, width = transform.source
        return FrameMeta(
            width, height, captured.index, captured.pts_s, self.source, transform.to_source
        )

    def _write(self, line: dict[str, Any]) -> None:
        for sink in self._sinks:
            sink.write(line)

    def close(self) -> None:
        """Let go of swscale's tables and of the memory."""
        self._preprocessor = None
