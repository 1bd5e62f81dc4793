"""Export EfficientNet-Lite0 with its trained weights to ONNX; for Debian's python3-torch.

/usr/bin/python3 benchmarks/matrix/export_efficientnet_lite.py WEIGHTS.pth OUT
"""

import sys

import torch
from torch import nn
from torch.nn import functional

STRIDES = {1: 2, 3: 2, 5: 2, 11: 2}
"""Block -> its stride, where that isn't 1."""
weights = torch.load(sys.argv[1], map_location="cpu")


def convolve(x: torch.Tensor, name: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
    """Convolve with TensorFlow's padding, which puts an odd row at the bottom and right."""
    kernel = weights[f"{name}.weight"]
    side = kernel.shape[-1]
    pads = []
    for length in (x.shape[3], x.shape[2]):
        needed = max((-(-length // stride) - 1) * stride + side - length, 0)
        pads += [needed // 2, needed - needed // 2]
    return functional.conv2d(functional.pad(x, pads), kernel, stride=stride, groups=groups)


def normalise(x: torch.Tensor, name: str) -> torch.Tensor:
    keys = ("running_mean", "running_var", "weight", "bias")
    return functional.batch_norm(x, *(weights[f"{name}.{key}"] for key in keys), eps=1e-3)


class EfficientNetLite0(nn.Module):
    """The network, as a function of the weights."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute logits, (1, 1000), of normalised RGB, (1, 3, 224, 224)."""
        x = functional.relu6(normalise(convolve(x, "_conv_stem", 2), "_bn0"))
        for index in range(16):
            x = self._block(x, f"_blocks.{index}", STRIDES.get(index, 1))
        x = functional.relu6(normalise(convolve(x, "_conv_head"), "_bn1"))
        return x.mean((2, 3)) @ weights["_fc.weight"].T + weights["_fc.bias"]

    def _block(self, x: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        y = x
        if f"{name}._expand_conv.weight" in weights:
            y = functional.relu6(normalise(convolve(y, f"{name}._expand_conv"), f"{name}._bn0"))
        y = convolve(y, f"{name}._depthwise_conv", stride, y.shape[1])
        y = functional.relu6(normalise(y, f"{name}._bn1"))
        y = normalise(convolve(y, f"{name}._project_conv"), f"{name}._bn2")
        return x + y if y.shape == x.shape else y


torch.onnx.export(
    EfficientNetLite0().eval(),
    torch.zeros(1, 3, 224, 224),
    sys.argv[2],
    opset_version=14,
    input_names=["images"],
    output_names=["logits"],
)
