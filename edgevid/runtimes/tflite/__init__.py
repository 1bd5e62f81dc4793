"""TFLite artifacts on ai-edge-litert, or on tflite-runtime where only that exists."""

from __future__ import annotations

from edgevid.runtimes.spec import (
    AcceleratorSpec,
    ArtifactFormat,
    Library,
    OperatorRules,
    RuntimeSpec,
)

# coral.ai/docs/edgetpu/models-intro
EDGETPU_OPERATORS = (
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED "
    "L2_NORMALIZATION LOGISTIC UNIDIRECTIONAL_SEQUENCE_LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL "
    "PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR "
    "RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUEEZE STRIDED_SLICE SUB "
    "SUM SQUARED_DIFFERENCE TANH TRANSPOSE TRANSPOSE_CONV"
)

SPEC = RuntimeSpec(
    name="tflite",
    formats=(ArtifactFormat("tflite", ("tflite",)), ArtifactFormat("edgetpu", ("tflite",))),
    accelerators=(
        AcceleratorSpec(
            name="edgetpu",
            where="edgevid.runtimes.tflite.edgetpu:EdgeTPU",
            formats=("edgetpu", "tflite"),
            quantize=("int8",),
            rules=OperatorRules(
                "coral.ai/docs/edgetpu/models-intro",
                frozenset(EDGETPU_OPERATORS.split()),
                one_piece=True,
            ),
        ),
        AcceleratorSpec(
            name="gpu",
            where="edgevid.runtimes.tflite.gpu:LiteRTGPU",
            formats=("tflite",),
            quantize=("float16", "float32", "int8"),
            rules=OperatorRules(
                "the delegate, on the device",
                wrong={
                    "CUMSUM": "passed its input through when it was tried",
                    "SPLIT": "gave wrong outputs in int8 when it was tried",
                },
            ),
        ),
        AcceleratorSpec(
            name="cpu",
            where="edgevid.runtimes.tflite.cpu:TFLiteCPU",
            formats=("tflite",),
            quantize=("int8", "dynamic", "float16", "float32"),
        ),
    ),
    libraries=(
        # Its versions have left behind those of TensorFlow, which artifacts count.
        Library(
            project="ai-edge-litert",
            module="ai_edge_litert.interpreter",
            requirement="ai-edge-litert>=2.1",
            extra="runner",
            counts_releases=False,
        ),
        # 2.14 declares no upper bound for numpy and does not load with numpy 2.
        Library(
            project="tflite-runtime",
            module="tflite_runtime.interpreter",
            requirement="tflite-runtime",
            below={"numpy": "2"},
        ),
    ),
)
