"""The suite for converters over the registry, on one small step with a state."""

from __future__ import annotations

import numpy as np
import pytest

from edgevid import registry
from edgevid.testing.converter import ConverterSuite, ModelStep
from rigs import graphs


def compute(inputs, state):
    """What `rigs.graphs.plain` computes, in numpy."""
    w = graphs.weights()
    means = inputs["frame"].astype(np.float32).mean((1, 2)) / 255
    after = np.concatenate([state["s"][:, 1:], np.tanh(means @ w["matrix"])[:, None]], axis=1)
    raised = np.exp(after.mean(1) @ w["square"])
    return {"out": raised / raised.sum()}, {"s": after.astype(np.float32)}


class BuiltInConverterSuite(ConverterSuite):
    @pytest.fixture
    def step(self, known_graphs):
        return ModelStep(graphs.CONTRACT, known_graphs / "plain", "saved_model", compute)


globals().update(
    {
        f"Test_{name}": type(f"Test_{name}", (BuiltInConverterSuite,), {"name": name})
        for name in registry.builtin("converter")
    }
)
