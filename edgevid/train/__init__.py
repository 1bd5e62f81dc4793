"""Video models as steps: their data, their unrolled training form, and fitting them.

The only room of the package that imports keras, and never at the top of a module that a command
needs for its help.
"""

from typing import Any, TypeAlias

Tensor: TypeAlias = Any
"""A tensor of whichever backend keras runs on; none of them can be named here."""
