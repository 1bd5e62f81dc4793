"""The stand-in: a runtime that needs no library, as slow and as faulty as requested.

It executes artifacts of its own format ``null``, a small JSON that parametrises a built-in
arithmetic step, or any real artifact through the runtime made for it. In both cases it is an engine
like any other and passes golden replay like any other. What it adds comes from the artifact's
``behaviour`` or from the environment variable ``EDGEVID_NULL``, both JSON:

    {"latency_ms": 5, "on": "null", "faults": [{"at": 10, "kind": "error"}]}

As an accelerator it reports the operators in ``stay_on_cpu`` as left to the CPU. ``on`` confines it
to engines on that accelerator: ``cpu``, or ``null``, which like every accelerator serves from a
process of its own. A fault begins ``at`` a step, counted from 0 in its process and with the proof's
steps (``-1`` is the moment of loading), or at the first step ``after_s`` seconds, or strikes
``when`` a file exists. ``kind`` is one of ``error`` (raises), ``abort`` and ``vanish`` (the process
dies), ``hang`` and ``freeze`` (never returns; ``freeze`` in native code), ``nan`` and ``wrong``
(wrong outputs and a wrong state). ``times`` bounds how many steps in a row it strikes: without it
wrong outputs continue, a fault ``when`` a file exists lasts as long as the file, and the rest
happen once.
"""

from __future__ import annotations

from edgevid.runtimes.spec import AcceleratorSpec, ArtifactFormat, RuntimeSpec

VARIABLE = "EDGEVID_NULL"

SPEC = RuntimeSpec(
    name="null",
    formats=(ArtifactFormat("null", ("json",)),),
    accelerators=(
        AcceleratorSpec(
            name="cpu",
            where="edgevid.runtimes.null.cpu:NullCPU",
            formats=("null",),
            quantize=("float32",),
            any_format=True,
        ),
        AcceleratorSpec(
            name="null",
            where="edgevid.runtimes.null.null:NullAccelerator",
            formats=("null",),
            quantize=("int8", "dynamic", "float16", "float32"),
            stand_in=True,
            any_format=True,
        ),
    ),
    stand_in=True,
    variables=(VARIABLE,),
)
