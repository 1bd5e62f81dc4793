"""Labelled clips: found, split, checked, decoded once, and nothing left out in silence."""

from __future__ import annotations

import shutil
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevid.contract import FrameInput
from edgevid.data.cache import load_clips
from edgevid.data.folders import ClipFile, Tree, find
from edgevid.data.inspection import check, common_rate_fps
from edgevid.data.pool import parallel
from edgevid.data.splits import split_files
from edgevid.errors import BadInput, MissingExtra

FRAME = FrameInput("frame", 16, 24)


@pytest.fixture
def tree_folder(tmp_path, video):
    for label in ("run", "walk"):
        for n in range(4):
            path = tmp_path / "data" / label / f"{n}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(video, path)
    return tmp_path / "data"


def test_finds_classes_and_files(tree_folder):
    tree = find(tree_folder)
    assert tree.classes == ("run", "walk")
    assert [file.path for file in tree.files][:2] == ["run/0.mp4", "run/1.mp4"]
    assert common_rate_fps(tree) == 16


def test_split_folders_are_kept_and_a_missing_val_is_cut_from_train(tree_folder, tmp_path):
    root = tmp_path / "split"
    shutil.copytree(tree_folder, root / "train")
    shutil.copytree(tree_folder, root / "test")
    split = split_files(find(root))
    assert len(split["test"]) == 8 and all(path.startswith("test/") for path in split["test"])
    assert len(split["val"]) == 2 and all(path.startswith("train/") for path in split["val"])
    assert not set(split["val"]) & set(split["train"])


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 40), min_size=2),
    st.integers(0, 9),
    st.randoms(),
)
def test_a_split_holds_each_file_once_and_depends_on_the_seed_alone(counts, seed, chance):
    files = [ClipFile(f"{label}/{n}.mp4", label) for label in counts for n in range(counts[label])]
    split = split_files(Tree(None, tuple(counts), tuple(files)), seed)
    assert Counter(path for part in split.values() for path in part) == Counter(
        file.path for file in files
    )
    chance.shuffle(files)
    assert split_files(Tree(None, tuple(counts), tuple(files)), seed) == split
    for label, count in counts.items():
        if count >= 3:
            assert all(any(p.startswith(label) for p in part) for part in split.values())


def test_what_cannot_be_decoded_is_named_and_left_out(tree_folder, truncated_video):
    (tree_folder / "run" / "0.mp4").write_text("not a video")
    shutil.copy(truncated_video, tree_folder / "walk" / "2.mp4")
    tree = find(tree_folder)
    paths = [file.path for file in tree.files]
    clips = load_clips(tree, paths, FRAME, 16.0, workers=1)
    assert [one["path"] for one in clips.left_out] == ["run/0.mp4", "walk/2.mp4"]
    assert all(one["reason"] and str(tree_folder) not in one["reason"] for one in clips.left_out)
    assert len(clips) == 6 and clips.images[0].shape == (40, 16, 24, 3)
    assert [clips.classes.index(one) for one in clips.annotations] == [0, 0, 0, 1, 1, 1]
    short = load_clips(tree, paths, FRAME, 16.0, min_frames=41, workers=1)
    assert len(short) == 0 and "too short: 40 of 41" in short.left_out[1]["reason"]

    report = check(tree_folder, workers=1)
    assert report["clips"] == 6 and report["splits"] == {"all": {"run": 3, "walk": 3}}
    assert report["frames"] == {"min": 40, "median": 40, "max": 40}
    assert report["sizes"] == {"96x64": 6} and report["rates_fps"] == {"16": 6}
    assert [one["path"] for one in report["unreadable"]] == ["run/0.mp4", "walk/2.mp4"]


def test_decoding_is_kept_until_the_file_or_the_geometry_changes(tree_folder, video, monkeypatch):
    tree = find(tree_folder)
    paths = [file.path for file in tree.files]
    first = load_clips(tree, paths, FRAME, 16.0, workers=1)
    assert find(tree_folder) == tree, "the cache must not look like a class"

    def refuse(*_):
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr("edgevid.data.cache.read_clip", refuse)
        again = load_clips(tree, paths, FRAME, 16.0, workers=1)
        np.testing.assert_array_equal(first.images[0], again.images[0])
        with pytest.raises(AssertionError):
            load_clips(tree, paths, FrameInput("frame", 16, 16), 16.0, workers=1)
        (tree_folder / "run" / "0.mp4").write_bytes(video.read_bytes() + b"more")
        with pytest.raises(AssertionError):
            load_clips(tree, paths, FRAME, 16.0, workers=1)


def test_processes_give_results_in_order():
    assert list(parallel(abs, [-3, -2, -1], workers=2)) == [3, 2, 1]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.write_text("x"), "is a file"),
        (lambda root: root.mkdir(), "has no video in it"),
        (lambda root: (root / "run").mkdir(parents=True), "no video"),
    ],
)
def test_what_is_not_a_tree_is_said_in_one_line(tmp_path, make, says):
    make(tmp_path / "data")
    with pytest.raises(BadInput, match=says) as caught:
        find(tmp_path / "data")
    assert "\n" not in str(caught.value) and str(tmp_path / "data") in str(caught.value)


def test_one_class_is_not_enough(tree_folder):
    shutil.rmtree(tree_folder / "walk")
    with pytest.raises(BadInput, match="only one class, 'run'"):
        find(tree_folder)


def test_a_missing_decoder_is_not_taken_for_unreadable_files(tree_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"edgevid\[runner"):
        check(tree_folder, workers=1)
