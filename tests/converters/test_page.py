"""The page of the evidence: what it says stands in the bundle, and it needs nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from types import SimpleNamespace

import pytest

from edgevid.bundle import Bundle
from edgevid.errors import BadBundle, BadInput
from edgevid.evidence import Evidence
from edgevid.proof import Golden
from edgevid_converters import convert
from edgevid_converters.child_process import MEASURING, ChildFailed
from edgevid_converters.lowering import artifact_builder
from edgevid_converters.lowering.protocol import spread
from edgevid_converters.page import StepTimes, page, page_path
from edgevid_converters.pipeline import write
from edgevid_converters.pipeline.accept import unmeasured_notes


@pytest.fixture(scope="module")
def bundle(real_bundle) -> Bundle:
    return Bundle.open(real_bundle)


def timed(bundle) -> StepTimes:
    return StepTimes({a.name: 1.2345 + k for k, a in enumerate(bundle.artifacts)})


def numbers_in(value):
    """Every number of plain data, and the length of every list."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from numbers_in(inner)
    elif isinstance(value, list | tuple):
        yield len(value)
        for inner in value:
            yield from numbers_in(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_every_number_on_the_page_is_in_the_bundle_or_timed(bundle):
    html = page(bundle, timed(bundle))
    cells = [unescape(cell) for cell in re.findall(r'<td class="n">([^<]*)</td>', html)]
    result = [
        *numbers_in(json.loads(json.dumps(bundle.evidence))),
        *numbers_in([json.loads(json.dumps(vars(a), default=dict)) for a in bundle.artifacts]),
        *timed(bundle).artifacts.values(),
    ]
    known = {f"{number:.4g}" for number in result} | {str(number) for number in result}
    found = [cell for cell in cells if cell != "–"]
    assert len(found) > 40
    assert [cell for cell in found if cell not in known] == []


def test_the_page_shows_all_evidence(bundle):
    html = unescape(page(bundle, timed(bundle)))
    evidence = bundle.evidence
    for artifact in bundle.artifacts:
        assert f"<td>{artifact.name}</td>" in html
        assert f"<summary>{artifact.name}</summary>" in html
        assert ", ".join(artifact.float_ops) in html
    for tensors in evidence["outputs"].values():
        for result in tensors.values():
            assert f"<td>{result['max_abs']:.3g} ({result['mean_abs']:.3g})</td>" in html
    assert {*evidence["layers"]} == {"openvino-int8", "tflite-int8"}
    assert {*evidence["operators"]} == {a.name for a in bundle.artifacts}
    for layers in evidence["layers"].values():
        errors = [layer["error"] for layer in layers]
        assert errors == sorted(errors, reverse=True) and errors[0] > 0
        assert all(f">{error:.3g}</text>" in html for error in errors[:24])
    assert evidence["calibration"]["sha256"] in html and bundle.sha256 in html
    for name, version in evidence["versions"].items():
        assert f"<td>{name}</td><td>{version}</td>" in html
    assert all(note in html for note in evidence["gates"]["notes"])
    assert f"{1.2345:.4g}" in html and "ms/step here" in html


def test_int8_errors_are_measured_with_carried_state_too(carry_bundle):
    layers = Bundle.open(carry_bundle).evidence["layers"]["tflite-int8"]
    assert len(layers) > 10 and all(layer["error"] > 0 for layer in layers)


@pytest.mark.parametrize("count", [384, 192, 200, 49])
def test_measured_steps_have_no_rhythm(count):
    chosen = spread(count, layers=10)
    assert 36 < len(chosen) == len({*chosen}) <= 48 and chosen[0] == 0 and chosen[-1] < count
    for period in (2, 4, 8):  # frames of a clip
        assert len({place % period for place in chosen}) == period
    assert spread(3, 10) == [0, 1, 2]
    assert len(spread(count, layers=1000)) == 8  # what a large model takes is bounded


def test_the_page_is_self_contained(bundle):
    html = page(bundle)
    assert not re.search(
        r"<script|<link|<iframe|<object|src=|href=\"(?!#)|url\((?!#)|@import|https?:", html
    )
    assert "ms/step" not in html  # of a bundle alone there is no latency


def test_unproven_preprocessing_stands_out(bundle):
    def like(preprocessing):
        evidence = {**bundle.evidence, "preprocessing": preprocessing}
        files = {a.name: bundle.files(a) for a in bundle.artifacts}
        return SimpleNamespace(
            path=bundle.path,
            sha256=bundle.sha256,
            contract=bundle.contract,
            artifacts=bundle.artifacts,
            evidence=evidence,
            files=lambda artifact: files[artifact.name],
        )

    result = page(like("unproven"))
    assert '<div class="verdict no"><b>Preprocessing: unproven</b>' in result
    assert "verdict no" not in page(like("reference"))


def test_foreign_evidence_is_a_one_line_error(bundle):
    odd = replace_evidence(bundle, {**bundle.evidence, "outputs": [1]})
    with pytest.raises(
        BadBundle, match="its evidence is not what edgevid convert writes"
    ) as caught:
        page(odd)
    assert "\n" not in str(caught.value)
    bare = replace_evidence(bundle, {})  # an old bundle says less
    assert "Operators</h2>" not in page(bare)


def replace_evidence(bundle, evidence) -> Bundle:
    odd = Bundle.open(bundle.path)
    odd.evidence = evidence
    return odd


def test_evidence_is_escaped(bundle):
    evil = "<script>x</script>"
    gates = {**bundle.evidence["gates"], "notes": [evil]}
    evidence = {**bundle.evidence, "versions": {evil: evil}, "gates": gates}
    assert "<script" not in page(replace_evidence(bundle, evidence))


def test_inspect_writes_the_page_from_the_bundle_alone(edgevid, real_bundle, tmp_path, null_bundle):
    out = tmp_path / "later" / "page.html"
    result = json.loads(edgevid("inspect", real_bundle, "--page", out, "--json").stdout)
    assert result["page"] == str(out)
    assert out.read_text(encoding="utf-8") == page(Bundle.open(real_bundle))
    assert (
        str(tmp_path / "n.html")
        in edgevid("inspect", null_bundle, "--page", tmp_path / "n.html").stderr
    )
    assert "graphs of this format cannot be drawn" in (tmp_path / "n.html").read_text()


def test_convert_writes_the_page_next_to_the_bundle(real_bundle):
    page = page_path(real_bundle.parent / "making" / real_bundle.name)  # where it was written
    html = page.read_text(encoding="utf-8")
    assert "ms/step here" in html and Bundle.open(real_bundle).sha256 in html


def test_the_pages_name_follows_the_bundles(tmp_path):
    assert page_path(tmp_path / "a.edgevid") == tmp_path / "a.html"
    assert page_path(tmp_path / "a.html") == tmp_path / "a.html.html"  # never the bundle itself


def test_nothing_is_written_if_the_page_fails(bundle, tmp_path, monkeypatch):
    def failing(*a):
        raise BadBundle("no page")

    monkeypatch.setattr(write, "page", failing)
    draft = write.BundleDraft(bundle.contract, [], Golden(()), Evidence(), StepTimes())
    with pytest.raises(BadBundle):
        draft.write(tmp_path / "out" / "x.edgevid", tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_in_the_pages_place_is_an_early_error(real_run, tmp_path):
    (tmp_path / "x.html").mkdir()
    with pytest.raises(BadInput, match=r"x\.html is a folder; remove it, or give another --out"):
        convert(real_run, out=tmp_path / "x.edgevid")


def test_unmeasurable_layers_do_not_stop_a_conversion(lowered, monkeypatch):
    asked = []

    def failing(what, task, **access):
        asked.append(task["measure"])
        if task["measure"]:
            raise ChildFailed("it crashed", MEASURING)
        result = json.loads(json.dumps(lowered.answers))
        result["tflite-int8"].pop("layers")
        return result

    monkeypatch.setattr(artifact_builder, "ask", failing)
    forms = {"tflite": "saved_model"}
    shop = artifact_builder.ArtifactBuilder(forms, lowered.answers["lower"], lowered.folder)
    (made,) = shop.convert("tflite", ["int8"])
    assert asked == [True, False] and made.layers == ()
    assert unmeasured_notes([made]) == ["tflite-int8: its layers could not be measured one by one"]
    assert unmeasured_notes([replace(made, layers=(None,))]) == []

    def crashing(what, task, **access):
        raise ChildFailed("it crashed", "tflite-int8")

    monkeypatch.setattr(artifact_builder, "ask", crashing)
    with pytest.raises(ChildFailed):
        shop.convert("tflite", ["int8"])
