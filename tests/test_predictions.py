"""Typed predictions: what they hold, how they are indexed, their JSON form."""

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from edgevid.predictions import Classification, Detections, FrameMeta, Prediction, RawOutputs

LABELS = ("person", "dog", "car")


@pytest.fixture
def boxes():
    xyxy = np.array([[0, 0, 10, 20], [5, 5, 6.126, 7], [1, 2, 3, 4]], np.float32)
    return Detections(
        xyxy, np.float32([0.9, 0.3, 0.6]), np.array([0, 2, 2]), LABELS, np.array([7, 8, 9])
    )


def test_importing_them_is_light():
    code = "import sys, edgevid.predictions; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_classification_names_its_best_class():
    one = Classification(np.float32([0.2, 0.7, 0.1]), LABELS)
    assert (one.class_id, one.label, round(one.score, 6)) == (1, "dog", 0.7)
    assert one.to_json() == {
        "label": "dog",
        "score": 0.7,
        "scores": {"person": 0.2, "dog": 0.7, "car": 0.1},
    }
    assert list(one.to_json()) == ["label", "score", "scores"]


def test_of_two_best_classes_it_is_the_first():
    assert Classification(np.float32([0.1, 0.45, 0.45]), LABELS).label == "dog"


def test_predictions_are_frozen(boxes):
    raw = RawOutputs({"x": np.zeros((1, 2), np.float32)})
    for one in (Classification(np.float32([1]), ("a",)), boxes, raw):
        assert isinstance(one, Prediction)
        with pytest.raises(FrozenInstanceError):
            one.labels = ("other",)


def test_detections_are_selected_like_an_array(boxes):
    assert len(boxes) == 3
    assert boxes[1].xyxy.shape == (1, 4)
    assert boxes[-1].track_id.tolist() == [9]
    assert boxes[1:].class_id.tolist() == [2, 2]
    assert boxes[np.array([True, False, True])].track_id.tolist() == [7, 9]
    assert boxes[[2, 0]].track_id.tolist() == [9, 7]
    assert len(boxes[[]]) == 0
    for wrong in (3, [5], np.array([True, False])):
        with pytest.raises(IndexError):
            boxes[wrong]


def test_detections_are_filtered_by_confidence_and_label(boxes):
    assert boxes.filter(min_confidence=0.6).track_id.tolist() == [7, 9]
    assert boxes.filter(labels={"car"}).track_id.tolist() == [8, 9]
    assert boxes.filter(min_confidence=0.5, labels=("car", "dog")).track_id.tolist() == [9]
    assert len(boxes.filter(labels=())) == 0


def test_the_json_form_of_detections(boxes):
    first, second, _ = boxes.to_json()["detections"]
    assert first == {
        "box": [0, 0, 10, 20],
        "confidence": 0.9,
        "class_id": 0,
        "class": "person",
        "track_id": 7,
    }
    assert second["box"] == [5, 5, 6.13, 7]
    assert json.loads(json.dumps(boxes.to_json())) == boxes.to_json()


def test_without_a_tracker_or_labels_their_keys_are_left_out():
    one = Detections(np.zeros((1, 4), np.float32), np.float32([1]), np.array([5]), ())
    assert list(one.to_json()["detections"][0]) == ["box", "confidence", "class_id"]
    assert one[0].track_id is None


def test_a_frame_without_detections():
    none = Detections.empty(LABELS)
    assert len(none) == 0
    assert none.to_json() == {"detections": []}
    assert len(none.filter(min_confidence=0.5)) == 0


def test_arrays_of_another_shape_are_rejected():
    boxes, one = np.zeros((1, 4), np.float32), np.float32([1])
    with pytest.raises(ValueError, match=r"xyxy has the shape \(4,\)"):
        Detections(boxes[0], one, np.array([0]), LABELS)
    with pytest.raises(ValueError, match=r"confidence has the shape \(1, 1\)"):
        Detections(boxes, one[None], np.array([0]), LABELS)
    with pytest.raises(ValueError, match="track_id"):
        Detections(boxes, one, np.array([0]), LABELS, np.array([1, 2]))


def test_boxes_are_mapped_to_the_source_frame_and_clipped_to_it():
    frame = FrameMeta(100, 50, to_source=lambda points: points * 2 - 10)
    found = frame.boxes_to_source(np.float32([[10, 10, 20, 20], [0, 0, 99, 99]]))
    assert found.dtype == np.float32
    assert found.tolist() == [[10, 10, 30, 30], [0, 0, 100, 50]]
    assert FrameMeta(9, 9).boxes_to_source(np.float32([[1, 2, 3, 4]])).tolist() == [[1, 2, 3, 4]]
    assert frame.boxes_to_source(np.empty((0, 4), np.float32)).shape == (0, 4)
