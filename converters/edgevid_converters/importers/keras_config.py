"""Configurations of Keras models, checked before Keras acts on them.

A configuration names classes and functions, which Keras imports and calls: Lambda layers hold
compiled Python code, and tf_keras runs it even in its safe mode. So a configuration may name
nothing but Keras' own layers and their parts.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgevid.errors import BadInput
from edgevid.registry import need
from edgevid.settings import shown
from edgevid_converters.importers.trust import TRUST

RUNS_CODE = frozenset(
    {
        "FlaxLayer",
        "JaxLayer",
        "Lambda",
        "TFSMLayer",
        "TensorFlowOpLayer",
        "TorchModuleWrapper",
    }
)
"""Classes of Keras that execute what a file holds or names."""
READS_FILES = frozenset({"IndexLookup", "IntegerLookup", "StringLookup", "TextVectorization"})
"""Classes of Keras that read other files that a file names."""
MODELS = frozenset({"Functional", "Model", "Sequential"})
PARTS = ("activations", "constraints", "initializers", "layers", "regularizers")
OTHERS = frozenset(
    {
        # the keras of before 2.2 and tf.keras' own names
        "BatchNormalizationV1",
        "BatchNormalizationV2",
        "DTypePolicy",
        "DTypePolicyMap",
        "FloatDTypePolicy",
        "GRUV1",
        "LSTMV1",
        "Policy",
        "QuantizedDTypePolicy",
        "RandomNormalV2",
        "RandomUniformV2",
        "SyncBatchNormalization",
        "TensorShape",
        "TruncatedNormalV2",
        "__keras_tensor__",
        "__tensor__",
        "__tuple__",
        "ellipsis",
        "slice",
    }
)
"""Class names in configurations that hold data, or are older names of a known class."""
OPERATORS = frozenset({"InstanceMethod", "InstanceProperty", "SlicingOpLambda"})
CALLS = frozenset({"ClassMethod", "TFOpLambda", *OPERATORS})
"""Layers that tf_keras writes for a function of TensorFlow between two layers."""
HARMLESS = (
    *("__operators__.", "RaggedTensor.from_", "math.", "nn.", "linalg."),
    *("keras.activations.", "keras.backend."),
)
READS = frozenset({"nn.fixed_unigram_candidate_sampler"})
"""Functions with harmless names that read a file."""
FUNCTIONS = frozenset(
    {
        "cast",
        "clip_by_value",
        "concat",
        "convert_to_tensor",
        "expand_dims",
        "gather",
        "identity",
        "image.resize",
        "ones_like",
        "pad",
        "repeat",
        "reshape",
        "reverse",
        "shape",
        "slice",
        "split",
        "squeeze",
        "stack",
        "strided_slice",
        "tile",
        "transpose",
        "unstack",
        "where",
        "zeros_like",
    }
)
"""Functions of TensorFlow that compute and do nothing else."""
REMEDY = f"export the model as a SavedModel where it was made (model.export), or {TRUST}"
ZIP = ".keras"
"""Keras reads a file as a zip if it has this ending and is one, and as HDF5 otherwise: a file that
is both must not be checked as one and loaded as the other."""
MOST_CONFIG_BYTES = 32 << 20
MOST_UNPACKED = 64
"""The largest ratio of unpacked to packed size."""


@dataclass(frozen=True)
class KerasFile:
    """What a Keras file says about itself.

    Attributes:
        version: The Keras that wrote it; empty if it is not recorded.
        config: The configuration of the model.
    """

    version: str
    config: Mapping[str, Any]

    @property
    def is_keras_2(self) -> bool:
        """Whether Keras 2 wrote it, which Keras 3 reads in part only."""
        return self.version.split(".")[0] in ("", "1", "2")


def read(path: Path) -> KerasFile:
    """Read the configuration in a ``.keras`` or ``.h5`` file; Keras is not loaded.

    Raises:
        BadInput: The file is damaged, or holds weights only.
    """
    try:
        is_zip = str(path).endswith(ZIP) and zipfile.is_zipfile(path)
        found = _from_zip(path) if is_zip else _from_hdf5(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is damaged or not a Keras model ({_reason(error)})") from None
    if not isinstance(found.config, Mapping):
        raise BadInput(f"{path} is damaged: its configuration is no table")
    return found


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _from_zip(path: Path) -> KerasFile:
    with zipfile.ZipFile(path) as archive:
        _check_members(path, archive)
        config = json.loads(archive.read("config.json"))
        metadata = json.loads(archive.read("metadata.json"))
    return KerasFile(str(metadata.get("keras_version", "3")), config)


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    """Reject an archive that unpacks to far more than it is, and weights in other files."""
    infos = {info.filename: info for info in archive.infolist()}
    size = sum(info.file_size for info in archive.infolist())
    texts = max(infos[name].file_size for name in ("config.json", "metadata.json"))
    if texts > MOST_CONFIG_BYTES or size > MOST_UNPACKED * max(path.stat().st_size, 1 << 20):
        raise BadInput(f"{path} unpacks to {size >> 20} MB, too much for a model of its size")
    if len(infos) != len(archive.infolist()):
        raise BadInput(f"{path} has two members of one name; save the model again")
    h5py = need("h5py", "convert")
    for name in infos:
        if name.endswith(".h5"):
            with archive.open(name) as member, h5py.File(member, "r") as file:
                _check_links(path, file)


def _from_hdf5(path: Path) -> KerasFile:
    h5py = need("h5py", "convert")
    with h5py.File(path, "r") as file:
        config, version = file.attrs.get("model_config"), file.attrs.get("keras_version", "")
        _check_links(path, file)
    if config is None:
        raise BadInput(f"{path} holds weights only; save the whole model: model.save(FILE)")
    text = config.decode() if isinstance(config, bytes) else config
    return KerasFile(version.decode() if isinstance(version, bytes) else version, json.loads(text))


def _check_links(path: Path, group: Any) -> None:
    """Reject a file whose weights are read from other files."""
    import h5py

    for name in group:
        link = group.get(name, getlink=True)
        outside = isinstance(link, h5py.ExternalLink)
        if not outside and isinstance(group[name], h5py.Group):
            _check_links(path, group[name])
        elif outside or group[name].external or group[name].is_virtual:
            raise BadInput(f"{path} reads {shown(name)} from another file; save the model again")


def check(path: Path, config: Mapping[str, Any]) -> None:
    """Check that a configuration names nothing but parts of Keras that compute.

    Raises:
        BadInput: It names something else; the message has the layer and the remedy.
    """
    for layer, entry in _entries(config, ""):
        name = str(entry.get("class_name"))
        where = f"{path}: layer {shown(layer)}" if layer else str(path)
        inner = entry.get("config")
        if name in ("function", "builtin_function_or_method"):
            known = isinstance(inner, str) and inner in _known()
            if known and _is_own(entry):
                continue
            raise BadInput(
                f"{where} calls the function {shown(str(inner))}, which is not part of Keras and "
                f"is not executed; replace it by a layer of Keras, {REMEDY}"
            )
        if name in RUNS_CODE or name == "__lambda__":
            raise BadInput(
                f"{where} ({name.strip('_')}) holds code, which is not executed; replace it by "
                f"layers of Keras, {REMEDY}"
            )
        if name in READS_FILES:
            raise BadInput(
                f"{where} ({name}) is for text and may read other files; leave it out of the model"
            )
        if name in CALLS and _is_own(entry):
            _check_call(where, name, inner)
        elif name not in _known() or not _is_own(entry):
            raise BadInput(
                f"{where} is of the class {shown(str(entry.get('registered_name') or name))}, "
                f"which is not part of Keras; replace it by layers of Keras, {REMEDY}"
            )


def _entries(value: Any, layer: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every table that names a class, with the name of the layer that it belongs to."""
    if isinstance(value, Mapping):
        inner = value.get("config")
        if isinstance(inner, Mapping) and isinstance(inner.get("name"), str):
            layer = inner["name"]
        if "class_name" in value:
            yield layer, value
        for one in value.values():
            yield from _entries(one, layer)
    elif isinstance(value, list):
        for one in value:
            yield from _entries(one, layer)


def _is_own(entry: Mapping[str, Any]) -> bool:
    """Whether the class is taken from Keras, and not from a module or name of its owner's."""
    module, registered = entry.get("module"), entry.get("registered_name")
    package = str(module or "keras").split(".")[0]
    kept = (None, "", entry.get("class_name"), f"keras>{entry.get('class_name')}")
    return package in ("keras", "tf_keras", "builtins") and registered in kept


def _check_call(where: str, name: str, config: Any) -> None:
    found = config if isinstance(config, Mapping) else {}
    function = str(found.get("function", ""))
    if name == "ClassMethod":  # its class may be anything of TensorFlow, such as a function
        function = f"{found.get('cls_symbol')}.{found.get('method_name')}"
    method = name in OPERATORS and "function" not in found
    known = function in FUNCTIONS or function.startswith(HARMLESS)
    if method or (known and function not in READS):
        return
    raise BadInput(
        f"{where} calls the function {shown(function)} of TensorFlow, which is not known to be "
        f"harmless and is not executed; replace it by a layer of Keras, {REMEDY}"
    )


@cache
def _known() -> frozenset[str]:
    """Public names of Keras' layers and their parts, of both versions, without those with code."""
    import keras

    names: set[str] = set()
    for part in PARTS:
        names |= {name for name in dir(getattr(keras, part)) if not name.startswith("_")}
    return frozenset(names | OTHERS | MODELS) - RUNS_CODE - READS_FILES - CALLS - _RETRIEVAL


_RETRIEVAL = frozenset({"deserialize", "get", "serialize"})
