"""The tasks of a conversion's child processes.

Everything that loads TensorFlow, OpenVINO's front end or NNCF runs here, one process per task;
`edgevid_converters.child_process` starts them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgevid import registry, settings
from edgevid.contract import Contract
from edgevid.documents import to_json
from edgevid.errors import EdgevidError
from edgevid.files import write_json
from edgevid.isolation.child_task import child_task, error_to_json
from edgevid_converters import importers, logs
from edgevid_converters.acceptance.normalisations import Rescaling
from edgevid_converters.calibration import observed, sensitivity, trajectories
from edgevid_converters.child_process import DOING, LOWERING, MEASURING
from edgevid_converters.importers import imported, onnx_by_onnx2tf, onnx_to_tflite
from edgevid_converters.importers.source_model import ReferenceModel, SourceModel
from edgevid_converters.lowering.protocol import Converter, check_remainder, remainder_of


def _lower(task: Mapping[str, Any]) -> dict[str, Any]:
    """Load the source, lower it to each of ``forms``, and record its streams in ``out``."""
    out = Path(task["out"])
    source = SourceModel.from_task(task)
    contract, model = source.contract, importers.load(source)
    lowered, refused = _lowered(model, task["forms"], out)
    recorded = _recorded(model, contract, task) if task["record"] else {}
    attempts = [asdict(one) for one in model.attempts]
    return {"lowered": lowered, "refused": refused, "attempts": attempts, **recorded}


def _recorded(model: ReferenceModel, contract: Contract, task: Mapping[str, Any]) -> dict[str, Any]:
    """Record the streams in ``out``.

    Returns:
        ``trajectories``, the paths of the calibration by name, and ``sensitivity``.
    """
    out = Path(task["out"])
    clips = list(trajectories.read_clips(Path(task["clips"])))
    recorded = trajectories.calibration(model, contract, clips)
    paths = trajectories.write_arrays(out / "calibration", recorded)
    if task["observe"]:
        observed.record(model, contract, recorded, out)
    golden = trajectories.golden(model, contract, clips)
    for index, one in enumerate(golden):
        folder = out / "golden" / str(index)
        trajectories.write_arrays(folder / "inputs", one.inputs)
        trajectories.write_arrays(folder / "outputs", one.outputs)
        trajectories.write_arrays(folder / "states", one.states)
    if task["held_out"]:
        held_out = list(trajectories.read_clips(Path(task["held_out"])))
        found = trajectories.annotated_outputs(model, contract, held_out, task["annotated"])
        trajectories.write_arrays(out / "held_out", found)
    if task["reference"]:
        streams = trajectories.read_clips(Path(task["reference"]))
        for index, (clip, data) in enumerate(zip(streams, task["reference_moves"], strict=True)):
            move = settings.build_json(Rescaling, data, "move") if data else None
            given = trajectories.step_outputs(model, contract, clip, move)
            trajectories.write_arrays(out / "reference" / str(index), given)
    return {
        "trajectories": paths,
        "sensitivity": to_json(sensitivity.measure(model, contract, golden)),
    }


def _lowered(
    model: ReferenceModel, forms: Sequence[str], out: Path
) -> tuple[dict[str, str], dict[str, Any]]:
    """Lower a model to each form; returns the paths, and the errors of forms it cannot have."""
    lowered, refused = {}, {}
    for form in forms:
        _announce(f"{LOWERING}{form}")
        try:
            lowered[form] = str(model.lower(form, out))
        except EdgevidError as error:
            refused[form] = error_to_json(error)
    _announce("")
    return lowered, refused


def _announce(step: str) -> None:
    """Report the next step to the parent, in case it kills this process."""
    print(f"{DOING}{step}", file=sys.stderr, flush=True)


def _convert(task: Mapping[str, Any]) -> dict[str, Any]:
    """Make the artifacts of one format; their files go to ``out``.

    ``keep`` lists, by quantisation, the layers that stay in a higher precision. With ``measure``
    the answer includes the int8 error of each layer, since the calibrated model is at hand here.

    What is known of an artifact is also written next to its files: a crash at the next one does
    not lose it. A quantisation that fails has its error as its answer.
    """
    converter = _converter(task)
    paths = {name: Path(path) for name, path in task["trajectories"].items()}
    contract = Contract.from_json(task["contract"])
    answer: dict[str, Any] = {}
    for quantize in task["quantize"]:
        name = f"{task['format']}-{quantize}"
        _announce(name)
        try:
            described = _made(task, converter, quantize, paths, contract)
        except EdgevidError as error:
            described = error_to_json(error)
        answer[name] = described
        write_json(Path(task["out"]) / f"{name}.json", described)
    whole = f"{task['format']}-int8"
    if task["measure"] and "error" not in answer.get(whole, {"error": None}):
        _announce(MEASURING)
        answer[whole] |= _layer_errors(task, converter)
    return answer


def _made(
    task: Mapping[str, Any],
    converter: Converter,
    quantize: str,
    paths: Mapping[str, Path],
    contract: Contract,
) -> dict[str, Any]:
    """Make one artifact, write its files and describe it.

    Raises:
        CheckFailed: Its quantiser would leave most of it in float.
    """
    _check_prediction(task, converter, quantize, paths)
    keep = task["keep"].get(quantize, ())
    model, form = Path(task["lowered"]), task["form"]
    added = "float32" if task.get("as_it_is") else quantize  # nothing is quantised twice
    files = converter.convert(model, form, paths, added, keep)
    files = converter.describe(files, contract)
    kept = converter.operators_of(model, form, keep) if keep else frozenset()
    for ending, content in files.items():
        (Path(task["out"]) / f"{task['format']}-{quantize}.{ending}").write_bytes(content)
    return {
        "endings": sorted(files),
        "float_ops": [
            asdict(replace(operator, kept=operator.name in kept))
            for operator in converter.float_ops(files)
        ],
        "smallest_runtime": converter.smallest_runtime(files),
    }


def _check_prediction(
    task: Mapping[str, Any], converter: Converter, quantize: str, paths: Mapping[str, Path]
) -> None:
    """Find out what stays in float in an int8 artifact before it is calibrated."""
    if quantize != "int8" or task["keep"].get(quantize) or task["allow_float"]:
        return
    left = remainder_of(converter.predicted_float_ops(Path(task["lowered"]), task["form"], paths))
    if left is not None:
        check_remainder(f"{task['format']}-{quantize}", left, converter.leaves)


def _converter(task: Mapping[str, Any]) -> Converter:
    converter: Converter = registry.load("converter", task["format"])()
    converter.work = Path(task["work"]) if task.get("work") else None
    return converter


def _operators(task: Mapping[str, Any]) -> dict[str, Any]:
    """Count the operators of the float model in one format."""
    converter = _converter(task)
    return {"operators": converter.operators(Path(task["lowered"]), task["form"])}


def _layer_errors(task: Mapping[str, Any], converter: Converter | None = None) -> dict[str, Any]:
    """Measure the int8 error of each layer in one format."""
    converter = converter or _converter(task)
    paths = {name: Path(path) for name, path in task["trajectories"].items()}
    found = converter.layer_errors(Path(task["lowered"]), task["form"], paths)
    return {"layers": [asdict(one) for one in found]}


TASKS = {
    "convert": _convert,
    "describe": imported.describe_task,
    "layer_errors": _layer_errors,
    "lower": _lower,
    "onnx2tf": onnx_by_onnx2tf.onnx2tf_task,
    "operators": _operators,
    "tensors": imported.tensors_task,
    "tflite_steps": onnx_to_tflite.tflite_steps_task,
}


def main() -> int:
    """Run the task on stdin; its answer goes to stdout.

    OpenVINO and NNCF run without their telemetry, as they do where its package is missing.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    with child_task() as (task, answer):
        logs.goes_to(Path(task["logs"]))
        answer(TASKS[task["do"]](task))
    return 0


if __name__ == "__main__":
    sys.exit(main())
