import json
from pathlib import Path

import numpy as np
import pytest

from edgevid.errors import BadInput
from edgevid.predictions import RawOutputs
from edgevid.results import Result
from edgevid.sinks.jsonl import JsonLines, JsonLinesOptions
from edgevid.testing.sink import SinkSuite


class TestJsonLines(SinkSuite):
    name = "jsonl"

    @pytest.fixture
    def options(self, tmp_path):
        return JsonLinesOptions(tmp_path / "new folder" / "results.jsonl")

    @pytest.fixture
    def received(self, options):
        return lambda: [json.loads(line) for line in options.path.read_text().splitlines()]


class Full:
    """A raw file on a disk that is full after ``room`` bytes."""

    def __init__(self, room):
        self.content, self.room = b"", room

    def write(self, data):
        taken = bytes(data[: self.room])
        if not taken:
            raise OSError(28, "No space left on device")
        self.content += taken
        self.room -= len(taken)
        return len(taken)

    def flush(self):
        pass


def test_no_line_is_torn_after_the_disk_was_full():
    file = Full(80)
    sink = JsonLines.to(file)
    sink.write(Result("door", 0, 0.0, RawOutputs({})))
    sink.flush()
    sink.write(Result("door", 1, 0.0, RawOutputs({})))
    with pytest.raises(OSError, match="No space"):
        sink.flush()
    file.room = 1000
    sink.write(Result("door", 2, 0.0, RawOutputs({})))
    sink.flush()
    first, torn, last = file.content.decode().splitlines()
    assert json.loads(first)["index"] == 0
    assert json.loads(last)["index"] == 2
    with pytest.raises(json.JSONDecodeError):
        json.loads(torn)


def test_all_values_of_raw_outputs_are_written_on_request(tmp_path):
    raw = RawOutputs({"boxes": np.arange(20, dtype=np.float32).reshape(1, 5, 4)})
    lines = {}
    for full in (False, True):
        path = tmp_path / f"{full}.jsonl"
        sink = JsonLines(JsonLinesOptions(path, full=full))
        sink.write(Result("door", 0, 0.0, raw))
        sink.flush()
        sink.close()
        lines[full] = json.loads(path.read_text())["outputs"]["boxes"]
    assert (len(lines[False]["values"]), lines[False]["omitted"]) == (8, 12)
    assert lines[True]["values"] == list(range(20))
    assert "omitted" not in lines[True]


def test_it_continues_at_the_end_of_a_file(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text("{}\n")
    sink = JsonLines(JsonLinesOptions(path))
    sink.write(Result("door", 7, 0.0, RawOutputs({})))
    sink.flush()
    path.rename(tmp_path / "rotated.jsonl")
    sink.reopen()
    sink.write(Result("door", 8, 0.0, RawOutputs({})))
    sink.flush()
    sink.close()
    assert len((tmp_path / "rotated.jsonl").read_text().splitlines()) == 2
    assert json.loads(path.read_text())["index"] == 8


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written: Not a directory; part of the path is"):
        JsonLines(JsonLinesOptions(Path(tmp_path / "file" / "results.jsonl")))
