"""TFLite artifacts on ai-edge-litert, or on tflite-runtime where only that exists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from edgevid.errors import EngineFailed, MissingExtra
from edgevid.registry import install_line
from edgevid.runtimes import accelerators

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract, Tensors
    from edgevid.runtimes import Engine, Operator

LIBRARIES = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
)


class TFLite:
    """The runtime ``tflite``."""

    name = "tflite"
    formats = ("tflite",)

    def version(self) -> str:
        """The library that serves, and its version."""
        return _library()[1]

    def accelerators(self) -> tuple[str, ...]:
        """The CPU, and what a look at this machine finds."""
        return accelerators.usable(self.name)

    def load(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        *,
        accelerator: str = "cpu",
        threads: int | None = None,
    ) -> Engine:
        """Load ``files["tflite"]``; see `edgevid.runtimes.Runtime.load`."""
        if accelerator != accelerators.CPU:
            return accelerators.load(self.name, accelerator, files, contract, threads)
        return TFLiteEngine(files["tflite"], contract, threads or 1)

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        frames: Iterable[NDArray[np.uint8]],
        *,
        threads: int | None = None,
    ) -> list[Operator]:
        """See `edgevid.runtimes.Profiles`; it runs on zeros, one thread."""
        from edgevid.runtimes.tflite.profile import profile

        return profile(files["tflite"], sum(1 for _ in frames))


class TFLiteEngine:
    """One interpreter, called with tensors by index.

    The signature says which index carries which name; its runner is let go of at once, because a
    live one makes ``invoke`` raise, and because it resizes inputs of a wrong shape silently.
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
        library = _library()[0]
        try:
            delegates = [library.load_delegate(delegate)] if delegate else None
            self._interpreter: Any = library.Interpreter(
                model_content=content, num_threads=threads, experimental_delegates=delegates
            )
            self._interpreter.allocate_tensors()
            takes, gives = _signature(self._interpreter)
        except (ValueError, RuntimeError, OSError) as error:
            raise EngineFailed(f"tflite cannot load the artifact: {_first_line(error)}") from error
        try:
            self._frame = takes[contract.main]["index"]
            self._takes = [(s.name, takes[s.taken]["index"]) for s in contract.states]
            self._states = [(s.name, gives[s.given]["index"]) for s in contract.states]
            self._outputs = [(o.name, gives[o.name]["index"]) for o in contract.outputs]
        except KeyError as error:
            raise EngineFailed(f"the tflite artifact lacks the tensor {error}") from error
        self.precision = _precision(self._interpreter)

    def step(self, frame: NDArray[np.uint8], state: Tensors) -> tuple[Tensors, Tensors]:
        """Take one step; see `edgevid.runtimes.Engine.step`."""
        interpreter = self._interpreter
        try:
            interpreter.set_tensor(self._frame, frame)
            for name, index in self._takes:
                interpreter.set_tensor(index, state[name])
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise EngineFailed(f"tflite step failed: {_first_line(error)}") from error
        answer = {name: interpreter.get_tensor(index) for name, index in self._outputs}
        return answer, {name: interpreter.get_tensor(index) for name, index in self._states}

    def operators(self) -> list[str]:
        """The kinds of the artifact's operators; what a delegate replaces them by is left out."""
        kinds = (str(detail["op_name"]) for detail in self._interpreter._get_ops_details())
        return [kind for kind in kinds if kind != "DELEGATE"]

    def close(self) -> None:
        """Free the interpreter."""
        self._interpreter = None


def _library() -> tuple[Any, str]:
    for module, package in LIBRARIES:
        try:
            return import_module(module), f"{package} {metadata.version(package)}"
        except ImportError as error:
            if (error.name or "").partition(".")[0] != module.partition(".")[0]:
                raise
    raise MissingExtra(install_line("runtime tflite", "runner"))


def _signature(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    names = list(interpreter.get_signature_list())
    if not names:
        raise ValueError("it has no signature, so its tensors have no names")
    runner = interpreter.get_signature_runner(names[0])
    return runner.get_input_details(), runner.get_output_details()


def precision_of(content: bytes) -> str:
    """What the arithmetic of an artifact is made for, without allocating its memory."""
    try:
        return _precision(_library()[0].Interpreter(model_content=content))
    except (ValueError, RuntimeError) as error:
        raise EngineFailed(f"tflite cannot load the artifact: {_first_line(error)}") from error


def _precision(interpreter: Any) -> str:
    """What the arithmetic runs in, by what operators give; ``dynamic``: only weights are int8."""
    import numpy as np

    kinds = {int(d["index"]): np.dtype(d["dtype"]) for d in interpreter.get_tensor_details()}
    given = {
        kinds.get(int(index))
        for detail in interpreter._get_ops_details()
        for index in detail["outputs"]
    }
    for kind, name in ((np.int8, "int8"), (np.int16, "int16x8")):
        if np.dtype(kind) in given:
            return name
    if np.dtype(np.int8) in kinds.values():
        return "dynamic"
    return "float16" if np.dtype(np.float16) in kinds.values() else "float32"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
