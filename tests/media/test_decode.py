"""Every packet of a file is accounted for, whatever became of it."""

import io
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevid.errors import BadVideo
from edgevid.media.decode import Arrivals, Decoder
from edgevid.media.sources import SourceOptions
from edgevid.media.timeline import StreamTiming, Timeline
from edgevid.media.video import FileSource
from rigs.videos import moving_images, write_video
from rigs.watch import check_counts


def test_a_whole_file(video):
    with FileSource(video) as source:
        assert sum(1 for _ in source) == 40
    assert vars(source.arrivals) == {"captured": 40, "skipped": 0, "lost": 0}


def test_at_no_moment_more_is_told_than_came(video):
    with FileSource(video) as source:
        for captured in source:
            counts = source.arrivals
            assert captured.index + 1 <= counts.captured - counts.lost <= 40


def test_spoilt_packets_are_lost_and_named(tmp_path):
    film = write_video(tmp_path / "film.mp4", moving_images(60, 64, 96), bf="2", g="20")
    content = bytearray(film.read_bytes())
    rng = random.Random(4)
    for _ in range(6):
        start = rng.randrange(len(content) // 8, len(content) // 2)
        content[start : start + 400] = rng.randbytes(400)
    lost = 0
    for rate in (None, 5.0):
        shown = 0
        with FileSource(io.BytesIO(bytes(content)), options=SourceOptions(rate_fps=rate)) as source:
            try:
                shown = sum(1 for _ in source)
            except BadVideo:
                pytest.fail("nothing was left of it: the trial shows nothing")
        check_counts(source, shown)
        lost += source.arrivals.lost
    assert lost, "nothing was spoilt: the trial shows nothing"


def test_a_file_that_is_stopped(video):
    with FileSource(video) as source:
        shown = 0
        for captured in source:
            shown += 1
            if captured.index == 5:
                source.stop()
    assert shown < 40
    check_counts(source, shown)


class Scripted:
    """A decoder that gives up images in any order, and more or fewer than packets went in."""

    def __init__(self) -> None:
        self.codec_context = self
        self.name = "scripted"
        self.options: dict[str, str] = {}
        self.skip_frame = "DEFAULT"


class Picture:
    rotation, side_data, key_frame, width, height = 0, {}, True, 64, 48

    def __init__(self, pts) -> None:
        self.pts, self.time_base = pts, 1


class Packet:
    size, is_discard = 1, False

    def __init__(self, pts, dts, out) -> None:
        self.pts, self.dts, self._out = pts, dts, out

    def decode(self):
        return [Picture(None if back is None else self.pts - back) for back in self._out]


STAMP = st.none() | st.integers(-5, 40) | st.integers(-(1 << 34), 1 << 34)
BACK = st.none() | st.integers(0, 70)
SCRIPT = st.lists(
    st.tuples(STAMP, STAMP, st.lists(BACK, max_size=3), st.booleans(), st.booleans()), max_size=150
)


@given(SCRIPT)
def test_the_books_close_and_time_rises_for_any_decoder(script):
    """Whatever stamps go in and images come out: none, twice, backwards, too many, too few."""
    arrivals = Arrivals()
    timeline = Timeline(live=False)
    timeline.begin(StreamTiming((1, 25)))
    decoder = Decoder(Scripted(), arrivals, timeline)
    times = []
    for pts, dts, out, needed, skip in script:
        packet = Packet(pts, dts, out)
        stamp = decoder.admit(packet, 0.0)
        level = "NONREF" if skip else "DEFAULT"
        times += [d.pts_s for d in decoder.take(packet, stamp, level, needed=needed)]
        assert packet.pts == pts, "the packet is as it was"
        assert arrivals.captured >= len(times) + arrivals.skipped + arrivals.lost
    decoder.end()
    assert arrivals.captured == len(times) + arrivals.skipped + arrivals.lost
    assert all(b > a for a, b in pairwise(times))
