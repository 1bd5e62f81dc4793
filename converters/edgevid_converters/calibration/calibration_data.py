"""The clips of a conversion: those to calibrate on, and those to measure on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.contract import Contract
from edgevid.data.folders import without_root
from edgevid.data.video_files import count_reasons, find_videos
from edgevid.errors import BadInput, BadVideo
from edgevid.media.video import read_clip
from edgevid.progress import Progress
from edgevid.tasks.host import open_host
from edgevid_converters.calibration import trajectories
from edgevid_converters.importers.source_model import SourceModel

if TYPE_CHECKING:
    from edgevid.data.cache import Clips

CALIBRATION_CLIPS = 48


def calibration_clips(
    source: SourceModel, calibrate: Path | None
) -> tuple[list[str], list[trajectories.Recording], list[str]]:
    """Choose and decode clips, evenly over the sorted files.

    Args:
        source: The model.
        calibrate: A folder of clips, or one. Default: the recorded training split.

    Returns:
        Names of the clips, for each its inputs, name -> one row per step, and what is left out,
        one line for each reason.

    Raises:
        BadInput: There are no clips, or none can be decoded.
    """
    root, paths, reasons = _calibration_files(source, calibrate)
    stride = max(1, len(paths) // CALIBRATION_CLIPS)
    chosen = paths[::stride][:CALIBRATION_CLIPS]
    names, clips = [], []
    for path in chosen:
        try:
            clips.append(_clip(root / path, source.contract))
        except BadVideo as error:
            reasons[path] = without_root(root, error)
            continue
        names.append(path)
    if not clips:
        raise BadInput(
            f"{root}: none of {len(chosen)} clips can be decoded ({reasons[chosen[0]]}); give "
            "other clips"
        )
    return names, clips, [f"calibration: {one}" for one in count_reasons(reasons)]


def _clip(file: Path, contract: Contract) -> trajectories.Recording:
    """Read one recording: a video if the only input is a frame, else an ``.npz`` of all inputs."""
    if contract.is_video:
        frame = contract.frame
        return {frame.name: read_clip(file, frame, contract.rate_fps)}
    return trajectories.read_recording(file, contract)


def _calibration_files(
    source: SourceModel, calibrate: Path | None
) -> tuple[Path, list[str], dict[str, str]]:
    """Find the calibration clips: the recorded training split if it is there, else all.

    Returns:
        Their folder, their paths in it, and path -> reason of files that are not used.
    """
    root = Path(calibrate) if calibrate else source.data
    if root is None or not root.exists():
        remedy = "give another folder" if calibrate else "give clips with --calibrate"
        raise BadInput(f"{root or 'the training data'} does not exist; {remedy}")
    if root.is_file():
        return root.parent, [root.name], {}
    train = sorted(source.split.get("train", ()))
    if train and (root / train[0]).is_file():
        return root, train, {}
    if source.contract.is_video:
        paths, reasons = find_videos(root)
        kind = "videos"
    else:
        found = sorted(p for p in root.rglob("*") if p.suffix.lower() == ".npz")
        paths, reasons = [p.relative_to(root).as_posix() for p in found], {}
        kind = ".npz files"
    if not paths:
        why = "".join(f" ({one})" for one in count_reasons(reasons)[:1])
        raise BadInput(f"{root} has no clips to calibrate on{why}; give a folder with {kind}")
    return root, paths, reasons


def held_out(
    source: SourceModel,
    calibrate: Path | None,
    data: Path | None,
    calibrated: Sequence[str],
    progress: Progress,
) -> tuple[Clips | None, str]:
    """Decode labelled clips that the model was not trained on.

    These are the recorded test split. With ``data`` they are the clips of the recorded test split
    in it, or else its own test folder, or else all clips that are not calibrated on.

    Args:
        source: The model.
        calibrate: The folder of calibration clips, if given.
        data: A folder of labelled clips, if given.
        calibrated: Names of the calibration clips.
        progress: Called for each clip.

    Returns:
        The clips, or None and the reason why there are none.

    Raises:
        BadInput: ``data`` has no usable clips, or the task has no metric.
    """
    from edgevid.evaluation import choose_clips

    if open_host(source.contract.task).metric is None:
        if data:
            raise BadInput(f"--data: the task {source.contract.task} has no metric; leave it out")
        return None, f"the task {source.contract.task} has no metric"
    if not source.contract.is_video:
        if data:
            raise BadInput(
                "--data: labelled clips are videos, and no video feeds the model's inputs "
                f"({source.contract.input_names}); leave it out"
            )
        return None, "labelled clips are videos, and the model takes other inputs"
    if data:
        paths = _labelled(source, data, calibrate, calibrated)
        clips = choose_clips(source.contract, {"test": paths}, data, "test", progress)
        if not len(clips):
            raise BadInput(f"{data}: none of {len(paths)} clips is readable; give other clips")
        return clips, ""
    recorded = source.split.get("test", ())
    if not recorded:
        return None, "the model has no recorded test split"
    for root in filter(None, (source.data, calibrate)):
        there = {"test": [path for path in recorded if (Path(root) / path).is_file()]}
        if there["test"]:
            clips = choose_clips(source.contract, there, Path(root), "test", progress)
            return (clips, "") if len(clips) else (None, "no clip of the test split is readable")
    return None, "the clips of the recorded test split are missing"


def _labelled(
    source: SourceModel, data: Path, calibrate: Path | None, calibrated: Sequence[str]
) -> list[str]:
    """Which clips of ``data`` to measure on."""
    files = open_host(source.contract.task).find(data).files
    recorded = set(source.split.get("test", ()))
    root, _, _ = _calibration_files(source, calibrate)
    seen = {(root / path).resolve() for path in calibrated}
    ways = (
        [file.path for file in files if file.path in recorded],
        [file.path for file in files if file.split == "test"],
        [file.path for file in files if (data / file.path).resolve() not in seen],
    )
    found = next(filter(None, ways), None)
    if found is None:
        raise BadInput(f"{data}: all its clips are calibrated on; give others to measure on")
    return found


def held_out_record(clips: Clips | None, why_not: str) -> dict[str, Any]:
    """What the evidence says of the labelled clips."""
    if clips is None:
        return {"split": "test", "clips": 0, "reason": why_not}
    return {"split": "test", "clips": len(clips), "left_out": [dict(c) for c in clips.left_out]}
