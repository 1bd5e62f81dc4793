"""The suite for runtimes over the registry: each runtime on the CPU, and each accelerator.

A CPU engine is tried here and in a process of its own, an accelerator as it serves: in a process of
its own. What this machine lacks is skipped, but for LiteRT's GPU, which a rig stands in for.
"""

from __future__ import annotations

import pytest

from edgevid import runtimes
from edgevid.bundle import Bundle
from edgevid.proof.golden import Golden
from edgevid.runtimes import CPU, catalog, zero_state
from edgevid.testing.runtime import RuntimeSuite
from rigs.graphs import read_cases
from rigs.vulkan import use_software_gpu


class BuiltInSuite(RuntimeSuite):
    @pytest.fixture
    def bundle(self, request) -> Bundle:
        name = "null_bundle" if self.name == "null" else "real_bundle"
        return Bundle.open(request.getfixturevalue(name))

    def test_the_module_is_called_as_the_accelerator(self, spec):
        for one in spec.accelerators:
            assert one.where.partition(":")[0] == f"edgevid.runtimes.{spec.name}.{one.name}"

    def test_the_precision_is_the_quantisation(self, load, bundle, artifacts):
        for artifact in artifacts:
            assert load(bundle, artifact).precision == artifact.quantize


class TFLiteSuite(BuiltInSuite):
    @pytest.fixture
    def cases(self, known_graphs):
        return read_cases(known_graphs)


class GPUSuite(TFLiteSuite):
    @pytest.fixture
    def runtime(self, monkeypatch):
        use_software_gpu(monkeypatch)
        return runtimes.get(self.name)


def _suites():
    for spec in catalog.built_in():
        for one in spec.accelerators:
            base = TFLiteSuite if spec.name == "tflite" else BuiltInSuite
            base = GPUSuite if (spec.name, one.name) == ("tflite", "gpu") else base
            for apart in (False, True) if one.name == CPU else (True,):
                name = f"Test_{spec.name}_{one.name}{'_apart' if apart else ''}"
                members = {"name": spec.name, "accelerator": one.name, "apart": apart}
                yield name, type(name, (base,), members)


globals().update(_suites())


def test_the_stand_in_runs_real_artifacts(real_bundle):
    bundle = Bundle.open(real_bundle)
    inputs, state = Golden.read(bundle).trajectories[0].inputs_at(0), zero_state(bundle.contract)
    for artifact in bundle.artifacts:
        files = bundle.files(artifact)
        (name,) = catalog.made_for(artifact.format)
        real = runtimes.get(name).load(files, bundle.contract).step(inputs, state)[0]
        fake = runtimes.get("null").load(files, bundle.contract).step(inputs, state)[0]
        for output, value in real.items():
            assert (fake[output] == value).all()
