"""What is left undecoded is never what the sampler would have taken."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevid.media.sampling import KeyFrames, Sampler, Skipper
from edgevid.media.sources import SourceOptions
from edgevid.media.video import FileSource, open_file
from rigs.videos import moving_images, write_video


def taken(rate_fps, times, since=None) -> list[float]:
    sampler = Sampler(rate_fps)
    since = since or [None] * len(times)
    return [t for t, s in zip(times, since, strict=True) if sampler.take(t, s)]


def presented(gaps_ms: list[int], start_ms: int) -> list[int]:
    return [start_ms + sum(gaps_ms[:n]) for n in range(len(gaps_ms) + 1)]


def in_decoding_order(count: int, depth: int, late_first: bool) -> list[int]:
    """Indices as a pyramid of B-frames is sent: the last of each group first, then the middle."""

    def between(low: int, high: int) -> list[int]:
        if high - low < 2:
            return []
        middle = (low + high) // 2
        halves = between(low, middle), between(middle, high)
        return [middle, *halves[late_first], *halves[not late_first]]

    order, at = [0], 0
    while at < count - 1:
        upto = min(at + depth, count - 1)
        order += [upto, *between(at, upto)]
        at = upto
    return order


@settings(max_examples=400, deadline=None)
@given(
    gaps=st.lists(st.integers(1, 400), min_size=5, max_size=60)
    | st.integers(8, 200).map(lambda gap: [gap] * 60),
    start_ms=st.integers(0, 10_000),
    rate=st.floats(0.5, 60) | st.sampled_from([1.0, 5.0, 10.0, 12.5, 25.0]),
    depth=st.sampled_from([1, 2, 4, 8]),
    late_first=st.booleans(),
)
def test_no_frame_that_would_be_taken_is_skipped(gaps, start_ms, rate, depth, late_first):
    stamps = presented(gaps, start_ms)
    order = in_decoding_order(len(stamps), depth, late_first)
    # As an encoder does: packet n is decoded when frame n - delay would be shown.
    delay = max(place - index for place, index in enumerate(order))
    skipper = Skipper(rate)
    skipped = set()
    for place, index in enumerate(order):
        dts = stamps[place - delay] / 1000 if place >= delay else stamps[0] / 1000 - delay + place
        level = skipper.level(stamps[index] / 1000, dts)
        if level != "DEFAULT":
            skipped.add(index)
        if place == 0:
            skipper.shown(stamps[0] / 1000)
    times = [t / 1000 for t in stamps]
    everything = taken(rate, times)
    kept = [n for n in range(len(times)) if n not in skipped]
    since = [times[n] - times[n - 1] if n else None for n in kept]
    assert taken(rate, [times[n] for n in kept], since) == everything


def test_much_is_skipped_where_much_can_be():
    skipper = Skipper(10.0)
    levels = []
    for n in range(300):
        levels.append(skipper.level(n / 60, n / 60))
        skipper.shown(n / 60)
    assert levels.count("NONREF") > 0.6 * 300


def test_no_rate_and_no_stamps_skip_nothing():
    assert Skipper(None).level(1.0, 1.0) == "DEFAULT"
    skipper = Skipper(1.0)
    skipper.shown(0.0)
    assert {skipper.level(None, None) for _ in range(5)} == {"DEFAULT"}


def test_key_frames_alone_where_two_come_for_each_tick():
    keys = KeyFrames(0.5)
    enough = [keys.enough(n / 25, n % 25 == 0) for n in range(250)]
    assert enough[:100] == [False] * 100 and all(enough[100:])
    assert not any(KeyFrames(2.0).enough(n / 25, n % 25 == 0) for n in range(250))
    assert not any(KeyFrames(None).enough(n / 25, True) for n in range(250))


@pytest.fixture(scope="module")
def b_frames(tmp_path_factory):
    """Four seconds with B-frames, 60 frames/s."""
    path = tmp_path_factory.mktemp("b") / "b.mp4"
    return write_video(path, moving_images(240, 96, 128), fps=60, bf="3", preset="medium", g="48")


def read(path, rate, options) -> tuple[list, FileSource]:
    sampler = Sampler(rate)
    with open_file(str(path), options) as source:
        kept = [
            (c.pts_s, c.image.to_ndarray(format="rgb24"))
            for c in source
            if sampler.take(c.pts_s, c.since_s)
        ]
    return kept, source


@pytest.mark.parametrize("rate", [7.0, 10.0, 20.0, 25.0])
def test_a_file_read_below_its_rate_gives_the_same_frames_bit_by_bit(b_frames, rate):
    whole, full = read(b_frames, rate, SourceOptions())
    spared, source = read(b_frames, rate, SourceOptions(rate_fps=rate))
    assert [t for t, _ in whole] == [t for t, _ in spared]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(whole, spared, strict=True))
    assert full.arrivals.skipped == 0
    assert source.arrivals.skipped > 60, "nothing was saved"
    assert source.arrivals.captured == 240 and source.arrivals.lost == 0


def test_a_file_read_at_its_rate_is_decoded_whole(b_frames):
    _, source = read(b_frames, 60.0, SourceOptions(rate_fps=60.0))
    assert source.arrivals.skipped == 0
