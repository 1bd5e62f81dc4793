"""Export a torchvision model with seeded random weights to ONNX; for Debian's python3-torchvision.

/usr/bin/python3 benchmarks/matrix/export_torch.py ARCHITECTURE OUT
"""

import sys

import torch
import torchvision.models as models

name, out = sys.argv[1:]
torch.manual_seed(7)
clips = name == "r2plus1d_18"
model = models.video.r2plus1d_18() if clips else getattr(models, name)()
for weights in model.parameters():
    if weights.ndim > 1 and not weights.any():  # ViT's last layer: it would answer 0 to everything
        torch.nn.init.normal_(weights, std=0.02)
example = torch.zeros(1, 3, 8, 112, 112) if clips else torch.zeros(1, 3, 224, 224)
torch.onnx.export(
    model.eval(), example, out, opset_version=14, input_names=["images"], output_names=["logits"]
)
