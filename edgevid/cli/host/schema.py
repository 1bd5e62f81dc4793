"""``edgevid schema``."""

from __future__ import annotations

import json

import click

from edgevid.cli.console import common, emit


@click.command(name="schema")
@click.argument("name", required=False)
@common
def command(name: str | None, as_json: bool) -> None:
    """Print the JSON schema of a document that edgevid writes.

    Without NAME, list the documents that have a schema (JSON Schema, draft 2020-12).

    Example:  edgevid schema bench
    """
    from edgevid.documents import PUBLISHED, published

    if name is None:
        emit({"schemas": list(PUBLISHED)}, as_json, "\n".join(PUBLISHED))
        return
    found = published(name)
    emit(found, as_json, json.dumps(found, indent=2, ensure_ascii=False))
