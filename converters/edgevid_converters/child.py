"""What runs in the children of a conversion, and how the parent runs them.

Everything that loads TensorFlow, OpenVINO's front end or NNCF is here, behind one process each:
converters abort, and what they leave behind in a process is theirs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgevid import registry
from edgevid.errors import SurroundingsFailed
from edgevid.files import write_bytes
from edgevid.proof.child import child_task, run_child
from edgevid.proof.verdict import cache_folder
from edgevid_converters import sources, trajectories
from edgevid_converters.sources import imported

TIMEOUT_S = 1200.0
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "PYTHONHASHSEED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # oneDNN's order of sums depends on the machine, and through calibration so would int8 files.
    "TF_ENABLE_ONEDNN_OPTS": "0",
}


def ask(what: str, task: Mapping[str, Any], timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Do ``task`` (see `TASKS`) in a child process; ``what`` names it in errors.

    Raises `SurroundingsFailed` where the child crashes, hangs or babbles, with its last line and
    where its whole log is; errors that it raised on purpose come through.
    """
    task = {**task, "timeout_s": timeout_s}
    outcome = run_child("edgevid_converters.child", task, timeout_s, ENVIRONMENT)
    answer = outcome.answer()
    if answer is not None:
        return answer
    log = cache_folder() / "logs" / f"{what.replace(' ', '-')}.log"
    write_bytes(log, outcome.stderr)
    raise SurroundingsFailed(f"{what} {outcome.describe(timeout_s)}; its log is {log}")


def _lower(task: Mapping[str, Any]) -> dict[str, Any]:
    """Load the source, lower it to ``forms``, and record its streams into the folder ``out``."""
    out = Path(task["out"])
    source = sources.from_task(task)
    contract, model = source.contract, sources.load(source)
    lowered = {form: str(model.lower(form, out)) for form in task["forms"]}
    clips = list(trajectories.read_clips(Path(task["clips"])))
    recorded = trajectories.calibration(model, contract, clips)
    paths = trajectories.write_arrays(out / "calibration", recorded)
    for index, one in enumerate(trajectories.golden(model, contract, clips)):
        folder = out / "golden" / str(index)
        trajectories.write_arrays(folder, {"frames": one.frames})
        trajectories.write_arrays(folder / "answers", one.answers)
        trajectories.write_arrays(folder / "states", one.states)
    if task["held_out"]:
        held_out = list(trajectories.read_clips(Path(task["held_out"])))
        answers = trajectories.last_answers(model, contract, held_out)
        trajectories.write_arrays(out / "held_out", answers)
    if task["reference"]:
        for index, clip in enumerate(trajectories.read_clips(Path(task["reference"]))):
            given = trajectories.answers(model, contract, clip)
            trajectories.write_arrays(out / "reference" / str(index), given)
    return {"trajectories": paths, "lowered": lowered}


def _convert(task: Mapping[str, Any]) -> dict[str, Any]:
    """Make the artifacts of one format; their files go to ``out``.

    ``keep`` has, by quantisation, the layers that stay in a higher precision.
    """
    converter = registry.load("converter", task["format"])()
    paths = {name: Path(path) for name, path in task["trajectories"].items()}
    answer = {}
    for quantize in task["quantize"]:
        name = f"{task['format']}-{quantize}"
        keep = task["keep"].get(quantize, ())
        model, form = Path(task["lowered"]), task["form"]
        files = converter.convert(model, form, paths, quantize, keep)
        kept = converter.operators_of(model, form, keep) if keep else frozenset()
        for ending, content in files.items():
            (Path(task["out"]) / f"{name}.{ending}").write_bytes(content)
        answer[name] = {
            "endings": sorted(files),
            "float_ops": [
                asdict(replace(operator, kept=operator.name in kept))
                for operator in converter.float_ops(files)
            ],
            "smallest_runtime": converter.smallest_runtime(files),
        }
    return answer


def _layer_errors(task: Mapping[str, Any]) -> dict[str, Any]:
    """Measure what int8 costs each layer in one format."""
    converter = registry.load("converter", task["format"])()
    paths = {name: Path(path) for name, path in task["trajectories"].items()}
    found = converter.layer_errors(Path(task["lowered"]), task["form"], paths)
    return {"layers": [asdict(one) for one in found]}


TASKS = {
    "convert": _convert,
    "describe": imported.describe_here,
    "layer_errors": _layer_errors,
    "lower": _lower,
    "ports": imported.ports_here,
}


def _main() -> int:
    with child_task() as (task, answer):
        answer(TASKS[task["do"]](task))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
