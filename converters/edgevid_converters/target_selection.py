"""What a target wants made for it, and what it can do with that.

Rules about accelerators are data. Where nobody publishes what an accelerator takes, nothing is
said about its operators but that: the proof on the device decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from edgevid import registry
from edgevid.bundle import Artifact
from edgevid.errors import BadInput, CheckFailed
from edgevid.targets import EngineChoice, Target
from edgevid_converters.lowering import edgetpu


@dataclass(frozen=True)
class Rules:
    """What is known of an accelerator before anything is tried on it.

    ``operators`` are those that it takes, by the names of ``format``; None where that is not
    published. ``wrong`` are operators with which it was seen to give wrong answers. ``one_piece``:
    what follows an operator that it does not take stays on the CPU, too.
    """

    format: str
    source: str
    operators: frozenset[str] | None = None
    wrong: Mapping[str, str] = field(default_factory=dict)
    one_piece: bool = False


EDGETPU_OPERATORS = (
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED "
    "L2_NORMALIZATION LOGISTIC UNIDIRECTIONAL_SEQUENCE_LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL "
    "PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR "
    "RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUEEZE STRIDED_SLICE SUB "
    "SUM SQUARED_DIFFERENCE TANH TRANSPOSE TRANSPOSE_CONV"
)
RULES: Mapping[str, Rules] = {
    "openvino/gpu": Rules("openvino", "its compiler, on the device"),
    "openvino/npu": Rules("openvino", "its compiler, on the device"),
    "tflite/edgetpu": Rules(
        "tflite",
        "coral.ai/docs/edgetpu/models-intro",
        frozenset(EDGETPU_OPERATORS.split()),
        one_piece=True,
    ),
    "tflite/gpu": Rules(
        "tflite",
        "the delegate, on the device",
        wrong={
            "CUMSUM": "passed its input through where it was tried",
            "SPLIT": "gave wrong answers in int8 where it was tried",
        },
    ),
}
EDGES = frozenset({"CAST", "DEQUANTIZE", "QUANTIZE"})
"""They bring values in and out, and on the CPU they cost little."""


def plan(target: Target, formats: Sequence[str], quantize: Sequence[str]) -> dict[str, list[str]]:
    """Format -> quantisations for a target: what each of its engines likes best.

    ``formats`` and ``quantize`` narrow it where they are given: then every quantisation of those
    that an engine can run. Raises `BadInput` where nothing is left.
    """
    found: dict[str, list[str]] = {}
    for way in target.engine:
        name = way.runtime
        if name not in registry.names("converter") or (formats and name not in formats):
            continue
        known = registry.load("converter", name).quantisations
        able = [one for one in way.quantize if one in known]
        chosen = [one for one in quantize if one in able] if quantize else able[:1]
        kept = found.setdefault(name, [])
        kept += [one for one in chosen if one not in kept]
    found = {name: chosen for name, chosen in found.items() if chosen}
    if not found:
        able = sorted({f"{way.runtime} {one}" for way in target.engine for one in way.quantize})
        raise BadInput(f"{target.name} runs none of what is asked for; it runs: {', '.join(able)}")
    return found


def wants_edgetpu(target: Target) -> bool:
    """Whether one of its engines is an Edge TPU."""
    return any(way.accelerator == edgetpu.FORMAT for way in target.engine)


def needs_operators(name: str) -> bool:
    """Whether anything is known of an accelerator's operators (``tflite/edgetpu``)."""
    rules = RULES.get(name)
    return rules is not None and bool(rules.operators or rules.wrong)


def untaken(
    target: Target, operators: Mapping[str, Mapping[str, int]], formats: Iterable[str]
) -> list[str]:
    """What its accelerators will not take, in words; ``operators``: format -> kind -> how many."""
    found: list[str] = []
    made = set(formats)
    for way in target.engine:
        name = f"{way.runtime}/{way.accelerator}"
        if way.runtime not in made or name not in RULES:
            continue
        found += _untaken(name, RULES[name], operators.get(way.runtime, {}))
    return found


def _untaken(name: str, rules: Rules, operators: Mapping[str, int]) -> Iterator[str]:
    wrong = sorted(set(rules.wrong) & set(operators))
    yield from (f"{name}: {kind} {rules.wrong[kind]}; its proof decides" for kind in wrong)
    if rules.operators is None:
        yield f"{name}: which operators it takes is told by {rules.source} only"
        return
    left = sorted(set(operators) - rules.operators - EDGES)
    if not left:
        yield f"{name}: every operator is on the published list ({rules.source})"
        return
    listed = ", ".join(f"{kind} x{operators[kind]}" for kind in left)
    after = ", and with each what comes after it" if rules.one_piece else ""
    yield f"{name}: will not take {listed}{after} ({rules.source}); they stay on the CPU"


def check_release(target: Target, artifact: Artifact) -> None:
    """Raise `CheckFailed` where no engine of a target is new enough to load an artifact."""
    needed = artifact.smallest_runtime.get(artifact.format)
    ways = [way for way in target.engine if way.runtime == artifact.format]
    if needed is None or not ways or any(_loads(way, needed) for way in ways):
        return
    newest = max((way.operators or "0" for way in ways), key=release)
    raise CheckFailed(
        f"{artifact.name} needs {artifact.format} {needed} or newer, and {target.name} has "
        f"{newest}; leave {artifact.quantize} out, or use another target"
    )


def _loads(way: EngineChoice, needed: str) -> bool:
    return way.operators is None or release(needed) <= release(way.operators + ".999")


def release(version: str) -> tuple[int, ...]:
    """``2.14.0`` as (2, 14, 0), for comparison."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())
