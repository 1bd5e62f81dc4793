"""Repair: the fewest layers that bring an int8 artifact back, found and written down."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from html import unescape
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest

from edgevid.bundle import Artifact, Bundle
from edgevid.cli.host.convert import text
from edgevid.cli.inspect import evidence_facts
from edgevid.documents import to_json
from edgevid.errors import CheckFailed
from edgevid.evidence import repair_choice
from edgevid.tasks.host.metrics import Comparison
from edgevid_converters import convert, graphs
from edgevid_converters.acceptance.artifact_acceptance import AcceptanceResult
from edgevid_converters.acceptance.gates import Budget
from edgevid_converters.acceptance.repair import (
    MAX_TRIES,
    refusal,
    repair_artifact,
    search_repair,
)
from edgevid_converters.graphs.draw import look
from edgevid_converters.graphs.layout import condense_graph
from edgevid_converters.importers import SourceModel
from edgevid_converters.importers.preprocessing import Preprocessing
from edgevid_converters.lowering.artifact_builder import ArtifactBuilder, BuiltArtifact
from edgevid_converters.lowering.protocol import LayerError
from edgevid_converters.pipeline.write import preprocessing_proof
from rigs.outlier_model import (
    CONVOLUTIONS,
    OUTLIER_LAYERS,
    coloured_noise,
    write_data,
    write_outlier_model,
)

# --- the search, with layers that are only names --------------------------------------------------


def judged(drop: float, repairable: bool = True, budget: float = 0.01) -> AcceptanceResult:
    found = Comparison("accuracy", 0.9, 0.9 - drop, 100)
    artifact = Artifact("x-int8", "x", "int8", parity={"max_abs": drop})
    reason = None if drop <= budget else f"has accuracy {0.9 - drop:.3f}"
    made = BuiltArtifact(artifact, {"x": b"1234"})
    return AcceptanceResult(made, reason, repairable, latency_ms=1.0).with_comparison(found)


def ladder_of(harm: dict[str, float], order: str):
    """Repair a model whose layers ``harm`` it so much where they are in int8, ranked ``order``."""
    tried = []

    def attempt(kept):
        tried.append(kept)
        return judged(sum(cost for name, cost in harm.items() if name not in kept))

    layers = [LayerError(name, "CONV", 1.0) for name in order]
    return search_repair(judged(sum(harm.values())), layers, attempt), tried


def test_one_bad_layer_takes_one_attempt():
    ladder, tried = ladder_of({"c": 0.5}, "cabdefgh")
    assert ladder.chosen is not None and ladder.chosen.kept == ("c",)
    assert tried == [("c",)]
    answer = to_json(ladder.record())
    assert answer["kept"] == ["c"] and answer["reason"] == "has accuracy 0.400"
    assert [(rung["kept"], rung["ok"], rung["metric"]) for rung in answer["rungs"]] == [
        ([], False, pytest.approx(0.4)),
        (["c"], True, pytest.approx(0.9)),
    ]
    assert all(rung["bytes"] == 4 for rung in answer["rungs"])
    assert not [key for rung in answer["rungs"] for key in rung if "ms" in key]  # nothing is timed
    assert ladder.latencies_ms() == (1.0, 1.0)


@pytest.mark.parametrize("seed", range(20))
def test_exactly_the_needed_layers_are_kept(seed):
    chosen = random.Random(seed)
    order = chosen.sample("abcdefghijklmnop", 16)
    bad = chosen.sample(order[:8], chosen.randint(1, 5))
    ladder, tried = ladder_of(dict.fromkeys(bad, 0.2), "".join(order))
    assert ladder.chosen is not None
    assert sorted(ladder.chosen.kept) == sorted(bad)
    assert len(tried) == len(set(tried)) <= 16
    assert [rung.kept for rung in ladder.attempts] == [(), *tried]


def test_small_errors_that_add_up_are_repaired_no_further_than_needed():
    ladder, _ = ladder_of(dict.fromkeys("abcdef", 0.01), "abcdefghijkl")
    assert ladder.chosen is not None and len(ladder.chosen.kept) == 5


def test_a_long_search_bisects():
    names = [f"layer{number}" for number in range(256)]
    tried = []

    def attempt(kept):
        tried.append(kept)
        return judged(0.0 if set(names[:70]) <= set(kept) else 0.5)

    ladder = search_repair(judged(0.5), [LayerError(name, "CONV", 1.0) for name in names], attempt)
    assert ladder.chosen is not None and len(ladder.chosen.kept) == 70


def test_a_failed_repair_names_the_closest_attempt():
    ladder, tried = ladder_of({"a": 0.1, "b": 0.1, "z": 0.5}, "abcdefz")
    assert ladder.chosen is None and to_json(ladder.record())["kept"] is None
    assert all("z" not in kept for kept in tried)  # half of the layers stay in int8
    message = str(refusal(ladder, "x-int8"))
    assert "x-int8 has accuracy 0.200; none of 2 repairs is within the budget" in message
    assert "the closest, with a, b, c kept in float32, has accuracy 0.400" in message
    assert "--quantize-aware" not in message and "\n" not in message
    assert "give another --max-drop or use --quantize float16" in message
    assert "--quantize-aware RUN" in str(refusal(ladder, "x-int8", is_run=True))


def test_predicted_gains_choose_the_rungs():
    """Two outliers, then forty layers that hardly matter: no try is spent on these."""
    names = [f"layer{number}" for number in range(42)]
    errors = [3.0, 2.5, *(0.01 for _ in range(40))]
    layers = [LayerError(*one) for one in zip(names, ["CONV"] * 42, errors, strict=True)]
    tried = []

    def attempt(kept):
        tried.append(kept)
        return judged(0.0 if len(kept) >= needed else 0.5)

    needed = 2
    ladder = search_repair(judged(0.5), layers, attempt)
    assert ladder.chosen is not None and ladder.chosen.kept == tuple(names[:2])
    assert tried == [tuple(names[:1]), tuple(names[:2]), tuple(names[1:2])]
    tried.clear()
    needed = 99
    ladder = search_repair(judged(0.5), layers, attempt)
    assert ladder.chosen is None
    assert [len(kept) for kept in tried] == [1, 2, 21]  # half of them is the most there can be


def test_a_model_of_one_layer_has_nothing_to_keep():
    ladder, tried = ladder_of({"a": 0.5}, "a")
    assert not tried and ladder.chosen is None
    assert "there is no layer to repair it with" in str(refusal(ladder, "x-int8"))


def test_a_search_is_bounded():
    names = [f"layer{number}" for number in range(400)]
    layers = [LayerError(name, "CONV", 1.0) for name in names]
    tried = []

    def attempt(kept):
        tried.append(kept)
        return judged(0.0 if len(kept) >= 150 else 0.5)

    ladder = search_repair(judged(0.5), layers, attempt)
    assert ladder.chosen is not None and len(ladder.chosen.kept) >= 150
    assert len(tried) <= MAX_TRIES


def test_nan_is_farthest_from_the_source():
    assert judged(nan).distance == (inf, inf)
    assert min([judged(nan), judged(0.3), judged(0.2)], key=lambda j: j.distance) == judged(0.2)


# --- a planted outlier, really --------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("planted") / "data")


def kept_layers(answer, layer: str) -> None:
    """Exactly the planted layer stays in float, in both formats."""
    assert set(answer["repairs"]) == {"openvino-int8", "tflite-int8"}
    (tflite,) = answer["repairs"]["tflite-int8"]["kept"]
    assert f"/{layer}" in tflite
    (openvino,) = answer["repairs"]["openvino-int8"]["kept"]
    place = f"Convolution_{CONVOLUTIONS.index(layer)}" if layer in CONVOLUTIONS else "MatMul_0"
    assert openvino == place
    for artifact in answer["artifacts"]:
        assert artifact["metric"]["artifact"] >= artifact["metric"]["source"] - 0.01
        assert artifact["metric"]["source"] > 0.95


def plant_and_repair(folder, data, seed: int, **options):
    layer = random.Random(seed).choice(OUTLIER_LAYERS)
    model = write_outlier_model(folder / "m.keras", layer, seed)
    answer = convert(
        model,
        quantize=["int8"],
        calibrate=data / "train",
        data=data,
        out=folder / "x.edgevid",
        **options,
    ).to_json()
    return layer, answer


def test_only_a_planted_outlier_is_kept_in_float(data, tmp_path):
    layer, answer = plant_and_repair(tmp_path, data, seed=7, min_metric=0.9)
    kept_layers(answer, layer)
    bundle = Bundle.open(tmp_path / "x.edgevid")
    repairs = bundle.evidence["repair"]
    assert {name: one["kept"] for name, one in repairs.items()} == {
        name: one["kept"] for name, one in answer["repairs"].items()
    }
    for name, one in repairs.items():
        assert [rung["ok"] for rung in one["rungs"]] == [False, True]
        assert bundle.evidence["layers"][name][0]["name"] == one["kept"][0]
        assert "latencies_ms" not in one and answer["repairs"][name]["latencies_ms"][1] > 0
        assert bundle.evidence["outputs"][name]["scores"]["max_abs"] < 0.1
        graph = graphs.read(name.partition("-")[0], bundle.files(name))
        (box,) = (box for box in condense_graph(graph, one["kept"]).boxes if box.kept)
        assert look(box) == "floats kept" and one["kept"][0] in box.names
        products = Counter(node.computes for node in graph.nodes if node.is_product)
        assert products == {"int8": len(CONVOLUTIONS), "float32": 1}
        metric = bundle.artifact(name).metric
        assert metric["lost"] == metric["won"] == 0
        assert metric["drop_at_most"] > 1 - 0.025 ** (1 / metric["n"])  # it was chosen among two
    html = unescape((tmp_path / "x.html").read_text(encoding="utf-8"))
    assert html.count('"node floats kept"') == 3  # one of each graph, and the legend's
    for one in answer["repairs"].values():
        assert f"All in int8, it {one['reason']}." in html
        assert f"Kept in float32: {one['kept'][0]}." in html
        assert repair_choice(one["rungs"], one["kept"]) in html
        assert all(f'<td class="n">{ms:.4g}</td>' in html for ms in one["latencies_ms"] if ms)
    message = text(answer)
    assert "Kept: the accepted attempt with the fewest layers in float32" in message
    assert "tflite-int8 does not reproduce the model in tflite" in message
    assert f"repaired; kept in float32: {answer['repairs']['tflite-int8']['kept'][0]}" in message
    assert "36 clips cannot resolve a drop" in message
    facts = evidence_facts(bundle.evidence)
    assert ("preprocessing", "the metric reaches the required minimum on labelled clips") in facts
    assert [name for name, _ in facts].count("repaired") == 2


def test_the_choice_among_accepted_attempts_is_explained():
    """A larger attempt may look better in every column, and is not chosen."""
    rungs = [
        {"ok": False, "kept": []},
        {"ok": True, "kept": ["a"]},
        {"ok": True, "kept": ["a", "b"]},
    ]
    why = repair_choice(rungs, ["a"])
    assert "fewest layers in float32" in why and "larger and slower" in why
    assert why.endswith("meets every gate; another accepted attempt keeps more.")
    assert repair_choice(rungs[:2], ["a"]).endswith("this one meets every gate.")
    longer = [*rungs, {"ok": True, "kept": ["a", "b", "c"]}]
    assert repair_choice(longer, ["a"]).endswith("; 2 accepted attempts keep more.")


@pytest.mark.soak
@pytest.mark.parametrize("number", range(6))
def test_more_planted_outliers(data, tmp_path, number):
    seed = random.randrange(10000)
    print(f"seed {seed}")  # shown where it fails
    kept_layers(*reversed(plant_and_repair(tmp_path, data, seed)))


def test_without_repair_an_artifact_is_rejected():
    with pytest.raises(
        CheckFailed, match=r"x-int8 has .*; leave out --no-repair, or this artifact"
    ):
        repair_artifact(judged(0.5), None, ArtifactBuilder({}, {}, Path()), print, repair=False)
    with pytest.raises(CheckFailed, match="leave this artifact out, or change the model"):
        repair_artifact(
            judged(0.5, repairable=False), None, ArtifactBuilder({}, {}, Path()), print, repair=True
        )


def test_owner_outputs_prove_the_preprocessing(data, tmp_path):
    model = write_outlier_model(tmp_path / "m.keras", None)
    contract, owner = model.with_suffix(".contract.toml"), tmp_path / "owner.npz"
    right = contract.read_text()
    frames = np.concatenate(
        [coloured_noise(np.random.default_rng(0), x, 2) for x in ("red", "blue")]
    )
    np.savez(owner, frame=frames, scores=_answers(model, frames))
    options = {
        "formats": ["tflite"],
        "quantize": ["float32"],
        "calibrate": data / "train",
        "reference": owner,
        "out": tmp_path / "x.edgevid",
    }
    contract.write_text(right.replace("[[input]]", '[[input]]\ncolour = "bgr"'))
    with pytest.raises(CheckFailed, match="does not reproduce its owner's outputs"):
        convert(model, **options)
    assert not (tmp_path / "x.edgevid").exists()
    contract.write_text(right)
    answer = convert(model, **options).to_json()
    bundle = Bundle.open(tmp_path / "x.edgevid")
    assert answer["preprocessing"] == bundle.evidence["preprocessing"] == "reference"
    assert bundle.evidence["gates"]["reference"]["max_abs"] < 1e-5
    shown = dict(evidence_facts(bundle.evidence))["preprocessing"]
    assert shown == answer["preprocessing_text"]
    assert shown.startswith("only the tensor input is proven, by the model owner's outputs")


def test_unproven_preprocessing_is_reported(tmp_path):
    run = SourceModel("run", tmp_path, None)
    other = replace(run, preprocessing=Preprocessing())
    kinds = {
        preprocessing_proof(source, checked, Budget(min_metric=floor))
        for source, checked, floor in (
            (other, None, None),
            (other, {"steps": 1}, None),
            (other, None, 0.9),
            (run, None, None),
        )
    }
    assert kinds == {"unproven", "reference", "floor", "own"}
    result = {"artifacts": [], "repairs": {}, "notes": [], "bundle": "x.edgevid", "page": "x.html"}
    assert "preprocessing: unproven" in text({**result, "preprocessing": "unproven"})
    assert "preprocessing: all" in text(
        {**result, "preprocessing": "reference", "preprocessing_text": "all"}
    )
    lines = dict(evidence_facts({"preprocessing": "unproven"}))
    assert lines["preprocessing"].startswith("unproven: nothing shows")


def _answers(model, frames):
    """What its owner has: Keras itself, fed as it was made to be."""
    import keras

    return np.asarray(keras.models.load_model(model)(frames.astype(np.float32) / 255))
