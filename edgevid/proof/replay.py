"""Replay the golden trajectories on an engine, and compare its outputs with the recorded ones."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgevid.contract import Contract
from edgevid.errors import EdgevidError, MissingExtra
from edgevid.proof.golden import SOURCE, Golden, RecordedOutputs, Trajectory
from edgevid.tasks import model_frame, open_task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid.bundle import Bundle
    from edgevid.contract import Tensors
    from edgevid.predictions import Prediction
    from edgevid.runtimes import Engine

SOURCE_TOLERANCE: Mapping[str, float] = {
    "float32": 1e-4,
    "float16": 0.02,
    "bf16": 0.05,
    "dynamic": 0.4,
    "int16x8": 0.4,
    "int8": 0.75,
}
"""Largest difference from the source model, by the precision that ran, and by quantisation."""
OWN_TOLERANCE: Mapping[str, float] = {
    "float32": 1e-4,
    "float16": 0.02,
    "bf16": 0.05,
    "dynamic": 0.15,
    "int16x8": 0.05,
    "int8": 0.25,
}
"""Largest difference from the artifact's own outputs on the CPU that made the bundle."""
SENSITIVITY_FACTOR = 8.0
"""An artifact may differ from its source by this many times the source's own movement when its
inputs move by one unit in the last place; other kernels round in every layer, not at the input
alone. Sound artifacts of sensitive models differ by one to three times that movement."""
MOST_ALLOWED: Mapping[str, float] = {"float32": 0.01, "float16": 0.5}
"""What a single value of the most sensitive model is allowed, by precision. A wrong model differs
by more, or by more on average, which is limited too."""
DENSE, TYPICAL = 1000, 0.999
"""In integers, of a tensor with this many values a step, this share must be within the tolerance: a
map has single values, far from any object, that mean nothing. The mean error is limited as well."""
PEAKS = 0.5
"""Of those values of such a tensor that stand out most, one in a thousand of each step, the mean
error may be this share of their mean distance from the median: a detector's few peaks have to be
there, however little they weigh among all values."""
CONSTANT = 1e-6
"""A tensor whose values differ by less than this share of their size is constant."""
UNEXPLAINED, QUANTUM = 0.5, 0.01
"""A tensor's mean error may be this share of its own mean deviation, and this share of its range:
an engine that mixes up the scores of an unsure model stays within any absolute tolerance."""
SOURCE_UNEXPLAINED = 0.3
"""The same share against the source: good int8 has a tenth of it, int8 calibrated on a
state that is always zero has more."""
NOTHING_WIDER: Mapping[str, float] = {}
INTEGERS = ("dynamic", "int8", "int16x8")
PIXEL_TOLERANCE = 2.0
"""Mean absolute difference of decoded and scaled pixels, of 255."""
MOST_CLIP_FRAMES = 64
"""Frames of a golden clip; a conversion makes 5."""


def source_tolerances(quantize: str) -> dict[str, float]:
    """Return how far an artifact may differ from its source, by the precision that ran.

    Rounded weights stay rounded, whatever precision computes with them.
    """
    least = SOURCE_TOLERANCE.get(quantize, 0.0)
    return {precision: max(least, allowed) for precision, allowed in SOURCE_TOLERANCE.items()}


def allowed_movement(precision: str, moves: float) -> float:
    """Return how far an artifact of a sensitive model may differ from its source.

    Args:
        precision: ``float32`` or ``float16``.
        moves: How far the source moves when its inputs move by one unit in the last place of this
            precision; in units of the tensor's range where that exceeds 1.
    """
    base = SOURCE_TOLERANCE[precision]
    return max(base, min(MOST_ALLOWED[precision], float(f"{SENSITIVITY_FACTOR * moves:.3g}")))


def own_tolerances(quantize: str) -> dict[str, float]:
    """Return how far an artifact may differ from its own outputs elsewhere, by precision.

    An integer artifact runs in integers or not at all; others may run in any float.
    """
    if quantize in ("int8", "int16x8"):
        return {quantize: OWN_TOLERANCE[quantize]}
    floats = {name: OWN_TOLERANCE[name] for name in ("float32", "float16", "bf16")}
    return floats | ({quantize: OWN_TOLERANCE[quantize]} if quantize == "dynamic" else {})


@dataclass(frozen=True)
class ReplayResult:
    """How an engine's outputs compare with the recorded ones.

    Attributes:
        ok: Whether the engine may serve.
        precision: The precision that ran.
        max_abs: Largest difference over outputs and state, recorded and carried, in units of the
            tensor's range if that exceeds 1; NaN if anything is not finite.
        tolerance: What ``max_abs`` may be.
        agreement: The task's agreement over the warm steps, 0 to 1; None if there are none.
        reason: Why the engine may not serve.
        tensor: The output or ``next_<state>`` that ``max_abs`` is of; empty if nothing differs.
        steps: How many warm steps ``agreement`` rests on.
    """

    ok: bool
    precision: str
    max_abs: float
    tolerance: float
    agreement: float | None = None
    reason: str | None = None
    tensor: str = ""
    steps: int = 0


def record_outputs(engine: Engine, trajectory: Trajectory) -> RecordedOutputs:
    """Run an engine over a trajectory, once with the recorded state and once with its own.

    Raises:
        EngineFailed: A step failed.
    """
    import numpy as np

    def run(recorded: bool) -> Iterator[dict[str, NDArray[Any]]]:
        state: Tensors = trajectory.state_at(0)
        for step in range(len(trajectory)):
            if recorded:
                state = trajectory.state_at(step)
            outputs, state = engine.step(trajectory.inputs_at(step), state)
            yield {**outputs, **({f"next_{n}": v for n, v in state.items()} if recorded else {})}

    def stacked(rows: Iterable[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        listed = list(rows)
        return {name: np.stack([row[name] for row in listed]) for name in listed[0]}

    return RecordedOutputs(stacked(run(recorded=True)), stacked(run(recorded=False)))


def replay(
    engine: Engine,
    golden: Golden,
    contract: Contract,
    against: str = SOURCE,
    tolerances: Mapping[str, float] | None = None,
    wider: Mapping[str, float] | None = None,
) -> tuple[ReplayResult, tuple[RecordedOutputs, ...]]:
    """Replay the golden trajectories on an engine and compare.

    Args:
        engine: The engine.
        golden: The trajectories.
        contract: The engine's contract.
        against: Whose outputs are expected: the source's, or those of the artifact of this name.
        tolerances: By precision; a precision that is not listed gets the strictest.
        wider: Output or ``next_<state>`` -> its own tolerance where the model is that sensitive.

    Returns:
        The comparison, and the engine's outputs on each trajectory.

    Raises:
        EngineFailed: A step failed.
    """
    recorded = tuple(record_outputs(engine, one) for one in golden.trajectories)
    if against == SOURCE:
        expected = tuple(one.source_outputs() for one in golden.trajectories)
        known = tolerances or SOURCE_TOLERANCE
    else:
        expected, known = golden.references[against], tolerances or OWN_TOLERANCE
    tolerance = known.get(engine.precision, min(known.values()))
    share = SOURCE_UNEXPLAINED if against == SOURCE else UNEXPLAINED
    found = compare(expected, recorded, contract, engine.precision, tolerance, share, wider or {})
    return found, recorded


def replay_artifact(
    engine: Engine, golden: Golden, bundle: Bundle, artifact: str
) -> tuple[ReplayResult, tuple[RecordedOutputs, ...]]:
    """Replay against the artifact's own recorded outputs, or the source's if it has none.

    Raises:
        EngineFailed: A step failed.
    """
    described = bundle.artifact(artifact)
    against = artifact if artifact in golden.references else SOURCE
    tolerances = described.tolerance if against == artifact else None
    wider = described.tensor_tolerance
    return replay(engine, golden, bundle.contract, against, tolerances, wider)


def compare(
    expected: Sequence[RecordedOutputs],
    given: Sequence[RecordedOutputs],
    contract: Contract,
    precision: str,
    tolerance: float,
    unexplained: float = UNEXPLAINED,
    wider: Mapping[str, float] = NOTHING_WIDER,
) -> ReplayResult:
    """Compare an engine's outputs with the expected ones.

    Values that are not finite and wrong shapes fail, whatever the tolerance.

    Args:
        expected: The expected outputs on each trajectory.
        given: The engine's outputs on each trajectory.
        contract: The engine's contract.
        precision: The precision that ran.
        tolerance: The largest difference to accept.
        unexplained: Largest mean error as a share of a tensor's mean deviation.
        wider: Tensor -> its own tolerance, if that exceeds ``tolerance``.
    """
    worst, excess, strange = _Worst(tolerance=tolerance), _Worst(tolerance=tolerance), ""
    for what, want, got in _pairs(expected, given):
        tensor = what.partition(" of trajectory ")[0]
        allowed = max(tolerance, wider.get(tensor, 0.0))
        found = _Worst(_difference(want, got), allowed, tensor, what)
        if not found.off <= worst.off:  # NaN is worse than everything
            worst = found
        judged = _judged(want, got, precision, found.off)
        if not judged <= max(allowed, excess.off):
            excess = replace(found, off=judged)
        if got is None or found.off != found.off:
            break
        strange = strange or (what if _is_strange(want, got, unexplained) else "")
    agreement, steps = _agreement(expected, given, contract)
    shown, reason = worst, None
    if worst.off != worst.off:
        reason = f"{worst.what} has values that are not numbers, or another shape"
    elif excess.what:
        shown = excess
        reason = f"{excess.what} is off by {excess.off:.3g}, more than {excess.tolerance:g}"
    elif strange:
        reason = f"{strange} has little to do with what was recorded"
    return ReplayResult(
        reason is None,
        precision,
        shown.off,
        shown.tolerance,
        agreement,
        reason,
        shown.tensor,
        steps,
    )


@dataclass(frozen=True)
class _Worst:
    """The largest difference so far, what it may be, and where it is."""

    off: float = 0.0
    tolerance: float = 0.0
    tensor: str = ""
    what: str = ""


def _pairs(
    expected: Sequence[RecordedOutputs], given: Sequence[RecordedOutputs]
) -> Iterator[tuple[str, NDArray[Any], NDArray[Any] | None]]:
    """Every expected tensor with its counterpart, and a name for messages."""
    for index, (want, got) in enumerate(zip(expected, given, strict=True)):
        for kind in ("recorded", "carried"):
            theirs = getattr(got, kind)
            for name, values in getattr(want, kind).items():
                yield f"{name} of trajectory {index} ({kind} state)", values, theirs.get(name)


def _judged(want: NDArray[Any], got: NDArray[Any] | None, precision: str, largest: float) -> float:
    """The difference that a tolerance limits: of a dense tensor in integers not the largest."""
    import numpy as np

    if precision not in INTEGERS or want[0].size < DENSE or got is None or largest != largest:
        return largest
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    return float(np.quantile(np.abs(got - want), TYPICAL)) / scale


def _difference(want: NDArray[Any], got: NDArray[Any] | None) -> float:
    """The largest difference in units of max(1, range); NaN if the tensors cannot be compared."""
    import numpy as np

    if got is None or got.shape != want.shape or not np.isfinite(got).all():
        return float("nan")
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    return float(np.abs(got - want).max(initial=0)) / scale


def _is_strange(want: NDArray[Any], got: NDArray[Any], unexplained: float) -> bool:
    """Whether values do not follow the recorded ones, however close they are."""
    import numpy as np

    reach, size = float(np.ptp(want)), float(np.abs(want).max(initial=0))
    error = float(np.abs(got - want).mean())
    if reach <= CONSTANT * size:  # there is nothing to follow
        return not error <= QUANTUM * max(1.0, size)
    deviation = float(np.abs(want - want.mean()).mean())
    if not error <= unexplained * deviation + QUANTUM * reach:
        return True
    return want[0].size >= DENSE and _loses_peaks(want, got, QUANTUM * reach)


def _loses_peaks(want: NDArray[Any], got: NDArray[Any], quantum: float) -> bool:
    """Whether the few values that stand out most are not there."""
    import numpy as np

    rows, given = want.reshape(len(want), -1), got.reshape(len(want), -1)
    out = np.abs(rows - np.median(rows, axis=1, keepdims=True))
    count = round(rows.shape[1] * (1 - TYPICAL))
    places = np.argpartition(out, -count, axis=1)[:, -count:]
    error = np.take_along_axis(np.abs(given - rows), places, axis=1).mean()
    return not error <= PEAKS * np.take_along_axis(out, places, axis=1).mean() + quantum


def _agreement(
    expected: Sequence[RecordedOutputs], given: Sequence[RecordedOutputs], contract: Contract
) -> tuple[float | None, int]:
    """Return the task's agreement over the warm steps of the carried runs, and their number."""
    task, frame = open_task(contract), model_frame(contract)

    def decode(outputs: Sequence[RecordedOutputs]) -> list[Prediction]:
        return [
            task.decode({name: values[step] for name, values in one.carried.items()}, frame)
            for one in outputs
            for step in range(contract.warm_after - 1, _steps(one))
        ]

    wanted = decode(expected) if _comparable(expected, given) else []
    return (task.agreement(wanted, decode(given)) if wanted else None), len(wanted)


def _steps(outputs: RecordedOutputs) -> int:
    return min((len(values) for values in outputs.carried.values()), default=0)


def _comparable(expected: Sequence[RecordedOutputs], given: Sequence[RecordedOutputs]) -> bool:
    """Tell whether every carried output has the shape that was recorded."""
    return all(
        name in got.carried and got.carried[name].shape == values.shape
        for want, got in zip(expected, given, strict=True)
        for name, values in want.carried.items()
    )


def check_pixels(golden: Golden, contract: Contract) -> str | None:
    """Decode and scale the golden clip; return what is wrong, or None if the pixels are right.

    The clip belongs to the contract's first frame input; a bundle without one has no clip.
    """
    import numpy as np

    if golden.pixels is None or not contract.frame_inputs:
        return None
    from edgevid.media.video import read_clip

    try:
        pixels = read_clip(
            io.BytesIO(golden.clip),
            contract.frame_inputs[0],
            contract.rate_fps,
            most_frames=MOST_CLIP_FRAMES,
        )
    except MissingExtra:
        return None  # nothing is decoded on a machine without a decoder
    except EdgevidError as error:
        return f"the golden clip cannot be decoded here: {error}"
    if pixels.shape != golden.pixels.shape:
        return f"the golden clip gives {len(pixels)} frames, not {len(golden.pixels)}"
    off = float(np.abs(pixels.astype(np.int16) - golden.pixels).mean())
    if off <= PIXEL_TOLERANCE:
        return None
    return f"decoding and scaling are off by {off:.1f} of 255, more than {PIXEL_TOLERANCE:g}"
