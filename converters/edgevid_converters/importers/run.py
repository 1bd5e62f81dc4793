"""Run folders of ``edgevid train``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.content import parse_json
from edgevid.contract import FRAME, Contract
from edgevid.errors import BadInput
from edgevid.files import sha256_of
from edgevid.training import CONTRACT_FILE, RUN_FILE, WEIGHTS_FILE, Tensor
from edgevid_converters.importers.source_model import SourceModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid.evidence import LoweringAttempt
    from edgevid.training.models import VideoModel
    from edgevid_converters.importers.source_model import Move

FORMS: tuple[str, ...] = ("saved_model",)
_NOT_KEPT = ("data", "split", "train_seconds")


def matches(path: Path) -> bool:
    """Recognise the folder by its ``run.json``."""
    return (path / RUN_FILE).is_file()


def describe(path: Path, contract_file: Path | None = None) -> SourceModel:
    """Read the run's record and contract.

    Raises:
        BadInput: A file is damaged, or ``contract_file`` is given.
    """
    if contract_file is not None:
        raise BadInput(f"{path} is a run, which has its own contract; leave out --contract")
    record = _json(path / RUN_FILE)
    data = record.get("data")
    return SourceModel(
        kind="run",
        path=path,
        contract=_contract(path / CONTRACT_FILE),
        forms=FORMS,
        record={key: value for key, value in record.items() if key not in _NOT_KEPT} | _sum(path),
        data=Path(data) if data else None,
        split=record.get("split", {}),
    )


def _contract(file: Path) -> Contract:
    """Read a run's contract; raises `BadInput` with the file's name."""
    data = _json(file)
    try:
        return Contract.from_json(data)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from None


def _sum(path: Path) -> dict[str, str]:
    """Return the hash of the weights; if they are missing, loading them reports it."""
    weights = path / WEIGHTS_FILE
    return {"weights_sha256": sha256_of(weights)} if weights.is_file() else {}


def _json(file: Path) -> dict[str, Any]:
    try:
        found = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read ({error}); train again") from error
    if not isinstance(found, dict):
        raise BadInput(f"{file} is not a table of values; train again")
    return found


def load(source: SourceModel) -> RunModel:
    """Load the trained weights."""
    from edgevid.training.models import load_run

    return RunModel(load_run(source.path)[0])


class RunModel:
    """The step of a trained Keras model: batch 1, static, unrolled."""

    forms: tuple[str, ...] = FORMS
    precision = "float32"
    attempts: tuple[LoweringAttempt, ...] = ()

    def __init__(self, model: VideoModel) -> None:
        import tensorflow as tf

        self._model, self._step = model, model.step
        self._signature = {
            name: tf.TensorSpec(tensor.shape, tensor.dtype, name=name)
            for name, tensor in self._step.input.items()
        }
        self._call: Any = tf.function(self._answer, input_signature=[self._signature])

    def _answer(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        given: dict[str, Tensor] = self._step(inputs, training=False)
        return given

    def step(
        self, inputs: Mapping[str, NDArray[Any]], move: Move | None = None
    ) -> dict[str, NDArray[Any]]:
        """Take one step; see `edgevid_converters.importers.source_model.ReferenceModel`.

        Frames enter it as bytes, which cannot be moved; states can.
        """
        import tensorflow as tf

        if move is not None:
            inputs = {n: move(v) if v.dtype.kind == "f" else v for n, v in inputs.items()}
        given = self._call({name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in given.items()}

    def last_outputs(
        self, clips: Sequence[Mapping[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]] | None:
        """Compute them in batches with the training form; see `ReferenceModel.last_outputs`."""
        from edgevid.training.predict import last_outputs

        frames = [clip[FRAME] for clip in clips]
        if min(map(len, frames)) < self._model.config.frames:
            return None  # only a stream has outputs before it is warm
        output = self._model.network.task.output(self._model.config.classes)
        return {output.name: last_outputs(self._model, frames)[:, None]}

    def lower(self, form: str, folder: Path) -> Path:
        """Export with the variables tracked; a plain `tf.saved_model.save` may lose them."""
        import keras

        archive = keras.export.ExportArchive()
        archive.track(self._step)
        archive.add_endpoint("serving_default", self._answer, [self._signature])
        path = folder / form
        archive.write_out(str(path), verbose=False)
        return path
