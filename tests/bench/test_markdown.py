"""Tables as Markdown: what they say is in the documents, and names mean nothing to Markdown."""

import copy
import json
import re

import pytest

from edgevid import __version__
from edgevid.bench.host.markdown import markdown
from edgevid.bench.tables import when
from edgevid.cli.bench import command
from rigs.benches import measured, numbers, numbers_of, read, with_sensors
from rigs.bundles import write_null


@pytest.fixture(scope="module")
def document(tmp_path_factory, video):
    path = write_null(tmp_path_factory.mktemp("markdown") / "motion.edgevid", latency_ms=2)
    return measured(path, video)


def tables(text):
    """Each table as rows of cells; an escaped bar is no border."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows:
            found.append(rows)
            rows = []
    return found


def test_every_number_is_in_the_document(document):
    board = with_sensors(document)
    for documents in ([document], [document, board]):
        reported = (
            numbers_of(documents)
            | numbers(__version__)
            | numbers(" ".join(map(when, read(*documents))))
        )
        shown = numbers(markdown(read(*documents)).replace("95 %", ""))
        assert len(shown) > 50
        assert shown <= reported, shown - reported


def test_tables_are_whole(document):
    found = tables(markdown(read(document)))
    assert len(found) >= 4
    for rows in found:
        assert len({len(row) for row in rows}) == 1
        assert set(rows[1]) == {"---"}
    assert len(found[0]) == 2 + len(document["results"])


def test_the_verdict_and_reasons_come_first(document):
    board = with_sensors(document)
    text = markdown(read(document, board))
    assert text.index("**gate-1: INVALID**") < text.index("86 °C") < text.index("| device |")
    assert "slowed \\<down\\>" in text
    assert text.count("insufficient, needs 662") == 2 * (
        len(document["results"]) + 1
    )  # and the runner


def test_names_mean_nothing_to_markdown(document):
    bad = copy.deepcopy(document)
    name = "a|b `c` *d* <img src=x>\n# e [f](g)"
    bad["bundle"]["name"] = bad["source"]["name"] = name
    for one in bad["results"]:
        one["job"]["artifact"] = name
    text = markdown(read(bad))
    assert not re.search(r"(?<!\\)(<img|`c`|\*d\*|\[f)", text)
    assert "\n# e" not in text
    for rows in tables(text):
        assert len({len(row) for row in rows}) == 1


def test_a_comparison_is_reported(document):
    ratio = {"value": 1.1, "low": 1.05, "high": 1.15}
    verdict = {"outcome": "worse", "ratio": ratio, "p_value": 0.001, "why": "takes longer: +10.0%"}
    one = {"job": "j", "metric": "step p50", "verdict": verdict, "tail": False}
    reported = {
        **document,
        "comparison": {"outcome": "worse", "paired": True, "comparisons": [one]},
    }
    text = markdown(read(reported))
    assert "| j | step p50 | 1.100 (1.050-1.150) | worse | takes longer: +10.0% |" in text
    assert "**WORSE**" in text


def test_the_command_line_prints_or_writes_it(capsys, edgevid, document, tmp_path, video):
    path, out = tmp_path / "result.json", tmp_path / "result.md"
    path.write_text(json.dumps(document))
    done = edgevid("bench", "report", path, "--markdown", "-")
    assert done.stdout == markdown(read(document))
    bundle = write_null(tmp_path / "motion.edgevid")
    short = ("--scenario", "step", "--samples", 100, "--rounds", 2)
    words = (bundle, "--source", video, *short, "--markdown", out, "--page", tmp_path / "p.html")
    code = command.main([*map(str, words)], standalone_mode=False)
    assert code in (0, 3)
    assert "VALID" in capsys.readouterr().out
    assert out.read_text().startswith("# Bench of motion\n")
    assert (tmp_path / "p.html").read_text().startswith("<!doctype html>")
