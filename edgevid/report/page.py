"""A self-contained HTML page: headings, words, tables, pictures; no script, no outside file."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from edgevid.progress import in_digits

STYLE = """
:root { --ink: #1c2330; --dim: #667085; --line: #e4e7ec; --paper: #fff; --wash: #f6f8fb;
        --mark: #1769e0; --good: #12825c; --bad: #c4320a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --dim: #98a2b3; --line: #2c3442; --paper: #12161d; --wash: #1a202a;
          --mark: #6ea8ff; --good: #4cc38a; --bad: #ff8b6a; }
  img.plot { background: #fff; border-radius: 6px; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
       font: 16px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .6rem; padding-top: 1rem;
     border-top: 1px solid var(--line); }
p { margin: .5rem 0 1rem; max-width: 46rem; }
p.lead { color: var(--dim); font-size: 1.05rem; }
.tiles { display: grid; gap: .8rem; margin: 1.6rem 0;
         grid-template-columns: repeat(auto-fit, minmax(8.6rem, 1fr)); }
.tile { background: var(--wash); border: 1px solid var(--line); border-radius: 10px;
        padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.45rem; color: var(--mark); white-space: nowrap; }
.tile span { color: var(--dim); font-size: .88rem; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .45rem .7rem; border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 600; white-space: nowrap; }
.tight td { white-space: nowrap; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.n { text-align: right; }
img { max-width: 100%; height: auto; display: block; }
figure { margin: 1rem 0; }
figcaption { color: var(--dim); font-size: .88rem; margin-top: .35rem; }
.pair { display: grid; gap: 1.2rem;
        grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
.strip { display: grid; gap: .8rem;
         grid-template-columns: repeat(auto-fill, minmax(var(--least), 1fr)); }
.strip figure { margin: 0; }
.strip img { width: 100%; border-radius: 6px; image-rendering: pixelated; }
.good { color: var(--good); } .bad { color: var(--bad); }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
.verdict { border: 1px solid var(--good); border-left-width: 6px; border-radius: 8px;
           padding: .7rem 1rem; margin: 1rem 0; }
.verdict.no { border-color: var(--bad); }
.verdict b { color: var(--good); font-size: 1.15rem; } .verdict.no b { color: var(--bad); }
.verdict ul { margin: .4rem 0 0; padding-left: 1.2rem; overflow-wrap: anywhere; }
.drawing { display: block; width: 100%; height: auto; max-width: 34rem; }
.drawing text { font-size: 11.5px; fill: var(--ink); }
.drawing .small { font-size: 10.5px; } .drawing .axis { font-size: 9.5px; fill: var(--dim); }
.drawing .dim { fill: var(--dim); }
.drawing .grid { stroke: var(--line); stroke-width: 1; }
.drawing .fill { fill: var(--mark); opacity: .55; }
.drawing .mark { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 2 3; opacity: .5; }
.drawing .whisker { stroke: var(--mark); stroke-width: 3; opacity: .6; }
.drawing .point { fill: var(--ink); }
.drawing .strong { fill: none; stroke: var(--mark); stroke-width: 1.6; stroke-linejoin: round; }
.drawing .thin { fill: none; stroke: var(--dim); stroke-width: .8; opacity: .7; }
.drawing .warm { fill: var(--dim); opacity: .16; }
.drawing .alarm { fill: var(--bad); opacity: .22; }
.drawing .c0 { fill: #4c78a8; } .drawing .c1 { fill: #f0a04b; } .drawing .c2 { fill: #1769e0; }
.drawing .c3 { fill: #54a24b; } .drawing .c4 { fill: #b279a2; } .drawing .c5 { fill: #98a2b3; }
.drawing .edge { fill: none; stroke: var(--dim); stroke-width: 1.1; opacity: .75; }
.drawing .again { fill: none; stroke: var(--dim); stroke-width: 1.1; stroke-dasharray: 4 3; }
.drawing .node { stroke-width: 1.2; rx: 5px; }
.drawing .integers { fill: #1769e0; fill-opacity: .2; stroke: #1769e0; }
.drawing .floats { fill: #f08c1e; fill-opacity: .22; stroke: #e0861a; }
.drawing .halves { fill: #b279a2; fill-opacity: .25; stroke: #b279a2; }
.drawing .moves { fill: var(--dim); fill-opacity: .1; stroke: var(--dim); }
.drawing .port { fill: var(--paper); stroke: var(--ink); stroke-dasharray: 3 2; }
.drawing .paper { fill: var(--paper); }
.drawing .kept { stroke: var(--bad); stroke-width: 3; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; font-size: .88rem; }
.legend .drawing { width: 18px; height: 14px; flex: none; display: inline-block;
                   vertical-align: -2px; margin-right: .4rem; }
details { margin: .8rem 0; border: 1px solid var(--line); border-radius: 8px; padding: 0 1rem; }
summary { cursor: pointer; padding: .6rem 0; font-weight: 600; }
details .drawing { margin: 0 auto .4rem; }
.facts td { overflow-wrap: anywhere; }
.facts td:first-child { color: var(--dim); min-width: 9.5rem; }
code, pre { font: .88rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
pre { background: var(--wash); border: 1px solid var(--line); border-radius: 8px;
      padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
footer { color: var(--dim); font-size: .85rem; margin-top: 3rem; }
"""


class Page:
    """Add parts from the top down, then take `html`. Every text is escaped."""

    def __init__(self, title: str, lead: str) -> None:
        self._title = title
        self._parts = [f"<h1>{escape(title)}</h1>", f'<p class="lead">{escape(lead)}</p>']

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def subheading(self, text: str) -> None:
        """Begin a part of a section."""
        self._parts.append(f"<h3>{escape(text)}</h3>")

    def verdict(self, good: bool, word: str, reasons: Iterable[str] = ()) -> None:
        """Say what it comes to, and why, where nobody overlooks it."""
        lines = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
        kind = "verdict" if good else "verdict no"
        inside = f"<b>{escape(word)}</b>" + (f"<ul>{lines}</ul>" if lines else "")
        self._parts.append(f'<div class="{kind}">{inside}</div>')

    def facts(self, rows: Iterable[tuple[str, object]]) -> None:
        """Add a table of names and what they are; long words may break."""
        cells = "".join(f"<tr><td>{escape(n)}</td><td>{_cell(v)}</td></tr>" for n, v in rows)
        self._parts.append(f'<table class="facts"><tbody>{cells}</tbody></table>')

    def words(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def code(self, text: str) -> None:
        """Add lines of a terminal."""
        self._parts.append(f"<pre>{escape(text)}</pre>")

    def tiles(self, tiles: Iterable[tuple[str, str]]) -> None:
        """Add large figures, each with what it is."""
        inside = "".join(
            f'<div class="tile"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
            for value, what in tiles
        )
        self._parts.append(f'<div class="tiles">{inside}</div>')

    def table(
        self, head: Sequence[str], rows: Iterable[Sequence[object]], *, tight: bool = False
    ) -> None:
        """Add a table; numbers are set to the right. ``tight``: no cell is broken into lines."""
        lines = [list(row) for row in rows]
        right = [_numeric([row[i] for row in lines]) for i in range(len(head))]
        cells = [[f'<td class="n">{_cell(v)}</td>' if right[i] else f"<td>{_cell(v)}</td>"
                  for i, v in enumerate(row)] for row in lines]  # fmt: skip
        top = "".join(
            f'<th class="n">{escape(name)}</th>' if right[i] else f"<th>{escape(name)}</th>"
            for i, name in enumerate(head)
        )
        kind = ' class="tight"' if tight else ""
        body = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
        self._parts.append(
            f'<div class="scroll"><table{kind}><thead><tr>{top}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def pictures(self, pictures: Iterable[tuple[bytes, str]]) -> None:
        """Add plots side by side: the image's bytes, and what it shows."""
        inside = "".join(_figure(image, caption, "plot") for image, caption in pictures)
        self._parts.append(f'<div class="pair">{inside}</div>')

    def drawings(self, drawings: Iterable[tuple[str, str, Sequence[str]]]) -> None:
        """Add drawings (`edgevid.report.svg`) side by side: each with its caption and alarms."""
        inside = "".join(
            f"<figure>{svg}<figcaption>{escape(caption)}</figcaption>{_alarms(alarms)}</figure>"
            for svg, caption, alarms in drawings
        )
        self._parts.append(f'<div class="pair">{inside}</div>')

    def legend(self, entries: Iterable[tuple[str, str]]) -> None:
        """Say what the boxes of drawings mean: each a class of the style, and its words."""
        inside = "".join(
            '<span><svg class="drawing" viewBox="0 0 18 14"><rect class="node '
            f'{escape(kind)}" x="2" y="2" width="14" height="10"/></svg>{escape(words)}</span>'
            for kind, words in entries
        )
        self._parts.append(f'<p class="legend">{inside}</p>')

    def folded(self, title: str, svg: str, caption: str, *, unfolded: bool) -> None:
        """Add a large drawing that a reader may fold away, or has to unfold."""
        state = " open" if unfolded else ""
        self._parts.append(
            f"<details{state}><summary>{escape(title)}</summary><figure>"
            f'<div class="scroll">{svg}</div><figcaption>{escape(caption)}</figcaption></figure>'
            "</details>"
        )

    def strip(
        self, pictures: Iterable[tuple[bytes, str, bool | None]], least_rem: float = 8.2
    ) -> None:
        """Add small frames, each with its caption; right ones green, wrong ones red.

        ``least_rem`` is the least width of a frame, in the page's letters.
        """
        colour = {True: "good", False: "bad", None: ""}
        inside = "".join(
            f'<figure><img src="{_inline(image)}" alt="{escape(caption)}">'
            f'<figcaption class="{colour[good]}">{escape(caption)}</figcaption></figure>'
            for image, caption, good in pictures
        )
        self._parts.append(f'<div class="strip" style="--least: {least_rem}rem">{inside}</div>')

    def html(self, footer: str) -> str:
        """The whole page."""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self._title)}</title><style>{STYLE}</style></head><body><main>\n"
            + "\n".join(self._parts)
            + f"\n<footer>{escape(footer)}</footer></main></body></html>\n"
        )


def _numeric(column: Sequence[object]) -> bool:
    """Numbers, of which some may be missing."""
    told = [value for value in column if value is not None]
    return bool(told) and all(isinstance(value, int | float) for value in told)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return escape(in_digits(value))


def _alarms(alarms: Sequence[str]) -> str:
    return "".join(f'<figcaption class="bad">{escape(one)}</figcaption>' for one in alarms)


def _figure(image: bytes, caption: str, kind: str) -> str:
    return (
        f'<figure><img class="{kind}" src="{_inline(image)}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _inline(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
