"""Flash: runner and bundles onto a device over SSH, or the device as it was."""
