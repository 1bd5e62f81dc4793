"""The bundle: equal bytes for equal inputs, and no damage that goes unseen."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevid import bundle as bundles
from edgevid.bundle import Artifact, Bundle
from edgevid.contract import Contract, FrameInput, Output
from edgevid.errors import BadBundle, BadInput
from edgevid.files import canonical_json
from edgevid.tasks.classification.device import SCORES

CONTRACT = Contract(
    task="classification",
    inputs=(FrameInput("frame", 8, 8),),
    rate_fps=10.0,
    outputs=(Output(SCORES, (1, 2)),),
    labels=("a", "b"),
)
FILES = {"xml": b"<net>" + bytes(range(64)) + b"</net>", "bin": bytes(range(256))}


def make(path: Path, note: str = "x") -> Bundle:
    artifacts = [
        (Artifact("tflite-int8", "tflite", "int8", float_ops=("Softmax",)), {"tflite": b"T" * 99}),
        (Artifact("openvino-int8", "openvino", "int8"), FILES),
    ]
    golden = {"clip.mp4": b"clip", "0/input_frame.npy": b"frames"}
    return bundles.write(path, CONTRACT, artifacts, golden, {"note": note}, b"<html>")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Bundle:
    return make(tmp_path_factory.mktemp("bundle") / "x.edgevid")


def test_what_was_written_is_read(made):
    assert made.contract == CONTRACT
    assert [a.name for a in made.artifacts] == ["openvino-int8", "tflite-int8"]
    artifact = made.artifact("openvino-int8")
    assert made.files(artifact) == made.files("openvino-int8") == FILES
    assert artifact.endings == ("bin", "xml")
    assert artifact.bytes == sum(map(len, FILES.values()))
    assert made.artifact("tflite-int8").float_ops == ("Softmax",)
    assert made.member("golden/0/input_frame.npy") == b"frames"
    assert made.member(bundles.REPORT) == b"<html>"
    assert made.evidence == {"note": "x"}
    assert made.sha256 == hashlib.sha256(made.path.read_bytes()).hexdigest()
    made.check()


def test_equal_inputs_give_equal_bytes_and_others_give_another_key(made, tmp_path):
    same, other = make(tmp_path / "same.edgevid"), make(tmp_path / "other.edgevid", note="y")
    assert same.path.read_bytes() == made.path.read_bytes()
    assert same.key == made.key != other.key


def test_any_zip_tool_reads_it(made):
    with zipfile.ZipFile(made.path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted(archive.namelist())
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def home_of(path: Path) -> dict[int, str]:
    """Offset of each byte of a member's content -> the member's name."""
    with zipfile.ZipFile(path) as archive:
        return {
            info.header_offset + 30 + len(info.filename) + k: info.filename
            for info in archive.infolist()
            for k in range(info.file_size)
        }


def damage(made: Bundle, path: Path, offset: int, bit: int) -> str:
    """Flip one bit, check the bundle, give the message."""
    content = bytearray(made.path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(BadBundle) as caught:
        Bundle.open(path).check()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_flipped_bit_anywhere_is_found_and_its_member_is_named(made, tmp_path):
    homes, path = home_of(made.path), tmp_path / "damaged.edgevid"
    for offset in range(made.path.stat().st_size):
        message = damage(made, path, offset, offset % 8)
        if offset in homes:
            assert homes[offset] in message, offset


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_single_bit(made, tmp_path_factory, data):
    size = made.path.stat().st_size
    offset, bit = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 7))
    damage(made, tmp_path_factory.getbasetemp() / "any.edgevid", offset, bit)


def test_every_truncation_is_found(made, tmp_path):
    content, path = made.path.read_bytes(), tmp_path / "cut.edgevid"
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(BadBundle):
            Bundle.open(path)
    path.write_bytes(content[:-1])
    with pytest.raises(BadBundle, match="truncated"):
        Bundle.open(path)


def test_bytes_behind_or_before_the_zip_are_found(made, tmp_path):
    path = tmp_path / "padded.edgevid"
    for content in (made.path.read_bytes() + b"\0", b"\0" + made.path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(BadBundle):
            Bundle.open(path).check()


def test_a_member_is_hashed_when_it_is_asked_for_and_opening_reads_only_the_manifest(
    made, tmp_path
):
    content = made.path.read_bytes().replace(b"T" * 99, b"t" + b"T" * 98)
    path = tmp_path / "x.edgevid"
    path.write_bytes(content)
    opened = Bundle.open(path)
    assert opened.files("openvino-int8") == FILES
    with pytest.raises(BadBundle, match=r"artifacts/tflite-int8\.tflite is damaged"):
        opened.files("tflite-int8")


def rewritten(made: Bundle, path: Path, change, names=lambda name: name) -> Path:
    """A well-formed zip whose manifest went through ``change`` and its names through ``names``."""
    with zipfile.ZipFile(made.path) as archive:
        members = {names(info.filename): archive.read(info) for info in archive.infolist()}
    manifest = json.loads(members[bundles.MANIFEST])
    change(manifest)
    members[bundles.MANIFEST] = canonical_json(manifest)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(format=4), "newer edgevid.*pip install -U edgevid"),
        (lambda m: m.update(format=4, surprise=1), "newer edgevid"),
        (lambda m: m.update(format="old"), "unknown format"),
        (lambda m: m.update(format=1), "older edgevid.*edgevid convert"),
        (lambda m: m.update(format=2), "older edgevid.*format 2.*reads 3.*edgevid convert"),
        (lambda m: m.update(surprise=1), "unknown key 'surprise'"),
        (lambda m: m.pop("contract"), "lacks the key 'contract'"),
        (lambda m: m["contract"].update(surprise=1), "unknown key 'surprise'"),
        (lambda m: m["artifacts"][0].update(surprise=1), "unknown key 'surprise'"),
        (lambda m: m["artifacts"][0].pop("name"), "name"),
        (lambda m: m["artifacts"][0]["members"].append("artifacts/x.bin"), "x.bin is missing"),
        (lambda m: m["members"].pop("golden/clip.mp4"), "golden/clip.mp4' is not listed"),
        (lambda m: m["members"].update({"more": {"sha256": "0", "bytes": 1}}), "more is missing"),
        (lambda m: m["artifacts"][0]["members"].append("a\nb"), r"unsafe name 'a\\nb'"),
        (lambda m: m["artifacts"][0].update(name="a\nb"), r"unsafe name 'a\\nb'"),
        (lambda m: m["artifacts"][0].update(float_ops=7), "float_ops must be a list, not 7"),
        (lambda m: m["artifacts"][0].update(tolerance={"int8": "x"}), "int8 must be a number"),
        (lambda m: m.update(evidence=[]), "evidence must be a table, not a list"),
        (lambda m: m.update(artifacts={}), "artifacts must be a list, not a table"),
        (lambda m: m["members"].update({"more": 1}), "members: more must be a table, not 1"),
    ],
)
def test_a_manifest_that_cannot_be_used(made, tmp_path, change, said):
    with pytest.raises(BadBundle, match=said):
        Bundle.open(rewritten(made, tmp_path / "x.edgevid", change))


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "golden/../../evil", "a\\b", "a//b"])
def test_names_that_leave_the_folder_are_refused(made, tmp_path, name):
    def rename(old: str) -> str:
        return name if old == "golden/clip.mp4" else old

    with pytest.raises(BadBundle, match="unsafe name"):
        Bundle.open(rewritten(made, tmp_path / "x.edgevid", lambda m: None, rename))


def test_what_is_no_bundle(tmp_path):
    with pytest.raises(BadBundle, match="does not exist"):
        Bundle.open(tmp_path / "none.edgevid")
    with pytest.raises(BadBundle, match="is a folder"):
        Bundle.open(tmp_path)
    text = tmp_path / "text.edgevid"
    text.write_text("no zip")
    with pytest.raises(BadBundle, match="not an edgevid bundle"):
        Bundle.open(text)
    with zipfile.ZipFile(text, "w") as archive:
        archive.writestr("a", b"")
    with pytest.raises(BadBundle, match="not an edgevid bundle"):
        Bundle.open(text)


def test_what_would_block_or_may_not_be_read(tmp_path):
    pipe = tmp_path / "pipe.edgevid"
    os.mkfifo(pipe)
    with pytest.raises(BadBundle, match="is a device or a pipe"):
        Bundle.open(pipe)
    with pytest.raises(BadBundle, match="File name too long"):
        Bundle.open(tmp_path / ("x" * 300))
    with pytest.raises(BadBundle, match="Not a directory"):
        Bundle.open(Path("/dev/null/x.edgevid"))


def test_a_split_of_another_shape_is_refused(made, tmp_path):
    opened = Bundle.open(
        rewritten(made, tmp_path / "x.edgevid", lambda m: m["evidence"].update(split={"test": 3}))
    )
    with pytest.raises(BadInput, match="evidence: split: test must be a list"):
        _ = opened.split


def test_an_unknown_artifact_gets_the_nearest_name(made):
    with pytest.raises(BadInput, match="did you mean tflite-int8"):
        made.artifact("tflite-int9")


def test_an_interrupted_write_leaves_the_old_bundle(tmp_path, monkeypatch):
    path = tmp_path / "x.edgevid"
    before = make(path).path.read_bytes()

    def interrupt(members):
        raise KeyboardInterrupt

    monkeypatch.setattr(bundles, "serialise", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(path, note="y")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
