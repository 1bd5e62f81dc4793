"""The evidence of a bundle as one self-contained HTML page without scripts.

Everything on it is in the bundle, except for step times: these are of the machine that converted.
"""

from __future__ import annotations

from pathlib import Path

from edgevid import __version__
from edgevid.bundle import Bundle
from edgevid.errors import BadBundle, BadInput
from edgevid.evidence import Evidence
from edgevid.report.page import Page
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
    """
    try:
        evidence = Evidence.from_json(bundle.evidence)
        return _page(bundle, evidence, times)
    except (AttributeError, BadInput, IndexError, KeyError, TypeError, ValueError) as error:
        raise BadBundle(
            f"{bundle.path}: its evidence is not what edgevid convert writes "
            f"({type(error).__name__}: {error}); convert the model again"
        ) from error


def _page(bundle: Bundle, evidence: Evidence, times: StepTimes) -> str:
    report = Page(
        f"Evidence of {bundle.path.name}",
        f"{len(bundle.artifacts)} artifacts of one {bundle.contract.task} model, and what was "
        "shown of each before the bundle was written.",
    )
    sections.verdict(report, bundle, evidence)
    sections.source(report, bundle, evidence)
    sections.artifacts(report, bundle, times)
    sections.parity(report, evidence)
    sections.repairs(report, evidence, times)
    drawings.layers(report, evidence)
    drawings.graph_drawings(report, bundle, evidence)
    sections.operators(report, bundle, evidence)
    sections.data(report, evidence)
    sections.gates(report, evidence)
    sections.versions(report, evidence)
    return report.html(f"Bundle {bundle.sha256}; page made by edgevid {__version__}.")
