"""Pages and charts: self-contained, escaped, the same bytes every time."""

import re

import numpy as np
import pytest

from edgevid.report import plots, svg
from edgevid.report.pages import render
from edgevid.report.svg import Chart

PNG = b"\x89PNG\r\n\x1a\n"
NASTY = "<script>alert('x')</script>"
ALL = """{% extends "base.html" %}{% import "macros.html" as part %}{% block content %}
{{ part.verdict(false, text, [text]) }}{{ part.facts([(text, text)]) }}{{ part.code(text) }}
{{ part.tiles([(text, text)]) }}{{ part.table((text, "n"), [(text, 1.5), (text, 2)]) }}
{{ part.charts(charts) }}{{ part.strip([(image, text, true), (image, text, none)]) }}
{% endblock %}"""


def page(folder, template, **parts):
    (folder / "test.html").write_text(template)
    return render(folder, "test.html", title=NASTY, lead=NASTY, footer=NASTY, **parts)


def all_figures(name="one"):
    line = [(0.0, 1.0), (1.0, 2.0)]
    return [
        plots.stacked_bars([(name, [("x", 1.0), ("y", 2.0)], "3 ms")], ("x", "y")),
        plots.bars([(name, 1.0, "1 ms", True), (name, 0.0, "0 ms", False)]),
        plots.scatter([(1.0, 0.5, name, 0), (20.0, 0.6, name, 1)], (name, name), ("ms", name)),
        plots.distribution([1.0, 1.1, 3.0], [("p50", (1.1, 1.0, 3.0), "1.1"), ("p99", (), name)]),
        plots.timeline([(name, [line, line])], [(0.0, 0.5, "warm")], [0.5], 1.0),
        plots.curves([(name, {name: [1.0, 2.0]}), (name, {name: [2.0, 1.0]})], [1, 2], name),
        plots.heatmap(np.eye(3)[:, :2], [name, "b"], [0.0, 0.5, 1.0], [(name, 0.0, 1.0)]),
        plots.confusion([[3, 1], [0, 2]], [name, "b"]),
    ]


def test_a_page_needs_nothing_from_outside_and_escapes_every_text(tmp_path):
    charts = [Chart(figure, NASTY, NASTY, (NASTY,)) for figure in all_figures(NASTY)]
    html = page(tmp_path, ALL, text=NASTY, charts=charts, image=PNG)
    assert "<script" not in html
    assert not re.search(r"(src|href)=\"(?!data:image/|#)", html)
    assert "http" not in html
    assert html.count("<svg") == len(charts)


def test_only_columns_of_numbers_are_set_to_the_right(tmp_path):
    template = """{% import "macros.html" as part %}
    {{ part.table(("name", "count"), [("a", 1), ("b", none)]) }}
    {{ part.table(("name", "count"), [("a", "many"), ("b", 2.25)]) }}"""
    html = page(tmp_path, template)
    assert html.count('<td class="n">') == 2
    assert '<td class="n">–</td>' in html
    assert "<td>2.25</td>" in html


def test_charts_have_the_same_bytes_every_time():
    first, second = ([svg.inline_svg(one, "t") for one in all_figures()] for _ in range(2))
    assert first == second
    assert svg.standalone_svg(all_figures()[0]) == svg.standalone_svg(all_figures()[0])


@pytest.mark.parametrize("number", range(8))
def test_charts_take_the_colours_of_the_page(number):
    drawn = svg.inline_svg(all_figures()[number], "t")
    assert "var(--" in drawn
    assert not re.findall(r"(?<!, )#[0-9a-f]{6}\b", drawn)


def test_a_chart_that_was_written_to_a_file_can_be_adopted():
    figure = all_figures()[0]
    drawn = svg.adopt_svg(svg.standalone_svg(figure).decode(), "t")
    assert "var(--paper, #ffffff)" in drawn
    assert "<?xml" not in drawn
