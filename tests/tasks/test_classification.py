"""Classification on the host: annotations, imported models, metadata, drawing."""

from dataclasses import replace

import numpy as np
import pytest

from edgevid.contract import Output
from edgevid.data.cache import Clips
from edgevid.data.folders import ClipFile, Tree
from edgevid.errors import BadInput
from edgevid.predictions import Classification, FrameMeta
from edgevid.tasks import open_task
from edgevid.tasks.host import Annotated, open_host
from edgevid.tasks.host.importing import ImportedOutput
from edgevid.tasks.host.training import open_training
from rigs.bundles import CONTRACT


@pytest.fixture
def host():
    return open_host("classification")


def output(name="scores", shape=(1, 3), total=1.0, softmax=False):
    sample = np.full(shape, total / np.prod(shape), np.float32)
    return ImportedOutput(name, "probs:0", shape, softmax, (sample,))


def test_the_last_frame_of_a_clip_has_the_class_of_its_folder(host):
    images = tuple(np.zeros((count, 2, 2, 3), np.uint8) for count in (3, 1))
    clips = Clips(("a/1.mp4", "b/1.mp4"), images, ("b", "a"), ("a", "b"), ())
    assert host.annotations(clips) == [Annotated((2,), ("b",)), Annotated((0,), ("a",))]
    assert open_training("classification").targets(clips).tolist() == [1, 0]


def test_data_with_a_class_that_the_model_lacks(host, tmp_path):
    files = tuple(ClipFile(f"{label}/1.mp4", label) for label in ("dark", "loud"))
    with pytest.raises(BadInput, match="class 'loud' is not one of the model's: dark, middle"):
        host.check_data(Tree(tmp_path, ("dark", "loud"), files), CONTRACT)


@pytest.mark.parametrize(
    ("outputs", "key", "text"),
    [
        ([output("boxes")], "task", "needs an"),
        (
            [output(shape=(1, 4))],
            "labels",
            r"3 labels do not match .*'probs:0' of the shape",
        ),
        (
            [output(shape=(1, 5, 3))],
            "task",
            r"'probs:0' has the shape \(1, 5, 3\); use task = .raw",
        ),
        ([output(shape=(1, 1, 3))], "task", r"reads scores of the shape \(1, 3\), but"),
        ([output(total=7.5)], "output", r"values from 2.5 to 2.5\); add softmax = true"),
    ],
)
def test_an_imported_model_that_is_no_classifier(host, outputs, key, text):
    fault = host.check_outputs(outputs, ("a", "b", "c"))
    assert fault is not None and fault.key == key
    assert "\n" not in fault.text
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(fault.text)


def test_an_imported_classifier(host):
    assert host.check_outputs([output()], ("a", "b", "c")) is None
    assert host.check_outputs([output(total=7.5, softmax=True)], ("a", "b", "c")) is None
    assert host.check_outputs([output("boxes"), output()], ("a", "b", "c")) is None
    assert host.default_output_names(1) == ("scores",)
    assert host.default_output_names(2) is None


def test_what_looks_like_scores_is_drafted(host):
    few = host.draft_outputs([(None, 3)])
    assert few.output_names == ("scores",)
    assert few.settings == (("labels", ["class 0", "class 1", "class 2"]),)
    many = host.draft_outputs([(1, 1000)])
    assert not many.settings and many.missing[0][0] == "labels_file"
    for shapes in ([(1, 1)], [(1, None)], [(1, 3, 3)], [(1, 3), (1, 3)], []):
        assert host.draft_outputs(shapes) is None


def test_other_tools_are_told_about_the_scores_alone(host):
    assert host.describe_output("scores", CONTRACT).labels == CONTRACT.labels
    assert host.describe_output("boxes", CONTRACT).labels == ()
    assert host.model_api_type(CONTRACT) == "Classification"
    two = replace(CONTRACT, outputs=(*CONTRACT.outputs, Output("boxes", (1, 4))))
    assert host.model_api_type(two) is None


def test_a_class_without_a_clip_cannot_be_learned(tmp_path):
    images = (np.zeros((1, 2, 2, 3), np.uint8),)
    train = Clips(("a/1.mp4",), images, ("a",), ("a", "b"), ({"path": "b/1", "reason": "cut"},))
    clips = {"train": train, "val": train}
    with pytest.raises(BadInput, match=r"class 'b' to train on \(b/1: cut\); add clips of 8 or"):
        open_training("classification").check_learnable(clips, Tree(tmp_path, ("a", "b"), ()), 8)


def test_the_label_is_written_into_the_image():
    pytest.importorskip("cv2")
    image = np.full((120, 160, 3), 100, np.uint8)
    prediction = Classification(np.float32([0.1, 0.2, 0.7]), CONTRACT.labels)
    drawn = open_task(CONTRACT).draw(image, prediction)
    assert (drawn == 255).any() and (drawn == 0).any()
    changed = np.argwhere((drawn != image).any(axis=2))
    assert changed.max(axis=0)[0] < 60, "the lower half of the frame is covered"


def test_an_unsure_prediction_has_a_label_too():
    task, frame = open_task(CONTRACT), FrameMeta(8, 8)
    one = task.decode({"scores": np.full((1, 3), 1 / 3, np.float32)}, frame)
    assert one.label == "dark"
    assert task.same(one, task.decode({"scores": np.float32([[0.9, 0.05, 0.05]])}, frame))


def test_a_task_without_a_training_part():
    with pytest.raises(BadInput, match="task raw cannot be trained"):
        open_training("raw")
    with pytest.raises(BadInput, match="did you mean classification"):
        open_training("clasification")
