"""The plug-ins, where each comes from, and whether those of other packages can be imported."""

from __future__ import annotations

from collections.abc import Iterator

from edgevid import registry
from edgevid.doctor.check import Check, names
from edgevid.errors import PluginFailed


def checks() -> Iterator[Check]:
    """Check the plug-ins.

    Yields:
        One check for each kind, with the names and the origin of those that are not built in; and
        one for each plug-in of another package that is ignored or cannot be imported.
    """
    for kind in registry.kinds():
        listed = registry.listing(kind)
        shown = [
            one.name if one.origin == registry.BUILT_IN else f"{one.name} ({one.origin})"
            for one in listed
            if not one.ignored
        ]
        yield Check(f"{kind} plug-ins", names(shown, 12) or "none")
        for one in listed:
            name = f"{kind} {one.name}"
            if one.ignored:
                do = f"rename it in its package, or uninstall {one.origin.partition(' ')[0]}"
                yield Check(name, f"of {one.origin} is ignored: {one.ignored}", "warn", do)
            elif one.origin != registry.BUILT_IN:
                yield from _importable(kind, one.name)


def _importable(kind: str, name: str) -> Iterator[Check]:
    try:
        registry.load(kind, name)
    except PluginFailed as error:
        found, _, do = str(error).rpartition("; ")
        yield Check(f"{kind} {name}", found, "warn", do)
