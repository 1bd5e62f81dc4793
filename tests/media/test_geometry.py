import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevid.contract import FrameInput
from edgevid.media.geometry import LETTERBOX_GREY, Geometry, inner_size

sides = st.integers(1, 4000)


def picture(pixels: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(pixels, "rgb24")


@given(sides, sides, st.integers(1, 512), st.integers(1, 512))
def test_crop_covers_and_letterbox_fits(height, width, to_height, to_width):
    crop = inner_size((height, width), FrameInput("frame", to_height, to_width, "crop"))
    assert crop[0] >= to_height
    assert crop[1] >= to_width
    assert crop[0] == to_height or crop[1] == to_width
    box = inner_size((height, width), FrameInput("frame", to_height, to_width, "letterbox"))
    assert 1 <= box[0] <= to_height
    assert 1 <= box[1] <= to_width
    assert box[0] == to_height or box[1] == to_width


@given(st.sampled_from(["stretch", "crop", "letterbox"]), sides, sides)
def test_the_inner_picture_keeps_its_shape_but_for_rounding(fit, height, width):
    frame = FrameInput("frame", 64, 64, fit)
    inner = inner_size((height, width), frame)
    if fit == "stretch":
        assert inner == (64, 64)
    elif min(inner) > 1:
        assert abs(inner[0] * width - inner[1] * height) <= max(height, width)


def test_area_is_the_mean_of_what_is_covered():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
    small = Geometry(FrameInput("frame", 16, 16)).apply(picture(pixels))[0]
    mean = pixels.reshape(16, 4, 16, 4, 3).mean((1, 3))
    assert np.abs(small - mean).max() <= 2


def test_letterbox_pads_with_grey_and_keeps_the_picture():
    pixels = np.full((20, 80, 3), 250, np.uint8)
    out = Geometry(FrameInput("frame", 40, 40, "letterbox")).apply(picture(pixels))[0]
    assert (out[:15] == LETTERBOX_GREY).all()
    assert (out[25:] == LETTERBOX_GREY).all()
    assert np.abs(out[15:25].astype(int) - 250).max() <= 2


def test_crop_keeps_the_middle():
    pixels = np.zeros((20, 80, 3), np.uint8)
    pixels[:, 30:50] = 250
    out = Geometry(FrameInput("frame", 20, 20, "crop")).apply(picture(pixels))[0]
    assert np.abs(out.astype(int) - 250).max() <= 2


def test_a_change_of_size_leaves_no_trace_of_the_old_picture():
    frame = FrameInput("frame", 40, 40, "letterbox")
    used = Geometry(frame)
    used.apply(picture(np.full((80, 20, 3), 250, np.uint8)))
    wide = picture(np.full((20, 80, 3), 9, np.uint8))
    assert (used.apply(wide) == Geometry(frame).apply(wide)).all()


@pytest.mark.parametrize("width", [7, 30, 33, 64])
def test_padded_rows_are_not_taken_for_pixels(width):
    rng = np.random.default_rng(width)
    pixels = rng.integers(0, 256, (9, width, 3), np.uint8)
    out = Geometry(FrameInput("frame", 9, width)).apply(picture(pixels))[0]
    assert (out == pixels).all()
