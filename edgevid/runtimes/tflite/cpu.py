"""TFLite artifacts on the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgevid.errors import EngineFailed, MissingExtra, reason_of
from edgevid.runtimes import Accelerator
from edgevid.runtimes.tflite import SPEC

if TYPE_CHECKING:
    from edgevid.contract import Contract, Inputs, Tensors
    from edgevid.runtimes import Operator


class TFLiteCPU(Accelerator):
    """The CPU of the runtime ``tflite``."""

    def load(
        self, files: Mapping[str, bytes], contract: Contract, *, threads: int = 1
    ) -> TFLiteEngine:
        """Load ``files["tflite"]``; see `edgevid.runtimes.Accelerator.load`."""
        return TFLiteEngine(files["tflite"], contract, threads)

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        steps: Iterable[Inputs],
        *,
        threads: int = 1,
    ) -> list[Operator]:
        """Profile on zeros and one thread; see `edgevid.runtimes.Accelerator.profile`."""
        from edgevid.runtimes.tflite.profile import profile

        return profile(files["tflite"], sum(1 for _ in steps))


class TFLiteEngine:
    """One interpreter, called with tensors by index.

    The signature says which index carries which name. Its runner is dropped at once, because a live
    one makes ``invoke`` raise and silently resizes inputs of a wrong shape.
    """

    runtime = "tflite"

    def __init__(
        self,
        content: bytes,
        contract: Contract,
        threads: int,
        *,
        accelerator: str = "cpu",
        delegate: str | None = None,
    ) -> None:
        self.accelerator = accelerator
        library = _library()
        try:
            delegates = [library.load_delegate(delegate)] if delegate else None
            self._interpreter: Any = library.Interpreter(
                model_content=content, num_threads=threads, experimental_delegates=delegates
            )
            self._interpreter.allocate_tensors()
            input_details, output_details = _signature(self._interpreter)
        except (ValueError, RuntimeError, OSError) as error:
            raise EngineFailed(f"tflite cannot load the artifact: {reason_of(error)}") from error
        try:
            self._inputs = [(one.name, input_details[one.name]["index"]) for one in contract.inputs]
            self._state_inputs = [
                (s.name, input_details[s.input_name]["index"]) for s in contract.states
            ]
            self._state_outputs = [
                (s.name, output_details[s.output_name]["index"]) for s in contract.states
            ]
            self._outputs = [(o.name, output_details[o.name]["index"]) for o in contract.outputs]
        except KeyError as error:
            raise EngineFailed(f"the tflite artifact lacks the tensor {error}") from error
        self.precision = _precision(self._interpreter)

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """Take one step; see `edgevid.runtimes.Engine.step`."""
        interpreter = self._interpreter
        try:
            for name, index in self._inputs:
                interpreter.set_tensor(index, inputs[name])
            for name, index in self._state_inputs:
                interpreter.set_tensor(index, state[name])
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise EngineFailed(f"tflite step failed: {reason_of(error)}") from error
        outputs = {name: interpreter.get_tensor(index) for name, index in self._outputs}
        return outputs, {name: interpreter.get_tensor(index) for name, index in self._state_outputs}

    def operators(self) -> list[str]:
        """The kinds of the artifact's operators, without those a delegate puts in their place."""
        kinds = (str(detail["op_name"]) for detail in self._interpreter._get_ops_details())
        return [kind for kind in kinds if kind != "DELEGATE"]

    def close(self) -> None:
        """Free the interpreter."""
        self._interpreter = None


def _library() -> Any:
    """Import the first library that is installed."""
    for library in SPEC.libraries:
        try:
            return import_module(library.module)
        except ImportError as error:
            if (error.name or "").partition(".")[0] != library.package:
                raise
    raise MissingExtra(f"runtime tflite is not installed; run: {SPEC.libraries[0].install}")


def _signature(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    names = list(interpreter.get_signature_list())
    if not names:
        raise ValueError("it has no signature, so its tensors have no names")
    runner = interpreter.get_signature_runner(names[0])
    return runner.get_input_details(), runner.get_output_details()


def precision_of(content: bytes) -> str:
    """The arithmetic that an artifact is made for; its memory is not allocated.

    Raises:
        EngineFailed: The library refuses the artifact.
    """
    try:
        return _precision(_library().Interpreter(model_content=content))
    except (ValueError, RuntimeError) as error:
        raise EngineFailed(f"tflite cannot load the artifact: {reason_of(error)}") from error


def _precision(interpreter: Any) -> str:
    """The arithmetic by the types of operator outputs; ``dynamic``: only weights are int8."""
    import numpy as np

    kinds = {int(d["index"]): np.dtype(d["dtype"]) for d in interpreter.get_tensor_details()}
    output_types = {
        kinds.get(int(index))
        for detail in interpreter._get_ops_details()
        for index in detail["outputs"]
    }
    for kind, name in ((np.int8, "int8"), (np.int16, "int16x8")):
        if np.dtype(kind) in output_types:
            return name
    if np.dtype(np.int8) in kinds.values():
        return "dynamic"
    return "float16" if np.dtype(np.float16) in kinds.values() else "float32"
