"""Drafts of contract files, from what a model's own file records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from edgevid import registry
from edgevid.errors import BadInput
from edgevid.files import write_bytes
from edgevid.tasks.host import open_host
from edgevid.tasks.host.importing import OutputDraft
from edgevid_converters import importers
from edgevid_converters.importers import imported
from edgevid_converters.importers.contract_toml import default_contract_path
from edgevid_converters.importers.tensors import TensorInfo, layout_of, plain_names

GUESS = "  # a guess: check it"
MARK = "# TODO"
"""Marks lines that the user has to fill in."""
FALLBACK = "raw"
"""The task of a model whose outputs no task recognises."""


def write_draft(model: Path, out: Path | None = None) -> dict[str, Any]:
    """Write the draft of a model's contract file.

    Args:
        model: File or folder of the model.
        out: Where to write it. Default: next to the model.

    Returns:
        ``contract``, the file's path, and ``open``, how many lines the user has to fill in.

    Raises:
        BadInput: The file exists already, or there is no model.
        ConverterFailed: The model's own runtime crashed on it.
    """
    model = Path(model)
    kind = importers.kind_of(model)
    if kind == "run":
        raise BadInput(f"{model} is a run, which has its own contract; convert it directly")
    file = out or default_contract_path(model)
    if file.exists():
        raise BadInput(f"{file} already exists; edit it, or write another one with -o")
    described = imported.ask_reference(kind, model, {"do": "tensors"})
    inputs, outputs = (imported.read_tensors(described[key]) for key in ("inputs", "outputs"))
    content = draft(model.name, inputs, outputs)
    write_bytes(file, content.encode())
    return {"contract": str(file), "open": content.count(MARK)}


def draft(name: str, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> str:
    """Return the text of the file; lines that the user has to fill in have a ``# TODO``."""
    parts = _sort(inputs, outputs)
    return "\n".join([*_head(name, inputs, outputs), *_body(parts), ""])


@dataclass(frozen=True)
class _Parts:
    """What the inputs and outputs seem to be."""

    images: tuple[TensorInfo, ...]
    vectors: tuple[TensorInfo, ...]
    states: tuple[tuple[TensorInfo, TensorInfo], ...]
    others: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


def _sort(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> _Parts:
    images = tuple(tensor for tensor in inputs if layout_of(tensor.shape))
    rest = [tensor for tensor in inputs if tensor not in images]
    states, left = [], list(outputs)
    for tensor in rest:
        fitting = [one for one in left if _could_return(tensor, one)]
        if fitting:
            best = max(
                fitting, key=lambda one: SequenceMatcher(None, tensor.name, one.name).ratio()
            )
            states.append((tensor, best))
            left.remove(best)
    kept = {tensor.name for tensor, _ in states}
    rest = [tensor for tensor in rest if tensor.name not in kept]
    floats = [
        tensor for tensor in rest if tensor.dtype.startswith("float") and len(tensor.shape) > 1
    ]
    vectors = () if images else tuple(floats)
    others = tuple(tensor for tensor in rest if tensor not in vectors)
    return _Parts(images, vectors, tuple(states), others, tuple(left))


def _could_return(taken: TensorInfo, given: TensorInfo) -> bool:
    """Whether an output could be the next step's input."""
    same = taken.dtype == given.dtype and len(taken.shape) == len(given.shape) > 1
    sizes = zip(taken.shape, given.shape, strict=False)
    return same and all(a == b or a is None or b is None for a, b in sizes)


def _head(name: str, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> Iterator[str]:
    yield f"# What {name} does not record about itself. Its inputs are"
    yield from (f"#     {tensor}" for tensor in inputs)
    yield "# and its outputs"
    yield from (f"#     {tensor}" for tensor in outputs)
    yield "# Fill in the lines with TODO and remove their first #."
    yield ""


def _body(parts: _Parts) -> Iterator[str]:
    task, found = _guess_task(parts)
    yield from _task(task, found)
    rate_fps = 15 if parts.images or not parts.vectors else 1
    yield f"rate_fps = {rate_fps}  # steps per second" + GUESS
    for number, tensor in enumerate(parts.images, 1):
        yield from _frame(tensor, "" if len(parts.images) == 1 else f"frame_{number}")
    if not parts.images and not parts.vectors:
        yield from ("", "# [[input]]  # TODO: which input takes the image", '# kind = "frame"')
    for tensor in parts.vectors:
        yield from ("", "[[input]]  # new at every step")
        yield 'kind = "vector"  # or audio, with its sample_rate_hz' + GUESS
        yield f"input = {_text(tensor.name)}"
        yield from _shape("shape", tensor)
    for tensor in parts.others:
        yield from ("", '[[input]]  # kind = "vector" if it is new at every step')
        yield from ('kind = "constant"', f"input = {_text(tensor.name)}  # {tensor}")
        yield "# value = 0  # TODO: its value"
    names = plain_names([tensor.name for tensor, _ in parts.states])
    for name, (taken, given) in zip(names, parts.states, strict=True):
        yield from ("", "[[state]]  # the output is the next step's input" + GUESS)
        yield f"name = {_text(name)}"
        yield f"input = {_text(taken.name)}"
        yield f"output = {_text(given.name)}"
        yield from _shape("shape", taken)
    yield from _outputs(parts, found)


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
    height, width = tensor.shape[2:] if layout == "nchw" else tensor.shape[1:3]
    yield from ("", "[[input]]  # each value is (pixel / scale - mean) / std", 'kind = "frame"')
    if name:
        yield f"name = {_text(name)}" + GUESS
    yield f"input = {_text(tensor.name)}"
    yield f'layout = "{layout}"'
    for key, size in (("height", height), ("width", width)):
        line = f"{key} = {size or 224}"
        yield line if size else f"# {line}  # TODO: the model leaves it open"
    yield 'fit = "stretch"  # or crop, letterbox' + GUESS
    yield 'resize = "area"  # or bilinear, bilinear-antialias, nearest' + GUESS
    yield 'colour = "rgb"  # or bgr' + GUESS
    if tensor.dtype.startswith("float"):
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
    return json.dumps(value, ensure_ascii=False)
