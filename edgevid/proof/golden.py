"""Golden trajectories: a few recorded streams, with the outputs of the source and each artifact."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.bundle import Bundle
from edgevid.content import load_npy
from edgevid.errors import BadBundle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

SOURCE = "source"
_INPUT = re.compile(r"golden/(\d+)/input_")
_SLIDING = re.compile(r"(.+)\.sliding-(\d+)-(\d+)\.npy")
SLIDING_BYTES = 4 << 30
"""The largest size of an array that is stored as a sliding window."""
LEAST_SLIDING_BYTES = 1 << 16
"""Size from which an array is stored as a sliding window, if its entries overlap."""


@dataclass(frozen=True)
class RecordedOutputs:
    """What a model or an engine returned over the S steps of a trajectory.

    Attributes:
        recorded: Outputs and ``next_<state>`` by name, float32 (S, *shape), with the source model's
            recorded state fed into each step.
        carried: Outputs by name, float32 (S, *shape), of a run that carries on its own state.
    """

    recorded: Arrays
    carried: Arrays

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays, float32 (S, *shape), as ``recorded/<tensor>`` and ``carried/<tensor>``."""
        recorded = {f"recorded/{name}": values for name, values in self.recorded.items()}
        return recorded | {f"carried/{name}": values for name, values in self.carried.items()}


@dataclass(frozen=True)
class Trajectory:
    """One recorded stream of S steps.

    Attributes:
        inputs: Each input by name, (S, *shape) of the contract's dtype.
        outputs: The source model's outputs by name, float32 (S, *shape).
        states: The source model's state by bare name, float32 (S + 1, *shape); ``states[x][k]`` is
            the state before step k.
    """

    inputs: Arrays
    outputs: Arrays
    states: Arrays

    def __len__(self) -> int:
        """Number of steps."""
        return len(next(iter(self.inputs.values())))

    def inputs_at(self, step: int) -> dict[str, NDArray[Any]]:
        """Return the inputs of one step by name, each of its contract's shape and dtype."""
        return {name: values[step] for name, values in self.inputs.items()}

    def state_at(self, step: int) -> dict[str, NDArray[Any]]:
        """Return the recorded state before a step by bare name, each float32 of its own shape."""
        import numpy as np

        return {name: np.ascontiguousarray(values[step]) for name, values in self.states.items()}

    def source_outputs(self) -> RecordedOutputs:
        """Return what the source model returned; its recorded and carried runs are the same."""
        following = {f"next_{name}": values[1:] for name, values in self.states.items()}
        return RecordedOutputs({**self.outputs, **following}, self.outputs)


@dataclass(frozen=True)
class Golden:
    """The golden trajectories of a bundle.

    Attributes:
        trajectories: Recorded streams of the source model.
        references: For each artifact its outputs on each trajectory, on the CPU of the machine that
            made the bundle.
        clip: An encoded video; empty if the contract has no frame input.
        pixels: uint8 (N, H, W, 3), the expected result of decoding and scaling the clip for the
            contract's first frame input.
    """

    trajectories: tuple[Trajectory, ...]
    references: Mapping[str, tuple[RecordedOutputs, ...]] = field(default_factory=dict)
    clip: bytes = b""
    pixels: NDArray[np.uint8] | None = None

    def to_members(self) -> dict[str, bytes]:
        """Return the bundle's members below ``golden/``; equal arrays give equal bytes."""
        members: dict[str, bytes] = {}
        for index, trajectory in enumerate(self.trajectories):
            arrays = {f"input_{name}": value for name, value in trajectory.inputs.items()}
            arrays |= {f"{SOURCE}/{name}": value for name, value in trajectory.outputs.items()}
            arrays |= {f"{SOURCE}/state_{name}": v for name, v in trajectory.states.items()}
            for artifact, recorded in self.references.items():
                arrays |= {f"{artifact}/{name}": v for name, v in recorded[index].arrays().items()}
            members |= dict(_member(f"{index}/{name}", value) for name, value in arrays.items())
        if self.pixels is not None:
            members |= {"clip.mp4": self.clip, "clip.npy": _npy(self.pixels)}
        return members

    @classmethod
    def read(cls, bundle: Bundle, artifact: str | None = None) -> Golden:
        """Read the golden trajectories of a bundle.

        Args:
            bundle: The bundle.
            artifact: The artifact whose references are read; None reads none.

        Raises:
            BadBundle: A member is damaged, or declares more than it holds.
        """
        arrays = _Arrays(bundle)
        found = (_INPUT.match(name) for name in bundle.names)
        indices = sorted({int(one[1]) for one in found if one})
        trajectories = tuple(
            Trajectory(
                arrays.below(f"golden/{index}/input_"),
                arrays.below(f"golden/{index}/{SOURCE}/", without="state_"),
                arrays.below(f"golden/{index}/{SOURCE}/state_"),
            )
            for index in indices
        )
        references = {}
        if artifact and any(f"/{artifact}/recorded/" in name for name in bundle.names):
            references[artifact] = tuple(
                RecordedOutputs(
                    arrays.below(f"golden/{index}/{artifact}/recorded/"),
                    arrays.below(f"golden/{index}/{artifact}/carried/"),
                )
                for index in indices
            )
        if "golden/clip.mp4" not in bundle.names:
            return cls(trajectories, references)
        clip, pixels = bundle.member("golden/clip.mp4"), arrays.one("golden/clip.npy")
        return cls(trajectories, references, clip, pixels)


class _Arrays:
    """The ``.npy`` members of a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def one(self, name: str) -> NDArray[Any]:
        try:
            return load_npy(self._bundle.member(name))
        except ValueError as error:
            raise self._damaged(name, error) from None

    def _damaged(self, name: str, error: Exception) -> BadBundle:
        return BadBundle(
            f"{self._bundle.path}: member {name} is damaged ({error}); make the bundle again with: "
            "edgevid convert"
        )

    def below(self, prefix: str, without: str = "/") -> dict[str, NDArray[Any]]:
        found = {name: name.removeprefix(prefix) for name in self._bundle.names}
        arrays = {}
        for name, bare in found.items():
            if bare == name or bare.startswith(without):
                continue
            sliding = _SLIDING.fullmatch(bare)
            if sliding is None:
                arrays[bare.removesuffix(".npy")] = self.one(name)
            else:
                arrays[sliding[1]] = self._slid(name, int(sliding[2]), int(sliding[3]))
        return arrays

    def _slid(self, name: str, axis: int, width: int) -> NDArray[Any]:
        try:
            found = slid(self.one(name), axis, width) if axis else None
        except (ValueError, IndexError) as error:
            raise self._damaged(name, error) from None
        if found is None:
            raise self._damaged(name, ValueError("it cannot slide along its first axis"))
        if found.nbytes > SLIDING_BYTES:
            raise self._damaged(name, ValueError(f"it expands to {found.nbytes >> 30} GB"))
        return found


def _member(name: str, values: NDArray[Any]) -> tuple[str, bytes]:
    """Return the name and the content of an array's member."""
    if values.nbytes >= LEAST_SLIDING_BYTES and (found := overlaps(values)):
        axis, joined = found
        return f"{name}.sliding-{axis}-{values.shape[axis]}.npy", _npy(joined)
    return f"{name}.npy", _npy(values)


def overlaps(values: NDArray[Any]) -> tuple[int, NDArray[Any]] | None:
    """Find out whether each entry is the one before, moved on by one: as a window of frames is.

    Args:
        values: ``(S, *shape)``, any dtype.

    Returns:
        The axis of ``values`` along which it moves, and all that passes by, of ``values``' dtype,
        without the first axis and S - 1 longer along that one; None if it does not move.
    """
    import numpy as np

    for axis in range(1, values.ndim):
        width = values.shape[axis]
        if width < 2 or len(values) < 2:
            continue
        before, after = np.split(values, [1], axis)[1], np.split(values, [width - 1], axis)[0]
        if np.array_equal(before[:-1], after[1:]):
            newest = np.split(values[1:], [width - 1], axis)[1]
            return axis, np.concatenate([values[0], *newest], axis - 1)
    return None


def slid(joined: NDArray[Any], axis: int, width: int) -> NDArray[Any]:
    """Return the values whose `overlaps` are ``joined``, as a view.

    Args:
        joined: What passes by, any dtype and shape.
        axis: The axis along which it moves.
        width: Its size in each entry.
    """
    import numpy as np

    windows = np.lib.stride_tricks.sliding_window_view(joined, width, axis - 1)
    return np.moveaxis(np.moveaxis(windows, -1, axis), axis - 1, 0)


def _npy(values: NDArray[Any]) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(values), (1, 0), allow_pickle=False)
    return buffer.getvalue()


def write_recorded(file: Path, recorded: Sequence[RecordedOutputs]) -> None:
    """Write the outputs on each trajectory to an ``.npz`` file."""
    import numpy as np

    arrays: dict[str, Any] = {
        f"{index}/{name}": values
        for index, one in enumerate(recorded)
        for name, values in one.arrays().items()
    }
    with file.open("wb") as opened:
        np.savez(opened, **arrays)


def read_recorded(file: Path) -> tuple[RecordedOutputs, ...]:
    """Read what `write_recorded` wrote."""
    import numpy as np

    found: dict[tuple[int, str], dict[str, NDArray[Any]]] = {}
    with np.load(file, allow_pickle=False) as archive:
        for key in archive.files:
            index, kind, name = key.split("/", 2)
            found.setdefault((int(index), kind), {})[name] = archive[key]
    count = 1 + max(index for index, _ in found)
    return tuple(RecordedOutputs(found[n, "recorded"], found[n, "carried"]) for n in range(count))
