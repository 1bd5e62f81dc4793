"""What all importers of other tools' models share.

An importer opens a model as a `NativeModel`: its own runtime, with its own tensors. `ImportedModel`
puts the contract in front of it and prepares images in numpy, independently of the lowered graph
that is compared with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgevid import registry, settings
from edgevid.contract import Contract
from edgevid.errors import BadInput
from edgevid.files import sha256_of
from edgevid_converters import conversion_cache
from edgevid_converters.child_process import ask
from edgevid_converters.importers.contract_resolver import ContractResolver
from edgevid_converters.importers.contract_toml import default_contract_path, labels_beside
from edgevid_converters.importers.preprocessing import Preprocessing, TensorMapping
from edgevid_converters.importers.tensors import TensorInfo
from edgevid_converters.importers.trust import require_sandbox

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid.evidence import LoweringAttempt
    from edgevid_converters.importers.source_model import Move, SourceModel

DESCRIBE_TIMEOUT_S = 300.0


class NativeModel(Protocol):
    """A model in its own runtime, on the CPU, in float32; an importer's ``open_model`` loads it."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    quantised: str
    """The quantisation that the model has already; ``float32`` for none."""

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the model once.

        Args:
            inputs: The model's own name -> array of the shape and dtype that the model takes.

        Returns:
            The model's own name -> array of the shape and dtype that the model gives.

        Raises:
            BadInput: The runtime cannot run the model.
        """

    def lower(
        self, form: str, preprocessing: Preprocessing, contract: Contract, folder: Path
    ) -> Path:
        """See `edgevid_converters.importers.source_model.ReferenceModel.lower`."""


@dataclass(frozen=True)
class Importer:
    """One kind of model file; what a registry row or an entry point ``edgevid.importer`` points to.

    Attributes:
        name: Its name in the registry.
        reads: What it reads, in a few words for messages.
        forms: The forms that such a model can be lowered to, see `ReferenceModel.lower`.
        matches: Recognises a model by its path, without a library.
        open_model: Loads a model in its own runtime, in a child process, after ``check``. Its
            sandbox lets it read the model and ``companions``, and no other file of the user's.
        companions: The other files that belong to a model.
        starts_children: Whether lowering runs tasks in child processes of its own.
        check: Raises `BadInput` for a model with code in it, without executing any; called in the
            child process before ``open_model``, unless the user trusts the model. None: such a
            file holds no code.
        open_trusted: Loads a model whose code the user accepts. Default: ``open_model``.
        can_execute: Whether the runtime can execute code stored in a file; an untrusted model is
            then loaded only in a sandbox.
    """

    name: str
    reads: str
    forms: tuple[str, ...]
    matches: Callable[[Path], bool]
    open_model: Callable[[Path], NativeModel]
    companions: Callable[[Path], Sequence[Path]] = lambda path: ()
    starts_children: bool = False
    check: Callable[[Path], None] | None = None
    open_trusted: Callable[[Path], NativeModel] | None = None
    can_execute: bool = True


class ImportedModel:
    """A `NativeModel` behind a contract; see `ReferenceModel`."""

    def __init__(self, source: SourceModel, forms: tuple[str, ...]) -> None:
        assert source.preprocessing is not None
        self.forms = forms
        self._contract, self._preprocessing = source.contract, source.preprocessing
        self._reference = _open(source.kind, source.path, trusted=source.trusted)

    @property
    def precision(self) -> str:
        """The arithmetic of the model itself; float32 where its runtime does not say."""
        return str(getattr(self._reference, "precision", "float32"))

    @property
    def attempts(self) -> tuple[LoweringAttempt, ...]:
        """How it was lowered; see `edgevid_converters.importers.source_model.ReferenceModel`."""
        return tuple(getattr(self._reference, "attempts", ()))

    def step(
        self, inputs: Mapping[str, NDArray[Any]], move: Move | None = None
    ) -> dict[str, NDArray[Any]]:
        """Take one step; see `edgevid_converters.importers.source_model.ReferenceModel`."""
        return take_step(self._reference, self._preprocessing, inputs, move)

    def last_outputs(self, clips: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Return None: it can only be stepped; see `ReferenceModel.last_outputs`."""

    def lower(self, form: str, folder: Path) -> Path:
        """Lower it; see `edgevid_converters.importers.source_model.ReferenceModel`."""
        return self._reference.lower(form, self._preprocessing, self._contract, folder)


def take_step(
    reference: NativeModel,
    preprocessing: Preprocessing,
    inputs: Mapping[str, NDArray[Any]],
    move: Move | None = None,
) -> dict[str, NDArray[Any]]:
    """Take one step of a model through its contract; see `ReferenceModel.step`.

    Args:
        reference: The model.
        preprocessing: Maps the contract's tensors.
        inputs: The contract's inputs by name.
        move: See `ReferenceModel.step`.

    Raises:
        BadInput: The runtime cannot run the model.
    """
    own = {one.own: one.array() for one in preprocessing.constants}
    passed = preprocessing.tensor_inputs
    own |= {one.own: inputs[one.name].astype(one.dtype) for one in passed}
    following: dict[str, NDArray[Any]] = {}
    for one in preprocessing.images:
        own[one.input], state = one.step(inputs)
        following |= state
    if move is not None:
        fixed = {one.own for one in preprocessing.constants}
        own |= {n: move(v) for n, v in own.items() if v.dtype.kind == "f" and n not in fixed}
    given = reference.infer(own)
    return {one.name: _answer(one, given[one.own]) for one in preprocessing.outputs} | following


def _answer(one: TensorMapping, value: NDArray[Any]) -> NDArray[Any]:
    """An output as the contract gives it."""
    import numpy as np

    if not one.softmax:
        return value.astype(np.float32)
    raised = np.exp(value.astype(np.float64) - value.max(-1, keepdims=True))
    answer: NDArray[Any] = (raised / raised.sum(-1, keepdims=True)).astype(np.float32)
    return answer


def _open(kind: str, path: Path, *, trusted: bool) -> NativeModel:
    """Load a model, in the child process; without trust only what its importer's check accepts."""
    importer: Importer = registry.load("importer", kind)
    if trusted:
        return (importer.open_trusted or importer.open_model)(path)
    if importer.check is not None:
        importer.check(path)
    return importer.open_model(path)


# ---------------------------------------------------------------- describing, in a child


def describe(
    kind: str, path: Path, contract_file: Path | None, *, trusted: bool = False
) -> dict[str, Any]:
    """Find the contract file, and match it with the model in a child process.

    Args:
        kind: Name of the importer.
        path: File or folder of the model.
        contract_file: The contract file. Default: next to the model.
        trusted: Whether the user accepts code in the model.

    Returns:
        ``contract``, ``preprocessing`` and ``record`` as plain data.

    Raises:
        BadInput: There is no contract file, it does not fit the model, or the model has code in it.
        ConverterFailed: The model's own runtime crashed on it.
    """
    file = contract_file or default_contract_path(path)
    if not file.is_file():
        raise BadInput(
            f"{file} does not exist, and {path.name} does not record what its tensors mean; "
            f"write it with: edgevid convert --init {path}"
        )
    labels = labels_beside(file)
    task = {
        "do": "describe",
        "contract_file": str(file.resolve()),
        "labels_file": str(labels) if labels else None,  # a child's home is another one
    }
    read = (file, labels) if labels else (file,)
    return dict(
        conversion_cache.remembered(
            lambda: _described_by(kind, path, file, trusted=trusted),
            lambda: ask_reference(kind, path, task, read, trusted=trusted),
        )
    )


def _described_by(
    kind: str, path: Path, contract_file: Path, *, trusted: bool
) -> dict[str, Any] | None:
    """What a description depends on; None if that is not known."""
    model = conversion_cache.model_hash(path)
    text = contract_file.read_bytes()
    if model is None or b"labels_file" in text:
        return None
    return {
        "unit": "description",
        "kind": kind,
        "name": path.name,
        "model": model,
        "contract": sha256_of(text),
        "importer": registry.row("importer", kind).origin,
        "trusted": trusted,
    }


def ask_reference(
    kind: str, path: Path, task: Mapping[str, Any], read: Sequence[Path] = (), *, trusted: bool
) -> dict[str, Any]:
    """Run a task about a model in a child process, since its own runtime may crash on it.

    Args:
        kind: Name of the importer.
        path: File or folder of the model.
        task: What to do; see `describe_task` and `tensors_task`.
        read: Other files that it reads.
        trusted: Whether the user accepts code in the model.

    Returns:
        What the task returns.

    Raises:
        BadInput: The model has code in it, or its kind can execute code and there is no sandbox.
        ConverterFailed: The model's own runtime crashed on it.
    """
    importer: Importer = registry.load("importer", kind)
    if importer.can_execute and not trusted:
        require_sandbox(path, importer.reads)
    task = {**task, "kind": kind, "model": str(path.resolve()), "trusted": trusted}
    files = (*model_files(kind, path), *read)
    return ask(f"reading {path.name}", task, read=files, timeout_s=DESCRIBE_TIMEOUT_S)


def model_files(kind: str, path: Path) -> list[Path]:
    """The files of a model: its own file or folder, and its importer's `Importer.companions`."""
    importer: Importer = registry.load("importer", kind)
    return [path, *importer.companions(path)]


def describe_task(task: Mapping[str, Any]) -> dict[str, Any]:
    """Do the work of `describe`, in the child process.

    Raises:
        BadInput: Contract file and model do not fit.
    """
    path = Path(task["model"])
    reference = _open(task["kind"], path, trusted=bool(task.get("trusted")))
    labels = task.get("labels_file")
    resolver = ContractResolver(
        Path(task["contract_file"]),
        reference.inputs,
        reference.outputs,
        Path(labels) if labels else None,
    )
    samples = [reference.infer(inputs) for inputs in resolver.examples()]
    for name, value in samples[0].items():
        if any(other[name].shape != value.shape for other in samples):
            raise BadInput(
                f"{path}: the size of output {name!r} depends on the image; "
                "export the model without its last, selecting part"
            )
    contract, preprocessing = resolver.resolve(samples)
    return {
        "contract": contract.to_json(),
        "preprocessing": preprocessing.to_json(),
        "quantised": getattr(reference, "quantised", "float32"),
        "record": {
            "model": path.name,
            "sha256": _sum(path),
            "fed": preprocessing.to_json(),
            **({"trusted": True} if task.get("trusted") else {}),
        },
    }


def tensors_task(task: Mapping[str, Any]) -> dict[str, Any]:
    """Read the inputs and outputs of a model for `contract_draft`, in the child process."""
    reference = _open(task["kind"], Path(task["model"]), trusted=bool(task.get("trusted")))
    return {
        "inputs": [asdict(port) for port in reference.inputs],
        "outputs": [asdict(port) for port in reference.outputs],
    }


def read_tensors(listed: Sequence[Mapping[str, Any]]) -> tuple[TensorInfo, ...]:
    """Read what `tensors_task` returned."""
    return tuple(settings.build_json(TensorInfo, one, "port") for one in listed)


def _sum(path: Path) -> str:
    """Return one hash over a file and its companion, or over all files of a folder."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    if path.suffix == ".xml":
        files.append(path.with_suffix(".bin"))
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()
