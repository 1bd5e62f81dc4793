"""The owner's outputs: what an imported model computes where its owner runs it.

Source and artifact get their input through one contract, so a wrong colour order or scale in it
cancels out when they are compared. Outputs that were recorded elsewhere do not share it.

A file is an ``.npz`` of one stream: for each input of the contract an array of one row per step, by
its name, and one array ``(N, ...)`` for each recorded output, by the contract's names. The stream
starts with a zero state. A folder holds several files. A frame is uint8 RGB ``(N, height, width,
3)``, in one of three forms:

* of the contract's size: the tensor input alone is compared;
* of another size, whole images: scaling and fit are compared too;
* left out, with a video of the same name next to the file (``clip.mp4``, ``clip.npz``) or the path
  of one in an array ``video``: decoding is compared too. There is one row per frame of the video;
  an array ``frames`` has the frames' numbers, from 0, where only some of them have outputs.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid import registry
from edgevid.content import load_npz
from edgevid.contract import Contract, Input
from edgevid.data.video_files import why_no_video
from edgevid.errors import BadInput, CheckFailed
from edgevid.evidence import ReferenceRecord
from edgevid_converters.acceptance import whole_frames
from edgevid_converters.acceptance.normalisations import Rescaling
from edgevid_converters.acceptance.whole_frames import Variant, WholeFrames, settings_text
from edgevid_converters.calibration.trajectories import row_shape, steps_of
from edgevid_converters.importers.preprocessing import ImageMapping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

TOLERANCE = 1e-3
"""Largest difference from the owner's outputs, as a share of the output's range if over 1."""
VIDEO, FRAMES = "video", "frames"
"""Arrays of a reference that are neither input nor output."""


@dataclass(frozen=True)
class OwnerOutputs:
    """The owner's outputs for some streams.

    Attributes:
        path: Where they were read from.
        streams: For each stream its inputs, name -> ``(N, *shape)``, uint8 for frames, else
            float32.
        outputs: For each stream the owner's outputs, name -> float32 ``(N, *shape)``.
        whole: The whole frames of each stream; empty if frames have the model's own size.
        variants: The same frames as other contracts prepare them.
    """

    path: Path
    streams: tuple[Arrays, ...]
    outputs: tuple[Arrays, ...]
    whole: tuple[WholeFrames, ...] = ()
    variants: tuple[Variant, ...] = ()

    @property
    def to_run(self) -> tuple[Arrays, ...]:
        """The inputs to run the model on, the streams, then the variants.

        Each is name -> ``(N, *shape)``, uint8 for frames, else float32.
        """
        return (*self.streams, *(variant.inputs for variant in self.variants))

    @property
    def moves(self) -> tuple[Rescaling | None, ...]:
        """For each of `to_run` what is applied after the contract's normalisation."""
        return (*(None for _ in self.streams), *(variant.move for variant in self.variants))

    def check(self, given: Sequence[Arrays], contract: str) -> ReferenceRecord:
        """Compare them with the model's own outputs through its contract.

        Args:
            given: The model's outputs on `to_run`, each name -> float32 ``(N, *shape)``.
            contract: The file that describes the preprocessing, for the error.

        Raises:
            CheckFailed: The outputs differ.
        """
        import numpy as np

        own, tried = given[: len(self.streams)], given[len(self.streams) :]
        off = [whole_frames.differences(a, b) for a, b in zip(self.outputs, own, strict=True)]
        stream = int(np.argmax([steps.max() for steps in off]))
        step = int(off[stream].argmax())
        worst = float(off[stream][step])
        record = ReferenceRecord(
            sum(map(steps_of, self.streams)), float(f"{worst:.6g}"), self._sha256(), self._kind
        )
        where = (
            f"the model does not reproduce its owner's outputs in {self.path}: "
            f"{self._worst_output(own[stream], stream, step)} at step {step} of stream {stream} is "
            f"off by {worst:.3g}"
        )
        if self.whole:
            return self._check_whole(own, tried, contract, record, where)
        if not worst <= TOLERANCE:
            raise CheckFailed(
                f"{where}, more than {TOLERANCE:g}; check colour, scale, mean and std in {contract}"
            )
        return record

    def _check_whole(
        self,
        own: Sequence[Arrays],
        tried: Sequence[Arrays],
        contract: str,
        record: ReferenceRecord,
        where: str,
    ) -> ReferenceRecord:
        """Judge whole frames by the mean difference, and against other settings."""
        found = whole_frames.judge(self.variants, self.outputs, own, tried, TOLERANCE)
        if not found.ok:
            text = f"{where} ({found.off:.3g} on average; {found.limit:.3g} is allowed)"
            if found.better is not None:
                raise CheckFailed(
                    f"{text}; with {settings_text(found.better)} in {contract} it does"
                )
            raise CheckFailed(
                f"{text}, and no other fit, resize, colour or usual scale gives them; check scale, "
                f"mean and std in {contract}, and that each row of outputs belongs to its frame"
            )
        return replace(
            record,
            files=tuple(dict.fromkeys(one.path.name for one in self.whole)),
            mean_abs=float(f"{found.off:.6g}"),
            limit=float(f"{found.limit:.6g}"),
            proven=found.proven,
            alike=tuple(map(settings_text, found.alike)),
        )

    @property
    def _kind(self) -> Any:
        if self.whole:
            return "video" if all(one.video for one in self.whole) else "images"
        frames = any(values.dtype == "uint8" for values in self.streams[0].values())
        return "tensor" if frames else "inputs"

    def _worst_output(self, given: Arrays, stream: int, step: int) -> str:
        """The output that differs most at a step."""
        wanted = self.outputs[stream]
        return max(
            wanted,
            key=lambda name: whole_frames.differences(
                {name: wanted[name][step : step + 1]}, {name: given[name][step : step + 1]}
            )[0],
        )

    def _sha256(self) -> str:
        digest = hashlib.sha256()
        for stream, outputs in zip(self.streams, self.outputs, strict=True):
            for name in sorted(stream):
                digest.update(stream[name].tobytes())
            for name in sorted(outputs):
                digest.update(name.encode() + outputs[name].tobytes())
        return digest.hexdigest()


def read_reference(
    path: Path, contract: Contract, image: ImageMapping | None = None
) -> OwnerOutputs:
    """Read the owner's outputs from an ``.npz``, a folder of them, or a video with one next to it.

    Args:
        path: The file or folder.
        contract: The model's contract.
        image: See `whole_frames.variants`.

    Raises:
        BadInput: There is none, or an array does not fit the contract.
        BadVideo: A video is unreadable.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path} does not exist; give an .npz of inputs and their owner's outputs")
    if path.is_file() and _is_video(path):
        if not path.with_suffix(".npz").exists():
            raise BadInput(
                f"{path} needs its owner's outputs next to it: one row per frame, by name, in "
                f"{path.with_suffix('.npz').name}"
            )
        path = path.with_suffix(".npz")
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"{path} has no .npz in it; give inputs and their owner's outputs")
    read = [_Reference(file, contract).read() for file in files]
    whole = tuple(frames for _, _, frames in read if frames is not None)
    if len(whole) not in (0, len(read)):
        raise BadInput(
            f"{path} has frames of the model's size and whole frames; give one kind in a folder"
        )
    streams = tuple(inputs for inputs, _, _ in read)
    most = -(-whole_frames.TRIED_ROWS // len(read))
    tried = tuple(
        variant
        for index, (frames, inputs) in enumerate(zip(whole, streams, strict=False))
        for variant in whole_frames.variants(contract, index, frames, inputs, most, image)
    )
    return OwnerOutputs(path, streams, tuple(outputs for _, outputs, _ in read), whole, tried)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() != ".npz" and path.is_file() and why_no_video(path) is None


class _Reference:
    """One file."""

    def __init__(self, file: Path, contract: Contract) -> None:
        self._file, self._contract = file, contract
        self._inputs = {one.name: one for one in contract.inputs}
        self._outputs = {output.name: output.shape[1:] for output in contract.outputs}

    def read(
        self,
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], WholeFrames | None]:
        """Return inputs, outputs, and the whole frames if there are any."""
        arrays = self._load()
        outputs = {name: arrays.pop(name) for name in sorted(self._outputs) if name in arrays}
        names = ", ".join(sorted(self._outputs))
        if not outputs:
            raise BadInput(f"{self._file} has no outputs; give inputs and outputs: {names}")
        whole = self._whole(arrays, next(iter(outputs.values())))
        needed = [name for name in self._inputs if whole is None or name != whole.frame.name]
        if missing := [name for name in needed if name not in arrays]:
            raise BadInput(f"{self._file} needs an array {missing[0]!r}, and outputs: {names}")
        first = arrays[self._contract.inputs[0].name] if whole is None else whole.indices
        count = len(first) if first.ndim else 0
        stream = {
            name: _rows(self._file, self._inputs[name], arrays[name], count)
            for name in sorted(needed)
        }
        shaped = {
            name: _shaped(self._file, name, values, (count, *self._outputs[name]))
            for name, values in outputs.items()
        }
        if whole is None:
            return stream, shaped, None
        rows = whole_frames.kept_rows(self._contract, count, whole_frames.MOST_ROWS)
        stream = {name: values[rows] for name, values in stream.items()}
        stream[whole.frame.name] = whole.prepare([whole.frame], rows)[0]
        kept = replace(whole, indices=whole.indices[rows])
        return stream, {name: values[rows] for name, values in shaped.items()}, kept

    def _load(self) -> dict[str, NDArray[Any]]:

        try:
            arrays = load_npz(self._file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise BadInput(f"{self._file} is not a readable .npz file ({error})") from None
        known = (*self._inputs, *self._outputs)
        extra = (VIDEO, FRAMES) if self._contract.frame_inputs else ()
        if strange := sorted(set(arrays) - set(known) - set(extra)):
            raise BadInput(f"{self._file}: {registry.unknown('array', strange[0], known + extra)}")
        return arrays

    def _whole(self, arrays: dict[str, NDArray[Any]], outputs: NDArray[Any]) -> WholeFrames | None:
        """Find whole frames: images of another size than the model's, or a video."""
        import numpy as np

        if len(self._contract.frame_inputs) != 1:
            return None
        frame = self._contract.frame
        images = arrays.get(frame.name)
        if images is not None:
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
                return None
            if images.shape[1:3] == (frame.height, frame.width) or not images.size:
                return None
            return WholeFrames(frame, self._file, False, np.arange(len(images)), images)
        video = self._video(arrays)
        if video is None or not outputs.ndim:
            return None
        return WholeFrames(frame, video, True, self._indices(arrays, video, len(outputs)))

    def _video(self, arrays: Mapping[str, NDArray[Any]]) -> Path | None:
        if VIDEO in arrays:
            path = self._file.parent / str(arrays[VIDEO])
            if not path.exists():
                raise BadInput(f"{self._file}: its video {path} does not exist; copy it there")
            return path
        found = [
            one
            for one in sorted(self._file.parent.iterdir())
            if one.stem == self._file.stem and _is_video(one)
        ]
        return found[0] if found else None

    def _indices(
        self, arrays: Mapping[str, NDArray[Any]], video: Path, rows: int
    ) -> NDArray[np.intp]:
        import numpy as np

        if FRAMES in arrays:
            listed = arrays[FRAMES]
            if listed.ndim != 1 or listed.dtype.kind not in "iu" or (np.diff(listed) < 0).any():
                raise BadInput(
                    f"{self._file}: frames is {listed.dtype} {list(listed.shape)}; give the "
                    "frames' numbers, ascending from 0"
                )
            return listed.astype(np.intp)
        count = whole_frames.count_frames(video)
        if count != rows:
            raise BadInput(
                f"{self._file} has outputs for {rows} frames, and {video.name} has {count}; give "
                "one row per frame, or the frames' numbers, from 0, as an array 'frames'"
            )
        return np.arange(rows)


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
