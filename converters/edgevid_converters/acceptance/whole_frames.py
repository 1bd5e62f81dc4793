"""The owner's outputs on whole frames: what they show about decoding, colour, scaling and fit.

The model runs on the frames as the contract prepares them, and on a few of them as other contracts
would: with another fit, another filter, the other order of colours, another usual scale. A setting
is proven if the others come out further from the owner's outputs. Two programs never decode and
scale to quite the same pixels, so the limit is what another way of decoding makes of the model's
outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from edgevid.contract import Contract, Fit, FrameInput, Resize
from edgevid.errors import BadInput
from edgevid.media.preprocessing import Preprocessor
from edgevid.media.video import FileSource
from edgevid_converters.acceptance import normalisations
from edgevid_converters.acceptance.normalisations import Rescaling
from edgevid_converters.importers.preprocessing import ImageMapping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

MOST_ROWS = 256
"""Frames of one stream that are compared."""
TRIED_ROWS = 12
"""Frames that every other setting is tried on."""
TWIN = "decoded as others do"
SHARE = 2.0
"""How much larger than that decoding's effect a difference may be."""


@dataclass(frozen=True)
class Variant:
    """Some frames of a stream as another contract prepares them.

    Attributes:
        settings: Setting -> value where it differs; with `TWIN` the images are decoded to whole RGB
            pictures first, as OpenCV does.
        stream: Number of the stream.
        rows: The rows of that stream.
        inputs: The model's inputs, name -> ``(rows, *shape)``.
        move: Applied to them after the contract's normalisation, to get another one.
    """

    settings: Mapping[str, str]
    stream: int
    rows: NDArray[np.intp]
    inputs: Arrays
    move: Rescaling | None = None


@dataclass(frozen=True)
class WholeFrames:
    """The whole frames of one stream.

    Attributes:
        frame: The contract's input.
        path: The video, or the ``.npz`` that has the images.
        video: Whether ``path`` is a video.
        indices: The numbers of the frames, ascending.
        images: The images if there is no video, uint8 RGB (N, height, width, 3).
    """

    frame: FrameInput
    path: Path
    video: bool
    indices: NDArray[np.intp]
    images: NDArray[np.uint8] | None = None

    def prepare(
        self, frames: Sequence[FrameInput], rows: NDArray[np.intp], as_others: bool = False
    ) -> list[NDArray[np.uint8]]:
        """Decode and scale some rows as several contracts would.

        Args:
            frames: The contracts' inputs.
            rows: Ascending row numbers.
            as_others: Convert images as other programs do first: videos to packed RGB, and RGB to
                YUV.

        Returns:
            For each contract uint8 (rows, height, width, 3).

        Raises:
            BadInput: The video has fewer frames.
            BadVideo: The video is unreadable.
        """
        import numpy as np

        preprocessors = [Preprocessor(frame) for frame in frames]
        found: list[list[NDArray[np.uint8]]] = [[] for _ in frames]
        wanted = self.indices[rows].tolist()
        other = "rgb24" if self.images is None else "yuv444p"
        for decoded in self._images(wanted):
            image = decoded.reformat(format=other) if as_others else decoded
            for preprocessor, made in zip(preprocessors, found, strict=True):
                made.append(preprocessor.apply(image)[0].copy())
        return [np.stack(made) for made in found]

    def _images(self, wanted: list[int]) -> Iterator[Any]:
        """The wanted frames in order, a frame that is wanted twice is given twice."""
        if self.images is not None:
            import av

            for index in wanted:
                yield av.VideoFrame.from_ndarray(self.images[index], "rgb24")
            return
        position = number = 0
        with FileSource(self.path) as source:
            for number, frame in enumerate(source):
                while position < len(wanted) and wanted[position] == number:
                    yield frame.image
                    position += 1
                if position == len(wanted):
                    return
        raise BadInput(
            f"{self.path} has {number + 1} frames, and outputs are given for number "
            f"{wanted[-1]}, counted from 0; give one row per frame, or the frames' numbers as an "
            "array 'frames'"
        )


def count_frames(video: Path) -> int:
    """Count the frames of a video by decoding it.

    Raises:
        BadVideo: It is unreadable.
    """
    with FileSource(video) as source:
        return sum(1 for _ in source)


def kept_rows(contract: Contract, count: int, most: int) -> NDArray[np.intp]:
    """Choose rows of a stream: spread evenly, or the first ones if the model has a state.

    Returns:
        Row numbers, int64 ``(rows,)``, ascending.
    """
    import numpy as np

    if contract.states:
        return np.arange(min(count, most))
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


def variants(
    contract: Contract,
    stream: int,
    whole: WholeFrames,
    inputs: Arrays,
    most: int,
    image: ImageMapping | None = None,
) -> Iterator[Variant]:
    """Prepare some rows of a stream in every other way, and once as others decode them.

    Ways that give the same pixels as the contract's own are left out.

    Args:
        contract: The contract.
        stream: Number of the stream.
        whole: Its frames.
        inputs: Its inputs as the contract prepares them, name -> ``(N, *shape)``, uint8 for frames,
            else float32.
        most: Rows to use.
        image: How a pixel becomes a number, if other usual normalisations are to be tried.
    """
    import numpy as np

    own, name = whole.frame, whole.frame.name
    rows = kept_rows(contract, len(inputs[name]), most)
    others = {key: values[rows] for key, values in inputs.items()}
    (twin,) = whole.prepare([own], rows, as_others=True)
    yield Variant({TWIN: ""}, stream, rows, others | {name: twin})
    for settings, move in normalisations.others(image) if image is not None else ():
        yield Variant(settings, stream, rows, others, move)
        yield Variant({TWIN: "", **settings}, stream, rows, others | {name: twin}, move)
    ways = [
        replace(own, fit=fit, resize=resize) for fit in get_args(Fit) for resize in get_args(Resize)
    ]
    seen = [others[name]]
    for way, pixels in zip(ways, whole.prepare(ways, rows), strict=True):
        changed = {
            key: getattr(way, key)
            for key in ("fit", "resize")
            if getattr(way, key) != getattr(own, key)
        }
        for colour in ({}, {"colour": "the other order (rgb or bgr)"}):
            shown = np.ascontiguousarray(pixels[..., ::-1]) if colour else pixels
            if not any(np.array_equal(shown, one) for one in seen):
                seen.append(shown)
                yield Variant({**changed, **colour}, stream, rows, others | {name: shown})


@dataclass(frozen=True)
class FrameVerdict:
    """What the owner's outputs show about the preprocessing of whole frames.

    Attributes:
        off: Mean difference of the model's outputs from the owner's; see `differences`.
        limit: The largest that is accepted.
        better: The settings that match the owner's outputs clearly better, if there are any.
        proven: The settings without whose value the outputs would differ.
        alike: Other settings whose outputs are as near to the owner's.
    """

    off: float
    limit: float
    better: Mapping[str, str] | None
    proven: tuple[str, ...]
    alike: tuple[Mapping[str, str], ...]

    @property
    def ok(self) -> bool:
        """Whether the owner's outputs are reproduced, and by no other settings better."""
        return self.off <= self.limit and self.better is None


def judge(
    tried: Sequence[Variant],
    outputs: Sequence[Arrays],
    own: Sequence[Arrays],
    given: Sequence[Arrays],
    tolerance: float,
) -> FrameVerdict:
    """Compare the contract's settings with all others.

    Args:
        tried: The variants.
        outputs: The owner's outputs of each stream, name -> float32 ``(N, *shape)``.
        own: The model's outputs of each stream, through the contract.
        given: Its outputs of each variant.
        tolerance: A difference that counts as none.
    """
    import numpy as np

    computed = {
        (one.stream, tuple(one.settings.items())): got
        for one, got in zip(tried, given, strict=True)
    }
    found: dict[tuple[tuple[str, str], ...], list[NDArray[np.float64]]] = {}
    moved: dict[tuple[tuple[str, str], ...], list[NDArray[np.float64]]] = {}
    for variant, got in zip(tried, given, strict=True):
        key = tuple(item for item in variant.settings.items() if item[0] != TWIN)
        twin = TWIN in variant.settings
        wanted = own[variant.stream] if twin else outputs[variant.stream]
        rows: Arrays = {name: values[variant.rows] for name, values in wanted.items()}
        rows = computed[variant.stream, key] if twin and key else rows
        named = {name: rows[name] for name in outputs[variant.stream]}
        (moved if twin else found).setdefault(key, []).append(differences(named, got))
    means = {key: float(np.concatenate(parts).mean()) for key, parts in found.items()}
    limits = {
        key: max(tolerance, SHARE * float(np.concatenate(parts).mean()))
        for key, parts in moved.items()
    }
    limit = limits[()]
    every = [differences(a, b) for a, b in zip(outputs, own, strict=True)]
    off = float(np.concatenate(every).mean())
    nearest = min(means, key=lambda key: means[key], default=())
    better = None
    if means and off > tolerance and means[nearest] <= min(limits.get(nearest, limit), off / 2):
        better = dict(nearest)
    alike = tuple(dict(key) for key, mean in means.items() if not mean > max(limit, 2 * off))
    proven = tuple(
        name
        for name in ("colour", "fit", "resize")
        if any([name] == [first for first, _ in key] for key in means)
        and not any([name] == list(one) for one in alike)
    )
    return FrameVerdict(off, limit, better, proven, alike)


def settings_text(settings: Mapping[str, str]) -> str:
    """Write settings as a contract has them."""
    return ", ".join(
        f"{name} = {value}"
        if " " in value or name in ("scale", "mean", "std")
        else f'{name} = "{value}"'
        for name, value in settings.items()
    )


def differences(wanted: Arrays, given: Arrays) -> NDArray[np.float64]:
    """Compare outputs row by row.

    Args:
        wanted: The owner's, name -> float32 ``(N, *shape)``.
        given: The model's, of the same shapes.

    Returns:
        The largest difference in each row, as a share of the output's range where that exceeds 1;
        infinite where a value is not a number.
    """
    import numpy as np

    worst = np.zeros(len(next(iter(wanted.values()))))
    for name, values in wanted.items():
        scale = max(1.0, float(np.abs(values).max(initial=0)))
        off = np.abs(given[name] - values).reshape(len(values), -1).max(1) / scale
        worst = np.maximum(worst, np.where(np.isnan(off), np.inf, off))
    return worst
