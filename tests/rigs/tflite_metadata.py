"""A reader of TFLite Metadata by the slots of its schema, which is no part of what writes it."""

from __future__ import annotations

from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import number_types
from flatbuffers.table import Table


class Fields:
    """One table: its fields by slot; texts, numbers, tables, and vectors of these."""

    def __init__(self, content: bytes, place: int) -> None:
        self._table = Table(content, place)

    def _offset(self, slot: int) -> int:
        return int(self._table.Offset(4 + 2 * slot))

    def text(self, slot: int) -> str:
        return self._table.String(self._offset(slot) + self._table.Pos).decode()

    def number(self, slot: int, kind: str) -> int:
        flags: Any = getattr(number_types, f"{kind}Flags")
        offset = self._offset(slot)
        return int(self._table.Get(flags, offset + self._table.Pos)) if offset else 0

    def table(self, slot: int) -> Fields:
        place = self._table.Indirect(self._offset(slot) + self._table.Pos)
        return Fields(self._table.Bytes, place)

    def tables(self, slot: int) -> list[Fields]:
        if not (offset := self._offset(slot)):
            return []
        start, count = self._table.Vector(offset), self._table.VectorLen(offset)
        places = [self._table.Indirect(start + 4 * k) for k in range(count)]
        return [Fields(self._table.Bytes, place) for place in places]

    def floats(self, slot: int) -> list[float]:
        offset = self._offset(slot)
        return self._table.GetVectorAsNumpy(number_types.Float32Flags, offset).tolist()


def metadata_of(content: bytes) -> Fields:
    """The root table of a ``.tflite`` file's metadata."""
    model = schema.Model.GetRootAsModel(content, 0)
    found = {model.Metadata(k).Name(): model.Metadata(k) for k in range(model.MetadataLength())}
    stored = model.Buffers(found[b"TFLITE_METADATA"].Buffer()).DataAsNumpy().tobytes()
    assert stored[4:8] == b"M001"
    return Fields(stored, flatbuffers.encode.Get(flatbuffers.packer.uoffset, stored, 0))
