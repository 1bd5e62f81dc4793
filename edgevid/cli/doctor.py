"""``edgevid doctor``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from edgevid.cli.console import PATH, common, emit, table


@click.command(name="doctor")
@click.argument("bundle", type=PATH, required=False)
@common
def command(bundle: Path | None, as_json: bool) -> int:
    """Check this machine: hardware, libraries, plug-ins, and how to fix each problem.

    With a BUNDLE, also show which of its artifacts can be served here, and by which engines. The
    exit code is 1 if something that serving needs is missing.

    Example:  edgevid doctor motion.edgevid
    """
    from edgevid import doctor
    from edgevid.bundle import Bundle

    checks = doctor.examine(None if bundle is None else Bundle.open(bundle))
    fit = doctor.fit(checks)
    rows: list[tuple[str, str, str]] = []
    for check in checks:
        rows.append((check.name, check.state, check.found))
        if check.do:  # both are long
            rows.append(("", "", f"-> {check.do}"))
    document = {"fit": fit, "checks": [asdict(check) for check in checks]}
    emit(document, as_json, table(rows, ("check", "", "found -> what to do")))
    return 0 if fit else 1
