"""OpenVINO artifacts (IR: ``.xml`` and ``.bin``) on OpenVINO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from edgevid.errors import EngineFailed
from edgevid.registry import need
from edgevid.runtimes import Operator, accelerators, zero_state

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract, Tensors
    from edgevid.runtimes import Engine


class OpenVINO:
    """The runtime ``openvino``."""

    name = "openvino"
    formats = ("openvino",)

    def version(self) -> str:
        """The library and its version, without the build's commit."""
        return f"openvino {need('openvino', 'openvino').__version__.partition('-')[0]}"

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
        """Load ``files["xml"]`` and ``files["bin"]``; see `edgevid.runtimes.Runtime.load`."""
        if accelerator != accelerators.CPU:
            return accelerators.load(self.name, accelerator, files, contract, threads)
        return OpenVINOEngine(files, contract, threads or 1)

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        frames: Iterable[NDArray[np.uint8]],
        *,
        threads: int | None = None,
    ) -> list[Operator]:
        """See `edgevid.runtimes.Profiles`."""
        return profiled(files, contract, frames, threads)


class Plugged:
    """What OpenVINO's devices besides the CPU have in common; ``name`` is OpenVINO's, in small."""

    name: str
    formats = ("openvino",)
    stand_in = False

    def load(
        self, files: Mapping[str, bytes], contract: Contract, *, threads: int | None = None
    ) -> OpenVINOEngine:
        """See `edgevid.runtimes.Accelerator.load`."""
        return OpenVINOEngine(files, contract, device=self.name.upper())

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        frames: Iterable[NDArray[np.uint8]],
        *,
        threads: int | None = None,
    ) -> list[Operator]:
        """See `edgevid.runtimes.Profiles`."""
        return profiled(files, contract, frames, threads, self.name.upper())


# On one thread OpenVINO 2026.4 makes one "snippet" of int8 products in a row, and where no bias is
# added between them, that answers garbage. Without snippets a step takes up to a tenth longer.
UNFUSED = {"SNIPPETS_MODE": "DISABLE"}
BETWEEN = frozenset(
    {"Clamp", "Convert", "FakeQuantize", "Multiply", "Relu", "Reshape", "Squeeze", "Unsqueeze"}
)

PRECISIONS = {"f32": "float32", "f16": "float16", "bf16": "bf16"}


class OpenVINOEngine:
    """One infer request whose inputs are bound once and filled in place.

    On the CPU its precision is fixed to float32 where the artifact is not integer: the default
    would be bf16 or f16 where the CPU has them, which moves answers by 1e-3 to 1e-2. Other devices
    are asked for float16, which is what they are made for; what really runs is read afterwards.
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
            options = _options(device, threads, in_a_row=_has_products_in_a_row(model))
            options |= {"PERF_COUNT": "YES"} if profiling else {}
            compiled = openvino.compile_model(model, device, options)
            self._request: Any = compiled.create_infer_request()
            named = self._request.get_tensor
            self._frame = named(contract.main).data
            self._takes = [(s.name, named(s.taken).data) for s in contract.states]
            self._states = [(s.name, named(s.given).data) for s in contract.states]
            self._outputs = [(o.name, named(o.name).data) for o in contract.outputs]
            self.precision = _precision(model, compiled)
        except RuntimeError as error:
            raise EngineFailed(f"openvino cannot load the artifact: {_gist(error)}") from error

    def step(self, frame: NDArray[np.uint8], state: Tensors) -> tuple[Tensors, Tensors]:
        """Take one step; see `edgevid.runtimes.Engine.step`."""
        try:
            self._frame[:] = frame
            for name, bound in self._takes:
                bound[:] = state[name]
            self._request.infer()
        except RuntimeError as error:
            raise EngineFailed(f"openvino step failed: {_gist(error)}") from error
        answer = {name: bound.copy() for name, bound in self._outputs}
        return answer, {name: bound.copy() for name, bound in self._states}

    def profile(self) -> list[tuple[str, str, str, float]]:
        """Name, kind, implementation and milliseconds of all that the last step executed."""
        return [
            (one.node_name, one.node_type, one.exec_type, one.real_time.total_seconds() * 1000)
            for one in self._request.profiling_info
            if one.status == one.Status.EXECUTED
        ]

    def close(self) -> None:
        """Free the request and the views into it."""
        self._takes = self._states = self._outputs = []
        self._frame = self._request = None


def profiled(
    files: Mapping[str, bytes],
    contract: Contract,
    frames: Iterable[NDArray[np.uint8]],
    threads: int | None,
    device: str = "CPU",
) -> list[Operator]:
    """Step through ``frames`` with OpenVINO's own counters on; see `edgevid.runtimes.Profiles`.

    A device that executes something on the CPU all the same says so in the implementation's name.
    """
    engine = OpenVINOEngine(files, contract, threads or 1, device=device, profiling=True)
    state: Tensors = zero_state(contract)
    spent: dict[tuple[str, str, str], float] = {}
    steps = 0
    for frame in frames:
        _, state = engine.step(frame, state)
        steps += 1
        for *which, took_ms in engine.profile():
            key = (str(which[0]), str(which[1]), str(which[2]))
            spent[key] = spent.get(key, 0.0) + took_ms
    engine.close()
    return [
        Operator(name, kind, "cpu" if "cpu" in made.lower() else device.lower(), total_ms / steps)
        for (name, kind, made), total_ms in spent.items()
    ]


def _options(device: str, threads: int, *, in_a_row: bool = False) -> dict[str, str]:
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
    """What runs: int8 where values are quantised, dynamic where weights are, else the device's.

    What a device makes of weights in bytes is its own affair: it may compute in integers too.
    """
    nodes = [(node.get_type_name(), node) for node in model.get_ops()]
    if any(kind == "FakeQuantize" for kind, _ in nodes):
        return "int8"
    if any(kind == "Constant" and _is_bytes(node) for kind, node in nodes):
        return "dynamic"
    kind = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return PRECISIONS.get(kind, str(kind))


def _has_products_in_a_row(model: Any) -> bool:
    """Whether a product of integers takes what another gave, no sum with a bias between them."""
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
    """Whether a constant holds weights in int8 or uint8, and not a number or two."""
    kind = constant.get_element_type().get_type_name()
    return kind in ("i8", "u8") and len(constant.get_output_shape(0)) > 1


def _gist(error: Exception) -> str:
    """OpenVINO's last line is the reason; those before it are places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
