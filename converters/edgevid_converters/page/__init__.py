"""The evidence of a bundle as one self-contained HTML page without scripts.

Everything on it is in the bundle, except for step times: these are of the machine that converted.
"""

from __future__ import annotations

from pathlib import Path

from edgevid import __version__
from edgevid.bundle import Bundle
from edgevid.errors import BadBundle, BadInput, MissingExtra
from edgevid.evidence import Evidence
from edgevid.report.pages import render
from edgevid_converters.graphs.draw import LEGEND
from edgevid_converters.lowering.protocol import MAX_FLOAT_SHARE
from edgevid_converters.page import drawings, sections
from edgevid_converters.page.times import NO_TIMES, StepTimes

__all__ = ["NO_TIMES", "StepTimes", "page", "page_path"]


def page_path(bundle: Path) -> Path:
    """Return the path of a bundle's page, next to the bundle."""
    bundle = Path(bundle)
    if bundle.suffix == ".edgevid":
        return bundle.with_suffix(".html")
    return bundle.with_name(f"{bundle.name}.html")


def page(bundle: Bundle, times: StepTimes = NO_TIMES) -> str:
    """Render the page of a bundle.

    Args:
        bundle: The bundle.
        times: Step times on this machine; without them the page has none.

    Returns:
        The HTML.

    Raises:
        BadBundle: The evidence is not what a conversion writes.
        MissingExtra: jinja2 or matplotlib is not installed.
    """
    try:
        evidence = Evidence.from_json(bundle.evidence)
        return _page(bundle, evidence, times)
    except MissingExtra:
        raise
    except (AttributeError, BadInput, IndexError, KeyError, TypeError, ValueError) as error:
        raise BadBundle(
            f"{bundle.path}: its evidence is not what edgevid convert writes "
            f"({type(error).__name__}: {error}); convert the model again"
        ) from error


def _page(bundle: Bundle, evidence: Evidence, times: StepTimes) -> str:
    verdict, reasons = sections.verdict(bundle, evidence)
    return render(
        Path(__file__).parent / "templates",
        "evidence.html",
        title=f"Evidence of {bundle.path.name}",
        lead=f"{len(bundle.artifacts)} artifacts of one {bundle.contract.task} model, with the "
        "evidence collected for each before the bundle was written. It is what the bundle's author "
        "claims; edgevid verify checks that the artifacts give the recorded outputs here.",
        footer=f"Bundle {bundle.sha256}; page made by edgevid {__version__}.",
        verdict=verdict,
        reasons=reasons,
        unproven=sections.UNPROVEN if evidence.preprocessing == "unproven" else None,
        source=sections.source(bundle, evidence),
        artifacts=sections.artifacts(bundle, times),
        timed=bool(times.artifacts),
        frames=sections.frames(bundle),
        paired=sections.paired_tests(bundle),
        float_operators=sections.float_operators(bundle),
        remainder=sections.remainder(evidence),
        max_float_share=f"{MAX_FLOAT_SHARE:.0%}",
        parity=sections.parity(evidence),
        sensitivity=sections.sensitivity(bundle, evidence),
        repairs=sections.repairs(evidence, times),
        layers=drawings.layers(evidence),
        legend=LEGEND.items(),
        graphs=list(drawings.graph_drawings(bundle, evidence)),
        operators=sections.operators(bundle, evidence),
        data=sections.data(evidence),
        gates=sections.gates(evidence),
        versions=sorted(evidence.versions.items()),
    )
