"""The owner's outputs on whole frames: the owner decodes and scales with OpenCV."""

import re
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from edgevid.contract import Contract, FrameInput, Output, StateTensor
from edgevid.errors import BadInput, CheckFailed
from edgevid.evidence import Evidence, ReferenceRecord, preprocessing_text
from edgevid_converters.acceptance.reference import read_reference
from edgevid_converters.importers.preprocessing import ImageMapping

HEIGHT, WIDTH, FRAMES = 24, 32, 20
OUTPUTS = 12
CONTRACT = Contract(
    task="raw",
    inputs=(FrameInput("frame", HEIGHT, WIDTH),),
    outputs=(Output("out", (1, OUTPUTS)),),
    labels=(),
    rate_fps=10,
)
FILTERS = {
    "area": cv2.INTER_AREA,
    "bilinear": cv2.INTER_LINEAR,
    "nearest": cv2.INTER_NEAREST,
}
WEIGHTS = np.random.default_rng(3).normal(0, 0.01, (HEIGHT * WIDTH * 3, OUTPUTS))


def compute(frames: np.ndarray) -> np.ndarray:
    """What stands for a model: uint8 (N, height, width, 3) to float32 (N, 12)."""
    return np.tanh(frames.reshape(len(frames), -1) / 255 @ WEIGHTS).astype(np.float32)


def pictures() -> np.ndarray:
    """Fine texture in colour that moves: uint8 RGB (20, 180, 160, 3)."""
    rng = np.random.default_rng(0)
    wide = cv2.resize(rng.integers(0, 256, (120, 120, 3), np.uint8), (300, 240))
    wide[::6, :, 0], wide[:, ::9, 2] = 230, 20
    return np.stack([wide[k : k + 180, 2 * k : 2 * k + 160] for k in range(FRAMES)])


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 10, options={"crf": "12", "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = 160, 180, "yuv420p"
        for picture in pictures():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    return path


def by_opencv(video, fit="stretch", name="area") -> np.ndarray:
    """The owner's own pipeline."""
    capture, found = cv2.VideoCapture(str(video)), []
    while (read := capture.read())[0]:
        found.append(fitted(read[1][..., ::-1], fit, name))
    return np.stack(found)


def fitted(image: np.ndarray, fit: str, name: str) -> np.ndarray:
    tall, wide = image.shape[:2]
    size = WIDTH, HEIGHT
    if fit != "stretch":
        gain = (max if fit == "crop" else min)(HEIGHT / tall, WIDTH / wide)
        size = round(wide * gain), round(tall * gain)
    small = cv2.resize(np.ascontiguousarray(image), size, interpolation=FILTERS[name])
    if fit == "crop":
        top, left = (size[1] - HEIGHT) // 2, (size[0] - WIDTH) // 2
        return small[top : top + HEIGHT, left : left + WIDTH]
    top, left = (HEIGHT - size[1]) // 2, (WIDTH - size[0]) // 2
    whole = np.full((HEIGHT, WIDTH, 3), 114, np.uint8)
    whole[top : top + size[1], left : left + size[0]] = small
    return whole


def checked(path, contract=CONTRACT, model=compute) -> ReferenceRecord:
    owner = read_reference(path, contract)
    given = [{"out": model(one["frame"])} for one in owner.to_run]
    return owner.check(given, "x.contract.toml")


def saved(video, folder, **arrays):
    np.savez(folder / "clip.npz", video=str(video), **arrays)
    return folder / "clip.npz"


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("name", FILTERS)
def test_the_owners_own_pipeline_proves_the_preprocessing(video, tmp_path, fit, name):
    path = saved(video, tmp_path, out=compute(by_opencv(video, fit, name)))
    contract = replace(CONTRACT, inputs=(FrameInput("frame", HEIGHT, WIDTH, fit, resize=name),))
    record = checked(path, contract)
    assert (record.kind, record.files, record.steps) == ("video", ("clip.mp4",), FRAMES)
    assert record.proven == ("colour", "fit", "resize")
    assert not record.alike
    assert preprocessing_text("reference", record) == (
        "decoding, colour, scaling and fit proven by the model owner's outputs on 20 whole frames "
        "of clip.mp4"
    )


@pytest.mark.parametrize(
    ("fit", "name", "remedy"),
    [
        ("crop", "area", 'with fit = "crop" in x.contract.toml it does'),
        ("letterbox", "area", 'with fit = "letterbox" in'),
        ("stretch", "bilinear", 'with resize = "bilinear" in'),
        ("stretch", "nearest", 'with resize = "nearest" in'),
        ("crop", "nearest", 'with fit = "crop", resize = "nearest" in'),
    ],
)
def test_what_would_match_is_named(video, tmp_path, fit, name, remedy):
    path = saved(video, tmp_path, out=compute(by_opencv(video, fit, name)))
    with pytest.raises(CheckFailed, match="does not reproduce its owner's outputs") as caught:
        checked(path)
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_order_of_colours_is_found(video, tmp_path):
    path = saved(video, tmp_path, out=compute(by_opencv(video)[..., ::-1]))
    with pytest.raises(CheckFailed, match=r"with colour = the other order \(rgb or bgr\) in"):
        checked(path)


def test_a_wrong_scale_is_found(video, tmp_path):
    path = saved(video, tmp_path, out=compute(by_opencv(video)))
    with pytest.raises(CheckFailed, match=r"check scale, mean and std in x\.contract\.toml"):
        checked(path, model=lambda frames: compute(frames / 2.0))


IMAGENET = "scale = 255.0, mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225]"


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize(
    ("owner", "remedy"),
    [
        ({"scale": 1.0}, "scale = 1.0, mean = 0.0, std = 1.0"),
        ({"scale": 255.0}, "scale = 255.0, mean = 0.0, std = 1.0"),
        ({"scale": 255.0, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}, IMAGENET),
        (
            {"mean": (123.68, 116.779, 103.939)},
            "scale = 1.0, mean = [123.68, 116.779, 103.939], std = 1.0",
        ),
    ],
)
def test_the_owners_scale_is_named(video, tmp_path, owner, remedy, colour, layout):
    if colour == "bgr":
        owner = {name: value[::-1] if name != "scale" else value for name, value in owner.items()}
    scale = 1 / 255 if owner.get("scale", 1.0) == 1.0 else 1.0  # keeps tanh from saturating
    own = ImageMapping("frame", "x", "float32", colour, layout, 127.5, (1.0,))
    wanted = ImageMapping("frame", "x", "float32", colour, layout, **{"scale": 1.0} | owner)

    def model(image, frames, move=None):
        inputs = [image.apply(frame[None]) for frame in frames]
        moved = np.concatenate([one if move is None else move(one) for one in inputs])
        flat = moved.reshape(len(frames), -1) * scale
        return np.tanh(flat @ WEIGHTS).astype(np.float32)

    path = saved(video, tmp_path, out=model(wanted, by_opencv(video)))
    asked = read_reference(path, CONTRACT, own)
    pairs = zip(asked.to_run, asked.moves, strict=True)
    with pytest.raises(CheckFailed) as caught:
        asked.check([{"out": model(own, one["frame"], move)} for one, move in pairs], "x.toml")
    if colour == "bgr":
        remedy = re.sub(r"\[(.*?), (.*?), (.*?)\]", r"[\3, \2, \1]", remedy)
    assert f"with {remedy} in x.toml it does" in str(caught.value)
    moves = read_reference(path, CONTRACT, wanted).moves
    assert sum(move is not None for move in moves) == 8  # not the contract's own


def test_rows_of_other_frames_are_found(video, tmp_path):
    path = saved(video, tmp_path, out=compute(by_opencv(video))[::-1])
    with pytest.raises(CheckFailed, match="each row of outputs belongs to its frame"):
        checked(path)


def test_whole_images_prove_all_but_decoding(tmp_path):
    images = pictures()
    out = compute(np.stack([fitted(one, "stretch", "area") for one in images]))
    np.savez(tmp_path / "x.npz", frame=images, out=out)
    record = checked(tmp_path / "x.npz")
    assert (record.kind, record.proven) == ("images", ("colour", "fit", "resize"))
    assert preprocessing_text("reference", record) == (
        "colour, scaling and fit proven by the model owner's outputs on 20 whole frames of x.npz; "
        "not proven: decoding"
    )
    np.savez(tmp_path / "x.npz", frame=images, out=out[..., ::-1])
    with pytest.raises(CheckFailed):
        checked(tmp_path / "x.npz")


def test_frames_of_the_models_size_prove_the_tensor_only(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, HEIGHT, WIDTH, 3), np.uint8)
    np.savez(tmp_path / "x.npz", frame=frames, out=compute(frames))
    record = checked(tmp_path / "x.npz")
    assert (record.kind, record.proven, record.steps) == ("tensor", (), 5)
    text = preprocessing_text("reference", record)
    assert text.startswith("only the tensor input is proven")
    assert "decoding, scaling and fit are not" in text


def test_what_the_model_cannot_tell_apart_is_not_proven(video, tmp_path):
    """A model of the mean grey sees no difference between colours, and little between filters."""

    def grey(frames: np.ndarray) -> np.ndarray:
        mean = frames.reshape(len(frames), -1).mean(1) / 255
        return np.repeat(mean[:, None], OUTPUTS, 1).astype(np.float32)

    path = saved(video, tmp_path, out=grey(by_opencv(video)))
    record = checked(path, model=grey)
    assert "colour" not in record.proven
    assert "resize" not in record.proven
    assert 'resize = "bilinear-antialias"' in record.alike
    assert "not proven: " in preprocessing_text("reference", record)


def test_an_image_of_the_models_shape_proves_no_fit(tmp_path):
    images = pictures()[:, : HEIGHT * 5, : WIDTH * 5]
    out = compute(np.stack([fitted(one, "stretch", "area") for one in images]))
    np.savez(tmp_path / "x.npz", frame=images, out=out)
    assert checked(tmp_path / "x.npz").proven == ("colour", "resize")


def test_some_frames_of_a_video_next_to_the_file(video, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(video.read_bytes())
    frames = np.array([0, 3, 3, 11])
    np.savez(tmp_path / "clip.npz", frames=frames, out=compute(by_opencv(video)[frames]))
    for given in (tmp_path / "clip.npz", tmp_path / "clip.mp4", tmp_path):
        assert checked(given).steps == 4
    np.savez(tmp_path / "clip.npz", frames=frames + 10, out=compute(by_opencv(video)[frames]))
    with pytest.raises(BadInput, match=r"clip.mp4 has 20 frames, .* number 21, counted from 0"):
        checked(tmp_path)


def test_a_state_takes_the_first_frames_in_order(video, tmp_path):
    state = (StateTensor("sum", (1, OUTPUTS)),)
    contract = replace(CONTRACT, temporal="carry", states=state, frames=8)

    def summed(frames: np.ndarray) -> np.ndarray:
        return (np.cumsum(compute(frames), 0) / FRAMES).astype(np.float32)

    path = saved(video, tmp_path, out=summed(by_opencv(video)))
    assert checked(path, contract, summed).proven == ("colour", "fit", "resize")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"out": np.zeros((7, OUTPUTS))},
            "outputs for 7 frames, and clip.mp4 has 20; give one row",
        ),
        ({"out": np.zeros((2, OUTPUTS)), "frames": np.array([4, 1])}, "ascending from 0"),
        ({"out": np.zeros((2, OUTPUTS)), "frames": np.array([0.5, 1])}, "ascending from 0"),
        ({"frames": np.array([1])}, "has no outputs"),
        ({"out": np.zeros((2, 5)), "frames": np.array([0, 1])}, "as many rows"),
    ],
)
def test_files_that_cannot_be_used_are_rejected(video, tmp_path, arrays, message):
    with pytest.raises(BadInput, match=message) as caught:
        read_reference(saved(video, tmp_path, **arrays), CONTRACT)
    assert "\n" not in str(caught.value)


def test_missing_videos_and_outputs_are_named(video, tmp_path):
    with pytest.raises(BadInput, match=r"its video .*gone.mp4 does not exist; copy it there"):
        read_reference(saved("gone.mp4", tmp_path, out=np.zeros((2, OUTPUTS))), CONTRACT)
    (tmp_path / "alone.mp4").write_bytes(video.read_bytes())
    with pytest.raises(BadInput, match=r"needs its owner's outputs next to it.*alone\.npz"):
        read_reference(tmp_path / "alone.mp4", CONTRACT)


def test_evidence_keeps_what_was_proven():
    record = ReferenceRecord(20, 0.1, "ab", "video", ("clip.mp4",), 0.01, 0.02, ("fit",), ("x",))
    data = {"gates": {"max_drop": 0.01, "reference": {"steps": 3, "max_abs": 0.0, "sha256": "ab"}}}
    old = Evidence.from_json(data).gates
    assert old is not None and old.reference is not None and old.reference.kind == "tensor"
    assert preprocessing_text("reference", record) == (
        "decoding and fit proven by the model owner's outputs on 20 whole frames of clip.mp4; not "
        "proven: colour and scaling; x would match as well"
    )
    assert preprocessing_text("own").startswith("the model's own")
    inputs = replace(record, kind="inputs")
    assert preprocessing_text("reference", inputs).startswith("inputs proven")
