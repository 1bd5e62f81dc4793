"""The owner's answers: what an imported model gives where its owner feeds it.

Source and artifact are fed through one contract, so a wrong colour order or scale in it cancels out
in every comparison between them. Answers that were made elsewhere do not share it.

A file is an ``.npz`` of one stream: ``frame``, uint8 RGB (N, height, width, 3) of the contract's
size, or the signal by its name; and one array (N, ...) for each output that there are answers of,
by the contract's names. Each row is one step, from an empty memory on. A folder has several.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid import registry
from edgevid.contract import FRAME, Contract
from edgevid.errors import BadInput, CheckFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

TOLERANCE = 1e-3
"""The largest difference from the owner's answers, in units of an output's range where that
exceeds 1."""


@dataclass(frozen=True)
class Reference:
    """Streams as their owner fed them, and the owner's answers: output -> (N, *shape)."""

    path: Path
    streams: tuple[NDArray[Any], ...]
    answers: tuple[Arrays, ...]

    def check(self, given: Sequence[Arrays], contract: str) -> dict[str, Any]:
        """Compare with the model's own outputs through its contract; returns the evidence.

        ``contract`` names the file that describes the preprocessing.

        Raises:
            CheckFailed: The outputs differ by more than `TOLERANCE`.
        """
        import numpy as np

        worst, where = 0.0, ""
        for index, (wanted, got) in enumerate(zip(self.answers, given, strict=True)):
            for name, values in wanted.items():
                scale = max(1.0, float(np.abs(values).max(initial=0)))
                off = np.abs(got[name] - values).reshape(len(values), -1).max(1) / scale
                step = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
                if not off[step] <= worst:  # NaN is worse than everything
                    worst, where = float(off[step]), f"{name} at step {step} of stream {index}"
                if worst != worst:
                    break
        if not worst <= TOLERANCE:
            raise CheckFailed(
                f"the model does not give its owner's answers in {self.path}: {where} is off by "
                f"{worst:.3g}, more than {TOLERANCE:g}; check colour, scale, mean and std in "
                f"{contract}"
            )
        digest = hashlib.sha256()
        for stream, answers in zip(self.streams, self.answers, strict=True):
            digest.update(stream.tobytes())
            for name in sorted(answers):
                digest.update(name.encode() + answers[name].tobytes())
        return {
            "steps": sum(map(len, self.streams)),
            "max_abs": float(f"{worst:.6g}"),
            "sha256": digest.hexdigest(),
        }


def read_reference(path: Path, contract: Contract) -> Reference:
    """Read a file or a folder of them; raises `BadInput` that names what is wrong."""
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path} does not exist; give an .npz of inputs and their owner's answers")
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"{path} has no .npz in it; give inputs and their owner's answers")
    pairs = [_read(file, contract) for file in files]
    return Reference(path, tuple(s for s, _ in pairs), tuple(a for _, a in pairs))


def _read(file: Path, contract: Contract) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    import numpy as np

    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{file} is no .npz file that can be read ({error})") from None
    shapes = {output.name: output.shape[1:] for output in contract.outputs}
    if strange := sorted(set(arrays) - {contract.main, *shapes}):
        known = (contract.main, *shapes)
        raise BadInput(f"{file}: {registry.unknown('array', strange[0], known)}")
    if contract.main not in arrays or len(arrays) < 2:
        raise BadInput(
            f"{file} needs an array {contract.main!r}, and answers: {', '.join(sorted(shapes))}"
        )
    stream = _stream(file, arrays.pop(contract.main), contract)
    return stream, {
        name: _shaped(file, name, values, (len(stream), *shapes[name]))
        for name, values in sorted(arrays.items())
    }


def _stream(file: Path, values: NDArray[Any], contract: Contract) -> NDArray[Any]:
    """The inputs of the steps: (N, H, W, 3) uint8, or the pieces of a signal."""
    import numpy as np

    if contract.signal:
        shape = (len(values) if values.ndim else 0, *contract.signal.shape[1:])
        return _shaped(file, contract.signal.name, values, shape)
    frame = contract.frame
    shape = (len(values) if values.ndim else 0, frame.height, frame.width, 3)
    if values.dtype != np.uint8:
        raise BadInput(
            f"{file}: {FRAME} is {values.dtype}, not uint8; give the pixels before any arithmetic"
        )
    return _shaped(file, FRAME, values, shape, np.uint8)


def _shaped(
    file: Path, name: str, values: NDArray[Any], shape: tuple[int, ...], dtype: Any = None
) -> NDArray[Any]:
    """Rows of a shape, of which a batch axis of 1 may be there or not; finite."""
    import numpy as np

    batched = (shape[0], 1, *shape[1:])
    fits = values.dtype.kind in "fiub" and values.shape in (shape, batched)
    if not fits or not len(values) or not np.isfinite(values).all():
        raise BadInput(
            f"{file}: {name} is {values.dtype} {list(values.shape)}; it needs finite numbers of "
            f"the shape {['N', *shape[1:]]}, as many rows as there are inputs"
        )
    return np.ascontiguousarray(values.reshape(shape), dtype or np.float32)
