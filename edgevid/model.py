"""The Python API to a bundle: one prediction, a stream of images, or a whole source.

model = edgevid.load("person.edgevid")
prediction = model(image)                     # one step, from an empty state
stream = model.stream()                       # step by step, keeping the state
for result in model.run("rtsp://camera/1"):   # everything that `edgevid run` does
...
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from edgevid.arguments import checked
from edgevid.bundle import Bundle
from edgevid.errors import BadInput, EngineFailed, WrongType
from edgevid.predictions import FrameMeta

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract, Tensors
    from edgevid.predictions import Prediction
    from edgevid.results import Result
    from edgevid.runner.config import RunConfig
    from edgevid.runner.engine_failover import EngineFailover

Log = Callable[[str], None]


@checked
def load(
    path: str | Path,
    *,
    artifact: str | None = None,
    runtime: str | None = None,
    accelerator: str | None = None,
    threads: int | None = None,
    log: Log | None = None,
) -> Model:
    """Open a bundle.

    The engine is opened and proven when it is first needed.

    Args:
        path: The `.edgevid` file.
        artifact: Execute this one, such as ``tflite-int8``. Default: what suits this machine best.
        runtime: Execute in this runtime.
        accelerator: Execute on this accelerator, such as ``cpu``.
        threads: Threads of the engine. Default: 1, or what `edgevid bench --tune` found.
        log: Receives messages about failover and reconnection. Default: they are dropped.

    Raises:
        BadBundle: There is no such file, or it is damaged or of another version.
        BadInput: ``threads`` is not a whole number of at least 1.
        WrongType: An argument has another type than these; it is a BadInput and a TypeError.
    """
    if threads is not None and threads < 1:
        raise BadInput(f"threads must be a whole number of at least 1, not {threads!r}")
    choice = {"artifact": artifact, "runtime": runtime, "accelerator": accelerator}
    return Model(Bundle.open(Path(path)), choice, threads=threads, log=log)


class Model:
    """A bundle, ready to run. Use it as a context manager, or `close` it, to free its engine.

    Attributes:
        bundle: The opened bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        choice: Mapping[str, str | None],
        *,
        threads: int | None = None,
        log: Log | None = None,
    ) -> None:
        self.bundle = bundle
        self._choice, self._threads = dict(choice), threads
        self._log: Log = log or (lambda text: None)
        self._failover: EngineFailover | None = None

    @property
    def contract(self) -> Contract:
        """Named inputs, outputs and states, the step rate and the task."""
        return self.bundle.contract

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names; empty if the task has none."""
        return self.contract.labels

    def __call__(self, image: NDArray[np.uint8]) -> Prediction:
        """Predict from one image, starting from an empty state.

        Args:
            image: uint8 ``(H, W, 3)``, RGB, of any size; it is scaled as the contract says.

        Returns:
            The task's prediction, with coordinates in pixels of ``image``.

        Raises:
            BadInput: The image has another shape or dtype, or the model needs more than a frame.
            EngineFailed: No engine could execute the step.
        """
        return self.stream()(image)

    def stream(self) -> ModelStream:
        """Start a stream of images whose state is kept from call to call."""
        return ModelStream(self)

    @checked
    def run(
        self,
        source: str | Path,
        *,
        rate: float | Literal["all"] | None = None,
        gate: bool = False,
        latency_ms: float | None = None,
        transport: Literal["tcp", "udp"] = "tcp",
        source_fps: float | None = None,
        decoder: str = "software",
        skip_loop_filter: bool = False,
        frames: bool = False,
    ) -> Iterator[Result]:
        """Run on a file or a camera, as `edgevid run` does, and iterate over the results.

        A file is read completely, at the pace at which results are taken. A camera runs until the
        iterator is closed; results that are not taken in time are dropped, the oldest first.

        Args:
            source: A file, a URL or a device; see ``edgevid run --help``.
            rate: Steps per second, or ``all`` for every frame. Default: the model's own rate.
            gate: Skip steps while the scene is still.
            latency_ms: Drop frames of a camera that would exceed this latency.
            transport: Transport of RTSP.
            source_fps: The true rate of a file in frames per second. Default: its time stamps, or
                the rate in its bitstream.
            decoder: ``software``, ``auto``, or a device such as ``vaapi``.
            skip_loop_filter: Decode faster, with slightly coarser images.
            frames: Keep each frame's image in `Result.frame`.

        Yields:
            One `Result` per step, in the order of the stream.

        Raises:
            WrongType: An argument has another type; raised by the call, the others by the iterator.
            BadInput: The source does not exist, or an option has a wrong value.
            BadVideo: The source has no usable frames.
            EngineFailed: No engine could execute a step.
        """
        from edgevid.runner.config import BundleUse, CameraUse, RunConfig

        if transport not in ("tcp", "udp"):
            raise BadInput(f"transport must be tcp or udp, not {transport!r}")
        if latency_ms is not None and not latency_ms > 0:
            raise BadInput(f"latency_ms must be a number above 0, not {latency_ms!r}")
        if source_fps is not None and not source_fps > 0:
            raise BadInput(f"source_fps must be a number above 0, not {source_fps!r}")
        path = self.bundle.path
        asked = None if rate is None else str(rate)
        use = BundleUse(path.stem, path, threads=self._threads, rate=asked, **self._choice)
        camera = CameraUse(
            "",
            str(source),
            gate=gate,
            latency_ms=latency_ms,
            transport=transport,
            source_fps=source_fps,
            decoder=decoder,
            skip_loop_filter=skip_loop_filter,
        )
        yield from _results(RunConfig((use,), (camera,)), self._log, frames=frames)

    def close(self) -> None:
        """Free the engine. The model can still be used; the engine is then opened again."""
        failover, self._failover = self._failover, None
        if failover is not None:
            failover.close()

    def __enter__(self) -> Model:
        """Return the model itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the model."""
        self.close()

    @property
    def _engine(self) -> EngineFailover:
        if self._failover is None:
            from edgevid import targets
            from edgevid.runner.engine_failover import EngineFailover
            from edgevid.runner.engines import choices

            wanted = choices(self.bundle, targets.load("local"), **self._choice)
            self._failover = EngineFailover(
                self.bundle, wanted, threads=self._threads, report=self._log
            )
        return self._failover


def _results(config: RunConfig, log: Log, *, frames: bool) -> Iterator[Result]:
    """Run a configuration in a thread of its own, and yield what it gives."""
    from edgevid.runner.assembly import GivenSink
    from edgevid.runner.service import Service
    from edgevid.sinks.handover import FrameHandover, Handover

    handover = FrameHandover() if frames else Handover()
    # as on the command line, what can never be opened is an error
    service = Service(config, [GivenSink("python", "handover", handover)], in_turn=True, report=log)
    failure: list[BaseException] = []

    def work() -> None:
        try:
            service.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failure.append(error)
        finally:
            handover.end()

    thread = threading.Thread(target=work, name="edgevid run", daemon=True)
    thread.start()
    try:
        yield from handover
    finally:
        handover.abandon()
        service.stop()
        thread.join()
    if failure:
        raise failure[0]


def _check_image(image: Any) -> None:
    shape, dtype = getattr(image, "shape", None), getattr(image, "dtype", None)
    if shape is None or dtype is None:
        raise WrongType(
            f"an image must be a numpy array, uint8 (H, W, 3) RGB; this is a {type(image).__name__}"
        )
    if len(shape) != 3 or shape[2] != 3 or 0 in shape or str(dtype) != "uint8":
        raise BadInput(f"an image must be uint8 (H, W, 3) RGB; this one is {dtype} {shape}")


class ModelStream:
    """A stream of images through a model: one step per call, with the state kept in between.

    Use a model and its streams from one thread at a time.
    """

    def __init__(self, model: Model) -> None:
        from edgevid.media.preprocessing import Preprocessor
        from edgevid.runner.stream import Stream
        from edgevid.tasks import open_task

        self._model = model
        self._input = model.contract.require_video(str(model.bundle.path))
        self._preprocessor = Preprocessor(self._input)
        self._stream = Stream(model.contract)
        self._task = open_task(model.contract)
        self._index = 0

    @property
    def warm(self) -> bool:
        """Whether the last prediction saw as many frames as the model can remember."""
        return self._stream.warm

    def reset(self) -> None:
        """Start again from an empty state."""
        self._stream.reset()

    def __call__(self, image: NDArray[np.uint8]) -> Prediction:
        """Take one step.

        Args:
            image: uint8 ``(H, W, 3)``, RGB, of any size.

        Returns:
            The task's prediction, with coordinates in pixels of ``image``.

        Raises:
            BadInput: The image has another shape or dtype.
            EngineFailed: No engine could execute the step; the state is as it was.
        """
        from av import VideoFrame

        _check_image(image)
        pixels = self._preprocessor.apply(VideoFrame.from_ndarray(image, format="rgb24"))
        height, width = image.shape[:2]
        outputs = self._step({self._input.name: pixels})
        transform = self._preprocessor.transform
        frame = FrameMeta(width, height, self._index, to_source=transform.to_source)
        prediction: Prediction = self._task.decode(outputs, frame)
        self._index += 1
        return prediction

    def _step(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        engine = self._model._engine
        while True:
            try:
                return self._stream.step(engine, inputs)
            except EngineFailed as error:
                engine.lost(error)
