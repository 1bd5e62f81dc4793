"""Drafts of contract files, from what a model's own file records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import product
from pathlib import Path
from typing import Any

from edgevid import registry
from edgevid.errors import BadInput
from edgevid.files import text_bytes, write_bytes
from edgevid.tasks.host import open_host
from edgevid.tasks.host.importing import OutputDraft
from edgevid.text import printable, printable_json
from edgevid_converters import importers
from edgevid_converters.importers import imported
from edgevid_converters.importers.contract_toml import default_contract_path
from edgevid_converters.importers.tensors import TensorInfo, channels_of, layout_of, plain_names

GUESS = "  # a guess: check it"
MARK = "  # TODO"
"""Marks lines that the user has to fill in."""
FALLBACK = "raw"
"""The task of a model whose outputs no task recognises."""


def write_draft(
    model: Path, out: Path | None = None, *, trust_model: bool = False
) -> dict[str, Any]:
    """Write the draft of a model's contract file.

    Args:
        model: File or folder of the model.
        out: Where to write it. Default: next to the model.
        trust_model: Accept code in the model, which is executed when it is loaded.

    Returns:
        ``contract``, the file's path, ``open``, how many lines the user has to fill in, and
        ``guesses``, how many others are guessed.

    Raises:
        BadInput: The file exists already, there is no model, or it has code in it.
        ConverterFailed: The model's own runtime crashed on it.
    """
    model = Path(model)
    kind = importers.kind_of(model)
    if kind == "run":
        raise BadInput(f"{model} is a run, which has its own contract; convert it directly")
    file = out or default_contract_path(model)
    if file.exists():
        raise BadInput(f"{file} already exists; edit it, or write another one with -o")
    described = imported.ask_reference(kind, model, {"do": "tensors"}, trusted=trust_model)
    inputs, outputs = (imported.read_tensors(described[key]) for key in ("inputs", "outputs"))
    content = draft(model.name, inputs, outputs)
    write_bytes(file, text_bytes(content))
    count = sum(MARK in line for line in content.splitlines())
    return {"contract": str(file), "open": count, "guesses": content.count(GUESS[3:])}


def draft(name: str, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> str:
    """Return the text of the file; lines that the user has to fill in have a ``# TODO``."""
    parts = _sort(inputs, outputs)
    body = [*_body(parts), ""]
    return "\n".join(map(printable, [*_head(name, inputs, outputs, body), *body]))


@dataclass(frozen=True)
class _Parts:
    """What the inputs and outputs seem to be."""

    images: tuple[TensorInfo, ...]
    vectors: tuple[TensorInfo, ...]
    states: tuple[tuple[TensorInfo, TensorInfo], ...]
    others: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


def _sort(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> _Parts:
    images = [tensor for tensor in inputs if layout_of(tensor.shape)]
    sure = [tensor for tensor in images if _is_colour(tensor)]
    images = sure or images  # what has one channel may be a map of features
    pairs = _states([tensor for tensor in inputs if tensor not in sure], outputs)
    if not sure and not _left_new(inputs, pairs):
        pairs = pairs[:-1]  # something has to be new at every step
    kept = {tensor.name for tensor, _ in pairs}
    images = [tensor for tensor in images if tensor.name not in kept]
    rest = [tensor for tensor in inputs if tensor not in images and tensor.name not in kept]
    floats = [tensor for tensor in rest if _is_new(tensor)]
    vectors = () if images else tuple(floats)
    others = tuple(tensor for tensor in rest if tensor not in vectors)
    given = {tensor.name for _, tensor in pairs}
    left = tuple(tensor for tensor in outputs if tensor.name not in given)
    return _Parts(tuple(images), vectors, tuple(pairs), others, left)


def _is_colour(tensor: TensorInfo) -> bool:
    layout = layout_of(tensor.shape)
    return layout is not None and channels_of(layout, tensor.shape) == 3


def _is_new(tensor: TensorInfo) -> bool:
    """Whether an input may be new at every step: numbers, and not a single one."""
    return tensor.dtype.startswith("float") and len(tensor.shape) > 1


def _left_new(inputs: Sequence[TensorInfo], pairs: Sequence[tuple[TensorInfo, TensorInfo]]) -> bool:
    kept = {tensor.name for tensor, _ in pairs}
    return any(_is_new(tensor) and tensor.name not in kept for tensor in inputs)


def _states(
    inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> list[tuple[TensorInfo, TensorInfo]]:
    """Pair inputs with outputs that could be their next values; the most alike pairs come first."""
    fitting = sorted(
        (
            (taken, given)
            for taken, given in product(inputs, outputs)
            if _could_return(taken, given)
        ),
        key=lambda pair: (-_alike(*pair), inputs.index(pair[0])),
    )
    found: dict[str, tuple[TensorInfo, TensorInfo]] = {}
    for taken, given in fitting:
        if taken.name not in found and given not in [one for _, one in found.values()]:
            found[taken.name] = taken, given
    return list(found.values())


def _could_return(taken: TensorInfo, given: TensorInfo) -> bool:
    """Whether an output could be the next step's input.

    Behind the batch, an output must not have a size that the input leaves open: a piece of sound
    of any length is no memory of one number.
    """
    if taken.dtype != given.dtype or not len(taken.shape) == len(given.shape) > 1:
        return False
    pairs = list(zip(taken.shape, given.shape, strict=True))
    return _open(*pairs[0]) and all(a == b or (b is None and a is not None) for a, b in pairs[1:])


def _open(a: int | None, b: int | None) -> bool:
    return a == b or a is None or b is None


def _alike(taken: TensorInfo, given: TensorInfo) -> float:
    """How alike two names are, and, less important, how many sizes are known to be equal."""
    names = SequenceMatcher(None, taken.name.lower(), given.name.lower()).ratio()
    known = sum(a == b is not None for a, b in zip(taken.shape, given.shape, strict=True))
    return names + known / 100


def _head(
    name: str, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], body: Sequence[str]
) -> Iterator[str]:
    yield f"# What {name} does not record about itself. Its inputs are"
    yield from (f"#     {tensor}" for tensor in inputs)
    yield "# and its outputs"
    yield from (f"#     {tensor}" for tensor in outputs)
    if any(MARK in line for line in body):
        yield "# Fill in the lines with TODO and remove their first #."
    if any(GUESS in line for line in body):
        yield "# Check the lines marked as a guess."
    yield ""


def _body(parts: _Parts) -> Iterator[str]:
    task, found = _guess_task(parts)
    yield from _task(task, found)
    yield from _rate(parts)
    for number, tensor in enumerate(parts.images, 1):
        yield from _frame(tensor, "" if len(parts.images) == 1 else f"frame_{number}")
    if not parts.images and not parts.vectors:
        yield from ("", "# [[input]]  # TODO: which input takes the image", '# kind = "frame"')
    for tensor in parts.vectors:
        yield from ("", "[[input]]  # new at every step")
        yield from _sound(tensor) if _is_sound(tensor) else _vector(tensor)
    for tensor in parts.others:
        yield from ("", '[[input]]  # kind = "vector" if it is new at every step')
        yield f'kind = "constant"{GUESS}'
        yield f"input = {_text(tensor.name)}  # {tensor}"
        yield "# value = 0  # TODO: its value"
    names = plain_names([tensor.name for tensor, _ in parts.states])
    for name, (taken, given) in zip(names, parts.states, strict=True):
        yield from ("", "[[state]]  # the output is the next step's input" + GUESS)
        yield f"name = {_text(name)}"
        yield f"input = {_text(taken.name)}"
        yield f"output = {_text(given.name)}"
        yield from _shape("shape", taken)
    yield from _outputs(parts, found)


def _rate(parts: _Parts) -> Iterator[str]:
    clips = [tensor for tensor in parts.images if "t" in str(layout_of(tensor.shape))]
    if clips:
        yield "# rate_fps = 15  # TODO: frames per second of the clips that it was trained on"
        return
    rate_fps = 15 if parts.images or not parts.vectors else 1
    yield f"rate_fps = {rate_fps}  # steps per second" + GUESS


SOUND = ("audio", "pcm", "samples", "signal", "sound", "speech", "wav")
"""Parts of the names that inputs of sound have."""


def _is_sound(tensor: TensorInfo) -> bool:
    """Whether a vector may be sound: one row, of any length or by its name."""
    named = any(part in tensor.name.lower() for part in SOUND)
    return len(tensor.shape) == 2 and (tensor.shape[1] is None or named)


def _sound(tensor: TensorInfo) -> Iterator[str]:
    yield f'kind = "audio"  # or vector, with its shape{GUESS}'
    yield f"input = {_text(tensor.name)}"
    yield "# sample_rate_hz = 16000  # TODO: samples per second"
    if tensor.shape[1] is None:
        yield "# samples = 512  # TODO: samples per step"


def _vector(tensor: TensorInfo) -> Iterator[str]:
    yield f'kind = "vector"  # or audio, with its sample_rate_hz{GUESS}'
    yield f"input = {_text(tensor.name)}"
    yield from _shape("shape", tensor)


def _guess_task(parts: _Parts) -> tuple[str, OutputDraft | None]:
    """Return the first task whose outputs these look like, and its draft; else the fallback."""
    if len(parts.images) == 1:
        shapes = [tensor.shape for tensor in parts.outputs]
        for name in registry.names("task"):
            if found := open_host(name).draft_outputs(shapes):
                return name, found
    return FALLBACK, None


def _task(name: str, found: OutputDraft | None) -> Iterator[str]:
    if found is None:
        others = " or ".join(_text(one) for one in registry.names("task") if one != name)
        yield f"task = {_text(name)}  # the outputs as they are; else {others}"
        return
    yield f"task = {_text(name)}{GUESS}"
    for key, value in found.settings:
        yield f"{key} = {_text(value)}{GUESS}"
    for key, value, comment in found.missing:
        yield f"# {key} = {_text(value)}  # TODO: {comment}"


def _frame(tensor: TensorInfo, name: str) -> Iterator[str]:
    layout = layout_of(tensor.shape)
    assert layout is not None
    size = dict(zip(layout, tensor.shape, strict=True))
    kind = 'kind = "frame"' + ("" if _is_colour(tensor) else f"  # or vector{GUESS}")
    yield from ("", "[[input]]  # each value is (pixel / scale - mean) / std", kind)
    if name:
        yield f"name = {_text(name)}" + GUESS
    yield f"input = {_text(tensor.name)}"
    frames = "  # a clip: t is the frames, of which the camera gives one at each step"
    yield f'layout = "{layout}"' + (frames + GUESS if "t" in layout else "")
    if "t" in layout and size["t"] is None:
        yield "# frames = 16  # TODO: the model leaves it open"
    for key, axis in (("height", "h"), ("width", "w")):
        line = f"{key} = {size[axis] or 224}"
        yield line if size[axis] else f"# {line}  # TODO: the model leaves it open"
    yield 'fit = "stretch"  # or crop, letterbox' + GUESS
    yield 'resize = "area"  # or bilinear, bilinear-antialias, nearest' + GUESS
    if _is_colour(tensor):
        yield 'colour = "rgb"  # or bgr' + GUESS
    else:
        yield 'colour = "grey"'
    yield from _arithmetic(tensor)


def _arithmetic(tensor: TensorInfo) -> Iterator[str]:
    if tensor.levels is not None and tensor.levels.dtype != "int16":
        yield f"# Pixels go in as they are, as the levels of {tensor.levels};{GUESS[3:]}"
        yield "# with scale, mean and std they are computed first, and then quantised."
    elif tensor.dtype.startswith("float"):
        yield "scale = 255" + GUESS
        yield "mean = 0  # or one for each channel" + GUESS
        yield "std = 1  # or one for each channel" + GUESS


def _shape(key: str, tensor: TensorInfo) -> Iterator[str]:
    if None in tensor.shape:
        yield f"{key} = {[1 if size is None else size for size in tensor.shape]}{GUESS}"


def _outputs(parts: _Parts, found: OutputDraft | None) -> Iterator[str]:
    names = found.output_names if found else plain_names([tensor.name for tensor in parts.outputs])
    for name, tensor in zip(names, parts.outputs, strict=True):
        yield from ("", "[[output]]", f"name = {_text(name)}", f"output = {_text(tensor.name)}")
        for key, value, comment in found.output_settings if found else ():
            yield f"{key} = {_text(value)}  # {comment}" + GUESS


def _text(value: Any) -> str:
    """Write a string, a boolean or a list of strings for TOML."""
    return printable_json(json.dumps(value, ensure_ascii=False))
