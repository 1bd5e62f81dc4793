import re

from edgevid.report import plots
from edgevid.report.page import Page

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_page_needs_nothing_from_outside_and_escapes_every_text():
    nasty = "<script>alert('x')</script>"
    page = Page(nasty, nasty)
    page.heading(nasty)
    page.words(nasty)
    page.code(nasty)
    page.tiles([(nasty, nasty)])
    page.table((nasty, "n"), [(nasty, 1.5), (nasty, 2)])
    page.pictures([(PNG, nasty)])
    page.strip([(PNG, nasty, True), (PNG, nasty, None)])
    html = page.html(nasty)
    assert "<script" not in html
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    assert "http" not in html


def test_only_columns_of_numbers_are_set_to_the_right():
    page = Page("t", "l")
    page.table(("name", "count"), [("a", 1), ("b", None)])
    page.table(("name", "count"), [("a", "many"), ("b", 2.25)])
    html = page.html("")
    assert html.count('<td class="n">') == 2
    assert '<td class="n">–</td>' in html
    assert "<td>2.25</td>" in html


def test_plots_are_pictures():
    import numpy as np

    results = [
        {
            "artifact": name,
            "latency_ms": {"p50": 1.0, "p90": 2.0, "p99": 9.0},
            "stages_ms": {"decode": 0.5, "step": 0.2},
        }
        for name in ("one", "two")
    ]
    truth = [{"label": "a", "start_s": 0.0, "end_s": 1.0}]
    times_s = [0.0, 0.5, 1.0]
    drawn = [
        plots.latency(results),
        plots.stages(results),
        plots.scores(np.eye(3)[:, :2], ["a", "b"], times_s, truth),
    ]
    assert all(image.startswith(PNG) and len(image) > 2000 for image in drawn)
