"""The runtime ``toy-numpy``: a weighted mean of the channels, in numpy. The declaration."""

from edgevid.runtimes.spec import AcceleratorSpec, ArtifactFormat, RuntimeSpec

SPEC = RuntimeSpec(
    name="toy-numpy",
    formats=(ArtifactFormat("toy", ("toy",)),),
    accelerators=(
        AcceleratorSpec(
            name="cpu",
            where="edgevid_toy.engine:ToyCPU",
            formats=("toy",),
            quantize=("float32",),
        ),
    ),
)
