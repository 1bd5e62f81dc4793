"""Pages: what they say is in the documents, and they need nothing but a browser."""

import copy
import json
import re
import sys
import xml.etree.ElementTree as ET
from html import escape, unescape
from html.parser import HTMLParser

import pytest

from edgevid import __version__
from edgevid.bench.host import charts
from edgevid.bench.host import html as pages
from edgevid.bench.tables import when
from edgevid.cli.bench import command
from edgevid.errors import BadInput
from edgevid.report import plots
from rigs.benches import measured, numbers, numbers_of, read, with_sensors
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

    VOID = ("meta", "img")

    def __init__(self):
        super().__init__()
        self.open, self.words, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append((tag, dict(attrs).get("class")))

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        tag, kind = self.open[-1] if self.open else ("", "")
        if tag != "style" and kind != "axis":
            self.words.append(data)


def parsed(html):
    words = Words()
    words.feed(html)
    assert not words.open
    return words


def page(documents):
    return pages.page(read(*documents))


PROSE = {"95", "1"}  # "95 %", and the colours' names do not count; "gate-1"


def test_every_number_on_the_page_is_in_the_document(document, board):
    for documents in ([document], [board], [document, board]):
        reported = numbers_of(documents) | numbers(__version__) | PROSE
        reported |= numbers(" ".join(map(when, read(*documents))))
        shown = numbers(" ".join(parsed(page(documents)).words))
        assert len(shown) > 50
        assert shown <= reported, shown - reported


def test_figures_stand_in_it_with_their_intervals(document):
    html = page([document])
    for one in document["results"]:
        figures = one.get("latency_ms") or one["step_ms"]
        found = figures["p50"]
        assert f"{found['value']:.4g} ({found['low']:.4g}–{found['high']:.4g})" in html
        assert figures["p99"] == {"insufficient": 662}
    assert html.count("insufficient, needs 662") >= 2 * len(document["results"])


def test_nothing_is_fetched_and_nothing_runs(document, board):
    html = page([document, board])
    assert not re.search(
        r"https?:|//[a-z]|url\((?!#)|@import|<script|<link|<iframe|javascript:", html
    )
    attributes = parsed(html).attributes
    names = {name for name, _ in attributes}
    assert not names & {"src", "xlink:href", "srcset", "action"}
    assert all(value.startswith("#") for name, value in attributes if name == "href")
    assert not any(name.startswith("on") for name in names)


def test_the_same_results_give_the_same_bytes(document, board):
    assert page([document, board]) == page([document, board])


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
    assert unescape(html).count(HOSTILE) > 20
    assert not any(name == "onerror" for name, _ in parsed(html).attributes)


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


def test_what_the_bundle_is_and_where_it_was_measured_is_reported(document):
    html = page([document])
    for reported in (
        document["bundle"]["key"],
        document["source"]["sha256"],
        when(*read(document)),
    ):
        assert reported in html
    assert f"p50 {document['harness']['overhead_us']['p50']:.4g}" in html
    assert escape(document["machine"]["versions"]["numpy"]) in html


def test_accuracy_stands_against_latency_where_both_are_known(document, board):
    assert "Accuracy against latency" not in page([document])
    assert "Accuracy against latency" in page([board])
    ((_, result, ms, value),) = charts.scored(read(board))
    assert result.job.scenario == "single"
    assert ms == result.latency_ms["p50"].value
    assert value == 0.875


def result_of(document, scenario="step", **changes):
    """One job of a document, with changes in its JSON."""
    changed = copy.deepcopy(document)
    (found,) = [one for one in changed["results"] if one["job"]["scenario"] == scenario]
    for name, value in changes.items():
        found[name] = {**found[name], **value} if isinstance(value, dict) else value
    (read_back,) = read({**changed, "results": [found]})
    return read_back.results[0]


def test_the_stages_fill_a_bar_as_long_as_their_sum(document):
    single = result_of(document, "single")
    (axes,) = charts.stages([single]).figure.axes
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([*single.stages_ms.values()])
    mean = single.latency_ms["mean"].value
    assert sum(widths) == pytest.approx(mean, abs=0.001)  # rounded
    assert axes.get_xlim() == pytest.approx((0, sum(widths)))
    assert f"{mean:.4g} ms" in page([document])


def test_a_bar_that_is_half_as_long_takes_half_as_long():
    rows = [("a", [("x", 3.0), ("y", 1.0)], ""), ("b", [("y", 2.0)], "")]
    (axes,) = plots.stacked_bars(rows, ("x", "y")).axes
    assert [bar.get_width() for bar in axes.patches] == [3, 1, 2]
    assert [bar.get_x() for bar in axes.patches] == [0, 3, 0]
    assert axes.get_xlim() == (0, 4)
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours[1] == colours[2] != colours[0]


def shaded(chart):
    """The kinds of shades, each with its width in seconds."""
    return [
        (one.get_label(), one.get_width())
        for axes in chart.figure.axes
        for one in axes.patches
        if one.get_label() in ("warm", "alarm")
    ]


def test_the_time_line_shows_what_the_machine_tells(document, board):
    began = document["created_unix_s"]
    plain, full = (charts.timeline(result_of(one), began) for one in (document, board))
    seen = document["results"][0]["timeline"][0]
    assert ("clock rate" in plain.svg) == (seen["frequency_mhz"] is not None)
    for track in ("step ms", "clock rate MHz", "°C, and the limit", "power W"):
        assert track in full.svg
    assert any(kind == "alarm" for kind, _ in shaded(full))
    assert not any(kind == "alarm" for kind, _ in shaded(plain))
    assert full.alarms == ("INVALID: the processor reached 86 °C & slowed <down>",)


def test_the_warm_up_is_shaded_and_left_out(document):
    whole = len(charts.steady(result_of(document)))
    before = document["results"][0]["warm_up"]["samples"]
    result = result_of(document, warm_up={"samples": 30, "seconds": 0.01})
    assert len(charts.steady(result)) == whole - 30 + before
    kinds = shaded(charts.timeline(result, document["created_unix_s"]))
    widths = [width for kind, width in kinds if kind == "warm"]
    assert widths and widths == pytest.approx([0.01] * len(widths))


def test_what_an_accelerator_left_to_the_cpu_stands_out(document):
    kinds = [("CONV", "npu", 3, 1.5), ("TOPK", "cpu", 1, 0.5)]
    profile = {
        "accelerated": 3,
        "on_cpu": 1,
        "kinds": [dict(zip(("kind", "place", "count", "ms"), k, strict=True)) for k in kinds],
    }
    result = result_of(document, job={"accelerator": "npu"}, operators=profile)
    (axes,) = charts.operators(result, result.operators).figure.axes
    assert [one.get_width() for one in axes.patches] == [1.5, 0.5]
    first, second = (one.get_facecolor() for one in axes.patches)
    assert first != second


@pytest.mark.parametrize(("low", "high"), [(0.01, 5000), (3, 4), (99.5, 101), (1e-4, 9)])
def test_ticks_are_few_and_within(low, high):
    ticks = plots.log_ticks(low, high)
    assert ticks == sorted(ticks)
    assert all(low <= one <= high for one in ticks)
    assert len(ticks) <= 6


def test_all_that_is_drawn_is_xml_in_the_colours_of_the_page(document, board):
    drawn = re.findall(r"<svg.*?</svg>", page([document, board]), re.DOTALL)
    assert len(drawn) >= 2 * 2 * len(document["results"])
    for one in drawn:
        root = ET.fromstring(one)
        assert root.get("role") == "img" and root.get("aria-label")
        for colour in re.findall(r"#[0-9a-f]{6}", one):
            assert f", {colour})" in one  # as the fallback of a variable


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


def test_what_cannot_be_written_is_reported_before_it_is_measured(edgevid, null_bundle, tmp_path):
    (tmp_path / "a_file").touch()
    for words in (("--page", tmp_path / "a_file" / "p.html"), ("--markdown", "-", "--json")):
        done = edgevid("bench", null_bundle, *words)
        assert done.returncode == 2
        assert "bench:" not in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_damaged_results_are_rejected(edgevid, document, tmp_path):
    path, out = tmp_path / "result.json", tmp_path / "page.html"
    for key in ("results", "harness", "source"):
        damaged = {name: value for name, value in document.items() if name != key}
        path.write_text(json.dumps(damaged))
        done = edgevid("bench", "report", path, "--page", out)
        assert done.returncode == 2
        assert "damaged" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not out.exists()


def test_pages_are_made_on_computers_only(monkeypatch, null_bundle, tmp_path):
    monkeypatch.setitem(sys.modules, "edgevid.cli.host.bench_report", None)
    with pytest.raises(BadInput, match="not available on a device"):
        command.main([str(null_bundle), "--page", str(tmp_path / "p.html")], standalone_mode=False)
