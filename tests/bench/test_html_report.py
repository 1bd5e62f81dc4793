"""Pages: what they say is in the documents, and they need nothing but a browser."""

import copy
import json
import re
import xml.etree.ElementTree as ET
from html import escape
from html.parser import HTMLParser

import pytest

from edgevid import __version__
from edgevid.bench.report import charts
from edgevid.bench.report.html import page
from edgevid.bench.tables import when
from edgevid.errors import BadInput
from edgevid.report import svg
from rigs.benches import measured, numbers, numbers_of, with_sensors
from rigs.bundles import write_null


@pytest.fixture(scope="module")
def document(tmp_path_factory, video):
    path = write_null(tmp_path_factory.mktemp("page") / "motion.edgevid", latency_ms=2)
    return measured(path, video)


@pytest.fixture(scope="module")
def board(document):
    return with_sensors(document)


class Words(HTMLParser):
    """What one reads of a page, but for the ticks of axes; and whether all its tags are closed."""

    def __init__(self):
        super().__init__()
        self.open, self.words, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self.open.append((tag, dict(attrs).get("class")))

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        tag, kind = self.open[-1] if self.open else ("", "")
        if tag != "style" and kind != "axis":
            self.words.append(data)


def read(html):
    words = Words()
    words.feed(html)
    assert not words.open
    return words


PROSE = {"95", "1"}  # "95 %", and the colours' names do not count; "gate-1"


def test_every_number_on_the_page_is_in_the_document(document, board):
    for documents in ([document], [board], [document, board]):
        told = numbers_of(documents) | numbers(__version__) | PROSE
        told |= numbers(" ".join(map(when, documents)))
        shown = numbers(" ".join(read(page(documents)).words))
        assert len(shown) > 50
        assert shown <= told, shown - told


def test_figures_stand_in_it_with_their_intervals(document):
    html = page([document])
    for one in document["results"]:
        found = charts.figures(one)["p50"]
        assert f"{found['value']:.4g} ({found['low']:.4g}–{found['high']:.4g})" in html
        assert charts.figures(one)["p99"] == {"insufficient": 662}
    assert html.count("insufficient, needs 662") >= 2 * len(document["results"])


def test_nothing_is_fetched_and_nothing_runs(document, board):
    html = page([document, board])
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script|<link|<iframe|javascript:", html)
    names = {name for name, _ in read(html).attributes}
    assert not names & {"src", "href", "xlink:href", "srcset", "action"}
    assert not any(name.startswith("on") for name in names)


HOSTILE = '<img src=x onerror="alert(1)">&\''


def test_names_and_reasons_are_escaped(board):
    bad = copy.deepcopy(board)
    bad["bundle"]["name"] = bad["device"]["name"] = bad["source"]["name"] = HOSTILE
    bad["machine"]["cpu"]["model"] = bad["release"] = HOSTILE
    bad["bundle"]["artifacts"][0]["name"] = HOSTILE
    for one in bad["results"]:
        one["job"]["artifact"] = HOSTILE
        one["job"]["runtime"] = HOSTILE
        one["operators"]["kinds"][0]["kind"] = HOSTILE
        one["reasons"] = [HOSTILE]
    bad["reasons"] = [HOSTILE]
    html = page([bad])
    assert HOSTILE not in html
    assert "<img" not in html
    assert html.count(escape(HOSTILE)) > 20
    assert not any(name == "onerror" for name, _ in read(html).attributes)


def test_the_verdict_and_its_reasons_stand_first(document, board):
    html = page([board])
    reason = escape(board["reasons"][0])
    assert html.index("INVALID") < html.index(reason) < html.index("<table")
    good = copy.deepcopy(document) | {"valid": True, "reasons": []}
    for one in good["results"]:
        one |= {"valid": True, "reasons": []}
    html = page([good])
    assert "INVALID" not in html
    assert "VALID" in html
    both = page([good, board])
    assert "gate-1: INVALID" in both


def test_several_devices_share_one_table(document, board):
    html = page([document, board])
    table = html[html.index("All devices") :].split("</table>")[0]
    assert table.count("<tr>") == 1 + 2 * len(document["results"])
    assert table.count("<td>gate-1</td>") == len(board["results"])


def test_what_the_bundle_is_and_where_it_was_measured_is_told(document):
    html = page([document])
    for told in (document["bundle"]["key"], document["source"]["sha256"], when(document)):
        assert told in html
    assert f"p50 {document['harness']['overhead_us']['p50']:.4g}" in html
    assert escape(document["machine"]["versions"]["numpy"]) in html


def test_accuracy_stands_against_latency_where_both_are_known(document, board):
    assert "Accuracy against latency" not in page([document])
    assert "Accuracy against latency" in page([board])
    ((_, result, ms, accuracy),) = charts.accuracies([board])
    assert result["job"]["scenario"] == "single"
    assert ms == result["latency_ms"]["p50"]["value"]
    assert accuracy == 0.875


def drawing(text):
    root = ET.fromstring(text)
    return root, [(one.tag, one.get("class"), one.attrib) for one in root.iter()]


def test_the_stages_fill_a_bar_as_long_as_their_sum(document):
    (single,) = [one for one in document["results"] if one["job"]["scenario"] == "single"]
    _, shapes = drawing(charts.stages([single], "stages"))
    parts = [
        float(at["width"]) for tag, _, at in shapes if tag == "rect" and at["height"] == "11.0"
    ]
    assert sum(parts) == pytest.approx(svg.WIDTH, abs=0.5)
    mean = single["latency_ms"]["mean"]["value"]
    assert sum(single["stages_ms"].values()) == pytest.approx(mean, abs=0.001)  # rounded
    step = single["stages_ms"]["step"] / sum(single["stages_ms"].values())
    assert max(parts) / svg.WIDTH == pytest.approx(step, abs=0.01)
    assert f"{mean:.4g} ms" in page([document])


def test_a_bar_that_is_half_as_long_takes_half_as_long():
    rows = [("a", [("x", 3.0), ("y", 1.0)], ""), ("b", [("y", 2.0)], "")]
    _, shapes = drawing(svg.stacked(rows, ("x", "y"), "t"))
    parts = [float(at["width"]) for tag, _, at in shapes if tag == "rect"]
    assert parts[:3] == [svg.WIDTH * 0.75, svg.WIDTH * 0.25, svg.WIDTH * 0.5]


def test_the_time_line_shows_what_the_machine_tells(document, board):
    began = document["created_unix_s"]
    (plain, *_), (full, _, alarms) = (
        charts.timeline(one["results"][0], began) for one in (document, board)
    )
    seen = document["results"][0]["timeline"][0]
    assert ("clock rate" in plain) == (seen["frequency_mhz"] is not None)
    for track in ("step ms", "clock rate MHz", "°C, and where it slows down", "power W"):
        assert track in full
    _, shapes = drawing(full)
    assert any(kind == "alarm" for _, kind, _ in shapes)
    assert "alarm" not in plain
    assert alarms == ["INVALID: the processor reached 86 °C & slowed <down>"]


def test_the_warm_up_is_shaded_and_left_out(document):
    result = copy.deepcopy(document["results"][0])
    whole = len(charts.steady(result))
    result["warm_up"] = {"samples": 30, "seconds": 0.1, "found": True}
    kept = charts.steady(result)
    assert len(kept) == whole - 30 + document["results"][0]["warm_up"]["samples"]
    _, shapes = drawing(charts.timeline(result, document["created_unix_s"])[0])
    (warm,) = [at for _, kind, at in shapes if kind == "warm"]
    assert float(warm["width"]) > 1


def test_what_an_accelerator_left_to_the_cpu_stands_out(document):
    result = copy.deepcopy(document["results"][0])
    result["job"]["accelerator"] = "npu"
    kinds = [("CONV", "npu", 3, 1.5), ("TOPK", "cpu", 1, 0.5)]
    result["operators"] = {
        "accelerated": 3,
        "on_cpu": 1,
        "kinds": [dict(zip(("kind", "place", "count", "ms"), k, strict=True)) for k in kinds],
    }
    _, shapes = drawing(charts.operators(result))
    assert [kind for tag, kind, _ in shapes if tag == "rect"] == ["c0", "alarm"]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    ("low", "high"), [(0.01, 5000), (3, 4), (99.5, 101), (0.5, 0.5), (1e-4, 9)]
)
def test_ticks_are_few_and_within(low, high, log):
    scale = svg.Scale(low, high, 0, 100, log=log)
    ticks = scale.ticks()
    assert ticks == sorted(ticks)
    assert all(scale.low - 1e-9 <= one <= scale.high * (1 + 1e-9) for one in ticks)
    assert len(ticks) <= 6
    assert 0 <= scale(low) <= scale(high) <= 100


def test_all_that_is_drawn_is_inside_and_is_xml(document, board):
    for one in re.findall(r"<svg.*?</svg>", page([document, board])):
        root, shapes = drawing(one)
        height = float(root.get("viewBox").split()[3])
        for _, _, at in shapes:
            assert -1 <= float(at.get("x", 0)) <= svg.WIDTH + 1
            assert -1 <= float(at.get("y", 0)) <= height + 1


def test_the_command_line_writes_a_page_of_results(edgevid, document, board, tmp_path):
    paths = [tmp_path / "here.json", tmp_path / "gate.json"]
    for path, one in zip(paths, (document, board), strict=True):
        path.write_text(json.dumps(one))
    out = tmp_path / "page.html"
    done = edgevid("bench", "report", *paths, "--page", out, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert len(rows) == 2 * len(document["results"])
    assert rows[-1]["device"] == "gate-1"
    assert out.read_text() == page([document, board])


def test_what_cannot_be_written_is_said_before_it_is_measured(edgevid, null_bundle, tmp_path):
    for words in (("--page", tmp_path / "none" / "p.html"), ("--markdown", "-", "--json")):
        done = edgevid("bench", null_bundle, *words)
        assert done.returncode == 2
        assert "bench:" not in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_damaged_results_are_refused(edgevid, document, tmp_path):
    path, out = tmp_path / "result.json", tmp_path / "page.html"
    for key in ("results", "harness", "source"):
        damaged = {name: value for name, value in document.items() if name != key}
        path.write_text(json.dumps(damaged))
        done = edgevid("bench", "report", path, "--page", out)
        assert done.returncode == 2
        assert "damaged" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not out.exists()


def test_pages_are_made_on_computers_only(monkeypatch):
    import sys

    from edgevid.cli.bench_report import Reports

    monkeypatch.setitem(sys.modules, "edgevid.bench.report.html", None)
    with pytest.raises(BadInput, match="not made on a device"):
        Reports.wanted(__import__("pathlib").Path("p.html"), None, False)
