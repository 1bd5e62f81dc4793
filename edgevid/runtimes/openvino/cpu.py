"""OpenVINO artifacts on the CPU, and what OpenVINO's other devices share with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from edgevid.errors import EngineFailed, reason_of
from edgevid.registry import need
from edgevid.runtimes import Accelerator, Operator, zero_state
from edgevid.runtimes.openvino import UNFUSED

if TYPE_CHECKING:
    from edgevid.contract import Contract, Inputs, Tensors


class OpenVINODevice(Accelerator):
    """One device of OpenVINO; ``device`` is OpenVINO's name for it."""

    device: str

    def load(
        self, files: Mapping[str, bytes], contract: Contract, *, threads: int = 1
    ) -> OpenVINOEngine:
        """Load ``files["xml"]`` and ``files["bin"]``; see `edgevid.runtimes.Accelerator.load`."""
        return OpenVINOEngine(files, contract, threads, device=self.device)

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        steps: Iterable[Inputs],
        *,
        threads: int = 1,
    ) -> list[Operator]:
        """Profile with OpenVINO's own counters; see `edgevid.runtimes.Accelerator.profile`.

        A device that executes an operator on the CPU says so in the implementation's name.
        """
        engine = OpenVINOEngine(files, contract, threads, device=self.device, profiling=True)
        state: Tensors = zero_state(contract)
        spent: dict[tuple[str, str, str], float] = {}
        count = 0
        for inputs in steps:
            _, state = engine.step(inputs, state)
            count += 1
            for *which, took_ms in engine.profile():
                key = (str(which[0]), str(which[1]), str(which[2]))
                spent[key] = spent.get(key, 0.0) + took_ms
        engine.close()
        own = self.device.lower()
        return [
            Operator(name, kind, "cpu" if "cpu" in made.lower() else own, total_ms / count)
            for (name, kind, made), total_ms in spent.items()
        ]


class OpenVINOCPU(OpenVINODevice):
    """The CPU of the runtime ``openvino``."""

    device = "CPU"


BETWEEN = frozenset(
    {"Clamp", "Convert", "FakeQuantize", "Multiply", "Relu", "Reshape", "Squeeze", "Unsqueeze"}
)

PRECISIONS = {"f32": "float32", "f16": "float16", "bf16": "bf16"}


class OpenVINOEngine:
    """One infer request whose inputs are bound once and filled in place.

    On the CPU, an artifact that is not integer runs in float32: the default is bf16 or f16 on CPUs
    that have them, which changes outputs by 1e-3 to 1e-2. Other devices are asked for float16,
    which they are made for. The precision that really runs is read afterwards.
    """

    runtime = "openvino"

    def __init__(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        threads: int = 1,
        *,
        device: str = "CPU",
        profiling: bool = False,
    ) -> None:
        self.accelerator = device.lower()
        openvino = need("openvino", "openvino")
        try:
            model = openvino.Core().read_model(model=files["xml"], weights=files["bin"])
            options = device_options(device, threads, in_a_row=_has_products_in_a_row(model))
            options |= {"PERF_COUNT": "YES"} if profiling else {}
            compiled = openvino.compile_model(model, device, options)
            self._request: Any = compiled.create_infer_request()
            named = self._request.get_tensor
            self._inputs = [(one.name, named(one.name).data) for one in contract.inputs]
            self._state_inputs = [(s.name, named(s.input_name).data) for s in contract.states]
            self._state_outputs = [(s.name, named(s.output_name).data) for s in contract.states]
            self._outputs = [(o.name, named(o.name).data) for o in contract.outputs]
            self.precision = _precision(model, compiled)
        except RuntimeError as error:
            reason = reason_of(error, last=True)
            raise EngineFailed(f"openvino cannot load the artifact: {reason}") from error

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """Take one step; see `edgevid.runtimes.Engine.step`."""
        try:
            for name, bound in self._inputs:
                bound[:] = inputs[name]
            for name, bound in self._state_inputs:
                bound[:] = state[name]
            self._request.infer()
        except RuntimeError as error:
            reason = reason_of(error, last=True)
            raise EngineFailed(f"openvino step failed: {reason}") from error
        outputs = {name: bound.copy() for name, bound in self._outputs}
        return outputs, {name: bound.copy() for name, bound in self._state_outputs}

    def profile(self) -> list[tuple[str, str, str, float]]:
        """Name, kind, implementation and milliseconds of every operator of the last step."""
        return [
            (one.node_name, one.node_type, one.exec_type, one.real_time.total_seconds() * 1000)
            for one in self._request.profiling_info
            if one.status == one.Status.EXECUTED
        ]

    def close(self) -> None:
        """Free the request and the views into it."""
        self._inputs = self._state_inputs = self._state_outputs = self._outputs = []
        self._request = None


def device_options(device: str, threads: int, *, in_a_row: bool = False) -> dict[str, str]:
    """OpenVINO's compile options for a device.

    Args:
        device: OpenVINO's name of the device, such as ``CPU``.
        threads: Number of threads on a CPU.
        in_a_row: Whether products follow each other without a nonlinearity.

    Returns:
        The options by name.
    """
    if device != "CPU":
        return {"INFERENCE_PRECISION_HINT": "f16", "PERFORMANCE_HINT": "LATENCY"}
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
    }
    return options | (UNFUSED if in_a_row else {})


def _precision(model: Any, compiled: Any) -> str:
    """What runs: int8 if values are quantised, dynamic if only weights are, else the device's.

    What a device does with weights in bytes is its own affair: it may compute in integers, too.
    """
    nodes = [(node.get_type_name(), node) for node in model.get_ops()]
    if any(kind == "FakeQuantize" for kind, _ in nodes):
        return "int8"
    if any(kind == "Constant" and _is_bytes(node) for kind, node in nodes):
        return "dynamic"
    kind = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return PRECISIONS.get(kind, str(kind))


def _has_products_in_a_row(model: Any) -> bool:
    """Whether an integer product feeds another one without adding a bias in between."""
    nodes = model.get_ops()
    if not any(node.get_type_name() == "FakeQuantize" for node in nodes):
        return False
    products = [node for node in nodes if node.get_type_name() == "MatMul"]
    sources = [value.get_node() for node in products for value in node.input_values()]
    return any(_product_above(source) for source in sources)


def _product_above(node: Any) -> bool:
    while node.get_type_name() in BETWEEN:
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "MatMul")


def _is_bytes(constant: Any) -> bool:
    """Whether a constant holds weights in int8 or uint8, and not just a number or two."""
    kind = constant.get_element_type().get_type_name()
    return kind in ("i8", "u8") and len(constant.get_output_shape(0)) > 1
