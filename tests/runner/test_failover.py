"""An accelerator fails in the middle of a clip, and the answers are those of a clean run.

The stand-in accelerator runs the real artifact in a real process of its own; the fault strikes
there.
"""

import json
import os
import time

import numpy as np
import pytest

from edgevid.bundle import Bundle
from edgevid.proof import Golden
from rigs.service import bundle, camera, holds
from rigs.videos import write_video

KINDS = ("hang", "abort", "error", "vanish", "wrong", "nan")


@pytest.fixture(scope="session")
def film(tmp_path_factory):
    """300 frames whose colour changes every 5, so that answers lean on what was before."""
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 90, (300, 32, 32, 3))
    for number, colour in enumerate(rng.integers(0, 3, 60)):
        frames[5 * number : 5 * number + 5, ..., colour] += 150
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", frames.astype(np.uint8))


def proof_steps(path) -> int:
    """How many steps the proof takes before the first frame is served."""
    golden = Golden.read(Bundle.open(path))
    return 2 * sum(map(len, golden.trajectories))


def run(edgevid, path, film, out, *words, **env):
    done = edgevid(
        *("run", path, film, "--output", out, "--json", "--rate", "all"),
        *("--artifact", "tflite-int8", *words),
        env={**os.environ, **env},
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    return lines, json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("temporal", ["window", "carry"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_answers_of_a_faulted_run_are_those_of_a_clean_one(
    request, edgevid, film, tmp_path, kind, temporal
):
    path = request.getfixturevalue("real_bundle" if temporal == "window" else "carry_bundle")
    clean, _, _ = run(edgevid, path, film, tmp_path / "clean.jsonl")
    struck = proof_steps(path) + 103
    fault = {"kind": kind, "at": struck, "times": None if kind in ("wrong", "nan") else 1}
    faulted, summary, said = run(
        *(edgevid, path, film, tmp_path / "faulted.jsonl"),
        *("--runtime", "null", "--accelerator", "null"),
        EDGEVID_NULL=json.dumps({"faults": [fault]}),
    )
    assert [line["index"] for line in faulted] == list(range(300))
    assert [line["label"] for line in faulted] == [line["label"] for line in clean]
    assert [line["scores"] for line in faulted] == [line["scores"] for line in clean]
    assert [line["warm"] for line in faulted] == [line["warm"] for line in clean]
    assert len({line["label"] for line in clean}) == 3
    assert holds(summary["frames"])
    assert summary["frames"]["failed"] == summary["frames"]["in_flight"] == 0
    (engine,) = summary["engines"]
    assert engine["degraded"]
    assert engine["failovers"] >= 1
    assert engine["reason"] in said
    degraded = [line["index"] for line in faulted if line.get("degraded")]
    assert degraded, "the fault never struck"
    assert 0 < degraded[0] <= 104
    assert degraded[-1] == 299


@pytest.mark.parametrize("kind", ["hang", "vanish", "wrong"])
def test_a_fault_makes_no_camera_dark_and_the_accelerator_is_taken_back(
    start, real_bundle, kind, tmp_path
):
    """One bundle serves two cameras on the accelerator, another its own camera on the CPU."""
    struck = tmp_path / "struck"
    faults = json.dumps({"faults": [{"when": str(struck), "kind": kind}]})
    engine = {"artifact": "tflite-int8", "runtime": "null", "accelerator": "null"}
    suspect = bundle(real_bundle, "suspect", **engine)
    steady = bundle(real_bundle, "steady", runtime="tflite", accelerator="cpu")
    cameras = [
        camera("left", "synthetic:64x64@20", bundles=["suspect"]),
        camera("right", "synthetic:64x64@20", bundles=["suspect"]),
        camera("apart", "synthetic:64x64@20", bundles=["steady"]),
    ]
    service = start("\n".join([suspect, steady, *cameras]), EDGEVID_NULL=faults)

    def degraded(status):
        return status["degraded"]

    service.until(lambda s: not degraded(s) and s["frames"]["answered"] > 60)
    moment = time.time()
    struck.touch()
    service.until(degraded)
    struck.unlink()
    seen = service.until(lambda s: not degraded(s) and time.time() > moment + 3, timeout_s=30)
    assert seen["bundles"][0]["engine"]["failovers"] == 1
    code, summary, said = service.end()
    assert code == 0, said
    assert holds(summary["frames"])
    assert summary["frames"]["failed"] == 0
    lines = service.lines()
    of = {name: [line for line in lines if line["source"] == name] for name in ("left", "apart")}
    first = min(
        line["captured_unix_s"]
        for line in of["left"]
        if line.get("degraded") and line["captured_unix_s"] > moment - 1
    )
    assert first < moment + 2
    apart = np.array([line["captured_unix_s"] for line in of["apart"]])
    around = apart[(apart > moment - 0.5) & (apart < moment + 4)]
    assert np.diff(around).max() < 0.3, "a camera on another engine was disturbed"
    assert not any(line.get("degraded") for line in of["apart"])
    assert not lines[-1].get("degraded"), "the accelerator was not taken back"
    if kind == "wrong":
        again = [line for line in lines if line.get("corrected")]
        assert again
