"""Raw outputs on the host: nothing is annotated and nothing is measured."""

from edgevid.tasks.host import HostTask


class RawHost(HostTask):
    """Converted and proven by agreement with the source alone."""

    name = "raw"
