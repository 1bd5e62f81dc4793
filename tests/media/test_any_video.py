"""Whatever FFmpeg's own program reads of a file, with as many frames and in its order."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevid.media.sampling import Sampler
from edgevid.media.sources import SourceOptions
from edgevid.media.video import open_file
from rigs.any_video import B_FRAMES, CODECS, CONTAINERS, JOINED, RATED, TURNED, Recipe, make
from rigs.any_video import read_by_ffmpeg as by_ffmpeg
from rigs.watch import check_counts

FULL_S = (1 << 33) / 90_000
"""Where the counter of a transport stream wraps."""
REPEATED = "setts=pts='if(eq(mod(N,7),3),PREV_OUTPTS,PTS)':dts=DTS"
MISSING = "setts=pts='if(eq(mod(N,7),3),NOPTS,PTS)':dts=DTS"


@st.composite
def recipes(draw) -> Recipe:
    codec = draw(st.sampled_from(sorted(CODECS)))
    container = draw(st.sampled_from(CONTAINERS[codec]))
    rates = [1.0, 7.0, 15.0, 25.0, 29.97, 50.0, 60.0, 240.0]
    fps = draw(st.sampled_from([r for r in rates if r <= RATED.get(codec, 1000)]))
    if codec == "mpeg2video":
        fps = draw(st.sampled_from([25.0, 29.97, 50.0]))
    irregular = container in ("mp4", "mkv", "mov", "webm", "ts") and draw(st.booleans())
    later = draw(st.sampled_from([0.0, 0.0, 3.2, 40_000.0, FULL_S - 0.3]))
    # FFmpeg takes the few packets of a very short stream for another format.
    frames = draw(st.integers(6 if container in JOINED else 1, 40))
    joined = container in JOINED and draw(st.booleans())
    # FFmpeg 5 itself shows hidden frames of MJPEG; later versions do not.
    cut = container in ("mp4", "mov")
    return Recipe(
        codec=codec,
        container=container,
        frames=frames,
        fps=fps,
        b_frames=draw(st.integers(0, 3)) if codec in B_FRAMES else 0,
        gop=draw(st.sampled_from([1, 5, 12, 250])),
        irregular=irregular and codec != "mpeg2video",
        later_s=later if container in ("ts", "mpg", "flv", "mkv", "mp4") else 0.0,
        joined=joined,
        hidden=draw(st.integers(0, frames // 2)) if cut and codec != "mjpeg" else 0,
        rotate=draw(st.sampled_from([0, 90, 180, 270])) if container in TURNED else 0,
    )


def check(path: Path) -> None:
    with open_file(path) as source:
        frames = [(f.pts_s, f.image.to_ndarray(format="gray"), f.width, f.height) for f in source]
    expected = by_ffmpeg(path, source.size)
    assert len(frames) == len(expected)
    times = [pts_s for pts_s, *_ in frames]
    assert all(b > a for a, b in pairwise(times)), times
    for (_, image, width, height), other in zip(frames, expected, strict=True):
        assert image.shape == other.shape == (height, width)
        assert np.abs(image.astype(int) - other).mean() < 12
    check_counts(source, len(frames))
    assert source.arrivals.lost == 0 and not source.truncated
    fewer(path, times)


def fewer(path: Path, times: list[float]) -> None:
    """What is left undecoded at a lower rate is nothing that the model would have seen."""
    rate = max(0.3, len(times) / max(times[-1] - times[0], 0.1) / 2.5)
    taken = []
    for options in (SourceOptions(), SourceOptions(rate_fps=rate)):
        sampler = Sampler(rate)
        with open_file(path, options) as source:
            taken.append([f.pts_s for f in source if sampler.take(f.pts_s, f.since_s)])
    assert taken[0] == pytest.approx(taken[1])


def trial(recipe: Recipe) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(make(Path(folder), recipe))


@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(recipes())
def test_every_video_is_read_as_ffmpeg_reads_it(recipe):
    trial(recipe)


@pytest.mark.soak
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(recipes())
def test_two_hundred_videos_are_read_as_ffmpeg_reads_them(recipe):
    trial(recipe)
