"""Folders: splits and classes as people name them, and what is neither."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevid.data.division import divide
from edgevid.data.folders import Tree, find
from edgevid.data.layout import arrange, split_of
from edgevid.data.splits import split_files
from edgevid.errors import BadInput

SPLIT_NAMES = {
    "train": ("train", "Train", "TRAINING", "training_set", "train-set", "Train Data"),
    "val": ("val", "Valid", "VALIDATION", "dev", "val_set"),
    "test": ("test", "Test", "TESTING", "testing", "test set", "TestSet"),
}
CLASS = st.text("abcxyz", min_size=1, max_size=4)
split_names = st.sampled_from([(s, name) for s, names in SPLIT_NAMES.items() for name in names])


@pytest.mark.parametrize("split", SPLIT_NAMES)
def test_names_of_splits_are_recognised_in_any_case(split):
    assert [split_of(name) for name in SPLIT_NAMES[split]] == [split] * len(SPLIT_NAMES[split])
    assert split_of("trainer") is None and split_of("latest") is None and split_of("set") is None


@given(st.sets(split_names, min_size=1), st.sets(CLASS, min_size=1), st.booleans(), st.booleans())
def test_every_arrangement_gives_the_same_classes_and_splits(splits, classes, class_first, deep):
    deeper = "more/" if deep else ""
    paths = {
        f"{label}/{name}/{deeper}0.mp4" if class_first else f"{name}/{label}/{deeper}0.mp4": (
            label,
            split,
        )
        for split, name in splits
        for label in classes
    }
    files, outside = arrange(list(paths))
    assert {file.path: (file.annotation, file.split) for file in files} == paths
    assert not outside
    assert [file.path for file in files] == sorted(paths)


def test_folders_named_train_and_test_are_splits_whatever_their_case(tmp_path, video):
    for split in ("Train", "Test"):
        for label in ("run", "walk"):
            for n in range(2):
                path = tmp_path / split / label / f"{n}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(video, path)
    tree = find(tmp_path)
    assert tree.classes == ("run", "walk")
    assert len(split_files(tree)["test"]) == 4
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "read me.txt").write_text("About these clips.")
    (tmp_path / "Train" / "jump").mkdir()
    tree = find(tmp_path)
    assert tree.classes == ("run", "walk")
    assert tree.empty == ("Train/jump",)
    assert tree.notes == (
        "left out docs/read me.txt: not a video",
        "Train/jump has no video, so it is not a class",
    )


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["train/a/0.mp4", "bus/0.mp4"], "'train' names a split, but 'bus' does not"),
        (["a/test/0.mp4", "b/0.mp4"], "'a/test' names a split, but 'b' does not"),
        (["a/test/0.mp4", "a/1.mp4"], "'a/test' names a split, but 'a' does not"),
        (["train/Walk/0.mp4", "test/walk/0.mp4"], "'Walk' and 'walk' differ only in case"),
        (["caf\u00e9/0.mp4", "cafe\u0301/0.mp4"], "encoding of accents"),
        (["a\nb/0.mp4", "c/0.mp4"], r"class folder 'a\\nb' has a control character"),
        (["train/\x1b[31m/0.mp4", "train/c/0.mp4"], "control character; rename the folder"),
    ],
)
def test_a_mixture_is_refused_with_what_to_do(paths, says):
    with pytest.raises(BadInput, match=says) as caught:
        arrange(paths)
    assert "; " in str(caught.value)


def test_clips_outside_class_folders_are_named(tmp_path, video):
    for path in ("train/run/0.mp4", "train/walk/0.mp4", "train/5.mp4", "6.mp4"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, tmp_path / path)
    tree = find(tmp_path)
    assert [file.path for file in tree.files] == ["train/run/0.mp4", "train/walk/0.mp4"]
    assert tree.notes == ("left out 2 files, such as 6.mp4: not in a class folder",)


def test_the_remedy_for_a_folder_too_many_is_the_inner_folder(tmp_path, video):
    for label in ("run", "walk"):
        path = tmp_path / "UCF-101" / label / "0.mp4"
        path.parent.mkdir(parents=True)
        shutil.copy(video, path)
    with pytest.raises(BadInput, match="only one class, 'UCF-101'; use ") as caught:
        find(tmp_path)
    inner = str(caught.value).partition("; use ")[2].partition(" if its folders")[0]
    assert find(inner).classes == ("run", "walk")


def test_only_clips_without_a_class_are_refused_by_name(tmp_path, video):
    shutil.copy(video, tmp_path / "0.mp4")
    with pytest.raises(BadInput, match=r"1 clips, such as 0.mp4, are in no class folder; put"):
        find(tmp_path)


def test_folders_above_the_classes_that_name_no_split_are_noted(tmp_path, video):
    for place in ("01_train/run", "01_train/walk", "02_val/run", "02_val/walk"):
        (tmp_path / place).mkdir(parents=True)
        shutil.copy(video, tmp_path / place / "0.mp4")
    (note,) = find(tmp_path).notes
    assert note.startswith("the classes are '01_train' and '02_val', and each holds the same")
    for old, new in (("01_train", "train"), ("02_val", "val")):
        (tmp_path / old).rename(tmp_path / new)
    assert find(tmp_path).classes == ("run", "walk") and not find(tmp_path).notes


def test_recordings_in_folders_of_their_own_are_not_noted(tmp_path, video):
    for place in ("run/a", "run/b", "walk/b", "walk/c"):
        (tmp_path / place).mkdir(parents=True)
        shutil.copy(video, tmp_path / place / "0.mp4")
    assert not find(tmp_path).notes


def test_a_single_class_names_the_folder_without_video(tmp_path, video):
    for label in ("run", "walk"):
        (tmp_path / label).mkdir()
    shutil.copy(video, tmp_path / "run" / "0.mp4")
    (tmp_path / "walk" / "0.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(BadInput, match=r"'run' \(left out walk/0.jpg: a still image.*\); add a"):
        find(tmp_path)


def test_the_settings_of_a_synthetic_dataset_are_not_reported_as_left_out(tmp_path, video):
    for label in ("run", "walk"):
        (tmp_path / label).mkdir()
        shutil.copy(video, tmp_path / label / "0.mp4")
    (tmp_path / "synth.json").write_text("{}")
    assert not find(tmp_path).notes


def test_names_that_the_system_refuses_are_one_line():
    from edgevid.media.video import open_file

    for act in (find, open_file):
        with pytest.raises(BadInput, match="File name too long; "):
            act("a" * 300)
    with pytest.raises(BadInput, match="the source is empty; give"):
        open_file("")


def test_a_class_that_a_split_lacks_is_reported_or_refused(tmp_path):
    def notes(*paths):
        files, _ = arrange(paths)
        tree = Tree(tmp_path, tuple(sorted({one.annotation for one in files})), tuple(files))
        for one in files:
            (tmp_path / one.path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / one.path).write_text(one.path)
        return divide(tree).notes

    both = ("train/a/0.mp4", "train/b/0.mp4", "val/a/1.mp4", "val/b/1.mp4")
    assert notes(*both) == ()
    (note,) = notes(*both, "test/b/2.mp4")
    assert note.startswith("warning: no clip of class 'a' in test, so the metric on test does not")
    with pytest.raises(BadInput, match="no clip of class 'c' in train; add some"):
        notes(*both, "test/a/2.mp4", "test/b/2.mp4", "test/c/2.mp4")
    (note,) = notes("a/train/0.mp4", "a/val/1.mp4", "b/train/0.mp4")
    assert "no clip of class 'b' in val" in note
