"""Damaged files end in frames or in one line, never in a crash or a hang."""

import io
import random

import pytest

from edgevid.errors import BadVideo
from edgevid.media.video import FileSource


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
