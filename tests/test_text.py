"""Text that people hand in: whatever an editor makes of it is read, or one line says where not."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevid import settings
from edgevid.errors import BadInput
from edgevid.text import LIMIT_BYTES, decode, expand, read_lines, read_secret, read_text

LINES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0\ufeff"), max_size=8),
    min_size=1,
    max_size=6,
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
CODECS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"])


@given(LINES, ENDS, CODECS)
def test_every_encoding_and_line_end_gives_the_same_text(lines, end, codec):
    assert decode(end.join(lines).encode(codec), "x") == "\n".join(lines)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_the_byte_order_of_a_mark_counts(codec):
    assert decode("\ufeffä = 1\n".encode(codec), "x") == "ä = 1\n"


@given(LINES, ENDS, st.integers(0, 5))
def test_latin_1_is_one_line_with_its_number(lines, end, at):
    at = min(at, len(lines) - 1)
    content = [line.encode() for line in lines]
    content[at] += b"Caf\xe9!"
    with pytest.raises(BadInput, match=rf"^site.toml:{at + 1}: is not UTF-8; save it as UTF-8$"):
        decode(end.encode().join(content), "site.toml")


@given(st.binary(max_size=60))
def test_any_bytes_are_text_or_one_line(content):
    try:
        text = decode(content, "x")
    except BadInput as error:
        assert str(error).startswith("x:")
        assert "\n" not in str(error)
    else:
        assert "\r" not in text
        assert "\0" not in text


def test_a_nul_byte_has_its_line():
    with pytest.raises(BadInput, match=r"^x:2: contains a NUL byte"):
        decode(b"a\nb\0", "x")
    with pytest.raises(BadInput, match="NUL byte"):  # UTF-16 without a mark
        decode("name = 1".encode("utf-16-le"), "x")


def test_what_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(BadInput, match="gone: No such file or directory; use a list of labels"):
        read_text(tmp_path / "gone", use="a list of labels")
    with pytest.raises(BadInput, match="Is a directory"):
        read_text(tmp_path)
    with pytest.raises(BadInput, match="not a usable name"):
        read_text(tmp_path / "a\0b")
    large = tmp_path / "large"
    large.write_bytes(b"x" * (LIMIT_BYTES + 1))
    with pytest.raises(BadInput, match="too large for a text file"):
        read_text(large)


def test_a_pipe_is_read_to_its_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(b"a\r\nb"))
    writer.start()
    assert read_text(tmp_path / "pipe") == "a\nb"
    writer.join()


def test_lines_have_no_blanks_around_them(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeffdoor open \r\n\r\n  door closed\t\r\n\r\n".encode("utf-16-le"))
    assert read_lines(file) == ("door open", "door closed")
    file.write_text("a\u2028b\nc\n")
    assert read_lines(file) == ("a\u2028b", "c")  # only line ends end a line


@pytest.mark.parametrize("content", [b" pass word", b" pass word\n", b"\xef\xbb\xbf pass word\r\n"])
def test_a_secret_is_one_line_with_its_blanks(tmp_path, content):
    file = tmp_path / "password"
    file.write_bytes(content)
    assert read_secret(file) == " pass word"
    file.write_bytes(content + b"\nsecond\n")
    with pytest.raises(BadInput, match="has several lines") as caught:
        read_secret(file)
    assert "second" not in str(caught.value)


def test_a_home_folder_is_expanded_at_the_start_only(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert (
        expand("~/a.mp4") == expand("$HOME/a.mp4") == expand("${HOME}/a.mp4") == "/home/ada/a.mp4"
    )
    assert expand("~") == "/home/ada"
    assert expand("~root/a") == os.path.expanduser("~root/a")  # noqa: PTH111
    for same in ("./~", "a/~/b", "$HOMER/a", "a~", "~nobody-here/a", "/x/$HOME"):
        assert expand(same) == same


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_toml_in_the_encodings_of_editors_keeps_its_lines(tmp_path, codec):
    file = tmp_path / "site.toml"
    file.write_bytes("a = 1\r\n[table]\r\nb = 'ä'\r\n".encode(codec))
    document = settings.read(file)
    assert document.data == {"a": 1, "table": {"b": "ä"}}
    assert document.line(("table", "b")) == 3
