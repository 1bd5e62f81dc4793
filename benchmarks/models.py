"""Twenty-four architectures as their owners give them, converted to both formats and compared.

    python benchmarks/models.py [--only NAME,...] [--parts edgevid,bare] [--json FILE]

Six models of keras.applications, six of torchvision as ONNX (exported by Debian's
``python3-torchvision``) and twelve with trained weights out of packages. Each is converted by
``edgevid convert`` with the contract that its owner would write, in float32 and int8, and every
artifact runs on real footage beside the file in its owner's own runtime, whose inputs are prepared
by hand. Beside it stands what onnx2tf, TFLiteConverter, ``openvino.convert_model`` and NNCF give
alone.

Prints one JSON document. ``error`` is the largest difference from the owner's runtime, as a share
of the range of that output; ``rms`` the root of the mean square, as a share of the standard
deviation. A float32 artifact is right if ``error`` is at most 1e-3. Results are written after each
model, and a model that FILE already has is not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgevid import runtimes
from edgevid.bundle import Bundle
from edgevid.contract import FrameInput
from edgevid.errors import EdgevidError
from edgevid.media.video import read_clip
from edgevid.runtimes import catalog, zero_state
from edgevid_converters import convert

sys.path.insert(0, str(Path(__file__).parent))
from footage import clip, signs
from matrix.catalog import MODELS, Model

STEPS = 10
CALIBRATION = 40
RIGHT = 1e-3
BARE_TIMEOUT_S = 900
FORMATS = ("tflite", "openvino")


def main() -> None:
    options = _options()
    names = options.only.split(",") if options.only else list(MODELS)
    found = json.loads(options.json.read_text()) if options.json.exists() else {"models": {}}
    for name in names:
        known = {} if options.again else found["models"].get(name, {})
        parts = [part for part in options.parts.split(",") if part not in known]
        if not parts:
            continue
        print(name, file=sys.stderr, flush=True)
        found["models"][name] = {**known, **measure(MODELS[name], options.work, parts)}
        found["summary"] = summary(found["models"])
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    right = found["summary"]["float32_right_in_both"]
    if right < options.at_least:
        raise SystemExit(
            f"{right} models are right in float32 in both formats, not {options.at_least}"
        )


def measure(model: Model, work: Path, parts: Sequence[str]) -> dict[str, Any]:
    """Convert one model, and compare every artifact with its owner's runtime.

    Args:
        model: The model.
        work: For model files, which are kept.
        parts: ``edgevid``, and ``bare`` for the converters alone.
    """
    work.mkdir(parents=True, exist_ok=True)
    path = model.make(work)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        steps, rows = _inputs(model)
        task = _task(model, path, rows, folder)
        wanted = _run("reference", task)["reference"]
        result: dict[str, Any] = {
            "kind": model.kind,
            "licence": model.licence,
            "trained": model.trained,
        }
        if "edgevid" in parts:
            result["edgevid"] = _converted(model, path, folder, steps, wanted)
        if "bare" in parts:
            result["bare"] = {name: _bare(name, task, wanted) for name in FORMATS}
    return result


def _inputs(model: Model) -> tuple[Any, Any]:
    """What edgevid's step takes, and the same prepared as the owner does; one row per step."""
    if model.pixels is None:
        rows = _sound(model.name)
        return rows, rows
    frame = FrameInput("frame", model.pixels.height, model.pixels.width)
    count = CALIBRATION + STEPS
    images = read_clip(_footage(model), frame, 25.0)
    images = images[20 :: (len(images) - 20) // count][:count]
    return images[:, None], model.pixels.prepare(images)


def _footage(model: Model) -> Path:
    return signs() if model.footage == "signs" else clip(model.footage)


def _sound(name: str) -> Any:
    """Pieces of a film's sound, or the log-mel of pieces, which is what an embedding takes."""
    import av

    resampler, parts = av.AudioResampler("flt", "mono", 16000), []
    with av.open(str(clip("bigbuckbunny"))) as container:
        for one in container.decode(audio=0):
            parts += [piece.to_ndarray()[0] for piece in resampler.resample(one)]
    sound = np.concatenate([np.zeros(64, np.float32), *parts])
    if name == "silero-vad":
        count = CALIBRATION + STEPS
        return np.stack([sound[None, 512 * k : 512 * k + 576] for k in range(count)])
    windows = np.lib.stride_tricks.sliding_window_view(sound, 512)[::160]
    power = np.abs(np.fft.rfft(windows * np.hanning(512), axis=1))[:, :256] ** 2
    mel = np.log10(power.reshape(len(power), 32, 8).mean(2) + 1e-6).astype(np.float32) * 2 + 2
    count = CALIBRATION + STEPS
    return np.stack([mel[4 * k : 4 * k + 76][None, :, :, None] for k in range(count)])


def _task(model: Model, path: Path, rows: Any, folder: Path) -> Path:
    zero = {f"state_{name}": np.zeros((2, 1, 128), np.float32) for name, _ in model.state}
    np.savez(folder / "inputs.npz", x=rows[-STEPS:], **zero)
    np.savez(folder / "calibration.npz", x=rows[:-STEPS])
    file = folder / "task.json"
    document = {
        "kind": model.kind,
        "path": str(path),
        "inputs": str(folder / "inputs.npz"),
        "calibration": str(folder / "calibration.npz"),
        "state": dict(model.state),
        "out": str(folder / "found"),
    }
    file.write_text(json.dumps(document))
    return file


def _run(mode: str, task: Path) -> dict[str, dict[str, Any]]:
    """Run one mode of `matrix.owner`; what it printed last stays in ``MODE.log``."""
    log = task.with_name("log.txt")
    with log.open("w") as out:
        command = [sys.executable, "-m", "matrix.owner", mode, str(task)]
        try:
            subprocess.run(
                command, cwd=Path(__file__).parent, stdout=out, stderr=out, timeout=BARE_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            out.write(f"\nno result after {BARE_TIMEOUT_S} s\n")
    pattern = "found-reference.npz" if mode == "reference" else f"found-{mode}-*.npz"
    found = sorted(task.parent.glob(pattern))
    return {one.stem.removeprefix("found-"): dict(np.load(one)) for one in found}


def _bare(name: str, task: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What the bare converters of one format give."""
    started = time.perf_counter()
    found = _run(name, task)
    seconds = round(time.perf_counter() - started, 1)
    compared = {key: _compared(one, wanted) for key, one in found.items()} or _failure(task)
    return {**compared, "seconds": seconds}


def _failure(task: Path) -> dict[str, str]:
    lines = [line for line in task.with_name("log.txt").read_text().splitlines() if line.strip()]
    return {"failed": lines[-1][:300] if lines else "the process ended without a word"}


def _converted(
    model: Model, path: Path, folder: Path, steps: Any, wanted: Mapping[str, Any]
) -> dict[str, Any]:
    contract, out = folder / "contract.toml", folder / "x.edgevid"
    contract.write_text(model.contract_toml())
    calibrate = _footage(model)
    if model.pixels is None:
        name = "sound" if model.name == "silero-vad" else "mel"
        calibrate = folder / f"{name}.npz"
        np.savez(calibrate, **{name: steps[:-STEPS, 0]})
    started = time.perf_counter()
    quantize = ["float32", "int8"] if model.trained else ["float32"]
    result: dict[str, Any] = {}
    try:
        document = convert(
            path, quantize=quantize, calibrate=calibrate, contract=contract, out=out, cache=False
        ).to_json()
        result["refused"] = document.get("refused", [])
    except EdgevidError as error:
        result["refused"] = str(error)
    result["seconds"] = round(time.perf_counter() - started, 1)
    if out.exists():
        before = model.pixels.frames - 1 if model.pixels is not None else 0
        result["artifacts"] = _artifacts(out, steps[-STEPS - before :], wanted)
    return result


def _artifacts(out: Path, steps: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Run every artifact; a clip model needs steps before those that are compared."""
    bundle = Bundle.open(out)
    found = {}
    name = bundle.contract.inputs[0].name
    for artifact in bundle.artifacts:
        runtime = runtimes.get(catalog.made_for(artifact.format)[0])
        engine = runtime.load(bundle.files(artifact), bundle.contract)
        state, rows = zero_state(bundle.contract), []
        for row in steps:
            outputs, state = engine.step({name: row}, state)
            rows.append({key: np.array(value) for key, value in {**outputs, **state}.items()})
        engine.close()
        stacked = {key: np.stack([one[key] for one in rows[-STEPS:]]) for key in rows[0]}
        found[artifact.name] = {**_compared(stacked, wanted), "parity": artifact.parity}
    return found


def _compared(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The largest error over all outputs; outputs are matched by name, else by size and value."""
    errors, squares, agreement = [], [], None
    for name, want in wanted.items():
        if not np.ptp(want):
            return {"failed": f"the owner's {name} is the same whatever it sees"}
        candidates = [found[name]] if name in found else list(found.values())
        fitting = [one for one in candidates if one.size == want.size]
        if not fitting:
            return {"failed": f"no output has the size of {name}"}
        error, rms, near = min(
            ((*_error(form, want), form) for one in fitting for form in _forms(one, want)),
            key=lambda one: one[0],
        )
        errors.append(error)
        squares.append(rms)
        if want.ndim == 3 and want.shape[-1] > 1:
            agreement = float((near.argmax(-1) == want.argmax(-1)).mean())
    result = {"error": float(f"{max(errors):.3g}"), "rms": float(f"{max(squares):.3g}")}
    return result if agreement is None else {**result, "same_label": agreement}


def _forms(values: Any, want: Any) -> list[Any]:
    """The values in the shape of the owner's output, also from channels-last."""
    if values.shape == want.shape:
        return [values]
    forms = [values.reshape(want.shape)]
    if values.ndim == want.ndim > 3:
        moved = np.moveaxis(values, -1, 2)
        if moved.shape == want.shape:
            forms.append(moved)
    return forms


def _error(values: Any, want: Any) -> tuple[float, float]:
    off = np.abs(values.astype(np.float64) - want)
    span = float(np.ptp(want))
    if not np.isfinite(off).all():
        return float("inf"), float("inf")
    return float(off.max()) / span, float(np.sqrt((off**2).mean()) / want.std())


def summary(models: Mapping[str, Any]) -> dict[str, Any]:
    """How many models are right in float32 in both formats, and how int8 ended."""
    right = [name for name, one in models.items() if _right(one)]
    trained = {name: one for name, one in models.items() if one["trained"]}
    int8 = {
        name: sorted(
            key for key in one.get("edgevid", {}).get("artifacts", {}) if key.endswith("int8")
        )
        for name, one in trained.items()
    }
    return {
        "models": len(models),
        "float32_right_in_both": len(right),
        "float32_wrong": sorted(set(models) - set(right)),
        "int8_artifacts": int8,
    }


def _right(one: Mapping[str, Any]) -> bool:
    artifacts = one.get("edgevid", {}).get("artifacts", {})
    errors = [artifacts.get(f"{name}-float32", {}).get("error") for name in FORMATS]
    return all(error is not None and error <= RIGHT for error in errors)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="names of models, separated by commas")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/models.json"))
    parser.add_argument("--work", type=Path, default=Path("benchmarks/out/models"))
    parser.add_argument("--again", action="store_true", help="also models that FILE has")
    parser.add_argument(
        "--at-least", type=int, default=0, help="exit with 1 if fewer are right in float32"
    )
    parser.add_argument("--parts", default="edgevid,bare", help="edgevid, bare or both")
    return parser.parse_args()


if __name__ == "__main__":
    main()
