"""Contracts with any set of named inputs go through engine, worker, canary, proof and verify."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from edgevid import proof, runtimes
from edgevid.bundle import Bundle
from edgevid.contract import AudioInput, FrameInput, VectorInput
from edgevid.errors import EngineFailed
from edgevid.proof import Golden
from edgevid.proof.replay import check_pixels
from edgevid.runner.canary import Canaries
from edgevid.runner.step_memory import StepMemory
from edgevid.runner.stream import Stream
from edgevid.runner.worker import WorkerEngine
from edgevid.runtimes import zero_state
from rigs.bundles import CONTRACT, inputs_of, write_null

NAME = "null-float32"
LEFT, RIGHT = FrameInput("left", 16, 24), FrameInput("right", 8, 12, "letterbox")
SPEED, SOUND = VectorInput("speed", (1, 3)), AudioInput("sound", 16000, 160)
INPUTS = {
    "two frames": (LEFT, RIGHT),
    "frame and vector": (replace(LEFT, name="frame"), SPEED),
    "audio": (SOUND,),
    "every kind": (LEFT, SOUND, SPEED, RIGHT),
}


@pytest.fixture(params=INPUTS)
def bundle(request, tmp_path) -> Bundle:
    contract = replace(CONTRACT, inputs=INPUTS[request.param])
    return Bundle.open(write_null(tmp_path / "inputs.edgevid", contract))


@pytest.fixture
def loaded(bundle):
    return runtimes.get("null").load(bundle.files(NAME), bundle.contract)


def steps_of(bundle: Bundle, count: int = 4) -> list[dict[str, np.ndarray]]:
    inputs = inputs_of(bundle.contract, count)
    return [{name: values[step] for name, values in inputs.items()} for step in range(count)]


def test_inputs_survive_the_golden_trajectory(bundle):
    (trajectory,) = Golden.read(bundle).trajectories
    wanted = {one.name: (one.shape, one.dtype) for one in bundle.contract.inputs}
    assert {n: (v.shape[1:], v.dtype.name) for n, v in trajectory.inputs.items()} == wanted
    assert len(trajectory) == 6
    for step in range(len(trajectory)):
        for name, values in trajectory.inputs_at(step).items():
            np.testing.assert_array_equal(values, inputs_of(bundle.contract, 6)[name][step])
    members = {name for name in bundle.names if name.startswith("golden/0/input_")}
    assert members == {f"golden/0/input_{name}.npy" for name in wanted}


def test_every_input_matters_by_its_name(bundle, loaded):
    (inputs, *_), state = steps_of(bundle), zero_state(bundle.contract)
    whole = loaded.step(inputs, state)[0]["scores"]
    for one in bundle.contract.inputs:
        changed = {**inputs, one.name: np.full(one.shape, 1 if one.kind != "frame" else 255)}
        assert (loaded.step(changed, state)[0]["scores"] != whole).any(), one.name


def test_two_frames_are_not_mixed_up(tmp_path):
    contract = replace(CONTRACT, inputs=(LEFT, replace(LEFT, name="right")))
    bundle = Bundle.open(write_null(tmp_path / "two.edgevid", contract))
    engine = runtimes.get("null").load(bundle.files(NAME), contract)
    dark, light = (np.full(LEFT.shape, level, np.uint8) for level in (10, 200))
    state = zero_state(contract)
    one, _ = engine.step({"left": dark, "right": light}, state)
    other, _ = engine.step({"left": light, "right": dark}, state)
    assert (one["scores"] != other["scores"]).any()


def test_the_worker_takes_them_as_the_engine_does(bundle, loaded):
    worker = WorkerEngine(bundle, NAME, "null", "null")
    try:
        worker.prove(30)
        state = other = zero_state(bundle.contract)
        for inputs in steps_of(bundle):
            (outputs, state), (same, other) = loaded.step(inputs, state), worker.step(inputs, other)
            np.testing.assert_array_equal(outputs["scores"], same["scores"])
            np.testing.assert_array_equal(state["level"], other["level"])
        name = bundle.contract.inputs[-1].name
        with pytest.raises(EngineFailed, match=f"no array for '{name}'"):
            worker.step({n: v for n, v in inputs.items() if n != name}, state)
        worker.step(inputs, state)  # nothing was sent, so it still serves
    finally:
        worker.close()


def test_shared_memory_has_room_for_each(bundle):
    contract = bundle.contract
    memory = StepMemory(contract)
    other = StepMemory(contract, os.dup(memory.fd))
    inputs = steps_of(bundle)[-1]
    state = {"level": np.float32([[0.25, 0.5]])}
    memory.write_inputs(inputs, state)
    for name, values in inputs.items():
        np.testing.assert_array_equal(other.inputs[name], values)
    np.testing.assert_array_equal(other.state["level"], state["level"])
    other.write_outputs({"scores": np.float32([[1, 2, 3]])}, {"level": np.float32([[3, 4]])})
    outputs, following = memory.read_outputs()
    assert outputs["scores"].tolist() == [[1, 2, 3]]
    assert following["level"].tolist() == [[3, 4]]
    memory.close()
    memory.close()
    other.close()


def test_canaries_repeat_their_steps(bundle, loaded):
    canaries = Canaries(loaded, bundle, NAME)
    assert [canaries.check(loaded) for _ in range(6)] == [None] * 6


def test_a_stream_carries_its_state(bundle, loaded):
    stream, state = Stream(bundle.contract), zero_state(bundle.contract)
    for inputs in steps_of(bundle):
        outputs, state = loaded.step(inputs, state)
        np.testing.assert_array_equal(stream.step(loaded, inputs)["scores"], outputs["scores"])


def test_verify_proves_them(bundle):
    report = proof.verify(bundle.path, runtime="null")
    assert report["ok"], report
    assert report["checks"][0]["max_abs"] == 0
    assert check_pixels(Golden.read(bundle), bundle.contract) is None


def test_a_wrong_engine_is_found(bundle, fault):
    fault("wrong")
    report = proof.verify(bundle.path, runtime="null")
    assert not report["ok"]
    assert "is off by" in report["checks"][0]["reason"]


@pytest.mark.parametrize("command", ["run", "bench"])
def test_what_no_source_can_feed_is_one_line(tmp_path, edgevid, video, command):
    contract = replace(CONTRACT, inputs=(SOUND, SPEED))
    path = write_null(tmp_path / "sound.edgevid", contract)
    args = [path, video] if command == "run" else [path, "--source", video, "--scenario", "single"]
    done = edgevid(command, *args, "--runtime", "null")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "audio 'sound', vector 'speed'" in line
    assert "use a model whose only input is a frame" in line or "use --scenario step" in line


def test_inspect_names_every_input(tmp_path, edgevid):
    path = write_null(tmp_path / "all.edgevid", replace(CONTRACT, inputs=INPUTS["every kind"]))
    text = edgevid("inspect", path).stdout
    for part in ("left: 24x16 rgb, stretch", "sound: audio, 160 samples at 16000 Hz"):
        assert part in text
    assert "speed: vector (1, 3)" in text
    assert json.loads(edgevid("inspect", path, "--json").stdout)["contract"]["inputs"][1] == {
        "kind": "audio",
        "name": "sound",
        "sample_rate_hz": 16000,
        "samples": 160,
    }


def test_an_old_bundle_is_one_line(tmp_path, edgevid, null_bundle):
    old = tmp_path / "old.edgevid"
    with zipfile.ZipFile(null_bundle) as new, zipfile.ZipFile(old, "w") as archive:
        for name in new.namelist():
            content = new.read(name)
            if name == "manifest.json":
                content = json.dumps(json.loads(content) | {"format": 1}).encode()
            archive.writestr(name, content)
    done = edgevid("inspect", old)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "written by an older edgevid (format 1" in line
    assert "convert the model again: edgevid convert" in line
