"""The first draft of a contract file, from what a model's own file tells."""

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
from edgevid_converters.importers.contract_toml import (
    TensorInfo,
    default_contract_path,
    layout_of,
    plain_names,
)

GUESS = "  # a guess: check it"
FALLBACK = "raw"
"""The task of a model whose outputs no task recognises."""


def start(model: Path, out: Path | None = None) -> dict[str, Any]:
    """Write the contract file of a model; gives ``contract``, its path, and what stays to be said.

    Raises `BadInput` where there is one already, or the model is none.
    """
    model = Path(model)
    kind = importers.kind_of(model)
    if kind == "run":
        raise BadInput(f"{model} is a run and has a contract of its own; convert it as it is")
    file = out or default_contract_path(model)
    if file.exists():
        raise BadInput(f"{file} is there already; edit it, or write another one with -o")
    told = imported.ask_reference(kind, model, {"do": "tensors"})
    inputs, outputs = (imported.read_tensors(told[key]) for key in ("inputs", "outputs"))
    content = draft(model.name, inputs, outputs)
    write_bytes(file, content.encode())
    return {"contract": str(file), "open": content.count("# SAY")}


def draft(name: str, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> str:
    """The text of the file: what is known stands there, what is not is marked ``# SAY``."""
    parts = _sort(inputs, outputs)
    return "\n".join([*_head(name, inputs, outputs), *_body(parts), ""])


@dataclass(frozen=True)
class _Parts:
    """What each input and output seems to be."""

    images: tuple[TensorInfo, ...]
    vectors: tuple[TensorInfo, ...]
    states: tuple[tuple[TensorInfo, TensorInfo], ...]
    others: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


def _sort(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> _Parts:
    images = tuple(port for port in inputs if layout_of(port.shape))
    rest = [port for port in inputs if port not in images]
    states, left = [], list(outputs)
    for port in rest:
        fitting = [one for one in left if _could_return(port, one)]
        if fitting:
            best = max(fitting, key=lambda one: SequenceMatcher(None, port.name, one.name).ratio())
            states.append((port, best))
            left.remove(best)
    kept = {port.name for port, _ in states}
    rest = [port for port in rest if port.name not in kept]
    floats = [port for port in rest if port.dtype.startswith("float") and len(port.shape) > 1]
    vectors = () if images else tuple(floats)
    others = tuple(port for port in rest if port not in vectors)
    return _Parts(images, vectors, tuple(states), others, tuple(left))


def _could_return(taken: TensorInfo, given: TensorInfo) -> bool:
    """Whether an output could be the next step's input: memory."""
    same = taken.dtype == given.dtype and len(taken.shape) == len(given.shape) > 1
    sizes = zip(taken.shape, given.shape, strict=False)
    return same and all(a == b or a is None or b is None for a, b in sizes)


def _head(name: str, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> Iterator[str]:
    yield f"# What {name} means, which its file does not say. It takes"
    yield from (f"#     {port}" for port in inputs)
    yield "# and gives"
    yield from (f"#     {port}" for port in outputs)
    yield "# Lines with SAY have to be filled in; take the first # away."
    yield ""


def _body(parts: _Parts) -> Iterator[str]:
    task, found = _guess_task(parts)
    yield from _task(task, found)
    rate_fps = 15 if parts.images or not parts.vectors else 1
    yield f"rate_fps = {rate_fps}  # steps per second" + GUESS
    for number, port in enumerate(parts.images, 1):
        yield from _frame(port, "" if len(parts.images) == 1 else f"frame_{number}")
    if not parts.images and not parts.vectors:
        yield from ("", "# [[input]]  # SAY which input takes the image", '# kind = "frame"')
    for port in parts.vectors:
        yield from ("", "[[input]]  # what is new at every step")
        yield 'kind = "vector"  # or audio, with its sample_rate_hz' + GUESS
        yield f"input = {_text(port.name)}"
        yield from _shape("shape", port)
    for port in parts.others:
        yield from ("", '[[input]]  # kind = "vector" where it is new at every step')
        yield from ('kind = "constant"', f"input = {_text(port.name)}  # {port}")
        yield "# value = 0  # SAY what it always is"
    names = plain_names([port.name for port, _ in parts.states])
    for name, (taken, given) in zip(names, parts.states, strict=True):
        yield from ("", "[[state]]  # memory: the output is the next step's input" + GUESS)
        yield f"name = {_text(name)}"
        yield f"input = {_text(taken.name)}"
        yield f"output = {_text(given.name)}"
        yield from _shape("shape", taken)
    yield from _outputs(parts, found)


def _guess_task(parts: _Parts) -> tuple[str, OutputDraft | None]:
    """Return the first task whose outputs these look like, and its draft; else the fallback."""
    if len(parts.images) == 1:
        shapes = [port.shape for port in parts.outputs]
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
        yield f"# {key} = {_text(value)}  # SAY {comment}"


def _frame(port: TensorInfo, name: str) -> Iterator[str]:
    layout = layout_of(port.shape)
    height, width = port.shape[2:] if layout == "nchw" else port.shape[1:3]
    yield from ("", "[[input]]  # each value is (pixel / scale - mean) / std", 'kind = "frame"')
    if name:
        yield f"name = {_text(name)}" + GUESS
    yield f"input = {_text(port.name)}"
    yield f'layout = "{layout}"'
    for key, size in (("height", height), ("width", width)):
        line = f"{key} = {size or 224}"
        yield line if size else f"# {line}  # SAY it: the model leaves it open"
    yield 'fit = "stretch"  # or crop, letterbox' + GUESS
    yield 'colour = "rgb"  # or bgr' + GUESS
    if port.dtype.startswith("float"):
        yield "scale = 255" + GUESS
        yield "mean = 0  # or one for each channel" + GUESS
        yield "std = 1  # or one for each channel" + GUESS


def _shape(key: str, port: TensorInfo) -> Iterator[str]:
    if None in port.shape:
        yield f"{key} = {[1 if size is None else size for size in port.shape]}{GUESS}"


def _outputs(parts: _Parts, found: OutputDraft | None) -> Iterator[str]:
    names = found.output_names if found else plain_names([port.name for port in parts.outputs])
    for name, port in zip(names, parts.outputs, strict=True):
        yield from ("", "[[output]]", f"name = {_text(name)}", f"output = {_text(port.name)}")
        for key, value, comment in found.output_settings if found else ():
            yield f"{key} = {_text(value)}  # {comment}" + GUESS


def _text(value: Any) -> str:
    """Write a string, a boolean or a list of strings for TOML."""
    return json.dumps(value, ensure_ascii=False)
