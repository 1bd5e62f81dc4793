"""Documents: written, read back, described by a schema that agrees with both."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any, Literal

import jsonschema
import pytest

from edgevid import documents
from edgevid.documents import from_json, named, optional, schema, to_json
from edgevid.errors import BadInput


@dataclass(frozen=True)
class Known:
    """A value that is known."""

    value: float


@dataclass(frozen=True)
class Unknown:
    """A value that is not known."""

    why: str = named("insufficient")


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        name: The name of the part,
            in two lines.
    """

    name: str
    estimate: Known | Unknown
    error: str | None = optional()
    """Absent while it works."""
    rate_fps: float | None = None


@dataclass(frozen=True)
class Whole:
    """A document of parts."""

    parts: tuple[Part, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    """The open part."""
    mode: Literal["a", "b"] = "a"
    schema_version: Literal[1] = 1


WHOLE = Whole(
    (Part("one", Known(1.5)), Part("two", Unknown("few"), error="broken", rate_fps=25.0)),
    counts={"frames": 3},
    task={"anything": [1, {"deep": None}]},
)


def test_a_document_is_read_back_as_it_was_written():
    data = json.loads(json.dumps(to_json(WHOLE)))
    assert data["parts"][1]["estimate"] == {"insufficient": "few"}
    assert "error" not in data["parts"][0] and data["parts"][0]["rate_fps"] is None
    assert from_json(Whole, data, "it") == WHOLE
    assert from_json(Whole, {**data, "added_later": 1}, "it") == WHOLE


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("parts"), "it lacks the key 'parts'"),
        (lambda d: d["parts"][1].update(name=3), r"parts\[1\].name must be text, not 3"),
        (lambda d: d["parts"][0]["estimate"].clear(), r"parts\[0\].estimate lacks the key"),
        (lambda d: d["counts"].update(frames=True), "counts.frames must be an integer, not True"),
        (lambda d: d.update(mode="c"), "mode must be one of 'a', 'b', not 'c'"),
        (lambda d: d.update(parts={}), "parts must be a list, not dict"),
        (lambda d: d.update(schema_version=2), "schema_version must be one of 1, not 2"),
    ],
)
def test_a_wrong_value_is_named_by_its_path_and_breaks_the_schema(change, says):
    data = to_json(WHOLE)
    change(data)
    with pytest.raises(BadInput, match=f"status.json is damaged: {says}"):
        from_json(Whole, data, "status.json")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema(Whole, "whole"))


def test_the_schema_accepts_what_is_written_and_describes_it():
    found = schema(Whole, "whole")
    jsonschema.Draft202012Validator.check_schema(found)
    jsonschema.validate(to_json(WHOLE), found)
    assert found["$id"] == "urn:edgevid:schema:whole:1"
    assert found["properties"]["task"] == {"type": "object", "description": "The open part."}
    part = found["$defs"]["Part"]
    assert part["properties"]["name"]["description"] == "The name of the part, in two lines."
    assert part["required"] == ["name", "estimate", "rate_fps"]
    assert part["properties"]["rate_fps"]["type"] == ["number", "null"]


def test_what_has_no_json_form_is_an_error():
    with pytest.raises(TypeError, match="set has no JSON form"):
        to_json({"a": {1, 2}})


@pytest.mark.parametrize("name", documents.PUBLISHED)
def test_a_published_schema_is_the_one_of_its_class(name):
    module, _, kind = documents.PUBLISHED[name].partition(":")
    document = getattr(import_module(module), kind)
    assert documents.published(name) == schema(document, name), "run: python -m edgevid.documents"
    assert "schema_version" in [one.name for one in fields(document)]


def test_the_command_line_prints_them(edgevid):
    done = edgevid("schema")
    assert done.returncode == 0
    assert done.stdout.split() == list(documents.PUBLISHED)
    for name in documents.PUBLISHED:
        done = edgevid("schema", name, "--json")
        assert json.loads(done.stdout) == documents.published(name)
    done = edgevid("schema", "benhc")
    assert done.returncode == 2
    assert "unknown schema" in done.stderr
