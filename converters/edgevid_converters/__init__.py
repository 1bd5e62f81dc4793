"""Models in, artifacts and evidence out; on the host only.

`convert` lowers a model's step to every format and quantisation that is asked for, each in a child
process, proves each artifact against the model, and writes one bundle or nothing.

A converter is one file here and one row of `edgevid.registry`; a kind of source is one file in
`edgevid_converters.sources`.
"""

from edgevid_converters.pipeline import convert
from edgevid_converters.protocol import Converter, LayerError, Operator

__all__ = ["Converter", "LayerError", "Operator", "convert"]
