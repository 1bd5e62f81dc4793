"""Streams recorded from the source model, for calibration, proof and comparison.

Calibration needs states that a stream reaches: calibrated on zero states alone, int8 models lose
half of their accuracy. So the source model streams real clips, and its states are recorded.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.content import load_npz
from edgevid.contract import Contract, Input
from edgevid.errors import BadInput
from edgevid.proof import Trajectory
from edgevid.runtimes import zero_state

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid_converters.importers.source_model import Move, ReferenceModel

    Recording = Mapping[str, NDArray[Any]]
    """One stream: for each input by name one row per step, ``(N, *shape)`` without the batch
    axis."""

CALIBRATION_STEPS = 384
LEAST_CALIBRATION_STEPS = 48
CALIBRATION_VALUES = 1 << 26
"""Most values of all inputs and states that are kept: 256 MB of float32."""
GOLDEN_TRAJECTORIES = 2
GOLDEN_STEPS_BEYOND_T = 4


def stream(
    model: ReferenceModel, contract: Contract, recording: Recording, move: Move | None = None
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Stream a recording from a zero state.

    Args:
        model: The source model.
        contract: Its contract.
        recording: Input name -> one row per step, uint8 or float32 ``(N, *shape)``.
        move: See `edgevid_converters.importers.source_model.ReferenceModel.step`.

    Yields:
        For each step its inputs and states, and its outputs and next states, by full name.
    """
    state = zero_state(contract)
    for step in range(steps_of(recording)):
        inputs = _inputs_at(contract, recording, step)
        inputs |= {s.input_name: state[s.name] for s in contract.states}
        given = model.step(inputs) if move is None else model.step(inputs, move)
        state = {s.name: given[s.output_name] for s in contract.states}
        yield inputs, given


def calibration(
    model: ReferenceModel,
    contract: Contract,
    clips: Iterable[Recording],
    limit: int = CALIBRATION_STEPS,
) -> dict[str, NDArray[Any]]:
    """Record the inputs and states of steps over clips.

    Args:
        model: The source model.
        contract: Its contract.
        clips: Recordings, each input name -> uint8 or float32 ``(N, *shape)``.
        limit: Steps to keep, thinned evenly; fewer of many values.

    Returns:
        Full name -> uint8 or float32 ``(steps, *shape)``.
    """
    import numpy as np

    recordings = list(clips)
    total = sum(map(steps_of, recordings))
    size = sum(prod(one.shape) for one in (*contract.inputs, *contract.states))
    limit = min(limit, max(LEAST_CALIBRATION_STEPS, CALIBRATION_VALUES // size), total)
    kept = set(np.linspace(0, total - 1, limit).round().astype(int).tolist())
    taken = enumerate(_all_inputs(model, contract, recordings))
    rows = [inputs for step, inputs in taken if step in kept]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _all_inputs(
    model: ReferenceModel, contract: Contract, clips: Iterable[Recording]
) -> Iterator[dict[str, Any]]:
    """Every step's inputs and states; the model is run only for its states."""
    for clip in clips:
        if contract.states:
            yield from (inputs for inputs, _ in stream(model, contract, clip))
        else:
            yield from (_inputs_at(contract, clip, step) for step in range(steps_of(clip)))


def _inputs_at(contract: Contract, recording: Recording, step: int) -> dict[str, Any]:
    return {one.name: recording[one.name][step].reshape(one.shape) for one in contract.inputs}


def golden(
    model: ReferenceModel, contract: Contract, clips: Sequence[Recording]
) -> list[Trajectory]:
    """Record the golden trajectories, each long enough for some steps with a warm state.

    Args:
        model: The source model.
        contract: Its contract.
        clips: Recordings, each input name -> uint8 or float32 ``(N, *shape)``.
    """
    steps = contract.frames + GOLDEN_STEPS_BEYOND_T
    count = min(GOLDEN_TRAJECTORIES, len(clips))
    return [
        _trajectory(model, contract, _at_least(clips[start::count], steps))
        for start in range(count)
    ]


def steps_of(recording: Recording) -> int:
    """Return the number of steps of a recording, name -> uint8 or float32 ``(N, *shape)``."""
    return len(next(iter(recording.values())))


def row_shape(one: Input) -> tuple[int, ...]:
    """Return the shape of one step's row of an input: without a batch axis of 1."""
    return one.shape[1:] if one.shape[:1] == (1,) else one.shape


def _at_least(clips: Sequence[Recording], steps: int) -> Recording:
    """Join recordings, repeated as needed, until there are ``steps`` steps."""
    import numpy as np

    found = {}
    for name in clips[0]:
        joined = np.concatenate([clip[name] for clip in clips])
        found[name] = np.concatenate([joined] * (1 + steps // len(joined)))[:steps]
    return found


def _trajectory(model: ReferenceModel, contract: Contract, recording: Recording) -> Trajectory:
    import numpy as np

    taken = list(stream(model, contract, recording))
    empty = zero_state(contract)
    return Trajectory(
        {one.name: recording[one.name].reshape(-1, *one.shape) for one in contract.inputs},
        {o.name: np.stack([given[o.name] for _, given in taken]) for o in contract.outputs},
        {
            s.name: np.stack([empty[s.name], *(given[s.output_name] for _, given in taken)])
            for s in contract.states
        },
    )


def annotated_outputs(
    model: ReferenceModel,
    contract: Contract,
    clips: Sequence[Recording],
    annotated: Sequence[Sequence[int]],
) -> dict[str, NDArray[np.float32]]:
    """Compute the outputs at the annotated steps of recordings, each streamed from a zero state.

    Args:
        model: The source model.
        contract: Its contract.
        clips: Recordings: by input name one row per step.
        annotated: The annotated steps of each recording, ascending.

    Returns:
        Output name -> float32 ``(samples, *shape)``, recording by recording.
    """
    import numpy as np

    ends = [[steps_of(clip) - 1] for clip in clips]
    if ends == [list(steps) for steps in annotated]:
        at_once = model.last_outputs(clips)
        if at_once is not None:
            return at_once
    rows = [
        outputs
        for clip, wanted in zip(clips, annotated, strict=True)
        for step, (_, outputs) in enumerate(stream(model, contract, clip))
        if step in wanted
    ]
    return {
        o.name: np.array([row[o.name] for row in rows], np.float32).reshape(-1, *o.shape)
        for o in contract.outputs
    }


def step_outputs(
    model: ReferenceModel, contract: Contract, recording: Recording, move: Move | None = None
) -> dict[str, NDArray[np.float32]]:
    """Compute the outputs at every step of one stream.

    Args:
        model: The source model.
        contract: Its contract.
        recording: Input name -> uint8 or float32 ``(N, *shape)``.
        move: See `edgevid_converters.importers.source_model.ReferenceModel.step`.

    Returns:
        Output name -> float32 ``(N, *shape)`` without the batch axis.
    """
    import numpy as np

    given = [given for _, given in stream(model, contract, recording, move)]
    return {o.name: np.concatenate([one[o.name] for one in given]) for o in contract.outputs}


def write_clips(file: Path, clips: Sequence[Recording]) -> None:
    """Write recordings of any lengths, name -> any dtype ``(N, *shape)``, into an ``.npz``."""
    import numpy as np

    arrays: dict[str, Any] = {
        f"{index:06}/{name}": rows
        for index, clip in enumerate(clips)
        for name, rows in clip.items()
    }
    with file.open("wb") as opened:
        np.savez(opened, **arrays)


def read_clips(file: Path) -> Iterator[Recording]:
    """Read what `write_clips` wrote: recordings, name -> the dtype and shape written."""
    import numpy as np

    with np.load(file, allow_pickle=False) as archive:
        for _, names in groupby(sorted(archive.files), lambda name: name.partition("/")[0]):
            yield {name.partition("/")[2]: archive[name] for name in names}


def read_recording(file: Path, contract: Contract) -> Recording:
    """Read all inputs of a stream from an ``.npz``.

    Args:
        file: It has an array ``(N, *row)`` for each input by name.
        contract: The contract.

    Returns:
        Input name -> uint8 or float32 ``(N, *row)``.

    Raises:
        BadInput: The file lacks an array of an input's name, shape and type, or the inputs have
            different numbers of steps.
    """
    try:
        arrays = load_npz(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        wanted = " and ".join(map(_wanted, contract.inputs))
        raise BadInput(
            f"{file} is not a readable .npz file ({error}); give one with {wanted}"
        ) from None
    found = {}
    for one in contract.inputs:
        shape = row_shape(one)
        rows = arrays.get(one.name)
        kinds = "u" if one.kind == "frame" else "fiu"
        if rows is None or rows.shape[1:] != shape or not len(rows) or rows.dtype.kind not in kinds:
            raise BadInput(f"{file} needs {_wanted(one)}")
        found[one.name] = rows.astype(one.dtype)
    if len({len(rows) for rows in found.values()}) > 1:
        raise BadInput(f"{file} has inputs of different lengths; give as many rows of each")
    return found


def _wanted(one: Input) -> str:
    """The array of a recording for one input, as a phrase."""
    kind = "a uint8 array" if one.kind == "frame" else "an array"
    return f"{kind} {one.name!r} of the shape ({', '.join(map(str, ('N', *row_shape(one))))})"


def write_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """Write each array, of any shape and dtype, to ``folder/<name>.npy``.

    Returns:
        The paths by name.
    """
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, values in arrays.items():
        paths[name] = str(folder / f"{name}.npy")
        np.save(paths[name], values, allow_pickle=False)
    return paths


def read_arrays(folder: Path) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote: name -> array of the shape and dtype written."""
    import numpy as np

    return {file.stem: np.load(file, allow_pickle=False) for file in sorted(folder.glob("*.npy"))}


def map_arrays(folder: Path) -> dict[str, NDArray[Any]]:
    """As `read_arrays`, name -> array of the shape and dtype written, read when it is needed."""
    import numpy as np

    return {file.stem: np.load(file, mmap_mode="r") for file in sorted(folder.glob("*.npy"))}


class RowWriter:
    """Writes rows to a ``.npy`` one by one, with none of them kept in memory; use it in ``with``.

    Args:
        file: The file.
        count: How many rows will be written.
    """

    def __init__(self, file: Path, count: int) -> None:
        self._file, self._count = file.open("wb"), count

    def __enter__(self) -> RowWriter:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def write(self, row: NDArray[Any]) -> None:
        """Write the next row; all have one shape and dtype."""
        import numpy as np

        if not self._file.tell():
            shape = (self._count, *row.shape)
            described = {"descr": row.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._file, described)
        self._file.write(np.ascontiguousarray(row).data)


class StoredRows(Sequence["NDArray[Any]"]):
    """The rows of a ``.npy``; each is read when it is asked for, and nothing is kept of it.

    Raises:
        ValueError: It is not such a file.
    """

    def __init__(self, file: Path) -> None:
        import numpy as np

        self._file = file
        with file.open("rb") as opened:
            np.lib.format.read_magic(opened)
            shape, _, self.dtype = np.lib.format.read_array_header_1_0(opened)
            self._begins = opened.tell()
        self._count, self._shape = shape[0], shape[1:]

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._count)

    def __getitem__(self, place: Any) -> Any:
        """Read one row, ``(*shape)``; raises IndexError beyond the last one."""
        import numpy as np

        if not 0 <= place < self._count:
            raise IndexError(place)
        size = prod(self._shape)
        offset = self._begins + place * size * self.dtype.itemsize
        read = np.fromfile(self._file, self.dtype, size, offset=offset)
        return read.reshape(self._shape)
