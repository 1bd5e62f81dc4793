"""Recordings: clips of one recording are recognised and never divided."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevid.data.division import divide
from edgevid.data.duplicates import find_duplicates
from edgevid.data.folders import Tree, find
from edgevid.data.groups import find_recordings
from edgevid.data.layout import ClipFile
from edgevid.data.splits import SPLITS, split_files
from edgevid.errors import BadInput
from rigs.videos import moving_images, write_video


def _files(*paths):
    return [ClipFile(path, path.split("/")[-2]) for path in paths]


UCF = [
    f"{label}/v_{label}_g{group:02d}_c{clip:02d}.avi"
    for label in ("Archery", "Biking")
    for group in range(1, 6)
    for clip in range(1, 5)
]


@pytest.mark.parametrize(
    ("name", "rule", "recording"),
    [
        ("v_Archery_g07_c03.avi", "UCF101 names", "v_Archery_g07"),
        ("Movie_One_brush_hair_u_cm_np1_fr_goo_2.avi", "HMDB51 names", "Movie_One"),
        ("person15_walking_d1_uncomp.avi", "KTH names", "person15"),
        ("-2VKVjgNuE0_000010_000020.mp4", "Kinetics names", "-2VKVjgNuE0"),
        ("Street 5-Scene-003.mp4", "names of cuts", "Street 5"),
        ("GX010023_part2.MP4", "names of cuts", "GX010023"),
        ("door (2).mp4", "names of copies", "door"),
        ("door_flipped.mp4", "names of copies", "door"),
    ],
)
def test_names_of_known_datasets_and_tools_are_recognised(name, rule, recording):
    stem, _, ending = name.rpartition(".")
    twin = {
        "g07_c03": "g07_c01",
        "goo_2": "goo_1",
        "_d1_": "_d2_",
        "000010_000020": "000030_000040",
        "003": "004",
        "part2": "part1",
        "(2)": "(1)",
        "flipped": "copy",
    }
    twin_name = next(name.replace(old, new) for old, new in twin.items() if old in name)
    assert twin_name != name and stem and ending
    found = find_recordings(_files(f"a/{name}", f"a/{twin_name}", "a/other.mp4", "b/0.mp4"))
    assert found.rule == rule
    assert found.by_path == {f"a/{name}": recording, f"a/{twin_name}": recording}
    assert found.count == 3
    assert found.notes() == [f"4 clips of 3 recordings, recognised by {rule}"]


def test_plain_numbers_and_the_name_of_the_class_are_no_recordings():
    plain = _files(*(f"{c}/{c}_clip_{n}.mp4" for c in "ab" for n in range(9)), "a/IMG_0001.mp4")
    assert find_recordings(plain[:-1]).rule is None
    assert find_recordings(_files("a/0001.mp4", "a/clip_2.mp4", "b/3.mp4")).rule is None


def test_groups_of_ucf101_are_never_divided():
    tree = Tree(None, ("Archery", "Biking"), tuple(_files(*UCF)))
    recordings = find_recordings(tree.files)
    assert recordings.rule == "UCF101 names" and recordings.count == 10
    for seed in range(5):
        split = split_files(tree, seed, recordings.by_path)
        places = defaultdict(set)
        for name, paths in split.items():
            for path in paths:
                places[recordings.by_path[path]].add(name)
        assert all(len(names) == 1 for names in places.values())
        assert {name: len(paths) for name, paths in split.items()} == {
            "train": 24,
            "val": 8,
            "test": 8,
        }
    alone = split_files(tree, 0, find_recordings(tree.files, "none").by_path)
    groups = {name: {path.partition("_c")[0] for path in alone[name]} for name in SPLITS}
    assert groups["train"] & groups["test"], "without groups they are divided"


def test_the_users_pattern_names_recordings_by_its_groups_or_its_match():
    files = _files("a/cam1-day2-0.mp4", "a/cam1-day2-1.mp4", "b/cam2-day2-0.mp4", "b/x.mp4")
    found = find_recordings(files, r"(cam\d)-(day\d)")
    assert set(found.by_path.values()) == {"cam1/day2", "cam2/day2"}
    assert found.unknown == "b/x.mp4"
    assert found.notes()[1] == (
        "1 clips, such as b/x.mp4, do not match --group; each counts as a recording of its own"
    )
    assert set(find_recordings(files, r"day\d").by_path.values()) == {"day2"}
    assert find_recordings(_files(*UCF), "none").count == len(UCF)
    with pytest.raises(BadInput, match="is not a valid regular expression"):
        find_recordings(files, "(")
    with pytest.raises(BadInput, match="matches no clip, such as a/cam1"):
        find_recordings(files, "person")


clips = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.integers(0, 6)), unique=True
)


@given(clips.filter(lambda found: len({label for label, _, _ in found}) > 1), st.integers(0, 3))
def test_a_split_never_divides_a_recording_whatever_the_sizes(clips, seed):
    files = [ClipFile(f"{label}/r{g}_{n}.mp4", label) for label, g, n in clips]
    tree = Tree(None, tuple("abc"), tuple(files))
    found = find_recordings(files, r"r\d+")
    split = split_files(tree, seed, found.by_path)
    assert Counter(p for paths in split.values() for p in paths) == Counter(f.path for f in files)
    recordings = [{found.by_path[path] for path in split[name]} for name in SPLITS]
    assert not recordings[0] & recordings[1] and not recordings[0] & recordings[2]
    assert not recordings[1] & recordings[2]
    backwards = Tree(None, tuple("abc"), tuple(reversed(files)))
    assert split_files(backwards, seed, found.by_path) == split


@given(st.dictionaries(st.sampled_from("ab"), st.lists(st.integers(1, 9), min_size=1), min_size=2))
def test_a_class_with_enough_recordings_is_in_every_split(sizes):
    files = [
        ClipFile(f"{label}/{label}{g}_{n}.mp4", label)
        for label, counts in sizes.items()
        for g, count in enumerate(counts)
        for n in range(count)
    ]
    tree = Tree(None, tuple("ab"), tuple(files))
    split = split_files(tree, 1, find_recordings(files, r"[ab]\d+_").by_path)
    for label, counts in sizes.items():
        there = [name for name in SPLITS if any(p.startswith(label) for p in split[name])]
        assert there == list(SPLITS)[: len(counts)]


@pytest.fixture
def clips_of(tmp_path):
    def make(*paths):
        for number, path in enumerate(paths):
            write_video(tmp_path / path, moving_images(3 + number, 32, 32))
        return tmp_path

    return make


def test_folders_that_divide_a_recording_are_reported_or_refused(clips_of):
    root = clips_of("train/a/v_a_g01_c01.mp4", "train/b/v_b_g01_c01.mp4", "test/a/v_a_g01_c02.mp4")
    notes = divide(find(root)).notes
    assert any("1 recording is in two splits, such as v_a_g01: train/a" in n for n in notes)
    assert not any("no recording is in two splits" in note for note in notes)
    with pytest.raises(BadInput, match=r"in two splits.*; move the clips of a recording"):
        divide(find(root), group=r"v_._g\d+")


def test_equal_files_count_as_one_recording_and_are_reported(clips_of):
    root = clips_of(*(f"{label}/{n}.mp4" for label in "ab" for n in range(6)))
    shutil.copy(root / "a" / "0.mp4", root / "a" / "copy of 0.mp4")
    shutil.copy(root / "a" / "1.mp4", root / "b" / "9.mp4")
    tree = find(root)
    same = find_duplicates(root, tree.files)
    assert same == (("a/0.mp4", "a/copy of 0.mp4"), ("a/1.mp4", "b/9.mp4"))
    for seed in range(4):
        division = divide(tree, seed)
        place = {path: name for name, paths in division.split.items() for path in paths}
        assert all(place[one] == place[other] for one, other in same)
        assert division.notes == (
            "warning: 1 clip is in two classes, such as a/1.mp4 and b/9.mp4 (equal files); "
            "remove the wrong ones",
        )
    train = root.parent / "split" / "train"
    shutil.copytree(root, train, ignore=shutil.ignore_patterns("9.mp4"))
    (train.parent / "test" / "b").mkdir(parents=True)
    shutil.copy(train / "b" / "2.mp4", train.parent / "test" / "b")
    missing, note = divide(find(train.parent)).notes
    assert "no clip of class 'a' in test" in missing
    assert note.startswith("warning: 1 clip is in two splits, such as test/b/2.mp4 and train/b")
