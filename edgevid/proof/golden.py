"""The golden trajectory: a few recorded streams, and what each party gave on them."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.bundle import Bundle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

SOURCE = "source"
_INPUT = re.compile(r"golden/(\d+)/input_")


@dataclass(frozen=True)
class Taken:
    """What one party gave over the S steps of a trajectory, tensor name -> (S, ...).

    ``recorded`` has outputs and ``next_<state>``, each step fed the source's state; ``carried`` has
    the outputs of a run on its own state.
    """

    recorded: Arrays
    carried: Arrays

    def named(self) -> dict[str, NDArray[Any]]:
        """All of it as ``recorded/<tensor>`` and ``carried/<tensor>``."""
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
        """Return the inputs of one step by name, each of its contract's shape."""
        return {name: values[step] for name, values in self.inputs.items()}

    def state_at(self, step: int) -> dict[str, NDArray[Any]]:
        """Return the recorded state before a step by bare name."""
        return {name: values[step] for name, values in self.states.items()}

    def source(self) -> Taken:
        """What the source gave; its recorded and its carried run are the same."""
        following = {f"next_{name}": values[1:] for name, values in self.states.items()}
        return Taken({**self.outputs, **following}, self.outputs)


@dataclass(frozen=True)
class Golden:
    """The golden trajectory of a bundle.

    ``references`` has, for each artifact, what it gave on each trajectory on the CPU of the
    machine that made the bundle. ``clip`` is an encoded video, ``pixels`` uint8 (N, H, W, 3) what
    decoding and geometry make of it.
    """

    trajectories: tuple[Trajectory, ...]
    references: Mapping[str, tuple[Taken, ...]] = field(default_factory=dict)
    clip: bytes = b""
    pixels: NDArray[np.uint8] | None = None

    def to_members(self) -> dict[str, bytes]:
        """Give the members below ``golden/``; equal arrays give equal bytes."""
        members: dict[str, bytes] = {}
        for index, trajectory in enumerate(self.trajectories):
            arrays = {f"input_{name}": value for name, value in trajectory.inputs.items()}
            arrays |= {f"{SOURCE}/{name}": value for name, value in trajectory.outputs.items()}
            arrays |= {f"{SOURCE}/state_{name}": v for name, v in trajectory.states.items()}
            for artifact, taken in self.references.items():
                arrays |= {f"{artifact}/{name}": v for name, v in taken[index].named().items()}
            members |= {f"{index}/{name}.npy": _npy(value) for name, value in arrays.items()}
        if self.pixels is not None:
            members |= {"clip.mp4": self.clip, "clip.npy": _npy(self.pixels)}
        return members

    @classmethod
    def read(cls, bundle: Bundle, artifact: str | None = None) -> Golden:
        """Read the golden trajectory, with the references of one artifact.

        Raises `BadBundle` where a member is damaged.
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
                Taken(
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
        import numpy as np

        content = io.BytesIO(self._bundle.member(name))
        loaded: NDArray[Any] = np.load(content, allow_pickle=False)
        return loaded

    def below(self, prefix: str, without: str = "/") -> dict[str, NDArray[Any]]:
        found = {name: name.removeprefix(prefix) for name in self._bundle.names}
        return {
            bare.removesuffix(".npy"): self.one(name)
            for name, bare in found.items()
            if bare != name and not bare.startswith(without)
        }


def _npy(values: NDArray[Any]) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(values), (1, 0), allow_pickle=False)
    return buffer.getvalue()


def write_taken(file: Path, taken: Sequence[Taken]) -> None:
    """Keep what a party gave on each trajectory in an ``.npz``."""
    import numpy as np

    arrays: dict[str, Any] = {
        f"{index}/{name}": values
        for index, one in enumerate(taken)
        for name, values in one.named().items()
    }
    with file.open("wb") as opened:
        np.savez(opened, **arrays)


def read_taken(file: Path) -> tuple[Taken, ...]:
    """Read what `write_taken` kept."""
    import numpy as np

    found: dict[tuple[int, str], dict[str, NDArray[Any]]] = {}
    with np.load(file, allow_pickle=False) as archive:
        for key in archive.files:
            index, kind, name = key.split("/", 2)
            found.setdefault((int(index), kind), {})[name] = archive[key]
    count = 1 + max(index for index, _ in found)
    return tuple(Taken(found[n, "recorded"], found[n, "carried"]) for n in range(count))
