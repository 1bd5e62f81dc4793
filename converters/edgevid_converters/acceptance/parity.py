"""Parity: how far an artifact's tensors are from the source model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgevid import registry
from edgevid.bundle import Artifact
from edgevid.errors import MissingExtra
from edgevid.evidence import TensorDifference
from edgevid.proof.verify import runtimes_for

if TYPE_CHECKING:
    from edgevid.proof import Golden
    from edgevid.proof.golden import RecordedOutputs


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


def reference_runtime(artifact: Artifact) -> str:
    """Return the runtime whose outputs on this machine's CPU count as the artifact's own.

    Raises:
        MissingExtra: No runtime for the format is installed.
    """
    names = runtimes_for(artifact.format)
    if not names:
        raise MissingExtra(registry.install_line(f"a runtime for {artifact.format}", "convert"))
    return names[0]
