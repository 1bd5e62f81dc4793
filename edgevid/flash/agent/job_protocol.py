"""What both ends of a job agree on: `edgevid.jobs.client` on the host, `jobs` in the agent.

It lies in the agent because the agent is shipped as one program and runs on Python 3.7.
"""

from __future__ import annotations

DOCUMENT = "document.json"
"""The file in a job's folder ``out`` that the host fetches when the job has ended."""
FILES = "files"
"""The folder in a job's folder that holds what it reads."""
TRIAL = "-bench"
"""Suffix of the root folder of a temporary runner, after the device's own root folder."""
