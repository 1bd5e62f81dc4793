"""The kind of service that this device and user have."""

from __future__ import annotations

from . import probe
from .service import ServiceControl
from .service_supervised import SupervisedService
from .service_systemd import SystemService, UserService
from .store import Store


def of(store: Store) -> ServiceControl:
    """The service of a folder, of the best kind that this device and user have."""
    kinds = {"system": SystemService, "user": UserService, "none": SupervisedService}
    return kinds[probe.systemd()](store)
