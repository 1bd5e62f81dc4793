"""The runtime ``toy-numpy`` on the CPU."""

import json

import numpy as np

from edgevid.errors import EngineFailed
from edgevid.runtimes import Accelerator, Operator


class ToyEngine:
    """Computes ``bias + weights * mean of each channel``; see `edgevid.runtimes.Engine`."""

    runtime, accelerator, precision = "toy-numpy", "cpu", "float32"

    def __init__(self, content, contract):
        try:
            parameters = json.loads(content)
            self._weights = np.array(parameters["weights"], np.float32)
            self._bias = np.float32(parameters["bias"])
        except (ValueError, TypeError, KeyError) as error:
            raise EngineFailed(f"toy-numpy cannot load the artifact: {error}") from error
        self._frame = contract.frame.name
        self._output = contract.outputs[0].name

    def step(self, inputs, state):
        """Take one step."""
        means = inputs[self._frame].mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
        value = means @ self._weights / np.float32(255) + self._bias
        return {self._output: value.reshape(1, 1)}, dict(state)

    def close(self):
        """There is nothing to free."""


class ToyCPU(Accelerator):
    """The only accelerator."""

    def load(self, files, contract, *, threads=1):
        """Load ``files["toy"]``."""
        return ToyEngine(files["toy"], contract)

    def profile(self, files, contract, steps, *, threads=1):
        """Report its one operator."""
        return [Operator("mean", "MEAN", "cpu")]
