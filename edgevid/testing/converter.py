"""The conformance suite for converters.

Subclass `ConverterSuite`, name the converter, and give a model's step in a form that it takes::

    class TestPocket(ConverterSuite):
        name = "pocket"

        @pytest.fixture
        def step(self, tmp_path):
            write_onnx(tmp_path / "step.onnx")
            return ModelStep(CONTRACT, tmp_path / "step.onnx", "onnx", compute)

A runtime that executes the format has to be installed.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgevid import registry, runtimes
from edgevid.proof.replay import source_tolerances
from edgevid.proof.verify import runtimes_for
from edgevid.runtimes import zero_state
from edgevid.testing.runtime import random_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid.contract import Contract

QUANTISATIONS = {"float32", "float16", "dynamic", "int8", "int16x8"}
_CONVERT = """
import hashlib, sys
from pathlib import Path
from edgevid import registry
name, lowered, form, folder = sys.argv[1:]
paths = {path.stem: path for path in Path(folder).glob("*.npy")}
for quantize in reversed(registry.load("converter", name).quantisations):
    files = registry.load("converter", name)().convert(Path(lowered), form, paths, quantize)
    sums = (hashlib.sha256(files[ending]).hexdigest() for ending in sorted(files))
    print("made", quantize, *sums)
"""


@dataclass(frozen=True)
class ModelStep:
    """A model's step as a converter receives it.

    Attributes:
        contract: The step's contract.
        lowered: The file or folder.
        form: Its form, one of those that the converter takes.
        compute: Computes a step: ``(inputs, state) -> (outputs, next state)``, all by the
            contract's names, as `edgevid.runtimes.Engine.step`.
    """

    contract: Contract
    lowered: Path
    form: str
    compute: Callable[
        [Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]],
        tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]],
    ]


class ConverterSuite:
    """What every converter must do. See the module's docstring.

    Attributes:
        name: The converter's name in the registry, or of its entry point.
    """

    name: str

    @pytest.fixture
    def step(self) -> ModelStep:
        """A model's step; subclasses override it."""
        raise NotImplementedError("give a step that the converter takes")

    # ------------------------------------------------------------ fixtures for the tests

    @pytest.fixture
    def converter(self) -> Any:
        """A fresh converter."""
        return registry.load("converter", self.name)()

    @pytest.fixture
    def trajectories(self, step: ModelStep, tmp_path: Path) -> dict[str, Path]:
        """Recorded values of every input and state of the step, as ``.npy`` files."""
        import numpy as np

        inputs = random_inputs(step.contract, steps=12)
        state: Mapping[str, NDArray[Any]] = zero_state(step.contract)
        recorded: dict[str, list[NDArray[Any]]] = {
            one.input_name: [] for one in step.contract.states
        }
        for number in range(12):
            for one in step.contract.states:
                recorded[one.input_name].append(state[one.name])
            _, state = step.compute({n: value[number] for n, value in inputs.items()}, state)
        folder = tmp_path / "recorded"
        folder.mkdir()
        arrays = inputs | {name: np.stack(values) for name, values in recorded.items()}
        for name, values in arrays.items():
            np.save(folder / f"{name}.npy", values)
        return {name: folder / f"{name}.npy" for name in arrays}

    # ------------------------------------------------------------ tests

    def test_the_declaration_is_complete(self, converter: Any, step: ModelStep) -> None:
        """It has endings, known quantisations and forms."""
        assert converter.name == self.name
        assert converter.endings
        assert converter.quantisations and set(converter.quantisations) <= QUANTISATIONS
        assert step.form in converter.forms

    def test_a_runtime_executes_its_format(self, converter: Any) -> None:
        """An installed runtime has the format, with the same endings."""
        found = runtimes_for(converter.name)
        assert found, f"no runtime has the format {converter.name}"
        formats = {one.name: one for one in runtimes.get(found[0]).spec.formats}
        assert formats[converter.name].endings == tuple(sorted(converter.endings))

    def test_an_artifact_computes_what_the_model_does(
        self, converter: Any, step: ModelStep, trajectories: dict[str, Path]
    ) -> None:
        """Each quantisation is within the tolerance that its proof allows."""
        import numpy as np

        for quantize in converter.quantisations:
            files = converter.convert(step.lowered, step.form, trajectories, quantize)
            assert sorted(files) == sorted(converter.endings)
            files = converter.describe(files, step.contract)
            assert sorted(files) == sorted(converter.endings)
            engine = runtimes.get(runtimes_for(self.name)[0]).load(files, step.contract)
            inputs = {name: value[3] for name, value in random_inputs(step.contract).items()}
            state = zero_state(step.contract)
            wanted, wanted_state = step.compute(inputs, state)
            outputs, after = engine.step(inputs, state)
            allowed = source_tolerances(quantize)[engine.precision]
            for name, value in {**wanted, **wanted_state}.items():
                off = float(np.abs({**outputs, **after}[name] - value).max())
                assert off <= allowed * max(1.0, float(np.abs(value).max())), (quantize, name)
            engine.close()

    def test_equal_arguments_give_equal_bytes(
        self, converter: Any, step: ModelStep, trajectories: dict[str, Path]
    ) -> None:
        """In another process, and in another order of quantisations."""
        folder = next(iter(trajectories.values())).parent
        args = [self.name, str(step.lowered), step.form, str(folder)]
        command = [sys.executable, "-c", _CONVERT, *args]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        made = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("made ")]
        again = {quantize: sums for quantize, *sums in made}
        assert again.keys() == set(converter.quantisations)
        for quantize in converter.quantisations:
            files = converter.convert(step.lowered, step.form, trajectories, quantize)
            own = [hashlib.sha256(files[ending]).hexdigest() for ending in sorted(files)]
            assert again[quantize] == own, quantize

    def test_what_it_says_of_an_artifact_is_plain_data(
        self, converter: Any, step: ModelStep, trajectories: dict[str, Path]
    ) -> None:
        """Operators in float have names, and versions are by runtime."""
        quantize = converter.quantisations[0]
        files = converter.convert(step.lowered, step.form, trajectories, quantize)
        assert all(one.kind and one.name for one in converter.float_ops(files))
        for runtime, version in converter.smallest_runtime(files).items():
            assert registry.has("runtime", runtime)
            assert version[0].isdigit()
        counts = converter.operators(step.lowered, step.form)
        assert all(isinstance(count, int) and count > 0 for count in counts.values())
