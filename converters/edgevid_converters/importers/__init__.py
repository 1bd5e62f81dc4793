"""Importers: one module and one registry row per kind of model file.

An importer recognises and describes a model (`describe`), and loads it in a child process (`load`)
to run it in its own runtime and to lower it. What the file does not record comes from a contract
TOML, see `edgevid_converters.importers.contract_toml`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from edgevid import registry
from edgevid.contract import Contract
from edgevid.errors import BadInput
from edgevid_converters.importers import imported, run
from edgevid_converters.importers.imported import Importer, NativeModel
from edgevid_converters.importers.preprocessing import Preprocessing
from edgevid_converters.importers.source_model import ReferenceModel, SourceModel

__all__ = [
    "Importer",
    "NativeModel",
    "ReferenceModel",
    "SourceModel",
    "describe",
    "kind_of",
    "load",
    "why_not",
]

RUN = "run"
"""The kind of edgevid's own models, which have a contract of their own."""


def describe(
    path: Path, contract_file: Path | None = None, *, trusted: bool = False
) -> SourceModel:
    """Recognise and describe the model at ``path``.

    Args:
        path: File or folder of the model.
        contract_file: Its contract TOML. Default: ``MODEL.contract.toml`` next to it.
        trusted: Whether the user accepts code in the model.

    Raises:
        BadInput: There is no model at ``path``, model and contract do not fit, or the model has
            code in it.
        ConverterFailed: The model's own runtime crashed on it.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == RUN:
        return run.describe(path, contract_file)
    importer: Importer = registry.load("importer", kind)
    described = imported.describe(kind, path, contract_file, trusted=trusted)
    return SourceModel(
        kind=kind,
        path=path,
        contract=Contract.from_json(described["contract"]),
        forms=importer.forms,
        record=described["record"],
        preprocessing=Preprocessing.from_json(described["preprocessing"]),
        quantised=described["quantised"],
        companions=importer.companions(path),
        starts_children=importer.starts_children,
        trusted=trusted,
    )


def kind_of(path: Path) -> str:
    """Find the importer for the model at ``path``.

    Returns:
        Its name, or ``run`` for a run folder.

    Raises:
        BadInput: There is nothing at ``path``, or no importer recognises it.
    """
    if path.exists():
        if run.matches(path):
            return RUN
        found = next((one for one in _importers() if one.matches(path)), None)
        if found is not None:
            return found.name
    known = ", ".join(["a run folder", *(one.reads for one in _importers())])
    if not path.exists():
        raise BadInput(f"{path} does not exist; give one of: {known}")
    what = "has no run.json; make one with edgevid train, or" if path.is_dir() else "is no model;"
    raise BadInput(f"{path} {what} give one of: {known}")


def _importers() -> Iterator[Importer]:
    """Load the built-in importers, then those of other packages."""
    for names in (registry.builtin, registry.third_party):
        for name in names("importer"):
            yield registry.load("importer", name)


def why_not(source: SourceModel, forms: Collection[str]) -> str:
    """Explain why a source can be lowered to none of ``forms``."""
    if source.forms == ("ir",):
        return "OpenVINO IR cannot be converted to it; give the model that the IR was made from"
    return f"it can be lowered to {', '.join(source.forms)} only, not to {', '.join(forms)}"


def load(source: SourceModel) -> ReferenceModel:
    """Load the model in its own runtime.

    Raises:
        BadInput: Its files are damaged.
    """
    if source.kind == RUN:
        return run.load(source)
    importer: Importer = registry.load("importer", source.kind)
    return imported.ImportedModel(source, importer.forms)
