"""Deployment of the runner and bundles to devices over SSH, with health checks and rollback.

`commands` is the host side of ``edgevid flash``; `agent` is the program that runs on the device.
"""
