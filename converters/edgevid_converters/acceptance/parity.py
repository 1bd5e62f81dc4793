"""Parity: how far an artifact's tensors are from the source model's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgevid import registry
from edgevid.bundle import Artifact
from edgevid.errors import MissingExtra
from edgevid.evidence import TensorDifference
from edgevid.proof.replay import SENSITIVITY_FACTOR, SOURCE_TOLERANCE
from edgevid.proof.verify import runtimes_for

if TYPE_CHECKING:
    from edgevid.proof import Golden
    from edgevid.proof.golden import RecordedOutputs
    from edgevid_converters.calibration.sensitivity import Sensitivities


MEAN_SHARE = 0.1
"""The mean difference of a sensitive tensor may be this share of the usual tolerance."""


def differences(golden: Golden, recorded: Sequence[RecordedOutputs]) -> dict[str, TensorDifference]:
    """Measure the differences from the source model by tensor.

    Args:
        golden: The golden trajectories, with the source model's tensors.
        recorded: What the artifact computed on each of them.

    Returns:
        Tensor name -> difference over all trajectories, with recorded and with carried state.
    """
    import numpy as np

    parts: dict[str, list[Any]] = {}
    ranges: dict[str, float] = {}
    for trajectory, given in zip(golden.trajectories, recorded, strict=True):
        wanted = trajectory.source_outputs()
        for kind in ("recorded", "carried"):
            for name, values in getattr(wanted, kind).items():
                off = np.abs(getattr(given, kind)[name] - values).ravel()
                parts.setdefault(name, []).append(off)
                largest = float(np.abs(values).max(initial=0))
                ranges[name] = max(ranges.get(name, 0.0), largest)
    found = {}
    for name, listed in sorted(parts.items()):
        off = np.concatenate(listed) / max(1.0, ranges[name])
        finite = bool(np.isfinite(off).all())
        found[name] = TensorDifference(
            max_abs=_short(off.max()) if finite else None,
            mean_abs=_short(off.mean()) if finite else None,
            range=_short(ranges[name]),
        )
    return found


def _short(value: Any) -> float:
    """Round to six digits: enough to read, and the same everywhere."""
    return float(f"{float(value):.6g}")


def wider_tolerances(quantize: str, sensitivity: Sensitivities) -> dict[str, float]:
    """Return the tensors of which a float artifact is allowed more than usual, and how much.

    Args:
        quantize: The artifact's quantisation.
        sensitivity: That of the source model.
    """
    base = SOURCE_TOLERANCE.get(quantize, 0.0)
    tensors = sensitivity.get(quantize, {})
    return {name: one.allowed for name, one in tensors.items() if one.allowed > base}


def systematic_difference(
    quantize: str, found: Mapping[str, TensorDifference], sensitivity: Sensitivities
) -> str | None:
    """Explain why the differences of a sensitive model are more than rounding; None if they aren't.

    Single values of such a model may be far off, but not all of them together.
    """
    tensors = sensitivity.get(quantize, {})
    for name in wider_tolerances(quantize, sensitivity):
        mean, usual = found[name].mean_abs, SENSITIVITY_FACTOR * tensors[name].mean_abs
        most = max(MEAN_SHARE * SOURCE_TOLERANCE[quantize], usual)
        if mean is None or not math.isfinite(mean):
            return f"{name} differs from the model's by values that are not finite"
        if mean > most:
            return f"{name} is off by {mean:.3g} on average, more than {most:.3g}"
    return None


def describe_sensitivity(tensor: str, quantize: str, sensitivity: Sensitivities) -> str:
    """Describe how sensitive a tensor of the source model is, as the end of a sentence.

    Args:
        tensor: The output or ``next_<state>``.
        quantize: The artifact's quantisation.
        sensitivity: That of the source model.
    """
    found = sensitivity.get(quantize, {}).get(tensor)
    if found is None:
        return ""
    unit = "" if quantize == "float32" else f" of {quantize}"
    return (
        f" (in the model itself it moves by {found.max_abs:.2g} when the input moves by one unit "
        f"in the last place{unit})"
    )


def reference_runtime(artifact: Artifact) -> str:
    """Return the runtime whose outputs on this machine's CPU count as the artifact's own.

    Raises:
        MissingExtra: No runtime for the format is installed.
    """
    names = runtimes_for(artifact.format)
    if not names:
        raise MissingExtra(registry.install_line(f"a runtime for {artifact.format}", "convert"))
    return names[0]
