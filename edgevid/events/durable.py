"""The state of event stages that survives a restart: one small JSON file per stream.

    <state>/events/<stream>.json    {"format", "stream", "run", "stages": {name: ...}, "open"}

The file is replaced atomically. One that cannot be used is reported in one line, and the stage
starts afresh.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgevid.events.chain import ChainState, EventChain, NamedStage
from edgevid.files import write_json
from edgevid.results import Event

FORMAT = 1


class DurableState:
    """Loads and saves the durable part of one chain's state."""

    def __init__(
        self, folder: Path, stream: str, chain: EventChain, report: Callable[[str], None]
    ) -> None:
        self.path = folder / "events" / f"{quote(stream, safe='')}.json"
        self._stream, self._chain, self._report = stream, chain, report
        self._saved: ChainState | None = None
        self.error: str | None = None
        """Why the last `save` failed; None if it did not."""

    def load(self) -> None:
        """Continue from the saved state; what cannot be used is reported and starts afresh."""
        try:
            document = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            self._report(f"{self.path} cannot be read ({error}); its event stages start afresh")
            return
        if not isinstance(document, Mapping) or document.get("format") != FORMAT:
            self._report(f"{self.path} is of another version; its event stages start afresh")
            return
        try:
            self._apply(document)
        except (KeyError, TypeError, ValueError) as error:
            self._report(f"{self.path} is damaged ({error}); its event stages start afresh")

    def _apply(self, document: Mapping[str, Any]) -> None:
        kept, names = document["stages"], set()
        states = list(self._chain.state.stages)
        for position, one in enumerate(self._chain.stages):
            if one.durable and one.name in kept and self._fits(one, kept[one.name]):
                states[position] = kept[one.name]["state"]
                names.add(one.name)
        open_events = {
            key: Event(**event)
            for key, event in document["open"].items()
            if key.partition(":")[0] in names
        }
        self._chain.state = ChainState(tuple(states), open_events, int(document["run"]) + 1)

    def _fits(self, one: NamedStage, kept: Mapping[str, Any]) -> bool:
        found = kept["kind"], kept["version"]
        wanted = one.kind, one.stage.state_version
        if found != wanted:
            self._report(
                f"{self.path}: the state of event {one.name!r} is of {found[0]} version "
                f"{found[1]}, not {wanted[0]} version {wanted[1]}; it starts afresh"
            )
        return found == wanted

    def save(self, state: ChainState) -> None:
        """Write ``state``, which must be confirmed; nothing is written if it did not change."""
        if state is self._saved:
            return
        durable = {one.name for one in self._chain.stages if one.durable}
        document = {
            "format": FORMAT,
            "stream": self._stream,
            "run": state.run,
            "stages": {
                one.name: {"kind": one.kind, "version": one.stage.state_version, "state": kept}
                for one, kept in zip(self._chain.stages, state.stages, strict=True)
                if one.durable
            },
            "open": {
                key: replace(event, where=dict(event.where)).to_json()
                for key, event in state.open.items()
                if key.partition(":")[0] in durable
            },
        }
        try:
            write_json(self.path, document)
        except (OSError, TypeError, ValueError) as error:
            self.error = f"{self.path} cannot be written: {error}"
            return
        self._saved, self.error = state, None
