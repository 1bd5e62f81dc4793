"""Metadata of a ``.tflite`` for other readers: TFLite Metadata, as MediaPipe Tasks reads it.

It is a flatbuffer of its own in one of the model's buffers, and a zip after the model's last byte
that holds the labels. No installed package has classes for it, and it is small, so its tables are
written by the slots that its schema (``metadata_schema.fbs``) gives their fields.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgevid.contract import Contract, FrameInput
from edgevid.tasks.host import open_host
from edgevid_converters.lowering.tflite.flatbuffer import Table, pack, parse

NAME = b"TFLITE_METADATA"
IDENTIFIER = b"M001"
LABELS = "labels.txt"
SINCE = "1.0.0"  # of the schema; no field here is newer
STEP = "One step: what is new and the memory so far go in, an answer and the new memory come out."


@dataclass(frozen=True)
class _Number:
    """A scalar field of a table; ``kind`` is flatbuffers' name of its type."""

    value: int
    kind: str


Fields = Mapping[int, Any]
"""A table: slot -> text, number, table, list of tables or texts, or tuple of floats."""

FEATURE, IMAGE = _Number(1, "Uint8"), _Number(2, "Uint8")  # of the union ContentProperties
NORMALIZATION = _Number(1, "Uint8")  # of the union ProcessUnitOptions
RGB = _Number(1, "Int8")
AXIS_LABELS = _Number(2, "Int8")


def described(content: bytes, contract: Contract) -> bytes:
    """Add what the contract records about each tensor, and the labels."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = parse(content)
    metadata = _packed(_model(model, contract))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(metadata, np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = NAME, len(model.buffers) - 1
    for one in model.metadata or []:
        if one.name == NAME:  # from the model that this was made from
            model.buffers[one.buffer].data = None
    model.metadata = [one for one in model.metadata or [] if one.name != NAME] + [entry]
    packed = pack(model)
    return packed + _zipped(contract, len(packed))


def _zipped(contract: Contract, start: int) -> bytes:
    """Return the files after a model of ``start`` bytes: a zip whose offsets count the model's."""
    if not contract.labels:
        return b""
    lines = "".join(f"{' '.join(label.splitlines())}\n" for label in contract.labels)
    whole = io.BytesIO(bytes(start))
    whole.seek(start)
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
        info = zipfile.ZipInfo(LABELS, (1980, 1, 1, 0, 0, 0))
        info.create_system = 3  # Unix, also on other systems
        info.external_attr = 0o100644 << 16
        archive.writestr(info, lines.encode())
    return whole.getvalue()[start:]


# ---------------------------------------------------------------- what is said


def _model(model: Table, contract: Contract) -> Fields:
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    takes = {one.tensorIndex: _text(one.name) for one in signature.inputs}
    gives = {one.tensorIndex: _text(one.name) for one in signature.outputs}
    tensors = {
        2: [_input(takes[int(index)], contract) for index in graph.inputs],
        3: [_output(gives[int(index)], contract) for index in graph.outputs],
    }
    return {0: "edgevid", 1: STEP, 3: [tensors], 7: SINCE}


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _input(name: str, contract: Contract) -> Fields:
    for one in contract.inputs:
        if one.name == name:
            if isinstance(one, FrameInput):
                return _picture(one, contract.rate_fps)
            return _tensor(name, f"What is new, {contract.rate_fps:g} times a second.")
    answer = name.replace("state_", "next_", 1)
    return _tensor(name, f"Memory: what the step before gave as {answer}; zeros at the start.")


def _picture(frame: FrameInput, rate_fps: float) -> Fields:
    """A frame input. Whatever the model wants of its values, the graph itself does."""
    size = {0: _Number(frame.width, "Uint32"), 1: _Number(frame.height, "Uint32")}
    said = f"A picture, fitted by {frame.fit}, {rate_fps:g} times a second; bytes as they are."
    return {
        **_tensor(frame.name, said),
        3: {0: IMAGE, 1: {0: RGB, 1: size}},
        4: [{0: NORMALIZATION, 1: {0: (0.0,), 1: (1.0,)}}],
        5: {0: (255.0,), 1: (0.0,)},
    }


def _output(name: str, contract: Contract) -> Fields:
    if name.startswith("next_"):
        taken = name.replace("next_", "state_", 1)
        return _tensor(name, f"Memory: what the next step takes as {taken}.")
    found = open_host(contract.task).describe_output(name, contract)
    fields = _tensor(name, found.text)
    if found.value_range:
        low, high = found.value_range
        fields[5] = {0: (high,), 1: (low,)}
    if found.labels:
        fields[6] = [{0: LABELS, 1: "The label of each score, one a line.", 2: AXIS_LABELS}]
    return fields


def _tensor(name: str, description: str) -> dict[int, Any]:
    return {0: name, 1: description, 3: {0: FEATURE, 1: {}}}


# ---------------------------------------------------------------- how it is written


def _packed(fields: Fields) -> bytes:
    import flatbuffers  # type: ignore[import-untyped]

    builder = flatbuffers.Builder(1024)
    builder.Finish(_table(builder, fields), IDENTIFIER)
    return bytes(builder.Output())


def _table(builder: Any, fields: Fields) -> int:
    """Write a table; returns its offset. Tables that it points to are written before."""
    places = {
        slot: None if isinstance(value, _Number) else _place(builder, value)
        for slot, value in fields.items()
    }
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, value in fields.items():
        place = places[slot]
        if place is None:
            getattr(builder, f"Prepend{value.kind}Slot")(slot, value.value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, place, 0)
    return int(builder.EndObject())


def _place(builder: Any, value: Any) -> int:
    """Write a text, a table, or a vector; returns its offset."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, Mapping):
        return _table(builder, value)
    if isinstance(value, tuple):
        return _vector(builder, value, builder.PrependFloat32)
    return _vector(
        builder, [_place(builder, one) for one in value], builder.PrependUOffsetTRelative
    )


def _vector(builder: Any, values: Sequence[Any], prepend: Any) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        prepend(value)
    return int(builder.EndVector())
