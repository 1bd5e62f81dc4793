import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevid.contract import FrameInput
from edgevid.media.preprocessing import LETTERBOX_GREY, FrameTransform, Preprocessor, scaled_size

sides = st.integers(1, 4000)


def frame_of(pixels: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(pixels, "rgb24")


@given(sides, sides, st.integers(1, 512), st.integers(1, 512))
def test_crop_covers_and_letterbox_fits(height, width, to_height, to_width):
    crop = scaled_size((height, width), FrameInput("frame", to_height, to_width, "crop"))
    assert crop[0] >= to_height
    assert crop[1] >= to_width
    assert crop[0] == to_height or crop[1] == to_width
    box = scaled_size((height, width), FrameInput("frame", to_height, to_width, "letterbox"))
    assert 1 <= box[0] <= to_height
    assert 1 <= box[1] <= to_width
    assert box[0] == to_height or box[1] == to_width


@given(st.sampled_from(["stretch", "crop", "letterbox"]), sides, sides)
def test_the_inner_picture_keeps_its_shape_but_for_rounding(fit, height, width):
    frame = FrameInput("frame", 64, 64, fit)
    inner = scaled_size((height, width), frame)
    if fit == "stretch":
        assert inner == (64, 64)
    elif min(inner) > 1:
        assert abs(inner[0] * width - inner[1] * height) <= max(height, width)


def test_area_is_the_mean_of_what_is_covered():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
    small = Preprocessor(FrameInput("frame", 16, 16)).apply(frame_of(pixels))[0]
    mean = pixels.reshape(16, 4, 16, 4, 3).mean((1, 3))
    assert np.abs(small - mean).max() <= 2


def test_letterbox_pads_with_grey_and_keeps_the_picture():
    pixels = np.full((20, 80, 3), 250, np.uint8)
    out = Preprocessor(FrameInput("frame", 40, 40, "letterbox")).apply(frame_of(pixels))[0]
    assert (out[:15] == LETTERBOX_GREY).all()
    assert (out[25:] == LETTERBOX_GREY).all()
    assert np.abs(out[15:25].astype(int) - 250).max() <= 2


def test_crop_keeps_the_middle():
    pixels = np.zeros((20, 80, 3), np.uint8)
    pixels[:, 30:50] = 250
    out = Preprocessor(FrameInput("frame", 20, 20, "crop")).apply(frame_of(pixels))[0]
    assert np.abs(out.astype(int) - 250).max() <= 2


def test_a_change_of_size_leaves_no_trace_of_the_old_picture():
    frame = FrameInput("frame", 40, 40, "letterbox")
    used = Preprocessor(frame)
    used.apply(frame_of(np.full((80, 20, 3), 250, np.uint8)))
    wide = frame_of(np.full((20, 80, 3), 9, np.uint8))
    assert (used.apply(wide) == Preprocessor(frame).apply(wide)).all()


@pytest.mark.parametrize("width", [7, 30, 33, 64])
def test_padded_rows_are_not_taken_for_pixels(width):
    rng = np.random.default_rng(width)
    pixels = rng.integers(0, 256, (9, width, 3), np.uint8)
    out = Preprocessor(FrameInput("frame", 9, width)).apply(frame_of(pixels))[0]
    assert (out == pixels).all()


# --- the way back to source pixels ----------------------------------------------------------------

fits = st.sampled_from(["stretch", "crop", "letterbox"])
small = st.integers(1, 600)


def transform_of(height, width, to_height, to_width, fit) -> FrameTransform:
    frame = FrameInput("frame", to_height, to_width, fit)
    return FrameTransform.between((height, width), frame)


@given(sides, sides, small, small, fits, st.integers(0, 2**32 - 1))
def test_points_come_back_to_where_they_were(height, width, to_height, to_width, fit, seed):
    transform = transform_of(height, width, to_height, to_width, fit)
    points = np.random.default_rng(seed).uniform(0, (width, height), (9, 2)).astype(np.float32)
    there = transform.to_model(points)
    assert there.dtype == np.float32
    assert there.shape == (9, 2)
    back = transform.to_source(there)
    assert back.dtype == np.float32
    # float32 keeps 24 bits of a coordinate of the model, which source pixels multiply.
    step = np.spacing(np.abs(there).max()) * max(height / to_height, width / to_width, 1)
    scale = np.array([width, height]) / np.array(transform.scaled[::-1])
    np.testing.assert_allclose(back, points, atol=float(2 * max(step, *np.spacing(scale * 600))))


@given(sides, sides, small, small, fits)
def test_the_corners_of_the_scaled_image_are_those_of_the_source(
    height, width, to_height, to_width, fit
):
    transform = transform_of(height, width, to_height, to_width, fit)
    (top, left), (tall, wide) = transform.offset, transform.scaled
    corners = np.float32([[left, top], [left + wide, top + tall]])
    np.testing.assert_allclose(transform.to_source(corners), [[0, 0], [width, height]], rtol=1e-6)
    np.testing.assert_allclose(
        transform.to_model(np.float32([[0, 0], [width, height]])), corners, atol=1e-3
    )


@given(sides, sides, small, small, fits, st.integers(0, 2**32 - 1))
def test_boxes_are_clipped_to_the_source(height, width, to_height, to_width, fit, seed):
    transform = transform_of(height, width, to_height, to_width, fit)
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-50, (to_width + 50, to_height + 50), (8, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)
    found = transform.boxes_to_source(boxes)
    assert found.shape == (8, 4)
    assert found.dtype == np.float32
    assert (found >= 0).all()
    assert (found <= np.float32([width, height, width, height])).all()
    assert (found[:, :2] <= found[:, 2:]).all()
    free = transform.to_source(boxes.reshape(-1, 2)).reshape(-1, 4)
    np.testing.assert_array_equal(found, np.clip(free, 0, np.float32([width, height] * 2)))


@given(sides, sides, small, small)
def test_padding_and_crop_are_centred(height, width, to_height, to_width):
    padded = transform_of(height, width, to_height, to_width, "letterbox")
    for offset, size, room in zip(padded.offset, padded.scaled, (to_height, to_width), strict=True):
        assert offset >= 0
        assert 0 <= (room - size) - 2 * offset <= 1
    cropped = transform_of(height, width, to_height, to_width, "crop")
    for offset, size, room in zip(
        cropped.offset, cropped.scaled, (to_height, to_width), strict=True
    ):
        assert offset <= 0
        assert 0 <= (size - room) + 2 * offset <= 1


def test_no_boxes_are_no_boxes():
    transform = transform_of(100, 200, 64, 64, "letterbox")
    assert transform.boxes_to_source(np.empty((0, 4), np.float32)).shape == (0, 4)
    assert transform.to_source(np.empty((0, 2), np.float32)).shape == (0, 2)


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("size", [(48, 64), (51, 33), (120, 37), (37, 121)])
def test_a_spot_is_found_where_it_is_in_the_source(fit, size):
    """The transform describes what swscale does: a bright block keeps its centre."""
    height, width = size
    pixels = np.zeros((height, width, 3), np.uint8)
    top, left, side = height // 2 - 5, width // 2 - 3, 8
    pixels[top : top + side, left : left + side] = 255
    preprocessor = Preprocessor(FrameInput("frame", 64, 48, fit))
    scaled = preprocessor.apply(frame_of(pixels))[0].astype(float).sum(-1)
    scaled[scaled == 3 * LETTERBOX_GREY] = 0
    rows, columns = np.mgrid[0:64, 0:48] + 0.5
    centre = [(columns * scaled).sum() / scaled.sum(), (rows * scaled).sum() / scaled.sum()]
    found = preprocessor.transform.to_source(np.float32([centre]))[0]
    np.testing.assert_allclose(found, [left + side / 2, top + side / 2], atol=0.6)
