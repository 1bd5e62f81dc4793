"""Long work on a device over SSH: one protocol, both ends.

A job is an ``edgevid`` command that runs on a device by itself: it survives a lost link and a
killed client, and repeating the same command finds it again, running or ended.

    edgevid.jobs.client              the host's end: prepare, start, follow, fetch, clean up
    edgevid.flash.agent.jobs         the device's end: the agent's requests, and the job's keeper
    edgevid.flash.agent.job_protocol what both ends agree on, defined once

The device's end is part of the agent, which is shipped as a single program and shares one store and
one service with a deployment.
"""
