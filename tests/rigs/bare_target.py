"""A kind of device to which no wheel need be sent, so that nothing is downloaded.

Its runner has only the device's own Python to serve with.
"""

from __future__ import annotations


def bare_target(*, architecture: str = "any", memory_mb: int = 512, user: str = "") -> str:
    """The file of such a target.

    Args:
        architecture: Of the device.
        memory_mb: What its runner gets.
        user: The service's user; the usual one unless given.
    """
    service = f'\n[service]\nuser = "{user}"\n' if user else ""
    return f"""
title = "A machine with nothing"
architecture = "{architecture}"
python = ["3.11", "3.12", "3.13"]
requires = []

[[engine]]
runtime = "null"
accelerator = "cpu"
quantize = ["float32"]

[limits]
memory_mb = {memory_mb}
disk_mb = 16
{service}"""
