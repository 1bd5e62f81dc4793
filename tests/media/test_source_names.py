"""Names of sources as people write them: colons, dashes, blanks, URLs, homes, capitals."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevid import registry
from edgevid.errors import BadInput
from edgevid.media.sources import (
    SourceOptions,
    local_file,
    open_source,
    relative_to,
    resolve,
    scheme_of,
)

NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=12
).filter(lambda name: name not in (".", ".."))


def is_url(name: str) -> bool:
    scheme, colon, _ = name.partition(":")
    return bool(colon) and registry.has("source", scheme.lower())


@given(NAMES)
def test_any_name_without_a_known_scheme_is_that_file(name):
    if is_url(name) or name.startswith(("~", "$HOME", "${HOME}")):
        return
    assert local_file(name) == Path(name)
    assert local_file(f"./{name}") == Path(name)


@given(NAMES)
def test_a_dot_before_any_name_makes_it_that_file(name):
    assert scheme_of(f"./{name}") == "file"
    assert str(local_file(f"./{name}")) == name


@given(NAMES)
def test_a_file_url_leads_to_any_name(name):
    for url in (f"file:///videos/{quote(name)}", f"FILE://localhost/videos/{quote(name)}"):
        assert local_file(url) == Path("/videos") / name


@given(NAMES, st.sampled_from(["/a", "b", "c:d"]))
def test_a_relative_file_stays_that_file_below_any_folder(name, folder):
    if is_url(name) or name.startswith(("~", "$HOME", "${HOME}")):
        return
    assert local_file(relative_to(name, Path(folder))) == Path(folder) / name


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_text_is_a_source_or_one_line(name):
    try:
        resolve(name)
    except BadInput as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("name", "scheme", "means"),
    [
        ("RTSP://Host/Stream", "rtsp", "rtsp://Host/Stream"),
        ("Https://h/a?B=C", "https", "https://h/a?B=C"),
        ("Synthetic:64x48@5", "synthetic", "synthetic:64x48@5"),
        ("12:30:05.mp4", "file", "12:30:05.mp4"),
        ("a:b.mp4", "file", "a:b.mp4"),
        ("-x.mp4", "file", "-x.mp4"),
        ("C:\\video.mp4", "file", "C:\\video.mp4"),
        ("2026-01-01://x.mp4", "file", "2026-01-01://x.mp4"),
    ],
)
def test_the_case_of_a_scheme_does_not_matter_but_that_of_the_rest_does(name, scheme, means):
    plugin, address = resolve(name)
    assert address.scheme == scheme
    assert address.name == means
    if plugin.local == "file":
        assert address.target == means


def test_a_file_url_of_another_machine_is_rejected():
    with pytest.raises(BadInput, match="points to another machine; write file:///path"):
        resolve("file://server/share/clip.mp4")


def test_home_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    for name in ("~/a.mp4", "$HOME/a.mp4", "file:~/a.mp4"):
        assert local_file(name) == Path("/home/ada/a.mp4")
        assert relative_to(name, Path("/etc")) == "/home/ada/a.mp4"


NAMED = ["12:30:05.mp4", "a:b.mp4", "-x.mp4", " two  blanks .mp4", "50%20off.mp4", "http:x.mp4"]


@pytest.mark.parametrize("name", [*NAMED, os.fsdecode(b"caf\xe9.mp4"), "img%03d.mp4", "a?b#c.mp4"])
def test_a_file_of_any_name_is_played(video, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).symlink_to(video)
    relative = f"./{name}" if name.startswith("http:") else name
    names = [relative, str(tmp_path / name), f"file://{quote(os.fsencode(tmp_path / name))}"]
    for one in names:
        source = open_source(one, SourceOptions(), lambda line: None)
        assert sum(1 for _ in source) == 40
        source.close()


def test_a_literal_name_comes_before_its_escapes(video, tmp_path):
    (tmp_path / "a%20b.mp4").symlink_to(video)
    assert local_file(f"file://{tmp_path}/a%20b.mp4") == tmp_path / "a%20b.mp4"
    (tmp_path / "a%20b.mp4").rename(tmp_path / "a b.mp4")
    assert local_file(f"file://{tmp_path}/a%20b.mp4") == tmp_path / "a b.mp4"


@pytest.mark.parametrize("name", ["http:x.mp4", "RTSP:x.mp4", "v4l2:x.mp4", "file:x.mp4"])
def test_a_file_that_is_named_like_an_address_is_pointed_out(video, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as caught:
        open_source(name, SourceOptions(), lambda line: None)
    assert "./" not in str(caught.value)
    (tmp_path / name).symlink_to(video)
    with pytest.raises(BadInput, match=f"; or ./{name} for the file of that name$"):
        open_source(name, SourceOptions(), lambda line: None)
    open_source(f"./{name}", SourceOptions(), lambda line: None).close()


@pytest.mark.parametrize("name", ["-x.mp4", "--rate-x.mp4"])
def test_a_file_that_is_named_like_an_option_is_pointed_out(
    video, tmp_path, monkeypatch, edgevid, null_bundle, name
):
    monkeypatch.chdir(tmp_path)
    absent = edgevid("run", null_bundle, name)
    assert absent.returncode == 2 and "No such option" in absent.stderr
    assert "./" not in absent.stderr
    (tmp_path / name).symlink_to(video)
    assert f"For a file of that name, write ./{name}\n" in edgevid("run", null_bundle, name).stderr
    assert edgevid("run", null_bundle, f"./{name}", "--json").returncode == 0
