"""Pixels against other code: floating point in numpy, FFmpeg's programs, OpenCV and Pillow."""

import ctypes
import subprocess
from contextlib import contextmanager
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevid.contract import FrameInput
from edgevid.media import scaling
from edgevid.media.preprocessing import FrameTransform, Preprocessor
from edgevid.media.video import read_clip
from rigs import reference_pixels as reference
from rigs.need import need_program

FILTERS = ("area", "bilinear", "bilinear-antialias", "nearest")
FITS = ("stretch", "crop", "letterbox")
MATRICES = ("bt709", "fcc", "bt470bg", "smpte170m", "smpte240m", "bt2020nc")
MEAN, WORST = 0.5, 8.0
"""Allowed differences from the reference, of 255."""


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture with soft colours and sharp light, float RGB (height, width, 3), 30 to 225."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    colours = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(3):
            down, along = rng.uniform(-0.05, 0.05, 2)
            phase = rng.uniform(0, 2 * np.pi)
            colours[..., channel] += np.sin(rows * down + columns * along + phase)
    light = rng.uniform(-1, 1, (height, width, 1))
    return 127.5 + 25 * colours + 22 * light


def image_of(
    rgb: np.ndarray, format_name: str, matrix: str = "smpte170m", full_range: bool = False
) -> av.VideoFrame:
    """Make a decoded image of a format, tagged as its colours are."""
    height, width = rgb.shape[:2]
    image = av.VideoFrame(width, height, format_name)
    deep = format_name.endswith("10le")
    down, along = reference.SUBSAMPLING[format_name.replace("yuvj", "yuv").removesuffix("10le")]
    for index, values in enumerate(reference.to_yuv(rgb, matrix, full_range)):
        plane, part = image.planes[index], values
        if index:
            part = np.pad(values, ((0, -height % down), (0, -width % along)), "edge")
            part = part.reshape(plane.height, down, plane.width, along).mean((1, 3))
        part = (part * (4 if deep else 1)).round().clip(0, 1023 if deep else 255)
        kind, size = (np.uint16, 2) if deep else (np.uint8, 1)
        rows = np.zeros((plane.buffer_size // plane.line_size, plane.line_size // size), kind)
        rows[: plane.height, : plane.width] = part
        plane.update(rows.tobytes())
    image.colorspace = {"fcc": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7}.get(
        matrix, 1 if matrix == "bt709" else 9
    )
    image.color_range = 2 if full_range else 1
    return image


def differences(frame: FrameInput, image: av.VideoFrame, wanted: np.ndarray) -> np.ndarray:
    return np.abs(Preprocessor(frame).apply(image)[0] - np.asarray(wanted, float))


# --- scaling, subsampling, odd sizes, fits --------------------------------------------------------

sides = st.integers(24, 90)


@settings(max_examples=80, deadline=None)
@given(
    sides,
    sides,
    st.integers(8, 120),
    st.integers(8, 120),
    st.sampled_from(
        [
            *("yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuvj420p", "yuvj422p"),
            *("yuv420p10le", "yuv422p10le", "yuv444p10le"),
        ]
    ),
    st.sampled_from(FITS),
    st.sampled_from(FILTERS),
)
def test_scaling_and_fit_are_the_references(height, width, to_height, to_width, kind, fit, name):
    full = kind.startswith("yuvj")
    image = image_of(picture(height, width, height * width), kind, full_range=full)
    rgb = reference.to_rgb(reference.planes_of(image), full_range=full)
    wanted = reference.fitted(rgb, (to_height, to_width), fit, name)
    off = differences(FrameInput("frame", to_height, to_width, fit, resize=name), image, wanted)
    assert off.mean() <= MEAN
    assert off.max() <= (WORST if name == "bilinear-antialias" else 2)


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize(
    ("packed", "planar"),
    [("nv12", "yuv420p"), ("yuyv422", "yuv422p"), ("uyvy422", "yuv422p"), ("yuva420p", "yuv420p")],
)
@pytest.mark.parametrize("size", [(40, 70), (20, 70), (40, 30), (100, 160)])
def test_packed_formats_have_the_pixels_of_planar_ones(packed, planar, size, full):
    image = image_of(picture(60, 96), planar, full_range=full)
    other = image.reformat(format=packed, src_color_range=1, dst_color_range=1)  # only moves values
    other.colorspace, other.color_range = image.colorspace, image.color_range
    wanted = Preprocessor(FrameInput("frame", *size)).apply(image)[0].copy()
    assert differences(FrameInput("frame", *size), other, wanted).max() == 0


@pytest.mark.parametrize("kind", ["yuv420p", "yuv422p", "yuv420p10le", "yuv411p"])
def test_shared_colours_are_not_repeated_by_libswscale(monkeypatch, kind):
    """Which takes ten times as long."""
    built = []
    graph = scaling._graph
    monkeypatch.setattr(
        scaling, "_graph", lambda image, steps: built.append(steps) or graph(image, steps)
    )
    Preprocessor(FrameInput("frame", 40, 70)).apply(image_of(picture(60, 96), kind))
    assert built == [[((40, 70), "area", "gbrp")]]


@pytest.mark.parametrize("size", [(12, 20), (40, 70), (60, 96), (90, 120)])
@pytest.mark.parametrize("kind", ["yuv411p", "yuv440p"])
def test_rare_ways_to_share_colours(size, kind):
    image = image_of(picture(60, 96), kind)
    wanted = reference.resized(reference.to_rgb(reference.planes_of(image)), size)
    off = differences(FrameInput("frame", *size), image, wanted)
    assert off.mean() <= MEAN and off.max() <= 2


@pytest.mark.parametrize("kind", ["yuv420p", "yuv422p", "yuvj420p"])
@pytest.mark.parametrize("size", [(8, 8), (64, 64), (12, 20)])
def test_colour_has_as_many_columns_as_light(kind, size):
    """Stripes of one model pixel, red and blue, which half the columns of colour make purple."""
    height, width = size
    stripes = np.zeros((height * 4, width, 4, 3))
    stripes[:, ::2] = 200, 40, 40
    stripes[:, 1::2] = 40, 40, 200
    stripes = stripes.reshape(height * 4, width * 4, 3)
    full = kind.startswith("yuvj")
    off = differences(
        FrameInput("frame", height, width),
        image_of(stripes, kind, full_range=full),
        reference.resized(stripes, size),
    )
    assert off.max() <= 2


# --- colour ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("kind", ["yuv420p", "yuv444p10le"])
def test_matrix_and_range_come_from_the_tags(matrix, full, kind):
    rgb = picture(64, 96)
    image = image_of(rgb, kind, matrix, full)
    decoded = reference.planes_of(image)
    for name in FILTERS:
        for size in ((16, 24), (64, 96), (50, 120)):
            wanted = reference.resized(reference.to_rgb(decoded, matrix, full), size, name)
            off = differences(FrameInput("frame", *size, resize=name), image, wanted)
            assert off.max() <= 4, (name, size)
            assert off.mean() <= MEAN, (name, size)


@pytest.mark.parametrize("size", [(64, 96), (720, 1280)])
def test_untagged_video_is_bt601_of_limited_range_as_in_ffmpeg(size):
    image = image_of(picture(*size), "yuv444p", "smpte170m")
    image.colorspace, image.color_range = 2, 0
    wanted = reference.resized(reference.to_rgb(reference.planes_of(image)), (16, 24))
    assert differences(FrameInput("frame", 16, 24), image, wanted).max() <= 2


def test_tags_that_change_in_the_middle_of_a_stream_count():
    rgb = picture(64, 96)
    preprocessor = Preprocessor(FrameInput("frame", 16, 24))
    for matrix, full in (("bt709", False), ("smpte170m", True), ("bt709", True), ("bt709", False)):
        got = preprocessor.apply(image_of(rgb, "yuv444p", matrix, full))[0]
        assert np.abs(got - reference.resized(rgb, (16, 24))).max() <= 2


@pytest.mark.parametrize(
    "kind", ["rgb24", "bgr24", "rgba", "bgra", "gbrp", "rgb48le", "yuva420p", "gray", "gray10le"]
)
@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("size", [(12, 20), (48, 80), (40, 70), (60, 100)])
def test_other_formats_keep_their_colours(kind, name, size):
    rgb = picture(48, 80).round()
    if kind.startswith("gray"):
        rgb[:] = rgb[..., :1]
    image = av.VideoFrame.from_ndarray(rgb.astype(np.uint8), "rgb24").reformat(format=kind)
    off = differences(
        FrameInput("frame", *size, resize=name), image, reference.resized(rgb, size, name)
    )
    assert off.mean() <= 2 * MEAN
    assert off.max() <= WORST


def test_a_palette_is_read_and_transparency_ignored(tmp_path):
    rgb = np.zeros((40, 60, 3), np.uint8)
    rgb[:, :30], rgb[:, 30:] = (200, 60, 20), (20, 60, 200)
    for file in (tmp_path / "x.gif", tmp_path / "x.png"):
        whole = Image.fromarray(rgb)
        if file.suffix == ".png":
            whole.putalpha(Image.fromarray(np.full((40, 60), 90, np.uint8)))
        whole.save(file)
        (image,) = av.open(str(file)).decode(video=0)
        assert differences(FrameInput("frame", 20, 30), image, rgb[::2, ::2]).max() <= 3


# --- other programs -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(20, 30), (33, 47), (90, 120), (60, 75)])
def test_filters_are_those_of_opencv_and_pillow(size):
    rgb = picture(60, 80).clip(0, 255).astype(np.uint8)
    image = av.VideoFrame.from_ndarray(rgb, "rgb24")
    height, width = size
    theirs = {
        "bilinear": cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR),
        "nearest": cv2.resize(rgb, (width, height), interpolation=cv2.INTER_NEAREST),
        "bilinear-antialias": np.array(
            Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR)
        ),
    }
    if height < 60:
        theirs["area"] = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    limits = {"bilinear": 1, "nearest": 0, "bilinear-antialias": 4, "area": 2}
    for name, wanted in theirs.items():
        off = differences(FrameInput("frame", height, width, resize=name), image, wanted)
        assert off.max() <= limits[name], name
        assert off.mean() <= MEAN, name


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """A film of BT.709 in H.264 with B-frames, made by FFmpeg's own program."""
    folder = tmp_path_factory.mktemp("film")
    pixels = np.stack([picture(144, 192, seed) for seed in range(8)]).clip(0, 255).astype(np.uint8)
    command = [need_program("ffmpeg", "ffmpeg"), "-v", "error", "-f", "rawvideo", "-pix_fmt"]
    command += ["rgb24", "-s", "192x144", "-r", "10", "-i", "-", "-vf"]
    command += ["scale=out_color_matrix=bt709,format=yuv420p", "-c:v", "libx264", "-bf", "2"]
    command += ["-colorspace", "bt709", "-color_range", "tv", str(folder / "film.mp4")]
    subprocess.run(command, input=pixels.tobytes(), check=True)
    return folder / "film.mp4"


def by_ffmpeg(film: Path, filters: str, kind: str, size: tuple[int, int]) -> np.ndarray:
    """Decode a film by FFmpeg's own program, uint8 (frames, height, width, 3)."""
    command = [need_program("ffmpeg", "ffmpeg"), "-v", "error", "-i", str(film), "-vf", filters]
    command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", kind, "-"]
    given = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(given, np.uint8).reshape(-1, *size, 3)


@pytest.mark.parametrize("fit", FITS)
def test_a_film_is_decoded_scaled_and_fitted_as_by_ffmpegs_own_program(film, fit):
    height, width = 48, 40
    exact = "flags=area+accurate_rnd+full_chroma_int+full_chroma_inp"
    filters = {
        "stretch": f"scale={width}:{height}:{exact}",
        "crop": f"scale=64:48:{exact},format=gbrp,crop={width}:{height}",
        "letterbox": f"scale=40:30:{exact},format=gbrp,pad={width}:{height}:0:9:0x727272",
    }
    wanted = by_ffmpeg(film, filters[fit] + ",format=gbrp", "rgb24", (height, width))
    got = read_clip(film, FrameInput("frame", height, width, fit), 10)
    assert len(got) == len(wanted) == 8
    assert np.abs(got.astype(int) - wanted).max() <= 1


def test_a_film_is_closer_to_floating_point_than_opencv_is(film):
    planes = by_ffmpeg(film, "format=yuv444p", "yuv444p", (3 * 144 * 192 // 3, 1))
    planes = planes.reshape(-1, 3, 144, 192).astype(float)
    wanted = np.stack(
        [reference.resized(reference.to_rgb(list(one), "bt709"), (36, 48)) for one in planes]
    ).clip(0, 255)
    off = np.abs(read_clip(film, FrameInput("frame", 36, 48), 10) - wanted)
    capture, theirs = cv2.VideoCapture(str(film)), []
    while (read := capture.read())[0]:
        theirs.append(cv2.resize(read[1], (48, 36), interpolation=cv2.INTER_AREA)[..., ::-1])
    assert off.mean() <= MEAN
    assert off.max() <= WORST
    assert off.mean() < np.abs(np.stack(theirs) - wanted).mean()


# --- machines -------------------------------------------------------------------------------------


@contextmanager
def without_simd():
    """Let PyAV's own FFmpeg use no vector instructions."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    path = next(line.split()[-1] for line in maps if "libavutil" in line)
    library = ctypes.CDLL(path)
    library.av_force_cpu_flags(0)
    try:
        yield
    finally:
        library.av_force_cpu_flags(-1)


@pytest.mark.parametrize("kind", ["yuv420p", "yuvj422p", "yuv444p", "yuv420p10le", "rgb24"])
@pytest.mark.parametrize("name", FILTERS)
def test_pixels_are_the_same_without_simd(kind, name):
    rgb = np.random.default_rng(0).uniform(0, 255, (90, 130, 3))
    for size in ((16, 24), (45, 65), (90, 130), (91, 131)):
        if kind == "rgb24":
            image = av.VideoFrame.from_ndarray(rgb.astype(np.uint8), kind)
        else:
            image = image_of(rgb, kind, full_range=kind.startswith("yuvj"))
        frame = FrameInput("frame", *size, resize=name)
        fast = Preprocessor(frame).apply(image)
        with without_simd():
            slow = Preprocessor(frame).apply(image)
        np.testing.assert_array_equal(fast, slow)


# --- fits -----------------------------------------------------------------------------------------


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 1300), st.integers(1, 1300))
def test_a_letterbox_is_placed_as_by_ultralytics(height, width, to_height, to_width):
    gain = min(to_height / height, to_width / width)
    inner = max(1, round(width * gain)), max(1, round(height * gain))
    left, top = (to_width - inner[0]) / 2, (to_height - inner[1]) / 2
    found = FrameTransform.between(
        (height, width), FrameInput("frame", to_height, to_width, "letterbox")
    )
    assert found.scaled == inner[::-1]
    assert found.offset == (round(top - 0.1), round(left - 0.1))
