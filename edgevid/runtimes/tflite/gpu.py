"""GPUs through LiteRT's WebGPU accelerator, which reaches them with Vulkan.

What it cannot execute runs on the CPU, in the same call. It is known to give wrong outputs without
an error, so here more than anywhere the proof decides.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.errors import EngineFailed, reason_of
from edgevid.registry import install_line, need
from edgevid.runtimes import Accelerator, Operator
from edgevid.runtimes.tflite import cpu
from edgevid.system import devices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract, Inputs, Tensors

PACKAGE = "ai_edge_litert"
DRIVERS = ("etc/vulkan/icd.d/*.json", "usr/share/vulkan/icd.d/*.json")
NAMED = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
"""Environment variables that name Vulkan drivers to Vulkan's loader."""


class LiteRTGPU(Accelerator):
    """The accelerator ``gpu`` of the runtime ``tflite``."""

    def why_not(self) -> str | None:
        """See `edgevid.runtimes.Accelerator.why_not`.

        Drivers that the environment names are trusted; software ones work without a device.
        """
        plugin = devices.in_package(PACKAGE, "libLiteRt*GpuAccelerator.so")
        if plugin is None:
            return install_line("package ai-edge-litert", "runner")
        if not plugin:
            return "this ai-edge-litert comes without a GPU accelerator; upgrade it to 2.3 or newer"
        named = next((os.environ[name] for name in NAMED if os.environ.get(name)), None)
        nodes = devices.beneath("dev/dri/renderD*")
        if named is None:
            if not nodes:
                return "there is no GPU: no /dev/dri/renderD*"
            if not any(devices.beneath(pattern) for pattern in DRIVERS):
                return "there is no Vulkan driver; run: sudo apt-get install mesa-vulkan-drivers"
        elif absent := [one for one in named.split(":") if not Path(one).is_file()]:
            return f"the Vulkan driver {absent[0]} does not exist; fix $VK_DRIVER_FILES"
        if devices.shared_library("libvulkan.so.1") is None:
            return "there is no libvulkan.so.1; run: sudo apt-get install libvulkan1"
        return None if named else devices.no_access(nodes, "render")

    def load(
        self, files: Mapping[str, bytes], contract: Contract, *, threads: int = 1
    ) -> GpuEngine:
        """See `edgevid.runtimes.Accelerator.load`."""
        return GpuEngine(files["tflite"], contract, threads)

    def profile(
        self,
        files: Mapping[str, bytes],
        contract: Contract,
        steps: Iterable[Inputs],
        *,
        threads: int = 1,
    ) -> list[Operator]:
        """Report what it took when the artifact was compiled, without times.

        See `edgevid.runtimes.Accelerator.profile`.
        """
        content = files["tflite"]
        kinds = cpu.TFLiteEngine(content, contract, threads).operators()
        with tempfile.TemporaryFile() as log, _errors_to(log.fileno()):
            whole = _compiled(content, threads).is_fully_accelerated()
            log.seek(0)
            messages = log.read().decode(errors="replace")
        return placed(kinds, "" if whole else messages)


class GpuEngine:
    """One compiled model with a buffer for each tensor.

    It computes in float32 even if the GPU has float16, because nothing reports afterwards which of
    them ran.
    """

    runtime = "tflite"
    accelerator = "gpu"

    def __init__(self, content: bytes, contract: Contract, threads: int) -> None:
        self.precision = cpu.precision_of(content)
        try:
            self._model = _compiled(content, threads)
            self._signature = next(iter(self._model.get_signature_list()))
            take = self._model.create_input_buffer_by_name
            give = self._model.create_output_buffer_by_name
            taken = (*(i.name for i in contract.inputs), *(s.input_name for s in contract.states))
            given = (*(s.output_name for s in contract.states), *(o.name for o in contract.outputs))
            self._inputs = {name: take(self._signature, name) for name in taken}
            self._outputs = {name: give(self._signature, name) for name in given}
        except (RuntimeError, ValueError, StopIteration) as error:
            reason = reason_of(error, last=True)
            raise EngineFailed(f"the GPU cannot load the artifact: {reason}") from error
        self._contract = contract

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """Take one step; see `edgevid.runtimes.Engine.step`."""
        contract = self._contract
        try:
            for one in contract.inputs:
                self._inputs[one.name].write(inputs[one.name])
            for entry in contract.states:
                self._inputs[entry.input_name].write(state[entry.name])
            self._model.run_by_name(self._signature, self._inputs, self._outputs)
            outputs = {o.name: self._read(o.name, o.shape) for o in contract.outputs}
            return outputs, {s.name: self._read(s.output_name, s.shape) for s in contract.states}
        except (RuntimeError, ValueError) as error:
            reason = reason_of(error, last=True)
            raise EngineFailed(f"the GPU's step failed: {reason}") from error

    def _read(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        import numpy as np

        values: NDArray[np.float32] = self._outputs[name].read(math.prod(shape), np.float32)
        return values.reshape(shape)

    def close(self) -> None:
        """Free the model and its buffers."""
        self._inputs, self._outputs = {}, {}
        self._model = None


def _compiled(content: bytes, threads: int) -> Any:
    hardware = need(f"{PACKAGE}.hardware_accelerator", "runner").HardwareAccelerator
    options = need(f"{PACKAGE}.options", "runner")
    chosen = options.Options(
        hardware_accelerators=hardware.GPU | hardware.CPU,
        cpu_options=options.CpuOptions(num_threads=threads),
        gpu_options=options.GpuOptions(enforce_f32=True),
    )
    compiled_model = need(f"{PACKAGE}.compiled_model", "runner").CompiledModel
    return compiled_model.from_buffer(content, options=chosen)


def placed(kinds: list[str], messages: str) -> list[Operator]:
    """Where an artifact's operators run, by the delegate's ``messages`` about those it refused.

    The delegate names and counts the kinds that it refused, but not the operators that run on the
    CPU only because they lie between refused ones. No message means that it took them all.
    """
    refused = Counter(kind for kind in kinds if re.search(rf"^{kind}: ", messages, re.MULTILINE))
    counted = re.search(r"remaining (\d+) operations will run on the CPU", messages)
    on_cpu = int(counted[1]) if counted else refused.total()
    if messages and not on_cpu:
        return [Operator("all", "unknown kinds", "cpu")]
    between = on_cpu - refused.total()
    left = [*refused.elements(), *["operators between them"] * between]
    taken = ["taken"] * (len(kinds) - on_cpu)
    return [
        *(Operator(f"{kind}:{n}", kind, "gpu") for n, kind in enumerate(taken)),
        *(Operator(f"{kind}:{n}", kind, "cpu") for n, kind in enumerate(left)),
    ]


@contextmanager
def _errors_to(descriptor: int) -> Iterator[None]:
    """Redirect standard error, native code's too, to a descriptor; nothing else may use it."""
    kept = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
