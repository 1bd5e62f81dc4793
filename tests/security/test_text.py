"""Untrusted text reaches a terminal, a log or JSON Lines only as printable characters."""

from __future__ import annotations

import ast
import io
import json
import os
import sys
import tomllib
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgevid
from edgevid.cli import console
from edgevid.files import canonical_json
from edgevid.flash.agent.store import Store
from edgevid.flash.agent.supervisor import Supervisor
from edgevid.report import pages
from edgevid.sinks import jsonl
from edgevid.text import is_printable, printable, printable_bytes, printable_json
from edgevid_converters import child_process, library_errors
from edgevid_converters.importers import contract_draft, tensors
from rigs.command import call_edgevid

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2028next\r\nedgevid: fine\u200b\x7f\ufeff"
PLAIN = (
    "Tür Größe naïve Ελληνικά кириллица 한국어 日本語　漢字 العربية हिन्दी ไทย",
    "😀 👩‍💻 🏳️‍🌈 ❤️ 👍🏽 ✓ ½ € – “quoted” 10\u00a0%",
)


def hidden(text: str) -> set[str]:
    """Characters of a text that must not reach a terminal, apart from line feeds."""
    return {one for one in text if one != "\n" and unicodedata.category(one) in ("Cc", "Cf", "Zl")}


def test_every_character_that_is_not_printable_is_escaped():
    for code in range(0x110000):
        one = chr(code)
        kind = unicodedata.category(one)
        if kind in ("Cc", "Cf", "Zl", "Zp", "Co"):
            shown = printable(one)
            assert shown != one and shown.isascii() and shown.isprintable(), hex(code)
            assert printable_json(json.dumps(one, ensure_ascii=False)).isprintable(), hex(code)
        elif kind[0] in "LNPS" and one.isprintable() and "FILLER" not in unicodedata.name(one, ""):
            assert printable(one) == one, hex(code)


@pytest.mark.parametrize("text", PLAIN)
def test_text_of_any_script_and_emoji_stay_as_they_are(text):
    assert printable(text) == text and is_printable(text)
    document = json.dumps(text, ensure_ascii=False)
    assert printable_json(document) == document


def test_escapes_are_visible_and_on_one_line():
    assert printable("a\x1b[31mb\u202ec\x9bd\r\ne") == r"a\x1b[31mb\u202ec\x9bd\r\ne"
    assert printable("a\tb\nc\x0b", lines=True) == "a\tb\nc\\x0b"
    assert printable("a\u200db") == r"a\u200db"  # joins no emoji
    assert printable("\U000e0041") == r"\U000e0041"
    assert printable(b"\x9b1m \xe9".decode(errors="surrogateescape")) == "\\x9b1m \udce9"


@given(st.text())
def test_json_means_the_same_and_is_shown_safely(text):
    shown = printable_json(json.dumps({text: [text]}, ensure_ascii=False))
    assert json.loads(shown) == {text: [text]}
    assert not hidden(shown.replace("\u200d", ""))


def test_an_error_is_one_line_whatever_a_file_is_called():
    name = "x\x1b[2J\u202e\x9b.edgevid"
    for more in ((), ("--json",), ("--debug",)):
        done = call_edgevid("inspect", name, *more)
        assert done.returncode == 2
        assert r"x\x1b[2J\u202e\x9b.edgevid does not exist" in done.stderr
        assert not hidden(done.stdout + done.stderr)
        if more != ("--debug",):
            assert len(done.stderr.splitlines()) == 1
    assert name in json.loads(call_edgevid("inspect", name, "--json").stdout)["error"]


def test_messages_tables_and_progress_pass_the_filter(monkeypatch, capsys):
    """A device's texts in flash, fleet and jobs, and the runner's reports, go through these."""
    console.say(f"device: {EVIL}")
    console.Bar()(EVIL, 1, 1, EVIL)
    found = capsys.readouterr().err
    assert len(found.splitlines()) == 2 and not hidden(found)
    table = console.table([[EVIL, 1]], ["name\x1b[2J", "count"])
    console.emit({"text": EVIL}, False, table)
    found = capsys.readouterr().out
    assert len(found.splitlines()) == 2 and not hidden(found)

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    console.Bar()(EVIL, 1, 1, EVIL)
    assert terminal.getvalue().startswith("\r\x1b[K")  # its own, and nothing else
    assert not hidden(terminal.getvalue().removeprefix("\r\x1b[K"))


def test_json_lines_and_documents_pass_the_filter():
    for text in (jsonl.encode({"label": EVIL}), canonical_json({"note": EVIL}).decode()):
        assert not hidden(text) and EVIL in json.loads(text).values()


def test_pages_show_marks_that_turn_the_direction_of_writing():
    page = pages.render(
        pages.TEMPLATES, "base.html", title=EVIL, lead="a\u202eb", footer="<b>\u2066"
    )
    assert not hidden(page) and r"a\u202eb" in page and "&lt;b&gt;" in page


def test_logs_of_children_and_libraries_are_safe_to_show(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert printable_bytes(b"one\x1b[2J\r\ntwo\xff") == "one\\x1b[2J\ntwo\ufffd".encode()
    library_errors.first_line(ValueError("long " * 100 + "\x1b[2J\u202e"))
    outcome = child_process.ChildOutcome(1, b"", EVIL.encode())
    monkeypatch.setattr(child_process, "_run", lambda *_: outcome)
    with pytest.raises(child_process.ChildFailed):
        child_process.ask("reading x", {"do": "describe", "kind": "tflite"}, read=(), timeout_s=1)
    logs = list((tmp_path / "edgevid" / "logs").iterdir())
    assert len(logs) == 2
    for log in logs:
        assert not hidden(log.read_text())


WRITERS = {
    "cli/__init__.py": {"click.echo"},  # click's own help
    "cli/console.py": {"click.echo"},
    "flash/installer.py": {"sys.stderr.write"},  # a sentence of its own
    "flash/target_lock.py": {"print"},  # for maintainers: names of targets
}
"""Where something writes to a terminal itself; the agent and the test kits are other programs."""


def test_nothing_writes_to_the_terminal_but_the_console():
    """Commands, the runner, flash, fleet hand their texts to the functions tested above."""
    found: dict[str, set[str]] = {}
    root = Path(edgevid.__file__).parent
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root).as_posix()
        if name.startswith(("flash/agent/", "testing/")):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in WAYS:
                found.setdefault(name, set()).add(called)
    assert found == WRITERS


WAYS = {
    *("print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"),
    *("traceback.print_exc", "traceback.print_exception", "sys.stdout.buffer.write"),
}


def test_the_log_of_a_device_without_systemd_is_safe_to_show(tmp_path):
    store = Store(tmp_path)
    supervisor = Supervisor(store)
    reading, writing = os.pipe()
    os.write(writing, EVIL.encode() + "Tür 日本\n".encode() + b"\xff\n")
    with (tmp_path / "service.log").open("ab") as log:
        assert supervisor._keep(reading, log)
    os.close(reading)
    os.close(writing)
    text = (tmp_path / "service.log").read_text(errors="replace")
    assert not hidden(text) and r"\x1b]0;owned\x07" in text and "Tür 日本\n" in text


def test_a_draft_of_a_contract_shows_what_a_models_names_hide():
    name = "image\x1b[2J\u202e\nlabels"
    given, output = (
        tensors.TensorInfo(name, (1, 8, 8, 3), "float32"),
        tensors.TensorInfo("scores\x9b", (1, 3), "float32"),
    )
    text = contract_draft.draft("x\x1b.onnx", [given], [output])
    assert not hidden(text)
    (image,) = tomllib.loads(text)["input"]
    assert image["input"] == name
