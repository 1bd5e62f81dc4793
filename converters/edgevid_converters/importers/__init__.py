"""Importers: one module per kind of model file.

An importer recognises and describes a model (`describe`), and loads it in a child process (`load`)
to run it in its own runtime and to lower it. What the file does not record comes from a contract
TOML, see `edgevid_converters.importers.contract_toml`.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from pathlib import Path

from edgevid.contract import Contract
from edgevid.errors import BadInput
from edgevid_converters.importers import imported
from edgevid_converters.importers.preprocessing import Preprocessing
from edgevid_converters.importers.source import ReferenceModel, SourceModel

__all__ = ["KINDS", "ReferenceModel", "SourceModel", "describe", "kind_of", "load", "why_not"]

KINDS = ("run", "saved_model", "keras", "onnx", "tflite", "openvino")
KNOWN = "a run folder, a SavedModel, .keras, .h5, .onnx, .tflite, or OpenVINO's .xml"


def describe(path: Path, contract_file: Path | None = None) -> SourceModel:
    """Recognise and describe the model at ``path``.

    Args:
        path: File or folder of the model.
        contract_file: Its contract TOML. Default: ``MODEL.contract.toml`` next to it.

    Raises:
        BadInput: There is no model at ``path``, or model and contract do not fit.
        ConverterFailed: The model's own runtime crashed on it.
    """
    path = Path(path)
    kind = kind_of(path)
    module = import_module(f"{__name__}.{kind}")
    if kind == "run":
        source: SourceModel = module.describe(path, contract_file)
        return source
    described = imported.describe(kind, path, contract_file)
    return SourceModel(
        kind=kind,
        path=path,
        contract=Contract.from_json(described["contract"]),
        forms=module.FORMS,
        record=described["record"],
        preprocessing=Preprocessing.from_json(described["preprocessing"]),
    )


def kind_of(path: Path) -> str:
    """Find the importer for the model at ``path``.

    Raises:
        BadInput: There is nothing at ``path``, or no importer recognises it.
    """
    if not path.exists():
        raise BadInput(f"{path} does not exist; give {KNOWN}")
    for kind in KINDS:
        if import_module(f"{__name__}.{kind}").matches(path):
            return kind
    what = "has no run.json; make one with edgevid train, or" if path.is_dir() else "is no model;"
    raise BadInput(f"{path} {what} give {KNOWN}")


def why_not(source: SourceModel, forms: Collection[str]) -> str:
    """Explain why a source can be lowered to none of ``forms``."""
    if source.kind == "openvino":
        return "OpenVINO IR cannot be converted to it; give the model that the IR was made from"
    return f"it can be lowered to {', '.join(source.forms)} only, not to {', '.join(forms)}"


def load(source: SourceModel) -> ReferenceModel:
    """Load the model in its own runtime.

    Raises:
        BadInput: Its files are damaged.
    """
    module = import_module(f"{__name__}.{source.kind}")
    if source.preprocessing is None:
        model: ReferenceModel = module.load(source)
        return model
    return imported.ImportedModel(source, module.FORMS)
