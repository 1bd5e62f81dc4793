"""What every engine of the registry must do: each runtime on the CPU, and each accelerator.

A CPU engine is tried here and in a process of its own, an accelerator where it serves: in a process
of its own. What this machine lacks is skipped, but for the GPU, which a rig stands in for.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from edgevid import registry, runtimes
from edgevid.bundle import Artifact, Bundle
from edgevid.contract import FRAME
from edgevid.errors import BadInput, EngineFailed
from edgevid.proof.golden import Golden
from edgevid.runner.worker import WorkerEngine
from edgevid.runtimes import catalog, zero_state
from rigs.vulkan import use_software_gpu

RUNTIMES = registry.names("runtime")


@dataclass
class Place:
    """Where an artifact is executed, and the engines that were opened there."""

    runtime: str
    accelerator: str
    apart: bool
    opened: list

    def load(self, bundle: Bundle, artifact: Artifact):
        if self.apart:
            engine = WorkerEngine(bundle, artifact.name, self.runtime, self.accelerator)
            self.opened.append(engine)
            engine.prove()
        else:
            engine = runtimes.get(self.runtime).load(bundle.files(artifact), bundle.contract)
            self.opened.append(engine)
        return engine


PLACES = [(runtime, "cpu", apart) for runtime in RUNTIMES for apart in (False, True)]
PLACES += [
    (spec.name, one.name, True)
    for spec in catalog.everything()
    for one in spec.accelerators
    if one.name != "cpu"
]


@pytest.fixture(params=PLACES, ids=lambda p: f"{p[0]}-{p[1]}{'-apart' if p[2] else ''}")
def place(request, monkeypatch):
    found = Place(*request.param, opened=[])
    if found.runtime == "tflite" and found.accelerator == "gpu":
        use_software_gpu(monkeypatch)
    elif reason := runtimes.get(found.runtime).why_not(found.accelerator):
        pytest.skip(reason)
    yield found
    for engine in found.opened:
        engine.close()


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    return runtimes.get(request.param)


@pytest.fixture
def bundle(request) -> Bundle:
    """A bundle with artifacts that the place or runtime prefers."""
    place = request.getfixturevalue("place") if "place" in request.fixturenames else None
    name = place.runtime if place else request.getfixturevalue("runtime").name
    return Bundle.open(request.getfixturevalue("null_bundle" if name == "null" else "real_bundle"))


@pytest.fixture
def artifacts(request, bundle) -> list[Artifact]:
    place = request.getfixturevalue("place") if "place" in request.fixturenames else None
    name = place.runtime if place else request.getfixturevalue("runtime").name
    preferred = catalog.spec(name).accelerator(place.accelerator if place else "cpu").formats[0]
    return [a for a in bundle.artifacts if a.format == preferred]


def frames(bundle: Bundle) -> np.ndarray:
    return Golden.read(bundle).trajectories[0].inputs[FRAME]


def test_it_says_what_it_is(runtime):
    assert runtime.name in RUNTIMES
    assert runtime.version()
    assert "cpu" in runtime.accelerators()
    assert runtime.spec.formats


def test_a_step_gives_what_the_contract_names(place, bundle, artifacts):
    for artifact in artifacts:
        engine = place.load(bundle, artifact)
        assert (engine.runtime, engine.accelerator) == (place.runtime, place.accelerator)
        assert engine.precision == artifact.quantize
        answer, after = engine.step({FRAME: frames(bundle)[0]}, zero_state(bundle.contract))
        assert {n: v.shape for n, v in answer.items()} == {
            o.name: o.shape for o in bundle.contract.outputs
        }
        assert {n: v.shape for n, v in after.items()} == {
            s.name: s.shape for s in bundle.contract.states
        }
        assert all(v.dtype == np.float32 for v in (*answer.values(), *after.values()))
        engine.close()


def test_a_step_is_a_pure_function(place, bundle, artifacts):
    """The same arguments give the same answer, whatever came between; nothing given changes."""
    engine = place.load(bundle, artifacts[0])
    seen = frames(bundle)
    state = zero_state(bundle.contract)
    first, after = engine.step({FRAME: seen[0]}, state)
    kept = {name: value.copy() for name, value in {**first, **after}.items()}
    for frame in seen[1:]:
        engine.step({FRAME: frame}, after)
    again, after_again = engine.step({FRAME: seen[0]}, state)
    for name, value in kept.items():
        assert ({**first, **after}[name] == value).all(), "what was given was written to again"
        assert ({**again, **after_again}[name] == value).all()
    assert all((value == 0).all() for value in state.values()), "the caller's state was written to"


def test_the_state_matters(place, bundle, artifacts):
    engine = place.load(bundle, artifacts[0])
    zero = zero_state(bundle.contract)
    one = {name: np.ones_like(value) for name, value in zero.items()}
    frame = frames(bundle)[0]
    assert any(
        (a != b).any()
        for a, b in zip(
            engine.step({FRAME: frame}, zero)[0].values(),
            engine.step({FRAME: frame}, one)[0].values(),
            strict=True,
        )
    )


def test_the_frame_is_uint8_rgb_by_name(place, bundle, artifacts):
    engine = place.load(bundle, artifacts[0])
    frame = frames(bundle)[0]
    assert frame.dtype == np.uint8
    swapped = np.ascontiguousarray(frame[..., ::-1]) // 2
    state = zero_state(bundle.contract)
    first, second = engine.step({FRAME: frame}, state)[0], engine.step({FRAME: swapped}, state)[0]
    assert any((first[n] != second[n]).any() for n in first), f"{FRAME} has no effect"


def test_what_is_no_artifact_is_refused(runtime, bundle, artifacts):
    broken = dict.fromkeys(bundle.files(artifacts[0]), b"\x00" * 64)
    with pytest.raises(EngineFailed):
        runtime.load(broken, bundle.contract)


def test_an_accelerator_that_is_not_there_is_named(runtime, bundle, artifacts):
    with pytest.raises(BadInput, match="no accelerator 'tpu9'"):
        runtime.load(bundle.files(artifacts[0]), bundle.contract, accelerator="tpu9")


def test_the_stand_in_runs_real_artifacts(real_bundle):
    bundle = Bundle.open(real_bundle)
    null = runtimes.get("null")
    for artifact in bundle.artifacts:
        real = runtimes.get(artifact.format).load(bundle.files(artifact), bundle.contract)
        fake = null.load(bundle.files(artifact), bundle.contract)
        frame, state = frames(bundle)[0], zero_state(bundle.contract)
        for name, value in real.step({FRAME: frame}, state)[0].items():
            assert (fake.step({FRAME: frame}, state)[0][name] == value).all()
