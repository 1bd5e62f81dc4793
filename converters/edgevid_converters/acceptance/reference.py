"""The owner's outputs: what an imported model computes where its owner runs it.

Source and artifact get their input through one contract, so a wrong colour order or scale in it
cancels out when they are compared. Outputs that were recorded elsewhere do not share it.

A file is an ``.npz`` of one stream: for each input of the contract an array of one row per step, by
its name (a frame is uint8 RGB ``(N, height, width, 3)`` of the contract's size), and one array
``(N, ...)`` for each recorded output, by the contract's names. The stream starts with a zero state.
A folder holds several files.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid import registry
from edgevid.contract import Contract, Input
from edgevid.errors import BadInput, CheckFailed
from edgevid.evidence import ReferenceRecord
from edgevid_converters.calibration.trajectories import row_shape, steps_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

TOLERANCE = 1e-3
"""Largest difference from the owner's outputs, as a share of the output's range if over 1."""


@dataclass(frozen=True)
class OwnerOutputs:
    """The owner's outputs for some streams.

    Attributes:
        path: Where they were read from.
        streams: For each stream its inputs, name -> ``(N, *shape)``, uint8 for frames, else
            float32.
        outputs: For each stream the owner's outputs, name -> float32 ``(N, *shape)``.
    """

    path: Path
    streams: tuple[Arrays, ...]
    outputs: tuple[Arrays, ...]

    def check(self, given: Sequence[Arrays], contract: str) -> ReferenceRecord:
        """Compare them with the model's own outputs through its contract.

        Args:
            given: For each stream the model's outputs, name -> float32 ``(N, *shape)``.
            contract: The file that describes the preprocessing, for the error.

        Raises:
            CheckFailed: The outputs differ by more than `TOLERANCE`.
        """
        import numpy as np

        worst, where = 0.0, ""
        for index, (wanted, got) in enumerate(zip(self.outputs, given, strict=True)):
            for name, values in wanted.items():
                scale = max(1.0, float(np.abs(values).max(initial=0)))
                off = np.abs(got[name] - values).reshape(len(values), -1).max(1) / scale
                step = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
                if not off[step] <= worst:  # NaN counts as the worst
                    worst, where = float(off[step]), f"{name} at step {step} of stream {index}"
                if worst != worst:
                    break
        if not worst <= TOLERANCE:
            raise CheckFailed(
                f"the model does not reproduce its owner's outputs in {self.path}: {where} is "
                "off by "
                f"{worst:.3g}, more than {TOLERANCE:g}; check colour, scale, mean and std in "
                f"{contract}"
            )
        digest = hashlib.sha256()
        for stream, outputs in zip(self.streams, self.outputs, strict=True):
            for name in sorted(stream):
                digest.update(stream[name].tobytes())
            for name in sorted(outputs):
                digest.update(name.encode() + outputs[name].tobytes())
        steps = sum(map(steps_of, self.streams))
        return ReferenceRecord(steps, float(f"{worst:.6g}"), digest.hexdigest())


def read_reference(path: Path, contract: Contract) -> OwnerOutputs:
    """Read the owner's outputs from an ``.npz`` or a folder of them.

    Raises:
        BadInput: There is none, or an array does not fit the contract.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path} does not exist; give an .npz of inputs and their owner's outputs")
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"{path} has no .npz in it; give inputs and their owner's outputs")
    pairs = [_read(file, contract) for file in files]
    return OwnerOutputs(path, tuple(s for s, _ in pairs), tuple(a for _, a in pairs))


def _read(
    file: Path, contract: Contract
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    import numpy as np

    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{file} is not a readable .npz file ({error})") from None
    shapes = {output.name: output.shape[1:] for output in contract.outputs}
    inputs = {one.name: one for one in contract.inputs}
    known = (*inputs, *shapes)
    if strange := sorted(set(arrays) - set(known)):
        raise BadInput(f"{file}: {registry.unknown('array', strange[0], known)}")
    if missing := [name for name in inputs if name not in arrays]:
        raise BadInput(
            f"{file} needs an array {missing[0]!r}, and outputs: {', '.join(sorted(shapes))}"
        )
    if len(arrays) == len(inputs):
        raise BadInput(
            f"{file} has no outputs; give inputs and outputs: {', '.join(sorted(shapes))}"
        )
    first = arrays[contract.inputs[0].name]
    count = len(first) if first.ndim else 0
    stream = {
        name: _rows(file, one, arrays.pop(name), count) for name, one in sorted(inputs.items())
    }
    return stream, {
        name: _shaped(file, name, values, (count, *shapes[name]))
        for name, values in sorted(arrays.items())
    }


def _rows(file: Path, one: Input, values: NDArray[Any], count: int) -> NDArray[Any]:
    """Check the rows of one input: uint8 (N, H, W, 3) for a frame, else float32 (N, ...)."""
    if one.kind == "frame" and values.dtype != one.dtype:
        raise BadInput(
            f"{file}: {one.name} is {values.dtype}, not uint8; give the pixels before any "
            "arithmetic"
        )
    return _shaped(file, one.name, values, (count, *row_shape(one)), one.dtype)


def _shaped(
    file: Path, name: str, values: NDArray[Any], shape: tuple[int, ...], dtype: Any = None
) -> NDArray[Any]:
    """Check that rows have a shape, with or without a batch axis of 1, and are finite."""
    import numpy as np

    batched = (shape[0], 1, *shape[1:])
    fits = values.dtype.kind in "fiub" and values.shape in (shape, batched)
    if not fits or not len(values) or not np.isfinite(values).all():
        raise BadInput(
            f"{file}: {name} is {values.dtype} {list(values.shape)}; give finite numbers of "
            f"the shape {['N', *shape[1:]]}, as many rows as there are inputs"
        )
    return np.ascontiguousarray(values.reshape(shape), dtype or np.float32)
