"""The Python API: what is public, what importing it costs, and what it returns."""

import inspect
import json
import subprocess
import sys
import threading

import numpy as np
import pytest

import edgevid
from edgevid.errors import BadInput, BadVideo, EdgevidError, WrongType
from edgevid_converters import ConvertOptions
from rigs.command import call_edgevid


def test_the_public_names_are_all_there_and_nothing_else_is_listed():
    assert dir(edgevid) == sorted(edgevid.__all__)
    assert edgevid.__all__ == sorted(edgevid.__all__)
    for name in edgevid.__all__:
        assert getattr(edgevid, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        edgevid.nonsense  # noqa: B018 - the access is the test


def test_importing_it_loads_no_library():
    code = "import edgevid, sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"numpy", "av", "cv2", "openvino", "click", "keras", "edgevid_converters"}


def test_a_source_is_iterated_as_the_command_line_runs_it(null_bundle, video):
    model = edgevid.load(null_bundle)
    results = list(model.run(video, rate="all"))
    lines = call_edgevid("run", null_bundle, video, "--rate", "all").stdout.splitlines()
    assert [result.to_json() for result in results] == [json.loads(line) for line in lines]
    assert [result.index for result in results] == list(range(40))
    assert results[0].events == ()
    assert results[-1].prediction.label in model.labels


def test_an_iteration_can_be_left_early(null_bundle, video):
    before = threading.active_count()
    iterator = edgevid.load(null_bundle).run(video, rate="all")
    assert next(iterator).index == 0
    iterator.close()
    assert threading.active_count() == before


def test_frames_come_with_results_where_they_are_asked_for(null_bundle, video):
    model = edgevid.load(null_bundle)
    with_frames = list(model.run(video, rate="all", frames=True))
    assert with_frames[3].frame.rgb().shape == (64, 96, 3)
    assert all(result.frame is None for result in model.run(video, rate="all"))


def test_one_image_is_a_stream_of_one_step(null_bundle):
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    with edgevid.load(null_bundle) as model:
        prediction = model(image)
        stream = model.stream()
        assert stream(image).to_json() == prediction.to_json()
        later = stream(image)
        assert later.to_json() != prediction.to_json()  # the state was kept
        stream.reset()
        assert stream(image).to_json() == prediction.to_json()


def test_images_of_the_wrong_kind_are_rejected_in_one_line(null_bundle):
    model = edgevid.load(null_bundle)
    empty, grey, real = (0, 4, 3), (4, 4), np.zeros((4, 4, 3), np.float32)
    with pytest.raises(TypeError, match="uint8"):
        model([[0]])
    for image in (np.zeros(empty, np.uint8), np.zeros(grey, np.uint8), real, "a.png", None):
        with pytest.raises(BadInput, match="uint8"):
            model(image)


def test_a_source_that_fails_raises_in_the_loop(null_bundle, tmp_path):
    model = edgevid.load(null_bundle)
    with pytest.raises(BadInput, match="missing"):
        list(model.run(tmp_path / "missing.mp4"))
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"no video")
    with pytest.raises(BadVideo):
        list(model.run(empty))


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_a_wrong_number_of_threads_is_rejected(null_bundle, threads):
    with pytest.raises(BadInput, match="threads must be a whole number "):
        edgevid.load(null_bundle, threads=threads)


@pytest.mark.parametrize("wrong", [{"transport": "x"}, {"latency_ms": 0}, {"latency_ms": -1.0}])
def test_a_wrong_option_of_a_run_is_rejected(null_bundle, video, wrong):
    with edgevid.load(null_bundle) as model, pytest.raises(BadInput, match=next(iter(wrong))):
        list(model.run(video, **wrong))


def test_a_missing_bundle_is_a_bad_bundle(tmp_path):
    with pytest.raises(edgevid.errors.BadBundle, match="does not exist"):
        edgevid.load(tmp_path / "gone.edgevid")


@pytest.fixture
def public_calls(null_bundle, video, tmp_path):
    """Functions of the API with arguments that are right, but for files that do not exist."""
    model, none = edgevid.load(null_bundle), tmp_path / "none"
    return {
        edgevid.load: {"path": null_bundle},
        model.run: {"source": video, "rate": "all"},
        edgevid.evaluate: {"model": null_bundle, "data": none},
        edgevid.train: {"data": none, "out": tmp_path / "run"},
        edgevid.convert: {"model": none},
        edgevid.TrainOptions: {},
    }


@pytest.mark.parametrize("value", [object(), b"bytes", {"a": 1}, ["a"], 3.5, "words", None])
def test_an_argument_of_a_wrong_type_is_named_in_one_line(public_calls, value):
    """Nothing else than an error of edgevid comes out, whatever is given for whatever parameter."""
    options = dict.fromkeys(ConvertOptions.__annotations__)
    for call, given in public_calls.items():
        names = inspect.signature(call).parameters
        for name in names | options if call is edgevid.convert else names:
            if call is edgevid.convert and name == "options":
                continue  # all of them
            try:
                call(**{**given, name: value})
            except WrongType as error:
                assert str(error).startswith(f"{name} must be "), (call, str(error))
            except EdgevidError:
                pass


def test_what_is_wrong_is_raised_by_the_call_and_says_what_is_accepted(null_bundle, tmp_path):
    model = edgevid.load(null_bundle)
    for accepted, call in {
        "path must be a str or a Path, not 3": lambda: edgevid.load(3),
        "source must be a str or a Path, not a value of the type list": lambda: model.run(["a"]),
        "rate must be a number, a str or None, not a value of the type list": lambda: model.run(
            "a.mp4", rate=[1]
        ),
        "gate must be True or False, not a value of the type str": lambda: model.run(
            "a", gate="no"
        ),
        "formats must be a list of str or None, not a value of the type str": lambda: (
            edgevid.convert("a.onnx", formats="tflite")
        ),
        "epochs must be a whole number, not None": lambda: edgevid.TrainOptions(epochs=None),
        "batch must be a whole number or None, not 2.5": lambda: edgevid.TrainOptions(batch=2.5),
        "epochs must be a whole number, not True": lambda: edgevid.TrainOptions(epochs=True),
        "options must be a TrainOptions or None, not 3": lambda: edgevid.train("a", "b", 3),
    }.items():
        with pytest.raises(WrongType) as caught:
            call()
        assert str(caught.value) == accepted
        assert isinstance(caught.value, BadInput) and isinstance(caught.value, TypeError)


def test_numbers_of_numpy_are_taken_as_plain_ones(null_bundle):
    options = edgevid.TrainOptions(batch=np.int64(4), rate_fps=np.float32(5), augment=np.True_)
    assert json.dumps([options.batch, options.rate_fps, options.augment]) == "[4, 5.0, true]"
    assert type(edgevid.load(null_bundle, threads=np.int32(2))._threads) is int
