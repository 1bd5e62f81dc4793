"""Which files are clips: whatever FFmpeg plays, by content; everything else has a reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import numpy as np
import pytest

from edgevid.contract import FrameInput
from edgevid.data.cache import load_clips
from edgevid.data.folders import find
from edgevid.data.inspection import check
from edgevid.data.video_files import (
    BAD_NAME,
    BROKEN_LINK,
    EMPTY,
    NO_VIDEO,
    SOUND,
    SPECIAL,
    STILL,
    WEBP_ANIMATION,
    find_videos,
    why_no_video,
)
from edgevid.media.video import read_clip
from rigs.videos import moving_images

FRAME = FrameInput("frame", 16, 24)
PLAYED = {
    "a.gif": ("gif",),
    "a.apng": ("apng", "-f", "apng", "-plays", "0"),
    "a.png": ("apng", "-f", "apng"),
    "a.flv": ("flv1",),
    "a.wmv": ("wmv2",),
    "a.3gp": ("h263", "-s", "176x144"),
    "a.mts": ("mpeg2video", "-f", "mpegts"),
    "a.ogv": ("libtheora",),
    "a.MP4": ("mpeg4",),
    "no-ending": ("mpeg4", "-f", "mp4"),
    "wrong.dat": ("mpeg4", "-f", "avi"),
    "a.txt": ("mpeg4", "-f", "mp4"),
    "a.mjpeg": ("mjpeg",),
    "a.jpg": ("mpeg4", "-f", "matroska"),
}
STILLS = {"a.jpg": "mjpeg", "a.png": "png", "a.bmp": "bmp", "a.webp": "libwebp", "a.tiff": "tiff"}


def encode(path, codec, *options, images=None):
    """Write a file with the ffmpeg program."""
    images = moving_images(16, 64, 96) if images is None else images
    size = f"{images.shape[2]}x{images.shape[1]}"
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", "16", "-i", "-")
    command = ("ffmpeg", "-v", "error", "-y", *source, "-c:v", codec, *options, str(path))
    done = subprocess.run(command, input=images.tobytes(), capture_output=True)
    if b"Unknown encoder" in done.stderr:
        pytest.skip(f"this ffmpeg has no {codec}")
    assert done.returncode == 0, done.stderr.decode()
    return path


@pytest.mark.parametrize("name", PLAYED)
def test_what_ffmpeg_plays_is_a_clip(tmp_path, name):
    path = encode(tmp_path / name, *PLAYED[name])
    assert why_no_video(path) is None
    assert len(read_clip(path, FRAME, 16.0)) >= 9


@pytest.mark.parametrize("name", STILLS)
def test_a_still_picture_is_no_clip(tmp_path, name):
    images = moving_images(1, 64, 96)
    assert why_no_video(encode(tmp_path / name, STILLS[name], images=images)) == STILL


def test_what_is_no_video_has_a_reason(tmp_path):
    encode(tmp_path / "animated.webp", "libwebp_anim")
    sound = tmp_path / "sound.wav"
    subprocess.run(
        ("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=duration=1", str(sound)), check=True
    )
    (tmp_path / "notes.txt").write_text("caf\u00e9 \u001b[31m" * 2)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n")
    (tmp_path / "noise.bin").write_bytes(np.random.default_rng(0).bytes(9000))
    (tmp_path / "empty.gif").write_bytes(b"")
    (tmp_path / "gone.gif").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.mp4")
    found = {path.name: why_no_video(path) for path in tmp_path.iterdir()}
    assert found == {
        "animated.webp": WEBP_ANIMATION,
        "sound.wav": SOUND,
        "notes.txt": NO_VIDEO,
        "list.m3u8": NO_VIDEO,
        "noise.bin": NO_VIDEO,
        "empty.gif": EMPTY,
        "gone.gif": BROKEN_LINK,
        "pipe.mp4": SPECIAL,
    }


def test_classes_of_gif_files_train_like_others_and_nothing_vanishes(tmp_path, video):
    for label, ending in (("run", "gif"), ("walk", "mp4")):
        (tmp_path / label).mkdir()
        for n in range(3):
            target = tmp_path / label / f"{n}.{ending}"
            encode(target, "gif") if ending == "gif" else shutil.copy(video, target)
    encode(tmp_path / "walk" / "cover.jpg", "mjpeg", images=moving_images(1, 64, 96))
    (tmp_path / "walk" / "labels.csv").write_text("a,b\n")
    tree = find(tmp_path)
    assert tree.classes == ("run", "walk") and len(tree.files) == 6
    clips = load_clips(tree, [file.path for file in tree.files], FRAME, 16.0, workers=1)
    assert len(clips) == 6 and not clips.left_out
    expected = [
        {"reason": STILL, "files": 1, "first": "walk/cover.jpg"},
        {"reason": NO_VIDEO, "files": 1, "first": "walk/labels.csv"},
    ]
    assert [one.to_json() for one in clips.ignored] == expected
    report = check(tmp_path, workers=1)
    assert report["ignored"] == expected and report["splits"] == {"all": {"run": 3, "walk": 3}}
    assert report["notes"][:2] == [
        "left out walk/cover.jpg: a still image, not a video",
        "left out walk/labels.csv: not a video",
    ]


def test_a_class_of_only_unreadable_files_is_named(tmp_path, video):
    for label in ("run", "walk"):
        (tmp_path / label).mkdir()
        shutil.copy(video, tmp_path / label / "0.mp4")
    (tmp_path / "walk" / "0.mp4").write_text("no video")
    assert check(tmp_path, workers=1)["unusable"] == ["walk"]


def test_hidden_names_clutter_and_links(tmp_path, video):
    root = tmp_path / "data"
    for path in (
        "run/0.mp4",
        "run/._0.mp4",
        ".cache/x/0.mp4",
        "__MACOSX/run/0.mp4",
        "run/.DS_Store",
        "run/Thumbs.db",
        "run/@eaDir/0.mp4",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, root / path)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    shutil.copy(video, elsewhere / "deep" / "1.mp4")
    (root / "walk").symlink_to(elsewhere)
    (root / "run" / "more").symlink_to(elsewhere / "deep")
    (root / "run" / "loop").symlink_to(root)
    assert find_videos(root) == (["run/0.mp4", "run/more/1.mp4", "walk/deep/1.mp4"], {})
    (root / "run" / os.fsdecode(b"caf\xe9.mp4")).symlink_to(video)
    videos, reasons = find_videos(root)
    assert len(videos) == 3 and reasons == {"run/caf?.mp4": BAD_NAME}


def test_folders_whose_names_are_not_utf_8_are_left_out_and_listed(tmp_path, video):
    for folder in (b"run", b"walk", b"caf\xe9", b"run/caf\xe9"):
        inside = tmp_path / "data" / os.fsdecode(folder)
        inside.mkdir(parents=True)
        shutil.copy(video, inside / "0.mp4")
    report = check(tmp_path / "data", workers=1)
    assert report["classes"] == ["run", "walk"] and report["clips"] == 2
    assert report["ignored"] == [{"reason": BAD_NAME, "files": 2, "first": "caf?/0.mp4"}]
    json.dumps(report, ensure_ascii=False).encode()
