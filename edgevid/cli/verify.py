"""``edgevid verify``."""

from __future__ import annotations

from pathlib import Path

import click

from edgevid.cli.console import PATH, Bar, common, emit, table


@click.command(name="verify")
@click.argument("bundle", type=PATH)
@click.option("--artifact", help="Verify only this artifact. Default: all.")
@click.option("--runtime", help="Verify only in this runtime.")
@click.option("--accelerator", help="Verify only on this accelerator.")
@common
def command(
    bundle: Path,
    artifact: str | None,
    runtime: str | None,
    accelerator: str | None,
    as_json: bool,
) -> int:
    """Check every byte of a bundle and replay its golden trajectories on this machine's engines.

    Exit code 1 if an engine's outputs differ from the recorded ones.

    Example:  edgevid verify motion.edgevid
    """
    from edgevid import proof

    result = proof.verify(
        bundle, artifact=artifact, runtime=runtime, accelerator=accelerator, progress=Bar()
    )
    rows = [
        (
            c["artifact"],
            f"{c['runtime']}/{c['accelerator']}",
            c["precision"],
            "ok" if c["ok"] else "FAILED",
            c["max_abs"],
            c["tolerance"],
            c.get("reason", ""),
        )
        for c in result["checks"]
    ]
    head = ("artifact", "engine", "precision", "proof", "max abs", "tolerance", "reason")
    emit(result, as_json, table(rows, head))
    return 0 if result["ok"] else 1
