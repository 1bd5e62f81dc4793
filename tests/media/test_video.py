import io
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevid.contract import FrameInput
from edgevid.errors import BadInput, BadVideo
from edgevid.media.sources import SourceOptions
from edgevid.media.video import FileSource, Sampler, open_file, read_clip
from rigs.any_video import ffmpeg, read_by_ffmpeg
from rigs.videos import moving_images, write_video


def test_every_frame_comes_in_order_with_its_time(video):
    with open_file(str(video)) as source:
        frames = [(f.index, f.pts_s) for f in source]
        assert not source.truncated
    assert frames == [(n, pytest.approx(n / 16)) for n in range(40)]


def test_pixels_survive_decoding_and_scaling(video):
    clip = read_clip(video, FrameInput("frame", 64, 96), 16.0)
    assert clip.shape == (40, 64, 96, 3)
    assert np.abs(clip.astype(int) - moving_images(40, 64, 96)).mean() < 6


def test_a_file_in_memory_gives_the_same_pixels(video):
    frame = FrameInput("frame", 16, 16)
    assert (
        read_clip(io.BytesIO(video.read_bytes()), frame, 16.0) == read_clip(video, frame, 16.0)
    ).all()


def test_a_truncated_file_gives_what_it_has_and_says_so(truncated_video):
    with open_file(str(truncated_video)) as source:
        count = sum(1 for _ in source)
        assert 0 < count < 40
        assert source.truncated


def test_a_truncated_clip_is_refused(truncated_video):
    with pytest.raises(BadVideo, match="truncated after"):
        read_clip(truncated_video, FrameInput("frame", 16, 16), 16.0)


@pytest.mark.parametrize("content", [b"", b"just some words\n" * 50, b"\0" * 4096])
def test_what_is_no_video_is_refused_in_one_line(tmp_path, content):
    file = tmp_path / "no.mp4"
    file.write_bytes(content)
    with pytest.raises(BadVideo, match="not a readable video") as caught:
        FileSource(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        open_file(str(tmp_path / "gone.mp4"))
    with pytest.raises(BadInput, match="is a folder"):
        open_file(str(tmp_path))


def test_a_file_with_sound_only_is_refused(tmp_path):
    import av

    file = tmp_path / "sound.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(BadVideo, match="no video track"):
        FileSource(file)


@given(st.integers(1, 120), st.floats(0, 1e6))
def test_equal_rates_take_every_frame_though_time_bases_round(fps, start_s):
    sampler = Sampler(float(fps))
    start = Fraction(start_s)
    times = [round(float(start + Fraction(n, fps)), 3) for n in range(200)]  # milliseconds
    taken = [sampler.take(t) for t in times]
    # a millisecond is half a frame only from 500 frames/s on
    assert all(taken)


@given(st.floats(1, 60), st.floats(1, 60))
def test_a_lower_rate_takes_its_share_and_never_more(camera_fps, rate_fps):
    sampler = Sampler(rate_fps)
    frames = 300
    taken = sum(sampler.take(n / camera_fps) for n in range(frames))
    seconds = (frames - 1) / camera_fps
    assert taken <= seconds * rate_fps + 2
    assert taken >= min(frames, seconds * rate_fps - 1) * (0.5 if camera_fps < 2 * rate_fps else 1)


def test_no_rate_takes_all():
    assert all(Sampler(None).take(t) for t in (0.0, 0.0, 5.0))


def test_sampling_follows_the_files_own_clock(tmp_path):
    file = write_video(tmp_path / "fast.mp4", moving_images(60, 32, 32), fps=30)
    assert len(read_clip(file, FrameInput("frame", 16, 16), 10.0)) == 20


def test_of_several_tracks_the_one_that_ffmpeg_takes_is_read(tmp_path):
    """Cover art in front is no video; the largest of two videos is; subtitles may come first."""
    small = write_video(tmp_path / "small.mp4", moving_images(10, 32, 48))
    large = write_video(tmp_path / "large.mp4", moving_images(20, 64, 96))
    (tmp_path / "text.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    cover = tmp_path / "cover.jpg"
    ffmpeg("-f", "lavfi", "-i", "color=blue:s=200x200", "-frames:v", "1", str(cover))
    first = ("-map", "0", "-map", "1", "-c", "copy")
    art = ("-disposition:v:0", "attached_pic")
    made = {
        "art.mp4": ("-i", str(cover), "-i", str(large), *first, *art),
        "two.mkv": ("-i", str(small), "-i", str(large), *first),
        "subtitles.mkv": ("-i", str(tmp_path / "text.srt"), "-i", str(large), *first),
    }
    for name, words in made.items():
        ffmpeg(*words, str(tmp_path / name))
        with open_file(tmp_path / name) as source:
            assert sum(1 for _ in source) == 20, name
            assert source.size == (64, 96)


def test_a_video_that_begins_between_key_frames_is_read_from_the_next_one(tmp_path):
    whole = write_video(tmp_path / "whole.ts", moving_images(50, 64, 96), g="25")
    content = whole.read_bytes()
    later = tmp_path / "later.ts"
    later.write_bytes(content[len(content) // 4 // 188 * 188 :])
    with open_file(later) as source:
        images = [frame.image for frame in source]
    assert len(images) == len(read_by_ffmpeg(later, (64, 96))) == 25


def test_a_file_is_timed_by_a_given_rate(video):
    with open_file(video, SourceOptions(source_fps=5.0)) as source:
        assert [frame.pts_s for frame in source] == [pytest.approx(n / 5) for n in range(40)]
        assert source.rate_fps == 5 and source.status()["timed_by"] == "given"


@pytest.mark.parametrize("codec", [("libx264", "-bf", "2"), ("mpeg4", "-bf", "1"), ("mpeg4",)])
def test_gaps_in_an_avi_are_where_they_were(tmp_path, codec):
    made = ("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=3")
    chosen = ("-vf", "select='lt(mod(n,10),4)+eq(mod(n,10),6)'", "-fps_mode", "vfr")
    times = []
    for name in ("x.mp4", "x.avi"):
        path = tmp_path / name
        ffmpeg(*made, *chosen, "-c:v", *codec, "-pix_fmt", "yuv420p", str(path))
        with open_file(path) as source:
            times.append([frame.pts_s for frame in source])
    known = len(times[0]) - 2  # the last decoding times are missing
    expected = [t - times[0][0] for t in times[0][:known]]
    assert times[1][:known] == pytest.approx(expected, abs=1e-4)
