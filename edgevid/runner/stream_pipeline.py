"""One stream through one model: its queue, recurrent state, event stages and frame counters.

The reader's thread calls `StreamPipeline.wants`; everything else runs in the scheduler's thread: it
scales a frame, asks the gate, takes the step, decodes the prediction, runs the event stages and
puts the result into the sinks' queues. `edgevid.runner.assembly` shows how the parts are connected.

Frames in the queue add latency, so it is short. When it is full, a live stream drops its oldest
frame and a finite one waits.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from edgevid.events.chain import ChainState, EventChain, EventLedger
from edgevid.media.sampling import Sampler
from edgevid.predictions import FrameMeta, Prediction
from edgevid.results import Event, Frame, Result
from edgevid.runner.gate import Gate
from edgevid.runner.meters import STAGES, Meters
from edgevid.runner.stream import SavedState, Stream
from edgevid.tasks import open_task

if TYPE_CHECKING:
    from edgevid.contract import Contract, Inputs, Tensors
    from edgevid.media.preprocessing import Preprocessor
    from edgevid.runner.stream import Steps

LIVE_FRAMES, FILE_FRAMES = 2, 3


class ResultOutput(Protocol):
    """Where a pipeline puts its results; see `edgevid.runner.sink_threads.SinkFanOut`."""

    needs_frame: bool
    """Whether results must carry their frame."""

    def put(self, result: Result, *, live: bool) -> None:
        """Take a result, without waiting; ``live`` ones may displace others when it is full."""

    def has_room(self) -> bool:
        """Whether a finite stream may continue; it waits otherwise."""


class DirectOutput:
    """Calls a function with each result, in the scheduler's thread."""

    needs_frame = False

    def __init__(self, take: Callable[[Result], object]) -> None:
        self._take = take

    def put(self, result: Result, *, live: bool) -> None:
        """Call the function."""
        del live
        self._take(result)

    def has_room(self) -> bool:
        """Always."""
        return True


@dataclass(frozen=True)
class StreamOptions:
    """How one stream is processed.

    Attributes:
        rate_fps: Steps per second; None steps every frame.
        gate: Skip steps while the scene is still.
        latency_s: Drop frames of a live stream whose result would come later than this after
            their arrival; None drops none.
    """

    rate_fps: float | None = None
    gate: bool = False
    latency_s: float | None = None


@dataclass(slots=True)
class PendingFrame:
    """A frame to be stepped, or one that was stepped and is not confirmed yet.

    Attributes:
        frame: The frame. Its image is None in the journal: decoders own few images.
        inputs: The model's inputs by name; valid until the pipeline's next frame unless copied.
        gap: The recurrent state is reset before the step.
        meta: What the task needs to know of the frame.
        outputs: The outputs of the step.
        prediction: The prediction after all event stages.
        events: The events of this frame.
        warm: Whether the model had seen as many frames as it can remember.
    """

    frame: Frame
    inputs: Inputs
    gap: bool
    meta: FrameMeta
    outputs: Tensors | None = None
    prediction: Prediction | None = None
    events: tuple[Event, ...] = ()
    warm: bool = False


class StreamPipeline:
    """One stream through one model."""

    def __init__(
        self,
        source: str,
        contract: Contract,
        output: ResultOutput,
        options: StreamOptions,
        *,
        live: bool | None = None,
        bundle: str | None = None,
        meters: Meters | None = None,
        events: EventChain | None = None,
    ) -> None:
        """Prepare a stream.

        Args:
            source: Name of the stream in its results.
            contract: The model's contract.
            output: Where results go.
            options: How the stream is processed.
            live: Whether the stream is live; None leaves it to `begin`.
            bundle: Name of the model in results; None leaves it out.
            meters: What is measured is added to these.
            events: The event stages; none by default.
        """
        self.source, self.bundle, self.options = source, bundle, options
        self.output, self.meters = output, meters or Meters()
        self.chain = events or EventChain()
        self.confirmed: ChainState = self.chain.state
        """The state of the event stages after the last confirmed step; for any thread."""
        self.waiting: deque[Frame] = deque()
        self.ended = False
        self._cuts: deque[int] = deque()
        self._sampler = Sampler(options.rate_fps)
        self._stream = Stream(contract, options.rate_fps)
        self._gate = Gate(contract) if options.gate else None
        self._task = open_task(contract)
        self._frame = contract.require_video("this model")
        self._preprocessor: Preprocessor | None = None
        self._ledger = EventLedger()
        self._saved = self._save()
        self._journal: list[PendingFrame] = []
        self._adds = {stage: self.meters.stages[stage].add for stage in STAGES}
        self.begin(live=live is not False)

    def begin(self, *, live: bool) -> None:
        """Set whether the stream is live; called once it is open, before its first frame."""
        self.live = live
        self.capacity = LIVE_FRAMES if live else FILE_FRAMES

    def wants(self, frame: Frame) -> bool:
        """Whether the sampling rate takes this frame; if not, it is counted as sampled out."""
        self._adds["decode"](frame.decode_s)
        if frame.cut is not None:
            self._cuts.append(frame.index)
        if self._sampler.take(frame.pts_s, frame.since_s):
            return True
        self.meters.frames.sampled_out += 1
        return False

    def _follows_cut(self, frame: Frame) -> bool:
        """Whether the stream was cut at this frame, or at one since the last that was prepared."""
        follows = False
        while self._cuts and self._cuts[0] <= frame.index:
            self._cuts.popleft()
            follows = True
        # The time of a live stream is measured, across cuts too: `Stream.is_gap` decides.
        return follows and not self.live

    @property
    def is_pending(self) -> bool:
        """Whether frames wait, or steps are not confirmed yet."""
        return bool(self.waiting or self._journal)

    def is_late(self, frame: Frame, step_s: float) -> bool:
        """Whether a result after ``step_s`` more would exceed the stream's latency.

        If a single step takes longer than the latency, dropping frames cannot help, so no frame is
        late. A frame of a finite stream never is.
        """
        limit_s = self.options.latency_s
        if limit_s is None or step_s >= limit_s or not self.live:
            return False
        return time.perf_counter() - frame.captured_s + step_s > limit_s

    def prepare(self, frame: Frame) -> PendingFrame | None:
        """Scale a frame to the model's input; None if the gate stays closed."""
        from edgevid.media.preprocessing import Preprocessor

        began = time.perf_counter()
        if self._preprocessor is None:
            self._preprocessor = Preprocessor(self._frame)
        pixels = self._preprocessor.apply(frame.image)
        self._adds["geometry"](time.perf_counter() - began)
        gap = self._stream.is_gap(frame.pts_s, cut=bool(self._cuts) and self._follows_cut(frame))
        if self._gate and not self._gate.opens(pixels, frame.pts_s):
            self.meters.frames.gated += 1
            return None
        self.meters.resets += gap
        transform = self._preprocessor.transform
        height, width = transform.source
        meta = FrameMeta(width, height, frame.index, frame.pts_s, self.source, transform.to_source)
        return PendingFrame(frame, {self._frame.name: pixels}, gap, meta)

    def step(self, pending: PendingFrame, engine: Steps, *, guarded: bool, degraded: bool) -> None:
        """Step a frame and emit its result.

        Args:
            pending: The frame, from `prepare`.
            engine: What takes the step.
            guarded: The engine may turn out to be faulty, so the frame is journaled until the step
                is confirmed. Results of a finite stream are held back until then; those of a live
                stream are emitted at once and corrected later.
            degraded: The CPU steps in place of an accelerator.

        Raises:
            EngineFailed: The step failed; the state is as before.
        """
        if guarded and not self._journal:
            self._saved = self._save()
        self._take(pending, engine)
        if guarded:
            kept = replace(pending.frame, image=None)
            inputs = {name: values.copy() for name, values in pending.inputs.items()}
            self._journal.append(replace(pending, frame=kept, inputs=inputs))
        if self.live or not guarded:
            self._emit(pending, degraded)
        if not guarded:
            self._confirm_events()

    def confirm(self) -> None:
        """All steps so far are right."""
        if not self.live:
            for pending in self._journal:
                self._emit(pending, degraded=False)
        self._journal.clear()
        self._confirm_events()

    def redo(self, engine: Steps, differs: Callable[[Tensors, Tensors], bool]) -> None:
        """Rerun every unconfirmed step on a trusted engine.

        Results of a finite stream are emitted now; of a live stream only corrections are: results
        whose prediction is not the same by the task, or whose outputs differ.

        Args:
            engine: What takes the steps.
            differs: Whether the outputs of a step differ by more than the artifact's tolerance.

        Raises:
            EngineFailed: A step failed; a further call continues with that step.
        """
        if not self._journal:
            return
        self._restore(self._saved)
        self._ledger.retake()
        while self._journal:
            pending = self._journal[0]
            before, emitted = replace(pending), pending.events
            self._take(pending, engine)
            # Removed now, so that it is not rerun if the next step fails on this engine too.
            del self._journal[0]
            self._saved = self._save()
            if not self.live:
                self._emit(pending, degraded=True)
                continue
            events = self._ledger.correct(pending.events, emitted)
            if not self._journal:
                events += self._ledger.reconcile(self.chain.state.open)
            if events or self._is_changed(before, pending, differs):
                self.meters.corrected += 1
                result = self._result(pending, degraded=True, corrected=True)
                self.output.put(replace(result, events=events), live=True)
        self._confirm_events()

    def _is_changed(
        self,
        before: PendingFrame,
        after: PendingFrame,
        differs: Callable[[Tensors, Tensors], bool],
    ) -> bool:
        """Whether a rerun step gives something else than what was emitted."""
        if before.outputs is None or after.outputs is None:
            return True
        if not self._task.same(before.prediction, after.prediction):
            return True
        return differs(before.outputs, after.outputs)

    def _save(self) -> tuple[SavedState, ChainState]:
        return self._stream.save(), self.chain.state

    def _restore(self, saved: tuple[SavedState, ChainState]) -> None:
        state, self.chain.state = saved
        self._stream.restore(state)

    def _confirm_events(self) -> None:
        self.confirmed = self.chain.state
        if self.chain.stages:
            self._ledger.confirm()

    def _take(self, pending: PendingFrame, engine: Steps) -> None:
        """Step, decode, and run the event stages; the states move on only if the step succeeds."""
        began = time.perf_counter()
        if pending.gap:
            self._stream.reset()
        pending.outputs = self._stream.step(engine, pending.inputs)
        pending.warm = self._stream.warm
        stepped = time.perf_counter()
        prediction = self._task.decode(pending.outputs, pending.meta)
        pending.prediction, pending.events = self.chain.step(
            prediction, pending.frame, self._ledger
        )
        self._adds["step"](stepped - began)
        self._adds["task"](time.perf_counter() - stepped)

    def _emit(self, pending: PendingFrame, degraded: bool) -> None:
        """Put a result into the output, and count its frame as answered."""
        meters = self.meters
        began = time.perf_counter()
        if pending.events:
            self._ledger.announce(pending.events)
        self.output.put(self._result(pending, degraded=degraded), live=self.live)
        ended = time.perf_counter()
        meters.frames.answered += 1
        meters.latency.add(ended - pending.frame.captured_s)
        if meters.first_answer_s is None:
            meters.first_answer_s = ended
        self._adds["sink"](ended - began)

    def _result(self, pending: PendingFrame, *, degraded: bool, corrected: bool = False) -> Result:
        frame = pending.frame
        assert pending.prediction is not None
        captured_unix_s = None
        if self.live:
            captured_unix_s = time.time() - (time.perf_counter() - frame.captured_s)
        return Result(
            stream=self.source,
            index=frame.index,
            pts_s=frame.pts_s,
            prediction=pending.prediction,
            events=pending.events,
            warm=pending.warm,
            gap=pending.gap,
            degraded=degraded,
            corrected=corrected,
            captured_unix_s=captured_unix_s,
            bundle=self.bundle,
            frame=frame if self.output.needs_frame else None,
        )

    def close(self) -> None:
        """Release swscale's tables."""
        self._preprocessor = None
