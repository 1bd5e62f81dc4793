"""Images are upright everywhere, as FFmpeg's own program and Pillow turn them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from edgevid.contract import FrameInput
from edgevid.data.inspection import check
from edgevid.media.decode import Decoder
from edgevid.media.orientation import EXIF, UPRIGHT, exif_matrix, filters
from edgevid.media.video import open_file, read_clip
from rigs.any_video import ffmpeg, read_by_ffmpeg
from rigs.videos import moving_images, write_video

FRAME = FrameInput("frame", 32, 24, fit="crop")


def images_of(path, kind="gray") -> np.ndarray:
    """Upright images; grey ones are turned exactly, while colours are coded for pairs of pixels."""
    with open_file(path) as source:
        images = [frame.image.to_ndarray(format=kind) for frame in source]
        assert source.size == images[0].shape[:2]
    return np.stack(images).astype(int)


@pytest.fixture(scope="module")
def lying(tmp_path_factory):
    """A clip whose corners all differ, coded lying on its side."""
    frames = moving_images(12, 64, 96)
    frames[:, :20, :30] = (220, 40, 40)
    return write_video(tmp_path_factory.mktemp("lying") / "lying.mp4", frames, fps=25, bf="2")


def turned(path, folder, degrees: int):
    """The clip with a note in the container that it is to be turned, as phones write it."""
    out = folder / f"turned-{degrees}.mp4"
    ffmpeg("-i", str(path), "-c", "copy", "-metadata:s:v:0", f"rotate={degrees}", str(out))
    return out


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_phones_clip_is_turned_as_ffmpeg_turns_it(lying, tmp_path, degrees):
    clip = turned(lying, tmp_path, degrees)
    images = images_of(clip)
    assert images.shape[1:] == ((64, 96) if degrees == 180 else (96, 64))
    assert np.abs(images - read_by_ffmpeg(clip, images.shape[1:])).max() <= 2
    upright = images_of(lying)
    assert images.shape != upright.shape or np.abs(images - upright).mean() > 10
    with open_file(clip) as source:
        assert all((f.height, f.width) == images.shape[1:] for f in source)
        assert source.turned


@pytest.mark.parametrize("flip", ["", ":flip=horizontal", ":flip=vertical"])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_an_orientation_inside_the_stream_is_applied(lying, tmp_path, degrees, flip):
    """H.264 notes it as supplemental information; mirrored pictures are among them."""
    clip = tmp_path / "inside.h264"
    note = f"h264_metadata=display_orientation=insert:rotate={degrees}{flip}"
    ffmpeg("-i", str(lying), "-c", "copy", "-bsf:v", f"h264_mp4toannexb,{note}", str(clip))
    images = images_of(clip)
    expected = images_of(lying)
    if flip:
        expected = expected[:, ::-1] if "vertical" in flip else expected[:, :, ::-1]
    expected = np.rot90(expected, degrees // 90, axes=(1, 2))
    assert images.shape == expected.shape
    assert np.array_equal(images, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_a_picture_is_turned_by_its_own_tag(tmp_path, kind, orientation):
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:16, :32], pixels[:16, 32:], pixels[16:, :32] = (200, 30, 30), (30, 200, 30), 120
    picture = Image.fromarray(pixels)
    tags = picture.getexif()
    tags[0x0112] = orientation
    path = tmp_path / f"photo.{kind}"
    picture.save(path, exif=tags, quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    (image,) = images_of(path, "rgb24")
    assert image.shape == expected.shape
    assert np.abs(image - expected).mean() < 4
    assert exif_matrix(path.read_bytes()) == EXIF.get(orientation, UPRIGHT)


def test_a_clip_on_its_side_gives_the_pixels_of_its_upright_twin(lying, tmp_path):
    """Training, calibration and proof read clips so."""
    clip, twin = turned(lying, tmp_path, 90), tmp_path / "twin.mkv"
    ffmpeg("-i", str(clip), "-c:v", "ffv1", str(twin))
    own, others = (read_clip(path, FRAME, 25.0) for path in (clip, twin))
    assert own.shape == others.shape == (12, 32, 24, 3)
    assert np.abs(own.astype(int) - others).max() <= 2
    assert np.abs(own.astype(int) - read_clip(lying, FRAME, 25.0)).mean() > 10, "it shows nothing"


@pytest.mark.parametrize("damaged", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"eXIfMM"])
def test_a_damaged_tag_turns_nothing(damaged):
    assert exif_matrix(damaged) == UPRIGHT
    assert filters(UPRIGHT) == filters((0, 0, 0, 0)) == ()


def test_an_upright_stream_is_not_touched(lying, monkeypatch):
    seen = []
    original = Decoder._identify
    monkeypatch.setattr(
        Decoder,
        "_identify",
        lambda self, image, latest: seen.append(image) or original(self, image, latest),
    )
    with open_file(lying) as source:
        assert all(frame.image is image for frame, image in zip(source, seen, strict=False))
        assert not source.turned


def test_a_dataset_tells_of_turned_clips(lying, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
    turned(lying, tmp_path / "data" / "a", 90)
    ffmpeg(
        "-i", str(lying), "-c", "copy", "-aspect", "16:9", str(tmp_path / "data" / "b" / "wide.mp4")
    )
    report = check(tmp_path / "data", workers=1)
    assert report["peculiar"] == {"turned": 1, "not_square": 1}
    assert report["sizes"] == {"64x96": 1, "96x64": 1}
