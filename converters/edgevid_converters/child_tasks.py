"""What runs in the children of a conversion, and how the parent runs them.

Everything that loads TensorFlow, OpenVINO's front end or NNCF is here, behind one process each:
converters abort, and what they leave behind in a process is theirs.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgevid import registry
from edgevid.contract import Contract
from edgevid.errors import BadInput, ConverterFailed
from edgevid.files import write_bytes
from edgevid.proof.child import Outcome, child_task, run_child
from edgevid.proof.verdict import cache_folder
from edgevid.system import kernel
from edgevid_converters import importers
from edgevid_converters.calibration import trajectories
from edgevid_converters.importers import imported
from edgevid_converters.lowering.protocol import Converter

ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "PYTHONHASHSEED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # oneDNN's order of sums depends on the machine, and through calibration so would int8 files.
    "TF_ENABLE_ONEDNN_OPTS": "0",
}
DOING = "doing "
"""Begins the line with which a child says what it is about to do, should it die of it."""
MEASURING = "measuring its layers"
FREE_SHARE = 0.9
LEAST_MB = 1024
OUT_OF_MEMORY = (b"MemoryError", b"bad_alloc", b"Cannot allocate memory", b"Unable to allocate")


class ChildFailed(ConverterFailed):
    """A child failed; ``at`` is what it was about to do, as far as it said so."""

    def __init__(self, message: str, at: str = "") -> None:
        super().__init__(message)
        self.at = at


@dataclass(frozen=True)
class Limits:
    """What one child may take: ``memory_mb`` None is most of what this machine has free."""

    time_s: float = 1200.0
    memory_mb: int | None = None

    def check(self) -> None:
        """Raise `BadInput` for a value that makes no sense."""
        if not self.time_s > 0:
            raise BadInput(f"--time-limit {self.time_s:g} makes no sense; use seconds above 0")
        if self.memory_mb is not None and self.memory_mb < LEAST_MB:
            raise BadInput(
                f"--memory-limit {self.memory_mb} is too little for any converter; "
                f"use {LEAST_MB} or more"
            )


USUAL = Limits()
_limits: ContextVar[Limits] = ContextVar("limits", default=USUAL)


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Let every child that is asked within keep to ``limits``."""
    limits.check()
    token = _limits.set(limits)
    try:
        yield
    finally:
        _limits.reset(token)


def ask(what: str, task: Mapping[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
    """Do ``task`` (see `TASKS`) in a child process; ``what`` names it in errors.

    Raises `ChildFailed` where the child crashes, hangs, takes too much memory or babbles, with
    the cause, a remedy, and where its whole log is; errors that it raised on purpose come through.
    """
    limits = _limits.get()
    timeout_s = limits.time_s if timeout_s is None else timeout_s
    memory_mb = limits.memory_mb or _free_mb()
    task = {**task, "timeout_s": timeout_s, "memory_mb": memory_mb}
    outcome = run_child("edgevid_converters.child_tasks", task, timeout_s, ENVIRONMENT)
    answer = outcome.answer()
    if answer is not None:
        return answer
    log = cache_folder() / "logs" / f"{what.replace(' ', '-')}.log"
    write_bytes(log, outcome.stderr)
    lines = outcome.stderr.decode(errors="replace").splitlines()
    doing = [line.removeprefix(DOING) for line in lines if line.startswith(DOING)]
    said = replace(outcome, stderr=_without(lines, DOING))
    last = doing[-1] if doing else ""
    at = f" at {last}" if last else ""
    cause = _cause(said, timeout_s, memory_mb)
    raise ChildFailed(f"{what}{at} {cause}; its log is {log}", last)


def _cause(outcome: Outcome, timeout_s: float, memory_mb: int | None) -> str:
    """How a child failed, in words, and what to do about it."""
    told = outcome.describe(timeout_s)
    code = outcome.returncode
    if code is None:
        return f"{told}; give it longer with --time-limit, or convert a smaller model"
    if code == -signal.SIGKILL:
        return f"{told}: most likely this machine ran out of memory; {MEMORY_MEND}"
    if any(words in outcome.stderr for words in OUT_OF_MEMORY):
        return f"needs more than the {memory_mb} MB that it may take; {MEMORY_MEND}"
    if code < 0:
        return f"{told}; {CRASH_MEND}"
    return told


MEMORY_MEND = "give it more with --memory-limit, free some, or convert a smaller model"
CRASH_MEND = (
    "leave this format or quantisation out, or build the model's recurrent layers with unroll=True "
    "(TensorFlow's quantiser crashes on loops)"
)


def _without(lines: Sequence[str], beginning: str) -> bytes:
    return "\n".join(line for line in lines if not line.startswith(beginning)).encode()


def _free_mb() -> int | None:
    """Most of the free memory, in MB; None where it is not known."""
    free_mb = kernel.memory_mb(Path("/")).get("MemAvailable")
    return None if free_mb is None else max(LEAST_MB, int(free_mb * FREE_SHARE))


def _keep_to(memory_mb: int | None) -> None:
    """Let this process have so much memory of its own and no more.

    Mapped files and what is only reserved do not count: TensorFlow and OpenVINO reserve a lot.
    """
    if memory_mb is not None and sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))


def _lower(task: Mapping[str, Any]) -> dict[str, Any]:
    """Load the source, lower it to ``forms``, and record its streams into the folder ``out``."""
    out = Path(task["out"])
    source = importers.from_task(task)
    contract, model = source.contract, importers.load(source)
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
        answers = trajectories.last_outputs(model, contract, held_out)
        trajectories.write_arrays(out / "held_out", answers)
    if task["reference"]:
        for index, clip in enumerate(trajectories.read_clips(Path(task["reference"]))):
            given = trajectories.answers(model, contract, clip)
            trajectories.write_arrays(out / "reference" / str(index), given)
    return {"trajectories": paths, "lowered": lowered, "contract": contract.to_json()}


def _convert(task: Mapping[str, Any]) -> dict[str, Any]:
    """Make the artifacts of one format; their files go to ``out``.

    ``keep`` has, by quantisation, the layers that stay in a higher precision. With ``measure`` the
    answer has what int8 costs each layer: here the model is loaded and its ranges are known.
    """
    converter = registry.load("converter", task["format"])()
    paths = {name: Path(path) for name, path in task["trajectories"].items()}
    contract = Contract.from_json(task["contract"])
    answer = {}
    for quantize in task["quantize"]:
        name = f"{task['format']}-{quantize}"
        print(f"{DOING}{name}", file=sys.stderr, flush=True)
        keep = task["keep"].get(quantize, ())
        model, form = Path(task["lowered"]), task["form"]
        files = converter.convert(model, form, paths, quantize, keep)
        files = converter.describe(files, contract)
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
    if task["measure"] and "int8" in task["quantize"]:
        print(f"{DOING}{MEASURING}", file=sys.stderr, flush=True)
        answer[f"{task['format']}-int8"] |= _layer_errors(task, converter)
    return answer


def _operators(task: Mapping[str, Any]) -> dict[str, Any]:
    """Count the operators of the float model in one format."""
    converter = registry.load("converter", task["format"])()
    return {"operators": converter.operators(Path(task["lowered"]), task["form"])}


def _layer_errors(task: Mapping[str, Any], converter: Converter | None = None) -> dict[str, Any]:
    """Measure what int8 costs each layer in one format."""
    converter = converter or registry.load("converter", task["format"])()
    paths = {name: Path(path) for name, path in task["trajectories"].items()}
    found = converter.layer_errors(Path(task["lowered"]), task["form"], paths)
    return {"layers": [asdict(one) for one in found]}


TASKS = {
    "convert": _convert,
    "describe": imported.describe_task,
    "layer_errors": _layer_errors,
    "lower": _lower,
    "operators": _operators,
    "tensors": imported.tensors_task,
}


def _main() -> int:
    with child_task() as (task, answer):
        _keep_to(task["memory_mb"])
        answer(TASKS[task["do"]](task))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
