"""OpenVINO artifacts (IR: ``.xml`` and ``.bin``) on OpenVINO."""

from __future__ import annotations

from edgevid.runtimes.spec import (
    AcceleratorSpec,
    ArtifactFormat,
    Library,
    OperatorRules,
    RuntimeSpec,
)

# On one thread OpenVINO 2026.4 fuses int8 products in a row into one "snippet", and if no bias is
# added between them, its outputs are garbage. Without snippets a step takes up to a tenth longer.
UNFUSED = {"SNIPPETS_MODE": "DISABLE"}

QUANTIZE = ("int8", "float16", "float32")

SPEC = RuntimeSpec(
    name="openvino",
    formats=(ArtifactFormat("openvino", ("bin", "xml")),),
    accelerators=(
        *(
            AcceleratorSpec(
                name=name,
                where=f"edgevid.runtimes.openvino.{name}:OpenVINO{name.upper()}",
                formats=("openvino",),
                quantize=QUANTIZE,
                rules=OperatorRules("its compiler, on the device"),
            )
            for name in ("npu", "gpu")
        ),
        AcceleratorSpec(
            name="cpu",
            where="edgevid.runtimes.openvino.cpu:OpenVINOCPU",
            formats=("openvino",),
            quantize=QUANTIZE,
        ),
    ),
    libraries=(
        Library(
            project="openvino",
            module="openvino",
            requirement="openvino>=2025.2",
            extra="openvino",
            lazy="Core",
        ),
    ),
)
