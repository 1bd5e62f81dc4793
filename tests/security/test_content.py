"""What an untrusted file declares is checked before memory or time is spent on it."""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgevid import bundle as bundles
from edgevid.bundle import Bundle
from edgevid.content import JSON_DEPTH, JSON_ENTRIES, load_npy, load_npz, parse_json
from edgevid.contract import Contract, FrameInput, Output, StateTensor, VectorInput
from edgevid.doctor import hardware
from edgevid.errors import BadBundle, BadInput, BadVideo
from edgevid.isolation.child_task import ChildOutcome
from edgevid.media.video import read_clip
from edgevid.proof import Golden
from edgevid.proof.replay import MOST_CLIP_FRAMES, check_pixels
from rigs.bundles import CONTRACT, write_null
from rigs.machines import PI5, machine

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return write_null(tmp_path_factory.mktemp("made") / "x.edgevid")


def rewritten(made: Path, path: Path, change=None, members=None) -> Path:
    """A copy with a changed manifest or members, and correct hashes."""
    from edgevid.files import canonical_json, sha256_of

    with zipfile.ZipFile(made) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(content.pop("manifest.json"))
    content |= members or {}
    manifest["members"] = {
        name: {"bytes": len(one), "sha256": sha256_of(one)} for name, one in content.items()
    }
    if change:
        change(manifest)
    text = canonical_json(manifest) if isinstance(manifest, dict) else manifest
    path.write_bytes(bundles.serialise({**content, "manifest.json": text}))
    return path


def peak_of(act) -> int:
    """The peak memory of a call in bytes, as counted by NumPy and Python."""
    import tracemalloc

    tracemalloc.start()
    try:
        act()
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


def refused(act, text: str, error: type[Exception] = BadInput) -> None:
    """Check that a call is refused in one line without allocating much memory."""

    def attempt() -> None:
        with pytest.raises(error, match=text) as caught:
            act()
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600

    assert peak_of(attempt) < 64 * MEGABYTE


# ---------------------------------------------------------------- contract


def test_tensors_that_no_memory_holds_are_refused_in_one_line():
    def vectors(*shapes):
        return tuple(VectorInput(f"v{n}", shape) for n, shape in enumerate(shapes))

    huge = replace(CONTRACT, outputs=(Output("scores", (1, 25_000_000_000)),))
    refused(huge.check, "'scores' has an unusable shape; every axis needs")
    many = replace(CONTRACT, inputs=vectors(*[(1, 1 << 27)] * 4))
    refused(many.check, "declares tensors of 5368.* elements in total; a step may have 2684")
    deep = replace(CONTRACT, inputs=vectors((1,) * 100_000))
    refused(deep.check, "has 100000 axes; use at most 8")
    crowd = replace(CONTRACT, states=tuple(StateTensor(f"s{n}", (1,)) for n in range(2000)))
    refused(crowd.check, "contract has 2002 tensors; a step may have 1024")
    refused(replace(CONTRACT, frames=1 << 40).check, "frames must be from 1 to 1048576")
    refused(replace(CONTRACT, inputs=(FrameInput("f", 10_000, 10_000),)).check, "unusable shape")


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["dark", "mid\x1b[2J", "bright"]},
        {"labels": ["dark", "mid\u202e", "bright"]},
        {"labels": ["dark", "mid\nedgevid: fine", "bright"]},
        {"task": "classific\u200bation"},
        {"outputs": [{"name": "scores\x9b", "shape": [1, 3]}]},
        {"options": {"note": "\u2066"}},
        {"options": {"a": {"b\x07": 1}}},
    ],
)
def test_texts_of_a_contract_are_printable(made, tmp_path, change):
    with pytest.raises(BadInput, match="has characters that are not printable; leave") as caught:
        Contract.from_json({**CONTRACT.to_json(), **change})
    assert str(caught.value).isprintable()
    path = rewritten(made, tmp_path / "x.edgevid", lambda m: m["contract"].update(change))
    with pytest.raises(BadBundle, match="not printable") as caught:
        Bundle.open(path)
    assert str(caught.value).isprintable()


def test_labels_of_every_script_are_printable():
    labels = ["Tür", "日本語", "人 👩‍💻"]
    assert Contract.from_json({**CONTRACT.to_json(), "labels": labels}).labels == tuple(labels)


# ---------------------------------------------------------------- manifest


def test_notes_in_the_evidence_are_printable(made, tmp_path):
    note = {"gates": {"max_drop": 0.01, "notes": ["fine\x1b[2J"]}}
    path = rewritten(made, tmp_path / "x.edgevid", lambda m: m.update(evidence=note))
    with pytest.raises(BadBundle, match=r"evidence\.gates\.notes: 'fine\\x1b\[2J' has"):
        Bundle.open(path)
    written = bundles.write(tmp_path / "y.edgevid", CONTRACT, [], {}, note)
    assert written.evidence["gates"]["notes"] == [r"fine\x1b[2J"]  # as convert writes it
    names = {"split": {"test": ["a\u200b.mp4"]}}
    assert bundles.write(tmp_path / "z.edgevid", CONTRACT, [], {}, names).split == {
        "test": ("a\u200b.mp4",)
    }


def nested(depth: int) -> dict:
    value: dict = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("evidence", "text"),
    [
        (nested(JSON_DEPTH + 3), "is nested too deeply"),
        ({"versions": {"python": "x" * 10_000}}, "a text has 10000 characters"),
        ({"x" * 10_000: 1}, "a text has 10000 characters"),
    ],
)
def test_depth_and_texts_of_a_manifest_are_limited(made, tmp_path, evidence, text):
    path = rewritten(made, tmp_path / "x.edgevid", lambda m: m.update(evidence=evidence))
    refused(lambda: Bundle.open(path), text, BadBundle)


def test_size_and_entries_of_a_manifest_are_limited(tmp_path):
    for content in (b"[" * 600_000, b"[" + b"[]," * JSON_ENTRIES + b"[]]", b" " * (17 << 20)):
        with pytest.raises(ValueError, match=r"entries|larger|deeply"):
            parse_json(content)
        path = tmp_path / "x.edgevid"
        path.write_bytes(bundles.serialise({"manifest.json": content}))
        refused(lambda path=path: Bundle.open(path), "manifest.json is", BadBundle)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'["]", ' * 100_000, b'["\\"]", {"a":' * 50_000]
)
@pytest.mark.parametrize("limit", [1000, 2**31 - 1])
def test_nesting_is_limited_whatever_limit_of_recursion_a_library_has_set(content, limit):
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(content)
        assert ChildOutcome(0, content, b"").result() is None
    finally:
        sys.setrecursionlimit(before)
    with pytest.raises(ValueError, match="codec"):
        parse_json('["\u2222"]'.encode("utf-16"))
    assert parse_json(b'["[[[", {"\\"[": "]"}]') == ["[[[", {'"[': "]"}]


def test_a_zip_that_declares_too_many_members_is_refused_before_they_are_read(made, tmp_path):
    content = bytearray(made.read_bytes())
    path = tmp_path / "x.edgevid"
    content[-12:-10] = content[-14:-12] = (60_000).to_bytes(2, "little")
    path.write_bytes(content)
    refused(lambda: Bundle.open(path), "has more than 10000 members", BadBundle)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(70_000):  # beyond what the first format can count
            archive.writestr(f"m/{number}", b"")
    refused(lambda: Bundle.open(path), "has more than 10000 members", BadBundle)
    path.write_bytes(made.read_bytes()[:-2] + b"\x05\0hello")
    refused(lambda: Bundle.open(path), "headers are damaged", BadBundle)


# ---------------------------------------------------------------- arrays


def npy(shape: str, content: bytes, descr: str = "'<f4'") -> bytes:
    """A ``.npy`` file with an arbitrary header."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (64 - (len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


LYING = (
    npy("(25000000000,)", bytes(64)),
    npy("(1000000, 1000000, 1000000)", b""),
    npy("(17,)", bytes(64)),
    npy("(15,)", bytes(64)),
    npy("(-16,)", bytes(64)),
    npy("(16,)", bytes(64), "'|O'"),
    npy("(1000000000000,)", b"", "'|V0'"),
    b"\x93NUMPY\x09\x00" + bytes(64),
    b"",
)


@pytest.mark.parametrize("number", range(len(LYING)))
def test_an_array_declares_what_it_holds(made, tmp_path, number):
    content = LYING[number]
    refused(lambda: load_npy(content), ".", ValueError)
    (name,) = [one for one in Bundle.open(made).names if one.endswith("0/input_frame.npy")]
    path = rewritten(made, tmp_path / "x.edgevid", members={name: content})
    refused(lambda: Golden.read(Bundle.open(path)), f"member {name} is damaged", BadBundle)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("frame.npy", content)
    refused(lambda: load_npz(tmp_path / "x.npz"), ".", ValueError)


def test_honest_arrays_are_read(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    buffer = io.BytesIO()
    np.save(buffer, values)
    np.testing.assert_array_equal(load_npy(buffer.getvalue()), values)
    np.savez_compressed(tmp_path / "x.npz", a=values, b=values.T, c=np.float64(2), d=values[:0])
    found = load_npz(tmp_path / "x.npz")
    assert set(found) == {"a", "b", "c", "d"} and found["d"].shape == (0, 4)
    np.testing.assert_array_equal(found["b"], values.T)


def test_an_npz_that_unpacks_to_more_than_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("edgevid.content.NPZ_BYTES", 8 * MEGABYTE)
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(16 * MEGABYTE, np.uint8))
    assert (tmp_path / "x.npz").stat().st_size < MEGABYTE
    refused(lambda: load_npz(tmp_path / "x.npz"), "unpacks to more than", ValueError)


@pytest.mark.parametrize("ending", ["sliding-9-2", "sliding-1-999999999", "sliding-0-1"])
def test_what_an_array_stands_for_is_limited(made, tmp_path, ending):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((200_000, 2), np.float32))
    name = f"golden/0/input_frame.{ending}.npy"
    path = rewritten(made, tmp_path / "x.edgevid", members={name: buffer.getvalue()})
    refused(lambda: Golden.read(Bundle.open(path)), "is damaged", BadBundle)
    half = "golden/0/input_other.sliding-1-100000.npy"
    path = rewritten(made, tmp_path / "x.edgevid", members={half: buffer.getvalue()})
    refused(lambda: Golden.read(Bundle.open(path)), "expands to 74 GB", BadBundle)


# ---------------------------------------------------------------- golden clip


def clip(width: int, height: int, frames: int) -> bytes:
    """A video without motion, which is tiny."""
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        image = av.VideoFrame(width, height, "yuv420p")
        for plane in image.planes:
            plane.update(bytes(plane.buffer_size))
        for number in range(frames):
            image.pts = number
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return buffer.getvalue()


def test_frames_and_pixels_of_a_golden_clip_are_limited(monkeypatch):
    frame = FrameInput("frame", 16, 24)
    long = clip(64, 48, 200)
    assert len(read_clip(io.BytesIO(long), frame, 10.0)) == 200  # a user's own clip may be
    with pytest.raises(BadVideo, match="has more than 64 frames"):
        read_clip(io.BytesIO(long), frame, 10.0, most_frames=MOST_CLIP_FRAMES)
    short = clip(64, 48, 5)
    assert len(read_clip(io.BytesIO(short), frame, 10.0, most_frames=5)) == 5
    monkeypatch.setattr("edgevid.media.video.MAX_CLIP_PIXELS", 64 * 48 * 4)
    with pytest.raises(BadVideo, match="million pixels"):
        read_clip(io.BytesIO(short), frame, 10.0, most_frames=5)


def test_a_golden_clip_that_is_too_long_fails_the_proof():
    golden = Golden((), {}, clip(64, 48, 200), np.zeros((200, 16, 24, 3), np.uint8))
    assert "has more than 64 frames" in (check_pixels(golden, CONTRACT) or "")


def test_large_images_are_refused_before_memory_is_taken_for_them():
    """A JPEG declares its size in a few bytes; a decoder would take 300 MB for each image."""
    av = pytest.importorskip("av")
    from edgevid.media import ffmpeg

    header = "FFD8FFC0001108{:04x}{:04x}03012200021101031101"
    jpeg = bytes.fromhex(header.format(10_000, 10_000)) + bytes.fromhex("FFDA") + bytes(500)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        packet = av.Packet(jpeg)
        packet.stream, packet.pts, packet.dts = stream, 0, 0
        container.mux(packet)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadVideo):
        read_clip(io.BytesIO(buffer.getvalue()), FrameInput("f", 16, 24), 10.0, most_frames=64)
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb < 100_000
    assert ffmpeg.MAX_PIXELS < 10_000 * 10_000


# ---------------------------------------------------------------- memory on the device

SERVE = """
import sys
from pathlib import Path
from types import SimpleNamespace
from edgevid.flash.agent import supervisor
from edgevid.flash.agent.store import Store
root = Path(sys.argv[1])
manifest = SimpleNamespace(id="one", runner="r", memory_mb=int(sys.argv[2]), user="root")
store = Store(root)
store.current, store.manifest = lambda: "one", lambda _: manifest
store.release = store.lib = lambda _: root
supervisor.serve(store)
"""
RUNNER = """
import resource
try:
    held = bytearray(400 << 20)
    print("taken")
except MemoryError:
    print("refused", resource.getrlimit(resource.RLIMIT_DATA))
"""


def test_the_runner_gets_the_memory_that_the_signed_release_grants(tmp_path):
    """Without any cgroup: the kernel's limit on private memory, set before the runner begins."""
    (tmp_path / "edgevid").mkdir()
    (tmp_path / "edgevid" / "__init__.py").touch()
    (tmp_path / "edgevid" / "__main__.py").write_text(RUNNER)

    def served(memory_mb: int) -> str:
        args = [sys.executable, "-c", SERVE, str(tmp_path), str(memory_mb)]
        return subprocess.run(args, capture_output=True, text=True, check=True).stdout

    assert served(128) == f"refused ({256 << 20}, {256 << 20})\n"
    assert served(512) == "taken\n"
    assert served(0) == "taken\n"


def test_the_doctor_says_when_the_memory_cgroup_is_off(tmp_path):
    def look(name: str, **files: str):
        root = machine(tmp_path / name, PI5, **files)
        (found,) = [one for one in hardware.checks(root) if one.name == "memory limits"]
        return found

    off = look("off", proc__cgroups="#name\nmemory\t0\t100\t0\n")
    assert off.state == "warn" and off.found == "memory cgroup: off"
    assert "cgroup_enable=memory" in off.do and "\n" not in off.do
    second = {"sys__fs__cgroup__cgroup.controllers": "cpuset cpu io pids\n"}
    assert look("v2 off", **second).state == "warn"
    second = {"sys__fs__cgroup__cgroup.controllers": "cpuset cpu io memory pids\n"}
    assert look("v2 on", proc__cgroups="memory\t0\t1\t0\n", **second).state == "ok"
    assert look("v1 on", proc__cgroups="memory\t4\t9\t1\n").found == "memory cgroup: on"
    assert look("unknown").state == "ok"
