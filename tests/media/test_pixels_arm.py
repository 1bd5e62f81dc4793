"""Pixels on emulated ARM boards with their own PyAV: at most 1 of 255 from this machine's."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

import edgevid
from edgevid.contract import FrameInput
from edgevid.media.preprocessing import Preprocessor
from rigs.arm import DISTRIBUTION, arm_machine
from rigs.need import missing

SCRIPT = """
import sys
import av
import numpy as np
from edgevid.contract import FrameInput
from edgevid.media.preprocessing import Preprocessor

found = {}
for kind in KINDS:
    pixels = np.load(f"/opt/{kind}.npy")
    image = av.VideoFrame.from_ndarray(pixels, kind)
    for name in FILTERS:
        for height, width in SIZES:
            frame = FrameInput("frame", height, width, "letterbox", resize=name)
            found[f"{kind}-{name}-{height}"] = Preprocessor(frame).apply(image).copy()
np.savez(sys.argv[1], **found)
print(av.__version__)
"""
KINDS = ("yuv420p", "yuvj420p", "rgb24")
FILTERS = ("area", "bilinear-antialias", "bilinear", "nearest")
SIZES = ((24, 24), (72, 60), (120, 160), (130, 150))


def textured(kind: str) -> np.ndarray:
    """Noise on a slope, in the layout of `av.VideoFrame.from_ndarray`; 160 columns, 120 rows."""
    rng = np.random.default_rng(1)
    shape = (120, 160, 3) if kind == "rgb24" else (180, 160)
    slope = np.linspace(30, 200, 160)[:, None] if kind == "rgb24" else np.linspace(30, 200, 160)
    return (slope + rng.uniform(-30, 40, shape)).astype(np.uint8)


@pytest.mark.soak
@pytest.mark.parametrize("architecture", ["arm64", "armhf"])
def test_arm_boards_see_the_same_pixels(architecture, tmp_path):
    known = f"KINDS, FILTERS, SIZES = {KINDS!r}, {FILTERS!r}, {SIZES!r}\n"
    here: dict[str, np.ndarray] = {}
    with arm_machine(architecture, DISTRIBUTION if architecture == "armhf" else ()) as machine:
        packages = machine.root / "opt"
        packages.mkdir(exist_ok=True)
        source = Path(edgevid.__file__).parent
        subprocess.run(["cp", "-r", source, packages / "edgevid"], check=True)
        if architecture == "arm64":
            _unpack_wheels(packages)
        for kind in KINDS:
            np.save(packages / f"{kind}.npy", textured(kind))
        (packages / "scale.py").write_text(known + SCRIPT)
        run = ("env", "PYTHONPATH=/opt", "python3", "/opt/scale.py", "/tmp/found.npz")
        machine.run(*run)
        with np.load(machine.root / "tmp/found.npz") as archive:
            there = {name: archive[name] for name in archive.files}
    for kind in KINDS:
        image = av.VideoFrame.from_ndarray(textured(kind), kind)
        for name in FILTERS:
            for height, width in SIZES:
                frame = FrameInput("frame", height, width, "letterbox", resize=name)
                here[f"{kind}-{name}-{height}"] = Preprocessor(frame).apply(image).copy()
    assert there.keys() == here.keys()
    for name, pixels in here.items():
        assert np.abs(pixels.astype(int) - there[name]).max() <= 1, name


def _unpack_wheels(folder: Path) -> None:
    """Unpack the wheels that such a board gets."""
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "pip", "install", "--quiet", "--target", folder, "--only-binary", ":all:"]
    command += ["--python-platform", "aarch64-manylinux_2_36", "--python-version", "3.11"]
    done = subprocess.run([*command, "av", "numpy"], capture_output=True, text=True)
    if done.returncode:
        missing("wheels of av and numpy for arm64", "let uv reach a package index")
