"""Streams recorded from the source model: what calibrates, what proves, what is compared.

A state that was never reached calibrates nothing: with all-zero states int8 models lose half of
their accuracy. So the source model streams real clips, and its real memory is recorded.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.contract import Contract, Signal
from edgevid.errors import BadInput
from edgevid.proof import Trajectory
from edgevid.runtimes import zero_state

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid_converters.importers.source import ReferenceModel

    Clip = NDArray[np.uint8]

CALIBRATION_STEPS = 384
GOLDEN_TRAJECTORIES = 2
GOLDEN_STEPS_BEYOND_T = 4


def stream(
    model: ReferenceModel, contract: Contract, frames: Clip
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Stream frames (N, H, W, 3) from an empty memory; yield each step's inputs and outputs.

    Where the step takes a signal, frames are the pieces of it, one after another.
    """
    state = zero_state(contract)
    for number in range(len(frames)):
        inputs = {contract.main: frames[number : number + 1]}
        inputs |= {s.taken: state[s.name] for s in contract.states}
        given = model.step(inputs)
        state = {s.name: given[s.given] for s in contract.states}
        yield inputs, given


def calibration(
    model: ReferenceModel, contract: Contract, clips: Iterable[Clip], limit: int = CALIBRATION_STEPS
) -> dict[str, NDArray[Any]]:
    """Record the inputs of steps over clips, evenly thinned: input name -> (N, *shape)."""
    import numpy as np

    rows = [inputs for clip in clips for inputs, _ in stream(model, contract, clip)]
    kept = np.unique(np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int))
    return {name: np.stack([rows[k][name] for k in kept]) for name in rows[0]}


def golden(model: ReferenceModel, contract: Contract, clips: Sequence[Clip]) -> list[Trajectory]:
    """Record the golden trajectories, each long enough to be warm for some steps."""
    steps = contract.frames + GOLDEN_STEPS_BEYOND_T
    count = min(GOLDEN_TRAJECTORIES, len(clips))
    return [
        _trajectory(model, contract, _at_least(clips[start::count], steps))
        for start in range(count)
    ]


def _at_least(clips: Sequence[Clip], steps: int) -> Clip:
    """Join clips, over again if need be, until there are ``steps`` frames."""
    import numpy as np

    joined = np.concatenate(list(clips))
    return np.concatenate([joined] * (1 + steps // len(joined)))[:steps]


def _trajectory(model: ReferenceModel, contract: Contract, frames: Clip) -> Trajectory:
    import numpy as np

    taken = list(stream(model, contract, frames))
    empty = zero_state(contract)
    return Trajectory(
        frames[:, None],
        {o.name: np.stack([given[o.name] for _, given in taken]) for o in contract.outputs},
        {
            s.name: np.stack([empty[s.name], *(given[s.given] for _, given in taken)])
            for s in contract.states
        },
    )


def last_outputs(
    model: ReferenceModel, contract: Contract, clips: Sequence[Clip]
) -> dict[str, NDArray[np.float32]]:
    """The answers at each clip's last frame: output name -> (clips, *shape)."""
    import numpy as np

    at_once = model.last_outputs(clips)
    if at_once is not None:
        return at_once
    last = [list(stream(model, contract, clip))[-1][1] for clip in clips]
    return {o.name: np.stack([given[o.name] for given in last]) for o in contract.outputs}


def answers(
    model: ReferenceModel, contract: Contract, frames: Clip
) -> dict[str, NDArray[np.float32]]:
    """The answers at every step of one stream: output name -> (N, *shape without its batch)."""
    import numpy as np

    given = [given for _, given in stream(model, contract, frames)]
    return {o.name: np.concatenate([one[o.name] for one in given]) for o in contract.outputs}


def write_clips(file: Path, clips: Sequence[Clip]) -> None:
    """Keep clips of any lengths in one ``.npz``."""
    import numpy as np

    arrays: dict[str, Any] = {f"{index:06}": clip for index, clip in enumerate(clips)}
    with file.open("wb") as opened:
        np.savez(opened, **arrays)


def read_clips(file: Path) -> Iterator[Clip]:
    """Read what `write_clips` kept, one clip at a time."""
    import numpy as np

    with np.load(file, allow_pickle=False) as archive:
        for name in sorted(archive.files):
            yield archive[name]


def read_signal(file: Path, signal: Signal) -> NDArray[np.float32]:
    """Read the pieces of a signal, in their order, from an ``.npz``: float32 (N, *shape[1:]).

    Raises `BadInput` where the file has no array of the signal's name and shape.
    """
    import numpy as np

    try:
        with np.load(file, allow_pickle=False) as archive:
            found = archive[signal.name] if signal.name in archive.files else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{file} is no .npz file that can be read ({error})") from None
    shape = signal.shape[1:]
    if found is None or found.shape[1:] != shape or not len(found) or found.dtype.kind not in "fiu":
        raise BadInput(
            f"{file} needs an array {signal.name!r} of the shape (N, {', '.join(map(str, shape))})"
        )
    pieces: NDArray[np.float32] = found.astype(np.float32)
    return pieces


def write_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """Write each array to ``folder/<name>.npy``; gives the paths by name."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, values in arrays.items():
        paths[name] = str(folder / f"{name}.npy")
        np.save(paths[name], values, allow_pickle=False)
    return paths


def read_arrays(folder: Path) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote."""
    import numpy as np

    return {file.stem: np.load(file, allow_pickle=False) for file in sorted(folder.glob("*.npy"))}
