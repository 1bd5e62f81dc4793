"""What every runtime of the registry must do, with whatever artifacts are made for it."""

import numpy as np
import pytest

from edgevid import registry
from edgevid.bundle import Bundle
from edgevid.contract import FRAME
from edgevid.errors import BadInput, EngineFailed
from edgevid.proof.golden import Golden
from edgevid.runtimes import zero_state

RUNTIMES = registry.names("runtime")


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    return registry.load("runtime", request.param)()


@pytest.fixture
def bundle(runtime, request) -> Bundle:
    """A bundle with artifacts that the runtime prefers."""
    name = "null_bundle" if runtime.formats[0] == "null" else "real_bundle"
    return Bundle.open(request.getfixturevalue(name))


@pytest.fixture
def artifacts(runtime, bundle):
    return [a for a in bundle.artifacts if a.format == runtime.formats[0]]


def frames(bundle: Bundle) -> np.ndarray:
    return Golden.read(bundle).trajectories[0].frames


def test_it_says_what_it_is(runtime):
    assert runtime.name in RUNTIMES
    assert runtime.version()
    assert "cpu" in runtime.accelerators()
    assert runtime.formats


def test_a_step_gives_what_the_contract_names(runtime, bundle, artifacts):
    for artifact in artifacts:
        engine = runtime.load(bundle.files(artifact), bundle.contract)
        assert (engine.runtime, engine.accelerator) == (runtime.name, "cpu")
        assert engine.precision == artifact.quantize
        answer, after = engine.step(frames(bundle)[0], zero_state(bundle.contract))
        assert {n: v.shape for n, v in answer.items()} == {
            o.name: o.shape for o in bundle.contract.outputs
        }
        assert {n: v.shape for n, v in after.items()} == {
            s.name: s.shape for s in bundle.contract.states
        }
        assert all(v.dtype == np.float32 for v in (*answer.values(), *after.values()))
        engine.close()


def test_a_step_is_a_pure_function(runtime, bundle, artifacts):
    """The same arguments give the same answer, whatever came between; nothing given changes."""
    engine = runtime.load(bundle.files(artifacts[0]), bundle.contract)
    seen = frames(bundle)
    state = zero_state(bundle.contract)
    first, after = engine.step(seen[0], state)
    kept = {name: value.copy() for name, value in {**first, **after}.items()}
    for frame in seen[1:]:
        engine.step(frame, after)
    again, after_again = engine.step(seen[0], state)
    for name, value in kept.items():
        assert ({**first, **after}[name] == value).all(), "what was given was written to again"
        assert ({**again, **after_again}[name] == value).all()
    assert all((value == 0).all() for value in state.values()), "the caller's state was written to"


def test_the_state_matters(runtime, bundle, artifacts):
    engine = runtime.load(bundle.files(artifacts[0]), bundle.contract)
    zero = zero_state(bundle.contract)
    one = {name: np.ones_like(value) for name, value in zero.items()}
    frame = frames(bundle)[0]
    assert any(
        (a != b).any()
        for a, b in zip(
            engine.step(frame, zero)[0].values(), engine.step(frame, one)[0].values(), strict=True
        )
    )


def test_what_is_no_artifact_is_refused(runtime, bundle, artifacts):
    broken = dict.fromkeys(bundle.files(artifacts[0]), b"\x00" * 64)
    with pytest.raises(EngineFailed):
        runtime.load(broken, bundle.contract)


def test_an_accelerator_that_is_not_there_is_named(runtime, bundle, artifacts):
    with pytest.raises(BadInput, match="no accelerator 'tpu9'"):
        runtime.load(bundle.files(artifacts[0]), bundle.contract, accelerator="tpu9")


def test_the_frame_is_uint8_rgb_by_name(runtime, bundle, artifacts):
    engine = runtime.load(bundle.files(artifacts[0]), bundle.contract)
    frame = frames(bundle)[0]
    assert frame.dtype == np.uint8
    swapped = np.ascontiguousarray(frame[..., ::-1]) // 2
    state = zero_state(bundle.contract)
    first, second = engine.step(frame, state)[0], engine.step(swapped, state)[0]
    assert any((first[n] != second[n]).any() for n in first), f"{FRAME} has no effect"


def test_the_stand_in_runs_real_artifacts(real_bundle):
    bundle = Bundle.open(real_bundle)
    null = registry.load("runtime", "null")()
    for artifact in bundle.artifacts:
        real = registry.load("runtime", artifact.format)().load(
            bundle.files(artifact), bundle.contract
        )
        fake = null.load(bundle.files(artifact), bundle.contract)
        frame, state = frames(bundle)[0], zero_state(bundle.contract)
        for name, value in real.step(frame, state)[0].items():
            assert (fake.step(frame, state)[0][name] == value).all()
