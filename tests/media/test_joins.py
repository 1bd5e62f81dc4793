"""Recordings that are joined into one stream without time stamps."""

from itertools import pairwise

import pytest

from edgevid.media.joins import Joins
from edgevid.media.sources import SourceOptions
from edgevid.media.video import open_file
from rigs.any_video import Recipe, make

FORMATS = [("libx264", "h264"), ("libx265", "hevc"), ("mpeg2video", "m2v")]


def joined(folder, *recipes):
    parts = []
    for number, recipe in enumerate(recipes):
        place = folder / str(number)
        place.mkdir()
        parts.append(make(place, recipe).read_bytes())
    path = folder / f"joined.{recipes[0].container}"
    path.write_bytes(b"".join(parts))
    return path


def read(path, **options):
    with open_file(path, SourceOptions(**options)) as source:
        rate = source.size and source.rate_fps
        frames = [(frame.pts_s, frame.cut) for frame in source]
        assert source.arrivals.lost == 0 and not source.truncated
    return rate, [t for t, _ in frames], [n for n, (_, cut) in enumerate(frames) if cut]


@pytest.mark.parametrize(("codec", "container"), FORMATS)
def test_recordings_of_different_rates_have_each_its_own(tmp_path, codec, container):
    slow = Recipe(codec, container, frames=30, fps=25, b_frames=2)
    fast = Recipe(codec, container, frames=20, fps=50, b_frames=2)
    path = joined(tmp_path, slow, fast)
    rate, times, cuts = read(path)
    expected = [*(n / 25 for n in range(30)), *(30 / 25 + n / 50 for n in range(20))]
    assert rate == 25 and times == pytest.approx(expected) and cuts == [30]
    rate, times, cuts = read(path, source_fps=10)
    assert times == pytest.approx([n / 10 for n in range(50)]) and cuts == [30]


@pytest.mark.parametrize(("codec", "container"), [("libx264", "h264"), ("mpeg2video", "m2v")])
def test_equal_recordings_are_told_apart_where_the_bitstream_does(tmp_path, codec, container):
    recipe = Recipe(codec, container, frames=30, gop=10, b_frames=1)
    _, times, cuts = read(joined(tmp_path, recipe, recipe, recipe))
    assert cuts == [30, 60]
    assert all(b - a == pytest.approx(0.04) for a, b in pairwise(times))


@pytest.mark.parametrize(("codec", "container"), FORMATS)
def test_one_recording_has_no_join(tmp_path, codec, container):
    _, _, cuts = read(make(tmp_path, Recipe(codec, container, frames=80, gop=5, b_frames=2)))
    assert not cuts


class Packet(bytes):
    is_keyframe = True


def begins(codec, *packets):
    joins = Joins(codec)
    return [joins.begins(Packet(one)) for one in packets]


def unit(*content):
    return b"\0\0\1" + bytes(content)


def test_a_code_for_the_end_is_one():
    picture = unit(0x65, 1, 2)
    assert begins("h264", picture, picture + unit(0x0B), picture) == [False, False, True]
    assert begins("hevc", picture, picture + unit(0x4A, 1), picture) == [False, False, True]
    assert begins("mpeg4", unit(0xB6), unit(0xB6) + unit(0xB1), unit(0xB6)) == [False, False, True]


def test_an_encoder_that_names_itself_again_begins_again_unless_it_always_does():
    named = unit(6, 5, 20, *b"0123456789abcdef", *b"any") + unit(0x65)
    assert begins("h264", named, unit(0x65), named, unit(0x65)) == [False, False, True, False]
    assert begins("h264", named, named, named) == [False] * 3


def test_a_time_of_day_that_falls_begins_again():
    seconds = [unit(0xB8, *(second << 12).to_bytes(4, "big")) + unit(0) for second in range(3)]
    assert begins("mpeg2video", *seconds, *seconds[:2]) == [False, False, False, True, False]


def test_damaged_headers_are_no_error():
    for codec in ("h264", "hevc", "mpeg2video", "mpeg4", "av1"):
        for data in (b"\0", b"\0\0\1", unit(6, 5), unit(0xB8, 1), unit(0xB3), b"\0\0\1" * 9):
            begins(codec, data, data)
