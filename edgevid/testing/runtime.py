"""The conformance suite for runtimes.

Subclass `RuntimeSuite`, name the runtime, and give a bundle whose artifacts it executes::

    class TestPocket(RuntimeSuite):
        name = "pocket"

        @pytest.fixture
        def bundle(self, tmp_path):
            artifact = Artifact("tiny-float32", "tiny", "float32")
            return record_bundle(tmp_path / "tiny.edgevid", CONTRACT, artifact, {"tiny": CONTENT})

Set ``accelerator`` to test an accelerator other than the CPU, and ``apart`` to test it in a process
of its own, as accelerators are served. Give `cases` to test graphs whose outputs are known.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgevid import bundle as bundles
from edgevid import registry, runtimes
from edgevid.bundle import Artifact, Bundle
from edgevid.errors import BadInput, CheckFailed, EngineFailed
from edgevid.proof.golden import Golden, Trajectory
from edgevid.runner.worker import WorkerEngine
from edgevid.runtimes import CPU, Accelerator, Engine, Runtime, RuntimeSpec, catalog, zero_state

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid.contract import Contract

HEAVY = ("av", "cv2", "keras", "numpy", "tensorflow", "torch")
STEPS = 6
"""Length of a recorded trajectory."""
MAX_DIFFERENCE = 1e-3
"""How far the outputs of a `GraphCase` may be off, as a share of their largest magnitude."""

Load = Callable[[Bundle, Artifact], Engine]


@dataclass(frozen=True)
class GraphCase:
    """A step whose outputs are known, such as a graph that some accelerator gets wrong.

    Attributes:
        name: What is special about it.
        contract: Its contract, of the task ``raw``.
        artifact: Its artifact.
        files: The artifact's files, ending -> content.
        inputs: The inputs of one step by name, each of its contract's shape and dtype.
        state: The state before the step, by name.
        outputs: The right outputs and next states (``next_x``) by name, float32.
    """

    name: str
    contract: Contract
    artifact: Artifact
    files: Mapping[str, bytes]
    inputs: Mapping[str, NDArray[Any]]
    state: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]

    def bundle(self, path: Path) -> Bundle:
        """Write a bundle whose golden trajectory is the one step."""
        import numpy as np

        states = {
            one.name: np.stack([self.state[one.name], self.outputs[one.output_name]])
            for one in self.contract.states
        }
        given = {one.output_name for one in self.contract.states}
        trajectory = Trajectory(
            {name: value[None] for name, value in self.inputs.items()},
            {name: value[None] for name, value in self.outputs.items() if name not in given},
            states,
        )
        members = Golden((trajectory,)).to_members()
        return bundles.write(path, self.contract, [(self.artifact, self.files)], members, {})


def random_inputs(contract: Contract, steps: int = STEPS) -> dict[str, NDArray[Any]]:
    """Inputs for a contract: images that become brighter, and numbers in 0..1.

    Returns:
        Input name -> ``(steps, *shape)`` of the contract's dtype.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    found: dict[str, NDArray[Any]] = {}
    for one in contract.inputs:
        if one.dtype == "uint8":
            levels = np.linspace(20, 180, steps).reshape(-1, *[1] * len(one.shape))
            noise = rng.integers(0, 60, (steps, *one.shape))
            found[one.name] = (levels + noise).astype(np.uint8)
        else:
            found[one.name] = rng.random((steps, *one.shape)).astype(np.float32)
    return found


def record_bundle(
    path: Path, contract: Contract, artifact: Artifact, files: Mapping[str, bytes]
) -> Bundle:
    """Write a bundle of one artifact, with what its runtime computes as the golden trajectory.

    Args:
        path: The bundle's path.
        contract: The contract of the artifact's step.
        artifact: The artifact, of a format that an installed runtime is made for.
        files: The artifact's files, ending -> content.

    Returns:
        The bundle, opened.

    Raises:
        BadInput: No runtime is made for the format.
        EngineFailed: The runtime refuses the artifact.
    """
    import numpy as np

    from edgevid.proof.verify import runtimes_for

    found = runtimes_for(artifact.format)
    if not found:
        raise BadInput(f"no runtime is made for the format {artifact.format!r}; install one")
    engine = runtimes.get(found[0]).load(files, contract)
    inputs = random_inputs(contract)
    state: Any = zero_state(contract)
    outputs: dict[str, list[Any]] = {one.name: [] for one in contract.outputs}
    states: dict[str, list[Any]] = {name: [value] for name, value in state.items()}
    for step in range(STEPS):
        given, state = engine.step({name: value[step] for name, value in inputs.items()}, state)
        for name, value in given.items():
            outputs[name].append(value)
        for name, value in state.items():
            states[name].append(value)
    engine.close()
    trajectory = Trajectory(
        inputs,
        {name: np.stack(values) for name, values in outputs.items()},
        {name: np.stack(values) for name, values in states.items()},
    )
    members = Golden((trajectory,)).to_members()
    return bundles.write(path, contract, [(artifact, files)], members, {})


class RuntimeSuite:
    """What every runtime must do on one accelerator. See the module's docstring.

    Attributes:
        name: The runtime's name in the registry, or of its entry point.
        accelerator: The accelerator to test.
        apart: Whether to test engines in a process of their own.
    """

    name: str
    accelerator: str = CPU
    apart: bool = False

    @pytest.fixture
    def bundle(self) -> Bundle:
        """A bundle with artifacts of the accelerator's preferred format. Override it."""
        raise NotImplementedError("give a bundle that the runtime executes")

    @pytest.fixture
    def cases(self) -> Sequence[GraphCase]:
        """Graphs whose outputs are known; none by default."""
        return ()

    # ------------------------------------------------------------ fixtures for the tests

    @pytest.fixture
    def spec(self) -> RuntimeSpec:
        """The runtime's declaration."""
        spec: RuntimeSpec = registry.load("runtime", self.name)
        return spec

    @pytest.fixture
    def runtime(self) -> Runtime:
        """The runtime, if it can be tried on this machine."""
        runtime = runtimes.get(self.name)
        if reason := runtime.missing() or runtime.why_not(self.accelerator):
            pytest.skip(reason)
        return runtime

    @pytest.fixture
    def load(self, runtime: Runtime) -> Iterator[Load]:
        """A function that loads an artifact of a bundle; its engines are closed at the end."""
        opened: list[Engine] = []

        def load(bundle: Bundle, artifact: Artifact) -> Engine:
            if self.apart:
                worker = WorkerEngine(bundle, artifact.name, self.name, self.accelerator)
                opened.append(worker)
                worker.prove()
                return worker
            files = bundle.files(artifact.name)
            opened.append(runtime.load(files, bundle.contract, accelerator=self.accelerator))
            return opened[-1]

        yield load
        for engine in opened:
            engine.close()

    @pytest.fixture
    def artifacts(self, spec: RuntimeSpec, bundle: Bundle) -> list[Artifact]:
        """The bundle's artifacts of the accelerator's preferred format."""
        accelerator = spec.accelerator(self.accelerator)
        assert accelerator is not None
        return [one for one in bundle.artifacts if accelerator.prefers(one.format)]

    @pytest.fixture
    def trajectory(self, bundle: Bundle) -> Trajectory:
        """The first golden trajectory of the bundle."""
        return Golden.read(bundle).trajectories[0]

    # ------------------------------------------------------------ the declaration

    def test_the_declaration_is_complete(self, spec: RuntimeSpec) -> None:
        """It has formats with endings, and the CPU; accelerators execute formats that exist."""
        assert spec.name == self.name
        formats = {one.name for one in spec.formats}
        assert formats
        assert all(one.endings == tuple(sorted(one.endings)) for one in spec.formats)
        assert spec.cpu.formats[0] == spec.formats[0].name
        for one in spec.accelerators:
            assert one.quantize
            assert set(one.formats) <= formats

    def test_the_declaration_imports_nothing_heavy(self, spec: RuntimeSpec) -> None:
        """Listing runtimes costs nothing."""
        loaded = _modules_after(f"registry.load('runtime', {self.name!r})")
        libraries = {one.package for each in catalog.importable() for one in each.libraries}
        assert spec in catalog.importable()
        assert not loaded & {*HEAVY, *libraries}

    def test_a_look_at_an_accelerator_loads_no_library(self, spec: RuntimeSpec) -> None:
        """Whether it can be tried is read from files and devices."""
        loaded = _modules_after(f"runtimes.get({self.name!r}).why_not({self.accelerator!r})")
        assert not loaded & {library.package for library in spec.libraries}

    def test_every_accelerator_has_its_class(self, spec: RuntimeSpec) -> None:
        """The declaration names a subclass of `Accelerator` for each."""
        runtime = runtimes.get(self.name)
        for one in spec.accelerators:
            assert isinstance(runtime.accelerator(one.name), Accelerator)

    # ------------------------------------------------------------ the runtime

    def test_it_has_a_version(self, runtime: Runtime) -> None:
        """A version is a part of every verdict."""
        assert len(runtime.version().split()) >= 2
        assert runtime.accelerators()[0] == CPU

    def test_an_accelerator_that_does_not_exist_is_named(
        self, runtime: Runtime, bundle: Bundle, artifacts: list[Artifact]
    ) -> None:
        """The message lists those that exist."""
        with pytest.raises(BadInput, match=r"no accelerator 'tpu9'.*cpu"):
            runtime.load(bundle.files(artifacts[0]), bundle.contract, accelerator="tpu9")

    def test_a_broken_artifact_is_refused(
        self, runtime: Runtime, bundle: Bundle, artifacts: list[Artifact]
    ) -> None:
        """It raises `EngineFailed` of one line, and the process lives on."""
        if self.apart:
            pytest.skip("the proof refuses it")
        broken = dict.fromkeys(bundle.files(artifacts[0]), b"\x00" * 64)
        with pytest.raises(EngineFailed) as caught:
            runtime.load(broken, bundle.contract, accelerator=self.accelerator)
        assert "\n" not in str(caught.value)

    # ------------------------------------------------------------ engines

    def test_a_step_returns_what_the_contract_names(
        self, load: Load, bundle: Bundle, artifacts: list[Artifact], trajectory: Trajectory
    ) -> None:
        """Outputs and states have the contract's names and shapes, and are float32."""
        import numpy as np

        for artifact in artifacts:
            engine = load(bundle, artifact)
            assert (engine.runtime, engine.accelerator) == (self.name, self.accelerator)
            assert engine.precision
            outputs, state = engine.step(trajectory.inputs_at(0), zero_state(bundle.contract))
            shapes = {name: value.shape for name, value in outputs.items()}
            assert shapes == {one.name: tuple(one.shape) for one in bundle.contract.outputs}
            shapes = {name: value.shape for name, value in state.items()}
            assert shapes == {one.name: tuple(one.shape) for one in bundle.contract.states}
            assert all(v.dtype == np.float32 for v in (*outputs.values(), *state.values()))

    def test_a_step_is_a_pure_function(
        self, load: Load, bundle: Bundle, artifacts: list[Artifact], trajectory: Trajectory
    ) -> None:
        """The same arguments give the same outputs, and what was returned never changes."""
        engine = load(bundle, artifacts[0])
        state = zero_state(bundle.contract)
        outputs, after = engine.step(trajectory.inputs_at(0), state)
        kept = {name: value.copy() for name, value in {**outputs, **after}.items()}
        for number in range(1, len(trajectory)):
            engine.step(trajectory.inputs_at(number), after)
        again, after_again = engine.step(trajectory.inputs_at(0), state)
        for name, value in kept.items():
            assert ({**outputs, **after}[name] == value).all(), "it was written to again"
            assert ({**again, **after_again}[name] == value).all()
        assert all((value == 0).all() for value in state.values()), "the state was written to"

    def test_every_input_matters(
        self, load: Load, bundle: Bundle, artifacts: list[Artifact], trajectory: Trajectory
    ) -> None:
        """Each input reaches the step by its name."""
        engine = load(bundle, artifacts[0])
        inputs, state = trajectory.inputs_at(0), zero_state(bundle.contract)
        outputs, after = engine.step(inputs, state)
        for name, value in inputs.items():
            changed, changed_after = engine.step({**inputs, name: value // 2}, state)
            assert _differ({**outputs, **after}, {**changed, **changed_after}), name

    def test_every_state_matters(
        self, load: Load, bundle: Bundle, artifacts: list[Artifact], trajectory: Trajectory
    ) -> None:
        """Each state reaches the step by its name."""
        import numpy as np

        engine = load(bundle, artifacts[0])
        inputs, state = trajectory.inputs_at(0), zero_state(bundle.contract)
        outputs, after = engine.step(inputs, state)
        for name, value in state.items():
            changed, changed_after = engine.step(inputs, {**state, name: np.ones_like(value)})
            assert _differ({**outputs, **after}, {**changed, **changed_after}), name

    def test_two_engines_do_not_share_anything(
        self, load: Load, bundle: Bundle, artifacts: list[Artifact], trajectory: Trajectory
    ) -> None:
        """Interleaved steps give what separate ones give."""
        one, other = load(bundle, artifacts[0]), load(bundle, artifacts[-1])
        state = zero_state(bundle.contract)
        outputs, _ = one.step(trajectory.inputs_at(0), state)
        kept = {name: value.copy() for name, value in outputs.items()}
        other.step(trajectory.inputs_at(len(trajectory) - 1), state)
        again, _ = one.step(trajectory.inputs_at(0), state)
        assert not _differ(again, kept)

    def test_graphs_with_known_outputs_are_right_or_refused(
        self, load: Load, cases: Sequence[GraphCase], tmp_path: Path
    ) -> None:
        """The CPU is right about all of them; an accelerator is right, or its proof finds out."""
        import numpy as np

        if not cases:
            pytest.skip("there are no cases")
        for number, case in enumerate(cases):
            bundle = case.bundle(tmp_path / f"{number}.edgevid")
            try:
                engine = load(bundle, case.artifact)
            except (CheckFailed, EngineFailed) as error:
                assert self.apart and self.accelerator != CPU, f"{case.name}: {error}"
                continue
            outputs, after = engine.step(case.inputs, case.state)
            found = {
                **outputs,
                **{one.output_name: after[one.name] for one in case.contract.states},
            }
            for name, wanted in case.outputs.items():
                largest = max(1.0, float(np.abs(wanted).max()))
                off = float(np.abs(found[name] - wanted).max()) / largest
                assert off <= MAX_DIFFERENCE, f"{case.name}: {name} is off by {off:.2g}"


def _differ(one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> bool:
    return any((value != other[name]).any() for name, value in one.items())


def _modules_after(statement: str) -> set[str]:
    """The top packages that a fresh process has imported after a statement."""
    script = (
        "import sys\nfrom edgevid import registry, runtimes\n"
        f"{statement}\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())
