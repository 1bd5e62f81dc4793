"""An installed package with plug-ins, without installing one: a folder for ``PYTHONPATH``."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent.parent
EXAMPLES = TESTS.parent / "docs" / "examples"

STAND_INS = {
    "edgevid.sink": {
        "webhook": "edgevid_webhook:Webhook",
        "no-sink": "rigs.stand_ins:NoSink",
        "slow": "rigs.stand_ins:Slow",
        "unopenable": "rigs.stand_ins:Unopenable",
        "pictures": "rigs.stand_ins:Pictures",
    },
    "edgevid.event": {
        "label": "rigs.stand_ins:Label",
        "label-today": "rigs.stand_ins:LabelOfToday",
        "raising": "rigs.stand_ins:Raising",
    },
}


def write_package(folder: Path, groups: dict[str, dict[str, str]] = STAND_INS) -> list[str]:
    """Write the metadata of a package; returns what has to be on the path to find its modules."""
    info = folder / "stand_ins-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stand-ins\nVersion: 1.0\n")
    lines = []
    for group, points in groups.items():
        lines += [f"[{group}]", *(f"{name} = {where}" for name, where in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return [str(folder), str(TESTS), str(EXAMPLES)]
