"""Golden trajectories and the golden clip as they are stored."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np

from edgevid import bundle as bundles
from edgevid.bundle import Bundle
from edgevid.contract import Contract, FrameInput, Output
from edgevid.proof import Golden
from edgevid.proof.golden import read_recorded, write_recorded
from edgevid.proof.replay import check_pixels, record_outputs

NAME = "null-float32"


def test_the_golden_trajectory_survives_the_bundle(opened, golden, engine, tmp_path):
    references = {NAME: (record_outputs(engine, golden.trajectories[0]),)}
    pixels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    stored = replace(golden, references=references, clip=b"clip", pixels=pixels)
    members = stored.to_members()
    assert members == stored.to_members()
    path = tmp_path / "again.edgevid"
    bundles.write(path, opened.contract, [(opened.artifacts[0], {"json": b"{}"})], members, {})
    again = Golden.read(Bundle.open(path), NAME)
    assert again.to_members() == members
    assert again.references.keys() == {NAME}
    assert not Golden.read(Bundle.open(path)).references


def test_what_was_taken_survives_its_file(opened, golden, engine, tmp_path):
    taken = (record_outputs(engine, golden.trajectories[0]),) * 2
    write_recorded(tmp_path / "taken.npz", taken)
    again = read_recorded(tmp_path / "taken.npz")
    assert len(again) == 2
    for one in again:
        assert one.arrays().keys() == taken[0].arrays().keys()
        for name, values in one.arrays().items():
            np.testing.assert_array_equal(values, taken[0].arrays()[name])


CLIP = """
import sys
from edgevid.contract import FrameInput
from edgevid_converters.calibration.golden_clip import golden_clip
sys.stdout.buffer.write(golden_clip(FrameInput("frame", 24, 32, "letterbox"), 10.0)[0])
"""


def _clip_elsewhere(environment: dict[str, str]) -> bytes:
    """The golden clip of a process whose memory holds something else at first."""
    command = [sys.executable, "-c", CLIP]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE)
    return done.stdout


def test_decoding_and_geometry_are_proven():
    from edgevid_converters.calibration.golden_clip import golden_clip

    frame = FrameInput("frame", 24, 32, "letterbox")
    clip, pixels = golden_clip(frame, 10.0)
    contract = Contract("raw", (frame,), (Output("scores", (1, 3)),), (), 10.0)
    assert _clip_elsewhere({"MALLOC_PERTURB_": "37"}) == clip
    assert _clip_elsewhere({"MALLOC_PERTURB_": "99"}) == clip
    golden = Golden((), clip=clip, pixels=pixels)
    assert check_pixels(golden, contract) is None
    assert check_pixels(Golden(()), contract) is None
    assert "off by" in check_pixels(golden, replace(contract, inputs=(replace(frame, fit="crop"),)))
    assert "frames, not" in check_pixels(replace(golden, pixels=pixels[:-1]), contract)
    assert "cannot be decoded" in check_pixels(replace(golden, clip=clip[:200]), contract)
    swapped = replace(golden, pixels=pixels[..., ::-1])  # BGR
    assert "off by" in check_pixels(swapped, contract)
