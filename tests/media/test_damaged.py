"""Damaged files end in frames or in one line, never in a crash or a hang."""

import io
import random
import subprocess
import sys

import numpy as np
import pytest

from edgevid.errors import BadVideo
from edgevid.media.video import FileSource
from rigs.videos import write_video


def damaged(content: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    spoilt = bytearray(content)
    if kind == 0:
        return content[: rng.randrange(len(content))]
    if kind == 1:
        for _ in range(rng.randrange(1, 40)):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
    elif kind == 2:
        start = rng.randrange(len(spoilt))
        spoilt[start : start + rng.randrange(1, 2000)] = b""
    else:
        start = rng.randrange(len(spoilt))
        length = min(rng.randrange(1, 3000), len(spoilt) - start)
        spoilt[start : start + length] = rng.randbytes(length)
    return bytes(spoilt)


def read(content: bytes) -> int:
    """Frames, or -1 where the file is refused."""
    try:
        with FileSource(io.BytesIO(content)) as source:
            return sum(1 for _ in source)
    except BadVideo as error:
        assert "\n" not in str(error)
        return -1


def trial(video, seeds) -> None:
    content = video.read_bytes()
    ends = [read(damaged(content, random.Random(seed))) for seed in seeds]
    assert any(end > 0 for end in ends), "every damage was fatal: the trial shows nothing"
    assert any(end < 0 for end in ends), "no damage was: the trial shows nothing"


def test_damaged_files(video):
    trial(video, range(60))


@pytest.mark.soak
def test_many_damaged_files(video):
    trial(video, range(3000))


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from edgevid.errors import EnvironmentFailed
from edgevid.media.sources import SourceOptions
from edgevid.media.video import open_file
with open_file(sys.argv[1], SourceOptions(frame_threads=False)) as source:
    line = next(one for one in open("/proc/self/status") if one.startswith("VmSize"))
    room = (int(line.split()[1]) << 10) + (int(sys.argv[2]) << 20)
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    try:
        print(len(list(source)))
    except EnvironmentFailed as error:
        print(error)
"""


@pytest.mark.parametrize("room_mb", [5, 40])
def test_too_little_memory_is_no_damage(tmp_path, room_mb):
    """Also where the first images still find room."""
    file = write_video(tmp_path / "large.mkv", np.zeros((4, 2304, 4096, 3), np.uint8))
    command = [sys.executable, "-c", LITTLE_MEMORY, file, str(room_mb)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "large.mkv: too little memory to decode it; close other programs" in done.stdout, done
