"""Lowered models and recorded streams of earlier conversions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgevid import registry
from edgevid.tasks.host import open_host
from edgevid_converters import conversion_cache
from edgevid_converters.conversion_cache import ConversionCache, arrays_hash, content_hash
from edgevid_converters.importers import RUN
from edgevid_converters.pipeline.data import ConversionData
from edgevid_converters.pipeline.source import ConversionSource

RECORDINGS = ("calibration", "golden", "held_out", "observed", "reference")
"""Folders that recording the streams writes."""
OF_TENSORFLOW = ("saved_model", "tflite")
"""Forms that there may be several ways to."""


@dataclass(frozen=True)
class LoweringCache:
    """What lowering one model and recording its streams may reuse: each form, and the streams.

    Attributes:
        cache: The cache.
        model: Identity of the model with its contract.
        streams: Identity of the clips.
        folder: Where forms and recordings are in this conversion.
    """

    cache: ConversionCache
    model: Mapping[str, Any]
    streams: Mapping[str, Any]
    folder: Path

    @classmethod
    def of(
        cls, source: ConversionSource, data: ConversionData, folder: Path, *, observe: bool
    ) -> LoweringCache | None:
        """Return it for one conversion, see `lower_in_child`; None where nothing is kept."""
        cache, model = conversion_cache.current(), source.model
        digest = conversion_cache.model_hash(model.path) if cache else None
        if cache is None or digest is None:
            return None
        task = model.to_task()
        importer = None if model.kind == RUN else registry.row("importer", model.kind).origin
        identity = {**task, "model": digest, "importer": importer}
        held_out = [] if data.held_out is None else [{"": one} for one in data.held_out.images]
        owner = () if source.owner is None else source.owner.to_run
        moves = () if source.owner is None else source.owner.moves
        streams = {
            "clips": arrays_hash(*data.clips),
            "held_out": arrays_hash(*held_out),
            "annotated": annotated_steps(source, data),
            "reference": arrays_hash(*owner),
            "moves": [asdict(move) if move is not None else None for move in moves],
            "observe": observe,
        }
        return cls(cache, identity, streams, folder)

    def _form(self, form: str) -> dict[str, Any]:
        return {"unit": "form", "form": form, **self.model}

    def _recordings(self) -> dict[str, Any]:
        return {"unit": "recordings", **self.model, **self.streams}

    def forms(self, wanted: Sequence[str]) -> tuple[dict[str, str], list[dict[str, Any]]]:
        """Return what is known of some forms, which are in the folder then.

        Returns:
            Form -> path, and the ways that were tried to lower to them.
        """
        found = {form: self.cache.fetch(self._form(form), self.folder) for form in wanted}
        known = {form: value for form, value in found.items() if value is not None}
        paths = {form: str(self.folder / value["path"]) for form, value in known.items()}
        return paths, next((v["attempts"] for v in known.values() if v["attempts"]), [])

    def recordings(self) -> dict[str, Any] | None:
        """Return what recording the streams answers; None if they are not known."""
        value = self.cache.fetch(self._recordings(), self.folder)
        if value is None:
            return None
        folder = self.folder / "calibration"
        paths = {name: str(folder / f"{name}.npy") for name in value["names"]}
        return {"trajectories": paths, "sensitivity": value["sensitivity"]}

    def keep(self, answer: Mapping[str, Any], *, recorded: bool) -> None:
        """Keep the forms of a child's answer, and its recordings if there are new ones."""
        for form, path in answer["lowered"].items():
            place = Path(path).relative_to(self.folder)
            attempts = answer["attempts"] if form in OF_TENSORFLOW else []
            value: dict[str, Any] = {"path": place.as_posix(), "attempts": attempts}
            files = [self.folder / place.parts[0]]
            self.cache.store(self._form(form), value, self.folder, files)
        if recorded:
            files = [self.folder / name for name in RECORDINGS if (self.folder / name).exists()]
            value = {
                "names": sorted(answer["trajectories"]),
                "sensitivity": answer["sensitivity"],
            }
            self.cache.store(self._recordings(), value, self.folder, files)

    def hashes(self, lowered: Mapping[str, Any]) -> dict[str, str]:
        """Return what artifacts depend on: a hash for each form, and ``calibration``."""
        forms = {form: content_hash(Path(path)) for form, path in lowered["lowered"].items()}
        return {**forms, "calibration": content_hash(self.folder / "calibration")}


def annotated_steps(source: ConversionSource, data: ConversionData) -> list[list[int]]:
    """Return which steps of each labelled clip are annotated."""
    if data.held_out is None:
        return []
    known = open_host(source.model.contract.task).annotations(data.held_out)
    return [list(one.frames) for one in known]
