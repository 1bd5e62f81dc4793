"""OpenVINO's front ends: reading models, and naming the operators that they lack."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgevid.errors import BadInput
from edgevid_converters.lowering.openvino.hard_sigmoid import with_exact_factors


def read(lowered: Path, form: str) -> Any:
    """Read a model in any form, with OpenVINO's common transformations.

    This is what ``openvino.convert_model`` does, except that exact factors are kept: they have to
    be forestalled between its two steps.

    Args:
        lowered: The model's file or folder.
        form: See `ReferenceModel.lower`.

    Raises:
        BadInput: OpenVINO lacks an operator; the message names it.
    """
    import openvino
    from openvino import frontend
    from openvino._offline_transformations import apply_moc_transformations

    failures = (
        RuntimeError,
        frontend.GeneralFailure,
        frontend.InitializationFailure,
        frontend.NotImplementedFailure,
        frontend.OpConversionFailure,
        frontend.OpValidationFailure,
    )
    try:
        model = openvino.Core().read_model(lowered)
    except failures as error:
        blamed = _blamed(str(error), lowered if form == "onnx" else None)
        raise BadInput(f"OpenVINO cannot lower the model: {blamed}") from None
    if form != "ir":
        with_exact_factors(model)
        apply_moc_transformations(model, False)
    return model


def _blamed(text: str, graph: Path | None) -> str:
    """Name the operators in OpenVINO's error, with their nodes if they can be found."""
    named = re.findall(r"<Node\((\w+)\): ([^>]*)>", text)
    missing = re.search(r"No conversion rule found for operations: (.+)", text)
    if missing:
        kinds = [kind.strip().rpartition("-")[0] or kind for kind in missing[1].split(",")]
        named += [(kind, name) for kind in kinds for name in _nodes(graph, kind)]
        named += [(kind, "") for kind in kinds if kind not in dict(named)]
    if named:
        said = dict.fromkeys(f"operator {k}" + (f" (node {n!r})" if n else "") for k, n in named)
        return ", ".join(list(said)[:5])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it gives no reason"


def _nodes(graph: Path | None, kind: str) -> list[str]:
    """Return the names of an ONNX graph's nodes of one kind."""
    if graph is None:
        return []
    import onnx

    from edgevid_converters.lowering.onnx_nodes import all_nodes, node_name

    found = all_nodes(onnx.load(graph, load_external_data=False).graph)
    return [node_name(node) for node in found if node.op_type == kind]
